//! What the manual pages and `docs/CLI.md` say beyond the flags.

/// A name and what it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item {
    /// An exit code, a variable, a path.
    pub name: &'static str,
    /// A sentence or more.
    pub meaning: &'static str,
}

const fn item(name: &'static str, meaning: &'static str) -> Item {
    Item { name, meaning }
}

/// Titles and their items.
pub const SECTIONS: [(&str, &[Item]); 3] =
    [("Exit status", &EXIT_CODES), ("Environment", &VARIABLES), ("Files", &FILES)];

const EXIT_CODES: [Item; 7] = [
    item(
        "0",
        "Success; for `run` and `shell`, the command exited with 0 and its outputs are copied back; for `enter`, it exited with 0.",
    ),
    item(
        "1",
        "`check` found faults, `doctor` found something missing that sbx needs, `pool status` found no pool, `cache verify` found damage that stays, or `bench --compare` found something slower.",
    ),
    item("124", "`run` and `shell`: the time limit of sandbox.toml was reached."),
    item("125", "sbx itself failed: wrong usage, a bad sandbox.toml, a machine that does not allow the sandbox."),
    item("126", "`run`, `shell` and `enter`: the command was found but can't be executed."),
    item("127", "`run`, `shell` and `enter`: the command was not found in the sandbox."),
    item(
        "128+N",
        "`run`, `shell` and `enter`: the command was killed by signal N (9 when the end of the run ended what `enter` had started). Any other code of the three is the command's own.",
    ),
];

const VARIABLES: [Item; 13] = [
    item("SBX_CONFIG", "The sandbox.toml to use when `--config` is not given."),
    item(
        "SBX_CACHE_DIR",
        "The directory of the store, an absolute path. Default: `cache_dir` of config.toml, else sbx in $XDG_CACHE_HOME, else ~/.cache/sbx.",
    ),
    item(
        "SBX_CACHE_SIZE",
        "What the store may take of the disk, such as `20GiB` (B, KiB, MiB, GiB, TiB). Default: `cache_size` of config.toml, else 20GiB.",
    ),
    item(
        "SBX_JOBS",
        "How many threads hash inputs at most, from 1 to 1024. Default: `jobs` of config.toml, else as many as there are processors.",
    ),
    item(
        "SBX_COLOR",
        "`auto`, `always` or `never`, when `--color` is not given. Default: `color` of config.toml, else `auto`.",
    ),
    item("NO_COLOR", "When set and not empty, `auto` means no colour."),
    item("TERM", "`dumb`: `auto` means no colour, and no progress is shown. `shell` and `enter` pass it on."),
    item(
        "XDG_RUNTIME_DIR",
        "Where the pool's socket is, in sbx below it; without it, or when it is not the caller's, in the store.",
    ),
    item("XDG_CACHE_HOME", "Where the store is kept, in sbx below it. A relative path is ignored."),
    item("XDG_CONFIG_HOME", "Where config.toml is, in sbx below it. A relative path is ignored."),
    item("HOME", "Where .cache/sbx and .config/sbx are when nothing else says where the store and config.toml are."),
    item(
        "http_proxy, https_proxy, all_proxy, no_proxy",
        "Through which proxy `[[fetch]]` goes, by CONNECT or SOCKS, and which names and addresses are reached without one. The uppercase names count too.",
    ),
    item("SSL_CERT_FILE, SSL_CERT_DIR", "The certificates that `[[fetch]]` trusts instead of the machine's."),
];

const FILES: [Item; 3] = [
    item(
        "sandbox.toml",
        "Declares the sandbox. The first one from the working directory upwards is used; paths in it are relative to it. `sbx schema` prints its JSON Schema.",
    ),
    item(
        "~/.config/sbx/config.toml",
        "Your own configuration: `cache_dir` (an absolute path), `cache_size` (such as \"20GiB\"), `jobs` (a number), `color` (\"auto\", \"always\" or \"never\"). Flags win over variables, variables over this file. It changes how sbx behaves and enters no digest.",
    ),
    item(
        "~/.cache/sbx",
        "The store: contents by their digest, input trees, scratch directories, results, the records of runs. `sbx cache` looks after it; it can also be deleted when no sbx is running.",
    ),
];
