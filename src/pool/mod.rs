//! Ready pairs of a user and a net namespace, kept by a process of the user's own.
//!
//! The kernel takes some tenths of a millisecond for a net namespace, and now and then some milliseconds. The pool pays
//! that beforehand: [`server`] is the process that keeps the pairs, [`maker`] the one that it makes them with, [`client`]
//! asks for one. Nothing depends on it: whoever gets no pair makes one on the spot.

pub mod client;
pub mod maker;
pub mod place;
pub mod protocol;
pub mod server;

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crate::sys::errno::{CallError, Errno};

/// A pair of namespaces that nobody has used: `lo` is up, no id is mapped.
#[derive(Debug)]
pub struct Item {
    /// The user namespace; its parent is the caller's.
    pub user: OwnedFd,
    /// The net namespace that it owns.
    pub net: OwnedFd,
}

/// Why there is no pool, or it can't be asked.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// The socket's directory can't be used.
    #[error("can't {doing} {}", path.display())]
    Place {
        /// What was being done, as a verb phrase.
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The socket's directory is open to others, or theirs.
    #[error("{} must belong to user {user} and be closed to all others (mode 0700), it has owner {owner} and mode {mode:04o}", path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// The caller.
        user: u32,
        /// Its owner.
        owner: u32,
        /// Its permission bits.
        mode: u32,
    },
    /// Another one has the lock and does not answer.
    #[error("another pool of this user does not answer")]
    Wedged,
    /// What listens at the socket is no pool of this version.
    #[error("what listens at the pool's socket speaks another language")]
    Foreign,
    /// There is none.
    #[error("no pool is running")]
    None,
    /// This machine makes no such namespaces.
    #[error("can't make a net namespace for the pool")]
    Refused {
        /// Why.
        source: CallError,
    },
    /// A limit leaves room for none.
    #[error("there is no room for a pool: {limit}")]
    NoRoom {
        /// Which.
        limit: protocol::Limit,
    },
    /// What the service manager handed over is no socket to listen at.
    #[error("LISTEN_FDS does not name one listening SOCK_SEQPACKET socket")]
    Activation,
    /// A call of the daemon's own failed.
    #[error("the pool can't go on")]
    Kernel(#[from] CallError),
}

impl PoolError {
    /// What helps.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Open { path, .. } => {
                Some(format!("`chmod 700 {0}`, or remove it if it is not yours", path.display()))
            }
            Self::Wedged => {
                Some("find it with `pgrep -u $USER -f 'sbx pool'` and kill it; a new one takes its place".into())
            }
            Self::Foreign => Some("stop it with the sbx that started it, then `sbx pool start`".into()),
            Self::None => Some("`sbx pool start` starts one".into()),
            Self::NoRoom { limit } => Some(limit.remedy()),
            Self::Refused { source } if source.errno == Errno::ENOSPC => Some(
                "a limit of /proc/sys/user is reached: end other namespaces, or raise user.max_net_namespaces".into(),
            ),
            Self::Refused { .. } => Some("`sbx doctor` says what this machine allows".into()),
            Self::Activation => Some("contrib/systemd/sbx-pool.socket shows what is expected".into()),
            Self::Place { .. } | Self::Kernel(_) => None,
        }
    }
}
