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
    undeclared: &'a Changes,
}

pub(super) fn run(context: &Context, typed: args::Json) -> Result<End, Error> {
    let project = context.project()?;
    let store = context.store()?;
    let last = records::last(store.path(), ProjectKey::new(&project.config).as_str(), |_| true)?;
    for path in &last.damaged {
        context.ui.warn(&format!("the record {} is damaged and passed over", path.display()));
    }
    let record = last.record.ok_or(Error::NoRun { task: None })?;
    if typed.json {
        output::json(&Shown {
            version: VERSION,
            id: &record.id,
            task: record.task.as_deref(),
            command: &record.command,
            started: &record.started,
            exit: &record.exit,
            outputs: &record.outputs,
            undeclared: &record.undeclared,
        })?;
    } else {
        output::text(&text(&record))?;
    }
    Ok(End::Code(exit::OK))
}

fn text(record: &Record) -> String {
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
    let Changes { added, changed, deleted, omitted } = &record.undeclared;
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
