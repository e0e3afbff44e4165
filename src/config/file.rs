//! The keys of a `sandbox.toml`, as written: every one optional unless it says otherwise, nothing judged but types.
//!
//! This is the one definition of the keys. The reader, the suggestions for a mistyped key, and the JSON Schema come
//! from it.

use toml::Spanned;
use toml::de::DeTable;

use super::fault::Fault;
use super::read::{At, Flat, Must, Named, choice, keys_of, read_section, section};

section! {
    /// The sandbox of a project: what a command may see, reach and use, and what it gives back.
    #[schemars(title = "sandbox.toml")]
    File {
        #[schemars(flatten)]
        settings: Flat<Settings>,
        /// Named commands. What a task sets, it sets instead of the top level, key by key.
        task: Option<At<Named<Task>>>,
    }
}

section! {
    /// What holds for a command; at the top level and in a task.
    Settings {
        /// Globs relative to this file, `!` takes away what earlier ones matched. What git ignores is left out.
        inputs: Option<At<Vec<At<String>>>>,
        /// Leave out what the project's .gitignore files and .git/info/exclude ignore. Default: true.
        gitignore: Option<At<bool>>,
        /// Globs of what is copied back after exit 0, all or none.
        outputs: Option<At<Vec<At<String>>>>,
        /// Ids, names and places inside.
        sandbox: Option<At<Sandbox>>,
        /// Where the file system outside of the project comes from. A task replaces it as a whole.
        rootfs: Option<At<Rootfs>>,
        /// Read-only bind mounts.
        mount: Option<At<Vec<At<Mount>>>>,
        /// Writable directories kept between runs.
        scratch: Option<At<Vec<At<Scratch>>>>,
        /// Files fetched outside, checked, then inputs like any other. A task replaces the whole list.
        fetch: Option<At<Vec<At<Fetch>>>>,
        /// What the command can reach. Default: loopback only.
        network: Option<At<Network>>,
        /// The environment beyond the fixed variables.
        env: Option<At<Env>>,
        /// Bounds on what the command may use.
        limits: Option<At<Limits>>,
        /// The SHA-256 that pins the outputs, as sbx prints it when it differs: others than these never come back, and a
        /// run with network rules can be cached.
        outputs_sha256: Option<At<String>>,
        /// Cache what a command came to that exited with a failure, too. Default: false.
        cache_failures: Option<At<bool>>,
    }
}

section! {
    /// A named command.
    Task {
        /// Program and arguments.
        #[schemars(length(min = 1))]
        command: Must<Vec<At<String>>>,
        /// Tasks that run before this one; their outputs are inputs of this one.
        needs: Option<At<Vec<At<String>>>>,
        #[schemars(flatten)]
        settings: Flat<Settings>,
    }
}

section! {
    /// Ids, names and places inside.
    Sandbox {
        /// Where the inputs stand inside. Default: /src.
        workdir: Option<At<String>>,
        /// The host name. Default: sbx.
        #[schemars(length(min = 1, max = 64))]
        hostname: Option<At<String>>,
        /// The user id inside, mapped to the caller's. Default: 1000.
        #[schemars(range(min = 0, max = 4_294_967_294_u32))]
        uid: Option<At<i64>>,
        /// The group id inside, mapped to the caller's. Default: 1000.
        #[schemars(range(min = 0, max = 4_294_967_294_u32))]
        gid: Option<At<i64>>,
        /// Where what the command writes lives while it runs. Default: disk.
        scratch: Option<At<ScratchKind>>,
        /// May the command create user namespaces. Default: false.
        nested: Option<At<bool>>,
        /// System calls allowed beyond the usual ones.
        syscalls: Option<At<Syscalls>>,
    }
}

section! {
    /// System calls allowed beyond the usual ones.
    Syscalls {
        /// Their names, as syscalls(2) has them; each is allowed whatever its arguments.
        allow: Option<At<Vec<At<String>>>>,
    }
}

choice! {
    /// Where the overlay's upper layer lives.
    ScratchKind {
        /// In the cache directory.
        Disk = "disk",
        /// In a tmpfs of the sandbox's own.
        Memory = "memory",
    }
}

section! {
    /// Where the file system outside of the project comes from: one of the four.
    Rootfs {
        /// Paths of the host, at the same place inside, read-only.
        host: Option<At<Vec<At<String>>>>,
        /// What of the host's paths enters the run's identity. Default: packages.
        identity: Option<At<HostIdentity>>,
        /// An OCI image layout: oci:PATH@sha256:HEX.
        image: Option<At<String>>,
        /// A tar archive (plain, gzip or zstd).
        tar: Option<At<String>>,
        /// A directory.
        dir: Option<At<String>>,
    }
}

choice! {
    /// What of the host's paths enters the run's identity.
    HostIdentity {
        /// The installed packages, and what lies where packages put nothing.
        Packages = "packages",
        /// The hashed content of all of it.
        Content = "content",
    }
}

section! {
    /// A read-only bind mount.
    Mount {
        /// The host path, relative to this file.
        source: Must<String>,
        /// Where it stands inside.
        target: Must<String>,
        /// What of it enters the run's identity. Default: content.
        identity: Option<At<Identity>>,
        /// The string you vouch for when identity is declared.
        version: Option<At<String>>,
    }
}

choice! {
    /// What of a mount enters the run's identity.
    Identity {
        /// The hashed content.
        Content = "content",
        /// Path, size and mtime of every file.
        Metadata = "metadata",
        /// The string in `version`.
        Declared = "declared",
    }
}

section! {
    /// A writable directory kept between runs.
    Scratch {
        /// Its name, unique in the file.
        name: Must<String>,
        /// Where it stands inside.
        target: Must<String>,
    }
}

section! {
    /// A file fetched outside of the sandbox; kept by its digest, so that it is fetched once.
    Fetch {
        /// Where it is fetched from: https, http or file.
        url: Must<String>,
        /// Its SHA-256, 64 lowercase hexadecimal digits.
        sha256: Must<String>,
        /// Where it stands in the project.
        target: Must<String>,
        /// It is an archive (tar, plain or by gzip or zstd, or zip), and the target is the directory of what it holds.
        /// Default: false.
        unpack: Option<At<bool>>,
    }
}

section! {
    /// What the command can reach.
    Network {
        /// Names or addresses with ports: name:443, *.name:80, 10.1.2.3:5432, 10.0.0.0/8:80-90, [fd00::/8]:443; udp: before
        /// it for datagrams. An empty list reaches nothing.
        allow: Option<At<Vec<At<String>>>>,
        /// Ports of the host that lead inside: 8080:80 (at 127.0.0.1), 0.0.0.0:8080:80, [::1]:8080:80; udp: before it for
        /// datagrams.
        publish: Option<At<Vec<At<String>>>>,
        /// Addresses of the host's side, pinned to names that a rule allows; such an address may be private or loopback.
        hosts: Option<At<Named<String>>>,
        /// The host's network; such a run is never cached. Default: false.
        host: Option<At<bool>>,
    }
}

section! {
    /// The environment beyond the fixed variables.
    Env {
        /// Variables with fixed values.
        set: Option<At<Named<String>>>,
        /// Variables taken from the caller; their values are part of the identity.
        pass: Option<At<Vec<At<String>>>>,
    }
}

section! {
    /// Bounds on what the command may use.
    Limits {
        /// Wall-clock time, such as 10m or 1h30m.
        time: Option<At<String>>,
        /// Memory of all its processes together, such as 2GiB, without swap; what they write to a scratch directory in memory
        /// counts too. Beyond it the command is killed.
        memory: Option<At<String>>,
        /// How many processes and threads may live at once; beyond it fork fails.
        #[schemars(range(min = 1, max = 4_194_303))]
        pids: Option<At<i64>>,
        /// CPU time, as a number of processors, such as 2.0.
        #[schemars(range(min = 0.01, max = 8192.0))]
        cpus: Option<At<f64>>,
        /// How many open files a process may have.
        #[schemars(range(min = 3, max = 2_147_483_584))]
        open_files: Option<At<i64>>,
        /// How much the command may write, such as 10GiB; needs `sandbox.scratch = "memory"`.
        disk: Option<At<String>>,
    }
}

/// Reads a whole document.
pub(super) fn read(root: &Spanned<DeTable<'_>>, faults: &mut Vec<Fault>) -> File {
    read_section((root.get_ref(), root.span()), "", faults, belongs)
}

/// Where a key belongs that stands in a table which does not know it: most often it was written below a header that
/// should come later.
fn belongs(key: &str) -> Option<String> {
    if keys_of::<File>().contains(&key) {
        return Some("at the top level or in a task, not below another `[table]`".to_owned());
    }
    let tables = [
        ("sandbox", keys_of::<Sandbox>()),
        ("rootfs", keys_of::<Rootfs>()),
        ("network", keys_of::<Network>()),
        ("env", keys_of::<Env>()),
        ("limits", keys_of::<Limits>()),
    ];
    let places: Vec<String> =
        tables.iter().filter(|(_, keys)| keys.contains(&key)).map(|(table, _)| format!("`{table}`")).collect();
    (!places.is_empty()).then(|| format!("in {}", places.join(" or ")))
}
