//! Byte streams that other processes share with us: pipes, sockets, terminals.
//!
//! `O_NONBLOCK` belongs to the open file description, which a caller's shell and its other commands share; setting it
//! there breaks them. So nothing here sets it on a description that came from outside: it asks first ([`ready`]), or
//! opens a description of its own ([`reopen_for_writing`]).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl, open};

/// What to wait for at a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Bytes, or the end of them.
    Read,
    /// Room for bytes, or the news that nobody will take them.
    Write,
}

/// True when one `read` (or one `write` of at most `PIPE_BUF` bytes) at `fd` would not block, be it for an error.
///
/// # Errors
/// When `poll` fails.
pub fn ready(fd: BorrowedFd<'_>, direction: Direction) -> io::Result<bool> {
    let flags = match direction {
        Direction::Read => PollFlags::IN,
        Direction::Write => PollFlags::OUT,
    };
    let mut fds = [PollFd::new(&fd, flags)];
    rustix::io::retry_on_intr(|| poll(&mut fds, Some(&Timespec::default())))?;
    Ok(!fds[0].revents().is_empty())
}

/// Adds what `fd` has to `buffer`, at most what there is room for without growing. How many bytes came; 0 is the end.
///
/// # Errors
/// As read(2).
pub fn read(fd: BorrowedFd<'_>, buffer: &mut Vec<u8>) -> io::Result<usize> {
    Ok(rustix::io::read(fd, spare_capacity(buffer))?)
}

/// Opens the pipe or terminal behind `fd` again for writing: a description of our own, which may be non-blocking.
///
/// # Errors
/// When there is no `/proc`, the device belongs to another user, or a pipe has lost its last reader.
pub fn reopen_for_writing(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(open(format!("/proc/self/fd/{}", fd.as_raw_fd()), flags, Mode::empty())?)
}

/// Makes a description that nobody else uses non-blocking.
///
/// # Errors
/// When `fcntl` fails.
pub fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
    Ok(fcntl_setfl(&fd, fcntl_getfl(&fd)? | OFlags::NONBLOCK)?)
}
