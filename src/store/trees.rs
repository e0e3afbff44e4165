//! Materialised trees: full ones by root digest, small deltas over one of a project's last full ones.

use std::fs;
use std::path::Path;

use super::blobs::Family;
use super::delta::{self, Change, Delta};
use super::frame::{Reader, put_text, read_frame};
use super::hold::Held;
use super::layer::{Layer, Occurrences, Whiteout, occurrences_in};
use super::look::shows;
use super::{ProjectKey, Store, StoreError};
use crate::digest::{Digest, parse_hex};
use crate::inputs::Manifest;
use crate::path::GuestPath;

/// Overlayfs lower directories that together show a tree.
#[derive(Debug)]
pub struct Layers {
    /// Relative to the store's directory, topmost first; only characters of `[0-9a-z/-]`, so that mount options need no
    /// escapes.
    pub lower: Vec<String>,
    /// The root digest of the tree that they show.
    pub root: Digest,
    /// Keeps them from being removed.
    pub held: Vec<Held>,
}

/// Equal are those that show the same by the same directories.
impl PartialEq for Layers {
    fn eq(&self, other: &Self) -> bool {
        (&self.lower, &self.root) == (&other.lower, &other.root)
    }
}

/// Below this many entries a full tree costs no more than a delta.
const DELTA_FROM: usize = 128;

/// A delta may have one entry for so many of the full tree.
const DELTA_SHARE: usize = 8;

/// How many full trees a project remembers: its tasks may have different inputs.
const BASES: usize = 4;

/// Where a tree stands, and its manifest.
const MANIFEST: &[u8; 8] = b"sbxtree2";

/// Where a tree stands, and what makes it of another one.
const DELTA: &[u8; 8] = b"sbxdelt1";

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
        let layer = tree.layer();
        let held = loop {
            let is_whole = |path: &Path| shows(path, at, manifest.entries.iter().map(Change::Put));
            if let Some(held) = self.hold(&layer, &is_whole, &|| self.write_manifest(manifest, &tree))? {
                break held;
            }
            if let Some(layers) = self.over_one_of(&remembered, manifest, &tree, root)? {
                return Ok(layers);
            }
            if let Some(held) = self.make_full(manifest, &tree)? {
                break held;
            }
        };
        if let Some(path) = bases
            && !remembered.iter().any(|base| base.hex == tree.hex)
        {
            let lines = [tree.line()].into_iter().chain(remembered.iter().map(Tree::line)).take(BASES);
            self.replace(&path, &[lines.collect::<String>().as_bytes()])?;
        }
        Ok(Layers { lower: vec![layer], root, held: vec![held] })
    }

    /// Where the inputs of which `root` is the digest stand, and what they are, if their tree is still kept.
    pub fn manifest_of(&self, root: &Digest) -> Option<(GuestPath, Manifest)> {
        let hex = root.hex();
        if let Some(kept) = self.kept_manifest(&format!("trees/{hex}"), &hex) {
            return Some(kept);
        }
        let deltas = fs::read_dir(self.dir.join("deltas")).ok()?;
        deltas.flatten().find_map(|entry| {
            let name = entry.file_name();
            let layer = name.to_str()?.strip_suffix(".manifest").filter(|name| name.ends_with(&hex))?;
            self.kept_delta(layer).map(|kept| (kept.at, kept.new))
        })
    }

    /// What stands beside the delta called `name`, when it is that of the tree whose digest it has.
    pub(super) fn kept_delta(&self, name: &str) -> Option<KeptDelta> {
        let (base, hex) = name.split_once('-')?;
        let body = read_frame(&self.manifest_path(&format!("deltas/{name}")), DELTA)?;
        let mut reader = Reader(&body);
        let at = GuestPath::new(reader.text()?).ok()?;
        let (_, old) = self.kept_manifest(&format!("trees/{base}"), base)?;
        let new = delta::apply(old.clone(), reader.0)?;
        (new.root_digest_at(&at).hex() == hex).then_some(KeptDelta { at, old, new })
    }

    /// Whether the layer shows what it should, as far as that can be told without reading its files: a file that was written
    /// to has another time.
    pub(crate) fn layer_looks_whole(&self, layer: &str) -> bool {
        let path = self.dir.join(layer);
        let name = layer.rsplit('/').next().unwrap_or_default();
        if layer.starts_with("deltas/") {
            let Some(kept) = self.kept_delta(name) else { return false };
            let delta = Delta::between(&kept.old, &kept.new, usize::MAX);
            return delta.is_some_and(|delta| shows(&path, &kept.at, delta.in_order().into_iter()));
        }
        let kept = self.kept_manifest(layer, name);
        kept.is_some_and(|(at, manifest)| shows(&path, &at, manifest.entries.iter().map(Change::Put)))
    }

    /// The manifest beside a full layer and where its tree stands, when they are those of the root digest `hex`.
    pub(super) fn kept_manifest(&self, layer: &str, hex: &str) -> Option<(GuestPath, Manifest)> {
        let body = read_frame(&self.manifest_path(layer), MANIFEST)?;
        let mut reader = Reader(&body);
        let at = GuestPath::new(reader.text()?).ok()?;
        let manifest = Manifest::decode(reader.0)?;
        (manifest.root_digest_at(&at).hex() == hex).then_some((at, manifest))
    }

    /// What the delta puts over its tree.
    pub(super) fn delta_puts(&self, layer: &str) -> Option<Manifest> {
        let body = read_frame(&self.manifest_path(layer), DELTA)?;
        let mut reader = Reader(&body);
        reader.text()?;
        delta::puts(reader.0)
    }

    /// A delta over one of these full trees; `None` when a full tree is better.
    fn over_one_of(
        &self,
        bases: &[Tree<'_>],
        manifest: &Manifest,
        tree: &Tree<'_>,
        root: Digest,
    ) -> Result<Option<Layers>, StoreError> {
        let both = |base: &Tree<'_>, above, below| Layers {
            lower: vec![tree.delta_over(base), base.layer()],
            root,
            held: vec![above, below],
        };
        if let Some(base) = bases.iter().find(|base| self.has(&tree.delta_over(base)))
            && let Some(below) = self.hold_base(base)?
            && let Some(above) = self.hold_delta(base, manifest, tree)?
        {
            return Ok(Some(both(base, above, below)));
        }
        for base in bases {
            let Some(below) = self.hold_base(base)? else { continue };
            let Some((_, old)) = self.kept_manifest(&base.layer(), &base.hex) else { continue };
            if old.entries.len() < DELTA_FROM {
                continue;
            }
            let Some(delta) = Delta::between(&old, manifest, old.entries.len() / DELTA_SHARE) else { continue };
            let made = self.make_delta(&old, &delta, tree, &tree.delta_over(base))?;
            return Ok(made.map(|above| both(base, above, below)));
        }
        Ok(None)
    }

    fn hold_delta(&self, base: &Tree<'_>, manifest: &Manifest, tree: &Tree<'_>) -> Result<Option<Held>, StoreError> {
        let layer = tree.delta_over(base);
        // Read only when the layer has to be looked through.
        let old = || self.kept_manifest(&base.layer(), &base.hex).map(|(_, old)| old);
        let is_whole = |path: &Path| {
            let old = old();
            let delta = old.as_ref().and_then(|old| Delta::between(old, manifest, usize::MAX));
            delta.is_some_and(|delta| shows(path, tree.at, delta.in_order().into_iter()))
        };
        let mend = || match old().as_ref().and_then(|old| Delta::between(old, manifest, usize::MAX)) {
            Some(delta) => self.write_delta(&delta, tree, &layer),
            None => Ok(()),
        };
        self.hold(&layer, &is_whole, &mend)
    }

    fn hold_base(&self, base: &Tree<'_>) -> Result<Option<Held>, StoreError> {
        let layer = base.layer();
        let is_whole = |path: &Path| {
            let kept = self.kept_manifest(&layer, &base.hex);
            kept.is_some_and(|(at, manifest)| shows(path, &at, manifest.entries.iter().map(Change::Put)))
        };
        self.hold(&layer, &is_whole, &|| Ok(()))
    }

    /// `None` when another process was first.
    fn make_full(&self, manifest: &Manifest, tree: &Tree<'_>) -> Result<Option<Held>, StoreError> {
        let mut layer = Layer::new(self, tree.at, tree.family, Occurrences::new())?;
        for entry in &manifest.entries {
            layer.put(entry)?;
        }
        // Before the tree: a tree always has its manifest.
        self.write_manifest(manifest, tree)?;
        self.vouch_for(&tree.layer())?;
        layer.publish(&self.dir.join(tree.layer()))
    }

    fn write_manifest(&self, manifest: &Manifest, tree: &Tree<'_>) -> Result<(), StoreError> {
        let mut body = Vec::new();
        put_text(&mut body, tree.at.as_str());
        body.extend_from_slice(&manifest.encode());
        self.write_frame(&self.manifest_path(&tree.layer()), MANIFEST, &body)
    }

    fn write_delta(&self, delta: &Delta<'_>, tree: &Tree<'_>, layer: &str) -> Result<(), StoreError> {
        let mut body = Vec::new();
        put_text(&mut body, tree.at.as_str());
        body.extend_from_slice(&delta.encode());
        self.write_frame(&self.manifest_path(layer), DELTA, &body)
    }

    /// `None` when the file system has no whiteouts.
    fn make_delta(
        &self,
        old: &Manifest,
        delta: &Delta<'_>,
        tree: &Tree<'_>,
        target: &str,
    ) -> Result<Option<Held>, StoreError> {
        loop {
            // Inodes that the tree below uses are not used again, or two files of the whole could be the same one.
            let mut layer = Layer::new(self, tree.at, tree.family, occurrences_in(old, &delta.put))?;
            for change in delta.in_order() {
                match change {
                    Change::Put(entry) => layer.put(entry)?,
                    Change::Gone(path) => {
                        if layer.hide(path)? == Whiteout::Refused {
                            return Ok(None);
                        }
                    }
                }
            }
            self.write_delta(delta, tree, target)?;
            self.vouch_for(target)?;
            let path = self.dir.join(target);
            // Another process that was first has made it in this boot.
            if let Some(held) = layer.publish(&path)?.map_or_else(|| Held::new(&path), |held| Ok(Some(held)))? {
                return Ok(Some(held));
            }
        }
    }

    pub(super) fn has(&self, layer: &str) -> bool {
        fs::symlink_metadata(self.dir.join(layer)).is_ok_and(|metadata| metadata.is_dir())
    }
}

/// What a delta makes of what.
pub(super) struct KeptDelta {
    /// Where the trees stand.
    pub(super) at: GuestPath,
    pub(super) old: Manifest,
    pub(super) new: Manifest,
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
