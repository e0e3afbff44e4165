//! How this machine can hold a run to limits, as its files say.

use std::fs;
use std::path::{Path, PathBuf};

use crate::config::model::Limits;
use crate::plan::group::{Bounds, Controller, Obstacle, Way};
use crate::sys::cgroup::is_writable;

/// What the plan has to know for `limits`; nothing is looked at where they need nothing.
pub fn facts(limits: &Limits) -> Option<Result<Way, Obstacle>> {
    let wanted = Bounds::of(limits).controllers();
    (!wanted.is_empty()).then(|| find(&wanted))
}

/// How this machine can hold a run to limits that need these controllers, by version 2 if it can, else by version 1. Nothing
/// is made or changed.
///
/// # Errors
/// Why it can't.
pub fn find(wanted: &[Controller]) -> Result<Way, Obstacle> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let scene = Scene {
        groups: &read("/proc/self/cgroup"),
        mounts: &read("/proc/self/mountinfo"),
        swap: read("/proc/swaps").lines().count() > 1,
        manager: std::env::var_os("XDG_RUNTIME_DIR")
            .is_some_and(|dir| Path::new(&dir).join("systemd/private").exists()),
        own: std::process::id(),
    };
    scene.find(wanted)
}

/// What decides about it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scene<'a> {
    /// `/proc/self/cgroup`
    pub(super) groups: &'a str,
    /// `/proc/self/mountinfo`
    pub(super) mounts: &'a str,
    /// Whether the machine swaps.
    pub(super) swap: bool,
    /// Whether a systemd manager of the user's own runs: `systemd-run --user` speaks to it by this socket.
    pub(super) manager: bool,
    /// The process id of sbx.
    pub(super) own: u32,
}

/// A mounted hierarchy, and the caller's own cgroup in it.
struct Hierarchy {
    top: PathBuf,
    own: PathBuf,
}

/// What keeps version 2 from it.
struct Refused {
    why: String,
    /// Whether the user manager could mend it.
    by_delegation: bool,
}

impl Scene<'_> {
    pub(super) fn find(&self, wanted: &[Controller]) -> Result<Way, Obstacle> {
        let refused = match self.unified(wanted) {
            Ok(way) => return Ok(way),
            Err(refused) => refused,
        };
        let legacy = match self.legacy(wanted) {
            Ok(way) => return Ok(way),
            Err(why) => why,
        };
        let fix = if refused.by_delegation && self.manager {
            "let the user manager delegate a cgroup: `systemd-run --user --scope -p Delegate=yes sbx run …`".to_owned()
        } else if refused.by_delegation {
            let names: Vec<_> = wanted.iter().map(|controller| controller.name()).collect();
            format!("run sbx in a cgroup v2 that is delegated to this user with {}, or as root", names.join(", "))
        } else {
            "run sbx as root, or leave the limit out".to_owned()
        };
        Err(Obstacle { cause: [Some(refused.why), legacy].into_iter().flatten().collect::<Vec<_>>().join("; "), fix })
    }

    /// The nearest cgroup, from the caller's own upwards, below which one with these controllers can be made: best one where
    /// nothing has to be switched on.
    fn unified(&self, wanted: &[Controller]) -> Result<Way, Refused> {
        let fixed = |why: String| Refused { why, by_delegation: false };
        let Some(Hierarchy { top, own }) = self.hierarchy(None) else {
            return Err(fixed("cgroup v2 is not mounted".to_owned()));
        };
        let words = |path: &Path, name: &str| fs::read_to_string(path.join(name)).unwrap_or_default();
        let has = |text: &str, controller: &Controller| text.split_whitespace().any(|word| word == controller.name());
        let at_top = words(&top, "cgroup.controllers");
        if let Some(missing) = wanted.iter().find(|controller| !has(&at_top, controller)) {
            let (name, top) = (missing.name(), top.display());
            return Err(fixed(format!("cgroup v2 at {top} has no controller `{name}`")));
        }
        let usable = |path: &&Path| {
            let controllers = words(path, "cgroup.controllers");
            is_writable(path)
                && is_writable(&path.join("cgroup.procs"))
                && wanted.iter().all(|controller| has(&controllers, controller))
        };
        let missing = |path: &Path| {
            let enabled = words(path, "cgroup.subtree_control");
            wanted.iter().filter(|controller| !has(&enabled, controller)).copied().collect::<Vec<_>>()
        };
        let usable: Vec<_> = own.ancestors().take_while(|path| path.starts_with(&top)).filter(usable).collect();
        let way = |path: &Path, enable, step_aside| Way::Unified { parent: path.to_owned(), enable, step_aside };
        if let Some(path) = usable.iter().find(|path| missing(path).is_empty()) {
            return Ok(way(path, Vec::new(), false));
        }
        for path in usable.iter().filter(|path| is_writable(&path.join("cgroup.subtree_control"))) {
            let members = words(path, "cgroup.procs");
            // The root of all has no type, and may have processes beside cgroups.
            let is_root = !path.join("cgroup.type").exists();
            if is_root || members.trim().is_empty() {
                return Ok(way(path, missing(path), false));
            }
            if members.trim() == self.own.to_string() {
                return Ok(way(path, missing(path), true));
            }
        }
        let own = own.display();
        let why = if usable.is_empty() {
            format!("cgroup v2: this user may make no cgroup with the controllers at {own} or above")
        } else {
            format!("cgroup v2: other processes than sbx are in {own}, so that no controller can be switched on there")
        };
        Err(Refused { why, by_delegation: true })
    }

    /// The caller's own cgroups of version 1, if there is one for each controller; else why not, where the machine has any.
    fn legacy(&self, wanted: &[Controller]) -> Result<Way, Option<String>> {
        let mut parents = Vec::new();
        for controller in wanted {
            let name = controller.name();
            let Some(Hierarchy { own, .. }) = self.hierarchy(Some(name)) else {
                return Err((!parents.is_empty()).then(|| format!("cgroup v1 has no controller `{name}`")));
            };
            if !is_writable(&own) {
                return Err(Some(format!("cgroup v1: this user may make no cgroup in {}", own.display())));
            }
            if *controller == Controller::Memory && self.swap && !own.join("memory.memsw.limit_in_bytes").exists() {
                return Err(Some("cgroup v1 can't limit swap here (boot with `swapaccount=1`)".to_owned()));
            }
            parents.push((*controller, own));
        }
        Ok(Way::Legacy { parents })
    }

    /// The hierarchy of a controller of version 1, or that of version 2.
    fn hierarchy(&self, controller: Option<&str>) -> Option<Hierarchy> {
        let path = self.groups.lines().find_map(|line| {
            let (number, rest) = line.split_once(':')?;
            let (names, path) = rest.split_once(':')?;
            let is_it = match controller {
                None => number == "0" && names.is_empty(),
                Some(controller) => names.split(',').any(|name| name == controller),
            };
            is_it.then_some(path)
        })?;
        // The last mount is the one that is seen. With ".." in it the path is outside of the cgroup namespace.
        let (root, top) = self.mounts.lines().filter_map(|line| mounted(line, controller)).next_back()?;
        let below = Path::new(path).strip_prefix(&root).ok().filter(|_| !path.starts_with("/.."))?;
        Some(Hierarchy { own: top.join(below).components().collect(), top })
    }
}

/// The root and the mount point, when the line of mountinfo is of such a hierarchy (proc_pid_mountinfo(5)).
fn mounted(line: &str, controller: Option<&str>) -> Option<(PathBuf, PathBuf)> {
    let (before, after) = line.split_once(" - ")?;
    let mut fields = before.split(' ').skip(3);
    let (root, point) = (fields.next()?, fields.next()?);
    let mut fields = after.split(' ');
    let (kind, _, options) = (fields.next()?, fields.next()?, fields.next()?);
    let is_it = match controller {
        None => kind == "cgroup2",
        Some(controller) => kind == "cgroup" && options.split(',').any(|option| option == controller),
    };
    let plain = |text: &str| PathBuf::from(text.replace("\\040", " "));
    is_it.then(|| (plain(root), plain(point)))
}
