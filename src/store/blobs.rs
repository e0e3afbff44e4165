//! Blobs: file contents by digest, with the mode and times that a sandbox shows.

use std::fs::{self, File, FileTimes, Metadata};
use std::io::{self, Read, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use super::{CopyError, MTIME, Store, StoreError, copy, publish, publish_new};
use crate::digest::Digest;
use crate::sys;

/// How much is read at once. A smaller file is hashed before anything is written, so that a known content is not
/// written again.
const CHUNK: usize = 256 * 1024;

/// Which trees a blob is linked into. A root file system and the inputs lie over each other in one sandbox, where two
/// files must never be the same inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Inputs,
    RootFs,
}

/// What tells two stored files of equal content apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Variant {
    pub(crate) executable: bool,
    pub(crate) family: Family,
}

impl Variant {
    fn input(executable: bool) -> Self {
        Self { executable, family: Family::Inputs }
    }

    fn suffix(self) -> &'static str {
        match (self.family, self.executable) {
            (Family::Inputs, false) => "",
            (Family::Inputs, true) => "-x",
            (Family::RootFs, false) => "-r",
            (Family::RootFs, true) => "-rx",
        }
    }
}

/// Why a file could not be taken into the store: the file's fault, or the store's.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The source can't be read.
    #[error("can't read it")]
    Read(#[source] io::Error),
    /// The store can't be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Stores `bytes`.
    ///
    /// # Errors
    /// When the store can't be written; nothing is left behind then.
    pub fn put_bytes(&self, bytes: &[u8], executable: bool) -> Result<Digest, StoreError> {
        self.put(bytes, Variant::input(executable))
    }

    /// Stores the content of a file of a root file system.
    ///
    /// # Errors
    /// As [`Store::put_bytes`].
    pub fn put_root_bytes(&self, bytes: &[u8], executable: bool) -> Result<Digest, StoreError> {
        self.put(bytes, Variant { executable, family: Family::RootFs })
    }

    fn put(&self, bytes: &[u8], variant: Variant) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        if claim(&self.blob_path(&digest, variant, 0), &digest, variant.executable) {
            return Ok(digest);
        }
        let mut temp = self.temp_file()?;
        temp.write_all(bytes).map_err(StoreError::io("write", temp.path()))?;
        self.keep(temp, digest, variant)
    }

    /// Stores the rest of `source`, hashing the very bytes that are stored.
    ///
    /// A large file is cloned first where the file system can do that, and the clone is hashed. `buffer` is working
    /// space, so that a caller with many files allocates it once.
    ///
    /// # Errors
    /// When `source` can't be read, or the store can't be written; nothing is left behind then.
    pub(crate) fn put_file(
        &self,
        source: &mut File,
        variant: Variant,
        buffer: &mut Vec<u8>,
    ) -> Result<Digest, PutError> {
        let first = read_chunk(source, buffer).map_err(PutError::Read)?;
        if first == CHUNK {
            let mut temp = self.temp_file()?;
            if sys::files::clone_content(source, temp.as_file()).is_ok() {
                let digest = hash_file(temp.as_file_mut(), buffer).map_err(|error| match error {
                    PutError::Read(source) => StoreError::io("read", temp.path())(source),
                    PutError::Store(error) => error,
                })?;
                return Ok(self.keep(temp, digest, variant)?);
            }
        }
        self.put_rest(source, variant, buffer, first)
    }

    /// Stores what `source` has to give; see [`Store::put_file`].
    pub(crate) fn put_stream(
        &self,
        source: &mut dyn Read,
        variant: Variant,
        buffer: &mut Vec<u8>,
    ) -> Result<Digest, PutError> {
        let first = read_chunk(source, buffer).map_err(PutError::Read)?;
        self.put_rest(source, variant, buffer, first)
    }

    /// Stores what `source` has to give, as a file that is not executable.
    ///
    /// # Errors
    /// When `source` can't be read, or the store can't be written; nothing is left behind then.
    pub(crate) fn put_reader(&self, source: &mut dyn Read, buffer: &mut Vec<u8>) -> Result<Digest, PutError> {
        self.put_stream(source, Variant::input(false), buffer)
    }

    /// Stores the first chunk, which is in `buffer` and has `length` bytes, and what follows it in `source`.
    fn put_rest(
        &self,
        source: &mut dyn Read,
        variant: Variant,
        buffer: &mut Vec<u8>,
        mut length: usize,
    ) -> Result<Digest, PutError> {
        if length < CHUNK {
            return Ok(self.put(&buffer[..length], variant)?);
        }
        let mut temp = self.temp_file()?;
        let mut hasher = Sha256::new();
        let mut size = 0;
        while length > 0 {
            let chunk = &buffer[..length];
            hasher.update(chunk);
            size += chunk.len() as u64;
            temp.write_all(chunk).map_err(StoreError::io("write", temp.path()))?;
            length = read_chunk(source, buffer).map_err(PutError::Read)?;
        }
        let digest = Digest { hash: hasher.finalize().into(), size };
        Ok(self.keep(temp, digest, variant)?)
    }

    /// Stores a copy of `file`, whose content is known to have this digest; holes stay holes.
    ///
    /// # Errors
    /// When the content turns out to be another one, or the store can't be written; nothing is left behind then.
    pub(crate) fn put_known(&self, file: &File, digest: &Digest, executable: bool) -> Result<(), PutError> {
        let variant = Variant::input(executable);
        if claim(&self.blob_path(digest, variant, 0), digest, executable) {
            return Ok(());
        }
        let mut temp = self.temp_file()?;
        match copy(file, temp.as_file_mut(), &mut vec![0; CHUNK]) {
            Ok(copied) if copied == *digest => {}
            Ok(_) => return Err(PutError::Read(io::Error::other("it changed while it was copied"))),
            Err(CopyError::Read(error)) => return Err(PutError::Read(error)),
            Err(CopyError::Write(error)) => return Err(StoreError::io("write", temp.path())(error).into()),
        }
        self.keep(temp, *digest, variant)?;
        Ok(())
    }

    /// Copies a stored blob into `to`, an empty file, hashing it; `false` when it is not there or damaged, and `to` holds
    /// anything then.
    ///
    /// # Errors
    /// When `to` can't be written.
    pub(crate) fn copy_blob(
        &self,
        digest: &Digest,
        executable: bool,
        to: &mut File,
        buffer: &mut [u8],
    ) -> io::Result<bool> {
        let Ok(from) = self.open_blob(digest, executable) else { return Ok(false) };
        match copy(&from, to, buffer) {
            Ok(copied) => Ok(copied == *digest),
            Err(CopyError::Read(_)) => Ok(false),
            Err(CopyError::Write(error)) => Err(error),
        }
    }

    /// Removes a blob that is damaged though it looks whole, so that it is stored again.
    ///
    /// # Errors
    /// When it is there and can't be removed.
    pub(crate) fn discard_blob(&self, digest: &Digest, executable: bool) -> Result<(), StoreError> {
        let path = self.blob_path(digest, Variant::input(executable), 0);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", &path)(error)),
            _ => Ok(()),
        }
    }

    /// Gives a finished file its name, unless the store has it already.
    fn keep(&self, temp: NamedTempFile, digest: Digest, variant: Variant) -> Result<Digest, StoreError> {
        self.keep_instance(temp, &digest, variant, 0)?;
        Ok(digest)
    }

    /// See [`Store::keep`].
    pub(super) fn keep_instance(
        &self,
        temp: NamedTempFile,
        digest: &Digest,
        variant: Variant,
        instance: u32,
    ) -> Result<(), StoreError> {
        let path = self.blob_path(digest, variant, instance);
        if claim(&path, digest, variant.executable) {
            return Ok(());
        }
        seal(temp.as_file(), variant.executable).map_err(StoreError::io("write", temp.path()))?;
        // Closed before it gets its name: a file that is open for writing can't be executed (ETXTBSY).
        let temp = temp.into_temp_path();
        // The first of several writers wins: link(2) of an inode that was just replaced fails with ENOENT.
        match publish_new(temp, &path)? {
            Some(temp) if !claim(&path, digest, variant.executable) => publish(temp, &path)?,
            Some(_) => return Ok(()),
            None => {}
        }
        self.count(digest.size);
        Ok(())
    }

    /// Opens a stored blob for reading.
    ///
    /// # Errors
    /// [`StoreError::Missing`] when it is not there or visibly damaged.
    pub fn open_blob(&self, digest: &Digest, executable: bool) -> Result<File, StoreError> {
        let missing = || StoreError::Missing { digests: vec![*digest] };
        let file = File::open(self.blob_path(digest, Variant::input(executable), 0)).map_err(|_| missing())?;
        match file.metadata() {
            Ok(metadata) if looks_whole(&metadata, digest, executable) => Ok(file),
            _ => Err(missing()),
        }
    }

    /// Opens a stored blob, every byte of it checked; `None` when it is not there or damaged.
    pub(crate) fn open_checked(&self, digest: &Digest, executable: bool) -> Option<File> {
        let mut file = self.open_blob(digest, executable).ok()?;
        let found = hash_file(&mut file, &mut Vec::new()).ok()?;
        file.rewind().ok()?;
        (found == *digest).then_some(file)
    }

    /// The content of a blob, hashed while it is read; `None` when it is not there whole, or is other bytes.
    pub fn read_blob(&self, digest: &Digest) -> Option<Vec<u8>> {
        let read = |executable| {
            let mut bytes = Vec::new();
            self.open_blob(digest, executable).ok()?.take(digest.size).read_to_end(&mut bytes).ok()?;
            (Digest::of(&bytes) == *digest).then_some(bytes)
        };
        read(false).or_else(|| read(true))
    }

    /// Where the `instance`-th inode of a content stands.
    pub(super) fn blob_path(&self, digest: &Digest, variant: Variant, instance: u32) -> PathBuf {
        let hex = digest.hex();
        let suffix = variant.suffix();
        let name = match instance {
            0 => format!("{}{suffix}", &hex[2..]),
            _ => format!("{}{suffix}.{instance}", &hex[2..]),
        };
        let mut path = self.dir.join("blobs");
        path.push(&hex[..2]);
        path.push(name);
        path
    }
}

/// True when the blob at `path` is whole. It is young again then (its ctime, which nobody can set to anything else), so
/// that `gc` leaves it to whoever is about to refer to it.
fn claim(path: &Path, digest: &Digest, executable: bool) -> bool {
    is_whole(path, digest, executable)
        && fs::set_permissions(path, fs::Permissions::from_mode(mode(executable))).is_ok()
}

/// True when the blob at `path` has the size, mode and time that the store gave it.
pub(super) fn is_whole(path: &Path, digest: &Digest, executable: bool) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| looks_whole(&metadata, digest, executable))
}

/// The same of what was looked at already.
pub(super) fn looks_whole(metadata: &Metadata, digest: &Digest, executable: bool) -> bool {
    metadata.is_file()
        && metadata.len() == digest.size
        && metadata.mode() & 0o7777 == mode(executable)
        && (metadata.mtime(), metadata.mtime_nsec()) == (MTIME, 0)
}

fn mode(executable: bool) -> u32 {
    if executable { 0o755 } else { 0o644 }
}

/// Gives a finished file the mode and the times that it keeps.
pub(super) fn seal(file: &File, executable: bool) -> io::Result<()> {
    file.set_permissions(fs::Permissions::from_mode(mode(executable)))?;
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(MTIME.unsigned_abs());
    file.set_times(FileTimes::new().set_accessed(time).set_modified(time))
}

/// The digest of the rest of `file`, of which nothing is stored.
pub(crate) fn hash_file(file: &mut File, buffer: &mut Vec<u8>) -> Result<Digest, PutError> {
    let mut hasher = Sha256::new();
    let mut size = 0;
    loop {
        let length = read_chunk(file, buffer).map_err(PutError::Read)?;
        if length == 0 {
            return Ok(Digest { hash: hasher.finalize().into(), size });
        }
        hasher.update(&buffer[..length]);
        size += length as u64;
    }
}

/// Reads the next [`CHUNK`] bytes into `buffer`, fewer only at the end of the file; how many they are.
fn read_chunk(source: &mut dyn Read, buffer: &mut Vec<u8>) -> io::Result<usize> {
    buffer.resize(CHUNK, 0);
    let mut length = 0;
    while length < CHUNK {
        match source.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}
