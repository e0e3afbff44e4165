//! The policy: what a sandbox shows and allows besides the inputs, the command and its environment.
//!
//! Its canonical form is JSON in UTF-8 without white space, the keys of every object sorted bytewise, numbers only as
//! integers, lists sorted where their order means nothing. Anyone can write it again from the same facts, and `sbx why`
//! can read it back.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Stands for everything that this version of the sandbox does the same for every run: the fixed environment, the umask,
/// the times, `/etc`, `/dev`, the clocks. It grows when any of that changes in a way that a command can see, and only
/// then.
pub const ABI: u32 = 2;

/// Everything that the sandbox shows and allows besides the inputs. The fields are in the order of their names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// [`ABI`].
    pub abi: u32,
    /// The group id inside.
    pub gid: u32,
    /// The host name inside.
    pub hostname: String,
    /// What was isolated, one word each, as the kernel granted it.
    pub isolation: BTreeSet<String>,
    /// The limits that a command can see or meet (`open_files`, `memory` and `disk` in bytes, `pids`, `cpu_us` in microseconds
    /// each 100 ms), by name. The time limit stands in the action.
    pub limits: BTreeMap<String, u64>,
    /// Whether what the command writes lives in memory, which it can tell by the space that there is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub memory: bool,
    /// What stands for the content of each read-only mount, by its place inside.
    pub mounts: BTreeMap<String, ContentIdentity>,
    /// The network.
    pub network: Network,
    /// The output patterns in their order, where a later one takes away what an earlier one selects; else nothing, for
    /// then the order means nothing and the command's sorted output paths say it all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub output_rules: Vec<String>,
    /// Where the rest of the file system comes from.
    pub rootfs: Rootfs,
    /// The names of the writable directories that are kept between runs, by their place inside.
    pub scratch: BTreeMap<String, String>,
    /// The system calls that are allowed by name.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub syscalls: BTreeSet<String>,
    /// The user id inside.
    pub uid: u32,
}

/// What stands for a content in an identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ContentIdentity {
    /// The digest of the content itself, `hash/size`.
    Content(String),
    /// A string that the user vouches for.
    Declared(String),
    /// The text of a symbolic link of the host. What it leads to counts where that is shown itself.
    Link(String),
    /// The digest of a list of paths, sizes and times, `hash/size`.
    Metadata(String),
    /// The digest of the list of the installed packages, `hash/size`. The list is a blob of the store
    /// (`inputs::packages` reads it).
    Packages(String),
}

/// What a command can reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Network {
    /// The host's network.
    Host,
    /// Loopback, and what the rules name.
    Rules {
        /// The rules of `allow`, each in its canonical text.
        allow: BTreeSet<String>,
        /// The addresses pinned to names.
        hosts: BTreeMap<String, String>,
        /// The published ports, each in its canonical text.
        publish: BTreeSet<String>,
    },
    /// Loopback only.
    None,
}

/// Where the file system outside of the inputs comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Rootfs {
    /// Paths of the host, at the same place inside. What no package owns below one of them stands beside it: `/usr` by
    /// its packages, `/usr/local` by itself.
    Host(BTreeMap<String, ContentIdentity>),
    /// A tree by its root digest, `hash/size`, whatever it was unpacked from.
    Tree(String),
}

impl Policy {
    /// The canonical form.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings, numbers, lists and maps with string keys are JSON")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::digest::Digest;

    pub(crate) fn policy() -> Policy {
        let texts = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<BTreeMap<_, _>>()
        };
        Policy {
            abi: ABI,
            gid: 1000,
            hostname: "sbx".to_owned(),
            isolation: ["user", "mount", "net"].map(str::to_owned).into(),
            limits: BTreeMap::from([("open_files".to_owned(), 4096)]),
            memory: false,
            mounts: BTreeMap::from([
                ("/opt/b".to_owned(), ContentIdentity::Declared("gcc \"12\"".to_owned())),
                ("/opt/a".to_owned(), ContentIdentity::Content(Digest::of(b"a").to_string())),
                ("/opt/c".to_owned(), ContentIdentity::Metadata(Digest::of(b"c").to_string())),
            ]),
            network: Network::None,
            output_rules: Vec::new(),
            rootfs: Rootfs::Host(BTreeMap::from([(
                "/usr".to_owned(),
                ContentIdentity::Packages(Digest::of(b"dpkg").to_string()),
            )])),
            scratch: texts(&[("/home/builder/.cache/ccache", "ccache")]),
            syscalls: BTreeSet::new(),
            uid: 1000,
        }
    }

    #[test]
    fn the_canonical_form_does_not_drift() {
        let golden = [
            r#"{"abi":2,"gid":1000,"hostname":"sbx","isolation":["mount","net","user"],"limits":{"open_files":4096},"#,
            r#""mounts":{"/opt/a":{"content":"ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb/1"},"#,
            r#""/opt/b":{"declared":"gcc \"12\""},"/opt/c":{"metadata":"2e7d2c03a9507ae265ecf5b5356885a53393a2029d241394997265a1a25aefc6/1"}},"#,
            r#""network":"none","rootfs":{"host":{"/usr":{"packages":"7c81d9b601bc4d2ac702a75821dae25d92432341d98f14e2a453dbc6cbeeaacb/4"}}},"#,
            r#""scratch":{"/home/builder/.cache/ccache":"ccache"},"uid":1000}"#,
        ];
        assert_eq!(String::from_utf8(policy().to_bytes()).unwrap(), golden.concat());
        let rules = ["d/**", "!d/x"].map(str::to_owned).to_vec();
        let rootfs = Rootfs::Tree("x/1".to_owned());
        let syscalls = ["b", "a"].map(str::to_owned).into();
        let other = Policy { memory: true, syscalls, rootfs, network: Network::Host, output_rules: rules, ..policy() };
        let other = String::from_utf8(other.to_bytes()).unwrap();
        assert!(other.contains(r#"},"memory":true,"mounts":{"#), "{other}");
        assert!(other.contains(r#"},"syscalls":["a","b"],"uid":1000}"#), "{other}");
        let expected = r#""network":"host","output_rules":["d/**","!d/x"],"rootfs":{"tree":"x/1"},"#;
        assert!(other.contains(expected), "{other}");
    }

    #[test]
    fn each_part_of_a_host_has_its_own_form() {
        let identity = |place: &str, identity| (place.to_owned(), identity);
        let rootfs = Rootfs::Host(BTreeMap::from([
            identity("/usr/local", ContentIdentity::Metadata("b/2".to_owned())),
            identity("/usr", ContentIdentity::Packages("a/1".to_owned())),
            identity("/bin", ContentIdentity::Link("usr/bin".to_owned())),
            identity("/etc/ssl", ContentIdentity::Content("c/3".to_owned())),
        ]));
        let golden = [
            r#"{"host":{"/bin":{"link":"usr/bin"},"/etc/ssl":{"content":"c/3"},"#,
            r#""/usr":{"packages":"a/1"},"/usr/local":{"metadata":"b/2"}}}"#,
        ];
        assert_eq!(serde_json::to_string(&rootfs).unwrap(), golden.concat());
    }

    #[test]
    fn the_canonical_form_reads_back() {
        assert_eq!(serde_json::from_slice::<Policy>(&policy().to_bytes()).unwrap(), policy());
    }
}
