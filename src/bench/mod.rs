//! What namespaces and launches cost on this machine, for who asks.
//!
//! Each bench gives one [`report::Report`]; every form of output is made from it. What is compared is measured in turns, so
//! that whatever slows the machine for a while slows all of it.

pub mod compare;
pub mod files;
pub mod hash;
pub mod html;
pub mod io;
pub mod launch;
pub mod machine;
pub mod markdown;
pub mod namespaces;
mod relay;
pub mod report;
pub mod rounds;
pub mod stats;
mod svg;
pub mod sweep;
pub mod text;
pub mod world;

use std::time::SystemTime;

use report::Report;

use crate::store::records;
use crate::sys::errno::CallError;
use crate::sys::event::{Signals, signal};

/// A spread of the plainest subject's times above which the machine is called noisy.
const NOISY: f64 = 0.25;

/// How large a bench is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// How often each subject is measured.
    pub rounds: usize,
    /// Whether everything is small.
    pub quick: bool,
}

impl Size {
    /// `full`, or `small` when it is to be quick.
    pub fn pick<T>(self, full: T, small: T) -> T {
        if self.quick { small } else { full }
    }
}

/// Why a bench ended without a report.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A signal asked for the end; nothing is left behind.
    #[error("interrupted")]
    Interrupted {
        /// Its number.
        signal: i32,
    },
    /// The kernel refuses something that everything rests on.
    #[error("can't {doing}")]
    Kernel {
        /// What was tried.
        doing: &'static str,
        /// Why not.
        source: CallError,
    },
    /// A file or directory of the bench can't be made or read.
    #[error("can't {doing}")]
    Io {
        /// What was tried.
        doing: String,
        /// Why not.
        source: std::io::Error,
    },
    /// What the bench is about can't be run.
    #[error("{what} can't be measured: {reason}")]
    Subject {
        /// What.
        what: String,
        /// Why not.
        reason: String,
    },
}

impl BenchError {
    /// What helps.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Kernel { .. } => Some("`sbx doctor` says what this machine allows, and how to mend it".into()),
            Self::Subject { .. } => Some("`-v` shows what it was; `sbx doctor` says what this machine allows".into()),
            Self::Interrupted { .. } | Self::Io { .. } => None,
        }
    }

    fn kernel(doing: &'static str) -> impl FnOnce(CallError) -> Self {
        move |source| Self::Kernel { doing, source }
    }

    fn io(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }
}

/// The signals that end a bench. While it lives they don't end the process, which has things to put away first.
#[derive(Debug)]
pub struct Interrupts(Signals);

impl Interrupts {
    /// Takes them over.
    ///
    /// # Errors
    /// As signalfd(2).
    pub fn take() -> Result<Self, BenchError> {
        let signals = [signal::HUP, signal::INT, signal::QUIT, signal::TERM];
        Signals::route(&signals).map(Self).map_err(BenchError::kernel("wait for signals"))
    }

    /// Whether one has come.
    ///
    /// # Errors
    /// [`BenchError::Interrupted`] then.
    pub fn check(&self) -> Result<(), BenchError> {
        self.0.next().map_or(Ok(()), |signal| Err(BenchError::Interrupted { signal }))
    }

    fn signals(&self) -> &Signals {
        &self.0
    }
}

/// A report to be filled.
fn begin(bench: &str, size: Size) -> Report {
    Report {
        version: report::VERSION,
        bench: bench.to_owned(),
        sbx: env!("CARGO_PKG_VERSION").to_owned(),
        started: records::timestamp(SystemTime::now()),
        rounds: u32::try_from(size.rounds).unwrap_or(u32::MAX),
        quick: size.quick,
        machine: machine::facts(),
        groups: Vec::new(),
        results: Vec::new(),
        figures: Vec::new(),
        quoted: Vec::new(),
        phases: Vec::new(),
        targets: Vec::new(),
        missing: Vec::new(),
        notes: Vec::new(),
        warnings: Vec::new(),
        comparison: None,
    }
}

/// Says so when the machine is too noisy to tell much, by the plainest subject of some groups.
fn warn_of_noise(report: &mut Report, groups: &[&str], plainest: &str) {
    if cfg!(debug_assertions) {
        report.warnings.push("this sbx was built without optimisation: its own figures say little".to_owned());
    }
    let spread = |group: &&str| Some((group.to_string(), report.find(group, plainest)?.sample()?.spread()));
    let noisy: Vec<_> = groups.iter().filter_map(spread).filter(|(_, spread)| *spread > NOISY).collect();
    report.warnings.extend(noisy.into_iter().map(|(group, spread)| {
        let percent = spread * 100.0;
        format!("this machine is busy: of `{plainest}` ({group}) the middle half lies {percent:.0} % of the median apart, and a smaller difference is no news")
    }));
}

#[cfg(test)]
mod tests {
    use super::report::*;
    use super::stats::Interval;

    #[test]
    fn noise_is_told_by_the_plainest() {
        let mut report = report();
        report.warnings.clear();
        report.results[0].times = vec![1.0, 1.0, 5.0, 9.0];
        super::warn_of_noise(&mut report, &["paced", "none"], "bare");
        assert!(report.warnings.last().unwrap().contains("`bare` (paced) the middle half lies 400 % of"), "{report:?}");
        report.results[0].times = vec![1.0; 9];
        report.warnings.clear();
        super::warn_of_noise(&mut report, &["paced"], "bare");
        assert!(report.warnings.iter().all(|warning| !warning.contains("busy")));
    }

    /// A report that has something of everything.
    pub(super) fn report() -> Report {
        let times = |from: f64| (0..20).map(|i| from + f64::from(i * 7 % 20) * 1e-6).collect::<Vec<_>>();
        let measured = |group: &str, command: &str, from| Measurement::new(group, command, times(from)).unwrap();
        Report {
            version: VERSION,
            bench: "launch".into(),
            sbx: "0.1.0".into(),
            started: "2026-01-02T03:04:05Z".into(),
            rounds: 20,
            quick: true,
            machine: vec![Fact { name: "kernel".into(), value: "Linux <6>".into() }],
            groups: vec![
                Group { name: "paced".into(), title: "paced, 20 ms".into(), beside: Beside::Ratio },
                Group { name: "mounts".into(), title: "mounts".into(), beside: Beside::Difference },
                Group { name: "empty".into(), title: "nothing of it".into(), beside: Beside::Nothing },
            ],
            results: vec![
                measured("paced", "bare", 0.001).of_programs(),
                measured("paced", "a, b", 0.002),
                measured("mounts", "sbx run", 0.003).with("mounts", 0),
                measured("mounts", "sbx run", 0.004).with("mounts", 10),
                measured("mounts", "bwrap", 0.005).with("mounts", 10),
            ],
            figures: vec![
                Figure {
                    name: "net".into(),
                    group: "memory".into(),
                    value: Some(65_536.0),
                    low: 60_000.0,
                    high: 70_000.0,
                    unit: "B".into(),
                },
                Figure {
                    name: "uts".into(),
                    group: "memory".into(),
                    value: None,
                    low: -9.0,
                    high: 900.0,
                    unit: "B".into(),
                },
            ],
            quoted: vec![Quoted { name: "net".into(), quoted: 0.002, to: Some(0.005), here: Some(0.0005) }],
            phases: vec![Phases {
                command: "sbx run".into(),
                parts: vec![
                    Part { name: "prepare".into(), seconds: 0.001 },
                    Part { name: "run".into(), seconds: 0.003 },
                ],
            }],
            targets: vec![Target::new("sbx / bwrap", Interval { value: 0.45, low: 0.44, high: 0.47 }, 0.5)],
            missing: vec![Missing { what: "podman".into(), reason: "not installed".into() }],
            notes: vec!["in turns".into()],
            warnings: vec!["noisy".into()],
            comparison: None,
        }
    }
}
