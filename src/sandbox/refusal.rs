//! What the kernel refused, in words: the purpose, the call, the cause on this machine and the fix. `sbx doctor` prints
//! the same words.

use std::fs;

use crate::plan::step::Step;
use crate::sys::errno::{Call, CallError, Errno};

/// A refusal by the kernel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("can't {purpose}: {error}")]
pub struct Refusal {
    /// What sbx was about to do, as the object of "can't …".
    pub purpose: String,
    /// The call and its error.
    pub error: CallError,
    /// Why, and what to do.
    pub hint: Option<String>,
}

impl Refusal {
    /// The refusal of the launch itself.
    pub fn of_launch(error: CallError) -> Self {
        Self { purpose: "make the sandbox's namespaces".into(), error, hint: cause(None, error, &Machine::read()) }
    }

    /// The refusal to let a process in.
    pub fn of_entry(error: CallError) -> Self {
        // The only thing that is written on the way in.
        if error.call == Call::write {
            let hint = "a process may move only within what its user manages: start `sbx enter` where the run was started, \
                        or below the user manager (`systemd-run --user --scope sbx enter …`)";
            return Self { purpose: "join the sandbox's cgroup".into(), error, hint: Some(hint.into()) };
        }
        Self { purpose: "enter the sandbox's namespaces".into(), error, hint: cause(None, error, &Machine::read()) }
    }

    /// The refusal of one step.
    pub fn of_step(step: &Step, error: CallError) -> Self {
        Self { purpose: step.purpose(), error, hint: cause(Some(step), error, &Machine::read()) }
    }
}

/// What decides about namespaces and mounts on a machine; every value as the kernel shows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Machine {
    /// `kernel.unprivileged_userns_clone` (Debian's patch).
    pub userns_clone: Option<String>,
    /// `kernel.apparmor_restrict_unprivileged_userns` (Ubuntu).
    pub apparmor: Option<String>,
    /// Names and values of `user.max_*_namespaces` that are 0.
    pub zero_limits: Vec<String>,
    /// Whether this process is behind a seccomp filter already.
    pub filtered: bool,
    /// Whether parts of `/proc` are covered by other mounts.
    pub proc_covered: bool,
    /// Whether `/proc/sys` can't be written.
    pub proc_sys_read_only: bool,
    /// Whether the process runs as the system's root.
    pub root: bool,
}

impl Machine {
    /// Reads it; what can't be read counts as not there.
    pub fn read() -> Self {
        let value = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let points = || mounts.lines().filter_map(|line| Some((line.split(' ').nth(4)?, line.split(' ').nth(5)?)));
        let limits = ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time"];
        Self {
            userns_clone: value("/proc/sys/kernel/unprivileged_userns_clone"),
            apparmor: value("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
            zero_limits: limits
                .iter()
                .map(|name| format!("max_{name}_namespaces"))
                .filter(|name| value(&format!("/proc/sys/user/{name}")).as_deref() == Some("0"))
                .collect(),
            filtered: value("/proc/self/status")
                .is_some_and(|status| status.lines().any(|line| line.starts_with("Seccomp:") && !line.ends_with('0'))),
            proc_covered: points().any(|(point, _)| point.starts_with("/proc/") && point != "/proc/sys/fs/binfmt_misc"),
            proc_sys_read_only: points()
                .any(|(point, options)| point == "/proc/sys" && options.split(',').any(|option| option == "ro")),
            root: crate::sys::process::caller_ids().1 == 0,
        }
    }
}

const CONTAINER: &str = "sbx runs inside a container whose seccomp filter refuses this call; start the container with \
                         `--security-opt seccomp=unconfined` (docker, podman) or a profile that allows it";

/// The cause of `error` on `machine` and its fix, where they are known.
pub fn cause(step: Option<&Step>, error: CallError, machine: &Machine) -> Option<String> {
    let refused = matches!(error.errno, Errno::EPERM | Errno::EACCES);
    match (error.call, error.errno) {
        (Call::clone3 | Call::unshare, _) if refused || error.errno == Errno::ENOSPC => namespace_cause(machine),
        (Call::write, _) if refused && matches!(step, Some(Step::MapIds(_))) => namespace_cause(machine),
        (_, Errno::ENOSYS) if machine.filtered => Some(CONTAINER.to_owned()),
        // The call came with Linux 3.17; a kernel built without filters has none (seccomp(2)).
        (Call::seccomp, Errno::ENOSYS | Errno::EINVAL) => {
            Some("this kernel has no system call filters: boot one with CONFIG_SECCOMP_FILTER".into())
        }
        (_, Errno::ENOSYS) => Some(format!("this kernel lacks {}; sbx needs Linux 5.12 or later", error.call.name())),
        (Call::unshare, Errno::EINVAL) => Some("this kernel has no time namespaces (CONFIG_TIME_NS)".into()),
        (Call::clone3, Errno::EINVAL) => {
            Some("this kernel lacks one of the namespaces; `sbx doctor` tells which".into())
        }
        (Call::clone3, Errno::EUSERS) => Some("user namespaces are nested too deeply (at most 32 levels)".into()),
        (Call::clone3 | Call::fork | Call::clone, Errno::EAGAIN) => {
            Some("a limit of processes is reached: `limits.pids` of the run, or the user's own (`ulimit -u`)".into())
        }
        (_, Errno::EBADE) => Some(mismatch(error.call)),
        _ => match step? {
            Step::MountProc { .. } if refused && machine.proc_covered => Some(
                "parts of /proc are covered by other mounts, as container engines do; the kernel then allows no fresh \
                 /proc: start the container with `--security-opt systempaths=unconfined` (docker) or \
                 `--security-opt unmask=ALL` (podman)"
                    .into(),
            ),
            Step::ForbidUserNamespaces | Step::OpenLowPorts if machine.proc_sys_read_only => Some(
                "/proc/sys is read-only here, as container engines make it: start the container with \
                 `--security-opt systempaths=unconfined`"
                    .into(),
            ),
            Step::MountRoot { .. } => root_cause(error),
            Step::Bind(bind) => bind_cause(error, bind),
            _ if refused && machine.filtered => Some(CONTAINER.to_owned()),
            _ if refused && machine.apparmor.as_deref() == Some("1") => Some(apparmor()),
            _ => None,
        },
    }
}

fn namespace_cause(machine: &Machine) -> Option<String> {
    if !machine.root && machine.userns_clone.as_deref() == Some("0") {
        return Some(
            "unprivileged user namespaces are switched off: `sudo sysctl kernel.unprivileged_userns_clone=1`".into(),
        );
    }
    if !machine.root && machine.apparmor.as_deref() == Some("1") {
        return Some(apparmor());
    }
    if let Some(name) = machine.zero_limits.first() {
        return Some(format!("the limit user.{name} is 0: `sudo sysctl user.{name}=15000`"));
    }
    machine.filtered.then(|| CONTAINER.to_owned())
}

fn apparmor() -> String {
    "AppArmor restricts unprivileged user namespaces: install the profile contrib/apparmor/sbx (see there), or \
     `sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0`"
        .into()
}

fn root_cause(error: CallError) -> Option<String> {
    match (error.call, error.errno) {
        (Call::mount, Errno::ENODEV) => Some("this kernel has no overlayfs: `sudo modprobe overlay`".into()),
        (Call::mount, Errno::EPERM) => {
            Some("this kernel allows no overlay in a user namespace; sbx needs Linux 5.12 or later".into())
        }
        (Call::mount, Errno::EINVAL) => Some(
            "the cache directory's file system can't hold an overlay's upper layer (NFS, FAT, or an overlay itself): \
             point SBX_CACHE_DIR to a local file system, or set `sandbox.scratch = \"memory\"`"
                .into(),
        ),
        (_, Errno::EACCES) => Some("the cache directory must be reachable for this user: set SBX_CACHE_DIR".into()),
        _ => None,
    }
}

fn bind_cause(error: CallError, bind: &crate::plan::step::Bind) -> Option<String> {
    match (error.call, error.errno) {
        (Call::openat2, Errno::ENOENT) => Some(format!(
            "{} lies inside another mount that does not have it, or {} is gone",
            bind.target,
            bind.source.display()
        )),
        (Call::openat2, Errno::ELOOP) => {
            Some(format!("a symbolic link stands on the way to {} or to {}", bind.source.display(), bind.target))
        }
        (Call::move_mount, Errno::ENOTDIR | Errno::EINVAL) => {
            Some(format!("{} is a directory on one side and a file on the other", bind.target))
        }
        (Call::openat2, Errno::EACCES) => Some(format!("{} must be reachable for this user", bind.source.display())),
        _ => None,
    }
}

fn mismatch(call: Call) -> String {
    match call {
        Call::fstat => "another file stands there than when the run was planned; run again".into(),
        Call::fstatfs => "the kernel made a weaker mount than sbx asked for, so the run was stopped".into(),
        _ => "the kernel did not do what it was asked for, so the run was stopped".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(call: Call, errno: Errno, machine: &Machine) -> String {
        cause(None, CallError { call, errno }, machine).unwrap_or_default()
    }

    #[test]
    fn the_cause_is_the_machines() {
        let debian = Machine { userns_clone: Some("0".into()), ..Machine::default() };
        assert!(hint(Call::clone3, Errno::EPERM, &debian).contains("unprivileged_userns_clone=1"));
        let ubuntu = Machine { apparmor: Some("1".into()), ..Machine::default() };
        assert!(hint(Call::clone3, Errno::EPERM, &ubuntu).contains("AppArmor"));
        let limited = Machine { zero_limits: vec!["max_net_namespaces".into()], ..Machine::default() };
        assert!(hint(Call::clone3, Errno::ENOSPC, &limited).contains("user.max_net_namespaces"));
        let docker = Machine { filtered: true, ..Machine::default() };
        assert!(hint(Call::clone3, Errno::ENOSYS, &docker).contains("seccomp"));
        assert_eq!(hint(Call::clone3, Errno::EPERM, &Machine::default()), "");
        let covered = Machine { proc_covered: true, ..Machine::default() };
        let error = CallError { call: Call::mount, errno: Errno::EPERM };
        assert!(cause(Some(&Step::MountProc { writable: false }), error, &covered).unwrap().contains("systempaths"));
    }
}
