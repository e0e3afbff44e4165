//! Which paths the output patterns mean.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::config::model::Pattern;

/// The output patterns, ready to ask.
///
/// The last pattern that matches a path or a directory above it decides, so a directory that is matched comes with all
/// below it, and a later `!` takes away what lies below its match.
///
/// A wildcard never means `.git`: a command that could write a repository's configuration could make the caller's next
/// `git status` run anything. A pattern that says `.git`, or a directory that is named without wildcards, does.
#[derive(Debug)]
pub struct Selection {
    patterns: Vec<Pattern>,
    globs: GlobSet,
}

/// A pattern's place in the list, when one matched.
pub(super) type Deciding = Option<usize>;

impl Selection {
    /// Compiles `patterns`.
    ///
    /// # Errors
    /// When one is no glob; the check of the configuration has refused it before.
    pub fn new(patterns: &[Pattern]) -> Result<Self, globset::Error> {
        let mut globs = GlobSetBuilder::new();
        for pattern in patterns {
            let glob =
                GlobBuilder::new(pattern.glob.as_str()).literal_separator(true).backslash_escape(true).build()?;
            globs.add(glob);
        }
        Ok(Self { patterns: patterns.to_vec(), globs: globs.build()? })
    }

    /// Whether `path` (relative to the working directory) is selected.
    pub fn contains(&self, path: &str) -> bool {
        let decided = path_and_above(path).filter_map(|above| self.at(above, is_guarded(path))).max();
        self.is_selected(decided)
    }

    /// What decides about `path`, given what decided about the directory it is in. Every pattern that matches is marked
    /// in `seen`.
    pub(super) fn decide(&self, above: Deciding, path: &str, seen: &mut [bool]) -> Deciding {
        for index in self.globs.matches(path) {
            seen[index] = true;
        }
        let guarded = is_guarded(path);
        let above = if guarded && name_of(path) == ".git" {
            path_and_above(path).skip(1).filter_map(|above| self.at(above, true)).max()
        } else {
            above
        };
        above.max(self.at(path, guarded))
    }

    /// Whether the pattern that decided selects.
    pub(super) fn is_selected(&self, deciding: Deciding) -> bool {
        deciding.is_some_and(|index| !self.patterns[index].negated)
    }

    /// Whether something below the directory `path` could match, though the directory itself does not.
    pub(super) fn may_match_below(&self, path: &str) -> bool {
        self.patterns.iter().filter(|pattern| !pattern.negated).any(|pattern| {
            let glob = pattern.glob.as_str();
            match literal_part(glob) {
                None => is_below(glob, path),
                Some(prefix) => {
                    let reaches = glob.contains("**") || path.split('/').count() < glob.split('/').count();
                    is_below(prefix, path)
                        || (reaches && (prefix.is_empty() || prefix == path || is_below(path, prefix)))
                }
            }
        })
    }

    /// The globs that select and of which nothing was `seen`.
    pub(super) fn unmatched(&self, seen: &[bool]) -> Vec<String> {
        let unseen = self.patterns.iter().zip(seen).filter(|(pattern, seen)| !pattern.negated && !**seen);
        unseen.map(|(pattern, _)| pattern.glob.as_str().to_owned()).collect()
    }

    /// How many patterns there are.
    pub(super) fn len(&self) -> usize {
        self.patterns.len()
    }

    /// The last pattern that matches `path` itself.
    fn at(&self, path: &str, guarded: bool) -> Deciding {
        let last_first = self.globs.matches(path).into_iter().rev();
        last_first.into_iter().find(|index| {
            let Pattern { glob, negated } = &self.patterns[*index];
            !guarded || *negated || literal_part(glob.as_str()).is_none() || is_guarded(glob.as_str())
        })
    }
}

fn is_guarded(path: &str) -> bool {
    path.split('/').any(|component| component == ".git")
}

fn name_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// `a/b/c`, then `a/b`, then `a`.
fn path_and_above(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| path.rsplit_once('/').map(|(above, _)| above))
}

fn is_below(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'))
}

/// The directory that all matches of a wildcard pattern lie below (empty for the root); `None` for a pattern without
/// wildcards.
fn literal_part(glob: &str) -> Option<&str> {
    let wildcard = glob.find(['*', '?', '[', '{', '\\'])?;
    Some(glob[..wildcard].rsplit_once('/').map_or("", |(directory, _)| directory))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::RelPath;

    pub(crate) fn patterns(texts: &[&str]) -> Vec<Pattern> {
        let pattern = |text: &&str| {
            let glob = RelPath::new(text.strip_prefix('!').unwrap_or(text)).unwrap();
            Pattern { glob, negated: text.starts_with('!') }
        };
        texts.iter().map(pattern).collect()
    }

    fn selection(texts: &[&str]) -> Selection {
        Selection::new(&patterns(texts)).unwrap()
    }

    #[test]
    fn the_last_match_on_the_way_decides() {
        let cases: &[(&[&str], &str, bool)] = &[
            (&["build"], "build", true),
            (&["build"], "build/a/b", true),
            (&["build"], "builds", false),
            (&["dist/*.whl"], "dist/a.whl", true),
            (&["dist/*.whl"], "dist/a/b.whl", false),
            (&["dist/**"], "dist/a/b", true),
            (&["dist/**"], "dist", false),
            (&["dist", "!dist/tmp"], "dist/tmp/x", false),
            (&["dist", "!dist/tmp", "dist/tmp/keep"], "dist/tmp/keep", true),
            (&["dist", "!**/*.o"], "dist/a/x.o", false),
            (&["!dist/tmp", "dist"], "dist/tmp/x", true),
            (&["*"], "dir/below", true),
            (&["{a,b}/x"], "b/x", true),
            (&[], "a", false),
        ];
        for (texts, path, expected) in cases {
            assert_eq!(selection(texts).contains(path), *expected, "{texts:?} {path}");
        }
    }

    #[test]
    fn a_wildcard_never_means_a_git_directory() {
        for texts in [&["**"][..], &["*"], &["sub/**"], &["**/config"], &["{.git,a}/**"]] {
            let selection = selection(texts);
            for path in [".git", ".git/config", "sub/.git", "sub/.git/config"] {
                assert!(!selection.contains(path), "{texts:?} {path}");
            }
        }
        assert!(selection(&["**"]).contains("sub/.github/x"));
        assert!(selection(&["build"]).contains("build/deps/.git/config"));
        assert!(selection(&[".git/**"]).contains(".git/config"));
        assert!(!selection(&["build", "!**/*.tmp"]).contains("build/.git/x.tmp"));
    }

    #[test]
    fn walking_down_decides_the_same_as_asking_for_a_path() {
        let paths = ["a", "a/.git", "a/.git/config", "b/c/d.o", "b/c/d", "dist/tmp/keep", "dist/tmp/x", ".git/hooks/x"];
        for texts in [&["**"][..], &["a", "!**/*.o", "b"], &["dist", "!dist/tmp", "dist/tmp/keep"], &[".git"], &["*"]] {
            let selection = selection(texts);
            let mut seen = vec![false; texts.len()];
            for path in paths {
                let mut way: Vec<&str> = path_and_above(path).collect();
                way.reverse();
                let decided = way.into_iter().fold(None, |above, path| selection.decide(above, path, &mut seen));
                assert_eq!(selection.is_selected(decided), selection.contains(path), "{texts:?} {path}");
            }
        }
    }

    #[test]
    fn directories_are_entered_only_where_something_can_match() {
        let cases: &[(&[&str], &str, bool)] = &[
            (&["build/app"], "build", true),
            (&["build/app"], "src", false),
            (&["build/app"], "build/app2", false),
            (&["*.whl"], "src", false),
            (&["*/x"], "src", true),
            (&["*/x"], "src/deep", false),
            (&["**/*.o"], "src/deep/er", true),
            (&["dist/**"], "dist/a", true),
            (&["dist/**"], "dist", true),
            (&["dist/**"], "distant", false),
            (&["a/b/*.x"], "a", true),
            (&["{a/b,c}/x"], "a/b", true),
            (&["!**"], "a", false),
        ];
        for (texts, path, expected) in cases {
            assert_eq!(selection(texts).may_match_below(path), *expected, "{texts:?} {path}");
        }
    }
}
