//! Why there can be no plan, and what helps.

use super::group::Obstacle;
use crate::path::GuestPath;

/// Why there can be no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum PlanError {
    #[error("{target} can't be made: {above} is {kind} inside the sandbox")]
    Below { target: GuestPath, above: String, kind: &'static str },
    #[error("two things are to stand at {target} inside the sandbox")]
    Taken { target: GuestPath },
    #[error("`rootfs.host` names {path}, which does not exist on this machine")]
    HostMissing { path: GuestPath },
    #[error("`rootfs.host` can't show {path}: sbx makes that place itself")]
    HostReserved { path: GuestPath },
    #[error("{what}: {path} can't be read: {reason}")]
    Unreadable { what: &'static str, path: String, reason: String },
    #[error("the source of the mount at {target} does not exist: {path}")]
    MountMissing { target: GuestPath, path: String },
    #[error("{what}: {path} leads into {place}, which is the host kernel's and can't be shown inside")]
    KernelPlace { what: &'static str, path: String, place: String },
    #[error("the rootfs has /{name} as something else than a directory")]
    RootfsTop { name: String },
    #[error("the rootfs has files at {workdir}, where only the inputs may stand")]
    RootfsWorkdir { workdir: GuestPath },
    #[error("`limits.open_files` is {wanted}, but the caller's own hard limit is {hard}")]
    OpenFiles { wanted: u64, hard: u64 },
    #[error("`sandbox.nested` can't be granted to root: the command would be the system's root for /proc/sys")]
    NestedRoot,
    #[error("{} can't be enforced: {}", limits.join(" and "), obstacle.cause)]
    Unenforceable { limits: Vec<&'static str>, obstacle: Obstacle },
    #[error("an argument holds a NUL byte")]
    Nul,
}

impl PlanError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Below { .. } | Self::Taken { .. } => Some("choose another target".into()),
            Self::HostMissing { .. } => Some("take it out of the list, or install what provides it".into()),
            Self::HostReserved { .. } => Some("name what is needed below it, one path at a time".into()),
            Self::Unreadable { .. } => Some("make it readable for this user, or take it out".into()),
            Self::MountMissing { .. } => Some("relative sources begin at the directory of sandbox.toml".into()),
            Self::RootfsTop { name } => Some(format!("make /{name} a directory in the rootfs, or leave it out")),
            Self::RootfsWorkdir { .. } => Some("set `sandbox.workdir` to a place that the rootfs does not have".into()),
            Self::OpenFiles { hard, .. } => Some(format!("ask for at most {hard}, or raise it with `ulimit -Hn`")),
            Self::KernelPlace { .. } => {
                Some("the sandbox has a /proc and a /dev of its own; name something else".into())
            }
            Self::NestedRoot => Some("run sbx as an ordinary user".into()),
            Self::Unenforceable { obstacle, .. } => Some(obstacle.fix.clone()),
            Self::Nul => None,
        }
    }
}
