use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::Command;

use super::*;
use crate::inputs::{Entry, Manifest, Node, path_order};
use crate::path::GuestPath;

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("store")).unwrap();
    (dir, store)
}

fn src() -> GuestPath {
    GuestPath::new("/src").unwrap()
}

fn key() -> ProjectKey {
    ProjectKey::new(Path::new("/project/sandbox.toml"))
}

fn manifest(entries: &BTreeMap<String, Node>) -> Manifest {
    let mut entries: Vec<_> =
        entries.iter().map(|(path, node)| Entry { path: path.clone(), node: node.clone() }).collect();
    entries.sort_by(|one, other| path_order(&one.path, &other.path));
    Manifest { entries }
}

fn file(store: &Store, text: &str, executable: bool) -> Node {
    Node::File { digest: store.put_bytes(text.as_bytes(), executable).unwrap(), executable }
}

/// Says why a test does nothing; a failure where every test must run.
fn skip(reason: &str) {
    assert!(std::env::var_os("SBX_TEST_STRICT").is_none(), "{reason}");
    writeln!(io::stderr(), "skipped: {reason}").unwrap();
}

fn temp_files(store: &Store) -> usize {
    fs::read_dir(store.path().join("tmp")).map_or(0, Iterator::count)
}

#[test]
fn a_store_is_private_and_opens_again() {
    let (_dir, store) = store();
    let mode = |store: &Store| fs::metadata(store.path()).unwrap().mode() & 0o7777;
    assert_eq!(mode(&store), 0o700);
    fs::set_permissions(store.path(), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(mode(&Store::open(store.path().to_owned()).unwrap()), 0o700);
}

#[test]
fn what_is_not_a_store_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("thesis.tex"), "").unwrap();
    let before = fs::metadata(dir.path()).unwrap().mode();
    assert!(matches!(Store::open(dir.path().to_owned()), Err(StoreError::NotAStore { .. })));
    assert_eq!(fs::metadata(dir.path()).unwrap().mode(), before);
    let (_dir, store) = store();
    fs::write(store.path().join("version"), "2\n").unwrap();
    assert!(matches!(Store::open(store.path().to_owned()), Err(StoreError::Version { .. })));
}

#[test]
fn another_users_store_is_refused() {
    if sys::files::effective_uid() == 0 {
        let (_dir, store) = store();
        std::os::unix::fs::chown(store.path(), Some(61234), None).unwrap();
        let error = Store::open(store.path().to_owned()).unwrap_err();
        assert!(matches!(error, StoreError::ForeignOwner { owner: 61234, user: 0, .. }), "{error}");
    } else {
        let error = Store::open(PathBuf::from("/")).unwrap_err();
        assert!(matches!(error, StoreError::ForeignOwner { owner: 0, .. }), "{error}");
    }
}

#[test]
fn blobs_have_one_mode_and_one_time() {
    let (_dir, store) = store();
    for (executable, mode) in [(false, 0o644), (true, 0o755)] {
        let digest = store.put_bytes(b"text", executable).unwrap();
        let metadata = store.open_blob(&digest, executable).unwrap().metadata().unwrap();
        assert_eq!(metadata.mode() & 0o7777, mode);
        assert_eq!((metadata.mtime(), metadata.mtime_nsec(), metadata.len()), (MTIME, 0, 4));
    }
    assert_eq!(temp_files(&store), 0);
}

#[test]
fn damaged_blobs_are_missing_and_put_again() {
    let (_dir, store) = store();
    let digest = store.put_bytes(b"text", false).unwrap();
    let blob = store.blob_path(&digest, Variant { executable: false, family: Family::Inputs }, 0);
    let damages: [fn(&Path); 4] = [
        |path| fs::remove_file(path).unwrap(),
        |path| fs::write(path, "tex").unwrap(),
        |path| fs::write(path, "evil").unwrap(),
        |path| fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap(),
    ];
    for damage in damages {
        damage(&blob);
        let tree = manifest(&BTreeMap::from([("a".to_owned(), Node::File { digest, executable: false })]));
        let error = store.materialise(&tree, Some(&src()), None).unwrap_err();
        assert!(matches!(&error, StoreError::Missing { digests } if digests == &[digest]), "{error}");
        assert!(matches!(store.open_blob(&digest, false), Err(StoreError::Missing { .. })));
        store.put_bytes(b"text", false).unwrap();
        assert_eq!(fs::read(&blob).unwrap(), b"text");
    }
    assert_eq!(temp_files(&store), 0);
}

#[test]
fn large_files_are_hashed_as_they_are_copied() {
    let (dir, store) = store();
    for size in [0, 1, 256 * 1024 - 1, 256 * 1024, 256 * 1024 + 1, 3 * 1024 * 1024 + 7] {
        let bytes: Vec<u8> = (0..size).map(|index: u32| index.to_le_bytes()[1] ^ index.to_le_bytes()[0]).collect();
        let path = dir.path().join("file");
        fs::write(&path, &bytes).unwrap();
        let mut file = fs::File::open(&path).unwrap();
        let variant = Variant { executable: true, family: Family::Inputs };
        let digest = store.put_file(&mut file, variant, &mut Vec::new()).unwrap();
        assert_eq!(digest, Digest::of(&bytes));
        assert_eq!(fs::read(store.blob_path(&digest, variant, 0)).unwrap(), bytes);
    }
    assert_eq!(temp_files(&store), 0);
}

#[test]
fn equal_files_are_never_the_same_inode() {
    let (_dir, store) = store();
    let same = file(&store, "same", false);
    let mut entries: BTreeMap<_, _> =
        (0..200).map(|index| (format!("f{index}"), file(&store, &format!("{index}"), false))).collect();
    entries.extend(["a", "b", "c"].map(|name| (name.to_owned(), same.clone())));
    let full = store.materialise(&manifest(&entries), Some(&src()), Some(&key())).unwrap();
    entries.insert("d".to_owned(), same);
    let delta = store.materialise(&manifest(&entries), Some(&src()), Some(&key())).unwrap();
    assert_eq!(delta.lower.len(), 2, "{delta:?}");
    assert_eq!(delta.lower[1], full.lower[0]);
    let inode = |layer: &str, name: &str| fs::metadata(store.path().join(layer).join("src").join(name)).unwrap().ino();
    let mut inodes = vec![inode(&delta.lower[0], "d")];
    inodes.extend(["a", "b", "c"].map(|name| inode(&full.lower[0], name)));
    inodes.sort_unstable();
    inodes.dedup();
    assert_eq!(inodes.len(), 4);
}

#[test]
fn each_task_has_its_own_base() {
    let (_dir, store) = store();
    let task = |name: &str, extra: &str| {
        let mut entries: BTreeMap<_, _> =
            (0..200).map(|index| (format!("{name}/{index}"), file(&store, &format!("{name}{index}"), false))).collect();
        entries.insert("extra".to_owned(), file(&store, extra, false));
        store.materialise(&manifest(&entries), Some(&src()), Some(&key())).unwrap().lower
    };
    let full = [task("build", "one"), task("test", "one")];
    assert!(full.iter().all(|lower| lower.len() == 1), "{full:?}");
    for (name, full) in ["build", "test"].iter().zip(&full) {
        let delta = task(name, "two");
        assert_eq!((delta.len(), &delta[1]), (2, &full[0]), "{name}");
        assert_eq!(task(name, "two"), delta);
    }
    let elsewhere = GuestPath::new("/work").unwrap();
    let entries = BTreeMap::from([("a".to_owned(), file(&store, "a", false))]);
    assert_eq!(store.materialise(&manifest(&entries), Some(&elsewhere), Some(&key())).unwrap().lower.len(), 1);
}

#[test]
fn an_inode_with_all_its_links_is_copied() {
    let (_dir, store) = store();
    let node = file(&store, "popular", true);
    let Node::File { digest, .. } = node else { unreachable!() };
    let variant = Variant { executable: true, family: Family::Inputs };
    let blob = store.blob_path(&digest, variant, 0);
    let links = store.path().join("tmp/links");
    fs::create_dir_all(&links).unwrap();
    let full = (0..200_000).find_map(|index| fs::hard_link(&blob, links.join(index.to_string())).err());
    let Some(error) = full else {
        return skip("this file system counts more than 200000 links");
    };
    assert_eq!(error.kind(), io::ErrorKind::TooManyLinks);
    let tree = manifest(&BTreeMap::from([("a".to_owned(), node)]));
    let layers = store.materialise(&tree, Some(&src()), None).unwrap();
    let path = store.path().join(&layers.lower[0]).join("src/a");
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!((metadata.nlink(), metadata.mode() & 0o7777, metadata.mtime()), (1, 0o755, MTIME));
    assert_eq!(fs::read(path).unwrap(), b"popular");
}

#[test]
fn many_at_once_make_one_tree() {
    let (_dir, store) = store();
    let path = store.path().to_owned();
    let layers: Vec<_> = std::thread::scope(|scope| {
        let make = |_| {
            let path = path.clone();
            scope.spawn(move || {
                let store = Store::open(path).unwrap();
                let entries = (0..40).map(|index| (format!("d{}/f", index), file(&store, "same", false))).collect();
                store.materialise(&manifest(&entries), Some(&src()), Some(&key())).unwrap()
            })
        };
        let threads: Vec<_> = (0..32).map(make).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(layers.iter().all(|other| *other == layers[0]));
    assert_eq!(fs::read_dir(store.path().join(&layers[0].lower[0]).join("src")).unwrap().count(), 40);
    assert_eq!(temp_files(&store), 0);
}

#[test]
fn what_dead_processes_left_is_swept_after_a_day_only() {
    let (_dir, store) = store();
    fs::create_dir_all(store.path().join("tmp/young/dir")).unwrap();
    fs::write(store.path().join("tmp/old"), "").unwrap();
    Store::open(store.path().to_owned()).unwrap().put_bytes(b"", false).unwrap();
    assert_eq!(temp_files(&store), 2);
    sweep(&store.path().join("tmp"), SystemTime::now() + TEMP_LIFE - Duration::from_mins(1));
    assert_eq!(temp_files(&store), 2);
    sweep(&store.path().join("tmp"), SystemTime::now() + TEMP_LIFE + Duration::from_mins(1));
    assert_eq!(temp_files(&store), 0);
}

#[test]
fn a_full_disk_is_an_error_and_leaves_nothing() {
    // RLIMIT_FSIZE would kill with SIGXFSZ; a tmpfs of 64 KiB in a mount namespace fills up honestly.
    let output = in_namespace(&[
        "sh",
        "-c",
        "mount -t tmpfs -o size=64k none /mnt && exec \"$0\" \"$@\"",
        &this_test("on_a_small_disk")[0],
    ])
    .args(&this_test("on_a_small_disk")[1..])
    .env("SBX_TEST_SMALL_DISK", "/mnt")
    .output()
    .unwrap();
    assert_passed(&output);
}

#[test]
#[ignore = "run by a_full_disk_is_an_error_and_leaves_nothing, which mounts the disk"]
fn on_a_small_disk() {
    let disk = std::env::var_os("SBX_TEST_SMALL_DISK").unwrap();
    let store = Store::open(PathBuf::from(disk).join("store")).unwrap();
    let error = store.put_bytes(&vec![7; 1 << 20], false).unwrap_err();
    assert!(matches!(&error, StoreError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull), "{error}");
    assert_eq!(temp_files(&store), 0);
    store.put_bytes(b"small", false).unwrap();
}

/// How this test binary runs one test of this module.
fn this_test(name: &str) -> Vec<String> {
    let exe = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
    vec![exe, "--exact".to_owned(), format!("store::tests::{name}"), "--include-ignored".to_owned()]
}

fn assert_passed(output: &std::process::Output) {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{output:?}");
}

/// `command` as root of a user namespace with a mount namespace of its own.
fn in_namespace(command: &[&str]) -> Command {
    let mut unshare = Command::new("unshare");
    unshare.arg("-Urm").args(command);
    unshare
}

/// A small random number generator: the same edits in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(bound).unwrap()).unwrap()
    }
}

fn remove_at_or_below(entries: &mut BTreeMap<String, Node>, path: &str) {
    entries.retain(|other, _| other != path && !other.starts_with(&format!("{path}/")));
}

/// One edit as a developer might make it: a new file, a changed one, a removed directory, one kind in place of another.
fn edit(entries: &mut BTreeMap<String, Node>, store: &Store, random: &mut Random) {
    let depth = 1 + random.below(3);
    let path = (0..depth).map(|_| format!("n{}", random.below(4))).collect::<Vec<_>>().join("/");
    for (end, _) in path.match_indices('/') {
        entries.remove(&path[..end]);
    }
    remove_at_or_below(entries, &path);
    match random.below(6) {
        0 => {}
        1 => drop(entries.insert(path, Node::Symlink { target: format!("n{}", random.below(4)) })),
        2 => drop(entries.insert(path, Node::EmptyDirectory)),
        _ => {
            let text = format!("{}", random.below(3));
            let node = file(store, &text, random.below(2) == 0);
            entries.insert(path, node);
        }
    }
}

const LIST: &str =
    "cd \"$1\" && find . -printf '%p %y %m %T@ %l\\n' | sort && find . -type f -exec sha256sum {} + | sort";

#[test]
fn a_delta_shows_what_the_full_tree_shows() {
    let (_dir, store) = store();
    let (_other_dir, other) = self::store();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut base = BTreeMap::new();
    for index in 0..300 {
        base.insert(format!("keep/{index}"), file(&store, &format!("{index}"), false));
        file(&other, &format!("{index}"), false);
    }
    for _ in 0..60 {
        edit(&mut base, &store, &mut random);
    }
    let full = store.materialise(&manifest(&base), Some(&src()), Some(&key())).unwrap();
    let (mut deltas, mut script) = (0, String::from("set -e\n"));
    let mut expected = String::new();
    for _ in 0..60 {
        let mut entries = base.clone();
        for _ in 0..=random.below(12) {
            edit(&mut entries, &store, &mut random);
        }
        for text in ["0", "1", "2"] {
            file(&other, text, false);
            file(&other, text, true);
        }
        let tree = manifest(&entries);
        let layers = store.materialise(&tree, Some(&src()), Some(&key())).unwrap();
        assert_eq!(store.manifest_of(&layers.root), Some((src(), tree.clone())));
        let reference = other.materialise(&tree, Some(&src()), None).unwrap();
        if layers.lower.len() == 2 {
            deltas += 1;
            assert_eq!(layers.lower[1], full.lower[0], "never a delta over a delta");
        }
        let lower: Vec<_> = layers.lower.iter().map(|layer| layer.as_str()).chain(["empty"]).collect();
        script +=
            &format!("mount -t overlay -o userxattr,lowerdir={} overlay mnt; list mnt; umount mnt\n", lower.join(":"));
        expected += &list(&other.path().join(&reference.lower[0]));
    }
    assert!(deltas >= 40, "only {deltas} deltas");
    for dir in ["empty", "mnt"] {
        fs::create_dir(store.path().join(dir)).unwrap();
    }
    let output = in_namespace(&["sh", "-c"])
        .arg(format!("list() {{ sh -c '{}' sh \"$1\"; }}\n{script}", LIST.replace('\'', "'\\''")))
        .current_dir(store.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let shown = String::from_utf8(output.stdout).unwrap();
    if let Some((one, other)) = shown.lines().zip(expected.lines()).find(|(one, other)| one != other) {
        panic!("the overlay shows `{one}`, the full tree `{other}`");
    }
    assert_eq!(shown.len(), expected.len());
}

fn list(dir: &Path) -> String {
    let output = Command::new("sh").args(["-c", LIST, "sh"]).arg(dir).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn an_ordinary_user_has_the_same() {
    if sys::files::effective_uid() != 0 {
        return;
    }
    for name in ["a_delta_shows_what_the_full_tree_shows", "equal_files_are_never_the_same_inode"] {
        let output = Command::new("setpriv")
            .args(["--reuid", "61234", "--regid", "61234", "--clear-groups"])
            .args(this_test(name))
            .output()
            .unwrap();
        assert_passed(&output);
    }
}

#[test]
fn links_into_a_tree_keep_their_text_and_time() {
    let (_dir, store) = store();
    let tree = manifest(&BTreeMap::from([("l".to_owned(), Node::Symlink { target: "../../far".to_owned() })]));
    let layers = store.materialise(&tree, None, None).unwrap();
    let path = store.path().join(&layers.lower[0]).join("l");
    assert_eq!(fs::read_link(&path).unwrap(), Path::new("../../far"));
    assert_eq!(fs::symlink_metadata(&path).unwrap().mtime(), MTIME);
}

#[test]
fn a_tree_is_read_back_or_not_at_all() {
    let (_dir, store) = store();
    let mut entries: BTreeMap<_, _> =
        (0..200).map(|index| (format!("d/f{index}"), file(&store, &format!("{index}"), false))).collect();
    let full = store.materialise(&manifest(&entries), Some(&src()), Some(&key())).unwrap();
    assert_eq!(store.manifest_of(&full.root), Some((src(), manifest(&entries))));
    assert_eq!(store.manifest_of(&Digest::of(b"another")), None);
    entries.remove("d/f7");
    let delta = store.materialise(&manifest(&entries), Some(&src()), Some(&key())).unwrap();
    assert_eq!((delta.lower.len(), &delta.lower[1]), (2, &full.lower[0]));
    assert_eq!(store.manifest_of(&delta.root), Some((src(), manifest(&entries))));
    // One bit of either is enough to know nothing.
    for path in [store.manifest_path(&delta.lower[0]), store.manifest_path(&full.lower[0])] {
        let whole = fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        fs::write(&path, flipped).unwrap();
        assert_eq!(store.manifest_of(&delta.root), None);
        fs::write(&path, whole).unwrap();
    }
    assert!(store.manifest_of(&delta.root).is_some());
}

/// What a loss of power, or a hand, can do to a layer at this path.
type Damage = fn(&Path);

const DAMAGES: [Damage; 8] = [
    |layer| fs::File::options().write(true).open(layer.join("src/d/f7")).unwrap().set_len(0).unwrap(),
    |layer| fs::remove_file(layer.join("src/d/f7")).unwrap(),
    |layer| fs::write(layer.join("src/more"), "").unwrap(),
    |layer| fs::set_permissions(layer.join("src/d/f7"), fs::Permissions::from_mode(0o600)).unwrap(),
    |layer| fs::set_permissions(layer.join("src/d"), fs::Permissions::from_mode(0o700)).unwrap(),
    |layer| sys::files::set_times_at(&layer.join("src/d"), 5).unwrap(),
    |layer| {
        fs::remove_file(layer.join("src/link")).unwrap();
        std::os::unix::fs::symlink("elsewhere", layer.join("src/link")).unwrap();
        sys::files::set_times_at(&layer.join("src/link"), MTIME).unwrap();
    },
    |layer| fs::remove_dir_all(layer.join("src")).unwrap(),
];

#[test]
fn after_a_new_start_of_the_machine_a_damaged_layer_is_made_again() {
    for (number, damage) in DAMAGES.into_iter().enumerate() {
        let (_dir, store) = store();
        let base: BTreeMap<_, _> =
            (0..200).map(|index| (format!("keep/f{index}"), file(&store, &format!("k{index}"), false))).collect();
        store.materialise(&manifest(&base), Some(&src()), Some(&key())).unwrap();
        let files = || (0..9).map(|index| (format!("d/f{index}"), file(&store, &format!("{index}"), index == 7)));
        let link = || [("link".to_owned(), Node::Symlink { target: "d/f7".into() })];
        let full: BTreeMap<_, _> = files().chain(link()).collect();
        let delta: BTreeMap<_, _> =
            base.iter().map(|(path, node)| (path.clone(), node.clone())).chain(full.clone()).collect();
        for entries in [full, delta] {
            let make = || store.materialise(&manifest(&entries), Some(&src()), Some(&key()));
            let layers = make().unwrap();
            let place = store.path().join(&layers.lower[0]);
            let inode = || fs::metadata(&place).unwrap().ino();
            let (first, marker) = (inode(), store.marker(&layers.lower[0]));
            // Keeps its number from being used again.
            let _pinned = fs::File::open(&place).unwrap();
            drop(layers);

            fs::write(&marker, "another boot").unwrap();
            make().unwrap();
            assert_eq!(inode(), first, "{number}: a whole layer stays");
            assert_eq!(fs::read_to_string(&marker).unwrap(), sys::proc::boot_id().unwrap());

            damage(&place);
            make().unwrap();
            assert_eq!(inode(), first, "{number}: nothing is looked at in the boot of the last look");

            fs::write(&marker, "another boot").unwrap();
            let layers = match make() {
                // The blob is the same inode as the damaged file.
                Err(StoreError::Missing { digests }) => {
                    assert_eq!(digests, [Digest::of(b"7")], "{number}");
                    files().for_each(drop);
                    make().unwrap()
                }
                made => made.unwrap(),
            };
            assert_ne!(inode(), first, "{number}: it was made again");
            let place = store.path().join(&layers.lower[0]);
            assert_eq!(fs::read(place.join("src/d/f7")).unwrap(), b"7");
            assert_eq!(fs::read_link(place.join("src/link")).unwrap(), Path::new("d/f7"));
            assert!(!place.join("src/more").exists());
            assert_eq!(fs::metadata(place.join("src/d")).unwrap().mode() & 0o7777, 0o755);
            assert_eq!(store.manifest_of(&layers.root), Some((src(), manifest(&entries))));
            // A test beside this one that starts a process has the layer's lock for a moment, and then the sweep has it.
            let mut left = fs::read_dir(store.path().join("tmp")).unwrap().map(|entry| entry.unwrap().file_name());
            assert!(left.all(|name| name.to_string_lossy().starts_with("gone-")));
        }
    }
}

#[test]
fn a_layer_that_is_used_loses_its_name_only() {
    let (_dir, store) = store();
    let tree = manifest(&BTreeMap::from([("a".to_owned(), file(&store, "text", false))]));
    let first = store.materialise(&tree, Some(&src()), None).unwrap();
    let mut second = store.materialise(&tree, Some(&src()), None).unwrap();
    let place = store.path().join(&first.lower[0]);
    store.remove_layer(&first.lower[0], &second.held[0]).unwrap();
    assert!(!place.exists() && !store.marker(&first.lower[0]).exists());
    let moved = fs::read_dir(store.path().join("tmp")).unwrap().next().unwrap().unwrap().path();
    assert_eq!(fs::read(moved.join("layer/src/a")).unwrap(), b"text");
    // Whoever comes later makes it again, and what is held there is another one.
    let third = store.materialise(&tree, Some(&src()), None).unwrap();
    assert!(place.exists());
    store.remove_layer(&first.lower[0], &second.held[0]).unwrap();
    assert!(place.exists(), "the name is another one's");
    drop(first);
    assert!(second.held.remove(0).alone());
    store.remove_layer(&third.lower[0], &third.held[0]).unwrap();
    assert!(!place.exists());
    assert_eq!(temp_files(&store), 1, "what nobody else held is removed at once");
}

#[test]
fn a_use_of_a_layer_is_noted_beside_it() {
    let (_dir, store) = store();
    let tree = manifest(&BTreeMap::from([("a".to_owned(), file(&store, "text", false))]));
    let layers = store.materialise(&tree, Some(&src()), None).unwrap();
    let marker = store.marker(&layers.lower[0]);
    let day_ago = SystemTime::now() - Duration::from_hours(24);
    fs::File::open(&marker).unwrap().set_modified(day_ago).unwrap();
    store.materialise(&tree, Some(&src()), None).unwrap();
    assert!(fs::metadata(&marker).unwrap().modified().unwrap() > day_ago + Duration::from_hours(23));
}
