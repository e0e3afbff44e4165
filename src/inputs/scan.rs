//! Everything below a directory of the host, whatever it is called: what a read-only mount or a root file system is made
//! of.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use super::fault::{Fault, Faults, InputError};
use super::hash::{self, Hashed, Item, Read, Source};
use super::look::{Looker, Seen};
use super::stamp::{Memo, Stamp};
use super::vouch::{Look, Vouchers, denied};
use super::walk::{cause, relative, sorted};
use super::{Progress, open_root};
use crate::path::printable;
use crate::store::Store;
use crate::sys::files::{open_no_follow, status};

/// One path of a scanned tree.
pub(super) struct Scanned {
    /// Relative to the root; its own name when the root is a file itself.
    pub(super) path: OsString,
    pub(super) seen: Seen,
}

/// What a path is that the caller may not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// A fault.
    Fault,
    /// One of the tree's properties: the command could not read it either.
    Noted,
}

/// Everything at and below a path of the host, sorted component by component.
pub(super) struct Scan {
    pub(super) list: Vec<Scanned>,
    /// The directory to which the paths are relative.
    place: PathBuf,
    /// The root's own stamp, when it is a directory.
    root: Option<Stamp>,
}

impl Scan {
    /// Walks `root` (an absolute path without symbolic links), a directory or a single file.
    pub(super) fn new(root: &Path, unreadable: Unreadable, progress: &dyn Progress) -> Result<Self, InputError> {
        let bad_root = |source| InputError::Root { path: root.to_owned(), source };
        let is_dir = std::fs::metadata(root).map_err(bad_root)?.is_dir();
        let stamp = if is_dir {
            let opened = open_root(root)?;
            Some(Stamp::of(&status(&opened).map_err(bad_root)?))
        } else {
            None
        };
        let place = if is_dir { root } else { root.parent().unwrap_or(root) }.to_owned();
        let (mut list, mut faults, mut looker) = (Vec::new(), Faults::default(), Looker::new(&place));
        for step in sorted(root) {
            let scanned = match step {
                Ok(entry) if entry.depth() == 0 && is_dir => continue,
                Ok(entry) => {
                    let path = relative(&place, entry.path());
                    let seen = match looker.look(path) {
                        Ok(Seen::File { public: false, .. }) if unreadable == Unreadable::Noted => {
                            match open_no_follow(entry.path()) {
                                Err(error) if denied(&error) => Ok(Seen::Unreadable),
                                _ => looker.look(path),
                            }
                        }
                        seen => seen,
                    };
                    seen.map_err(|source| (path.to_owned(), source)).map(|seen| (path.to_owned(), seen))
                }
                Err(error) => {
                    let path = error.path().map_or_else(Vec::new, |path| relative(&place, path).to_owned());
                    Err((path, cause(error)))
                }
            };
            let (path, seen) = match scanned {
                Ok(scanned) => scanned,
                Err((path, source)) if unreadable == Unreadable::Noted && denied(&source) => (path, Seen::Unreadable),
                Err((path, source)) => {
                    faults.push(Fault::Unreadable { path: printable(&path), source });
                    continue;
                }
            };
            list.push(Scanned { path: OsString::from_vec(path), seen });
        }
        progress.found(list.len() as u64);
        faults.into_result()?;
        Ok(Self { list, place, root: stamp })
    }

    /// How many bytes its files have.
    pub(super) fn size(&self) -> u64 {
        let size = |scanned: &Scanned| if let Seen::File { stamp, .. } = scanned.seen { stamp.size } else { 0 };
        self.list.iter().map(size).fold(0, u64::saturating_add)
    }

    /// Everything that has to stay as it is for the tree to be the same, relative to [`Scan::place_of`] its root.
    pub(super) fn vouchers(&self) -> Vouchers {
        let mut vouchers = Vouchers::default();
        if let Some(stamp) = self.root {
            vouchers.add(b"", Look::Stamp(stamp));
        }
        for Scanned { path, seen } in &self.list {
            match seen {
                Seen::File { stamp, .. } | Seen::Directory { stamp } => {
                    vouchers.add(path.as_bytes(), Look::Stamp(*stamp));
                }
                Seen::Unreadable => vouchers.add(path.as_bytes(), Look::Unreadable),
                Seen::Symlink { .. } | Seen::Special(_) => {}
            }
        }
        vouchers
    }

    /// The digests of the files among the list, in its order; `read` is given those that `memo` does not know.
    pub(super) fn hash(
        &self,
        memo: &Memo,
        store: &Store,
        read: Read<'_>,
        progress: &dyn Progress,
    ) -> Result<Hashed, InputError> {
        let root: File = open_root(&self.place)?;
        let items: Vec<_> = self
            .list
            .iter()
            .filter_map(|scanned| match scanned.seen {
                Seen::File { stamp, executable, .. } => Some(Item { path: &scanned.path, stamp, executable }),
                _ => None,
            })
            .collect();
        hash::hash_unknown(Source { root: &root, read, progress }, &items, memo, store)
    }
}
