//! `sbx why`: why the last run was computed, or where its result came from.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::{Ended, Project};

/// A project with a task `t` that has inputs of every kind.
fn project(config: &str) -> Project {
    Project::new()
        .file("in/text", "one\ntwo\nthree\n")
        .file("in/old", "old\n")
        .script("in/run", "#!/bin/sh\n")
        .link("in/link", "text")
        .config(&with_task(config))
}

fn with_task(config: &str) -> String {
    format!("inputs = ['in/**']\n{config}\n[task.t]\ncommand = ['true']\n")
}

/// What `sbx why` says of the last run: the line of the verdict, and each difference behind its group.
fn said(ended: &Ended) -> (String, Vec<String>) {
    let mut lines = ended.stdout.lines().skip(1);
    let verdict = lines.next().unwrap_or_default().to_owned();
    let mut group = String::new();
    let mut differences = Vec::new();
    for line in lines {
        match line.strip_prefix("    ") {
            Some(line) => differences.push(format!("{group} {line}")),
            None => line.trim().clone_into(&mut group),
        }
    }
    (verdict, differences)
}

/// Runs the task, lets `change` have its way, runs it again, and holds what is said of it.
#[track_caller]
fn assert_said(project: &Project, change: impl FnOnce(&Project), expected: &[&str]) {
    project.sbx(["run", "t"]).ok();
    change(project);
    project.sbx(["run", "t"]).ok();
    let (verdict, differences) = said(&project.sbx(["why"]).ok());
    assert!(verdict.starts_with("computed because it differs from run "), "{verdict}");
    assert_eq!(differences, expected);
}

/// The same for another configuration.
#[track_caller]
fn assert_config_said(before: &str, after: &str, expected: &[&str]) {
    let after = with_task(after);
    assert_said(&project(before), |project| project.write("sandbox.toml", &after), expected);
}

#[test]
fn an_input_that_changed_is_told_by_its_lines() {
    need!(Sandbox);
    let change = |project: &Project| project.write("in/text", "one\n2\n2.5\nthree\n");
    assert_said(&project(""), change, &["inputs: in/text: +2 -1 lines"]);
}

#[test]
fn inputs_that_are_new_or_gone_are_told_after_the_changed_ones() {
    need!(Sandbox);
    let change = |project: &Project| {
        project.write("in/a/new", "12345");
        fs::remove_file(project.path("in/old")).expect("a file is removed");
        fs::set_permissions(project.path("in/run"), fs::Permissions::from_mode(0o644)).expect("chmod");
        fs::remove_file(project.path("in/link")).expect("a link is removed");
        std::os::unix::fs::symlink("run", project.path("in/link")).expect("a link");
        project.write("in/text", [0, 1, 2]);
    };
    let expected = [
        "inputs: in/link: link to text -> link to run",
        "inputs: in/run: not executable any more",
        "inputs: in/text: 14 -> 3 bytes",
        "inputs: in/a/new added: file of 5 bytes",
        "inputs: in/old removed: file of 4 bytes",
    ];
    assert_said(&project(""), change, &expected);
}

#[test]
fn a_long_group_is_cut_and_v_shows_all() {
    need!(Sandbox);
    let project = project("");
    project.sbx(["run", "t"]).ok();
    for index in 0..15 {
        project.write(&format!("in/new{index}"), "");
    }
    project.sbx(["run", "t"]).ok();
    let (_, differences) = said(&project.sbx(["why"]).ok());
    assert_eq!((differences.len(), differences[10].as_str()), (11, "inputs: … and 5 more (-v shows all)"));
    let (_, differences) = said(&project.sbx(["why", "-v"]).ok());
    assert_eq!((differences.len(), differences[14].as_str()), (15, "inputs: in/new9 added: file of 0 bytes"));
}

#[test]
fn arguments_are_told_by_their_place() {
    need!(Sandbox);
    let project = project("");
    project.sbx(["run", "t", "same", "one"]).ok();
    project.sbx(["run", "t", "same", "t w o", "end"]).ok();
    let (_, differences) = said(&project.sbx(["why", "t"]).ok());
    assert_eq!(differences, ["arguments: argument 2: one -> 't w o'", "arguments: argument 3 added: end"]);
}

#[test]
fn the_working_directory_is_told() {
    need!(Sandbox);
    let project = project("");
    project.sbx(["run", "t"]).ok();
    project.sbx(["run", "t"]).cwd(project.path("in")).ok();
    assert_eq!(said(&project.sbx(["why"]).ok()).1, ["working directory: /src -> /src/in"]);
}

#[test]
fn variables_are_told_with_their_values() {
    need!(Sandbox);
    assert_config_said(
        "[env]\nset = { A = '1', B = '2' }",
        "[env]\nset = { A = 'a b', C = '3' }",
        &["environment: A: 1 -> 'a b'", "environment: C added: 3", "environment: B removed: 2"],
    );
    let project = project("[env]\npass = ['CALLER']");
    project.sbx(["run", "t"]).env("CALLER", "me").ok();
    project.sbx(["run", "t"]).env("CALLER", "you").ok();
    assert_eq!(said(&project.sbx(["why"]).ok()).1, ["environment: CALLER: me -> you"]);
}

#[test]
fn a_mount_whose_content_changed_is_told() {
    need!(Sandbox);
    let project = project("[[mount]]\nsource = '../tool'\ntarget = '/opt/tool'\nidentity = 'content'");
    fs::create_dir(project.beside("tool")).expect("a directory");
    fs::write(project.beside("tool/file"), "1").expect("a file");
    project.sbx(["run", "t"]).ok();
    fs::write(project.beside("tool/file"), "2").expect("a file");
    project.sbx(["run", "t"]).ok();
    let (_, differences) = said(&project.sbx(["why"]).ok());
    assert_eq!(differences.len(), 1, "{differences:?}");
    assert!(differences[0].starts_with("mounts: /opt/tool: content "), "{differences:?}");
    let declared = "[[mount]]\nsource = '../tool'\ntarget = '/opt/tool'\nidentity = 'declared'\nversion = '12'";
    project.write("sandbox.toml", with_task(declared));
    project.sbx(["run", "t"]).ok();
    let (_, differences) = said(&project.sbx(["why"]).ok());
    assert!(differences[0].ends_with(" -> declared \"12\""), "{differences:?}");
}

#[test]
fn the_sandbox_itself_is_told() {
    need!(Sandbox);
    assert_config_said("", "[sandbox]\nhostname = 'other'", &["policy: hostname: sbx -> other"]);
    assert_config_said("", "[sandbox]\ngid = 7", &["policy: gid: 1000 -> 7"]);
    assert_config_said("[limits]\ntime = '10m'", "[limits]\ntime = '2m 3s'", &["time limit: 10m -> 2m 3s"]);
    assert_config_said(
        "",
        "[sandbox]\nworkdir = '/work'",
        &["working directory: /src -> /work", "inputs: their place: /src -> /work"],
    );
    assert_config_said("", "[[scratch]]\nname = 'c'\ntarget = '/c'", &["policy: scratch directory at /c added: c"]);
}

#[test]
fn the_uid_is_told_with_the_variables_that_follow_from_it() {
    need!(Sandbox);
    let project = project("");
    project.sbx(["run", "t"]).ok();
    project.write("sandbox.toml", with_task("[sandbox]\nuid = 0"));
    project.sbx(["run", "t"]).ok();
    let (_, differences) = said(&project.sbx(["why"]).ok());
    assert_eq!(differences[0], "policy: uid: 1000 -> 0");
    assert!(differences[1..].iter().all(|line| line.starts_with("environment: ")), "{differences:?}");
}

#[test]
fn limits_are_told() {
    need!(Sandbox);
    let project = project("[limits]\nopen_files = 100");
    project.sbx(["run", "t"]).ok();
    project.write("sandbox.toml", with_task("[limits]\nopen_files = 99"));
    project.sbx(["run", "t"]).ok();
    let (_, differences) = said(&project.sbx(["why"]).ok());
    assert!(!differences.is_empty());
    for line in differences {
        assert!(line.starts_with("policy: limit open_files") && line.ends_with(": 100 -> 99"), "{line}");
    }
}

#[test]
fn a_network_rule_is_told_and_why_nothing_was_looked_up() {
    need!(Sandbox);
    let rules =
        |allow: &str| with_task(&format!("[network]\nallow = ['{allow}']\nhosts = {{ 'a.test' = '127.0.0.1' }}"));
    let project = project("");
    project.write("sandbox.toml", rules("a.test:1"));
    project.sbx(["run", "t"]).ok();
    project.write("sandbox.toml", rules("a.test:2"));
    project.sbx(["run", "t"]).ok();
    let ended = project
        .sbx(["why"])
        .ok()
        .stdout_has("no earlier result was looked up, and its own is not kept: `network.allow` ");
    assert!(ended.stdout.lines().nth(2).is_some_and(|line| line.starts_with("it differs from run ")), "{ended:?}");
    let (_, differences) = said(&ended);
    assert_eq!(differences, ["policy: network rule added: a.test:2", "policy: network rule removed: a.test:1"]);
}

#[test]
fn outputs_are_told() {
    need!(Sandbox);
    let with_outputs = |outputs: &str| with_task("") + &format!("outputs = ['{outputs}']\n");
    let project = project("");
    project.write("sandbox.toml", with_outputs("in/text"));
    project.sbx(["run", "t"]).ok();
    project.write("sandbox.toml", with_outputs("in/**"));
    project.sbx(["run", "t"]).ok();
    let (_, differences) = said(&project.sbx(["why"]).ok());
    assert_eq!(differences, ["outputs: added: 'in/**'", "outputs: removed: in/text"]);
}

#[test]
fn the_first_run_is_called_so() {
    need!(Sandbox);
    let project = project("");
    project.sbx(["run", "t"]).ok();
    let (verdict, _) = said(&project.sbx(["why"]).ok());
    assert_eq!(verdict, "computed because no earlier run of the task t is recorded");
    // Another command is no earlier run of this one.
    project.run(["true", "1"]).ok();
    project.run(["true", "2"]).ok();
    let (verdict, _) = said(&project.sbx(["why"]).ok());
    assert_eq!(verdict, "computed because no earlier run of this command is recorded");
    project.write("in/new", "");
    project.run(["true", "1"]).ok();
    assert_eq!(said(&project.sbx(["why"]).ok()).1, ["inputs: in/new added: file of 0 bytes"]);
}

#[test]
fn the_closest_earlier_run_is_compared() {
    need!(Sandbox);
    let project = project("");
    let run = |text: &str| {
        project.write("in/text", text);
        project.sbx(["run", "t"]).ok();
        let json: Value = serde_json::from_str(&project.sbx(["why", "--json"]).ok().stdout).expect("JSON");
        json
    };
    let first = run("one\ntwo\nthree\n");
    project.write("in/more", "");
    project.write("in/even_more", "");
    let second = run("one\n");
    assert_eq!(second["compared"]["id"], first["run"]["id"]);
    fs::remove_file(project.path("in/more")).expect("a file is removed");
    fs::remove_file(project.path("in/even_more")).expect("a file is removed");
    // Two inputs fewer than the newest, or one other text than the oldest.
    let third = run("one\ntwo\n");
    assert_eq!(third["compared"]["id"], first["run"]["id"]);
    assert_eq!(third["differences"].as_array().expect("a list").len(), 1);
}

#[test]
fn a_hit_is_traced_to_the_run_that_computed_it() {
    need!(Sandbox);
    let one = project("");
    one.sbx(["run", "t"]).ok();
    let computed: Value = serde_json::from_str(&one.sbx(["why", "--json"]).ok().stdout).expect("JSON");
    assert_eq!((&computed["verdict"], &computed["cache"]["state"]), (&json!("first"), &json!("miss")));
    let id = computed["run"]["id"].as_str().expect("an id");
    one.sbx(["run", "t"]).ok();
    let directory = one.path("").canonicalize().expect("the project");
    let shown = format!(" in {}; it saved ", directory.display());
    one.sbx(["why"]).ok().stdout_has(&format!("not computed: the result is that of run {id} at ")).stdout_has(&shown);
    let hit: Value = serde_json::from_str(&one.sbx(["why", "--json"]).ok().stdout).expect("JSON");
    assert_eq!((&hit["verdict"], &hit["cache"]["from"]), (&json!("hit"), &json!(id)));
    assert_eq!(hit["cache"]["from_project"], directory.to_str().expect("UTF-8"));
}

#[test]
fn a_failed_run_says_why_its_result_is_not_kept_and_so_does_the_next() {
    need!(Sandbox);
    let project = project("");
    project.sh("exit 3").code(3);
    project
        .sbx(["why"])
        .ok()
        .stdout_has("(exit code 3)\ncomputed because no earlier run of this command is recorded\n")
        .stdout_has("its own result is not kept: the command exited with 3");
    project.sh("exit 3").code(3);
    project
        .sbx(["why"])
        .ok()
        .stdout_has("computed again, although nothing differs from run ")
        .stdout_has(": its result was not kept: the command exited with 3");
}

#[test]
fn a_run_that_was_not_looked_up_says_why() {
    need!(Sandbox);
    let project = project("");
    project.sbx(["run", "t"]).ok();
    project.sbx(["run", "-i", "t"]).ok();
    project
        .sbx(["why"])
        .ok()
        .stdout_has("no earlier result was looked up, and its own is not kept: the command reads standard input (-i)\n")
        .stdout_has("nothing differs from run ");
    project.sbx(["run", "--force", "t"]).ok();
    project.sbx(["why"]).ok().stdout_has("no earlier result was looked up (--force)\n");
}

#[test]
fn a_result_that_was_removed_is_told() {
    need!(Sandbox);
    let project = project("");
    project.sbx(["run", "t"]).ok();
    fs::remove_dir_all(project.beside("cache/actions")).expect("the results are removed");
    project.sbx(["run", "t"]).ok();
    project
        .sbx(["why"])
        .ok()
        .stdout_has("computed again, although nothing differs from run ")
        .stdout_has(": its result was removed from the store since, or is damaged\n");
}

#[test]
fn a_task_is_asked_for_by_its_name() {
    need!(Sandbox);
    let project = project("");
    project.sbx(["why"]).code(125).stderr_has("error: no run of this project is recorded");
    project.sbx(["run", "t"]).ok();
    project.run(["true"]).ok();
    project.sbx(["why"]).ok().stdout_has(": true (exit code 0)\n");
    project.sbx(["why", "t"]).ok().stdout_has(": task t: true (exit code 0)\n");
    project.sbx(["why", "u"]).code(125).stderr_has("error: no run of the task `u` is recorded");
}

/// Every blob of the store.
fn blobs(project: &Project) -> Vec<PathBuf> {
    let directories = fs::read_dir(project.beside("cache/blobs")).expect("blobs");
    let in_one =
        |entry: fs::DirEntry| fs::read_dir(entry.path()).expect("a directory").map(|blob| blob.expect("a blob").path());
    directories.flat_map(|entry| in_one(entry.expect("an entry"))).collect()
}

#[test]
fn what_is_gone_or_damaged_is_named_and_never_a_panic() {
    need!(Sandbox);
    let project = project("");
    project.sbx(["run", "t"]).ok();
    project.write("in/text", "other\n");
    project.sbx(["run", "t"]).ok();
    // One run has its tree in full, the other has it too; without them only their digests are known.
    for place in ["trees", "deltas"] {
        let _absent = fs::rename(project.beside("cache").join(place), project.beside(place));
    }
    let (_, differences) = said(&project.sbx(["why"]).ok().stdout_has("the inputs of run "));
    assert!(differences[0].starts_with("inputs: the whole tree: "), "{differences:?}");
    for place in ["trees", "deltas"] {
        let _absent = fs::rename(project.beside(place), project.beside("cache").join(place));
    }
    let (_, differences) = said(&project.sbx(["why"]).ok());
    assert_eq!(differences, ["inputs: in/text: +1 -3 lines"]);

    let records: Vec<_> = fs::read_dir(project.beside("cache/runs")).expect("runs").collect();
    let directory = records[0].as_ref().expect("a project").path();
    fs::write(directory.join("00000000-damaged.json"), "{").expect("a damaged record");
    project.sbx(["why"]).ok().stderr_has("00000000-damaged.json is damaged and passed over");
    let texts = blobs(&project);
    assert!(texts.len() > 6);
    for blob in &texts {
        // Of the same length: only the hash tells, where the time is kept.
        let length = fs::metadata(blob).expect("a blob").len();
        fs::write(blob, vec![b'x'; usize::try_from(length).expect("a length")]).expect("a blob is damaged");
    }
    project.sbx(["why"]).ok().stdout_has("what it could be compared by is gone").stdout_has("the action of run ");
    for blob in &texts {
        fs::remove_file(blob).expect("a blob is removed");
    }
    let json: Value = serde_json::from_str(&project.sbx(["why", "--json"]).ok().stdout).expect("JSON");
    assert_eq!((&json["verdict"], &json["gone"][0]["what"]), (&json!("incomparable"), &json!("action")));
}

#[test]
fn nothing_of_a_project_steers_the_terminal() {
    need!(Sandbox);
    let project = project("");
    project.sbx(["run", "t", "\u{1b}[2J"]).ok();
    project.write("in/\u{202e}x", "");
    project.sbx(["run", "t", "a\nb"]).ok();
    let ended = project.sbx(["why"]).ok();
    assert!(!ended.stdout.contains(['\u{1b}', '\u{202e}']), "{ended:?}");
    let (_, differences) = said(&ended);
    assert_eq!(
        differences,
        ["arguments: argument 1: '\\u{1b}[2J' -> 'a\\nb'", "inputs: in/\\u{202e}x added: file of 0 bytes"]
    );
}
