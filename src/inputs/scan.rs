//! Everything below a directory of the host, whatever it is called: what a read-only mount or a root file system is made
//! of.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::fault::{Fault, Faults, InputError};
use super::hash::{self, Hashed, Item, Read, Source};
use super::look::{Looker, Seen};
use super::stamp::Memo;
use super::walk::{cause, relative, sorted};
use super::{Progress, open_root};
use crate::path::printable;
use crate::store::Store;

/// One path of a scanned tree.
pub(super) struct Scanned {
    /// Relative to the root; its own name when the root is a file itself.
    pub(super) path: OsString,
    pub(super) seen: Seen,
}

/// Everything at and below a path of the host, sorted component by component.
pub(super) struct Scan {
    pub(super) list: Vec<Scanned>,
    /// The directory to which the paths are relative.
    place: PathBuf,
}

impl Scan {
    /// Walks `root` (an absolute path without symbolic links), a directory or a single file.
    pub(super) fn new(root: &Path, progress: &dyn Progress) -> Result<Self, InputError> {
        let is_dir =
            std::fs::metadata(root).map_err(|source| InputError::Root { path: root.to_owned(), source })?.is_dir();
        let place = if is_dir { root } else { root.parent().unwrap_or(root) }.to_owned();
        let (mut list, mut faults, mut looker) = (Vec::new(), Faults::default(), Looker::default());
        for step in sorted(root) {
            let scanned = match step {
                Ok(entry) if entry.depth() == 0 && is_dir => continue,
                Ok(entry) => {
                    let path = relative(&place, entry.path());
                    looker
                        .look(&entry)
                        .map(|seen| list.push(Scanned { path: OsStr::from_bytes(path).to_owned(), seen }))
                        .map_err(|source| (printable(path), source))
                }
                Err(error) => {
                    let path = error.path().map_or_else(String::new, |path| printable(relative(&place, path)));
                    Err((path, cause(error)))
                }
            };
            if let Err((path, source)) = scanned {
                faults.push(Fault::Unreadable { path, source });
            }
        }
        progress.found(list.len() as u64);
        faults.into_result()?;
        Ok(Self { list, place })
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
                Seen::File { stamp, executable } => Some(Item { path: &scanned.path, stamp, executable }),
                _ => None,
            })
            .collect();
        hash::hash_unknown(Source { root: &root, read, progress }, &items, memo, store)
    }
}
