//! Finding the inputs: one sorted walk over the directories that a pattern can reach.

use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::thread;

use walkdir::{DirEntry, WalkDir};

use super::Progress;
use super::fault::{Fault, Faults};
use super::ignored::Ignored;
use super::looks::{Found, Kind, Looks, Met};
use super::patterns::{Patterns, Verdict};
use crate::config::model::Gitignore;
use crate::path::{STAGING_PREFIX, printable};

/// How many inputs are found between two words to the progress display.
const REPORT_EVERY: usize = 512;

/// Finds every input below `root`, sorted component by component, with up to `threads` threads.
pub(super) fn walk(
    root: &Path,
    patterns: &Patterns,
    gitignore: Gitignore,
    threads: usize,
    progress: &dyn Progress,
) -> Result<Vec<Found>, Faults> {
    let ignored = match gitignore {
        Gitignore::Disregard => None,
        Gitignore::Respect => Some(Ignored::above(root).map_err(|unreadable| Faults::one(unreadable.into()))?),
    };
    let mut faults = Faults::default();
    let found: Vec<_> = thread::scope(|scope| {
        let mut walk = Walk {
            patterns,
            ignored,
            root,
            looks: Looks::new(scope, root, threads),
            matched: vec![false; patterns.len()],
            hits: Vec::new(),
            whole: None,
            maybe_empty: None,
        };
        let whole = walk.ignored.as_ref().and_then(|ignored| ignored.whole_project().map(Path::to_owned));
        if whole.is_none() {
            walk.run(progress);
        }
        walk.explain_unmatched(whole.as_deref());
        walk.looks.finish().filter_map(|seen| seen.map_err(|fault| faults.push(fault)).ok()).collect()
    });
    progress.found(found.len() as u64);
    faults.into_result()?;
    Ok(found)
}

struct Walk<'a, 'scope> {
    root: &'a Path,
    patterns: &'a Patterns,
    ignored: Option<Ignored>,
    looks: Looks<'scope, 'a>,
    /// Which patterns have matched something.
    matched: Vec<bool>,
    hits: Vec<usize>,
    /// A directory below which everything is an input, by its depth, and the pattern that makes it one.
    whole: Option<(usize, usize)>,
    /// A directory that is an input when it turns out to be empty, and its depth.
    maybe_empty: Option<(String, usize)>,
}

/// Whether to look into a directory.
#[derive(PartialEq, Eq)]
enum Descend {
    Yes,
    No,
}

impl Walk<'_, '_> {
    fn run(&mut self, progress: &dyn Progress) {
        let mut walker = sorted(self.root);
        while let Some(step) = walker.next() {
            let depth = step.as_ref().map_or_else(walkdir::Error::depth, DirEntry::depth);
            self.settle_empty(depth);
            match step {
                Ok(entry) => {
                    if self.visit(&entry) == Descend::No && entry.file_type().is_dir() {
                        walker.skip_current_dir();
                    }
                }
                Err(error) => {
                    self.maybe_empty = None;
                    let path = error.path().map_or_else(String::new, |path| self.shown(path));
                    self.looks.push(Met::Fault(Fault::Unreadable { path, source: cause(error) }));
                }
            }
            if self.looks.met() % REPORT_EVERY == REPORT_EVERY - 1 {
                progress.found(self.looks.met() as u64);
            }
        }
        self.settle_empty(0);
    }

    /// The directory met last was empty unless the walk went deeper.
    fn settle_empty(&mut self, depth: usize) {
        if let Some((path, at)) = self.maybe_empty.take()
            && depth <= at
        {
            self.patterns.verdict(path.as_bytes(), &mut self.hits);
            self.note_matched();
            self.looks.push(Met::Input(Found { path, kind: Kind::EmptyDirectory }));
        }
    }

    fn visit(&mut self, entry: &DirEntry) -> Descend {
        let bytes = relative(self.root, entry.path());
        if bytes.is_empty() {
            return self.enter("", 0);
        }
        let path = String::from_utf8_lossy(bytes);
        let name = name(bytes);
        if is_private(name) || (name == b".git" && !self.patterns.spell_out(&path)) {
            return Descend::No;
        }
        let is_dir = entry.file_type().is_dir();
        self.whole.take_if(|(depth, _)| entry.depth() <= *depth);
        let verdict = self.verdict(bytes);
        let descend = is_dir && (self.whole.is_some() || self.patterns.can_reach_below(&path));
        if verdict == Verdict::NotAnInput && !descend {
            if !is_dir {
                self.note_matched();
            }
            return Descend::No;
        }
        if let Some(ignored) = &mut self.ignored {
            ignored.leave(entry.depth());
            if !within_git(&path) && ignored.by(&path, is_dir).is_some() {
                return Descend::No;
            }
        }
        if verdict == Verdict::Input {
            if let Some(fault) = unusable_name(bytes) {
                self.note_matched();
                self.looks.push(Met::Fault(fault));
                return Descend::No;
            }
            if is_dir {
                self.maybe_empty = Some((path.clone().into_owned(), entry.depth()));
            }
        }
        if is_dir {
            return if descend { self.enter(&path, entry.depth()) } else { Descend::Yes };
        }
        self.note_matched();
        self.looks.push(Met::Unseen(path.into_owned()));
        Descend::No
    }

    /// What the patterns say, which need not be asked where one of them has said it for all.
    fn verdict(&mut self, path: &[u8]) -> Verdict {
        let Some((_, pattern)) = self.whole else { return self.patterns.verdict(path, &mut self.hits) };
        self.hits.clear();
        self.hits.push(pattern);
        Verdict::Input
    }

    fn enter(&mut self, path: &str, depth: usize) -> Descend {
        if self.whole.is_none()
            && depth > 0
            && let Some(pattern) = self.patterns.all_below(path)
            // The others need no match any more.
            && self.patterns.wanted().all(|(index, _)| index == pattern || self.matched[index])
        {
            self.whole = Some((depth, pattern));
        }
        if let Some(ignored) = &mut self.ignored
            && let Err(unreadable) = ignored.enter(self.root, path, depth)
        {
            self.looks.push(Met::Fault(unreadable.into()));
        }
        Descend::Yes
    }

    fn note_matched(&mut self) {
        for hit in &self.hits {
            self.matched[*hit] = true;
        }
    }

    fn shown(&self, path: &Path) -> String {
        let bytes = relative(self.root, path);
        if bytes.is_empty() { printable(path.as_os_str().as_bytes()) } else { printable(bytes) }
    }

    /// Makes a fault of every pattern that matched nothing, looking once more for the reason.
    fn explain_unmatched(&mut self, whole_project: Option<&Path>) {
        let wanted: Vec<_> = self.patterns.wanted().filter(|(index, _)| !self.matched[*index]).collect();
        if wanted.is_empty() {
            return;
        }
        let mut near = vec![Near::Nothing; self.patterns.len()];
        match whole_project {
            Some(by) => near.fill(Near::Ignored(by.to_owned())),
            None => self.look_again(&mut near),
        }
        for (index, pattern) in wanted {
            let pattern = pattern.to_owned();
            self.looks.push(Met::Fault(match &near[index] {
                Near::Nothing => Fault::NoMatch { pattern },
                Near::Directory => Fault::OnlyDirectories { pattern },
                Near::Ignored(by) => Fault::OnlyIgnored { pattern, by: by.clone() },
            }));
        }
    }

    /// Walks into what is ignored too, and notes for each pattern what it nearly matched.
    fn look_again(&mut self, near: &mut [Near]) {
        let mut inside_ignored: Option<(usize, PathBuf)> = None;
        let mut walker = sorted(self.root);
        while let Some(step) = walker.next() {
            let Ok(entry) = step else { continue };
            let path = String::from_utf8_lossy(relative(self.root, entry.path())).into_owned();
            let (depth, is_dir) = (entry.depth(), entry.file_type().is_dir());
            inside_ignored.take_if(|(at, _)| depth <= *at);
            if depth > 0 {
                if let Some(ignored) = &mut self.ignored
                    && inside_ignored.is_none()
                {
                    ignored.leave(depth);
                    inside_ignored = ignored.by(&path, is_dir).map(|by| (depth, by.to_owned()));
                }
                self.patterns.verdict(path.as_bytes(), &mut self.hits);
                for hit in &self.hits {
                    match &inside_ignored {
                        Some((_, by)) => near[*hit] = Near::Ignored(by.clone()),
                        None if is_dir && near[*hit] == Near::Nothing => near[*hit] = Near::Directory,
                        None => {}
                    }
                }
                if is_dir && !self.patterns.can_reach_below(&path) {
                    walker.skip_current_dir();
                    continue;
                }
            }
            if is_dir && inside_ignored.is_none() {
                self.enter(&path, depth);
            }
        }
    }
}

/// What a pattern without a match came closest to.
#[derive(Clone, PartialEq, Eq)]
enum Near {
    Nothing,
    Directory,
    Ignored(PathBuf),
}

/// A walk in the order of [`super::path_order`]: within one directory whole paths compare as names do, at less cost.
pub(super) fn sorted(root: &Path) -> walkdir::IntoIter {
    WalkDir::new(root).sort_by(|one, other| one.path().as_os_str().cmp(other.path().as_os_str())).into_iter()
}

/// The kernel's answer in an error of the walk. There are no others: only a walk that follows links meets loops.
pub(super) fn cause(error: walkdir::Error) -> io::Error {
    let words = error.to_string();
    error.into_io_error().unwrap_or_else(|| io::Error::other(words))
}

/// The last component of a path that walkdir made.
pub(super) fn name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

/// `path`, which walkdir made by appending names to `root`, below `root`; empty for `root` itself.
pub(super) fn relative<'a>(root: &Path, path: &'a Path) -> &'a [u8] {
    let (root, path) = (root.as_os_str().as_bytes(), path.as_os_str().as_bytes());
    let below = path.strip_prefix(root).unwrap_or(path);
    below.strip_prefix(b"/").unwrap_or(below)
}

/// Where sbx itself stages outputs before it renames them into the project.
fn is_private(name: &[u8]) -> bool {
    name.starts_with(STAGING_PREFIX.as_bytes())
}

fn within_git(path: &str) -> bool {
    path.split('/').any(|name| name == ".git")
}

pub(super) fn unusable_name(bytes: &[u8]) -> Option<Fault> {
    match str::from_utf8(bytes) {
        Err(_) => Some(Fault::NotUtf8 { path: printable(bytes) }),
        Ok(path) if path.chars().any(char::is_control) => Some(Fault::ControlCharacter { path: printable(bytes) }),
        Ok(_) => None,
    }
}
