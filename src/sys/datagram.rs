//! Datagrams with both of their addresses (ip(7), ipv6(7)), and packets (packet(7)).
#![expect(unsafe_code, reason = "control messages with packet information have no wrapper in the features we use")]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};

#[repr(C, align(8))]
struct Control([u8; 128]);

/// A datagram that was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram {
    /// How many bytes of the buffer it fills; longer ones are cut.
    pub length: usize,
    /// Who sent it.
    pub from: SocketAddr,
    /// The address that it was sent to, where the socket was asked for it ([`ask_for_destination`]).
    pub to: Option<IpAddr>,
}

fn last_error() -> io::Error {
    io::Error::last_os_error()
}

fn read_address(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that the kernel wrote a sockaddr_in; sockaddr_storage is larger and aligned for it.
            let address = unsafe { &*(&raw const *storage).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from_bits(u32::from_be(address.sin_addr.s_addr));
            Some(SocketAddrV4::new(ip, u16::from_be(address.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above, for sockaddr_in6.
            let address = unsafe { &*(&raw const *storage).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(address.sin6_addr.s6_addr);
            let (flow, scope) = (address.sin6_flowinfo, address.sin6_scope_id);
            Some(SocketAddrV6::new(ip, u16::from_be(address.sin6_port), flow, scope).into())
        }
        _ => None,
    }
}

fn write_address(address: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: sockaddr_storage is plain integers, for which zero is valid.
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let length = match address {
        SocketAddr::V4(address) => {
            // SAFETY: sockaddr_storage is larger than, and aligned for, a sockaddr_in.
            let place = unsafe { &mut *(&raw mut storage).cast::<libc::sockaddr_in>() };
            place.sin_family = libc::AF_INET as libc::sa_family_t;
            place.sin_port = address.port().to_be();
            place.sin_addr.s_addr = address.ip().to_bits().to_be();
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(address) => {
            // SAFETY: as above, for sockaddr_in6.
            let place = unsafe { &mut *(&raw mut storage).cast::<libc::sockaddr_in6>() };
            place.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            place.sin6_port = address.port().to_be();
            place.sin6_addr.s6_addr = address.ip().octets();
            place.sin6_scope_id = address.scope_id();
            size_of::<libc::sockaddr_in6>()
        }
    };
    (storage, length as libc::socklen_t)
}

/// Has every datagram come with the address that it was sent to.
///
/// # Errors
/// As setsockopt(2).
pub fn ask_for_destination(fd: BorrowedFd<'_>, v6: bool) -> io::Result<()> {
    let (level, option) =
        if v6 { (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO) } else { (libc::IPPROTO_IP, libc::IP_PKTINFO) };
    let on: libc::c_int = 1;
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the option reads one integer.
    let result = unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, (&raw const on).cast(), length) };
    if result == 0 { Ok(()) } else { Err(last_error()) }
}

/// Receives one datagram.
///
/// # Errors
/// EAGAIN when there is none; as recvmsg(2).
pub fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Datagram> {
    let mut control = Control([0; 128]);
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: sockaddr_storage is plain integers, for which zero is valid.
    let mut from: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    // SAFETY: msghdr is plain integers and pointers, for which zero is valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = (&raw mut from).cast();
    message.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len() as _;
    // SAFETY: everything that the message points to is alive and writable here.
    let length = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut message, 0) };
    let length = usize::try_from(length).map_err(|_| last_error())?;
    let mut to = None;
    // SAFETY: the kernel wrote well-formed headers into the control buffer, each with the structure that its level and
    // type say; they are read unaligned.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            match ((*header).cmsg_level, (*header).cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info = libc::CMSG_DATA(header).cast::<libc::in_pktinfo>().read_unaligned();
                    to = Some(IpAddr::V4(Ipv4Addr::from_bits(u32::from_be(info.ipi_addr.s_addr))));
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info = libc::CMSG_DATA(header).cast::<libc::in6_pktinfo>().read_unaligned();
                    to = Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr)));
                }
                _ => {}
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
    }
    Ok(Datagram { length, from: read_address(&from).ok_or(io::ErrorKind::Unsupported)?, to })
}

/// Sends one datagram to `to`; from the address `from`, where the socket is bound to an unspecified one.
///
/// # Errors
/// As sendmsg(2).
pub fn send(fd: BorrowedFd<'_>, bytes: &[u8], to: SocketAddr, from: Option<IpAddr>) -> io::Result<()> {
    let (mut name, name_length) = write_address(to);
    let mut control = Control([0; 128]);
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: msghdr is plain integers and pointers, for which zero is valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = (&raw mut name).cast();
    message.msg_namelen = name_length;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    if let Some(from) = from {
        message.msg_control = control.0.as_mut_ptr().cast();
        // SAFETY: the structures are plain integers, for which zero is valid; the control buffer is aligned, zeroed, and
        // larger than one header with either structure, so the header and its data lie within it.
        unsafe {
            let (level, kind, size) = match from {
                IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO, size_of::<libc::in_pktinfo>()),
                IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, size_of::<libc::in6_pktinfo>()),
            };
            message.msg_controllen = libc::CMSG_SPACE(size as u32) as _;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = level;
            (*header).cmsg_type = kind;
            (*header).cmsg_len = libc::CMSG_LEN(size as u32) as _;
            match from {
                IpAddr::V4(address) => {
                    let mut info: libc::in_pktinfo = std::mem::zeroed();
                    info.ipi_spec_dst.s_addr = address.to_bits().to_be();
                    libc::CMSG_DATA(header).cast::<libc::in_pktinfo>().write_unaligned(info);
                }
                IpAddr::V6(address) => {
                    let mut info: libc::in6_pktinfo = std::mem::zeroed();
                    info.ipi6_addr.s6_addr = address.octets();
                    libc::CMSG_DATA(header).cast::<libc::in6_pktinfo>().write_unaligned(info);
                }
            }
        }
    }
    // SAFETY: everything that the message points to is alive here.
    let sent = unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
    if sent < 0 { Err(last_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_reply_leaves_from_the_address_that_was_asked() {
        for (any, target) in [("0.0.0.0:0", "127.9.8.7"), ("[::]:0", "::1")] {
            let server = UdpSocket::bind(any).unwrap();
            let target: IpAddr = target.parse().unwrap();
            ask_for_destination(server.as_fd(), target.is_ipv6()).unwrap();
            let at = SocketAddr::new(target, server.local_addr().unwrap().port());
            let client = UdpSocket::bind(SocketAddr::new(target, 0)).unwrap();
            client.connect(at).unwrap();
            client.send(b"ping").unwrap();
            let mut buffer = [0; 16];
            let got = receive(server.as_fd(), &mut buffer).unwrap();
            assert_eq!((got.length, got.from, got.to), (4, client.local_addr().unwrap(), Some(target)));
            send(server.as_fd(), b"pong!", got.from, got.to).unwrap();
            // A connected socket takes nothing from any other address.
            assert_eq!(client.recv(&mut buffer).unwrap(), 5);
        }
    }
}
