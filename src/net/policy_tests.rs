//! Tables of names and addresses: who passes, and who does not.

use proptest::prelude::*;

use super::*;
use crate::config::rules::{Ports, Protocol::*};

fn rules(allow: &[&str]) -> Rules {
    Rules { allow: allow.iter().map(|entry| Rule::parse(entry).unwrap()).collect(), ..Rules::default() }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn only_the_exact_name_passes() {
    let rules = rules(&["files.example.org:443", "*.cdn.example.net:80,8000-8001", "udp:time.example.org:123"]);
    assert!(allows_name(&rules, "files.example.org", Tcp, 443));
    assert!(allows_name(&rules, "a.cdn.example.net", Tcp, 8001));
    assert!(allows_name(&rules, "a.b.cdn.example.net", Tcp, 80));
    assert!(allows_name(&rules, "time.example.org", Udp, 123));
    for (name, protocol, port) in [
        ("files.example.org", Tcp, 22),
        ("files.example.org", Udp, 443),
        ("time.example.org", Tcp, 123),
        ("example.org", Tcp, 443),
        ("org", Tcp, 443),
        ("xfiles.example.org", Tcp, 443),
        ("x.files.example.org", Tcp, 443),
        ("files.example.org.evil.test", Tcp, 443),
        ("files.example.org.", Tcp, 443),
        ("FILES.example.org", Tcp, 443),
        ("files.example.org\0.evil.test", Tcp, 443),
        ("evil.test\0.files.example.org", Tcp, 443),
        ("evil.test/files.example.org", Tcp, 443),
        ("user@files.example.org", Tcp, 443),
        ("cdn.example.net", Tcp, 80),
        (".cdn.example.net", Tcp, 80),
        ("xcdn.example.net", Tcp, 80),
        ("a.cdn.example.net.", Tcp, 80),
        ("a.cdn.example.net", Tcp, 81),
        ("", Tcp, 443),
    ] {
        assert!(!allows_name(&rules, name, protocol, port), "{name:?} {protocol} {port}");
    }
    assert!(knows_name(&rules, "a.cdn.example.net") && !knows_name(&rules, "cdn.example.net"));
    assert_eq!(ports_of_name(&rules, "a.cdn.example.net", Tcp).into_iter().collect::<Vec<_>>(), [80, 8000, 8001]);
    assert!(ports_of_name(&rules, "a.cdn.example.net", Udp).is_empty());
}

#[test]
fn nothing_passes_without_a_rule() {
    let none = Rules::default();
    assert!(!knows_name(&none, "files.example.org") && !allows_name(&none, "files.example.org", Tcp, 443));
    assert!(!allows_address(&none, ip("192.0.2.1"), Tcp, 443) && address_listeners(&none).is_empty());
    // A pin says where a name leads, not that it may be reached.
    let pin = crate::config::rules::HostName::parse("db.test").unwrap();
    let pinned = Rules { hosts: [(pin, ip("127.0.0.1"))].into(), ..Rules::default() };
    assert!(!knows_name(&pinned, "db.test") && !allows_address(&pinned, ip("127.0.0.1"), Tcp, 80));
}

#[test]
fn an_allowed_name_does_not_allow_its_address() {
    let rules = rules(&["files.example.org:443"]);
    for address in ["192.0.2.1", "198.18.1.0", "2001:2::100", "127.0.0.1", "::1", "10.0.2.2"] {
        assert!(!allows_address(&rules, ip(address), Tcp, 443));
    }
}

#[test]
fn an_address_rule_allows_its_addresses_only() {
    let rules = rules(&["10.1.2.3:5432", "192.168.4.0/24:80", "[fd00:1::/64]:443", "udp:169.254.169.254:80"]);
    for (address, protocol, port, allowed) in [
        ("10.1.2.3", Tcp, 5432, true),
        ("::ffff:10.1.2.3", Tcp, 5432, true),
        ("10.1.2.3", Tcp, 5433, false),
        ("10.1.2.3", Udp, 5432, false),
        ("10.1.2.4", Tcp, 5432, false),
        ("192.168.4.255", Tcp, 80, true),
        ("192.168.5.0", Tcp, 80, false),
        ("fd00:1::ffff", Tcp, 443, true),
        ("fd00:1:0:1::", Tcp, 443, false),
        ("169.254.169.254", Udp, 80, true),
        ("169.254.169.254", Tcp, 80, false),
    ] {
        assert_eq!(allows_address(&rules, ip(address), protocol, port), allowed, "{address} {protocol} {port}");
    }
}

#[test]
fn a_wide_rule_reaches_neither_loopback_nor_the_addresses_of_names() {
    let wide = |prefix: &str| Rules {
        allow: vec![Rule {
            protocol: Tcp,
            peer: Peer::Addresses(Prefix::parse(prefix).unwrap()),
            ports: Ports::parse("80").unwrap(),
        }],
        ..Rules::default()
    };
    for (prefix, address, allowed) in [
        ("0.0.0.0/0", "8.8.8.8", true),
        ("0.0.0.0/0", "127.0.0.1", false),
        ("0.0.0.0/0", "198.18.1.0", false),
        ("127.0.0.1", "127.0.0.1", true),
        ("::/0", "2606:4700::1", true),
        ("::/0", "::1", false),
        ("::/0", "2001:2::100", false),
        ("::/0", "8.8.8.8", false),
    ] {
        assert_eq!(allows_address(&wide(prefix), ip(address), Tcp, 80), allowed, "{prefix} {address}");
    }
}

#[test]
fn few_addresses_are_listened_at_one_by_one_and_many_by_one() {
    let at = |allow: &[&str]| -> Vec<String> {
        address_listeners(&rules(allow)).iter().map(|(protocol, at)| format!("{protocol} {at}")).collect()
    };
    assert_eq!(at(&["10.1.2.3:80-81"]), ["tcp 10.1.2.3:80", "tcp 10.1.2.3:81"]);
    assert_eq!(at(&["10.1.2.0/30:80"]).len(), 4);
    assert_eq!(at(&["10.1.2.0/24:80"]).len(), 256);
    assert_eq!(at(&["10.1.2.0/23:80"]), ["tcp 0.0.0.0:80"]);
    assert_eq!(at(&["[fd00::/64]:80", "udp:10.0.0.0/8:53"]), ["tcp [::]:80", "udp 0.0.0.0:53"]);
    // One that takes everything leaves no room for others at its port.
    assert_eq!(at(&["10.1.2.3:80", "10.0.0.0/8:80", "[fd00::1]:80"]), ["tcp 0.0.0.0:80", "tcp [fd00::1]:80"]);
    assert_eq!(at(&["files.example.org:80"]), [""; 0]);
}

#[test]
fn a_name_may_not_lead_to_an_address_with_a_special_purpose() {
    for address in [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.5",
        "10.255.255.255",
        "100.64.0.1",
        "100.100.100.200",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.254",
        "168.63.129.16",
        "169.254.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.170",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::2",
        "::127.0.0.1",
        "::8.8.8.8",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::127.0.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::8.8.8.8",
        "100::1",
        "100:0:0:1::1",
        "2001::1",
        "2001:0:0a00:1::f7f7:f7f7",
        "2001:0:808:808::80ff:fffe",
        "2001:2::1",
        "2001:5::1",
        "2001:10::1",
        "2001:db8::1",
        "2002:7f00:1::1",
        "2002:a00:1::1",
        "2002:a9fe:a9fe::1",
        "3fff::1",
        "4000::1",
        "5f00::1",
        "fc00::1",
        "fd00::1",
        "fd00:ec2::254",
        "fe80::1",
        "febf::1",
        "fec0::1",
        "ff02::1",
        "8000::1",
    ] {
        assert!(special(ip(address)).is_some(), "{address}");
    }
    assert_eq!(special(ip("169.254.169.254")), Some("the address of a cloud's metadata"));
    assert_eq!(special(ip("::ffff:10.0.0.1")), Some("a private address"));
}

#[test]
fn a_name_may_lead_to_a_public_address() {
    for address in [
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.1",
        "169.253.255.255",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.1",
        "192.31.196.1",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
        "2001:0:808:808::f7f7:f7f7",
        "2001:1::1",
        "2001:20::1",
        "2001:4860:4860::8888",
        "2002:808:808::1",
        "2606:4700::1111",
        "2a00:1450::1",
    ] {
        assert_eq!(special(ip(address)), None, "{address}");
    }
}

#[test]
fn the_sandbox_s_own_addresses_are_no_matter_of_the_network() {
    for (address, own) in [
        ("127.0.0.1", true),
        ("127.9.9.9", true),
        ("::1", true),
        ("0.0.0.0", true),
        ("198.18.0.1", true),
        ("2001:2::1", true),
        ("198.18.0.2", false),
        ("198.18.1.0", false),
        ("10.0.2.2", false),
        ("fe80::1", false),
    ] {
        assert_eq!(is_own(ip(address)), own, "{address}");
    }
}

#[test]
fn what_would_allow_it_can_be_written_down() {
    for (protocol, peer, port, line) in [
        (Tcp, "evil.test", 443, "allow = [\"evil.test:443\"]"),
        (Udp, "192.168.0.1", 53, "allow = [\"udp:192.168.0.1:53\"]"),
        (Tcp, "fd00::1", 80, "allow = [\"[fd00::1]:80\"]"),
    ] {
        assert_eq!(allow_line(protocol, peer, port), line);
        let entry = line.trim_start_matches("allow = [\"").trim_end_matches("\"]");
        assert_eq!(Rule::parse(entry).unwrap().to_string(), entry);
    }
    assert_eq!(pin_line("db.test", ip("127.0.0.1")), "hosts = { \"db.test\" = \"127.0.0.1\" }");
}

proptest! {
    #[test]
    fn an_embedded_address_is_judged_as_it_is_by_itself(bits in any::<u32>()) {
        let v4 = Ipv4Addr::from_bits(bits);
        let kind = special_v4(v4);
        let low = u128::from(bits);
        let mapped = Ipv6Addr::from_bits(0xffff << 32 | low);
        let translated = Ipv6Addr::from_bits(0x64_ff9b << 96 | low);
        let six_to_four = Ipv6Addr::from_bits(0x2002 << 112 | low << 80 | 1);
        let teredo = Ipv6Addr::from_bits(0x2001_0000 << 96 | 0x0808_0808 << 64 | u128::from(!bits));
        for address in [mapped, translated, six_to_four, teredo] {
            prop_assert_eq!(special(address.into()), kind, "{}", address);
        }
    }

    #[test]
    fn every_address_is_judged(bits in any::<u128>()) {
        let address = Ipv6Addr::from_bits(bits);
        // What is not global unicast space is never a name's, whatever else is true of it.
        if address.segments()[0] >> 13 != 1 && address.segments()[..2] != [0x64, 0xff9b] {
            prop_assert!(special(address.into()).is_some() || address.to_ipv4_mapped().is_some());
        }
    }

    #[test]
    fn a_listener_is_where_something_is_allowed(octets in any::<[u8; 4]>(), length in 9_u8..=32, port in 1..u16::MAX) {
        if let Ok(rule) = Rule::parse(&format!("{}/{length}:{port}", Ipv4Addr::from(octets))) {
            let rules = Rules { allow: vec![rule], ..Rules::default() };
            for (protocol, at) in address_listeners(&rules) {
                prop_assert!(at.ip().is_unspecified() || allows_address(&rules, at.ip(), protocol, at.port()));
            }
        }
    }
}
