//! Answers to the questions about names that come from inside. Nothing of them goes anywhere else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR, SOA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use crate::path;

use super::names;

/// How long an address may be kept, in seconds: it is the name's for the whole run.
const ADDRESS_TTL: u32 = 60;
/// How long it may be kept that there is no such thing, in seconds.
const NOTHING_TTL: u32 = 5;
/// What a datagram holds without EDNS (RFC 1035), and with it whatever is asked for (RFC 9715 recommends this much).
const DATAGRAM: (usize, usize) = (512, 1400);
const HEADER: usize = 12;

/// Over what a question came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    /// Long answers are cut, and the asker comes again by TCP.
    Udp,
    /// Answers have any length.
    Tcp,
}

/// What is known of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// It is allowed and has this address inside.
    Address(IpAddr),
    /// It is allowed, and there is no room to serve it.
    Full,
    /// No rule allows it.
    Nothing,
}

/// Who knows the names; they come in canonical form.
pub(super) trait Zone {
    /// Whether a rule allows the name.
    fn knows(&self, name: &str) -> bool;
    /// The name's address inside, of one family.
    fn find(&mut self, name: &str, v6: bool) -> Found;
    /// The name whose address inside this is.
    fn name_at(&self, address: IpAddr) -> Option<Arc<str>>;
    /// A name was asked for that no rule allows. `canonical` is false where it has bytes that no rule can name, which are
    /// escaped.
    fn refuse(&mut self, name: &str, canonical: bool);
}

/// The answer to one message; `None` where none is due: to an answer, or to what is no message.
pub(super) fn answer(bytes: &[u8], transport: Transport, zone: &mut dyn Zone) -> Option<Vec<u8>> {
    let header = bytes.get(..HEADER)?;
    let number = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    // An answer to an answer would be answered.
    if header[2] & 0x80 != 0 {
        return None;
    }
    let operation = OpCode::from_u8(header[2] >> 3 & 0xf);
    let fault = |code| {
        let mut fault = Message::error_msg(number(0), operation, code);
        fault.metadata.recursion_desired = header[2] & 1 != 0;
        fault.metadata.recursion_available = true;
        fault.to_vec().ok()
    };
    if operation != OpCode::Query {
        return fault(ResponseCode::NotImp);
    }
    // A question has one question, no answers, and at most the one record of EDNS. Others are not even parsed.
    if (number(4), number(6), number(8)) != (1, 0, 0) || number(10) > 1 {
        return fault(ResponseCode::FormErr);
    }
    let Ok(asked) = Message::from_vec(bytes) else { return fault(ResponseCode::FormErr) };
    let Some(question) = asked.queries.first() else { return fault(ResponseCode::FormErr) };

    let mut reply = Message::new(asked.metadata.id, MessageType::Response, OpCode::Query);
    reply.metadata.recursion_desired = asked.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    reply.add_query(question.clone());
    let mut most = DATAGRAM.0;
    if let Some(edns) = &asked.edns {
        most = usize::from(edns.max_payload()).clamp(DATAGRAM.0, DATAGRAM.1);
        let mut ours = Edns::new();
        ours.set_max_payload(DATAGRAM.1 as u16);
        ours.set_dnssec_ok(edns.flags().dnssec_ok);
        reply.set_edns(ours);
    }
    if asked.version() > 0 {
        reply.metadata.response_code = ResponseCode::BADVERS;
    } else {
        fill(&mut reply, question, zone);
    }
    let whole = reply.to_vec().ok()?;
    if transport == Transport::Udp && whole.len() > most { reply.truncate().to_vec().ok() } else { Some(whole) }
}

fn fill(reply: &mut Message, question: &Query, zone: &mut dyn Zone) {
    if question.query_class() != DNSClass::IN && question.query_class() != DNSClass::ANY {
        reply.metadata.response_code = ResponseCode::Refused;
        return;
    }
    let (kind, asked) = (question.query_type(), question.name());
    if kind == RecordType::PTR {
        let name = address_of(asked).and_then(|address| match address.is_loopback() {
            true => Some("localhost".into()),
            false => zone.name_at(address),
        });
        match name.and_then(|name| Name::from_ascii(format!("{name}.")).ok()) {
            Some(name) => add(reply, asked, RData::PTR(PTR(name))),
            None => nothing(reply, asked, ResponseCode::NXDomain),
        }
        return;
    }
    let name = names::canonical(asked.iter());
    match name.as_deref() {
        // Never anybody else's (RFC 6761, 6.3).
        Some(name) if name == "localhost" || name.ends_with(".localhost") => match kind {
            RecordType::A | RecordType::ANY => add(reply, asked, RData::A(A(Ipv4Addr::LOCALHOST))),
            RecordType::AAAA => add(reply, asked, RData::AAAA(AAAA(Ipv6Addr::LOCALHOST))),
            _ => nothing(reply, asked, ResponseCode::NoError),
        },
        Some(name) if zone.knows(name) => match kind {
            RecordType::A | RecordType::AAAA | RecordType::ANY => match zone.find(name, kind == RecordType::AAAA) {
                Found::Address(IpAddr::V4(address)) => add(reply, asked, RData::A(A(address))),
                Found::Address(IpAddr::V6(address)) => add(reply, asked, RData::AAAA(AAAA(address))),
                Found::Full => reply.metadata.response_code = ResponseCode::ServFail,
                Found::Nothing => nothing(reply, asked, ResponseCode::NXDomain),
            },
            _ => nothing(reply, asked, ResponseCode::NoError),
        },
        other => {
            // Questions about zones come from resolvers on their own account, the others from programs.
            if !matches!(kind, RecordType::SOA | RecordType::NS | RecordType::DS | RecordType::DNSKEY)
                && !asked.is_root()
            {
                match other {
                    Some(name) => zone.refuse(name, true),
                    None => zone.refuse(&shown(asked), false),
                }
            }
            nothing(reply, asked, ResponseCode::NXDomain);
        }
    }
}

/// A name that no rule can have, for the user to read: a dot within a label is not one between two.
fn shown(name: &Name) -> String {
    let labels: Vec<String> = name.iter().map(|label| path::printable(label).replace('.', "\\.")).collect();
    labels.join(".")
}

/// The address that a name under `in-addr.arpa` or `ip6.arpa` stands for.
fn address_of(name: &Name) -> Option<IpAddr> {
    let network = name.parse_arpa_name().ok()?;
    let whole = if network.addr().is_ipv4() { 32 } else { 128 };
    (network.prefix_len() == whole).then_some(network.addr())
}

fn add(reply: &mut Message, name: &Name, data: RData) {
    reply.add_answer(Record::from_rdata(name.clone(), ADDRESS_TTL, data));
}

/// No such name, or nothing of that kind: with the record that says for how long (RFC 2308).
fn nothing(reply: &mut Message, name: &Name, code: ResponseCode) {
    reply.metadata.response_code = code;
    let Ok(server) = Name::from_ascii("sbx.invalid.") else { return };
    let ttl = NOTHING_TTL as i32;
    let authority = SOA::new(server.clone(), server, 1, ttl, ttl, ttl, NOTHING_TTL);
    let zone = if code == ResponseCode::NoError { name.clone() } else { Name::root() };
    reply.add_authority(Record::from_rdata(zone, NOTHING_TTL, RData::SOA(authority)));
}

#[cfg(test)]
#[path = "dns_tests.rs"]
mod tests;
