//! The interpreter: what runs between clone and exec.
//!
//! It allocates nothing, locks nothing, formats nothing. Each operation is one arm; an error is the operation's index,
//! the call and the errno, sent over the control socket, from which the launcher makes the sentence.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::init::{self, Realm};
use super::message::{GO, List, Message};
use super::program::{Op, Program, RootMount, Streams};
use crate::plan::step::Expect;
use crate::sys::clone::{self, exit_now};
use crate::sys::errno::{Call, CallError, Errno};
use crate::sys::mount::{self, MountFlags};
use crate::sys::{event, fdpass, landlock, ns, process, pty, seccomp};

/// What PID 1 is called inside.
const INIT_NAME: &CStr = c"sbx-init";

/// What the operations leave for each other.
#[derive(Debug, Default)]
struct State {
    /// The root mount, from [`Op::MountRoot`] on.
    root: Option<OwnedFd>,
    /// The upper layer.
    upper: Option<OwnedFd>,
    /// Both ends of the sandbox's terminal.
    terminal: Option<pty::Pair>,
}

/// The life of PID 1 from clone3 on.
pub fn run(program: &Program, control: BorrowedFd<'_>) -> ! {
    let mut state = State::default();
    if let Err(error) = process::die_with_parent() {
        give_up(List::Setup, 0, error, control);
    }
    perform(&program.setup, List::Setup, program, &mut state, control);
    if let Err(error) = hand_over(&state, control) {
        give_up(List::Setup, program.setup.len().saturating_sub(1), error, control);
    }
    begin(program, state, Realm::Everything, control)
}

/// The life of what `sbx enter` has begun in a sandbox. Closed to inspection it is from the door on, for its memory is
/// still that of sbx outside.
///
/// Its parent is outside of the pid namespace, which could not end before that has reaped it. So it leaves everything to
/// a child and ends at once: an orphan whose parent was inside is PID 1's to reap.
pub fn enter(program: &Program, control: BorrowedFd<'_>) -> ! {
    let mut state = State::default();
    match clone::fork() {
        Err(error) => give_up(List::Setup, 0, error, control),
        Ok(0) => {}
        Ok(_) => exit_now(0),
    }
    event::keep_children();
    if let Err(error) = process::adopt_orphans() {
        give_up(List::Setup, 0, error, control);
    }
    perform(&program.setup, List::Setup, program, &mut state, control);
    begin(program, state, Realm::Descendants, control)
}

/// Starts the command and stays with it.
fn begin(program: &Program, mut state: State, realm: Realm, control: BorrowedFd<'_>) -> ! {
    // Nothing is open that exec would pass on, so the latter changes nothing; but where it is refused, our own descriptors
    // could not be closed either once the command runs.
    if let Err(error) = open_terminal(program, &mut state, control).and_then(|()| process::cloexec_from(3)) {
        give_up(List::Setup, program.setup.len().saturating_sub(1), error, control);
    }
    match clone::fork() {
        Err(error) => give_up(List::Start, 0, error, control),
        Ok(0) => {
            perform(&program.start, List::Start, program, &mut state, control);
            exit_now(1)
        }
        Ok(command) => init::serve(command, realm, control),
    }
}

/// Sends the launcher what it needs to look into the sandbox from outside: the root and the upper layer.
fn hand_over(state: &State, control: BorrowedFd<'_>) -> Result<(), CallError> {
    let (Some(root), Some(upper)) = (&state.root, &state.upper) else {
        return Err(CallError::mismatch(Call::mount));
    };
    fdpass::send(control, &Message::Ready.encode(), &[root.as_fd(), upper.as_fd()])
}

/// Makes the command's terminal, if it gets one, and sends its outer end out. It is opened in the mount of devpts itself,
/// where no command can put anything of its own.
fn open_terminal(program: &Program, state: &mut State, control: BorrowedFd<'_>) -> Result<(), CallError> {
    if matches!(program.streams, Streams::Terminal) {
        let pair = pty::open_pair(c"/dev/pts/ptmx")?;
        fdpass::send(control, &Message::Terminal.encode(), &[pair.master.as_fd()])?;
        state.terminal = Some(pair);
    }
    Ok(())
}

fn perform(ops: &[Op], list: List, program: &Program, state: &mut State, control: BorrowedFd<'_>) {
    let done = |count| {
        if let Some(steps) = &program.steps {
            steps.mark(list, count);
        }
    };
    done(0);
    for (index, op) in ops.iter().enumerate() {
        if let Err(error) = execute(op, program, state, control) {
            give_up(list, index, error, control);
        }
        done(index + 1);
    }
}

fn give_up(list: List, step: usize, error: CallError, control: BorrowedFd<'_>) -> ! {
    let message = Message::Failed { list, step: step as u16, error };
    // If this fails, the launcher sees the end of the socket and says that much.
    let _ = fdpass::send(control, &message.encode(), &[]);
    exit_now(1)
}

fn execute(op: &Op, program: &Program, state: &mut State, control: BorrowedFd<'_>) -> Result<(), CallError> {
    match op {
        Op::EnterGroup => enter_group(program),
        Op::MapIds { users, groups } => {
            // Without it the kernel takes no group map from an unprivileged writer (user_namespaces(7)).
            mount::write_file(c"/proc/self/setgroups", b"deny")?;
            mount::write_file(c"/proc/self/uid_map", users)?;
            mount::write_file(c"/proc/self/gid_map", groups)
        }
        Op::SetNames { host, domain } => ns::set_names(host, domain),
        Op::BringLoopbackUp => ns::loopback_up(),
        Op::JoinRelay => join_relay(control),
        Op::StartClocksAtZero { offsets } => {
            ns::unshare_time()?;
            mount::write_file(c"/proc/self/timens_offsets", offsets)
        }
        // The number is the net namespace's own: the first port that needs no capability (ip-sysctl.rst).
        Op::OpenLowPorts => mount::write_file(c"/proc/sys/net/ipv4/ip_unprivileged_port_start", b"0"),
        // The count is the new user namespace's own: it says how many its processes may nest (namespaces(7)).
        Op::ForbidUserNamespaces => mount::write_file(c"/proc/sys/user/max_user_namespaces", b"0"),
        Op::MakeMountsPrivate => mount::make_private(),
        Op::MountRoot(root) => mount_root(root, state),
        Op::Bind { source, target, expect, flags } => {
            let source = mount::open_source(source)?;
            check_identity(source.as_fd(), *expect)?;
            let target_fd = mount::open_target(root_of(state)?, target)?;
            let tree = mount::copy_tree(source.as_fd())?;
            mount::restrict_tree(tree.as_fd(), *flags)?;
            mount::attach(tree.as_fd(), target_fd.as_fd())?;
            let there = mount::open_target(root_of(state)?, target)?;
            check_identity(there.as_fd(), *expect)?;
            check_mount(there.as_fd(), *flags, None)
        }
        Op::Mount { kind, target, flags, options, magic } => {
            // The working directory is the new root; what stands at these names is our own skeleton.
            let before = mount::open_target(root_of(state)?, target)?;
            drop(before);
            mount::mount(kind, target, *flags, options)?;
            let there = mount::open_target(root_of(state)?, target)?;
            check_mount(there.as_fd(), *flags, *magic)
        }
        Op::EnterRoot => mount::enter_root(),
        Op::SetUmask => {
            process::set_umask(0o022);
            Ok(())
        }
        Op::Limit { resource, soft, hard } => process::set_limit(*resource, *soft, *hard),
        Op::JoinOwnKeyring => process::own_keyring(),
        Op::ForbidNewPrivileges => process::no_new_privileges(),
        Op::DropCapabilities => process::drop_capabilities(),
        Op::HideInit => {
            if let Some(area) = program.own_arguments {
                area.overwrite(INIT_NAME.to_bytes());
            }
            process::set_name(INIT_NAME)?;
            process::undumpable()
        }
        Op::FilterCalls(filter) => seccomp::install(filter),
        Op::Landlock { own_sockets } => landlock::restrict(*own_sockets),
        Op::BeginSession => process::new_session(),
        Op::TakeTerminal => match &state.terminal {
            Some(pair) => {
                pty::take(pair.slave.as_fd())?;
                (0..3).try_for_each(|stream| process::place(pair.slave.as_fd(), stream))
            }
            None => Err(CallError::mismatch(Call::ioctl)),
        },
        Op::PlaceStreams => place_streams(&program.streams),
        Op::FixAddresses => process::fixed_addresses(),
        Op::EnterDirectory(path) => mount::change_directory(path),
        Op::ResetSignals => process::default_signals(),
        // On exec, so that a failure of exec can still be told.
        Op::CloseDescriptors => process::cloexec_from(3),
        Op::Execute => Err(execute_command(program)),
    }
}

/// A pipe of its own for the answer: the control socket may bring the first signals meanwhile, which are the command's.
fn join_relay(control: BorrowedFd<'_>) -> Result<(), CallError> {
    let user = mount::open_file(c"/proc/self/ns/user", false)?;
    let net = mount::open_file(c"/proc/self/ns/net", false)?;
    let (answer, reply) = process::pipe()?;
    fdpass::send(control, &Message::Network.encode(), &[user.as_fd(), net.as_fd(), reply.as_fd()])?;
    drop(reply);
    match process::read_byte(answer.as_fd())? {
        Some(GO) => Ok(()),
        _ => Err(CallError::mismatch(Call::read)),
    }
}

/// clone3 has put us into one of version 2 already; into those of version 1 we go by ourselves.
fn enter_group(program: &Program) -> Result<(), CallError> {
    let group = program.group.as_ref().ok_or(CallError::mismatch(Call::clone3))?;
    if group.directory().is_none() {
        group.join()?;
    }
    ns::unshare_cgroup()
}

fn root_of(state: &State) -> Result<BorrowedFd<'_>, CallError> {
    state.root.as_ref().map(AsFd::as_fd).ok_or(CallError::mismatch(Call::mount))
}

fn mount_root(root: &RootMount, state: &mut State) -> Result<(), CallError> {
    let open = MountFlags { read_only: false, no_devices: true, no_exec: false };
    mount::change_directory(&root.store)?;
    if let Some(options) = &root.memory {
        mount::mount(c"tmpfs", &root.place, open, options)?;
        mount::make_directory(&root.work)?;
        mount::make_directory(&root.upper)?;
        mount::change_mode(&root.upper, 0o755)?;
        mount::make_directory(&root.tmp)?;
        mount::change_mode(&root.tmp, 0o1777)?;
    }
    // Found by its name only until the root is mounted over it.
    state.upper = Some(mount::open_directory(&root.upper)?);
    mount::mount(c"overlay", &root.place, open, &root.options)?;
    let there = mount::open_directory(&root.place)?;
    check_mount(there.as_fd(), open, Some(mount::OVERLAY_MAGIC))?;
    mount::change_directory_to(there.as_fd())?;
    state.root = Some(there);
    Ok(())
}

/// Stops the run when a place is not what the plan was made for.
fn check_identity(place: BorrowedFd<'_>, expect: Expect) -> Result<(), CallError> {
    let found = mount::identify(place)?;
    let same = match expect {
        Expect::Same { device, inode, directory: _ } => found.device == device && found.inode == inode,
        Expect::CharacterDevice { major, minor } => found.is_character_device(major, minor),
    };
    if same { Ok(()) } else { Err(CallError::mismatch(Call::fstat)) }
}

/// Reads the mount's state back from the kernel and stops the run when it is weaker than asked for.
fn check_mount(place: BorrowedFd<'_>, wanted: MountFlags, magic: Option<i64>) -> Result<(), CallError> {
    let found = mount::mounted(place)?;
    let strong = found.no_setuid
        && (found.flags.read_only || !wanted.read_only)
        && (found.flags.no_devices || !wanted.no_devices)
        && (found.flags.no_exec || !wanted.no_exec)
        && magic.is_none_or(|magic| found.magic == magic);
    if strong { Ok(()) } else { Err(CallError::mismatch(Call::fstatfs)) }
}

fn place_streams(streams: &Streams) -> Result<(), CallError> {
    let Streams::Pipes { stdin, stdout, stderr } = streams else { return Err(CallError::mismatch(Call::dup2)) };
    match stdin {
        Some(pipe) => process::place(pipe.as_fd(), 0)?,
        None => process::place(mount::open_file(c"/dev/null", false)?.as_fd(), 0)?,
    }
    process::place(stdout.as_fd(), 1)?;
    process::place(stderr.as_fd(), 2)
}

/// Tries the candidates as execvp(3) does: the first that is there decides, except that one without permission lets
/// the search go on and is reported if nothing better comes.
fn execute_command(program: &Program) -> CallError {
    let mut worst = CallError { call: Call::execve, errno: Errno::ENOENT };
    for path in &program.candidates {
        let error = process::execute(path, &program.arguments, &program.environment);
        match error.errno {
            Errno::ENOENT | Errno::ENOTDIR => {}
            Errno::EACCES => worst = error,
            _ => return error,
        }
    }
    worst
}
