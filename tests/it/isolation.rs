//! What holds inside (DESIGN.md, section 4), asserted from inside, in pairs: what is refused without the grant works
//! with it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use crate::support::{Project, launcher, probe};

/// The names of a listing, one a line, without those that a host may or may not have.
fn names(listing: &str, optional: &[&str]) -> Vec<String> {
    listing.lines().filter(|name| !optional.contains(name)).map(str::to_owned).collect()
}

// --- files ---------------------------------------------------------------------------------------------------------

#[test]
fn the_root_holds_only_what_is_declared() {
    need!(Sandbox);
    let ended = Project::new().file("secret", "x").run(["ls", "-A", "/"]).ok();
    // /lib64, /lib32 and /libx32 exist on some hosts only.
    let expected = ["bin", "dev", "etc", "home", "lib", "proc", "sbin", "src", "tmp", "usr"];
    assert_eq!(names(&ended.stdout, &["lib64", "lib32", "libx32"]), expected);
}

#[test]
fn an_empty_file_shows_nothing_of_the_project() {
    need!(Sandbox);
    Project::new().file("a", "1").file("b/c", "2").run(["ls", "-A", "/src"]).stdout("");
}

#[test]
fn an_input_is_seen_and_its_neighbour_is_not() {
    need!(Sandbox);
    let project = Project::new().file("in/a", "1").file("in/b.tmp", "2").file("out", "3");
    let project = project.config("inputs = ['in/**', '!in/*.tmp']");
    project.run(["find", "/src", "-mindepth", "1"]).stdout("/src/in\n/src/in/a\n");
    project.config("inputs = ['in/**', 'out']").sh("cat out in/b.tmp").stdout("32");
}

#[test]
fn the_checkout_is_nowhere_to_be_found() {
    need!(Sandbox);
    let project = Project::new().file("needle-of-this-test", "x");
    let host = project.path("needle-of-this-test");
    project.run(["cat", host.to_str().expect("UTF-8")]).code(1).stderr_has("No such file");
    project.sh("find / -name needle-of-this-test -print 2>/dev/null; true").stdout("");
}

#[test]
fn a_mount_is_seen_where_it_is_declared_and_read_only() {
    need!(Sandbox);
    let project = Project::new();
    let tool = project.beside("tool");
    fs::create_dir(&tool).expect("a directory");
    fs::write(tool.join("version"), "7").expect("a file");
    project.run(["cat", "/opt/tool/version"]).code(1);
    let project = project
        .config(&format!("[[mount]]\nsource = '{}'\ntarget = '/opt/tool'\nidentity = 'content'", tool.display()));
    project.run(["cat", "/opt/tool/version"]).stdout("7");
    project.sh("echo 8 > /opt/tool/version").code(2).stderr_has("Read-only file system");
    project.sh("touch /opt/tool/new").code(1).stderr_has("Read-only file system");
    assert_eq!(fs::read_to_string(tool.join("version")).expect("the file"), "7");
}

#[test]
fn a_host_path_is_seen_only_when_the_rootfs_names_it() {
    need!(Sandbox);
    let project = Project::new();
    project.run(["test", "-e", "/etc/os-release"]).code(1);
    let config = "[rootfs]\nhost = ['/usr', '/bin', '/lib', '/lib64', '/etc/os-release']";
    project.config(config).run(["grep", "-c", "^ID=", "/etc/os-release"]).stdout("1\n");
}

#[test]
fn the_host_toolchain_is_read_only() {
    need!(Sandbox);
    Project::new()
        .sh("touch /usr/new; touch /usr/bin/env; rm /usr/bin/env")
        .code(1)
        .stderr_has("Read-only file system");
}

#[test]
fn etc_is_synthesised() {
    need!(Sandbox);
    let project = Project::new();
    let listing = project.run(["ls", "-A", "/etc"]).ok().stdout;
    let expected = ["group", "hosts", "nsswitch.conf", "passwd", "resolv.conf"];
    assert_eq!(names(&listing, &["alternatives", "ssl"]), expected);
    project.run(["id", "-un"]).stdout("builder\n");
    project.run(["id", "-gn"]).stdout("builder\n");
    project.run(["cat", "/etc/resolv.conf"]).stdout("");
    project.run(["getent", "hosts", "localhost"]).ok().stdout_has_one_of(["127.0.0.1", "::1"]);
    project.sh("wc -l < /etc/passwd").stdout("3\n");
}

#[test]
fn dev_is_minimal() {
    need!(Sandbox);
    let project = Project::new();
    let expected = "fd\nfull\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n";
    project.run(["ls", "-A", "/dev"]).stdout(expected);
    project.sh("head -c 3 /dev/zero | wc -c; head -c 4 /dev/urandom | wc -c; echo gone > /dev/null").stdout("3\n4\n");
    project.sh("head -c 1 /dev/zero > /dev/full").code(1).stderr_has("No space left");
    project.sh("echo x > /dev/shm/y && cat /dev/shm/y").stdout("x\n");
    let devices = "stat -c '%n %F %t:%T' /dev/null /dev/zero /dev/full /dev/random /dev/urandom";
    let kind = "character special file";
    project.sh(devices).stdout(&format!(
        "/dev/null {kind} 1:3\n/dev/zero {kind} 1:5\n/dev/full {kind} 1:7\n/dev/random {kind} 1:8\n/dev/urandom {kind} 1:9\n"
    ));
}

#[test]
fn proc_is_fresh_and_read_only() {
    need!(Sandbox);
    let project = Project::new();
    // sh is PID 2 below an init of sbx's own; ls is its child or takes its place.
    let listing = project.sh("ls -d /proc/[0-9]* | wc -l").ok().stdout;
    assert!(listing.trim().parse::<u32>().expect("a number") <= 4, "{listing} processes");
    project.sh("echo 1 > /proc/sys/kernel/core_pattern").code(2).stderr_has("Read-only file system");
    project.sh("echo 1000 > /proc/self/oom_score_adj").code(2).stderr_has("Read-only file system");
    project.run(["test", "-e", "/sys/kernel"]).code(1);
}

#[test]
fn the_home_is_empty_and_writable() {
    need!(Sandbox);
    let project = Project::new();
    project.sh("ls -A ~; pwd; touch ~/x && ls -A ~; echo $HOME").stdout("/src\nx\n/home/builder\n");
    // What a run leaves there, the next one doesn't see.
    project.sh("ls -A ~ /tmp").stdout("/home/builder:\n\n/tmp:\n");
}

#[test]
fn tmp_is_writable_and_gone_after_the_run() {
    need!(Sandbox);
    let project = Project::new();
    project.sh("echo x > /tmp/left-by-a-run && stat -c %a /tmp").stdout("1777\n");
    project.sh("ls /tmp").stdout("");
}

#[test]
fn the_rest_of_the_root_can_be_written_and_stays_behind() {
    need!(Sandbox);
    let project = Project::new().file("a", "1").config("inputs = ['a']");
    project.sh("echo 2 > a; echo 3 > b; cat a b").stdout("2\n3\n");
    assert_eq!(project.read("a"), "1");
    assert!(!project.has("b"));
}

#[test]
fn inputs_have_one_mtime_and_two_modes() {
    need!(Sandbox);
    let project = Project::new().config("inputs = ['**']").file("plain", "1").script("tool", "#!/bin/sh\n").dir("d");
    let project = project.file("d/x", "2").link("link", "plain");
    fs::set_permissions(project.path("plain"), fs::Permissions::from_mode(0o600)).expect("chmod");
    fs::set_permissions(project.path("d"), fs::Permissions::from_mode(0o700)).expect("chmod");
    project.sh("stat -c '%n %a %Y %u %g' . plain tool d d/x link").stdout(
        ". 755 315619200 1000 1000\nplain 644 315619200 1000 1000\ntool 755 315619200 1000 1000\nd 755 315619200 1000 1000\n\
         d/x 644 315619200 1000 1000\nlink 777 315619200 1000 1000\n",
    );
    project.sh("cat link && ./tool && echo more >> plain && rm d/x && cat plain").stdout("11more\n");
}

#[test]
fn the_working_directory_follows_the_caller() {
    need!(Sandbox);
    let project = Project::new().file("sub/deep/x", "1").config("inputs = ['**']");
    project.run(["pwd"]).stdout("/src\n");
    project.run(["pwd"]).cwd(project.path("sub/deep")).stdout("/src/sub/deep\n");
    project.sbx(["-C", "sub", "run", "--", "pwd"]).stdout("/src/sub\n");
    project.config("[sandbox]\nworkdir = '/work/here'").run(["pwd"]).stdout("/work/here\n");
}

#[test]
fn a_kept_scratch_directory_is_kept_and_others_are_not() {
    need!(Sandbox);
    let project = Project::new().config("[[scratch]]\nname = 'ccache'\ntarget = '/home/builder/.cache/ccache'");
    project.sh("echo kept > ~/.cache/ccache/x; echo lost > ~/.cache/y").ok();
    project.sh("cat ~/.cache/ccache/x; ls ~/.cache").stdout("kept\nccache\n");
}

#[test]
fn the_upper_layer_may_lie_in_memory() {
    need!(Sandbox);
    let project =
        Project::new().file("a", "1").config("inputs = ['a']\noutputs = ['b']\n[sandbox]\nscratch = 'memory'");
    project.sh("cat a > b").ok();
    assert_eq!(project.read("b"), "1");
}

// --- processes -----------------------------------------------------------------------------------------------------

#[test]
fn only_the_sandbox_s_own_processes_exist() {
    need!(Sandbox);
    let project = Project::new();
    let own = std::process::id().to_string();
    // A process id that exists outside is none inside (the sandbox's own have small numbers).
    assert!(own.len() > 1);
    project.sh(&format!("kill -0 {} 2>&1", u32::MAX >> 2)).code(1).stdout_has("No such process");
    project.sh("kill -9 1; kill -9 -1; sleep 0; echo here").ok().stdout_has("here");
}

#[test]
fn init_gives_no_secret_away() {
    need!(Sandbox);
    let project = Project::new();
    let run = project.sh("cat /proc/1/environ; ls /proc/1/fd; readlink /proc/1/exe /proc/1/cwd /proc/1/root; true");
    let ended = run.env("SECRET_OF_THE_CALLER", "hunter2").ok();
    assert!(!ended.stdout.contains("hunter2") && !ended.stdout.contains('/'), "{ended:?}");
}

// --- network -------------------------------------------------------------------------------------------------------

#[test]
fn only_loopback_is_there_and_it_works() {
    need!(Sandbox);
    need!(Compiler);
    let project = Project::new().probe("");
    project.run(["./probe", "interfaces"]).stdout("lo up\n");
    project.run(["./probe", "loopback", "4"]).stdout("ok\n");
    project.run(["./probe", "loopback", "6"]).stdout("ok\n");
    project.run(["./probe", "connect", "192.0.2.1", "80"]).stdout("ENETUNREACH\n");
    project.run(["./probe", "connect", "2001:db8::1", "80"]).stdout("ENETUNREACH\n");
}

#[test]
fn the_host_network_is_there_when_asked_for() {
    need!(Sandbox);
    need!(Compiler);
    let host = Command::new(probe()).arg("interfaces").output().expect("the probe runs");
    let host = String::from_utf8(host.stdout).expect("UTF-8");
    let project = Project::new().probe("[network]\nhost = true");
    project.run(["./probe", "interfaces"]).stdout(&host);
}

#[test]
fn a_server_of_the_host_is_reached_only_over_the_host_s_network() {
    need!(Sandbox);
    need!(Compiler);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    let port = listener.local_addr().expect("its address").port().to_string();
    let project = Project::new().probe("");
    project.run(["./probe", "connect", "127.0.0.1", &port]).stdout("ECONNREFUSED\n");
    let project = project.probe("[network]\nhost = true");
    project.run(["./probe", "connect", "127.0.0.1", &port]).stdout("ok\n");
}

#[test]
fn abstract_sockets_of_the_host_are_out_of_reach() {
    need!(Sandbox);
    need!(Compiler);
    let name = format!("sbx-test-{}", std::process::id());
    let project = Project::new().probe("");
    let mut listener = Command::new(probe())
        .args(["abstract-listen", &name])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("the listener starts");
    let mut line = String::new();
    let mut stdout = std::io::BufReader::new(listener.stdout.take().expect("a pipe"));
    std::io::BufRead::read_line(&mut stdout, &mut line).expect("a line");
    assert_eq!(line, "ready\n");
    project.run(["./probe", "abstract-connect", &name]).stdout("ECONNREFUSED\n");
    // On the host's network it is there, and Landlock in the way where the kernel has that; the report says whether.
    let open = Project::new().probe("[network]\nhost = true");
    let tried = open.sbx(["run", "--report", "report", "--", "./probe", "abstract-connect", &name]).ok();
    let isolated = open.read("report").contains("\"landlock-sockets\"");
    assert_eq!(tried.stdout, if isolated { "EPERM\n" } else { "ok\n" });
    let outside = Command::new(probe()).args(["abstract-connect", &name]).output().expect("the probe runs");
    assert_eq!(outside.stdout, b"ok\n");
    drop(listener.stdin.take());
    assert!(listener.wait().expect("the listener ends").success());
}

/// No wall is there for it but not to mount it; README says so.
#[test]
fn a_socket_in_a_mount_can_be_reached() {
    need!(Sandbox);
    need!(Program("python3"));
    let project = Project::new().dir("m").config("[[mount]]\nsource = 'm'\ntarget = '/m'\nidentity = 'metadata'");
    let _listener = std::os::unix::net::UnixListener::bind(project.path("m/s")).expect("a socket");
    let connect = "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/m/s'); print('reached')";
    project.run(["python3", "-c", connect]).stdout("reached\n");
}

// --- IPC, names, users ---------------------------------------------------------------------------------------------

#[test]
fn system_v_objects_of_the_host_are_out_of_reach() {
    need!(Sandbox);
    need!(Compiler);
    let key = (0x5b78_0000 + std::process::id()).to_string();
    let outside = |word: &str| Command::new(probe()).args([word, &key]).output().expect("the probe runs").stdout;
    let project = Project::new().probe("");
    assert_eq!(outside("queue-make"), b"ok\n");
    let inside = project.run(["./probe", "queue-find", &key]).end();
    assert_eq!(outside("queue-find"), b"ok\n");
    assert_eq!(outside("queue-remove"), b"ok\n");
    inside.code(0).stdout("ENOENT\n");
    // What is made inside works there, and is gone with the run.
    project.sh(&format!("./probe queue-make {key}; ./probe queue-find {key}")).stdout("ok\nok\n");
    assert_eq!(outside("queue-find"), b"ENOENT\n");
}

#[test]
fn names_are_fixed() {
    need!(Sandbox);
    let project = Project::new();
    let names = "uname -n; cat /proc/sys/kernel/hostname /proc/sys/kernel/domainname";
    project.sh(names).stdout("sbx\nsbx\nlocaldomain\n");
    project.config("[sandbox]\nhostname = 'builder-7'").sh(names).stdout("builder-7\nbuilder-7\nlocaldomain\n");
}

#[test]
fn ids_are_the_declared_ones() {
    need!(Sandbox);
    need!(Compiler);
    let project = Project::new().probe("");
    project.run(["./probe", "ids"]).ok().ids([1000, 1000]);
    project.run(["stat", "-c", "%u %g", "/src/probe"]).stdout("1000 1000\n");
    let project = project.probe("[sandbox]\nuid = 7\ngid = 8");
    project.run(["./probe", "ids"]).ok().ids([7, 8]);
    let project = project.probe("[sandbox]\nuid = 0\ngid = 0");
    project.run(["./probe", "ids"]).ok().ids([0, 0]);
    project.sh("id -un; echo ~").stdout("root\n/root\n");
}

#[test]
fn a_file_written_inside_belongs_to_the_caller_outside() {
    need!(Sandbox);
    let project = Project::new().config("outputs = ['made']\n[sandbox]\nuid = 0\ngid = 0");
    project.sh("touch made; stat -c %u made").stdout("0\n");
    let (made, own) = (fs::metadata(project.path("made")), fs::metadata(project.path("sandbox.toml")));
    assert_eq!(made.expect("the output").uid(), own.expect("the file").uid());
}

#[test]
fn supplementary_groups_are_dropped_where_they_can_be() {
    need!(Sandbox);
    need!(Compiler);
    need!(Root);
    let project = Project::new().probe("");
    let command = project.command(launcher());
    let sbx = crate::support::sbx();
    let run = command.args(["groups=4,24", "--"]).args([sbx.as_os_str()]).args(["run", "--", "./probe", "ids"]);
    run.ok().ids([1000, 1000]);
}

/// No capability in any of the five sets, no_new_privs set, whatever the uid inside.
#[test]
fn capability_sets_are_empty() {
    need!(Sandbox);
    let none = "CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n\
                CapBnd:\t0000000000000000\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\n";
    for uid in [1000, 0] {
        let project = Project::new().config(&format!("[sandbox]\nuid = {uid}\ngid = {uid}"));
        project.run(["grep", "-E", "^(Cap|NoNewPrivs)", "/proc/self/status"]).stdout(none);
        project.sh("for p in /proc/[0-9]*; do grep -E '^Cap(Eff|Prm|Bnd)' $p/status; done | sort | uniq | cut -f2 | sort -u")
            .stdout("0000000000000000\n");
    }
}

#[test]
fn a_setuid_program_has_no_effect() {
    need!(Sandbox);
    let project = Project::new();
    // A setuid file can be made inside, and those of the host are seen; neither changes an id.
    project
        .sh("cp /usr/bin/id /tmp/id; chmod 6755 /tmp/id; /tmp/id -u; cp /bin/sh /tmp/s; chmod u+s /tmp/s; /tmp/s -c 'id -u'")
        .stdout("1000\n1000\n");
    project.sh("/bin/su -c id root < /dev/null 2>/dev/null; id -u").stdout("1000\n");
}

#[test]
fn mounts_names_and_namespaces_are_beyond_a_command() {
    need!(Sandbox);
    need!(Compiler);
    for uid in [1000, 0] {
        let project = Project::new().probe(&format!("[sandbox]\nuid = {uid}\ngid = {uid}"));
        let ended = project.run(["./probe", "mounts"]).ok();
        let refused = ["mount", "bind", "remount", "proc", "umount", "mount_setattr", "open_tree", "fsopen"];
        let refused = refused.iter().chain(&["move_mount", "pivot_root", "chroot", "sethostname", "unshare-mount"]);
        let refused = refused.chain(&["unshare-net", "unshare-pid", "setns", "mknod"]);
        let mut expected: String = refused.map(|name| format!("{name} EPERM\n")).collect();
        expected += "unshare-user EPERM\n";
        assert_eq!(ended.stdout, expected, "uid {uid}");
    }
}

// --- cgroups and clocks --------------------------------------------------------------------------------------------

#[test]
fn the_cgroup_is_the_root_of_its_own_view() {
    need!(Sandbox);
    Project::new().sh("cut -d: -f3- /proc/self/cgroup | sort -u").stdout("/\n");
}

#[test]
fn clocks_begin_near_zero() {
    need!(Sandbox);
    need!(Compiler);
    let clocks = Project::new().probe("").run(["./probe", "clock"]).ok().stdout;
    let seconds: Vec<i64> = clocks.split_whitespace().map(|word| word.parse().expect("seconds")).collect();
    // Not a time limit: a clock that was not set shows this machine's uptime, or the seconds since 1970.
    assert!(seconds.len() == 2 && seconds.iter().all(|second| (0..60).contains(second)), "{clocks}");
}

// --- session, environment, descriptors, randomness -----------------------------------------------------------------

#[test]
fn the_command_leads_a_session_without_a_terminal() {
    need!(Sandbox);
    need!(Compiler);
    Project::new().probe("").run(["./probe", "session"]).stdout("leader\nENXIO\n");
}

#[test]
fn the_session_keyring_is_the_run_s_own() {
    need!(Sandbox);
    need!(Compiler);
    let project = Project::new().probe("[sandbox]\nsyscalls.allow = ['keyctl', 'request_key']");
    let name = format!("sbx-test-{}", std::process::id());
    let how = format!("key={name}");
    let sbx = crate::support::sbx();
    let launched = |program: &std::ffi::OsStr, args: &[&str]| {
        project.command(launcher()).args([how.as_str(), "--"]).args([program]).args(args).ok()
    };
    launched(probe().as_os_str(), &["key-find", &name]).stdout("ok\n");
    launched(sbx.as_os_str(), &["run", "--", "./probe", "key-find", &name]).stdout("ENOKEY\n");
}

const FIXED: &str = "HOME=/home/builder\nLANG=C.UTF-8\nLOGNAME=builder\n\
                     PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nSBX=1\nSHELL=/bin/sh\n\
                     SOURCE_DATE_EPOCH=315619200\n";

#[test]
fn the_environment_is_built_from_nothing() {
    need!(Sandbox);
    let project = Project::new();
    let environment = |project: &Project| {
        let run = project.run(["env"]).env("SECRET", "hunter2").env("TERM", "vt100").env("SBX_LOG", "info");
        let mut lines: Vec<_> = run.ok().stdout.lines().map(str::to_owned).collect();
        lines.sort();
        lines.join("\n") + "\n"
    };
    assert_eq!(environment(&project), format!("{FIXED}TMPDIR=/tmp\nTZ=UTC\nUSER=builder\n"));
    let project = project.config("[env]\nset = { CC = 'gcc' }\npass = ['TERM', 'ABSENT']");
    assert_eq!(environment(&project), format!("CC=gcc\n{FIXED}TERM=vt100\nTMPDIR=/tmp\nTZ=UTC\nUSER=builder\n"));
}

#[test]
fn only_the_three_standard_descriptors_are_open() {
    need!(Sandbox);
    need!(Compiler);
    let project = Project::new().probe("");
    let sbx = crate::support::sbx();
    let how = ["open=7:/etc/passwd", "open=200:/etc", "--"];
    let run = project.command(launcher()).args(how).args([sbx.as_os_str()]);
    run.args(["run", "--", "./probe", "descriptors"]).stdout("0\n1\n2\n");
}

#[test]
fn standard_input_is_the_null_device_unless_asked_for() {
    need!(Sandbox);
    let project = Project::new();
    project.run(["readlink", "/proc/self/fd/0"]).input("hello").stdout("/dev/null\n");
    project.run(["cat"]).input("hello").stdout("");
    project.sbx(["run", "-i", "--", "cat"]).input("hello").stdout("hello");
}

#[test]
fn the_umask_is_022() {
    need!(Sandbox);
    let project = Project::new();
    let run = project.command("sh").args(["-c", "umask 077; exec \"$0\" run -- sh -c 'umask; touch x; stat -c %a x'"]);
    run.args([crate::support::sbx()]).stdout("0022\n644\n");
}

#[test]
fn addresses_are_the_same_in_every_run() {
    need!(Sandbox);
    need!(Compiler);
    let project = Project::new().probe("");
    let first = project.run(["./probe", "addresses"]).ok().stdout;
    assert_eq!(first.split_whitespace().count(), 5);
    for _ in 0..3 {
        project.run(["./probe", "addresses"]).stdout(&first);
    }
    // The caller's environment is no part of it, though it lies on the caller's own stack.
    project.run(["./probe", "addresses"]).env("PADDING", "x".repeat(5000)).stdout(&first);
}

#[test]
fn limits_are_the_declared_ones() {
    need!(Sandbox);
    need!(Compiler);
    let project = Project::new().probe("[limits]\nopen_files = 100");
    project.run(["./probe", "limits"]).stdout("100 100 0 0\n");
    let project = project.probe("");
    let unlimited = project.run(["./probe", "limits"]).ok().stdout;
    assert!(!unlimited.starts_with("100 ") && unlimited.ends_with(" 0 0\n"), "{unlimited}");
}

#[test]
fn signals_are_at_their_defaults() {
    need!(Sandbox);
    need!(Compiler);
    let project = Project::new().probe("");
    let sbx = crate::support::sbx();
    let run = project.command(launcher()).args(["sigchld-ignored", "all-blocked", "--"]).args([sbx.as_os_str()]);
    run.args(["run", "--", "./probe", "signals"]).stdout("");
}

#[test]
fn the_same_state_gives_the_same_view_wherever_the_checkout_lies() {
    need!(Sandbox);
    let view = "find / -path /proc -prune -o -path /usr -prune -o -path /lib -prune -o -printf '%p %y %m %u %g %l\\n' \
                2>/dev/null | sort";
    let one = Project::new().config("inputs = ['**']").file("a/b", "1").script("c", "2");
    let two = Project::new().script("c", "2").file("a/b", "1").config("inputs = ['**']");
    let first = one.sh(view).end().stdout;
    assert!(first.contains("/src/a/b f 644"), "{first}");
    assert_eq!(first, two.sh(view).end().stdout);
}

#[test]
fn a_small_limit_of_open_files_is_the_command_s_alone() {
    need!(Sandbox);
    let project = Project::new().config("[limits]\nopen_files = 5\n");
    project.sh("ulimit -n; ulimit -Hn").code(0).stdout("5\n5\n");
}
