//! What stands for a tree of the host in the identity of a run: a read-only mount, or a part of the host's root file
//! system.
//!
//! Both digests are SHA-256 over a list with one record for each path below the tree's root, sorted component by
//! component: kind, path and value, each ended by a NUL byte. Neither knows owners, nor permissions other than the
//! owner's execute bit. Devices, sockets and FIFOs count by their kind.
//!
//! A tree in which nothing changed since the last time is not listed again (`vouch`).

use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::Progress;
use super::fault::InputError;
use super::hash::Item;
use super::look::Seen;
use super::scan::{Scan, Unreadable};
use super::stamp::Memo;
use super::vouch::Remembered;
use crate::action::policy::ContentIdentity;
use crate::digest::Digest;
use crate::store::{Store, hash_file};

/// The digest of everything that can be read below `source` (an absolute path without symbolic links; a directory or a
/// file): names, contents, links, execute bits. Files are read only when they changed since the last time.
///
/// # Errors
/// Every path that can't be read, in one error; or that the store can't be written.
pub fn content(source: &Path, store: &Store, progress: &dyn Progress) -> Result<ContentIdentity, InputError> {
    identify(source, By::Content, Unreadable::Fault, store, progress)
}

/// The digest of the path, size, mtime and execute bit of every file below `source` (an absolute path without symbolic
/// links), and of every link's text. Nothing is read.
///
/// # Errors
/// Every path that can't be looked at, in one error; or that the store can't be written.
pub fn metadata(source: &Path, store: &Store, progress: &dyn Progress) -> Result<ContentIdentity, InputError> {
    identify(source, By::Metadata, Unreadable::Fault, store, progress)
}

/// What of a tree is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    Content,
    Metadata,
    /// The content, which is the same on every machine, of at most [`SMALL`] bytes; of more the metadata.
    Size,
}

/// How many bytes are read to spare a tree an identity that rests on times.
const SMALL: u64 = 256 << 20;

/// See [`content`] and [`metadata`].
pub(super) fn identify(
    source: &Path,
    by: By,
    unreadable: Unreadable,
    store: &Store,
    progress: &dyn Progress,
) -> Result<ContentIdentity, InputError> {
    let purpose = match (by, unreadable) {
        (By::Content, Unreadable::Fault) => "mounts/content",
        (By::Metadata, Unreadable::Fault) => "mounts/metadata",
        (By::Size, Unreadable::Fault) => "mounts/size",
        (By::Content, Unreadable::Noted) => "host/content",
        (By::Metadata, Unreadable::Noted) => "host/metadata",
        (By::Size, Unreadable::Noted) => "host/size",
    };
    let remembered = Remembered::read(store.memory_of(purpose, source));
    let place = if source.is_dir() { source } else { source.parent().unwrap_or(source) };
    if let Some(identity) = remembered.answer(place).and_then(decode) {
        return Ok(identity);
    }
    let scan = Scan::new(source, unreadable, progress)?;
    let identity = match by {
        By::Content => by_content(&scan, source, store, progress)?,
        By::Size if scan.size() <= SMALL => by_content(&scan, source, store, progress)?,
        By::Metadata | By::Size => by_metadata(&scan),
    };
    progress.finished();
    remembered.write(store, &serde_json::to_vec(&identity).expect("an enum of strings is JSON"), &scan.vouchers())?;
    Ok(identity)
}

fn decode(answer: &[u8]) -> Option<ContentIdentity> {
    serde_json::from_slice(answer).ok()
}

fn by_content(
    scan: &Scan,
    source: &Path,
    store: &Store,
    progress: &dyn Progress,
) -> Result<ContentIdentity, InputError> {
    let memo = Memo::read(store.memory_of("mounts", source));
    let read = |_: &Item<'_>, file: &mut File, buffer: &mut Vec<u8>| hash_file(file, buffer);
    let mut digests = scan.hash(&memo, store, &read, progress)?.digests.into_iter();
    let mut list = List::new(b"sbx content 1");
    for scanned in &scan.list {
        let path = scanned.path.as_bytes();
        match &scanned.seen {
            Seen::File { executable, .. } => {
                let digest = digests.next().expect("one for each file");
                list.record(if *executable { b"x" } else { b"f" }, path, digest.to_string().as_bytes());
            }
            other => list.other(path, other),
        }
    }
    Ok(ContentIdentity::Content(list.digest().to_string()))
}

fn by_metadata(scan: &Scan) -> ContentIdentity {
    let mut list = List::new(b"sbx metadata 1");
    for scanned in &scan.list {
        let path = scanned.path.as_bytes();
        match &scanned.seen {
            Seen::File { stamp, executable, .. } => {
                let value = format!("{} {}", stamp.size, stamp.mtime);
                list.record(if *executable { b"x" } else { b"f" }, path, value.as_bytes());
            }
            other => list.other(path, other),
        }
    }
    ContentIdentity::Metadata(list.digest().to_string())
}

/// The list that is hashed.
struct List(Vec<u8>);

impl List {
    fn new(name: &[u8]) -> Self {
        let mut list = Self(Vec::new());
        list.field(name);
        list
    }

    fn record(&mut self, kind: &[u8], path: &[u8], value: &[u8]) {
        self.field(kind);
        self.field(path);
        self.field(value);
    }

    fn other(&mut self, path: &[u8], seen: &Seen) {
        match seen {
            Seen::Symlink { target } => self.record(b"l", path, target.as_os_str().as_bytes()),
            Seen::Special(kind) => self.record(b"s", path, kind.as_bytes()),
            Seen::Unreadable => self.record(b"u", path, b""),
            Seen::Directory { .. } | Seen::File { .. } => self.record(b"d", path, b""),
        }
    }

    fn field(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        self.0.push(0);
    }

    fn digest(&self) -> Digest {
        Digest::of(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::time::SystemTime;

    use super::*;
    use crate::inputs::Silent;

    struct Fixture {
        dir: tempfile::TempDir,
        store: Store,
    }

    impl Fixture {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(dir.path().join("store")).unwrap();
            fs::create_dir_all(dir.path().join("mount/sub/empty")).unwrap();
            fs::write(dir.path().join("mount/a"), "one").unwrap();
            fs::write(dir.path().join("mount/sub/b"), "two").unwrap();
            symlink("/nowhere/at/all", dir.path().join("mount/link")).unwrap();
            fs::write(dir.path().join("mount").join(OsStr::from_bytes(b"latin\xe9")), "three").unwrap();
            let fixture = Self { dir, store };
            for path in ["a", "sub/b"] {
                fixture.set_time(path, 1);
            }
            fixture.set_time(OsStr::from_bytes(b"latin\xe9"), 1);
            fixture
        }

        fn path(&self, path: impl AsRef<Path>) -> std::path::PathBuf {
            self.dir.path().join("mount").join(path)
        }

        fn set_time(&self, path: impl AsRef<Path>, seconds: u64) {
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            File::options().write(true).open(self.path(path)).unwrap().set_modified(time).unwrap();
        }

        fn content(&self) -> ContentIdentity {
            content(&self.path(""), &self.store, &Silent).unwrap()
        }

        fn metadata(&self) -> ContentIdentity {
            metadata(&self.path(""), &self.store, &Silent).unwrap()
        }
    }

    #[test]
    fn the_same_tree_elsewhere_is_the_same() {
        let (one, other) = (Fixture::new(), Fixture::new());
        assert_eq!(one.content(), other.content());
        assert_eq!(one.content(), one.content());
        assert_eq!(one.metadata(), other.metadata());
        assert_ne!(one.content(), one.metadata());
    }

    #[test]
    fn every_change_is_seen_by_whom_it_concerns() {
        type Change = fn(&Fixture);
        let changes: [(&str, Change, bool, bool); 8] = [
            (
                "content of the same size",
                |fixture| {
                    fs::write(fixture.path("a"), "eno").unwrap();
                    fixture.set_time("a", 1);
                },
                true,
                false,
            ),
            (
                "size",
                |fixture| {
                    fs::write(fixture.path("a"), "longer").unwrap();
                    fixture.set_time("a", 1);
                },
                true,
                true,
            ),
            ("time", |fixture| fixture.set_time("sub/b", 2), false, true),
            ("name", |fixture| fs::rename(fixture.path("a"), fixture.path("c")).unwrap(), true, true),
            (
                "mode",
                |fixture| {
                    fs::set_permissions(fixture.path("a"), fs::Permissions::from_mode(0o755)).unwrap();
                },
                true,
                true,
            ),
            ("directory", |fixture| fs::remove_dir(fixture.path("sub/empty")).unwrap(), true, true),
            (
                "link",
                |fixture| {
                    fs::remove_file(fixture.path("link")).unwrap();
                    symlink("/elsewhere", fixture.path("link")).unwrap();
                },
                true,
                true,
            ),
            ("socket", |fixture| drop(std::os::unix::net::UnixListener::bind(fixture.path("s")).unwrap()), true, true),
        ];
        for (name, change, content, metadata) in changes {
            let fixture = Fixture::new();
            let before = (fixture.content(), fixture.metadata());
            change(&fixture);
            assert_eq!(fixture.content() != before.0, content, "content: {name}");
            assert_eq!(fixture.metadata() != before.1, metadata, "metadata: {name}");
        }
    }

    #[test]
    fn a_single_file_can_be_a_mount() {
        let fixture = Fixture::new();
        let content = |path: &str| content(&fixture.path(path), &fixture.store, &Silent).unwrap();
        assert_ne!(content("a"), content("sub/b"));
        let before = content("a");
        fs::write(fixture.path("a"), "eno").unwrap();
        assert_ne!(content("a"), before);
    }

    #[test]
    fn nothing_of_a_mount_is_stored() {
        let fixture = Fixture::new();
        fixture.content();
        assert!(!fixture.store.path().join("blobs").exists());
    }
}
