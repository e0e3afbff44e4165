//! Directory trees by descriptor: nothing followed, nothing outside reached.
//!
//! Trees that a command made are hostile: any component may be a symbolic link, any directory may be closed to its own
//! owner, and a tree may be deeper than `PATH_MAX` or than a stack is long. Lookups here go through openat2(2), which
//! refuses in the kernel what leaves the starting directory, passes a link, or crosses a mount.

mod remove;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;

pub use remove::{RemoveError, remove_tree};

/// How long a path can be, in bytes: `PATH_MAX` less its NUL. A deeper one can be made, step by step, but not opened.
pub const LONGEST_PATH: usize = 4095;

/// What stands at a path, itself and not what it may point to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A FIFO.
    Fifo,
    /// A Unix socket.
    Socket,
    /// A character device; overlayfs marks a deleted name with one of the number 0:0.
    CharacterDevice {
        /// Major and minor number are both 0.
        whiteout: bool,
    },
    /// A block device.
    BlockDevice,
}

/// What is known about a path without opening it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// What it is.
    pub kind: Kind,
    /// Permission bits, setuid, setgid and sticky included.
    pub mode: u32,
    /// Length in bytes.
    pub size: u64,
    /// Inode number.
    pub inode: u64,
}

impl Status {
    /// Whether the owner may execute it.
    pub fn is_executable(&self) -> bool {
        self.mode & 0o100 != 0
    }
}

impl From<rustix::fs::Stat> for Status {
    fn from(stat: rustix::fs::Stat) -> Self {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Symlink,
            FileType::Fifo => Kind::Fifo,
            FileType::Socket => Kind::Socket,
            FileType::CharacterDevice => Kind::CharacterDevice { whiteout: stat.st_rdev == 0 },
            FileType::BlockDevice => Kind::BlockDevice,
            FileType::RegularFile | FileType::Unknown => Kind::File,
        };
        Self { kind, mode: stat.st_mode & 0o7777, size: u64::try_from(stat.st_size).unwrap_or(0), inode: stat.st_ino }
    }
}

const WITHIN: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

fn open(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    // EAGAIN: a rename somewhere on the machine kept the kernel from telling whether the walk stayed beneath.
    for _ in 0..64 {
        match rustix::fs::openat2(root, path, flags, Mode::empty(), WITHIN) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
    Err(Errno::AGAIN.into())
}

/// Adds `mode` to what `path` allows its owner (us).
fn unlock(root: BorrowedFd<'_>, path: &Path, mode: Mode) -> io::Result<()> {
    let held = open(root, path, OFlags::PATH)?;
    let status = rustix::fs::fstat(&held)?;
    if FileType::from_raw_mode(status.st_mode) == FileType::Symlink {
        return Err(Errno::LOOP.into());
    }
    // By /proc, chmod reaches the very inode that is held; no other call does for an O_PATH descriptor before
    // fchmodat2 (Linux 6.6).
    let magic = format!("/proc/self/fd/{}", held.as_raw_fd());
    Ok(rustix::fs::chmodat(CWD, magic, Mode::from_raw_mode(status.st_mode) | mode, AtFlags::empty())?)
}

/// Opens the directory at `path` (empty: `root` itself) for listing.
///
/// # Errors
/// `ELOOP` for a symbolic link on the way, `EXDEV` for a mount, `ENOTDIR`, `ENOENT`.
pub fn open_directory(root: impl AsFd, path: impl AsRef<Path>) -> io::Result<OwnedFd> {
    open(root.as_fd(), path.as_ref(), OFlags::RDONLY | OFlags::DIRECTORY)
}

/// Holds the directory at `path` (empty: `root` itself) to work with the names in it, which needs no right to list it.
///
/// # Errors
/// As [`open_directory`].
pub fn hold_directory(root: impl AsFd, path: impl AsRef<Path>) -> io::Result<OwnedFd> {
    open(root.as_fd(), path.as_ref(), OFlags::PATH | OFlags::DIRECTORY)
}

/// Opens the directory at `path` in a tree that is to be read or removed whatever its modes: its owner gets all rights
/// to it first.
///
/// # Errors
/// As [`open_directory`].
pub fn open_hostile_directory(root: impl AsFd, path: impl AsRef<Path>) -> io::Result<OwnedFd> {
    let (root, path) = (root.as_fd(), path.as_ref());
    let directory = match open_directory(root, path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            unlock(root, path, Mode::RWXU)?;
            open_directory(root, path)?
        }
        other => other?,
    };
    let mode = Mode::from_raw_mode(rustix::fs::fstat(&directory)?.st_mode);
    if !mode.contains(Mode::RWXU) {
        // Someone else's directory may still do as it is: what is then refused is refused by name.
        match rustix::fs::fchmod(&directory, mode | Mode::RWXU) {
            Err(Errno::PERM | Errno::ROFS) | Ok(()) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(directory)
}

/// Opens the regular file at `path` for reading, following nothing.
///
/// # Errors
/// As [`open_directory`]; `EINVAL` when it is no regular file.
pub fn open_file(root: impl AsFd, path: impl AsRef<Path>) -> io::Result<File> {
    // O_NONBLOCK: should a FIFO have taken the place, nobody waits for its other end.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::from(open(root.as_fd(), path.as_ref(), flags)?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(Errno::INVAL.into()) }
}

/// As [`open_file`], and lets the owner read it first if its mode does not.
///
/// # Errors
/// As [`open_file`].
pub fn open_hostile_file(root: impl AsFd, path: impl AsRef<Path>) -> io::Result<File> {
    let (root, path) = (root.as_fd(), path.as_ref());
    match open_file(root, path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            unlock(root, path, Mode::RUSR)?;
            open_file(root, path)
        }
        other => other,
    }
}

/// What stands at `path`; `None` when nothing does.
///
/// # Errors
/// `ELOOP` for a symbolic link on the way there, `EXDEV` for a mount.
pub fn status(root: impl AsFd, path: impl AsRef<Path>) -> io::Result<Option<Status>> {
    match open(root.as_fd(), path.as_ref(), OFlags::PATH) {
        Ok(held) => Ok(Some(rustix::fs::fstat(held)?.into())),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The names in a directory, sorted bytewise, without `.` and `..`.
///
/// # Errors
/// When the directory can't be read.
pub fn list(directory: impl AsFd) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The text of the symbolic link `name` in `directory`.
///
/// # Errors
/// `EINVAL` when it is none.
pub fn read_link(directory: impl AsFd, name: &OsStr) -> io::Result<OsString> {
    Ok(OsString::from_vec(rustix::fs::readlinkat(directory, name, Vec::new())?.into_bytes()))
}

/// Creates the file `name` in `directory`, which must not exist, readable and writable by its owner only.
///
/// # Errors
/// `EEXIST` and others of open(2).
pub fn create_file(directory: impl AsFd, name: &OsStr) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::openat(directory, name, flags, Mode::RUSR | Mode::WUSR)?))
}

/// Creates the directory `name` in `directory` with exactly these permission bits.
///
/// # Errors
/// `EEXIST` and others of mkdir(2).
pub fn create_directory(directory: impl AsFd, name: &OsStr, mode: u32) -> io::Result<()> {
    rustix::fs::mkdirat(&directory, name, Mode::RWXU)?;
    let made = open(directory.as_fd(), Path::new(name), OFlags::RDONLY | OFlags::DIRECTORY)?;
    Ok(rustix::fs::fchmod(made, Mode::from_raw_mode(mode))?)
}

/// Creates the symbolic link `name` in `directory`.
///
/// # Errors
/// `EEXIST` and others of symlink(2).
pub fn create_link(text: &OsStr, directory: impl AsFd, name: &OsStr) -> io::Result<()> {
    Ok(rustix::fs::symlinkat(text, directory, name)?)
}

/// Moves a name; what stands at the new name is replaced where rename(2) allows it.
///
/// # Errors
/// Those of rename(2).
pub fn rename(from: impl AsFd, name: &OsStr, to: impl AsFd, new_name: &OsStr) -> io::Result<()> {
    Ok(rustix::fs::renameat(from, name, to, new_name)?)
}

/// Lets two names trade places in one step, whatever stands there.
///
/// # Errors
/// Those of renameat2(2); [`io::ErrorKind::InvalidInput`] or [`io::ErrorKind::Unsupported`] where the file system
/// can't.
pub fn exchange(from: impl AsFd, name: &OsStr, to: impl AsFd, other: &OsStr) -> io::Result<()> {
    Ok(rustix::fs::renameat_with(from, name, to, other, RenameFlags::EXCHANGE)?)
}

/// Removes an empty directory.
///
/// # Errors
/// `ENOTEMPTY` and others of rmdir(2).
pub fn remove_directory(directory: impl AsFd, name: &OsStr) -> io::Result<()> {
    Ok(rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR)?)
}

/// The extended attribute `name` of an open file; `None` when it has none, or one longer than 16 bytes.
///
/// # Errors
/// Those of fgetxattr(2) other than a missing attribute and a file system without attributes.
pub fn short_attribute(file: impl AsFd, name: &str) -> io::Result<Option<Vec<u8>>> {
    let mut value = vec![0; 16];
    match rustix::fs::fgetxattr(file, name, &mut value[..]) {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Sets an extended attribute of an open file or directory, as overlayfs does.
#[cfg(test)]
pub(crate) fn set_attribute(file: impl AsFd, name: &str, value: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::fsetxattr(file, name, value, rustix::fs::XattrFlags::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    fn base() -> (tempfile::TempDir, OwnedFd) {
        let base = tempfile::tempdir().unwrap();
        let held = File::open(base.path()).unwrap().into();
        (base, held)
    }

    fn chmod(path: impl AsRef<Path>, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn nothing_is_opened_through_a_link_or_above_the_root() {
        let (base, held) = base();
        fs::create_dir_all(base.path().join("root/dir")).unwrap();
        fs::write(base.path().join("root/dir/file"), "inside").unwrap();
        fs::write(base.path().join("secret"), "outside").unwrap();
        symlink("dir", base.path().join("root/link")).unwrap();
        symlink("../secret", base.path().join("root/dir/out")).unwrap();
        let root = open_directory(&held, "root").unwrap();
        assert!(open_file(&root, "dir/file").is_ok());
        for path in ["link/file", "dir/out", "../secret", "/etc/passwd", "dir/../../secret"] {
            assert!(open_file(&root, path).is_err(), "{path}");
            assert!(open_hostile_file(&root, path).is_err(), "{path}");
        }
        for path in ["link", "..", "dir/.."] {
            assert_eq!(open_directory(&root, path).is_err(), path != "dir/..", "{path}");
        }
        assert_eq!(status(&root, "link").unwrap().unwrap().kind, Kind::Symlink);
        assert!(status(&root, "link/file").is_err());
        assert_eq!(status(&root, "nothing").unwrap(), None);
        assert_eq!(status(&root, "dir/file/below").unwrap(), None);
    }

    #[test]
    fn a_closed_file_is_opened_up_and_a_fifo_is_not_waited_for() {
        let (base, held) = base();
        fs::write(base.path().join("closed"), "content").unwrap();
        chmod(base.path().join("closed"), 0o000);
        assert!(open_hostile_file(&held, "closed").is_ok());
        rustix::fs::mknodat(&held, "fifo", FileType::Fifo, Mode::RWXU, 0).unwrap();
        assert_eq!(open_hostile_file(&held, "fifo").unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
