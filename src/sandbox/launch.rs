//! From a program to a running sandbox.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};

use super::child;
use super::program::Program;
use crate::pool::client::{Asked, Missed};
use crate::sys::cgroup::Entry;
use crate::sys::clone::{self, CloneFlags, Forked, Usage};
use crate::sys::door::{self, Door};
use crate::sys::errno::CallError;
use crate::sys::{fdpass, process};

/// A sandbox's PID 1, or what watches over a command that has entered, seen from outside. Dropping it ends what it stands
/// for: no path out of sbx leaves a process behind.
#[derive(Debug)]
pub struct Init {
    /// PID 1 and a descriptor of it, until it is reaped; none for what is not our child.
    process: Option<(i32, OwnedFd)>,
    /// What it and all that it reaped have used, once it is reaped.
    used: Option<Usage>,
    /// Our end of the control socket.
    pub control: OwnedFd,
}

impl Init {
    /// The process id of PID 1, as the caller sees it.
    pub fn pid(&self) -> Option<i32> {
        self.process.as_ref().map(|(pid, _)| *pid)
    }

    /// Kills PID 1, and with it everything inside. Whoever watches over a command that has entered kills that and all
    /// that it started when the socket ends.
    pub fn kill(&self) {
        match &self.process {
            Some((_, pidfd)) => clone::kill_by(pidfd, crate::sys::event::signal::KILL),
            None => fdpass::hang_up(self.control.as_fd()),
        }
    }

    /// Waits for the end of PID 1: the kernel has taken the namespaces' processes and mounts down then. What it and all that
    /// it reaped have used comes back.
    pub fn wait(&mut self) -> Option<Usage> {
        if let Some((pid, _)) = self.process.take() {
            // An error means that somebody else reaped it: it is gone either way.
            self.used = clone::wait_with_usage(pid).ok().map(|(_, usage)| usage);
        }
        self.used
    }
}

impl Drop for Init {
    fn drop(&mut self) {
        self.kill();
        self.wait();
    }
}

/// Where a sandbox's net namespace came from. Nothing else differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It has none of its own.
    Host,
    /// Made for it on the spot; why not the pool's, when the pool was asked.
    Fresh(Option<Missed>),
    /// The pool's.
    Pool,
}

impl Origin {
    /// The word for the record.
    pub fn word(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Fresh(_) => "fresh",
            Self::Pool => "pool",
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fresh(Some(missed)) => write!(f, "fresh ({missed})"),
            other => f.write_str(other.word()),
        }
    }
}

/// Starts PID 1 in new namespaces, those that were asked for of the pool if it has answered; it performs the program's
/// steps by itself and reports over the control socket. Whatever is wrong with the pool or with what it gave, the
/// namespaces are made here then.
///
/// # Errors
/// When the socket or the process can't be made.
pub fn launch(program: &Program, asked: Option<Asked>) -> Result<(Init, Origin), CallError> {
    if !program.flags.has(CloneFlags::NET) {
        return Ok((begin(program, None)?, Origin::Host));
    }
    let missed = match asked.map(Asked::answer) {
        None => None,
        Some(Err(missed)) => Some(missed),
        Some(Ok(item)) => match begin(program, Some(Door::Pair { user: item.user.as_fd(), net: item.net.as_fd() })) {
            Ok(init) => return Ok((init, Origin::Pool)),
            Err(_) => Some(Missed::Unfit),
        },
    };
    Ok((begin(program, None)?, Origin::Fresh(missed)))
}

/// Starts PID 1, where there is a `door` in the user and net namespace behind it. The steps are the same, and each is
/// performed.
fn begin(program: &Program, door: Option<Door<'_>>) -> Result<Init, CallError> {
    let (ours, theirs) = fdpass::pair()?;
    let Some(door) = door else {
        return match clone::clone3_into(program.flags, program.group.as_ref().and_then(Entry::directory))? {
            Forked::Child => {
                // Else its own copy would keep PID 1 from seeing that sbx is gone.
                drop(ours);
                child::run(program, theirs.as_fd())
            }
            Forked::Parent { pid, pidfd } => Ok(Init { process: Some((pid, pidfd)), used: None, control: ours }),
        };
    };
    let flags = program.flags.without(CloneFlags::USER.and(CloneFlags::NET));
    let (pid, pidfd) = door::clone3_through(door, flags, program.group.as_ref(), || {
        process::close_copy(ours.as_fd());
        child::run(program, theirs.as_fd())
    })?;
    Ok(Init { process: Some((pid, pidfd)), used: None, control: ours })
}

/// Starts a process in the sandbox behind `door`: it performs the program's steps by itself, watches over the command and
/// reports over the control socket. It is PID 1's child, not ours; what we start is only its parent for a moment.
///
/// # Errors
/// When the socket or the process can't be made, or the door does not open. There is no process then.
pub fn enter(program: &Program, door: Door<'_>) -> Result<Init, CallError> {
    let (ours, theirs) = fdpass::pair()?;
    door::clone3_through(door, CloneFlags::NONE, program.group.as_ref(), || {
        process::close_copy(ours.as_fd());
        child::enter(program, theirs.as_fd())
    })?;
    Ok(Init { process: None, used: None, control: ours })
}
