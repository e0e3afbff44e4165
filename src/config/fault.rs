//! A fault of a `sandbox.toml` as data, and how faults are shown.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet, normalize_untrusted_str};

/// A place in the text: byte offsets.
pub type Span = Range<usize>;

/// How many faults are shown in full; what is more is counted.
const SHOWN: usize = 100;

/// One thing that is wrong in a file, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where it is: byte offsets into the text.
    pub span: Span,
    /// What is wrong; lowercase, one line.
    pub message: String,
    /// A few words beside the caret.
    pub label: Option<String>,
    /// A second place that has to do with it, and what it is.
    pub also: Option<(Span, String)>,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Fault {
    pub(super) fn new(span: &Span, message: impl Into<String>) -> Self {
        Self { span: span.clone(), message: message.into(), label: None, also: None, hint: None }
    }

    pub(super) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    pub(super) fn also(mut self, span: &Span, label: impl Into<String>) -> Self {
        self.also = Some((span.clone(), label.into()));
        self
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// All faults of one file, in the order of their places; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    name: String,
    text: String,
    list: Vec<Fault>,
}

impl Faults {
    /// Sorts `list` by place and drops what is said twice.
    pub(super) fn new(name: &str, text: &str, mut list: Vec<Fault>) -> Self {
        list.sort_by(|a, b| (a.span.start, a.span.end, &a.message).cmp(&(b.span.start, b.span.end, &b.message)));
        list.dedup_by(|a, b| a.span == b.span && a.message == b.message);
        Self { name: normalize_untrusted_str(name), text: text.to_owned(), list }
    }

    /// The faults, sorted by place.
    pub fn list(&self) -> &[Fault] {
        &self.list
    }

    /// What people read: each fault with file, line, column, caret and hint, an empty line between two; with terminal
    /// colours or without. Control characters of the file and of its name are made visible.
    pub fn render(&self, coloured: bool) -> String {
        let renderer = if coloured { Renderer::styled() } else { Renderer::plain() };
        let lines = line_starts(&self.text);
        let mut shown: Vec<String> =
            self.list.iter().take(SHOWN).map(|fault| self.render_one(fault, &lines, &renderer)).collect();
        if self.list.len() > SHOWN {
            shown.push(format!("and {} more faults", self.list.len() - SHOWN));
        }
        shown.join("\n\n") + "\n"
    }

    /// Gives the renderer only the lines from the fault's first place to its last, so that many faults of a long
    /// file cost what they show.
    fn render_one(&self, fault: &Fault, lines: &[usize], renderer: &Renderer) -> String {
        let places = || std::iter::once(&fault.span).chain(fault.also.iter().map(|(span, _)| span));
        let line_of = |offset: usize| lines.partition_point(|start| *start <= offset) - 1;
        let first = places().map(|span| line_of(span.start)).min().unwrap_or(0);
        let last = places().map(|span| line_of(span.start)).max().unwrap_or(0);
        let start = lines[first];
        let source = &self.text[start..lines.get(last + 1).copied().unwrap_or(self.text.len())];
        // A value over several lines is marked on its first.
        let within = |span: &Span| {
            let line_end = lines.get(line_of(span.start) + 1).map_or(self.text.len(), |next| next - 1);
            span.start - start..span.end.min(line_end).max(span.start) - start
        };
        let mut snippet = Snippet::source(source).line_start(first + 1).path(&self.name).annotation(
            AnnotationKind::Primary
                .span(within(&fault.span))
                .label(fault.label.as_deref().map(normalize_untrusted_str)),
        );
        if let Some((span, label)) = &fault.also {
            snippet =
                snippet.annotation(AnnotationKind::Context.span(within(span)).label(normalize_untrusted_str(label)));
        }
        let mut group = Level::ERROR.primary_title(&fault.message).element(snippet);
        if let Some(hint) = &fault.hint {
            group = group.element(Level::HELP.with_name("hint").message(normalize_untrusted_str(hint)));
        }
        renderer.render(&[group])
    }
}

fn line_starts(text: &str) -> Vec<usize> {
    std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect()
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.list.len();
        write!(f, "{:?} has {count} fault{}", self.name, if count == 1 { "" } else { "s" })
    }
}

impl std::error::Error for Faults {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_shows_file_line_column_caret_and_hint() {
        let text = "a = 1\nb = 2\nimputs = []\n";
        let fault = Fault::new(&(12..18), "unknown key").label("here").also(&(6..7), "after this").hint("look up");
        let shown = Faults::new("sandbox.toml", text, vec![fault]).render(false);
        let expected = "error: unknown key\n --> sandbox.toml:3:1\n  |\n2 | b = 2\n  | - after this\n\
                        3 | imputs = []\n  | ^^^^^^ here\n  |\n  = hint: look up\n";
        assert_eq!(shown, expected);
    }

    #[test]
    fn names_of_the_file_don_t_reach_the_terminal_raw() {
        let fault = Fault::new(&(0..1), "a \u{1b}[31m").label("b \u{1b}[31m").hint("c \u{1b}[31m");
        let shown = Faults::new("\u{1b}[31m", "x = 1\n", vec![fault]).render(false);
        assert!(!shown.contains('\u{1b}'), "{shown:?}");
    }

    #[test]
    fn faults_are_sorted_and_said_once() {
        let list = vec![Fault::new(&(4..5), "b"), Fault::new(&(0..1), "a"), Fault::new(&(4..5), "b")];
        let faults = Faults::new("f", "a\nb\nc\n", list);
        assert_eq!(faults.list().iter().map(|fault| fault.message.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(faults.to_string(), "\"f\" has 2 faults");
    }

    #[test]
    fn a_place_over_several_lines_is_marked_on_its_first() {
        let text = "inputs = {\n a = 1\n}\n";
        let shown = Faults::new("f", text, vec![Fault::new(&(9..19), "wrong")]).render(false);
        assert!(shown.contains("1 | inputs = {\n  |          ^"), "{shown}");
        assert!(!shown.contains("a = 1"), "{shown}");
    }

    #[test]
    fn the_end_of_the_text_can_be_shown() {
        for text in ["", "a", "a\n", "\u{e9}"] {
            let shown = Faults::new("f", text, vec![Fault::new(&(text.len()..text.len()), "ends early")]).render(false);
            assert!(shown.starts_with("error: ends early\n"), "{shown}");
        }
    }

    #[test]
    fn control_characters_reach_no_terminal() {
        let text = "a = \"\u{1b}[31m\"\n";
        let shown = Faults::new("x\u{1b}y", text, vec![Fault::new(&(4..5), "bad \u{1b}[2J")]).render(false);
        assert!(!shown.contains('\u{1b}'), "{shown:?}");
    }

    #[test]
    fn more_than_a_hundred_faults_are_counted() {
        let text = "a\n".repeat(150);
        let list = (0..150).map(|line| Fault::new(&(line * 2..line * 2 + 1), "no")).collect();
        let shown = Faults::new("f", &text, list).render(false);
        assert_eq!(shown.matches("error: no").count(), 100);
        assert!(shown.ends_with("and 50 more faults\n"));
    }
}
