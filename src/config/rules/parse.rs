//! The texts of `[network]`: rules, published ports, pinned names and addresses. Each is canonical data or a fault; what
//! could be read in two ways is a fault.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use super::super::values::Bad;
use super::{HostName, Peer, Ports, Prefix, Protocol, Publish, Rule};

/// The most ports that a rule may open: each is a listener.
const PORTS_MAX: usize = 1024;
/// The longest name and the longest label, in bytes (RFC 1035, section 2.3.4, without the root's).
const NAME_MAX: usize = 253;
const LABEL_MAX: usize = 63;

/// The ports of the schemes that people paste.
const SCHEMES: [(&str, u16); 6] = [("https", 443), ("http", 80), ("wss", 443), ("ws", 80), ("ssh", 22), ("git", 9418)];

impl Rule {
    /// Reads an entry of `allow`: `name:ports`, `*.name:ports`, `address:ports`, `address/length:ports`, IPv6 in
    /// brackets, `udp:` before it for datagrams.
    ///
    /// # Errors
    /// When the text is anything else, or names what no rule can open: loopback, multicast and unspecified addresses, and
    /// `localhost`, are the sandbox's own.
    pub fn parse(text: &str) -> Result<Self, Bad> {
        if text.is_empty() {
            return Err(Bad::new("is empty").hint("write it as \"name:port\"; an empty list allows nothing"));
        }
        plain(text)?;
        let (protocol, rest) = protocol(text);
        let (peer, ports) = match rest.strip_prefix('[') {
            Some(inner) => bracketed(inner)?,
            None => match rest.rsplit_once(':') {
                Some((peer, ports)) => (unbracketed(rest, peer, ports)?, Some(ports)),
                None => (named(rest)?, None),
            },
        };
        let Some(ports) = ports else {
            return Err(Bad::new("has no port").hint(format!("name it, as in `{rest}:443`")));
        };
        Ok(Self { protocol, peer, ports: Ports::parse(ports)? })
    }
}

impl HostName {
    /// Reads a name: upper case becomes lower case, one dot at the end is dropped.
    ///
    /// # Errors
    /// When it has other characters than letters, digits, `-`, `_` and dots, an empty or too long label, a label with `-` at
    /// an end, or spells an address in whatever way.
    pub fn parse(text: &str) -> Result<Self, Bad> {
        plain(text)?;
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.is_empty() {
            return Err(Bad::new("has no name"));
        }
        if let Some(other) = name.chars().find(|c| !c.is_ascii_alphanumeric() && !"-_.".contains(*c)) {
            let hint = if other == '*' { "`*` stands first only, as in `*.example.org`" } else { NAMES };
            return Err(Bad::new(format!("has a {other:?} in its name")).hint(hint));
        }
        if name.len() > NAME_MAX {
            return Err(Bad::new(format!("has a name of {} bytes", name.len())).hint(format!("at most {NAME_MAX}")));
        }
        for label in name.split('.') {
            if label.is_empty() {
                return Err(Bad::new("has an empty part in its name").hint("one `.` between two parts"));
            }
            if label.len() > LABEL_MAX {
                let why = format!("has a part of {} bytes in its name", label.len());
                return Err(Bad::new(why).hint(format!("at most {LABEL_MAX} between two dots")));
            }
            if label.starts_with('-') || label.ends_with('-') {
                return Err(Bad::new(format!("has the part `{label}`, with a `-` at its end")).hint(NAMES));
            }
        }
        if ends_in_a_number(name) {
            let hint = "an IPv4 address is four decimal numbers without leading zeros, such as 10.1.2.3";
            return Err(Bad::new("has a number for a name, as addresses do").hint(hint));
        }
        Ok(Self(name.to_ascii_lowercase()))
    }
}

/// What a name is made of, as a hint.
const NAMES: &str = "a name has letters, digits, `_` and inner `-`, in parts with `.` between";

impl Prefix {
    /// Reads an address or `address/length`, IPv6 without brackets.
    ///
    /// # Errors
    /// When it is neither, when bits behind the length are set, and for IPv4 in IPv6's mapped form.
    pub fn parse(text: &str) -> Result<Self, Bad> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address = address_of(address)?;
        let whole = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => whole,
            Some(digits) => number(digits)
                .filter(|length| *length <= u32::from(whole))
                .map(|length| length as u8)
                .ok_or_else(|| {
                    Bad::new(format!("has a wrong prefix length, {digits:?}"))
                        .hint(format!("a number from 0 to {whole}"))
                })?,
        };
        let prefix = Self { address: masked(address, length), length };
        if prefix.address == address {
            Ok(prefix)
        } else {
            let why = format!("has bits behind the first {length}");
            Err(Bad::new(why).hint(format!("`{prefix}` is the prefix, `{address}` the one address")))
        }
    }

    /// Whether `address` is one of them. IPv4 in IPv6's mapped form is never.
    pub fn contains(self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4() && masked(address, self.length) == self.address
    }

    fn overlaps(self, other: Self) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }
}

impl Ports {
    /// Reads ports and ranges with commas between: `443`, `8000-8010,9000`.
    ///
    /// # Errors
    /// When there is none, one is no port from 1 to 65535, a range goes backwards, or there are more than 1024.
    pub fn parse(text: &str) -> Result<Self, Bad> {
        if text.is_empty() {
            return Err(Bad::new("has no port behind its last `:`"));
        }
        let mut ranges: Vec<RangeInclusive<u16>> = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (port(first)?, port(last)?);
            if first > last {
                let why = format!("has a range that goes backwards, {part}");
                return Err(Bad::new(why).hint(format!("write `{last}-{first}`")));
            }
            ranges.push(first..=last);
        }
        ranges.sort_by_key(|range| *range.start());
        let mut apart: Vec<RangeInclusive<u16>> = Vec::new();
        for range in ranges {
            match apart.last_mut() {
                Some(before) if u32::from(*range.start()) <= u32::from(*before.end()) + 1 => {
                    *before = *before.start()..=*before.end().max(range.end());
                }
                _ => apart.push(range),
            }
        }
        let count: usize = apart.iter().map(ExactSizeIterator::len).sum();
        if count > PORTS_MAX {
            let why = format!("has {count} ports");
            return Err(Bad::new(why).hint(format!("a rule opens at most {PORTS_MAX}: each is a listener")));
        }
        Ok(Self(apart))
    }
}

impl Publish {
    /// Reads an entry of `publish`: `8080:80` (at 127.0.0.1), `address:8080:80`, IPv6 in brackets, `udp:` before it for
    /// datagrams.
    ///
    /// # Errors
    /// When the text is anything else, a port is 0, or the address can't be listened at.
    pub fn parse(text: &str) -> Result<Self, Bad> {
        let form = "write it as \"8080:80\" or \"127.0.0.1:8080:80\": the host's port, then the port inside";
        if text.is_empty() {
            return Err(Bad::new("is empty").hint(form));
        }
        plain(text)?;
        let (protocol, rest) = protocol(text);
        let Some((front, inside)) = rest.rsplit_once(':') else {
            return Err(Bad::new("has one part").hint(form));
        };
        let (address, outside) = match front.rsplit_once(':') {
            None => (None, front),
            Some((address, outside)) => (Some(address), outside),
        };
        let address = match address {
            None => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Some(address) => listening(address)?,
        };
        Ok(Self { protocol, host: SocketAddr::new(address, port(outside)?), inside: port(inside)? })
    }
}

/// Reads the address that a name is pinned to.
pub(in super::super) fn pinned(text: &str) -> Result<IpAddr, Bad> {
    plain(text)?;
    let address = address_of(text).map_err(|bad| match text.parse::<IpAddr>() {
        Ok(_) => bad,
        Err(_) => Bad { why: "is no address".to_owned(), ..bad },
    })?;
    let broadcast = address == IpAddr::V4(Ipv4Addr::BROADCAST);
    if address.is_unspecified() || address.is_multicast() || broadcast {
        return Err(Bad::new("is no address of one host").hint("a name is pinned to the address of a host"));
    }
    Ok(address)
}

/// The host's address of an entry of `publish`.
fn listening(text: &str) -> Result<IpAddr, Bad> {
    let address = match text.strip_prefix('[') {
        Some(inner) => match inner.strip_suffix(']').map(str::parse::<Ipv6Addr>) {
            Some(Ok(address)) => unmapped(address)?,
            _ => return Err(Bad::new(format!("has no IPv6 address in `{text}`")).hint("such as `[::1]:8080:80`")),
        },
        None if text.contains(':') => {
            return Err(Bad::new("has too many `:`").hint("an IPv6 address stands in brackets, as in `[::1]:8080:80`"));
        }
        None => match text {
            "" | "*" => return Err(Bad::new("has no address").hint("`0.0.0.0` is every IPv4 address of the host")),
            "localhost" => return Err(Bad::new("has a name for an address").hint("write `127.0.0.1`")),
            _ => address_of(text)?,
        },
    };
    if address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST) {
        return Err(Bad::new(format!("has the address {address}, at which nothing can listen")));
    }
    Ok(address)
}

/// What no text of `[network]` has, and what is most likely meant.
fn plain(text: &str) -> Result<(), Bad> {
    if text.chars().any(char::is_control) {
        return Err(Bad::new("has a control character"));
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        let rest = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let place = rest.rsplit('@').next().unwrap_or_default();
        let port = SCHEMES.iter().find(|(name, _)| *name == scheme).map(|(_, port)| *port);
        let hint = match port {
            _ if Rule::parse(place).is_ok() => format!("write `{place}`"),
            Some(port) if HostName::parse(place).is_ok() => format!("write `{place}:{port}`"),
            _ => "write it as \"name:port\"".to_owned(),
        };
        return Err(Bad::new("is a URL").hint(hint));
    }
    if text.contains(char::is_whitespace) {
        return Err(Bad::new("has a space").hint("an entry has none; each stands in its own quotes"));
    }
    if !text.is_ascii() {
        let name = text.rsplit_once(':').map_or(text, |(name, _)| name);
        let hint = match idna::domain_to_ascii_strict(name).ok().filter(|ascii| ascii.contains("xn--")) {
            Some(ascii) => format!("its ASCII form is `{ascii}{}`", &text[name.len()..]),
            None => "a name with other letters has an ASCII form that begins with `xn--`".to_owned(),
        };
        return Err(Bad::new("has characters that are not ASCII").hint(hint));
    }
    if let Some((_, after)) = text.rsplit_once('@') {
        return Err(Bad::new("has an `@`").hint(format!("users are not told apart; write `{after}`")));
    }
    if text.contains('%') {
        let hint = "names have no escapes, and addresses no scope: a link-local address can't be named";
        return Err(Bad::new("has a `%`").hint(hint));
    }
    Ok(())
}

fn protocol(text: &str) -> (Protocol, &str) {
    match text.split_once(':') {
        Some((word, rest)) if word.eq_ignore_ascii_case("udp") => (Protocol::Udp, rest),
        Some((word, rest)) if word.eq_ignore_ascii_case("tcp") => (Protocol::Tcp, rest),
        _ => (Protocol::Tcp, text),
    }
}

/// `address]:ports` or `address/length]:ports`, behind the bracket that opened.
fn bracketed(inner: &str) -> Result<(Peer, Option<&str>), Bad> {
    let Some((address, after)) = inner.split_once(']') else {
        return Err(Bad::new("has a `[` without its `]`"));
    };
    if !address.contains(':') {
        return Err(Bad::new(format!("has `{address}` in brackets")).hint("only IPv6 addresses stand in brackets"));
    }
    let ports = match (after, after.strip_prefix(':')) {
        (_, Some(ports)) => Some(ports),
        ("", None) => None,
        (_, None) => {
            let why = format!("has `{after}` behind the bracket");
            let hint = match after.strip_prefix('/').and_then(|after| after.split_once(':')) {
                Some((length, ports)) => format!("write `[{address}/{length}]:{ports}`"),
                None => "a `:` and the ports stand there".to_owned(),
            };
            return Err(Bad::new(why).hint(hint));
        }
    };
    Ok((addresses(address)?, ports))
}

/// What stands before the last `:` of `whole`, without brackets.
fn unbracketed(whole: &str, peer: &str, ports: &str) -> Result<Peer, Bad> {
    if !peer.contains(':') {
        return named(peer);
    }
    if !peer.chars().all(|c| c.is_ascii_hexdigit() || ":./".contains(c)) {
        return Err(Bad::new("has more than one `:`").hint("write it as \"name:port\""));
    }
    let hint = match (Prefix::parse(whole), Prefix::parse(peer)) {
        (Ok(_), Ok(_)) => format!("write `[{peer}]:{ports}`, or `[{whole}]` and a port"),
        (Ok(_), Err(_)) => format!("write `[{whole}]` and a port, as in `[{whole}]:443`"),
        _ => format!("write `[{peer}]:{ports}`"),
    };
    Err(Bad::new("has an IPv6 address without brackets").hint(hint))
}

/// A name, a wildcard, an IPv4 address or prefix.
fn named(text: &str) -> Result<Peer, Bad> {
    if text.is_empty() {
        return Err(Bad::new("has no name before its port"));
    }
    if text == "*" {
        let hint = "name what the command needs; `host = true` reaches everything the host can";
        return Err(Bad::new("allows every name").hint(hint));
    }
    if let Some(rest) = text.strip_prefix("*.") {
        let name = HostName::parse(rest)?;
        own(&name)?;
        if !name.0.contains('.') {
            let why = format!("allows every name that ends in `.{name}`");
            return Err(Bad::new(why).hint(format!("two parts at least stand behind `*.`, as in `*.example.{name}`")));
        }
        return Ok(Peer::Below(name));
    }
    let address = text.split('/').next().unwrap_or_default();
    if ends_in_a_number(address.strip_suffix('.').unwrap_or(address)) {
        return addresses(text);
    }
    if text.contains('/') {
        return Err(Bad::new("has a `/`").hint("a rule opens ports of a name, whatever the path"));
    }
    let name = HostName::parse(text)?;
    own(&name)?;
    Ok(Peer::Name(name))
}

/// `localhost` and the names below it are loopback by definition (RFC 6761, section 6.3).
fn own(name: &HostName) -> Result<(), Bad> {
    if name.0 == "localhost" || name.0.ends_with(".localhost") {
        return Err(Bad::new("names the sandbox's own loopback").hint(LOOPBACK));
    }
    Ok(())
}

/// How to reach a server of the host's own, as a hint.
const LOOPBACK: &str = "for a server on the host's loopback allow a name, such as \"db.test:5432\", and pin it: \
                        `hosts = { \"db.test\" = \"127.0.0.1\" }`";

/// What no address rule opens: the first and last column say which addresses, and what they are.
const CLOSED: [(IpAddr, u8, &str); 8] = [
    (IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8, "the sandbox's own loopback"),
    (IpAddr::V6(Ipv6Addr::LOCALHOST), 128, "the sandbox's own loopback"),
    (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8, "addresses of no host"),
    (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 128, "addresses of no host"),
    (IpAddr::V4(Ipv4Addr::new(224, 0, 0, 0)), 4, "multicast groups"),
    (IpAddr::V6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0)), 8, "multicast groups"),
    (IpAddr::V4(Ipv4Addr::BROADCAST), 32, "broadcast addresses"),
    (IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0)), 96, "IPv4 addresses in IPv6's form"),
];
/// The ranges of which the sandbox gives names their addresses (`plan::network`).
const VIRTUAL: [Prefix; 2] = [
    Prefix { address: IpAddr::V4(Ipv4Addr::new(198, 18, 0, 0)), length: 15 },
    Prefix { address: IpAddr::V6(Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 0)), length: 48 },
];

fn addresses(text: &str) -> Result<Peer, Bad> {
    let prefix = Prefix::parse(text)?;
    if prefix.length == 0 {
        let hint = "name what the command needs; `host = true` reaches everything the host can";
        return Err(Bad::new("allows every address").hint(hint));
    }
    for (address, length, what) in CLOSED {
        if prefix.overlaps(Prefix { address, length }) {
            let has = if prefix.length == 32 || prefix.length == 128 { "is among" } else { "reaches into" };
            let bad = Bad::new(format!("{has} {what}"));
            return Err(if what.contains("loopback") { bad.hint(LOOPBACK) } else { bad });
        }
    }
    if VIRTUAL.iter().any(|range| range.contains(prefix.address) && range.length <= prefix.length) {
        return Err(Bad::new("is in the range from which the sandbox gives names their addresses"));
    }
    Ok(Peer::Addresses(prefix))
}

/// An address in its usual spelling.
fn address_of(text: &str) -> Result<IpAddr, Bad> {
    match text.parse() {
        Ok(IpAddr::V6(address)) => unmapped(address),
        Ok(IpAddr::V4(address)) => Ok(IpAddr::V4(address)),
        Err(_) => {
            let hint = match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
                Some(inner) if inner.parse::<Ipv6Addr>().is_ok() => format!("without brackets: `{inner}`"),
                _ if text.contains(':') => "such as fd00::1".to_owned(),
                _ => "an IPv4 address is four decimal numbers without leading zeros, such as 10.1.2.3".to_owned(),
            };
            Err(Bad::new(format!("has a wrong address, {text:?}")).hint(hint))
        }
    }
}

fn unmapped(address: Ipv6Addr) -> Result<IpAddr, Bad> {
    match address.to_ipv4_mapped() {
        Some(inner) => Err(Bad::new("has an IPv4 address in IPv6's form").hint(format!("write `{inner}`"))),
        None => Ok(IpAddr::V6(address)),
    }
}

/// Whether resolvers would read `name` as an address: its last part is a number, decimal or hexadecimal
/// (<https://url.spec.whatwg.org/#ends-in-a-number-checker>).
fn ends_in_a_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    match last.strip_prefix("0x") {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

/// Decimal digits without leading zeros.
fn number(digits: &str) -> Option<u32> {
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    (plain && (digits == "0" || !digits.starts_with('0'))).then(|| digits.parse().ok()).flatten()
}

fn port(text: &str) -> Result<u16, Bad> {
    number(text)
        .and_then(|port| u16::try_from(port).ok())
        .filter(|port| *port != 0)
        .ok_or_else(|| Bad::new(format!("has a wrong port, {text:?}")).hint("a port is a number from 1 to 65535"))
}

/// `address` with the bits behind the first `length` cleared.
fn masked(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
        }
    }
}
