//! From the finished sandbox into the staging: finding, checking, copying.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::select::{Deciding, Selection};
use super::staging::{StagedEntry, Staging};
use super::{OutputError, Refusal, Request};
use crate::digest::Digest;
use crate::path::{RelPath, STAGING_PREFIX, printable};
use crate::record::Output;
use crate::sys::beneath::{self, Kind, LONGEST_PATH, Status};
use crate::sys::sparse::next_data;

/// Read and written at once, in bytes.
const BUFFER: usize = 256 * 1024;

/// What the patterns selected.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// What the command wrote, in staging.
    pub(super) staged: Vec<StagedEntry>,
    /// Every selected path that exists inside, staged or not.
    pub(super) present: BTreeSet<String>,
}

/// Finds what is selected and copies it into the staging.
pub(super) fn collect(
    request: &Request<'_>,
    selection: &Selection,
    staging: &mut Staging,
) -> Result<Found, OutputError> {
    let mut seen = vec![false; selection.len()];
    let mut found = Found::default();
    if let Some(workdir) = open_workdir(request)? {
        let mut walk = Walk {
            workdir,
            written: open_written(request)?,
            protected: request.protected,
            selection,
            staging,
            seen: &mut seen,
            found: &mut found,
            directories: vec![(Vec::new(), None)],
            buffer: vec![0; BUFFER],
        };
        // The directories that wait are a list, not the call stack: a command can nest them deeper than a stack is.
        while let Some((path, deciding)) = walk.directories.pop() {
            walk.directory(&path, deciding)?;
        }
    }
    let patterns = selection.unmatched(&seen);
    if patterns.is_empty() { Ok(found) } else { Err(OutputError::Missing { patterns }) }
}

fn open_workdir(request: &Request<'_>) -> Result<Option<OwnedFd>, OutputError> {
    match beneath::open_hostile_directory(request.merged, request.workdir.relative()) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(source) => Err(OutputError::Read { path: request.workdir.to_string(), source }),
        Ok(workdir) => Ok(Some(workdir)),
    }
}

/// The working directory in the upper layer; `None` when nothing was written below it.
fn open_written(request: &Request<'_>) -> Result<Option<OwnedFd>, OutputError> {
    match beneath::open_hostile_directory(request.upper, request.workdir.relative()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(OutputError::Read { path: request.workdir.to_string(), source }),
        Ok(written) => Ok(Some(written)),
    }
}

struct Walk<'a> {
    workdir: OwnedFd,
    written: Option<OwnedFd>,
    protected: Option<&'a str>,
    selection: &'a Selection,
    staging: &'a mut Staging,
    seen: &'a mut [bool],
    found: &'a mut Found,
    /// Directories still to be entered, with what decided about each.
    directories: Vec<(Vec<u8>, Deciding)>,
    buffer: Vec<u8>,
}

impl Walk<'_> {
    fn directory(&mut self, path: &[u8], deciding: Deciding) -> Result<(), OutputError> {
        let read_error = |source| OutputError::Read { path: printable(path), source };
        let directory = beneath::open_hostile_directory(&self.workdir, OsStr::from_bytes(path)).map_err(read_error)?;
        let names = beneath::list(&directory).map_err(read_error)?;
        if names.is_empty() && self.selection.is_selected(deciding) {
            return self.take(path, |_, path| Ok(StagedEntry { output: Output::directory(path), slot: None }));
        }
        for name in names {
            let mut below = path.to_vec();
            if !path.is_empty() {
                below.push(b'/');
            }
            below.extend_from_slice(name.as_bytes());
            self.entry(&directory, &name, below, deciding)?;
        }
        Ok(())
    }

    fn entry(&mut self, directory: &OwnedFd, name: &OsStr, path: Vec<u8>, above: Deciding) -> Result<(), OutputError> {
        // Lossy only until it is selected: `take` and the checks here refuse a path that is not text.
        let text = String::from_utf8_lossy(&path);
        let deciding = self.selection.decide(above, &text, self.seen);
        let selected = self.selection.is_selected(deciding);
        if !selected && !self.selection.may_match_below(&text) {
            return Ok(());
        }
        let read_error = |source| OutputError::Read { path: printable(&path), source };
        let Some(status) = beneath::status(directory, name).map_err(read_error)? else { return Ok(()) };
        if selected {
            self.check(&path, &status)?;
        }
        match status.kind {
            Kind::Directory => self.directories.push((path, deciding)),
            Kind::File if selected => {
                self.take(&path, |walk, text| walk.file(directory, name, text, status.is_executable()))?
            }
            Kind::Symlink if selected => self.take(&path, |walk, text| walk.link(directory, name, text))?,
            _ => {}
        }
        Ok(())
    }

    fn check(&self, path: &[u8], status: &Status) -> Result<(), OutputError> {
        let refusal = match status.kind {
            _ if path.len() > LONGEST_PATH => Refusal::TooLong,
            Kind::Fifo => Refusal::Fifo,
            Kind::Socket => Refusal::Socket,
            Kind::CharacterDevice { .. } | Kind::BlockDevice => Refusal::Device,
            Kind::File | Kind::Directory | Kind::Symlink => return Ok(()),
        };
        Err(OutputError::Refused { path: printable(path), reason: refusal })
    }

    /// Notes a selected leaf, and brings it into the staging with `copy` if the command wrote it.
    fn take(
        &mut self,
        path: &[u8],
        copy: impl FnOnce(&mut Self, &str) -> Result<StagedEntry, OutputError>,
    ) -> Result<(), OutputError> {
        let refused = |reason| OutputError::Refused { path: printable(path), reason };
        let text = str::from_utf8(path).ok().filter(|text| RelPath::new(text).is_ok());
        let text = text.ok_or_else(|| refused(Refusal::Name))?;
        if self.is_written(path)? {
            if text.starts_with(STAGING_PREFIX) {
                return Err(refused(Refusal::Reserved));
            }
            if self.protected.is_some_and(|protected| one_holds_the_other(protected, text)) {
                return Err(refused(Refusal::Protected));
            }
            let entry = copy(self, text)?;
            self.found.staged.push(entry);
        }
        self.found.present.insert(text.to_owned());
        Ok(())
    }

    fn is_written(&self, path: &[u8]) -> Result<bool, OutputError> {
        let Some(written) = &self.written else { return Ok(false) };
        let status = beneath::status(written, OsStr::from_bytes(path));
        Ok(status.map_err(|source| OutputError::Read { path: printable(path), source })?.is_some())
    }

    fn file(
        &mut self,
        directory: &OwnedFd,
        name: &OsStr,
        path: &str,
        executable: bool,
    ) -> Result<StagedEntry, OutputError> {
        let read_error = |source| OutputError::Read { path: path.to_owned(), source };
        let place_error = |source| OutputError::Place { path: path.to_owned(), source };
        let from = beneath::open_hostile_file(directory, name).map_err(read_error)?;
        let (slot, mut to) = self.staging.create_file()?;
        let digest = match copy(&from, &mut to, &mut self.buffer) {
            Err(CopyError::Read(source)) => return Err(read_error(source)),
            Err(CopyError::Write(source)) => return Err(place_error(source)),
            Ok(digest) => digest,
        };
        let mode = if executable { 0o755 } else { 0o644 };
        to.set_permissions(Permissions::from_mode(mode)).map_err(place_error)?;
        Ok(StagedEntry { output: Output::file(path, executable, &digest), slot: Some(slot) })
    }

    fn link(&mut self, directory: &OwnedFd, name: &OsStr, path: &str) -> Result<StagedEntry, OutputError> {
        let target = beneath::read_link(directory, name);
        let target = target.map_err(|source| OutputError::Read { path: path.to_owned(), source })?;
        let text = target.into_string().ok().filter(|text| !text.chars().any(char::is_control));
        let target = text.ok_or_else(|| OutputError::Refused { path: path.to_owned(), reason: Refusal::LinkText })?;
        let slot = self.staging.create_link(&target)?;
        Ok(StagedEntry { output: Output::symlink(path, &target), slot: Some(slot) })
    }
}

fn one_holds_the_other(one: &str, other: &str) -> bool {
    Path::new(one).starts_with(other) || Path::new(other).starts_with(one)
}

enum CopyError {
    Read(io::Error),
    Write(io::Error),
}

/// Copies and hashes the whole of `from`; holes stay holes.
///
/// There is nothing to gain by `FICLONE` or `copy_file_range`: the content must be read for its hash, and the kernel
/// shares no blocks between an overlay and another file system (`EXDEV`).
fn copy(mut from: &File, to: &mut File, buffer: &mut [u8]) -> Result<Digest, CopyError> {
    let size = from.metadata().map_err(CopyError::Read)?.len();
    let mut hash = Sha256::new();
    let mut done = 0;
    while let Some(data) = next_data(from, done).map_err(CopyError::Read)? {
        hash_zeros(&mut hash, data.start - done);
        from.seek(SeekFrom::Start(data.start)).map_err(CopyError::Read)?;
        to.seek(SeekFrom::Start(data.start)).map_err(CopyError::Write)?;
        done = data.start;
        while done < data.end {
            let most = usize::try_from(data.end - done).unwrap_or(usize::MAX).min(buffer.len());
            let chunk = &mut buffer[..most];
            from.read_exact(chunk).map_err(CopyError::Read)?;
            hash.update(&*chunk);
            to.write_all(chunk).map_err(CopyError::Write)?;
            done += most as u64;
        }
    }
    hash_zeros(&mut hash, size - done);
    to.set_len(size).map_err(CopyError::Write)?;
    Ok(Digest { hash: hash.finalize().into(), size })
}

/// The digest of all that `file` holds.
pub(super) fn hash(mut file: File) -> io::Result<Digest> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; BUFFER];
    let mut size = 0;
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(Digest { hash: hash.finalize().into(), size });
        }
        hash.update(&buffer[..count]);
        size += count as u64;
    }
}

fn hash_zeros(hash: &mut Sha256, mut count: u64) {
    const ZEROS: &[u8] = &[0; 64 * 1024];
    while count > 0 {
        let some = usize::try_from(count).unwrap_or(usize::MAX).min(ZEROS.len());
        hash.update(&ZEROS[..some]);
        count -= some as u64;
    }
}
