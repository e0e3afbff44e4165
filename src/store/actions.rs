//! Results by action: `actions/<ab>/<hex>`, and who computes one: `leads/<hex>`.
//!
//! A result is published by rename after every blob that it names, so whoever finds one finds all of it, unless
//! something was damaged or removed since: whoever replays it hashes what it reads.
//!
//! The run that computes an action holds a lock on the action's lead, an empty file. When it ends in order it removes the
//! file's name while it holds the lock; the others, who wait for the lock, see by the missing name that it is over, and
//! look for a result. A killed leader leaves the name, and one of those who wait takes over.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::time::SystemTime;

use super::frame::read_frame;
use super::{Store, StoreError, make_private_dir};
use crate::action::result::Known;
use crate::digest::Digest;

pub(super) const RESULT: &[u8; 8] = b"sbxactn1";

/// What the store knows of an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// Nothing.
    Unknown,
    /// There is a result, and it can't be read.
    Damaged,
    /// What a run of it came to.
    Known(Box<Known>),
}

impl Store {
    /// What the store knows of `action`; a result that is found counts as used now.
    pub fn lookup(&self, action: &Digest) -> Lookup {
        let path = self.result_path(action);
        let Ok(file) = File::open(&path) else { return Lookup::Unknown };
        // `gc` goes by this time. Whether it can be set decides nothing.
        let _ = file.set_modified(SystemTime::now());
        match read_frame(&path, RESULT).and_then(|bytes| Known::decode(&bytes)) {
            Some(known) => Lookup::Known(Box::new(known)),
            None => Lookup::Damaged,
        }
    }

    /// Keeps what `action` came to, in place of what was known of it. Every blob must be in the store.
    ///
    /// # Errors
    /// When the store can't be written; what was known before stays then.
    pub fn keep_result(&self, action: &Digest, known: &Known) -> Result<(), StoreError> {
        self.write_frame(&self.result_path(action), RESULT, &known.encode())
    }

    /// Forgets what `action` came to.
    ///
    /// # Errors
    /// When the result is there and can't be removed.
    pub fn forget_result(&self, action: &Digest) -> Result<(), StoreError> {
        let path = self.result_path(action);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", &path)(error)),
            _ => Ok(()),
        }
    }

    /// Held from before the first blob of a result is stored until the result is kept, so that nobody who removes all
    /// blobs that nothing refers to comes between; `None` where there can be no lock.
    pub(crate) fn keeping(&self) -> Option<File> {
        let lock = self.keep_lock().ok()?;
        lock.lock_shared().ok()?;
        Some(lock)
    }

    /// The file whose lock [`Store::keeping`] shares.
    pub(super) fn keep_lock(&self) -> Result<File, StoreError> {
        let path = self.dir.join("keep.lock");
        let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        opened.map_err(StoreError::io("open", &path))
    }

    /// Takes the lead on `action`. When another run has it, calls `waiting` and waits for that run's end.
    ///
    /// # Errors
    /// When the store can't be written.
    pub fn lead(&self, action: &Digest, waiting: &mut dyn FnMut()) -> Result<Lead, StoreError> {
        let directory = self.dir.join("leads");
        let path = directory.join(action.hex());
        make_private_dir(&directory)?;
        loop {
            let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
            let file = opened.map_err(StoreError::io("open", &path))?;
            let waited = match file.try_lock() {
                Ok(()) => false,
                Err(TryLockError::WouldBlock) => {
                    waiting();
                    file.lock().map_err(StoreError::io("lock", &path))?;
                    true
                }
                Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", &path)(error)),
            };
            let named = file.metadata().map_err(StoreError::io("look at", &path))?.nlink() > 0;
            match (named, waited) {
                (true, _) => return Ok(Lead::Ours(Leading { path, _locked: file })),
                (false, true) => return Ok(Lead::Ended),
                // The leader ended between our two calls.
                (false, false) => {}
            }
        }
    }

    fn result_path(&self, action: &Digest) -> PathBuf {
        let hex = action.hex();
        self.dir.join("actions").join(&hex[..2]).join(&hex[2..])
    }
}

/// How an attempt to lead went.
#[derive(Debug)]
pub enum Lead {
    /// Nobody else computes the action now. Whoever did until just now may have kept a result.
    Ours(Leading),
    /// Another run computed it and has ended in order. If there is no result, it came to none that is kept.
    Ended,
}

/// The lead on one action, until it is dropped.
#[derive(Debug)]
pub struct Leading {
    path: PathBuf,
    /// Held for its lock.
    _locked: File,
}

impl Drop for Leading {
    fn drop(&mut self) {
        // Should it fail, those who wait take over one after the other, as after a killed leader.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::thread;

    use super::*;
    use crate::action::result::tests::known;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("store")).unwrap();
        (dir, store)
    }

    #[test]
    fn what_is_kept_is_known_until_it_is_forgotten() {
        let (_dir, store) = store();
        let action = Digest::of(b"action");
        assert_eq!(store.lookup(&action), Lookup::Unknown);
        store.keep_result(&action, &known()).unwrap();
        assert_eq!(store.lookup(&action), Lookup::Known(Box::new(known())));
        assert_eq!(store.lookup(&Digest::of(b"another")), Lookup::Unknown);
        store.forget_result(&action).unwrap();
        store.forget_result(&action).unwrap();
        assert_eq!(store.lookup(&action), Lookup::Unknown);
    }

    #[test]
    fn no_flipped_bit_makes_another_result() {
        let (_dir, store) = store();
        let action = Digest::of(b"action");
        store.keep_result(&action, &known()).unwrap();
        let path = store.result_path(&action);
        let whole = fs::read(&path).unwrap();
        for index in 0..whole.len() {
            for bit in 0..8 {
                let mut flipped = whole.clone();
                flipped[index] ^= 1 << bit;
                fs::write(&path, flipped).unwrap();
                assert_eq!(store.lookup(&action), Lookup::Damaged, "bit {bit} of byte {index}");
            }
        }
    }

    #[test]
    fn a_use_is_noted() {
        let (_dir, store) = store();
        let action = Digest::of(b"action");
        store.keep_result(&action, &known()).unwrap();
        let path = store.result_path(&action);
        File::open(&path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        store.lookup(&action);
        assert!(fs::metadata(&path).unwrap().modified().unwrap() > SystemTime::UNIX_EPOCH);
    }

    #[test]
    fn one_computes_and_the_others_wait() {
        let (_dir, store) = store();
        let action = Digest::of(b"action");
        let computed = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let lead = store.lead(&action, &mut || {}).unwrap();
                    if store.lookup(&action) == Lookup::Unknown {
                        assert!(matches!(lead, Lead::Ours(_)));
                        computed.fetch_add(1, Ordering::Relaxed);
                        store.keep_result(&action, &known()).unwrap();
                    }
                });
            }
        });
        assert_eq!(computed.load(Ordering::Relaxed), 1);
        assert_eq!(fs::read_dir(store.path().join("leads")).unwrap().count(), 0);
    }

    #[test]
    fn after_a_leader_without_a_result_nobody_waits_for_another() {
        let (_dir, store) = store();
        let action = Digest::of(b"action");
        let Lead::Ours(leading) = store.lead(&action, &mut || panic!("nobody to wait for")).unwrap() else {
            panic!("nobody leads")
        };
        thread::scope(|scope| {
            let (waiting, waits) = mpsc::channel();
            let waiters: Vec<_> = (0..4)
                .map(|_| {
                    let (waiting, store) = (waiting.clone(), &store);
                    scope.spawn(move || store.lead(&action, &mut || waiting.send(()).unwrap()).unwrap())
                })
                .collect();
            for _ in 0..4 {
                waits.recv().unwrap();
            }
            drop(leading);
            let leads: Vec<_> = waiters.into_iter().map(|waiter| waiter.join().unwrap()).collect();
            // One may have come to its lock only now, when there is a new lead to take.
            assert!(leads.iter().filter(|lead| matches!(lead, Lead::Ended)).count() >= 3, "{leads:?}");
        });
    }

    #[test]
    fn a_killed_leader_s_work_is_taken_over() {
        let (_dir, store) = store();
        let action = Digest::of(b"action");
        let Lead::Ours(leading) = store.lead(&action, &mut || {}).unwrap() else { panic!("nobody leads") };
        let name = leading.path.clone();
        thread::scope(|scope| {
            let (waiting, waits) = mpsc::channel();
            let store = &store;
            let waiter = scope.spawn(move || store.lead(&action, &mut || waiting.send(()).unwrap()).unwrap());
            waits.recv().unwrap();
            // A killed process gives up its lock and leaves the name: the descriptor goes, the file does not.
            leading._locked.unlock().unwrap();
            let lead = waiter.join().unwrap();
            assert!(matches!(lead, Lead::Ours(_)), "{lead:?}");
            assert!(name.exists());
            std::mem::forget(lead);
        });
    }
}
