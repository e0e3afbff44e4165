//! What can be wrong with the inputs: every fault is collected, so that one run names all of them.

use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use super::fetch::FetchError;
use super::ignored::Unreadable;
use super::packages::PackagesError;
use super::patterns::BadPattern;
use crate::path::printable;
use crate::store::StoreError;

/// How many faults are kept with their words; the rest is counted.
const KEPT: usize = 20;

/// Why the inputs could not be collected.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// Paths and patterns that can't be used.
    #[error(transparent)]
    Faults(#[from] Faults),
    /// The directory of the project can't be opened.
    #[error("can't open the directory {}", path.display())]
    Root {
        /// The directory.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A pattern is no glob.
    #[error(transparent)]
    Pattern(#[from] BadPattern),
    /// The kernel has no openat2.
    #[error("this kernel has no openat2 (Linux 5.6), without which inputs can't be opened safely")]
    NoOpenat2,
    /// What a mount shows can't be read.
    #[error("can't read {}, which a mount shows", path.display())]
    Mount {
        /// The path.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The packages of the host are not known.
    #[error(transparent)]
    Packages(#[from] PackagesError),
    /// Something can't be fetched.
    #[error(transparent)]
    Fetch(#[from] Box<FetchError>),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<FetchError> for InputError {
    fn from(error: FetchError) -> Self {
        Self::Fetch(Box::new(error))
    }
}

impl InputError {
    /// What helps.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Fetch(error) => error.hint(),
            Self::Packages(error) => error.hint(),
            Self::Faults(_)
            | Self::Root { .. }
            | Self::Pattern(_)
            | Self::NoOpenat2
            | Self::Mount { .. }
            | Self::Store(_) => None,
        }
    }
}

/// One path or pattern that can't be used. Paths are relative to the tree and safe to print.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// A pattern matches nothing.
    #[error("the pattern `{pattern}` matches nothing")]
    NoMatch {
        /// The pattern.
        pattern: String,
    },
    /// A pattern matches only what git ignores.
    #[error("the pattern `{pattern}` matches only what {} ignores (`gitignore = false` turns that off)", by.display())]
    OnlyIgnored {
        /// The pattern.
        pattern: String,
        /// The ignore file.
        by: PathBuf,
    },
    /// A pattern matches only directories that have entries.
    #[error("the pattern `{pattern}` matches only directories, not what is in them (write `{pattern}/**`)")]
    OnlyDirectories {
        /// The pattern.
        pattern: String,
    },
    /// The name can't be carried by the Remote Execution API.
    #[error("{path}: the name is not UTF-8")]
    NotUtf8 {
        /// The path, escaped.
        path: String,
    },
    /// The name could play tricks on a terminal and on tools.
    #[error("{path}: the name has a control character")]
    ControlCharacter {
        /// The path, escaped.
        path: String,
    },
    /// A link's text is not UTF-8, has a control character, or is empty.
    #[error("{path}: the link's target `{target}` can't be stored")]
    BadTarget {
        /// The path.
        path: String,
        /// The target, escaped.
        target: String,
    },
    /// A link points out of the tree.
    #[error("{path}: the link leaves the project, its target is {target}")]
    LeavesTree {
        /// The path.
        path: String,
        /// The target, escaped.
        target: String,
    },
    /// A name in an archive that is absolute, holds `..`, or goes through a link.
    #[error("{path}: the name leaves the archive's tree")]
    LeavesArchive {
        /// The path, escaped.
        path: String,
    },
    /// A link in an archive that leads out of it.
    #[error("{path}: the link leaves the archive's tree, its target is {target}")]
    LinkLeavesArchive {
        /// The path.
        path: String,
        /// The target, escaped.
        target: String,
    },
    /// A name that an archive has twice.
    #[error("{path}: the archive has it twice")]
    Twice {
        /// The path.
        path: String,
    },
    /// Something fetched and something of the project at one place.
    #[error(
        "{path}: it is fetched, and the project has the input {by} (take that out of `inputs`, or give the fetch another target)"
    )]
    Taken {
        /// The target.
        path: String,
        /// The input.
        by: String,
    },
    /// Neither file, directory nor link.
    #[error("{path}: {kind} can't be an input")]
    Special {
        /// The path.
        path: String,
        /// What it is.
        kind: &'static str,
    },
    /// The path can't be read.
    #[error("{path}: {source}")]
    Unreadable {
        /// The path.
        path: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The file was written to whenever it was read.
    #[error("{path}: the file changes while it is being read")]
    Changing {
        /// The path.
        path: String,
    },
}

/// Faults in the order in which they were met.
#[derive(Debug, Default)]
pub struct Faults {
    /// The first of them.
    pub list: Vec<Fault>,
    /// How many more there are.
    pub more: usize,
}

impl From<Unreadable> for Fault {
    fn from(Unreadable { file, source }: Unreadable) -> Self {
        Self::Unreadable { path: printable(file.as_os_str().as_bytes()), source }
    }
}

impl Faults {
    pub(crate) fn one(fault: Fault) -> Self {
        Self { list: vec![fault], more: 0 }
    }

    pub(crate) fn push(&mut self, fault: Fault) {
        if self.list.len() < KEPT {
            self.list.push(fault);
        } else {
            self.more += 1;
        }
    }

    pub(crate) fn append(&mut self, other: Self) {
        other.list.into_iter().for_each(|fault| self.push(fault));
        self.more += other.more;
    }

    pub(crate) fn into_result(self) -> Result<(), Self> {
        if self.list.is_empty() { Ok(()) } else { Err(self) }
    }
}

impl FromIterator<Fault> for Faults {
    fn from_iter<T: IntoIterator<Item = Fault>>(faults: T) -> Self {
        let mut all = Self::default();
        faults.into_iter().for_each(|fault| all.push(fault));
        all
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let ([only], 0) = (self.list.as_slice(), self.more) {
            return write!(f, "{only}");
        }
        write!(f, "{} inputs can't be used:", self.list.len() + self.more)?;
        for fault in &self.list {
            write!(f, "\n  {fault}")?;
        }
        if self.more > 0 {
            write!(f, "\n  and {} more", self.more)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}
