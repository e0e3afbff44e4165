//! What a sandbox will do, as plain data, decided without side effects from the settings, the inputs and the facts.
//!
//! `sbx plan` prints the plan, tests read it, the action's digest is made from it, and the child executes it.

pub mod calls;
pub mod enter;
pub mod env;
mod error;
pub mod explain;
pub mod filter;
pub mod group;
pub mod network;
pub mod process;
pub mod skeleton;
pub mod step;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::config::model::{DEFAULT_HOST_PATHS, Network, Rootfs, ScratchKind, Settings};
use crate::path::{GuestPath, RelPath};
use calls::Calls;
pub use error::PlanError;
use group::{Group, Obstacle, Way};
use skeleton::{Place, Skeleton};
use step::{Bind, Expect, Ids, Landlock, Limit, Step};

/// What the plan has to know of this machine and this caller.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// The caller's effective user id.
    pub uid: u32,
    /// The caller's effective group id.
    pub gid: u32,
    /// The caller's soft and hard limit of open files.
    pub open_files: (u64, u64),
    /// The caller's hard limit of the stack size.
    pub stack: u64,
    /// The caller's limits that the command keeps (file size, CPU time, address space, data), by name, where there are any.
    pub inherited: BTreeMap<String, u64>,
    /// How this machine can hold a sandbox to limits of memory, processes and CPU, where such a limit is asked for.
    pub group: Option<Result<Way, Obstacle>>,
    /// What stands at each of the `rootfs.host` paths, in the settings' order.
    pub host: Vec<HostPlace>,
    /// What stands at each mount's source, in the settings' order.
    pub mounts: Vec<HostPlace>,
    /// The kept scratch directories, in the settings' order.
    pub scratch: Vec<HostPlace>,
    /// For the host's network: its `/etc/resolv.conf` and `/etc/hosts`, where they exist.
    pub resolver: Vec<(GuestPath, HostPlace)>,
    /// The names at the top of a rootfs that is not the host's, and whether each is a directory.
    pub rootfs_top: BTreeMap<String, bool>,
    /// Whether that rootfs has something at the working directory, where only the inputs may stand.
    pub rootfs_in_workdir: bool,
    /// The version of the kernel's Landlock; 0 without.
    pub landlock: u32,
}

/// What stands at a path of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPlace {
    /// Nothing.
    Missing,
    /// A symbolic link (only asked for `rootfs.host`; elsewhere links are resolved).
    Link(String),
    /// A file or directory.
    Found {
        /// Its canonical path.
        path: PathBuf,
        /// Whether it is a directory.
        directory: bool,
        /// `st_dev`
        device: u64,
        /// `st_ino`
        inode: u64,
    },
    /// It can't be looked at; why.
    Unreadable(String),
}

/// What is to be run and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// Program and arguments; not empty.
    pub argv: Vec<String>,
    /// The caller's place below the project's root, if it is below.
    pub below: Option<RelPath>,
    /// The caller's values of the variables that `env.pass` names.
    pub environment: BTreeMap<String, String>,
    /// Whether the command gets a terminal of the sandbox's own (`sbx shell`).
    pub terminal: bool,
}

/// Everything that a run will do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// The paths under which the program is tried, in order.
    pub candidates: Vec<String>,
    /// The whole environment.
    pub environment: BTreeMap<String, String>,
    /// Where the command starts.
    pub directory: GuestPath,
    /// The new namespaces.
    pub namespaces: Vec<Namespace>,
    /// The layers of the root, topmost first.
    pub layers: Vec<Layer>,
    /// What PID 1 does, in order.
    pub setup: Vec<Step>,
    /// What the command's process does, in order; the last step is [`Step::Execute`].
    pub start: Vec<Step>,
    /// After how much time the command is ended.
    pub time_limit: Option<Duration>,
    /// The cgroup that holds it, if one is needed.
    pub group: Option<Group>,
    /// The size of what may be written, in bytes, where that is limited.
    pub disk: Option<u64>,
    /// The caller's limits that the command keeps, by name, soft and hard, where there are any.
    pub inherited_limits: BTreeMap<String, u64>,
    /// What comes back after exit 0, as written.
    pub outputs: Vec<String>,
    /// What stands in the lowest layer (or over an image's).
    #[serde(skip)]
    pub skeleton: Skeleton,
}

impl Plan {
    /// The limits that the command begins with.
    pub fn limits(&self) -> Vec<Limit> {
        self.start.iter().filter_map(|step| if let Step::Limit(limit) = step { Some(*limit) } else { None }).collect()
    }

    /// What the command may call besides the usual.
    pub fn calls(&self) -> Calls {
        let calls =
            self.setup.iter().find_map(|step| if let Step::FilterCalls(calls) = step { Some(calls) } else { None });
        calls.cloned().unwrap_or_default()
    }

    /// What the command gives up by Landlock.
    pub fn landlock(&self) -> Option<Landlock> {
        self.start.iter().find_map(|step| if let Step::Landlock(landlock) = step { Some(*landlock) } else { None })
    }

    /// What holds inside when every step has succeeded, one word each: the new namespaces, then the other walls.
    pub fn isolation(&self) -> Vec<String> {
        self.isolation_after(self.setup.len() + self.start.len())
    }

    /// The same when the namespaces are made and only the first `done` steps, counted through both lists, have succeeded.
    pub fn isolation_after(&self, done: usize) -> Vec<String> {
        let steps = || self.setup.iter().chain(&self.start).take(done);
        // These are made by steps, the others with PID 1.
        let no_time = !steps().any(|step| matches!(step, Step::StartClocksAtZero));
        let no_group = self.group.is_some() && !steps().any(|step| matches!(step, Step::EnterGroup(_)));
        let missing = |namespace: &Namespace| match namespace {
            Namespace::Time => no_time,
            Namespace::Cgroup => no_group,
            _ => false,
        };
        let made = self.namespaces.iter().filter(|namespace| !missing(namespace));
        let namespaces = made.map(|namespace| format!("{}-namespace", namespace.name()));
        let walls = steps().filter_map(|step| match step {
            Step::EnterGroup(_) => Some("own-cgroup"),
            Step::ForbidUserNamespaces => Some("no-user-namespaces"),
            Step::EnterRoot => Some("own-root"),
            Step::JoinOwnKeyring => Some("own-keyring"),
            Step::ForbidNewPrivileges => Some("no-new-privileges"),
            Step::DropCapabilities => Some("no-capabilities"),
            Step::HideInit => Some("hidden-init"),
            Step::FilterCalls(_) => Some("filtered-calls"),
            Step::Landlock(Landlock { own_sockets: false }) => Some("landlock"),
            Step::Landlock(Landlock { own_sockets: true }) => Some("landlock-sockets"),
            Step::BeginSession => Some("own-session"),
            Step::FixAddresses => Some("fixed-addresses"),
            _ => None,
        });
        // PID 1 and the command each begin a session; that is one wall.
        let mut all: Vec<String> = Vec::new();
        for wall in namespaces.chain(walls.map(str::to_owned)) {
            if !all.contains(&wall) {
                all.push(wall);
            }
        }
        all
    }
}

/// A namespace that a run makes for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are namespaces(7)'s")]
pub enum Namespace {
    User,
    Mount,
    Pid,
    Net,
    Ipc,
    Uts,
    Cgroup,
    Time,
}

impl Namespace {
    /// The kernel's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Mount => "mount",
            Self::Pid => "pid",
            Self::Net => "net",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::Cgroup => "cgroup",
            Self::Time => "time",
        }
    }
}

/// One layer of the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// The inputs, below the working directory.
    Inputs {
        /// Where they stand.
        at: GuestPath,
    },
    /// The synthesised files and the mount points.
    Skeleton,
    /// An image, archive or directory.
    Rootfs,
}

/// The size of `/dev/shm` in bytes: the same on every machine.
const SHARED_MEMORY: u64 = 1 << 30;
/// The first port that needs no capability, unless the namespace is told otherwise.
const UNPRIVILEGED_PORT: u16 = 1024;
/// Where the host's kernel speaks; a link in a mount's source must not lead there.
const KERNEL_PLACES: [&str; 3] = ["/proc", "/sys", "/dev"];
/// Places that sbx makes itself.
const OWN_PLACES: [&str; 6] = ["/", "/proc", "/dev", "/sys", "/tmp", "/etc"];

/// Decides everything.
///
/// # Errors
/// When the settings ask for what the facts do not allow.
pub fn build(settings: &Settings, facts: &Facts, invocation: &Invocation) -> Result<Plan, PlanError> {
    if invocation.argv.iter().any(|argument| argument.contains('\0')) {
        return Err(PlanError::Nul);
    }
    let sandbox = &settings.sandbox;
    // /proc must be writable for it (see `setup`), and root may write what it guards there without any capability.
    if sandbox.calls.nested && facts.uid == 0 {
        return Err(PlanError::NestedRoot);
    }
    let directory =
        invocation.below.as_ref().map_or_else(|| sandbox.workdir.clone(), |below| sandbox.workdir.join(below));
    let mut skeleton = skeleton::standard(sandbox.uid, sandbox.gid, &sandbox.hostname, &settings.network)?;
    skeleton.put(&directory, Place::Directory)?;
    let binds = binds(settings, facts, &mut skeleton)?;

    let mut layers = vec![Layer::Inputs { at: sandbox.workdir.clone() }, Layer::Skeleton];
    if !matches!(settings.rootfs, Rootfs::Host { .. }) {
        check_rootfs(facts, &skeleton)?;
        if facts.rootfs_in_workdir {
            return Err(PlanError::RootfsWorkdir { workdir: sandbox.workdir.clone() });
        }
        layers.push(Layer::Rootfs);
    }
    let mut namespaces = vec![Namespace::User, Namespace::Mount, Namespace::Pid];
    if settings.network != Network::Host {
        namespaces.push(Namespace::Net);
    }
    namespaces.extend([Namespace::Ipc, Namespace::Uts, Namespace::Cgroup, Namespace::Time]);

    let environment = env::build(&settings.env, &invocation.environment, sandbox.uid);
    let path = environment.get("PATH").map_or("", String::as_str);
    let group = group::decide(&settings.limits, facts.group.as_ref())?;
    Ok(Plan {
        candidates: env::candidates(&invocation.argv[0], path),
        argv: invocation.argv.clone(),
        environment,
        setup: setup(settings, facts, group.as_ref(), binds),
        start: process::start(
            &directory,
            &process::limits(settings, facts)?,
            landlock(settings, facts),
            invocation.terminal,
        ),
        directory,
        namespaces,
        layers,
        time_limit: settings.limits.time,
        group,
        disk: settings.limits.disk,
        inherited_limits: facts.inherited.clone(),
        outputs: settings
            .outputs
            .iter()
            .map(|pattern| format!("{}{}", if pattern.negated { "!" } else { "" }, pattern.glob))
            .collect(),
        skeleton,
    })
}

/// The steps of PID 1. Its cgroup comes first, for everything after counts there; then the user namespace's ids, for
/// everything after needs them; what needs the host's
/// `/proc` comes before the root changes; privilege goes last.
fn setup(settings: &Settings, facts: &Facts, group: Option<&Group>, binds: Vec<Bind>) -> Vec<Step> {
    let sandbox = &settings.sandbox;
    let mut steps: Vec<Step> = group.map(|group| Step::EnterGroup(group.bounds)).into_iter().collect();
    steps.extend([
        Step::MapIds(Ids { uid: sandbox.uid, gid: sandbox.gid, host_uid: facts.uid, host_gid: facts.gid }),
        Step::SetNames { host: sandbox.hostname.clone(), domain: "localdomain".into() },
    ]);
    if settings.network != Network::Host {
        steps.push(Step::BringLoopbackUp);
    }
    if let Network::Rules(rules) = &settings.network {
        steps.push(Step::JoinRelay {
            allow: rules.allow.iter().map(ToString::to_string).collect(),
            publish: rules.publish.iter().map(ToString::to_string).collect(),
        });
        if rules.publish.iter().any(|publish| publish.inside < UNPRIVILEGED_PORT) {
            steps.push(Step::OpenLowPorts);
        }
    }
    let nested = sandbox.calls.nested;
    steps.push(Step::StartClocksAtZero);
    if !nested {
        steps.push(Step::ForbidUserNamespaces);
    }
    steps.extend([
        Step::MakeMountsPrivate,
        Step::MountRoot { memory: sandbox.scratch == ScratchKind::Memory, size: settings.limits.disk },
    ]);
    steps.extend(binds.into_iter().map(Step::Bind));
    steps.extend([
        // Whoever makes a user namespace writes its id maps there, and may mount a fresh one only where none is read-only
        // (mount_too_revealing() of fs/namespace.c).
        Step::MountProc { writable: nested },
        Step::MountTerminals,
        Step::MountSharedMemory { bytes: settings.limits.disk.map_or(SHARED_MEMORY, |disk| disk.min(SHARED_MEMORY)) },
        Step::EnterRoot,
    ]);
    steps.extend(process::confine(sandbox.calls.clone()));
    steps
}

/// Where the kernel has it. Version 1 would refuse to rename across directories; who may mount in user namespaces of its own
/// can't give mounts up.
fn landlock(settings: &Settings, facts: &Facts) -> Option<Landlock> {
    let own_sockets = settings.network == Network::Host && facts.landlock >= 6;
    (facts.landlock >= 2 && !settings.sandbox.calls.nested).then_some(Landlock { own_sockets })
}

/// Every bind mount, parents before children, with its mount point in the skeleton.
fn binds(settings: &Settings, facts: &Facts, skeleton: &mut Skeleton) -> Result<Vec<Bind>, PlanError> {
    let mut binds: Vec<Bind> = Vec::new();
    if let Rootfs::Host { paths, .. } = &settings.rootfs {
        for (path, place) in paths.iter().zip(&facts.host) {
            if OWN_PLACES.contains(&path.as_str()) || settings.sandbox.workdir.is_within(path) {
                return Err(PlanError::HostReserved { path: path.clone() });
            }
            match place {
                HostPlace::Missing if DEFAULT_HOST_PATHS.contains(&path.as_str()) => {}
                HostPlace::Missing => return Err(PlanError::HostMissing { path: path.clone() }),
                HostPlace::Link(target) => skeleton.put(path, Place::Link(target.clone()))?,
                found => binds.push(bind("rootfs.host", path, path.as_str(), found, false)?),
            }
        }
    }
    for (mount, place) in settings.mounts.iter().zip(&facts.mounts) {
        let source = mount.source.display().to_string();
        if *place == HostPlace::Missing {
            return Err(PlanError::MountMissing { target: mount.target.clone(), path: source });
        }
        binds.push(bind("mount", &mount.target, &source, place, false)?);
    }
    for (scratch, place) in settings.scratch.iter().zip(&facts.scratch) {
        binds.push(bind("scratch", &scratch.target, &scratch.name, place, true)?);
    }
    binds.sort_by(|a, b| a.target.cmp(&b.target));
    for index in 0..binds.len() {
        let target = &binds[index].target;
        if binds[..index].iter().any(|above| target.is_within(&above.target)) {
            // The mount point must be there already in what is mounted above.
            continue;
        }
        let directory = matches!(binds[index].expect, Expect::Same { directory: true, .. });
        skeleton.put(target, if directory { Place::Directory } else { Place::File(Vec::new()) })?;
    }
    for (path, place) in &facts.resolver {
        if *place != HostPlace::Missing {
            binds.push(bind("network.host", path, path.as_str(), place, false)?);
        }
    }
    for (name, major, minor) in skeleton::DEVICES {
        let target = GuestPath::new(&format!("/dev/{name}")).expect("a constant path");
        binds.push(Bind {
            source: PathBuf::from(target.as_str()),
            target,
            expect: Expect::CharacterDevice { major, minor },
            writable: false,
        });
    }
    Ok(binds)
}

fn bind(
    what: &'static str,
    target: &GuestPath,
    named: &str,
    place: &HostPlace,
    writable: bool,
) -> Result<Bind, PlanError> {
    match place {
        HostPlace::Found { path, .. } if KERNEL_PLACES.iter().any(|kernel| path.starts_with(kernel)) => {
            Err(PlanError::KernelPlace { what, path: named.to_owned(), place: path.display().to_string() })
        }
        HostPlace::Found { path, directory, device, inode } => Ok(Bind {
            source: path.clone(),
            target: target.clone(),
            expect: Expect::Same { device: *device, inode: *inode, directory: *directory },
            writable,
        }),
        HostPlace::Unreadable(reason) => {
            Err(PlanError::Unreadable { what, path: named.to_owned(), reason: reason.clone() })
        }
        HostPlace::Missing | HostPlace::Link(_) => {
            Err(PlanError::Unreadable { what, path: named.to_owned(), reason: "it does not exist".into() })
        }
    }
}

/// Where the skeleton has a directory at the top, the image may have a directory or nothing: a link or a file there
/// would be hidden without a word.
fn check_rootfs(facts: &Facts, skeleton: &Skeleton) -> Result<(), PlanError> {
    for (path, _) in skeleton.places() {
        let top = path.split('/').next().unwrap_or(path);
        if facts.rootfs_top.get(top) == Some(&false) {
            return Err(PlanError::RootfsTop { name: top.to_owned() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
