//! `sbx ns`: the namespaces of running sandboxes.

use std::fmt::Write as _;

use serde::Serialize;

use super::{Context, End, args, output, ps};
use crate::error::{Error, exit};
use crate::sandbox::live::namespaces::{self, Found, Namespace};
use crate::sandbox::live::{Running, pick};
use crate::sys::caller;
use crate::ui::escape;

/// The version of the JSON.
const VERSION: u32 = 1;

#[derive(Debug, Serialize)]
struct Shown<'a> {
    version: u32,
    namespaces: Vec<Row<'a>>,
    shared: Vec<Shared<'a>>,
    unseen: &'a [String],
}

#[derive(Debug, Serialize)]
struct Row<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    inode: u64,
    owner_uid: Option<u32>,
    processes: usize,
    host: bool,
    sandboxes: &'a [String],
}

#[derive(Debug, Serialize)]
struct Shared<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    inode: u64,
    host: bool,
    sandboxes: &'a [String],
}

pub(super) fn run(context: &Context, typed: &args::Ns) -> Result<End, Error> {
    let store = context.store()?;
    let mut running = ps::running(context)?;
    if let Some(id) = &typed.id {
        running = vec![pick(store.path(), &running, id)?.clone()];
    }
    let found = namespaces::of(&running);
    if typed.json {
        output::json(&shown(&found))?;
        return Ok(End::Code(exit::OK));
    }
    if running.is_empty() {
        context.ui.note("no sandbox is running");
    }
    for id in &found.unseen {
        context.ui.warn(&format!("the namespaces of {id} can't be seen: it is starting, ending, or not in reach"));
    }
    if !found.namespaces.is_empty() {
        output::text(&text(&found, &running))?;
    }
    Ok(End::Code(exit::OK))
}

fn shown(found: &Found) -> Shown<'_> {
    Shown {
        version: VERSION,
        namespaces: found.namespaces.iter().map(row).collect(),
        shared: namespaces::shared(&found.namespaces).map(shared).collect(),
        unseen: &found.unseen,
    }
}

fn row(namespace: &Namespace) -> Row<'_> {
    let Namespace { kind, inode, owner, processes, sandboxes, host } = namespace;
    Row { kind, inode: *inode, owner_uid: *owner, processes: *processes, host: *host, sandboxes }
}

fn shared(namespace: &Namespace) -> Shared<'_> {
    let Namespace { kind, inode, sandboxes, host, .. } = namespace;
    Shared { kind, inode: *inode, host: *host, sandboxes }
}

fn text(found: &Found, running: &[Running]) -> String {
    let rows = found.namespaces.iter().map(|namespace| {
        let owner = namespace.owner.map(|uid| caller::user_name(uid).unwrap_or_else(|| uid.to_string()));
        let host = namespace.host.then_some("host".to_owned());
        let places: Vec<_> = host.into_iter().chain(namespace.sandboxes.iter().cloned()).collect();
        [
            namespace.kind.to_owned(),
            namespace.inode.to_string(),
            owner.unwrap_or_else(|| "-".to_owned()),
            namespace.processes.to_string(),
            places.join(" "),
        ]
    });
    let mut text = output::table(["TYPE", "NS", "OWNER", "PROCESSES", "SANDBOXES"], rows);
    let mut shared = namespaces::shared(&found.namespaces).peekable();
    if shared.peek().is_none() && running.len() > 1 {
        text += "no two of these sandboxes share a namespace\n";
    }
    for Namespace { kind, inode, sandboxes, host, .. } in shared {
        let whose = if *host { " (the host's)" } else { "" };
        let _ = writeln!(text, "shared: {kind} {inode}{whose} by {}", escape(&sandboxes.join(", ")));
    }
    text
}
