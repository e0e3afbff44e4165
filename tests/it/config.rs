//! The format of `sandbox.toml`: a corpus of files with what is to be said about them, and the schema.
//!
//! Each `tests/configs/invalid/NAME.toml` has `NAME.txt` beside it: all its faults as people see them, without colours.
//! Each `tests/configs/valid/NAME.toml` has its checked meaning there. A file without its partner fails the test.
//! After a change that is meant, `SBX_TEST_BLESS=1 cargo test --test it config::` writes the partners and the schema
//! anew; read the difference before it is committed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use sbx::config;
use serde_json::Value;

fn repository(below: &str) -> PathBuf {
    crate::support::root().join(below)
}

/// The files of a part of the corpus: name and text.
fn corpus(part: &str) -> BTreeMap<String, String> {
    let directory = repository("tests/configs").join(part);
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("toml") => _ = files.insert(name, fs::read_to_string(&path).unwrap()),
            Some("txt") => assert!(path.with_extension("toml").exists(), "{path:?} belongs to no file"),
            _ => panic!("{path:?} is not part of a corpus"),
        }
    }
    files
}

/// Holds `actual` against the file `expected`, or writes it there when that is asked for.
fn compare(expected: &Path, actual: &str) -> Result<(), String> {
    if std::env::var_os("SBX_TEST_BLESS").is_some() {
        fs::write(expected, actual).unwrap();
    }
    let wanted = fs::read_to_string(expected).map_err(|error| format!("{expected:?}: {error}"))?;
    if wanted == actual { Ok(()) } else { Err(format!("{expected:?} expects\n{wanted}\nbut this is said\n{actual}")) }
}

fn compare_all(part: &str, say: impl Fn(&str, &str) -> String) {
    let directory = repository("tests/configs").join(part);
    let differences: Vec<String> = corpus(part)
        .iter()
        .filter_map(|(name, text)| compare(&directory.join(format!("{name}.txt")), &say(name, text)).err())
        .collect();
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
}

#[test]
fn every_invalid_file_is_refused_with_all_its_faults() {
    assert!(corpus("invalid").len() >= 45);
    compare_all("invalid", |name, text| match config::parse(text, "sandbox.toml") {
        Ok(config) => panic!("{name} is taken as {config:#?}"),
        Err(faults) => faults.render(false),
    });
}

#[test]
fn every_valid_file_means_what_is_written_beside_it() {
    assert!(corpus("valid").len() >= 12);
    compare_all("valid", |name, text| match config::parse(text, "sandbox.toml") {
        Ok(config) => format!("{config:#?}\n"),
        Err(faults) => panic!("{name}:\n{}", faults.render(false)),
    });
}

#[test]
fn a_fault_is_shown_once_and_in_the_order_of_the_file() {
    for (name, text) in corpus("invalid") {
        let faults = config::parse(&text, "sandbox.toml").unwrap_err();
        let places: Vec<_> = faults.list().iter().map(|fault| (fault.span.start, &fault.message)).collect();
        assert!(places.is_sorted_by_key(|(start, _)| *start), "{name}: {places:?}");
        assert_eq!(places.iter().collect::<BTreeSet<_>>().len(), places.len(), "{name}: {places:?}");
    }
}

#[test]
fn the_example_is_a_valid_file_and_shows_every_key() {
    let text = fs::read_to_string(repository("sandbox.toml.example")).unwrap();
    if let Err(faults) = config::parse(&text, "sandbox.toml.example") {
        panic!("{}", faults.render(false));
    }
    for (table, keys) in schema_tables() {
        for key in keys {
            let shown = text.lines().any(|line| {
                let line = line.trim_start_matches(['#', ' ']);
                let header = line.trim_start_matches('[').strip_prefix(&key);
                let assigned = line.strip_prefix(&key).map(str::trim_start);
                assigned.is_some_and(|rest| rest.starts_with('='))
                    || header.is_some_and(|rest| line.starts_with('[') && rest.starts_with([']', '.']))
            });
            assert!(shown, "`{key}` of `{table}` is not in the example");
        }
    }
}

#[test]
fn the_committed_schema_is_the_generated_one() {
    let generated = serde_json::to_string_pretty(&config::schema()).unwrap() + "\n";
    compare(&repository("schema/sandbox.schema.json"), &generated).unwrap();
}

fn schema() -> Value {
    config::schema().to_value()
}

fn as_json(text: &str) -> Value {
    serde_json::to_value(toml::from_str::<toml::Table>(text).unwrap()).unwrap()
}

#[test]
fn the_schema_takes_every_valid_file() {
    let validator = jsonschema::draft7::new(&schema()).unwrap();
    for (name, text) in corpus("valid") {
        let errors: Vec<String> = validator.iter_errors(&as_json(&text)).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{name}: {errors:?}");
    }
}

#[test]
fn the_schema_refuses_unknown_keys_missing_keys_and_wrong_types() {
    let validator = jsonschema::draft7::new(&schema()).unwrap();
    let mut refused = 0;
    for (name, text) in corpus("invalid") {
        let Err(faults) = config::parse(&text, "sandbox.toml") else { panic!("{name} is valid") };
        let structural = |message: &str| {
            message.starts_with("unknown key") || message.contains(" lacks `") || message.contains(" must be a")
        };
        if toml::from_str::<toml::Table>(&text).is_ok()
            && faults.list().iter().any(|fault| structural(&fault.message) && !fault.message.contains("above zero"))
        {
            assert!(!validator.is_valid(&as_json(&text)), "{name} passes the schema");
            refused += 1;
        }
    }
    assert!(refused >= 10, "only {refused} files tell the schema from the checker");
}

/// The tables of the format: what stands before their keys in a file, and the keys, from the schema.
fn schema_tables() -> BTreeMap<String, BTreeSet<String>> {
    let schema = schema();
    let mut tables = BTreeMap::new();
    collect_tables(&schema, &schema, String::new(), &mut tables);
    tables
}

fn collect_tables(root: &Value, part: &Value, header: String, tables: &mut BTreeMap<String, BTreeSet<String>>) {
    let part = resolve(root, part);
    let Some(properties) = part.get("properties").and_then(Value::as_object) else { return };
    let path = header.trim_matches(['[', ']']).to_owned();
    let dotted = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    for (key, property) in properties {
        let property = resolve(root, property);
        if let Some(items) = property.get("items") {
            collect_tables(root, items, format!("[[{}]]", dotted(key)), tables);
        } else if let Some(named) = property.get("additionalProperties").filter(|named| named.is_object()) {
            collect_tables(root, named, format!("[{}.x]", dotted(key)), tables);
        } else {
            collect_tables(root, property, format!("[{}]", dotted(key)), tables);
        }
    }
    tables.insert(header, properties.keys().cloned().collect());
}

/// Follows `$ref`, also where a description stands beside it.
fn resolve<'s>(root: &'s Value, part: &'s Value) -> &'s Value {
    let reference = part.get("$ref").or_else(|| part.get("allOf")?.get(0)?.get("$ref"));
    match reference.and_then(Value::as_str) {
        Some(reference) => root.pointer(reference.trim_start_matches('#')).unwrap(),
        None => part,
    }
}

#[test]
fn the_checker_knows_exactly_the_keys_of_the_schema() {
    let tables = schema_tables();
    assert_eq!(tables.len(), 20, "{tables:?}");
    for (header, keys) in tables {
        let text = format!("{header}\n0 = 1\n");
        let faults = config::parse(&text, "sandbox.toml").unwrap_err();
        let unknown = faults.list().iter().find(|fault| fault.message.starts_with("unknown key")).unwrap();
        let (_, known) = unknown.hint.as_deref().unwrap().split_once(" knows: ").unwrap();
        assert_eq!(known.split(", ").map(str::to_owned).collect::<BTreeSet<_>>(), keys, "{header}");
    }
}

#[test]
fn the_checker_and_the_schema_agree_on_types() {
    let validator = jsonschema::draft7::new(&schema()).unwrap();
    let samples = ["true", "7", "2.5", "'text'", "[]", "['text']", "[{}]", "{}", "{ a = 'b' }", "{ a = 1 }"];
    let of_checker = |message: &str| {
        let type_of = [" must be a string", " must be an ", " must be a table", " must be a number", " must be true"];
        type_of.iter().any(|text| message.contains(text)) || message.contains(" can't be \"")
    };
    let of_schema = |message: &str| message.contains("is not of type") || message.contains("is not valid under any of");
    for (header, keys) in schema_tables() {
        for (key, sample) in keys.iter().flat_map(|key| samples.map(|sample| (key, sample))) {
            let text = format!("{header}\n{key} = {sample}\n");
            let faults = config::parse(&text, "f").map_or_else(|faults| faults.list().to_vec(), |_| Vec::new());
            let refused = faults.iter().any(|fault| of_checker(&fault.message));
            let errors: Vec<String> = validator.iter_errors(&as_json(&text)).map(|error| error.to_string()).collect();
            assert_eq!(refused, errors.iter().any(|error| of_schema(error)), "{text}{faults:#?}{errors:#?}");
        }
    }
}

/// One step of damage to a text, as bytes.
#[derive(Debug, Clone)]
enum Damage {
    Remove { at: prop::sample::Index, length: usize },
    Insert { at: prop::sample::Index, bytes: Vec<u8> },
    Repeat { at: prop::sample::Index, length: usize },
}

fn damage() -> impl Strategy<Value = Damage> {
    let token = prop::sample::select(vec![
        "[",
        "]",
        "[[",
        "{",
        "}",
        "\"",
        "'",
        "'''",
        "\"\"\"",
        "=",
        ",",
        ".",
        "\n",
        "\r",
        "#",
        "!",
        "**",
        "-",
        "0",
        "1e9",
        "nan",
        "inf",
        "true",
        "é",
        "\u{feff}",
        "\u{0}",
        "\\u0000",
        "\\",
        "task.",
        "[task.x]\n",
        "\nhost = ",
        "日本",
    ]);
    let bytes =
        prop_oneof![token.prop_map(|token| token.as_bytes().to_vec()), prop::collection::vec(any::<u8>(), 1..4)];
    prop_oneof![
        (any::<prop::sample::Index>(), 1_usize..20).prop_map(|(at, length)| Damage::Remove { at, length }),
        (any::<prop::sample::Index>(), bytes).prop_map(|(at, bytes)| Damage::Insert { at, bytes }),
        (any::<prop::sample::Index>(), 1_usize..40).prop_map(|(at, length)| Damage::Repeat { at, length }),
    ]
}

fn apply(text: &mut Vec<u8>, damage: Damage) {
    let range = |at: prop::sample::Index, length: usize| {
        let start = at.index(text.len() + 1);
        start..text.len().min(start + length)
    };
    match damage {
        Damage::Remove { at, length } => _ = text.drain(range(at, length)),
        Damage::Insert { at, bytes } => _ = text.splice(range(at, 0), bytes),
        Damage::Repeat { at, length } => {
            let range = range(at, length);
            let copy = text[range.clone()].to_vec();
            text.splice(range.start..range.start, copy);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_the_checker_panic(
        file in any::<prop::sample::Index>(),
        steps in prop::collection::vec(damage(), 1..8),
    ) {
        let files: Vec<String> = corpus("valid").into_values().chain(corpus("invalid").into_values()).collect();
        let mut bytes = files[file.index(files.len())].clone().into_bytes();
        for step in steps {
            apply(&mut bytes, step);
        }
        let text = String::from_utf8_lossy(&bytes);
        if let Err(faults) = config::parse(&text, "sandbox.toml") {
            let plain = faults.render(false);
            let escape = '\u{1b}';
            prop_assert!(!plain.contains(escape), "{plain:?}");
            prop_assert!(faults.render(true).contains(escape));
        }
    }
}
