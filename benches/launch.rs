//! What it costs to run `true`: bare, under bubblewrap with the same view, and under sbx.
//!
//! `cargo bench --bench launch [-- ROUNDS]`. The three take turns; paced (20 ms between two launches) and back to back.

mod common;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::{Sample, below, directory, heading, ms, ratio, row, say, sbx, side_by_side, time};

fn bwrap() -> Command {
    let mut command = Command::new("bwrap");
    command.args(["--unshare-all", "--die-with-parent", "--clearenv", "--hostname", "sbx", "--tmpfs", "/"]);
    for path in ["/usr", "/bin", "/lib", "/lib64", "/sbin", "/etc/alternatives", "/etc/ssl"] {
        match Path::new(path).read_link() {
            Ok(target) => command.arg("--symlink").arg(target).arg(path),
            Err(_) if Path::new(path).exists() => command.args(["--ro-bind", path, path]),
            Err(_) => &mut command,
        };
    }
    command.args([
        "--proc",
        "/proc",
        "--dev",
        "/dev",
        "--tmpfs",
        "/tmp",
        "--dir",
        "/src",
        "--chdir",
        "/src",
        "/bin/true",
    ]);
    command
}

fn quantiles(name: &str, sample: &Sample) {
    let [p50, p90, p99] = [500, 900, 990].map(|permille| ms(sample.quantile(permille)));
    say(&format!("  {name:<24} p50 {p50:>9}   p90 {p90:>9}   p99 {p99:>9}"));
}

fn main() {
    let rounds = std::env::args().filter_map(|word| word.parse().ok()).next().unwrap_or(300);
    let base = directory();
    let (project, cache) = (below(&base, "project"), below(&base, "cache"));
    std::fs::write(project.join("sandbox.toml"), "").expect("sandbox.toml");
    let bare = || time(&mut Command::new("/bin/true"));
    let with_bwrap = || time(&mut bwrap());
    let with_sbx = || time(&mut sbx(&project, &cache, &["-q", "run", "--", "true"]));

    for (name, pause) in [("paced, 20 ms", Duration::from_millis(20)), ("back to back", Duration::ZERO)] {
        let samples = side_by_side(rounds, pause, &[&bare, &with_bwrap, &with_sbx]);
        let [bare, bwrap, sbx] = samples.as_slice() else { unreachable!("three subjects") };
        say(&format!("{name}, {rounds} rounds"));
        quantiles("bare", bare);
        quantiles("bwrap --unshare-all", bwrap);
        quantiles("sbx run", sbx);
        heading();
        row(
            "sbx run -- true / bwrap --unshare-all with the same view, median",
            ratio(sbx.median(), bwrap.median()),
            0.5,
        );
        row("sbx run, p99 / p50", ratio(sbx.quantile(990), sbx.median()), 2.0);
        say("");
    }
}
