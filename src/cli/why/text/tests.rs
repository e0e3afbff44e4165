use super::*;
use crate::action::policy::ContentIdentity;
use crate::digest::Digest;
use crate::store::Store;
use crate::store::past::{Gone, Part};

fn record(id: &str) -> Record {
    let mut record = Record::begun("2026-01-02T03:04:05.000006Z".to_owned());
    record.id = id.to_owned();
    record.task = Some("te\u{1b}st".to_owned());
    record.command = ["make", "-j2", "a b"].map(str::to_owned).to_vec();
    record.cache.state = Cache::MISS.to_owned();
    record
}

fn now() -> SystemTime {
    humantime::parse_rfc3339("2026-01-04T05:04:05Z").unwrap()
}

fn shown_of(answer: &Answer<'_>, all: bool) -> String {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("store")).unwrap();
    text(answer, &mut Stats::new(&store), all, now())
}

/// The lines after the first.
fn told(record: &Record, verdict: Verdict<'_>) -> String {
    let text = shown_of(&Answer { record, verdict, gone: Vec::new() }, false);
    text.split_once('\n').unwrap().1.to_owned()
}

fn changed(subject: Subject, before: Value, after: Value) -> Difference {
    Difference { subject, change: Change::Changed { before, after } }
}

fn word(text: &str) -> Value {
    Value::Text(text.to_owned())
}

#[test]
fn the_first_line_names_the_run() {
    let mut record = record("id");
    record.exit.code = 3;
    let text = shown_of(&Answer { record: &record, verdict: Verdict::First, gone: Vec::new() }, false);
    assert_eq!(
        text,
        "run id at 2026-01-02T03:04:05.000006Z: task te\\u{1b}st: make -j2 'a b' (exit code 3)\n\
         computed because no earlier run of the task te\\u{1b}st is recorded\n"
    );
}

#[test]
fn a_hit_names_the_run_that_computed_it() {
    let mut record = record("id");
    record.cache = Cache {
        state: Cache::HIT.to_owned(),
        reason: None,
        from: Some("other".to_owned()),
        from_project: Some("/a\nb".to_owned()),
        computed: Some("2026-01-02T03:04:04Z".to_owned()),
        saved_us: Some(62_003_999),
    };
    assert_eq!(
        told(&record, Verdict::Hit),
        "not computed: the result is that of run other at 2026-01-02T03:04:04Z (2days 2h ago) in /a\\nb; it saved 1m 2s\n"
    );
    record.cache = Cache { state: Cache::HIT.to_owned(), ..Cache::default() };
    assert_eq!(told(&record, Verdict::Hit), "not computed: the result is an earlier one\n");
}

#[test]
fn the_same_action_says_why_there_was_no_result() {
    let (mut later, mut earlier) = (record("id"), record("other"));
    earlier.exit.code = 7;
    let told_of = |later: &Record, lost| told(later, Verdict::Same { run: &earlier, lost });
    let again = "computed again, although nothing differs from run other at 2026-01-02T03:04:05.000006Z: ";
    for (lost, words) in [
        (Lost::NotKept("--no\tcache"), "its result was not kept: --no\\tcache"),
        (Lost::Failed(7), "it failed (exit code 7), and the result of a failed command is not replayed"),
        (Lost::Removed, "its result was removed from the store since, or is damaged"),
    ] {
        assert_eq!(told_of(&later, lost), format!("{again}{words}\n"));
    }
    later.cache.reason = Some("the command exited with 7".to_owned());
    assert!(told_of(&later, Lost::Failed(7)).ends_with("\nits own result is not kept: the command exited with 7\n"));
    later.cache.state = Cache::OFF.to_owned();
    later.cache.reason = Some("-i".to_owned());
    assert_eq!(
        told_of(&later, Lost::Removed),
        "computed: no earlier result was looked up, and its own is not kept: -i\n\
         nothing differs from run other at 2026-01-02T03:04:05.000006Z\n"
    );
    later.cache.reason = None;
    assert!(told_of(&later, Lost::Removed).starts_with("computed: no earlier result was looked up (--force)\n"));
}

#[test]
fn a_command_without_a_task_is_named_so() {
    let mut record = record("id");
    record.task = None;
    assert_eq!(told(&record, Verdict::First), "computed because no earlier run of this command is recorded\n");
}

fn one_of_each() -> Vec<Difference> {
    let file =
        |content: &str, executable| Value::Node(Node::File { digest: Digest::of(content.as_bytes()), executable });
    let link = |target: &str| Value::Node(Node::Symlink { target: target.to_owned() });
    let input = |path: &str| Subject::Input(path.to_owned());
    let installed = |version: &str, fingerprint: &str| {
        Value::Installed(vec![Installed { version: version.to_owned(), fingerprint: fingerprint.to_owned() }])
    };
    let identity = |identity: fn(String) -> ContentIdentity, text: &str| Value::Identity(identity(text.to_owned()));
    let digest = |text: &str| Digest::of(text.as_bytes()).to_string();
    let named = |subject: fn(String) -> Subject, name: &str| subject(name.to_owned());
    vec![
        changed(Subject::Abi, Value::Number(1), Value::Number(2)),
        Difference { subject: Subject::Isolation, change: Change::Added(word("net")) },
        changed(Subject::Network, word("none"), word("rules")),
        Difference { subject: Subject::Allow, change: Change::Removed(word("a:1")) },
        changed(named(Subject::Pin, "db.test"), word("127.0.0.1"), word("127.0.0.2")),
        Difference { subject: Subject::Publish, change: Change::Added(word("127.0.0.1:1:2")) },
        changed(Subject::Hostname, word("sbx"), word("x\u{1b}[2J")),
        changed(Subject::Uid, Value::Number(1000), Value::Number(0)),
        changed(Subject::Gid, Value::Number(1000), Value::Number(0)),
        changed(named(Subject::Limit, "open_files"), Value::Number(1), Value::Number(2)),
        Difference { subject: named(Subject::Scratch, "/c"), change: Change::Added(word("ccache")) },
        changed(Subject::Rootfs, word("host"), word("ab/1")),
        changed(named(Subject::Package, "gcc/amd64"), installed("12.2", "a"), installed("12.3", "b")),
        changed(named(Subject::Package, "make/amd64"), installed("4.3", "a"), installed("4.3", "b")),
        Difference { subject: named(Subject::Package, "new/all"), change: Change::Added(installed("1", "")) },
        changed(
            named(Subject::Host, "/opt"),
            identity(ContentIdentity::Metadata, &digest("a")),
            identity(ContentIdentity::Content, &digest("b")),
        ),
        changed(
            named(Subject::Mount, "/m"),
            identity(ContentIdentity::Declared, "1"),
            identity(ContentIdentity::Packages, &digest("c")),
        ),
        changed(named(Subject::Variable, "CC"), word(""), word("a b")),
        Difference { subject: named(Subject::Variable, "A\n"), change: Change::Removed(word("1")) },
        changed(Subject::Argument(0), word("cc"), word("gcc")),
        Difference { subject: Subject::Argument(2), change: Change::Added(word("it's")) },
        changed(Subject::WorkingDirectory, word("/src"), word("/src/sub")),
        Difference { subject: Subject::Output, change: Change::Removed(word("dist/**")) },
        Difference { subject: Subject::TimeLimit, change: Change::Added(Value::Time(Duration::from_secs(600))) },
        changed(named(Subject::Property, "ISA"), word("x86-64"), word("aarch64")),
        changed(Subject::Workdir, word("/src"), word("/work")),
        changed(input("size"), file("a", false), file("ab", false)),
        changed(input("same size"), file("a", false), file("b", true)),
        changed(input("mode"), file("a", true), file("a", false)),
        changed(input("link"), link("a"), link("b\u{202e}")),
        changed(input("kind"), Value::Node(Node::EmptyDirectory), file("a", true)),
        Difference { subject: input("new"), change: Change::Added(file("a", false)) },
        Difference { subject: input("old\u{1b}"), change: Change::Removed(link("x")) },
        changed(Subject::InputTree, word("a/1"), word("b/2")),
    ]
}

#[test]
fn each_difference_has_its_line() {
    let (later, earlier) = (record("id"), record("other"));
    let answer = Answer {
        record: &later,
        verdict: Verdict::Differs { run: &earlier, differences: one_of_each() },
        gone: Vec::new(),
    };
    let text = shown_of(&answer, true);
    assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'));
    insta::assert_snapshot!(text);
}

#[test]
fn a_group_is_cut_at_ten_lines_unless_all_are_wanted() {
    let (later, earlier) = (record("id"), record("other"));
    let differences = |count: usize| -> Vec<Difference> {
        let input = |index| changed(Subject::Input(format!("{index}")), Value::Number(0), Value::Number(1));
        (0..count).map(input).collect()
    };
    let lines = |count, all| {
        let verdict = Verdict::Differs { run: &earlier, differences: differences(count) };
        let text = shown_of(&Answer { record: &later, verdict, gone: Vec::new() }, all);
        (text.lines().count(), text.lines().last().unwrap().to_owned())
    };
    // The run, the verdict and the group have a line each.
    assert_eq!(lines(10, false), (13, "    9: 0 -> 1".to_owned()));
    assert_eq!(lines(13, false), (14, "    … and 3 more (-v shows all)".to_owned()));
    assert_eq!(lines(13, true), (16, "    12: 0 -> 1".to_owned()));
}

#[test]
fn long_values_show_where_they_differ() {
    let long = "x".repeat(100);
    let (before, after) = contrast(&format!("{long}1{long}"), &format!("{long}2 3{long}"));
    let common = "x".repeat(CONTEXT);
    assert_eq!((before, after), (format!("…{common}1{common}…"), format!("…{common}2 3{common}…")));
    assert_eq!(contrast("a", "b"), ("a".to_owned(), "b".to_owned()));
    let (before, after) = contrast("", &"ä".repeat(200));
    assert_eq!((before.as_str(), after.chars().count()), ("", VALUE_MAX));
    // One that the other begins with, and ends with.
    let (before, after) = contrast(&long, &format!("{long}{long}"));
    assert_eq!((before, after.chars().count()), (format!("…{common}"), VALUE_MAX + 1));
}

#[test]
fn what_is_gone_is_named() {
    let (later, earlier, old) = (record("id"), record("other"), record("old"));
    let gone = |what, digest: &str| Gone { what, digest: digest.to_owned() };
    let mut answer = Answer {
        record: &later,
        verdict: Verdict::Differs { run: &earlier, differences: Vec::new() },
        gone: vec![
            (&old, gone(Part::Command, "a/1")),
            (&later, gone(Part::Inputs, "b/1")),
            (&earlier, gone(Part::Packages, "c/1")),
        ],
    };
    let text = shown_of(&answer, false);
    assert!(
        text.ends_with(
            "the inputs of run id can't be read: b/1 is not in the store any more, or damaged\n\
         the packages of run other can't be read: c/1 is not in the store any more, or damaged\n\
         1 earlier run can't be compared any more (-v says what is gone)\n"
        ),
        "{text}"
    );
    assert!(shown_of(&answer, true).contains("the command of run old can't be read: a/1 is"));
    answer.verdict = Verdict::Incomparable;
    assert!(
        shown_of(&answer, false)
            .contains("computed because no result was known; what it could be compared by is gone\n")
    );
}
