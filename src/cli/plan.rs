//! `sbx plan`: what `run` would do.

use serde::Serialize;

use super::{Context, End, args, output, resolve};
use crate::error::{Error, exit};
use crate::plan::Plan;
use crate::plan::explain::explain;

/// The version of the JSON.
const VERSION: u32 = 1;

#[derive(Debug, Serialize)]
struct Shown<'a> {
    version: u32,
    task: Option<&'a str>,
    input_root: String,
    action: String,
    plan: &'a Plan,
}

pub(super) fn run(context: &mut Context, typed: &args::Plan) -> Result<End, Error> {
    let (project, config) = context.load()?;
    let subject = match resolve::subject(&config, &typed.what)? {
        Some(subject) => subject,
        None => resolve::shell(&config, None)?,
    };
    let task = subject.task.clone();
    let prepared = context.prepare(&project, subject)?;
    if typed.json {
        output::json(&Shown {
            version: VERSION,
            task: task.as_deref(),
            input_root: prepared.input_root.to_string(),
            action: prepared.action.to_string(),
            plan: &prepared.plan,
        })?;
    } else {
        output::lines(&explain(&prepared.plan))?;
    }
    Ok(End::Code(exit::OK))
}
