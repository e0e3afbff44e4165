//! The process in which namespaces are measured. It is in one of each kind of its own, all owned by its own user namespace,
//! so that it may make, enter and leave more of them whoever started the bench.
//!
//! Like every child it allocates nothing: what it needs room for was made before it began, and it writes what it found to a
//! pipe when all is done.

use std::ffi::CStr;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::sys::clone::{self, CloneFlags, Ended, Forked};
use crate::sys::errno::{Call, CallError, Errno};
use crate::sys::process::{self, Clock};
use crate::sys::{mount, ns};

/// How many times each subject has in a round.
pub(super) const STEPS: usize = 5;

/// What is done with a kind of namespace, in the order of a round's times. The last three only with single kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// clone3(2), until it returns in the parent.
    Clone,
    /// From the word to a process in it that it may end until its parent has reaped it.
    End,
    /// unshare(2).
    Unshare,
    /// setns(2) into one that is there.
    Enter,
    /// close(2) of the last descriptor of one that nobody is in.
    Close,
}

/// A set of kinds to be measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject {
    /// Which kinds.
    pub(super) flags: CloneFlags,
    /// The file below `/proc/self/ns` for a single kind.
    pub(super) file: Option<&'static CStr>,
}

/// What is there before the measuring begins.
#[derive(Debug, Clone)]
pub(super) enum Scene {
    /// Nothing more.
    Empty,
    /// One mount at each of these directories.
    Mounts(Vec<std::ffi::CString>),
    /// So many net namespaces.
    Nets(usize),
}

/// What a worker is to do.
#[derive(Debug, Clone)]
pub(super) struct Task {
    /// What is there.
    pub(super) scene: Scene,
    /// What is measured, all of it in each round.
    pub(super) subjects: Vec<Subject>,
    /// How often; the first round more warms up and is dropped.
    pub(super) rounds: usize,
}

/// A time in nanoseconds, or a call and its errno with the highest bit set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cell(pub(super) u64);

impl Cell {
    const FAILED: u64 = 1 << 63;
    /// Nothing was measured.
    pub(super) const EMPTY: Self = Self(u64::MAX);

    fn of(measured: Result<u64, CallError>) -> Self {
        Self(match measured {
            Ok(time) => time & !Self::FAILED,
            Err(CallError { call, errno }) => Self::FAILED | (call as u64) << 32 | u64::from(errno.0.unsigned_abs()),
        })
    }

    /// The time in seconds; `None` when nothing was measured.
    pub(super) fn read(self) -> Option<Result<f64, CallError>> {
        if self == Self::EMPTY {
            return None;
        }
        if self.0 & Self::FAILED == 0 {
            return Some(Ok(self.0 as f64 / 1e9));
        }
        let call = Call::from_number((self.0 >> 32) as u8).unwrap_or(Call::clone3);
        Some(Err(CallError { call, errno: Errno((self.0 & 0xffff_ffff) as i32) }))
    }
}

/// All the kinds that a worker is in for itself.
pub(super) const OWN: CloneFlags = CloneFlags::USER
    .and(CloneFlags::MOUNT)
    .and(CloneFlags::PID)
    .and(CloneFlags::NET)
    .and(CloneFlags::IPC)
    .and(CloneFlags::UTS)
    .and(CloneFlags::CGROUP)
    .and(CloneFlags::TIME);

/// What a worker is given, all made before it begins.
pub(super) struct Room<'a> {
    /// Its times, all [`Cell::EMPTY`]: rounds, subjects, steps.
    pub(super) cells: &'a mut [Cell],
    /// Room for the namespaces that are kept.
    pub(super) kept: &'a mut [Option<OwnedFd>],
    /// Where a byte says that it may begin.
    pub(super) go: BorrowedFd<'a>,
    /// Where its times go.
    pub(super) out: &'a mut File,
}

/// The worker's life.
pub(super) fn work(task: &Task, room: Room<'_>) -> Result<(), CallError> {
    process::die_with_parent()?;
    // The ids are mapped now.
    process::read_byte(room.go)?;
    mount::make_private()?;
    let signals = Talk::new()?;
    set_scene(&task.scene, &signals, room.kept)?;
    let width = task.subjects.len() * STEPS;
    for round in 0..=task.rounds {
        for turn in 0..task.subjects.len() {
            // Every other round goes backwards: what the kernel still takes down is at the cost of who is next.
            let index = if round % 2 == 0 { turn } else { task.subjects.len() - 1 - turn };
            let times = measure(task.subjects[index], &signals);
            // The first round warms up.
            if let Some(from) = round.checked_sub(1) {
                let from = from * width + index * STEPS;
                room.cells[from..from + STEPS].copy_from_slice(&times);
            }
        }
    }
    for cell in room.cells.iter() {
        if room.out.write_all(&cell.0.to_le_bytes()).is_err() {
            return Err(CallError::last(Call::write));
        }
    }
    Ok(())
}

/// The pipes between the worker and its children.
pub(super) struct Talk {
    down: (OwnedFd, File),
    up: (OwnedFd, File),
}

impl Talk {
    pub(super) fn new() -> Result<Self, CallError> {
        let (down, up) = (process::pipe()?, process::pipe()?);
        Ok(Self { down: (down.0, down.1.into()), up: (up.0, up.1.into()) })
    }

    fn word(to: &File) -> Result<(), CallError> {
        let mut to = to;
        to.write_all(&[0]).map_err(|_| CallError::last(Call::write))
    }

    /// Eight bytes from a child that ends, one way or the other, before more than these are read.
    fn number(&self) -> Result<u64, CallError> {
        let mut bytes = [0; 8];
        for byte in &mut bytes {
            *byte = process::read_byte(self.up.0.as_fd())?.unwrap_or(0);
        }
        Ok(u64::from_le_bytes(bytes))
    }

    fn tell(&self, number: u64) -> Result<(), CallError> {
        let mut to = &self.up.1;
        to.write_all(&number.to_le_bytes()).map_err(|_| CallError::last(Call::write))
    }
}

fn set_scene(scene: &Scene, talk: &Talk, kept: &mut [Option<OwnedFd>]) -> Result<(), CallError> {
    match scene {
        Scene::Empty => Ok(()),
        Scene::Mounts(places) => places.iter().try_for_each(|place| {
            let directory = mount::open_directory(place)?;
            let tree = mount::copy_tree(directory.as_fd())?;
            mount::attach(tree.as_fd(), directory.as_fd())
        }),
        Scene::Nets(count) => kept.iter_mut().take(*count).try_for_each(|place| {
            *place = Some(made(CloneFlags::NET, c"net", talk)?);
            Ok(())
        }),
    }
}

/// The nanoseconds that `act` takes, by CLOCK_MONOTONIC.
fn timed<T>(act: impl FnOnce() -> Result<T, CallError>) -> Result<(u64, T), CallError> {
    let before = now();
    let done = act()?;
    Ok((now() - before, done))
}

fn now() -> u64 {
    let (seconds, nanoseconds) = process::clock(Clock::Monotonic);
    seconds as u64 * 1_000_000_000 + nanoseconds as u64
}

/// All steps of a subject.
fn measure(subject: Subject, talk: &Talk) -> [Cell; STEPS] {
    let mut cells = [Cell::EMPTY; STEPS];
    match cloned(subject.flags, talk) {
        Ok([clone, end]) => (cells[0], cells[1]) = (Cell::of(Ok(clone)), Cell::of(Ok(end))),
        Err(error) => (cells[0], cells[1]) = (Cell::of(Err(error)), Cell::of(Err(error))),
    }
    let Some(file) = subject.file else { return cells };
    cells[2] = Cell::of(unshared(subject.flags, file, talk));
    let (enter, close) = match entered(subject.flags, file, talk) {
        Ok([enter, close]) => (Ok(enter), Ok(close)),
        Err(error) => (Err(error), Err(error)),
    };
    (cells[3], cells[4]) = (Cell::of(enter), Cell::of(close));
    cells
}

/// A process that waits for a word and ends; how long its beginning and its end take.
fn cloned(flags: CloneFlags, talk: &Talk) -> Result<[u64; 2], CallError> {
    let (clone, forked) = timed(|| match clone::clone3(flags)? {
        Forked::Child => {
            let _ = process::read_byte(talk.down.0.as_fd());
            clone::exit_now(0)
        }
        parent @ Forked::Parent { .. } => Ok(parent),
    })?;
    let Forked::Parent { pid, .. } = forked else { clone::exit_now(1) };
    let (end, _) = timed(|| {
        Talk::word(&talk.down.1)?;
        clone::wait_for(pid)
    })?;
    Ok([clone, end])
}

/// unshare(2) of one kind. What can be left again is left; a user namespace can't be, so a child makes it.
fn unshared(flags: CloneFlags, file: &CStr, talk: &Talk) -> Result<u64, CallError> {
    if flags == CloneFlags::USER {
        return in_child(talk, || timed(|| ns::unshare(flags)).map(|(time, ())| time));
    }
    let home = own(file)?;
    let (time, ()) = timed(|| ns::unshare(flags))?;
    ns::enter(home.as_fd())?;
    Ok(time)
}

/// setns(2) into a namespace that nobody is in, and close(2) of its last descriptor when nobody is in it again.
fn entered(flags: CloneFlags, file: &CStr, talk: &Talk) -> Result<[u64; 2], CallError> {
    let namespace = made(flags, file, talk)?;
    let enter = if flags == CloneFlags::USER {
        in_child(talk, || timed(|| ns::enter(namespace.as_fd())).map(|(time, ())| time))?
    } else {
        let home = own(file)?;
        let (time, ()) = timed(|| ns::enter(namespace.as_fd()))?;
        ns::enter(home.as_fd())?;
        time
    };
    let (close, ()) = timed(|| {
        drop(namespace);
        Ok(())
    })?;
    Ok([enter, close])
}

/// The namespace of this process that `file` names.
fn own(file: &CStr) -> Result<OwnedFd, CallError> {
    const BEGIN: &[u8] = b"/proc/self/ns/";
    let mut path = [0_u8; 32];
    path[..BEGIN.len()].copy_from_slice(BEGIN);
    path[BEGIN.len()..BEGIN.len() + file.count_bytes()].copy_from_slice(file.to_bytes());
    let path = CStr::from_bytes_until_nul(&path).map_err(|_| CallError::mismatch(Call::open))?;
    mount::open_file(path, false)
}

/// A new namespace of one kind, held by a descriptor only: a child that shares the descriptors opens it and ends. With no
/// flags it is the worker's own.
pub(super) fn made(flags: CloneFlags, file: &CStr, talk: &Talk) -> Result<OwnedFd, CallError> {
    match clone::clone3(flags.and(CloneFlags::FILES))? {
        Forked::Child => {
            let opened = own(file).map(|fd| std::os::fd::IntoRawFd::into_raw_fd(fd).unsigned_abs().into());
            let _ = talk.tell(Cell::of(opened).0);
            clone::exit_now(0)
        }
        Forked::Parent { pid, .. } => {
            let number = told(talk, pid)?;
            process::take(i32::try_from(number).unwrap_or(-1))
        }
    }
}

/// The time that `act` gives in a child of its own.
fn in_child(talk: &Talk, act: impl FnOnce() -> Result<u64, CallError>) -> Result<u64, CallError> {
    match clone::clone3(CloneFlags::NONE)? {
        Forked::Child => {
            let _ = talk.tell(Cell::of(act()).0);
            clone::exit_now(0)
        }
        Forked::Parent { pid, .. } => told(talk, pid),
    }
}

/// What the child `pid` tells before it ends.
fn told(talk: &Talk, pid: i32) -> Result<u64, CallError> {
    let cell = Cell(talk.number()?);
    match clone::wait_for(pid)?.decode() {
        Ended::Exited(0) if cell.0 & Cell::FAILED == 0 => Ok(cell.0),
        _ => Err(cell.read().and_then(Result::err).unwrap_or(CallError { call: Call::clone3, errno: Errno::EINTR })),
    }
}
