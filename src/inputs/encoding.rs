//! A manifest as bytes, for the store.

use super::{Entry, Manifest, Node, path_order};
use crate::digest::Digest;
use crate::store::frame::{Reader, put_text};

const FILE: u8 = 0;
const EXECUTABLE: u8 = 1;
const SYMLINK: u8 = 2;
const EMPTY_DIRECTORY: u8 = 3;

impl Manifest {
    /// The manifest as the store keeps it.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        for entry in &self.entries {
            put_text(&mut body, &entry.path);
            match &entry.node {
                Node::File { digest, executable } => {
                    body.push(if *executable { EXECUTABLE } else { FILE });
                    body.extend_from_slice(&digest.hash);
                    body.extend_from_slice(&digest.size.to_le_bytes());
                }
                Node::Symlink { target } => {
                    body.push(SYMLINK);
                    put_text(&mut body, target);
                }
                Node::EmptyDirectory => body.push(EMPTY_DIRECTORY),
            }
        }
        body
    }

    /// `None` when `body` is not an encoded manifest: its paths must be normal ones, in order, and none below another.
    pub fn decode(body: &[u8]) -> Option<Self> {
        let mut reader = Reader(body);
        let mut entries: Vec<Entry> = Vec::new();
        while !reader.is_empty() {
            let path = reader.text()?.to_owned();
            let comes_after = |last: &Entry| {
                path_order(&last.path, &path).is_lt()
                    && !path.strip_prefix(&last.path).is_some_and(|below| below.starts_with('/'))
            };
            if path.split('/').any(|name| matches!(name, "" | "." | "..")) || !entries.last().is_none_or(comes_after) {
                return None;
            }
            let node = match reader.bytes()? {
                [kind @ (FILE | EXECUTABLE)] => {
                    let digest = Digest { hash: reader.bytes()?, size: reader.u64()? };
                    Node::File { digest, executable: kind == EXECUTABLE }
                }
                [SYMLINK] => Node::Symlink { target: reader.text()?.to_owned() },
                [EMPTY_DIRECTORY] => Node::EmptyDirectory,
                _ => return None,
            };
            entries.push(Entry { path, node });
        }
        Some(Self { entries })
    }
}
