//! Materialised trees: directories of hard links into the blobs, ready to be an overlay's lower layer.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::blobs::{is_whole, seal};
use super::{MTIME, ProjectKey, Store, StoreError, make_private_dir};
use crate::digest::Digest;
use crate::inputs::{Manifest, Node};
use crate::path::GuestPath;
use crate::sys;

/// Overlayfs lower directories that together show a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layers {
    /// Relative to the store's directory, topmost first; only characters of `[0-9a-z/-]`, so that mount options need no
    /// escapes.
    pub lower: Vec<String>,
}

impl Store {
    /// Makes the tree of `manifest` stand in the store, below `prefix` when there is one.
    ///
    /// With a `prefix` the tree is a project's inputs; without one it is a root file system, whose files are never the
    /// same inodes as those of inputs with equal content.
    ///
    /// # Errors
    /// [`StoreError::Missing`] when blobs are not there or damaged; else when the tree can't be written.
    pub fn materialise(
        &self,
        manifest: &Manifest,
        prefix: Option<&GuestPath>,
        _project: Option<&ProjectKey>,
    ) -> Result<Layers, StoreError> {
        let root = GuestPath::new("/").expect("a constant path");
        let (family, at) = match prefix {
            Some(prefix) => ("trees", prefix),
            None => ("roots", &root),
        };
        let digest = manifest.root_digest_at(at);
        let layer = format!("{family}/{}", digest.hex());
        let path = self.dir.join(&layer);
        if fs::symlink_metadata(&path).is_err() {
            self.build(manifest, at, family, &path)?;
        }
        Ok(Layers { lower: vec![layer] })
    }

    /// Forgets what is remembered about the files of `project`, so that all of them are hashed again.
    ///
    /// # Errors
    /// When the memo can't be removed.
    pub fn forget(&self, project: &ProjectKey) -> Result<(), StoreError> {
        let path = self.project_dir(project)?.join("memo");
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", &path)(error)),
            _ => Ok(()),
        }
    }

    fn build(&self, manifest: &Manifest, at: &GuestPath, family: &str, target: &Path) -> Result<(), StoreError> {
        let temp_dir = self.temp_dir()?;
        let temp = tempfile::TempDir::new_in(&temp_dir).map_err(StoreError::io("make a directory in", &temp_dir))?;
        let top = temp.path().join("t");
        let mut builder = Builder {
            store: self,
            family,
            top: top.clone(),
            dirs: Vec::new(),
            counts: HashMap::new(),
            missing: Vec::new(),
        };
        builder.dir(&top)?;
        let mut way = top.clone();
        for name in at.relative().split('/').filter(|name| !name.is_empty()) {
            way.push(name);
            builder.dir(&way)?;
        }
        builder.fill(manifest, &way)?;
        if !builder.missing.is_empty() {
            return Err(StoreError::Missing { digests: builder.missing });
        }
        builder.finish()?;
        if let Some(parent) = target.parent() {
            make_private_dir(parent)?;
        }
        match fs::rename(&top, target) {
            // Another process was first; its tree is the same.
            Err(error) if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {
                Ok(())
            }
            other => other.map_err(StoreError::io("rename to", target)),
        }
    }
}

struct Builder<'a> {
    store: &'a Store,
    family: &'a str,
    top: PathBuf,
    dirs: Vec<PathBuf>,
    counts: HashMap<(Digest, bool), u32>,
    missing: Vec<Digest>,
}

impl Builder<'_> {
    fn dir(&mut self, path: &Path) -> Result<(), StoreError> {
        fs::DirBuilder::new().mode(0o755).create(path).map_err(StoreError::io("make the directory", path))?;
        self.dirs.push(path.to_owned());
        Ok(())
    }

    fn fill(&mut self, manifest: &Manifest, way: &Path) -> Result<(), StoreError> {
        let mut open: Vec<&str> = Vec::new();
        for entry in &manifest.entries {
            let (dir, _) = entry.path.rsplit_once('/').unwrap_or(("", &entry.path));
            let names: Vec<&str> = dir.split('/').filter(|name| !name.is_empty()).collect();
            let common = open.iter().zip(&names).take_while(|(one, other)| one == other).count();
            open.truncate(common);
            for name in &names[common..] {
                open.push(name);
                let path = way.join(open.join("/"));
                self.dir(&path)?;
            }
            let path = way.join(&entry.path);
            match &entry.node {
                Node::File { digest, executable } => self.file(&path, digest, *executable)?,
                Node::Symlink { target } => {
                    std::os::unix::fs::symlink(target, &path).map_err(StoreError::io("make the link", &path))?;
                    sys::files::set_times_at(&path, MTIME).map_err(StoreError::io("set the time of", &path))?;
                }
                Node::EmptyDirectory => self.dir(&path)?,
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, digest: &Digest, executable: bool) -> Result<(), StoreError> {
        let _ = (self.family, seal);
        let count = self.counts.entry((*digest, executable)).or_insert(0);
        let instance = *count;
        *count += 1;
        let blob = self.store.blob_path(digest, executable, 0);
        if !is_whole(&blob, digest, executable) {
            self.missing.push(*digest);
            return Ok(());
        }
        if instance == 0 {
            return fs::hard_link(&blob, path).map_err(StoreError::io("link", path));
        }
        fs::copy(&blob, path).map_err(StoreError::io("copy to", path))?;
        sys::files::set_times_at(path, MTIME).map_err(StoreError::io("set the time of", path))
    }

    fn finish(&self) -> Result<(), StoreError> {
        for dir in self.dirs.iter().rev() {
            fs::set_permissions(dir, fs::Permissions::from_mode(0o755))
                .map_err(StoreError::io("set the mode of", dir))?;
            sys::files::set_times_at(dir, MTIME).map_err(StoreError::io("set the time of", dir))?;
        }
        let _ = &self.top;
        Ok(())
    }
}
