//! Why a run did not come to its end.

use std::path::PathBuf;

use super::changes::ChangesError;
use super::enter::EnterError;
use super::group::GroupError;
use super::outputs::OutputError;
use super::refusal::Refusal;
use super::relay::RelayError;
use super::scratch::ScratchError;
use crate::inputs::InputError;
use crate::inputs::rootfs::RootFsError;
use crate::net::NetError;
use crate::plan::PlanError;
use crate::store::records::RecordError;
use crate::store::{PutError, StoreError};
use crate::sys::errno::{CallError, Errno};

/// Everything that stops a run, each with the layer it came from.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The inputs can't be used.
    #[error(transparent)]
    Inputs(#[from] InputError),
    /// The root file system can't be used.
    #[error(transparent)]
    RootFs(#[from] RootFsError),
    /// The store can't be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There can be no plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The caller's working directory has no place inside.
    #[error("the working directory `{}` can't be shown inside", path.display())]
    Directory {
        /// The directory, relative to the project.
        path: PathBuf,
    },
    /// The scratch directory can't be used.
    #[error("the scratch directory can't be used")]
    Scratch(#[from] ScratchError),
    /// A call of sbx's own failed on the host's side.
    #[error("the kernel refused a call")]
    Kernel(#[source] CallError),
    /// A scratch directory in memory can't outlive the run.
    #[error("a scratch directory in memory ends with the run and can't be kept")]
    KeptMemory,
    /// The cgroup that holds the run to its limits can't be used.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// Something on the way could not be opened.
    #[error("can't prepare the command's streams")]
    Streams(#[source] std::io::Error),
    /// The kernel refused the sandbox.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// There is no such program inside.
    #[error("`{program}` is not found inside the sandbox")]
    NotFound {
        /// As it was typed.
        program: String,
        /// Where it was looked for.
        path: String,
    },
    /// The program is there and can't be executed.
    #[error("`{program}` can't be executed: {errno}")]
    NotExecutable {
        /// As it was typed.
        program: String,
        /// Why.
        errno: Errno,
    },
    /// A running sandbox can't be entered.
    #[error(transparent)]
    Enter(#[from] EnterError),
    /// Something changed what the store keeps of the inputs or of the root file system.
    #[error("what the store keeps of the inputs was changed")]
    DamagedLayer,
    /// The outputs are not those that the settings pin.
    #[error("the outputs have the SHA-256 {found}, and `outputs_sha256` is {expected}")]
    Pin {
        /// The digest that is declared.
        expected: String,
        /// The digest of what the command made.
        found: String,
    },
    /// What another task needs can't be kept for it.
    #[error("the outputs can't be kept for the task that needs them")]
    Unkept(#[source] PutError),
    /// PID 1 is gone without a word.
    #[error("the sandbox's first process ended without a word: it was killed from outside, or could not report")]
    Vanished,
    /// A stream broke.
    #[error(transparent)]
    Relay(#[from] RelayError),
    /// The rules of the network can't be put into force.
    #[error(transparent)]
    Network(#[from] NetError),
    /// What the command wrote can't be listed.
    #[error(transparent)]
    Changes(#[from] ChangesError),
    /// The records can't be used.
    #[error(transparent)]
    Records(#[from] RecordError),
    /// The outputs did not come back.
    #[error(transparent)]
    Outputs(#[from] OutputError),
}

impl SandboxError {
    /// The exit code of `sbx run` for it: 127 not found, 126 not executable, 125 everything else.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::NotFound { .. } => 127,
            Self::NotExecutable { .. } => 126,
            Self::Inputs(_)
            | Self::RootFs(_)
            | Self::Store(_)
            | Self::Plan(_)
            | Self::Directory { .. }
            | Self::Scratch(_)
            | Self::Kernel(_)
            | Self::KeptMemory
            | Self::Group(_)
            | Self::Streams(_)
            | Self::Refused(_)
            | Self::Enter(_)
            | Self::DamagedLayer
            | Self::Pin { .. }
            | Self::Unkept(_)
            | Self::Vanished
            | Self::Relay(_)
            | Self::Network(_)
            | Self::Changes(_)
            | Self::Records(_)
            | Self::Outputs(_) => 125,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Plan(error) => error.hint(),
            Self::Refused(refusal) => refusal.hint.clone(),
            Self::Enter(error) => error.hint(),
            Self::Network(error) => error.hint(),
            Self::NotFound { program, path } if program.contains('/') => {
                Some(format!("is it an input, and is the interpreter that its first line names there? ({path})"))
            }
            Self::NotFound { path, .. } => Some(format!(
                "PATH inside is {path}; what is elsewhere on this machine needs a [[mount]] and its directory in env.set.PATH"
            )),
            Self::Pin { found, .. } => {
                Some(format!("nothing came back; if these outputs are right, set `outputs_sha256 = \"{found}\"`"))
            }
            Self::DamagedLayer => Some("`sbx cache verify --repair` finds all of it".into()),
            Self::KeptMemory => Some("set `sandbox.scratch = \"disk\"`, or leave `--keep` out".into()),
            Self::NotExecutable { errno: Errno::EACCES, .. } => {
                Some("it must be a file, with its executable bit set (chmod +x)".into())
            }
            Self::NotExecutable { errno: Errno::ENOEXEC, .. } => {
                Some("a script must begin with a `#!` line; sbx never guesses a shell".into())
            }
            Self::Outputs(OutputError::Missing { .. }) => {
                Some("take it out of `outputs`, or let the command write it below the working directory".into())
            }
            Self::Inputs(error) => error.hint(),
            Self::RootFs(_)
            | Self::Store(_)
            | Self::Directory { .. }
            | Self::Scratch(_)
            | Self::Kernel(_)
            | Self::Group(_)
            | Self::Streams(_)
            | Self::NotExecutable { .. }
            | Self::Unkept(_)
            | Self::Vanished
            | Self::Relay(_)
            | Self::Changes(_)
            | Self::Records(_)
            | Self::Outputs(_) => None,
        }
    }
}
