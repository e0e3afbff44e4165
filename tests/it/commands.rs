//! The other commands, and the flags of `run`: what each prints and what it leaves alone.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::support::{Project, Run, sbx};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A shell script in the project, in which `$0` is sbx.
fn shell(project: &Project, script: &str) -> Run {
    project.command("sh").args(["-c", script]).args([sbx()])
}

// --- run -----------------------------------------------------------------------------------------------------------

#[test]
fn the_report_says_what_happened() {
    need!(Sandbox);
    let project = Project::new().file("in", "x").config("inputs = ['in']\noutputs = ['out']\n[network]\nhost = true");
    let script = "\"$0\" run --report fd:3 -- sh -c 'echo hi; echo err >&2; cp in out; touch dropped' 3> report.json";
    shell(&project, script).stdout("hi\n");
    let report = json(&project.read("report.json"));
    assert_eq!(report["version"], 1);
    assert_eq!(report["exit"]["code"], 0);
    assert_eq!(report["command"][0], "sh");
    assert_eq!(report["cwd"], "/src");
    assert_eq!(report["network"], "host");
    assert_eq!(report["stdout"]["bytes"], 3);
    // echo hi | sha256sum
    assert_eq!(report["stdout"]["sha256"], "98ea6e4f216f2fb4b69fff9b3a44842c38686ca685f3f55dc48c5d3fb1107be4");
    assert_eq!(report["outputs"][0]["path"], "out");
    assert_eq!(report["undeclared"]["added"], serde_json::json!(["/src/dropped"]));
    assert!(report["phases"].as_array().is_some_and(|phases| !phases.is_empty()));
    let enforced: Vec<_> = report["enforced"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    assert!(enforced.contains(&"mount-namespace") && enforced.contains(&"no-capabilities"), "{enforced:?}");
    assert!(!enforced.contains(&"net-namespace"), "{enforced:?}");
    // The record of a run that failed is written too.
    project.sbx(["run", "--report", "failed.json", "--", "sh", "-c", "kill -KILL $$"]).code(137);
    let report = json(&project.read("failed.json"));
    assert_eq!((report["exit"]["code"].as_i64(), report["exit"]["signal"].as_i64()), (Some(137), Some(9)));
    assert_eq!(report["outputs"], serde_json::json!([]));
}

#[test]
fn the_same_run_has_the_same_identity_and_another_has_another() {
    need!(Sandbox);
    let action = |config: &str, content: &str, command: &str| {
        let project = Project::new().file("a", content).config(&format!("inputs = ['a']\n{config}"));
        project.sbx(["run", "--report", "report.json", "--", "sh", "-c", command]).ok();
        json(&project.read("report.json"))["action"].as_str().expect("a digest").to_owned()
    };
    let first = action("", "1", "true");
    assert_eq!(first, action("", "1", "true"));
    let others = [
        action("", "2", "true"),
        action("", "1", ":"),
        action("[env]\nset = { A = 'b' }", "1", "true"),
        action("[sandbox]\nuid = 0", "1", "true"),
        action("[sandbox]\nhostname = 'other'", "1", "true"),
        action("[network]\nhost = true", "1", "true"),
        action("[limits]\ntime = '1h'", "1", "true"),
    ];
    assert!(others.iter().all(|other| *other != first), "{first}: {others:?}");
}

#[test]
fn phases_are_shown_and_traced() {
    need!(Sandbox);
    let project = Project::new();
    let ended = project.sbx(["run", "--timing", "--trace-out", "trace.json", "--", "echo", "hi"]).stdout("hi\n");
    ended
        .stderr_has("launch")
        .stderr_has("command")
        .stderr_has("PID 1: mount the overlay root")
        .stderr_has("the command's process: begin a session");
    let trace = json(&project.read("trace.json"));
    let events = trace["traceEvents"].as_array().or(trace.as_array()).expect("a list of events");
    let event = |name: &str| events.iter().find(|event| event["name"] == name && event["ph"] == "X").expect(name);
    let begin = |name: &str| event(name)["ts"].as_u64().expect("a time");
    // The command's process has a clock of its own, which begins at zero, and still its steps are in their place.
    let order = ["launch", "mount the overlay root", "begin a session", "outputs"].map(begin);
    assert!(order.is_sorted(), "{order:?}");
    assert!(event("begin a session")["tid"] != event("launch")["tid"], "{trace}");
    // Who does not ask pays nothing for it.
    project.sbx(["run", "--no-cache", "--", "true"]).ok();
    let records = project.command("find").args([project.beside("cache/runs")]).args(["-name", "*.json"]).ok().stdout;
    let mut records: Vec<_> = records.lines().collect();
    records.sort_by_key(|path| path.rsplit('/').next().expect("a name").to_owned());
    let steps =
        |path: &&str| json(&std::fs::read_to_string(path).expect("a record"))["steps"].as_array().expect("steps").len();
    let counts: Vec<_> = records.iter().map(steps).collect();
    assert!(counts.len() == 2 && counts[0] > 20 && counts[1] == 0, "{counts:?}");
}

#[test]
fn the_scratch_directory_is_kept_when_asked_for() {
    need!(Sandbox);
    let project = Project::new();
    let ended = project.sbx(["run", "--keep", "--", "touch", "made-inside"]).ok();
    let kept = ended.stderr.split_whitespace().find(|word| word.starts_with('/')).expect("a path").to_owned();
    let found = project.command("find").args([kept.as_str()]).args(["-name", "made-inside"]).ok();
    assert!(found.stdout.ends_with("/src/made-inside\n"), "{found:?}");
}

#[test]
fn sbx_speaks_on_standard_error_and_quiet_is_quiet() {
    need!(Sandbox);
    let project = Project::new();
    let ended = project.run(["touch", "x"]).ok();
    assert_eq!(ended.stdout, "");
    assert!(!ended.stderr.is_empty() && ended.stderr.lines().all(|line| line.starts_with("sbx: ")), "{ended:?}");
    let quiet = project.sbx(["-q", "run", "--", "touch", "x"]).ok();
    assert_eq!(quiet.stderr, "");
}

#[test]
fn a_first_word_without_dashes_may_be_a_task() {
    need!(Sandbox);
    let project = Project::new().config("[task.echo]\ncommand = ['echo', 'the', 'task']");
    project.sbx(["run", "echo"]).stdout("the task\n");
    project.sbx(["run", "echo", "more"]).stdout("the task more\n");
    project.sbx(["run", "--", "echo"]).stdout("\n");
    project.sbx(["run", "printf", "a"]).stdout("a");
}

// --- hash, plan, check ---------------------------------------------------------------------------------------------

#[test]
fn the_digest_depends_on_content_alone() {
    let one = Project::new().config("inputs = ['**', '!sandbox.toml']");
    let one = one.file("a/b", "1").file("a-c", "2").script("tool", "3").link("link", "a/b").dir("empty");
    let two = Project::new().config("# another file\ninputs = ['**', '!sandbox.toml']\n").dir("empty");
    let two = two.link("link", "a/b").script("tool", "3").file("a-c", "2").file("a/b", "1");
    for (path, mode) in [("a/b", 0o600), ("a", 0o700), ("tool", 0o700), ("a-c", 0o664)] {
        fs::set_permissions(two.path(path), fs::Permissions::from_mode(mode)).expect("chmod");
    }
    two.command("touch").args(["-d", "1999-01-01", "a/b", "tool"]).ok();
    let digest = |project: &Project| project.sbx(["hash"]).ok().stdout;
    assert_eq!(digest(&one), digest(&two));
    assert_eq!(shell(&one, "umask 077; \"$0\" hash").ok().stdout, digest(&two));
    // Each part of the content is in it.
    let first = digest(&one);
    two.write("a/b", "9");
    assert_ne!(digest(&two), first);
    two.write("a/b", "1");
    assert_eq!(digest(&two), first);
    fs::set_permissions(two.path("a-c"), fs::Permissions::from_mode(0o755)).expect("chmod");
    assert_ne!(digest(&two), first);
    fs::rename(one.path("a-c"), one.path("a-d")).expect("rename");
    assert_ne!(digest(&one), first);
}

#[test]
fn the_manifest_is_listed_and_git_s_rules_are_kept() {
    let project = Project::new().config("inputs = ['**', '!sandbox.toml', '!.gitignore']").file(".gitignore", "*.o\n");
    let project = project.file("a.c", "1").file("a.o", "2").file("sub/b.c", "3");
    let listing = project.sbx(["hash", "--list"]).ok().stdout;
    let names: Vec<_> = listing.lines().filter_map(|line| line.split_whitespace().last()).collect();
    assert_eq!(names, ["a.c", "sub/b.c"]);
    let project = project.config("gitignore = false\ninputs = ['**', '!sandbox.toml', '!.gitignore']");
    project.sbx(["hash", "--list"]).ok().stdout_has("a.o");
}

#[test]
fn a_plan_is_shown_and_nothing_is_done() {
    let project = Project::new().file("a", "1").config("inputs = ['a']\noutputs = ['out']");
    project.sbx(["plan", "--", "touch", "out"]).ok().stdout_has("touch").stdout_has("/src");
    assert!(!project.has("out"));
    let plan = json(&project.sbx(["plan", "--json", "--", "touch", "out"]).ok().stdout);
    assert_eq!(plan["version"], 1);
    // The same plan again, byte for byte.
    let text = |project: &Project| project.sbx(["plan", "--json", "--", "touch", "out"]).ok().stdout;
    assert_eq!(text(&project), text(&project));
}

#[test]
fn check_reports_every_fault_at_once() {
    let project = Project::new().config("imputs = ['a']\n[sandbox]\nuid = 'x'\n[network]\nallow = ['a']\n");
    let ended = project.sbx(["check"]).code(1);
    for part in ["imputs", "inputs", "uid", "allow", "sandbox.toml:1", "sandbox.toml:3", "has no port"] {
        assert!(ended.stderr.contains(part), "{part} is missing: {ended:?}");
    }
    project.config("").sbx(["check"]).ok();
}

// --- init, doctor, shell, generated pages --------------------------------------------------------------------------

#[test]
fn init_fits_a_make_project_and_the_result_runs() {
    need!(Sandbox);
    need!(Compiler);
    let project = Project::bare().file("Makefile", "app: src/main.c\n\tcc -o app src/main.c\ntest: app\n\t./app\n");
    let project = project.file("src/main.c", "#include <stdio.h>\nint main(void) { return puts(\"built\") < 0; }\n");
    project.sbx(["init"]).ok();
    project.sbx(["check"]).ok();
    project.run(["make", "-s", "test"]).ok().stdout_has("built\n");
    project.sbx(["init"]).code(125).stderr_has("sandbox.toml");
}

#[test]
fn doctor_finds_nothing_wrong_where_a_sandbox_runs() {
    need!(Sandbox);
    let project = Project::new();
    project.sbx(["doctor"]).ok();
    assert_eq!(json(&project.sbx(["doctor", "--json"]).ok().stdout)["version"], 1);
}

#[test]
fn doctor_names_what_is_missing_and_how_to_mend_it() {
    need!(Sandbox);
    let project = Project::new();
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$0\" doctor";
    let run = project.command("unshare").args(["--user", "--map-root-user", "sh", "-c", script]).args([sbx()]);
    let ended = run.end();
    assert_ne!(ended.code, 0, "{ended:?}");
    assert!(ended.stdout.contains("max_user_namespaces"), "{ended:?}");
}

#[test]
fn a_shell_has_a_terminal_of_its_own() {
    need!(Sandbox);
    let project = Project::new().file("a", "1").config("inputs = ['a']");
    // script(1) gives sbx a terminal; what is typed comes from a pipe.
    let typed = "tty; test -t 0 && test -t 1 && test -t 2 && echo all; ls; set -m; sleep 100 & kill %1; exit 7\n";
    let command = format!("{} shell", sbx().display());
    let run = project.command("script").args(["-qec", &command, "/dev/null"]).env("TERM", "dumb").input(typed);
    run.code(7).stdout_has("/dev/pts/0").stdout_has("all\r\n").stdout_has("a\r\n");
}

#[test]
fn pages_are_generated() {
    let project = Project::new();
    project.sbx(["completions", "bash"]).ok().stdout_has("_sbx");
    project.sbx(["man"]).ok().stdout_has(".TH");
    let schema = json(&project.sbx(["schema"]).ok().stdout);
    assert!(schema["properties"]["inputs"].is_object());
    project.sbx(["--version"]).ok().stdout_has("sbx ");
}
