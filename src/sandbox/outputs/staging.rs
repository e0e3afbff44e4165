//! The staging directory: where outputs wait, complete, until they are put in their places.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{OutputError, Request};
use crate::path::STAGING_PREFIX;
use crate::record::Output;
use crate::sys::beneath;

/// The suffix of the file whose lock says that a staging is in use.
pub(super) const MARKER: &str = "staging";

/// A staged file or link: its name in `new` is the number, and while it has not been put in its place, that name has
/// this inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Slot {
    pub(super) number: u64,
    pub(super) inode: u64,
}

impl Slot {
    pub(super) fn name(self) -> OsString {
        slot_name(self.number)
    }
}

pub(super) fn slot_name(number: u64) -> OsString {
    OsString::from(number.to_string())
}

/// One output that waits in the staging; an empty directory needs no slot.
#[derive(Debug)]
pub(super) struct StagedEntry {
    pub(super) output: Output,
    pub(super) slot: Option<Slot>,
}

/// `.sbx-outputs-<run id>` in the project: `new` holds what is to come, `old` what had to make way. Dropping it removes
/// it.
#[derive(Debug)]
pub(super) struct Staging {
    pub(super) directories: Directories,
    pub(super) project: PathBuf,
    pub(super) journals: PathBuf,
    pub(super) run_id: String,
    pub(super) slots: u64,
    /// Cleared when a failed commit could not be undone: what the user had is still in there.
    pub(super) remove: bool,
    marker: Marker,
}

/// The directories that a commit works on, held open.
#[derive(Debug)]
pub(super) struct Directories {
    pub(super) project: OwnedFd,
    pub(super) new: OwnedFd,
    pub(super) old: OwnedFd,
}

fn make_directories(project: OwnedFd, staging: &OsStr) -> io::Result<Directories> {
    beneath::create_directory(&project, staging, 0o700)?;
    let made = beneath::open_directory(&project, staging)?;
    beneath::create_directory(&made, OsStr::new("new"), 0o700)?;
    beneath::create_directory(&made, OsStr::new("old"), 0o700)?;
    Directories::open(project, staging)
}

impl Directories {
    pub(super) fn open(project: OwnedFd, staging: &OsStr) -> io::Result<Self> {
        let below = |name| beneath::open_directory(&project, Path::new(staging).join(name));
        let (new, old) = (below("new")?, below("old")?);
        Ok(Self { project, new, old })
    }
}

impl Staging {
    pub(super) fn create(request: &Request<'_>) -> Result<Self, OutputError> {
        let project = open_project(request.project)?;
        let marker = Marker::create(request.journals, request.run_id)?;
        let name = staging_name(request.run_id);
        match make_directories(project, &name) {
            Ok(directories) => Ok(Self {
                directories,
                project: request.project.to_owned(),
                journals: request.journals.to_owned(),
                run_id: request.run_id.to_owned(),
                slots: 0,
                remove: true,
                marker,
            }),
            Err(source) => {
                marker.remove();
                Err(OutputError::Own { path: request.project.join(name), source })
            }
        }
    }

    pub(super) fn create_file(&mut self) -> Result<(Slot, File), OutputError> {
        let made = beneath::create_file(&self.directories.new, &slot_name(self.slots));
        let made = made.and_then(|file| Ok((file.metadata()?.ino(), file)));
        let (inode, file) = made.map_err(|source| self.error(source))?;
        Ok((self.next_slot(inode), file))
    }

    pub(super) fn create_link(&mut self, text: &str) -> Result<Slot, OutputError> {
        let name = slot_name(self.slots);
        let made = beneath::create_link(OsStr::new(text), &self.directories.new, &name);
        let status = made.and_then(|()| beneath::status(&self.directories.new, &name));
        let status = status.and_then(|status| status.ok_or_else(|| io::ErrorKind::NotFound.into()));
        let inode = status.map_err(|source| self.error(source))?.inode;
        Ok(self.next_slot(inode))
    }

    pub(super) fn path(&self) -> PathBuf {
        self.project.join(staging_name(&self.run_id))
    }

    fn next_slot(&mut self, inode: u64) -> Slot {
        let slot = Slot { number: self.slots, inode };
        self.slots += 1;
        slot
    }

    fn error(&self, source: io::Error) -> OutputError {
        OutputError::Own { path: self.path(), source }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Should this fail, the marker stays, and the next run's sweep tries again and reports it.
        if self.remove && beneath::remove_tree(&self.directories.project, &staging_name(&self.run_id)).is_ok() {
            self.marker.remove();
        }
    }
}

pub(super) fn staging_name(run_id: &str) -> OsString {
    OsString::from(format!("{STAGING_PREFIX}{run_id}"))
}

/// The project's root; its own path may lead through links, what is below may not.
pub(super) fn open_project(project: &Path) -> Result<OwnedFd, OutputError> {
    match File::open(project) {
        Ok(root) => Ok(root.into()),
        Err(source) => Err(OutputError::Own { path: project.to_owned(), source }),
    }
}

/// An empty file in the store, locked for as long as the staging of the same run id is in use.
#[derive(Debug)]
pub(super) struct Marker {
    path: PathBuf,
    /// Held for its lock.
    _locked: File,
}

impl Marker {
    fn create(journals: &Path, run_id: &str) -> Result<Self, OutputError> {
        let path = journals.join(format!("{run_id}.{MARKER}"));
        let made = DirBuilder::new().recursive(true).mode(0o700).create(journals).and_then(|()| create_locked(&path));
        match made {
            Ok(locked) => Ok(Self { path, _locked: locked }),
            Err(source) => Err(OutputError::Own { path, source }),
        }
    }

    /// Takes over the marker of a dead sbx; `None` when its owner lives, or has just removed it.
    pub(super) fn inherit(path: PathBuf) -> Result<Option<Self>, OutputError> {
        let taken = File::open(&path).and_then(|file| match file.try_lock() {
            Ok(()) => Ok((file.metadata()?.nlink() > 0).then_some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        });
        match taken {
            Ok(taken) => Ok(taken.map(|locked| Self { path, _locked: locked })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(OutputError::Own { path, source }),
        }
    }

    pub(super) fn remove(&self) {
        // A marker that stays costs the next run one look.
        let _ = fs::remove_file(&self.path);
    }
}

fn create_locked(path: &Path) -> io::Result<File> {
    loop {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.lock()?;
        // Between the two calls another sbx may have taken it for a leftover and removed it.
        if file.metadata()?.nlink() > 0 {
            return Ok(file);
        }
    }
}
