//! Why sbx failed: the one error on top of every module's own.

use std::io;
use std::path::PathBuf;

use crate::bench::BenchError;
use crate::bench::report::Unreadable;
use crate::cli::resolve::ResolveError;
use crate::cli::usage::UsageError;
use crate::config::ConfigError;
use crate::config::discover::DiscoverError;
use crate::pool::PoolError;
use crate::sandbox::SandboxError;
use crate::sandbox::live::{LiveError, PickError};
use crate::store::StoreError;
use crate::store::records::RecordError;

/// Why sbx failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line can't be understood.
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// The command line can't be fulfilled here.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// There is no project.
    #[error(transparent)]
    Discover(#[from] DiscoverError),
    /// The project's `sandbox.toml` is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The store can't be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The records of past runs can't be used.
    #[error(transparent)]
    Records(#[from] RecordError),
    /// The pool can't be started, or not be asked.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The run could not be prepared or carried out.
    #[error("{source}")]
    Sandbox {
        /// Why.
        source: SandboxError,
        /// What to say if the command was not found: the task that was perhaps meant.
        slip: Option<String>,
    },
    /// The running sandboxes can't be listed.
    #[error(transparent)]
    Live(#[from] LiveError),
    /// The command line names no running sandbox, or several.
    #[error(transparent)]
    Pick(#[from] PickError),
    /// `diff` or `why` before any run.
    #[error("no run of {} is recorded", task.as_ref().map_or_else(|| "this project".to_owned(), |task| format!("the task `{task}`")))]
    NoRun {
        /// The task that was meant, when one was.
        task: Option<String>,
    },
    /// `init` where a file is.
    #[error("{} exists", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// `--report fd:N` with an N that can't be.
    #[error("`{given}` is no descriptor for a report")]
    ReportDescriptor {
        /// What was typed.
        given: String,
    },
    /// Standard output can't be written.
    #[error("can't write to standard output")]
    Output {
        /// Why.
        source: io::Error,
    },
    /// A file that the command line asks for can't be written.
    #[error("can't write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that the command line names can't be read.
    #[error("can't read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A bench has no result.
    #[error(transparent)]
    Bench(#[from] BenchError),
    /// A file is no report of a bench.
    #[error("can't use {}", path.display())]
    BenchReport {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Unreadable,
    },
    /// Two reports are of different benches.
    #[error("a report of `bench {old}` can't be compared with one of `bench {new}`")]
    BenchKinds {
        /// Which bench the earlier one is of.
        old: String,
        /// Which the later.
        new: String,
    },
    /// The working directory is gone.
    #[error("can't find the working directory")]
    WorkingDirectory {
        /// Why.
        source: io::Error,
    },
    /// The binary has a set-user-id or set-group-id bit.
    #[error("sbx refuses to run with a set-user-id or set-group-id bit")]
    SetId,
}

/// What kind of failure it is; decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The command line is wrong.
    Usage,
    /// The project or its `sandbox.toml` is.
    Config,
    /// A file, directory or stream of this machine is.
    Machine,
    /// The sandbox can't be prepared or made, or its outputs can't be taken.
    Sandbox,
    /// The command is there but can't be executed.
    NotExecutable,
    /// The command is not there.
    NotFound,
}

impl Kind {
    /// The exit code of sbx for it.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Usage | Self::Config | Self::Machine | Self::Sandbox => exit::FAILED,
            Self::NotExecutable => exit::NOT_EXECUTABLE,
            Self::NotFound => exit::NOT_FOUND,
        }
    }
}

/// The exit codes of sbx's own; a command's code is passed on as it is.
pub mod exit {
    /// All is well.
    pub const OK: u8 = 0;
    /// `check` found faults, `doctor` a lack, `pool status` no pool, `cache verify` damage, `bench --compare` something slower.
    pub const FOUND: u8 = 1;
    /// sbx itself failed.
    pub const FAILED: u8 = 125;
    /// The command can't be executed.
    pub const NOT_EXECUTABLE: u8 = 126;
    /// The command was not found.
    pub const NOT_FOUND: u8 = 127;
}

impl Error {
    /// What kind of failure it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Usage(_)
            | Self::Resolve(_)
            | Self::Pick(_)
            | Self::ReportDescriptor { .. }
            | Self::BenchReport { .. }
            | Self::BenchKinds { .. } => Kind::Usage,
            Self::Discover(_) | Self::Config(_) | Self::NoRun { .. } | Self::Exists { .. } => Kind::Config,
            Self::Store(_)
            | Self::Records(_)
            | Self::Pool(_)
            | Self::Live(_)
            | Self::Output { .. }
            | Self::Write { .. }
            | Self::Read { .. }
            | Self::Bench(_)
            | Self::WorkingDirectory { .. }
            | Self::SetId => Kind::Machine,
            Self::Sandbox { source, .. } => match source.exit_code() {
                126 => Kind::NotExecutable,
                127 => Kind::NotFound,
                _ => Kind::Sandbox,
            },
        }
    }

    /// The exit code of sbx for it.
    pub fn exit_code(&self) -> u8 {
        self.kind().exit_code()
    }

    /// What helps, a line each.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Usage(error) => Some(error.hints.join("\n")).filter(|hints| !hints.is_empty()),
            Self::Resolve(error) => error.hint(),
            Self::Discover(error) => error.hint().map(str::to_owned),
            Self::Pool(error) => error.hint(),
            Self::Sandbox { source, slip } => {
                let slip = slip.clone().filter(|_| self.kind() == Kind::NotFound);
                let hints: Vec<String> = slip.into_iter().chain(source.hint()).collect();
                Some(hints.join("\n")).filter(|hints| !hints.is_empty())
            }
            Self::Config(_)
            | Self::Store(_)
            | Self::Records(_)
            | Self::Live(_)
            | Self::Output { .. }
            | Self::Write { .. }
            | Self::Read { .. }
            | Self::BenchKinds { .. }
            | Self::WorkingDirectory { .. } => None,
            Self::Bench(error) => error.hint(),
            Self::BenchReport { .. } => Some("`sbx bench NAME --json > FILE` writes one".into()),
            Self::Pick(_) => Some("`sbx ps` lists the running sandboxes".into()),
            Self::NoRun { .. } => Some("`sbx run` records each run".into()),
            Self::Exists { .. } => Some("`sbx init --force` replaces it".into()),
            Self::ReportDescriptor { .. } => {
                Some("give `fd:N` with N from 3 on (0 to 2 are the standard streams), or a path".into())
            }
            Self::SetId => Some("sbx needs no privilege: `chmod ug-s` its binary".into()),
        }
    }
}
