//! The namespaces of running sandboxes, as lsns(8) shows them.

use std::collections::BTreeMap;

use super::Running;
use crate::sys::proc::{self, KINDS};

/// One namespace that a sandbox is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// The kernel's name of its kind.
    pub kind: &'static str,
    /// Its inode number, which identifies it.
    pub inode: u64,
    /// The user id that owns it, where the kernel tells.
    pub owner: Option<u32>,
    /// How many processes of the sandboxes are in it.
    pub processes: usize,
    /// The ids of the sandboxes that are in it.
    pub sandboxes: Vec<String>,
    /// Whether this process of sbx is in it too.
    pub host: bool,
}

/// What [`of`] found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// The namespaces, in the sandboxes' order, then in that of [`KINDS`].
    pub namespaces: Vec<Namespace>,
    /// The ids of sandboxes whose namespaces can't be seen, for they are starting, ending or out of reach.
    pub unseen: Vec<String>,
}

/// Inode numbers by kind.
type Kinds = BTreeMap<&'static str, u64>;

/// The namespaces of these sandboxes.
pub fn of(running: &[Running]) -> Found {
    let own = kinds(|kind| proc::own_namespace(kind).ok());
    let mut found = Found::default();
    for running in running {
        match members(running) {
            Some((command, members)) => add(&mut found.namespaces, running, command, &members, &own),
            None => found.unseen.push(running.entry.id.clone()),
        }
    }
    found
}

fn kinds(inode: impl Fn(&str) -> Option<u64>) -> Kinds {
    KINDS.into_iter().filter_map(|kind| Some((kind, inode(kind)?))).collect()
}

/// The command's process, and for each process of the sandbox its namespaces.
///
/// What can't be looked into (PID 1 and what `sbx enter` adds are closed to inspection) is where the command is. But PID 1
/// is not in the sandbox's time namespace: it made that for its children (time_namespaces(7)).
fn members(running: &Running) -> Option<(i32, Vec<Kinds>)> {
    let command = running.command()?.pid;
    let at_home = kinds(|kind| proc::namespace(command, kind).ok());
    if at_home.is_empty() {
        return None;
    }
    let init = running.entry.init.pid;
    let mut of_init = at_home.clone();
    of_init.remove("time");
    let mut members = vec![of_init];
    for process in running.processes.iter().flatten().filter(|process| process.pid != init) {
        let seen = kinds(|kind| proc::namespace(process.pid, kind).ok());
        members.push(if seen.is_empty() { at_home.clone() } else { seen });
    }
    Some((command, members))
}

fn add(all: &mut Vec<Namespace>, running: &Running, command: i32, members: &[Kinds], own: &Kinds) {
    for kind in KINDS {
        for inode in members.iter().filter_map(|member| member.get(kind)) {
            let place = all.iter().position(|namespace| (namespace.kind, namespace.inode) == (kind, *inode));
            let place = place.unwrap_or_else(|| {
                all.push(Namespace {
                    kind,
                    inode: *inode,
                    owner: proc::namespace_owner(command, kind),
                    processes: 0,
                    sandboxes: Vec::new(),
                    host: own.get(kind) == Some(inode),
                });
                all.len() - 1
            });
            all[place].processes += 1;
            if all[place].sandboxes.last() != Some(&running.entry.id) {
                all[place].sandboxes.push(running.entry.id.clone());
            }
        }
    }
}

/// Those that more than one sandbox is in.
pub fn shared(namespaces: &[Namespace]) -> impl Iterator<Item = &Namespace> {
    namespaces.iter().filter(|namespace| namespace.sandboxes.len() > 1)
}
