//! From a program to a running sandbox.

use std::os::fd::{AsFd, OwnedFd};

use super::child;
use super::program::Program;
use crate::sys::clone::{self, Forked};
use crate::sys::errno::CallError;
use crate::sys::fdpass;

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
    /// Its process id, as the caller sees it.
    pub fn pid(&self) -> i32 {
        self.pid
    }

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

/// Starts PID 1 in new namespaces; it performs the program's steps by itself and reports over the control socket.
///
/// # Errors
/// When the socket or the process can't be made.
pub fn launch(program: &Program) -> Result<Init, CallError> {
    let (ours, theirs) = fdpass::pair()?;
    match clone::clone3(program.flags)? {
        Forked::Child => child::run(program, theirs.as_fd()),
        Forked::Parent { pid, pidfd } => Ok(Init { pid, pidfd, reaped: false, control: ours }),
    }
}
