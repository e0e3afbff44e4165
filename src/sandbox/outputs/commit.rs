//! From the staging into the project: what is to change, decided while no other run changes it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use super::OutputError;
use super::copy::Found;
use super::journal::{self, Lock};
use super::operation::{Operation, is_unchanged};
use super::select::Selection;
use super::staging::{StagedEntry, Staging};
use crate::path::{RelPath, printable};
use crate::record::Output;
use crate::store::{PutError, Store};
use crate::sys::beneath::{self, Kind, Status};
use crate::sys::event::{Signals, signal};

/// Outputs that are complete in the staging and wait to be put in their places. Dropped, they never were.
#[derive(Debug)]
pub struct Staged(Option<Ready>);

#[derive(Debug)]
struct Ready {
    staging: Staging,
    selection: Selection,
    found: Found,
    last: Vec<Output>,
}

impl Staged {
    pub(super) fn nothing() -> Self {
        Self(None)
    }

    pub(super) fn new(staging: Staging, selection: Selection, found: Found, last: &[Output]) -> Self {
        Self(Some(Ready { staging, selection, found, last: last.to_vec() }))
    }

    /// What the command made, sorted by path.
    pub fn outputs(&self) -> Vec<Output> {
        let mut outputs: Vec<_> = self.0.iter().flat_map(|ready| ready.found.outputs().cloned()).collect();
        outputs.sort_by(|one, other| one.path.cmp(&other.path));
        outputs
    }

    /// Paths that the patterns select and the command left as they were, sorted.
    pub fn unchanged(&self) -> Vec<String> {
        let Some(ready) = &self.0 else { return Vec::new() };
        let made: HashSet<&str> = ready.found.outputs().map(|output| output.path.as_str()).collect();
        ready.found.present.iter().filter(|path| !made.contains(path.as_str())).cloned().collect()
    }

    /// Puts the content of every file that was made into `store`.
    ///
    /// # Errors
    /// When one can't be read or stored.
    pub(crate) fn store(&self, store: &Store) -> Result<(), PutError> {
        let Some(ready) = &self.0 else { return Ok(()) };
        for StagedEntry { output, slot } in &ready.found.staged {
            let digest = output.digest.as_ref().and_then(|digest| digest.parse().ok());
            let (Some(slot), Some(digest)) = (slot, digest) else { continue };
            let file = beneath::open_file(&ready.staging.directories.new, slot.name()).map_err(PutError::Read)?;
            store.put_known(&file, &digest, output.executable)?;
        }
        Ok(())
    }

    /// Puts everything in its place, replacing what is there, and removes what the last run made and this one did not.
    /// Returns what came back, sorted by path.
    ///
    /// # Errors
    /// When the project refuses one change; all changes made before are undone then.
    pub fn commit(self) -> Result<Vec<Output>, OutputError> {
        let Some(Ready { mut staging, selection, mut found, last }) = self.0 else { return Ok(Vec::new()) };
        let lock = Lock::take(&staging.journals)?;
        // It is short, and whoever interrupts it wants all of it or nothing: a signal has its effect when it is over.
        let _held_back = Signals::route(&[signal::HUP, signal::INT, signal::QUIT, signal::TERM]).ok();
        journal::complete_all(&staging.directories.project, &staging.project, &lock)?;
        let operations = plan(&staging, &selection, &last, &mut found)?;
        let entry = lock.write(&staging.run_id, &operations)?;
        let done = journal::carry_out(&staging.directories, &operations, &staging.path());
        // While there is a journal, the staging that it speaks of must stay as it is.
        staging.remove = !matches!(done, Err(OutputError::Undo { .. })) && entry.remove().is_ok();
        done?;
        let staged = found.staged.into_iter().map(|entry| entry.output);
        let mut outputs: Vec<_> = staged.chain(found.in_place).collect();
        outputs.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(outputs)
    }
}

/// What a commit will change, in this order. Sorts what was found by path.
pub(super) fn plan(
    staging: &Staging,
    selection: &Selection,
    last: &[Output],
    found: &mut Found,
) -> Result<Vec<Operation>, OutputError> {
    found.staged.sort_by(|one, other| one.output.path.cmp(&other.output.path));
    Planner::new(staging, selection, last).plan(found)
}

/// Decides the operations of one commit.
struct Planner<'a> {
    project: &'a OwnedFd,
    selection: &'a Selection,
    last: &'a [Output],
    /// The next free number in `old`.
    number: u64,
    operations: Vec<Operation>,
    /// Paths that an operation takes away.
    taken: HashSet<String>,
    /// Directories that stand (`true`), or will by an operation (`false`).
    directories: HashMap<String, bool>,
}

impl<'a> Planner<'a> {
    fn new(staging: &'a Staging, selection: &'a Selection, last: &'a [Output]) -> Self {
        Self {
            project: &staging.directories.project,
            selection,
            last,
            number: staging.slots,
            operations: Vec::new(),
            taken: HashSet::new(),
            directories: HashMap::from([(String::new(), true)]),
        }
    }

    fn plan(mut self, found: &Found) -> Result<Vec<Operation>, OutputError> {
        let emptied = self.take_stale(&found.present);
        for entry in &found.staged {
            self.place(entry)?;
        }
        self.operations.extend(emptied.into_iter().rev().map(|path| Operation::Prune { path }));
        Ok(self.operations)
    }

    /// Takes away what the last run made and this one did not, and returns the directories that may be empty then.
    fn take_stale(&mut self, present: &BTreeSet<String>) -> BTreeSet<String> {
        let mut emptied = BTreeSet::new();
        for output in self.last {
            let path = &output.path;
            let ours = RelPath::new(path).is_ok_and(|normal| normal.as_str() == path);
            if !ours || present.contains(path) || !self.selection.contains(path) {
                continue;
            }
            if output.kind == Output::DIRECTORY {
                emptied.insert(path.clone());
            } else if is_unchanged(self.project, output) {
                self.take(path, Some(output.clone()));
            } else {
                continue;
            }
            let above = std::iter::successors(parent(path), |path| parent(path));
            emptied.extend(above.filter(|path| self.selection.contains(path)).map(str::to_owned));
        }
        emptied
    }

    fn place(&mut self, entry: &StagedEntry) -> Result<(), OutputError> {
        let path = &entry.output.path;
        let Some(slot) = entry.slot else { return self.directory(path) };
        let parent = parent(path).unwrap_or_default();
        self.directory(parent)?;
        if self.directories[parent] && self.status(path)?.is_some_and(|status| status.kind == Kind::Directory) {
            self.check_replaceable(path)?;
        }
        self.operations.push(Operation::Put { path: path.clone(), slot });
        Ok(())
    }

    /// Sees to it that `path` and all above it are directories.
    fn directory(&mut self, path: &str) -> Result<(), OutputError> {
        // From the root down, in a loop: a path may have two thousand components.
        let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
        for (start, end) in std::iter::once(0).chain(ends.clone()).zip(ends) {
            let above = if start == 0 { "" } else { &path[..start] };
            self.one_directory(above, &path[..end])?;
        }
        Ok(())
    }

    fn one_directory(&mut self, above: &str, path: &str) -> Result<(), OutputError> {
        if self.directories.contains_key(path) {
            return Ok(());
        }
        let stands = self.directories[above] && {
            match self.status(path)?.map(|status| status.kind) {
                Some(Kind::Directory) => true,
                None => false,
                Some(Kind::Symlink) => return Err(OutputError::LinkedParent { path: path.to_owned() }),
                Some(_) if self.selection.contains(path) => {
                    self.take(path, None);
                    false
                }
                Some(_) => {
                    let source = io::ErrorKind::NotADirectory.into();
                    return Err(OutputError::Place { path: path.to_owned(), source });
                }
            }
        };
        if !stands {
            self.operations.push(Operation::Directory { path: path.to_owned() });
        }
        self.directories.insert(path.to_owned(), stands);
        Ok(())
    }

    fn take(&mut self, path: &str, expected: Option<Output>) {
        self.operations.push(Operation::Take { path: path.to_owned(), number: self.number, expected });
        self.number += 1;
        self.taken.insert(path.to_owned());
    }

    /// What stands at `path` in the project once the operations so far are done.
    fn status(&self, path: &str) -> Result<Option<Status>, OutputError> {
        if self.taken.contains(path) {
            return Ok(None);
        }
        beneath::status(self.project, path).map_err(|source| OutputError::Place { path: path.to_owned(), source })
    }

    /// A directory may hold the user's own files, so it is replaced only when the last run made all that it holds.
    fn check_replaceable(&self, path: &str) -> Result<(), OutputError> {
        let made: HashSet<&str> = self.last.iter().map(|output| output.path.as_str()).collect();
        let mut directories = vec![PathBuf::from(path)];
        while let Some(directory) = directories.pop() {
            let place_error =
                |source| OutputError::Place { path: printable(directory.as_os_str().as_encoded_bytes()), source };
            let opened = beneath::open_directory(self.project, &directory).map_err(place_error)?;
            for name in beneath::list(&opened).map_err(place_error)? {
                let below = directory.join(&name);
                let kind = beneath::status(&opened, &name).map_err(place_error)?.map(|status| status.kind);
                if kind == Some(Kind::Directory) {
                    directories.push(below);
                } else if !below.to_str().is_some_and(|below| made.contains(below)) {
                    let file = printable(below.as_os_str().as_encoded_bytes());
                    return Err(OutputError::Occupied { path: path.to_owned(), file });
                }
            }
        }
        Ok(())
    }
}

fn parent(path: &str) -> Option<&str> {
    path.rsplit_once('/').map(|(parent, _)| parent)
}
