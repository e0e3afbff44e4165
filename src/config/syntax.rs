//! From text to a document with spans; syntax errors become faults.

use std::collections::BTreeSet;

use toml::Spanned;
use toml::de::{DeTable, DeValue, Error};

use super::fault::{Fault, Span};

/// A parsed text.
pub(super) struct Document<'i> {
    /// The root table; what a syntax error broke is missing or stands in for it.
    pub(super) root: Spanned<DeTable<'i>>,
    /// The syntax errors: one for each broken value, for what follows inside of it is mostly its echo.
    pub(super) faults: Vec<Fault>,
    /// The values that a syntax error broke. `None`: an error stands outside of the values (in a header, in a
    /// key), and which key belongs to which table is in doubt.
    pub(super) broken: Option<Vec<Span>>,
}

impl Document<'_> {
    /// True when what is said about this place is not an echo of a syntax error.
    pub(super) fn is_sound(&self, span: &Span) -> bool {
        self.broken.as_ref().is_some_and(|broken| around(broken, span.start).is_none())
    }
}

/// Parses `text`, going on after an error.
pub(super) fn parse(text: &str) -> Document<'_> {
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut values = Vec::new();
    collect_values(text, root.get_ref(), &mut values);
    values.sort_by_key(|span| span.start);

    let mut errors: Vec<(Span, Error)> =
        errors.into_iter().map(|error| (error.span().unwrap_or(text.len()..text.len()), error)).collect();
    errors.sort_by_key(|(span, _)| (span.start, span.end));
    let unclosed: BTreeSet<usize> =
        errors.iter().filter(|(_, error)| error.message().starts_with("unclosed")).map(|(at, _)| at.start).collect();

    let mut faults = Vec::new();
    let mut broken: Vec<Span> = Vec::new();
    let mut in_doubt = false;
    for (span, error) in errors {
        let Some(value) = around(&values, span.start) else {
            in_doubt = true;
            faults.push(Fault::new(&span, error.message()));
            continue;
        };
        if broken.last() == Some(value) {
            continue;
        }
        let closer = match text[value.clone()].chars().next() {
            Some('[') if unclosed.contains(&value.end) => Some(']'),
            Some('{') if unclosed.contains(&value.end) => Some('}'),
            _ => None,
        };
        faults.push(match closer {
            Some(closer) => Fault::new(&(value.start..value.start + 1), format!("no `{closer}` closes this")),
            None if value.is_empty() => Fault::new(value, "no value after the `=`"),
            None => Fault::new(&span, error.message()),
        });
        broken.push(value.clone());
    }
    Document { root, faults, broken: (!in_doubt).then_some(broken) }
}

/// The value that holds the place or ends there; the values are sorted and apart from each other.
fn around(values: &[Span], place: usize) -> Option<&Span> {
    let before = values.partition_point(|value| value.start <= place);
    values[..before].last().filter(|value| place <= value.end)
}

/// The spans of all values written after a `=`: not of the tables that have a header or a dotted key, whose spans are
/// that header or key, but of what those hold.
fn collect_values(text: &str, table: &DeTable<'_>, values: &mut Vec<Span>) {
    for (key, value) in table.iter() {
        let between = text.get(key.span().end..value.span().start).unwrap_or_default();
        match value.get_ref() {
            _ if between.trim_matches([' ', '\t']) == "=" => values.push(value.span()),
            DeValue::Table(table) => collect_values(text, table, values),
            DeValue::Array(items) => {
                for table in items.iter().filter_map(|item| item.get_ref().as_table()) {
                    collect_values(text, table, values);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Vec<(String, String)> {
        let document = parse(text);
        let place = |fault: &Fault| text[fault.span.clone()].to_owned();
        document.faults.iter().map(|fault| (place(fault), fault.message.clone())).collect()
    }

    #[test]
    fn a_sound_text_has_no_faults_and_all_its_places_are_sound() {
        let document = parse("a = 1\n[b]\nc = [1, { d = 2 }]\n");
        assert!(document.faults.is_empty());
        assert!(document.is_sound(&(0..1)));
    }

    #[test]
    fn a_broken_value_is_said_once_and_its_echoes_are_not() {
        let text = "a = [1,\n[b]\nc = x\n";
        assert_eq!(said(text), [("[".to_owned(), "no `]` closes this".to_owned())]);
        assert!(!parse(text).is_sound(&(9..10)));
    }

    #[test]
    fn what_stands_beside_a_broken_value_is_sound() {
        let text = "a = x\nb = 2\n";
        assert_eq!(said(text).len(), 1);
        assert!(!parse(text).is_sound(&(4..5)));
        assert!(parse(text).is_sound(&(10..11)));
    }

    #[test]
    fn two_broken_values_are_two_faults() {
        assert_eq!(said("[t]\na = x\n[[u]]\nb.c = y\nd =\n").len(), 3);
    }

    #[test]
    fn an_error_outside_of_values_leaves_everything_in_doubt() {
        let document = parse("[a\nb = 1\n\n[c]\nd = 2\n");
        assert_eq!(document.faults.len(), 1);
        assert!(!document.is_sound(&(15..16)));
    }

    #[test]
    fn an_array_is_no_header() {
        // The span of a table's value is its header, which looks like an array.
        let document = parse("[a]\nb = [c]\n[a.d]\ne = 1\n");
        let broken = document.broken.unwrap();
        assert_eq!((broken.len(), &broken[0]), (1, &(8..11)));
    }
}
