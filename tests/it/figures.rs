//! The figures that the documents show are those of the reports in `docs/performance`, and what `docs/PERFORMANCE.md` speaks of exists.
//!
//! Between `<!-- REPORT: TITLE -->` and `<!-- end -->` stands what `sbx bench show docs/performance/REPORT.json --markdown`
//! prints of it: the one table whose heading begins with TITLE; of `run` the headline, of `machine` the facts, of `missing` what was not
//! measured. After new runs, `SBX_TEST_BLESS=1 cargo test --test it figures::` writes all of them anew.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser as _;
use sbx::bench::markdown;
use sbx::bench::report::Report;
use sbx::cli::args::Arguments;

use crate::readme::documents;
use crate::support::root;

/// What stands between two marks.
fn shown(mark: &str) -> String {
    let (name, title) = mark.split_once(": ").unwrap_or_else(|| panic!("`{mark}` is no REPORT: TITLE"));
    let path = root().join(format!("docs/performance/{name}.json"));
    let read = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let report = Report::read(&read).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    match title {
        "run" => format!("`sbx bench {}`, {} rounds, {}\n", report.bench, report.rounds, report.started),
        "machine" => markdown::facts(&report),
        "missing" => markdown::missing(&report),
        _ => {
            let tables = markdown::tables(&report);
            let mut found = tables.iter().filter(|table| table.title.starts_with(title));
            let table = found.next().unwrap_or_else(|| panic!("`{mark}`: no heading begins so"));
            let exact = table.title == title;
            assert!(exact || found.next().is_none(), "`{mark}`: more than one heading begins so");
            markdown::table(table)
        }
    }
}

/// A document with everything between its marks made anew; how many there are.
fn made(document: &str) -> (String, usize) {
    let (mut text, mut count, mut rest) = (String::new(), 0, document);
    while let Some((before, after)) = rest.split_once("<!-- ") {
        let (mark, after) = after.split_once(" -->\n").expect("a mark ends its line");
        let (_, after) = after.split_once("<!-- end -->").unwrap_or_else(|| panic!("`{mark}` has no end"));
        text += &format!("{before}<!-- {mark} -->\n\n{}\n<!-- end -->", shown(mark));
        (rest, count) = (after, count + 1);
    }
    (text + rest, count)
}

/// The documents that have marks.
fn marked() -> Vec<(PathBuf, String)> {
    let read = |path: PathBuf| fs::read_to_string(&path).map(|text| (path, text)).expect("a document");
    documents().into_iter().map(read).filter(|(_, text)| text.contains("<!-- end -->")).collect()
}

fn performance() -> String {
    fs::read_to_string(root().join("docs/PERFORMANCE.md")).expect("docs/PERFORMANCE.md")
}

#[test]
fn tables_are_those_of_the_reports() {
    let documents = marked();
    assert!(documents.len() > 1, "README.md and docs/PERFORMANCE.md have figures");
    for (path, text) in documents {
        let (made, count) = made(&text);
        assert!(count > 0);
        if std::env::var_os("SBX_TEST_BLESS").is_some() {
            fs::write(&path, &made).expect("the document is written");
            continue;
        }
        assert!(text == made, "{}: SBX_TEST_BLESS=1 writes its tables anew", path.display());
    }
}

/// The commands of a document: what stands between backticks and in blocks, and begins with `sbx` or is a bench of cargo's.
fn commands(document: &str) -> Vec<String> {
    let coded = document.split('`').skip(1).step_by(2).map(str::to_owned);
    let lines = document.lines().map(str::to_owned);
    let plain = |line: String| {
        let line = line.split(" #").next().unwrap_or_default().split('>').next().unwrap_or_default().trim().to_owned();
        let bench = line.strip_prefix("cargo bench --bench sbx -- ").map(|words| format!("sbx bench {words}"));
        bench.or_else(|| line.starts_with("sbx ").then_some(line))
    };
    coded.chain(lines).filter(|line| !line.contains('\n')).filter_map(plain).collect()
}

#[test]
fn its_commands_exist() {
    let commands: Vec<String> = commands(&performance())
        .into_iter()
        .filter(|line| line.starts_with("sbx bench") || line.contains(" -- "))
        .collect();
    for bench in ["namespaces", "launch", "hash", "io"] {
        assert!(commands.contains(&format!("sbx bench {bench}")), "{bench}: {commands:?}");
    }
    for line in commands {
        let parsed = Arguments::try_parse_from(line.split(' '));
        assert!(parsed.is_ok(), "`{line}`: {}", parsed.err().map(|error| error.to_string()).unwrap_or_default());
    }
}

/// The names of the phases that a run may have, from the sources.
fn phases(directory: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).expect("sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            phases(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source");
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            found.extend(code.split(".phase(\"").skip(1).filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
        }
    }
}

#[test]
fn its_budget_has_a_row_for_each_phase() {
    let mut known = BTreeSet::new();
    phases(&root().join("src"), &mut known);
    assert!(known.len() > 5, "{known:?}");
    let text = performance();
    let (_, budget) = text.split_once("\n## Of what a launch consists\n").expect("the section");
    let (_, budget) = budget.split_once("\n| phase |").expect("the table");
    let rows = budget.lines().skip(2).take_while(|line| line.starts_with('|'));
    let rows = rows.flat_map(|row| row.split('|').nth(1).unwrap_or_default().split('`').skip(1).step_by(2));
    let rows: BTreeSet<String> = rows.map(str::to_owned).collect();
    assert_eq!(rows, known, "the rows of docs/PERFORMANCE.md, and the phases in src");
}
