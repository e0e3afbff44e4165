//! The messages of the Remote Execution API v2 that make up a run's identity and its result.
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

impl Digest {
    /// The digest that the message carries, if it is one of SHA-256.
    pub fn meaning(&self) -> Option<digest::Digest> {
        Some(digest::Digest { hash: digest::parse_hex(&self.hash)?, size: u64::try_from(self.size_bytes).ok()? })
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

/// What an action came to.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ActionResult {
    /// The regular files among the outputs, sorted by path.
    #[prost(message, repeated, tag = "2")]
    pub output_files: Vec<OutputFile>,
    /// The directories among the outputs, sorted by path. (sbx names every file by itself, so these are the empty ones.)
    #[prost(message, repeated, tag = "3")]
    pub output_directories: Vec<OutputDirectory>,
    /// The command's exit code.
    #[prost(int32, tag = "4")]
    pub exit_code: i32,
    /// What it wrote to its standard output.
    #[prost(message, optional, tag = "6")]
    pub stdout_digest: Option<Digest>,
    /// What it wrote to its standard error.
    #[prost(message, optional, tag = "8")]
    pub stderr_digest: Option<Digest>,
    /// How it came about.
    #[prost(message, optional, tag = "9")]
    pub execution_metadata: Option<ExecutedActionMetadata>,
    /// The symbolic links among the outputs, sorted by path.
    #[prost(message, repeated, tag = "12")]
    pub output_symlinks: Vec<OutputSymlink>,
}

/// A regular file among the outputs.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct OutputFile {
    /// Its path.
    #[prost(string, tag = "1")]
    pub path: String,
    /// Its content.
    #[prost(message, optional, tag = "2")]
    pub digest: Option<Digest>,
    /// Whether it may be executed.
    #[prost(bool, tag = "4")]
    pub is_executable: bool,
}

/// A directory among the outputs.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct OutputDirectory {
    /// Its path.
    #[prost(string, tag = "1")]
    pub path: String,
    /// The digest of its [`Tree`] message.
    #[prost(message, optional, tag = "3")]
    pub tree_digest: Option<Digest>,
}

/// A whole tree in one message.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Tree {
    /// Its root.
    #[prost(message, optional, tag = "1")]
    pub root: Option<Directory>,
}

/// A symbolic link among the outputs.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct OutputSymlink {
    /// Its path.
    #[prost(string, tag = "1")]
    pub path: String,
    /// Its text.
    #[prost(string, tag = "2")]
    pub target: String,
}

/// When and by whom an action was executed.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ExecutedActionMetadata {
    /// The worker's name; with sbx the id of the run.
    #[prost(string, tag = "1")]
    pub worker: String,
    /// When the command began.
    #[prost(message, optional, tag = "7")]
    pub execution_start_timestamp: Option<Timestamp>,
    /// When it had ended.
    #[prost(message, optional, tag = "8")]
    pub execution_completed_timestamp: Option<Timestamp>,
    /// What else the worker says; with sbx one [`RunDetails`].
    #[prost(message, repeated, tag = "11")]
    pub auxiliary_metadata: Vec<Any>,
}

/// `google.protobuf.Timestamp`
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Timestamp {
    /// Whole seconds since the epoch.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// The rest in nanoseconds.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

/// `google.protobuf.Any`
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Any {
    /// What the value is.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// The encoded message.
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

/// What sbx keeps of a run besides the protocol's own fields.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RunDetails {
    /// The directory that held the `sandbox.toml`.
    #[prost(string, tag = "1")]
    pub project: String,
    /// Paths that the output patterns select and the command left as they were, sorted: they are in the project already.
    #[prost(string, repeated, tag = "2")]
    pub unchanged: Vec<String>,
}
