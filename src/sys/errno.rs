//! Kernel errors with the call that gave them, small enough to cross a socket from a child that may not allocate.

use std::fmt;

/// An error number of the kernel.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    /// The calling thread's last error.
    pub fn last() -> Self {
        Self(nix::errno::Errno::last_raw())
    }

    /// Operation not permitted.
    pub const EPERM: Self = Self(libc::EPERM);
    /// No such file or directory.
    pub const ENOENT: Self = Self(libc::ENOENT);
    /// No such process.
    pub const ESRCH: Self = Self(libc::ESRCH);
    /// Permission denied.
    pub const EACCES: Self = Self(libc::EACCES);
    /// Not a directory.
    pub const ENOTDIR: Self = Self(libc::ENOTDIR);
    /// Invalid argument.
    pub const EINVAL: Self = Self(libc::EINVAL);
    /// No space left (from namespaces: a limit of `/proc/sys/user` is reached).
    pub const ENOSPC: Self = Self(libc::ENOSPC);
    /// The kernel lacks the call (or a filter says so).
    pub const ENOSYS: Self = Self(libc::ENOSYS);
    /// A symbolic link where none may be.
    pub const ELOOP: Self = Self(libc::ELOOP);
    /// Too many namespaces nested (`user_namespaces(7)`).
    pub const EUSERS: Self = Self(libc::EUSERS);
    /// Not an executable format.
    pub const ENOEXEC: Self = Self(libc::ENOEXEC);
    /// Read-only file system.
    pub const EROFS: Self = Self(libc::EROFS);
    /// No such device: the file system type is not in the kernel.
    pub const ENODEV: Self = Self(libc::ENODEV);
    /// Too many open files.
    pub const EMFILE: Self = Self(libc::EMFILE);
    /// The state read back differs from the state asked for.
    pub const EBADE: Self = Self(libc::EBADE);
    /// The kernel has no such address family.
    pub const EAFNOSUPPORT: Self = Self(libc::EAFNOSUPPORT);
    /// The kernel does not do that here.
    pub const EOPNOTSUPP: Self = Self(libc::EOPNOTSUPP);
    /// Try again.
    pub const EAGAIN: Self = Self(libc::EAGAIN);
    /// Interrupted by a signal.
    pub const EINTR: Self = Self(libc::EINTR);
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errno = nix::errno::Errno::from_raw(self.0);
        write!(f, "{} ({errno:?})", errno.desc())
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", nix::errno::Errno::from_raw(self.0))
    }
}

macro_rules! calls {
    ($($name:ident)*) => {
        /// A kernel call that a launch makes; names what failed.
        #[expect(non_camel_case_types, reason = "the names are the kernel's")]
        #[expect(missing_docs, reason = "each is the system call of that name")]
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Call { $($name),* }

        impl Call {
            const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The call's name.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),* }
            }
        }
    };
}
calls! {
    bind capset chdir chmod clone clone3 close_range dup2 execve fchdir fork fstat fstatfs ioctl keyctl landlock_add_rule
    landlock_create_ruleset landlock_restrict_self listen mkdirat mmap mount mount_setattr move_mount open open_tree openat2 personality pidfd_open pipe2 pivot_root poll prctl read
    recvmsg seccomp sendmsg setdomainname setgroups sethostname setns setrlimit setsid setsockopt signalfd sigprocmask
    socket socketpair umount2 unshare waitid write
}

impl Call {
    /// The call with this number, as [`Call`]` as u8` gives it.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

/// A call that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallError {
    /// Which one.
    pub call: Call,
    /// Why.
    pub errno: Errno,
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.call.name(), self.errno)
    }
}

impl std::error::Error for CallError {}

impl CallError {
    /// `call` failed with the calling thread's last error.
    pub fn last(call: Call) -> Self {
        Self { call, errno: Errno::last() }
    }

    /// The kernel granted `call`, but the state read back is not what was asked for.
    pub fn mismatch(call: Call) -> Self {
        Self { call, errno: Errno::EBADE }
    }
}

/// `Ok` with the value when `returned` is not negative, else the last error under `call`'s name.
pub(super) fn check(call: Call, returned: libc::c_long) -> Result<libc::c_long, CallError> {
    if returned < 0 { Err(CallError::last(call)) } else { Ok(returned) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_survives_its_number() {
        for call in Call::ALL {
            assert_eq!(Call::from_number(*call as u8), Some(*call));
        }
        assert_eq!(Call::from_number(255), None);
    }

    #[test]
    fn an_errno_says_its_name_and_meaning() {
        assert_eq!(Errno::EPERM.to_string(), "Operation not permitted (EPERM)");
    }
}
