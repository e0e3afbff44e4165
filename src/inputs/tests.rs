//! Longer than 500 lines: one fixture, and a short test for each thing that can stand in a project.

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

    fn prepare(&self) -> Result<(Collected, Layers), InputError> {
        let sources = Sources { root: &self.root, settings: &self.settings, proxies: &Proxies::default(), fed: &[] };
        prepare(sources, &self.store, &self.key, &Silent)
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

#[test]
fn the_last_matching_pattern_wins() {
    let mut fixture = Fixture::new(&["src/**", "!src/**/*.tmp", "src/keep.tmp"]);
    for path in ["src/a.c", "src/b.tmp", "src/keep.tmp", "src/d/c.tmp", "src/d/e.c", "other", "Src/a.c", "src.c"] {
        fixture.write(path, "");
    }
    assert_eq!(fixture.paths(), ["src/a.c", "src/d/e.c", "src/keep.tmp"]);
    fixture.patterns(&["src/keep.tmp", "src/**", "!src/**/*.tmp"]);
    assert_eq!(fixture.paths(), ["src/a.c", "src/d/e.c"]);
    fixture.patterns(&["*/a.c"]);
    assert_eq!(fixture.paths(), ["Src/a.c", "src/a.c"]);
    fixture.patterns(&["src/*"]);
    assert_eq!(fixture.paths(), ["src/a.c", "src/b.tmp", "src/keep.tmp"]);
    fixture.patterns(&["**/e.c", "{other,src/[ab]*}"]);
    assert_eq!(fixture.paths(), ["other", "src/a.c", "src/b.tmp", "src/d/e.c"]);
}

#[test]
fn a_plain_name_is_a_directory_with_everything_below() {
    let mut fixture = Fixture::new(&["src", "!src/gen"]);
    fixture.write("src/a", "").write("src/d/.hidden", "").write("src/gen/x/y", "").write("srcs", "").mkdir("src/d/e");
    assert_eq!(fixture.paths(), ["src/a", "src/d/.hidden", "src/d/e"]);
    fixture.patterns(&["src", "!src/gen", "src/gen/x"]);
    assert_eq!(fixture.paths(), ["src/a", "src/d/.hidden", "src/d/e", "src/gen/x/y"]);
}

#[test]
fn no_patterns_are_no_inputs() {
    let fixture = Fixture::new(&[]);
    fixture.write("a", "");
    assert!(fixture.paths().is_empty());
    assert_eq!(fixture.collect().unwrap().manifest.root_digest(), Digest::of(b""));
}

#[test]
fn only_empty_directories_are_entries() {
    let mut fixture = Fixture::new(&["**"]);
    fixture.write("full/a", "").mkdir("empty").mkdir("deep/empty").write("ignoring/x.o", "").write(".gitignore", "*.o");
    assert_eq!(fixture.paths(), [".gitignore", "deep/empty", "empty", "full/a"]);
    fixture.patterns(&["full/*", "empty"]);
    assert_eq!(fixture.paths(), ["empty", "full/a"]);
    fixture.patterns(&["**", "!empty", "!deep/**"]);
    assert_eq!(fixture.paths(), [".gitignore", "full/a"]);
}

#[test]
fn the_repository_and_our_staging_are_left_out() {
    let mut fixture = Fixture::new(&["**"]);
    fixture.write(".git/config", "").write("sub/.git/config", "").write("sub/a", "").write(".sbx-outputs-1/x", "");
    fixture.write("sub/.sbx-outputs-2", "");
    assert_eq!(fixture.paths(), ["sub/a"]);
    fixture.patterns(&["**", ".git/config"]);
    assert_eq!(fixture.paths(), [".git/config", "sub/a"]);
    fixture.patterns(&[".git"]);
    assert_eq!(fixture.paths(), [".git/config"]);
    fixture.patterns(&["*git/config"]);
    assert_eq!(fixture.error(), "the pattern `*git/config` matches nothing");
}

#[test]
fn a_pattern_without_a_match_is_told_with_its_reason() {
    let mut fixture = Fixture::new(&["a", "nothing", "!never", "*.log", "sub/*", "build/**"]);
    fixture
        .write("a", "")
        .write("x.log", "")
        .write("sub/d/e", "")
        .write("build/out", "")
        .write(".gitignore", "*.log\n/build");
    let by = fixture.root.join(".gitignore");
    assert_eq!(
        fixture.error(),
        format!(
            "4 inputs can't be used:\n  \
             the pattern `nothing` matches nothing\n  \
             the pattern `*.log` matches only what {by} ignores (`gitignore = false` turns that off)\n  \
             the pattern `sub/*` matches only directories, not what is in them (write `sub/*/**`)\n  \
             the pattern `build/**` matches only what {by} ignores (`gitignore = false` turns that off)",
            by = by.display()
        )
    );
    fixture.settings.gitignore = Gitignore::Disregard;
    fixture.patterns(&["a", "*.log", "build/**"]);
    assert_eq!(fixture.paths(), ["a", "build/out", "x.log"]);
}

#[test]
fn an_ignored_project_is_told() {
    let fixture = Fixture::new(&["a"]);
    fixture.write("a", "");
    let above = fixture.root.parent().unwrap();
    fs::create_dir(above.join(".git")).unwrap();
    fs::write(above.join(".gitignore"), "/project/").unwrap();
    let by = above.join(".gitignore");
    assert!(fixture.error().contains(&format!("only what {} ignores", by.display())), "{}", fixture.error());
}

#[test]
fn links_stay_links_and_must_stay_inside() {
    let fixture = Fixture::new(&["**"]);
    fixture.write("d/a", "").link("a", "d/ok").link("../d/../d", "d/up").link("nowhere", "dangling").link("d", "dir");
    assert_eq!(fixture.paths(), ["d/a", "d/ok", "d/up", "dangling", "dir"]);
    fixture.link("/etc/passwd", "abs").link("..", "d/fine").link("../..", "d/out").link("../project/d/a", "back");
    assert_eq!(
        fixture.error(),
        "3 inputs can't be used:\n  \
         abs: the link leaves the project, its target is /etc/passwd\n  \
         back: the link leaves the project, its target is ../project/d/a\n  \
         d/out: the link leaves the project, its target is ../.."
    );
}

#[test]
fn what_a_tree_cannot_carry_is_refused_by_name() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    let mut fixture = Fixture::new(&["**"]);
    fixture.write("fine", "").write("esc\u{1b}[31m", "");
    fs::write(fixture.root.join(OsStr::from_bytes(b"latin\xe9")), "").unwrap();
    fs::create_dir(fixture.root.join(OsStr::from_bytes(b"dir\xff"))).unwrap();
    fs::write(fixture.root.join(OsStr::from_bytes(b"dir\xff/inside")), "").unwrap();
    symlink(OsStr::from_bytes(b"\xfe"), fixture.root.join("link")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(fixture.root.join("socket")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(fixture.root.join("fifo")).status().unwrap().success());
    assert_eq!(
        fixture.error(),
        "6 inputs can't be used:\n  \
         dir\\xff: the name is not UTF-8\n  \
         esc\\u{1b}[31m: the name has a control character\n  \
         fifo: a FIFO can't be an input\n  \
         latin\\xe9: the name is not UTF-8\n  \
         link: the link's target `\\xfe` can't be stored\n  \
         socket: a socket can't be an input"
    );
    fixture.patterns(&["fine"]);
    assert_eq!(fixture.paths(), ["fine"]);
}

#[test]
fn many_faults_are_counted() {
    let fixture = Fixture::new(&["**"]);
    for index in 0..25 {
        fixture.link("/", &format!("l{index:02}"));
    }
    let error = fixture.error();
    assert!(error.starts_with("25 inputs can't be used:\n  l00: ") && error.ends_with("\n  and 5 more"), "{error}");
    assert_eq!(error.lines().count(), 22);
}

#[test]
fn the_executable_bit_is_the_owners() {
    let fixture = Fixture::new(&["**"]);
    for (name, mode) in [("a", 0o755), ("b", 0o655), ("c", 0o700), ("d", 0o4711), ("e", 0o444)] {
        fixture.write(name, name);
        chmod(&fixture.root.join(name), mode);
    }
    let manifest = fixture.collect().unwrap().manifest;
    let executable: Vec<_> =
        manifest.entries.iter().map(|entry| matches!(entry.node, Node::File { executable: true, .. })).collect();
    assert_eq!(executable, [true, false, true, true, false]);
}

/// Lets the clock by which files are stamped go on far enough for them to be trusted.
fn settle() {
    std::thread::sleep(std::time::Duration::from_millis(80));
}

#[test]
fn known_files_are_not_read_again() {
    let fixture = Fixture::new(&["**"]);
    fixture.write("a", "one").write("b/c", "two").link("a", "l");
    settle();
    let first = fixture.collect().unwrap();
    let second = fixture.collect().unwrap();
    assert_eq!((first.hashed, second.hashed), (2, 0));
    assert_eq!(first.manifest, second.manifest);
    let modified = fs::metadata(fixture.root.join("a")).unwrap().modified().unwrap();
    fixture.write("a", "eno");
    fs::File::options().write(true).open(fixture.root.join("a")).unwrap().set_modified(modified).unwrap();
    let third = fixture.collect().unwrap();
    assert_eq!(third.hashed, 1, "same size, same mtime, another content");
    assert_ne!(third.manifest, second.manifest);
}

#[test]
fn young_files_are_never_trusted() {
    let fixture = Fixture::new(&["a"]);
    for text in ["one", "two", "six", "ten"] {
        fixture.write("a", text);
        let digest = Digest::of(text.as_bytes());
        assert_eq!(fixture.collect().unwrap().manifest.entries[0].node, Node::File { digest, executable: false });
    }
}

#[test]
fn a_damaged_memo_knows_nothing() {
    let fixture = Fixture::new(&["**"]);
    fixture.write("a", "one");
    settle();
    let first = fixture.collect().unwrap();
    let memo = fixture.store.memo_path(&fixture.key);
    let mut bytes = fs::read(&memo).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    fs::write(&memo, bytes).unwrap();
    let second = fixture.collect().unwrap();
    assert_eq!((second.hashed, second.manifest), (1, first.manifest));
    assert_eq!(fixture.collect().unwrap().hashed, 0);
}

#[test]
fn a_lost_blob_is_taken_from_its_source_again() {
    let fixture = Fixture::new(&["**"]);
    fixture.write("a", "one").write("b", "two");
    settle();
    fixture.collect().unwrap();
    fs::remove_dir_all(fixture.store.path().join("blobs")).unwrap();
    assert_eq!(fixture.collect().unwrap().hashed, 0);
    let (collected, layers) = fixture.prepare().unwrap();
    assert_eq!(collected.hashed, 2);
    assert_eq!(fs::read(fixture.store.path().join(&layers.lower[0]).join("src/b")).unwrap(), b"two");
}

#[test]
fn the_digest_knows_nothing_but_the_content() {
    let digest = |prepare: fn(&Fixture)| {
        let fixture = Fixture::new(&["**"]);
        prepare(&fixture);
        fixture.collect().unwrap().manifest.root_digest()
    };
    let one = digest(|fixture| {
        fixture.write("a", "1").write("b/c", "2").write("b.d", "3");
    });
    let other = digest(|fixture| {
        fixture.write("b.d", "3").write("b/c", "2").write("a", "1");
        for (path, mode) in [("a", 0o600), ("b/c", 0o666), ("b", 0o700)] {
            chmod(&fixture.root.join(path), mode);
        }
        let old = std::time::SystemTime::UNIX_EPOCH;
        fs::File::open(fixture.root.join("a")).unwrap().set_modified(old).unwrap();
    });
    assert_eq!(one, other);
    let renamed = digest(|fixture| {
        fixture.write("a", "1").write("b/c", "2").write("b.e", "3");
    });
    assert_ne!(one, renamed);
}

/// The files of the fixture that git would offer to add, with no configuration of the caller's.
fn git_sees(fixture: &Fixture) -> Vec<String> {
    let output = std::process::Command::new("git")
        .args(["-c", "core.excludesFile=/dev/null", "ls-files", "--others", "--exclude-standard", "-z"])
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .current_dir(&fixture.root)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let mut paths: Vec<_> = text.split_terminator('\0').map(str::to_owned).collect();
    paths.sort_by(|one, other| path_order(one, other));
    paths
}

fn git_init(dir: &Path) {
    assert!(std::process::Command::new("git").args(["init", "-q"]).current_dir(dir).status().unwrap().success());
}

#[test]
fn what_git_ignores_is_what_git_says() {
    let names = ["a", "b", "c.o", "d.tmp", "build", "sub", "x y", "#h", "!n", "[z]"];
    let lines = [
        "*.o",
        "/a",
        "a",
        "b/",
        "!c.o",
        "sub/*",
        "!sub/b",
        "build",
        "**/d.tmp",
        "sub/**/a",
        "/sub/**",
        "x y",
        "x\\ y ",
        "\\#h",
        "# comment",
        "\\!n",
        "[ab]",
        "[!a]",
        "?",
        "*",
        "!*/",
        "!*.tmp",
        "a/**/b",
        "**/sub/",
        "\\[z\\]",
        "",
        " ",
        "b/a/",
        "!/build/",
        "*/a",
        "c.*\r",
        "build/**",
        "!build/sub",
    ];
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut below = |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % u64::try_from(bound).unwrap()).unwrap()
    };
    let mut ignored = 0;
    for round in 0..60 {
        let mut fixture = Fixture::new(&["**"]);
        let top = fixture.root.clone();
        git_init(&top);
        if round % 3 == 0 {
            fixture.root = top.join("sub/project");
            fs::create_dir_all(&fixture.root).unwrap();
        }
        let mut wanted = 0;
        for _ in 0..40 {
            let path = (0..=below(3)).map(|_| names[below(names.len())]).collect::<Vec<_>>().join("/");
            let path = fixture.root.join(path);
            if fs::create_dir_all(path.parent().unwrap()).is_ok() && !path.exists() && fs::write(&path, "").is_ok() {
                wanted += 1;
            }
        }
        let mut rules = String::new();
        let mut some_rules = |below: &mut dyn FnMut(usize) -> usize| {
            let text: String = (0..below(5)).map(|_| format!("{}\n", lines[below(lines.len())])).collect();
            rules += &format!("{text:?} ");
            text
        };
        fs::write(top.join(".gitignore"), some_rules(&mut below)).unwrap();
        fs::write(top.join(".git/info/exclude"), some_rules(&mut below)).unwrap();
        for dir in ["sub", "build", "a", "b", ""] {
            let dir = fixture.root.join(dir);
            if dir.is_dir() && dir != top {
                fs::write(dir.join(".gitignore"), some_rules(&mut below)).unwrap();
            }
        }
        let git = git_sees(&fixture);
        let ours = match fixture.collect() {
            Ok(collected) => collected.manifest.entries,
            Err(InputError::Faults(Faults { list, .. })) if matches!(list[..], [Fault::OnlyIgnored { .. }]) => vec![],
            Err(error) => panic!("{error}"),
        };
        let files = ours.into_iter().filter(|entry| entry.node != Node::EmptyDirectory).map(|entry| entry.path);
        assert_eq!(files.collect::<Vec<_>>(), git, "round {round}, rules {rules}");
        ignored += usize::from(git.len() < wanted);
    }
    assert!(ignored > 20, "only {ignored} rounds ignored anything");
}

#[test]
fn a_worktree_of_git_has_its_rules_elsewhere() {
    let mut fixture = Fixture::new(&["**"]);
    let main = fixture.root.parent().unwrap().join("main");
    fs::create_dir(&main).unwrap();
    git_init(&main);
    fs::write(main.join(".git/info/exclude"), "*.secret\n").unwrap();
    let git = |args: &[&str]| {
        let mut git = std::process::Command::new("git");
        git.args(["-c", "user.name=n", "-c", "user.email=e"]).args(args).current_dir(&main);
        assert!(git.output().unwrap().status.success(), "{args:?}");
    };
    git(&["commit", "-q", "--allow-empty", "-m", "m"]);
    git(&["worktree", "add", "-q", "../tree"]);
    fixture.root = main.parent().unwrap().join("tree");
    fixture.write("a", "").write("b.secret", "");
    assert_eq!(fixture.paths(), ["a"]);
    assert_eq!(git_sees(&fixture), ["a"]);
}

#[test]
fn unreadable_paths_are_told_by_name() {
    if crate::sys::files::effective_uid() == 0 {
        // Root reads everything; the same test as an ordinary user says more.
        let exe = std::env::current_exe().unwrap();
        let output = std::process::Command::new("setpriv")
            .args(["--reuid", "61234", "--regid", "61234", "--clear-groups"])
            .arg(exe)
            .args(["--exact", "inputs::tests::unreadable_paths_are_told_by_name"])
            .output()
            .unwrap();
        assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
        return;
    }
    let mut fixture = Fixture::new(&["**"]);
    fixture
        .write("dir/a", "")
        .write("file", "secret")
        .write("fine", "")
        .write("rules/x", "")
        .write("rules/.gitignore", "");
    for path in ["dir", "file", "rules/.gitignore"] {
        chmod(&fixture.root.join(path), 0);
    }
    let error = fixture.error();
    chmod(&fixture.root.join("dir"), 0o755);
    assert!(error.starts_with("2 inputs can't be used:\n  dir: "), "{error}");
    assert!(error.contains("Permission denied") && error.contains("rules/.gitignore: "), "{error}");
    chmod(&fixture.root.join("rules/.gitignore"), 0o644);
    assert!(fixture.error().starts_with("file: Permission denied"), "{}", fixture.error());
    fixture.patterns(&["**", "!file"]);
    assert_eq!(fixture.paths(), ["dir/a", "fine", "rules/.gitignore", "rules/x"]);
}

#[test]
fn a_directory_swapped_for_a_link_is_never_followed() {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    let fixture = Fixture::new(&["**"]);
    fixture.write("d/f", "inside");
    let outside = fixture.root.parent().unwrap().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("f"), "host secret").unwrap();
    let (dir, aside) = (fixture.root.join("d"), fixture.root.parent().unwrap().join("aside"));
    let (stop, swaps) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut collected = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                fs::rename(&dir, &aside).unwrap();
                symlink(&outside, &dir).unwrap();
                fs::remove_file(&dir).unwrap();
                fs::rename(&aside, &dir).unwrap();
                swaps.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(std::time::Duration::from_micros(200));
            }
        });
        while collected < 50 || swaps.load(Ordering::Relaxed) < 200 {
            // What a swap made impossible to read is a fault; what was read is what was inside.
            let Ok(found) = fixture.collect() else { continue };
            collected += 1;
            for entry in found.manifest.entries {
                assert_eq!(entry.node, Node::File { digest: Digest::of(b"inside"), executable: false }, "{entry:?}");
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn what_is_fed_stands_in_the_place_of_what_was_there() {
    let manifest = |paths: &[&str]| {
        let entry = |text: &&str| {
            let node = match text.strip_suffix('/') {
                Some(_) => Node::EmptyDirectory,
                None => Node::File { digest: Digest::of(text.as_bytes()), executable: false },
            };
            Entry { path: text.trim_end_matches(['/', '!']).to_owned(), node }
        };
        let mut entries: Vec<_> = paths.iter().map(entry).collect();
        entries.sort_by(|one, other| path_order(&one.path, &other.path));
        Manifest { entries }
    };
    let cases: [(&[&str], &[&str], &[&str]); 8] = [
        (&["a", "b"], &[], &["a", "b"]),
        (&["a", "b"], &["a!"], &["a!", "b"]),
        (&["a/x", "a/y/z", "a.b"], &["a!"], &["a!", "a.b"]),
        (&["a", "c"], &["a/x!"], &["a/x!", "c"]),
        (&["a/", "c"], &["a/x!"], &["a/x!", "c"]),
        (&["a/x", "c"], &["a/"], &["a/x", "c"]),
        (&["a", "c"], &["a/", "b/"], &["a/", "b/", "c"]),
        (&["a/b/c", "a/b/d"], &["a/b/c!", "a/e!"], &["a/b/c!", "a/b/d", "a/e!"]),
    ];
    for (below, above, expected) in cases {
        let mut found = manifest(below);
        found.lay_over(&manifest(above).entries);
        assert_eq!(found, manifest(expected), "{above:?} over {below:?}");
    }
}
