//! Crash safety: sbx killed at any moment of its life, around commands that don't want to end. What the machine shows
//! before and after is compared, and what is left is named.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::life::{mark, mounts, processes};
use crate::support::{Project, copy_program, eventually, launcher, sbx};

/// How many runs are killed, and how many at a time.
const KILLS: u64 = 500;
const AT_ONCE: u64 = 8;

/// Commands that a launcher has trouble to be rid of; `$0` marks their processes.
const STUBBORN: [&str; 6] = [
    "cat a/b > c; sleep 0.01",
    "trap '' TERM INT HUP; sh -c 'sleep 60; :' $0 & sleep 0.02",
    "(sh -c 'sleep 60; :' $0 & sh -c 'sleep 60; :' $0 &) & sleep 0.01",
    "setsid sh -c 'trap \"\" TERM; sleep 60; :' $0 & sleep 0.01",
    "sh -c 'kill -STOP $$; :' $0 & sleep 0.01",
    "kill -STOP $$",
];

/// What of the machine a run could leave behind, apart from its own directory.
struct Machine {
    cgroups: BTreeSet<String>,
    networks: BTreeSet<String>,
}

impl Machine {
    fn look() -> Self {
        let mut cgroups = BTreeSet::new();
        list_directories(Path::new("/sys/fs/cgroup"), &mut cgroups);
        let processes = fs::read_dir("/proc").expect("/proc").flatten();
        let networks = processes.filter_map(|entry| fs::read_link(entry.path().join("ns/net")).ok());
        Self { cgroups, networks: networks.map(|link| link.display().to_string()).collect() }
    }

    /// What is there now and was not before.
    fn more_than(&self, before: &Self) -> BTreeSet<String> {
        let more = |now: &BTreeSet<String>, then: &BTreeSet<String>| now.difference(then).cloned().collect::<Vec<_>>();
        more(&self.cgroups, &before.cgroups).into_iter().chain(more(&self.networks, &before.networks)).collect()
    }
}

fn list_directories(below: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(below).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) && found.insert(entry.path().display().to_string()) {
            list_directories(&entry.path(), found);
        }
    }
}

/// They take turns: given a namespace by the pool, without, with rules of the network, and, where this machine can hold it to
/// them, with limits.
#[test]
fn five_hundred_kills_leave_nothing() {
    need!(Sandbox);
    let inputs = "inputs = ['a/**']\noutputs = ['c']\n";
    let project = Project::new().file("a/b", "content").config(inputs);
    let project = project.file("net.toml", format!("{inputs}[network]\nallow = ['files.example.org:443']"));
    let project = project.file("limits.toml", format!("{inputs}[limits]\nmemory = '256MiB'\npids = 100"));
    let limited = project.sbx(["--config", "limits.toml", "run", "--no-cache", "--", "true"]).end().code == 0;
    let ways = if limited { 4 } else { 3 };
    // A copy of its own, so that its processes are known by its path.
    let copy = project.beside("sbx-that-is-killed");
    copy_program(sbx(), &copy);
    let (name, mark) = (copy.to_str().expect("UTF-8"), mark());
    let run = |number: u64| {
        let way: &[&str] = match number % ways {
            0 => &["run", "--no-cache"],
            1 => &["run", "--no-cache", "--no-pool"],
            2 => &["--config", "net.toml", "run", "--no-cache"],
            _ => &["--config", "limits.toml", "run", "--no-cache"],
        };
        let script = STUBBORN[usize::try_from(number / ways).expect("a number") % STUBBORN.len()];
        project.command(&copy).args(way).args(["--", "sh", "-c", script, &mark])
    };
    run(0).ok();
    let listing = |path: &str| {
        let found = project.command("find").args([project.beside(path)]).args(["-mindepth", "1"]).ok().stdout;
        found.lines().map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let pool = |words: &[&str]| project.command(&copy).args(words).ok();
    // Once, for its lock is a file that stays.
    pool(&["pool", "start", "--size", "4"]);
    pool(&["pool", "stop"]);
    let before = (Machine::look(), listing("project"), listing("run"));
    pool(&["pool", "start", "--size", "4"]);
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= KILLS {
                        break;
                    }
                    // Multiplied by a large odd number: the offsets differ from each other, not from test to test.
                    let offset = (number + 1).wrapping_mul(6_364_136_223_846_793_005) >> 33;
                    let mut live = run(number).start_silent();
                    std::thread::sleep(Duration::from_micros(offset % 60_000));
                    live.child().kill().expect("it can be killed");
                    live.status();
                }
            });
        }
    });
    pool(&["pool", "stop"]);
    let strange: Vec<String> = Machine::look().more_than(&before.0).into_iter().collect();
    eventually("every process is gone", || processes(name).is_empty() && processes(&mark).is_empty());
    let base = project.beside("").display().to_string();
    eventually("every mount is gone", || mounts(&base).is_empty());
    // Those of other tests go away too.
    eventually(&format!("every cgroup and net namespace is gone of {strange:?}"), || {
        let now = Machine::look();
        !strange.iter().any(|one| now.cgroups.contains(one) || now.networks.contains(one))
    });
    run(0).ok();
    assert_eq!(project.read("c"), "content");
    assert_eq!(crate::many::damaged_objects(&project), Vec::<String>::new());
    assert_eq!(listing("project"), before.1, "no temporary file is left in the project");
    assert_eq!(listing("run"), before.2, "nothing is left in the runtime directory");
    assert_eq!(listing("tmp"), BTreeSet::new(), "no temporary file is left");
    assert_eq!(listing("cache/scratch"), BTreeSet::new(), "the scratch directories are swept");
    // What a killed run had under way in the store's tmp/ goes by its age, which store/tests.rs holds.
}

/// What the command leaves behind is dead when sbx ends, and the exit code is the command's, whatever state the caller is
/// in.
#[test]
fn what_does_not_want_to_end_ends_with_the_command() {
    need!(Sandbox);
    need!(Compiler);
    let project = Project::new().file("a/b", "content").config("inputs = ['a/**']");
    let odd = ["sigchld-ignored", "all-blocked", "closed=0"];
    for how in [&[][..], &odd[..]] {
        for script in &STUBBORN[..5] {
            let mark = mark();
            let run = project.command(launcher()).args(how).args(["--"]).args([sbx()]);
            run.args(["run", "--no-cache", "--", "sh", "-c", &format!("{script}; exit 7"), &mark]).code(7);
            assert_eq!(processes(&mark), Vec::<u32>::new(), "{script}");
        }
    }
}

/// No zombie: a shell that waits for its job alone has no other child when sbx has ended.
#[test]
fn no_zombie_is_left_to_the_caller() {
    need!(Sandbox);
    let project = Project::new();
    let script = "\"$0\" run --no-cache -- sh -c 'sleep 60 & exit 7'; echo $?; ps -o pid=,stat= --ppid $$ | grep -c Z";
    project.command("sh").args(["-c", script]).args([sbx()]).code(1).stdout("7\n0\n");
}
