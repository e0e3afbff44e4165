//! The tasks that one needs: run first, or looked up, and what they made handed on.

use std::collections::BTreeMap;

use super::resolve::{ResolveError, Subject};
use super::{Context, How, sandbox_error};
use crate::config::discover::Project;
use crate::config::model::{Config, Task};
use crate::error::Error;
use crate::inputs::{Entry, path_order};
use crate::sandbox::{self, Delivery, Job, Outcome, Stdin};
use crate::store::Store;

/// What the tasks that a subject needs have made for it.
pub(super) enum Fed {
    /// All of it.
    With(Vec<Entry>),
    /// One of them did not come to an end that the others can build on.
    Failed(Box<Outcome>),
}

impl Context {
    /// Runs the tasks that `subject` needs, each unless its result is known, and gathers what they made.
    pub(super) fn feed(
        &mut self,
        store: &Store,
        project: &Project,
        config: &Config,
        subject: &Subject,
        how: How,
    ) -> Result<Fed, Error> {
        let Some((name, task)) = task_of(config, subject) else { return Ok(Fed::With(Vec::new())) };
        let mut made = Made::default();
        for (needed, its) in config.before(task) {
            let mut request = self.request(project, subject_of(needed, its))?;
            request.fed = made.gather(&its.needs)?;
            request.needed_by = Some(name.to_owned());
            let how = How { stdin: Stdin::Null, keep: false, ..how };
            let mut outcome = self.execute_in(store, &request, how, Delivery::Store)?;
            for note in &mut outcome.notes {
                *note = format!("{needed}: {note}");
            }
            if outcome.failure.is_some() || outcome.record.exit.code != 0 {
                outcome.notes.push(format!("the task `{needed}`, which `{name}` needs, failed"));
                return Ok(Fed::Failed(Box::new(outcome)));
            }
            for note in &outcome.notes {
                self.ui.note(note);
            }
            made.0.insert(needed.to_owned(), outcome.made);
        }
        Ok(Fed::With(made.gather(&task.needs)?))
    }

    /// What the tasks that `subject` needs have made, as far as the store knows; else the name of the first whose result
    /// it does not know. Nothing is run.
    pub(super) fn known_needs(
        &mut self,
        project: &Project,
        config: &Config,
        subject: &Subject,
    ) -> Result<Result<Vec<Entry>, String>, Error> {
        let store = &self.store()?;
        let Some((_, task)) = task_of(config, subject) else { return Ok(Ok(Vec::new())) };
        let mut made = Made::default();
        for (needed, its) in config.before(task) {
            let mut request = self.request(project, subject_of(needed, its))?;
            request.fed = made.gather(&its.needs)?;
            let prepared = sandbox::prepare(store, &request, false, &self.ui.progress(), &mut self.clock);
            let prepared = &prepared.map_err(sandbox_error)?;
            match sandbox::known(Job { store, request: &request, prepared }) {
                Some(entries) => _ = made.0.insert(needed.to_owned(), entries),
                None => return Ok(Err(needed.to_owned())),
            }
        }
        Ok(Ok(made.gather(&task.needs)?))
    }
}

fn task_of<'c>(config: &'c Config, subject: &Subject) -> Option<(&'c str, &'c Task)> {
    let (name, task) = config.tasks.get_key_value(subject.task.as_ref()?)?;
    Some((name, task))
}

fn subject_of(name: &str, task: &Task) -> Subject {
    Subject { task: Some(name.to_owned()), argv: task.command.clone(), settings: task.settings.clone() }
}

/// What each task made.
#[derive(Default)]
struct Made(BTreeMap<String, Vec<Entry>>);

impl Made {
    /// What the tasks named have made together, sorted.
    fn gather(&self, names: &[String]) -> Result<Vec<Entry>, ResolveError> {
        let mut all: Vec<(&Entry, &str)> = Vec::new();
        for name in names {
            all.extend(self.0.get(name).into_iter().flatten().map(|entry| (entry, name.as_str())));
        }
        all.sort_by(|(one, _), (other, _)| path_order(&one.path, &other.path));
        for pair in all.windows(2) {
            let [(one, by), (other, and)] = pair else { continue };
            let same = one.path == other.path && one.node != other.node;
            let within = other.path.strip_prefix(one.path.as_str()).is_some_and(|rest| rest.starts_with('/'));
            if same || within {
                let [one, other] = [by, and].map(|name| (*name).to_owned());
                return Err(ResolveError::BothMake { path: pair[1].0.path.clone(), one, other });
            }
        }
        let mut entries: Vec<Entry> = all.into_iter().map(|(entry, _)| entry.clone()).collect();
        entries.dedup();
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::inputs::Node;

    fn made(tasks: &[(&str, &[&str])]) -> Made {
        let entry = |text: &&str| {
            let (path, content) = text.split_once('=').unwrap();
            let digest = Digest::of(content.as_bytes());
            Entry { path: path.to_owned(), node: Node::File { digest, executable: false } }
        };
        let all = tasks.iter().map(|(name, entries)| ((*name).to_owned(), entries.iter().map(entry).collect()));
        Made(all.collect())
    }

    #[test]
    fn what_several_tasks_made_stands_together_or_clashes() {
        let names = ["a", "b"].map(str::to_owned);
        let paths = |entries: Vec<Entry>| entries.into_iter().map(|entry| entry.path).collect::<Vec<_>>();
        let both = made(&[("a", &["x=1", "d/y=2"]), ("b", &["d/z=3", "x=1"]), ("c", &["x=9"])]);
        assert_eq!(paths(both.gather(&names).unwrap()), ["d/y", "d/z", "x"]);
        assert_eq!(paths(both.gather(&names[1..]).unwrap()), ["d/z", "x"]);
        for clash in [&["x=2"], &["x/y=2"]] {
            let error = made(&[("a", &["x=1"]), ("b", clash)]).gather(&names).unwrap_err();
            assert!(
                matches!(&error, ResolveError::BothMake { one, other, .. } if one == "a" && other == "b"),
                "{error}"
            );
        }
    }
}
