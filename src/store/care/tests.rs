use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::*;
use crate::action::result::Known;
use crate::action::result::tests::known;
use crate::digest::Digest;
use crate::inputs::{self, Entry, Manifest, Node, Proxies, Silent, Sources, path_order};
use crate::path::GuestPath;
use crate::record::{Output, Record};
use crate::store::actions::Lookup;
use crate::store::{Layers, ProjectKey};

impl Watcher for Silent {
    fn at(&self, _: &'static str, _: u64, _: u64) {}
    fn finished(&self) {}
}

const DAY: Duration = Duration::from_hours(24);

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("store")).unwrap();
    (dir, store)
}

fn src() -> GuestPath {
    GuestPath::new("/src").unwrap()
}

/// 40 KB that no other number has.
fn content(number: u8) -> Vec<u8> {
    vec![number; 40_000]
}

/// A result with these contents as outputs, last used so many days ago.
fn keep(store: &Store, name: &str, contents: &[u8], days: u32) -> Digest {
    let put = |bytes: &[u8]| store.put_bytes(bytes, false).unwrap();
    let outputs = contents.iter().map(|number| Output::file(&format!("{number:03}"), false, &put(&content(*number))));
    let result =
        Known { outputs: outputs.collect(), unchanged: Vec::new(), stdout: put(b"out"), stderr: put(b""), ..known() };
    let action = Digest::of(name.as_bytes());
    store.keep_result(&action, &result).unwrap();
    let hex = action.hex();
    set_use(&store.path().join("actions").join(&hex[..2]).join(&hex[2..]), days);
    action
}

fn set_use(path: &Path, days: u32) {
    fs::File::open(path).unwrap().set_modified(SystemTime::now() - DAY * days).unwrap();
}

fn is_known(store: &Store, action: &Digest) -> bool {
    let hex = action.hex();
    store.path().join("actions").join(&hex[..2]).join(&hex[2..]).exists()
}

/// A tree of these contents, last used so many days ago.
fn tree(store: &Store, contents: &[u8], days: u32) -> Layers {
    let entries: BTreeMap<String, Digest> = contents
        .iter()
        .map(|number| (format!("d/{number:03}"), store.put_bytes(&content(*number), false).unwrap()))
        .collect();
    let file = |(path, digest)| Entry { path, node: Node::File { digest, executable: false } };
    let mut entries: Vec<_> = entries.into_iter().map(file).collect();
    entries.sort_by(|one, other| path_order(&one.path, &other.path));
    let layers = store.materialise(&Manifest { entries }, Some(&src()), None).unwrap();
    set_use(&store.marker(&layers.lower[0]), days);
    layers
}

fn gc(store: &Store, limits: &Limits) -> Collected {
    store.collect_garbage(limits, Patience::Wait, &Silent).unwrap().unwrap()
}

fn down_to(bytes: u64) -> Limits {
    let size = Some(Size { above: bytes, down_to: bytes });
    Limits { size, grace: Duration::ZERO, ..Limits::default() }
}

fn older_than(days: u32) -> Limits {
    Limits { age: Some(DAY * days), grace: Duration::ZERO, ..Limits::default() }
}

fn blobs(store: &Store) -> usize {
    names(&store.path().join("blobs"))
        .unwrap()
        .iter()
        .map(|part| names(&store.path().join("blobs").join(part)).unwrap().len())
        .sum()
}

/// What the store takes of the disk, by another way: each inode once.
fn on_disk(store: &Store, part: &str) -> u64 {
    let mut seen = BTreeSet::new();
    let entries = walkdir::WalkDir::new(store.path().join(part)).into_iter().flatten();
    let files = entries.filter(|entry| entry.file_type().is_file()).map(|entry| entry.metadata().unwrap());
    files.filter(|file| seen.insert(file.ino())).map(|file| file.blocks() * 512).sum()
}

#[test]
fn what_was_used_last_stays() {
    let (_dir, store) = store();
    let results = [keep(&store, "a", &[1, 2], 3), keep(&store, "b", &[2, 3], 2), keep(&store, "c", &[4], 1)];
    let before = store.tally(&Silent).unwrap();
    let bytes: u64 = before.iter().filter(|(kind, _)| kind.is_budgeted()).map(|(_, tally)| tally.bytes).sum();
    assert_eq!(bytes, on_disk(&store, "blobs") + on_disk(&store, "actions"));

    let foreseen = gc(&store, &Limits { dry_run: true, ..down_to(bytes - 1) });
    assert!(results.iter().all(|action| is_known(&store, action)), "only said");
    let collected = gc(&store, &down_to(bytes - 1));
    assert_eq!(collected, foreseen);
    assert_eq!(results.map(|action| is_known(&store, &action)), [false, true, true]);
    assert!(store.open_blob(&Digest::of(&content(1)), false).is_err());
    assert!(store.open_blob(&Digest::of(&content(2)), false).is_ok(), "another result has it too");
    assert_eq!(collected.left, on_disk(&store, "blobs") + on_disk(&store, "actions"));
    assert_eq!(collected.freed, bytes - collected.left);

    gc(&store, &older_than(2));
    assert_eq!(results.map(|action| is_known(&store, &action)), [false, false, true]);
    assert_eq!(gc(&store, &down_to(u64::MAX)).removed, []);
    gc(&store, &down_to(0));
    assert_eq!((is_known(&store, &results[2]), blobs(&store)), (false, 0));
}

#[test]
fn what_identified_a_recorded_run_stays() {
    use prost::Message as _;

    use crate::action::messages::{self, Action};
    let (_dir, store) = store();
    let put = |bytes: &[u8]| store.put_bytes(bytes, false).unwrap();
    let (command, list) = (put(b"command"), put(b"packages"));
    let policy = put(format!("{{\"packages\":\"{list}\"}}").as_bytes());
    let salt = messages::Digest::from(policy).encode_to_vec();
    let action = Action { command_digest: Some(command.into()), salt, ..Action::default() };
    let action = put(&action.encode_to_vec());
    let garbage = put(b"garbage");
    let record = Record { action: action.to_string(), ..records_tests_record() };
    crate::store::records::write(store.path(), "key", &record).unwrap();
    gc(&store, &Limits::NOTHING);
    assert!([action, command, policy, list].iter().all(|digest| store.open_blob(digest, false).is_ok()));
    assert!(store.open_blob(&garbage, false).is_err());
    fs::remove_dir_all(store.path().join("runs")).unwrap();
    gc(&store, &Limits::NOTHING);
    assert_eq!(blobs(&store), 0);
}

#[test]
fn a_result_that_was_used_meanwhile_stays() {
    let (_dir, store) = store();
    let action = keep(&store, "a", &[1], 9);
    assert!(matches!(store.lookup(&action), Lookup::Known(_)));
    gc(&store, &older_than(1));
    assert!(is_known(&store, &action) && store.open_blob(&Digest::of(&content(1)), false).is_ok());
}

#[test]
fn young_blobs_stay_and_storing_makes_young() {
    let (_dir, store) = store();
    let digest = store.put_bytes(b"nobody refers to it", false).unwrap();
    let collected = gc(&store, &Limits::default());
    assert_eq!((collected.young, collected.removed.len()), (1, 0));
    let ctime = || {
        let metadata = store.open_blob(&digest, false).unwrap().metadata().unwrap();
        (metadata.ctime(), metadata.ctime_nsec())
    };
    let before = ctime();
    std::thread::sleep(Duration::from_millis(60));
    store.put_bytes(b"nobody refers to it", false).unwrap();
    assert!(ctime() > before);
    assert_eq!(gc(&store, &Limits::NOTHING).young, 0);
    assert!(store.open_blob(&digest, false).is_err());
}

#[test]
fn layers_that_are_used_stay_whole() {
    let (_dir, store) = store();
    let used = tree(&store, &[1, 2, 3], 9);
    let unused = tree(&store, &[3, 4], 5).lower;
    let foreseen = gc(&store, &Limits { dry_run: true, ..Limits::NOTHING });
    let collected = gc(&store, &Limits::NOTHING);
    assert_eq!((foreseen.in_use, collected.in_use), (1, 1));
    assert_eq!(foreseen.removed, collected.removed);
    assert!(!store.path().join(&unused[0]).exists());
    for number in [1, 2, 3] {
        let path = store.path().join(&used.lower[0]).join(format!("src/d/{number:03}"));
        assert_eq!(fs::read(path).unwrap(), content(number));
        assert!(store.open_blob(&Digest::of(&content(number)), false).is_ok(), "its blobs stay too");
    }
    assert!(store.open_blob(&Digest::of(&content(4)), false).is_err());
    assert!(store.manifest_of(&used.root).is_some());
    let layer = used.lower[0].clone();
    drop(used);
    gc(&store, &Limits::NOTHING);
    assert!(!store.path().join(layer).exists());
    assert_eq!(blobs(&store) + names(&store.path().join("trees")).unwrap().len(), 0);
    assert_eq!(names(&store.path().join("tmp")).unwrap(), [""; 0]);
}

#[test]
fn a_tree_stays_as_long_as_what_lies_over_it() {
    let (_dir, store) = store();
    let key = ProjectKey::new(Path::new("/p/sandbox.toml"));
    let make = |count: u8| {
        let entry = |number: u8| {
            let digest = store.put_bytes(&[number], false).unwrap();
            Entry { path: format!("{number:03}"), node: Node::File { digest, executable: false } }
        };
        let manifest = Manifest { entries: (0..count).map(entry).collect() };
        store.materialise(&manifest, Some(&src()), Some(&key)).unwrap().lower
    };
    let full = make(200);
    let delta = make(201);
    assert_eq!((delta.len(), &delta[1]), (2, &full[0]));
    let exists = |layer: &str| store.path().join(layer).exists();
    set_use(&store.marker(&full[0]), 5);
    gc(&store, &older_than(1));
    assert!(exists(&full[0]) && exists(&delta[0]));
    set_use(&store.marker(&full[0]), 5);
    set_use(&store.marker(&delta[0]), 5);
    gc(&store, &older_than(1));
    assert!(!exists(&full[0]) && !exists(&delta[0]));
    // A delta whose tree is gone can be used by nobody.
    make(200);
    let delta = make(201);
    fs::remove_dir_all(store.path().join(&full[0])).unwrap();
    gc(&store, &down_to(u64::MAX));
    assert!(!exists(&delta[0]));
}

#[test]
fn what_is_remembered_of_projects_that_are_gone_goes_and_journals_stay() {
    let (dir, store) = store();
    for (name, stays) in [("there", true), ("gone", false)] {
        let root = dir.path().join(name);
        let key = ProjectKey::new(&root.join("sandbox.toml"));
        let project = store.project_dir(&key).unwrap();
        store.write_frame(&project.join("memo"), b"sbxmemo1", b"").unwrap();
        fs::write(project.join("journal"), "").unwrap();
        let mut record = records_tests_record();
        record.project = root.display().to_string();
        crate::store::records::write(store.path(), key.as_str(), &record).unwrap();
        if stays {
            fs::create_dir(&root).unwrap();
        }
        gc(&store, &down_to(u64::MAX));
        assert_eq!(project.join("memo").exists(), stays, "{name}");
        assert!(project.join("journal").exists());
    }
    // The records have their own limit.
    gc(&store, &Limits::NOTHING);
    assert_eq!(crate::store::records::every(store.path()).len(), 2);
}

fn records_tests_record() -> Record {
    crate::store::records::tests::record("20260101-000000-000000-0000000000")
}

#[derive(Debug, Clone)]
enum Made {
    Result(Vec<u8>, u32),
    Tree(Vec<u8>, u32),
}

fn made() -> impl Strategy<Value = Made> {
    let contents = proptest::collection::vec(0_u8..12, 0..5);
    (any::<bool>(), contents, 0_u32..20).prop_map(|(result, contents, days)| match result {
        true => Made::Result(contents, days),
        false => Made::Tree(contents, days),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_goes_what_stays_is_complete(
        all in proptest::collection::vec(made(), 1..12),
        limits in prop_oneof![(0_u64..1_000_000).prop_map(down_to), (0_u32..20).prop_map(older_than)],
    ) {
        let (_dir, store) = store();
        let mut results = Vec::new();
        for (index, made) in all.iter().enumerate() {
            match made {
                Made::Result(contents, days) => {
                    let distinct: BTreeSet<u8> = contents.iter().copied().collect();
                    let contents: Vec<u8> = distinct.into_iter().collect();
                    results.push(keep(&store, &index.to_string(), &contents, *days));
                }
                Made::Tree(contents, days) => drop(tree(&store, contents, *days)),
            }
        }
        let collected = gc(&store, &limits);
        for action in &results {
            if let Lookup::Known(known) = store.lookup(action) {
                for (digest, executable) in known.blobs() {
                    prop_assert!(store.open_blob(&digest, executable).is_ok(), "{digest}");
                }
            }
        }
        let left = on_disk(&store, "blobs") + on_disk(&store, "actions");
        if let Some(size) = limits.size {
            prop_assert!(left <= size.down_to, "{left} of {}", size.down_to);
        }
        prop_assert!(collected.left >= left);
        let verified = store.verify(false, &Silent).unwrap();
        prop_assert_eq!(verified.damage, vec![]);
    }
}

/// One file of each kind, or two.
fn furnished() -> (tempfile::TempDir, Store) {
    let (dir, store) = store();
    keep(&store, "a", &[1, 2], 0);
    tree(&store, &[2, 3], 0);
    let root = Manifest {
        entries: vec![Entry {
            path: "etc".into(),
            node: Node::File { digest: store.put_root_bytes(b"root", true).unwrap(), executable: true },
        }],
    };
    store.materialise(&root, None, None).unwrap();
    let key = ProjectKey::new(Path::new("/p/sandbox.toml"));
    let entry = |number: u8| {
        let digest = store.put_bytes(&[number], number == 3).unwrap();
        Entry { path: format!("{number:03}"), node: Node::File { digest, executable: number == 3 } }
    };
    for count in [200, 201] {
        let manifest = Manifest { entries: (0..count).map(entry).collect() };
        store.materialise(&manifest, Some(&src()), Some(&key)).unwrap();
    }
    store.write_frame(&store.memo_path(&key), b"sbxmemo1", b"memo").unwrap();
    store.write_frame(&store.memory_of("mounts", Path::new("/opt")), b"sbxmemo1", b"memo").unwrap();
    store.write_frame(&store.path().join("fetched").join(Digest::of(&content(1)).hex()), b"sbxfet01", b"x").unwrap();
    crate::store::records::write(store.path(), key.as_str(), &records_tests_record()).unwrap();
    (dir, store)
}

#[test]
fn every_flipped_bit_is_found_and_removed_and_nothing_else_is_said() {
    let (_dir, store) = furnished();
    let verified = store.verify(false, &Silent).unwrap();
    assert_eq!(verified.damage, []);
    let counts: BTreeMap<_, _> = verified.looked_at.into_iter().collect();
    for kind in [Kind::Results, Kind::Trees, Kind::Roots, Kind::Deltas, Kind::Memos, Kind::Fetched, Kind::Records] {
        assert!(counts[&kind] > 0, "{kind:?}");
    }
    drop(store);

    for part in ["blobs", "actions", "trees", "roots", "deltas", "mounts", "projects", "fetched", "runs"] {
        let (_dir, store) = furnished();
        let dir = store.path().join(part);
        let mut files: Vec<PathBuf> = walkdir::WalkDir::new(&dir)
            .into_iter()
            .flatten()
            .filter(|entry| entry.file_type().is_file() && entry.metadata().unwrap().len() > 0)
            .map(walkdir::DirEntry::into_path)
            .filter(|path| !path.ends_with("bases") && path.extension().is_none_or(|suffix| suffix != "boot"))
            .collect();
        files.sort();
        let file = files.last().unwrap();
        let mut bytes = fs::read(file).unwrap();
        let metadata = fs::metadata(file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= if part == "runs" { 0x80 } else { 1 };
        // In place, with all that is seen of it from outside as it was.
        fs::write(file, bytes).unwrap();
        fs::File::open(file).unwrap().set_modified(metadata.modified().unwrap()).unwrap();
        let found = store.verify(false, &Silent).unwrap().damage;
        assert!(!found.is_empty(), "{part}: {}", file.display());
        assert!(found.iter().all(|damage| !damage.removed));
        let removed = store.verify(true, &Silent).unwrap().damage;
        assert!(removed.iter().all(|damage| damage.removed), "{part}: {removed:?}");
        let mut again = store.verify(true, &Silent).unwrap().damage;
        if !again.is_empty() {
            // A result that lost a content, found when the content was gone.
            assert!(again.iter().all(|damage| damage.kind == Kind::Results), "{part}: {again:?}");
            again = store.verify(false, &Silent).unwrap().damage;
        }
        assert_eq!(again, [], "{part}");
    }
}

#[test]
fn strange_files_and_modes_are_found() {
    let (_dir, store) = furnished();
    let part = &names(&store.path().join("blobs")).unwrap()[0];
    let dir = store.path().join("blobs").join(part);
    let name = &names(&dir).unwrap()[0];
    fs::write(dir.join("stray"), "").unwrap();
    fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o666)).unwrap();
    let found = store.verify(false, &Silent).unwrap().damage;
    let said: BTreeSet<_> = found.iter().map(|damage| damage.what).collect();
    assert!(said.contains("it is called like no blob") && said.contains("it has another mode or time"), "{found:?}");
}

#[test]
fn a_damaged_layer_that_is_used_stays_and_is_said() {
    let (_dir, store) = store();
    let layers = tree(&store, &[1], 0);
    fs::write(store.path().join(&layers.lower[0]).join("src/more"), "").unwrap();
    let damage = store.verify(true, &Silent).unwrap().damage;
    assert!(matches!(damage.as_slice(), [Damage { kind: Kind::Trees, removed: false, .. }]), "{damage:?}");
    drop(layers);
    assert!(store.verify(true, &Silent).unwrap().damage[0].removed);
}

#[test]
fn a_removal_that_was_killed_is_no_damage_and_ends_later() {
    let (_dir, store) = store();
    let layer = tree(&store, &[1], 0).lower.remove(0);
    fs::remove_file(store.marker(&layer)).unwrap();
    assert_eq!(store.verify(false, &Silent).unwrap().damage, []);
    fs::remove_file(store.manifest_path(&layer)).unwrap();
    assert_eq!(store.verify(false, &Silent).unwrap().damage, []);
    gc(&store, &down_to(u64::MAX));
    assert!(!store.path().join(layer).exists());
}

#[test]
fn the_budget_is_kept_by_whoever_exceeds_it() {
    let (_dir, store) = store();
    assert!(store.estimate().is_some(), "a new store is empty, which is known");
    let budget = 1_000_000;
    let mut all = Vec::new();
    for number in 0..60 {
        let here = Store::open(store.path().to_owned()).unwrap();
        all.push(keep(&here, &number.to_string(), &[number], 100 - u32::from(number)));
        here.keep_budget(budget, &Silent).unwrap();
        assert!(here.keep_budget(budget, &Silent).unwrap().is_none(), "it was noted already");
    }
    // The blobs are young and stay; the results they belong to went, the least recently used ones first.
    let known: Vec<bool> = all.iter().map(|action| is_known(&store, action)).collect();
    assert!(!known[0] && known[59], "{known:?}");
    assert!(known.is_sorted(), "{known:?}");
    assert!(store.estimate().unwrap() > 0);
}

#[test]
fn a_store_that_was_never_measured_is_measured() {
    let (_dir, store) = store();
    keep(&store, "a", &[1], 0);
    fs::remove_file(store.path().join("usage")).unwrap();
    assert_eq!(store.estimate(), None);
    assert!(store.keep_budget(u64::MAX, &Silent).unwrap().is_some());
    let measured = store.estimate().unwrap();
    assert_eq!(measured, on_disk(&store, "blobs") + on_disk(&store, "actions"));
    store.put_bytes(&content(9), false).unwrap();
    assert!(store.keep_budget(u64::MAX, &Silent).unwrap().is_none());
    let estimate = store.estimate().unwrap();
    assert!((measured + 40_960..measured + 80_000).contains(&estimate), "{estimate}");
}

#[test]
fn gc_beside_runs_and_verify_never_makes_one_fail_or_a_wrong_report() {
    let (dir, store) = store();
    let over = AtomicBool::new(false);
    let settings = crate::config::parse("inputs = ['**']", "f").unwrap().settings;
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..3_u8)
            .map(|number| {
                let root = dir.path().join(format!("project{number}"));
                let (path, settings) = (store.path().to_owned(), &settings);
                scope.spawn(move || {
                    fs::create_dir(&root).unwrap();
                    for file in 0..40_u8 {
                        // Some contents are those of the other projects too.
                        fs::write(root.join(format!("f{file}")), [file, if file < 30 { number } else { 0 }]).unwrap();
                    }
                    let key = ProjectKey::new(&root.join("sandbox.toml"));
                    for round in 0..60_u8 {
                        fs::write(root.join("f0"), [round, number]).unwrap();
                        let store = Store::open(path.clone()).unwrap();
                        let proxies = Proxies::from_variables(|_| None);
                        let sources = Sources { root: &root, settings, proxies: &proxies, fed: &[] };
                        let (_, layers) = inputs::prepare(sources, &store, &key, &Silent).unwrap();
                        // What a run mounts is whole as long as it lasts.
                        for (file, expected) in [(0, [round, number]), (7, [7, number]), (35, [35, 0])] {
                            let found = layers
                                .lower
                                .iter()
                                .find_map(|layer| fs::read(store.path().join(layer).join(format!("src/f{file}"))).ok());
                            assert_eq!(found.unwrap(), expected);
                        }
                    }
                })
            })
            .collect();
        let collector = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                gc(&store, &Limits::NOTHING);
            }
        });
        let verifier = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let damage = store.verify(false, &Silent).unwrap().damage;
                assert_eq!(damage, []);
            }
        });
        let results: Vec<_> = runs.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        over.store(true, Ordering::Relaxed);
        collector.join().unwrap();
        verifier.join().unwrap();
        results.into_iter().for_each(Result::unwrap);
    });
    assert_eq!(store.verify(false, &Silent).unwrap().damage, []);
    gc(&store, &Limits::NOTHING);
    assert_eq!(blobs(&store), 0);
}
