//! A known result comes back: outputs, standard output and standard error, every byte checked before any is shown.

use std::fs::File;
use std::time::{Duration, SystemTime};

use super::collected::{Destination, check_pin};
use super::outputs::{self, OutputError};
use super::phases::Phases;
use super::relay::{Relay, RelayError};
use super::run::{blank, callers_streams, made, prepare_record, write};
use super::{Delivery, Job, News, Outcome, SandboxError, Tell};
use crate::action::result::Known;
use crate::digest::Digest;
use crate::inputs::Entry;
use crate::record::{self, Exit, Output, Record, Stream};
use crate::store::actions::Lookup;
use crate::store::{Store, records};
use crate::sys::event::{self, Interest};
use crate::sys::stream::Direction;

/// What stops a replay.
enum Stopped {
    /// A blob is gone or damaged; the text says what it was.
    Lost { what: String, digest: Digest, executable: bool },
    /// Anything else.
    Failed(SandboxError),
}

impl<E: Into<SandboxError>> From<E> for Stopped {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// What the job's result made, if one is known and the store holds all of it.
pub fn known(job: Job<'_>) -> Option<Vec<Entry>> {
    match job.store.lookup(&job.prepared.identity.action_digest) {
        Lookup::Known(known) if known.exit_code == 0 && held(job.store, &known).is_ok() => Some(made(&known.outputs)),
        _ => None,
    }
}

/// Replays the job's result, if one is known that is wanted; `None` when it must be computed.
///
/// # Errors
/// When the project or the caller's streams refuse what is replayed.
pub(super) fn attempt(
    job: Job<'_>,
    delivery: Delivery,
    tell: Tell<'_>,
    clock: &mut Phases,
) -> Result<Option<Outcome>, SandboxError> {
    clock.phase("look-up");
    let action = &job.prepared.identity.action_digest;
    let settings = &job.request.settings;
    let known = match job.store.lookup(action) {
        Lookup::Unknown => return Ok(None),
        Lookup::Damaged => {
            tell(&News::Damaged("it can't be read".to_owned()));
            return Ok(None);
        }
        Lookup::Known(known) => known,
    };
    let wanted = known.exit_code == 0 || settings.cache_failures;
    if !wanted || known.exit_code == 0 && check_pin(settings, &known.outputs).is_err() {
        return Ok(None);
    }
    clock.phase("replay");
    let started = SystemTime::now();
    let id = records::new_run_id(started);
    match deliver(job, delivery, &known, &id) {
        Ok(outputs) => Ok(Some(outcome(job, delivery, &known, (id, started), outputs, clock))),
        Err(Stopped::Failed(error)) => Ok(Some(failed(job, &known, (id, started), error, clock))),
        Err(Stopped::Lost { what, digest, executable }) => {
            job.store.forget_result(action)?;
            job.store.discard_blob(&digest, executable)?;
            tell(&News::Damaged(format!("{what} is missing in the store or damaged")));
            Ok(None)
        }
    }
}

/// Brings back what is known; what came back.
fn deliver(job: Job<'_>, delivery: Delivery, known: &Known, id: &str) -> Result<Vec<Output>, Stopped> {
    let Job { store, request, .. } = job;
    if delivery == Delivery::Store {
        return held(store, known).map(|()| known.outputs.clone());
    }
    let stdout = stream(store, &known.stdout, "its standard output")?;
    let stderr = stream(store, &known.stderr, "its standard error")?;
    let outputs = if known.exit_code == 0 {
        let destination = Destination::of(store, request)?;
        match outputs::replay(&destination.request(request, id), known, store) {
            Ok(staged) => {
                show(stdout, stderr)?;
                staged.commit().map_err(SandboxError::from)?
            }
            Err(OutputError::Damaged { path, digest, executable }) => {
                return Err(Stopped::Lost { what: format!("its output `{path}`"), digest, executable });
            }
            Err(error) => return Err(SandboxError::from(error).into()),
        }
    } else {
        show(stdout, stderr)?;
        Vec::new()
    };
    Ok(outputs)
}

/// Whether the store holds every output, for another task that has them as inputs.
fn held(store: &Store, known: &Known) -> Result<(), Stopped> {
    for output in &known.outputs {
        let Some(digest) = output.digest.as_ref().and_then(|digest| digest.parse().ok()) else { continue };
        if store.open_blob(&digest, output.executable).is_err() {
            let what = format!("its output `{}`", output.path);
            return Err(Stopped::Lost { what, digest, executable: output.executable });
        }
    }
    Ok(())
}

/// A stream's bytes, checked.
fn stream(store: &Store, digest: &Digest, what: &str) -> Result<File, Stopped> {
    let lost = || Stopped::Lost { what: what.to_owned(), digest: *digest, executable: false };
    store.open_checked(digest, false).ok_or_else(lost)
}

/// Writes both streams where those of a command go.
fn show(stdout: File, stderr: File) -> Result<(), SandboxError> {
    let (to_out, to_errors) = callers_streams().map_err(SandboxError::Streams)?;
    for (from, to) in [(stdout, to_out), (stderr, to_errors)] {
        carry(Relay::outward(from.into(), to).map_err(SandboxError::Streams)?)?;
    }
    Ok(())
}

fn carry(mut relay: Relay) -> Result<(), RelayError> {
    while let Some((fd, direction)) = relay.waiting_for() {
        let write = direction == Direction::Write;
        // It fails only for want of memory; the relay looks again before it acts.
        let _ = event::wait(&[Some((fd, Interest { read: !write, write }))], None);
        relay.advance()?;
    }
    Ok(())
}

/// A known result that the project or the caller's streams refuse: nothing of it came back.
fn failed(
    job: Job<'_>,
    known: &Known,
    (id, started): (String, SystemTime),
    error: SandboxError,
    clock: &mut Phases,
) -> Outcome {
    let message = Some(error.to_string());
    let mut record = Record {
        duration_us: clock.elapsed_us(),
        exit: Exit { code: error.exit_code(), signal: None, reason: "failed".to_owned(), error: message },
        cache: origin(known),
        ..blank(job, id, started)
    };
    let notes = prepare_record(job).into_iter().chain(write(job, &mut record, clock)).collect();
    Outcome { record, origin: None, notes, made: Vec::new(), failure: Some(error), reraise: None }
}

/// Where a replayed result comes from.
fn origin(known: &Known) -> record::Cache {
    record::Cache {
        state: record::Cache::HIT.to_owned(),
        reason: None,
        from: Some(known.run.clone()),
        from_project: Some(known.project.clone()),
        computed: Some(records::timestamp(computed(known))),
        saved_us: Some(u64::try_from(known.took.as_micros()).unwrap_or(u64::MAX)),
    }
}

fn computed(known: &Known) -> SystemTime {
    SystemTime::UNIX_EPOCH + known.began + known.took
}

fn outcome(
    job: Job<'_>,
    delivery: Delivery,
    known: &Known,
    (id, started): (String, SystemTime),
    outputs: Vec<Output>,
    clock: &mut Phases,
) -> Outcome {
    let age = Duration::from_secs(started.duration_since(computed(known)).unwrap_or_default().as_secs());
    let saved = Duration::from_millis(u64::try_from(known.took.as_millis()).unwrap_or(u64::MAX));
    let [age, saved] = [age, saved].map(|time| humantime::format_duration(time).to_string());
    let mut notes = vec![format!("cached, {age} old, {saved} saved")];
    let made = if delivery == Delivery::Store { made(&outputs) } else { Vec::new() };
    let of = |digest: &Digest| Stream { bytes: digest.size, sha256: digest.hex() };
    let mut record = Record {
        duration_us: clock.elapsed_us(),
        exit: Exit { code: known.exit_code, signal: None, reason: Exit::EXITED.to_owned(), error: None },
        stdout: of(&known.stdout),
        stderr: of(&known.stderr),
        outputs,
        cache: origin(known),
        ..blank(job, id, started)
    };
    notes.extend(prepare_record(job).into_iter().chain(write(job, &mut record, clock)));
    Outcome { record, origin: None, notes, made, failure: None, reraise: None }
}
