//! The digest that stands for a whole run.

use std::collections::BTreeMap;
use std::time::Duration;

use prost::Message as _;

use super::messages::{self, Action, Command, EnvironmentVariable, Platform, Property};
use super::policy::Policy;
use crate::digest::Digest;

/// Everything that a run's result may depend on.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// Program and arguments.
    pub arguments: &'a [String],
    /// The whole environment.
    pub environment: &'a BTreeMap<String, String>,
    /// Where the command starts, relative to the input root; empty for the root itself.
    pub working_directory: &'a str,
    /// What is to be kept, relative to the working directory; order and duplicates don't matter.
    pub output_paths: &'a [String],
    /// Requirements on the machine, by name (`OSFamily`, `ISA`).
    pub platform: &'a BTreeMap<String, String>,
    /// The root of the input tree, as the sandbox sees it.
    pub input_root: Digest,
    /// The time limit.
    pub timeout: Option<Duration>,
    /// What the sandbox shows and allows besides.
    pub policy: &'a Policy,
}

/// The messages of a run, as a Remote Execution server stores them, with their digests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The encoded `Action`.
    pub action: Vec<u8>,
    /// The digest of `action`: the run's identity.
    pub action_digest: Digest,
    /// The encoded `Command`.
    pub command: Vec<u8>,
    /// The digest of `command`.
    pub command_digest: Digest,
    /// The policy in its canonical form.
    pub policy: Vec<u8>,
    /// The digest of `policy`. The action's salt is this digest as an encoded `Digest` message, so that whoever has the
    /// action can find the policy in the content-addressed store.
    pub policy_digest: Digest,
}

/// Computes the identity of a run.
pub fn identify(run: &Run<'_>) -> Identity {
    let policy = run.policy.to_bytes();
    let policy_digest = Digest::of(&policy);
    let platform = platform(run.platform);
    let mut output_paths = run.output_paths.to_vec();
    output_paths.sort();
    output_paths.dedup();
    let variable = |(name, value): (&String, &String)| EnvironmentVariable { name: name.clone(), value: value.clone() };
    let command = Command {
        arguments: run.arguments.to_vec(),
        environment_variables: run.environment.iter().map(variable).collect(),
        platform: platform.clone(),
        working_directory: run.working_directory.to_owned(),
        output_paths,
    }
    .encode_to_vec();
    let command_digest = Digest::of(&command);
    let action = Action {
        command_digest: Some(command_digest.into()),
        input_root_digest: Some(run.input_root.into()),
        timeout: run.timeout.map(duration),
        salt: messages::Digest::from(policy_digest).encode_to_vec(),
        platform,
    }
    .encode_to_vec();
    Identity { action_digest: Digest::of(&action), action, command_digest, command, policy_digest, policy }
}

/// `None` without properties: an empty message is not the same bytes as an absent one.
fn platform(properties: &BTreeMap<String, String>) -> Option<Platform> {
    let property = |(name, value): (&String, &String)| Property { name: name.clone(), value: value.clone() };
    (!properties.is_empty()).then(|| Platform { properties: properties.iter().map(property).collect() })
}

fn duration(time: Duration) -> messages::Duration {
    // The protocol's longest duration is 10,000 years; the nanoseconds are below 10^9.
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    messages::Duration { seconds, nanos: time.subsec_nanos().cast_signed() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::policy::tests::policy;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(ToString::to_string).collect()
    }

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// Owns what a [`Run`] borrows.
    struct Owned {
        arguments: Vec<String>,
        environment: BTreeMap<String, String>,
        working_directory: String,
        output_paths: Vec<String>,
        platform: BTreeMap<String, String>,
        input_root: Digest,
        timeout: Option<Duration>,
        policy: Policy,
    }

    impl Owned {
        fn identify(&self) -> Identity {
            identify(&Run {
                arguments: &self.arguments,
                environment: &self.environment,
                working_directory: &self.working_directory,
                output_paths: &self.output_paths,
                platform: &self.platform,
                input_root: self.input_root,
                timeout: self.timeout,
                policy: &self.policy,
            })
        }
    }

    fn run() -> Owned {
        Owned {
            arguments: texts(&["make", "-j2"]),
            environment: map(&[("PATH", "/usr/bin"), ("LANG", "C.UTF-8"), ("EMPTY", "")]),
            working_directory: "src/sub".to_owned(),
            output_paths: texts(&["build/app", "b", "b"]),
            platform: map(&[("OSFamily", "linux"), ("ISA", "x86-64")]),
            input_root: Digest::of(b"root"),
            timeout: Some(Duration::new(600, 5)),
            policy: policy(),
        }
    }

    #[test]
    fn the_identity_does_not_drift() {
        let identity = run().identify();
        let golden = [
            (identity.command_digest, "820898477e9c8a935e6ef331ede43a232c02beb11f4587ddb03971f1ca221a3d/114"),
            (identity.policy_digest, "83b0f5fa0a24e943a0d084843c636f8d9942b152ef6a3fcb00b096e400c6dd81/516"),
            (identity.action_digest, "d7a9d69c63dc5798a63be9611b48c6fa5486af7901a7b7ab09723c95c54a099c/254"),
        ];
        for (digest, text) in golden {
            assert_eq!(digest.to_string(), text);
        }
    }

    #[test]
    fn the_messages_are_the_published_ones() {
        use bazel_remote_apis::build::bazel::remote::execution::v2 as reapi;
        use bazel_remote_apis::google::protobuf;
        let identity = run().identify();
        let digest = |digest: Digest| reapi::Digest { hash: digest.hex(), size_bytes: digest.size.cast_signed() };
        let variable = |(name, value): (&str, &str)| reapi::command::EnvironmentVariable {
            name: name.to_owned(),
            value: value.to_owned(),
        };
        let property =
            |(name, value): (&str, &str)| reapi::platform::Property { name: name.to_owned(), value: value.to_owned() };
        let platform =
            reapi::Platform { properties: [("ISA", "x86-64"), ("OSFamily", "linux")].map(property).to_vec() };
        #[expect(deprecated, reason = "the reference carries fields that newer clients leave empty")]
        let command = reapi::Command {
            arguments: texts(&["make", "-j2"]),
            environment_variables: [("EMPTY", ""), ("LANG", "C.UTF-8"), ("PATH", "/usr/bin")].map(variable).to_vec(),
            platform: Some(platform.clone()),
            working_directory: "src/sub".to_owned(),
            output_paths: texts(&["b", "build/app"]),
            ..reapi::Command::default()
        };
        assert_eq!(identity.command, command.encode_to_vec());
        let action = reapi::Action {
            command_digest: Some(digest(Digest::of(&command.encode_to_vec()))),
            input_root_digest: Some(digest(Digest::of(b"root"))),
            timeout: Some(protobuf::Duration { seconds: 600, nanos: 5 }),
            salt: digest(identity.policy_digest).encode_to_vec(),
            platform: Some(platform),
            ..reapi::Action::default()
        };
        assert_eq!(identity.action, action.encode_to_vec());
    }

    #[test]
    fn absent_parts_are_absent_bytes() {
        let bare = Owned { platform: BTreeMap::new(), timeout: None, ..run() }.identify();
        let action = Action::decode(&*bare.action).unwrap();
        assert_eq!((action.platform, action.timeout), (None, None));
        assert_eq!(Command::decode(&*bare.command).unwrap().platform, None);
    }

    #[test]
    fn every_part_tells_two_runs_apart() {
        let mut other_policy = policy();
        other_policy.hostname = "other".to_owned();
        let others = [
            Owned { arguments: texts(&["make -j2"]), ..run() },
            Owned { environment: map(&[("PATH", "/usr/bin")]), ..run() },
            Owned { working_directory: "src".to_owned(), ..run() },
            Owned { output_paths: texts(&["b"]), ..run() },
            Owned { platform: map(&[("OSFamily", "linux")]), ..run() },
            Owned { input_root: Digest::of(b"other"), ..run() },
            Owned { timeout: Some(Duration::new(600, 6)), ..run() },
            Owned { policy: other_policy, ..run() },
            run(),
        ];
        let mut digests: Vec<_> = others.iter().map(|other| other.identify().action_digest).collect();
        digests.sort();
        digests.dedup();
        assert_eq!(digests.len(), others.len());
    }
}
