//! The checked meaning of a `sandbox.toml`: plain data, every default filled in, every rule of the file held.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use super::rules::{HostName, Peer, Ports, Prefix, Protocol, Publish, Rule, Rules};
pub use super::url::{FetchUrl, Scheme};
use crate::path::{GuestPath, RelPath};

/// A whole `sandbox.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// What holds for a command that is not a task.
    pub settings: Settings,
    /// The tasks by name; each carries its own complete settings.
    pub tasks: BTreeMap<String, Task>,
}

impl Config {
    /// The tasks that run before `task`, in an order in which each comes after those that it needs itself.
    pub fn before<'a>(&'a self, task: &Task) -> Vec<(&'a str, &'a Task)> {
        let mut order: Vec<(&str, &Task)> = Vec::new();
        // What is open is on the way down; a name whose needs are all in `order` follows them.
        let mut open: Vec<&str> = task.needs.iter().rev().map(String::as_str).collect();
        while let Some(name) = open.last().copied() {
            let Some((name, needed)) = self.tasks.get_key_value(name) else {
                open.pop();
                continue;
            };
            let is_done = |name: &str| order.iter().any(|(done, _)| *done == name);
            let missing: Vec<&str> = needed.needs.iter().map(String::as_str).filter(|name| !is_done(name)).collect();
            if missing.is_empty() || is_done(name) {
                open.pop();
                if !is_done(name) {
                    order.push((name, needed));
                }
            } else {
                open.extend(missing.into_iter().rev());
            }
        }
        order
    }
}

/// A named command with the settings that hold for it: what the task sets, it sets instead of the top level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Program and arguments; never empty.
    pub command: Vec<String>,
    /// Tasks that run before and whose outputs are inputs; each exists, and none needs this one.
    pub needs: Vec<String>,
    /// The top level's settings with the task's own in their place.
    pub settings: Settings,
}

/// Everything that decides what one run sees and may do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// Which files of the project are inputs, in the order written (a later pattern overrides an earlier one).
    pub inputs: Vec<Pattern>,
    /// Leave out what the project's `.gitignore` files and `.git/info/exclude` ignore.
    pub gitignore: Gitignore,
    /// What is copied back after exit 0.
    pub outputs: Vec<Pattern>,
    /// Ids, names and places inside.
    pub sandbox: Sandbox,
    /// Where the file system outside of the project comes from.
    pub rootfs: Rootfs,
    /// Read-only bind mounts.
    pub mounts: Vec<Mount>,
    /// Writable directories kept between runs.
    pub scratch: Vec<KeptScratch>,
    /// What is fetched from elsewhere, to be inputs.
    pub fetches: Vec<Fetch>,
    /// What the command can reach.
    pub network: Network,
    /// The environment beyond the fixed variables.
    pub env: Env,
    /// Bounds on what the command may use.
    pub limits: Limits,
    /// The outputs' tree has this SHA-256 (64 hexadecimal digits), or nothing comes back.
    pub outputs_sha256: Option<String>,
    /// A failed command's result is kept too.
    pub cache_failures: bool,
}

/// A glob relative to the project root, `/` between components; `**` spans directories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// The glob without its leading `!`; checked, normalised.
    pub glob: RelPath,
    /// Written with a leading `!`: takes away what earlier patterns matched.
    pub negated: bool,
}

/// Whether git's ignore rules apply to the inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Gitignore {
    /// What git ignores is no input.
    #[default]
    Respect,
    /// Ignore files have no effect.
    Disregard,
}

/// `[sandbox]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// Where the inputs stand inside.
    pub workdir: GuestPath,
    /// The UTS host name.
    pub hostname: String,
    /// The user id inside.
    pub uid: u32,
    /// The group id inside.
    pub gid: u32,
    /// Where the overlay's upper layer lives.
    pub scratch: ScratchKind,
    /// What the command may call besides what every command may.
    pub calls: Calls,
}

/// What a sandbox lets its command call besides what every command may.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calls {
    /// Whether it may make user namespaces, and use them.
    pub nested: bool,
    /// Single calls by name, whatever their arguments.
    pub allow: BTreeSet<String>,
}

impl Default for Sandbox {
    fn default() -> Self {
        Self {
            workdir: GuestPath::new("/src").expect("a constant path"),
            hostname: "sbx".to_owned(),
            uid: 1000,
            gid: 1000,
            scratch: ScratchKind::Disk,
            calls: Calls::default(),
        }
    }
}

/// Where the overlay's upper layer lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScratchKind {
    /// In the cache directory.
    Disk,
    /// In a tmpfs of the sandbox's own.
    Memory,
}

/// `[rootfs]`: exactly one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rootfs {
    /// Paths of the host, read-only.
    Host {
        /// Where they stand, on the host and inside.
        paths: Vec<GuestPath>,
        /// What of them enters the run's identity.
        identity: HostIdentity,
    },
    /// An OCI image layout (`oci:PATH@sha256:HEX`).
    Image {
        /// The layout directory as written, relative to the file's directory.
        layout: PathBuf,
        /// The manifest's SHA-256, 64 hexadecimal digits.
        sha256: String,
    },
    /// A tar archive (plain, gzip or zstd) as written, relative to the file's directory.
    Tar(PathBuf),
    /// A directory as written, relative to the file's directory.
    Dir(PathBuf),
}

/// What stands for the host's paths in the run's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HostIdentity {
    /// The installed packages, and what lies where packages put nothing.
    #[default]
    Packages,
    /// The hashed content.
    Content,
}

/// The host paths that a sandbox shows when `[rootfs]` says nothing.
pub const DEFAULT_HOST_PATHS: [&str; 7] = ["/usr", "/bin", "/lib", "/lib64", "/sbin", "/etc/alternatives", "/etc/ssl"];

impl Default for Rootfs {
    fn default() -> Self {
        Self::Host { paths: default_host_paths(), identity: HostIdentity::default() }
    }
}

pub(super) fn default_host_paths() -> Vec<GuestPath> {
    DEFAULT_HOST_PATHS.iter().map(|path| GuestPath::new(path).expect("a constant path")).collect()
}

/// `[[mount]]`: a read-only bind mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The host path as written, relative to the file's directory.
    pub source: PathBuf,
    /// Where it stands inside.
    pub target: GuestPath,
    /// What of it enters the run's identity.
    pub identity: MountIdentity,
}

/// What stands for a mount's content in the run's identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountIdentity {
    /// The hashed content.
    Content,
    /// Path, size and mtime of every file.
    Metadata,
    /// A string that the user vouches for.
    Declared(String),
}

/// `[[scratch]]`: a writable directory kept between runs of this project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptScratch {
    /// Its name, unique in the file: letters, digits, `-`, `_`, `.`.
    pub name: String,
    /// Where it stands inside.
    pub target: GuestPath,
}

/// `[[fetch]]`: a file from elsewhere, an input like any other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    /// Where it is fetched from, which is no part of the run's identity.
    pub url: FetchUrl,
    /// Its SHA-256, 64 hexadecimal digits.
    pub sha256: String,
    /// Where it stands in the project's tree; no two are at one place or within each other.
    pub target: RelPath,
    /// It is an archive, and `target` the directory of what it holds.
    pub unpack: bool,
}

/// `[network]`
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Network {
    /// Loopback only.
    #[default]
    None,
    /// Loopback, and what the rules name.
    Rules(Rules),
    /// The host's network.
    Host,
}

/// `[env]`
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Env {
    /// Variables with fixed values.
    pub set: BTreeMap<String, String>,
    /// Variables taken from the caller when it has them.
    pub pass: Vec<String>,
}

/// `[limits]`; `None` is no limit of sbx's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Wall-clock time for the command.
    pub time: Option<Duration>,
    /// `RLIMIT_NOFILE`, soft and hard.
    pub open_files: Option<u64>,
    /// Memory of all processes together, in bytes.
    pub memory: Option<u64>,
    /// Processes and threads at once.
    pub pids: Option<u64>,
    /// CPU time in microseconds for each [`CPU_PERIOD_US`].
    pub cpu_us: Option<u64>,
    /// What may be written to the scratch directory in memory, and to `/dev/shm`, in bytes.
    pub disk: Option<u64>,
}

/// The period of the CPU limit in microseconds, the kernel's own default.
pub const CPU_PERIOD_US: u64 = 100_000;
