//! What each kind of namespace costs: to make, to enter, to take down, to keep.
//!
//! An ordinary user can make a user namespace alone, and all others inside of one. So everybody's are measured inside of
//! one, root's too: the figures can be compared, and the user namespace itself has its own rows.

mod memory;
mod worker;

use std::ffi::{CStr, CString};
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use worker::{Cell, OWN, Room, STEPS, Scene, Step, Subject, Task};

use super::report::{Beside, Measurement, Quoted, Report};
use super::{BenchError, Interrupts, Size};
use crate::sys::clone::{self, CloneFlags, Forked};
use crate::sys::errno::CallError;
use crate::sys::event::{self, Interest};
use crate::sys::process;

/// A kind of namespace.
struct Kind {
    name: &'static str,
    flags: CloneFlags,
    file: &'static CStr,
    /// What is commonly said that it costs, in microseconds, and up to what.
    quoted: Option<(f64, Option<f64>)>,
}

const fn kind(name: &'static str, flags: CloneFlags, file: &'static CStr, quoted: Option<(f64, Option<f64>)>) -> Kind {
    Kind { name, flags, file, quoted }
}

/// All eight, in the order in which a set grows.
const KINDS: [Kind; 8] = [
    kind("user", CloneFlags::USER, c"user", Some((150.0, None))),
    kind("mount", CloneFlags::MOUNT, c"mnt", Some((50.0, None))),
    kind("pid", CloneFlags::PID, c"pid", Some((100.0, None))),
    kind("net", CloneFlags::NET, c"net", Some((2000.0, Some(5000.0)))),
    kind("ipc", CloneFlags::IPC, c"ipc", Some((20.0, None))),
    kind("uts", CloneFlags::UTS, c"uts", Some((20.0, None))),
    kind("cgroup", CloneFlags::CGROUP, c"cgroup", None),
    kind("time", CloneFlags::TIME, c"time", None),
];

/// The rows that a group takes from the worker's times.
const GROUPS: [(&str, &str, Step, Beside); 5] = [
    ("unshare", "unshare(2): the namespace alone", Step::Unshare, Beside::Nothing),
    ("clone3", "clone3(2): a process in it", Step::Clone, Beside::Difference),
    ("setns", "setns(2): into one that is there", Step::Enter, Beside::Nothing),
    ("end", "teardown: a process in it ends and is reaped", Step::End, Beside::Difference),
    ("close", "teardown: the last descriptor is closed, nobody is in it", Step::Close, Beside::Nothing),
];

/// Runs the bench.
///
/// # Errors
/// When no namespaces can be made here, a temporary directory can't, or a signal asks for the end.
pub fn run(size: Size, interrupts: &Interrupts, tell: &mut dyn FnMut(&str)) -> Result<Report, BenchError> {
    let mut report = super::begin("namespaces", size);
    let notes = [
        "each is made inside of a user namespace of the bench's own, as an ordinary user has to; that one is in no time",
        "what the kernel takes down later by itself, of a net namespace most, is in no time either",
    ];
    report.notes.extend(notes.map(str::to_owned));
    let files = process::raise_open_files();
    alone(&mut report, size, interrupts, tell)?;
    beside_mounts(&mut report, size, interrupts, tell)?;
    beside_others(&mut report, size, files, interrupts, tell)?;
    memory::run(&mut report, size, files, interrupts, tell)?;
    quoted(&mut report);
    super::warn_of_noise(&mut report, &["clone3", "end"], "no namespace");
    Ok(report)
}

/// Each kind by each means, and sets that grow until they are all.
fn alone(
    report: &mut Report,
    size: Size,
    interrupts: &Interrupts,
    tell: &mut dyn FnMut(&str),
) -> Result<(), BenchError> {
    tell("each namespace alone, and sets of them");
    let none = Subject { flags: CloneFlags::NONE, file: None };
    let mut names = vec!["no namespace".to_owned()];
    let mut subjects = vec![none];
    for kind in &KINDS {
        names.push(kind.name.to_owned());
        subjects.push(Subject { flags: kind.flags, file: Some(kind.file) });
    }
    let mut set = CloneFlags::NONE;
    let mut sets = vec![names[0].clone()];
    for (index, kind) in KINDS.iter().enumerate() {
        set = set.and(kind.flags);
        sets.push(match index {
            0 => kind.name.to_owned(),
            7 => format!("+ {}: all eight", kind.name),
            _ => format!("+ {}", kind.name),
        });
        // A single kind was measured already.
        if index > 0 {
            subjects.push(Subject { flags: set, file: None });
        }
    }
    let task = Task { scene: Scene::Empty, subjects, rounds: size.rounds };
    let cells = measured(&task, interrupts)?;
    for (group, title, step, beside) in GROUPS {
        report.group(group, title, beside);
        for (index, name) in names.iter().enumerate() {
            add(report, group, name, None, &times(&task, &cells, index, step));
        }
    }
    for (group, title, step) in [
        ("sets", "clone3(2): sets that grow", Step::Clone),
        ("sets-end", "teardown: a process in such a set ends", Step::End),
    ] {
        report.group(group, title, Beside::Difference);
        for (index, name) in sets.iter().enumerate() {
            // Nothing and the first kind alone, then the sets behind the single kinds.
            let subject = if index < 2 { index } else { KINDS.len() + index - 1 };
            add(report, group, name, None, &times(&task, &cells, subject, step));
        }
    }
    Ok(())
}

/// A mount namespace where there are many mounts: it begins as a copy of them.
fn beside_mounts(
    report: &mut Report,
    size: Size,
    interrupts: &Interrupts,
    tell: &mut dyn FnMut(&str),
) -> Result<(), BenchError> {
    report.group("mounts", "a mount namespace beside more mounts of its maker's", Beside::Nothing);
    let base = tempfile::Builder::new().prefix("sbx-bench-").tempdir();
    let base = base.map_err(BenchError::io("make a temporary directory"))?;
    let subject = Subject { flags: CloneFlags::MOUNT, file: Some(c"mnt") };
    for count in size.pick([0, 100, 1000], [0, 10, 50]) {
        tell(&format!("a mount namespace beside {count} mounts"));
        let mut places = Vec::new();
        for index in 0..count {
            let place = base.path().join(index.to_string());
            fs::create_dir_all(&place).map_err(BenchError::io("make a temporary directory"))?;
            places.extend(CString::new(place.as_os_str().as_bytes()));
        }
        varied(report, Scene::Mounts(places), subject, size, ("mounts", count), interrupts)?;
    }
    Ok(())
}

/// A net namespace where there are many.
fn beside_others(
    report: &mut Report,
    size: Size,
    files: usize,
    interrupts: &Interrupts,
    tell: &mut dyn FnMut(&str),
) -> Result<(), BenchError> {
    report.group("nets", "a net namespace beside others that are kept", Beside::Nothing);
    let subject = Subject { flags: CloneFlags::NET, file: Some(c"net") };
    for count in size.pick([0, 100, 1000], [0, 5, 20]) {
        tell(&format!("a net namespace beside {count} others"));
        if count + 64 > files {
            report.lacks(format!("a net namespace beside {count}"), format!("no more than {files} files may be open"));
            continue;
        }
        varied(report, Scene::Nets(count), subject, size, ("net namespaces", count), interrupts)?;
    }
    Ok(())
}

/// One kind in a scene: made, and the last of it closed.
fn varied(
    report: &mut Report,
    scene: Scene,
    subject: Subject,
    size: Size,
    (parameter, count): (&str, usize),
    interrupts: &Interrupts,
) -> Result<(), BenchError> {
    let group = report.groups.last().map(|group| group.name.clone()).unwrap_or_default();
    let task = Task { scene, subjects: vec![subject], rounds: size.rounds.div_ceil(3).max(5) };
    let cells = match measured(&task, interrupts) {
        // A limit of this user's or this machine's.
        Err(BenchError::Kernel { source, .. }) => {
            report.lacks(format!("beside {count} {parameter}"), source.to_string());
            return Ok(());
        }
        cells => cells?,
    };
    for (name, step) in [("unshare", Step::Unshare), ("close", Step::Close)] {
        add(report, &group, name, Some((parameter, count)), &times(&task, &cells, 0, step));
    }
    Ok(())
}

fn quoted(report: &mut Report) {
    for kind in &KINDS {
        let here = report.find("unshare", kind.name).map(|result| result.median);
        if let Some((from, to)) = kind.quoted {
            let (quoted, to) = (from * 1e-6, to.map(|to| to * 1e-6));
            report.quoted.push(Quoted { name: kind.name.to_owned(), quoted, to, here });
        }
    }
}

/// The times of one subject and step in order, and what was refused last.
type Times = (Vec<f64>, Option<CallError>);

fn times(task: &Task, cells: &[Cell], subject: usize, step: Step) -> Times {
    let width = task.subjects.len() * STEPS;
    let (mut times, mut refused) = (Vec::new(), None);
    for round in cells.chunks(width) {
        match round[subject * STEPS + step as usize].read() {
            Some(Ok(time)) => times.push(time),
            Some(Err(error)) => refused = Some(error),
            None => {}
        }
    }
    (times, refused)
}

fn add(report: &mut Report, group: &str, name: &str, parameter: Option<(&str, usize)>, (times, refused): &Times) {
    if let Some(error) = refused {
        let measured = if times.is_empty() { "" } else { ", some rounds" };
        report.lacks(format!("{group}, {name}{measured}"), error.to_string());
    }
    let Some(mut measured) = Measurement::new(group, name, times.clone()) else { return };
    if let Some((parameter, value)) = parameter {
        measured = measured.with(parameter, value);
    }
    report.results.push(measured);
}

/// A worker's process. It ends when this is dropped, and with it, it being PID 1, everything that it has started.
struct Started {
    pid: i32,
    pidfd: OwnedFd,
}

impl Drop for Started {
    fn drop(&mut self) {
        clone::kill_by(&self.pidfd, event::signal::KILL);
        // Somebody else can't have reaped it; if so, it is gone.
        let _ = clone::wait_for(self.pid);
    }
}

/// Begins a process in namespaces of its own, all [`OWN`], that does `work`; its user id inside is 0.
fn begin(work: impl FnOnce() -> Result<(), CallError>) -> Result<Started, BenchError> {
    let (uid, _, gid) = process::caller_ids();
    match clone::clone3(OWN).map_err(BenchError::kernel("make namespaces to measure in"))? {
        Forked::Child => clone::exit_now(work().map_or_else(|error| error.errno.0, |()| 0)),
        Forked::Parent { pid, pidfd } => {
            let started = Started { pid, pidfd };
            let maps = [
                ("setgroups", "deny".to_owned()),
                ("uid_map", format!("0 {uid} 1")),
                ("gid_map", format!("0 {gid} 1")),
            ];
            for (file, map) in maps {
                let path = format!("/proc/{pid}/{file}");
                fs::write(&path, map).map_err(BenchError::io(format!("write {path}")))?;
            }
            Ok(started)
        }
    }
}

/// What a worker found out.
fn measured(task: &Task, interrupts: &Interrupts) -> Result<Vec<Cell>, BenchError> {
    let kept = if let Scene::Nets(count) = task.scene { count } else { 0 };
    let mut kept: Vec<Option<OwnedFd>> = (0..kept).map(|_| None).collect();
    let mut cells = vec![Cell::EMPTY; task.rounds * task.subjects.len() * STEPS];
    let pipe = || process::pipe().map_err(BenchError::kernel("make a pipe"));
    let ((go, word), (read, out)) = (pipe()?, pipe()?);
    let mut out = fs::File::from(out);
    let room = Room { cells: &mut cells, kept: &mut kept, go: go.as_fd(), out: &mut out };
    let started = begin(|| worker::work(task, room))?;
    drop(out);
    let io = || BenchError::io("talk to the process that measures");
    fs::File::from(word).write_all(&[0]).map_err(io())?;
    let wanted = cells.len() * size_of::<u64>();
    let (mut bytes, mut from) = (Vec::with_capacity(wanted), fs::File::from(read));
    let mut chunk = [0; 65_536];
    loop {
        let readable = Some((from.as_fd(), Interest { read: true, write: false }));
        let signalled = Some((interrupts.signals().fd(), Interest { read: true, write: false }));
        let ready = event::wait(&[readable, signalled], None).map_err(BenchError::kernel("wait"))?;
        interrupts.check()?;
        if ready[0].read {
            match from.read(&mut chunk).map_err(io())? {
                0 => break,
                length => bytes.extend_from_slice(&chunk[..length]),
            }
        }
    }
    if bytes.len() != wanted {
        return Err(refused(started));
    }
    let numbers = bytes.chunks_exact(8).map(|eight| u64::from_le_bytes(eight.try_into().unwrap_or_default()));
    Ok(numbers.map(Cell).collect())
}

/// Why a worker ended before it was done: its exit code is the errno.
fn refused(started: Started) -> BenchError {
    use crate::sys::clone::Ended;
    use crate::sys::errno::{Call, Errno};
    let errno = match clone::wait_for(started.pid).map(clone::WaitStatus::decode) {
        Ok(Ended::Exited(errno)) if errno != 0 => Errno(errno),
        _ => Errno::EINTR,
    };
    BenchError::Kernel { doing: "measure namespaces", source: CallError { call: Call::clone3, errno } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_a_time_or_a_refusal() {
        let task =
            Task { scene: Scene::Empty, subjects: vec![Subject { flags: CloneFlags::NONE, file: None }; 2], rounds: 2 };
        let mut cells = vec![Cell::EMPTY; 2 * 2 * STEPS];
        cells[0] = Cell(1_500);
        cells[2 * STEPS] = Cell(2_500);
        assert_eq!(times(&task, &cells, 0, Step::Clone), (vec![1.5e-6, 2.5e-6], None));
        assert_eq!(times(&task, &cells, 1, Step::Clone), (Vec::new(), None));
    }
}
