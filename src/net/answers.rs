//! Where questions about names come in, by UDP and TCP.

use std::io::ErrorKind;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::sys::epoll::{Ready, Watch};
use crate::sys::{datagram, socket};

use super::dns::{self, Transport};
use super::relay::{Engine, Entry, token};
use super::slab::Key;

/// DNS's port.
pub(super) const PORT: u16 = 53;
/// Questions that are answered before others have their turn.
const AT_ONCE: usize = 64;
/// How long a TCP connection may ask nothing (RFC 7766 wants it to be some seconds).
const IDLE: Duration = Duration::from_secs(30);
/// How many bytes of answers wait for one that doesn't read, before it gets no more.
const UNREAD: usize = 64 * 1024;

/// Answers what came by UDP.
pub(super) fn questions(socket: BorrowedFd<'_>, engine: &mut Engine) -> bool {
    let mut buffer = [0; 4096];
    for _ in 0..AT_ONCE {
        // An error is an answer that nobody wanted, or the end of what came.
        match datagram::receive(socket, &mut buffer) {
            Ok(got) => {
                if let Some(reply) = buffer.get(..got.length).and_then(|q| dns::answer(q, Transport::Udp, engine)) {
                    // Who doesn't take the answer asks again.
                    let _ = datagram::send(socket, &reply, got.from, got.to);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(_) => {}
        }
    }
    true
}

/// One that asks by TCP: each message after its length (RFC 1035, 4.2.2).
#[derive(Debug)]
pub(super) struct Asker {
    fd: OwnedFd,
    asked: Vec<u8>,
    replies: Vec<u8>,
    ended: bool,
    until: Instant,
}

impl Asker {
    /// Takes one in.
    pub(super) fn welcome(engine: &mut Engine, fd: OwnedFd) {
        let until = Instant::now() + IDLE;
        let asker = |fd| Box::new(Self { fd, asked: Vec::new(), replies: Vec::new(), ended: false, until });
        if let Ok(key) = engine.add(Watch::Readable, fd, |fd| Entry::Asker(asker(fd))) {
            engine.connections += 1;
            engine.wake_at(until, key);
        }
    }

    /// Reads, answers and writes what can be; false when it is over.
    pub(super) fn ready(&mut self, engine: &mut Engine, key: Key, ready: Ready) -> bool {
        let goes_on = self.exchange(engine, ready);
        if !goes_on {
            engine.connections -= 1;
            return false;
        }
        let watch = if self.replies.is_empty() {
            Watch::Readable
        } else if self.ended || self.replies.len() > UNREAD {
            Watch::Writable
        } else {
            Watch::ReadableOrWritable
        };
        let _ = engine.epoll.change(&self.fd, token(key, 0), watch);
        true
    }

    fn exchange(&mut self, engine: &mut Engine, ready: Ready) -> bool {
        if ready.read && !self.ended && self.replies.len() <= UNREAD {
            let mut buffer = [0; 4096];
            match socket::receive(&self.fd, &mut buffer) {
                Ok(0) => self.ended = true,
                Ok(length) => self.asked.extend_from_slice(&buffer[..length]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(_) => return false,
            }
            self.answer(engine);
        }
        match socket::send(&self.fd, &self.replies) {
            Ok(length) => drop(self.replies.drain(..length)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => return false,
        }
        !(self.ended && self.replies.is_empty())
    }

    fn answer(&mut self, engine: &mut Engine) {
        let mut rest = &self.asked[..];
        while let Some((&[high, low], more)) = rest.split_first_chunk()
            && let Some((question, more)) = more.split_at_checked(usize::from(u16::from_be_bytes([high, low])))
        {
            rest = more;
            if let Some(reply) = dns::answer(question, Transport::Tcp, engine)
                && let Ok(length) = u16::try_from(reply.len())
            {
                self.replies.extend_from_slice(&length.to_be_bytes());
                self.replies.extend_from_slice(&reply);
            }
            self.until = Instant::now() + IDLE;
        }
        let left = rest.len();
        self.asked.drain(..self.asked.len() - left);
    }

    /// False when it has asked nothing for too long.
    pub(super) fn pass_time(&mut self, engine: &mut Engine, key: Key, now: Instant) -> bool {
        if now >= self.until {
            engine.connections -= 1;
            return false;
        }
        engine.wake_at(self.until, key);
        true
    }
}
