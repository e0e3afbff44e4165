//! What cgroups(7) need beyond files: processes that begin in one, and one that outlives sbx to remove them.
#![expect(unsafe_code, reason = "what runs in a child that may not allocate makes raw calls")]

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use super::clone::{self, exit_now};
use super::errno::{Call, CallError, check};
use super::process;

/// The way into a cgroup, or into one in each hierarchy of version 1.
#[derive(Debug)]
pub struct Entry {
    /// The directory of a cgroup of version 2, into which clone3(2) can put a child.
    directory: Option<OwnedFd>,
    /// The `cgroup.procs` of each, open for writing.
    procs: Vec<OwnedFd>,
}

impl Entry {
    /// The way by these descriptors: a directory of version 2, and every `cgroup.procs`.
    pub fn new(directory: Option<OwnedFd>, procs: Vec<OwnedFd>) -> Self {
        Self { directory, procs }
    }

    /// The directory for clone3(2).
    pub fn directory(&self) -> Option<BorrowedFd<'_>> {
        self.directory.as_ref().map(AsFd::as_fd)
    }

    /// Moves the calling process there. Whether it may is decided by who opened the files, and before Linux 5.16 by who
    /// writes. Allocates nothing.
    ///
    /// # Errors
    /// EACCES when it may not; ENODEV when the cgroup is gone; EBUSY where version 2 takes no processes.
    pub fn join(&self) -> Result<(), CallError> {
        for procs in &self.procs {
            // SAFETY: an open descriptor, and a buffer of one byte.
            let written = unsafe { libc::write(procs.as_raw_fd(), c"0".as_ptr().cast(), 1) };
            if check(Call::write, written as libc::c_long)? != 1 {
                return Err(CallError::mismatch(Call::write));
            }
        }
        Ok(())
    }
}

/// Whether the caller may write to the file, or make entries in the directory (a read-only mount says no to root too).
pub fn is_writable(path: &Path) -> bool {
    nix::unistd::eaccess(path, nix::unistd::AccessFlags::W_OK).is_ok()
}

/// A cgroup to be removed.
#[derive(Debug)]
pub struct Doomed {
    /// The directory that it is in.
    pub parent: OwnedFd,
    /// Its name there.
    pub name: CString,
    /// Its own directory.
    pub directory: OwnedFd,
}

/// A process that removes cgroups when its maker is gone, whichever way that goes.
#[derive(Debug)]
pub struct Janitor {
    pid: i32,
    /// Nothing is ever written: its end is the word.
    life: Option<OwnedFd>,
}

/// How often a cgroup that is still busy is tried again, a millisecond between.
const TRIES: u32 = 10_000;

impl Janitor {
    /// Starts one. It is in a session of its own, and of the caller's descriptors it keeps none but those of `doomed`.
    ///
    /// # Errors
    /// As pipe2(2), fork(2).
    pub fn start(doomed: &[Doomed]) -> Result<Self, CallError> {
        let (end, life) = process::pipe()?;
        match clone::fork()? {
            0 => wait_and_remove(end.as_fd(), doomed),
            pid => Ok(Self { pid, life: Some(life) }),
        }
    }
}

impl Drop for Janitor {
    /// Its work is done at once when the cgroups are removed already.
    fn drop(&mut self) {
        self.life = None;
        // An error means that somebody else reaped it.
        let _ = clone::wait_for(self.pid);
    }
}

/// The janitor's life; allocates nothing, for it is a copy of one thread of several.
fn wait_and_remove(end: BorrowedFd<'_>, doomed: &[Doomed]) -> ! {
    let _own = process::new_session();
    if close_others(end, doomed).is_err() {
        exit_now(1);
    }
    block_signals();
    let _end = process::read_byte(end);
    for group in doomed {
        for _ in 0..TRIES {
            // SAFETY: an open directory and a C string.
            let removed =
                unsafe { libc::unlinkat(group.parent.as_raw_fd(), group.name.as_ptr(), libc::AT_REMOVEDIR) } == 0;
            if removed || super::errno::Errno::last() != super::errno::Errno(libc::EBUSY) {
                break;
            }
            kill_members(group.directory.as_fd());
            let pause = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000 };
            // SAFETY: a valid timespec; the rest of the time is not asked for.
            unsafe { libc::nanosleep(&raw const pause, std::ptr::null_mut()) };
        }
    }
    exit_now(0)
}

/// What a terminal or a shell sends to the group of sbx does not reach another session; this is against the rest.
fn block_signals() {
    // SAFETY: a set that the call fills, then reads.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut());
    }
}

/// Closes every descriptor but those that the janitor needs: it must keep nobody's pipe open.
fn close_others(end: BorrowedFd<'_>, doomed: &[Doomed]) -> Result<(), CallError> {
    let needed = |fd: i32| {
        fd == end.as_raw_fd()
            || doomed.iter().any(|group| fd == group.parent.as_raw_fd() || fd == group.directory.as_raw_fd())
    };
    let highest = doomed
        .iter()
        .flat_map(|group| [group.parent.as_raw_fd(), group.directory.as_raw_fd()])
        .fold(end.as_raw_fd(), i32::max);
    for fd in (0..highest).filter(|fd| !needed(*fd)) {
        // SAFETY: this process never uses it: what owns it is in the parent, and nothing is dropped here.
        unsafe { libc::close(fd) };
    }
    process::close_from(highest as u32 + 1, None)
}

/// Kills every process of a cgroup: at one blow since Linux 5.14 (version 2), else one by one.
fn kill_members(directory: BorrowedFd<'_>) {
    let open = |name: &std::ffi::CStr, flags: i32| {
        // SAFETY: an open directory and a C string.
        unsafe { libc::openat(directory.as_raw_fd(), name.as_ptr(), flags | libc::O_CLOEXEC) }
    };
    let kill = open(c"cgroup.kill", libc::O_WRONLY);
    if kill >= 0 {
        // SAFETY: a descriptor of ours and a buffer of one byte; closed once.
        unsafe {
            libc::write(kill, c"1".as_ptr().cast(), 1);
            libc::close(kill);
        }
        return;
    }
    let procs = open(c"cgroup.procs", libc::O_RDONLY);
    if procs >= 0 {
        clone::kill_listed(procs);
        // SAFETY: a descriptor of ours, closed once.
        unsafe { libc::close(procs) };
    }
}
