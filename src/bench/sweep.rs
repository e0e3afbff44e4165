//! What was varied: each subject at each place, as a plot and a table need it.

use super::report::{Measurement, Report};
use super::text::{self, Table};

/// A place of a sweep.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// What it is called: `1,000 inputs`.
    pub name: String,
    /// What was varied, where it is one number.
    pub value: Option<f64>,
}

impl Place {
    fn of(result: &Measurement) -> Self {
        let shown = result.parameters.iter().map(|(name, value)| format!("{} {name}", text::thousands(value)));
        let mut values = result.parameters.values().map(|value| value.parse().ok());
        let value = values.next().flatten().filter(|_| result.parameters.len() == 1);
        Self { name: shown.collect::<Vec<_>>().join(", "), value }
    }
}

/// The results of a group of which something was varied.
#[derive(Debug)]
pub struct Sweep<'a> {
    /// The places, in order of their first result.
    pub places: Vec<Place>,
    /// Each subject with what was measured at each place, in order of its first result.
    pub subjects: Vec<(&'a str, Vec<Option<&'a Measurement>>)>,
}

impl<'a> Sweep<'a> {
    /// That of a group; `None` where nothing was varied.
    pub fn of(report: &'a Report, group: &'a str) -> Option<Self> {
        let results: Vec<&Measurement> = report.of(group).collect();
        if results.iter().all(|result| result.parameters.is_empty()) {
            return None;
        }
        let (mut places, mut names): (Vec<Place>, Vec<&str>) = (Vec::new(), Vec::new());
        for result in &results {
            let place = Place::of(result);
            if !places.contains(&place) {
                places.push(place);
            }
            if !names.contains(&result.command.as_str()) {
                names.push(&result.command);
            }
        }
        let at = |name: &str, place: &Place| {
            results.iter().copied().find(|result| result.command == name && Place::of(result) == *place)
        };
        let of = |name: &'a str| (name, places.iter().map(|place| at(name, place)).collect());
        let subjects = names.into_iter().map(of).collect();
        Some(Self { places, subjects })
    }

    /// The medians: a row for each subject, a column for each place.
    pub fn medians(&self, title: &str) -> Table {
        let head = std::iter::once("MEDIAN".to_owned()).chain(self.places.iter().map(|place| place.name.clone()));
        let shown = |one: &Option<&Measurement>| one.map_or_else(|| "-".to_owned(), |one| text::time(one.median));
        let row = |(name, results): &(&str, Vec<Option<&Measurement>>)| {
            std::iter::once((*name).to_owned()).chain(results.iter().map(shown)).collect()
        };
        let rows = std::iter::once(head.collect()).chain(self.subjects.iter().map(row));
        Table { title: title.to_owned(), rows: rows.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::report;
    use super::*;

    #[test]
    fn a_sweep_is_a_table_of_medians() {
        let report = report();
        assert!(Sweep::of(&report, "paced").is_none() && Sweep::of(&report, "empty").is_none());
        let sweep = Sweep::of(&report, "mounts").unwrap();
        assert_eq!(sweep.places[1], Place { name: "10 mounts".into(), value: Some(10.0) });
        let expected =
            [["MEDIAN", "0 mounts", "10 mounts"], ["sbx run", "3.01 ms", "4.01 ms"], ["bwrap", "-", "5.01 ms"]];
        assert_eq!(sweep.medians("mounts").rows, expected);
    }
}
