//! `[[fetch]]`: files from elsewhere, checked by their digests, then inputs like any other.
//!
//! A file is fetched when the store does not have it: what is asked of the network is asked once. It comes into a file
//! without a name, is hashed on its way, and enters the store when its digest is the declared one; so neither a kill nor
//! a server can leave part of it anywhere. Archives are unpacked out of the store, once for each digest.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::archive::{self, UnpackError};
use super::fault::{Fault, Faults, InputError};
use super::{Entry, Manifest, Node, Progress, path_order};
use crate::config::model::{Fetch, FetchUrl};
use crate::digest::Digest;
use crate::store::frame::{Reader, read_frame};
use crate::store::{Family, PutError, Store, StoreError, Variant};

mod client;
mod proxies;

use client::Client;
pub use proxies::Proxies;

/// The format of a remembered file: its size, under its digest.
const FETCHED_FORMAT: &[u8; 8] = b"sbxfet01";
/// The format of a remembered archive: what it unpacks to, under its digest.
const UNPACKED_FORMAT: &[u8; 8] = b"sbxunp01";

/// Where something is fetched from, and where a server sent its client.
#[derive(Debug, Clone)]
pub struct Place {
    /// As declared.
    pub url: Box<FetchUrl>,
    /// After redirects.
    pub at: Option<Box<FetchUrl>>,
}

impl Place {
    fn of(fetch: &Fetch) -> Self {
        Self { url: Box::new(fetch.url.clone()), at: None }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.at {
            Some(at) => write!(f, "{} (redirected to {at})", self.url),
            None => write!(f, "{}", self.url),
        }
    }
}

/// Why something can't be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The content is another one.
    #[error(
        "{place} is not what sandbox.toml declares\n  expected sha256 {expected}\n  got      sha256 {got}, {size} bytes"
    )]
    WrongDigest {
        /// Where.
        place: Place,
        /// The declared digest, in hexadecimal digits.
        expected: String,
        /// The digest of what came.
        got: String,
        /// How many bytes came.
        size: u64,
    },
    /// The server has no such file, or does not give it.
    #[error("can't fetch {place}: the server answers {status} ({reason})")]
    Status {
        /// Where.
        place: Place,
        /// The HTTP status.
        status: u16,
        /// What it stands for.
        reason: &'static str,
    },
    /// No connection, or it broke.
    #[error("can't fetch {place}")]
    Connection {
        /// Where.
        place: Place,
        /// What happened.
        source: io::Error,
    },
    /// The connection ended early.
    #[error("can't fetch {place}: the connection ended after {done} of {size} bytes")]
    Cut {
        /// Where.
        place: Place,
        /// How many bytes came.
        done: u64,
        /// How many were announced.
        size: u64,
    },
    /// The server could not prove who it is.
    #[error("can't fetch {place} safely")]
    Tls {
        /// Where.
        place: Place,
        /// What is wrong.
        source: io::Error,
    },
    /// The server sent its client where it does not go.
    #[error("can't fetch {place}: the server redirects {why}")]
    Redirect {
        /// Where.
        place: Place,
        /// Where to.
        why: &'static str,
    },
    /// The URL can't be asked for.
    #[error("can't fetch {place}: it is no URL for a client")]
    Unfit {
        /// Where.
        place: Place,
    },
    /// The variable names no proxy.
    #[error("the variable {variable} (or its uppercase name) holds no URL of a proxy")]
    Proxy {
        /// The variable's lowercase name.
        variable: &'static str,
    },
    /// A file of this machine can't be read.
    #[error("can't fetch {}", path.display())]
    Local {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// What a `file` URL names is a directory, a device, a pipe.
    #[error("can't fetch {}: it is not a regular file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The archive can't be read.
    #[error("can't unpack {url}")]
    Archive {
        /// Where it is from.
        url: Box<FetchUrl>,
        /// What is wrong with it.
        source: io::Error,
    },
    /// The archive holds what it must not.
    #[error("can't unpack {url}")]
    Contents {
        /// Where it is from.
        url: Box<FetchUrl>,
        /// The entries.
        source: Faults,
    },
}

impl FetchError {
    /// What helps.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::WrongDigest { got, .. } => {
                Some(format!("if this content is the right one, declare it: `sha256 = \"{got}\"`"))
            }
            Self::Status { status: 407, .. } => Some("the proxy's variable can hold `user:password@`".into()),
            Self::Status { status: 401 | 403, .. } => Some("the URL can hold `user:password@`".into()),
            Self::Status { status: 404 | 410, .. } => Some("is the URL still right? see `fetch.url`".into()),
            Self::Connection { .. } => {
                Some("is there a network here? behind a proxy, set https_proxy, http_proxy or all_proxy".into())
            }
            Self::Tls { .. } => Some("SSL_CERT_FILE can name a file with the certificates to trust".into()),
            Self::Redirect { .. } => Some("declare the URL that the file is at".into()),
            Self::Proxy { .. } => Some("write it as `http://host:port`".into()),
            Self::Archive { .. } | Self::Contents { .. } => {
                Some("without `unpack = true` the archive itself is the input".into())
            }
            Self::Status { .. }
            | Self::Cut { .. }
            | Self::Unfit { .. }
            | Self::Local { .. }
            | Self::NotAFile { .. } => None,
        }
    }

    /// With its cause.
    fn in_one_line(&self) -> String {
        match self {
            Self::Connection { source, .. } => format!("{self}: {source}"),
            other => other.to_string(),
        }
    }
}

/// Adds to `manifest` what `fetches` name; what the store lacks is fetched.
///
/// # Errors
/// When something of the project stands at a target, a file can't be fetched or unpacked, or the store failed.
pub(super) fn add(
    manifest: &mut Manifest,
    fetches: &[Fetch],
    proxies: &Proxies,
    store: &Store,
    progress: &dyn Progress,
) -> Result<(), InputError> {
    if fetches.is_empty() {
        return Ok(());
    }
    fetches.iter().filter_map(|fetch| conflict(manifest, fetch)).collect::<Faults>().into_result()?;
    let mut client = Client::new(proxies, store, progress);
    for fetch in fetches {
        let digest = stored(&mut client, fetch)?;
        let target = fetch.target.as_str();
        if fetch.unpack {
            let unpacked = unpacked(fetch, &digest, store)?;
            let below = |entry: Entry| Entry { path: format!("{target}/{}", entry.path), ..entry };
            manifest.entries.extend(unpacked.entries.into_iter().map(below));
        } else {
            manifest.entries.push(Entry { path: target.to_owned(), node: Node::File { digest, executable: false } });
        }
    }
    let is_above = |path: &str| fetches.iter().any(|fetch| is_within(fetch.target.as_str(), path));
    manifest.entries.retain(|entry| entry.node != Node::EmptyDirectory || !is_above(&entry.path));
    manifest.entries.sort_by(|one, other| path_order(&one.path, &other.path));
    Ok(())
}

/// Forgets what the archives of `fetches` unpack to, so that what the store lost of it is unpacked again. What was fetched
/// is looked for in the store each time.
pub(super) fn forget(fetches: &[Fetch], store: &Store) -> Result<(), StoreError> {
    for path in fetches.iter().filter(|fetch| fetch.unpack).map(|fetch| memory(store, "unpacked", fetch)) {
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::Io { doing: "remove", path, source });
            }
            _ => {}
        }
    }
    Ok(())
}

fn memory(store: &Store, purpose: &str, fetch: &Fetch) -> PathBuf {
    let memory = store.path().join(purpose).join(&fetch.sha256);
    Store::note_use(&memory);
    memory
}

/// Whether `path` is `above` or lies below it.
fn is_within(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What of the project is in the way of a target.
fn conflict(manifest: &Manifest, fetch: &Fetch) -> Option<Fault> {
    let target = fetch.target.as_str();
    let taken = |by: &str| Some(Fault::Taken { path: target.to_owned(), by: by.to_owned() });
    match manifest.find(target) {
        Some(entry) if entry.path == target && entry.node == Node::EmptyDirectory && fetch.unpack => {}
        Some(entry) => return taken(&entry.path),
        None => {}
    }
    for (end, _) in target.match_indices('/') {
        let above = &target[..end];
        if let Some(entry) = manifest.find(above).filter(|entry| entry.path == above)
            && entry.node != Node::EmptyDirectory
        {
            return taken(above);
        }
    }
    None
}

/// The digest of the content of `fetch`, which is in the store then.
fn stored(client: &mut Client<'_>, fetch: &Fetch) -> Result<Digest, InputError> {
    let (store, memory) = (client.store, memory(client.store, "fetched", fetch));
    if let Some(digest) = remembered(&memory, &fetch.sha256)
        && store.open_blob(&digest, false).is_ok()
    {
        return Ok(digest);
    }
    let mut file = client.get(fetch)?;
    let variant = Variant { executable: false, family: Family::Inputs };
    let digest = store.put_file(&mut file, variant, &mut Vec::new()).map_err(|error| match error {
        PutError::Store(error) => error,
        PutError::Read(source) => StoreError::Io { doing: "read from", path: store.path().to_owned(), source },
    })?;
    if digest.hex() != fetch.sha256 {
        // The file system gave back other bytes than it was given.
        let place = Place::of(fetch);
        let expected = fetch.sha256.clone();
        return Err(FetchError::WrongDigest { place, expected, got: digest.hex(), size: digest.size }.into());
    }
    store.write_frame(&memory, FETCHED_FORMAT, &digest.size.to_le_bytes())?;
    Ok(digest)
}

fn remembered(memory: &Path, sha256: &str) -> Option<Digest> {
    let body = read_frame(memory, FETCHED_FORMAT)?;
    let mut reader = Reader(&body);
    let size = reader.u64().filter(|_| reader.is_empty())?;
    Some(Digest { hash: crate::digest::parse_hex(sha256)?, size })
}

/// What the archive in the store unpacks to.
fn unpacked(fetch: &Fetch, digest: &Digest, store: &Store) -> Result<Manifest, InputError> {
    let memory = memory(store, "unpacked", fetch);
    if let Some(manifest) = read_frame(&memory, UNPACKED_FORMAT).and_then(|body| Manifest::decode(&body)) {
        return Ok(manifest);
    }
    let mut file = store.open_blob(digest, false)?;
    let url = || Box::new(fetch.url.clone());
    let manifest = archive::unpack_inputs(&mut file, digest.size, store).map_err(|error| match error {
        UnpackError::Read(source) => FetchError::Archive { url: url(), source }.into(),
        UnpackError::Input(InputError::Faults(source)) => FetchError::Contents { url: url(), source }.into(),
        UnpackError::Input(error) => error,
    })?;
    store.write_frame(&memory, UNPACKED_FORMAT, &manifest.encode())?;
    Ok(manifest)
}

#[cfg(test)]
mod tests;
