use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use super::*;
use crate::digest::Digest;
use crate::inputs::Silent;

struct Fixture {
    dir: tempfile::TempDir,
    store: Store,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("store")).unwrap();
        Self { dir, store }
    }

    fn prepare(&self, rootfs: &Rootfs) -> Result<(RootFs, Layers), RootFsError> {
        let base = fs::canonicalize(self.dir.path()).unwrap();
        prepare(rootfs, &base, &self.store, &Silent).map(Option::unwrap)
    }

    fn tar(&self, bytes: &[u8]) -> Result<(RootFs, Layers), RootFsError> {
        fs::write(self.dir.path().join("root.tar"), bytes).unwrap();
        self.prepare(&Rootfs::Tar("root.tar".into()))
    }

    /// Puts a blob into the image layout and gives its digest.
    fn blob(&self, bytes: &[u8]) -> String {
        let hex = Digest::of(bytes).hex();
        let dir = self.dir.path().join("layout/blobs/sha256");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(&hex), bytes).unwrap();
        hex
    }

    /// An image of these layers; gives its manifest's digest.
    fn image(&self, layers: &[&[u8]]) -> String {
        let layers: Vec<_> = layers
            .iter()
            .map(|layer| serde_json::json!({"digest": format!("sha256:{}", self.blob(layer)), "size": layer.len()}))
            .collect();
        self.blob(serde_json::json!({"schemaVersion": 2, "layers": layers}).to_string().as_bytes())
    }

    fn take_image(&self, sha256: &str) -> Result<(RootFs, Layers), RootFsError> {
        self.prepare(&Rootfs::Image { layout: "layout".into(), sha256: sha256.to_owned() })
    }
}

/// What an archive of a test holds.
enum Item<'a> {
    File(&'a str, u32, &'a str),
    Dir(&'a str),
    Symlink(&'a str, &'a str),
    Hard(&'a str, &'a str),
    Fifo(&'a str),
}

fn tar_of(items: &[Item<'_>]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for item in items {
        let (path, kind, mode, link, text) = match *item {
            Item::File(path, mode, text) => (path, tar::EntryType::Regular, mode, "", text),
            Item::Dir(path) => (path, tar::EntryType::Directory, 0o755, "", ""),
            Item::Symlink(path, link) => (path, tar::EntryType::Symlink, 0o777, link, ""),
            Item::Hard(path, link) => (path, tar::EntryType::Link, 0o644, link, ""),
            Item::Fifo(path) => (path, tar::EntryType::Fifo, 0o644, "", ""),
        };
        let mut header = tar::Header::new_gnu();
        // Written as it is: the library's own setters refuse the names that must be refused here.
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(text.len() as u64);
        header.set_cksum();
        archive.append(&header, text.as_bytes()).unwrap();
    }
    archive.into_inner().unwrap()
}

/// One line for each entry: path, kind, content.
fn listing(rootfs: &RootFs) -> Vec<String> {
    let line = |entry: &crate::inputs::Entry| match &entry.node {
        Node::File { digest, executable } => {
            format!("{} {} {}", entry.path, if *executable { "x" } else { "f" }, &digest.hex()[..6])
        }
        Node::Symlink { target } => format!("{} -> {target}", entry.path),
        Node::EmptyDirectory => format!("{}/", entry.path),
    };
    rootfs.manifest.entries.iter().map(line).collect()
}

fn hex(text: &str) -> String {
    Digest::of(text.as_bytes()).hex()[..6].to_owned()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_host_root_is_no_tree() {
    let fixture = Fixture::new();
    assert_eq!(prepare(&Rootfs::default(), fixture.dir.path(), &fixture.store, &Silent).unwrap(), None);
}

#[test]
fn a_directory_is_taken_as_it_will_be_shown() {
    let fixture = Fixture::new();
    let root = fixture.dir.path().join("rootfs");
    fs::create_dir_all(root.join("usr/bin")).unwrap();
    fs::create_dir_all(root.join("tmp")).unwrap();
    fs::write(root.join("usr/bin/su"), "su").unwrap();
    fs::set_permissions(root.join("usr/bin/su"), fs::Permissions::from_mode(0o4755)).unwrap();
    symlink("usr/bin", root.join("bin")).unwrap();
    symlink("/etc/../../outside", root.join("far")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    let take = || fixture.prepare(&Rootfs::Dir("./rootfs".into())).unwrap();
    let (taken, layers) = take();
    assert_eq!(
        listing(&taken),
        [
            "bin -> usr/bin".to_owned(),
            "far -> /etc/../../outside".into(),
            "tmp/".into(),
            format!("usr/bin/su x {}", hex("su"))
        ]
    );
    assert_eq!(taken.skipped, 1);
    let su = fixture.store.path().join(&layers.lower[0]).join("usr/bin/su");
    assert_eq!(fs::metadata(su).unwrap().mode() & 0o7777, 0o755);
    assert!(layers.lower[0].starts_with("roots/"));
    assert_eq!(take(), (taken, layers));
}

#[test]
fn a_root_and_the_inputs_are_never_the_same_inode() {
    let fixture = Fixture::new();
    let (taken, root) = fixture.tar(&tar_of(&[Item::File("a", 0o644, "same")])).unwrap();
    fixture.store.put_bytes(b"same", false).unwrap();
    let src = crate::path::GuestPath::new("/src").unwrap();
    let inputs = fixture.store.materialise(&taken.manifest, Some(&src), None).unwrap();
    let inode = |layers: &Layers, path: &str| {
        fs::metadata(fixture.store.path().join(&layers.lower[0]).join(path)).unwrap().ino()
    };
    assert_ne!(inode(&root, "a"), inode(&inputs, "src/a"));
}

#[test]
fn every_compression_gives_the_same() {
    let plain = tar_of(&[
        Item::Dir("./"),
        Item::Dir("./etc/"),
        Item::File("./etc/a", 0o4755, "one"),
        Item::Hard("./b", "./etc/a"),
        Item::Symlink("c", "/etc/a"),
        Item::Fifo("fifo"),
        Item::File("etc/a", 0o600, "two"),
        Item::Dir("empty"),
    ]);
    let expected =
        [format!("b x {}", hex("one")), "c -> /etc/a".into(), "empty/".into(), format!("etc/a f {}", hex("two"))];
    for bytes in [plain.clone(), gzip(&plain), zstd::encode_all(plain.as_slice(), 1).unwrap()] {
        let fixture = Fixture::new();
        let (taken, layers) = fixture.tar(&bytes).unwrap();
        assert_eq!(listing(&taken), expected);
        assert_eq!(taken.skipped, 1);
        let path = fixture.store.path().join(&layers.lower[0]).join("etc/a");
        assert_eq!(fs::read_to_string(path).unwrap(), "two");
    }
}

#[test]
fn an_archive_is_unpacked_once() {
    let fixture = Fixture::new();
    fixture.tar(&tar_of(&[Item::File("a", 0o644, "one")])).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(80));
    let take = || fixture.prepare(&Rootfs::Tar("root.tar".into())).unwrap();
    let first = take();
    let memory = fixture.store.path().join("rootfs");
    assert_eq!(fs::read_dir(&memory).unwrap().count(), 1);
    assert_eq!(take(), first);
    // Without its blobs and its tree the memory is worth nothing, and the archive is unpacked again.
    for dir in ["blobs", "roots"] {
        fs::remove_dir_all(fixture.store.path().join(dir)).unwrap();
    }
    assert_eq!(take(), first);
    assert!(fixture.store.path().join(&first.1.lower[0]).join("a").exists());
    let (changed, _) = fixture.tar(&tar_of(&[Item::File("a", 0o644, "two")])).unwrap();
    assert_ne!(changed, first.0);
}

#[test]
fn hostile_names_are_refused() {
    let cases: [(&[Item<'_>], &str); 7] = [
        (&[Item::File("/etc/passwd", 0o644, "")], "/etc/passwd: the name leaves the archive's tree"),
        (&[Item::File("../x", 0o644, "")], "../x: the name leaves the archive's tree"),
        (&[Item::File("a/../../x", 0o644, "")], "a/../../x: the name leaves the archive's tree"),
        (
            &[Item::Symlink("etc", "/etc"), Item::File("etc/passwd", 0o644, "")],
            "etc/passwd: the name leaves the archive's tree",
        ),
        (&[Item::Hard("x", "../../etc/shadow")], "../../etc/shadow: the name leaves the archive's tree"),
        (&[Item::Hard("x", "missing")], "x: the link's target `missing` can't be stored"),
        (&[Item::File("a\u{1b}b", 0o644, "")], "a\\u{1b}b: the name has a control character"),
    ];
    for (items, expected) in cases {
        let error = Fixture::new().tar(&tar_of(items)).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn a_broken_archive_is_an_error() {
    let whole = tar_of(&[Item::File("a", 0o644, &"text".repeat(1000))]);
    for bytes in [&whole[..700], &gzip(&whole)[..40], b"not an archive at all".as_slice()] {
        let error = Fixture::new().tar(bytes).unwrap_err();
        assert!(matches!(error, RootFsError::Archive { .. }), "{error}");
    }
}

#[test]
fn the_layers_of_an_image_lie_over_each_other() {
    let fixture = Fixture::new();
    let sha256 = fixture.image(&[
        &tar_of(&[
            Item::File("etc/a", 0o644, "a"),
            Item::File("etc/b", 0o644, "b"),
            Item::File("opt/x/y", 0o644, "y"),
            Item::File("var/old", 0o644, "old"),
            Item::Symlink("lib", "usr/lib"),
            Item::File("gone", 0o644, ""),
        ]),
        &gzip(&tar_of(&[
            Item::File("etc/.wh.a", 0o644, ""),
            Item::File(".wh.gone", 0o644, ""),
            Item::File(".wh.opt", 0o644, ""),
            Item::File("opt/z", 0o644, "z"),
            Item::File("var/new", 0o644, "new"),
            Item::File("var/.wh..wh..opq", 0o644, ""),
            Item::Dir("lib"),
            Item::File("lib/c", 0o644, "c"),
            Item::Hard("hard", "etc/b"),
        ])),
    ]);
    let (taken, layers) = fixture.take_image(&sha256).unwrap();
    let expected = [
        format!("etc/b f {}", hex("b")),
        format!("hard f {}", hex("b")),
        format!("lib/c f {}", hex("c")),
        format!("opt/z f {}", hex("z")),
        format!("var/new f {}", hex("new")),
    ];
    assert_eq!(listing(&taken), expected);
    // The digest says everything: the layout is not needed again.
    fs::remove_dir_all(fixture.dir.path().join("layout/blobs")).unwrap();
    assert_eq!(fixture.take_image(&sha256).unwrap(), (taken, layers));
}

#[test]
fn a_layer_does_not_write_through_a_link_of_another() {
    let fixture = Fixture::new();
    let link = tar_of(&[Item::Symlink("lib", "usr/lib")]);
    let sha256 = fixture.image(&[&link, &tar_of(&[Item::File("lib/c", 0o644, "c")])]);
    let error = fixture.take_image(&sha256).unwrap_err();
    assert!(format!("{error:?}").contains("lib/c"), "{error:?}");
}

#[test]
fn an_index_leads_to_the_image_of_this_machine() {
    let fixture = Fixture::new();
    let image = fixture.image(&[&tar_of(&[Item::File("a", 0o644, "a")])]);
    let architecture = crate::inputs::image::architecture();
    let index = |architecture: &str| {
        let platform = serde_json::json!({"os": "linux", "architecture": architecture});
        let manifest = serde_json::json!({"digest": format!("sha256:{image}"), "platform": platform});
        fixture.blob(serde_json::json!({"manifests": [manifest]}).to_string().as_bytes())
    };
    let (taken, _) = fixture.take_image(&index(architecture)).unwrap();
    assert_eq!(listing(&taken), [format!("a f {}", hex("a"))]);
    let error = fixture.take_image(&index("vax")).unwrap_err();
    assert!(matches!(error, RootFsError::Image(ImageError::NoPlatform { .. })), "{error}");
}

#[test]
fn an_image_is_what_its_digests_say() {
    let fixture = Fixture::new();
    let layer = tar_of(&[Item::File("a", 0o644, "a")]);
    let sha256 = fixture.image(&[&layer]);
    let damage = |hex: &str| {
        let path = fixture.dir.path().join("layout/blobs/sha256").join(hex);
        let whole = fs::read(&path).unwrap();
        let mut damaged = whole.clone();
        *damaged.last_mut().unwrap() ^= 1;
        fs::write(&path, damaged).unwrap();
        let error = fixture.take_image(&sha256).unwrap_err();
        assert!(matches!(error, RootFsError::Image(ImageError::Digest { .. })), "{error}");
        fs::write(&path, whole).unwrap();
    };
    damage(&sha256);
    damage(&Digest::of(&layer).hex());
    fixture.take_image(&sha256).unwrap();
    let outside = fixture.blob(br#"{"layers": [{"digest": "sha256:../../../../etc/passwd"}]}"#);
    let error = fixture.take_image(&outside).unwrap_err();
    assert!(matches!(error, RootFsError::Image(ImageError::NotSha256 { .. })), "{error}");
}
