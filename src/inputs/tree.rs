//! The Merkle tree of a manifest: Remote Execution API `Directory` messages in canonical form.

use prost::Message as _;

use super::{Entry, Manifest, Node};
use crate::action::messages::{Directory, DirectoryNode, FileNode, SymlinkNode};
use crate::digest::Digest;
use crate::path::GuestPath;

impl Manifest {
    /// The digest of the tree's root `Directory` message.
    pub fn root_digest(&self) -> Digest {
        self.visit_directories(&mut |_| {})
    }

    /// The root digest of a tree in which this one stands at `prefix` (in `/src`: a root whose only entry is `src`).
    pub fn root_digest_at(&self, prefix: &GuestPath) -> Digest {
        let mut digest = self.root_digest();
        for name in prefix.relative().rsplit('/').filter(|name| !name.is_empty()) {
            let node = DirectoryNode { name: name.to_owned(), digest: Some(digest.into()) };
            digest = Digest::of(&Directory { directories: vec![node], ..Directory::default() }.encode_to_vec());
        }
        digest
    }

    /// Calls `visit` with the encoded `Directory` message of every directory, children before parents, the root last;
    /// returns the digest of the root's.
    pub fn visit_directories(&self, visit: &mut dyn FnMut(&[u8])) -> Digest {
        encode(&self.entries, 0, visit)
    }
}

/// Encodes the directory whose entries are `entries`; their paths below it begin at byte `start`.
fn encode(entries: &[Entry], start: usize, visit: &mut dyn FnMut(&[u8])) -> Digest {
    let mut directory = Directory::default();
    let mut rest = entries;
    while let Some(first) = rest.first() {
        let below = &first.path[start..];
        if let Some((name, _)) = below.split_once('/') {
            let inside =
                |entry: &Entry| entry.path[start..].strip_prefix(name).is_some_and(|after| after.starts_with('/'));
            let count = rest.partition_point(inside);
            let digest = encode(&rest[..count], start + name.len() + 1, visit);
            directory.directories.push(DirectoryNode { name: name.to_owned(), digest: Some(digest.into()) });
            rest = &rest[count..];
            continue;
        }
        let name = below.to_owned();
        match &first.node {
            Node::File { digest, executable } => {
                let digest = Some((*digest).into());
                directory.files.push(FileNode { name, digest, is_executable: *executable });
            }
            Node::Symlink { target } => directory.symlinks.push(SymlinkNode { name, target: target.clone() }),
            Node::EmptyDirectory => {
                let digest = Some(Digest::of(b"").into());
                directory.directories.push(DirectoryNode { name, digest });
            }
        }
        rest = &rest[1..];
    }
    let bytes = directory.encode_to_vec();
    visit(&bytes);
    Digest::of(&bytes)
}
