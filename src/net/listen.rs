//! Where TCP connections come in: inside at the addresses of the rules, on the host at published ports.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Instant;

use crate::config::rules::Protocol;
use crate::plan::network::RESOLVER;
use crate::sys::epoll::Watch;
use crate::sys::socket;

use super::answers::{self, Asker};
use super::relay::{Engine, PAUSE, token};
use super::slab::Key;
use super::tcp::Start;

/// Connections that are taken before others have their turn.
const AT_ONCE: usize = 64;

/// What a listener (or a port for datagrams) is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It is inside, at this address, and leads out by the rules.
    Rules(SocketAddr),
    /// It is the host's, and leads to this port inside.
    Published(u16),
}

/// Takes connections.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) fd: OwnedFd,
    pub(super) role: Role,
}

impl Listener {
    pub(super) fn ready(&self, engine: &mut Engine, key: Key) -> bool {
        for _ in 0..AT_ONCE {
            if !engine.has_room() {
                self.pause(engine, key, ErrorKind::QuotaExceeded.into());
                break;
            }
            match socket::accept(&self.fd) {
                Ok((fd, peer)) => self.take(engine, fd, peer),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
                Err(error) => {
                    self.pause(engine, key, error);
                    break;
                }
            }
        }
        true
    }

    /// Takes nothing for a moment: connections wait with the kernel.
    fn pause(&self, engine: &mut Engine, key: Key, error: io::Error) {
        engine.ledger.fail("too many connections at once: new ones wait until others end", error);
        let _ = engine.epoll.change(&self.fd, token(key, 0), Watch::Nothing);
        engine.wake_at(Instant::now() + PAUSE, key);
    }

    /// The moment is over.
    pub(super) fn resume(&self, engine: &mut Engine, key: Key) -> bool {
        let _ = engine.epoll.change(&self.fd, token(key, 0), Watch::Readable);
        true
    }

    fn take(&self, engine: &mut Engine, fd: OwnedFd, peer: SocketAddr) {
        let at = match self.role {
            Role::Published(port) => {
                let inside: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
                let targets = inside.map(|address| SocketAddr::new(address, port));
                let start = Start { client: fd, inward: true, name: None, shown: peer.ip(), port };
                return start.go(engine, &targets);
            }
            // Who is asked for is the connection's own address.
            Role::Rules(at) if at.ip().is_unspecified() => match socket::local_address(&fd) {
                Ok(local) => SocketAddr::new(local.ip().to_canonical(), at.port()),
                Err(_) => return,
            },
            Role::Rules(at) => at,
        };
        if (at.ip(), at.port()) == (IpAddr::V4(RESOLVER), answers::PORT) {
            return Asker::welcome(engine, fd);
        }
        match engine.admit(Protocol::Tcp, at) {
            Some(name) => {
                let start = Start { client: fd, inward: false, name, shown: at.ip(), port: at.port() };
                start.go(engine, &[at]);
            }
            None => socket::break_off(&fd),
        }
    }
}
