//! The identity of a prepared run: the REAPI action, filled from the plan and the settings.

use std::collections::BTreeMap;

use crate::action::digest::{Identity, Run, identify};
use crate::action::policy::{ABI, ContentIdentity, Network, Policy, Rootfs};
use crate::config::model::{self, Settings};
use crate::digest::Digest;
use crate::plan::Plan;

/// What stands for the contents that are not inputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// For each mount, in the settings' order.
    pub mounts: Vec<ContentIdentity>,
    /// The root digest of the root file system, unless it is the host's.
    pub rootfs: Option<Digest>,
}

/// Computes it.
pub fn of(plan: &Plan, settings: &Settings, input_root: Digest, contents: &Contents) -> Identity {
    let policy = policy(plan, settings, contents);
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

fn policy(plan: &Plan, settings: &Settings, contents: &Contents) -> Policy {
    let sandbox = &settings.sandbox;
    let mounts = settings.mounts.iter().zip(&contents.mounts);
    Policy {
        abi: ABI,
        gid: sandbox.gid,
        hostname: sandbox.hostname.clone(),
        isolation: plan.isolation().into_iter().collect(),
        limits: settings.limits.open_files.map(|limit| ("open_files".to_owned(), limit)).into_iter().collect(),
        mounts: mounts.map(|(mount, identity)| (mount.target.as_str().to_owned(), identity.clone())).collect(),
        network: match &settings.network {
            model::Network::None => Network::None,
            model::Network::Host => Network::Host,
            model::Network::Rules(rules) => Network::Rules {
                allow: rules.allow.iter().map(ToString::to_string).collect(),
                hosts: rules.hosts.iter().map(|(name, address)| (name.to_string(), address.to_string())).collect(),
                publish: rules.publish.iter().map(ToString::to_string).collect(),
            },
        },
        rootfs: rootfs(settings, contents.rootfs),
        scratch: settings
            .scratch
            .iter()
            .map(|scratch| (scratch.target.as_str().to_owned(), scratch.name.clone()))
            .collect(),
        uid: sandbox.uid,
    }
}

fn rootfs(settings: &Settings, tree: Option<Digest>) -> Rootfs {
    match (&settings.rootfs, tree) {
        (_, Some(root)) => Rootfs::Tree(root.to_string()),
        // The host's own directories have no identity yet, which is no danger while nothing is replayed.
        (model::Rootfs::Host(paths), None) => {
            let unidentified = ContentIdentity::Declared("host".to_owned());
            Rootfs::Host(paths.iter().map(|path| (path.as_str().to_owned(), unidentified.clone())).collect())
        }
        (_, None) => unreachable!("a root file system of its own is hashed before it is used"),
    }
}
