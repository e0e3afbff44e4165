//! A report as one page that needs nothing else: no script, no font, no picture from elsewhere.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::report::{Beside, Change, Comparison, Group, Measurement, Missing, Report, Verdict};
use super::stats::Sample;
use super::svg::{self, COLOURS, Line};
use super::text;

const STYLE: &str = include_str!("page.css");

/// Text as it may stand in an element or an attribute.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            // XML has no way to write them.
            c if c.is_control() && c != '\n' => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

/// The page.
pub fn page(report: &Report) -> String {
    let title = escape(&format!("sbx bench {}", report.bench));
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\
         <title>{title}</title><style>{STYLE}</style></head><body><main><h1>{title}</h1>"
    );
    let size = if report.quick { ", quick: too few for figures to rely on" } else { "" };
    let head = format!("sbx {}, {} rounds{size}, {}", report.sbx, report.rounds, report.started);
    let _ = write!(html, "<p class=\"sub\">{}</p>", escape(&head));
    for note in &report.notes {
        let _ = write!(html, "<p class=\"sub\">{}</p>", escape(note));
    }
    for warning in &report.warnings {
        let _ = write!(html, "<p class=\"warning\">{}</p>", escape(warning));
    }
    if let Some(comparison) = &report.comparison {
        self::comparison(&mut html, comparison);
    }
    targets(&mut html, report);
    quoted(&mut html, report);
    for group in &report.groups {
        self::group(&mut html, report, group);
    }
    figures(&mut html, report);
    phases(&mut html, report);
    if !report.missing.is_empty() {
        html.push_str("<h2>not measured</h2>");
        let rows = report.missing.iter().map(|Missing { what, reason }| [cell(what), cell(reason)]);
        table(&mut html, ["", "reason"], rows);
    }
    html.push_str("<h2>the machine</h2>");
    table(&mut html, ["", ""], report.machine.iter().map(|fact| [cell(&fact.name), cell(&fact.value)]));
    html + "</main></body></html>\n"
}

/// A cell: its class and its content, which is HTML.
type Cell = (&'static str, String);

fn cell(text: &str) -> Cell {
    ("", escape(text))
}

fn number(text: String) -> Cell {
    ("n", escape(&text))
}

fn table<const N: usize>(html: &mut String, head: [&str; N], rows: impl Iterator<Item = [Cell; N]>) {
    let rows: Vec<[Cell; N]> = rows.collect();
    html.push_str("<div class=\"scroll\"><table>");
    if head.iter().any(|name| !name.is_empty()) {
        let classes = rows.first().map_or([""; N], |row| std::array::from_fn(|column| row[column].0));
        html.push_str("<thead><tr>");
        for (name, class) in head.iter().zip(classes) {
            let _ = write!(html, "<th class=\"{class}\">{}</th>", escape(name));
        }
        html.push_str("</tr></thead>");
    }
    html.push_str("<tbody>");
    for row in rows {
        html.push_str("<tr>");
        for (class, content) in row {
            let _ = write!(html, "<td class=\"{class}\">{content}</td>");
        }
        html.push_str("</tr>");
    }
    html.push_str("</tbody></table></div>");
}

/// The colours of the commands, in order of their first result: one keeps its colour through the page.
fn colours(report: &Report) -> BTreeMap<String, usize> {
    let mut colours = BTreeMap::new();
    for result in &report.results {
        let next = colours.len() % COLOURS;
        colours.entry(result.command.clone()).or_insert(next);
    }
    colours
}

fn group(html: &mut String, report: &Report, group: &Group) {
    let results: Vec<&Measurement> = report.of(&group.name).collect();
    if results.is_empty() {
        return;
    }
    let colours = colours(report);
    let _ = write!(html, "<h2>{}</h2>", escape(&group.title));
    let plot = if results.iter().any(|result| !result.parameters.is_empty()) {
        sweep(&group.title, &results, &colours)
    } else {
        let subjects = results.iter().filter_map(|result| {
            Some((result.command.clone(), colours[&result.command], Sample::new(result.times.clone())?))
        });
        svg::distributions(&group.title, &subjects.collect::<Vec<_>>())
    };
    html.push_str(&plot);
    let head = match group.beside {
        Beside::Nothing => "",
        Beside::Difference => "more than the first",
        Beside::Ratio => "by the first",
    };
    let rows = results.iter().map(|result| {
        let key = format!("<span class=\"key s{}\"></span>{}", colours[&result.command], escape(&result.label()));
        let [p50, p90, p99, max] = [result.median, result.p90, result.p99, result.max].map(|t| number(text::time(t)));
        [("", key), p50, p90, p99, max, number(text::beside(report, group.beside, result))]
    });
    table(html, ["", "p50", "p90", "p99", "max", head], rows);
}

fn sweep(title: &str, results: &[&Measurement], colours: &BTreeMap<String, usize>) -> String {
    let place = |result: &Measurement| {
        let shown = result.parameters.iter().map(|(name, value)| format!("{value} {name}"));
        shown.collect::<Vec<_>>().join(", ")
    };
    let mut places: Vec<String> = Vec::new();
    for result in results {
        if !places.contains(&place(result)) {
            places.push(place(result));
        }
    }
    let is_there = |command: &&String| results.iter().any(|result| result.command == **command);
    let lines = colours.keys().filter(is_there).map(|command| {
        let point = |at: &String| {
            let found = results.iter().find(|result| result.command == *command && place(result) == *at)?;
            Some((found.median, found.p90))
        };
        Line { name: command.clone(), colour: colours[command], points: places.iter().map(point).collect() }
    });
    svg::sweep(title, &places, &lines.collect::<Vec<_>>())
}

fn targets(html: &mut String, report: &Report) {
    if report.targets.is_empty() {
        return;
    }
    html.push_str("<h2>targets</h2>");
    let rows = report.targets.iter().map(|one| {
        let class = match one.verdict {
            Verdict::Holds => "good",
            Verdict::Misses => "bad",
            Verdict::Unclear => "unclear",
        };
        let interval = format!("{:.2} to {:.2}", one.low, one.high);
        let [figure, target] = [one.figure, one.target].map(|value| number(format!("{value:.2}")));
        [cell(&one.what), figure, number(interval), target, (class, text::verdict(one.verdict).to_owned())]
    });
    table(html, ["", "figure", "95 %", "at most", "verdict"], rows);
}

fn quoted(html: &mut String, report: &Report) {
    if report.quoted.is_empty() {
        return;
    }
    html.push_str("<h2>what is often quoted, and the median here (unshare)</h2>");
    let rows = report.quoted.iter().map(|one| {
        let here = one.here.map_or_else(|| "-".to_owned(), text::time);
        [cell(&one.name), number(text::quoted(one)), number(here), cell(&text::against_quoted(one))]
    });
    table(html, ["", "quoted", "here", "so here it is"], rows);
}

fn figures(html: &mut String, report: &Report) {
    for title in text::titles(&report.figures) {
        let _ = write!(html, "<h2>{}</h2>", escape(title));
        let rows = report.figures.iter().filter(|figure| figure.group == *title).map(|one| {
            let [value, low, high] = text::figure(one).map(number);
            [cell(&one.name), value, low, high]
        });
        table(html, ["", "figure", "least", "most"], rows);
    }
}

fn phases(html: &mut String, report: &Report) {
    for phases in &report.phases {
        let title = format!("phases of {}", phases.command);
        let _ = write!(html, "<h2>{}</h2>", escape(&title));
        let parts: Vec<(String, f64)> = phases.parts.iter().map(|part| (part.name.clone(), part.seconds)).collect();
        html.push_str(&svg::parts(&title, &parts));
        let whole: f64 = parts.iter().map(|part| part.1).sum::<f64>().max(f64::MIN_POSITIVE);
        let rows = parts.iter().enumerate().map(|(index, (name, seconds))| {
            let key = format!("<span class=\"key s{}\"></span>{}", index % COLOURS, escape(name));
            let part = format!("{:.0} %", seconds / whole * 100.0);
            [("", key), number(text::time(*seconds)), number(part)]
        });
        table(html, ["", "median", "part"], rows);
    }
}

fn comparison(html: &mut String, comparison: &Comparison) {
    let _ = write!(html, "<h2>{}</h2>", escape(&format!("compared with {}", comparison.old_started)));
    let _ = write!(html, "<p>{}</p>", escape(&comparison.summary()));
    for difference in &comparison.machine {
        let _ = write!(html, "<p class=\"warning\">the machine differs: {}</p>", escape(difference));
    }
    let rows = comparison.rows.iter().map(|row| {
        let class = match row.verdict {
            Change::Faster => "good",
            Change::Slower => "bad",
            Change::Same => "",
        };
        let name = format!("{}: {}", row.group, row.subject);
        let interval = format!("{:.2} to {:.2}", row.low, row.high);
        let [old, new] = [row.old, row.new].map(|seconds| number(text::time(seconds)));
        [
            cell(&name),
            old,
            new,
            number(format!("{:.2}", row.ratio)),
            number(interval),
            (class, escape(&text::change(row))),
        ]
    });
    table(html, ["", "then", "now", "ratio", "95 %", "verdict"], rows);
}

#[cfg(test)]
mod tests {
    use super::super::compare::compare;
    use super::super::tests::report;
    use super::*;

    #[test]
    fn the_page_needs_nothing_else_and_trusts_no_text() {
        let mut report = report();
        report.comparison = Some(compare(&report, &report));
        report.missing[0].reason = "<script>\"&\u{1b}".into();
        let page = page(&report);
        for word in ["<script", "http:", "https:", "src=", "@import", "url(", "\u{1b}", "NaN", "inf"] {
            assert!(!page.contains(word), "{word}");
        }
        assert!(page.contains("Linux &lt;6&gt;") && page.contains("&lt;script&gt;&quot;&amp;\u{fffd}"));
        assert_eq!((page.matches("<svg ").count(), page.matches("</svg>").count()), (3, 3));
        for title in ["paced, 20 ms", "memory", "targets", "phases of sbx run", "not measured", "compared with"] {
            assert!(page.contains(title), "{title}");
        }
        assert!(!page.contains("nothing of it"));
    }
}
