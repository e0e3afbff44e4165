//! A command line that can't be understood, in sbx's own words.

use std::ffi::OsString;

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::args::{Arguments, LATER_COMMANDS};

/// What is wrong with a command line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct UsageError {
    /// One line.
    pub message: String,
    /// What helps, one line each.
    pub hints: Vec<String>,
}

/// What clap says instead of arguments.
#[derive(Debug)]
pub enum Answer {
    /// Help or the version was asked for: text for standard output.
    Text(String),
    /// The command line is wrong.
    Wrong(UsageError),
}

/// Translates clap's error for the command line `line`. Clap's exit code 2 and its many-line form stay behind.
pub fn translate(error: &clap::Error, line: &[OsString], coloured: bool) -> Answer {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let text = error.render();
            Answer::Text(if coloured { text.ansi().to_string() } else { text.to_string() })
        }
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            Answer::Wrong(UsageError {
                message: "no command is given".into(),
                hints: vec!["`sbx --help` lists the commands; `sbx init` begins a project".into()],
            })
        }
        ErrorKind::InvalidSubcommand => Answer::Wrong(unknown_command(error)),
        _ => Answer::Wrong(other(error, line)),
    }
}

fn unknown_command(error: &clap::Error) -> UsageError {
    let name = context(error, ContextKind::InvalidSubcommand);
    if LATER_COMMANDS.contains(&name.as_str()) {
        return UsageError { message: format!("`sbx {name}` is not available yet in this version"), hints: Vec::new() };
    }
    let mut hints = vec![format!("to run a command in the sandbox: `sbx run -- {name}`")];
    let known = Arguments::command();
    let near = super::resolve::nearest(&name, known.get_subcommands().map(clap::Command::get_name));
    match near {
        Some(near) => hints.insert(0, format!("did you mean `sbx {near}`?")),
        None => hints.push("`sbx --help` lists the commands".into()),
    }
    UsageError { message: format!("`{name}` is not a command of sbx"), hints }
}

fn other(error: &clap::Error, line: &[OsString]) -> UsageError {
    let text = error.render().to_string();
    let mut paragraphs = text.split("\n\n");
    let first = paragraphs.next().unwrap_or_default();
    let message = first.strip_prefix("error: ").unwrap_or(first);
    let message = message.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    let tips = paragraphs.flat_map(str::lines).filter_map(|line| line.trim().strip_prefix("tip: "));
    let mut hints: Vec<String> = tips.map(str::to_owned).collect();
    let known = Arguments::command();
    let command = line.iter().skip(1).find_map(|word| known.find_subcommand(word));
    hints.push(match command {
        Some(command) => format!("`sbx {} --help` shows how it is used", command.get_name()),
        None => "`sbx --help` shows how it is used".into(),
    });
    UsageError { message, hints }
}

fn context(error: &clap::Error, kind: ContextKind) -> String {
    match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(line: &str) -> UsageError {
        let line: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        match translate(&Arguments::parse_from_words(&line).unwrap_err(), &line, false) {
            Answer::Wrong(error) => error,
            Answer::Text(text) => panic!("{text}"),
        }
    }

    #[test]
    fn what_comes_later_says_so() {
        assert_eq!(wrong("sbx verify").message, "`sbx verify` is not available yet in this version");
    }

    #[test]
    fn wrong_lines_are_one_message_and_hints() {
        let mut all = String::new();
        for line in [
            "sbx",
            "sbx make",
            "sbx rnu make",
            "sbx run --keeep make",
            "sbx run --report",
            "sbx check extra",
            "sbx -q -v check",
            "sbx --color sometimes check",
            "sbx completions tcsh",
            "sbx completions",
        ] {
            let error = wrong(line);
            all += &format!("$ {line}\n{}\n", error.message);
            for hint in error.hints {
                all += &format!("  hint: {hint}\n");
            }
        }
        insta::assert_snapshot!(all);
    }
}
