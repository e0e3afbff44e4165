//! Bytes from one socket to another through a pipe, without a copy in user space (splice(2)).

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

/// How much a pipe is asked to hold, in bytes. A user without privilege may have 64 MiB in pipes (pipe(7)).
const SIZE: usize = 256 * 1024;
/// How much is asked for at once: as much as the pipe has slots for.
const MOST: usize = 1 << 20;

/// A pipe that bytes rest in on their way.
#[derive(Debug)]
pub struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

impl Pipe {
    /// An empty one.
    ///
    /// # Errors
    /// As pipe2(2).
    pub fn new() -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // Over the user's allowance the pipe keeps its small size, and works.
        let _ = fcntl_setpipe_size(&write, SIZE);
        Ok(Self { read, write })
    }

    /// Takes what the non-blocking socket `from` has; 0 is its end. The pipe must be empty, for a full one says EAGAIN too.
    ///
    /// # Errors
    /// As splice(2).
    pub fn fill(&self, from: BorrowedFd<'_>) -> io::Result<usize> {
        Ok(splice(from, None, &self.write, None, MOST, SpliceFlags::MOVE | SpliceFlags::NONBLOCK)?)
    }

    /// Gives up to `most` bytes to the non-blocking socket `to`.
    ///
    /// # Errors
    /// As splice(2). A broken socket raises SIGPIPE too: the caller's thread has it blocked or ignored.
    pub fn drain(&self, to: BorrowedFd<'_>, most: usize) -> io::Result<usize> {
        Ok(splice(&self.read, None, to, None, most, SpliceFlags::MOVE | SpliceFlags::NONBLOCK)?)
    }
}
