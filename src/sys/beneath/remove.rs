//! Removing trees that a hostile command made.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType};
use rustix::io::Errno;

use super::{open_hostile_directory, remove_directory};

/// How many directories are held one within the other, below the one to be removed.
const DEPTH: usize = 16;

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
/// However deep the tree, this holds few descriptors: what lies deeper than sixteen levels moves up until nothing does.
///
/// # Errors
/// The first obstacle; what other directories hold is removed all the same.
pub fn remove_tree(directory: impl AsFd, name: &OsStr) -> Result<(), RemoveError> {
    let directory = directory.as_fd();
    let base = PathBuf::from(name);
    let failed = |path: &Path, source| RemoveError { path: path.to_owned(), source };
    let top = match unlink(directory, name).and_then(|unlinked| open(directory, name, unlinked)) {
        Ok(None) => return Ok(()),
        Ok(Some(top)) => top,
        Err(source) => return Err(failed(&base, source)),
    };
    let mut spare_names = (0u64..).map(|number| OsString::from(number.to_string()));
    loop {
        let Contents { held, entries } = Contents::of(&top).map_err(|source| failed(&base, source))?;
        if entries.is_empty() {
            break;
        }
        let top = held.fd().map_err(|error| failed(&base, error.into()))?;
        let mut obstacle = None;
        for (child, kind) in entries {
            if let Err(source) = remove_entry(top, top, &child, kind, DEPTH, &mut spare_names) {
                obstacle.get_or_insert_with(|| failed(&base.join(&child), source));
            }
        }
        if let Some(obstacle) = obstacle {
            return Err(obstacle);
        }
    }
    absent_is_fine(remove_directory(directory, name)).map_err(|source| failed(&base, source))
}

/// What a directory held when it was read.
struct Contents {
    held: Dir,
    entries: Vec<(OsString, FileType)>,
}

impl Contents {
    fn of(directory: impl AsFd) -> io::Result<Self> {
        Self::read(Dir::read_from(directory)?)
    }

    fn read(mut held: Dir) -> io::Result<Self> {
        let mut entries = Vec::new();
        while let Some(entry) = held.read() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                entries.push((OsString::from_vec(name.to_vec()), entry.file_type()));
            }
        }
        Ok(Self { held, entries })
    }
}

/// Removes `name` of `parent`; the directories `depth` levels below it become children of `top`.
fn remove_entry(
    top: BorrowedFd<'_>,
    parent: BorrowedFd<'_>,
    name: &OsStr,
    kind: FileType,
    depth: usize,
    spare_names: &mut impl Iterator<Item = OsString>,
) -> io::Result<()> {
    // Where the file system does not tell the kind, the kernel knows.
    let unlinked = if kind == FileType::Directory { Unlinked::Directory } else { unlink(parent, name)? };
    if depth == 0 && matches!(unlinked, Unlinked::Directory) {
        return move_up(parent, name, top, spare_names);
    }
    let Some(inside) = open(parent, name, unlinked)? else { return Ok(()) };
    let Contents { held, entries } = Contents::read(Dir::new(inside)?)?;
    for (child, kind) in entries {
        remove_entry(top, held.fd()?, &child, kind, depth - 1, spare_names)?;
    }
    absent_is_fine(remove_directory(parent, name))
}

/// Opens what is still to be emptied; `None` when there is nothing.
fn open(parent: BorrowedFd<'_>, name: &OsStr, unlinked: Unlinked) -> io::Result<Option<OwnedFd>> {
    if matches!(unlinked, Unlinked::Gone) {
        return Ok(None);
    }
    match open_hostile_directory(parent, name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
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
    use super::super::*;
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
