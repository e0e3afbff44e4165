//! What cgroups(7) need beyond files: processes that begin in one, and one that outlives sbx to remove them.
#![expect(unsafe_code, reason = "what runs in a child that may not allocate makes raw calls")]

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use super::clone::{self, exit_now};
use super::errno::{Call, CallError, Errno, check};
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

/// One thing that a janitor does.
#[derive(Debug)]
pub enum Duty {
    /// Remove a cgroup, and kill whoever is still in it. That it is gone already, or was never made, is as good.
    Remove {
        /// The directory that it is in.
        parent: OwnedFd,
        /// Its name there.
        name: CString,
    },
    /// Write to one of the kernel's files. That it is refused concerns nobody but the cgroup that was made for us.
    Write {
        /// The file, open for writing.
        file: OwnedFd,
        /// What, in one write.
        text: CString,
    },
    /// Move the maker to a cgroup. Not when it is dead: another process may have its id by then.
    Return {
        /// The `cgroup.procs` of it, open for writing.
        members: OwnedFd,
        /// The maker's process id, in decimal.
        maker: CString,
    },
}

/// A process that puts things back when its maker is done with them or gone, whichever way that goes.
#[derive(Debug)]
pub struct Janitor {
    pid: i32,
    /// Nothing is ever written: its end is the word.
    life: Option<OwnedFd>,
}

/// How often a cgroup that is still busy is tried again, a millisecond between.
const TRIES: u32 = 10_000;

impl Janitor {
    /// Starts one, before there is anything to do. It is in a session of its own, and of the caller's descriptors it keeps
    /// none but those of its `duties`, which it does in their order.
    ///
    /// # Errors
    /// As pipe2(2), fork(2).
    pub fn start(duties: &[Duty]) -> Result<Self, CallError> {
        let (end, life) = process::pipe()?;
        // SAFETY: no arguments.
        let maker = unsafe { libc::getpid() };
        match clone::fork()? {
            0 => {
                // Else its own copy would keep it from seeing the end, wherever the others can't be closed.
                process::close_copy(life.as_fd());
                wait_and_work(end.as_fd(), duties, maker)
            }
            pid => Ok(Self { pid, life: Some(life) }),
        }
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.pid
    }
}

impl Drop for Janitor {
    /// Waits until its work is done.
    fn drop(&mut self) {
        self.life = None;
        // An error means that somebody else reaped it.
        let _ = clone::wait_for(self.pid);
    }
}

/// The janitor's life; allocates nothing, for it is a copy of one thread of several.
fn wait_and_work(end: BorrowedFd<'_>, duties: &[Duty], maker: i32) -> ! {
    let _own = process::new_session();
    // What stays open where the kernel refuses it is closed with this process; its work must be done even so.
    let _closed = close_others(end, duties);
    block_signals();
    let _end = process::read_byte(end);
    for duty in duties {
        match duty {
            Duty::Remove { parent, name } => remove(parent.as_fd(), name),
            Duty::Write { file, text } => write(file.as_fd(), text),
            // SAFETY: no arguments.
            Duty::Return { members, maker: id } if unsafe { libc::getppid() } == maker => write(members.as_fd(), id),
            Duty::Return { .. } => {}
        }
    }
    exit_now(0)
}

fn write(file: BorrowedFd<'_>, text: &CStr) {
    // SAFETY: an open descriptor and the bytes of a C string.
    unsafe { libc::write(file.as_raw_fd(), text.as_ptr().cast(), text.count_bytes()) };
}

/// Its processes are dead or die here, but the kernel may still be at it.
fn remove(parent: BorrowedFd<'_>, name: &CStr) {
    for _ in 0..TRIES {
        // SAFETY: an open directory and a C string.
        let removed = unsafe { libc::unlinkat(parent.as_raw_fd(), name.as_ptr(), libc::AT_REMOVEDIR) } == 0;
        if removed || Errno::last() != Errno(libc::EBUSY) {
            return;
        }
        // SAFETY: as above.
        let group = unsafe {
            libc::openat(parent.as_raw_fd(), name.as_ptr(), libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC)
        };
        if group >= 0 {
            kill_members(group);
            // SAFETY: a descriptor of ours, closed once.
            unsafe { libc::close(group) };
        }
        let pause = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000 };
        // SAFETY: a valid timespec; the rest of the time is not asked for.
        unsafe { libc::nanosleep(&raw const pause, std::ptr::null_mut()) };
    }
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
fn close_others(end: BorrowedFd<'_>, duties: &[Duty]) -> Result<(), CallError> {
    let of = |duty: &Duty| match duty {
        Duty::Remove { parent, .. } => parent.as_raw_fd(),
        Duty::Write { file, .. } => file.as_raw_fd(),
        Duty::Return { members, .. } => members.as_raw_fd(),
    };
    let highest = duties.iter().map(of).fold(end.as_raw_fd(), i32::max);
    for fd in (0..highest).filter(|fd| *fd != end.as_raw_fd() && !duties.iter().any(|duty| of(duty) == *fd)) {
        // SAFETY: this process never uses it: what owns it is in the parent, and nothing is dropped here.
        unsafe { libc::close(fd) };
    }
    process::close_from(highest as u32 + 1, None)
}

/// Kills every process of the cgroup behind the descriptor: at one blow since Linux 5.14 (version 2), else one by one.
fn kill_members(directory: i32) {
    let open = |name: &CStr, flags: i32| {
        // SAFETY: an open directory and a C string.
        unsafe { libc::openat(directory, name.as_ptr(), flags | libc::O_CLOEXEC) }
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
