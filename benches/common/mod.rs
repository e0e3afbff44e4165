//! What the benches share: runs of subjects side by side, quantiles, and a table of ratios with their targets.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The durations of one subject, sorted.
pub(crate) struct Sample(Vec<Duration>);

impl Sample {
    pub(crate) fn new(mut durations: Vec<Duration>) -> Self {
        durations.sort();
        Self(durations)
    }

    /// The smallest duration that at least `permille` thousandths of all do not exceed.
    pub(crate) fn quantile(&self, permille: usize) -> Duration {
        self.0[(self.0.len() * permille).div_ceil(1000).max(1) - 1]
    }

    pub(crate) fn median(&self) -> Duration {
        self.quantile(500)
    }
}

/// Runs every subject once a round and returns one sample for each. Side by side: whatever slows the machine for a while
/// slows all of them. Every other round goes backwards, for the kernel takes a namespace down after its process has
/// ended, and whoever is next pays for that.
pub(crate) fn side_by_side(rounds: usize, pause: Duration, subjects: &[&dyn Fn() -> Duration]) -> Vec<Sample> {
    let mut durations = vec![Vec::with_capacity(rounds); subjects.len()];
    for subject in subjects {
        subject();
    }
    for round in 0..rounds {
        for turn in 0..subjects.len() {
            let index = if round % 2 == 0 { turn } else { subjects.len() - 1 - turn };
            std::thread::sleep(pause);
            durations[index].push(subjects[index]());
        }
    }
    durations.into_iter().map(Sample::new).collect()
}

/// The time from the start of a program to its end; it has to succeed.
pub(crate) fn time(command: &mut Command) -> Duration {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let began = Instant::now();
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let duration = began.elapsed();
    assert!(status.success(), "{command:?}: {status}");
    duration
}

/// `sbx ARGS` in `project`, with its store in `cache`.
pub(crate) fn sbx(project: &Path, cache: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sbx"));
    command.current_dir(project).args(args).env("SBX_CACHE_DIR", cache);
    command
}

/// A new directory for the bench; it is removed when dropped.
pub(crate) fn directory() -> tempfile::TempDir {
    let base =
        tempfile::Builder::new().prefix("sbx-bench-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    // Here ends the reach of the repository's ignore rules, which leave out the directory that it is in.
    std::fs::create_dir(base.path().join(".git")).expect("a directory");
    base
}

/// A new directory in `base`.
pub(crate) fn below(base: &tempfile::TempDir, name: &str) -> PathBuf {
    let path = base.path().join(name);
    std::fs::create_dir(&path).expect("a directory");
    path
}

/// Writes a line to standard output.
pub(crate) fn say(line: &str) {
    writeln!(std::io::stdout(), "{line}").expect("standard output takes a line");
}

/// Milliseconds with two digits.
pub(crate) fn ms(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1e3)
}

/// The heading of the rows that [`row`] prints.
pub(crate) fn heading() {
    say(&format!("{:<66} {:>8} {:>8}  verdict", "what", "figure", "target"));
}

/// One ratio against its target.
pub(crate) fn row(what: &str, figure: f64, target: f64) {
    let verdict = if figure <= target { "holds" } else { "misses" };
    say(&format!("{what:<66} {figure:>8.2} {target:>8.2}  {verdict}"));
}

/// `a / b`.
pub(crate) fn ratio(a: Duration, b: Duration) -> f64 {
    a.as_secs_f64() / b.as_secs_f64()
}
