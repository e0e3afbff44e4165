//! Sockets that a process makes in the net namespace it is in, for somebody outside to use. Nothing here allocates.
#![expect(unsafe_code, reason = "raw sockets and their filters have no safe wrapper")]

use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};

use super::errno::{Call, CallError, Errno, check};

/// Connections that wait for the relay's accept; the kernel bounds it by `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// The two kinds of socket that carry what a command sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A stream.
    Tcp,
    /// Datagrams.
    Udp,
}

fn named(call: Call) -> impl FnOnce(rustix::io::Errno) -> CallError {
    move |error| CallError { call, errno: Errno(error.raw_os_error()) }
}

/// A non-blocking, close-on-exec socket.
///
/// # Errors
/// As socket(2).
pub fn socket(kind: Kind, v6: bool) -> Result<OwnedFd, CallError> {
    let family = if v6 { AddressFamily::INET6 } else { AddressFamily::INET };
    let kind = if kind == Kind::Tcp { SocketType::STREAM } else { SocketType::DGRAM };
    socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None).map_err(named(Call::socket))
}

/// Such a socket, bound to `at`, which need not be an address of an interface; TCP listens. A datagram socket at the
/// unspecified address tells with each datagram where it was sent to (IP_PKTINFO in ip(7), IPV6_RECVPKTINFO in ipv6(7)).
///
/// # Errors
/// As socket(2), setsockopt(2), bind(2), listen(2).
pub fn bound(kind: Kind, at: SocketAddr) -> Result<OwnedFd, CallError> {
    let socket = socket(kind, at.is_ipv6())?;
    let option = |result: rustix::io::Result<()>| result.map_err(named(Call::setsockopt));
    // A listener may follow another one at its address at once, though connections of that one are in TIME_WAIT.
    option(sockopt::set_socket_reuseaddr(&socket, kind == Kind::Tcp))?;
    if at.is_ipv6() {
        option(sockopt::set_ipv6_v6only(&socket, true))?;
        // Unlike IPv4's, a local route of IPv6 does not make its addresses bindable.
        option(sockopt::set_ipv6_freebind(&socket, true))?;
    }
    if kind == Kind::Udp && at.ip().is_unspecified() {
        let (level, name) = match at {
            SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO),
            SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
        };
        switch_on(socket.as_fd(), level, name)?;
    }
    bind(&socket, &at).map_err(named(Call::bind))?;
    if kind == Kind::Tcp {
        listen(&socket, BACKLOG).map_err(named(Call::listen))?;
    }
    Ok(socket)
}

fn switch_on(socket: BorrowedFd<'_>, level: i32, name: i32) -> Result<(), CallError> {
    let on: libc::c_int = 1;
    let length = size_of_val(&on) as libc::socklen_t;
    // SAFETY: the value is an int, of the length passed.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const on).cast(), length) };
    check(Call::setsockopt, result.into()).map(drop)
}

const fn op(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

const fn jump(k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, jt, jf, k }
}

const LOAD_BYTE: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
const LOAD_HALF: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
const LOAD_WORD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const LOAD_BYTE_BEHIND: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_IND;
const LOAD_HALF_BEHIND: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_IND;
const LOAD_WORD_BEHIND: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_IND;
const AND: u32 = libc::BPF_ALU | libc::BPF_AND | libc::BPF_K;
const HEADER_LENGTH: u32 = libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

/// FIN, SYN, RST and ACK; a refused SYN is answered by RST and ACK with the sequence number 0 (RFC 9293, 3.5.2).
const FLAGS: u32 = 0x17;
const REFUSED: u32 = 0x14;
/// How much of a packet is wanted: the longest headers, with the embedded ones of ICMP.
const SNAP: u32 = 256;

/// Refusals over IPv4 (offsets from the network header): the answer to a SYN that nobody took, and port unreachable;
/// both only when what was tried is not in 127.0.0.0/8.
const REFUSALS_V4: [libc::sock_filter; 20] = [
    op(LOAD_BYTE, 9), // the protocol
    jump(libc::IPPROTO_TCP as u32, 0, 9),
    op(LOAD_WORD, 12), // the source: what was tried
    op(AND, 0xff00_0000),
    jump(0x7f00_0000, 14, 0),
    op(HEADER_LENGTH, 0),
    op(LOAD_BYTE_BEHIND, 13), // the flags
    op(AND, FLAGS),
    jump(REFUSED, 0, 10),
    op(LOAD_WORD_BEHIND, 4), // the sequence number
    jump(0, 7, 8),
    jump(libc::IPPROTO_ICMP as u32, 0, 7),
    op(HEADER_LENGTH, 0),
    op(LOAD_HALF_BEHIND, 0),
    jump(0x0303, 0, 4),       // type 3, code 3
    op(LOAD_WORD_BEHIND, 24), // the destination of the embedded header
    op(AND, 0xff00_0000),
    jump(0x7f00_0000, 1, 0),
    op(RETURN, SNAP),
    op(RETURN, 0),
];

/// The same over IPv6, without extension headers; what was tried is not ::1. A raw socket of IPv6 has its data behind the
/// network header, so the offsets are told from there.
const REFUSALS_V6: [libc::sock_filter; 36] = {
    const NET: u32 = libc::SKF_NET_OFF as u32;
    const ACCEPT: usize = 34;
    const DROP: usize = 35;
    /// A comparison at `place` that goes on behind it when equal, else to `otherwise`.
    const fn equal_or(place: usize, k: u32, otherwise: usize) -> libc::sock_filter {
        jump(k, 0, (otherwise - place - 1) as u8)
    }
    /// Drops the address at `offset` when it is ::1, else accepts: the four words are or-ed, the last one without its 1.
    const fn unless_loopback(program: &mut [libc::sock_filter; 36], at: usize, offset: u32) {
        const OR: u32 = libc::BPF_ALU | libc::BPF_OR | libc::BPF_X;
        const XOR: u32 = libc::BPF_ALU | libc::BPF_XOR | libc::BPF_K;
        const KEEP: u32 = libc::BPF_MISC | libc::BPF_TAX;
        program[at] = op(LOAD_WORD, offset);
        program[at + 1] = op(KEEP, 0);
        program[at + 2] = op(LOAD_WORD, offset + 4);
        program[at + 3] = op(OR, 0);
        program[at + 4] = op(KEEP, 0);
        program[at + 5] = op(LOAD_WORD, offset + 8);
        program[at + 6] = op(OR, 0);
        program[at + 7] = op(KEEP, 0);
        program[at + 8] = op(LOAD_WORD, offset + 12);
        program[at + 9] = op(XOR, 1);
        program[at + 10] = op(OR, 0);
        program[at + 11] = jump(0, (DROP - at - 12) as u8, (ACCEPT - at - 12) as u8);
    }
    let mut program = [op(RETURN, 0); 36];
    program[0] = op(LOAD_BYTE, NET + 6); // the next header
    program[1] = equal_or(1, libc::IPPROTO_TCP as u32, 19);
    program[2] = op(LOAD_BYTE, NET + 40 + 13); // the flags
    program[3] = op(AND, FLAGS);
    program[4] = equal_or(4, REFUSED, DROP);
    program[5] = op(LOAD_WORD, NET + 40 + 4); // the sequence number
    program[6] = equal_or(6, 0, DROP);
    unless_loopback(&mut program, 7, NET + 8); // the source: what was tried
    program[19] = equal_or(19, libc::IPPROTO_ICMPV6 as u32, DROP);
    program[20] = op(LOAD_HALF, NET + 40);
    program[21] = equal_or(21, 0x0104, DROP); // type 1, code 4
    unless_loopback(&mut program, 22, NET + 40 + 8 + 24); // the destination of the embedded header
    program[ACCEPT] = op(RETURN, SNAP);
    program
};

/// By what the kernel says that nobody took what a process inside sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusals {
    /// A reset over IPv4.
    TcpV4,
    /// "Port unreachable" over IPv4.
    IcmpV4,
    /// A reset over IPv6.
    TcpV6,
    /// "Port unreachable" over IPv6.
    IcmpV6,
}

impl Refusals {
    /// Each of them.
    pub const ALL: [Self; 4] = [Self::TcpV4, Self::IcmpV4, Self::TcpV6, Self::IcmpV6];
}

/// A raw socket that sees only refusals: what a process inside tried to reach and nobody took. Over IPv4 its datagrams begin
/// at the network header, over IPv6 behind it (raw(7), ipv6(7)).
///
/// To close a packet socket takes a grace period of the kernel, some ten milliseconds; to close these takes none.
///
/// # Errors
/// EPERM without CAP_NET_RAW over the namespace; as setsockopt(2).
pub fn refusals(kind: Refusals) -> Result<OwnedFd, CallError> {
    let (family, protocol, filter): (_, _, &[libc::sock_filter]) = match kind {
        Refusals::TcpV4 => (libc::AF_INET, libc::IPPROTO_TCP, &REFUSALS_V4),
        Refusals::IcmpV4 => (libc::AF_INET, libc::IPPROTO_ICMP, &REFUSALS_V4),
        Refusals::TcpV6 => (libc::AF_INET6, libc::IPPROTO_TCP, &REFUSALS_V6),
        Refusals::IcmpV6 => (libc::AF_INET6, libc::IPPROTO_ICMPV6, &REFUSALS_V6),
    };
    let flags = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: takes integers.
    let socket = check(Call::socket, unsafe { libc::socket(family, flags, protocol) }.into())?;
    // SAFETY: a new descriptor of ours.
    let socket = unsafe { OwnedFd::from_raw_fd(socket as i32) };
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    let length = size_of_val(&program) as libc::socklen_t;
    // SAFETY: the program points to as many instructions as it says; the kernel copies and checks them.
    let attached = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            length,
        )
    };
    check(Call::setsockopt, attached.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use super::super::clone::{CloneFlags, Ended, Forked, clone3, exit_now, wait_for};
    use super::super::{netlink, ns};
    use super::*;

    /// In a net namespace of its own; it does not allocate, for other threads of the test may hold the allocator's lock.
    fn life(v6: bool) -> Result<(), CallError> {
        let (own, other): (IpAddr, IpAddr) = if v6 {
            (Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 1).into(), Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 7).into())
        } else {
            (Ipv4Addr::new(198, 18, 0, 1).into(), Ipv4Addr::new(93, 184, 216, 34).into())
        };
        ns::loopback_up()?;
        netlink::make_everything_local(own)?;
        let (tcp, icmp) = if v6 { (Refusals::TcpV6, Refusals::IcmpV6) } else { (Refusals::TcpV4, Refusals::IcmpV4) };
        let seen = [refusals(tcp)?, refusals(icmp)?];
        let mut buffer = [0; 512];
        let mut count = |wanted: [usize; 2]| {
            let mut got = [0; 2];
            for (seen, got) in seen.iter().zip(&mut got) {
                // SAFETY: the buffer is valid and writable for its length.
                while unsafe { libc::recv(seen.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) } > 0 {
                    *got += 1;
                }
            }
            if got == wanted { Ok(()) } else { Err(CallError::mismatch(Call::recvmsg)) }
        };
        let dial = |at: SocketAddr| {
            let client = socket(Kind::Tcp, v6).ok();
            client.map(|client| (rustix::net::connect(&client, &at), client))
        };
        // A listener takes what is sent to its address and port.
        let _listener = bound(Kind::Tcp, SocketAddr::new(other, 80))?;
        let _open = dial(SocketAddr::new(other, 80));
        count([0, 0])?;
        // Another port is refused and seen; on the loopback address it is refused and nobody's business.
        let loopback: IpAddr = if v6 { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() };
        let _refused = [dial(SocketAddr::new(other, 81)), dial(SocketAddr::new(loopback, 81))];
        count([1, 0])?;
        for address in [other, loopback] {
            let socket = socket(Kind::Udp, v6)?;
            let _ = rustix::net::sendto(&socket, b"x", rustix::net::SendFlags::empty(), &SocketAddr::new(address, 53));
        }
        count([0, 1])
    }

    #[test]
    fn what_nobody_takes_is_seen_and_loopback_is_not() {
        for v6 in [false, true] {
            match clone3(CloneFlags::USER.and(CloneFlags::NET)).unwrap() {
                Forked::Child => match life(v6) {
                    Ok(()) => exit_now(0),
                    Err(error) => exit_now(error.errno.0),
                },
                Forked::Parent { pid, .. } => {
                    assert_eq!(wait_for(pid).unwrap().decode(), Ended::Exited(0), "IPv6: {v6}");
                }
            }
        }
    }
}
