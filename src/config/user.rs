//! The user's own configuration: `config.toml` in `$XDG_CONFIG_HOME/sbx`, else in `~/.config/sbx`.
//!
//! It changes how sbx behaves, never what a sandbox contains: nothing of it enters a run's identity.

use std::io;
use std::num::NonZero;
use std::path::{Path, PathBuf};

use super::fault::{Fault, Faults};
use super::read::{At, choice, keys_of, read_section, section};
use super::values::{self, Bad};
use super::{ConfigError, file, syntax};

/// What the file says, checked; `None` where it says nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct User {
    /// The store's directory, absolute.
    pub cache_dir: Option<PathBuf>,
    /// What the store may take of the disk, in bytes.
    pub cache_size: Option<u64>,
    /// How many threads hash at most.
    pub jobs: Option<NonZero<usize>>,
    /// When what sbx says is coloured.
    pub color: Option<Color>,
}

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Color {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

section! {
    /// The user's configuration of sbx.
    File {
        /// The store's directory, an absolute path.
        cache_dir: Option<At<String>>,
        /// What the store may take of the disk, such as 20GiB.
        cache_size: Option<At<String>>,
        /// How many threads hash inputs at most.
        jobs: Option<At<i64>>,
        /// When to colour.
        color: Option<At<Written>>,
    }
}

choice! {
    /// When to colour.
    Written {
        /// On a terminal.
        Auto = "auto",
        /// Always.
        Always = "always",
        /// Never.
        Never = "never",
    }
}

/// Where a key belongs that this file does not know.
fn belongs(key: &str) -> Option<String> {
    keys_of::<file::File>().contains(&key).then(|| "in a project's sandbox.toml".to_owned())
}

/// Reads and checks the file at `path`; one that is not there says nothing.
///
/// # Errors
/// When it is there and can't be read, is too large or no UTF-8, or has faults: all of them at once.
pub fn load(path: &Path) -> Result<User, ConfigError> {
    match super::read_text(path) {
        Ok(text) => Ok(parse(&text, &path.to_string_lossy())?),
        // A home that is no directory (`/dev/null`) holds no file either.
        Err(ConfigError::Read { source, .. })
            if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            Ok(User::default())
        }
        Err(error) => Err(error),
    }
}

/// Checks the text of a `config.toml`; `name` is what faults call it. A byte order mark is skipped.
///
/// # Errors
/// All faults, sorted by place.
pub fn parse(text: &str, name: &str) -> Result<User, Faults> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let document = syntax::parse(text);
    let mut faults = Vec::new();
    let file: File = read_section((document.root.get_ref(), document.root.span()), "", &mut faults, belongs);
    let user = User {
        cache_dir: taken("cache_dir", file.cache_dir.as_ref(), |text| values::absolute_path(text), &mut faults),
        cache_size: taken("cache_size", file.cache_size.as_ref(), |text| values::cache_size(text), &mut faults),
        jobs: taken("jobs", file.jobs.as_ref(), |number| values::jobs(*number), &mut faults),
        color: file.color.map(|at| match at.value {
            Written::Auto => Color::Auto,
            Written::Always => Color::Always,
            Written::Never => Color::Never,
        }),
    };
    faults.retain(|fault| document.is_sound(&fault.span));
    faults.extend(document.faults);
    if faults.is_empty() { Ok(user) } else { Err(Faults::new(name, text, faults)) }
}

/// What `check` makes of the value, or a fault.
fn taken<W, T>(
    key: &str,
    at: Option<&At<W>>,
    check: impl FnOnce(&W) -> Result<T, Bad>,
    faults: &mut Vec<Fault>,
) -> Option<T> {
    let at = at?;
    let fault = |Bad { why, hint }| Fault { hint, ..Fault::new(&at.span, format!("`{key}` {why}")) };
    check(&at.value).map_err(|bad| faults.push(fault(bad))).ok()
}

/// A size as `cache_size` and `SBX_CACHE_SIZE` have it, in bytes.
///
/// # Errors
/// When it is none.
pub fn size(text: &str) -> Result<u64, Bad> {
    values::cache_size(text)
}

/// A number of threads as `jobs` and `SBX_JOBS` have it.
///
/// # Errors
/// When it is none.
pub fn jobs(number: i64) -> Result<NonZero<usize>, Bad> {
    values::jobs(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_taken() {
        let text = "cache_dir = '/var/cache/me'\ncache_size = '20GiB'\njobs = 2\ncolor = 'never'\n";
        let user = User {
            cache_dir: Some("/var/cache/me".into()),
            cache_size: Some(20 << 30),
            jobs: NonZero::new(2),
            color: Some(Color::Never),
        };
        assert_eq!(parse(text, "f"), Ok(user));
        assert_eq!(parse("\u{feff}# nothing\n", "f"), Ok(User::default()));
    }

    #[test]
    fn all_faults_are_said_at_once_with_their_places_and_hints() {
        let text =
            "cache_dir = 'cache'\ncache_size = 20\ncolour = 'auto'\njobs = 0\ncolor = 'red'\ninputs = []\nx = [\n";
        let shown = parse(text, "config.toml").unwrap_err().render(false);
        insta::assert_snapshot!(shown);
        for (text, why) in
            [("cache_size = '0B'", "is zero"), ("cache_size = '5'", "is no size"), ("jobs = 1025", "1025")]
        {
            assert!(parse(text, "f").unwrap_err().list()[0].message.contains(why), "{text}");
        }
    }

    #[test]
    fn only_a_file_that_is_not_there_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        assert_eq!(load(&path).unwrap(), User::default());
        assert_eq!(load(Path::new("/dev/null/sbx/config.toml")).unwrap(), User::default());
        assert!(matches!(load(dir.path()), Err(ConfigError::NotAFile { .. })));
        std::fs::write(&path, "jobs = 3").unwrap();
        assert_eq!(load(&path).unwrap().jobs, NonZero::new(3));
        std::fs::write(&path, b"\xff").unwrap();
        assert!(matches!(load(&path), Err(ConfigError::NotUtf8 { .. })));
    }
}
