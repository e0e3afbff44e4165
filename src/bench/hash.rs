//! What it costs to know the inputs: unchanged ones, one changed, a branch switched, all of them new.

use std::cell::Cell;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::files::{self, fill, tree};
use super::report::{Beside, Measurement, Report, Target};
use super::rounds::{self, Subject, side_by_side};
use super::stats::{self, Interval, Sample};
use super::world::{Setup, World, git, program};
use super::{BenchError, Interrupts, Size};
use crate::sys::clone;
use crate::sys::event::signal;

/// A run that does nothing, computed each time.
const RUN: [&str; 5] = ["-q", "run", "--no-cache", "--", "true"];
/// The same, replayed.
const REPLAY: [&str; 4] = ["-q", "run", "--", "true"];
/// All of a project but its `sandbox.toml`.
const ALL: &str = "inputs = ['**', '!sandbox.toml']\n";
/// How long a file must be old to be trusted, whatever the clock's granularity.
const GRANULE: Duration = Duration::from_secs(2);

/// Runs the bench.
///
/// # Errors
/// When sbx can't be run, or a signal asks for the end.
pub fn run(
    setup: &Setup,
    size: Size,
    interrupts: &Interrupts,
    tell: &mut dyn FnMut(&str),
) -> Result<Report, BenchError> {
    let mut report = super::begin("hash", size);
    let world = World::new(setup)?;
    let empty = world.project("empty", "")?;
    let bench = Bench { world: &world, empty: &empty, size, interrupts };
    rounds::output(&mut world.sbx(&empty, &RUN), interrupts)?;
    report.notes.push("cold means a new store; the files are in the page cache for everyone".to_owned());
    // First, while the page cache has room.
    tell("large files, cold");
    bench.large(&mut report)?;
    report.group("inputs", "inputs of 4 KiB, none of them changed", Beside::Nothing);
    let [few, main, many, most] = size.pick([1_000, 10_000, 100_000, 300_000], [20, 50, 100, 200]);
    for count in [few, main, many, most] {
        tell(&format!("{count} unchanged inputs"));
        bench.unchanged(&mut report, count, count == main)?;
    }
    linear(&mut report, main, &[many, most]);
    tell("a branch is switched");
    bench.switched(&mut report, main)?;
    tell("many small files, cold");
    let small = bench.project("small", size.pick(50_000, 100))?;
    let beside = vec![Subject::new("cp -r", bench.copied(&small))];
    bench.cold(&mut report, "cold-small", &small, beside, ("cp -r", 1.5))?;
    super::warn_of_noise(&mut report, &["cold-large"], OPENSSL);
    Ok(report)
}

const OPENSSL: &str = "openssl dgst -sha256";

struct Bench<'a> {
    world: &'a World,
    empty: &'a Path,
    size: Size,
    interrupts: &'a Interrupts,
}

impl Bench<'_> {
    fn time(&self, command: &mut Command) -> Result<f64, BenchError> {
        rounds::time(command, self.interrupts)
    }

    fn project(&self, name: &str, count: u64) -> Result<PathBuf, BenchError> {
        let project = self.world.project(name, ALL)?;
        tree(&project, count, self.interrupts)?;
        Ok(project)
    }

    /// A run beside one without inputs, and git's own look at the same files.
    fn unchanged(&self, report: &mut Report, count: u64, is_main: bool) -> Result<(), BenchError> {
        let project = self.project(&format!("inputs-{count}"), count)?;
        let has_git = program(Path::new("git")).is_some();
        if has_git {
            self.index(&project)?;
        } else {
            report.lacks(format!("git status, {count} inputs"), "not installed");
        }
        self.time(&mut self.world.sbx(&project, &RUN))?;
        // A file that is younger than the clock's granularity is not trusted; the first run after a pause trusts all.
        std::thread::sleep(self.size.pick(GRANULE, Duration::ZERO));
        self.time(&mut self.world.sbx(&project, &RUN))?;
        let mut subjects = vec![
            Subject::new("sbx run", || self.time(&mut self.world.sbx(&project, &RUN))),
            Subject::new("sbx run, empty project", || self.time(&mut self.world.sbx(self.empty, &RUN))),
            Subject::new("sbx run, known result", || self.time(&mut self.world.sbx(&project, &REPLAY))),
            Subject::new("sbx run, known result, empty project", || {
                self.time(&mut self.world.sbx(self.empty, &REPLAY))
            }),
            Subject::new("sbx hash", || self.time(&mut self.world.sbx(&project, &["-q", "hash"]))),
        ];
        if has_git {
            let status = || self.time(&mut git(self.world, &project, &["status", "--short"]));
            subjects.push(Subject::new("git status", status));
        }
        // A round of the most takes seconds, one of few milliseconds.
        let rounds = match count {
            ..=10_000 => 3 * self.size.rounds,
            10_001..=100_000 => self.size.rounds,
            _ => self.size.rounds.div_ceil(3),
        };
        let turns = side_by_side(rounds, Duration::ZERO, subjects, self.interrupts)?;
        rounds::record(report, "inputs", turns, Some(("inputs", usize::try_from(count).unwrap_or(usize::MAX))));
        for (how, name) in [("", "sbx run"), (", a known result", "sbx run, known result")] {
            let samples = [name, &format!("{name}, empty project"), "git status"].map(|name| of(report, name, count));
            if let [Some(run), Some(none), Some(status)] = samples {
                let added = |[run, none, status]: [f64; 3]| (run - none).max(0.0) / status.max(f64::MIN_POSITIVE);
                let found = stats::interval([&run, &none, &status], added);
                let what = format!("{count} unchanged inputs{how}: added time / git status");
                report.targets.push(Target::new(what, found, 1.0));
            }
        }
        if is_main {
            self.one_changed(report, &project, count)?;
            let peak = self.peak_memory(&project)?;
            let peak = Interval { value: peak, low: peak, high: peak };
            report.targets.push(Target::new(
                format!("peak memory of sbx around a run, {count} inputs, in MB"),
                peak,
                30.0,
            ));
        }
        Ok(())
    }

    /// git's index as `git add` makes it, without the objects, which are not asked for: these take minutes for many files.
    fn index(&self, project: &Path) -> Result<(), BenchError> {
        let index = "alias.index=!git ls-files -z --others | git update-index -z --add --info-only --stdin";
        for args in [&["init", "-q"][..], &["-c", index, "index"]] {
            rounds::output(&mut git(self.world, project, args), self.interrupts)?;
        }
        Ok(())
    }

    /// A run after `git switch` to a branch on which one file in twenty is another, beside git's own look.
    fn switched(&self, report: &mut Report, count: u64) -> Result<(), BenchError> {
        let every = 20;
        let changed = count.div_ceil(every);
        let title = format!("{count} inputs of which git switch has just changed {changed}");
        report.group("switched", title, Beside::Ratio);
        if program(Path::new("git")).is_none() {
            report.lacks("git switch", "not installed");
            return Ok(());
        }
        let project = self.project("switched", count)?;
        let git = |args: &[&str]| rounds::output(&mut git(self.world, &project, args), self.interrupts);
        let commit = || {
            git(&["add", "-A"])?;
            git(&["-c", "user.name=bench", "-c", "user.email=bench@localhost", "commit", "-q", "-m", "all"])
        };
        git(&["init", "-q", "-b", "one"])?;
        commit()?;
        git(&["switch", "-q", "-c", "other"])?;
        for index in (0..count).step_by(every as usize) {
            fs::write(project.join(files::name(index)), fill(!index, 4096))
                .map_err(BenchError::io("change an input"))?;
        }
        commit()?;
        let other = Cell::new(true);
        let switch = || {
            other.set(!other.get());
            git(&["switch", "-q", if other.get() { "other" } else { "one" }])
        };
        // Both contents are in the store, as they are for who goes to and fro.
        for _ in 0..2 {
            switch()?;
            self.time(&mut self.world.sbx(&project, &RUN))?;
        }
        let status = || {
            switch()?;
            self.time(&mut super::world::git(self.world, &project, &["status", "--short"]))
        };
        let run = || {
            switch()?;
            self.time(&mut self.world.sbx(&project, &RUN))
        };
        let subjects = vec![
            Subject::new("git status", status),
            Subject::new("sbx run", run),
            Subject::new("sbx run, empty project", || self.time(&mut self.world.sbx(self.empty, &RUN))),
        ];
        let turns = side_by_side(self.size.rounds, Duration::ZERO, subjects, self.interrupts)?;
        rounds::record(report, "switched", turns, None);
        Ok(())
    }

    fn one_changed(&self, report: &mut Report, project: &Path, count: u64) -> Result<(), BenchError> {
        report.group("changed", format!("a run with {count} inputs"), Beside::Ratio);
        let (victim, seed) = (project.join("d0000/f7"), Cell::new(count << 32));
        let change = || {
            seed.set(seed.get() + 1);
            fs::write(&victim, fill(seed.get(), 4096)).map_err(BenchError::io("change an input"))?;
            self.time(&mut self.world.sbx(project, &RUN))
        };
        let subjects = vec![
            Subject::new("unchanged", || self.time(&mut self.world.sbx(project, &RUN))),
            Subject::new("one changed", change),
        ];
        let turns = side_by_side(3 * self.size.rounds, Duration::ZERO, subjects, self.interrupts)?;
        rounds::record(report, "changed", turns, None);
        ratio(report, &format!("one of {count} changed / unchanged run"), ("changed", "one changed", "unchanged"), 1.2);
        Ok(())
    }

    /// The peak resident set of sbx in megabytes, read while its command still runs.
    fn peak_memory(&self, project: &Path) -> Result<f64, BenchError> {
        let mut command =
            self.world.sbx(project, &["-q", "run", "--no-cache", "--", "sh", "-c", "echo ready; sleep 100"]);
        let failed = |reason: String| BenchError::Subject { what: "peak memory".to_owned(), reason };
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
        let mut line = String::new();
        let read = child.stdout.take().map(|stdout| BufReader::new(stdout).read_line(&mut line));
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        clone::kill(i32::try_from(child.id()).unwrap_or(i32::MAX), signal::TERM);
        child.wait().map_err(|error| failed(error.to_string()))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = peak.and_then(|peak| peak.trim().trim_end_matches(" kB").parse::<f64>().ok());
        match (read, kilobytes) {
            (Some(Ok(1..)), Some(kilobytes)) => Ok(kilobytes / 1000.0),
            _ => Err(failed("its command did not start".to_owned())),
        }
    }

    /// The time of `cp -r`; the copy is removed.
    fn copied<'a>(&'a self, project: &'a Path) -> impl FnMut() -> Result<f64, BenchError> + 'a {
        move || {
            let to = self.world.path("copied");
            let seconds = self.time(self.world.command("cp").arg("-r").arg(project).arg(&to))?;
            fs::remove_dir_all(&to).map_err(BenchError::io("remove a copy"))?;
            Ok(seconds)
        }
    }

    /// `sbx hash` into a new store, beside others that read the same bytes; held against the one of that `name`.
    fn cold<'a>(
        &'a self,
        report: &mut Report,
        group: &str,
        project: &'a Path,
        mut subjects: Vec<Subject<'a>>,
        (name, most): (&str, f64),
    ) -> Result<(), BenchError> {
        let what = if group == "cold-small" { "many files of 4 KiB" } else { "large files" };
        report.group(group, format!("{what}, hashed and stored for the first time"), Beside::Ratio);
        let cold = || {
            let cache = self.world.path("cold");
            let seconds = self.time(self.world.sbx(project, &["-q", "hash"]).env("SBX_CACHE_DIR", &cache))?;
            fs::remove_dir_all(&cache).map_err(BenchError::io("remove a store"))?;
            Ok(seconds)
        };
        subjects.push(Subject::new("sbx hash, new store", cold));
        let rounds = self.size.rounds.div_ceil(3).max(2);
        let turns = side_by_side(rounds, Duration::ZERO, subjects, self.interrupts)?;
        rounds::record(report, group, turns, None);
        ratio(report, &format!("{what}, cold hash and store / {name}"), (group, "sbx hash, new store", name), most);
        Ok(())
    }

    /// One GiB, against openssl on as many processors.
    fn large(&self, report: &mut Report) -> Result<(), BenchError> {
        let project = self.world.project("large", ALL)?;
        for index in 0..16 {
            self.interrupts.check()?;
            let bytes = fill(index + 1, self.size.pick(1 << 26, 1 << 16));
            fs::write(project.join(format!("f{index}")), bytes).map_err(BenchError::io("make inputs"))?;
        }
        if program(Path::new("openssl")).is_none() {
            report.lacks(OPENSSL, "not installed");
            return Ok(());
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let script = format!("printf '%s\\n' f* | xargs -P {cores} -n 1 openssl dgst -sha256");
        let openssl = || self.time(self.world.command("sh").args(["-c", &script]).current_dir(&project));
        let copied = self.world.directory("copies")?;
        let copy = format!("printf '%s\\n' f* | xargs -P {cores} -I NAME cp NAME ../copies");
        let copy = || {
            let seconds = self.time(self.world.command("sh").args(["-c", &copy]).current_dir(&project))?;
            fs::read_dir(&copied)
                .and_then(|mut copies| copies.try_for_each(|copy| fs::remove_file(copy?.path())))
                .map_err(BenchError::io("remove copies"))?;
            Ok(seconds)
        };
        let subjects = vec![Subject::new(OPENSSL, openssl), Subject::new("cp", copy)];
        self.cold(report, "cold-large", &project, subjects, (OPENSSL, 1.3))
    }
}

/// The times of a subject with so many inputs.
fn of(report: &Report, name: &str, count: u64) -> Option<Sample> {
    let is_it =
        |one: &&Measurement| one.command == name && one.parameters.values().any(|value| *value == count.to_string());
    report.of("inputs").find(is_it)?.sample()
}

/// How the cost of one input grows with their number; twice the cost of one would not be linear any more.
fn linear(report: &mut Report, from: u64, to: &[u64]) {
    let name = "sbx hash";
    for count in to {
        if let [Some(few), Some(many)] = [from, *count].map(|count| of(report, name, count)) {
            let each = |[few, many]: [f64; 2]| (many / *count as f64) / (few / from as f64);
            let what = format!("{name}: the time for each of {count} unchanged inputs / for each of {from}");
            report.targets.push(Target::new(what, stats::interval([&few, &many], each), 1.5));
        }
    }
}

/// Adds the ratio of two results of a group, if there are both.
pub(super) fn ratio(report: &mut Report, what: &str, (group, one, other): (&str, &str, &str), most: f64) {
    let sample = |name: &str| -> Option<Sample> { report.find(group, name)?.sample() };
    if let (Some(one), Some(other)) = (sample(one), sample(other)) {
        report.targets.push(Target::new(what, stats::ratio(&one, &other), most));
    }
}
