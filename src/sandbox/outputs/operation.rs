//! The changes that a commit makes in the project, each to be done, done again after a crash, or undone.
//!
//! How far an operation got is read off the staging, which nobody else writes, never off the project.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use serde::{Deserialize, Serialize};

use super::OutputError;
use super::copy::hash;
use super::staging::{Directories, Slot, slot_name};
use crate::digest::Digest;
use crate::record::Output;
use crate::sys::beneath::{self, Kind};

/// One change in the project. Paths are relative to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) enum Operation {
    /// Make the directory.
    Directory { path: String },
    /// Move what stands there to `old/<number>`; with `expected` only if it still is that.
    Take { path: String, number: u64, expected: Option<Output> },
    /// Put a staged file or link there; what stood there goes where that came from.
    Put { path: String, slot: Slot },
    /// Remove the directory if it is empty now. This comes last and never fails, so it need not be undone.
    Prune { path: String },
}

impl Operation {
    fn path(&self) -> &str {
        match self {
            Self::Directory { path } | Self::Take { path, .. } | Self::Put { path, .. } | Self::Prune { path } => path,
        }
    }
}

/// The project, with the directory of the last change kept open: changes come sorted.
pub(super) struct Place<'a> {
    directories: &'a Directories,
    parent: Option<(String, OwnedFd)>,
}

impl<'a> Place<'a> {
    pub(super) fn new(directories: &'a Directories) -> Self {
        Self { directories, parent: None }
    }

    /// Makes the change, unless it is made already.
    pub(super) fn apply(&mut self, operation: &Operation) -> Result<(), OutputError> {
        let done = match operation {
            Operation::Directory { path } => self.make_directory(path),
            Operation::Take { path, number, expected } => self.take(path, *number, expected.as_ref()),
            Operation::Put { path, slot } => self.put(path, *slot),
            Operation::Prune { path } => {
                self.remove_if_empty(path);
                Ok(())
            }
        };
        done.map_err(|source| OutputError::Place { path: operation.path().to_owned(), source })
    }

    /// Takes the change back, if it was made. To be called in the opposite order.
    pub(super) fn undo(&mut self, operation: &Operation) -> Result<(), OutputError> {
        let undone = match operation {
            Operation::Directory { path } => {
                self.remove_if_empty(path);
                Ok(())
            }
            Operation::Take { path, number, .. } => self.bring_back(path, *number),
            Operation::Put { path, slot } => self.unput(path, *slot),
            Operation::Prune { .. } => Ok(()),
        };
        undone.map_err(|source| OutputError::Place { path: operation.path().to_owned(), source })
    }

    fn make_directory(&mut self, path: &str) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        match beneath::create_directory(parent, &name, 0o755) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    }

    fn remove_if_empty(&mut self, path: &str) {
        // Not empty, not there, not ours to remove: all are reasons to leave it.
        let _ = self.parent(path).and_then(|(parent, name)| beneath::remove_directory(parent, &name));
    }

    fn take(&mut self, path: &str, number: u64, expected: Option<&Output>) -> io::Result<()> {
        if self.is_taken(number)? || expected.is_some_and(|expected| !is_unchanged(&self.directories.project, expected))
        {
            return Ok(());
        }
        let old = &self.directories.old;
        let (parent, name) = self.parent(path)?;
        match beneath::rename(parent, &name, old, &slot_name(number)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn bring_back(&mut self, path: &str, number: u64) -> io::Result<()> {
        if !self.is_taken(number)? {
            return Ok(());
        }
        let old = &self.directories.old;
        let (parent, name) = self.parent(path)?;
        beneath::rename(old, &slot_name(number), parent, &name)
    }

    fn put(&mut self, path: &str, slot: Slot) -> io::Result<()> {
        if self.state(slot)? != State::Waiting {
            return Ok(());
        }
        let Directories { new, old, .. } = self.directories;
        let (parent, name) = self.parent(path)?;
        if beneath::status(parent, &name)?.is_some() {
            match beneath::exchange(new, &slot.name(), parent, &name) {
                // Some network file systems can't: then the place is empty for a moment.
                Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
                    beneath::rename(parent, &name, old, &slot.name())?;
                }
                other => return other,
            }
        }
        beneath::rename(new, &slot.name(), parent, &name)
    }

    fn unput(&mut self, path: &str, slot: Slot) -> io::Result<()> {
        let Directories { new, .. } = self.directories;
        match self.state(slot)? {
            State::Waiting => {}
            State::Exchanged => {
                let (parent, name) = self.parent(path)?;
                return beneath::exchange(new, &slot.name(), parent, &name);
            }
            State::Placed => {
                let (parent, name) = self.parent(path)?;
                beneath::rename(parent, &name, new, &slot.name())?;
            }
        }
        self.bring_back(path, slot.number)
    }

    fn state(&self, slot: Slot) -> io::Result<State> {
        Ok(match beneath::status(&self.directories.new, slot.name())? {
            None => State::Placed,
            Some(status) if status.inode == slot.inode => State::Waiting,
            Some(_) => State::Exchanged,
        })
    }

    fn is_taken(&self, number: u64) -> io::Result<bool> {
        Ok(beneath::status(&self.directories.old, slot_name(number))?.is_some())
    }

    /// The directory that `path` is in, and its name there.
    fn parent(&mut self, path: &str) -> io::Result<(BorrowedFd<'_>, OsString)> {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        if self.parent.as_ref().is_none_or(|(held, _)| held != directory) {
            let opened = beneath::hold_directory(&self.directories.project, directory)?;
            self.parent = Some((directory.to_owned(), opened));
        }
        let (_, held) = self.parent.as_ref().expect("opened above");
        Ok((held.as_fd(), OsString::from(name)))
    }
}

/// How far a [`Operation::Put`] got.
#[derive(Debug, PartialEq, Eq)]
enum State {
    /// It lies in `new`. (In `old` there may be what it is to replace, when the places can't be exchanged.)
    Waiting,
    /// In `new` lies what it replaced.
    Exchanged,
    /// In `new` lies nothing.
    Placed,
}

/// Whether the project still has `output` as it was recorded; what can't be read counts as changed.
pub(super) fn is_unchanged(project: &OwnedFd, output: &Output) -> bool {
    let compared = || -> io::Result<bool> {
        let Some(status) = beneath::status(project, &output.path)? else { return Ok(false) };
        match status.kind {
            Kind::File if output.kind == Output::FILE && status.is_executable() == output.executable => {
                let recorded: Option<Digest> = output.digest.as_ref().and_then(|digest| digest.parse().ok());
                let Some(recorded) = recorded.filter(|digest| digest.size == status.size) else { return Ok(false) };
                Ok(recorded == hash(beneath::open_file(project, &output.path)?)?)
            }
            Kind::Symlink if output.kind == Output::SYMLINK => {
                let (directory, name) = output.path.rsplit_once('/').unwrap_or(("", &output.path));
                let text = beneath::read_link(beneath::hold_directory(project, directory)?, OsStr::new(name))?;
                Ok(text.to_str().is_some() && text.to_str() == output.target.as_deref())
            }
            _ => Ok(false),
        }
    };
    compared().unwrap_or(false)
}
