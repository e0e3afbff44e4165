//! Which proxy a URL is fetched through, by the variables that clients have agreed on.

use std::fmt;
use std::net::IpAddr;

use crate::config::model::{FetchUrl, Prefix, Scheme};

/// The proxies that the caller's environment names; their URLs can hold passwords and are never shown.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Proxies {
    http: Option<String>,
    https: Option<String>,
    all: Option<String>,
    /// What is reached without a proxy.
    none: Vec<String>,
}

impl Proxies {
    /// Reads `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy` by `get`, the lowercase name before the uppercase
    /// one.
    pub fn from_variables(get: impl Fn(&str) -> Option<String>) -> Self {
        let value = |name: &str| get(name).or_else(|| get(&name.to_uppercase())).filter(|value| !value.is_empty());
        let entries = value("no_proxy").unwrap_or_default();
        Self {
            http: value("http_proxy"),
            https: value("https_proxy"),
            all: value("all_proxy"),
            none: entries.split([',', ' ']).filter(|entry| !entry.is_empty()).map(str::to_ascii_lowercase).collect(),
        }
    }

    /// The variable and the proxy that `url` is fetched through.
    pub(super) fn of(&self, url: &FetchUrl) -> Option<(&'static str, &str)> {
        let own = match url.scheme() {
            Scheme::Http => ("http_proxy", &self.http),
            Scheme::Https => ("https_proxy", &self.https),
            Scheme::File => return None,
        };
        let (variable, proxy) = [own, ("all_proxy", &self.all)].into_iter().find(|(_, proxy)| proxy.is_some())?;
        let excepted = self.none.iter().any(|entry| covers(entry, url.host(), url.port()));
        proxy.as_deref().filter(|_| !excepted).map(|proxy| (variable, proxy))
    }
}

/// An entry of `no_proxy`: `*`, an address or prefix, or a name, which covers the names below it too; a port may follow.
fn covers(entry: &str, host: &str, port: u16) -> bool {
    let bare = host.trim_matches(['[', ']']);
    if entry == "*" {
        return true;
    }
    if let Ok(address) = bare.parse::<IpAddr>() {
        let entry = entry.trim_matches(['[', ']']);
        return entry == bare || Prefix::parse(entry).is_ok_and(|prefix| prefix.contains(address));
    }
    let (name, of_port) = match entry.rsplit_once(':') {
        Some((name, digits)) => (name, digits.parse() == Ok(port)),
        None => (entry, true),
    };
    let name = name.strip_prefix('*').unwrap_or(name);
    let name = name.strip_prefix('.').unwrap_or(name);
    of_port && host.strip_suffix(name).is_some_and(|front| front.is_empty() || front.ends_with('.'))
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = [("http", &self.http), ("https", &self.https), ("all", &self.all)];
        f.debug_set().entries(set.iter().filter(|(_, proxy)| proxy.is_some()).map(|(name, _)| name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Proxies {
        Proxies::from_variables(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn of<'p>(proxies: &'p Proxies, url: &str) -> Option<&'p str> {
        proxies.of(&FetchUrl::parse(url).unwrap()).map(|(_, proxy)| proxy)
    }

    #[test]
    fn each_scheme_has_its_proxy_and_all_have_one() {
        let both =
            proxies(&[("HTTP_PROXY", "p:1"), ("http_proxy", "p:2"), ("https_proxy", "p:3"), ("ALL_PROXY", "p:4")]);
        assert_eq!(of(&both, "http://a/"), Some("p:2"));
        assert_eq!(of(&both, "https://a/"), Some("p:3"));
        assert_eq!(of(&both, "file:///a"), None);
        let all = proxies(&[("ALL_PROXY", "p:4"), ("HTTPS_PROXY", "")]);
        assert_eq!((of(&all, "http://a/"), of(&all, "https://a/")), (Some("p:4"), Some("p:4")));
        assert_eq!(of(&proxies(&[]), "http://a/"), None);
    }

    #[test]
    fn what_no_proxy_names_is_reached_directly() {
        for (entries, direct, proxied) in [
            ("*", &["http://a/"][..], &[][..]),
            (
                "example.org",
                &["http://example.org/", "http://a.example.org/"],
                &["http://anexample.org/", "http://org/"],
            ),
            (".example.org", &["http://example.org/", "http://a.example.org/"], &["http://example.com/"]),
            ("*.example.org", &["http://a.example.org/"], &["http://example.com/"]),
            ("a:81, B", &["http://a:81/", "http://b/", "http://b:81/"], &["http://a/"]),
            (
                "127.0.0.1,10.0.0.0/8",
                &["http://127.0.0.1:3/", "http://10.1.2.3/"],
                &["http://127.0.0.2/", "http://11.0.0.1/"],
            ),
            ("::1,[fd00::1]", &["http://[::1]/", "http://[fd00::1]:8/"], &["http://[::2]/"]),
        ] {
            let proxies = proxies(&[("all_proxy", "p"), ("no_proxy", entries)]);
            assert!(direct.iter().all(|url| of(&proxies, url).is_none()), "{entries}");
            assert!(proxied.iter().all(|url| of(&proxies, url).is_some()), "{entries}");
        }
    }

    #[test]
    fn a_proxy_s_password_is_not_shown() {
        let shown = format!("{:?}", proxies(&[("all_proxy", "http://me:secret@p:1")]));
        assert_eq!(shown, "{\"all\"}");
    }
}
