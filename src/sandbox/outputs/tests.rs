//! Longer than 500 lines: one fixture, and a short test for each thing that a hostile command can leave behind.

use super::copy::collect;
use super::journal::{Lock, carry_out};
use super::operation::Operation;
use super::staging::{Slot, slot_name};
use super::*;
use crate::digest::Digest;
use crate::path::RelPath;
use crate::sys::beneath;
use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::process::Command;

/// A finished sandbox (`inside`, its upper layer and its merged view in one), a project, and a store.
struct World {
    base: tempfile::TempDir,
    merged: File,
    upper: File,
    workdir: GuestPath,
    last: Vec<Output>,
}

impl World {
    fn new() -> Self {
        let base = tempfile::tempdir().unwrap();
        for directory in ["inside/src", "upper/src", "project", "outside"] {
            fs::create_dir_all(base.path().join(directory)).unwrap();
        }
        let merged = File::open(base.path().join("inside")).unwrap();
        let upper = merged.try_clone().unwrap();
        Self { base, merged, upper, workdir: GuestPath::new("/src").unwrap(), last: Vec::new() }
    }

    /// As [`World::new`], with an upper layer of its own that says nothing was written.
    fn unwritten() -> Self {
        let mut world = Self::new();
        world.upper = File::open(world.base.path().join("upper")).unwrap();
        world
    }

    fn inside(&self, path: &str) -> PathBuf {
        self.base.path().join("inside/src").join(path)
    }

    fn project(&self, path: &str) -> PathBuf {
        self.base.path().join("project").join(path)
    }

    fn journals(&self) -> PathBuf {
        self.base.path().join("store/journals")
    }

    fn made(&self, path: &str, content: &str) -> PathBuf {
        write(self.inside(path), content)
    }

    fn had(&self, path: &str, content: &str) -> PathBuf {
        write(self.project(path), content)
    }

    fn stage(&self, patterns: &[&str]) -> Result<Staged, OutputError> {
        let patterns: Vec<Pattern> = patterns.iter().map(|text| pattern(text)).collect();
        stage(&self.request(&patterns, "run"), &self.finished())
    }

    fn finished(&self) -> Finished<'_> {
        Finished { merged: self.merged.as_fd(), upper: self.upper.as_fd(), workdir: &self.workdir }
    }

    fn request<'a>(&'a self, patterns: &'a [Pattern], run_id: &'a str) -> Request<'a> {
        Request {
            patterns,
            project: Box::leak(self.base.path().join("project").into_boxed_path()),
            protected: Some("sandbox.toml"),
            run_id,
            journals: Box::leak(self.journals().into_boxed_path()),
            last: &self.last,
        }
    }

    fn bring(&self, patterns: &[&str]) -> Result<Vec<Output>, OutputError> {
        let outputs = self.stage(patterns)?.commit()?;
        self.check_clean();
        Ok(outputs)
    }

    /// The error of a run that must change nothing in the project and leave nothing in it.
    fn refuse(&self, patterns: &[&str]) -> OutputError {
        let before = self.snapshot();
        let error = self.stage(patterns).and_then(Staged::commit).unwrap_err();
        assert_eq!(self.snapshot(), before);
        self.check_clean();
        error
    }

    fn recover(&self) {
        recover(&self.project(""), &self.journals()).unwrap();
        self.check_clean();
    }

    fn check_clean(&self) {
        let names = |path: PathBuf| beneath::list(File::open(path).unwrap()).unwrap();
        let staging = names(self.project("")).into_iter().find(|name| name.as_bytes().starts_with(b".sbx"));
        assert_eq!(staging, None);
        assert!(!self.journals().exists() || names(self.journals()).iter().all(|name| name == "lock"));
    }

    /// Path, kind and mode, content or link text of everything in the project but stagings.
    fn snapshot(&self) -> BTreeMap<String, (u32, Vec<u8>)> {
        let mut all = BTreeMap::new();
        for entry in walkdir::WalkDir::new(self.project("")) {
            let entry = entry.unwrap();
            let path = entry.path().strip_prefix(self.project("")).unwrap().to_str().unwrap().to_owned();
            let content = match entry.file_type() {
                kind if kind.is_file() => fs::read(entry.path()).unwrap(),
                kind if kind.is_symlink() => fs::read_link(entry.path()).unwrap().as_os_str().as_bytes().to_vec(),
                _ => Vec::new(),
            };
            all.insert(path, (entry.metadata().unwrap().mode(), content));
        }
        all.retain(|path, _| !path.starts_with(".sbx"));
        all
    }

    fn texts(&self) -> Vec<(String, String)> {
        let files = self.snapshot().into_iter().filter(|(_, (mode, _))| mode & 0o170_000 != 0o040_000);
        files.map(|(path, (_, content))| (path, String::from_utf8(content).unwrap())).collect()
    }
}

fn write(path: PathBuf, content: &str) -> PathBuf {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    path
}

fn pattern(text: &str) -> Pattern {
    let glob = RelPath::new(text.strip_prefix('!').unwrap_or(text)).unwrap();
    Pattern { glob, negated: text.starts_with('!') }
}

fn chmod(path: impl AsRef<Path>, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn mode(path: impl AsRef<Path>) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn is_root(world: &World) -> bool {
    fs::metadata(world.base.path()).unwrap().uid() == 0
}

fn file(path: &str, content: &str) -> Output {
    Output::file(path, false, &Digest::of(content.as_bytes()))
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
}

#[test]
fn files_directories_globs_and_links_come_back() {
    let world = World::new();
    chmod(world.made("build/app", "app"), 0o4711);
    world.made("build/deep/er/lib.a", "lib");
    world.made("dist/a.whl", "wheel");
    world.made("dist/a.tmp", "dropped");
    world.made("other", "dropped");
    fs::create_dir(world.inside("build/empty")).unwrap();
    symlink("../../etc/passwd", world.inside("build/link")).unwrap();
    symlink("/dangling", world.inside("build/dangling")).unwrap();
    fs::hard_link(world.inside("build/app"), world.inside("build/twin")).unwrap();

    let outputs = world.bring(&["build", "dist/*", "!**/*.tmp"]).unwrap();
    let app = Digest::of(b"app");
    assert_eq!(
        outputs,
        [
            Output::file("build/app", true, &app),
            Output::symlink("build/dangling", "/dangling"),
            file("build/deep/er/lib.a", "lib"),
            Output::directory("build/empty"),
            Output::symlink("build/link", "../../etc/passwd"),
            Output::file("build/twin", true, &app),
            file("dist/a.whl", "wheel"),
        ]
    );
    assert_eq!(
        world.texts(),
        pairs(&[
            ("build/app", "app"),
            ("build/dangling", "/dangling"),
            ("build/deep/er/lib.a", "lib"),
            ("build/link", "../../etc/passwd"),
            ("build/twin", "app"),
            ("dist/a.whl", "wheel"),
        ])
    );
    assert_eq!(mode(world.project("build/app")), 0o755, "setuid is stripped");
    assert_eq!(mode(world.project("build/deep/er/lib.a")), 0o644);
    assert_eq!(mode(world.project("build/deep")), 0o755);
    assert_eq!(fs::metadata(world.project("build/app")).unwrap().nlink(), 1, "a hard link becomes a copy");
}

#[test]
fn without_patterns_nothing_is_touched() {
    let world = World::new();
    assert_eq!(world.bring(&[]).unwrap(), []);
    assert!(!world.journals().exists());
}

#[test]
fn every_pattern_that_matched_nothing_is_named() {
    let world = World::new();
    world.made("a", "a");
    let error = world.refuse(&["gone", "a", "dist/*.whl", "!nothing"]);
    assert!(matches!(&error, OutputError::Missing { patterns } if patterns == &["gone", "dist/*.whl"]), "{error:?}");
    assert_eq!(error.to_string(), "the command made no `gone`, `dist/*.whl`");

    let world = World { workdir: GuestPath::new("/elsewhere").unwrap(), ..World::new() };
    assert!(matches!(world.refuse(&["a"]), OutputError::Missing { .. }));
}

#[test]
fn whatever_is_no_file_directory_or_link_is_refused_by_name() {
    type Make = fn(&Path);
    let makes: [(Make, Refusal); 3] = [
        (|path| assert!(Command::new("mkfifo").arg(path).status().unwrap().success()), Refusal::Fifo),
        (|path| drop(UnixListener::bind(path).unwrap()), Refusal::Socket),
        (
            |path| assert!(Command::new("mknod").arg(path).args(["c", "0", "0"]).status().unwrap().success()),
            Refusal::Device,
        ),
    ];
    for (make, expected) in makes {
        let world = World::new();
        world.made("out/fine", "fine");
        make(&world.inside("out/odd"));
        for pattern in ["out", "out/odd", "**"] {
            let error = world.refuse(&[pattern]);
            assert!(
                matches!(&error, OutputError::Refused { path, reason } if path == "out/odd" && *reason == expected),
                "{error:?}"
            );
        }
        // What is not declared does not matter.
        assert_eq!(world.bring(&["out", "!out/odd"]).unwrap(), [file("out/fine", "fine")]);
    }
}

#[test]
fn names_that_are_no_text_are_refused_and_escaped() {
    for (name, shown) in [(&b"\x1b[2J"[..], r"out/\u{1b}[2J"), (b"a\nb", r"out/a\nb"), (b"\xff\xfe", r"out/\xff\xfe")] {
        let world = World::new();
        world.made("out/fine", "fine");
        let odd = world.inside("out").join(std::ffi::OsStr::from_bytes(name));
        fs::write(&odd, "odd").unwrap();
        let error = world.refuse(&["out"]);
        assert!(matches!(&error, OutputError::Refused { path, reason: Refusal::Name } if path == shown), "{error:?}");
        assert!(world.bring(&["out/fine"]).is_ok());
        fs::remove_file(&odd).unwrap();
        write(odd.join("below.o"), "below an odd directory");
        assert!(matches!(world.refuse(&["**/*.o"]), OutputError::Refused { reason: Refusal::Name, .. }));
        assert!(world.bring(&["**/fine"]).is_ok());
    }
    let world = World::new();
    symlink(std::ffi::OsStr::from_bytes(b"\xff"), world.inside("link")).unwrap();
    assert!(matches!(world.refuse(&["link"]), OutputError::Refused { reason: Refusal::LinkText, .. }));
}

#[test]
fn links_inside_are_never_followed() {
    let mut world = World::new();
    let secret = write(world.base.path().join("outside/secret"), "secret");
    symlink(secret.parent().unwrap(), world.inside("out")).unwrap();
    // A directory's name that is a link is that link; what lies behind it does not exist.
    assert_eq!(world.bring(&["out"]).unwrap(), [Output::symlink("out", secret.parent().unwrap().to_str().unwrap())]);
    assert!(matches!(world.refuse(&["out/secret"]), OutputError::Missing { .. }));

    symlink("src", world.base.path().join("inside/linked")).unwrap();
    world.workdir = GuestPath::new("/linked").unwrap();
    assert!(matches!(world.refuse(&["out"]), OutputError::Missing { .. }));
}

#[test]
fn nothing_is_written_through_a_link_in_the_project() {
    for declared in ["out/deep", "out/deep/file", "**"] {
        let world = World::new();
        world.made("out/deep/file", "new");
        world.made("a-first", "new");
        fs::create_dir(world.project("out")).unwrap();
        symlink(world.base.path().join("outside"), world.project("out/deep")).unwrap();
        let error = world.refuse(&["a-first", declared]);
        assert!(matches!(&error, OutputError::LinkedParent { path } if path == "out/deep"), "{error:?}");
        assert_eq!(fs::read_dir(world.base.path().join("outside")).unwrap().count(), 0);
    }
    // The last component is replaced, not followed.
    let world = World::new();
    world.made("file", "new");
    let target = write(world.base.path().join("outside/target"), "untouched");
    symlink(&target, world.project("file")).unwrap();
    world.bring(&["file"]).unwrap();
    assert_eq!(world.texts(), pairs(&[("file", "new")]));
    assert_eq!(fs::read_to_string(target).unwrap(), "untouched");
}

#[test]
fn old_ones_are_replaced_whatever_they_are() {
    let mut world = World::new();
    world.made("file-file", "new");
    world.made("dir-by-file", "new");
    world.made("file-by-dir/x", "new");
    fs::create_dir(world.inside("file-by-empty")).unwrap();
    symlink("new", world.inside("file-by-link")).unwrap();
    world.had("file-file", "old");
    world.had("dir-by-file/deep/x", "old");
    world.had("file-by-dir", "old");
    world.had("file-by-empty", "old");
    world.had("file-by-link", "old");
    world.had("users", "own");
    let all = ["file-file", "dir-by-file", "file-by-dir", "file-by-empty", "file-by-link"];
    // A directory may hold what is the user's own, until it is known who made it.
    let error = world.refuse(&all);
    assert!(matches!(&error, OutputError::Occupied { file, .. } if file == "dir-by-file/deep/x"), "{error:?}");
    world.last = vec![file("dir-by-file/deep/x", "old")];
    world.bring(&all).unwrap();
    let expected = pairs(&[
        ("dir-by-file", "new"),
        ("file-by-dir/x", "new"),
        ("file-by-link", "new"),
        ("file-file", "new"),
        ("users", "own"),
    ]);
    assert_eq!(world.texts(), expected);
    assert!(world.project("file-by-empty").is_dir());
    world.bring(&all).unwrap();
    assert_eq!(world.texts(), expected);
}

#[test]
fn no_command_replaces_the_users_directories() {
    let mut world = World::new();
    world.made("src", "junk");
    world.had("src/main.c", "precious");
    let error = world.refuse(&["**"]);
    assert!(matches!(&error, OutputError::Occupied { file, .. } if file == "src/main.c"), "{error:?}");
    // What the last run made is the build's.
    world.last = vec![file("src/main.c", "other by now")];
    world.bring(&["**"]).unwrap();
    assert_eq!(world.texts(), pairs(&[("src", "junk")]));
    // A file where only something below it is declared is the user's.
    let world = World::new();
    world.made("build/app", "new");
    world.had("build", "users");
    assert!(matches!(world.refuse(&["build/app"]), OutputError::Place { path, .. } if path == "build"));
}

#[test]
fn the_configuration_and_git_stay_out_of_reach() {
    let world = World::new();
    world.made("sandbox.toml", "evil");
    for declared in ["**", "sandbox.toml"] {
        assert!(matches!(world.refuse(&[declared]), OutputError::Refused { reason: Refusal::Protected, .. }));
    }
    let world = World::new();
    world.made("sandbox.toml/x", "evil");
    assert!(matches!(world.refuse(&["**"]), OutputError::Refused { reason: Refusal::Protected, .. }));

    let world = World::new();
    world.made(".sbx-outputs-x/new/0", "evil");
    assert!(matches!(world.refuse(&["**"]), OutputError::Refused { reason: Refusal::Reserved, .. }));

    let world = World::new();
    world.made(".git/hooks/post-checkout", "evil");
    world.made("sub/.git/config", "evil");
    world.made("sub/fine", "fine");
    assert_eq!(world.bring(&["**"]).unwrap(), [file("sub/fine", "fine")]);
    assert_eq!(world.bring(&["*"]).unwrap(), [file("sub/fine", "fine")]);
}

#[test]
fn an_input_that_was_not_written_is_not_an_output() {
    let mut world = World::unwritten();
    world.made("src/main.c", "input");
    world.made("src/gen.c", "changed");
    write(world.base.path().join("upper/src/src/gen.c"), "changed");
    world.had("src/main.c", "edited meanwhile");
    world.last = vec![file("src/main.c", "edited meanwhile")];
    assert_eq!(world.bring(&["src/**"]).unwrap(), [file("src/gen.c", "changed")]);
    assert_eq!(world.texts(), pairs(&[("src/gen.c", "changed"), ("src/main.c", "edited meanwhile")]));
}

#[test]
fn directories_and_files_closed_to_their_owner_come_back() {
    let world = World::new();
    for (index, closed) in [0o000, 0o400, 0o200, 0o100, 0o700].into_iter().enumerate() {
        let deep = world.made(&format!("out/d{index}/deep/file"), "content");
        chmod(&deep, closed);
        chmod(deep.parent().unwrap(), closed);
        chmod(deep.parent().unwrap().parent().unwrap(), closed);
    }
    chmod(world.inside("out"), 0);
    assert_eq!(world.bring(&["out"]).unwrap().len(), 5);
    assert_eq!(mode(world.project("out/d0/deep/file")), 0o644);
    assert_eq!(mode(world.project("out/d3/deep/file")), 0o755);
    for index in 0..5 {
        assert_eq!(mode(world.project(&format!("out/d{index}/deep"))), 0o755);
    }
}

#[test]
fn deep_trees_come_back_or_are_refused_but_never_crash() {
    let deep = |world: &World, levels: usize| {
        let mut at = File::open(world.inside("")).unwrap();
        for _ in 0..levels {
            beneath::create_directory(&at, "d".as_ref(), 0o755).unwrap();
            at = beneath::open_directory(&at, "d").unwrap().into();
        }
        beneath::create_file(&at, "leaf".as_ref()).unwrap().write_all(b"deep").unwrap();
    };
    let world = World::new();
    deep(&world, 1900);
    let outputs = world.bring(&["d"]).unwrap();
    assert_eq!(outputs, [file(&format!("{}leaf", "d/".repeat(1900)), "deep")]);
    assert_eq!(world.bring(&["d"]).unwrap(), outputs);
    beneath::remove_tree(File::open(world.project("")).unwrap(), "d".as_ref()).unwrap();

    let world = World::new();
    deep(&world, 5000);
    assert!(matches!(world.refuse(&["d"]), OutputError::Refused { reason: Refusal::TooLong, .. }));
    beneath::remove_tree(File::open(world.inside("")).unwrap(), "d".as_ref()).unwrap();
}

#[test]
fn sparse_files_come_back_whole_and_sparse() {
    let world = World::new();
    let mut sparse = File::create(world.inside("sparse")).unwrap();
    sparse.write_all(b"head").unwrap();
    sparse.seek(SeekFrom::Start(20 << 20)).unwrap();
    sparse.write_all(&vec![7; 300_000]).unwrap();
    sparse.set_len(64 << 20).unwrap();
    let outputs = world.bring(&["sparse"]).unwrap();
    let content = fs::read(world.inside("sparse")).unwrap();
    assert!(fs::read(world.project("sparse")).unwrap() == content);
    assert_eq!(outputs, [Output::file("sparse", false, &Digest::of(&content))]);
    let blocks = |path| fs::metadata(path).unwrap().blocks();
    assert!(blocks(world.project("sparse")) <= blocks(world.inside("sparse")) + 64);
}

#[test]
fn what_the_last_run_made_goes_and_nothing_else() {
    let mut world = World::new();
    world.made("out/kept", "new");
    world.had("out/stale", "stale");
    world.had("out/edited", "edited since");
    world.had("out/users", "own");
    world.had("out/only/stale", "stale");
    world.had("out/mixed/stale", "stale");
    world.had("out/mixed/users", "own");
    world.had("undeclared/stale", "stale");
    chmod(world.had("out/chmodded", "stale"), 0o755);
    symlink("stale", world.project("out/link")).unwrap();
    symlink("edited", world.project("out/edited-link")).unwrap();
    symlink(world.base.path().join("outside"), world.project("out/linked")).unwrap();
    write(world.base.path().join("outside/stale"), "stale");
    fs::create_dir(world.project("out/empty")).unwrap();
    world.last = vec![
        file("out/kept", "old"),
        file("out/stale", "stale"),
        file("out/edited", "stale"),
        file("out/chmodded", "stale"),
        file("out/gone-already", "stale"),
        file("out/linked/stale", "stale"),
        file("out/mixed/stale", "stale"),
        file("out/only/stale", "stale"),
        file("out/../../outside/stale", "stale"),
        file("undeclared/stale", "stale"),
        Output::symlink("out/link", "stale"),
        Output::symlink("out/edited-link", "stale"),
        Output::directory("out/empty"),
    ];
    world.bring(&["out"]).unwrap();
    let outside = world.base.path().join("outside");
    assert_eq!(
        world.texts(),
        pairs(&[
            ("out/chmodded", "stale"),
            ("out/edited", "edited since"),
            ("out/edited-link", "edited"),
            ("out/kept", "new"),
            ("out/linked", outside.to_str().unwrap()),
            ("out/mixed/users", "own"),
            ("out/users", "own"),
            ("undeclared/stale", "stale"),
        ])
    );
    assert!(!world.project("out/only").exists() && !world.project("out/empty").exists());
    assert_eq!(fs::read_to_string(outside.join("stale")).unwrap(), "stale");
}

#[test]
fn a_directory_that_became_a_file_and_back_is_what_the_last_run_made() {
    let mut world = World::new();
    world.made("out/x", "one");
    world.last = world.bring(&["**"]).unwrap();
    fs::remove_dir_all(world.inside("out")).unwrap();
    world.made("out", "two");
    world.last = world.bring(&["**"]).unwrap();
    assert_eq!(world.texts(), pairs(&[("out", "two")]));
    fs::remove_file(world.inside("out")).unwrap();
    world.made("out/x", "three");
    world.bring(&["**"]).unwrap();
    assert_eq!(world.texts(), pairs(&[("out/x", "three")]));
}

/// A commit of every kind of change, planned but not begun, and a slot that it does not use.
fn prepared(world: &mut World) -> (Staging, Vec<Operation>, Slot) {
    world.made("a-new", "new");
    world.made("b-replaced", "new");
    world.made("c-was-dir", "new");
    world.made("d-was-file/x", "new");
    world.made("e/f/g/deep", "new");
    symlink("new", world.inside("h-link")).unwrap();
    world.had("b-replaced", "old");
    world.had("c-was-dir/x", "old");
    world.had("d-was-file", "old");
    world.had("h-link", "old");
    world.had("i-stale/x", "stale");
    world.had("j-own", "own");
    world.last = vec![file("c-was-dir/x", "old"), file("i-stale/x", "stale")];
    let patterns = vec![pattern("*")];
    let request = world.request(&patterns, "run");
    let selection = Selection::new(&patterns).unwrap();
    let mut staging = Staging::create(&request).unwrap();
    let mut found = collect(&request, &world.finished(), &selection, &mut staging).unwrap();
    let (spare, _) = staging.create_file().unwrap();
    let operations = commit::plan(&staging, &selection, &world.last, &mut found).unwrap();
    (staging, operations, spare)
}

const DONE: [(&str, &str); 7] = [
    ("a-new", "new"),
    ("b-replaced", "new"),
    ("c-was-dir", "new"),
    ("d-was-file/x", "new"),
    ("e/f/g/deep", "new"),
    ("h-link", "new"),
    ("j-own", "own"),
];

#[test]
fn a_commit_killed_anywhere_is_completed_by_the_next_run() {
    for kill_after in 0.. {
        let mut world = World::new();
        let (mut staging, operations, _) = prepared(&mut world);
        let lock = Lock::take(&world.journals()).unwrap();
        lock.write("run", &operations).unwrap();
        let mut place = operation::Place::new(&staging.directories);
        operations.iter().take(kill_after).for_each(|operation| place.apply(operation).unwrap());
        // As the kernel would: locks are released, nothing is tidied up.
        staging.remove = false;
        drop((staging, lock));
        world.recover();
        assert_eq!(world.texts(), pairs(&DONE), "killed after {kill_after}");
        assert!(!world.project("i-stale").exists());
        if kill_after > operations.len() {
            break;
        }
    }
}

#[test]
fn a_commit_that_fails_anywhere_is_undone() {
    for fail_at in 0.. {
        let mut world = World::new();
        let (staging, mut operations, slot) = prepared(&mut world);
        if operations[..fail_at].iter().any(|operation| matches!(operation, Operation::Prune { .. })) {
            break;
        }
        let before = world.snapshot();
        operations.insert(fail_at, Operation::Put { path: "j-own/below-a-file".to_owned(), slot });
        let error = carry_out(&staging.directories, &operations, &staging.path()).unwrap_err();
        assert!(matches!(&error, OutputError::Place { path, .. } if path == "j-own/below-a-file"), "{error:?}");
        assert_eq!(world.snapshot(), before, "failed at {fail_at}");
    }
}

#[test]
fn a_change_that_was_half_made_without_exchange_is_completed_or_undone() {
    for complete in [true, false] {
        let mut world = World::new();
        let (staging, operations, _) = prepared(&mut world);
        let before = world.snapshot();
        let put = |operation: &&Operation| matches!(operation, Operation::Put { path, .. } if path == "b-replaced");
        let Some(put @ Operation::Put { slot, .. }) = operations.iter().find(put) else { panic!("no such operation") };
        fs::rename(world.project("b-replaced"), staging.path().join("old").join(slot_name(slot.number))).unwrap();
        let mut place = operation::Place::new(&staging.directories);
        if complete {
            place.apply(put).unwrap();
            assert_eq!(fs::read_to_string(world.project("b-replaced")).unwrap(), "new");
        }
        place.undo(put).unwrap();
        assert_eq!(world.snapshot(), before);
    }
}

#[test]
fn a_directory_that_refuses_a_change_leaves_the_project_as_it_was() {
    let mut world = World::new();
    world.made("a", "new");
    world.made("locked/b", "new");
    world.made("z", "new");
    world.had("a", "old");
    world.had("locked/b", "old");
    world.had("stale", "stale");
    world.last = vec![file("stale", "stale")];
    chmod(world.project("locked"), 0o555);
    if is_root(&world) {
        // Permissions bind only ordinary users; CI runs the tests as one, too.
        world.bring(&["**"]).unwrap();
        assert_eq!(world.texts(), pairs(&[("a", "new"), ("locked/b", "new"), ("z", "new")]));
    } else {
        let error = world.refuse(&["**"]);
        assert!(matches!(&error, OutputError::Place { path, .. } if path == "locked/b"), "{error:?}");
        assert_eq!(world.texts(), pairs(&[("a", "old"), ("locked/b", "old"), ("stale", "stale")]));
    }
    chmod(world.project("locked"), 0o755);
}

#[test]
fn leftovers_without_a_journal_are_removed_and_living_stagings_are_not() {
    let world = World::new();
    world.made("out", "new");
    let living = world.stage(&["out"]).unwrap();
    recover(&world.project(""), &world.journals()).unwrap();
    assert_eq!(living.commit().unwrap(), [file("out", "new")]);

    let patterns = [pattern("out")];
    let mut dead = Staging::create(&world.request(&patterns, "dead")).unwrap();
    dead.remove = false;
    drop(dead);
    assert!(world.project(".sbx-outputs-dead/new").exists());
    world.recover();
    assert_eq!(world.texts(), pairs(&[("out", "new")]));
}

#[test]
fn a_staging_that_came_with_the_project_is_not_carried_out() {
    let world = World::new();
    world.had(".sbx-outputs-evil/new/0", "evil");
    world.had(".sbx-outputs-evil/evil.json", "{}");
    recover(&world.project(""), &world.journals()).unwrap();
    assert_eq!(fs::read_to_string(world.project(".sbx-outputs-evil/new/0")).unwrap(), "evil");
}

#[test]
fn a_damaged_journal_is_dropped_and_one_of_another_version_refused() {
    let world = World::new();
    let journal = write(world.journals().join("x.json"), "{\"version\":1,\"opera");
    world.recover();
    assert!(!journal.exists());
    fs::write(&journal, "{\"version\":2,\"steps\":[]}").unwrap();
    let error = recover(&world.project(""), &world.journals()).unwrap_err();
    assert!(matches!(error, OutputError::Version { version: 2, .. }), "{error:?}");
    assert!(journal.exists());
}

#[test]
fn commits_of_one_project_follow_one_another() {
    let world = World::new();
    for index in 0..20 {
        world.made(&format!("out/{index}"), "content");
    }
    let patterns = [pattern("out")];
    std::thread::scope(|scope| {
        for index in 0..8 {
            let (world, patterns) = (&world, &patterns);
            scope.spawn(move || {
                recover(&world.project(""), &world.journals()).unwrap();
                let outputs = stage(&world.request(patterns, &format!("run{index}")), &world.finished())
                    .unwrap()
                    .commit()
                    .unwrap();
                assert_eq!(outputs.len(), 20);
            });
        }
    });
    assert_eq!(world.texts().len(), 20);
    world.check_clean();
}
