//! The directories, links and synthesised files that stand in every sandbox: the lowest layer of a host root, and what
//! lies over an image's.

use std::collections::BTreeMap;

use super::PlanError;
use super::env;
use super::network::RESOLVER;
use crate::config::model::Network;
use crate::path::GuestPath;

/// One place of the skeleton.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A directory, to be there or to be mounted on.
    Directory,
    /// A regular file, mode 0644; empty when it is only there to be mounted on.
    File(Vec<u8>),
    /// A symbolic link.
    Link(String),
}

/// The skeleton under construction: no place lies below a file or a link.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Skeleton {
    places: BTreeMap<String, Place>,
}

impl Skeleton {
    /// The places by relative path; a directory is listed only where nothing lies below it.
    pub fn places(&self) -> impl Iterator<Item = (&str, &Place)> {
        self.places
            .iter()
            .filter(|(path, place)| **place != Place::Directory || !self.has_below(path))
            .map(|(path, place)| (path.as_str(), place))
    }

    fn has_below(&self, path: &str) -> bool {
        let below = format!("{path}/");
        self.places.range(below.clone()..).next().is_some_and(|(next, _)| next.starts_with(&below))
    }

    /// Puts `place` at `path`, with the directories above it.
    ///
    /// # Errors
    /// When something else stands there or above it.
    pub fn put(&mut self, path: &GuestPath, place: Place) -> Result<(), PlanError> {
        let relative = path.relative();
        for (index, _) in relative.match_indices('/') {
            match self.places.entry(relative[..index].to_owned()).or_insert(Place::Directory) {
                Place::Directory => {}
                Place::File(_) => return Err(below(path, &relative[..index], "a file")),
                Place::Link(_) => return Err(below(path, &relative[..index], "a symbolic link")),
            }
        }
        if relative.is_empty() {
            return Ok(());
        }
        match self.places.get(relative) {
            None => {
                self.places.insert(relative.to_owned(), place);
                Ok(())
            }
            Some(there) if *there == place => Ok(()),
            Some(_) => Err(PlanError::Taken { target: path.clone() }),
        }
    }
}

fn below(path: &GuestPath, above: &str, kind: &'static str) -> PlanError {
    PlanError::Below { target: path.clone(), above: format!("/{above}"), kind }
}

/// The character devices of `/dev` with their numbers (Linux's `devices.txt`).
pub const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// What is the same in every sandbox with these ids, host name and network.
///
/// # Errors
/// None for valid settings; the type is that of [`Skeleton::put`].
pub fn standard(uid: u32, gid: u32, hostname: &str, network: &Network) -> Result<Skeleton, PlanError> {
    let mut skeleton = Skeleton::default();
    let mut put = |path: &str, place| skeleton.put(&GuestPath::new(path).expect("a constant path"), place);
    put("/proc", Place::Directory)?;
    put("/tmp", Place::Directory)?;
    put(env::home(uid), Place::Directory)?;
    for (name, _, _) in DEVICES {
        put(&format!("/dev/{name}"), Place::File(Vec::new()))?;
    }
    put("/dev/pts", Place::Directory)?;
    put("/dev/shm", Place::Directory)?;
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        put(&format!("/dev/{name}"), Place::Link(target.to_owned()))?;
    }
    put("/etc/passwd", Place::File(passwd(uid, gid).into_bytes()))?;
    put("/etc/group", Place::File(group(gid).into_bytes()))?;
    let dns = if *network == Network::None { "" } else { " dns" };
    let nsswitch = format!(
        "passwd: files\ngroup: files\nshadow: files\nhosts: files{dns}\nservices: files\nprotocols: files\nnetworks: files\n"
    );
    put("/etc/nsswitch.conf", Place::File(nsswitch.into_bytes()))?;
    let hosts = format!("127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost\n");
    put("/etc/hosts", Place::File(hosts.into_bytes()))?;
    put("/etc/resolv.conf", Place::File(resolv_conf(network).into_bytes()))?;
    Ok(skeleton)
}

/// Names what answers for the rules. Without a `search` a host name of several parts would be one: resolv.conf(5).
fn resolv_conf(network: &Network) -> String {
    match network {
        Network::Rules(_) => format!("nameserver {RESOLVER}\nsearch .\n"),
        Network::None | Network::Host => String::new(),
    }
}

fn passwd(uid: u32, gid: u32) -> String {
    let mut text = format!("root:x:0:{}:root:/root:/bin/sh\n", if uid == 0 { gid } else { 0 });
    if uid != 0 && uid != 65534 {
        text += &format!("builder:x:{uid}:{gid}:builder:/home/builder:/bin/sh\n");
    }
    let (nobody_gid, home) = if uid == 65534 { (gid, "/home/builder") } else { (65534, "/nonexistent") };
    text + &format!("nobody:x:65534:{nobody_gid}:nobody:{home}:/bin/sh\n")
}

fn group(gid: u32) -> String {
    let own = if gid == 0 || gid == 65534 { String::new() } else { format!("builder:x:{gid}:\n") };
    format!("root:x:0:\n{own}nogroup:x:65534:\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::Rules;

    fn path(text: &str) -> GuestPath {
        GuestPath::new(text).unwrap()
    }

    #[test]
    fn nothing_stands_below_a_file_or_a_link() {
        let mut skeleton = Skeleton::default();
        skeleton.put(&path("/lib"), Place::Link("usr/lib".into())).unwrap();
        let error = skeleton.put(&path("/lib/x"), Place::Directory).unwrap_err();
        assert_eq!(error.to_string(), "/lib/x can't be made: /lib is a symbolic link inside the sandbox");
        assert!(skeleton.put(&path("/lib"), Place::Directory).is_err());
    }

    #[test]
    fn only_leaf_directories_are_listed() {
        let mut skeleton = Skeleton::default();
        skeleton.put(&path("/a/b"), Place::Directory).unwrap();
        skeleton.put(&path("/a"), Place::Directory).unwrap();
        skeleton.put(&path("/a-z"), Place::Directory).unwrap();
        assert_eq!(skeleton.places().map(|(path, _)| path).collect::<Vec<_>>(), ["a-z", "a/b"]);
    }

    #[test]
    fn with_rules_names_are_asked_of_the_relay() {
        let text = |network: &Network, path: &str| {
            let skeleton = standard(1000, 1000, "sbx", network).unwrap();
            let place = skeleton.places().find(|(there, _)| *there == path).map(|(_, place)| place.clone());
            let Some(Place::File(bytes)) = place else { panic!("{path}: {place:?}") };
            String::from_utf8(bytes).unwrap()
        };
        let rules = Network::Rules(Rules::default());
        assert_eq!(text(&rules, "etc/resolv.conf"), "nameserver 198.18.0.2\nsearch .\n");
        for (network, hosts) in
            [(&rules, "hosts: files dns\n"), (&Network::Host, "hosts: files dns\n"), (&Network::None, "hosts: files\n")]
        {
            assert!(text(network, "etc/nsswitch.conf").contains(hosts), "{network:?}");
        }
        assert_eq!(text(&Network::None, "etc/resolv.conf"), "");
    }

    #[test]
    fn every_id_has_one_line() {
        for uid in [0, 1000, 65534] {
            let text = passwd(uid, 5);
            let lines = text.lines().filter(|line| line.split(':').nth(2) == Some(&uid.to_string()));
            assert_eq!(lines.count(), 1, "{text}");
        }
    }
}
