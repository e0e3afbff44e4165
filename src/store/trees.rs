//! Materialised trees: full ones by root digest, small deltas over a project's last full one.

use std::fs;
use std::path::{Path, PathBuf};

use super::blobs::Family;
use super::delta::{Change, Delta};
use super::frame::read_frame;
use super::layer::{Layer, Occurrences, Whiteout, occurrences};
use super::{ProjectKey, Store, StoreError};
use crate::digest::{Digest, parse_hex};
use crate::inputs::Manifest;
use crate::path::GuestPath;

/// Overlayfs lower directories that together show a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layers {
    /// Relative to the store's directory, topmost first; only characters of `[0-9a-z/-]`, so that mount options need no
    /// escapes.
    pub lower: Vec<String>,
    /// The root digest of the tree that they show.
    pub root: Digest,
}

/// Below this many entries a full tree costs no more than a delta.
const DELTA_FROM: usize = 128;

/// A delta may have one entry for so many of the full tree.
const DELTA_SHARE: usize = 8;

const MANIFEST: &[u8; 8] = b"sbxtree1";

impl Store {
    /// Makes the tree of `manifest` stand in the store, at `prefix` when there is one.
    ///
    /// With a `prefix` the tree is a project's inputs; without one it is a root file system, which is kept apart: a file
    /// of the one is never the same inode as a file of the other, whatever their contents. When the `project`'s last full
    /// tree differs in few entries, only these are written, as a layer to be laid over that tree; the layers together
    /// show exactly what the full tree would, unless a layer further down has something at `prefix` too.
    ///
    /// # Errors
    /// [`StoreError::Missing`] when blobs are not there or visibly damaged; else when the tree can't be written.
    pub fn materialise(
        &self,
        manifest: &Manifest,
        prefix: Option<&GuestPath>,
        project: Option<&ProjectKey>,
    ) -> Result<Layers, StoreError> {
        let top = GuestPath::new("/").expect("a constant path");
        let (family, at) = match prefix {
            Some(prefix) => (Family::Inputs, prefix),
            None => (Family::RootFs, &top),
        };
        let root = manifest.root_digest_at(at);
        let tree = Tree { family, at, hex: root.hex() };
        let base = project.map(|project| self.project_path(project).join("base"));
        if !self.has(&tree.layer()) {
            if let Some(lower) = self.over_base(manifest, &tree, base.as_deref())? {
                return Ok(Layers { lower, root });
            }
            self.make_full(manifest, &tree)?;
        }
        if let Some(base) = base {
            self.remember_base(&base, &tree)?;
        }
        Ok(Layers { lower: vec![tree.layer()], root })
    }

    /// The delta over the project's last full tree; `None` when there is no such tree or a full one is better.
    fn over_base(
        &self,
        manifest: &Manifest,
        tree: &Tree<'_>,
        base: Option<&Path>,
    ) -> Result<Option<Vec<String>>, StoreError> {
        let Some(base) = base.and_then(|base| Tree::parse(&fs::read_to_string(base).ok()?, tree)) else {
            return Ok(None);
        };
        let layer = format!("deltas/{}-{}", base.hex, tree.hex);
        let lower = vec![layer.clone(), base.layer()];
        if !self.has(&base.layer()) {
            return Ok(None);
        }
        if self.has(&layer) {
            return Ok(Some(lower));
        }
        let Some(old) = read_frame(&self.manifest_path(&base), MANIFEST).and_then(|body| Manifest::decode(&body))
        else {
            return Ok(None);
        };
        if old.entries.len() < DELTA_FROM {
            return Ok(None);
        }
        let Some(delta) = Delta::between(&old, manifest, old.entries.len() / DELTA_SHARE) else { return Ok(None) };
        match self.make_delta(&old, &delta, tree, &layer)? {
            Whiteout::Made => Ok(Some(lower)),
            Whiteout::Refused => Ok(None),
        }
    }

    fn make_full(&self, manifest: &Manifest, tree: &Tree<'_>) -> Result<(), StoreError> {
        let mut layer = Layer::new(self, tree.at, tree.family, Occurrences::new())?;
        for entry in &manifest.entries {
            layer.put(entry)?;
        }
        // Before the tree: a tree always has its manifest.
        self.write_frame(&self.manifest_path(tree), MANIFEST, &manifest.encode())?;
        layer.publish(&self.dir.join(tree.layer()))
    }

    fn make_delta(
        &self,
        old: &Manifest,
        delta: &Delta<'_>,
        tree: &Tree<'_>,
        target: &str,
    ) -> Result<Whiteout, StoreError> {
        // Inodes that the tree below uses are not used again, or two files of the whole could be the same one.
        let mut layer = Layer::new(self, tree.at, tree.family, occurrences(&old.entries))?;
        for change in delta.in_order() {
            match change {
                Change::Put(entry) => layer.put(entry)?,
                Change::Gone(path) => {
                    if layer.hide(path)? == Whiteout::Refused {
                        return Ok(Whiteout::Refused);
                    }
                }
            }
        }
        layer.publish(&self.dir.join(target))?;
        Ok(Whiteout::Made)
    }

    fn remember_base(&self, base: &Path, tree: &Tree<'_>) -> Result<(), StoreError> {
        let text = tree.to_text();
        if fs::read_to_string(base).is_ok_and(|old| old == text) {
            return Ok(());
        }
        self.replace(base, &[text.as_bytes()])
    }

    fn has(&self, layer: &str) -> bool {
        fs::symlink_metadata(self.dir.join(layer)).is_ok_and(|metadata| metadata.is_dir())
    }

    fn manifest_path(&self, tree: &Tree<'_>) -> PathBuf {
        self.dir.join(format!("{}.manifest", tree.layer()))
    }
}

/// A full tree by its root digest.
struct Tree<'a> {
    family: Family,
    at: &'a GuestPath,
    hex: String,
}

impl<'a> Tree<'a> {
    fn layer(&self) -> String {
        match self.family {
            Family::Inputs => format!("trees/{}", self.hex),
            Family::RootFs => format!("roots/{}", self.hex),
        }
    }

    /// What a project remembers of it: the digest, and where in the tree the inputs stand.
    fn to_text(&self) -> String {
        format!("{} {}\n", self.hex, self.at)
    }

    /// The tree that `text` names, if it stands where `other` does.
    fn parse(text: &str, other: &Tree<'a>) -> Option<Self> {
        let (hex, at) = text.strip_suffix('\n')?.split_once(' ')?;
        parse_hex(hex)?;
        (at == other.at.as_str()).then(|| Self { family: other.family, at: other.at, hex: hex.to_owned() })
    }
}
