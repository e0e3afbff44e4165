//! What was typed after `sbx bench`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

/// What `sbx bench` takes.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "\
Examples:
  sbx bench namespaces                       what each namespace costs here
  sbx bench launch --html page.html          launches beside other sandboxes', as a page with plots
  sbx bench launch -- sh -c 'exit 0'         with another command than `true`
  sbx bench launch --json > old.json         keep it, and later:
  sbx bench launch --compare old.json        what has changed since
  sbx bench show old.json --markdown         tables to be put into an issue")]
pub struct Bench {
    /// Which bench.
    #[command(subcommand)]
    pub command: BenchCommand,
}

/// The benches.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum BenchCommand {
    /// Measure what each namespace costs: to make, enter, take down, keep
    Namespaces(BenchRun),
    /// Measure launches: sbx beside what is installed, by mounts, inputs, launches at once
    Launch(BenchLaunch),
    /// Measure what it costs to know inputs: unchanged, one changed, all new
    Hash(BenchRun),
    /// Measure work inside: outputs that come back, compiling, many files, the network
    Io(BenchRun),
    /// Show a report that `--json` printed: as a table, a page, compared with another
    Show(BenchShow),
}

/// What every bench takes.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct BenchRun {
    /// Measure everything so often [default: as often as the bench needs]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=100_000))]
    pub rounds: Option<u32>,
    /// Make everything small: seconds, not minutes, and figures to look at, not to rely on
    #[arg(long)]
    pub quick: bool,
    /// How it is shown.
    #[command(flatten)]
    pub shown: BenchOutput,
}

/// How a report is shown.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct BenchOutput {
    /// Print JSON, every single time included
    #[arg(long, conflicts_with_all = ["csv", "markdown"])]
    pub json: bool,
    /// Print CSV, a line for each row of the tables
    #[arg(long, conflicts_with = "markdown")]
    pub csv: bool,
    /// Print Markdown with GitHub's tables, to be put into an issue
    #[arg(long)]
    pub markdown: bool,
    /// Write a page with plots that needs nothing else
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub html: Option<PathBuf>,
    /// Say what has changed since the report that `--json` printed into FILE
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub compare: Option<PathBuf>,
}

/// What `sbx bench launch` takes.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct BenchLaunch {
    /// What every bench takes.
    #[command(flatten)]
    pub run: BenchRun,
    /// The command that is launched [default: true]
    #[arg(value_name = "CMD", last = true, value_hint = ValueHint::CommandWithArguments)]
    pub words: Vec<OsString>,
}

/// What `sbx bench show` takes.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct BenchShow {
    /// How it is shown.
    #[command(flatten)]
    pub shown: BenchOutput,
    /// The report
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
}
