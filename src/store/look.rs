//! Looking through a layer: is everything there, as it was made, and nothing else?

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use super::MTIME;
use super::blobs::looks_whole;
use super::delta::Change;
use crate::inputs::{Entry, Node};
use crate::path::GuestPath;

/// Whether the layer at `path` is what these changes, in the order of their paths, make at `at`: kinds, sizes, modes,
/// times, the texts of links. No file is read.
pub(super) fn shows<'a>(path: &Path, at: &GuestPath, changes: impl Iterator<Item = Change<'a>>) -> bool {
    let mut look = Look { base: path.to_owned(), open: Vec::new(), met: 0 };
    if !look.directory(path) {
        return false;
    }
    for name in at.relative().split('/').filter(|name| !name.is_empty()) {
        look.base.push(name);
        if !look.directory(&look.base.clone()) {
            return false;
        }
    }
    let all = changes.into_iter().all(|change| match change {
        Change::Put(entry) => look.entry(entry),
        Change::Gone(path) => look.enter(parent(path)) && look.whiteout(path),
    });
    // What is met and what is there are as many, so nothing is there that was not met.
    all && WalkDir::new(path).into_iter().take(look.met + 1).filter(Result::is_ok).count() == look.met
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

struct Look {
    /// Where the tree begins in the layer.
    base: PathBuf,
    /// The directories on the way to the last entry, below `base`.
    open: Vec<String>,
    /// How many paths were looked at.
    met: usize,
}

impl Look {
    fn entry(&mut self, entry: &Entry) -> bool {
        if entry.node == Node::EmptyDirectory {
            return self.enter(&entry.path);
        }
        let path = self.base.join(&entry.path);
        if !self.enter(parent(&entry.path)) {
            return false;
        }
        self.met += 1;
        let Ok(metadata) = fs::symlink_metadata(&path) else { return false };
        match &entry.node {
            Node::File { digest, executable } => looks_whole(&metadata, digest, *executable),
            Node::Symlink { target } => {
                metadata.is_symlink()
                    && metadata.mtime() == MTIME
                    && fs::read_link(&path).is_ok_and(|text| text.as_os_str() == target.as_str())
            }
            Node::EmptyDirectory => false,
        }
    }

    fn whiteout(&mut self, path: &str) -> bool {
        self.met += 1;
        let metadata = fs::symlink_metadata(self.base.join(path));
        metadata.is_ok_and(|metadata| metadata.file_type().is_char_device() && metadata.rdev() == 0)
    }

    /// Looks at the directory at `path` and those on the way, as far as the entry before has not.
    fn enter(&mut self, path: &str) -> bool {
        let names = || path.split('/').filter(|name| !name.is_empty());
        let common = self.open.iter().zip(names()).take_while(|(open, name)| open == name).count();
        self.open.truncate(common);
        names().skip(common).all(|name| {
            self.open.push(name.to_owned());
            self.directory(&self.base.join(self.open.join("/")))
        })
    }

    fn directory(&mut self, path: &Path) -> bool {
        self.met += 1;
        fs::symlink_metadata(path)
            .is_ok_and(|metadata| metadata.is_dir() && metadata.mode() & 0o7777 == 0o755 && metadata.mtime() == MTIME)
    }
}
