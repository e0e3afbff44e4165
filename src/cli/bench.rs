//! `sbx bench`: what namespaces and launches cost on this machine.

use std::ffi::OsString;
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
/// The same for hashing.
const HASH: (usize, usize) = (15, 2);
/// The same for work inside.
const IO: (usize, usize) = (8, 2);

pub(super) fn run(context: &Context, typed: &Bench) -> Result<End, Error> {
    let (shown, report) = match &typed.command {
        BenchCommand::Namespaces(typed) => {
            let size = size(typed, NAMESPACES);
            (&typed.shown, measured(context, typed, |interrupts, tell| bench::namespaces::run(size, interrupts, tell))?)
        }
        BenchCommand::Launch(typed) => {
            let (size, setup) = (size(&typed.run, LAUNCH), setup(context, typed.words.clone())?);
            let report =
                measured(context, &typed.run, |interrupts, tell| bench::launch::run(&setup, size, interrupts, tell))?;
            (&typed.run.shown, report)
        }
        BenchCommand::Hash(typed) => {
            let (size, setup) = (size(typed, HASH), setup(context, Vec::new())?);
            let report = measured(context, typed, |interrupts, tell| bench::hash::run(&setup, size, interrupts, tell))?;
            (&typed.shown, report)
        }
        BenchCommand::Io(typed) => {
            let (size, setup) = (size(typed, IO), setup(context, Vec::new())?);
            let report = measured(context, typed, |interrupts, tell| bench::io::run(&setup, size, interrupts, tell))?;
            (&typed.shown, report)
        }
        BenchCommand::Show(typed) => (&typed.shown, Ok(read(&typed.file)?)),
    };
    match report {
        Ok(report) => show(context, shown, report),
        Err(signal) => Ok(End::Signal(signal)),
    }
}

/// What the benches of programs are given: this very sbx, and a place in the store, so that the same file system is measured.
fn setup(context: &Context, command: Vec<OsString>) -> Result<Setup, Error> {
    let sbx = std::env::current_exe().map_err(|source| BenchError::Io { doing: "find sbx itself".into(), source })?;
    let place = Store::open(context.cache_directory()?)?.path().join("tmp");
    Ok(Setup { sbx, place, command })
}

fn size(typed: &BenchRun, (full, quick): (usize, usize)) -> Size {
    let rounds = typed.rounds.and_then(|rounds| usize::try_from(rounds).ok());
    Size { rounds: rounds.unwrap_or(if typed.quick { quick } else { full }), quick: typed.quick }
}

/// What a bench found out, or the signal that ended it. What is asked for besides is looked at before.
fn measured(
    context: &Context,
    typed: &BenchRun,
    measure: impl FnOnce(&Interrupts, &mut dyn FnMut(&str)) -> Result<Report, BenchError>,
) -> Result<Result<Report, i32>, Error> {
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
    match (shown.json, shown.csv, shown.markdown) {
        (true, _, _) => output::json(&report)?,
        (_, true, _) => output::text(&bench::text::csv(&report))?,
        (_, _, true) => output::lines(&bench::markdown::markdown(&report))?,
        _ => output::lines(&bench::text::text(&report))?,
    }
    let slower = report.comparison.is_some_and(|comparison| comparison.count(Change::Slower) > 0);
    Ok(End::Code(if slower { exit::FOUND } else { exit::OK }))
}
