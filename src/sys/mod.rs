//! The only door to the kernel: nothing outside of this module imports `libc`, `nix` or `rustix`, and nothing outside
//! of it is `unsafe`. It imports nothing of sbx.

pub mod beneath;
pub mod caller;
pub mod files;
