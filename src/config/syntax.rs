//! From text to a document with spans; syntax errors become faults.

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

/// Parses `text`, going on after an error.
pub(super) fn parse(text: &str) -> Document<'_> {
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut values = Vec::new();
    collect_values(text, root.get_ref(), &mut values);
    values.sort_by_key(|span| (span.start, std::cmp::Reverse(span.end)));

    let mut broken: Vec<Span> = Vec::new();
    let mut in_doubt = false;
    let mut errors: Vec<(Span, Error)> =
        errors.into_iter().map(|error| (error.span().unwrap_or(text.len()..text.len()), error)).collect();
    errors.sort_by_key(|(span, _)| (span.start, span.end));
    let unclosed: Vec<usize> =
        errors.iter().filter(|(_, error)| error.message().starts_with("unclosed")).map(|(at, _)| at.start).collect();

    let mut faults = Vec::new();
    for (span, error) in errors {
        match values.iter().find(|value| value.start <= span.start && span.start <= value.end) {
            None => {
                in_doubt = true;
                faults.push(Fault::new(&span, error.message()));
            }
            Some(value) if value.is_empty() => {
                faults.push(Fault::new(value, "no value after the `=`"));
                broken.push(value.clone());
            }
            Some(value) if broken.contains(value) => {}
            Some(value) => {
                let opener = text[value.clone()].chars().next();
                let closer = match opener {
                    Some('[') => Some(']'),
                    Some('{') => Some('}'),
                    _ => None,
                };
                let fault = match closer.filter(|_| unclosed.contains(&value.end)) {
                    Some(closer) => Fault::new(&(value.start..value.start + 1), format!("no `{closer}` closes this")),
                    None => Fault::new(&span, error.message()),
                };
                faults.push(fault);
                broken.push(value.clone());
            }
        }
    }
    Document { root, faults, broken: (!in_doubt).then_some(broken) }
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

impl Document<'_> {
    /// True when what is said about this place is not an echo of a syntax error.
    pub(super) fn is_sound(&self, span: &Span) -> bool {
        let touches = |value: &Span| value.start <= span.start && span.start <= value.end;
        self.broken.as_ref().is_some_and(|broken| !broken.iter().any(touches))
    }
}
