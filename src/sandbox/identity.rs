//! The identity of a prepared run: the REAPI action, filled from the plan and the settings.

use std::collections::BTreeMap;

use super::host::Live;
use crate::action::digest::{Identity, Run, identify};
use crate::action::policy::{ABI, Network, Policy, Rootfs};
use crate::config::model::{self, Settings};
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
        rootfs: match rootfs {
            Some(root) => Rootfs::Tree(root.to_string()),
            None => Rootfs::Host(live.host.clone()),
        },
        scratch: settings
            .scratch
            .iter()
            .map(|scratch| (scratch.target.as_str().to_owned(), scratch.name.clone()))
            .collect(),
        uid: sandbox.uid,
    }
}

/// The limits that the command begins with, soft and hard: it can ask for them (getrlimit(2)).
fn limits(plan: &Plan) -> BTreeMap<String, u64> {
    let mut limits = BTreeMap::new();
    for Limit { resource, soft, hard } in plan.limits() {
        limits.insert(resource.name().to_owned(), soft);
        limits.insert(format!("{}_hard", resource.name()), hard);
    }
    limits
}
