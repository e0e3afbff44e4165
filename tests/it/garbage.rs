//! Nonsense for every command, from everywhere that something is read: arguments, files, variables, standard input, the
//! store. The answer is an error in words; never a panic, never a byte that could fool a terminal.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::support::{Ended, Project, Random, Run};

/// Every command in a form that reads what a project, its configuration and the store hold, and that ends by itself.
const COMMANDS: [&[&str]; 24] = [
    &["run", "--", "true"],
    &["run", "--report", "report", "--trace-out", "trace", "t"],
    &["run", "--force", "--keep", "-v", "--timing", "--", "true"],
    &["run", "--no-cache", "-i", "--", "cat"],
    &["init"],
    &["check"],
    &["plan", "--json"],
    &["plan", "-v", "--", "true"],
    &["hash", "--list", "--json"],
    &["hash", "--", "true"],
    &["diff", "--json"],
    &["why", "--json"],
    &["why", "-v", "t"],
    &["ps", "--json"],
    &["ns", "--json"],
    &["enter", "none"],
    &["shell"],
    &["pool", "status", "--json"],
    &["cache", "stats", "--json"],
    &["cache", "gc", "--max-size", "1MiB"],
    &["cache", "verify"],
    &["cache", "clear"],
    &["doctor", "--json"],
    &["schema"],
];

impl Random {
    /// Bytes that are nothing, or pieces of what might be something.
    fn bytes(&mut self, longest: usize) -> Vec<u8> {
        const PIECES: [&[u8]; 16] = [
            b"\x1b[31m",
            b"\xff\xfe",
            b"\"",
            b"= [",
            b"../..",
            b"**/{",
            b"[[",
            b"]\n",
            b"\r\n",
            b"9999999999999999999",
            b"-1",
            b"{\"version\":1",
            b"sbx",
            b"\xe2\x80\xae",
            b"1e999",
            b"'''",
        ];
        let mut bytes = Vec::new();
        for _ in 0..self.below(longest) + 1 {
            match self.below(3) {
                0 => bytes.extend_from_slice(PIECES[self.below(PIECES.len())]),
                1 => bytes.push(self.below(256) as u8),
                _ => bytes.push(b"abcz 0.:/-_[]{}="[self.below(16)]),
            }
        }
        bytes
    }

    /// `whole` with some of its bytes changed, doubled, or taken away.
    fn broken(&mut self, whole: &[u8]) -> Vec<u8> {
        let mut bytes = whole.to_vec();
        for _ in 0..self.below(6) + 1 {
            if bytes.is_empty() {
                break;
            }
            let at = self.below(bytes.len());
            match self.below(4) {
                0 => bytes[at] = self.below(256) as u8,
                1 => bytes.truncate(at),
                2 => drop(bytes.splice(at..at, self.bytes(4))),
                _ => drop(bytes.drain(at..(at + self.below(40)).min(whole.len()).min(bytes.len()).max(at))),
            }
        }
        bytes
    }

    /// An argument; they can't hold a NUL byte.
    fn argument(&mut self) -> OsString {
        let mut bytes = self.bytes(12);
        bytes.retain(|byte| *byte != 0);
        OsStr::from_bytes(&bytes).to_owned()
    }
}

fn bears(run: Run, what: &str) -> Ended {
    let ended = run.end();
    let panicked = ended.stderr.contains("panicked") || ended.stderr.contains("RUST_BACKTRACE");
    assert!(!panicked && ended.code != 101 && ended.code < 128, "{what}: {ended:?}");
    // What the command prints is its own, and nothing here prints; paths and values come escaped.
    let evil = |c: char| (c.is_control() && c != '\n' && c != '\t') || c == '\u{202e}';
    assert!(!ended.stderr.contains(evil), "{what}: {:?}", ended.stderr);
    ended
}

/// A project in which all that a `sandbox.toml` can name is there.
fn project() -> Project {
    Project::new().config(CONFIG).file("a", "content").file("sub/b", "more").file("m/tool", "mounted")
}

const CONFIG: &str = "inputs = ['a', 'sub/**', '!sub/x']\noutputs = ['out']\n[sandbox]\nhostname = 'h'\n[[mount]]\n\
source = 'm'\ntarget = '/m'\n[network]\nallow = ['server.test:443']\n[env]\nset = { A = 'b' }\npass = ['TERM']\n\
[limits]\ntime = '20s'\n[task.t]\ncommand = ['sh', '-c', 'cp a out']\n";

#[test]
fn arguments() {
    let project = project();
    let mut random = Random::new(1);
    for command in COMMANDS.iter().chain(&[&["pool", "warm"][..], &["completions"], &["man"], &["help"], &[]]) {
        for _ in 0..6 {
            let garbage: Vec<OsString> = (0..=random.below(3)).map(|_| random.argument()).collect();
            let place = random.below(command.len() + 1);
            let (before, after) = command.split_at(place);
            // After `--` it would be the command's.
            let args = before.iter().take_while(|word| **word != "--").map(OsString::from).chain(garbage);
            let args: Vec<OsString> = args.chain(after.iter().map(OsString::from)).collect();
            bears(project.sbx(&args), &format!("{args:?}"));
        }
    }
}

#[test]
fn configurations() {
    let project = project();
    let mut random = Random::new(2);
    for round in 0..60 {
        let text = if round % 3 == 0 { random.bytes(200) } else { random.broken(CONFIG.as_bytes()) };
        project.write("sandbox.toml", &text);
        for command in [&["check"][..], &["plan", "--json"], &["run", "--no-cache", "t"], &["hash", "--json"]] {
            bears(project.sbx(command), &format!("{:?} {command:?}", String::from_utf8_lossy(&text)));
        }
    }
    project.write("sandbox.toml", CONFIG);
    for _ in 0..20 {
        let text = random.broken(b"[cache]\nsize = '1GiB'\ndirectory = '/x'\njobs = 2\ncolor = 'auto'\n");
        fs::create_dir_all(project.beside("xdg-config/sbx")).expect("a directory");
        fs::write(project.beside("xdg-config/sbx/config.toml"), &text).expect("a configuration");
        bears(project.sbx(["cache", "stats"]), &String::from_utf8_lossy(&text));
    }
}

#[test]
fn variables_and_standard_input() {
    let project = project();
    let mut random = Random::new(3);
    for command in COMMANDS {
        for name in ["SBX_COLOR", "SBX_CACHE_DIR", "SBX_CONFIG", "SBX_JOBS", "HOME", "XDG_RUNTIME_DIR", "PATH", "TERM"]
        {
            let mut value = random.bytes(10);
            value.retain(|byte| *byte != 0);
            // A store of such a name would be made in the project.
            let run = project.sbx(command).env(name, OsStr::from_bytes(&value)).input(random.bytes(100));
            bears(run, &format!("{name}={:?} {command:?}", String::from_utf8_lossy(&value)));
        }
    }
}

#[test]
fn stores() {
    need!(Sandbox);
    let project = project();
    let mut random = Random::new(4);
    for round in 0..12 {
        project.sbx(["run", "t"]).ok();
        project.write("a", format!("content {round}"));
        project.sbx(["run", "t"]).ok();
        let files = stored(&project.beside("cache"));
        assert!(files.len() > 10, "{files:?}");
        let version = project.beside("cache/version");
        for path in files.iter().filter(|path| **path != version) {
            let whole = fs::read(path).expect("a file of the store");
            let garbage = if round % 2 == 0 { random.bytes(300) } else { random.broken(&whole) };
            // By a new file: an input is one inode with the layer's.
            fs::remove_file(path).and_then(|()| fs::write(path, garbage)).expect("a file of the store");
        }
        for command in COMMANDS.iter().filter(|command| !command.contains(&"clear")) {
            bears(project.sbx(*command), &format!("round {round}, {command:?}"));
        }
        project.sbx(["cache", "verify", "--repair"]).end();
        project.sbx(["run", "t"]).ok();
        assert_eq!(project.read("out"), format!("content {round}"));
        project.sbx(["cache", "clear"]).end();
    }
}

/// The regular files below a directory, but what a run left: the kernel's own among them are closed to their owner.
fn stored(dir: &Path) -> Vec<PathBuf> {
    let (mut files, mut open) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && entry.file_name() != "left" => open.push(entry.path()),
                Ok(kind) if kind.is_file() => files.push(entry.path()),
                _ => {}
            }
        }
    }
    files.sort();
    files
}
