//! The outer half of `sbx shell`: the caller's terminal in raw mode, joined byte by byte to the sandbox's own.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::relay::{Relay, RelayError};
use super::supervise::{Carried, Terminal};
use crate::sys::terminal::{self, RawMode};

/// The caller's terminal: its standard input, which must be one.
#[derive(Debug, Default)]
pub struct Outer {
    /// Set while the sandbox's terminal is joined.
    raw: Option<RawMode>,
}

impl Terminal for Outer {
    fn attach(&mut self, master: &OwnedFd) -> Result<Carried, RelayError> {
        let (stdin, stdout) = (io::stdin(), io::stdout());
        let raw = RawMode::enter(&stdin).map_err(RelayError::Write)?;
        raw.lend_mode(master).map_err(RelayError::Write)?;
        self.raw = Some(raw);
        self.resized(master);
        let join = || {
            Ok(Carried {
                stdin: Some(Relay::inward(stdin.as_fd().try_clone_to_owned()?, master.try_clone()?)?),
                stdout: Relay::outward(master.try_clone()?, stdout.as_fd().try_clone_to_owned()?)?,
                stderr: None,
            })
        };
        join().map_err(RelayError::Write)
    }

    fn resized(&mut self, master: &OwnedFd) {
        // A size that can't be had leaves the old one, as any terminal does.
        let _ = terminal::copy_window_size(io::stdin(), master);
    }

    fn paused(&mut self) {
        self.raw = None;
    }

    fn resumed(&mut self, master: &OwnedFd) {
        self.raw = RawMode::enter(io::stdin()).ok();
        self.resized(master);
    }
}
