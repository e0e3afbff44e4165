//! The scratch directory of one run: the overlay's upper layer and its work directory. In the sandbox's own mount namespace the
//! root is mounted over it: each directory less is one less to remove, which on a disk is dear.
//!
//! `scratch/ID` belongs to the living process that holds a lock on `scratch/ID.lock`. A lock that nobody holds marks
//! what a killed sbx left behind; the next run sweeps it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::live;
use crate::sys::beneath;

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

/// The scratch directory of a living run; removed when the run is done with it.
#[derive(Debug)]
pub struct Scratch {
    all: PathBuf,
    name: String,
    _lock: File,
}

impl Scratch {
    /// Makes one, named by the run's id, empty.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn make(store: &Path, run: &str) -> Result<Self, ScratchError> {
        let all = store.join("scratch");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&all).map_err(failed("make", &all))?;
        let lock_path = all.join(format!("{run}.lock"));
        // The lock exists and is held before the directory does, so that no sweep ever takes a directory half made.
        let lock = loop {
            let lock = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&lock_path)
                .map_err(failed("make", &lock_path))?;
            lock.lock().map_err(failed("lock", &lock_path))?;
            // A sweep that came between the two has taken the name away.
            if names(&lock_path, &lock) {
                break lock;
            }
        };
        let scratch = Self { all, name: run.to_owned(), _lock: lock };
        let path = scratch.path();
        fs::DirBuilder::new().mode(0o700).create(&path).map_err(failed("make", &path))?;
        Ok(scratch)
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

    /// Leaves its upper layer for the user to look at and to delete; its new place.
    ///
    /// # Errors
    /// When it can't be moved out of the sweep's way.
    pub fn keep(self) -> Result<PathBuf, ScratchError> {
        // Only the upper layer is of use; the kernel's own directories in the other are closed even to their owner.
        let directory = File::open(self.path()).map_err(failed("open", &self.path()))?;
        for name in ["work", live::NAME] {
            beneath::remove_tree(&directory, name.as_ref())
                .map_err(|error| failed("remove", &self.path().join(&error.path))(error.source))?;
        }
        let kept = self.all.with_file_name("kept-scratch");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&kept).map_err(failed("make", &kept))?;
        let to = kept.join(&self.name);
        fs::rename(self.path(), &to).map_err(failed("move", &self.path()))?;
        let lock = self.all.join(format!("{}.lock", self.name));
        fs::remove_file(&lock).map_err(failed("remove", &lock))?;
        Ok(to)
    }
}

fn remove(all: &Path, name: &str) -> Result<(), ScratchError> {
    let directory = File::open(all).map_err(failed("open", all))?;
    beneath::remove_tree(&directory, name.as_ref())
        .map_err(|error| failed("remove", &all.join(&error.path))(error.source))?;
    let lock = all.join(format!("{name}.lock"));
    match fs::remove_file(&lock) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", &lock)(error)),
        _ => Ok(()),
    }
}

/// Removes what killed runs left behind. What can't be removed stays for the next time: a sweep never stops a run.
pub fn sweep(store: &Path) {
    let all = store.join("scratch");
    let Ok(entries) = fs::read_dir(&all) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let Some(run) = name.strip_suffix(".lock") else {
            // A lock is made before its directory and removed after it: without one, nobody lives here.
            if !all.join(format!("{name}.lock")).exists() {
                let _ = remove(&all, name);
            }
            continue;
        };
        let path = entry.path();
        let Ok(lock) = OpenOptions::new().write(true).open(&path) else { continue };
        // Whoever removed the lock's name meanwhile owns what is there now under that name.
        if lock.try_lock().is_ok() && names(&path, &lock) {
            let _ = remove(&all, run);
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
        fs::remove_file(store.path().join("scratch/nameless.lock")).unwrap();
        sweep(store.path());
        assert!(!dead_path.exists());
        assert!(!nameless.path().exists());
        assert!(!store.path().join("scratch/dead.lock").exists());
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
                            assert!(store.join(format!("{}.lock", scratch.relative())).exists());
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
    fn what_is_kept_survives_a_sweep() {
        let store = tempfile::tempdir().unwrap();
        let kept = Scratch::make(store.path(), "one").unwrap().keep().unwrap();
        sweep(store.path());
        assert_eq!(fs::read_dir(kept).unwrap().count(), 0);
    }
}
