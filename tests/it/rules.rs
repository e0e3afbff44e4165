//! What the network's tests share: rules for a server of the test, and the judgement of what was allowed and blocked.

use serde_json::Value;

use crate::support::{Ended, Project};

/// The name by which commands inside know the servers of the tests; nothing but a pin leads from it to an address.
pub(crate) const NAME: &str = "server.test";

/// Rules by which [`NAME`] is the host's 127.0.0.1 and may be reached at a port.
pub(crate) fn allow(port: u16) -> String {
    allow_only(&[&format!("{NAME}:{port}")])
}

/// Rules with these entries of `allow`, and the pin of [`NAME`] where one names it.
pub(crate) fn allow_only(entries: &[&str]) -> String {
    let pinned = entries.iter().any(|entry| entry.contains(NAME));
    let pin = if pinned { format!("hosts = {{ '{NAME}' = '127.0.0.1' }}\n") } else { String::new() };
    format!("[network]\nallow = {entries:?}\n{pin}")
}

/// Rules that allow another name.
pub(crate) fn allow_another() -> String {
    allow_only(&["another.test:443"])
}

/// What a run printed, and its record.
pub(crate) struct Told {
    /// The end of the run.
    pub(crate) ended: Ended,
    /// Its record.
    pub(crate) report: Value,
}

/// `sbx run -- sh -c SCRIPT` with a record.
pub(crate) fn told(project: &Project, script: &str) -> Told {
    told_by(project, &["sh", "-c", script])
}

/// `sbx run -- COMMAND` with a record.
pub(crate) fn told_by(project: &Project, command: &[&str]) -> Told {
    Told::new(project, project.sbx(["run", "--report", "report.json", "--"]).args(command).end())
}

/// A Python script inside, after `probes/net.py`.
pub(crate) fn python(project: &Project, code: &str) -> Told {
    told_by(project, &["/usr/bin/python3", "-c", &python_code(code)])
}

/// The whole text of a Python script that runs inside.
pub(crate) fn python_code(code: &str) -> String {
    format!("{}\n{code}", include_str!("probes/net.py"))
}

impl Told {
    /// The end of a run, and the record that it left in the project's `report.json`.
    pub(crate) fn new(project: &Project, ended: Ended) -> Self {
        let report = std::fs::read_to_string(project.path("report.json"))
            .unwrap_or_else(|error| panic!("no record: {error}: {ended:?}"));
        Self { report: serde_json::from_str(&report).expect("JSON"), ended }
    }

    fn fail(&self, what: &str) -> ! {
        panic!(
            "{what}\n{:#?}\nconnections: {:#}\nblocked: {:#}",
            self.ended, self.report["connections"], self.report["blocked"]
        );
    }

    /// Asserts exit code 0 and that nothing was blocked.
    pub(crate) fn ok(self) -> Self {
        if self.ended.code != 0 {
            self.fail("exit code 0 was expected");
        }
        self.nothing_blocked()
    }

    /// Asserts that nothing was blocked, on standard error and in the record.
    pub(crate) fn nothing_blocked(self) -> Self {
        if self.ended.stderr.contains("sbx: blocked") || !self.blocked().is_empty() {
            self.fail("nothing should have been blocked");
        }
        self
    }

    /// Asserts that the command failed by its own judgement.
    pub(crate) fn failed(self) -> Self {
        if self.ended.code == 0 || self.ended.code == 125 {
            self.fail("the command should have failed");
        }
        self
    }

    /// Asserts a part of the standard output.
    pub(crate) fn prints(self, text: &str) -> Self {
        if !self.ended.stdout.contains(text) {
            self.fail(&format!("standard output was expected to contain {text:?}"));
        }
        self
    }

    /// Asserts a part of what the command printed to either stream.
    pub(crate) fn says(self, text: &str) -> Self {
        if !self.ended.stdout.contains(text) && !self.ended.stderr.contains(text) {
            self.fail(&format!("the output was expected to contain {text:?}"));
        }
        self
    }

    /// The record's connections.
    pub(crate) fn connections(&self) -> &[Value] {
        self.report["connections"].as_array().map_or(&[], Vec::as_slice)
    }

    /// The record's refusals.
    pub(crate) fn blocked(&self) -> &[Value] {
        self.report["blocked"].as_array().map_or(&[], Vec::as_slice)
    }

    /// Asserts that the record has a connection out to [`NAME`] at a port, and that bytes went both ways. How it ended is the
    /// client's matter: some close with data unread, which is a reset.
    pub(crate) fn reached(self, port: u16) -> Self {
        let carried = |one: &Value, way: &str| one[way].as_u64().is_some_and(|bytes| bytes > 0);
        let is_it = |one: &Value| {
            let whom = one["direction"] == "out" && one["name"] == NAME && one["port"] == port;
            whom && carried(one, "sent") && carried(one, "received")
        };
        if !self.connections().iter().any(is_it) {
            self.fail(&format!("a connection to {NAME}:{port} was expected in the record"));
        }
        self
    }

    /// Asserts that no connection was made at all.
    pub(crate) fn reached_nothing(self) -> Self {
        if !self.connections().is_empty() {
            self.fail("no connection should have been made");
        }
        self
    }

    /// Asserts that something was blocked: one line of sbx that begins `sbx: blocked WHOM`, with the rule that would allow
    /// it near by, and an entry of the record where `fits` holds.
    pub(crate) fn blocks(self, whom: &str, rule: Option<&str>, fits: impl Fn(&Value) -> bool) -> Self {
        let lines: Vec<&str> = self.ended.stderr.lines().collect();
        let begin = format!("sbx: blocked {whom}");
        let is_it = |line: &&&str| {
            let rest = line.strip_prefix(&begin);
            rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '.'))
        };
        if lines.iter().filter(is_it).count() != 1 {
            self.fail(&format!("one line was expected that begins {begin:?}"));
        }
        if rule.is_some_and(|rule| !lines.iter().any(|line| line.contains("allow") && line.contains(rule))) {
            self.fail(&format!("a line was expected that allows {rule:?}"));
        }
        let fits_all = |one: &&Value| {
            let remedy = one["remedy"].as_str();
            fits(one) && rule.is_none_or(|rule| remedy.is_some_and(|remedy| remedy.contains(rule)))
        };
        if self.blocked().iter().filter(fits_all).count() != 1 {
            self.fail(&format!("one entry of the record was expected for {whom}"));
        }
        self
    }

    /// Asserts that the look-up of a name was blocked.
    pub(crate) fn blocks_name(self, name: &str) -> Self {
        self.blocks(name, Some(&format!("{name}:")), |one| one["name"] == name && one["port"].is_null())
    }

    /// Asserts that a connection to [`NAME`] was blocked at this port only.
    pub(crate) fn blocks_port(self, port: u16) -> Self {
        let whom = format!("{NAME}:{port}");
        self.blocks(&whom, Some(&whom), |one| one["name"] == NAME && one["port"] == port && one["protocol"] == "tcp")
    }

    /// Asserts that a connection to an address by number was blocked.
    pub(crate) fn blocks_address(self, address: &str, port: u16) -> Self {
        let whom = if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") };
        let is_it = |one: &Value| one["address"] == address && one["port"] == port && one["protocol"] == "tcp";
        self.blocks(&whom, Some(&whom), is_it)
    }
}
