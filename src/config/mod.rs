//! From the text of a `sandbox.toml` to its checked meaning.
//!
//! [`load`] reads a file, [`parse`] a text. Both find every fault in one pass; [`Faults`] holds them as data and
//! renders them for people. [`user`] is the same for the user's own configuration. [`discover`] finds the file that a command line means, [`schema`] describes the format
//! for editors.
//!
//! ```
//! let config = sbx::config::parse("inputs = ['src/**']\n[task.test]\ncommand = ['make', 'test']\n", "sandbox.toml").unwrap();
//! assert_eq!(config.tasks["test"].settings.inputs[0].glob.as_str(), "src/**");
//!
//! let faults = sbx::config::parse("imputs = []", "sandbox.toml").unwrap_err();
//! assert_eq!(faults.list()[0].hint.as_deref(), Some("did you mean `inputs`?"));
//! ```

mod check;
pub mod discover;
mod fault;
mod file;
pub mod model;
mod needs;
mod patterns;
mod read;
mod relate;
pub mod rules;
mod syntax;
pub mod url;
pub mod user;
mod values;

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

pub use fault::{Fault, Faults, Span};
use model::Config;
use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::Value;
pub use values::Bad;

/// The largest file that is read, in bytes.
pub const SIZE_MAX: u64 = 1 << 20;

/// Why a file gives no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("can't read {path:?}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// It is a directory, a device, a pipe.
    #[error("{path:?} is not a regular file")]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// It has more than [`SIZE_MAX`] bytes.
    #[error("{path:?} has more than {SIZE_MAX} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// It is not UTF-8, as TOML is.
    #[error("{path:?} is not UTF-8: the byte at offset {offset} (line {line})")]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// The first byte that is no UTF-8, counted from 0.
        offset: usize,
        /// Its line, counted from 1.
        line: usize,
    },
    /// What it says is wrong.
    #[error(transparent)]
    Faults(#[from] Faults),
}

impl ConfigError {
    /// What helps; [`Faults`] have a hint each.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotUtf8 { .. } => Some("save it as UTF-8"),
            Self::TooLarge { .. } => Some("a glob stands for many files"),
            Self::Read { .. } | Self::NotAFile { .. } | Self::Faults(_) => None,
        }
    }
}

/// Reads and checks the file at `path`; faults show the path as it is given here.
///
/// # Errors
/// When the file can't be read, is too large or no UTF-8, or has faults: all of them at once.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    Ok(parse(&read_text(path)?, &path.to_string_lossy())?)
}

/// The text of a file, within [`SIZE_MAX`].
fn read_text(path: &Path) -> Result<String, ConfigError> {
    let read_error = |source| ConfigError::Read { path: path.to_owned(), source };
    // Before it is opened: to open a pipe would wait for its other end.
    if !std::fs::metadata(path).map_err(read_error)?.is_file() {
        return Err(ConfigError::NotAFile { path: path.to_owned() });
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(SIZE_MAX + 1).read_to_end(&mut bytes)).map_err(read_error)?;
    if bytes.len() as u64 > SIZE_MAX {
        return Err(ConfigError::TooLarge { path: path.to_owned() });
    }
    String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count();
        ConfigError::NotUtf8 { path: path.to_owned(), offset, line }
    })
}

/// Checks the text of a `sandbox.toml`; `name` is what faults call it. A byte order mark is skipped.
///
/// # Errors
/// All faults, sorted by place.
pub fn parse(text: &str, name: &str) -> Result<Config, Faults> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let document = syntax::parse(text);
    let mut faults = Vec::new();
    let file = file::read(&document.root, &mut faults);
    let config = check::check(&file, text.len(), &mut faults);
    faults.retain(|fault| document.is_sound(&fault.span));
    faults.extend(document.faults);
    if faults.is_empty() { Ok(config) } else { Err(Faults::new(name, text, faults)) }
}

/// The JSON Schema (draft-07) of a `sandbox.toml`, for editors; it knows the keys and their types, not every rule.
pub fn schema() -> Schema {
    SchemaSettings::draft07()
        .with_transform(RecursiveTransform(without_null))
        .into_generator()
        .into_root_schema_for::<file::File>()
}

/// TOML has no null: a key that may be absent is of its one type when it is there.
fn without_null(schema: &mut Schema) {
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            schema.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(mut choices)) = schema.remove("anyOf") {
        choices.retain(|choice| choice.get("type") != Some(&Value::from("null")));
        schema.insert("allOf".to_owned(), Value::Array(choices));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_bytes(bytes: &[u8]) -> Result<Config, ConfigError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, bytes).unwrap();
        load(file.path())
    }

    #[test]
    fn an_empty_file_is_a_sandbox_without_inputs() {
        assert_eq!(load_bytes(b"").unwrap(), Config::default());
    }

    #[test]
    fn a_byte_order_mark_and_carriage_returns_change_nothing() {
        let plain = load_bytes(b"inputs = ['a']\n[sandbox]\nuid = 1\n").unwrap();
        assert_eq!(load_bytes(b"\xef\xbb\xbfinputs = ['a']\r\n[sandbox]\r\nuid = 1\r\n").unwrap(), plain);
        let faults = parse("\u{feff}imputs = []", "f").unwrap_err();
        assert_eq!(faults.list()[0].span, 0..6);
    }

    #[test]
    fn bytes_that_are_no_text_are_refused_by_their_place() {
        let error = load_bytes(b"inputs = []\n# \xff\n").unwrap_err();
        assert!(matches!(error, ConfigError::NotUtf8 { offset: 14, line: 2, .. }), "{error:?}");
    }

    #[test]
    fn a_file_has_at_most_a_mebibyte() {
        let mut bytes = vec![b'#'; 1 << 20];
        assert!(load_bytes(&bytes).is_ok());
        bytes.push(b'#');
        assert!(matches!(load_bytes(&bytes), Err(ConfigError::TooLarge { .. })));
    }

    #[test]
    fn only_regular_files_are_read() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(load(dir.path()), Err(ConfigError::NotAFile { .. })));
        assert!(matches!(load(Path::new("/dev/null")), Err(ConfigError::NotAFile { .. })));
        assert!(matches!(load(&dir.path().join("none")), Err(ConfigError::Read { .. })));
    }

    #[test]
    fn faults_name_the_file_as_it_was_given() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sandbox.toml");
        std::fs::write(&path, "x = 1").unwrap();
        let Err(ConfigError::Faults(faults)) = load(&path) else { panic!() };
        assert!(faults.render(false).contains(&format!("--> {}:1:1", path.display())));
    }

    #[test]
    fn what_a_file_comes_to_is_bounded() {
        let tasks = |count: usize| {
            (0..count).fold(String::new(), |text, number| format!("{text}[task.t{number}]\ncommand = ['x']\n"))
        };
        assert_eq!(parse(&tasks(1000), "f").unwrap().tasks.len(), 1000);
        let faults = parse(&format!("inputs = [{}]\n{}", "'a',".repeat(100_000), tasks(1000)), "f").unwrap_err();
        assert!(faults.list()[0].message.starts_with("1000 tasks are too many for a file of "));
    }

    #[test]
    fn a_large_file_with_many_faults_is_shown_in_part() {
        let text = "x = 1\n".repeat(10_000);
        let shown = parse(&text, "f").unwrap_err().render(false);
        assert!(shown.ends_with(" more faults\n"), "{}", &shown[shown.len() - 100..]);
    }
}
