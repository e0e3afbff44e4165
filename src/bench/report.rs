//! What a bench found out: one type for all benches and all forms of output, and the format of `--json`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::stats::{Interval, Sample};

/// The version of the JSON.
pub const VERSION: u32 = 1;

/// What one bench found out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// [`VERSION`].
    pub version: u32,
    /// Which bench: `namespaces`, `launch`, `hash` or `io`.
    pub bench: String,
    /// The version of sbx.
    pub sbx: String,
    /// When it began, RFC 3339, UTC.
    pub started: String,
    /// How often each thing was measured where nothing else is said.
    pub rounds: u32,
    /// Whether everything was made small (`--quick`).
    pub quick: bool,
    /// What of the machine matters.
    pub machine: Vec<Fact>,
    /// What the groups of results are about, in the order in which they are shown.
    pub groups: Vec<Group>,
    /// The times, with hyperfine's names where they fit.
    pub results: Vec<Measurement>,
    /// What was not measured as a time.
    pub figures: Vec<Figure>,
    /// Figures that are often quoted, beside those found here.
    pub quoted: Vec<Quoted>,
    /// Of what the time of one subject consists.
    pub phases: Vec<Phases>,
    /// Ratios that sbx is meant to reach.
    pub targets: Vec<Target>,
    /// What could not be measured, and why.
    pub missing: Vec<Missing>,
    /// How it was measured.
    pub notes: Vec<String>,
    /// What the reader should know before believing anything.
    pub warnings: Vec<String>,
    /// How it compares with an earlier report (`--compare`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comparison: Option<Comparison>,
}

/// A fact about the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fact {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// Results that belong together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// What results name it by.
    pub name: String,
    /// Its heading.
    pub title: String,
    /// How each result is set beside the group's first.
    pub beside: Beside,
}

/// How a result is set beside the first of its group; in a sweep, the first with the same parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Beside {
    /// Not at all.
    Nothing,
    /// By the difference of the medians.
    Difference,
    /// By the ratio of the medians.
    Ratio,
}

/// The times of one subject, in seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Measurement {
    /// What was measured.
    pub command: String,
    /// The group that it belongs to.
    pub group: String,
    /// The arithmetic mean.
    pub mean: f64,
    /// The standard deviation.
    pub stddev: f64,
    /// The time that half of all do not exceed.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// The time that 90 % do not exceed.
    pub p90: f64,
    /// The time that 99 % do not exceed.
    pub p99: f64,
    /// All of them, in the order of the rounds.
    pub times: Vec<f64>,
    /// The exit codes of what was run; empty when nothing was.
    pub exit_codes: Vec<i32>,
    /// What was varied, by name.
    pub parameters: BTreeMap<String, String>,
}

impl Measurement {
    /// What was measured in `times` (seconds); `None` when there are none.
    pub fn new(group: &str, command: &str, times: Vec<f64>) -> Option<Self> {
        let sample = Sample::new(times.clone())?;
        Some(Self {
            command: command.to_owned(),
            group: group.to_owned(),
            mean: sample.mean(),
            stddev: sample.deviation(),
            median: sample.median(),
            min: sample.quantile(0),
            max: sample.quantile(1000),
            p90: sample.quantile(900),
            p99: sample.quantile(990),
            times,
            exit_codes: Vec::new(),
            parameters: BTreeMap::new(),
        })
    }

    /// The same with what was varied.
    #[must_use]
    pub fn with(mut self, parameter: &str, value: impl ToString) -> Self {
        self.parameters.insert(parameter.to_owned(), value.to_string());
        self
    }

    /// The same of programs that were run and exited with 0.
    #[must_use]
    pub fn of_programs(mut self) -> Self {
        self.exit_codes = vec![0; self.times.len()];
        self
    }

    /// The times as a sample. A report that was read has some for each.
    pub fn sample(&self) -> Option<Sample> {
        Sample::new(self.times.clone())
    }

    /// The command with its parameters, as it is shown.
    pub fn label(&self) -> String {
        let parameters = self.parameters.iter().map(|(name, value)| format!(", {value} {name}"));
        self.command.clone() + &parameters.collect::<String>()
    }
}

/// What was not measured as a time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    /// What it is of.
    pub name: String,
    /// The heading that it stands under.
    pub group: String,
    /// The figure; none when it can't be told from noise.
    pub value: Option<f64>,
    /// The smallest that was seen; of a ratio, the lower end of its 95 % interval.
    pub low: f64,
    /// The largest that was seen; of a ratio, the upper end of its 95 % interval.
    pub high: f64,
    /// Its unit: `B` for bytes, `×` for a ratio.
    pub unit: String,
}

/// A figure that is often quoted, beside the one found here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Quoted {
    /// What it is of.
    pub name: String,
    /// What is quoted, in seconds.
    pub quoted: f64,
    /// The upper end, when a range is quoted.
    pub to: Option<f64>,
    /// The median found here, in seconds; none when it could not be measured.
    pub here: Option<f64>,
}

/// Of what a time consists.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Phases {
    /// Whose time.
    pub command: String,
    /// Its parts, in order.
    pub parts: Vec<Part>,
}

/// A part of a time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// What happens in it.
    pub name: String,
    /// The median of its length, in seconds.
    pub seconds: f64,
}

/// A figure that sbx is meant to reach, usually a ratio of medians.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// What by what.
    pub what: String,
    /// What was found.
    pub figure: f64,
    /// The lower end of its 95 % interval.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// It should be no more than this.
    pub target: f64,
    /// Whether it is.
    pub verdict: Verdict,
}

/// Whether a target is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The whole interval is below it.
    Holds,
    /// The whole interval is above it.
    Misses,
    /// The target is in the interval.
    Unclear,
}

impl Target {
    /// Judges a figure against the most that it should be.
    pub fn new(what: impl Into<String>, found: Interval, target: f64) -> Self {
        let Interval { value: figure, low, high } = found;
        let verdict = match (high <= target, low > target) {
            (true, _) => Verdict::Holds,
            (_, true) => Verdict::Misses,
            _ => Verdict::Unclear,
        };
        Self { what: what.into(), figure, low, high, target, verdict }
    }
}

/// What could not be measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Missing {
    /// What.
    pub what: String,
    /// Why.
    pub reason: String,
}

/// How a report compares with an earlier one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Comparison {
    /// When the earlier one began.
    pub old_started: String,
    /// What both have.
    pub rows: Vec<Compared>,
    /// What only the earlier one has.
    pub only_old: Vec<String>,
    /// What only this one has.
    pub only_new: Vec<String>,
    /// What of the machine differs, as `NAME: OLD, now NEW`.
    pub machine: Vec<String>,
}

/// One subject then and now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Compared {
    /// The group.
    pub group: String,
    /// The subject with its parameters.
    pub subject: String,
    /// The earlier median, in seconds.
    pub old: f64,
    /// The median now.
    pub new: f64,
    /// Now by then.
    pub ratio: f64,
    /// The lower end of the ratio's 95 % interval.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// How surely the two differ, from 0 to 1: Mann-Whitney U, held to more the more subjects are compared.
    pub confidence: f64,
    /// What follows.
    pub verdict: Change,
}

/// What follows from a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// It takes longer.
    Slower,
    /// It takes less.
    Faster,
    /// Nothing can be told, or it is too small to matter.
    Same,
}

/// What is wrong with a report.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It is no report.
    #[error("it is no report of `sbx bench`")]
    Json(#[from] serde_json::Error),
    /// It has another version.
    #[error("it has version {0}, this sbx knows version {VERSION}")]
    Version(u64),
    /// It holds something that no bench measures.
    #[error("results[{index}] (`{command}`): {what}")]
    Result {
        /// Which.
        index: usize,
        /// Its name.
        command: String,
        /// What is wrong.
        what: &'static str,
    },
}

impl Report {
    /// Reads what `--json` printed.
    ///
    /// # Errors
    /// When it is none, has another version, or holds what can't have been measured.
    pub fn read(text: &str) -> Result<Self, Unreadable> {
        /// What every version has.
        #[derive(Deserialize)]
        struct Any {
            version: u64,
        }
        let Any { version } = serde_json::from_str(text)?;
        if version != u64::from(VERSION) {
            return Err(Unreadable::Version(version));
        }
        let report: Self = serde_json::from_str(text)?;
        for (index, result) in report.results.iter().enumerate() {
            let wrong = |what| Unreadable::Result { index, command: result.command.clone(), what };
            if result.times.is_empty() {
                return Err(wrong("it has no times"));
            }
            if result.times.iter().any(|time| !time.is_finite() || *time < 0.0) {
                return Err(wrong("its times are not all from 0 on"));
            }
            if !report.groups.iter().any(|group| group.name == result.group) {
                return Err(wrong("its group is not among the groups"));
            }
        }
        Ok(report)
    }

    /// Adds a group.
    pub fn group(&mut self, name: &str, title: impl Into<String>, beside: Beside) {
        self.groups.push(Group { name: name.to_owned(), title: title.into(), beside });
    }

    /// Adds what could not be measured.
    pub fn lacks(&mut self, what: impl Into<String>, reason: impl Into<String>) {
        self.missing.push(Missing { what: what.into(), reason: reason.into() });
    }

    /// The results of a group.
    pub fn of<'a>(&'a self, group: &'a str) -> impl Iterator<Item = &'a Measurement> {
        self.results.iter().filter(move |result| result.group == group)
    }

    /// The result of this name in a group.
    pub fn find(&self, group: &str, command: &str) -> Option<&Measurement> {
        self.results.iter().find(|result| result.group == group && result.command == command)
    }

    /// What `result` is set beside: the first of its group with the same parameters.
    pub fn first_beside<'a>(&'a self, result: &Measurement) -> Option<&'a Measurement> {
        self.results.iter().find(|other| other.group == result.group && other.parameters == result.parameters)
    }
}

/// The JSON Schema of the reports, for who reads them by a program.
pub fn schema() -> schemars::Schema {
    schemars::generate::SchemaSettings::draft07().into_generator().into_root_schema_for::<Report>()
}

#[cfg(test)]
mod tests {
    use super::super::tests::report;
    use super::*;

    #[test]
    fn a_report_survives_its_json() {
        let report = report();
        let text = serde_json::to_string(&report).unwrap();
        let read = Report::read(&text).unwrap();
        assert_eq!(
            (read.groups, read.targets.len(), read.results.len()),
            (report.groups, report.targets.len(), report.results.len())
        );
        let close = |(one, other): (&f64, &f64)| (one - other).abs() < 1e-15;
        assert!(read.results[0].times.iter().zip(&report.results[0].times).all(close));
        assert_eq!(read.results[0].exit_codes, report.results[0].exit_codes);
    }

    #[test]
    fn what_is_no_report_is_told_with_its_place() {
        let message = |text: &str| {
            let error = Report::read(text).unwrap_err();
            std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string)
        };
        assert!(message("{}").contains("version"));
        assert!(message("[1, 2").contains("line 1"));
        assert_eq!(message(r#"{"version": 9}"#), "it has version 9, this sbx knows version 1");
        let mut bad = report();
        bad.results[0].times.clear();
        assert!(message(&serde_json::to_string(&bad).unwrap()).contains("results[0]"));
        bad.results[0].times.push(-1.0);
        assert!(message(&serde_json::to_string(&bad).unwrap()).contains("from 0 on"));
    }

    #[test]
    fn a_target_is_judged_by_the_whole_interval() {
        let judged = |low, high| Target::new("", Interval { value: 1.0, low, high }, 1.0).verdict;
        assert_eq!(
            [judged(0.8, 0.9), judged(1.1, 1.2), judged(0.9, 1.1)],
            [Verdict::Holds, Verdict::Misses, Verdict::Unclear]
        );
    }
}
