//! Running sandboxes seen from beside: `sbx ps`, `sbx ns`, `sbx enter`.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;

use serde_json::Value;

use crate::support::{Ended, Live, Project, eventually, sbx};

/// The kinds of namespaces, as /proc names them.
const KINDS: [&str; 8] = ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time"];

fn json(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
}

/// A run of `script`, which says "ready" and then lasts until somebody ends it.
fn lasting(project: &Project, script: &str) -> Live {
    let mut live = project.sh_anew(&format!("{script}\necho ready; while :; do sleep 0.05; done")).start();
    live.wait_for_line("ready");
    live
}

/// What `sbx ps --json` lists.
fn listed(project: &Project) -> Vec<Value> {
    let shown = json(&project.sbx(["ps", "--json"]).ok());
    assert_eq!(shown["version"], 1);
    shown["sandboxes"].as_array().expect("a list").clone()
}

/// The one that runs in `project`'s store.
fn only(project: &Project) -> Value {
    let mut all = listed(project);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} is a string in {value}"))
}

fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_else(|| panic!("{key} is a number in {value}"))
}

/// Ends a run by a signal to sbx.
fn stop(live: Live) {
    live.signal("TERM");
    live.end().code(143);
}

// --- ps ------------------------------------------------------------------------------------------------------------

#[test]
fn running_sandboxes_are_listed_and_those_that_ended_are_not() {
    need!(Sandbox);
    let project = Project::new().dir("sub");
    let other = Project::new().config("[task.wait]\ncommand = ['sh', '-c', 'echo ready; sleep 1000']");
    project.sbx(["ps"]).stdout("").stderr_has("no sandbox is running");
    assert!(listed(&project).is_empty());

    let first = lasting(&project, "sleep 1000 &");
    let mut second = other.sbx(["run", "wait"]).env("SBX_CACHE_DIR", project.beside("cache")).start();
    second.wait_for_line("ready");
    let shown = listed(&project);
    assert_eq!(shown.len(), 2, "{shown:?}");
    let (one, two) = (&shown[0], &shown[1]);
    assert_eq!(text(one, "project"), fs::canonicalize(project.path("")).expect("a path").to_str().expect("UTF-8"));
    assert_eq!(text(two, "project"), fs::canonicalize(other.path("")).expect("a path").to_str().expect("UTF-8"));
    assert_eq!((one["command"][0].as_str(), one["task"].as_str()), (Some("sh"), None));
    assert_eq!((two["command"][0].as_str(), two["task"].as_str()), (Some("sh"), Some("wait")));
    assert_eq!(text(one, "cwd"), "/src");
    assert_eq!(number(one, "sbx_pid"), u64::from(first.pid()));
    // PID 1, the shell, its two sleeps or one of them just between two.
    assert!((3..=4).contains(&number(one, "pids")), "{one}");
    assert!((2..=3).contains(&number(two, "pids")), "{two}");
    assert!(number(one, "memory_bytes") > 4096 && one["age_us"].is_u64(), "{one}");
    let name = |pid: u64| fs::read_to_string(format!("/proc/{pid}/comm")).expect("a process").trim().to_owned();
    assert_eq!(name(number(one, "init_pid")), "sbx-init");
    assert_eq!(name(number(one, "command_pid")), "sh");
    let table = project.sbx(["ps"]).ok();
    for part in ["ID", "PROJECT", "AGE", "MEMORY", "PIDS", "COMMAND", text(one, "id"), text(two, "id"), "sleep 1000"] {
        assert!(table.stdout.contains(part), "{part}: {table:?}");
    }
    // Another store has none of them.
    assert!(listed(&other).is_empty());

    stop(first);
    let left = only(&project);
    assert_eq!(left["id"], two["id"]);
    // Not even sbx itself can clean up after this.
    second.signal("KILL");
    second.status();
    assert!(listed(&project).is_empty());
    let scratch = || fs::read_dir(project.beside("cache/scratch")).expect("the scratch directories").count();
    assert!(scratch() > 0);
    project.run_anew(["true"]).ok();
    assert_eq!(scratch(), 0);
}

#[test]
fn a_kept_or_failed_run_leaves_nothing_that_is_listed() {
    need!(Sandbox);
    let project = Project::new();
    project.sbx(["run", "--keep", "--", "true"]).ok();
    project.run_anew(["no-such-program"]).code(127);
    project.sh_anew("exit 3").code(3);
    assert!(listed(&project).is_empty());
    for kept in fs::read_dir(project.beside("cache/kept-scratch")).expect("what was kept") {
        let kept = kept.expect("an entry").path();
        assert!(!kept.join("run.json").exists(), "{}", kept.display());
    }
}

#[test]
fn hostile_words_steer_no_terminal_and_are_valid_json() {
    need!(Sandbox);
    let project = Project::new();
    let hostile = "\u{1b}[2J\u{9b}31m\nforged line\u{202e}\r\"\\";
    let mut live = project.run_anew(["sh", "-c", "echo ready; while :; do sleep 0.05; done", hostile]).start();
    live.wait_for_line("ready");
    assert_eq!(only(&project)["command"][3].as_str(), Some(hostile));
    let table = project.sbx(["ps"]).ok();
    assert_eq!(table.stdout.lines().count(), 2, "{table:?}");
    assert!(table.stdout.chars().all(|c| c == '\n' || !c.is_control() && c != '\u{202e}'), "{table:?}");
    stop(live);
}

// --- ns ------------------------------------------------------------------------------------------------------------

fn inode(pid: u64, kind: &str) -> Option<u64> {
    fs::metadata(format!("/proc/{pid}/ns/{kind}")).ok().map(|metadata| metadata.ino())
}

/// What `sbx ns ARGS --json` shows.
fn namespaces(project: &Project, args: &[&str]) -> Value {
    let shown = json(&project.sbx(["ns", "--json"]).args(args).ok());
    assert_eq!((shown["version"].as_u64(), shown["unseen"].as_array().map(Vec::len)), (Some(1), Some(0)), "{shown}");
    shown
}

fn row<'a>(shown: &'a Value, kind: &str, inode: u64) -> &'a Value {
    let rows = shown["namespaces"].as_array().expect("a list");
    let found: Vec<_> = rows.iter().filter(|row| row["type"] == kind && row["inode"] == inode).collect();
    assert_eq!(found.len(), 1, "{kind} {inode} in {shown}");
    found[0]
}

#[test]
fn namespaces_are_those_that_the_kernel_names() {
    need!(Sandbox);
    let project = Project::new();
    let live = lasting(&project, "");
    let running = only(&project);
    let (id, command) = (text(&running, "id"), number(&running, "command_pid"));
    let shown = namespaces(&project, &[]);
    assert_eq!(shown["namespaces"].as_array().map(Vec::len), Some(KINDS.len()));
    let own = fs::metadata("/proc/self").expect("/proc").uid();
    for kind in KINDS {
        let inode = inode(command, kind).expect("the command's namespace");
        let row = row(&shown, kind, inode);
        assert_eq!(row["owner_uid"], own, "{row}");
        assert_eq!(row["host"], false, "{row}");
        assert_eq!(row["sandboxes"], serde_json::json!([id]));
        // PID 1, the shell, perhaps a sleep; PID 1 stays outside of the time namespace.
        let least = if kind == "time" { 1 } else { 2 };
        assert!((least..=least + 1).contains(&number(row, "processes")), "{row}");
    }
    // lsns(8) sees the same.
    let output = Command::new("lsns").args(["--json", "--output", "ns,type", "--task", &command.to_string()]).output();
    let output = output.expect("lsns of util-linux");
    let theirs: Value = serde_json::from_slice(&output.stdout).expect("lsns prints JSON");
    let theirs: BTreeSet<_> = theirs["namespaces"].as_array().expect("a list").iter().map(Value::to_string).collect();
    let ours = shown["namespaces"].as_array().expect("a list").iter();
    let ours: BTreeSet<_> =
        ours.map(|row| serde_json::json!({"ns": row["inode"], "type": row["type"]}).to_string()).collect();
    assert_eq!(ours, theirs);

    let table = project.sbx(["ns", id]).ok();
    for kind in KINDS {
        assert!(table.stdout.lines().any(|line| line.starts_with(kind) && line.ends_with(id)), "{kind}: {table:?}");
    }
    stop(live);
}

#[test]
fn two_sandboxes_share_what_is_the_host_s_and_nothing_else() {
    need!(Sandbox);
    let project = Project::new();
    let (one, two) = (lasting(&project, ""), lasting(&project, ""));
    let shown = namespaces(&project, &[]);
    assert_eq!(shown["namespaces"].as_array().map(Vec::len), Some(2 * KINDS.len()), "{shown}");
    assert_eq!(shown["shared"], serde_json::json!([]));
    project.sbx(["ns"]).ok().stdout_has("no two of these sandboxes share a namespace");
    // Only one of them.
    let ids: Vec<_> = listed(&project).iter().map(|running| text(running, "id").to_owned()).collect();
    let last = ids[1].rsplit('-').next().expect("a part");
    let shown = namespaces(&project, &[last]);
    assert!(shown["namespaces"].as_array().expect("a list").iter().all(|row| row["sandboxes"][0] == ids[1]));
    stop(one);
    stop(two);

    let project = project.config("[network]\nhost = true");
    let (one, two) = (lasting(&project, ""), lasting(&project, ""));
    let shown = namespaces(&project, &[]);
    let net = fs::metadata("/proc/self/ns/net").expect("/proc").ino();
    assert_eq!(shown["shared"].as_array().map(Vec::len), Some(1), "{shown}");
    let shared = &shown["shared"][0];
    assert_eq!((shared["type"].as_str(), shared["inode"].as_u64()), (Some("net"), Some(net)));
    assert_eq!((shared["host"].as_bool(), shared["sandboxes"].as_array().map(Vec::len)), (Some(true), Some(2)));
    assert_eq!(row(&shown, "net", net)["host"], true);
    project.sbx(["ns"]).ok().stdout_has(&format!("shared: net {net} (the host's) by "));
    stop(one);
    stop(two);
}

#[test]
fn what_does_not_run_is_not_found_and_what_is_meant_must_be_one() {
    need!(Sandbox);
    let project = Project::new();
    project.sbx(["ns", "nonsense"]).code(125).stderr_has("no sandbox `nonsense` is running").stderr_has("sbx ps");
    project.run_anew(["true"]).ok();
    let report = project.sbx(["diff", "--json"]).ok();
    let id = json(&report)["id"].as_str().expect("an id").to_owned();
    project.sbx(["ns", &id]).code(125).stderr_has(&format!("the run `{id}` is over")).stderr_has("sbx ps");
    let (one, two) = (lasting(&project, ""), lasting(&project, ""));
    project.sbx(["ns", "2"]).code(125).stderr_has("can be any of").stderr_has("sbx ps");
    stop(one);
    stop(two);
}

// --- enter ---------------------------------------------------------------------------------------------------------

/// `sbx enter` into the one that runs in `project`'s store.
fn enter(project: &Project, words: &[&str]) -> crate::support::Run {
    project.sbx(["enter", text(&only(project), "id"), "--"]).args(words)
}

/// How many processes the one sandbox of the store has.
fn count(project: &Project) -> u64 {
    number(&only(project), "pids")
}

#[test]
fn who_enters_sees_what_the_command_sees_and_may_no_more() {
    need!(Sandbox);
    need!(Compiler);
    let view = "
        pwd; hostname; env | sort; umask; ulimit -a; cat /proc/self/personality; cat /src/written
        for kind in user mnt pid net ipc uts cgroup time; do readlink /proc/self/ns/$kind; done
        for word in ids mounts limits signals session descriptors interfaces addresses; do echo $word; ./probe $word; done
        grep -E '^(Uid|Gid|Groups|Umask|Cap|NoNewPrivs|Seccomp|SigBlk|SigIgn|SigCgt)' /proc/self/status
        cat /proc/self/limits";
    let project = Project::new().probe("[env]\nset = { COLOUR = 'green' }\n[limits]\nopen_files = 100").dir("sub");
    let mut live = project
        .sbx(["run", "--", "sh", "-c", &format!("echo 1 > /src/written; ({view}) > /tmp/view; echo ready; sleep 1000")])
        .start();
    live.wait_for_line("ready");
    let command = enter(&project, &["cat", "/tmp/view"]).ok().stdout;
    let entered = enter(&project, &["sh", "-c", &format!("({view})")]).env("SECRET", "of the caller").ok().stdout;
    assert_eq!(entered, command);
    assert!(!entered.contains("SECRET"));
    for part in ["COLOUR=green", "/src\n", "sbx\n", "\n0022\n", "\n1\n", "CapEff:\t0000000000000000", "NoNewPrivs:\t1"]
    {
        assert!(entered.contains(part), "{part}: {entered}");
    }
    // The kernel's word from outside, and the same processes inside.
    let outside = number(&only(&project), "command_pid");
    let inside = enter(&project, &["readlink", "/proc/self/ns/net", "/proc/2/ns/net"]).ok().stdout;
    let net = inode(outside, "net").expect("the command's namespace");
    assert_eq!(inside, format!("net:[{net}]\nnet:[{net}]\n"));
    // Its parent watches over it: a child of PID 1, closed like that.
    let script = "for pid in $PPID 1; do
        for what in environ maps mem syscall; do cat /proc/$pid/$what 2> /dev/null | grep -q . && echo open $pid $what; done
        for what in fd/0 root cwd exe ns/net; do readlink /proc/$pid/$what > /dev/null && echo open $pid $what; done
        nsenter --target $pid --net true 2>&1 | grep -q denied || echo entered $pid
        done; cut -d' ' -f4 /proc/$PPID/stat; cat /proc/$PPID/comm";
    // The parent of the one that looks is a child of PID 1.
    enter(&project, &["sh", "-c", script]).env("SECRET", "of the caller").stdout("1\nsbx-init\n");
    stop(live);
}

#[test]
fn streams_and_exit_codes_are_those_of_run() {
    need!(Sandbox);
    let project = Project::new();
    let live = lasting(&project, "");
    for code in [0, 7, 255] {
        enter(&project, &["sh", "-c", &format!("exit {code}")]).code(code);
    }
    enter(&project, &["no-such-program"]).code(127).stderr_has("no-such-program");
    enter(&project, &["/etc"]).code(126).stderr_has("/etc");
    enter(&project, &["sh", "-c", "kill -KILL $$"]).code(137).stderr_lacks("is over");
    enter(&project, &["sh", "-c", "printf 'a\\0b'; printf err >&2"]).stdout("a\0b").stderr_has("err");
    enter(&project, &["cat"]).input("through and through").stdout("through and through");
    // Without a command it is a shell.
    enter(&project, &[]).input("echo $((6 * 7)); exit 5").code(5).stdout("42\n");
    // Signals are passed on, and one that ends the command ends sbx as it would have.
    for (name, code) in [("TERM", 143), ("HUP", 129), ("INT", 130)] {
        let mut guest = enter(&project, &["sh", "-c", "echo ready; while :; do sleep 0.05; done"]).start();
        guest.wait_for_line("ready");
        guest.signal(name);
        guest.end().code(code);
    }
    let mut stubborn = enter(&project, &["sh", "-c", "trap '' INT; echo ready; while :; do sleep 0.05; done"]).start();
    stubborn.wait_for_line("ready");
    stubborn.signal("INT");
    stubborn.signal("INT");
    eventually("the second interrupt ends it", || {
        stubborn.signal("INT");
        stubborn.child().try_wait().expect("a child").is_some()
    });
    eventually("only the run's own processes are left", || count(&project) <= 3);
    stop(live);
}

#[test]
fn what_is_written_inside_is_the_run_s() {
    need!(Sandbox);
    let project = Project::new().config("outputs = ['out']");
    let mut live = project.sh_anew("echo ready; until test -e /tmp/go; do sleep 0.02; done; cat out").start();
    live.wait_for_line("ready");
    enter(&project, &["sh", "-c", "echo entered > out && touch /tmp/go"]).ok();
    live.end().code(0).stdout("entered\n");
    assert_eq!(project.read("out"), "entered\n");
}

#[test]
fn what_was_entered_ends_with_what_entered_it() {
    need!(Sandbox);
    let project = Project::new();
    let live = lasting(&project, "");
    let script = "sleep 1000 & setsid sleep 1000 & (setsid sh -c 'trap \"\" TERM HUP; sleep 1000' &) ; echo started";
    enter(&project, &["sh", "-c", script]).ok().stdout_has("started");
    // PID 1, the shell, perhaps a sleep; what watched over the rest may still be on its way out.
    eventually("nothing of what was entered is left", || count(&project) <= 3);
    let mut guest = enter(&project, &["sh", "-c", &format!("{script}; sleep 1000")]).start();
    guest.wait_for_line("started");
    assert!(count(&project) > 5, "{}", only(&project));
    guest.signal("KILL");
    guest.status();
    eventually("nothing of a killed `sbx enter` is left", || count(&project) <= 3);
    stop(live);
}

#[test]
fn a_run_ends_though_what_entered_it_is_stopped() {
    need!(Sandbox);
    let project = Project::new();
    let mut live = lasting(&project, "");
    let id = text(&only(&project), "id").to_owned();
    let mut guests: Vec<_> = (0..3)
        .map(|_| enter(&project, &["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"]).start())
        .collect();
    for guest in &mut guests {
        guest.wait_for_line("ready");
        guest.signal("STOP");
    }
    // The run has its usual end, although none of those that entered can reap anything.
    live.signal("TERM");
    eventually("the run ends", || live.child().try_wait().expect("a child").is_some());
    live.end().code(143);
    assert!(listed(&project).is_empty());
    for guest in guests {
        guest.signal("CONT");
        guest.end().code(137).stderr_has(&format!("the run {id} is over"));
    }
    project.sbx(["enter", &id, "--", "true"]).code(125).stderr_has("is over").stderr_has("sbx ps");
    project.sbx(["enter", "nonsense"]).code(125).stderr_has("no sandbox `nonsense` is running").stderr_has("sbx ps");
}

#[test]
fn a_sandbox_on_the_host_s_network_can_be_entered() {
    need!(Sandbox);
    let project = Project::new().config("[network]\nhost = true\n[sandbox]\nuid = 0\ngid = 0\nscratch = 'memory'");
    let live = lasting(&project, "");
    let net = fs::metadata("/proc/self/ns/net").expect("/proc").ino();
    let script = "readlink /proc/self/ns/net; id -u; grep CapEff /proc/self/status";
    enter(&project, &["sh", "-c", script]).stdout(&format!("net:[{net}]\n0\nCapEff:\t0000000000000000\n"));
    stop(live);
}

#[test]
fn another_group_than_the_sandbox_s_is_refused() {
    need!(Sandbox);
    need!(Root);
    let project = Project::new();
    let live = lasting(&project, "");
    let id = text(&only(&project), "id").to_owned();
    let run = project.command("setpriv").args(["--regid", "61234", "--clear-groups", "--"]).args([sbx()]);
    run.args(["enter", &id, "--", "true"]).code(125).stderr_has("runs with the group 0").stderr_has("newgrp");
    stop(live);
}

#[test]
fn on_a_terminal_it_has_one_of_its_own() {
    need!(Sandbox);
    let project = Project::new();
    // What stands at the well-known name is no matter.
    let live = lasting(&project, "rm -f /dev/ptmx; mkfifo /dev/ptmx");
    let typed =
        "tty; test -t 0 && test -t 1 && test -t 2 && echo all; echo $TERM; set -m; sleep 100 & kill %1; exit 7\n";
    let command = format!("{} enter {}", sbx().display(), text(&only(&project), "id"));
    let run = project.command("script").args(["-qec", &command, "/dev/null"]).env("TERM", "dumb").input(typed);
    run.code(7).stdout_has("/dev/pts/0").stdout_has("all\r\n").stdout_has("dumb\r\n");
    stop(live);
}
