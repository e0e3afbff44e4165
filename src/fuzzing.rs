//! What the targets in `fuzz/` call. Each takes any bytes, and panics when something does not hold that must.
//!
//! The inputs in `fuzz/corpus` are given to each target by a test, too.

use prost::Message as _;

pub use crate::inputs::fuzzing::{archive, ignore_rules, image, manifest, packages};
pub use crate::net::fuzzing::{dns, tls};
pub use crate::store::fuzzing::delta;

use crate::action::messages::{Action, Command, Directory};
use crate::action::policy::Policy;
use crate::action::result::Known;
use crate::config;
use crate::pool::protocol::{Answer, Request};
use crate::record::Record;
use crate::sandbox::message;

/// A target: its name, which is that of its corpus, and what it calls.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 6] = [
    ("config", settings),
    ("network", |bytes| {
        dns(bytes);
        tls(bytes);
    }),
    ("protocols", protocols),
    ("archive", archive),
    ("readers", readers),
    ("merkle", merkle),
];

/// A `sandbox.toml`, and the user's own configuration.
pub fn settings(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let told = [config::parse(text, "sandbox.toml").err(), config::user::parse(text, "config.toml").err()];
    for faults in told.into_iter().flatten() {
        let shown = faults.to_string();
        assert!(!shown.is_empty());
        assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?} would reach a terminal");
    }
}

/// The messages of the pool and those between sbx and its child.
pub fn protocols(bytes: &[u8]) {
    if let Ok(request) = Request::decode(bytes) {
        assert_eq!(Request::decode(&request.encode()), Ok(request));
    }
    if let Ok(answer) = Answer::decode(bytes) {
        assert_eq!(Answer::decode(&answer.encode()), Ok(answer));
    }
    if let Some(message) = message::Message::decode(bytes) {
        assert_eq!(message::Message::decode(&message.encode()), Some(message));
    }
}

/// What describes an image, the packages of a host, a record, and ignore files. The first byte says which.
pub fn readers(bytes: &[u8]) {
    let Some((which, rest)) = bytes.split_first() else { return };
    match which % 4 {
        0 => image(rest),
        1 => packages(rest),
        2 => ignore_rules(rest),
        _ => drop(serde_json::from_slice::<Record>(rest)),
    }
}

/// Trees, results and the messages of an action, as the store keeps them. The first byte says which.
pub fn merkle(bytes: &[u8]) {
    let Some((which, rest)) = bytes.split_first() else { return };
    match which % 5 {
        0 => manifest(rest),
        1 => delta(rest),
        2 => {
            if let Some(known) = Known::decode(rest) {
                assert_eq!(Known::decode(&known.encode()), Some(known));
            }
        }
        3 => {
            if let Ok(policy) = serde_json::from_slice::<Policy>(rest) {
                assert_eq!(serde_json::from_slice::<Policy>(&policy.to_bytes()).ok(), Some(policy));
            }
        }
        _ => {
            let _ = (Action::decode(rest), Command::decode(rest));
            if let Ok(directory) = Directory::decode(rest) {
                assert_eq!(Directory::decode(&*directory.encode_to_vec()), Ok(directory));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_target_bears_its_corpus() {
        for (name, target) in TARGETS {
            let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
            let mut inputs = 0;
            for entry in fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{}: {error}", corpus.display())) {
                target(&fs::read(entry.unwrap().path()).unwrap());
                inputs += 1;
            }
            assert!(inputs >= 3, "{name} has {inputs} inputs");
            target(b"");
        }
    }
}
