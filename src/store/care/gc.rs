//! What can go, by least recent use.
//!
//! First every unit and every content gets the time of its last use ([`Census`]); one time then divides what goes from
//! what stays. Units go one by one, each unless it was used since or is in use; then the blobs that nothing that stays
//! refers to, unless they are young: somebody may be about to refer to them. Whoever stores a content that is there
//! makes the blob young again, and so does whoever links it. A run that loses a blob between the two stores it again.
//!
//! Every step leaves a store without a fault, so it may end anywhere.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::thread;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::census::{Census, Time, Unit, blob_hash, ctime, key, milliseconds, taken};
use super::{Kind, Tally, Watcher, names, remove};
use crate::store::hold::Held;
use crate::store::{Store, StoreError};

/// Blobs that were made, linked or stored again so recently stay.
const GRACE: Duration = Duration::from_hours(1);

/// Longer than the time between two ticks of any kernel's clock.
const TICK: Duration = Duration::from_millis(50);

/// What may stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How much.
    pub size: Option<Size>,
    /// Nothing that was last used longer ago.
    pub age: Option<Duration>,
    /// Blobs that are younger than this stay.
    pub grace: Duration,
    /// Only say what would go.
    pub dry_run: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { size: None, age: None, grace: GRACE, dry_run: false }
    }
}

impl Limits {
    /// Nothing may stay but what is in use.
    pub const NOTHING: Self = Self { size: None, age: Some(Duration::ZERO), grace: Duration::ZERO, dry_run: false };
}

/// Sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Up to this nothing is removed.
    pub above: u64,
    /// Else so much may be left.
    pub down_to: u64,
}

/// What to do when another process collects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Wait until it is done.
    Wait,
    /// Leave it to that.
    Skip,
}

/// What was removed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Collected {
    /// How much of each kind, where there was any.
    pub removed: Vec<(Kind, Tally)>,
    /// What that took of the disk, in bytes.
    pub freed: u64,
    /// What is left, in bytes.
    pub left: u64,
    /// How many layers stay only because a run uses them.
    pub in_use: u64,
    /// How many blobs stay only because they are young.
    pub young: u64,
}

impl Store {
    /// Removes what `limits` do not let stay, and what nobody can use any more; `None` when that is left to another
    /// process.
    ///
    /// # Errors
    /// When the store can't be read or written.
    pub fn collect_garbage(
        &self,
        limits: &Limits,
        patience: Patience,
        watcher: &dyn Watcher,
    ) -> Result<Option<Collected>, StoreError> {
        let path = self.dir.join("gc.lock");
        let lock = File::options().write(true).create(true).truncate(false).open(&path);
        let lock = lock.map_err(StoreError::io("open", &path))?;
        if lock.try_lock().is_err() {
            if patience == Patience::Skip {
                return Ok(None);
            }
            watcher.at("waiting for another gc", 0, 0);
            lock.lock().map_err(StoreError::io("lock", &path))?;
        }
        if limits.grace.is_zero() {
            // Whatever processes have made that ended before is old enough then, whatever the clock's grain.
            thread::sleep(TICK);
        }
        let collected = if limits.dry_run { self.foresee(limits, watcher) } else { self.collect(limits, watcher) };
        watcher.finished();
        collected.map(Some)
    }

    fn collect(&self, limits: &Limits, watcher: &dyn Watcher) -> Result<Collected, StoreError> {
        self.sweep_gone()?;
        if let Some(left) = self.left().take_all() {
            left.remove();
        }
        // Without a grace the blobs of a result that is just being kept would go before it refers to them.
        let alone = if limits.grace.is_zero() { Some(self.keep_lock()?) } else { None };
        if let Some(lock) = &alone {
            lock.lock().map_err(StoreError::io("lock", &self.dir.join("keep.lock")))?;
        }
        let start = SystemTime::now();
        let measure = self.begin_measure()?;
        let mut census = self.census(watcher)?;
        let before = census.bytes();
        let cutoff = cutoff(&census, limits, start);
        let (mut removed, mut in_use, mut layers) = (Removed::default(), 0, Vec::new());
        let units = std::mem::take(&mut census.units);
        for (done, unit) in units.iter().enumerate() {
            watcher.at("removing", done as u64, units.len() as u64);
            if unit.used > cutoff {
                continue;
            }
            match self.evict(unit)? {
                Eviction::Done(layer) => {
                    layers.extend(layer);
                    removed.add(unit.kind, unit.bytes);
                    continue;
                }
                Eviction::Gone => continue,
                Eviction::InUse => in_use += 1,
                Eviction::UsedSince => {}
            }
            let keys = self.references(unit).keys;
            census.refer(&keys, Time::MAX);
        }
        let young = self.remove_blobs(&census, cutoff, limits, start, watcher, &mut removed)?;
        drop(alone);
        let all = layers.len() as u64;
        for (done, layer) in layers.into_iter().enumerate() {
            watcher.at("deleting", done as u64, all);
            // What can't be removed now is removed the next time.
            drop(layer);
        }
        self.sweep_beside(start)?;
        self.sweep_leads(start)?;
        let left = before.saturating_sub(removed.bytes());
        self.end_measure(&measure, left)?;
        Ok(Collected { freed: removed.bytes(), removed: removed.into_list(), left, in_use, young })
    }

    /// What [`Store::collect`] would do.
    fn foresee(&self, limits: &Limits, watcher: &dyn Watcher) -> Result<Collected, StoreError> {
        let start = SystemTime::now();
        let mut census = self.census(watcher)?;
        let before = census.bytes();
        let cutoff = cutoff(&census, limits, start);
        let (mut removed, mut in_use) = (Removed::default(), 0);
        let units = std::mem::take(&mut census.units);
        for unit in units.iter().filter(|unit| unit.used <= cutoff) {
            let is_layer = matches!(unit.kind, Kind::Trees | Kind::Deltas | Kind::Roots);
            if is_layer && Held::unlocked(&self.dir.join(&unit.path))?.is_some_and(|held| !held.alone()) {
                in_use += 1;
                let keys = self.references(unit).keys;
                census.refer(&keys, Time::MAX);
            } else {
                removed.add(unit.kind, unit.bytes);
            }
        }
        let young = self.remove_blobs(&census, cutoff, limits, start, watcher, &mut removed)?;
        let left = before.saturating_sub(removed.bytes());
        Ok(Collected { freed: removed.bytes(), removed: removed.into_list(), left, in_use, young })
    }

    fn evict(&self, unit: &Unit) -> Result<Eviction, StoreError> {
        let path = self.dir.join(&unit.path);
        if !matches!(unit.kind, Kind::Trees | Kind::Deltas | Kind::Roots) {
            let used = fs::symlink_metadata(&path).and_then(|metadata| metadata.modified());
            if unit.used > 0 && used.is_ok_and(|used| milliseconds(used) > unit.used) {
                return Ok(Eviction::UsedSince);
            }
            return remove(&path).map(|()| Eviction::Done(None));
        }
        let Some(held) = Held::unlocked(&path)? else { return Ok(Eviction::Gone) };
        if !held.alone() {
            return Ok(Eviction::InUse);
        }
        if unit.used > 0 && self.last_use(&unit.path) > unit.used {
            return Ok(Eviction::UsedSince);
        }
        Ok(self.take_name(&unit.path, &held)?.map_or(Eviction::Gone, |layer| Eviction::Done(Some(layer))))
    }

    /// Removes the blobs whose last use is not after `cutoff`; how many of them are too young.
    fn remove_blobs(
        &self,
        census: &Census,
        cutoff: Time,
        limits: &Limits,
        start: SystemTime,
        watcher: &dyn Watcher,
        removed: &mut Removed,
    ) -> Result<u64, StoreError> {
        let blobs = self.dir.join("blobs");
        // Files get the time of the clock's last tick.
        let oldest = start.checked_sub(limits.grace + TICK).unwrap_or(SystemTime::UNIX_EPOCH);
        let parts = names(&blobs)?;
        let mut young = 0;
        for (done, part) in parts.iter().enumerate() {
            watcher.at("removing blobs", done as u64, parts.len() as u64);
            let dir = blobs.join(part);
            for name in names(&dir)? {
                let content = blob_hash(part, &name).and_then(|hash| census.contents.get(&key(&hash)));
                if content.is_none_or(|content| content.used > cutoff) {
                    continue;
                }
                let path = dir.join(&name);
                let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
                if ctime(&metadata) >= oldest {
                    young += 1;
                    continue;
                }
                if !limits.dry_run {
                    remove(&path)?;
                }
                removed.add(Kind::Blobs, taken(&metadata));
            }
        }
        Ok(young)
    }

    /// Removes what stands beside layers that are gone.
    fn sweep_beside(&self, start: SystemTime) -> Result<(), StoreError> {
        for dir in ["trees", "roots", "deltas"] {
            for name in names(&self.dir.join(dir))? {
                let Some((layer, _)) = name.split_once('.') else { continue };
                let path = self.dir.join(dir).join(&name);
                // Who makes a layer writes these first.
                if is_old(&path, start) && !self.has(&format!("{dir}/{layer}")) {
                    remove(&path)?;
                }
            }
        }
        Ok(())
    }

    /// Removes the leads of killed runs, as a run that ends does.
    fn sweep_leads(&self, start: SystemTime) -> Result<(), StoreError> {
        for name in names(&self.dir.join("leads"))? {
            let path = self.dir.join("leads").join(name);
            let Ok(lead) = File::open(&path) else { continue };
            // Whoever has the lock of the file that has the name is alone in taking the name away.
            let is_named = || lead.metadata().is_ok_and(|metadata| metadata.nlink() > 0);
            if is_old(&path, start) && lead.try_lock().is_ok() && is_named() {
                remove(&path)?;
            }
        }
        Ok(())
    }
}

fn is_old(path: &std::path::Path, start: SystemTime) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| ctime(&metadata) + GRACE < start)
}

/// What was not used after this time goes.
fn cutoff(census: &Census, limits: &Limits, now: SystemTime) -> Time {
    let aged = match limits.age {
        None => 0,
        // Even what a clock that was set back says was used in the future.
        Some(Duration::ZERO) => Time::MAX - 1,
        Some(age) => milliseconds(now.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH)),
    };
    let Some(size) = limits.size else { return aged };
    let mut left = census.bytes();
    if left <= size.above {
        return aged;
    }
    let units = census.units.iter().map(|unit| (unit.used, unit.bytes));
    let contents = census.contents.values().map(|content| (content.used, content.bytes));
    let mut uses: Vec<(Time, u64)> = units.chain(contents).collect();
    uses.sort_unstable();
    let mut cutoff = 0;
    for (used, bytes) in uses {
        if left <= size.down_to || used == Time::MAX {
            break;
        }
        left -= bytes;
        cutoff = used;
    }
    cutoff.max(aged)
}

/// How an eviction went.
enum Eviction {
    /// It is gone; a layer goes with this.
    Done(Option<TempDir>),
    /// Somebody else removed it.
    Gone,
    /// A run has it.
    InUse,
    UsedSince,
}

/// What was removed so far.
#[derive(Default)]
struct Removed(HashMap<Kind, Tally>);

impl Removed {
    fn add(&mut self, kind: Kind, bytes: u64) {
        self.0.entry(kind).or_default().add(bytes, None);
    }

    fn bytes(&self) -> u64 {
        self.0.values().map(|tally| tally.bytes).sum()
    }

    fn into_list(self) -> Vec<(Kind, Tally)> {
        let mut list: Vec<_> = self.0.into_iter().collect();
        list.sort_unstable_by_key(|(kind, _)| *kind);
        list
    }
}
