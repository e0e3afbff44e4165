//! The identity of a prepared run: the REAPI action, filled from the plan and the settings.

use std::collections::BTreeMap;

use super::host::Live;
use crate::action::digest::{Identity, Run, identify};
use crate::action::policy::{ABI, Network, Policy, Rootfs};
use crate::config::model::{self, ScratchKind, Settings};
use crate::digest::Digest;
use crate::plan::Plan;
use crate::plan::step::Limit;

/// Computes it. `rootfs` is the root digest of the root file system, unless it is the host's.
pub fn of(plan: &Plan, settings: &Settings, input_root: Digest, live: &Live, rootfs: Option<Digest>) -> Identity {
    let policy = policy(plan, settings, live, rootfs);
    let platform = BTreeMap::from([
        ("ISA".to_owned(), std::env::consts::ARCH.replace('_', "-")),
        ("OSFamily".to_owned(), std::env::consts::OS.to_owned()),
    ]);
    identify(&Run {
        arguments: &plan.argv,
        environment: &plan.environment,
        working_directory: plan.directory.relative(),
        output_paths: &plan.outputs,
        platform: &platform,
        input_root,
        timeout: plan.time_limit,
        policy: &policy,
    })
}

fn policy(plan: &Plan, settings: &Settings, live: &Live, rootfs: Option<Digest>) -> Policy {
    let sandbox = &settings.sandbox;
    Policy {
        abi: ABI,
        gid: sandbox.gid,
        hostname: sandbox.hostname.clone(),
        isolation: plan.isolation().into_iter().collect(),
        limits: limits(plan),
        memory: sandbox.scratch == ScratchKind::Memory,
        mounts: live.mounts.clone(),
        network: match &settings.network {
            model::Network::None => Network::None,
            model::Network::Host => Network::Host,
            model::Network::Rules(rules) => Network::Rules {
                allow: rules.allow.iter().map(ToString::to_string).collect(),
                hosts: rules.hosts.iter().map(|(name, address)| (name.to_string(), address.to_string())).collect(),
                publish: rules.publish.iter().map(ToString::to_string).collect(),
            },
        },
        output_rules: output_rules(plan),
        rootfs: match rootfs {
            Some(root) => Rootfs::Tree(root.to_string()),
            None => Rootfs::Host(live.host.clone()),
        },
        scratch: settings
            .scratch
            .iter()
            .map(|scratch| (scratch.target.as_str().to_owned(), scratch.name.clone()))
            .collect(),
        syscalls: sandbox.calls.allow.clone(),
        uid: sandbox.uid,
    }
}

fn output_rules(plan: &Plan) -> Vec<String> {
    let takes_away = plan.outputs.iter().any(|pattern| pattern.starts_with('!'));
    if takes_away { plan.outputs.clone() } else { Vec::new() }
}

/// The limits that the command begins with, soft and hard: it can ask for them (getrlimit(2)). What holds it beside them it
/// meets, if not at once.
fn limits(plan: &Plan) -> BTreeMap<String, u64> {
    let mut limits = plan.inherited_limits.clone();
    for Limit { resource, soft, hard } in plan.limits() {
        limits.insert(resource.name().to_owned(), soft);
        limits.insert(format!("{}_hard", resource.name()), hard);
    }
    let bounds = plan.group.as_ref().map(|group| group.bounds).unwrap_or_default();
    let more = [("memory", bounds.memory), ("pids", bounds.pids), ("cpu_us", bounds.cpu_us), ("disk", plan.disk)];
    limits.extend(more.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    limits
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::action::policy::ContentIdentity;
    use crate::config;
    use crate::plan::{self, Facts, HostPlace, Invocation};

    /// The digest of the action that a `sandbox.toml` and a command come to on some machine.
    fn digest(text: &str, environment: &BTreeMap<String, String>) -> Digest {
        let settings = config::parse(text, "sandbox.toml").unwrap_or_else(|faults| panic!("{}", faults.render(false)));
        let settings = settings.settings;
        let found = |path: &str| HostPlace::Found { path: path.into(), directory: true, device: 1, inode: 2 };
        let paths = match &settings.rootfs {
            model::Rootfs::Host { paths, .. } => paths.clone(),
            _ => Vec::new(),
        };
        let facts = Facts {
            uid: 7,
            gid: 8,
            open_files: (1024, 4096),
            stack: u64::MAX,
            host: paths.iter().map(|path| found(path.as_str())).collect(),
            mounts: settings.mounts.iter().map(|_| found("/somewhere")).collect(),
            scratch: settings.scratch.iter().map(|_| found("/kept")).collect(),
            ..Facts::default()
        };
        let argv = vec!["make".to_owned()];
        let invocation = Invocation { argv, below: None, environment: environment.clone(), terminal: false };
        let plan = plan::build(&settings, &facts, &invocation).unwrap();
        let identified =
            |place: &str| (place.to_owned(), ContentIdentity::Content(Digest::of(place.as_bytes()).to_string()));
        let live = Live {
            mounts: settings.mounts.iter().map(|mount| identified(mount.target.as_str())).collect(),
            host: paths.iter().map(|path| identified(path.as_str())).collect(),
            without_packages: false,
        };
        of(&plan, &settings, Digest::of(b"root"), &live, None).action_digest
    }

    fn quoted(values: &[&str]) -> String {
        values.iter().map(|value| format!("'{value}'")).collect::<Vec<_>>().join(", ")
    }

    fn shuffled(values: &[&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
        Just(values.to_vec()).prop_shuffle()
    }

    proptest! {
        #[test]
        fn the_order_of_a_declaration_means_nothing(
            outputs in shuffled(&["a", "b/**", "c*"]),
            hosts in shuffled(&["/usr", "/bin", "/lib", "/etc/ssl"]),
            allow in shuffled(&["a.test:1", "b.test:2", "udp:c.test:3", "10.0.0.0/8:4"]),
            publish in shuffled(&["8080:80", "udp:8081:81"]),
            pins in shuffled(&["'a.test' = '127.0.0.1'", "'b.test' = '::1'"]),
            set in shuffled(&["A = '1'", "B = '2'", "C = ''"]),
            pass in shuffled(&["D", "E"]),
            tables in shuffled(&[
                "[[mount]]\nsource = 'x'\ntarget = '/x'", "[[mount]]\nsource = 'y'\ntarget = '/y'",
                "[[scratch]]\nname = 's'\ntarget = '/s'", "[[scratch]]\nname = 't'\ntarget = '/t'",
                "[sandbox]\nhostname = 'h'\nuid = 3", "[limits]\ntime = '1h'\nopen_files = 100",
            ]),
        ) {
            let text = format!(
                "outputs = [{}]\n{}\n[rootfs]\nhost = [{}]\n[network]\nallow = [{}]\npublish = [{}]\nhosts = {{ {} }}\n\
                 [env]\nset = {{ {} }}\npass = [{}]\n",
                quoted(&outputs), tables.join("\n"), quoted(&hosts), quoted(&allow), quoted(&publish), pins.join(", "),
                set.join(", "), quoted(&pass),
            );
            let environment = pass.iter().map(|name| ((*name).to_owned(), "value".to_owned())).collect();
            let in_order = "outputs = ['a', 'b/**', 'c*']\n[rootfs]\nhost = ['/usr', '/bin', '/lib', '/etc/ssl']\n\
                [[mount]]\nsource = 'x'\ntarget = '/x'\n[[mount]]\nsource = 'y'\ntarget = '/y'\n\
                [[scratch]]\nname = 's'\ntarget = '/s'\n[[scratch]]\nname = 't'\ntarget = '/t'\n\
                [sandbox]\nhostname = 'h'\nuid = 3\n[limits]\ntime = '1h'\nopen_files = 100\n\
                [network]\nallow = ['a.test:1', 'b.test:2', 'udp:c.test:3', '10.0.0.0/8:4']\npublish = ['8080:80', 'udp:8081:81']\n\
                hosts = { 'a.test' = '127.0.0.1', 'b.test' = '::1' }\n[env]\nset = { A = '1', B = '2', C = '' }\npass = ['D', 'E']\n";
            prop_assert_eq!(digest(&text, &environment), digest(in_order, &environment));
        }
    }

    #[test]
    fn where_the_order_means_something_it_tells_runs_apart() {
        let none = BTreeMap::new();
        let outputs = |list: &str| digest(&format!("outputs = [{list}]"), &none);
        assert_ne!(outputs("'d/**', '!d/x', 'd/x'"), outputs("'d/x', 'd/**', '!d/x'"));
        assert_eq!(outputs("'d/**', '!d/x', 'd/x'"), outputs("'d/**', '!d/x', 'd/x'"));
        assert_ne!(digest("sandbox.scratch = 'memory'", &none), digest("", &none));
        assert_eq!(digest("sandbox.scratch = 'disk'", &none), digest("", &none));
    }
}
