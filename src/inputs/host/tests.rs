use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;
use crate::inputs::Silent;

/// A host with a `usr` of dpkg's.
struct Fixture {
    dir: tempfile::TempDir,
    store: Store,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("store")).unwrap();
        let fixture = Self { dir, store };
        for (path, text) in [
            ("usr/bin/cc", "compiler"),
            ("usr/local/bin/tool", "tool"),
            ("opt/sdk/lib", "library"),
            ("etc/ssl/openssl.cnf", "settings"),
        ] {
            fixture.write(path, text);
        }
        symlink("usr/bin", fixture.path("bin")).unwrap();
        fixture.install("1");
        fixture
    }

    /// Without the data base of packages.
    fn bare() -> Self {
        let fixture = Self::new();
        fs::remove_dir_all(fixture.path("var")).unwrap();
        fixture
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join("root").join(path)
    }

    fn write(&self, path: &str, text: &str) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), text).unwrap();
    }

    fn install(&self, version: &str) {
        let status = format!("Package: gcc\nStatus: install ok installed\nArchitecture: all\nVersion: {version}\n\n");
        self.write("var/lib/dpkg/status", &status);
    }

    fn identify(&self, identity: HostIdentity, paths: &[&str]) -> Identified {
        let shown: Vec<_> = paths
            .iter()
            .map(|path| {
                let place = match fs::read_link(self.path(path)) {
                    Ok(text) => Place::Link(text.to_str().unwrap().to_owned()),
                    Err(_) => Place::Tree(self.path(path)),
                };
                Shown { name: format!("/{path}"), place }
            })
            .collect();
        super::identify(&self.path(""), &shown, identity, &self.store, &Silent).unwrap()
    }

    fn all(&self, identity: HostIdentity) -> BTreeMap<String, ContentIdentity> {
        self.identify(identity, &["usr", "bin", "opt", "etc/ssl"]).places
    }
}

/// What differs between the two.
fn differing(one: &BTreeMap<String, ContentIdentity>, other: &BTreeMap<String, ContentIdentity>) -> Vec<String> {
    let names = one.keys().chain(other.keys().filter(|name| !one.contains_key(*name)));
    names.filter(|name| one.get(*name) != other.get(*name)).cloned().collect()
}

#[test]
fn packages_own_what_they_fill_and_nothing_else() {
    for path in ["/usr", "/usr/bin", "/bin", "/lib", "/lib/x86_64-linux-gnu", "/lib64", "/sbin", "/usr/localized"] {
        assert_eq!(owner(Path::new(path)), Owner::Packages, "{path}");
    }
    for path in ["/usr/local", "/usr/local/bin", "/opt", "/etc/ssl", "/home/me", "/binary", "/var/lib", "/nix/store"] {
        assert_eq!(owner(Path::new(path)), Owner::Nobody, "{path}");
    }
}

#[test]
fn each_part_has_its_kind() {
    let fixture = Fixture::new();
    let places = fixture.all(HostIdentity::Packages);
    let kind = |name: &str| match &places[name] {
        ContentIdentity::Packages(_) => "packages",
        ContentIdentity::Content(_) => "content",
        ContentIdentity::Link(text) => text.as_str(),
        other => panic!("{other:?}"),
    };
    let kinds: Vec<_> = places.keys().map(|name| (name.as_str(), kind(name))).collect();
    let expected = [
        ("/bin", "usr/bin"),
        ("/etc/ssl", "content"),
        ("/opt", "content"),
        ("/usr", "packages"),
        ("/usr/local", "content"),
    ];
    assert_eq!(kinds, expected);
}

#[test]
fn each_change_is_seen_in_its_part() {
    type Change = fn(&Fixture);
    let changes: [(Change, &[&str]); 6] = [
        (|fixture| fixture.install("2"), &["/usr"]),
        (|fixture| fixture.write("usr/local/bin/tool", "loot"), &["/usr/local"]),
        (|fixture| fixture.write("opt/sdk/lib", "yrarbil"), &["/opt"]),
        (|fixture| fixture.write("etc/ssl/more", ""), &["/etc/ssl"]),
        (|fixture| fs::remove_dir_all(fixture.path("usr/local")).unwrap(), &["/usr/local"]),
        // What packages filled is not looked at.
        (|fixture| fixture.write("usr/bin/cc", "other"), &[]),
    ];
    for (change, expected) in changes {
        let fixture = Fixture::new();
        let before = fixture.all(HostIdentity::Packages);
        assert_eq!(fixture.all(HostIdentity::Packages), before);
        change(&fixture);
        assert_eq!(differing(&before, &fixture.all(HostIdentity::Packages)), expected);
    }
}

#[test]
fn by_content_everything_counts_and_no_package_does() {
    let fixture = Fixture::new();
    let before = fixture.all(HostIdentity::Content);
    assert_eq!(before.keys().collect::<Vec<_>>(), ["/bin", "/etc/ssl", "/opt", "/usr"]);
    fixture.install("2");
    assert_eq!(fixture.all(HostIdentity::Content), before);
    fixture.write("usr/bin/cc", "relipmoc");
    assert_eq!(differing(&before, &fixture.all(HostIdentity::Content)), ["/usr"]);
    let before = fixture.all(HostIdentity::Content);
    fixture.write("usr/local/bin/tool", "loot");
    assert_eq!(differing(&before, &fixture.all(HostIdentity::Content)), ["/usr"]);
}

#[test]
fn without_packages_metadata_stands_for_everything() {
    let fixture = Fixture::bare();
    let identified = fixture.identify(HostIdentity::Packages, &["usr", "opt"]);
    assert!(identified.without_packages);
    assert!(matches!(identified.places["/usr"], ContentIdentity::Metadata(_)), "{identified:?}");
    assert_eq!(identified.places.len(), 2, "/usr/local is in /usr: {identified:?}");
    fixture.write("usr/bin/cc", "another compiler");
    let after = fixture.identify(HostIdentity::Packages, &["usr", "opt"]);
    assert_eq!(differing(&identified.places, &after.places), ["/usr"]);
    // Nobody asks for the packages when nothing of theirs is shown.
    assert!(!fixture.identify(HostIdentity::Packages, &["opt"]).without_packages);
    assert!(!fixture.identify(HostIdentity::Content, &["usr"]).without_packages);
    assert!(!Fixture::new().identify(HostIdentity::Packages, &["usr"]).without_packages);
}

#[test]
fn two_hosts_with_the_same_packages_are_equal() {
    let (one, other) = (Fixture::new(), Fixture::new());
    for identity in [HostIdentity::Packages, HostIdentity::Content] {
        assert_eq!(one.all(identity), other.all(identity));
    }
}

#[test]
fn what_nobody_owns_and_is_large_goes_by_metadata() {
    let fixture = Fixture::new();
    let file = fs::File::create(fixture.path("opt/sdk/large")).unwrap();
    file.set_len(256 << 20).unwrap();
    assert!(matches!(fixture.all(HostIdentity::Packages)["/opt"], ContentIdentity::Metadata(_)));
    fs::remove_file(fixture.path("opt/sdk/large")).unwrap();
    assert!(matches!(fixture.all(HostIdentity::Packages)["/opt"], ContentIdentity::Content(_)));
}

#[test]
fn what_the_caller_may_not_read_is_noted() {
    if crate::sys::files::effective_uid() == 0 {
        // Nothing is closed to root.
        let output = std::process::Command::new("setpriv")
            .args(["--reuid", "61234", "--regid", "61234", "--clear-groups"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "inputs::host::tests::what_the_caller_may_not_read_is_noted"])
            .output()
            .unwrap();
        assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
        return;
    }
    let fixture = Fixture::new();
    fixture.write("etc/ssl/private/key", "secret");
    let open = fixture.all(HostIdentity::Packages);
    let close = |mode| fs::set_permissions(fixture.path("etc/ssl/private"), fs::Permissions::from_mode(mode)).unwrap();
    close(0o000);
    let closed = fixture.all(HostIdentity::Packages);
    assert_eq!(differing(&open, &closed), ["/etc/ssl"]);
    assert_eq!(fixture.all(HostIdentity::Packages), closed);
    close(0o700);
    assert_eq!(fixture.all(HostIdentity::Packages), open);
    fs::set_permissions(fixture.path("etc/ssl/openssl.cnf"), fs::Permissions::from_mode(0o000)).unwrap();
    assert_eq!(differing(&open, &fixture.all(HostIdentity::Packages)), ["/etc/ssl"]);
}
