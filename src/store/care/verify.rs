//! Is everything in the store what it should be?
//!
//! Every blob is hashed; every layer is compared with what stands beside it, its files by being the very inodes that
//! were hashed, or else by hashing them; every result must be complete; everything that is remembered must be readable.
//! What others write meanwhile is complete when it gets its name, and what they remove is gone: neither is damage. So
//! whatever seems wrong is looked for once more under its name before it is said.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde::Serialize;

use super::census::{Key, blob_hash, key, result_hash};
use super::{Kind, Watcher, memories, names, remove};
use crate::action::result::Known;
use crate::digest::Digest;
use crate::inputs::{Manifest, Node};
use crate::path::GuestPath;
use crate::store::actions::RESULT;
use crate::store::blobs::looks_whole;
use crate::store::delta::{Change, Delta};
use crate::store::frame::{is_sound, read_frame};
use crate::store::hold::Held;
use crate::store::look::shows;
use crate::store::{PutError, Store, StoreError, hash_file, records};

/// One thing that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// What it is.
    pub kind: Kind,
    /// Where: relative to the store.
    pub path: String,
    /// What is wrong.
    pub what: &'static str,
    /// Whether it was removed, so that it is computed again.
    pub removed: bool,
}

/// What was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verified {
    /// How much of each kind.
    pub looked_at: Vec<(Kind, u64)>,
    /// What is wrong, sorted by path.
    pub damage: Vec<Damage>,
}

/// Which inodes were found to hold which content; `None`: another one than their name says.
type Inodes = HashMap<u64, Option<Key>>;

/// The working state of one verification.
struct Verifier<'a> {
    store: &'a Store,
    watcher: &'a dyn Watcher,
    repair: bool,
    inodes: Inodes,
    verified: Verified,
}

impl Store {
    /// Looks at everything; with `repair` what is damaged is removed, unless a run uses it.
    ///
    /// # Errors
    /// When the store can't be read, or something damaged can't be removed.
    pub fn verify(&self, repair: bool, watcher: &dyn Watcher) -> Result<Verified, StoreError> {
        let mut verifier =
            Verifier { store: self, watcher, repair, inodes: Inodes::new(), verified: Verified::default() };
        let done = verifier.all();
        watcher.finished();
        done?;
        verifier.verified.damage.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(verifier.verified)
    }
}

impl Verifier<'_> {
    fn all(&mut self) -> Result<(), StoreError> {
        self.blobs()?;
        for (kind, dir) in [(Kind::Trees, "trees"), (Kind::Roots, "roots"), (Kind::Deltas, "deltas")] {
            let layers = names(&self.store.dir.join(dir))?;
            let layers: Vec<_> = layers.into_iter().filter(|name| !name.contains('.')).collect();
            for (done, name) in layers.iter().enumerate() {
                self.watcher.at("checking layers", done as u64, layers.len() as u64);
                self.layer(kind, &format!("{dir}/{name}"), name)?;
            }
            self.verified.looked_at.push((kind, layers.len() as u64));
        }
        self.results()?;
        self.frames()?;
        self.records()
    }

    fn blobs(&mut self) -> Result<(), StoreError> {
        let blobs = self.store.dir.join("blobs");
        let parts = names(&blobs)?;
        let next = AtomicUsize::new(0);
        let (store, watcher) = (self.store, self.watcher);
        let all = Mutex::new((Inodes::new(), Vec::new(), 0));
        let work = || -> Result<(), StoreError> {
            let mut buffer = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(part) = parts.get(index) else { return Ok(()) };
                watcher.at("hashing blobs", index as u64, parts.len() as u64);
                for name in names(&blobs.join(part))? {
                    let path = format!("blobs/{part}/{name}");
                    let found = blob(&store.dir.join(&path), part, &name, &mut buffer)?;
                    let mut all = all.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    match found {
                        Found::Gone => continue,
                        Found::Whole(inode, key) => drop(all.0.insert(inode, Some(key))),
                        Found::Wrong(inode, what) => {
                            all.0.extend(inode.map(|inode| (inode, None)));
                            all.1.push((path, what));
                        }
                    }
                    all.2 += 1;
                }
            }
        };
        let results: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..store.jobs()).map(|_| scope.spawn(work)).collect();
            let join = |thread: thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            threads.into_iter().map(join).collect()
        });
        results.into_iter().collect::<Result<(), _>>()?;
        let (inodes, wrong, count) = all.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.inodes = inodes;
        self.verified.looked_at.push((Kind::Blobs, count));
        wrong.into_iter().try_for_each(|(path, what)| self.damaged_file(Kind::Blobs, path, what))
    }

    fn layer(&mut self, kind: Kind, layer: &str, name: &str) -> Result<(), StoreError> {
        let path = self.store.dir.join(layer);
        let Some(held) = Held::new(&path)? else { return Ok(()) };
        let Some(what) = self.wrong_with_layer(kind, layer, name, &path) else { return Ok(()) };
        if !held.is_at(&path) {
            return Ok(());
        }
        let removed = self.repair && held.alone();
        if removed {
            self.store.remove_layer(layer, &held)?;
        }
        self.say(kind, layer.to_owned(), what, removed);
        Ok(())
    }

    fn wrong_with_layer(&self, kind: Kind, layer: &str, name: &str, path: &Path) -> Option<&'static str> {
        let store = self.store;
        if store.is_abandoned(layer) {
            return None;
        }
        if kind == Kind::Deltas {
            // Without its tree it is of no use, which is no damage.
            let base = name.split('-').next().unwrap_or_default();
            if !store.has(&format!("trees/{base}")) {
                return None;
            }
            let Some(kept) = store.kept_delta(name) else { return Some("what it changes can't be read") };
            let delta = Delta::between(&kept.old, &kept.new, usize::MAX)?;
            let put = Manifest { entries: delta.put.iter().map(|entry| (*entry).clone()).collect() };
            return (!shows(path, &kept.at, delta.in_order().into_iter()))
                .then_some("it does not show what it should")
                .or_else(|| self.wrong_files(path, &kept.at, &put));
        }
        let Some((at, manifest)) = store.kept_manifest(layer, name) else {
            return Some("what it shows can't be read");
        };
        (!shows(path, &at, manifest.entries.iter().map(Change::Put)))
            .then_some("it does not show what it should")
            .or_else(|| self.wrong_files(path, &at, &manifest))
    }

    /// The contents of the files of a layer.
    fn wrong_files(&self, layer: &Path, at: &GuestPath, manifest: &Manifest) -> Option<&'static str> {
        let base = layer.join(at.relative());
        let mut buffer = Vec::new();
        let is_right = |path: &str, digest: &Digest, buffer: &mut Vec<u8>| {
            let path = base.join(path);
            let inode = fs::symlink_metadata(&path).map(|metadata| metadata.ino());
            if inode.is_ok_and(|inode| self.inodes.get(&inode) == Some(&Some(key(&digest.hash)))) {
                return true;
            }
            let hashed = File::open(&path).ok().and_then(|mut file| hash_file(&mut file, buffer).ok());
            hashed.is_some_and(|hashed| hashed == *digest)
        };
        let wrong = manifest.entries.iter().any(|entry| match &entry.node {
            Node::File { digest, .. } => !is_right(&entry.path, digest, &mut buffer),
            _ => false,
        });
        wrong.then_some("a file has another content")
    }

    fn results(&mut self) -> Result<(), StoreError> {
        let actions = self.store.dir.join("actions");
        let (parts, mut count) = (names(&actions)?, 0);
        for (done, part) in parts.iter().enumerate() {
            self.watcher.at("checking results", done as u64, parts.len() as u64);
            for name in names(&actions.join(part))? {
                let path = format!("actions/{part}/{name}");
                count += 1;
                if let Some(what) = self.wrong_with_result(&path) {
                    self.damaged_file(Kind::Results, path, what)?;
                }
            }
        }
        self.verified.looked_at.push((Kind::Results, count));
        Ok(())
    }

    fn wrong_with_result(&self, path: &str) -> Option<&'static str> {
        if result_hash(path).is_none() {
            return Some("it is called like no action");
        }
        let whole = self.store.dir.join(path);
        let read = || read_frame(&whole, RESULT).and_then(|body| Known::decode(&body));
        let Some(known) = read() else { return whole.exists().then_some("it can't be read") };
        let is_complete = |known: &Known| {
            known.blobs().all(|(digest, executable)| {
                let blob = self.store.open_blob(&digest, executable).and_then(|file| {
                    let metadata = file.metadata();
                    metadata.map_err(StoreError::io("look at", &whole))
                });
                // What was made since the blobs were hashed is whole.
                blob.is_ok_and(|metadata| {
                    self.inodes.get(&metadata.ino()).is_none_or(|found| *found == Some(key(&digest.hash)))
                })
            })
        };
        if is_complete(&known) {
            return None;
        }
        // It may be going right now, and its blobs before it was looked for.
        read().is_some_and(|known| !is_complete(&known)).then_some("a content that it names is missing or damaged")
    }

    fn frames(&mut self) -> Result<(), StoreError> {
        let store = &self.store.dir;
        let mut frames: Vec<_> = memories(store).into_iter().map(|path| (Kind::Memos, path)).collect();
        let fetched = names(&store.join("fetched"))?;
        frames.extend(fetched.iter().map(|name| (Kind::Fetched, format!("fetched/{name}"))));
        let projects = names(&self.store.dir.join("projects"))?;
        frames.extend(projects.iter().map(|project| (Kind::Memos, format!("projects/{project}/memo"))));
        let (mut memos, mut fetched) = (0, 0);
        for (kind, path) in frames {
            let whole = self.store.dir.join(&path);
            if !whole.exists() {
                continue;
            }
            *(if kind == Kind::Memos { &mut memos } else { &mut fetched }) += 1;
            if !is_sound(&whole) && whole.exists() {
                self.damaged_file(kind, path, "it can't be read")?;
            }
        }
        self.verified.looked_at.extend([(Kind::Memos, memos), (Kind::Fetched, fetched)]);
        Ok(())
    }

    fn records(&mut self) -> Result<(), StoreError> {
        let all = records::every(&self.store.dir);
        for path in &all {
            if records::read_one(path).is_none() && path.exists() {
                let below = path.strip_prefix(&self.store.dir).unwrap_or(path).to_string_lossy().into_owned();
                self.damaged_file(Kind::Records, below, "it can't be read")?;
            }
        }
        self.verified.looked_at.push((Kind::Records, all.len() as u64));
        Ok(())
    }

    fn damaged_file(&mut self, kind: Kind, path: String, what: &'static str) -> Result<(), StoreError> {
        if self.repair {
            remove(&self.store.dir.join(&path))?;
        }
        self.say(kind, path, what, self.repair);
        Ok(())
    }

    fn say(&mut self, kind: Kind, path: String, what: &'static str, removed: bool) {
        self.verified.damage.push(Damage { kind, path, what, removed });
    }
}

enum Found {
    /// It was removed, or another took its place.
    Gone,
    Whole(u64, Key),
    Wrong(Option<u64>, &'static str),
}

/// Looks at one blob.
fn blob(path: &PathBuf, part: &str, name: &str, buffer: &mut Vec<u8>) -> Result<Found, StoreError> {
    let Some(hash) = blob_hash(part, name) else { return Ok(Found::Wrong(None, "it is called like no blob")) };
    let is_file = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file());
    let opened = File::open(path).and_then(|file| Ok((file.metadata()?, file)));
    let (metadata, mut file) = match opened {
        Ok(opened) if is_file => opened,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Found::Gone),
        _ => return Ok(Found::Wrong(None, "it can't be read")),
    };
    let still_there = || fs::symlink_metadata(path).is_ok_and(|now| now.ino() == metadata.ino());
    let found = match hash_file(&mut file, buffer) {
        Ok(digest) if digest.hash != hash => Found::Wrong(Some(metadata.ino()), "it has another content"),
        Ok(digest) => {
            let executable = name[62..].starts_with("-x") || name[62..].starts_with("-rx");
            // Another process may be making it young, which changes nothing that is looked at.
            match looks_whole(&metadata, &digest, executable) {
                true => Found::Whole(metadata.ino(), key(&hash)),
                false => Found::Wrong(Some(metadata.ino()), "it has another mode or time"),
            }
        }
        Err(PutError::Read(_)) => Found::Wrong(Some(metadata.ino()), "it can't be read"),
        Err(PutError::Store(error)) => return Err(error),
    };
    Ok(if matches!(found, Found::Wrong(..)) && !still_there() { Found::Gone } else { found })
}
