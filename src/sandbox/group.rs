//! The cgroup of a living run: found out how it can be made, made, read, removed.
//!
//! A cgroup `sbx-ID` belongs to the sbx that holds a lock on its directory, and a janitor process removes it when that is
//! done or dead. One that nobody holds is left over, for both were killed, and the next run that makes its own beside it
//! removes it.

use std::ffi::CString;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

pub use scene::{facts, find};

use crate::config::model::CPU_PERIOD_US;
use crate::plan::group::{BinarySize, Bounds, Controller, Group, Way, processes};
use crate::record::{self, Usage};
use crate::sys::cgroup::{Duty, Entry, Janitor};
use crate::sys::clone;

mod scene;

/// How the names of all cgroups of sbx begin.
const PREFIX: &str = "sbx-";
/// The most that one page adds, in bytes.
const HUGE_PAGE: u64 = 2 << 20;
/// The largest page that a kernel counts in, in bytes (AArch64).
const PAGE: u64 = 64 << 10;

/// A cgroup can't be used.
#[derive(Debug, thiserror::Error)]
#[error("can't hold the sandbox to {bounds}: can't {doing} {}", path.display())]
pub struct GroupError {
    bounds: String,
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// A limit that a run met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hit {
    /// This many bytes of memory.
    Memory(u64),
    /// This many processes.
    Pids(u64),
}

impl fmt::Display for Hit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(bytes) => write!(f, "killed: memory limit {}", BinarySize(*bytes)),
            Self::Pids(count) => write!(f, "limit reached: {}", processes(*count)),
        }
    }
}

impl From<Hit> for record::Limit {
    fn from(hit: Hit) -> Self {
        let (name, value) = match hit {
            Hit::Memory(bytes) => (Controller::Memory, bytes),
            Hit::Pids(count) => (Controller::Pids, count),
        };
        Self { name: name.name().to_owned(), value }
    }
}

/// What a cgroup says at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    /// The limit that was met.
    pub hit: Option<Hit>,
    /// The most memory at one time, in bytes.
    peak: Option<u64>,
    /// CPU time outside of the kernel and in it, in microseconds.
    cpu_us: Option<(u64, u64)>,
    /// Bytes read from disks and written to them.
    io: Option<(u64, u64)>,
}

/// What a run has used, by its cgroup as far as that knows, else by its processes.
pub fn usage(held: Option<Held>, processes: Option<clone::Usage>) -> Option<Usage> {
    let (held, used) = (held.unwrap_or_default(), processes?);
    let (user_us, system_us) = held.cpu_us.unwrap_or((used.user_us, used.system_us));
    let (read_bytes, written_bytes) = held.io.unwrap_or((used.read, used.written));
    let peak_of = if held.peak.is_some() { Usage::ALL } else { Usage::LARGEST }.to_owned();
    Some(Usage {
        peak_memory: held.peak.unwrap_or(used.largest),
        peak_of,
        user_us,
        system_us,
        read_bytes,
        written_bytes,
    })
}

/// One cgroup of ours, locked.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    directory: File,
}

/// The cgroup of a living run (of version 1: one for each controller). Dropping it removes it.
#[derive(Debug)]
pub struct Living {
    bounds: Bounds,
    unified: bool,
    places: Vec<Place>,
    /// Puts everything back when this is dropped, or sbx killed: begun before there is anything to put back.
    _janitor: Janitor,
}

/// What is about to be made, for the words of an error.
#[derive(Clone, Copy)]
struct Making<'a> {
    bounds: &'a Bounds,
    /// The id of the run.
    id: &'a str,
}

impl Making<'_> {
    fn failed(self, doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> GroupError {
        let (bounds, path) = (self.bounds.to_string(), path.to_owned());
        move |source| GroupError { bounds, doing, path, source }
    }

    /// The name of the run's cgroup in its parent.
    fn name(self) -> String {
        format!("{PREFIX}{}", self.id)
    }

    /// The name of the one to which sbx steps aside.
    fn aside(self) -> String {
        format!("{PREFIX}{}-own", self.id)
    }

    fn write(self, path: &Path, text: &str) -> Result<(), GroupError> {
        write(path, text).map_err(self.failed("write to", path))
    }

    /// Makes a cgroup and takes the lock on it.
    fn directory(self, parent: &Path, name: &str) -> Result<Place, GroupError> {
        let path = parent.join(name);
        loop {
            fs::create_dir(&path).map_err(self.failed("make", &path))?;
            let directory = File::open(&path).map_err(self.failed("open", &path))?;
            directory.lock().map_err(self.failed("lock", &path))?;
            // A sweep that came between the two has removed it.
            if is_there(&path, &directory) {
                return Ok(Place { path, directory });
            }
        }
    }

    /// What the janitor has to do for these places.
    fn duties(self, way: &Way) -> Result<Vec<Duty>, GroupError> {
        let text = |text: String| {
            CString::new(text).map_err(|error| self.failed("write to", Path::new(self.id))(error.into()))
        };
        let remove = |parent: &Path, name: String| {
            let opened = File::open(parent).map_err(self.failed("open", parent))?;
            Ok(Duty::Remove { parent: opened.into(), name: text(name)? })
        };
        let put_back = |file: &Path, what: String| {
            let opened = open_to_write(file).map_err(self.failed("open", file))?;
            Ok(Duty::Write { file: opened.into(), text: text(what)? })
        };
        match way {
            Way::Legacy { parents } => parents.iter().map(|(_, parent)| remove(parent, self.name())).collect(),
            Way::Unified { parent, step_aside: false, .. } => Ok(vec![remove(parent, self.name())?]),
            Way::Unified { parent, step_aside: true, enable } => {
                let (switches, members) = (parent.join("cgroup.subtree_control"), parent.join("cgroup.procs"));
                Ok(vec![
                    remove(parent, self.name())?,
                    put_back(&switches, switched(enable, '-'))?,
                    Duty::Return {
                        members: open_to_write(&members).map_err(self.failed("open", &members))?.into(),
                        maker: text(std::process::id().to_string())?,
                    },
                    // The janitor itself.
                    put_back(&members, "0".to_owned())?,
                    remove(parent, self.aside())?,
                ])
            }
        }
    }

    /// Everything is refused or holds: no limit is left out.
    fn limit(self, controller: Controller, path: &Path, unified: bool) -> Result<(), GroupError> {
        let bound = match controller {
            Controller::Memory => self.bounds.memory,
            // PID 1 is ours.
            Controller::Pids => self.bounds.pids.map(|pids| pids + 1),
            Controller::Cpu => self.bounds.cpu_us,
        };
        let Some(bound) = bound else { return Ok(()) };
        let hold = |name: &str, bound: u64| self.hold(&path.join(name), bound);
        let there = |name: &str| path.join(name).exists();
        match (controller, unified) {
            (Controller::Memory, true) => {
                hold("memory.max", bound)?;
                if there("memory.swap.max") {
                    hold("memory.swap.max", 0)?;
                }
                hold("memory.oom.group", 1)
            }
            (Controller::Memory, false) => {
                hold("memory.limit_in_bytes", bound)?;
                if there("memory.memsw.limit_in_bytes") {
                    hold("memory.memsw.limit_in_bytes", bound)?;
                }
                Ok(())
            }
            (Controller::Pids, _) => hold("pids.max", bound),
            // The period after it is the kernel's own default.
            (Controller::Cpu, true) => hold("cpu.max", bound),
            (Controller::Cpu, false) => {
                hold("cpu.cfs_period_us", CPU_PERIOD_US)?;
                hold("cpu.cfs_quota_us", bound)
            }
        }
    }

    /// Writes one number, and reads it back: what only looks like a cgroup holds nothing. The kernel rounds memory down to
    /// whole pages.
    fn hold(self, path: &Path, bound: u64) -> Result<(), GroupError> {
        self.write(path, &bound.to_string())?;
        let text = fs::read_to_string(path).map_err(self.failed("read", path))?;
        let held = text.split_whitespace().next().and_then(|word| word.parse::<u64>().ok());
        if held.is_some_and(|held| held <= bound && bound - held < PAGE) {
            return Ok(());
        }
        let says = if text.trim().is_empty() { "nothing" } else { text.trim() };
        let source = io::Error::other(format!("{bound} was written to it, and it says {says}"));
        Err(self.failed("rely on", path)(source))
    }
}

/// These controllers, each behind `sign`, as `cgroup.subtree_control` takes them.
fn switched(controllers: &[Controller], sign: char) -> String {
    controllers.iter().map(|controller| format!("{sign}{}", controller.name())).collect::<Vec<_>>().join(" ")
}

impl Living {
    /// Makes it for the run `id`.
    ///
    /// # Errors
    /// When any part of it is refused; nothing is left then.
    pub fn make(group: &Group, id: &str) -> Result<Self, GroupError> {
        let making = Making { bounds: &group.bounds, id };
        let refused = |error: crate::sys::errno::CallError| io::Error::from_raw_os_error(error.errno.0);
        let duties = making.duties(&group.way)?;
        let janitor = Janitor::start(&duties).map_err(refused).map_err(making.failed("watch over", Path::new(id)))?;
        let (unified, parents) = match &group.way {
            Way::Unified { parent, enable, step_aside } => {
                if *step_aside {
                    // Where there are processes nothing can be switched on.
                    let members = making.directory(parent, &making.aside())?.path.join("cgroup.procs");
                    making.write(&members, &janitor.pid().to_string())?;
                    making.write(&members, "0")?;
                }
                if !enable.is_empty() {
                    making.write(&parent.join("cgroup.subtree_control"), &switched(enable, '+'))?;
                }
                (true, vec![(group.bounds.controllers(), parent)])
            }
            Way::Legacy { parents } => {
                (false, parents.iter().map(|(controller, parent)| (vec![*controller], parent)).collect())
            }
        };
        let mut places = Vec::new();
        for (controllers, parent) in parents {
            sweep(parent);
            let place = making.directory(parent, &making.name())?;
            for controller in controllers {
                making.limit(controller, &place.path, unified)?;
            }
            places.push(place);
        }
        Ok(Self { bounds: group.bounds, unified, places, _janitor: janitor })
    }

    /// The way in, for PID 1.
    ///
    /// # Errors
    /// When the files can't be opened.
    pub fn entry(&self) -> Result<Entry, GroupError> {
        let making = Making { bounds: &self.bounds, id: "" };
        let directory = match self.places.first().filter(|_| self.unified) {
            Some(place) => Some(place.directory.try_clone().map_err(making.failed("open", &place.path))?.into()),
            None => None,
        };
        let procs = self.places.iter().map(|place| {
            let path = place.path.join("cgroup.procs");
            open_to_write(&path).map(OwnedFd::from).map_err(making.failed("open", &path))
        });
        Ok(Entry::new(directory, procs.collect::<Result<_, _>>()?))
    }

    /// Where they are.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.places.iter().map(|place| place.path.clone()).collect()
    }

    /// What it says now that everything in it is dead.
    pub fn end(&self) -> Held {
        let read = |name: &str| {
            self.places.iter().find_map(|place| fs::read_to_string(place.path.join(name)).ok()).unwrap_or_default()
        };
        let number = |name: &str| read(name).trim().parse::<u64>().ok();
        let (kills, is_reached, peak) = if self.unified {
            let (events, peak) = (read("memory.events"), number("memory.peak"));
            (field(&events, "oom_kill"), field(&events, "oom").unwrap_or_default() > 0, peak)
        } else {
            // Its counters of failures stay at zero in kernels of today.
            let peak = number("memory.max_usage_in_bytes");
            let is_near =
                peak.zip(self.bounds.memory).is_some_and(|(peak, limit)| peak.saturating_add(HUGE_PAGE) >= limit);
            (field(&read("memory.oom_control"), "oom_kill"), is_near, peak)
        };
        // Kills without our own limit reached are the machine's, or those of a cgroup above.
        let is_killed = kills.unwrap_or_default() > 0 && is_reached;
        let is_refused = field(&read("pids.events"), "max").unwrap_or_default() > 0;
        let memory = self.bounds.memory.filter(|_| is_killed).map(Hit::Memory);
        let pids = self.bounds.pids.filter(|_| is_refused).map(Hit::Pids);
        let cpu = if self.unified { read("cpu.stat") } else { String::new() };
        Held {
            hit: memory.or(pids),
            peak,
            cpu_us: field(&cpu, "user_usec").zip(field(&cpu, "system_usec")),
            io: read_io(&read("io.stat")),
        }
    }
}

/// The way into the cgroups of a run, for one more process.
///
/// # Errors
/// When one of them can't be opened for that.
pub fn entry_of(paths: &[PathBuf]) -> Result<Option<Entry>, GroupError> {
    if paths.is_empty() {
        return Ok(None);
    }
    let procs = paths.iter().map(|path| {
        let path = path.join("cgroup.procs");
        let failed =
            |source| GroupError { bounds: "the run's limits".to_owned(), doing: "open", path: path.clone(), source };
        open_to_write(&path).map(OwnedFd::from).map_err(failed)
    });
    Ok(Some(Entry::new(None, procs.collect::<Result<_, _>>()?)))
}

fn open_to_write(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).open(path)
}

/// The kernel takes a file's text in one write.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let written = open_to_write(path)?.write(text.as_bytes())?;
    if written == text.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// The number after `name` in lines of a name and a number.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Bytes read and written, of all devices: `8:0 rbytes=1 wbytes=2 …`.
fn read_io(text: &str) -> Option<(u64, u64)> {
    let sum = |key: &str| {
        let values = text.split_whitespace().filter_map(|word| word.strip_prefix(key)?.parse::<u64>().ok());
        values.sum::<u64>()
    };
    (!text.is_empty()).then(|| (sum("rbytes="), sum("wbytes=")))
}

/// Whether `path` is still the name of `directory`.
fn is_there(path: &Path, directory: &File) -> bool {
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    fs::metadata(path).ok().map(identity) == directory.metadata().ok().map(identity)
}

/// Whether it is a run's id, with or without what follows it for the cgroup of sbx itself.
fn names_a_run(name: &str) -> bool {
    let parts: Vec<_> = name.strip_suffix("-own").unwrap_or(name).split('-').collect();
    let is_hex = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    parts.len() == 4 && parts.iter().all(is_hex)
}

/// Removes what killed runs left in `parent`. What can't be removed stays for the next time: a sweep never stops a run.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if entry.file_name().to_str().and_then(|name| name.strip_prefix(PREFIX)).is_some_and(names_a_run)
            && entry.file_type().is_ok_and(|kind| kind.is_dir())
            && let Ok(directory) = File::open(entry.path())
            && directory.try_lock().is_ok()
        {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

#[cfg(test)]
mod tests;
