//! A known result is replayed, byte for byte, and only when nothing that could change it has changed.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, SystemTime};

use crate::support::{Ended, Project, eventually, sbx};

/// A command that tells one computation from another, with outputs of every kind.
const MAKE: &str = "head -c 16 /dev/urandom | od -An -tx1 > stamp; mkdir -p out/sub out/empty; \
     printf '#!/bin/sh\\n' > out/tool; chmod 755 out/tool; ln -s tool out/link; head -c 70000 /dev/urandom > out/sub/data; \
     printf 'no newline'; echo oops >&2";

fn project() -> Project {
    Project::new().config("outputs = ['stamp', 'out']")
}

/// Every file of a directory: path, mode, content or link text.
fn snapshot(dir: &Path) -> Vec<(String, u32, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in walkdir::WalkDir::new(dir).sort_by_file_name() {
        let entry = entry.expect("an entry");
        let path = entry.path().strip_prefix(dir).expect("below").to_str().expect("UTF-8").to_owned();
        let content = match entry.file_type() {
            kind if kind.is_file() => fs::read(entry.path()).expect("a file"),
            kind if kind.is_symlink() => {
                fs::read_link(entry.path()).expect("a link").into_os_string().into_encoded_bytes()
            }
            _ => Vec::new(),
        };
        all.push((path, entry.metadata().expect("metadata").permissions().mode(), content));
    }
    all
}

fn clear(project: &Project) {
    fs::remove_file(project.path("stamp")).expect("an output");
    fs::remove_dir_all(project.path("out")).expect("an output");
}

trait Hit {
    fn hit(self) -> Self;
    fn miss(self) -> Self;
}

impl Hit for Ended {
    /// Asserts that the result was replayed.
    fn hit(self) -> Self {
        self.code(0).stderr_has("sbx: cached, ")
    }

    /// Asserts that it was computed.
    fn miss(self) -> Self {
        self.stderr_lacks("cached")
    }
}

// --- what a hit brings back -------------------------------------------------------------------------------------------

#[test]
fn a_hit_brings_everything_back_byte_for_byte() {
    need!(Sandbox);
    let project = project();
    let first = project.sh(MAKE).code(0).miss().stdout("no newline");
    assert_eq!(first.stderr, "oops\n");
    let made = snapshot(&project.path(""));
    assert!(made.iter().any(|(path, mode, _)| path == "out/tool" && mode & 0o777 == 0o755));
    clear(&project);
    let second = project.sh(MAKE).ok().hit().stdout("no newline");
    assert_eq!(snapshot(&project.path("")), made);
    let lines: Vec<_> = second.stderr.lines().collect();
    assert!(lines[0] == "oops" && lines.len() == 2, "{}", second.stderr);
    assert!(lines[1].contains(" old, ") && lines[1].ends_with(" saved"), "{}", second.stderr);
    // Quiet is quiet.
    let quiet = project.sbx(["run", "-q", "--", "sh", "-c", MAKE]).ok();
    assert_eq!(quiet.stderr, "oops\n");
}

#[test]
fn what_is_right_already_is_not_written() {
    need!(Sandbox);
    let project = project();
    project.sh(MAKE).code(0).miss();
    let stat = |path: &str| {
        let metadata = fs::symlink_metadata(project.path(path)).expect("an output");
        (metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec())
    };
    let paths = ["stamp", "out/tool", "out/link", "out/sub/data", "out/sub", "out/empty"];
    let before = paths.map(stat);
    project.sh(MAKE).ok().hit();
    assert_eq!(paths.map(stat), before);
    // What differs is put right, and nothing else.
    let made = snapshot(&project.path(""));
    project.write("out/tool", "changed");
    fs::remove_file(project.path("out/link")).expect("an output");
    fs::set_permissions(project.path("stamp"), fs::Permissions::from_mode(0o755)).expect("chmod");
    project.sh(MAKE).ok().hit();
    assert_eq!(snapshot(&project.path("")), made);
    assert_eq!(stat("out/sub/data"), before[3]);
    assert_ne!(stat("out/tool").0, before[1].0);
}

#[test]
fn what_an_earlier_run_made_goes_on_a_hit_too() {
    need!(Sandbox);
    let project = Project::new().config("outputs = ['out/**']").file("out/mine", "mine");
    project.sh("mkdir out; echo 1 > out/a; echo 2 > out/b").ok().miss();
    project.sh("mkdir out; echo 1 > out/a").ok().miss();
    assert!(project.has("out/a") && !project.has("out/b"));
    project.sh("mkdir out; echo 1 > out/a; echo 2 > out/b").ok().hit();
    assert!(project.has("out/a") && project.has("out/b"));
    project.sh("mkdir out; echo 1 > out/a").ok().hit();
    assert!(project.has("out/a") && !project.has("out/b") && project.has("out/mine"));
}

#[test]
fn an_input_that_is_an_output_and_was_left_alone_stays() {
    need!(Sandbox);
    let project = Project::new().config("inputs = ['gen/*']\noutputs = ['gen/*']").file("gen/hand", "mine");
    project.sh("echo 1 > gen/made").ok();
    fs::remove_file(project.path("gen/made")).expect("an output");
    project.sh("echo 1 > gen/made").ok().hit();
    assert_eq!((project.read("gen/hand").as_str(), project.read("gen/made").as_str()), ("mine", "1\n"));
}

#[test]
fn long_streams_come_back_whole_and_in_order() {
    need!(Sandbox);
    let project = Project::new();
    let script = "seq 200000; seq 300000 400000 >&2";
    let first = project.sh(script).ok().miss();
    let second = project.sh(script).ok();
    assert_eq!(first.stdout, second.stdout);
    let (errors, line) = second.stderr.split_at(first.stderr.len());
    assert_eq!(first.stderr, errors);
    assert!(line.starts_with("sbx: cached, "));
}

#[test]
fn a_hit_goes_to_pipes_files_and_readers_that_leave() {
    need!(Sandbox);
    let project = Project::new();
    project.sh("seq 100000").ok().miss();
    let sbx = sbx();
    let shell = |script: &str| project.command("bash").args(["-c", script, "bash"]).args([&sbx]).end();
    shell("set -o pipefail; \"$1\" run -- sh -c 'seq 100000' | head -1").code(0).stdout("1\n");
    shell("\"$1\" run -- sh -c 'seq 100000' > ../tmp/file && tail -1 ../tmp/file").code(0).stdout("100000\n");
    shell("\"$1\" run -- sh -c 'seq 100000' > /dev/full").code(125).stderr_has("can't write what the command printed");
}

#[test]
fn the_record_says_where_a_hit_comes_from() {
    need!(Sandbox);
    let project = project();
    let report = |args: &[&str]| {
        project.sbx(["run", "--report", "../tmp/report"]).args(args).args(["--", "sh", "-c", MAKE]).ok();
        let text = fs::read_to_string(project.beside("tmp/report")).expect("a report");
        serde_json::from_str::<serde_json::Value>(&text).expect("JSON")
    };
    let first = report(&[]);
    assert_eq!((&first["cache"]["state"], &first["cache"]["reason"]), (&"miss".into(), &serde_json::Value::Null));
    let second = report(&[]);
    assert_eq!(second["cache"]["state"], "hit");
    assert_eq!(second["cache"]["from"], first["id"]);
    assert_eq!(second["cache"]["from_project"], first["project"]);
    for same in ["action", "outputs", "stdout", "stderr", "command", "input_root"] {
        assert_eq!(second[same], first[same], "{same}");
    }
    assert_ne!(second["id"], first["id"]);
    let off = report(&["--no-cache"]);
    assert_eq!((&off["cache"]["state"], &off["cache"]["reason"]), (&"off".into(), &"--no-cache".into()));
}

// --- what is cached, and what is not ------------------------------------------------------------------------------------

#[test]
fn force_computes_again_and_keeps_the_new_result() {
    need!(Sandbox);
    let project = Project::new();
    let random = ["head", "-c", "9", "/dev/urandom"];
    let first = project.run(random).ok().stdout;
    assert_eq!(project.run(random).ok().hit().stdout, first);
    let forced = project.sbx(["run", "--force", "--"]).args(random).ok().miss().stdout;
    assert_ne!(forced, first);
    assert_eq!(project.run(random).ok().hit().stdout, forced);
    let without = project.sbx(["run", "--no-cache", "--"]).args(random).ok().miss().stdout;
    assert_ne!(without, forced);
    assert_eq!(project.run(random).ok().hit().stdout, forced);
    project.sbx(["run", "--force", "--no-cache", "--", "true"]).code(125).stderr_has("cannot be used with");
}

#[test]
fn every_reason_not_to_keep_a_result_is_said_with_v() {
    need!(Sandbox);
    let project = Project::new();
    let again = |flags: &[&str], script: &str, code: i32, reason: &str| {
        for _ in 0..2 {
            let run = project.sbx(["run", "-v"]).args(flags).args(["--", "sh", "-c", script]).end();
            run.code(code).stderr_has(&format!("sbx: not cached: {reason}")).stderr_lacks("sbx: cached");
        }
    };
    again(&[], "exit 3", 3, "the command exited with 3");
    again(&[], "kill -9 $$", 137, "the command was killed by signal 9");
    again(&["-i"], "true", 0, "the command reads standard input (-i)");
    again(&["--keep"], "true # keep", 0, "the scratch directory is wanted (--keep)");
    again(&["--no-cache"], "true", 0, "--no-cache");
    project.write("sandbox.toml", "[limits]\ntime = '100ms'");
    again(&[], "sleep 60", 124, "it reached the time limit");
    project.write("sandbox.toml", "[network]\nhost = true");
    again(&[], "true", 0, "it shares the host's network");
    project.write("sandbox.toml", "[network]\nallow = ['x.test:1']");
    again(&[], "true", 0, "`network.allow` lets other hosts influence it");
    project.write("sandbox.toml", "outputs = ['missing']");
    again(&[], "true", 125, "sbx failed");
    // An unfinished reader: what the command would have gone on to say is not known.
    project.write("sandbox.toml", "");
    let sbx = sbx();
    let script = "\"$1\" run -v -- sh -c 'trap \"\" PIPE; seq 100000 2>/dev/null; true' | head -1";
    let run = || project.command("bash").args(["-c", script, "bash"]).args([&sbx]).ok();
    run().stdout("1\n").stderr_has("not cached: nobody read all that the command printed");
    run().stdout("1\n").stderr_lacks("sbx: cached");
}

#[test]
fn failures_are_kept_where_that_is_wanted() {
    need!(Sandbox);
    let project = Project::new().config("cache_failures = true\noutputs = ['a']");
    let script = "od -An -N8 -tx1 /dev/urandom; echo no > a; exit 7";
    let first = project.sh(script).code(7).miss().stdout;
    assert_eq!(project.sh(script).code(7).stderr_has("sbx: cached, ").stdout, first);
    assert!(!project.has("a"));
    // A signal's death is no result, and one who does not want failures does not get them.
    project.sh("kill -9 $$").code(137);
    project.sh("kill -9 $$").code(137).miss();
    project.write("sandbox.toml", "outputs = ['a']");
    assert_ne!(project.sh(script).code(7).miss().stdout, first);
}

#[test]
fn a_command_that_was_sent_a_signal_is_not_kept() {
    need!(Sandbox);
    let project = Project::new();
    let script = "trap 'echo early; exit 0' TERM; echo ready; sleep 60 & wait; echo late";
    let mut live = project.sbx(["run", "-v", "--", "sh", "-c", script]).start();
    live.wait_for_line("ready");
    live.signal("TERM");
    live.end().code(0).stdout("early\n").stderr_has("not cached: a signal was passed on to the command");
    let mut again = project.sh(script).start();
    again.wait_for_line("ready");
    again.signal("TERM");
    again.end().code(0).miss();
}

#[test]
fn pinned_outputs_are_these_or_nothing() {
    need!(Sandbox);
    let project =
        Project::new().config("outputs = ['a', 'd/*']\noutputs_sha256 = '{}'".replace("{}", &"0".repeat(64)).as_str());
    let script = "echo a > a; mkdir d; ln -s ../a d/link";
    let refused = project.sh(script).code(125).stderr_has("nothing came back");
    assert!(!project.has("a") && !project.has("d"));
    let found =
        refused.stderr.split("outputs_sha256 = \"").nth(1).expect("the digest").split('"').next().expect("its end");
    let pinned = |network: &str, pin: &str| format!("outputs = ['a', 'd/*']\noutputs_sha256 = '{pin}'\n{network}");
    // With the pin, what other hosts could influence is known to be right.
    project.write("sandbox.toml", pinned("[network]\nallow = ['x.test:1']", found));
    project.sh(script).ok().miss();
    project.sh(script).ok().hit();
    project.sh("echo b > a; mkdir d; ln -s ../a d/link").code(125);
    assert_eq!(project.read("a"), "a\n");
    // Another pin is another opinion: what is known is not replayed against it.
    project.write("sandbox.toml", pinned("[network]\nallow = ['x.test:1']", &"1".repeat(64)));
    project.sh(script).code(125).stderr_has(found);
    // What declares no outputs is held to have none.
    project.write("sandbox.toml", format!("outputs_sha256 = '{found}'"));
    project.sh("true").code(125).stderr_has("nothing came back");
}

// --- what the key is made of -----------------------------------------------------------------------------------------------

#[test]
fn every_change_that_a_command_could_see_is_a_miss() {
    need!(Sandbox);
    let config = |more: &str| format!("inputs = ['a', 'dir/**', 'l*']\noutputs = ['o*']\n{more}");
    let project = Project::new()
        .config(&config(""))
        .file("a", "one")
        .file("dir/b", "two")
        .link("link", "a")
        .dir("mounted")
        .file("mounted/file", "1");
    let run = || project.sh("cat a; echo > out").ok();
    run().miss();
    run().hit();
    let changes: [(&str, &dyn Fn()); 6] = [
        ("content of the same size", &|| project.write("a", "eno")),
        ("mode", &|| fs::set_permissions(project.path("a"), fs::Permissions::from_mode(0o755)).expect("chmod")),
        ("name", &|| fs::rename(project.path("dir/b"), project.path("dir/c")).expect("rename")),
        ("link target", &|| {
            fs::remove_file(project.path("link")).expect("a link");
            std::os::unix::fs::symlink("dir/c", project.path("link")).expect("a link");
        }),
        ("one more", &|| project.write("dir/d", "")),
        ("empty directory", &|| fs::create_dir(project.path("dir/e")).expect("a directory")),
    ];
    for (what, change) in changes {
        change();
        let ended = run();
        assert!(!ended.stderr.contains("cached"), "{what}");
        run().hit();
    }
    for more in [
        "[env]\nset = { A = '1' }",
        "[env]\nset = { A = '2' }",
        "[sandbox]\nworkdir = '/work'",
        "[sandbox]\nhostname = 'other'",
        "[sandbox]\nuid = 7",
        "[sandbox]\ngid = 7",
        "[limits]\nopen_files = 64",
        "[limits]\nopen_files = 65",
        "[limits]\ntime = '1h'",
        "[network]\nallow = ['x.test:1']\n",
        "[[mount]]\nsource = 'mounted'\ntarget = '/m'",
        "[[mount]]\nsource = 'mounted'\ntarget = '/n'",
        "[[mount]]\nsource = 'mounted'\ntarget = '/n'\nidentity = 'declared'\nversion = '1'",
        "[[mount]]\nsource = 'mounted'\ntarget = '/n'\nidentity = 'declared'\nversion = '2'",
        "[[scratch]]\nname = 's'\ntarget = '/s'",
        "[rootfs]\nhost = ['/usr', '/bin', '/lib', '/lib64', '/sbin', '/etc/ssl']",
    ] {
        project.write("sandbox.toml", config(more));
        let ended = run();
        assert!(!ended.stderr.contains("cached"), "{more}");
        if !more.contains("network") {
            run().hit();
        }
    }
    project.write("sandbox.toml", config("[[mount]]\nsource = 'mounted'\ntarget = '/m'"));
    run().hit();
    project.write("mounted/file", "2");
    run().miss();
    project.write("sandbox.toml", config("").replace("'o*'", "'ou*'"));
    run().miss();
    project.write("sandbox.toml", config(""));
    run().hit();
    project.run(["sh", "-c", "cat a; echo > out "]).ok().miss();
    project.sh("cat a; echo > out").cwd(project.path("dir")).code(125).miss();
}

#[test]
fn what_a_command_cannot_see_is_no_miss() {
    need!(Sandbox);
    let project = Project::new().config("inputs = ['a']\n[env]\npass = ['PASSED']").file("a", "one");
    let run = || project.sh("cat a; date +%N").env("PASSED", "1");
    let first = run().ok().miss().stdout;
    let hit = |run: crate::support::Run| assert_eq!(run.ok().hit().stdout, first);
    hit(run());
    let file = fs::File::options().write(true).open(project.path("a")).expect("an input");
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1)).expect("a time");
    hit(run());
    project.write("a", "one");
    fs::set_permissions(project.path("a"), fs::Permissions::from_mode(0o600)).expect("chmod");
    hit(run());
    hit(run().env("LANG", "de_DE.UTF-8").env("LC_ALL", "C").env("TZ", "Asia/Tokyo").env("NOT_PASSED", "2"));
    hit(run().env("SBX_JOBS", "7").env("SBX_COLOR", "always"));
    hit(project
        .command("taskset")
        .args(["-c", "0"])
        .args([sbx()])
        .args(["run", "--", "sh", "-c", "cat a; date +%N"])
        .env("PASSED", "1"));
    // Whoever owns it: only root can give a file away.
    let _ = std::os::unix::fs::chown(project.path("a"), Some(61234), Some(61234));
    fs::set_permissions(project.path("a"), fs::Permissions::from_mode(0o644)).expect("chmod");
    hit(run());
    project.write("not-an-input", "");
    project
        .write("sandbox.toml", "# another text\ninputs = [\"a\"]\n[env]\npass = ['PASSED']\n[task.t]\ncommand = ['x']");
    hit(run());
    let masked = "umask 077; exec \"$0\" run -- sh -c 'cat a; date +%N'";
    hit(project.command("sh").args(["-c", masked]).args([sbx()]).env("PASSED", "1"));
    assert!(!run().env("PASSED", "2").ok().stderr.contains("cached"));
    // Another checkout of the same, with the same store.
    let other = Project::new().config("inputs = ['a']\n[env]\npass = ['PASSED']").file("a", "one");
    hit(other.sh("cat a; date +%N").env("PASSED", "1").env("SBX_CACHE_DIR", project.beside("cache")));
}

#[test]
fn a_pool_s_namespace_and_one_made_on_the_spot_are_one_result() {
    need!(Sandbox);
    let project = Project::new();
    project.sbx(["pool", "start", "--size", "1"]).ok();
    let first = project.sh("date +%N").ok();
    project.sbx(["pool", "stop"]).ok();
    assert_eq!(project.sh("date +%N").ok().hit().stdout, first.stdout);
    assert_eq!(project.sbx(["run", "--no-pool", "--", "sh", "-c", "date +%N"]).ok().hit().stdout, first.stdout);
}

// --- tasks that need one another --------------------------------------------------------------------------------------------

const NEEDS: &str = "
inputs = ['a']
[task.generate]
command = ['sh', '-c', 'echo out; echo generated > gen.h; date +%N > when; mkdir sub; echo s > sub/s']
outputs = ['gen.h', 'when', 'sub']
[task.build]
command = ['sh', '-c', 'cat a gen.h sub/s > app; cat when']
needs = ['generate']
outputs = ['app']
[task.test]
command = ['sh', '-c', 'cat app; ls']
needs = ['build']
";

#[test]
fn what_a_task_needs_is_run_first_and_fed_to_it() {
    need!(Sandbox);
    let project = Project::new().config(NEEDS).file("a", "source\n");
    let test = project.sbx(["run", "test"]).ok().stdout("source\ngenerated\ns\na\napp\n");
    // The needed tasks' output is not the command's.
    test.stderr_has("out\n");
    assert!(["app", "gen.h", "when", "sub"].iter().all(|path| !project.has(path)), "the project is left alone");
    let again = project.sbx(["run", "test"]).ok().stdout("source\ngenerated\ns\na\napp\n");
    again.stderr_has("sbx: generate: cached, ").stderr_has("sbx: build: cached, ").stderr_has("\nsbx: cached, ");
    // What the first made is replayed, so the second sees the same bytes whoever asks.
    let build = || project.sbx(["run", "build"]).ok().hit().stdout;
    assert_eq!(build(), build());
    assert!(project.has("app") && !project.has("gen.h"));
    // A needed task that is computed again with the same outputs makes nothing else run again.
    project.write(
        "sandbox.toml",
        NEEDS.replace("echo out;", "echo out again;").replace("; date +%N > when", "; echo > when"),
    );
    project.sbx(["run", "test"]).ok();
    project.write(
        "sandbox.toml",
        NEEDS.replace("echo out;", "echo out once more;").replace("; date +%N > when", "; echo > when"),
    );
    let test = project.sbx(["run", "test"]).ok();
    test.stderr_lacks("generate: cached").stderr_has("build: cached").stderr_has("\nsbx: cached, ");
}

#[test]
fn what_a_needed_task_made_stands_in_the_place_of_the_project_s_own() {
    need!(Sandbox);
    let config = "inputs = ['gen*']\n[task.a]\ncommand = ['sh', '-c', 'echo made > gen; echo > other']\noutputs = ['gen', 'other']\n\
                  [task.b]\ncommand = ['cat', 'gen']\nneeds = ['a']\n";
    let project = Project::new().config(config).file("gen", "stale\n");
    project.sbx(["run", "b"]).stdout("made\n");
    assert_eq!(project.read("gen"), "stale\n");
}

#[test]
fn a_needed_task_that_fails_ends_the_run_with_its_code() {
    need!(Sandbox);
    let config = "[task.a]\ncommand = ['sh', '-c', 'echo why >&2; exit 9']\n[task.b]\ncommand = ['echo', 'never']\nneeds = ['a']\n";
    let project = Project::new().config(config);
    let ended = project.sbx(["run", "b"]).code(9).stdout("");
    ended.stderr_has("why\n").stderr_has("sbx: the task `a`, which `b` needs, failed");
}

#[test]
fn two_needed_tasks_with_one_output_clash() {
    need!(Sandbox);
    let config = "outputs = ['x']\n[task.a]\ncommand = ['sh', '-c', 'echo a > x']\n[task.b]\ncommand = ['sh', '-c', 'echo b > x']\n\
                  [task.c]\ncommand = ['true']\noutputs = []\nneeds = ['a', 'b']\n";
    let project = Project::new().config(config);
    project.sbx(["run", "c"]).code(125).stderr_has("the tasks `a` and `b`, which this one needs, both make `x`");
}

#[test]
fn plan_and_hash_know_of_needs_and_run_nothing() {
    need!(Sandbox);
    let project = Project::new().config(NEEDS).file("a", "source\n");
    project.sbx(["hash", "test"]).code(125).stderr_has("sbx run generate").stdout("");
    project.sbx(["plan", "test"]).ok().stdout_has("first        the task generate\nfirst        the task build\n");
    let plan = |task: &str| {
        let text = project.sbx(["plan", "--json", task]).ok().stdout;
        serde_json::from_str::<serde_json::Value>(&text).expect("JSON")
    };
    assert_eq!(plan("test")["needs"], serde_json::json!(["generate", "build"]));
    assert_eq!(plan("test")["action"], serde_json::Value::Null);
    project.sbx(["check"]).ok();
    project.sbx(["run", "test"]).ok();
    assert!(plan("test")["action"].is_string());
    let hash = project.sbx(["hash", "--json", "test"]).ok().stdout;
    let hash: serde_json::Value = serde_json::from_str(&hash).expect("JSON");
    assert_eq!(hash["action"], plan("test")["action"]);
    assert!(!project.has("app"));
}

#[test]
fn limits_that_a_command_inherits_tell_runs_apart() {
    need!(Sandbox);
    let project = Project::new();
    let run = |limit: &str| {
        let script = format!("{limit}; exec \"$0\" run -- sh -c 'ulimit -v; ulimit -f; ulimit -t; ulimit -d'");
        project.command("bash").args(["-c", &script]).args([sbx()]).ok()
    };
    run(":").miss().stdout("unlimited\nunlimited\nunlimited\nunlimited\n");
    run("ulimit -v 4000000").miss().stdout("4000000\nunlimited\nunlimited\nunlimited\n");
    run("ulimit -f 100000").miss();
    run("ulimit -t 100").miss();
    run("ulimit -d 4000000").miss();
    run(":").hit().stdout("unlimited\nunlimited\nunlimited\nunlimited\n");
    run("ulimit -v 4000000").hit();
}

#[test]
fn a_replay_that_fails_is_recorded() {
    need!(Sandbox);
    let project = Project::new().config("outputs = ['d/**']");
    let script = "mkdir d; echo 1 > d/a";
    project.sh(script).ok();
    fs::remove_dir_all(project.path("d")).expect("the outputs");
    project.write("d", "the user's own");
    project.sh(script).code(125);
    project.sbx(["diff"]).ok().stdout_has("(exit code 125)").stdout_has("nothing was copied back");
    assert_eq!(project.read("d"), "the user's own");
}

// --- what is shown of the living host -------------------------------------------------------------------------------------

#[test]
fn a_mount_that_changes_under_way_is_no_base_for_a_result() {
    need!(Sandbox);
    let project = Project::new()
        .config("[[mount]]\nsource = 'm'\ntarget = '/m'\n[[scratch]]\nname = 's'\ntarget = '/s'")
        .file("m/tool", "one");
    let script =
        "cat /m/tool; if [ -e /s/go ]; then exit; fi; echo; echo ready; while ! [ -e /s/go ]; do sleep 0.05; done";
    let mut live = project.sh(script).start();
    live.wait_for_line("ready");
    project.write("m/tool", "two");
    fs::write(project.beside("cache").join(kept(&project)).join("go"), "").expect("it may go on");
    live.end()
        .code(0)
        .stderr_has("warning: the result is not kept: what is mounted at /m changed while the command ran");
    // What it saw was neither; now it is the second.
    project.sh(script).ok().miss().stdout("two");
    project.sh(script).ok().hit().stdout("two");
    project.write("m/tool", "one");
    project.sh(script).ok().miss().stdout("one");
}

#[test]
fn diff_after_a_hit_tells_of_the_run_that_computed_it() {
    need!(Sandbox);
    let project = Project::new().config("outputs = ['o']");
    let script = "echo 1 > o; echo 2 > undeclared";
    project.sh(script).ok();
    let first = project.sbx(["diff"]).ok().stdout_has("/src/undeclared").stdout_lacks("replayed");
    let id = first.stdout.split_whitespace().nth(1).expect("an id").to_owned();
    project.sh(script).ok().hit();
    project.sbx(["diff"]).ok().stdout_has("/src/undeclared").stdout_has(&format!("replayed from run {id}"));
    let other = Project::new().config("outputs = ['o']");
    other.sh(script).env("SBX_CACHE_DIR", project.beside("cache")).ok().hit();
    let diff = other.sbx(["diff"]).env("SBX_CACHE_DIR", project.beside("cache")).ok();
    diff.stdout_has("undeclared: not known").stdout_lacks("/src/undeclared");
}

// --- many at once ---------------------------------------------------------------------------------------------------------------

#[test]
fn eight_runs_of_one_action_compute_it_once() {
    need!(Sandbox);
    let project = project();
    let others: Vec<Project> = (0..7).map(|_| self::project()).collect();
    let script = format!("sleep 1; {MAKE}; date +%N");
    let cache = project.beside("cache");
    let lives: Vec<_> = std::iter::once(&project)
        .chain(&others)
        .map(|project| project.sh(&script).env("SBX_CACHE_DIR", &cache).start())
        .collect();
    let ended: Vec<_> = lives.into_iter().map(|live| live.end().code(0)).collect();
    let computed = ended.iter().filter(|ended| !ended.stderr.contains("sbx: cached, ")).count();
    assert_eq!(computed, 1, "{ended:?}");
    assert!(ended.iter().any(|ended| ended.stderr.contains("sbx: waiting for another run")), "{ended:?}");
    let made = snapshot(&project.path(""));
    for (ended, other) in ended.iter().skip(1).zip(&others) {
        assert_eq!(ended.stdout, project.sh(&script).env("SBX_CACHE_DIR", &cache).ok().hit().stdout);
        assert_eq!(snapshot(&other.path("")), made);
    }
    assert!(cache.join("leads").read_dir().expect("leads").next().is_none());
}

#[test]
fn a_killed_leader_s_work_is_taken_over() {
    need!(Sandbox);
    let project = Project::new();
    let script = "echo begun; exec sleep 1";
    let mut leader = project.sh(script).start();
    leader.wait_for_line("begun");
    let waiters: Vec<_> = (0..3).map(|_| project.sh(script).start()).collect();
    let leads = project.beside("cache/leads");
    eventually("the leader leads", || leads.read_dir().is_ok_and(|mut leads| leads.next().is_some()));
    thread::sleep(Duration::from_millis(100));
    leader.signal("KILL");
    leader.end().code(137);
    let ended: Vec<_> = waiters.into_iter().map(|waiter| waiter.end().code(0).stdout("begun\n")).collect();
    let computed = ended.iter().filter(|ended| !ended.stderr.contains("sbx: cached, ")).count();
    assert_eq!(computed, 1, "{ended:?}");
}

#[test]
fn those_who_waited_for_a_failure_run_all_at_once() {
    need!(Sandbox);
    let project = Project::new().config("[[scratch]]\nname = 's'\ntarget = '/s'");
    // The second and third meet inside: each waits for the other's file. One after the other they would never end.
    let script = "if ! [ -e /s/first ]; then touch /s/first; echo begun; \
                  while ! [ -e /s/go ]; do sleep 0.05; done; exit 1; fi; \
                  n=$(cat /proc/sys/kernel/random/uuid); touch /s/met-$n; \
                  while [ $(ls /s | grep -c met-) -lt 2 ]; do sleep 0.05; done; exit 2";
    let mut leader = project.sh(script).start();
    leader.wait_for_line("begun");
    let waiters: Vec<_> = (0..2)
        .map(|_| {
            let mut command = Command::new(sbx());
            command.args(["run", "--", "sh", "-c", script]).current_dir(project.path("")).env_clear();
            command.env("PATH", "/usr/bin:/bin").env("SBX_CACHE_DIR", project.beside("cache")).stdin(Stdio::null());
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("sbx starts");
            let mut stderr = child.stderr.take().expect("a pipe");
            let mut line = [0; 12];
            stderr.read_exact(&mut line).expect("it says that it waits");
            assert_eq!(&line, b"sbx: waiting");
            child
        })
        .collect();
    fs::write(project.beside("cache").join(kept(&project)).join("go"), "").expect("the leader may go");
    leader.end().code(1);
    for mut waiter in waiters {
        assert_eq!(waiter.wait().expect("it ends").code(), Some(2));
    }
}

/// Where the project's kept scratch directory `s` lies in the store.
fn kept(project: &Project) -> String {
    let mut projects = project.beside("cache/kept").read_dir().expect("kept scratch directories");
    let name = projects.next().expect("one").expect("an entry").file_name().into_string().expect("UTF-8");
    format!("kept/{name}/s")
}

// --- damage ------------------------------------------------------------------------------------------------------------------------

/// The file in the store that holds `content`.
fn blob_of(project: &Project, content: &[u8]) -> std::path::PathBuf {
    let blobs = walkdir::WalkDir::new(project.beside("cache/blobs"));
    let mut found = blobs.into_iter().map(|entry| entry.expect("an entry").into_path());
    found.find(|path| path.is_file() && fs::read(path).is_ok_and(|bytes| bytes == content)).expect("a blob")
}

/// Changes a file and gives it its old times: it looks as if nothing had happened.
fn flip_quietly(path: &Path) {
    let before = fs::metadata(path).expect("a file");
    let mut bytes = fs::read(path).expect("a file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(path, &bytes).expect("a file of ours");
    let file = fs::File::options().write(true).open(path).expect("a file of ours");
    file.set_modified(before.modified().expect("a time")).expect("a time");
}

#[test]
fn a_damaged_or_missing_output_is_a_miss_that_is_repaired() {
    need!(Sandbox);
    let project = Project::new().config("outputs = ['out']");
    let script = "echo content > out; echo said; echo wrong >&2";
    project.sh(script).ok().miss();
    let damages: [fn(&Path); 4] = [
        flip_quietly,
        |path| fs::remove_file(path).expect("a blob"),
        |path| fs::write(path, "").expect("a blob"),
        |path| fs::write(path, "more than there was").expect("a blob"),
    ];
    for content in ["content\n", "said\n", "wrong\n"] {
        for damage in damages {
            damage(&blob_of(&project, content.as_bytes()));
            fs::remove_file(project.path("out")).expect("an output");
            let ended = project.sh(script).ok().stdout("said\n").stderr_lacks("sbx: cached");
            ended
                .stderr_has("warning: the kept result can't be replayed")
                .stderr_has("missing in the store or damaged");
            assert_eq!(project.read("out"), "content\n");
            project.sh(script).ok().hit().stdout("said\n").stderr_lacks("warning");
        }
    }
}

#[test]
fn a_damaged_result_is_a_miss_that_is_repaired() {
    need!(Sandbox);
    let project = Project::new();
    project.sh("echo said").ok().miss();
    let result = || {
        let actions = walkdir::WalkDir::new(project.beside("cache/actions"));
        let mut files = actions.into_iter().map(|entry| entry.expect("an entry").into_path());
        files.find(|path| path.is_file()).expect("a result")
    };
    let damages: [fn(&Path); 3] = [
        flip_quietly,
        |path| fs::write(path, "").expect("a result"),
        |path| {
            let bytes = fs::read(path).expect("a result");
            fs::write(path, &bytes[..bytes.len() - 1]).expect("a result");
        },
    ];
    for damage in damages {
        damage(&result());
        project.sh("echo said").ok().stdout("said\n").stderr_has("can't be read; it is computed again");
        project.sh("echo said").ok().hit().stdout("said\n");
    }
}
