//! `sbx bench`: every form of output says the same, comparisons judge, and nothing stays behind.

use std::collections::BTreeSet;
use std::fs;

use sbx::bench::report::schema;
use serde_json::Value;

use crate::support::{Live, Project, eventually, root};

const KINDS: [&str; 8] = ["user", "mount", "pid", "net", "ipc", "uts", "cgroup", "time"];

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The names of a report's results in a group.
fn names<'a>(report: &'a Value, group: &str) -> BTreeSet<&'a str> {
    let results = report["results"].as_array().expect("results").iter();
    results.filter(|result| result["group"] == group).filter_map(|result| result["command"].as_str()).collect()
}

/// Asserts that a report is what its schema says, and that its times are times.
fn is_sound(report: &Value) {
    let validator = jsonschema::draft7::new(&schema().to_value()).expect("a schema");
    if let Err(error) = validator.validate(report) {
        panic!("{error} at {}", error.instance_path());
    }
    for result in report["results"].as_array().expect("results") {
        let times: Vec<f64> = result["times"].as_array().expect("times").iter().filter_map(Value::as_f64).collect();
        let number = |name: &str| result[name].as_f64().expect("a number");
        assert!(
            !times.is_empty() && times.iter().all(|time| (number("min")..=number("max")).contains(time)),
            "{result}"
        );
        assert!(number("median") <= number("p90") && number("p90") <= number("p99"), "{result}");
    }
}

/// Asserts that nothing of a bench is left beside the project.
fn nothing_stays(project: &Project) {
    for place in ["cache/tmp", "tmp", "run"] {
        let left = fs::read_dir(project.beside(place)).map_or(Vec::new(), |entries| {
            entries.map(|entry| entry.expect("an entry").file_name()).collect::<Vec<_>>()
        });
        assert!(left.is_empty(), "{place}: {left:?}");
    }
    assert_eq!(processes(project), Vec::<String>::new());
}

/// The command lines of all processes that name a path of the test's.
fn processes(project: &Project) -> Vec<String> {
    let base = project.beside("").display().to_string();
    let lines = fs::read_dir("/proc").expect("/proc").flatten().filter_map(|entry| {
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let holds = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains(&base);
        (holds(&environment) || holds(&line)).then(|| String::from_utf8_lossy(&line).replace('\0', " "))
    });
    lines.collect()
}

/// A page's elements are closed in the order of their beginning. (XML's rules, which the page keeps.)
fn is_well_formed(page: &str) {
    let mut open = Vec::new();
    for part in page.split('<').skip(1) {
        let (tag, _) = part.split_once('>').unwrap_or_else(|| panic!("`<{part}` does not end"));
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap_or_default();
        match tag.as_bytes() {
            [b'!', ..] | [.., b'/'] => {}
            [b'/', ..] => assert_eq!(open.pop(), Some(name), "`</{name}>` closes another"),
            _ => open.push(name),
        }
    }
    assert!(open.is_empty(), "not closed: {open:?}");
}

#[test]
fn namespaces_are_measured_and_shown_in_every_form() {
    need!(Sandbox);
    let project = Project::bare();
    let ended = project.sbx(["-q", "bench", "namespaces", "--quick", "--rounds", "5", "--json"]).ok();
    assert_eq!(ended.stderr, "");
    let report = json(&ended.stdout);
    is_sound(&report);
    assert_eq!(report["bench"], "namespaces");
    for group in ["unshare", "setns", "close"] {
        assert_eq!(names(&report, group), BTreeSet::from(KINDS), "{group}: {}", report["missing"]);
    }
    for group in ["clone3", "end"] {
        assert_eq!(names(&report, group), KINDS.into_iter().chain(["no namespace"]).collect(), "{group}");
    }
    assert!(names(&report, "sets").contains("+ time: all eight"));
    for group in ["mounts", "nets"] {
        let varied = report["results"].as_array().expect("results").iter().filter(|one| one["group"] == group);
        assert_eq!(varied.count(), 6, "{group}: {}", report["missing"]);
    }
    let figures = report["figures"].as_array().expect("figures").iter();
    let memory: BTreeSet<_> = figures.filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(memory.len(), 8);
    assert_eq!(report["quoted"].as_array().map(Vec::len), Some(6));
    nothing_stays(&project);

    project.write("report.json", &ended.stdout);
    let table = project.sbx(["bench", "show", "report.json", "--html", "page.html"]).ok().stdout;
    for word in KINDS.iter().chain(&[
        "unshare(2)",
        "setns(2)",
        "P50",
        "P90",
        "P99",
        "MAX",
        "all eight",
        "QUOTED",
        "kernel: Linux",
    ]) {
        assert!(table.contains(word), "{word}: {table}");
    }
    let page = project.read("page.html");
    is_well_formed(&page);
    for word in ["<script", "http:", "https:", "src=", "@import", "url("] {
        assert!(!page.contains(word), "{word}");
    }
    assert!(page.matches("<svg ").count() >= 7);
    let csv = project.sbx(["bench", "show", "report.json", "--csv"]).ok().stdout;
    let width = |line: &str| line.split(',').count();
    let lines: Vec<&str> = csv.lines().collect();
    assert!(lines[0].starts_with("group,command,parameters,unit,count,mean"));
    // No name of this bench has a comma or a quote in it.
    assert!(lines.iter().all(|line| width(line) == width(lines[0])), "{csv}");
    let rows = report["results"].as_array().map(Vec::len).expect("results") + 8;
    assert_eq!(lines.len(), rows + 1);
    let markdown = project.sbx(["bench", "show", "report.json", "--markdown"]).ok().stdout;
    for word in
        ["## sbx bench namespaces, 5 rounds", "### unshare(2): the namespace alone", "| net | ", "- kernel: Linux"]
    {
        assert!(markdown.contains(word), "{word}: {markdown}");
    }
    // What is read is what was written.
    let again = project.sbx(["bench", "show", "report.json", "--json"]).ok().stdout;
    assert_eq!(json(&again)["results"].as_array().map(Vec::len), Some(rows - 8));
}

#[test]
fn a_comparison_judges() {
    let project = Project::bare();
    let times: Vec<f64> = (0..30).map(|i| 0.001 + f64::from(i * 7 % 30) * 1e-6).collect();
    let report = |factor: f64, command: &str| {
        let times: Vec<f64> = times.iter().map(|time| time * factor).collect();
        serde_json::json!({
            "version": 1, "bench": "launch", "sbx": "0.1.0", "started": "2026-01-02T03:04:05Z", "rounds": 30, "quick": false,
            "machine": [{ "name": "kernel", "value": "Linux" }],
            "groups": [{ "name": "paced", "title": "paced", "beside": "ratio" }],
            "results": [{
                "command": command, "group": "paced", "mean": 0.001, "stddev": 0.0, "median": 0.001 * factor, "min": 0.001,
                "max": 0.002, "p90": 0.001, "p99": 0.001, "times": times, "exit_codes": [], "parameters": {},
            }],
            "figures": [], "quoted": [], "phases": [], "targets": [], "missing": [], "notes": [], "warnings": [],
        })
        .to_string()
    };
    project.write("old.json", report(1.0, "sbx run"));
    project.write("double.json", report(2.0, "sbx run"));
    project.write("other.json", report(1.0, "another"));
    let show = |new: &str, old: &str| project.sbx(["bench", "show", new, "--compare", old]).end();
    show("old.json", "old.json").code(0).stdout_has("\nno difference: 1 compared\n").stdout_lacks("slower");
    show("double.json", "old.json").code(1).stdout_has("\n1 slower\n").stdout_has("slower (> 99.99 % sure)");
    show("old.json", "double.json").code(0).stdout_has("\n1 faster\n");
    show("other.json", "old.json").code(0).stdout_has("no subject in common").stdout_has("only then: paced: sbx run");
    let ended =
        project.sbx(["bench", "show", "double.json", "--compare", "old.json", "--json", "--html", "p.html"]).code(1);
    let compared = json(&ended.stdout);
    is_sound(&{
        let mut report = compared.clone();
        report["results"] = serde_json::json!([]);
        report
    });
    assert_eq!(compared["comparison"]["rows"][0]["verdict"], "slower");
    assert_eq!(compared["comparison"]["rows"][0]["ratio"], 2.0);
    let page = project.read("p.html");
    is_well_formed(&page);
    assert!(page.contains("slower (&gt; 99.99 % sure)"));
}

#[test]
fn what_is_no_report_is_refused_before_anything_is_measured() {
    let project = Project::bare();
    let garbage = [
        ("garbage", "\u{1b}[31m{", "line 1 column 1"),
        ("another", "{}", "missing field `version`"),
        ("later", r#"{"version": 2}"#, "it has version 2, this sbx knows version 1"),
        ("unknown", r#"{"version": 1, "evil": 1}"#, "unknown field `evil`"),
    ];
    for (name, text, why) in garbage {
        project.write(name, text);
        let ended = project.sbx(["bench", "namespaces", "--compare", name]).code(125).stdout("");
        ended
            .stderr_has(&format!("can't use {name}"))
            .stderr_has(why)
            .stderr_has("hint: `sbx bench NAME --json > FILE`");
    }
    project.sbx(["bench", "show", "none"]).code(125).stderr_has("can't read none: No such file");
    project.sbx(["bench", "launch", "--", "no-such-program"]).code(125).stderr_has("there is no such program in /usr");
}

#[test]
fn launches_are_measured_beside_what_is_installed() {
    need!(Sandbox);
    let project = Project::bare();
    let ended =
        project.sbx(["-q", "bench", "launch", "--quick", "--rounds", "2", "--json", "--html", "page.html"]).ok();
    let report = json(&ended.stdout);
    is_sound(&report);
    for group in ["paced", "back-to-back"] {
        let found = names(&report, group);
        for name in ["bare", "sbx run", "sbx run, warm pool", "sbx run, scratch in memory", "sbx run, known result"] {
            assert!(found.contains(name), "{group}: {found:?}");
        }
    }
    // Whatever else there is has been measured, or is named with the reason.
    let missing = report["missing"].as_array().expect("a list").iter();
    let missing: Vec<_> = missing.filter_map(|one| Some((one["what"].as_str()?, one["reason"].as_str()?))).collect();
    let tools =
        ["unshare, no root file system", "bwrap", "nsjail", "crun", "runc", "podman", "firejail", "systemd-nspawn"];
    for tool in tools {
        let named = missing.iter().any(|(what, reason)| *what == tool && !reason.is_empty());
        assert!(named != names(&report, "paced").contains(tool), "{tool}: {missing:?}");
    }
    for (group, count) in [("mounts", 4), ("inputs", 3), ("parallel", 4)] {
        let results = report["results"].as_array().expect("results").iter();
        let of_sbx = results.filter(|one| one["group"] == group && one["command"] == "sbx run");
        assert_eq!(of_sbx.count(), count, "{group}: {missing:?}");
    }
    let phases = report["phases"][0]["parts"].as_array().expect("phases");
    assert!(phases.len() > 3, "{phases:?}");
    assert!(report["targets"].as_array().expect("targets").len() >= 4);
    is_well_formed(&project.read("page.html"));
    nothing_stays(&project);
}

#[test]
fn hashing_and_work_inside_are_measured() {
    need!(Sandbox);
    need!(Compiler);
    let groups = |report: &Value| -> BTreeSet<String> {
        let results = report["results"].as_array().expect("results").iter();
        results.filter_map(|result| result["group"].as_str().map(str::to_owned)).collect()
    };
    let expected: [(&str, &[&str], usize); 2] = [
        ("hash", &["inputs", "changed", "switched", "cold-small", "cold-large"], 14),
        ("io", &["outputs", "compile", "configure", "files", "down", "up", "connections", "allowing"], 5),
    ];
    for (name, expected, targets) in expected {
        let project = Project::bare();
        let ended = project.sbx(["-q", "bench", name, "--quick", "--json"]).ok();
        let report = json(&ended.stdout);
        is_sound(&report);
        let missing = report["missing"].as_array().expect("a list");
        // git and openssl may be missing, and then are named.
        if missing.is_empty() {
            assert_eq!(report["targets"].as_array().expect("targets").len(), targets, "{name}");
        }
        let expected: BTreeSet<String> = expected.iter().map(|&group| group.to_owned()).collect();
        assert!(groups(&report) == expected || !missing.is_empty(), "{name}: {:?}, {missing:?}", groups(&report));
        nothing_stays(&project);
    }
}

/// A bench that was started.
fn started(project: &Project, args: &[&str]) -> Live {
    project.sbx(["bench"]).args(args).start()
}

#[test]
fn an_interrupted_bench_leaves_nothing() {
    need!(Sandbox);
    for (args, signal, number) in [
        (&["namespaces", "--rounds", "100000"][..], "INT", 2),
        (&["launch", "--rounds", "100000"], "INT", 2),
        (&["launch", "--rounds", "5", "--", "sleep", "1000"], "TERM", 15),
    ] {
        let project = Project::bare();
        let live = started(&project, args);
        // Its own directory or its process in new namespaces: it is at work.
        eventually("the bench is at work", || processes(&project).len() > 1);
        live.signal(signal);
        live.end().code(128 + number);
        eventually("all of it has ended", || processes(&project).is_empty());
        nothing_stays(&project);
    }
}

#[test]
fn the_committed_schema_is_the_generated_one() {
    let path = root().join("schema/bench.schema.json");
    let generated = serde_json::to_string_pretty(&schema()).expect("a schema") + "\n";
    if std::env::var_os("SBX_TEST_BLESS").is_some() {
        fs::write(&path, &generated).expect("the schema is written");
    }
    assert_eq!(fs::read_to_string(&path).unwrap_or_default(), generated, "SBX_TEST_BLESS=1 writes it");
}
