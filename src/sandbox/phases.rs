//! How long each phase of a run takes.

use std::time::Instant;

use crate::record::Phase;
use crate::sys::process::{self, Clock};

/// A recorder of phases that follow each other without a gap, on the monotonic clock.
#[derive(Debug)]
pub struct Phases {
    zero: Instant,
    /// The same on the kernel's own count, in nanoseconds.
    zero_ns: u64,
    done: Vec<Phase>,
    running: Option<(&'static str, u64)>,
}

impl Phases {
    /// Zero is now: the start of sbx.
    pub fn new() -> Self {
        let zero_ns = process::nanoseconds(process::clock(Clock::Monotonic));
        Self { zero: Instant::now(), zero_ns, done: Vec::new(), running: None }
    }

    /// Microseconds since [`Phases::new`].
    pub fn elapsed_us(&self) -> u64 {
        u64::try_from(self.zero.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// The microseconds from [`Phases::new`] to a value of the monotonic clock, in nanoseconds.
    pub fn since_start_us(&self, clock_ns: u64) -> u64 {
        clock_ns.saturating_sub(self.zero_ns) / 1000
    }

    /// Ends the phase that is running, if one is, and starts `name`.
    pub fn phase(&mut self, name: &'static str) {
        let now = self.elapsed_us();
        self.end(now);
        self.running = Some((name, now));
    }

    /// Ends the phase that is running; all phases so far, in the order of their start.
    pub fn finish(&mut self) -> Vec<Phase> {
        self.end(self.elapsed_us());
        self.done.clone()
    }

    fn end(&mut self, now: u64) {
        if let Some((name, start_us)) = self.running.take() {
            self.done.push(Phase { name: name.to_owned(), start_us, duration_us: now - start_us });
        }
    }
}

impl Default for Phases {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_follow_each_other_without_a_gap() {
        let mut phases = Phases::new();
        assert!(phases.finish().is_empty());
        phases.phase("config");
        phases.phase("inputs");
        let done = phases.finish();
        assert_eq!(done.iter().map(|phase| phase.name.as_str()).collect::<Vec<_>>(), ["config", "inputs"]);
        assert_eq!(done[0].start_us + done[0].duration_us, done[1].start_us);
        phases.phase("export");
        assert_eq!(phases.finish().len(), 3);
    }
}
