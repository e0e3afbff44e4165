//! From the words of a command line to what they mean.

use std::ffi::OsString;

use clap::{Parser, Subcommand};

use super::{Arguments, Command, Global, Run, Words};

impl Arguments {
    /// Parses the words of a command line, the program's name first.
    ///
    /// # Errors
    /// clap's error, which is also how it asks for help or the version to be shown.
    pub fn parse_from_words(line: &[OsString]) -> Result<Self, clap::Error> {
        let mut arguments = match RunAlone::parse_from_words(line) {
            Some(arguments) => arguments,
            None => Self::try_parse_from(line)?,
        };
        if let Some(what) = arguments.command.words_mut() {
            // The words are the tail of the line, whatever they are; clap takes no `--` as an option's value, so one
            // just before the tail is the escape.
            let before = line.len() - what.words.len() - 1;
            what.escaped = !what.words.is_empty() && line[before] == "--";
        }
        Ok(arguments)
    }
}

/// A command line whose command is `run`, the one that is typed most and must begin soonest: clap takes half as long when
/// it need not learn all the others first.
#[derive(Debug, Parser)]
#[command(name = "sbx")]
struct RunAlone {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: RunCommand,
}

#[derive(Debug, Subcommand)]
enum RunCommand {
    Run(Run),
}

impl RunAlone {
    /// `None` for whatever is not such a line and right: what is wrong or asked for is told with all commands in sight.
    fn parse_from_words(line: &[OsString]) -> Option<Arguments> {
        // The first word that is no flag is the command, or a flag's value.
        let first = line.iter().skip(1).find(|word| !word.as_encoded_bytes().starts_with(b"-"));
        if first.is_none_or(|word| word != "run") {
            return None;
        }
        let Self { global, command: RunCommand::Run(run) } = Self::try_parse_from(line).ok()?;
        Some(Arguments { global, command: Command::Run(run) })
    }
}

impl Command {
    fn words_mut(&mut self) -> Option<&mut Words> {
        match self {
            Self::Run(run) => Some(&mut run.what),
            Self::Plan(plan) => Some(&mut plan.what),
            Self::Hash(hash) => Some(&mut hash.what),
            Self::Init(_)
            | Self::Check
            | Self::Diff(_)
            | Self::Why(_)
            | Self::Shell(_)
            | Self::Pool(_)
            | Self::Cache(_)
            | Self::Ps(_)
            | Self::Enter(_)
            | Self::Ns(_)
            | Self::Bench(_)
            | Self::Doctor(_)
            | Self::Completions(_)
            | Self::Man(_)
            | Self::Schema => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        Arguments::parse_from_words(&words)
    }

    fn words(line: &str) -> (bool, Vec<String>) {
        let mut arguments = parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        let what = arguments.command.words_mut().unwrap();
        (what.escaped, what.words.iter().map(|word| word.to_str().unwrap().to_owned()).collect())
    }

    #[test]
    fn the_words_of_run_are_taken_as_they_are() {
        let strings = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        for (line, escaped, expected) in [
            ("sbx run make", false, &["make"][..]),
            ("sbx run -- make", true, &["make"]),
            ("sbx run make -j4 -v --help -C x", false, &["make", "-j4", "-v", "--help", "-C", "x"]),
            ("sbx run make -- -x", false, &["make", "--", "-x"]),
            ("sbx run -- make --", true, &["make", "--"]),
            ("sbx run -- -- x", true, &["--", "x"]),
            ("sbx run -- --help", true, &["--help"]),
            ("sbx run -- --bind /", true, &["--bind", "/"]),
            ("sbx run --keep -i -- cat -q", true, &["cat", "-q"]),
            ("sbx run --config=-- test", false, &["test"]),
            ("sbx run", false, &[]),
            ("sbx run --", false, &[]),
            ("sbx hash --list -- make -v", true, &["make", "-v"]),
            ("sbx plan test", false, &["test"]),
        ] {
            assert_eq!(words(line), (escaped, strings(expected)), "{line}");
        }
    }

    #[test]
    fn run_alone_is_read_as_among_all_commands() {
        for line in [
            "sbx run make -j4 -v --help -C x",
            "sbx run -- make -- -x",
            "sbx run --keep -i -C d --config=-- -q --color never --timing -- cat -q",
            "sbx run",
            "sbx run --report r --no-pool --no-cache --trace-out t test",
            "sbx run --force -v test",
            "sbx -q run make",
            "sbx -C run -v run make",
        ] {
            let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
            assert_eq!(RunAlone::parse_from_words(&words), Arguments::try_parse_from(&words).ok(), "{line}");
            assert!(RunAlone::parse_from_words(&words).is_some(), "{line}");
        }
        for line in [
            "sbx",
            "sbx run --help",
            "sbx -h run",
            "sbx run --frobnicate",
            "sbx run -q -v make",
            "sbx check",
            "sbx -C run check",
            "sbx --color run run",
        ] {
            let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
            assert!(RunAlone::parse_from_words(&words).is_none(), "{line}");
        }
    }

    #[test]
    fn global_flags_stand_on_either_side_of_the_command() {
        for line in
            ["sbx -C d --config f -v run make", "sbx run -C d --config f -v make", "sbx -C d run -v --config f make"]
        {
            let arguments = parse(line).unwrap();
            assert_eq!(arguments.global.directory.as_deref(), Some("d".as_ref()), "{line}");
            assert_eq!(arguments.global.config.as_deref(), Some("f".as_ref()), "{line}");
            assert!(arguments.global.verbose && !arguments.global.quiet, "{line}");
        }
    }

    #[test]
    fn what_is_not_defined_is_refused() {
        for line in [
            "sbx",
            "sbx run --force --no-cache make",
            "sbx run --frobnicate make",
            "sbx pool",
            "sbx pool start --size 0",
            "sbx pool start --idle soon",
            "sbx pool warm",
            "sbx pool warm 1025",
            "sbx make",
            "sbx bench",
            "sbx bench launch true",
            "sbx bench namespaces --rounds 1",
            "sbx bench namespaces --json --csv",
            "sbx bench show report.json --csv --markdown",
            "sbx bench show",
            "sbx check extra",
            "sbx -q -v check",
            "sbx --color sometimes check",
            "sbx run --report",
            "sbx completions tcsh",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
