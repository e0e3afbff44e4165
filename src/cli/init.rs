//! What `sbx init` writes: a commented `sandbox.toml` fitted to the project it finds.
//!
//! [`look`] finds out, [`template`] writes; between them stands plain data.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::config::model::DEFAULT_HOST_PATHS;

/// What was found in a project's directory, and of this machine what its tools need.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// The directory is in a git work tree.
    pub git: bool,
    /// `Cargo.toml`
    pub cargo: Option<Cargo>,
    /// `go.mod`
    pub go: Option<Go>,
    /// `package.json`
    pub npm: Option<Npm>,
    /// `pyproject.toml`, `setup.py` or `setup.cfg`
    pub python: Option<Python>,
    /// `CMakeLists.txt`
    pub cmake: Option<Cmake>,
    /// `GNUmakefile`, `makefile` or `Makefile`
    pub make: Option<Make>,
}

/// A tool's directory that a sandbox does not show by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toolchain {
    /// The directory with `bin` in it, absolute.
    pub prefix: String,
    /// What the tool says of itself, such as `rustc 1.95.0 (59807616e 2026-04-14)`.
    pub version: String,
}

/// A Rust project.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cargo {
    /// The name of the package's one binary, where that is plain.
    pub binary: Option<String>,
    /// `Cargo.lock` names other packages than those of the project, and nothing says where they are vendored.
    pub needs_vendoring: bool,
    /// The toolchain, when it is not in the host's own directories (rustup).
    pub toolchain: Option<Toolchain>,
}

/// A Go project.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Go {
    /// There is a `vendor` directory.
    pub vendored: bool,
    /// `GOROOT`, when there is no `go` in `/usr/bin` or `/usr/local/bin`.
    pub toolchain: Option<Toolchain>,
}

/// A Node project.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Npm {
    /// `package.json` has a script `build`.
    pub build: bool,
    /// `package.json` has a script `test`.
    pub test: bool,
    /// There is a `node_modules` directory.
    pub modules: bool,
    /// Node's prefix, when it is not in the host's own directories.
    pub toolchain: Option<Toolchain>,
}

/// A Python project.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Python {
    /// The project's files speak of pytest.
    pub pytest: bool,
    /// The packages lie in `src`.
    pub src_layout: bool,
    /// There is a `tests` directory.
    pub tests: bool,
    /// Python's prefix, when there is no `/usr/bin/python3`.
    pub toolchain: Option<Toolchain>,
}

/// A CMake project.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cmake {
    /// The top `CMakeLists.txt` turns tests on.
    pub tests: bool,
    /// `build` is a directory of the project's own, so the build needs another.
    pub build_taken: bool,
}

/// A project with a makefile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Make {
    /// The target that runs the tests: `test` or `check`.
    pub test: Option<String>,
}

/// Looks at the project in `dir`, and asks the tools it needs where they are. What can't be read or run counts as
/// absent: what is written is a draft.
pub fn look(dir: &Path) -> Found {
    let has = |name: &str| dir.join(name).is_file();
    let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap_or_default();
    let makefile = ["GNUmakefile", "makefile", "Makefile"].into_iter().find(|name| has(name));
    Found {
        git: dir.ancestors().any(|above| above.join(".git").exists()),
        cargo: has("Cargo.toml").then(|| Cargo {
            binary: binary_of(&read("Cargo.toml"), has("src/main.rs")),
            needs_vendoring: read("Cargo.lock").contains("\nsource = ")
                && !read(".cargo/config.toml").contains("vendor"),
            toolchain: outside(dir, &["rustc", "--print", "sysroot"], &["rustc", "-V"]),
        }),
        go: has("go.mod").then(|| Go {
            vendored: dir.join("vendor").is_dir(),
            toolchain: match ["/usr/bin/go", "/usr/local/bin/go"].iter().any(|path| Path::new(path).exists()) {
                true => None,
                false => toolchain(dir, &["go", "env", "GOROOT"], &["go", "version"]),
            },
        }),
        npm: has("package.json").then(|| {
            let package: Value = serde_json::from_str(&read("package.json")).unwrap_or_default();
            Npm {
                build: package["scripts"]["build"].is_string(),
                test: package["scripts"]["test"].is_string(),
                modules: dir.join("node_modules").is_dir(),
                toolchain: outside(
                    dir,
                    &["node", "-p", "path.dirname(path.dirname(process.execPath))"],
                    &["node", "-v"],
                ),
            }
        }),
        python: (has("pyproject.toml") || has("setup.py") || has("setup.cfg")).then(|| Python {
            pytest: ["pyproject.toml", "setup.cfg", "tox.ini"].iter().any(|name| read(name).contains("pytest"))
                || ["pytest.ini", "conftest.py", "tests/conftest.py"].iter().any(|name| has(name)),
            src_layout: dir.join("src").is_dir(),
            tests: dir.join("tests").is_dir(),
            toolchain: match Path::new("/usr/bin/python3").exists() {
                true => None,
                false => outside(dir, &["python3", "-c", "import sys; print(sys.base_prefix)"], &["python3", "-V"]),
            },
        }),
        cmake: has("CMakeLists.txt").then(|| Cmake {
            tests: ["enable_testing", "CTest"].iter().any(|word| read("CMakeLists.txt").contains(word)),
            build_taken: dir.join("build").exists() && !has("build/CMakeCache.txt"),
        }),
        make: makefile.map(|name| Make { test: test_target(&read(name)) }),
    }
}

/// The name of a package's only binary: of its one `[[bin]]`, or its own when it has none but a `src/main.rs`.
fn binary_of(manifest: &str, has_main: bool) -> Option<String> {
    let manifest: toml::Table = manifest.parse().ok()?;
    let named = match manifest.get("bin") {
        Some(binaries) => binaries.as_array().filter(|list| list.len() == 1)?.first()?,
        None => manifest.get("package").filter(|_| has_main)?,
    };
    Some(named.get("name")?.as_str()?.to_owned())
}

/// The first of the targets that makefiles test with.
fn test_target(makefile: &str) -> Option<String> {
    let is_target = |target: &&str| {
        makefile.lines().any(|line| {
            let rest = line.strip_prefix(target).map(str::trim_start);
            rest.and_then(|rest| rest.strip_prefix(':')).is_some_and(|rest| !rest.starts_with('='))
        })
    };
    ["test", "check"].iter().find(|target| is_target(target)).map(|target| (*target).to_owned())
}

/// The first line of what a program says, when it runs and says something.
fn ask(dir: &Path, command: &[&str]) -> Option<String> {
    let (program, arguments) = command.split_first()?;
    let output = Command::new(program)
        .args(arguments)
        .current_dir(dir)
        .env("RUSTUP_AUTO_INSTALL", "0") // a question must not download a toolchain
        .env("GOTOOLCHAIN", "local")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().next().filter(|line| !line.is_empty()).map(str::to_owned)
}

fn toolchain(dir: &Path, prefix: &[&str], version: &[&str]) -> Option<Toolchain> {
    let prefix = fs::canonicalize(ask(dir, prefix)?).ok()?;
    Some(Toolchain { prefix: prefix.to_str()?.to_owned(), version: ask(dir, version)? })
}

/// As [`toolchain`], when the host directories that a sandbox shows do not hold it.
fn outside(dir: &Path, prefix: &[&str], version: &[&str]) -> Option<Toolchain> {
    let shown = |found: &Toolchain| DEFAULT_HOST_PATHS.iter().any(|path| Path::new(&found.prefix).starts_with(path));
    toolchain(dir, prefix, version).filter(|found| !shown(found))
}

/// A `sandbox.toml` in parts, as the kinds of project add to it.
#[derive(Default)]
struct Draft {
    /// What builds leave in the tree: taken away from the inputs.
    products: Vec<String>,
    mounts: String,
    /// Directories before the usual ones in `PATH`.
    path: Vec<String>,
    env: Vec<(&'static str, String)>,
    tasks: String,
    /// How many kinds of project have added to it.
    kinds: usize,
}

/// A task that a kind of project has.
struct Task<'a> {
    name: &'a str,
    command: &'a [&'a str],
    /// Comment lines above it.
    notes: &'a str,
    /// A line below the command.
    outputs: &'a str,
}

/// The text of a `sandbox.toml` for what was found: one that [`crate::config::parse`] takes.
pub fn template(found: &Found) -> String {
    let mut draft = Draft::default();
    if let Some(cargo) = &found.cargo {
        draft.cargo(cargo);
    }
    if let Some(go) = &found.go {
        draft.go(go);
    }
    if let Some(npm) = &found.npm {
        draft.npm(npm);
    }
    if let Some(python) = &found.python {
        draft.python(python);
    }
    if found.cmake.is_some() || found.make.is_some() {
        draft.c(found);
    }
    draft.text(found.git)
}

impl Draft {
    fn cargo(&mut self, cargo: &Cargo) {
        self.begin(&["target/**"]);
        self.toolchain(
            cargo.toolchain.as_ref(),
            "/opt/rust",
            "rustc and cargo, from outside of the system's directories",
        );
        self.env.push(("CARGO_HOME", "/home/builder/.cargo".to_owned()));
        let vendor = "There is no network inside: `cargo vendor` puts the dependencies into the project and prints\n\
                      what `.cargo/config.toml` must say, so that `--offline` finds them.";
        let notes = if cargo.needs_vendoring { vendor } else { "" };
        let outputs = match &cargo.binary {
            Some(name) => format!("outputs = [{}]", quote(&format!("target/release/{name}"))),
            None => "# outputs = [\"target/release/app\"]".to_owned(),
        };
        let command = &["cargo", "build", "--release", "--offline"];
        self.task("cargo", &Task { name: "build", command, notes, outputs: &outputs });
        self.task("cargo", &Task { name: "test", command: &["cargo", "test", "--offline"], notes: "", outputs: "" });
    }

    fn go(&mut self, go: &Go) {
        self.begin(&[]);
        self.toolchain(go.toolchain.as_ref(), "/opt/go", "Go, from outside of the usual search path");
        self.env.push(("GOPROXY", "off".to_owned()));
        self.env.push(("GOTOOLCHAIN", "local".to_owned()));
        let vendor = "There is no network inside: `go mod vendor` puts the dependencies into the project.";
        let notes = if go.vendored { "" } else { vendor };
        let outputs = "# outputs = [\"bin/app\"]";
        self.task("go", &Task { name: "build", command: &["go", "build", "./..."], notes, outputs });
        self.task("go", &Task { name: "test", command: &["go", "test", "./..."], notes: "", outputs: "" });
    }

    fn npm(&mut self, npm: &Npm) {
        self.begin(&["node_modules/**", "dist/**"]);
        self.toolchain(npm.toolchain.as_ref(), "/opt/node", "Node, from outside of the system's directories");
        let modules = "[[mount]]\nsource = \"node_modules\"\ntarget = \"/src/node_modules\"\n";
        if npm.modules {
            self.mounts +=
                &format!("\n# The installed packages, read-only: there is no network inside to fetch them.\n{modules}");
        } else {
            let note = "There is no network inside: run `npm ci` outside first, then show what it installed:";
            self.mounts += &format!("\n{}", comment(&format!("{note}\n{modules}")));
        }
        self.env.push(("npm_config_offline", "true".to_owned()));
        self.env.push(("npm_config_update_notifier", "false".to_owned()));
        if npm.build {
            let outputs = "# outputs = [\"dist/**\"]";
            self.task("npm", &Task { name: "build", command: &["npm", "run", "build"], notes: "", outputs });
        }
        if npm.test {
            self.task("npm", &Task { name: "test", command: &["npm", "test"], notes: "", outputs: "" });
        }
    }

    fn python(&mut self, python: &Python) {
        self.begin(&["**/__pycache__/**", "**/*.egg-info/**", ".venv/**", "venv/**", ".tox/**"]);
        self.toolchain(python.toolchain.as_ref(), "/opt/python", "Python, for there is none in /usr/bin");
        self.env.push(("PYTHONDONTWRITEBYTECODE", "1".to_owned()));
        self.env.push(("PYTHONHASHSEED", "0".to_owned()));
        if python.src_layout {
            self.env.push(("PYTHONPATH", "/src/src".to_owned()));
        }
        let command: &[&str] = match (python.pytest, python.tests) {
            (true, _) => &["python3", "-m", "pytest", "-p", "no:cacheprovider"],
            (false, true) => &["python3", "-m", "unittest", "discover", "-s", "tests"],
            (false, false) => &["python3", "-m", "unittest", "discover"],
        };
        let notes =
            "The packages it imports must be in a directory that the sandbox shows: the system's, or a `[[mount]]`.";
        self.task("python", &Task { name: "test", command, notes, outputs: "" });
    }

    fn c(&mut self, found: &Found) {
        if let Some(cmake) = &found.cmake {
            let to = if cmake.build_taken { "build-sbx" } else { "build" };
            self.begin(&[&format!("{to}/**")]);
            let build = format!("cmake -S . -B {to} && cmake --build {to} --parallel");
            let outputs = &format!("# outputs = [\"{to}/app\"]");
            self.task("cmake", &Task { name: "build", command: &["sh", "-c", &build], notes: "", outputs });
            if cmake.tests {
                let test = format!("{build} && ctest --test-dir {to} --output-on-failure");
                self.task("cmake", &Task { name: "test", command: &["sh", "-c", &test], notes: "", outputs: "" });
            }
        }
        if let Some(make) = &found.make {
            self.begin(&["**/*.o"]);
            let outputs = "# outputs = [\"build/app\"]";
            self.task("make", &Task { name: "build", command: &["make"], notes: "", outputs });
            if let Some(target) = &make.test {
                self.task("make", &Task { name: "test", command: &["make", target], notes: "", outputs: "" });
            }
        }
    }

    /// Begins a kind of project, with the globs of what its builds leave.
    fn begin(&mut self, products: &[&str]) {
        self.kinds += 1;
        self.products.extend(products.iter().map(|glob| format!("!{glob}")));
    }

    fn toolchain(&mut self, toolchain: Option<&Toolchain>, target: &str, what: &str) {
        let Some(Toolchain { prefix, version }) = toolchain else { return };
        self.path.push(format!("{target}/bin"));
        self.mounts += &format!(
            "\n# {what}.\n# `version` stands for its content in the run's identity: change it when the toolchain changes.\n\
             [[mount]]\nsource = {}\ntarget = {}\nidentity = \"declared\"\nversion = {}\n",
            quote(prefix),
            quote(target),
            quote(version),
        );
    }

    /// The first kind's tasks have the plain names.
    fn task(&mut self, kind: &str, task: &Task<'_>) {
        let Task { name, command, notes, outputs } = task;
        let suffix = if self.kinds == 1 { String::new() } else { format!("-{kind}") };
        let words: Vec<String> = command.iter().map(|word| quote(word)).collect();
        let notes = comment(notes);
        self.tasks += &format!("\n{notes}[task.{name}{suffix}]\ncommand = [{}]\n", words.join(", "));
        if !outputs.is_empty() {
            self.tasks += &format!("{outputs}\n");
        }
    }

    fn text(&self, git: bool) -> String {
        let mut inputs = vec!["**".to_owned()];
        if self.kinds > 0 {
            inputs.extend(self.products.iter().cloned());
            inputs.push("!sandbox.toml".to_owned());
        }
        let inputs: Vec<String> = inputs.iter().map(|glob| format!("    {},\n", quote(glob))).collect();
        let ignored = match git {
            true => "Files that git ignores are left out; `gitignore = false` takes them in.",
            false => "`!` takes away what earlier patterns matched.",
        };
        let mut text = format!(
            "# What a command run by sbx may see and what it gives back. `sbx check` validates this file.\n\n\
             # The project's files that the command sees: nothing else of the project is visible.\n# {ignored}\n\
             inputs = [\n{}]\n\n\
             # What comes back into the project after exit 0: all of it or nothing.\n# outputs = [\"build/app\", \"dist/**\"]\n",
            inputs.concat()
        );
        text += &self.mounts;
        if !self.path.is_empty() || !self.env.is_empty() {
            text +=
                "\n# The variables beyond the few fixed ones; `pass = [\"NAME\"]` takes one from outside.\n[env.set]\n";
            if !self.path.is_empty() {
                let path = format!("{}:/usr/local/bin:/usr/bin:/bin", self.path.join(":"));
                _ = writeln!(text, "PATH = {}", quote(&path));
            }
            for (name, value) in &self.env {
                _ = writeln!(text, "{name} = {}", quote(value));
            }
        }
        text += "\n# [limits]\n# time = \"10m\"\n\n# [network]\n# host = true   # the default is none; such a run is never cached\n";
        if self.tasks.is_empty() {
            text += "\n# `sbx run test`\n# [task.test]\n# command = [\"make\", \"test\"]\n";
        } else {
            text += &self.tasks;
        }
        text
    }
}

/// The text as a TOML string.
fn quote(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// Each line of the text as a comment.
fn comment(text: &str) -> String {
    text.lines().map(|line| format!("# {line}\n")).collect()
}

#[cfg(test)]
mod tests;
