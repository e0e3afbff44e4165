//! Directory trees by descriptor: nothing followed, nothing outside reached.
//!
//! Trees that a command made are hostile: any component may be a symbolic link, any directory may be closed to its own
//! owner, and a tree may be deeper than `PATH_MAX` or than a stack is long. Lookups here go through openat2(2), which
//! refuses in the kernel what leaves the starting directory, passes a link, or crosses a mount.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;

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

/// A tree could not be removed whole.
#[derive(Debug, thiserror::Error)]
#[error("can't remove `{}`", path.display())]
pub struct RemoveError {
    /// What is in the way, relative to the directory that was given.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// Removes `name` in `directory` with all below it, whatever a command made there: links are removed and not followed,
/// directories that are closed to their owner are opened up, mounts are not crossed. A missing name is fine.
///
/// However deep the tree, this uses three descriptors and no stack: the directories of the second level are moved up to
/// the first until there are none.
///
/// # Errors
/// The first obstacle; what other directories hold is removed all the same.
pub fn remove_tree(directory: impl AsFd, name: &OsStr) -> Result<(), RemoveError> {
    let directory = directory.as_fd();
    let failed = |path: &Path, source| RemoveError { path: path.to_owned(), source };
    let base = PathBuf::from(name);
    match unlink(directory, name).map_err(|source| failed(&base, source))? {
        Unlinked::Gone => return Ok(()),
        Unlinked::Directory => {}
    }
    let top = match open_hostile_directory(directory, &base) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(|source| failed(&base, source))?,
    };
    let mut spare_names = (0u64..).map(|number| OsString::from(number.to_string()));
    loop {
        let names = list(&top).map_err(|source| failed(&base, source))?;
        if names.is_empty() {
            break;
        }
        let mut obstacle = None;
        for child in names {
            if let Err(source) = remove_flattening(top.as_fd(), &child, &mut spare_names) {
                obstacle.get_or_insert_with(|| failed(&base.join(&child), source));
            }
        }
        if let Some(obstacle) = obstacle {
            return Err(obstacle);
        }
    }
    absent_is_fine(remove_directory(directory, name)).map_err(|source| failed(&base, source))
}

/// Removes `child` of `top`; the directories in it become children of `top`.
fn remove_flattening(
    top: BorrowedFd<'_>,
    child: &OsStr,
    spare_names: &mut impl Iterator<Item = OsString>,
) -> io::Result<()> {
    if matches!(unlink(top, child)?, Unlinked::Gone) {
        return Ok(());
    }
    let inside = match open_hostile_directory(top, child) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for name in list(&inside)? {
        if matches!(unlink(inside.as_fd(), &name)?, Unlinked::Directory) {
            move_up(inside.as_fd(), &name, top, spare_names)?;
        }
    }
    absent_is_fine(remove_directory(top, child))
}

fn move_up(
    from: BorrowedFd<'_>,
    name: &OsStr,
    top: BorrowedFd<'_>,
    spare_names: &mut impl Iterator<Item = OsString>,
) -> io::Result<()> {
    // An empty directory needs no move.
    match remove_directory(from, name) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
        other => return absent_is_fine(other),
    }
    // A directory that changes its parent must be writable itself: its `..` changes (rename(2), EACCES).
    open_hostile_directory(from, name)?;
    for spare in spare_names {
        // rename(2) takes the place of an empty directory, which was to go anyway, and of nothing else.
        match rustix::fs::renameat(from, name, top, &spare) {
            Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {}
            other => return absent_is_fine(other.map_err(io::Error::from)),
        }
    }
    Err(Errno::EXIST.into())
}

enum Unlinked {
    /// It is removed, or was not there.
    Gone,
    /// It is a directory, and still there.
    Directory,
}

fn unlink(directory: BorrowedFd<'_>, name: &OsStr) -> io::Result<Unlinked> {
    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(Unlinked::Gone),
        Err(Errno::ISDIR) => Ok(Unlinked::Directory),
        Err(error) => Err(error.into()),
    }
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write as _;
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

    #[test]
    fn a_hostile_tree_is_removed_and_nothing_else() {
        let (base, held) = base();
        let at = |path: &str| base.path().join(path);
        fs::create_dir_all(at("outside")).unwrap();
        fs::write(at("outside/kept"), "kept").unwrap();
        fs::create_dir_all(at("tree/a/b/c")).unwrap();
        symlink(at("outside"), at("tree/link")).unwrap();
        symlink(at("outside"), at("tree/a/b/link")).unwrap();
        fs::hard_link(at("outside/kept"), at("tree/a/hard")).unwrap();
        rustix::fs::mknodat(&held, "tree/a/whiteout", FileType::CharacterDevice, Mode::empty(), 0).unwrap();
        rustix::fs::mknodat(&held, "tree/a/fifo", FileType::Fifo, Mode::empty(), 0).unwrap();
        // Names like those that directories get which are moved up.
        for name in ["0", "1", "2"] {
            fs::create_dir_all(at("tree/full").join(name).join("x/y")).unwrap();
            fs::write(at("tree").join(name), "a file").unwrap();
        }
        fs::create_dir_all(at("tree/3/not/empty")).unwrap();
        for (path, mode) in [("tree/a/b/c", 0o000), ("tree/a/b", 0o555), ("tree/a", 0o000), ("tree/full/1/x", 0o400)] {
            chmod(at(path), mode);
        }
        chmod(at("tree"), 0o111);
        remove_tree(&held, OsStr::new("tree")).unwrap();
        assert_eq!(list(&held).unwrap(), ["outside"]);
        assert_eq!(fs::read_to_string(at("outside/kept")).unwrap(), "kept");
    }

    #[test]
    fn removing_a_link_a_file_or_nothing_is_fine() {
        let (base, held) = base();
        fs::create_dir(base.path().join("kept")).unwrap();
        symlink("kept", base.path().join("link")).unwrap();
        fs::write(base.path().join("file"), "").unwrap();
        for name in ["link", "file", "nothing"] {
            remove_tree(&held, OsStr::new(name)).unwrap();
        }
        assert_eq!(list(&held).unwrap(), ["kept"]);
    }

    #[test]
    fn depth_costs_neither_stack_nor_descriptors() {
        let (_base, held) = base();
        create_directory(&held, OsStr::new("tree"), 0o700).unwrap();
        let mut at = open_directory(&held, "tree").unwrap();
        for _ in 0..5_000 {
            create_directory(&at, OsStr::new("d"), 0o700).unwrap();
            create_file(&at, OsStr::new("f")).unwrap().write_all(b"x").unwrap();
            at = open_directory(&at, "d").unwrap();
        }
        remove_tree(&held, OsStr::new("tree")).unwrap();
        assert_eq!(status(&held, "tree").unwrap(), None);
    }

    #[test]
    fn an_obstacle_is_named_and_the_rest_removed() {
        let (base, held) = base();
        fs::create_dir_all(base.path().join("tree/a/busy")).unwrap();
        fs::create_dir_all(base.path().join("tree/b/c")).unwrap();
        let locked = base.path().join("tree/a");
        if !rustix::process::geteuid().is_root() {
            // An ordinary user is stopped by nothing but what is not theirs, which a test can't make.
            return remove_tree(&held, OsStr::new("tree")).unwrap();
        }
        let mount = std::process::Command::new("mount").args(["-t", "tmpfs", "none"]).arg(locked.join("busy")).status();
        assert!(mount.unwrap().success());
        let error = remove_tree(&held, OsStr::new("tree")).unwrap_err();
        let umount = std::process::Command::new("umount").arg(locked.join("busy")).status();
        assert!(umount.unwrap().success());
        assert!(error.path.starts_with("tree/a"), "{error:?}");
        assert!(!base.path().join("tree/b").exists());
        remove_tree(&held, OsStr::new("tree")).unwrap();
    }
}
