//! What a process sets up in the namespaces it is in. Nothing here allocates.
#![expect(unsafe_code, reason = "unshare, sethostname and the interface ioctls are raw calls")]

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::clone::CloneFlags;
use super::errno::{Call, CallError, check};

/// The next child begins in a new time namespace, whose offsets can be set until then (time_namespaces(7)).
///
/// # Errors
/// EINVAL where the kernel has no time namespaces; EPERM without CAP_SYS_ADMIN in the user namespace.
pub fn unshare_time() -> Result<(), CallError> {
    unshare(CloneFlags::TIME)
}

/// Leaves the namespaces of these kinds for new ones (unshare(2)); of a pid or time namespace the next child is the first
/// inside.
///
/// # Errors
/// As unshare(2): EPERM without CAP_SYS_ADMIN in the user namespace, ENOSPC at a limit of `/proc/sys/user`.
pub fn unshare(kinds: CloneFlags) -> Result<(), CallError> {
    let kinds = kinds.bits() as libc::c_long;
    // SAFETY: takes an integer.
    check(Call::unshare, unsafe { libc::syscall(libc::SYS_unshare, kinds) }).map(drop)
}

/// Makes a cgroup namespace of the cgroup that the caller is in: that is its root from then on (cgroup_namespaces(7)).
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN in the user namespace; ENOSPC at the limit of such namespaces.
pub fn unshare_cgroup() -> Result<(), CallError> {
    unshare(CloneFlags::CGROUP)
}

/// Enters the namespace behind `namespace`, whatever its type (setns(2)). Entering a user namespace gives all capabilities
/// in it, and makes the process undumpable.
///
/// # Errors
/// EPERM when the caller's user namespace is not its parent's or an ancestor's; EINVAL for a user namespace from a
/// process with threads.
pub fn enter(namespace: BorrowedFd<'_>) -> Result<(), CallError> {
    // SAFETY: takes integers; the descriptor is open for the duration of the call.
    check(Call::setns, unsafe { libc::setns(namespace.as_raw_fd(), 0) }.into()).map(drop)
}

/// Sets host and domain name of the UTS namespace.
///
/// # Errors
/// As sethostname(2), setdomainname(2).
pub fn set_names(host: &CStr, domain: &CStr) -> Result<(), CallError> {
    // SAFETY: the pointer is valid for the length passed.
    check(Call::sethostname, unsafe { libc::sethostname(host.as_ptr(), host.count_bytes()) }.into())?;
    // SAFETY: the pointer is valid for the length passed.
    check(Call::setdomainname, unsafe { libc::setdomainname(domain.as_ptr(), domain.count_bytes()) }.into()).map(drop)
}

/// Brings `lo` up; the kernel then gives it 127.0.0.1/8 and ::1/128 (netdevice(7)). Where it is up already nothing is
/// asked for: a change of flags waits for a lock that all net namespaces share (rtnl_lock).
///
/// # Errors
/// As socket(2), ioctl(2).
pub fn loopback_up() -> Result<(), CallError> {
    // SAFETY: takes integers.
    let socket =
        check(Call::socket, unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) }.into())?;
    // SAFETY: a new descriptor of ours.
    let socket = unsafe { OwnedFd::from_raw_fd(socket as i32) };
    // SAFETY: ifreq is plain integers, for which zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *place = *byte as libc::c_char;
    }
    // SAFETY: the request is initialised and names an interface that every net namespace has.
    check(Call::ioctl, unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) }.into())?;
    // SAFETY: the kernel has just stored the flags there.
    let flags = libc::c_int::from(unsafe { request.ifr_ifru.ifru_flags });
    if flags & libc::IFF_UP != 0 {
        return Ok(());
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: as above.
    check(Call::ioctl, unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) }.into())
        .map(drop)
}

/// Which kind of namespace a descriptor refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// user_namespaces(7)
    User,
    /// network_namespaces(7)
    Net,
}

/// The identity of a namespace: the device and inode of its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity(u64, u64);

/// The identity of what `path`, a file of `/proc/PID/ns`, refers to.
///
/// # Errors
/// ENOENT when the process is gone, EACCES when it is closed to inspection.
pub fn identity_at(path: &std::path::Path) -> std::io::Result<Identity> {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path).map(|metadata| Identity(metadata.dev(), metadata.ino()))
}

/// The identity of the namespace behind `fd`.
///
/// # Errors
/// EBADE when `fd` is no such namespace; as fstatfs(2), ioctl_nsfs(2).
pub fn identity(fd: BorrowedFd<'_>, kind: Kind) -> Result<Identity, CallError> {
    const NSFS_MAGIC: i64 = 0x6e73_6673;
    let wrong = CallError::mismatch(Call::fstatfs);
    // Any other file may have other ioctls of these numbers.
    let system = rustix::fs::fstatfs(fd).map_err(|_| wrong)?;
    let wanted = match kind {
        Kind::User => libc::CLONE_NEWUSER,
        Kind::Net => libc::CLONE_NEWNET,
    };
    if system.f_type as i64 != NSFS_MAGIC || nsfs(fd, NS_GET_NSTYPE)? != wanted {
        return Err(wrong);
    }
    let status = rustix::fs::fstat(fd).map_err(|_| wrong)?;
    Ok(Identity(status.st_dev as u64, status.st_ino as u64))
}

const NS_GET_USERNS: libc::Ioctl = 0xb701;
const NS_GET_PARENT: libc::Ioctl = 0xb702;
const NS_GET_NSTYPE: libc::Ioctl = 0xb703;
const NS_GET_OWNER_UID: libc::Ioctl = 0xb704;

fn nsfs(fd: BorrowedFd<'_>, request: libc::Ioctl) -> Result<libc::c_int, CallError> {
    // SAFETY: the requests used here take no argument.
    let answer = check(Call::ioctl, unsafe { libc::ioctl(fd.as_raw_fd(), request) }.into())?;
    Ok(answer as libc::c_int)
}

/// The user namespace that owns the net namespace `net`.
///
/// # Errors
/// As ioctl_nsfs(2); EPERM when it is none of ours or below.
pub fn owner(net: BorrowedFd<'_>) -> Result<OwnedFd, CallError> {
    let fd = nsfs(net, NS_GET_USERNS)?;
    // SAFETY: a new descriptor of ours.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The user namespace above `user`.
///
/// # Errors
/// As ioctl_nsfs(2); EPERM when it is none of ours or below.
pub fn parent(user: BorrowedFd<'_>) -> Result<OwnedFd, CallError> {
    let fd = nsfs(user, NS_GET_PARENT)?;
    // SAFETY: a new descriptor of ours.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The user that made the user namespace `user`.
///
/// # Errors
/// As ioctl_nsfs(2).
pub fn owner_uid(user: BorrowedFd<'_>) -> Result<u32, CallError> {
    let mut uid: libc::uid_t = 0;
    // SAFETY: the request stores a user id at the place given.
    check(Call::ioctl, unsafe { libc::ioctl(user.as_raw_fd(), NS_GET_OWNER_UID, &raw mut uid) }.into())?;
    Ok(uid)
}
