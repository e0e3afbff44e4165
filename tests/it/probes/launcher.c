/* Starts a program the way an odd caller would: launcher HOW... -- PROGRAM [ARG...]
 *
 *   sigchld-ignored     SIGCHLD is SIG_IGN
 *   all-blocked         every signal is blocked
 *   closed=N            descriptor N is closed
 *   open=N:PATH         PATH is open (read-only) as descriptor N
 *   deny=CALL:ERRNO     the system call fails with this errno (a name), for this process and its children
 *   deny=CALL[N,V]:ERRNO  the same where the low half of argument N (from 0) is V
 *   groups=A,B          these supplementary groups (root only)
 *   key=NAME            a session keyring with a key NAME in it
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CALL(name) {#name, SYS_##name}
static const struct { const char *name; unsigned number; } CALLS[] = {
    CALL(bind), CALL(capset), CALL(chdir), CALL(clone), CALL(clone3), CALL(close_range), CALL(execve),
    CALL(fchdir), CALL(fstatfs), CALL(ioctl), CALL(keyctl), CALL(landlock_add_rule), CALL(landlock_create_ruleset),
    CALL(landlock_restrict_self), CALL(listen), CALL(mkdirat), CALL(mmap), CALL(mount),
    CALL(mount_setattr), CALL(move_mount), CALL(open_tree), CALL(openat), CALL(openat2), CALL(personality),
    CALL(pipe2), CALL(pivot_root), CALL(prctl), CALL(prlimit64), CALL(read), CALL(recvmsg), CALL(rt_sigprocmask),
    CALL(seccomp), CALL(sendmsg), CALL(setdomainname), CALL(setgroups), CALL(sethostname), CALL(setns), CALL(setsid),
    CALL(setsockopt), CALL(signalfd4), CALL(socket), CALL(socketpair), CALL(umount2), CALL(unshare), CALL(write),
#ifdef SYS_dup2 /* the older calls are not on every architecture */
    CALL(chmod), CALL(dup2), CALL(poll),
#endif
};

static const struct { const char *name; unsigned number; } ERRNOS[] = {
    {"EPERM", EPERM}, {"ENOSYS", ENOSYS}, {"EACCES", EACCES}, {"ENOSPC", ENOSPC}, {"EINVAL", EINVAL},
    {"ENODEV", ENODEV}, {"ENOMEM", ENOMEM}, {"EUSERS", EUSERS}, {"EMFILE", EMFILE}, {"EAGAIN", EAGAIN},
};

static void die(const char *what)
{
    fprintf(stderr, "launcher: %s: %s\n", what, strerror(errno));
    exit(99);
}

static void deny(char *spec)
{
    char *colon = strchr(spec, ':');
    unsigned call = ~0u, error = 0;
    if (colon == NULL)
        die(spec);
    *colon = '\0';
    unsigned argument = 0, value = 0;
    char *bracket = strchr(spec, '[');
    if (bracket != NULL) {
        if (sscanf(bracket, "[%u,%u]", &argument, &value) != 2 || argument > 5)
            die(spec);
        *bracket = '\0';
    }
    for (size_t i = 0; i < sizeof CALLS / sizeof *CALLS; i++)
        if (strcmp(CALLS[i].name, spec) == 0)
            call = CALLS[i].number;
    for (size_t i = 0; i < sizeof ERRNOS / sizeof *ERRNOS; i++)
        if (strcmp(ERRNOS[i].name, colon + 1) == 0)
            error = ERRNOS[i].number;
    if (call == ~0u || error == 0)
        die(spec);
    /* Without a condition the second load is of the number again, which is the one that was asked for. */
    unsigned place = offsetof(struct seccomp_data, nr);
    if (bracket == NULL)
        value = call;
    else
        place = offsetof(struct seccomp_data, args) + argument * sizeof(__u64);
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, place),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1)
        die("no_new_privs");
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == -1)
        die("seccomp");
}

static void set_groups(char *list)
{
    gid_t groups[16];
    size_t count = 0;
    for (char *one = strtok(list, ","); one != NULL && count < 16; one = strtok(NULL, ","))
        groups[count++] = (gid_t)atoi(one);
    if (setgroups(count, groups) == -1)
        die("setgroups");
}

static void block_all(void)
{
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
}

static void open_as(char *spec)
{
    char *path = strchr(spec, ':');
    int fd = path == NULL ? -1 : open(path + 1, O_RDONLY);
    if (fd == -1 || dup2(fd, atoi(spec)) == -1)
        die(spec);
    if (fd != atoi(spec))
        close(fd);
}

static void add_key(const char *name)
{
    const int join = 1, session_keyring = -3;
    if (syscall(SYS_keyctl, join, NULL) == -1)
        die("keyctl");
    if (syscall(SYS_add_key, "user", name, "secret", (size_t)6, session_keyring) == -1)
        die("add_key");
}

int main(int argc, char **argv)
{
    int i;
    for (i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        char *how = argv[i], *value = strchr(how, '=');
        if (value != NULL)
            *value++ = '\0';
        if (strcmp(how, "sigchld-ignored") == 0)
            signal(SIGCHLD, SIG_IGN);
        else if (strcmp(how, "all-blocked") == 0)
            block_all();
        else if (strcmp(how, "closed") == 0 && value)
            close(atoi(value));
        else if (strcmp(how, "open") == 0 && value)
            open_as(value);
        else if (strcmp(how, "deny") == 0 && value)
            deny(value);
        else if (strcmp(how, "groups") == 0 && value)
            set_groups(value);
        else if (strcmp(how, "key") == 0 && value)
            add_key(value);
        else
            die(how);
    }
    if (i + 1 >= argc)
        die("no program");
    /* Not execve(2), which may be denied for what is started. */
    syscall(SYS_execveat, AT_FDCWD, argv[i + 1], argv + i + 1, environ, 0);
    die(argv[i + 1]);
}
