//! The answer as JSON.

use serde::Serialize;
use serde_json::{Value as Json, json};

use super::answer::{Answer, Lost, Verdict};
use super::stat::{Lines, Stats};
use crate::action::why::{Aspect, Change, Difference, Group, Subject, Value, aspects};
use crate::inputs::Node;
use crate::record::{Cache, Exit, Record};
use crate::store::past::Gone;

/// The version of the JSON.
const VERSION: u32 = 1;

#[derive(Debug, Serialize)]
pub(super) struct Shown<'a> {
    version: u32,
    run: Run<'a>,
    cache: &'a Cache,
    /// `hit`, `first`, `same`, `differs` or `incomparable`.
    verdict: &'static str,
    /// The closest earlier run, or the one of the same action.
    compared: Option<Run<'a>>,
    /// Why there was no result of the run of the same action.
    lost: Option<ShownLost<'a>>,
    differences: Vec<ShownDifference<'a>>,
    gone: Vec<ShownGone<'a>>,
}

#[derive(Debug, Serialize)]
struct Run<'a> {
    id: &'a str,
    project: &'a str,
    task: Option<&'a str>,
    command: &'a [String],
    started: &'a str,
    duration_us: u64,
    exit: &'a Exit,
    action: &'a str,
    input_root: &'a str,
}

#[derive(Debug, Serialize)]
struct ShownLost<'a> {
    /// `not-kept`, `failed` or `removed`.
    why: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct ShownDifference<'a> {
    group: &'static str,
    subject: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
    change: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<Json>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    aspects: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lines_added: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lines_removed: Option<u32>,
}

#[derive(Debug, Serialize)]
struct ShownGone<'a> {
    run: &'a str,
    what: String,
    digest: &'a str,
}

impl<'a> Shown<'a> {
    pub(super) fn new(answer: &'a Answer<'a>, stats: &mut Stats<'_>) -> Self {
        let (verdict, compared, lost, differences): (_, _, _, &[Difference]) = match &answer.verdict {
            Verdict::Hit => ("hit", None, None, &[]),
            Verdict::First => ("first", None, None, &[]),
            Verdict::Incomparable => ("incomparable", None, None, &[]),
            Verdict::Same { run, lost } => ("same", Some(*run), Some(lost), &[]),
            Verdict::Differs { run, differences } => ("differs", Some(*run), None, differences),
        };
        let lost = lost.filter(|_| answer.record.cache.state == Cache::MISS);
        Self {
            version: VERSION,
            run: run(answer.record),
            cache: &answer.record.cache,
            verdict,
            compared: compared.map(run),
            lost: lost.map(self::lost),
            differences: differences.iter().map(|one| difference(one, stats.of(one))).collect(),
            gone: answer.gone.iter().map(|(run, gone)| self::gone(run, gone)).collect(),
        }
    }
}

fn run(record: &Record) -> Run<'_> {
    Run {
        id: &record.id,
        project: &record.project,
        task: record.task.as_deref(),
        command: &record.command,
        started: &record.started,
        duration_us: record.duration_us,
        exit: &record.exit,
        action: &record.action,
        input_root: &record.input_root,
    }
}

fn lost<'a>(lost: &Lost<'a>) -> ShownLost<'a> {
    match lost {
        Lost::NotKept(reason) => ShownLost { why: "not-kept", reason: Some(reason) },
        Lost::Failed(_) => ShownLost { why: "failed", reason: None },
        Lost::Removed => ShownLost { why: "removed", reason: None },
    }
}

fn gone<'a>(run: &'a Record, gone: &'a Gone) -> ShownGone<'a> {
    ShownGone { run: &run.id, what: gone.what.to_string(), digest: &gone.digest }
}

fn difference(difference: &Difference, lines: Option<Lines>) -> ShownDifference<'_> {
    let Difference { subject, change } = difference;
    let (word, name, index) = words(subject);
    let aspects = match change {
        Change::Changed { before: Value::Node(before), after: Value::Node(after) } => aspects(before, after),
        _ => Vec::new(),
    };
    ShownDifference {
        group: group(subject.group()),
        subject: word,
        name,
        index,
        change: match change {
            Change::Changed { .. } => "changed",
            Change::Added(_) => "added",
            Change::Removed(_) => "removed",
        },
        before: change.before().map(value),
        after: change.after().map(value),
        aspects: aspects.into_iter().map(aspect).collect(),
        lines_added: lines.map(|lines| lines.added),
        lines_removed: lines.map(|lines| lines.removed),
    }
}

fn group(group: Group) -> &'static str {
    match group {
        Group::Policy => "policy",
        Group::Rootfs => "rootfs",
        Group::Mounts => "mounts",
        Group::Environment => "environment",
        Group::Arguments => "arguments",
        Group::WorkingDirectory => "working-directory",
        Group::Outputs => "outputs",
        Group::TimeLimit => "time-limit",
        Group::Platform => "platform",
        Group::Inputs => "inputs",
    }
}

fn words(subject: &Subject) -> (&'static str, Option<&str>, Option<usize>) {
    match subject {
        Subject::Abi => ("abi", None, None),
        Subject::Isolation => ("isolation", None, None),
        Subject::SystemCall => ("system-call", None, None),
        Subject::Network => ("network", None, None),
        Subject::Allow => ("allow", None, None),
        Subject::Pin(name) => ("pin", Some(name), None),
        Subject::Publish => ("publish", None, None),
        Subject::Hostname => ("hostname", None, None),
        Subject::Uid => ("uid", None, None),
        Subject::Gid => ("gid", None, None),
        Subject::Limit(name) => ("limit", Some(name), None),
        Subject::Scratch(place) => ("scratch", Some(place), None),
        Subject::Memory => ("memory", None, None),
        Subject::OutputOrder => ("output-order", None, None),
        Subject::Rootfs => ("rootfs", None, None),
        Subject::Package(name) => ("package", Some(name), None),
        Subject::Host(path) => ("host", Some(path), None),
        Subject::Mount(place) => ("mount", Some(place), None),
        Subject::Variable(name) => ("variable", Some(name), None),
        Subject::Argument(index) => ("argument", None, Some(*index)),
        Subject::WorkingDirectory => ("working-directory", None, None),
        Subject::Output => ("output", None, None),
        Subject::TimeLimit => ("time-limit", None, None),
        Subject::Property(name) => ("property", Some(name), None),
        Subject::Workdir => ("workdir", None, None),
        Subject::Input(path) => ("input", Some(path), None),
        Subject::InputTree => ("input-tree", None, None),
    }
}

fn aspect(aspect: Aspect) -> &'static str {
    match aspect {
        Aspect::Kind => "kind",
        Aspect::Content => "content",
        Aspect::Mode => "mode",
        Aspect::Target => "target",
    }
}

/// Texts, numbers and times (as in `sandbox.toml`) as they are; an identity as in the policy; an input as in `sbx hash`.
fn value(value: &Value) -> Json {
    match value {
        Value::Text(text) => json!(text),
        Value::Number(number) => json!(number),
        Value::Time(time) => json!(humantime::format_duration(*time).to_string()),
        Value::Identity(identity) => json!(identity),
        Value::Installed(installed) => {
            installed.iter().map(|one| json!({ "version": one.version, "fingerprint": one.fingerprint })).collect()
        }
        Value::Node(Node::File { digest, executable }) => {
            json!({ "kind": "file", "digest": digest.to_string(), "executable": executable })
        }
        Value::Node(Node::Symlink { target }) => json!({ "kind": "symlink", "target": target }),
        Value::Node(Node::EmptyDirectory) => json!({ "kind": "directory" }),
    }
}

#[cfg(test)]
mod tests;
