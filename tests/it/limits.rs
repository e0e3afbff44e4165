//! Limits of memory, processes, CPU time and of what is written. Shell tools only, so that it runs on a second kernel too.
//!
//! Where the machine gives this user no cgroup, a run that asks for a limit must fail with the cause: then that is tested.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Live, Project, eventually, launcher, note, sbx};

/// A project with these limits, unless this machine can't enforce them: then that must be said, and there is none.
fn limited(limits: &str) -> Option<Project> {
    let project = Project::new().config(&format!("[limits]\n{limits}"));
    let tried = project.sh_anew("echo it ran").end();
    if tried.code == 0 {
        return Some(project);
    }
    let tried = tried.code(125).stdout("").stderr_has(" can't be enforced: cgroup v").stderr_has("hint: ");
    note(&format!("no limits here: {}", tried.stderr.trim_end()));
    project
        .sbx(["doctor"])
        .ok()
        .stdout_has("limited  memory limit")
        .stdout_has("`limits.memory` can't be enforced: cgroup v")
        .stdout_has("a run that asks for `limits.memory` fails");
    None
}

/// What the only living run of the project says of its cgroups.
fn groups(project: &Project) -> Vec<PathBuf> {
    let scratch = project.beside("cache/scratch");
    let entries = fs::read_dir(scratch).expect("scratch directories").flatten();
    let texts = entries.filter_map(|entry| fs::read_to_string(entry.path().join("run.json")).ok());
    let values: Vec<serde_json::Value> = texts.map(|text| serde_json::from_str(&text).expect("JSON")).collect();
    let groups = values[0]["groups"].as_array().expect("its cgroups");
    groups.iter().map(|path| path.as_str().expect("a path").into()).collect()
}

fn id(project: &Project) -> String {
    let shown: serde_json::Value = serde_json::from_str(&project.sbx(["ps", "--json"]).ok().stdout).expect("JSON");
    let id = shown.to_string();
    let begin = id.find("\"id\":\"").expect("a running sandbox") + 6;
    id[begin..].split('"').next().expect("an id").to_owned()
}

/// A run that stays until it is killed, once its command runs.
fn staying(project: &Project) -> Live {
    let mut live = project.sh_anew("echo up; sleep 1000").start();
    live.wait_for_line("up");
    eventually("the run tells of itself", || {
        let scratch = fs::read_dir(project.beside("cache/scratch")).into_iter().flatten().flatten();
        scratch.into_iter().any(|entry| fs::metadata(entry.path().join("run.json")).is_ok_and(|card| card.len() > 0))
    });
    live
}

/// The number of processes in each cgroup.
fn members(groups: &[PathBuf]) -> Vec<usize> {
    let count =
        |group: &PathBuf| fs::read_to_string(group.join("cgroup.procs")).expect("its processes").lines().count();
    groups.iter().map(count).collect()
}

fn read(groups: &[PathBuf], name: &str) -> Option<String> {
    groups.iter().find_map(|group| fs::read_to_string(group.join(name)).ok()).map(|text| text.trim().to_owned())
}

fn report(path: &Path) -> serde_json::Value {
    serde_json::from_str(&fs::read_to_string(path).expect("a report")).expect("JSON")
}

/// A command that takes all the memory of the machine.
#[test]
fn a_command_that_exceeds_its_memory_is_killed_and_not_kept() {
    need!(Sandbox);
    let Some(project) = limited("memory = '64MiB'") else { return };
    let hog = "head -c 300000000 /dev/zero | tail -c 299999999 >/dev/null";
    let place = project.beside("report");
    for _ in 0..2 {
        let run = project.sbx(["-v", "run", "--report"]).args([&place]).args(["--", "sh", "-c", hog]);
        run.code(137).stderr_has("sbx: killed: memory limit 64 MiB\n").stderr_has("not cached: killed: memory limit");
    }
    let report = report(&place);
    assert_eq!(report["limit"], serde_json::json!({"name": "memory", "value": 64 << 20}));
    assert_eq!((&report["exit"]["code"], &report["exit"]["reason"]), (&137.into(), &"memory-limit".into()));
    // What stays below it is left alone.
    project.sh("head -c 30000000 /dev/zero | tail -c 29999999 | wc -c").stdout("29999999\n").stderr_lacks("limit");
}

/// The time is what it is killed by then, and one line says so.
#[test]
fn of_two_limits_the_one_that_ended_the_command_is_told() {
    need!(Sandbox);
    let Some(project) = limited("memory = '64MiB'\ntime = '1s'") else { return };
    // With version 2 all of it is dead when one of it has too much, and the time is never up.
    let hog = "(head -c 300000000 /dev/zero | tail -c 299999999 >/dev/null); sleep 1000";
    let run = project.sh_anew(hog).end();
    let (memory, time) = ("sbx: killed: memory limit 64 MiB\n", "sbx: killed: time limit 1s\n");
    if run.code == 124 {
        run.stderr_has(time).stderr_lacks(memory);
    } else {
        run.code(137).stderr_has(memory).stderr_lacks(time);
    }
}

/// A cgroup of version 1 that has less CPU time than the run asks for: the kernel refuses the run's.
#[test]
fn a_limit_that_the_kernel_refuses_is_no_run() {
    need!(Sandbox);
    let Some(project) = limited("cpus = 1") else { return };
    let live = staying(&project);
    let groups = groups(&project);
    live.signal("TERM");
    live.end().code(143);
    let own = groups[0].parent().expect("a parent").join(format!("sbx-test-{}", std::process::id()));
    if !own.with_file_name("cpu.cfs_quota_us").exists() {
        return note("no cgroup v1 here: version 2 lets a cgroup ask for more than its parent has");
    }
    fs::create_dir(&own).expect("a cgroup");
    fs::write(own.join("cpu.cfs_quota_us"), "10000").expect("its quota");
    let into = "echo 0 >\"$0/cgroup.procs\" && exec \"$@\"";
    let run =
        project.command("sh").args(["-c", into]).args([&own]).args([sbx()]).args(["run", "--", "echo", "ran"]).end();
    let left: Vec<_> = fs::read_dir(&own).expect("it").flatten().filter(|entry| entry.path().is_dir()).collect();
    fs::remove_dir(&own).expect("an empty cgroup");
    let words = format!("sbx: error: can't hold the sandbox to 1 CPUs: can't write to {}/sbx-", own.display());
    run.code(125).stdout("").stderr_has(&words).stderr_has("/cpu.cfs_quota_us: Invalid argument");
    assert!(left.is_empty(), "{left:?}");
}

/// A fork bomb.
#[test]
fn so_many_processes_and_not_one_more() {
    need!(Sandbox);
    let Some(project) = limited("pids = 5") else { return };
    // The shell is one of the five.
    let fork = |count: u32| format!("i=0; while [ $i -lt {count} ]; do sleep 1000 & i=$((i+1)); echo $i; done");
    project.sh(&fork(4)).stdout("1\n2\n3\n4\n").stderr_lacks("limit");
    let place = project.beside("report");
    let run = project.sbx(["-v", "run", "--report"]).args([&place]).args(["--", "sh", "-c", &fork(400)]);
    let run = run.code(2).stdout("1\n2\n3\n4\n").stderr_has("sbx: limit reached: 5 processes\n");
    run.stderr_has("not cached: limit reached: 5 processes");
    assert_eq!(report(&place)["limit"], serde_json::json!({"name": "pids", "value": 5}));
    project.sh_anew("b() { b | b & }; b; sleep 1; echo end").end().stderr_has("sbx: limit reached: 5 processes\n");
}

#[test]
fn the_kernel_holds_what_was_declared_and_nothing_is_left() {
    need!(Sandbox);
    let Some(project) = limited("memory = '96MiB'\npids = 30\ncpus = 0.5") else { return };
    let live = staying(&project);
    let groups = groups(&project);
    assert_eq!(read(&groups, "pids.max").as_deref(), Some("31"));
    let memory = read(&groups, "memory.max").or_else(|| read(&groups, "memory.limit_in_bytes"));
    assert_eq!(memory.as_deref(), Some("100663296"));
    let cpu = read(&groups, "cpu.max")
        .or_else(|| Some(format!("{} {}", read(&groups, "cpu.cfs_quota_us")?, read(&groups, "cpu.cfs_period_us")?)));
    assert_eq!(cpu.as_deref(), Some("50000 100000"));
    let swap = read(&groups, "memory.swap.max").or_else(|| read(&groups, "memory.memsw.limit_in_bytes"));
    assert!(swap.is_none_or(|swap| swap == "0" || swap == "100663296"));
    live.signal("TERM");
    live.end().code(143);
    assert!(groups.iter().all(|group| !group.exists()), "{groups:?}");
}

/// A cgroup file system inside is a way out: CVE-2022-0492.
#[test]
fn the_own_cgroup_is_the_root_of_all_that_is_seen() {
    need!(Sandbox);
    let Some(project) = limited("memory = '96MiB'\npids = 30\ncpus = 0.5") else { return };
    let script = "cut -d: -f3 /proc/self/cgroup | sort -u; grep -c cgroup /proc/self/mounts; ls -d /sys 2>&1 | grep -c '^/sys'; \
                  mkdir /tmp/c; mount -t cgroup2 c /tmp/c 2>/dev/null && echo mounted; mount -t cgroup -o memory c /tmp/c 2>/dev/null \
                  && echo mounted; exit 0";
    project.sh(script).stdout("/\n0\n0\n");
}

#[test]
fn what_enters_a_sandbox_is_held_by_its_limits() {
    need!(Sandbox);
    let Some(project) = limited("memory = '96MiB'\npids = 20") else { return };
    let live = staying(&project);
    let (groups, id) = (groups(&project), id(&project));
    let before = members(&groups);
    project.sbx(["enter", &id, "--", "sh", "-c", "cut -d: -f3 /proc/self/cgroup | sort -u"]).stdout("/\n");
    let mut entered = project.sbx(["enter", &id, "--", "sh", "-c", "echo in; sleep 1000"]).start();
    entered.wait_for_line("in");
    assert!(members(&groups).iter().zip(&before).all(|(now, before)| now > before));
    let forks = "i=0; while [ $i -lt 40 ]; do sleep 1000 & i=$((i+1)); done";
    project.sbx(["enter", &id, "--", "sh", "-c", forks]).code(2);
    live.signal("KILL");
    live.status();
    entered.end().code(137);
    eventually("the cgroups are gone", || groups.iter().all(|group| !group.exists()));
}

#[test]
fn a_killed_sbx_leaves_no_cgroup() {
    need!(Sandbox);
    let Some(project) = limited("memory = '96MiB'\npids = 20\ncpus = 1") else { return };
    for _ in 0..5 {
        let live = staying(&project);
        let groups = groups(&project);
        assert!(groups.iter().all(|group| group.exists()) && !groups.is_empty());
        live.signal("KILL");
        live.status();
        eventually("the cgroups are gone", || groups.iter().all(|group| !group.exists()));
        // It sweeps what the killed one left in the store.
        project.sh_anew("true").ok();
    }
}

/// What removes the cgroup closes its maker's descriptors first; where it may not, it must do its work all the same.
#[test]
fn a_run_that_may_close_nothing_leaves_no_cgroup() {
    need!(Sandbox);
    need!(Compiler);
    let Some(project) = limited("memory = '96MiB'\npids = 20\ncpus = 1") else { return };
    let live = staying(&project);
    let parents: Vec<PathBuf> = groups(&project).iter().map(|group| group.parent().expect("it").to_owned()).collect();
    live.signal("TERM");
    live.end().code(143);
    let place = project.beside("report");
    let run = project.command(launcher()).args(["deny=close_range:EPERM", "--"]).args([sbx()]);
    run.args(["run", "--report"]).args([&place]).args(["--", "true"]).code(125).stderr_has("close_range");
    let report = report(&place);
    let name = format!("sbx-{}", report["id"].as_str().expect("an id"));
    assert!(!parents.is_empty() && parents.iter().all(|parent| !parent.join(&name).exists()), "{name} is left");
}

#[test]
fn what_is_written_ends_at_the_disk_limit() {
    need!(Sandbox);
    let config = "[sandbox]\nscratch = 'memory'\n[limits]\ndisk = '1MiB'";
    let project = Project::new().config(config);
    for file in ["/src/file", "/tmp/file", "/dev/shm/file"] {
        let script = format!(
            "head -c 2000000 /dev/zero >{file}; stat -c %s {file}; rm {file}; head -c 900000 /dev/zero >{file}"
        );
        project.sh(&script).ok().stdout("1048576\n").stderr_has("No space left on device");
    }
    let action = |config: &str| {
        project.write("sandbox.toml", config);
        project.sbx(["hash", "--", "true"]).ok().stdout
    };
    let digests =
        [config, "[sandbox]\nscratch = 'memory'", "[sandbox]\nscratch = 'memory'\n[limits]\ndisk = '2MiB'"].map(action);
    assert!(digests[0] != digests[1] && digests[1] != digests[2] && digests[0] != digests[2], "{digests:?}");
    project.write("sandbox.toml", "[limits]\ndisk = '1MiB'");
    project
        .sh("true")
        .code(125)
        .stderr_has("`limits.disk` can't be enforced")
        .stderr_has("`sandbox.scratch = \"memory\"`");
}

#[test]
fn each_limit_tells_runs_apart() {
    need!(Sandbox);
    let Some(project) = limited("memory = '96MiB'\npids = 20\ncpus = 1") else { return };
    let others = ["", "memory = '96MiB'", "memory = '97MiB'", "pids = 20", "pids = 21", "cpus = 1", "cpus = 1.5"];
    let digests = others.map(|limits| {
        project.write("sandbox.toml", format!("[limits]\n{limits}"));
        project.sbx(["hash", "--", "true"]).ok().stdout
    });
    let different: std::collections::BTreeSet<_> = digests.iter().collect();
    assert_eq!(different.len(), others.len(), "{digests:?}");
}

#[test]
fn the_record_says_what_was_used() {
    need!(Sandbox);
    let project = Project::new();
    let place = project.beside("report");
    let command = ["--", "sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"];
    let run = project.sbx(["-v", "run", "--report"]).args([&place]).args(command);
    run.ok().stderr_has("of memory (the largest process), CPU ");
    let used = report(&place);
    assert_eq!((&used["usage"]["peak_of"], &used["limit"]), (&"largest".into(), &serde_json::Value::Null));
    assert!(used["usage"]["peak_memory"].as_u64() > Some(100_000), "{used}");
    assert!(used["usage"]["user_us"].as_u64() > Some(0), "{used}");
    // A replay uses nothing.
    project.sbx(["run", "--report"]).args([&place]).args(command).ok();
    assert_eq!(report(&place)["usage"], serde_json::Value::Null);
}
