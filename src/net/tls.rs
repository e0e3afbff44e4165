//! The server name that a TLS client asks for, read from its first bytes (RFC 8446, 4.1.2 and 5.1; RFC 6066, 3).
//!
//! Only the ClientHello is read, which no version of TLS encrypts. What is no TLS is nobody's business here.

use crate::path;

use super::names;

/// How many bytes of a greeting are waited for. A ClientHello has a few hundred, with post-quantum keys about two thousand.
pub(super) const MOST: usize = 64 * 1024;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
/// A record carries at most 2^14 bytes in clear.
const RECORD: usize = 1 << 14;

/// What the first bytes of a connection are.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Greeting {
    /// They don't begin as a TLS client's do.
    Other,
    /// They do so far; more are needed.
    Part,
    /// A TLS client's, with the server name it asks for.
    Tls(Option<Vec<u8>>),
    /// They begin as a TLS client's do and then break its rules.
    Broken,
}

/// What to do with a connection whose first bytes were seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Let them through: they are no TLS, or ask for the connection's name or for none.
    Pass,
    /// See more of them.
    Wait,
    /// End it.
    Refuse {
        /// Why, in words.
        reason: String,
        /// The name that was asked for, in canonical form, if it has one.
        asked: Option<String>,
    },
}

/// Judges the first bytes of a connection by `name`; `ended` says that no more will come.
pub(super) fn judge(bytes: &[u8], ended: bool, name: &str) -> Verdict {
    match look(bytes) {
        Greeting::Part if bytes.is_empty() => Verdict::Pass,
        Greeting::Part if bytes.len() < MOST && !ended => Verdict::Wait,
        Greeting::Other | Greeting::Tls(None) => Verdict::Pass,
        Greeting::Tls(Some(asked)) if agrees(&asked, name) => Verdict::Pass,
        Greeting::Tls(Some(asked)) => Verdict::Refuse {
            reason: format!("the TLS client asks for {} on a connection to {name}", path::printable(&asked)),
            asked: names::canonical(asked.split(|byte| *byte == b'.')),
        },
        Greeting::Part | Greeting::Broken => {
            Verdict::Refuse { reason: "the TLS client's greeting can't be read".to_owned(), asked: None }
        }
    }
}

/// Looks at the first bytes.
fn look(bytes: &[u8]) -> Greeting {
    let mut hello = Vec::new();
    let mut rest = bytes;
    loop {
        // A record: its kind, the version (3 and whatever), the length of what it carries.
        let begins = [HANDSHAKE, 3];
        let seen = rest.len().min(begins.len());
        if rest[..seen] != begins[..seen] {
            return if hello.is_empty() { Greeting::Other } else { Greeting::Broken };
        }
        let Some((&[_, _, _, high, low], body)) = rest.split_first_chunk() else { return Greeting::Part };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length == 0 || length > RECORD {
            return if hello.is_empty() { Greeting::Other } else { Greeting::Broken };
        }
        hello.extend_from_slice(&body[..body.len().min(length)]);
        if hello.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Greeting::Broken;
        }
        if let Some((&[_, a, b, c], message)) = hello.split_first_chunk() {
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            if length > MOST {
                return Greeting::Broken;
            }
            if let Some(message) = message.get(..length) {
                return server_name(message).map_or(Greeting::Broken, Greeting::Tls);
            }
        }
        let Some(next) = body.get(length..) else { return Greeting::Part };
        rest = next;
    }
}

/// Reads on in a message; `None` at its end.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn short(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// What follows a length of one byte.
    fn small(&mut self) -> Option<&'a [u8]> {
        let length = self.take(1)?[0];
        self.take(usize::from(length))
    }

    /// What follows a length of two bytes.
    fn large(&mut self) -> Option<&'a [u8]> {
        let length = self.short()?;
        self.take(usize::from(length))
    }
}

/// The server name of a ClientHello, if it has one; `None` where the message is malformed.
fn server_name(message: &[u8]) -> Option<Option<Vec<u8>>> {
    let mut reader = Reader(message);
    // Version and random, session, cipher suites, compressions.
    reader.take(34)?;
    reader.small()?;
    reader.large()?;
    reader.small()?;
    if reader.0.is_empty() {
        // Before extensions were.
        return Some(None);
    }
    let mut extensions = Reader(reader.large()?);
    if !reader.0.is_empty() {
        return None;
    }
    let mut found = None;
    while !extensions.0.is_empty() {
        let kind = extensions.short()?;
        let body = extensions.large()?;
        if kind != SERVER_NAME {
            continue;
        }
        // One list of one name of the one kind there is, or servers differ about which one counts.
        let mut outer = Reader(body);
        let mut list = Reader(outer.large()?);
        let host = list.take(1)?[0] == 0;
        let name = list.large()?;
        if !host || found.is_some() || !outer.0.is_empty() || !list.0.is_empty() || name.is_empty() {
            return None;
        }
        found = Some(name.to_vec());
    }
    Some(found)
}

/// Whether the server name that was asked for is `name`, which is in canonical form.
fn agrees(asked: &[u8], name: &str) -> bool {
    asked.eq_ignore_ascii_case(name.as_bytes())
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use rustls::pki_types::ServerName;

    use super::*;

    /// What rustls's client says first.
    pub(in crate::net) fn hello(name: &str) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn the_server_name_is_read_once_it_is_whole() {
        let bytes = hello("files.example.org");
        assert_eq!(look(&bytes), Greeting::Tls(Some(b"files.example.org".to_vec())));
        for length in 0..bytes.len() {
            assert_eq!(look(&bytes[..length]), Greeting::Part, "{length}");
        }
        assert_eq!(look(&hello("192.0.2.1")), Greeting::Tls(None));
        assert!(agrees(b"Files.Example.ORG", "files.example.org"));
        for other in [&b"files.example.org."[..], b"example.org", b"files.example.org\0", b"\0files.example.org"] {
            assert!(!agrees(other, "files.example.org"));
        }
    }

    #[test]
    fn a_greeting_in_many_records_is_one_greeting() {
        let whole = hello("files.example.org");
        let mut pieces = Vec::new();
        for piece in whole[5..].chunks(7) {
            pieces.extend_from_slice(&[22, 3, 1, 0, piece.len() as u8]);
            pieces.extend_from_slice(piece);
        }
        assert_eq!(look(&pieces), Greeting::Tls(Some(b"files.example.org".to_vec())));
    }

    #[test]
    fn other_protocols_are_told_apart_at_once() {
        for other in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"SSH-2.0-x\r\n",
            b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
            b"\x16\x02",
            b"\x16\x03\x01\0\0",
        ] {
            assert_eq!(look(other), Greeting::Other);
        }
        // A handshake that is no ClientHello, and one that goes on as something else.
        assert_eq!(look(&[22, 3, 1, 0, 4, 2, 0, 0, 0]), Greeting::Broken);
        assert_eq!(look(&[22, 3, 1, 0, 1, 1, 23]), Greeting::Broken);
        assert_eq!(look(&[22, 3, 1, 0, 4, 1, 255, 255, 255]), Greeting::Broken);
    }

    #[test]
    fn two_names_are_none() {
        let whole = hello("files.example.org");
        let at = whole.windows(17).position(|window| window == b"files.example.org").unwrap();
        // The list's, the entry's and the extension's lengths stand before it; make the entry one byte shorter.
        let mut broken = whole.clone();
        broken[at - 1] -= 1;
        assert_eq!(look(&broken), Greeting::Broken);
        let mut broken = whole;
        broken[at - 3] = 1;
        assert_eq!(look(&broken), Greeting::Broken);
    }

    proptest! {
        #[test]
        fn whatever_comes_is_looked_at(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            look(&bytes);
            let mut begun = vec![22, 3, 1, 0, 80, 1, 0, 0, 76];
            begun.extend_from_slice(&bytes);
            look(&begun);
        }

        #[test]
        fn a_changed_greeting_never_gives_the_name_of_another(at in 0..400_usize, byte in any::<u8>()) {
            let mut bytes = hello("files.example.org");
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = look(&bytes);
        }
    }
}
