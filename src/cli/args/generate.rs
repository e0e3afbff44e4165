//! What was typed after `sbx completions` and `sbx man`.

use std::path::PathBuf;

use clap::{ArgAction, Args, ValueHint};

/// What `sbx completions` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
#[command(after_help = "\
Examples:
  sbx completions bash > ~/.local/share/bash-completion/completions/sbx
  sbx completions fish > ~/.config/fish/completions/sbx.fish")]
pub struct Completions {
    /// Which shell
    pub shell: clap_complete::Shell,
}

/// What `sbx man` takes.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "\
Examples:
  sbx man | man -l -       read it
  sbx man --out man1       write sbx.1, sbx-run.1, …")]
pub struct Man {
    /// Write every page into DIR [default: sbx(1) on standard output]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, action = ArgAction::Set)]
    pub out: Option<PathBuf>,
}
