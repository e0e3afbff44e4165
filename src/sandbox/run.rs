//! From a prepared run to its outcome.

use std::error::Error as _;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::SystemTime;

use super::changes::{self, Request as ChangesRequest};
use super::launch::{self, Init, Origin};
use super::live::{self, Announcement};
use super::message::List;
use super::network::{Network, Tell};
use super::outputs::{self, Request as OutputsRequest};
use super::phases::Phases;
use super::program::{Places, Program, Streams};
use super::refusal::Refusal;
use super::relay::Relay;
use super::scratch::{self, Scratch};
use super::supervise::{Carried, End, ROUTED, Remains, Supervisor};
use super::{Options, Outcome, Prepared, Request, SandboxError, Stdin, pty};
use crate::config::model::{self, ScratchKind};
use crate::path::GuestPath;
use crate::plan::step::Step;
use crate::plan::{Namespace, Plan, env};
use crate::pool::client::Asked;
use crate::record::{self, Changes, Exit, Output, Record};
use crate::store::{Store, records};
use crate::sys::clone::Ended;
use crate::sys::errno::{CallError, Errno};
use crate::sys::event::{Signals, signal};
use crate::sys::process;

/// Runs what was prepared.
///
/// What the network's relay has to say is told at once, between two lines of the command's.
///
/// # Errors
/// What keeps a sandbox from being tried at all; what comes later, the command's failure or sbx's own, is in the
/// outcome.
pub fn execute(
    store: &Store,
    request: &Request,
    prepared: &Prepared,
    mut options: Options,
    tell: Tell<'_>,
    clock: &mut Phases,
) -> Result<Outcome, SandboxError> {
    if options.keep && request.settings.sandbox.scratch == ScratchKind::Memory {
        return Err(SandboxError::KeptMemory);
    }
    clock.phase("sweep");
    let project = request.project();
    let journals = store.project_dir(&project)?;
    scratch::sweep(store.path());
    outputs::recover(&request.project_root, &journals)?;

    clock.phase("launch");
    let started = SystemTime::now();
    let id = records::new_run_id(started);
    let mut network = Network::prepare(&request.settings.network)?;
    let scratch = Scratch::make(store.path(), &id)?;
    let asked = options.pool.take();
    let launch = Launch { store, request, prepared, options: &options, id: &id, started, scratch: &scratch };
    let (origin, supervised) = match begin(&launch, asked) {
        Ok(launched) => {
            clock.phase("command");
            (launched.origin, supervise(launched, prepared, &mut network, tell))
        }
        Err(error) if prepared.plan.namespaces.contains(&Namespace::Net) => (Origin::Fresh(None), Err(error)),
        Err(error) => (Origin::Host, Err(error)),
    };
    let traffic = network.stop(tell);
    let mut run = Collected::of(supervised, prepared);
    if run.failure.is_none() && run.exit.code == 0 {
        clock.phase("outputs");
        match bring_back(store, request, &run, &id) {
            Ok(outputs) => run.outputs = outputs,
            Err(error) => run.fail(error),
        }
    }
    clock.phase("changes");
    if let Some(upper) = &run.upper {
        match undeclared(request, prepared, upper) {
            Ok(changes) => run.undeclared = changes,
            Err(error) => run.fail(error),
        }
    }
    clock.phase("clean-up");
    (run.root, run.upper) = (None, None);
    let mut notes = run.notes();
    let mut kept = None;
    if options.keep {
        let path = scratch.keep()?;
        notes.push(format!("the scratch directory is kept: {}", path.display()));
        kept = Some(path);
    } else if let Err(error) = scratch.remove() {
        // The run is over and stands; the next one sweeps again.
        notes.push(format!("warning: {error}: {}", error.source().map(ToString::to_string).unwrap_or_default()));
    }
    clock.phase("record");
    let record = Record {
        version: record::VERSION,
        id,
        project: request.project_root.display().to_string(),
        task: request.task.clone(),
        needed_by: None,
        command: request.argv.clone(),
        cwd: prepared.plan.directory.as_str().to_owned(),
        started: records::timestamp(started),
        duration_us: clock.elapsed_us(),
        exit: run.exit,
        action: prepared.action.to_string(),
        input_root: prepared.input_root.to_string(),
        inputs: prepared.manifest.entries.len() as u64,
        enforced: prepared.plan.isolation(),
        network: match request.settings.network {
            model::Network::None => "none",
            model::Network::Rules(_) => "rules",
            model::Network::Host => "host",
        }
        .to_owned(),
        net_namespace: origin.word().to_owned(),
        connections: traffic.connections,
        connections_omitted: traffic.connections_omitted,
        blocked: traffic.blocked,
        blocked_omitted: traffic.blocked_omitted,
        scratch: request.settings.scratch.iter().map(|scratch| scratch.name.clone()).collect(),
        stdout: run.stdout,
        stderr: run.stderr,
        outputs: run.outputs,
        undeclared: run.undeclared,
        phases: clock.finish(),
        kept: kept.map(|path| path.display().to_string()),
        cache: record::Cache::default(),
    };
    records::write(store.path(), project.as_str(), &record)?;
    Ok(Outcome { record, origin, notes, failure: run.failure, reraise: run.reraise })
}

/// What a launch is made of.
struct Launch<'a> {
    store: &'a Store,
    request: &'a Request,
    prepared: &'a Prepared,
    options: &'a Options,
    id: &'a str,
    started: SystemTime,
    scratch: &'a Scratch,
}

/// A sandbox that has begun, and what it takes to stay with it.
#[derive(Debug)]
struct Launched {
    init: Init,
    origin: Origin,
    carried: Option<Carried>,
    signals: Signals,
}

/// Makes the sandbox.
fn begin(launch: &Launch<'_>, asked: Option<Asked>) -> Result<Launched, SandboxError> {
    let Launch { store, prepared, options, scratch, .. } = launch;
    let relative = scratch.relative();
    let places = Places { store: store.path(), scratch: &relative, lower: &prepared.lower };
    let (streams, carried) = streams(options.stdin).map_err(SandboxError::Streams)?;
    let program = Program::new(&prepared.plan, &places, streams).map_err(SandboxError::Streams)?;
    let signals = Signals::route(&ROUTED).map_err(SandboxError::Kernel)?;
    process::drop_groups().map_err(SandboxError::Kernel)?;
    let (init, origin) = launch::launch(&program, asked).map_err(Refusal::of_launch)?;
    if let Some(pid) = init.pid() {
        announce(launch, pid);
    }
    // Our copies of the command's ends, which go with the program, must not stay, or the streams would never end.
    Ok(Launched { init, origin, carried, signals })
}

/// Stays with the sandbox until it is over.
fn supervise(
    launched: Launched,
    prepared: &Prepared,
    network: &mut Network,
    tell: Tell<'_>,
) -> Result<Remains, SandboxError> {
    let Launched { init, carried, signals, .. } = launched;
    let mut terminal = pty::Outer::default();
    Supervisor::new(init, &signals, carried, prepared.plan.time_limit).run(&mut terminal, network, tell)
}

/// Tells `sbx ps` and the others, while PID 1 is busy with its steps.
fn announce(launch: &Launch<'_>, init: i32) {
    let plan = &launch.prepared.plan;
    let announcement = Announcement {
        id: launch.id,
        project: &launch.request.project_root,
        task: launch.request.task.as_deref(),
        command: &plan.argv,
        cwd: plan.directory.as_str(),
        started: &records::timestamp(launch.started),
        init,
        limits: plan.limits(),
    };
    live::announce(&launch.scratch.path(), announcement);
}

/// The command's ends of its streams, and the relays that carry them.
pub(super) fn streams(stdin: Stdin) -> io::Result<(Streams, Option<Carried>)> {
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
    let carried = Carried {
        stdin: relay,
        stdout: Relay::outward(from_out.into(), io::stdout().as_fd().try_clone_to_owned()?)?,
        stderr: Some(Relay::outward(from_err.into(), io::stderr().as_fd().try_clone_to_owned()?)?),
    };
    Ok((Streams::Pipes { stdin, stdout: stdout.into(), stderr: stderr.into() }, Some(carried)))
}

/// What a run amounts to so far.
#[derive(Debug)]
struct Collected {
    exit: Exit,
    failure: Option<SandboxError>,
    reraise: Option<i32>,
    root: Option<OwnedFd>,
    upper: Option<OwnedFd>,
    stdout: record::Stream,
    stderr: record::Stream,
    outputs: Vec<Output>,
    undeclared: Changes,
    over_time: Option<std::time::Duration>,
}

impl Collected {
    fn of(supervised: Result<Remains, SandboxError>, prepared: &Prepared) -> Self {
        let mut this = Self {
            exit: Exit { code: 125, signal: None, reason: "failed".into(), error: None },
            failure: None,
            reraise: None,
            root: None,
            upper: None,
            stdout: record::Stream::default(),
            stderr: record::Stream::default(),
            outputs: Vec::new(),
            undeclared: Changes::default(),
            over_time: None,
        };
        let remains = match supervised {
            Ok(remains) => remains,
            Err(error) => {
                this.fail(error);
                return this;
            }
        };
        match remains.end {
            End::Command(status) => match status.decode() {
                Ended::Exited(code) => this.ended(code, None, "exited"),
                Ended::Signalled(number) => {
                    this.ended(128 + number, Some(number), "signalled");
                    // An interrupt that ended the command ends sbx the same way, so that a shell's loop stops too.
                    this.reraise = (number == signal::INT && remains.interrupted).then_some(number);
                }
            },
            End::TimeLimit => {
                this.ended(124, None, "time-limit");
                this.over_time = prepared.plan.time_limit;
            }
            End::Abandoned { signal: number } => {
                this.ended(128 + number, Some(number), "signalled");
                this.reraise = (number == signal::INT).then_some(number);
            }
            End::Failed { list, step, error } => this.fail(failed_step(&prepared.plan, list, step, error)),
            End::Vanished => this.fail(SandboxError::Vanished),
        }
        (this.root, this.upper) = (remains.root, remains.upper);
        (this.stdout, this.stderr) = (remains.stdout, remains.stderr);
        this
    }

    fn ended(&mut self, code: i32, signal: Option<i32>, reason: &str) {
        self.exit = Exit { code, signal, reason: reason.to_owned(), error: None };
    }

    /// The first failure stands.
    fn fail(&mut self, error: SandboxError) {
        if self.failure.is_some() {
            return;
        }
        let code = error.exit_code();
        let reason = match code {
            127 => "not-found",
            126 => "not-executable",
            _ => "failed",
        };
        self.exit = Exit { code, signal: None, reason: reason.into(), error: Some(error.to_string()) };
        self.failure = Some(error);
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(limit) = self.over_time {
            notes.push(format!("killed: time limit {}", humantime::format_duration(limit)));
        }
        let dropped = self.undeclared.count();
        if dropped > 0 {
            let s = if dropped == 1 { "" } else { "s" };
            notes.push(format!("{dropped} undeclared write{s} dropped (`sbx diff` lists them)"));
        }
        notes
    }
}

/// The words for a step of `plan` that failed inside.
pub(super) fn failed_step(plan: &Plan, list: List, step: u16, error: CallError) -> SandboxError {
    let steps = if list == List::Setup { &plan.setup } else { &plan.start };
    let program = plan.argv[0].clone();
    match steps.get(usize::from(step)) {
        Some(Step::Execute) if matches!(error.errno, Errno::ENOENT | Errno::ENOTDIR) => {
            let path = if program.contains('/') { &program } else { plan.environment.get("PATH").unwrap_or(&program) };
            SandboxError::NotFound { path: path.clone(), program }
        }
        Some(Step::Execute) => SandboxError::NotExecutable { program, errno: error.errno },
        Some(step) => Refusal::of_step(step, error).into(),
        None => SandboxError::Kernel(error),
    }
}

fn bring_back(store: &Store, request: &Request, run: &Collected, id: &str) -> Result<Vec<Output>, SandboxError> {
    let (Some(root), Some(upper)) = (&run.root, &run.upper) else { return Ok(Vec::new()) };
    if request.settings.outputs.is_empty() {
        return Ok(Vec::new());
    }
    let project = request.project();
    let last =
        records::last(store.path(), project.as_str(), |record| record.exit.code == 0 && record.task == request.task)?
            .record;
    let protected = request.config_path.strip_prefix(&request.project_root).ok().and_then(|path| path.to_str());
    let staged = outputs::stage(&OutputsRequest {
        merged: root.as_fd(),
        upper: upper.as_fd(),
        workdir: &request.settings.sandbox.workdir,
        patterns: &request.settings.outputs,
        project: &request.project_root,
        protected,
        run_id: id,
        journals: &store.project_dir(&project)?,
        last: last.as_ref().map_or(&[], |record| record.outputs.as_slice()),
    })?;
    Ok(staged.commit()?)
}

fn undeclared(request: &Request, prepared: &Prepared, upper: &OwnedFd) -> Result<Changes, SandboxError> {
    let settings = &request.settings;
    let workdir = &settings.sandbox.workdir;
    let existed = |path: &str| {
        let Ok(path) = GuestPath::new(path) else { return false };
        let below = path.as_str().strip_prefix(workdir.as_str()).and_then(|below| below.strip_prefix('/'));
        below.is_some_and(|below| prepared.manifest.has(below))
            || prepared.below_root.iter().any(|manifest| manifest.has(path.relative()))
    };
    // What every command may fill; but the project is never ignored, wherever it stands.
    let own = ["/tmp", "/dev", "/proc", env::home(settings.sandbox.uid)];
    let ignored: Vec<_> = own
        .map(|path| GuestPath::new(path).expect("a constant path"))
        .into_iter()
        .filter(|path| !workdir.is_within(path))
        .collect();
    Ok(changes::changes(&ChangesRequest {
        upper: upper.as_fd(),
        existed: &existed,
        inputs: &prepared.manifest,
        workdir,
        outputs: &settings.outputs,
        ignored: &ignored,
    })?)
}
