//! The inner half of a sandbox's terminal: made inside, from the sandbox's own devpts. Nothing here allocates.
#![expect(unsafe_code, reason = "TIOCGPTPEER and TIOCSCTTY have no wrapper")]

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::errno::{Call, CallError, check};
use super::mount;

/// Both ends of a pseudo-terminal (pty(7)).
#[derive(Debug)]
pub struct Pair {
    /// The end that a terminal emulator holds.
    pub master: OwnedFd,
    /// The end that programs hold.
    pub slave: OwnedFd,
}

/// Opens a new pair through the multiplexer at `path`.
///
/// # Errors
/// As open(2), ioctl(2).
pub fn open_pair(path: &CStr) -> Result<Pair, CallError> {
    let master = mount::open_file(path, true)?;
    let unlocked: libc::c_int = 0;
    // SAFETY: the request reads one integer.
    check(Call::ioctl, unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked) }.into())?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // By descriptor, not by the name in /dev/pts: no path is looked up (ioctl_tty(2)).
    // SAFETY: the request takes open flags.
    let slave = check(Call::ioctl, unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) }.into())?;
    // SAFETY: a new descriptor of ours.
    let slave = unsafe { OwnedFd::from_raw_fd(slave as i32) };
    Ok(Pair { master, slave })
}

/// Makes `slave` the controlling terminal of the calling session leader.
///
/// # Errors
/// As ioctl(2).
pub fn take(slave: BorrowedFd<'_>) -> Result<(), CallError> {
    // SAFETY: the request takes an integer; 0 never steals.
    check(Call::ioctl, unsafe { libc::ioctl(slave.as_raw_fd(), libc::TIOCSCTTY, 0) }.into()).map(drop)
}
