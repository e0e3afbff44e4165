//! The caller's terminal, while a sandbox's own is joined to it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

/// A terminal in raw mode: every byte passes, nothing is echoed, no key makes a signal. Dropping it restores the mode
/// that was found.
#[derive(Debug)]
pub struct RawMode {
    terminal: OwnedFd,
    before: Termios,
}

impl RawMode {
    /// Switches `terminal`.
    ///
    /// # Errors
    /// ENOTTY when it is none; as tcsetattr(3).
    pub fn enter(terminal: impl AsFd) -> io::Result<Self> {
        let terminal = terminal.as_fd().try_clone_to_owned()?;
        let before = tcgetattr(&terminal)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&terminal, OptionalActions::Now, &raw)?;
        Ok(Self { terminal, before })
    }

    /// Gives `other` the mode that was found, so that the user's keys do there what they do at home.
    ///
    /// # Errors
    /// As tcsetattr(3).
    pub fn lend_mode(&self, other: impl AsFd) -> io::Result<()> {
        Ok(tcsetattr(other, OptionalActions::Now, &self.before)?)
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // A terminal that is gone needs no mode.
        let _ = tcsetattr(&self.terminal, OptionalActions::Drain, &self.before);
    }
}

/// Gives the terminal `to` the window size of `from`.
///
/// # Errors
/// ENOTTY when one is none.
pub fn copy_window_size(from: impl AsFd, to: impl AsFd) -> io::Result<()> {
    Ok(tcsetwinsize(to, tcgetwinsize(from)?)?)
}

#[cfg(test)]
mod tests {
    use rustix::termios::LocalModes;

    use super::*;
    use crate::sys::pty;

    #[test]
    fn the_mode_comes_back_and_the_size_goes_over() {
        let (one, other) = (pty::open_pair(c"/dev/ptmx").unwrap(), pty::open_pair(c"/dev/ptmx").unwrap());
        let canonical = |pair: &pty::Pair| tcgetattr(&pair.slave).unwrap().local_modes.contains(LocalModes::ICANON);
        let raw = RawMode::enter(&one.slave).unwrap();
        assert!(!canonical(&one));
        raw.lend_mode(&other.master).unwrap();
        assert!(canonical(&other));
        drop(raw);
        assert!(canonical(&one));
        tcsetwinsize(&one.master, rustix::termios::Winsize { ws_row: 7, ws_col: 9, ws_xpixel: 0, ws_ypixel: 0 })
            .unwrap();
        copy_window_size(&one.slave, &other.master).unwrap();
        assert_eq!(tcgetwinsize(&other.slave).unwrap().ws_col, 9);
        assert!(RawMode::enter(std::fs::File::open("/dev/null").unwrap()).is_err());
    }
}
