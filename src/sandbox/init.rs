//! PID 1 of the sandbox: reaps orphans, passes signals on, and reports only when every process is dead and reaped.
//!
//! It holds the control socket and nothing else. When the socket ends, the launcher is gone, and PID 1 ends; the kernel
//! then kills whatever else is in the pid namespace (pid_namespaces(7)).

use std::os::fd::BorrowedFd;

use super::message::{Message, Request};
use crate::sys::clone::{self, Wait, WaitStatus, exit_now};
use crate::sys::event::{self, Interest, Signals, signal};
use crate::sys::{fdpass, process};

/// Serves until the command has ended.
pub fn serve(command: i32, control: BorrowedFd<'_>) -> ! {
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
            obey(command, control);
        }
    }
    // Everything that the command left behind dies now; a fork under way fails, for its parent is being killed.
    loop {
        clone::kill(-1, signal::KILL);
        if clone::wait_any(Wait::Block).is_none() {
            break;
        }
    }
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

fn obey(command: i32, control: BorrowedFd<'_>) {
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
            Request::Freeze => clone::kill(-1, signal::STOP),
            Request::Thaw => clone::kill(-1, signal::CONT),
        },
        // The launcher is gone.
        _ => exit_now(1),
    }
}
