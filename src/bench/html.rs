//! A report as one page that needs nothing else: no script, no font, no picture from elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::report::{Beside, Change, Comparison, Group, Measurement, Missing, Report, Verdict};
use super::stats::Sample;
use super::svg::{self, COLOURS, Line};
use super::sweep::Sweep;
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

/// Text as it may stand in an element, with what stands between backticks as code.
fn prose(text: &str) -> String {
    let mut parts = text.split('`').map(escape);
    let first = parts.next().unwrap_or_default();
    let rest: Vec<String> = parts.collect();
    // The last backtick of an odd number has no partner.
    let coded = rest.chunks(2).map(|two| match two {
        [code, after] => format!("<code>{code}</code>{after}"),
        alone => format!("`{}", alone.concat()),
    });
    first + &coded.collect::<String>()
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
        let _ = write!(html, "<p class=\"sub\">{}</p>", prose(note));
    }
    for warning in &report.warnings {
        let _ = write!(html, "<p class=\"warning\">{}</p>", prose(warning));
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
        // Where the column's numbers stand.
        let class = |row: &[Cell; N], column: usize| if row[column].0 == "n" { "n" } else { "" };
        let classes = rows.first().map_or([""; N], |row| std::array::from_fn(|column| class(row, column)));
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

/// The colours of the commands: one keeps its colour through the page, and no two of a group share one while there are enough.
fn colours(report: &Report) -> BTreeMap<String, usize> {
    let mut colours: BTreeMap<String, usize> = BTreeMap::new();
    for result in &report.results {
        if colours.contains_key(&result.command) {
            continue;
        }
        let groups: BTreeSet<&String> =
            report.results.iter().filter(|one| one.command == result.command).map(|one| &one.group).collect();
        let beside = report.results.iter().filter(|one| groups.contains(&one.group));
        let taken: BTreeSet<usize> = beside.filter_map(|one| colours.get(&one.command).copied()).collect();
        let free = (0..COLOURS).find(|colour| !taken.contains(colour));
        let colour = free.unwrap_or(colours.len() % COLOURS);
        colours.insert(result.command.clone(), colour);
    }
    colours
}

fn key(colour: usize, name: &str) -> String {
    format!("<span class=\"key s{colour}\"></span>{}", escape(name))
}

/// A plot with its legend and with what it shows.
fn figure(html: &mut String, legend: &[(usize, &str)], plot: &str, caption: &str) {
    html.push_str("<figure>");
    if !legend.is_empty() {
        let keys = legend.iter().map(|(colour, name)| format!("<span>{}</span>", key(*colour, name)));
        let _ = write!(html, "<p class=\"legend\">{}</p>", keys.collect::<String>());
    }
    let _ = write!(html, "<div class=\"scroll\">{plot}</div><figcaption>{}</figcaption></figure>", escape(caption));
}

fn group(html: &mut String, report: &Report, group: &Group) {
    let results: Vec<&Measurement> = report.of(&group.name).collect();
    let Some(first) = results.first() else { return };
    let colours = colours(report);
    let _ = write!(html, "<h2>{}</h2>", prose(&group.title));
    let sweep = Sweep::of(report, &group.name);
    if let Some(sweep) = &sweep {
        self::sweep(html, &group.title, sweep, &colours);
        html.push_str("<details><summary>every row</summary>");
    } else {
        let legend: Vec<(usize, &str)> =
            results.iter().map(|result| (colours[&result.command], result.command.as_str())).collect();
        let subjects = results.iter().filter_map(|result| {
            Some((result.command.clone(), colours[&result.command], Sample::new(result.times.clone())?))
        });
        let plot = svg::distributions(&group.title, &subjects.collect::<Vec<_>>());
        let caption = "What part of its times (upwards) is at most so long (to the right, logarithmic): further left is faster, \
                       steeper is steadier.";
        figure(html, &legend, &plot, caption);
    }
    let head = match group.beside {
        Beside::Nothing => String::new(),
        _ if sweep.is_some() => "beside the first".to_owned(),
        Beside::Difference => format!("more than {}", first.command),
        Beside::Ratio => format!("by {}", first.command),
    };
    let rows = results.iter().map(|result| {
        let key = key(colours[&result.command], &result.label());
        let [p50, p90, p99, max] = [result.median, result.p90, result.p99, result.max].map(|t| number(text::time(t)));
        [("", key), p50, p90, p99, max, number(text::beside(report, group.beside, result))]
    });
    table(html, ["", "p50", "p90", "p99", "max", &head], rows);
    if sweep.is_some() {
        html.push_str("</details>");
    }
}

/// A plot of what was varied, and the medians with a row for each subject.
fn sweep(html: &mut String, title: &str, sweep: &Sweep<'_>, colours: &BTreeMap<String, usize>) {
    let lines = sweep.subjects.iter().map(|(name, results)| {
        let points = results.iter().map(|one| one.map(|one| (one.median, one.p90)));
        Line { name: (*name).to_owned(), colour: colours[*name], points: points.collect() }
    });
    let lines: Vec<Line> = lines.collect();
    let legend: Vec<(usize, &str)> = lines.iter().map(|line| (line.colour, line.name.as_str())).collect();
    let plot = svg::sweep(title, &sweep.places, &lines);
    let caption =
        "Medians, each with a line up to the time that 90 % do not exceed; times and numbers are logarithmic.";
    figure(html, &legend, &plot, caption);
    html.push_str("<div class=\"scroll\"><table><thead><tr><th>median</th>");
    for place in &sweep.places {
        let _ = write!(html, "<th class=\"n\">{}</th>", escape(&place.name));
    }
    html.push_str("</tr></thead><tbody>");
    for (line, row) in lines.iter().zip(sweep.medians(title).rows.iter().skip(1)) {
        let _ = write!(html, "<tr><td>{}</td>", key(line.colour, &line.name));
        for median in row.iter().skip(1) {
            let _ = write!(html, "<td class=\"n\">{}</td>", escape(median));
        }
        html.push_str("</tr>");
    }
    html.push_str("</tbody></table></div>");
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
        let whole: f64 = parts.iter().map(|part| part.1).sum::<f64>();
        let caption = format!("One after the other, from left to right; {} in all.", text::time(whole));
        figure(html, &[], &svg::parts(&title, &parts), &caption);
        let rows = parts.iter().map(|(name, seconds)| {
            let part = format!("{:.0} %", seconds / whole.max(f64::MIN_POSITIVE) * 100.0);
            [cell(name), number(text::time(*seconds)), number(part)]
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
    let class = |verdict| match verdict {
        Change::Faster => "good",
        Change::Slower => "bad",
        Change::Same => "",
    };
    if !comparison.rows.is_empty() {
        let ratios = comparison.rows.iter().map(|row| svg::Ratio {
            name: format!("{}: {}", row.group, row.subject),
            ratio: row.ratio,
            low: row.low,
            high: row.high,
            class: class(row.verdict),
        });
        let caption = "The median now by the median then, with its 95 % interval: left of 1 is faster, right of it slower. \
                       What has a colour differs for sure.";
        figure(html, &[], &svg::ratios("ratios of the medians", &ratios.collect::<Vec<_>>()), caption);
    }
    let rows = comparison.rows.iter().map(|row| {
        let name = format!("{}: {}", row.group, row.subject);
        let interval = format!("{:.2} to {:.2}", row.low, row.high);
        let [old, new] = [row.old, row.new].map(|seconds| number(text::time(seconds)));
        [
            cell(&name),
            old,
            new,
            number(format!("{:.2}", row.ratio)),
            number(interval),
            (class(row.verdict), escape(&text::change(row))),
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
        assert_eq!((page.matches("<svg ").count(), page.matches("</svg>").count()), (4, 4));
        for title in ["paced, 20 ms", "memory", "targets", "phases of sbx run", "not measured", "compared with"] {
            assert!(page.contains(title), "{title}");
        }
        assert!(!page.contains("nothing of it"));
    }

    #[test]
    fn no_two_of_a_group_share_a_colour() {
        let mut report = report();
        let one = report.results[0].clone();
        for index in 0..COLOURS - 2 {
            report.results.push(Measurement { command: format!("more {index}"), ..one.clone() });
        }
        let colours = colours(&report);
        let of_group: BTreeSet<usize> = report.of("paced").map(|result| colours[&result.command]).collect();
        assert_eq!(of_group.len(), COLOURS, "{colours:?}");
        // Another group begins anew.
        assert_eq!(colours["sbx run"], 0);
    }

    #[test]
    fn what_stands_between_backticks_is_code() {
        assert_eq!(prose("a `<b>` c"), "a <code>&lt;b&gt;</code> c");
        assert_eq!(prose("a ` c"), "a ` c");
        assert_eq!(prose("`x` `y"), "<code>x</code> `y");
    }
}
