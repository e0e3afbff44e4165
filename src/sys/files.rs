//! Regular files, links and whiteouts: opening beneath a directory, cloning, times.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

pub use rustix::fs::CWD;
use rustix::fs::{AtFlags, Dev, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps};
use rustix::io::Errno;

/// The caller's effective user id.
pub fn effective_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// What stat(2) says of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// What it is.
    pub kind: Kind,
    /// The permission bits, setuid, setgid and sticky among them.
    pub mode: u32,
    /// The device that it is on.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
    /// Its length in bytes.
    pub size: u64,
    /// When its content was changed: seconds since the epoch, and nanoseconds.
    pub mtime: (i64, i64),
    /// When its inode was changed: seconds since the epoch, and nanoseconds.
    pub ctime: (i64, i64),
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A FIFO.
    Fifo,
    /// A socket.
    Socket,
    /// A block or character device.
    Device,
    /// Something that no kernel has yet.
    Other,
}

impl From<rustix::fs::Stat> for Status {
    #[expect(clippy::unnecessary_cast, reason = "the fields have other types on other machines")]
    fn from(stat: rustix::fs::Stat) -> Self {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::Regular,
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Symlink,
            FileType::Fifo => Kind::Fifo,
            FileType::Socket => Kind::Socket,
            FileType::BlockDevice | FileType::CharacterDevice => Kind::Device,
            FileType::Unknown => Kind::Other,
        };
        Self {
            kind,
            mode: stat.st_mode & 0o7777,
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            size: stat.st_size.cast_unsigned(),
            mtime: (stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            ctime: (stat.st_ctime as i64, stat.st_ctime_nsec as i64),
        }
    }
}

/// What stands at `name` in the directory `dir`, a symbolic link itself included.
///
/// # Errors
/// Those of fstatat(2).
pub fn status_at(dir: impl AsFd, name: &OsStr) -> io::Result<Status> {
    Ok(rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?.into())
}

/// What `file` is now.
///
/// # Errors
/// Those of fstat(2).
pub fn status(file: &File) -> io::Result<Status> {
    Ok(rustix::fs::fstat(file)?.into())
}

/// Opens the regular file or directory at `path` below `root` for reading, following no symbolic link on the way.
///
/// `RESOLVE_BENEATH` and `RESOLVE_NO_SYMLINKS` make the kernel refuse every path that leaves `root`, whatever another
/// process renames meanwhile (openat2(2)). `O_NONBLOCK` keeps a FIFO that took the file's place from blocking us.
///
/// # Errors
/// `ELOOP` when a component is a symbolic link, `EXDEV` when the path leaves `root`, `ENOSYS` before Linux 5.6.
pub fn open_beneath(root: impl AsFd, path: &OsStr) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    // EAGAIN: a rename elsewhere made the kernel unable to tell whether `..` stayed beneath (openat2(2)).
    for _ in 0..16 {
        match rustix::fs::openat2(&root, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return Ok(File::from(other?)),
        }
    }
    Err(Errno::AGAIN.into())
}

/// Opens the directory at `path`, which may be relative to `dir`, as a place to look up other paths from; that needs no
/// permission to read it.
///
/// # Errors
/// Those of openat(2).
pub fn open_place(dir: impl AsFd, path: &Path) -> io::Result<File> {
    Ok(File::from(rustix::fs::openat(dir, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?))
}

/// Opens the file at `path` for reading; `None` when nothing or a symbolic link stands there. A FIFO does not block.
///
/// # Errors
/// Those of open(2) that remain.
pub fn open_no_follow(path: &Path) -> io::Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::NOFOLLOW;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        opened => Ok(Some(File::from(opened?))),
    }
}

/// Makes `to` share the whole content of `from` (`FICLONE`).
///
/// # Errors
/// `EOPNOTSUPP`, `EXDEV` and others where the file systems can't; `to` is unchanged then.
pub fn clone_content(from: &File, to: &File) -> io::Result<()> {
    Ok(rustix::fs::ioctl_ficlone(to, from)?)
}

/// Sets the access and modification time of what stands at `path`, a symbolic link itself included.
///
/// # Errors
/// Those of utimensat(2).
pub fn set_times_at(path: &Path, seconds: i64) -> io::Result<()> {
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Makes an overlayfs whiteout: a character device 0:0, which ordinary users may make since Linux 5.8
/// (commit a3c751a50fe6, "vfs: allow unprivileged whiteout creation").
///
/// # Errors
/// `EPERM` on older kernels, and where the file system has no devices.
pub fn make_whiteout(path: &Path) -> io::Result<()> {
    const WHITEOUT: Dev = 0;
    Ok(rustix::fs::mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), WHITEOUT)?)
}
