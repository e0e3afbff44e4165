//! What a commit is about to do, written down before it does it.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::OutputError;
use super::operation::{Operation, Place};
use super::staging::{Directories, MARKER, Marker, open_project, staging_name};
use crate::sys::beneath;

const VERSION: u32 = 1;
const SUFFIX: &str = "json";

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Journal {
    version: u32,
    operations: Vec<Operation>,
}

/// Only to learn the version of what may have any other form.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// The right to change the project's outputs, shared by all runs of the project. A journal that is found while it is
/// held is that of a dead sbx.
#[derive(Debug)]
pub(super) struct Lock {
    journals: PathBuf,
    /// Held for its lock.
    _locked: File,
}

impl Lock {
    pub(super) fn take(journals: &Path) -> Result<Self, OutputError> {
        let path = journals.join("lock");
        let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        match opened.and_then(|file| file.lock().map(|()| file)) {
            Ok(locked) => Ok(Self { journals: journals.to_owned(), _locked: locked }),
            Err(source) => Err(OutputError::Own { path, source }),
        }
    }

    pub(super) fn write(&self, run_id: &str, operations: &[Operation]) -> Result<Entry, OutputError> {
        let path = self.journals.join(format!("{run_id}.{SUFFIX}"));
        let journal = Journal { version: VERSION, operations: operations.to_vec() };
        let written = tempfile::NamedTempFile::new_in(&self.journals).and_then(|mut file| {
            serde_json::to_writer(io::BufWriter::new(&mut file), &journal)?;
            Ok(file.persist(&path)?)
        });
        match written {
            Ok(_) => Ok(Entry { path }),
            Err(source) => Err(OutputError::Own { path, source }),
        }
    }

    /// The run ids of the files with this suffix.
    fn run_ids(&self, suffix: &str) -> Result<Vec<String>, OutputError> {
        run_ids(&self.journals, suffix)
    }
}

fn run_ids(journals: &Path, suffix: &str) -> Result<Vec<String>, OutputError> {
    let own = |source| OutputError::Own { path: journals.to_owned(), source };
    let entries = match fs::read_dir(journals) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(own)?,
    };
    let mut ids = Vec::new();
    for entry in entries {
        let path = PathBuf::from(entry.map_err(own)?.file_name());
        if path.extension() == Some(OsStr::new(suffix)) {
            ids.extend(path.file_stem().and_then(OsStr::to_str).map(str::to_owned));
        }
    }
    ids.sort_unstable();
    Ok(ids)
}

/// A journal in the store.
#[derive(Debug)]
pub(super) struct Entry {
    path: PathBuf,
}

impl Entry {
    pub(super) fn remove(self) -> Result<(), OutputError> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(|source| OutputError::Own { path: self.path, source }),
        }
    }

    /// `None` when it is damaged: an sbx that was killed leaves it whole or not at all, so the machine has failed.
    fn read(&self) -> Result<Option<Vec<Operation>>, OutputError> {
        let text = fs::read(&self.path).map_err(|source| OutputError::Own { path: self.path.clone(), source })?;
        match serde_json::from_slice::<Version>(&text) {
            Ok(Version { version: VERSION }) => {}
            Ok(Version { version }) => return Err(OutputError::Version { path: self.path.clone(), version }),
            Err(_) => return Ok(None),
        }
        Ok(serde_json::from_slice::<Journal>(&text).ok().map(|journal| journal.operations))
    }
}

/// Makes all changes, or, when one fails, none.
pub(super) fn carry_out(
    directories: &Directories,
    operations: &[Operation],
    staging: &Path,
) -> Result<(), OutputError> {
    let mut place = Place::new(directories);
    let Err(commit) = operations.iter().try_for_each(|operation| place.apply(operation)) else { return Ok(()) };
    match operations.iter().rev().try_for_each(|operation| place.undo(operation)) {
        Ok(()) => Err(commit),
        Err(undo) => {
            let (commit, undo) = (Box::new(commit), Box::new(undo));
            Err(OutputError::Undo { staging: staging.to_owned(), commit, undo })
        }
    }
}

/// Completes every commit of this project that was interrupted.
pub(super) fn complete_all(project: &OwnedFd, root: &Path, lock: &Lock) -> Result<(), OutputError> {
    for run_id in lock.run_ids(SUFFIX)? {
        let entry = Entry { path: lock.journals.join(format!("{run_id}.{SUFFIX}")) };
        if let Some(operations) = entry.read()? {
            let completed = complete(project, root, &run_id, &operations);
            if matches!(completed, Err(OutputError::Undo { .. })) {
                return completed;
            }
            entry.remove()?;
            completed?;
        } else {
            entry.remove()?;
        }
    }
    Ok(())
}

fn complete(project: &OwnedFd, root: &Path, run_id: &str, operations: &[Operation]) -> Result<(), OutputError> {
    let name = staging_name(run_id);
    let path = root.join(&name);
    let opened = project.try_clone().and_then(|project| Directories::open(project, &name));
    match opened {
        // Somebody has removed the staging, and with it what there was to do.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(OutputError::Own { path, source }),
        Ok(directories) => carry_out(&directories, operations, &path),
    }
}

/// Finishes what killed runs left in `project`: completes commits that had begun, removes other stagings. Stagings of
/// living runs are left alone. To be called before a run; without leftovers it looks into one directory.
///
/// # Errors
/// When a commit can't be completed (it is undone then, and the next call succeeds), or leftovers can't be removed.
pub fn recover(project: &Path, journals: &Path) -> Result<(), OutputError> {
    if run_ids(journals, SUFFIX)?.is_empty() && run_ids(journals, MARKER)?.is_empty() {
        return Ok(());
    }
    let root = open_project(project)?;
    let lock = Lock::take(journals)?;
    complete_all(&root, project, &lock)?;
    for run_id in lock.run_ids(MARKER)? {
        let Some(marker) = Marker::inherit(journals.join(format!("{run_id}.{MARKER}")))? else { continue };
        beneath::remove_tree(&root, &staging_name(&run_id)).map_err(OutputError::Sweep)?;
        marker.remove();
    }
    Ok(())
}
