//! Looking at what a walk met, beside the walk: to list directories and to ask for the state of files take about as long.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
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

/// What a walk meets, in its order, looked at on a thread of `scope` where there is much.
pub(super) struct Looks<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    root: &'env Path,
    met: usize,
    batch: Vec<Met>,
    beside: Beside<'scope>,
}

/// The other thread.
enum Beside<'scope> {
    /// Not yet needed.
    Later,
    At(Sender<Vec<Met>>, ScopedJoinHandle<'scope, Vec<Result<Found, Fault>>>),
    /// There is none to be had.
    Never,
}

impl<'scope, 'env> Looks<'scope, 'env> {
    /// For paths below `root`, with up to `threads` threads, the walk's own among them.
    pub(super) fn new(scope: &'scope Scope<'scope, 'env>, root: &'env Path, threads: usize) -> Self {
        let beside = if threads > 1 { Beside::Later } else { Beside::Never };
        Self { scope, root, met: 0, batch: Vec::new(), beside }
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
            if let Beside::At(batches, _) = &self.beside {
                // It ends before the channel does only in a panic, which is met when it is joined.
                let _ = batches.send(std::mem::take(&mut self.batch));
            }
        }
    }

    fn begin(&mut self) {
        let (batches, received) = mpsc::channel();
        let root = self.root;
        let thread = Builder::new().name("sbx-look".to_owned()).spawn_scoped(self.scope, move || work(root, &received));
        self.beside = thread.map_or(Beside::Never, |thread| Beside::At(batches, thread));
    }

    /// All that was met, looked at, in the order of the walk.
    pub(super) fn finish(self) -> Vec<Result<Found, Fault>> {
        let mut looker = Looker::new(self.root);
        let rest = self.batch.into_iter().map(|met| met.seen(&mut looker));
        let Beside::At(batches, thread) = self.beside else { return rest.collect() };
        // Looked at here, while the other is at its last ones.
        let rest: Vec<_> = rest.collect();
        drop(batches);
        let mut all = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        all.extend(rest);
        all
    }
}

fn work(root: &Path, batches: &Receiver<Vec<Met>>) -> Vec<Result<Found, Fault>> {
    let mut looker = Looker::new(root);
    batches.iter().flatten().map(|met| met.seen(&mut looker)).collect()
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
