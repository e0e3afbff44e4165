//! The addresses that a sandbox with rules sees: every address is local inside (AnyIP on `lo`), so that a connection to
//! whatever address meets either a listener of the relay's or a refusal at once.
//!
//! Names get addresses of the benchmarking ranges, which no host of the Internet has: 198.18.0.0/15 (RFC 2544) and
//! 2001:2::/48 (RFC 5180).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The address of `lo` besides 127.0.0.1: resolvers that ask for a configured address family (AI_ADDRCONFIG) pass over
/// loopback addresses.
pub const OWN_V4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// The same for IPv6.
pub const OWN_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 1);
/// Where names are answered, UDP and TCP, port 53; what `/etc/resolv.conf` names inside.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
/// How many names one run can look up: the rest of 198.18.0.0/15 from [`virtual_address`] 0 on.
pub const NAMES_MAX: u32 = (1 << 17) - 512;

/// The address of the name with this number, in either family; `None` from [`NAMES_MAX`] on.
pub fn virtual_address(number: u32, v6: bool) -> Option<IpAddr> {
    if number >= NAMES_MAX {
        return None;
    }
    let host = number + 256;
    Some(if v6 {
        let [high, low] = [(host >> 16) as u16, host as u16];
        IpAddr::V6(Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, high, low))
    } else {
        IpAddr::V4(Ipv4Addr::from_bits(Ipv4Addr::new(198, 18, 0, 0).to_bits() + host))
    })
}

/// The number of the name that has this address.
pub fn number_of(address: IpAddr) -> Option<u32> {
    let host = match address {
        IpAddr::V4(address) => address.to_bits().checked_sub(Ipv4Addr::new(198, 18, 0, 0).to_bits())?,
        IpAddr::V6(address) => match address.segments() {
            [0x2001, 2, 0, 0, 0, 0, high, low] => (u32::from(high) << 16) + u32::from(low),
            _ => return None,
        },
    };
    host.checked_sub(256).filter(|number| *number < NAMES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::Rule;

    #[test]
    fn no_rule_opens_the_addresses_of_names() {
        let own = [IpAddr::V4(OWN_V4), IpAddr::V4(RESOLVER), virtual_address(NAMES_MAX - 1, false).unwrap()];
        let own_v6 = [IpAddr::V6(OWN_V6), virtual_address(NAMES_MAX - 1, true).unwrap()];
        let texts = own.iter().map(|address| format!("{address}:53"));
        for text in texts.chain(own_v6.iter().map(|address| format!("[{address}]:53"))) {
            let bad = Rule::parse(&text).unwrap_err();
            assert!(bad.why.contains("gives names their addresses"), "{text}: {bad:?}");
        }
    }

    #[test]
    fn an_address_leads_back_to_its_number() {
        for number in [0, 1, 255, 256, 65_535, 65_536, NAMES_MAX - 1] {
            for v6 in [false, true] {
                assert_eq!(number_of(virtual_address(number, v6).unwrap()), Some(number));
            }
        }
        assert_eq!(virtual_address(NAMES_MAX, false), None);
        for own in [IpAddr::V4(OWN_V4), IpAddr::V6(OWN_V6), IpAddr::V4(RESOLVER), "198.20.0.0".parse().unwrap()] {
            assert_eq!(number_of(own), None);
        }
        assert_eq!(virtual_address(0, false).unwrap().to_string(), "198.18.1.0");
        assert_eq!(virtual_address(1, true).unwrap().to_string(), "2001:2::101");
    }
}
