//! Finding the inputs: one sorted walk over the directories that a pattern can reach.
//!
//! Half of the time of a walk is the kernel's, which looks up one inode after the other. So other threads look at what
//! the walk has found so far, a batch at a time, while it goes on.

use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;

use walkdir::{DirEntry, WalkDir};

use super::Progress;
use super::fault::{Fault, Faults};
use super::ignored::Ignored;
use super::look::{Looker, Seen};
use super::patterns::{Patterns, Verdict};
use super::stamp::Stamp;
use crate::config::model::Gitignore;
use crate::path::{STAGING_PREFIX, printable};

/// One input as the walk met it.
pub(super) struct Found {
    pub(super) path: String,
    pub(super) kind: Kind,
}

pub(super) enum Kind {
    /// No directory, and not looked at yet.
    Unseen,
    File {
        stamp: Stamp,
        executable: bool,
    },
    Symlink {
        target: String,
    },
    EmptyDirectory,
}

/// What the walk has met, good or bad, in its order.
type Batch = Vec<Result<Found, Fault>>;

/// How many inputs are looked at together, and found between two words to the progress display.
const BATCH: usize = 256;

/// How many threads help at most: the walk itself can't feed more.
const HELPERS: usize = 3;

/// Finds every input below `root`, sorted component by component; up to `jobs` threads take part.
pub(super) fn walk(
    root: &Path,
    patterns: &Patterns,
    gitignore: Gitignore,
    jobs: &dyn Fn() -> usize,
    progress: &dyn Progress,
) -> Result<Vec<Found>, Faults> {
    let ignored = match gitignore {
        Gitignore::Disregard => None,
        Gitignore::Respect => Some(Ignored::above(root).map_err(|unreadable| Faults::one(unreadable.into()))?),
    };
    let mut walk = Walk {
        patterns,
        ignored,
        root,
        met: Vec::new(),
        matched: vec![false; patterns.len()],
        hits: Vec::new(),
        maybe_empty: None,
    };
    let whole = walk.ignored.as_ref().and_then(|ignored| ignored.whole_project().map(Path::to_owned));
    let mut batches = if whole.is_none() { walk.look_along(jobs, progress) } else { Vec::new() };
    walk.explain_unmatched(whole.as_deref());
    batches.push(walk.met);
    let mut found = Vec::with_capacity(batches.iter().map(Vec::len).sum());
    let mut faults = Faults::default();
    for met in batches.into_iter().flatten() {
        match met {
            Ok(input) => found.push(input),
            Err(fault) => faults.push(fault),
        }
    }
    progress.found(found.len() as u64);
    faults.into_result()?;
    Ok(found)
}

struct Walk<'a> {
    root: &'a Path,
    patterns: &'a Patterns,
    ignored: Option<Ignored>,
    /// What was met since the last batch was given away.
    met: Batch,
    /// Which patterns have matched something.
    matched: Vec<bool>,
    hits: Vec<usize>,
    /// A directory that is an input when it turns out to be empty, and its depth.
    maybe_empty: Option<(String, usize)>,
}

/// Whether to look into a directory.
#[derive(PartialEq, Eq)]
enum Descend {
    Yes,
    No,
}

impl Walk<'_> {
    /// Walks, and has everything looked at that it finds.
    fn look_along(&mut self, jobs: &dyn Fn() -> usize, progress: &dyn Progress) -> Vec<Batch> {
        let root = self.root;
        let (sender, receiver) = mpsc::channel::<(usize, Batch)>();
        let receiver = Mutex::new(receiver);
        let next = || receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let look = || {
            let (mut looker, mut done) = (Looker::new(root), Vec::new());
            while let Ok((index, mut batch)) = next() {
                batch.iter_mut().for_each(|met| look_at(met, &mut looker));
                done.push((index, batch));
            }
            done
        };
        let mut done = thread::scope(|scope| {
            let (mut threads, mut count, mut most) = (Vec::new(), 0, None);
            self.run(&mut |batch: Batch, is_last| {
                if !is_last && threads.len() < *most.get_or_insert_with(|| (jobs() - 1).min(HELPERS)) {
                    threads.push(scope.spawn(look));
                }
                sender.send((count, batch)).expect("the receiver lives as long");
                count += 1;
                progress.found((count * BATCH) as u64);
            });
            drop(sender);
            let mut done = look();
            for thread in threads {
                done.extend(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
            done
        });
        done.sort_unstable_by_key(|(index, _)| *index);
        done.into_iter().map(|(_, batch)| batch).collect()
    }

    /// Walks, and gives away what it has met whenever that is a batch, and the rest at last.
    fn run(&mut self, give: &mut dyn FnMut(Batch, bool)) {
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
                    self.met.push(Err(Fault::Unreadable { path, source: cause(error) }));
                }
            }
            if self.met.len() >= BATCH {
                give(std::mem::replace(&mut self.met, Vec::with_capacity(BATCH + 1)), false);
            }
        }
        self.settle_empty(0);
        give(std::mem::take(&mut self.met), true);
    }

    /// The directory met last was empty unless the walk went deeper.
    fn settle_empty(&mut self, depth: usize) {
        if let Some((path, at)) = self.maybe_empty.take()
            && depth <= at
        {
            self.patterns.verdict(path.as_bytes(), &mut self.hits);
            self.note_matched();
            self.met.push(Ok(Found { path, kind: Kind::EmptyDirectory }));
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
        let verdict = self.patterns.verdict(bytes, &mut self.hits);
        let descend = is_dir && self.patterns.can_reach_below(&path);
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
                self.met.push(Err(fault));
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
        self.met.push(Ok(Found { path: path.into_owned(), kind: Kind::Unseen }));
        Descend::No
    }

    fn enter(&mut self, path: &str, depth: usize) -> Descend {
        if let Some(ignored) = &mut self.ignored
            && let Err(unreadable) = ignored.enter(self.root, path, depth)
        {
            self.met.push(Err(unreadable.into()));
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
            self.met.push(Err(match &near[index] {
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

/// Finds out what stands at an input that was not looked at yet.
fn look_at(met: &mut Result<Found, Fault>, looker: &mut Looker<'_>) {
    let Ok(Found { path, kind: kind @ Kind::Unseen }) = met else { return };
    let seen = looker.look(path.as_bytes());
    if let Ok(Seen::File { stamp, executable, .. }) = seen {
        *kind = Kind::File { stamp, executable };
        return;
    }
    let path = std::mem::take(path);
    *met = match seen {
        Ok(Seen::Symlink { target }) => match check_target(&path, target.as_os_str().as_bytes()) {
            Ok(target) => Ok(Found { path, kind: Kind::Symlink { target } }),
            Err(fault) => Err(fault),
        },
        Ok(Seen::Special(kind)) => Err(Fault::Special { path, kind }),
        // It was none when its directory was listed.
        Ok(Seen::File { .. } | Seen::Directory { .. } | Seen::Unreadable) => Err(Fault::Changing { path }),
        Err(source) => Err(Fault::Unreadable { path, source }),
    };
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

/// A link's target as it may stand in the tree: text, and not pointing out of it.
fn check_target(path: &str, target: &[u8]) -> Result<String, Fault> {
    let shown = printable(target);
    match str::from_utf8(target) {
        Ok(text) if !text.is_empty() && !text.chars().any(char::is_control) => {
            if leaves_tree(path, text) {
                return Err(Fault::LeavesTree { path: path.to_owned(), target: shown });
            }
            Ok(text.to_owned())
        }
        _ => Err(Fault::BadTarget { path: path.to_owned(), target: shown }),
    }
}

/// True when a link at `path` with the text `target` points out of the tree, read component by component without looking
/// at other links.
fn leaves_tree(path: &str, target: &str) -> bool {
    if target.starts_with('/') {
        return true;
    }
    let mut depth = path.matches('/').count();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." if depth == 0 => return true,
            ".." => depth -= 1,
            _ => depth += 1,
        }
    }
    false
}
