//! TCP: connections that were taken on one side, are made on the other, and carried between.
//!
//! Bytes go from socket to socket through a pipe that a direction has only while bytes are under way. What one side ends
//! is ended towards the other, a reset is passed on as a reset, and who doesn't read slows down who writes.
//!
//! Longer than 500 lines: the stages of one connection, from its name to its end, change the same few fields.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::rules::Protocol;
use crate::sys::epoll::{Ready, Watch};
use crate::sys::socket;
use crate::sys::splice::Pipe;

use super::ledger::{Ledger, Opening, Place, Refusal};
use super::policy;
use super::relay::{Engine, Entry, PAUSE, token};
use super::slab::Key;
use super::tls::{self, Verdict};

/// Fillings of a pipe that are carried before others have their turn.
const FILLINGS: usize = 16;
/// How long an address is tried when there are more, and when it is the last.
const DIAL: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(30));
/// How long a TLS client has for its greeting once it has begun one.
const GREETING: Duration = Duration::from_secs(10);
/// The sides of a connection: who made it, and whom it was made to.
const CLIENT: usize = 0;
const SERVER: usize = 1;

/// A connection that begins.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) client: OwnedFd,
    /// From a published port inward, or by a rule outward.
    pub(super) inward: bool,
    pub(super) name: Option<Arc<str>>,
    /// The address for the record, where there is no name.
    pub(super) shown: IpAddr,
    pub(super) port: u16,
}

impl Start {
    /// Lets it begin; `targets` are where it goes if it has no name.
    pub(super) fn go(self, engine: &mut Engine, targets: &[SocketAddr]) {
        let Self { client, inward, name, shown, port } = self;
        let place = engine.ledger.open(&Opening {
            protocol: Protocol::Tcp,
            inward,
            name: name.as_deref(),
            address: name.is_none().then_some(shown),
            port,
        });
        let key = engine.entries.reserve();
        if let Err(error) = engine.epoll.add(&client, token(key, CLIENT), Watch::Changes) {
            engine.entries.forget(key);
            engine.ledger.close(&place, Some(error.to_string()));
            return socket::break_off(&client);
        }
        let _ = socket::no_delay(&client);
        let mut connection = Box::new(Connection {
            client,
            server: None,
            inward,
            name,
            port,
            stage: Stage::Resolving,
            targets: VecDeque::new(),
            deadline: None,
            greeting: Watching::Nothing,
            sides: [Side::default(), Side::default()],
            ways: [Way::default(), Way::default()],
            queued: false,
            last_error: None,
            place,
        });
        engine.connections += 1;
        let goes_on = match connection.name.clone() {
            None => {
                connection.targets.extend(targets);
                connection.dial(engine, key)
            }
            Some(name) => match engine.pinned(&name) {
                Some(address) => {
                    connection.targets.push_back(SocketAddr::new(address, port));
                    connection.dial(engine, key)
                }
                None => match engine.resolver.ask(&name, key) {
                    Ok(()) => true,
                    Err(error) => connection.end(engine, Some(format!("can't resolve {name}: {error}"))),
                },
            },
        };
        if goes_on {
            engine.entries.put(key, Entry::Connection(connection));
        } else {
            engine.entries.forget(key);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Resolving,
    Dialling,
    Carrying,
}

/// Whether the client's first bytes are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watching {
    /// Nothing is held back.
    Nothing,
    /// They are held back until it is clear what they are.
    First,
    /// They have begun as a TLS client's, and have until then to be whole.
    Until(Instant),
}

/// What is known of one socket.
#[derive(Debug, Default)]
struct Side {
    /// Reading it may give something.
    readable: bool,
    /// Writing to it may take something.
    writable: bool,
    /// Its peer sends nothing more than what is here.
    ended: bool,
}

/// How a direction came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The sender ended it.
    Orderly,
    /// The sender's connection broke.
    Broken,
}

/// One direction, from the side of its number to the other.
#[derive(Debug, Default)]
struct Way {
    pipe: Option<Pipe>,
    /// Bytes in the pipe.
    held: usize,
    /// What comes after them.
    end: Option<End>,
    /// The receiver was told of the end.
    told: bool,
    /// The receiver takes nothing any more.
    refused: bool,
    bytes: u64,
}

impl Way {
    fn is_over(&self) -> bool {
        self.refused || (self.end.is_some() && self.held == 0)
    }
}

/// One connection, and its counterpart on the other side.
#[derive(Debug)]
pub(super) struct Connection {
    client: OwnedFd,
    server: Option<OwnedFd>,
    inward: bool,
    name: Option<Arc<str>>,
    port: u16,
    stage: Stage,
    targets: VecDeque<SocketAddr>,
    /// When the address that is dialled is given up.
    deadline: Option<Instant>,
    greeting: Watching,
    sides: [Side; 2],
    ways: [Way; 2],
    /// It stands in the engine's list of those with more to do.
    queued: bool,
    last_error: Option<String>,
    place: Place,
}

impl Connection {
    /// Something changed at one side.
    pub(super) fn ready(&mut self, engine: &mut Engine, key: Key, side: usize, ready: Ready) -> bool {
        let Some(state) = self.sides.get_mut(side) else { return true };
        state.readable |= ready.read;
        state.writable |= ready.write;
        state.ended |= ready.ended;
        match self.stage {
            Stage::Dialling if side == SERVER => self.dialled(engine, key),
            Stage::Resolving | Stage::Dialling => {
                // What a client sends and then ends is still delivered; one that breaks off is gone.
                if ready.error { self.end(engine, Some("the client broke it off".to_owned())) } else { true }
            }
            Stage::Carrying => {
                if ready.error {
                    self.broke(engine, side);
                }
                self.proceed(engine, key)
            }
        }
    }

    /// The name's addresses, or why there are none.
    pub(super) fn resolved(&mut self, engine: &mut Engine, key: Key, found: Result<&[IpAddr], &io::Error>) -> bool {
        let Some(name) = self.name.clone().filter(|_| self.stage == Stage::Resolving) else { return true };
        match engine.check(Protocol::Tcp, &name, self.port, found) {
            Ok(targets) => {
                self.targets.extend(targets);
                self.dial(engine, key)
            }
            Err(reason) => self.end(engine, Some(reason)),
        }
    }

    /// Tries the next address; the connection has failed when there is none.
    fn dial(&mut self, engine: &mut Engine, key: Key) -> bool {
        while let Some(to) = self.targets.pop_front() {
            if !self.inward {
                engine.ledger.dial(&self.place, to);
            }
            match self.begin(engine, key, to) {
                Ok(connected) => {
                    self.stage = Stage::Dialling;
                    let patience = if self.targets.is_empty() { DIAL.1 } else { DIAL.0 };
                    let deadline = Instant::now() + patience;
                    self.deadline = Some(deadline);
                    engine.wake_at(deadline, key);
                    return if connected { self.made(engine, key) } else { true };
                }
                Err(error) => self.last_error = Some(format!("can't connect to {to}: {error}")),
            }
        }
        let reason = self.last_error.take().unwrap_or_else(|| "there is no address to connect to".to_owned());
        self.end(engine, Some(reason))
    }

    fn begin(&mut self, engine: &mut Engine, key: Key, to: SocketAddr) -> io::Result<bool> {
        let fd = if self.inward { engine.inside.socket_tcp(to.is_ipv6())? } else { socket::tcp(to.is_ipv6())? };
        socket::no_delay(&fd)?;
        socket::keep_alive(if self.inward { self.client.as_fd() } else { fd.as_fd() })?;
        self.sides[SERVER] = Side::default();
        let connected = socket::connect(&fd, to)?;
        engine.epoll.add(&fd, token(key, SERVER), Watch::Changes)?;
        // The address before, if there was one, is given up here.
        self.server = Some(fd);
        Ok(connected)
    }

    /// The connection to the server is made, or it is not.
    fn dialled(&mut self, engine: &mut Engine, key: Key) -> bool {
        let Some(fd) = &self.server else { return true };
        match socket::take_error(fd) {
            Ok(()) if self.sides[SERVER].writable => self.made(engine, key),
            Ok(()) => true,
            Err(error) => {
                self.last_error = Some(format!("can't connect: {error}"));
                self.dial(engine, key)
            }
        }
    }

    fn made(&mut self, engine: &mut Engine, key: Key) -> bool {
        self.stage = Stage::Carrying;
        self.deadline = None;
        if self.name.is_some() && !self.inward {
            self.greeting = Watching::First;
        }
        self.sides[CLIENT].readable = true;
        for side in &mut self.sides {
            side.writable = true;
        }
        self.proceed(engine, key)
    }

    /// Its time has come: an address doesn't answer, a greeting isn't whole, or there was no pipe to be had.
    pub(super) fn pass_time(&mut self, engine: &mut Engine, key: Key, now: Instant) -> bool {
        match (self.stage, self.deadline, self.greeting) {
            (Stage::Dialling, Some(deadline), _) if now >= deadline => {
                self.last_error = Some("can't connect: no answer in time".to_owned());
                self.dial(engine, key)
            }
            (Stage::Carrying, _, Watching::Until(until)) if now >= until => {
                self.refuse(engine, "the TLS client's greeting does not come to its end".to_owned(), None)
            }
            (Stage::Carrying, ..) => self.proceed(engine, key),
            _ => true,
        }
    }

    fn fd(&self, side: usize) -> Option<BorrowedFd<'_>> {
        if side == CLIENT { Some(self.client.as_fd()) } else { self.server.as_ref().map(|fd| fd.as_fd()) }
    }

    /// A side's connection broke: it takes nothing more, and what it sent before is read to its end.
    fn broke(&mut self, engine: &mut Engine, side: usize) {
        self.stop(engine, 1 - side);
        self.sides[side].readable = true;
    }

    /// Gives a direction up.
    fn stop(&mut self, engine: &mut Engine, way: usize) {
        let way = &mut self.ways[way];
        way.refused = true;
        // With bytes in it, it is no pipe for anybody else.
        if let Some(pipe) = way.pipe.take()
            && way.held == 0
        {
            engine.pipes.give_back(pipe);
        }
        way.held = 0;
    }

    /// Carries what can be carried; false when the connection is over.
    pub(super) fn proceed(&mut self, engine: &mut Engine, key: Key) -> bool {
        self.queued = false;
        if self.stage != Stage::Carrying {
            return true;
        }
        if self.greeting != Watching::Nothing
            && let Err((reason, remedy)) = self.watch(engine, key)
        {
            return self.refuse(engine, reason, remedy);
        }
        for way in [CLIENT, SERVER] {
            if way == SERVER || self.greeting == Watching::Nothing {
                self.carry(engine, key, way);
            }
        }
        // A side that broke has nothing more to come once it is read to its end.
        let gone = |way: &Way| way.end == Some(End::Broken) && way.held == 0;
        if self.ways.iter().any(gone) || self.ways.iter().all(Way::is_over) {
            let broken = self.ways.iter().any(|way| way.refused || gone(way));
            return self.end(engine, broken.then(|| "one side broke it off".to_owned()));
        }
        true
    }

    fn carry(&mut self, engine: &mut Engine, key: Key, way: usize) {
        for _ in 0..FILLINGS {
            let (from, to) = (way, 1 - way);
            if self.ways[way].is_over() && (self.ways[way].told || self.ways[way].refused) {
                return;
            }
            if self.ways[way].held == 0 {
                if let Some(end) = self.ways[way].end {
                    if end == End::Orderly
                        && let Some(fd) = self.fd(to)
                    {
                        // A socket that is broken already is found out about in other ways.
                        let _ = socket::end_writing(fd);
                    }
                    self.ways[way].told = true;
                }
                if self.ways[way].end.is_some() || !self.sides[from].readable {
                    return self.rest(engine, way);
                }
                if !self.fill(engine, key, way) {
                    return;
                }
                continue;
            }
            if !self.sides[to].writable {
                return;
            }
            self.drain(engine, way);
        }
        if !self.queued {
            self.queued = true;
            engine.again.push(key);
        }
    }

    /// The direction has nothing under way.
    fn rest(&mut self, engine: &mut Engine, way: usize) {
        if let Some(pipe) = self.ways[way].pipe.take() {
            engine.pipes.give_back(pipe);
        }
    }

    /// Takes from the sender; false when there is no pipe to put it into.
    fn fill(&mut self, engine: &mut Engine, key: Key, way: usize) -> bool {
        let pipe = match self.ways[way].pipe.take().map_or_else(|| engine.pipes.lend(), Ok) {
            Ok(pipe) => pipe,
            Err(error) => {
                engine.ledger.fail("too many connections at once: some wait until others end", error);
                engine.wake_at(Instant::now() + PAUSE, key);
                return false;
            }
        };
        let Some(from) = self.fd(way) else { return false };
        let result = pipe.fill(from);
        let direction = &mut self.ways[way];
        match result {
            Ok(0) => direction.end = Some(End::Orderly),
            Ok(count) => direction.held = count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.sides[way].readable = false,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => direction.end = Some(End::Broken),
        }
        self.ways[way].pipe = Some(pipe);
        true
    }

    /// Gives to the receiver.
    fn drain(&mut self, engine: &mut Engine, way: usize) {
        let (Some(to), Some(pipe)) = (self.fd(1 - way), &self.ways[way].pipe) else { return };
        match pipe.drain(to, self.ways[way].held) {
            Ok(count) => {
                let direction = &mut self.ways[way];
                direction.held -= count.min(direction.held);
                direction.bytes += count as u64;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.sides[1 - way].writable = false,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => self.broke(engine, 1 - way),
        }
    }

    /// Looks at the client's first bytes where they are: what is no TLS passes, and so does TLS that asks for the name
    /// that the connection is for.
    fn watch(&mut self, engine: &mut Engine, key: Key) -> Result<(), (String, Option<String>)> {
        if !self.sides[CLIENT].readable {
            return Ok(());
        }
        let room = &mut engine.buffer[..tls::MOST];
        let length = match socket::peek(&self.client, room) {
            Ok(length) => length,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                self.sides[CLIENT].readable = false;
                return Ok(());
            }
            // Whoever reads next finds it out.
            Err(_) => 0,
        };
        let name = self.name.as_deref().unwrap_or_default();
        match tls::judge(&room[..length], self.sides[CLIENT].ended, name) {
            Verdict::Pass => {}
            Verdict::Wait => {
                if self.greeting == Watching::First {
                    let until = Instant::now() + GREETING;
                    self.greeting = Watching::Until(until);
                    engine.wake_at(until, key);
                }
                // The next byte that comes is a change that is told of.
                self.sides[CLIENT].readable = false;
                return Ok(());
            }
            Verdict::Refuse { reason, asked } => {
                return Err((reason, asked.map(|asked| policy::allow_line(Protocol::Tcp, &asked, self.port))));
            }
        }
        self.greeting = Watching::Nothing;
        Ok(())
    }

    /// Ends it because of what the client asks for.
    fn refuse(&mut self, engine: &mut Engine, reason: String, remedy: Option<String>) -> bool {
        let name = self.name.clone().unwrap_or_default();
        engine.ledger.block(Refusal::greeting(&name, self.port, reason.clone(), remedy));
        self.end(engine, Some(reason))
    }

    /// Ends it, with a reset on both sides if there was an error. Returns false: it is over.
    fn end(&mut self, engine: &mut Engine, error: Option<String>) -> bool {
        if error.is_some() {
            for fd in [CLIENT, SERVER].into_iter().filter_map(|side| self.fd(side)) {
                socket::break_off(fd);
            }
        }
        for way in [CLIENT, SERVER] {
            if self.ways[way].held == 0 {
                self.rest(engine, way);
            }
        }
        self.count(&mut engine.ledger);
        engine.ledger.close(&self.place, error);
        engine.connections -= 1;
        false
    }

    fn count(&self, ledger: &mut Ledger) {
        let [forth, back] = [self.ways[CLIENT].bytes, self.ways[SERVER].bytes];
        let (sent, received) = if self.inward { (back, forth) } else { (forth, back) };
        ledger.carried(&self.place, sent, received);
    }

    /// The direction from the command.
    fn own_way(&self) -> &Way {
        &self.ways[if self.inward { SERVER } else { CLIENT }]
    }

    /// Whether something that the command has sent is not delivered yet.
    pub(super) fn owes(&self) -> bool {
        !self.own_way().is_over()
    }

    /// The run ended before the connection did. That is no error if the command had ended its side of it in order.
    pub(super) fn cut_off(&self, ledger: &mut Ledger) {
        self.count(ledger);
        let own = self.own_way();
        // The server has everything then, and is not to lose it by a reset.
        if own.end == Some(End::Orderly) && own.held == 0 {
            return ledger.close(&self.place, None);
        }
        for fd in [CLIENT, SERVER].into_iter().filter_map(|side| self.fd(side)) {
            socket::break_off(fd);
        }
    }
}
