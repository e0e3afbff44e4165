//! `sbx diff`: what the last run wrote.

use std::fmt::Write as _;

use serde::Serialize;

use super::{Context, End, args, output};
use crate::error::{Error, exit};
use crate::record::{Changes, Exit, Output, Record};
use crate::store::{ProjectKey, records};
use crate::ui::{escape, words};

/// The version of the JSON.
const VERSION: u32 = 1;

#[derive(Debug, Serialize)]
struct Shown<'a> {
    version: u32,
    id: &'a str,
    task: Option<&'a str>,
    command: &'a [String],
    started: &'a str,
    exit: &'a Exit,
    outputs: &'a [Output],
    /// None when the result was replayed and the record of the run that computed it is gone.
    undeclared: Option<&'a Changes>,
    /// The run that computed what was replayed.
    replayed_from: Option<&'a str>,
}

pub(super) fn run(context: &Context, typed: args::Json) -> Result<End, Error> {
    let project = context.project()?;
    let store = context.store()?;
    let key = ProjectKey::new(&project.config);
    let last = records::last(store.path(), key.as_str(), |_| true)?;
    for path in &last.damaged {
        context.ui.warn(&format!("the record {} is damaged and passed over", path.display()));
    }
    let record = last.record.ok_or(Error::NoRun { task: None })?;
    // What a replay leaves out is in the record of the run that computed it.
    let from = record.cache.from.as_deref();
    let computed = match from {
        Some(from) => records::last(store.path(), key.as_str(), |record| record.id == from)?.record,
        None => None,
    };
    let undeclared = match from {
        Some(_) => computed.as_ref().map(|record| &record.undeclared),
        None => Some(&record.undeclared),
    };
    if typed.json {
        output::json(&Shown {
            version: VERSION,
            id: &record.id,
            task: record.task.as_deref(),
            command: &record.command,
            started: &record.started,
            exit: &record.exit,
            outputs: &record.outputs,
            undeclared,
            replayed_from: from,
        })?;
    } else {
        output::text(&text(&record, undeclared))?;
    }
    Ok(End::Code(exit::OK))
}

fn text(record: &Record, undeclared: Option<&Changes>) -> String {
    let mut text = format!(
        "run {} at {}: {} (exit code {})\n",
        escape(&record.id),
        escape(&record.started),
        words(&record.command),
        record.exit.code
    );
    let mut line = |words: std::fmt::Arguments<'_>| {
        let _ = writeln!(text, "{words}");
    };
    if let Some(from) = &record.cache.from {
        line(format_args!("replayed from run {}", escape(from)));
    }
    if record.outputs.is_empty() {
        line(format_args!("declared: nothing was copied back"));
    } else {
        line(format_args!("declared, copied back:"));
    }
    for output in &record.outputs {
        match (&output.target, output.kind.as_str()) {
            (Some(target), _) => line(format_args!("  {} -> {}", escape(&output.path), escape(target))),
            (None, "directory") => line(format_args!("  {}/", escape(&output.path))),
            (None, _) => line(format_args!("  {}", escape(&output.path))),
        }
    }
    let Some(Changes { added, changed, deleted, omitted }) = undeclared else {
        line(format_args!("undeclared: not known, for the record of that run is gone"));
        return text;
    };
    if added.is_empty() && changed.is_empty() && deleted.is_empty() && *omitted == 0 {
        line(format_args!("undeclared: nothing"));
        return text;
    }
    line(format_args!("undeclared, dropped:"));
    for (what, paths) in [("added  ", added), ("changed", changed), ("deleted", deleted)] {
        for path in paths {
            line(format_args!("  {what}  {}", escape(path)));
        }
    }
    if *omitted > 0 {
        line(format_args!("  and {omitted} more"));
    }
    text
}
