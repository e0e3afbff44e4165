//! Landlock: what a process gives up for itself (landlock(7)).
#![expect(unsafe_code, reason = "the three calls have no wrapper that is free of allocation")]

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::errno::{Call, CallError, check};
use super::mount;

/// `struct landlock_ruleset_attr`; an older kernel takes one without the later fields as long as they are zero.
#[repr(C)]
struct Ruleset {
    files: u64,
    network: u64,
    scoped: u64,
}

/// `struct landlock_path_beneath_attr`, packed as the kernel has it.
#[repr(C, packed)]
struct Beneath {
    allowed: u64,
    parent: i32,
}

const CREATE_RULESET_VERSION: u32 = 1;
const RULE_PATH_BENEATH: u32 = 1;
const MAKE_CHARACTER_DEVICE: u64 = 1 << 6;
const MAKE_BLOCK_DEVICE: u64 = 1 << 11;
/// To rename and link across directories: refused to whoever is restricted at all and has no rule for it.
const REFER: u64 = 1 << 13;
const SCOPE_ABSTRACT_SOCKETS: u64 = 1;

/// The version of the kernel's Landlock; 0 where there is none, or it is switched off.
pub fn version() -> u32 {
    // SAFETY: with this flag and no attributes the call only asks.
    let version = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<Ruleset>(), 0_usize, CREATE_RULESET_VERSION)
    };
    u32::try_from(version).unwrap_or(0)
}

/// The calling process and all that it starts can make no device nodes, mount and unmount nothing, and trace nobody outside;
/// with `own_sockets` it can't connect to abstract Unix sockets from outside either (version 6). no_new_privs must be set.
/// Allocates nothing.
///
/// # Errors
/// As landlock_create_ruleset(2), landlock_add_rule(2), landlock_restrict_self(2).
pub fn restrict(own_sockets: bool) -> Result<(), CallError> {
    let scoped = if own_sockets { SCOPE_ABSTRACT_SOCKETS } else { 0 };
    let ruleset = Ruleset { files: MAKE_CHARACTER_DEVICE | MAKE_BLOCK_DEVICE | REFER, network: 0, scoped };
    let size = size_of::<Ruleset>();
    // SAFETY: the attributes have the kernel's layout and the size passed, and live through the call.
    let fd = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &raw const ruleset, size, 0_u32) };
    let fd = check(Call::landlock_create_ruleset, fd)?;
    // SAFETY: a new descriptor for us alone.
    let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    let root = mount::open_directory(c"/")?;
    let rule = Beneath { allowed: REFER, parent: root.as_raw_fd() };
    // SAFETY: the rule has the kernel's layout, both descriptors are open, and the call copies the rule.
    let added = unsafe {
        libc::syscall(libc::SYS_landlock_add_rule, fd.as_raw_fd(), RULE_PATH_BENEATH, &raw const rule, 0_u32)
    };
    check(Call::landlock_add_rule, added)?;
    // SAFETY: the descriptor is open for the duration of the call.
    check(Call::landlock_restrict_self, unsafe {
        libc::syscall(libc::SYS_landlock_restrict_self, fd.as_raw_fd(), 0_u32)
    })
    .map(drop)
}
