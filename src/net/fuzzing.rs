//! What the fuzz targets call of the readers of what a command sends.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use hickory_proto::op::Message;

use super::dns::{self, Found, Transport, Zone};
use super::tls::{self, Verdict};

/// One name is allowed, one has no room.
struct OneName;

impl Zone for OneName {
    fn knows(&self, name: &str) -> bool {
        name == "a.test" || name == "full.test"
    }

    fn find(&mut self, name: &str, v6: bool) -> Found {
        match name {
            "a.test" if v6 => Found::Address(IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1))),
            "a.test" => Found::Address(IpAddr::V4(Ipv4Addr::new(198, 18, 0, 1))),
            "full.test" => Found::Full,
            _ => Found::Nothing,
        }
    }

    fn name_at(&self, address: IpAddr) -> Option<Arc<str>> {
        (address == Ipv4Addr::new(198, 18, 0, 1)).then(|| "a.test".into())
    }

    fn refuse(&mut self, name: &str, _canonical: bool) {
        assert!(!name.chars().any(char::is_control), "{name:?} would reach a terminal");
    }
}

/// A question about a name.
pub fn dns(bytes: &[u8]) {
    for transport in [Transport::Udp, Transport::Tcp] {
        let Some(answer) = dns::answer(bytes, transport, &mut OneName) else { continue };
        assert!(answer.len() <= if transport == Transport::Udp { 1400 } else { 65535 }, "{} bytes", answer.len());
        assert_eq!(answer[..2], bytes[..2], "the answer to another question");
        let read = Message::from_vec(&answer).expect("an answer that can be read");
        assert!(read.answers.len() <= 1);
    }
}

/// The first bytes of a connection.
pub fn tls(bytes: &[u8]) {
    for ended in [false, true] {
        match tls::judge(bytes, ended, "a.test") {
            Verdict::Wait => assert!(!ended),
            Verdict::Pass => {}
            Verdict::Refuse { reason, asked } => {
                assert!(!reason.chars().chain(asked.iter().flat_map(|name| name.chars())).any(char::is_control));
            }
        }
    }
}
