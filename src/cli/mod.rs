//! The command line: what was typed ([`args`]), what it means here ([`resolve`]), and one thin module per command.

pub mod args;
mod check;
mod generate;
pub mod init;
mod output;
pub mod reference;
pub mod resolve;
pub mod usage;

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use args::{Arguments, Command, Global};
use resolve::Environment;
use usage::UsageError;

use crate::config::ConfigError;
use crate::config::discover::{self, DiscoverError, Project};
use crate::config::model::Config;
use crate::error::{Error, exit};
use crate::sandbox::phases::Phases;
use crate::sys::caller;
use crate::ui::{Ui, Verbosity};

/// How sbx ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// With this exit code.
    Code(u8),
    /// By this signal, as the command did.
    Signal(i32),
}

/// What every command can use.
struct Context {
    global: Global,
    environment: Environment,
    ui: Ui,
    clock: Phases,
}

/// Runs the command line of this process to its end.
pub fn main() -> ExitCode {
    let clock = Phases::new();
    let environment = Environment::of_this_process();
    // Until the command line is understood, only the variables speak of colour; a wrong one is told then.
    let colour = environment.colour(None).unwrap_or(crate::ui::Colour::Never);
    let ui = Ui::new(Verbosity::Normal, colour);
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
    let ui = match environment.colour(arguments.global.color) {
        Ok(colour) => Ui::new(resolve::verbosity(&arguments.global), colour),
        Err(error) => return fail(&ui, &error.into()),
    };
    let mut context = Context { global: arguments.global, environment, ui, clock };
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
            Command::Run(_)
            | Command::Init(_)
            | Command::Plan(_)
            | Command::Hash(_)
            | Command::Diff(_)
            | Command::Shell(_)
            | Command::Doctor(_) => Err(UsageError {
                message: "this command is not available yet in this version".to_owned(),
                hints: Vec::new(),
            }
            .into()),
        }
    }

    /// The project that the command line means.
    fn project(&self) -> Result<Project, Error> {
        let working_directory = working_directory()?;
        Ok(discover::discover(&working_directory, None, self.global.config.as_deref(), self.environment.config())?)
    }

    /// The project and its checked configuration. Faults are shown here, each with its place.
    fn load(&self) -> Result<(Project, Config), Error> {
        let project = self.project()?;
        let config = crate::config::load(&project.config)?;
        Ok((project, config))
    }
}

/// `-C`: everything that follows sees DIR as the working directory.
fn enter(directory: &std::path::Path) -> Result<(), DiscoverError> {
    std::env::set_current_dir(directory).map_err(|source| DiscoverError::Named {
        path: directory.to_owned(),
        origin: "-C",
        source,
    })
}

fn working_directory() -> Result<PathBuf, Error> {
    std::env::current_dir().map_err(|source| Error::WorkingDirectory { source })
}

fn finish(ui: &Ui, result: Result<End, Error>) -> ExitCode {
    match result {
        Ok(End::Code(code)) => ExitCode::from(code),
        Ok(End::Signal(signal)) => {
            caller::die_of(signal);
            // The signal did not end us; say what a shell would have said.
            ExitCode::from(u8::try_from(signal).unwrap_or(0).wrapping_add(128))
        }
        Err(error) => fail(ui, &error),
    }
}

fn fail(ui: &Ui, error: &Error) -> ExitCode {
    if let Error::Config(ConfigError::Faults(faults)) = error {
        ui.faults(&faults.render(ui.coloured()), faults);
        return ExitCode::from(error.exit_code());
    }
    ui.error(error, error.hint().as_deref());
    ExitCode::from(error.exit_code())
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
