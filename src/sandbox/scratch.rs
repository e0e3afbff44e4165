//! The scratch directory of one run: the overlay's upper layer and its work directory. In the sandbox's own mount namespace the
//! root is mounted over it: each name less is one less to make and to remove, which on a disk is dear.
//!
//! `scratch/ID` belongs to the living process that holds a lock on the [`CARD`] in it, the first that is made there and the last
//! that is removed. A card that nobody holds marks what a killed sbx left behind; the next run sweeps it. What is too little to let
//! a user wait for its removal is moved out of here, and goes while the command of a later run runs ([`Left`]).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::store::care::Left;
use crate::sys::beneath::{self, Kind};

/// The file by which a run lives, and on which it says what it is.
pub const CARD: &str = "run.json";

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
    /// Makes one, named by the run's id, empty but for the card.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn make(store: &Path, run: &str) -> Result<Self, ScratchError> {
        let all = store.join("scratch");
        let (path, name) = (all.join(run), run.to_owned());
        let card_path = path.join(CARD);
        loop {
            match private().create(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    private().recursive(true).create(&all).map_err(failed("make", &all))?;
                    continue;
                }
                made => made.map_err(failed("make", &path))?,
            }
            let card = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&card_path) {
                // A sweep has taken the directory, which was still empty.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                card => card.map_err(failed("make", &card_path))?,
            };
            card.lock().map_err(failed("lock", &card_path))?;
            // One that came between the two has taken both.
            if names(&card_path, &card) {
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
        remove(&self.path(), "work")?;
        let kept = self.all.with_file_name("kept-scratch");
        private().recursive(true).create(&kept).map_err(failed("make", &kept))?;
        let to = kept.join(&self.name);
        fs::rename(self.path(), &to).map_err(failed("move", &self.path()))?;
        remove(&to, CARD)?;
        Ok(to)
    }
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
mod tests {
    use super::*;

    #[test]
    fn a_sweep_takes_only_what_nobody_holds() {
        let store = tempfile::tempdir().unwrap();
        let living = Scratch::make(store.path(), "living").unwrap();
        let dead = Scratch::make(store.path(), "dead").unwrap();
        fs::write(dead.path().join("junk"), "x").unwrap();
        let dead_path = dead.path();
        drop(dead);
        let nameless = Scratch::make(store.path(), "nameless").unwrap();
        fs::remove_file(nameless.path().join(CARD)).unwrap();
        sweep(store.path());
        assert!(!dead_path.exists());
        assert!(!nameless.path().exists());
        assert!(living.path().exists());
        living.remove().unwrap();
        assert_eq!(fs::read_dir(store.path().join("scratch")).unwrap().count(), 0);
    }

    #[test]
    fn a_sweep_never_takes_what_is_being_made() {
        let store = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            let makers: Vec<_> = (0..4)
                .map(|maker| {
                    let store = store.path();
                    scope.spawn(move || {
                        for run in 0..200 {
                            let scratch = Scratch::make(store, &format!("{maker}-{run}")).unwrap();
                            sweep(store);
                            assert!(scratch.path().exists());
                            assert!(scratch.path().join(CARD).exists());
                            scratch.remove().unwrap();
                        }
                    })
                })
                .collect();
            makers.into_iter().for_each(|maker| maker.join().unwrap());
        });
        assert_eq!(fs::read_dir(store.path().join("scratch")).unwrap().count(), 0);
    }

    #[test]
    fn what_is_left_is_nobody_s() {
        let dir = tempfile::tempdir().unwrap();
        let store = crate::store::Store::open(dir.path().join("store")).unwrap();
        for run in ["one", "two"] {
            let scratch = Scratch::make(store.path(), run).unwrap();
            fs::create_dir_all(scratch.path().join("upper/a")).unwrap();
            scratch.leave(&store.left()).unwrap();
        }
        let count = |dir: PathBuf| fs::read_dir(dir).unwrap().count();
        assert!(store.left().has_room());
        sweep(store.path());
        let left = || store.left().path().to_owned();
        assert_eq!((count(left()), count(store.path().join("scratch"))), (2, 0));
        let taken = store.left().take().unwrap();
        assert!(store.left().take().is_none(), "another is at it");
        taken.remove();
        assert_eq!(count(left()), 0);
        assert!(store.left().take().is_none(), "there is nothing");
        (0..16).for_each(|run| fs::create_dir(left().join(run.to_string())).unwrap());
        assert!(!store.left().has_room());
    }

    #[test]
    fn little_is_few_files_of_few_bytes() {
        let store = tempfile::tempdir().unwrap();
        let scratch = Scratch::make(store.path(), "one").unwrap();
        assert!(scratch.is_little().unwrap());
        let directory = scratch.path().join("upper/a");
        fs::create_dir_all(&directory).unwrap();
        let file = File::create(directory.join("file")).unwrap();
        file.set_len(LITTLE_BYTES).unwrap();
        assert!(scratch.is_little().unwrap());
        file.set_len(LITTLE_BYTES + 1).unwrap();
        assert!(!scratch.is_little().unwrap());
        file.set_len(0).unwrap();
        // Besides the card, two directories and that file.
        (4..LITTLE_ENTRIES).for_each(|number| fs::write(directory.join(number.to_string()), "").unwrap());
        assert!(scratch.is_little().unwrap());
        fs::write(directory.join("one-more"), "").unwrap();
        assert!(!scratch.is_little().unwrap());
    }

    #[test]
    fn what_stays_is_open_to_its_owner() {
        let store = tempfile::tempdir().unwrap();
        let scratch = Scratch::make(store.path(), "one").unwrap();
        let closed = scratch.path().join("work/work");
        fs::create_dir_all(closed.join("incompat")).unwrap();
        let mode = |mode| fs::set_permissions(&closed, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        mode(0);
        assert!(scratch.is_little().unwrap());
        assert_eq!(fs::metadata(&closed).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn what_is_kept_survives_a_sweep() {
        let store = tempfile::tempdir().unwrap();
        let kept = Scratch::make(store.path(), "one").unwrap().keep().unwrap();
        sweep(store.path());
        assert_eq!(fs::read_dir(kept).unwrap().count(), 0);
    }
}
