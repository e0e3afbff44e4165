//! Looking at what a walk meets: one system call for each file, by its name in a directory that is open already.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::stamp::Stamp;
use super::walk::name;
use crate::sys::files::{CWD, Kind, Status, open_place, status_at};

/// What stands at a path.
pub(super) enum Seen {
    File {
        stamp: Stamp,
        executable: bool,
        /// Whether everybody may read it.
        public: bool,
    },
    Symlink {
        target: PathBuf,
    },
    Directory {
        stamp: Stamp,
    },
    /// The caller may not read it; only met where that is no fault.
    Unreadable,
    /// A device, socket or FIFO, in words.
    Special(&'static str),
}

/// Keeps the directory open in which it looked last: a walk meets the files of a directory one after the other, and a
/// whole path takes the kernel about twice as long as a name.
pub(super) struct Looker<'a> {
    root: &'a Path,
    place: Option<(Vec<u8>, File)>,
}

impl<'a> Looker<'a> {
    /// For paths below `root`.
    pub(super) fn new(root: &'a Path) -> Self {
        Self { root, place: None }
    }

    /// Looks at `path`, relative to the root.
    pub(super) fn look(&mut self, path: &[u8]) -> io::Result<Seen> {
        let status = self.status(path)?;
        Ok(match status.kind {
            Kind::Regular => Seen::File {
                stamp: Stamp::of(&status),
                executable: status.mode & 0o100 != 0,
                public: status.mode & 0o004 != 0,
            },
            Kind::Symlink => Seen::Symlink { target: fs::read_link(self.root.join(OsStr::from_bytes(path)))? },
            Kind::Directory => Seen::Directory { stamp: Stamp::of(&status) },
            Kind::Fifo => Seen::Special("a FIFO"),
            Kind::Socket => Seen::Special("a socket"),
            Kind::Device => Seen::Special("a device"),
            Kind::Other => Seen::Special("what is neither file, directory nor link"),
        })
    }

    fn status(&mut self, path: &[u8]) -> io::Result<Status> {
        let (dir, name) = path.split_at(path.len() - name(path).len());
        let name = OsStr::from_bytes(name);
        if let Some((at, place)) = &self.place
            && at == dir
        {
            return status_at(place, name);
        }
        let place = open_place(CWD, &self.root.join(OsStr::from_bytes(dir)))?;
        let status = status_at(&place, name);
        self.place = Some((dir.to_owned(), place));
        status
    }
}
