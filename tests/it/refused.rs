//! What the system call filter and the other walls refuse, each errno seen from inside; and that it is the filter that refuses,
//! by what comes where the call is granted.

use std::fs;

use crate::support::{Ended, Feature, Project, calls, probe};

/// A project whose command is the probe of system calls.
fn project(config: &str) -> Project {
    let project = Project::new().config(&format!("inputs = ['calls', 'probe']\n{config}"));
    fs::copy(calls(), project.path("calls")).expect("the probe is copied");
    fs::copy(probe(), project.path("probe")).expect("the probe is copied");
    project
}

/// What each of the probe's tries, one a line, says inside.
fn tried(project: &Project, tries: &[&str]) -> Vec<String> {
    let script: String = tries.iter().map(|words| format!("./calls {words}; ")).collect();
    let ended = project.sh_anew(&script).ok();
    assert_eq!(ended.stdout.lines().count(), tries.len(), "{ended:?}");
    ended.stdout.lines().map(str::to_owned).collect()
}

/// Asserts what each try says.
fn say(project: &Project, expected: &[(&str, &str)]) {
    let tries: Vec<&str> = expected.iter().map(|(words, _)| *words).collect();
    let said: Vec<(&str, String)> = tries.iter().copied().zip(tried(project, &tries)).collect();
    let expected: Vec<(&str, String)> = expected.iter().map(|(words, answer)| (*words, (*answer).to_owned())).collect();
    assert_eq!(said, expected);
}

#[test]
fn what_no_build_needs_is_refused() {
    need!(Sandbox);
    need!(Compiler);
    let calls = [
        "add_key s:user s:name s:x 1 -3",
        "bpf 0 0 0",
        "chroot s:/",
        "clock_settime 0 0",
        "delete_module s:x 0",
        "fsopen s:tmpfs 0",
        "init_module 0 0 0",
        "io_uring_setup 2 0",
        "kexec_load 0 0 0 0",
        "keyctl 0 -3 0",
        "mount s:x s:/tmp s:tmpfs 0 0",
        "mount_setattr -100 s:/ 0 0 0",
        "move_mount 0 s: 0 s: 0",
        "open_by_handle_at 0 0 0",
        "open_tree -100 s:/ 1",
        "perf_event_open 0 0 -1 -1 0",
        "pidfd_getfd 0 0 0",
        "pivot_root s:/ s:/",
        "quotactl 0 0 0 0",
        "reboot 0 0 0 0",
        "request_key s:user s:name 0 0",
        "setdomainname s:x 1",
        "sethostname s:x 1",
        "setns 0 0",
        "swapon s:/x 0",
        "syslog 3 0 0",
        "umount2 s:/tmp 0",
        "userfaultfd 1",
    ];
    for ids in ["", "[sandbox]\nuid = 0\ngid = 0"] {
        let refused: Vec<_> = calls.iter().map(|words| (*words, "EPERM")).collect();
        say(&project(ids), &refused);
    }
    // It is the filter, and not the kernel: granted, each says something else.
    let names = "'add_key', 'bpf', 'io_uring_setup', 'keyctl', 'open_by_handle_at', 'pidfd_getfd', 'request_key'";
    let granted = project(&format!("[sandbox]\nsyscalls.allow = [{names}]"));
    let tries = ["io_uring_setup 2 0", "keyctl 0 -3 0", "open_by_handle_at -1 0 0", "pidfd_getfd -1 0 0"];
    let said = tried(&granted, &tries);
    // A machine may have switched io_uring off (kernel.io_uring_disabled).
    let off = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").is_ok_and(|value| value.trim() != "0");
    assert_eq!(said[0], if off { "EPERM" } else { "EFAULT" });
    assert_eq!(said[1..2], ["ok"]);
    assert_eq!(said[3], "EBADF");
    assert_ne!(said[2], "ENOSYS");
    say(&granted, &[("perf_event_open 0 0 -1 -1 0", "EPERM"), ("userfaultfd 1", "EPERM")]);
}

#[test]
fn what_no_kernel_has_yet_is_missing() {
    need!(Sandbox);
    need!(Compiler);
    let project = project("");
    // A library that finds clone3 missing uses clone, whose flags a filter can see.
    say(&project, &[("clone3 0 0", "ENOSYS"), ("nr:9999", "ENOSYS"), ("nr:600", "ENOSYS"), ("getpid", "ok")]);
    if cfg!(target_arch = "x86_64") {
        // getpid of x32 and of 32-bit programs; on the host both may be there.
        say(&project, &[("nr:0x40000027", "ENOSYS"), ("int80 20", "ENOSYS"), ("int80 0x40000014", "ENOSYS")]);
    }
}

#[test]
fn namespaces_are_refused_by_flag() {
    need!(Sandbox);
    need!(Compiler);
    let project = project("");
    let flags = ["0x20000", "0x2000000", "0x4000000", "0x8000000", "0x10000000", "0x20000000", "0x40000000"];
    let mut expected = Vec::new();
    let clone: Vec<String> = flags.iter().map(|flag| format!("clone $(({flag} | 17)) 0 0 0 0")).collect();
    // The kernel looks at the lower half alone, and so must who guards it.
    let high: Vec<String> = flags.iter().map(|flag| format!("clone $(({flag} | 17 | (1 << 32))) 0 0 0 0")).collect();
    let unshare: Vec<String> = flags.iter().chain(&["0x80"]).map(|flag| format!("unshare {flag}")).collect();
    for words in clone.iter().chain(&high).chain(&unshare) {
        expected.push((words.as_str(), "EPERM"));
    }
    expected.extend([("clone 17 0 0 0 0", "ok"), ("unshare 0x600", "ok"), ("unshare 0", "ok")]);
    say(&project, &expected);
}

#[test]
fn sockets_are_refused_by_family() {
    need!(Sandbox);
    need!(Compiler);
    let project = project("");
    // Unix, IPv4, IPv6, netlink of routes.
    say(&project, &[("socket 1 1 0", "ok"), ("socket 2 1 0", "ok"), ("socket 10 2 0", "ok"), ("socket 16 3 0", "ok")]);
    say(&project, &[("socketpair 1 1 0 0", "EFAULT"), ("socket 0x100000001 1 0", "ok")]);
    // AF_VSOCK, AF_ALG, AF_PACKET, AF_KEY, AF_BLUETOOTH, AF_CAN, AF_XDP, AF_TIPC, AF_RDS; then netlink of audit, netfilter,
    // devices, generic.
    let families = [40, 38, 17, 15, 31, 29, 44, 30, 21].map(|family| format!("socket {family} 1 0"));
    let high = [40, 38].map(|family| format!("socket {} 1 0", (1_u64 << 32) | family));
    let netlink = [9, 12, 15, 16].map(|protocol| format!("socket 16 3 {protocol}"));
    let all = families.iter().chain(&high).chain(&netlink).map(|words| (words.as_str(), "EPERM"));
    say(&project, &all.collect::<Vec<_>>());
}

#[test]
fn device_nodes_are_refused_by_kind() {
    need!(Sandbox);
    need!(Compiler);
    let project = project("");
    // 0:0 is what an overlay takes for a deletion, and the kernel lets anybody make it.
    say(&project, &[("mknodat -100 s:/tmp/c 0020600 0", "EPERM"), ("mknodat -100 s:/tmp/b 0060600 0", "EPERM")]);
    say(&project, &[("mknodat -100 s:/tmp/f 0010600 0", "ok"), ("mknodat -100 s:/tmp/r 0100600 0", "ok")]);
    // Where the filter lets it through, Landlock is behind it.
    let granted = self::project("[sandbox]\nsyscalls.allow = ['mknodat', 'mount', 'umount2']");
    let enforced = |project: &Project| {
        project.sbx(["run", "--no-cache", "--report", "report", "--", "true"]).ok();
        project.read("report")
    };
    if enforced(&granted).contains("\"landlock\"") {
        // The number of /dev/null; up to Linux 6.12 at least, Landlock lets 0:0 pass.
        say(&granted, &[("mknodat -100 s:/tmp/c 0020600 0x103", "EACCES"), ("mknodat -100 s:/tmp/f 0010600 0", "ok")]);
    }
    say(&granted, &[("mount s:x s:/tmp s:tmpfs 0 0", "EPERM"), ("umount2 s:/proc 2", "EPERM")]);
}

#[test]
fn renames_across_directories_work() {
    need!(Sandbox);
    // Landlock refuses them to who does not ask for them.
    let script = "mkdir -p a/d b; echo 1 > a/f; mv a/f b/f; mv a/d b/d; ln b/f a/g; cat a/g; ls b";
    Project::new().sh(script).stdout("1\nd\nf\n");
}

#[test]
fn init_and_the_kernel_s_own_files_are_closed() {
    need!(Sandbox);
    need!(Compiler);
    for ids in ["", "[sandbox]\nuid = 0\ngid = 0"] {
        let project = project(ids);
        say(&project, &[("trace-init", "EPERM"), ("self-trace", "ok")]);
        let script = "for file in kernel/core_pattern kernel/hostname vm/overcommit_memory net/ipv4/ip_forward; do \
                      ./probe open /proc/sys/$file w; done; ./probe open /proc/sysrq-trigger w; \
                      ./probe open /proc/kcore r; ./probe open /proc/1/exe r; ./probe open /proc/1/exe w; \
                      ./probe open /proc/1/environ r; ./probe open /proc/1/mem r; \
                      for fd in /proc/1/fd/*; do readlink $fd; done | wc -l";
        let said = project.sh_anew(script).end().stdout;
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines.len(), 11, "{said}");
        let refused = |line: &&str| ["EPERM", "EACCES", "EROFS"].contains(line);
        assert!(lines[..4].iter().chain(&lines[6..10]).all(refused), "{said}");
        // Not every kernel has these two.
        assert!(lines[4..6].iter().all(|line| refused(line) || *line == "ENOENT"), "{said}");
        assert_eq!(lines[10], "0", "what PID 1 holds can be looked at");
    }
}

#[test]
fn a_name_opens_one_call_and_no_other() {
    need!(Sandbox);
    need!(Compiler);
    let open = project("[sandbox]\nsyscalls.allow = ['socket']");
    // Past the filter the kernel has its own word: no capability for packets here.
    let said = tried(&open, &["socket 17 3 0", "socketpair 40 1 0 0"]);
    assert_eq!(said, ["EPERM", "EPERM"]);
    say(&open, &[("socket 16 3 15", "ok")]);
    // It is part of what identifies a run.
    let digest = |project: &Project| project.sbx(["hash", "--", "true"]).ok().stdout;
    assert_ne!(digest(&open), digest(&project("")));
    assert_eq!(digest(&open), digest(&project("[sandbox]\nsyscalls = { allow = ['socket', 'socket'] }")));
    open.sbx(["plan", "--", "true"]).ok().stdout_has("filter the system calls, socket allowed");
}

#[test]
fn the_filter_is_there_for_every_process() {
    need!(Sandbox);
    let seccomp = |ended: &Ended| ended.stdout.lines().all(|line| line == "2") && !ended.stdout.is_empty();
    let ended = Project::new().sh("for p in /proc/[0-9]*; do sed -n 's/^Seccomp:\\t//p' $p/status; done").ok();
    assert!(seccomp(&ended) && ended.stdout.lines().count() >= 2, "{ended:?}");
    // And for what enters later.
    let project = Project::new();
    let mut live = project.sh("echo ready; sleep 100").start();
    live.wait_for_line("ready");
    let id = project.sbx(["ps", "--json"]).ok().stdout;
    let id = id.split("\"id\": \"").nth(1).or(id.split("\"id\":\"").nth(1)).and_then(|rest| rest.split('"').next());
    let id = id.expect("an id");
    let entered = project.sbx(["enter", id, "--", "sed", "-n", "s/^Seccomp:\\t//p", "/proc/self/status"]).ok();
    assert!(seccomp(&entered), "{entered:?}");
    live.signal("TERM");
    live.end();
}

#[test]
fn no_byte_gets_into_the_caller_s_terminal() {
    need!(Sandbox);
    need!(Compiler);
    need!(Program("python3"));
    // In a terminal of sbx's own: by TIOCSTI, by the same with the upper half set, and by TIOCLINUX.
    let project = project("");
    let program = format!(
        r#"
import os, pty, select, sys
pid, master = pty.fork()
if pid == 0:
    os.execv({sbx:?}, [{sbx:?}, "shell"])
def read_until(text, seen=b""):
    while text not in seen:
        ready, _, _ = select.select([master], [], [], 60)
        if not ready:
            sys.exit("no answer: %r" % seen)
        seen += os.read(master, 65536)
    return seen
os.write(master, b"for request in 0x5412 0x100005412 0x541c 0x10000541c; do ./calls ioctl 0 $request s:x; done; echo fin''ished\n")
seen = read_until(b"finished")
os.write(master, b"exit\n")
try:
    while os.read(master, 65536):
        pass
except OSError:
    pass
os.waitpid(pid, 0)
print(seen.count(b"EPERM"))
"#,
        sbx = crate::support::sbx().to_str().expect("UTF-8")
    );
    project.command("python3").args(["-c", &program]).env("TERM", "dumb").stdout("4\n");
}

// --- nested ----------------------------------------------------------------------------------------------------------

/// Root can't grant it: /proc would have to be writable for the system's root.
#[test]
fn root_grants_no_user_namespaces() {
    need!(Sandbox);
    need!(Root);
    let project = Project::new().config("[sandbox]\nnested = true");
    project.run(["true"]).code(125).stderr_has("can't be granted to root").stderr_has("as an ordinary user");
}

#[test]
fn sandboxes_in_sandboxes_work_where_they_are_granted() {
    need!(Sandbox);
    if Feature::Root.lacking().is_none() {
        return root_grants_no_user_namespaces();
    }
    let project = Project::new().config("inputs = ['sbx', 'a']\n[sandbox]\nnested = true").file("a", "content");
    fs::copy(crate::support::sbx(), project.path("sbx")).expect("the binary is copied");
    project.run(["unshare", "-Ur", "id", "-u"]).stdout("0\n");
    let script =
        "unshare -Urmpf --mount-proc sh -c 'mount -t tmpfs x /mnt 2>/dev/null || mount -t tmpfs x /tmp; echo $$'";
    project.sh(script).stdout("1\n");
    if Feature::Program("bwrap").lacking().is_none() {
        let bwrap =
            ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "echo", "inside"];
        project.run(bwrap).stdout("inside\n");
    }
    // The upper layer can't lie on an overlay, so it is in memory.
    let script = "mkdir p; echo 'inputs = [\"a\"]' > p/sandbox.toml; echo 'sandbox.scratch = \"memory\"' >> p/sandbox.toml; \
                  cp a p; cd p; SBX_CACHE_DIR=/tmp/c ../sbx run --no-cache -- sh -c 'cat a; unshare -U true || echo refused'";
    project.sh(script).end().stdout("contentrefused\n");
    // Nobody gets more of this sandbox by it.
    project.sh("unshare -Ur sh -c 'umount /proc || umount -l /usr || mount -o remount,rw,bind /usr || echo held' 2>/dev/null").stdout("held\n");
    // Without the grant.
    let project = Project::new();
    project.sh("unshare -Ur true").end().stderr_has("Operation not permitted");
}
