//! The life of a run: streams, signals, exit codes, and that nothing is left when it ends.

use std::fs;
use std::io::Read;
use std::os::unix::process::ExitStatusExt as _;

use crate::support::{Live, Project, Run, eventually, kill, launcher, sbx};

/// A shell that says "ready" and then runs until a signal ends it; `trap` is run first.
fn waiting(project: &Project, trap: &str) -> Live {
    let mut live = project.sh(&format!("{trap}; echo ready; while :; do sleep 0.05; done")).start();
    live.wait_for_line("ready");
    live
}

/// `sbx run -- sh -c SCRIPT` by a caller in an odd state.
fn launched(project: &Project, how: &[&str], script: &str) -> Run {
    project.command(launcher()).args(how).args(["--"]).args([sbx()]).args(["run", "--", "sh", "-c", script])
}

// --- exit codes ----------------------------------------------------------------------------------------------------

#[test]
fn the_exit_code_is_the_command_s_own() {
    need!(Sandbox);
    let project = Project::new();
    for code in [0, 1, 42, 123, 255] {
        project.sh(&format!("exit {code}")).code(code);
    }
}

#[test]
fn a_signal_s_death_is_128_and_its_number() {
    need!(Sandbox);
    let project = Project::new();
    for (signal, code) in [("TERM", 143), ("KILL", 137), ("SEGV", 139), ("HUP", 129), ("INT", 130)] {
        project.sh(&format!("kill -{signal} $$; sleep 10")).code(code);
    }
}

#[test]
fn what_is_not_found_is_127_and_what_is_not_executable_126() {
    need!(Sandbox);
    let project = Project::new().file("data", "x").dir("d").file("d/x", "").config("inputs = ['data', 'd/**']");
    project.run(["no-such-program"]).code(127).stderr_has("no-such-program");
    project.run(["./missing"]).code(127).stderr_has("./missing");
    project.run(["./data"]).code(126).stderr_has("./data");
    project.run(["./d"]).code(126).stderr_has("./d");
}

#[test]
fn faults_of_sbx_and_of_its_use_are_125() {
    need!(Sandbox);
    let project = Project::new();
    project.sbx(["run", "--no-such-flag", "--", "true"]).code(125);
    project.sbx(["run"]).code(125);
    project.config("[sandbxo]\n").run(["true"]).code(125).stderr_has("sandbxo");
    Project::bare().run(["true"]).code(125).stderr_has("sbx init");
}

#[test]
fn the_time_limit_is_124_and_kills_what_ignores_signals() {
    need!(Sandbox);
    let project = Project::new().config("[limits]\ntime = '300ms'");
    project.sh("trap '' TERM INT HUP QUIT; while :; do sleep 1; done").code(124).stderr_has("time limit");
    project.sh("kill -STOP $$").code(124);
    project.sh("exit 3").code(3);
}

// --- streams -------------------------------------------------------------------------------------------------------

#[test]
fn streams_are_byte_exact_and_apart() {
    need!(Sandbox);
    let project = Project::new();
    project.sh("printf 'a\\0b\\r\\n\\377'; printf 'err' >&2").ok().stdout("a\0b\r\n\u{fffd}").stderr_has("err");
    project.sh("echo only >&2").stdout("").stderr_has("only\n");
    let ended = project.sbx(["-q", "run", "--", "sh", "-c", "echo only >&2"]).ok();
    assert_eq!(ended.stderr, "only\n");
}

#[test]
fn output_comes_as_it_is_written() {
    need!(Sandbox);
    let project = Project::new();
    let live = waiting(&project, ":");
    live.signal("TERM");
    live.end().code(143);
}

/// A gigabyte, every byte checked, while the peak memory of sbx stays far below it.
#[test]
fn a_gigabyte_of_output_needs_little_memory() {
    need!(Sandbox);
    need!(Compiler);
    const BYTES: u64 = 1 << 30;
    let project = Project::new().probe("");
    let mut live = project.run(["./probe", "stream", &BYTES.to_string()]).start();
    let status = format!("/proc/{}/status", live.pid());
    let mut stdout = live.child().stdout.take().expect("a pipe");
    let mut block = vec![0; 1 << 16];
    let (mut next, mut seen, mut peak) = (0_u64, 0_u64, String::new());
    while seen < BYTES {
        let chunk = u64::min(BYTES - seen, block.len() as u64);
        let block = &mut block[..usize::try_from(chunk).expect("a block")];
        stdout.read_exact(block).expect("no byte is lost");
        for word in block.chunks_exact(8) {
            assert_eq!(u64::from_le_bytes(word.try_into().expect("eight bytes")), next);
            next += 1;
        }
        seen += chunk;
        if seen == BYTES - (1 << 16) {
            peak = fs::read_to_string(&status).expect("sbx runs while its output is read");
        }
    }
    assert_eq!(stdout.read(&mut block).expect("the end"), 0);
    assert!(live.status().success());
    let line = peak.lines().find(|line| line.starts_with("VmHWM")).expect("a peak");
    let kilobytes: u64 = line.split_whitespace().nth(1).expect("a figure").parse().expect("a number");
    assert!(kilobytes < 64 << 10, "{line}");
}

#[test]
fn a_reader_that_goes_away_ends_the_run() {
    need!(Sandbox);
    let project = Project::new();
    let mut live = project.run(["yes"]).start();
    live.wait_for_line("y");
    drop(live.child().stdout.take());
    let ended = live.end();
    assert!([141, 125].contains(&ended.code), "{ended:?}");
    assert!(!ended.stderr.contains("panicked"), "{ended:?}");
}

#[test]
fn standard_input_is_passed_on_whole() {
    need!(Sandbox);
    let project = Project::new();
    let input: String = (0..200_000).map(|number| format!("{number}\n")).collect();
    project.sbx(["run", "-i", "--", "cat"]).input(input.clone()).stdout(&input);
    // What the command leaves unread is no fault.
    project.sbx(["run", "-i", "--", "head", "-n", "1"]).input(input).stdout("0\n");
}

/// A log given as standard output keeps its bytes: what the command holds is a pipe, not the caller's file.
#[test]
fn the_caller_s_file_can_not_be_truncated_from_inside() {
    need!(Sandbox);
    let project = Project::new();
    let log = project.path("log");
    fs::write(&log, "before\n").expect("a log");
    let script = "exec \"$0\" run -- sh -c 'echo inside; : > /dev/stdout; exec 3<>/dev/stdout 2>&1; echo after' >> log";
    project.command("sh").args(["-c", script]).args([sbx()]).ok();
    assert_eq!(fs::read_to_string(log).expect("the log"), "before\ninside\nafter\n");
}

// --- signals -------------------------------------------------------------------------------------------------------

#[test]
fn signals_reach_the_command() {
    need!(Sandbox);
    let project = Project::new();
    for name in ["TERM", "INT", "HUP", "QUIT"] {
        let live = waiting(&project, &format!("trap 'echo got {name}; exit 7' {name}"));
        live.signal(name);
        live.end().code(7).stdout(&format!("got {name}\n"));
    }
}

#[test]
fn an_untrapped_signal_ends_the_run() {
    need!(Sandbox);
    let project = Project::new();
    for (name, code) in [("TERM", 143), ("INT", 130), ("HUP", 129)] {
        let live = waiting(&project, ":");
        live.signal(name);
        live.end().code(code);
    }
}

#[test]
fn a_second_interrupt_kills() {
    need!(Sandbox);
    let project = Project::new();
    let mut live = waiting(&project, "trap 'echo first' INT; trap '' TERM");
    live.signal("INT");
    live.wait_for_line("first");
    live.signal("INT");
    let ended = live.end();
    assert!([130, 137].contains(&ended.code), "{ended:?}");
}

#[test]
fn a_signal_that_the_caller_ignores_stays_ignored() {
    need!(Sandbox);
    let project = Project::new();
    for name in ["HUP", "INT"] {
        let script =
            format!("trap '' {name}; \"$0\" run -- sh -c 'sleep 1; exit 9' & sleep 0.5; kill -{name} $!; wait $!");
        project.command("sh").args(["-c", &script]).args([sbx()]).code(9);
    }
}

#[test]
fn output_that_nobody_takes_does_not_keep_sbx_alive() {
    need!(Sandbox);
    let project = Project::new();
    for (name, number) in [("INT", 2), ("TERM", 15), ("HUP", 1), ("QUIT", 3)] {
        // More than every pipe and buffer on the way holds; nobody reads.
        let mut live = project.sh("echo ready; exec head -c 1000000 /dev/zero").start();
        live.wait_for_line("ready");
        // The first ends the command, if the full pipe has not kept it from starting yet; a later one ends the waiting.
        eventually("the signal ends it", || {
            live.signal(name);
            live.child().try_wait().expect("it is our child").is_some()
        });
        let status = live.status();
        assert!(status.code() == Some(128 + number) || status.signal() == Some(number), "{name}: {status:?}");
    }
}

#[test]
fn the_caller_s_signal_state_changes_nothing() {
    need!(Sandbox);
    need!(Compiler);
    let project = Project::new();
    for how in [&["sigchld-ignored"][..], &["all-blocked"], &["sigchld-ignored", "all-blocked"]] {
        launched(&project, how, "echo out; exit 5").code(5).stdout("out\n");
        launched(&project, how, "kill -TERM $$; sleep 10").code(143);
    }
}

#[test]
fn closed_standard_descriptors_change_nothing() {
    need!(Sandbox);
    need!(Compiler);
    let project = Project::new();
    launched(&project, &["closed=0"], "echo out; exit 5").code(5).stdout("out\n");
    launched(&project, &["closed=1"], "echo lost; exit 5").code(5).stdout("");
    launched(&project, &["closed=2"], "echo out; exit 5").code(5).stdout("out\n");
    launched(&project, &["closed=0", "closed=1", "closed=2"], "exit 5").code(5);
}

#[test]
fn signals_and_priorities_from_inside_reach_nothing_outside() {
    need!(Sandbox);
    let project = Project::new();
    // The shell around sbx is in the caller's process group, which kill(0) would end.
    let script = "\"$0\" run -- sh -c 'renice -n 5 -g 0 >/dev/null; kill -TERM 0; sleep 10'; echo \"code $?\"; nice";
    let mine = project.command("sh").args(["-c", "nice"]).ok().stdout;
    let run = project.command("setsid").args(["-w", "sh", "-c", script]).args([sbx()]);
    run.ok().stdout(&format!("code 143\n{mine}"));
}

// --- processes -----------------------------------------------------------------------------------------------------

#[test]
fn orphans_are_reaped() {
    need!(Sandbox);
    need!(Compiler);
    let project = Project::new().probe("");
    // By name, for an orphan that has not run yet is no zombie now and may be one later.
    let orphans = "grep -l '^Name:.probe' /proc/[0-9]*/status 2>/dev/null | wc -l";
    let script = format!(
        "./probe orphans 300; tries=0; while [ $({orphans}) != 0 ] && [ $tries -lt 1500 ]; do sleep 0.02; \
         tries=$((tries+1)); done; {orphans}"
    );
    project.sh(&script).stdout("0\n");
}

#[test]
fn daemons_end_with_the_run() {
    need!(Sandbox);
    need!(Compiler);
    let project = Project::new().probe("");
    let mark = mark();
    project.sh(&format!("./probe daemon {mark}; echo started")).stdout("started\n");
    assert_eq!(processes(&mark), Vec::<u32>::new());
}

#[test]
fn sigkill_of_sbx_leaves_nothing() {
    need!(Sandbox);
    need!(Compiler);
    let project = Project::new().probe("");
    let mark = mark();
    let script = format!("echo x > /src/left-{mark}; ./probe daemon {mark}; echo ready; sleep 100");
    let mut live = project.sh(&script).start();
    live.wait_for_line("ready");
    let pid = live.pid();
    assert!(!processes(&mark).is_empty(), "the daemon runs");
    kill("KILL", pid);
    assert_eq!(live.end().code, 137);
    eventually("every process of the run is gone", || processes(&mark).is_empty());
    let cache = project.beside("cache");
    eventually("no mount of the run is left", || mounts(cache.to_str().expect("UTF-8")).is_empty());
    project.run(["true"]).ok();
    let left = project.command("find").args([cache.as_os_str()]).args(["-name", &format!("left-{mark}")]).ok();
    assert_eq!(left.stdout, "", "the next run sweeps the scratch");
}

/// A word that no other process has in its command line.
pub(crate) fn mark() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("mark-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The processes of this machine whose command line or program contains `word`; zombies have neither.
pub(crate) fn processes(word: &str) -> Vec<u32> {
    let numbers = fs::read_dir("/proc").expect("/proc").filter_map(|entry| {
        let name = entry.expect("an entry of /proc").file_name();
        name.to_str()?.parse::<u32>().ok()
    });
    numbers
        .filter(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(word) || program.to_string_lossy().contains(word)
        })
        .collect()
}

/// The mounts that any process of this machine sees and whose line contains `word`.
pub(crate) fn mounts(word: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc") {
        let path = entry.expect("an entry of /proc").path().join("mountinfo");
        let text = fs::read_to_string(path).unwrap_or_default();
        found.extend(text.lines().filter(|line| line.contains(word)).map(str::to_owned));
    }
    found
}
