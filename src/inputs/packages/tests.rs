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
const LOCAL: &str = "var/lib/pacman/local";
const RPMDB: &str = "usr/lib/sysimage/rpm/rpmdb.sqlite";

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
fn pacman_lists_its_directories() {
    let fixture = Fixture::of("pacman");
    let sums = |name: &str| sums(&fixture, &format!("{LOCAL}/{name}/mtree"));
    let expected = format!(
        "sbx packages 1\npacman\talpha\t1.2-3\tany\t{}\npacman\tlib32-beta\t2:2.0rc1-1\tany\t{}\n",
        sums("alpha-1.2-3"),
        sums("lib32-beta-2:2.0rc1-1")
    );
    assert_eq!(fixture.list(), expected);
}

#[test]
fn rpm_lists_its_headers() {
    let fixture = Fixture::of("rpm");
    let list = fixture.list();
    let named: Vec<_> = list.lines().skip(1).map(|line| line.rsplit_once('\t').unwrap()).collect();
    let names: Vec<_> = named.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        names,
        [
            "rpm\talpha\t1.2-3\tnoarch",
            "rpm\tbeta\t4:2.0~rc1-1.fc40\tnoarch",
            "rpm\tkernel\t6.1-1\tnoarch",
            "rpm\tkernel\t6.2-1\tnoarch"
        ]
    );
    assert!(named.iter().all(|(_, digest)| digest.len() == 64), "{list}");
    // The older place, and a host on which it leads to the newer one.
    fs::create_dir_all(fixture.path("var/lib")).unwrap();
    std::os::unix::fs::symlink("../../usr/lib/sysimage/rpm", fixture.path("var/lib/rpm")).unwrap();
    assert_eq!(fixture.list(), list);
    fs::remove_file(fixture.path("var/lib/rpm")).unwrap();
    fs::rename(fixture.path("usr/lib/sysimage/rpm"), fixture.path("var/lib/rpm")).unwrap();
    assert_eq!(fixture.list(), list);
}

/// Runs `sql` on a fixture's rpm data base; what it wrote stays beside the data base as long as the connection lives.
fn execute(fixture: &Fixture, sql: &str) -> rusqlite::Connection {
    let connection = rusqlite::Connection::open(fixture.path(RPMDB)).unwrap();
    connection.execute_batch(&format!("PRAGMA foreign_keys = OFF; PRAGMA wal_autocheckpoint = 0; {sql}")).unwrap();
    connection
}

#[test]
fn what_rpm_has_not_put_into_its_data_base_yet_counts() {
    let fixture = Fixture::of("rpm");
    assert!(fixture.list().contains("kernel\t6.1-1"));
    let connection = execute(&fixture, "DELETE FROM Packages WHERE hnum = (SELECT min(hnum) FROM Packages)");
    let wal = fixture.path(&format!("{RPMDB}-wal"));
    assert!(fs::metadata(&wal).unwrap().len() > 0);
    fs::set_permissions(wal.parent().unwrap(), fs::Permissions::from_mode(0o555)).unwrap();
    let before: Vec<_> = fs::read_dir(wal.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(fixture.list().lines().count(), 1 + 3);
    let after: Vec<_> = fs::read_dir(wal.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(after, before);
    fs::set_permissions(wal.parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
    drop(connection);
    assert!(!wal.exists());
    assert_eq!(fixture.list().lines().count(), 1 + 3);
    assert!(fs::read_dir(fixture.store.path().join("tmp")).unwrap().next().is_none(), "the copy is removed");
}

#[test]
fn of_rpm_s_other_data_bases_the_content_counts() {
    for name in ["usr/lib/sysimage/rpm/Packages.db", "var/lib/rpm/Packages"] {
        let fixture = Fixture::empty();
        fixture.write(name, "some bytes");
        let file = name.rsplit('/').next().unwrap();
        let digest = Digest::of(b"some bytes").hex();
        assert_eq!(fixture.list(), format!("sbx packages 1\nrpm\t({file})\t-\t-\t{digest}\n"));
        fixture.write(name, "other bytes");
        assert!(!fixture.list().contains(&digest));
    }
}

#[test]
fn a_broken_rpm_data_base_is_an_error() {
    let whole = fs::read(Fixture::of("rpm").path(RPMDB)).unwrap();
    let cut = &whole[..whole.len() / 2];
    for bytes in [&b"no data base"[..], b"", cut] {
        let fixture = Fixture::empty();
        fixture.write(RPMDB, bytes);
        let error = fixture.error();
        assert!(error.contains(RPMDB) && error.contains("damaged"), "{error}");
    }
    for (sql, what) in [
        ("UPDATE Packages SET blob = x'00' WHERE hnum = 1", "it is no package header"),
        ("UPDATE Packages SET blob = 7", "it is no blob"),
        ("DROP TABLE Packages", "Query returned no rows"),
        (
            "DROP TABLE Packages; CREATE VIEW Packages AS WITH RECURSIVE n(hnum) AS \
             (SELECT 1 UNION ALL SELECT hnum + 1 FROM n) SELECT hnum, x'00' AS blob FROM n",
            "Query returned no rows",
        ),
    ] {
        let fixture = Fixture::of("rpm");
        drop(execute(&fixture, sql));
        let error = fixture.error();
        assert!(error.contains(what), "{error}\nshould say {what}");
    }
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

/// SQL that replaces some bytes, given in hexadecimal digits, in every header.
fn replace(from: &str, to: &str) -> String {
    assert_eq!(from.len(), to.len());
    format!("UPDATE Packages SET blob = unhex(replace(hex(blob), '{from}', '{to}'))")
}

#[test]
fn every_change_is_seen() {
    let changes: [(&str, &str, Change); 25] = [
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
        ("pacman", "version", |f| {
            f.edit(&format!("{LOCAL}/alpha-1.2-3/desc"), "1.2-3", "1.2-4");
            fs::rename(f.path(LOCAL).join("alpha-1.2-3"), f.path(LOCAL).join("alpha-1.2-4")).unwrap();
        }),
        ("pacman", "removed", |f| fs::remove_dir_all(f.path(LOCAL).join("alpha-1.2-3")).unwrap()),
        ("pacman", "added", |f| f.write(&format!("{LOCAL}/zeta-1-1/desc"), "%NAME%\nzeta\n\n%VERSION%\n1-1\n\n")),
        ("pacman", "sums", |f| f.write(&format!("{LOCAL}/alpha-1.2-3/mtree"), "other")),
        ("rpm", "version", |f| {
            // The version's text stands for the first time in the header's name, version, release.
            drop(execute(f, &replace("312E3200", "312E3300")));
        }),
        ("rpm", "removed", |f| drop(execute(f, "DELETE FROM Packages WHERE hnum = 2"))),
        ("rpm", "added", |f| {
            let other = "unhex(replace(hex(blob), '6E6F6172636800', '7838365F363400'))";
            let sql = format!("INSERT INTO Packages (blob) SELECT {other} FROM Packages WHERE hnum = 1");
            drop(execute(f, &sql));
        }),
        ("rpm", "architecture", |f| drop(execute(f, &replace("6E6F6172636800", "7838365F363400")))),
        ("rpm", "digest", |f| {
            let list = f.list();
            let digest = list.lines().find(|line| line.contains("\tbeta\t")).unwrap().rsplit('\t').next().unwrap();
            let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02X}")).collect::<String>();
            drop(execute(f, &replace(&hex(digest), &hex(&"0".repeat(64)))));
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
fn a_data_base_that_changes_is_read_again_for_a_while() {
    for changes in [0, 1, PAUSES.len(), PAUSES.len() + 1] {
        let fixture = Fixture::of("dpkg");
        let (mut reads, mut waited) = (0, Vec::new());
        let mut read = |found: &mut Found| {
            let outcome = read(&fixture.root(), &fixture.store, found);
            if reads < changes {
                fixture.edit(STATUS, "Version: 1.2-3", "Version: 1.2-34");
            }
            reads += 1;
            outcome
        };
        let known = patiently(&fixture.root(), &fixture.store, &mut read, &mut |pause| waited.push(pause.as_millis()));
        assert_eq!(waited, PAUSES.map(u128::from)[..changes.min(PAUSES.len())], "{changes}");
        if changes > PAUSES.len() {
            assert!(matches!(known, Err(PackagesError::Changing)), "{known:?}");
        } else {
            assert_eq!(known.unwrap(), fixture.digest(), "{changes}");
        }
        assert_eq!(reads, changes.min(PAUSES.len()) + 1);
    }
    assert!(PAUSES.iter().sum::<u64>() > 5000);
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
    let fixture = Fixture::of("rpm");
    let before = fixture.digest();
    drop(execute(&fixture, "UPDATE Packages SET hnum = 1000 - hnum"));
    assert_eq!(fixture.digest(), before, "rpm");
}

#[test]
fn an_unchanged_data_base_is_not_read_again() {
    let fixture = Fixture::of("dpkg");
    let memory = fixture.store.memory_of("packages", &fixture.root());
    let before = fixture.digest().unwrap();
    assert!(!memory.exists(), "what is this young is not remembered");
    // As if everything had rested.
    let mut found = Found::default();
    read(&fixture.root(), &fixture.store, &mut found).unwrap();
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
    let desc = format!("{LOCAL}/a/desc");
    let pacman = [
        ("%NAME%\na\n\n", "its end: it has no version"),
        ("%VERSION%\n1\n\n", "its end: it has no name"),
        ("%NAME%\na\n\n%NAME%\nb\n", "line 5: it has a second name"),
        ("%NAME%\n\n", "line 2: \"\" is no name"),
        ("%NAME%\na", "line 2: the file ends within it"),
    ];
    for (path, texts) in [(STATUS, &dpkg[..]), (INSTALLED, &apk[..]), (&desc, &pacman[..])] {
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
    let fixture = Fixture::of("pacman");
    fs::remove_file(fixture.path(LOCAL).join("alpha-1.2-3/desc")).unwrap();
    assert!(fixture.error().contains("alpha-1.2-3: it has no `desc`"));
    let fixture = Fixture::of("dpkg");
    let sums = fixture.path("var/lib/dpkg/info/alpha.md5sums");
    fs::remove_file(&sums).unwrap();
    fs::create_dir(&sums).unwrap();
    assert!(fixture.error().contains("can't read"));
    let fixture = Fixture::of("dpkg");
    File::options().write(true).open(fixture.path(STATUS)).unwrap().set_len(FILE_MAX + 1).unwrap();
    assert!(fixture.error().contains("more than"));
}

#[test]
fn what_may_not_be_read_is_an_error() {
    if crate::sys::files::effective_uid() == 0 {
        // Nothing is closed to root.
        let output = std::process::Command::new("setpriv")
            .args(["--reuid", "61234", "--regid", "61234", "--clear-groups"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "inputs::packages::tests::what_may_not_be_read_is_an_error"])
            .output()
            .unwrap();
        assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
        return;
    }
    for (manager, path) in [("dpkg", STATUS), ("apk", INSTALLED), ("rpm", RPMDB), ("pacman", LOCAL)] {
        let fixture = Fixture::of(manager);
        fs::set_permissions(fixture.path(path), fs::Permissions::from_mode(0o000)).unwrap();
        let error = fixture.error();
        assert!(error.contains("can't read") && error.contains(path), "{error}");
        fs::set_permissions(fixture.path(path), fs::Permissions::from_mode(0o700)).unwrap();
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

proptest::proptest! {
    // Each case makes eight data bases.
    #![proptest_config(proptest::test_runner::Config::with_cases(32))]

    /// Data bases of any bytes, and real ones with a few bytes changed, are read or refused.
    #[test]
    fn any_data_base_is_read_or_refused(
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
        changes in proptest::collection::vec((0usize..4000, proptest::prelude::any::<u8>()), 1..8),
    ) {
        for (manager, path) in [
            ("dpkg", STATUS),
            ("apk", INSTALLED),
            ("pacman", "var/lib/pacman/local/alpha-1.2-3/desc"),
            ("rpm", RPMDB),
        ] {
            let fixture = Fixture::of(manager);
            let mut real = fs::read(fixture.path(path)).unwrap();
            for (place, byte) in &changes {
                let place = place % real.len();
                real[place] = *byte;
            }
            fixture.write(path, &real);
            let listed = identify(&fixture.root(), &fixture.store);
            if let Ok(Some(_)) = listed {
                // What is listed can be read back.
                assert!(parse_listing(&fixture.list()).is_some());
            }
            fixture.write(path, &bytes);
            let _ = identify(&fixture.root(), &fixture.store);
        }
    }

    #[test]
    fn any_text_is_a_list_or_not(text in ".{0,200}") {
        let _ = parse_listing(&text);
        let _ = parse_listing(&format!("{HEAD}\n{text}\n"));
    }
}
