//! Waiting for many descriptors at once (epoll(7)), and being woken by another thread (eventfd(2)).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};

/// What is asked about a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// As long as it can be read (level-triggered).
    Readable,
    /// As long as it can be read or written (level-triggered).
    ReadableOrWritable,
    /// As long as it can be written (level-triggered).
    Writable,
    /// Each time it becomes readable, writable, ended or broken (edge-triggered).
    Changes,
    /// Nothing for now; the kernel still tells of errors.
    Nothing,
}

impl Watch {
    fn flags(self) -> EventFlags {
        match self {
            Self::Readable => EventFlags::IN,
            Self::ReadableOrWritable => EventFlags::IN | EventFlags::OUT,
            Self::Writable => EventFlags::OUT,
            Self::Changes => EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET,
            Self::Nothing => EventFlags::empty(),
        }
    }
}

/// What is true of a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// The number it was added under.
    pub token: u64,
    /// It can be read, or has ended.
    pub read: bool,
    /// It can be written, or nobody will take it.
    pub write: bool,
    /// The peer sends nothing more.
    pub ended: bool,
    /// It has an error: for a TCP socket a reset or a failed connect.
    pub error: bool,
}

/// A set of descriptors to wait for. A descriptor leaves it when its last duplicate is closed.
#[derive(Debug)]
pub struct Epoll(OwnedFd);

impl Epoll {
    /// An empty set.
    ///
    /// # Errors
    /// As epoll_create1(2).
    pub fn new() -> io::Result<Self> {
        Ok(Self(epoll::create(CreateFlags::CLOEXEC)?))
    }

    /// Adds `fd` under the number `token`.
    ///
    /// # Errors
    /// As epoll_ctl(2).
    pub fn add(&self, fd: impl AsFd, token: u64, watch: Watch) -> io::Result<()> {
        Ok(epoll::add(&self.0, fd, EventData::new_u64(token), watch.flags())?)
    }

    /// Asks something else about `fd`.
    ///
    /// # Errors
    /// As epoll_ctl(2).
    pub fn change(&self, fd: impl AsFd, token: u64, watch: Watch) -> io::Result<()> {
        Ok(epoll::modify(&self.0, fd, EventData::new_u64(token), watch.flags())?)
    }

    /// Waits until something is ready, at most `timeout`, and puts what is into `ready`. A signal counts as nothing.
    ///
    /// # Errors
    /// As epoll_wait(2).
    pub fn wait(&self, timeout: Option<Duration>, ready: &mut Vec<Ready>) -> io::Result<()> {
        ready.clear();
        let mut events = [const { std::mem::MaybeUninit::<Event>::uninit() }; 256];
        // Rounded up to epoll's milliseconds: a wait that ends early would spin until its time has come.
        let timeout = timeout.map(|time| {
            let milliseconds = i64::try_from(time.as_micros().div_ceil(1000)).unwrap_or(i64::MAX).min(86_400_000);
            Timespec { tv_sec: milliseconds / 1000, tv_nsec: milliseconds % 1000 * 1_000_000 }
        });
        let got = match epoll::wait(&self.0, &mut events, timeout.as_ref()) {
            Ok((got, _)) => got,
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        ready.extend(got.iter().map(|event| {
            let flags = event.flags;
            let broken = flags.intersects(EventFlags::HUP | EventFlags::ERR);
            Ready {
                token: event.data.u64(),
                read: broken || flags.intersects(EventFlags::IN | EventFlags::RDHUP),
                write: broken || flags.contains(EventFlags::OUT),
                ended: flags.intersects(EventFlags::RDHUP | EventFlags::HUP),
                error: flags.contains(EventFlags::ERR),
            }
        }));
        Ok(())
    }
}

/// A bell that one thread rings and another one, which waits for its descriptor, hears.
#[derive(Debug)]
pub struct Bell(OwnedFd);

impl Bell {
    /// A silent one.
    ///
    /// # Errors
    /// As eventfd(2).
    pub fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Rings; ringing twice is ringing once.
    pub fn ring(&self) {
        // EAGAIN says that it is ringing already.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    /// Silences it.
    pub fn hear(&self) {
        // EAGAIN says that it was silent.
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bell_is_heard_until_it_is_silenced() {
        let (epoll, bell) = (Epoll::new().unwrap(), Bell::new().unwrap());
        epoll.add(&bell, 7, Watch::Readable).unwrap();
        let mut ready = Vec::new();
        epoll.wait(Some(Duration::ZERO), &mut ready).unwrap();
        assert!(ready.is_empty());
        bell.ring();
        bell.ring();
        epoll.wait(None, &mut ready).unwrap();
        assert_eq!(ready.iter().map(|one| (one.token, one.read, one.error)).collect::<Vec<_>>(), [(7, true, false)]);
        bell.hear();
        epoll.wait(Some(Duration::ZERO), &mut ready).unwrap();
        assert!(ready.is_empty());
    }
}
