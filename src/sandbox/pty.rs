//! The outer half of a sandbox's terminal: the caller's terminal passes every byte on, and the sandbox's own gives them
//! their meaning (Ctrl-C, Ctrl-Z, line editing), to its own processes only.

use std::io::{self, IsTerminal as _};
use std::os::fd::{AsFd as _, OwnedFd};

use super::relay::{Relay, RelayError};
use super::supervise::{Carried, Terminal};
use crate::sys::terminal::{self, Modes};

/// The caller's terminal while it is joined to a sandbox's. Dropping it gives the caller its terminal back as it was.
#[derive(Debug, Default)]
pub struct Outer(Option<RawTerminal>);

impl Terminal for Outer {
    fn attach(&mut self, master: &OwnedFd) -> Result<Carried, RelayError> {
        let own = |fd: io::Result<OwnedFd>| fd.map_err(RelayError::Terminal);
        let stdin = own(io::stdin().as_fd().try_clone_to_owned())?;
        let stdout = own(io::stdout().as_fd().try_clone_to_owned())?;
        let (carried, raw) = join(master, stdin, stdout).map_err(RelayError::Terminal)?;
        self.0 = raw;
        Ok(carried)
    }

    fn resized(&mut self, master: &OwnedFd) {
        if let Some(raw) = &self.0 {
            // A terminal that has just gone away has no size; its hang-up is what ends the run.
            let _ = terminal::copy_size(&raw.terminal, master);
        }
    }
}

/// Joins the sandbox's terminal to the caller's streams. When the caller types at a terminal, that becomes raw, and the
/// sandbox's gets the modes and the size that it had.
fn join(master: &OwnedFd, stdin: OwnedFd, stdout: OwnedFd) -> io::Result<(Carried, Option<RawTerminal>)> {
    let mut raw = None;
    if stdin.is_terminal() {
        let before = terminal::modes(&stdin)?;
        terminal::set_modes(master, &before)?;
        terminal::copy_size(&stdin, master)?;
        raw = Some(RawTerminal::enter(stdin.try_clone()?, before)?);
    }
    let carried = Carried {
        stdin: Some(Relay::inward(stdin, master.try_clone()?)?),
        stdout: Relay::outward(master.try_clone()?, stdout)?,
        stderr: None,
    };
    Ok((carried, raw))
}

/// A terminal in raw mode; dropping it restores the modes it had.
#[derive(Debug)]
struct RawTerminal {
    terminal: OwnedFd,
    before: Modes,
}

impl RawTerminal {
    fn enter(terminal: OwnedFd, before: Modes) -> io::Result<Self> {
        terminal::set_modes(&terminal, &before.raw())?;
        Ok(Self { terminal, before })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // A terminal that has gone away needs no modes.
        let _ = terminal::set_modes(&self.terminal, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::stream::Direction;
    use crate::sys::terminal::{pair, set_modes, size};
    use std::fs::File;
    use std::io::{Read as _, Write as _};
    use std::thread;

    /// What a person types at and looks at, and what a program inside uses.
    struct Joined {
        person: File,
        callers: File,
        master: OwnedFd,
        program: File,
        carried: Carried,
        raw: Option<RawTerminal>,
    }

    fn joined() -> Joined {
        let (person, callers) = pair(101, 37);
        let (master, program) = pair(80, 24);
        let master = OwnedFd::from(master);
        let own = || callers.try_clone().unwrap().into();
        let (carried, raw) = join(&master, own(), own()).unwrap();
        Joined { person, callers, master, program, carried, raw }
    }

    /// The settings that stty(1) shows.
    fn shown(terminal: &File) -> String {
        format!("{:?}", terminal::modes(terminal).unwrap())
    }

    fn carry(carried: &mut Carried, until: impl Fn(&Carried) -> bool) {
        while !until(carried) {
            carried.stdout.advance().unwrap();
            if let Some(stdin) = &mut carried.stdin {
                stdin.advance().unwrap();
            }
            thread::yield_now();
        }
    }

    fn sent(relay: &Relay) -> u64 {
        let waits_to_read = relay.waiting_for().is_some_and(|(_, direction)| direction == Direction::Read);
        if waits_to_read { relay.summary().bytes } else { 0 }
    }

    #[test]
    fn the_callers_terminal_is_raw_while_joined_and_as_before_afterwards() {
        let (_person, callers) = pair(80, 24);
        let before = shown(&callers);
        let (master, program) = pair(80, 24);
        let (carried, raw) =
            join(&master.into(), callers.try_clone().unwrap().into(), callers.try_clone().unwrap().into()).unwrap();
        let raw_modes = terminal::modes(&callers).unwrap().raw();
        assert_eq!(shown(&callers), format!("{raw_modes:?}"));
        assert_ne!(shown(&callers), before);
        assert_eq!(shown(&program), before, "the sandbox's terminal takes over the modes");
        drop((carried, raw));
        assert_eq!(shown(&callers), before);
    }

    #[test]
    fn the_size_follows_the_callers() {
        let joined = joined();
        assert_eq!(size(&joined.program), (101, 37));
        let (other, _slave) = pair(132, 50);
        terminal::copy_size(&other, &joined.callers).unwrap();
        Outer(joined.raw).resized(&joined.master);
        assert_eq!(size(&joined.program), (132, 50));
    }

    #[test]
    fn control_characters_are_bytes_outside_and_mean_something_inside() {
        let mut joined = joined();
        // To see them arrive, the program switches its own terminal to raw, as an editor does.
        let modes = terminal::modes(&joined.program).unwrap();
        set_modes(&joined.program, &modes.raw()).unwrap();
        let typed = b"\x03\x1a\x1c\x04\r\x7f\x11\x13\x16\xff";
        joined.person.write_all(typed).unwrap();
        carry(&mut joined.carried, |carried| carried.stdin.as_ref().is_some_and(|stdin| sent(stdin) == 10));
        let mut arrived = [0; 10];
        joined.program.read_exact(&mut arrived).unwrap();
        assert_eq!(&arrived, typed);

        // In the modes of a shell's prompt they are line editing: the line is taken when it is complete.
        set_modes(&joined.program, &modes).unwrap();
        joined.person.write_all(b"lx\x7fs\r").unwrap();
        carry(&mut joined.carried, |carried| carried.stdin.as_ref().is_some_and(|stdin| sent(stdin) == 15));
        let mut line = [0; 8];
        let length = joined.program.read(&mut line).unwrap();
        assert_eq!(&line[..length], b"ls\n");
    }

    #[test]
    fn output_arrives_byte_for_byte_and_ends_when_the_last_program_is_gone() {
        let Joined { mut person, callers, program, mut carried, raw, master } = joined();
        let modes = terminal::modes(&program).unwrap();
        set_modes(&program, &modes.raw()).unwrap();
        let bytes: Vec<u8> = (0..300_000usize).map(|index| u8::try_from(index * 7 % 251).unwrap()).collect();
        let written = bytes.clone();
        let writer = thread::spawn(move || { program }.write_all(&written).unwrap());
        let reader = thread::spawn(move || {
            let mut seen = vec![0; 300_000];
            person.read_exact(&mut seen).unwrap();
            seen
        });
        carry(&mut carried, |carried| carried.stdout.waiting_for().is_none());
        writer.join().unwrap();
        assert!(reader.join().unwrap() == bytes);
        assert_eq!(carried.stdout.summary().bytes, 300_000);
        drop((raw, callers, master));
    }

    #[test]
    fn what_is_no_terminal_is_carried_too() {
        let (stdin, mut typed) = io::pipe().unwrap();
        let (mut seen, stdout) = io::pipe().unwrap();
        let (master, mut program) = pair(80, 24);
        let (mut carried, raw) = join(&master.into(), stdin.into(), stdout.into()).unwrap();
        assert!(raw.is_none());
        typed.write_all(b"in\n").unwrap();
        carry(&mut carried, |carried| carried.stdin.as_ref().is_some_and(|stdin| sent(stdin) == 3));
        let mut line = [0; 8];
        assert_eq!(program.read(&mut line).unwrap(), 3);
        program.write_all(b"out").unwrap();
        drop(program);
        carry(&mut carried, |carried| carried.stdout.waiting_for().is_none());
        drop(carried);
        let mut all = String::new();
        seen.read_to_string(&mut all).unwrap();
        assert!(all.ends_with("out"), "{all:?}");
    }
}
