//! The `sbx` binary: parse, run, exit code.
#![cfg_attr(target_env = "gnu", no_main)]

/// Rust's own start reads `/proc/self/maps` first, to tell an overflow of the main thread's stack from other faults: 0.1 ms of
/// each launch, for words in place of a plain SIGSEGV. Without it only glibc has the arguments ready for `std::env`.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "the name that the C library starts; no other function of sbx has it")]
#[unsafe(no_mangle)]
extern "C" fn main() -> std::ffi::c_int {
    std::process::exit(sbx::cli::main().into())
}

#[cfg(not(target_env = "gnu"))]
fn main() -> std::process::ExitCode {
    sbx::cli::main().into()
}
