//! What `[network]` declares, checked: rules, published ports, pinned names. Pure data; the texts that were parsed can be
//! written again from it.

mod parse;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

pub(super) use parse::pinned;

/// `[network]` with `allow`, `publish` or both.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// What the command may connect to, in the order written.
    pub allow: Vec<Rule>,
    /// The host's ports that lead inside, in the order written.
    pub publish: Vec<Publish>,
    /// Addresses pinned to names, on the host's side; a rule reaches each of the names.
    pub hosts: BTreeMap<HostName, IpAddr>,
}

/// One entry of `allow`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// TCP unless the entry begins with `udp:`.
    pub protocol: Protocol,
    /// Whom it allows.
    pub peer: Peer,
    /// At which ports.
    pub ports: Ports,
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
}

/// Whom a rule allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// Exactly this name.
    Name(HostName),
    /// `*.name`: every name below it, at any depth, not the name itself.
    Below(HostName),
    /// These addresses, by number only. Whatever the prefix holds can be reached at every port of the rule: for a prefix of
    /// more than 256 addresses the relay listens at every address there is, and judges each connection. Addresses of the
    /// range that names get theirs from ([`crate::plan::network`]) stay the names', also where a prefix covers them.
    Addresses(Prefix),
}

/// A host name in canonical form: lowercase ASCII labels of letters, digits, `-` and `_`, 1 to 63 bytes each, no dot at the
/// end, at most 253 bytes, and not the spelling of an address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(String);

/// An address prefix; the bits behind its length are zero. IPv4 is never in IPv6's mapped form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

/// Ports, as ranges that are sorted, apart, and not empty; never port 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ports(Vec<RangeInclusive<u16>>);

/// One entry of `publish`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publish {
    /// TCP unless the entry begins with `udp:`.
    pub protocol: Protocol,
    /// Where the host listens.
    pub host: SocketAddr,
    /// The port inside, at the loopback addresses.
    pub inside: u16,
}

impl Peer {
    /// Whether it allows this name.
    pub fn covers(&self, name: &HostName) -> bool {
        match self {
            Self::Name(exact) => exact == name,
            Self::Below(above) => name.0.strip_suffix(&above.0).is_some_and(|front| front.ends_with('.')),
            Self::Addresses(_) => false,
        }
    }
}

impl HostName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Prefix {
    /// The first address.
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// How many leading bits are fixed.
    pub fn length(self) -> u8 {
        self.length
    }
}

impl Ports {
    /// The ranges, sorted and apart.
    pub fn ranges(&self) -> &[RangeInclusive<u16>] {
        &self.0
    }

    /// Whether `port` is one of them.
    pub fn contains(&self, port: u16) -> bool {
        self.0.iter().any(|range| range.contains(&port))
    }
}

impl Publish {
    /// Whether the host can't listen for both: the same protocol and port, and an address that is in the other.
    pub fn collides(self, other: Self) -> bool {
        let (one, two) = (self.host, other.host);
        let same_family = one.is_ipv4() == two.is_ipv4();
        let within = one.ip() == two.ip() || same_family && (one.ip().is_unspecified() || two.ip().is_unspecified());
        self.protocol == other.protocol && one.port() == two.port() && within
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = if self.address.is_ipv4() { 32 } else { 128 };
        if self.length == whole { write!(f, "{}", self.address) } else { write!(f, "{}/{}", self.address, self.length) }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            match (range.start(), range.end()) {
                (start, end) if start == end => write!(f, "{comma}{start}")?,
                (start, end) => write!(f, "{comma}{start}-{end}")?,
            }
        }
        Ok(())
    }
}

/// The canonical text: what could stand in `allow`.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.protocol, &self.peer) {
            (Protocol::Udp, _) => f.write_str("udp:")?,
            // A host of such a name, and not a protocol.
            (Protocol::Tcp, Peer::Name(name)) if ["tcp", "udp"].contains(&name.as_str()) => f.write_str("tcp:")?,
            (Protocol::Tcp, _) => {}
        }
        match &self.peer {
            Peer::Name(name) => write!(f, "{name}")?,
            Peer::Below(name) => write!(f, "*.{name}")?,
            Peer::Addresses(prefix) if prefix.address.is_ipv6() => write!(f, "[{prefix}]")?,
            Peer::Addresses(prefix) => write!(f, "{prefix}")?,
        }
        write!(f, ":{}", self.ports)
    }
}

/// The canonical text: what could stand in `publish`.
impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.protocol == Protocol::Udp {
            f.write_str("udp:")?;
        }
        write!(f, "{}:{}", self.host, self.inside)
    }
}
