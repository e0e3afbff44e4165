//! What a process sets up in the namespaces it is in. Nothing here allocates.
#![expect(unsafe_code, reason = "unshare, sethostname and the interface ioctls are raw calls")]

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::errno::{Call, CallError, check};

/// The next child begins in a new time namespace, whose offsets can be set until then (time_namespaces(7)).
///
/// # Errors
/// EINVAL where the kernel has no time namespaces; EPERM without CAP_SYS_ADMIN in the user namespace.
pub fn unshare_time() -> Result<(), CallError> {
    // SAFETY: takes an integer.
    check(Call::unshare, unsafe { libc::syscall(libc::SYS_unshare, libc::CLONE_NEWTIME) }).map(drop)
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

/// Brings `lo` up; the kernel then gives it 127.0.0.1/8 and ::1/128 (netdevice(7)).
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
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request is initialised and names an interface that every net namespace has.
    check(Call::ioctl, unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) }.into())
        .map(drop)
}
