//! Fault injection: what a launch comes to when the kernel refuses one of its calls. The command never runs weaker than
//! it should, the error names the call and what it was for, and nothing is left behind.

use std::collections::BTreeSet;
use std::fs;

use crate::life::{mounts, processes};
use crate::support::{Ended, Project, copy_program, eventually, launcher, root, sbx};

/// What must come of a run.
#[derive(Clone, Copy)]
enum Comes {
    /// Exit code 125, the command has not run, and the error has these words.
    Refused(&'static [&'static str]),
    /// Exit code 126, for the command was found and nothing of it has run.
    NotExecutable,
    /// The same as without the fault: there is another way that is as good.
    Same,
}
use Comes::{NotExecutable, Refused, Same};

/// One call of a launch, and what its refusal comes to.
struct Row {
    /// As `sys::errno::Call` names it.
    call: &'static str,
    /// What the launcher denies: the call, where need be only with one value of an argument.
    denied: &'static str,
    errnos: &'static [&'static str],
    comes: Comes,
}

const fn row(call: &'static str, denied: &'static str, errnos: &'static [&'static str], comes: Comes) -> Row {
    Row { call, denied, errnos, comes }
}

/// A filter's two answers.
const BOTH: &[&str] = &["EPERM", "ENOSYS"];

/// A run without a network and without a pool.
const PLAIN: &[Row] = &[
    row("clone3", "clone3", &["ENOSYS"], Refused(&["make the sandbox's namespaces: clone3", "seccomp filter"])),
    row("clone3", "clone3", &["EPERM", "ENOSPC"], Refused(&["make the sandbox's namespaces: clone3"])),
    row("clone3", "clone3", &["EINVAL"], Refused(&["clone3", "lacks one of the namespaces"])),
    row("clone3", "clone3", &["EUSERS"], Refused(&["clone3", "nested too deeply"])),
    row("unshare", "unshare[0,128]", &["EPERM", "ENOSYS", "ENOSPC"], Refused(&["clocks", "unshare"])),
    row("unshare", "unshare[0,128]", &["EINVAL"], Refused(&["unshare", "no time namespaces"])),
    row("mount", "mount", BOTH, Refused(&["private", "mount"])),
    // MS_NOSUID | MS_NODEV: the overlay.
    row("mount", "mount[3,6]", &["ENODEV"], Refused(&["mount", "no overlayfs"])),
    row("mount", "mount[3,6]", &["EPERM"], Refused(&["mount", "5.12"])),
    row("mount", "mount[3,6]", &["EINVAL"], Refused(&["mount", "SBX_CACHE_DIR"])),
    // MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC: /proc.
    row("mount", "mount[3,15]", BOTH, Refused(&["/proc", "mount"])),
    row("mount_setattr", "mount_setattr", &["EPERM", "ENOSYS", "EINVAL"], Refused(&["show /", "mount_setattr"])),
    row("open_tree", "open_tree", BOTH, Refused(&["show /", "open_tree"])),
    row("move_mount", "move_mount", BOTH, Refused(&["show /", "move_mount"])),
    row("openat2", "openat2", BOTH, Refused(&["openat2"])),
    row("pivot_root", "pivot_root", BOTH, Refused(&["root", "pivot_root"])),
    row("umount2", "umount2", BOTH, Refused(&["root", "umount2"])),
    row("chdir", "chdir", BOTH, Refused(&["chdir"])),
    row("fchdir", "fchdir", BOTH, Refused(&["fchdir"])),
    row("chmod", "chmod", BOTH, Refused(&["the scratch directory can't be used"])),
    row("fstatfs", "fstatfs", BOTH, Refused(&["fstatfs"])),
    row("sethostname", "sethostname", BOTH, Refused(&["name", "sethostname"])),
    row("setdomainname", "setdomainname", BOTH, Refused(&["name", "setdomainname"])),
    // O_WRONLY | O_CLOEXEC, and the four bytes of "deny": the maps of the ids.
    row("open", "openat[2,524289]", &["EPERM", "EACCES"], Refused(&["map", "open"])),
    row("write", "write[2,4]", &["EPERM"], Refused(&["map", "write"])),
    // PR_SET_PDEATHSIG, PR_SET_NAME, PR_SET_NO_NEW_PRIVS, PR_CAPBSET_DROP, PR_CAP_AMBIENT, PR_SET_DUMPABLE.
    row("prctl", "prctl[0,1]", BOTH, Refused(&["prctl"])),
    row("prctl", "prctl[0,15]", BOTH, Refused(&["PID 1", "prctl"])),
    row("prctl", "prctl[0,38]", BOTH, Refused(&["new privileges", "prctl"])),
    row("prctl", "prctl[0,24]", BOTH, Refused(&["capability", "prctl"])),
    row("prctl", "prctl[0,47]", BOTH, Refused(&["capability", "prctl"])),
    row("prctl", "prctl[0,4]", BOTH, Refused(&["PID 1", "prctl"])),
    row("capset", "capset", BOTH, Refused(&["capability", "capset"])),
    row("personality", "personality", BOTH, Refused(&["address layout", "personality"])),
    row("setrlimit", "prlimit64[1,4]", BOTH, Refused(&["core size", "setrlimit"])),
    row("setsid", "setsid", BOTH, Refused(&["session", "setsid"])),
    row("close_range", "close_range", BOTH, Refused(&["close_range"])),
    row("close_range", "close_range[2,4]", &["EINVAL"], Refused(&["close_range"])),
    row("dup2", "dup2", BOTH, Refused(&["standard streams", "dup2"])),
    row("ioctl", "ioctl[1,35091]", BOTH, Refused(&["loopback", "ioctl"])),
    row("socket", "socket[0,2]", BOTH, Refused(&["loopback", "socket"])),
    row("socketpair", "socketpair", BOTH, Refused(&["socketpair"])),
    row("signalfd", "signalfd4", BOTH, Refused(&["signalfd"])),
    row("sigprocmask", "rt_sigprocmask", BOTH, Refused(&["sigprocmask"])),
    row("pipe2", "pipe2", &["EMFILE"], Refused(&["streams", "Too many open files"])),
    // SIGCHLD alone: the command's own process.
    row("fork", "clone[0,17]", &["EAGAIN", "ENOSYS"], Refused(&["fork"])),
    row("recvmsg", "recvmsg", BOTH, Refused(&["recvmsg"])),
    // PID 1 can't even tell.
    row("sendmsg", "sendmsg", BOTH, Refused(&["ended without a word"])),
    row("execve", "execve", &["ENOSYS", "ENOMEM", "EPERM"], NotExecutable),
    row("keyctl", "keyctl", &["EPERM"], Refused(&["keyring", "keyctl"])),
    // A kernel without keyrings has no key to hide.
    row("keyctl", "keyctl", &["ENOSYS"], Same),
    row("seccomp", "seccomp", BOTH, Refused(&["filter the system calls", "seccomp"])),
    row("seccomp", "seccomp", &["EINVAL"], Refused(&["seccomp", "CONFIG_SECCOMP_FILTER"])),
    // Without the flag that only asks for the version: a kernel that has Landlock and refuses it.
    row("landlock_create_ruleset", "landlock_create_ruleset[2,0]", BOTH, Refused(&["Landlock", "create_ruleset"])),
    // A kernel without Landlock; the record then lacks the word.
    row("landlock_create_ruleset", "landlock_create_ruleset", &["ENOSYS"], Same),
    row("landlock_add_rule", "landlock_add_rule", BOTH, Refused(&["Landlock", "add_rule"])),
    row("landlock_restrict_self", "landlock_restrict_self", BOTH, Refused(&["Landlock", "restrict_self"])),
    row("setgroups", "setgroups", &["ENOSYS"], Refused(&["setgroups"])),
    // What an ordinary user is told anyway; the kernel allows no less.
    row("setgroups", "setgroups", &["EPERM"], Same),
];

/// A run whose upper layer PID 1 makes, in a tmpfs of its own.
const IN_MEMORY: &[Row] =
    &[row("mkdirat", "mkdirat[2,448]", BOTH, Refused(&["mkdirat"])), row("chmod", "chmod", BOTH, Refused(&["chmod"]))];

/// A run with rules of the network.
const WITH_RULES: &[Row] = &[
    row("bind", "bind", BOTH, Refused(&["listen at"])),
    row("listen", "listen", BOTH, Refused(&["listen at"])),
    row("setsockopt", "setsockopt", BOTH, Refused(&["sandbox"])),
    row("setns", "setns", BOTH, Refused(&["network", "addresses inside"])),
    row("fork", "clone[0,17]", &["EAGAIN"], Refused(&["network", "socket maker"])),
];

/// A run that the pool gives a net namespace: whatever fails on the way in, one is made on the spot.
const WITH_A_POOL: &[Row] = &[
    // CLONE_VM | CLONE_VFORK | CLONE_FILES | SIGCHLD.
    row("clone", "clone[0,17681]", BOTH, Same),
    // MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK.
    row("mmap", "mmap[3,147490]", &["ENOMEM"], Same),
    row("setns", "setns", BOTH, Same),
];

/// The calls that no row denies, and why.
const APART: [(&str, &str); 5] = [
    ("fstat", "the dynamic loader makes the same call before sbx begins; a place that is another one is in threats.rs"),
    ("pidfd_open", "only `sbx enter` makes it; live.rs"),
    ("poll", "the runtime makes it before main; sbx takes a failure for a spurious wake"),
    ("read", "the dynamic loader makes it; that of one byte is the relay's answer, whose lack ends the run"),
    ("waitid", "PID 1 can't do without it, and neither can any other program that has children"),
];

/// A project whose binary has a path of its own, by which what is left of it is found.
struct Faulty {
    project: Project,
    binary: std::path::PathBuf,
}

impl Faulty {
    fn new(config: &str) -> Self {
        let project = Project::new().file("a", "1").config(&format!("inputs = ['a']\n{config}"));
        let binary = project.beside("sbx-at-fault");
        copy_program(sbx(), &binary);
        Self { project, binary }
    }

    fn run(&self, how: &[String]) -> Ended {
        let run = self.project.command(launcher()).args(how).args(["--"]).args([&self.binary]);
        run.args(["run", "--no-cache", "--", "sh", "-c", "echo it ran; id -u; cat a"]).end()
    }

    fn try_all(&self, rows: &[Row]) {
        let whole = self.run(&[]).code(0);
        for row in rows {
            for errno in row.errnos {
                let how = format!("deny={}:{errno}", row.denied);
                let ended = self.run(std::slice::from_ref(&how));
                match row.comes {
                    Same => assert_eq!((ended.code, &ended.stdout), (0, &whole.stdout), "{how}: {ended:?}"),
                    NotExecutable => {
                        assert_eq!((ended.code, ended.stdout.as_str()), (126, ""), "{how}: {ended:?}");
                        assert!(ended.stderr.contains("`sh` can't be executed"), "{how}: {ended:?}");
                    }
                    Refused(words) => {
                        assert_eq!((ended.code, ended.stdout.as_str()), (125, ""), "{how}: {ended:?}");
                        for word in words {
                            assert!(ended.stderr.contains(word), "{how}: the error lacks {word:?}: {ended:?}");
                        }
                        assert!(!ended.stderr.contains("panicked"), "{how}: {ended:?}");
                    }
                }
                if row.call == "openat2" {
                    // Removing a tree takes it too: the next run sweeps the scratch directory.
                    self.run(&[]).code(0);
                }
                self.nothing_is_left(&how);
            }
        }
    }

    fn nothing_is_left(&self, how: &str) {
        let word = self.binary.to_str().expect("UTF-8");
        eventually(&format!("{how}: no process is left"), || processes(word).is_empty());
        let base = self.project.beside("").display().to_string();
        eventually(&format!("{how}: no mount is left"), || mounts(&base).is_empty());
        for place in ["cache/scratch", "cache/tmp", "tmp"] {
            let left: Vec<_> = fs::read_dir(self.project.beside(place)).into_iter().flatten().flatten().collect();
            assert!(left.is_empty(), "{how}: left in {place}: {left:?}");
        }
    }
}

/// No weaker run when the kernel refuses a call: bazel, Nix, sandbox-runtime.
#[test]
fn a_refused_call_stops_the_run_and_is_named() {
    need!(Sandbox);
    need!(Compiler);
    Faulty::new("").try_all(PLAIN);
    Faulty::new("[sandbox]\nscratch = 'memory'").try_all(IN_MEMORY);
}

#[test]
fn a_refused_call_of_the_network_stops_the_run_and_is_named() {
    need!(Sandbox);
    need!(Compiler);
    Faulty::new("[network]\nallow = ['files.example.org:443']").try_all(WITH_RULES);
}

#[test]
fn a_refused_call_on_the_way_into_the_pool_s_namespace_changes_nothing() {
    need!(Sandbox);
    need!(Compiler);
    let faulty = Faulty::new("");
    // The pool is another binary's: what is left of the runs is not it.
    faulty.project.sbx(["pool", "start", "--size", "2"]).ok();
    faulty.try_all(WITH_A_POOL);
    faulty.project.sbx(["pool", "stop"]).ok();
}

/// The record says what held, not what should have.
#[test]
fn a_refused_run_s_record_lists_what_was_reached() {
    need!(Sandbox);
    need!(Compiler);
    let faulty = Faulty::new("");
    let enforced = |how: &[&str], code: i32| -> Vec<String> {
        let run = faulty.project.command(launcher()).args(how).args(["--"]).args([&faulty.binary]);
        run.args(["run", "--no-cache", "--report", "report", "--", "true"]).code(code);
        let report: serde_json::Value = serde_json::from_str(&faulty.project.read("report")).expect("JSON");
        let words = report["enforced"].as_array().expect("a list").iter();
        words.map(|word| word.as_str().expect("a word").to_owned()).collect()
    };
    let whole = enforced(&[], 0);
    let has = |words: &[String], word: &str| words.iter().any(|known| known == word);
    assert!(has(&whole, "filtered-calls") && has(&whole, "time-namespace"), "{whole:?}");
    assert_eq!(enforced(&["deny=clone3:EPERM"], 125), Vec::<String>::new());
    let early = enforced(&["deny=unshare[0,128]:EPERM"], 125);
    assert!(has(&early, "net-namespace") && !has(&early, "time-namespace") && !has(&early, "own-root"), "{early:?}");
    let late = enforced(&["deny=personality:EPERM"], 125);
    assert!(has(&late, "own-root") && has(&late, "filtered-calls") && !has(&late, "fixed-addresses"), "{late:?}");
    if has(&whole, "landlock") {
        assert!(!has(&enforced(&["deny=landlock_restrict_self:EPERM"], 125), "landlock"));
    }
}

#[test]
fn every_call_of_a_launch_is_in_the_table() {
    let source = fs::read_to_string(root().join("src/sys/errno.rs")).expect("the calls");
    let list = source.split("\ncalls! {").nth(1).and_then(|rest| rest.split('}').next()).expect("their list");
    let calls: BTreeSet<&str> = list.split_whitespace().collect();
    let rows = [PLAIN, IN_MEMORY, WITH_RULES, WITH_A_POOL].into_iter().flatten().map(|row| row.call);
    let known: BTreeSet<&str> = rows.chain(APART.iter().map(|(call, _)| *call)).collect();
    assert!(calls.len() > 40, "{calls:?}");
    assert_eq!(calls.difference(&known).collect::<Vec<_>>(), Vec::<&&str>::new(), "these have no row");
    assert_eq!(known.difference(&calls).collect::<Vec<_>>(), Vec::<&&str>::new(), "these are no calls of a launch");
    assert!(APART.iter().all(|(_, why)| !why.is_empty()));
}
