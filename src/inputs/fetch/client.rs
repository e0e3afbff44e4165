//! The client: one file at a time, into a file without a name, checked while it comes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek as _, Write as _};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use ureq::Agent;
use ureq::http::Response;
use ureq::tls::{RootCerts, TlsConfig, TlsProvider};

use super::proxies::Proxies;
use super::{FetchError, Place};
use crate::config::model::{Fetch, FetchUrl, Scheme};
use crate::digest::Digest;
use crate::inputs::{InputError, Progress};
use crate::store::{Store, StoreError};

/// How often a server may send its client on.
const REDIRECTS_MAX: usize = 10;
/// How much is read at once.
const CHUNK: usize = 64 * 1024;

/// How long a client waits, and how often it tries.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// For a connection, with its handshakes.
    pub(super) connect: Duration,
    /// For an answer, and for more of it.
    pub(super) progress: Duration,
    /// Before the second try; twice as long before each one after it.
    pub(super) pause: Duration,
    /// The longest that a server may ask to wait.
    pub(super) longest: Duration,
    pub(super) tries: u32,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            progress: Duration::from_secs(60),
            pause: Duration::from_millis(500),
            longest: Duration::from_secs(30),
            tries: 4,
        }
    }
}

/// Fetches files.
pub(super) struct Client<'a> {
    pub(super) proxies: &'a Proxies,
    pub(super) patience: Patience,
    pub(super) store: &'a Store,
    pub(super) progress: &'a dyn Progress,
    /// One for each proxy, made when it is needed: each reads the machine's certificates.
    agents: BTreeMap<Option<String>, Agent>,
}

/// Why a try failed.
enum Failure {
    /// Another one may do better, after this long if the server says so.
    Passing(FetchError, Option<Duration>),
    Lasting(InputError),
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        Self::Lasting(error.into())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Lasting(error.into())
    }
}

impl<'a> Client<'a> {
    pub(super) fn new(proxies: &'a Proxies, store: &'a Store, progress: &'a dyn Progress) -> Self {
        Self { proxies, patience: Patience::default(), store, progress, agents: BTreeMap::new() }
    }

    /// The content that `fetch` names, whole and of the right digest, in a file without a name.
    pub(super) fn get(&mut self, fetch: &Fetch) -> Result<File, InputError> {
        let mut pause = self.patience.pause;
        for left in (0..self.patience.tries).rev() {
            match self.attempt(fetch) {
                Ok(file) => return Ok(file),
                Err(Failure::Lasting(error)) => return Err(error),
                Err(Failure::Passing(error, _)) if left == 0 => return Err(error.into()),
                Err(Failure::Passing(error, asked)) => {
                    self.progress.told(&format!("{}; trying again", error.in_one_line()));
                    thread::sleep(asked.unwrap_or(pause).min(self.patience.longest));
                    pause *= 2;
                }
            }
        }
        unreachable!("the last try gives a file or an error")
    }

    fn attempt(&mut self, fetch: &Fetch) -> Result<File, Failure> {
        let mut place = Place::of(fetch);
        let (mut reader, size): (Box<dyn Read>, _) = if fetch.url.scheme() == Scheme::File {
            let file = local(&fetch.url)?;
            let size = file.metadata().map_err(|source| FetchError::Local { path: fetch.url.file(), source })?.len();
            (Box::new(file), Some(size))
        } else {
            let answer = self.answer(&mut place)?;
            let size = answer.body().content_length();
            (Box::new(answer.into_body().into_reader()), size)
        };
        let mut file = self.store.file_without_name()?;
        let digest = self.receive(&place, &mut *reader, size, &mut file)?;
        if digest.hex() != fetch.sha256 {
            let expected = fetch.sha256.clone();
            return Err(FetchError::WrongDigest { place, expected, got: digest.hex(), size: digest.size }.into());
        }
        file.rewind().map_err(|source| self.writing(source))?;
        self.progress.fetched(&place.url.to_string(), digest.size);
        Ok(file)
    }

    /// Follows `place` to the answer that has the file.
    fn answer(&mut self, place: &mut Place) -> Result<Response<ureq::Body>, Failure> {
        for _ in 0..=REDIRECTS_MAX {
            let here = place.at.clone().unwrap_or_else(|| place.url.clone());
            let answer = self.ask(place, &here)?;
            let status = answer.status();
            if status.as_u16() == 200 {
                return Ok(answer);
            }
            let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
            if let (301 | 302 | 303 | 307 | 308, Some(location)) = (status.as_u16(), header("location")) {
                let to = here
                    .join(location)
                    .map_err(|_| FetchError::Redirect { place: place.clone(), why: "to no URL that can be fetched" })?;
                match (here.scheme(), to.scheme()) {
                    (_, Scheme::File) => {
                        return Err(
                            FetchError::Redirect { place: place.clone(), why: "to a file of this machine" }.into()
                        );
                    }
                    (Scheme::Https, Scheme::Http) => {
                        return Err(FetchError::Redirect { place: place.clone(), why: "from https to http" }.into());
                    }
                    _ => place.at = Some(Box::new(to)),
                }
                continue;
            }
            let reason = status.canonical_reason().unwrap_or("no standard status");
            let error = FetchError::Status { place: place.clone(), status: status.as_u16(), reason };
            let asked = header("retry-after").and_then(|value| value.trim().parse().ok()).map(Duration::from_secs);
            return Err(match status.as_u16() {
                408 | 429 | 500..=599 => Failure::Passing(error, asked),
                _ => error.into(),
            });
        }
        Err(FetchError::Redirect { place: place.clone(), why: "too often" }.into())
    }

    fn ask(&mut self, place: &Place, here: &FetchUrl) -> Result<Response<ureq::Body>, Failure> {
        let proxy = self.proxies.of(here);
        let agent = match self.agents.entry(proxy.map(|(_, proxy)| proxy.to_owned())) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(new) => {
                let proxy = proxy
                    .map(|(variable, proxy)| ureq::Proxy::new(proxy).map_err(|_| FetchError::Proxy { variable }))
                    .transpose()?;
                new.insert(agent(self.patience, proxy))
            }
        };
        let mut request = agent.get(here.request());
        if let Some(credentials) = here.credentials() {
            request = request.header("authorization", format!("Basic {}", base64(&credentials)));
        }
        request.call().map_err(|error| judge(place, error))
    }

    /// Reads the file to its end, hashing what is written.
    fn receive(
        &self,
        place: &Place,
        reader: &mut dyn Read,
        size: Option<u64>,
        file: &mut File,
    ) -> Result<Digest, Failure> {
        let shown = place.url.to_string();
        let mut hasher = Sha256::new();
        let mut done = 0;
        let mut buffer = vec![0; CHUNK];
        loop {
            self.progress.fetching(&shown, done, size);
            let length = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(judge(place, error.into())),
            };
            hasher.update(&buffer[..length]);
            file.write_all(&buffer[..length]).map_err(|source| self.writing(source))?;
            done += length as u64;
        }
        if let Some(size) = size.filter(|size| *size != done) {
            return Err(Failure::Passing(FetchError::Cut { place: place.clone(), done, size }, None));
        }
        Ok(Digest { hash: hasher.finalize().into(), size: done })
    }

    fn writing(&self, source: io::Error) -> Failure {
        StoreError::Io { doing: "write to", path: self.store.path().to_owned(), source }.into()
    }
}

/// A file of this machine, opened when it is one.
fn local(url: &FetchUrl) -> Result<File, FetchError> {
    let path = url.file();
    let failed = |source| FetchError::Local { path: url.file(), source };
    // Before it is opened: to open a pipe would wait for its other end.
    if !fs::metadata(&path).map_err(failed)?.is_file() {
        return Err(FetchError::NotAFile { path });
    }
    File::open(&path).map_err(failed)
}

/// An agent that answers everything as it came: redirects and statuses are judged here.
fn agent(patience: Patience, proxy: Option<ureq::Proxy>) -> Agent {
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .root_certs(RootCerts::PlatformVerifier)
        .build();
    Agent::config_builder()
        .tls_config(tls)
        .proxy(proxy)
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("sbx/", env!("CARGO_PKG_VERSION")))
        .accept("*/*")
        // The digest is that of the file, not of a form it is sent in.
        .accept_encoding("identity")
        .timeout_connect(Some(patience.connect))
        .timeout_recv_response(Some(patience.progress))
        .timeout_per_read(Some(patience.progress))
        .timeout_per_write(Some(patience.progress))
        .build()
        .new_agent()
}

/// Whether another try may help.
fn judge(place: &Place, error: ureq::Error) -> Failure {
    let place = place.clone();
    match error {
        ureq::Error::Io(source) if source.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => {
            FetchError::Tls { place, source }.into()
        }
        ureq::Error::Rustls(source) => FetchError::Tls { place, source: io::Error::other(source) }.into(),
        ureq::Error::Io(source) => Failure::Passing(FetchError::Connection { place, source }, None),
        ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed
        | ureq::Error::Protocol(_)
        | ureq::Error::BodyStalled
        | ureq::Error::Timeout(_) => {
            Failure::Passing(FetchError::Connection { place, source: io::Error::other(error) }, None)
        }
        // Its words can have the URL whole.
        ureq::Error::BadUri(_) | ureq::Error::RequireHttpsOnly(_) => FetchError::Unfit { place }.into(),
        other => FetchError::Connection { place, source: io::Error::other(other) }.into(),
    }
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let value = group.iter().fold(0_u32, |value, byte| (value << 8) | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let digit = DIGITS[(value >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of RFC 4648, section 10.
    #[test]
    fn base64_is_that_of_the_rfc() {
        for (text, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(text.as_bytes()), encoded);
        }
    }
}
