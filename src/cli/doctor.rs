//! `sbx doctor`: what this machine allows, and how to mend what it lacks.

use std::fmt::Write as _;

use serde::Serialize;

use super::{Context, End, args, output};
use crate::doctor::{self, Finding, Status};
use crate::error::{Error, exit};
use crate::ui::escape;

/// The version of the JSON.
const VERSION: u32 = 1;

#[derive(Debug, Serialize)]
struct Shown<'a> {
    version: u32,
    ready: bool,
    findings: &'a [Finding],
}

pub(super) fn run(context: &Context, typed: args::Json) -> Result<End, Error> {
    let findings = doctor::examine(&context.cache_directory()?);
    let ready = findings.iter().all(|finding| finding.status != Status::Missing);
    if typed.json {
        output::json(&Shown { version: VERSION, ready, findings: &findings })?;
    } else {
        output::text(&text(&findings))?;
    }
    Ok(End::Code(if ready { exit::OK } else { exit::FOUND }))
}

fn text(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for finding in findings {
        let status = match finding.status {
            Status::Ok => "ok",
            Status::Limited => "limited",
            Status::Missing => "missing",
        };
        let _ = writeln!(text, "{status:7}  {:width$}  {}", finding.name, escape(&finding.detail));
        let more = [("consequence", &finding.consequence), ("fix", &finding.fix)];
        for (what, words) in more {
            for line in words.iter().flat_map(|words| words.lines()) {
                let _ = writeln!(text, "{:7}  {:width$}  {what}: {}", "", "", escape(line));
            }
        }
    }
    let count = |status| findings.iter().filter(|finding| finding.status == status).count();
    let _ = match (count(Status::Missing), count(Status::Limited)) {
        (0, 0) => writeln!(text, "this machine allows everything that sbx needs"),
        (0, limited) => writeln!(text, "this machine can make sandboxes; limited: {limited}"),
        (missing, _) => writeln!(text, "this machine can't make sandboxes yet; missing: {missing}"),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_aligned_and_summed_up() {
        let finding = |name, status, consequence: Option<&str>, fix: Option<&str>| Finding {
            name,
            status,
            detail: format!("{name} in detail"),
            consequence: consequence.map(str::to_owned),
            fix: fix.map(str::to_owned),
        };
        let ok = finding("user namespaces", Status::Ok, None, None);
        let limited = finding("clocks", Status::Limited, Some("clocks go on"), None);
        let missing = finding("overlay", Status::Missing, Some("no run"), Some("sysctl a=1\nsysctl b=1"));
        let all = [vec![ok.clone()], vec![ok.clone(), limited.clone()], vec![ok, limited, missing]];
        insta::assert_snapshot!(all.map(|findings| text(&findings)).join("\n"));
    }
}
