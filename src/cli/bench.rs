//! `sbx bench`: what namespaces and launches cost on this machine.

use std::fs;
use std::path::Path;

use super::args::{Bench, BenchCommand, BenchOutput, BenchRun};
use super::{Context, End, output};
use crate::bench::compare::compare;
use crate::bench::report::{Change, Report};
use crate::bench::world::Setup;
use crate::bench::{self, BenchError, Interrupts, Size};
use crate::error::{Error, exit};
use crate::store::Store;

/// How often each thing is measured when nobody says otherwise, and with `--quick`.
const NAMESPACES: (usize, usize) = (300, 20);
/// The same for launches.
const LAUNCH: (usize, usize) = (200, 10);

pub(super) fn run(context: &Context, typed: &Bench) -> Result<End, Error> {
    let (shown, report) = match &typed.command {
        BenchCommand::Namespaces(typed) => {
            let size = size(typed, NAMESPACES);
            (
                &typed.shown,
                measured(context, typed, &mut |interrupts, tell| bench::namespaces::run(size, interrupts, tell))?,
            )
        }
        BenchCommand::Launch(typed) => {
            let size = size(&typed.run, LAUNCH);
            let setup = Setup {
                sbx: std::env::current_exe()
                    .map_err(|source| BenchError::Io { doing: "find sbx itself".into(), source })?,
                place: Store::open(context.cache_directory()?)?.path().join("tmp"),
                command: typed.words.clone(),
            };
            let mut launch = |interrupts: &Interrupts, tell: &mut dyn FnMut(&str)| {
                bench::launch::run(&setup, size, interrupts, tell)
            };
            (&typed.run.shown, measured(context, &typed.run, &mut launch)?)
        }
        BenchCommand::Show(typed) => (&typed.shown, Ok(read(&typed.file)?)),
    };
    let report = match report {
        Ok(report) => report,
        Err(signal) => return Ok(End::Signal(signal)),
    };
    show(context, shown, report)
}

fn size(typed: &BenchRun, (full, quick): (usize, usize)) -> Size {
    let rounds = typed.rounds.and_then(|rounds| usize::try_from(rounds).ok());
    Size { rounds: rounds.unwrap_or(if typed.quick { quick } else { full }), quick: typed.quick }
}

type Measure<'a> = dyn FnMut(&Interrupts, &mut dyn FnMut(&str)) -> Result<Report, BenchError> + 'a;

/// What a bench found out, or the signal that ended it. What is asked for besides is looked at before.
fn measured(context: &Context, typed: &BenchRun, measure: &mut Measure<'_>) -> Result<Result<Report, i32>, Error> {
    if let Some(old) = &typed.shown.compare {
        read(old)?;
    }
    let interrupts = Interrupts::take()?;
    let mut tell = |what: &str| context.ui.note(what);
    match measure(&interrupts, &mut tell) {
        Ok(report) => Ok(Ok(report)),
        Err(BenchError::Interrupted { signal }) => Ok(Err(signal)),
        Err(error) => Err(error.into()),
    }
}

fn read(path: &Path) -> Result<Report, Error> {
    let text = fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    Report::read(&text).map_err(|source| Error::BenchReport { path: path.to_owned(), source })
}

fn show(context: &Context, shown: &BenchOutput, mut report: Report) -> Result<End, Error> {
    if let Some(old) = &shown.compare {
        let old = read(old)?;
        if old.bench != report.bench {
            return Err(Error::BenchKinds { old: old.bench, new: report.bench });
        }
        report.comparison = Some(compare(&old, &report));
    }
    for warning in &report.warnings {
        context.ui.warn(warning);
    }
    if let Some(path) = &shown.html {
        let page = bench::html::page(&report);
        fs::write(path, page).map_err(|source| Error::Write { path: path.clone(), source })?;
    }
    match (shown.json, shown.csv) {
        (true, _) => output::json(&report)?,
        (_, true) => output::text(&bench::text::csv(&report))?,
        _ => output::lines(&bench::text::text(&report))?,
    }
    let slower = report.comparison.is_some_and(|comparison| comparison.count(Change::Slower) > 0);
    Ok(End::Code(if slower { exit::FOUND } else { exit::OK }))
}
