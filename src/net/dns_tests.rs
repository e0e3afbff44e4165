//! Questions and answers, well-formed and hostile.

use hickory_proto::rr::rdata::opt::EdnsOption;
use proptest::prelude::*;

use super::*;

/// A zone of `files.example.org` and everything below `test`.
#[derive(Default)]
struct Sample {
    refused: Vec<(String, bool)>,
    full: bool,
}

impl Zone for Sample {
    fn knows(&self, name: &str) -> bool {
        name == "files.example.org" || name.ends_with(".test") || name == "short"
    }

    fn find(&mut self, name: &str, v6: bool) -> Found {
        match (self.full, v6) {
            _ if !self.knows(name) => Found::Nothing,
            (true, _) => Found::Full,
            (false, false) => Found::Address([198, 18, 1, 0].into()),
            (false, true) => Found::Address("2001:2::100".parse().unwrap()),
        }
    }

    fn name_at(&self, address: IpAddr) -> Option<Arc<str>> {
        (address == IpAddr::from([198, 18, 1, 0]) || address.to_string() == "2001:2::100")
            .then(|| "files.example.org".into())
    }

    fn refuse(&mut self, name: &str, canonical: bool) {
        self.refused.push((name.to_owned(), canonical));
    }
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn ask(message: &Message, zone: &mut Sample) -> Message {
    Message::from_vec(&answer(&message.to_vec().unwrap(), Transport::Udp, zone).unwrap()).unwrap()
}

fn asked(name: &str, kind: RecordType) -> (ResponseCode, Vec<String>, Vec<(String, bool)>) {
    let mut zone = Sample::default();
    let reply = ask(&question(name, kind), &mut zone);
    assert_eq!(reply.metadata.id, 4711);
    assert!(reply.metadata.recursion_desired && reply.metadata.recursion_available && !reply.metadata.truncation);
    (reply.metadata.response_code, reply.answers.iter().map(|one| one.data.to_string()).collect(), zone.refused)
}

#[test]
fn allowed_names_have_addresses_and_nothing_else() {
    let none = Vec::<(String, bool)>::new();
    for (name, kind, data) in [
        ("files.example.org.", RecordType::A, vec!["198.18.1.0"]),
        ("FILES.Example.org.", RecordType::AAAA, vec!["2001:2::100"]),
        ("files.example.org.", RecordType::HTTPS, vec![]),
        ("files.example.org.", RecordType::MX, vec![]),
        ("a.b.test.", RecordType::A, vec!["198.18.1.0"]),
        ("short.", RecordType::A, vec!["198.18.1.0"]),
        ("localhost.", RecordType::A, vec!["127.0.0.1"]),
        ("x.LOCALHOST.", RecordType::AAAA, vec!["::1"]),
        ("localhost.", RecordType::TXT, vec![]),
    ] {
        let data: Vec<_> = data.into_iter().map(str::to_owned).collect();
        assert_eq!(asked(name, kind), (ResponseCode::NoError, data, none.clone()), "{name} {kind}");
    }
}

#[test]
fn other_names_are_not_there_and_reported() {
    for name in ["evil.example.", "example.org.", "xfiles.example.org.", "test."] {
        let (code, data, refused) = asked(name, RecordType::A);
        assert_eq!((code, data.len()), (ResponseCode::NXDomain, 0), "{name}");
        assert_eq!(refused, [(name.trim_end_matches('.').to_owned(), true)]);
    }
    assert_eq!(asked("evil.example.", RecordType::SOA).2, []);
    assert_eq!(asked(".", RecordType::NS).2, []);
    let mut zone = Sample::default();
    let mut strange = question("x.", RecordType::A);
    strange.queries[0].set_name(Name::from_labels([&b"files.example.org\0\x1b[2J"[..], b"test"]).unwrap());
    assert_eq!(ask(&strange, &mut zone).metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(zone.refused, [("files\\.example\\.org\\0\\u{1b}[2J.test".to_owned(), false)]);
}

#[test]
fn a_name_that_there_is_no_room_for_fails() {
    let mut zone = Sample { full: true, ..Sample::default() };
    let reply = ask(&question("files.example.org.", RecordType::A), &mut zone);
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
}

#[test]
fn addresses_lead_back_to_names() {
    for (name, data) in [
        ("0.1.18.198.in-addr.arpa.", Some("files.example.org.")),
        ("0.0.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.2.0.0.0.1.0.0.2.ip6.arpa.", Some("files.example.org.")),
        ("1.0.0.127.in-addr.arpa.", Some("localhost.")),
        ("8.8.8.8.in-addr.arpa.", None),
        ("18.198.in-addr.arpa.", None),
        ("files.example.org.", None),
    ] {
        let (code, found, refused) = asked(name, RecordType::PTR);
        assert_eq!(code, if data.is_some() { ResponseCode::NoError } else { ResponseCode::NXDomain }, "{name}");
        assert_eq!((found.first().map(String::as_str), refused.len()), (data, 0), "{name}");
    }
}

#[test]
fn the_question_comes_back_as_it_was() {
    let mut zone = Sample::default();
    let mut message = question("fILeS.eXample.ORG.", RecordType::A);
    let mut edns = Edns::new();
    edns.set_max_payload(4096).set_dnssec_ok(true);
    edns.options_mut().insert(EdnsOption::Unknown(10, vec![1; 8]));
    message.set_edns(edns);
    let reply = ask(&message, &mut zone);
    assert_eq!(reply.queries[0].name().to_ascii(), "fILeS.eXample.ORG.");
    assert_eq!(reply.answers[0].name.to_ascii(), "fILeS.eXample.ORG.");
    assert!(reply.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok && edns.max_payload() == 1400));
    // A version of EDNS that nobody has.
    message.edns.as_mut().unwrap().set_version(1);
    let reply = ask(&message, &mut zone);
    assert_eq!(reply.edns.as_ref().unwrap().rcode_high(), 1);
    assert!(reply.answers.is_empty());
    // Without it there is none.
    assert!(ask(&question("files.example.org.", RecordType::A), &mut zone).edns.is_none());
}

#[test]
fn what_is_no_question_gets_no_answer_or_an_error() {
    let mut zone = Sample::default();
    let mut say = |bytes: &[u8]| {
        answer(bytes, Transport::Udp, &mut zone).map(|reply| Message::from_vec(&reply).unwrap().metadata.response_code)
    };
    let good = question("files.example.org.", RecordType::A).to_vec().unwrap();
    assert_eq!(say(&good), Some(ResponseCode::NoError));
    assert_eq!(say(&[]), None);
    assert_eq!(say(&good[..11]), None);
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    assert_eq!(say(&with(2, 0x81)), None, "an answer");
    assert_eq!(say(&with(2, 0x29)), Some(ResponseCode::NotImp), "an update");
    for (at, count) in [(5, 0), (5, 2), (7, 1), (9, 1), (11, 1), (11, 2)] {
        assert_eq!(say(&with(at, count)), Some(ResponseCode::FormErr), "{count} at {at}");
    }
    for length in 12..good.len() {
        assert_eq!(say(&good[..length]), Some(ResponseCode::FormErr), "{length}");
    }
    // A name that points at itself.
    let mut looped = good[..12].to_vec();
    looped.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1]);
    assert_eq!(say(&looped), Some(ResponseCode::FormErr));
    let mut chaos = question("version.bind.", RecordType::TXT);
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(say(&chaos.to_vec().unwrap()), Some(ResponseCode::Refused));
    assert!(zone.refused.is_empty());
}

#[test]
fn the_longest_name_fits_into_a_datagram() {
    let name = format!("{}.{}.{}.{}.test.", "a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(50));
    let (code, data, _) = asked(&name, RecordType::AAAA);
    assert_eq!((code, data.len()), (ResponseCode::NoError, 1));
    assert_eq!(asked(&name, RecordType::MX).0, ResponseCode::NoError);
}

proptest! {
    #[test]
    fn hostile_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut zone = Sample::default();
        for transport in [Transport::Udp, Transport::Tcp] {
            answer(&bytes, transport, &mut zone);
            // With a header that is let through.
            let mut begun = vec![1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
            begun.extend_from_slice(&bytes);
            if let Some(reply) = answer(&begun, transport, &mut zone) {
                prop_assert!(transport == Transport::Tcp || reply.len() <= DATAGRAM.1);
                prop_assert!(Message::from_vec(&reply).is_ok());
            }
        }
    }

    #[test]
    fn a_damaged_question_does_no_harm(at in 0..80_usize, byte in any::<u8>(), cut in 0..80_usize) {
        let mut message = question("files.example.org.", RecordType::A);
        message.set_edns(Edns::new());
        let mut bytes = message.to_vec().unwrap();
        let length = bytes.len();
        bytes[at % length] = byte;
        bytes.truncate(length - cut % length);
        answer(&bytes, Transport::Udp, &mut Sample::default());
    }
}

#[test]
fn a_dot_within_a_label_is_not_shown_as_one_between_two() {
    let name = |labels: &[&[u8]]| shown(&Name::from_labels(labels.to_vec()).unwrap());
    assert_eq!(name(&[b"ok.test"]), "ok\\.test");
    assert_eq!(name(&[b"a.b", b"wild\0", b"test"]), "a\\.b.wild\\0.test");
}
