//! The caller's terminal: its modes and its size.

use std::io;
use std::os::fd::AsFd;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

/// The modes of a terminal (termios(3)).
#[derive(Debug, Clone)]
pub struct Modes(Termios);

impl Modes {
    /// These modes with every byte passed on as it is: no echo, no lines, no signals.
    #[must_use]
    pub fn raw(&self) -> Self {
        let mut raw = self.clone();
        raw.0.make_raw();
        raw
    }
}

/// The modes of the terminal `fd`; of a pseudo-terminal's master, those of its slave.
///
/// # Errors
/// `ENOTTY` when it is no terminal.
pub fn modes(fd: impl AsFd) -> io::Result<Modes> {
    Ok(Modes(tcgetattr(fd)?))
}

/// Gives the terminal these modes at once.
///
/// # Errors
/// Those of tcsetattr(3).
pub fn set_modes(fd: impl AsFd, modes: &Modes) -> io::Result<()> {
    Ok(tcsetattr(fd, OptionalActions::Now, &modes.0)?)
}

/// Gives the terminal `to` the size of the terminal `from`; the programs in its foreground get SIGWINCH if it differs.
///
/// # Errors
/// `ENOTTY` when one of them is no terminal.
pub fn copy_size(from: impl AsFd, to: impl AsFd) -> io::Result<()> {
    Ok(tcsetwinsize(to, tcgetwinsize(from)?)?)
}

/// A new pseudo-terminal of `columns` by `rows`: master and slave.
#[cfg(test)]
pub(crate) fn pair(columns: u16, rows: u16) -> (std::fs::File, std::fs::File) {
    use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let slave = ioctl_tiocgptpeer(&master, flags).unwrap();
    tcsetwinsize(&slave, rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })
        .unwrap();
    (master.into(), slave.into())
}

/// Columns and rows.
#[cfg(test)]
pub(crate) fn size(fd: impl AsFd) -> (u16, u16) {
    let size = tcgetwinsize(fd).unwrap();
    (size.ws_col, size.ws_row)
}
