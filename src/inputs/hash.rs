//! Hashing files while they are copied into the store, on all cores.

use std::fs::File;
use std::io;
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::Progress;
use super::fault::{Fault, Faults, InputError};
use super::stamp::Stamp;
use crate::digest::Digest;
use crate::store::{PutError, Store};
use crate::sys;

/// How often a file is read again when it changed meanwhile.
const ATTEMPTS: usize = 3;

/// Files per thread below which another thread costs more than it brings.
const FILES_PER_THREAD: usize = 16;

/// A file to hash.
pub(super) struct Job<'a> {
    pub(super) path: &'a str,
    pub(super) executable: bool,
}

/// A hashed file.
#[derive(Clone, Copy)]
pub(super) struct Hashed {
    pub(super) digest: Digest,
    /// The file's state before and after it was read.
    pub(super) stamp: Stamp,
}

/// Puts every job's file, relative to `root`, into the store; the results stand in the order of the jobs.
pub(super) fn hash_all(
    store: &Store,
    root: &File,
    jobs: &[Job<'_>],
    progress: &dyn Progress,
) -> Vec<Result<Hashed, InputError>> {
    let mut results: Vec<_> = jobs.iter().map(|_| None).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        let mut buffer = Vec::new();
        while let Some((index, job)) = take(&next, jobs) {
            let result = hash_one(store, root, job, &mut buffer);
            if let Ok(hashed) = &result {
                progress.hashed(hashed.digest.size);
            }
            done.push((index, result));
        }
        done
    };
    let threads = threads_for(jobs.len());
    thread::scope(|scope| {
        let helpers: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut keep = |done: Vec<_>| {
            for (index, result) in done {
                results[index] = Some(result);
            }
        };
        keep(work());
        for helper in helpers {
            match helper.join() {
                Ok(done) => keep(done),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    results.into_iter().map(|result| result.expect("every job was taken by a thread that was joined")).collect()
}

fn take<'a, T>(next: &AtomicUsize, jobs: &'a [T]) -> Option<(usize, &'a T)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    jobs.get(index).map(|job| (index, job))
}

fn threads_for(jobs: usize) -> usize {
    if jobs <= FILES_PER_THREAD {
        return 1;
    }
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    cores.min(jobs.div_ceil(FILES_PER_THREAD))
}

fn hash_one(store: &Store, root: &File, job: &Job<'_>, buffer: &mut Vec<u8>) -> Result<Hashed, InputError> {
    for _ in 0..ATTEMPTS {
        let mut file = open(root, job.path)?;
        let before = stamp(&file, job.path)?;
        let digest = match store.put_file(&mut file, job.executable, buffer) {
            Ok(digest) => digest,
            Err(PutError::Read(source)) => return Err(fault(unreadable(job.path, source))),
            Err(PutError::Store(error)) => return Err(error.into()),
        };
        if before == stamp(&file, job.path)? && before.size == digest.size {
            return Ok(Hashed { digest, stamp: before });
        }
    }
    Err(fault(Fault::Changing { path: job.path.to_owned() }))
}

fn open(root: &File, path: &str) -> Result<File, InputError> {
    sys::files::open_beneath(root, path).map_err(|source| match source.kind() {
        io::ErrorKind::Unsupported => InputError::NoOpenat2,
        _ => fault(unreadable(path, source)),
    })
}

fn stamp(file: &File, path: &str) -> Result<Stamp, InputError> {
    let metadata = file.metadata().map_err(|source| fault(unreadable(path, source)))?;
    if !metadata.is_file() {
        return Err(fault(Fault::Changing { path: path.to_owned() }));
    }
    Ok(Stamp::of(&metadata))
}

fn unreadable(path: &str, source: io::Error) -> Fault {
    Fault::Unreadable { path: path.to_owned(), source }
}

fn fault(fault: Fault) -> InputError {
    Faults::one(fault).into()
}
