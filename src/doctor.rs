//! What this machine allows, found out by doing it: each namespace alone in a child, then whole sandboxes.

use std::path::Path;

use serde::Serialize;

use crate::config::model::{CPU_PERIOD_US, Limits, Network, Rules, Sandbox, ScratchKind, Settings};
use crate::inputs::{Proxies, Silent};
use crate::plan::calls::Calls;
use crate::plan::group::Controller;
use crate::plan::step::Step;
use crate::sandbox::cache::Use;
use crate::sandbox::group;
use crate::sandbox::phases::Phases;
use crate::sandbox::refusal::Refusal;
use crate::sandbox::{self, Delivery, Job, Options, Request, SandboxError, Stdin};
use crate::store::Store;
use crate::sys::clone::CloneFlags;
use crate::sys::errno::CallError;
use crate::sys::{landlock, probe};

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What.
    pub name: &'static str,
    /// How it went.
    pub status: Status,
    /// What was seen.
    pub detail: String,
    /// What does not work because of it.
    pub consequence: Option<String>,
    /// How to mend it.
    pub fix: Option<String>,
}

/// How a trial went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It works.
    Ok,
    /// A part that can be asked for does not work.
    Limited,
    /// No sandbox can be made.
    Missing,
}

/// The oldest kernel with every call that a launch makes: mount_setattr(2) came with 5.12.
const OLDEST: (u32, u32) = (5, 12);

/// Tries everything that a sandbox needs, with scratch directories in the cache directory `cache`, where those of real
/// runs will be.
pub fn examine(cache: &Path) -> Vec<Finding> {
    let mut findings = vec![kernel(&probe::kernel_release())];
    let single = [
        ("user namespace", CloneFlags::NONE),
        ("mount namespace", CloneFlags::MOUNT),
        ("pid namespace", CloneFlags::PID),
        ("net namespace", CloneFlags::NET),
        ("ipc namespace", CloneFlags::IPC),
        ("uts namespace", CloneFlags::UTS),
        ("cgroup namespace", CloneFlags::CGROUP),
    ];
    findings.extend(single.map(|(name, flags)| namespace(name, probe::namespaces(flags))));
    findings.push(namespace("time namespace", probe::time_namespace()));
    findings.push(filter(probe::call_filter()));
    findings.push(landlock(landlock::version()));
    let impossible = "sandboxes can't be made";
    findings.push(whole("sandbox", cache, Settings::default(), (Status::Missing, impossible)));
    let memory = Sandbox { scratch: ScratchKind::Memory, ..Sandbox::default() };
    let memory = Settings { sandbox: memory, ..Settings::default() };
    let without = (Status::Limited, "`sandbox.scratch = \"memory\"` does not work");
    findings.push(whole("scratch in memory", cache, memory, without));
    let rules = Settings { network: Network::Rules(Rules::default()), ..Settings::default() };
    let without = (Status::Limited, "`network.allow` and `network.publish` do not work");
    findings.push(whole("network rules", cache, rules, without));
    findings.extend(Controller::ALL.map(|controller| limit(controller, cache)));
    findings
}

fn found(name: &'static str, status: Status, detail: String) -> Finding {
    Finding { name, status, detail, consequence: None, fix: None }
}

fn kernel(release: &str) -> Finding {
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    let version = numbers.next().zip(numbers.next());
    let (major, minor) = OLDEST;
    if version.is_some_and(|version| version < OLDEST) {
        return Finding {
            consequence: Some("sandboxes can't be made".into()),
            fix: Some(format!("boot Linux {major}.{minor} or later")),
            ..found("kernel", Status::Missing, format!("Linux {release}"))
        };
    }
    found("kernel", Status::Ok, format!("Linux {release}"))
}

/// The second wall. Without it nothing is open that the others do not close, but for one.
fn landlock(version: u32) -> Finding {
    let (status, detail) = match version {
        0 => (Status::Limited, "the kernel has none, or it is switched off".to_owned()),
        1..6 => (Status::Limited, format!("version {version}")),
        _ => (Status::Ok, format!("version {version}")),
    };
    let mut finding = found("Landlock", status, detail);
    if status == Status::Limited {
        let sockets = "with `network.host = true`, abstract Unix sockets of the host can be reached";
        finding.consequence = Some(match version {
            0 | 1 => format!("there is no second wall behind the mounts and the system call filter; {sockets}"),
            _ => sockets.to_owned(),
        });
        finding.fix = Some("boot Linux 6.12 or later, with `landlock` in its `lsm=` parameter".to_owned());
    }
    finding
}

fn namespace(name: &'static str, tried: Result<(), CallError>) -> Finding {
    match tried {
        Ok(()) => found(name, Status::Ok, "made and left".into()),
        Err(error) => {
            let refusal = Refusal::of_launch(error);
            Finding {
                consequence: Some("sandboxes can't be made".into()),
                fix: refusal.hint,
                ..found(name, Status::Missing, error.to_string())
            }
        }
    }
}

fn filter(tried: Result<(), CallError>) -> Finding {
    const NAME: &str = "system call filter";
    match tried {
        Ok(()) => found(NAME, Status::Ok, "a process ran behind one".into()),
        Err(error) => Finding {
            consequence: Some("sandboxes can't be made".into()),
            fix: Refusal::of_step(&Step::FilterCalls(Calls::default()), error).hint,
            ..found(NAME, Status::Missing, error.to_string())
        },
    }
}

/// Runs `true` in a sandbox with these settings; how it is, and what follows, when it can't be.
fn whole(name: &'static str, cache: &Path, settings: Settings, without: (Status, &str)) -> Finding {
    match run_true(cache, settings) {
        Ok(None) => found(name, Status::Ok, "`true` ran in one".into()),
        Ok(Some(error)) | Err(error) => {
            let (status, consequence) = without;
            Finding { consequence: Some(consequence.into()), fix: error.hint(), ..found(name, status, chain(&error)) }
        }
    }
}

/// Runs `true` in a sandbox that is held to a limit; how it is held.
fn limit(controller: Controller, cache: &Path) -> Finding {
    let (name, limits) = match controller {
        Controller::Memory => ("memory limit", Limits { memory: Some(1 << 30), ..Limits::default() }),
        Controller::Pids => ("process limit", Limits { pids: Some(1000), ..Limits::default() }),
        Controller::Cpu => ("CPU limit", Limits { cpu_us: Some(CPU_PERIOD_US), ..Limits::default() }),
    };
    let without = format!("a run that asks for {} fails", controller.key());
    let settings = Settings { limits, ..Settings::default() };
    let finding = whole(name, cache, settings, (Status::Limited, &without));
    match group::find(&[controller]) {
        Ok(way) if finding.status == Status::Ok => {
            Finding { detail: format!("{}, by {way}", finding.detail), ..finding }
        }
        _ => finding,
    }
}

fn run_true(cache: &Path, settings: Settings) -> Result<Option<SandboxError>, SandboxError> {
    let cache = Store::open(cache.to_owned())?;
    // Where the store's own temporary files are: the next sbx sweeps what a killed one leaves there.
    let temporary = cache.path().join("tmp");
    let directory = |path: &Path| {
        std::fs::create_dir_all(path)?;
        tempfile::TempDir::new_in(path)
    };
    let own = directory(&temporary).map_err(SandboxError::Streams)?;
    let store = Store::open(own.path().join("store"))?;
    let root = own.path().join("project");
    std::fs::create_dir(&root).map_err(SandboxError::Streams)?;
    let request = Request {
        config_path: root.join("sandbox.toml"),
        project_root: root.clone(),
        settings,
        task: None,
        argv: vec!["true".into()],
        working_directory: root,
        environment: std::collections::BTreeMap::new(),
        proxies: Proxies::default(),
        needed_by: None,
        fed: Vec::new(),
    };
    let mut clock = Phases::new();
    let prepared = &sandbox::prepare(&store, &request, false, &Silent, &mut clock)?;
    let (cache, delivery) = (Use::Off, Delivery::Project);
    let options = Options { stdin: Stdin::Null, keep: false, pool: None, cache, delivery };
    let job = Job { store: &store, request: &request, prepared };
    Ok(sandbox::run(job, options, &mut |_| (), &mut clock)?.failure)
}

/// The error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::errno::{Call, Errno};

    #[test]
    fn a_landlock_that_is_missing_is_told_with_what_it_means() {
        assert_eq!((landlock(7).status, landlock(6).fix), (Status::Ok, None));
        let (old, none) = (landlock(2).consequence.unwrap(), landlock(0).consequence.unwrap());
        assert!(!old.contains("second wall") && old.contains("abstract") && none.contains("second wall"));
    }

    #[test]
    fn a_missing_call_filter_is_told_with_its_fix() {
        assert_eq!(filter(Ok(())).status, Status::Ok);
        let missing = filter(Err(CallError { call: Call::seccomp, errno: Errno::EINVAL }));
        assert_eq!(missing.status, Status::Missing);
        assert!(missing.fix.unwrap().contains("CONFIG_SECCOMP_FILTER"));
    }

    #[test]
    fn an_old_kernel_is_named_with_the_fix() {
        assert_eq!(kernel("6.18.44-x").status, Status::Ok);
        assert_eq!(kernel("5.12.0").status, Status::Ok);
        assert_eq!(kernel("strange").status, Status::Ok);
        let old = kernel("5.10.0-28-amd64");
        assert_eq!(old.status, Status::Missing);
        assert_eq!(old.fix.as_deref(), Some("boot Linux 5.12 or later"));
    }
}
