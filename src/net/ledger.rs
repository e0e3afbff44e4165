//! What went through the relay and what was refused: kept for the record, in bounded memory, and told as it happens.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::config::rules::Protocol;
use crate::record::{Blocked, Connection};

use super::{Event, Traffic, policy};

/// How many connections a record lists.
const CONNECTIONS: usize = 10_000;
/// How many refusals a record lists.
const BLOCKED: usize = 1_000;
/// What a connection that is still open says of itself.
const UNFINISHED: &str = "the run ended";

/// Who tells the user.
pub(super) type Tell = Box<dyn Fn(Event) + Send>;

/// What a connection is when it begins.
#[derive(Debug)]
pub(super) struct Opening<'a> {
    pub(super) protocol: Protocol,
    /// From a published port inward, or by a rule outward.
    pub(super) inward: bool,
    pub(super) name: Option<&'a str>,
    pub(super) address: Option<IpAddr>,
    pub(super) port: u16,
}

/// A connection's place in the list; none where the list was full.
#[derive(Debug)]
pub(super) struct Place {
    index: Option<usize>,
    since: Instant,
}

/// What makes a refusal the same as another one.
type What = (Option<Protocol>, Option<String>, Option<IpAddr>, Option<u16>);

/// The books.
pub(super) struct Ledger {
    traffic: Traffic,
    known: HashMap<What, usize>,
    said: HashSet<String>,
    started: Instant,
    tell: Tell,
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("traffic", &self.traffic).finish_non_exhaustive()
    }
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl Ledger {
    pub(super) fn new(tell: Tell) -> Self {
        let (traffic, known, said) = (Traffic::default(), HashMap::new(), HashSet::new());
        Self { traffic, known, said, started: Instant::now(), tell }
    }

    /// A connection began.
    pub(super) fn open(&mut self, opening: &Opening<'_>) -> Place {
        let since = Instant::now();
        if self.traffic.connections.len() >= CONNECTIONS {
            self.traffic.connections_omitted += 1;
            return Place { index: None, since };
        }
        self.traffic.connections.push(Connection {
            protocol: opening.protocol.to_string(),
            direction: if opening.inward { "in" } else { "out" }.to_owned(),
            name: opening.name.map(str::to_owned),
            address: opening.address.map(|address| address.to_string()),
            port: opening.port,
            sent: 0,
            received: 0,
            start_us: microseconds(since.duration_since(self.started)),
            duration_us: 0,
            error: Some(UNFINISHED.to_owned()),
        });
        Place { index: Some(self.traffic.connections.len() - 1), since }
    }

    fn at(&mut self, place: &Place) -> Option<&mut Connection> {
        self.traffic.connections.get_mut(place.index?)
    }

    /// The address that a connection by a name is now dialling.
    pub(super) fn dial(&mut self, place: &Place, to: SocketAddr) {
        if let Some(connection) = self.at(place) {
            connection.address = Some(to.ip().to_string());
        }
    }

    /// How much a connection has carried so far: what the command sent, and what it received.
    pub(super) fn carried(&mut self, place: &Place, sent: u64, received: u64) {
        let duration = microseconds(place.since.elapsed());
        if let Some(connection) = self.at(place) {
            (connection.sent, connection.received, connection.duration_us) = (sent, received, duration);
        }
    }

    /// A connection ended, orderly or by `error`.
    pub(super) fn close(&mut self, place: &Place, error: Option<String>) {
        let duration = microseconds(place.since.elapsed());
        if let Some(connection) = self.at(place) {
            (connection.error, connection.duration_us) = (error, duration);
        }
    }

    /// Something was refused.
    pub(super) fn block(&mut self, refusal: Refusal<'_>) {
        let key = (refusal.protocol, refusal.name.map(str::to_owned), refusal.address, refusal.port);
        if let Some(index) = self.known.get(&key) {
            if let Some(blocked) = self.traffic.blocked.get_mut(*index) {
                blocked.count += 1;
            }
            return;
        }
        if self.traffic.blocked.len() >= BLOCKED {
            self.traffic.blocked_omitted += 1;
            return;
        }
        let blocked = Blocked {
            protocol: refusal.protocol.map(|protocol| protocol.to_string()),
            name: refusal.name.map(str::to_owned),
            address: refusal.address.map(|address| address.to_string()),
            port: refusal.port,
            reason: refusal.reason,
            remedy: refusal.remedy,
            count: 1,
        };
        self.known.insert(key, self.traffic.blocked.len());
        self.traffic.blocked.push(blocked.clone());
        (self.tell)(Event::Blocked(blocked));
    }

    /// Something that is allowed can't be done; each thing is told once.
    pub(super) fn fail(&mut self, what: &str, source: io::Error) {
        if self.said.len() < BLOCKED && self.said.insert(what.to_owned()) {
            (self.tell)(Event::Failed { what: what.to_owned(), source });
        }
    }

    /// The books, closed.
    pub(super) fn finish(self) -> Traffic {
        self.traffic
    }
}

/// A refusal before it has a count.
#[derive(Debug)]
pub(super) struct Refusal<'a> {
    pub(super) protocol: Option<Protocol>,
    pub(super) name: Option<&'a str>,
    pub(super) address: Option<IpAddr>,
    pub(super) port: Option<u16>,
    pub(super) reason: String,
    pub(super) remedy: Option<String>,
}

impl<'a> Refusal<'a> {
    /// A name that no rule allows was looked up. `known` says that `name` is in canonical form.
    pub(super) fn lookup(name: &'a str, known: bool) -> Self {
        Self {
            protocol: None,
            name: Some(name),
            address: None,
            port: None,
            reason: if known { "no rule allows this name" } else { "no rule can allow such a name" }.to_owned(),
            remedy: known.then(|| format!("{} # or another port", policy::allow_line(Protocol::Tcp, name, 443))),
        }
    }

    /// A port at which the name is not allowed was tried.
    pub(super) fn port_of_name(protocol: Protocol, name: &'a str, port: u16) -> Self {
        Self {
            protocol: Some(protocol),
            name: Some(name),
            address: None,
            port: Some(port),
            reason: "no rule allows this port of the name".to_owned(),
            remedy: Some(policy::allow_line(protocol, name, port)),
        }
    }

    /// An address that is not allowed by its number was tried.
    pub(super) fn address(protocol: Protocol, to: SocketAddr) -> Self {
        let address = to.ip().to_canonical();
        Self {
            protocol: Some(protocol),
            name: None,
            address: Some(address),
            port: Some(to.port()),
            reason: "no rule allows this address by its number".to_owned(),
            remedy: (!policy::is_inner(address)).then(|| policy::allow_line(protocol, &address.to_string(), to.port())),
        }
    }

    /// A name that is allowed leads to an address that it may not lead to.
    pub(super) fn rebound(protocol: Protocol, name: &'a str, to: SocketAddr, kind: &str) -> Self {
        Self {
            protocol: Some(protocol),
            name: Some(name),
            address: Some(to.ip()),
            port: Some(to.port()),
            reason: format!("{name} resolves to {}, {kind}", to.ip()),
            remedy: Some(policy::pin_line(name, to.ip())),
        }
    }

    /// A TLS client asks for something else than the name that it connected to.
    pub(super) fn greeting(name: &'a str, port: u16, reason: String, remedy: Option<String>) -> Self {
        Self { protocol: Some(Protocol::Tcp), name: Some(name), address: None, port: Some(port), reason, remedy }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn what_is_refused_is_told_once_and_counted() {
        let (sender, told) = mpsc::channel();
        let mut ledger = Ledger::new(Box::new(move |event| sender.send(format!("{event:?}")).unwrap()));
        for _ in 0..3 {
            ledger.block(Refusal::lookup("evil.example", true));
        }
        for port in 1..=2_000 {
            ledger.block(Refusal::address(Protocol::Udp, SocketAddr::new([192, 0, 2, 1].into(), port)));
        }
        for _ in 0..2 {
            ledger.fail("it breaks", io::ErrorKind::Other.into());
        }
        let traffic = ledger.finish();
        assert_eq!((traffic.blocked.len(), traffic.blocked_omitted), (1_000, 1_001));
        assert_eq!(traffic.blocked[0].count, 3);
        assert_eq!(traffic.blocked[0].remedy.as_deref(), Some("allow = [\"evil.example:443\"] # or another port"));
        assert_eq!(traffic.blocked[1].remedy.as_deref(), Some("allow = [\"udp:192.0.2.1:1\"]"));
        assert_eq!(told.iter().count(), 1_001);
    }

    #[test]
    fn the_list_of_connections_is_bounded_and_in_order() {
        let mut ledger = Ledger::new(Box::new(|_| ()));
        let opening = Opening { protocol: Protocol::Tcp, inward: false, name: Some("a.test"), address: None, port: 80 };
        let places: Vec<_> = (0..10_002).map(|_| ledger.open(&opening)).collect();
        ledger.carried(&places[1], 5, 7);
        ledger.close(&places[1], None);
        ledger.close(&places[10_001], None);
        let traffic = ledger.finish();
        assert_eq!((traffic.connections.len(), traffic.connections_omitted), (10_000, 2));
        let second = &traffic.connections[1];
        assert_eq!((second.sent, second.received, second.error.as_deref()), (5, 7, None));
        assert_eq!(traffic.connections[0].error.as_deref(), Some("the run ended"));
    }
}
