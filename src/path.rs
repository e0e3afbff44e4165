//! Paths that can't be mixed up: inside the sandbox, and below the project's root.
//!
//! Host paths are `std::path::Path`. Both types here are UTF-8, normalised, and never contain `.`, `..`, empty
//! components or NUL, so joining them to a root by descriptor can't leave that root lexically.

use std::fmt;

/// How the names begin that sbx itself puts into a project's root while it brings outputs back. They are never inputs
/// and never outputs.
pub const STAGING_PREFIX: &str = ".sbx-outputs-";

/// A file name of whatever bytes as text that is safe to print: control characters, characters that don't show, and
/// bytes that are not UTF-8 are escaped.
///
/// ```
/// assert_eq!(sbx::path::printable(b"a b\x1b[2J\xff"), "a b\\u{1b}[2J\\xff");
/// ```
pub fn printable(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\'' | '"' => text.push(character),
                other => text.extend(other.escape_debug()),
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// Why a text is not a path of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// The text is empty.
    #[error("a path can't be empty")]
    Empty,
    /// A guest path must begin with `/`.
    #[error("a path inside the sandbox must begin with `/`")]
    NotAbsolute,
    /// A relative path must not begin with `/`.
    #[error("the path must be relative")]
    NotRelative,
    /// `..` is refused, wherever it stands.
    #[error("`..` is not allowed here")]
    Parent,
    /// A NUL byte or another control character.
    #[error("control characters are not allowed in a path")]
    Control,
}

fn normalise(text: &str) -> Result<String, PathError> {
    if text.is_empty() {
        return Err(PathError::Empty);
    }
    if text.chars().any(char::is_control) {
        return Err(PathError::Control);
    }
    let mut normal = String::with_capacity(text.len());
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err(PathError::Parent),
            _ => {
                normal.push('/');
                normal.push_str(part);
            }
        }
    }
    Ok(normal)
}

/// An absolute, normalised path inside the sandbox.
///
/// ```
/// use sbx::path::GuestPath;
/// assert_eq!(GuestPath::new("/src//sub/./").unwrap().as_str(), "/src/sub");
/// assert!(GuestPath::new("src").is_err());
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub struct GuestPath(String);

impl GuestPath {
    /// Checks and normalises `text`.
    ///
    /// # Errors
    /// When `text` is not absolute, or holds `..` or a control character.
    pub fn new(text: &str) -> Result<Self, PathError> {
        let normal = normalise(text)?;
        if !text.starts_with('/') {
            return Err(PathError::NotAbsolute);
        }
        Ok(Self(if normal.is_empty() { "/".to_owned() } else { normal }))
    }

    /// The path as text, beginning with `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path without its leading `/`; empty for the root.
    pub fn relative(&self) -> &str {
        &self.0[1..]
    }

    /// This path with `below` appended.
    pub fn join(&self, below: &RelPath) -> Self {
        Self(if self.0 == "/" { format!("/{}", below.0) } else { format!("{}/{}", self.0, below.0) })
    }

    /// True when `self` is `other` or lies below it.
    pub fn is_within(&self, other: &Self) -> bool {
        other.0 == "/" || self.0.strip_prefix(&other.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// A relative, normalised, non-empty path below some root.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub struct RelPath(String);

impl RelPath {
    /// Checks and normalises `text`.
    ///
    /// # Errors
    /// When `text` is empty (or only `.`), absolute, or holds `..` or a control character.
    pub fn new(text: &str) -> Result<Self, PathError> {
        if text.starts_with('/') {
            return Err(PathError::NotRelative);
        }
        let normal = normalise(text)?;
        if normal.is_empty() {
            return Err(PathError::Empty);
        }
        Ok(Self(normal[1..].to_owned()))
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! show {
    ($($name:ident)*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    )*};
}
show!(GuestPath RelPath);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_paths_are_absolute_and_normal() {
        assert_eq!(GuestPath::new("/").unwrap().as_str(), "/");
        assert_eq!(GuestPath::new("/a/./b//").unwrap().as_str(), "/a/b");
        assert_eq!(GuestPath::new("a"), Err(PathError::NotAbsolute));
        assert_eq!(GuestPath::new("/a/../b"), Err(PathError::Parent));
        assert_eq!(GuestPath::new("/a\0b"), Err(PathError::Control));
        assert_eq!(GuestPath::new(""), Err(PathError::Empty));
    }

    #[test]
    fn relative_paths_stay_below() {
        assert_eq!(RelPath::new("./a//b/").unwrap().as_str(), "a/b");
        assert_eq!(RelPath::new("."), Err(PathError::Empty));
        assert_eq!(RelPath::new("/a"), Err(PathError::NotRelative));
        assert_eq!(RelPath::new("a/.."), Err(PathError::Parent));
    }

    #[test]
    fn within_respects_components() {
        let path = |text| GuestPath::new(text).unwrap();
        assert!(path("/src/a").is_within(&path("/src")));
        assert!(path("/src").is_within(&path("/src")));
        assert!(path("/src").is_within(&path("/")));
        assert!(!path("/srcs").is_within(&path("/src")));
    }
}
