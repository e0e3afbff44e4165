//! Standard output: the results of every command but `run`, whose standard output is the command's alone.

use std::io::{self, Write as _};

use serde::Serialize;

use crate::error::Error;
use crate::ui::escape;

/// Writes `text`. A reader that has gone (`sbx hash --list | head -1`) has what it wanted.
///
/// # Errors
/// When standard output can't be written for another reason, such as a full disk.
pub(super) fn text(text: &str) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(source) => Err(Error::Output { source }),
        Ok(()) => Ok(()),
    }
}

/// Writes text of several lines, each made safe for a terminal.
///
/// # Errors
/// As [`text`].
pub(super) fn lines(lines: &str) -> Result<(), Error> {
    text(&lines.lines().flat_map(|line| [escape(line), "\n".into()]).collect::<String>())
}

/// A table with a line of headings: columns as wide as their longest cell, each cell made safe for a terminal.
pub(super) fn table<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let head = head.map(str::to_owned);
    let lines: Vec<[String; N]> =
        std::iter::once(head).chain(rows).map(|cells| cells.map(|cell| escape(&cell).into_owned())).collect();
    let width = |column: usize| lines.iter().map(|cells| cells[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for cells in &lines {
        let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        text += padded.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

/// Writes `value` as JSON that people can read too.
///
/// # Errors
/// As [`text`].
pub(super) fn json<T: Serialize>(value: &T) -> Result<(), Error> {
    text(&json_text(value)?)
}

/// `value` as indented JSON with a final newline.
///
/// # Errors
/// When it can't be written as JSON.
pub(super) fn json_text<T: Serialize>(value: &T) -> Result<String, Error> {
    let mut text = serde_json::to_string_pretty(value).map_err(|source| Error::Output { source: source.into() })?;
    text.push('\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned_and_harmless() {
        let rows = [["a".to_owned(), "größe".to_owned()], ["\u{1b}[2J".to_owned(), String::new()]];
        assert_eq!(table(["ONE", "TWO"], rows.into_iter()), "ONE        TWO\na          größe\n\\u{1b}[2J\n");
    }
}
