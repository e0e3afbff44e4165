//! The messages of the Remote Execution API v2 that make up a run's identity.
//!
//! Written by hand so that the default build needs no code generator; the tests hold them byte for byte to the
//! published protocol (`bazel-remote-apis`). Fields that sbx never sets are left out: an absent field and a default
//! one are the same bytes. A canonical message is sorted as each type says, and never carries an empty sub-message,
//! which would add bytes that mean nothing.

use prost::Message;

use crate::digest;

/// A blob's SHA-256 and length.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Digest {
    /// 64 lowercase hexadecimal digits.
    #[prost(string, tag = "1")]
    pub hash: String,
    /// The length in bytes.
    #[prost(int64, tag = "2")]
    pub size_bytes: i64,
}

impl From<digest::Digest> for Digest {
    fn from(digest: digest::Digest) -> Self {
        // No file is longer than 2^63 - 1 bytes.
        Self { hash: digest.hex(), size_bytes: digest.size.cast_signed() }
    }
}

/// One directory of a tree; each list sorted by name, no name twice.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Directory {
    /// Its regular files.
    #[prost(message, repeated, tag = "1")]
    pub files: Vec<FileNode>,
    /// Its directories.
    #[prost(message, repeated, tag = "2")]
    pub directories: Vec<DirectoryNode>,
    /// Its symbolic links.
    #[prost(message, repeated, tag = "3")]
    pub symlinks: Vec<SymlinkNode>,
}

/// A regular file in a [`Directory`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct FileNode {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its content.
    #[prost(message, optional, tag = "2")]
    pub digest: Option<Digest>,
    /// Whether it may be executed.
    #[prost(bool, tag = "4")]
    pub is_executable: bool,
}

/// A directory in a [`Directory`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct DirectoryNode {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The digest of its [`Directory`] message.
    #[prost(message, optional, tag = "2")]
    pub digest: Option<Digest>,
}

/// A symbolic link in a [`Directory`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct SymlinkNode {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its text.
    #[prost(string, tag = "2")]
    pub target: String,
}

/// What is executed.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Command {
    /// Program and arguments.
    #[prost(string, repeated, tag = "1")]
    pub arguments: Vec<String>,
    /// The environment, sorted by name.
    #[prost(message, repeated, tag = "2")]
    pub environment_variables: Vec<EnvironmentVariable>,
    /// Requirements on the machine, the same as in the [`Action`] (servers before v2.2 look only here).
    #[prost(message, optional, tag = "5")]
    pub platform: Option<Platform>,
    /// The directory to start in, relative to the input root; empty for the root itself.
    #[prost(string, tag = "6")]
    pub working_directory: String,
    /// What is to be kept, relative to the working directory, sorted, without duplicates.
    #[prost(string, repeated, tag = "7")]
    pub output_paths: Vec<String>,
}

/// One variable of the environment.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct EnvironmentVariable {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// Requirements on the machine.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Platform {
    /// Sorted by name, then by value.
    #[prost(message, repeated, tag = "1")]
    pub properties: Vec<Property>,
}

/// One requirement on the machine.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Property {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// A whole run: its digest is the run's identity.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Action {
    /// The digest of the [`Command`] message.
    #[prost(message, optional, tag = "1")]
    pub command_digest: Option<Digest>,
    /// The digest of the input root's [`Directory`] message.
    #[prost(message, optional, tag = "2")]
    pub input_root_digest: Option<Digest>,
    /// How long it may take; absent without a limit.
    #[prost(message, optional, tag = "6")]
    pub timeout: Option<Duration>,
    /// Whatever else tells two runs apart.
    #[prost(bytes = "vec", tag = "9")]
    pub salt: Vec<u8>,
    /// Requirements on the machine.
    #[prost(message, optional, tag = "10")]
    pub platform: Option<Platform>,
}

/// `google.protobuf.Duration`
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Duration {
    /// Whole seconds.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// The rest in nanoseconds.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}
