//! From the keys as written to checked values: every value is judged where it stands, once, and a fault does not keep
//! the others from being found. What values mean together is judged in `relate`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use super::fault::{Fault, Span};
use super::file;
use super::model::{
    Config, Fetch, FetchUrl, Gitignore, HostIdentity, HostName, KeptScratch, Mount, MountIdentity, Pattern, Publish,
    Rootfs, Rule, ScratchKind, Task, default_host_paths,
};
use super::needs;
use super::patterns;
use super::read::{At, Must, Named};
use super::relate;
use super::rules;
use super::values::{self, Bad};
use crate::path::GuestPath;

/// What the top level or a task sets, checked; `None` where it sets nothing.
#[derive(Debug, Default)]
pub(super) struct Layer {
    pub(super) inputs: Option<Vec<Pattern>>,
    pub(super) gitignore: Option<Gitignore>,
    pub(super) outputs: Option<Vec<Pattern>>,
    pub(super) workdir: Option<At<GuestPath>>,
    pub(super) hostname: Option<String>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) scratch: Option<ScratchKind>,
    pub(super) nested: Option<bool>,
    pub(super) syscalls: Option<BTreeSet<String>>,
    pub(super) rootfs: Option<Root>,
    pub(super) mounts: Option<Vec<At<Mount>>>,
    pub(super) kept: Option<Vec<At<KeptScratch>>>,
    pub(super) fetches: Option<Vec<Fetch>>,
    pub(super) host: Option<At<bool>>,
    pub(super) allow: Option<At<Vec<At<Rule>>>>,
    pub(super) publish: Option<At<Vec<Publish>>>,
    pub(super) hosts: Option<At<BTreeMap<HostName, At<IpAddr>>>>,
    pub(super) set: Option<BTreeMap<String, At<String>>>,
    pub(super) pass: Option<Vec<At<String>>>,
    pub(super) time: Option<Duration>,
    pub(super) open_files: Option<u64>,
    pub(super) memory: Option<u64>,
    pub(super) pids: Option<u64>,
    pub(super) cpu_us: Option<u64>,
    pub(super) disk: Option<At<u64>>,
    pub(super) outputs_sha256: Option<String>,
    pub(super) cache_failures: Option<bool>,
}

/// A checked `[rootfs]`, with the places of its host paths.
#[derive(Debug, Clone)]
pub(super) struct Root {
    pub(super) rootfs: Rootfs,
    /// `None` when the file does not name them.
    pub(super) host: Option<Vec<At<GuestPath>>>,
}

impl Layer {
    /// What holds for a task: what it sets, and the rest from `top`.
    fn over(self, top: &Self) -> Self {
        Self {
            inputs: self.inputs.or_else(|| top.inputs.clone()),
            gitignore: self.gitignore.or(top.gitignore),
            outputs: self.outputs.or_else(|| top.outputs.clone()),
            workdir: self.workdir.or_else(|| top.workdir.clone()),
            hostname: self.hostname.or_else(|| top.hostname.clone()),
            uid: self.uid.or(top.uid),
            gid: self.gid.or(top.gid),
            scratch: self.scratch.or(top.scratch),
            nested: self.nested.or(top.nested),
            syscalls: self.syscalls.or_else(|| top.syscalls.clone()),
            rootfs: self.rootfs.or_else(|| top.rootfs.clone()),
            mounts: self.mounts.or_else(|| top.mounts.clone()),
            kept: self.kept.or_else(|| top.kept.clone()),
            fetches: self.fetches.or_else(|| top.fetches.clone()),
            host: self.host.or_else(|| top.host.clone()),
            allow: self.allow.or_else(|| top.allow.clone()),
            publish: self.publish.or_else(|| top.publish.clone()),
            hosts: self.hosts.or_else(|| top.hosts.clone()),
            set: self.set.or_else(|| top.set.clone()),
            pass: self.pass.or_else(|| top.pass.clone()),
            time: self.time.or(top.time),
            open_files: self.open_files.or(top.open_files),
            memory: self.memory.or(top.memory),
            pids: self.pids.or(top.pids),
            cpu_us: self.cpu_us.or(top.cpu_us),
            disk: self.disk.or_else(|| top.disk.clone()),
            outputs_sha256: self.outputs_sha256.or_else(|| top.outputs_sha256.clone()),
            cache_failures: self.cache_failures.or(top.cache_failures),
        }
    }
}

/// The most that a file may come to, in bytes: each task carries the whole file's settings with it.
const EXPANSION_MAX: usize = 32 << 20;

/// Checks a whole file, read from a text of `length` bytes. The result means something only when no fault was added.
pub(super) fn check(file: &file::File, length: usize, faults: &mut Vec<Fault>) -> Config {
    let mut checker = Checker { faults };
    let mut pins = relate::Pins::default();
    let top = checker.layer(&file.settings.0);
    pins.note(&top);
    let settings = relate::settle(&top, checker.faults);
    let mut tasks = BTreeMap::new();
    if let Some(named) = file.task.as_ref().filter(|named| named.value.0.len().saturating_mul(length) > EXPANSION_MAX) {
        let message = format!("{} tasks are too many for a file of {length} bytes", named.value.0.len());
        checker.faults.push(Fault::new(&named.span, message).hint("split the project, or say less at the top level"));
        return Config { settings, tasks };
    }
    for (name, task) in file.task.iter().flat_map(|tasks| &tasks.value.0) {
        checker.value("the task's name", name, values::name);
        let command = checker.command(&task.value.command);
        let needs = task.value.needs.iter().flat_map(|at| &at.value).map(|at| at.value.clone()).collect();
        let layer = checker.layer(&task.value.settings.0).over(&top);
        pins.note(&layer);
        let settings = relate::settle(&layer, checker.faults);
        tasks.insert(name.value.clone(), Task { command, needs, settings });
    }
    pins.judge(checker.faults);
    needs::judge(file, checker.faults);
    Config { settings, tasks }
}

struct Checker<'f> {
    faults: &'f mut Vec<Fault>,
}

impl Checker<'_> {
    /// What `check` makes of the text, or a fault that begins with `what`.
    fn value<'t, T>(&mut self, what: &str, at: &'t At<String>, check: fn(&'t str) -> Result<T, Bad>) -> Option<T> {
        self.judge(&at.span, what, check(&at.value))
    }

    fn judge<T>(&mut self, span: &Span, what: &str, result: Result<T, Bad>) -> Option<T> {
        result
            .map_err(|Bad { why, hint }| {
                let mut fault = Fault::new(span, format!("{what} {why}"));
                fault.hint = hint;
                self.faults.push(fault);
            })
            .ok()
    }

    fn layer(&mut self, settings: &file::Settings) -> Layer {
        let mut layer = Layer {
            inputs: settings.inputs.as_ref().map(|inputs| self.patterns("inputs", &inputs.value)),
            gitignore: settings.gitignore.as_ref().map(|at| match at.value {
                true => Gitignore::Respect,
                false => Gitignore::Disregard,
            }),
            outputs: settings.outputs.as_ref().map(|outputs| self.patterns("outputs", &outputs.value)),
            rootfs: settings.rootfs.as_ref().and_then(|rootfs| self.rootfs(rootfs)),
            mounts: settings.mount.as_ref().map(|at| at.value.iter().filter_map(|mount| self.mount(mount)).collect()),
            kept: settings.scratch.as_ref().map(|at| self.kept(&at.value)),
            fetches: settings.fetch.as_ref().map(|at| self.fetches(&at.value)),
            ..Layer::default()
        };
        if let Some(sandbox) = &settings.sandbox {
            self.sandbox(&sandbox.value, &mut layer);
        }
        if let Some(network) = &settings.network {
            self.network(&network.value, &mut layer);
        }
        if let Some(env) = &settings.env {
            layer.set = env.value.set.as_ref().map(|set| self.env_set(&set.value));
            layer.pass = env.value.pass.as_ref().map(|pass| self.env_pass(&pass.value));
        }
        if let Some(limits) = &settings.limits {
            self.limits(&limits.value, &mut layer);
        }
        let pin = settings.outputs_sha256.as_ref();
        layer.outputs_sha256 = pin.and_then(|at| self.value("`outputs_sha256`", at, values::sha256)).map(str::to_owned);
        layer.cache_failures = settings.cache_failures.as_ref().map(|at| at.value);
        layer
    }

    fn patterns(&mut self, key: &str, list: &[At<String>]) -> Vec<Pattern> {
        let mut taken = Vec::new();
        for (index, at) in list.iter().enumerate() {
            let what = format!("the pattern {:?} of `{key}`", at.value);
            let Some(pattern) = self.judge(&at.span, &what, patterns::pattern(&at.value)) else { continue };
            if pattern.negated && index == 0 {
                let bad = Bad::new("comes first and has nothing to take away from");
                self.judge::<()>(&at.span, &what, Err(bad.hint("put it behind what it takes away from")));
            }
            if key == "outputs" {
                self.judge(&at.span, &what, patterns::output(&pattern));
            }
            taken.push(pattern);
        }
        taken
    }

    fn sandbox(&mut self, sandbox: &file::Sandbox, layer: &mut Layer) {
        layer.workdir = sandbox.workdir.as_ref().and_then(|at| {
            let path = self.value("`sandbox.workdir`", at, values::guest_path)?;
            Some(At { span: at.span.clone(), value: path })
        });
        layer.hostname = sandbox
            .hostname
            .as_ref()
            .and_then(|at| self.value("`sandbox.hostname`", at, values::hostname))
            .map(str::to_owned);
        layer.uid = sandbox.uid.as_ref().and_then(|at| self.judge(&at.span, "`sandbox.uid`", values::id(at.value)));
        layer.gid = sandbox.gid.as_ref().and_then(|at| self.judge(&at.span, "`sandbox.gid`", values::id(at.value)));
        layer.scratch = sandbox.scratch.as_ref().map(|at| match at.value {
            file::ScratchKind::Disk => ScratchKind::Disk,
            file::ScratchKind::Memory => ScratchKind::Memory,
        });
        layer.nested = sandbox.nested.as_ref().map(|at| at.value);
        layer.syscalls = sandbox.syscalls.as_ref().and_then(|at| at.value.allow.as_ref()).map(|at| {
            let name = |at| self.value("a system call of `sandbox.syscalls`", at, values::system_call);
            at.value.iter().filter_map(name).map(str::to_owned).collect()
        });
    }

    fn rootfs(&mut self, rootfs: &At<file::Rootfs>) -> Option<Root> {
        let file::Rootfs { host, identity, image, tar, dir } = &rootfs.value;
        let mut sources = [
            host.as_ref().map(|at| ("host", &at.span)),
            image.as_ref().map(|at| ("image", &at.span)),
            tar.as_ref().map(|at| ("tar", &at.span)),
            dir.as_ref().map(|at| ("dir", &at.span)),
        ]
        .into_iter()
        .flatten();
        if let Some((first, first_span)) = sources.next() {
            for (key, span) in sources {
                let fault = Fault::new(span, format!("`rootfs.{first}` and `rootfs.{key}` are both set"));
                self.faults.push(fault.also(first_span, "one source").label("another").hint("a rootfs has one source"));
            }
            if let Some(at) = identity.as_ref().filter(|_| first != "host") {
                let fault = Fault::new(&at.span, "`rootfs.identity` means something only for the host's paths");
                let hint = format!("remove it: of `rootfs.{first}` the content is the identity");
                self.faults.push(fault.also(first_span, "not the host's").hint(hint));
            }
        } else if identity.is_none() {
            return None;
        }
        let host: Option<Vec<_>> =
            host.as_ref().map(|list| list.value.iter().filter_map(|at| self.host_directory(at)).collect());
        let image = image.as_ref().and_then(|at| self.value("`rootfs.image`", at, values::image));
        let tar = tar.as_ref().and_then(|at| self.value("`rootfs.tar`", at, values::host_path)).map(Rootfs::Tar);
        let dir = dir.as_ref().and_then(|at| self.value("`rootfs.dir`", at, values::host_path)).map(Rootfs::Dir);
        let shown = || Rootfs::Host {
            paths: match &host {
                Some(host) => host.iter().map(|at| at.value.clone()).collect(),
                None => default_host_paths(),
            },
            identity: match identity.as_ref().map(|at| at.value) {
                None | Some(file::HostIdentity::Packages) => HostIdentity::Packages,
                Some(file::HostIdentity::Content) => HostIdentity::Content,
            },
        };
        Some(Root { rootfs: image.or(tar).or(dir).unwrap_or_else(shown), host })
    }

    fn host_directory(&mut self, at: &At<String>) -> Option<At<GuestPath>> {
        let path = self.value("a path of `rootfs.host`", at, values::guest_path)?;
        Some(At { span: at.span.clone(), value: path })
    }

    fn mount(&mut self, mount: &At<file::Mount>) -> Option<At<Mount>> {
        let file::Mount { source: Must(source), target: Must(target), identity, version } = &mount.value;
        let source = source.as_ref().and_then(|at| self.value("`mount.source`", at, values::host_path));
        let place = target.as_ref().and_then(|at| self.value("`mount.target`", at, values::guest_path));
        let identity = match (identity.as_ref().map(|at| (at.value, &at.span)), version) {
            (Some((file::Identity::Declared, _)), Some(at)) => MountIdentity::Declared(self.version(at)),
            (Some((file::Identity::Declared, span)), None) => {
                let fault = Fault::new(span, "`identity = \"declared\"` needs a `version`");
                self.faults.push(fault.hint("add the string you vouch for, such as `version = \"gcc 14.2\"`"));
                MountIdentity::Content
            }
            (other, version) => {
                if let Some(at) = version {
                    let fault =
                        Fault::new(&at.span, "`mount.version` means something only with `identity = \"declared\"`");
                    self.faults.push(fault.hint("remove it, or set the identity"));
                }
                match other {
                    Some((file::Identity::Metadata, _)) => MountIdentity::Metadata,
                    _ => MountIdentity::Content,
                }
            }
        };
        let span = target.as_ref()?.span.clone();
        Some(At { span, value: Mount { source: source?, target: place?, identity } })
    }

    fn version(&mut self, at: &At<String>) -> String {
        let fault = match at.value.as_str() {
            "" => Some("is empty"),
            text if text.chars().any(char::is_control) => Some("has a control character"),
            _ => None,
        };
        if let Some(why) = fault {
            self.faults.push(Fault::new(&at.span, format!("`mount.version` {why}")));
        }
        at.value.clone()
    }

    fn kept(&mut self, list: &[At<file::Scratch>]) -> Vec<At<KeptScratch>> {
        let mut names: BTreeMap<&str, &Span> = BTreeMap::new();
        let mut kept = Vec::new();
        for scratch in list {
            let file::Scratch { name: Must(name), target: Must(target) } = &scratch.value;
            let label = name.as_ref().and_then(|at| self.value("`scratch.name`", at, values::name));
            let place = target.as_ref().and_then(|at| self.value("`scratch.target`", at, values::guest_path));
            if let (Some(at), Some(label)) = (name, label)
                && let Some(first) = names.insert(label, &at.span)
            {
                let fault = Fault::new(&at.span, format!("two scratch directories are named {label:?}"));
                self.faults.push(fault.also(first, "the other").hint("give each its own name"));
            }
            if let (Some(label), Some(place), Some(target)) = (label, place, target) {
                let value = KeptScratch { name: label.to_owned(), target: place };
                kept.push(At { span: target.span.clone(), value });
            }
        }
        kept
    }

    fn network(&mut self, network: &file::Network, layer: &mut Layer) {
        layer.host.clone_from(&network.host);
        layer.allow = network.allow.as_ref().map(|at| At { span: at.span.clone(), value: self.allow(&at.value) });
        layer.publish = network.publish.as_ref().map(|at| At { span: at.span.clone(), value: self.publish(&at.value) });
        layer.hosts = network.hosts.as_ref().map(|at| At { span: at.span.clone(), value: self.hosts(&at.value) });
    }

    fn allow(&mut self, list: &[At<String>]) -> Vec<At<Rule>> {
        let mut seen: BTreeMap<String, &Span> = BTreeMap::new();
        let mut rules = Vec::new();
        for at in list {
            let what = format!("the rule {:?} of `network.allow`", at.value);
            let Some(rule) = self.judge(&at.span, &what, Rule::parse(&at.value)) else { continue };
            if let Some(first) = seen.insert(rule.to_string(), &at.span) {
                let fault = Fault::new(&at.span, format!("the rule `{rule}` is twice in `network.allow`"));
                self.faults.push(fault.also(first, "the other"));
            }
            rules.push(At { span: at.span.clone(), value: rule });
        }
        rules
    }

    fn publish(&mut self, list: &[At<String>]) -> Vec<Publish> {
        let mut taken: Vec<(&Span, Publish)> = Vec::new();
        for at in list {
            let what = format!("the entry {:?} of `network.publish`", at.value);
            let Some(publish) = self.judge(&at.span, &what, Publish::parse(&at.value)) else { continue };
            if let Some((first, other)) = taken.iter().find(|(_, other)| other.collides(publish)) {
                let message = if other.host == publish.host {
                    format!("the host's {} port {} is published twice", publish.protocol, publish.host)
                } else {
                    format!("the host's {} ports {} and {} overlap", publish.protocol, other.host, publish.host)
                };
                self.faults.push(Fault::new(&at.span, message).also(first, "the other").hint("give each its own port"));
                continue;
            }
            taken.push((&at.span, publish));
        }
        taken.into_iter().map(|(_, publish)| publish).collect()
    }

    fn hosts(&mut self, pins: &Named<String>) -> BTreeMap<HostName, At<IpAddr>> {
        let mut names: BTreeMap<HostName, At<IpAddr>> = BTreeMap::new();
        for (name, address) in &pins.0 {
            let what = format!("the name {:?} in `network.hosts`", name.value);
            let host = self.judge(&name.span, &what, HostName::parse(&name.value));
            let what = format!("the address {:?} in `network.hosts`", address.value);
            let (Some(host), Some(address)) = (host, self.judge(&address.span, &what, rules::pinned(&address.value)))
            else {
                continue;
            };
            if let Some(first) = names.get(&host) {
                let fault = Fault::new(&name.span, format!("the name `{host}` is twice in `network.hosts`"));
                self.faults.push(fault.also(&first.span, "the other").hint("upper and lower case are one name"));
                continue;
            }
            names.insert(host, At { span: name.span.clone(), value: address });
        }
        names
    }

    fn env_set(&mut self, set: &Named<String>) -> BTreeMap<String, At<String>> {
        let mut variables = BTreeMap::new();
        for (name, value) in &set.0 {
            let what = format!("{:?} in `env.set`", name.value);
            let variable = self.judge(&name.span, &what, values::variable(&name.value));
            self.value(&format!("the value of {:?}", name.value), value, values::no_nul);
            if let Some(variable) = variable {
                variables.insert(variable.to_owned(), At { span: name.span.clone(), value: value.value.clone() });
            }
        }
        variables
    }

    fn env_pass(&mut self, pass: &[At<String>]) -> Vec<At<String>> {
        let mut seen: BTreeMap<&str, &Span> = BTreeMap::new();
        let mut variables = Vec::new();
        for name in pass {
            let what = format!("{:?} in `env.pass`", name.value);
            let Some(variable) = self.judge(&name.span, &what, values::variable(&name.value)) else { continue };
            if let Some(first) = seen.insert(variable, &name.span) {
                let fault = Fault::new(&name.span, format!("{variable:?} is twice in `env.pass`"));
                self.faults.push(fault.also(first, "the other"));
            }
            variables.push(name.clone());
        }
        variables
    }

    fn limits(&mut self, limits: &file::Limits, layer: &mut Layer) {
        let file::Limits { time, memory, pids, cpus, open_files, disk } = limits;
        layer.time = time.as_ref().and_then(|at| self.value("`limits.time`", at, values::duration));
        layer.open_files = open_files
            .as_ref()
            .and_then(|at| self.judge(&at.span, "`limits.open_files`", values::open_files(at.value)));
        layer.memory = memory.as_ref().and_then(|at| self.value("`limits.memory`", at, values::size));
        layer.pids = pids.as_ref().and_then(|at| self.judge(&at.span, "`limits.pids`", values::pids(at.value)));
        layer.cpu_us = cpus.as_ref().and_then(|at| self.judge(&at.span, "`limits.cpus`", values::cpus(at.value)));
        layer.disk = disk.as_ref().and_then(|at| {
            let value = self.value("`limits.disk`", at, values::size)?;
            Some(At { span: at.span.clone(), value })
        });
    }

    fn fetches(&mut self, list: &[At<file::Fetch>]) -> Vec<Fetch> {
        let mut places: BTreeMap<String, &Span> = BTreeMap::new();
        let mut fetches = Vec::new();
        for fetch in list {
            let file::Fetch { url: Must(url), sha256: Must(sha256), target: Must(target), unpack } = &fetch.value;
            let url = url.as_ref().and_then(|at| self.value("`fetch.url`", at, FetchUrl::parse));
            let sha256 = sha256.as_ref().and_then(|at| self.value("`fetch.sha256`", at, values::sha256));
            let Some(at) = target else { continue };
            let Some(target) = self.value("`fetch.target`", at, values::fetch_target) else { continue };
            if let Some(first) = places.insert(target.to_string(), &at.span) {
                let fault = Fault::new(&at.span, format!("two fetches have the target `{target}`"));
                self.faults.push(fault.also(first, "the other").hint("give each its own place"));
            }
            if let (Some(url), Some(sha256)) = (url, sha256) {
                let unpack = unpack.as_ref().is_some_and(|at| at.value);
                fetches.push(Fetch { url, sha256: sha256.to_owned(), target, unpack });
            }
        }
        for (place, span) in &places {
            let above = place.match_indices('/').find_map(|(end, _)| places.get_key_value(&place[..end]));
            if let Some((above, other)) = above {
                let fault =
                    Fault::new(span, format!("the target `{place}` is in `{above}`, the target of another fetch"));
                self.faults.push(fault.also(other, "the other").hint("give each its own place"));
            }
        }
        fetches
    }

    fn command(&mut self, Must(command): &Must<Vec<At<String>>>) -> Vec<String> {
        let Some(command) = command else { return Vec::new() };
        match command.value.first() {
            None => self.faults.push(Fault::new(&command.span, "the command is empty").hint("name a program")),
            Some(program) if program.value.is_empty() => {
                self.faults.push(Fault::new(&program.span, "the program's name is empty"));
            }
            Some(_) => {}
        }
        for argument in &command.value {
            self.value("an argument of the command", argument, values::no_nul);
        }
        command.value.iter().map(|argument| argument.value.clone()).collect()
    }
}
