//! `sbx ps`: the running sandboxes.

use std::time::{Duration, SystemTime};

use indicatif::BinaryBytes;
use serde::Serialize;

use super::{Context, End, args, output};
use crate::error::{Error, exit};
use crate::sandbox::live::{self, Entry, Running};
use crate::ui::words;

/// The version of the JSON.
const VERSION: u32 = 1;

#[derive(Debug, Serialize)]
struct Shown<'a> {
    version: u32,
    sandboxes: Vec<Sandbox<'a>>,
}

#[derive(Debug, Serialize)]
struct Sandbox<'a> {
    id: &'a str,
    project: &'a str,
    task: Option<&'a str>,
    command: &'a [String],
    cwd: &'a str,
    started: &'a str,
    age_us: u64,
    memory_bytes: Option<u64>,
    pids: Option<usize>,
    sbx_pid: i32,
    init_pid: i32,
    command_pid: Option<i32>,
}

pub(super) fn run(context: &Context, typed: args::Json) -> Result<End, Error> {
    let running = running(context)?;
    let now = SystemTime::now();
    if typed.json {
        let sandboxes = running.iter().map(|running| sandbox(running, now)).collect();
        output::json(&Shown { version: VERSION, sandboxes })?;
    } else if running.is_empty() {
        context.ui.note("no sandbox is running");
    } else {
        output::text(&table(&running, now))?;
    }
    Ok(End::Code(exit::OK))
}

/// The running sandboxes of the store.
pub(super) fn running(context: &Context) -> Result<Vec<Running>, Error> {
    let found = live::list(context.store()?.path())?;
    for path in &found.unreadable {
        context.ui.warn(&format!("{} is of another version of sbx, or damaged: its run is not shown", path.display()));
    }
    Ok(found.running)
}

fn sandbox(running: &Running, now: SystemTime) -> Sandbox<'_> {
    let Entry { id, project, task, command, cwd, started, sbx, init, .. } = &running.entry;
    Sandbox {
        id,
        project,
        task: task.as_deref(),
        command,
        cwd,
        started,
        age_us: u64::try_from(age(&running.entry, now).as_micros()).unwrap_or(u64::MAX),
        memory_bytes: running.memory(),
        pids: running.count(),
        sbx_pid: sbx.pid,
        init_pid: init.pid,
        command_pid: running.command().map(|process| process.pid),
    }
}

fn age(entry: &Entry, now: SystemTime) -> Duration {
    let started = humantime::parse_rfc3339(&entry.started).unwrap_or(now);
    // A clock that was set back makes no negative age.
    now.duration_since(started).unwrap_or_default()
}

fn table(running: &[Running], now: SystemTime) -> String {
    let unknown = || "-".to_owned();
    let rows = running.iter().map(|running| {
        let seconds = Duration::from_secs(age(&running.entry, now).as_secs());
        [
            running.entry.id.clone(),
            running.entry.project.clone(),
            humantime::format_duration(seconds).to_string(),
            running.memory().map_or_else(unknown, |bytes| BinaryBytes(bytes).to_string()),
            running.count().map_or_else(unknown, |count| count.to_string()),
            words(&running.entry.command),
        ]
    });
    output::table(["ID", "PROJECT", "AGE", "MEMORY", "PIDS", "COMMAND"], rows)
}
