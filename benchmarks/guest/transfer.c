/*
 * Moves bytes and tells how fast: transfer read FILE BYTES BLOCK | write FILE BYTES BLOCK | random FILE COUNT
 * | receive ADDRESS PORT BYTES | send ADDRESS PORT BYTES | echo ADDRESS PORT COUNT.  Files are opened without
 * the page cache (O_DIRECT) where they can be; prints a number, MiB or operations a second.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ALIGN = 4096, LARGEST = 1 << 20 };

static unsigned char buffer[LARGEST] __attribute__((aligned(ALIGN)));

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec * 1e-9;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static int opened(const char *path, int flags)
{
    int fd = open(path, flags | O_DIRECT);
    if (fd < 0 && errno == EINVAL)
        fd = open(path, flags);
    if (fd < 0)
        die(path);
    return fd;
}

static int connected(const char *address, const char *port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    inet_pton(AF_INET, address, &to.sin_addr);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0)
        die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

/* Bytes of them, a block at a time; what one call moves may be less. */
static void moves(int fd, long long bytes, size_t block, ssize_t (*move)(int, void *, size_t))
{
    while (bytes > 0) {
        ssize_t done = move(fd, buffer, bytes < (long long)block ? (size_t)bytes : block);
        if (done <= 0)
            die("transfer");
        bytes -= done;
    }
}

static ssize_t writes(int fd, void *data, size_t length)
{
    return write(fd, data, length);
}

int main(int argc, char **argv)
{
    if (argc < 4)
        return 2;
    const char *what = argv[1];
    double start, took, unit = 1 << 20;
    long long amount = atoll(argv[argc > 4 && (*what == 'r' || *what == 's' || *what == 'e') ? 4 : 3]);
    if (strcmp(what, "read") == 0 || strcmp(what, "write") == 0) {
        int out = *what == 'w', fd = opened(argv[2], out ? O_WRONLY : O_RDONLY);
        size_t block = (size_t)atoll(argv[4]);
        amount = atoll(argv[3]);
        start = seconds();
        moves(fd, amount, block < LARGEST ? block : LARGEST, out ? writes : read);
        if (out && fdatasync(fd) != 0)
            die("fdatasync");
        took = seconds() - start;
    } else if (strcmp(what, "random") == 0) {
        int fd = opened(argv[2], O_RDONLY);
        uint64_t blocks = (uint64_t)lseek(fd, 0, SEEK_END) / ALIGN, state = 88172645463325252;
        start = seconds();
        for (long long i = 0; i < amount; i++) {
            state ^= state << 13, state ^= state >> 7, state ^= state << 17;
            if (pread(fd, buffer, ALIGN, (off_t)(state % blocks) * ALIGN) != ALIGN)
                die("pread");
        }
        took = seconds() - start;
        unit = 1;
    } else {
        int fd = connected(argv[2], argv[3]);
        start = seconds();
        if (strcmp(what, "receive") == 0) {
            moves(fd, amount, LARGEST, read);
        } else if (strcmp(what, "send") == 0) {
            moves(fd, amount, LARGEST, writes);
            shutdown(fd, SHUT_WR);
            if (read(fd, buffer, 1) != 1) /* the other side says when it has them all */
                die("read");
        } else {
            unit = 1;
            for (long long i = 0; i < amount; i++)
                if (write(fd, buffer, 1) != 1 || read(fd, buffer, 1) != 1)
                    die("echo");
        }
        took = seconds() - start;
    }
    printf("%.3f\n", amount / unit / took);
    return 0;
}
