//! Looking at what a walk met, beside the walk: to list directories and to ask for the state of files take about as long.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, Scope, ScopedJoinHandle};

use super::fault::Fault;
use super::look::{Looker, Seen};
use super::stamp::Stamp;
use crate::path::printable;

/// One input.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) path: String,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    File { stamp: Stamp, executable: bool },
    Symlink { target: String },
    EmptyDirectory,
}

/// What a walk met.
#[derive(Debug)]
pub(super) enum Met {
    /// An input that is no directory and not looked at yet.
    Unseen(String),
    /// Another input.
    Input(Found),
    /// What can't be used.
    Fault(Fault),
}

impl Met {
    fn seen(self, looker: &mut Looker<'_>) -> Result<Found, Fault> {
        match self {
            Self::Unseen(path) => look(looker, path),
            Self::Input(found) => Ok(found),
            Self::Fault(fault) => Err(fault),
        }
    }
}

/// How many are handed over at once. For fewer a thread is not worth its beginning.
const BATCH: usize = 512;

/// What a walk meets, in its order, looked at on a thread of `scope` where there is much, and by the walk's own when it is over.
pub(super) struct Looks<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    root: &'env Path,
    met: usize,
    batch: Vec<Met>,
    handed_over: usize,
    beside: Beside<'scope>,
}

/// The other thread.
enum Beside<'scope> {
    /// Not yet needed.
    Later,
    At(Sender<Batch>, Queue, ScopedJoinHandle<'scope, Vec<Looked>>),
    /// There is none to be had.
    Never,
}

/// Some of what was met, and how many such came before it.
type Batch = (usize, Vec<Met>);
/// The same, looked at.
type Looked = (usize, Vec<Result<Found, Fault>>);
/// The batches that nobody has taken yet.
type Queue = Arc<Mutex<Receiver<Batch>>>;

impl<'scope, 'env> Looks<'scope, 'env> {
    /// For paths below `root`, with up to `threads` threads, the walk's own among them.
    pub(super) fn new(scope: &'scope Scope<'scope, 'env>, root: &'env Path, threads: usize) -> Self {
        let beside = if threads > 1 { Beside::Later } else { Beside::Never };
        Self { scope, root, met: 0, batch: Vec::new(), handed_over: 0, beside }
    }

    /// How many were met.
    pub(super) fn met(&self) -> usize {
        self.met
    }

    pub(super) fn push(&mut self, met: Met) {
        self.met += 1;
        self.batch.push(met);
        if self.batch.len() >= BATCH {
            if matches!(self.beside, Beside::Later) {
                self.begin();
            }
            if let Beside::At(batches, ..) = &self.beside {
                // Its other end is ours too.
                let _ = batches.send((self.handed_over, std::mem::take(&mut self.batch)));
                self.handed_over += 1;
            }
        }
    }

    fn begin(&mut self) {
        let (batches, received) = mpsc::channel();
        let (root, queue) = (self.root, Arc::new(Mutex::new(received)));
        let its = Arc::clone(&queue);
        let thread = Builder::new().name("sbx-look".to_owned()).spawn_scoped(self.scope, move || work(root, &its));
        self.beside = thread.map_or(Beside::Never, |thread| Beside::At(batches, queue, thread));
    }

    /// All that was met, looked at, in the order of the walk.
    pub(super) fn finish(self) -> impl Iterator<Item = Result<Found, Fault>> {
        let rest = (self.handed_over, self.batch);
        let mut all = match self.beside {
            Beside::At(batches, queue, thread) => {
                // Its other end is ours too.
                let _ = batches.send(rest);
                drop(batches);
                let mut all = work(self.root, &queue);
                all.extend(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
                all
            }
            Beside::Later | Beside::Never => vec![look_at(&mut Looker::new(self.root), rest)],
        };
        all.sort_unstable_by_key(|(index, _)| *index);
        all.into_iter().flat_map(|(_, seen)| seen)
    }
}

/// Takes one batch after the other until there are no more.
fn work(root: &Path, queue: &Mutex<Receiver<Batch>>) -> Vec<Looked> {
    let mut looker = Looker::new(root);
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).recv().ok();
    std::iter::from_fn(next).map(|batch| look_at(&mut looker, batch)).collect()
}

fn look_at(looker: &mut Looker<'_>, (index, batch): Batch) -> Looked {
    (index, batch.into_iter().map(|met| met.seen(looker)).collect())
}

/// What stands at an input that is no directory.
fn look(looker: &mut Looker<'_>, path: String) -> Result<Found, Fault> {
    match looker.look(path.as_bytes()) {
        Ok(Seen::File { stamp, executable, .. }) => Ok(Found { path, kind: Kind::File { stamp, executable } }),
        Ok(Seen::Symlink { target }) => check_target(path, target.as_os_str().as_bytes()),
        Ok(Seen::Special(kind)) => Err(Fault::Special { path, kind }),
        // It was none when its directory was listed.
        Ok(Seen::Directory { .. } | Seen::Unreadable) => Err(Fault::Changing { path }),
        Err(source) => Err(Fault::Unreadable { path, source }),
    }
}

/// A link's target as it may stand in the tree: text, and not pointing out of it.
fn check_target(path: String, target: &[u8]) -> Result<Found, Fault> {
    let shown = printable(target);
    match str::from_utf8(target) {
        Ok(text) if !text.is_empty() && !text.chars().any(char::is_control) => {
            if leaves_tree(&path, text) {
                return Err(Fault::LeavesTree { path, target: shown });
            }
            Ok(Found { path, kind: Kind::Symlink { target: text.to_owned() } })
        }
        _ => Err(Fault::BadTarget { path, target: shown }),
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
