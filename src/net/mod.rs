//! The network of a sandbox with rules: who may be reached ([`policy`]), by which names, and the relay that carries the
//! connections.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use crate::config::rules::{Protocol, Publish};
use crate::record::{Blocked, Connection};
use crate::sys::inside::Refusals;

mod answers;
mod dns;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub mod inside;
mod ledger;
mod listen;
mod names;
mod pipes;
pub mod policy;
pub mod publish;
mod refusals;
pub mod relay;
mod resolve;
mod slab;
mod tcp;
mod tls;
mod udp;

/// Makes sockets in the sandbox's net namespace. Every one is close-on-exec and non-blocking.
pub trait Inside: Send {
    /// A TCP socket bound to `at` and listening. An IPv6 one takes IPv6 only.
    ///
    /// # Errors
    /// As bind(2), listen(2).
    fn listen_tcp(&mut self, at: SocketAddr) -> io::Result<OwnedFd>;

    /// A UDP socket bound to `at`. If that is an unspecified address, datagrams come with the address that they were sent
    /// to (`IP_PKTINFO`, `IPV6_RECVPKTINFO`).
    ///
    /// # Errors
    /// As bind(2).
    fn bind_udp(&mut self, at: SocketAddr) -> io::Result<OwnedFd>;

    /// A TCP socket that is neither bound nor connected.
    ///
    /// # Errors
    /// As socket(2).
    fn socket_tcp(&mut self, v6: bool) -> io::Result<OwnedFd>;

    /// A UDP socket that is neither bound nor connected.
    ///
    /// # Errors
    /// As socket(2).
    fn socket_udp(&mut self, v6: bool) -> io::Result<OwnedFd>;

    /// A raw socket that receives what tells a program of a refusal of this kind: TCP's RST+ACK with sequence number 0 or
    /// ICMP's "port unreachable", except from and about 127.0.0.0/8 and ::1.
    ///
    /// # Errors
    /// As raw(7).
    fn refusals(&mut self, kind: Refusals) -> io::Result<OwnedFd>;
}

/// Something to tell the user at once; each distinct thing comes once.
#[derive(Debug)]
pub enum Event {
    /// The command tried what the rules don't allow.
    Blocked(Blocked),
    /// The relay can't do something that the rules allow, or not now.
    Failed {
        /// What, and what follows, in words.
        what: String,
        /// Why.
        source: io::Error,
    },
}

/// What went through the relay, in the record's form.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Every connection, in order of their start.
    pub connections: Vec<Connection>,
    /// How many connections the list leaves out.
    pub connections_omitted: u64,
    /// Every attempt that was refused, in order of the first.
    pub blocked: Vec<Blocked>,
    /// How many refusals the list leaves out.
    pub blocked_omitted: u64,
}

/// Why the relay can't begin.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// A published port is taken.
    #[error("can't publish {publish}: {} is in use ({})", .publish.host, .publish.protocol)]
    InUse {
        /// The entry.
        publish: Publish,
    },
    /// A published port can't be had for another reason.
    #[error("can't publish {publish}")]
    Publish {
        /// The entry.
        publish: Publish,
        /// Why.
        source: io::Error,
    },
    /// An address that the rules allow can't be listened at inside.
    #[error("can't listen at {at} ({protocol}) in the sandbox")]
    Listen {
        /// Where.
        at: SocketAddr,
        /// How.
        protocol: Protocol,
        /// Why.
        source: io::Error,
    },
    /// The rules need more listening sockets than there are descriptors for.
    #[error("the rules need {needed} listening sockets, and {most} are possible")]
    TooMany {
        /// How many.
        needed: usize,
        /// How many there may be.
        most: usize,
    },
    /// The relay itself can't be set up.
    #[error("can't set up the network's relay: {doing}")]
    SetUp {
        /// What.
        doing: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl NetError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::InUse { publish } => Some(format!(
                "end the program that listens there (`ss -lnp` shows it), or write another port for {} in `publish`",
                publish.host
            )),
            Self::Publish { publish, source } => match source.kind() {
                io::ErrorKind::PermissionDenied => {
                    Some(format!("ports below 1024 are for root: write a higher one for {} in `publish`", publish.host))
                }
                io::ErrorKind::AddrNotAvailable => {
                    Some("the address is none of this machine's: `ip address` shows those".to_owned())
                }
                _ => None,
            },
            Self::TooMany { .. } => Some(
                "allow fewer ports, smaller ranges, or raise the hard limit of open files (`ulimit -Hn`)".to_owned(),
            ),
            Self::Listen { .. } | Self::SetUp { .. } => None,
        }
    }
}
