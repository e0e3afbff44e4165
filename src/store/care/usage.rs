//! The budget, kept cheaply: what was measured the last time, and what every run has added since.
//!
//! `usage` holds a measured sum and a number; `added.<number>` the sums that runs have added, eight bytes each, appended.
//! A measurement begins a new number, so that what is added meanwhile counts. What a killed run added counts from the
//! next measurement on.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use super::gc::{Collected, Limits, Patience, Size};
use super::{Watcher, remove};
use crate::store::frame::{Reader, read_frame};
use crate::store::{Store, StoreError};

const FORMAT: &[u8; 8] = b"sbxusag1";

/// More additions than this are summed up.
const ADDITIONS: usize = 8192;

/// What files take of most disks is a multiple of this.
const BLOCK: u64 = 4096;

/// See the module.
#[derive(Debug, Clone, Copy, Default)]
struct Usage {
    measured: u64,
    number: u64,
}

impl Store {
    /// A file of `bytes` bytes came into the store.
    pub(in crate::store) fn count(&self, bytes: u64) {
        self.added.fetch_add(bytes.next_multiple_of(BLOCK), Ordering::Relaxed);
    }

    /// Says that nothing is in the store.
    pub(in crate::store) fn begin_usage(&self) -> Result<(), StoreError> {
        self.write_usage(Usage::default())
    }

    fn write_usage(&self, usage: Usage) -> Result<(), StoreError> {
        let body = [usage.measured.to_le_bytes(), usage.number.to_le_bytes()].concat();
        self.write_frame(&self.dir.join("usage"), FORMAT, &body)
    }

    fn read_usage(&self) -> Option<Usage> {
        let body = read_frame(&self.dir.join("usage"), FORMAT)?;
        let mut reader = Reader(&body);
        Some(Usage { measured: reader.u64()?, number: reader.u64()? })
    }

    fn additions(&self, number: u64) -> PathBuf {
        self.dir.join(format!("added.{number}"))
    }

    /// The sums that were added since the measurement.
    fn sums(&self, usage: Usage) -> Vec<u64> {
        let bytes = fs::read(self.additions(usage.number)).unwrap_or_default();
        bytes.as_chunks().0.iter().map(|sum| u64::from_le_bytes(*sum)).collect()
    }

    /// About what the store takes of the disk, as far as it can be removed, in bytes; `None` when it was never measured.
    pub fn estimate(&self) -> Option<u64> {
        let usage = self.read_usage()?;
        Some(self.sums(usage).into_iter().fold(usage.measured, u64::saturating_add))
    }

    /// Begins to measure: what is added from now on counts beside the measurement.
    pub(super) fn begin_measure(&self) -> Result<Measure, StoreError> {
        let old = self.read_usage();
        let estimate = self.estimate().unwrap_or_default();
        let number = old.map_or(0, |usage| usage.number) + 1;
        self.write_usage(Usage { measured: estimate, number })?;
        if let Some(old) = old {
            remove(&self.additions(old.number))?;
        }
        Ok(Measure { number })
    }

    /// So much is in the store.
    pub(super) fn end_measure(&self, measure: &Measure, measured: u64) -> Result<(), StoreError> {
        self.write_usage(Usage { measured, number: measure.number })
    }

    /// Notes what this process has added to the store. When that brings it above `budget` bytes, what was not used for
    /// the longest time is removed, until 90 % of the budget are left; unless another process is at it.
    ///
    /// # Errors
    /// When the store can't be read or written.
    pub fn keep_budget(&self, budget: u64, watcher: &dyn Watcher) -> Result<Option<Collected>, StoreError> {
        let added = self.added.swap(0, Ordering::Relaxed);
        if added == 0 {
            return Ok(None);
        }
        let usage = self.read_usage();
        if let Some(usage) = usage {
            let path = self.additions(usage.number);
            let file = File::options().append(true).create(true).open(&path);
            file.and_then(|mut file| file.write_all(&added.to_le_bytes())).map_err(StoreError::io("write", &path))?;
            let sums = self.sums(usage);
            let since: u64 = sums.iter().fold(0, |sum, added| sum.saturating_add(*added));
            // What could not be brought below the budget the last time is not tried again after every run.
            let is_above =
                usage.measured.saturating_add(since) > budget && (usage.measured <= budget || since > budget / 20);
            if !is_above {
                if sums.len() > ADDITIONS {
                    let measure = self.begin_measure()?;
                    self.end_measure(&measure, usage.measured.saturating_add(since))?;
                }
                return Ok(None);
            }
        }
        let size = Size { above: budget, down_to: budget / 10 * 9 };
        self.collect_garbage(&Limits { size: Some(size), ..Limits::default() }, Patience::Skip, watcher)
    }
}

/// A measurement under way.
pub(super) struct Measure {
    number: u64,
}
