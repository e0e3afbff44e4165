//! From a prepared run to its outcome: replayed, or computed in a sandbox.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Instant, SystemTime};

use super::cache::{self, Uncached, Use};
use super::collected::{self, Collected};
use super::group::Living;
use super::launch::{self, Init, Origin};
use super::live::{self, Announcement};
use super::network::Network;
use super::phases::Phases;
use super::program::{Places, Program, Streams};
use super::refusal::Refusal;
use super::relay::{Copied, Relay};
use super::scratch::{self, Scratch};
use super::steps::Steps;
use super::supervise::{Carried, Inside, ROUTED, Remains, Supervisor};
use super::{Delivery, Job, News, Options, Outcome, Prepared, SandboxError, Stdin, Tell, outputs, pty, replay};
use crate::config::model::{self, ScratchKind};
use crate::inputs::{Entry, Node};
use crate::plan::Namespace;
use crate::pool::client::Asked;
use crate::record::{self, Output, Record};
use crate::store::records;
use crate::sys::event::Signals;
use crate::sys::{process, thread};

/// Runs what was prepared, or replays what it came to before.
///
/// What the user should know is told at once, between two lines of the command's.
///
/// # Errors
/// What keeps a sandbox from being tried at all; what comes later, the command's failure or sbx's own, is in the
/// outcome.
pub fn run(job: Job<'_>, options: Options, tell: Tell<'_>, clock: &mut Phases) -> Result<Outcome, SandboxError> {
    let Job { store, request, prepared } = job;
    if options.keep && request.settings.sandbox.scratch == ScratchKind::Memory {
        return Err(SandboxError::KeptMemory);
    }
    clock.phase("sweep");
    scratch::sweep(store.path());
    outputs::recover(&request.project_root, &store.project_dir(&request.project())?)?;
    let admission = cache::admit(&request.settings, &options);
    if admission.is_err() {
        return execute(job, options, admission, tell, clock);
    }
    if options.cache == Use::Refresh {
        look_through(job)?;
        return execute(job, options, admission, tell, clock);
    }
    if let Some(outcome) = replay::attempt(job, options.delivery, tell, clock)? {
        return Ok(outcome);
    }
    let lead = store.lead(&prepared.identity.action_digest, &mut || tell(&News::Waiting))?;
    // Whoever led until now may have kept a result since.
    if let Some(outcome) = replay::attempt(job, options.delivery, tell, clock)? {
        return Ok(outcome);
    }
    look_through(job)?;
    let outcome = execute(job, options, admission, tell, clock);
    // Held for as long as the action is computed.
    drop(lead);
    outcome
}

/// Looks through the layers that the command is about to see: what it comes to would be kept.
///
/// # Errors
/// [`SandboxError::DamagedLayer`] when one is damaged; prepared again, it is made again.
fn look_through(job: Job<'_>) -> Result<(), SandboxError> {
    let Job { store, prepared, .. } = job;
    match prepared.lower.iter().find(|layer| !store.layer_looks_whole(layer)) {
        None => Ok(()),
        Some(layer) => {
            store.doubt(layer)?;
            Err(SandboxError::DamagedLayer)
        }
    }
}

/// Runs what was prepared in a sandbox. `admission` says whether the result may be kept, if it comes to one.
fn execute(
    job: Job<'_>,
    mut options: Options,
    admission: Result<(), Uncached>,
    tell: Tell<'_>,
    clock: &mut Phases,
) -> Result<Outcome, SandboxError> {
    let Job { store, request, prepared } = job;
    clock.phase("launch");
    let started = SystemTime::now();
    let id = records::new_run_id(started);
    let mut network = Network::prepare(&request.settings.network)?;
    let group = prepared.plan.group.as_ref().map(|group| Living::make(group, &id)).transpose()?;
    let scratch = Scratch::make(store, &id, request.settings.sandbox.scratch)?;
    let asked = options.pool.take();
    let looked_up = admission.is_ok() && options.cache == Use::Normal;
    let copies = admission.is_ok();
    let launch = Launch { job, options: &options, id: &id, started, scratch: &scratch, group: group.as_ref(), copies };
    let began = Instant::now();
    let launched = begin(&launch, asked);
    let begun = launched.is_ok();
    let mut program = None;
    let (mut root, mut upper) = (None, None);
    let mut untold = None;
    let (origin, supervised) = match launched {
        Ok((launched, given)) => {
            clock.phase("command");
            program = Some(given);
            let mut meanwhile = |inside: Inside| {
                // Where nothing is taken from it PID 1 unmounts it at its end, and not we after that.
                root = Some(inside.root).filter(|_| collected::looks_for_outputs(&request.settings));
                upper = Some(inside.upper);
                // Not before: PID 1 makes directories on the same disk.
                remove_left(job);
                untold = Some(prepare_record(job));
            };
            (launched.origin, supervise(launched, prepared, &mut network, tell, &mut meanwhile))
        }
        Err(error) if prepared.plan.namespaces.contains(&Namespace::Net) => (Origin::Fresh(None), Err(error)),
        Err(error) => (Origin::Host, Err(error)),
    };
    let took = began.elapsed();
    let traffic = network.stop(tell);
    let held = group.as_ref().map(Living::end);
    let mut run = Collected::of(supervised, [root, upper], prepared, held);
    if !begun {
        run.enforced.clear();
    }
    let mut keepable = admission.and_then(|()| run.judge(&request.settings));
    let keeping = if keepable.is_ok() { store.keeping() } else { None };
    if run.failure.is_none() && run.exit.code == 0 {
        clock.phase("outputs");
        let wanted = keepable.is_ok() || options.delivery == Delivery::Store;
        match collected::bring_back(&launch, &mut run, wanted) {
            Ok(Ok(())) => {}
            Ok(Err(error)) if options.delivery == Delivery::Store => run.fail(SandboxError::Unkept(error)),
            Ok(Err(error)) => keepable = Err(Uncached::Store(error)),
            Err(error) => run.fail(error),
        }
    }
    clock.phase("changes");
    if let Some(upper) = &run.upper {
        match collected::undeclared(request, prepared, upper) {
            Ok(changes) => run.undeclared = changes,
            Err(error) => run.fail(error),
        }
    }
    clock.phase("cache");
    if run.failure.is_some() {
        keepable = keepable.and(Err(Uncached::Failed));
    }
    let keepable = keepable.and_then(|()| cache::keep(job, &mut run, &id, (started, took)));
    drop(keeping);
    clock.phase("teardown");
    let may_stay = !options.keep && store.left().has_room() && scratch.is_little().unwrap_or(false);
    (run.root, run.upper) = (None, None);
    let mut notes = run.notes();
    let kept = options.keep.then(|| scratch.keep()).transpose()?;
    notes.extend(kept.as_ref().map(|path| format!("the scratch directory is kept: {}", path.display())));
    if let Some(reason) = keepable.as_ref().err().filter(|reason| reason.is_trouble()) {
        notes.push(format!("warning: the result is not kept: {reason}"));
    }
    let made = if options.delivery == Delivery::Store { made(&run.outputs) } else { Vec::new() };
    let (failure, reraise) = (run.failure.take(), run.reraise);
    let usage = run.wait();
    let mut record = Record {
        duration_us: clock.elapsed_us(),
        exit: run.exit,
        net_namespace: origin.word().to_owned(),
        connections: traffic.connections,
        connections_omitted: traffic.connections_omitted,
        blocked: traffic.blocked,
        blocked_omitted: traffic.blocked_omitted,
        limit: run.hit.map(record::Limit::from),
        usage,
        stdout: run.stdout,
        stderr: run.stderr,
        outputs: run.outputs,
        undeclared: run.undeclared,
        enforced: run.enforced,
        steps: program
            .and_then(|program| program.steps)
            .map(|steps| steps.read(&prepared.plan, clock))
            .unwrap_or_default(),
        kept: kept.map(|path| path.display().to_string()),
        cache: record::Cache {
            state: if looked_up { record::Cache::MISS } else { record::Cache::OFF }.to_owned(),
            reason: keepable.err().map(|reason| reason.to_string()),
            ..record::Cache::default()
        },
        ..blank(job, id.clone(), started)
    };
    notes.extend(untold.unwrap_or_else(|| prepare_record(job)));
    notes.extend(write(job, &mut record, clock));
    clock.phase("clean-up");
    if !options.keep {
        let cleaned = if may_stay { scratch.leave(&store.left()) } else { scratch.remove() };
        // The run is over and stands; the next one sweeps again.
        notes.extend(cleaned.err().map(|error| warning(&error)));
    }
    record.phases = clock.finish();
    Ok(Outcome { record, origin: Some(origin), notes, made, failure, reraise })
}

/// Makes room for the run's record, and keeps the messages that its action stands for. A note if they can't be kept: the
/// run stands without them.
pub(super) fn prepare_record(job: Job<'_>) -> Option<String> {
    let Job { store, request, prepared } = job;
    records::make_room(store.path(), request.project().as_str());
    cache::keep_messages(store, prepared).err().map(|error| warning(&error))
}

/// Begins to remove what earlier runs left. Nobody waits for it: what is still there when sbx ends is left to the next run, as
/// all of it is where there can be no thread.
fn remove_left(job: Job<'_>) {
    if let Some(mut left) = job.store.left().take() {
        let _ = thread::spawn("sbx-left", move || {
            process::yield_to_all();
            left.spare(scratch::renew);
            left.remove();
        });
    }
}

fn warning(error: &dyn std::error::Error) -> String {
    let cause = error.source().map(|source| format!(": {source}")).unwrap_or_default();
    format!("warning: {error}{cause}")
}

/// What a task made, as inputs of another.
pub(super) fn made(outputs: &[Output]) -> Vec<Entry> {
    let node = |output: &Output| match (&output.digest, &output.target) {
        (Some(digest), _) => Node::File { digest: digest.parse().expect("a digest"), executable: output.executable },
        (None, Some(target)) => Node::Symlink { target: target.clone() },
        (None, None) => Node::EmptyDirectory,
    };
    outputs.iter().map(|output| Entry { path: output.path.clone(), node: node(output) }).collect()
}

/// The record of a run that has come to nothing yet.
pub(super) fn blank(job: Job<'_>, id: String, started: SystemTime) -> Record {
    let Job { request, prepared, .. } = job;
    Record {
        id,
        project: request.project_root.display().to_string(),
        task: request.task.clone(),
        needed_by: request.needed_by.clone(),
        command: request.argv.clone(),
        cwd: prepared.plan.directory.as_str().to_owned(),
        action: prepared.identity.action_digest.to_string(),
        input_root: prepared.input_root.to_string(),
        inputs: prepared.manifest.entries.len() as u64,
        enforced: prepared.plan.isolation(),
        network: match request.settings.network {
            model::Network::None => "none",
            model::Network::Rules(_) => "rules",
            model::Network::Host => "host",
        }
        .to_owned(),
        scratch: request.settings.scratch.iter().map(|scratch| scratch.name.clone()).collect(),
        ..Record::begun(records::timestamp(started))
    }
}

/// Keeps the record, which says how long everything before took, and afterwards how long this took too. A note if that fails:
/// the run is over and stands without it.
pub(super) fn write(job: Job<'_>, record: &mut Record, clock: &mut Phases) -> Option<String> {
    record.phases = clock.finish();
    clock.phase("record");
    let written = records::write(job.store.path(), job.request.project().as_str(), record);
    record.phases = clock.finish();
    written.err().map(|error| warning(&error))
}

/// What a launch is made of.
pub(super) struct Launch<'a> {
    pub(super) job: Job<'a>,
    pub(super) options: &'a Options,
    pub(super) id: &'a str,
    started: SystemTime,
    pub(super) scratch: &'a Scratch,
    group: Option<&'a Living>,
    /// Whether what the command prints is kept.
    copies: bool,
}

/// A sandbox that has begun, and what it takes to stay with it.
#[derive(Debug)]
struct Launched {
    init: Init,
    origin: Origin,
    carried: Option<Carried>,
    signals: Signals,
}

/// Makes the sandbox. What PID 1 was given comes back too.
fn begin(launch: &Launch<'_>, asked: Option<Asked>) -> Result<(Launched, Program), SandboxError> {
    let Launch { job: Job { store, prepared, .. }, options, scratch, .. } = launch;
    let relative = scratch.relative();
    let places = Places { store: store.path(), scratch: &relative, lower: &prepared.lower };
    let (streams, mut carried) = streams(options.stdin, options.delivery).map_err(SandboxError::Streams)?;
    if let Some(Carried { stdout, stderr: Some(stderr), .. }) = carried.as_mut().filter(|_| launch.copies) {
        let directory = store.temp_dir()?;
        stdout.keep_copy(Copied::new(&directory));
        stderr.keep_copy(Copied::new(&directory));
    }
    let mut program = Program::new(&prepared.plan, &places, streams).map_err(SandboxError::Streams)?;
    program.group = launch.group.map(Living::entry).transpose()?;
    program.steps =
        options.steps.then(|| Steps::of(&prepared.plan, program.zero)).transpose().map_err(SandboxError::Kernel)?;
    let signals = Signals::route(&ROUTED).map_err(SandboxError::Kernel)?;
    process::drop_groups().map_err(SandboxError::Kernel)?;
    let (init, origin) = launch::launch(&program, asked).map_err(Refusal::of_launch)?;
    if let Some(pid) = init.pid() {
        announce(launch, pid);
    }
    program.close();
    Ok((Launched { init, origin, carried, signals }, program))
}

/// Stays with the sandbox until it is over.
fn supervise(
    launched: Launched,
    prepared: &Prepared,
    network: &mut Network,
    tell: Tell<'_>,
    begins: &mut dyn FnMut(Inside),
) -> Result<Remains, SandboxError> {
    let Launched { init, carried, signals, .. } = launched;
    let mut terminal = pty::Outer::default();
    Supervisor::new(init, &signals, carried, prepared.plan.time_limit).run(&mut terminal, network, tell, begins)
}

/// Tells `sbx ps` and the others, while PID 1 is busy with its steps.
fn announce(launch: &Launch<'_>, init: i32) {
    let Job { request, prepared, .. } = launch.job;
    let plan = &prepared.plan;
    let announcement = Announcement {
        id: launch.id,
        project: &request.project_root,
        task: request.task.as_deref(),
        command: &plan.argv,
        cwd: plan.directory.as_str(),
        started: &records::timestamp(launch.started),
        init,
        limits: plan.limits(),
        calls: plan.calls(),
        landlock: plan.landlock(),
        groups: launch.group.map(Living::paths).unwrap_or_default(),
    };
    live::announce(launch.scratch, announcement);
}

/// The command's ends of its streams, and the relays that carry them.
pub(super) fn streams(stdin: Stdin, delivery: Delivery) -> io::Result<(Streams, Option<Carried>)> {
    if stdin == Stdin::Terminal {
        return Ok((Streams::Terminal, None));
    }
    let (from_out, stdout) = io::pipe()?;
    let (from_err, stderr) = io::pipe()?;
    let (stdin, relay) = match stdin {
        Stdin::Relay => {
            let (stdin, to_in) = io::pipe()?;
            (Some(stdin.into()), Some(Relay::inward(io::stdin().as_fd().try_clone_to_owned()?, to_in.into())?))
        }
        _ => (None, None),
    };
    let (out, errors) = callers_streams()?;
    let out = if delivery == Delivery::Store { errors.try_clone()? } else { out };
    let carried = Carried {
        stdin: relay,
        stdout: Relay::outward(from_out.into(), out)?,
        stderr: Some(Relay::outward(from_err.into(), errors)?),
    };
    Ok((Streams::Pipes { stdin, stdout: stdout.into(), stderr: stderr.into() }, Some(carried)))
}

/// The caller's standard output and standard error.
pub(super) fn callers_streams() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok((io::stdout().as_fd().try_clone_to_owned()?, io::stderr().as_fd().try_clone_to_owned()?))
}
