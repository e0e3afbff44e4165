//! Making processes in new namespaces.
#![expect(
    unsafe_code,
    reason = "clone3 has no safe wrapper; fork and wait need raw calls in a child without libc's bookkeeping"
)]

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::errno::{Call, CallError, check};
use super::process::UNUSED;

/// Which namespaces a child begins in anew, and what else it has of its maker's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CloneFlags(u64);

impl CloneFlags {
    /// None.
    pub const NONE: Self = Self(0);
    /// user_namespaces(7)
    pub const USER: Self = Self(libc::CLONE_NEWUSER as u64);
    /// mount_namespaces(7)
    pub const MOUNT: Self = Self(libc::CLONE_NEWNS as u64);
    /// pid_namespaces(7)
    pub const PID: Self = Self(libc::CLONE_NEWPID as u64);
    /// network_namespaces(7)
    pub const NET: Self = Self(libc::CLONE_NEWNET as u64);
    /// ipc_namespaces(7)
    pub const IPC: Self = Self(libc::CLONE_NEWIPC as u64);
    /// uts_namespaces(7)
    pub const UTS: Self = Self(libc::CLONE_NEWUTS as u64);
    /// cgroup_namespaces(7)
    pub const CGROUP: Self = Self(libc::CLONE_NEWCGROUP as u64);
    /// time_namespaces(7). A sandbox is not made with it: the offsets can only be set before the first process enters it,
    /// so PID 1 unshares it and its child is the first inside.
    pub const TIME: Self = Self(libc::CLONE_NEWTIME as u64);
    /// The child shares the table of descriptors: what it opens stays open when it ends.
    pub const FILES: Self = Self(libc::CLONE_FILES as u64);

    /// Both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This set without the other.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all of the other set are in this one.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// As clone3(2) takes them.
    pub(super) const fn bits(self) -> u64 {
        self.0
    }
}

/// `CLONE_INTO_CGROUP`; libc's constant of that name is an int, which has no such bit.
pub(super) const INTO_CGROUP: u64 = 0x2_0000_0000;

/// Which side of [`clone3`] returned.
#[derive(Debug)]
pub enum Forked {
    /// In the new process.
    Child,
    /// In the caller.
    Parent {
        /// The child's id as the caller sees it.
        pid: i32,
        /// A descriptor of the child, close-on-exec.
        pidfd: OwnedFd,
    },
}

/// clone3(2) as fork(2) into new namespaces, with a pidfd.
///
/// # Errors
/// EPERM where user namespaces are refused; ENOSPC at a limit of `/proc/sys/user`; ENOSYS behind a filter; EINVAL where
/// the kernel lacks a namespace.
///
/// The child is a copy of the calling thread alone: a lock that another thread holds stays held in it for ever, so the
/// child must not allocate or print unless the process has one thread. (That is a deadlock, never a memory error.)
pub fn clone3(flags: CloneFlags) -> Result<Forked, CallError> {
    clone3_into(flags, None)
}

/// The same, the child in the cgroup of version 2 behind `group` from its first moment on, if one is given. A cgroup
/// namespace that the flags ask for would still be that of the caller's cgroup: the kernel makes it first.
///
/// # Errors
/// As [`clone3`]; EACCES where the caller may not move processes there, EAGAIN at a limit of processes.
pub fn clone3_into(flags: CloneFlags, group: Option<BorrowedFd<'_>>) -> Result<Forked, CallError> {
    let mut pidfd: libc::c_int = -1;
    // SAFETY: clone_args is plain integers, for which all zeroes is the documented "unused".
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags.0 | libc::CLONE_PIDFD as u64;
    args.pidfd = &raw mut pidfd as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(group) = group {
        args.flags |= INTO_CGROUP;
        args.cgroup = group.as_raw_fd() as u64;
    }
    // SAFETY: args is initialised and of the size passed, pidfd outlives the call, and without CLONE_VM and a stack the
    // call has fork's semantics.
    let pid = check(Call::clone3, unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of_val(&args)) })?;
    if pid == 0 {
        return Ok(Forked::Child);
    }
    // SAFETY: the kernel stored a new descriptor there for us alone.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Forked::Parent { pid: i32::try_from(pid).unwrap_or(i32::MAX), pidfd })
}

/// A plain fork by the raw call (no handlers of libc run); 0 in the child, for which holds what [`clone3`] says.
///
/// # Errors
/// EAGAIN at a process limit, ENOMEM.
pub fn fork() -> Result<i32, CallError> {
    // SAFETY: without CLONE_VM and a stack this is fork; the unused arguments are zero.
    let pid = check(Call::fork, unsafe {
        libc::syscall(libc::SYS_clone, libc::c_long::from(libc::SIGCHLD), UNUSED, UNUSED, UNUSED, UNUSED)
    })?;
    Ok(i32::try_from(pid).unwrap_or(i32::MAX))
}

/// Whether a process group of this id exists and may be signalled.
pub fn group_exists(group: i32) -> bool {
    // SAFETY: signal 0 only asks.
    unsafe { libc::kill(-group, 0) == 0 }
}

/// Ends the process at once: no destructor, no handler, no flush.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}

/// How a process ended, as wait(2) encodes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitStatus(pub i32);

/// A decoded [`WaitStatus`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It called exit with this code.
    Exited(i32),
    /// This signal killed it.
    Signalled(i32),
}

impl WaitStatus {
    /// Decodes it.
    pub fn decode(self) -> Ended {
        if libc::WIFSIGNALED(self.0) {
            Ended::Signalled(libc::WTERMSIG(self.0))
        } else {
            Ended::Exited(libc::WEXITSTATUS(self.0))
        }
    }
}

/// Whether [`wait_any`] may block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Until a child ends.
    Block,
    /// Return at once.
    Poll,
}

/// Reaps one child of the caller; `None` when there is none to reap (none left, or none ended yet under `Poll`).
pub fn wait_any(wait: Wait) -> Option<(i32, WaitStatus)> {
    let flags = if wait == Wait::Poll { libc::WNOHANG } else { 0 };
    loop {
        let mut status = 0;
        // SAFETY: status is a valid place for the result.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, flags) };
        if pid > 0 {
            return Some((pid, WaitStatus(status)));
        }
        if pid == 0 || super::errno::Errno::last() != super::errno::Errno::EINTR {
            return None;
        }
    }
}

/// What a process and all that it has reaped, and those in turn, have used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// CPU time outside of the kernel, in microseconds.
    pub user_us: u64,
    /// CPU time in the kernel, in microseconds.
    pub system_us: u64,
    /// The resident memory of the largest process, in bytes. A fork has its parent's, so this is never below that of sbx.
    pub largest: u64,
    /// Bytes that came from disks.
    pub read: u64,
    /// Bytes that went to disks.
    pub written: u64,
}

/// Reaps the child `pid`, waiting for its end.
///
/// # Errors
/// ECHILD when it is no child of the caller (SIGCHLD ignored, for one).
pub fn wait_for(pid: i32) -> Result<WaitStatus, CallError> {
    wait_with_usage(pid).map(|(status, _)| status)
}

/// The same, with what it has used (wait4(2), getrusage(2)).
///
/// # Errors
/// As [`wait_for`].
pub fn wait_with_usage(pid: i32) -> Result<(WaitStatus, Usage), CallError> {
    loop {
        let mut status = 0;
        // SAFETY: rusage is plain integers, for which zero is valid.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: valid places for both results.
        if unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) } >= 0 {
            let time = |time: libc::timeval| (time.tv_sec * 1_000_000 + time.tv_usec).unsigned_abs();
            let usage = Usage {
                user_us: time(usage.ru_utime),
                system_us: time(usage.ru_stime),
                largest: usage.ru_maxrss.unsigned_abs() << 10,
                // In units of 512 bytes, whatever the disk's are.
                read: usage.ru_inblock.unsigned_abs() << 9,
                written: usage.ru_oublock.unsigned_abs() << 9,
            };
            return Ok((WaitStatus(status), usage));
        }
        let error = CallError::last(Call::waitid);
        if error.errno != super::errno::Errno::EINTR {
            return Err(error);
        }
    }
}

/// Sends a signal; negative ids name process groups, -1 everything the caller may signal but itself and PID 1.
/// Errors are of no use to the callers: the target is gone.
pub fn kill(pid: i32, signal: i32) {
    // SAFETY: kill takes integers only.
    unsafe { libc::kill(pid, signal) };
}

/// Kills the children of the calling thread, as far as `/proc` (which must be that of its pid namespace) lists them:
/// those that come while it reads may be missed, so call it until [`wait_any`] finds none. Without the list
/// (`CONFIG_PROC_CHILDREN`) nothing is killed.
pub fn kill_children() {
    let Ok(list) = super::mount::open_file(c"/proc/thread-self/children", false) else { return };
    kill_listed(list.as_raw_fd());
}

/// Kills every process whose id the open file `list` has, in decimal, something else between them.
pub(super) fn kill_listed(list: i32) {
    let (mut buffer, mut pid) = ([0; 512], 0);
    loop {
        // SAFETY: the buffer is valid for the length passed; a descriptor that is not open gives an error.
        let got = unsafe { libc::read(list, buffer.as_mut_ptr().cast(), buffer.len()) };
        let Ok(length @ 1..) = usize::try_from(got) else { break };
        for byte in &buffer[..length] {
            match byte {
                b'0'..=b'9' => pid = pid * 10 + i32::from(byte - b'0'),
                _ if pid > 0 => {
                    kill(pid, libc::SIGKILL);
                    pid = 0;
                }
                _ => {}
            }
        }
    }
}

/// Sends a signal to exactly the process of `pidfd`.
pub fn kill_by(pidfd: &OwnedFd, signal: i32) {
    // SAFETY: the descriptor is open for the duration of the call; a null siginfo is allowed.
    unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, UNUSED, UNUSED) };
}
