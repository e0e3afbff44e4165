//! What a launch costs: sbx with and without a pool, beside everything installed that makes sandboxes, doing the same work
//! with the same view of the file system; and how that grows with mounts, inputs, and launches at once.

mod tools;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::report::{Beside, Part, Phases, Report, Target};
use super::rounds::{self, Subject, side_by_side};
use super::stats::{self, Sample};
use super::world::{Setup, World, program};
use super::{BenchError, Interrupts, Size};
use crate::record::{Record, Step};

/// Between two launches that are paced.
const PAUSE: Duration = Duration::from_millis(20);
/// What takes longer than this has its turn in one of ten rounds, in seconds.
const SLOW: f64 = 0.05;
/// How long a pool of the bench's stays if the bench is killed.
const POOL_IDLE: &str = "5m";
/// What sbx is asked for.
const RUN: [&str; 4] = ["-q", "run", "--no-cache", "--"];

const BARE: &str = "bare";
const SBX: &str = "sbx run";
const POOLED: &str = "sbx run, warm pool";
const MEMORY: &str = "sbx run, scratch in memory";
const KNOWN: &str = "sbx run, known result";
const BWRAP: &str = "bwrap";

/// Runs the bench.
///
/// # Errors
/// When the command or sbx itself can't be run, or a signal asks for the end.
pub fn run(
    setup: &Setup,
    size: Size,
    interrupts: &Interrupts,
    tell: &mut dyn FnMut(&str),
) -> Result<Report, BenchError> {
    let mut report = super::begin("launch", size);
    let world = World::new(setup)?;
    let argv = resolved(&setup.command)?;
    let empty = world.project("empty", "")?;
    let bench = Bench { world: &world, argv: &argv, empty: &empty, size, interrupts };
    rounds::output(&mut bench.bare(), interrupts)?;
    rounds::output(&mut bench.sbx(&empty), interrupts)?;
    let shown: Vec<_> = argv.iter().map(|word| word.to_string_lossy()).collect();
    report.notes.push(format!("the command is `{}`; the times are from its start to the end of all", shown.join(" ")));
    report.notes.push(
        "every other round goes backwards; the ratios are those of medians, their intervals by bootstrap".to_owned(),
    );
    bench.tools(&mut report, tell)?;
    bench.mounts(&mut report, tell)?;
    bench.inputs(&mut report, tell)?;
    bench.parallel(&mut report, tell)?;
    bench.phases(&mut report, tell)?;
    targets(&mut report);
    super::warn_of_noise(&mut report, &["paced", "back-to-back"], BARE);
    Ok(report)
}

/// The command with the whole path of its program, so that nobody has to look for it.
fn resolved(command: &[OsString]) -> Result<Vec<OsString>, BenchError> {
    let [first, rest @ ..] = command else { return Ok(vec!["/bin/true".into()]) };
    let Some(program) = program(Path::new(first)) else {
        let reason = format!("there is no such program in {}", super::world::PATH);
        return Err(BenchError::Subject { what: first.to_string_lossy().into_owned(), reason });
    };
    Ok(std::iter::once(program.into()).chain(rest.iter().cloned()).collect())
}

struct Bench<'a> {
    world: &'a World,
    argv: &'a [OsString],
    empty: &'a Path,
    size: Size,
    interrupts: &'a Interrupts,
}

impl Bench<'_> {
    fn bare(&self) -> Command {
        let mut command = self.world.command(&self.argv[0]);
        command.args(&self.argv[1..]).current_dir(self.empty);
        command
    }

    fn sbx(&self, project: &Path) -> Command {
        let mut command = self.world.sbx(project, &RUN);
        command.args(self.argv);
        command
    }

    /// The same where its result may be replayed.
    fn known(&self) -> Command {
        let mut command = self.world.sbx(self.empty, &["-q", "run", "--"]);
        command.args(self.argv);
        command
    }

    fn time(&self, command: &mut Command) -> Result<f64, BenchError> {
        rounds::time(command, self.interrupts)
    }

    /// Runs the subjects and adds what came of them.
    fn measure(
        &self,
        report: &mut Report,
        group: &str,
        (rounds, pause): (usize, Duration),
        subjects: Vec<Subject<'_>>,
        parameter: Option<(&str, usize)>,
    ) -> Result<(), BenchError> {
        let turns = side_by_side(rounds, pause, subjects, self.interrupts)?;
        rounds::record(report, group, turns, parameter);
        Ok(())
    }

    /// Everything that is installed, paced and back to back.
    fn tools(&self, report: &mut Report, tell: &mut dyn FnMut(&str)) -> Result<(), BenchError> {
        let pool = Pool::start(self)?;
        // As the others have their root, which is on no disk.
        let memory = self.world.project("memory", "[sandbox]\nscratch = 'memory'\n")?;
        let mut tools = Vec::new();
        for tool in tools::all(self.world, self.argv)? {
            tell(&format!("a first launch by {}", tool.name));
            match self.try_tool(&tool) {
                Ok(every) => {
                    report.machine.extend(tools::version(&tool, self.world, self.interrupts));
                    tools.push((tool, every));
                }
                Err(BenchError::Subject { reason, .. }) => report.lacks(tool.name, reason),
                Err(error) => return Err(error),
            }
        }
        let groups =
            [("paced", PAUSE, "paced, 20 ms between two launches"), ("back-to-back", Duration::ZERO, "back to back")];
        for (group, pause, title) in groups {
            tell(&format!("launches {title}"));
            report.group(group, title, Beside::Ratio);
            let mut subjects = vec![
                Subject::new(BARE, || self.time(&mut self.bare())),
                Subject::new(SBX, || self.time(&mut self.sbx(self.empty))),
                Subject::new(POOLED, || self.time(&mut pool.sbx())),
                Subject::new(MEMORY, || self.time(&mut self.sbx(&memory))),
                Subject::new(KNOWN, || self.time(&mut self.known())),
            ];
            for (tool, every) in &tools {
                let subject = Subject::new(tool.name, || self.time(&mut tool.command(self.world)));
                subjects.push(Subject { every: *every, ..subject });
            }
            self.measure(report, group, (self.size.rounds, pause), subjects, None)?;
        }
        Ok(())
    }

    /// A first launch: in how many rounds it has its turn.
    fn try_tool(&self, tool: &tools::Tool) -> Result<usize, BenchError> {
        if program(Path::new(tool.program)).is_none() {
            return Err(BenchError::Subject { what: tool.name.to_owned(), reason: "not installed".to_owned() });
        }
        if let Some(reason) = tool.refusal {
            return Err(BenchError::Subject { what: tool.name.to_owned(), reason: reason.to_owned() });
        }
        rounds::output(&mut tool.command(self.world), self.interrupts)?;
        let seconds = self.time(&mut tool.command(self.world))?;
        Ok(if seconds > SLOW { 10 } else { 1 })
    }

    fn sweep_rounds(&self) -> usize {
        self.size.rounds.div_ceil(5).max(5)
    }

    /// Read-only mounts, each of a directory of its own.
    fn mounts(&self, report: &mut Report, tell: &mut dyn FnMut(&str)) -> Result<(), BenchError> {
        report.group("mounts", "more read-only mounts", Beside::Nothing);
        for count in self.size.pick([0, 10, 100, 500], [0, 2, 4, 8]) {
            tell(&format!("{count} mounts more"));
            let sources: Vec<PathBuf> =
                (0..count).map(|index| self.world.directory(format!("sources/{index}"))).collect::<Result<_, _>>()?;
            let mounts = sources.iter().enumerate().map(|(index, source)| {
                let source = source.display().to_string();
                format!("[[mount]]\nsource = {source:?}\ntarget = '/m/{index}'\nidentity = 'declared'\nversion = '1'\n")
            });
            let project = self.world.project(&format!("mounts-{count}"), &mounts.collect::<String>())?;
            let mut subjects = vec![Subject::new(SBX, || self.time(&mut self.sbx(&project)))];
            if report.find("paced", BWRAP).is_some() {
                let bwrap = tools::bwrap(self.world, self.argv, &sources);
                subjects.push(Subject::new(BWRAP, move || self.time(&mut bwrap.command(self.world))));
            }
            self.measure(report, "mounts", (self.sweep_rounds(), Duration::ZERO), subjects, Some(("mounts", count)))?;
        }
        Ok(())
    }

    /// Inputs that have not changed; git's own look at them beside.
    fn inputs(&self, report: &mut Report, tell: &mut dyn FnMut(&str)) -> Result<(), BenchError> {
        report.group("inputs", "more inputs of 4 KiB, none of them changed", Beside::Nothing);
        for count in self.size.pick([0, 100, 10_000], [0, 10, 100]) {
            tell(&format!("{count} inputs"));
            let project = self.world.project(&format!("inputs-{count}"), "inputs = ['**']\n")?;
            super::files::tree(&project, count, self.interrupts)?;
            self.time(&mut self.sbx(&project))?;
            // A file that is younger than the clock's granularity is not trusted; the first run after a pause trusts all.
            std::thread::sleep(self.size.pick(Duration::from_secs(2), Duration::ZERO));
            let subjects = vec![Subject::new(SBX, || self.time(&mut self.sbx(&project)))];
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            self.measure(report, "inputs", (self.sweep_rounds(), Duration::ZERO), subjects, Some(("inputs", count)))?;
        }
        Ok(())
    }

    /// Several launches at once: the time for all, by their number.
    fn parallel(&self, report: &mut Report, tell: &mut dyn FnMut(&str)) -> Result<(), BenchError> {
        report.group("parallel", "several launches at once: the time for each of them", Beside::Nothing);
        let bwrap = report.find("paced", BWRAP).map(|_| tools::bwrap(self.world, self.argv, &[]));
        for count in [1, 2, 4, 8] {
            tell(&format!("{count} launches at once"));
            let all = |command: &dyn Fn() -> Command| {
                let mut commands: Vec<Command> = (0..count).map(|_| command()).collect();
                rounds::time_all(&mut commands, self.interrupts).map(|seconds| seconds / count as f64)
            };
            let mut subjects =
                vec![Subject::new(BARE, || all(&|| self.bare())), Subject::new(SBX, || all(&|| self.sbx(self.empty)))];
            if let Some(bwrap) = &bwrap {
                subjects.push(Subject::new(BWRAP, || all(&|| bwrap.command(self.world))));
            }
            self.measure(
                report,
                "parallel",
                (self.sweep_rounds(), Duration::ZERO),
                subjects,
                Some(("at once", count)),
            )?;
        }
        Ok(())
    }

    /// What sbx says itself of where the time goes.
    fn phases(&self, report: &mut Report, tell: &mut dyn FnMut(&str)) -> Result<(), BenchError> {
        tell("the phases of a run");
        let file = self.world.path("report.json");
        let (mut phases, mut steps) = (Lengths::default(), Lengths::default());
        for _ in 0..self.sweep_rounds() {
            let mut command = self.world.sbx(self.empty, &["-q", "run", "--no-cache", "--report"]);
            command.arg(&file).arg("--").args(self.argv);
            self.time(&mut command)?;
            let text = fs::read_to_string(&file).map_err(BenchError::io(format!("read {}", file.display())))?;
            let Ok(record) = serde_json::from_str::<Record>(&text) else { continue };
            for phase in record.phases {
                phases.add(phase.name, phase.duration_us);
            }
            for step in record.steps {
                let whose = if step.process == Step::INIT { "PID 1" } else { "the command's process" };
                steps.add(format!("{whose}: {}", step.name), step.duration_us);
            }
        }
        report.phases.push(Phases { command: SBX.to_owned(), parts: phases.medians() });
        report.phases.push(Phases { command: format!("{SBX}: the steps inside"), parts: steps.medians() });
        Ok(())
    }
}

/// The lengths of things that happen in every run, in order of their first.
#[derive(Debug, Default)]
struct Lengths(Vec<(String, Vec<f64>)>);

impl Lengths {
    fn add(&mut self, name: String, microseconds: u64) {
        let seconds = microseconds as f64 * 1e-6;
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, lengths)) => lengths.push(seconds),
            None => self.0.push((name, vec![seconds])),
        }
    }

    fn medians(self) -> Vec<Part> {
        let part = |(name, lengths): (String, Vec<f64>)| Some(Part { name, seconds: Sample::new(lengths)?.median() });
        self.0.into_iter().filter_map(part).collect()
    }
}

/// A pool, in a runtime directory of its own; it ends with the bench.
struct Pool<'a> {
    bench: &'a Bench<'a>,
    runtime: PathBuf,
}

impl<'a> Pool<'a> {
    /// With more pairs than are taken before new ones are there.
    fn start(bench: &'a Bench<'a>) -> Result<Self, BenchError> {
        let pool = Self { bench, runtime: bench.world.directory("run")? };
        let size = bench.size.pick("32", "4");
        for args in [&["-q", "pool", "start", "--idle", POOL_IDLE, "--size", size][..], &["-q", "pool", "warm", size]] {
            rounds::output(pool.with(&mut bench.world.sbx(bench.empty, args)), bench.interrupts)?;
        }
        Ok(pool)
    }

    fn with<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command.env("XDG_RUNTIME_DIR", &self.runtime)
    }

    fn sbx(&self) -> Command {
        let mut command = self.bench.sbx(self.bench.empty);
        self.with(&mut command);
        command
    }
}

impl Drop for Pool<'_> {
    fn drop(&mut self) {
        let mut stop = self.bench.world.sbx(self.bench.empty, &["-q", "pool", "stop"]);
        // A pool that can't be told to end does so when nobody has asked for a while.
        let _ = self.with(&mut stop).status();
    }
}

/// The ratios of the design.
fn targets(report: &mut Report) {
    let mut found = Vec::new();
    for group in ["paced", "back-to-back"] {
        let sample = |name: &str| report.find(group, name)?.sample();
        let mut add = |what: &str, by: Option<(Sample, Sample)>, most: f64| {
            if let Some((one, other)) = by {
                found.push(Target::new(format!("{group}: {what}"), stats::ratio(&one, &other), most));
            }
        };
        add("sbx run / bwrap", sample(SBX).zip(sample(BWRAP)), 0.5);
        add("sbx run with a warm pool / bwrap", sample(POOLED).zip(sample(BWRAP)), 0.4);
        add("sbx run with a warm pool / bare", sample(POOLED).zip(sample(BARE)), 2.5);
        if let Some(pooled) = sample(POOLED) {
            let tail = stats::tail(&pooled);
            found.push(Target::new(format!("{group}: sbx run with a warm pool, p99 / p50"), tail, 2.0));
        }
    }
    report.targets.extend(found);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_found_or_named() {
        assert_eq!(resolved(&[]).unwrap(), ["/bin/true"]);
        let found = resolved(&["sh".into(), "-c".into()]).unwrap();
        assert!(found[0].to_string_lossy().ends_with("/sh") && found[1] == "-c");
        let error = resolved(&["no-such-program".into()]).unwrap_err().to_string();
        assert!(error.starts_with("no-such-program can't be measured: there is no such program in /"), "{error}");
    }
}
