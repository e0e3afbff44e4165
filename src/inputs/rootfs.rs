//! Root file systems: a directory, an archive or an image as a manifest whose files are in the store.
//!
//! Whatever they come from, modes become 0755 or 0644, so that setuid and setgid bits are dropped; devices, sockets and
//! FIFOs are left out and counted. Links may point anywhere: they are resolved inside of the sandbox.

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::archive::{self, Contents};
use super::fault::{Fault, Faults, InputError};
use super::hash::Item;
use super::image;
use super::look::Seen;
use super::scan::{Scan, Unreadable};
use super::stamp::{Memo, Stamp, is_settled, now};
use super::walk::unusable_name;
use super::{Manifest, Node, Progress};
use crate::config::model::Rootfs;
use crate::path::printable;
use crate::store::frame::{Reader, read_frame};
use crate::store::{Family, Layers, Store, StoreError, Variant};
use crate::sys;

pub use super::image::ImageError;

/// A root file system in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootFs {
    /// What it holds.
    pub manifest: Manifest,
    /// How many devices, sockets and FIFOs were left out.
    pub skipped: u64,
}

/// Why a root file system can't be had.
#[derive(Debug, thiserror::Error)]
pub enum RootFsError {
    /// Paths that can't be used, or a failure of the store's.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The archive can't be read.
    #[error("can't read the archive {}", path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// The image can't be used.
    #[error(transparent)]
    Image(#[from] ImageError),
}

impl From<StoreError> for RootFsError {
    fn from(error: StoreError) -> Self {
        Self::Input(error.into())
    }
}

/// Makes the root file system that the configuration names stand in the store; `None` when it names paths of the host.
/// Paths are relative to `base`, an absolute path. What the store has already is not read or unpacked again.
///
/// # Errors
/// When it can't be read, holds what a tree can't carry, or is not what its digest says; or that the store failed.
pub fn prepare(
    rootfs: &Rootfs,
    base: &Path,
    store: &Store,
    progress: &dyn Progress,
) -> Result<Option<(RootFs, Layers)>, RootFsError> {
    let canonical = |path: &Path| {
        let path = base.join(path);
        fs::canonicalize(&path).map_err(|source| InputError::Root { path, source })
    };
    let (path, memory) = match rootfs {
        Rootfs::Host { .. } => return Ok(None),
        Rootfs::Dir(path) | Rootfs::Tar(path) => {
            let path = canonical(path)?;
            let memory = store.memory_of("rootfs", &path);
            (path, memory)
        }
        Rootfs::Image { layout, sha256 } => (canonical(layout)?, store.path().join("images").join(sha256)),
    };
    Store::note_use(&memory);
    let take = || match rootfs {
        Rootfs::Tar(_) => from_tar(&path, &memory, store),
        Rootfs::Image { sha256, .. } => from_image(&path, sha256, &memory, store),
        Rootfs::Host { .. } | Rootfs::Dir(_) => from_dir(&path, &memory, store, progress),
    };
    let mut attempts = 0;
    loop {
        let taken = take()?;
        match store.materialise(&taken.manifest, None, None) {
            // The store lost what the memory vouches for.
            Err(StoreError::Missing { .. }) if attempts < super::ATTEMPTS => attempts += 1,
            layers => return Ok(Some((taken, layers?))),
        }
        match fs::remove_file(&memory) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::Io { doing: "remove", path: memory, source }.into());
            }
            _ => {}
        }
    }
}

fn from_dir(dir: &Path, memory: &Path, store: &Store, progress: &dyn Progress) -> Result<RootFs, RootFsError> {
    let memo = Memo::read(memory.to_owned());
    let scan = Scan::new(dir, Unreadable::Fault, progress)?;
    let bad_names: Faults = scan.list.iter().filter_map(|scanned| unusable_name(scanned.path.as_bytes())).collect();
    bad_names.into_result().map_err(InputError::from)?;
    let read = |item: &Item<'_>, file: &mut File, buffer: &mut Vec<u8>| {
        store.put_file(file, Variant { executable: item.executable, family: Family::RootFs }, buffer)
    };
    let mut digests = scan.hash(&memo, store, &read, progress)?.digests.into_iter();
    progress.finished();
    let (mut contents, mut faults) = (Contents::default(), Faults::default());
    for scanned in &scan.list {
        let path = scanned.path.to_string_lossy().into_owned();
        let node = match &scanned.seen {
            Seen::File { executable, .. } => {
                Node::File { digest: digests.next().expect("one for each file"), executable: *executable }
            }
            Seen::Symlink { target } => match target.to_str() {
                Some(target) => Node::Symlink { target: target.to_owned() },
                None => {
                    let target = printable(target.as_os_str().as_bytes());
                    faults.push(Fault::BadTarget { path, target });
                    continue;
                }
            },
            Seen::Directory { .. } => Node::EmptyDirectory,
            Seen::Special(_) | Seen::Unreadable => {
                contents.skipped += 1;
                continue;
            }
        };
        contents.put(path, node);
    }
    faults.into_result().map_err(InputError::from)?;
    Ok(contents.into())
}

const TAR_FORMAT: &[u8; 8] = b"sbxtar01";
const IMAGE_FORMAT: &[u8; 8] = b"sbximag1";

fn from_tar(path: &Path, memory: &Path, store: &Store) -> Result<RootFs, RootFsError> {
    let start = now();
    let broken = |source| RootFsError::Archive { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(broken)?;
    let stamp = Stamp::of(&sys::files::status(&file).map_err(broken)?);
    let known = stamp.to_bytes();
    if let Some(body) = read_frame(memory, TAR_FORMAT)
        && let Some(body) = body.strip_prefix(known.as_slice())
        && let Some(rootfs) = RootFs::decode(body)
    {
        return Ok(rootfs);
    }
    let mut contents = Contents::default();
    archive::unpack(&mut file, store, &mut contents, archive::Whiteouts::AreFiles).map_err(|error| match error {
        archive::UnpackError::Read(source) => broken(source),
        archive::UnpackError::Input(error) => error.into(),
    })?;
    let rootfs = RootFs::from(contents);
    if Stamp::of(&sys::files::status(&file).map_err(broken)?) != stamp {
        return Err(InputError::from(Faults::one(Fault::Changing { path: path.display().to_string() })).into());
    }
    if is_settled(stamp.ctime, start) {
        store.write_frame(memory, TAR_FORMAT, &[known.as_slice(), &rootfs.encode()].concat())?;
    }
    Ok(rootfs)
}

fn from_image(layout: &Path, sha256: &str, memory: &Path, store: &Store) -> Result<RootFs, RootFsError> {
    if let Some(rootfs) = read_frame(memory, IMAGE_FORMAT).and_then(|body| RootFs::decode(&body)) {
        return Ok(rootfs);
    }
    let rootfs = RootFs::from(image::unpack(layout, sha256, store)?);
    store.write_frame(memory, IMAGE_FORMAT, &rootfs.encode())?;
    Ok(rootfs)
}

impl From<Contents> for RootFs {
    fn from(contents: Contents) -> Self {
        Self { skipped: contents.skipped, manifest: contents.into_manifest() }
    }
}

impl RootFs {
    fn encode(&self) -> Vec<u8> {
        [self.skipped.to_le_bytes().as_slice(), &self.manifest.encode()].concat()
    }

    fn decode(body: &[u8]) -> Option<Self> {
        let mut reader = Reader(body);
        Some(Self { skipped: reader.u64()?, manifest: Manifest::decode(reader.0)? })
    }
}

#[cfg(test)]
#[path = "rootfs_tests.rs"]
mod tests;
