//! What a kept namespace takes of the kernel's memory: the growth of the kernel's own counters in /proc/meminfo over many
//! that are kept, each by a descriptor, less the growth over as many descriptors of one namespace.
//!
//! The counters are the whole machine's. Whatever else runs changes them too, so it is done several times, and what can't be
//! told from its own spread is no figure.

use std::fs;
use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use super::worker::{Talk, made};
use super::{KINDS, begin};
use crate::bench::report::{Figure, Report};
use crate::bench::stats::Sample;
use crate::bench::{BenchError, Interrupts, Size};
use crate::sys::clone::CloneFlags;
use crate::sys::errno::{Call, CallError};
use crate::sys::event::{self, Interest};
use crate::sys::process;

/// The counters: slabs, memory for each processor, page tables of the kernel's large allocations, stacks.
const COUNTERS: [&str; 4] = ["Slab:", "Percpu:", "VmallocUsed:", "KernelStack:"];
/// How long the counters must stay as they are before they count, and how often that is tried: the kernel takes down
/// later what was dropped.
const CALM: (Duration, usize) = (Duration::from_millis(30), 15);
/// What counts as no change of the counters, in bytes.
const STILL: f64 = 131_072.0;
/// The heading of the figures.
const TITLE: &str = "kernel memory of a kept namespace (with the inode of its descriptor)";

pub(super) fn run(
    report: &mut Report,
    size: Size,
    files: usize,
    interrupts: &Interrupts,
    tell: &mut dyn FnMut(&str),
) -> Result<(), BenchError> {
    let rounds = size.pick(5, 2);
    let count = |name: &str| if name == "net" { size.pick(100, 10) } else { size.pick(500, 20) }.min(files - 64);
    let mut baseline = Vec::new();
    let mut found: Vec<Vec<f64>> = vec![Vec::new(); KINDS.len()];
    for round in 0..=rounds {
        tell(&format!("kernel memory, round {round} of {rounds}"));
        let none = kept(CloneFlags::NONE, c"net", count(""), interrupts)?;
        // The first round fills the kernel's caches.
        if round > 0 {
            baseline.push(none);
        }
        for (index, kind) in KINDS.iter().enumerate() {
            let grown = kept(kind.flags, kind.file, count(kind.name), interrupts);
            match grown {
                Ok(grown) if round > 0 => found[index].push(grown),
                // A limit of this user's or this machine's.
                Err(BenchError::Kernel { source, .. }) if round == 1 => {
                    report.lacks(format!("memory, {}", kind.name), source.to_string());
                }
                Ok(_) | Err(BenchError::Kernel { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }
    let Some(baseline) = Sample::new(baseline) else { return Ok(()) };
    for (kind, grown) in KINDS.iter().zip(found) {
        report.figures.extend(Sample::new(grown).map(|grown| figure(kind.name, &grown, &baseline)));
    }
    Ok(())
}

/// The median over that of the baseline, if the spread of the two leaves one.
fn figure(name: &str, grown: &Sample, baseline: &Sample) -> Figure {
    let nothing = baseline.median();
    let value = grown.median() - nothing;
    let width = |sample: &Sample| sample.quantile(750) - sample.quantile(250);
    let noise = width(grown) + width(baseline);
    Figure {
        name: name.to_owned(),
        group: TITLE.to_owned(),
        value: (value > 2.0 * noise).then_some(value),
        low: grown.quantile(0) - nothing,
        high: grown.quantile(1000) - nothing,
        unit: "B".to_owned(),
    }
}

/// The growth of the counters over `count` namespaces, in bytes for each.
fn kept(
    flags: CloneFlags,
    file: &'static std::ffi::CStr,
    count: usize,
    interrupts: &Interrupts,
) -> Result<f64, BenchError> {
    let mut room: Vec<Option<OwnedFd>> = (0..count).map(|_| None).collect();
    let pipe = || process::pipe().map_err(BenchError::kernel("make a pipe"));
    let ((go, word), (done, tell)) = (pipe()?, pipe()?);
    let (mut word, mut tell) = (fs::File::from(word), fs::File::from(tell));
    let started = begin(|| {
        process::die_with_parent()?;
        let talk = Talk::new()?;
        process::read_byte(go.as_fd())?;
        for place in &mut room {
            *place = Some(made(flags, file, &talk)?);
        }
        tell.write_all(&[0]).map_err(|_| CallError::last(Call::write))?;
        process::read_byte(go.as_fd()).map(drop)
    })?;
    drop(tell);
    let before = calm()?;
    word.write_all(&[0]).map_err(BenchError::io("talk to the process that measures"))?;
    let readable = Some((done.as_fd(), Interest { read: true, write: false }));
    let signalled = Some((interrupts.signals().fd(), Interest { read: true, write: false }));
    loop {
        let ready = event::wait(&[readable, signalled], None).map_err(BenchError::kernel("wait"))?;
        interrupts.check()?;
        if ready[0].read {
            break;
        }
    }
    if process::read_byte(done.as_fd()).map_err(BenchError::kernel("read"))?.is_none() {
        return Err(super::refused(started));
    }
    // The processes that made them are gone, their memory not yet.
    Ok((calm()? - before) / count as f64)
}

/// The sum of the counters when they have come to rest, or at the end of patience.
fn calm() -> Result<f64, BenchError> {
    let (pause, tries) = CALM;
    let mut last = counters()?;
    for _ in 0..tries {
        std::thread::sleep(pause);
        let now = counters()?;
        if (now - last).abs() < STILL {
            return Ok(now);
        }
        last = now;
    }
    Ok(last)
}

/// The sum of the counters in bytes.
fn counters() -> Result<f64, BenchError> {
    let text = fs::read_to_string("/proc/meminfo").map_err(BenchError::io("read /proc/meminfo"))?;
    Ok(sum(&text))
}

fn sum(meminfo: &str) -> f64 {
    let kilobytes = meminfo.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let counted = words.next().is_some_and(|name| COUNTERS.contains(&name));
        words.next().filter(|_| counted)?.parse::<f64>().ok()
    });
    kilobytes.sum::<f64>() * 1024.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_no_figure() {
        let sample = |times: &[f64]| Sample::new(times.to_vec()).unwrap();
        let baseline = sample(&[90.0, 100.0, 110.0]);
        assert_eq!(figure("net", &sample(&[990.0, 1000.0, 1010.0]), &baseline).value, Some(900.0));
        let noisy = figure("uts", &sample(&[0.0, 300.0, 900.0]), &baseline);
        assert_eq!((noisy.value, noisy.low, noisy.high), (None, -100.0, 800.0));
    }

    #[test]
    fn the_kernels_counters_are_summed() {
        assert_eq!(sum("MemTotal: 9 kB\nSlab:   2 kB\nSReclaimable: 1 kB\nPercpu: 1 kB\n"), 3072.0);
        assert!(counters().unwrap() > 0.0);
    }
}
