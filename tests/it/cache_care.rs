//! The store takes care of itself: what a loss of power damages, what is removed and what never is.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::support::Project;

/// The files in a part of the store whose names end like this.
fn entries(project: &Project, part: &str, suffix: &str) -> Vec<PathBuf> {
    let found = fs::read_dir(project.beside("cache").join(part)).expect("a part of the store");
    let paths = found.map(|entry| entry.expect("an entry").path());
    paths.filter(|path| path.to_str().is_some_and(|path| path.ends_with(suffix))).collect()
}

#[test]
fn after_a_loss_of_power_no_run_sees_a_file_without_its_content() {
    need!(Sandbox);
    let project = Project::new().config("inputs = ['src/**']").file("src/a", "whole\n").file("src/b", "too\n");
    assert_eq!(project.run(["cat", "src/a", "src/b"]).ok().stdout, "whole\ntoo\n");
    // The content never reached the disk, and the machine was started again.
    for layer in entries(&project, "trees", "") {
        let file = layer.join("src/src/a");
        if file.exists() {
            fs::File::options().write(true).open(file).expect("a file").set_len(0).expect("cut");
        }
    }
    let markers: Vec<_> = ["trees", "roots"].iter().flat_map(|part| entries(&project, part, ".boot")).collect();
    assert!(markers.len() >= 2, "{markers:?}");
    for marker in &markers {
        fs::write(marker, "00000000-0000-0000-0000-000000000000").expect("a marker");
    }
    assert_eq!(project.run(["cat", "src/a", "src/b"]).ok().stdout, "whole\ntoo\n");
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("this boot");
    for marker in markers {
        assert_eq!(fs::read_to_string(marker).expect("a marker"), boot.trim_end());
    }
}

/// What `sbx cache stats --json` says of one kind: how many, and how many bytes.
fn stats(project: &Project, kind: &str) -> (u64, u64) {
    let text = project.sbx(["cache", "stats", "--json"]).ok().stdout;
    let json: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(json["version"], 1);
    let kind = &json["kinds"][kind];
    (kind["count"].as_u64().expect("a count"), kind["bytes"].as_u64().expect("bytes"))
}

fn with_input() -> Project {
    Project::new().config("inputs = ['a']").file("a", "text\n")
}

#[test]
fn what_the_store_holds_is_said_and_can_be_cleared() {
    need!(Sandbox);
    let project = with_input();
    project.sbx(["cache", "stats"]).ok().stdout_has("0 B of 20.00 GiB");
    project.run(["cat", "a"]).stdout("text\n");
    project.sbx(["cache", "stats"]).ok().stdout_has("input trees").stdout_has("records of runs");
    assert!(stats(&project, "trees").0 == 1 && stats(&project, "blobs").1 > 0 && stats(&project, "records").0 == 1);

    // What was used just now is no garbage, and a dry run removes nothing.
    project.sbx(["cache", "gc"]).ok().stdout_has("removed nothing");
    project.sbx(["cache", "gc", "--max-size", "0B", "--dry-run"]).ok().stdout_has("would remove");
    assert_eq!(stats(&project, "trees").0, 1);
    let text = project.sbx(["cache", "gc", "--max-size", "0B", "--json"]).ok().stdout;
    let json: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((&json["version"], &json["removed"]["trees"]["count"]), (&1.into(), &1.into()));
    // Blobs of the last hour stay for whoever is about to use them.
    assert!(json["young"].as_u64().expect("a number") > 0 && stats(&project, "blobs").0 > 0, "{json}");

    project.run(["cat", "a"]).stdout("text\n");
    project.sbx(["cache", "clear"]).ok().stdout_has("removed ");
    for kind in ["results", "trees", "roots", "deltas", "memos", "fetched"] {
        assert_eq!(stats(&project, kind), (0, 0), "{kind}");
    }
    assert!(stats(&project, "records").0 >= 2);
    project.run(["cat", "a"]).stdout("text\n");
    project.sbx(["cache", "verify"]).ok().stdout_has("all is right");
}

#[test]
fn scratch_directories_are_kept_until_they_are_named() {
    need!(Sandbox);
    let project = Project::new().config("[[scratch]]\nname = 'keep'\ntarget = '/keep'");
    let add = || project.sh("echo x >> /keep/file; cat /keep/file");
    add().stdout("x\n");
    project.sbx(["cache", "gc", "--max-size", "0B"]).ok();
    project.sbx(["cache", "clear"]).ok();
    assert_eq!(stats(&project, "kept-scratch").0, 1);
    add().stdout("x\nx\n");
    let mut live = project.sbx(["run", "--", "sh", "-c", "echo ready; sleep 1000"]).start();
    live.wait_for_line("ready");
    project.sbx(["cache", "clear", "--scratch"]).ok().stdout_has("stay: 1 sandboxes are running");
    live.signal("TERM");
    live.end().code(143);
    project.sbx(["cache", "clear", "--scratch"]).ok();
    assert_eq!(stats(&project, "kept-scratch"), (0, 0));
    add().stdout("x\n");
}

#[test]
fn nothing_is_removed_under_a_run() {
    need!(Sandbox);
    let project = with_input();
    let script = "echo ready; while ! test -e go; do sleep 0.01; done; cat a; ls /usr/bin/env";
    let config = "inputs = ['a']\n[[scratch]]\nname = 'sign'\ntarget = '/sign'";
    project.write("sandbox.toml", config);
    let script = script.replace("test -e go", "test -e /sign/go");
    let mut live = project.sbx(["run", "--", "sh", "-c", &script]).start();
    live.wait_for_line("ready");
    let cleared = project.sbx(["cache", "clear"]).ok();
    assert!(cleared.stdout.contains("layers stay: they are in use"), "{cleared:?}");
    project.sbx(["cache", "gc", "--max-size", "0B"]).ok().stdout_has("in use");
    project.sbx(["cache", "verify", "--repair"]).ok();
    for kept in fs::read_dir(project.beside("cache/kept")).expect("kept scratch") {
        fs::write(kept.expect("an entry").path().join("sign/go"), "").expect("a sign");
    }
    let ended = live.end().code(0);
    assert_eq!(ended.stdout, "text\n/usr/bin/env\n");
    project.sbx(["cache", "clear"]).ok();
    assert_eq!(stats(&project, "trees").0, 0);
}

#[test]
fn a_flipped_bit_is_found_repaired_and_never_run() {
    need!(Sandbox);
    let project = with_input();
    project.run(["cat", "a"]).stdout("text\n");
    let blob = |dir: &Path| {
        let all = fs::read_dir(dir).expect("a part of the store").map(|entry| entry.expect("an entry").path());
        let files =
            all.flat_map(|part| fs::read_dir(part).expect("blobs").map(|entry| entry.expect("an entry").path()));
        files.into_iter().find(|path| fs::read(path).is_ok_and(|bytes| bytes == b"text\n"))
    };
    let path = blob(&project.beside("cache/blobs")).expect("the input's blob");
    let time = fs::metadata(&path).expect("a blob").modified().expect("a time");
    fs::write(&path, "tExt\n").expect("flipped");
    fs::File::open(&path).expect("a blob").set_modified(time).expect("its time");

    let found = project.sbx(["cache", "verify"]).code(1);
    assert!(found.stdout.contains("it has another content") && found.stdout.contains("trees/"), "{found:?}");
    let text = project.sbx(["cache", "verify", "--json"]).code(1).stdout;
    let json: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(json["damaged"][0]["removed"], false);
    project.sbx(["cache", "verify", "--repair"]).ok().stdout_has("(removed)");
    project.sbx(["cache", "verify"]).ok().stdout_has("all is right");
    project.run(["cat", "a"]).stdout("text\n");
}

#[test]
fn runs_beside_gc_and_verify_never_fail() {
    need!(Sandbox);
    let projects: Vec<_> = (0..3).map(|_| Project::new().config("inputs = ['**']")).collect();
    let cache = projects[0].beside("cache");
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let runs: Vec<_> = projects
            .iter()
            .map(|project| {
                let cache = &cache;
                scope.spawn(move || {
                    for round in 0..12 {
                        project.write("a", format!("{round}\n"));
                        project.write("b", "always the same\n");
                        let run = project.sbx(["run", "--", "cat", "a", "b"]).env("SBX_CACHE_DIR", cache);
                        assert_eq!(run.ok().stdout, format!("{round}\nalways the same\n"));
                    }
                })
            })
            .collect();
        for line in [&["cache", "clear"][..], &["cache", "gc", "--max-size", "0B"], &["cache", "verify"]] {
            let (over, project) = (&over, &projects[0]);
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    project.sbx(line).ok();
                }
            });
        }
        let ended: Vec<_> = runs.into_iter().map(thread::ScopedJoinHandle::join).collect();
        over.store(true, Ordering::Relaxed);
        ended.into_iter().for_each(|run| run.expect("every run succeeds"));
    });
    projects[0].sbx(["cache", "verify"]).ok();
}

#[test]
fn a_killed_gc_leaves_no_damage() {
    need!(Sandbox);
    let project = Project::new().config("inputs = ['**']");
    for file in 0..50 {
        project.write(&format!("d{file}/f"), format!("{file}\n"));
    }
    for round in 0..20_u64 {
        project.write("d0/f", format!("{round}\n"));
        project.run(["cat", "d0/f", "d49/f"]).stdout(&format!("{round}\n49\n"));
        let clear = project.sbx(["cache", "clear"]).start_silent();
        // It waits 50 ms for the clock first.
        thread::sleep(Duration::from_millis(45 + round * 2));
        clear.signal("KILL");
        clear.status();
        project.sbx(["cache", "verify"]).ok();
    }
    project.sbx(["cache", "clear"]).ok();
    // A file that was being written is swept after a day.
    let left = fs::read_dir(project.beside("cache/tmp")).expect("tmp").map(|entry| entry.expect("an entry").path());
    let left: Vec<_> = left.filter(|path| path.is_dir()).collect();
    assert!(left.is_empty(), "what killed ones were removing is removed: {left:?}");
}

#[test]
fn the_budget_is_kept_without_being_asked() {
    need!(Sandbox);
    let project = Project::new().config("inputs = ['a']");
    for round in 0..4 {
        project.write("a", format!("{round}").repeat(600_000));
        let run = project.sbx(["-v", "run", "--", "true"]).env("SBX_CACHE_SIZE", "1MiB").ok();
        assert!(run.stderr.contains(" of 1.00 MiB"), "{run:?}");
        assert_eq!(run.stderr.contains("sbx: cache: removed"), round > 0, "{round}: {run:?}");
    }
    // The blobs are young, the trees that nobody uses are not.
    assert!(stats(&project, "trees").0 < 4);
    project.sbx(["run", "--", "true"]).env("SBX_CACHE_SIZE", "lots").code(125).stderr_has("a size such as `20GiB`");
}
