//! Finding the differences of two runs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Change, Difference, Listings, Side, Subject, Tree, Value};
use crate::action::messages::{self, Action, Command, Platform};
use crate::action::policy::{ContentIdentity, Network, Policy, Rootfs};
use crate::inputs::Entry;
use crate::path::GuestPath;

/// Every difference of two runs, the most telling first. A tree is only looked at when the trees differ; `None` says that
/// it can't be read any more.
pub fn differences(
    before: (&Side, Option<&Tree>),
    after: (&Side, Option<&Tree>),
    listings: &Listings,
) -> Vec<Difference> {
    let (before, before_tree) = before;
    let (after, after_tree) = after;
    let mut found = settings(before, after, listings);
    match (before_tree, after_tree) {
        _ if before.action.input_root_digest == after.action.input_root_digest => {}
        (Some(before), Some(after)) => found.extend(trees(before, after)),
        (None, _) | (_, None) => {
            let root = |side: &Side| side.action.input_root_digest.as_ref().map(shown);
            found.extend(optional(root(before), root(after), Subject::InputTree));
        }
    }
    found
}

/// Every difference but those of the input trees, the most telling first.
///
/// The messages are taken apart field by field: a new field can't be forgotten here.
pub fn settings(before: &Side, after: &Side, listings: &Listings) -> Vec<Difference> {
    let Action { command_digest: _, input_root_digest: _, timeout, salt: _, platform } = &before.action;
    let other = &after.action;
    let Command { arguments, environment_variables, platform: command_platform, working_directory, output_paths } =
        &before.command;
    let other_command = &after.command;

    let mut found = policies(&before.policy, &after.policy, listings);
    let variables = |side: &Side| -> BTreeMap<String, String> {
        let variables = side.command.environment_variables.iter();
        variables.map(|variable| (variable.name.clone(), variable.value.clone())).collect()
    };
    if *environment_variables != other_command.environment_variables {
        found.extend(keyed(&variables(before), &variables(after), Subject::Variable, text));
    }
    found.extend(argument_lists(arguments, &other_command.arguments));
    let place = |directory: &String| Value::Text(format!("/{directory}"));
    found.extend(single(working_directory, &other_command.working_directory, Subject::WorkingDirectory, place));
    let patterns = |paths: &[String]| paths.iter().cloned().collect();
    found.extend(members(&patterns(output_paths), &patterns(&other_command.output_paths), &Subject::Output));
    found.extend(optional(timeout.as_ref().map(time), other.timeout.as_ref().map(time), Subject::TimeLimit));
    // A server may look at either; sbx writes the same into both.
    let mut machine = properties(platform.as_ref(), other.platform.as_ref());
    for difference in properties(command_platform.as_ref(), other_command.platform.as_ref()) {
        if !machine.contains(&difference) {
            machine.push(difference);
        }
    }
    found.extend(machine);
    found
}

/// The policy's own differences, then those of the root file system, then those of the mounts.
fn policies(before: &Policy, after: &Policy, listings: &Listings) -> Vec<Difference> {
    let Policy { abi, gid, hostname, isolation, limits, memory, mounts, network, .. } = before;
    let Policy { output_rules, rootfs, scratch, syscalls, uid, .. } = before;
    let mut found = Vec::new();
    found.extend(single(abi, &after.abi, Subject::Abi, number));
    found.extend(members(isolation, &after.isolation, &Subject::Isolation));
    found.extend(members(syscalls, &after.syscalls, &Subject::SystemCall));
    found.extend(networks(network, &after.network));
    found.extend(single(hostname, &after.hostname, Subject::Hostname, text));
    found.extend(single(uid, &after.uid, Subject::Uid, number));
    found.extend(single(gid, &after.gid, Subject::Gid, number));
    found.extend(keyed(limits, &after.limits, Subject::Limit, |limit| Value::Number(*limit)));
    found.extend(keyed(scratch, &after.scratch, Subject::Scratch, text));
    let place = |memory: &bool| Value::Text(if *memory { "memory" } else { "disk" }.to_owned());
    found.extend(single(memory, &after.memory, Subject::Memory, place));
    let order = |rules: &Vec<String>| Value::Text(rules.join(" "));
    found.extend(single(output_rules, &after.output_rules, Subject::OutputOrder, order));
    found.extend(root_file_systems(rootfs, &after.rootfs, listings));
    found.extend(keyed(mounts, &after.mounts, Subject::Mount, identity));
    found
}

fn networks(before: &Network, after: &Network) -> Vec<Difference> {
    type Parts = (&'static str, BTreeSet<String>, BTreeMap<String, String>, BTreeSet<String>);
    let parts = |network: &Network| -> Parts {
        match network {
            Network::Host => ("host", BTreeSet::new(), BTreeMap::new(), BTreeSet::new()),
            Network::None => ("none", BTreeSet::new(), BTreeMap::new(), BTreeSet::new()),
            Network::Rules { allow, hosts, publish } => ("rules", allow.clone(), hosts.clone(), publish.clone()),
        }
    };
    let ((before_kind, before_allow, before_hosts, before_publish), (kind, allow, hosts, publish)) =
        (parts(before), parts(after));
    let word = |word: &&str| Value::Text((*word).to_owned());
    let mut found: Vec<_> = single(&before_kind, &kind, Subject::Network, word).into_iter().collect();
    found.extend(members(&before_allow, &allow, &Subject::Allow));
    found.extend(keyed(&before_hosts, &hosts, Subject::Pin, text));
    found.extend(members(&before_publish, &publish, &Subject::Publish));
    found
}

fn root_file_systems(before: &Rootfs, after: &Rootfs, listings: &Listings) -> Vec<Difference> {
    if let (Rootfs::Host(before), Rootfs::Host(after)) = (before, after) {
        return host_directories(before, after, listings);
    }
    let word = |rootfs: &Rootfs| {
        Value::Text(match rootfs {
            Rootfs::Host(_) => "host".to_owned(),
            Rootfs::Tree(root) => root.clone(),
        })
    };
    single(before, after, Subject::Rootfs, word).into_iter().collect()
}

type Directories = BTreeMap<String, ContentIdentity>;

/// Packages by name where both listings are known and differ, then the other directories.
fn host_directories(before: &Directories, after: &Directories, listings: &Listings) -> Vec<Difference> {
    let mut packages: Vec<Difference> = Vec::new();
    let mut explained = BTreeSet::new();
    for (path, before) in before {
        let (ContentIdentity::Packages(before), Some(ContentIdentity::Packages(after))) = (before, after.get(path))
        else {
            continue;
        };
        let (Some(old), Some(new)) = (listings.get(before), listings.get(after)) else { continue };
        let found = keyed(old, new, Subject::Package, |installed| Value::Installed(installed.clone()));
        if !found.is_empty() {
            explained.insert(path.as_str());
            packages.extend(found);
        }
    }
    packages.sort_by(|one, other| (rank(&one.change), &one.subject).cmp(&(rank(&other.change), &other.subject)));
    // Several directories may have the same packages.
    packages.dedup();
    let directories = keyed(before, after, Subject::Host, identity);
    let unexplained = |difference: &Difference| match &difference.subject {
        Subject::Host(path) => !explained.contains(path.as_str()),
        _ => true,
    };
    packages.into_iter().chain(directories.into_iter().filter(unexplained)).collect()
}

fn rank(change: &Change) -> u8 {
    match change {
        Change::Changed { .. } => 0,
        Change::Added(_) => 1,
        Change::Removed(_) => 2,
    }
}

/// Where the inputs stand, then the inputs: changed ones, added ones, removed ones.
fn trees(before: &Tree, after: &Tree) -> Vec<Difference> {
    let place = |at: &GuestPath| Value::Text(at.as_str().to_owned());
    let mut found: Vec<_> = single(&before.at, &after.at, Subject::Workdir, place).into_iter().collect();
    let inputs = before.manifest.unlike(&after.manifest).filter_map(|(before, after)| {
        let path = before.or(after)?.path.clone();
        let node = |entry: Option<&Entry>| entry.map(|entry| Value::Node(entry.node.clone()));
        Some(Difference { subject: Subject::Input(path), change: Change::between(node(before), node(after))? })
    });
    let mut inputs: Vec<_> = inputs.collect();
    inputs.sort_by_key(|difference| rank(&difference.change));
    found.extend(inputs);
    found
}

/// What is left of the lists without their common beginning and end, place by place.
fn argument_lists(before: &[String], after: &[String]) -> Vec<Difference> {
    let start = before.iter().zip(after).take_while(|(one, other)| one == other).count();
    let (before, after) = (&before[start..], &after[start..]);
    let end = before.iter().rev().zip(after.iter().rev()).take_while(|(one, other)| one == other).count();
    let (before, after) = (&before[..before.len() - end], &after[..after.len() - end]);
    let difference = |index: usize| {
        let change = Change::between(before.get(index).map(text), after.get(index).map(text))?;
        Some(Difference { subject: Subject::Argument(start + index), change })
    };
    (0..before.len().max(after.len())).filter_map(difference).collect()
}

fn properties(before: Option<&Platform>, after: Option<&Platform>) -> Vec<Difference> {
    let by_name = |platform: Option<&Platform>| {
        let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for property in platform.iter().flat_map(|platform| &platform.properties) {
            values.entry(property.name.clone()).or_default().push(property.value.clone());
        }
        values
    };
    keyed(&by_name(before), &by_name(after), Subject::Property, |values| Value::Text(values.join(", ")))
}

/// The differences of two maps: changed values, added keys, removed keys, each sorted.
fn keyed<V: PartialEq>(
    before: &BTreeMap<String, V>,
    after: &BTreeMap<String, V>,
    subject: impl Fn(String) -> Subject,
    value: impl Fn(&V) -> Value,
) -> Vec<Difference> {
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let difference = |key: &String| {
        let (before, after) = (before.get(key), after.get(key));
        if before == after {
            return None;
        }
        let change = Change::between(before.map(&value), after.map(&value))?;
        Some(Difference { subject: subject(key.clone()), change })
    };
    let mut found: Vec<_> = keys.into_iter().filter_map(difference).collect();
    found.sort_by_key(|difference| rank(&difference.change));
    found
}

/// The differences of two sets: what was added, then what was removed.
fn members(before: &BTreeSet<String>, after: &BTreeSet<String>, subject: &Subject) -> Vec<Difference> {
    let added = after.difference(before).map(|member| Change::Added(text(member)));
    let removed = before.difference(after).map(|member| Change::Removed(text(member)));
    added.chain(removed).map(|change| Difference { subject: subject.clone(), change }).collect()
}

fn single<V: PartialEq>(before: &V, after: &V, subject: Subject, value: impl Fn(&V) -> Value) -> Option<Difference> {
    let change = Change::Changed { before: value(before), after: value(after) };
    (before != after).then_some(Difference { subject, change })
}

fn optional(before: Option<Value>, after: Option<Value>, subject: Subject) -> Option<Difference> {
    if before == after {
        return None;
    }
    Some(Difference { subject, change: Change::between(before, after)? })
}

fn text(text: &impl AsRef<str>) -> Value {
    Value::Text(text.as_ref().to_owned())
}

fn number(number: &u32) -> Value {
    Value::Number((*number).into())
}

fn identity(identity: &ContentIdentity) -> Value {
    Value::Identity(identity.clone())
}

fn time(time: &messages::Duration) -> Value {
    // sbx writes neither negative seconds nor a billion of nanoseconds or more.
    let nanos = u32::try_from(time.nanos).unwrap_or(0);
    Value::Time(Duration::from_secs(time.seconds.max(0).unsigned_abs()) + Duration::from_nanos(nanos.into()))
}

fn shown(digest: &messages::Digest) -> Value {
    Value::Text(format!("{}/{}", digest.hash, digest.size_bytes))
}
