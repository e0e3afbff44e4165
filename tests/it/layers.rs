//! The layers and the house rules, held by reading the source (ARCHITECTURE.md, "What is absent").

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use crate::support::root;

/// The modules from the top down. A module imports only from the lines below its own, and from its own line where
/// `SIDEWAYS` says so.
const LAYERS: [&[&str]; 10] = [
    &["fuzzing"],
    &["cli", "error"],
    &["ui", "bench"],
    &["doctor"],
    &["sandbox"],
    &["net", "pool"],
    &["store", "plan", "inputs", "action", "record"],
    &["config"],
    &["path", "digest"],
    &["sys"],
];
/// Pairs of one line that may import each other.
const SIDEWAYS: [(&str, &str); 6] = [
    ("cli", "error"),
    ("inputs", "store"),
    ("inputs", "action"),
    ("store", "record"),
    ("store", "action"),
    ("action", "record"),
];
/// These decide and do nothing: no file system, clock, environment or kernel.
const PURE: [&str; 6] = ["plan", "action", "config/model.rs", "config/rules", "config/url.rs", "net/policy.rs"];
/// No longer file of code without a reason in its first lines: a line that begins `//! Longer than 500 lines:`.
const LONGEST: usize = 500;

/// A source file without its comments and without its unit tests.
struct Source {
    path: String,
    code: Vec<String>,
    lines: usize,
    head: String,
}

fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    let mut open = vec![root().join("src")];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).expect("src") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(read(path));
            }
        }
    }
    assert!(found.len() > 20, "{} files of source", found.len());
    found
}

fn read(path: PathBuf) -> Source {
    let text = fs::read_to_string(&path).expect("a source file");
    let name = path.strip_prefix(root().join("src")).expect("below src").to_str().expect("UTF-8").to_owned();
    let before_tests = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let code = if name.ends_with("tests.rs") { "" } else { before_tests };
    let code = code.lines().map(|line| line.split("//").next().unwrap_or_default().trim().to_owned());
    Source {
        code: code.collect(),
        lines: text.lines().count(),
        head: text.lines().take(30).collect::<Vec<_>>().join("\n"),
        path: name,
    }
}

impl Source {
    /// The top-level module it belongs to; none for `lib.rs` and `main.rs`.
    fn module(&self) -> Option<&str> {
        let name = self.path.split('/').next()?.trim_end_matches(".rs");
        (!["lib", "main"].contains(&name)).then_some(name)
    }

    /// The top-level modules of sbx that it names.
    fn imports(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for line in &self.code {
            for (index, _) in line.match_indices("crate::") {
                let rest = &line[index + "crate::".len()..];
                let group = rest.strip_prefix('{').and_then(|rest| rest.split('}').next());
                for word in group.map_or_else(|| vec![rest], |group| group.split(',').collect()) {
                    let name = word.trim().split(|c: char| !c.is_alphanumeric() && c != '_').next();
                    found.extend(name.filter(|name| !name.is_empty()).map(str::to_owned));
                }
            }
        }
        found
    }

    fn uses(&self, word: &str) -> bool {
        self.code.iter().any(|line| {
            line.match_indices(word).any(|(index, _)| {
                let before = line[..index].chars().next_back();
                !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
            })
        })
    }
}

fn layer(module: &str) -> usize {
    LAYERS.iter().position(|layer| layer.contains(&module)).unwrap_or_else(|| panic!("`{module}` is in no layer"))
}

/// What breaks a rule, all of it at once.
fn none(faults: Vec<String>) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn imports_point_downward() {
    let mut faults = Vec::new();
    let sources = sources();
    for source in &sources {
        let Some(module) = source.module() else { continue };
        for import in source.imports() {
            if import == module {
                continue;
            }
            let allowed = layer(module) < layer(&import)
                || SIDEWAYS
                    .iter()
                    .any(|(a, b)| (*a, *b) == (module, import.as_str()) || (*b, *a) == (module, import.as_str()));
            if !allowed {
                faults.push(format!("src/{}: {module} imports {import}", source.path));
            }
        }
    }
    none(faults);
    // The test reads what it means to read: there are imports, and every module has a layer.
    let modules: BTreeSet<_> = sources.iter().filter_map(Source::module).collect();
    assert!(modules.iter().all(|module| layer(module) < LAYERS.len()));
    assert!(sources.iter().map(|source| source.imports().len()).sum::<usize>() > 20);
}

#[test]
fn sys_imports_nothing_of_sbx_and_has_the_kernel_to_itself() {
    let mut faults = Vec::new();
    for source in sources() {
        let in_sys = source.module() == Some("sys");
        if in_sys {
            let others = source.imports().into_iter().filter(|import| import != "sys");
            faults.extend(others.map(|import| format!("src/{} imports {import}", source.path)));
            continue;
        }
        for door in ["libc::", "nix::", "rustix::", "unsafe "] {
            if source.uses(door) {
                faults.push(format!("src/{} uses `{}`", source.path, door.trim()));
            }
        }
    }
    none(faults);
}

#[test]
fn what_decides_does_nothing() {
    let mut faults = Vec::new();
    for source in sources().iter().filter(|source| PURE.iter().any(|pure| source.path.starts_with(pure))) {
        // Of `std::net` the addresses are plain data; the sockets are not.
        let effects = [
            "std::fs",
            "std::env",
            "std::process",
            "TcpStream",
            "TcpListener",
            "UdpSocket",
            "ToSocketAddrs",
            "SystemTime",
            "Instant",
            "crate::sys",
            "File::",
        ];
        faults
            .extend(effects.iter().filter(|word| source.uses(word)).map(|word| format!("src/{}: {word}", source.path)));
    }
    none(faults);
}

#[test]
fn one_place_writes_to_each_stream() {
    let mut faults = Vec::new();
    for source in sources() {
        if ["sandbox/run.rs", "sandbox/pty.rs"].contains(&source.path.as_str()) {
            // They pass the command's own streams on.
            continue;
        }
        for word in ["println!", "print!", "eprintln!", "eprint!", "dbg!", "io::stderr", "io::stdout"] {
            if source.uses(word) && !["ui", "cli", "main"].contains(&source.module().unwrap_or("main")) {
                faults.push(format!("src/{}: {word}", source.path));
            }
        }
    }
    none(faults);
}

#[test]
fn lints_are_expected_with_a_reason_or_obeyed() {
    let mut faults = Vec::new();
    for source in sources() {
        if source.code.iter().any(|line| line.contains("[allow(")) {
            faults.push(format!("src/{}: #[allow]", source.path));
        }
        for word in ["todo!", "unimplemented!"] {
            if source.uses(word) {
                faults.push(format!("src/{}: {word}", source.path));
            }
        }
    }
    none(faults);
}

#[test]
fn files_are_short() {
    let long = |source: &Source| {
        source.lines > LONGEST
            && !source.path.ends_with("tests.rs")
            && !source.head.contains("//! Longer than 500 lines:")
    };
    none(
        sources()
            .iter()
            .filter(|source| long(source))
            .map(|one| format!("src/{}: {} lines", one.path, one.lines))
            .collect(),
    )
}

/// Each library is opened, mapped and relocated at every start (`sbx::sys::math`).
#[test]
fn the_program_starts_without_the_mathematical_library() {
    let program = fs::read(env!("CARGO_BIN_EXE_sbx")).unwrap();
    let names = |name: &[u8]| program.windows(name.len()).any(|window| window == name);
    assert!(names(b"\0libc.so"));
    assert!(!names(b"\0libm.so"));
}
