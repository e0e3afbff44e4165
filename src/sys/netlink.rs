//! The few rtnetlink requests that make every address local in a net namespace (rtnetlink(7)). Nothing here allocates.
#![expect(unsafe_code, reason = "netlink sockets are used in a child that may not allocate")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::errno::{Call, CallError, Errno, check};

/// `lo` has this index in every net namespace (LOOPBACK_IFINDEX in net/net_namespace.h).
pub const LOOPBACK_INDEX: u32 = 1;

/// More than the longest request below.
const LONGEST: usize = 96;

/// A request under construction: a header, a fixed part, attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Request {
    bytes: [u8; LONGEST],
    length: usize,
}

impl Request {
    /// A request that makes something new, is acknowledged, and fails when the thing is there already.
    fn new(kind: u16, fixed: &[u8]) -> Self {
        const NEW: i32 = libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        let mut this = Self { bytes: [0; LONGEST], length: 0 };
        this.push(&[0; 4]);
        this.push(&kind.to_ne_bytes());
        this.push(&(NEW as u16).to_ne_bytes());
        this.push(&1_u32.to_ne_bytes());
        this.push(&[0; 4]);
        this.push(fixed);
        this.measured()
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        // Every length used here is a multiple of four, so no padding is needed (RTA_ALIGN).
        self.push(&((value.len() + 4) as u16).to_ne_bytes());
        self.push(&kind.to_ne_bytes());
        self.push(value);
        self.measured()
    }

    fn address(self, kind: u16, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => self.attribute(kind, &address.octets()),
            IpAddr::V6(address) => self.attribute(kind, &address.octets()),
        }
    }

    fn measured(mut self) -> Self {
        let length = self.length as u32;
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        self
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

fn family(address: IpAddr) -> u8 {
    (if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }) as u8
}

/// `ip address add ADDRESS dev lo`, of global scope.
fn new_address(address: IpAddr) -> Request {
    let whole = if address.is_ipv4() { 32 } else { 128 };
    let [a, b, c, d] = LOOPBACK_INDEX.to_ne_bytes();
    let fixed = [family(address), whole, 0, libc::RT_SCOPE_UNIVERSE, a, b, c, d];
    Request::new(libc::RTM_NEWADDR, &fixed).address(libc::IFA_LOCAL, address).address(libc::IFA_ADDRESS, address)
}

/// `ip route add local default dev lo src SOURCE table local`
fn everything_local(source: IpAddr) -> Request {
    let fixed = [
        family(source),
        0,
        0,
        0,
        libc::RT_TABLE_LOCAL,
        libc::RTPROT_STATIC,
        if source.is_ipv4() { libc::RT_SCOPE_HOST } else { libc::RT_SCOPE_UNIVERSE },
        libc::RTN_LOCAL,
        0,
        0,
        0,
        0,
    ];
    Request::new(libc::RTM_NEWROUTE, &fixed)
        .attribute(libc::RTA_OIF, &LOOPBACK_INDEX.to_ne_bytes())
        .address(libc::RTA_PREFSRC, source)
}

/// Sends the request and reads the acknowledgement.
fn perform(request: &Request) -> Result<(), CallError> {
    // SAFETY: takes integers.
    let socket = check(
        Call::socket,
        unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE) }.into(),
    )?;
    // SAFETY: a new descriptor of ours.
    let socket = unsafe { OwnedFd::from_raw_fd(socket as i32) };
    let bytes = request.bytes();
    // SAFETY: the buffer is valid for its length. An unbound netlink socket is bound by its first send, and sends to
    // the kernel when it is not connected (netlink(7)).
    let sent = unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
    check(Call::sendmsg, sent as libc::c_long)?;
    // nlmsghdr, the error number, and the header of the request that it answers.
    let mut answer = [0_u8; 256];
    // SAFETY: the buffer is valid and writable for its length.
    let got = unsafe { libc::recv(socket.as_raw_fd(), answer.as_mut_ptr().cast(), answer.len(), 0) };
    let got = check(Call::recvmsg, got as libc::c_long)? as usize;
    match acknowledged(&answer[..got]) {
        Some(0) => Ok(()),
        Some(errno) => Err(CallError { call: Call::sendmsg, errno: Errno(errno) }),
        None => Err(CallError::mismatch(Call::recvmsg)),
    }
}

/// The error number of an acknowledgement (`NLMSG_ERROR`), 0 for success.
fn acknowledged(answer: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let errno = i32::from_ne_bytes(answer.get(16..20)?.try_into().ok()?);
    (i32::from(kind) == libc::NLMSG_ERROR).then_some(-errno)
}

/// Makes every address of a family local in the net namespace that the caller is in (AnyIP), and gives `lo` the address
/// `own` besides its loopback address, which stays the source of whatever does not choose one.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN over the namespace; EEXIST when it was done before; EACCES or EAFNOSUPPORT for IPv6 where
/// the kernel or its `disable_ipv6` has none.
pub fn make_everything_local(own: IpAddr) -> Result<(), CallError> {
    let source = match own {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    perform(&new_address(own))?;
    perform(&everything_local(source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn the_requests_are_those_of_ip() {
        // As strace shows `ip address add 198.18.0.1/32 dev lo` and `ip route add local default dev lo src 127.0.0.1
        // table local`, but for the sequence number and the order of attributes.
        let address = new_address("198.18.0.1".parse().unwrap());
        let golden = [
            40, 0, 0, 0, 20, 0, 5, 6, 1, 0, 0, 0, 0, 0, 0, 0, // nlmsghdr
            2, 32, 0, 0, 1, 0, 0, 0, // ifaddrmsg
            8, 0, 2, 0, 198, 18, 0, 1, // IFA_LOCAL
            8, 0, 1, 0, 198, 18, 0, 1, // IFA_ADDRESS
        ];
        assert_eq!(address.bytes(), golden);
        let route = everything_local(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let golden = [
            44, 0, 0, 0, 24, 0, 5, 6, 1, 0, 0, 0, 0, 0, 0, 0, // nlmsghdr
            2, 0, 0, 0, 255, 4, 254, 2, 0, 0, 0, 0, // rtmsg
            8, 0, 4, 0, 1, 0, 0, 0, // RTA_OIF
            8, 0, 7, 0, 127, 0, 0, 1, // RTA_PREFSRC
        ];
        assert_eq!(route.bytes(), golden);
        assert_eq!(new_address(IpAddr::V6(Ipv6Addr::LOCALHOST)).bytes().len(), 64);
    }

    #[test]
    fn an_answer_is_an_error_number_or_nothing() {
        let mut answer = [0; 36];
        answer[4..6].copy_from_slice(&(libc::NLMSG_ERROR as u16).to_ne_bytes());
        assert_eq!(acknowledged(&answer), Some(0));
        answer[16..20].copy_from_slice(&(-libc::EPERM).to_ne_bytes());
        assert_eq!(acknowledged(&answer), Some(libc::EPERM));
        answer[4] = 3;
        assert_eq!(acknowledged(&answer), None);
        assert_eq!(acknowledged(&answer[..19]), None);
    }
}
