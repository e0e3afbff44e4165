//! The lines of one ignore file, read and matched as gitignore(5) says and git's `wildmatch` does, byte by byte.
//!
//! Crates that match `.gitignore` files take their globs from elsewhere: braces are alternatives there, POSIX classes are
//! unknown, an unclosed `[` stands for itself. What is an input must not depend on such a difference.
//!
//! In one place this is the manual and not every git: `abc**/x` is `abc*/x`. A git before 2.52 takes a `**` that follows
//! plain text for a whole component.

/// The rules of one ignore file.
pub(super) struct Rules(Vec<Rule>);

/// What a file's rules say about a path that they say something about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Ignored,
    /// By a rule with a `!`.
    Kept,
}

struct Rule {
    verdict: Verdict,
    only_directories: bool,
    /// Without a `/` in its text a rule is about names, at any depth.
    on_name: bool,
    glob: Glob,
}

struct Glob {
    steps: Vec<Step>,
    /// The plain text at the end: what does not end so can't match, and most paths don't.
    tail: Vec<u8>,
}

enum Step {
    /// This byte.
    Byte(u8),
    /// One of these bytes, never a `/`: a `?` or a bracket.
    OneOf(Box<[bool; 256]>),
    /// Any bytes but `/`.
    Star,
    /// Any bytes: a `**` that is a whole component.
    Anything,
    /// Any number of whole components, each with its `/`: a `**/`.
    Directories,
}

impl Rules {
    pub(super) fn new(text: &[u8]) -> Self {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let lines = text.split(|byte| *byte == b'\n');
        Self(lines.filter_map(|line| Rule::new(line.strip_suffix(b"\r").unwrap_or(line))).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the last rule that matches says about `path`, relative to the directory of the ignore file.
    pub(super) fn verdict(&self, path: &str, is_dir: bool) -> Option<Verdict> {
        let name = path.rsplit('/').next().unwrap_or(path);
        let matches = |rule: &&Rule| {
            let text = if rule.on_name { name } else { path };
            (is_dir || !rule.only_directories) && rule.glob.matches(text.as_bytes())
        };
        self.0.iter().rev().find(matches).map(|rule| rule.verdict)
    }
}

impl Rule {
    /// `None` for a line that matches nothing: a comment, an empty one, one that is no glob.
    fn new(line: &[u8]) -> Option<Self> {
        if line.starts_with(b"#") {
            return None;
        }
        let line = without_trailing_spaces(line);
        let (verdict, line) = match line.strip_prefix(b"!") {
            Some(line) => (Verdict::Kept, line),
            None => (Verdict::Ignored, line),
        };
        let (only_directories, line) = match line.strip_suffix(b"/") {
            Some(line) => (true, line),
            None => (false, line),
        };
        let on_name = !line.contains(&b'/');
        let glob = Glob::new(line.strip_prefix(b"/").unwrap_or(line))?;
        Some(Self { verdict, only_directories, on_name, glob })
    }
}

/// Takes away the spaces at the end, up to one that a backslash protects.
fn without_trailing_spaces(line: &[u8]) -> &[u8] {
    let mut end = 0;
    let mut at = 0;
    while at < line.len() {
        let escape = line[at] == b'\\';
        let space = line[at] == b' ';
        at += if escape { 2 } else { 1 };
        if !space {
            end = at.min(line.len());
        }
    }
    &line[..end]
}

impl Glob {
    /// `None` for what matches nothing: nothing at all, a backslash at the end, a bracket that is none.
    fn new(text: &[u8]) -> Option<Self> {
        let mut steps = Vec::new();
        let mut at = 0;
        while let Some(&byte) = text.get(at) {
            let start = at;
            at += 1;
            steps.push(match byte {
                b'\\' => {
                    at += 1;
                    Step::Byte(*text.get(at - 1)?)
                }
                b'?' => Step::OneOf(Box::new(std::array::from_fn(|byte| byte != usize::from(b'/')))),
                b'[' => {
                    let (set, end) = bracket(text, at)?;
                    at = end;
                    Step::OneOf(set)
                }
                b'*' => {
                    at += text[at..].iter().take_while(|byte| **byte == b'*').count();
                    let rest = &text[at..];
                    let starts = start == 0 || text[start - 1] == b'/';
                    let ends = rest.is_empty() || rest.starts_with(b"/") || rest.starts_with(b"\\/");
                    match at - start > 1 && starts && ends {
                        false => Step::Star,
                        true if rest.starts_with(b"/") => {
                            at += 1;
                            Step::Directories
                        }
                        true => Step::Anything,
                    }
                }
                byte => Step::Byte(byte),
            });
        }
        let plain = |step: &Step| if let Step::Byte(byte) = step { Some(*byte) } else { None };
        let mut tail: Vec<u8> = steps.iter().rev().map_while(plain).collect();
        tail.reverse();
        (!steps.is_empty()).then_some(Self { steps, tail })
    }

    fn matches(&self, text: &[u8]) -> bool {
        if !text.ends_with(&self.tail) {
            return false;
        }
        let (mut step, mut at) = (0, 0);
        // Of the last wildcard of either kind, the step after it and where that was last tried. An earlier one need not
        // be tried again: what the last one can reach from further on, it can reach from here.
        let mut star = None;
        let mut deep = None;
        loop {
            let next = text.get(at);
            match (self.steps.get(step), next) {
                (None, None) => return true,
                (Some(Step::Star), _) => {
                    step += 1;
                    star = Some((step, at));
                    continue;
                }
                (Some(Step::Anything | Step::Directories), _) => {
                    step += 1;
                    star = None;
                    deep = Some((step, at));
                    continue;
                }
                (Some(Step::Byte(byte)), Some(next)) if byte == next => {
                    (step, at) = (step + 1, at + 1);
                    continue;
                }
                (Some(Step::OneOf(set)), Some(next)) if set[usize::from(*next)] => {
                    (step, at) = (step + 1, at + 1);
                    continue;
                }
                _ => {}
            }
            if let Some((after, from)) = star
                && text.get(from).is_some_and(|byte| *byte != b'/')
            {
                (step, at) = (after, from + 1);
                star = Some((step, at));
                continue;
            }
            let Some((after, from)) = deep else { return false };
            let further = match self.steps[after - 1] {
                Step::Directories => text[from..].iter().position(|byte| *byte == b'/'),
                _ => (from < text.len()).then_some(0),
            };
            let Some(further) = further else { return false };
            (step, at) = (after, from + further + 1);
            star = None;
            deep = Some((step, at));
        }
    }
}

/// The bytes of the bracket whose `[` stands before `at`, and where it ends. `None` when it is not closed or names a
/// class that there isn't.
fn bracket(text: &[u8], mut at: usize) -> Option<(Box<[bool; 256]>, usize)> {
    let mut set = Box::new([false; 256]);
    let negated = matches!(text.get(at), Some(b'!' | b'^'));
    at += usize::from(negated);
    // The byte that a range may begin with.
    let mut low = None;
    let first = at;
    loop {
        let byte = *text.get(at)?;
        at += 1;
        match (byte, low) {
            (b']', _) if at - 1 > first => break,
            (b'-', Some(from)) if text.get(at).is_some_and(|byte| *byte != b']') => {
                let to = literal(text, &mut at)?;
                (from..=to).for_each(|byte| set[usize::from(byte)] = true);
                low = None;
            }
            (b'[', _) if text.get(at) == Some(&b':') => {
                let length = text[at + 1..].iter().position(|byte| *byte == b']')?;
                match text[at + 1..][..length].strip_suffix(b":") {
                    Some(name) => {
                        let holds = class(name)?;
                        (0..128).filter(|byte| holds(*byte)).for_each(|byte| set[usize::from(byte)] = true);
                        at += length + 2;
                        low = None;
                    }
                    None => {
                        set[usize::from(b'[')] = true;
                        low = Some(b'[');
                    }
                }
            }
            _ => {
                at -= 1;
                let byte = literal(text, &mut at)?;
                set[usize::from(byte)] = true;
                low = Some(byte);
            }
        }
    }
    set.iter_mut().for_each(|member| *member ^= negated);
    set[usize::from(b'/')] = false;
    Some((set, at))
}

/// The byte at `at`, or the one that a backslash there protects.
fn literal(text: &[u8], at: &mut usize) -> Option<u8> {
    *at += usize::from(text.get(*at) == Some(&b'\\'));
    let byte = text.get(*at).copied();
    *at += 1;
    byte
}

/// The ASCII bytes of a POSIX class. As in git, a vertical tab and a form feed are no space.
fn class(name: &[u8]) -> Option<fn(u8) -> bool> {
    Some(match name {
        b"alnum" => |byte| byte.is_ascii_alphanumeric(),
        b"alpha" => |byte| byte.is_ascii_alphabetic(),
        b"blank" => |byte| matches!(byte, b' ' | b'\t'),
        b"cntrl" => |byte| byte.is_ascii_control(),
        b"digit" => |byte| byte.is_ascii_digit(),
        b"graph" => |byte| byte.is_ascii_graphic(),
        b"lower" => |byte| byte.is_ascii_lowercase(),
        b"print" => |byte| byte.is_ascii_graphic() || byte == b' ',
        b"punct" => |byte| byte.is_ascii_punctuation(),
        b"space" => |byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'),
        b"upper" => |byte| byte.is_ascii_uppercase(),
        b"xdigit" => |byte| byte.is_ascii_hexdigit(),
        _ => return None,
    })
}

#[cfg(test)]
#[path = "gitignore_tests.rs"]
mod tests;
