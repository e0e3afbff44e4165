//! Two reports of one bench, subject by subject.

use super::report::{Change, Compared, Comparison, Fact, Measurement, Report};
use super::stats::{self, Interval, Sample};

/// A change of the median by less than this part of it matters to nobody.
const MATTERS: f64 = 0.02;
/// How surely a difference must be one.
const CONFIDENCE: f64 = 0.95;
/// Facts that differ between any two reports.
const PASSING: [&str; 2] = ["load", "cpuid"];

/// What has changed from `old` to `new`.
pub fn compare(old: &Report, new: &Report) -> Comparison {
    let pairs: Vec<(&Measurement, &Measurement)> =
        new.results.iter().filter_map(|result| Some((partner(old, result)?, result))).collect();
    let samples: Vec<(Sample, Sample)> =
        pairs.iter().filter_map(|(old, new)| Some((old.sample()?, new.sample()?))).collect();
    let chances: Vec<f64> = samples.iter().map(|(old, new)| stats::mann_whitney(old, new)).collect();
    let rows = pairs.iter().zip(&samples).zip(stats::corrected(&chances));
    let rows = rows.map(|(((_, result), (old, new)), chance)| {
        let Interval { value: ratio, low, high } = stats::ratio(new, old);
        let confidence = 1.0 - chance;
        let verdict = match confidence >= CONFIDENCE && (ratio - 1.0).abs() >= MATTERS {
            true if low > 1.0 => Change::Slower,
            true if high < 1.0 => Change::Faster,
            _ => Change::Same,
        };
        let (group, subject) = (result.group.clone(), result.label());
        Compared { group, subject, old: old.median(), new: new.median(), ratio, low, high, confidence, verdict }
    });
    let lone = |all: &Report, others: &Report| {
        let lone = all.results.iter().filter(|result| partner(others, result).is_none());
        lone.map(|result| format!("{}: {}", result.group, result.label())).collect()
    };
    Comparison {
        old_started: old.started.clone(),
        rows: rows.collect(),
        only_old: lone(old, new),
        only_new: lone(new, old),
        machine: facts(old, new),
    }
}

fn partner<'a>(report: &'a Report, result: &Measurement) -> Option<&'a Measurement> {
    report.results.iter().find(|other| {
        (&other.group, &other.command, &other.parameters) == (&result.group, &result.command, &result.parameters)
    })
}

fn facts(old: &Report, new: &Report) -> Vec<String> {
    let value = |report: &Report, name: &str| {
        report.machine.iter().find(|fact| fact.name == name).map_or_else(|| "-".to_owned(), |fact| fact.value.clone())
    };
    let mut names: Vec<&String> = new.machine.iter().map(|Fact { name, .. }| name).collect();
    names
        .extend(old.machine.iter().map(|fact| &fact.name).filter(|name| !new.machine.iter().any(|f| f.name == **name)));
    let changed = names.into_iter().filter(|name| !PASSING.contains(&name.as_str())).filter_map(|name| {
        let (then, now) = (value(old, name), value(new, name));
        (then != now).then(|| format!("{name}: {then}, now {now}"))
    });
    changed.collect()
}

impl Comparison {
    /// How many subjects have this verdict.
    pub fn count(&self, verdict: Change) -> usize {
        self.rows.iter().filter(|row| row.verdict == verdict).count()
    }

    /// The sum of it, in one line.
    pub fn summary(&self) -> String {
        let counted = |verdict, word: &str| match self.count(verdict) {
            0 => None,
            count => Some(format!("{count} {word}")),
        };
        if self.rows.is_empty() {
            return "the two reports have no subject in common".to_owned();
        }
        let differ = [counted(Change::Slower, "slower"), counted(Change::Faster, "faster")];
        let differ: Vec<String> = differ.into_iter().flatten().collect();
        match (differ.is_empty(), self.count(Change::Same)) {
            (true, count) => format!("no difference: {count} compared"),
            (false, 0) => differ.join(", "),
            (false, same) => format!("{}, {same} without a difference", differ.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::report;
    use super::*;

    #[test]
    fn a_report_does_not_differ_from_itself() {
        let found = compare(&report(), &report());
        assert!(found.rows.len() > 2 && found.count(Change::Same) == found.rows.len(), "{found:?}");
        assert_eq!(found.summary(), format!("no difference: {} compared", found.rows.len()));
        assert!(found.only_old.is_empty() && found.only_new.is_empty() && found.machine.is_empty());
    }

    #[test]
    fn what_doubled_is_slower_and_its_reverse_faster() {
        let mut double = report();
        for result in &mut double.results {
            result.times.iter_mut().for_each(|time| *time *= 2.0);
        }
        double.results.pop();
        double.machine[0].value = "Linux 1.0".to_owned();
        let found = compare(&report(), &double);
        assert_eq!(found.count(Change::Slower), found.rows.len());
        assert!(found.rows.iter().all(|row| row.ratio == 2.0 && row.confidence > 0.95));
        assert_eq!((found.only_old.len(), found.machine.len()), (1, 1));
        assert_eq!(compare(&double, &report()).count(Change::Faster), found.rows.len());
        assert!(found.summary().ends_with("slower"));
    }

    #[test]
    fn reports_of_different_things_have_nothing_in_common() {
        let mut other = report();
        other.results.iter_mut().for_each(|result| result.command += "!");
        assert_eq!(compare(&other, &report()).summary(), "the two reports have no subject in common");
    }
}
