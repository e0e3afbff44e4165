//! The records of past runs: `<store>/runs/<project key>/<run id>.json`, the newest [`KEPT`] of each project.
//!
//! A record is written to a temporary file and renamed, so a reader sees it whole or not at all, and any number of
//! processes can write at once. Nothing waits for the disk: a record lost with the machine's power is no wrong result.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Deserialize;

use crate::record::{Cache, Record, VERSION};

/// How many records of one project are kept.
pub const KEPT: usize = 50;

const SUFFIX: &str = "json";

/// What a temporary file's name begins with.
const TEMPORARY: &str = ".new-";

/// A temporary file of this age has lost its writer.
const ABANDONED: Duration = Duration::from_secs(3600);

/// Why a record can't be written or read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file system refuses.
    #[error("can't use the record `{}`", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A record was written by a newer sbx.
    #[error("the record `{}` has format {version}, and this sbx knows only {VERSION}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its format.
        version: u32,
    },
}

/// What [`last`] found.
#[derive(Debug, Default)]
pub struct Last {
    /// The newest record that was wanted.
    pub record: Option<Record>,
    /// Newer ones that are damaged and were passed over.
    pub damaged: Vec<PathBuf>,
}

/// A run id for a run that starts at `start`: unique, and sorted by time as text.
///
/// ```
/// let id = sbx::store::records::new_run_id(std::time::SystemTime::UNIX_EPOCH);
/// assert!(id.starts_with("19700101-000000-000000-"));
/// assert_ne!(id, sbx::store::records::new_run_id(std::time::SystemTime::UNIX_EPOCH));
/// ```
pub fn new_run_id(start: SystemTime) -> String {
    let time = timestamp(start);
    let digits = |range: std::ops::Range<usize>| time[range].chars().filter(char::is_ascii_digit).collect::<String>();
    // The standard library seeds each thread's RandomState from the system's random numbers.
    let random = RandomState::new().hash_one(std::process::id()) & 0xff_ffff_ffff;
    format!("{}-{}-{}-{random:010x}", digits(0..10), digits(11..19), digits(20..26))
}

/// `time` as RFC 3339 in UTC with microseconds.
pub fn timestamp(time: SystemTime) -> String {
    humantime::format_rfc3339_micros(time).to_string()
}

fn directory(store: &Path, project: &str) -> PathBuf {
    store.join("runs").join(project)
}

/// Keeps `record` in `store` under the project's key.
///
/// # Errors
/// When the store can't be written.
pub fn write(store: &Path, project: &str, record: &Record) -> Result<(), RecordError> {
    let directory = directory(store, project);
    let path = directory.join(format!("{}.{SUFFIX}", record.id));
    write_file(&directory, &path, record).map_err(|source| RecordError::Io { path, source })
}

fn write_file(directory: &Path, path: &Path, record: &Record) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let mut file = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(directory)?;
    let mut text = serde_json::to_vec_pretty(record)?;
    text.push(b'\n');
    file.write_all(&text)?;
    file.persist(path)?;
    Ok(())
}

/// Drops the project's oldest records until there is room for one of [`KEPT`], and what killed writers left. What can't be
/// dropped stays for the next time.
pub fn make_room(store: &Path, project: &str) {
    let directory = directory(store, project);
    let (mut names, mut old) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let age = || entry.metadata().and_then(|data| data.modified()).ok()?.elapsed().ok();
        if name.as_encoded_bytes().starts_with(TEMPORARY.as_bytes()) && age().is_some_and(|age| age > ABANDONED) {
            old.push(name);
        } else if is_record(Path::new(&name)) {
            names.push(name);
        }
    }
    // By time, as their names begin with it.
    names.sort_unstable();
    names.truncate((names.len() + 1).saturating_sub(KEPT));
    for name in old.iter().chain(&names) {
        // Another run drops the same ones.
        let _ = fs::remove_file(directory.join(name));
    }
}

fn is_record(path: &Path) -> bool {
    path.extension() == Some(OsStr::new(SUFFIX))
}

/// The records of a project, oldest first.
fn records(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if is_record(&path) {
            paths.push(path);
        }
    }
    paths.sort_unstable();
    Ok(paths)
}

/// The records of all projects; none when they can't be listed.
pub(super) fn every(store: &Path) -> Vec<PathBuf> {
    let projects = fs::read_dir(store.join("runs")).into_iter().flatten().flatten();
    projects.filter_map(|project| records(&project.path()).ok()).flatten().collect()
}

/// The newest record of a project, damaged or not.
pub(super) fn newest_of(store: &Path, project: &str) -> Option<PathBuf> {
    records(&directory(store, project)).ok()?.pop()
}

/// One record; `None` when it is damaged or gone.
pub(super) fn read_one(path: &Path) -> Option<Record> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// How many recorded runs of all projects replayed a known result, and how many looked for one in vain.
pub fn replays(store: &Path) -> (u64, u64) {
    let (mut hits, mut misses) = (0, 0);
    for record in every(store).iter().filter_map(|path| read_one(path)) {
        match record.cache.state.as_str() {
            Cache::HIT => hits += 1,
            Cache::MISS => misses += 1,
            _ => {}
        }
    }
    (hits, misses)
}

/// The id of a recorded run of any project that `is_meant`; `None` when there is none, or no record can be listed.
pub fn find_id(store: &Path, is_meant: impl Fn(&str) -> bool) -> Option<String> {
    let projects = fs::read_dir(store.join("runs")).ok()?.flatten();
    let ids = projects.filter_map(|project| records(&project.path()).ok()).flatten().filter_map(|path| {
        let id = path.file_stem()?.to_str()?;
        is_meant(id).then(|| id.to_owned())
    });
    ids.max()
}

/// Only to learn the version of what may have any other form.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// The newest record of the project that `is_wanted`. Damaged ones are passed over and named.
///
/// # Errors
/// When the store can't be read, or a record is of a newer format.
pub fn last(store: &Path, project: &str, is_wanted: impl Fn(&Record) -> bool) -> Result<Last, RecordError> {
    let directory = directory(store, project);
    loop {
        let paths = match records(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Last::default()),
            other => other.map_err(|source| RecordError::Io { path: directory.clone(), source })?,
        };
        let (last, dropped) = newest(paths, &is_wanted)?;
        // Other runs drop old records while they write newer ones: what they dropped is not the last.
        if last.record.is_some() || !dropped {
            return Ok(last);
        }
    }
}

/// The newest of `paths` that is wanted, and whether one of them was gone before it could be read.
fn newest(paths: Vec<PathBuf>, is_wanted: impl Fn(&Record) -> bool) -> Result<(Last, bool), RecordError> {
    let (mut last, mut dropped) = (Last::default(), false);
    for path in paths.into_iter().rev() {
        match read(&path)? {
            Read::Record(record) if is_wanted(&record) => {
                last.record = Some(*record);
                break;
            }
            Read::Record(_) => {}
            Read::Damaged => last.damaged.push(path),
            Read::Dropped => dropped = true,
        }
    }
    Ok((last, dropped))
}

/// What became of a file that was listed.
enum Read {
    Record(Box<Record>),
    Damaged,
    /// Another run dropped it meanwhile.
    Dropped,
}

fn read(path: &Path) -> Result<Read, RecordError> {
    let text = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Read::Dropped),
        other => other.map_err(|source| RecordError::Io { path: path.to_owned(), source })?,
    };
    match serde_json::from_slice::<Version>(&text) {
        Ok(Version { version }) if version > VERSION => {
            return Err(RecordError::Version { path: path.to_owned(), version });
        }
        _ => {}
    }
    Ok(serde_json::from_slice(&text).map_or(Read::Damaged, Read::Record))
}

/// What [`all`] found.
#[derive(Debug, Default)]
pub struct All {
    /// The records, the newest first.
    pub records: Vec<Record>,
    /// Those that are damaged and were passed over.
    pub damaged: Vec<PathBuf>,
}

/// Every record of the project. Damaged ones are passed over and named.
///
/// # Errors
/// When the store can't be read, or a record is of a newer format.
pub fn all(store: &Path, project: &str) -> Result<All, RecordError> {
    let directory = directory(store, project);
    let paths = match records(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(All::default()),
        other => other.map_err(|source| RecordError::Io { path: directory.clone(), source })?,
    };
    let mut all = All::default();
    for path in paths.into_iter().rev() {
        match read(&path)? {
            Read::Record(record) => all.records.push(*record),
            Read::Damaged => all.damaged.push(path),
            Read::Dropped => {}
        }
    }
    Ok(all)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::record::{Changes, Exit, Output, Phase, Step, Stream};
    use std::collections::HashSet;

    pub(crate) fn record(id: &str) -> Record {
        Record {
            version: VERSION,
            id: id.to_owned(),
            project: "/project".to_owned(),
            task: Some("test".to_owned()),
            needed_by: None,
            command: vec!["make".to_owned(), "a b".to_owned()],
            cwd: "/src".to_owned(),
            started: timestamp(SystemTime::UNIX_EPOCH),
            duration_us: 7,
            exit: Exit { code: 0, signal: None, reason: "exited".to_owned(), error: None },
            action: "a/1".to_owned(),
            input_root: "b/2".to_owned(),
            inputs: 3,
            enforced: vec!["user".to_owned()],
            network: "none".to_owned(),
            net_namespace: "fresh".to_owned(),
            connections: Vec::new(),
            connections_omitted: 0,
            blocked: Vec::new(),
            blocked_omitted: 0,
            scratch: Vec::new(),
            stdout: Stream::default(),
            stderr: Stream::default(),
            outputs: vec![Output::symlink("link", "te\u{1b}xt"), Output::directory("empty")],
            undeclared: Changes { added: vec!["/src/\u{1b}".to_owned()], ..Changes::default() },
            phases: vec![Phase { name: "launch".to_owned(), start_us: 1, duration_us: 2 }],
            steps: vec![Step { process: "init".to_owned(), name: "mount".to_owned(), start_us: 1, duration_us: 2 }],
            kept: None,
            limit: None,
            usage: None,
            cache: Cache::default(),
        }
    }

    fn any(_: &Record) -> bool {
        true
    }

    #[test]
    fn what_was_written_last_is_read() {
        let store = tempfile::tempdir().unwrap();
        assert!(last(store.path(), "key", any).unwrap().record.is_none());
        for id in ["20260101-1", "20260102-1", "20260101-2"] {
            write(store.path(), "key", &record(id)).unwrap();
        }
        write(store.path(), "other", &record("20270101-1")).unwrap();
        let newest = last(store.path(), "key", any).unwrap();
        assert_eq!(newest.record, Some(record("20260102-1")));
        assert!(newest.damaged.is_empty());
        let wanted = last(store.path(), "key", |record| record.id.starts_with("20260101")).unwrap();
        assert_eq!(wanted.record, Some(record("20260101-2")));
    }

    #[test]
    fn the_record_is_plain_json_with_a_version() {
        let store = tempfile::tempdir().unwrap();
        write(store.path(), "key", &record("id")).unwrap();
        let text = fs::read_to_string(store.path().join("runs/key/id.json")).unwrap();
        assert!(!text.contains('\u{1b}'), "control characters are escaped");
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["version"], 1);
        assert_eq!(json["outputs"][0]["target"], "te\u{1b}xt");
    }

    #[test]
    fn only_the_newest_are_kept() {
        let store = tempfile::tempdir().unwrap();
        for index in 0..KEPT + 5 {
            make_room(store.path(), "key");
            write(store.path(), "key", &record(&format!("{index:03}"))).unwrap();
        }
        let kept = records(&store.path().join("runs/key")).unwrap();
        assert_eq!(kept.len(), KEPT);
        assert!(kept[0].ends_with("005.json"));
    }

    #[test]
    fn damaged_records_are_passed_over_and_named() {
        let store = tempfile::tempdir().unwrap();
        write(store.path(), "key", &record("1")).unwrap();
        let directory = store.path().join("runs/key");
        for (name, text) in [("2.json", ""), ("3.json", "{\"version\":1}"), ("4.json", "\0"), ("5.txt", "")] {
            fs::write(directory.join(name), text).unwrap();
        }
        let found = last(store.path(), "key", any).unwrap();
        assert_eq!(found.record, Some(record("1")));
        assert_eq!(found.damaged, ["4.json", "3.json", "2.json"].map(|name| directory.join(name)));
        let found = all(store.path(), "key").unwrap();
        assert_eq!(found.records, [record("1")]);
        assert_eq!(found.damaged, ["4.json", "3.json", "2.json"].map(|name| directory.join(name)));
    }

    #[test]
    fn all_of_them_are_given_the_newest_first() {
        let store = tempfile::tempdir().unwrap();
        assert!(all(store.path(), "key").unwrap().records.is_empty());
        for id in ["2", "3", "1"] {
            write(store.path(), "key", &record(id)).unwrap();
        }
        assert_eq!(all(store.path(), "key").unwrap().records, ["3", "2", "1"].map(record));
    }

    #[test]
    fn a_newer_format_is_refused() {
        let store = tempfile::tempdir().unwrap();
        write(store.path(), "key", &record("1")).unwrap();
        fs::write(store.path().join("runs/key/2.json"), "{\"version\":2,\"other\":[]}").unwrap();
        let error = last(store.path(), "key", any).unwrap_err();
        assert!(matches!(error, RecordError::Version { version: 2, .. }), "{error}");
        assert!(matches!(all(store.path(), "key"), Err(RecordError::Version { version: 2, .. })));
    }

    #[test]
    fn abandoned_temporary_files_go_and_fresh_ones_stay() {
        let store = tempfile::tempdir().unwrap();
        let directory = store.path().join("runs/key");
        fs::create_dir_all(&directory).unwrap();
        let [old, fresh] = ["old", "fresh"].map(|name| directory.join(format!("{TEMPORARY}{name}")));
        let file = fs::File::create(&old).unwrap();
        file.set_modified(SystemTime::now() - 2 * ABANDONED).unwrap();
        fs::write(&fresh, "").unwrap();
        make_room(store.path(), "key");
        assert!(!old.exists() && fresh.exists());
    }

    #[test]
    fn replays_are_counted_where_records_tell() {
        let store = tempfile::tempdir().unwrap();
        for (id, state) in [("1", ""), ("2", Cache::HIT), ("3", Cache::HIT), ("4", Cache::MISS), ("5", Cache::OFF)] {
            let cache = Cache { state: state.to_owned(), ..Cache::default() };
            write(store.path(), "key", &Record { cache, ..record(id) }).unwrap();
        }
        fs::write(store.path().join("runs/key/6.json"), "").unwrap();
        assert_eq!(replays(store.path()), (2, 1));
    }

    #[test]
    fn run_ids_differ_and_sort_by_time() {
        let at = |seconds| new_run_id(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert!(at(1_700_000_000).starts_with("20231114-221320-000000-"));
        assert!(at(9) < at(10) && at(10) < at(1_000_000));
        let ids: HashSet<String> = (0..1000).map(|_| at(5)).collect();
        assert_eq!(ids.len(), 1000);
    }

    #[test]
    fn many_writers_and_readers_get_along() {
        let store = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for writer in 0..20 {
                let store = store.path();
                scope.spawn(move || {
                    for index in 0..20 {
                        make_room(store, "key");
                        write(store, "key", &record(&format!("{index:03}-{writer}"))).unwrap();
                        let found = last(store, "key", any).unwrap();
                        assert!(found.record.is_some() && found.damaged.is_empty());
                    }
                });
            }
        });
        // Each of the writers may have found room for its own.
        assert!((KEPT..KEPT + 20).contains(&records(&store.path().join("runs/key")).unwrap().len()));
        make_room(store.path(), "key");
        assert_eq!(records(&store.path().join("runs/key")).unwrap().len(), KEPT - 1);
    }
}
