//! What a known result costs: 1,000 output files brought back, or found in place, and 10,000 inputs looked through.
//!
//! `cargo bench --bench cache`, a minute or two. The page cache is warm for every subject.

mod common;
#[path = "common/files.rs"]
mod files;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::{below, directory, heading, ms, ratio, row, say, sbx, side_by_side, time};
use files::tree;

const ROUNDS: usize = 15;

fn outputs(base: &tempfile::TempDir) {
    let project = below(base, "outputs");
    tree(&project.join("in"), 1_000);
    fs::write(project.join("sandbox.toml"), "inputs = ['in']\noutputs = ['out']\n").expect("sandbox.toml");
    let (cache, out, copied) = (base.path().join("outputs-cache"), project.join("out"), base.path().join("copied"));
    let run = || time(&mut sbx(&project, &cache, &["-q", "run", "--", "cp", "-r", "in", "out"]));
    let hit = || {
        fs::remove_dir_all(&out).expect("the outputs are removed");
        run()
    };
    let copy = || {
        let duration = time(Command::new("cp").arg("-r").arg(project.join("in")).arg(&copied));
        fs::remove_dir_all(&copied).expect("the copy is removed");
        duration
    };
    run();
    let samples = side_by_side(ROUNDS, Duration::ZERO, &[&hit, &copy, &run]);
    let [hit, copy, in_place] = samples.as_slice() else { unreachable!("three subjects") };
    say(&format!(
        "1,000 outputs: hit {}, the same in place {}, cp -r {}",
        ms(hit.median()),
        ms(in_place.median()),
        ms(copy.median())
    ));
    row("cache hit with 1,000 output files / cp -r of them", ratio(hit.median(), copy.median()), 1.3);
}

fn inputs(base: &tempfile::TempDir) {
    let (project, empty) = (below(base, "inputs"), below(base, "empty"));
    tree(&project, 10_000);
    fs::write(project.join("sandbox.toml"), "inputs = ['**', '!sandbox.toml']\n").expect("sandbox.toml");
    fs::write(empty.join("sandbox.toml"), "").expect("sandbox.toml");
    let git = |args: &[&str]| {
        let mut command = Command::new("git");
        let configured = command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
        time(configured.current_dir(&project).args(args))
    };
    git(&["init", "-q"]);
    git(&["add", "-A"]);
    let cache = base.path().join("inputs-cache");
    let run = |project: &Path| time(&mut sbx(project, &cache, &["-q", "run", "--", "true"]));
    run(&project);
    run(&empty);
    // A file that is younger than the clock's granularity is not trusted; the first run after a pause trusts all.
    std::thread::sleep(Duration::from_secs(2));
    run(&project);
    let computed = || time(&mut sbx(&project, &cache, &["-q", "run", "--no-cache", "--", "true"]));
    let status = || git(&["status", "--short"]);
    let samples = side_by_side(ROUNDS, Duration::ZERO, &[&|| run(&project), &|| run(&empty), &status, &computed]);
    let [hit, none, status, computed] = samples.as_slice() else { unreachable!("four subjects") };
    say(&format!(
        "10,000 inputs: hit {}, without inputs {}, git status {}, computed {}",
        ms(hit.median()),
        ms(none.median()),
        ms(status.median()),
        ms(computed.median())
    ));
    let added = hit.median().saturating_sub(none.median());
    row("10,000 unchanged inputs, a hit: added time / git status", ratio(added, status.median()), 1.0);
}

fn main() {
    let base = directory();
    heading();
    outputs(&base);
    inputs(&base);
}
