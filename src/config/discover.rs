//! Which `sandbox.toml` a command line means.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

/// The file's name.
pub const FILE_NAME: &str = "sandbox.toml";

/// A project: a directory and the file that declares its sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// The directory that holds the file, absolute and canonical. Paths in the file are relative to it.
    pub root: PathBuf,
    /// The file, absolute.
    pub config: PathBuf,
}

/// Why there is no project.
#[derive(Debug, thiserror::Error)]
pub enum DiscoverError {
    /// Neither the directory nor one above it has a `sandbox.toml`.
    #[error("no `{FILE_NAME}` in {start:?} or above")]
    NotFound {
        /// Where the search began.
        start: PathBuf,
    },
    /// A directory or file that was named can't be looked at.
    #[error("can't use {path:?}, given by {origin}")]
    Named {
        /// The path.
        path: PathBuf,
        /// What named it: `-C`, `--config` or `SBX_CONFIG`.
        origin: &'static str,
        /// What the kernel says.
        source: io::Error,
    },
    /// A directory on the way up can't be looked at.
    #[error("can't look for `{FILE_NAME}` in {path:?}")]
    Search {
        /// The directory.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// The option or variable is there and empty.
    #[error("{origin} is empty")]
    Empty {
        /// `-C`, `--config` or `SBX_CONFIG`.
        origin: &'static str,
    },
}

impl DiscoverError {
    /// What helps.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotFound { .. } => Some("`sbx init` writes one"),
            Self::Empty { origin: "SBX_CONFIG" } => Some("unset it, or give it a path"),
            Self::Named { .. } | Self::Search { .. } | Self::Empty { .. } => None,
        }
    }
}

/// Finds the project: `file` (`--config`), else `env` (`SBX_CONFIG`), else the first `sandbox.toml` in the working
/// directory or above it. `dir` (`-C`) takes the place of `cwd`, for all of them.
///
/// # Errors
/// When there is none, or a path that was named can't be used.
pub fn discover(
    cwd: &Path,
    dir: Option<&Path>,
    file: Option<&Path>,
    env: Option<&OsStr>,
) -> Result<Project, DiscoverError> {
    let start = match dir {
        Some(dir) => named(cwd, dir, "-C")?,
        None => cwd.canonicalize().map_err(|source| DiscoverError::Search { path: cwd.to_owned(), source })?,
    };
    match (file, env) {
        (Some(file), _) => project(&start, file, "--config"),
        (None, Some(file)) => project(&start, Path::new(file), "SBX_CONFIG"),
        (None, None) => search(&start),
    }
}

/// The canonical form of `path`, relative to `base`.
fn named(base: &Path, path: &Path, origin: &'static str) -> Result<PathBuf, DiscoverError> {
    if path.as_os_str().is_empty() {
        return Err(DiscoverError::Empty { origin });
    }
    base.join(path).canonicalize().map_err(|source| DiscoverError::Named { path: path.to_owned(), origin, source })
}

/// The project of a named file: the directory in which its name stands, also when the file is a link to another.
fn project(base: &Path, file: &Path, origin: &'static str) -> Result<Project, DiscoverError> {
    named(base, file, origin)?;
    let is_a_directory = || io::Error::from(io::ErrorKind::IsADirectory);
    let refuse = |source| DiscoverError::Named { path: file.to_owned(), origin, source };
    let path = base.join(file);
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(refuse(is_a_directory())) };
    let root = parent.canonicalize().map_err(refuse)?;
    let config = root.join(name);
    if config.is_dir() { Err(refuse(is_a_directory())) } else { Ok(Project { root, config }) }
}

fn search(start: &Path) -> Result<Project, DiscoverError> {
    for root in start.ancestors() {
        let config = root.join(FILE_NAME);
        match config.symlink_metadata() {
            Ok(_) => return Ok(Project { root: root.to_owned(), config }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(DiscoverError::Search { path: root.to_owned(), source }),
        }
    }
    Err(DiscoverError::NotFound { start: start.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    struct Tree(tempfile::TempDir);

    impl Tree {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir_all(dir.path().join("project/sub/deep")).unwrap();
            fs::write(dir.path().join("project/sandbox.toml"), "").unwrap();
            fs::write(dir.path().join("project/other.toml"), "").unwrap();
            Self(dir)
        }

        fn path(&self, below: &str) -> PathBuf {
            self.0.path().canonicalize().unwrap().join(below)
        }

        fn project(&self, file: &str) -> Project {
            Project { root: self.path("project"), config: self.path("project").join(file) }
        }
    }

    #[test]
    fn the_search_goes_up_from_the_working_directory() {
        let tree = Tree::new();
        for start in ["project", "project/sub/deep"] {
            assert_eq!(discover(&tree.path(start), None, None, None).unwrap(), tree.project("sandbox.toml"));
        }
    }

    #[test]
    fn the_nearest_file_wins() {
        let tree = Tree::new();
        fs::write(tree.path("project/sub/sandbox.toml"), "").unwrap();
        let found = discover(&tree.path("project/sub/deep"), None, None, None).unwrap();
        assert_eq!(found.root, tree.path("project/sub"));
    }

    #[test]
    fn a_named_file_wins_over_the_variable_and_that_over_the_search() {
        let tree = Tree::new();
        let cwd = tree.path("project/sub");
        let (option, variable) = (Path::new("../other.toml"), OsStr::new("../sandbox.toml"));
        assert_eq!(discover(&cwd, None, Some(option), Some(variable)).unwrap(), tree.project("other.toml"));
        fs::write(tree.path("project/sub/sandbox.toml"), "").unwrap();
        assert_eq!(discover(&cwd, None, None, Some(variable)).unwrap(), tree.project("sandbox.toml"));
    }

    #[test]
    fn another_directory_is_the_start_of_all_ways() {
        let tree = Tree::new();
        let outside = tree.path("");
        let dir = Some(Path::new("project/sub"));
        assert_eq!(discover(&outside, dir, None, None).unwrap(), tree.project("sandbox.toml"));
        let file = Some(Path::new("../other.toml"));
        assert_eq!(discover(&outside, dir, file, None).unwrap(), tree.project("other.toml"));
    }

    #[test]
    fn a_linked_file_belongs_to_the_directory_of_the_link() {
        let tree = Tree::new();
        std::os::unix::fs::symlink("../other.toml", tree.path("project/sub/sandbox.toml")).unwrap();
        let found = discover(&tree.path("project/sub"), None, None, None).unwrap();
        assert_eq!(found.root, tree.path("project/sub"));
        let named = discover(&tree.path(""), None, Some(Path::new("project/sub/sandbox.toml")), None).unwrap();
        assert_eq!(named, found);
    }

    #[test]
    fn without_a_file_the_hint_is_init() {
        let tree = Tree::new();
        let error = discover(&tree.path(""), None, None, None).unwrap_err();
        assert!(matches!(&error, DiscoverError::NotFound { start } if *start == tree.path("")), "{error:?}");
        assert!(error.hint().unwrap().contains("sbx init"));
    }

    #[test]
    fn what_was_named_must_be_usable() {
        let tree = Tree::new();
        let cwd = tree.path("project");
        let file = |path: &'static str| discover(&cwd, None, Some(Path::new(path)), None).unwrap_err();
        assert!(matches!(file("no.toml"), DiscoverError::Named { origin: "--config", .. }));
        assert!(matches!(file("sub"), DiscoverError::Named { origin: "--config", .. }));
        assert!(matches!(file(".."), DiscoverError::Named { origin: "--config", .. }));
        assert!(matches!(file(""), DiscoverError::Empty { origin: "--config" }));
        let empty = discover(&cwd, None, None, Some(OsStr::new(""))).unwrap_err();
        assert!(matches!(empty, DiscoverError::Empty { origin: "SBX_CONFIG" }));
        let dir = discover(&cwd, Some(Path::new("none")), None, None).unwrap_err();
        assert!(matches!(dir, DiscoverError::Named { origin: "-C", .. }));
    }
}
