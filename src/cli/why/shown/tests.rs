use super::*;
use crate::action::policy::ContentIdentity;
use crate::digest::Digest;
use crate::inputs::packages::Installed;
use crate::store::Store;
use crate::store::past::Part;

fn record(id: &str) -> Record {
    let mut record = Record::begun("2026-01-02T03:04:05.000006Z".to_owned());
    record.id = id.to_owned();
    record.cache.state = Cache::MISS.to_owned();
    record
}

fn json_of(store: &Store, answer: &Answer<'_>) -> Json {
    serde_json::to_value(Shown::new(answer, &mut Stats::new(store))).unwrap()
}

#[test]
fn differences_are_typed() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("store")).unwrap();
    let [old, new] = ["a\n", "b\nc\n"].map(|text| store.put_bytes(text.as_bytes(), false).unwrap());
    let file = |digest: Digest, executable| Value::Node(Node::File { digest, executable });
    let installed = Installed { version: "1".to_owned(), fingerprint: "f".to_owned() };
    let differences = vec![
        Difference {
            subject: Subject::Uid,
            change: Change::Changed { before: Value::Number(1000), after: Value::Number(0) },
        },
        Difference {
            subject: Subject::Package("new/all".to_owned()),
            change: Change::Added(Value::Installed(vec![installed])),
        },
        Difference {
            subject: Subject::Mount("/m".to_owned()),
            change: Change::Removed(Value::Identity(ContentIdentity::Declared("1".to_owned()))),
        },
        Difference { subject: Subject::Argument(2), change: Change::Added(Value::Text("\u{1b}".to_owned())) },
        Difference {
            subject: Subject::Input("a".to_owned()),
            change: Change::Changed { before: file(old, false), after: file(new, true) },
        },
    ];
    let (later, earlier) = (record("id"), record("other"));
    let verdict = Verdict::Differs { run: &earlier, differences };
    let gone = vec![(&earlier, Gone { what: Part::Policy, digest: "a/1".to_owned() })];
    let json = json_of(&store, &Answer { record: &later, verdict, gone });
    assert_eq!((&json["version"], &json["verdict"]), (&json!(1), &json!("differs")));
    assert_eq!((&json["run"]["id"], &json["compared"]["id"]), (&json!("id"), &json!("other")));
    assert_eq!(json["cache"]["state"], "miss");
    assert_eq!(json["gone"], json!([{ "run": "other", "what": "policy", "digest": "a/1" }]));
    assert_eq!(
        json["differences"],
        json!([
            { "group": "policy", "subject": "uid", "change": "changed", "before": 1000, "after": 0 },
            {
                "group": "rootfs", "subject": "package", "name": "new/all", "change": "added",
                "after": [{ "version": "1", "fingerprint": "f" }],
            },
            { "group": "mounts", "subject": "mount", "name": "/m", "change": "removed", "before": { "declared": "1" } },
            { "group": "arguments", "subject": "argument", "index": 2, "change": "added", "after": "\u{1b}" },
            {
                "group": "inputs", "subject": "input", "name": "a", "change": "changed",
                "before": { "kind": "file", "digest": old.to_string(), "executable": false },
                "after": { "kind": "file", "digest": new.to_string(), "executable": true },
                "aspects": ["content", "mode"], "lines_added": 2, "lines_removed": 1,
            },
        ])
    );
}

#[test]
fn each_verdict_has_its_word() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("store")).unwrap();
    let (mut later, earlier) = (record("id"), record("other"));
    let of = |later: &Record, verdict| json_of(&store, &Answer { record: later, verdict, gone: Vec::new() });
    assert_eq!(of(&later, Verdict::Hit)["verdict"], "hit");
    assert_eq!(of(&later, Verdict::First)["verdict"], "first");
    assert_eq!(of(&later, Verdict::Incomparable)["verdict"], "incomparable");
    for (lost, shown) in [
        (Lost::NotKept("r"), json!({ "why": "not-kept", "reason": "r" })),
        (Lost::Failed(1), json!({ "why": "failed" })),
        (Lost::Removed, json!({ "why": "removed" })),
    ] {
        let json = of(&later, Verdict::Same { run: &earlier, lost });
        assert_eq!((&json["verdict"], &json["lost"]), (&json!("same"), &shown));
    }
    // Nothing was lost to a run that did not look.
    later.cache.state = Cache::OFF.to_owned();
    assert_eq!(of(&later, Verdict::Same { run: &earlier, lost: Lost::Removed })["lost"], Json::Null);
}
