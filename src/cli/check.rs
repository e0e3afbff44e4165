//! `sbx check`: is the project's `sandbox.toml` right?

use super::{Context, End, output};
use crate::config::ConfigError;
use crate::error::{Error, exit};
use crate::ui::escape;

pub(super) fn run(context: &Context) -> Result<End, Error> {
    let project = context.project()?;
    let config = match crate::config::load(&project.config) {
        Err(ConfigError::Faults(faults)) => {
            context.ui.faults(&faults.render(context.ui.coloured()), &faults);
            return Ok(End::Code(exit::FOUND));
        }
        config => config?,
    };
    let name = project.config.to_string_lossy();
    let tasks = match config.tasks.len() {
        1 => "1 task".to_owned(),
        count => format!("{count} tasks"),
    };
    output::text(&format!("ok: {}: {tasks}\n", escape(&name)))?;
    Ok(End::Code(exit::OK))
}
