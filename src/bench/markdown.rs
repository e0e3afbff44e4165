//! A report as Markdown with GitHub's tables, to be put into an issue or a document.

use std::fmt::Write as _;

use super::report::{Missing, Report};
use super::sweep::Sweep;
use super::text::{self, Table};

/// The whole report: its tables, and the machine's facts folded away.
pub fn markdown(report: &Report) -> String {
    let mut lines = format!("## {}\n", escape(&text::headline(report)));
    for said in report.notes.iter().chain(&report.warnings) {
        let _ = write!(lines, "\n{}\n", escape(said));
    }
    for one in tables(report) {
        let _ = write!(lines, "\n### {}\n\n{}", escape(&one.title), table(&one));
    }
    if !report.missing.is_empty() {
        lines.push('\n');
    }
    lines += &missing(report);
    if let Some(comparison) = &report.comparison {
        let one = text::comparison_table(comparison);
        let _ = write!(lines, "\n### {}\n\n{}\n", escape(&one.title), table(&one));
        for line in text::differences(comparison) {
            let _ = writeln!(lines, "- {}", escape(&line));
        }
    }
    let _ = writeln!(lines, "\n<details><summary>the machine</summary>\n\n{}\n</details>", facts(report));
    lines
}

/// The tables: those of the text, but of a sweep the medians, in a row for each subject.
pub fn tables(report: &Report) -> Vec<Table> {
    let medians = |table: Table| {
        let group = report.groups.iter().find(|group| group.title == table.title);
        let sweep = group.and_then(|group| Sweep::of(report, &group.name));
        sweep.map_or(table.clone(), |sweep| sweep.medians(&table.title))
    };
    text::tables(report).into_iter().map(medians).collect()
}

/// What could not be measured, a line each.
pub fn missing(report: &Report) -> String {
    let line = |Missing { what, reason }: &Missing| format!("- not measured: {}: {}\n", escape(what), escape(reason));
    report.missing.iter().map(line).collect()
}

/// The machine's facts, a line each.
pub fn facts(report: &Report) -> String {
    let fact = |fact: &super::report::Fact| format!("- {}: {}\n", escape(&fact.name), escape(&fact.value));
    report.machine.iter().map(fact).collect()
}

/// A table by itself.
pub fn table(table: &Table) -> String {
    let mut lines = String::new();
    for (index, row) in table.rows.iter().enumerate() {
        let cells: Vec<String> = row.iter().map(|cell| escape(cell)).collect();
        let _ = writeln!(lines, "| {} |", cells.join(" | "));
        if index == 0 {
            let rules = (0..row.len()).map(|column| if table.is_right(column) { "---:" } else { "---" });
            let _ = writeln!(lines, "| {} |", rules.collect::<Vec<_>>().join(" | "));
        }
    }
    lines
}

/// Text that says itself: no markup, no second line.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        if "\\`*<>|[]&~".contains(character) {
            safe.push('\\');
        }
        safe.push(if character.is_control() { ' ' } else { character });
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::super::compare::compare;
    use super::super::tests::report;
    use super::*;

    #[test]
    fn a_report_is_read_as_markdown() {
        let mut report = report();
        report.comparison = Some(compare(&report, &report));
        report.missing[0].reason = "<b>|`a`\n# b".into();
        insta::assert_snapshot!(markdown(&report));
    }

    #[test]
    fn every_row_has_the_cells_of_its_head() {
        let mut report = report();
        report.results[0].command = "a | b".into();
        for one in tables(&report) {
            let table = table(&one);
            let cells = |line: &str| line.replace("\\|", "").matches('|').count();
            assert!(table.lines().all(|line| cells(line) == one.rows[0].len() + 1), "{table}");
        }
    }
}
