use proptest::prelude::*;
use std::collections::BTreeSet;

use prost::Message as _;

use super::*;
use crate::action::digest::{Identity, Run, identify};
use crate::action::policy::tests::policy;
use crate::action::policy::{Network, Rootfs};
use crate::action::why::closest::{Closest, closest};
use crate::inputs::{Entry, path_order};

/// All that a run's action follows from.
#[derive(Debug, Clone)]
struct Facts {
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
    below: String,
    outputs: Vec<String>,
    platform: BTreeMap<String, String>,
    timeout: Option<Duration>,
    policy: Policy,
    tree: Tree,
}

impl Facts {
    fn identity(&self) -> Identity {
        identify(&Run {
            arguments: &self.arguments,
            environment: &self.environment,
            working_directory: &format!("{}{}", self.tree.at.relative(), self.below),
            output_paths: &self.outputs,
            platform: &self.platform,
            input_root: self.tree.manifest.root_digest_at(&self.tree.at),
            timeout: self.timeout,
            policy: &self.policy,
        })
    }

    /// As it reads back from the encoded messages.
    fn side(&self) -> Side {
        let Identity { action, command, policy, .. } = self.identity();
        Side {
            action: Action::decode(&*action).unwrap(),
            command: Command::decode(&*command).unwrap(),
            policy: serde_json::from_slice(&policy).unwrap(),
        }
    }
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// `path=content`, `path*=content` for an executable, `path>target`, `path/` for an empty directory.
fn manifest(lines: &[&str]) -> Manifest {
    let entry = |line: &&str| {
        if let Some((path, content)) = line.split_once('=') {
            let node = Node::File { digest: Digest::of(content.as_bytes()), executable: path.ends_with('*') };
            return Entry { path: path.trim_end_matches('*').to_owned(), node };
        }
        match line.split_once('>') {
            Some((path, target)) => Entry { path: path.to_owned(), node: Node::Symlink { target: target.to_owned() } },
            None => Entry { path: line.trim_end_matches('/').to_owned(), node: Node::EmptyDirectory },
        }
    };
    let mut entries: Vec<_> = lines.iter().map(entry).collect();
    entries.sort_by(|one, other| path_order(&one.path, &other.path));
    Manifest { entries }
}

fn facts() -> Facts {
    Facts {
        arguments: texts(&["make", "-j2", "all"]),
        environment: map(&[("CC", "gcc"), ("PATH", "/usr/bin")]),
        below: "/sub".to_owned(),
        outputs: texts(&["build/app", "dist/**"]),
        platform: map(&[("ISA", "x86-64"), ("OSFamily", "linux")]),
        timeout: Some(Duration::from_secs(600)),
        policy: policy(),
        tree: Tree {
            at: GuestPath::new("/src").unwrap(),
            manifest: manifest(&["Makefile=all:", "run*=#!", "sub/a.c=int a;", "link>run", "empty/"]),
        },
    }
}

fn compare(before: &Facts, after: &Facts, listings: &Listings) -> Vec<Difference> {
    differences((&before.side(), Some(&before.tree)), (&after.side(), Some(&after.tree)), listings)
}

/// One difference in a line: the group, the subject, `before -> after`.
fn line(difference: &Difference) -> String {
    let value = |value: &Value| match value {
        Value::Text(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Time(time) => format!("{time:?}"),
        Value::Identity(ContentIdentity::Content(digest)) => format!("content {}", &digest[..4]),
        Value::Identity(ContentIdentity::Declared(text)) => format!("declared {text}"),
        Value::Identity(ContentIdentity::Link(text)) => format!("link {text}"),
        Value::Identity(ContentIdentity::Metadata(digest)) => format!("metadata {}", &digest[..4]),
        Value::Identity(ContentIdentity::Packages(digest)) => format!("packages {}", &digest[..4]),
        Value::Installed(installed) => {
            let one = |Installed { version, fingerprint }: &Installed| format!("{version} ({fingerprint})");
            installed.iter().map(one).collect::<Vec<_>>().join(", ")
        }
        Value::Node(Node::File { digest, executable }) => {
            format!("{} {}", if *executable { "exec" } else { "file" }, &digest.hex()[..4])
        }
        Value::Node(Node::Symlink { target }) => format!("link {target}"),
        Value::Node(Node::EmptyDirectory) => "directory".to_owned(),
    };
    let change = match &difference.change {
        Change::Changed { before, after } => format!("{} -> {}", value(before), value(after)),
        Change::Added(after) => format!("+ {}", value(after)),
        Change::Removed(before) => format!("- {}", value(before)),
    };
    format!("{:?}: {:?}: {change}", difference.subject.group(), difference.subject)
}

#[track_caller]
fn assert_told(change: impl Fn(&mut Facts), expected: &[&str]) {
    let (before, mut after) = (facts(), facts());
    change(&mut after);
    let lines = |found: &[Difference]| found.iter().map(line).collect::<Vec<_>>();
    assert_eq!(lines(&compare(&before, &after, &Listings::new())), expected);
    assert_ne!(before.identity().action_digest, after.identity().action_digest);
}

fn rules(allow: &[&str], hosts: &[(&str, &str)], publish: &[&str]) -> Network {
    Network::Rules {
        allow: texts(allow).into_iter().collect(),
        hosts: map(hosts),
        publish: texts(publish).into_iter().collect(),
    }
}

#[test]
fn equal_runs_differ_in_nothing() {
    assert_eq!(compare(&facts(), &facts(), &Listings::new()), []);
}

#[test]
fn each_part_of_the_policy_is_told() {
    assert_told(|facts| facts.policy.abi = 9, &["Policy: Abi: 2 -> 9"]);
    assert_told(|facts| facts.policy.hostname = "other".into(), &["Policy: Hostname: sbx -> other"]);
    assert_told(|facts| facts.policy.uid = 0, &["Policy: Uid: 1000 -> 0"]);
    assert_told(|facts| facts.policy.gid = 5, &["Policy: Gid: 1000 -> 5"]);
    assert_told(
        |facts| facts.policy.isolation = ["user", "mount", "ipc"].map(str::to_owned).into(),
        &["Policy: Isolation: + ipc", "Policy: Isolation: - net"],
    );
    assert_told(|facts| facts.policy.syscalls = ["bpf".to_owned()].into(), &["Policy: SystemCall: + bpf"]);
    assert_told(
        |facts| facts.policy.limits = BTreeMap::from([("open_files".to_owned(), 10), ("pids".to_owned(), 7)]),
        &["Policy: Limit(\"open_files\"): 4096 -> 10", "Policy: Limit(\"pids\"): + 7"],
    );
    assert_told(
        |facts| facts.policy.scratch = map(&[("/cache", "ccache")]),
        &["Policy: Scratch(\"/cache\"): + ccache", "Policy: Scratch(\"/home/builder/.cache/ccache\"): - ccache"],
    );
}

#[test]
fn each_part_of_the_network_is_told() {
    assert_told(|facts| facts.policy.network = Network::Host, &["Policy: Network: none -> host"]);
    assert_told(
        |facts| facts.policy.network = rules(&["a:1"], &[("a", "127.0.0.1")], &["1:2"]),
        &[
            "Policy: Network: none -> rules",
            "Policy: Allow: + a:1",
            "Policy: Pin(\"a\"): + 127.0.0.1",
            "Policy: Publish: + 1:2",
        ],
    );
    let (mut before, mut after) = (facts(), facts());
    before.policy.network = rules(&["a:1", "b:2"], &[("a", "127.0.0.1")], &[]);
    after.policy.network = rules(&["b:2", "c:3"], &[("a", "127.0.0.2")], &["1:2"]);
    let found: Vec<_> = compare(&before, &after, &Listings::new()).iter().map(line).collect();
    assert_eq!(
        found,
        [
            "Policy: Allow: + c:3",
            "Policy: Allow: - a:1",
            "Policy: Pin(\"a\"): 127.0.0.1 -> 127.0.0.2",
            "Policy: Publish: + 1:2"
        ]
    );
}

#[test]
fn each_mount_is_told() {
    assert_told(
        |facts| {
            let content = |text: &str| ContentIdentity::Content(Digest::of(text.as_bytes()).to_string());
            let mounts = &mut facts.policy.mounts;
            mounts.insert("/opt/a".to_owned(), content("other"));
            mounts.insert("/opt/d".to_owned(), ContentIdentity::Declared("1".to_owned()));
            mounts.insert("/opt/c".to_owned(), content("c"));
            mounts.remove("/opt/b");
        },
        &[
            "Mounts: Mount(\"/opt/a\"): content ca97 -> content d929",
            "Mounts: Mount(\"/opt/c\"): metadata 2e7d -> content 2e7d",
            "Mounts: Mount(\"/opt/d\"): + declared 1",
            "Mounts: Mount(\"/opt/b\"): - declared gcc \"12\"",
        ],
    );
}

#[test]
fn each_part_of_the_command_is_told() {
    assert_told(
        |facts| facts.environment = map(&[("CC", "clang"), ("A", "1")]),
        &[
            "Environment: Variable(\"CC\"): gcc -> clang",
            "Environment: Variable(\"A\"): + 1",
            "Environment: Variable(\"PATH\"): - /usr/bin",
        ],
    );
    assert_told(
        |facts| facts.arguments = texts(&["make", "-j4", "-k", "all"]),
        &["Arguments: Argument(1): -j2 -> -j4", "Arguments: Argument(2): + -k"],
    );
    assert_told(|facts| facts.arguments = texts(&["make", "all"]), &["Arguments: Argument(1): - -j2"]);
    assert_told(
        |facts| facts.below = "/sub/sub".to_owned(),
        &["WorkingDirectory: WorkingDirectory: /src/sub -> /src/sub/sub"],
    );
    assert_told(
        |facts| facts.outputs = texts(&["dist/**", "!dist/tmp"]),
        &["Outputs: Output: + !dist/tmp", "Outputs: Output: - build/app"],
    );
    assert_told(|facts| facts.timeout = Some(Duration::new(600, 5)), &["TimeLimit: TimeLimit: 600s -> 600.000000005s"]);
    assert_told(|facts| facts.timeout = None, &["TimeLimit: TimeLimit: - 600s"]);
    assert_told(
        |facts| facts.platform = map(&[("ISA", "aarch64"), ("OSFamily", "linux")]),
        &["Platform: Property(\"ISA\"): x86-64 -> aarch64"],
    );
    assert_told(
        |facts| facts.platform = map(&[]),
        &["Platform: Property(\"ISA\"): - x86-64", "Platform: Property(\"OSFamily\"): - linux"],
    );
}

#[test]
fn each_kind_of_input_is_told_changed_ones_first() {
    assert_told(
        |facts| {
            facts.tree.manifest =
                manifest(&["A=", "Makefile=all: x", "run=#!", "sub/a.c*=int b;", "link>sub/a.c", "empty=", "zzz/"]);
        },
        &[
            "Inputs: Input(\"Makefile\"): file f370 -> file 3ead",
            "Inputs: Input(\"empty\"): directory -> file e3b0",
            "Inputs: Input(\"link\"): link run -> link sub/a.c",
            "Inputs: Input(\"run\"): exec 3612 -> file 3612",
            "Inputs: Input(\"sub/a.c\"): file 68ee -> exec bbdf",
            "Inputs: Input(\"A\"): + file e3b0",
            "Inputs: Input(\"zzz\"): + directory",
        ],
    );
    assert_told(
        |facts| facts.tree.manifest = manifest(&["Makefile=all:", "sub/a.c=int a;", "link>run"]),
        &["Inputs: Input(\"empty\"): - directory", "Inputs: Input(\"run\"): - exec 3612"],
    );
    assert_told(
        |facts| facts.tree.at = GuestPath::new("/work").unwrap(),
        &["WorkingDirectory: WorkingDirectory: /src/sub -> /work/sub", "Inputs: Workdir: /src -> /work"],
    );
}

#[test]
fn two_inputs_differ_in_what_they_differ() {
    let node = |line: &str| manifest(&[line]).entries[0].node.clone();
    for (before, after, expected) in [
        ("a=1", "a=1", &[][..]),
        ("a=1", "a=2", &[Aspect::Content]),
        ("a=1", "a*=1", &[Aspect::Mode]),
        ("a*=1", "a=2", &[Aspect::Content, Aspect::Mode]),
        ("a>1", "a>2", &[Aspect::Target]),
        ("a>1", "a=1", &[Aspect::Kind]),
        ("a/", "a/", &[]),
        ("a=", "a/", &[Aspect::Kind]),
    ] {
        assert_eq!(aspects(&node(before), &node(after)), expected, "{before} {after}");
    }
}

#[test]
fn a_tree_that_is_gone_is_one_difference() {
    let (before, mut after) = (facts(), facts());
    after.tree.manifest = manifest(&["Makefile="]);
    let found = differences((&before.side(), Some(&before.tree)), (&after.side(), None), &Listings::new());
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].subject, Subject::InputTree);
    assert_eq!(differences((&before.side(), None), (&before.side(), None), &Listings::new()), []);
}

fn listing(packages: &[(&str, &str, &str)]) -> Listing {
    let package = |(name, version, fingerprint): &(&str, &str, &str)| {
        let installed = Installed { version: (*version).to_owned(), fingerprint: (*fingerprint).to_owned() };
        ((*name).to_owned(), vec![installed])
    };
    packages.iter().map(package).collect()
}

/// The host's directories at these paths, all with the same packages.
fn with_packages(paths: &[&str], digest: &str) -> Facts {
    let identity = ContentIdentity::Packages(digest.to_owned());
    let mut facts = facts();
    facts.policy.rootfs = Rootfs::Host(paths.iter().map(|path| ((*path).to_owned(), identity.clone())).collect());
    facts
}

#[test]
fn packages_are_told_by_name_and_version() {
    let listings = Listings::from([
        (
            "one/1".to_owned(),
            listing(&[
                ("gcc:amd64", "12.2", "a"),
                ("make:amd64", "4.3", "b"),
                ("old:all", "1", "c"),
                ("same:all", "1", "d"),
            ]),
        ),
        (
            "two/1".to_owned(),
            listing(&[
                ("gcc:amd64", "12.3", "e"),
                ("make:amd64", "4.3", "f"),
                ("new:all", "1", "g"),
                ("same:all", "1", "d"),
            ]),
        ),
        (
            "three/1".to_owned(),
            listing(&[
                ("gcc:amd64", "12.2", "a"),
                ("make:amd64", "4.3", "b"),
                ("old:all", "1", "c"),
                ("same:all", "1", "d"),
            ]),
        ),
    ]);
    let told = |before: &Facts, after: &Facts| compare(before, after, &listings).iter().map(line).collect::<Vec<_>>();
    let before = with_packages(&["/bin", "/usr"], "one/1");
    // Each package once, though two directories have it.
    assert_eq!(
        told(&before, &with_packages(&["/bin", "/usr"], "two/1")),
        [
            "Rootfs: Package(\"gcc:amd64\"): 12.2 (a) -> 12.3 (e)",
            "Rootfs: Package(\"make:amd64\"): 4.3 (b) -> 4.3 (f)",
            "Rootfs: Package(\"new:all\"): + 1 (g)",
            "Rootfs: Package(\"old:all\"): - 1 (c)",
        ]
    );
    assert_eq!(told(&before, &with_packages(&["/bin"], "one/1")), ["Rootfs: Host(\"/usr\"): - packages one/"]);
    // What no listing explains is told by the directory: one that is gone, one whose packages are the same.
    for unexplained in ["gone/1", "three/1"] {
        let found = told(&before, &with_packages(&["/bin", "/usr"], unexplained));
        let expected = ["/bin", "/usr"]
            .map(|path| format!("Rootfs: Host(\"{path}\"): packages one/ -> packages {}", &unexplained[..4]));
        assert_eq!(found, expected);
    }
    let mut tree = facts();
    tree.policy.rootfs = Rootfs::Tree("x/1".to_owned());
    assert_eq!(told(&before, &tree), ["Rootfs: Rootfs: host -> x/1"]);
    let mut other = facts();
    other.policy.rootfs = Rootfs::Tree("y/1".to_owned());
    assert_eq!(told(&tree, &other), ["Rootfs: Rootfs: x/1 -> y/1"]);
}

#[test]
fn the_most_telling_group_comes_first() {
    let mut after = facts();
    after.tree.manifest = manifest(&["Makefile="]);
    after.tree.at = GuestPath::new("/work").unwrap();
    after.platform = map(&[]);
    after.timeout = None;
    after.outputs = Vec::new();
    after.arguments = texts(&["true"]);
    after.environment = map(&[]);
    after.policy = Policy {
        abi: 9,
        gid: 1,
        hostname: "x".into(),
        isolation: BTreeSet::new(),
        limits: BTreeMap::new(),
        memory: true,
        mounts: BTreeMap::new(),
        network: Network::Host,
        output_rules: texts(&["a", "!b"]),
        rootfs: Rootfs::Tree("x/1".into()),
        scratch: BTreeMap::new(),
        syscalls: texts(&["bpf"]).into_iter().collect(),
        uid: 1,
    };
    let groups: Vec<_> = compare(&facts(), &after, &Listings::new()).iter().map(|one| one.subject.group()).collect();
    assert!(groups.is_sorted(), "{groups:?}");
    let distinct: std::collections::HashSet<_> = groups.into_iter().collect();
    assert_eq!(distinct.len(), 10);
}

/// One part of a run made another.
#[derive(Debug, Clone)]
enum Edit {
    Nothing,
    Arguments(Vec<String>),
    Environment(BTreeMap<String, String>),
    Below(String),
    Outputs(Vec<String>),
    Platform(BTreeMap<String, String>),
    Timeout(Option<u64>),
    Numbers([u32; 3]),
    Hostname(String),
    Isolation(Vec<String>),
    Limits(BTreeMap<String, u64>),
    Mounts(BTreeMap<String, ContentIdentity>),
    Network(Network),
    Rootfs(Rootfs),
    Scratch(BTreeMap<String, String>),
    Inputs(Vec<&'static str>),
    At(String),
}

impl Edit {
    fn apply(&self, facts: &mut Facts) {
        match self.clone() {
            Self::Nothing => {}
            Self::Arguments(arguments) => facts.arguments = arguments,
            Self::Environment(environment) => facts.environment = environment,
            Self::Below(below) => facts.below = below,
            Self::Outputs(outputs) => facts.outputs = outputs,
            Self::Platform(platform) => facts.platform = platform,
            Self::Timeout(timeout) => facts.timeout = timeout.map(Duration::from_nanos),
            Self::Numbers([abi, uid, gid]) => {
                (facts.policy.abi, facts.policy.uid, facts.policy.gid) = (abi, uid, gid);
            }
            Self::Hostname(hostname) => facts.policy.hostname = hostname,
            Self::Isolation(words) => facts.policy.isolation = words.into_iter().collect(),
            Self::Limits(limits) => facts.policy.limits = limits,
            Self::Mounts(mounts) => facts.policy.mounts = mounts,
            Self::Network(network) => facts.policy.network = network,
            Self::Rootfs(rootfs) => facts.policy.rootfs = rootfs,
            Self::Scratch(scratch) => facts.policy.scratch = scratch,
            Self::Inputs(lines) => facts.tree.manifest = manifest(&lines),
            Self::At(at) => facts.tree.at = GuestPath::new(&at).unwrap(),
        }
    }
}

/// Of each part few values, so that two edits often come to the same.
fn edits() -> impl Strategy<Value = Edit> {
    let name = || prop::sample::select(vec!["a", "b", "a/b"]).prop_map(str::to_owned);
    let key = move || name().prop_map(|name| format!("/{name}"));
    let identity = move || {
        (0..5, name()).prop_map(|(kind, text)| match kind {
            0 => ContentIdentity::Content(text),
            4 => ContentIdentity::Link(text),
            1 => ContentIdentity::Declared(text),
            2 => ContentIdentity::Metadata(text),
            _ => ContentIdentity::Packages(text),
        })
    };
    let texts = move || prop::collection::vec(name(), 0..3);
    let pairs = move || prop::collection::btree_map(key(), name(), 0..3);
    let network = prop_oneof![
        Just(Network::None),
        Just(Network::Host),
        (texts(), pairs(), texts()).prop_map(|(allow, hosts, publish)| Network::Rules {
            allow: allow.into_iter().collect(),
            hosts,
            publish: publish.into_iter().collect(),
        }),
    ];
    let rootfs = prop_oneof![
        name().prop_map(Rootfs::Tree),
        prop::collection::btree_map(key(), identity(), 0..3).prop_map(Rootfs::Host),
    ];
    let inputs = prop::sample::subsequence(vec!["a*=1", "b=1", "c/d>x", "e/"], 0..4);
    prop_oneof![
        Just(Edit::Nothing),
        texts().prop_map(Edit::Arguments),
        pairs().prop_map(Edit::Environment),
        key().prop_map(Edit::Below),
        texts().prop_map(Edit::Outputs),
        pairs().prop_map(Edit::Platform),
        prop::option::of(0..3_u64).prop_map(Edit::Timeout),
        [0..2_u32, 0..2, 0..2].prop_map(Edit::Numbers),
        name().prop_map(Edit::Hostname),
        texts().prop_map(Edit::Isolation),
        prop::collection::btree_map(name(), 0..2_u64, 0..3).prop_map(Edit::Limits),
        prop::collection::btree_map(key(), identity(), 0..3).prop_map(Edit::Mounts),
        network.prop_map(Edit::Network),
        rootfs.prop_map(Edit::Rootfs),
        pairs().prop_map(Edit::Scratch),
        inputs.prop_map(Edit::Inputs),
        key().prop_map(Edit::At),
    ]
}

proptest! {
    #[test]
    fn there_is_a_difference_exactly_when_the_actions_differ(
        both in prop::collection::vec(edits(), 0..4),
        before in prop::collection::vec(edits(), 0..2),
        after in prop::collection::vec(edits(), 0..2),
    ) {
        let (mut one, mut other) = (facts(), facts());
        both.iter().chain(&before).for_each(|edit| edit.apply(&mut one));
        both.iter().chain(&after).for_each(|edit| edit.apply(&mut other));
        let equal = one.identity().action_digest == other.identity().action_digest;
        let some =
            Listings::from([("a".to_owned(), Listing::new()), ("b".to_owned(), listing(&[("p", "1", "")]))]);
        for listings in [Listings::new(), some] {
            let found = compare(&one, &other, &listings);
            prop_assert_eq!(found.is_empty(), equal, "{:?}", found);
            prop_assert_eq!(compare(&other, &one, &listings).len(), found.len());
        }
    }
}

fn closest_of(asked: &Facts, earlier: &[Facts], gone: &[usize]) -> (Option<Closest>, Vec<usize>) {
    let sides: Vec<_> = earlier.iter().map(Facts::side).collect();
    let mut read = Vec::new();
    let found = closest((&asked.side(), Some(&asked.tree)), &sides, &Listings::new(), &mut |index| {
        read.push(index);
        (!gone.contains(&index)).then(|| earlier[index].tree.clone())
    });
    (found, read)
}

/// A run with so many inputs more and so many variables more than the usual one.
fn distant(inputs: usize, variables: usize) -> Facts {
    let mut facts = facts();
    let added = (0..inputs).map(|index| format!("new{index}="));
    let lines: Vec<String> = ["Makefile=all:", "run*=#!", "sub/a.c=int a;", "link>run", "empty/"]
        .map(str::to_owned)
        .into_iter()
        .chain(added)
        .collect();
    facts.tree.manifest = manifest(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    facts.environment.extend((0..variables).map(|index| (format!("V{index}"), String::new())));
    facts
}

#[track_caller]
fn assert_closest(earlier: &[(usize, usize)], gone: &[usize], expected: Option<usize>, trees_read: &[usize]) {
    let runs: Vec<_> = earlier.iter().map(|(inputs, variables)| distant(*inputs, *variables)).collect();
    let (found, read) = closest_of(&facts(), &runs, gone);
    assert_eq!(found.as_ref().map(|found| found.index), expected);
    assert_eq!(read, trees_read);
    if let Some(Closest { index, tree: Some(tree) }) = found {
        assert_eq!(tree, runs[index].tree);
    }
}

#[test]
fn the_closest_run_has_the_fewest_differences() {
    assert_closest(&[], &[], None, &[]);
    assert_closest(&[(3, 0), (1, 1), (1, 0)], &[], Some(2), &[0, 2]);
    assert_closest(&[(0, 3), (0, 2)], &[], Some(1), &[]);
    // Of equally close ones the newest.
    assert_closest(&[(2, 0), (1, 1), (0, 2)], &[], Some(0), &[0]);
    assert_closest(&[(0, 1), (0, 1)], &[], Some(0), &[]);
    // An equal run needs no tree to be read.
    assert_closest(&[(5, 0), (0, 0)], &[], Some(1), &[]);
    // A tree that can't bring its run nearer than the best is not read.
    assert_closest(&[(1, 0), (9, 1), (8, 2)], &[], Some(0), &[0]);
}

#[test]
fn each_tree_is_read_at_most_once() {
    assert_closest(&[(4, 1), (4, 0), (4, 2), (3, 0)], &[], Some(3), &[1, 3]);
}

#[test]
fn a_run_whose_tree_is_gone_comes_last() {
    assert_closest(&[(1, 0), (9, 0)], &[0], Some(1), &[0, 1]);
    assert_closest(&[(1, 0), (2, 0)], &[0, 1], Some(0), &[0, 1]);
    assert_closest(&[(1, 0), (0, 5)], &[0], Some(1), &[0]);
}
