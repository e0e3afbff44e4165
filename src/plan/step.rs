//! All that a child may do between clone and exec.
//!
//! PID 1 of the sandbox runs [`Plan::setup`](super::Plan::setup), the command's own process then runs
//! [`Plan::start`](super::Plan::start). A later feature of the isolation (a filter, a limit, a handed-over namespace)
//! is one more variant here and one more arm in the interpreter.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::calls::Calls;
use super::group::{BinarySize, Bounds};
use crate::path::GuestPath;

/// One step; the order in the plan is the order of execution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Be held by the run's own cgroup, and take it for the root of all cgroups.
    EnterGroup(Bounds),
    /// Map one user and one group id into the new user namespace; `setgroups` is denied for good.
    MapIds(Ids),
    /// Set the host and domain name.
    SetNames {
        /// The host name.
        host: String,
        /// The NIS domain name.
        domain: String,
    },
    /// Bring the loopback interface up.
    BringLoopbackUp,
    /// Hand the net namespace to the relay outside, and wait until it answers names and listens.
    JoinRelay {
        /// What it lets through, each rule in its canonical text.
        allow: Vec<String>,
        /// The host's ports that lead inside, each in its canonical text.
        publish: Vec<String>,
    },
    /// Let the command listen at ports below 1024, for one of them is published.
    OpenLowPorts,
    /// Let CLOCK_MONOTONIC and CLOCK_BOOTTIME of the command begin at zero, in a time namespace of its own.
    StartClocksAtZero,
    /// Refuse further user namespaces inside.
    ForbidUserNamespaces,
    /// Cut mount events off from the host's.
    MakeMountsPrivate,
    /// Mount the root: the plan's layers below, the scratch directory above.
    MountRoot {
        /// Whether the upper layer lies in a tmpfs.
        memory: bool,
        /// The tmpfs's size in bytes, where it has a limit.
        size: Option<u64>,
    },
    /// Bind one place of the host.
    Bind(Bind),
    /// Mount a fresh procfs at `/proc`.
    MountProc {
        /// Whether it can be written to, as far as the command may: only who makes user namespaces has to.
        writable: bool,
    },
    /// Mount an own devpts at `/dev/pts`.
    MountTerminals,
    /// Mount a tmpfs at `/dev/shm`.
    MountSharedMemory {
        /// Its size.
        bytes: u64,
    },
    /// Make the new root the root; the old one is gone.
    EnterRoot,
    /// Set the file mode creation mask to 022.
    SetUmask,
    /// Set a resource limit.
    Limit(Limit),
    /// Join a new session keyring.
    JoinOwnKeyring,
    /// exec never gives privilege.
    ForbidNewPrivileges,
    /// Empty all five capability sets.
    DropCapabilities,
    /// Close PID 1 to inspection from inside.
    HideInit,
    /// Refuse the system calls that a build has no use for.
    FilterCalls(Calls),
    /// Give up by Landlock what the mounts and the filter refuse too.
    Landlock(Landlock),
    /// Begin a session without a terminal: PID 1 one of its own, the command another.
    BeginSession,
    /// Make the sandbox's own terminal the controlling one and the standard streams.
    TakeTerminal,
    /// Make the prepared streams the standard ones.
    PlaceStreams,
    /// Lay programs out at fixed addresses.
    FixAddresses,
    /// Enter the working directory.
    EnterDirectory(GuestPath),
    /// Give every signal its default action and unblock it.
    ResetSignals,
    /// Close every descriptor from 3 on.
    CloseDescriptors,
    /// Execute the command.
    Execute,
}

/// What a command gives up by Landlock: making device nodes, changing mounts, tracing who is outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Landlock {
    /// And connecting to abstract Unix sockets of others, where the host's network would show them.
    pub own_sockets: bool,
}

/// The one user and group that exist inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Ids {
    /// The user id inside.
    pub uid: u32,
    /// The group id inside.
    pub gid: u32,
    /// The caller's effective user id.
    pub host_uid: u32,
    /// The caller's effective group id.
    pub host_gid: u32,
}

/// A limit of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// Which.
    pub resource: Resource,
    /// The soft limit.
    pub soft: u64,
    /// The hard limit.
    pub hard: u64,
}

/// A resource with a limit (getrlimit(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resource {
    /// Open descriptors.
    OpenFiles,
    /// The size of a core dump, in bytes.
    CoreSize,
    /// The main thread's stack, in bytes.
    Stack,
}

impl Resource {
    /// Its name in a policy.
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenFiles => "open_files",
            Self::CoreSize => "core_size",
            Self::Stack => "stack",
        }
    }
}

/// A bind mount, recursive, always nosuid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bind {
    /// The canonical path on the host.
    pub source: PathBuf,
    /// Where it stands inside.
    pub target: GuestPath,
    /// What must be found at the source when it is opened, else the run stops.
    pub expect: Expect,
    /// Whether the command may write there.
    pub writable: bool,
}

/// What stood at a source when the plan was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expect {
    /// The file or directory with this identity.
    Same {
        /// `st_dev`
        device: u64,
        /// `st_ino`
        inode: u64,
        /// Whether it is a directory.
        directory: bool,
    },
    /// The character device with these numbers, whatever node stands for it.
    CharacterDevice {
        /// The major number.
        major: u32,
        /// The minor number.
        minor: u32,
    },
}

impl Step {
    /// What the step does, as the object of "sbx can't …".
    pub fn purpose(&self) -> String {
        match self {
            Self::MapIds(ids) => format!(
                "map user {} and group {} of the sandbox to {} and {}",
                ids.uid, ids.gid, ids.host_uid, ids.host_gid
            ),
            Self::SetNames { host, .. } => format!("set the host name `{host}`"),
            Self::BringLoopbackUp => "bring the loopback interface up".into(),
            Self::JoinRelay { allow, publish } => {
                let mut text = format!("reach {}", if allow.is_empty() { "nothing".into() } else { allow.join(", ") });
                if !publish.is_empty() {
                    text += &format!(", publish {}", publish.join(", "));
                }
                text
            }
            Self::OpenLowPorts => "open the ports below 1024 to the command".into(),
            Self::StartClocksAtZero => "start the clocks at zero".into(),
            Self::ForbidUserNamespaces => "forbid user namespaces inside".into(),
            Self::MakeMountsPrivate => "make the mounts private".into(),
            Self::EnterGroup(bounds) => format!("hold the sandbox to {bounds}"),
            Self::MountRoot { memory: false, .. } => "mount the overlay root".into(),
            Self::MountRoot { size: None, .. } => "mount the overlay root over a tmpfs".into(),
            Self::MountRoot { size: Some(size), .. } => {
                format!("mount the overlay root over a tmpfs of {}", BinarySize(*size))
            }
            Self::Bind(bind) if matches!(bind.expect, Expect::CharacterDevice { .. }) => {
                format!("show the device {}", bind.target)
            }
            Self::Bind(bind) => format!(
                "show {} at {}{}",
                bind.source.display(),
                bind.target,
                if bind.writable { "" } else { " (read-only)" }
            ),
            Self::MountProc { writable: false } => "mount a fresh /proc".into(),
            Self::MountProc { writable: true } => "mount a fresh, writable /proc".into(),
            Self::MountTerminals => "mount /dev/pts".into(),
            Self::MountSharedMemory { bytes } => format!("mount /dev/shm ({})", BinarySize(*bytes)),
            Self::EnterRoot => "enter the new root and drop the old one".into(),
            Self::SetUmask => "set umask 022".into(),
            Self::Limit(Limit { resource, soft, hard }) => {
                let name = match resource {
                    Resource::OpenFiles => "open files",
                    Resource::CoreSize => "core size",
                    Resource::Stack => "stack size",
                };
                format!("limit the {name} to {soft} (hard {hard})")
            }
            Self::JoinOwnKeyring => "join a session keyring of its own".into(),
            Self::ForbidNewPrivileges => "forbid new privileges".into(),
            Self::DropCapabilities => "empty the capability sets".into(),
            Self::HideInit => "close PID 1 to inspection".into(),
            Self::FilterCalls(calls) => {
                let mut text = "filter the system calls".to_owned();
                if calls.nested {
                    text += ", those for user namespaces allowed";
                }
                if !calls.allow.is_empty() {
                    text += &format!(", {} allowed", calls.allow.iter().cloned().collect::<Vec<_>>().join(", "));
                }
                text
            }
            Self::Landlock(Landlock { own_sockets: false }) => "restrict the command by Landlock".into(),
            Self::Landlock(Landlock { own_sockets: true }) => {
                "restrict the command by Landlock, abstract sockets too".into()
            }
            Self::BeginSession => "begin a session".into(),
            Self::TakeTerminal => "take the sandbox's terminal".into(),
            Self::PlaceStreams => "place the standard streams".into(),
            Self::FixAddresses => "fix the address layout".into(),
            Self::EnterDirectory(path) => format!("enter the working directory {path}"),
            Self::ResetSignals => "reset the signals".into(),
            Self::CloseDescriptors => "close the other descriptors".into(),
            Self::Execute => "execute the command".into(),
        }
    }
}
