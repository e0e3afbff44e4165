//! The store: blobs, materialised trees, the memory of each project, records.
//!
//! One directory of the user's own (`0700`). Everything is published by writing to `tmp/` and renaming, so that any
//! number of processes can use it at once and one that dies leaves nothing half made:
//!
//! ```text
//! version                 "1\n"
//! blobs/ab/<hex>          content by SHA-256, mode 0644; with `-x` mode 0755, with `-r` for root file systems;
//!                         with `.N` a further inode of equal content
//! trees/<hex>             a materialised input tree by root digest; beside it `<hex>.manifest`, what it shows, and
//!                         `<hex>.boot`, in which boot of the machine it was made or last looked through
//! roots/<hex>             the same for the file system outside of the project
//! deltas/<hex>-<hex>      what changes the first tree into the second one; the same two files beside it
//! projects/<key>/         the memo of a project's files, and the last trees made in full
//! mounts/<key>            the memo of the files of a tree of the host; `mounts/content/<key>`, `mounts/metadata/<key>`
//!                         what the whole tree was identified by, and what vouches for it
//! host/<how>/<key>        the same for what is shown of the host itself
//! packages/<key>          the digest of the list of the host's packages, and what vouches for it
//! rootfs/<key>            the memo of a root file system's files, or what an archive held
//! images/<hex>            what an image held, by the digest of its manifest
//! fetched/<hex>           that a blob was fetched, and its size
//! unpacked/<hex>          what a fetched archive held, by the archive's digest
//! actions/ab/<hex>        what an action came to, by the action's digest
//! leads/<hex>             locked by the run that computes the action
//! usage                   what was measured the last time it was collected, `added.N` what runs have added since
//! gc.lock                 held by the process that collects
//! removal.lock            held for the moment in which a layer loses its name
//! tmp/                    what is being written, and what is being removed
//! ```

use std::fs;
use std::io::{self, Write as _};
use std::num::NonZero;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};

use crate::digest::Digest;
use crate::sys;

pub mod actions;
mod blobs;
pub mod care;
mod copy;
mod delta;
pub(crate) mod frame;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod hold;
mod layer;
mod look;
pub mod past;
pub mod records;
mod trees;

pub use blobs::PutError;
pub(crate) use blobs::{Family, Variant, hash_file};
pub(crate) use copy::{CopyError, copy};
pub use hold::Held;
pub use trees::Layers;

/// The access and modification time of everything that a sandbox sees of the store: 1980-01-02 00:00:00 UTC, in seconds
/// since the epoch. The same as `SOURCE_DATE_EPOCH` inside; zip can't carry an earlier day.
pub const MTIME: i64 = 315_619_200;

/// The layout that this version writes and reads.
const VERSION: &str = "1\n";

/// A file or directory in `tmp/` that is this old was left by a process that died.
const TEMP_LIFE: Duration = Duration::from_hours(24);

/// What can stand in a store that is just being made.
const NAMES: [&str; 3] = ["projects", "tmp", "version"];

/// Why the store can't do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A system call failed.
    #[error("can't {doing} {}", path.display())]
    Io {
        /// What was being done, as a verb phrase.
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The directory belongs to somebody else.
    #[error("the store {} belongs to user {owner}, not to user {user}", path.display())]
    ForeignOwner {
        /// The store.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// The caller.
        user: u32,
    },
    /// The directory holds something else.
    #[error("{} is not empty and not a store of sbx", path.display())]
    NotAStore {
        /// The directory.
        path: PathBuf,
    },
    /// A store of another version.
    #[error("the store {} has version `{}`, this sbx knows version 1", path.display(), found.escape_debug())]
    Version {
        /// The store.
        path: PathBuf,
        /// What its version file says.
        found: String,
    },
    /// Blobs that should be there are not, or are damaged; hashing their sources again restores them.
    #[error("{} blobs are missing in the store or damaged", digests.len())]
    Missing {
        /// Their digests.
        digests: Vec<Digest>,
    },
}

impl StoreError {
    fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }
}

/// Stands for one project in the store: the SHA-256 of its configuration file's canonical path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectKey(String);

impl ProjectKey {
    /// The key for the configuration file at `config`, an absolute path without symbolic links (`fs::canonicalize`).
    pub fn new(config: &Path) -> Self {
        let hash = Sha256::digest(config.as_os_str().as_encoded_bytes()).into();
        Self(Digest { hash, size: 0 }.hex())
    }

    /// 64 lowercase hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An open store.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    swept: OnceLock<()>,
    jobs: Option<NonZero<usize>>,
    /// About what this process has added to it, in bytes.
    added: AtomicU64,
    /// The id of this boot.
    boot: OnceLock<Option<String>>,
}

impl Store {
    /// Opens the store at `dir` (an absolute path), making it when there is none.
    ///
    /// # Errors
    /// When the directory can't be made, belongs to another user, holds something else, or has another version.
    pub fn open(dir: PathBuf) -> Result<Self, StoreError> {
        make_private_dir(&dir)?;
        let metadata = fs::metadata(&dir).map_err(StoreError::io("look at", &dir))?;
        let user = sys::files::effective_uid();
        if metadata.uid() != user {
            return Err(StoreError::ForeignOwner { path: dir, owner: metadata.uid(), user });
        }
        let store = Self { dir, swept: OnceLock::new(), jobs: None, added: AtomicU64::new(0), boot: OnceLock::new() };
        match fs::read_to_string(store.dir.join("version")) {
            Ok(version) if version == VERSION => {}
            Ok(version) => return Err(StoreError::Version { path: store.dir, found: version }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => store.initialise()?,
            Err(error) => return Err(StoreError::io("read", &store.dir.join("version"))(error)),
        }
        if metadata.mode() & 0o077 != 0 {
            fs::set_permissions(&store.dir, fs::Permissions::from_mode(0o700))
                .map_err(StoreError::io("make private", &store.dir))?;
        }
        Ok(store)
    }

    /// The same store, into which at most so many threads hash at once; `None`: as many as there are processors.
    #[must_use]
    pub fn with_jobs(self, jobs: Option<NonZero<usize>>) -> Self {
        Self { jobs, ..self }
    }

    /// How many threads hash into it at most.
    pub(crate) fn jobs(&self) -> usize {
        self.jobs.or_else(|| thread::available_parallelism().ok()).map_or(1, NonZero::get)
    }

    /// The store's directory.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// The directory that keeps what is remembered about `project`; made when there is none.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn project_dir(&self, project: &ProjectKey) -> Result<PathBuf, StoreError> {
        let dir = self.project_path(project);
        make_private_dir(&dir)?;
        Ok(dir)
    }

    fn project_path(&self, project: &ProjectKey) -> PathBuf {
        self.dir.join("projects").join(project.as_str())
    }

    /// Where the memo of the files of `project` is kept.
    pub(crate) fn memo_path(&self, project: &ProjectKey) -> PathBuf {
        self.project_path(project).join("memo")
    }

    /// Where what is remembered about the host's `path` is kept, for the given purpose.
    pub(crate) fn memory_of(&self, purpose: &str, path: &Path) -> PathBuf {
        let memory = self.dir.join(purpose).join(ProjectKey::new(path).as_str());
        Self::note_use(&memory);
        memory
    }

    /// Forgets what is remembered about the files of `project`, so that all of them are hashed again.
    ///
    /// # Errors
    /// When the memo can't be removed.
    pub fn forget(&self, project: &ProjectKey) -> Result<(), StoreError> {
        let path = self.memo_path(project);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", &path)(error)),
            _ => Ok(()),
        }
    }

    /// Replaces the file at `path` (below the store) by one that holds the concatenation of `bytes`: all of it or
    /// nothing is ever seen.
    ///
    /// # Errors
    /// When the bytes can't be written; the old file stays then.
    pub fn replace(&self, path: &Path, bytes: &[&[u8]]) -> Result<(), StoreError> {
        let mut temp = self.temp_file()?;
        for bytes in bytes {
            temp.write_all(bytes).map_err(StoreError::io("write", temp.path()))?;
        }
        self.count(bytes.iter().map(|bytes| bytes.len() as u64).sum());
        publish(temp.into_temp_path(), path)
    }

    fn initialise(&self) -> Result<(), StoreError> {
        let entries = fs::read_dir(&self.dir).map_err(StoreError::io("list", &self.dir))?;
        for entry in entries {
            let entry = entry.map_err(StoreError::io("list", &self.dir))?;
            if !NAMES.iter().any(|name| entry.file_name() == *name) {
                // Another process may have made the store since, and be using it.
                if self.dir.join("version").exists() {
                    return Ok(());
                }
                return Err(StoreError::NotAStore { path: self.dir.clone() });
            }
        }
        self.replace(&self.dir.join("version"), &[VERSION.as_bytes()])?;
        self.begin_usage()
    }

    fn temp_file(&self) -> Result<tempfile::NamedTempFile, StoreError> {
        let dir = self.temp_dir()?;
        tempfile::NamedTempFile::new_in(&dir).map_err(StoreError::io("make a file in", &dir))
    }

    /// A directory for working data, removed with what is in it when it is dropped.
    pub(crate) fn working_directory(&self) -> Result<tempfile::TempDir, StoreError> {
        let dir = self.temp_dir()?;
        tempfile::tempdir_in(&dir).map_err(StoreError::io("make a directory in", &dir))
    }

    /// A file for working data that no name leads to: it ends with its last descriptor, whatever ends the process.
    pub(crate) fn file_without_name(&self) -> Result<fs::File, StoreError> {
        let dir = self.temp_dir()?;
        tempfile::tempfile_in(&dir).map_err(StoreError::io("make a file in", &dir))
    }

    /// `tmp/`, made when there is none; the first call of a process removes what dead processes left in it.
    pub(crate) fn temp_dir(&self) -> Result<PathBuf, StoreError> {
        let dir = self.dir.join("tmp");
        if self.swept.get().is_none() {
            make_private_dir(&dir)?;
            self.swept.get_or_init(|| sweep(&dir, SystemTime::now()));
        }
        Ok(dir)
    }
}

/// Removes what is older than [`TEMP_LIFE`] by its change time, which unlike the modification time nobody can set. What
/// can't be removed stays for the next time.
fn sweep(dir: &Path, now: SystemTime) {
    let Ok(now) = now.duration_since(SystemTime::UNIX_EPOCH) else { return };
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        let changed = Duration::from_secs(u64::try_from(metadata.ctime()).unwrap_or(0));
        if now.saturating_sub(changed) < TEMP_LIFE {
            continue;
        }
        let _left_for_the_next_time =
            if metadata.is_dir() { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) };
    }
}

/// Makes `dir` and its missing parents, readable by the caller alone.
fn make_private_dir(dir: &Path) -> Result<(), StoreError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(StoreError::io("make the directory", dir))
}

/// Renames `temp` to `path`, making the parent directory when it is missing.
fn publish(temp: tempfile::TempPath, path: &Path) -> Result<(), StoreError> {
    with_parent(path, temp, |temp| temp.persist(path))
}

/// The same when nothing is at `path`; otherwise gives `temp` back.
fn publish_new(temp: tempfile::TempPath, path: &Path) -> Result<Option<tempfile::TempPath>, StoreError> {
    with_parent(path, temp, |temp| match temp.persist_noclobber(path) {
        Ok(()) => Ok(None),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(Some(error.path)),
        Err(error) => Err(error),
    })
}

/// Runs `rename`; when the parent directory of `path` is missing, makes it and runs `rename` once more.
fn with_parent<T>(
    path: &Path,
    temp: tempfile::TempPath,
    rename: impl Fn(tempfile::TempPath) -> Result<T, tempfile::PathPersistError>,
) -> Result<T, StoreError> {
    let renamed = match (rename(temp), path.parent()) {
        (Err(error), Some(parent)) if error.error.kind() == io::ErrorKind::NotFound => {
            make_private_dir(parent)?;
            rename(error.path)
        }
        (renamed, _) => renamed,
    };
    renamed.map_err(|error| StoreError::io("write", path)(error.error))
}

#[cfg(test)]
mod tests;
