/*
 * Control messages and socket options: messages.  Every kind that loopback and
 * unix sockets can make is sent, received and printed, as the C library of this
 * ISA sees it; sizes of longs and times of a day are left out.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/errqueue.h>
#include <linux/net_tstamp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef SO_TIMESTAMP_OLD
#define SO_TIMESTAMP_OLD 29
#define SO_TIMESTAMPNS_OLD 35
#define SO_TIMESTAMPING_OLD 37
#endif
#ifndef SO_TIMESTAMP_NEW
#define SO_TIMESTAMP_NEW 63
#define SO_TIMESTAMPNS_NEW 64
#define SO_TIMESTAMPING_NEW 65
#endif
#ifndef SO_RCVTIMEO_OLD
#define SO_RCVTIMEO_OLD 20
#define SO_SNDTIMEO_OLD 21
#endif
#ifndef SO_RCVTIMEO_NEW
#define SO_RCVTIMEO_NEW 66
#define SO_SNDTIMEO_NEW 67
#endif
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#define UDP_GRO 104
#endif

static char control[4096];

static const char *near(long seconds)
{
    long off = seconds - (long)time(NULL);
    return off > -100 && off < 100 ? "now" : seconds == 0 ? "none" : "another time";
}

/* The seconds of the first time in a message whose times are of longs, or of 64 bits. */
static void print_time(const char *what, const void *data, size_t size, int wide, int count)
{
    printf("%s", what);
    for (int i = 0; i < count; i++) {
        long long seconds = 0, rest = 0;
        if (wide || sizeof(long) == 8) {
            memcpy(&seconds, (const char *)data + 16 * i, 8);
            memcpy(&rest, (const char *)data + 16 * i + 8, 8);
        } else {
            int small[2];
            memcpy(small, (const char *)data + 8 * i, 8);
            seconds = small[0];
            rest = small[1];
        }
        printf(" %s%s", near(seconds), rest >= 0 && rest < 1000000000 ? "" : ", and no part of a second");
    }
    printf(" in %s bytes\n", size == (size_t)count * (wide ? 16 : 2 * sizeof(long)) ? "its" : "other");
}

static void print_control(struct msghdr *msg)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        unsigned char *data = CMSG_DATA(c);
        size_t size = c->cmsg_len - CMSG_LEN(0);
        printf("  ");
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
            printf("rights, %d:", (int)(size / 4));
            for (size_t i = 0; i < size / 4; i++) {
                int fd, flags;
                memcpy(&fd, data + 4 * i, 4);
                flags = fcntl(fd, F_GETFD);
                printf(" %s", flags < 0 ? "none" : flags ? "closing" : "open");
                close(fd);
            }
            printf("\n");
        } else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS) {
            struct ucred *cred = (void *)data;
            printf("credentials: %s %d %d\n", cred->pid == getpid() ? "mine" : "another's", (int)cred->uid, (int)cred->gid);
        } else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_TIMESTAMP_OLD)
            print_time("timeval", data, size, 0, 1);
        else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_TIMESTAMPNS_OLD)
            print_time("timespec", data, size, 0, 1);
        else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_TIMESTAMPING_OLD)
            print_time("timestamping", data, size, 0, 3);
        else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_TIMESTAMP_NEW)
            print_time("wide timeval", data, size, 1, 1);
        else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_TIMESTAMPNS_NEW)
            print_time("wide timespec", data, size, 1, 1);
        else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_TIMESTAMPING_NEW)
            print_time("wide timestamping", data, size, 1, 3);
        else if ((c->cmsg_level == SOL_IP && c->cmsg_type == IP_RECVERR) || (c->cmsg_level == SOL_IPV6 && c->cmsg_type == IPV6_RECVERR)) {
            struct sock_extended_err *error = (void *)data;
            printf("error %d origin %d type %d code %d, %d bytes\n", error->ee_errno, error->ee_origin, error->ee_type,
                   error->ee_code, (int)size);
        } else {
            printf("%d %d, %d bytes:", c->cmsg_level, c->cmsg_type, (int)size);
            for (size_t i = 0; i < size && i < 28; i++)
                printf(" %02x", data[i]);
            printf("\n");
        }
    }
}

static void receive(const char *what, int fd, size_t room, int flags)
{
    char text[256] = "";
    struct iovec iov = {text, sizeof text - 1};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = room};
    struct pollfd ready = {fd, POLLIN};
    poll(&ready, 1, 5000);
    ssize_t got = recvmsg(fd, &msg, flags | MSG_DONTWAIT);
    if (got < 0) {
        printf("%s: %s\n", what, strerror(errno));
        return;
    }
    printf("%s: %d bytes, flags %x\n", what, (int)got, msg.msg_flags);
    print_control(&msg);
}

static void send_with(const char *what, int fd, const struct sockaddr *to, socklen_t size, int level, int type,
                      const void *data, size_t length)
{
    char room[512];
    struct iovec iov = {"0123456789", 10};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_name = (void *)to, .msg_namelen = size};
    memset(room, 0, sizeof room);
    if (length) {
        msg.msg_control = room;
        msg.msg_controllen = CMSG_SPACE(length);
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = level;
        c->cmsg_type = type;
        c->cmsg_len = CMSG_LEN(length);
        memcpy(CMSG_DATA(c), data, length);
    }
    ssize_t sent = sendmsg(fd, &msg, 0);
    if (sent != 10)
        printf("%s is not sent: %s\n", what, strerror(errno));
}

static int on(int fd, int level, int option)
{
    return setsockopt(fd, level, option, &(int){1}, sizeof(int));
}

static void unix_sockets(void)
{
    int s[2], fds[3] = {open("/dev/null", O_RDONLY), open("/dev/zero", O_RDONLY), open("/", O_RDONLY)};
    socketpair(AF_UNIX, SOCK_DGRAM, 0, s);
    send_with("one", s[0], NULL, 0, SOL_SOCKET, SCM_RIGHTS, fds, 4);
    receive("one descriptor", s[1], sizeof control, 0);
    send_with("three", s[0], NULL, 0, SOL_SOCKET, SCM_RIGHTS, fds, 12);
    receive("three descriptors that close", s[1], sizeof control, MSG_CMSG_CLOEXEC);
    send_with("three", s[0], NULL, 0, SOL_SOCKET, SCM_RIGHTS, fds, 12);
    receive("room for one of three", s[1], CMSG_LEN(4), 0);
    send_with("three", s[0], NULL, 0, SOL_SOCKET, SCM_RIGHTS, fds, 12);
    receive("room for none", s[1], CMSG_LEN(0), 0);
    send_with("three", s[0], NULL, 0, SOL_SOCKET, SCM_RIGHTS, fds, 12);
    receive("no room", s[1], 0, 0);
    send_with("a wrong one", s[0], NULL, 0, SOL_SOCKET, SCM_RIGHTS, &(int){777}, 4);
    send_with("a wrong kind", s[0], NULL, 0, SOL_SOCKET, 77, &(int){0}, 4);
    struct ucred own = {getpid(), getuid(), getgid()}, wrong = {1 << 30, 0, 0};
    on(s[1], SOL_SOCKET, SO_PASSCRED);
    send_with("none", s[0], NULL, 0, 0, 0, NULL, 0);
    receive("credentials by themselves", s[1], sizeof control, 0);
    send_with("credentials", s[0], NULL, 0, SOL_SOCKET, SCM_CREDENTIALS, &own, sizeof own);
    receive("credentials given", s[1], sizeof control, 0);
    send_with("credentials of nobody", s[0], NULL, 0, SOL_SOCKET, SCM_CREDENTIALS, &wrong, sizeof wrong);
    send_with("rights", s[0], NULL, 0, SOL_SOCKET, SCM_RIGHTS, fds, 8);
    receive("both", s[1], sizeof control, 0);
    send_with("rights", s[0], NULL, 0, SOL_SOCKET, SCM_RIGHTS, fds, 8);
    receive("room for one of both", s[1], CMSG_SPACE(sizeof own), 0);
    on(s[1], SOL_SOCKET, SO_TIMESTAMP_OLD);
    send_with("a time", s[0], NULL, 0, 0, 0, NULL, 0);
    receive("a time too", s[1], sizeof control, 0);
    int stream[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, stream);
    struct ucred peer = {0};
    socklen_t size = sizeof peer;
    printf("peer %d", getsockopt(stream[0], SOL_SOCKET, SO_PEERCRED, &peer, &size));
    printf(" %d %d %d\n", peer.pid == getpid(), (int)peer.uid, (int)size);
    gid_t groups[64];
    size = sizeof groups;
    printf("groups %d", getsockopt(stream[0], SOL_SOCKET, SO_PEERGROUPS, groups, &size));
    printf(" %s\n", size == 4 * getgroups(0, NULL) ? "all" : "others");
    int peek = 2;
    setsockopt(stream[0], SOL_SOCKET, SO_PEEK_OFF, &peek, sizeof peek);
    write(stream[1], "abcdef", 6);
    char text[8] = "";
    recv(stream[0], text, 2, MSG_PEEK);
    printf("peeked %s", text);
    recv(stream[0], text, 2, 0);
    printf(", then %s\n", text);
    send(stream[1], "!", 1, MSG_OOB);
}

static int bound(int family, struct sockaddr_storage *at, socklen_t *size)
{
    int fd = socket(family, SOCK_DGRAM, 0);
    memset(at, 0, sizeof *at);
    at->ss_family = family;
    *size = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    if (family == AF_INET)
        ((struct sockaddr_in *)at)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    else
        ((struct sockaddr_in6 *)at)->sin6_addr = in6addr_loopback;
    if (bind(fd, (void *)at, *size))
        return -1;
    getsockname(fd, (void *)at, size);
    return fd;
}

static void datagrams4(void)
{
    struct sockaddr_storage at;
    socklen_t size;
    static const int options[] = {IP_PKTINFO, IP_RECVTTL, IP_RECVTOS, IP_RECVOPTS, IP_RETOPTS};
    for (unsigned i = 0; i < sizeof options / sizeof *options; i++) {
        int fd = bound(AF_INET, &at, &size), other = socket(AF_INET, SOCK_DGRAM, 0);
        char what[32];
        snprintf(what, sizeof what, "ip %d (%d)", options[i], on(fd, SOL_IP, options[i]));
        send_with(what, other, (void *)&at, size, SOL_IP, IP_TTL, &(int){33}, sizeof(int));
        receive(what, fd, sizeof control, 0);
        send_with(what, other, (void *)&at, size, SOL_IP, IP_TOS, &(int){0x10}, sizeof(int));
        receive(what, fd, sizeof control, 0);
        close(fd);
        close(other);
    }
    int fd = bound(AF_INET, &at, &size), other = socket(AF_INET, SOCK_DGRAM, 0);
    struct in_pktinfo info = {.ipi_spec_dst = {htonl(INADDR_LOOPBACK)}};
    on(fd, SOL_IP, IP_PKTINFO);
    on(fd, SOL_IP, IP_RECVTTL);
    on(fd, SOL_SOCKET, SO_RXQ_OVFL);
    send_with("with pktinfo", other, (void *)&at, size, SOL_IP, IP_PKTINFO, &info, sizeof info);
    receive("several", fd, sizeof control, 0);
    send_with("again", other, (void *)&at, size, 0, 0, NULL, 0);
    receive("room for one", fd, CMSG_SPACE(sizeof info), 0);
    send_with("again", other, (void *)&at, size, 0, 0, NULL, 0);
    receive("room for a part", fd, CMSG_LEN(5), 0);
    on(fd, SOL_UDP, UDP_GRO);
    send_with("in parts", other, (void *)&at, size, SOL_UDP, UDP_SEGMENT, &(uint16_t){4}, 2);
    for (int i = 0; i < 3; i++) {
        struct pollfd ready = {fd, POLLIN};
        if (poll(&ready, 1, 100) == 1)
            receive("parts", fd, sizeof control, 0);
    }
    close(fd);
    /* Nobody is there: the error comes back. */
    fd = bound(AF_INET, &at, &size);
    close(fd);
    on(other, SOL_IP, IP_RECVERR);
    connect(other, (void *)&at, size);
    send_with("to nobody", other, NULL, 0, 0, 0, NULL, 0);
    struct pollfd ready = {other, 0};
    poll(&ready, 1, 5000);
    receive("the error", other, sizeof control, MSG_ERRQUEUE);
    close(other);
}

static void datagrams6(void)
{
    struct sockaddr_storage at;
    socklen_t size;
    static const int options[] = {IPV6_RECVPKTINFO, IPV6_RECVHOPLIMIT, IPV6_RECVTCLASS, IPV6_RECVHOPOPTS,
                                  74 /* IPV6_RECVORIGDSTADDR */, 77};
    for (unsigned i = 0; i < sizeof options / sizeof *options; i++) {
        int fd = bound(AF_INET6, &at, &size), other = socket(AF_INET6, SOCK_DGRAM, 0);
        char what[32];
        if (fd < 0) {
            printf("no IPv6\n");
            return;
        }
        int answer = on(fd, SOL_IPV6, options[i]) ? errno : 0;
        snprintf(what, sizeof what, "ipv6 %d (%d)", options[i], answer);
        send_with(what, other, (void *)&at, size, SOL_IPV6, IPV6_HOPLIMIT, &(int){44}, sizeof(int));
        if (options[i] != 74)
            receive(what, fd, sizeof control, 0);
        send_with(what, other, (void *)&at, size, SOL_IPV6, IPV6_TCLASS, &(int){0x20}, sizeof(int));
        if (options[i] != 74)
            receive(what, fd, sizeof control, 0);
        close(fd);
        close(other);
    }
    int fd = bound(AF_INET6, &at, &size), other = socket(AF_INET6, SOCK_DGRAM, 0);
    close(fd);
    on(other, SOL_IPV6, IPV6_RECVERR);
    connect(other, (void *)&at, size);
    send_with("to nobody", other, NULL, 0, 0, 0, NULL, 0);
    struct pollfd ready = {other, 0};
    poll(&ready, 1, 5000);
    receive("the error", other, sizeof control, MSG_ERRQUEUE);
}

static void times(void)
{
    static const int options[] = {SO_TIMESTAMP_OLD, SO_TIMESTAMPNS_OLD, SO_TIMESTAMP_NEW, SO_TIMESTAMPNS_NEW,
                                  SO_TIMESTAMPING_OLD, SO_TIMESTAMPING_NEW};
    struct sockaddr_storage at;
    socklen_t size;
    /* The kernel takes times as soon as one socket wants them, and a moment later. */
    int first = bound(AF_INET, &at, &size);
    on(first, SOL_SOCKET, SO_TIMESTAMP_OLD);
    usleep(100000);
    for (unsigned i = 0; i < sizeof options / sizeof *options; i++) {
        int fd = bound(AF_INET, &at, &size), other = socket(AF_INET, SOCK_DGRAM, 0);
        int value = i < 4 ? 1 : SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE;
        char what[32];
        snprintf(what, sizeof what, "time %d (%d)", options[i], setsockopt(fd, SOL_SOCKET, options[i], &value, sizeof value));
        send_with(what, other, (void *)&at, size, 0, 0, NULL, 0);
        receive(what, fd, sizeof control, 0);
        if (i == 0 || i == 2) { /* the last one's, by ioctl; then no control message is made */
            int off = 0;
            setsockopt(fd, SOL_SOCKET, options[i], &off, sizeof off);
            send_with(what, other, (void *)&at, size, 0, 0, NULL, 0);
            receive("none", fd, sizeof control, 0);
            char stamp[16];
            int status = ioctl(fd, i == 0 ? 0x8906 : 0x80108906, stamp);
            if (status == 0)
                print_time("ioctl", stamp, i == 0 ? 2 * sizeof(long) : 16, i != 0, 1);
            else
                printf("ioctl: %s\n", strerror(errno));
        }
        close(fd);
        close(other);
    }
    /* Several messages at once, each with its time. */
    int fd = bound(AF_INET, &at, &size), other = socket(AF_INET, SOCK_DGRAM, 0);
    on(fd, SOL_SOCKET, SO_TIMESTAMPNS_OLD);
    for (int i = 0; i < 3; i++)
        send_with("many", other, (void *)&at, size, 0, 0, NULL, 0);
    struct mmsghdr many[4];
    char rooms[4][256], texts[4][32];
    struct iovec iov[4];
    memset(many, 0, sizeof many);
    for (int i = 0; i < 4; i++) {
        iov[i] = (struct iovec){texts[i], 32};
        many[i].msg_hdr = (struct msghdr){.msg_iov = &iov[i], .msg_iovlen = 1, .msg_control = rooms[i], .msg_controllen = 256};
    }
    int got = recvmmsg(fd, many, 4, MSG_DONTWAIT, NULL);
    printf("many: %d\n", got);
    for (int i = 0; i < got; i++) {
        printf(" %d bytes, flags %x\n", (int)many[i].msg_len, many[i].msg_hdr.msg_flags);
        print_control(&many[i].msg_hdr);
    }
}

static void option(const char *what, int fd, int level, int name, const void *set, socklen_t length, socklen_t room)
{
    unsigned char value[256];
    memset(value, 0xee, sizeof value);
    if (set)
        printf("%s set: %s; ", what, setsockopt(fd, level, name, set, length) ? strerror(errno) : "done");
    int status = getsockopt(fd, level, name, value, &room);
    printf("%s: %s", what, status ? strerror(errno) : "");
    for (socklen_t i = 0; status == 0 && i < room && i < 20; i++)
        printf(" %02x", value[i]);
    printf("\n");
}

static void options(void)
{
    int tcp = socket(AF_INET, SOCK_STREAM, 0), udp = socket(AF_INET, SOCK_DGRAM, 0), six = socket(AF_INET6, SOCK_STREAM, 0);
    struct linger linger = {1, 7};
    struct timeval tv = {3, 500000};
    option("linger", tcp, SOL_SOCKET, SO_LINGER, &linger, sizeof linger, sizeof linger);
    option("linger short", tcp, SOL_SOCKET, SO_LINGER, &linger, 4, 3);
    struct timeval got;
    for (int name = 0; name < 2; name++) {
        socklen_t size = sizeof got;
        printf("timeout: %d", setsockopt(tcp, SOL_SOCKET, name ? SO_SNDTIMEO : SO_RCVTIMEO, &tv, sizeof tv));
        printf(" %d", getsockopt(tcp, SOL_SOCKET, name ? SO_SNDTIMEO : SO_RCVTIMEO, &got, &size));
        printf(" %d.%06d %s\n", (int)got.tv_sec, (int)got.tv_usec, size == sizeof got ? "whole" : "short");
        long long wide[2] = {4, 250000};
        option("wide timeout", tcp, SOL_SOCKET, name ? SO_SNDTIMEO_NEW : SO_RCVTIMEO_NEW, wide, 16, 16);
        long narrow[2] = {5, 750000};
        printf("old timeout: %d", setsockopt(tcp, SOL_SOCKET, name ? SO_SNDTIMEO_OLD : SO_RCVTIMEO_OLD, narrow, sizeof narrow));
        narrow[0] = narrow[1] = 0;
        size = sizeof narrow;
        printf(" %d", getsockopt(tcp, SOL_SOCKET, name ? SO_SNDTIMEO_OLD : SO_RCVTIMEO_OLD, narrow, &size));
        printf(" %ld.%06ld %s\n", narrow[0], narrow[1], size == sizeof narrow ? "whole" : "short");
        tv.tv_usec = 2000000;
        printf("timeout that is none: %s\n", setsockopt(tcp, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv) ? strerror(errno) : "done");
        tv.tv_usec = 500000;
    }
    option("type", tcp, SOL_SOCKET, SO_TYPE, NULL, 0, 4);
    option("domain", six, SOL_SOCKET, SO_DOMAIN, NULL, 0, 4);
    option("protocol", udp, SOL_SOCKET, SO_PROTOCOL, NULL, 0, 4);
    option("accepting", tcp, SOL_SOCKET, SO_ACCEPTCONN, NULL, 0, 2);
    option("receive buffer", tcp, SOL_SOCKET, SO_RCVBUF, &(int){5000}, 4, 4);
    option("reuse", tcp, SOL_SOCKET, SO_REUSEADDR, &(int){7}, 4, 4);
    option("busy poll", tcp, SOL_SOCKET, 9999, &(int){7}, 4, 4);
    option("no delay", tcp, SOL_TCP, TCP_NODELAY, &(int){1}, 4, 4);
    option("no delay, too short", tcp, SOL_TCP, TCP_NODELAY, &(int){1}, 3, 4);
    option("keep idle", tcp, SOL_TCP, TCP_KEEPIDLE, &(int){77}, 4, 4);
    option("user timeout", tcp, SOL_TCP, TCP_USER_TIMEOUT, &(int){1234}, 4, 4);
    option("congestion", tcp, SOL_TCP, TCP_CONGESTION, "reno", 4, 16);
    option("congestion wrong", tcp, SOL_TCP, TCP_CONGESTION, "none such", 9, 16);
    option("v6 only", six, SOL_IPV6, IPV6_V6ONLY, &(int){1}, 4, 4);
    option("hops", six, SOL_IPV6, IPV6_UNICAST_HOPS, &(int){9}, 4, 4);
    option("ttl", udp, SOL_IP, IP_TTL, &(int){9}, 4, 1);
    option("tos byte", udp, SOL_IP, IP_TOS, "\x08", 1, 1);
    option("mtu discovery", udp, SOL_IP, IP_MTU_DISCOVER, &(int){IP_PMTUDISC_DO}, 4, 4);
    struct ip_mreqn group = {{htonl(0xe0000105)}, {htonl(INADDR_LOOPBACK)}, 0};
    option("join", udp, SOL_IP, IP_ADD_MEMBERSHIP, &group, sizeof group, 4);
    option("multicast interface", udp, SOL_IP, IP_MULTICAST_IF, &group, sizeof group, 4);
    struct {
        uint16_t length;
        void *filter;
    } program;
    static const struct { uint16_t code; uint8_t jt, jf; uint32_t k; } accept_all[] = {{6, 0, 0, 0xffff}}, broken[] = {{0xffff, 0, 0, 0}};
    program.length = 1;
    program.filter = (void *)accept_all;
    printf("filter: %d", setsockopt(udp, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program));
    program.filter = (void *)broken;
    printf(" %s", setsockopt(udp, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) ? strerror(errno) : "done");
    program.filter = (void *)0x5000;
    printf(" %s", setsockopt(udp, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) ? strerror(errno) : "done");
    printf(" %d\n", setsockopt(udp, SOL_SOCKET, SO_DETACH_FILTER, &(int){0}, 4));
    printf("wild: %s", setsockopt(tcp, SOL_TCP, TCP_NODELAY, (void *)0x5000, 4) ? strerror(errno) : "done");
    printf(", %s", getsockopt(tcp, SOL_TCP, TCP_NODELAY, (void *)0x5000, &(socklen_t){4}) ? strerror(errno) : "done");
    printf(", %s", getsockopt(tcp, SOL_TCP, TCP_NODELAY, control, (void *)0x5000) ? strerror(errno) : "done");
    printf(", %s\n", getsockopt(tcp, SOL_TCP, TCP_NODELAY, control, &(socklen_t){-1}) ? strerror(errno) : "done");
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    unix_sockets();
    datagrams4();
    datagrams6();
    times();
    options();
    return 0;
}
