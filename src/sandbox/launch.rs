//! From a program to a running sandbox.

use std::os::fd::{AsFd, OwnedFd};

use super::child;
use super::program::Program;
use crate::sys::clone::{self, CloneFlags, Forked};
use crate::sys::door::{self, Door};
use crate::sys::errno::CallError;
use crate::sys::{fdpass, process};

/// A sandbox's PID 1, seen from outside. Dropping it kills the sandbox and waits for its end: no path out of sbx leaves
/// a process behind.
#[derive(Debug)]
pub struct Init {
    pid: i32,
    pidfd: OwnedFd,
    reaped: bool,
    /// Our end of the control socket.
    pub control: OwnedFd,
}

impl Init {
    /// Kills PID 1, and with it everything inside.
    pub fn kill(&self) {
        clone::kill_by(&self.pidfd, crate::sys::event::signal::KILL);
    }

    /// Waits for the end of PID 1: the kernel has taken the namespaces' processes and mounts down then.
    pub fn wait(&mut self) {
        if !self.reaped {
            // An error means that somebody else reaped it: it is gone either way.
            let _ = clone::wait_for(self.pid);
            self.reaped = true;
        }
    }
}

impl Drop for Init {
    fn drop(&mut self) {
        if !self.reaped {
            self.kill();
            self.wait();
        }
    }
}

/// Starts PID 1 in new namespaces, and where there is a `door`, in the user and net namespace behind it; it performs the
/// program's steps by itself and reports over the control socket. Nothing else depends on the door: the steps are the
/// same, and each is performed.
///
/// # Errors
/// When the socket or the process can't be made, or the door does not open. There is no process then.
pub fn launch(program: &Program, door: Option<Door<'_>>) -> Result<Init, CallError> {
    let (ours, theirs) = fdpass::pair()?;
    let Some(door) = door else {
        return match clone::clone3(program.flags)? {
            Forked::Child => {
                // Else its own copy would keep PID 1 from seeing that sbx is gone.
                drop(ours);
                child::run(program, theirs.as_fd())
            }
            Forked::Parent { pid, pidfd } => Ok(Init { pid, pidfd, reaped: false, control: ours }),
        };
    };
    let flags = program.flags.without(CloneFlags::USER.and(CloneFlags::NET));
    let (pid, pidfd) = door::clone3_through(door, flags, || {
        process::close_copy(ours.as_fd());
        child::run(program, theirs.as_fd())
    })?;
    Ok(Init { pid, pidfd, reaped: false, control: ours })
}
