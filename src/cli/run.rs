//! `sbx run` and `sbx shell`.

use std::io::IsTerminal as _;
use std::time::SystemTime;

use super::report::{self, Sink};
use super::resolve::{self, ResolveError, Subject};
use super::{Context, End, How, args};
use crate::config::model::Config;
use crate::error::{Error, Kind, exit};
use crate::record::{self, Changes, Exit, Record, Stream};
use crate::sandbox::{Outcome, Stdin};
use crate::store::records;

pub(super) fn run(context: &mut Context, typed: &args::Run) -> Result<End, Error> {
    let report = typed.report.as_deref().map(Sink::report).transpose()?;
    let trace = typed.trace_out.as_deref().map(Sink::create).transpose()?;

    let mut record = not_begun();
    let result = attempt(context, typed, &mut record);
    if let Err(error) = &result
        && record.exit.reason.is_empty()
    {
        record.exit = failure(error);
        record.duration_us = context.clock.elapsed_us();
        record.phases = context.clock.finish();
    }
    if typed.timing {
        context.ui.asked(&report::timing(&record.phases, &record.net_namespace));
    }
    let trace = trace.map_or(Ok(()), |sink| sink.write(&report::trace(&record.phases)));
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
    let outcome = context.execute(&project, subject, How { stdin, keep: typed.keep, pool: !typed.no_pool })?;
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
    let outcome = context.execute(&project, subject, How { stdin: Stdin::Terminal, keep: typed.keep, pool: true })?;
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

/// The record of a run that has not begun.
fn not_begun() -> Record {
    Record {
        version: record::VERSION,
        id: String::new(),
        project: String::new(),
        task: None,
        needed_by: None,
        command: Vec::new(),
        cwd: String::new(),
        started: records::timestamp(SystemTime::now()),
        duration_us: 0,
        exit: Exit { code: 0, signal: None, reason: String::new(), error: None },
        action: String::new(),
        input_root: String::new(),
        inputs: 0,
        enforced: Vec::new(),
        network: String::new(),
        net_namespace: String::new(),
        connections: Vec::new(),
        connections_omitted: 0,
        blocked: Vec::new(),
        blocked_omitted: 0,
        scratch: Vec::new(),
        stdout: Stream::default(),
        stderr: Stream::default(),
        outputs: Vec::new(),
        undeclared: Changes::default(),
        phases: Vec::new(),
        kept: None,
        cache: record::Cache::default(),
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
