//! What `/proc` tells of other processes (proc_pid_stat(5), namespaces(7)).
//!
//! A process id is only a number: its owner may be gone and another process may have it. A process is named by its id
//! and the time of its start together, and whoever uses an id asks for both.
#![expect(unsafe_code, reason = "sysconf, pidfd_open and the ioctls of nsfs have no wrapper")]

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;

use super::errno::{Call, CallError, check};

/// The kernel's names of the kinds of namespaces, as in `/proc/PID/ns`.
pub const KINDS: [&str; 8] = ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time"];

/// `PF_FORKNOEXEC`: the process has executed nothing since it was forked (`include/linux/sched.h`).
const FORKED_ONLY: u64 = 0x40;

/// One process at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Its parent's id; 0 when that is in no pid namespace of ours.
    pub parent: i32,
    /// When it began, in clock ticks since the machine did; with the id it names a process.
    pub start: u64,
    /// Whether it has executed a program since it was forked.
    pub executed: bool,
    /// Whether it is dead and not reaped yet.
    pub dead: bool,
    /// Its resident memory in bytes; what it shares with others is counted.
    pub resident: u64,
}

impl Process {
    /// The process with this id; `None` when there is none, or none that the caller may see.
    pub fn find(pid: i32) -> Option<Self> {
        Self::parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Every process that the caller may see.
    pub fn all() -> Vec<Self> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        entries.filter_map(|entry| Self::find(entry.file_name().to_str()?.parse().ok()?)).collect()
    }

    fn parse(stat: &[u8]) -> Option<Self> {
        // The second field, in parentheses, may hold anything; the third follows the last closing one.
        let name_end = stat.iter().rposition(|byte| *byte == b')')?;
        let pid_end = stat.iter().position(|byte| *byte == b' ')?;
        let fields: Vec<&str> = std::str::from_utf8(&stat[name_end + 1..]).ok()?.split_ascii_whitespace().collect();
        // Field N of the manual page, N from 3 on.
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        Some(Self {
            pid: std::str::from_utf8(&stat[..pid_end]).ok()?.parse().ok()?,
            parent: i32::try_from(number(4)?).ok()?,
            start: number(22)?,
            executed: number(9)? & FORKED_ONLY == 0,
            dead: matches!(*fields.first()?, "Z" | "X"),
            resident: number(24)? * page_size(),
        })
    }
}

fn page_size() -> u64 {
    // SAFETY: takes an integer.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// A descriptor of the process `pid`, which names it for good (pidfd_open(2)).
///
/// # Errors
/// ESRCH when there is none.
pub fn pidfd(pid: i32) -> Result<OwnedFd, CallError> {
    // SAFETY: takes integers.
    let fd = check(Call::pidfd_open, unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: a new descriptor of ours; the kernel makes it close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// The inode number of a namespace of the process `pid`, which identifies it; `kind` is one of [`KINDS`].
///
/// # Errors
/// EACCES when the caller may not look into the process (ptrace(2), "Ptrace access mode checking"); ENOENT when it is
/// gone, or the kernel lacks the kind.
pub fn namespace(pid: i32, kind: &str) -> io::Result<u64> {
    link_inode(&format!("/proc/{pid}/ns/{kind}"))
}

/// The same for the calling process.
///
/// # Errors
/// ENOENT when the kernel lacks the kind, or there is no `/proc`.
pub fn own_namespace(kind: &str) -> io::Result<u64> {
    link_inode(&format!("/proc/self/ns/{kind}"))
}

fn link_inode(path: &str) -> io::Result<u64> {
    Ok(fs::metadata(path)?.ino())
}

/// The user whose the namespace is: of a user namespace the one who made it, of any other the one who made the user
/// namespace that it belongs to. `None` when the caller may not know (ioctl_nsfs(2)).
pub fn namespace_owner(pid: i32, kind: &str) -> Option<u32> {
    let namespace = File::open(format!("/proc/{pid}/ns/{kind}")).ok()?;
    if kind == "user" {
        return owner(&namespace);
    }
    let request = nix::request_code_none!(0xb7, 1);
    // SAFETY: NS_GET_USERNS takes no argument and gives a new descriptor.
    let fd = check(Call::ioctl, unsafe { libc::ioctl(namespace.as_raw_fd(), request) }.into()).ok()?;
    // SAFETY: a new descriptor of ours.
    owner(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

fn owner(user_namespace: impl AsFd) -> Option<u32> {
    let mut owner: libc::uid_t = 0;
    let request = nix::request_code_none!(0xb7, 4);
    // SAFETY: NS_GET_OWNER_UID writes one user id.
    let result = unsafe { libc::ioctl(user_namespace.as_fd().as_raw_fd(), request, &raw mut owner) };
    check(Call::ioctl, result.into()).ok().map(|_| owner)
}

/// The random id of this boot of the machine (random(4)); `None` without `/proc`.
pub fn boot_id() -> Option<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim_end().to_owned()).filter(|id| !id.is_empty())
}

/// The effective group of the process `pid`, by its id out here; `None` when there is no such process.
pub fn group(pid: i32) -> Option<u32> {
    // The name of the process, in another line, may be no text.
    let status = fs::read(format!("/proc/{pid}/status")).ok()?;
    let line = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"Gid:"))?;
    // Real, effective, saved, for the file system.
    std::str::from_utf8(line).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The environment that the process `pid` was started with, as far as it is text: names and values.
///
/// # Errors
/// EACCES when the caller may not look into the process.
pub fn environment(pid: i32) -> io::Result<Vec<(String, String)>> {
    let bytes = fs::read(format!("/proc/{pid}/environ"))?;
    let texts = bytes.split(|byte| *byte == 0).filter_map(|entry| std::str::from_utf8(entry).ok()?.split_once('='));
    Ok(texts.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_hides_no_field() {
        let rest = "S 7 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 987 1000 3 184 1 1 0";
        for name in ["sh", "a) Z 1 (b", "\u{fffd} ) "] {
            let process = Process::parse(format!("42 ({name}) {rest}\n").as_bytes()).unwrap();
            assert_eq!((process.pid, process.parent, process.start), (42, 7, 987), "{name}");
            assert_eq!((process.executed, process.dead), (true, false));
            assert_eq!(process.resident, 3 * page_size());
        }
        let mut odd = b"42 (\xff) ".to_vec();
        odd.extend(rest.as_bytes());
        assert_eq!(Process::parse(&odd).unwrap().pid, 42);
        assert_eq!(Process::parse(b"42 (x"), None);
        assert_eq!(Process::parse(b""), None);
    }

    #[test]
    fn we_find_ourselves_and_our_namespaces() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let own = Process::find(pid).unwrap();
        assert!(own.executed && !own.dead && own.resident > 0 && own.parent > 0);
        assert!(Process::all().iter().any(|process| (process.pid, process.start) == (pid, own.start)));
        for kind in KINDS {
            assert_eq!(namespace(pid, kind).unwrap(), own_namespace(kind).unwrap(), "{kind}");
        }
        // The initial user namespace is root's; we are in it or below it, so its owner is known or hidden.
        assert!(namespace_owner(pid, "user").is_none_or(|owner| owner < u32::MAX));
        assert!(environment(pid).unwrap().iter().any(|(name, _)| name == "PATH"));
        assert!(pidfd(pid).is_ok());
        assert_eq!(group(pid), Some(crate::sys::process::caller_ids().2));
        assert!(Process::find(i32::MAX).is_none());
    }
}
