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
use crate::record::{Phase, Usage};
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

/// The phases as a Chrome trace, which is an array of events.
pub(super) fn trace<'a>(phases: &'a [Phase]) -> Vec<TraceEvent<'a>> {
    let pid = std::process::id();
    let event = |phase: &'a Phase| {
        let Phase { name, start_us, duration_us } = phase;
        TraceEvent { name, cat: "sbx", ph: "X", ts: *start_us, dur: *duration_us, pid, tid: pid }
    };
    phases.iter().map(event).collect()
}

/// The phases as a table, in milliseconds, and where the net namespace came from if there was a launch.
pub(super) fn timing(phases: &[Phase], net_namespace: &str) -> String {
    let width = phases.iter().map(|phase| phase.name.len()).max().unwrap_or(0).max("phase".len());
    let mut table = format!("{:width$}  {:>12}  {:>12}\n", "phase", "start", "took");
    let mut row = |name: &str, start: u64, took: u64| {
        let _ = writeln!(table, "{name:width$}  {:>12}  {:>12}", milliseconds(start), milliseconds(took));
    };
    for phase in phases {
        row(&phase.name, phase.start_us, phase.duration_us);
    }
    let end = phases.iter().map(|phase| phase.start_us + phase.duration_us).max().unwrap_or(0);
    row("total", 0, end);
    if !net_namespace.is_empty() {
        let _ = writeln!(table, "net namespace: {net_namespace}");
    }
    table
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

    fn phases() -> Vec<Phase> {
        let phase = |name: &str, start_us, duration_us| Phase { name: name.to_owned(), start_us, duration_us };
        vec![phase("config", 90, 910), phase("a long name", 1000, 1_234_567)]
    }

    #[test]
    fn timing_is_a_table_with_a_sum() {
        let expected = "\
phase               start          took
config           0.090 ms      0.910 ms
a long name      1.000 ms   1234.567 ms
total            0.000 ms   1235.567 ms
";
        assert_eq!(timing(&phases(), ""), expected);
        assert_eq!(timing(&phases(), "pool"), expected.to_owned() + "net namespace: pool\n");
    }

    #[test]
    fn a_trace_is_an_array_of_complete_events() {
        let json = serde_json::to_value(trace(&phases())).unwrap();
        let event = &json[1];
        assert_eq!((&event["name"], &event["ph"]), (&"a long name".into(), &"X".into()));
        assert_eq!((&event["ts"], &event["dur"]), (&1000.into(), &1_234_567.into()));
        assert!(event["pid"].is_u64() && event["tid"].is_u64());
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
