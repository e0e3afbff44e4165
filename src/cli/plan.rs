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
    /// The tasks that run before, in this order.
    needs: Vec<&'a str>,
    /// Unknown until what those make is known.
    input_root: Option<String>,
    /// As `input_root`.
    action: Option<String>,
    plan: &'a Plan,
}

pub(super) fn run(context: &mut Context, typed: &args::Plan) -> Result<End, Error> {
    let (project, config) = context.load()?;
    let subject = match resolve::subject(&config, &typed.what)? {
        Some(subject) => subject,
        None => resolve::shell(&config, None)?,
    };
    let task = subject.task.clone();
    let fed = context.known_needs(&project, &config, &subject)?;
    let is_known = fed.is_ok();
    let needs = task.iter().filter_map(|name| config.tasks.get(name)).flat_map(|task| config.before(task));
    let needs: Vec<&str> = needs.map(|(name, _)| name).collect();
    let prepared = context.prepare(&project, subject, fed.unwrap_or_default())?;
    if typed.json {
        output::json(&Shown {
            version: VERSION,
            task: task.as_deref(),
            needs,
            input_root: is_known.then(|| prepared.input_root.to_string()),
            action: is_known.then(|| prepared.identity.action_digest.to_string()),
            plan: &prepared.plan,
        })?;
    } else {
        let first = needs.iter().fold(String::new(), |text, name| text + &format!("first        the task {name}\n"));
        output::lines(&(first + &explain(&prepared.plan)))?;
    }
    Ok(End::Code(exit::OK))
}
