//! What the integration tests are written with: a project with a cache and a home of its own, one run of `sbx` in it,
//! and what came of the run.
//!
//! ```ignore
//! Project::new().config("inputs = ['Makefile']").file("Makefile", "all:\n\techo hi\n").run(["make"]).stdout("hi\n");
//! ```
//!
//! The tests run in two places: in the checkout, and (as an ordinary user) from a copy of it that anyone may read, whose
//! path [`ROOT_VARIABLE`] then holds. Nothing else may say where the checkout is.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Where the checkout's copy lies when the tests don't run in the checkout.
pub(crate) const ROOT_VARIABLE: &str = "SBX_TEST_ROOT";
/// The binary to test, when it is not the one that cargo built.
pub(crate) const BINARY_VARIABLE: &str = "SBX_BIN";
/// A directory with the compiled programs of `tests/it/probes`, for a machine without a compiler.
pub(crate) const PROBES_VARIABLE: &str = "SBX_TEST_PROBES";
/// Set in the second pass, as an ordinary user.
pub(crate) const AGAIN_VARIABLE: &str = "SBX_TEST_AGAIN";
/// How long something that must happen may take before the test gives up on it. No test asserts a shorter time.
const PATIENCE: Duration = Duration::from_secs(60);

/// The checkout, or its copy.
pub(crate) fn root() -> PathBuf {
    std::env::var_os(ROOT_VARIABLE).map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from)
}

/// The binary under test.
pub(crate) fn sbx() -> PathBuf {
    std::env::var_os(BINARY_VARIABLE).map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_sbx")), PathBuf::from)
}

/// What a test may need that a machine may lack.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Feature {
    /// A sandbox can be made at all.
    Sandbox,
    /// A C compiler named `cc`, or what it would make of the probes.
    Compiler,
    /// The `openssl` command, to make certificates.
    Openssl,
    /// The tests run as root (to prepare what an ordinary user can't).
    Root,
    /// IPv6, with `::1`.
    Ipv6,
    /// A program where commands inside find it too: in one of the directories of [`PATH`].
    Program(&'static str),
    /// The programs of a PostgreSQL server.
    Postgres,
    /// The Rust toolchain that built the tests, where this user may read it.
    Toolchain,
}

/// The search path of the programs that the tests start, and of every command inside.
pub(crate) const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

impl Feature {
    /// Why this machine lacks the feature.
    pub(crate) fn lacking(self) -> Option<String> {
        match self {
            Self::Sandbox => sandbox_lacking(),
            Self::Openssl => (!on_path("openssl")).then(|| "no openssl on PATH".to_owned()),
            Self::Compiler => {
                let there = on_path("cc") || std::env::var_os(PROBES_VARIABLE).is_some();
                (!there).then(|| "no C compiler (cc) on PATH".to_owned())
            }
            Self::Root => (!is_root()).then(|| "not root".to_owned()),
            Self::Ipv6 => {
                std::net::TcpListener::bind("[::1]:0").err().map(|error| format!("no IPv6 here: ::1: {error}"))
            }
            Self::Program(name) => {
                let found = PATH.split(':').any(|dir| Path::new(dir).join(name).is_file());
                (!found).then(|| format!("no {name} in {PATH}"))
            }
            Self::Postgres => {
                crate::servers::Postgres::programs().is_none().then(|| "no server in /usr/lib/postgresql".to_owned())
            }
            Self::Toolchain => {
                let cargo = toolchain().join("bin/cargo");
                fs::File::open(&cargo).err().map(|error| format!("{}: {error}", cargo.display()))
            }
        }
    }

    /// Whether a skip for lack of it is a fault when every test is required to run. What an ordinary user can't do was
    /// done in the first pass.
    pub(crate) fn required(self) -> bool {
        std::env::var_os("SBX_TEST_STRICT").is_some_and(|value| value == "1")
            && !(matches!(self, Self::Root | Self::Toolchain) && std::env::var_os(AGAIN_VARIABLE).is_some())
    }
}

/// Whether the tests run as root.
fn is_root() -> bool {
    fs::metadata("/proc/self").expect("/proc").uid() == 0
}

/// The directory of the Rust toolchain that built the tests.
pub(crate) fn toolchain() -> &'static Path {
    Path::new(env!("CARGO")).parent().and_then(Path::parent).expect("a toolchain has bin/cargo")
}

/// Asked of unshare(1) and mount(8), not of sbx: a fault of sbx must not look like a lack of the machine.
fn sandbox_lacking() -> Option<String> {
    static LACKING: OnceLock<Option<String>> = OnceLock::new();
    LACKING
        .get_or_init(|| {
            let output = Command::new("unshare")
                .args(["--user", "--map-root-user", "--mount", "--net", "--ipc", "--uts", "--pid", "--fork"])
                .args(["mount", "-t", "tmpfs", "none", "/tmp"])
                .output()
                .expect("unshare(1) of util-linux");
            (!output.status.success())
                .then(|| format!("no namespaces for this user: {}", String::from_utf8_lossy(&output.stderr).trim()))
        })
        .clone()
}

fn on_path(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

/// Leaves the test when the machine lacks a [`Feature`], saying why; fails it when `SBX_TEST_STRICT=1`.
macro_rules! need {
    ($feature:ident $(($argument:expr))?) => {
        let feature = $crate::support::Feature::$feature $(($argument))?;
        if let Some(why) = feature.lacking() {
            assert!(!feature.required(), "SBX_TEST_STRICT=1 and {feature:?} is missing: {why}");
            $crate::support::note(&format!("skipped, {why}"));
            return;
        }
    };
}

/// Tells the reader of the test log something, past the harness's capture of a passing test's output.
pub(crate) fn note(text: &str) {
    let thread = std::thread::current();
    let line = format!("{}: {text}\n", thread.name().unwrap_or("test"));
    std::io::stderr().write_all(line.as_bytes()).expect("standard error takes a line");
}

/// Copies a program that is about to be executed. cp(1) does it: a descriptor of ours that is open for writing would be inherited by
/// whatever another test starts meanwhile, and the kernel executes no file that somebody may write to (ETXTBSY).
pub(crate) fn copy_program(from: impl AsRef<Path>, to: impl AsRef<Path>) {
    let status = Command::new("cp").arg(from.as_ref()).arg(to.as_ref()).status().expect("cp(1)");
    assert!(status.success(), "{} can't be copied", from.as_ref().display());
}

/// A directory that removes itself, also when a test left parts of it without permissions.
fn temp_dir() -> TempDir {
    tempfile::Builder::new().prefix("sbx-it-").tempdir().expect("a temporary directory")
}

/// A project directory with a `sandbox.toml`, and a cache and a home that no other test uses.
pub(crate) struct Project {
    base: TempDir,
}

impl Project {
    /// An empty project: an empty `sandbox.toml`.
    pub(crate) fn new() -> Self {
        let project = Self::bare();
        project.config("")
    }

    /// A project directory without a `sandbox.toml`.
    pub(crate) fn bare() -> Self {
        let base = temp_dir();
        for dir in ["project", "cache", "home", "run", "tmp"] {
            fs::create_dir(base.path().join(dir)).expect("a directory of the test");
        }
        fs::set_permissions(base.path().join("run"), fs::Permissions::from_mode(0o700)).expect("a private directory");
        Self { base }
    }

    /// Writes `sandbox.toml`.
    pub(crate) fn config(self, text: &str) -> Self {
        self.file("sandbox.toml", text)
    }

    /// Writes a file, making its parent directories.
    pub(crate) fn file(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        self.write(path, content);
        self
    }

    /// Writes an executable file.
    pub(crate) fn script(self, path: &str, content: &str) -> Self {
        self.write(path, content);
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(0o755)).expect("chmod");
        self
    }

    /// Makes a symbolic link with this text.
    pub(crate) fn link(self, path: &str, text: &str) -> Self {
        symlink(text, self.path(path)).expect("a symbolic link");
        self
    }

    /// Makes a directory and its parents.
    pub(crate) fn dir(self, path: &str) -> Self {
        fs::create_dir_all(self.path(path)).expect("a directory");
        self
    }

    /// Puts a compiled probe ([`probe`]) into the project as the executable `probe`, and makes it an input: the
    /// `sandbox.toml` is `inputs = ["probe"]` with `config` below.
    pub(crate) fn probe(self, config: &str) -> Self {
        fs::copy(probe(), self.path("probe")).expect("the probe is copied");
        self.config(&format!("inputs = ['probe']\n{config}"))
    }

    /// Writes a file while the project is in use.
    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("parent directories");
        fs::write(path, content).expect("a file of the project");
    }

    /// Reads a file of the project.
    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Whether something stands at a path of the project, a dangling link included.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.path(path).symlink_metadata().is_ok()
    }

    /// The host path of a path of the project.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.base.path().join("project").join(path)
    }

    /// A path beside the project: `cache`, `home`, `run`, `tmp` or new.
    pub(crate) fn beside(&self, path: &str) -> PathBuf {
        self.base.path().join(path)
    }

    /// `sbx run -- ARGS`.
    pub(crate) fn run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Run {
        self.sbx(["run", "--"]).args(args)
    }

    /// `sbx run -- sh -c SCRIPT`.
    pub(crate) fn sh(&self, script: &str) -> Run {
        self.run(["sh", "-c", script])
    }

    /// `sbx run --no-cache -- ARGS`: for a command that is to run each time.
    pub(crate) fn run_anew<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Run {
        self.sbx(["run", "--no-cache", "--"]).args(args)
    }

    /// `sbx run --no-cache -- sh -c SCRIPT`.
    pub(crate) fn sh_anew(&self, script: &str) -> Run {
        self.run_anew(["sh", "-c", script])
    }

    /// `sbx ARGS` in the project directory, with an environment of a few known variables.
    pub(crate) fn sbx<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Run {
        self.command(sbx()).args(args)
    }

    /// Any program of the host in the project directory, with the environment that [`Project::sbx`] gives.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Run {
        let mut command = Command::new(program);
        command
            .current_dir(self.path(""))
            .env_clear()
            .env("PATH", PATH)
            .env("HOME", self.beside("home"))
            .env("SBX_CACHE_DIR", self.beside("cache"))
            .env("XDG_CACHE_HOME", self.beside("xdg-cache"))
            .env("XDG_CONFIG_HOME", self.beside("xdg-config"))
            .env("XDG_RUNTIME_DIR", self.beside("run"))
            .env("TMPDIR", self.beside("tmp"))
            .stdin(Stdio::null());
        Run { command, input: None }
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        // A command may have left directories that not even their owner may enter.
        let _ = Command::new("chmod").args(["-Rf", "u+rwX"]).arg(self.base.path()).stderr(Stdio::null()).status();
    }
}

/// A command that is about to be run.
pub(crate) struct Run {
    command: Command,
    input: Option<Vec<u8>>,
}

impl Run {
    /// More arguments.
    pub(crate) fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    /// One variable more.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Another working directory.
    pub(crate) fn cwd(mut self, dir: impl AsRef<Path>) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// These bytes on standard input.
    pub(crate) fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = Some(bytes.into());
        self
    }

    /// Runs to the end; neither the code nor the output is judged.
    pub(crate) fn end(mut self) -> Ended {
        let shown = format!("{:?}", self.command);
        if self.input.is_some() {
            self.command.stdin(Stdio::piped());
        }
        let mut child = self.command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let writer = self.input.map(|bytes| {
            let mut stdin = child.stdin.take().expect("a pipe");
            // A command that doesn't read its input closes the pipe; that is no fault.
            std::thread::spawn(move || drop(stdin.write_all(&bytes)))
        });
        let output = child.wait_with_output().expect("the program ends");
        if let Some(writer) = writer {
            writer.join().expect("the input is written");
        }
        Ended::new(shown, &output)
    }

    /// Starts it with its output in pipes.
    pub(crate) fn start(mut self) -> Live {
        let child = self.command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
        Live { child }
    }

    /// Starts it with its output thrown away.
    pub(crate) fn start_silent(mut self) -> Live {
        let child = self.command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program starts");
        Live { child }
    }

    /// Runs to the end and asserts exit code 0.
    pub(crate) fn ok(self) -> Ended {
        self.end().code(0)
    }

    /// Runs to the end and asserts the exit code.
    pub(crate) fn code(self, code: i32) -> Ended {
        self.end().code(code)
    }

    /// Runs to the end, asserts exit code 0 and the whole standard output.
    pub(crate) fn stdout(self, text: &str) -> Ended {
        self.ok().stdout(text)
    }
}

/// A program that runs.
pub(crate) struct Live {
    child: Child,
}

impl Live {
    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        kill(name, self.child.id());
    }

    /// Reads its standard output until a line is this one.
    pub(crate) fn wait_for_line(&mut self, line: &str) {
        use std::io::Read;
        let stdout = self.child.stdout.as_mut().expect("a pipe");
        let mut seen = Vec::new();
        while !seen.ends_with(format!("{line}\n").as_bytes()) {
            let mut byte = [0];
            let length = stdout.read(&mut byte).expect("standard output is read");
            assert!(length == 1, "the output ended without the line {line:?}: {}", String::from_utf8_lossy(&seen));
            seen.push(byte[0]);
        }
    }

    /// Waits for its end and what is left of its output.
    pub(crate) fn end(self) -> Ended {
        let output = self.child.wait_with_output().expect("the program ends");
        Ended::new("a started program".to_owned(), &output)
    }

    /// Waits for its end, its output left alone.
    pub(crate) fn status(mut self) -> ExitStatus {
        self.child.wait().expect("the program ends")
    }

    /// The child itself.
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }
}

/// Sends a signal by name to a process.
pub(crate) fn kill(name: &str, pid: u32) {
    let status = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name, &pid.to_string()]).status();
    assert!(status.expect("sh").success(), "the signal {name} could not be sent to {pid}");
}

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Ended {
    shown: String,
    /// The exit code, or 128+n when signal n ended the program itself.
    pub(crate) code: i32,
    /// Its standard output; bytes that are no UTF-8 replaced.
    pub(crate) stdout: String,
    /// Its standard error.
    pub(crate) stderr: String,
}

impl Ended {
    fn new(shown: String, output: &Output) -> Self {
        let signal = output.status.signal();
        Self {
            shown,
            code: output.status.code().or(signal.map(|number| 128 + number)).expect("a code or a signal"),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    fn fail(&self, what: &str) -> ! {
        panic!(
            "{what}\ncommand: {}\nexit code: {}\n--- stdout\n{}\n--- stderr\n{}",
            self.shown, self.code, self.stdout, self.stderr
        );
    }

    /// Asserts the exit code.
    pub(crate) fn code(self, code: i32) -> Self {
        if self.code != code {
            self.fail(&format!("exit code {code} was expected"));
        }
        self
    }

    /// Asserts the whole standard output.
    pub(crate) fn stdout(self, text: &str) -> Self {
        if self.stdout != text {
            self.fail(&format!("this standard output was expected:\n{text}"));
        }
        self
    }

    /// Asserts a part of the standard output.
    pub(crate) fn stdout_has(self, text: &str) -> Self {
        if !self.stdout.contains(text) {
            self.fail(&format!("standard output was expected to contain {text:?}"));
        }
        self
    }

    /// Asserts that the standard output has one of these.
    pub(crate) fn stdout_has_one_of<const N: usize>(self, texts: [&str; N]) -> Self {
        if !texts.iter().any(|text| self.stdout.contains(text)) {
            self.fail(&format!("standard output was expected to contain one of {texts:?}"));
        }
        self
    }

    /// Asserts what the probe's `ids` says: one uid, one gid, each real, effective and saved, and no further group
    /// but the one that an unmapped supplementary group of the caller reads as.
    pub(crate) fn ids(self, [uid, gid]: [u32; 2]) -> Self {
        let expected = format!("{uid} {uid} {uid} {gid} {gid} {gid}");
        let groups = self.stdout.trim_end().strip_prefix(&expected).map(|rest| rest.split_whitespace().collect());
        let held = |groups: Vec<&str>| groups.iter().all(|group| *group == "+65534" || *group == format!("+{gid}"));
        if !groups.is_some_and(held) {
            self.fail(&format!("these ids were expected: {expected}"));
        }
        self
    }

    /// Asserts that the standard output lacks this.
    pub(crate) fn stdout_lacks(self, text: &str) -> Self {
        if self.stdout.contains(text) {
            self.fail(&format!("standard output was expected not to contain {text:?}"));
        }
        self
    }

    /// Asserts a part of the standard error.
    pub(crate) fn stderr_has(self, text: &str) -> Self {
        if !self.stderr.contains(text) {
            self.fail(&format!("standard error was expected to contain {text:?}"));
        }
        self
    }

    /// Asserts that the standard error lacks this.
    pub(crate) fn stderr_lacks(self, text: &str) -> Self {
        if self.stderr.contains(text) {
            self.fail(&format!("standard error was expected not to contain {text:?}"));
        }
        self
    }
}

/// A linear congruential generator: the numbers differ from each other, not from run to run.
pub(crate) struct Random(u64);

impl Random {
    /// Another sequence for each seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number, less than `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

/// Waits until a condition holds; fails when it does not within a minute.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "waited a minute in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Compiles a C program of `tests/it/probes`, once per test process; its path.
fn compiled(name: &str, source: &str) -> PathBuf {
    if let Some(dir) = std::env::var_os(PROBES_VARIABLE) {
        return Path::new(&dir).join(name);
    }
    let dir = if std::env::var_os(ROOT_VARIABLE).is_some() {
        std::env::temp_dir()
    } else {
        PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
    };
    let file = dir.join(format!("{name}.c"));
    let (program, temporary) = (dir.join(name), dir.join(format!("{name}.{}", std::process::id())));
    fs::write(&file, source).expect("the source is written");
    let output = Command::new("cc")
        .args(["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-o"])
        .arg(&temporary)
        .arg(&file)
        .output()
        .expect("cc runs");
    assert!(output.status.success(), "{name}.c: {}", String::from_utf8_lossy(&output.stderr));
    fs::rename(temporary, &program).expect("the program takes its place");
    program
}

/// The probe that runs inside: `probe WORD…` tries what the words say and prints the result, an errno by name.
pub(crate) fn probe() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| compiled("probe", include_str!("probes/probe.c")))
}

/// The probe of system calls: `calls HOW NUMBERS…`, see its head.
pub(crate) fn calls() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| compiled("calls", include_str!("probes/calls.c")))
}

/// The probe of net namespaces and of the pool: `netprobe WORD…`, see its head.
pub(crate) fn netprobe() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| compiled("netprobe", include_str!("probes/netprobe.c")))
}

/// The launcher that runs outside: `launcher HOW… -- PROGRAM ARGS` starts a program in an odd state of its caller.
pub(crate) fn launcher() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| compiled("launcher", include_str!("probes/launcher.c")))
}
