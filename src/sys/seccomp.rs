//! System call filters (seccomp(2)).
#![expect(unsafe_code, reason = "the filter's installation has no wrapper")]

use super::errno::{Call, CallError, check};
use super::process::UNUSED;

/// One instruction of a filter (`struct sock_filter` of linux/filter.h).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// How many instructions to skip when a condition holds.
    pub jump_true: u8,
    /// How many to skip when it does not.
    pub jump_false: u8,
    /// A number.
    pub value: u32,
}

/// `struct sock_fprog`
#[repr(C)]
struct Program {
    length: u16,
    instructions: *const Instruction,
}

/// Puts the calling process and all that it starts behind a filter, for good. Allocates nothing.
///
/// # Errors
/// EACCES without no_new_privs, EINVAL for what is no program, ENOSYS and EINVAL where the kernel has no filters; EBADE when
/// the kernel does not say that there is one then.
pub fn install(filter: &[Instruction]) -> Result<(), CallError> {
    let length = u16::try_from(filter.len()).map_err(|_| CallError::mismatch(Call::seccomp))?;
    let program = Program { length, instructions: filter.as_ptr() };
    let mode = libc::SECCOMP_SET_MODE_FILTER;
    // SAFETY: the program and its instructions have the kernel's layout and live through the call, which copies them.
    check(Call::seccomp, unsafe { libc::syscall(libc::SYS_seccomp, mode, 0, &raw const program) })?;
    // SAFETY: the option takes no argument.
    match unsafe { libc::prctl(libc::PR_GET_SECCOMP, UNUSED, UNUSED, UNUSED, UNUSED) } {
        2 => Ok(()),
        _ => Err(CallError::mismatch(Call::seccomp)),
    }
}
