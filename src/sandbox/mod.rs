//! Launching, supervising and collecting: the one way through, from settings and a command line to a record.

pub mod cache;
pub mod changes;
pub mod child;
mod collected;
pub mod enter;
mod error;
pub mod facts;
pub mod group;
pub mod host;
pub mod identity;
pub mod init;
pub mod launch;
pub mod live;
pub mod message;
pub mod network;
pub mod outputs;
pub mod phases;
pub mod program;
pub mod pty;
pub mod refusal;
pub mod relay;
mod replay;
mod run;
pub mod scratch;
pub mod supervise;

use std::collections::BTreeMap;
use std::path::PathBuf;

pub use error::SandboxError;
pub use replay::known;
pub use run::run;

use crate::action::digest::Identity;
use crate::config::model::Settings;
use crate::digest::Digest;
use crate::inputs::{self, Entry, Manifest, Node, Progress, Proxies, Sources};
use crate::net::Event;
use crate::path::RelPath;
use crate::plan::skeleton::{Place, Skeleton};
use crate::plan::{self, Invocation, Plan};
use crate::pool::client::Asked;
use crate::record::Record;
use crate::store::{Held, Layers, ProjectKey, Store, StoreError};
use cache::Use;
use host::Live;
use launch::Origin;
use phases::Phases;

/// What is to be run, and for whom.
#[derive(Debug, Clone)]
pub struct Request {
    /// The directory that holds the configuration, canonical.
    pub project_root: PathBuf,
    /// The configuration file, canonical.
    pub config_path: PathBuf,
    /// What holds for this run.
    pub settings: Settings,
    /// The task's name, when it is one.
    pub task: Option<String>,
    /// Program and arguments; not empty.
    pub argv: Vec<String>,
    /// Where the caller stands, absolute.
    pub working_directory: PathBuf,
    /// The caller's values of the variables that `env.pass` names.
    pub environment: BTreeMap<String, String>,
    /// The caller's proxies, for what is fetched.
    pub proxies: Proxies,
    /// The task that needs this one, if it runs for another's sake.
    pub needed_by: Option<String>,
    /// What the tasks that this one needs have made, sorted; inputs like those of the project, in whose place they stand.
    pub fed: Vec<Entry>,
}

impl Request {
    /// The project's name in the store.
    pub fn project(&self) -> ProjectKey {
        ProjectKey::new(&self.config_path)
    }
}

/// Where the command's standard input comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stdin {
    /// Nothing: `/dev/null`.
    Null,
    /// The caller's.
    Relay,
    /// A terminal of the sandbox's own, joined to the caller's (`sbx shell`).
    Terminal,
}

/// How to run it.
#[derive(Debug)]
pub struct Options {
    /// The command's input.
    pub stdin: Stdin,
    /// Leave the scratch directory for the user to look at.
    pub keep: bool,
    /// What was asked of the pool for it.
    pub pool: Option<Asked>,
    /// How the cache is used.
    pub cache: Use,
    /// Where the outputs go.
    pub delivery: Delivery,
}

/// Where a run's outputs and its standard output go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Into the project, and to the caller's standard output.
    Project,
    /// Into the store, for another task of which they are inputs; standard output goes to the caller's standard error.
    Store,
}

/// Something to tell the user at once.
#[derive(Debug)]
pub enum News<'a> {
    /// From the network's relay.
    Network(&'a Event),
    /// Another run computes the same action, and this one waits for it.
    Waiting,
    /// A kept result can't be replayed, in words; it is computed again.
    Damaged(String),
}

/// Who is told.
pub type Tell<'a> = &'a mut dyn FnMut(&News<'_>);

/// A run that is decided and whose inputs are in the store.
#[derive(Debug)]
pub struct Prepared {
    /// The inputs.
    pub manifest: Manifest,
    /// The root digest of the input tree as the sandbox sees it, with the inputs at their place.
    pub input_root: Digest,
    /// The run's identity.
    pub identity: Identity,
    /// Everything that will be done.
    pub plan: Plan,
    /// What was shown of the living host, as it stands in the identity.
    pub live: Live,
    /// What stands in the layers below the inputs.
    below_root: Vec<Manifest>,
    /// The overlay's lower directories, topmost first, relative to the store.
    lower: Vec<String>,
    /// Keeps them from being removed while the run lasts.
    _held: Vec<Held>,
}

/// A prepared run, and what it is prepared from.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// Where its inputs are.
    pub store: &'a Store,
    /// What was asked for.
    pub request: &'a Request,
    /// What was decided.
    pub prepared: &'a Prepared,
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// The whole of it.
    pub record: Record,
    /// Where its net namespace came from; none without a sandbox.
    pub origin: Option<Origin>,
    /// What the user should know, a line each.
    pub notes: Vec<String>,
    /// With [`Delivery::Store`] after exit 0: what the command made, as inputs of another.
    pub made: Vec<Entry>,
    /// What sbx itself failed at, after the sandbox was made or tried.
    pub failure: Option<SandboxError>,
    /// The signal that sbx should die of, so that its caller sees an interrupt.
    pub reraise: Option<i32>,
}

/// Hashes the inputs, gathers the facts, decides the plan.
///
/// # Errors
/// Everything that the user's files, the settings or the machine can do wrong before a process is made.
pub fn prepare(
    store: &Store,
    request: &Request,
    terminal: bool,
    progress: &dyn Progress,
    clock: &mut Phases,
) -> Result<Prepared, SandboxError> {
    let settings = &request.settings;
    let project = request.project();
    clock.phase("inputs");
    let sources = Sources { root: &request.project_root, settings, proxies: &request.proxies, fed: &request.fed };
    let (collected, layers) = inputs::prepare(sources, store, &project, progress)?;
    let rootfs = inputs::rootfs::prepare(&settings.rootfs, &request.project_root, store, progress)?;

    clock.phase("plan");
    let facts = facts::gather(
        settings,
        &request.project_root,
        store.path(),
        project.as_str(),
        rootfs.as_ref().map(|(rootfs, _)| &rootfs.manifest),
    )
    .map_err(SandboxError::Kernel)?;
    let invocation = Invocation {
        argv: request.argv.clone(),
        below: below(request)?,
        environment: request.environment.clone(),
        terminal,
    };
    let plan = plan::build(settings, &facts, &invocation)?;
    let (mut lower, mut held, input_root) = (layers.lower, layers.held, layers.root);
    let live = Live::look(store, settings, &facts.host, &facts.mounts, progress)?;
    let rootfs_root = rootfs.as_ref().map(|(rootfs, _)| rootfs.manifest.root_digest());
    let identity = identity::of(&plan, settings, input_root, &live, rootfs_root);

    let mut below_root = Vec::new();
    let skeleton = skeleton_layers(store, &plan.skeleton)?;
    let rootfs = rootfs.map(|(rootfs, layers)| (rootfs.manifest, layers));
    for (manifest, layers) in [Some(skeleton), rootfs].into_iter().flatten() {
        lower.extend(layers.lower);
        held.extend(layers.held);
        below_root.push(manifest);
    }
    Ok(Prepared { input_root, manifest: collected.manifest, identity, plan, live, below_root, lower, _held: held })
}

/// The caller's place below the project's root; a caller who stands elsewhere starts in the root.
fn below(request: &Request) -> Result<Option<RelPath>, SandboxError> {
    match request.working_directory.strip_prefix(&request.project_root) {
        Ok(below) if below.as_os_str().is_empty() => Ok(None),
        Ok(below) => {
            let text = below.to_str().ok_or_else(|| SandboxError::Directory { path: below.to_owned() })?;
            RelPath::new(text).map(Some).map_err(|_| SandboxError::Directory { path: below.to_owned() })
        }
        Err(_) => Ok(None),
    }
}

/// The skeleton as a tree in the store. Its files are written only when the tree is not there yet.
fn skeleton_layers(store: &Store, skeleton: &Skeleton) -> Result<(Manifest, Layers), StoreError> {
    let mut entries: Vec<Entry> = skeleton
        .places()
        .map(|(path, place)| Entry {
            path: path.to_owned(),
            node: match place {
                Place::Directory => Node::EmptyDirectory,
                Place::File(content) => Node::File { digest: Digest::of(content), executable: false },
                Place::Link(target) => Node::Symlink { target: target.clone() },
            },
        })
        .collect();
    entries.sort_by(|one, other| inputs::path_order(&one.path, &other.path));
    let manifest = Manifest { entries };
    let mut attempts = 0;
    loop {
        match store.materialise(&manifest, None, None) {
            // Stored for the first time, or again: `gc` may have come between.
            Err(StoreError::Missing { .. }) if attempts < 3 => attempts += 1,
            layers => return layers.map(|layers| (manifest, layers)),
        }
        for (_, place) in skeleton.places() {
            if let Place::File(content) = place {
                store.put_root_bytes(content, false)?;
            }
        }
    }
}
