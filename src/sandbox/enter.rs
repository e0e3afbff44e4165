//! `sbx enter`: one more process in a sandbox that runs.
//!
//! The run's command is the door: unlike PID 1 it is in every namespace of the sandbox, and its owner may look into it.
//! What enters is made a child of PID 1, as an orphan of the sandbox's own (see [`child::enter`](super::child::enter)),
//! so that the end of the run kills and reaps it whatever this process of sbx does meanwhile: were it our child, a pid
//! namespace could not end before we have reaped it (pid_namespaces(7)).

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::collected::failed_step;
use super::group;
use super::launch;
use super::live::{self, Running};
use super::network::Network;
use super::program::{Places, Program, resource};
use super::refusal::Refusal;
use super::run::streams;
use super::supervise::{End, ROUTED, Supervisor};
use super::{Delivery, SandboxError, Stdin, pty};
use crate::path::GuestPath;
use crate::plan::enter::{self, Standing};
use crate::sys::clone::{CloneFlags, Ended};
use crate::sys::door::Door;
use crate::sys::errno::Errno;
use crate::sys::event::{self, Interest, Signals, signal};
use crate::sys::proc::{self, Process};
use crate::sys::process;

/// How long a sandbox may be starting, and how long PID 1 may take to die when everything else is dead.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why a sandbox can't be entered.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// It ended meanwhile.
    #[error("the run `{id}` is over")]
    Over {
        /// Its id.
        id: String,
    },
    /// Its command has not begun, and did not within a while.
    #[error("the sandbox `{id}` is still starting")]
    Starting {
        /// Its id.
        id: String,
    },
    /// It was started in another pid namespace, a container for example.
    #[error("the sandbox `{id}` was started where its process ids mean nothing here")]
    Elsewhere {
        /// Its id.
        id: String,
    },
    /// The caller has another group than the one that exists inside.
    #[error("the sandbox `{id}` runs with the group {group}, and this sbx with {own}")]
    Group {
        /// Its id.
        id: String,
        /// The group of its command, as its id is on the host.
        group: u32,
        /// The caller's effective group.
        own: u32,
    },
    /// Its command can't be looked into.
    #[error("the command of the sandbox `{id}` can't be looked into")]
    Closed {
        /// Its id.
        id: String,
        /// Why.
        source: io::Error,
    },
    /// It says of itself what can't be.
    #[error("what the run `{id}` says of itself is damaged")]
    Damaged {
        /// Its id.
        id: String,
    },
    /// What watched over the command inside was killed, though the run goes on.
    #[error("something in the sandbox killed the process that sbx had entered")]
    Killed,
}

impl EnterError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Over { .. } | Self::Starting { .. } => Some("`sbx ps` lists the running sandboxes".into()),
            Self::Elsewhere { .. } => Some("enter it from the container or machine where it was started".into()),
            Self::Group { group, .. } => Some(format!("take that group first: `newgrp` or `sg` (its id is {group})")),
            Self::Closed { .. } | Self::Damaged { .. } | Self::Killed => None,
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entered {
    /// The exit code of sbx for it, as `run` has it.
    pub code: i32,
    /// The signal that sbx should die of, so that its caller sees an interrupt.
    pub reraise: Option<i32>,
    /// Whether the end of the run ended it.
    pub run_over: bool,
}

/// What is to be run inside.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Program and arguments; not empty.
    pub argv: &'a [String],
    /// Its input.
    pub stdin: Stdin,
    /// What the caller's terminal is called.
    pub terminal_name: Option<&'a str>,
}

/// Enters `running` and stays until what was started there is over.
///
/// # Errors
/// When the sandbox can't be entered, or the command not be started.
pub fn enter(running: &Running, wanted: Wanted<'_>) -> Result<Entered, SandboxError> {
    let id = || running.entry.id.clone();
    let over = || SandboxError::from(EnterError::Over { id: id() });
    let (init, command) = find(running)?;
    let inside = proc::pidfd(command.pid).map_err(|_| over())?;
    // The descriptor names a process for good; now it must still be the one that was looked at.
    if Process::find(command.pid).is_none_or(|found| found.start != command.start || found.dead) {
        return Err(over());
    }
    let (own, group) = (process::caller_ids().2, proc::group(command.pid).ok_or_else(over)?);
    if own != group {
        // Only one group is mapped inside; with any other no file could be made there.
        return Err(EnterError::Group { id: id(), group, own }.into());
    }
    let plan = enter::build(standing(running, command, wanted)?, wanted.argv, wanted.stdin == Stdin::Terminal)?;
    let (streams, carried) = streams(wanted.stdin, Delivery::Project).map_err(SandboxError::Streams)?;
    let nowhere = Places { store: Path::new("/"), scratch: "", lower: &[] };
    let mut program = Program::new(&plan, &nowhere, streams).map_err(SandboxError::Streams)?;
    program.group = group::entry_of(&running.entry.groups)?;
    let signals = Signals::route(&ROUTED).map_err(SandboxError::Kernel)?;
    event::leave_children_to_the_kernel();
    process::drop_groups().map_err(SandboxError::Kernel)?;
    let door = Door::Process { process: inside.as_fd(), except: own_namespaces(command.pid) };
    let guest = launch::enter(&program, door).map_err(|error| match error.errno {
        Errno::ESRCH => over(),
        _ => Refusal::of_entry(error).into(),
    })?;
    drop(program);
    let mut terminal = pty::Outer::default();
    let supervisor = Supervisor::new(guest, &signals, carried, None);
    let remains = supervisor.run(&mut terminal, &mut Network::Idle, &mut |_| {}, &mut |_| {})?;
    drop(terminal);

    let ended = |code, reraise, run_over| Ok(Entered { code, reraise, run_over });
    let killed = 128 + signal::KILL;
    match remains.end {
        End::Command(status) => match status.decode() {
            Ended::Exited(code) => ended(code, None, false),
            Ended::Signalled(signal::KILL) => ended(killed, None, is_gone(&init, Duration::from_millis(100))),
            Ended::Signalled(number) => {
                ended(128 + number, (number == signal::INT && remains.interrupted).then_some(number), false)
            }
        },
        End::Abandoned { signal: number } => ended(128 + number, (number == signal::INT).then_some(number), false),
        End::Failed { .. } if is_gone(&init, Duration::ZERO) => ended(killed, None, true),
        End::Failed { list, step, error } => Err(failed_step(&plan, list, step, error)),
        End::TimeLimit | End::Vanished if is_gone(&init, PATIENCE) => ended(killed, None, true),
        End::TimeLimit | End::Vanished => Err(EnterError::Killed.into()),
    }
}

/// The sandbox's PID 1, by a descriptor, and its command's process; waits a while for that to begin.
fn find(running: &Running) -> Result<(OwnedFd, Process), EnterError> {
    let id = || running.entry.id.clone();
    let began = Instant::now();
    let mut running = Some(running.clone());
    loop {
        let Some(now) = &running else { return Err(EnterError::Over { id: id() }) };
        if now.processes.is_none() {
            return Err(EnterError::Elsewhere { id: id() });
        }
        if let Some(command) = now.command() {
            let init = proc::pidfd(now.entry.init.pid).map_err(|_| EnterError::Over { id: id() })?;
            return Ok((init, command));
        }
        if began.elapsed() > PATIENCE {
            return Err(EnterError::Starting { id: id() });
        }
        thread::sleep(Duration::from_millis(5));
        running = live::again(now);
    }
}

fn standing(running: &Running, command: Process, wanted: Wanted<'_>) -> Result<Standing, SandboxError> {
    let entry = &running.entry;
    let id = || entry.id.clone();
    let environment = proc::environment(command.pid).map_err(|source| EnterError::Closed { id: id(), source })?;
    let hard_limits = entry.limits.iter().map(|limit| process::limit(resource(limit.resource)).map(|(_, hard)| hard));
    Ok(Standing {
        directory: GuestPath::new(&entry.cwd).map_err(|_| EnterError::Damaged { id: id() })?,
        environment: environment.into_iter().collect::<BTreeMap<_, _>>(),
        limits: entry.limits.clone(),
        calls: entry.calls.clone(),
        // A process behind Landlock can't look at one behind another (landlock(7)), and who enters comes to look. The mounts and
        // the filter hold without it; sockets of the host do not.
        landlock: entry.landlock.filter(|landlock| landlock.own_sockets),
        hard_limits: hard_limits.collect::<Result<_, _>>().map_err(SandboxError::Kernel)?,
        terminal_name: wanted.terminal_name.map(str::to_owned),
    })
}

/// The namespaces of the process `pid` that are our own: with `network.host` that of the network, which an ordinary user
/// may not enter and need not.
fn own_namespaces(pid: i32) -> CloneFlags {
    let own = proc::own_namespace("net").ok();
    if own.is_some() && proc::namespace(pid, "net").ok() == own { CloneFlags::NET } else { CloneFlags::NONE }
}

/// Whether the process behind this descriptor is dead, or dies within this time.
fn is_gone(process: &OwnedFd, patience: Duration) -> bool {
    let wanted = Interest { read: true, write: false };
    event::wait(&[Some((process.as_fd(), wanted))], Some(patience)).is_ok_and(|ready| ready[0].read)
}
