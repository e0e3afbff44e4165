//! What the store still has of past runs: the messages that identify them, and their input trees.

use std::fmt;

use prost::Message as _;

use super::Store;
use crate::action::messages::{self, Action, Command};
use crate::action::why::{Listing, Side, Tree};
use crate::digest::Digest;
use crate::inputs::root_digest_around;
use crate::path::GuestPath;

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
        let _ = self.read_blob(&digest.parse().ok()?)?;
        None
    }

    fn manifest_of(&self, root: &Digest) -> Option<crate::inputs::Manifest> {
        let path = self.dir.join(format!("trees/{}.manifest", root.hex()));
        crate::inputs::Manifest::decode(&super::frame::read_frame(&path, b"sbxtree1")?)
    }

    /// The input tree of a run; `None` when it is not in the store any more, or damaged.
    pub fn tree_of(&self, side: &Side) -> Option<Tree> {
        let root = side.input_root()?;
        let manifest = self.manifest_of(&root)?;
        let inner = manifest.root_digest();
        // The command starts where the inputs stand or below.
        let directory = format!("/{}", side.command.working_directory);
        let above = directory.match_indices('/').map(|(end, _)| &directory[..end]).chain([directory.as_str()]);
        let mut places = above.filter_map(|path| GuestPath::new(if path.is_empty() { "/" } else { path }).ok());
        let at = places.find(|place| root_digest_around(inner, place) == root)?;
        Some(Tree { at, manifest })
    }
}
