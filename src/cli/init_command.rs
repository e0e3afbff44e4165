//! `sbx init`: a `sandbox.toml` to begin with.

use std::fs::{OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::init::Found;
use super::{Context, End, args, init, output, resolve, working_directory};
use crate::config::discover::FILE_NAME;
use crate::error::{Error, exit};
use crate::ui::escape;

pub(super) fn run(context: &Context, typed: &args::Init) -> Result<End, Error> {
    let working_directory = working_directory()?;
    let named = context.global.config.as_deref().or_else(|| context.environment.config().map(Path::new));
    let path = working_directory.join(named.unwrap_or(Path::new(FILE_NAME)));
    let found = init::look(path.parent().unwrap_or(&working_directory));
    let text = init::template(&found);
    let written = if typed.force { replace(&path, &text) } else { create(&path, &text) };
    written.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => Error::Exists { path: path.clone() },
        _ => Error::Write { path: path.clone(), source },
    })?;
    let shown = super::shown(&path).to_string_lossy().into_owned();
    let tasks = crate::config::parse(&text, &shown).map(|config| resolve::names(&config)).unwrap_or_default();
    output::text(&report(&shown, &found, &tasks))?;
    Ok(End::Code(exit::OK))
}

/// What was written, for what, and what to do next.
fn report(path: &str, found: &Found, tasks: &[String]) -> String {
    let kinds = [
        (found.cargo.is_some(), "Cargo"),
        (found.go.is_some(), "Go"),
        (found.npm.is_some(), "npm"),
        (found.python.is_some(), "Python"),
        (found.cmake.is_some(), "CMake"),
        (found.make.is_some(), "make"),
    ];
    let kinds: Vec<_> = kinds.iter().filter(|(is_found, _)| *is_found).map(|(_, kind)| *kind).collect();
    let fitted = if kinds.is_empty() {
        "found no build system; say in it what is needed".to_owned()
    } else {
        format!("found: {}", kinds.join(", "))
    };
    let next = match tasks.first() {
        Some(task) => format!("`sbx run {task}`"),
        None => "`sbx run -- COMMAND`".to_owned(),
    };
    format!("wrote {}\n{fitted}\nnext: read it, then `sbx check`, then {next}\n", escape(path))
}

/// Writes a file that is not there yet, not even as a dangling link.
fn create(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).open(path)?.write_all(text.as_bytes())
}

/// Puts a new file in the place of whatever stands there.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let mut temp = tempfile::Builder::new().permissions(Permissions::from_mode(0o666)).tempfile_in(directory)?;
    temp.write_all(text.as_bytes())?;
    temp.persist(path).map(drop).map_err(|error| error.error)
}
