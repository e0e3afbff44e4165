//! The packages that a host has installed, as its package managers' data bases tell.
//!
//! What is read becomes a list, the same on every machine with the same packages, whatever the order and the times in
//! which they were installed: the head line, then one line for each package, sorted bytewise. A line has five fields with a
//! tab between them: manager, name, version, architecture, and a fingerprint of what the package put on the disk. A field
//! that a data base does not have is `-`.
//!
//! Whatever can't be read or understood is an error: a list that lacks something would take different machines for equal.

mod apk;
mod dpkg;
mod pacman;
mod rpm;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::stamp::Stamp;
use super::vouch::{Look, Remembered, Vouchers};
use crate::digest::Digest;
use crate::path::printable;
use crate::store::{Store, StoreError};
use crate::sys::files::{CWD, open_place, status};

/// The first line of a list.
const HEAD: &str = "sbx packages 1";

/// What stands in the place of a field that a data base does not have.
const NONE: &str = "-";

/// How large a file of a data base may be. The largest ones are some ten megabytes.
const FILE_MAX: u64 = 512 << 20;

/// How long a field may be in bytes.
const FIELD_MAX: usize = 4096;

/// How long to wait, in milliseconds, before a data base that changed meanwhile is read again and again: a package manager
/// writes for a while, in bursts.
const PAUSES: [u64; 7] = [0, 50, 150, 400, 1000, 2000, 3000];

/// Why the packages are not known.
#[derive(Debug, thiserror::Error)]
pub enum PackagesError {
    /// The data base can't be read.
    #[error("can't read {} of the package data base", path.display())]
    Unreadable {
        /// The file or directory.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A data base is not what its manager writes.
    #[error("the package data base {} is damaged: {place}: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in the file.
        place: String,
        /// What is wrong there.
        what: String,
    },
    /// A file is too large to be what it should be.
    #[error("{} of the package data base has more than {FILE_MAX} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A package manager is at work.
    #[error("the package data base changes while it is being read")]
    Changing,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl PackagesError {
    /// What helps.
    pub fn hint(&self) -> Option<String> {
        let instead = "`identity = \"content\"` in `[rootfs]` does without the data base";
        match self {
            Self::Unreadable { .. } => Some(format!("make it readable for this user; {instead}")),
            Self::Damaged { .. } | Self::TooLarge { .. } => Some(format!(
                "mend it with its package manager (`dpkg --audit`, `rpm --rebuilddb`, `apk fix`); {instead}"
            )),
            Self::Changing => Some("wait until the package manager is done, then run it again".into()),
            Self::Store(_) => None,
        }
    }
}

/// One installed package. No field has white space or control characters, and none is empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Package {
    manager: &'static str,
    name: String,
    version: String,
    architecture: String,
    fingerprint: String,
}

/// What a data base came to.
#[derive(Debug, Default)]
struct Found {
    packages: Vec<Package>,
    /// What has to stay as it is for the packages to be the same.
    vouchers: Vouchers,
}

/// A host's file system.
struct Host<'a> {
    root: &'a Path,
}

/// Reads every data base of the host whose file system stands at `root` (`/` but for tests), unless nothing of them has
/// changed since the last time, and keeps the list in the store. The digest is the list's; `None` when the host has no
/// packages that a known manager installed.
///
/// # Errors
/// When a data base is there and can't be read or understood; or that the store can't be written.
pub fn identify(root: &Path, store: &Store) -> Result<Option<Digest>, PackagesError> {
    patiently(root, store, &mut |found| read(root, store, found), &mut thread::sleep)
}

/// The same, with the reading and the waiting in the caller's hands.
fn patiently(
    root: &Path,
    store: &Store,
    read: &mut dyn FnMut(&mut Found) -> Result<(), PackagesError>,
    wait: &mut dyn FnMut(Duration),
) -> Result<Option<Digest>, PackagesError> {
    let mut pauses = PAUSES.into_iter();
    loop {
        let remembered = Remembered::read(store.memory_of("packages", root));
        match remembered.answer(root).and_then(|answer| str::from_utf8(answer).ok()) {
            Some("") => return Ok(None),
            Some(text) => {
                if let Ok(digest) = text.parse::<Digest>()
                    && store.open_blob(&digest, false).is_ok()
                {
                    return Ok(Some(digest));
                }
            }
            None => {}
        }
        let mut found = Found::default();
        let outcome = read(&mut found);
        if !found.vouchers.hold(root) {
            wait(Duration::from_millis(pauses.next().ok_or(PackagesError::Changing)?));
            continue;
        }
        outcome?;
        let digest = match listing(&found.packages) {
            Some(list) => Some(store.put_bytes(list.as_bytes(), false)?),
            None => None,
        };
        let answer = digest.map_or_else(String::new, |digest| digest.to_string());
        remembered.write(store, answer.as_bytes(), &found.vouchers)?;
        return Ok(digest);
    }
}

fn read(root: &Path, store: &Store, found: &mut Found) -> Result<(), PackagesError> {
    let host = Host { root };
    apk::read(&host, found)?;
    dpkg::read(&host, found)?;
    pacman::read(&host, found)?;
    rpm::read(&host, store, found)
}

/// The list, or `None` when it would be empty.
fn listing(packages: &[Package]) -> Option<String> {
    let line = |package: &Package| {
        let Package { manager, name, version, architecture, fingerprint } = package;
        format!("{manager}\t{name}\t{version}\t{architecture}\t{fingerprint}\n")
    };
    let lines: BTreeSet<String> = packages.iter().map(line).collect();
    (!lines.is_empty()).then(|| lines.into_iter().fold(format!("{HEAD}\n"), |text, line| text + &line))
}

/// What a list says of one package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Installed {
    /// The version, as its manager writes it.
    pub version: String,
    /// Stands for what the package put on the disk.
    pub fingerprint: String,
}

/// Reads a list back: for each `name/architecture` what is installed under it, sorted. It is more than one where a
/// manager keeps several versions side by side, as rpm does with kernels. `None` when `text` is no such list.
pub fn parse_listing(text: &str) -> Option<BTreeMap<String, Vec<Installed>>> {
    let mut packages: BTreeMap<String, Vec<Installed>> = BTreeMap::new();
    let mut lines = text.strip_suffix('\n')?.split('\n');
    if lines.next() != Some(HEAD) {
        return None;
    }
    for line in lines {
        let mut fields = line.split('\t');
        let mut field = || fields.next().filter(|field| is_field(field));
        let (_manager, name, version) = (field()?, field()?, field()?);
        let (architecture, fingerprint) = (field()?, field()?);
        if fields.next().is_some() {
            return None;
        }
        let installed = Installed { version: version.to_owned(), fingerprint: fingerprint.to_owned() };
        packages.entry(format!("{name}/{architecture}")).or_default().push(installed);
    }
    packages.values_mut().for_each(|versions| versions.sort());
    Some(packages)
}

/// Whether `text` can be a field of a list.
fn is_field(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(|c| c.is_whitespace() || c.is_control())
}

impl Host<'_> {
    /// The path at the host's `path`, which begins without a slash.
    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// Opens the regular file at `path`; `None` when nothing is there.
    fn regular(&self, path: &str) -> Result<Option<File>, PackagesError> {
        let full = self.path(path);
        let unreadable = |source| PackagesError::Unreadable { path: full.clone(), source };
        match fs::symlink_metadata(&full) {
            Ok(metadata) if metadata.is_file() => File::open(&full).map(Some).map_err(unreadable),
            Ok(_) => Err(unreadable(io::Error::other("it is not a regular file"))),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(unreadable(error)),
        }
    }

    /// The same, and the file vouches for what is read of it.
    fn open(&self, path: &str, vouchers: &mut Vouchers) -> Result<Option<File>, PackagesError> {
        let file = self.regular(path)?;
        let look = match &file {
            None => Look::Missing,
            Some(file) => Look::Stamp(Stamp::of(
                &status(file).map_err(|source| PackagesError::Unreadable { path: self.path(path), source })?,
            )),
        };
        vouchers.add(path.as_bytes(), look);
        Ok(file)
    }

    /// The whole content of the file at `path`; see [`Host::open`].
    fn content(&self, path: &str, vouchers: &mut Vouchers) -> Result<Option<Vec<u8>>, PackagesError> {
        self.open(path, vouchers)?.map(|file| read_whole(file, &self.path(path))).transpose()
    }

    /// The names in the directory at `path`, sorted; it vouches for them. `None` when nothing is there.
    fn names(&self, path: &str, vouchers: &mut Vouchers) -> Result<Option<Vec<OsString>>, PackagesError> {
        let full = self.path(path);
        let unreadable = |source| PackagesError::Unreadable { path: full.clone(), source };
        let dir = match open_place(CWD, &full) {
            Ok(dir) => dir,
            Err(error) if is_missing(&error) => {
                vouchers.add(path.as_bytes(), Look::Missing);
                return Ok(None);
            }
            Err(error) => return Err(unreadable(error)),
        };
        // By its own name, as a link may stand at `path`.
        vouchers.add(format!("{path}/").as_bytes(), Look::Stamp(Stamp::of(&status(&dir).map_err(unreadable)?)));
        let mut names = Vec::new();
        for entry in fs::read_dir(&full).map_err(unreadable)? {
            names.push(entry.map_err(unreadable)?.file_name());
        }
        names.sort();
        Ok(Some(names))
    }

    /// The SHA-256 of the file at `path`; see [`Host::whole`].
    fn fingerprint(&self, path: &str) -> Result<Option<String>, PackagesError> {
        Ok(self.whole(path)?.map(|content| Digest::of(&content).hex()))
    }

    /// The content of the file at `path`, for which another file or a directory vouches; `None` when nothing is there.
    fn whole(&self, path: &str) -> Result<Option<Vec<u8>>, PackagesError> {
        self.regular(path)?.map(|file| read_whole(file, &self.path(path))).transpose()
    }
}

/// Says where a data base is damaged.
fn damaged(path: &Path, place: String, what: impl Into<String>) -> PackagesError {
    PackagesError::Damaged { path: path.to_owned(), place, what: what.into() }
}

/// The lines of a text data base with their numbers, without their ends. A last line without an end was cut off.
fn lines<'a>(text: &'a [u8], path: &'a Path) -> impl Iterator<Item = Result<(usize, &'a [u8]), PackagesError>> + 'a {
    text.split_inclusive(|byte| *byte == b'\n').enumerate().map(move |(index, line)| match line.strip_suffix(b"\n") {
        Some(line) => Ok((index + 1, line)),
        None => Err(damaged(path, format!("line {}", index + 1), "the file ends within it")),
    })
}

/// A value of a data base as a field of the list.
fn field(value: &[u8], name: &str, path: &Path, place: impl Fn() -> String) -> Result<String, PackagesError> {
    let text = str::from_utf8(value).ok().filter(|text| is_field(text) && text.len() <= FIELD_MAX);
    let bad = || damaged(path, place(), format!("{:?} is no {name}", printable(&value[..value.len().min(80)])));
    text.map(str::to_owned).ok_or_else(bad)
}

fn read_whole(file: File, path: &Path) -> Result<Vec<u8>, PackagesError> {
    let unreadable = |source| PackagesError::Unreadable { path: path.to_owned(), source };
    let mut content = Vec::new();
    let large = file.metadata().map_err(unreadable)?.len() > FILE_MAX;
    if large || file.take(FILE_MAX + 1).read_to_end(&mut content).map_err(unreadable)? as u64 > FILE_MAX {
        return Err(PackagesError::TooLarge { path: path.to_owned() });
    }
    Ok(content)
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests;
