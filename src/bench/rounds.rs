//! Programs measured in turns.

use std::os::fd::AsFd as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::report::{Measurement, Report};
use super::{BenchError, Interrupts};
use crate::sys::event::{self, Interest, signal};
use crate::sys::{clone, proc};

/// How long a program that is told to end may take before it is killed.
const GRACE: Duration = Duration::from_millis(500);

/// One thing to be measured: its time in seconds.
pub type Measure<'a> = Box<dyn FnMut() -> Result<f64, BenchError> + 'a>;

/// One that takes its turns.
pub struct Subject<'a> {
    /// What it is called.
    pub name: String,
    /// Measures it once.
    pub measure: Measure<'a>,
    /// It takes its turn in one of so many rounds: what is slow.
    pub every: usize,
}

impl<'a> Subject<'a> {
    /// One that takes part in every round.
    pub fn new(name: impl Into<String>, measure: impl FnMut() -> Result<f64, BenchError> + 'a) -> Self {
        Self { name: name.into(), measure: Box::new(measure), every: 1 }
    }
}

/// What came of a subject's turns.
#[derive(Debug, Clone, PartialEq)]
pub struct Turns {
    /// What it is called.
    pub name: String,
    /// Its times in seconds, in order.
    pub times: Vec<f64>,
    /// Why it was not measured any further.
    pub failure: Option<String>,
}

/// Measures every subject once a round, after once for nothing. Side by side: whatever slows the machine for a while slows all
/// of them. Every other round goes backwards, for the kernel takes a namespace down after its process has ended, and whoever
/// is next pays for that.
///
/// # Errors
/// When a signal asks for the end, or something else than a subject fails.
pub fn side_by_side(
    rounds: usize,
    pause: Duration,
    mut subjects: Vec<Subject<'_>>,
    interrupts: &Interrupts,
) -> Result<Vec<Turns>, BenchError> {
    let none = |subject: &Subject<'_>| Turns { name: subject.name.clone(), times: Vec::new(), failure: None };
    let mut turns: Vec<Turns> = subjects.iter().map(none).collect();
    let count = subjects.len();
    for round in 0..=rounds {
        for turn in 0..count {
            let index = if round % 2 == 0 { turn } else { count - 1 - turn };
            let (subject, found) = (&mut subjects[index], &mut turns[index]);
            // The first round warms up.
            if found.failure.is_some() || (round > 0 && (round - 1) % subject.every != 0) {
                continue;
            }
            interrupts.check()?;
            std::thread::sleep(pause);
            match (subject.measure)() {
                Ok(seconds) if round > 0 => found.times.push(seconds),
                Ok(_) => {}
                Err(BenchError::Subject { reason, .. }) => found.failure = Some(reason),
                Err(error) => return Err(error),
            }
        }
    }
    Ok(turns)
}

/// Adds what came of the turns of a group, with what was varied, to a report.
pub fn record(report: &mut Report, group: &str, turns: Vec<Turns>, parameter: Option<(&str, usize)>) {
    for Turns { name, times, failure } in turns {
        let mut measured = Measurement::new(group, &name, times).map(Measurement::of_programs);
        let mut what = name;
        if let Some((parameter, value)) = parameter {
            measured = measured.map(|one| one.with(parameter, value));
            what = format!("{what}, {value} {parameter}");
        }
        if let Some(reason) = failure {
            report.lacks(format!("{group}, {what}"), reason);
        }
        report.results.extend(measured);
    }
}

/// The time from the start of a program to its end, in seconds.
///
/// # Errors
/// When it can't be started or does not exit with 0; when a signal asks for the end, and then the program has ended.
pub fn time(command: &mut Command, interrupts: &Interrupts) -> Result<f64, BenchError> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let began = Instant::now();
    let mut child = command.spawn().map_err(|error| subject(command, error.to_string()))?;
    wait(&mut child, interrupts)?;
    let status = child.wait().map_err(|error| subject(command, error.to_string()))?;
    let seconds = began.elapsed().as_secs_f64();
    if status.success() { Ok(seconds) } else { Err(subject(command, status.to_string())) }
}

/// The time until all of several copies of a program have ended, in seconds.
///
/// # Errors
/// As [`time`].
pub fn time_all(commands: &mut [Command], interrupts: &Interrupts) -> Result<f64, BenchError> {
    let began = Instant::now();
    let mut children = Vec::with_capacity(commands.len());
    for command in commands.iter_mut() {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        children.push(command.spawn().map_err(|error| subject(command, error.to_string())));
    }
    let mut result = Ok(());
    for (child, command) in children.into_iter().zip(commands.iter()) {
        let ended = child.and_then(|mut child| {
            wait(&mut child, interrupts)?;
            child.wait().map_err(|error| subject(command, error.to_string()))
        });
        result = result.and(match ended {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(subject(command, status.to_string())),
            Err(error) => Err(error),
        });
    }
    let seconds = began.elapsed().as_secs_f64();
    interrupts.check()?;
    result.map(|()| seconds)
}

/// What a program prints on standard output; it has to exit with 0.
///
/// # Errors
/// As [`time`]; the reason is what it says on standard error.
pub fn output(command: &mut Command, interrupts: &Interrupts) -> Result<Vec<u8>, BenchError> {
    let out = tempfile::tempfile().map_err(BenchError::io("make a temporary file"))?;
    let err = tempfile::tempfile().map_err(BenchError::io("make a temporary file"))?;
    let copy = |file: &std::fs::File| file.try_clone().map_err(BenchError::io("copy a descriptor"));
    command.stdin(Stdio::null()).stdout(copy(&out)?).stderr(copy(&err)?);
    let mut child = command.spawn().map_err(|error| subject(command, error.to_string()))?;
    wait(&mut child, interrupts)?;
    let status = child.wait().map_err(|error| subject(command, error.to_string()))?;
    let read = |mut file: std::fs::File| {
        use std::io::{Read as _, Seek as _};
        let mut bytes = Vec::new();
        file.rewind().and_then(|()| file.read_to_end(&mut bytes)).map_err(BenchError::io("read a temporary file"))?;
        Ok::<_, BenchError>(bytes)
    };
    if status.success() {
        return read(out);
    }
    let said = read(err)?;
    let said = String::from_utf8_lossy(&said);
    let line = said.lines().map(str::trim).find(|line| !line.is_empty());
    let reason = line.map_or_else(|| status.to_string(), |line| format!("{status}: {line}"));
    Err(subject(command, reason))
}

fn subject(command: &Command, reason: String) -> BenchError {
    BenchError::Subject { what: command.get_program().to_string_lossy().into_owned(), reason }
}

/// Waits for the end of a program, and sees to it when a signal asks for the end of all.
fn wait(child: &mut Child, interrupts: &Interrupts) -> Result<(), BenchError> {
    let id = i32::try_from(child.id()).unwrap_or(i32::MAX);
    let pidfd = proc::pidfd(id).map_err(BenchError::kernel("watch a program"))?;
    let ended = Some((pidfd.as_fd(), Interest { read: true, write: false }));
    let signalled = Some((interrupts.signals().fd(), Interest { read: true, write: false }));
    loop {
        let ready = event::wait(&[ended, signalled], None).map_err(BenchError::kernel("wait"))?;
        if ready[0].read {
            return Ok(());
        }
        if let Err(error) = interrupts.check() {
            clone::kill_by(&pidfd, signal::TERM);
            // Whatever this says, it is killed if it is still there, and reaped.
            let _ = event::wait(&[ended], Some(GRACE));
            let _ = child.kill();
            let _ = child.wait();
            return Err(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_take_turns_and_one_that_fails_stops_alone() {
        let interrupts = Interrupts::take().unwrap();
        let order = std::cell::RefCell::new(String::new());
        let say = |letter: char| order.borrow_mut().push(letter);
        let mut left = 3;
        let subjects = vec![
            Subject::new("a", || {
                say('a');
                Ok(1.0)
            }),
            Subject {
                every: 2,
                ..Subject::new("b", || {
                    say('b');
                    Ok(2.0)
                })
            },
            Subject::new("c", || {
                say('c');
                left -= 1;
                if left > 0 { Ok(3.0) } else { Err(BenchError::Subject { what: "c".into(), reason: "tired".into() }) }
            }),
        ];
        let turns = side_by_side(3, Duration::ZERO, subjects, &interrupts).unwrap();
        // The round that warms up, and three of which every other goes backwards.
        assert_eq!(*order.borrow(), "abc cba ac ba".replace(' ', ""));
        assert_eq!(turns[0].times, [1.0; 3]);
        assert_eq!(turns[1].times, [2.0; 2]);
        assert_eq!((turns[2].times.as_slice(), turns[2].failure.as_deref()), (&[3.0][..], Some("tired")));
    }

    #[test]
    fn a_program_is_timed_and_its_failure_told() {
        let interrupts = Interrupts::take().unwrap();
        assert!(time(&mut Command::new("true"), &interrupts).unwrap() > 0.0);
        assert!(time(&mut Command::new("false"), &interrupts).is_err());
        let mut both = [Command::new("true"), Command::new("false")];
        assert!(time_all(&mut both[..1], &interrupts).unwrap() > 0.0);
        assert!(time_all(&mut both, &interrupts).is_err());
        let said = output(Command::new("sh").args(["-c", "echo out; echo because >&2; exit 3"]), &interrupts);
        assert!(said.unwrap_err().to_string().ends_with("exit status: 3: because"));
        assert_eq!(output(Command::new("echo").arg("x"), &interrupts).unwrap(), b"x\n");
        assert!(time(&mut Command::new("/nonexistent/program"), &interrupts).is_err());
    }
}
