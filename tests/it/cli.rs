//! The command line itself: its reference, wrong usage, closed streams, hostile names, and what the variables do.

use std::fmt::Write as _;
use std::fs;

use clap::CommandFactory;
use sbx::cli::args::Arguments;
use sbx::cli::reference::{Item, SECTIONS};
use serde_json::Value;

use crate::support::{Project, Run, copy_program, root, sbx};

/// A shell script in the project, in which `$0` is sbx.
fn shell(project: &Project, script: &str) -> Run {
    project.command("bash").args(["-c", script]).args([sbx()])
}

// --- the reference -------------------------------------------------------------------------------------------------

/// One option as a line of the reference.
fn option(argument: &clap::Arg) -> String {
    let mut names: Vec<String> = Vec::new();
    names.extend(argument.get_short().map(|short| format!("-{short}")));
    names.extend(argument.get_long().map(|long| format!("--{long}")));
    let values = argument.get_value_names().filter(|_| argument.get_action().takes_values()).unwrap_or_default();
    let mut name = names.join(", ");
    for value in values {
        let _ = if argument.is_positional() { write!(name, "{value}") } else { write!(name, " {value}") };
    }
    let several = if argument.is_positional() && argument.get_num_args().is_some_and(|n| n.max_values() > 1) {
        "…"
    } else {
        ""
    };
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    let mut line = format!("- `{name}{several}`: {help}");
    let possible = argument.get_possible_values();
    if argument.get_action().takes_values() && !possible.is_empty() {
        let names: Vec<_> = possible.iter().map(clap::builder::PossibleValue::get_name).collect();
        let _ = write!(line, ": `{}`", names.join("`, `"));
    }
    line + "\n"
}

fn options<'a>(text: &mut String, title: &str, arguments: impl Iterator<Item = &'a clap::Arg>) {
    let lines: String = arguments.filter(|argument| !argument.is_hide_set()).map(option).collect();
    if !lines.is_empty() {
        let _ = write!(text, "{title}\n\n{lines}\n");
    }
}

fn is_own(argument: &clap::Arg) -> bool {
    !argument.is_global_set() && !["help", "version"].contains(&argument.get_id().as_str())
}

/// The whole reference, from the definitions that help and manual pages come from too.
fn reference() -> String {
    let mut sbx = Arguments::command();
    sbx.build();
    let mut text = String::from(
        "# The command line of sbx\n\n\
         <!-- Generated from src/cli/args.rs and src/cli/reference.rs:\n     \
         SBX_TEST_BLESS=1 cargo test --test it cli::the_reference -->\n\n",
    );
    let _ = write!(text, "{}\n\n", sbx.get_long_about().expect("an about"));
    let global = sbx.get_arguments().filter(|argument| argument.get_id() != "version");
    options(&mut text, "Options that stand before or after the name of any command:", global);
    for command in sbx.get_subcommands().filter(|command| command.get_name() != "help") {
        let mut command = command.clone().display_name(format!("sbx {}", command.get_name()));
        let about = command.get_long_about().or(command.get_about()).expect("an about").to_string();
        let _ = write!(text, "## sbx {}\n\n{about}\n\n", command.get_name());
        let usage = command.render_usage().to_string();
        let usage: Vec<_> = usage.trim_start_matches("Usage:").lines().map(str::trim).collect();
        let _ = write!(text, "```text\n{}\n```\n\n", usage.join("\n"));
        options(&mut text, "Arguments:", command.get_positionals());
        options(&mut text, "Options:", command.get_arguments().filter(|one| !one.is_positional() && is_own(one)));
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
            let mut sub = sub.clone().bin_name(format!("sbx {} {}", command.get_name(), sub.get_name()));
            let usage = sub.render_usage().to_string();
            let about = sub.get_about().expect("an about");
            let _ = write!(text, "### {}\n\n{about}\n\n", sub.get_bin_name().expect("a name"));
            let _ = write!(text, "```text\n{}\n```\n\n", usage.trim_start_matches("Usage:").trim());
            options(&mut text, "Arguments:", sub.get_positionals());
            options(&mut text, "Options:", sub.get_arguments().filter(|one| !one.is_positional() && is_own(one)));
        }
        if let Some(examples) = command.get_after_help() {
            let examples = examples.to_string();
            let lines: Vec<_> = examples.lines().skip(1).map(|line| line.trim_start()).collect();
            let _ = write!(text, "Examples:\n\n```text\n{}\n```\n\n", lines.join("\n"));
        }
    }
    for (title, items) in SECTIONS {
        let _ = write!(text, "## {title}\n\n");
        for Item { name, meaning } in items {
            let _ = writeln!(text, "- `{name}`: {meaning}");
        }
        text.push('\n');
    }
    text.trim_end().to_owned() + "\n"
}

#[test]
fn the_reference_is_what_the_definitions_say() {
    let path = root().join("docs/CLI.md");
    if std::env::var_os("SBX_TEST_BLESS").is_some() {
        fs::write(&path, reference()).expect("docs/CLI.md is written");
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(committed, reference(), "SBX_TEST_BLESS=1 writes docs/CLI.md anew");
}

#[test]
fn every_command_has_help_and_a_page() {
    let project = Project::bare();
    let pages = project.beside("pages");
    project.sbx(["man", "--out"]).args([&pages]).ok();
    for command in Arguments::command().get_subcommands() {
        let name = command.get_name();
        project.sbx([name, "--help"]).ok().stdout_has(&format!("Usage: sbx {name}"));
        let page = fs::read_to_string(pages.join(format!("sbx-{name}.1"))).expect("a page");
        for part in [".SH SYNOPSIS", ".SH \"EXIT STATUS\"", "SBX_CACHE_DIR", "sandbox.toml"] {
            assert!(page.contains(part), "sbx-{name}.1 lacks {part}");
        }
    }
    let page = fs::read_to_string(pages.join("sbx.1")).expect("a page");
    assert_eq!(project.sbx(["man"]).ok().stdout, page);
}

#[test]
fn every_shell_has_completions() {
    let project = Project::bare();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        project.sbx(["completions", shell]).ok().stdout_has("trace-out");
    }
    // bash takes the script.
    self::shell(&project, "source <(\"$0\" completions bash) && complete -p sbx").ok().stdout_has("_sbx");
}

// --- wrong usage ---------------------------------------------------------------------------------------------------

#[test]
fn wrong_usage_is_125_with_one_message_on_standard_error() {
    let project = Project::new().config("[task.test]\ncommand = ['true']");
    for (line, message) in [
        (&[][..], "no command is given"),
        (&["run"], "no command and no task is given"),
        (&["run", "--"], "no command and no task is given"),
        (&["run", "--keeep", "true"], "unexpected argument '--keeep'"),
        (&["pool", "start", "--size", "0"], "0 is not in 1..=1024"),
        (&["pool", "warm"], "the following required arguments were not provided"),
        (&["cache", "gc", "--max-size", "5"], "it is no size"),
        (&["make"], "`make` is not a command of sbx"),
        (&["check", "extra"], "unexpected argument 'extra'"),
        (&["-q", "-v", "check"], "cannot be used with"),
        (&["run", "--report", "fd:1", "true"], "`fd:1` is no descriptor for a report"),
        (&["run", "--report", "fd:77", "true"], "can't write fd:77"),
        (&["run", "--report", "no/such/dir", "true"], "can't write no/such/dir"),
        (&["shell", "tset"], "needs a terminal"),
        (&["-C", "no-such-directory", "check"], "given by -C"),
        (&["--config", "no-such-file", "check"], "given by --config"),
    ] {
        let ended = project.sbx(line).code(125).stdout("").stderr_has(message);
        assert!(ended.stderr.lines().all(|line| line.starts_with("sbx: ")), "{ended:?}");
        assert!(ended.stderr.starts_with("sbx: error: "), "{ended:?}");
    }
}

#[test]
fn help_and_version_are_asked_for_on_standard_output() {
    let project = Project::bare();
    for line in [&["--help"][..], &["-h"], &["help"], &["run", "--help"], &["help", "run"], &["--version"], &["-V"]] {
        let ended = project.sbx(line).ok();
        assert!(ended.stdout.contains("sbx") && ended.stderr.is_empty(), "{ended:?}");
    }
}

#[test]
fn a_slip_of_a_task_s_name_is_answered_with_the_task() {
    need!(Sandbox);
    let project = Project::new().config("[task.test-all]\ncommand = ['true']");
    project.sbx(["run", "test-al"]).code(127).stderr_has("did you mean the task `test-all`?");
    project.sbx(["run", "--", "test-al"]).code(127).stderr_lacks("test-all");
    project.sbx(["run", "test-all"]).ok();
}

#[test]
fn words_that_are_no_utf8_are_refused() {
    use std::os::unix::ffi::OsStringExt;
    let odd = std::ffi::OsString::from_vec(vec![b'a', 0xff]);
    Project::new().sbx(["run", "--"]).args([odd]).code(125).stderr_has("is not UTF-8");
}

// --- the project and the variables ---------------------------------------------------------------------------------

#[test]
fn the_configuration_is_found_named_or_missed() {
    let project = Project::bare();
    project.sbx(["check"]).code(125).stderr_has("`sbx init` writes one");
    project.write("sandbox.toml", "[task.a]\ncommand = ['a']");
    project.write("sub/other.toml", "");
    project.sbx(["check"]).cwd(project.path("sub")).ok().stdout_has("1 task");
    project.sbx(["-C", "sub", "check"]).ok().stdout_has("1 task");
    project.sbx(["check", "--config", "sub/other.toml"]).ok().stdout_has("0 tasks");
    project.sbx(["-C", "sub", "check", "--config", "other.toml"]).ok().stdout_has("0 tasks");
    project.sbx(["check"]).env("SBX_CONFIG", "sub/other.toml").ok().stdout_has("0 tasks");
    project.sbx(["check", "--config", "sandbox.toml"]).env("SBX_CONFIG", "sub/other.toml").ok().stdout_has("1 task");
}

#[test]
fn the_cache_is_where_the_variables_say() {
    let project = Project::new();
    project.sbx(["hash"]).ok();
    assert!(project.beside("cache/version").exists() && !project.beside("xdg-cache").exists());
    project.sbx(["hash"]).env("SBX_CACHE_DIR", "").ok();
    assert!(project.beside("xdg-cache/sbx/version").exists() && !project.beside("home/.cache").exists());
    project.sbx(["hash"]).env("SBX_CACHE_DIR", "").env("XDG_CACHE_HOME", "").ok();
    assert!(project.beside("home/.cache/sbx/version").exists());
    project.sbx(["hash"]).env("SBX_CACHE_DIR", "").env("XDG_CACHE_HOME", "relative").ok();
    project.sbx(["hash"]).env("SBX_CACHE_DIR", "relative").code(125).stderr_has("it must be an absolute path");
    assert!(!project.has("relative"));
}

#[test]
fn the_user_s_configuration_says_how_sbx_behaves_and_variables_win() {
    let project = Project::new().config("inputs = ['a']\n[task.t]\ncommand = ['true']").file("a", "text");
    let digests = project.sbx(["hash", "t"]).ok().stdout;
    let config = |text: &str| {
        fs::create_dir_all(project.beside("xdg-config/sbx")).expect("a directory");
        fs::write(project.beside("xdg-config/sbx/config.toml"), text).expect("a file");
    };
    let own = project.beside("own");
    config(&format!("cache_dir = '{}'\ncache_size = '1GiB'\njobs = 1\ncolor = 'always'\n", own.display()));
    let hashed = project.sbx(["hash", "t"]).env("SBX_CACHE_DIR", "").ok();
    assert!(own.join("version").exists());
    assert_eq!(hashed.stdout, digests, "the configuration enters a digest");
    let wrong = || project.sbx(["hash", "--config", "none"]);
    assert!(wrong().end().stderr.contains("\u{1b}["));
    assert!(!wrong().env("SBX_COLOR", "never").end().stderr.contains("\u{1b}["));
    project.sbx(["hash"]).env("SBX_JOBS", "0").code(125).stderr_has("a number from 1 to 1024");

    config("cache_dir = 'own'\njbos = 2\n");
    let refused = project.sbx(["hash"]).code(125);
    for part in ["config.toml:1:13", "is no absolute path", "config.toml:2:1", "did you mean `jobs`?", "has 2 faults"] {
        assert!(refused.stderr.contains(part), "{part}: {}", refused.stderr);
    }
    fs::remove_file(project.beside("xdg-config/sbx/config.toml")).expect("the file goes");
    fs::create_dir(project.beside("xdg-config/sbx/config.toml")).expect("a directory");
    project.sbx(["hash"]).code(125).stderr_has("is not a regular file");
    project.sbx(["hash"]).env("XDG_CONFIG_HOME", "xdg-config").ok();
}

#[test]
fn colour_is_for_those_who_ask() {
    let project = Project::new().config("imputs = 1");
    let is_coloured = |run: Run| run.end().stderr.contains("\u{1b}[");
    assert!(!is_coloured(project.sbx(["check"])));
    assert!(is_coloured(project.sbx(["check", "--color", "always"])));
    assert!(is_coloured(project.sbx(["check"]).env("SBX_COLOR", "always")));
    assert!(!is_coloured(project.sbx(["check", "--color=never"]).env("SBX_COLOR", "always")));
    project.sbx(["check"]).env("SBX_COLOR", "blue").code(125).stderr_has("`auto`, `always` or `never`");
}

#[test]
fn a_setuid_binary_refuses_to_run() {
    need!(Root);
    let project = Project::new();
    let copy = project.beside("sbx-setuid");
    copy_program(sbx(), &copy);
    let script = "chown 61234 \"$0\" && chmod 4755 \"$0\" && exec \"$0\" --version";
    let ended = project.command("sh").args(["-c", script]).args([&copy]).end();
    // On a file system mounted nosuid the bit has no effect, and there is nothing to refuse.
    let has_effect = !fs::read_to_string("/proc/self/mountinfo").unwrap().lines().any(|line| {
        let mut words = line.split(' ').skip(4);
        let (point, options) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        point != "/" && copy.starts_with(point) && options.contains("nosuid")
    });
    if has_effect {
        ended.code(125).stderr_has("set-user-id").stdout("");
    } else {
        ended.code(0);
    }
}

// --- streams -------------------------------------------------------------------------------------------------------

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let project = Project::new().config("inputs = ['many/*']");
    for number in 0..3000 {
        project.write(&format!("many/{number}"), "");
    }
    let ended = shell(&project, "set -o pipefail; \"$0\" hash --list | head -1").ok();
    assert_eq!((ended.stdout.lines().count(), ended.stderr.as_str()), (1, ""), "{ended:?}");
}

#[test]
fn a_full_or_closed_stream_ends_nothing_badly() {
    let project = Project::new();
    shell(&project, "\"$0\" hash > /dev/full").code(125).stderr_has("can't write to standard output");
    shell(&project, "\"$0\" nonsense 2> /dev/full").code(125);
    shell(&project, "\"$0\" nonsense 2>&-").code(125);
    shell(&project, "\"$0\" nonsense 2> >(exec true)").code(125);
    shell(&project, "\"$0\" check >&-").ok();
}

#[test]
fn no_file_takes_the_place_of_a_closed_stream() {
    need!(Sandbox);
    let project = Project::new().config("outputs = ['made']");
    let run = "\"$0\" -v run --no-cache -- sh -c 'cat; echo made > made; echo said; echo said >&2'";
    for closed in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
        shell(&project, &format!("{run} {closed}")).ok();
        assert_eq!(project.read("made"), "made\n", "{closed}");
        project.sbx(["cache", "verify"]).ok();
    }
}

#[test]
fn hostile_names_are_shown_escaped_and_kept_in_json() {
    let project = Project::new().config("inputs = ['*.txt']").file("a\u{202e}b.txt", "1").file("c.txt", "2");
    let listing = project.sbx(["hash", "--list"]).ok().stdout_has("a\\u{202e}b.txt");
    assert!(!listing.stdout.contains('\u{202e}'), "{listing:?}");
    let json: Value = serde_json::from_str(&project.sbx(["hash", "--list", "--json"]).ok().stdout).expect("JSON");
    assert_eq!(json["manifest"][0]["path"], "a\u{202e}b.txt");
    // On the command line too.
    for line in [&["\u{1b}]0;x\u{7}"][..], &["--config", "\u{1b}[2J", "check"], &["-C", "a\nsbx: b", "check"]] {
        let ended = project.sbx(line).code(125);
        let is_harmless = |line: &str| line.starts_with("sbx: ") && !line.contains(char::is_control);
        assert!(ended.stderr.lines().all(is_harmless), "{ended:?}");
    }
}

#[test]
fn verbose_names_what_a_run_is_about() {
    need!(Sandbox);
    let project = Project::new();
    let ended = project.sbx(["run", "-v", "echo", "a b"]).ok().stdout("a b\n");
    let ended = ended.stderr_has("sbx: command echo 'a b'").stderr_has("/cache").stderr_has("sbx: run ");
    let action =
        ended.stderr.lines().find_map(|line| line.strip_prefix("sbx: action ")).expect("the action").to_owned();
    project.sbx(["hash", "--", "echo", "a b"]).ok().stdout_has(&format!("action  {action}\n"));
}

// --- check, init, reports ------------------------------------------------------------------------------------------

#[test]
fn check_looks_at_what_the_file_names() {
    let project = Project::new().config("inputs = ['a*', 'none*']\n[task.t]\ncommand = ['x']\ninputs = ['gone']");
    let project = project.file("a", "");
    project.sbx(["check"]).code(1).stderr_has("`none*` matches nothing").stderr_has("`gone` matches nothing");
    let project = project.config("inputs = ['a']\n[[mount]]\nsource = 'nowhere'\ntarget = '/opt/x'");
    project.sbx(["check"]).code(1).stderr_has("nowhere");
    let project = project.config("inputs = ['a']\noutputs = ['a']");
    project.sbx(["check"]).ok().stderr_has("warning: both input and output: `a`");
    let project = project.config("inputs = ['a']\noutputs = ['b']");
    project.sbx(["check"]).ok().stderr_lacks("warning");
}

#[test]
fn init_writes_over_nothing_unasked() {
    let project = Project::bare().file("Makefile", "all:\n").link("elsewhere.toml", "dangling");
    project.sbx(["init"]).ok().stdout_has("found: make").stdout_has("sbx check");
    let written = project.read("sandbox.toml");
    project.write("sandbox.toml", "# mine");
    project.sbx(["init"]).code(125).stderr_has("sandbox.toml exists").stderr_has("--force");
    assert_eq!(project.read("sandbox.toml"), "# mine");
    project.sbx(["init", "--force"]).ok();
    assert_eq!(project.read("sandbox.toml"), written);
    project.sbx(["init", "--config", "elsewhere.toml"]).code(125).stderr_has("exists");
    assert!(!project.has("dangling"));
}

#[test]
fn a_failure_is_reported_too() {
    let project = Project::new().config("inputs = ['none']").file("old.json", "old");
    project.sbx(["run", "--report", "old.json", "--timing", "--", "make", "x"]).code(125).stderr_has("sbx: phase");
    let report: Value = serde_json::from_str(&project.read("old.json")).expect("JSON");
    assert_eq!(report["version"], 1);
    assert_eq!(report["command"], serde_json::json!(["make", "x"]));
    assert_eq!((&report["exit"]["code"], &report["exit"]["reason"]), (&125.into(), &"failed".into()));
    assert!(report["exit"]["error"].as_str().is_some_and(|error| error.contains("matches nothing")), "{report}");
    // A bad file, and no file at all.
    project.write("sandbox.toml", "imputs = 1");
    project.sbx(["run", "--report", "old.json", "--", "make"]).code(125).stderr_has("did you mean `inputs`?");
    let report: Value = serde_json::from_str(&project.read("old.json")).expect("JSON");
    assert_eq!(report["exit"]["code"], 125);
}

#[test]
fn the_difference_is_that_of_the_last_run() {
    need!(Sandbox);
    let project = Project::new().config("inputs = ['in']\noutputs = ['out']").file("in", "");
    project.sbx(["diff"]).code(125).stderr_has("no run of this project is recorded");
    project.sh("touch out made; echo 1 > in").ok();
    let ended = project.sbx(["diff"]).ok();
    for part in ["exit code 0", "  out\n", "added    /src/made\n", "changed  /src/in\n"] {
        assert!(ended.stdout.contains(part), "{part:?} is missing: {ended:?}");
    }
    let json: Value = serde_json::from_str(&project.sbx(["diff", "--json"]).ok().stdout).expect("JSON");
    assert_eq!((&json["version"], &json["outputs"][0]["path"]), (&1.into(), &"out".into()));
    assert_eq!(json["undeclared"]["added"], serde_json::json!(["/src/made"]));
    let project = project.config("");
    project.sh("true").ok();
    project.sbx(["diff"]).ok().stdout_has("declared: nothing was copied back").stdout_has("undeclared: nothing");
}
