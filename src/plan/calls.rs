//! Which system calls a command may make: an allow list by name.
//!
//! What is on neither list, with every number that no kernel has yet, is answered as by a kernel that lacks it, so that
//! libraries fall back as they do on older ones. What a build has no use for is refused by name: it is there and not allowed.

use std::str::FromStr;

pub use crate::config::model::Calls;

/// All calls have lower numbers.
pub const NUMBERS: usize = 512;

/// The answer to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The kernel makes it.
    Allow,
    /// EPERM.
    Refuse,
    /// ENOSYS.
    Unknown,
    /// It depends on an argument.
    Check(Check),
}

/// What an argument decides. Only the lower 32 bits of one count, for the kernel looks at no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// The first argument asks for no new namespace (clone(2), unshare(2)).
    NoNewNamespace,
    /// The second argument is not one that puts input into a terminal: TIOCSTI, and TIOCLINUX by which the console pastes.
    NoTerminalInput,
    /// The first argument is a family that a build can use: AF_UNIX, AF_INET, AF_INET6, and AF_NETLINK with the third argument
    /// NETLINK_ROUTE.
    Family,
    /// This argument (counted from 0) is not the mode of a device.
    NoDevice(u8),
    /// The first argument is KEYCTL_JOIN_SESSION_KEYRING.
    NewKeyring,
}

/// A kind of machine: what its calls are called by the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machine {
    /// x86-64. Its 32-bit calls, and those of x32, are of another machine.
    X86_64,
    /// AArch64.
    Aarch64,
}

impl Machine {
    /// The one that this is.
    #[cfg(target_arch = "x86_64")]
    pub const OWN: Self = Self::X86_64;
    /// The one that this is.
    #[cfg(target_arch = "aarch64")]
    pub const OWN: Self = Self::Aarch64;

    /// What the kernel calls it in a filter (`AUDIT_ARCH_*` of linux/audit.h).
    pub fn audit(self) -> u32 {
        match self {
            Self::X86_64 => 0xc000_003e,
            Self::Aarch64 => 0xc000_00b7,
        }
    }

    /// Its number for the call of that name, if it has the call.
    pub fn number(self, name: &str) -> Option<usize> {
        let number = match self {
            Self::X86_64 => syscalls::x86_64::Sysno::from_str(name).ok().map(|call| call.id()),
            Self::Aarch64 => syscalls::aarch64::Sysno::from_str(name).ok().map(|call| call.id()),
        };
        number.and_then(|number| usize::try_from(number).ok())
    }

    /// The answers to its calls by number; all higher numbers are [`Answer::Unknown`].
    pub fn answers(self, calls: &Calls) -> [Answer; NUMBERS] {
        let mut answers = match self {
            Self::X86_64 => const { answers!(x86_64) },
            Self::Aarch64 => const { answers!(aarch64) },
        };
        let nested =
            NESTED.iter().map(|name| (*name, Answer::Allow)).chain([("keyctl", Answer::Check(Check::NewKeyring))]);
        let allowed = calls.allow.iter().map(|name| (name.as_str(), Answer::Allow));
        // What comes later decides.
        for (name, answer) in nested.filter(|_| calls.nested).chain(allowed) {
            if let Some(number) = self.number(name) {
                answers[number] = answer;
            }
        }
        answers
    }
}

/// What stands on the lists, by number: found out by the compiler, or every launch would pay for it.
macro_rules! answers {
    ($machine:ident) => {{
        assert!(syscalls::$machine::Sysno::table_size() <= NUMBERS);
        let mut answers = [Answer::Unknown; NUMBERS];
        let mut number = 0;
        while number < NUMBERS {
            if let Some(call) = syscalls::$machine::Sysno::new(number) {
                answers[number] = listed(call.name());
            }
            number += 1;
        }
        answers
    }};
}
use answers;

const fn listed(name: &str) -> Answer {
    let mut index = 0;
    while index < CHECKED.len() {
        if is_same(CHECKED[index].0, name) {
            return Answer::Check(CHECKED[index].1);
        }
        index += 1;
    }
    if holds(ALLOWED, name) {
        Answer::Allow
    } else if holds(REFUSED, name) {
        Answer::Refuse
    } else {
        Answer::Unknown
    }
}

const fn holds(names: &[&str], name: &str) -> bool {
    let mut index = 0;
    while index < names.len() {
        if is_same(names[index], name) {
            return true;
        }
        index += 1;
    }
    false
}

const fn is_same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    if one.len() != other.len() {
        return false;
    }
    let mut index = 0;
    while index < one.len() {
        if one[index] != other[index] {
            return false;
        }
        index += 1;
    }
    true
}

/// Words as texts.
macro_rules! names {
    ($($name:ident)*) => { &[$(stringify!($name)),*] };
}

/// What a new namespace costs a sandbox: a command that made one would have every capability in it.
const CHECKED: [(&str, Check); 7] = [
    ("clone", Check::NoNewNamespace),
    ("unshare", Check::NoNewNamespace),
    ("ioctl", Check::NoTerminalInput),
    ("socket", Check::Family),
    ("socketpair", Check::Family),
    ("mknod", Check::NoDevice(1)),
    ("mknodat", Check::NoDevice(2)),
];

/// What bubblewrap, unshare(1) and sbx itself need inside. The flags of clone3 stand behind a pointer, where no filter can look:
/// it is one of these, or unknown.
const NESTED: &[&str] = names![
    chroot clone clone3 fsconfig fsmount fsopen fspick mount mount_setattr move_mount open_tree open_tree_attr
    pivot_root setdomainname sethostname setns umount2 unshare
];

/// What a build has no use for, and the kernel's attackers have had: modules, kexec, BPF, performance counters, page faults
/// handled by the command, keyrings, mounts, namespaces, io_uring, quotas, swap, clocks, other processes' descriptors and
/// memory policy, files by handle.
const REFUSED: &[&str] = names![
    acct add_key adjtimex bpf chroot clock_adjtime clock_settime delete_module fanotify_init fanotify_mark
    finit_module fsconfig fsmount fsopen fspick init_module io_uring_enter io_uring_register io_uring_setup ioperm
    iopl kcmp kexec_file_load kexec_load keyctl lookup_dcookie migrate_pages modify_ldt mount mount_setattr
    move_mount move_pages nfsservctl open_by_handle_at open_tree open_tree_attr perf_event_open pidfd_getfd
    pivot_root process_madvise quotactl quotactl_fd reboot request_key setdomainname sethostname setns settimeofday
    swapoff swapon syslog umount2 uselib userfaultfd ustat vhangup
];

/// What programs are made of.
const ALLOWED: &[&str] = names![
    accept accept4 access alarm arch_prctl bind brk cachestat capget capset chdir chmod chown clock_getres
    clock_gettime clock_nanosleep close close_range connect copy_file_range creat dup dup2 dup3 epoll_create
    epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2 execve execveat exit exit_group
    faccessat faccessat2 fadvise64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchownat fcntl fdatasync
    fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstatat fstatfs fsync ftruncate futex futex_requeue
    futex_wait futex_waitv futex_wake futimesat get_mempolicy get_robust_list get_thread_area getcpu getcwd getdents
    getdents64 getegid geteuid getgid getgroups getitimer getpeername getpgid getpgrp getpid getppid getpriority
    getrandom getresgid getresuid getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid
    getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy
    io_getevents io_pgetevents io_setup io_submit ioprio_get ioprio_set kill landlock_add_rule
    landlock_create_ruleset landlock_restrict_self lchown lgetxattr link linkat listen listxattr listxattrat
    llistxattr lremovexattr lseek lsetxattr lstat madvise map_shadow_stack mbind membarrier memfd_create
    memfd_secret mincore mkdir mkdirat mlock mlock2 mlockall mmap mprotect mq_getsetattr mq_notify mq_open
    mq_timedreceive mq_timedsend mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap
    name_to_handle_at nanosleep newfstatat open openat openat2 pause personality pidfd_open pidfd_send_signal pipe
    pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll prctl pread64 preadv preadv2 prlimit64 process_mrelease
    process_vm_readv process_vm_writev pselect6 ptrace pwrite64 pwritev pwritev2 read readahead readlink readlinkat
    readv recvfrom recvmmsg recvmsg remap_file_pages removexattr removexattrat rename renameat renameat2
    restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend
    rt_sigtimedwait rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr
    sched_getparam sched_getscheduler sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam
    sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop sendfile sendmmsg sendmsg sendto
    set_mempolicy set_mempolicy_home_node set_robust_list set_thread_area set_tid_address setfsgid setfsuid setgid
    setgroups setitimer setpgid setpriority setregid setresgid setresuid setreuid setrlimit setsid setsockopt setuid
    setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 splice stat statfs statx
    symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun
    timer_gettime timer_settime timerfd_create timerfd_gettime timerfd_settime times tkill truncate umask uname
    unlink unlinkat uretprobe utime utimensat utimes vfork vmsplice wait4 waitid write writev
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const MACHINES: [Machine; 2] = [Machine::X86_64, Machine::Aarch64];

    #[test]
    fn every_name_is_one_and_stands_on_one_list() {
        let checked = CHECKED.map(|(name, _)| name);
        let all: Vec<&str> = [ALLOWED, REFUSED, &checked].concat();
        for name in all.iter().chain(NESTED) {
            assert!(MACHINES.iter().any(|machine| machine.number(name).is_some()), "{name} is no call");
        }
        let distinct: BTreeSet<&str> = all.iter().copied().collect();
        assert_eq!(distinct.len(), all.len());
        assert!(ALLOWED.is_sorted() && REFUSED.is_sorted());
    }

    #[test]
    fn numbers_are_the_kernel_s() {
        // asm/unistd_64.h and asm-generic/unistd.h
        let numbers = [("read", 0, 63), ("clone", 56, 220), ("ioctl", 16, 29), ("clone3", 435, 435), ("bpf", 321, 280)];
        for (name, x86_64, aarch64) in numbers {
            assert_eq!(Machine::X86_64.number(name), Some(x86_64), "{name}");
            assert_eq!(Machine::Aarch64.number(name), Some(aarch64), "{name}");
        }
        assert_eq!((Machine::X86_64.number("open"), Machine::Aarch64.number("open")), (Some(2), None));
    }

    #[test]
    fn what_is_asked_for_comes_on_top() {
        let answer = |calls: &Calls, name| Machine::X86_64.answers(calls)[Machine::X86_64.number(name).unwrap()];
        let none = Calls::default();
        assert_eq!(answer(&none, "io_uring_setup"), Answer::Refuse);
        assert_eq!(answer(&none, "clone3"), Answer::Unknown);
        assert_eq!(answer(&none, "clone"), Answer::Check(Check::NoNewNamespace));
        let one = Calls { allow: ["io_uring_setup".to_owned()].into(), ..Calls::default() };
        assert_eq!((answer(&one, "io_uring_setup"), answer(&one, "bpf")), (Answer::Allow, Answer::Refuse));
        let nested = Calls { nested: true, ..Calls::default() };
        for name in ["clone", "clone3", "unshare", "setns", "mount", "pivot_root"] {
            assert_eq!(answer(&nested, name), Answer::Allow, "{name}");
        }
        assert_eq!(answer(&nested, "keyctl"), Answer::Check(Check::NewKeyring));
        assert_eq!(answer(&nested, "bpf"), Answer::Refuse);
    }
}
