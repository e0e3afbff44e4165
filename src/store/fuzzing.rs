//! What the fuzz targets call of the readers of the store's own files.

use super::delta;
use crate::inputs::{Entry, Manifest, Node};

/// What a delta changes of a tree.
pub fn delta(bytes: &[u8]) {
    let paths = ["a", "b/c", "b/d/e", "f"];
    let entries = paths.map(|path| Entry { path: path.to_owned(), node: Node::EmptyDirectory }).to_vec();
    let applied = delta::apply(Manifest { entries }, bytes);
    assert_eq!(applied.is_some(), delta::puts(bytes).is_some());
    if let Some(manifest) = applied {
        let _ = manifest.root_digest();
    }
}
