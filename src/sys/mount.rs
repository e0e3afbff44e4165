//! Mounts, as a child may make them: no allocation, every path a C string made beforehand.
#![expect(unsafe_code, reason = "mount_setattr has no wrapper, and the wrappers of the others allocate for paths")]

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::errno::{Call, CallError, check};

/// The flags of mount(2) and mount_setattr(2) that sbx uses; nosuid is always set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MountFlags {
    /// No writing through this mount.
    pub read_only: bool,
    /// Device nodes have no effect.
    pub no_devices: bool,
    /// Nothing can be executed.
    pub no_exec: bool,
}

impl MountFlags {
    fn classic(self) -> libc::c_ulong {
        libc::MS_NOSUID
            | if self.read_only { libc::MS_RDONLY } else { 0 }
            | if self.no_devices { libc::MS_NODEV } else { 0 }
            | if self.no_exec { libc::MS_NOEXEC } else { 0 }
    }

    fn attributes(self) -> u64 {
        libc::MOUNT_ATTR_NOSUID
            | if self.read_only { libc::MOUNT_ATTR_RDONLY } else { 0 }
            | if self.no_devices { libc::MOUNT_ATTR_NODEV } else { 0 }
            | if self.no_exec { libc::MOUNT_ATTR_NOEXEC } else { 0 }
    }
}

/// Mounts a new file system of type `kind` (always nosuid).
///
/// # Errors
/// As mount(2).
pub fn mount(kind: &CStr, target: &CStr, flags: MountFlags, options: &CStr) -> Result<(), CallError> {
    // SAFETY: all four are valid C strings for the duration of the call.
    let result =
        unsafe { libc::mount(kind.as_ptr(), target.as_ptr(), kind.as_ptr(), flags.classic(), options.as_ptr().cast()) };
    check(Call::mount, result.into()).map(drop)
}

/// Cuts the whole mount tree off from its peers: nothing mounted here shows elsewhere, nor the reverse.
///
/// # Errors
/// As mount(2).
pub fn make_private() -> Result<(), CallError> {
    // SAFETY: source, type and data are unused with these flags and may be null.
    let result = unsafe {
        libc::mount(
            std::ptr::null(),
            c"/".as_ptr(),
            std::ptr::null(),
            libc::MS_REC | libc::MS_PRIVATE,
            std::ptr::null(),
        )
    };
    check(Call::mount, result.into()).map(drop)
}

/// A detached recursive copy of the mount tree at what `source` refers to.
///
/// # Errors
/// As open_tree(2); EINVAL when `source` is not in the caller's mount namespace.
pub fn copy_tree(source: BorrowedFd<'_>) -> Result<OwnedFd, CallError> {
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | (libc::AT_RECURSIVE | libc::AT_EMPTY_PATH) as u32;
    // SAFETY: the descriptor is open and the path is an empty C string.
    let fd =
        check(Call::open_tree, unsafe { libc::syscall(libc::SYS_open_tree, source.as_raw_fd(), c"".as_ptr(), flags) })?;
    // SAFETY: a new descriptor of ours.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Sets `flags` on every mount of a detached tree, and makes it private. It is all or nothing: the kernel checks every
/// mount of the tree before it changes one (mount_setattr(2)).
///
/// # Errors
/// As mount_setattr(2).
pub fn restrict_tree(tree: BorrowedFd<'_>, flags: MountFlags) -> Result<(), CallError> {
    let attributes =
        libc::mount_attr { attr_set: flags.attributes(), attr_clr: 0, propagation: libc::MS_PRIVATE, userns_fd: 0 };
    // SAFETY: the structure is initialised and of the size passed; the path is an empty C string.
    check(Call::mount_setattr, unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            &raw const attributes,
            size_of_val(&attributes),
        )
    })
    .map(drop)
}

/// Attaches a detached tree onto exactly the place that `target` refers to; no path is looked up.
///
/// # Errors
/// As move_mount(2).
pub fn attach(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), CallError> {
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: both descriptors are open, both paths are empty C strings.
    check(Call::move_mount, unsafe {
        libc::syscall(libc::SYS_move_mount, tree.as_raw_fd(), c"".as_ptr(), target.as_raw_fd(), c"".as_ptr(), flags)
    })
    .map(drop)
}

/// Makes the working directory the root and takes the old root away with everything below it.
///
/// With both arguments `.`, pivot_root(2) stacks the old root on the new one; the umount then peels it off.
///
/// # Errors
/// As pivot_root(2), umount2(2).
pub fn enter_root() -> Result<(), CallError> {
    // SAFETY: both paths are constant C strings.
    check(Call::pivot_root, unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) })?;
    // SAFETY: the path is a constant C string.
    check(Call::umount2, unsafe { libc::umount2(c".".as_ptr(), libc::MNT_DETACH) }.into())?;
    change_directory(c"/")
}

/// chdir(2)
///
/// # Errors
/// As chdir(2).
pub fn change_directory(path: &CStr) -> Result<(), CallError> {
    // SAFETY: a valid C string.
    check(Call::chdir, unsafe { libc::chdir(path.as_ptr()) }.into()).map(drop)
}

/// fchdir(2)
///
/// # Errors
/// As fchdir(2).
pub fn change_directory_to(directory: BorrowedFd<'_>) -> Result<(), CallError> {
    // SAFETY: an open descriptor.
    check(Call::fchdir, unsafe { libc::fchdir(directory.as_raw_fd()) }.into()).map(drop)
}

/// mkdirat(2) relative to the working directory, mode 0700.
///
/// # Errors
/// As mkdirat(2).
pub fn make_directory(path: &CStr) -> Result<(), CallError> {
    // SAFETY: a valid C string.
    check(Call::mkdirat, unsafe { libc::mkdirat(libc::AT_FDCWD, path.as_ptr(), 0o700) }.into()).map(drop)
}

/// chmod(2)
///
/// # Errors
/// As chmod(2).
pub fn change_mode(path: &CStr, mode: u32) -> Result<(), CallError> {
    // SAFETY: a valid C string.
    check(Call::chmod, unsafe { libc::chmod(path.as_ptr(), mode) }.into()).map(drop)
}

fn openat2(directory: i32, path: &CStr, flags: i32, resolve: u64) -> Result<OwnedFd, CallError> {
    // SAFETY: open_how is plain integers, for which zero is the documented default.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (flags | libc::O_CLOEXEC) as u64;
    how.resolve = resolve;
    // SAFETY: the path is a valid C string, the structure is initialised and of the size passed.
    let fd = check(Call::openat2, unsafe {
        libc::syscall(libc::SYS_openat2, directory, path.as_ptr(), &raw const how, size_of_val(&how))
    })?;
    // SAFETY: a new descriptor of ours.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Opens a place on the host by its canonical path; a symbolic link anywhere in it is ELOOP, so what a caller checked
/// can't be swapped for a link afterwards.
///
/// # Errors
/// As openat2(2).
pub fn open_source(path: &CStr) -> Result<OwnedFd, CallError> {
    openat2(libc::AT_FDCWD, path, libc::O_PATH, libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS)
}

/// Opens a place below `root`, never outside of it, never through a symbolic link. `path` is relative.
///
/// # Errors
/// As openat2(2).
pub fn open_target(root: BorrowedFd<'_>, path: &CStr) -> Result<OwnedFd, CallError> {
    openat2(
        root.as_raw_fd(),
        path,
        libc::O_PATH,
        libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS,
    )
}

/// Opens a directory for reading its entries, relative to the working directory.
///
/// # Errors
/// As open(2).
pub fn open_directory(path: &CStr) -> Result<OwnedFd, CallError> {
    open(path, libc::O_RDONLY | libc::O_DIRECTORY)
}

/// Opens a file to read (`write == false`) or to read and write, relative to the working directory.
///
/// # Errors
/// As open(2).
pub fn open_file(path: &CStr, write: bool) -> Result<OwnedFd, CallError> {
    open(path, if write { libc::O_RDWR } else { libc::O_RDONLY } | libc::O_NOCTTY)
}

fn open(path: &CStr, flags: i32) -> Result<OwnedFd, CallError> {
    // SAFETY: a valid C string.
    let fd = check(Call::open, unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC) }.into())?;
    // SAFETY: a new descriptor of ours.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Writes all of `bytes` into an existing file in one call (what `/proc` files need).
///
/// # Errors
/// As open(2), write(2); a short write counts as EBADE.
pub fn write_file(path: &CStr, bytes: &[u8]) -> Result<(), CallError> {
    let fd = open(path, libc::O_WRONLY)?;
    // SAFETY: the buffer is valid for its length.
    let written =
        check(Call::write, unsafe { libc::write(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) } as libc::c_long)?;
    if usize::try_from(written) == Ok(bytes.len()) { Ok(()) } else { Err(CallError::mismatch(Call::write)) }
}

/// What fstat(2) says of a place; enough to recognise it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// `st_dev`
    pub device: u64,
    /// `st_ino`
    pub inode: u64,
    /// The device a special file stands for, `st_rdev`.
    pub special: u64,
    /// `st_mode`
    pub mode: u32,
}

impl Identity {
    /// Whether it is the character device with these numbers.
    pub fn is_character_device(self, major: u32, minor: u32) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFCHR && self.special == libc::makedev(major, minor)
    }
}

/// fstat(2)
///
/// # Errors
/// As fstat(2).
pub fn identify(fd: BorrowedFd<'_>) -> Result<Identity, CallError> {
    // SAFETY: stat is plain integers; fstat fills it.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: an open descriptor and a valid place for the result.
    check(Call::fstat, unsafe { libc::fstat(fd.as_raw_fd(), &raw mut stat) }.into())?;
    Ok(Identity { device: stat.st_dev, inode: stat.st_ino, special: stat.st_rdev, mode: stat.st_mode })
}

/// What the kernel says a mount is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mounted {
    /// The file system's magic number (statfs(2)).
    pub magic: i64,
    /// Its flags.
    pub flags: MountFlags,
    /// Whether setuid bits have no effect.
    pub no_setuid: bool,
}

/// Magic number of procfs.
pub const PROC_MAGIC: i64 = libc::PROC_SUPER_MAGIC;
/// Magic number of overlayfs.
pub const OVERLAY_MAGIC: i64 = libc::OVERLAYFS_SUPER_MAGIC;

/// Reads back the state of the mount that `fd` lies on.
///
/// # Errors
/// As fstatfs(2).
pub fn mounted(fd: BorrowedFd<'_>) -> Result<Mounted, CallError> {
    // SAFETY: statfs is plain integers; fstatfs fills it.
    let mut stat: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: an open descriptor and a valid place for the result.
    check(Call::fstatfs, unsafe { libc::fstatfs(fd.as_raw_fd(), &raw mut stat) }.into())?;
    // SAFETY: statvfs is plain integers; fstatvfs fills it.
    let mut view: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: an open descriptor and a valid place for the result; libc's version only copies what fstatfs returns.
    check(Call::fstatfs, unsafe { libc::fstatvfs(fd.as_raw_fd(), &raw mut view) }.into())?;
    let has = |flag: libc::c_ulong| view.f_flag & flag != 0;
    Ok(Mounted {
        magic: stat.f_type,
        flags: MountFlags {
            read_only: has(libc::ST_RDONLY),
            no_devices: has(libc::ST_NODEV),
            no_exec: has(libc::ST_NOEXEC),
        },
        no_setuid: has(libc::ST_NOSUID),
    })
}
