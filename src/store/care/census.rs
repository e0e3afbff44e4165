//! What the store holds: every unit with its last use and the blobs that it refers to.
//!
//! For each content 32 bytes are held in memory, for each unit about a hundred; nothing else grows with the store.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use prost::Message as _;

use super::{Kind, Tally, Watcher, memories, names};
use crate::action::messages;
use crate::action::result::Known;
use crate::digest::parse_hex;
use crate::inputs::{Manifest, Node};
use crate::store::actions::RESULT;
use crate::store::frame::read_frame;
use crate::store::{Store, StoreError, records};

/// Stands for a content: the first half of its SHA-256.
pub(super) type Key = u128;

pub(super) fn key(hash: &[u8; 32]) -> Key {
    u128::from_be_bytes(hash[..16].try_into().expect("half of 32 bytes"))
}

/// Milliseconds since the epoch.
pub(super) type Time = u64;

pub(super) fn milliseconds(time: SystemTime) -> Time {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Time::try_from(since.as_millis()).unwrap_or(Time::MAX)
}

fn instant(time: Time) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(time)
}

/// All stored files of one content.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Content {
    pub(super) bytes: u64,
    /// The last use of a unit that refers to it; 0 when none does.
    pub(super) used: Time,
}

/// What can be removed on its own.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) kind: Kind,
    /// Relative to the store.
    pub(super) path: String,
    /// 0: nobody can use it any more.
    pub(super) used: Time,
    pub(super) bytes: u64,
}

/// See [`Store::census`].
#[derive(Debug, Default)]
pub(super) struct Census {
    pub(super) units: Vec<Unit>,
    pub(super) contents: HashMap<Key, Content>,
    /// How many files the contents are stored in.
    files: u64,
}

impl Census {
    /// What counts for the budget, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        let contents: u64 = self.contents.values().map(|content| content.bytes).sum();
        contents + self.units.iter().map(|unit| unit.bytes).sum::<u64>()
    }

    /// What it refers to was used at that time.
    pub(super) fn refer(&mut self, keys: &[Key], used: Time) {
        for key in keys {
            if let Some(content) = self.contents.get_mut(key) {
                content.used = content.used.max(used);
            }
        }
    }
}

/// What a file takes of the disk.
pub(super) fn taken(metadata: &Metadata) -> u64 {
    metadata.blocks() * 512
}

/// What a directory takes of most disks, at least.
const BLOCK: u64 = 4096;

impl Store {
    /// Everything that counts for the budget. What comes or goes meanwhile may be in it or not.
    pub(super) fn census(&self, watcher: &dyn Watcher) -> Result<Census, StoreError> {
        let mut census = Census::default();
        self.count_blobs(&mut census, watcher)?;
        self.find_units(&mut census)?;
        let all = census.units.len() as u64;
        for index in 0..census.units.len() {
            watcher.at("looking at what is used", index as u64, all);
            let unit = &census.units[index];
            let keys = self.references(unit);
            let (used, kind) = (unit.used, unit.kind);
            if matches!(kind, Kind::Trees | Kind::Deltas | Kind::Roots) {
                census.units[index].bytes += keys.directories * BLOCK;
            }
            census.refer(&keys.keys, used);
        }
        // `sbx why` reads the messages of recorded runs, which stay as long as their records.
        for record in records::every(&self.dir) {
            if let Some(hash) =
                records::read_one(&record).and_then(|record| parse_hex(record.action.split('/').next()?))
            {
                let keys = self.messages(&hash);
                census.refer(&keys, Time::MAX);
            }
        }
        Ok(census)
    }

    fn count_blobs(&self, census: &mut Census, watcher: &dyn Watcher) -> Result<(), StoreError> {
        let blobs = self.dir.join("blobs");
        let parts = names(&blobs)?;
        for (done, part) in parts.iter().enumerate() {
            watcher.at("counting blobs", done as u64, parts.len() as u64);
            let dir = blobs.join(part);
            for name in names(&dir)? {
                let Some(hash) = blob_hash(part, &name) else { continue };
                let Ok(metadata) = fs::symlink_metadata(dir.join(&name)) else { continue };
                census.contents.entry(key(&hash)).or_default().bytes += taken(&metadata);
                census.files += 1;
            }
        }
        Ok(())
    }

    fn find_units(&self, census: &mut Census) -> Result<(), StoreError> {
        let actions = self.dir.join("actions");
        for part in names(&actions)? {
            for name in names(&actions.join(&part))? {
                census.units.extend(self.file(Kind::Results, format!("actions/{part}/{name}")));
            }
        }
        for (kind, dir) in [(Kind::Trees, "trees"), (Kind::Roots, "roots"), (Kind::Deltas, "deltas")] {
            self.find_layers(census, kind, dir)?;
        }
        for path in memories(&self.dir) {
            census.units.extend(self.file(Kind::Memos, path));
        }
        for name in names(&self.dir.join("fetched"))? {
            census.units.extend(self.file(Kind::Fetched, format!("fetched/{name}")));
        }
        for project in names(&self.dir.join("projects"))? {
            let used = self.project_use(&project);
            for name in ["memo", "bases"] {
                if let Some(mut unit) = self.file(Kind::Memos, format!("projects/{project}/{name}")) {
                    unit.used = used.map_or(0, |used| used.max(unit.used));
                    census.units.push(unit);
                }
            }
        }
        Ok(())
    }

    fn file(&self, kind: Kind, path: String) -> Option<Unit> {
        let metadata = fs::symlink_metadata(self.dir.join(&path)).ok()?;
        let used = metadata.modified().map_or(0, milliseconds).max(1);
        Some(Unit { kind, path, used, bytes: taken(&metadata) })
    }

    fn find_layers(&self, census: &mut Census, kind: Kind, dir: &str) -> Result<(), StoreError> {
        let first = census.units.len();
        for name in names(&self.dir.join(dir))?.into_iter().filter(|name| !name.contains('.')) {
            let path = format!("{dir}/{name}");
            let beside = [self.marker(&path), self.manifest_path(&path)];
            let files: Vec<_> = beside.iter().filter_map(|path| fs::symlink_metadata(path).ok()).collect();
            let used = if self.is_abandoned(&path) { 0 } else { self.last_use(&path).max(1) };
            census.units.push(Unit { kind, path, used, bytes: files.iter().map(taken).sum() });
        }
        if kind != Kind::Deltas {
            return Ok(());
        }
        // A tree is used whenever a delta over it is; a delta without its tree is of no use.
        let mut uses: HashMap<String, Time> = HashMap::new();
        for delta in &mut census.units[first..] {
            let base = delta.path.strip_prefix("deltas/").and_then(|name| name.split('-').next()).unwrap_or_default();
            let tree = format!("trees/{base}");
            if self.has(&tree) {
                let used = uses.entry(tree).or_default();
                *used = delta.used.max(*used);
            } else {
                delta.used = 0;
            }
        }
        for tree in census.units.iter_mut().filter(|unit| unit.kind == Kind::Trees) {
            tree.used = tree.used.max(uses.get(&tree.path).copied().unwrap_or_default());
        }
        Ok(())
    }

    /// When the layer was last used.
    pub(super) fn last_use(&self, layer: &str) -> Time {
        let noted = fs::metadata(self.marker(layer)).and_then(|metadata| metadata.modified());
        let made = || fs::metadata(self.dir.join(layer)).ok().map(|metadata| ctime(&metadata));
        noted.ok().or_else(made).map_or(0, milliseconds)
    }

    /// The last run of a project; `None` when its directory is gone.
    fn project_use(&self, project: &str) -> Option<Time> {
        let Some(newest) = records::newest_of(&self.dir, project) else { return Some(1) };
        let used = fs::metadata(&newest).and_then(|metadata| metadata.modified()).map_or(1, milliseconds);
        let root = records::read_one(&newest).map(|record| PathBuf::from(record.project));
        let is_gone = root.is_some_and(|root| fs::symlink_metadata(root).is_err_and(|error| is_nothing(&error)));
        (!is_gone).then_some(used)
    }

    /// The contents that a unit refers to. One that can't be read refers to nothing: what it stands for is computed again.
    pub(super) fn references(&self, unit: &Unit) -> References {
        let name = unit.path.rsplit('/').next().unwrap_or_default();
        match unit.kind {
            Kind::Results => self.result_references(&unit.path).into(),
            Kind::Trees | Kind::Roots => {
                self.kept_manifest(&unit.path, name).map(|(_, manifest)| References::of(&manifest)).unwrap_or_default()
            }
            Kind::Deltas => self.delta_puts(&unit.path).map(|put| References::of(&put)).unwrap_or_default(),
            Kind::Fetched => parse_hex(name).iter().map(key).collect::<Vec<_>>().into(),
            _ => References::default(),
        }
    }

    fn result_references(&self, path: &str) -> Vec<Key> {
        let known = read_frame(&self.dir.join(path), RESULT).and_then(|body| Known::decode(&body));
        let Some(known) = known else { return Vec::new() };
        let mut keys: Vec<Key> = known.blobs().map(|(digest, _)| key(&digest.hash)).collect();
        if let Some(action) = result_hash(path) {
            keys.extend(self.messages(&action));
        }
        keys
    }

    /// The messages of an action: its own, its command's, its policy's; and the contents that the policy names.
    fn messages(&self, action: &[u8; 32]) -> Vec<Key> {
        let mut keys = vec![key(action)];
        let read = |hash: &[u8; 32]| {
            let hex = crate::digest::Digest { hash: *hash, size: 0 }.hex();
            fs::read(self.dir.join("blobs").join(&hex[..2]).join(&hex[2..])).ok()
        };
        let message = read(action).and_then(|bytes| messages::Action::decode(&*bytes).ok());
        let Some(message) = message else { return keys };
        keys.extend(message.command_digest.and_then(|digest| parse_hex(&digest.hash)).map(|hash| key(&hash)));
        let policy = messages::Digest::decode(&*message.salt).ok().and_then(|digest| parse_hex(&digest.hash));
        if let Some(policy) = policy {
            keys.push(key(&policy));
            let text = read(&policy).unwrap_or_default();
            // `sbx why` reads the list of packages, whose digest stands in it.
            let words = text.split(|byte| !byte.is_ascii_hexdigit()).filter(|word| word.len() == 64);
            keys.extend(words.filter_map(|word| parse_hex(std::str::from_utf8(word).ok()?)).map(|hash| key(&hash)));
        }
        keys
    }

    /// How much there is of each kind.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn tally(&self, watcher: &dyn Watcher) -> Result<Vec<(Kind, Tally)>, StoreError> {
        let census = self.census(watcher);
        watcher.finished();
        let census = census?;
        let mut tallies: HashMap<Kind, Tally> = HashMap::new();
        for unit in &census.units {
            let used = (unit.used > 1 && unit.used < Time::MAX).then(|| instant(unit.used));
            tallies.entry(unit.kind).or_default().add(unit.bytes, used);
        }
        let bytes = census.contents.values().map(|content| content.bytes).sum();
        tallies.insert(Kind::Blobs, Tally { count: census.files, bytes, ..Tally::default() });
        let mut others = vec![(Kind::Records, records::every(&self.dir))];
        for (kind, dir, depth) in [
            (Kind::KeptScratch, "kept", 2),
            (Kind::KeptRuns, "kept-scratch", 1),
            (Kind::Temporary, "tmp", 1),
            (Kind::Temporary, "scratch", 1),
            (Kind::Temporary, super::LEFT, 1),
        ] {
            let mut places = vec![self.dir.join(dir)];
            for _ in 0..depth {
                places = places.iter().map(|place| below(place)).collect::<Result<Vec<_>, _>>()?.concat();
            }
            others.push((kind, places));
        }
        for (kind, paths) in others {
            for path in paths {
                let used = fs::symlink_metadata(&path).and_then(|metadata| metadata.modified()).ok();
                let used = used.filter(|_| kind != Kind::Temporary);
                tallies.entry(kind).or_default().add(whole(&path), used);
            }
        }
        Ok(Kind::ALL.map(|kind| (kind, tallies.get(&kind).copied().unwrap_or_default())).to_vec())
    }
}

fn below(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    Ok(names(dir)?.into_iter().map(|name| dir.join(name)).collect())
}

/// What everything at and below `path` takes, as far as it can be looked at.
fn whole(path: &Path) -> u64 {
    let entries = walkdir::WalkDir::new(path).into_iter().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| taken(&metadata)).sum()
}

fn is_nothing(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}

/// When the inode was last changed, which nobody can set.
pub(super) fn ctime(metadata: &Metadata) -> SystemTime {
    let seconds = Duration::from_secs(u64::try_from(metadata.ctime()).unwrap_or(0));
    let rest = Duration::from_nanos(u64::try_from(metadata.ctime_nsec()).unwrap_or(0));
    SystemTime::UNIX_EPOCH + seconds + rest
}

/// The contents that a unit refers to, some more than once.
#[derive(Debug, Default)]
pub(super) struct References {
    pub(super) keys: Vec<Key>,
    /// How many directories hold them.
    directories: u64,
}

impl References {
    fn of(manifest: &Manifest) -> Self {
        let (mut keys, mut directories, mut open) = (Vec::new(), 1, "");
        for entry in &manifest.entries {
            if let Node::File { digest, .. } = &entry.node {
                keys.push(key(&digest.hash));
            }
            let dir = entry.path.rsplit_once('/').map_or("", |(dir, _)| dir);
            if dir != open || entry.node == Node::EmptyDirectory {
                (directories, open) = (directories + 1, dir);
            }
        }
        Self { keys, directories }
    }
}

impl From<Vec<Key>> for References {
    fn from(keys: Vec<Key>) -> Self {
        Self { keys, directories: 0 }
    }
}

/// The SHA-256 of the action whose result is at `path`.
pub(super) fn result_hash(path: &str) -> Option<[u8; 32]> {
    let (part, name) = path.strip_prefix("actions/")?.split_once('/')?;
    parse_hex(&format!("{part}{name}"))
}

/// The SHA-256 of the blob of that name; `None` when no blob is called so.
pub(super) fn blob_hash(part: &str, name: &str) -> Option<[u8; 32]> {
    let (rest, suffix) = name.split_at_checked(62)?;
    let variant = suffix.split('.').next().unwrap_or_default();
    let instance = suffix.strip_prefix(variant)?;
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let fits = ["", "-x", "-r", "-rx"].contains(&variant) && instance.strip_prefix('.').is_none_or(is_number);
    if fits { parse_hex(&format!("{part}{rest}")) } else { None }
}
