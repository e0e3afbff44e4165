//! Everything once more as an ordinary user, when the tests run as root.
//!
//! The checkout may lie where such a user can't go (`/root`), so all that the tests read is copied to a place that anyone
//! may enter; [`ROOT_VARIABLE`] says where.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::support::{AGAIN_VARIABLE, BINARY_VARIABLE, ROOT_VARIABLE, copy_program, note, root, sbx};

/// An id that no account of a usual machine has.
const ID: &str = "61234";
/// What of a checkout no test reads.
const UNREAD: [&str; 3] = ["target", ".git", "fuzz"];

#[test]
fn the_same_as_an_ordinary_user() {
    need!(Sandbox);
    need!(Root);
    let base = tempfile::Builder::new().prefix("sbx-again-").tempdir().expect("a temporary directory");
    let place = |name: &str| base.path().join(name);
    fs::set_permissions(base.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
    let tests = std::env::current_exe().expect("the test binary");
    for (from, to) in [(tests, "it"), (sbx(), "sbx")] {
        copy_program(from, place(to));
    }
    fs::create_dir(place("checkout")).expect("a directory");
    for entry in fs::read_dir(root()).expect("the checkout") {
        let entry = entry.expect("an entry of the checkout");
        if !UNREAD.iter().any(|name| entry.file_name() == *name) {
            let copied = Command::new("cp").arg("-r").arg(entry.path()).arg(place("checkout")).status().expect("cp");
            assert!(copied.success(), "{} can't be copied", entry.path().display());
        }
    }
    for (name, owner) in [("checkout", "0"), ("home", ID), ("run", ID), ("tmp", ID)] {
        fs::create_dir_all(place(name)).expect("a directory");
        let owned = Command::new("chown").args(["-R", &format!("{owner}:{owner}")]).arg(place(name)).status();
        assert!(owned.expect("chown").success());
    }
    let readable = ["checkout", "it", "sbx"].map(place);
    let mode = Command::new("chmod").args(["-R", "a+rX,go-w"]).args(readable).status();
    assert!(mode.expect("chmod").success());

    let output = Command::new("setpriv")
        .args(["--reuid", ID, "--regid", ID, "--clear-groups", "--inh-caps=-all", "--bounding-set=-all", "--"])
        .arg(place("it"))
        .args(["--skip", "again::"])
        .current_dir(place("home"))
        .env(AGAIN_VARIABLE, "1")
        .env(ROOT_VARIABLE, place("checkout"))
        .env(BINARY_VARIABLE, place("sbx"))
        .env("HOME", place("home"))
        .env("TMPDIR", place("tmp"))
        .env("XDG_RUNTIME_DIR", place("run"))
        .env("XDG_CACHE_HOME", place("home").join("cache"))
        .env("INSTA_WORKSPACE_ROOT", place("checkout"))
        .env("INSTA_UPDATE", "no")
        .output()
        .expect("setpriv(1) of util-linux");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let result = stdout.lines().find(|line| line.starts_with("test result:"));
    let passed = result.and_then(|line| line.split_whitespace().nth(3)).and_then(|word| word.parse::<u32>().ok());
    if !output.status.success() || passed.is_none_or(|count| count == 0) {
        panic!("as uid {ID}:\n{stdout}\n{}", String::from_utf8_lossy(&output.stderr));
    }
    note(&format!("as uid {ID}, {}", result.expect("a result")));
}
