//! `sbx init`: a `sandbox.toml` to begin with.

use std::fs::{OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::{Context, End, args, init, output, working_directory};
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
    let shown = path.strip_prefix(&working_directory).unwrap_or(&path).to_string_lossy();
    output::text(&format!("wrote {}\n", escape(&shown)))?;
    Ok(End::Code(exit::OK))
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
