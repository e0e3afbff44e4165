//! The failures of other sandboxes that are not repeated here. Each test names the failure it is about; isolation.rs,
//! outputs.rs, life.rs and many.rs hold those that belong to their subject.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::{Project, Run, copy_program, probe, sbx};

/// `sbx run -- sh -c SCRIPT` where `before` has run in a mount namespace of its own, as its root. Works for any user.
fn after_mounting(project: &Project, before: &str, script: &str) -> Run {
    let unshare = ["--user", "--map-root-user", "--mount", "sh", "-ec"];
    let outer = format!("{before}; exec \"$0\" run -- sh -c \"$1\"");
    project.command("unshare").args(unshare).args([outer]).args([sbx()]).args([script])
}

fn with_mount(project: Project, source: &Path, rest: &str) -> Project {
    let source = source.display();
    project.config(&format!("{rest}\n[[mount]]\nsource = '{source}'\ntarget = '/opt/m'\nidentity = 'metadata'"))
}

fn hash(path: &Path) -> Vec<u8> {
    std::process::Command::new("sha256sum").arg(path).output().expect("sha256sum").stdout
}

// --- descriptors and the launcher ----------------------------------------------------------------------------------

/// Leaked descriptors: runc's CVE-2024-21626.
#[test]
fn no_descriptor_of_the_caller_is_a_way_out() {
    need!(Sandbox);
    let project = Project::new();
    let launched = |inside: &str| {
        let script = format!("exec 9</etc 8</; \"$0\" run -- sh -c '{inside}'");
        project.command("sh").args(["-c", &script]).args([sbx()]).end()
    };
    // ls itself opens the directory as 3.
    launched("ls /proc/self/fd").code(0).stdout("0\n1\n2\n3\n");
    launched("cat /proc/self/fd/9/passwd").code(1).stderr_has("No such file");
    // Those of init may be counted at most, neither read nor followed.
    let follow =
        "for fd in /proc/1/fd/*; do readlink $fd; ls $fd/ 2>/dev/null; (exec 3<$fd) 2>/dev/null && echo opened; done";
    launched(&format!("{follow}; ls /proc/1/cwd/ /proc/1/root/ 2>/dev/null; echo end")).stdout("end\n");
}

/// Overwriting the launcher through /proc/PID/exe: CVE-2019-5736.
#[test]
fn the_sbx_binary_can_not_be_written_from_inside() {
    need!(Sandbox);
    for uid in [1000, 0] {
        let project = Project::new().config(&format!("[sandbox]\nuid = {uid}\ngid = {uid}"));
        // One that the caller owns and may write, as cargo installs it.
        let copy = project.beside("sbx-copy");
        copy_program(sbx(), &copy);
        let before = hash(&copy);
        let script = "for exe in /proc/[0-9]*/exe; do (echo broken > $exe) 2>/dev/null && echo written $exe; \
                      (exec 3<> $exe) 2>/dev/null && echo opened $exe; done; echo done";
        project.command(&copy).args(["run", "--", "sh", "-c", script]).stdout("done\n");
        assert_eq!(hash(&copy), before);
    }
}

/// Options taken from the command: CVE-2024-32462, CVE-2020-17368.
#[test]
fn the_command_s_words_are_literal() {
    need!(Sandbox);
    let words = ["--bind", "/", "a\nb", "'\"", "$(touch x)", "`id`", "", "*", "-q", "--"];
    let project = Project::new();
    let run = project.run(["sh", "-c", "shift; for word; do printf '<%s>' \"$word\"; done", "sh", "-"]).args(words);
    let expected: String = words.iter().map(|word| format!("<{word}>")).collect();
    run.stdout(&expected);
    project.run(["--bind", "/", "/"]).code(127).stderr_has("--bind");
    let project = Project::new().script("a b'$(x)", "#!/bin/sh\necho ran\n").config("inputs = ['a*']");
    project.run(["./a b'$(x)"]).stdout("ran\n");
}

/// POSIX message queues have names of their own, which no mount shows: they are the ipc namespace's.
#[test]
fn no_message_queue_is_shared_with_the_host() {
    need!(Sandbox);
    need!(Compiler);
    let name = format!("/sbx-it-{}", std::process::id());
    let outside = |word: &str| {
        let output = std::process::Command::new(probe()).args([word, &name]).output().expect("the probe runs");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let project = Project::new().probe("");
    assert_eq!(outside("mq-make"), "ok\n");
    let inside = project.sh(&format!("./probe mq-find {name}; ./probe mq-remove {name}; ./probe mq-make {name}")).end();
    let kept = outside("mq-find");
    assert_eq!(outside("mq-remove"), "ok\n");
    assert_eq!((inside.code(0).stdout.as_str(), kept.as_str()), ("ENOENT\nENOENT\nok\n", "ok\n"));
    // What is made inside is not seen outside while it is there, and gone with the run.
    let mut live =
        project.sh(&format!("./probe mq-make {name}; ./probe mq-find {name}; echo up; exec sleep 100")).start();
    live.wait_for_line("up");
    assert_eq!(outside("mq-find"), "ENOENT\n");
    live.signal("TERM");
    assert_eq!(live.end().code, 143);
    project.sh_anew(&format!("./probe mq-find {name}")).stdout("ENOENT\n");
}

// --- mounts --------------------------------------------------------------------------------------------------------

/// A file system below a read-only bind stays writable: nsjail -R, hakoniwa.
#[test]
fn what_is_mounted_below_a_mount_is_read_only_too() {
    need!(Sandbox);
    let project = Project::new();
    let source = project.beside("tree");
    fs::create_dir_all(source.join("below/deep")).expect("directories");
    let project = with_mount(project, &source, "");
    let before = format!("mount -t tmpfs none '{0}/below'; echo old > '{0}/below/f'", source.display());
    let script = "cat /opt/m/below/f; touch /opt/m/below/x; echo y > /opt/m/below/f";
    let ended = after_mounting(&project, &before, script).end();
    assert!(ended.stdout == "old\n" && ended.code != 0, "{ended:?}");
    assert_eq!(ended.stderr.matches("Read-only file system").count(), 2, "{ended:?}");
}

/// Flags of the source lost in the remount: hakoniwa, bazel, crun 1.29.1.
#[test]
fn a_source_with_other_mount_flags_is_read_only_too() {
    need!(Sandbox);
    let project = Project::new();
    let source = project.beside("tree");
    fs::create_dir(&source).expect("a directory");
    let project = with_mount(project, &source, "");
    let tree = source.display();
    let before = format!(
        "mount -t tmpfs -o nosuid,nodev,noexec none '{tree}'; cp /bin/true '{tree}/true'; chmod 755 '{tree}/true'"
    );
    after_mounting(&project, &before, "touch /opt/m/x").code(1).stderr_has("Read-only file system");
    // A flag that the host set is kept.
    after_mounting(&project, &before, "/opt/m/true").code(126);
    let flags = "grep ' /opt/m ' /proc/self/mountinfo | cut -d' ' -f6 | tr , '\\n' | grep -E '^(ro|nosuid|nodev|noexec)$' \
                 | sort | tr '\\n' ' '";
    after_mounting(&project, &before, flags).stdout("nodev noexec nosuid ro ");
}

/// Every mount is read-only or the run's own, and none passes a setuid bit or a device.
#[test]
fn every_mount_has_its_flags() {
    need!(Sandbox);
    let project = Project::new();
    let mounts = project.run(["cat", "/proc/self/mountinfo"]).ok().stdout;
    assert!(mounts.lines().count() > 5, "{mounts}");
    for line in mounts.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let (target, flags) = (fields[4], fields[5].split(',').collect::<Vec<_>>());
        let writable = ["/", "/dev/pts", "/dev/shm"].contains(&target) || target.starts_with("/dev/");
        assert!(flags.contains(&"nosuid"), "{line}");
        assert!(flags.contains(&"ro") || writable, "{line}");
        assert!(flags.contains(&"nodev") || target.starts_with("/dev/"), "{line}");
        // No mount is a peer or a slave of one of the host.
        assert!(!line.contains("shared:") && !line.contains("master:"), "{line}");
    }
}

/// The host's tree is seen only where a mount says: what pivot_root leaves is gone.
#[test]
fn the_old_root_is_gone() {
    need!(Sandbox);
    let project = Project::new();
    let mounts = project.run(["cut", "-d ", "-f5", "/proc/self/mountinfo"]).ok().stdout;
    assert_eq!(mounts.lines().filter(|target| *target == "/").count(), 1, "{mounts}");
    let below = ["/bin", "/dev", "/etc/alternatives", "/etc/ssl", "/lib", "/proc", "/sbin", "/usr"];
    let known = |target: &str| target == "/" || below.iter().any(|top| target.starts_with(top));
    assert!(mounts.lines().all(known), "{mounts}");
    project.sh("cd /..; pwd; ls -d ../../../root 2>/dev/null; cd /proc/1/root 2>/dev/null && pwd; true").stdout("/\n");
}

/// A rootfs whose links point at the host: CVE-2021-30465, CVE-2024-42472, crun CVE-2019-18837.
#[test]
fn links_of_a_rootfs_resolve_inside_it() {
    need!(Sandbox);
    for text in ["/etc", "../../../../../../etc", "/proc/self/root/etc"] {
        let project = Project::new().file("a", "1");
        let rootfs = rootfs(&project);
        symlink(text, rootfs.join("opt")).expect("a link");
        let mark = format!("of-the-sandbox-{}", std::process::id());
        fs::create_dir(project.beside("m")).expect("a directory");
        fs::write(project.beside("m").join(&mark), "x").expect("a file");
        let config = rootfs_config(&rootfs);
        let project = with_mount(project, &rootfs.with_file_name("m"), &config);
        // Either the mount is refused, or it lies inside; the host's /etc has nothing new in either case.
        let ended = project.run(["ls", "/opt/m/"]).end();
        assert!(ended.code == 125 || ended.stdout == format!("{mark}\n"), "{ended:?}");
        assert!(!Path::new("/etc/m").exists());
    }
}

/// A directory to be the root: links into /usr, which is mounted.
fn rootfs(project: &Project) -> std::path::PathBuf {
    let rootfs = project.beside("rootfs");
    fs::create_dir_all(rootfs.join("usr")).expect("directories");
    for name in ["bin", "lib", "lib64", "sbin"] {
        if Path::new("/").join(name).exists() {
            symlink(format!("usr/{name}"), rootfs.join(name)).expect("a link");
        }
    }
    rootfs
}

fn rootfs_config(rootfs: &Path) -> String {
    let usr = "[[mount]]\nsource = '/usr'\ntarget = '/usr'\nidentity = 'declared'\nversion = 'the host'";
    format!("inputs = ['a']\n[rootfs]\ndir = '{}'\n{usr}", rootfs.display())
}

/// Links in the place of /proc, /dev and their files: CVE-2019-16884, CVE-2019-19921, CVE-2023-27561,
/// CVE-2025-31133, CVE-2025-52881, CVE-2026-41579.
#[test]
fn a_rootfs_can_not_redirect_proc_or_dev() {
    need!(Sandbox);
    for name in ["proc", "dev", "etc", "tmp"] {
        let project = Project::new().file("a", "1");
        let rootfs = rootfs(&project);
        let elsewhere = project.beside("elsewhere");
        fs::create_dir(&elsewhere).expect("a directory");
        symlink(&elsewhere, rootfs.join(name)).expect("a link");
        let project = project.config(&rootfs_config(&rootfs));
        project.run(["true"]).code(125).stderr_has(name);
        assert_eq!(fs::read_dir(&elsewhere).expect("the directory").count(), 0);
    }
    // Below them, what sbx makes hides what the rootfs has.
    let project = Project::new().file("a", "1");
    let rootfs = rootfs(&project);
    fs::create_dir_all(rootfs.join("dev/pts")).expect("directories");
    fs::create_dir_all(rootfs.join("proc/self")).expect("directories");
    symlink("/etc/passwd", rootfs.join("dev/null")).expect("a link");
    fs::write(rootfs.join("proc/self/status"), "false").expect("a file");
    let project = project.config(&rootfs_config(&rootfs));
    let check = "stat -c '%F %t:%T' /dev/null; stat -f -c %T /proc; grep -c '^NoNewPrivs:.1' /proc/self/status";
    project.sh(check).stdout("character special file 1:3\nproc\n1\n");
}

/// A source that is swapped while runs start: CVE-2021-30465, CVE-2026-34078.
#[test]
fn a_swapped_source_never_shows_the_host() {
    need!(Sandbox);
    let project = Project::new();
    let (source, secret) = (project.beside("tree"), project.beside("secret"));
    fs::create_dir(&source).expect("a directory");
    fs::write(source.join("f"), "declared").expect("a file");
    fs::create_dir(&secret).expect("a directory");
    fs::write(secret.join("f"), "secret").expect("a file");
    let project = with_mount(project, &source, "");
    let (aside, stop) = (project.beside("aside"), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                fs::rename(&source, &aside).expect("rename");
                symlink(&secret, &source).expect("a link");
                fs::remove_file(&source).expect("unlink");
                fs::rename(&aside, &source).expect("rename");
            }
        });
        let _stops = Stop(&stop);
        for _ in 0..40 {
            let ended = project.run(["cat", "/opt/m/f"]).end();
            // A link at the source itself is the user's own word; what must not be is one thing hashed and another seen.
            let refused = ended.code == 125 && ended.stdout.is_empty();
            let consistent = ended.code == 0 && ["declared", "secret"].contains(&ended.stdout.as_str());
            assert!(refused || consistent, "{ended:?}");
        }
    });
}

/// Memory-backed places have an end.
#[test]
fn shared_memory_has_an_end() {
    need!(Sandbox);
    let project = Project::new();
    project.sh("fallocate -l 1M /dev/shm/a && fallocate -l 64G /dev/shm/b").code(1).stderr_has("No space left");
}

// --- the project ---------------------------------------------------------------------------------------------------

/// The writable places come from the configuration alone: CVE-2025-59532.
#[test]
fn the_working_directory_declares_nothing() {
    need!(Sandbox);
    let project = Project::bare();
    for dir in ["/", "/usr", "/tmp"] {
        project.run(["true"]).cwd(dir).code(125).stderr_has("sbx init");
    }
    let project = Project::new().config("[sandbox]\nworkdir = '/work'");
    let config = project.path("sandbox.toml");
    let run = project.sbx(["--config"]).args([config.as_os_str()]).args(["run", "--", "ls", "-A", "/work"]);
    run.cwd("/usr").stdout("");
}

/// A command changes neither the configuration nor the cache that the next run reads.
#[test]
fn the_configuration_and_the_cache_are_out_of_reach() {
    need!(Sandbox);
    let project = Project::new().file("a", "1").config("inputs = ['**']");
    let config = project.read("sandbox.toml");
    let cache = project.beside("cache").display().to_string();
    let before = project.sbx(["hash"]).ok().stdout;
    let script = format!(
        "echo evil > sandbox.toml; echo evil > a; echo evil > ../sandbox.toml; mkdir -p '{cache}/blobs' && \
         echo evil > '{cache}/blobs/x'; chmod 777 a; rm -rf /src/* 2>/dev/null; true"
    );
    project.sh(&script).ok();
    assert_eq!(project.read("sandbox.toml"), config);
    assert_eq!(project.sbx(["hash"]).ok().stdout, before);
    assert!(!Path::new(&cache).join("blobs/x").exists());
    project.run(["cat", "a"]).stdout("1");
    // A lock or a file that is absent at the start does not appear either.
    project.sh("echo x > sandbox.lock; mkdir .sbx; echo x > .sbx/x").ok();
    assert!(!project.has("sandbox.lock") && !project.has(".sbx"));
}

/// What is hashed is what runs.
#[test]
fn inputs_that_change_during_a_run_don_t_change_inside() {
    need!(Sandbox);
    let project = Project::new().file("a", "first").config("inputs = ['a']\noutputs = ['seen']");
    let script = "echo ready; n=0; while [ $n -lt 300 ]; do cat a; echo; n=$((n+1)); done | sort -u > seen";
    let mut live = project.sh(script).start();
    live.wait_for_line("ready");
    for _ in 0..50 {
        project.write("a", "second");
        fs::rename(project.path("a"), project.path("b")).expect("rename");
        project.write("a", "third");
    }
    live.end().code(0);
    assert_eq!(project.read("seen"), "first\n");
    project.sh("cat a; touch seen").stdout("third");
}

/// A writer that never stops: every run sees one state of the file, and the state that its digest says.
#[test]
fn inputs_that_change_while_they_are_hashed_are_seen_as_hashed() {
    need!(Sandbox);
    let project = Project::new().config("inputs = ['a']").file("a", "0".repeat(200_000));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for digit in (0..10).cycle() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                project.write("a", digit.to_string().repeat(200_000));
            }
        });
        let _stops = Stop(&stop);
        for _ in 0..20 {
            let report = project.beside("report.json");
            let run = project.sbx(["run", "--report"]).args([report.as_os_str()]).args(["--", "sha256sum", "a"]);
            let ended = run.end();
            if ended.code == 125 {
                assert!(ended.stderr.contains("the file changes while it is being read"), "{ended:?}");
                continue;
            }
            let json: serde_json::Value =
                serde_json::from_str(&fs::read_to_string(&report).expect("the report")).expect("JSON");
            let sha256 = &ended.stdout[..64];
            // One file of one name: the tree's digest follows from the content's.
            let other = Project::new().config("inputs = ['a']");
            other.write("a", project_content(&project, sha256));
            let same = other.sbx(["hash", "--json"]).ok().stdout;
            let same: serde_json::Value = serde_json::from_str(&same).expect("JSON");
            assert_eq!(json["input_root"], same["input_root"], "{ended:?}");
        }
    });
}

/// Says stop when it goes, also when an assertion fails: a scope waits for its threads.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The stored content with this SHA-256.
fn project_content(project: &Project, sha256: &str) -> Vec<u8> {
    fs::read(project.beside("cache").join("blobs").join(&sha256[..2]).join(&sha256[2..])).expect("the stored bytes")
}

/// Work paths that another user prepared: CVE-2016-8659, CVE-2022-31214.
#[test]
fn a_prepared_cache_directory_is_not_followed() {
    need!(Sandbox);
    need!(Root);
    let project = Project::new();
    let elsewhere = project.beside("elsewhere");
    fs::create_dir(&elsewhere).expect("a directory");
    fs::set_permissions(&elsewhere, fs::Permissions::from_mode(0o777)).expect("chmod");
    std::os::unix::fs::chown(&elsewhere, Some(61235), Some(61235)).expect("chown");
    let ended = project.run(["true"]).env("SBX_CACHE_DIR", &elsewhere).end();
    assert_eq!(ended.code, 125, "another user's directory is no cache: {ended:?}");
}

// --- fail closed ---------------------------------------------------------------------------------------------------

/// Namespaces that the machine doesn't grant.
#[test]
fn without_user_namespaces_the_error_names_them() {
    need!(Sandbox);
    let project = Project::new();
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$0\" run -- echo 'it ran'";
    let run = project.command("unshare").args(["--user", "--map-root-user", "sh", "-c", script]).args([sbx()]);
    run.code(125).stdout("").stderr_has("max_user_namespaces");
}

// --- what people and programs read ---------------------------------------------------------------------------------

/// Names that a terminal would obey.
#[test]
fn control_characters_never_reach_the_terminal() {
    need!(Sandbox);
    let evil = "evil\u{1b}[31m\u{7}\r";
    // An input that is refused by name.
    let project = Project::new().config("inputs = ['in/**']").dir("in");
    project.command("mkfifo").args([project.path(&format!("in/{evil}"))]).ok();
    project.run(["true"]).code(125).stderr_has("evil").stderr_lacks("\u{1b}").stderr_lacks("\u{7}");
    // A write that is listed.
    let project = Project::new();
    project.run(["touch", evil]).ok().stderr_lacks("\u{1b}");
    project.sbx(["diff"]).ok().stdout_has("evil").stdout_lacks("\u{1b}").stdout_lacks("\u{7}");
    let json: serde_json::Value = serde_json::from_str(&project.sbx(["diff", "--json"]).ok().stdout).expect("JSON");
    assert!(json.to_string().contains("evil"), "{json}");
    // An output that is refused.
    let project = Project::new().config("outputs = ['out']");
    project.run(["sh", "-c", "mkdir out; mkfifo \"out/$0\"", evil]).code(125).stderr_has("evil").stderr_lacks("\u{1b}");
    // A command that is not there.
    project.run([evil]).code(127).stderr_has("evil").stderr_lacks("\u{1b}").stderr_lacks("\u{7}");
    project.sbx(["plan", "--", evil]).ok().stdout_has("evil").stdout_lacks("\u{1b}");
}
