//! Ports of the host that lead into the sandbox.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use crate::config::rules::{Protocol, Publish};
use crate::sys::{datagram, socket};

use super::NetError;

/// A port of the host that is bound and belongs to this run.
#[derive(Debug)]
pub struct Published {
    pub(super) entry: Publish,
    pub(super) socket: OwnedFd,
}

/// Binds every published port on the host: all of them or none.
///
/// # Errors
/// When one is taken or can't be bound.
pub fn bind_published(list: &[Publish]) -> Result<Vec<Published>, NetError> {
    list.iter()
        .map(|entry| {
            let publish = *entry;
            let socket = bind(entry).map_err(|source| match source.kind() {
                io::ErrorKind::AddrInUse => NetError::InUse { publish },
                _ => NetError::Publish { publish, source },
            })?;
            Ok(Published { entry: publish, socket })
        })
        .collect()
}

fn bind(entry: &Publish) -> io::Result<OwnedFd> {
    match entry.protocol {
        Protocol::Tcp => socket::listen_tcp(entry.host),
        Protocol::Udp => {
            let socket = socket::bind_udp(entry.host)?;
            if entry.host.ip().is_unspecified() {
                // Replies leave from the address that was asked.
                datagram::ask_for_destination(socket.as_fd(), entry.host.is_ipv6())?;
            }
            Ok(socket)
        }
    }
}

impl Published {
    /// The entry of `publish`.
    pub fn entry(&self) -> Publish {
        self.entry
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn a_taken_port_is_named_and_nothing_stays_bound() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        // Of an address that no other test binds to: one of theirs could take the port.
        let free = UdpSocket::bind("127.0.70.1:0").unwrap().local_addr().unwrap();
        let entry = |protocol, host: SocketAddr| Publish { protocol, host, inside: 80 };
        let list = [entry(Protocol::Udp, free), entry(Protocol::Tcp, taken.local_addr().unwrap())];
        let error = bind_published(&list).unwrap_err();
        let text = taken.local_addr().unwrap().to_string();
        assert_eq!(error.to_string(), format!("can't publish {text}:80: {text} is in use (tcp)"));
        assert!(error.hint().unwrap().contains(&text));
        // The first of the pair is free again.
        let bound = bind_published(&list[..1]).unwrap();
        assert_eq!(bound[0].entry(), list[0]);
        assert_eq!(UdpSocket::bind(free).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn an_address_of_another_machine_is_explained() {
        let host = "192.0.2.1:4711".parse().unwrap();
        let error = bind_published(&[Publish { protocol: Protocol::Tcp, host, inside: 80 }]).unwrap_err();
        assert!(error.hint().unwrap().contains("none of this machine's"), "{error:?}");
    }
}
