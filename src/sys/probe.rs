//! Trying single features in a child that ends at once.

use super::clone::{self, CloneFlags, Ended, Forked};
use super::errno::{Call, CallError, Errno};
use super::seccomp::{self, Instruction};
use super::{ns, process};

/// Makes a process in a new user namespace and in `flags`' namespaces, and lets it end.
///
/// # Errors
/// As clone3(2).
pub fn namespaces(flags: CloneFlags) -> Result<(), CallError> {
    in_child(CloneFlags::USER.and(flags), Call::clone3, || Ok(()))
}

/// The same for the time namespace, which is entered by unshare(2).
///
/// # Errors
/// As clone3(2), unshare(2).
pub fn time_namespace() -> Result<(), CallError> {
    in_child(CloneFlags::USER, Call::unshare, ns::unshare_time)
}

/// Makes a process behind a system call filter that lets everything through, and lets it end.
///
/// # Errors
/// As clone3(2), prctl(2), seccomp(2).
pub fn call_filter() -> Result<(), CallError> {
    const ALLOW: Instruction = Instruction { code: 0x06, jump_true: 0, jump_false: 0, value: libc::SECCOMP_RET_ALLOW };
    in_child(CloneFlags::NONE, Call::seccomp, || {
        process::no_new_privileges()?;
        seccomp::install(&[ALLOW])
    })
}

/// Runs `act` in a child in new namespaces; its error comes back as the child's exit code, for errnos are below
/// 256. `act` must not allocate.
fn in_child(flags: CloneFlags, call: Call, act: fn() -> Result<(), CallError>) -> Result<(), CallError> {
    match clone::clone3(flags)? {
        Forked::Child => {
            let done = process::die_with_parent().and_then(|()| act());
            clone::exit_now(done.map_or_else(|error| error.errno.0, |()| 0))
        }
        Forked::Parent { pid, .. } => match clone::wait_for(pid)?.decode() {
            Ended::Exited(0) => Ok(()),
            Ended::Exited(errno) => Err(CallError { call, errno: Errno(errno) }),
            Ended::Signalled(_) => Err(CallError { call, errno: Errno::EINTR }),
        },
    }
}

/// The kernel's release, as `uname -r` prints it.
pub fn kernel_release() -> String {
    nix::sys::utsname::uname().map(|names| names.release().to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_has_two_numbers() {
        let release = kernel_release();
        let numbers: Vec<_> = release.split(['.', '-']).take(2).map(str::parse::<u32>).collect();
        assert!(numbers.iter().all(Result::is_ok), "{release}");
    }
}
