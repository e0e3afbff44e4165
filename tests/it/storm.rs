//! The store under fire: killed runs, a full disk, flipped bits, many writers. Never a wrong byte, and no lasting damage.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::support::{Ended, Project, Random, copy_program, eventually, sbx};

/// The bytes that action `number` makes, and the command for them: what it prints and what it writes both tell the number.
fn script(number: u32) -> String {
    format!(
        "echo said-{number}; echo oops-{number} >&2; mkdir -p out; \
         i=0; while [ $i -lt 8 ]; do seq {number} 9999 > out/$i; i=$((i + 1)); done; cat a > out/a"
    )
}

fn config() -> &'static str {
    "inputs = ['a']\noutputs = ['out']"
}

/// Asserts that everything that action `number` makes is there, byte for byte.
fn check(project: &Project, ended: &Ended, number: u32) {
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(ended.stdout, format!("said-{number}\n"), "{ended:?}");
    assert!(
        ended.stderr.starts_with(&format!("oops-{number}\n")) || ended.stderr.contains(&format!("\noops-{number}\n"))
    );
    let expected: String = (number..=9999).map(|line| format!("{line}\n")).collect();
    for file in 0..8 {
        assert!(project.read(&format!("out/{file}")) == expected, "out/{file} of {number}");
    }
    assert_eq!(project.read("out/a"), "content");
}

/// Eight writers with one store, on four actions; 500 of their runs are killed at some moment between the first system
/// call and the last.
#[test]
fn five_hundred_kills_serve_no_wrong_byte() {
    need!(Sandbox);
    const KILLS: u32 = 500;
    let first = Project::new().config(config()).file("a", "content");
    let others: Vec<Project> = (0..7).map(|_| Project::new().config(config()).file("a", "content")).collect();
    let copy = first.beside("sbx-that-is-killed");
    copy_program(sbx(), &copy);
    let cache = first.beside("cache");
    let killed = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for (writer, project) in std::iter::once(&first).chain(&others).enumerate() {
            let (killed, copy, cache) = (&killed, &copy, &cache);
            scope.spawn(move || {
                let mut random = Random::new(writer as u64 + 1);
                let mut turn = 0;
                while killed.load(Ordering::Relaxed) < KILLS {
                    let number = 1 + u32::try_from(random.below(4)).expect("small");
                    // Some are computed whatever is known, so that results are replaced under those who read them.
                    let force: &[&str] = if random.below(3) == 0 { &["--force"] } else { &[] };
                    let script = script(number);
                    let run = project.command(copy).env("SBX_CACHE_DIR", cache).args(["run"]).args(force);
                    let run = run.args(["--", "sh", "-c", &script]);
                    turn += 1;
                    if turn % 8 == 0 {
                        check(project, &run.end(), number);
                        continue;
                    }
                    let mut live = run.start_silent();
                    std::thread::sleep(Duration::from_micros(random.below(60_000) as u64));
                    live.child().kill().expect("it can be killed");
                    if live.status().code().is_none() {
                        killed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    for project in std::iter::once(&first).chain(&others) {
        for number in 1..=4 {
            check(project, &project.sh(&script(number)).env("SBX_CACHE_DIR", &cache).end(), number);
            let again = project.sh(&script(number)).env("SBX_CACHE_DIR", &cache).end();
            assert!(again.stderr.contains("sbx: cached, ") && !again.stderr.contains("warning"), "{again:?}");
            check(project, &again, number);
        }
        let left: Vec<_> =
            fs::read_dir(project.path("")).expect("the project").map(|entry| entry.expect("one").file_name()).collect();
        assert_eq!(left.len(), 3, "{left:?}");
    }
    eventually("no scratch directory is left", || {
        fs::read_dir(cache.join("scratch")).is_ok_and(|mut entries| entries.next().is_none())
    });
    first.sbx(["cache", "verify"]).env("SBX_CACHE_DIR", &cache).ok();
}

/// A store on a small disk that fills up at every possible place: a run is right, or an error that names the full disk;
/// and when there is room again, all is well.
#[test]
fn a_full_disk_is_a_miss_or_an_error_and_never_a_wrong_byte() {
    need!(Sandbox);
    let project = Project::new().config(config()).file("a", "content").file("b", "other");
    let disk = project.beside("disk");
    fs::create_dir(&disk).expect("a mount point");
    let all = format!(
        r#"
        mount -t tmpfs -o size=2m none "$DISK" || exit 77
        SBX_CACHE_DIR="$DISK/cache"; export SBX_CACHE_DIR
        wrong() {{ echo "wrong: $*"; exit 1; }}
        run() {{
            rm -rf out
            "$SBX" run -- sh -c '{script}' > ../tmp/out 2> ../tmp/err
            code=$?
            if [ $code = 0 ]; then
                [ "$(cat ../tmp/out)" = said-5000 ] || wrong "standard output: $(cat ../tmp/out ../tmp/err)"
                seq 5000 9999 | cmp -s - out/7 || wrong "output: $(cat ../tmp/err)"
                [ "$(cat out/a)" = content ] || wrong input
            else
                [ $code = 125 ] || [ $code = 1 ] || [ $code = 2 ] || wrong "code $code: $(cat ../tmp/err)"
                grep -qi 'no space' ../tmp/err || wrong "words: $(cat ../tmp/err)"
                ! [ -e out ] || wrong "outputs of a failed run"
            fi
        }}
        good=0; bad=0; free=2000
        while [ $free -ge 0 ]; do
            rm -rf "$DISK/cache" "$DISK/filler"
            head -c $((2048 * 1024 - free * 1024)) /dev/zero > "$DISK/filler" 2>/dev/null
            run
            [ $code = 0 ] && good=$((good + 1)) || bad=$((bad + 1))
            # There is room again: whatever the full disk left behind is no hindrance.
            rm -f "$DISK/filler"
            run; [ $code = 0 ] || wrong "a lasting failure at $free KiB: $(cat ../tmp/err)"
            run; [ $code = 0 ] || wrong "a lasting failure at $free KiB: $(cat ../tmp/err)"
            grep -q 'sbx: cached' ../tmp/err || wrong "no hit at $free KiB: $(cat ../tmp/err)"
            free=$((free - 50))
        done
        [ $good -gt 0 ] && [ $bad -gt 5 ] || wrong "the disk was never full: $good $bad"
        echo done
        "#,
        script = script(5000)
    );
    let run = project.command("unshare").args(["--user", "--map-root-user", "--mount", "bash", "-c", &all]);
    run.env("SBX", sbx()).env("DISK", &disk).ok().stdout("done\n");
}

/// The regular files of the store, but those that only say who is doing what, and what a run left.
fn stored(project: &Project) -> Vec<PathBuf> {
    let all = walkdir::WalkDir::new(project.beside("cache")).sort_by_file_name();
    let all = all.into_iter().filter_entry(|entry| entry.file_name() != "left");
    let files = all.map(|entry| entry.expect("an entry")).filter(|entry| entry.file_type().is_file());
    let paths = files.map(walkdir::DirEntry::into_path);
    paths.filter(|path| path.extension().is_none_or(|extension| extension != "lock")).collect()
}

fn flip(path: &Path, place: usize) {
    let mut bytes = fs::read(path).expect("a file of the store");
    if bytes.is_empty() {
        bytes.push(0);
    } else {
        let index = place % bytes.len();
        bytes[index] ^= 0x10;
    }
    fs::write(path, bytes).expect("a file of the store");
}

/// A bit flips in each file of the store in turn, whatever it is; then the same run, and another one on the same inputs.
#[test]
fn a_flipped_bit_anywhere_serves_no_wrong_byte() {
    need!(Sandbox);
    let mut project =
        Project::new().config("inputs = ['a', 'in/**']\noutputs = ['out']\n[[mount]]\nsource = 'm'\ntarget = '/m'");
    project = project.file("a", "content").file("m/tool", "mounted");
    // Enough inputs that a change is a delta over the full tree.
    for index in 0..200 {
        project = project.file(&format!("in/{index}"), format!("input {index}"));
    }
    let all = || project.sh(&script(9000));
    check(&project, &all().end(), 9000);
    project.write("in/7", "changed");
    check(&project, &all().end(), 9000);
    let files = stored(&project);
    let kinds: std::collections::BTreeSet<_> = files
        .iter()
        .filter_map(|path| path.strip_prefix(project.beside("cache")).ok()?.iter().next())
        .map(std::ffi::OsStr::to_os_string)
        .collect();
    for kind in ["actions", "blobs", "deltas", "projects", "runs", "trees", "version", "packages", "mounts"] {
        assert!(kinds.contains(std::ffi::OsStr::new(kind)), "{kind} in {kinds:?}");
    }
    // Of files that are one inode, and of the many inputs, one stands for all.
    let mut seen = std::collections::BTreeSet::new();
    let mut number = 0;
    for path in &files {
        use std::os::unix::fs::MetadataExt as _;
        let Ok(metadata) = fs::metadata(path) else { continue };
        let is_input = fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"input ") && !bytes.starts_with(b"input 1"));
        if !seen.insert(metadata.ino()) || is_input {
            continue;
        }
        number += 1;
        flip(path, number * 7);
        let shown = path.display();
        if path.ends_with("cache/version") {
            all().code(125).stderr_has("version");
            fs::write(path, "1\n").expect("the version");
            continue;
        }
        fs::remove_dir_all(project.path("out")).expect("the outputs");
        let ended = all().end();
        check(&project, &ended, 9000);
        // An action that nobody has computed: what it sees is what is in the checkout.
        let view = project.sh(&format!("cat a in/* /m/tool; echo {number}; mkdir -p out; echo > out/view")).end();
        let inputs: std::collections::BTreeMap<String, String> = (0..200)
            .map(|index| (index.to_string(), if index == 7 { "changed".to_owned() } else { format!("input {index}") }))
            .collect();
        let expected: String = inputs.into_values().collect();
        assert_eq!(view.code, 0, "{shown}: {view:?}");
        assert!(view.stdout == format!("content{expected}mounted{number}\n"), "{shown}: {view:?}");
    }
    assert!(number > 30, "{number} files");
    project.sbx(["cache", "verify", "--repair"]).end();
    project.sbx(["cache", "verify"]).ok();
    check(&project, &all().end(), 9000);
}
