//! `sbx check`: is the project's `sandbox.toml` right, and does the project have what it names?

use std::collections::BTreeSet;

use super::{Context, End, output, resolve};
use crate::config::ConfigError;
use crate::config::discover::Project;
use crate::config::model::Config;
use crate::error::{Error, exit};
use crate::inputs::Manifest;
use crate::sandbox::outputs::Selection;
use crate::ui::{chain, escape};

pub(super) fn run(context: &mut Context) -> Result<End, Error> {
    let (project, config) = match context.load() {
        Err(Error::Config(ConfigError::Faults(faults))) => {
            context.ui.faults(&faults.render(context.ui.coloured()), &faults);
            return Ok(End::Code(exit::FOUND));
        }
        loaded => loaded?,
    };
    if !is_ready(context, &project, &config)? {
        return Ok(End::Code(exit::FOUND));
    }
    let tasks = match config.tasks.len() {
        1 => "1 task".to_owned(),
        count => format!("{count} tasks"),
    };
    output::text(&format!("ok: {}: {tasks}\n", escape(&super::shown(&project.config).to_string_lossy())))?;
    Ok(End::Code(exit::OK))
}

/// Prepares a run of the top level and of each task, up to its start, and says what is in the way.
fn is_ready(context: &mut Context, project: &Project, config: &Config) -> Result<bool, Error> {
    let mut said = BTreeSet::new();
    let tasks = config.tasks.keys().map(|name| Some(name.as_str()));
    for task in std::iter::once(None).chain(tasks) {
        let subject = resolve::shell(config, task)?;
        let outputs = subject.settings.outputs.clone();
        match context.prepare(project, subject, Vec::new()) {
            Ok(prepared) => {
                let selection = Selection::new(&outputs).ok();
                if let Some(warning) = selection.and_then(|outputs| overlap(&prepared.manifest, &outputs)) {
                    context.ui.warn(&warning);
                }
            }
            // What tasks have in common is said once.
            Err(error @ Error::Sandbox { .. }) => {
                if said.insert(chain(&error)) {
                    context.ui.error(&error, error.hint().as_deref());
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(said.is_empty())
}

/// How many names a warning gives.
const NAMED: usize = 3;

/// A run that writes its own inputs never has the same ones twice.
fn overlap(manifest: &Manifest, outputs: &Selection) -> Option<String> {
    let paths: Vec<_> =
        manifest.entries.iter().map(|entry| entry.path.as_str()).filter(|path| outputs.contains(path)).collect();
    let more = paths.len().saturating_sub(NAMED);
    let names = paths.iter().take(NAMED).map(|path| format!("`{path}`")).collect::<Vec<_>>().join(", ");
    match (paths.len(), more) {
        (0, _) => None,
        (_, 0) => Some(format!("both input and output: {names}; each run changes the inputs of the next")),
        _ => Some(format!("both input and output: {names} and {more} more; each run changes the inputs of the next")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inputs::{Entry, Node};

    #[test]
    fn what_is_input_and_output_is_named() {
        let config = crate::config::parse("outputs = ['out/**', '!out/keep']", "f").unwrap();
        let outputs = Selection::new(&config.settings.outputs).unwrap();
        let overlap = |paths: &[&str]| {
            let entry = |path: &&str| Entry { path: (*path).to_owned(), node: Node::EmptyDirectory };
            overlap(&Manifest { entries: paths.iter().map(entry).collect() }, &outputs)
        };
        assert_eq!(overlap(&["src/a", "out/keep"]), None);
        assert_eq!(
            overlap(&["out/a", "src/a"]).unwrap(),
            "both input and output: `out/a`; each run changes the inputs of the next"
        );
        assert!(overlap(&["out/a", "out/b", "out/c", "out/d"]).unwrap().contains("`out/c` and 1 more;"));
    }
}
