/* System calls as a program makes them; what it prints is the same on every Linux. */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <poll.h>
#include <pty.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/sendfile.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/times.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>
#include <utime.h>

#define CHECK(e) printf("%s: %s\n", #e, (e) ? "yes" : "NO")
#define FAILS(e, n) (errno = 0, (e) == -1 && errno == (n))
#define BAD ((void *)16)
/* Where the C library of a 32-bit ABI copies structures itself, a bad pointer is its own fault. */
#define DIRECT(e) (sizeof(long) == 4 || (e))

/* Beyond 32 bits, where a file's position can be. */
#define FAR ((off_t)(sizeof(off_t) == 8 ? 3ll << 32 : 3ll << 28))

static void status(void)
{
    struct stat st, other;
    struct statx sx;
    struct statfs fs;
    struct statvfs vfs;
    int fd = open("file", O_RDWR | O_CREAT | O_EXCL, 0640);
    CHECK(fd >= 0);
    CHECK(FAILS(open("file", O_RDWR | O_CREAT | O_EXCL, 0640), EEXIST));
    CHECK(write(fd, "0123456789", 10) == 10);
    CHECK(fstat(fd, &st) == 0 && st.st_size == 10 && (st.st_mode & 07777) == 0640 && S_ISREG(st.st_mode));
    CHECK(stat("file", &other) == 0 && other.st_ino == st.st_ino && other.st_dev == st.st_dev);
    CHECK(st.st_nlink == 1 && st.st_uid == getuid() && st.st_gid == getgid() && st.st_blksize >= 512);
    CHECK(link("file", "hard") == 0 && stat("hard", &st) == 0 && st.st_nlink == 2);
    CHECK(symlink("file", "soft") == 0 && lstat("soft", &st) == 0 && S_ISLNK(st.st_mode) && st.st_size == 4);
    CHECK(stat("soft", &st) == 0 && S_ISREG(st.st_mode));
    CHECK(FAILS(open("soft", O_RDONLY | O_NOFOLLOW), ELOOP));
    CHECK(FAILS(open("file", O_RDONLY | O_DIRECTORY), ENOTDIR));
    int dir = open(".", O_RDONLY | O_DIRECTORY);
    CHECK(dir >= 0 && fstatat(dir, "file", &st, 0) == 0 && st.st_size == 10);
    CHECK(fstatat(dir, "soft", &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode));
    CHECK(fstatat(fd, "", &st, AT_EMPTY_PATH) == 0 && st.st_size == 10);
    CHECK(statx(dir, "file", 0, STATX_BASIC_STATS, &sx) == 0 && sx.stx_size == 10);
    CHECK(stat("/dev/null", &st) == 0 && S_ISCHR(st.st_mode) && major(st.st_rdev) == 1 && minor(st.st_rdev) == 3);
    CHECK(lseek(fd, FAR, SEEK_SET) == FAR && write(fd, "x", 1) == 1);
    CHECK(fstat(fd, &st) == 0 && st.st_size == FAR + 1);
    CHECK(pread(fd, &other, 1, FAR) == 1 && *(char *)&other == 'x');
    CHECK(ftruncate(fd, FAR / 2 + 5) == 0 && stat("file", &st) == 0 && st.st_size == FAR / 2 + 5);
    CHECK(truncate("file", 4) == 0 && stat("file", &st) == 0 && st.st_size == 4);
    CHECK(posix_fallocate(fd, 0, 100) == 0 && fstat(fd, &st) == 0 && st.st_size == 100);
    CHECK(posix_fadvise(fd, 0, 100, POSIX_FADV_SEQUENTIAL) == 0);
    struct timespec times[2] = {{1000, 5}, {2000000000, 999999999}};
    CHECK(futimens(fd, times) == 0 && fstat(fd, &st) == 0);
    CHECK(st.st_atim.tv_sec == 1000 && st.st_mtim.tv_sec == 2000000000 && st.st_mtim.tv_nsec == 999999999);
    struct timeval tv[2] = {{7, 8}, {9, 10}};
    CHECK(utimes("file", tv) == 0 && stat("file", &st) == 0 && st.st_mtim.tv_sec == 9 && st.st_mtim.tv_nsec == 10000);
    CHECK(chmod("file", 0600) == 0 && stat("file", &st) == 0 && (st.st_mode & 0777) == 0600);
    CHECK(access("file", R_OK | W_OK) == 0 && FAILS(access("none", F_OK), ENOENT));
    CHECK(faccessat(dir, "file", R_OK, AT_EACCESS) == 0);
    CHECK(fchownat(dir, "file", -1, -1, 0) == 0 && chown("file", getuid(), getgid()) == 0);
    CHECK(umask(022) >= 0 && umask(077) == 022);
    CHECK(statfs(".", &fs) == 0 && fs.f_bsize > 0 && fs.f_blocks > 0 && fs.f_namelen >= 14);
    CHECK(statvfs(".", &vfs) == 0 && vfs.f_bsize == (unsigned long)fs.f_bsize && fstatvfs(fd, &vfs) == 0);
    CHECK((fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND | O_NONBLOCK | O_DIRECTORY | O_NOFOLLOW)) == O_RDWR);
    CHECK((fcntl(dir, F_GETFL) & O_DIRECTORY) == O_DIRECTORY);
    CHECK(fcntl(fd, F_SETFL, O_APPEND | O_NONBLOCK) == 0);
    CHECK((fcntl(fd, F_GETFL) & (O_APPEND | O_NONBLOCK)) == (O_APPEND | O_NONBLOCK));
    char text[64];
    CHECK(readlink("soft", text, sizeof text) == 4 && !memcmp(text, "file", 4) && readlink("soft", text, 2) == 2);
    CHECK(FAILS(readlink("file", text, sizeof text), EINVAL));
    CHECK(setxattr("file", "user.key", "value", 5, 0) == 0 ? getxattr("file", "user.key", text, 64) == 5 : errno == ENOTSUP);
    CHECK(rename("hard", "moved") == 0 && unlink("moved") == 0 && FAILS(unlink("moved"), ENOENT));
    CHECK(mkdir("dir", 0700) == 0 && FAILS(mkdir("dir", 0700), EEXIST) && mknod("fifo", S_IFIFO | 0600, 0) == 0);
    int names = 0, length = 0;
    DIR *d = opendir(".");
    for (struct dirent *e; (e = readdir(d)) != NULL; names++)
        length += strlen(e->d_name);
    closedir(d);
    printf("names %d, %d letters\n", names, length);
    for (int i = 0; i < 500; i++) {
        snprintf(text, sizeof text, "dir/%d-%d", i, i * i);
        close(creat(text, 0600));
    }
    names = length = 0;
    d = opendir("dir");
    for (struct dirent *e; (e = readdir(d)) != NULL; names++) {
        length += strlen(e->d_name);
        if (e->d_name[0] != '.')
            unlinkat(dirfd(d), e->d_name, 0);
    }
    rewinddir(d);
    printf("many names %d, %d letters\n", names, length);
    for (names = 0; readdir(d); names++)
        ;
    printf("left %d\n", names);
    closedir(d);
    CHECK(rmdir("dir") == 0 && unlink("fifo") == 0);
    char here[PATH_MAX], again[PATH_MAX];
    CHECK(getcwd(here, sizeof here) && chdir("/") == 0 && getcwd(again, sizeof again) && !strcmp(again, "/"));
    CHECK(fchdir(dir) == 0 && getcwd(again, sizeof again) && !strcmp(here, again));
    CHECK(FAILS(syscall(SYS_getcwd, here, 2), ERANGE));
    CHECK(unlink("file") == 0 && unlink("soft") == 0);
}

static void locks(void)
{
    int fd = open("lock", O_RDWR | O_CREAT, 0600), status;
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 5};
    CHECK(fcntl(fd, F_SETLK, &lock) == 0);
    if (fork() == 0) {
        struct flock seen = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
        if (fcntl(fd, F_GETLK, &seen) || seen.l_type != F_WRLCK || seen.l_start != 10 || seen.l_len != 5 ||
            seen.l_pid != getppid())
            _exit(1);
        if (fcntl(fd, F_SETLK, &seen) != -1 || (errno != EAGAIN && errno != EACCES))
            _exit(2);
        seen.l_start = (off_t)1 << (sizeof(off_t) == 8 ? 40 : 20);
        _exit(fcntl(fd, F_SETLK, &seen) ? 3 : 0);
    }
    wait(&status);
    CHECK(WEXITSTATUS(status) == 0);
    CHECK(flock(fd, LOCK_EX) == 0 && flock(fd, LOCK_UN) == 0 && lockf(fd, F_TEST, 0) == 0);
    struct flock ofd = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 100, .l_len = 1};
    CHECK(fcntl(fd, F_OFD_SETLK, &ofd) == 0);
    unlink("lock");
}

static void descriptors(void)
{
    int p[2], q[2], fd;
    char buffer[64];
    CHECK(pipe2(p, O_CLOEXEC | O_NONBLOCK) == 0 && fcntl(p[0], F_GETFD) == FD_CLOEXEC);
    CHECK(FAILS(read(p[0], buffer, 1), EAGAIN));
    struct iovec iov[3] = {{"ab", 2}, {"", 0}, {"cde", 3}};
    CHECK(writev(p[1], iov, 3) == 5);
    int n;
    CHECK(ioctl(p[0], FIONREAD, &n) == 0 && n == 5);
    struct iovec in[2] = {{buffer, 1}, {buffer + 10, 20}};
    CHECK(readv(p[0], in, 2) == 5 && buffer[0] == 'a' && !memcmp(buffer + 10, "bcde", 4));
    CHECK(FAILS(writev(p[1], iov, 1025), EINVAL) && FAILS(writev(p[1], iov, -1), EINVAL));
    CHECK(FAILS(readv(p[0], BAD, 1), EFAULT) && writev(p[1], iov, 0) == 0);
    CHECK((fd = dup(p[0])) >= 0 && dup2(fd, 40) == 40 && dup3(fd, 41, O_CLOEXEC) == 41 && close(40) == 0);
    CHECK(FAILS(dup3(fd, fd, 0), EINVAL) && dup2(fd, fd) == fd && fcntl(fd, F_DUPFD, 50) == 50);
    CHECK(FAILS(dup2(999, 5), EBADF) && FAILS(close(999), EBADF));
    CHECK(syscall(SYS_close_range, 41, 50, 0) == 0 && FAILS(fcntl(50, F_GETFD), EBADF));
    n = 0;
    CHECK(ioctl(p[0], FIONBIO, &n) == 0 && !(fcntl(p[0], F_GETFL) & O_NONBLOCK));
    CHECK(FAILS(ioctl(p[0], TCGETS, buffer), ENOTTY) && FAILS(ioctl(p[0], 0xdeadbeef, 0), ENOTTY));
    CHECK(FAILS(ioctl(999, FIONREAD, &n), EBADF) && FAILS(ioctl(p[0], FIONREAD, BAD), EFAULT));
    /* IOCTL_VM_SOCKETS_GET_LOCAL_CID: its number tells nothing of its argument. */
    int vsock = open("/dev/vsock", O_RDONLY);
    n = 0;
    CHECK(vsock < 0 || (ioctl(vsock, 0x7b9, &n) == 0 && n != 0 && FAILS(ioctl(vsock, 0x7b9, BAD), EFAULT)));
    close(vsock);
    CHECK(fcntl(p[1], F_GETPIPE_SZ) >= 4096);
    fd = open("data", O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(pwritev(fd, iov, 3, 100) == 5 && preadv(fd, in, 2, 101) == 4 && buffer[0] == 'b');
    CHECK(preadv2(fd, in, 2, 100, 0) == 5 && pwritev2(fd, iov, 1, 0, RWF_DSYNC) == 2);
    off_t at = 100;
    CHECK(sendfile(p[1], fd, &at, 5) == 5 && at == 105 && read(p[0], buffer, 64) == 5);
    loff_t from = 100;
    CHECK(splice(fd, &from, p[1], NULL, 5, 0) == 5 && from == 105);
    CHECK(pipe(q) == 0 && tee(p[0], q[1], 3, 0) == 3 && read(q[0], buffer, 64) == 3 && read(p[0], buffer, 64) == 5);
    CHECK(vmsplice(q[1], iov, 1, 0) == 2 && read(q[0], buffer, 64) == 2);
    int other = open("copy", O_RDWR | O_CREAT | O_TRUNC, 0600);
    from = 0;
    loff_t to = 7;
    CHECK(copy_file_range(fd, &from, other, &to, 105, 0) == 105 && to == 112);
    CHECK(fsync(fd) == 0 && fdatasync(fd) == 0 && syncfs(fd) == 0 && sync_file_range(fd, 0, 10, 0) == 0);
    CHECK(readahead(fd, 0, 10) == 0);
    unlink("data");
    unlink("copy");
    int ev = eventfd(3, EFD_NONBLOCK);
    uint64_t value = 4;
    CHECK(write(ev, &value, 8) == 8 && read(ev, &value, 8) == 8 && value == 7 && FAILS(read(ev, &value, 8), EAGAIN));
    int mem = memfd_create("name", MFD_ALLOW_SEALING);
    CHECK(mem >= 0 && ftruncate(mem, 100) == 0 && fcntl(mem, F_ADD_SEALS, F_SEAL_GROW) == 0);
    CHECK(fcntl(mem, F_GET_SEALS) == F_SEAL_GROW && FAILS(ftruncate(mem, 200), EPERM));
    int ino = inotify_init1(IN_NONBLOCK), wd = inotify_add_watch(ino, ".", IN_CREATE);
    close(creat("noticed", 0600));
    struct inotify_event *event = (void *)buffer;
    CHECK(read(ino, buffer, sizeof buffer) > 0 && event->wd == wd && !strcmp(event->name, "noticed"));
    CHECK(inotify_rm_watch(ino, wd) == 0);
    unlink("noticed");
}

static void readiness(void)
{
    int p[2];
    pipe(p);
    fd_set in, out;
    FD_ZERO(&in);
    FD_ZERO(&out);
    FD_SET(p[0], &in);
    FD_SET(p[1], &out);
    struct timeval tv = {0, 10000};
    CHECK(select(64, &in, &out, NULL, &tv) == 1 && !FD_ISSET(p[0], &in) && FD_ISSET(p[1], &out));
    FD_SET(p[0], &in);
    tv = (struct timeval){0, 10000};
    CHECK(select(p[0] + 1, &in, NULL, NULL, &tv) == 0 && tv.tv_sec == 0 && tv.tv_usec == 0);
    CHECK(FAILS(select(-1, NULL, NULL, NULL, &tv), EINVAL) && FAILS(select(1, BAD, NULL, NULL, &tv), EFAULT));
    FD_ZERO(&in);
    FD_SET(60, &in);
    tv = (struct timeval){0, 0};
    CHECK(FAILS(select(61, &in, NULL, NULL, &tv), EBADF));
    struct pollfd fds[2] = {{p[0], POLLIN, 7}, {p[1], POLLOUT, 7}};
    CHECK(poll(fds, 2, 10) == 1 && fds[0].revents == 0 && fds[1].revents == POLLOUT);
    struct timespec ts = {0, 1000000};
    CHECK(ppoll(fds, 1, &ts, NULL) == 0 && FAILS(poll(BAD, 1, 0), EFAULT) && poll(NULL, 0, 1) == 0);
    write(p[1], "x", 1);
    CHECK(poll(fds, 2, 10) == 2 && fds[0].revents == POLLIN);
    int ep = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event e = {EPOLLIN, {.u64 = 0x1122334455667788}}, got[3];
    CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &e) == 0 && FAILS(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &e), EEXIST));
    e.events = EPOLLOUT;
    e.data.u64 = 9;
    CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, p[1], &e) == 0 && epoll_wait(ep, got, 3, 10) == 2);
    CHECK(got[0].data.u64 + got[1].data.u64 == 0x1122334455667788 + 9);
    CHECK(epoll_ctl(ep, EPOLL_CTL_DEL, p[1], NULL) == 0 && epoll_wait(ep, got, 3, 10) == 1 && got[0].events == EPOLLIN);
    CHECK(FAILS(epoll_wait(ep, got, 0, 0), EINVAL) && FAILS(epoll_wait(ep, got, -1, 0), EINVAL));
    CHECK(FAILS(epoll_wait(ep, BAD, 1, 0), EFAULT) && FAILS(epoll_ctl(ep, EPOLL_CTL_MOD, p[0], BAD), EFAULT));
    int t = timerfd_create(CLOCK_MONOTONIC, 0);
    struct itimerspec spec = {{0, 1000000}, {0, 1000000}}, now;
    uint64_t ticks;
    CHECK(timerfd_settime(t, 0, &spec, NULL) == 0 && timerfd_gettime(t, &now) == 0 && now.it_interval.tv_nsec == 1000000);
    usleep(5000);
    CHECK(read(t, &ticks, 8) == 8 && ticks >= 2);
}

static void sockets(void)
{
    int s[2], fds[2], type;
    socklen_t length = sizeof type;
    char buffer[256];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s) == 0 && fcntl(s[0], F_GETFD) == FD_CLOEXEC);
    CHECK(getsockopt(s[0], SOL_SOCKET, SO_TYPE, &type, &length) == 0 && type == SOCK_STREAM && length == sizeof type);
    struct ucred cred;
    length = sizeof cred;
    CHECK(getsockopt(s[0], SOL_SOCKET, SO_PEERCRED, &cred, &length) == 0 && cred.pid == getpid());
    pipe(fds);
    struct iovec iov[2] = {{"one", 3}, {"two", 3}};
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(2 * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
    } control;
    memset(&control, 0, sizeof control);
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2, .msg_control = &control};
    msg.msg_controllen = CMSG_SPACE(2 * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred));
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(2 * sizeof(int));
    memcpy(CMSG_DATA(c), fds, sizeof fds);
    c = CMSG_NXTHDR(&msg, c);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_CREDENTIALS;
    c->cmsg_len = CMSG_LEN(sizeof cred);
    cred = (struct ucred){getpid(), getuid(), getgid()};
    memcpy(CMSG_DATA(c), &cred, sizeof cred);
    int on = 1;
    CHECK(setsockopt(s[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0);
    CHECK(sendmsg(s[0], &msg, 0) == 6);
    struct iovec in = {buffer, sizeof buffer};
    memset(&control, 0, sizeof control);
    msg.msg_iov = &in;
    msg.msg_iovlen = 1;
    msg.msg_controllen = sizeof control;
    CHECK(recvmsg(s[1], &msg, 0) == 6 && !memcmp(buffer, "onetwo", 6) && msg.msg_flags == 0);
    int rights = 0, creds = 0;
    for (c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
        if (c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(2 * sizeof(int))) {
            int got[2];
            memcpy(got, CMSG_DATA(c), sizeof got);
            rights = write(got[1], "via", 3) == 3 && read(fds[0], buffer, 3) == 3;
        }
        if (c->cmsg_type == SCM_CREDENTIALS && c->cmsg_len == CMSG_LEN(sizeof cred)) {
            memcpy(&cred, CMSG_DATA(c), sizeof cred);
            creds = cred.pid == getpid() && cred.uid == getuid();
        }
    }
    printf("rights %d credentials %d\n", rights, creds);
    /* Too little room: the message says so. */
    msg.msg_iov = iov;
    msg.msg_control = NULL;
    msg.msg_controllen = 0;
    sendmsg(s[0], &msg, 0);
    char tiny[CMSG_LEN(4)];
    msg.msg_iov = &in;
    msg.msg_control = tiny;
    msg.msg_controllen = sizeof tiny;
    CHECK(recvmsg(s[1], &msg, 0) == 3 && msg.msg_flags == MSG_CTRUNC);
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, peer;
    int server = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);
    length = sizeof addr;
    CHECK(bind(server, (void *)&addr, sizeof addr) == 0 && listen(server, 5) == 0);
    CHECK(getsockname(server, (void *)&addr, &length) == 0 && length == sizeof addr && addr.sin_port);
    CHECK(connect(client, (void *)&addr, sizeof addr) == 0);
    length = sizeof peer;
    int conn = accept4(server, (void *)&peer, &length, SOCK_NONBLOCK);
    CHECK(conn >= 0 && length == sizeof peer && peer.sin_family == AF_INET);
    CHECK(FAILS(recv(conn, buffer, 1, 0), EAGAIN));
    CHECK(send(client, "hello", 5, MSG_NOSIGNAL) == 5 && shutdown(client, SHUT_WR) == 0);
    usleep(1000);
    CHECK(recv(conn, buffer, 99, MSG_PEEK) == 5 && recv(conn, buffer, 99, 0) == 5 && recv(conn, buffer, 99, 0) == 0);
    struct timeval tv = {0, 20000};
    CHECK(setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv) == 0);
    length = sizeof tv;
    tv.tv_usec = 0;
    CHECK(getsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &tv, &length) == 0 && tv.tv_usec == 20000 && length == sizeof tv);
    CHECK(FAILS(recv(client, buffer, 1, 0), EAGAIN));
    int a = socket(AF_INET, SOCK_DGRAM, 0);
    addr.sin_port = 0;
    bind(a, (void *)&addr, sizeof addr);
    length = sizeof addr;
    getsockname(a, (void *)&addr, &length);
    CHECK(setsockopt(a, SOL_SOCKET, SO_TIMESTAMP, &on, sizeof on) == 0);
    CHECK(setsockopt(a, SOL_IP, IP_PKTINFO, &on, sizeof on) == 0);
    struct mmsghdr many[3];
    memset(many, 0, sizeof many);
    for (int i = 0; i < 3; i++) {
        many[i].msg_hdr = (struct msghdr){.msg_name = &addr, .msg_namelen = sizeof addr, .msg_iov = iov, .msg_iovlen = 1 + i % 2};
    }
    CHECK(sendmmsg(a, many, 3, 0) == 3 && many[0].msg_len == 3 && many[1].msg_len == 6);
    char big[512];
    msg = (struct msghdr){.msg_name = &peer, .msg_namelen = sizeof peer, .msg_iov = &in, .msg_iovlen = 1};
    msg.msg_control = big;
    msg.msg_controllen = sizeof big;
    CHECK(recvmsg(a, &msg, 0) == 3 && msg.msg_namelen == sizeof peer && peer.sin_port == addr.sin_port);
    int stamps = 0, infos = 0;
    for (c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMP && c->cmsg_len == CMSG_LEN(sizeof tv)) {
            memcpy(&tv, CMSG_DATA(c), sizeof tv);
            stamps += tv.tv_sec <= time(NULL) && tv.tv_sec >= time(NULL) - 10;
        }
        if (c->cmsg_level == SOL_IP && c->cmsg_type == IP_PKTINFO)
            infos += c->cmsg_len == CMSG_LEN(sizeof(struct in_pktinfo));
    }
    printf("timestamps %d packet infos %d\n", stamps, infos);
    char one[8], two[8];
    struct iovec pieces[2] = {{one, 8}, {two, 8}};
    memset(many, 0, sizeof many);
    for (int i = 0; i < 2; i++)
        many[i].msg_hdr = (struct msghdr){.msg_iov = &pieces[i], .msg_iovlen = 1};
    struct timespec wait = {1, 0};
    CHECK(recvmmsg(a, many, 2, MSG_WAITFORONE, &wait) == 2 && many[0].msg_len == 6 && many[1].msg_len == 3);
    CHECK(sendto(a, "q", 1, 0, (void *)&addr, sizeof addr) == 1);
    length = sizeof peer;
    CHECK(recvfrom(a, buffer, 9, 0, (void *)&peer, &length) == 1 && peer.sin_port == addr.sin_port);
    struct sockaddr_un un = {.sun_family = AF_UNIX, .sun_path = "socket"};
    int u = socket(AF_UNIX, SOCK_DGRAM, 0);
    CHECK(bind(u, (void *)&un, sizeof un) == 0 && access("socket", F_OK) == 0);
    unlink("socket");
    struct linger linger = {1, 2};
    length = sizeof linger;
    CHECK(setsockopt(client, SOL_SOCKET, SO_LINGER, &linger, sizeof linger) == 0);
    CHECK(getsockopt(client, SOL_SOCKET, SO_LINGER, &linger, &length) == 0 && linger.l_linger == 2);
    CHECK(FAILS(sendmsg(a, BAD, 0), EFAULT) && DIRECT(FAILS(recvmsg(a, BAD, 0), EFAULT)) && FAILS(bind(a, BAD, 16), EFAULT));
    CHECK(FAILS(getsockname(a, (void *)&addr, BAD), EFAULT) && FAILS(connect(999, (void *)&addr, 16), EBADF));
    CHECK(FAILS(send(s[0], BAD, 1, 0), EFAULT) && FAILS(socket(999, 1, 0), EAFNOSUPPORT));
}

static void clocks(void)
{
    struct timespec a, b, res;
    struct timeval tv;
    struct tms tms;
    struct rusage usage;
    CHECK(clock_gettime(CLOCK_REALTIME, &a) == 0 && gettimeofday(&tv, NULL) == 0 && tv.tv_sec - a.tv_sec <= 1);
    CHECK(time(NULL) - a.tv_sec <= 1 && clock_getres(CLOCK_MONOTONIC, &res) == 0 && res.tv_sec == 0 && res.tv_nsec > 0);
    CHECK(FAILS(clock_gettime(99, &a), EINVAL));
    clock_gettime(CLOCK_MONOTONIC, &a);
    struct timespec nap = {0, 20000000};
    CHECK(nanosleep(&nap, NULL) == 0 && clock_gettime(CLOCK_MONOTONIC, &b) == 0);
    CHECK((b.tv_sec - a.tv_sec) * 1000000000ll + b.tv_nsec - a.tv_nsec >= 20000000);
    nap.tv_nsec = 1000000000;
    CHECK(FAILS(nanosleep(&nap, NULL), EINVAL) && clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &a, NULL) == 0);
    CHECK(times(&tms) != -1 && getrusage(RUSAGE_SELF, &usage) == 0 && usage.ru_maxrss > 0 && usage.ru_utime.tv_usec >= 0);
    struct itimerval timer = {{0, 0}, {5, 6}}, old;
    CHECK(setitimer(ITIMER_VIRTUAL, &timer, NULL) == 0 && getitimer(ITIMER_VIRTUAL, &old) == 0 && old.it_value.tv_sec >= 4);
    timer.it_value = (struct timeval){0, 0};
    setitimer(ITIMER_VIRTUAL, &timer, NULL);
}

static void processes(void)
{
    int status;
    siginfo_t info;
    struct rusage usage;
    pid_t child = fork();
    if (child == 0)
        _exit(42);
    CHECK(waitid(P_PID, child, &info, WEXITED | WNOWAIT) == 0 && info.si_pid == child && info.si_status == 42);
    CHECK(info.si_code == CLD_EXITED && info.si_signo == SIGCHLD && info.si_uid == getuid());
    CHECK(wait4(child, &status, 0, &usage) == child && WEXITSTATUS(status) == 42 && usage.ru_maxrss > 0);
    CHECK(FAILS(wait4(-1, &status, WNOHANG, NULL), ECHILD) && FAILS(waitpid(child, &status, 0x1000), EINVAL));
    child = vfork();
    if (child == 0)
        _exit(3);
    CHECK(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 3);
    CHECK(system("exit 5") == 5 << 8);
    CHECK(getpid() == syscall(SYS_gettid) && getppid() > 0 && getpgid(0) == getpgrp() && getsid(0) >= 0);
    struct rlimit limit;
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur >= 64 && limit.rlim_cur <= limit.rlim_max);
    limit.rlim_cur = 64;
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0 && getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur == 64);
    CHECK(FAILS(getrlimit(99, &limit), EINVAL));
    limit.rlim_cur = limit.rlim_max = RLIM_INFINITY;
    CHECK(prlimit(0, RLIMIT_CORE, NULL, &limit) == 0);
    struct utsname uts;
    CHECK(uname(&uts) == 0 && !strcmp(uts.sysname, "Linux"));
    struct sysinfo si;
    CHECK(sysinfo(&si) == 0 && si.uptime > 0 && (uint64_t)si.totalram * si.mem_unit > 1 << 20 && si.procs > 0);
    cpu_set_t set;
    CHECK(sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0 && sched_yield() == 0);
    CHECK(sched_getscheduler(0) == SCHED_OTHER && sched_get_priority_max(SCHED_FIFO) == 99);
    unsigned cpu, node;
    CHECK(getcpu(&cpu, &node) == 0 && cpu < 4096);
    char name[16];
    CHECK(prctl(PR_SET_NAME, "renamed-program") == 0 && prctl(PR_GET_NAME, name) == 0 && !strcmp(name, "renamed-program"));
    CHECK(FAILS(prctl(9999, 0, 0, 0, 0), EINVAL) && prctl(PR_SET_PDEATHSIG, 0) == 0);
    int before = getpriority(PRIO_PROCESS, 0);
    CHECK(nice(1) == before + 1 && getpriority(PRIO_PROCESS, 0) == before + 1);
    gid_t groups[256];
    uid_t r, e, s;
    CHECK(getgroups(256, groups) >= 0 && getresuid(&r, &e, &s) == 0 && r == getuid() && e == geteuid());
    CHECK(getrandom(name, 16, 0) == 16 && FAILS(getrandom(BAD, 16, 0), EFAULT));
    uint32_t word = 5;
    struct timespec soon = {0, 1000000};
    CHECK(FAILS(syscall(SYS_futex, &word, FUTEX_WAIT, 4, &soon, NULL, 0), EAGAIN));
    CHECK(syscall(SYS_futex, &word, FUTEX_WAKE, 1, NULL, NULL, 0) == 0);
    CHECK(FAILS(syscall(SYS_futex, BAD, FUTEX_WAKE_OP, 1, NULL, BAD, 0), EFAULT));
    char link[PATH_MAX], text[4096];
    ssize_t n = readlink("/proc/self/exe", link, sizeof link - 1);
    CHECK(n > 0 && (link[n] = 0, access(link, X_OK) == 0) && strstr(link, "calls"));
    int fd = open("/proc/self/maps", O_RDONLY);
    n = read(fd, text, sizeof text - 1);
    CHECK(n > 0 && (text[n] = 0, strstr(text, "calls") != NULL));
    close(fd);
    fd = open("/proc/self/cmdline", O_RDONLY);
    n = read(fd, text, sizeof text);
    CHECK(n > 10 && !memcmp(text + n - 10, "processes", 10));
    close(fd);
    fd = open("/proc/self/auxv", O_RDONLY);
    CHECK(fd >= 0 && read(fd, text, sizeof text) % (2 * sizeof(long)) == 0);
    CHECK(FAILS(syscall(9999), ENOSYS));
}

static void ipc(void)
{
    int id = shmget(IPC_PRIVATE, 10000, IPC_CREAT | 0600), status;
    struct shmid_ds ds;
    char *a = shmat(id, NULL, 0), *b = shmat(id, NULL, SHM_RDONLY);
    CHECK(id >= 0 && a != (void *)-1 && b != (void *)-1);
    strcpy(a, "shared");
    CHECK(!strcmp(b, "shared"));
    CHECK(shmctl(id, IPC_STAT, &ds) == 0 && ds.shm_segsz == 10000 && ds.shm_nattch == 2 && ds.shm_cpid == getpid());
    CHECK((ds.shm_perm.mode & 0777) == 0600 && ds.shm_perm.uid == getuid());
    if (fork() == 0) {
        strcpy(a, "child");
        _exit(0);
    }
    wait(&status);
    CHECK(!strcmp(b, "child"));
    CHECK(shmctl(id, IPC_RMID, NULL) == 0 && shmdt(a) == 0 && shmdt(b) == 0 && FAILS(shmdt(b), EINVAL));
    int sem = semget(IPC_PRIVATE, 2, IPC_CREAT | 0600);
    union semun {
        int val;
        struct semid_ds *buf;
        unsigned short *array;
    } arg;
    struct semid_ds sds;
    unsigned short values[2] = {3, 4};
    arg.array = values;
    CHECK(semctl(sem, 0, SETALL, arg) == 0 && semctl(sem, 1, GETVAL) == 4);
    arg.val = 9;
    CHECK(semctl(sem, 0, SETVAL, arg) == 0 && semctl(sem, 0, GETVAL) == 9);
    arg.buf = &sds;
    CHECK(semctl(sem, 0, IPC_STAT, arg) == 0 && sds.sem_nsems == 2);
    struct sembuf op = {1, -5, IPC_NOWAIT};
    CHECK(FAILS(semop(sem, &op, 1), EAGAIN));
    op.sem_flg = 0;
    struct timespec ts = {0, 10000000};
    CHECK(FAILS(semtimedop(sem, &op, 1, &ts), EAGAIN));
    op.sem_op = -4;
    CHECK(semop(sem, &op, 1) == 0 && semctl(sem, 1, GETVAL) == 0 && semctl(sem, 0, IPC_RMID) == 0);
    int q = msgget(IPC_PRIVATE, IPC_CREAT | 0600);
    struct {
        long type;
        char text[32];
    } m = {7, "message"};
    struct msqid_ds mds;
    CHECK(msgsnd(q, &m, 8, 0) == 0 && msgctl(q, IPC_STAT, &mds) == 0 && mds.msg_qnum == 1);
    memset(&m, 0, sizeof m);
    CHECK(msgrcv(q, &m, 32, 0, 0) == 8 && m.type == 7 && !strcmp(m.text, "message"));
    CHECK(FAILS(msgrcv(q, &m, 32, 0, IPC_NOWAIT), ENOMSG) && msgctl(q, IPC_RMID, NULL) == 0);
    struct mq_attr attr = {.mq_maxmsg = 3, .mq_msgsize = 50}, now;
    mq_unlink("/emu-test");
    mqd_t mq = mq_open("/emu-test", O_RDWR | O_CREAT | O_NONBLOCK, 0600, &attr);
    if (mq == -1 && errno == ENOSYS) {
        puts("no message queues here");
        return;
    }
    unsigned prio;
    CHECK(mq >= 0 && mq_send(mq, "low", 4, 1) == 0 && mq_send(mq, "high", 5, 9) == 0);
    CHECK(mq_getattr(mq, &now) == 0 && now.mq_curmsgs == 2 && now.mq_maxmsg == 3 && now.mq_msgsize == 50);
    CHECK(mq_receive(mq, m.text, 50, &prio) == 5 && prio == 9);
    CHECK(mq_unlink("/emu-test") == 0);
}

static void terminals(void)
{
    int master, slave;
    struct termios tio;
    struct winsize size = {24, 80, 0, 0}, got;
    char name[64], buffer[64];
    CHECK(openpty(&master, &slave, name, NULL, &size) == 0 && isatty(slave) && !strncmp(name, "/dev/pts/", 9));
    CHECK(chmod(name, 0600) == 0 && chown(name, getuid(), (gid_t)-1) == 0);
    CHECK(ioctl(slave, TIOCGWINSZ, &got) == 0 && got.ws_row == 24 && got.ws_col == 80);
    CHECK(tcgetattr(slave, &tio) == 0 && (tio.c_lflag & ICANON) && (tio.c_oflag & OPOST));
    cfmakeraw(&tio);
    CHECK(tcsetattr(slave, TCSANOW, &tio) == 0 && tcgetattr(slave, &tio) == 0 && !(tio.c_lflag & ICANON));
    CHECK(write(master, "key", 3) == 3 && read(slave, buffer, 64) == 3 && write(slave, "out\n", 4) == 4);
    CHECK(read(master, buffer, 64) == 4 && tcflush(slave, TCIOFLUSH) == 0 && cfgetospeed(&tio) == B38400);
    int n;
    CHECK(ioctl(master, TIOCGPTN, &n) == 0 && n >= 0);
    pid_t child = fork();
    if (child == 0) {
        setsid();
        if (ioctl(slave, TIOCSCTTY, 0) || tcgetpgrp(slave) != getpid() || tcsetpgrp(slave, getpid()))
            _exit(1);
        signal(SIGINT, SIG_DFL);
        write(slave, "r", 1);
        for (;;)
            pause();
    }
    read(master, buffer, 1);
    tio.c_lflag |= ISIG;
    tcsetattr(slave, TCSANOW, &tio);
    write(master, "\003", 1);
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGINT);
}

/* Arguments that no program means. */
static void hostile(void)
{
    char small[16];
    int fd = open("/dev/zero", O_RDWR), p[2];
    pipe(p);
    CHECK(FAILS(read(fd, BAD, 10), EFAULT) && FAILS(write(p[1], BAD, 10), EFAULT));
    CHECK(FAILS(read(fd, (void *)-4096l, 8192), EFAULT) && FAILS(read(fd, (void *)LONG_MIN, 1), EFAULT));
    CHECK(FAILS(open(BAD, O_RDONLY), EFAULT) && FAILS(open((void *)-1l, O_RDONLY), EFAULT) && FAILS(open("", 0), ENOENT));
    CHECK(DIRECT(FAILS(stat("/", BAD), EFAULT) && FAILS(fstat(0, (void *)-8l), EFAULT)) && FAILS(uname(BAD), EFAULT));
    char *name = malloc(PATH_MAX + 100);
    memset(name, 'a', PATH_MAX + 99);
    name[PATH_MAX + 99] = 0;
    CHECK(FAILS(open(name, O_RDONLY), ENAMETOOLONG) && FAILS(mkdir(name, 0700), ENAMETOOLONG));
    CHECK(FAILS(pipe(BAD), EFAULT) && FAILS(syscall(SYS_rt_sigaction, 10, BAD, NULL, 8), EFAULT));
    CHECK(FAILS(syscall(SYS_rt_sigaction, 10, NULL, NULL, 7), EINVAL));
    CHECK(FAILS(syscall(SYS_rt_sigprocmask, 77, small, NULL, 8), EINVAL));
    CHECK(FAILS(syscall(SYS_rt_sigprocmask, 0, BAD, NULL, 8), EFAULT));
    CHECK(FAILS(syscall(SYS_clock_gettime, 0, BAD), EFAULT) && FAILS(syscall(SYS_nanosleep, BAD, NULL), EFAULT));
    struct iovec iov = {BAD, 5}, none = {small, 0};
    CHECK(FAILS(writev(p[1], &iov, 1), EFAULT) && writev(p[1], &none, 1) == 0);
    struct iovec negative = {small, -1};
    CHECK(FAILS(readv(fd, &negative, 1), EINVAL));
    CHECK(FAILS(getsockname(fd, BAD, BAD), ENOTSOCK) && FAILS(fcntl(fd, F_SETLK, BAD), EFAULT));
    CHECK(FAILS(fcntl(fd, 9999, 0), EINVAL) && FAILS(lseek(p[0], 0, SEEK_SET), ESPIPE) && FAILS(lseek(fd, 0, 99), EINVAL));
    CHECK(FAILS(syscall(SYS_getdents64, fd, small, 16), ENOTDIR) && FAILS(execve("/bin/true", BAD, NULL), EFAULT));
    CHECK(FAILS(kill(getpid(), 65), EINVAL) && FAILS(kill(getpid(), -1), EINVAL) && FAILS(kill(0x7ffffffe, 0), ESRCH));
    CHECK(FAILS(wait4(-1, BAD, 0, NULL), ECHILD) && DIRECT(FAILS(setrlimit(RLIMIT_CORE, BAD), EFAULT)));
    CHECK(FAILS(syscall(SYS_setitimer, 99, NULL, NULL), EINVAL) && FAILS(prctl(PR_SET_NAME, BAD), EFAULT));
    CHECK(FAILS(sigaltstack(BAD, NULL), EFAULT) && FAILS(syscall(SYS_rt_sigsuspend, BAD, 8), EFAULT));
    CHECK(FAILS(getgroups(-1, NULL), EINVAL) && FAILS(syscall(SYS_sched_getaffinity, 0, 0, small), EINVAL));
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } parts[] = {
        {"status", status}, {"locks", locks}, {"descriptors", descriptors}, {"readiness", readiness},
        {"sockets", sockets}, {"clocks", clocks}, {"processes", processes}, {"ipc", ipc},
        {"terminals", terminals}, {"hostile", hostile},
    };
    char directory[] = "/tmp/emu-calls-XXXXXX";
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc < 2 || !mkdtemp(directory) || chdir(directory))
        return 2;
    for (unsigned i = 0; i < sizeof parts / sizeof *parts; i++)
        if (!strcmp(argv[1], parts[i].name))
            parts[i].run();
    return rmdir(directory) != 0;
}
