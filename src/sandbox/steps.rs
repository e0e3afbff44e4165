//! When the sandbox's first two processes, PID 1 and the command's, were done with each of their steps: noted by themselves.

use super::message::List;
use super::phases::Phases;
use crate::plan::Plan;
use crate::record;
use crate::sys::errno::CallError;
use crate::sys::mapping::Stamps;
use crate::sys::process;

/// The notes of one launch.
#[derive(Debug)]
pub struct Steps {
    stamps: Stamps,
    /// How many steps PID 1 has.
    setup: usize,
    /// The monotonic clock of the host where the command's is zero, in nanoseconds.
    zero: u64,
}

impl Steps {
    /// Room for the steps of `plan`; the command's clock is zero when the host's monotonic one is at `zero`.
    ///
    /// # Errors
    /// As mmap(2).
    pub fn of(plan: &Plan, zero: (i64, i64)) -> Result<Self, CallError> {
        // Each list has the time at which it began, too.
        let stamps = Stamps::new(plan.setup.len() + plan.start.len() + 2)?;
        Ok(Self { stamps, setup: plan.setup.len(), zero: process::nanoseconds(zero) })
    }

    /// So many steps of the list are done. Allocates nothing.
    pub fn mark(&self, list: List, done: usize) {
        self.stamps.mark(self.place(list, done));
    }

    fn place(&self, list: List, done: usize) -> usize {
        match list {
            List::Setup => done,
            List::Start => self.setup + 1 + done,
        }
    }

    /// What was done and how long it took. The last, which gives the process to the command, has no end to be noted.
    pub fn read(&self, plan: &Plan, clock: &Phases) -> Vec<record::Step> {
        let setup = plan.setup.iter().enumerate().map(|(index, step)| (List::Setup, index, step));
        let start = plan.start.iter().enumerate().map(|(index, step)| (List::Start, index, step));
        let done = setup.chain(start).filter_map(|(list, index, step)| {
            let at = |done| {
                self.stamps.read(self.place(list, done)).map(|noted| clock.since_start_us(self.host(list, noted)))
            };
            let (start_us, end_us) = (at(index)?, at(index + 1)?);
            let process = if list == List::Setup { record::Step::INIT } else { record::Step::COMMAND }.to_owned();
            Some(record::Step { process, name: step.purpose(), start_us, duration_us: end_us.saturating_sub(start_us) })
        });
        done.collect()
    }

    /// The host's time of a stamp: the command's process has a clock of its own, PID 1 has not.
    fn host(&self, list: List, noted: u64) -> u64 {
        if list == List::Start { noted + self.zero } else { noted }
    }
}
