//! Internet sockets, all close-on-exec and non-blocking.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, acceptfrom_with, ipproto, sockopt,
};

/// How many connections may wait to be accepted; the kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// When the other side of a silent connection is asked whether it is still there, and how often.
const KEEP_ALIVE: (Duration, Duration, u32) = (Duration::from_secs(60), Duration::from_secs(30), 6);

fn socket(v6: bool, kind: SocketType) -> io::Result<OwnedFd> {
    let family = if v6 { AddressFamily::INET6 } else { AddressFamily::INET };
    let protocol = if kind == SocketType::STREAM { ipproto::TCP } else { ipproto::UDP };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(family, kind, flags, Some(protocol))?)
}

/// A TCP socket.
///
/// # Errors
/// As socket(2).
pub fn tcp(v6: bool) -> io::Result<OwnedFd> {
    socket(v6, SocketType::STREAM)
}

/// A UDP socket.
///
/// # Errors
/// As socket(2).
pub fn udp(v6: bool) -> io::Result<OwnedFd> {
    socket(v6, SocketType::DGRAM)
}

/// A TCP socket that listens at `at`; an IPv6 one takes IPv6 only.
///
/// # Errors
/// As bind(2), listen(2).
pub fn listen_tcp(at: SocketAddr) -> io::Result<OwnedFd> {
    let fd = tcp(at.is_ipv6())?;
    // Connections of an earlier program that linger at this port don't hinder; one that listens does.
    sockopt::set_socket_reuseaddr(&fd, true)?;
    bind(&fd, at)?;
    rustix::net::listen(&fd, BACKLOG)?;
    Ok(fd)
}

/// A UDP socket that is bound to `at`; an IPv6 one takes IPv6 only.
///
/// # Errors
/// As bind(2).
pub fn bind_udp(at: SocketAddr) -> io::Result<OwnedFd> {
    let fd = udp(at.is_ipv6())?;
    bind(&fd, at)?;
    Ok(fd)
}

fn bind(fd: &OwnedFd, at: SocketAddr) -> io::Result<()> {
    if at.is_ipv6() {
        sockopt::set_ipv6_v6only(fd, true)?;
    }
    Ok(rustix::net::bind(fd, &at)?)
}

/// Connects; false when it will turn out later (the socket becomes writable; see [`take_error`]).
///
/// # Errors
/// As connect(2).
pub fn connect(fd: impl AsFd, to: SocketAddr) -> io::Result<bool> {
    match rustix::net::connect(fd, &to) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::INPROGRESS) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The pending error of a socket, which is taken from it.
///
/// # Errors
/// That error.
pub fn take_error(fd: impl AsFd) -> io::Result<()> {
    Ok(sockopt::socket_error(fd)??)
}

/// One waiting connection and its peer's address.
///
/// # Errors
/// EAGAIN when there is none; as accept4(2).
pub fn accept(listener: impl AsFd) -> io::Result<(OwnedFd, SocketAddr)> {
    let (fd, peer) = acceptfrom_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
    Ok((fd, peer.ok_or(io::ErrorKind::Unsupported)?))
}

/// The address that a socket has on this side.
///
/// # Errors
/// As getsockname(2).
pub fn local_address(fd: impl AsFd) -> io::Result<SocketAddr> {
    Ok(SocketAddr::try_from(rustix::net::getsockname(fd)?)?)
}

/// Reads.
///
/// # Errors
/// As recv(2).
pub fn receive(fd: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::net::recv(fd, buffer, RecvFlags::empty())?.1)
}

/// Reads and leaves the bytes where they are.
///
/// # Errors
/// As recv(2).
pub fn peek(fd: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::net::recv(fd, buffer, RecvFlags::PEEK)?.1)
}

/// Writes, without SIGPIPE.
///
/// # Errors
/// As send(2).
pub fn send(fd: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    Ok(rustix::net::send(fd, bytes, SendFlags::NOSIGNAL)?)
}

/// Says that nothing more will be sent.
///
/// # Errors
/// As shutdown(2).
pub fn end_writing(fd: impl AsFd) -> io::Result<()> {
    Ok(rustix::net::shutdown(fd, Shutdown::Write)?)
}

/// Has the socket's closing be a reset: the peer is told that the connection broke, and what it has not read is lost.
pub fn break_off(fd: impl AsFd) {
    // A socket that refuses the option is closed all the same.
    let _ = sockopt::set_socket_linger(fd, Some(Duration::ZERO));
}

/// Sends small pieces at once.
///
/// # Errors
/// As setsockopt(2).
pub fn no_delay(fd: impl AsFd) -> io::Result<()> {
    Ok(sockopt::set_tcp_nodelay(fd, true)?)
}

/// Asks the peer now and then whether it is still there: connections that are silent for long live, and those to a
/// dead peer end.
///
/// # Errors
/// As setsockopt(2).
pub fn keep_alive(fd: impl AsFd) -> io::Result<()> {
    let fd = fd.as_fd();
    let (idle, interval, count) = KEEP_ALIVE;
    sockopt::set_socket_keepalive(fd, true)?;
    sockopt::set_tcp_keepidle(fd, idle)?;
    sockopt::set_tcp_keepintvl(fd, interval)?;
    Ok(sockopt::set_tcp_keepcnt(fd, count)?)
}
