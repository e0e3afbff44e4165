//! What stands for the host's own directories in the identity of a run.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::support::Project;

/// A project that shows `tools`, a directory of the host that no package owns, beside the usual ones.
fn project(tools: &Path, identity: &str) -> Project {
    let usual = "'/usr', '/bin', '/lib', '/lib64', '/sbin'";
    let tools = tools.display();
    Project::new().config(&format!("[rootfs]\nhost = [{usual}, '{tools}']\nidentity = '{identity}'"))
}

/// A directory that may be shown: nothing of `/tmp` may.
fn tools() -> TempDir {
    let dir = tempfile::tempdir_in("/var/tmp").expect("a directory");
    fs::write(dir.path().join("tool"), "one\n").expect("a file");
    dir
}

/// The digest of the action that prints the tool.
fn action(project: &Project, tools: &Path) -> String {
    let tool = tools.join("tool");
    let ended = project.sbx(["hash", "--json", "--", "cat", tool.to_str().expect("UTF-8")]).ok();
    let hash: serde_json::Value = serde_json::from_str(&ended.stdout).expect("JSON");
    hash["action"].as_str().expect("a digest").to_owned()
}

#[test]
fn a_changed_tool_is_another_action() {
    need!(Sandbox);
    let tools = tools();
    let project = project(tools.path(), "packages");
    let tool = tools.path().join("tool");
    let first = action(&project, tools.path());
    assert_eq!(action(&project, tools.path()), first);
    project.run(["cat", tool.to_str().expect("UTF-8")]).stdout("one\n");
    // The same size, and the same time as far as a file system of seconds can tell.
    fs::write(&tool, "two\n").expect("a file");
    assert_ne!(action(&project, tools.path()), first);
    project.run(["cat", tool.to_str().expect("UTF-8")]).stdout("two\n");
    fs::write(&tool, "one\n").expect("a file");
    assert_eq!(action(&project, tools.path()), first, "it is the content that counts");
}

#[test]
fn the_same_tools_are_the_same_in_every_project() {
    let tools = tools();
    let (one, other) = (project(tools.path(), "packages"), project(tools.path(), "packages"));
    assert_eq!(action(&one, tools.path()), action(&other, tools.path()));
}
