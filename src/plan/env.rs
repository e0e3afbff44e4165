//! The environment inside: built from nothing.

use std::collections::BTreeMap;

use crate::config::model::Env;

/// Where programs are looked for, unless `[env]` says otherwise.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// 1980-01-02T00:00:00Z in seconds: the mtime of every input, late enough for ZIP in every time zone.
pub const SOURCE_DATE_EPOCH: u64 = 315_619_200;

/// The name of the user inside.
pub fn user(uid: u32) -> &'static str {
    if uid == 0 { "root" } else { "builder" }
}

/// The home directory inside.
pub fn home(uid: u32) -> &'static str {
    if uid == 0 { "/root" } else { "/home/builder" }
}

/// The fixed variables, then `[env]`: `set`, and of `pass` what `caller` has.
pub fn build(env: &Env, caller: &BTreeMap<String, String>, uid: u32) -> BTreeMap<String, String> {
    let epoch = SOURCE_DATE_EPOCH.to_string();
    let fixed = [
        ("PATH", PATH),
        ("HOME", home(uid)),
        ("USER", user(uid)),
        ("LOGNAME", user(uid)),
        ("SHELL", "/bin/sh"),
        ("LANG", "C.UTF-8"),
        ("TZ", "UTC"),
        ("TMPDIR", "/tmp"),
        ("SOURCE_DATE_EPOCH", &epoch),
        ("SBX", "1"),
    ];
    let mut variables: BTreeMap<String, String> =
        fixed.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    for name in &env.pass {
        if let Some(value) = caller.get(name) {
            variables.insert(name.clone(), value.clone());
        }
    }
    variables.extend(env.set.clone());
    variables
}

/// The paths under which `program` is tried, in order: itself when it has a slash, else below each entry of `path`.
/// Empty entries (the working directory, by tradition) are no entries.
pub fn candidates(program: &str, path: &str) -> Vec<String> {
    if program.contains('/') {
        return vec![program.to_owned()];
    }
    if program.is_empty() {
        return Vec::new();
    }
    path.split(':')
        .filter(|directory| !directory.is_empty())
        .map(|directory| format!("{directory}/{program}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_fixed_and_the_declared_variables_exist() {
        let env = Env { set: [("CC".into(), "clang".into())].into(), pass: vec!["TERM".into(), "ABSENT".into()] };
        let caller = [("TERM".to_owned(), "vt100".to_owned()), ("SECRET".to_owned(), "x".to_owned())].into();
        let names: Vec<_> = build(&env, &caller, 1000).into_keys().collect();
        let expected = [
            "CC",
            "HOME",
            "LANG",
            "LOGNAME",
            "PATH",
            "SBX",
            "SHELL",
            "SOURCE_DATE_EPOCH",
            "TERM",
            "TMPDIR",
            "TZ",
            "USER",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn programs_are_looked_for_as_execvp_does_but_never_in_the_working_directory() {
        assert_eq!(candidates("./a", PATH), ["./a"]);
        assert_eq!(candidates("make", "/a::/b"), ["/a/make", "/b/make"]);
        assert!(candidates("make", "").is_empty());
        assert!(candidates("", PATH).is_empty());
    }
}
