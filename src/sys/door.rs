//! Beginning a process in namespaces that exist already.
//!
//! A process that enters a user namespace can't leave it, and its caller may have threads, which forbids it anyway
//! (setns(2)). So a short-lived helper enters, and what it clones there becomes a child of the caller (`CLONE_PARENT`):
//! the caller can wait for it, and it dies with the caller when it asks for that.
#![expect(
    unsafe_code,
    reason = "clone on a stack of its own, setns and prctl are raw calls in a child that may not allocate"
)]

use std::convert::Infallible;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::cgroup::Entry;
use super::clone::{self, CloneFlags};
use super::errno::{Call, CallError, Errno, check};
use super::process::UNUSED;

/// What is entered.
#[derive(Debug, Clone, Copy)]
pub enum Door<'a> {
    /// A user namespace whose parent is the caller's and that maps no ids yet, and a net namespace that it owns.
    Pair {
        /// The user namespace.
        user: BorrowedFd<'a>,
        /// The net namespace.
        net: BorrowedFd<'a>,
    },
    /// Every namespace of the process behind a pidfd, as they are for that process itself (Linux 5.8). PID 1 of a sandbox
    /// is not in its time namespace, the others are. The new process is closed to inspection (`PR_SET_DUMPABLE` 0), for
    /// its memory is still the caller's and those inside are neighbours; exec(2) opens it again.
    Process {
        /// The process.
        process: BorrowedFd<'a>,
        /// What is not entered, for it is the caller's own already: nobody may enter a namespace of another owner, not even
        /// the one that he is in.
        except: CloneFlags,
    },
}

/// The stack of the helper, and of its child until that executes something else, in bytes.
const STACK: usize = 256 * 1024;
/// The unmapped end of the stack, in bytes: at least one page of every kernel.
const GUARD: usize = 64 * 1024;

/// What the helper leaves for its caller, in memory that both share.
#[repr(C)]
struct Report {
    /// The new process; the kernel writes it before that process runs (`CLONE_PARENT_SETTID`), 0 until then.
    pid: libc::pid_t,
    /// Its pidfd.
    pidfd: libc::c_int,
    /// The call that failed, and why.
    failed: Option<CallError>,
}

/// A mapping that goes with its owner.
struct Mapping {
    start: *mut libc::c_void,
    length: usize,
}

impl Mapping {
    fn new(length: usize, flags: libc::c_int) -> Result<Self, CallError> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new anonymous mapping at a place of the kernel's choice touches nothing that exists.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags | libc::MAP_ANONYMOUS, -1, 0) };
        if start == libc::MAP_FAILED { Err(CallError::last(Call::mmap)) } else { Ok(Self { start, length }) }
    }

    /// A stack that faults at its end.
    fn stack() -> Result<Self, CallError> {
        let stack = Self::new(GUARD + STACK, libc::MAP_PRIVATE | libc::MAP_NORESERVE | libc::MAP_STACK)?;
        // SAFETY: the first bytes of a mapping of ours that nothing uses yet.
        check(Call::mmap, unsafe { libc::mprotect(stack.start, GUARD, libc::PROT_NONE) }.into())?;
        Ok(stack)
    }

    fn end(&self) -> *mut libc::c_void {
        self.start.wrapping_byte_add(self.length)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: ours; the helper, which shared it, is gone, and what the helper made has a copy of its own.
        unsafe { libc::munmap(self.start, self.length) };
    }
}

/// What the helper is given.
struct Task<'a, F> {
    door: Door<'a>,
    flags: CloneFlags,
    group: Option<&'a Entry>,
    report: *mut Report,
    child: Option<F>,
}

/// Enters `door` and makes a process there, in new namespaces by `flags` besides, and in the cgroup of `group` (of version 2
/// only, where the door is a pair: else the child joins by itself). It runs `child` and is a child of the
/// calling thread; its id (as the caller sees it) and a pidfd come back. When an error does, there is no new process.
///
/// # Errors
/// The call that failed: setns (EPERM for a namespace that is not the caller's, EINVAL for one that is the caller's own,
/// or before Linux 5.8; EBADE where ids are mapped already), prctl, clone3; clone and mmap for the helper itself; EINTR when something killed it.
///
/// `child` runs in a copy of the calling thread alone, on a small stack, with every descriptor of the caller's but those
/// of the door: for it holds what [`clone::clone3`] says of a child.
pub fn clone3_through<F: FnOnce() -> Infallible>(
    door: Door<'_>,
    flags: CloneFlags,
    group: Option<&Entry>,
    child: F,
) -> Result<(i32, OwnedFd), CallError> {
    let stack = Mapping::stack()?;
    let shared = Mapping::new(size_of::<Report>(), libc::MAP_SHARED)?;
    let report = shared.start.cast::<Report>();
    // SAFETY: new memory of ours, large enough, and page-aligned.
    unsafe { report.write(Report { pid: 0, pidfd: -1, failed: None }) };
    let mut task = Task { door, flags, group, report, child: Some(child) };
    // The helper takes the place of this thread until it ends (CLONE_VFORK) and shares its descriptors, so that the
    // pidfd arrives here. With CLONE_VM there are no page tables to copy; but a time namespace takes nobody who shares
    // memory (setns(2)).
    let memory = match door {
        Door::Pair { .. } => libc::CLONE_VM,
        Door::Process { .. } => 0,
    };
    let how = memory | libc::CLONE_VFORK | libc::CLONE_FILES | libc::SIGCHLD;
    // SAFETY: `helper` gets the task that it is made for, which outlives it, for this thread waits; it runs on a stack
    // of its own, takes no lock, drops nothing of ours and returns no reference.
    let helper =
        check(Call::clone, unsafe { libc::clone(helper::<F>, stack.end(), how, (&raw mut task).cast()) }.into())?;
    // An error means that somebody else reaped it (SIGCHLD is ignored): it has ended either way.
    let _ = clone::wait_for(i32::try_from(helper).unwrap_or(i32::MAX));
    // SAFETY: the helper was the only other one to write there, and has ended.
    let Report { pid, pidfd, failed } = unsafe { report.read() };
    if pid > 0 {
        // SAFETY: the kernel stored a new descriptor there, in the table that the helper shared with us.
        return Ok((pid, unsafe { OwnedFd::from_raw_fd(pidfd) }));
    }
    Err(failed.unwrap_or(CallError { call: Call::clone, errno: Errno::EINTR }))
}

extern "C" fn helper<F: FnOnce() -> Infallible>(task: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `clone3_through` passes a task of this very type, and does not touch it until we have ended.
    let task = unsafe { &mut *task.cast::<Task<'_, F>>() };
    match begin(task) {
        Ok(true) => {
            close_door(task.door);
            let _never = task.child.take().map(|child| child());
        }
        Ok(false) => {}
        // SAFETY: shared memory of the right type, which nobody else uses now.
        Err(error) => unsafe { (*task.report).failed = Some(error) },
    }
    0
}

/// Makes the new process in its cgroup and behind the door; true there.
fn begin<F>(task: &Task<'_, F>) -> Result<bool, CallError> {
    let into = match (task.door, task.group) {
        // The way into a cgroup is judged by the cgroup namespace that one is in, where that delegates (cgroups(7)): with
        // all of the sandbox's namespaces on, the caller's cgroup is out of sight.
        (Door::Process { .. }, Some(group)) => {
            group.join()?;
            None
        }
        (_, group) => group.and_then(Entry::directory),
    };
    enter(task.door)?;
    sibling(task.flags, into, task.report)
}

/// Enters, and sees to it that what the kernel takes away with a change of user namespace is as before: a process that is
/// not dumpable finds its own `/proc/self/uid_map` to be root's, and the signal at its parent's death is forgotten
/// (PR_SET_DUMPABLE(2const), PR_SET_PDEATHSIG(2const)).
fn enter(door: Door<'_>) -> Result<(), CallError> {
    let setns = |fd: BorrowedFd<'_>, kinds: libc::c_int| {
        // SAFETY: an open descriptor and an integer.
        check(Call::setns, unsafe { libc::setns(fd.as_raw_fd(), kinds) }.into()).map(drop)
    };
    let dumpable = |value: libc::c_ulong| {
        // SAFETY: takes integers.
        check(Call::prctl, unsafe { libc::prctl(libc::PR_SET_DUMPABLE, value, UNUSED, UNUSED, UNUSED) }.into())
            .map(drop)
    };
    match door {
        Door::Pair { user, net } => {
            // SAFETY: takes integers.
            let before = unsafe { libc::prctl(libc::PR_GET_DUMPABLE, UNUSED, UNUSED, UNUSED, UNUSED) };
            setns(user, libc::CLONE_NEWUSER)?;
            if before == 1 {
                dumpable(1)?;
            }
            super::process::die_with_parent()?;
            setns(net, libc::CLONE_NEWNET)?;
            no_ids_are_mapped()
        }
        Door::Process { process, except } => {
            dumpable(0)?;
            let all = libc::CLONE_NEWUSER
                | libc::CLONE_NEWNS
                | libc::CLONE_NEWPID
                | libc::CLONE_NEWNET
                | libc::CLONE_NEWIPC
                | libc::CLONE_NEWUTS
                | libc::CLONE_NEWCGROUP
                | libc::CLONE_NEWTIME;
            setns(process, all & !(except.bits() as libc::c_int))?;
            dumpable(0)?;
            super::process::die_with_parent()
        }
    }
}

/// EBADE when ids are mapped already: the namespace was in use, and its ids can't be mapped again.
fn no_ids_are_mapped() -> Result<(), CallError> {
    let map = super::mount::open_file(c"/proc/thread-self/uid_map", false)?;
    let mut byte = 0_u8;
    // SAFETY: an open descriptor, and room for the byte that is asked for.
    match unsafe { libc::read(map.as_raw_fd(), (&raw mut byte).cast(), 1) } {
        0 => Ok(()),
        _ => Err(CallError::mismatch(Call::setns)),
    }
}

/// In the new process, whose descriptors are copies.
fn close_door(door: Door<'_>) {
    match door {
        Door::Pair { user, net } => {
            super::process::close_copy(user);
            super::process::close_copy(net);
        }
        Door::Process { process, .. } => super::process::close_copy(process),
    }
}

/// clone3(2) of a sibling; true in the new process. Its signal at its end is the helper's own, SIGCHLD, as the kernel has
/// it for `CLONE_PARENT`. The helper has stayed in its pid namespace (only its children are in the entered one), so the
/// id is the caller's name for the new process.
fn sibling(flags: CloneFlags, into: Option<BorrowedFd<'_>>, report: *mut Report) -> Result<bool, CallError> {
    // SAFETY: clone_args is plain integers, for which all zeroes is the documented "unused".
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags.bits() | (libc::CLONE_PARENT | libc::CLONE_PIDFD | libc::CLONE_PARENT_SETTID) as u64;
    // SAFETY: only places are taken, of memory that is there.
    let (pid, pidfd) = unsafe { (&raw mut (*report).pid, &raw mut (*report).pidfd) };
    (args.parent_tid, args.pidfd) = (pid as u64, pidfd as u64);
    if let Some(group) = into {
        args.flags |= clone::INTO_CGROUP;
        args.cgroup = group.as_raw_fd() as u64;
    }
    // SAFETY: args is initialised and of the size passed, both places outlive the call, and without CLONE_VM and a stack
    // the call has fork's semantics.
    let made = check(Call::clone3, unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of_val(&args)) })?;
    Ok(made == 0)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsFd;
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::sys::clone::{Ended, Forked, exit_now};
    use crate::sys::{mount, process};

    /// A process in new namespaces that does nothing; `None` where the machine allows none.
    fn sleeper(flags: CloneFlags) -> Option<(i32, OwnedFd)> {
        match clone::clone3(CloneFlags::USER.and(flags)).ok()? {
            Forked::Child => {
                let _ = process::die_with_parent();
                loop {
                    clone::wait_any(clone::Wait::Block);
                    // SAFETY: no arguments.
                    unsafe { libc::pause() };
                }
            }
            Forked::Parent { pid, pidfd } => Some((pid, pidfd)),
        }
    }

    fn namespace(pid: i32, kind: &str) -> File {
        File::open(format!("/proc/{pid}/ns/{kind}")).unwrap()
    }

    fn inode(path: &std::ffi::CStr) -> u64 {
        // SAFETY: stat is plain integers; the path is a C string and the place valid.
        unsafe {
            let mut found: libc::stat = std::mem::zeroed();
            libc::stat(path.as_ptr(), &raw mut found);
            found.st_ino
        }
    }

    fn whole(process: BorrowedFd<'_>) -> Door<'_> {
        Door::Process { process, except: CloneFlags::NONE }
    }

    fn end_of(pid: i32) -> Ended {
        clone::wait_for(pid).unwrap().decode()
    }

    #[test]
    fn a_child_begins_in_a_pair_and_can_map_its_ids_there() {
        let Some((sleeping, pidfd)) = sleeper(CloneFlags::NET) else { return };
        let (user, net) = (namespace(sleeping, "user"), namespace(sleeping, "net"));
        let expected = [&user, &net].map(|file| file.metadata().unwrap().ino());
        let (uid, _, _) = process::caller_ids();
        let map = format!("7 {uid} 1\n");
        let door = Door::Pair { user: user.as_fd(), net: net.as_fd() };
        let (pid, child) = clone3_through(door, CloneFlags::PID.and(CloneFlags::MOUNT), None, || {
            let inside = [inode(c"/proc/thread-self/ns/user"), inode(c"/proc/thread-self/ns/net")];
            exit_now(if inside == expected { 0 } else { 1 })
        })
        .unwrap();
        assert_eq!(end_of(pid), Ended::Exited(0));
        drop(child);
        let (pid, _pidfd) = clone3_through(door, CloneFlags::NONE, None, || {
            let mapped = mount::write_file(c"/proc/self/uid_map", map.as_bytes());
            exit_now(if mapped.is_ok() && process::caller_ids().0 == 7 { 0 } else { 1 })
        })
        .unwrap();
        assert_eq!(end_of(pid), Ended::Exited(0));
        clone::kill_by(&pidfd, libc::SIGKILL);
        end_of(sleeping);
    }

    #[test]
    fn a_child_begins_where_a_process_is() {
        let all = [CloneFlags::MOUNT, CloneFlags::PID, CloneFlags::NET, CloneFlags::IPC, CloneFlags::UTS];
        let Some((sleeping, pidfd)) = sleeper(all.into_iter().fold(CloneFlags::CGROUP, CloneFlags::and)) else {
            return;
        };
        let expected = fs::metadata(format!("/proc/{sleeping}/ns/net")).unwrap().ino();
        // The caller's own number for the child, not the one inside, which is 2.
        let (pid, child) = clone3_through(whole(pidfd.as_fd()), CloneFlags::NONE, None, || {
            // SAFETY: no arguments.
            let own = unsafe { libc::getpid() };
            exit_now(own)
        })
        .unwrap();
        assert!(pid > 2);
        assert_eq!(end_of(pid), Ended::Exited(2));
        drop(child);
        let (pid, _pidfd) = clone3_through(whole(pidfd.as_fd()), CloneFlags::NONE, None, || {
            loop {
                // SAFETY: no arguments.
                unsafe { libc::pause() };
            }
        })
        .unwrap();
        // An undumpable process of another user namespace shows its links to the privileged only.
        if process::caller_ids().1 == 0 {
            assert_eq!(fs::metadata(format!("/proc/{pid}/ns/net")).unwrap().ino(), expected);
        }
        clone::kill(pid, libc::SIGKILL);
        assert_eq!(end_of(pid), Ended::Signalled(libc::SIGKILL));
        clone::kill_by(&pidfd, libc::SIGKILL);
        end_of(sleeping);
    }

    #[test]
    fn what_can_t_be_entered_is_told_and_leaves_no_process() {
        let own = [File::open("/proc/self/ns/user").unwrap(), File::open("/proc/self/ns/net").unwrap()];
        let never = || exit_now(1);
        let door = Door::Pair { user: own[0].as_fd(), net: own[1].as_fd() };
        let error = clone3_through(door, CloneFlags::NONE, None, never).unwrap_err();
        assert_eq!((error.call, error.errno), (Call::setns, Errno::EINVAL));
        let error = clone3_through(whole(own[0].as_fd()), CloneFlags::NONE, None, never).unwrap_err();
        assert_eq!(error.call, Call::setns);
        let Some((sleeping, pidfd)) = sleeper(CloneFlags::NET) else { return };
        let user = namespace(sleeping, "user");
        let swapped = Door::Pair { user: user.as_fd(), net: user.as_fd() };
        let error = clone3_through(swapped, CloneFlags::NONE, None, never).unwrap_err();
        assert_eq!((error.call, error.errno), (Call::setns, Errno::EINVAL));
        clone::kill_by(&pidfd, libc::SIGKILL);
        end_of(sleeping);
    }
}
