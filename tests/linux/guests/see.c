/* Calls of many kinds, for those who look at them: see.c's own output is "done". */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void on_signal(int sig)
{
}

int main(int argc, char **argv)
{
    char buffer[256];
    int fds[2];
    struct stat st;
    struct timespec nap = {0, 1000};
    syscall(SYS_openat, AT_FDCWD, "/nowhere/at all\n", O_RDONLY | O_CLOEXEC);
    syscall(SYS_openat, AT_FDCWD, "/dev/null", O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK, 0640);
    syscall(SYS_openat, -7, (char *)16, O_RDWR | O_DIRECTORY | O_NOFOLLOW);
    pipe2(fds, O_CLOEXEC);
    write(fds[1], "a \"line\"\n\1\0012\377 and then some more than fits into it", 48);
    read(fds[0], buffer, sizeof buffer);
    struct iovec vectors[] = {{"one", 3}, {"two\t", 4}};
    writev(fds[1], vectors, 2);
    struct pollfd ready[] = {{fds[0], POLLIN | POLLPRI}, {fds[1], POLLIN}};
    syscall(SYS_ppoll, ready, 2, NULL, NULL, 8);
    fcntl(fds[0], F_SETFD, FD_CLOEXEC);
    fcntl(fds[0], F_GETFD);
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    fcntl(fds[0], F_DUPFD_CLOEXEC, 20);
    syscall(SYS_lseek, fds[0], 0L, SEEK_END);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u64 = 7};
    epoll_ctl(epoll, EPOLL_CTL_ADD, fds[0], &event);
    syscall(SYS_epoll_pwait, epoll, &event, 1, 0, NULL, 8);
    void *memory = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(memory, 4096, PROT_NONE);
    madvise(memory, 4096, MADV_DONTNEED);
    munmap(memory, 8192);
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &action, NULL);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    kill(getpid(), SIGUSR1);
    nanosleep(&nap, NULL);
    struct sockaddr_un local = {AF_UNIX, "/nowhere/socket"};
    struct sockaddr_in inet = {AF_INET, htons(1), {htonl(0x7f000001)}};
    int socket_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    connect(socket_fd, (struct sockaddr *)&local, sizeof local);
    int inet_fd = socket(AF_INET, SOCK_DGRAM, 0);
    connect(inet_fd, (struct sockaddr *)&inet, sizeof inet);
    int one = 1;
    setsockopt(inet_fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, fds);
    send(fds[0], "packet", 6, MSG_NOSIGNAL);
    recv(fds[1], buffer, 100, MSG_DONTWAIT | MSG_PEEK);
    struct itimerval timer = {{0, 0}, {100, 5}};
    setitimer(ITIMER_REAL, &timer, NULL);
    umask(027);
    unlinkat(AT_FDCWD, "/nowhere/file", AT_REMOVEDIR);
    int child = fork();
    if (child == 0)
        syscall(SYS_exit_group, 3);
    int status;
    syscall(SYS_wait4, child, &status, 0, NULL);
    write(1, "done\n", 5);
    raise(SIGTERM);
}
