//! What goes into a sandbox: the sorted manifest of a tree, and how it is collected, hashed and stored.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use crate::config::model::Settings;
use crate::digest::Digest;
use crate::path::GuestPath;
use crate::store::{Family, Layers, ProjectKey, Store, StoreError, Variant};
use crate::sys;

mod archive;
mod compare;
mod encoding;
mod fault;
mod fetch;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod gitignore;
mod hash;
pub mod host;
pub mod identity;
mod ignored;
mod image;
mod look;
mod looks;
pub mod packages;
mod patterns;
pub mod rootfs;
mod scan;
mod stamp;
mod tree;
mod vouch;
mod walk;
mod zip;

use hash::{Hashed, Item, Source};
use looks::Kind;
use stamp::Memo;

pub use compare::Unlike;
pub use fault::{Fault, Faults, InputError};
pub use fetch::{FetchError, Place, Proxies};
pub use patterns::{BadPattern, Patterns, Verdict};

/// One path of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// `/`-separated, relative to the tree's root, UTF-8, normalised.
    pub path: String,
    /// What stands there.
    pub node: Node,
}

/// What stands at a path. Everything else (devices, sockets, FIFOs) has no place in a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A regular file; mode 0755 when executable, else 0644.
    File {
        /// Its content.
        digest: Digest,
        /// Whether its owner may execute it.
        executable: bool,
    },
    /// A symbolic link.
    Symlink {
        /// Its text, unresolved.
        target: String,
    },
    /// A directory without entries (directories with entries follow from their entries' paths).
    EmptyDirectory,
}

/// Every entry of a tree, sorted by path compared component by component, bytewise, without duplicates.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Manifest {
    /// The entries.
    pub entries: Vec<Entry>,
}

impl Manifest {
    /// Whether something stands at `path`: an entry, or a directory above one.
    pub fn has(&self, path: &str) -> bool {
        self.find(path).is_some()
    }

    /// Puts `above`, sorted, in the place of what stands there: a file hides a file or a whole directory, a directory's
    /// entries join those that it has.
    pub(crate) fn lay_over(&mut self, above: &[Entry]) {
        if above.is_empty() {
            return;
        }
        let leaves: BTreeMap<&str, &Node> = above.iter().map(|entry| (entry.path.as_str(), &entry.node)).collect();
        let hides = |path: &str| leaves.get(path).is_some_and(|node| **node != Node::EmptyDirectory);
        self.entries.retain(|entry| {
            let path = entry.path.as_str();
            let below = format!("{path}/");
            let is_under = leaves.range(below.as_str()..).next().is_some_and(|(leaf, _)| leaf.starts_with(&below));
            let mut and_above = std::iter::successors(Some(path), |path| path.rsplit_once('/').map(|(above, _)| above));
            !is_under && !leaves.contains_key(path) && !and_above.any(hides)
        });
        let under: Vec<_> = above
            .iter()
            .filter(|entry| entry.node != Node::EmptyDirectory || self.find(&entry.path).is_none())
            .cloned()
            .collect();
        self.entries.extend(under);
        self.entries.sort_by(|one, other| path_order(&one.path, &other.path));
    }

    /// The entry at `path`, or the first one below it.
    fn find(&self, path: &str) -> Option<&Entry> {
        let place = self.entries.partition_point(|entry| path_order(&entry.path, path).is_lt());
        self.entries
            .get(place)
            .filter(|entry| entry.path.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    }
}

/// Told how far the work is; implementations must be cheap.
pub trait Progress: Sync {
    /// `files` inputs are known to exist so far.
    fn found(&self, files: u64);
    /// One more file was read, of `bytes` bytes.
    fn hashed(&self, bytes: u64);
    /// The hashing is over.
    fn finished(&self);
    /// `done` bytes of what is fetched from `url` are here, of `size` when that is known.
    fn fetching(&self, url: &str, done: u64, size: Option<u64>);
    /// All of it is here, `size` bytes.
    fn fetched(&self, url: &str, size: u64);
    /// Something went wrong that may come right.
    fn told(&self, message: &str);
}

/// No one is watching.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Progress for Silent {
    fn found(&self, _: u64) {}
    fn hashed(&self, _: u64) {}
    fn finished(&self) {}
    fn fetching(&self, _: &str, _: u64, _: Option<u64>) {}
    fn fetched(&self, _: &str, _: u64) {}
    fn told(&self, _: &str) {}
}

/// How paths are ordered in a [`Manifest`]: component by component, bytewise.
pub fn path_order(one: &str, other: &str) -> Ordering {
    one.split('/').cmp(other.split('/'))
}

/// The inputs of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collected {
    /// What they are; every file's content is in the store.
    pub manifest: Manifest,
    /// How many files had to be read.
    pub hashed: u64,
}

/// Finds the inputs that `settings` select below `root` (an absolute path without symbolic links), and puts into the
/// store what it does not know yet.
///
/// # Errors
/// Every path and pattern that can't be used, all in one error; or that the store can't be written.
pub fn collect(
    root: &Path,
    settings: &Settings,
    store: &Store,
    project: &ProjectKey,
    progress: &dyn Progress,
) -> Result<Collected, InputError> {
    let collected = gather(root, settings, store, project, progress);
    progress.finished();
    collected
}

fn gather(
    root: &Path,
    settings: &Settings,
    store: &Store,
    project: &ProjectKey,
    progress: &dyn Progress,
) -> Result<Collected, InputError> {
    if settings.inputs.is_empty() {
        return Ok(Collected { manifest: Manifest::default(), hashed: 0 });
    }
    let patterns = patterns::Patterns::new(&settings.inputs)?;
    let opened = open_root(root)?;
    let memo = Memo::read(store.memo_path(project));
    let found = walk::walk(root, &patterns, settings.gitignore, store.jobs(), progress)?;
    let items: Vec<_> = found
        .iter()
        .filter_map(|found| match found.kind {
            Kind::File { stamp, executable } => Some(Item { path: found.path.as_ref(), stamp, executable }),
            _ => None,
        })
        .collect();
    let read = |item: &Item<'_>, file: &mut File, buffer: &mut Vec<u8>| {
        store.put_file(file, Variant { executable: item.executable, family: Family::Inputs }, buffer)
    };
    let Hashed { digests, read } =
        hash::hash_unknown(Source { root: &opened, read: &read, progress }, &items, &memo, store)?;
    let mut digests = digests.into_iter();
    let entries = found
        .into_iter()
        .map(|found| {
            let node = match found.kind {
                Kind::File { executable, .. } => {
                    Node::File { digest: digests.next().expect("one for each file"), executable }
                }
                Kind::Symlink { target } => Node::Symlink { target },
                Kind::EmptyDirectory => Node::EmptyDirectory,
            };
            Entry { path: found.path, node }
        })
        .collect();
    Ok(Collected { manifest: Manifest { entries }, hashed: read })
}

fn open_root(root: &Path) -> Result<File, InputError> {
    sys::files::open_place(sys::files::CWD, root).map_err(|source| InputError::Root { path: root.to_owned(), source })
}

/// How often blobs that the store lost are stored again.
const ATTEMPTS: u32 = 3;

/// Where the inputs come from.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// The project's directory, an absolute path without symbolic links.
    pub root: &'a Path,
    /// What is wanted of it and of elsewhere.
    pub settings: &'a Settings,
    /// How elsewhere is reached.
    pub proxies: &'a Proxies,
    /// What other tasks made, sorted; it stands in the place of what the project has there.
    pub fed: &'a [Entry],
}

/// [`collect`] and what is fetched, then the tree with the inputs at `workdir` as overlay layers. When the store has lost
/// a blob that its memory vouched for, everything is hashed and unpacked once more.
///
/// # Errors
/// Those of [`collect`] and of [`Store::materialise`]; and when something can't be fetched, unpacked, or put at its place.
pub fn prepare(
    sources: Sources<'_>,
    store: &Store,
    project: &ProjectKey,
    progress: &dyn Progress,
) -> Result<(Collected, Layers), InputError> {
    let Sources { root, settings, proxies, fed } = sources;
    let workdir: &GuestPath = &settings.sandbox.workdir;
    let all = || {
        let mut collected = collect(root, settings, store, project, progress)?;
        fetch::add(&mut collected.manifest, &settings.fetches, proxies, store, progress)?;
        collected.manifest.lay_over(fed);
        Ok::<_, InputError>(collected)
    };
    let mut attempts = 0;
    loop {
        let collected = all()?;
        match store.materialise(&collected.manifest, Some(workdir), Some(project)) {
            // The store lost what its memory vouches for. `gc` can take a blob a second time, between our look at it and
            // the link, but not what was stored again meanwhile.
            Err(StoreError::Missing { .. }) if attempts < ATTEMPTS => attempts += 1,
            layers => return Ok((collected, layers?)),
        }
        store.forget(project)?;
        fetch::forget(&settings.fetches, store)?;
    }
}

#[cfg(test)]
mod tests;
