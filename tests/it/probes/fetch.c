/* Fetches a page by HTTP/1.0: fetch library|own NAME PORT PATH. The name is looked up by the C library's resolver, or by
 * a query that is made here and sent to the first name server of /etc/resolv.conf. */
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void no_such_name(void)
{
    fprintf(stderr, "no such name\n");
    exit(3);
}

static struct in_addr by_library(const char *name)
{
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *found;
    int error = getaddrinfo(name, NULL, &hints, &found);
    if (error == EAI_NONAME)
        no_such_name();
    if (error != 0) {
        fprintf(stderr, "%s\n", gai_strerror(error));
        exit(1);
    }
    return ((struct sockaddr_in *)(void *)found->ai_addr)->sin_addr;
}

static struct in_addr by_hand(const char *name)
{
    char line[256], server[64] = "";
    FILE *conf = fopen("/etc/resolv.conf", "r");
    if (conf == NULL)
        die("resolv.conf");
    while (server[0] == '\0' && fgets(line, sizeof line, conf) != NULL)
        sscanf(line, "nameserver %63s", server);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(53)};
    if (inet_pton(AF_INET, server, &to.sin_addr) != 1) {
        fprintf(stderr, "no name server\n");
        exit(1);
    }
    unsigned char query[300] = {0x12, 0x34, 1, 0, 0, 1}, answer[512];
    size_t length = 12;
    while (*name != '\0') {
        size_t label = strcspn(name, ".");
        query[length++] = (unsigned char)label;
        memcpy(query + length, name, label);
        length += label;
        name += label + (name[label] == '.');
    }
    memcpy(query + length, "\0\0\1\0\1", 5);
    length += 5;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0 || send(fd, query, length, 0) < 0)
        die("query");
    ssize_t got = recv(fd, answer, sizeof answer, 0);
    if (got < (ssize_t)length || answer[0] != 0x12 || answer[1] != 0x34 || (answer[2] & 0x80) == 0)
        die("answer");
    if ((answer[3] & 15) == 3)
        no_such_name();
    /* The first answer: its name is a pointer, then type, class, time to live, length and the address. */
    struct in_addr address;
    if (answer[7] == 0 || got < (ssize_t)length + 16 || answer[length + 11] != 4) {
        fprintf(stderr, "no address\n");
        exit(1);
    }
    memcpy(&address, answer + length + 12, 4);
    return address;
}

int main(int argc, char **argv)
{
    if (argc != 5)
        return 2;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(argv[3]))};
    to.sin_addr = strcmp(argv[1], "own") == 0 ? by_hand(argv[2]) : by_library(argv[2]);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0)
        die("connect");
    dprintf(fd, "GET %s HTTP/1.0\r\nHost: %s\r\n\r\n", argv[4], argv[2]);
    char buffer[4096];
    ssize_t got;
    while ((got = read(fd, buffer, sizeof buffer)) > 0)
        fwrite(buffer, 1, (size_t)got, stdout);
    return got == 0 ? 0 : 1;
}
