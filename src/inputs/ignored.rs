//! What git ignores: `.gitignore` files of the tree and of the directories above it up to the top of the git work tree,
//! and `.git/info/exclude`. The caller's own configuration (`core.excludesFile`) has no part: it differs between
//! machines.
//!
//! The rules are git's (gitignore(5)): a deeper file overrules a shallower one, a later
//! line an earlier one, and what lies below an ignored directory can't come back. `.gitignore` files count without a
//! `.git` directory too, so that an unpacked archive gives the same inputs as a checkout. Files that git tracks although
//! they are ignored are left out like the others: the index is not read.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::gitignore::{Rules, Verdict};
use crate::sys;

/// An ignore file is there and can't be read, so that nobody knows what is ignored.
pub(super) struct Unreadable {
    pub(super) file: PathBuf,
    pub(super) source: io::Error,
}

/// The ignore rules that hold at one place of the walk.
pub(super) struct Ignored {
    /// The way from the git top level to the project, with a `/` at the end; empty when they are the same.
    above: String,
    /// From the least to the most important.
    levels: Vec<Level>,
}

struct Level {
    /// How many bytes of `above` + path to take away before matching.
    skip: usize,
    /// How many components deep below the project the rules begin; 0 for those of the project itself and above it.
    depth: usize,
    file: PathBuf,
    rules: Rules,
}

impl Ignored {
    /// The rules of `.git/info/exclude` and of every directory from the git top level down to `root` (without `root`'s
    /// own, which [`Ignored::enter`] reads).
    pub(super) fn above(root: &Path) -> Result<Self, Unreadable> {
        let Some(top) = root.ancestors().find(|dir| fs::symlink_metadata(dir.join(".git")).is_ok()) else {
            return Ok(Self { above: String::new(), levels: Vec::new() });
        };
        let way = root.strip_prefix(top).unwrap_or(Path::new("")).to_string_lossy();
        let above = if way.is_empty() { String::new() } else { format!("{way}/") };
        let mut ignored = Self { above, levels: Vec::new() };
        if let Some(exclude) = exclude_file(top) {
            ignored.add(&exclude, 0, 0)?;
        }
        let mut skip = 0;
        let mut dir = top.to_owned();
        for name in way.split('/').filter(|name| !name.is_empty()) {
            ignored.add(&dir.join(".gitignore"), skip, 0)?;
            skip += name.len() + 1;
            dir.push(name);
        }
        Ok(ignored)
    }

    /// Takes in the `.gitignore` of the directory at `path` (empty for the project itself), `depth` components deep, and
    /// drops the rules of directories that the walk has left.
    pub(super) fn enter(&mut self, root: &Path, path: &str, depth: usize) -> Result<(), Unreadable> {
        self.leave(depth);
        let skip = self.above.len() + if path.is_empty() { 0 } else { path.len() + 1 };
        self.add(&root.join(path).join(".gitignore"), skip, depth)
    }

    /// Drops the rules of directories at `depth` and deeper.
    pub(super) fn leave(&mut self, depth: usize) {
        while self.levels.last().is_some_and(|level| level.depth >= depth.max(1)) {
            self.levels.pop();
        }
    }

    /// The file whose rule ignores `path`, if one does. Directories above `path` are taken to be entered.
    pub(super) fn by(&self, path: &str, is_dir: bool) -> Option<&Path> {
        if self.levels.is_empty() {
            return None;
        }
        if self.above.is_empty() {
            return self.matched(path, is_dir);
        }
        self.matched(&format!("{}{path}", self.above), is_dir)
    }

    /// The file whose rule ignores the project directory itself or one above it, if one does.
    pub(super) fn whole_project(&self) -> Option<&Path> {
        let ends = self.above.match_indices('/').map(|(end, _)| end);
        ends.into_iter().find_map(|end| self.matched(&self.above[..end], true))
    }

    fn matched(&self, full: &str, is_dir: bool) -> Option<&Path> {
        for level in self.levels.iter().rev() {
            let Some(below) = full.get(level.skip..).filter(|below| !below.is_empty()) else { continue };
            match level.rules.verdict(below, is_dir) {
                None => {}
                Some(Verdict::Kept) => return None,
                Some(Verdict::Ignored) => return Some(&level.file),
            }
        }
        None
    }

    fn add(&mut self, file: &Path, skip: usize, depth: usize) -> Result<(), Unreadable> {
        let Some(text) = read_rules(file)? else { return Ok(()) };
        let rules = Rules::new(&text);
        if !rules.is_empty() {
            self.levels.push(Level { skip, depth, file: file.to_owned(), rules });
        }
        Ok(())
    }
}

/// The content of an ignore file; `None` when there is none. Like git, a symbolic link is not followed.
fn read_rules(file: &Path) -> Result<Option<Vec<u8>>, Unreadable> {
    let read = || -> io::Result<_> {
        let Some(mut opened) = sys::files::open_no_follow(file)? else { return Ok(None) };
        if !opened.metadata()?.is_file() {
            return Ok(None);
        }
        let mut text = Vec::new();
        opened.read_to_end(&mut text)?;
        Ok(Some(text))
    };
    match read() {
        // A directory that can't be searched: the walk says so.
        Err(_) if fs::symlink_metadata(file).is_err() => Ok(None),
        rules => rules.map_err(|source| Unreadable { file: file.to_owned(), source }),
    }
}

/// `info/exclude` of the repository whose work tree's top is `top`; a `.git` file points elsewhere (gitrepository-layout(5)).
fn exclude_file(top: &Path) -> Option<PathBuf> {
    let git = top.join(".git");
    if git.is_dir() {
        return Some(git.join("info/exclude"));
    }
    let text = read_line(&git).ok()?;
    let dir = top.join(text.strip_prefix("gitdir:")?.trim());
    let common = match read_line(&dir.join("commondir")) {
        Ok(common) => dir.join(common),
        Err(_) => dir,
    };
    Some(common.join("info/exclude"))
}

fn read_line(file: &Path) -> io::Result<String> {
    Ok(fs::read_to_string(file)?.trim_end().to_owned())
}
