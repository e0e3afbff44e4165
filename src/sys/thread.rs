//! Threads beside the one that handles the signals.
#![expect(unsafe_code, reason = "pthread_sigmask(3) has no wrapper in the features we use")]

use std::io;
use std::thread::{Builder, JoinHandle};

/// Starts a thread to which no signal is delivered: those of the process stay with the threads that wait for them, and a
/// write to a broken socket is an error and nothing more.
///
/// # Errors
/// As pthread_create(3).
pub fn spawn<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> io::Result<JoinHandle<T>> {
    // A thread begins with its maker's mask: blocked before it is there, no signal can come in between.
    // SAFETY: both sets are valid; sigfillset initialises the first, pthread_sigmask the second.
    let before = unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        match libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before) {
            0 => before,
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    };
    let thread = Builder::new().name(name.to_owned()).spawn(work);
    // SAFETY: the set is one that the kernel gave us.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut()) };
    thread
}
