//! The answer in words.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use super::answer::{Answer, Lost, Verdict};
use super::stat::{Lines, Stats};
use crate::action::policy::ContentIdentity;
use crate::action::why::{Aspect, Change, Difference, Group, Subject, Value, aspects};
use crate::inputs::Node;
use crate::inputs::packages::Installed;
use crate::record::{Cache, Record};
use crate::ui::{escape, words};

/// So many lines of a group are shown, unless all are asked for.
const GROUP_MAX: usize = 10;

/// So many characters of a value are shown, unless all are asked for.
const VALUE_MAX: usize = 80;

/// So much of what two values have in common is shown around what they have not.
const CONTEXT: usize = 16;

/// So many digits of a digest tell it from others.
const DIGITS: usize = 12;

/// The answer; `all` leaves nothing out.
pub(super) fn text(answer: &Answer<'_>, stats: &mut Stats<'_>, all: bool, now: SystemTime) -> String {
    let record = answer.record;
    let task = record.task.as_ref().map_or_else(String::new, |task| format!("task {}: ", escape(task)));
    let mut text = format!(
        "run {} at {}: {task}{} (exit code {})\n",
        escape(&record.id),
        escape(&record.started),
        words(&record.command),
        record.exit.code
    );
    let reason = record.cache.reason.as_deref().map(escape);
    let looked_up = record.cache.state == Cache::MISS;
    if !looked_up && !matches!(answer.verdict, Verdict::Hit) {
        // Without a reason it was kept: only `--force` looks nothing up and keeps what it computes.
        let _ = match &reason {
            Some(reason) => {
                writeln!(text, "computed: no earlier result was looked up, and its own is not kept: {reason}")
            }
            None => writeln!(text, "computed: no earlier result was looked up (--force)"),
        };
    }
    let because = if looked_up { "computed because " } else { "" };
    let _ = match &answer.verdict {
        Verdict::Hit => writeln!(text, "{}", hit(&record.cache, now)),
        Verdict::First => writeln!(text, "{because}no earlier run of {} is recorded", subject(record)),
        Verdict::Incomparable => {
            writeln!(text, "{because}no result was known; what it could be compared by is gone")
        }
        Verdict::Same { run, lost } if looked_up => {
            writeln!(text, "computed again, although nothing differs from {}: {}", named(run), self::lost(lost))
        }
        Verdict::Same { run, .. } => writeln!(text, "nothing differs from {}", named(run)),
        Verdict::Differs { run, .. } => writeln!(text, "{because}it differs from {}:", named(run)),
    };
    if let Verdict::Differs { differences, .. } = &answer.verdict {
        text += &groups(differences, stats, all);
    }
    if looked_up && let Some(reason) = reason {
        let _ = writeln!(text, "its own result is not kept: {reason}");
    }
    text + &gone(answer, all)
}

fn hit(cache: &Cache, now: SystemTime) -> String {
    let mut line = "not computed: the result is".to_owned();
    match &cache.from {
        Some(run) => drop(write!(line, " that of run {}", escape(run))),
        None => line += " an earlier one",
    }
    if let Some(time) = &cache.computed {
        let _ = write!(line, " at {}{}", escape(time), age(time, now));
    }
    if let Some(project) = &cache.from_project {
        let _ = write!(line, " in {}", escape(project));
    }
    if let Some(saved) = cache.saved_us {
        let _ = write!(line, "; it saved {}", rough(Duration::from_micros(saved)));
    }
    line
}

/// How long ago `time` was, where that can be told.
fn age(time: &str, now: SystemTime) -> String {
    let age = humantime::parse_rfc3339(time).ok().and_then(|time| now.duration_since(time).ok());
    age.map_or_else(String::new, |age| format!(" ({} ago)", rough(Duration::from_secs(age.as_secs()))))
}

/// The two largest units, to the millisecond.
fn rough(time: Duration) -> String {
    let millis = Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    let text = humantime::format_duration(millis).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

fn subject(record: &Record) -> String {
    match &record.task {
        Some(task) => format!("the task {}", escape(task)),
        None => "this command".to_owned(),
    }
}

fn named(run: &Record) -> String {
    format!("run {} at {}", escape(&run.id), escape(&run.started))
}

fn lost(lost: &Lost<'_>) -> String {
    match lost {
        Lost::NotKept(reason) => format!("its result was not kept: {}", escape(reason)),
        Lost::Failed(code) => {
            format!("it failed (exit code {code}), and the result of a failed command is not replayed")
        }
        Lost::Removed => "its result was removed from the store since, or is damaged".to_owned(),
    }
}

fn groups(differences: &[Difference], stats: &mut Stats<'_>, all: bool) -> String {
    let mut text = String::new();
    for group in differences.chunk_by(|one, other| one.subject.group() == other.subject.group()) {
        let _ = writeln!(text, "  {}:", heading(group[0].subject.group()));
        let shown = if all { group.len() } else { group.len().min(GROUP_MAX) };
        for difference in &group[..shown] {
            let _ = writeln!(text, "    {}", line(difference, stats.of(difference), all));
        }
        if group.len() > shown {
            let _ = writeln!(text, "    … and {} more (-v shows all)", group.len() - shown);
        }
    }
    text
}

fn heading(group: Group) -> &'static str {
    match group {
        Group::Policy => "policy",
        Group::Rootfs => "rootfs",
        Group::Mounts => "mounts",
        Group::Environment => "environment",
        Group::Arguments => "arguments",
        Group::WorkingDirectory => "working directory",
        Group::Outputs => "outputs",
        Group::TimeLimit => "time limit",
        Group::Platform => "platform",
        Group::Inputs => "inputs",
    }
}

/// What a subject is called below the heading of its group; empty when that says it.
fn label(subject: &Subject) -> String {
    match subject {
        Subject::Abi => "version of the sandbox".to_owned(),
        Subject::Isolation => "isolation".to_owned(),
        Subject::SystemCall => "system call allowed".to_owned(),
        Subject::Network => "network".to_owned(),
        Subject::Allow => "network rule".to_owned(),
        Subject::Pin(name) => format!("address pinned to {}", escape(name)),
        Subject::Publish => "published port".to_owned(),
        Subject::Hostname => "hostname".to_owned(),
        Subject::Uid => "uid".to_owned(),
        Subject::Gid => "gid".to_owned(),
        Subject::Scratch(place) => format!("scratch directory at {}", escape(place)),
        Subject::Memory => "where what is written lives".to_owned(),
        Subject::OutputOrder => "the order of outputs".to_owned(),
        Subject::Rootfs => "root file system".to_owned(),
        Subject::Argument(0) => "program".to_owned(),
        Subject::Argument(index) => format!("argument {index}"),
        Subject::Workdir => "their place".to_owned(),
        Subject::InputTree => "the whole tree".to_owned(),
        Subject::Limit(name) => format!("limit {}", escape(name)),
        Subject::Package(name)
        | Subject::Host(name)
        | Subject::Mount(name)
        | Subject::Variable(name)
        | Subject::Property(name)
        | Subject::Input(name) => escape(name).into_owned(),
        Subject::WorkingDirectory | Subject::Output | Subject::TimeLimit => String::new(),
    }
}

fn line(difference: &Difference, lines: Option<Lines>, all: bool) -> String {
    let label = label(&difference.subject);
    let labelled = |between: &str, rest: String| {
        if label.is_empty() { rest } else { format!("{label}{between}{rest}") }
    };
    match &difference.change {
        Change::Changed { before: Value::Node(before), after: Value::Node(after) } => {
            labelled(": ", input(before, after, lines))
        }
        Change::Changed { before: Value::Installed(before), after: Value::Installed(after) } => {
            let versions = |installed: &[Installed]| {
                let versions: Vec<_> = installed.iter().map(|one| escape(&one.version).into_owned()).collect();
                versions.join(", ")
            };
            let (before, after) = (versions(before), versions(after));
            labelled(
                ": ",
                if before == after { format!("{after}, built anew") } else { format!("{before} -> {after}") },
            )
        }
        Change::Changed { before, after } => {
            let (before, after) = pair(before, after, all);
            let quoted =
                |text: String| if is_word(&difference.subject) { words(&[text]) } else { escape(&text).into_owned() };
            labelled(": ", format!("{} -> {}", quoted(before), quoted(after)))
        }
        Change::Added(value) => labelled(" ", format!("added: {}", single(value, &difference.subject, all))),
        Change::Removed(value) => labelled(" ", format!("removed: {}", single(value, &difference.subject, all))),
    }
}

/// Whether a value is shown as a word of a command line.
fn is_word(subject: &Subject) -> bool {
    matches!(subject, Subject::Variable(_) | Subject::Argument(_) | Subject::Output)
}

fn single(value: &Value, subject: &Subject, all: bool) -> String {
    let text = plain(value, all);
    let text = if all { text } else { shortened(&text.chars().collect::<Vec<_>>()) };
    if is_word(subject) { words(&[text]) } else { escape(&text).into_owned() }
}

fn pair(before: &Value, after: &Value, all: bool) -> (String, String) {
    let (before, after) = (plain(before, all), plain(after, all));
    if all { (before, after) } else { contrast(&before, &after) }
}

/// A value, not yet made safe.
fn plain(value: &Value, all: bool) -> String {
    let digest = |kind: &str, digest: &str| {
        let digest = if all { digest } else { digest.get(..DIGITS).unwrap_or(digest) };
        format!("{kind} {digest}")
    };
    match value {
        Value::Text(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Time(time) => humantime::format_duration(*time).to_string(),
        Value::Identity(ContentIdentity::Content(text)) => digest("content", text),
        Value::Identity(ContentIdentity::Metadata(text)) => digest("metadata", text),
        Value::Identity(ContentIdentity::Packages(text)) => digest("packages", text),
        Value::Identity(ContentIdentity::Declared(text)) => format!("declared \"{text}\""),
        Value::Identity(ContentIdentity::Link(text)) => format!("link to {text}"),
        Value::Installed(installed) => installed.iter().map(|one| one.version.clone()).collect::<Vec<_>>().join(", "),
        Value::Node(node) => self::node(node),
    }
}

fn node(node: &Node) -> String {
    match node {
        Node::File { digest, executable: false } => format!("file of {}", bytes(digest.size)),
        Node::File { digest, executable: true } => format!("executable of {}", bytes(digest.size)),
        Node::Symlink { target } => format!("link to {target}"),
        Node::EmptyDirectory => "empty directory".to_owned(),
    }
}

fn bytes(size: u64) -> String {
    if size == 1 { "1 byte".to_owned() } else { format!("{size} bytes") }
}

/// In what an input has changed.
fn input(before: &Node, after: &Node, lines: Option<Lines>) -> String {
    let mut parts = Vec::new();
    for aspect in aspects(before, after) {
        parts.push(match (aspect, before, after) {
            (Aspect::Content, Node::File { digest: before, .. }, Node::File { digest: after, .. }) => match lines {
                Some(Lines { added, removed }) => format!("+{added} -{removed} lines"),
                None if before.size == after.size => format!("other {}", bytes(after.size)),
                None => format!("{} -> {} bytes", before.size, after.size),
            },
            (Aspect::Mode, _, Node::File { executable: true, .. }) => "executable now".to_owned(),
            (Aspect::Mode, ..) => "not executable any more".to_owned(),
            _ => format!("{} -> {}", escape(&node(before)), escape(&node(after))),
        });
    }
    parts.join(", ")
}

/// Two values without most of what long ones have in common.
fn contrast(before: &str, after: &str) -> (String, String) {
    let (before, after): (Vec<char>, Vec<char>) = (before.chars().collect(), after.chars().collect());
    if before.len().max(after.len()) <= VALUE_MAX {
        return (before.into_iter().collect(), after.into_iter().collect());
    }
    let start = before.iter().zip(&after).take_while(|(one, other)| one == other).count();
    let end =
        before[start..].iter().rev().zip(after[start..].iter().rev()).take_while(|(one, other)| one == other).count();
    let cut = |text: &[char]| {
        let from = start.saturating_sub(CONTEXT);
        let to = (text.len() - end + CONTEXT).min(text.len());
        let middle = shortened(&text[from..to]);
        let (before, after) = (if from > 0 { "…" } else { "" }, if to < text.len() { "…" } else { "" });
        format!("{before}{middle}{after}")
    };
    (cut(&before), cut(&after))
}

fn shortened(text: &[char]) -> String {
    if text.len() <= VALUE_MAX {
        return text.iter().collect();
    }
    text[..VALUE_MAX - 1].iter().chain(&['…']).collect()
}

/// What can't be compared any more.
fn gone(answer: &Answer<'_>, all: bool) -> String {
    let compared = match &answer.verdict {
        Verdict::Differs { run, .. } => Some(*run),
        _ => None,
    };
    let mut text = String::new();
    let mut others = 0;
    for (run, gone) in &answer.gone {
        let matters = run.id == answer.record.id || compared.is_some_and(|compared| compared.id == run.id);
        if all || matters {
            let _ = writeln!(
                text,
                "the {} of run {} can't be read: {} is not in the store any more, or damaged",
                gone.what,
                escape(&run.id),
                escape(&gone.digest)
            );
        } else {
            others += 1;
        }
    }
    if others > 0 {
        let s = if others == 1 { "" } else { "s" };
        let _ = writeln!(text, "{others} earlier run{s} can't be compared any more (-v says what is gone)");
    }
    text
}

#[cfg(test)]
mod tests;
