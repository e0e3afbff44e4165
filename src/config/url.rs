//! The URLs of `[[fetch]]`. What one shows of itself never has its user, password or query, for these can be secrets.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use super::rules::HostName;
use super::values::Bad;

/// Where a file is fetched from.
#[derive(Clone, PartialEq, Eq)]
pub struct FetchUrl {
    scheme: Scheme,
    /// User and password as written.
    user: Option<String>,
    /// Canonical, IPv6 in brackets; empty for `file`.
    host: String,
    port: u16,
    /// From its `/` on, as written; for `file` without escapes.
    path: String,
    query: Option<String>,
}

/// How a file is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// `http`
    Http,
    /// `https`
    Https,
    /// `file`: a file of this machine.
    File,
}

impl Scheme {
    fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::File => "file",
        }
    }

    fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
            Self::File => 0,
        }
    }
}

/// What a URL may have in its path and query without an escape, besides letters and digits (RFC 3986).
const PLAIN: &str = "-._~!$&'()*+,;=:@/?%[]|";

impl FetchUrl {
    /// Reads a URL of a file; a fragment is dropped.
    ///
    /// # Errors
    /// When the scheme is none of the three, the host or the port is wrong, or a character must be escaped.
    pub fn parse(text: &str) -> Result<Self, Bad> {
        let none =
            || Bad::new("is no URL that can be fetched").hint("it begins with `https://`, `http://` or `file:///`");
        let (scheme, rest) = text.split_once("://").ok_or_else(none)?;
        let scheme = [Scheme::Http, Scheme::Https, Scheme::File]
            .into_iter()
            .find(|known| scheme.eq_ignore_ascii_case(known.name()))
            .ok_or_else(none)?;
        let rest = rest.split('#').next().unwrap_or_default();
        if let Some(other) = rest.chars().find(|c| !c.is_ascii_alphanumeric() && !PLAIN.contains(*c)) {
            return Err(Bad::new(format!("has a {other:?}")).hint("such a character is written as `%` and two digits"));
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query.to_owned())));
        if scheme == Scheme::File {
            return file(authority, path, query.is_some());
        }
        let (user, place) = authority.rsplit_once('@').map_or((None, authority), |(user, place)| (Some(user), place));
        let (host, port) = match place.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
            Some((host, port)) => (
                host,
                port.parse().ok().filter(|port| *port > 0).ok_or_else(|| {
                    Bad::new(format!("has a wrong port, {port:?}")).hint("a port is a number from 1 to 65535")
                })?,
            ),
            None => (place, scheme.port()),
        };
        Ok(Self {
            scheme,
            user: user.map(str::to_owned),
            host: canonical(host)?,
            port,
            path: if path.is_empty() { "/".to_owned() } else { path.to_owned() },
            query,
        })
    }

    /// Where the answer of a server at this URL sends its client: `location`, absolute or relative to here.
    ///
    /// # Errors
    /// As [`FetchUrl::parse`], when it is sent to no such URL.
    pub fn join(&self, location: &str) -> Result<Self, Bad> {
        let location = location.split('#').next().unwrap_or_default();
        let here = format!("{}://{}", self.scheme.name(), self.place());
        let mut joined = if location.split(['/', '?']).next().is_some_and(|first| first.contains(':')) {
            Self::parse(location)?
        } else if let Some(rest) = location.strip_prefix("//") {
            Self::parse(&format!("{}://{rest}", self.scheme.name()))?
        } else if location.starts_with('/') {
            Self::parse(&format!("{here}{location}"))?
        } else if location.starts_with('?') {
            Self::parse(&format!("{here}{}{location}", self.path))?
        } else {
            let above = self.path.rsplit_once('/').map_or("", |(above, _)| above);
            Self::parse(&format!("{here}{above}/{location}"))?
        };
        // Credentials are for the server that they were written for.
        if joined.user.is_none() && joined.scheme == self.scheme && joined.place() == self.place() {
            joined.user.clone_from(&self.user);
        }
        Ok(joined)
    }

    /// How it is fetched.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Whom a client asks; empty for `file`. IPv6 has its brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// At which port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// User and password without escapes, `user:password`.
    pub fn credentials(&self) -> Option<Vec<u8>> {
        self.user.as_deref().map(unescaped)
    }

    /// The file of a `file` URL.
    pub fn file(&self) -> PathBuf {
        PathBuf::from(&self.path)
    }

    /// The URL as a client needs it, query and all, without user and password.
    pub fn request(&self) -> String {
        let query = self.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        format!("{}://{}{}{query}", self.scheme.name(), self.place(), self.path)
    }

    fn place(&self) -> String {
        if self.port == self.scheme.port() { self.host.clone() } else { format!("{}:{}", self.host, self.port) }
    }
}

fn file(authority: &str, path: &str, has_query: bool) -> Result<FetchUrl, Bad> {
    if !authority.is_empty() {
        return Err(
            Bad::new("names a host").hint("a file of this machine has three slashes: `file:///…`, and its path")
        );
    }
    let path = String::from_utf8(unescaped(path)).ok().filter(|path| !path.chars().any(char::is_control));
    match path {
        Some(path) if path.starts_with('/') && !path.ends_with('/') && !has_query => {
            Ok(FetchUrl { scheme: Scheme::File, user: None, host: String::new(), port: 0, path, query: None })
        }
        _ => Err(Bad::new("names no file").hint("write `file://` and the absolute path of a file")),
    }
}

fn canonical(host: &str) -> Result<String, Bad> {
    if let Some(inner) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        let address: Ipv6Addr = inner.parse().map_err(|_| Bad::new(format!("has a wrong address, {inner:?}")))?;
        return Ok(format!("[{address}]"));
    }
    match host.parse::<Ipv4Addr>() {
        Ok(address) => Ok(address.to_string()),
        Err(_) => HostName::parse(host).map(|name| name.to_string()),
    }
}

/// `text` with its `%xx` as bytes; a `%` without two digits stays.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let digits = after.get(..2).and_then(|digits| str::from_utf8(digits).ok());
        match digits.filter(|_| *first == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

impl fmt::Display for FetchUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let query = if self.query.is_some() { "?…" } else { "" };
        write!(f, "{}://{}{}{query}", self.scheme.name(), self.place(), self.path)
    }
}

impl fmt::Debug for FetchUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn url(text: &str) -> FetchUrl {
        FetchUrl::parse(text).unwrap_or_else(|bad| panic!("{text}: {bad:?}"))
    }

    #[test]
    fn what_is_shown_has_no_secrets() {
        let secret = url("https://me:s%40cret@Files.Example.org:8443/a/b.tar.gz?token=hidden#part");
        for shown in [secret.to_string(), format!("{secret:?}")] {
            assert!(shown.contains("https://files.example.org:8443/a/b.tar.gz?…"), "{shown}");
            assert!(
                !["me", "cret", "token", "hidden", "part"]
                    .iter()
                    .any(|word| shown.replace("example", "").contains(word)),
                "{shown}"
            );
        }
        assert_eq!(secret.credentials().unwrap(), b"me:s@cret");
        assert_eq!(secret.request(), "https://files.example.org:8443/a/b.tar.gz?token=hidden");
    }

    #[test]
    fn a_url_is_canonical() {
        for (text, request) in [
            ("HTTP://A.example", "http://a.example/"),
            ("http://a.example:80/x", "http://a.example/x"),
            ("https://a.example?x", "https://a.example/?x"),
            ("https://127.0.0.1:1/", "https://127.0.0.1:1/"),
            ("https://[::1]:1/", "https://[::1]:1/"),
            ("https://[0::1]/", "https://[::1]/"),
            ("file:///a%20b", "file:///a b"),
        ] {
            assert_eq!(url(text).request(), request);
        }
        assert_eq!(url("file:///a%20b%25").file(), PathBuf::from("/a b%"));
        assert_eq!((url("https://a/").port(), url("http://a:81/").port()), (443, 81));
    }

    #[test]
    fn what_is_no_url_is_refused() {
        for text in [
            "",
            "a",
            "zlib.tar.gz",
            "ftp://a/b",
            "https:/a",
            "://a",
            "https://",
            "https:///x",
            "https://a:0/",
            "https://a:x/",
            "https://a:65536/",
            "https://a b/",
            "https://a/b c",
            "https://a/\n",
            "https://ä/",
            "https://a/ä",
            "https://a..b/",
            "https://127.1/",
            "https://[::g]/",
            "https://a/<b>",
            "file://a/b",
            "file://",
            "file:///",
            "file:///a/",
            "file:///a?b",
            "file:///a%00",
            "file:a",
            "file:///%ff",
        ] {
            assert!(FetchUrl::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_redirect_is_absolute_or_relative() {
        let here = url("https://me:pw@a.example/x/y?z");
        for (location, there, keeps) in [
            ("https://b.example/c", "https://b.example/c", false),
            ("http://a.example/c", "http://a.example/c", false),
            ("https://a.example:444/c", "https://a.example:444/c", false),
            ("https://A.example/c", "https://a.example/c", true),
            ("//b.example/c", "https://b.example/c", false),
            ("/c?d", "https://a.example/c?d", true),
            ("c", "https://a.example/x/c", true),
            ("?d", "https://a.example/x/y?d", true),
            ("c:d", "", false),
            ("file:///etc/passwd", "file:///etc/passwd", false),
            ("ftp://b/", "", false),
        ] {
            match here.join(location) {
                Ok(joined) => {
                    assert_eq!(joined.request(), there, "{location}");
                    assert_eq!(joined.credentials().is_some(), keeps, "{location}");
                }
                Err(bad) => assert_eq!(there, "", "{location}: {bad:?}"),
            }
        }
    }

    /// Texts near the grammar.
    fn near() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "http://",
            "https://",
            "file://",
            "HTTP://",
            "/",
            "//",
            "?",
            "#",
            "@",
            ":",
            "%20",
            "%",
            "[::1]",
            "a.b",
            "127.0.0.1",
            "secret",
            "x",
            "..",
            "é",
            " ",
            "80",
            "0",
            "\0",
            "|",
        ]);
        prop::collection::vec(piece, 0..9).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        #[test]
        fn a_url_reads_back_and_shows_no_user(text in prop_oneof![any::<String>(), near()], location in near()) {
            if let Ok(url) = FetchUrl::parse(&text) {
                if url.scheme() != Scheme::File {
                    let again = FetchUrl::parse(&url.request()).unwrap();
                    prop_assert_eq!(&again, &FetchUrl { user: None, ..url.clone() });
                }
                let (shown, request) = (url.to_string(), url.request());
                let bare = request.split('?').next().unwrap_or_default();
                prop_assert!(shown == bare || shown == format!("{bare}?…") || url.scheme() == Scheme::File, "{}", shown);
                _ = (url.join(&location), url.credentials(), url.file());
            }
        }
    }
}
