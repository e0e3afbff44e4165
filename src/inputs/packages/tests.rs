use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, SystemTime};

use super::*;

/// A data base of `tests/packages`, copied so that it can be changed.
struct Fixture {
    dir: tempfile::TempDir,
    store: Store,
}

impl Fixture {
    fn of(manager: &str) -> Self {
        let fixture = Self::empty();
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/packages").join(manager);
        for entry in walkdir::WalkDir::new(&from).min_depth(1) {
            let entry = entry.unwrap();
            let to = fixture.path(entry.path().strip_prefix(&from).unwrap().to_str().unwrap());
            if entry.file_type().is_dir() { fs::create_dir(to) } else { fs::copy(entry.path(), to).map(drop) }.unwrap();
        }
        fixture
    }

    fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("store")).unwrap();
        fs::create_dir(dir.path().join("root")).unwrap();
        Self { dir, store }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), content).unwrap();
    }

    /// Changes the text of a file: the first `from` becomes `to`.
    fn edit(&self, path: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(path)).unwrap();
        assert!(text.contains(from), "{path} has {from:?}");
        self.write(path, text.replacen(from, to, 1));
    }

    fn digest(&self) -> Option<Digest> {
        identify(&self.root(), &self.store).unwrap()
    }

    fn list(&self) -> String {
        let mut text = String::new();
        let digest = self.digest().unwrap();
        self.store.open_blob(&digest, false).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    fn error(&self) -> String {
        let error = identify(&self.root(), &self.store).unwrap_err();
        assert!(error.hint().is_some(), "{error}");
        error.to_string()
    }
}

const STATUS: &str = "var/lib/dpkg/status";
const INSTALLED: &str = "lib/apk/db/installed";

fn sums(fixture: &Fixture, path: &str) -> String {
    Digest::of(&fs::read(fixture.path(path)).unwrap()).hex()
}

#[test]
fn dpkg_lists_what_is_on_the_disk() {
    let fixture = Fixture::of("dpkg");
    let sums = |name: &str| sums(&fixture, &format!("var/lib/dpkg/info/{name}.md5sums"));
    let expected = format!(
        "sbx packages 1\ndpkg\talpha\t1.2-3\tall\t{}\ndpkg\tdelta\t4\tall\tunpacked,{}\n\
         dpkg\tlibbeta\t1:2.0~rc1+b1\tamd64\t{}\n",
        sums("alpha"),
        sums("delta"),
        sums("libbeta:amd64")
    );
    assert_eq!(fixture.list(), expected);
}

#[test]
fn apk_lists_what_is_installed() {
    let expected = "sbx packages 1\napk\talpha\t1.2-r3\tx86_64\tQ1W1qC0GkZ5cBqZk6m8zVg0K2p3fY=\n\
                    apk\tbeta-utils\t2.0_rc1-r0\tnoarch\tQ1nIC5KDc++AsuZFnKQtw6GsOp7eQ=\n";
    let fixture = Fixture::of("apk");
    assert_eq!(fixture.list(), expected);
    // The newer place, and a host on which one leads to the other.
    let fixture = Fixture::of("apk");
    fs::create_dir(fixture.path("usr")).unwrap();
    fs::rename(fixture.path("lib"), fixture.path("usr/lib")).unwrap();
    assert_eq!(fixture.list(), expected);
    std::os::unix::fs::symlink("usr/lib", fixture.path("lib")).unwrap();
    assert_eq!(fixture.list(), expected);
}

#[test]
fn a_host_without_packages_has_no_list() {
    let fixture = Fixture::empty();
    assert_eq!(fixture.digest(), None);
    fixture.write(STATUS, "");
    assert_eq!(fixture.digest(), None);
    fixture.write(STATUS, "Package: gone\nStatus: deinstall ok config-files\nArchitecture: all\n\n");
    assert_eq!(fixture.digest(), None);
}

#[test]
fn several_managers_come_together() {
    let fixture = Fixture::of("dpkg");
    fixture.write(INSTALLED, fs::read(Fixture::of("apk").path(INSTALLED)).unwrap());
    let list = fixture.list();
    let managers: Vec<_> = list.lines().skip(1).map(|line| line.split('\t').next().unwrap()).collect();
    assert_eq!(managers, ["apk", "apk", "dpkg", "dpkg", "dpkg"]);
}

type Change = fn(&Fixture);

#[test]
fn every_change_is_seen() {
    let changes: [(&str, &str, Change); 16] = [
        ("dpkg", "version", |f| f.edit(STATUS, "Version: 1.2-3", "Version: 1.2-4")),
        ("dpkg", "removed", |f| f.edit(STATUS, "install ok installed", "deinstall ok config-files")),
        ("dpkg", "state", |f| f.edit(STATUS, "install ok unpacked", "install ok installed")),
        ("dpkg", "architecture", |f| f.edit(STATUS, "Architecture: all", "Architecture: amd64")),
        ("dpkg", "name", |f| f.edit(STATUS, "Package: alpha", "Package: alpha2")),
        ("dpkg", "sums", |f| {
            let path = "var/lib/dpkg/info/libbeta:amd64.md5sums";
            let new = f.path("var/lib/dpkg/info/new");
            fs::write(&new, "other").unwrap();
            fs::rename(new, f.path(path)).unwrap();
        }),
        ("dpkg", "sums gone", |f| fs::remove_file(f.path("var/lib/dpkg/info/alpha.md5sums")).unwrap()),
        ("dpkg", "added", |f| {
            let more = "Package: zeta\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n\n";
            f.edit(STATUS, "Package: alpha", &format!("{more}Package: alpha"));
        }),
        ("dpkg", "interrupted", |f| {
            let update = "Package: alpha\nStatus: install ok installed\nArchitecture: all\nVersion: 9\n";
            f.write("var/lib/dpkg/updates/0001", update);
        }),
        ("apk", "version", |f| f.edit(INSTALLED, "V:1.2-r3", "V:1.2-r4")),
        ("apk", "name", |f| f.edit(INSTALLED, "P:alpha", "P:omega")),
        ("apk", "architecture", |f| f.edit(INSTALLED, "A:x86_64", "A:aarch64")),
        ("apk", "checksum", |f| f.edit(INSTALLED, "C:Q1W", "C:Q1X")),
        ("apk", "no checksum", |f| f.edit(INSTALLED, "C:Q1W1qC0GkZ5cBqZk6m8zVg0K2p3fY=\n", "")),
        ("apk", "added", |f| f.edit(INSTALLED, "C:Q1W", "P:zeta\nV:1\n\nC:Q1W")),
        ("apk", "removed", |f| {
            let text = fs::read_to_string(f.path(INSTALLED)).unwrap();
            f.write(INSTALLED, text.split_inclusive("\n\n").next().unwrap());
        }),
    ];
    for (manager, name, change) in changes {
        let fixture = Fixture::of(manager);
        let before = fixture.digest().unwrap();
        assert_eq!(fixture.digest(), Some(before));
        change(&fixture);
        assert_ne!(fixture.digest(), Some(before), "{manager}: {name}");
    }
}

#[test]
fn order_and_times_mean_nothing() {
    for (manager, path) in [("dpkg", STATUS), ("apk", INSTALLED)] {
        let fixture = Fixture::of(manager);
        let before = fixture.digest();
        let text = fs::read_to_string(fixture.path(path)).unwrap();
        let mut parts: Vec<_> = text.split_inclusive("\n\n").map(|part| part.trim_end_matches('\n')).collect();
        parts.reverse();
        fixture.write(path, parts.join("\n\n") + "\n\n");
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(77);
        File::options().write(true).open(fixture.path(path)).unwrap().set_modified(time).unwrap();
        assert_eq!(fixture.digest(), before, "{manager}");
    }
}

#[test]
fn an_unchanged_data_base_is_not_read_again() {
    let fixture = Fixture::of("dpkg");
    let memory = fixture.store.memory_of("packages", &fixture.root());
    let before = fixture.digest().unwrap();
    assert!(!memory.exists(), "what is this young is not remembered");
    // As if everything had rested.
    let found = read(&fixture.root()).unwrap();
    let digest = fixture.digest().unwrap().to_string();
    Remembered::later(memory.clone()).write(&fixture.store, digest.as_bytes(), &found.vouchers).unwrap();
    // A file for which the directory vouches was changed in place, which dpkg never does: it is not looked at.
    fixture.write("var/lib/dpkg/info/alpha.md5sums", "other");
    assert_eq!(fixture.digest(), Some(before));
    // The store lost the list: all is read again.
    fs::remove_dir_all(fixture.store.path().join("blobs")).unwrap();
    assert_ne!(fixture.digest(), Some(before));
}

#[test]
fn damage_is_named_with_its_place() {
    let dpkg = [
        ("Package: a\nStatus: install ok installed\nArchitecture: all\n\n", "paragraph at line 1: it has no `Version`"),
        ("\nVersion: 1\n\n", "paragraph at line 2: it has no `Package`"),
        ("Package: a\nPackage: b\n\n", "line 2: the paragraph has this field twice"),
        ("Package: a\nnonsense\n\n", "line 2: it is no field"),
        (" begins with a blank\n", "line 1: it is no field"),
        ("Package: a\nStatus: install ok inst", "line 2: the file ends within it"),
        ("Package: a\nStatus: install ok installde\nVersion: 1\n\n", "paragraph at line 1: its `Status` is not known"),
        ("Package: ../../etc/shadow\nStatus: install ok installed\nVersion: 1\n\n", "is no name"),
        ("Package: a b\nStatus: install ok installed\nVersion: 1\n\n", "\"a b\" is no name"),
        ("Package: a\nStatus: install ok installed\nVersion: 1\u{1b}[m\n\n", "is no version"),
    ];
    let apk = [
        ("P:a\n\n", "package at line 1: it has no version"),
        ("V:1\n\n", "package at line 1: it has no name"),
        ("P:a\nP:b\n\n", "line 2: the package has this field twice"),
        ("P:a\nnonsense\n\n", "line 2: it is no field"),
        ("P:a\nV:1", "line 2: the file ends within it"),
    ];
    for (path, texts) in [(STATUS, &dpkg[..]), (INSTALLED, &apk[..])] {
        for (text, what) in texts {
            let fixture = Fixture::empty();
            fixture.write(path, text);
            let error = fixture.error();
            assert!(error.contains(what) && error.contains(path), "{error}\nshould say {what}");
            assert!(!error.contains('\u{1b}'), "{error:?}");
        }
    }
}

#[test]
fn what_is_no_data_base_is_an_error() {
    let fixture = Fixture::empty();
    fs::create_dir_all(fixture.path(STATUS)).unwrap();
    assert!(fixture.error().contains("can't read"));
    let fixture = Fixture::of("dpkg");
    fs::remove_file(fixture.path(STATUS)).unwrap();
    std::os::unix::fs::symlink("/dev/zero", fixture.path(STATUS)).unwrap();
    assert!(fixture.error().contains("can't read"));
    if crate::sys::files::effective_uid() != 0 {
        let fixture = Fixture::of("dpkg");
        fs::set_permissions(fixture.path(STATUS), fs::Permissions::from_mode(0o000)).unwrap();
        assert!(fixture.error().contains("can't read"));
    }
}

#[test]
fn a_list_reads_back() {
    let installed = |version: &str, fingerprint: &str| Installed {
        version: version.to_owned(),
        fingerprint: fingerprint.to_owned(),
    };
    let package = |name: &str, version: &str, fingerprint: &str| Package {
        manager: "rpm",
        name: name.to_owned(),
        version: version.to_owned(),
        architecture: "x86_64".to_owned(),
        fingerprint: fingerprint.to_owned(),
    };
    let packages = [package("kernel", "6.2", "b"), package("zlib", "1", "-"), package("kernel", "6.1", "a")];
    let parsed = parse_listing(&listing(&packages).unwrap()).unwrap();
    let expected = [
        ("kernel/x86_64".to_owned(), vec![installed("6.1", "a"), installed("6.2", "b")]),
        ("zlib/x86_64".to_owned(), vec![installed("1", "-")]),
    ];
    assert_eq!(parsed, BTreeMap::from(expected));
    for text in
        ["", "\n", "other\n", "sbx packages 1", "sbx packages 1\nrpm\ta\t1\tx\n", "sbx packages 1\na\tb\tc\td\te\tf\n"]
    {
        assert_eq!(parse_listing(text), None, "{text:?}");
    }
}
