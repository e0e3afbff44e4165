//! What comes back: the declared outputs after exit 0, all or none, and nothing that the command made is followed or
//! trusted on the way.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use crate::support::{Project, eventually};

fn with_outputs(patterns: &str) -> Project {
    Project::new().config(&format!("outputs = [{patterns}]"))
}

fn mode(project: &Project, path: &str) -> u32 {
    fs::symlink_metadata(project.path(path)).expect("an output").permissions().mode() & 0o7777
}

// --- what comes back -----------------------------------------------------------------------------------------------

#[test]
fn files_directories_globs_and_links_come_back() {
    need!(Sandbox);
    let project = with_outputs("'one', 'dir', 'glob/*.o', 'deep/**'");
    project
        .sh("echo 1 > one; mkdir -p dir/sub dir/empty glob deep/a; echo 2 > dir/sub/two; ln -s sub/two dir/link; \
             echo o > glob/x.o; echo c > glob/x.c; printf '#!/bin/sh\\n' > deep/a/tool; chmod 755 deep/a/tool; echo n > not")
        .ok();
    assert_eq!(project.read("one"), "1\n");
    assert_eq!(project.read("dir/sub/two"), "2\n");
    assert_eq!(fs::read_link(project.path("dir/link")).expect("a link").to_str(), Some("sub/two"));
    assert!(project.path("dir/empty").is_dir());
    assert!(project.has("glob/x.o") && !project.has("glob/x.c") && !project.has("not"));
    assert_eq!(mode(&project, "deep/a/tool"), 0o755);
    assert_eq!(mode(&project, "one"), 0o644);
}

#[test]
fn nothing_comes_back_from_a_failed_command() {
    need!(Sandbox);
    let project = with_outputs("'a'").file("a", "old");
    project.sh("echo new > a; exit 3").code(3);
    assert_eq!(project.read("a"), "old");
    project.sh("echo new > a").ok();
    assert_eq!(project.read("a"), "new\n");
}

#[test]
fn a_missing_output_is_named_and_none_comes_back() {
    need!(Sandbox);
    let project = with_outputs("'a', 'missing', 'b*'").file("a", "old");
    project.sh("echo new > a").code(125).stderr_has("missing").stderr_has("b*");
    assert_eq!(project.read("a"), "old");
}

#[test]
fn what_the_last_run_made_and_this_one_did_not_goes() {
    need!(Sandbox);
    let project = with_outputs("'dist/**'").file("dist/by-hand", "mine");
    project.sh("mkdir dist; echo 1 > dist/a; echo 2 > dist/b").ok();
    project.sh("mkdir dist; echo 3 > dist/b").ok();
    assert!(!project.has("dist/a"));
    assert_eq!(project.read("dist/b"), "3\n");
    assert_eq!(project.read("dist/by-hand"), "mine");
}

#[test]
fn a_task_s_outputs_stand_instead_of_the_top_level_s() {
    need!(Sandbox);
    let config = "outputs = ['a']\n[task.t]\ncommand = ['sh', '-c', 'echo 1 > a; echo 2 > b']\noutputs = ['b']";
    let project = Project::new().config(config);
    project.sbx(["run", "t"]).ok();
    assert!(!project.has("a") && project.has("b"));
}

#[test]
fn an_output_that_is_an_input_is_replaced() {
    need!(Sandbox);
    let project = Project::new().file("counter", "1").config("inputs = ['counter']\noutputs = ['counter']");
    for expected in ["2\n", "3\n"] {
        project.sh("echo $(($(cat counter) + 1)) > counter").ok();
        assert_eq!(project.read("counter"), expected);
    }
}

#[test]
fn odd_names_come_back_as_they_are() {
    need!(Sandbox);
    let names = ["a b", "quote'\"", "$(touch x)", "--flag", "*", "back\\slash", "ümläut"];
    let project = with_outputs("'out'");
    let script = "mkdir out; shift; for name; do printf %s \"$name\" > \"out/$name\"; done";
    project.run(["sh", "-c", script, "sh", "-"]).args(names).ok();
    for name in names {
        assert_eq!(project.read(&format!("out/{name}")), name);
    }
    assert_eq!(fs::read_dir(project.path("out")).expect("the directory").count(), names.len());
    // A name that a terminal or a script would trip over is refused, and so is what is no text.
    for name in ["new\nline", "esc\u{1b}[31m", "tab\there"] {
        let project = with_outputs("'out'");
        project.run(["sh", "-c", "mkdir out; touch \"out/$0\"", name]).code(125).stderr_has("control characters");
        assert!(!project.has("out"));
    }
}

// --- what stays ----------------------------------------------------------------------------------------------------

#[test]
fn undeclared_writes_are_dropped_counted_and_listed() {
    need!(Sandbox);
    let project = Project::new().file("kept", "1").file("changed", "2").file("deleted", "3");
    let project = project.config("inputs = ['kept', 'changed', 'deleted']\noutputs = ['out']");
    let ended = project.sh("echo o > out; echo x > added; echo y >> changed; rm deleted").ok();
    let lines: Vec<_> = ended.stderr.lines().collect();
    assert!(lines.len() == 1 && lines[0].starts_with("sbx: ") && lines[0].contains('3'), "{ended:?}");
    assert_eq!((project.read("changed"), project.read("deleted")), ("2".into(), "3".into()));
    assert!(!project.has("added"));
    let diff = project.sbx(["diff"]).ok();
    for path in ["added", "changed", "deleted", "out"] {
        assert!(diff.stdout.contains(path), "{path} is missing: {diff:?}");
    }
    diff.stdout_lacks("kept");
    let json: serde_json::Value = serde_json::from_str(&project.sbx(["diff", "--json"]).ok().stdout).expect("JSON");
    assert_eq!(json["version"], 1);
    project.sbx(["-q", "run", "--", "sh", "-c", "echo o > out; echo x > added"]).ok().stderr_lacks("sbx");
}

// --- THREATS.md, row 32 --------------------------------------------------------------------------------------------

#[test]
fn a_link_to_a_host_file_comes_back_as_a_link_or_not_at_all() {
    need!(Sandbox);
    let project = with_outputs("'out'");
    let secret = project.beside("secret");
    fs::write(&secret, "host content").expect("a file");
    let ended = project.sh(&format!("ln -s {} out", secret.display())).end();
    let came_back = project.path("out").symlink_metadata().is_ok_and(|metadata| !metadata.is_symlink());
    assert!(!came_back, "the link was followed: {ended:?}");
    // Nor is one followed on the way to an output.
    let project = with_outputs("'dir/secret'");
    let secret = project.beside("secret");
    fs::write(&secret, "host content").expect("a file");
    let dir = project.beside("").display().to_string();
    project.sh(&format!("ln -s {dir} dir")).code(125);
    assert!(!project.has("dir"));
}

#[test]
fn an_output_is_not_written_through_a_link_of_the_project() {
    need!(Sandbox);
    let project = with_outputs("'build/out'");
    let elsewhere = project.beside("elsewhere");
    fs::create_dir(&elsewhere).expect("a directory");
    let project = project.link("build", elsewhere.to_str().expect("UTF-8"));
    project.sh("mkdir build; echo x > build/out").code(125).stderr_has("build");
    assert_eq!(fs::read_dir(&elsewhere).expect("the directory").count(), 0);
    // A link where the output itself stands is replaced, not followed.
    let project = with_outputs("'out'");
    let target = project.beside("target");
    fs::write(&target, "host").expect("a file");
    let project = project.link("out", target.to_str().expect("UTF-8"));
    project.sh("echo x > out").ok();
    assert_eq!(fs::read_to_string(&target).expect("the file"), "host");
    assert!(project.path("out").symlink_metadata().expect("the output").is_file());
}

#[test]
fn fifos_and_sockets_are_refused_by_name() {
    need!(Sandbox);
    let project = with_outputs("'dir'").file("dir/old", "old");
    project.sh("mkdir dir; mkfifo dir/pipe; echo x > dir/file").code(125).stderr_has("dir/pipe");
    assert!(!project.has("dir/file"), "none comes back when one is refused");
    let socket = "import socket; socket.socket(socket.AF_UNIX).bind('dir/sock')";
    if project.run(["test", "-x", "/usr/bin/python3"]).end().code == 0 {
        project.sh(&format!("mkdir dir; python3 -c \"{socket}\"")).code(125).stderr_has("dir/sock");
    }
}

#[test]
fn special_bits_are_stripped() {
    need!(Sandbox);
    let project = with_outputs("'tool', 'dir'");
    project.sh("cp /bin/true tool; chmod 6777 tool; mkdir dir; echo x > dir/x; chmod 7777 dir").ok();
    assert_eq!(mode(&project, "tool"), 0o755);
    assert_eq!(mode(&project, "dir"), 0o755);
}

#[test]
fn a_hard_link_of_an_input_shares_nothing_with_the_store() {
    need!(Sandbox);
    let project = Project::new().file("in", "content").config("inputs = ['in']\noutputs = ['out']");
    project.sh("ln in out").ok();
    assert_eq!(fs::metadata(project.path("out")).expect("the output").nlink(), 1);
    project.write("out", "overwritten in place");
    project.sh("cat in; touch out").stdout("content");
}

#[test]
fn what_the_command_made_unreadable_stops_nothing() {
    need!(Sandbox);
    let project = with_outputs("'dir'");
    project.sh("mkdir -p dir/sub; echo x > dir/sub/f; chmod 000 dir/sub/f dir/sub; chmod 000 dir").ok();
    assert_eq!(project.read("dir/sub/f"), "x\n");
    // Nor does the scratch stay behind for longer than until the next run or this.
    project.sh("mkdir -p dir; echo y > dir/f; mkdir -p undeclared/x; chmod 000 undeclared").ok();
    project.sbx(["cache", "gc"]).ok();
    let left = project.command("find").args([project.beside("cache")]).args(["-name", "undeclared"]).ok();
    assert_eq!(left.stdout, "");
}

/// What was left of one run is made anew for the next.
#[test]
fn nothing_is_seen_of_the_run_whose_directory_it_was() {
    need!(Sandbox);
    let project = Project::new();
    let root =
        "stat -c '%a %u %g %F' / /tmp; find / -xdev -newermt '2000-01-01' -prune -o -print | head -1; ls -A / /tmp";
    let first = project.sh_anew(root).ok().stdout;
    let spare = project.beside("cache/left/spare/work");
    let inode = |path: &std::path::Path| fs::symlink_metadata(path).map(|found| found.ino()).ok();
    for script in ["true", "echo x > /tmp/x; echo y > /y; mkdir /z", "chmod 700 / /tmp", "touch -d @0 / /tmp; exit 3"] {
        project.sh_anew(script);
        eventually("another run makes it anew", || {
            project.run_anew(["true"]).ok();
            spare.exists()
        });
        let work = inode(&spare);
        assert_eq!(project.sh_anew(root).ok().stdout, first, "{script}");
        let found = fs::read_dir(project.beside("cache/left")).expect("what was left").flatten();
        let used = found.filter(|left| inode(&left.path().join("work")) == work).count();
        assert_eq!(used, 1, "{script}: it was that one");
    }
    project.sbx(["cache", "gc"]).ok();
    assert_eq!(fs::read_dir(project.beside("cache/left")).expect("what was left").count(), 0);
}

#[test]
fn of_what_a_run_wrote_only_little_stays_until_the_next() {
    need!(Sandbox);
    let project = Project::new();
    let left = |name: &str| {
        let found = fs::read_dir(project.beside("cache/left")).into_iter().flatten().flatten();
        found.filter(|entry| entry.path().join("upper/src").join(name).exists()).count()
    };
    project.sh_anew("echo little > little").ok();
    assert_eq!(left("little"), 1);
    eventually("a later run removes it", || {
        project.run_anew(["true"]).ok();
        left("little") == 0
    });
    for (much, name) in [("head -c 20000000 /dev/zero > large", "large"), ("mkdir d; touch $(seq -f d/%.0f 300)", "d")]
    {
        project.sh_anew(much).ok();
        assert_eq!(left(name), 0);
    }
    assert_eq!(fs::read_dir(project.beside("cache/scratch")).expect("the scratch directories").count(), 0);
    // It is in the way of nobody who removes the store by hand.
    project.sh_anew("mkdir -p closed/deep; chmod 0 closed/deep closed").ok();
    assert_eq!(left("closed"), 1);
    project.command("rm").args(["-r".into(), project.beside("cache/left")]).ok();
}

#[test]
fn a_loop_of_links_is_no_loop() {
    need!(Sandbox);
    let project = with_outputs("'dir/**'");
    project.sh("mkdir dir; ln -s . dir/self; ln -s b dir/a; ln -s a dir/b; echo x > dir/x").ok();
    assert_eq!(project.read("dir/x"), "x\n");
    assert_eq!(fs::read_link(project.path("dir/self")).expect("a link").to_str(), Some("."));
}

#[test]
fn a_repository_s_configuration_is_no_output_of_a_wildcard() {
    need!(Sandbox);
    let project = with_outputs("'**/config', 'x'").file(".git/config", "[core]\n");
    project.sh("mkdir -p .git a; echo evil > .git/config; echo 1 > a/config; echo x > x").ok();
    assert_eq!(project.read(".git/config"), "[core]\n");
    assert_eq!(project.read("a/config"), "1\n");
}

#[test]
fn sandbox_toml_is_no_output() {
    need!(Sandbox);
    let project = with_outputs("'*'");
    let before = project.read("sandbox.toml");
    project.sh("echo 'inputs = [\"**\"]' > sandbox.toml; echo x > x").end();
    assert_eq!(project.read("sandbox.toml"), before);
}

#[test]
fn holes_stay_holes() {
    need!(Sandbox);
    let project = with_outputs("'sparse'");
    project.sh("truncate -s 1G sparse; printf x | dd of=sparse bs=1 seek=500000000 conv=notrunc 2>/dev/null").ok();
    let metadata = fs::metadata(project.path("sparse")).expect("the output");
    assert_eq!(metadata.len(), 1 << 30);
    assert!(metadata.blocks() * 512 < 1 << 20, "{} blocks", metadata.blocks());
    let of = format!("if={}", project.path("sparse").display());
    let byte = Command::new("dd").args(["bs=1", "skip=500000000", "count=1", "status=none", &of]).output();
    assert_eq!(byte.expect("dd").stdout, b"x");
}

#[test]
fn writes_in_a_project_that_stands_in_the_home_are_listed() {
    need!(Sandbox);
    let project = Project::new().config("[sandbox]\nworkdir = \"/home/builder/w\"\n");
    project.sh("echo x > made; echo y > /tmp/scrap").code(0).stderr_has("1 undeclared write");
    project.sbx(["diff"]).code(0).stdout_has("/home/builder/w/made");
}

#[test]
fn a_link_whose_text_could_fool_a_terminal_does_not_come_back() {
    need!(Sandbox);
    let project = Project::new().config("outputs = [\"link\"]\n");
    project.sh("ln -s \"$(printf 'a\\033b')\" link").code(125).stderr_has("control characters");
}
