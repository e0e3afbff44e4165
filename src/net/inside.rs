//! The socket maker: a small process that lives in the sandbox's user and net namespace, outside of its pid namespace, and
//! makes sockets there on request.
//!
//! A socket belongs to the net namespace in which it was made, whoever holds it. So the relay can listen and connect
//! inside without being there, and the command, which has no capability, can't do what the maker does. It holds one end
//! of a socket pair and nothing else, allocates nothing, and ends when the other end does.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::{Inside, NetError};
use crate::plan::network::{OWN_V4, OWN_V6};
use crate::sys::clone::{self, exit_now};
use crate::sys::errno::{Call, CallError, Errno};
use crate::sys::event::{self, Interest};
use crate::sys::inside::{self, Kind, Refusals};
use crate::sys::{fdpass, netlink, ns, process};

/// What the maker is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// A bound socket.
    Bound(Kind, SocketAddr),
    /// A socket that is neither bound nor connected; whether it is IPv6's.
    Plain(Kind, bool),
    /// A socket that sees refusals.
    Refusals(Refusals),
}

/// The size of an order, in bytes.
const ORDER: usize = 24;
/// The size of an answer, in bytes.
const ANSWER: usize = 8;

impl Order {
    fn encode(self) -> [u8; ORDER] {
        let mut bytes = [0; ORDER];
        let code = |kind| if kind == Kind::Tcp { 0 } else { 1 };
        match self {
            Self::Bound(kind, at) => {
                bytes[0] = 2 + code(kind);
                bytes[2..4].copy_from_slice(&at.port().to_le_bytes());
                match at.ip() {
                    IpAddr::V4(address) => bytes[4..8].copy_from_slice(&address.octets()),
                    IpAddr::V6(address) => {
                        bytes[1] = 1;
                        bytes[4..20].copy_from_slice(&address.octets());
                    }
                }
            }
            Self::Plain(kind, v6) => bytes[..2].copy_from_slice(&[code(kind), v6.into()]),
            Self::Refusals(kind) => bytes[..2].copy_from_slice(&[4, kind as u8]),
        }
        bytes
    }

    fn decode(bytes: &[u8; ORDER]) -> Option<Self> {
        let kind = if bytes[0] & 1 == 0 { Kind::Tcp } else { Kind::Udp };
        let v6 = bytes[1] != 0;
        Some(match bytes[0] {
            0 | 1 => Self::Plain(kind, v6),
            2 | 3 => {
                let octets: [u8; 16] = bytes[4..20].try_into().ok()?;
                let address = if v6 {
                    Ipv6Addr::from(octets).into()
                } else {
                    Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]).into()
                };
                Self::Bound(kind, SocketAddr::new(address, u16::from_le_bytes([bytes[2], bytes[3]])))
            }
            4 => Self::Refusals(*Refusals::ALL.get(usize::from(bytes[1]))?),
            _ => return None,
        })
    }

    fn fulfil(self) -> Result<OwnedFd, CallError> {
        match self {
            Self::Bound(kind, at) => inside::bound(kind, at),
            Self::Plain(kind, v6) => inside::socket(kind, v6),
            Self::Refusals(kind) => inside::refusals(kind),
        }
    }
}

/// What the maker says: done, or the call that failed and why.
fn encode(result: Result<(), CallError>) -> [u8; ANSWER] {
    let mut bytes = [0; ANSWER];
    if let Err(error) = result {
        bytes[0] = 1;
        bytes[1] = error.call as u8;
        bytes[4..].copy_from_slice(&error.errno.0.to_le_bytes());
    }
    bytes
}

fn decode(bytes: &[u8; ANSWER]) -> Option<Result<(), CallError>> {
    match bytes[0] {
        0 => Some(Ok(())),
        1 => {
            let errno = Errno(i32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]));
            Some(Err(CallError { call: Call::from_number(bytes[1])?, errno }))
        }
        _ => None,
    }
}

/// The maker, seen from the relay. Dropping it ends the process and reaps it.
#[derive(Debug)]
pub struct Maker {
    pid: i32,
    /// `None` only while it is dropped.
    socket: Option<OwnedFd>,
}

impl Maker {
    /// Starts it in the net namespace `net`, which `user` owns, and waits until every address is local there.
    ///
    /// # Errors
    /// When the process can't be made, can't enter, or can't change the namespace's addresses.
    pub fn start(user: BorrowedFd<'_>, net: BorrowedFd<'_>) -> Result<Self, NetError> {
        let set_up = |doing| move |error: CallError| NetError::SetUp { doing, source: into_io(error) };
        let (ours, theirs) = fdpass::pair().map_err(set_up("the maker's socket"))?;
        match clone::fork().map_err(set_up("the socket maker"))? {
            0 => serve(user, net, theirs.as_fd()),
            pid => {
                drop(theirs);
                let mut maker = Self { pid, socket: Some(ours) };
                maker.answer().map_err(|source| NetError::SetUp { doing: "the addresses inside", source })?;
                Ok(maker)
            }
        }
    }

    fn order(&mut self, order: Order) -> io::Result<OwnedFd> {
        let socket = self.socket.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        fdpass::send(socket.as_fd(), &order.encode(), &[]).map_err(into_io)?;
        self.answer()?.ok_or_else(|| io::Error::other("the socket maker sent no socket"))
    }

    fn answer(&mut self) -> io::Result<Option<OwnedFd>> {
        let gone = || io::Error::new(io::ErrorKind::BrokenPipe, "the socket maker is gone");
        let socket = self.socket.as_ref().ok_or_else(gone)?.as_fd();
        let mut bytes = [0; ANSWER];
        let received = receive(socket, &mut bytes).map_err(into_io)?;
        if received.length != ANSWER {
            return Err(gone());
        }
        decode(&bytes).ok_or_else(gone)?.map_err(into_io)?;
        let [socket, ..] = received.descriptors;
        Ok(socket)
    }
}

impl Drop for Maker {
    fn drop(&mut self) {
        self.socket = None;
        // An error means that somebody else reaped it: it is gone either way.
        let _ = clone::wait_for(self.pid);
    }
}

impl Inside for Maker {
    fn listen_tcp(&mut self, at: SocketAddr) -> io::Result<OwnedFd> {
        self.order(Order::Bound(Kind::Tcp, at))
    }

    fn bind_udp(&mut self, at: SocketAddr) -> io::Result<OwnedFd> {
        self.order(Order::Bound(Kind::Udp, at))
    }

    fn socket_tcp(&mut self, v6: bool) -> io::Result<OwnedFd> {
        self.order(Order::Plain(Kind::Tcp, v6))
    }

    fn socket_udp(&mut self, v6: bool) -> io::Result<OwnedFd> {
        self.order(Order::Plain(Kind::Udp, v6))
    }

    fn refusals(&mut self, kind: Refusals) -> io::Result<OwnedFd> {
        self.order(Order::Refusals(kind))
    }
}

fn into_io(error: CallError) -> io::Error {
    io::Error::from_raw_os_error(error.errno.0)
}

/// Waits for one message.
fn receive(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> Result<fdpass::Received, CallError> {
    loop {
        event::wait(&[Some((socket, Interest { read: true, write: false }))], None)?;
        if let Some(received) = fdpass::receive(socket, bytes)? {
            return Ok(received);
        }
    }
}

/// The life of the maker. It allocates nothing.
fn serve(user: BorrowedFd<'_>, net: BorrowedFd<'_>, socket: BorrowedFd<'_>) -> ! {
    let entered = ns::enter(user)
        .and_then(|()| ns::enter(net))
        .and_then(|()| process::close_from(0, Some(socket)))
        .and_then(|()| addresses());
    if fdpass::send(socket, &encode(entered), &[]).is_err() || entered.is_err() {
        exit_now(1);
    }
    let mut bytes = [0; ORDER];
    loop {
        match receive(socket, &mut bytes) {
            Ok(received) if received.length == ORDER => {}
            // The relay is gone.
            _ => exit_now(0),
        }
        let Some(order) = Order::decode(&bytes) else { exit_now(1) };
        let sent = match order.fulfil() {
            Ok(made) => fdpass::send(socket, &encode(Ok(())), &[made.as_fd()]),
            Err(error) => fdpass::send(socket, &encode(Err(error)), &[]),
        };
        if sent.is_err() {
            exit_now(0);
        }
    }
}

fn addresses() -> Result<(), CallError> {
    netlink::make_everything_local(IpAddr::V4(OWN_V4))?;
    match netlink::make_everything_local(IpAddr::V6(OWN_V6)) {
        // No IPv6 in this kernel or in this namespace: then nothing can be reached by it either.
        Err(error) if matches!(error.errno, Errno::EACCES | Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_survives_its_bytes() {
        for order in [
            Order::Bound(Kind::Tcp, "198.18.1.0:443".parse().unwrap()),
            Order::Bound(Kind::Udp, "[2001:2::101]:53".parse().unwrap()),
            Order::Plain(Kind::Tcp, true),
            Order::Plain(Kind::Udp, false),
            Order::Refusals(Refusals::TcpV4),
            Order::Refusals(Refusals::IcmpV6),
        ] {
            assert_eq!(Order::decode(&order.encode()), Some(order));
        }
        assert_eq!(Order::decode(&[9; ORDER]), None);
    }

    #[test]
    fn an_answer_survives_its_bytes() {
        let error = CallError { call: Call::bind, errno: Errno::EACCES };
        for answer in [Ok(()), Err(error)] {
            assert_eq!(decode(&encode(answer)), Some(answer));
        }
        assert_eq!(decode(&[7; ANSWER]), None);
    }
}
