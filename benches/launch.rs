//! What it costs to run `true`: bare, under bubblewrap with the same view, under sbx, and under sbx with a warm pool.
//!
//! `cargo bench --bench launch [-- ROUNDS]`. The four take turns; paced (20 ms between two launches) and back to back.

mod common;

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
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

/// A pool, in a runtime directory of its own; it ends with the bench.
struct Pool<'a> {
    project: &'a Path,
    cache: &'a Path,
    runtime: PathBuf,
}

impl<'a> Pool<'a> {
    /// With more pairs than are ever taken before new ones are there.
    fn start(project: &'a Path, cache: &'a Path, runtime: PathBuf) -> Self {
        let pool = Self { project, cache, runtime };
        for args in [&["-q", "pool", "start", "--size", "32"][..], &["-q", "pool", "warm", "32"]] {
            assert!(pool.sbx(args).status().expect("sbx starts").success(), "{args:?}");
        }
        pool
    }

    /// `sbx ARGS` with this pool.
    fn sbx(&self, args: &[&str]) -> Command {
        let mut command = sbx(self.project, self.cache, args);
        command.env("XDG_RUNTIME_DIR", &self.runtime);
        command
    }
}

impl Drop for Pool<'_> {
    fn drop(&mut self) {
        let output = self.sbx(&["pool", "status"]).output().expect("sbx starts");
        say(&String::from_utf8_lossy(&output.stdout));
        let _ = self.sbx(&["-q", "pool", "stop"]).status();
    }
}

fn runtime(base: &tempfile::TempDir, name: &str) -> PathBuf {
    let path = base.path().join(name);
    fs::DirBuilder::new().mode(0o700).create(&path).expect("a directory");
    path
}

fn main() {
    let rounds = std::env::args().filter_map(|word| word.parse().ok()).next().unwrap_or(300);
    let base = directory();
    let (project, cache) = (below(&base, "project"), below(&base, "cache"));
    fs::write(project.join("sandbox.toml"), "").expect("sandbox.toml");
    let bare = || time(&mut Command::new("/bin/true"));
    let with_bwrap = || time(&mut bwrap());
    let none = runtime(&base, "none");
    let run = ["-q", "run", "--no-cache", "--", "true"];
    let with_sbx = || time(sbx(&project, &cache, &run).env("XDG_RUNTIME_DIR", &none));
    let pool = Pool::start(&project, &cache, runtime(&base, "pool"));
    let with_pool = || time(&mut pool.sbx(&run));

    for (name, pause) in [("paced, 20 ms", Duration::from_millis(20)), ("back to back", Duration::ZERO)] {
        let samples = side_by_side(rounds, pause, &[&bare, &with_bwrap, &with_sbx, &with_pool]);
        let [bare, bwrap, sbx, pool] = samples.as_slice() else { unreachable!("four subjects") };
        say(&format!("{name}, {rounds} rounds"));
        quantiles("bare", bare);
        quantiles("bwrap --unshare-all", bwrap);
        quantiles("sbx run", sbx);
        quantiles("sbx run, warm pool", pool);
        heading();
        row(
            "sbx run -- true / bwrap --unshare-all with the same view, median",
            ratio(sbx.median(), bwrap.median()),
            0.5,
        );
        row("sbx run, p99 / p50", ratio(sbx.quantile(990), sbx.median()), 2.0);
        row("the same with a warm pool / bwrap --unshare-all, median", ratio(pool.median(), bwrap.median()), 0.4);
        row("with a warm pool, p99 / p50", ratio(pool.quantile(990), pool.median()), 2.0);
        row("with a warm pool / the bare command, median", ratio(pool.median(), bare.median()), 2.5);
        say("");
    }
}
