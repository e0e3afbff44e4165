//! What stands for the host's own directories in the identity of a run.
//!
//! What packages manage is known by the packages that are installed. What no package owns is known by itself: by its
//! content, which is the same on every machine, when that is little; else by paths, sizes and times.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::identity::{self, By};
use super::scan::Unreadable;
use super::{InputError, Progress, packages};
use crate::action::policy::ContentIdentity;
use crate::config::model::HostIdentity;
use crate::digest::Digest;
use crate::store::Store;

/// The directories that package managers fill. What else a package puts on a disk is made to be changed.
const MANAGED: [&str; 7] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];
/// What no package owns within them (Filesystem Hierarchy Standard, 4.9).
const LOCAL: &str = "/usr/local";

/// A path of the host that a sandbox shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Its name inside.
    pub name: String,
    /// What stands there.
    pub place: Place,
}

/// What stands at a path of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A symbolic link, with its text.
    Link(String),
    /// A file or directory by its path on the host, absolute, without symbolic links.
    Tree(PathBuf),
}

/// What stands for the shown paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identified {
    /// By the name inside; what no package owns below a path has a name of its own.
    pub places: BTreeMap<String, ContentIdentity>,
    /// The host has no package data base that could stand for what packages manage.
    pub without_packages: bool,
}

/// Who fills a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Packages,
    Nobody,
}

fn owner(path: &Path) -> Owner {
    let managed = MANAGED.iter().any(|managed| path.starts_with(managed)) && !path.starts_with(LOCAL);
    if managed { Owner::Packages } else { Owner::Nobody }
}

/// Identifies `shown`, paths of the host whose file system stands at `root` (`/` but for tests), which their canonical
/// paths begin with.
///
/// # Errors
/// When something can't be looked at that the command could; when a package data base is there and can't be understood;
/// or that the store can't be written.
pub fn identify(
    root: &Path,
    shown: &[Shown],
    identity: HostIdentity,
    store: &Store,
    progress: &dyn Progress,
) -> Result<Identified, InputError> {
    let mut host = Host { root, identity, packages: None, store, progress };
    let mut identified = Identified { places: BTreeMap::new(), without_packages: false };
    for Shown { name, place } in shown {
        match place {
            Place::Link(text) => {
                identified.places.insert(name.clone(), ContentIdentity::Link(text.clone()));
            }
            Place::Tree(path) => host.tree(name, path, &mut identified)?,
        }
    }
    Ok(identified)
}

struct Host<'a> {
    root: &'a Path,
    identity: HostIdentity,
    /// The digest of the list of packages, once it is known.
    packages: Option<Option<Digest>>,
    store: &'a Store,
    progress: &'a dyn Progress,
}

impl Host<'_> {
    fn tree(&mut self, name: &str, path: &Path, identified: &mut Identified) -> Result<(), InputError> {
        // On the host `/` is in front of it.
        let own = Path::new("/").join(path.strip_prefix(self.root).unwrap_or(path));
        let identity = match (self.identity, owner(&own)) {
            (HostIdentity::Content, _) => self.by(By::Content, path)?,
            (HostIdentity::Packages, Owner::Nobody) => self.by(By::Size, path)?,
            (HostIdentity::Packages, Owner::Packages) => match self.packages()? {
                Some(list) => {
                    if Path::new(LOCAL).starts_with(&own) {
                        self.local(name, path, identified)?;
                    }
                    ContentIdentity::Packages(list.to_string())
                }
                None => {
                    identified.without_packages = true;
                    self.by(By::Metadata, path)?
                }
            },
        };
        identified.places.insert(name.to_owned(), identity);
        Ok(())
    }

    fn by(&self, by: By, path: &Path) -> Result<ContentIdentity, InputError> {
        identity::identify(path, by, Unreadable::Noted, self.store, self.progress)
    }

    fn packages(&mut self) -> Result<Option<Digest>, InputError> {
        if let Some(packages) = self.packages {
            return Ok(packages);
        }
        let packages = packages::identify(self.root, self.store)?;
        self.packages = Some(packages);
        Ok(packages)
    }

    /// Adds what no package owns below `path`, which is above it.
    fn local(&self, name: &str, path: &Path, identified: &mut Identified) -> Result<(), InputError> {
        let local = path.join("local");
        let unreadable = |source| InputError::Root { path: local.clone(), source };
        let identity = match std::fs::symlink_metadata(&local) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(unreadable(error)),
            Ok(metadata) if metadata.is_symlink() => {
                let text = std::fs::read_link(&local).map_err(unreadable)?;
                ContentIdentity::Link(text.to_string_lossy().into_owned())
            }
            Ok(_) => self.by(By::Size, &local)?,
        };
        identified.places.insert(format!("{name}/local"), identity);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
