//! What `sbx why` takes.

use clap::Args;

/// What `sbx why` takes.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "\
Examples:
  sbx why                  about the last run of the project
  sbx why test             about the last run of the task `test`")]
pub struct Why {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// About the last run of this task [default: about the last run]
    pub task: Option<String>,
}
