//! What is left of a sandbox when its command is over, and where it goes.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::cache::{self, Uncached};
use super::changes::{self, Request as ChangesRequest};
use super::group::{self, Held, Hit};
use super::launch::Init;
use super::message::List;
use super::outputs::{self, Finished};
use super::refusal::Refusal;
use super::relay::Copied;
use super::run::{Launch, made};
use super::supervise::{End, Remains};
use super::{Delivery, Job, Prepared, Request, SandboxError};
use crate::config::model::Settings;
use crate::inputs::{self, Manifest};
use crate::path::GuestPath;
use crate::plan::step::Step;
use crate::plan::{Plan, env};
use crate::record::{self, Changes, Exit, Output, Record};
use crate::store::{PutError, Store, records};
use crate::sys::clone::Ended;
use crate::sys::errno::{CallError, Errno};
use crate::sys::event::signal;

/// What a run amounts to so far.
#[derive(Debug)]
pub(super) struct Collected {
    pub(super) exit: Exit,
    pub(super) failure: Option<SandboxError>,
    pub(super) reraise: Option<i32>,
    pub(super) root: Option<OwnedFd>,
    pub(super) upper: Option<OwnedFd>,
    pub(super) stdout: record::Stream,
    pub(super) stderr: record::Stream,
    pub(super) copies: Option<(Copied, Copied)>,
    pub(super) disturbed: bool,
    pub(super) outputs: Vec<Output>,
    /// Paths that the patterns select and the command left as they were.
    pub(super) unchanged: Vec<String>,
    pub(super) undeclared: Changes,
    /// What was isolated, as far as is known.
    pub(super) enforced: Vec<String>,
    over_time: Option<Duration>,
    /// The limit that it met.
    pub(super) hit: Option<Hit>,
    /// PID 1, which may still be at its end.
    init: Option<Init>,
    held: Option<Held>,
}

impl Collected {
    /// `root` and `upper` are what is held of its root and its upper layer.
    pub(super) fn of(
        supervised: Result<Remains, SandboxError>,
        [root, upper]: [Option<OwnedFd>; 2],
        prepared: &Prepared,
        held: Option<Held>,
    ) -> Self {
        let mut this = Self {
            exit: Exit { code: 125, signal: None, reason: "failed".into(), error: None },
            failure: None,
            reraise: None,
            root: None,
            upper: None,
            stdout: record::Stream::default(),
            stderr: record::Stream::default(),
            copies: None,
            disturbed: false,
            outputs: Vec::new(),
            unchanged: Vec::new(),
            undeclared: Changes::default(),
            enforced: prepared.plan.isolation_after(0),
            over_time: None,
            hit: held.and_then(|held| held.hit),
            init: None,
            held,
        };
        let remains = match supervised {
            Ok(remains) => remains,
            Err(error) => {
                this.fail(error);
                return this;
            }
        };
        this.enforced = prepared.plan.isolation_after(steps_done(&prepared.plan, &remains));
        match remains.end {
            // Whoever of the sandbox's processes was chosen: what the rest came to means nothing. PID 1 may be among them.
            End::Command(_) | End::Vanished | End::Failed { .. } if matches!(this.hit, Some(Hit::Memory(_))) => {
                this.ended(128 + signal::KILL, Some(signal::KILL), Exit::MEMORY_LIMIT);
            }
            End::Command(status) => match status.decode() {
                Ended::Exited(code) => this.ended(code, None, Exit::EXITED),
                Ended::Signalled(number) => {
                    this.ended(128 + number, Some(number), Exit::SIGNALLED);
                    // An interrupt that ended the command ends sbx the same way, so that a shell's loop stops too.
                    this.reraise = (number == signal::INT && remains.interrupted).then_some(number);
                }
            },
            End::TimeLimit => {
                this.ended(124, None, Exit::TIME_LIMIT);
                this.over_time = prepared.plan.time_limit;
            }
            End::Abandoned { signal: number } => {
                this.ended(128 + number, Some(number), Exit::SIGNALLED);
                this.reraise = (number == signal::INT).then_some(number);
            }
            End::Failed { list, step, error } => this.fail(failed_step(&prepared.plan, list, step, error)),
            End::Vanished => this.fail(SandboxError::Vanished),
        }
        (this.root, this.upper) = (root, upper);
        (this.stdout, this.stderr, this.copies) = (remains.stdout, remains.stderr, remains.copies);
        this.disturbed = remains.disturbed;
        this.init = Some(remains.init);
        this
    }

    fn ended(&mut self, code: i32, signal: Option<i32>, reason: &str) {
        self.exit = Exit { code, signal, reason: reason.to_owned(), error: None };
    }

    /// The first failure stands.
    pub(super) fn fail(&mut self, error: SandboxError) {
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

    /// Whether what it came to may be kept.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn judge(&self, settings: &Settings) -> Result<(), Uncached> {
        if let Some(hit) = self.hit {
            return Err(Uncached::Limit(hit));
        }
        if self.disturbed {
            return Err(Uncached::Disturbed);
        }
        cache::judge(settings, &self.exit)
    }

    /// Waits until the last process is gone; what all of them have used.
    pub(super) fn wait(&mut self) -> Option<record::Usage> {
        group::usage(self.held, self.init.as_mut()?.wait())
    }

    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        // One limit is enough to be killed by.
        match self.over_time {
            Some(limit) => notes.push(format!("killed: time limit {}", humantime::format_duration(limit))),
            None => notes.extend(self.hit.map(|hit| hit.to_string())),
        }
        let dropped = self.undeclared.count();
        if dropped > 0 {
            let s = if dropped == 1 { "" } else { "s" };
            notes.push(format!("{dropped} undeclared write{s} dropped (`sbx diff` lists them)"));
        }
        notes
    }
}

/// How many of the steps are known to have succeeded. It is ready when those of PID 1 have.
fn steps_done(plan: &Plan, remains: &Remains) -> usize {
    let setup = plan.setup.len();
    match remains.end {
        End::Failed { list: List::Setup, step, .. } => usize::from(step),
        End::Failed { list: List::Start, step, .. } => setup + usize::from(step),
        End::Command(_) => setup + plan.start.len(),
        _ if !remains.ready => 0,
        End::TimeLimit | End::Abandoned { .. } => setup + plan.start.len(),
        End::Vanished => setup,
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

/// Whether a run with these settings has outputs, or is held to have none.
pub(super) fn looks_for_outputs(settings: &Settings) -> bool {
    !settings.outputs.is_empty() || settings.outputs_sha256.is_some()
}

/// Brings the declared outputs to where they are wanted. With `keep` their contents go into the store too; whether that
/// went well is the answer.
///
/// # Errors
/// When the outputs are not what was declared, or can't be brought there; nothing has come back then.
pub(super) fn bring_back(
    launch: &Launch<'_>,
    run: &mut Collected,
    keep: bool,
) -> Result<Result<(), PutError>, SandboxError> {
    let Job { store, request, .. } = launch.job;
    let (Some(root), Some(upper)) = (&run.root, &run.upper) else { return Ok(Ok(())) };
    let (merged, upper, workdir) = (root.as_fd(), upper.as_fd(), &request.settings.sandbox.workdir);
    let place = launch.scratch.path();
    let destination = match launch.options.delivery {
        Delivery::Project => Destination::of(store, request)?,
        // They wait in the scratch directory, and go with it.
        Delivery::Store => Destination { place: &place, last: Vec::new(), ..Destination::of(store, request)? },
    };
    let staged = outputs::stage(&destination.request(request, launch.id), &Finished { merged, upper, workdir })?;
    check_pin(&request.settings, &staged.outputs())?;
    run.unchanged = staged.unchanged();
    let kept = if keep { staged.store(store) } else { Ok(()) };
    run.outputs = match launch.options.delivery {
        Delivery::Project => staged.commit()?,
        Delivery::Store => staged.outputs(),
    };
    Ok(kept)
}

/// Where the outputs of a run go.
pub(super) struct Destination<'a> {
    place: &'a Path,
    journals: PathBuf,
    protected: Option<&'a str>,
    last: Vec<Output>,
}

impl<'a> Destination<'a> {
    /// The project that `request` is of.
    ///
    /// # Errors
    /// When the store can't be used.
    pub(super) fn of(store: &Store, request: &'a Request) -> Result<Self, SandboxError> {
        let project = request.project();
        let is_wanted =
            |record: &Record| record.exit.code == 0 && record.task == request.task && record.needed_by.is_none();
        let last = if request.settings.outputs.is_empty() {
            None
        } else {
            records::last(store.path(), project.as_str(), is_wanted)?.record
        };
        Ok(Self {
            place: &request.project_root,
            journals: store.project_dir(&project)?,
            protected: request.config_path.strip_prefix(&request.project_root).ok().and_then(|path| path.to_str()),
            last: last.map(|record| record.outputs).unwrap_or_default(),
        })
    }

    /// What is asked for by the run with this id.
    pub(super) fn request(&'a self, request: &'a Request, run_id: &'a str) -> outputs::Request<'a> {
        outputs::Request {
            patterns: &request.settings.outputs,
            project: self.place,
            protected: self.protected,
            run_id,
            journals: &self.journals,
            last: &self.last,
        }
    }
}

/// Holds the outputs against the digest that the settings pin them to.
///
/// # Errors
/// When they are others.
pub(super) fn check_pin(settings: &Settings, outputs: &[Output]) -> Result<(), SandboxError> {
    let Some(expected) = &settings.outputs_sha256 else { return Ok(()) };
    let mut entries = made(outputs);
    entries.sort_by(|one, other| inputs::path_order(&one.path, &other.path));
    let found = Manifest { entries }.root_digest().hex();
    if found == *expected { Ok(()) } else { Err(SandboxError::Pin { expected: expected.clone(), found }) }
}

pub(super) fn undeclared(request: &Request, prepared: &Prepared, upper: &OwnedFd) -> Result<Changes, SandboxError> {
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
