//! What the kernel refuses inside, read from its answers: every address is local there, so that a connection to a port where
//! nobody listens gets a reset at once, and a datagram an ICMP message.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::BorrowedFd;

use crate::config::rules::Protocol;
use crate::sys::datagram;
use crate::sys::inside::Refusals;

use super::ledger::Refusal;
use super::policy;
use super::relay::Engine;

const TCP: u8 = 6;
const UDP: u8 = 17;
/// Packets that are read before others have their turn.
const AT_ONCE: usize = 64;

/// Reads what is there. A socket with an error, or with none left, is silent.
pub(super) fn ready(socket: BorrowedFd<'_>, kind: Refusals, engine: &mut Engine) -> bool {
    // Headers are enough: a reset, or an ICMP message with the headers of what it answers.
    let mut packet = [0; 256];
    for _ in 0..AT_ONCE {
        let Ok(got) = datagram::receive(socket, &mut packet) else { break };
        let bytes = &packet[..got.length.min(packet.len())];
        if let Some((protocol, to)) = refused(kind, got.from.ip(), bytes) {
            note(engine, protocol, to);
        }
    }
    true
}

fn note(engine: &mut Engine, protocol: Protocol, to: SocketAddr) {
    if policy::is_own(to.ip()) {
        return;
    }
    match engine.names.at(to.ip()) {
        // Its listeners come with the first look-up; whoever is faster has not been refused by a rule.
        Some(name) if !policy::allows_name(&engine.rules, &name, protocol, to.port()) => {
            engine.ledger.block(Refusal::port_of_name(protocol, &name, to.port()));
        }
        None if !policy::allows_address(&engine.rules, to.ip(), protocol, to.port()) => {
            engine.ledger.block(Refusal::address(protocol, to));
        }
        _ => {}
    }
}

/// What a packet from an address says was refused: the address and port that somebody tried to reach.
fn refused(kind: Refusals, from: IpAddr, packet: &[u8]) -> Option<(Protocol, SocketAddr)> {
    let (from, body) = match kind {
        Refusals::TcpV4 | Refusals::IcmpV4 => Ip::read(packet).map(|outer| (outer.from, outer.body))?,
        Refusals::TcpV6 | Refusals::IcmpV6 => (from, packet),
    };
    match kind {
        // A reset comes from where the connection was to go.
        Refusals::TcpV4 | Refusals::TcpV6 => {
            let flags = *body.get(13)?;
            (flags & 0x04 != 0).then_some((Protocol::Tcp, SocketAddr::new(from, port(body, 0)?)))
        }
        // "Port unreachable" carries the beginning of the datagram that it answers.
        Refusals::IcmpV4 if body.starts_with(&[3, 3]) => unreachable(body),
        Refusals::IcmpV6 if body.starts_with(&[1, 4]) => unreachable(body),
        Refusals::IcmpV4 | Refusals::IcmpV6 => None,
    }
}

fn unreachable(icmp: &[u8]) -> Option<(Protocol, SocketAddr)> {
    let inner = Ip::read(icmp.get(8..)?)?;
    let protocol = match inner.protocol {
        UDP => Protocol::Udp,
        TCP => Protocol::Tcp,
        _ => return None,
    };
    Some((protocol, SocketAddr::new(inner.to, port(inner.body, 2)?)))
}

fn port(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]])).filter(|port| *port != 0)
}

/// A packet of the Internet Protocol.
struct Ip<'a> {
    from: IpAddr,
    to: IpAddr,
    protocol: u8,
    body: &'a [u8],
}

impl<'a> Ip<'a> {
    fn read(packet: &'a [u8]) -> Option<Self> {
        match packet.first()? >> 4 {
            4 => {
                let header: &[u8; 20] = packet.first_chunk()?;
                let length = usize::from(header[0] & 0xf) * 4;
                let address = |at: usize| Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]);
                // Later fragments have no header of what they carry.
                let first = u16::from_be_bytes([header[6], header[7]]) & 0x1fff == 0;
                if length < header.len() || !first {
                    return None;
                }
                let (from, to) = (address(12).into(), address(16).into());
                Some(Self { from, to, protocol: header[9], body: packet.get(length..)? })
            }
            6 => {
                let header: &[u8; 40] = packet.first_chunk()?;
                let address = |at: usize| -> Option<Ipv6Addr> {
                    Some(<[u8; 16]>::try_from(header.get(at..at + 16)?).ok()?.into())
                };
                let (from, to) = (address(8)?.into(), address(24)?.into());
                // Extension headers don't occur: the kernel puts none into what it answers by itself.
                Some(Self { from, to, protocol: header[6], body: packet.get(40..)? })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v4(protocol: u8, from: [u8; 4], to: [u8; 4], body: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0];
        packet.extend_from_slice(&from);
        packet.extend_from_slice(&to);
        packet.extend_from_slice(body);
        packet
    }

    fn v6(protocol: u8, from: &str, to: &str, body: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0, 0, 0, protocol, 64];
        packet.extend_from_slice(&from.parse::<Ipv6Addr>().unwrap().octets());
        packet.extend_from_slice(&to.parse::<Ipv6Addr>().unwrap().octets());
        packet.extend_from_slice(body);
        packet
    }

    const RESET: [u8; 20] = [0, 22, 200, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0x50, 0x14, 0, 0, 0, 0, 0, 0];

    #[test]
    fn a_reset_tells_where_the_connection_was_to_go() {
        let (from_v4, from_v6) = ("192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap());
        let packet = v4(TCP, [192, 0, 2, 7], [127, 0, 0, 1], &RESET);
        let told = refused(Refusals::TcpV4, from_v4, &packet);
        assert_eq!(told, Some((Protocol::Tcp, "192.0.2.7:22".parse().unwrap())));
        let told = refused(Refusals::TcpV6, from_v6, &RESET);
        assert_eq!(told, Some((Protocol::Tcp, "[2001:db8::7]:22".parse().unwrap())));
        let mut other = RESET;
        other[13] = 0x12;
        assert_eq!(refused(Refusals::TcpV4, from_v4, &v4(TCP, [192, 0, 2, 7], [127, 0, 0, 1], &other)), None);
        assert_eq!(refused(Refusals::TcpV6, from_v6, &other), None);
    }

    #[test]
    fn an_icmp_message_tells_where_the_datagram_was_to_go() {
        let datagram = [200, 1, 1, 187, 0, 8, 0, 0];
        let mut icmp = vec![3, 3, 0, 0, 0, 0, 0, 0];
        icmp.extend(v4(UDP, [127, 0, 0, 1], [192, 0, 2, 7], &datagram));
        // Who says so does not matter here.
        let from = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let packet = v4(1, [192, 0, 2, 7], [127, 0, 0, 1], &icmp);
        let told = refused(Refusals::IcmpV4, from, &packet);
        assert_eq!(told, Some((Protocol::Udp, "192.0.2.7:443".parse().unwrap())));
        icmp[1] = 1;
        assert_eq!(refused(Refusals::IcmpV4, from, &v4(1, [192, 0, 2, 7], [127, 0, 0, 1], &icmp)), None);
        let mut icmp = vec![1, 4, 0, 0, 0, 0, 0, 0];
        icmp.extend(v6(UDP, "::1", "2001:db8::7", &datagram));
        let told = refused(Refusals::IcmpV6, from, &icmp);
        assert_eq!(told, Some((Protocol::Udp, "[2001:db8::7]:443".parse().unwrap())));
        for length in 0..icmp.len() - 4 {
            assert_eq!(refused(Refusals::IcmpV6, from, &icmp[..length]), None);
        }
    }

    proptest! {
        #[test]
        fn hostile_packets_do_no_harm(
            bytes in prop::collection::vec(any::<u8>(), 0..120), protocol in any::<u8>(), first in any::<u8>()
        ) {
            let from = IpAddr::V6(Ipv6Addr::LOCALHOST);
            let all = |packet: &[u8]| {
                for kind in Refusals::ALL {
                    refused(kind, from, packet);
                }
            };
            all(&bytes);
            for protocol in [protocol, TCP, UDP] {
                let mut packet = v4(protocol, [1, 2, 3, 4], [4, 3, 2, 1], &bytes);
                packet[0] = first;
                all(&packet);
                all(&v6(protocol, "::1", "::2", &bytes));
                for kind in [[3, 3], [1, 4]] {
                    let mut icmp = kind.to_vec();
                    icmp.extend_from_slice(&[0; 6]);
                    icmp.extend_from_slice(&packet);
                    all(&icmp);
                    all(&v4(1, [1, 2, 3, 4], [4, 3, 2, 1], &icmp));
                }
            }
        }
    }
}
