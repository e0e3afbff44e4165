//! The store takes care of itself: what a loss of power damages, what is removed and what never is.

use std::fs;
use std::path::PathBuf;

use crate::support::Project;

/// The files in a part of the store whose names end like this.
fn entries(project: &Project, part: &str, suffix: &str) -> Vec<PathBuf> {
    let found = fs::read_dir(project.beside("cache").join(part)).expect("a part of the store");
    let paths = found.map(|entry| entry.expect("an entry").path());
    paths.filter(|path| path.to_str().is_some_and(|path| path.ends_with(suffix))).collect()
}

#[test]
fn after_a_loss_of_power_no_run_sees_a_file_without_its_content() {
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
