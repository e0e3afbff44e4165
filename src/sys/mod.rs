//! The only door to the kernel: nothing outside of this module imports `libc`, `nix` or `rustix`, and nothing outside
//! of it is `unsafe`. It imports nothing of sbx.

pub mod beneath;
pub mod caller;
pub mod cgroup;
pub mod clone;
pub mod datagram;
pub mod door;
pub mod epoll;
pub mod errno;
pub mod event;
pub mod fdpass;
pub mod files;
pub mod inside;
pub mod landlock;
pub mod local;
pub mod mapping;
mod math;
pub mod mount;
pub mod netlink;
pub mod ns;
pub mod probe;
pub mod proc;
pub mod process;
pub mod pty;
pub mod seccomp;
pub mod socket;
pub mod sparse;
pub mod splice;
pub mod stream;
pub mod terminal;
pub mod thread;
