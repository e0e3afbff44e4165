/* What a command does with a net namespace, and what it sees of it.
 *
 * netprobe litter      leaves what an ordinary command can: listeners, an abstract name, a connection in TIME_WAIT; with
 *                      a second word it stays
 * netprobe traces      prints how much of that there is: listening and other TCP sockets, UDP sockets, Unix sockets
 * netprobe dump        prints the interfaces, addresses and routes, by ioctl and by netlink
 * netprobe ask PATH    connects to the pool's socket there and asks for a pair; prints what came
 * netprobe activate PATH PROGRAM ARG...
 *                      listens at PATH and starts PROGRAM as a service manager does, the socket at descriptor 3
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int failed(const char *what)
{
    printf("%s: %s\n", what, strerrorname_np(errno));
    return 1;
}

static int litter(int stay)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(8080)};
    int one = 1, server = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(server, (struct sockaddr *)&at, sizeof at) || listen(server, 9))
        return failed("listen");
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int client = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(client, (struct sockaddr *)&at, sizeof at))
        return failed("connect");
    int served = accept(server, NULL, NULL);
    shutdown(client, SHUT_WR);
    char byte;
    while (read(served, &byte, 1) > 0)
        ;
    close(served);
    close(client);
    int udp = socket(AF_INET, SOCK_DGRAM, 0);
    if (bind(udp, (struct sockaddr *)&at, sizeof at))
        return failed("bind udp");
    struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "\0litter"};
    int unix_socket = socket(AF_UNIX, SOCK_STREAM, 0);
    if (bind(unix_socket, (struct sockaddr *)&name, offsetof(struct sockaddr_un, sun_path) + 7) || listen(unix_socket, 9))
        return failed("bind unix");
    puts("littered");
    fflush(stdout);
    if (stay)
        pause();
    return 0;
}

static int count(const char *path, const char *state)
{
    char line[512], field[8];
    int found = 0;
    FILE *file = fopen(path, "r");
    if (!file)
        return -1;
    while (fgets(line, sizeof line, file))
        if (!state || (sscanf(line, "%*s %*s %*s %7s", field) == 1 && !strcmp(field, state)))
            found++;
    fclose(file);
    /* One line is the heading. */
    return state ? found : found - 1;
}

static int traces(void)
{
    printf("listening %d, waiting %d, tcp %d, tcp6 %d, udp %d, unix %d\n", count("/proc/net/tcp", "0A"),
           count("/proc/net/tcp", "06"), count("/proc/net/tcp", NULL), count("/proc/net/tcp6", NULL),
           count("/proc/net/udp", NULL), count("/proc/net/unix", NULL));
    return 0;
}

/* All messages of one dump, in hexadecimal. Left out is what differs between any two namespaces: the times since boot at
 * which addresses and the interface came to be, and a random time-out (IFA_CACHEINFO, IFLA_INET6_CACHEINFO). */
static int netlink(int type)
{
    struct {
        struct nlmsghdr header;
        struct rtgenmsg message;
    } request = {.header = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct rtgenmsg)),
                            .nlmsg_type = type,
                            .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP}};
    static char buffer[65536];
    int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    if (fd < 0 || send(fd, &request, request.header.nlmsg_len, 0) < 0)
        return failed("netlink");
    for (;;) {
        ssize_t length = recv(fd, buffer, sizeof buffer, 0);
        if (length <= 0)
            return failed("netlink");
        for (struct nlmsghdr *one = (void *)buffer; NLMSG_OK(one, length); one = NLMSG_NEXT(one, length)) {
            if (one->nlmsg_type == NLMSG_DONE) {
                close(fd);
                return 0;
            }
            if (one->nlmsg_type == NLMSG_ERROR)
                return failed("netlink");
            if (one->nlmsg_type == RTM_NEWADDR) {
                int left = IFA_PAYLOAD(one);
                for (struct rtattr *part = IFA_RTA(NLMSG_DATA(one)); RTA_OK(part, left); part = RTA_NEXT(part, left))
                    if (part->rta_type == IFA_CACHEINFO)
                        memset((char *)RTA_DATA(part) + 8, 0, 8);
            }
            const char cache[] = {0x14, 0, 5, 0, (char)0xff, (char)0xff, 0, 0};
            char *times = memmem(one, one->nlmsg_len, cache, sizeof cache);
            if (one->nlmsg_type == RTM_NEWLINK && times)
                memset(times + sizeof cache, 0, 8);
            printf("netlink %d:", one->nlmsg_type);
            for (unsigned i = NLMSG_HDRLEN; i < one->nlmsg_len; i++)
                printf("%02x", ((unsigned char *)one)[i]);
            puts("");
        }
    }
}

static int dump(void)
{
    struct ifreq all[16];
    struct ifconf config = {.ifc_len = sizeof all, .ifc_req = all};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (ioctl(fd, SIOCGIFCONF, &config))
        return failed("SIOCGIFCONF");
    for (int i = 0; i < config.ifc_len / (int)sizeof *all; i++) {
        printf("%s %s", all[i].ifr_name, inet_ntoa(((struct sockaddr_in *)&all[i].ifr_addr)->sin_addr));
        ioctl(fd, SIOCGIFFLAGS, &all[i]);
        printf(" flags %x", (unsigned short)all[i].ifr_flags);
        ioctl(fd, SIOCGIFMTU, &all[i]);
        printf(" mtu %d", all[i].ifr_mtu);
        ioctl(fd, SIOCGIFINDEX, &all[i]);
        printf(" index %d", all[i].ifr_ifindex);
        ioctl(fd, SIOCGIFTXQLEN, &all[i]);
        printf(" queue %d\n", all[i].ifr_qlen);
    }
    return netlink(RTM_GETLINK) || netlink(RTM_GETADDR) || netlink(RTM_GETROUTE) || netlink(RTM_GETRULE) ||
           netlink(RTM_GETNEIGH) || netlink(RTM_GETNSID) || netlink(RTM_GETQDISC);
}

static int at_path(struct sockaddr_un *name, const char *path)
{
    name->sun_family = AF_UNIX;
    if (strlen(path) >= sizeof name->sun_path) {
        fprintf(stderr, "netprobe: the path is too long\n");
        exit(2);
    }
    strcpy(name->sun_path, path);
    return socket(AF_UNIX, SOCK_SEQPACKET, 0);
}

static int ask(const char *path)
{
    struct sockaddr_un name = {0};
    int fd = at_path(&name, path);
    const char take[16] = "sbxp\1\0\1";
    char answer[256];
    if (connect(fd, (struct sockaddr *)&name, sizeof name))
        return failed("connect");
    if (send(fd, take, sizeof take, MSG_NOSIGNAL) < 0)
        return failed("send");
    ssize_t length = recv(fd, answer, sizeof answer, 0);
    if (length < 0)
        return failed("recv");
    printf("%zd bytes\n", length);
    return 0;
}

static int activate(const char *path, char **words)
{
    struct sockaddr_un name = {0};
    int fd = at_path(&name, path);
    char pid[16];
    if (bind(fd, (struct sockaddr *)&name, sizeof name) || listen(fd, 9))
        return failed("listen");
    if (fd != 3) {
        dup2(fd, 3);
        close(fd);
    }
    snprintf(pid, sizeof pid, "%d", getpid());
    setenv("LISTEN_PID", pid, 1);
    setenv("LISTEN_FDS", "1", 1);
    execv(words[0], words);
    return failed("exec");
}

int main(int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : "";
    if (!strcmp(word, "litter"))
        return litter(argc > 2);
    if (!strcmp(word, "traces"))
        return traces();
    if (!strcmp(word, "dump"))
        return dump();
    if (!strcmp(word, "ask") && argc > 2)
        return ask(argv[2]);
    if (!strcmp(word, "activate") && argc > 3)
        return activate(argv[2], argv + 3);
    fprintf(stderr, "netprobe: unknown word\n");
    return 2;
}
