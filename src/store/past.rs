//! What the store still has of past runs: the messages that identify them, and their input trees.

use std::fmt;

use prost::Message as _;

use super::Store;
use crate::action::messages::{self, Action, Command};
use crate::action::why::{Listing, Side, Tree};
use crate::digest::Digest;
use crate::inputs::packages::parse_listing;

/// What can't be read any more: it was removed from the store, or is damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    /// What it was.
    pub what: Part,
    /// Its digest, `hash/size`.
    pub digest: String,
}

/// A part of what the store has of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The action itself.
    Action,
    /// The command with its environment.
    Command,
    /// The policy.
    Policy,
    /// The list of packages.
    Packages,
    /// The input tree.
    Inputs,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Action => "action",
            Self::Command => "command",
            Self::Policy => "policy",
            Self::Packages => "packages",
            Self::Inputs => "inputs",
        })
    }
}

impl Store {
    /// What identified the run with this action digest (`hash/size`).
    ///
    /// # Errors
    /// The part that is not in the store, or not what sbx writes.
    pub fn side(&self, action: &str) -> Result<Side, Gone> {
        let gone = |what, digest: Option<Digest>| {
            let digest = digest.map_or_else(|| action.to_owned(), |digest| digest.to_string());
            move || Gone { what, digest }
        };
        let read = |digest: Option<Digest>| digest.and_then(|digest| self.read_blob(&digest));
        let digest = action.parse().ok();
        let message = read(digest).and_then(|bytes| Action::decode(&*bytes).ok());
        let action = message.ok_or_else(gone(Part::Action, digest))?;
        let digest = action.command_digest.as_ref().and_then(messages::Digest::meaning);
        let message = read(digest).and_then(|bytes| Command::decode(&*bytes).ok());
        let command = message.ok_or_else(gone(Part::Command, digest))?;
        let digest = messages::Digest::decode(&*action.salt).ok().and_then(|digest| digest.meaning());
        let policy = read(digest).and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let policy = policy.ok_or_else(gone(Part::Policy, digest))?;
        Ok(Side { action, command, policy })
    }

    /// The list of packages with this digest (`hash/size`); `None` when it is not in the store any more, or damaged.
    pub fn listing(&self, digest: &str) -> Option<Listing> {
        parse_listing(str::from_utf8(&self.read_blob(&digest.parse().ok()?)?).ok()?)
    }

    /// The input tree of a run; `None` when it is not in the store any more, or damaged.
    pub fn tree_of(&self, side: &Side) -> Option<Tree> {
        let (at, manifest) = self.manifest_of(&side.input_root()?)?;
        Some(Tree { at, manifest })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::PathBuf;

    use super::*;
    use crate::action::digest::{Identity, Run, identify};
    use crate::action::policy::tests::policy;
    use crate::inputs::{Entry, Manifest, Node};
    use crate::path::GuestPath;

    struct Fixture {
        dir: tempfile::TempDir,
        store: Store,
        identity: Identity,
    }

    impl Fixture {
        /// A store that has all of one run.
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(dir.path().join("store")).unwrap();
            let at = GuestPath::new("/a/src").unwrap();
            let layers = store.materialise(&manifest(&store), Some(&at), None).unwrap();
            let identity = identify(&Run {
                arguments: &["make".to_owned()],
                environment: &BTreeMap::from([("CC".to_owned(), "gcc".to_owned())]),
                working_directory: "a/src/sub",
                output_paths: &[],
                platform: &BTreeMap::new(),
                input_root: layers.root,
                timeout: None,
                policy: &policy(),
            });
            for message in [&identity.action, &identity.command, &identity.policy] {
                store.put_bytes(message, false).unwrap();
            }
            Self { dir, store, identity }
        }

        fn side(&self) -> Result<Side, Gone> {
            self.store.side(&self.identity.action_digest.to_string())
        }

        fn blob(&self, digest: &Digest) -> PathBuf {
            let hex = digest.hex();
            self.dir.path().join("store/blobs").join(&hex[..2]).join(&hex[2..])
        }
    }

    fn manifest(store: &Store) -> Manifest {
        let digest = store.put_bytes(b"text", false).unwrap();
        Manifest { entries: vec![Entry { path: "file".to_owned(), node: Node::File { digest, executable: false } }] }
    }

    #[test]
    fn what_a_run_was_reads_back() {
        let fixture = Fixture::new();
        let side = fixture.side().unwrap();
        assert_eq!(side.command.arguments, ["make"]);
        assert_eq!(side.policy, policy());
        let tree = fixture.store.tree_of(&side).unwrap();
        assert_eq!((tree.at.as_str(), tree.manifest), ("/a/src", manifest(&fixture.store)));
    }

    #[test]
    fn what_is_gone_or_damaged_is_named() {
        for damage in [|path: PathBuf| fs::remove_file(path), |path| fs::write(path, "x")] {
            for part in [Part::Action, Part::Command, Part::Policy] {
                let fixture = Fixture::new();
                let Identity { action_digest, command_digest, policy_digest, .. } = fixture.identity;
                let digest = match part {
                    Part::Action => action_digest,
                    Part::Command => command_digest,
                    _ => policy_digest,
                };
                damage(fixture.blob(&digest)).unwrap();
                assert_eq!(fixture.side(), Err(Gone { what: part, digest: digest.to_string() }));
            }
        }
        let fixture = Fixture::new();
        let side = fixture.side().unwrap();
        fs::remove_dir_all(fixture.dir.path().join("store/trees")).unwrap();
        assert_eq!(fixture.store.tree_of(&side), None);
        for text in ["", "no digest", "../../x/1"] {
            let gone = fixture.store.side(text).unwrap_err();
            assert_eq!((gone.what, gone.digest.as_str()), (Part::Action, text));
        }
    }

    #[test]
    fn a_list_of_packages_reads_back() {
        let fixture = Fixture::new();
        let store = &fixture.store;
        let put = |text: &str| store.put_bytes(text.as_bytes(), false).unwrap().to_string();
        let list = store.listing(&put("sbx packages 1\ndpkg\tgcc\t12\tamd64\tf\n")).unwrap();
        assert_eq!(list["gcc/amd64"][0].version, "12");
        for text in ["none".to_owned(), put("another text"), Digest::of(b"gone").to_string()] {
            assert_eq!(store.listing(&text), None, "{text}");
        }
    }

    #[test]
    fn blobs_that_are_no_messages_are_no_side() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("store")).unwrap();
        // Neither an action, nor one with a command, nor one with a salt that leads to a policy.
        let text = store.put_bytes(b"text", false).unwrap();
        assert_eq!(store.side(&text.to_string()).unwrap_err().what, Part::Action);
        let mut action = Action::default();
        let part = |action: &Action| {
            let digest = store.put_bytes(&action.encode_to_vec(), false).unwrap();
            store.side(&digest.to_string()).unwrap_err().what
        };
        assert_eq!(part(&action), Part::Command);
        action.command_digest = Some(store.put_bytes(b"", false).unwrap().into());
        assert_eq!(part(&action), Part::Policy);
        for salt in [b"\xff".to_vec(), messages::Digest::from(text).encode_to_vec()] {
            action.salt = salt;
            assert_eq!(part(&action), Part::Policy);
        }
    }
}
