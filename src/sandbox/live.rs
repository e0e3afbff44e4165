//! Living runs, as another sbx sees them: the card `scratch/ID/run.json` says what runs, the lock on it that it does.
//!
//! Whoever holds the lock lives (see [`super::scratch`]); a file alone proves nothing, nor does a process id. The card goes
//! with the scratch directory, whichever way that goes, so nothing else cleans up after it.

pub mod namespaces;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::scratch::{CARD, Scratch};
use crate::plan::calls::Calls;
use crate::plan::step::{Landlock, Limit};
use crate::store::records;
use crate::sys::proc::{self, Process};

/// The version of the form below. Another sbx may be another version.
const VERSION: u32 = 2;

/// Living runs can't be listed.
#[derive(Debug, thiserror::Error)]
#[error("can't list the running sandboxes in {}", path.display())]
pub struct LiveError {
    path: PathBuf,
    source: io::Error,
}

/// What a living run says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The version of this form.
    pub version: u32,
    /// The run's id.
    pub id: String,
    /// The directory that holds the `sandbox.toml`.
    pub project: String,
    /// The task's name, when a task is run.
    pub task: Option<String>,
    /// Program and arguments.
    pub command: Vec<String>,
    /// The working directory inside.
    pub cwd: String,
    /// When the run began, RFC 3339, UTC.
    pub started: String,
    /// The process of sbx.
    pub sbx: ProcessName,
    /// PID 1 of the sandbox.
    pub init: ProcessName,
    /// The pid namespace in which both ids hold.
    pub pid_namespace: u64,
    /// The limits that the command began with.
    pub limits: Vec<Limit>,
    /// What it may call besides the usual.
    pub calls: Calls,
    /// What it has given up by Landlock.
    pub landlock: Option<Landlock>,
    /// The cgroups of its own, if it has any: their directories on the host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<PathBuf>,
}

/// A process, not to be mistaken for a later one with the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessName {
    /// Its id.
    pub pid: i32,
    /// When it began, in clock ticks since the machine did.
    pub start: u64,
}

impl ProcessName {
    /// The name of the process that has this id now; `None` when there is none.
    pub fn of(pid: i32) -> Option<Self> {
        Process::find(pid).map(|process| Self { pid, start: process.start })
    }
}

/// What a run knows of itself when its PID 1 has begun.
#[derive(Debug)]
pub struct Announcement<'a> {
    /// The run's id.
    pub id: &'a str,
    /// The directory that holds the `sandbox.toml`.
    pub project: &'a Path,
    /// The task's name, when a task is run.
    pub task: Option<&'a str>,
    /// Program and arguments.
    pub command: &'a [String],
    /// The working directory inside.
    pub cwd: &'a str,
    /// When the run began, RFC 3339, UTC.
    pub started: &'a str,
    /// PID 1 of the sandbox.
    pub init: i32,
    /// The limits that the command begins with.
    pub limits: Vec<Limit>,
    /// What it may call besides the usual.
    pub calls: Calls,
    /// What it gives up by Landlock.
    pub landlock: Option<Landlock>,
    /// Its cgroups.
    pub groups: Vec<PathBuf>,
}

/// Tells others of the run whose scratch directory is `scratch`. They can do without: what fails here fails no run.
pub fn announce(scratch: &Scratch, announcement: Announcement<'_>) {
    let own = i32::try_from(std::process::id()).ok().and_then(ProcessName::of);
    let (Some(sbx), Some(init)) = (own, ProcessName::of(announcement.init)) else { return };
    let Ok(pid_namespace) = proc::own_namespace("pid") else { return };
    let entry = Entry {
        version: VERSION,
        id: announcement.id.to_owned(),
        project: announcement.project.display().to_string(),
        task: announcement.task.map(str::to_owned),
        command: announcement.command.to_vec(),
        cwd: announcement.cwd.to_owned(),
        started: announcement.started.to_owned(),
        sbx,
        init,
        pid_namespace,
        limits: announcement.limits,
        calls: announcement.calls,
        landlock: announcement.landlock,
        groups: announcement.groups,
    };
    let written = serde_json::to_vec(&entry).map_err(io::Error::from).and_then(|text| scratch.announce(&text));
    let _nobody_sees_the_run = written;
}

/// A running sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// What it says of itself.
    pub entry: Entry,
    /// Its processes; PID 1 is one of them where the caller may see it. `None` for a sandbox whose process ids mean
    /// nothing here, for it was started in another pid namespace.
    pub processes: Option<Vec<Process>>,
}

impl Running {
    /// The process of its command; `None` when that has not begun yet, or can't be seen.
    pub fn command(&self) -> Option<Process> {
        let processes = self.processes.iter().flatten();
        // What the command has orphaned is PID 1's child too, and younger; what `sbx enter` adds has executed nothing.
        let children = processes.filter(|process| process.parent == self.entry.init.pid && process.executed);
        children.copied().min_by_key(|process| (process.start, process.pid))
    }

    /// How many processes it has.
    pub fn count(&self) -> Option<usize> {
        let init = |process: &Process| process.pid == self.entry.init.pid;
        let processes = self.processes.as_ref()?;
        // PID 1 is there, whether it is seen or not.
        Some(processes.len() + usize::from(!processes.iter().any(init)))
    }

    /// The resident memory of all its processes, in bytes; what several share is counted for each.
    pub fn memory(&self) -> Option<u64> {
        Some(self.processes.as_ref()?.iter().map(|process| process.resident).sum())
    }
}

/// What [`list`] found.
#[derive(Debug, Default)]
pub struct Found {
    /// The running sandboxes, oldest first.
    pub running: Vec<Running>,
    /// What living runs wrote that this sbx can't read.
    pub unreadable: Vec<PathBuf>,
}

/// Every running sandbox of the store.
///
/// # Errors
/// When the store can't be listed.
pub fn list(store: &Path) -> Result<Found, LiveError> {
    let all = store.join("scratch");
    let failed = |source| LiveError { path: all.clone(), source };
    let entries = match fs::read_dir(&all) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::default()),
        entries => entries.map_err(failed)?,
    };
    let mut found = Found::default();
    let mut living = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let path = entry.path().join(CARD);
        if !is_held(&path) {
            continue;
        }
        match fs::read(&path).map(|bytes| serde_json::from_slice::<Entry>(&bytes)) {
            Ok(Ok(found)) if found.version == VERSION && entry.file_name() == *found.id => living.push(found),
            // It is not written to its end yet.
            Ok(Err(error)) if error.is_eof() => {}
            Ok(_) => found.unreadable.push(path),
            // It is just over.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
    }
    living.sort_by(|one, other| (&one.started, &one.id).cmp(&(&other.started, &other.id)));
    found.running = look(living);
    Ok(found)
}

/// Whether somebody lives by this card. A shared lock is asked for and let go at once, so that no run waits for us.
fn is_held(card: &Path) -> bool {
    File::open(card).is_ok_and(|file| matches!(file.try_lock_shared(), Err(fs::TryLockError::WouldBlock)))
}

/// Finds the processes of each, and leaves out whose PID 1 is gone: those are collecting what is left.
fn look(living: Vec<Entry>) -> Vec<Running> {
    if living.is_empty() {
        return Vec::new();
    }
    let here = proc::own_namespace("pid").ok();
    let all = Process::all();
    let seen = |entry: Entry| {
        if Some(entry.pid_namespace) != here {
            return Some(Running { entry, processes: None });
        }
        let processes = tree(&all, entry.init)?;
        Some(Running { entry, processes: Some(processes) })
    };
    living.into_iter().filter_map(seen).collect()
}

/// The same sandbox as it is now; `None` when it is over.
pub fn again(running: &Running) -> Option<Running> {
    look(vec![running.entry.clone()]).pop()
}

/// `root` and everything below it; `None` when it is gone. Where `/proc` hides PID 1 (it is mounted with `hidepid`), its
/// children speak for it: nobody else can have its id while sbx, which lives, has not reaped it.
fn tree(all: &[Process], root: ProcessName) -> Option<Vec<Process>> {
    let mut found = match all.iter().find(|process| process.pid == root.pid) {
        Some(process) if process.start == root.start && !process.dead => vec![*process],
        Some(_) => return None,
        None => Vec::new(),
    };
    let mut parents = vec![root.pid];
    while let Some(parent) = parents.pop() {
        for process in all.iter().filter(|process| process.parent == parent) {
            parents.push(process.pid);
            found.push(*process);
        }
    }
    (!found.is_empty()).then_some(found)
}

/// Why no one sandbox is meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PickError {
    /// Nothing of that name runs.
    #[error("no sandbox `{typed}` is running")]
    Unknown {
        /// What was typed.
        typed: String,
    },
    /// It was a run, and it is over.
    #[error("the run `{id}` is over")]
    Over {
        /// Its id.
        id: String,
    },
    /// It could be several.
    #[error("`{typed}` can be any of {}", ids.join(", "))]
    Ambiguous {
        /// What was typed.
        typed: String,
        /// The ids.
        ids: Vec<String>,
    },
}

/// The sandbox that `typed` means: its id, or any beginning of the id or of its last part that no other has.
///
/// # Errors
/// When there is none, or more than one.
pub fn pick<'a>(store: &Path, running: &'a [Running], typed: &str) -> Result<&'a Running, PickError> {
    let matches: Vec<_> = running.iter().filter(|running| is_meant(&running.entry.id, typed)).collect();
    match matches.as_slice() {
        [] => Err(match records::find_id(store, |id| is_meant(id, typed)) {
            Some(id) => PickError::Over { id },
            None => PickError::Unknown { typed: typed.to_owned() },
        }),
        [one] => Ok(one),
        several => Err(PickError::Ambiguous {
            typed: typed.to_owned(),
            ids: several.iter().map(|running| running.entry.id.clone()).collect(),
        }),
    }
}

fn is_meant(id: &str, typed: &str) -> bool {
    !typed.is_empty() && (id.starts_with(typed) || id.rsplit('-').next().is_some_and(|last| last.starts_with(typed)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::ScratchKind;
    use crate::sandbox::scratch;
    use crate::store::Store;

    fn announced(store: &Path, id: &str, init: i32) -> Scratch {
        let store = Store::open(store.to_owned()).unwrap();
        let scratch = Scratch::make(&store, id, ScratchKind::Disk).unwrap();
        let announcement = Announcement {
            id,
            project: Path::new("/p"),
            task: None,
            command: &["make".to_owned()],
            cwd: "/src",
            started: "2026-11-24T23:07:14.000000Z",
            init,
            limits: Vec::new(),
            calls: Calls::default(),
            landlock: None,
            groups: Vec::new(),
        };
        announce(&scratch, announcement);
        scratch
    }

    fn ids(store: &Path) -> Vec<String> {
        list(store).unwrap().running.into_iter().map(|running| running.entry.id).collect()
    }

    /// A child that stands for PID 1.
    fn child() -> std::process::Child {
        std::process::Command::new("sleep").arg("60").spawn().unwrap()
    }

    #[test]
    fn a_run_is_listed_while_its_lock_is_held_and_its_init_lives() {
        let store = tempfile::tempdir().unwrap();
        assert!(ids(store.path()).is_empty());
        let mut init = child();
        let pid = i32::try_from(init.id()).unwrap();
        let scratch = announced(store.path(), "b", pid);
        let open = Store::open(store.path().to_owned()).unwrap();
        let unseen = Scratch::make(&open, "starting", ScratchKind::Disk).unwrap();
        let running = list(store.path()).unwrap().running;
        assert_eq!(running.len(), 1);
        assert_eq!((running[0].count(), running[0].entry.init.pid), (Some(1), pid));
        // The kernel counts a young process's few pages for each processor, and shows none of them at first.
        assert!(running[0].memory().is_some());
        init.kill().unwrap();
        init.wait().unwrap();
        assert!(ids(store.path()).is_empty());
        scratch.remove().unwrap();
        unseen.remove().unwrap();
        assert_eq!(fs::read_dir(store.path().join("scratch")).unwrap().count(), 0);
    }

    #[test]
    fn what_a_dead_run_left_and_a_reused_id_show_nothing() {
        let store = tempfile::tempdir().unwrap();
        let mut init = child();
        let pid = i32::try_from(init.id()).unwrap();
        drop(announced(store.path(), "dead", pid));
        assert!(ids(store.path()).is_empty(), "nobody holds the lock");

        let scratch = announced(store.path(), "reused", pid);
        let path = scratch.path().join(CARD);
        let mut entry: Entry = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        entry.init.start -= 1;
        fs::write(&path, serde_json::to_vec(&entry).unwrap()).unwrap();
        assert!(ids(store.path()).is_empty(), "another process has the id");

        entry.pid_namespace += 1;
        fs::write(&path, serde_json::to_vec(&entry).unwrap()).unwrap();
        assert_eq!(list(store.path()).unwrap().running[0].count(), None);

        fs::write(&path, "{}").unwrap();
        assert_eq!(list(store.path()).unwrap().unreadable, [path]);
        init.kill().unwrap();
        init.wait().unwrap();
        drop(scratch);
        scratch::sweep(store.path());
        assert_eq!(fs::read_dir(store.path().join("scratch")).unwrap().count(), 0);
    }

    #[test]
    fn what_is_kept_says_nothing_of_the_run() {
        let store = tempfile::tempdir().unwrap();
        let mut init = child();
        let kept = announced(store.path(), "kept", i32::try_from(init.id()).unwrap()).keep().unwrap();
        assert!(!kept.join(CARD).exists());
        init.kill().unwrap();
        init.wait().unwrap();
    }

    fn process(pid: i32, parent: i32, start: u64) -> Process {
        Process { pid, parent, start, executed: true, dead: false, resident: 1 }
    }

    #[test]
    fn the_tree_is_the_init_s_and_nobody_else_s() {
        let init = ProcessName { pid: 10, start: 5 };
        let all = [process(10, 1, 5), process(12, 11, 8), process(11, 10, 6), process(13, 1, 9), process(14, 10, 7)];
        let found = |all: &[Process]| {
            tree(all, init).map(|found| {
                let mut pids: Vec<_> = found.iter().map(|process| process.pid).collect();
                pids.sort_unstable();
                pids
            })
        };
        assert_eq!(found(&all), Some(vec![10, 11, 12, 14]));
        assert_eq!(found(&all[1..]), Some(vec![11, 12, 14]), "PID 1 is hidden");
        assert_eq!(found(&all[3..4]), None);
        assert_eq!(found(&[process(10, 1, 6)]), None, "its id is another's");
        assert_eq!(found(&[Process { dead: true, ..process(10, 1, 5) }]), None);
    }

    #[test]
    fn any_unique_beginning_means_a_sandbox() {
        let entry = |id: &str| Entry {
            version: VERSION,
            id: id.to_owned(),
            project: String::new(),
            task: None,
            command: Vec::new(),
            cwd: String::new(),
            started: String::new(),
            sbx: ProcessName { pid: 1, start: 0 },
            init: ProcessName { pid: 1, start: 0 },
            pid_namespace: 0,
            limits: Vec::new(),
            calls: Calls::default(),
            landlock: None,
            groups: Vec::new(),
        };
        let running = ["20261124-230714-000001-3fa2", "20261124-230715-000002-3fb2"]
            .map(|id| Running { entry: entry(id), processes: None });
        let store = tempfile::tempdir().unwrap();
        let picked = |typed: &str| pick(store.path(), &running, typed).map(|running| running.entry.id.as_str());
        assert_eq!(picked("20261124-230714"), Ok(running[0].entry.id.as_str()));
        assert_eq!(picked("3fb"), Ok(running[1].entry.id.as_str()));
        assert_eq!(picked(&running[1].entry.id), Ok(running[1].entry.id.as_str()));
        assert!(matches!(picked("3f"), Err(PickError::Ambiguous { ids, .. }) if ids.len() == 2));
        for unknown in ["", "x", "fb2", "230714"] {
            assert_eq!(picked(unknown), Err(PickError::Unknown { typed: unknown.to_owned() }));
        }
        let records = store.path().join("runs/key");
        fs::create_dir_all(&records).unwrap();
        fs::write(records.join("20261124-230714-000001-4fff.json"), "").unwrap();
        assert_eq!(picked("4f"), Err(PickError::Over { id: "20261124-230714-000001-4fff".to_owned() }));
        assert!(picked("20261124-230714").is_ok(), "what runs goes first");
    }
}
