//! What was found out about a part of the host, remembered together with what vouches for it: the stamps of every
//! directory and regular file that it depends on.
//!
//! As long as all of them are what they were, so is the answer. A name appears, goes or becomes another thing only with a
//! change of its directory, so links, and what is not there, need no look of their own; a regular file can change in place.
//! Stamps are trusted by the rule of [`super::stamp`]: an answer that rests on one that is not settled is not remembered.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::num::NonZero;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use super::stamp::{Stamp, is_settled, now};
use crate::store::frame::{Reader, put_slice, read_frame};
use crate::store::{Store, StoreError};
use crate::sys::files::{CWD, open_no_follow, open_place, status, status_at};

const FORMAT: &[u8; 8] = b"sbxvouc1";

/// Directories per thread below which another thread costs more than it brings.
const PLACES_PER_THREAD: usize = 256;

/// How something looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// A directory, a regular file, or a symbolic link itself.
    Stamp(Stamp),
    /// Nothing was there.
    Missing,
    /// It could not be opened for reading.
    Unreadable,
}

impl Look {
    /// How the thing at `name` in `dir`, which lies at `path`, looks now, as far as it can be compared with `before`.
    fn again(before: Self, path: impl FnOnce() -> PathBuf, dir: &File, name: &OsStr) -> Option<Self> {
        if before == Self::Unreadable {
            let refused = open_no_follow(&path().join(name)).is_err_and(|error| denied(&error));
            return refused.then_some(Self::Unreadable);
        }
        // An empty name is the directory itself.
        let looked = if name.is_empty() { status(dir) } else { status_at(dir, name) };
        match looked {
            Ok(status) => Some(Self::Stamp(Stamp::of(&status))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Some(Self::Missing),
            Err(_) => None,
        }
    }
}

/// Whether a system call failed for lack of permission.
pub(super) fn denied(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

/// What an answer depends on, by directory and name. Paths are relative to some root.
#[derive(Debug, Default)]
pub(super) struct Vouchers(BTreeMap<Vec<u8>, Vec<(Vec<u8>, Look)>>);

impl Vouchers {
    /// `path` is empty for the root itself. One that ends with a slash is the directory to which a link may lead.
    pub(super) fn add(&mut self, path: &[u8], look: Look) {
        let (dir, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&b""[..], path),
        };
        match self.0.get_mut(dir) {
            Some(list) => list.push((name.to_owned(), look)),
            None => drop(self.0.insert(dir.to_owned(), vec![(name.to_owned(), look)])),
        }
    }

    /// Whether everything below `root` is still as it was.
    pub(super) fn hold(&self, root: &Path) -> bool {
        let root = Root::new(root);
        self.0.iter().all(|(dir, list)| root.holds(dir, list.iter().map(|(name, look)| (name.as_slice(), *look))))
    }

    fn settled(&self, start: i64) -> bool {
        self.0.values().flatten().all(|(_, look)| match look {
            Look::Stamp(stamp) => is_settled(stamp.ctime, start),
            Look::Missing | Look::Unreadable => true,
        })
    }
}

const STAMP: u8 = 0;
const MISSING: u8 = 1;
const UNREADABLE: u8 = 2;

/// An answer and its vouchers as they were remembered, or nothing.
pub(super) struct Remembered {
    path: PathBuf,
    body: Vec<u8>,
    /// When this look began.
    start: i64,
}

impl Remembered {
    /// Reads what is remembered at `path`. Must be called before anything is looked at, as the looking counts from here.
    pub(super) fn read(path: PathBuf) -> Self {
        let start = now();
        let body = read_frame(&path, FORMAT).unwrap_or_default();
        Self { path, body, start }
    }

    /// The same in a far future, when everything has settled.
    #[cfg(test)]
    pub(super) fn later(path: PathBuf) -> Self {
        Self { start: i64::MAX, ..Self::read(path) }
    }

    /// The answer, if everything that vouches for it below `root` is as it was.
    pub(super) fn answer(&self, root: &Path) -> Option<&[u8]> {
        let (answer, places) = self.decode()?;
        let threads = places.len().div_ceil(PLACES_PER_THREAD);
        let threads = match threads {
            0 | 1 => 1,
            many => many.min(thread::available_parallelism().map_or(1, NonZero::get)),
        };
        let root = Root::new(root);
        let (next, changed) = (AtomicUsize::new(0), AtomicBool::new(false));
        let work = || {
            while !changed.load(Ordering::Relaxed) {
                let Some(place) = places.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
                if !root.holds(place.dir, place.looks()) {
                    changed.store(true, Ordering::Relaxed);
                }
            }
        };
        thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(work);
            }
            work();
        });
        (!changed.into_inner()).then_some(answer)
    }

    /// Remembers `answer`, which was found out since [`Remembered::read`], when all that vouches for it is settled.
    pub(super) fn write(&self, store: &Store, answer: &[u8], vouchers: &Vouchers) -> Result<(), StoreError> {
        if !vouchers.settled(self.start) {
            return Ok(());
        }
        let mut body = Vec::new();
        put_slice(&mut body, answer);
        for (dir, list) in &vouchers.0 {
            put_slice(&mut body, dir);
            body.extend_from_slice(&(list.len() as u64).to_le_bytes());
            for (name, look) in list {
                put_slice(&mut body, name);
                match look {
                    Look::Stamp(stamp) => {
                        body.push(STAMP);
                        body.extend_from_slice(&stamp.to_bytes());
                    }
                    Look::Missing => body.push(MISSING),
                    Look::Unreadable => body.push(UNREADABLE),
                }
            }
        }
        store.write_frame(&self.path, FORMAT, &body)
    }

    fn decode(&self) -> Option<(&[u8], Vec<Place<'_>>)> {
        let mut reader = Reader(&self.body);
        let answer = reader.slice()?;
        let mut places = Vec::new();
        while !reader.is_empty() {
            let dir = reader.slice()?;
            let count = reader.u64()?;
            let list = reader.0;
            for _ in 0..count {
                read_look(&mut reader)?;
            }
            places.push(Place { dir, list: &list[..list.len() - reader.0.len()] });
        }
        Some((answer, places))
    }
}

/// What is remembered of one directory, which takes no memory besides.
struct Place<'a> {
    dir: &'a [u8],
    /// Names and looks, as they were written; they can be read.
    list: &'a [u8],
}

impl<'a> Place<'a> {
    fn looks(&self) -> impl Iterator<Item = (&'a [u8], Look)> + use<'a> {
        let mut reader = Reader(self.list);
        std::iter::from_fn(move || read_look(&mut reader))
    }
}

fn read_look<'a>(reader: &mut Reader<'a>) -> Option<(&'a [u8], Look)> {
    let name = reader.slice()?;
    let look = match reader.bytes()? {
        [STAMP] => Look::Stamp(Stamp::read(reader)?),
        [MISSING] => Look::Missing,
        [UNREADABLE] => Look::Unreadable,
        _ => return None,
    };
    Some((name, look))
}

/// What the paths are relative to.
struct Root<'a> {
    path: &'a Path,
    /// `None` where there is none.
    place: Option<File>,
}

impl<'a> Root<'a> {
    fn new(path: &'a Path) -> Self {
        Self { path, place: open_place(CWD, path).ok() }
    }

    /// Whether what is in `dir` looks as it did.
    fn holds<'b>(&self, dir: &[u8], mut looks: impl Iterator<Item = (&'b [u8], Look)>) -> bool {
        let dir = Path::new(OsStr::from_bytes(if dir.is_empty() { b"." } else { dir }));
        let opened = self.place.as_ref().and_then(|root| open_place(root, dir).ok());
        let Some(opened) = opened else { return looks.all(|(_, look)| look == Look::Missing) };
        let path = || self.path.join(dir);
        looks.all(|(name, look)| Look::again(look, path, &opened, OsStr::from_bytes(name)) == Some(look))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    struct Fixture {
        dir: tempfile::TempDir,
        store: Store,
    }

    impl Fixture {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(dir.path().join("store")).unwrap();
            fs::create_dir_all(dir.path().join("root/sub")).unwrap();
            fs::write(dir.path().join("root/a"), "one").unwrap();
            fs::write(dir.path().join("root/sub/b"), "two").unwrap();
            Self { dir, store }
        }

        fn root(&self) -> PathBuf {
            self.dir.path().join("root")
        }

        fn memory(&self) -> PathBuf {
            self.store.path().join("memory")
        }

        fn look(&self, path: &str) -> Look {
            Look::Stamp(Stamp::of(&status(&File::open(self.root().join(path)).unwrap()).unwrap()))
        }

        /// Remembers "answer" as one would who looks at everything when all of it has rested for a while.
        fn remember(&self) {
            let mut vouchers = Vouchers::default();
            for path in ["", "a", "sub", "sub/b"] {
                vouchers.add(path.as_bytes(), self.look(path));
            }
            vouchers.add(b"none", Look::Missing);
            vouchers.add(b"nowhere/at/all", Look::Missing);
            let later = Remembered::later(self.memory());
            later.write(&self.store, b"answer", &vouchers).unwrap();
        }

        fn answer(&self) -> Option<Vec<u8>> {
            Remembered::read(self.memory()).answer(&self.root()).map(<[u8]>::to_owned)
        }
    }

    #[test]
    fn an_answer_holds_while_nothing_changes() {
        let fixture = Fixture::new();
        assert_eq!(fixture.answer(), None);
        fixture.remember();
        assert_eq!(fixture.answer().unwrap(), b"answer");
    }

    #[test]
    fn every_change_ends_it() {
        type Change = fn(&Path);
        let changes: [(&str, Change); 7] = [
            ("a file in place", |root| fs::write(root.join("sub/b"), "owt").unwrap()),
            ("a file's mode", |root| {
                use std::os::unix::fs::PermissionsExt as _;
                fs::set_permissions(root.join("a"), fs::Permissions::from_mode(0o755)).unwrap();
            }),
            ("a new name", |root| fs::write(root.join("sub/c"), "").unwrap()),
            ("a name gone", |root| fs::remove_file(root.join("a")).unwrap()),
            ("a new link", |root| std::os::unix::fs::symlink("x", root.join("sub/link")).unwrap()),
            ("what was missing", |root| fs::create_dir_all(root.join("nowhere/at/all")).unwrap()),
            ("another directory", |root| {
                fs::rename(root.join("sub"), root.join("old")).unwrap();
                fs::create_dir(root.join("sub")).unwrap();
            }),
        ];
        for (name, change) in changes {
            let fixture = Fixture::new();
            fixture.remember();
            change(&fixture.root());
            assert_eq!(fixture.answer(), None, "{name}");
        }
    }

    #[test]
    fn what_is_not_settled_is_not_remembered() {
        let fixture = Fixture::new();
        let mut vouchers = Vouchers::default();
        vouchers.add(b"a", fixture.look("a"));
        Remembered::read(fixture.memory()).write(&fixture.store, b"answer", &vouchers).unwrap();
        assert_eq!(fixture.answer(), None);
        assert!(!fixture.memory().exists());
    }

    #[test]
    fn many_directories_are_looked_at_together() {
        let fixture = Fixture::new();
        let mut vouchers = Vouchers::default();
        for number in 0..3 * PLACES_PER_THREAD {
            fs::create_dir(fixture.root().join(number.to_string())).unwrap();
            fs::write(fixture.root().join(format!("{number}/f")), "").unwrap();
            vouchers.add(format!("{number}/f").as_bytes(), fixture.look(&format!("{number}/f")));
        }
        let later = Remembered::later(fixture.memory());
        later.write(&fixture.store, b"answer", &vouchers).unwrap();
        assert_eq!(fixture.answer().unwrap(), b"answer");
        fs::write(fixture.root().join("700/f"), "x").unwrap();
        assert_eq!(fixture.answer(), None);
    }
}
