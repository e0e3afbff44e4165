//! Waiting: signals as descriptors, poll, pipes.
#![expect(unsafe_code, reason = "signal masks and signalfd are used in a child that may not allocate")]

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use super::errno::{Call, CallError, Errno, check};

/// Signal numbers that sbx handles.
pub mod signal {
    /// Hangup.
    pub const HUP: i32 = libc::SIGHUP;
    /// Interrupt (Ctrl-C).
    pub const INT: i32 = libc::SIGINT;
    /// Quit (Ctrl-\).
    pub const QUIT: i32 = libc::SIGQUIT;
    /// Kill.
    pub const KILL: i32 = libc::SIGKILL;
    /// User signal 1.
    pub const USR1: i32 = libc::SIGUSR1;
    /// User signal 2.
    pub const USR2: i32 = libc::SIGUSR2;
    /// Terminate.
    pub const TERM: i32 = libc::SIGTERM;
    /// A child changed.
    pub const CHLD: i32 = libc::SIGCHLD;
    /// Continue.
    pub const CONT: i32 = libc::SIGCONT;
    /// Stop.
    pub const STOP: i32 = libc::SIGSTOP;
    /// Stop typed at the terminal (Ctrl-Z).
    pub const TSTP: i32 = libc::SIGTSTP;
    /// The window's size changed.
    pub const WINCH: i32 = libc::SIGWINCH;
}

fn set_of(signals: &[i32]) -> libc::sigset_t {
    // SAFETY: an all-zero set is empty; sigaddset takes any valid signal number.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
        set
    }
}

fn is_ignored(signal: i32) -> bool {
    // SAFETY: sigaction is plain data, for which zero is valid; a null new action only reads the old one.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut action) == 0 && action.sa_sigaction == libc::SIG_IGN
    }
}

/// Signals that arrive at a descriptor and no longer at the process.
#[derive(Debug)]
pub struct Signals {
    fd: OwnedFd,
    before: libc::sigset_t,
}

impl Signals {
    /// Blocks exactly `signals` for this thread and routes them to a new close-on-exec descriptor, except those that the
    /// caller has ignored (nohup(1), a script's background job): they stay ignored. SIGCHLD gets its default action, for
    /// a caller that ignored it would make wait(2) fail.
    ///
    /// # Errors
    /// As signalfd(2).
    pub fn route(signals: &[i32]) -> Result<Self, CallError> {
        keep_children();
        let mut set = set_of(&[]);
        for signal in signals.iter().filter(|signal| !is_ignored(**signal)) {
            // SAFETY: the set is initialised and the number valid.
            unsafe { libc::sigaddset(&raw mut set, *signal) };
        }
        // The descriptor first: where there is none, the mask stays as it was.
        // SAFETY: a valid set; -1 asks for a new descriptor.
        let fd = check(
            Call::signalfd,
            unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) }.into(),
        )?;
        // SAFETY: a new descriptor of ours.
        let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
        // SAFETY: both sets are valid.
        let before = unsafe {
            let mut before: libc::sigset_t = std::mem::zeroed();
            check(Call::sigprocmask, libc::sigprocmask(libc::SIG_SETMASK, &raw const set, &raw mut before).into())?;
            before
        };
        Ok(Self { fd, before })
    }

    /// The next pending signal, without waiting.
    pub fn next(&self) -> Option<i32> {
        // SAFETY: signalfd_siginfo is plain integers; the kernel fills it whole or not at all.
        unsafe {
            let mut info: libc::signalfd_siginfo = std::mem::zeroed();
            let size = size_of_val(&info);
            let got = libc::read(self.fd.as_raw_fd(), (&raw mut info).cast(), size);
            (usize::try_from(got) == Ok(size)).then_some(info.ssi_signo as i32)
        }
    }

    /// The descriptor to poll.
    pub fn fd(&self) -> BorrowedFd<'_> {
        use std::os::fd::AsFd;
        self.fd.as_fd()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // SAFETY: the set is one that the kernel gave us.
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const self.before, std::ptr::null_mut()) };
    }
}

/// The kernel reaps this process's children from now on, at the moment of their end; wait(2) fails with ECHILD. A child
/// inherits it until [`keep_children`].
pub fn leave_children_to_the_kernel() {
    // SAFETY: SIG_IGN is a valid action.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}

/// Ended children of this process wait to be reaped, as usual.
pub fn keep_children() {
    // SAFETY: SIG_DFL is a valid action.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

/// Stops this process until somebody continues it.
pub fn stop_self() {
    // SAFETY: takes an integer.
    unsafe { libc::raise(libc::SIGSTOP) };
}

/// What to wait for at a descriptor, and what came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Interest {
    /// Bytes to read, or the end.
    pub read: bool,
    /// Room to write, or a reader that is gone.
    pub write: bool,
}

/// Waits until one of `wanted` is ready, at most `timeout`; returns which are, in the same order (`None` entries never
/// are). Hang-ups and errors count as ready for whatever was asked.
///
/// # Errors
/// As poll(2), except EINTR, which is "nothing ready".
///
/// # Panics
/// With more than eight entries.
pub fn wait(
    wanted: &[Option<(BorrowedFd<'_>, Interest)>],
    timeout: Option<Duration>,
) -> Result<[Interest; 8], CallError> {
    let mut polled = [libc::pollfd { fd: -1, events: 0, revents: 0 }; 8];
    for (slot, want) in polled[..wanted.len()].iter_mut().zip(wanted) {
        if let Some((fd, interest)) = want {
            let events = if interest.read { libc::POLLIN } else { 0 } | if interest.write { libc::POLLOUT } else { 0 };
            if events != 0 {
                *slot = libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 };
            }
        }
    }
    // Rounded up: a wait that ends early would spin until its time has come.
    let milliseconds = timeout.map_or(-1, |time| i32::try_from(time.as_micros().div_ceil(1000)).unwrap_or(i32::MAX));
    // SAFETY: eight valid entries; negative descriptors are skipped by the kernel.
    let result = check(Call::poll, unsafe { libc::poll(polled.as_mut_ptr(), 8, milliseconds) }.into());
    match result {
        Err(error) if error.errno == Errno::EINTR => return Ok([Interest::default(); 8]),
        Err(error) => return Err(error),
        Ok(_) => {}
    }
    Ok(polled.map(|entry| {
        let broken = entry.revents & (libc::POLLHUP | libc::POLLERR | libc::POLLNVAL) != 0;
        Interest {
            read: entry.events & libc::POLLIN != 0 && (broken || entry.revents & libc::POLLIN != 0),
            write: entry.events & libc::POLLOUT != 0 && (broken || entry.revents & libc::POLLOUT != 0),
        }
    }))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    /// Whether the calling thread has the signal blocked.
    fn is_blocked(signal: i32) -> bool {
        // SAFETY: a null set only asks for the mask, which is plain integers.
        unsafe {
            let mut mask: libc::sigset_t = std::mem::zeroed();
            libc::sigprocmask(libc::SIG_BLOCK, std::ptr::null(), &raw mut mask);
            libc::sigismember(&raw const mask, signal) == 1
        }
    }

    /// In a process of its own, which may have no descriptor more.
    #[test]
    fn where_signals_can_t_be_routed_they_are_not_blocked() {
        use crate::sys::clone::{Ended, exit_now, fork, wait_for};
        use crate::sys::process::{Resource, set_limit};
        match fork().unwrap() {
            0 => {
                let routed = Signals::route(&[signal::USR1]).map(|signals| (is_blocked(signal::USR1), signals));
                let works = matches!(routed, Ok((true, _)));
                drop(routed);
                let limited = set_limit(Resource::OpenFiles, 0, 0).is_ok();
                let refused = matches!(Signals::route(&[signal::USR1]), Err(error) if error.errno == Errno::EMFILE);
                exit_now(i32::from(!(works && limited && refused && !is_blocked(signal::USR1))))
            }
            pid => assert_eq!(wait_for(pid).unwrap().decode(), Ended::Exited(0)),
        }
    }

    #[test]
    fn readiness_is_told_apart() {
        let (read, write) = std::io::pipe().unwrap();
        let both = Interest { read: true, write: true };
        let ready =
            wait(&[Some((read.as_fd(), both)), None, Some((write.as_fd(), both))], Some(Duration::ZERO)).unwrap();
        assert_eq!(ready[0], Interest::default());
        assert_eq!(ready[2], Interest { read: false, write: true });
        drop(write);
        let ready = wait(&[Some((read.as_fd(), Interest { read: true, write: false }))], None).unwrap();
        assert!(ready[0].read);
    }
}
