//! The scratch directory of one run: the overlay's upper layer and its work directory. In the sandbox's own mount namespace the
//! root is mounted over it: each name less is one less to make and to remove, which on a disk is dear.
//!
//! `scratch/ID` belongs to the living process that holds a lock on the [`CARD`] in it, the first that is made there and the last
//! that is removed. A card that nobody holds marks what a killed sbx left behind; the next run sweeps it. What is too little to let
//! a user wait for its removal is moved out of here, and goes while the command of a later run runs ([`Left`]); one of them is
//! made anew then ([`renew`]), and the run after that needs to make none.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::config::model::ScratchKind;
use crate::store::Store;
use crate::store::care::Left;
use crate::sys::beneath::{self, Kind};
use crate::sys::process;

/// The file by which a run lives, and on which it says what it is.
pub const CARD: &str = "run.json";
/// The upper layer.
pub const UPPER: &str = "upper";
/// The overlay's work directory.
pub const WORK: &str = "work";

/// At most so many files and directories are little, unless they are large.
const LITTLE_ENTRIES: usize = 256;
/// And of at most so many bytes.
const LITTLE_BYTES: u64 = 1 << 20;

/// Scratch directories can't be made or removed.
#[derive(Debug, thiserror::Error)]
#[error("can't {doing} {}", path.display())]
pub struct ScratchError {
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ScratchError {
    let path = path.to_owned();
    move |source| ScratchError { doing, path, source }
}

/// The scratch directory of a living run.
#[derive(Debug)]
pub struct Scratch {
    all: PathBuf,
    name: String,
    /// Locked.
    card: File,
}

impl Scratch {
    /// Makes one, named by the run's id: the card, and what an upper layer on the disk needs. An earlier run may have left it
    /// ready.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn make(store: &Store, run: &str, kind: ScratchKind) -> Result<Self, ScratchError> {
        let all = store.path().join("scratch");
        let (path, name) = (all.join(run), run.to_owned());
        let card_path = path.join(CARD);
        let on_disk = kind == ScratchKind::Disk;
        let mut spare = Some(store.left().spare()).filter(|spare| on_disk && is_fit(spare));
        let mut was_spare = false;
        loop {
            let is_spare = spare.take().is_some_and(|spare| fs::rename(spare, &path).is_ok());
            was_spare |= is_spare;
            if !is_spare {
                match private().create(&path) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        private().recursive(true).create(&all).map_err(failed("make", &all))?;
                        continue;
                    }
                    // A sweep that took the spare is not quite through, or was killed: what it leaves last is empty.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists && was_spare => {
                        let _ = fs::remove_dir(&path);
                        continue;
                    }
                    made => made.map_err(failed("make", &path))?,
                }
            }
            let card = match OpenOptions::new().write(true).create_new(!is_spare).mode(0o600).open(&card_path) {
                // A sweep has taken the directory, in which nobody lived yet.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                card => card.map_err(failed("make", &card_path))?,
            };
            card.lock().map_err(failed("lock", &card_path))?;
            // One that came between the two has taken both.
            if names(&card_path, &card) {
                if is_spare && !is_fit(&path) {
                    // A sweep had begun with it, and was killed.
                    remove(&all, run)?;
                    continue;
                }
                let made = if on_disk && !is_spare {
                    private().create(path.join(WORK)).and_then(|()| make_upper(&path))
                } else {
                    Ok(())
                };
                made.map_err(failed("fill", &path)).inspect_err(|_| {
                    // What can't be removed the next sweep takes.
                    let _ = remove(&all, run);
                })?;
                return Ok(Self { all, name, card });
            }
        }
    }

    /// Writes on the card what others may know of the run.
    ///
    /// # Errors
    /// As write(2).
    pub fn announce(&self, text: &[u8]) -> io::Result<()> {
        (&self.card).write_all(text)
    }

    /// Its path.
    pub fn path(&self) -> PathBuf {
        self.all.join(&self.name)
    }

    /// Its path relative to the store.
    pub fn relative(&self) -> String {
        format!("scratch/{}", self.name)
    }

    /// Removes it.
    ///
    /// # Errors
    /// When something of it can't be removed; the next sweep tries again.
    pub fn remove(self) -> Result<(), ScratchError> {
        remove(&self.all, &self.name)
    }

    /// Whether it holds so little that it may stay on the disk until the next run. The owner may go everywhere in it then:
    /// who removes the store by hand shall be able to.
    ///
    /// # Errors
    /// When it can't be looked through.
    pub fn is_little(&self) -> io::Result<bool> {
        let (mut entries, mut bytes) = (0, 0);
        let top = File::open(self.path())?;
        let mut directories = vec![PathBuf::new()];
        while let Some(path) = directories.pop() {
            let directory = beneath::open_hostile_directory(&top, &path)?;
            for name in beneath::list(&directory)? {
                let Some(status) = beneath::status(&directory, &name)? else { continue };
                entries += 1;
                if status.kind == Kind::Directory {
                    directories.push(path.join(&name));
                } else {
                    bytes += status.size;
                }
                if entries > LITTLE_ENTRIES || bytes > LITTLE_BYTES {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Moves it where it is nobody's and a later run removes it.
    ///
    /// # Errors
    /// When it can't be moved.
    pub fn leave(self, left: &Left) -> Result<(), ScratchError> {
        let left = left.path();
        let to = left.join(&self.name);
        let moved = match fs::rename(self.path(), &to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                private().recursive(true).create(left).map_err(failed("make", left))?;
                fs::rename(self.path(), &to)
            }
            moved => moved,
        };
        moved.map_err(failed("move", &self.path()))
    }

    /// Leaves its upper layer for the user to look at and to delete; its new place.
    ///
    /// # Errors
    /// When it can't be moved out of the sweep's way.
    pub fn keep(&self) -> Result<PathBuf, ScratchError> {
        let remove = |place: &Path, name: &str| {
            let directory = File::open(place).map_err(failed("open", place))?;
            beneath::remove_tree(&directory, name.as_ref())
                .map_err(|error| failed("remove", &place.join(&error.path))(error.source))
        };
        // Only the upper layer is of use; the kernel's own directories in the other are closed even to their owner.
        remove(&self.path(), WORK)?;
        let kept = self.all.with_file_name("kept-scratch");
        private().recursive(true).create(&kept).map_err(failed("make", &kept))?;
        let to = kept.join(&self.name);
        fs::rename(self.path(), &to).map_err(failed("move", &self.path()))?;
        remove(&to, CARD)?;
        Ok(to)
    }
}

/// Makes of a directory that a run left one that the next can begin with. Only the overlay's work directory, which no command
/// has seen, is the same one.
///
/// # Errors
/// When it is none that a run has left, or can't be changed.
pub fn renew(path: &Path) -> io::Result<()> {
    let directory = File::open(path)?;
    let work = File::open(path.join(WORK))?;
    let remove = |directory: &File, name: &OsStr| beneath::remove_tree(directory, name).map_err(|error| error.source);
    for name in beneath::list(&directory)? {
        if name != WORK {
            remove(&directory, &name)?;
        }
    }
    for name in beneath::list(&work)? {
        remove(&work, &name)?;
    }
    make_upper(path)?;
    beneath::create_file(&directory, CARD.as_ref()).map(drop)
}

/// Makes an upper layer, in which there is `/tmp`.
fn make_upper(path: &Path) -> io::Result<()> {
    for (name, mode) in [(UPPER, 0o755), ("upper/tmp", 0o1777)] {
        private().create(path.join(name))?;
        fs::set_permissions(path.join(name), fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// Whether a spare is whole, and as one that was made now: another group than the caller's would not be known in the sandbox.
fn is_fit(spare: &Path) -> bool {
    let (_, user, group) = process::caller_ids();
    let upper = fs::symlink_metadata(spare.join(UPPER));
    let is_whole = [CARD, WORK, "upper/tmp"].iter().all(|part| spare.join(part).exists());
    is_whole && upper.is_ok_and(|upper| (upper.uid(), upper.gid()) == (user, group))
}

fn private() -> fs::DirBuilder {
    let mut builder = fs::DirBuilder::new();
    builder.mode(0o700);
    builder
}

fn remove(all: &Path, name: &str) -> Result<(), ScratchError> {
    let path = all.join(name);
    let directory = File::open(&path).map_err(failed("open", &path))?;
    for place in beneath::list(&directory).map_err(failed("list", &path))? {
        if place != CARD {
            beneath::remove_tree(&directory, &place)
                .map_err(|error| failed("remove", &path.join(&error.path))(error.source))?;
        }
    }
    // Between the two a sweep may come, to which an empty directory is nobody's.
    let card = path.join(CARD);
    absent_is_fine(fs::remove_file(&card)).map_err(failed("remove", &card))?;
    absent_is_fine(fs::remove_dir(&path)).map_err(failed("remove", &path))
}

fn absent_is_fine(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Removes what killed runs left behind. What can't be removed stays for the next time: a sweep never stops a run.
pub fn sweep(store: &Path) {
    let all = store.join("scratch");
    let Ok(entries) = fs::read_dir(&all) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let card_path = path.join(CARD);
        match OpenOptions::new().write(true).open(&card_path) {
            // Whoever removed the card meanwhile owns what is there now under its name. It is held until the directory is gone:
            // who waits for it sees that it has no name any more.
            Ok(card) if card.try_lock().is_ok() && names(&card_path, &card) => {
                if let Some(name) = entry.file_name().to_str() {
                    let _ = remove(&all, name);
                }
            }
            Ok(_) => {}
            // Without a card nobody lives here yet, or any more. It goes only while it is empty, and who is about to make a card
            // in it makes the directory again.
            Err(_) => {
                let _ = fs::remove_dir(&path);
            }
        }
    }
}

/// Whether `path` is still the name of `file`.
fn names(path: &Path, file: &File) -> bool {
    let both = file.metadata().ok().zip(fs::metadata(path).ok());
    both.is_some_and(|(held, named)| held.ino() == named.ino() && held.dev() == named.dev())
}

#[cfg(test)]
mod tests;
