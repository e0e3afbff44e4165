//! `sbx cache`: what the store holds, what can go, whether it is right.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::SystemTime;

use indicatif::BinaryBytes;
use serde::Serialize;

use super::{Context, End, args, output};
use crate::error::{Error, exit};
use crate::sandbox::live;
use crate::store::Store;
use crate::store::care::{Collected, Damage, Kind, Limits, Patience, Size, Tally, Verified};
use crate::store::records;

/// The version of the JSON.
const VERSION: u32 = 1;

pub(super) fn run(context: &Context, typed: &args::Cache) -> Result<End, Error> {
    match &typed.command {
        args::CacheCommand::Stats(typed) => stats(context, *typed),
        args::CacheCommand::Gc(typed) => gc(context, *typed),
        args::CacheCommand::Verify(typed) => verify(context, *typed),
        args::CacheCommand::Clear(typed) => clear(context, *typed),
    }
}

#[derive(Debug, Serialize)]
struct Stats<'a> {
    version: u32,
    path: &'a str,
    budget_bytes: u64,
    /// What counts for the budget.
    bytes: u64,
    /// Recorded runs that replayed a known result.
    hits: u64,
    /// Recorded runs that looked for one in vain.
    misses: u64,
    kinds: BTreeMap<Kind, Shown>,
}

#[derive(Debug, Serialize)]
struct Shown {
    count: u64,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_use: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    newest_use: Option<String>,
}

impl From<&Tally> for Shown {
    fn from(tally: &Tally) -> Self {
        let Tally { count, bytes, oldest, newest } = *tally;
        Self { count, bytes, oldest_use: oldest.map(records::timestamp), newest_use: newest.map(records::timestamp) }
    }
}

fn stats(context: &Context, typed: args::Json) -> Result<End, Error> {
    let store = context.store()?;
    let tallies = store.tally(&context.ui.work())?;
    let budget = context.cache_size()?;
    let (hits, misses) = records::replays(store.path());
    if typed.json {
        let kinds = tallies.iter().map(|(kind, tally)| (*kind, tally.into())).collect();
        let path = store.path().to_string_lossy();
        let bytes = sum(&tallies);
        output::json(&Stats { version: VERSION, path: &path, budget_bytes: budget, bytes, hits, misses, kinds })?;
    } else {
        let mut text = stats_text(&store, &tallies, budget, SystemTime::now());
        if hits + misses > 0 {
            let _ = writeln!(text, "{hits} of {} recorded runs that could replay a result did", hits + misses);
        }
        output::text(&text)?;
    }
    Ok(End::Code(exit::OK))
}

fn sum(tallies: &[(Kind, Tally)]) -> u64 {
    tallies.iter().filter(|(kind, _)| kind.is_budgeted()).map(|(_, tally)| tally.bytes).sum()
}

fn stats_text(store: &Store, tallies: &[(Kind, Tally)], budget: u64, now: SystemTime) -> String {
    let ago = |time: Option<SystemTime>| match time {
        None => "-".to_owned(),
        // A clock that was set back makes no negative age.
        Some(time) => age(now.duration_since(time).unwrap_or_default().as_secs()),
    };
    let rows = tallies.iter().filter(|(_, tally)| tally.count > 0).map(|(kind, tally)| {
        let Tally { count, bytes, oldest, newest } = *tally;
        [kind.name().to_owned(), count.to_string(), BinaryBytes(bytes).to_string(), ago(oldest), ago(newest)]
    });
    let mut text = output::table(["WHAT", "COUNT", "SIZE", "OLDEST USE", "NEWEST USE"], rows);
    let shown = crate::ui::escape(&store.path().to_string_lossy()).into_owned();
    let _ = writeln!(text, "{} of {} in {shown}", BinaryBytes(sum(tallies)), BinaryBytes(budget));
    text
}

/// The largest unit only: nobody wants to know it exactly.
fn age(seconds: u64) -> String {
    let units = [(86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")];
    match units.iter().find(|(unit, _)| seconds >= *unit) {
        None => "now".to_owned(),
        Some((unit, name)) => match seconds / unit {
            1 => format!("1 {name} ago"),
            count => format!("{count} {name}s ago"),
        },
    }
}

#[derive(Debug, Serialize)]
struct Gone {
    version: u32,
    dry_run: bool,
    freed_bytes: u64,
    left_bytes: u64,
    in_use: u64,
    young: u64,
    removed: BTreeMap<Kind, Shown>,
}

fn gc(context: &Context, typed: args::CacheGc) -> Result<End, Error> {
    let store = context.store()?;
    let size = match (typed.max_size, typed.max_age) {
        (Some(args::Bytes(size)), _) => Some(size),
        (None, Some(_)) => None,
        (None, None) => Some(context.cache_size()?),
    };
    let limits = Limits {
        size: size.map(|size| Size { above: size, down_to: size }),
        age: typed.max_age.map(|args::Age(age)| age),
        dry_run: typed.dry_run,
        ..Limits::default()
    };
    let collected = store.collect_garbage(&limits, Patience::Wait, &context.ui.work())?.unwrap_or_default();
    if typed.json {
        let removed = collected.removed.iter().map(|(kind, tally)| (*kind, tally.into())).collect();
        let Collected { freed, left, in_use, young, .. } = collected;
        output::json(&Gone {
            version: VERSION,
            dry_run: typed.dry_run,
            freed_bytes: freed,
            left_bytes: left,
            in_use,
            young,
            removed,
        })?;
    } else {
        output::text(&(removal(&collected, typed.dry_run).join("\n") + "\n"))?;
    }
    Ok(End::Code(exit::OK))
}

/// What was removed and what was not, a line each.
pub(super) fn removal(collected: &Collected, dry_run: bool) -> Vec<String> {
    let Collected { removed, freed, left, in_use, young } = collected;
    let kinds: Vec<String> = removed
        .iter()
        .map(|(kind, tally)| format!("{} {} ({})", tally.count, kind.name(), BinaryBytes(tally.bytes)))
        .collect();
    let verb = if dry_run { "would remove" } else { "removed" };
    let what = if kinds.is_empty() { "nothing".to_owned() } else { kinds.join(", ") };
    let mut lines = vec![format!("{verb} {what}: {}; left {}", BinaryBytes(*freed), BinaryBytes(*left))];
    if *in_use > 0 {
        lines.push(format!("{in_use} layers stay: they are in use"));
    }
    if *young > 0 {
        lines.push(format!("{young} unused blobs stay for now: they are young, and a run may be about to use them"));
    }
    lines
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    version: u32,
    looked_at: BTreeMap<Kind, u64>,
    damaged: &'a [Damage],
}

fn verify(context: &Context, typed: args::CacheVerify) -> Result<End, Error> {
    let store = context.store()?;
    let Verified { looked_at, damage } = store.verify(typed.repair, &context.ui.work())?;
    if typed.json {
        output::json(&Report { version: VERSION, looked_at: looked_at.into_iter().collect(), damaged: &damage })?;
    } else {
        let mut text = String::new();
        for Damage { path, what, removed, .. } in &damage {
            let done = match (typed.repair, removed) {
                (_, true) => " (removed)",
                (true, false) => " (in use, stays)",
                (false, false) => "",
            };
            let _ = writeln!(text, "{path}: {what}{done}");
        }
        let looked: Vec<_> = looked_at.iter().map(|(kind, count)| format!("{count} {}", kind.name())).collect();
        let sum = if damage.is_empty() { "all is right".to_owned() } else { format!("{} damaged", damage.len()) };
        let _ = writeln!(text, "{sum}: looked at {}", looked.join(", "));
        output::lines(&text)?;
    }
    let is_right = damage.iter().all(|damage| damage.removed);
    Ok(End::Code(if is_right { exit::OK } else { exit::FOUND }))
}

fn clear(context: &Context, typed: args::CacheClear) -> Result<End, Error> {
    let store = context.store()?;
    let collected = store.collect_garbage(&Limits::NOTHING, Patience::Wait, &context.ui.work())?.unwrap_or_default();
    let mut lines = removal(&collected, false);
    if typed.scratch {
        // A run's scratch directories are the very ones that are kept.
        let running = live::list(store.path())?.running.len();
        if running == 0 {
            store.clear_scratch()?;
            lines.push("removed the kept scratch directories".to_owned());
        } else {
            lines.push(format!("the kept scratch directories stay: {running} sandboxes are running"));
        }
    }
    output::text(&(lines.join("\n") + "\n"))?;
    Ok(End::Code(exit::OK))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_its_largest_unit() {
        let ages = [0, 1, 59, 60, 7_199, 90_000, 200_000].map(age);
        let expected =
            ["now", "1 second ago", "59 seconds ago", "1 minute ago", "1 hour ago", "1 day ago", "2 days ago"];
        assert_eq!(ages, expected);
    }

    #[test]
    fn what_stays_is_said() {
        let tally = Tally { count: 2, bytes: 4096, ..Tally::default() };
        let collected =
            Collected { removed: vec![(Kind::Results, tally)], freed: 4096, left: 1 << 30, in_use: 1, young: 3 };
        let lines = removal(&collected, false);
        assert_eq!(lines[0], "removed 2 results (4.00 KiB): 4.00 KiB; left 1.00 GiB");
        assert_eq!(lines.len(), 3);
        assert_eq!(removal(&Collected::default(), true), ["would remove nothing: 0 B; left 0 B"]);
    }
}
