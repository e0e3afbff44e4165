//! Who may be reached: pure decisions about names, addresses and ports.
//!
//! A name that a rule allows may lead to public addresses only: whoever runs its DNS could otherwise point it at this
//! machine, its neighbours, or a cloud's metadata service (rebinding). An address that is to be reached all the same is
//! pinned to the name (`hosts`) or allowed by its number.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::rules::{Peer, Prefix, Protocol, Rule, Rules};
use crate::plan::network;

/// Up to so many addresses of a rule are listened at one by one; for more, one listener takes them all.
const ONE_BY_ONE: u32 = 256;

fn is_peer(rule: &Rule, name: &str) -> bool {
    match &rule.peer {
        Peer::Name(allowed) => allowed.as_str() == name,
        Peer::Below(parent) => name
            .strip_suffix(parent.as_str())
            .and_then(|rest| rest.strip_suffix('.'))
            .is_some_and(|rest| !rest.is_empty()),
        Peer::Addresses(_) => false,
    }
}

/// Whether a rule allows this name (in canonical form) at any port.
pub fn knows_name(rules: &Rules, name: &str) -> bool {
    rules.allow.iter().any(|rule| is_peer(rule, name))
}

/// Whether a rule allows this name (in canonical form) at this port.
pub fn allows_name(rules: &Rules, name: &str, protocol: Protocol, port: u16) -> bool {
    rules.allow.iter().any(|rule| rule.protocol == protocol && is_peer(rule, name) && rule.ports.contains(port))
}

/// The ports at which this name (in canonical form) is allowed, sorted, each once.
pub fn ports_of_name(rules: &Rules, name: &str, protocol: Protocol) -> BTreeSet<u16> {
    let rules = rules.allow.iter().filter(|rule| rule.protocol == protocol && is_peer(rule, name));
    rules.flat_map(|rule| rule.ports.ranges().iter().cloned().flatten()).collect()
}

/// Whether a rule allows this address, by number, at this port.
///
/// The host's loopback addresses are behind a rule only if the rule names nothing else: who allows `0.0.0.0/0` means the
/// network. The addresses that stand for names inside are nobody's.
pub fn allows_address(rules: &Rules, address: IpAddr, protocol: Protocol, port: u16) -> bool {
    let address = address.to_canonical();
    rules.allow.iter().any(|rule| match rule.peer {
        Peer::Addresses(prefix) => rule.protocol == protocol && rule.ports.contains(port) && reaches(prefix, address),
        Peer::Name(_) | Peer::Below(_) => false,
    })
}

fn reaches(prefix: Prefix, address: IpAddr) -> bool {
    prefix.contains(address) && !is_inner(address) && (!address.is_loopback() || prefix.address().is_loopback())
}

/// Whether the address is one of those that a sandbox gives to itself, its resolver and its names.
pub fn is_inner(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => within_v4(address, [198, 18, 0, 0], 15),
        IpAddr::V6(address) => within_v6(address, "2001:2::", 48),
    }
}

/// Whether the address is one at which the sandbox's own programs listen: what is refused there is not the network's matter.
pub fn is_own(address: IpAddr) -> bool {
    let configured = address == IpAddr::V4(network::OWN_V4) || address == IpAddr::V6(network::OWN_V6);
    configured || address.is_loopback() || address.is_unspecified()
}

/// Where to listen inside for the rules that allow addresses by number, sorted.
///
/// An unspecified address stands for every address of its family: what is allowed of them is decided for each
/// connection.
pub fn address_listeners(rules: &Rules) -> BTreeSet<(Protocol, SocketAddr)> {
    let mut found = BTreeSet::new();
    for rule in &rules.allow {
        let Peer::Addresses(prefix) = rule.peer else { continue };
        for address in addresses(prefix) {
            for port in rule.ports.ranges().iter().cloned().flatten() {
                found.insert((rule.protocol, SocketAddr::new(address, port)));
            }
        }
    }
    let covered = |entry: &(Protocol, SocketAddr)| {
        let any = if entry.1.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
        !entry.1.ip().is_unspecified() && found.contains(&(entry.0, SocketAddr::new(any, entry.1.port())))
    };
    found.iter().filter(|entry| !covered(entry)).copied().collect()
}

/// The addresses of a rule to listen at.
fn addresses(prefix: Prefix) -> Vec<IpAddr> {
    let (whole, any) = match prefix.address() {
        IpAddr::V4(_) => (32, IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        IpAddr::V6(_) => (128, IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
    };
    let count = 1_u32.checked_shl(whole - u32::from(prefix.length())).filter(|count| *count <= ONE_BY_ONE);
    let Some(count) = count else { return vec![any] };
    let nth = |index| match prefix.address() {
        IpAddr::V4(first) => IpAddr::V4(Ipv4Addr::from_bits(first.to_bits() + index)),
        IpAddr::V6(first) => IpAddr::V6(Ipv6Addr::from_bits(first.to_bits() + u128::from(index))),
    };
    (0..count).map(nth).filter(|address| !is_inner(*address)).collect()
}

/// What kind of address it is if a name may not lead to it, with its article; `None` for a public one.
///
/// After IANA's registries of special-purpose addresses (RFC 6890 and its successors). An IPv6 address that carries an
/// IPv4 address is judged by that one.
pub fn special(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => special_v4(address),
        IpAddr::V6(address) => special_v6(address),
    }
}

fn within_v4(address: Ipv4Addr, first: [u8; 4], length: u32) -> bool {
    (address.to_bits() ^ u32::from_be_bytes(first)).leading_zeros() >= length
}

fn special_v4(address: Ipv4Addr) -> Option<&'static str> {
    let kinds: [([u8; 4], u32, &str); 18] = [
        ([0, 0, 0, 0], 8, "an address of this host only"),
        ([10, 0, 0, 0], 8, "a private address"),
        ([100, 64, 0, 0], 10, "a provider's private address"),
        ([127, 0, 0, 0], 8, "a loopback address"),
        ([169, 254, 169, 254], 32, "the address of a cloud's metadata"),
        ([169, 254, 0, 0], 16, "a link-local address"),
        ([172, 16, 0, 0], 12, "a private address"),
        ([192, 0, 0, 0], 24, "an address of the IETF's protocols"),
        ([192, 0, 2, 0], 24, "an address for documentation"),
        ([192, 88, 99, 0], 24, "a 6to4 relay's address"),
        ([192, 168, 0, 0], 16, "a private address"),
        ([198, 18, 0, 0], 15, "a benchmarking address"),
        ([198, 51, 100, 0], 24, "an address for documentation"),
        ([203, 0, 113, 0], 24, "an address for documentation"),
        ([224, 0, 0, 0], 4, "a multicast address"),
        ([255, 255, 255, 255], 32, "the broadcast address"),
        ([240, 0, 0, 0], 4, "a reserved address"),
        // Azure's, public by its number and reachable from its machines only.
        ([168, 63, 129, 16], 32, "the address of a cloud's metadata"),
    ];
    kinds.iter().find(|(first, length, _)| within_v4(address, *first, *length)).map(|(_, _, kind)| *kind)
}

fn within_v6(address: Ipv6Addr, first: &str, length: u32) -> bool {
    first.parse::<Ipv6Addr>().is_ok_and(|first| (address.to_bits() ^ first.to_bits()).leading_zeros() >= length)
}

fn special_v6(address: Ipv6Addr) -> Option<&'static str> {
    const KINDS: [(&str, u32, &str); 14] = [
        ("::1", 128, "a loopback address"),
        ("::", 128, "an address of this host only"),
        ("64:ff9b:1::", 48, "an address of a local translator"),
        ("100::", 64, "an address that is thrown away"),
        ("100:0:0:1::", 64, "an address that is thrown away"),
        ("2001:2::", 48, "a benchmarking address"),
        ("2001:10::", 28, "an identifier and no address"),
        ("2001:db8::", 32, "an address for documentation"),
        ("3fff::", 20, "an address for documentation"),
        ("5f00::", 16, "a segment identifier"),
        ("fc00::", 7, "a private address"),
        ("fe80::", 10, "a link-local address"),
        ("fec0::", 10, "a site-local address"),
        ("ff00::", 8, "a multicast address"),
    ];
    // What of 2001::/23 is reachable everywhere.
    const GLOBAL: [(&str, u32); 6] = [
        ("2001:1::1", 128),
        ("2001:1::2", 128),
        ("2001:3::", 32),
        ("2001:4:112::", 48),
        ("2001:20::", 28),
        ("2001:30::", 28),
    ];
    if let Some((_, _, kind)) = KINDS.iter().find(|(first, length, _)| within_v6(address, first, *length)) {
        return Some(kind);
    }
    let bits = address.to_bits();
    let v4_at = |shift: u32| Ipv4Addr::from_bits((bits >> shift) as u32);
    if within_v6(address, "::ffff:0:0", 96) || within_v6(address, "64:ff9b::", 96) {
        return special_v4(v4_at(0));
    }
    if within_v6(address, "2002::", 16) {
        return special_v4(v4_at(80));
    }
    if within_v6(address, "2001::", 32) {
        // Teredo: the server's address, and the client's with every bit turned (RFC 4380).
        return special_v4(v4_at(64)).or_else(|| special_v4(Ipv4Addr::from_bits(!v4_at(0).to_bits())));
    }
    if within_v6(address, "::", 96) {
        // IPv4-compatible addresses (RFC 4291), long gone.
        return special_v4(v4_at(0)).or(Some("a reserved address"));
    }
    if within_v6(address, "2001::", 23) && !GLOBAL.iter().any(|(first, length)| within_v6(address, first, *length)) {
        return Some("an address of the IETF's protocols");
    }
    // All that is given out is within 2000::/3.
    (!within_v6(address, "2000::", 3)).then_some("a reserved address")
}

/// The line that allows `peer`, a name or an address, at `port`.
pub fn allow_line(protocol: Protocol, peer: &str, port: u16) -> String {
    let udp = if protocol == Protocol::Udp { "udp:" } else { "" };
    let peer = if peer.contains(':') { format!("[{peer}]") } else { peer.to_owned() };
    format!("allow = [\"{udp}{peer}:{port}\"]")
}

/// The line that pins `address` to `name`.
pub fn pin_line(name: &str, address: IpAddr) -> String {
    format!("hosts = {{ \"{name}\" = \"{address}\" }}")
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
