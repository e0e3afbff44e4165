//! The plan made ready for a child that may not allocate: every string a C string, every text written beforehand.

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::steps::Steps;
use crate::path::GuestPath;
use crate::plan::calls::{Calls, Machine};
use crate::plan::step::{Expect, Landlock, Limit, Resource, Step};
use crate::plan::{Namespace, Plan, filter};
use crate::sys::cgroup::Entry;
use crate::sys::clone::CloneFlags;
use crate::sys::mount::MountFlags;
use crate::sys::process::{self, ArgumentArea, Clock, StringArray};
use crate::sys::seccomp::Instruction;

/// A clock's value: seconds and nanoseconds.
type Time = (i64, i64);

/// One operation of the interpreter: a [`Step`] with its data in the kernel's form.
#[derive(Debug)]
#[expect(missing_docs, reason = "each is the step of the same name")]
pub enum Op {
    EnterGroup,
    MapIds { users: Vec<u8>, groups: Vec<u8> },
    SetNames { host: CString, domain: CString },
    BringLoopbackUp,
    JoinRelay,
    StartClocksAtZero { offsets: Vec<u8> },
    OpenLowPorts,
    ForbidUserNamespaces,
    MakeMountsPrivate,
    MountRoot(RootMount),
    Bind { source: CString, target: CString, expect: Expect, flags: MountFlags },
    Mount { kind: CString, target: CString, flags: MountFlags, options: CString, magic: Option<i64> },
    EnterRoot,
    SetUmask,
    Limit { resource: process::Resource, soft: u64, hard: u64 },
    JoinOwnKeyring,
    ForbidNewPrivileges,
    DropCapabilities,
    HideInit,
    FilterCalls(Vec<Instruction>),
    Landlock { own_sockets: bool },
    BeginSession,
    TakeTerminal,
    PlaceStreams,
    FixAddresses,
    EnterDirectory(CString),
    ResetSignals,
    CloseDescriptors,
    Execute,
}

/// How the overlay root is mounted; every path is relative to the store, in names of our own that need no escaping in
/// mount options.
#[derive(Debug)]
pub struct RootMount {
    /// The store, absolute.
    pub store: CString,
    /// The options of the tmpfs that the layers lie in, if one is wanted. They are made there; on a disk they are there.
    pub memory: Option<CString>,
    /// The upper layer.
    pub upper: CString,
    /// Its `/tmp`.
    pub tmp: CString,
    /// The overlay's work directory.
    pub work: CString,
    /// The scratch directory: the tmpfs is mounted there, and the root over that.
    pub place: CString,
    /// The overlay's options.
    pub options: CString,
}

/// The standard streams of the command.
#[derive(Debug)]
pub enum Streams {
    /// Input from the sandbox's `/dev/null` (`None`) or from this pipe; output into two pipes.
    Pipes {
        /// The read end for standard input.
        stdin: Option<OwnedFd>,
        /// The write end for standard output.
        stdout: OwnedFd,
        /// The write end for standard error.
        stderr: OwnedFd,
    },
    /// A terminal of the sandbox's own, made inside.
    Terminal,
}

/// Everything that the child needs.
#[derive(Debug)]
pub struct Program {
    /// The namespaces that clone3 makes.
    pub flags: CloneFlags,
    /// The operations of PID 1.
    pub setup: Vec<Op>,
    /// The operations of the command's process.
    pub start: Vec<Op>,
    /// The paths under which the program is tried.
    pub candidates: Vec<CString>,
    /// Its arguments.
    pub arguments: StringArray,
    /// Its environment.
    pub environment: StringArray,
    /// Its streams.
    pub streams: Streams,
    /// The way into the run's cgroup, if it has one.
    pub group: Option<Entry>,
    /// Where its processes note how far they are, where that was asked for.
    pub steps: Option<Steps>,
    /// The monotonic clock where it is zero for the command.
    pub zero: Time,
    /// What PID 1 overwrites so that it can't be read inside.
    pub own_arguments: Option<ArgumentArea>,
}

/// The places of one run, relative to the store.
#[derive(Debug)]
pub struct Places<'a> {
    /// The store, absolute.
    pub store: &'a Path,
    /// The run's scratch directory.
    pub scratch: &'a str,
    /// The root's lower layers, topmost first.
    pub lower: &'a [String],
}

impl Program {
    /// Prepares `plan`.
    ///
    /// # Errors
    /// When a string holds a NUL byte.
    pub fn new(plan: &Plan, places: &Places<'_>, streams: Streams) -> io::Result<Self> {
        let zero = [Clock::Monotonic, Clock::Boot].map(process::clock);
        let ops = |steps: &[Step]| steps.iter().map(|step| op(step, places, zero)).collect::<io::Result<Vec<_>>>();
        let strings = |texts: &mut dyn Iterator<Item = String>| texts.map(text).collect::<io::Result<Vec<_>>>();
        let flags = plan.namespaces.iter().fold(CloneFlags::NONE, |flags, namespace| flags.and(flag(*namespace)));
        // Where there is a cgroup, the step that enters it makes the namespace: it must be the new cgroup's.
        let later = if plan.group.is_some() { CloneFlags::CGROUP } else { CloneFlags::NONE };
        Ok(Self {
            flags: flags.without(later),
            setup: ops(&plan.setup)?,
            start: ops(&plan.start)?,
            candidates: strings(&mut plan.candidates.iter().cloned())?,
            arguments: StringArray::new(strings(&mut plan.argv.iter().cloned())?),
            environment: StringArray::new(strings(
                &mut plan.environment.iter().map(|(name, value)| format!("{name}={value}")),
            )?),
            streams,
            group: None,
            steps: None,
            zero: zero[0],
            own_arguments: ArgumentArea::find(),
        })
    }

    /// Closes our copies of the command's ends of its streams, or those would never end, and of the way into its cgroup. The rest
    /// is memory that PID 1 shares, of which the kernel copies each page that is written: it is freed when PID 1 is gone.
    pub fn close(&mut self) {
        self.streams = Streams::Terminal;
        self.group = None;
    }
}

fn flag(namespace: Namespace) -> CloneFlags {
    match namespace {
        Namespace::User => CloneFlags::USER,
        Namespace::Mount => CloneFlags::MOUNT,
        Namespace::Pid => CloneFlags::PID,
        Namespace::Net => CloneFlags::NET,
        Namespace::Ipc => CloneFlags::IPC,
        Namespace::Uts => CloneFlags::UTS,
        Namespace::Cgroup => CloneFlags::CGROUP,
        // Entered by a step: its offsets must be set before anyone is inside.
        Namespace::Time => CloneFlags::NONE,
    }
}

/// The kernel's name of a resource.
pub fn resource(resource: Resource) -> process::Resource {
    match resource {
        Resource::OpenFiles => process::Resource::OpenFiles,
        Resource::CoreSize => process::Resource::CoreSize,
        Resource::Stack => process::Resource::Stack,
    }
}

fn text(text: String) -> io::Result<CString> {
    CString::new(text).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}

fn below_root(path: &GuestPath) -> io::Result<CString> {
    text(path.relative().to_owned())
}

fn op(step: &Step, places: &Places<'_>, zero: [Time; 2]) -> io::Result<Op> {
    let mounted = |kind: &str,
                   target: &str,
                   flags: MountFlags,
                   options: String,
                   magic: Option<i64>|
     -> io::Result<Op> {
        Ok(Op::Mount { kind: text(kind.into())?, target: text(target.into())?, flags, options: text(options)?, magic })
    };
    let closed = MountFlags { read_only: false, no_devices: true, no_exec: true };
    Ok(match step {
        Step::EnterGroup(_) => Op::EnterGroup,
        Step::MapIds(ids) => Op::MapIds {
            users: format!("{} {} 1\n", ids.uid, ids.host_uid).into_bytes(),
            groups: format!("{} {} 1\n", ids.gid, ids.host_gid).into_bytes(),
        },
        Step::SetNames { host, domain } => Op::SetNames { host: text(host.clone())?, domain: text(domain.clone())? },
        Step::BringLoopbackUp => Op::BringLoopbackUp,
        Step::JoinRelay { .. } => Op::JoinRelay,
        Step::StartClocksAtZero => Op::StartClocksAtZero { offsets: offsets_to(zero) },
        Step::OpenLowPorts => Op::OpenLowPorts,
        Step::ForbidUserNamespaces => Op::ForbidUserNamespaces,
        Step::MakeMountsPrivate => Op::MakeMountsPrivate,
        Step::MountRoot { memory, size } => Op::MountRoot(root_mount(places, *memory, *size)?),
        Step::Bind(bind) => Op::Bind {
            source: CString::new(bind.source.as_os_str().as_bytes())?,
            target: below_root(&bind.target)?,
            expect: bind.expect,
            flags: MountFlags {
                // A read-only mount does not stop writing to a device, only changing its node.
                read_only: !bind.writable,
                no_devices: !matches!(bind.expect, Expect::CharacterDevice { .. }),
                no_exec: false,
            },
        },
        Step::MountProc { writable } => mounted(
            "proc",
            "proc",
            MountFlags { read_only: !writable, ..closed },
            String::new(),
            Some(crate::sys::mount::PROC_MAGIC),
        )?,
        Step::MountTerminals => mounted(
            "devpts",
            "dev/pts",
            MountFlags { no_devices: false, ..closed },
            "newinstance,ptmxmode=0666,mode=0620".into(),
            None,
        )?,
        Step::MountSharedMemory { bytes } => mounted(
            "tmpfs",
            "dev/shm",
            MountFlags { no_exec: false, ..closed },
            format!("mode=1777,size={bytes}"),
            None,
        )?,
        Step::EnterRoot => Op::EnterRoot,
        Step::SetUmask => Op::SetUmask,
        Step::Limit(Limit { resource, soft, hard }) => {
            Op::Limit { resource: self::resource(*resource), soft: *soft, hard: *hard }
        }
        Step::JoinOwnKeyring => Op::JoinOwnKeyring,
        Step::ForbidNewPrivileges => Op::ForbidNewPrivileges,
        Step::DropCapabilities => Op::DropCapabilities,
        Step::HideInit => Op::HideInit,
        Step::FilterCalls(calls) => Op::FilterCalls(filter(calls)),
        Step::Landlock(Landlock { own_sockets }) => Op::Landlock { own_sockets: *own_sockets },
        Step::BeginSession => Op::BeginSession,
        Step::TakeTerminal => Op::TakeTerminal,
        Step::PlaceStreams => Op::PlaceStreams,
        Step::FixAddresses => Op::FixAddresses,
        Step::EnterDirectory(path) => Op::EnterDirectory(text(path.as_str().to_owned())?),
        Step::ResetSignals => Op::ResetSignals,
        Step::CloseDescriptors => Op::CloseDescriptors,
        Step::Execute => Op::Execute,
    })
}

fn filter(calls: &Calls) -> Vec<Instruction> {
    let plain = |code: filter::Instruction| Instruction {
        code: code.code,
        jump_true: code.jump_true,
        jump_false: code.jump_false,
        value: code.value,
    };
    filter::program(Machine::OWN, calls).into_iter().map(plain).collect()
}

fn root_mount(places: &Places<'_>, memory: bool, size: Option<u64>) -> io::Result<RootMount> {
    let scratch = places.scratch;
    // volatile: the upper layer is thrown away, nobody needs its sync; userxattr: what an ordinary user may set
    // (Documentation/filesystems/overlayfs.rst).
    let options = format!(
        "lowerdir={},upperdir={scratch}/upper,workdir={scratch}/work,userxattr,volatile,index=off",
        places.lower.join(":")
    );
    let memory_options = size.map_or_else(|| "mode=0700".to_owned(), |size| format!("mode=0700,size={size}"));
    Ok(RootMount {
        store: CString::new(places.store.as_os_str().as_bytes())?,
        memory: memory.then(|| text(memory_options)).transpose()?,
        upper: text(format!("{scratch}/upper"))?,
        tmp: text(format!("{scratch}/upper/tmp"))?,
        work: text(format!("{scratch}/work"))?,
        place: text(scratch.to_owned())?,
        options: text(options)?,
    })
}

/// The text for `/proc/PID/timens_offsets` that makes these values of both clocks zero (time_namespaces(7)). They go on from
/// there until the command starts, well under a second.
fn offsets_to([monotonic, boot]: [Time; 2]) -> Vec<u8> {
    let line = |name: &str, (seconds, nanoseconds): Time| {
        match nanoseconds {
            0 => format!("{name} {} 0\n", -seconds),
            // The kernel takes only non-negative nanoseconds.
            some => format!("{name} {} {}\n", -seconds - 1, 1_000_000_000 - some),
        }
    };
    (line("monotonic", monotonic) + &line("boottime", boot)).into_bytes()
}
