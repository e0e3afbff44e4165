//! The pool of ready net namespaces: what it hands out, what it refuses, and that no run depends on it.
//!
//! Longer than 500 lines: each kind of broken pool is a test of its own, with the impostors that they share.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use sbx::pool::Item;
use sbx::pool::maker::Making;
use sbx::pool::protocol::Answer;
use sbx::sys::clone::{CloneFlags, exit_now, wait_for};
use sbx::sys::door::{Door, clone3_through};
use sbx::sys::{fdpass, local, mount};
use serde_json::Value;

use crate::life::{mounts, processes};
use crate::servers;
use crate::support::{Ended, Project, Random, Run, copy_program, eventually, kill, netprobe, root, sbx};

/// A pool of the project's own runtime directory, which ends with the test.
struct Pool<'a> {
    project: &'a Project,
}

impl<'a> Pool<'a> {
    fn start(project: &'a Project, size: u32) -> Self {
        project.sbx(["pool", "start", "--size", &size.to_string()]).ok();
        let pool = Self { project };
        pool.filled();
        pool
    }

    fn filled(&self) {
        eventually("the pool is full", || {
            status(self.project)["pool"]["ready"] == status(self.project)["pool"]["size"]
        });
    }

    fn figure(&self, name: &str) -> u64 {
        status(self.project)["pool"][name].as_u64().unwrap_or_else(|| panic!("{name}: {}", status(self.project)))
    }

    fn pid(&self) -> u32 {
        u32::try_from(self.figure("pid")).expect("a process")
    }
}

impl Drop for Pool<'_> {
    fn drop(&mut self) {
        self.project.sbx(["pool", "stop"]).end();
    }
}

fn status(project: &Project) -> Value {
    let ended = project.sbx(["pool", "status", "--json"]).end();
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
}

/// Where the net namespace of this run came from, by its record.
fn origin(project: &Project, run: Run) -> String {
    let ended = run.ok();
    let record: Value = serde_json::from_str(&ended.stderr).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
    assert!(project.has("sandbox.toml"));
    record["net_namespace"].as_str().expect("a word").to_owned()
}

/// A run whose record is all that comes on standard error.
fn reporting(project: &Project, flags: &[&str], command: &[&str]) -> Run {
    let script = "exec 3>&2 2>/dev/null; exec \"$@\"";
    let base = ["-c", script, "sh", sbx().to_str().expect("UTF-8"), "run", "--no-cache", "-q", "--report", "fd:3"]
        .map(str::to_owned);
    let rest = flags.iter().chain(&["--"]).chain(command).map(|word| (*word).to_owned());
    project.command("sh").args(base).args(rest)
}

fn origin_of_true(project: &Project) -> String {
    origin(project, reporting(project, &[], &["true"]))
}

/// What a command says in a namespace of the pool's. On a busy machine a run may have gone on without the pool's answer; it
/// is made again then.
fn from_pool(project: &Project, command: &[&str]) -> Ended {
    let mut last = None;
    eventually("a run takes a namespace of the pool's", || {
        let ended = project.sbx(["run", "--no-cache", "-v", "--"]).args(command).end();
        let pooled = ended.stderr.contains("net namespace pool\n");
        last = Some(ended);
        pooled
    });
    last.expect("a run")
}

fn serves(project: &Project) {
    from_pool(project, &["true"]);
}

fn with_netprobe(project: Project, config: &str) -> Project {
    fs::copy(netprobe(), project.path("netprobe")).expect("the probe is copied");
    project.config(&format!("inputs = ['netprobe']\n{config}"))
}

// --- the commands --------------------------------------------------------------------------------------------------

#[test]
fn a_pool_is_started_asked_warmed_and_stopped() {
    need!(Sandbox);
    let project = Project::new();
    project.sbx(["pool", "status"]).code(1).stdout("no pool is running\n");
    project.sbx(["pool", "status", "--json"]).code(1).stdout_has("\"running\": false");
    project.sbx(["pool", "stop"]).ok().stderr_has("no pool is running");
    project.sbx(["pool", "warm", "2"]).code(125).stderr_has("`sbx pool start` starts one");

    let pool = Pool::start(&project, 3);
    let pid = pool.pid();
    project.sbx(["pool", "status"]).ok().stdout_has("3 of 3").stdout_has("it ends after 30m");
    project.sbx(["pool", "start", "--size", "3"]).ok().stderr_has("running already").stderr_lacks("warm");
    project.sbx(["pool", "start", "--size", "5"]).ok().stderr_has("it keeps 3, not 5: `sbx pool warm 5`");
    project.sbx(["pool", "warm", "5"]).ok().stderr_has("5 of 5 net namespaces are ready");
    project.sbx(["pool", "warm", "2"]).ok().stderr_has("of 2 net namespaces are ready");
    eventually("the surplus is gone", || pool.figure("ready") == 2);
    assert_eq!(pool.pid(), pid);

    let directory = project.beside("run/sbx");
    assert_eq!(directory.metadata().expect("the directory").mode() & 0o7777, 0o700);
    assert_eq!(directory.join("pool.sock").metadata().expect("the socket").mode() & 0o7777, 0o700);
    project.sbx(["pool", "stop"]).ok().stderr_has("the pool has ended");
    // Its socket has ended; on a busy machine the process takes a moment longer.
    eventually("its process is gone", || !Path::new(&format!("/proc/{pid}")).exists() || is_zombie(pid));
    assert!(!directory.join("pool.sock").exists());
    project.sbx(["pool", "status"]).code(1);
}

fn is_zombie(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
}

#[test]
fn a_pool_has_left_its_caller() {
    need!(Sandbox);
    let project = Project::new();
    // Everything that a caller may have open is closed, or a pipe to it would never end.
    let script = "exec 9</etc; \"$0\" pool start --size 1 | cat";
    project.command("sh").args(["-c", script]).args([sbx()]).ok();
    let pool = Pool { project: &project };
    let pid = pool.pid();
    assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).expect("a directory"), Path::new("/"));
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    let fields: Vec<_> = stat.rsplit_once(") ").expect("a name").1.split(' ').collect();
    assert_eq!(
        (fields[3], fields[4]),
        (pid.to_string().as_str(), "0"),
        "a session of its own, and no terminal: {stat}"
    );
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors") {
        let entry = entry.expect("an entry");
        let target = fs::read_link(entry.path()).unwrap_or_default();
        let number: u32 = entry.file_name().to_str().expect("digits").parse().expect("a number");
        assert_eq!(number < 3, target == Path::new("/dev/null"), "{number}: {}", target.display());
        assert!(!target.starts_with("/etc"), "{number}: {}", target.display());
    }
}

#[test]
fn a_pool_ends_when_nobody_asks_and_by_a_signal() {
    need!(Sandbox);
    let project = Project::new();
    let gone = || !project.beside("run/sbx/pool.sock").exists();
    project.sbx(["pool", "start", "--size", "1", "--idle", "50ms"]).ok();
    eventually("the idle pool ends", gone);
    for signal in ["TERM", "INT"] {
        project.sbx(["pool", "start", "--size", "1", "--idle", "never"]).ok();
        let pool = Pool { project: &project };
        project.sbx(["pool", "status"]).ok().stdout_has("it stays");
        kill(signal, pool.pid());
        eventually("the pool ends by a signal", gone);
    }
    let foreground = project.sbx(["pool", "start", "--size", "1", "--foreground"]).start();
    eventually("the pool is there", || status(&project)["running"] == true);
    // Stopped when dropped: not before it has ended by the signal.
    let pool = Pool { project: &project };
    assert_eq!(pool.pid(), foreground.pid());
    foreground.signal("TERM");
    foreground.end().code(0);
}

#[test]
fn of_many_starts_at_once_one_makes_the_pool() {
    need!(Sandbox);
    let project = Project::new();
    let starts: Vec<_> = (0..8).map(|_| project.sbx(["pool", "start", "--size", "2"]).start()).collect();
    let said: Vec<_> = starts.into_iter().map(|start| start.end().code(0).stderr).collect();
    let pool = Pool { project: &project };
    let pid = format!("process {}", pool.pid());
    assert!(said.iter().all(|text| text.contains(&pid)), "{pid}: {said:?}");
    assert_eq!(said.iter().filter(|text| !text.contains("already")).count(), 1, "{said:?}");
}

#[test]
fn without_a_runtime_directory_the_pool_is_in_the_cache() {
    need!(Sandbox);
    let project = Project::new();
    let elsewhere = project.beside("cache").join("run/pool.sock");
    // Unset, relative, not there, and open to others.
    fs::create_dir(project.beside("open")).expect("a directory");
    fs::set_permissions(project.beside("open"), fs::Permissions::from_mode(0o777)).expect("chmod");
    let open = project.beside("open").to_str().expect("UTF-8").to_owned();
    for value in ["", "relative", "/nonexistent/run", &open] {
        project.sbx(["pool", "start", "--size", "1"]).env("XDG_RUNTIME_DIR", value).ok();
        assert!(elsewhere.exists(), "{value}");
        eventually("a run takes a namespace of the pool's", || {
            let run = reporting(&project, &[], &["true"]).env("XDG_RUNTIME_DIR", value);
            origin(&project, run) == "pool"
        });
        project.sbx(["pool", "stop"]).env("XDG_RUNTIME_DIR", value).ok().stderr_has("has ended");
    }
}

// --- runs ----------------------------------------------------------------------------------------------------------

#[test]
fn a_run_takes_a_namespace_that_nobody_had() {
    need!(Sandbox);
    let project = Project::new().config("[task.host]\ncommand = ['true']\nnetwork = { host = true }");
    let pool = Pool::start(&project, 3);
    // All at once: the kernel gives the numbers of those that are gone away again.
    let script = r#"names=$(readlink /proc/self/ns/net /proc/self/ns/user); trap 'echo "$names"; exit 0' TERM
        echo up; while :; do sleep 0.1; done"#;
    let mut runs: Vec<_> = (0..6).map(|_| project.sh_anew(script).start()).collect();
    runs.iter_mut().for_each(|run| run.wait_for_line("up"));
    runs.iter().for_each(|run| run.signal("TERM"));
    let seen: BTreeSet<_> = runs.into_iter().map(|run| run.end().code(0).stdout).collect();
    assert_eq!(seen.len(), 6, "handed out twice: {seen:?}");
    assert!(pool.figure("handed_out") > 0);
    eventually("the table of times says so", || {
        project.sbx(["run", "--no-cache", "--timing", "true"]).ok().stderr.contains("net namespace: pool\n")
    });
    eventually("the record says so", || origin_of_true(&project) == "pool");
    let before = pool.figure("handed_out");
    assert_eq!(origin(&project, reporting(&project, &["--no-pool"], &["true"])), "fresh");
    project.sbx(["run", "--no-cache", "--no-pool", "--timing", "true"]).ok().stderr_has("net namespace: fresh");
    project.sbx(["run", "--no-cache", "--timing", "host"]).ok().stderr_has("net namespace: host");
    assert_eq!(pool.figure("handed_out"), before);
}

#[test]
fn the_identity_of_a_run_does_not_depend_on_the_pool() {
    need!(Sandbox);
    let project = Project::new();
    let _pool = Pool::start(&project, 2);
    let record = |flags: &[&str]| -> Value {
        let ended = reporting(&project, flags, &["true"]).ok();
        serde_json::from_str(&ended.stderr).expect("a record")
    };
    let (mut pooled, fresh) = (Value::Null, record(&["--no-pool"]));
    eventually("a run takes a namespace of the pool's", || {
        pooled = record(&[]);
        pooled["net_namespace"] == "pool"
    });
    assert_eq!(fresh["net_namespace"], "fresh");
    for field in ["action", "enforced", "network"] {
        assert_eq!(pooled[field], fresh[field], "{field}");
    }
}

#[test]
fn from_inside_a_pooled_and_a_fresh_namespace_are_the_same() {
    need!(Sandbox);
    need!(Compiler);
    // Left out: inode numbers, the kernel's hashed addresses of its own objects, and what it counts for the whole machine.
    let script = r#"
        find /proc/net/ /proc/sys/net /proc/sys/user -type f | sort | while read -r file; do
            echo "== $file"
            case $file in
                /proc/net/softnet_stat | /proc/net/stat/*) ;;
                /proc/net/sockstat*) sed -E 's/ (orphan|alloc|mem|memory) [0-9]+//g' "$file" ;;
                /proc/net/protocols) sed -E 's/^([^ ]+ +[0-9]+ +[0-9]+) +-?[0-9]+/\1/' "$file" ;;
                /proc/net/netlink) sed -E 's/^[0-9a-f]+ +//; s/ +[0-9]+ *$//' "$file" ;;
                *) cat "$file" 2>&1 ;;
            esac
        done
        cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups
        grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp)' /proc/self/status
        for name in /proc/self/ns/*; do readlink "$name" | sed 's/:.*//'; done
        id; ./netprobe dump; ./netprobe traces"#;
    let project = with_netprobe(Project::new(), "");
    let _pool = Pool::start(&project, 2);
    let pooled = from_pool(&project, &["sh", "-c", script]).code(0).stdout;
    let fresh = project.sbx(["run", "--no-cache", "--no-pool", "--", "sh", "-c", script]).ok().stdout;
    assert!(pooled.lines().count() > 500 && pooled.contains("lo 127.0.0.1 flags 49"), "{pooled}");
    for (pooled, fresh) in pooled.lines().zip(fresh.lines()) {
        assert_eq!(pooled, fresh);
    }
    assert_eq!(pooled.lines().count(), fresh.lines().count());
}

#[test]
fn the_rules_of_the_network_hold_in_a_pooled_namespace() {
    need!(Sandbox);
    need!(Program("python3"));
    let server = servers::lines("127.0.0.1");
    let port = server.port;
    let config = format!("[network]\nallow = ['server.test:{port}']\nhosts = {{ 'server.test' = '127.0.0.1' }}");
    let project = Project::new().config(&config);
    let _pool = Pool::start(&project, 2);
    let script = format!(
        "exec 3<>/dev/tcp/server.test/{port} && printf 'echo\\nhello' >&3 && head -c5 <&3
        (exec 3<>/dev/tcp/server.test/1) 2>/dev/null || echo ' refused'"
    );
    let ended = from_pool(&project, &["bash", "-c", &script]).code(0).stdout("hello refused\n");
    assert!(ended.stderr.contains("sbx: blocked server.test:1: "), "{ended:?}");
}

/// Row 28 of the table of threats.
#[test]
fn nothing_of_one_run_is_in_the_next() {
    need!(Sandbox);
    need!(Compiler);
    let none = "listening 0, waiting 0, tcp 0, tcp6 0, udp 0, unix 0\n";
    for uid in [1000, 0] {
        let project = with_netprobe(Project::new(), &format!("[sandbox]\nuid = {uid}"));
        let pool = Pool::start(&project, 1);
        from_pool(&project, &["sh", "-c", "./netprobe litter; ./netprobe traces"]).code(0).stdout_has("waiting 1");
        // What would need privilege is refused, also to uid 0.
        project.run_anew(["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]).end().stderr_has("sh:");
        for _ in 0..3 {
            from_pool(&project, &["./netprobe", "traces"]).stdout(none);
        }
        // And while another run is in its namespace.
        pool.filled();
        let mut live = project.run_anew(["./netprobe", "litter", "stay"]).start();
        live.wait_for_line("littered");
        from_pool(&project, &["./netprobe", "traces"]).stdout(none);
        live.signal("TERM");
        live.end().code(143);
    }
}

#[test]
fn nothing_of_the_pool_is_in_reach_from_inside() {
    need!(Sandbox);
    need!(Compiler);
    let project = Project::new();
    let run = project.beside("run").to_str().expect("UTF-8").to_owned();
    let project = with_netprobe(
        project,
        &format!("[[mount]]\nsource = '{run}'\ntarget = '/run/outside'\n[task.x]\ncommand = ['x']"),
    );
    let pool = Pool::start(&project, 4);
    let refused = pool.figure("refused");
    // The shell's own descriptors, and the one that ls reads the directory with.
    from_pool(&project, &["sh", "-c", "ls -l /proc/self/fd | grep -c -- '->'"]).stdout("4\n");
    // PID 1 keeps two, whose targets nobody inside may know: the way to sbx, and the one at which signals arrive.
    let script = "set -- $(ls /proc/1/fd 2>/dev/null || echo a b); echo $#; readlink /proc/1/fd/*";
    from_pool(&project, &["sh", "-c", script]).stdout("2\n");
    // Whoever mounts the runtime directory shows the socket; the pool does not answer those inside.
    let asked = project.run_anew(["./netprobe", "ask", "/run/outside/sbx/pool.sock"]).end();
    assert!(["0 bytes\n", "recv: ECONNRESET\n", "send: EPIPE\n"].contains(&asked.stdout.as_str()), "{asked:?}");
    assert!(pool.figure("refused") > refused);
}

#[test]
fn a_sandbox_from_the_pool_dies_with_sbx() {
    need!(Sandbox);
    let project = Project::new();
    let pool = Pool::start(&project, 4);
    let word = "98765.125";
    for _ in 0..4 {
        pool.filled();
        let mut live = project.sh_anew(&format!("echo up; exec sleep {word}")).start();
        live.wait_for_line("up");
        live.child().kill().expect("it can be killed");
        live.status();
        eventually("the command is gone", || processes(word).is_empty());
    }
    // And at any moment of the launch.
    let copy = project.beside("sbx-that-is-killed");
    copy_program(sbx(), &copy);
    let mut random = Random::new(99);
    for _ in 0..60 {
        let mut live = project.command(&copy).args(["run", "--no-cache", "--", "sleep", word]).start_silent();
        std::thread::sleep(Duration::from_micros(random.below(15_000) as u64));
        live.child().kill().expect("it can be killed");
        live.status();
    }
    eventually("every process is gone", || {
        processes(copy.to_str().expect("UTF-8")).is_empty() && processes(word).is_empty()
    });
    eventually("every mount is gone", || mounts(project.beside("cache").to_str().expect("UTF-8")).is_empty());
    pool.filled();
    serves(&project);
}

// --- pools that are none -------------------------------------------------------------------------------------------

/// The directory of the socket, as a pool makes it.
fn directory(project: &Project) -> File {
    let path = project.beside("run/sbx");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).expect("a directory");
    local::open_directory(&path).expect("the directory")
}

/// Something that listens where the pool would, and treats whoever connects as `act` says.
struct Impostor {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Impostor {
    fn new(project: &Project, act: impl Fn(&OwnedFd) + Send + 'static) -> Self {
        let listener = local::listen_in(&directory(project), "pool.sock").expect("it listens");
        let over = Arc::new(AtomicBool::new(false));
        let until = over.clone();
        let thread = std::thread::spawn(move || {
            let mut held = Vec::new();
            while !until.load(Ordering::Relaxed) {
                match local::accept(listener.as_fd()).expect("accept") {
                    Some(client) => {
                        act(&client);
                        held.push(client);
                    }
                    None => std::thread::sleep(Duration::from_micros(200)),
                }
            }
        });
        Self { over, thread: Some(thread) }
    }

    fn saying(project: &Project, bytes: Vec<u8>) -> Self {
        Self::new(project, move |client| drop_sent(fdpass::send(client.as_fd(), &bytes, &[])))
    }
}

/// The other end may be gone; that is its affair.
fn drop_sent<T>(_: T) {}

impl Drop for Impostor {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.thread.take().expect("a thread").join().expect("the impostor ends well");
    }
}

/// A run succeeds with a namespace of its own making, and `-v` says why.
fn falls_back(project: &Project, why: &str) {
    assert_eq!(origin_of_true(project), "fresh");
    eventually(why, || {
        let ended = project.sbx(["run", "--no-cache", "-v", "true"]).ok();
        assert!(ended.stderr.contains("net namespace fresh ("), "{}", ended.stderr);
        ended.stderr.contains(&format!("net namespace fresh ({why})"))
    });
    // Nothing is said of it otherwise.
    assert_eq!(project.sbx(["run", "--no-cache", "true"]).ok().stderr, "");
}

#[test]
fn no_pool_and_a_dead_one_are_no_hindrance() {
    need!(Sandbox);
    let project = Project::new();
    falls_back(&project, "no pool");
    // A socket that nobody listens at.
    drop(local::listen_in(&directory(&project), "pool.sock").expect("it listens"));
    falls_back(&project, "no pool");
    // A new pool takes its place.
    let pool = Pool::start(&project, 1);
    serves(&project);
    kill("KILL", pool.pid());
    eventually("it is dead", || status(&project)["running"] == false);
    assert!(project.beside("run/sbx/pool.sock").exists());
    falls_back(&project, "no pool");
    drop(pool);
    let _again = Pool::start(&project, 1);
    serves(&project);
}

#[test]
fn a_pool_that_does_not_answer_is_no_hindrance() {
    need!(Sandbox);
    let project = Project::new();
    let pool = Pool::start(&project, 1);
    let pid = pool.pid();
    kill("STOP", pid);
    falls_back(&project, "the pool does not answer");
    project.sbx(["pool", "status"]).code(125).stderr_has("does not answer");
    project.sbx(["pool", "start"]).code(125).stderr_has("another pool of this user does not answer");
    kill("CONT", pid);
    // What was asked of it meanwhile is lost, no more.
    eventually("it is itself again", || status(&project)["running"] == true);
    pool.filled();
    serves(&project);
}

#[test]
fn an_empty_or_strange_pool_is_no_hindrance() {
    need!(Sandbox);
    let other = |bytes: &[u8], place: usize, byte: u8| {
        let mut bytes = bytes.to_vec();
        bytes[place] = byte;
        bytes
    };
    let empty = Answer::Empty.encode();
    let strange = "the pool speaks another language";
    for (bytes, why) in [
        (empty.to_vec(), "the pool is empty"),
        (Answer::OtherVersion.encode().to_vec(), "the pool is of another version"),
        (other(&empty, 4, 0), "the pool is of another version"),
        (other(&empty, 6, 77), strange),
        (other(&empty, 0, b'x'), strange),
        (vec![b'x'], strange),
        (vec![0xff; 4000], strange),
        (Answer::Stopping.encode().to_vec(), strange),
        (Answer::Item.encode().to_vec(), strange),
    ] {
        let project = Project::new();
        let _impostor = Impostor::saying(&project, bytes);
        falls_back(&project, why);
    }
    let project = Project::new();
    let _impostor = Impostor::new(&project, |_| ());
    falls_back(&project, "the pool does not answer");
    project.sbx(["pool", "stop"]).code(125).stderr_has("does not answer");
    let project = Project::new();
    let _impostor = Impostor::saying(&project, vec![1, 2, 3]);
    project.sbx(["pool", "status"]).code(125).stderr_has("speaks another language");
}

/// A pair as the pool makes it.
fn pair() -> Item {
    let making = Making::start().expect("a maker");
    let mut made = None;
    eventually("a pair is made", || {
        made = making.take();
        made.is_some()
    });
    made.expect("an answer").expect("a pair")
}

/// The pair with ids mapped in it, as after a run.
fn used_pair() -> Item {
    let item = pair();
    let map = format!("0 {} 1\n", fs::metadata("/proc/self").expect("/proc").uid());
    let door = Door::Pair { user: item.user.as_fd(), net: item.net.as_fd() };
    let (pid, _) = clone3_through(door, CloneFlags::NONE, None, || {
        exit_now(i32::from(mount::write_file(c"/proc/self/uid_map", map.as_bytes()).is_err()))
    })
    .expect("a child");
    wait_for(pid).expect("its end");
    item
}

#[test]
fn what_is_no_fresh_pair_of_the_caller_s_is_thrown_away() {
    need!(Sandbox);
    let open = |path: &str| OwnedFd::from(File::open(path).expect("a file"));
    let (first, second, swapped) = (pair(), pair(), pair());
    let alone = pair();
    let three = pair();
    let used = used_pair();
    let offers: Vec<(&str, Vec<OwnedFd>)> = vec![
        ("files", vec![open("/dev/null"), open("/etc/passwd")]),
        ("directories", vec![open("/"), open("/proc")]),
        ("the caller's own", vec![open("/proc/self/ns/user"), open("/proc/self/ns/net")]),
        ("other kinds", vec![open("/proc/self/ns/mnt"), open("/proc/self/ns/pid")]),
        ("two that don't belong together", vec![first.user, second.net]),
        ("swapped", vec![swapped.net, swapped.user]),
        ("one", vec![alone.user]),
        ("three", vec![three.user, three.net, open("/dev/null")]),
        ("used", vec![used.user, used.net]),
    ];
    for (what, descriptors) in offers {
        let project = Project::new();
        let count = descriptors.len();
        let offer = Mutex::new(descriptors);
        let _impostor = Impostor::new(&project, move |client| {
            let offer = offer.lock().expect("the offer");
            let all: Vec<BorrowedFd<'_>> = offer.iter().map(AsFd::as_fd).collect();
            drop_sent(fdpass::send(client.as_fd(), &Answer::Item.encode(), &all));
        });
        let why = if count == 2 { "the pool's namespaces are not fit" } else { "the pool speaks another language" };
        eventually(what, || {
            let ended = project.sbx(["run", "--no-cache", "-v", "true"]).ok();
            assert!(ended.stderr.contains("net namespace fresh ("), "{what}: {}", ended.stderr);
            ended.stderr.contains(&format!("net namespace fresh ({why})"))
        });
    }
    // A good one from the same impostor is taken: it is the offers that were refused.
    let project = Project::new();
    let good = Mutex::new((0..8).map(|_| pair()).collect::<Vec<_>>());
    let _impostor = Impostor::new(&project, move |client| {
        if let Some(item) = good.lock().expect("the offer").pop() {
            drop_sent(fdpass::send(client.as_fd(), &Answer::Item.encode(), &[item.user.as_fd(), item.net.as_fd()]));
        }
    });
    serves(&project);
}

#[test]
fn a_directory_that_is_not_the_caller_s_alone_is_refused_on_both_ends() {
    need!(Sandbox);
    let project = Project::new();
    let pool = Pool::start(&project, 1);
    let directory = project.beside("run/sbx");
    let mode = |mode| fs::set_permissions(&directory, fs::Permissions::from_mode(mode)).expect("chmod");
    mode(0o750);
    falls_back(&project, "no pool");
    project.sbx(["pool", "start"]).code(125).stderr_has("closed to all others").stderr_has("chmod 700");
    project.sbx(["pool", "status"]).code(125).stderr_has("closed to all others");
    mode(0o700);
    serves(&project);
    pool.filled();
    // A link to a good one is none.
    fs::rename(&directory, project.beside("elsewhere")).expect("renamed");
    std::os::unix::fs::symlink(project.beside("elsewhere"), &directory).expect("a link");
    falls_back(&project, "no pool");
    project.sbx(["pool", "start"]).code(125);
    fs::remove_file(&directory).expect("removed");
    fs::rename(project.beside("elsewhere"), &directory).expect("renamed");
}

#[test]
fn what_belongs_to_another_user_is_refused() {
    need!(Sandbox);
    need!(Root);
    let project = Project::new();
    let directory = project.beside("run/sbx");
    fs::DirBuilder::new().mode(0o700).create(&directory).expect("a directory");
    std::os::unix::fs::chown(&directory, Some(61234), Some(61234)).expect("chown");
    falls_back(&project, "no pool");
    project.sbx(["pool", "start"]).code(125).stderr_has("has owner 61234");
    // A whole runtime directory of another user's, as sudo leaves it, is as good as none.
    std::os::unix::fs::chown(project.beside("run"), Some(61234), Some(61234)).expect("chown");
    let pool = Pool::start(&project, 1);
    assert!(project.beside("cache/run/pool.sock").exists());
    serves(&project);
    // Another user who comes to the socket is sent away, whatever the modes say.
    let socket = project.beside("cache/run/pool.sock");
    for path in ["", "cache", "cache/run", "cache/run/pool.sock"] {
        fs::set_permissions(project.beside(path), fs::Permissions::from_mode(0o777)).expect("chmod");
    }
    let refused = pool_refused(&project);
    let probe = project.beside("probe");
    copy_program(netprobe(), &probe);
    let ask = ["--reuid", "61234", "--clear-groups", "--"];
    let asked = project.command("setpriv").args(ask).args([&probe]).args(["ask"]).args([&socket]).end();
    assert!(["0 bytes\n", "recv: ECONNRESET\n", "send: EPIPE\n"].contains(&asked.stdout.as_str()), "{asked:?}");
    for path in ["cache", "cache/run"] {
        fs::set_permissions(project.beside(path), fs::Permissions::from_mode(0o700)).expect("chmod");
    }
    assert_eq!(pool.figure("refused"), refused + 1);
}

fn pool_refused(project: &Project) -> u64 {
    let directory = ["cache", "cache/run"].map(|path| project.beside(path));
    let mode = |mode| {
        for path in &directory {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
        }
    };
    mode(0o700);
    let refused = status(project)["pool"]["refused"].as_u64().expect("a figure");
    mode(0o777);
    refused
}

// --- the pool's own endurance --------------------------------------------------------------------------------------

#[test]
fn whatever_is_said_to_the_pool_it_goes_on() {
    need!(Sandbox);
    let project = Project::new();
    let pool = Pool::start(&project, 2);
    let directory = directory(&project);
    let connect = || local::connect_in(&directory, "pool.sock").expect("it connects");
    // The three standard streams, the directory, the lock, the socket, the signals, and two for each pair.
    let pid = pool.pid();
    let as_few_as_ever = || fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors").count() == 7 + 2 * 2;
    eventually("it has what it needs", as_few_as_ever);
    let (null, some) = (File::open("/dev/null").expect("a file"), pair());
    let take = sbx::pool::protocol::Request::Take.encode();
    for bytes in [&b"x"[..], &[0xff; 16], &[0; 4000], &take[..8], &take[..15], b"GET / HTTP/1.1\r\n\r\n"] {
        let client = connect();
        fdpass::send(client.as_fd(), bytes, &[null.as_fd(), some.user.as_fd(), some.net.as_fd()]).expect("it is sent");
        eventually("it is sent away", || !matches!(fdpass::receive(client.as_fd(), &mut [0; 256]), Ok(None)));
    }
    // Many who say nothing, and one who asks and never reads.
    let silent: Vec<_> = (0..40).map(|_| connect()).collect();
    let deaf = connect();
    fdpass::send(deaf.as_fd(), &take, &[]).expect("it is sent");
    eventually("it has its pair", || pool.figure("handed_out") >= 1);
    pool.filled();
    serves(&project);
    drop((silent, deaf));
    pool.filled();
    eventually("it keeps no descriptor of theirs", as_few_as_ever);
    assert_eq!(pool.figure("failed"), 0);
}

#[test]
fn killing_the_pool_while_fifty_runs_start_hurts_none() {
    need!(Sandbox);
    let project = Project::new();
    let pool = Pool::start(&project, 16);
    let pid = pool.pid();
    let mut runs = Vec::new();
    for number in 0..50 {
        runs.push(project.run_anew(["echo", &number.to_string()]).start());
        if number == 20 {
            kill("KILL", pid);
        }
    }
    for (number, run) in runs.into_iter().enumerate() {
        run.end().code(0).stdout(&format!("{number}\n"));
    }
    drop(pool);
    let _again = Pool::start(&project, 1);
    serves(&project);
}

#[test]
fn sixty_runs_leave_the_pool_as_it_was() {
    need!(Sandbox);
    let project = Project::new();
    let pool = Pool::start(&project, 4);
    let pid = pool.pid();
    // The three standard streams, the directory, the lock, the socket, the signals, and two for each pair.
    let as_few_as_ever = || fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors").count() == 7 + 2 * 4;
    eventually("it has what it needs", as_few_as_ever);
    for _ in 0..10 {
        let runs: Vec<_> = (0..6).map(|_| project.run_anew(["true"]).start_silent()).collect();
        assert!(runs.into_iter().all(|run| run.status().success()));
    }
    pool.filled();
    eventually("its descriptors are as many as before", as_few_as_ever);
    // On a busy machine some have gone on before the pool came to them.
    let asked = pool.figure("handed_out") + pool.figure("missed");
    assert!((4..=60).contains(&asked), "{asked} of 60");
    assert_eq!(pool.figure("made"), pool.figure("handed_out") + 4);
    assert_eq!(pool.figure("failed"), 0);
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    assert_eq!(children, "", "no maker is left");
}

/// In a user namespace of the test's own, whose limits it may set.
#[test]
fn the_kernel_s_limits_are_honoured_and_told() {
    need!(Sandbox);
    let project = Project::new();
    let script = r#"
        set -e
        limit() { echo "$1" > /proc/sys/user/max_net_namespaces; }
        limit 1; "$0" pool start 2>&1 && exit 9
        limit 6; "$0" pool start --size 8 2>&1
        until "$0" pool status | grep -q '3 of 3'; do sleep 0.01; done
        "$0" pool status | grep limited
        limit 2; until "$0" run -v true 2>&1 | grep 'net namespace pool'; do sleep 0.01; done
        until "$0" pool status | grep failing; do sleep 0.01; done
        limit 100; until "$0" pool status | grep '3 of 3'; do sleep 0.01; done
        "$0" pool warm 8
        "$0" pool stop"#;
    let ended = project.command("unshare").args(["-Ur", "sh", "-c", script]).args([sbx()]).ok();
    for text in [
        "there is no room for a pool: user.max_net_namespaces is 1",
        "the pool keeps 3, not 8: user.max_net_namespaces is 6",
        "limited     8 were asked for, user.max_net_namespaces is 6",
        "net namespace pool",
        "failing     clone3: No space left on device (ENOSPC); it tries again",
    ] {
        assert!(ended.stdout.contains(text), "{text:?}: {ended:?}");
    }
    ended.stderr_has("8 of 8 net namespaces are ready");
}

// --- service managers ----------------------------------------------------------------------------------------------

#[test]
fn a_socket_that_a_service_manager_hands_over_is_used() {
    need!(Sandbox);
    need!(Compiler);
    let project = Project::new();
    drop(directory(&project));
    // By a short name: a test's own directory may be too deep for a socket's address.
    let start = ["activate", "sbx/pool.sock", sbx().to_str().expect("UTF-8"), "-C"].map(str::to_owned);
    let daemon = ["pool", "start", "--foreground", "--size", "2"].map(str::to_owned);
    let at = project.path("").to_str().expect("UTF-8").to_owned();
    let mut live =
        project.command(netprobe()).cwd(project.beside("run")).args(start).args([at]).args(daemon).start_silent();
    eventually("it answers", || status(&project)["running"] == true);
    let pool = Pool { project: &project };
    assert_eq!(pool.pid(), live.pid());
    pool.filled();
    serves(&project);
    project.sbx(["pool", "stop"]).ok();
    assert!(live.child().wait().expect("it ends").success());
    assert!(project.beside("run/sbx/pool.sock").exists(), "the name is the service manager's");
    // What is handed over must be such a socket.
    let script = "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" pool start --foreground 3</dev/null";
    project.command("sh").args(["-c", script]).args([sbx()]).code(125).stderr_has("LISTEN_FDS");
}

#[test]
fn the_units_are_sound() {
    let project = Project::bare();
    let units = root().join("contrib/systemd");
    let socket = fs::read_to_string(units.join("sbx-pool.socket")).expect("the socket unit");
    assert!(
        socket.contains("ListenSequentialPacket=%t/sbx/pool.sock") && socket.contains("DirectoryMode=0700"),
        "{socket}"
    );
    let service = fs::read_to_string(units.join("sbx-pool.service")).expect("the service unit");
    assert!(service.contains("pool start --foreground"), "{service}");
    if Path::new("/usr/bin/systemd-analyze").exists() {
        // A copy that names a program that exists.
        let service = service.replace("%h/.cargo/bin/sbx", sbx().to_str().expect("UTF-8"));
        for (name, text) in [("sbx-pool.service", &service), ("sbx-pool.socket", &socket)] {
            fs::write(project.beside(name), text).expect("a unit");
        }
        let files = ["sbx-pool.socket", "sbx-pool.service"].map(|name| project.beside(name));
        let ended = project.command("systemd-analyze").args(["--user", "verify"]).args(files).end();
        // The manual page need not be installed.
        let faults =
            ended.stderr.lines().filter(|line| line.contains("sbx-pool") && !line.contains("'man sbx-pool(1)'"));
        assert_eq!(faults.count(), 0, "{ended:?}");
    }
}
