//! What was typed. Each flag is defined once here; help, man pages, completions and `docs/CLI.md` follow from it.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};

mod bench;
mod cache;
mod generate;
mod line;
mod pool;
mod why;

pub use bench::{Bench, BenchCommand, BenchLaunch, BenchOutput, BenchRun, BenchShow};
pub use cache::{Age, Bytes, Cache, CacheClear, CacheCommand, CacheGc, CacheVerify};
pub use generate::{Completions, Man};
pub use pool::{Idle, Pool, PoolCommand, PoolStart};
pub use why::Why;

/// Run commands that see only what `sandbox.toml` declares.
///
/// sbx reads one `sandbox.toml`, hashes the inputs that it declares, builds a root file system of them in a private mount
/// namespace, and runs the command in namespaces of its own, so that nothing but what was declared can influence it. It
/// needs no root, no daemon and no set-up of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Parser)]
#[command(name = "sbx", version, max_term_width = 100, subcommand_required = true)]
#[command(after_help = "\
Examples:
  sbx init                 write a sandbox.toml for the project here
  sbx run -- make          run make in the sandbox
  sbx run test             run the task `test` of sandbox.toml
  sbx doctor               say what this machine allows")]
pub struct Arguments {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// Which command.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that stand before or after the command's name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Act as if sbx had been started in DIR [default: the working directory]
    #[arg(short = 'C', value_name = "DIR", global = true, value_hint = ValueHint::DirPath)]
    pub directory: Option<PathBuf>,
    /// Use this file [default: $SBX_CONFIG, else the first sandbox.toml from here upwards]
    #[arg(long, value_name = "FILE", global = true, value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Say nothing but errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say which files, store, digests and run it is about
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// Colour what sbx says [default: $SBX_COLOR, else `color` of config.toml, else auto]
    #[arg(long, value_name = "WHEN", global = true)]
    pub color: Option<When>,
}

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// On a terminal, unless NO_COLOR is set or TERM is dumb
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// The commands.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Run a command or a task in the sandbox
    ///
    /// After `--` the words are a command. Without `--`, a first word that names a task of sandbox.toml is that task, and
    /// further words are appended to its command; any other first word is the command.
    ///
    /// The command starts in the place inside that corresponds to the working directory. Its standard output and
    /// standard error are passed through as they come; what sbx itself says goes to standard error, each line begins
    /// `sbx: `. Outputs are copied back after exit 0, all of them or none.
    ///
    /// When the store knows what the same run came to, that is replayed: outputs, standard output, standard error, each
    /// stream whole; `-v` says why a result is not kept. The tasks that a task needs run first, unless their results are
    /// known; what they print goes to standard error.
    ///
    /// The exit code is the command's own; 124: the time limit was reached; 125: sbx itself failed (wrong usage and a
    /// bad sandbox.toml too); 126: found but not executable; 127: not found; 128+N: killed by signal N.
    Run(Run),
    /// Write a commented sandbox.toml fitted to the project here
    ///
    /// It looks for make, CMake, Cargo, npm, Python and Go. A file that exists is kept unless `--force` is given.
    Init(Init),
    /// Check sandbox.toml: every fault at once
    ///
    /// Each fault is shown with its line, a caret and a hint. Then the top level and each task are prepared as for a
    /// run, so that a pattern that matches nothing or a mount that does not exist is found too; nothing is started.
    /// What `[[fetch]]` names and the store lacks is fetched. The exit code is 1 when there is a fault.
    Check,
    /// Show what `run` would do, without doing it
    ///
    /// The words are those of `run`; without any it shows the plan of a shell with the settings of the top level. The
    /// inputs are hashed, fetched and stored, as for a run.
    Plan(Plan),
    /// Print the digests that identify the inputs and the run
    ///
    /// The digest of the input tree and, with a command or a task, that of the whole run: its Remote Execution API
    /// action. The same content gives the same digest of the inputs on every machine and in every checkout. The inputs
    /// are hashed, fetched and stored, as for a run.
    Hash(Hash),
    /// Show what the last run wrote, declared and undeclared
    ///
    /// Undeclared are the files that the command added, changed or deleted and that no output pattern matches; they are
    /// gone with the sandbox.
    Diff(Json),
    /// Say why the last run was computed, or where its result came from
    ///
    /// A run whose result was known already was not computed: it says which run computed it, when and where. Any other is
    /// compared with the earlier run of the same task, or of the same command, that differs least: what was isolated,
    /// allowed and shown, the host's packages, mounts, variables, arguments, outputs, and each input that is new, gone or
    /// changed, a text with its count of lines. It says too why a result was not looked up or not kept.
    ///
    /// Nothing has to be asked for before the run: the records of the last 50 runs of a project are kept. Of each group the first 10 lines are shown;
    /// `-v` shows all, and whole values.
    Why(Why),
    /// Open an interactive shell in the sandbox
    ///
    /// It is the sandbox that `run` would use, with a terminal of its own: the same files, network and limits, and the
    /// outputs come back after exit 0. The shell is bash where the sandbox has it, else sh. TERM is passed to it.
    Shell(Shell),
    /// Keep net namespaces ready, so that runs begin sooner
    ///
    /// A process of yours keeps pairs of a user and a net namespace ready, hands each out once, and makes new ones at the
    /// lowest priority. `run` and `shell` take one when there is one; without a pool, or when it is empty or does not
    /// answer, they make their own, and nothing else differs.
    Pool(Pool),
    /// List the running sandboxes
    ///
    /// Those of this user's store: id, project, age, memory, number of processes, command. Memory is the resident memory
    /// of all processes of the sandbox, sbx's own PID 1 among them; pages that several share are counted for each.
    /// `--json` adds the task, the working directory inside, and the process ids on the host.
    ///
    /// Nothing is asked but the store's locks and /proc: there is no daemon, and what was killed is not listed.
    Ps(Json),
    /// Run one more command in a running sandbox
    ///
    /// It joins all its namespaces, with the same restrictions as the command of the run: the same files, network,
    /// processes and clocks, the same user, no capability, the same limits (or the caller's own where they are lower). It
    /// starts in the directory and with the environment that the run's command was started with. Without a command it is
    /// a shell, bash where the sandbox has it, else sh.
    ///
    /// On a terminal (standard input and output) the command gets a terminal of the sandbox's own, and TERM; else standard
    /// input, output and error are passed through. What it writes is the run's: it counts for the outputs, and it ends
    /// with the run. What it has started ends with it.
    ///
    /// The exit code is the command's own; 125: sbx itself failed, the sandbox is not running for one; 126: found but not
    /// executable; 127: not found; 128+N: killed by signal N; 137 too when the run ended, which sbx says in a line.
    Enter(Enter),
    /// Show the namespaces of the running sandboxes
    ///
    /// Each with its type, its inode number, the user who owns it, how many processes of the sandboxes are in it, and
    /// which sandboxes; `host` marks those that sbx itself is in. Then the namespaces that several sandboxes share:
    /// normally none, and with `network.host = true` the host's net namespace. PID 1 of a sandbox is sbx's own and
    /// counts as one of its processes, except in the time namespace, which it makes for the others.
    Ns(Ns),
    /// Look after the store: what it holds, what can go, whether it is right
    ///
    /// The store keeps the budget (`cache_size` of config.toml) by itself: a run that brings it above removes what was not
    /// used for the longest time. Nothing that a run uses is ever removed, and whatever is removed is fetched or computed
    /// again when it is wanted. Kept scratch directories and records of runs do not count for the budget.
    ///
    /// `verify` hashes every blob, compares every layer with what it should show, and looks whether every result is
    /// complete. The exit code is 1 when something is damaged and was not removed.
    Cache(Cache),
    /// Measure what namespaces and launches cost on this machine
    ///
    /// What is compared is measured in turns, many times over. Printed are the median, the 90 % and 99 % quantiles and the
    /// slowest; what could not be measured is named with its reason. Anyone may run it, and nothing of it stays.
    ///
    /// `namespaces` measures inside of a user namespace, as anyone but root has to: root's figures can be compared with other
    /// users'. Kernel memory is the growth of the kernel's own counters (Slab, Percpu, VmallocUsed, KernelStack of
    /// /proc/meminfo) over many namespaces that are kept; what the rest of the machine does at the same time is told apart by
    /// repetition, or the figure is left out. `launch` gives every tool the same view of the host's files and the same command.
    /// `hash` and `io` take minutes and some gigabytes in the store's directory while they last.
    ///
    /// With `--compare`, a change counts when Mann-Whitney's U test is 95 % sure of it, for all rows together, and the medians
    /// differ by 2 % or more. The exit code is 1 when something has become slower.
    Bench(Bench),
    /// Say what this machine allows, and how to mend what it lacks
    ///
    /// It tries in a child process what a run needs. The exit code is 1 when no sandbox can be made here.
    Doctor(Json),
    /// Print a completion script for a shell
    Completions(Completions),
    /// Print the manual page, or write all of them
    ///
    /// sbx(1) goes to standard output; `--out` writes it and a page for each command.
    Man(Man),
    /// Print the JSON Schema of sandbox.toml
    ///
    /// It is a draft-07 schema, which editors use to complete and check the file.
    Schema,
}

/// What `sbx run` takes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Args)]
#[command(override_usage = "sbx run [OPTIONS] [--] CMD [ARG]...\n       sbx run [OPTIONS] TASK [ARG]...")]
#[command(after_help = "\
Examples:
  sbx run -- make -j4      run make
  sbx run test             run the task `test`
  sbx run test -k parser   the same with `-k parser` appended to its command
  sbx run -i -- cat        pass standard input through")]
pub struct Run {
    /// Pass standard input to the command [default: it reads /dev/null]
    #[arg(short = 'i', long)]
    pub stdin: bool,
    /// Compute it even if the result is known, and keep the new result
    #[arg(long)]
    pub force: bool,
    /// Neither replay a known result nor keep this one
    #[arg(long, conflicts_with = "force")]
    pub no_cache: bool,
    /// Keep the run's scratch directory, and say where it is
    #[arg(long)]
    pub keep: bool,
    /// Make the net namespace on the spot, even if a pool has one ready
    #[arg(long)]
    pub no_pool: bool,
    /// Print how long each phase and each step inside took, and where the net namespace came from
    #[arg(long)]
    pub timing: bool,
    /// Write the phases and the steps inside as Chrome trace JSON
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub trace_out: Option<PathBuf>,
    /// Write the run's record as JSON: to a file, or to descriptor N
    #[arg(long, value_name = "PATH|fd:N", value_hint = ValueHint::FilePath)]
    pub report: Option<PathBuf>,
    /// The command and its arguments, or a task
    #[command(flatten)]
    pub what: Words,
}

/// A command or a task, with arguments.
#[derive(Debug, Clone, PartialEq, Eq, Default, Args)]
pub struct Words {
    /// The command with its arguments, or a task with more arguments
    #[arg(value_name = "CMD", trailing_var_arg = true, value_hint = ValueHint::CommandWithArguments)]
    pub words: Vec<OsString>,
    /// Whether `--` stood before the words; set by [`Arguments::parse_from_words`], clap doesn't tell.
    #[arg(skip)]
    pub escaped: bool,
}

/// What `sbx init` takes.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "\
Examples:
  sbx init                 write ./sandbox.toml
  sbx -C proj init         write proj/sandbox.toml")]
pub struct Init {
    /// Replace a file that exists [default: refuse]
    #[arg(long)]
    pub force: bool,
}

/// What `sbx plan` takes.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(override_usage = "sbx plan [OPTIONS] [[--] CMD [ARG]...]\n       sbx plan [OPTIONS] [TASK [ARG]...]")]
#[command(after_help = "\
Examples:
  sbx plan -- make         the steps of `sbx run -- make`
  sbx plan --json test     the plan of the task `test` as JSON")]
pub struct Plan {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// What would be run.
    #[command(flatten)]
    pub what: Words,
}

/// What `sbx hash` takes.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(override_usage = "sbx hash [OPTIONS] [[--] CMD [ARG]...]\n       sbx hash [OPTIONS] [TASK [ARG]...]")]
#[command(after_help = "\
Examples:
  sbx hash                 the digest of the inputs
  sbx hash --list          every input with its digest
  sbx hash -- make         the digest of the inputs and of `sbx run -- make`")]
pub struct Hash {
    /// Print the manifest instead: one input a line
    #[arg(long)]
    pub list: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// What would be run.
    #[command(flatten)]
    pub what: Words,
}

/// A command whose only flag is `--json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub struct Json {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What `sbx shell` takes.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "\
Examples:
  sbx shell                look around
  sbx shell test           with what the task `test` declares")]
pub struct Shell {
    /// Keep the run's scratch directory, and say where it is
    #[arg(long)]
    pub keep: bool,
    /// Use the settings of this task [default: those of the top level]
    pub task: Option<String>,
}

/// What `sbx enter` takes.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(override_usage = "sbx enter [OPTIONS] ID [[--] CMD [ARG]...]")]
#[command(after_help = "\
Examples:
  sbx enter 3fa2           a shell in the sandbox whose id has 3fa2 at the beginning of its last part
  sbx enter 3fa2 -- ps ax  what runs there")]
pub struct Enter {
    /// The sandbox: its id (see `sbx ps`), or any unique beginning of it or of its last part
    pub id: String,
    /// The command with its arguments [default: a shell]
    #[arg(value_name = "CMD", trailing_var_arg = true, value_hint = ValueHint::CommandWithArguments)]
    pub words: Vec<OsString>,
}

/// What `sbx ns` takes.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "\
Examples:
  sbx ns                   of all running sandboxes
  sbx ns 3fa2              of the one whose id has 3fa2 at the beginning of its last part")]
pub struct Ns {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Only this sandbox: its id, or any unique beginning of it or of its last part [default: all]
    pub id: Option<String>,
}

/// Commands that the design has and this version does not.
pub const LATER_COMMANDS: [&str; 1] = ["verify"];

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn short_help_fits_a_screen() {
        let mut command = Arguments::command();
        command.build();
        for sub in command.get_subcommands_mut() {
            let help = sub.render_help().to_string();
            assert!(help.lines().count() <= 36, "{}: {} lines", sub.get_name(), help.lines().count());
        }
        assert!(command.render_help().to_string().lines().count() <= 44);
    }
}
