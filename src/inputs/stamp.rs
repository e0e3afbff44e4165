//! The memo: which digests the files of a tree had, so that a file that did not change is not read again.
//!
//! A file is known by its [`Stamp`]. The times of files come from a clock that stands still between two ticks, so a file
//! that is written twice within a tick keeps its stamp (git calls this racy). A stamp is therefore remembered only when
//! its ctime lies before the start of the hashing by more than the granularity of that clock ([`is_settled`]): whatever
//! is written after the start then gets another ctime, which unlike the mtime no process can set.
//!
//! The memo is one file, sorted like the walk, read at once and merged with the walk step by step. It is written whole; so a
//! large one is mostly left as it is while the files that it does not know are few.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::path::PathBuf;
use std::time::SystemTime;

use super::path_order;
use crate::digest::Digest;
use crate::store::frame::{Reader, put_text, read_frame};
use crate::store::{Store, StoreError};
use crate::sys::files::Status;

/// A file's identity and state as stat(2) tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) size: u64,
    /// Nanoseconds since the epoch.
    pub(crate) mtime: i64,
    /// Nanoseconds since the epoch.
    pub(crate) ctime: i64,
}

impl Stamp {
    pub(crate) fn of(status: &Status) -> Self {
        Self {
            device: status.device,
            inode: status.inode,
            size: status.size,
            mtime: nanoseconds(status.mtime),
            ctime: nanoseconds(status.ctime),
        }
    }

    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let Self { device, inode, size, mtime, ctime } = self;
        [device, inode, size, mtime.cast_unsigned(), ctime.cast_unsigned()].map(u64::to_le_bytes).concat()
    }

    /// What [`Stamp::to_bytes`] wrote.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let (device, inode, size) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let (mtime, ctime) = (reader.i64()?, reader.i64()?);
        Some(Self { device, inode, size, mtime, ctime })
    }
}

const SECOND: i64 = 1_000_000_000;

/// Wraps beyond the year 2262, which keeps two times apart all the same.
fn nanoseconds((seconds, rest): (i64, i64)) -> i64 {
    seconds.wrapping_mul(SECOND).wrapping_add(rest)
}

/// The present time in nanoseconds since the epoch; 0, at which nothing is settled, when the clock is before that.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(0)
}

/// Kernels stamp files with the time of the last tick, at most 10 ms ago (`CONFIG_HZ=100`); some file systems round that
/// to 10 ms more (exFAT). Twice and a half of both.
const TICK: i64 = SECOND / 20;

/// File systems that keep no fraction keep whole seconds, FAT two of them.
const COARSE_TICK: i64 = 2 * SECOND;

/// True when a change after `start` can't leave a file with this `ctime`.
pub(crate) fn is_settled(ctime: i64, start: i64) -> bool {
    let granularity = if ctime % SECOND == 0 { COARSE_TICK } else { TICK };
    ctime < start.saturating_sub(granularity)
}

const FORMAT: &[u8; 8] = b"sbxmemo1";

/// How many bytes of files that a walk did not meet are kept in any case.
const KEPT_FREELY: usize = 64 * 1024;

/// A memo of at most so many bytes is written whenever there is something new.
const WRITTEN_FREELY: usize = 64 * 1024;
/// To open a file and to find its content in the store takes as long as to write so many bytes of a memo.
const BYTES_PER_FILE: u64 = 16 * 1024;

/// The memo of one tree, to be asked for its files in the order of [`path_order`].
pub(crate) struct Memo {
    path: PathBuf,
    body: Vec<u8>,
    /// When the hashing began.
    start: i64,
}

/// A file that the walk met: its state when it was read or last looked at, and its digest.
pub(crate) struct Visited<'a> {
    pub(crate) path: Cow<'a, str>,
    pub(crate) stamp: Stamp,
    /// `None` before it is read.
    pub(crate) digest: Option<Digest>,
}

impl Memo {
    /// Reads the memo at `path`; one that is damaged or not there knows nothing. Must be called before any file is looked
    /// at, as the hashing counts from here.
    pub(crate) fn read(path: PathBuf) -> Self {
        let start = now();
        let body = read_frame(&path, FORMAT).unwrap_or_default();
        Self { path, body, start }
    }

    /// A reader that is asked for one file after the other.
    pub(crate) fn records(&self) -> Records<'_> {
        let mut reader = Reader(&self.body);
        let next = Record::read(&mut reader);
        Records { reader, next }
    }

    /// Whether it is written again now that so many files, with so many bytes together, had to be read: at once where that
    /// took as long as to write it takes, else as much more seldom as it took less. So to read them again at every walk until
    /// then takes no longer in the long run than to write it at once would have.
    pub(crate) fn is_worth_writing(&self, files: usize, bytes: u64) -> bool {
        let reading = bytes.saturating_add((files as u64).saturating_mul(BYTES_PER_FILE));
        let writing = self.body.len() as u64;
        // The clock's nanoseconds are as good as dice.
        writing <= WRITTEN_FREELY as u64 || self.start.cast_unsigned() % writing < reading
    }

    /// Remembers the files that were `visited`, in the order of [`path_order`]; those that are not settled are left out.
    /// Files of earlier walks that this one did not meet stay (another task has other inputs), until they are the
    /// greater part.
    pub(crate) fn update(&self, store: &Store, visited: &[Visited<'_>]) -> Result<(), StoreError> {
        let fresh: usize = visited.iter().map(|file| file.path.len() + Record::FIXED).sum();
        let keep = self.body.len() <= 2 * fresh + KEPT_FREELY;
        let mut body = Vec::with_capacity(fresh + self.body.len());
        let mut records = self.records();
        for file in visited {
            while let Some(record) = records.take_if(|record| path_order(record.path, &file.path) == Ordering::Less) {
                if keep {
                    record.write(&mut body);
                }
            }
            records.take_if(|record| record.path == file.path);
            if let Some(digest) = file.digest
                && is_settled(file.stamp.ctime, self.start)
            {
                Record { path: &file.path, stamp: file.stamp, hash: digest.hash }.write(&mut body);
            }
        }
        while let Some(record) = records.take_if(|_| keep) {
            record.write(&mut body);
        }
        store.write_frame(&self.path, FORMAT, &body)
    }
}

/// See [`Memo::records`].
pub(crate) struct Records<'a> {
    reader: Reader<'a>,
    next: Option<Record<'a>>,
}

impl<'a> Records<'a> {
    /// The remembered hash of the file at `path`, if its stamp is still the remembered one. Paths must be asked for in
    /// the order of [`path_order`].
    pub(crate) fn find(&mut self, path: &str, stamp: &Stamp) -> Option<Digest> {
        while self.take_if(|record| record.path != path && path_order(record.path, path).is_lt()).is_some() {}
        let record = self.take_if(|record| record.path == path)?;
        (record.stamp == *stamp).then_some(Digest { hash: record.hash, size: stamp.size })
    }

    fn take_if(&mut self, wanted: impl FnOnce(&Record<'_>) -> bool) -> Option<Record<'a>> {
        let record = self.next.take_if(|record| wanted(record))?;
        self.next = Record::read(&mut self.reader);
        Some(record)
    }
}

/// One remembered file.
struct Record<'a> {
    path: &'a str,
    stamp: Stamp,
    hash: [u8; 32],
}

impl<'a> Record<'a> {
    /// The length of a record beyond its path.
    const FIXED: usize = 4 + 5 * 8 + 32;

    fn read(reader: &mut Reader<'a>) -> Option<Self> {
        let path = reader.text()?;
        Some(Self { path, stamp: Stamp::read(reader)?, hash: reader.bytes()? })
    }

    fn write(&self, body: &mut Vec<u8>) {
        put_text(body, self.path);
        body.extend_from_slice(&self.stamp.to_bytes());
        body.extend_from_slice(&self.hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_no_later_write_can_repeat_is_settled() {
        let start = 1_000 * SECOND;
        assert!(is_settled(start - TICK - 1, start));
        assert!(!is_settled(start - TICK, start));
        assert!(!is_settled(start, start));
        assert!(!is_settled(start + SECOND / 2, start), "a clock that was set back");
        assert!(is_settled(start - 3 * SECOND, start));
        assert!(!is_settled(start - 2 * SECOND, start), "a file system without fractions");
        assert!(!is_settled(0, 0), "no clock at all");
    }

    fn memo(dir: &tempfile::TempDir) -> (Store, PathBuf) {
        (Store::open(dir.path().join("store")).unwrap(), dir.path().join("memo"))
    }

    fn stamp(inode: u64) -> Stamp {
        Stamp { device: 1, inode, size: 5, mtime: -3, ctime: 7 }
    }

    fn visited(path: &str, inode: u64) -> Visited<'_> {
        let digest = Some(Digest { hash: [u8::try_from(inode).unwrap(); 32], size: 5 });
        Visited { path: Cow::Borrowed(path), stamp: stamp(inode), digest }
    }

    #[test]
    fn a_file_is_known_by_all_of_its_stamp() {
        let dir = tempfile::tempdir().unwrap();
        let (store, path) = memo(&dir);
        Memo::read(path.clone()).update(&store, &[visited("a/b", 1), visited("a.c", 2)]).unwrap();
        let memo = Memo::read(path);
        let find = |path: &str, stamp: &Stamp| memo.records().find(path, stamp);
        assert_eq!(find("a/b", &stamp(1)), visited("a/b", 1).digest);
        assert_eq!(find("a.c", &stamp(2)), visited("a.c", 2).digest);
        assert_eq!(find("a.c", &stamp(1)), None);
        assert_eq!(find("a", &stamp(1)), None);
        assert_eq!(find("z", &stamp(2)), None);
        for other in [
            Stamp { device: 2, ..stamp(1) },
            Stamp { size: 6, ..stamp(1) },
            Stamp { mtime: 4, ..stamp(1) },
            Stamp { ctime: 8, ..stamp(1) },
        ] {
            assert_eq!(find("a/b", &other), None, "{other:?}");
        }
    }

    #[test]
    fn what_is_not_settled_is_not_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let (store, path) = memo(&dir);
        let young = Visited { stamp: Stamp { ctime: now(), ..stamp(1) }, ..visited("a", 1) };
        Memo::read(path.clone()).update(&store, &[young, visited("b", 2)]).unwrap();
        let memo = Memo::read(path);
        let paths: Vec<_> = std::iter::from_fn({
            let mut records = memo.records();
            move || records.take_if(|_| true).map(|record| record.path)
        })
        .collect();
        assert_eq!(paths, ["b"]);
    }

    #[test]
    fn a_large_memo_is_seldom_written_for_little() {
        let times = |length: usize, files, bytes| {
            // A thousand times of day.
            let memo = |turn: i64| Memo { path: PathBuf::new(), body: vec![0; length], start: turn * 12_345_679 };
            (0..1000).filter(|turn| memo(*turn).is_worth_writing(files, bytes)).count()
        };
        assert_eq!(times(0, 1, 0), 1000);
        assert_eq!(times(WRITTEN_FREELY, 1, 0), 1000);
        assert_eq!(times(1_000_000, 62, 0), 1000);
        assert_eq!(times(1_000_000, 1, 1_000_000), 1000);
        assert_eq!(times(1_000_000, usize::MAX, u64::MAX), 1000);
        // One file of 3.6 kB: 20 kB of a million.
        assert!((5..40).contains(&times(1_000_000, 1, 3616)), "{}", times(1_000_000, 1, 3616));
        assert!((450..550).contains(&times(1_000_000, 1, 483_616)));
    }

    #[test]
    fn files_of_other_walks_stay() {
        let dir = tempfile::tempdir().unwrap();
        let (store, path) = memo(&dir);
        Memo::read(path.clone()).update(&store, &[visited("a", 1), visited("c", 3), visited("e", 5)]).unwrap();
        Memo::read(path.clone()).update(&store, &[visited("b", 2), visited("c", 4)]).unwrap();
        let memo = Memo::read(path);
        let mut records = memo.records();
        for (path, inode) in [("a", 1), ("b", 2), ("c", 4), ("e", 5)] {
            assert!(records.find(path, &stamp(inode)).is_some(), "{path}");
        }
    }
}
