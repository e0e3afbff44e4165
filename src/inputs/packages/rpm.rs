//! rpm: a data base of package headers, in one of three forms.
//!
//! The present one is SQLite's, and its headers are read. Of the other two, ndb and Berkeley DB, the content of the file is
//! all that is known.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::{Found, Host, NONE, Package, PackagesError, damaged, field};
use crate::digest::Digest;
use crate::store::{PutError, Store, StoreError, hash_file};

/// The newer place comes first; on some hosts one leads to the other.
const PLACES: [&str; 2] = ["usr/lib/sysimage/rpm", "var/lib/rpm"];
const SQLITE: &str = "rpmdb.sqlite";
/// What SQLite may have written and not yet put into the data base itself.
const PENDING: [&str; 2] = ["-wal", "-journal"];
/// ndb, and Berkeley DB's hash.
const OTHERS: [&str; 2] = ["Packages.db", "Packages"];

pub(super) fn read(host: &Host<'_>, store: &Store, found: &mut Found) -> Result<(), PackagesError> {
    let mut known = Vec::new();
    for place in PLACES {
        let sqlite = format!("{place}/{SQLITE}");
        let mut pending = Vec::new();
        for suffix in PENDING {
            let file = host.open(&format!("{sqlite}{suffix}"), &mut found.vouchers)?;
            pending.extend(file.filter(|file| file.metadata().is_ok_and(|it| it.len() > 0)).map(|_| suffix));
        }
        if let Some(file) = host.open(&sqlite, &mut found.vouchers)?
            && is_new(&file, &mut known)
        {
            found.packages.extend(headers(&host.path(&sqlite), &pending, store)?);
        }
        for name in OTHERS {
            let path = format!("{place}/{name}");
            if let Some(mut file) = host.open(&path, &mut found.vouchers)?
                && is_new(&file, &mut known)
            {
                found.packages.push(opaque(name, &mut file, &host.path(&path))?);
            }
        }
    }
    Ok(())
}

/// Whether the file is another one than all before.
fn is_new(file: &File, known: &mut Vec<(u64, u64)>) -> bool {
    let id = file.metadata().map_or((0, 0), |metadata| (metadata.dev(), metadata.ino()));
    let new = !known.contains(&id);
    known.push(id);
    new
}

/// A data base that can't be looked into.
fn opaque(name: &str, file: &mut File, path: &Path) -> Result<Package, PackagesError> {
    let digest: Digest = hash_file(file, &mut Vec::new()).map_err(|error| match error {
        PutError::Read(source) => PackagesError::Unreadable { path: path.to_owned(), source },
        PutError::Store(error) => error.into(),
    })?;
    let none = || NONE.to_owned();
    let fingerprint = digest.hex();
    Ok(Package { manager: "rpm", name: format!("({name})"), version: none(), architecture: none(), fingerprint })
}

/// The packages of the SQLite data base at `path`. Nothing is written beside it: when something is `pending`, which SQLite
/// would have to put into it first, a copy is read. The caller sees to it that nothing changed meanwhile.
fn headers(path: &Path, pending: &[&str], store: &Store) -> Result<Vec<Package>, PackagesError> {
    if pending.is_empty() {
        // Without `immutable`, a data base in WAL mode needs files beside it (https://sqlite.org/wal.html, section 5).
        let uri = format!("file:{}?immutable=1", encoded(path));
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        return select(Connection::open_with_flags(uri, flags), path);
    }
    let dir = store.working_directory()?;
    for suffix in [""].iter().chain(pending) {
        let (from, to) = (with_suffix(path, suffix), dir.path().join(format!("{SQLITE}{suffix}")));
        fs::copy(&from, &to).map_err(|source| StoreError::Io {
            doing: "copy a package data base to",
            path: to,
            source,
        })?;
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    select(Connection::open_with_flags(dir.path().join(SQLITE), flags), path)
}

fn with_suffix(path: &Path, suffix: &str) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A path as a URI has it.
fn encoded(path: &Path) -> String {
    let mut text = String::new();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => text.push(char::from(*byte)),
            other => text.push_str(&format!("%{other:02X}")),
        }
    }
    text
}

fn select(opened: rusqlite::Result<Connection>, path: &Path) -> Result<Vec<Package>, PackagesError> {
    let broken = |error: rusqlite::Error| damaged(path, "the data base".to_owned(), error.to_string());
    let connection = opened.map_err(broken)?;
    connection.execute_batch("PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;").map_err(broken)?;
    // A view, or a table that a program stands for, could compute for ever.
    let sql: Option<String> = connection
        .query_row("SELECT sql FROM sqlite_schema WHERE name = 'Packages' AND type = 'table'", [], |row| row.get(0))
        .map_err(broken)?;
    if !sql.is_some_and(|sql| sql.to_ascii_uppercase().starts_with("CREATE TABLE")) {
        return Err(damaged(path, "the data base".to_owned(), "`Packages` is no table"));
    }
    let mut statement = connection.prepare("SELECT hnum, blob FROM Packages").map_err(broken)?;
    let mut rows = statement.query([]).map_err(broken)?;
    let mut packages = Vec::new();
    while let Some(row) = rows.next().map_err(broken)? {
        let number: i64 = row.get(0).map_err(broken)?;
        let place = || format!("header {number}");
        let blob = row.get_ref(1).map_err(broken)?;
        let blob = blob.as_blob().map_err(|_| damaged(path, place(), "it is no blob"))?;
        packages.extend(package(blob, path, &place)?);
    }
    Ok(packages)
}

// Tags of a header (rpm's include/rpm/rpmtag.h).
const SIGMD5: u32 = 261;
const SHA1HEADER: u32 = 269;
const SHA256HEADER: u32 = 273;
const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
const ARCH: u32 = 1022;

/// A public key that rpm keeps like a package. It has no files, and each machine has its own.
const KEY: &str = "gpg-pubkey";

fn package(blob: &[u8], path: &Path, place: &dyn Fn() -> String) -> Result<Option<Package>, PackagesError> {
    let header = Header::new(blob).ok_or_else(|| damaged(path, place(), "it is no package header"))?;
    let text = |tag, what: &str| match header.text(tag) {
        Some(text) => field(text, what, path, place).map(Some),
        None if header.has(tag) => Err(damaged(path, place(), format!("its {what} is no text"))),
        None => Ok(None),
    };
    let needed = |tag, what: &str| text(tag, what)?.ok_or_else(|| damaged(path, place(), format!("it has no {what}")));
    let name = needed(NAME, "name")?;
    if name == KEY {
        return Ok(None);
    }
    let mut version = format!("{}-{}", needed(VERSION, "version")?, needed(RELEASE, "release")?);
    if header.has(EPOCH) {
        let epoch = header.number(EPOCH).ok_or_else(|| damaged(path, place(), "its epoch is no number"))?;
        version = format!("{epoch}:{version}");
    }
    let fingerprint = match text(SHA256HEADER, "digest")? {
        Some(digest) => digest,
        None => match text(SHA1HEADER, "digest")? {
            Some(digest) => digest,
            None => header.bytes(SIGMD5).map_or_else(|| NONE.to_owned(), hex),
        },
    };
    let architecture = text(ARCH, "architecture")?.unwrap_or_else(|| NONE.to_owned());
    Ok(Some(Package { manager: "rpm", name, version, architecture, fingerprint }))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A header as the data base has it: the number of its entries and the length of its data, big-endian as everything, the
/// entries (tag, type, offset in the data, count), the data (rpm's lib/header.c).
struct Header<'a> {
    entries: &'a [u8],
    data: &'a [u8],
}

const ENTRY: usize = 16;
// Types of an entry.
const INT32: u32 = 4;
const STRING: u32 = 6;
const BIN: u32 = 7;
const I18NSTRING: u32 = 9;

impl<'a> Header<'a> {
    fn new(blob: &'a [u8]) -> Option<Self> {
        let (count, rest) = blob.split_first_chunk::<4>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let count = usize::try_from(u32::from_be_bytes(*count)).ok()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (entries, data) = rest.split_at_checked(count.checked_mul(ENTRY)?)?;
        (data.len() == length).then_some(Self { entries, data })
    }

    /// Type, offset and count of the first entry with `tag`.
    fn entry(&self, tag: u32) -> Option<(u32, usize, usize)> {
        let word = |entry: &[u8], index: usize| {
            entry[index * 4..].first_chunk().map_or(0, |bytes: &[u8; 4]| u32::from_be_bytes(*bytes))
        };
        let entry = self.entries.chunks_exact(ENTRY).find(|entry| word(entry, 0) == tag)?;
        Some((word(entry, 1), usize::try_from(word(entry, 2)).ok()?, usize::try_from(word(entry, 3)).ok()?))
    }

    fn has(&self, tag: u32) -> bool {
        self.entry(tag).is_some()
    }

    /// The text of `tag`, the first one of several.
    fn text(&self, tag: u32) -> Option<&'a [u8]> {
        let (STRING | I18NSTRING, offset, _) = self.entry(tag)? else { return None };
        let rest = self.data.get(offset..)?;
        rest.iter().position(|byte| *byte == 0).map(|end| &rest[..end])
    }

    fn number(&self, tag: u32) -> Option<u32> {
        let (INT32, offset, 1) = self.entry(tag)? else { return None };
        self.data.get(offset..)?.first_chunk().map(|bytes: &[u8; 4]| u32::from_be_bytes(*bytes))
    }

    fn bytes(&self, tag: u32) -> Option<&'a [u8]> {
        let (BIN, offset, count) = self.entry(tag)? else { return None };
        self.data.get(offset..offset.checked_add(count)?).filter(|bytes| !bytes.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// A header of any bytes, and one that differs from a real one in a few of them, is read or refused.
        #[test]
        fn any_header_is_read_or_refused(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            changes in prop::collection::vec((0usize..2000, any::<u8>()), 1..20),
        ) {
            let at = || "here".to_owned();
            let _ = package(&bytes, Path::new("db"), &at);
            let mut blob = real();
            for (place, byte) in changes {
                let place = place % blob.len();
                blob[place] = byte;
            }
            let _ = package(&blob, Path::new("db"), &at);
        }
    }

    /// A header of the data base in `tests/packages`.
    fn real() -> Vec<u8> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/packages/rpm").join(PLACES[0]).join(SQLITE);
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        let connection = Connection::open_with_flags(format!("file:{}?immutable=1", encoded(&path)), flags).unwrap();
        connection.query_row("SELECT blob FROM Packages LIMIT 1", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn a_header_must_have_its_length() {
        let at = || "here".to_owned();
        let read = |blob: &[u8]| package(blob, Path::new("db"), &at);
        let whole = real();
        assert!(read(&whole).unwrap().is_some());
        for length in 0..whole.len() {
            assert!(read(&whole[..length]).is_err(), "cut at {length}");
        }
        assert!(read(&[&whole[..], b"x"].concat()).is_err());
    }

    #[test]
    fn a_key_is_no_package() {
        let mut blob = Vec::new();
        blob.extend_from_slice(&1_u32.to_be_bytes());
        blob.extend_from_slice(&11_u32.to_be_bytes());
        for word in [NAME, STRING, 0, 1] {
            blob.extend_from_slice(&word.to_be_bytes());
        }
        blob.extend_from_slice(b"gpg-pubkey\0");
        assert_eq!(package(&blob, Path::new("db"), &|| String::new()).unwrap(), None);
    }
}
