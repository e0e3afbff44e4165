//! Materialised trees: full ones by root digest, small deltas over one of a project's last full ones.

use std::fs;
use std::path::{Path, PathBuf};

use super::blobs::Family;
use super::delta::{Change, Delta};
use super::frame::read_frame;
use super::layer::{Layer, Occurrences, Whiteout, occurrences_in};
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

/// How many full trees a project remembers: its tasks may have different inputs.
const BASES: usize = 4;

const MANIFEST: &[u8; 8] = b"sbxtree1";

impl Store {
    /// Makes the tree of `manifest` stand in the store, at `prefix` when there is one.
    ///
    /// With a `prefix` the tree is a project's inputs; without one it is a root file system, which is kept apart: a file
    /// of the one is never the same inode as a file of the other, whatever their contents. When one of the `project`'s last full
    /// trees differs in few entries, only these are written, as a layer to be laid over that tree, never over another such layer; the layers together
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
        let bases = project.map(|project| self.project_path(project).join("bases"));
        let remembered = bases.as_deref().map(|path| Tree::read_all(path, &tree)).unwrap_or_default();
        if !self.has(&tree.layer()) {
            if let Some(lower) = self.over_one_of(&remembered, manifest, &tree)? {
                return Ok(Layers { lower, root });
            }
            self.make_full(manifest, &tree)?;
        }
        if let Some(path) = bases
            && !remembered.iter().any(|base| base.hex == tree.hex)
        {
            let lines = [tree.line()].into_iter().chain(remembered.iter().map(Tree::line)).take(BASES);
            self.replace(&path, &[lines.collect::<String>().as_bytes()])?;
        }
        Ok(Layers { lower: vec![tree.layer()], root })
    }

    /// A delta over one of these full trees; `None` when a full tree is better.
    fn over_one_of(
        &self,
        bases: &[Tree<'_>],
        manifest: &Manifest,
        tree: &Tree<'_>,
    ) -> Result<Option<Vec<String>>, StoreError> {
        let bases: Vec<_> = bases.iter().filter(|base| self.has(&base.layer())).collect();
        if let Some(base) = bases.iter().find(|base| self.has(&tree.delta_over(base))) {
            return Ok(Some(vec![tree.delta_over(base), base.layer()]));
        }
        for base in bases {
            let old = read_frame(&self.manifest_path(base), MANIFEST).and_then(|body| Manifest::decode(&body));
            let Some(old) = old.filter(|old| old.entries.len() >= DELTA_FROM) else { continue };
            let Some(delta) = Delta::between(&old, manifest, old.entries.len() / DELTA_SHARE) else { continue };
            let layer = tree.delta_over(base);
            return Ok(match self.make_delta(&old, &delta, tree, &layer)? {
                Whiteout::Made => Some(vec![layer, base.layer()]),
                Whiteout::Refused => None,
            });
        }
        Ok(None)
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
        let mut layer = Layer::new(self, tree.at, tree.family, occurrences_in(old, &delta.put))?;
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

    fn delta_over(&self, base: &Self) -> String {
        format!("deltas/{}-{}", base.hex, self.hex)
    }

    /// What a project remembers of it: the digest, and where in the tree the inputs stand.
    fn line(&self) -> String {
        format!("{} {}\n", self.hex, self.at)
    }

    /// The trees that the file at `path` names and that stand where `other` does.
    fn read_all(path: &Path, other: &Tree<'a>) -> Vec<Self> {
        let text = fs::read_to_string(path).unwrap_or_default();
        let tree = |line: &str| {
            let (hex, at) = line.split_once(' ')?;
            parse_hex(hex)?;
            (at == other.at.as_str()).then(|| Self { family: other.family, at: other.at, hex: hex.to_owned() })
        };
        text.lines().filter_map(tree).collect()
    }
}
