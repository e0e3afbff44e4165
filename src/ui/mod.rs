//! The one printer: whatever sbx says on standard error goes through here, each line begins `sbx: `.
//!
//! Nothing of it may fail: a closed or full standard error ends no run.

mod escape;
mod progress;
mod work;

use std::error::Error;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};

pub use escape::escape;
pub use progress::Progress;
pub use work::Work;

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Verbosity {
    /// Errors only.
    Quiet,
    /// What the user should know.
    #[default]
    Normal,
    /// Everything.
    Verbose,
}

/// What decides about colour, gathered by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// When it helps: on a terminal that is not dumb, unless `NO_COLOR` is set.
    Auto {
        /// `NO_COLOR` is set and not empty, or `TERM` is `dumb`.
        discouraged: bool,
    },
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Colour {
    /// The decision for a stream that is a terminal or not.
    pub fn on(self, terminal: bool) -> bool {
        match self {
            Self::Auto { discouraged } => terminal && !discouraged,
            Self::Always => true,
            Self::Never => false,
        }
    }
}

/// The printer.
#[derive(Debug, Clone, Copy)]
pub struct Ui {
    verbosity: Verbosity,
    coloured: bool,
    redraws: bool,
}

/// What a line is about: its word and the SGR parameters of the word.
#[derive(Clone, Copy)]
struct Label(&'static str, &'static str);

const ERROR: Label = Label("error", "1;31");
const WARNING: Label = Label("warning", "1;33");
const HINT: Label = Label("hint", "1;36");

impl Ui {
    /// A printer to standard error; `dumb` says that a terminal there can't redraw a line.
    pub fn new(verbosity: Verbosity, colour: Colour, dumb: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self { verbosity, coloured: colour.on(terminal), redraws: terminal && !dumb }
    }

    /// Whether what goes to standard error is coloured.
    pub fn coloured(&self) -> bool {
        self.coloured
    }

    /// Says why sbx failed: the message, its causes, and what to do about it. Never silenced.
    pub fn error(&self, error: &dyn Error, hint: Option<&str>) {
        print(&self.error_text(error, hint));
    }

    /// Shows the rendered faults of a file (already safe for a terminal), then their sum. Never silenced.
    pub fn faults(&self, rendered: &str, sum: &dyn Error) {
        print(&(prefixed(rendered) + &self.error_text(sum, None)));
    }

    /// Says something that the user should mend, though sbx goes on.
    pub fn warn(&self, message: &str) {
        if self.verbosity > Verbosity::Quiet {
            print(&self.labelled(WARNING, message));
        }
    }

    /// Says a plain sentence.
    pub fn note(&self, message: &str) {
        if self.verbosity > Verbosity::Quiet {
            print(&plain(message));
        }
    }

    /// Says a plain sentence with `-v`.
    pub fn detail(&self, message: &str) {
        if self.verbosity >= Verbosity::Verbose {
            print(&plain(message));
        }
    }

    /// Prints text of several lines that the user asked for (`--timing`), whatever `-q` says.
    pub fn asked(&self, text: &str) {
        print(&prefixed(text));
    }

    /// A progress display for the inputs: bars on a terminal; what was fetched is said everywhere.
    pub fn progress(&self) -> Progress {
        Progress::new(*self, self.redraws && self.verbosity > Verbosity::Quiet)
    }

    /// A display of how far work on the store is: a bar on a terminal.
    pub fn work(&self) -> Work {
        Work::new(self.redraws && self.verbosity > Verbosity::Quiet)
    }

    /// Whether [`Ui::detail`] says anything.
    pub fn is_verbose(&self) -> bool {
        self.verbosity >= Verbosity::Verbose
    }

    fn error_text(&self, error: &dyn Error, hint: Option<&str>) -> String {
        let mut text = self.labelled(ERROR, &chain(error));
        if let Some(hint) = hint {
            for line in hint.lines() {
                text += &self.labelled(HINT, line);
            }
        }
        text
    }

    /// A message of several lines goes on indented, so that no line of it passes for another message.
    fn labelled(&self, Label(word, sgr): Label, message: &str) -> String {
        let mut lines = message.lines().map(escape);
        let first = lines.next().unwrap_or_default();
        let mut text = if self.coloured {
            format!("sbx: \u{1b}[{sgr}m{word}:\u{1b}[0m {first}\n")
        } else {
            format!("sbx: {word}: {first}\n")
        };
        for line in lines {
            let indent = if line.starts_with("  ") { "" } else { "  " };
            let _ = writeln!(text, "sbx: {indent}{line}");
        }
        text
    }
}

fn plain(message: &str) -> String {
    format!("sbx: {}\n", escape(message))
}

/// An error's message with its causes.
pub fn chain(error: &dyn Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // An error that shows its source itself is not said twice.
        if !message.ends_with(&text) {
            let _ = write!(message, ": {text}");
        }
        cause = error.source();
    }
    message
}

/// A command line as it could be typed, safe to show.
pub fn words(words: &[String]) -> String {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "@%+=:,./_-".contains(character);
    let quoted = words.iter().map(|word| {
        if !word.is_empty() && word.chars().all(is_plain) {
            word.clone()
        } else {
            format!("'{}'", escape(word).replace('\'', "'\\''"))
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

fn prefixed(text: &str) -> String {
    text.lines().fold(String::new(), |mut all, line| {
        let _ = writeln!(all, "sbx: {line}");
        all
    })
}

/// One write for the whole text, so that parallel runs don't mix within a line; a failure has nowhere to be told.
fn print(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("can't open `{path}`")]
    struct Open {
        path: &'static str,
        source: std::io::Error,
    }

    fn open(path: &'static str) -> Open {
        Open { path, source: std::io::Error::from_raw_os_error(2) }
    }

    fn plain_ui() -> Ui {
        Ui { verbosity: Verbosity::Normal, coloured: false, redraws: false }
    }

    #[test]
    fn an_error_is_its_message_its_causes_and_a_hint() {
        assert_eq!(
            plain_ui().error_text(&open("a"), Some("create it")),
            "sbx: error: can't open `a`: No such file or directory (os error 2)\nsbx: hint: create it\n"
        );
        assert_eq!(
            Ui { coloured: true, ..plain_ui() }.error_text(&open("a"), None),
            "sbx: \u{1b}[1;31merror:\u{1b}[0m can't open `a`: No such file or directory (os error 2)\n"
        );
    }

    #[test]
    fn a_cause_that_the_message_ends_with_is_not_repeated() {
        #[derive(Debug, thiserror::Error)]
        #[error("wrapped: {0}")]
        struct Wrapped(#[source] Open);
        let text = plain_ui().error_text(&Wrapped(open("a")), None);
        assert_eq!(text, "sbx: error: wrapped: can't open `a`: No such file or directory (os error 2)\n");
    }

    #[test]
    fn no_message_writes_raw_control_characters_or_passes_for_another() {
        let text = plain_ui().error_text(&open("a\u{1b}]0;x\u{7}\nsbx: all is well"), Some("one\ntwo"));
        let expected = "\
sbx: error: can't open `a\\u{1b}]0;x\\u{7}
sbx:   sbx: all is well`: No such file or directory (os error 2)
sbx: hint: one
sbx: hint: two
";
        assert_eq!(text, expected);
        assert_eq!(plain("a\nb\u{1b}"), "sbx: a\\nb\\u{1b}\n");
    }

    #[test]
    fn words_are_shown_as_they_could_be_typed() {
        let line = ["echo", "a b", "", "it's", "\u{1b}", "-j4", "x=/y"].map(str::to_owned);
        assert_eq!(words(&line), r"echo 'a b' '' 'it'\''s' '\u{1b}' -j4 x=/y");
    }

    #[test]
    fn each_line_of_a_block_has_the_prefix() {
        assert_eq!(prefixed("a\n\n  b\n"), "sbx: a\nsbx: \nsbx:   b\n");
        assert_eq!(prefixed(""), "");
    }

    #[test]
    fn colour_follows_the_stream_unless_told() {
        assert!(Colour::Auto { discouraged: false }.on(true));
        assert!(!Colour::Auto { discouraged: false }.on(false));
        assert!(!Colour::Auto { discouraged: true }.on(true));
        assert!(Colour::Always.on(false));
        assert!(!Colour::Never.on(true));
    }
}
