//! What must be laid over one tree so that it shows another: pure data.

use std::cmp::Ordering;
use std::collections::HashSet;

use super::frame::{Reader, put_text};
use crate::inputs::{Entry, Manifest, Node, path_order};

/// The difference of two trees.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Delta<'a> {
    /// What is new or different, sorted.
    pub(super) put: Vec<&'a Entry>,
    /// What is gone, sorted: the topmost paths only, each in a directory that remains.
    pub(super) gone: Vec<&'a str>,
}

impl<'a> Delta<'a> {
    /// What turns `old` into `new`; `None` when that is more than `limit` entries.
    pub(super) fn between(old: &'a Manifest, new: &'a Manifest, limit: usize) -> Option<Self> {
        let mut delta = Self::default();
        for (one, other) in old.unlike(new) {
            match (one, other) {
                (_, Some(other)) => delta.put.push(other),
                (Some(one), None) => delta.gone.extend(topmost_gone(&one.path, new)),
                (None, None) => {}
            }
            delta.gone.dedup();
            if delta.put.len() + delta.gone.len() > limit {
                return None;
            }
        }
        Some(delta)
    }

    /// As bytes: how many paths are gone, these, and what is put as a manifest has it.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut body = (self.gone.len() as u64).to_le_bytes().to_vec();
        for path in &self.gone {
            put_text(&mut body, path);
        }
        let put = Manifest { entries: self.put.iter().map(|entry| (*entry).clone()).collect() };
        body.extend_from_slice(&put.encode());
        body
    }

    /// The changes, sorted by path.
    pub(super) fn in_order(&self) -> Vec<Change<'a>> {
        let puts = self.put.iter().map(|entry| Change::Put(entry));
        let mut changes: Vec<_> = puts.chain(self.gone.iter().map(|path| Change::Gone(path))).collect();
        changes.sort_by(|one, other| path_order(one.path(), other.path()));
        changes
    }
}

/// What `old` becomes by the encoded changes `body`; `None` when they are not of this format.
pub(super) fn apply(old: Manifest, body: &[u8]) -> Option<Manifest> {
    let mut reader = Reader(body);
    let gone: HashSet<&str> = (0..reader.u64()?).map(|_| reader.text()).collect::<Option<_>>()?;
    let put = Manifest::decode(reader.0)?.entries;
    let replaced: HashSet<&str> = put.iter().map(|entry| entry.path.as_str()).collect();
    // A directory is replaced by what stands in it; anything else hides what stood below its path.
    let hiding: HashSet<&str> =
        put.iter().filter(|entry| entry.node != Node::EmptyDirectory).map(|entry| entry.path.as_str()).collect();
    let filled: HashSet<&str> = put.iter().flat_map(|entry| above(&entry.path)).collect();
    let remains = |entry: &Entry| {
        let path = entry.path.as_str();
        !gone.contains(path)
            && !replaced.contains(path)
            && !filled.contains(path)
            && !above(path).any(|above| gone.contains(above) || hiding.contains(above))
    };
    let mut entries: Vec<_> = old.entries.into_iter().filter(remains).chain(put.iter().cloned()).collect();
    entries.sort_by(|one, other| path_order(&one.path, &other.path));
    Some(Manifest { entries })
}

/// What the encoded changes `body` put.
pub(super) fn puts(body: &[u8]) -> Option<Manifest> {
    let mut reader = Reader(body);
    for _ in 0..reader.u64()? {
        reader.text()?;
    }
    Manifest::decode(reader.0)
}

/// The directories on the way to `path`.
fn above(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(end, _)| &path[..end])
}

/// One change of a tree.
pub(super) enum Change<'a> {
    Put(&'a Entry),
    Gone(&'a str),
}

impl<'a> Change<'a> {
    fn path(&self) -> &'a str {
        match self {
            Self::Put(entry) => &entry.path,
            Self::Gone(path) => path,
        }
    }
}

/// The highest directory on the way to `path`, or `path` itself, that is not in `new`. `None` when nothing of the way is
/// gone (`path` is a directory now), or when it is hidden by what `new` has there instead of a directory.
fn topmost_gone<'a>(path: &'a str, new: &Manifest) -> Option<&'a str> {
    let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
    for end in ends {
        match stands_at(&path[..end], new) {
            Standing::Nothing => return Some(&path[..end]),
            Standing::Directory => {}
            Standing::Other => return None,
        }
    }
    None
}

enum Standing {
    Nothing,
    Directory,
    Other,
}

fn stands_at(path: &str, manifest: &Manifest) -> Standing {
    let index = manifest.entries.partition_point(|entry| path_order(&entry.path, path) == Ordering::Less);
    match manifest.entries.get(index) {
        Some(entry) if entry.path == path && entry.node != Node::EmptyDirectory => Standing::Other,
        Some(entry) if entry.path.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) => {
            Standing::Directory
        }
        _ => Standing::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a` is a file of that content, `a>` a link, `a/` an empty directory.
    fn manifest(paths: &[&str]) -> Manifest {
        let entry = |text: &&str| {
            let node = match text.as_bytes() {
                [.., b'/'] => Node::EmptyDirectory,
                [.., b'>'] => Node::Symlink { target: "x".into() },
                _ => Node::File { digest: crate::digest::Digest::of(b""), executable: false },
            };
            Entry { path: text.trim_end_matches(['/', '>']).to_owned(), node }
        };
        let mut entries: Vec<_> = paths.iter().map(entry).collect();
        entries.sort_by(|one, other| path_order(&one.path, &other.path));
        Manifest { entries }
    }

    #[track_caller]
    fn assert_change(old: &[&str], new: &[&str], put: &[&str], gone: &[&str]) {
        let (old, new) = (manifest(old), manifest(new));
        let delta = Delta::between(&old, &new, 100).unwrap();
        let paths: Vec<_> = delta.put.iter().map(|entry| entry.path.as_str()).collect();
        assert_eq!((paths.as_slice(), delta.gone.as_slice()), (put, gone));
        assert_eq!(apply(old.clone(), &delta.encode()), Some(new.clone()));
    }

    #[test]
    fn every_kind_of_change_is_told() {
        assert_change(&["a", "b"], &["a", "b"], &[], &[]);
        assert_change(&["a"], &["a", "b/c"], &["b/c"], &[]);
        assert_change(&["a", "d/x", "d/y"], &["a", "d/y"], &[], &["d/x"]);
        assert_change(&["a", "d/e/x", "d/e/y", "d/f"], &["a"], &[], &["d"]);
        assert_change(&["d/x"], &["d/"], &["d"], &["d/x"]);
        assert_change(&["d/"], &["d/x"], &["d/x"], &[]);
        assert_change(&["d/x"], &["d"], &["d"], &[]);
        assert_change(&["d"], &["d/x/y"], &["d/x/y"], &[]);
        assert_change(&["d/e/f"], &["d/e>"], &["d/e"], &[]);
        assert_change(&["d", "d.x", "d.y/z"], &["d.x>"], &["d.x"], &["d", "d.y"]);
    }

    #[test]
    fn too_much_is_no_delta() {
        let (old, new) = (manifest(&["a", "b"]), manifest(&["c", "d"]));
        assert!(Delta::between(&old, &new, 3).is_none());
        assert!(Delta::between(&old, &new, 4).is_some());
    }
}
