//! What values mean together: judged for the top level and for each task with the top level's settings below its own.

use std::collections::{BTreeMap, BTreeSet};

use super::check::Layer;
use super::fault::{Fault, Span};
use super::model::{Calls, Env, HostName, Limits, Network, Peer, Rootfs, Rules, Sandbox, ScratchKind, Settings};
use crate::path::GuestPath;

/// The settings that `layer` comes to, defaults filled in; faults where its values contradict each other.
pub(super) fn settle(layer: &Layer, faults: &mut Vec<Fault>) -> Settings {
    let default = Sandbox::default();
    let sandbox = Sandbox {
        workdir: layer.workdir.as_ref().map_or(default.workdir, |at| at.value.clone()),
        hostname: layer.hostname.clone().unwrap_or(default.hostname),
        uid: layer.uid.unwrap_or(default.uid),
        gid: layer.gid.unwrap_or(default.gid),
        scratch: layer.scratch.unwrap_or(default.scratch),
        calls: Calls { nested: layer.nested.unwrap_or_default(), allow: layer.syscalls.clone().unwrap_or_default() },
    };
    let rootfs = layer.rootfs.as_ref().map(|root| root.rootfs.clone()).unwrap_or_default();
    targets(layer, &rootfs, &sandbox.workdir, faults);
    network(layer, &sandbox.hostname, faults);
    environment(layer, faults);
    disk(layer, sandbox.scratch, faults);
    Settings {
        inputs: layer.inputs.clone().unwrap_or_default(),
        gitignore: layer.gitignore.unwrap_or_default(),
        outputs: layer.outputs.clone().unwrap_or_default(),
        sandbox,
        rootfs,
        mounts: layer.mounts.iter().flatten().map(|at| at.value.clone()).collect(),
        scratch: layer.kept.iter().flatten().map(|at| at.value.clone()).collect(),
        fetches: layer.fetches.clone().unwrap_or_default(),
        network: reach(layer),
        env: Env {
            set: layer.set.iter().flatten().map(|(name, at)| (name.clone(), at.value.clone())).collect(),
            pass: layer.pass.iter().flatten().map(|at| at.value.clone()).collect(),
        },
        limits: Limits {
            time: layer.time,
            open_files: layer.open_files,
            memory: layer.memory,
            pids: layer.pids,
            cpu_us: layer.cpu_us,
            disk: layer.disk.as_ref().map(|at| at.value),
        },
        outputs_sha256: layer.outputs_sha256.clone(),
        cache_failures: layer.cache_failures.unwrap_or_default(),
    }
}

/// A place inside that something takes; no span when a default takes it.
struct Taken<'l> {
    path: &'l GuestPath,
    span: Option<&'l Span>,
    by: &'static str,
}

/// No two things at one place, and the working directory in none of them.
fn targets(layer: &Layer, rootfs: &Rootfs, workdir: &GuestPath, faults: &mut Vec<Fault>) {
    let mut taken: Vec<Taken<'_>> = Vec::new();
    match (layer.rootfs.as_ref().and_then(|root| root.host.as_ref()), rootfs) {
        (Some(host), _) => taken.extend(host.iter().map(|at| Taken {
            path: &at.value,
            span: Some(&at.span),
            by: "a path of the rootfs",
        })),
        (None, Rootfs::Host { paths, .. }) => {
            taken.extend(paths.iter().map(|path| Taken { path, span: None, by: "a path of the rootfs" }));
        }
        (None, _) => {}
    }
    let mounts = layer.mounts.iter().flatten();
    taken.extend(mounts.map(|at| Taken { path: &at.value.target, span: Some(&at.span), by: "a mount" }));
    let kept = layer.kept.iter().flatten();
    taken.extend(kept.map(|at| Taken { path: &at.value.target, span: Some(&at.span), by: "a scratch directory" }));

    let mut first: BTreeMap<&GuestPath, &Taken<'_>> = BTreeMap::new();
    for place in &taken {
        if let Some(other) = first.get(place.path) {
            let message = if other.by == place.by {
                format!("`{}` is taken twice, both times by {}", place.path, place.by)
            } else {
                format!("`{}` is taken twice, by {} and by {}", place.path, other.by, place.by)
            };
            faults.extend(fault_at(
                [(other.span, other.by), (place.span, place.by)],
                message,
                "give each its own place",
            ));
        } else {
            first.insert(place.path, place);
        }
        if workdir.is_within(place.path) {
            let message = format!("the working directory `{workdir}` is inside of `{}`, {}", place.path, place.by);
            let span = layer.workdir.as_ref().map(|at| &at.span);
            let hint = "the inputs need a place of their own";
            faults.extend(fault_at([(place.span, place.by), (span, "the working directory")], message, hint));
        }
    }
}

/// A fault at the later of two places, the earlier one shown beside it. Nothing when neither is in the file.
fn fault_at(places: [(Option<&Span>, &str); 2], message: String, hint: &str) -> Option<Fault> {
    let mut written: Vec<(&Span, &str)> =
        places.into_iter().filter_map(|(span, label)| span.map(|span| (span, label))).collect();
    written.sort_by_key(|(span, _)| span.start);
    let (span, label) = written.pop()?;
    let fault = Fault::new(span, message).label(label).hint(hint);
    Some(match written.pop() {
        Some((other, label)) => fault.also(other, label),
        None => fault,
    })
}

fn network(layer: &Layer, hostname: &str, faults: &mut Vec<Fault>) {
    if let Some(host) = layer.host.as_ref().filter(|at| at.value) {
        let others = [
            ("allow", layer.allow.as_ref().map(|at| &at.span), "only this"),
            ("publish", layer.publish.as_ref().map(|at| &at.span), "ports of a network of its own"),
            ("hosts", layer.hosts.as_ref().map(|at| &at.span), "names of a network of its own"),
        ];
        for (key, span, label) in others.into_iter().filter(|(_, span, _)| span.is_some()) {
            let message = format!("`network.host` and `network.{key}` contradict each other");
            let hint = "`host = true` reaches everything the host can; a task undoes it with `host = false`";
            faults.extend(fault_at([(Some(&host.span), "everything"), (span, label)], message, hint));
        }
    }
    let own = hostname.to_ascii_lowercase();
    for at in layer.allow.iter().flat_map(|at| &at.value) {
        if matches!(&at.value.peer, Peer::Name(name) if name.as_str() == own) {
            let message = format!("the rule `{}` names the sandbox itself: its host name is `{hostname}`", at.value);
            faults.push(Fault::new(&at.span, message).hint("give the sandbox another `hostname`"));
        }
    }
}

/// What the command can reach. A pin counts where a rule reaches its name.
fn reach(layer: &Layer) -> Network {
    if layer.host.as_ref().is_some_and(|at| at.value) {
        return Network::Host;
    }
    let allow: Vec<_> = layer.allow.iter().flat_map(|at| &at.value).map(|at| at.value.clone()).collect();
    let publish: Vec<_> = layer.publish.iter().flat_map(|at| &at.value).copied().collect();
    if allow.is_empty() && publish.is_empty() {
        return Network::None;
    }
    let pins = layer.hosts.iter().flat_map(|at| &at.value);
    let hosts = pins.filter(|(name, _)| allow.iter().any(|rule| rule.peer.covers(name)));
    let hosts = hosts.map(|(name, at)| (name.clone(), at.value)).collect();
    Network::Rules(Rules { allow, publish, hosts })
}

/// The pins of a whole file. One that holds for the top level and for tasks has its use in any of them.
#[derive(Default)]
pub(super) struct Pins {
    /// Where each stands, and its name.
    seen: BTreeMap<(usize, usize), HostName>,
    reached: BTreeSet<(usize, usize)>,
}

impl Pins {
    pub(super) fn note(&mut self, layer: &Layer) {
        for (name, at) in layer.hosts.iter().flat_map(|at| &at.value) {
            let place = (at.span.start, at.span.end);
            if layer.allow.iter().flat_map(|at| &at.value).any(|rule| rule.value.peer.covers(name)) {
                self.reached.insert(place);
            }
            self.seen.entry(place).or_insert_with(|| name.clone());
        }
    }

    /// A fault for each pin that no rule reaches anywhere.
    pub(super) fn judge(self, faults: &mut Vec<Fault>) {
        for ((start, end), name) in self.seen.into_iter().filter(|(place, _)| !self.reached.contains(place)) {
            let fault =
                Fault::new(&(start..end), format!("no rule of `network.allow` reaches the pinned name `{name}`"));
            faults.push(fault.hint(format!("allow it, as in `allow = [\"{name}:443\"]`, or remove the pin")));
        }
    }
}

/// No facility of the kernel bounds a directory on a disk for an ordinary user; a tmpfs has a size.
fn disk(layer: &Layer, scratch: ScratchKind, faults: &mut Vec<Fault>) {
    if let Some(at) = layer.disk.as_ref().filter(|_| scratch == ScratchKind::Disk) {
        let message = "`limits.disk` can't be enforced while what the command writes lives on the disk";
        faults.push(Fault::new(&at.span, message).hint("set `sandbox.scratch = \"memory\"`, or remove the limit"));
    }
}

fn environment(layer: &Layer, faults: &mut Vec<Fault>) {
    for name in layer.pass.iter().flatten() {
        if let Some(set) = layer.set.as_ref().and_then(|set| set.get(&name.value)) {
            let message = format!("{:?} is in `env.set` and in `env.pass`", name.value);
            let places = [(Some(&set.span), "set here"), (Some(&name.span), "passed here")];
            faults.extend(fault_at(places, message, "a variable has one source"));
        }
    }
}
