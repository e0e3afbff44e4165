//! What a process does to itself on its way into the sandbox. Nothing here allocates.
#![expect(unsafe_code, reason = "prctl, capset, keyctl and friends have no wrapper that is free of allocation")]

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::errno::{Call, CallError, Errno, check};

/// An argument that a call does not use. Where any type may stand, an `int` leaves half of the register undefined, and
/// the kernel looks at all of it.
pub(super) const UNUSED: libc::c_ulong = 0;

fn prctl(option: i32, argument: libc::c_ulong) -> Result<libc::c_long, CallError> {
    // SAFETY: the options used here take one integer and ignore (or demand zero for) the rest.
    check(Call::prctl, unsafe { libc::prctl(option, argument, UNUSED, UNUSED, UNUSED) }.into())
}

/// Asks for SIGKILL when the thread that made this process ends (PR_SET_PDEATHSIG(2const)).
///
/// # Errors
/// As prctl(2).
pub fn die_with_parent() -> Result<(), CallError> {
    prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong).map(drop)
}

/// What this process's descendants orphan becomes its child (PR_SET_CHILD_SUBREAPER(2const)).
///
/// # Errors
/// As prctl(2).
pub fn adopt_orphans() -> Result<(), CallError> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, 1).map(drop)
}

/// Closes `/proc/PID` of this process to everybody without privilege over its memory's owner: no ptrace, no `environ`,
/// no `fd`, no `exe`.
///
/// # Errors
/// As prctl(2).
pub fn undumpable() -> Result<(), CallError> {
    prctl(libc::PR_SET_DUMPABLE, 0)?;
    if prctl(libc::PR_GET_DUMPABLE, 0)? == 0 { Ok(()) } else { Err(CallError::mismatch(Call::prctl)) }
}

/// The memory that holds this process's arguments, as the kernel shows it in `/proc/PID/cmdline`.
#[derive(Debug, Clone, Copy)]
pub struct ArgumentArea {
    start: usize,
    length: usize,
}

impl ArgumentArea {
    /// Finds it in the process's own `/proc/self/stat` (fields 48 and 49, proc_pid_stat(5)); `None` when the kernel does
    /// not say, or says what can't be the stack's.
    pub fn find() -> Option<Self> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        // The second field, in parentheses, may hold anything; the third follows the last closing one.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(45);
        let start: usize = fields.next()?.parse().ok()?;
        let end: usize = fields.next()?.parse().ok()?;
        (start != 0 && start < end).then_some(Self { start, length: end - start })
    }

    /// Overwrites it with `name` and zeroes: what was typed on the caller's command line, with its paths, is not for
    /// those inside to read.
    ///
    /// For a child that is about to become PID 1 of a sandbox and never looks at its arguments again.
    pub fn overwrite(self, name: &[u8]) {
        let shown = name.len().min(self.length - 1);
        // SAFETY: the kernel named this range as the place of the argument strings, which execve put on the stack,
        // writable, for the life of the process; nobody in this child reads them any more.
        unsafe {
            let area = self.start as *mut u8;
            area.write_bytes(0, self.length);
            area.copy_from_nonoverlapping(name.as_ptr(), shown);
        }
    }
}

/// Sets the process's name, as `ps` shows it (PR_SET_NAME(2const)).
///
/// # Errors
/// As prctl(2).
pub fn set_name(name: &CStr) -> Result<(), CallError> {
    // SAFETY: a valid C string; the kernel copies at most 16 bytes of it.
    check(Call::prctl, unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), UNUSED, UNUSED, UNUSED) }.into())
        .map(drop)
}

/// exec(2) never again gives privilege.
///
/// # Errors
/// As prctl(2).
pub fn no_new_privileges() -> Result<(), CallError> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1)?;
    if prctl(libc::PR_GET_NO_NEW_PRIVS, 0)? == 1 { Ok(()) } else { Err(CallError::mismatch(Call::prctl)) }
}

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapabilityData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// `_LINUX_CAPABILITY_VERSION_3`: two 32-bit halves.
const CAPABILITY_VERSION: u32 = 0x2008_0522;

/// Empties all five capability sets for good (capabilities(7)): bounding and ambient first, they need privilege.
///
/// # Errors
/// As prctl(2), capset(2); EBADE when a set is not empty afterwards.
pub fn drop_capabilities() -> Result<(), CallError> {
    for capability in 0..64 {
        match prctl(libc::PR_CAPBSET_DROP, capability) {
            Ok(_) => {}
            // The kernel knows no capability of this number, nor of a higher one.
            Err(error) if error.errno == Errno::EINVAL => break,
            Err(error) => return Err(error),
        }
    }
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong)?;
    let mut header = CapabilityHeader { version: CAPABILITY_VERSION, pid: 0 };
    let empty = [CapabilityData::default(); 2];
    // SAFETY: header and data have the kernel's layout for version 3, two data elements.
    check(Call::capset, unsafe { libc::syscall(libc::SYS_capset, &raw mut header, empty.as_ptr()) })?;
    let mut now = [CapabilityData { effective: 1, permitted: 1, inheritable: 1 }; 2];
    // SAFETY: as above; the kernel fills the two elements.
    check(Call::capset, unsafe { libc::syscall(libc::SYS_capget, &raw mut header, now.as_mut_ptr()) })?;
    if now.iter().all(|half| half.effective | half.permitted | half.inheritable == 0)
        && prctl(libc::PR_CAPBSET_READ, 0)? == 0
    {
        Ok(())
    } else {
        Err(CallError::mismatch(Call::capset))
    }
}

/// A session keyring of its own, so that no key of the caller's is in reach (keyrings(7)).
///
/// A kernel without keyrings (ENOSYS) has nothing to hide.
///
/// # Errors
/// As keyctl(2).
pub fn own_keyring() -> Result<(), CallError> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: a null name asks for an anonymous keyring.
    match check(Call::keyctl, unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, UNUSED) }) {
        Err(error) if error.errno != Errno::ENOSYS => Err(error),
        _ => Ok(()),
    }
}

/// Leaves the calling thread's time to all others: the lowest priority there is.
pub fn yield_to_all() {
    // SAFETY: takes integers. It can't fail for a raise of the caller's own value.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) };
}

/// Leaves the caller's session, terminal, standard streams and directory: what a process does that stays.
///
/// # Errors
/// As setsid(2), open(2), dup2(2), chdir(2).
pub fn leave_caller() -> Result<(), CallError> {
    new_session()?;
    // SAFETY: a C string and an integer.
    let null = check(Call::open, unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) }.into())?;
    // SAFETY: a new descriptor of ours.
    let null = unsafe { OwnedFd::from_raw_fd(null as i32) };
    for stream in 0..3 {
        // SAFETY: both are integers; the standard streams are from now on this.
        check(Call::dup2, unsafe { libc::dup2(null.as_raw_fd(), stream) }.into())?;
    }
    // SAFETY: a C string.
    check(Call::chdir, unsafe { libc::chdir(c"/".as_ptr()) }.into()).map(drop)
}

/// umask(2)
pub fn set_umask(mask: u32) {
    // SAFETY: takes an integer, can't fail.
    unsafe { libc::umask(mask) };
}

/// setsid(2): a session without a controlling terminal.
///
/// # Errors
/// EPERM when the process leads a group already.
pub fn new_session() -> Result<(), CallError> {
    // SAFETY: no arguments.
    check(Call::setsid, unsafe { libc::setsid() }.into()).map(drop)
}

/// Programs that this process executes are laid out at fixed addresses (personality(2)).
///
/// # Errors
/// As personality(2); EBADE when a filter pretends.
pub fn fixed_addresses() -> Result<(), CallError> {
    const READ: libc::c_ulong = 0xffff_ffff;
    let wanted = libc::ADDR_NO_RANDOMIZE as libc::c_ulong;
    // SAFETY: takes an integer.
    check(Call::personality, unsafe { libc::personality(wanted) }.into())?;
    // SAFETY: as above; this value only reads.
    let now = check(Call::personality, unsafe { libc::personality(READ) }.into())?;
    if now as libc::c_ulong == wanted { Ok(()) } else { Err(CallError::mismatch(Call::personality)) }
}

/// A resource with a limit (getrlimit(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// `RLIMIT_NOFILE`
    OpenFiles,
    /// `RLIMIT_CORE`
    CoreSize,
    /// `RLIMIT_STACK`
    Stack,
    /// `RLIMIT_FSIZE`
    FileSize,
    /// `RLIMIT_CPU`
    CpuTime,
    /// `RLIMIT_AS`
    AddressSpace,
    /// `RLIMIT_DATA`
    DataSize,
}

impl Resource {
    fn number(self) -> libc::__rlimit_resource_t {
        match self {
            Self::FileSize => libc::RLIMIT_FSIZE,
            Self::CpuTime => libc::RLIMIT_CPU,
            Self::AddressSpace => libc::RLIMIT_AS,
            Self::DataSize => libc::RLIMIT_DATA,
            Self::OpenFiles => libc::RLIMIT_NOFILE,
            Self::CoreSize => libc::RLIMIT_CORE,
            Self::Stack => libc::RLIMIT_STACK,
        }
    }
}

/// getrlimit(2): soft and hard.
///
/// # Errors
/// As getrlimit(2).
pub fn limit(resource: Resource) -> Result<(u64, u64), CallError> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a valid place for the result.
    check(Call::setrlimit, unsafe { libc::getrlimit(resource.number(), &raw mut limit) }.into())?;
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// setrlimit(2)
///
/// # Errors
/// EPERM when `hard` is above the caller's.
pub fn set_limit(resource: Resource, soft: u64, hard: u64) -> Result<(), CallError> {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: a valid structure.
    check(Call::setrlimit, unsafe { libc::setrlimit(resource.number(), &raw const limit) }.into()).map(drop)
}

/// Every signal at its default action and none blocked, whatever the caller's caller left behind.
///
/// # Errors
/// As sigprocmask(2).
pub fn default_signals() -> Result<(), CallError> {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL is a valid action; the two signals that can't be changed (and libc's own) just say so.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: an all-zero set is empty; sigprocmask only reads it.
    check(
        Call::sigprocmask,
        unsafe {
            let empty: libc::sigset_t = std::mem::zeroed();
            libc::sigprocmask(libc::SIG_SETMASK, &raw const empty, std::ptr::null_mut())
        }
        .into(),
    )
    .map(drop)
}

/// Puts `from` at the number `to` (0 to 2), without close-on-exec.
///
/// # Errors
/// As dup2(2).
pub fn place(from: BorrowedFd<'_>, to: i32) -> Result<(), CallError> {
    // SAFETY: `from` is open; `to` is one of the standard streams, which belong to nobody in a process about to exec.
    check(Call::dup2, unsafe { libc::dup2(from.as_raw_fd(), to) }.into())?;
    if from.as_raw_fd() == to {
        // dup2 onto itself leaves the flag as it is.
        // SAFETY: an open descriptor and an integer.
        check(Call::dup2, unsafe { libc::fcntl(to, libc::F_SETFD, 0) }.into())?;
    }
    Ok(())
}

/// Closes every descriptor from `first` on, except `keep`, whoever opened it: for a process that owns none of them.
///
/// # Errors
/// ENOSYS before Linux 5.9.
pub fn close_from(first: u32, keep: Option<BorrowedFd<'_>>) -> Result<(), CallError> {
    let close = |low: u32, high: u32| {
        if low > high {
            return Ok(());
        }
        // SAFETY: the callers own no descriptor in the range afterwards: PID 1 goes on to a loop that uses `keep` alone,
        // the pool has opened nothing yet, and a janitor drops nothing of its maker's.
        check(Call::close_range, unsafe { libc::syscall(libc::SYS_close_range, low, high, 0) }).map(drop)
    };
    match keep {
        None => close(first, u32::MAX),
        Some(fd) => {
            let fd = fd.as_raw_fd() as u32;
            if fd > first {
                close(first, fd - 1)?;
            }
            close(first.max(fd + 1), u32::MAX)
        }
    }
}

/// Closes a copy of a descriptor, in a child that never returns to where the descriptor has its owner.
pub fn close_copy(fd: BorrowedFd<'_>) {
    // SAFETY: the owner is in the parent; its copy of the memory here is never used again, so it closes nothing later.
    unsafe { libc::close(fd.as_raw_fd()) };
}

/// Marks every descriptor from `first` on close-on-exec.
///
/// # Errors
/// EINVAL before Linux 5.11.
pub fn cloexec_from(first: u32) -> Result<(), CallError> {
    // SAFETY: only flags change.
    check(Call::close_range, unsafe {
        libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC)
    })
    .map(drop)
}

/// A null-terminated array of C strings for [`execute`], borrowed from its strings.
#[derive(Debug)]
pub struct StringArray {
    strings: Vec<std::ffi::CString>,
    pointers: Vec<*const libc::c_char>,
}

impl StringArray {
    /// Takes the strings over.
    pub fn new(strings: Vec<std::ffi::CString>) -> Self {
        let mut pointers: Vec<_> = strings.iter().map(|string| string.as_ptr()).collect();
        pointers.push(std::ptr::null());
        Self { strings, pointers }
    }

    /// How many strings there are.
    pub fn len(&self) -> usize {
        self.strings.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.strings.is_empty()
    }
}

/// execve(2); returns only on failure.
pub fn execute(path: &CStr, arguments: &StringArray, environment: &StringArray) -> CallError {
    // SAFETY: the path is a C string; both arrays end with a null pointer and point into strings they own.
    unsafe { libc::execve(path.as_ptr(), arguments.pointers.as_ptr(), environment.pointers.as_ptr()) };
    CallError::last(Call::execve)
}

/// The clocks that a time namespace can shift (clock_gettime(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// CLOCK_MONOTONIC
    Monotonic,
    /// CLOCK_BOOTTIME
    Boot,
}

/// A clock's value as one number of nanoseconds; none is below zero.
pub fn nanoseconds((seconds, nanoseconds): (i64, i64)) -> u64 {
    seconds.unsigned_abs() * 1_000_000_000 + nanoseconds.unsigned_abs()
}

/// The clock's value: seconds and nanoseconds.
pub fn clock(clock: Clock) -> (i64, i64) {
    let number = match clock {
        Clock::Monotonic => libc::CLOCK_MONOTONIC,
        Clock::Boot => libc::CLOCK_BOOTTIME,
    };
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid place for the result; both clocks exist on every kernel that has time namespaces.
    unsafe { libc::clock_gettime(number, &raw mut time) };
    (time.tv_sec, time.tv_nsec)
}

/// The caller's ids: real uid, effective uid, effective gid.
pub fn caller_ids() -> (u32, u32, u32) {
    // SAFETY: no arguments, can't fail.
    unsafe { (libc::getuid(), libc::geteuid(), libc::getegid()) }
}

/// Gives up the supplementary groups, where the caller may (root); others keep theirs, the kernel allows no less
/// (user_namespaces(7)).
///
/// # Errors
/// As setgroups(2), except EPERM.
pub fn drop_groups() -> Result<(), CallError> {
    // SAFETY: a null pointer with length 0 is an empty list.
    match check(Call::setgroups, unsafe { libc::setgroups(0, std::ptr::null()) }.into()) {
        Err(error) if error.errno != Errno::EPERM => Err(error),
        _ => Ok(()),
    }
}

/// A descriptor of this process's number `fd`, which must be open and belong to nobody else.
///
/// # Errors
/// EBADF when it is not open.
pub fn take(fd: i32) -> Result<OwnedFd, CallError> {
    // SAFETY: only reads flags.
    check(Call::dup2, unsafe { libc::fcntl(fd, libc::F_GETFD) }.into())?;
    // SAFETY: it is open (just checked), and the caller says that it is nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Raises this process's soft limit of open files to its hard one; how many there may be then.
pub fn raise_open_files() -> usize {
    let Ok((soft, hard)) = limit(Resource::OpenFiles) else { return 1024 };
    let raised = soft < hard && set_limit(Resource::OpenFiles, hard, hard).is_ok();
    usize::try_from(if raised { hard } else { soft }).unwrap_or(usize::MAX)
}

/// A pipe: its read end and its write end, close-on-exec.
///
/// # Errors
/// As pipe2(2).
pub fn pipe() -> Result<(OwnedFd, OwnedFd), CallError> {
    let mut ends = [-1; 2];
    // SAFETY: a valid place for two descriptors.
    check(Call::pipe2, unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) }.into())?;
    // SAFETY: two new descriptors of ours.
    Ok(unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
}

/// Reads one byte; `None` at the end.
///
/// # Errors
/// As read(2).
pub fn read_byte(from: BorrowedFd<'_>) -> Result<Option<u8>, CallError> {
    let mut byte = 0_u8;
    loop {
        // SAFETY: a valid place for one byte.
        let got = unsafe { libc::read(from.as_raw_fd(), (&raw mut byte).cast(), 1) };
        match check(Call::read, got as libc::c_long) {
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(Some(byte)),
            Err(error) if error.errno == Errno::EINTR => {}
            Err(error) => return Err(error),
        }
    }
}
