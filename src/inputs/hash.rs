//! Reading the files that the memo does not know, on all cores.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::Progress;
use super::fault::{Fault, Faults, InputError};
use super::stamp::{Memo, Stamp, Visited};
use crate::digest::Digest;
use crate::path::printable;
use crate::store::{PutError, Store};
use crate::sys::files::{Kind, open_beneath, status};

/// How often a file is read at most when it changes meanwhile.
const ATTEMPTS: usize = 3;

/// With fewer files another thread costs more than it brings, unless they are large.
const FILES_PER_THREAD: usize = 16;
/// And with fewer bytes.
const BYTES_PER_THREAD: u64 = 1 << 20;

/// A file of a tree as a walk met it.
#[derive(Clone, Copy)]
pub(super) struct Item<'a> {
    /// Relative to the tree.
    pub(super) path: &'a OsStr,
    pub(super) stamp: Stamp,
    pub(super) executable: bool,
}

/// What is done with a file's content: it is stored, or its digest computed alone. The last argument is working space.
pub(super) type Read<'a> = &'a (dyn Fn(&Item<'_>, &mut File, &mut Vec<u8>) -> Result<Digest, PutError> + Sync);

/// Files whose content is known.
pub(super) struct Hashed {
    /// Their digests, in the order of the items.
    pub(super) digests: Vec<Digest>,
    /// How many of them were read.
    pub(super) read: u64,
}

/// Where the files are and who is told.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    /// The directory below which the paths are opened.
    pub(super) root: &'a File,
    /// What is done with each file.
    pub(super) read: Read<'a>,
    pub(super) progress: &'a dyn Progress,
}

/// Reads every one of the `items` that `memo` does not know, and updates the memo where that is worth it.
pub(super) fn hash_unknown(
    source: Source<'_>,
    items: &[Item<'_>],
    memo: &Memo,
    store: &Store,
) -> Result<Hashed, InputError> {
    let mut records = memo.records();
    // Two names that are not UTF-8 may look the same here; their stamps don't.
    let known = items.iter().map(|item| records.find(&item.path.to_string_lossy(), &item.stamp));
    let mut digests: Vec<_> = known.collect();
    let unknown = items.iter().enumerate().zip(&digests).filter(|(_, digest)| digest.is_none());
    let jobs: Vec<_> = unknown.map(|((index, item), _)| (index, *item)).collect();
    if !jobs.is_empty() {
        let mut stamps: Vec<_> = items.iter().map(|item| item.stamp).collect();
        let mut faults = Faults::default();
        let bytes = jobs.iter().fold(0, |sum: u64, (_, item)| sum.saturating_add(item.stamp.size));
        let threads = threads_for(jobs.len(), bytes, store.jobs());
        for (index, result) in read_all(source, &jobs, threads) {
            match result {
                Ok((stamp, digest)) => (stamps[index], digests[index]) = (stamp, Some(digest)),
                Err(InputError::Faults(more)) => faults.append(more),
                Err(error) => return Err(error),
            }
        }
        faults.into_result()?;
        if memo.is_worth_writing(jobs.len(), bytes) {
            let visited = items.iter().zip(stamps).zip(&digests).map(|((item, stamp), digest)| Visited {
                path: item.path.to_string_lossy(),
                stamp,
                digest: *digest,
            });
            memo.update(store, &visited.collect::<Vec<_>>())?;
        }
    }
    let digests = digests.into_iter().map(|digest| digest.expect("known, or read without a fault")).collect();
    Ok(Hashed { digests, read: jobs.len() as u64 })
}

/// The state of a file before and after it was read, and its digest.
type Outcome = Result<(Stamp, Digest), InputError>;

/// Reads the files of all jobs; the results stand in the order of the jobs. After an error of the store's no new job is
/// begun.
fn read_all(source: Source<'_>, jobs: &[(usize, Item<'_>)], threads: usize) -> Vec<(usize, Outcome)> {
    let next = AtomicUsize::new(0);
    let work = || {
        let (mut done, mut buffer) = (Vec::new(), Vec::new());
        while let Some((index, item)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let result = read_one(source, item, &mut buffer);
            match &result {
                Ok((_, digest)) => source.progress.hashed(digest.size),
                Err(InputError::Faults(_)) => {}
                Err(_) => next.store(jobs.len(), Ordering::Relaxed),
            }
            done.push((*index, result));
        }
        done
    };
    let mut done = match threads {
        1 => work(),
        threads => thread::scope(|scope| {
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            let join = |thread: thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            threads.into_iter().flat_map(join).collect()
        }),
    };
    done.sort_unstable_by_key(|(index, _)| *index);
    done
}

/// How many threads read so many files with so many bytes together, when there may be `most`.
fn threads_for(files: usize, bytes: u64, most: usize) -> usize {
    let for_bytes = usize::try_from(bytes.div_ceil(BYTES_PER_THREAD)).unwrap_or(usize::MAX).min(files);
    files.div_ceil(FILES_PER_THREAD).max(for_bytes).clamp(1, most)
}

fn read_one(source: Source<'_>, item: &Item<'_>, buffer: &mut Vec<u8>) -> Outcome {
    let shown = || printable(item.path.as_encoded_bytes());
    let unreadable = |source| fault(Fault::Unreadable { path: shown(), source });
    for _ in 0..ATTEMPTS {
        let mut file = open_beneath(source.root, item.path).map_err(|error| match error.kind() {
            io::ErrorKind::Unsupported => InputError::NoOpenat2,
            _ => unreadable(error),
        })?;
        let before = status(&file).map_err(unreadable)?;
        if before.kind != Kind::Regular {
            // Something else took its place since the walk.
            continue;
        }
        let before = Stamp::of(&before);
        let digest = (source.read)(item, &mut file, buffer).map_err(|error| match error {
            PutError::Read(error) => unreadable(error),
            PutError::Store(error) => error.into(),
        })?;
        let after = Stamp::of(&status(&file).map_err(unreadable)?);
        if before == after && before.size == digest.size {
            return Ok((before, digest));
        }
    }
    Err(fault(Fault::Changing { path: shown() }))
}

fn fault(fault: Fault) -> InputError {
    Faults::one(fault).into()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::inputs::Silent;
    use crate::store::hash_file;
    use crate::sys::files::{CWD, open_place};

    /// Reads one file that grows during the first `restless` readings; gives the outcome and the number of readings.
    fn read_restless(restless: usize) -> (Result<Vec<Digest>, String>, usize) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("store")).unwrap();
        let path = dir.path().join("log");
        fs::write(&path, "").unwrap();
        let readings = AtomicUsize::new(0);
        let read = |_: &Item<'_>, file: &mut File, buffer: &mut Vec<u8>| {
            let digest = hash_file(file, buffer);
            let reading = readings.fetch_add(1, Ordering::Relaxed);
            if reading < restless {
                fs::write(&path, "x".repeat(reading + 1)).unwrap();
            }
            digest
        };
        let root = open_place(CWD, dir.path()).unwrap();
        let stamp = Stamp::of(&status(&File::open(&path).unwrap()).unwrap());
        let item = Item { path: OsStr::new("log"), stamp, executable: false };
        let memo = Memo::read(dir.path().join("memo"));
        let source = Source { root: &root, read: &read, progress: &Silent };
        let outcome = hash_unknown(source, &[item], &memo, &store);
        let outcome = outcome.map(|hashed| hashed.digests).map_err(|error| error.to_string());
        (outcome, readings.into_inner())
    }

    #[test]
    fn threads_are_as_many_as_are_allowed_and_worth_it() {
        assert_eq!([0, 1, 16, 17, 33, 9999].map(|files| threads_for(files, 0, 4)), [1, 1, 1, 2, 3, 4]);
        assert_eq!([0, 1, 2, 3].map(|mebibytes| threads_for(3, mebibytes << 20, 4)), [1, 1, 2, 3]);
        assert_eq!([(1, u64::MAX), (3, u64::MAX)].map(|(files, bytes)| threads_for(files, bytes, 4)), [1, 3]);
        assert_eq!([1, 9999].map(|files| threads_for(files, u64::MAX, 1)), [1, 1]);
    }

    #[test]
    fn a_file_is_read_until_it_rests() {
        assert_eq!(read_restless(0), (Ok(vec![Digest::of(b"")]), 1));
        assert_eq!(read_restless(2), (Ok(vec![Digest::of(b"xx")]), 3));
        assert_eq!(read_restless(9), (Err("log: the file changes while it is being read".to_owned()), 3));
    }
}
