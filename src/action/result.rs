//! What a run came to, as it is kept and replayed: the meaning of an `ActionResult` message, and back.

use std::time::Duration;

use prost::Message as _;

use super::messages::{self, ActionResult, Any, ExecutedActionMetadata, OutputDirectory, OutputFile, OutputSymlink};
use super::messages::{RunDetails, Timestamp, Tree};
use crate::digest::Digest;
use crate::path::RelPath;
use crate::record::Output;

/// The type of [`RunDetails`] in an `Any`.
const DETAILS: &str = "type.googleapis.com/sbx.RunDetails";

/// What a run came to. Every digest is that of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The id of the run.
    pub run: String,
    /// The directory that held the `sandbox.toml`.
    pub project: String,
    /// The command's exit code.
    pub exit_code: i32,
    /// What the command made, sorted by path.
    pub outputs: Vec<Output>,
    /// Paths that the output patterns select and the command left as they were, sorted.
    pub unchanged: Vec<String>,
    /// What it wrote to its standard output.
    pub stdout: Digest,
    /// What it wrote to its standard error.
    pub stderr: Digest,
    /// When it began, since the epoch.
    pub began: Duration,
    /// How long it took.
    pub took: Duration,
}

impl Known {
    /// The encoded message.
    pub fn encode(&self) -> Vec<u8> {
        let (mut files, mut directories, mut symlinks) = (Vec::new(), Vec::new(), Vec::new());
        for output in &self.outputs {
            let path = output.path.clone();
            match (&output.digest, &output.target) {
                (Some(digest), _) => {
                    let digest = digest.parse::<Digest>().ok().map(Into::into);
                    files.push(OutputFile { path, digest, is_executable: output.executable });
                }
                (None, Some(target)) => symlinks.push(OutputSymlink { path, target: target.clone() }),
                (None, None) => {
                    directories.push(OutputDirectory { path, tree_digest: Some(empty_tree().into()) });
                }
            }
        }
        let details = RunDetails { project: self.project.clone(), unchanged: self.unchanged.clone() };
        let metadata = ExecutedActionMetadata {
            worker: self.run.clone(),
            execution_start_timestamp: Some(timestamp(self.began)),
            execution_completed_timestamp: Some(timestamp(self.began.saturating_add(self.took))),
            auxiliary_metadata: vec![Any { type_url: DETAILS.to_owned(), value: details.encode_to_vec() }],
        };
        ActionResult {
            output_files: files,
            output_directories: directories,
            exit_code: self.exit_code,
            stdout_digest: Some(self.stdout.into()),
            stderr_digest: Some(self.stderr.into()),
            execution_metadata: Some(metadata),
            output_symlinks: symlinks,
        }
        .encode_to_vec()
    }

    /// The meaning of an encoded message; `None` when it is none that [`Known::encode`] writes.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let result = ActionResult::decode(bytes).ok()?;
        let metadata = result.execution_metadata?;
        let details = metadata.auxiliary_metadata.iter().find(|any| any.type_url == DETAILS)?;
        let details = RunDetails::decode(&*details.value).ok()?;
        let (began, ended) =
            (since_epoch(metadata.execution_start_timestamp?)?, since_epoch(metadata.execution_completed_timestamp?)?);
        let mut outputs = Vec::new();
        for file in result.output_files {
            outputs.push(Output::file(&file.path, file.is_executable, &file.digest?.meaning()?));
        }
        outputs.extend(result.output_symlinks.iter().map(|link| Output::symlink(&link.path, &link.target)));
        outputs.extend(result.output_directories.iter().map(|directory| Output::directory(&directory.path)));
        outputs.sort_by(|one, other| one.path.cmp(&other.path));
        let normal = |path: &str| RelPath::new(path).is_ok_and(|normal| normal.as_str() == path);
        let distinct = outputs.windows(2).all(|pair| pair[0].path != pair[1].path);
        if !distinct || !outputs.iter().all(|output| normal(&output.path)) {
            return None;
        }
        Some(Self {
            run: metadata.worker,
            project: details.project,
            exit_code: result.exit_code,
            outputs,
            unchanged: details.unchanged,
            stdout: result.stdout_digest?.meaning()?,
            stderr: result.stderr_digest?.meaning()?,
            began,
            took: ended.checked_sub(began)?,
        })
    }

    /// Every blob that is needed to replay it, with whether it is stored as an executable; some more than once.
    pub fn blobs(&self) -> impl Iterator<Item = (Digest, bool)> + '_ {
        let files = self.outputs.iter().filter_map(|output| {
            let digest = output.digest.as_ref()?.parse().ok()?;
            Some((digest, output.executable))
        });
        files.chain([(self.stdout, false), (self.stderr, false)])
    }
}

/// The digest of the `Tree` message of a directory without entries.
fn empty_tree() -> Digest {
    Digest::of(&Tree { root: Some(messages::Directory::default()) }.encode_to_vec())
}

fn timestamp(time: Duration) -> Timestamp {
    Timestamp { seconds: i64::try_from(time.as_secs()).unwrap_or(i64::MAX), nanos: time.subsec_nanos().cast_signed() }
}

fn since_epoch(time: Timestamp) -> Option<Duration> {
    let nanos = u32::try_from(time.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    Some(Duration::new(u64::try_from(time.seconds).ok()?, nanos))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn known() -> Known {
        Known {
            run: "20260101-000000-000000-0123456789".to_owned(),
            project: "/home/user/project".to_owned(),
            exit_code: 0,
            outputs: vec![
                Output::file("bin/app", true, &Digest::of(b"app")),
                Output::directory("empty"),
                Output::symlink("lib/libx.so", "libx.so.1"),
                Output::file("lib/libx.so.1", false, &Digest::of(b"library")),
            ],
            unchanged: vec!["README".to_owned()],
            stdout: Digest::of(b"out"),
            stderr: Digest::of(b""),
            began: Duration::new(1_790_000_000, 5),
            took: Duration::from_millis(1234),
        }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        assert_eq!(Known::decode(&known().encode()), Some(known()));
        let failed = Known { exit_code: 3, outputs: Vec::new(), unchanged: Vec::new(), ..known() };
        assert_eq!(Known::decode(&failed.encode()), Some(failed));
    }

    #[test]
    fn the_message_is_the_published_one() {
        use bazel_remote_apis::build::bazel::remote::execution::v2 as reapi;
        use bazel_remote_apis::google::protobuf;
        let digest = |bytes: &[u8]| {
            let digest = Digest::of(bytes);
            Some(reapi::Digest { hash: digest.hex(), size_bytes: digest.size.cast_signed() })
        };
        let file = |path: &str, content: &[u8], is_executable| reapi::OutputFile {
            path: path.to_owned(),
            digest: digest(content),
            is_executable,
            ..reapi::OutputFile::default()
        };
        let tree = reapi::Tree { root: Some(reapi::Directory::default()), children: Vec::new() };
        let details = RunDetails { project: "/home/user/project".to_owned(), unchanged: vec!["README".to_owned()] };
        let published = reapi::ActionResult {
            output_files: vec![file("bin/app", b"app", true), file("lib/libx.so.1", b"library", false)],
            output_symlinks: vec![reapi::OutputSymlink {
                path: "lib/libx.so".to_owned(),
                target: "libx.so.1".to_owned(),
                ..reapi::OutputSymlink::default()
            }],
            output_directories: vec![reapi::OutputDirectory {
                path: "empty".to_owned(),
                tree_digest: digest(&tree.encode_to_vec()),
                ..reapi::OutputDirectory::default()
            }],
            stdout_digest: digest(b"out"),
            stderr_digest: digest(b""),
            execution_metadata: Some(reapi::ExecutedActionMetadata {
                worker: known().run,
                execution_start_timestamp: Some(protobuf::Timestamp { seconds: 1_790_000_000, nanos: 5 }),
                execution_completed_timestamp: Some(protobuf::Timestamp { seconds: 1_790_000_001, nanos: 234_000_005 }),
                auxiliary_metadata: vec![protobuf::Any {
                    type_url: DETAILS.to_owned(),
                    value: details.encode_to_vec(),
                }],
                ..reapi::ExecutedActionMetadata::default()
            }),
            ..reapi::ActionResult::default()
        };
        // Decoded by the published types and encoded again it is what they make of the same facts.
        let ours = reapi::ActionResult::decode(&*known().encode()).unwrap();
        assert_eq!(ours, published);
        assert_eq!(known().encode(), published.encode_to_vec());
    }

    #[test]
    fn a_result_that_leads_out_of_the_project_is_none() {
        let with = |path: &str| Known { outputs: vec![Output::symlink(path, "x")], ..known() };
        assert!(Known::decode(&with("a/b").encode()).is_some());
        for path in ["../a", "/etc/passwd", "a/../../b", "", "a//b", "./a"] {
            assert_eq!(Known::decode(&with(path).encode()), None, "{path:?}");
        }
        let twice = Known { outputs: vec![Output::symlink("a", "x"), Output::directory("a")], ..known() };
        assert_eq!(Known::decode(&twice.encode()), None);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_result_or_none(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let _ = Known::decode(&bytes);
        }
    }
}
