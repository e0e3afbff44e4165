//! From the words of a command line to what they mean.

use std::ffi::OsString;
use std::mem;

use clap::Parser as _;

use super::{Arguments, Command, Global, Run, Words};

impl Arguments {
    /// Parses the words of a command line, the program's name first.
    ///
    /// # Errors
    /// clap's error, which is also how it asks for help or the version to be shown.
    pub fn parse_from_words(line: &[OsString]) -> Result<Self, clap::Error> {
        let mut arguments = plain_run(line).map_or_else(|| Self::try_parse_from(line), Ok)?;
        if let Some(what) = arguments.command.words_mut() {
            // The words are the tail of the line, whatever they are; clap takes no `--` as an option's value, so one
            // just before the tail is the escape.
            let before = line.len() - what.words.len() - 1;
            what.escaped = !what.words.is_empty() && line[before] == "--";
        }
        Ok(arguments)
    }
}

/// Reads the line that is typed most and must begin soonest, `sbx run` with its options as separate words, for which clap would
/// define all that there is. `None` for every other line, and for what is wrong or asked for: that is clap's to tell.
fn plain_run(line: &[OsString]) -> Option<Arguments> {
    let (mut global, mut run, mut is_run) = (Global::default(), Run::default(), false);
    let mut rest = line.get(1..)?;
    while let [word, after @ ..] = rest {
        let word = word.to_str()?;
        let option = match word {
            "-C" => Some(&mut global.directory),
            "--config" => Some(&mut global.config),
            "--trace-out" if is_run => Some(&mut run.trace_out),
            "--report" if is_run => Some(&mut run.report),
            _ => None,
        };
        if let Some(option) = option {
            let [value, after @ ..] = after else { return None };
            let is_doubtful = value.is_empty() || value.as_encoded_bytes().starts_with(b"-");
            if is_doubtful || option.replace(value.into()).is_some() {
                return None;
            }
            rest = after;
            continue;
        }
        let flag = match word {
            "-q" | "--quiet" => &mut global.quiet,
            "-v" | "--verbose" => &mut global.verbose,
            "run" if !is_run => &mut is_run,
            _ if !is_run => return None,
            "-i" | "--stdin" => &mut run.stdin,
            "--force" => &mut run.force,
            "--no-cache" => &mut run.no_cache,
            "--keep" => &mut run.keep,
            "--no-pool" => &mut run.no_pool,
            "--timing" => &mut run.timing,
            "--" => {
                run.what.words = after.to_vec();
                break;
            }
            option if option.starts_with('-') => return None,
            _ => {
                run.what.words = rest.to_vec();
                break;
            }
        };
        if mem::replace(flag, true) {
            return None;
        }
        rest = after;
    }
    let conflict = global.quiet && global.verbose || run.force && run.no_cache;
    (is_run && !conflict).then_some(Arguments { global, command: Command::Run(run) })
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
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

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
    fn a_plain_run_is_read_as_clap_reads_it() {
        let read = |line: &str| {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            (plain_run(&words), Arguments::try_parse_from(&words).ok())
        };
        for line in [
            "sbx run",
            "sbx run --",
            "sbx run make -j4 -v --help -C x",
            "sbx run -- make -- -x",
            "sbx run -- -- x",
            "sbx run run",
            "sbx run  make",
            "sbx -q run make",
            "sbx --verbose run --stdin --force --keep --no-pool --timing test",
            "sbx run -i --no-cache --quiet -- cat -q",
            "sbx -C run run --report r --config c --trace-out t -- make",
        ] {
            let (plain, clap) = read(line);
            assert!(plain.is_some() && plain == clap, "{line}: {plain:?}, {clap:?}");
        }
        for line in [
            "sbx",
            "sbx check",
            "sbx -q check run",
            "sbx --force run make",
            "sbx run --help",
            "sbx run --frobnicate",
            "sbx run -",
            "sbx run -iq make",
            "sbx --report r run make",
            "sbx run --report",
            "sbx run --report -- make",
            "sbx run --report=r make",
            "sbx run -Cd make",
            "sbx run -C  make",
            "sbx -C d run -C e make",
            "sbx run --color never make",
            "sbx run -q -q make",
            "sbx run --timing --timing make",
            "sbx run -q -v make",
            "sbx -v run -q make",
            "sbx run --force --no-cache make",
        ] {
            assert_eq!(read(line).0, None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_without_clap_is_read_as_by_clap(words in vec(select(WORDS), 0..6)) {
            let line: Vec<OsString> = ["sbx"].iter().chain(&words).map(OsString::from).collect();
            if let Some(plain) = plain_run(&line) {
                prop_assert_eq!(Some(plain), Arguments::try_parse_from(&line).ok());
            }
        }
    }

    const WORDS: &[&str] = &[
        "run",
        "run",
        "check",
        "make",
        "",
        "-",
        "--",
        "-q",
        "--quiet",
        "-v",
        "--verbose",
        "-i",
        "--stdin",
        "--force",
        "--no-cache",
        "--keep",
        "--no-pool",
        "--timing",
        "--report",
        "-C",
        "--config",
        "--trace-out",
        "--color",
        "-h",
        "--help",
        "-iq",
        "--no",
        "--keep=",
    ];

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
