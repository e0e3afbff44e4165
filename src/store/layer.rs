//! Writing one overlay layer: a directory of hard links into the blobs.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use super::blobs::{Family, Variant, is_whole, seal};
use super::hold::Held;
use super::{MTIME, Store, StoreError, make_private_dir};
use crate::digest::Digest;
use crate::inputs::{Entry, Manifest, Node};
use crate::path::GuestPath;
use crate::sys;

/// How often each content occurs in a tree, by digest and executable bit.
pub(super) type Occurrences = HashMap<(Digest, bool), u32>;

/// Counts the files of `tree` whose content is that of one of the `entries`.
pub(super) fn occurrences_in(tree: &Manifest, entries: &[&Entry]) -> Occurrences {
    let content = |entry: &Entry| match &entry.node {
        Node::File { digest, executable } => Some((*digest, *executable)),
        _ => None,
    };
    let mut counts: Occurrences = entries.iter().filter_map(|entry| Some((content(entry)?, 0))).collect();
    for entry in &tree.entries {
        if let Some(content) = content(entry)
            && let Some(count) = counts.get_mut(&content)
        {
            *count += 1;
        }
    }
    counts
}

/// Whether the store can have whiteouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whiteout {
    Made,
    Refused,
}

/// A layer that is being written in `tmp/`; dropped without [`Layer::publish`] it leaves nothing.
pub(super) struct Layer<'a> {
    store: &'a Store,
    family: Family,
    /// The layer, which is removed unless it gets its name.
    temp: tempfile::TempDir,
    /// Where the tree begins in the layer.
    base: PathBuf,
    /// The directories made, parents first.
    dirs: Vec<PathBuf>,
    /// The directories of `dirs` on the way to the last entry, below `base`.
    open: Vec<String>,
    /// How often each content has occurred.
    used: Occurrences,
    /// Blobs that are not there.
    missing: Vec<Digest>,
}

impl<'a> Layer<'a> {
    /// Begins a layer in which the tree stands at `prefix`. Of each content it takes the inodes after those that `used`
    /// counts.
    pub(super) fn new(
        store: &'a Store,
        prefix: &GuestPath,
        family: Family,
        used: Occurrences,
    ) -> Result<Self, StoreError> {
        let dir = store.temp_dir()?;
        let temp = tempfile::TempDir::new_in(&dir).map_err(StoreError::io("make a directory in", &dir))?;
        let base = temp.path().to_owned();
        let (dirs, open, missing) = (vec![base.clone()], Vec::new(), Vec::new());
        let mut layer = Self { store, family, temp, base, dirs, open, used, missing };
        for name in prefix.relative().split('/').filter(|name| !name.is_empty()) {
            layer.base.push(name);
            layer.make_dir(layer.base.clone())?;
        }
        Ok(layer)
    }

    /// Adds one entry; entries must come in the order of a manifest.
    pub(super) fn put(&mut self, entry: &Entry) -> Result<(), StoreError> {
        match &entry.node {
            Node::File { digest, executable } => {
                let path = self.place(&entry.path)?;
                self.put_file(&path, digest, *executable)
            }
            Node::Symlink { target } => {
                let path = self.place(&entry.path)?;
                symlink(target, &path).map_err(StoreError::io("make the link", &path))?;
                sys::files::set_times_at(&path, MTIME).map_err(StoreError::io("set the times of", &path))
            }
            Node::EmptyDirectory => self.enter(&entry.path),
        }
    }

    /// Hides what the layers below have at `path`.
    pub(super) fn hide(&mut self, path: &str) -> Result<Whiteout, StoreError> {
        let path = self.place(path)?;
        match sys::files::make_whiteout(&path) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(Whiteout::Refused),
            Err(error) => Err(StoreError::io("make the whiteout", &path)(error)),
            Ok(()) => Ok(Whiteout::Made),
        }
    }

    /// Gives the finished layer its name, and holds it; `None` when another process was first, whose layer stays.
    pub(super) fn publish(self, target: &Path) -> Result<Option<Held>, StoreError> {
        if !self.missing.is_empty() {
            return Err(StoreError::Missing { digests: self.missing });
        }
        for dir in self.dirs.iter().rev() {
            fs::set_permissions(dir, fs::Permissions::from_mode(0o755))
                .map_err(StoreError::io("set the mode of", dir))?;
            sys::files::set_times_at(dir, MTIME).map_err(StoreError::io("set the times of", dir))?;
        }
        if let Some(parent) = target.parent() {
            make_private_dir(parent)?;
        }
        // Held before it has its name: nobody can remove it in between.
        let held = Held::new(self.temp.path())?;
        match fs::rename(self.temp.path(), target) {
            Err(error) if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {
                Ok(None)
            }
            renamed => {
                renamed.map_err(StoreError::io("rename a directory to", target))?;
                let _has_another_name = self.temp.keep();
                self.dirs.iter().for_each(|_| self.store.count(1));
                Ok(held)
            }
        }
    }

    /// The path in the layer for `path`, after making the directories on the way.
    fn place(&mut self, path: &str) -> Result<PathBuf, StoreError> {
        self.enter(path.rsplit_once('/').map_or("", |(dir, _)| dir))?;
        Ok(self.base.join(path))
    }

    /// Makes the directory at `path` and those on the way, as far as the entry before has not.
    fn enter(&mut self, path: &str) -> Result<(), StoreError> {
        let names = || path.split('/').filter(|name| !name.is_empty());
        let common = self.open.iter().zip(names()).take_while(|(open, name)| open == name).count();
        self.open.truncate(common);
        for name in names().skip(common) {
            self.open.push(name.to_owned());
            self.make_dir(self.base.join(self.open.join("/")))?;
        }
        Ok(())
    }

    fn make_dir(&mut self, path: PathBuf) -> Result<(), StoreError> {
        fs::DirBuilder::new().mode(0o755).create(&path).map_err(StoreError::io("make the directory", &path))?;
        self.dirs.push(path);
        Ok(())
    }

    /// Links the next inode of the content to `path`. No two files of a tree are the same inode: `cp` would call them the
    /// same file, and rename(2) of one onto the other would do nothing.
    fn put_file(&mut self, path: &Path, digest: &Digest, executable: bool) -> Result<(), StoreError> {
        let used = self.used.entry((*digest, executable)).or_insert(0);
        let instance = *used;
        *used += 1;
        let variant = Variant { executable, family: self.family };
        let blob = self.store.blob_path(digest, variant, 0);
        let source = self.store.blob_path(digest, variant, instance);
        if !is_whole(&source, digest, executable) {
            if !is_whole(&blob, digest, executable) {
                self.missing.push(*digest);
                return Ok(());
            }
            let temp = self.store.temp_file()?;
            copy(&blob, temp.as_file()).map_err(StoreError::io("copy", &blob))?;
            self.store.keep_instance(temp, digest, variant, instance)?;
        }
        match fs::hard_link(&source, path) {
            // The inode has all the links that the file system can count.
            Err(error) if error.kind() == io::ErrorKind::TooManyLinks => {
                let file = File::create_new(path).map_err(StoreError::io("make", path))?;
                copy(&blob, &file).and_then(|()| seal(&file, executable)).map_err(StoreError::io("copy", &blob))
            }
            // A damaged blob is just being replaced by another process.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.missing.push(*digest);
                Ok(())
            }
            linked => linked.map_err(StoreError::io("link", path)),
        }
    }
}

fn copy(from: &Path, mut to: &File) -> io::Result<()> {
    let mut from = File::open(from)?;
    if sys::files::clone_content(&from, to).is_err() {
        io::copy(&mut from, &mut to)?;
    }
    Ok(())
}
