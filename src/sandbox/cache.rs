//! Whether a run's result may be replayed and kept, and keeping it.

use std::fmt;
use std::io;
use std::time::{Duration, SystemTime};

use super::collected::Collected;
use super::group::Hit;
use super::relay::Copied;
use super::{Job, Options, Prepared, SandboxError, Stdin};
use crate::action::result::Known;
use crate::config::model::{Network, Settings};
use crate::digest::Digest;
use crate::record::Exit;
use crate::store::{PutError, Store, StoreError};

/// How a run uses the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// A known result is replayed; else it is computed and kept.
    Normal,
    /// It is computed whatever is known, and kept.
    Refresh,
    /// Nothing is looked up and nothing kept.
    Off,
}

/// Why a run's result is not looked up, or not kept.
#[derive(Debug)]
pub enum Uncached {
    /// The caller does not want it.
    Asked,
    /// The command reads the caller's standard input.
    Stdin,
    /// It is an interactive shell.
    Terminal,
    /// The caller wants the scratch directory, which a replay has none of.
    Kept,
    /// It shares the host's network.
    HostNetwork,
    /// It reaches other hosts, and its outputs are not pinned.
    Unpinned,
    /// It exited with a failure.
    Exited(i32),
    /// It was killed by a signal.
    Signalled(i32),
    /// The caller sent it a signal, which it may have answered with an orderly end.
    Disturbed,
    /// It reached the time limit.
    TimeLimit,
    /// It met another limit.
    Limit(Hit),
    /// sbx failed.
    Failed,
    /// Something that is shown as it stands on the host changed meanwhile; what.
    Changed(String),
    /// Whether that is so can't be told.
    Unseen(Box<SandboxError>),
    /// What it printed is not all there.
    Streams(io::Error),
    /// The store could not take it.
    Store(PutError),
}

impl fmt::Display for Uncached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked => f.write_str("--no-cache"),
            Self::Stdin => f.write_str("the command reads standard input (-i)"),
            Self::Terminal => f.write_str("it is an interactive shell"),
            Self::Kept => f.write_str("the scratch directory is wanted (--keep)"),
            Self::HostNetwork => f.write_str("it shares the host's network (`network.host`)"),
            Self::Unpinned => {
                f.write_str("`network.allow` lets other hosts influence it, and no `outputs_sha256` pins the outputs")
            }
            Self::Exited(code) => write!(f, "the command exited with {code} (`cache_failures` is false)"),
            Self::Signalled(number) => write!(f, "the command was killed by signal {number}"),
            Self::Disturbed => f.write_str("a signal was passed on to the command"),
            Self::TimeLimit => f.write_str("it reached the time limit"),
            Self::Limit(hit) => write!(f, "{hit}"),
            Self::Failed => f.write_str("sbx failed"),
            Self::Changed(what) => write!(f, "{what} while the command ran"),
            Self::Unseen(error) => write!(f, "{}", chain(error.as_ref())),
            Self::Streams(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                f.write_str("nobody read all that the command printed")
            }
            Self::Streams(error) => write!(f, "a copy of what it printed can't be kept: {error}"),
            Self::Store(error) => write!(f, "{}", chain(error)),
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

impl Uncached {
    /// Whether something went wrong that the user should know of without asking.
    pub fn is_trouble(&self) -> bool {
        match self {
            Self::Store(_) | Self::Changed(_) | Self::Unseen(_) => true,
            Self::Streams(error) => error.kind() != io::ErrorKind::BrokenPipe,
            _ => false,
        }
    }
}

/// Whether a run's result may be replayed and kept at all.
///
/// # Errors
/// Why not.
pub fn admit(settings: &Settings, options: &Options) -> Result<(), Uncached> {
    match (options.cache, options.stdin, &settings.network) {
        (Use::Off, ..) => Err(Uncached::Asked),
        (_, Stdin::Relay, _) => Err(Uncached::Stdin),
        (_, Stdin::Terminal, _) => Err(Uncached::Terminal),
        (_, Stdin::Null, Network::Host) => Err(Uncached::HostNetwork),
        (_, Stdin::Null, Network::Rules(_)) if settings.outputs_sha256.is_none() => Err(Uncached::Unpinned),
        _ if options.keep => Err(Uncached::Kept),
        _ => Ok(()),
    }
}

/// Whether the result of a run that ended so may be kept.
///
/// # Errors
/// Why not.
pub(super) fn judge(settings: &Settings, exit: &Exit) -> Result<(), Uncached> {
    match (exit.reason.as_str(), exit.code) {
        (Exit::EXITED, code) if code == 0 || settings.cache_failures => Ok(()),
        (Exit::EXITED, code) => Err(Uncached::Exited(code)),
        (Exit::SIGNALLED, code) => Err(Uncached::Signalled(exit.signal.unwrap_or(code - 128))),
        (Exit::TIME_LIMIT, _) => Err(Uncached::TimeLimit),
        _ => Err(Uncached::Failed),
    }
}

/// Puts what the command printed into the store.
///
/// # Errors
/// When it is not all there, or can't be stored.
fn keep_streams(store: &Store, copies: Option<(Copied, Copied)>) -> Result<(Digest, Digest), Uncached> {
    let (stdout, stderr) = copies.ok_or(Uncached::Failed)?;
    let mut buffer = Vec::new();
    let mut keep = |copy: Copied| {
        let mut reader = copy.into_reader().map_err(Uncached::Streams)?;
        store.put_reader(&mut reader, &mut buffer).map_err(Uncached::Store)
    };
    Ok((keep(stdout)?, keep(stderr)?))
}

/// Puts the messages of the run's identity into the store, where `sbx why` reads them.
///
/// # Errors
/// When the store can't be written.
pub(super) fn keep_messages(store: &Store, prepared: &Prepared) -> Result<(), StoreError> {
    let identity = &prepared.identity;
    for message in [&identity.action, &identity.command, &identity.policy] {
        store.put_bytes(message, false)?;
    }
    Ok(())
}

/// Keeps what a run came to; the contents of its outputs are in the store.
///
/// # Errors
/// Why it can't be kept.
pub(super) fn keep(
    job: Job<'_>,
    run: &mut Collected,
    id: &str,
    (started, took): (SystemTime, Duration),
) -> Result<(), Uncached> {
    let Job { store, request, prepared } = job;
    match prepared.live.still_holds(store, &request.settings, &request.project_root) {
        Ok(None) => {}
        Ok(Some(what)) => return Err(Uncached::Changed(what)),
        Err(error) => return Err(Uncached::Unseen(Box::new(error))),
    }
    let (stdout, stderr) = keep_streams(store, run.copies.take())?;
    let known = Known {
        run: id.to_owned(),
        project: request.project_root.display().to_string(),
        exit_code: run.exit.code,
        outputs: run.outputs.clone(),
        unchanged: std::mem::take(&mut run.unchanged),
        stdout,
        stderr,
        began: started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(),
        took,
    };
    store.keep_result(&prepared.identity.action_digest, &known).map_err(|error| Uncached::Store(error.into()))
}
