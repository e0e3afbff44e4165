//! By how many lines a text has changed.

use imara_diff::{Algorithm, Diff, InternedInput};

use crate::action::why::{Change, Difference, Value};
use crate::digest::Digest;
use crate::inputs::Node;
use crate::store::Store;

/// A larger file is not compared.
const FILE_MAX: u64 = 1 << 20;

/// So many bytes are compared in all.
const ALL_MAX: u64 = 32 << 20;

/// Git's rule: a NUL byte among so many first ones makes a file a binary one.
const HEAD: usize = 8000;

/// Lines of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lines {
    pub(super) added: u32,
    pub(super) removed: u32,
}

/// Counts lines, within bounds: the algorithm has no quadratic case, and what is left of the bytes limits the rest.
pub(super) struct Stats<'a> {
    store: &'a Store,
    left: u64,
}

impl<'a> Stats<'a> {
    pub(super) fn new(store: &'a Store) -> Self {
        Self { store, left: ALL_MAX }
    }

    /// How the lines of a changed file differ; `None` when it is no such difference, no text, too large, or not in the
    /// store any more.
    pub(super) fn of(&mut self, difference: &Difference) -> Option<Lines> {
        let Change::Changed {
            before: Value::Node(Node::File { digest: before, .. }),
            after: Value::Node(Node::File { digest: after, .. }),
        } = &difference.change
        else {
            return None;
        };
        if before == after || before.size.max(after.size) > FILE_MAX {
            return None;
        }
        self.left = self.left.checked_sub(before.size + after.size)?;
        let text = |digest: &Digest| self.store.read_blob(digest).filter(|bytes| is_text(bytes));
        Some(lines(&text(before)?, &text(after)?))
    }
}

fn is_text(bytes: &[u8]) -> bool {
    !bytes[..bytes.len().min(HEAD)].contains(&0)
}

fn lines(before: &[u8], after: &[u8]) -> Lines {
    let diff = Diff::compute(Algorithm::Histogram, &InternedInput::new(before, after));
    Lines { added: diff.count_additions(), removed: diff.count_removals() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::why::Subject;

    #[test]
    fn lines_are_counted() {
        for (before, after, added, removed) in [
            ("", "", 0, 0),
            ("a\nb\n", "a\nb\n", 0, 0),
            ("a\nb\n", "a\nx\ny\n", 2, 1),
            ("a\n", "a", 1, 1),
            ("", "a\nb\n", 2, 0),
            ("a\r\nb\n", "a\nb\n", 1, 1),
        ]
        .map(|(before, after, added, removed)| (before.as_bytes(), after.as_bytes(), added, removed))
        {
            assert_eq!(lines(before, after), Lines { added, removed }, "{before:?} {after:?}");
        }
    }

    fn changed(before: Digest, after: Digest) -> Difference {
        let node = |digest| Value::Node(Node::File { digest, executable: false });
        Difference {
            subject: Subject::Input("a".into()),
            change: Change::Changed { before: node(before), after: node(after) },
        }
    }

    #[test]
    fn what_is_no_text_too_large_damaged_or_gone_has_no_lines() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("store")).unwrap();
        let put = |bytes: &[u8], executable| store.put_bytes(bytes, executable).unwrap();
        let (one, other) = (put(b"a\n", false), put(b"b\nc\n", true));
        let of = |before, after| Stats::new(&store).of(&changed(before, after));
        assert_eq!(of(one, other), Some(Lines { added: 2, removed: 1 }));
        assert_eq!(of(one, one), None);
        assert_eq!(of(one, put(b"a\0", false)), None);
        assert_eq!(of(one, put(&vec![b'\n'; 1 + (1 << 20)], false)), None);
        assert_eq!(of(one, Digest::of(b"never stored")), None);
        let damaged = put(b"d\n", false);
        let hex = damaged.hex();
        let path = store.path().join("blobs").join(&hex[..2]).join(&hex[2..]);
        let mtime = std::fs::metadata(&path).unwrap().modified().unwrap();
        std::fs::write(&path, b"x\n").unwrap();
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(mtime).unwrap();
        assert!(store.open_blob(&damaged, false).is_ok(), "only its hash tells");
        assert_eq!(of(one, damaged), None);
    }

    #[test]
    fn what_is_compared_is_bounded_in_all() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("store")).unwrap();
        let [one, other] = [b"a\n", b"b\n"].map(|bytes| store.put_bytes(bytes, false).unwrap());
        let mut stats = Stats { store: &store, left: 9 };
        let counted: Vec<_> = (0..3).map(|_| stats.of(&changed(one, other)).is_some()).collect();
        assert_eq!(counted, [true, true, false]);
    }
}
