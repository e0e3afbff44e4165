//! Anonymous memory of its own, apart from the heap.
#![expect(unsafe_code, reason = "mmap hands out raw memory")]

use std::sync::atomic::{AtomicU64, Ordering};

use super::errno::{Call, CallError, check};
use super::process::{self, Clock};

/// A mapping that goes with its owner.
pub(super) struct Mapping {
    start: *mut libc::c_void,
    length: usize,
}

impl Mapping {
    /// So many bytes, readable and writable, all zero; `flags` say whether a child shares them.
    pub(super) fn new(length: usize, flags: libc::c_int) -> Result<Self, CallError> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new anonymous mapping at a place of the kernel's choice touches nothing that exists.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags | libc::MAP_ANONYMOUS, -1, 0) };
        if start == libc::MAP_FAILED { Err(CallError::last(Call::mmap)) } else { Ok(Self { start, length }) }
    }

    /// Makes the first bytes fault.
    pub(super) fn guard(&self, length: usize) -> Result<(), CallError> {
        // SAFETY: a mapping of ours that nothing uses yet.
        check(Call::mmap, unsafe { libc::mprotect(self.start, length, libc::PROT_NONE) }.into()).map(drop)
    }

    /// Its first byte.
    pub(super) fn start(&self) -> *mut libc::c_void {
        self.start
    }

    /// The place after its last byte.
    pub(super) fn end(&self) -> *mut libc::c_void {
        self.start.wrapping_byte_add(self.length)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: ours; who shared it as a thread does is gone, and whoever was forked has a mapping of its own.
        unsafe { libc::munmap(self.start, self.length) };
    }
}

/// Points in time that a child leaves for its maker, in memory that both share.
#[derive(Debug)]
pub struct Stamps {
    mapping: Mapping,
    count: usize,
}

impl Stamps {
    /// Room for so many.
    ///
    /// # Errors
    /// As mmap(2).
    pub fn new(count: usize) -> Result<Self, CallError> {
        let mapping = Mapping::new(count.max(1) * size_of::<AtomicU64>(), libc::MAP_SHARED)?;
        Ok(Self { mapping, count })
    }

    /// Notes the monotonic clock as the calling process sees it. Allocates nothing; a place that there is not is ignored.
    pub fn mark(&self, place: usize) {
        if let Some(slot) = self.slots().get(place) {
            slot.store(process::nanoseconds(process::clock(Clock::Monotonic)), Ordering::Relaxed);
        }
    }

    /// What was noted there, in nanoseconds.
    pub fn read(&self, place: usize) -> Option<u64> {
        self.slots().get(place).map(|slot| slot.load(Ordering::Relaxed)).filter(|noted| *noted > 0)
    }

    fn slots(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is page-aligned, large enough for so many, zeroed, which is a valid value, and lives as long as
        // `self`; all that touch it do so by atomic operations.
        unsafe { std::slice::from_raw_parts(self.mapping.start().cast(), self.count) }
    }
}

impl std::fmt::Debug for Mapping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mapping").field("length", &self.length).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clone::{self, exit_now};

    #[test]
    fn a_child_s_stamps_are_seen() {
        let stamps = Stamps::new(3).unwrap();
        stamps.mark(0);
        match clone::fork().unwrap() {
            0 => {
                stamps.mark(1);
                stamps.mark(99);
                exit_now(0)
            }
            pid => clone::wait_for(pid).unwrap(),
        };
        assert!(stamps.read(0).unwrap() <= stamps.read(1).unwrap());
        assert_eq!((stamps.read(2), stamps.read(99)), (None, None));
    }
}
