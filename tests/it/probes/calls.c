/* System calls as a program of the kernel's attackers makes them, past the C library.
 *
 * calls NAME [ARG...]  the call of that name on this machine, arguments as numbers (0x..) or texts (s:...)
 * calls nr:NUMBER [ARG...]  the call of that number
 * calls int80 NUMBER   a 32-bit call (x86-64 only)
 * calls trace-init     ptrace(2) of PID 1
 * calls self-trace     ptrace(2) of a child of one's own
 *
 * Each prints one line: "ok", or the name of the errno. A call that makes a process ends it at once.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define CALL(name) { #name, SYS_##name }
static const struct {
    const char *name;
    long number;
} names[] = {
    CALL(add_key), CALL(bpf), CALL(chroot), CALL(clock_settime), CALL(clone), CALL(clone3), CALL(delete_module),
    CALL(fsopen), CALL(getpid), CALL(init_module), CALL(ioctl), CALL(io_uring_setup), CALL(kexec_load), CALL(keyctl), CALL(kill),
    CALL(landlock_create_ruleset), CALL(mknodat), CALL(mount), CALL(mount_setattr), CALL(move_mount),
    CALL(open_by_handle_at), CALL(open_tree), CALL(perf_event_open), CALL(pidfd_getfd), CALL(pidfd_open), CALL(pivot_root),
    CALL(quotactl), CALL(reboot), CALL(request_key), CALL(setdomainname), CALL(sethostname), CALL(setns), CALL(setpriority),
    CALL(socket), CALL(socketpair), CALL(swapon), CALL(syslog), CALL(umount2), CALL(unshare), CALL(userfaultfd),
};

static int say(long result)
{
    puts(result == -1 ? strerrorname_np(errno) : "ok");
    return 0;
}

static long value(const char *text)
{
    return strncmp(text, "s:", 2) == 0 ? (long)(text + 2) : (long)strtoull(text, NULL, 0);
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return 2;
    if (strcmp(argv[1], "trace-init") == 0)
        return say(ptrace(PTRACE_ATTACH, 1, 0, 0));
    if (strcmp(argv[1], "self-trace") == 0) {
        pid_t child = fork();
        if (child == 0) {
            pause();
            _exit(0);
        }
        long result = ptrace(PTRACE_ATTACH, child, 0, 0);
        int error = errno;
        kill(child, SIGKILL);
        errno = error;
        return say(result);
    }
#ifdef __x86_64__
    if (strcmp(argv[1], "int80") == 0 && argc > 2) {
        long result = strtol(argv[2], NULL, 0);
        __asm__ volatile("int $0x80" : "+a"(result) : "b"(0), "c"(0), "d"(0) : "memory", "r8", "r9", "r10", "r11");
        result = (int)result;
        errno = (int)-result;
        return say(result < 0 ? -1 : 0);
    }
#endif
    long number = -1, args[6] = { 0 };
    if (strncmp(argv[1], "nr:", 3) == 0)
        number = strtol(argv[1] + 3, NULL, 0);
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(argv[1], names[i].name) == 0)
            number = names[i].number;
    if (number == -1) {
        fprintf(stderr, "calls: unknown call %s\n", argv[1]);
        return 2;
    }
    for (int i = 0; i < 6 && i + 2 < argc; i++)
        args[i] = value(argv[i + 2]);
    pid_t own = getpid();
    long result = syscall(number, args[0], args[1], args[2], args[3], args[4], args[5]);
    if (getpid() != own)
        _exit(0);
    return say(result);
}
