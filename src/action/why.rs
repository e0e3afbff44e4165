//! Why one run is not the same as another: every difference of what identifies them, and the earlier run that differs
//! least.
//!
//! Two runs whose actions have different digests differ in something that is named here; two whose actions are equal, in
//! nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use super::messages::{Action, Command};
use super::policy::{ContentIdentity, Policy};
use crate::digest::Digest;
use crate::inputs::packages::Installed;
use crate::inputs::{Manifest, Node};
use crate::path::GuestPath;

pub mod closest;
mod compare;

pub use compare::{differences, settings};

/// What identifies one run, but for the content of its input tree.
#[derive(Debug, Clone, PartialEq)]
pub struct Side {
    /// The action.
    pub action: Action,
    /// The command that the action names.
    pub command: Command,
    /// The policy that the action's salt names.
    pub policy: Policy,
}

impl Side {
    /// The digest of the input tree's root; `None` when the action has none that sbx writes.
    pub fn input_root(&self) -> Option<Digest> {
        self.action.input_root_digest.as_ref()?.meaning()
    }
}

/// A run's input tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// Where the inputs stand inside.
    pub at: GuestPath,
    /// The inputs.
    pub manifest: Manifest,
}

/// The package listings that policies name, by the digest in the policy.
pub type Listings = BTreeMap<String, Listing>;

/// What is installed of each package, by `name/architecture`.
pub type Listing = BTreeMap<String, Vec<Installed>>;

/// What belongs together, the most telling first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// What the sandbox shows and allows.
    Policy,
    /// The file system outside of the inputs and mounts.
    Rootfs,
    /// The read-only mounts.
    Mounts,
    /// The variables.
    Environment,
    /// The program and its arguments.
    Arguments,
    /// Where the command starts.
    WorkingDirectory,
    /// What is to be kept.
    Outputs,
    /// How long it may take.
    TimeLimit,
    /// What the machine must be.
    Platform,
    /// The input tree.
    Inputs,
}

/// What differs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The number of the sandbox's own ways ([`super::policy::ABI`]).
    Abi,
    /// A word of what is isolated.
    Isolation,
    /// A system call that is allowed by name.
    SystemCall,
    /// The kind of network: `none`, `rules` or `host`.
    Network,
    /// A rule of `allow`.
    Allow,
    /// The address pinned to this name.
    Pin(String),
    /// A published port.
    Publish,
    /// The host name.
    Hostname,
    /// The user id.
    Uid,
    /// The group id.
    Gid,
    /// The limit of this name.
    Limit(String),
    /// The name of the kept directory at this place.
    Scratch(String),
    /// Whether what the command writes lives in memory: `memory` or `disk`.
    Memory,
    /// The order of output patterns of which one takes away what another selects.
    OutputOrder,
    /// Where the root file system comes from: `host`, or a tree's digest.
    Rootfs,
    /// The package of this name.
    Package(String),
    /// The host's directory at this path.
    Host(String),
    /// The mount at this place.
    Mount(String),
    /// The variable of this name.
    Variable(String),
    /// The argument of this index; 0 is the program.
    Argument(usize),
    /// Where the command starts.
    WorkingDirectory,
    /// A pattern of `outputs`.
    Output,
    /// The time limit.
    TimeLimit,
    /// The requirement of this name on the machine.
    Property(String),
    /// Where the inputs stand.
    Workdir,
    /// The input at this path.
    Input(String),
    /// The input tree as a whole, where one of the two can't be read any more.
    InputTree,
}

impl Subject {
    /// Where it belongs.
    pub fn group(&self) -> Group {
        match self {
            Self::Abi
            | Self::Isolation
            | Self::SystemCall
            | Self::Network
            | Self::Allow
            | Self::Pin(_)
            | Self::Publish
            | Self::Hostname
            | Self::Uid
            | Self::Gid
            | Self::Limit(_)
            | Self::Scratch(_)
            | Self::Memory
            | Self::OutputOrder => Group::Policy,
            Self::Rootfs | Self::Package(_) | Self::Host(_) => Group::Rootfs,
            Self::Mount(_) => Group::Mounts,
            Self::Variable(_) => Group::Environment,
            Self::Argument(_) => Group::Arguments,
            Self::WorkingDirectory => Group::WorkingDirectory,
            Self::Output => Group::Outputs,
            Self::TimeLimit => Group::TimeLimit,
            Self::Property(_) => Group::Platform,
            Self::Workdir | Self::Input(_) | Self::InputTree => Group::Inputs,
        }
    }
}

/// What a subject was or is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A number.
    Number(u64),
    /// A length of time.
    Time(Duration),
    /// What stands for a content.
    Identity(ContentIdentity),
    /// What is installed of a package.
    Installed(Vec<Installed>),
    /// An input.
    Node(Node),
}

/// How a subject differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is not what it was.
    Changed {
        /// What it was.
        before: Value,
        /// What it is.
        after: Value,
    },
    /// It was not there.
    Added(Value),
    /// It is not there any more.
    Removed(Value),
}

impl Change {
    /// What it was.
    pub fn before(&self) -> Option<&Value> {
        match self {
            Self::Changed { before: value, .. } | Self::Removed(value) => Some(value),
            Self::Added(_) => None,
        }
    }

    /// What it is.
    pub fn after(&self) -> Option<&Value> {
        match self {
            Self::Changed { after: value, .. } | Self::Added(value) => Some(value),
            Self::Removed(_) => None,
        }
    }

    /// `None` when there is nothing on either side.
    fn between(before: Option<Value>, after: Option<Value>) -> Option<Self> {
        match (before, after) {
            (Some(before), Some(after)) => Some(Self::Changed { before, after }),
            (None, Some(value)) => Some(Self::Added(value)),
            (Some(value), None) => Some(Self::Removed(value)),
            (None, None) => None,
        }
    }
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What differs.
    pub subject: Subject,
    /// How.
    pub change: Change,
}

/// In what two inputs at one path differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aspect {
    /// A file is a link now, or the like.
    Kind,
    /// A file's content.
    Content,
    /// Whether a file may be executed.
    Mode,
    /// A link's text.
    Target,
}

/// In what two inputs at one path differ.
pub fn aspects(before: &Node, after: &Node) -> Vec<Aspect> {
    match (before, after) {
        (Node::File { digest, executable }, Node::File { digest: other_digest, executable: other_executable }) => {
            [(digest != other_digest, Aspect::Content), (executable != other_executable, Aspect::Mode)]
                .into_iter()
                .filter_map(|(differs, aspect)| differs.then_some(aspect))
                .collect()
        }
        (Node::Symlink { target }, Node::Symlink { target: other }) => {
            if target == other {
                Vec::new()
            } else {
                vec![Aspect::Target]
            }
        }
        (Node::EmptyDirectory, Node::EmptyDirectory) => Vec::new(),
        (Node::File { .. } | Node::Symlink { .. } | Node::EmptyDirectory, _) => vec![Aspect::Kind],
    }
}

#[cfg(test)]
mod tests;
