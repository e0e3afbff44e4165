//! Sockets between processes of one machine, at a name in a directory that is held open (unix(7)); every one close-on-exec,
//! non-blocking, and with whole messages (SOCK_SEQPACKET).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::sys::socket::{getsockopt, sockopt};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// Opens the directory at `path`, as a place for other names. A symbolic link at its end is followed.
///
/// # Errors
/// As open(2).
pub fn open_directory(path: &Path) -> io::Result<File> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

/// Opens the directory `name` in `dir`, never through a symbolic link.
///
/// # Errors
/// As openat(2); ENOTDIR where something else stands, a link too.
pub fn open_directory_in(dir: &File, name: &str) -> io::Result<File> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::openat(dir, name, flags, Mode::empty())?))
}

/// Makes the directory `name` in `dir`, for its owner alone; one that is there stays.
///
/// # Errors
/// As mkdirat(2), but EEXIST.
pub fn make_directory_in(dir: &File, name: &str) -> io::Result<()> {
    match rustix::fs::mkdirat(dir, name, Mode::RWXU) {
        Err(error) if error != Errno::EXIST => Err(error.into()),
        _ => Ok(()),
    }
}

/// Opens the file `name` in `dir` for locking; makes it, for its owner alone, when there is none. No link is followed.
///
/// # Errors
/// As openat(2).
pub fn open_lock_in(dir: &File, name: &str) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR)?))
}

/// Removes the name `name` of something that is no directory.
///
/// # Errors
/// As unlinkat(2), but ENOENT.
pub fn remove_in(dir: &File, name: &str) -> io::Result<()> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Err(error) if error != Errno::NOENT => Err(error.into()),
        _ => Ok(()),
    }
}

/// The name of `name` in `dir` that is short enough for a socket address, which has room for 107 bytes, and that leads
/// into this very directory.
fn address(dir: &File, name: &str) -> io::Result<SocketAddrUnix> {
    let path: PathBuf = format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()).into();
    Ok(SocketAddrUnix::new(path)?)
}

fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// A socket that listens at `name` in `dir`, which its owner alone may connect to; nothing may stand there.
///
/// # Errors
/// As bind(2), listen(2).
pub fn listen_in(dir: &File, name: &str) -> io::Result<OwnedFd> {
    let socket = socket()?;
    // The mode of the name is the process's mask's; there is no other way to have it right from the beginning.
    let before = rustix::process::umask(Mode::RWXG | Mode::RWXO);
    let bound = address(dir, name).and_then(|address| Ok(rustix::net::bind(&socket, &address)?));
    rustix::process::umask(before);
    bound?;
    relisten(&socket)?;
    Ok(socket)
}

/// Begins to listen, or listens on under the credentials of this process: those are what a client is told.
///
/// # Errors
/// As listen(2).
pub fn relisten(socket: &OwnedFd) -> io::Result<()> {
    const BACKLOG: i32 = 128;
    Ok(rustix::net::listen(socket, BACKLOG)?)
}

/// Whether `socket` is a listening one of this kind; it is made close-on-exec and non-blocking.
pub fn adopt(socket: &OwnedFd) -> bool {
    let adopted = || -> io::Result<bool> {
        if rustix::net::sockopt::socket_domain(socket)? != AddressFamily::UNIX
            || rustix::net::sockopt::socket_type(socket)? != SocketType::SEQPACKET
            || !rustix::net::sockopt::socket_acceptconn(socket)?
        {
            return Ok(false);
        }
        rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::CLOEXEC)?;
        super::stream::set_nonblocking(socket)?;
        Ok(true)
    };
    adopted().unwrap_or(false)
}

/// A connection to what listens at `name` in `dir`, without waiting for it to be accepted.
///
/// # Errors
/// As connect(2): ENOENT, ECONNREFUSED where nobody listens, EAGAIN where too many wait.
pub fn connect_in(dir: &File, name: &str) -> io::Result<OwnedFd> {
    let socket = socket()?;
    rustix::net::connect(&socket, &address(dir, name)?)?;
    Ok(socket)
}

/// The next connection that waits; `None` when there is none.
///
/// # Errors
/// As accept(2): EMFILE, ENFILE, ENOMEM.
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
    match rustix::net::accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
        Ok(socket) => Ok(Some(socket)),
        // The kernel hands on errors of connections that are gone already (accept(2)).
        Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Who is at the other end: process and effective user, as they were when it connected or began to listen. The process is
/// 0 when it can't be named here.
///
/// # Errors
/// As getsockopt(2).
pub fn peer(socket: impl AsFd) -> io::Result<(i32, u32)> {
    let credentials = getsockopt(&socket.as_fd(), sockopt::PeerCredentials)?;
    Ok((credentials.pid(), credentials.uid()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fdpass;

    #[test]
    fn a_long_path_is_no_hindrance() {
        let base = tempfile::tempdir().unwrap();
        let deep = base.path().join("d".repeat(120)).join("e".repeat(120));
        std::fs::create_dir_all(&deep).unwrap();
        let dir = open_directory(&deep).unwrap();
        make_directory_in(&dir, "own").unwrap();
        make_directory_in(&dir, "own").unwrap();
        let own = open_directory_in(&dir, "own").unwrap();
        assert_eq!(connect_in(&own, "s").unwrap_err().raw_os_error(), Some(libc::ENOENT));
        let listener = listen_in(&own, "s").unwrap();
        assert!(adopt(&listener));
        assert!(accept(listener.as_fd()).unwrap().is_none());
        let client = connect_in(&own, "s").unwrap();
        let served = accept(listener.as_fd()).unwrap().unwrap();
        let uid = crate::sys::files::effective_uid();
        assert_eq!(peer(&client).unwrap(), (std::process::id() as i32, uid));
        assert_eq!(peer(&served).unwrap(), (std::process::id() as i32, uid));
        fdpass::send(client.as_fd(), b"x", &[]).unwrap();
        assert_eq!(fdpass::receive(served.as_fd(), &mut [0; 4]).unwrap().unwrap().length, 1);
        assert!(!adopt(&client));
        drop(listener);
        assert_eq!(connect_in(&own, "s").unwrap_err().raw_os_error(), Some(libc::ECONNREFUSED));
        remove_in(&own, "s").unwrap();
        remove_in(&own, "s").unwrap();
    }

    #[test]
    fn no_link_is_followed() {
        let base = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/tmp", base.path().join("link")).unwrap();
        let dir = open_directory(base.path()).unwrap();
        assert_eq!(open_directory_in(&dir, "link").unwrap_err().raw_os_error(), Some(libc::ENOTDIR));
        assert_eq!(open_lock_in(&dir, "link").unwrap_err().raw_os_error(), Some(libc::ELOOP));
    }
}
