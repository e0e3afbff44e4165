//! The outer half of `sbx shell`: the caller's terminal in raw mode, joined byte by byte to the sandbox's own.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::relay::{Relay, RelayError};
use super::supervise::{Carried, Terminal};
use crate::sys::terminal::{self, RawMode};

/// The caller's terminal: its standard input, which must be one.
#[derive(Debug, Default)]
pub struct Outer {
    /// Set while the sandbox's terminal is joined.
    raw: Option<RawMode>,
}

impl Terminal for Outer {
    fn attach(&mut self, master: &OwnedFd) -> Result<Carried, RelayError> {
        let join = || {
            let stdin = io::stdin().as_fd().try_clone_to_owned()?;
            join(master, stdin, io::stdout().as_fd().try_clone_to_owned()?)
        };
        let (raw, carried) = join().map_err(RelayError::Terminal)?;
        self.raw = Some(raw);
        self.resized(master);
        Ok(carried)
    }

    fn resized(&mut self, master: &OwnedFd) {
        // A size that can't be had leaves the old one, as any terminal does.
        let _ = terminal::copy_window_size(io::stdin(), master);
    }

    fn paused(&mut self) {
        self.raw = None;
    }

    fn resumed(&mut self, master: &OwnedFd) {
        self.raw = RawMode::enter(io::stdin()).ok();
        self.resized(master);
    }
}

/// Makes the caller's terminal raw, gives the sandbox's the mode that it had, and carries the bytes both ways.
fn join(master: &OwnedFd, stdin: OwnedFd, stdout: OwnedFd) -> io::Result<(RawMode, Carried)> {
    let raw = RawMode::enter(&stdin)?;
    raw.lend_mode(master)?;
    let carried = Carried {
        stdin: Some(Relay::inward(stdin, master.try_clone()?)?),
        stdout: Relay::outward(master.try_clone()?, stdout)?,
        stderr: None,
    };
    Ok((raw, carried))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::pty::{Pair, open_pair};
    use crate::sys::stream::Direction;
    use std::fs::File;
    use std::io::{Read as _, Write as _};
    use std::thread;

    /// What a person types at and looks at, and what a program inside uses.
    struct Joined {
        person: File,
        callers: OwnedFd,
        master: OwnedFd,
        program: File,
        carried: Carried,
        raw: RawMode,
    }

    fn joined() -> Joined {
        let Pair { master: person, slave: callers } = open_pair(c"/dev/ptmx").unwrap();
        let Pair { master, slave: program } = open_pair(c"/dev/ptmx").unwrap();
        let own = || callers.try_clone().unwrap();
        let (raw, carried) = join(&master, own(), own()).unwrap();
        Joined { person: person.into(), callers, master, program: program.into(), carried, raw }
    }

    /// As an editor does, and back to a prompt's mode when the guard is dropped.
    fn raw(program: &File) -> RawMode {
        RawMode::enter(program).unwrap()
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
    fn control_characters_are_bytes_outside_and_mean_something_inside() {
        let mut joined = joined();
        let editor = raw(&joined.program);
        let typed = b"\x03\x1a\x1c\x04\r\x7f\x11\x13\x16\xff";
        joined.person.write_all(typed).unwrap();
        carry(&mut joined.carried, |carried| carried.stdin.as_ref().is_some_and(|stdin| sent(stdin) == 10));
        let mut arrived = [0; 10];
        joined.program.read_exact(&mut arrived).unwrap();
        assert_eq!(&arrived, typed);

        // In the modes of a shell's prompt they are line editing: the line is taken when it is complete.
        drop(editor);
        joined.person.write_all(b"lx\x7fs\r").unwrap();
        carry(&mut joined.carried, |carried| carried.stdin.as_ref().is_some_and(|stdin| sent(stdin) == 15));
        let mut line = [0; 8];
        let length = joined.program.read(&mut line).unwrap();
        assert_eq!(&line[..length], b"ls\n");
    }

    #[test]
    fn output_arrives_byte_for_byte_and_ends_when_the_last_program_is_gone() {
        let Joined { mut person, callers, program, mut carried, raw: restored, master } = joined();
        let editor = raw(&program);
        let bytes: Vec<u8> = (0..300_000usize).map(|index| u8::try_from(index * 7 % 251).unwrap()).collect();
        let written = bytes.clone();
        let writer = thread::spawn(move || {
            { program }.write_all(&written).unwrap();
            drop(editor);
        });
        let reader = thread::spawn(move || {
            let mut seen = vec![0; 300_000];
            person.read_exact(&mut seen).unwrap();
            seen
        });
        carry(&mut carried, |carried| carried.stdout.waiting_for().is_none());
        writer.join().unwrap();
        assert!(reader.join().unwrap() == bytes);
        assert_eq!(carried.stdout.summary().bytes, 300_000);
        drop((restored, callers, master));
    }
}
