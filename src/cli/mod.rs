//! The command line: what was typed ([`args`]), what it means here ([`resolve`]), and one thin module per command.

pub mod args;
mod bench;
mod cache;
mod check;
mod diff;
mod doctor;
mod enter;
mod generate;
mod hash;
pub mod init;
mod init_command;
mod needs;
mod network;
mod ns;
mod output;
mod plan;
mod pool;
mod ps;
pub mod reference;
mod report;
pub mod resolve;
mod run;
pub mod usage;
mod why;

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use indicatif::BinaryBytes;

use args::{Arguments, Command, Global};
use needs::Fed;
use resolve::{Environment, Subject};

use crate::config::ConfigError;
use crate::config::discover::{self, DiscoverError, Project};
use crate::config::model::Config;
use crate::config::user::{self, User};
use crate::error::{Error, exit};
use crate::inputs::Entry;
use crate::pool::client::Asked;
use crate::pool::place::Place;
use crate::sandbox::cache::Use;
use crate::sandbox::phases::Phases;
use crate::sandbox::{self, Delivery, Job, News, Options, Outcome, Prepared, Request, SandboxError, Stdin};
use crate::store::Store;
use crate::sys::caller;
use crate::ui::{self, Ui, Verbosity};

/// How sbx ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// With this exit code.
    Code(u8),
    /// By this signal, as the command did.
    Signal(i32),
}

/// How a command line wants something to be run.
#[derive(Debug, Clone, Copy)]
struct How {
    stdin: Stdin,
    keep: bool,
    /// Whether the steps inside are timed.
    steps: bool,
    /// Whether the pool is asked for the net namespace.
    pool: bool,
    cache: Use,
}

/// What every command can use.
struct Context {
    global: Global,
    environment: Environment,
    user: User,
    ui: Ui,
    clock: Phases,
}

/// Runs the command line of this process to its end, which is its exit code.
pub fn main() -> u8 {
    caller::open_streams();
    caller::survive_what_writes_meet();
    let mut clock = Phases::new();
    clock.phase("arguments");
    let environment = Environment::of_this_process();
    // Until the command line is understood, only the variables speak of colour; a wrong one is told then.
    let colour = environment.colour(None, None).unwrap_or(ui::Colour::Never);
    let ui = Ui::new(Verbosity::Normal, colour, environment.is_dumb());
    report_panics(ui);
    if caller::is_setid() {
        return fail(&ui, &Error::SetId);
    }
    let line: Vec<OsString> = std::env::args_os().collect();
    let arguments = match Arguments::parse_from_words(&line) {
        Ok(arguments) => arguments,
        Err(error) => {
            return match usage::translate(&error, &line, colour.on(std::io::stdout().is_terminal())) {
                usage::Answer::Text(text) => finish(&ui, output::text(&text).map(|()| End::Code(exit::OK))),
                usage::Answer::Wrong(error) => fail(&ui, &error.into()),
            };
        }
    };
    let path = environment.user_config(caller::home_directory);
    let user = path.map_or_else(|| Ok(User::default()), |path| user::load(&path));
    let colour = environment.colour(arguments.global.color, user.as_ref().ok().and_then(|user| user.color));
    let ui = match colour {
        Ok(colour) => Ui::new(resolve::verbosity(&arguments.global), colour, environment.is_dumb()),
        Err(error) => return fail(&ui, &error.into()),
    };
    let user = match user {
        Ok(user) => user,
        Err(error) => return fail(&ui, &error.into()),
    };
    let mut context = Context { global: arguments.global, environment, user, ui, clock };
    finish(&ui, context.dispatch(arguments.command))
}

impl Context {
    fn dispatch(&mut self, command: Command) -> Result<End, Error> {
        if let Some(directory) = &self.global.directory {
            enter(directory)?;
        }
        match command {
            Command::Check => check::run(self),
            Command::Completions(completions) => generate::completions(completions),
            Command::Man(man) => generate::man(&man),
            Command::Schema => generate::schema(),
            Command::Run(typed) => run::run(self, &typed),
            Command::Init(typed) => init_command::run(self, &typed),
            Command::Plan(typed) => plan::run(self, &typed),
            Command::Hash(typed) => hash::run(self, &typed),
            Command::Diff(typed) => diff::run(self, typed),
            Command::Why(typed) => why::run(self, &typed),
            Command::Shell(typed) => run::shell(self, &typed),
            Command::Pool(typed) => pool::run(self, &typed),
            Command::Cache(typed) => cache::run(self, &typed),
            Command::Ps(typed) => ps::run(self, typed),
            Command::Enter(typed) => enter::run(self, &typed),
            Command::Ns(typed) => ns::run(self, &typed),
            Command::Bench(typed) => bench::run(self, &typed),
            Command::Doctor(typed) => doctor::run(self, typed),
        }
    }

    /// The project that the command line means.
    fn project(&self) -> Result<Project, Error> {
        let working_directory = working_directory()?;
        Ok(discover::discover(&working_directory, None, self.global.config.as_deref(), self.environment.config())?)
    }

    /// The project and its checked configuration.
    fn load(&self) -> Result<(Project, Config), Error> {
        let project = self.project()?;
        let config = crate::config::load(&shown(&project.config))?;
        Ok((project, config))
    }

    /// The store that the variables or the user's configuration name.
    fn store(&self) -> Result<Store, Error> {
        let jobs = self.environment.jobs(self.user.jobs)?;
        // A wrong one is told now, not after a run.
        self.cache_size()?;
        Ok(Store::open(self.cache_directory()?)?.with_jobs(jobs))
    }

    /// Where the store is, or will be.
    fn cache_directory(&self) -> Result<PathBuf, Error> {
        Ok(self.environment.cache_directory(self.user.cache_dir.as_ref(), caller::home_directory)?)
    }

    /// What the store may take of the disk, in bytes.
    fn cache_size(&self) -> Result<u64, Error> {
        Ok(self.environment.cache_size(self.user.cache_size)?)
    }

    /// Removes what was not used for the longest time when this process has brought the store above its budget.
    fn keep_budget(&self, store: &Store) -> Result<(), Error> {
        let budget = self.cache_size()?;
        if let Some(collected) = store.keep_budget(budget, &self.ui.work())? {
            cache::removal(&collected, false).iter().for_each(|line| self.ui.detail(&format!("cache: {line}")));
        }
        if self.ui.is_verbose()
            && let Some(bytes) = store.estimate()
        {
            self.ui.detail(&format!("cache: about {} of {}", BinaryBytes(bytes), BinaryBytes(budget)));
        }
        Ok(())
    }

    /// The same at the end of what was asked for, which stands whatever comes of this.
    fn settle(&self, store: &Store) {
        if let Err(error) = self.keep_budget(store) {
            self.ui.warn(&format!("can't keep the cache's budget: {}", ui::chain(&error)));
        }
    }

    /// Where the pool's socket is.
    fn pool_place(&self, store: &Path) -> Place {
        Place::new(self.environment.runtime_directory(), store.to_owned())
    }

    /// What the pipeline is asked to run.
    fn request(&self, project: &Project, subject: Subject) -> Result<Request, Error> {
        Ok(Request {
            project_root: project.root.clone(),
            config_path: project.config.clone(),
            environment: self.environment.passed(&subject.settings)?,
            settings: subject.settings,
            task: subject.task,
            argv: subject.argv,
            working_directory: working_directory()?,
            proxies: self.environment.proxies(),
            needed_by: None,
            fed: Vec::new(),
        })
    }

    /// Everything up to the start of the command; nothing is started. `fed` is what the tasks that it needs have made.
    fn prepare(&mut self, project: &Project, subject: Subject, fed: Vec<Entry>) -> Result<Prepared, Error> {
        let request = Request { fed, ..self.request(project, subject)? };
        let store = self.store()?;
        let prepared = self.prepare_in(&store, &request, false).map_err(sandbox_error)?;
        self.settle(&store);
        Ok(prepared)
    }

    /// The whole run, after those of the tasks that the subject needs.
    fn execute(&mut self, project: &Project, config: &Config, subject: Subject, how: How) -> Result<Outcome, Error> {
        let store = self.store()?;
        let outcome = match self.feed(&store, project, config, &subject, how)? {
            Fed::With(fed) => {
                let request = Request { fed, ..self.request(project, subject)? };
                self.execute_in(&store, &request, how, Delivery::Project)?
            }
            Fed::Failed(outcome) => *outcome,
        };
        self.settle(&store);
        Ok(outcome)
    }

    /// Prepares and runs; what turns out to be damaged in the store is made again, once.
    fn execute_in(&mut self, store: &Store, request: &Request, how: How, delivery: Delivery) -> Result<Outcome, Error> {
        let outcome = match self.attempt(store, request, how, delivery) {
            Err(SandboxError::DamagedLayer) => {
                self.ui.warn("what the store keeps of the inputs was changed; it is made again");
                self.attempt(store, request, how, delivery)
            }
            outcome => outcome,
        };
        let outcome = outcome.map_err(sandbox_error)?;
        if let Some(origin) = outcome.origin {
            self.ui.detail(&format!("net namespace {origin}"));
        }
        if let Some(reason) = &outcome.record.cache.reason {
            self.ui.detail(&format!("not cached: {reason}"));
        }
        if let Some(usage) = &outcome.record.usage {
            self.ui.detail(&report::usage(usage));
        }
        self.ui.detail(&format!("run {}, recorded", outcome.record.id));
        Ok(outcome)
    }

    fn attempt(
        &mut self,
        store: &Store,
        request: &Request,
        how: How,
        delivery: Delivery,
    ) -> Result<Outcome, SandboxError> {
        // Asked for now and wanted at the launch: the answer comes while the inputs are hashed.
        let own_network = request.settings.network != crate::config::model::Network::Host;
        let pool = (how.pool && own_network).then(|| Asked::ask(&self.pool_place(store.path())));
        let options = Options { stdin: how.stdin, keep: how.keep, steps: how.steps, pool, cache: how.cache, delivery };
        let prepared = &self.prepare_in(store, request, options.stdin == Stdin::Terminal)?;
        let ui = self.ui;
        let mut tell = |news: &News<'_>| match news {
            News::Network(event) => network::say(&ui, event),
            News::Waiting => ui.note("waiting for another run, which computes the same"),
            News::Damaged(what) => ui.warn(&format!("the kept result can't be replayed: {what}; it is computed again")),
        };
        let job = Job { store, request, prepared };
        sandbox::run(job, options, &mut tell, &mut self.clock)
    }

    fn prepare_in(&mut self, store: &Store, request: &Request, terminal: bool) -> Result<Prepared, SandboxError> {
        self.ui.detail(&format!("configuration {}", request.config_path.display()));
        self.ui.detail(&format!("store {}", store.path().display()));
        self.ui.detail(&format!("command {}", ui::words(&request.argv)));
        let prepared = sandbox::prepare(store, request, terminal, &self.ui.progress(), &mut self.clock);
        let prepared = prepared?;
        self.ui.detail(&format!("inputs {} in {} entries", prepared.input_root, prepared.manifest.entries.len()));
        self.ui.detail(&format!("action {}", prepared.identity.action_digest));
        if prepared.live.without_packages {
            self.ui.detail(
                "no package data base is known here: paths, sizes and times of all its files stand for the host",
            );
        }
        Ok(prepared)
    }
}

fn sandbox_error(source: SandboxError) -> Error {
    Error::Sandbox { source, slip: None }
}

/// `-C`: everything that follows sees DIR as the working directory.
fn enter(directory: &Path) -> Result<(), DiscoverError> {
    std::env::set_current_dir(directory).map_err(|source| DiscoverError::Named {
        path: directory.to_owned(),
        origin: "-C",
        source,
    })
}

fn working_directory() -> Result<PathBuf, Error> {
    std::env::current_dir().map_err(|source| Error::WorkingDirectory { source })
}

/// `path` as messages show it: relative to the working directory when it is below.
fn shown(path: &Path) -> PathBuf {
    let below = working_directory().ok().and_then(|above| Some(path.strip_prefix(above).ok()?.to_owned()));
    below.unwrap_or_else(|| path.to_owned())
}

fn finish(ui: &Ui, result: Result<End, Error>) -> u8 {
    match result {
        Ok(End::Code(code)) => code,
        Ok(End::Signal(signal)) => {
            caller::die_of(signal);
            // The signal did not end us; say what a shell would have said.
            u8::try_from(signal).unwrap_or(0).wrapping_add(128)
        }
        Err(error) => fail(ui, &error),
    }
}

fn fail(ui: &Ui, error: &Error) -> u8 {
    if let Error::Config(ConfigError::Faults(faults)) = error {
        ui.faults(&faults.render(ui.coloured()), faults);
        return error.exit_code();
    }
    ui.error(error, error.hint().as_deref());
    error.exit_code()
}

/// A bug of sbx ends it like any other failure: one line, exit code 125.
fn report_panics(ui: Ui) {
    std::panic::set_hook(Box::new(move |panic| {
        ui.error(&Bug { what: panic.to_string() }, Some("this is a bug of sbx; please report it"));
        std::process::exit(exit::FAILED.into());
    }));
}

#[derive(Debug, thiserror::Error)]
#[error("internal error: {what}")]
struct Bug {
    what: String,
}
