/* What a command inside a sandbox can do, tried one word at a time.
 *
 * probe WORD [ARG...] tries one thing and prints one line: "ok", a figure, or the name of the errno.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/mount.h>
#include <mqueue.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int say(long result)
{
    puts(result == -1 ? strerrorname_np(errno) : "ok");
    return 0;
}

static const char *arg(int argc, char **argv, int index)
{
    if (index >= argc) {
        fprintf(stderr, "probe: too few arguments\n");
        exit(2);
    }
    return argv[index];
}

/* clock: whole seconds since boot, as the two clocks of a time namespace tell it. */
static int clocks(void)
{
    struct timespec monotonic, boot;
    clock_gettime(CLOCK_MONOTONIC, &monotonic);
    clock_gettime(CLOCK_BOOTTIME, &boot);
    printf("%lld %lld\n", (long long)monotonic.tv_sec, (long long)boot.tv_sec);
    return 0;
}

/* addresses: where the stack, the heap, a mapping, the program and the C library lie. */
static int addresses(void)
{
    int local;
    void *small = malloc(10), *large = malloc(10 << 20);
    printf("%p %p %p %p %p\n", (void *)&local, small, large, (void *)&addresses, (void *)&puts);
    free(small);
    free(large);
    return 0;
}

/* descriptors: every open one below 65536. */
static int descriptors(void)
{
    for (int fd = 0; fd < 65536; fd++)
        if (fcntl(fd, F_GETFD) != -1)
            printf("%d\n", fd);
    return 0;
}

/* ids: real, effective, saved and the supplementary groups. */
static int ids(void)
{
    uid_t ruid, euid, suid;
    gid_t rgid, egid, sgid, groups[128];
    getresuid(&ruid, &euid, &suid);
    getresgid(&rgid, &egid, &sgid);
    printf("%u %u %u %u %u %u", ruid, euid, suid, rgid, egid, sgid);
    int count = getgroups(128, groups);
    for (int i = 0; i < count; i++)
        printf(" +%u", groups[i]);
    puts("");
    return 0;
}

/* interfaces: the names of the network interfaces that are up. */
static int interfaces(void)
{
    struct if_nameindex *all = if_nameindex();
    int socket_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    for (struct if_nameindex *one = all; one && one->if_index; one++) {
        struct ifreq request = {0};
        snprintf(request.ifr_name, sizeof request.ifr_name, "%s", one->if_name);
        if (ioctl(socket_fd, SIOCGIFFLAGS, &request) == 0)
            printf("%s %s\n", one->if_name, request.ifr_flags & IFF_UP ? "up" : "down");
    }
    return 0;
}

/* connect ADDRESS PORT: by TCP, IPv4 or IPv6. */
static int connect_to(const char *address, const char *port)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)atoi(port))};
    if (inet_pton(AF_INET, address, &v4.sin_addr) == 1)
        return say(connect(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&v4, sizeof v4));
    inet_pton(AF_INET6, address, &v6.sin6_addr);
    return say(connect(socket(AF_INET6, SOCK_STREAM, 0), (struct sockaddr *)&v6, sizeof v6));
}

/* loopback FAMILY: a TCP connection to a listener of this process. */
static int loopback(const char *family)
{
    struct sockaddr_storage address = {0};
    socklen_t length;
    int domain = strcmp(family, "6") == 0 ? AF_INET6 : AF_INET;
    if (domain == AF_INET6) {
        struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&address;
        *v6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
        length = sizeof *v6;
    } else {
        struct sockaddr_in *v4 = (struct sockaddr_in *)&address;
        *v4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        length = sizeof *v4;
    }
    int listener = socket(domain, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&address, length) == -1 || listen(listener, 1) == -1)
        return say(-1);
    getsockname(listener, (struct sockaddr *)&address, &length);
    return say(connect(socket(domain, SOCK_STREAM, 0), (struct sockaddr *)&address, length));
}

static socklen_t abstract_address(struct sockaddr_un *address, const char *name)
{
    address->sun_family = AF_UNIX;
    strncpy(address->sun_path + 1, name, sizeof address->sun_path - 2);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));
}

/* abstract-listen NAME: listens on the abstract socket, says "ready", stays until its input ends. */
static int abstract_listen(const char *name)
{
    struct sockaddr_un address = {0};
    socklen_t length = abstract_address(&address, name);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (bind(fd, (struct sockaddr *)&address, length) == -1 || listen(fd, 8) == -1)
        return say(-1);
    puts("ready");
    fflush(stdout);
    char byte;
    return read(0, &byte, 1) < 0;
}

static int abstract_connect(const char *name)
{
    struct sockaddr_un address = {0};
    socklen_t length = abstract_address(&address, name);
    return say(connect(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&address, length));
}

/* queue-make KEY, queue-find KEY, queue-remove KEY: a System V message queue. */
static int queue(const char *what, const char *key)
{
    int flags = strcmp(what, "queue-make") == 0 ? IPC_CREAT | 0600 : 0;
    int id = msgget((key_t)atoi(key), flags);
    if (id != -1 && strcmp(what, "queue-remove") == 0)
        return say(msgctl(id, IPC_RMID, NULL));
    return say(id);
}

/* mq-make NAME, mq-find NAME, mq-remove NAME: a POSIX message queue, by a name that begins with a slash. */
static int posix_queue(const char *what, const char *name)
{
    if (strcmp(what, "mq-remove") == 0)
        return say(mq_unlink(name));
    int flags = strcmp(what, "mq-make") == 0 ? O_RDWR | O_CREAT | O_EXCL : O_RDWR;
    struct mq_attr small = {.mq_maxmsg = 1, .mq_msgsize = 8};
    return say(mq_open(name, flags, 0600, &small));
}

/* mounts: every way to change the view, "NAME ERRNO" a line. */
static void tried(const char *name, long result)
{
    printf("%s %s\n", name, result == -1 ? strerrorname_np(errno) : "ok");
}

static int mounts(void)
{
    /* Outside, as root, these would succeed. */
    if (getenv("SBX") == NULL) {
        fprintf(stderr, "probe: mounts is for the inside of a sandbox\n");
        return 2;
    }
    struct mount_attr writable = {.attr_clr = MOUNT_ATTR_RDONLY};
    tried("mount", mount("tmpfs", "/tmp", "tmpfs", 0, NULL));
    tried("bind", mount("/usr", "/tmp", NULL, MS_BIND, NULL));
    tried("remount", mount(NULL, "/usr", NULL, MS_REMOUNT | MS_BIND, NULL));
    tried("proc", mount("proc", "/proc", "proc", 0, NULL));
    tried("umount", umount2("/proc", MNT_DETACH));
    tried("mount_setattr", syscall(SYS_mount_setattr, AT_FDCWD, "/usr", AT_RECURSIVE, &writable, sizeof writable));
    tried("open_tree", syscall(SYS_open_tree, AT_FDCWD, "/usr", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
    tried("fsopen", syscall(SYS_fsopen, "tmpfs", 0));
    tried("move_mount", syscall(SYS_move_mount, AT_FDCWD, "/usr", AT_FDCWD, "/tmp", 0));
    tried("pivot_root", syscall(SYS_pivot_root, "/", "/"));
    tried("chroot", chroot("/tmp"));
    tried("sethostname", sethostname("x", 1));
    tried("unshare-mount", unshare(CLONE_NEWNS));
    tried("unshare-net", unshare(CLONE_NEWNET));
    tried("unshare-pid", unshare(CLONE_NEWPID));
    int own = open("/proc/self/ns/net", O_RDONLY);
    tried("setns", setns(own, 0));
    tried("mknod", mknod("/tmp/device", S_IFCHR | 0600, 0x101));
    tried("unshare-user", unshare(CLONE_NEWUSER));
    return 0;
}

/* open PATH MODE: r, w, rw. */
static int open_path(const char *path, const char *mode)
{
    int flags = strcmp(mode, "r") == 0 ? O_RDONLY : strcmp(mode, "w") == 0 ? O_WRONLY : O_RDWR;
    return say(open(path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
}

/* signal PID: whether a process takes a signal 0; priority: renicing the process group. */
static int signal_to(const char *pid)
{
    return say(kill((pid_t)atoi(pid), 0));
}

/* limits: the soft and hard limit of open files and of the core size. */
static int limits(void)
{
    struct rlimit files, core;
    getrlimit(RLIMIT_NOFILE, &files);
    getrlimit(RLIMIT_CORE, &core);
    printf("%llu %llu %llu %llu\n", (unsigned long long)files.rlim_cur, (unsigned long long)files.rlim_max,
           (unsigned long long)core.rlim_cur, (unsigned long long)core.rlim_max);
    return 0;
}

/* signals: the blocked ones and those that are not at their default action. */
static int signals(void)
{
    sigset_t blocked;
    sigprocmask(SIG_BLOCK, NULL, &blocked);
    for (int number = 1; number < 65; number++) {
        struct sigaction action;
        if (sigismember(&blocked, number) == 1)
            printf("blocked %d\n", number);
        if (sigaction(number, NULL, &action) == 0 && action.sa_handler != SIG_DFL)
            printf("ignored %d\n", number);
    }
    return 0;
}

/* session: whether this process leads a session without a terminal. */
static int session(void)
{
    printf("%s\n", getsid(0) == getpid() ? "leader" : "member");
    return say(open("/dev/tty", O_RDWR));
}

/* keyring: makes a key in the session keyring (key-make NAME) or looks for it (key-find NAME). */
static int keyring(const char *what, const char *name)
{
    const int session_keyring = -3, search = 10, join = 1;
    if (strcmp(what, "key-make") == 0)
        return say(syscall(SYS_add_key, "user", name, "secret", (size_t)6, session_keyring));
    if (strcmp(what, "key-join") == 0)
        return say(syscall(SYS_keyctl, join, name));
    return say(syscall(SYS_keyctl, search, session_keyring, "user", name, 0));
}

/* daemon PATH: a process in a session of its own, which ignores every signal it can and touches nothing; the parent
 * ends at once. */
static int make_daemon(void)
{
    if (fork() > 0)
        return 0;
    setsid();
    if (fork() > 0)
        _exit(0);
    for (int number = 1; number < 65; number++)
        signal(number, SIG_IGN);
    for (;;)
        pause();
}

/* orphans COUNT: that many children of children which end at once; prints how many children are left to init. */
static int orphans(const char *count)
{
    for (int i = atoi(count); i > 0; i--) {
        pid_t child = fork();
        if (child == 0) {
            if (fork() == 0)
                _exit(0);
            _exit(0);
        }
        waitpid(child, NULL, 0);
    }
    return 0;
}

/* stream BYTES: that many bytes, a counter in 8 byte words, so that a lost or a doubled block shows. */
static int stream(const char *bytes)
{
    uint64_t words = strtoull(bytes, NULL, 10) / 8, block[8192];
    for (uint64_t next = 0; next < words;) {
        size_t filled = 0;
        while (filled < 8192 && next < words)
            block[filled++] = next++;
        if (fwrite(block, 8, filled, stdout) != filled)
            return 1;
    }
    return fflush(stdout) != 0;
}

int main(int argc, char **argv)
{
    const char *word = arg(argc, argv, 1);
#define IS(name) (strcmp(word, name) == 0)
    if (IS("clock"))
        return clocks();
    if (IS("addresses"))
        return addresses();
    if (IS("descriptors"))
        return descriptors();
    if (IS("ids"))
        return ids();
    if (IS("interfaces"))
        return interfaces();
    if (IS("connect"))
        return connect_to(arg(argc, argv, 2), arg(argc, argv, 3));
    if (IS("loopback"))
        return loopback(arg(argc, argv, 2));
    if (IS("abstract-listen"))
        return abstract_listen(arg(argc, argv, 2));
    if (IS("abstract-connect"))
        return abstract_connect(arg(argc, argv, 2));
    if (IS("queue-make") || IS("queue-find") || IS("queue-remove"))
        return queue(word, arg(argc, argv, 2));
    if (IS("mq-make") || IS("mq-find") || IS("mq-remove"))
        return posix_queue(word, arg(argc, argv, 2));
    if (IS("mounts"))
        return mounts();
    if (IS("open"))
        return open_path(arg(argc, argv, 2), arg(argc, argv, 3));
    if (IS("signal"))
        return signal_to(arg(argc, argv, 2));
    if (IS("limits"))
        return limits();
    if (IS("signals"))
        return signals();
    if (IS("session"))
        return session();
    if (IS("key-make") || IS("key-find") || IS("key-join"))
        return keyring(word, arg(argc, argv, 2));
    if (IS("daemon"))
        return make_daemon();
    if (IS("orphans"))
        return orphans(arg(argc, argv, 2));
    if (IS("stream"))
        return stream(arg(argc, argv, 2));
    fprintf(stderr, "probe: unknown word %s\n", word);
    return 2;
}
