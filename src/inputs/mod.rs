//! What goes into a sandbox: the sorted manifest of a tree, and how it is collected, hashed and stored.

use crate::digest::Digest;

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

/// Told how far the hashing is; implementations must be cheap.
pub trait Progress: Sync {
    /// `files` inputs are known to exist so far.
    fn found(&self, files: u64);
    /// One more file was read, of `bytes` bytes.
    fn hashed(&self, bytes: u64);
    /// The work is over.
    fn finished(&self);
}

/// No one is watching.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Progress for Silent {
    fn found(&self, _: u64) {}
    fn hashed(&self, _: u64) {}
    fn finished(&self) {}
}
