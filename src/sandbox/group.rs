//! The cgroup of a living run: found out how it can be made, made, read, removed.
//!
//! A cgroup `sbx-ID` belongs to whoever holds a lock on its directory: sbx, and after its death the janitor. One that
//! nobody holds is left over, and the next run that makes its own beside it removes it.

use std::ffi::CString;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

pub use scene::{facts, find};

use crate::config::model::CPU_PERIOD_US;
use crate::plan::group::{BinarySize, Bounds, Controller, Group, Way, processes};
use crate::record::{self, Usage};
use crate::sys::cgroup::{Doomed, Entry, Janitor};
use crate::sys::clone;

mod scene;

/// How the names of all cgroups of sbx begin.
const PREFIX: &str = "sbx-";
/// How often a cgroup that is still busy is tried again, and the time between.
const TRIES: u32 = 500;
const PAUSE: Duration = Duration::from_millis(2);

/// The most that one page adds, in bytes.
const HUGE_PAGE: u64 = 2 << 20;

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
    /// Where sbx itself waits meanwhile.
    aside: Option<Aside>,
    janitor: Option<Janitor>,
}

/// sbx has left its own cgroup for one below it, so that controllers could be switched on there.
#[derive(Debug)]
struct Aside {
    from: PathBuf,
    place: Place,
    enabled: String,
}

/// What is about to be made, for the words of an error.
#[derive(Clone, Copy)]
struct Making<'a>(&'a Bounds);

impl Making<'_> {
    fn failed(self, doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> GroupError {
        let (bounds, path) = (self.0.to_string(), path.to_owned());
        move |source| GroupError { bounds, doing, path, source }
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

    /// Leaves the cgroup `parent`, which is sbx's own, and switches `text` on there.
    fn step_aside(self, parent: &Path, id: &str, text: &str) -> Result<Aside, GroupError> {
        let place = self.directory(parent, &format!("{PREFIX}{id}-own"))?;
        let aside = Aside { from: parent.to_owned(), place, enabled: text.replace('+', "-") };
        self.write(&aside.place.path.join("cgroup.procs"), "0")?;
        self.write(&parent.join("cgroup.subtree_control"), text)?;
        Ok(aside)
    }

    /// Everything is refused or holds: no limit is left out.
    fn limit(self, controller: Controller, path: &Path, unified: bool) -> Result<(), GroupError> {
        let bound = match controller {
            Controller::Memory => self.0.memory,
            // PID 1 is ours.
            Controller::Pids => self.0.pids.map(|pids| pids + 1),
            Controller::Cpu => self.0.cpu_us,
        };
        let Some(bound) = bound else { return Ok(()) };
        let write = |name: &str, text: String| self.write(&path.join(name), &text);
        let there = |name: &str| path.join(name).exists();
        match (controller, unified) {
            (Controller::Memory, true) => {
                write("memory.max", bound.to_string())?;
                if there("memory.swap.max") {
                    write("memory.swap.max", "0".to_owned())?;
                }
                write("memory.oom.group", "1".to_owned())
            }
            (Controller::Memory, false) => {
                write("memory.limit_in_bytes", bound.to_string())?;
                if there("memory.memsw.limit_in_bytes") {
                    write("memory.memsw.limit_in_bytes", bound.to_string())?;
                }
                Ok(())
            }
            (Controller::Pids, _) => write("pids.max", bound.to_string()),
            (Controller::Cpu, true) => write("cpu.max", format!("{bound} {CPU_PERIOD_US}")),
            (Controller::Cpu, false) => {
                write("cpu.cfs_period_us", CPU_PERIOD_US.to_string())?;
                write("cpu.cfs_quota_us", bound.to_string())
            }
        }
    }
}

impl Living {
    /// Makes it for the run `id`.
    ///
    /// # Errors
    /// When any part of it is refused; nothing is left then.
    pub fn make(group: &Group, id: &str) -> Result<Self, GroupError> {
        let making = Making(&group.bounds);
        let name = format!("{PREFIX}{id}");
        let unified = matches!(group.way, Way::Unified { .. });
        let mut living = Self { bounds: group.bounds, unified, places: Vec::new(), aside: None, janitor: None };
        let parents = match &group.way {
            Way::Unified { parent, enable, step_aside } => {
                let text =
                    enable.iter().map(|controller| format!("+{}", controller.name())).collect::<Vec<_>>().join(" ");
                if *step_aside {
                    living.aside = Some(making.step_aside(parent, id, &text)?);
                } else if !text.is_empty() {
                    making.write(&parent.join("cgroup.subtree_control"), &text)?;
                }
                vec![(group.bounds.controllers(), parent)]
            }
            Way::Legacy { parents } => parents.iter().map(|(controller, parent)| (vec![*controller], parent)).collect(),
        };
        for (controllers, parent) in parents {
            sweep(parent);
            living.places.push(making.directory(parent, &name)?);
            for controller in controllers {
                making.limit(controller, &parent.join(&name), unified)?;
            }
        }
        let doomed = living.places.iter().map(|place| doomed(making, place)).collect::<Result<Vec<_>, _>>()?;
        let refused = |error: crate::sys::errno::CallError| io::Error::from_raw_os_error(error.errno.0);
        let janitor = Janitor::start(&doomed).map_err(refused);
        living.janitor = Some(janitor.map_err(making.failed("watch over", &living.places[0].path))?);
        Ok(living)
    }

    /// The way in, for PID 1.
    ///
    /// # Errors
    /// When the files can't be opened.
    pub fn entry(&self) -> Result<Entry, GroupError> {
        let making = Making(&self.bounds);
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

impl Drop for Living {
    fn drop(&mut self) {
        for place in &self.places {
            remove(&place.path);
        }
        // It finds nothing left to do.
        self.janitor = None;
        if let Some(aside) = self.aside.take() {
            // What fails here concerns nobody but the cgroup that was made for us.
            let _ = write(&aside.from.join("cgroup.subtree_control"), &aside.enabled);
            let _ = write(&aside.from.join("cgroup.procs"), "0");
            remove(&aside.place.path);
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

fn doomed(making: Making<'_>, place: &Place) -> Result<Doomed, GroupError> {
    let failed = || making.failed("open", &place.path);
    let parent = place.path.parent().unwrap_or(&place.path);
    let name = place.path.file_name().unwrap_or_default().as_encoded_bytes();
    Ok(Doomed {
        parent: File::open(parent).map_err(failed())?.into(),
        name: CString::new(name).map_err(|error| failed()(error.into()))?,
        directory: place.directory.try_clone().map_err(failed())?.into(),
    })
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

/// Removes a cgroup. Its processes are dead, but the kernel may still be at it; whoever is not is killed.
fn remove(path: &Path) {
    for _ in 0..TRIES {
        match fs::remove_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
            _ => return,
        }
        let _ = write(&path.join("cgroup.kill"), "1");
        thread::sleep(PAUSE);
    }
}

/// Whether `path` is still the name of `directory`.
fn is_there(path: &Path, directory: &File) -> bool {
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    fs::metadata(path).ok().map(identity) == directory.metadata().ok().map(identity)
}

/// Removes what killed runs left in `parent`. What can't be removed stays for the next time: a sweep never stops a run.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX))
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
