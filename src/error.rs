//! Why sbx failed: the one error on top of every module's own.

use std::io;
use std::path::PathBuf;

use crate::cli::resolve::ResolveError;
use crate::cli::usage::UsageError;
use crate::config::ConfigError;
use crate::config::discover::DiscoverError;

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

/// Whose fault a failure is; decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The command line's.
    Usage,
    /// The project's, or its `sandbox.toml`'s.
    Config,
    /// The machine's.
    Machine,
}

impl Kind {
    /// The exit code of sbx for it.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Usage | Self::Config | Self::Machine => exit::FAILED,
        }
    }
}

/// The exit codes of sbx's own; a command's code is passed on as it is.
pub mod exit {
    /// All is well.
    pub const OK: u8 = 0;
    /// `check` found faults, `doctor` found a lack.
    pub const FOUND: u8 = 1;
    /// sbx itself failed.
    pub const FAILED: u8 = 125;
}

impl Error {
    /// Whose fault it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Usage(_) | Self::Resolve(_) => Kind::Usage,
            Self::Discover(_) | Self::Config(_) => Kind::Config,
            Self::Output { .. } | Self::Write { .. } | Self::WorkingDirectory { .. } | Self::SetId => Kind::Machine,
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
            Self::Config(_) | Self::Output { .. } | Self::Write { .. } | Self::WorkingDirectory { .. } => None,
            Self::SetId => Some("sbx needs no privilege: `chmod ug-s` its binary".into()),
        }
    }
}
