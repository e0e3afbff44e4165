//! What else makes sandboxes, each asked for the same: namespaces of all kinds that it can make, the host's directories
//! read-only, the files of `/etc` that sbx makes, `/proc`, a small `/dev`, an empty `/tmp` and `/src`.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::bench::report::Fact;
use crate::bench::world::World;
use crate::bench::{BenchError, Interrupts, rounds};
use crate::config::model::{DEFAULT_HOST_PATHS, Network};
use crate::plan::skeleton::{self, Place};
use crate::sys::{files, process};

/// The root file system of those that want one, in the bench's world.
const ROOTFS: &str = "rootfs";

/// Who the command is, as in sbx.
const ID: u32 = 1000;

/// One of them.
#[derive(Debug, Clone)]
pub(super) struct Tool {
    pub(super) name: &'static str,
    /// The program that has to be installed.
    pub(super) program: &'static str,
    /// Why it can't be measured although it is installed.
    pub(super) refusal: Option<&'static str>,
    arguments: Vec<OsString>,
}

impl Tool {
    fn new(name: &'static str, program: &'static str, arguments: Vec<OsString>) -> Self {
        Self { name, program, refusal: None, arguments }
    }

    pub(super) fn command(&self, world: &World) -> Command {
        let program = crate::bench::world::program(Path::new(self.program));
        let mut command = world.command(program.unwrap_or_else(|| self.program.into()));
        command.args(&self.arguments).current_dir(world.path("empty"));
        command
    }
}

/// A directory of the host that all of them show: a link on most machines (`/bin`), or a directory.
enum Shown {
    Link(&'static str, PathBuf),
    Directory(&'static str),
}

fn shown() -> impl Iterator<Item = Shown> {
    DEFAULT_HOST_PATHS.into_iter().filter_map(|path| match Path::new(path).read_link() {
        Ok(target) => Some(Shown::Link(path, target)),
        Err(_) => Path::new(path).exists().then_some(Shown::Directory(path)),
    })
}

fn words<const N: usize>(words: [&str; N]) -> Vec<OsString> {
    words.map(OsString::from).to_vec()
}

/// All that are known.
pub(super) fn all(world: &World, argv: &[OsString]) -> Result<Vec<Tool>, BenchError> {
    let rootfs = rootfs(world)?;
    let bundle = world.directory("bundle")?;
    let config = serde_json::to_string(&runtime_config(&rootfs, argv)).unwrap_or_default();
    fs::write(bundle.join("config.json"), config).map_err(BenchError::io("write a container's configuration"))?;
    let mut tools = vec![unshare(argv)];
    tools.push(bwrap(world, argv, &[]));
    tools.push(nsjail(&rootfs, argv));
    for name in ["crun", "runc"] {
        let mut words = words(["--root"]);
        words.push(world.directory(format!("state-{name}"))?.into());
        if name == "crun" {
            words.push("--cgroup-manager=disabled".into());
        }
        words.extend([
            OsString::from("run"),
            "--bundle".into(),
            bundle.clone().into(),
            format!("sbx-bench-{}", std::process::id()).into(),
        ]);
        tools.push(Tool::new(name, name, words));
    }
    tools.push(podman(world, &rootfs, argv)?);
    tools.push(firejail(argv));
    tools.push(nspawn(&rootfs, argv));
    Ok(tools)
}

/// What a tool says of its version, as a fact about the machine.
pub(super) fn version(tool: &Tool, world: &World, interrupts: &Interrupts) -> Option<Fact> {
    let program = crate::bench::world::program(Path::new(tool.program))?;
    let said = rounds::output(world.command(program).arg("--version"), interrupts).ok()?;
    let said = String::from_utf8_lossy(&said);
    Some(Fact { name: tool.program.to_owned(), value: said.lines().next()?.trim().to_owned() })
}

/// util-linux's, which makes namespaces and no root file system.
fn unshare(argv: &[OsString]) -> Tool {
    let mut words = words(["--user", "--map-current-user", "--mount", "--net", "--ipc", "--uts", "--cgroup", "--time"]);
    words.extend(["--pid", "--fork", "--kill-child", "--"].map(OsString::from));
    words.extend_from_slice(argv);
    Tool::new("unshare, no root file system", "unshare", words)
}

/// bubblewrap; `mounts` are shown besides. Its root is made anew in memory, as sbx's is on the disk, of what takes it the least.
pub(super) fn bwrap(world: &World, argv: &[OsString], mounts: &[PathBuf]) -> Tool {
    let id = ID.to_string();
    let mut arguments = words(["--unshare-all", "--die-with-parent", "--clearenv", "--hostname", "sbx"]);
    arguments.extend(words(["--uid", &id, "--gid", &id]));
    arguments.extend(words(["--tmpfs", "/", "--ro-bind"]));
    arguments.extend([world.path(ROOTFS).join("etc").into(), "/etc".into()]);
    for shown in shown() {
        match shown {
            Shown::Link(path, target) => arguments.extend(["--symlink".into(), target.into(), path.into()]),
            Shown::Directory(path) => arguments.extend(words(["--ro-bind", path, path])),
        }
    }
    for (index, source) in mounts.iter().enumerate() {
        arguments.extend(["--ro-bind".into(), source.into(), format!("/m/{index}").into()]);
    }
    arguments.extend(words(["--proc", "/proc", "--dev", "/dev", "--perms", "1777", "--dir", "/tmp"]));
    arguments.extend(words(["--dir", "/home/builder", "--dir", "/src", "--chdir", "/src"]));
    arguments.extend_from_slice(argv);
    Tool::new(super::BWRAP, "bwrap", arguments)
}

fn nsjail(rootfs: &Path, argv: &[OsString]) -> Tool {
    let mut arguments = words(["-Mo", "-Q", "--hostname", "sbx", "--tmpfsmount", "/tmp", "--tmpfsmount", "/src"]);
    let mut etc = rootfs.join("etc").into_os_string();
    etc.push(":/etc");
    arguments.extend(["--bindmount_ro".into(), etc]);
    for shown in shown() {
        match shown {
            Shown::Link(path, target) => {
                let mut link = target.into_os_string();
                link.push(":");
                link.push(path);
                arguments.extend(["--symlink".into(), link]);
            }
            Shown::Directory(path) => arguments.extend(words(["--bindmount_ro", path])),
        }
    }
    for device in ["/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"] {
        arguments.extend(words(["--bindmount", device]));
    }
    arguments.extend(words(["--cwd", "/src", "--"]));
    arguments.extend_from_slice(argv);
    Tool::new("nsjail", "nsjail", arguments)
}

fn podman(world: &World, rootfs: &Path, argv: &[OsString]) -> Result<Tool, BenchError> {
    let mut arguments = Vec::new();
    for (flag, name) in [("--root", "podman"), ("--tmpdir", "podman-tmp")] {
        arguments.extend([flag.into(), world.directory(name)?.into()]);
    }
    // It takes no more than 50 characters.
    arguments.extend(["--runroot".into(), world.short().into()]);
    arguments.extend(words([
        "--storage-driver=vfs",
        "--cgroup-manager=cgroupfs",
        "--events-backend=none",
        "run",
        "--rm",
    ]));
    arguments.extend(words([
        "--network=none",
        "--cgroups=disabled",
        "--hostname=sbx",
        "--log-driver=none",
        "--tmpfs=/tmp",
    ]));
    // By itself it asks for more than some may have, root without CAP_SYS_RESOURCE too.
    arguments.extend(words(["--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"]));
    for shown in shown() {
        if let Shown::Directory(path) = shown {
            arguments.push(format!("--volume={path}:{path}:ro").into());
        }
    }
    arguments.extend(["--workdir=/src".into(), "--rootfs".into(), rootfs.into()]);
    arguments.extend_from_slice(argv);
    Ok(Tool::new("podman", "podman", arguments))
}

fn firejail(argv: &[OsString]) -> Tool {
    let mut arguments = words(["--quiet", "--noprofile", "--private", "--private-dev", "--private-tmp", "--net=none"]);
    arguments.extend(words(["--ipc-namespace", "--hostname=sbx", "--read-only=/", "--"]));
    arguments.extend_from_slice(argv);
    Tool::new("firejail", "firejail", arguments)
}

fn nspawn(rootfs: &Path, argv: &[OsString]) -> Tool {
    let mut arguments = words(["--quiet", "--register=no", "--keep-unit", "--private-network", "--hostname=sbx"]);
    for shown in shown() {
        if let Shown::Directory(path) = shown {
            arguments.push(format!("--bind-ro={path}").into());
        }
    }
    arguments.extend(["--directory".into(), rootfs.into(), "--".into()]);
    arguments.extend_from_slice(argv);
    let refusal = (files::effective_uid() != 0).then_some("it needs root");
    Tool { refusal, ..Tool::new("systemd-nspawn", "systemd-nspawn", arguments) }
}

/// A root file system for those that want one: links, files, and places for mounts.
fn rootfs(world: &World) -> Result<PathBuf, BenchError> {
    let rootfs = world.directory(ROOTFS)?;
    for place in ["proc", "dev", "sys", "tmp", "src", "etc", "run", "home/builder"] {
        world.directory(format!("{ROOTFS}/{place}"))?;
    }
    let skeleton = skeleton::standard(ID, ID, "sbx", &Network::None).expect("what stands in every sandbox");
    for (path, place) in skeleton.places() {
        if let Place::File(content) = place
            && path.starts_with("etc/")
        {
            fs::write(rootfs.join(path), content).map_err(BenchError::io("make a root file system"))?;
        }
    }
    for shown in shown() {
        match shown {
            Shown::Link(path, target) => symlink(target, rootfs.join(path.trim_start_matches('/')))
                .map_err(BenchError::io("make a root file system"))?,
            Shown::Directory(path) => drop(world.directory(format!("{ROOTFS}{path}"))?),
        }
    }
    // Without it systemd-nspawn takes the tree for no operating system's.
    fs::write(rootfs.join("etc/os-release"), "ID=sbx-bench\n").map_err(BenchError::io("make a root file system"))?;
    Ok(rootfs)
}

/// The configuration of a container by the OCI runtime specification.
fn runtime_config(rootfs: &Path, argv: &[OsString]) -> Value {
    let (uid, _, gid) = process::caller_ids();
    let id = |host: u32| json!([{ "containerID": 0, "hostID": host, "size": 1 }]);
    let mut mounts = vec![
        json!({ "destination": "/proc", "type": "proc", "source": "proc" }),
        json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"] }),
        json!({ "destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev"] }),
    ];
    for shown in shown() {
        if let Shown::Directory(path) = shown {
            let options = ["rbind", "ro", "nosuid", "nodev"];
            mounts.push(json!({ "destination": path, "type": "none", "source": path, "options": options }));
        }
    }
    let argv: Vec<_> = argv.iter().map(|word| word.to_string_lossy()).collect();
    let namespaces = ["user", "mount", "pid", "network", "ipc", "uts", "cgroup"].map(|kind| json!({ "type": kind }));
    json!({
        "ociVersion": "1.0.0",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": argv,
            "env": ["PATH=/usr/bin:/bin"],
            "cwd": "/src",
            "noNewPrivileges": true,
        },
        "root": { "path": rootfs, "readonly": false },
        "hostname": "sbx",
        "mounts": mounts,
        "linux": { "namespaces": namespaces, "uidMappings": id(uid), "gidMappings": id(gid) },
    })
}
