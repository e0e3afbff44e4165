use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::*;

fn ignores(rules: &str, path: &str) -> bool {
    Rules::new(rules.as_bytes()).verdict(path, false) == Some(Verdict::Ignored)
}

/// Of `paths` those that `rules` ignores.
fn ignored<'a>(rules: &str, paths: &[&'a str]) -> Vec<&'a str> {
    paths.iter().copied().filter(|path| ignores(rules, path)).collect()
}

#[test]
fn braces_are_braces() {
    assert_eq!(ignored("*.{o,a}", &["x.o", "x.a", "x.{o,a}"]), ["x.{o,a}"]);
    assert_eq!(ignored("{a,b}", &["a", "b", "{a,b}"]), ["{a,b}"]);
    assert_eq!(ignored("{x}", &["x", "{x}"]), ["{x}"]);
}

#[test]
fn posix_classes_are_known() {
    assert_eq!(ignored("f[[:digit:]]", &["f1", "fd", "f:", "f[[:digit:]]"]), ["f1"]);
    assert_eq!(ignored("s[[:space:]]p", &["s p", "s\tp", "s\u{b}p", "ssp"]), ["s p", "s\tp"]);
    assert_eq!(ignored("dig[![:digit:]]", &["dig1", "digx", "dig"]), ["digx"]);
    assert_eq!(ignored("x[[:upper:][:digit:]_]", &["xA", "x1", "x_", "xa"]), ["xA", "x1", "x_"]);
    assert_eq!(ignored("[[:foo:]]x", &["fx", "[[:foo:]]x"]), [""; 0]);
    assert_eq!(ignored("[[:]", &["[", ":", "a"]), ["[", ":"]);
}

#[test]
fn what_is_no_bracket_matches_nothing() {
    assert_eq!(ignored("[x", &["[x", "x"]), [""; 0]);
    assert_eq!(ignored("[]", &["[]"]), [""; 0]);
    assert_eq!(ignored("x\\", &["x", "x\\"]), [""; 0]);
    assert_eq!(ignored("[]]", &["]"]), ["]"]);
    assert_eq!(ignored("[z-a]", &["z", "a", "m", "-"]), ["z"]);
}

#[test]
fn only_a_slash_matches_a_slash() {
    assert_eq!(ignored("sub[/]x.o", &["sub/x.o"]), [""; 0]);
    assert_eq!(ignored("sub[!a]x.o", &["sub/x.o", "subbx.o"]), ["subbx.o"]);
    assert_eq!(ignored("/sub?x.o", &["sub/x.o", "subbx.o"]), ["subbx.o"]);
    assert_eq!(ignored("/sub*x.o", &["sub/x.o", "sub.x.o"]), ["sub.x.o"]);
}

#[test]
fn two_stars_that_are_no_component_are_one() {
    let paths = ["abc/ghi", "abcd/ghi", "abc/def/ghi", "abcghi"];
    assert_eq!(ignored("abc**/ghi", &paths), paths[..2]);
    assert_eq!(ignored("?bc**/ghi", &paths), paths[..2]);
    assert_eq!(ignored("abc/**ghi", &paths), paths[..1]);
    assert_eq!(ignored("abc/**/ghi", &paths), ["abc/ghi", "abc/def/ghi"]);
}

#[test]
fn many_stars_take_no_long_time() {
    let long = "a".repeat(250);
    assert!(!ignores(&format!("{}b*c", "*a".repeat(60)), &long));
    assert!(!ignores(&format!("{}b*c", "**/*a".repeat(60)), &format!("{long}/").repeat(10)));
}

/// What `git check-ignore` says about `paths` under a `.gitignore` with `rules`.
fn git_verdicts(top: &Path, rules: &[u8], paths: &[String]) -> Vec<Option<Verdict>> {
    fs::write(top.join(".gitignore"), rules).unwrap();
    let mut git = Command::new("git")
        .args(["-c", "core.excludesFile=/dev/null", "check-ignore", "--no-index", "-v", "-n", "-z", "--stdin"])
        .envs([("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_CONFIG_SYSTEM", "/dev/null")])
        .current_dir(top)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = git.stdin.take().unwrap();
    let asked: String = paths.iter().map(|path| format!("{path}\0")).collect();
    let asking = std::thread::spawn(move || stdin.write_all(asked.as_bytes()).unwrap());
    let output = git.wait_with_output().unwrap();
    asking.join().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let fields: Vec<_> = text.split_terminator('\0').collect();
    assert_eq!(fields.len(), 4 * paths.len(), "{rules:?}");
    let verdict = |answer: &[&str]| match answer {
        ["", ..] => None,
        [_, _, rule, _] if rule.starts_with('!') => Some(Verdict::Kept),
        _ => Some(Verdict::Ignored),
    };
    fields.chunks(4).map(verdict).collect()
}

fn git_top() -> tempfile::TempDir {
    let top = tempfile::tempdir().unwrap();
    assert!(Command::new("git").args(["init", "-q"]).current_dir(&top).status().unwrap().success());
    top
}

/// What our rules say where, as in git, nothing comes back that lies below an ignored directory.
fn our_verdict(rules: &Rules, path: &str) -> Option<Verdict> {
    let mut above = path.match_indices('/').map(|(end, _)| rules.verdict(&path[..end], true));
    let ignored = above.find(|verdict| *verdict == Some(Verdict::Ignored));
    ignored.unwrap_or_else(|| rules.verdict(path, false))
}

#[test]
fn classes_hold_what_they_hold_in_git() {
    let top = git_top();
    let names: Vec<String> =
        (1..=127).filter(|byte| *byte != b'/').map(|byte| format!("x{}", char::from(byte))).collect();
    for class in
        ["alnum", "alpha", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "xdigit"]
    {
        let text = format!("x[[:{class}:]]");
        let rules = Rules::new(text.as_bytes());
        let ours: Vec<_> = names.iter().map(|name| rules.verdict(name, false)).collect();
        assert_eq!(ours, git_verdicts(top.path(), text.as_bytes(), &names), "{class}");
    }
}

#[test]
fn any_rules_say_what_they_say_in_git() {
    let parts = [
        "a",
        "a",
        "b",
        "b",
        "/",
        "/",
        "*",
        "*",
        "?",
        "**/",
        "/**",
        "/**/",
        "**",
        "[ab]",
        "[!a]",
        "[^b]",
        "[",
        "]",
        "[a-c]",
        "[]-]",
        "[]a]",
        "[/]",
        "[a/]",
        "[[:alpha:]",
        "[[:digit:]]",
        "[![:alpha:]]",
        "[[:x:]]",
        "[[:a]",
        "{",
        "}",
        ",",
        "{a,b}",
        "\\",
        "\\a",
        "\\*",
        "\\[",
        "\\/",
        " ",
        "\\ ",
        "\t",
        "!",
        "#",
        "-",
        "^",
        ":",
        "é",
        "[é]",
        "[--0]",
        "[b-a]",
        "[\\]]",
        "[a-\\c]",
        "\r",
    ];
    let names = [
        "a", "b", "c", "1", "ab", "ba", "aab", "{a,b}", "{", "[", "]", "*", "\\", " ", "a ", "!", "#", "-", "é", "a\t",
    ];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % u64::try_from(bound).unwrap()).unwrap()
    };
    let top = git_top();
    let (mut kept, mut ignored) = (0, 0);
    for _ in 0..300 {
        let mut lines = String::new();
        for _ in 0..=below(3) {
            let line: String = (0..=below(6)).map(|_| parts[below(parts.len())]).collect();
            // Where gits of different versions differ.
            let plain = line.find(['*', '?', '[', '\\']).unwrap_or(0);
            if line[plain..].starts_with("**") && !line[..plain].ends_with('/') && plain > 0 {
                continue;
            }
            lines += &format!("{}{line}\n", ["", "", "!"][below(3)]);
        }
        let path = |below: &mut dyn FnMut(usize) -> usize| {
            (0..=below(4)).map(|_| names[below(names.len())]).collect::<Vec<_>>().join("/")
        };
        let paths: Vec<String> = (0..120).map(|_| path(&mut below)).collect();
        let rules = Rules::new(lines.as_bytes());
        for (path, git) in paths.iter().zip(git_verdicts(top.path(), lines.as_bytes(), &paths)) {
            assert_eq!(our_verdict(&rules, path), git, "{path:?} under {lines:?}");
            kept += usize::from(git == Some(Verdict::Kept));
            ignored += usize::from(git == Some(Verdict::Ignored));
        }
    }
    assert!(kept > 500 && ignored > 2000, "only {kept} kept and {ignored} ignored");
}
