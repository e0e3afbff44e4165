//! What the fuzz targets call of the readers of archives, images, data bases of packages and ignore files.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::io::{Seek as _, Write as _};

use super::archive::{self, Contents, Whiteouts};
use super::gitignore::Rules;
use super::packages::{identify, parse_listing};
use super::{Manifest, Node, image, path_order};
use crate::digest::Digest;
use crate::store::Store;

/// After so many archives a new store is begun, so that what was unpacked does not fill the disk.
const STORE_USES: usize = 500;

struct Place {
    dir: tempfile::TempDir,
    store: Store,
    uses: usize,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(dir.path().join("store")).expect("a store");
        fs::create_dir_all(dir.path().join("layout/blobs/sha256")).expect("a layout");
        Self { dir, store, uses: 0 }
    }
}

fn with_place<T>(work: impl FnOnce(&Place) -> T) -> T {
    thread_local!(static PLACE: RefCell<Option<Place>> = const { RefCell::new(None) });
    PLACE.with_borrow_mut(|place| {
        place.take_if(|place| place.uses >= STORE_USES);
        let place = place.get_or_insert_with(Place::new);
        place.uses += 1;
        work(place)
    })
}

/// An archive, as inputs and as a root file system.
pub fn archive(bytes: &[u8]) {
    with_place(|place| {
        let mut file = tempfile::tempfile_in(place.dir.path()).expect("a file");
        file.write_all(bytes).and_then(|()| file.rewind()).expect("a file");
        if let Ok(manifest) = archive::unpack_inputs(&mut file, bytes.len() as u64, &place.store) {
            check(&manifest);
            let links = manifest.entries.iter().filter_map(|entry| match &entry.node {
                Node::Symlink { target } => Some(target),
                _ => None,
            });
            links.for_each(|target| assert!(!target.starts_with('/'), "a link that leads out: {target}"));
        }
        for whiteouts in [Whiteouts::AreFiles, Whiteouts::Hide] {
            let mut contents = Contents::default();
            // Bounded as long as nobody compresses: a root file system may have any size.
            let plain = !bytes.starts_with(&[0x1f, 0x8b]) && !bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]);
            if plain && archive::unpack(&mut &*bytes, &place.store, &mut contents, whiteouts).is_ok() {
                check(&contents.into_manifest());
            }
        }
    });
}

/// What must hold for every manifest.
fn check(manifest: &Manifest) {
    let paths: Vec<&str> = manifest.entries.iter().map(|entry| entry.path.as_str()).collect();
    assert!(paths.iter().all(|path| path.split('/').all(|name| !matches!(name, "" | "." | ".."))), "{paths:?}");
    assert!(paths.windows(2).all(|pair| path_order(pair[0], pair[1]).is_lt()), "{paths:?}");
    let whole: BTreeSet<&str> = paths.iter().copied().collect();
    let above = paths.iter().flat_map(|path| path.match_indices('/').map(|(end, _)| &path[..end]));
    above.for_each(|above| assert!(!whole.contains(above), "{above} is no directory and holds something"));
    let again = Manifest::decode(&manifest.encode()).expect("what was encoded");
    assert_eq!(&again, manifest);
    assert_eq!(again.root_digest(), manifest.root_digest());
}

/// The manifest (or index) of an image.
pub fn image(bytes: &[u8]) {
    with_place(|place| {
        let layout = place.dir.path().join("layout");
        let hex = Digest::of(bytes).hex();
        let blob = layout.join("blobs/sha256").join(&hex);
        fs::write(&blob, bytes).expect("a blob");
        if let Ok(contents) = image::unpack(&layout, &hex, &place.store) {
            check(&contents.into_manifest());
        }
        fs::remove_file(&blob).expect("the blob");
    });
}

/// The manifest of a tree as the store keeps it.
pub fn manifest(bytes: &[u8]) {
    if let Some(manifest) = Manifest::decode(bytes) {
        assert_eq!(manifest.encode(), bytes);
        let _ = manifest.root_digest();
        check_order(&manifest);
    }
}

fn check_order(manifest: &Manifest) {
    let in_order = |pair: &[super::Entry]| path_order(&pair[0].path, &pair[1].path).is_lt();
    assert!(manifest.entries.windows(2).all(in_order));
}

/// The data bases of dpkg, apk and pacman, and the list that sbx makes of them. The first byte says which.
pub fn packages(bytes: &[u8]) {
    const PLACES: [&str; 4] =
        ["var/lib/dpkg/status", "lib/apk/db/installed", "var/lib/pacman/local/a-1/desc", "var/lib/rpm/rpmdb.sqlite"];
    let Some((which, content)) = bytes.split_first() else { return };
    if let Ok(text) = str::from_utf8(content) {
        let _ = parse_listing(text);
    }
    with_place(|place| {
        let host = tempfile::tempdir_in(place.dir.path()).expect("a directory");
        let path = host.path().join(PLACES[usize::from(*which) % PLACES.len()]);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        fs::write(&path, content).expect("a file");
        match identify(host.path(), &place.store) {
            Ok(Some(digest)) => {
                let list = place.store.read_blob(&digest).expect("the list");
                parse_listing(str::from_utf8(&list).expect("UTF-8")).expect("a list of our own");
            }
            Ok(None) => {}
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    });
}

/// An ignore file, and after its first empty line paths to be judged.
pub fn ignore_rules(bytes: &[u8]) {
    let end = bytes.windows(2).position(|pair| pair == b"\n\n").unwrap_or(bytes.len());
    let rules = Rules::new(&bytes[..end]);
    for path in String::from_utf8_lossy(&bytes[end..]).lines().filter(|path| !path.is_empty()).take(20) {
        let _ = (rules.verdict(path, false), rules.verdict(path, true));
    }
}
