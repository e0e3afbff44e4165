//! UDP: each peer at a port has a conversation with a socket of its own on the other side.

use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::rules::Protocol;
use crate::plan::network::RESOLVER;
use crate::sys::epoll::Watch;
use crate::sys::{datagram, socket};

use super::answers;
use super::dns::{self, Transport};
use super::ledger::{Ledger, Opening, Place};
use super::listen::Role;
use super::relay::{Engine, Entry, token};
use super::slab::Key;

/// Datagrams that are carried before others have their turn.
const AT_ONCE: usize = 64;
/// How long a conversation may be silent (RFC 4787 wants two minutes at least).
const IDLE: Duration = Duration::from_secs(120);
/// How many conversations there are at the most; the one that was silent longest makes room.
const FLOWS: usize = 1024;
/// Datagrams that wait for a name's address, or are kept until it is clear that somebody takes them.
const WAITING: usize = 8;

/// Who talks: the peer's address, and the one that it talks to.
type Pair = (SocketAddr, Option<IpAddr>);

/// Takes datagrams.
#[derive(Debug)]
pub(super) struct Port {
    fd: OwnedFd,
    role: Role,
    flows: HashMap<Pair, Key>,
}

impl Port {
    pub(super) fn new(fd: OwnedFd, role: Role) -> Self {
        Self { fd, role, flows: HashMap::new() }
    }

    pub(super) fn ready(&mut self, engine: &mut Engine, key: Key) -> bool {
        let mut buffer = std::mem::take(&mut engine.buffer);
        for _ in 0..AT_ONCE {
            match datagram::receive(self.fd.as_fd(), &mut buffer) {
                Ok(got) => self.take(engine, key, (got.from, got.to), &buffer[..got.length.min(buffer.len())]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // A peer that is gone.
                Err(_) => {}
            }
        }
        engine.buffer = buffer;
        true
    }

    fn take(&mut self, engine: &mut Engine, key: Key, pair: Pair, bytes: &[u8]) {
        if let Some(flow) = self.flows.get(&pair) {
            if let Some(Entry::Flow(flow)) = engine.entries.get_mut(*flow) {
                flow.send(bytes);
            }
            return;
        }
        let (name, shown, port, targets) = match self.role {
            Role::Published(port) => {
                let inside: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
                let targets = inside.map(|address| SocketAddr::new(address, port)).into();
                (None, pair.0.ip(), port, targets)
            }
            Role::Rules(at) => {
                let to = match pair.1 {
                    Some(address) if at.ip().is_unspecified() => SocketAddr::new(address.to_canonical(), at.port()),
                    _ => at,
                };
                if (to.ip(), to.port()) == (IpAddr::V4(RESOLVER), answers::PORT) {
                    if let Some(reply) = dns::answer(bytes, Transport::Udp, engine) {
                        let _ = datagram::send(self.fd.as_fd(), &reply, pair.0, pair.1);
                    }
                    return;
                }
                let Some(name) = engine.admit(Protocol::Udp, to) else { return };
                (name, to.ip(), to.port(), VecDeque::from([to]))
            }
        };
        let inward = matches!(self.role, Role::Published(_));
        let place = engine.ledger.open(&Opening {
            protocol: Protocol::Udp,
            inward,
            name: name.as_deref(),
            address: name.is_none().then_some(shown),
            port,
        });
        let mut flow = Box::new(Flow {
            port: key,
            pair,
            inward,
            name: name.clone(),
            to_port: port,
            socket: None,
            targets: VecDeque::new(),
            waiting: VecDeque::from([bytes.to_vec()]),
            last: Instant::now(),
            forth: 0,
            back: 0,
            place,
        });
        make_room(engine, self);
        let own = engine.entries.reserve();
        let pinned = name.as_ref().and_then(|name| engine.pinned(name));
        let goes_on = match (name, pinned) {
            (None, _) => {
                flow.targets = targets;
                flow.dial(engine, own)
            }
            (Some(_), Some(address)) => {
                flow.targets = VecDeque::from([SocketAddr::new(address, port)]);
                flow.dial(engine, own)
            }
            (Some(name), None) => match engine.resolver.ask(&name, own) {
                Ok(()) => Ok(()),
                Err(error) => Err(format!("can't resolve {name}: {error}")),
            },
        };
        match goes_on {
            Ok(()) => {
                engine.wake_at(flow.last + IDLE, own);
                engine.flows.push(own);
                engine.entries.put(own, Entry::Flow(flow));
                self.flows.insert(pair, own);
            }
            Err(reason) => {
                engine.entries.forget(own);
                engine.ledger.close(&flow.place, Some(reason));
            }
        }
    }
}

/// Ends the conversation that was silent longest where there are too many. `port` is out of the engine's hands.
fn make_room(engine: &mut Engine, port: &mut Port) {
    if engine.flows.len() < FLOWS {
        return;
    }
    let last = |engine: &mut Engine, key: Key| match engine.entries.get_mut(key) {
        Some(Entry::Flow(flow)) => Some(flow.last),
        _ => None,
    };
    let flows = engine.flows.clone();
    let Some(oldest) = flows.into_iter().min_by_key(|key| last(engine, *key)) else { return };
    if let Some(Entry::Flow(flow)) = engine.entries.take(oldest) {
        port.flows.retain(|_, key| *key != oldest);
        flow.end(engine, oldest, None);
    }
    engine.entries.forget(oldest);
}

/// One conversation.
#[derive(Debug)]
pub(super) struct Flow {
    port: Key,
    pair: Pair,
    inward: bool,
    name: Option<Arc<str>>,
    to_port: u16,
    socket: Option<OwnedFd>,
    targets: VecDeque<SocketAddr>,
    /// Datagrams that nobody has taken for sure.
    waiting: VecDeque<Vec<u8>>,
    last: Instant,
    forth: u64,
    back: u64,
    place: Place,
}

impl Flow {
    /// The name's addresses, or why there are none.
    pub(super) fn resolved(&mut self, engine: &mut Engine, key: Key, found: Result<&[IpAddr], &io::Error>) -> bool {
        let Some(name) = self.name.clone().filter(|_| self.socket.is_none()) else { return true };
        let dialled = engine.check(Protocol::Udp, &name, self.to_port, found).and_then(|targets| {
            self.targets.extend(targets);
            self.dial(engine, key)
        });
        match dialled {
            Ok(()) => true,
            Err(reason) => {
                self.end(engine, key, Some(reason));
                false
            }
        }
    }

    /// Takes the next address that can be taken, and sends what waits.
    fn dial(&mut self, engine: &mut Engine, key: Key) -> Result<(), String> {
        let mut reason = "there is no address to send to".to_owned();
        while let Some(to) = self.targets.pop_front() {
            if !self.inward {
                engine.ledger.dial(&self.place, to);
            }
            match self.begin(engine, key, to) {
                Ok(()) => {
                    for bytes in self.waiting.clone() {
                        self.pass(&bytes);
                    }
                    if self.targets.is_empty() || !self.inward {
                        self.waiting.clear();
                    }
                    return Ok(());
                }
                Err(error) => reason = format!("can't send to {to}: {error}"),
            }
        }
        Err(reason)
    }

    fn begin(&mut self, engine: &mut Engine, key: Key, to: SocketAddr) -> io::Result<()> {
        let fd = if self.inward { engine.inside.socket_udp(to.is_ipv6())? } else { socket::udp(to.is_ipv6())? };
        socket::connect(&fd, to)?;
        engine.epoll.add(&fd, token(key, 0), Watch::Readable)?;
        self.socket = Some(fd);
        Ok(())
    }

    /// A datagram of the peer's.
    fn send(&mut self, bytes: &[u8]) {
        self.last = Instant::now();
        let unsure = self.socket.is_none() || (self.inward && !self.targets.is_empty());
        if unsure && self.waiting.len() < WAITING {
            self.waiting.push_back(bytes.to_vec());
        }
        if self.socket.is_some() {
            self.pass(bytes);
        }
    }

    fn pass(&mut self, bytes: &[u8]) {
        let Some(fd) = &self.socket else { return };
        // What can't be sent is lost, as datagrams are. An ICMP answer to the one before is reported here first.
        let sent = socket::send(fd, bytes).or_else(|_| socket::send(fd, bytes));
        self.forth += sent.map_or(0, |count| count as u64);
    }

    /// Answers have come.
    pub(super) fn ready(&mut self, engine: &mut Engine, key: Key) -> bool {
        for _ in 0..AT_ONCE {
            let Some(fd) = &self.socket else { break };
            let length = match socket::receive(fd, &mut engine.buffer) {
                Ok(length) => length,
                // Nobody is at this address of the sandbox's; at the other one perhaps.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused && self.inward && self.back == 0 => {
                    if !self.targets.is_empty() {
                        self.forth = 0;
                        let _ = self.dial(engine, key);
                    }
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => continue,
            };
            if self.back == 0 {
                self.targets.clear();
                self.waiting.clear();
            }
            self.last = Instant::now();
            self.back += length as u64;
            if let Some(Entry::Port(port)) = engine.entries.get_mut(self.port) {
                let _ = datagram::send(port.fd.as_fd(), &engine.buffer[..length], self.pair.0, self.pair.1);
            }
        }
        true
    }

    /// False when it was silent for too long.
    pub(super) fn pass_time(&mut self, engine: &mut Engine, key: Key, now: Instant) -> bool {
        if now < self.last + IDLE {
            engine.wake_at(self.last + IDLE, key);
            return true;
        }
        self.end(engine, key, None);
        false
    }

    fn end(&self, engine: &mut Engine, key: Key, error: Option<String>) {
        self.close(&mut engine.ledger, error);
        engine.flows.retain(|flow| *flow != key);
        if let Some(Entry::Port(port)) = engine.entries.get_mut(self.port) {
            port.flows.remove(&self.pair);
        }
    }

    /// Notes what it has carried. One without an error is over when nobody says more, at the latest with the run.
    pub(super) fn close(&self, ledger: &mut Ledger, error: Option<String>) {
        let (sent, received) = if self.inward { (self.back, self.forth) } else { (self.forth, self.back) };
        ledger.carried(&self.place, sent, received);
        ledger.close(&self.place, error);
    }
}
