//! What `run` writes beside the streams: `--report`, `--trace-out`, `--timing`.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use indicatif::BinaryBytes;
use serde::Serialize;

use super::output::json_text;
use crate::error::Error;
use crate::record::{Record, Step, Usage};
use crate::sys::caller;

/// A file that the command line named, opened before the run begins: what can't be written fails before anything is
/// done, and an old file is never taken for this run's.
#[derive(Debug)]
pub(super) struct Sink {
    name: PathBuf,
    file: File,
}

/// The lowest descriptor that a report may go to: the three before are the command's, and sbx's own voice.
const FIRST_DESCRIPTOR: i32 = 3;

impl Sink {
    /// Makes or empties the file at `path`.
    pub(super) fn create(path: &Path) -> Result<Self, Error> {
        let file = File::create(path).map_err(|source| Error::Write { path: path.to_owned(), source })?;
        Ok(Self { name: path.to_owned(), file })
    }

    /// The target of `--report`: `fd:N` is an open descriptor, anything else a path.
    pub(super) fn report(target: &OsStr) -> Result<Self, Error> {
        let Some(number) = target.to_str().and_then(|text| text.strip_prefix("fd:")) else {
            return Self::create(Path::new(target));
        };
        let Some(number) = number.parse().ok().filter(|number| *number >= FIRST_DESCRIPTOR) else {
            return Err(Error::ReportDescriptor { given: target.to_string_lossy().into_owned() });
        };
        let name = PathBuf::from(target);
        match caller::writable_descriptor(number) {
            Ok(file) => Ok(Self { name, file }),
            Err(source) => Err(Error::Write { path: name, source }),
        }
    }

    /// Writes `value` as JSON.
    pub(super) fn write<T: Serialize>(mut self, value: &T) -> Result<(), Error> {
        let text = json_text(value)?;
        self.file.write_all(text.as_bytes()).map_err(|source| Error::Write { path: self.name, source })
    }
}

/// One complete event of the Chrome trace format; times in microseconds.
#[derive(Debug, Serialize)]
pub(super) struct TraceEvent<'a> {
    name: &'a str,
    cat: &'static str,
    ph: &'static str,
    ts: u64,
    dur: u64,
    pid: u32,
    tid: u32,
}

/// The phases and the steps inside as a Chrome trace, which is an array of events. The threads are sbx, PID 1 inside and the
/// command's process.
pub(super) fn trace(record: &Record) -> Vec<TraceEvent<'_>> {
    let pid = std::process::id();
    let event = |name, ts, dur, tid| TraceEvent { name, cat: "sbx", ph: "X", ts, dur, pid, tid };
    let phases = record.phases.iter().map(|phase| event(phase.name.as_str(), phase.start_us, phase.duration_us, pid));
    let steps = record.steps.iter().map(|step| {
        let tid = if step.process == Step::INIT { 1 } else { 2 };
        event(step.name.as_str(), step.start_us, step.duration_us, tid)
    });
    phases.chain(steps).collect()
}

/// The phases and the steps inside as tables, in milliseconds, and where the net namespace came from if there was a launch.
pub(super) fn timing(record: &Record) -> String {
    let mut text = String::new();
    let phases = record.phases.iter().map(|phase| (phase.name.clone(), phase.start_us, phase.duration_us));
    let end = record.phases.iter().map(|phase| phase.start_us + phase.duration_us).max().unwrap_or(0);
    table(&mut text, "phase", phases.chain([("total".to_owned(), 0, end)]).collect());
    if !record.steps.is_empty() {
        let whose = |step: &Step| if step.process == Step::INIT { "PID 1" } else { "the command's process" };
        let steps = record
            .steps
            .iter()
            .map(|step| (format!("{}: {}", whose(step), step.name), step.start_us, step.duration_us));
        table(&mut text, "step inside", steps.collect());
    }
    if !record.net_namespace.is_empty() {
        let _ = writeln!(text, "net namespace: {}", record.net_namespace);
    }
    text
}

/// Rows of a name, a start and a length in microseconds.
fn table(text: &mut String, head: &str, rows: Vec<(String, u64, u64)>) {
    let width = rows.iter().map(|(name, ..)| name.chars().count()).max().unwrap_or(0).max(head.len());
    let _ = writeln!(text, "{head:width$}  {:>12}  {:>12}", "start", "took");
    for (name, start, took) in rows {
        let _ = writeln!(text, "{name:width$}  {:>12}  {:>12}", milliseconds(start), milliseconds(took));
    }
}

/// What a command has used, in a line.
pub(super) fn usage(usage: &Usage) -> String {
    let whose = if usage.peak_of == Usage::ALL { "together" } else { "the largest process" };
    format!(
        "used {} of memory ({whose}), CPU {} user, {} system, {} read, {} written",
        BinaryBytes(usage.peak_memory),
        milliseconds(usage.user_us),
        milliseconds(usage.system_us),
        BinaryBytes(usage.read_bytes),
        BinaryBytes(usage.written_bytes)
    )
}

fn milliseconds(microseconds: u64) -> String {
    format!("{}.{:03} ms", microseconds / 1000, microseconds % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Phase;

    fn record() -> Record {
        let phase = |name: &str, start_us, duration_us| Phase { name: name.to_owned(), start_us, duration_us };
        let step = |process: &str, name: &str| Step {
            process: process.to_owned(),
            name: name.to_owned(),
            start_us: 1,
            duration_us: 20,
        };
        Record {
            phases: vec![phase("config", 90, 910), phase("a long name", 1000, 1_234_567)],
            steps: vec![step(Step::INIT, "mount it"), step(Step::COMMAND, "leave")],
            ..Record::begun(String::new())
        }
    }

    #[test]
    fn timing_is_a_table_with_a_sum() {
        let phases = "\
phase               start          took
config           0.090 ms      0.910 ms
a long name      1.000 ms   1234.567 ms
total            0.000 ms   1235.567 ms
";
        let steps = "\
step inside                          start          took
PID 1: mount it                   0.001 ms      0.020 ms
the command's process: leave      0.001 ms      0.020 ms
";
        assert_eq!(timing(&Record { steps: Vec::new(), ..record() }), phases);
        let pool = Record { net_namespace: "pool".to_owned(), ..record() };
        assert_eq!(timing(&pool), format!("{phases}{steps}net namespace: pool\n"));
    }

    #[test]
    fn a_trace_is_an_array_of_complete_events() {
        let json = serde_json::to_value(trace(&record())).unwrap();
        let event = &json[1];
        assert_eq!((&event["name"], &event["ph"]), (&"a long name".into(), &"X".into()));
        assert_eq!((&event["ts"], &event["dur"]), (&1000.into(), &1_234_567.into()));
        assert!(event["pid"].is_u64() && event["tid"].is_u64());
        assert_eq!((&json[2]["tid"], &json[3]["tid"]), (&1.into(), &2.into()));
    }

    #[test]
    fn a_report_goes_to_no_standard_stream_and_to_no_closed_descriptor() {
        for target in ["fd:0", "fd:1", "fd:2", "fd:-1", "fd:", "fd:x", "fd:99999999999"] {
            let error = Sink::report(OsStr::new(target)).unwrap_err();
            assert!(matches!(error, Error::ReportDescriptor { .. }), "{target}: {error}");
        }
        assert!(matches!(Sink::report(OsStr::new("fd:100000")), Err(Error::Write { .. })));
    }
}
