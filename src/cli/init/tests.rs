use std::collections::BTreeMap;

use super::*;
use crate::config::model::{Config, MountIdentity};

fn parse(text: &str) -> Config {
    crate::config::parse(text, "sandbox.toml").unwrap_or_else(|faults| panic!("{}\n{text}", faults.render(false)))
}

fn toolchain(name: &str) -> Option<Toolchain> {
    Some(Toolchain { prefix: format!("/home/me/\"{name}\"\\x"), version: format!("{name} \"1.0\" \\ (x)") })
}

/// For each kind: absent, found with everything, found with nothing.
fn combinations() -> Vec<Found> {
    let mut all = Vec::new();
    for number in 0..3_usize.pow(6) * 2 {
        let choice = |place: u32| (number / 2 / 3_usize.pow(place)) % 3;
        let full = |place: u32| choice(place) == 1;
        all.push(Found {
            git: number % 2 == 1,
            cargo: (choice(0) > 0).then(|| match full(0) {
                true => Cargo { binary: Some("app".into()), needs_vendoring: true, toolchain: toolchain("rustc") },
                false => Cargo::default(),
            }),
            go: (choice(1) > 0).then(|| match full(1) {
                true => Go { vendored: true, toolchain: toolchain("go") },
                false => Go::default(),
            }),
            npm: (choice(2) > 0).then(|| match full(2) {
                true => Npm { build: true, test: true, modules: true, toolchain: toolchain("node") },
                false => Npm::default(),
            }),
            python: (choice(3) > 0).then(|| match full(3) {
                true => Python { pytest: true, src_layout: true, tests: true, toolchain: toolchain("python") },
                false => Python::default(),
            }),
            cmake: (choice(4) > 0).then(|| Cmake { tests: full(4), build_taken: full(4) }),
            make: (choice(5) > 0).then(|| Make { test: full(5).then(|| "check".into()) }),
        });
    }
    all
}

#[test]
fn every_combination_gives_a_valid_file() {
    for found in combinations() {
        let config = parse(&template(&found));
        assert_eq!(config.settings.inputs[0].glob.as_str(), "**");
        let kinds = [found.cargo.is_some(), found.go.is_some(), found.cmake.is_some(), found.make.is_some()];
        assert!(config.tasks.len() >= kinds.iter().filter(|kind| **kind).count(), "{found:?}");
    }
}

/// A comment sign in front is all that keeps a suggestion from holding.
#[test]
fn what_is_commented_out_is_valid_too() {
    for found in combinations() {
        let looks_like_toml =
            |line: &str| line.starts_with('[') || line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
        let text: String = template(&found)
            .lines()
            .map(|line| match line.strip_prefix("# ").filter(|rest| looks_like_toml(rest)) {
                Some(rest) => format!("{rest}\n"),
                None => format!("{line}\n"),
            })
            .collect();
        assert!(parse(&text).settings.limits.time.is_some());
    }
}

#[test]
fn a_toolchain_is_mounted_and_found_by_its_path() {
    let cargo = Cargo {
        toolchain: Some(Toolchain { prefix: "/root/.rustup/toolchains/x".into(), version: "rustc 1.95.0".into() }),
        ..Cargo::default()
    };
    let config = parse(&template(&Found { cargo: Some(cargo), ..Found::default() }));
    let [mount] = config.settings.mounts.as_slice() else { panic!("{config:?}") };
    assert_eq!(mount.source, Path::new("/root/.rustup/toolchains/x"));
    assert_eq!(mount.target.as_str(), "/opt/rust");
    assert_eq!(mount.identity, MountIdentity::Declared("rustc 1.95.0".into()));
    assert_eq!(config.settings.env.set["PATH"], "/opt/rust/bin:/usr/local/bin:/usr/bin:/bin");
    assert!(config.tasks["test"].command.contains(&"--offline".to_owned()));
}

#[test]
fn a_tool_of_the_system_needs_no_mount() {
    let found = Found { cargo: Some(Cargo::default()), make: Some(Make::default()), ..Found::default() };
    let config = parse(&template(&found));
    assert!(config.settings.mounts.is_empty());
    assert!(!config.settings.env.set.contains_key("PATH"));
    let names: Vec<_> = config.tasks.keys().map(String::as_str).collect();
    assert_eq!(names, ["build", "build-make", "test"]);
}

/// A directory with these files.
fn project(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

#[test]
fn nothing_is_found_in_an_empty_directory() {
    let dir = project(&[]);
    assert_eq!(look(dir.path()), Found::default());
    assert_eq!(parse(&template(&Found::default())).tasks, BTreeMap::new());
}

#[test]
fn each_kind_is_found_by_its_file() {
    let dir = project(&[
        ("Makefile", "all: x\ntests:\ntest := 1\ncheck : all\n\t./run\n"),
        ("CMakeLists.txt", "project(x)\nenable_testing()\n"),
        ("Cargo.toml", "[package]\nname = \"tool\"\n"),
        ("Cargo.lock", "[[package]]\nname = \"dep\"\nsource = \"registry\"\n"),
        ("src/main.rs", "fn main() {}\n"),
        ("package.json", "{\"scripts\": {\"test\": \"node test.js\"}}"),
        ("pyproject.toml", "[tool.pytest.ini_options]\n"),
        ("go.mod", "module x\n"),
        ("vendor/modules.txt", ""),
        ("build/version.cmake", ""),
        (".git/HEAD", "ref: refs/heads/main\n"),
    ]);
    let found = look(&dir.path().join("."));
    assert!(found.git);
    assert_eq!(found.make, Some(Make { test: Some("check".into()) }));
    assert_eq!(found.cmake, Some(Cmake { tests: true, build_taken: true }));
    let cargo = found.cargo.as_ref().unwrap();
    assert_eq!((cargo.binary.as_deref(), cargo.needs_vendoring), (Some("tool"), true));
    let npm = found.npm.as_ref().unwrap();
    assert_eq!((npm.build, npm.test, npm.modules), (false, true, false));
    let python = found.python.as_ref().unwrap();
    assert_eq!((python.pytest, python.src_layout, python.tests), (true, true, false));
    assert!(found.go.as_ref().unwrap().vendored);
    parse(&template(&found));
}

#[test]
fn the_binary_is_named_where_that_is_plain() {
    let package = "[package]\nname = \"a\"\n";
    let binaries = |names: &[&str]| {
        names.iter().fold(package.to_owned(), |text, name| format!("{text}[[bin]]\nname = \"{name}\"\n"))
    };
    assert_eq!(binary_of(package, true).as_deref(), Some("a"));
    assert_eq!(binary_of(package, false), None);
    assert_eq!(binary_of(&binaries(&["b"]), false).as_deref(), Some("b"));
    assert_eq!(binary_of(&binaries(&["b", "c"]), true), None);
    assert_eq!(binary_of("[workspace]\n", true), None);
}

#[test]
fn damaged_files_are_no_obstacle() {
    let dir = project(&[("Cargo.toml", "[package"), ("package.json", "{"), ("src/main.rs", "")]);
    let found = look(dir.path());
    assert_eq!(found.cargo.as_ref().unwrap().binary, None);
    assert!(!found.npm.as_ref().unwrap().test);
}

#[test]
fn the_toolchain_that_rustc_names_is_the_one_mounted() {
    let dir = project(&[("Cargo.toml", "")]);
    let sysroot = ask(dir.path(), &["rustc", "--print", "sysroot"]).unwrap();
    let shown = DEFAULT_HOST_PATHS.iter().any(|path| Path::new(&sysroot).starts_with(path));
    let found = look(dir.path()).cargo.unwrap().toolchain;
    assert_eq!(found.is_none(), shown);
    if let Some(found) = found {
        assert_eq!(Path::new(&found.prefix), fs::canonicalize(sysroot).unwrap());
        assert!(found.version.starts_with("rustc "), "{}", found.version);
    }
}
