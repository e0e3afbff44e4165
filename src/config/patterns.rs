//! The globs of `inputs` and `outputs`.

use globset::GlobBuilder;

use super::model::Pattern;
use super::values::Bad;
use crate::path::{PathError, RelPath};

/// `PATH_MAX`: no path that a longer pattern could name can be opened.
const LENGTH_MAX: usize = 4096;

/// How deep `{…}` may nest. The regex behind a glob has a limit of 250.
const NESTING_MAX: usize = 10;

/// One pattern of `inputs` or `outputs`.
pub(super) fn pattern(text: &str) -> Result<Pattern, Bad> {
    let (negated, glob) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
    if glob.len() > LENGTH_MAX {
        return Err(Bad::new(format!("has more than {LENGTH_MAX} bytes")));
    }
    let path = RelPath::new(glob).map_err(|error| match error {
        PathError::Empty if glob.is_empty() => Bad::new("is empty"),
        PathError::Empty => {
            Bad::new("names the project's directory itself").hint("in `inputs`, `**` is everything in it")
        }
        PathError::NotRelative | PathError::NotAbsolute => {
            Bad::new("is absolute").hint("patterns are relative to this file; a `[[mount]]` shows other places")
        }
        PathError::Parent => {
            Bad::new("has a `..`").hint("patterns stay below this file; a `[[mount]]` shows other places")
        }
        PathError::Control => Bad::new("has a control character"),
    })?;
    // A brace begins and ends a component too: `{a,b/**}` is two patterns.
    let ends_component = |c: char| c == '/' || (glob.contains('{') && "{,}".contains(c));
    if path.as_str().split(ends_component).any(|part| part.contains("**") && part != "**") {
        return Err(Bad::new("has a `**` that does not stand alone between slashes")
            .hint("`**/*.c` is every `.c` file in this directory and all below"));
    }
    if nesting(glob) > NESTING_MAX {
        return Err(Bad::new(format!("has `{{…}}` nested more than {NESTING_MAX} deep")));
    }
    match GlobBuilder::new(path.as_str()).literal_separator(true).build() {
        Ok(_) => Ok(Pattern { glob: path, negated }),
        Err(error) => {
            Err(Bad::new(format!("is no glob: {}", error.kind())).hint("`\\` before a character takes it as it is"))
        }
    }
}

/// How deep braces nest, at the most: a brace that is escaped or in a class counts too.
fn nesting(glob: &str) -> usize {
    let depths = glob.chars().scan(0_usize, |depth, c| {
        *depth = match c {
            '{' => *depth + 1,
            '}' => depth.saturating_sub(1),
            _ => *depth,
        };
        Some(*depth)
    });
    depths.max().unwrap_or(0)
}

/// What an output may not be: all of the project, git's own files, the file that says what the sandbox is.
pub(super) fn output(pattern: &Pattern) -> Result<(), Bad> {
    let mut parts = pattern.glob.as_str().split('/');
    if pattern.negated {
        Ok(())
    } else if parts.clone().all(|part| matches!(part, "*" | "**")) {
        Err(Bad::new("is the whole project").hint("name what the command makes, such as \"build/**\""))
    } else if parts.next() == Some(".git") {
        Err(Bad::new("is in `.git`").hint("a command must not write hooks or settings that run outside"))
    } else if pattern.glob.as_str() == "sandbox.toml" {
        Err(Bad::new("is the file that declares the sandbox").hint("a command must not change what holds it"))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(text: &str) -> String {
        pattern(text).unwrap_err().why
    }

    #[test]
    fn patterns_are_normalised() {
        let plain = pattern("./src//*.c").unwrap();
        assert_eq!((plain.glob.as_str(), plain.negated), ("src/*.c", false));
        let negated = pattern("!src/**/*.tmp").unwrap();
        assert_eq!((negated.glob.as_str(), negated.negated), ("src/**/*.tmp", true));
        assert_eq!(pattern("\\!odd").unwrap().glob.as_str(), "\\!odd");
    }

    #[test]
    fn bad_patterns_say_why() {
        assert_eq!(why(""), "is empty");
        assert_eq!(why("!"), "is empty");
        assert_eq!(why("."), "names the project's directory itself");
        assert_eq!(why("/etc/*"), "is absolute");
        assert_eq!(why("a/../b"), "has a `..`");
        assert_eq!(why("a\nb"), "has a control character");
        assert_eq!(why("src/**.c"), "has a `**` that does not stand alone between slashes");
        assert!(why("src/[a").starts_with("is no glob: unclosed character class"), "{}", why("src/[a"));
        assert!(why("{a").starts_with("is no glob: "));
        assert_eq!(why(&"a".repeat(4097)), "has more than 4096 bytes");
    }

    #[test]
    fn every_pattern_that_is_taken_compiles() {
        let nested = |depth| format!("{}a{}", "{".repeat(depth), "}".repeat(depth));
        assert_eq!(why(&nested(11)), "has `{…}` nested more than 10 deep");
        for text in [nested(10), "?".repeat(4096), "{a,[!b-z]}".repeat(400)] {
            let pattern = pattern(&text).unwrap();
            GlobBuilder::new(pattern.glob.as_str()).literal_separator(true).build().unwrap().compile_matcher();
        }
    }

    #[test]
    fn outputs_leave_the_project_its_own() {
        for text in ["**", "*", "**/*", "./**", ".git", ".git/hooks/*", "sandbox.toml"] {
            assert!(output(&pattern(text).unwrap()).is_err(), "{text}");
        }
        for text in ["build/**", "*.o", ".github/x", "!**", "sub/sandbox.toml"] {
            assert!(output(&pattern(text).unwrap()).is_ok(), "{text}");
        }
    }
}
