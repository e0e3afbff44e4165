//! Declared outputs come back: all of them or none, and nothing that the command made is followed or trusted.
//!
//! 1. [`stage`] copies what the patterns select out of the finished sandbox into `.sbx-outputs-<run id>/new` in the
//!    project; [`replay`](fn@replay) copies what an earlier run made out of the store. Nothing of the project is touched yet.
//! 2. [`Staged::commit`] looks at what stands in the project, writes down every change it will make (the journal), and
//!    makes them by rename. If one fails, those made are undone.
//! 3. [`recover`] finishes what a killed sbx began: with a journal the changes are completed, without one the staging is
//!    removed.
//!
//! The journal lies in the store and not in the staging: the project is whatever somebody checked out, and a journal
//! that came with it would be carried out.
//!
//! A file lock in the store makes commits of one project follow one another; each is short. Another lock, held for as
//! long as a staging exists, tells a live one from a leftover. The changes survive `kill -9` at any instruction; against
//! the loss of power they are as safe as those of `cp`, since nothing waits for the disk.

mod commit;
mod copy;
mod journal;
mod operation;
mod replay;
mod select;
mod staging;

use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use crate::action::result::Known;
use crate::config::model::Pattern;
use crate::digest::Digest;
use crate::path::GuestPath;
use crate::record::Output;
use crate::store::Store;
use crate::sys::beneath::RemoveError;

pub use commit::Staged;
pub use journal::recover;
pub use select::Selection;

use staging::Staging;

/// Where outputs are to come, and which.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The outputs, relative to the working directory inside and to `project` outside.
    pub patterns: &'a [Pattern],
    /// The project's root.
    pub project: &'a Path,
    /// A file of the project that no command may change (its configuration), relative to `project`.
    pub protected: Option<&'a str>,
    /// This run's id.
    pub run_id: &'a str,
    /// A directory of the store for this project's journals and locks; made when it is missing.
    pub journals: &'a Path,
    /// What the last successful run brought back: what of it is selected, not made again, and unchanged since goes.
    pub last: &'a [Output],
}

/// A sandbox in which no process is alive any more.
#[derive(Debug, Clone, Copy)]
pub struct Finished<'a> {
    /// The root directory as the command saw it.
    pub merged: BorrowedFd<'a>,
    /// The overlay's upper directory: what is not in it was not written and stays as it is in the project.
    pub upper: BorrowedFd<'a>,
    /// Where the project stands inside.
    pub workdir: &'a GuestPath,
}

/// Why outputs did not come back.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// A pattern can't be compiled.
    #[error("an output pattern is not a glob")]
    Pattern(#[from] globset::Error),
    /// Declared and not made.
    #[error("the command made no {}", quoted(patterns))]
    Missing {
        /// Every pattern that matched nothing.
        patterns: Vec<String>,
    },
    /// Something that can't be an output stands where one is declared.
    #[error("the output `{path}` {reason}")]
    Refused {
        /// Its path, safe to print.
        path: String,
        /// Why not.
        reason: Refusal,
    },
    /// The sandbox's side of an output can't be read.
    #[error("can't read the output `{path}`")]
    Read {
        /// Its path, safe to print.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A directory that an output belongs into is a symbolic link in the project.
    #[error("`{path}` is a symbolic link in the project, and outputs are not written through links")]
    LinkedParent {
        /// The link, relative to the project.
        path: String,
    },
    /// The project's side refuses.
    #[error("can't put `{path}` in its place")]
    Place {
        /// Relative to the project.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A file would replace a directory, and not all in it is the last run's.
    #[error("the output `{path}` is a directory in the project and holds `{file}`, which the last run did not make")]
    Occupied {
        /// The directory, relative to the project.
        path: String,
        /// What it holds, safe to print.
        file: String,
    },
    /// A file of sbx's own (staging, journal, lock) can't be written, read or removed.
    #[error("can't use `{}`", path.display())]
    Own {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A journal was written by another version of sbx.
    #[error("`{}` was written by another version of sbx (format {version}); finish with that version, or remove it", path.display())]
    Version {
        /// The journal.
        path: PathBuf,
        /// Its format.
        version: u32,
    },
    /// A change failed, and so did undoing those made before it.
    #[error("the project is left half changed: what was replaced is in `{}/old` and `new`, and the next run tries again ({commit})", staging.display())]
    Undo {
        /// Where everything is.
        staging: PathBuf,
        /// What failed first.
        commit: Box<OutputError>,
        /// What failed then.
        #[source]
        undo: Box<OutputError>,
    },
    /// A kept output is gone from the store or damaged.
    #[error("the kept content of `{path}` is missing or damaged")]
    Damaged {
        /// Relative to the project.
        path: String,
        /// The content.
        digest: Digest,
        /// Whether it is stored as an executable.
        executable: bool,
    },
    /// Leftovers of an earlier run can't be removed.
    #[error("can't remove what an earlier run left in the project")]
    Sweep(#[source] RemoveError),
}

/// Why something can't be an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// A named pipe.
    Fifo,
    /// A Unix socket.
    Socket,
    /// A character or block device.
    Device,
    /// The name has control characters or is not UTF-8.
    Name,
    /// The link's text has control characters or is not UTF-8.
    LinkText,
    /// Longer than 4095 bytes.
    TooLong,
    /// It would replace the file that governs the sandbox.
    Protected,
    /// The name is one that sbx keeps for itself.
    Reserved,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Fifo => "is a FIFO; only files, directories and symbolic links come back",
            Self::Socket => "is a socket; only files, directories and symbolic links come back",
            Self::Device => "is a device; only files, directories and symbolic links come back",
            Self::Name => "has a name with control characters or bytes that are not UTF-8",
            Self::LinkText => "is a symbolic link whose text has control characters or is not UTF-8",
            Self::TooLong => "has a path of more than 4095 bytes",
            Self::Protected => "would replace the configuration of the sandbox itself",
            Self::Reserved => "has a name that sbx keeps for itself",
        })
    }
}

fn quoted(patterns: &[String]) -> String {
    let quoted: Vec<String> = patterns.iter().map(|pattern| format!("`{pattern}`")).collect();
    quoted.join(", ")
}

/// Copies the declared outputs into a staging directory in the project. Without patterns nothing is done at all.
///
/// A file's mode becomes 0755 or 0644 by its owner's execute bit, its time is now, and further hard links to it become
/// copies. What the command has not written (an input that a pattern matches too) stays as it is in the project.
///
/// # Errors
/// When a pattern matched nothing, something selected can't be an output, or a file system refuses. The staging is
/// removed then.
pub fn stage(request: &Request<'_>, sandbox: &Finished<'_>) -> Result<Staged, OutputError> {
    if request.patterns.is_empty() {
        return Ok(Staged::nothing());
    }
    let selection = Selection::new(request.patterns)?;
    let mut staging = Staging::create(request)?;
    let found = copy::collect(request, sandbox, &selection, &mut staging)?;
    Ok(Staged::new(staging, selection, found, request.last))
}

/// Copies what a kept result holds out of the store into a staging directory in the project; what the project already has
/// is left alone. Without patterns nothing is done at all.
///
/// # Errors
/// [`OutputError::Damaged`] when the store has lost something of it; else when the project can't have it, or a file system
/// refuses. The staging is removed then.
pub fn replay(request: &Request<'_>, known: &Known, store: &Store) -> Result<Staged, OutputError> {
    if request.patterns.is_empty() {
        return Ok(Staged::nothing());
    }
    let selection = Selection::new(request.patterns)?;
    let mut staging = Staging::create(request)?;
    let found = replay::fetch(request, known, store, &mut staging)?;
    Ok(Staged::new(staging, selection, found, request.last))
}

#[cfg(test)]
mod tests;
