//! The store's care for itself: what it holds, what can go, whether it is right.
//!
//! Units are what can be computed again and has a time of last use: results of actions, layers, what is remembered of
//! files, what was fetched. Blobs belong to the units that refer to them. Records of runs, kept scratch directories and
//! the journals of outputs are no units; nothing here removes them unless it is asked for by name.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::{Store, StoreError};
use crate::sys::beneath::remove_tree;

mod census;
mod gc;
mod usage;
mod verify;

pub use gc::{Collected, Limits, Patience, Size};
pub use verify::{Damage, Verified};

/// What the store holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// What actions came to.
    Results,
    /// Contents by their digest.
    Blobs,
    /// Materialised input trees.
    Trees,
    /// Small layers over them.
    Deltas,
    /// Materialised root file systems.
    Roots,
    /// What is remembered of the files of projects, mounts, root file systems and archives.
    Memos,
    /// What was fetched.
    Fetched,
    /// Records of runs.
    Records,
    /// Scratch directories kept between runs.
    KeptScratch,
    /// What `--keep` left.
    KeptRuns,
    /// What is being written, and the scratch directories of runs.
    Temporary,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Results,
        Self::Blobs,
        Self::Trees,
        Self::Deltas,
        Self::Roots,
        Self::Memos,
        Self::Fetched,
        Self::Records,
        Self::KeptScratch,
        Self::KeptRuns,
        Self::Temporary,
    ];

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Results => "results",
            Self::Blobs => "blobs",
            Self::Trees => "input trees",
            Self::Deltas => "deltas",
            Self::Roots => "root file systems",
            Self::Memos => "memos",
            Self::Fetched => "fetched",
            Self::Records => "records of runs",
            Self::KeptScratch => "kept scratch",
            Self::KeptRuns => "kept runs",
            Self::Temporary => "temporary",
        }
    }

    /// Whether it counts for the budget: what can be removed to keep it.
    pub fn is_budgeted(self) -> bool {
        match self {
            Self::Results | Self::Blobs | Self::Trees | Self::Deltas | Self::Roots | Self::Memos | Self::Fetched => {
                true
            }
            Self::Records | Self::KeptScratch | Self::KeptRuns | Self::Temporary => false,
        }
    }
}

/// How much there is of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// How many.
    pub count: u64,
    /// What they take of the disk.
    pub bytes: u64,
    /// The least recent use; none where uses are not noted.
    pub oldest: Option<SystemTime>,
    /// The most recent one.
    pub newest: Option<SystemTime>,
}

impl Tally {
    fn add(&mut self, bytes: u64, used: Option<SystemTime>) {
        self.count += 1;
        self.bytes += bytes;
        if let Some(used) = used {
            self.oldest = Some(self.oldest.map_or(used, |oldest| oldest.min(used)));
            self.newest = Some(self.newest.map_or(used, |newest| newest.max(used)));
        }
    }
}

/// Told how far the work is; implementations must be cheap.
pub trait Watcher: Sync {
    /// `done` of `all` steps of the work called `what` are done; it has none when it only waits.
    fn at(&self, what: &'static str, done: u64, all: u64);
    /// The work is over.
    fn finished(&self);
}

/// How exactly the last use of a file that is remembered is known.
const USE_GRANULARITY: Duration = Duration::from_mins(10);

impl Store {
    /// Says that the file at `path` is used now.
    pub(crate) fn note_use(path: &Path) {
        let used = fs::metadata(path).and_then(|metadata| metadata.modified());
        if used.is_ok_and(|used| used.elapsed().is_ok_and(|age| age > USE_GRANULARITY)) {
            // Whether it can be set decides nothing.
            let _ = fs::File::open(path).and_then(|file| file.set_modified(SystemTime::now()));
        }
    }

    /// Removes the scratch directories that are kept between runs, and what `--keep` left.
    ///
    /// # Errors
    /// When something can't be removed.
    pub fn clear_scratch(&self) -> Result<(), StoreError> {
        for dir in ["kept", "kept-scratch"] {
            let path = self.dir.join(dir);
            if !path.exists() {
                continue;
            }
            let all = fs::File::open(&path).map_err(StoreError::io("open", &path))?;
            for name in names(&path)? {
                remove_tree(&all, name.as_ref())
                    .map_err(|error| StoreError::io("remove", &path.join(&error.path))(error.source))?;
            }
        }
        Ok(())
    }

    /// Where runs leave what is too little to let a user wait for its removal.
    pub fn left(&self) -> Left {
        Left(self.dir.join(LEFT))
    }
}

/// See [`Store::left`]. It lies on the file system of the scratch directories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left(PathBuf);

const LEFT: &str = "left";

/// What one of them was made anew into, for the next run to take; it is not removed with the others.
const SPARE: &str = "spare";
/// What it is called when it is to go: whoever takes it has all of it or none.
const SPARE_NO_MORE: &str = "spare.old";

/// The directories of so many runs may wait there: launches at once leave more than any of them has the time to remove.
const MOST_LEFT: usize = 16;

impl Left {
    /// Its path; it need not be there.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Where the directory is, if there is one, that the next run can have: the first who moves it away.
    pub fn spare(&self) -> PathBuf {
        self.0.join(SPARE)
    }

    /// Whether one more may wait there.
    pub fn has_room(&self) -> bool {
        fs::read_dir(&self.0).map_or(0, |entries| entries.take(MOST_LEFT).count()) < MOST_LEFT
    }

    /// Takes all that is there but the spare, to remove it; `None` when there is nothing, or another process is at it.
    pub fn take(&self) -> Option<Taken> {
        let directory = fs::File::open(&self.0).ok()?;
        directory.try_lock().ok()?;
        let mut names = names(&self.0).ok()?;
        names.retain(|name| name != SPARE);
        if names.is_empty() { None } else { Some(Taken { left: self.clone(), directory, names }) }
    }

    /// Takes the spare too.
    pub(super) fn take_all(&self) -> Option<Taken> {
        // Where there is none, or what was to go before is still there, nothing is lost.
        let _ = fs::rename(self.spare(), self.0.join(SPARE_NO_MORE));
        self.take()
    }
}

/// What nobody else removes now.
#[derive(Debug)]
pub struct Taken {
    left: Left,
    /// Locked.
    directory: fs::File,
    names: Vec<String>,
}

impl Taken {
    /// Makes a spare of one of them, unless there is one: `renew` makes the directory with this path as a run wants it. What
    /// fails is removed with the others.
    pub fn spare(&mut self, renew: impl FnOnce(&Path) -> io::Result<()>) {
        let spare = self.left.spare();
        let Some(name) = self.names.last().filter(|_| !spare.exists()) else { return };
        let path = self.left.0.join(name);
        if renew(&path).and_then(|()| fs::rename(&path, &spare)).is_ok() {
            self.names.pop();
        }
    }

    /// Removes it. What can't be removed stays for the next time.
    pub fn remove(self) {
        for name in &self.names {
            let _ = remove_tree(&self.directory, name.as_ref());
        }
    }
}

/// The names in a directory, sorted; none when there is no such directory.
fn names(dir: &Path) -> Result<Vec<String>, StoreError> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(StoreError::io("list", dir))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(StoreError::io("list", dir))?.file_name();
        // Every name of the store's is UTF-8.
        names.extend(name.into_string().ok());
    }
    names.sort_unstable();
    Ok(names)
}

/// Where what is remembered of files is kept, beside what each project remembers.
const MEMORIES: [&str; 6] = ["mounts", "host", "packages", "rootfs", "images", "unpacked"];

/// The files in [`MEMORIES`], relative to `store`.
fn memories(store: &Path) -> Vec<String> {
    let below = MEMORIES.iter().flat_map(|dir| walkdir::WalkDir::new(store.join(dir)).sort_by_file_name());
    let files = below.flatten().filter(|entry| entry.file_type().is_file());
    files.filter_map(|entry| entry.path().strip_prefix(store).ok()?.to_str().map(str::to_owned)).collect()
}

/// Removes a file, if it is there.
fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
