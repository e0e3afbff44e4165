//! What a command line means here: in this directory, with these variables, in this project.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::num::NonZero;
use std::path::PathBuf;

use crate::config::model::{Config, Settings};
use crate::config::user::{self, Color};
use crate::inputs::Proxies;
use crate::ui::{Colour, Verbosity};

use super::args::{Global, When, Words};

/// What the store may take of the disk when nobody says otherwise, in bytes.
pub const CACHE_SIZE: u64 = 20 << 30;

/// The variables of the caller that change how sbx behaves.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Environment {
    variables: BTreeMap<OsString, OsString>,
}

/// Why a command line can't be fulfilled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// `run` without words.
    #[error("no command and no task is given")]
    Nothing {
        /// The tasks there are.
        tasks: Vec<String>,
    },
    /// A word of the command is not UTF-8.
    #[error("the argument `{shown}` is not UTF-8")]
    NotUtf8 {
        /// The word, its odd bytes replaced.
        shown: String,
    },
    /// The name that `shell` was given is no task.
    #[error("there is no task `{name}`")]
    NoTask {
        /// The name.
        name: String,
        /// The tasks there are.
        tasks: Vec<String>,
    },
    /// A variable of sbx has a value that it can't have.
    #[error("{name} is `{value}`: {expected}")]
    Variable {
        /// Which variable.
        name: &'static str,
        /// Its value, odd bytes replaced.
        value: String,
        /// What it can be.
        expected: &'static str,
    },
    /// A variable that `env.pass` names is not UTF-8.
    #[error("`env.pass` names {name}, whose value is not UTF-8")]
    PassedNotUtf8 {
        /// Its name.
        name: String,
    },
    /// `shell` without a terminal.
    #[error("`sbx shell` needs a terminal as its standard input")]
    NoTerminal,
    /// Two tasks that one needs made different things at one place.
    #[error("the tasks `{one}` and `{other}`, which this one needs, both make `{path}`")]
    BothMake {
        /// The place, relative to the project.
        path: String,
        /// One of them.
        one: String,
        /// The other.
        other: String,
    },
    /// The action depends on what another task makes, and that is not known.
    #[error("what this would see depends on the outputs of the task `{needed}`, which are not known yet")]
    NotMade {
        /// The task.
        needed: String,
    },
    /// Nothing says where the cache directory is.
    #[error("there is no home directory to keep the cache in")]
    NoCacheDirectory,
}

impl ResolveError {
    /// What helps.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Nothing { tasks } if tasks.is_empty() => Some("give a command: `sbx run -- make`".into()),
            Self::Nothing { tasks } => {
                Some(format!("give a command (`sbx run -- make`) or a task: {}", tasks.join(", ")))
            }
            Self::NotUtf8 { .. } => Some("a run is identified by its words, which must be UTF-8".into()),
            Self::NoTask { name, tasks } => {
                suggest(name, tasks).or_else(|| Some("sandbox.toml declares no tasks".into()))
            }
            Self::Variable { .. } => None,
            Self::PassedNotUtf8 { .. } => Some("unset it, or give it a UTF-8 value".into()),
            Self::NoTerminal => Some("`sbx run -i -- sh` reads a script from standard input".into()),
            Self::BothMake { .. } => Some("give their outputs different places".into()),
            Self::NotMade { needed } => Some(format!("`sbx run {needed}` makes them")),
            Self::NoCacheDirectory => Some("set SBX_CACHE_DIR to an absolute path".into()),
        }
    }
}

impl Environment {
    /// The variables of this process.
    pub fn of_this_process() -> Self {
        Self { variables: std::env::vars_os().collect() }
    }

    /// The value of `name`; empty counts as unset.
    fn get(&self, name: &str) -> Option<&OsStr> {
        self.variables.get(OsStr::new(name)).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    /// `SBX_CONFIG`.
    pub fn config(&self) -> Option<&OsStr> {
        self.get("SBX_CONFIG")
    }

    /// Whether `TERM` says that the terminal can't redraw a line.
    pub fn is_dumb(&self) -> bool {
        self.get("TERM").is_some_and(|term| term == "dumb")
    }

    /// What the caller's terminal is called; none when that is no text.
    pub fn terminal_name(&self) -> Option<&str> {
        self.get("TERM").and_then(OsStr::to_str)
    }

    /// What decides about colour: `flag` (`--color`), else `SBX_COLOR`, else the user's `color`, else `NO_COLOR` and
    /// `TERM`.
    ///
    /// # Errors
    /// When `SBX_COLOR` is none of its three values.
    pub fn colour(&self, flag: Option<When>, user: Option<Color>) -> Result<Colour, ResolveError> {
        let when = match (flag, self.get("SBX_COLOR")) {
            (Some(when), _) => when,
            (None, None) => match user {
                None | Some(Color::Auto) => When::Auto,
                Some(Color::Always) => When::Always,
                Some(Color::Never) => When::Never,
            },
            (None, Some(value)) => match value.to_str() {
                Some("auto") => When::Auto,
                Some("always") => When::Always,
                Some("never") => When::Never,
                _ => return Err(variable("SBX_COLOR", value, "it can be `auto`, `always` or `never`")),
            },
        };
        let discouraged = self.get("NO_COLOR").is_some() || self.is_dumb();
        Ok(match when {
            When::Auto => Colour::Auto { discouraged },
            When::Always => Colour::Always,
            When::Never => Colour::Never,
        })
    }

    /// The proxies for what is fetched; a value that is not UTF-8 counts as unset.
    pub fn proxies(&self) -> Proxies {
        Proxies::from_variables(|name| self.get(name).and_then(OsStr::to_str).map(str::to_owned))
    }

    /// Where the user's configuration is: `$XDG_CONFIG_HOME/sbx/config.toml`, else `.config/sbx/config.toml` in `HOME`,
    /// else in the home directory that `home` finds in the user database; `None` when nothing absolute says where.
    pub fn user_config(&self, home: impl FnOnce() -> Option<PathBuf>) -> Option<PathBuf> {
        let below = self.base("XDG_CONFIG_HOME").or_else(|| {
            let home = self.get("HOME").map(PathBuf::from).or_else(home).filter(|home| home.is_absolute());
            Some(home?.join(".config"))
        });
        Some(below?.join("sbx/config.toml"))
    }

    /// Where the store is: `SBX_CACHE_DIR`, else the user's `cache_dir`, else `$XDG_CACHE_HOME/sbx`, else `.cache/sbx` in
    /// `HOME`, else in the home directory that `home` finds in the user database.
    ///
    /// # Errors
    /// When `SBX_CACHE_DIR` or `HOME` is a relative path, or there is none at all.
    pub fn cache_directory(
        &self,
        user: Option<&PathBuf>,
        home: impl FnOnce() -> Option<PathBuf>,
    ) -> Result<PathBuf, ResolveError> {
        let absolute = |name| match self.get(name) {
            Some(value) if PathBuf::from(value).is_relative() => {
                Err(variable(name, value, "it must be an absolute path"))
            }
            value => Ok(value.map(PathBuf::from)),
        };
        if let Some(path) = absolute("SBX_CACHE_DIR")?.or_else(|| user.cloned()) {
            return Ok(path);
        }
        if let Some(base) = self.base("XDG_CACHE_HOME") {
            return Ok(base.join("sbx"));
        }
        let home = absolute("HOME")?.or_else(home).filter(|home| home.is_absolute());
        Ok(home.ok_or(ResolveError::NoCacheDirectory)?.join(".cache/sbx"))
    }

    /// A base directory; a relative path is to be ignored (XDG Base Directory Specification, "Basics").
    fn base(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(PathBuf::from).filter(|path| path.is_absolute())
    }

    /// What the store may take of the disk, in bytes: `SBX_CACHE_SIZE`, else the user's `cache_size`, else
    /// [`CACHE_SIZE`].
    ///
    /// # Errors
    /// When `SBX_CACHE_SIZE` is no size.
    pub fn cache_size(&self, user: Option<u64>) -> Result<u64, ResolveError> {
        let Some(value) = self.get("SBX_CACHE_SIZE") else { return Ok(user.unwrap_or(CACHE_SIZE)) };
        let size = value.to_str().and_then(|text| user::size(text).ok());
        size.ok_or_else(|| variable("SBX_CACHE_SIZE", value, "it must be a size such as `20GiB`"))
    }

    /// How many threads hash at most: `SBX_JOBS`, else the user's `jobs`; `None`: as many as there are processors.
    ///
    /// # Errors
    /// When `SBX_JOBS` is no such number.
    pub fn jobs(&self, user: Option<NonZero<usize>>) -> Result<Option<NonZero<usize>>, ResolveError> {
        let Some(value) = self.get("SBX_JOBS") else { return Ok(user) };
        let jobs = value.to_str().and_then(|text| text.parse().ok()).and_then(|number| user::jobs(number).ok());
        let expected = "it must be a number from 1 to 1024";
        jobs.map(Some).ok_or_else(|| variable("SBX_JOBS", value, expected))
    }

    /// `XDG_RUNTIME_DIR`.
    pub fn runtime_directory(&self) -> Option<PathBuf> {
        self.get("XDG_RUNTIME_DIR").map(PathBuf::from)
    }

    /// How many listening sockets a service manager has handed to the process `pid` (sd_listen_fds(3)); 0 without one.
    pub fn listening(&self, pid: u32) -> u32 {
        let number = |name| self.get(name).and_then(OsStr::to_str).and_then(|value| value.parse::<u32>().ok());
        if number("LISTEN_PID") == Some(pid) { number("LISTEN_FDS").unwrap_or(0) } else { 0 }
    }

    /// The caller's values of the variables that `env.pass` of `settings` names; what the caller lacks is left out.
    ///
    /// # Errors
    /// When a value is not UTF-8.
    pub fn passed(&self, settings: &Settings) -> Result<BTreeMap<String, String>, ResolveError> {
        let mut passed = BTreeMap::new();
        for name in &settings.env.pass {
            if let Some(value) = self.variables.get(OsStr::new(name)) {
                let value = value.to_str().ok_or_else(|| ResolveError::PassedNotUtf8 { name: name.clone() })?;
                passed.insert(name.clone(), value.to_owned());
            }
        }
        Ok(passed)
    }
}

fn variable(name: &'static str, value: &OsStr, expected: &'static str) -> ResolveError {
    ResolveError::Variable { name, value: value.to_string_lossy().into_owned(), expected }
}

/// How much to say.
pub fn verbosity(global: &Global) -> Verbosity {
    match (global.quiet, global.verbose) {
        (true, _) => Verbosity::Quiet,
        (false, false) => Verbosity::Normal,
        (false, true) => Verbosity::Verbose,
    }
}

/// What is to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The task's name, when it is one.
    pub task: Option<String>,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// What holds for it.
    pub settings: Settings,
}

/// What `words` name in `config`: `None` without words.
///
/// After `--` they are a command. Else a first word that names a task is that task, further words are appended to its
/// command.
///
/// # Errors
/// When a word is not UTF-8.
pub fn subject(config: &Config, words: &Words) -> Result<Option<Subject>, ResolveError> {
    let argv = words.words.iter().map(utf8).collect::<Result<Vec<_>, _>>()?;
    let Some(first) = argv.first() else { return Ok(None) };
    if !words.escaped
        && let Some(task) = config.tasks.get(first)
    {
        let command = task.command.iter().chain(&argv[1..]).cloned().collect();
        return Ok(Some(Subject { task: Some(first.clone()), argv: command, settings: task.settings.clone() }));
    }
    Ok(Some(Subject { task: None, argv, settings: config.settings.clone() }))
}

/// A word as text.
///
/// # Errors
/// When it is not UTF-8.
pub fn utf8(word: &OsString) -> Result<String, ResolveError> {
    word.to_str().map(str::to_owned).ok_or_else(|| ResolveError::NotUtf8 { shown: word.to_string_lossy().into_owned() })
}

/// The interactive shell: bash where the sandbox has it, else sh.
pub const SHELL: [&str; 3] = ["/bin/sh", "-c", "command -v bash >/dev/null && exec bash; exec sh"];

/// What `sbx shell` runs: a shell with the settings of `task`, or of the top level, and with the caller's `TERM`.
///
/// # Errors
/// When there is no such task.
pub fn shell(config: &Config, task: Option<&str>) -> Result<Subject, ResolveError> {
    let mut settings = match task {
        None => config.settings.clone(),
        Some(name) => {
            let task = config.tasks.get(name);
            let unknown = || ResolveError::NoTask { name: name.to_owned(), tasks: names(config) };
            task.ok_or_else(unknown)?.settings.clone()
        }
    };
    if !settings.env.set.contains_key("TERM") && !settings.env.pass.iter().any(|name| name == "TERM") {
        settings.env.pass.push("TERM".to_owned());
    }
    Ok(Subject { task: task.map(str::to_owned), argv: SHELL.map(str::to_owned).to_vec(), settings })
}

/// The names of the tasks.
pub fn names(config: &Config) -> Vec<String> {
    config.tasks.keys().cloned().collect()
}

/// What to say of `tasks` when `name` is none of them.
pub fn suggest(name: &str, tasks: &[String]) -> Option<String> {
    match nearest(name, tasks.iter().map(String::as_str)) {
        Some(near) => Some(format!("did you mean the task `{near}`?")),
        None if tasks.is_empty() => None,
        None => Some(format!("the tasks are: {}", tasks.join(", "))),
    }
}

/// The one of `known` that `name` is most likely a slip of: at most one wrong letter, or one in three.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|known| (strsim::osa_distance(name, known), known))
        .filter(|(distance, known)| *distance < known.len() && *distance <= (known.len() / 3).max(1))
        .min()
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment { variables: variables.iter().map(|(name, value)| (name.into(), value.into())).collect() }
    }

    fn words(escaped: bool, words: &[&str]) -> Words {
        Words { words: words.iter().map(OsString::from).collect(), escaped }
    }

    fn with_tasks() -> Config {
        config::parse(
            "[task.test]\ncommand = ['make', 'test']\noutputs = ['report']\n[task.bench]\ncommand = ['make', 'bench']",
            "f",
        )
        .unwrap()
    }

    #[test]
    fn a_task_is_a_first_word_that_names_one() {
        let config = with_tasks();
        let task = subject(&config, &words(false, &["test", "-k", "x"])).unwrap().unwrap();
        assert_eq!(task.task.as_deref(), Some("test"));
        assert_eq!(task.argv, ["make", "test", "-k", "x"]);
        assert_eq!(task.settings.outputs.len(), 1);

        for (escaped, first) in [(true, "test"), (false, "tests"), (false, "make")] {
            let command = subject(&config, &words(escaped, &[first, "x"])).unwrap().unwrap();
            assert_eq!((command.task, command.argv), (None, vec![first.to_owned(), "x".to_owned()]));
            assert!(command.settings.outputs.is_empty());
        }
        assert_eq!(subject(&config, &words(false, &[])), Ok(None));
    }

    #[test]
    fn words_must_be_utf8() {
        use std::os::unix::ffi::OsStringExt as _;
        let odd = Words { words: vec!["cat".into(), OsString::from_vec(vec![b'a', 0xff])], escaped: true };
        assert_eq!(subject(&Config::default(), &odd), Err(ResolveError::NotUtf8 { shown: "a\u{fffd}".into() }));
    }

    #[test]
    fn the_shell_has_a_task_s_settings_and_the_terminal_s_name() {
        let config = with_tasks();
        let subject = shell(&config, Some("test")).unwrap();
        assert_eq!(subject.settings.outputs.len(), 1);
        assert_eq!(subject.settings.env.pass, ["TERM"]);
        assert_eq!(shell(&config, Some("tset")).unwrap_err().hint().unwrap(), "did you mean the task `test`?");
        let mut set = Config::default();
        set.settings.env.set.insert("TERM".into(), "dumb".into());
        assert!(shell(&set, None).unwrap().settings.env.pass.is_empty());
    }

    #[test]
    fn a_typo_is_answered_with_the_near_task_or_all_of_them() {
        let tasks = names(&with_tasks());
        assert_eq!(suggest("tset", &tasks).unwrap(), "did you mean the task `test`?");
        assert_eq!(suggest("frobnicate", &tasks).unwrap(), "the tasks are: bench, test");
        assert_eq!(suggest("x", &[]), None);
        assert_eq!(suggest("x", &["y".to_owned()]).unwrap(), "the tasks are: y");
    }

    #[test]
    fn the_cache_directory_is_the_first_that_is_set() {
        let home = || Some(PathBuf::from("/db"));
        let user = PathBuf::from("/u");
        let all = [("SBX_CACHE_DIR", "/a"), ("XDG_CACHE_HOME", "/b"), ("HOME", "/c")];
        for (from, expected) in [(0, "/a"), (1, "/b/sbx"), (2, "/c/.cache/sbx"), (3, "/db/.cache/sbx")] {
            assert_eq!(environment(&all[from..]).cache_directory(None, home), Ok(PathBuf::from(expected)));
        }
        assert_eq!(environment(&all).cache_directory(Some(&user), home), Ok("/a".into()));
        assert_eq!(environment(&all[1..]).cache_directory(Some(&user), home), Ok("/u".into()));
        let empty = environment(&[("SBX_CACHE_DIR", ""), ("HOME", "/c")]);
        assert_eq!(empty.cache_directory(None, home), Ok(PathBuf::from("/c/.cache/sbx")));
        for name in ["SBX_CACHE_DIR", "HOME"] {
            let error = environment(&[(name, "cache")]).cache_directory(None, home).unwrap_err();
            assert_eq!(error.to_string(), format!("{name} is `cache`: it must be an absolute path"));
        }
        let relative = environment(&[("XDG_CACHE_HOME", "cache"), ("HOME", "/c")]);
        assert_eq!(relative.cache_directory(None, home), Ok(PathBuf::from("/c/.cache/sbx")));
        assert_eq!(environment(&[]).cache_directory(None, || None), Err(ResolveError::NoCacheDirectory));
    }

    #[test]
    fn the_user_s_configuration_is_below_the_first_base_that_is_absolute() {
        let home = || Some(PathBuf::from("/db"));
        let place = |variables: &[(&str, &str)]| environment(variables).user_config(home);
        assert_eq!(place(&[("XDG_CONFIG_HOME", "/x"), ("HOME", "/h")]), Some("/x/sbx/config.toml".into()));
        assert_eq!(place(&[("XDG_CONFIG_HOME", "x"), ("HOME", "/h")]), Some("/h/.config/sbx/config.toml".into()));
        assert_eq!(place(&[]), Some("/db/.config/sbx/config.toml".into()));
        assert_eq!(place(&[("HOME", "h")]), None);
    }

    #[test]
    fn variables_win_over_the_user_s_file() {
        let none = environment(&[]);
        assert_eq!((none.cache_size(None), none.cache_size(Some(5))), (Ok(CACHE_SIZE), Ok(5)));
        assert_eq!((none.jobs(None), none.jobs(NonZero::new(5))), (Ok(None), Ok(NonZero::new(5))));
        let set = environment(&[("SBX_CACHE_SIZE", "1MiB"), ("SBX_JOBS", "3"), ("SBX_COLOR", "never")]);
        assert_eq!(set.cache_size(Some(5)), Ok(1 << 20));
        assert_eq!(set.jobs(NonZero::new(5)), Ok(NonZero::new(3)));
        assert_eq!(set.colour(None, Some(Color::Always)), Ok(Colour::Never));
        assert_eq!(none.colour(None, Some(Color::Always)), Ok(Colour::Always));
        for (name, value) in [("SBX_CACHE_SIZE", "1"), ("SBX_CACHE_SIZE", "0B"), ("SBX_JOBS", "0"), ("SBX_JOBS", "x")] {
            let wrong = environment(&[(name, value)]);
            assert!(wrong.cache_size(None).is_err() || wrong.jobs(None).is_err(), "{name}={value}");
        }
    }

    #[test]
    fn sockets_are_handed_to_one_process() {
        let handed = environment(&[("LISTEN_PID", "7"), ("LISTEN_FDS", "2")]);
        assert_eq!((handed.listening(7), handed.listening(8)), (2, 0));
        assert_eq!(environment(&[("LISTEN_FDS", "1")]).listening(7), 0);
        assert_eq!(environment(&[("LISTEN_PID", "7"), ("LISTEN_FDS", "-1")]).listening(7), 0);
    }

    #[test]
    fn colour_is_the_flag_s_then_the_variable_s_then_the_terminal_s() {
        let auto = |discouraged| Ok(Colour::Auto { discouraged });
        assert_eq!(environment(&[]).colour(None, None), auto(false));
        assert_eq!(environment(&[("NO_COLOR", "1")]).colour(None, None), auto(true));
        assert_eq!(environment(&[("NO_COLOR", "")]).colour(None, None), auto(false));
        assert_eq!(environment(&[("TERM", "dumb")]).colour(None, None), auto(true));
        assert_eq!(environment(&[("SBX_COLOR", "always"), ("NO_COLOR", "1")]).colour(None, None), Ok(Colour::Always));
        assert_eq!(environment(&[("SBX_COLOR", "always")]).colour(Some(When::Never), None), Ok(Colour::Never));
        assert!(environment(&[("SBX_COLOR", "yes")]).colour(None, None).is_err());
    }

    #[test]
    fn passed_variables_are_the_caller_s_own_where_there_are_any() {
        let mut settings = Settings::default();
        settings.env.pass = vec!["A".into(), "B".into(), "C".into()];
        let passed = environment(&[("A", "1"), ("B", ""), ("D", "4")]).passed(&settings).unwrap();
        assert_eq!(passed, BTreeMap::from([("A".into(), "1".into()), ("B".into(), String::new())]));
    }
}
