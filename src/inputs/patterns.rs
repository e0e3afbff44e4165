//! Which paths a list of globs selects, and which directories must be read to know.
//!
//! Patterns are evaluated in the order written and the last match wins. `*` and `?` do not match `/`, `**` does. A
//! pattern without any wildcard names a file, a link, or a directory with everything below it. Names are compared
//! byte for byte.

use globset::{Candidate, GlobBuilder, GlobMatcher, GlobSet, GlobSetBuilder};

use crate::config::model::Pattern;

/// A pattern that globset refuses. The check of the configuration refuses it earlier, with its place in the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the pattern `{pattern}` is not a glob: {reason}")]
pub struct BadPattern {
    /// The glob as written.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: String,
}

/// A compiled list of patterns.
#[derive(Debug)]
pub struct Patterns {
    globs: GlobSet,
    /// For each glob of the set, the pattern that it came from.
    owners: Vec<usize>,
    patterns: Vec<Compiled>,
}

#[derive(Debug)]
struct Compiled {
    text: String,
    negated: bool,
    /// What a directory's path must look like so that something below it can match.
    reach: Vec<Step>,
    /// Matches the directories below which the pattern matches everything.
    subtree: Option<GlobMatcher>,
}

/// One component of a pattern, as far as the way to it is concerned.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Literal(String),
    /// Any one component: a conservative reading of a component with wildcards.
    Any,
    /// Everything from here on.
    Rest,
}

/// What the patterns say about one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is selected.
    Input,
    /// No pattern selects it, or a later one takes it out again.
    NotAnInput,
}

impl Patterns {
    /// Compiles them.
    ///
    /// # Errors
    /// The first that is no glob.
    pub fn new(patterns: &[Pattern]) -> Result<Self, BadPattern> {
        let mut set = GlobSetBuilder::new();
        let mut owners = Vec::new();
        let mut compiled = Vec::with_capacity(patterns.len());
        for (index, pattern) in patterns.iter().enumerate() {
            let text = pattern.glob.as_str();
            let bad = |error: globset::Error| BadPattern { pattern: text.to_owned(), reason: error.kind().to_string() };
            let glob = |text: &str| GlobBuilder::new(text).literal_separator(true).build().map_err(bad);
            set.add(glob(text)?);
            owners.push(index);
            let literal = is_literal(text);
            if literal {
                set.add(glob(&format!("{text}/**"))?);
                owners.push(index);
            }
            let top = if literal || text == "**" { Some(text) } else { text.strip_suffix("/**") };
            let subtree = top.map(glob).transpose()?.map(|glob| glob.compile_matcher());
            compiled.push(Compiled { text: text.to_owned(), negated: pattern.negated, reach: steps(text), subtree });
        }
        let globs = set.build().map_err(|error| BadPattern { pattern: String::new(), reason: error.to_string() })?;
        Ok(Self { globs, owners, patterns: compiled })
    }

    /// The verdict on `path`. `hits` is working space; afterwards it holds the patterns that match, in no order.
    pub fn verdict(&self, path: &[u8], hits: &mut Vec<usize>) -> Verdict {
        use std::os::unix::ffi::OsStrExt as _;
        let candidate = Candidate::new(std::ffi::OsStr::from_bytes(path));
        self.globs.matches_candidate_into(&candidate, hits);
        for hit in &mut *hits {
            *hit = self.owners[*hit];
        }
        match hits.iter().max() {
            Some(&last) if !self.patterns[last].negated => Verdict::Input,
            _ => Verdict::NotAnInput,
        }
    }

    /// False when no path below the directory `dir` can be an input.
    pub(super) fn can_reach_below(&self, dir: &str) -> bool {
        let last_reaching = self.patterns.iter().rposition(|pattern| !pattern.negated && pattern.reaches(dir));
        last_reaching.is_some_and(|reaching| {
            !self.patterns[reaching..]
                .iter()
                .any(|pattern| pattern.negated && pattern.subtree.as_ref().is_some_and(|top| covers(top, dir)))
        })
    }

    /// The pattern that makes an input of everything below the directory `dir`, where no later one has a say there.
    pub(super) fn all_below(&self, dir: &str) -> Option<usize> {
        let last = self.patterns.iter().rposition(|pattern| pattern.reaches(dir))?;
        let Compiled { negated, subtree, .. } = &self.patterns[last];
        (!negated && subtree.as_ref().is_some_and(|top| covers(top, dir))).then_some(last)
    }

    /// True when a pattern spells out the way to `path`, component by component without a wildcard.
    pub(super) fn spell_out(&self, path: &str) -> bool {
        self.patterns.iter().filter(|pattern| !pattern.negated).any(|pattern| {
            let mut steps = pattern.reach.iter();
            path.split('/').all(|name| matches!(steps.next(), Some(Step::Literal(text)) if text == name))
        })
    }

    /// The patterns that must match something, by index and text.
    pub(super) fn wanted(&self) -> impl Iterator<Item = (usize, &str)> {
        let wanted = self.patterns.iter().enumerate().filter(|(_, pattern)| !pattern.negated);
        wanted.map(|(index, pattern)| (index, pattern.text.as_str()))
    }

    pub(super) fn len(&self) -> usize {
        self.patterns.len()
    }
}

impl Compiled {
    fn reaches(&self, dir: &str) -> bool {
        let mut steps = self.reach.iter();
        for name in dir.split('/') {
            match steps.next() {
                Some(Step::Rest) => return true,
                Some(Step::Literal(text)) if text == name => {}
                Some(Step::Any) => {}
                _ => return false,
            }
        }
        steps.next().is_some()
    }
}

/// True when `top` matches `dir` or a directory above it.
fn covers(top: &GlobMatcher, dir: &str) -> bool {
    let ends = dir.match_indices('/').map(|(end, _)| end).chain([dir.len()]);
    ends.into_iter().any(|end| top.is_match(&dir[..end]))
}

fn is_literal(text: &str) -> bool {
    !text.contains(['*', '?', '[', ']', '{', '}', '\\'])
}

fn steps(text: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    for part in text.split('/') {
        if is_literal(part) {
            steps.push(Step::Literal(part.to_owned()));
        } else if part.contains("**") || part.contains(['[', ']', '{', '}', '\\']) {
            // Braces and classes may hold a `/` of their own, so that the components say nothing any more.
            steps.push(Step::Rest);
            return steps;
        } else {
            steps.push(Step::Any);
        }
    }
    if is_literal(text) {
        steps.push(Step::Rest);
    }
    steps
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::path::RelPath;

    proptest! {
        #[test]
        fn what_is_said_for_all_holds_for_each(
            globs in prop::collection::vec(("(\\*\\*|\\*|a|b|ab|a\\*|\\{a,b\\})(/(\\*\\*|\\*|a|b|\\*b)){0,2}", any::<bool>()), 1..5),
            dir in "[ab]{1,2}(/[ab]{1,2}){0,2}",
            below in "[ab.]{1,3}(/[ab]{1,2}){0,2}",
        ) {
            let wanted: Vec<_> =
                globs.into_iter().map(|(glob, negated)| Pattern { glob: RelPath::new(&glob).unwrap(), negated }).collect();
            let patterns = Patterns::new(&wanted).unwrap();
            if let Some(index) = patterns.all_below(&dir) {
                let mut hits = Vec::new();
                let verdict = patterns.verdict(format!("{dir}/{below}").as_bytes(), &mut hits);
                prop_assert_eq!(verdict, Verdict::Input, "{:?}", wanted);
                prop_assert!(hits.contains(&index), "{:?}", wanted);
            }
        }
    }
}
