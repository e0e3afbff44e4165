//! A world of its own around sbx, for what the real one may not hold: a net namespace in which `lo` has every address that
//! a test wants, servers at any port, and a name server whose answers the test chooses. sbx runs in it as it would on a
//! host; nothing of it can leave.

use std::fmt::Write as _;

use crate::rules::{Told, python_code};
use crate::support::{Project, root, sbx};

/// Where the server of lines listens, at every address of the world.
pub(crate) const PORT: u16 = 7000;
/// Addresses of the world, each of another kind.
pub(crate) const PUBLIC: &str = "93.184.215.14";
/// The same for IPv6.
pub(crate) const PUBLIC_V6: &str = "2606:2800:21f:cb07::1";
/// Of a private network.
pub(crate) const PRIVATE: &str = "10.1.2.3";
/// Where clouds keep their metadata.
pub(crate) const METADATA: &str = "169.254.169.254";
/// A unique local address of IPv6.
pub(crate) const PRIVATE_V6: &str = "fd00::7";

/// The project of a run, and the names that its world knows.
pub(crate) struct World {
    project: Project,
    names: Vec<String>,
}

/// The end of a run in a world.
pub(crate) struct InWorld {
    /// The run.
    pub(crate) told: Told,
    /// The names that the name server was asked for, a line each.
    pub(crate) asked: String,
    /// What the server of lines printed after its port.
    pub(crate) said: String,
}

impl World {
    /// A world whose name server knows these names: `NAME=ADDRESS,…`, as `servers/names.py` says.
    pub(crate) fn new(config: &str, names: &[&str]) -> Self {
        Self { project: Project::new().config(config), names: names.iter().map(|name| (*name).to_owned()).collect() }
    }

    /// Runs `sbx run -- COMMAND` in it, with a record.
    pub(crate) fn told(&self, command: &[&str]) -> InWorld {
        let mut script = String::from("ip link set lo up\n");
        for (address, length) in [(PUBLIC, 32), (PRIVATE, 32), (METADATA, 32), (PUBLIC_V6, 128), (PRIVATE_V6, 128)] {
            let nodad = if length == 128 { " nodad" } else { "" };
            writeln!(script, "ip addr add {address}/{length} dev lo{nodad}").expect("text");
        }
        script += r#"echo nameserver 127.0.0.1 > ../tmp/resolv; mount --bind ../tmp/resolv /etc/resolv.conf
            echo hosts: files dns > ../tmp/nss; mount --bind ../tmp/nss /etc/nsswitch.conf
            echo 127.0.0.1 localhost own.test > ../tmp/hosts; mount --bind ../tmp/hosts /etc/hosts
            mkfifo ../tmp/open
            servers=$1; names=$2; sbx=$3; shift 3
            python3 "$servers/lines.py" :: 7000 <> ../tmp/open > ../tmp/said & lines=$!
            python3 "$servers/names.py" $names <> ../tmp/open > ../tmp/asked & dns=$!
            trap 'kill $lines $dns; wait' EXIT
            until [ -s ../tmp/said ] && [ -s ../tmp/asked ]; do sleep 0.02; done
            "$sbx" run --report report.json -- "$@""#;
        let run = self
            .project
            .command("unshare")
            .args(["--user", "--map-root-user", "--mount", "--net", "sh", "-ec", &script, "world"])
            .args([root().join("tests/it/servers")])
            .args([self.names.join(" ")])
            .args([sbx()])
            .args(command);
        let ended = run.env("PATH", format!("{}:/usr/sbin:/sbin", crate::support::PATH)).end();
        let file = |name: &str| {
            let text = std::fs::read_to_string(self.project.beside("tmp").join(name)).unwrap_or_default();
            text.lines().skip(1).fold(String::new(), |all, line| all + line + "\n")
        };
        let (asked, said) = (file("asked"), file("said"));
        for name in ["open", "asked", "said"] {
            let _ = std::fs::remove_file(self.project.beside("tmp").join(name));
        }
        InWorld { told: Told::new(&self.project, ended), asked, said }
    }

    /// A Python script inside, after `probes/net.py`.
    pub(crate) fn python(&self, code: &str) -> InWorld {
        self.told(&["/usr/bin/python3", "-c", &python_code(code)])
    }
}
