//! The Merkle tree of a manifest: Remote Execution API `Directory` messages in canonical form.

use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

use super::{Entry, Manifest, Node};
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
            let mut bytes = Vec::new();
            put(&mut bytes, 2, &[(1, Part::Text(name.as_bytes())), (2, Part::Digest(digest))]);
            digest = Digest::of(&bytes);
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
///
/// The message is written as it goes, for a tree has as many names as files and digests. The tests hold it against the
/// published types.
fn encode(entries: &[Entry], start: usize, visit: &mut dyn FnMut(&[u8])) -> Digest {
    // The fields 1, 2 and 3 of Directory. In its nodes field 1 is the name.
    let (mut files, mut directories, mut symlinks) = (Vec::new(), Vec::new(), Vec::new());
    let mut rest = entries;
    while let Some(first) = rest.first() {
        let below = &first.path[start..];
        if let Some((name, _)) = below.split_once('/') {
            let inside =
                |entry: &Entry| entry.path[start..].strip_prefix(name).is_some_and(|after| after.starts_with('/'));
            let count = rest.partition_point(inside);
            let digest = encode(&rest[..count], start + name.len() + 1, visit);
            put(&mut directories, 2, &[(1, Part::Text(name.as_bytes())), (2, Part::Digest(digest))]);
            rest = &rest[count..];
            continue;
        }
        let name = (1, Part::Text(below.as_bytes()));
        match &first.node {
            Node::File { digest, executable } => {
                put(&mut files, 1, &[name, (2, Part::Digest(*digest)), (4, Part::Number((*executable).into()))]);
            }
            Node::Symlink { target } => put(&mut symlinks, 3, &[name, (2, Part::Text(target.as_bytes()))]),
            Node::EmptyDirectory => put(&mut directories, 2, &[name, (2, Part::Digest(Digest::of(b"")))]),
        }
        rest = &rest[1..];
    }
    let mut bytes = files;
    bytes.extend(directories);
    bytes.extend(symlinks);
    visit(&bytes);
    Digest::of(&bytes)
}

/// A field's value in a node.
#[derive(Clone, Copy)]
enum Part<'a> {
    Text(&'a [u8]),
    Digest(Digest),
    Number(u64),
}

/// Adds to `out` the message with these `parts` as its field `tag`. What has its default value is left out.
fn put(out: &mut Vec<u8>, tag: u32, parts: &[(u32, Part<'_>)]) {
    // The key of a field below 16 is one byte.
    let length = |part: &Part<'_>| match part {
        Part::Text([]) | Part::Number(0) => 0,
        Part::Text(text) => 1 + encoded_len_varint(text.len() as u64) + text.len(),
        Part::Digest(digest) => 2 + length_of(digest),
        Part::Number(number) => 1 + encoded_len_varint(*number),
    };
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(parts.iter().map(|(_, part)| length(part) as u64).sum(), out);
    for (tag, part) in parts {
        match part {
            Part::Text([]) | Part::Number(0) => {}
            Part::Text(text) => {
                encode_key(*tag, WireType::LengthDelimited, out);
                encode_varint(text.len() as u64, out);
                out.extend_from_slice(text);
            }
            Part::Digest(digest) => {
                put(out, *tag, &[(1, Part::Text(&digest.digits())), (2, Part::Number(digest.size))]);
            }
            Part::Number(number) => {
                encode_key(*tag, WireType::Varint, out);
                encode_varint(*number, out);
            }
        }
    }
}

/// The length of a Digest message, which is below 128: hash and size.
fn length_of(digest: &Digest) -> usize {
    let size = if digest.size > 0 { 1 + encoded_len_varint(digest.size) } else { 0 };
    2 + 64 + size
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bazel_remote_apis::build::bazel::remote::execution::v2 as reapi;
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::inputs::path_order;

    /// A tree as it is thought of, from which both a manifest and the published messages follow.
    #[derive(Debug, Clone)]
    enum Tree {
        File(u8, bool),
        Symlink(String),
        Directory(BTreeMap<String, Tree>),
    }

    fn trees() -> impl Strategy<Value = BTreeMap<String, Tree>> {
        // Names around `/` (0x2f) in the byte order, where component order and text order differ.
        let name = "[a!.0-]{1,3}|ä|é\u{301}|B".prop_filter("not a name", |name| name != "." && name != "..");
        let leaf = prop_oneof![
            (any::<u8>(), any::<bool>()).prop_map(|(content, executable)| Tree::File(content, executable)),
            "[a-z./]{1,8}".prop_map(Tree::Symlink),
            Just(Tree::Directory(BTreeMap::new())),
        ];
        let tree = leaf.prop_recursive(4, 64, 6, {
            let name = name.clone();
            move |tree| prop::collection::btree_map(name.clone(), tree, 0..6).prop_map(Tree::Directory)
        });
        prop::collection::btree_map(name, tree, 0..6)
    }

    fn digest(of: &[u8]) -> reapi::Digest {
        let digest = Digest::of(of);
        reapi::Digest { hash: digest.hex(), size_bytes: digest.size.cast_signed() }
    }

    /// The published messages, children before parents, the root last.
    fn published(tree: &BTreeMap<String, Tree>, messages: &mut Vec<Vec<u8>>) -> reapi::Digest {
        let mut directory = reapi::Directory::default();
        for (name, child) in tree {
            let name = name.clone();
            match child {
                Tree::File(content, executable) => directory.files.push(reapi::FileNode {
                    name,
                    digest: Some(digest(&[*content])),
                    is_executable: *executable,
                    ..reapi::FileNode::default()
                }),
                Tree::Symlink(target) => {
                    let target = target.clone();
                    directory.symlinks.push(reapi::SymlinkNode { name, target, ..reapi::SymlinkNode::default() });
                }
                Tree::Directory(children) => {
                    let digest = Some(published(children, messages));
                    directory.directories.push(reapi::DirectoryNode { name, digest });
                }
            }
        }
        messages.push(directory.encode_to_vec());
        digest(&messages[messages.len() - 1])
    }

    fn entries(tree: &BTreeMap<String, Tree>, above: &str, entries: &mut Vec<Entry>) {
        for (name, child) in tree {
            let path = format!("{above}{name}");
            let node = match child {
                Tree::File(content, executable) => {
                    Node::File { digest: Digest::of(&[*content]), executable: *executable }
                }
                Tree::Symlink(target) => Node::Symlink { target: target.clone() },
                Tree::Directory(children) if children.is_empty() => Node::EmptyDirectory,
                Tree::Directory(children) => {
                    self::entries(children, &format!("{path}/"), entries);
                    continue;
                }
            };
            entries.push(Entry { path, node });
        }
    }

    proptest! {
        #[test]
        fn the_messages_are_the_published_ones(tree in trees()) {
            let mut expected = Vec::new();
            let root = published(&tree, &mut expected);
            let mut manifest = Manifest::default();
            entries(&tree, "", &mut manifest.entries);
            prop_assert!(manifest.entries.is_sorted_by(|one, other| path_order(&one.path, &other.path).is_lt()));
            let mut messages = Vec::new();
            let digest = manifest.visit_directories(&mut |message| messages.push(message.to_vec()));
            // An empty directory is the empty message; only directories with entries are visited, and the root.
            let visited = |messages: Vec<Vec<u8>>| {
                let last = messages.len() - 1;
                let keep = |(index, message): &(usize, Vec<u8>)| *index == last || !message.is_empty();
                messages.into_iter().enumerate().filter(keep).map(|(_, message)| message).collect::<Vec<_>>()
            };
            prop_assert_eq!(visited(messages), visited(expected));
            prop_assert_eq!(digest.hex(), root.hash);
        }

        #[test]
        fn a_prefix_is_a_directory_around_the_tree(tree in trees()) {
            let mut manifest = Manifest::default();
            entries(&tree, "", &mut manifest.entries);
            let mut below = tree;
            for name in ["src", "work"] {
                below = BTreeMap::from([(name.to_owned(), Tree::Directory(below))]);
            }
            let root = published(&below, &mut Vec::new());
            let digest = manifest.root_digest_at(&GuestPath::new("/work/src").unwrap());
            prop_assert_eq!(digest.hex(), root.hash);
        }

        #[test]
        fn an_encoded_manifest_reads_back(tree in trees()) {
            let mut manifest = Manifest::default();
            entries(&tree, "", &mut manifest.entries);
            let body = manifest.encode();
            prop_assert_eq!(Manifest::decode(&body), Some(manifest));
            for end in 0..body.len() {
                // Cut between two entries it is a shorter manifest, elsewhere none; never a panic.
                let _shorter_or_none = Manifest::decode(&body[..end]);
            }
        }
    }

    #[test]
    fn the_digests_do_not_drift() {
        let file = |path: &str, text: &str, executable| Entry {
            path: path.to_owned(),
            node: Node::File { digest: Digest::of(text.as_bytes()), executable },
        };
        let manifest = Manifest {
            entries: vec![
                file("Makefile", "all:\n", false),
                file("bin/run", "#!/bin/sh\n", true),
                Entry { path: "bin/sh".to_owned(), node: Node::Symlink { target: "run".to_owned() } },
                Entry { path: "empty".to_owned(), node: Node::EmptyDirectory },
            ],
        };
        let mut messages = Vec::new();
        manifest.visit_directories(&mut |message| messages.push(message.len()));
        assert_eq!(messages, GOLDEN_LENGTHS);
        assert_eq!(manifest.root_digest().to_string(), GOLDEN_ROOT);
        assert_eq!(manifest.root_digest_at(&GuestPath::new("/src").unwrap()).to_string(), GOLDEN_AT_SRC);
        assert_eq!(manifest.root_digest_at(&GuestPath::new("/").unwrap()), manifest.root_digest());
        assert_eq!(Manifest::default().root_digest(), Digest::of(b""));
    }

    const GOLDEN_LENGTHS: [usize; 2] = [90, 236];
    const GOLDEN_ROOT: &str = "a93dd4d88e4296123297c823f5ad7a2639a2a62b7a1e1da25560dc527965034e/236";
    const GOLDEN_AT_SRC: &str = "b4a7f596a61e5d2a0be9a0f6eff19a7a1027d07c2bbc97c31c3ee4bc3147b55b/78";
}
