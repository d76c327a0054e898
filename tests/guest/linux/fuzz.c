/*
 * Random system calls: fuzz SEED CALLS [TABLE].
 *
 * A line of TABLE is a call: its number, its name and a letter for each register
 * that it takes (test_fuzz.py writes it from isa/syscalls).  So calls get mostly
 * what they want: descriptors of every kind, paths, structures that are nearly
 * right; and sometimes what nobody wants.  Pointers lead into a buffer, to the
 * ends of its pages, to pages that cannot be read or written, or nowhere.
 *
 * A batch is made by a child.  Calls that end, stop, duplicate or replace it,
 * that change the system around it, or its memory elsewhere than in a playground,
 * are left out or made harmless: so nothing may end a batch, whatever its seed.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 500, ROOM = 65536, PLAY_PAGES = 64, PAGE = 4096, PATIENCE = 60 };

static const char *const left_out[] = {
    /* they end, stop, duplicate or replace the program, or what it runs with */
    "exit", "exit_group", "rt_sigreturn", "sigreturn", "clone", "clone3", "fork", "vfork", "execve", "execveat",
    "ptrace", "arch_prctl", "set_tls", "breakpoint", "seccomp", "setsid", "rt_sigaction", "sigaction",
    "rt_sigprocmask", "sigprocmask", "setitimer", "alarm", "timer_create", "timer_settime", "timer_settime64",
    "timer_delete", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_send_signal", "restart_syscall", "sigsuspend",
    "process_vm_writev",
    /* they change the system or other processes */
    "reboot", "sethostname", "setdomainname", "mount", "umount2", "pivot_root", "swapon", "swapoff", "syslog",
    "vhangup", "acct", "settimeofday", "adjtimex", "clock_settime", "clock_settime64", "clock_adjtime",
    "clock_adjtime64", "setpriority", "ioprio_set", "sync", "syncfs", "unshare", "setns", "mlockall", "fallocate",
    "sched_setscheduler", "sched_setparam", "sched_setattr", "sched_setaffinity", "shmget", "semget", "msgget",
    "mq_open", "add_key", "request_key", "process_mrelease", "setpgid", "nice", "stime",
};

static uint64_t state;
static uint32_t next(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 16);
}
static int odds(unsigned of)
{
    return next() % of == 0;
}

static struct call {
    long nr;
    char name[32], letters[8];
} calls[600];
static unsigned call_count;

static char *buffer, *playground; /* around both, and in the middle of the buffer, pages without rights */
static int fds[64], fd_count, objects[3];
static long pages_end[4];

static const char *const paths[] = {
    "file", "folder", "folder/inner", "link", "dangling", "loop", "fifo", "socket", "new", "new/er", "folder/../file",
    ".", "", "./folder/.", "/file", "/folder", "//folder//..//file", "/proc/self/fd/3", "/proc/self/exe",
    "/proc/self/maps", "/proc/self/cwd/file", "/proc/self/mem", "/proc/cpuinfo", "/proc/self", "/proc/self/fd",
    "/dev/null", "/dev/zero", "/dev/fd/4", "/dev/ptmx", "file/", "file/x", "link/..", "folder/up/file",
};

static const long requests[] = {
    0x5401, 0x5402, 0x5403, 0x5404, 0x5405, 0x5406, 0x5409, 0x540a, 0x540b, 0x540c, 0x540d, 0x540f, 0x5411, 0x5413,
    0x5414, 0x5415, 0x5420, 0x541b, 0x5421, 0x5422, 0x5423, 0x5424, 0x5425, 0x5427, 0x5428, 0x5429, 0x802c542a,
    0x402c542b, 0x80045430, 0x40045431, 0x5441, 0x5450, 0x5451, 0x5452, 0x5456, 0x5457, 0x5460, 0x8903, 0x8904, 0x8905,
    0x8906, 0x8907, 0x8910, 0x8912, 0x8913, 0x8915, 0x8927, 0x8933, 0x8946, 0x894b, 0x80086601, 0x40086602, 0x80046601,
    0xc020660b, 0x801c581f, 0x4004940a, 0x40049409, 0x4020940d, 0xc0189436, 0x80041272, 0x1260, 1, 2, 0x80047476,
    0x80045432, 0x80045438, 0x80045439, 0x5437, 0xc0045878, 0xc0105867, 0x40806685, 0xc0046686, 0xc0286687,
};

static const long numbers[] = {
    0, 1, 2, 3, 4, 7, 8, 16, 24, 29, 64, 128, 255, 512, 4095, 4096, 4097, 65536, -1, -2, INT_MAX, INT_MIN, 0x7fffffffl,
    0x80000000l, 0x1000, 0x4000, 0x8000, 0x40000, 0x80000, 0x100000,
};

static long number(void)
{
    switch (next() % 8) {
    case 0:
        return (long)next();
    case 1:
        return (long)(((uint64_t)next() << 32) | next());
    case 2:
        return (long)1 << (next() % (8 * sizeof(long)));
    case 3:
        return numbers[next() % (sizeof numbers / sizeof *numbers)];
    case 4:
        return (long)(((uint64_t)next() << 32) | next() % 64); /* what lies above 32 bits is not an int's */
    default:
        return next() % 64;
    }
}

static long wild(void)
{
    switch (next() % 8) {
    case 0:
        return 0;
    case 1:
        return -(long)(next() % 8192) - 1;
    case 2:
        return number();
    case 3:
        return (long)(buffer - 1 - next() % 64);
    case 4:
        return (long)(playground - 1 - next() % PAGE);
    case 5:
        return (long)((uintptr_t)buffer ^ (uintptr_t)1 << (8 * sizeof(long) - 1 - next() % 20));
    default:
        return pages_end[next() % 4] - next() % 64;
    }
}

/* Where nothing can be read. */
static long nowhere(void)
{
    return (long)(buffer - 64);
}

/* Things that calls like to find at the end of a pointer. */
static void structure(char *at)
{
    long words[16] = {0};
    unsigned pick = next() % 16;
    memset(at, 0, 256);
    switch (pick) {
    case 0: /* times, limits, intervals */
        for (unsigned i = 0; i < 4; i++)
            words[i] = odds(4) ? number() : i % 2 ? (long)(next() % 2000000) : 0;
        break;
    case 1: /* iovecs */
        for (unsigned i = 0; i < 8; i++)
            words[2 * i] = odds(8) ? wild() : (long)(buffer + next() % ROOM), words[2 * i + 1] = odds(8) ? number() : (long)(next() % 5000);
        break;
    case 2: /* msghdr and its control message */
    case 3:
        words[0] = (long)(buffer + next() % ROOM);
        words[1] = odds(4) ? number() : (long)(next() % 130);
        words[2] = (long)(at + 64);
        words[3] = next() % 4;
        words[4] = (long)(at + 128);
        words[5] = odds(4) ? number() : (long)(next() % 120);
        memcpy(at + 64, (long[]){(long)buffer, 100, (long)buffer + 5, 1}, 4 * sizeof(long));
        memcpy(at + 128, (long[]){sizeof(long) + 8 + 4 * (next() % 4)}, sizeof(long));
        memcpy(at + 128 + sizeof(long), (int[]){next() % 3 ? SOL_SOCKET : next() % 64, 1 + next() % 3, fds[next() % fd_count], 1}, 16);
        break;
    case 4: /* pollfds, arrays of ints */
        for (unsigned i = 0; i < 16; i++)
            memcpy(at + 8 * i, (int[]){odds(4) ? (int)number() : fds[next() % fd_count], (int)next()}, 8);
        return;
    case 5: /* addresses of sockets */
        switch (next() % 4) {
        case 0: {
            struct sockaddr_un name = {AF_UNIX, ""};
            strcpy(name.sun_path, paths[next() % (sizeof paths / sizeof *paths)]);
            memcpy(at, &name, sizeof name);
            return;
        }
        case 1: {
            struct sockaddr_un name = {AF_UNIX, "\0abstract"};
            memcpy(at, &name, sizeof name);
            return;
        }
        default: {
            struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = (uint16_t)next(), .sin_addr = {htonl(0x7f000001)}};
            memcpy(at, &name, sizeof name);
            return;
        }
        }
    case 6: /* sets of signals, of descriptors */
        memset(at, 0, 128);
        memcpy(at, (uint32_t[]){odds(2) ? 0 : 1u << fds[next() % fd_count] % 32}, 4);
        return;
    case 7: /* struct flock, sembuf */
        memcpy(at, (short[]){next() % 3, next() % 3, 0, 0}, 8);
        memcpy(at + 8, (long[]){number(), number()}, 2 * sizeof(long));
        return;
    case 8: /* a size before its structure: open_how, sched_attr, lengths of addresses */
        memcpy(at, (uint32_t[]){odds(4) ? next() : next() % 130, next() % 4, 0, next() % 64}, 16);
        return;
    case 9: { /* a list that leads to itself: robust lists */
        words[0] = (long)at;
        words[1] = odds(2) ? -(long)sizeof(long) : (long)(next() % 64);
        words[2] = (long)(buffer + next() % ROOM);
        break;
    }
    case 10: /* a filter, pairs of a length and a pointer */
        words[0] = next() % 8;
        words[1] = (long)(buffer + next() % ROOM);
        break;
    case 11:
        strcpy(at, paths[next() % (sizeof paths / sizeof *paths)]);
        return;
    case 12:
        memset(at, 'x', 255);
        return;
    default:
        for (unsigned i = 0; i < 64; i++)
            at[next() % 256] = (char)next();
        return;
    }
    memcpy(at, words, sizeof words);
}

static long pointer(void)
{
    if (odds(6))
        return wild();
    char *at = buffer + next() % (ROOM / 2 - 512);
    at -= odds(4) ? 0 : (uintptr_t)at % 8;
    structure(at);
    return (long)at;
}

static long descriptor(void)
{
    switch (next() % 16) {
    case 0:
        return -1;
    case 1:
        return -100;
    case 2:
        return (long)next();
    case 3:
        return next() % 64;
    case 4:
        return (long)(((uint64_t)next() << 32) | (uint32_t)fds[next() % fd_count]);
    default:
        return fds[next() % fd_count];
    }
}

static long path(void)
{
    char *at = buffer + ROOM / 2 - 512;
    if (odds(12))
        return wild();
    if (odds(12)) { /* up to the page's last byte, and beyond */
        const char *name = paths[next() % (sizeof paths / sizeof *paths)];
        at = buffer + ROOM / 2 - strlen(name) - next() % 2;
        memcpy(at, name, buffer + ROOM / 2 - at);
        return (long)at;
    }
    at += next() % 2 ? 0 : 128;
    strcpy(at, paths[next() % (sizeof paths / sizeof *paths)]);
    return (long)at;
}

static long argument(char letter)
{
    if (odds(24))
        return odds(2) ? number() : wild();
    switch (letter) {
    case 'f':
        return descriptor();
    case 'p':
        return path();
    case 'b':
        return pointer();
    case 'P': /* processes: none but this one and its kind */
        return odds(4) ? 0 : odds(3) ? 0x7ffffff0 : getpid();
    case 'a':
        return odds(4) ? pointer() : (long)(playground + next() % PLAY_PAGES * PAGE + (odds(8) ? next() % PAGE : 0));
    case 's':
        return odds(4) ? number() : (long)(next() % 5000);
    default:
        return number();
    }
}

static void nothing(int sig)
{
}

static void keep(int fd)
{
    if (fd >= 0 && fd_count < 40)
        fds[fd_count++] = fd;
}

static void open_all(void)
{
    int p[2];
    for (int fd = 3; fd < 60; fd++)
        close(fd);
    fd_count = 0;
    mkdir("folder", 0700);
    symlink("..", "folder/up");
    symlink("file", "link");
    symlink("nowhere", "dangling");
    symlink("loop", "loop");
    mkfifo("fifo", 0600);
    int fd = open("file", O_RDWR | O_CREAT, 0600);
    write(fd, "some text in a file\n", 20);
    keep(fd);
    keep(open("folder", O_RDONLY | O_DIRECTORY));
    if (pipe2(p, O_NONBLOCK) == 0)
        keep(p[0]), keep(p[1]);
    static const int types[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET};
    for (unsigned i = 0; i < 3; i++)
        if (socketpair(AF_UNIX, types[i] | SOCK_NONBLOCK, 0, p) == 0)
            keep(p[0]), keep(p[1]);
    keep(socket(AF_UNIX, SOCK_STREAM, 0));
    keep(socket(AF_INET, SOCK_DGRAM, 0));
    keep(fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    listen(fd, 1);
    keep(socket(AF_INET6, SOCK_DGRAM, 0));
    keep(eventfd(1, EFD_NONBLOCK));
    keep(fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
    int ready = epoll_create1(0);
    struct epoll_event event = {EPOLLIN};
    epoll_ctl(ready, EPOLL_CTL_ADD, fd, &event);
    keep(ready);
    keep(inotify_init1(IN_NONBLOCK));
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    keep(signalfd(-1, &set, SFD_NONBLOCK));
    keep(fd = syscall(SYS_memfd_create, "memory", 2));
    ftruncate(fd, 20000);
    keep(syscall(SYS_pidfd_open, getpid(), 0));
    keep(open("file", O_PATH));
    keep(open("link", O_PATH | O_NOFOLLOW));
    keep(open("/dev/null", O_RDWR));
    keep(open("/dev/zero", O_RDWR));
    keep(fd = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK));
    ioctl(fd, TIOCSPTLCK, &(int){0});
    keep(ioctl(fd, 0x5441 /* TIOCGPTPEER */, O_RDWR | O_NOCTTY | O_NONBLOCK));
    keep(open("/proc/self/maps", O_RDONLY));
    keep(open("/proc/self/mem", O_RDWR));
    keep(open("/proc/self/fd", O_RDONLY | O_DIRECTORY));
    if (fd_count == 0)
        keep(0);
}

static void play(void)
{
    mmap(playground, PLAY_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

static int in_play(long addr)
{
    return (uintptr_t)addr - (uintptr_t)playground < PLAY_PAGES * PAGE;
}

/* Makes a call harmless; false: it is not made. */
static int tame(const struct call *call, long *a)
{
    const char *name = call->name;
#define IS(text) (strcmp(name, text) == 0)
    for (unsigned k = 0; k < sizeof left_out / sizeof *left_out; k++)
        if (IS(left_out[k]))
            return 0;
    if (IS("munmap") || IS("mprotect") || IS("madvise") || IS("mremap") || IS("mmap") || IS("mmap2") || IS("shmat") ||
        IS("shmdt") || IS("cacheflush") || IS("riscv_flush_icache") || IS("msync") || IS("mlock") || IS("mincore")) {
        long *addr = &a[IS("shmat") ? 1 : 0];
        if (!in_play(*addr))
            *addr = (long)(playground + next() % PLAY_PAGES * PAGE);
        /* A size that stays in the playground, or one that fits nowhere. */
        if (IS("shmat") || IS("shmdt")) {
            *addr &= IS("shmat") ? ~(long)(4 * PAGE - 1) : -1;
            *addr = in_play(*addr) && in_play(*addr + 4 * PAGE - 1) ? *addr : 0;
            a[0] = IS("shmat") ? objects[0] : a[0];
            return 1;
        }
        long rest = playground + PLAY_PAGES * PAGE - (char *)*addr;
        if ((unsigned long)a[1] > (unsigned long)rest)
            a[1] = odds(2) ? -(long)(next() % 100000) - 1 : next() % rest;
        if (IS("mremap")) {
            if ((unsigned long)a[2] > 64 * PAGE)
                a[2] = odds(2) ? -(long)(next() % 100000) - 1 : next() % (64 * PAGE);
            if (a[3] & MREMAP_FIXED) {
                a[4] = (long)(playground + next() % PLAY_PAGES / 2 * PAGE);
                if ((unsigned long)a[2] > PLAY_PAGES / 2 * PAGE)
                    a[2] = PAGE;
            }
        }
        if (IS("mmap") || IS("mmap2"))
            a[3] = (a[3] & ~(long)(MAP_POPULATE | MAP_LOCKED | 0x40000)) | (odds(2) ? MAP_FIXED | MAP_PRIVATE : 0) | (odds(2) ? MAP_ANONYMOUS : 0);
        return 1;
    }
    if (IS("brk")) {
        a[0] = odds(2) ? number() : (long)syscall(SYS_brk, 0) + next() % 70000; /* it never takes anything away */
        return (unsigned long)a[0] >= (unsigned long)syscall(SYS_brk, 0) || (unsigned long)a[0] < 4096;
    }
    if (IS("kill") || IS("tkill") || IS("tgkill")) {
        long sig = odds(2) ? 0 : odds(2) ? SIGURG : 65 + next() % 1000;
        a[0] = odds(4) ? 0x7ffffff0 : getpid();
        a[1] = IS("tgkill") ? getpid() : sig;
        a[2] = sig;
        return 1;
    }
    if (IS("prctl"))
        return (int)a[0] != 1; /* a parent's end is its own */
    if (IS("close") || IS("close_range") || IS("dup2") || IS("dup3"))
        return odds(4);
    if (IS("fcntl") || IS("fcntl64"))
        return (int)a[1] != 8 && (int)a[1] != 10 && (int)a[1] != 15 && (int)a[1] != 1026; /* whom SIGIO is sent to */
    if (IS("ioctl")) {
        a[1] = odds(8) ? a[1] : requests[next() % (sizeof requests / sizeof *requests)];
        return a[1] != 0x8901 && a[1] != 0x8902 && (uint32_t)a[1] != 0x5412;
    }
    if (IS("futex") || IS("futex_time64")) { /* what waits for the end of a process that is not ours */
        int command = a[1] & 127;
        return command != 6 && command != 11 && command != 13;
    }
    if (IS("ppoll") || IS("ppoll_time64") || IS("epoll_pwait")) /* a mask may shut out the timer */
        a[IS("epoll_pwait") ? 4 : 3] = odds(8) ? nowhere() : 0;
    if (IS("epoll_pwait2"))
        a[4] = odds(8) ? nowhere() : 0;
    if (IS("pselect6") || IS("pselect6_time64"))
        a[5] = odds(8) ? nowhere() : 0;
    if (IS("rt_sigsuspend")) {
        memset(buffer, 0, 8);
        a[0] = odds(8) ? nowhere() : (long)buffer;
        a[1] = 8;
    }
    if (IS("rt_sigtimedwait") || IS("rt_sigtimedwait_time64")) {
        memset(buffer + 64, 0, 32);
        memcpy(buffer + 64, (long[]){0, 1000}, 2 * sizeof(long));
        a[2] = (long)(buffer + 64);
    }
    if (IS("mknod") || IS("mknodat")) {
        int at = IS("mknodat") ? 2 : 1;
        a[at] = (a[at] & 07777) | (odds(2) ? S_IFIFO : S_IFREG);
    }
    if (IS("setrlimit") || IS("prlimit64")) {
        static const int harmless[] = {2, 3, 4, 5, 8, 9, 10, 12, 13, 16, 99};
        a[IS("prlimit64")] = harmless[next() % 11];
        if (IS("prlimit64"))
            a[0] = odds(2) ? 0 : getpid();
    }
    if (IS("shmctl") || IS("semop") || IS("semctl") || IS("semtimedop") || IS("semtimedop_time64"))
        a[0] = objects[!IS("shmctl")];
    if (IS("msgsnd") || IS("msgrcv") || IS("msgctl"))
        a[0] = objects[2];
    if ((IS("shmctl") || IS("msgctl")) && a[1] == IPC_RMID)
        return 0;
    if (IS("semctl") && a[2] == IPC_RMID)
        return 0;
    if (IS("poll") || IS("epoll_wait"))
        a[IS("poll") ? 2 : 3] %= 5;
    if (IS("personality"))
        a[0] &= 0xffff; /* nothing that changes what comes next */
    return 1;
}

static void child(unsigned count)
{
    int null = open("/dev/null", O_RDWR);
    for (int fd = 0; fd < 3; fd++)
        dup2(null, fd);
    struct itimerval timer = {{0, 3000}, {0, 3000}};
    struct sigaction sa;
    memset(&sa, 0, sizeof sa);
    sa.sa_handler = nothing;
    sigaction(SIGALRM, &sa, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    signal(SIGPOLL, SIG_IGN);
    signal(SIGTTOU, SIG_IGN);
    signal(SIGTTIN, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    signal(SIGQUIT, SIG_IGN);
    signal(SIGTSTP, SIG_IGN);
    signal(SIGUSR1, SIG_IGN);
    setitimer(ITIMER_REAL, &timer, NULL);
    struct rlimit files = {64, 64}, size = {1 << 20, 1 << 20};
    setrlimit(RLIMIT_NOFILE, &files);
    setrlimit(RLIMIT_FSIZE, &size);
    open_all();
    play();
    for (unsigned i = 0; i < count;) {
        struct call any = {(long)(next() % 480), "", "bbbbbb"}, *call = &any;
        long a[6];
        if (call_count != 0 && !odds(50))
            call = &calls[next() % call_count];
        else if (call_count != 0) { /* by number: one that is not in the table */
            for (unsigned k = 0; k < call_count; k++)
                if (calls[k].nr == any.nr)
                    call = &calls[k];
        }
        size_t letters = strlen(call->letters);
        for (unsigned k = 0; k < 6; k++)
            a[k] = argument(odds(30) ? "fpbasn"[next() % 6] : k < letters ? call->letters[k] : 'n');
        if (!tame(call, a))
            continue;
        i++;
        syscall(call->nr, a[0], a[1], a[2], a[3], a[4], a[5]);
        if (odds(64)) {
            open_all();
            play();
        }
    }
    _exit(0);
}

static void read_table(const char *name)
{
    FILE *file = fopen(name, "r");
    if (file == NULL) {
        perror(name);
        exit(2);
    }
    while (call_count < sizeof calls / sizeof *calls &&
           fscanf(file, "%ld %31s %7s", &calls[call_count].nr, calls[call_count].name, calls[call_count].letters) == 3)
        call_count++;
    fclose(file);
}

int main(int argc, char **argv)
{
    unsigned seed = argc > 1 ? strtoul(argv[1], NULL, 0) : 1, wanted = argc > 2 ? strtoul(argv[2], NULL, 0) : 1000;
    char directory[] = "/tmp/emu-fuzz-XXXXXX";
    if (argc < 4)
        return 2;
    read_table(argv[3]);
    mkdir("/tmp", 0777);
    if (!mkdtemp(directory) || chdir(directory))
        return 2;
    char *area = mmap(NULL, ROOM + (PLAY_PAGES + 4) * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    buffer = area + PAGE;
    playground = buffer + ROOM + PAGE;
    mprotect(buffer, ROOM / 2, PROT_READ | PROT_WRITE);
    mprotect(buffer + ROOM / 2 + PAGE, ROOM / 2 - PAGE, PROT_READ | PROT_WRITE);
    mprotect(buffer + ROOM - PAGE, PAGE, PROT_READ);
    pages_end[0] = (long)(buffer + ROOM / 2);
    pages_end[1] = (long)(buffer + ROOM - PAGE);
    pages_end[2] = (long)(buffer + ROOM);
    pages_end[3] = (long)(playground + PLAY_PAGES * PAGE);
    signal(SIGCHLD, nothing);
    objects[0] = shmget(IPC_PRIVATE, 10000, 0600);
    objects[1] = semget(IPC_PRIVATE, 4, 0600);
    objects[2] = msgget(IPC_PRIVATE, 0600);
    for (unsigned done = 0; done < wanted; done += BATCH) {
        int status = 0;
        pid_t got = 0;
        fflush(stdout);
        state = 0x9e3779b97f4a7c15u * (seed + done + 1);
        pid_t pid = fork();
        if (pid == 0) {
            setsid();
            child(BATCH);
        }
        for (time_t end = time(NULL) + PATIENCE; got == 0 && time(NULL) < end;) {
            got = waitpid(pid, &status, WNOHANG);
            if (got == 0)
                usleep(2000);
        }
        if (got == 0) {
            printf("batch %u of seed %u: it hangs\n", done / BATCH, seed);
            kill(pid, SIGKILL);
            waitpid(pid, &status, 0);
        } else if (status) {
            printf("batch %u of seed %u: status %#x\n", done / BATCH, seed, status);
        }
    }
    shmctl(objects[0], IPC_RMID, NULL);
    semctl(objects[1], 0, IPC_RMID);
    msgctl(objects[2], IPC_RMID, NULL);
    printf("%u calls\n", wanted);
    return 0;
}
