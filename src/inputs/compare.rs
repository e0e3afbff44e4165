//! What tells two trees apart.

use std::cmp::Ordering;
use std::iter::Peekable;
use std::slice::Iter;

use super::{Entry, Manifest, path_order};

impl Manifest {
    /// The paths at which this tree and `other` are not the same, in order: what this one has there, and what `other` has.
    pub fn unlike<'a>(&'a self, other: &'a Self) -> Unlike<'a> {
        Unlike { ours: self.entries.iter().peekable(), theirs: other.entries.iter().peekable() }
    }
}

/// See [`Manifest::unlike`].
#[derive(Debug)]
pub struct Unlike<'a> {
    ours: Peekable<Iter<'a, Entry>>,
    theirs: Peekable<Iter<'a, Entry>>,
}

impl<'a> Iterator for Unlike<'a> {
    type Item = (Option<&'a Entry>, Option<&'a Entry>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let order = match (self.ours.peek(), self.theirs.peek()) {
                (None, None) => return None,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(one), Some(other)) => path_order(&one.path, &other.path),
            };
            let one = if order.is_le() { self.ours.next() } else { None };
            let other = if order.is_ge() { self.theirs.next() } else { None };
            if one != other {
                return Some((one, other));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inputs::Node;

    fn manifest(entries: &[(&str, &str)]) -> Manifest {
        let entry = |(path, target): &(&str, &str)| Entry {
            path: (*path).to_owned(),
            node: Node::Symlink { target: (*target).to_owned() },
        };
        Manifest { entries: entries.iter().map(entry).collect() }
    }

    #[test]
    fn each_path_that_differs_is_told_once_and_in_order() {
        let one = manifest(&[("a", "1"), ("b/x", "1"), ("b.c", "1"), ("d", "1")]);
        let other = manifest(&[("a", "2"), ("b.c", "1"), ("c", "1"), ("d", "1"), ("e", "1")]);
        let told: Vec<_> = one
            .unlike(&other)
            .map(|(one, other)| (one.map(|entry| entry.path.as_str()), other.map(|entry| entry.path.as_str())))
            .collect();
        assert_eq!(told, [(Some("a"), Some("a")), (Some("b/x"), None), (None, Some("c")), (None, Some("e"))]);
        assert_eq!(one.unlike(&one).count(), 0);
    }
}
