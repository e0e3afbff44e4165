//! What holds for every process that begins in a sandbox, be it by `run` or by `enter`.

use super::calls::Calls;
use super::step::{Landlock, Limit, Resource, Step};
use super::{Facts, PlanError};
use crate::config::model::Settings;
use crate::path::GuestPath;

/// The soft limit of the stack in bytes, Linux's own default.
const STACK: u64 = 8 << 20;
/// The soft limit of open files that most distributions begin with.
const OPEN_FILES: u64 = 1024;
/// The hard limit of open files that systemd gives everyone. A caller may have more; a command that can see how much would
/// be another run on each machine.
const OPEN_FILES_HARD: u64 = 524_288;

/// What the parent of a command does when it is inside and has nothing more to set up: it gives up all privilege, and
/// with it that of every child. The filter comes last: it refuses some of the steps before it.
pub fn confine(calls: Calls) -> [Step; 7] {
    [
        Step::SetUmask,
        Step::JoinOwnKeyring,
        Step::ForbidNewPrivileges,
        Step::DropCapabilities,
        Step::BeginSession,
        Step::HideInit,
        Step::FilterCalls(calls),
    ]
}

/// What a command's process does; all privilege is gone already. Its limits come last: they are not ours to meet.
pub fn start(directory: &GuestPath, limits: &[Limit], landlock: Option<Landlock>, terminal: bool) -> Vec<Step> {
    let mut steps = vec![
        Step::BeginSession,
        if terminal { Step::TakeTerminal } else { Step::PlaceStreams },
        Step::FixAddresses,
        Step::EnterDirectory(directory.clone()),
        Step::ResetSignals,
        Step::CloseDescriptors,
    ];
    steps.extend(landlock.map(Step::Landlock));
    steps.extend(limits.iter().copied().map(Step::Limit));
    steps.push(Step::Execute);
    steps
}

/// The limits of a run's command.
///
/// # Errors
/// When the settings ask for more than the caller has.
pub fn limits(settings: &Settings, facts: &Facts) -> Result<[Limit; 3], PlanError> {
    Ok([
        Limit { resource: Resource::CoreSize, soft: 0, hard: 0 },
        Limit { resource: Resource::Stack, soft: STACK.min(facts.stack), hard: facts.stack },
        open_files(settings.limits.open_files, facts.open_files.1)?,
    ])
}

fn open_files(wanted: Option<u64>, hard: u64) -> Result<Limit, PlanError> {
    let resource = Resource::OpenFiles;
    match wanted {
        Some(wanted) if wanted > hard => Err(PlanError::OpenFiles { wanted, hard }),
        Some(wanted) => Ok(Limit { resource, soft: wanted, hard: wanted }),
        None => Ok(Limit { resource, soft: OPEN_FILES.min(hard), hard: OPEN_FILES_HARD.min(hard) }),
    }
}
