//! The relay: one thread, outside of the sandbox, that carries what the rules allow.
//!
//! It waits for all of its sockets at once and never blocks: names are looked up by other threads. Sockets on the
//! command's side are made in the sandbox's net namespace by somebody else ([`Inside`]); here they are descriptors like
//! any other.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::config::rules::{Peer, Protocol, Rules};
use crate::plan::network::{self, RESOLVER};
use crate::sys::epoll::{Bell, Epoll, Ready, Watch};
use crate::sys::inside::Refusals;
use crate::sys::process;
use crate::sys::thread;

use super::answers::{Asker, PORT};
use super::dns::{Found, Zone};
use super::ledger::{Ledger, Refusal, Tell};
use super::listen::{Listener, Role};
use super::names::Names;
use super::pipes::Pipes;
use super::publish::Published;
use super::resolve::{self, LookUp, Resolver};
use super::slab::{Key, Slab};
use super::tcp::Connection;
use super::udp::{Flow, Port};
use super::{Event, Inside, NetError, Traffic, answers, policy, refusals, tls};

/// The largest datagram there can be; also what a TLS client's greeting may have.
const BUFFER: usize = 64 * 1024;
/// How long to wait where the machine has no descriptor or memory to spare.
pub(super) const PAUSE: Duration = Duration::from_millis(50);
/// How long the end of a run may wait for what its command has sent and a server has not taken yet.
const LINGER: Duration = Duration::from_secs(1);
/// Descriptors that sbx needs besides the relay's.
const SPARE: usize = 128;
/// What a connection has open at the most: two sockets, and a pipe each way while bytes are under way.
const EACH: usize = 6;
/// The most connections at the same time, however many descriptors there are.
const CONNECTIONS: usize = 16_384;

/// A relay that runs.
#[derive(Debug)]
pub struct Relay {
    thread: Option<JoinHandle<Traffic>>,
    stop: Arc<AtomicBool>,
    bell: Arc<Bell>,
}

/// Starts the relay. When it returns, names are answered, published ports are served, and every address that the rules
/// allow by number is listened at. `tell` is called on the relay's thread. Raises this process's soft limit of open files.
///
/// # Errors
/// When a socket can't be made.
pub fn start(
    rules: Rules,
    inside: Box<dyn Inside>,
    published: Vec<Published>,
    tell: Box<dyn Fn(Event) + Send>,
) -> Result<Relay, NetError> {
    let host = Host { look_up: resolve::by_host, descriptors: process::raise_open_files() };
    start_on(host, rules, inside, published, tell)
}

/// What the relay has of the host.
#[derive(Debug, Clone, Copy)]
struct Host {
    /// How names are looked up.
    look_up: LookUp,
    /// How many descriptors this process may have.
    descriptors: usize,
}

fn start_on(
    host: Host,
    rules: Rules,
    inside: Box<dyn Inside>,
    published: Vec<Published>,
    tell: Tell,
) -> Result<Relay, NetError> {
    let set_up = |doing| move |source| NetError::SetUp { doing, source };
    let bell = Arc::new(Bell::new().map_err(set_up("eventfd"))?);
    let epoll = Epoll::new().map_err(set_up("epoll"))?;
    epoll.add(&*bell, u64::MAX, Watch::Readable).map_err(set_up("epoll"))?;
    let mut engine = Engine {
        rules,
        inside,
        epoll,
        entries: Slab::new(),
        names: Names::default(),
        ledger: Ledger::new(tell),
        resolver: Resolver::new(Arc::clone(&bell), host.look_up),
        pipes: Pipes::default(),
        buffer: vec![0; BUFFER],
        again: Vec::new(),
        timers: BinaryHeap::new(),
        wide: HashSet::new(),
        flows: Vec::new(),
        connections: 0,
        listeners: 0,
        descriptors: host.descriptors,
    };
    engine.open(published)?;
    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, heard) = (Arc::clone(&stop), Arc::clone(&bell));
    let thread = thread::spawn("sbx-relay", move || engine.run(&stopped, &heard)).map_err(set_up("a thread"))?;
    Ok(Relay { thread: Some(thread), stop, bell })
}

impl Relay {
    /// Ends everything: connections are cut off, no thread and no descriptor remains. (A thread whose look-up of a name
    /// has not come back ends when it does, and holds none.)
    pub fn stop(mut self) -> Traffic {
        self.end().unwrap_or_default()
    }

    fn end(&mut self) -> Option<Traffic> {
        self.stop.store(true, Ordering::Release);
        self.bell.ring();
        self.thread.take()?.join().ok()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.end();
    }
}

/// Everything that the relay waits for.
#[derive(Debug)]
pub(super) enum Entry {
    /// Takes TCP connections.
    Listener(Listener),
    /// One TCP connection, both of its sockets.
    Connection(Box<Connection>),
    /// Takes datagrams.
    Port(Port),
    /// A conversation by datagrams.
    Flow(Box<Flow>),
    /// Takes questions about names by UDP.
    Questions(OwnedFd),
    /// Asks about names by TCP.
    Asker(Box<Asker>),
    /// Sees what the kernel refuses inside.
    Refusals(OwnedFd, Refusals),
}

/// The relay's state; its thread owns it.
pub(super) struct Engine {
    pub(super) rules: Rules,
    pub(super) inside: Box<dyn Inside>,
    pub(super) epoll: Epoll,
    pub(super) entries: Slab<Entry>,
    pub(super) names: Names,
    pub(super) ledger: Ledger,
    pub(super) resolver: Resolver,
    pub(super) pipes: Pipes,
    pub(super) buffer: Vec<u8>,
    /// Connections that have more to do than fits into one turn.
    pub(super) again: Vec<Key>,
    timers: BinaryHeap<Reverse<(Instant, Key)>>,
    /// Where one listener takes every address of a family.
    wide: HashSet<(Protocol, bool, u16)>,
    /// The conversations by datagrams.
    pub(super) flows: Vec<Key>,
    /// How many TCP connections there are, those that ask for names among them.
    pub(super) connections: usize,
    listeners: usize,
    descriptors: usize,
}

/// The number that epoll gives back for one socket of an entry.
pub(super) fn token(key: Key, side: usize) -> u64 {
    key.bits() | (side as u64) << Key::BITS
}

impl Engine {
    fn open(&mut self, published: Vec<Published>) -> Result<(), NetError> {
        let rules = self.rules.clone();
        let addresses = policy::address_listeners(&rules);
        for rule in &rules.allow {
            if let Peer::Name(name) = &rule.peer {
                self.names.number(name.as_str());
            }
            let ports: usize = rule.ports.ranges().iter().map(ExactSizeIterator::len).sum();
            let needed = addresses.len() + if matches!(rule.peer, Peer::Addresses(_)) { 0 } else { 2 * ports };
            if needed > self.most_listeners() {
                return Err(NetError::TooMany { needed, most: self.most_listeners() });
            }
        }
        self.wide.extend(
            addresses
                .iter()
                .filter(|(_, at)| at.ip().is_unspecified())
                .map(|(protocol, at)| (*protocol, at.is_ipv6(), at.port())),
        );
        let resolver = SocketAddr::new(IpAddr::V4(RESOLVER), PORT);
        let names = [Protocol::Udp, Protocol::Tcp].map(|protocol| (protocol, resolver));
        let names = names.into_iter().filter(|(protocol, at)| !self.wide.contains(&(*protocol, false, at.port())));
        for (protocol, at) in names.collect::<Vec<_>>().into_iter().chain(addresses) {
            self.listen(protocol, at).map_err(|source| NetError::Listen { at, protocol, source })?;
        }
        let set_up = |doing| move |source| NetError::SetUp { doing, source };
        for kind in Refusals::ALL {
            let socket = self.inside.refusals(kind).map_err(set_up("raw sockets"))?;
            self.add(Watch::Readable, socket, |fd| Entry::Refusals(fd, kind)).map_err(set_up("epoll"))?;
        }
        for Published { entry, socket } in published {
            let result = match entry.protocol {
                Protocol::Tcp => {
                    let role = Role::Published(entry.inside);
                    self.add(Watch::Readable, socket, |fd| Entry::Listener(Listener { fd, role }))
                }
                Protocol::Udp => {
                    let role = Role::Published(entry.inside);
                    self.add(Watch::Readable, socket, |fd| Entry::Port(Port::new(fd, role)))
                }
            };
            result.map_err(set_up("epoll"))?;
        }
        Ok(())
    }

    /// Adds a socket of a new entry.
    pub(super) fn add(&mut self, watch: Watch, fd: OwnedFd, entry: impl FnOnce(OwnedFd) -> Entry) -> io::Result<Key> {
        let key = self.entries.reserve();
        match self.epoll.add(&fd, token(key, 0), watch) {
            Ok(()) => self.entries.put(key, entry(fd)),
            Err(error) => {
                self.entries.forget(key);
                return Err(error);
            }
        }
        Ok(key)
    }

    /// Listens inside.
    fn listen(&mut self, protocol: Protocol, at: SocketAddr) -> io::Result<Key> {
        let key = match protocol {
            Protocol::Tcp => {
                let role = Role::Rules(at);
                let fd = self.inside.listen_tcp(at)?;
                self.add(Watch::Readable, fd, |fd| Entry::Listener(Listener { fd, role }))?
            }
            Protocol::Udp if (at.ip(), at.port()) == (IpAddr::V4(RESOLVER), PORT) => {
                let fd = self.inside.bind_udp(at)?;
                self.add(Watch::Readable, fd, Entry::Questions)?
            }
            Protocol::Udp => {
                let fd = self.inside.bind_udp(at)?;
                self.add(Watch::Readable, fd, |fd| Entry::Port(Port::new(fd, Role::Rules(at))))?
            }
        };
        self.listeners += 1;
        Ok(key)
    }

    fn most_listeners(&self) -> usize {
        (self.descriptors.saturating_sub(SPARE) / 2).min(network::NAMES_MAX as usize)
    }

    /// Whether one more connection can be had.
    pub(super) fn has_room(&self) -> bool {
        let taken = SPARE + self.listeners + self.flows.len() + EACH * (self.connections + 1);
        self.connections < CONNECTIONS && taken <= self.descriptors.max(SPARE + self.listeners + 8 * EACH)
    }

    /// Has the entry's time come at `at`.
    pub(super) fn wake_at(&mut self, at: Instant, key: Key) {
        self.timers.push(Reverse((at, key)));
    }

    fn run(mut self, stop: &AtomicBool, bell: &Bell) -> Traffic {
        let mut ready = Vec::new();
        let mut until = None;
        loop {
            let stopped = stop.load(Ordering::Acquire);
            let timer = self.timers.peek().map(|Reverse((at, _))| *at);
            // Every process of the command is dead: what it did last is here already, and nothing more comes from it.
            if stopped {
                until.get_or_insert_with(|| Instant::now() + LINGER);
            }
            let may_wait = self.again.is_empty() && (!stopped || self.owes());
            let next = if may_wait { timer.into_iter().chain(until).min() } else { Some(Instant::now()) };
            let timeout = next.map(|at| at.saturating_duration_since(Instant::now()));
            if let Err(error) = self.epoll.wait(timeout, &mut ready) {
                self.ledger.fail("the network's relay can't wait for its sockets, and ends", error);
                break;
            }
            let quiet = self.again.is_empty() && ready.iter().all(|one| one.token == u64::MAX);
            let late = until.is_some_and(|until| Instant::now() >= until);
            if stopped && (late || quiet && !self.owes()) {
                break;
            }
            for one in &ready {
                if one.token == u64::MAX {
                    bell.hear();
                } else {
                    self.ready(*one);
                }
            }
            for key in std::mem::take(&mut self.again) {
                self.with(key, |engine, entry| match entry {
                    Entry::Connection(connection) => connection.proceed(engine, key),
                    _ => true,
                });
            }
            for answer in self.resolver.answers() {
                for asker in answer.askers {
                    let found = answer.addresses.as_deref();
                    self.with(asker, |engine, entry| match entry {
                        Entry::Connection(connection) => connection.resolved(engine, asker, found),
                        Entry::Flow(flow) => flow.resolved(engine, asker, found),
                        _ => true,
                    });
                }
            }
            self.pass_time(Instant::now());
        }
        for entry in self.entries.drain().collect::<Vec<_>>() {
            match entry {
                Entry::Connection(connection) => connection.cut_off(&mut self.ledger),
                Entry::Flow(flow) => flow.close(&mut self.ledger, None),
                _ => {}
            }
        }
        self.ledger.finish()
    }

    /// Whether something that the command has sent is not delivered yet.
    fn owes(&self) -> bool {
        self.entries.iter().any(|entry| matches!(entry, Entry::Connection(connection) if connection.owes()))
    }

    /// Lets `work` have an entry and this engine; the entry is forgotten when it returns false.
    fn with(&mut self, key: Key, work: impl FnOnce(&mut Self, &mut Entry) -> bool) {
        let Some(mut entry) = self.entries.take(key) else { return };
        if work(self, &mut entry) {
            self.entries.put(key, entry);
        } else {
            self.entries.forget(key);
        }
    }

    fn ready(&mut self, ready: Ready) {
        let key = Key::from_bits(ready.token);
        let side = (ready.token >> Key::BITS) as usize;
        self.with(key, |engine, entry| match entry {
            Entry::Listener(listener) => listener.ready(engine, key),
            Entry::Connection(connection) => connection.ready(engine, key, side, ready),
            Entry::Port(port) => port.ready(engine, key),
            Entry::Flow(flow) => flow.ready(engine, key),
            Entry::Questions(socket) => answers::questions(socket.as_fd(), engine),
            Entry::Asker(asker) => asker.ready(engine, key, ready),
            Entry::Refusals(socket, kind) => refusals::ready(socket.as_fd(), *kind, engine),
        });
    }

    fn pass_time(&mut self, now: Instant) {
        while let Some(Reverse((at, key))) = self.timers.peek().copied() {
            if at > now {
                break;
            }
            self.timers.pop();
            self.with(key, |engine, entry| match entry {
                Entry::Listener(listener) => listener.resume(engine, key),
                Entry::Connection(connection) => connection.pass_time(engine, key, now),
                Entry::Flow(flow) => flow.pass_time(engine, key, now),
                Entry::Asker(asker) => asker.pass_time(engine, key, now),
                Entry::Port(_) | Entry::Questions(_) | Entry::Refusals(..) => true,
            });
        }
    }

    /// The address that is pinned to the name.
    pub(super) fn pinned(&self, name: &str) -> Option<IpAddr> {
        self.rules.hosts.iter().find(|(pinned, _)| pinned.as_str() == name).map(|(_, address)| *address)
    }

    /// The addresses that a connection by `name` may go to, of those that were found. Says why where there is none.
    pub(super) fn check(
        &mut self,
        protocol: Protocol,
        name: &str,
        port: u16,
        found: Result<&[IpAddr], &io::Error>,
    ) -> Result<Vec<SocketAddr>, String> {
        let found = found.map_err(|error| format!("can't resolve {name}: {error}"))?;
        let mut allowed = Vec::new();
        let mut refused = None;
        for address in found {
            let to = SocketAddr::new(address.to_canonical(), port);
            match policy::special(*address) {
                Some(kind) if !policy::allows_address(&self.rules, *address, protocol, port) => {
                    refused = refused.or(Some((to, kind)));
                }
                _ => allowed.push(to),
            }
        }
        match (allowed.is_empty(), refused) {
            (true, Some((to, kind))) => {
                let refusal = Refusal::rebound(protocol, name, to, kind);
                let reason = refusal.reason.clone();
                self.ledger.block(refusal);
                Err(reason)
            }
            (true, None) => Err(format!("can't resolve {name}: it has no address")),
            (false, _) => Ok(allowed),
        }
    }

    /// The name, if any, by which `to` is reached, where the rules allow it; else the refusal is noted.
    pub(super) fn admit(&mut self, protocol: Protocol, to: SocketAddr) -> Option<Option<Arc<str>>> {
        if let Some(name) = self.names.at(to.ip()) {
            if policy::allows_name(&self.rules, &name, protocol, to.port()) {
                return Some(Some(name));
            }
            self.ledger.block(Refusal::port_of_name(protocol, &name, to.port()));
            return None;
        }
        if policy::allows_address(&self.rules, to.ip(), protocol, to.port()) {
            return Some(None);
        }
        // A listener that takes every address takes the sandbox's own too; nothing was refused by a rule there.
        if !policy::is_own(to.ip()) {
            self.ledger.block(Refusal::address(protocol, to));
        }
        None
    }

    /// Makes the listeners of a name.
    fn serve(&mut self, number: u32, name: &str, v6: bool) -> io::Result<()> {
        let Some(address) = network::virtual_address(number, v6) else { return Err(io::ErrorKind::StorageFull.into()) };
        let mut wanted = Vec::new();
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let ports = policy::ports_of_name(&self.rules, name, protocol);
            let ports = ports.into_iter().filter(|port| !self.wide.contains(&(protocol, v6, *port)));
            wanted.extend(ports.map(|port| (protocol, SocketAddr::new(address, port))));
        }
        if self.listeners + wanted.len() > self.most_listeners() {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let mut made = Vec::new();
        for (protocol, at) in wanted {
            match self.listen(protocol, at) {
                Ok(key) => made.push(key),
                Err(error) => {
                    self.listeners -= made.len();
                    made.into_iter().for_each(|key| self.entries.forget(key));
                    return Err(error);
                }
            }
        }
        self.names.serve(number, v6);
        Ok(())
    }
}

impl Zone for Engine {
    fn knows(&self, name: &str) -> bool {
        policy::knows_name(&self.rules, name)
    }

    fn find(&mut self, name: &str, v6: bool) -> Found {
        if !self.knows(name) {
            return Found::Nothing;
        }
        let Some(number) = self.names.number(name) else { return Found::Full };
        if !self.names.is_served(number, v6)
            && let Err(error) = self.serve(number, name, v6)
        {
            self.ledger.fail(&format!("can't let the command reach {name}"), error);
            return Found::Full;
        }
        network::virtual_address(number, v6).map_or(Found::Full, Found::Address)
    }

    fn name_at(&self, address: IpAddr) -> Option<Arc<str>> {
        self.names.at(address)
    }

    fn refuse(&mut self, name: &str, canonical: bool) {
        self.ledger.block(Refusal::lookup(name, canonical));
    }
}

const _: () = assert!(tls::MOST <= BUFFER);

#[cfg(test)]
#[path = "relay_tests.rs"]
mod tests;
