//! Who stays with a command: reaps orphans, passes signals on, and reports only when every process is dead and reaped.
//! PID 1 does so for a run; for what `sbx enter` starts a process beside it does.
//!
//! It holds the control socket and nothing else. When the socket ends, the launcher is gone. PID 1 ends then, and the
//! kernel kills whatever else is in the pid namespace (pid_namespaces(7)); the other kills what is its own first.

use std::os::fd::BorrowedFd;

use super::message::{Message, Request};
use crate::sys::clone::{self, Wait, WaitStatus, exit_now};
use crate::sys::event::{self, Interest, Signals, signal};
use crate::sys::{fdpass, process};

/// Which processes end with the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Realm {
    /// All of the pid namespace; for PID 1.
    Everything,
    /// The own descendants; for one that gets what they orphan (`PR_SET_CHILD_SUBREAPER`).
    Descendants,
}

impl Realm {
    /// Kills and reaps the rest. A fork under way fails or is seen at the next turn: whoever forks is being killed, and
    /// what a dead process leaves is here before that can be reaped.
    fn end(self) {
        loop {
            match self {
                Self::Everything => clone::kill(-1, signal::KILL),
                Self::Descendants => clone::kill_children(),
            }
            if clone::wait_any(Wait::Block).is_none() {
                break;
            }
        }
    }

    /// Sends a signal to all, as far as they can be named.
    fn signal(self, command: i32, number: i32) {
        match self {
            Self::Everything => clone::kill(-1, number),
            Self::Descendants => clone::kill(-command, number),
        }
    }
}

/// Serves until the command has ended.
pub fn serve(command: i32, realm: Realm, control: BorrowedFd<'_>) -> ! {
    if process::close_from(0, Some(control)).is_err() {
        exit_now(1);
    }
    let Ok(signals) = Signals::route(&[signal::CHLD]) else { exit_now(1) };
    let wanted = Interest { read: true, write: false };
    // A child that ended before the route was made left SIGCHLD pending or lost: look once before waiting.
    let mut status = reap(command);
    while status.is_none() {
        let Ok(ready) = event::wait(&[Some((signals.fd(), wanted)), Some((control, wanted))], None) else {
            exit_now(1)
        };
        if ready[0].read {
            while signals.next().is_some() {}
            status = reap(command);
        }
        if ready[1].read {
            obey(command, realm, control);
        }
    }
    realm.end();
    let _ = fdpass::send(control, &Message::Ended(status.unwrap_or(WaitStatus(0))).encode(), &[]);
    exit_now(0)
}

/// Reaps all that is dead; the command's status if it is among them.
fn reap(command: i32) -> Option<WaitStatus> {
    let mut found = None;
    while let Some((pid, status)) = clone::wait_any(Wait::Poll) {
        if pid == command {
            found = Some(status);
        }
    }
    found
}

fn obey(command: i32, realm: Realm, control: BorrowedFd<'_>) {
    let mut byte = [0];
    match fdpass::receive(control, &mut byte) {
        Ok(None) => {}
        Ok(Some(received)) if received.length == 1 => match Request::decode(byte[0]) {
            Request::Signal(number) => {
                // Its group, and itself in case it has not made its session yet.
                clone::kill(-command, number.into());
                if !clone::group_exists(command) {
                    clone::kill(command, number.into());
                }
            }
            Request::Freeze => realm.signal(command, signal::STOP),
            Request::Thaw => realm.signal(command, signal::CONT),
        },
        // The launcher is gone.
        _ => {
            if realm == Realm::Descendants {
                realm.end();
            }
            exit_now(1)
        }
    }
}
