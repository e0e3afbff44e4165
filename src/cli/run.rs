//! `sbx run` and `sbx shell`.

use std::io::IsTerminal as _;
use std::time::SystemTime;

use super::report::{self, Sink};
use super::resolve::{self, ResolveError, Subject};
use super::{Context, End, How, args};
use crate::config::model::Config;
use crate::error::{Error, Kind, exit};
use crate::record::{Exit, Record};
use crate::sandbox::cache::Use;
use crate::sandbox::{Outcome, Stdin};
use crate::store::records;

pub(super) fn run(context: &mut Context, typed: &args::Run) -> Result<End, Error> {
    let report = typed.report.as_deref().map(|to| Sink::report(to.as_os_str())).transpose()?;
    let trace = typed.trace_out.as_deref().map(Sink::create).transpose()?;

    let mut record = Record::begun(records::timestamp(SystemTime::now()));
    let result = attempt(context, typed, &mut record);
    if let Err(error) = &result
        && record.exit.reason.is_empty()
    {
        record.exit = failure(error);
        record.duration_us = context.clock.elapsed_us();
        record.phases = context.clock.finish();
    }
    if typed.timing {
        context.ui.asked(&report::timing(&record));
    }
    let trace = trace.map_or(Ok(()), |sink| sink.write(&report::trace(&record)));
    let report = report.map_or(Ok(()), |sink| sink.write(&record));
    // Why the run failed says more than why that could not be written.
    result.and_then(|end| trace.and(report).map(|()| end))
}

/// The run itself; `record` gets what is known of it as soon as it is known, and all of it when the sandbox was tried.
fn attempt(context: &mut Context, typed: &args::Run, record: &mut Record) -> Result<End, Error> {
    context.clock.phase("config");
    let (project, config) = context.load()?;
    record.project = project.root.to_string_lossy().into_owned();
    let subject = resolve::subject(&config, &typed.what)?
        .ok_or_else(|| ResolveError::Nothing { tasks: resolve::names(&config) })?;
    record.task.clone_from(&subject.task);
    record.command.clone_from(&subject.argv);
    let slip = slip(&config, typed, &subject);
    let stdin = if typed.stdin { Stdin::Relay } else { Stdin::Null };
    let cache = match (typed.force, typed.no_cache) {
        (_, true) => Use::Off,
        (true, false) => Use::Refresh,
        (false, false) => Use::Normal,
    };
    let steps = typed.timing || typed.trace_out.is_some() || typed.report.is_some();
    let how = How { stdin, keep: typed.keep, steps, pool: !typed.no_pool, cache };
    let outcome = context.execute(&project, &config, subject, how)?;
    *record = outcome.record.clone();
    end(context, outcome, slip)
}

/// What to say if the command turns out not to exist: perhaps a task was meant.
fn slip(config: &Config, typed: &args::Run, subject: &Subject) -> Option<String> {
    if subject.task.is_some() || typed.what.escaped {
        return None;
    }
    resolve::suggest(&subject.argv[0], &resolve::names(config))
}

pub(super) fn shell(context: &mut Context, typed: &args::Shell) -> Result<End, Error> {
    if !std::io::stdin().is_terminal() {
        return Err(ResolveError::NoTerminal.into());
    }
    let (project, config) = context.load()?;
    let subject = resolve::shell(&config, typed.task.as_deref())?;
    let how = How { stdin: Stdin::Terminal, keep: typed.keep, steps: false, pool: true, cache: Use::Normal };
    let outcome = context.execute(&project, &config, subject, how)?;
    end(context, outcome, None)
}

/// Says what is worth a line after a run; how sbx ends.
fn end(context: &Context, outcome: Outcome, slip: Option<String>) -> Result<End, Error> {
    for note in &outcome.notes {
        context.ui.note(note);
    }
    match (outcome.failure, outcome.reraise) {
        (Some(source), _) => Err(Error::Sandbox { source, slip }),
        (None, Some(signal)) => Ok(End::Signal(signal)),
        (None, None) => Ok(End::Code(u8::try_from(outcome.record.exit.code).unwrap_or(exit::FAILED))),
    }
}

fn failure(error: &Error) -> Exit {
    let reason = match error.kind() {
        Kind::NotFound => "not-found",
        Kind::NotExecutable => "not-executable",
        Kind::Usage | Kind::Config | Kind::Machine | Kind::Sandbox => "failed",
    };
    Exit {
        code: error.exit_code().into(),
        signal: None,
        reason: reason.to_owned(),
        error: Some(crate::ui::chain(error)),
    }
}
