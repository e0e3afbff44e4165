//! A report as tables to read, and as CSV.

use std::fmt::Write as _;

use super::report::{Beside, Change, Compared, Comparison, Figure, Measurement, Missing, Quoted, Report, Verdict};

/// A time in seconds with three digits and the unit that fits.
pub fn time(seconds: f64) -> String {
    let (value, unit) = match seconds.abs() {
        s if s < 1e-6 => (seconds * 1e9, "ns"),
        s if s < 1e-3 => (seconds * 1e6, "µs"),
        s if s < 1.0 => (seconds * 1e3, "ms"),
        _ => (seconds, "s"),
    };
    let digits = match value.abs() {
        v if v < 10.0 => 2,
        v if v < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {unit}")
}

/// A whole number with a comma between its thousands; anything else as it is.
pub fn thousands(number: &str) -> String {
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return number.to_owned();
    }
    let groups = number.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy);
    groups.collect::<Vec<_>>().join(",")
}

/// Bytes with the binary unit that fits.
pub fn bytes(value: f64) -> String {
    match value.abs() {
        v if v < 10_240.0 => format!("{value:.0} B"),
        v if v < 10_485_760.0 => format!("{:.1} KiB", value / 1024.0),
        _ => format!("{:.1} MiB", value / 1_048_576.0),
    }
}

/// A verdict in a word.
pub fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Holds => "holds",
        Verdict::Misses => "misses",
        Verdict::Unclear => "can't tell",
    }
}

/// What `result` is set beside, in a few characters; empty for the first itself.
pub fn beside(report: &Report, how: Beside, result: &Measurement) -> String {
    let Some(first) = report.first_beside(result).filter(|first| *first != result) else { return String::new() };
    match how {
        Beside::Nothing => String::new(),
        Beside::Difference => {
            let sign = if result.median < first.median { "−" } else { "+" };
            format!("{sign}{}", time((result.median - first.median).abs()))
        }
        Beside::Ratio => format!("{:.2} ×", result.median / first.median.max(f64::MIN_POSITIVE)),
    }
}

/// The figure, or that noise hides it; the least and the most.
pub fn figure(figure: &Figure) -> [String; 3] {
    let shown = |value| if figure.unit == "×" { format!("{value:.2} ×") } else { bytes(value) };
    [figure.value.map_or_else(|| "in the noise".to_owned(), shown), shown(figure.low), shown(figure.high)]
}

/// What is quoted.
pub fn quoted(quoted: &Quoted) -> String {
    quoted.to.map_or_else(|| time(quoted.quoted), |to| format!("{} to {}", time(quoted.quoted), time(to)))
}

/// How the figure found here relates to what is quoted.
pub fn against_quoted(quoted: &Quoted) -> String {
    let Some(here) = quoted.here else { return "-".to_owned() };
    let (from, to) = (quoted.quoted, quoted.to.unwrap_or(quoted.quoted));
    match () {
        () if here > to * 1.1 => format!("{:.1} times as much", here / to),
        () if here < from / 1.1 => format!("{:.1} times less", from / here),
        () => "as quoted".to_owned(),
    }
}

/// A table with a heading over it. Its first row names the columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// The heading.
    pub title: String,
    /// The rows, all of one length.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    fn new<const N: usize>(title: &str, head: [&str; N], rows: impl Iterator<Item = [String; N]>) -> Self {
        let head = head.map(str::to_owned).to_vec();
        Self { title: title.to_owned(), rows: std::iter::once(head).chain(rows.map(Vec::from)).collect() }
    }

    /// Whether a column is set to the right: those that have a number, but the first.
    pub fn is_right(&self, column: usize) -> bool {
        let is_number = |cell: &String| cell.starts_with(|c: char| c.is_ascii_digit() || "+−".contains(c));
        column > 0 && self.rows.iter().skip(1).any(|row| is_number(&row[column]))
    }
}

/// The tables of a report that have a row, but that of a comparison.
pub fn tables(report: &Report) -> Vec<Table> {
    let mut tables = Vec::new();
    for group in &report.groups {
        let head = match group.beside {
            Beside::Nothing => "",
            Beside::Difference => "MORE",
            Beside::Ratio => "RATIO",
        };
        let rows = report.of(&group.name).map(|result| {
            let [p50, p90, p99, max] = [result.median, result.p90, result.p99, result.max].map(time);
            [result.label(), p50, p90, p99, max, beside(report, group.beside, result)]
        });
        tables.push(Table::new(&group.title, ["", "P50", "P90", "P99", "MAX", head], rows));
    }
    for title in titles(&report.figures) {
        let of_group = report.figures.iter().filter(|figure| figure.group == *title);
        let rows = of_group.map(|one| {
            let [value, low, high] = figure(one);
            [one.name.clone(), value, low, high]
        });
        tables.push(Table::new(title, ["", "FIGURE", "LEAST", "MOST"], rows));
    }
    let rows = report.quoted.iter().map(|one| {
        let here = one.here.map_or_else(|| "-".to_owned(), time);
        [one.name.clone(), quoted(one), here, against_quoted(one)]
    });
    let title = "what is often quoted, and the median here (unshare)";
    tables.push(Table::new(title, ["", "QUOTED", "HERE", ""], rows));
    for phases in &report.phases {
        let whole: f64 = phases.parts.iter().map(|part| part.seconds).sum();
        let rows = phases.parts.iter().map(|part| {
            let part_of = part.seconds / whole.max(f64::MIN_POSITIVE) * 100.0;
            [part.name.clone(), time(part.seconds), format!("{part_of:.0} %")]
        });
        tables.push(Table::new(&format!("phases of {}", phases.command), ["", "MEDIAN", "PART"], rows));
    }
    let rows = report.targets.iter().map(|one| {
        let interval = format!("{:.2} to {:.2}", one.low, one.high);
        let [figure, target] = [one.figure, one.target].map(|value| format!("{value:.2}"));
        [one.what.clone(), figure, interval, target, verdict(one.verdict).to_owned()]
    });
    tables.push(Table::new("targets", ["", "FIGURE", "95 %", "TARGET", "VERDICT"], rows));
    tables.retain(|table| table.rows.len() > 1);
    tables
}

/// The table of a comparison.
pub fn comparison_table(comparison: &Comparison) -> Table {
    let rows = comparison.rows.iter().map(|row| {
        let name = format!("{}: {}", row.group, row.subject);
        let interval = format!("{:.2} to {:.2}", row.low, row.high);
        [name, time(row.old), time(row.new), format!("{:.2}", row.ratio), interval, change(row)]
    });
    let title = format!("compared with {}", comparison.old_started);
    Table::new(&title, ["", "THEN", "NOW", "RATIO", "95 %", "VERDICT"], rows)
}

/// What a report begins with: which bench, how often, when.
pub fn headline(report: &Report) -> String {
    let size = if report.quick { ", quick" } else { "" };
    format!("sbx bench {}, {} rounds{size}, {}", report.bench, report.rounds, report.started)
}

/// The whole report as text.
pub fn text(report: &Report) -> String {
    let mut text = headline(report) + "\n";
    for fact in &report.machine {
        let _ = writeln!(text, "  {}: {}", fact.name, fact.value);
    }
    for note in &report.notes {
        let _ = writeln!(text, "  {note}");
    }
    for table in tables(report) {
        section(&mut text, &table);
    }
    if !report.missing.is_empty() {
        text.push('\n');
    }
    for Missing { what, reason } in &report.missing {
        let _ = writeln!(text, "not measured: {what}: {reason}");
    }
    if let Some(comparison) = &report.comparison {
        section(&mut text, &comparison_table(comparison));
        for line in differences(comparison) {
            let _ = writeln!(text, "{line}");
        }
    }
    text
}

/// The headings of the figures, each once, in order.
pub fn titles(figures: &[Figure]) -> Vec<&String> {
    let mut titles: Vec<&String> = Vec::new();
    for figure in figures {
        if !titles.contains(&&figure.group) {
            titles.push(&figure.group);
        }
    }
    titles
}

/// What became of a subject, in words.
pub fn change(row: &Compared) -> String {
    match row.verdict {
        Change::Slower => format!("slower ({})", confidence(row)),
        Change::Faster => format!("faster ({})", confidence(row)),
        Change::Same => "no difference".to_owned(),
    }
}

/// How sure it is.
fn confidence(row: &Compared) -> String {
    if row.confidence > 0.9999 { "> 99.99 % sure".to_owned() } else { format!("{:.2} % sure", row.confidence * 100.0) }
}

/// What a comparison says besides its table, a line each.
pub fn differences(comparison: &Comparison) -> Vec<String> {
    let lists = [
        ("only then", &comparison.only_old),
        ("only now", &comparison.only_new),
        ("the machine differs", &comparison.machine),
    ];
    let lines = lists.into_iter().flat_map(|(what, items)| items.iter().map(move |item| format!("{what}: {item}")));
    lines.chain([comparison.summary()]).collect()
}

/// A heading and rows.
fn section(text: &mut String, table: &Table) {
    let columns = table.rows.first().map_or(0, Vec::len);
    let width = |column: usize| table.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let _ = writeln!(text, "\n{}", table.title);
    for row in &table.rows {
        let mut line = String::from(" ");
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            // A heading stands where its column's cells do.
            let is_right = table.is_right(column);
            let _ = if is_right { write!(line, " {cell:>width$}  ") } else { write!(line, " {cell:<width$}  ") };
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
}

/// The results and the figures as CSV (RFC 4180), times in seconds.
pub fn csv(report: &Report) -> String {
    let mut text = String::from("group,command,parameters,unit,count,mean,stddev,median,min,max,p90,p99\r\n");
    for one in &report.results {
        let parameters: Vec<String> = one.parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let words = [&one.group, &one.command, &parameters.join(" ")].map(|word| quote(word)).join(",");
        let numbers = [one.mean, one.stddev, one.median, one.min, one.max, one.p90, one.p99];
        let numbers = numbers.map(|number| number.to_string()).join(",");
        let _ = write!(text, "{words},s,{},{numbers}\r\n", one.times.len());
    }
    for one in &report.figures {
        let words = [&one.group, &one.name].map(|word| quote(word)).join(",");
        let value = one.value.map(|value| value.to_string()).unwrap_or_default();
        let _ = write!(text, "{words},,{},,,,{value},{},{},,\r\n", one.unit, one.low, one.high);
    }
    text
}

fn quote(word: &str) -> String {
    if word.contains(['"', ',', '\r', '\n']) { format!("\"{}\"", word.replace('"', "\"\"")) } else { word.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::super::compare::compare;
    use super::super::tests::report;
    use super::*;

    #[test]
    fn a_report_is_read_as_tables() {
        let mut report = report();
        report.comparison = Some(compare(&report, &report));
        insta::assert_snapshot!(text(&report));
    }

    #[test]
    fn csv_has_a_line_for_each_result_and_figure() {
        let report = report();
        let csv = csv(&report);
        assert_eq!(csv.matches("\r\n").count(), 1 + report.results.len() + report.figures.len());
        let head = csv.lines().next().unwrap().split(',').count();
        // The fixture has a comma in one name.
        assert!(csv.contains("\"a, b\""));
        assert!(csv.lines().all(|line| line.replace("\"a, b\"", "").split(',').count() == head), "{csv}");
    }

    #[test]
    fn numbers_have_the_unit_that_fits() {
        assert_eq!(
            [0.0, 1.5e-7, 2.34567e-6, 0.000_123_4, 0.012, 3.0].map(time),
            ["0.00 ns", "150 ns", "2.35 µs", "123 µs", "12.0 ms", "3.00 s"]
        );
        assert_eq!([100.0, 20_480.0, 31_457_280.0].map(bytes), ["100 B", "20.0 KiB", "30.0 MiB"]);
        assert_eq!(["7", "1000", "1234567", "1.5", ""].map(thousands), ["7", "1,000", "1,234,567", "1.5", ""]);
        let one = |here| against_quoted(&Quoted { name: String::new(), quoted: 2.0, to: Some(5.0), here });
        assert_eq!(
            [one(None), one(Some(3.0)), one(Some(10.0)), one(Some(0.5))],
            ["-", "as quoted", "2.0 times as much", "4.0 times less"]
        );
    }
}
