//! What one run was and what came of it, as JSON kept per run.
//!
//! The record feeds `sbx diff` and reports (`--report`); its format is versioned and additive.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// The version of the JSON below.
pub const VERSION: u32 = 1;

/// One run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// [`VERSION`].
    pub version: u32,
    /// The run's id, unique on this machine.
    pub id: String,
    /// The directory that holds the `sandbox.toml`.
    pub project: String,
    /// The task's name, when a task was run.
    pub task: Option<String>,
    /// The task that needed this one: the outputs went to it and not into the project.
    #[serde(default)]
    pub needed_by: Option<String>,
    /// Program and arguments.
    pub command: Vec<String>,
    /// The working directory inside.
    pub cwd: String,
    /// When the run began, RFC 3339, UTC.
    pub started: String,
    /// From the start of sbx to the end of the command, in microseconds.
    pub duration_us: u64,
    /// How it ended.
    pub exit: Exit,
    /// The REAPI action digest, `hash/size`.
    pub action: String,
    /// The inputs' root digest, `hash/size`.
    pub input_root: String,
    /// How many entries the input manifest has.
    pub inputs: u64,
    /// What was isolated and how, one word each (`user`, `mount`, `net`, …), as the kernel granted it.
    pub enforced: Vec<String>,
    /// `none`, `rules` or `host`.
    pub network: String,
    /// Where the net namespace came from: `fresh`, `pool` or `host`.
    #[serde(default)]
    pub net_namespace: String,
    /// Every connection that the relay made, in order of their start.
    #[serde(default)]
    pub connections: Vec<Connection>,
    /// How many connections the list leaves out.
    #[serde(default)]
    pub connections_omitted: u64,
    /// Every attempt that was refused, each once with its count, in order of the first.
    #[serde(default)]
    pub blocked: Vec<Blocked>,
    /// How many refusals the list leaves out.
    #[serde(default)]
    pub blocked_omitted: u64,
    /// Names of the `[[scratch]]` directories that the command could use.
    pub scratch: Vec<String>,
    /// What the command wrote to its standard output.
    pub stdout: Stream,
    /// What the command wrote to its standard error.
    pub stderr: Stream,
    /// What came back, sorted by path: what the command made, or a replay put in place or found there.
    pub outputs: Vec<Output>,
    /// What was written and dropped.
    pub undeclared: Changes,
    /// The phases of the run, in order of their start.
    pub phases: Vec<Phase>,
    /// Where the scratch directory was kept (`--keep`).
    pub kept: Option<String>,
    /// What the cache had to do with it.
    #[serde(default)]
    pub cache: Cache,
    /// The limit of memory or processes that the command met.
    #[serde(default)]
    pub limit: Option<Limit>,
    /// What the command and all that it started have used; none for a replay.
    #[serde(default)]
    pub usage: Option<Usage>,
}

impl Record {
    /// The record of a run that began at `started` and of which nothing else is known.
    pub fn begun(started: String) -> Self {
        Self {
            version: VERSION,
            id: String::new(),
            project: String::new(),
            task: None,
            needed_by: None,
            command: Vec::new(),
            cwd: String::new(),
            started,
            duration_us: 0,
            exit: Exit { code: 0, signal: None, reason: String::new(), error: None },
            action: String::new(),
            input_root: String::new(),
            inputs: 0,
            enforced: Vec::new(),
            network: String::new(),
            net_namespace: String::new(),
            connections: Vec::new(),
            connections_omitted: 0,
            blocked: Vec::new(),
            blocked_omitted: 0,
            scratch: Vec::new(),
            stdout: Stream::default(),
            stderr: Stream::default(),
            outputs: Vec::new(),
            undeclared: Changes::default(),
            phases: Vec::new(),
            kept: None,
            cache: Cache::default(),
            limit: None,
            usage: None,
        }
    }
}

/// What the cache had to do with a run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cache {
    /// `hit` (the result was replayed), `miss` (it was looked up and there was none), or `off` (it was not looked up).
    pub state: String,
    /// Why it was not looked up, or why the result was not kept; none when it was kept, or replayed.
    pub reason: Option<String>,
    /// The id of the run that computed what was replayed.
    pub from: Option<String>,
    /// The directory that held that run's `sandbox.toml`.
    pub from_project: Option<String>,
    /// When it was computed, RFC 3339, UTC.
    pub computed: Option<String>,
    /// How long that took, in microseconds.
    pub saved_us: Option<u64>,
}

impl Cache {
    /// The state of a run whose result was replayed.
    pub const HIT: &str = "hit";
    /// The state of a run whose result was looked up and not found.
    pub const MISS: &str = "miss";
    /// The state of a run whose result was not looked up.
    pub const OFF: &str = "off";
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exit {
    /// The exit code of sbx for this run.
    pub code: i32,
    /// The signal that ended the command, if one did.
    pub signal: Option<i32>,
    /// `exited`, `signalled`, `time-limit`, `memory-limit`, `not-found`, `not-executable` or `failed` (sbx itself).
    pub reason: String,
    /// The error of sbx, when it failed.
    pub error: Option<String>,
}

impl Exit {
    /// The reason of a command that ended by itself.
    pub const EXITED: &str = "exited";
    /// The reason of a command that a signal ended.
    pub const SIGNALLED: &str = "signalled";
    /// The reason of a command that ran out of time.
    pub const TIME_LIMIT: &str = "time-limit";
    /// The reason of a command that ran out of memory.
    pub const MEMORY_LIMIT: &str = "memory-limit";
}

/// A limit that a command met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// `memory` or `pids`.
    pub name: String,
    /// Its value: bytes, or processes.
    pub value: u64,
}

/// What a command and all that it started have used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// The most memory at one time, in bytes.
    pub peak_memory: u64,
    /// Whose: `all` (all processes together, as their cgroup counts it) or `largest` (the largest process alone, never below
    /// sbx's own size).
    pub peak_of: String,
    /// CPU time outside of the kernel, in microseconds.
    pub user_us: u64,
    /// CPU time in the kernel, in microseconds.
    pub system_us: u64,
    /// Bytes read from disks.
    pub read_bytes: u64,
    /// Bytes written to disks.
    pub written_bytes: u64,
}

impl Usage {
    /// The peak of all processes together.
    pub const ALL: &str = "all";
    /// The peak of the largest process.
    pub const LARGEST: &str = "largest";
}

/// One captured stream.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stream {
    /// Its length.
    pub bytes: u64,
    /// The SHA-256 of its bytes, 64 hexadecimal digits.
    pub sha256: String,
}

/// A connection that the relay carried, or tried to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Connection {
    /// `tcp` or `udp`.
    pub protocol: String,
    /// `out` (by a rule of `allow`) or `in` (to a published port).
    pub direction: String,
    /// The name by which the command reached it, if it did so by a name.
    pub name: Option<String>,
    /// The address that was dialled, or for `in` the peer's; none when a name had none that may be dialled.
    pub address: Option<String>,
    /// The port that was dialled; for `in` the port inside.
    pub port: u16,
    /// Bytes that the command sent.
    pub sent: u64,
    /// Bytes that the command received.
    pub received: u64,
    /// Its start, in microseconds since the relay's.
    pub start_us: u64,
    /// Its length, in microseconds.
    pub duration_us: u64,
    /// Why it was not made or was cut off; none when both sides ended it.
    pub error: Option<String>,
}

/// Something that the rules do not allow, and that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Blocked {
    /// `tcp` or `udp`; none where a name was only looked up.
    pub protocol: Option<String>,
    /// The name, if there was one.
    pub name: Option<String>,
    /// The address, if the command gave a number or the name led to a refused one.
    pub address: Option<String>,
    /// The port; none where a name was only looked up.
    pub port: Option<u16>,
    /// Why, in words.
    pub reason: String,
    /// The line of `sandbox.toml` that would allow it; none where no line can.
    pub remedy: Option<String>,
    /// How often.
    pub count: u64,
}

/// One output that came back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// Relative to the project.
    pub path: String,
    /// `file`, `symlink` or `directory` (an empty one; the others follow from what is in them).
    pub kind: String,
    /// Whether a file's owner may execute it.
    pub executable: bool,
    /// A file's content, `hash/size`.
    pub digest: Option<String>,
    /// A link's text.
    pub target: Option<String>,
}

impl Output {
    /// The kind of a regular file.
    pub const FILE: &str = "file";
    /// The kind of a symbolic link.
    pub const SYMLINK: &str = "symlink";
    /// The kind of an empty directory.
    pub const DIRECTORY: &str = "directory";

    /// A regular file.
    pub fn file(path: &str, executable: bool, content: &Digest) -> Self {
        Self { executable, digest: Some(content.to_string()), ..Self::bare(path, Self::FILE) }
    }

    /// A symbolic link.
    pub fn symlink(path: &str, target: &str) -> Self {
        Self { target: Some(target.to_owned()), ..Self::bare(path, Self::SYMLINK) }
    }

    /// A directory without entries.
    pub fn directory(path: &str) -> Self {
        Self::bare(path, Self::DIRECTORY)
    }

    fn bare(path: &str, kind: &str) -> Self {
        Self { path: path.to_owned(), kind: kind.to_owned(), executable: false, digest: None, target: None }
    }
}

/// Paths that differ from what the sandbox began with; absolute paths inside, sorted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Changes {
    /// Not there before.
    pub added: Vec<String>,
    /// There before, written since.
    pub changed: Vec<String>,
    /// There before, gone.
    pub deleted: Vec<String>,
    /// How many more there are that the lists leave out.
    pub omitted: u64,
}

impl Changes {
    /// How many paths differ.
    pub fn count(&self) -> u64 {
        (self.added.len() + self.changed.len() + self.deleted.len()) as u64 + self.omitted
    }
}

/// One phase of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// Its name.
    pub name: String,
    /// Its start, in microseconds since sbx began.
    pub start_us: u64,
    /// Its length, in microseconds.
    pub duration_us: u64,
}
