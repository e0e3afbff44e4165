//! From the finished sandbox into the staging: finding, checking, copying.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::select::{Deciding, Selection};
use super::staging::{StagedEntry, Staging};
use super::{Finished, OutputError, Refusal, Request};
use crate::digest::Digest;
use crate::path::{RelPath, STAGING_PREFIX, printable};
use crate::record::Output;
use crate::store::{CopyError, copy};
use crate::sys::beneath::{self, Kind, LONGEST_PATH, Status};

/// Read and written at once, in bytes.
pub(super) const BUFFER: usize = 256 * 1024;

/// What the patterns selected.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// What the command wrote, in staging.
    pub(super) staged: Vec<StagedEntry>,
    /// What a kept result holds and the project has already.
    pub(super) in_place: Vec<Output>,
    /// Every selected path that exists inside, staged or not.
    pub(super) present: BTreeSet<String>,
}

impl Found {
    /// What the command made.
    pub(super) fn outputs(&self) -> impl Iterator<Item = &Output> {
        self.staged.iter().map(|entry| &entry.output).chain(&self.in_place)
    }
}

/// Finds what is selected and copies it into the staging.
pub(super) fn collect(
    request: &Request<'_>,
    sandbox: &Finished<'_>,
    selection: &Selection,
    staging: &mut Staging,
) -> Result<Found, OutputError> {
    let mut seen = vec![false; selection.len()];
    let mut found = Found::default();
    if let Some(workdir) = open_workdir(sandbox)? {
        let mut walk = Walk {
            workdir,
            written: open_written(sandbox)?,
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

fn open_workdir(sandbox: &Finished<'_>) -> Result<Option<OwnedFd>, OutputError> {
    match beneath::open_hostile_directory(sandbox.merged, sandbox.workdir.relative()) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(source) => Err(OutputError::Read { path: sandbox.workdir.to_string(), source }),
        Ok(workdir) => Ok(Some(workdir)),
    }
}

/// The working directory in the upper layer; `None` when nothing was written below it.
fn open_written(sandbox: &Finished<'_>) -> Result<Option<OwnedFd>, OutputError> {
    match beneath::open_hostile_directory(sandbox.upper, sandbox.workdir.relative()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(OutputError::Read { path: sandbox.workdir.to_string(), source }),
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
            if let Some(reason) = refusal(text, self.protected) {
                return Err(refused(reason));
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
        set_mode(&to, executable).map_err(place_error)?;
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

/// Why no output may have this path.
pub(super) fn refusal(path: &str, protected: Option<&str>) -> Option<Refusal> {
    if path.starts_with(STAGING_PREFIX) {
        return Some(Refusal::Reserved);
    }
    protected.is_some_and(|protected| one_holds_the_other(protected, path)).then_some(Refusal::Protected)
}

fn one_holds_the_other(one: &str, other: &str) -> bool {
    Path::new(one).starts_with(other) || Path::new(other).starts_with(one)
}

/// The mode that an output's file gets in the project.
pub(super) fn set_mode(file: &File, executable: bool) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(if executable { 0o755 } else { 0o644 }))
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
