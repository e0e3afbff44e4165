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
use std::thread;

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
        let mut swept = false;
        loop {
            let is_spare = spare.take().is_some_and(|spare| fs::rename(spare, &path).is_ok());
            if !is_spare {
                match private().create(&path) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        private().recursive(true).create(&all).map_err(failed("make", &all))?;
                        continue;
                    }
                    // The sweep is not quite through.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists && swept => {
                        thread::yield_now();
                        continue;
                    }
                    made => made.map_err(failed("make", &path))?,
                }
            }
            let card = match OpenOptions::new().write(true).create_new(!is_spare).mode(0o600).open(&card_path) {
                // A sweep has taken the directory, in which nobody lived yet.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    swept = true;
                    continue;
                }
                card => card.map_err(failed("make", &card_path))?,
            };
            card.lock().map_err(failed("lock", &card_path))?;
            // One that came between the two has taken both.
            if names(&card_path, &card) {
                if on_disk && !is_spare {
                    private()
                        .create(path.join(WORK))
                        .and_then(|()| make_upper(&path))
                        .map_err(failed("fill", &path))?;
                }
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
    spare.join(CARD).exists() && upper.is_ok_and(|upper| (upper.uid(), upper.gid()) == (user, group))
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

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("store")).unwrap();
        (dir, store)
    }

    fn make(store: &Store, run: &str) -> Scratch {
        Scratch::make(store, run, ScratchKind::Disk).unwrap()
    }

    #[test]
    fn a_sweep_takes_only_what_nobody_holds() {
        let (_dir, store) = store();
        let living = make(&store, "living");
        let dead = make(&store, "dead");
        fs::write(dead.path().join("junk"), "x").unwrap();
        let dead_path = dead.path();
        drop(dead);
        let nameless = Scratch::make(&store, "nameless", ScratchKind::Memory).unwrap();
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
        let (_dir, store) = store();
        thread::scope(|scope| {
            let makers: Vec<_> = (0..4)
                .map(|maker| {
                    let store = &store;
                    scope.spawn(move || {
                        for run in 0..200 {
                            let scratch = make(store, &format!("{maker}-{run}"));
                            sweep(store.path());
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
        let (_dir, store) = store();
        for run in ["one", "two"] {
            let scratch = make(&store, run);
            fs::create_dir(scratch.path().join("upper/a")).unwrap();
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
    fn the_next_run_begins_with_what_was_made_anew() {
        let (_dir, store) = store();
        let mode = |path: &Path| fs::symlink_metadata(path).unwrap().mode() & 0o7777;
        let inode = |path: &Path| fs::symlink_metadata(path).unwrap().ino();
        let first = make(&store, "first");
        let place = first.path();
        first.announce(b"first").unwrap();
        fs::create_dir_all(place.join("work/work/incompat")).unwrap();
        fs::create_dir(place.join(".staged")).unwrap();
        fs::write(place.join("upper/tmp/junk"), "x").unwrap();
        fs::set_permissions(place.join(UPPER), PermissionsExt::from_mode(0o700)).unwrap();
        first.leave(&store.left()).unwrap();
        make(&store, "second").leave(&store.left()).unwrap();
        let mut left = store.left().take().unwrap();
        // The other one is the last by its name.
        fs::remove_dir_all(store.left().path().join("second/work")).unwrap();
        left.spare(renew);
        assert!(!store.left().spare().exists(), "it was none that a run leaves");
        left.remove();

        make(&store, "third").leave(&store.left()).unwrap();
        fs::create_dir(store.left().path().join("third/work/work")).unwrap();
        let mut left = store.left().take().unwrap();
        left.spare(renew);
        left.spare(|_| panic!("there is one"));
        left.remove();
        assert!(store.left().take().is_none(), "the spare stays");
        sweep(store.path());
        let work_of_spare = inode(&store.left().spare().join(WORK));
        let fourth = make(&store, "fourth");
        assert!(!store.left().spare().exists());
        assert_eq!(inode(&fourth.path().join(WORK)), work_of_spare);
        let fifth = make(&store, "fifth");
        for scratch in [fourth, fifth] {
            let place = scratch.path();
            let found = walkdir::WalkDir::new(&place).sort_by_file_name().into_iter();
            let found: Vec<_> =
                found.map(|entry| entry.unwrap().path().strip_prefix(&place).unwrap().display().to_string()).collect();
            assert_eq!(found, ["", CARD, UPPER, "upper/tmp", WORK]);
            assert_eq!(fs::read(place.join(CARD)).unwrap(), b"");
            let modes = [UPPER, "upper/tmp", WORK, ""].map(|path| mode(&place.join(path)));
            assert_eq!(modes, [0o755, 0o1777, 0o700, 0o700]);
            sweep(store.path());
            assert!(place.exists());
        }
    }

    #[test]
    fn a_spare_is_taken_once_and_whole() {
        let (_dir, store) = store();
        thread::scope(|scope| {
            for maker in 0..4 {
                let store = &store;
                scope.spawn(move || {
                    for run in 0..100 {
                        let scratch = make(store, &format!("{maker}-{run}"));
                        sweep(store.path());
                        assert!(scratch.path().join("upper/tmp").exists() && scratch.path().join(WORK).exists());
                        fs::write(scratch.path().join("upper/mine"), "").unwrap();
                        assert_eq!(fs::read_dir(scratch.path().join(UPPER)).unwrap().count(), 2);
                        scratch.leave(&store.left()).unwrap();
                        if let Some(mut left) = store.left().take() {
                            left.spare(renew);
                            left.remove();
                        }
                    }
                });
            }
        });
    }

    #[test]
    fn what_is_of_another_group_is_no_spare() {
        let (_dir, store) = store();
        make(&store, "one").leave(&store.left()).unwrap();
        store.left().take().unwrap().spare(renew);
        let spare = store.left().spare();
        assert!(is_fit(&spare));
        fs::remove_file(spare.join(CARD)).unwrap();
        assert!(!is_fit(&spare), "without a card");
        File::create(spare.join(CARD)).unwrap();
        // Only root may give a directory to any group.
        if std::os::unix::fs::chown(spare.join(UPPER), None, Some(12345)).is_ok() {
            assert!(!is_fit(&spare));
        }
        assert!(!is_fit(Path::new("/nowhere")));
    }

    #[test]
    fn little_is_few_files_of_few_bytes() {
        let (_dir, store) = store();
        let scratch = make(&store, "one");
        assert!(scratch.is_little().unwrap());
        let directory = scratch.path().join("upper/a");
        fs::create_dir(&directory).unwrap();
        let file = File::create(directory.join("file")).unwrap();
        file.set_len(LITTLE_BYTES).unwrap();
        assert!(scratch.is_little().unwrap());
        file.set_len(LITTLE_BYTES + 1).unwrap();
        assert!(!scratch.is_little().unwrap());
        file.set_len(0).unwrap();
        // Besides the card, the work directory, the upper layer with two directories, and that file.
        (6..LITTLE_ENTRIES).for_each(|number| fs::write(directory.join(number.to_string()), "").unwrap());
        assert!(scratch.is_little().unwrap());
        fs::write(directory.join("one-more"), "").unwrap();
        assert!(!scratch.is_little().unwrap());
    }

    #[test]
    fn what_stays_is_open_to_its_owner() {
        let (_dir, store) = store();
        let scratch = make(&store, "one");
        let closed = scratch.path().join("work/work");
        fs::create_dir_all(closed.join("incompat")).unwrap();
        let mode = |mode| fs::set_permissions(&closed, PermissionsExt::from_mode(mode)).unwrap();
        mode(0);
        assert!(scratch.is_little().unwrap());
        assert_eq!(fs::metadata(&closed).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn what_is_kept_survives_a_sweep() {
        let (_dir, store) = store();
        let kept = make(&store, "one").keep().unwrap();
        sweep(store.path());
        assert!(!kept.join(CARD).exists() && !kept.join(WORK).exists() && kept.join(UPPER).exists());
    }
}
