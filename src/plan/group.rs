//! The cgroup of a run: what it is held to, and how this machine can do that.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::PlanError;
use crate::config::model::{CPU_PERIOD_US, Limits};

/// What a run is held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Bounds {
    /// Memory of all its processes together, in bytes.
    pub memory: Option<u64>,
    /// Processes and threads of the command's at once; PID 1 is not counted.
    pub pids: Option<u64>,
    /// CPU time in microseconds for each [`CPU_PERIOD_US`].
    pub cpu_us: Option<u64>,
}

impl Bounds {
    /// What `limits` ask of a cgroup.
    pub fn of(limits: &Limits) -> Self {
        Self { memory: limits.memory, pids: limits.pids, cpu_us: limits.cpu_us }
    }

    /// The controllers that they need.
    pub fn controllers(&self) -> Vec<Controller> {
        let wanted = [(Controller::Memory, self.memory), (Controller::Pids, self.pids), (Controller::Cpu, self.cpu_us)];
        wanted.into_iter().filter_map(|(controller, bound)| bound.map(|_| controller)).collect()
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let memory = self.memory.map(|bytes| format!("{} of memory", BinarySize(bytes)));
        let pids = self.pids.map(processes);
        let cpus = self.cpu_us.map(|us| format!("{} CPUs", us as f64 / CPU_PERIOD_US as f64));
        let all: Vec<_> = [memory, pids, cpus].into_iter().flatten().collect();
        f.write_str(&all.join(", "))
    }
}

/// So many processes, in words.
pub fn processes(count: u64) -> String {
    if count == 1 { "1 process".to_owned() } else { format!("{count} processes") }
}

/// A size in the largest unit in which it is a whole number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BinarySize(pub u64);

impl fmt::Display for BinarySize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
        match units.into_iter().find(|(shift, _)| self.0 > 0 && self.0.trailing_zeros() >= *shift) {
            Some((shift, unit)) => write!(f, "{} {unit}", self.0 >> shift),
            None => write!(f, "{} B", self.0),
        }
    }
}

/// A part of the kernel that holds a cgroup to something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Controller {
    /// Memory.
    Memory,
    /// Processes.
    Pids,
    /// CPU time.
    Cpu,
}

impl Controller {
    /// All.
    pub const ALL: [Self; 3] = [Self::Memory, Self::Pids, Self::Cpu];

    /// The kernel's name, the same in both versions of cgroups.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Cpu => "cpu",
        }
    }

    /// The key of `sandbox.toml` that needs it.
    pub fn key(self) -> &'static str {
        match self {
            Self::Memory => "`limits.memory`",
            Self::Pids => "`limits.pids`",
            Self::Cpu => "`limits.cpus`",
        }
    }
}

/// How a machine can hold a run to its bounds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// By a cgroup of version 2.
    Unified {
        /// Below which one it is made.
        parent: PathBuf,
        /// The controllers that must be switched on there first.
        enable: Vec<Controller>,
        /// Whether sbx itself is in the parent and must leave it for a cgroup beside: where there are processes, nothing can
        /// be switched on for those below (cgroups(7), "no internal processes").
        step_aside: bool,
    },
    /// By one of version 1 for each controller, below these.
    Legacy {
        /// The controllers and the caller's own cgroup of each.
        parents: Vec<(Controller, PathBuf)>,
    },
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unified { parent, .. } => write!(f, "cgroup v2 at {}", parent.display()),
            Self::Legacy { parents } => {
                let places: Vec<_> = parents.iter().map(|(_, path)| path.display().to_string()).collect();
                write!(f, "cgroup v1 at {}", places.join(", "))
            }
        }
    }
}

/// Why a machine can't do it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// What stands in the way.
    pub cause: String,
    /// What to do about it.
    pub fix: String,
}

/// The cgroup of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Group {
    /// What it holds the run to.
    pub bounds: Bounds,
    /// How.
    pub way: Way,
}

/// The cgroup that `limits` need on a machine that is like `found`.
///
/// # Errors
/// When it can't be made there.
pub fn decide(limits: &Limits, found: Option<&Result<Way, Obstacle>>) -> Result<Option<Group>, PlanError> {
    let bounds = Bounds::of(limits);
    let controllers = bounds.controllers();
    if controllers.is_empty() {
        return Ok(None);
    }
    let unlooked = || Obstacle {
        cause: "nobody looked how this machine can do it".to_owned(),
        fix: "this is a bug of sbx; please report it".to_owned(),
    };
    match found {
        Some(Ok(way)) => Ok(Some(Group { bounds, way: way.clone() })),
        found => {
            let obstacle = found.and_then(|found| found.clone().err()).unwrap_or_else(unlooked);
            Err(PlanError::Unenforceable { limits: controllers.into_iter().map(Controller::key).collect(), obstacle })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits { memory: Some(3 << 29), pids: Some(1), cpu_us: Some(150_000), ..Limits::default() }
    }

    #[test]
    fn nothing_is_needed_where_nothing_is_asked() {
        let limits = Limits { open_files: Some(9), disk: Some(1), ..Limits::default() };
        assert_eq!(decide(&limits, None), Ok(None));
    }

    #[test]
    fn what_can_t_be_enforced_is_an_error_with_cause_and_fix() {
        let obstacle = Obstacle { cause: "no".into(), fix: "do".into() };
        let error = decide(&limits(), Some(&Err(obstacle))).unwrap_err();
        let expected = "`limits.memory` and `limits.pids` and `limits.cpus` can't be enforced: no";
        assert_eq!((error.to_string().as_str(), error.hint().as_deref()), (expected, Some("do")));
        assert!(decide(&limits(), None).is_err());
    }

    #[test]
    fn bounds_are_told_in_words() {
        assert_eq!(Bounds::of(&limits()).to_string(), "1536 MiB of memory, 1 process, 1.5 CPUs");
        let sizes = [0, 1, 1 << 10, 3 << 30, (1 << 40) + 1].map(|size| BinarySize(size).to_string());
        assert_eq!(sizes, ["0 B", "1 B", "1 KiB", "3 GiB", "1099511627777 B"]);
        let way = Way::Legacy { parents: vec![(Controller::Memory, "/m".into()), (Controller::Pids, "/p".into())] };
        assert_eq!(way.to_string(), "cgroup v1 at /m, /p");
    }
}
