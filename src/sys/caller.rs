//! What the process got from its caller: its identity, its home, its descriptors, and the way it dies.
#![expect(unsafe_code, reason = "a signal's default action, and a descriptor known by its number only")]

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, IntoRawFd as _, RawFd};
use std::path::PathBuf;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, raise, signal, sigprocmask};
use nix::unistd::{Uid, User, getegid, geteuid, getgid, getuid};

/// Whether a set-user-id or set-group-id bit gave this process ids that are not its caller's.
pub fn is_setid() -> bool {
    getuid() != geteuid() || getgid() != getegid()
}

/// The home directory that the user database names for the caller; `None` without an entry.
pub fn home_directory() -> Option<PathBuf> {
    User::from_uid(getuid()).ok().flatten().map(|user| user.dir)
}

/// The name that the user database has for `uid`.
pub fn user_name(uid: u32) -> Option<String> {
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name)
}

/// A copy of the descriptor with the number `number`, which the caller opened for writing.
///
/// # Errors
/// EBADF when it is not open, or not for writing.
pub fn writable_descriptor(number: RawFd) -> io::Result<File> {
    if number < 0 {
        return Err(nix::errno::Errno::EBADF.into());
    }
    // SAFETY: the number is not negative; it is only used for calls that answer EBADF when it is not open, and the
    // copy, not the number, is what is kept.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    let flags = OFlag::from_bits_retain(fcntl(borrowed, FcntlArg::F_GETFL)?);
    if flags & OFlag::O_ACCMODE == OFlag::O_RDONLY || flags.contains(OFlag::O_PATH) {
        return Err(nix::errno::Errno::EBADF.into());
    }
    Ok(File::from(borrowed.try_clone_to_owned()?))
}

/// Opens `/dev/null` in the place of each standard stream that the caller closed, or the next file that is opened would take
/// its number, and what is meant for the stream would go there. Must be called before anything is opened.
pub fn open_streams() {
    for stream in 0..3 {
        // SAFETY: the call says whether there is such a descriptor, and changes nothing.
        if unsafe { libc::fcntl(stream, libc::F_GETFD) } == -1 {
            // The lowest number that is free, which is this one, and stays so.
            match File::options().read(true).write(true).open("/dev/null") {
                Ok(null) => drop(null.into_raw_fd()),
                Err(_) => std::process::abort(),
            }
        }
    }
}

/// A write to a pipe that nobody reads, or past the caller's limit of file sizes, fails from now on with EPIPE or EFBIG, which
/// can be told, and does not end this process by SIGPIPE or SIGXFSZ, which can't.
pub fn survive_what_writes_meet() {
    for number in [Signal::SIGPIPE, Signal::SIGXFSZ] {
        // SAFETY: ignoring is always a valid action; the sandbox's command gets the default back before it starts. There is
        // no error for a valid signal.
        let _ = unsafe { signal(number, SigHandler::SigIgn) };
    }
}

/// Ends this process by the signal `number`, so that its caller sees a death by signal; returns when that can't be.
pub fn die_of(number: i32) {
    let Ok(number) = Signal::try_from(number) else { return };
    // SAFETY: the default action is always a valid one, and no handler is replaced that anything still needs.
    let restored = unsafe { signal(number, SigHandler::SigDfl) };
    let set = SigSet::from(number);
    if restored.is_ok() && sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&set), None).is_ok() {
        // A signal that can't be raised leaves the process alive, which the return says.
        let _ = raise(number);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn a_descriptor_must_be_open_and_writable() {
        let (mut reader, writer) = io::pipe().unwrap();
        assert_eq!(writable_descriptor(reader.as_raw_fd()).unwrap_err().raw_os_error(), Some(9));
        assert_eq!(writable_descriptor(-1).unwrap_err().raw_os_error(), Some(9));
        assert_eq!(writable_descriptor(100_000).unwrap_err().raw_os_error(), Some(9));
        let mut copy = writable_descriptor(writer.as_raw_fd()).unwrap();
        copy.write_all(b"x").unwrap();
        drop((copy, writer));
        let mut read = String::new();
        reader.read_to_string(&mut read).unwrap();
        assert_eq!(read, "x");
    }

    #[test]
    fn the_tests_are_not_setuid() {
        assert!(!is_setid());
    }
}
