/* Starts a program the way an odd caller would: launcher HOW... -- PROGRAM [ARG...]
 *
 *   sigchld-ignored     SIGCHLD is SIG_IGN
 *   all-blocked         every signal is blocked
 *   closed=N            descriptor N is closed
 *   open=N:PATH         PATH is open (read-only) as descriptor N
 *   deny=CALL:ERRNO     the system call fails with this errno (a name), for this process and its children
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

static const struct { const char *name; unsigned number; } CALLS[] = {
    {"clone3", SYS_clone3},     {"mount", SYS_mount},           {"mount_setattr", SYS_mount_setattr},
    {"fsopen", SYS_fsopen},     {"fsconfig", SYS_fsconfig},     {"fsmount", SYS_fsmount},
    {"open_tree", SYS_open_tree}, {"move_mount", SYS_move_mount}, {"pivot_root", SYS_pivot_root},
    {"umount2", SYS_umount2},   {"sethostname", SYS_sethostname}, {"setdomainname", SYS_setdomainname},
    {"openat2", SYS_openat2},   {"setsid", SYS_setsid},         {"capset", SYS_capset},
    {"prctl", SYS_prctl},       {"personality", SYS_personality}, {"close_range", SYS_close_range},
    {"unshare", SYS_unshare},   {"setns", SYS_setns},           {"keyctl", SYS_keyctl},
    {"execveat", SYS_execveat}, {"chdir", SYS_chdir},
    {"prlimit64", SYS_prlimit64}, {"pidfd_send_signal", SYS_pidfd_send_signal}, {"fchdir", SYS_fchdir},
    {"setgroups", SYS_setgroups}, {"waitid", SYS_waitid},       {"pidfd_open", SYS_pidfd_open},
};

static const struct { const char *name; unsigned number; } ERRNOS[] = {
    {"EPERM", EPERM}, {"ENOSYS", ENOSYS}, {"EACCES", EACCES}, {"ENOSPC", ENOSPC}, {"EINVAL", EINVAL},
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
    for (size_t i = 0; i < sizeof CALLS / sizeof *CALLS; i++)
        if (strcmp(CALLS[i].name, spec) == 0)
            call = CALLS[i].number;
    for (size_t i = 0; i < sizeof ERRNOS / sizeof *ERRNOS; i++)
        if (strcmp(ERRNOS[i].name, colon + 1) == 0)
            error = ERRNOS[i].number;
    if (call == ~0u || error == 0)
        die(spec);
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
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
    execv(argv[i + 1], argv + i + 1);
    die(argv[i + 1]);
}
