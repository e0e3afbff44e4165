//! `sbx why`: why the last run was computed, or where its result came from.

mod answer;
mod shown;
mod stat;
mod text;

use std::time::SystemTime;

use answer::Answer;
use shown::Shown;
use stat::Stats;

use super::{Context, End, args, output};
use crate::error::{Error, exit};
use crate::store::{ProjectKey, records};

pub(super) fn run(context: &Context, typed: &args::Why) -> Result<End, Error> {
    let project = context.project()?;
    let store = context.store()?;
    let past = records::all(store.path(), ProjectKey::new(&project.config).as_str())?;
    for path in &past.damaged {
        context.ui.warn(&format!("the record {} is damaged and passed over", path.display()));
    }
    let is_meant = |task: Option<&String>| typed.task.is_none() || typed.task.as_ref() == task;
    let index = past.records.iter().position(|record| is_meant(record.task.as_ref()));
    let (record, earlier) = match index.and_then(|index| past.records[index..].split_first()) {
        Some(found) => found,
        None => return Err(Error::NoRun { task: typed.task.clone() }),
    };
    let answer = Answer::find(&store, record, earlier);
    let mut stats = Stats::new(&store);
    if typed.json {
        output::json(&Shown::new(&answer, &mut stats))?;
    } else {
        output::text(&text::text(&answer, &mut stats, context.global.verbose, SystemTime::now()))?;
    }
    Ok(End::Code(exit::OK))
}
