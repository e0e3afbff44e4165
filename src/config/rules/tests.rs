use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::config::values::Bad;

fn rule(text: &str) -> Rule {
    Rule::parse(text).unwrap_or_else(|bad| panic!("{text}: {bad:?}"))
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// What is said of each text: a part of the reason, and of the hint.
fn refused<T: std::fmt::Debug>(parse: fn(&str) -> Result<T, Bad>, texts: &[(&str, &str, &str)]) {
    let mut wrong = Vec::new();
    for (text, why, hint) in texts {
        match parse(text) {
            Err(bad) if bad.why.contains(why) && bad.hint.as_deref().unwrap_or_default().contains(hint) => {}
            other => wrong.push(format!("{text}: {other:?}")),
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn a_rule_has_one_canonical_text() {
    for (text, canonical) in [
        ("files.example.org:443", "files.example.org:443"),
        ("Files.Example.ORG.:443", "files.example.org:443"),
        ("*.CDN.example.net:80", "*.cdn.example.net:80"),
        ("a:8000-8010,9000", "a:8000-8010,9000"),
        ("a:9000,8000-8005,8004-8010,8011", "a:8000-8011,9000"),
        ("a:80,80", "a:80"),
        ("a:65535,65534", "a:65534-65535"),
        ("udp:a:53", "udp:a:53"),
        ("UDP:A:53", "udp:a:53"),
        ("tcp:a:53", "a:53"),
        ("tcp:udp:53", "tcp:udp:53"),
        ("udp:udp:53", "udp:udp:53"),
        ("_x.a_b.example:1", "_x.a_b.example:1"),
        ("xn--bcher-kva.example:1", "xn--bcher-kva.example:1"),
        ("10.1.2.3:5432", "10.1.2.3:5432"),
        ("10.1.2.3/32:5432", "10.1.2.3:5432"),
        ("10.0.0.0/8:5432", "10.0.0.0/8:5432"),
        ("[fd00::1]:80", "[fd00::1]:80"),
        ("[FD00:0::1/128]:80", "[fd00::1]:80"),
        ("[fd00::/8]:80", "[fd00::/8]:80"),
        ("udp:[2000::/3]:443", "udp:[2000::/3]:443"),
        ("169.254.169.254:80", "169.254.169.254:80"),
        ("192.0.0.0/4:1", "192.0.0.0/4:1"),
    ] {
        assert_eq!(rule(text).to_string(), canonical, "{text}");
    }
    assert_eq!(rule("udp:*.a.b:1").peer, Peer::Below(HostName("a.b".into())));
    assert_eq!(rule("a:7-9").ports.ranges(), [7..=9]);
    let longest = format!("{}.{}.{}.{}", "a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61));
    assert_eq!(rule(&format!("{longest}:1")).peer, Peer::Name(HostName(longest)));
}

#[test]
fn what_is_no_rule_says_why_and_what_helps() {
    let label = format!("{}:1", "x".repeat(64));
    let name = format!("{}x:1", "xy.".repeat(85));
    refused(
        Rule::parse,
        &[
            ("", "is empty", "an empty list allows nothing"),
            ("a", "has no port", "`a:443`"),
            ("a:", "has no port", ""),
            (":80", "has no name", ""),
            ("udp:53", "has a wrong address, \"53\"", ""),
            ("a:0", "has a wrong port, \"0\"", "1 to 65535"),
            ("a:65536", "has a wrong port, \"65536\"", "1 to 65535"),
            ("a:99999999999999999999", "has a wrong port", "1 to 65535"),
            ("a:+80", "has a wrong port, \"+80\"", "1 to 65535"),
            ("a:080", "has a wrong port, \"080\"", "1 to 65535"),
            ("a:https", "has a wrong port, \"https\"", "a number"),
            ("a:*", "has a wrong port, \"*\"", "a number"),
            ("a:80,", "has a wrong port, \"\"", "a number"),
            ("a:-80", "has a wrong port, \"\"", "a number"),
            ("a:80-", "has a wrong port, \"\"", "a number"),
            ("a:90-80", "goes backwards", "`80-90`"),
            ("a:1-1025", "has 1025 ports", "at most 1024"),
            ("a:80, 81", "has a space", "none"),
            (" a:80", "has a space", "none"),
            ("*:80", "allows every name", "`host = true`"),
            ("*.com:80", "every name that ends in `.com`", "`*.example.com`"),
            ("*.:80", "has no name", ""),
            ("a.*:80", "has a '*'", "first only"),
            ("a.*.b:80", "has a '*'", "first only"),
            ("*a.b:80", "has a '*'", "first only"),
            ("**.a.b:80", "has a '*'", "first only"),
            ("*.*.a.b:80", "has a '*'", "first only"),
            ("a..b:80", "an empty part", ""),
            (".a:80", "an empty part", ""),
            ("a..:80", "an empty part", ""),
            (".:80", "has no name", ""),
            ("-a.b:80", "a `-` at its end", ""),
            ("a.b-:80", "a `-` at its end", ""),
            ("a!b:80", "has a '!'", "letters"),
            ("a\\b:80", "has a '\\\\'", "letters"),
            (&label, "a part of 64 bytes", "at most 63"),
            (&name, "a name of 256 bytes", "at most 253"),
            ("a\0.example.org:80", "a control character", ""),
            ("a\n:80", "a control character", ""),
            ("a\u{7f}:80", "a control character", ""),
            ("evil%00.example.org:80", "has a `%`", "no escapes"),
            ("user@a:80", "has an `@`", "`a:80`"),
            ("https://a.example", "is a URL", "write `a.example:443`"),
            ("http://u:p@a.example:8080/x?y", "is a URL", "write `a.example:8080`"),
            ("ftp://a.example", "is a URL", "\"name:port\""),
            ("a/b:80", "has a `/`", "whatever the path"),
            ("x:y:80", "more than one `:`", "\"name:port\""),
            ("bücher.example:443", "not ASCII", "`xn--bcher-kva.example:443`"),
            ("BÜCHER.Example:443", "not ASCII", "`xn--bcher-kva.example:443`"),
            ("a\u{200b}b.example:443", "not ASCII", "`xn--`"),
            ("a.example：443", "not ASCII", "`xn--`"),
            ("2130706433:80", "has a wrong address", "four decimal numbers"),
            ("0177.0.0.1:80", "has a wrong address", "leading zeros"),
            ("127.1:80", "has a wrong address", "four"),
            ("0x7f.1:80", "has a wrong address", "four"),
            ("0x7f000001:80", "has a wrong address", "four"),
            ("a.0x:80", "has a wrong address", "four"),
            ("a.1.:80", "has a wrong address", "four"),
            ("*.2.3:80", "has a number for a name", "four"),
            ("1.2.3.4.:80", "has a wrong address", "four"),
            ("10.0.0.300:80", "has a wrong address, \"10.0.0.300\"", "four"),
            ("10.0.0.300/8", "has a wrong address, \"10.0.0.300\"", "four"),
            ("10.0.0.0/8", "has no port", "`10.0.0.0/8:443`"),
            ("10.1.2.3/8:80", "behind the first 8", "`10.0.0.0/8` is the prefix, `10.1.2.3` the one address"),
            ("10.0.0.0/33:80", "a wrong prefix length, \"33\"", "from 0 to 32"),
            ("10.0.0.0/08:80", "a wrong prefix length, \"08\"", "from 0 to 32"),
            ("10.0.0.0/:80", "a wrong prefix length, \"\"", "from 0 to 32"),
            ("10.0.0.0/8/8:80", "a wrong prefix length, \"8/8\"", "from 0 to 32"),
            ("[fd00::/129]:80", "a wrong prefix length, \"129\"", "from 0 to 128"),
            ("[fd00::1/8]:80", "behind the first 8", "`fd00::/8`"),
            ("[fd00::]/8:80", "has `/8:80` behind the bracket", "`[fd00::/8]:80`"),
            ("[fd00::1]80", "behind the bracket", "a `:`"),
            ("[fd00::1]", "has no port", "`[fd00::1]:443`"),
            ("[fd00::1:80", "without its `]`", ""),
            ("[fd00::g]:80", "has a wrong address, \"fd00::g\"", "fd00::1"),
            ("[fe80::1%eth0]:80", "has a `%`", "no scope"),
            ("[10.0.0.1]:80", "in brackets", "only IPv6"),
            ("[a]:80", "in brackets", "only IPv6"),
            ("fd00::1:80", "without brackets", "`[fd00::1]:80`, or `[fd00::1:80]` and a port"),
            ("fd00::/8:80", "without brackets", "`[fd00::/8]:80`"),
            ("::1", "without brackets", "`[::1]:443`"),
            ("[::ffff:10.0.0.1]:80", "in IPv6's form", "`10.0.0.1`"),
            ("[::ffff:0:0/96]:80", "in IPv6's form", ""),
            ("[::fffe:0:0/95]:80", "reaches into IPv4 addresses", ""),
            ("127.0.0.1:80", "is among the sandbox's own loopback", "pin it"),
            ("127.0.0.0/8:80", "the sandbox's own loopback", "pin it"),
            ("126.0.0.0/7:80", "reaches into the sandbox's own loopback", "pin it"),
            ("[::1]:80", "the sandbox's own loopback", "pin it"),
            ("[::/64]:80", "the sandbox's own loopback", ""),
            ("localhost:80", "the sandbox's own loopback", "pin it"),
            ("LOCALHOST.:80", "the sandbox's own loopback", ""),
            ("a.localhost:80", "the sandbox's own loopback", ""),
            ("*.a.localhost:80", "the sandbox's own loopback", ""),
            ("0.0.0.0:80", "addresses of no host", ""),
            ("0.0.0.0/0:80", "every address", "`host = true`"),
            ("[::/0]:80", "every address", "`host = true`"),
            ("[::]:80", "addresses of no host", ""),
            ("224.0.0.1:80", "multicast groups", ""),
            ("[ff02::1]:80", "multicast groups", ""),
            ("192.0.0.0/2:80", "reaches into multicast groups", ""),
            ("255.255.255.255:80", "broadcast addresses", ""),
            ("198.18.1.0:80", "gives names their addresses", ""),
            ("[2001:2::1]:80", "gives names their addresses", ""),
        ],
    );
}

#[test]
fn a_published_port_has_one_canonical_text() {
    for (text, canonical) in [
        ("8080:80", "127.0.0.1:8080:80"),
        ("127.0.0.1:8080:80", "127.0.0.1:8080:80"),
        ("0.0.0.0:8080:80", "0.0.0.0:8080:80"),
        ("[::1]:8080:80", "[::1]:8080:80"),
        ("[::]:1:65535", "[::]:1:65535"),
        ("udp:53:5353", "udp:127.0.0.1:53:5353"),
        ("tcp:1:2", "127.0.0.1:1:2"),
    ] {
        assert_eq!(Publish::parse(text).unwrap().to_string(), canonical);
    }
}

#[test]
fn what_can_t_be_published_says_why_and_what_helps() {
    refused(
        Publish::parse,
        &[
            ("", "is empty", "8080:80"),
            ("80", "has one part", "8080:80"),
            ("0:80", "has a wrong port, \"0\"", "1 to 65535"),
            ("80:0", "has a wrong port, \"0\"", "1 to 65535"),
            ("80:65536", "has a wrong port, \"65536\"", "1 to 65535"),
            ("8000-8001:80", "has a wrong port, \"8000-8001\"", "a number"),
            ("80:80/udp", "has a wrong port, \"80/udp\"", "a number"),
            ("localhost:8080:80", "has a name", "`127.0.0.1`"),
            ("a.example:8080:80", "has a wrong address, \"a.example\"", "four"),
            ("127.1:8080:80", "has a wrong address, \"127.1\"", "four"),
            ("*:8080:80", "has no address", "`0.0.0.0`"),
            (":8080:80", "has no address", "`0.0.0.0`"),
            ("::1:8080:80", "too many `:`", "`[::1]:8080:80`"),
            ("[::1:8080:80", "has no IPv6 address", "such as"),
            ("[127.0.0.1]:8080:80", "has no IPv6 address", "such as"),
            ("[::ffff:127.0.0.1]:8080:80", "in IPv6's form", "`127.0.0.1`"),
            ("[fe80::1%eth0]:8080:80", "has a `%`", "no scope"),
            ("224.0.0.1:8080:80", "nothing can listen", ""),
            ("255.255.255.255:8080:80", "nothing can listen", ""),
            ("http://127.0.0.1:8080", "is a URL", ""),
            (" 1:2", "has a space", ""),
        ],
    );
}

#[test]
fn published_ports_collide_where_the_host_can_t_listen_twice() {
    let publish = |text| Publish::parse(text).unwrap();
    for (one, two, collide) in [
        ("8080:80", "127.0.0.1:8080:81", true),
        ("8080:80", "0.0.0.0:8080:80", true),
        ("[::]:8080:80", "[::1]:8080:80", true),
        ("8080:80", "udp:8080:80", false),
        ("8080:80", "127.0.0.2:8080:80", false),
        ("8080:80", "8081:80", false),
        ("8080:80", "[::1]:8080:80", false),
        ("0.0.0.0:8080:80", "[::]:8080:80", false),
    ] {
        assert_eq!(publish(one).collides(publish(two)), collide, "{one} {two}");
        assert_eq!(publish(two).collides(publish(one)), collide, "{two} {one}");
    }
}

#[test]
fn a_name_is_pinned_to_the_address_of_one_host() {
    for text in ["127.0.0.1", "10.1.2.3", "::1", "fd00::1", "169.254.169.254"] {
        assert_eq!(pinned(text).unwrap(), address(text));
    }
    refused(
        pinned,
        &[
            ("", "is no address", "four"),
            ("db.test", "is no address", "four"),
            ("127.0.0.1:80", "is no address", ""),
            ("127.1", "is no address", "four"),
            ("10.0.0.0/8", "is no address", "four"),
            ("[::1]", "is no address", "`::1`"),
            ("::ffff:127.0.0.1", "in IPv6's form", "`127.0.0.1`"),
            ("fe80::1%2", "has a `%`", "no scope"),
            ("0.0.0.0", "no address of one host", ""),
            ("::", "no address of one host", ""),
            ("224.0.0.1", "no address of one host", ""),
            ("255.255.255.255", "no address of one host", ""),
        ],
    );
}

#[test]
fn a_wildcard_covers_what_is_below_it_and_not_itself() {
    let name = |text| HostName::parse(text).unwrap();
    for (text, covered, not) in [
        ("*.a.b:1", &["x.a.b", "x.y.a.b"][..], &["a.b", "xa.b", "x.a.b.c", "b"][..]),
        ("a.b:1", &["a.b", "A.B."], &["x.a.b", "a", "b"]),
        ("10.0.0.0/8:1", &[], &["a"]),
    ] {
        assert!(covered.iter().all(|other| rule(text).peer.covers(&name(other))), "{text}");
        assert!(!not.iter().any(|other| rule(text).peer.covers(&name(other))), "{text}");
    }
}

#[test]
fn a_prefix_contains_its_addresses_and_no_others() {
    for (prefix, inside, outside) in [
        ("10.0.0.0/8", &["10.0.0.0", "10.255.255.255"][..], &["9.255.255.255", "11.0.0.0", "::ffff:10.0.0.1"][..]),
        ("10.1.2.3", &["10.1.2.3"], &["10.1.2.2", "10.1.2.4"]),
        ("fd00::/8", &["fd00::", "fdff::1"], &["fe00::", "10.0.0.1"]),
        ("0.0.0.0/0", &["0.0.0.0", "255.255.255.255"], &["::"]),
        ("::/0", &["::", "ffff::"], &["0.0.0.0"]),
    ] {
        let prefix = Prefix::parse(prefix).unwrap();
        assert!(inside.iter().all(|text| prefix.contains(address(text))), "{prefix}");
        assert!(!outside.iter().any(|text| prefix.contains(address(text))), "{prefix}");
    }
}

/// Texts near the grammar.
fn near() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "udp:", "tcp:", "*.", "*", "a", "B", "example", ".", "-", "_", ":", "[", "]", "/", "8", "80", "443", "0",
        "10.1.2.3", "10.0.0.0", "fd00::", "::1", "::ffff:", "0x7f", ",", "%", "@", "é", "\0", "65536", "1-1024", "://",
        " ",
    ]);
    prop::collection::vec(piece, 0..9).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_taken_is_canonical_and_reads_back_the_same(text in prop_oneof![any::<String>(), near()]) {
        if let Ok(rule) = Rule::parse(&text) {
            prop_assert_eq!(Rule::parse(&rule.to_string()).unwrap(), rule.clone());
            if let Peer::Name(name) | Peer::Below(name) = &rule.peer {
                let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
                prop_assert!(name.as_str().chars().all(plain) && !name.as_str().ends_with('.'), "{}", name);
                prop_assert_eq!(&HostName::parse(name.as_str()).unwrap(), name);
                prop_assert!(name.as_str().parse::<IpAddr>().is_err());
            }
            let ranges = rule.ports.ranges();
            prop_assert!(ranges.iter().all(|range| *range.start() > 0 && !range.is_empty()));
            prop_assert!(ranges.windows(2).all(|pair| u32::from(*pair[0].end()) + 1 < u32::from(*pair[1].start())));
        }
        if let Ok(publish) = Publish::parse(&text) {
            prop_assert_eq!(Publish::parse(&publish.to_string()).unwrap(), publish);
        }
        if let Ok(prefix) = Prefix::parse(&text) {
            prop_assert_eq!(Prefix::parse(&prefix.to_string()).unwrap(), prefix);
            prop_assert!(prefix.contains(prefix.address()));
        }
        _ = (HostName::parse(&text), Ports::parse(&text), pinned(&text));
    }

    #[test]
    fn addresses_of_a_prefix_share_its_bits(bits in any::<u32>(), length in 0_u8..=32) {
        let address = std::net::Ipv4Addr::from_bits(bits);
        let mask = if length == 0 { 0 } else { u32::MAX << (32 - length) };
        let first = std::net::Ipv4Addr::from_bits(bits & mask);
        let prefix = Prefix::parse(&format!("{first}/{length}")).unwrap();
        prop_assert!(prefix.contains(IpAddr::V4(address)));
        let other = std::net::Ipv4Addr::from_bits(bits ^ (1 << (32 - length.max(1))));
        prop_assert_eq!(prefix.contains(IpAddr::V4(other)), length == 0);
    }
}
