use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use super::*;
use crate::config::model::{Gitignore, Pattern};
use crate::path::RelPath;
use crate::store::MTIME;

/// A project directory and a store.
struct Fixture {
    _dir: tempfile::TempDir,
    root: PathBuf,
    store: Store,
    key: ProjectKey,
    settings: Settings,
}

impl Fixture {
    fn new(patterns: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("project");
        fs::create_dir(&root).unwrap();
        let store = Store::open(dir.path().join("store")).unwrap();
        let key = ProjectKey::new(&root.join("sandbox.toml"));
        let mut fixture = Self { _dir: dir, root, store, key, settings: Settings::default() };
        fixture.patterns(patterns);
        fixture
    }

    fn patterns(&mut self, patterns: &[&str]) {
        let pattern = |text: &&str| Pattern {
            glob: RelPath::new(text.strip_prefix('!').unwrap_or(text)).unwrap(),
            negated: text.starts_with('!'),
        };
        self.settings.inputs = patterns.iter().map(pattern).collect();
    }

    fn write(&self, path: &str, text: &str) -> &Self {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn mkdir(&self, path: &str) -> &Self {
        fs::create_dir_all(self.root.join(path)).unwrap();
        self
    }

    fn link(&self, target: &str, path: &str) -> &Self {
        symlink(target, self.root.join(path)).unwrap();
        self
    }

    fn collect(&self) -> Result<Collected, InputError> {
        collect(&self.root, &self.settings, &self.store, &self.key, &Silent)
    }

    fn paths(&self) -> Vec<String> {
        self.collect().unwrap().manifest.entries.into_iter().map(|entry| entry.path).collect()
    }

    fn error(&self) -> String {
        self.collect().unwrap_err().to_string()
    }
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn what_is_collected_can_be_materialised() {
    let fixture = Fixture::new(&["**"]);
    fixture
        .write("a/b.txt", "b")
        .write("a.txt", "same")
        .write("z/copy", "same")
        .mkdir("empty")
        .link("../a.txt", "a/up");
    chmod(&fixture.root.join("a.txt"), 0o700);
    assert_eq!(fixture.paths(), ["a/b.txt", "a/up", "a.txt", "empty", "z/copy"]);
    let manifest = fixture.collect().unwrap().manifest;
    let layers = fixture.store.materialise(&manifest, Some(&GuestPath::new("/src").unwrap()), None).unwrap();
    let top = fixture.store.path().join(&layers.lower[0]);
    assert_eq!(fs::read_to_string(top.join("src/a/b.txt")).unwrap(), "b");
    assert_eq!(fs::read_link(top.join("src/a/up")).unwrap(), Path::new("../a.txt"));
    assert!(top.join("src/empty").is_dir());
    for (path, mode) in [("", 0o755), ("src/a", 0o755), ("src/a/b.txt", 0o644), ("src/a.txt", 0o755)] {
        let metadata = fs::symlink_metadata(top.join(path)).unwrap();
        assert_eq!((metadata.mode() & 0o7777, metadata.mtime()), (mode, MTIME), "{path}");
    }
    assert_eq!(fs::symlink_metadata(top.join("src/a/up")).unwrap().mtime(), MTIME);
}
