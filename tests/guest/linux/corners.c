/*
 * Corners of the system calls that calls.c leaves out: corners.  Each line is a
 * fact that is the same on every ISA.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096 };
#define SHOW(what, value)                                                                                     \
    do {                                                                                                      \
        errno = 0;                                                                                            \
        long shown = (long)(value);                                                                           \
        printf("%s: %ld%s%s\n", what, shown, shown == -1 && errno ? " " : "",                                \
               shown == -1 && errno ? strerror(errno) : "");                                                  \
    } while (0)
#define TEXT(value) SHOW(#value, value)

static uint32_t words[4];

/* ---- futexes ------------------------------------------------------------------------------- */

struct waiter {
    uint64_t value, address;
    uint32_t flags, reserved;
};

static void *wake(void *word)
{
    usleep(50000);
    __atomic_store_n((uint32_t *)word, 1, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 10, NULL, NULL, 0);
    return NULL;
}

static void *lock_pi(void *word)
{
    long status = syscall(SYS_futex, word, FUTEX_LOCK_PI | FUTEX_PRIVATE_FLAG, 0, NULL, NULL, 0);
    long mine = (*(uint32_t *)word & FUTEX_TID_MASK) == (uint32_t)syscall(SYS_gettid);
    syscall(SYS_futex, word, FUTEX_UNLOCK_PI | FUTEX_PRIVATE_FLAG, 0, NULL, NULL, 0);
    return (void *)(status * 10 + mine);
}

static void *die_with_it(void *unused)
{
    static pthread_mutexattr_t attr;
    return (void *)(long)pthread_mutex_lock(unused);
}

static void futexes(void)
{
    struct waiter waiters[3];
    struct {
        int64_t seconds, rest;
    } until;
    struct timespec now;
    pthread_t thread;
    void *result;
    clock_gettime(CLOCK_MONOTONIC, &now);
    until.seconds = now.tv_sec;
    until.rest = now.tv_nsec;
    for (int i = 0; i < 3; i++)
        waiters[i] = (struct waiter){0, (uintptr_t)&words[i], 2 | 128, 0};
    TEXT(syscall(449, waiters, 3, 0, &until, CLOCK_MONOTONIC));
    until.seconds += 20;
    pthread_create(&thread, NULL, wake, &words[1]);
    TEXT(syscall(449, waiters, 3, 0, &until, CLOCK_MONOTONIC));
    pthread_join(thread, NULL);
    TEXT(syscall(449, waiters, 3, 0, NULL, 0));
    waiters[2].address = 0x5000;
    waiters[1].value = 1;
    TEXT(syscall(449, waiters, 3, 0, NULL, 0));
    TEXT(syscall(449, waiters, 129, 0, NULL, 0));
    TEXT(syscall(449, waiters, 0, 0, NULL, 0));
    TEXT(syscall(449, (void *)0x5000, 3, 0, NULL, 0));
    TEXT(syscall(449, waiters, 3, 1, NULL, 0));
    memset(words, 0, sizeof words);
    TEXT(syscall(SYS_futex, &words[0], FUTEX_LOCK_PI | FUTEX_PRIVATE_FLAG, 0, NULL, NULL, 0));
    TEXT(words[0] == (uint32_t)syscall(SYS_gettid));
    TEXT(syscall(SYS_futex, &words[0], FUTEX_LOCK_PI | FUTEX_PRIVATE_FLAG, 0, NULL, NULL, 0));
    TEXT(syscall(SYS_futex, &words[0], FUTEX_TRYLOCK_PI | FUTEX_PRIVATE_FLAG, 0, NULL, NULL, 0));
    pthread_create(&thread, NULL, lock_pi, &words[0]);
    while (!(__atomic_load_n(&words[0], __ATOMIC_SEQ_CST) & FUTEX_WAITERS))
        sched_yield();
    TEXT(syscall(SYS_futex, &words[0], FUTEX_UNLOCK_PI | FUTEX_PRIVATE_FLAG, 0, NULL, NULL, 0));
    pthread_join(thread, &result);
    SHOW("the other one's", result);
    TEXT(syscall(SYS_futex, &words[0], FUTEX_UNLOCK_PI | FUTEX_PRIVATE_FLAG, 0, NULL, NULL, 0));
    TEXT(syscall(SYS_futex, &words[0], FUTEX_WAIT, 1, NULL, NULL, 0));
    TEXT(syscall(SYS_futex, &words[0], FUTEX_WAIT_BITSET, 0, NULL, NULL, 0));
    TEXT(syscall(SYS_futex, (char *)&words[0] + 1, FUTEX_WAKE, 1, NULL, NULL, 0));
    TEXT(syscall(SYS_futex, NULL, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, NULL, NULL, 0));
    TEXT(syscall(SYS_futex, (void *)0x5000, FUTEX_WAIT, 0, NULL, NULL, 0));
    TEXT(syscall(SYS_futex, &words[0], 99, 0, NULL, NULL, 0));
    TEXT(syscall(SYS_futex, &words[0], FUTEX_CMP_REQUEUE, 1, 1, &words[1], 5));
    TEXT(syscall(SYS_futex, &words[0], FUTEX_WAKE_OP, 1, 1, &words[1], 1 << 28 | 3 << 12));
    TEXT(words[1]);
    pthread_mutex_t *robust = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_mutexattr_t attr;
    for (int pi = 0; pi < 2; pi++) {
        pthread_mutexattr_init(&attr);
        pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
        pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
        pthread_mutexattr_setprotocol(&attr, pi ? PTHREAD_PRIO_INHERIT : PTHREAD_PRIO_NONE);
        pthread_mutex_init(robust, &attr);
        if (fork() == 0) {
            pthread_mutex_lock(robust);
            _exit(0);
        }
        wait(NULL);
        SHOW("whose owner has died", pthread_mutex_lock(robust) == EOWNERDEAD);
        SHOW("made whole", pthread_mutex_consistent(robust));
        pthread_mutex_unlock(robust);
        pthread_create(&thread, NULL, die_with_it, robust);
        pthread_join(thread, &result);
        SHOW("whose thread has ended", pthread_mutex_lock(robust) == EOWNERDEAD);
        pthread_mutex_consistent(robust);
        pthread_mutex_unlock(robust);
    }
}

/* ---- memory ----------------------------------------------------------------------------------- */

static int depth(int n)
{
    volatile char room[16384];
    room[0] = 1;
    return n ? depth(n - 1) + room[0] : 0;
}

static void memory(void)
{
    struct rlimit limit;
    /* A stack that may grow further, in a child: by instructions, and in the kernel's calls. */
    for (int kernel = 0; kernel < 2; kernel++) {
        fflush(stdout);
        if (fork() == 0) {
            getrlimit(RLIMIT_STACK, &limit);
            limit.rlim_cur = 40 << 20;
            setrlimit(RLIMIT_STACK, &limit);
            if (kernel) {
                char *far = (char *)__builtin_frame_address(0) - (20 << 20);
                int fd = open("/dev/zero", O_RDONLY);
                _exit(read(fd, far, 100) == 100 ? 3 : 1);
            }
            _exit(depth(1800) == 1800 ? 2 : 1);
        }
        int status;
        wait(&status);
        SHOW("a deeper stack", WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
    }
    char *area = mmap(NULL, 4 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(area, 4 << 20);
    volatile char *down = mmap(area + (3 << 20), PAGE, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED, -1, 0);
    down[-5000] = 7;
    SHOW("what grows down", down[-5000] + down[-9000]);
    munmap(area, 4 << 20);
    struct rlimit little = {.rlim_cur = 64 << 20, .rlim_max = 64 << 20};
    fflush(stdout);
    if (fork() == 0) {
        SHOW("data", setrlimit(RLIMIT_DATA, &little));
        SHOW("too much data", mmap(NULL, 80 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
        SHOW("no data", mmap(NULL, 80 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
        SHOW("shared", mmap(NULL, 80 << 20, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
        SHOW("break", sbrk(80 << 20) == (void *)-1);
        little.rlim_cur = 32 << 20;
        SHOW("lower", prlimit(0, RLIMIT_DATA, &little, &limit));
        SHOW("was", limit.rlim_cur == 64 << 20);
        little.rlim_max = 16 << 20;
        TEXT(setrlimit(RLIMIT_DATA, &little));
        little.rlim_cur = little.rlim_max = 400ul << 20;
        SHOW("all", setrlimit(RLIMIT_AS, &little));
        SHOW("too much", mmap(NULL, 500 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
        char line[256];
        FILE *file = fopen("/proc/self/limits", "r");
        while (fgets(line, sizeof line, file))
            if (!strncmp(line, "Max data", 8) || !strncmp(line, "Max address", 11))
                fputs(line, stdout);
        fflush(stdout);
        _exit(0);
    }
    wait(NULL);
    TEXT(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, -1, 0) == MAP_FAILED);
    TEXT(madvise((void *)((uintptr_t)&words & -PAGE), PAGE, 777));
    TEXT(mincore((void *)((uintptr_t)&words & -PAGE), PAGE, (void *)0x5000));
    TEXT(mincore((void *)((uintptr_t)&words & -PAGE), -1, (void *)words));
    TEXT(munmap((void *)1, PAGE));
    TEXT(mprotect((void *)0x5000, PAGE, PROT_READ));
    TEXT(syscall(SYS_mremap, 0x5000, PAGE, PAGE, 0, 0));
    TEXT(syscall(SYS_msync, 0x5000, PAGE, MS_SYNC));
    TEXT(syscall(SYS_membarrier, 0, 0, 0) > 0);
}

/* ---- interprocess communication ------------------------------------------------------------------- */

static void ipc(void)
{
    int shm = shmget(IPC_PRIVATE, 10000, 0640), sem = semget(IPC_PRIVATE, 3, 0600), msg = msgget(IPC_PRIVATE, 0600);
    struct shmid_ds segment;
    struct shminfo most;
    struct shm_info used;
    struct semid_ds semaphores;
    struct seminfo counts;
    struct msqid_ds queue;
    struct msginfo messages;
    SHOW("shm info", shmctl(0, IPC_INFO, (void *)&most) >= 0);
    SHOW("of one page", most.shmmin == 1 && most.shmmni >= 128);
    int last = shmctl(0, SHM_INFO, (void *)&used);
    SHOW("in use", last >= 0 && used.used_ids >= 1 && used.shm_tot >= 3);
    int seen = 0, any = 0;
    for (int i = 0; i <= last; i++) {
        seen += shmctl(i, SHM_STAT, &segment) == shm && segment.shm_segsz == 10000 && (segment.shm_perm.mode & 0777) == 0640;
        any += shmctl(i, 15, &segment) == shm && segment.shm_segsz == 10000;
    }
    SHOW("seen", seen * 10 + any);
    last = semctl(0, 0, SEM_INFO, &counts);
    SHOW("semaphores", last >= 0 && counts.semusz >= 1);
    for (int i = seen = any = 0; i <= last; i++) {
        seen += semctl(i, 0, SEM_STAT, &semaphores) == sem && semaphores.sem_nsems == 3;
        any += semctl(i, 0, 20, &semaphores) == sem && semaphores.sem_nsems == 3;
    }
    SHOW("seen", seen * 10 + any);
    last = msgctl(0, MSG_INFO, (void *)&messages);
    SHOW("messages", last >= 0 && messages.msgpool >= 1);
    for (int i = seen = any = 0; i <= last; i++) {
        seen += msgctl(i, MSG_STAT, &queue) == msg && queue.msg_qnum == 0;
        any += msgctl(i, 13, &queue) == msg && queue.msg_qbytes > 0;
    }
    SHOW("seen", seen * 10 + any);
    TEXT(shmctl(shm, 777, &segment));
    /* Not the C library's, which looks into the structure itself. */
    int wide = sizeof(long) == 4 ? 0x100 : 0;
    SHOW("shmctl", syscall(SYS_shmctl, shm, IPC_STAT | wide, 0x5000));
    SHOW("msgctl", syscall(SYS_msgctl, msg, IPC_STAT | wide, 0x5000));
    TEXT(semctl(sem, 0, GETALL, (void *)0x5000));
    TEXT(shmat(shm, (void *)0x5001, 0) == (void *)-1);
    TEXT(shmdt((void *)0x5000));
    shmctl(shm, IPC_RMID, NULL);
    semctl(sem, 0, IPC_RMID);
    msgctl(msg, IPC_RMID, NULL);
}

/* ---- processes --------------------------------------------------------------------------------------- */

/* What another process sees of a program that has been executed. */
static void child_seen(void)
{
    char path[64], text[256];
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        execve("/proc/self/exe", (char *[]){"kid", "wait", "a b", NULL}, (char *[]){"A=b", "LONG=er", NULL});
        _exit(1);
    }
    for (int i = 0; i < 2; i++) {
        ssize_t got = 0;
        snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, i ? "environ" : "cmdline");
        for (int tries = 0; tries < 5000 && (got < 3 || (i == 0 && memcmp(text, "kid", 3))); tries++) {
            int fd = open(path, O_RDONLY);
            got = read(fd, text, sizeof text - 1);
            close(fd);
            usleep(2000);
        }
        for (ssize_t k = 0; k < got; k++)
            putchar(text[k] ? text[k] : '|');
        putchar('\n');
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void processes(void)
{
    int value = 0;
    char name[17] = "";
    TEXT(prctl(PR_SET_NAME, "a name of more than fifteen"));
    prctl(PR_GET_NAME, name);
    printf("%s\n", name);
    TEXT(prctl(PR_GET_DUMPABLE));
    TEXT(prctl(PR_SET_DUMPABLE, 2));
    TEXT(prctl(PR_GET_KEEPCAPS));
    TEXT(prctl(PR_SET_PDEATHSIG, SIGUSR1));
    TEXT(prctl(PR_GET_PDEATHSIG, &value));
    TEXT(value == SIGUSR1);
    TEXT(prctl(PR_SET_PDEATHSIG, 99));
    prctl(PR_SET_PDEATHSIG, 0);
    TEXT(prctl(PR_GET_PDEATHSIG, 0x5000));
    TEXT(prctl(PR_SET_CHILD_SUBREAPER, 1));
    TEXT(prctl(PR_GET_CHILD_SUBREAPER, &value));
    TEXT(value);
    TEXT(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    TEXT(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    TEXT(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    TEXT(prctl(PR_GET_TIMERSLACK));
    TEXT(prctl(PR_SET_TIMERSLACK, 70000));
    TEXT(prctl(PR_GET_TIMERSLACK));
    TEXT(prctl(PR_GET_TIMING));
    TEXT(prctl(PR_SET_TIMING, 0));
    TEXT(prctl(PR_SET_TIMING, 1));
    TEXT(prctl(PR_GET_SECCOMP));
    TEXT(prctl(PR_CAPBSET_READ, 0));
    TEXT(prctl(PR_CAPBSET_READ, 999));
    TEXT(prctl(PR_TASK_PERF_EVENTS_DISABLE));
    TEXT(prctl(PR_TASK_PERF_EVENTS_ENABLE));
    TEXT(prctl(12345));
    TEXT(syscall(SYS_personality, 0xffffffff));
    TEXT(syscall(SYS_personality, 0x0040000));
    TEXT(syscall(SYS_personality, 0));
    struct sched_attr {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
        uint32_t clamp[2];
    } attr;
    memset(&attr, 0xff, sizeof attr);
    TEXT(syscall(SYS_sched_getattr, 0, &attr, sizeof attr, 0));
    printf("%d %d %d\n", attr.size, attr.policy, attr.nice);
    TEXT(syscall(SYS_sched_getattr, 0, &attr, 10, 0));
    attr.size = sizeof attr;
    TEXT(syscall(SYS_sched_setattr, 0, &attr, 0));
    attr.size = 3;
    TEXT(syscall(SYS_sched_setattr, 0, &attr, 0));
    TEXT(syscall(SYS_sched_setattr, 0, NULL, 0));
    TEXT(sched_get_priority_max(SCHED_FIFO));
    TEXT(sched_get_priority_max(77));
    TEXT(syscall(SYS_set_robust_list, words, 5));
    TEXT(syscall(SYS_clone3, (void *)0x5000, 64));
    TEXT(syscall(SYS_clone3, words, 8));
    TEXT(syscall(SYS_kill, getpid(), 65));
    int fd = syscall(SYS_pidfd_open, getpid(), 0);
    TEXT(syscall(SYS_pidfd_getfd, fd, 0, 0) > 0);
    TEXT(syscall(SYS_pidfd_getfd, fd, 999, 0));
    TEXT(syscall(SYS_pidfd_getfd, 0, 0, 0));
    TEXT(syscall(SYS_pidfd_open, 0x7ffffffe, 0));
    TEXT(syscall(SYS_pidfd_open, getpid(), 1));
    TEXT(syscall(SYS_waitid, P_PID, getpid(), NULL, WEXITED, NULL));
    TEXT(syscall(SYS_waitid, 99, 0, NULL, WEXITED, NULL));
    TEXT(syscall(SYS_waitid, P_ALL, 0, NULL, 0, NULL));
    TEXT(getauxval(AT_PAGESZ));
    TEXT(getauxval(AT_SECURE));
    TEXT(getauxval(AT_CLKTCK));
    TEXT(getauxval(AT_RANDOM) != 0);
    child_seen();
    TEXT(strcmp((char *)getauxval(AT_EXECFN), program_invocation_name));
}

/* ---- calls that a signal interrupts ------------------------------------------------------------------- */

static volatile int handled;

static void handler(int sig)
{
    handled++;
}

static void *interrupt(void *thread)
{
    /* Until the call has come back, whenever it has begun. */
    for (int i = 0; i < 1000 && __atomic_load_n(&words[3], __ATOMIC_SEQ_CST) == 0; i++) {
        usleep(3000);
        if (i > 5)
            pthread_kill(*(pthread_t *)thread, SIGUSR1);
    }
    return NULL;
}

static int slow(int kind)
{
    int p[2], s[2], value = 0;
    char text[10];
    struct timespec time = {20, 0}, left; /* nobody waits so long */
    long narrow[2] = {20, 0};
    struct timeval tv = {20, 0};
    struct epoll_event event;
    struct sembuf down = {0, -1, 0};
    fd_set set;
    pipe(p);
    socketpair(AF_UNIX, SOCK_STREAM, 0, s);
    FD_ZERO(&set);
    FD_SET(p[0], &set);
    sigset_t none, usr2;
    sigemptyset(&none);
    sigemptyset(&usr2);
    sigaddset(&usr2, SIGUSR2);
    switch (kind) {
    case 0: return nanosleep(&time, &left) ? errno : 0;
    case 1: return clock_nanosleep(CLOCK_MONOTONIC, 0, &time, &left);
    case 2: return poll(&(struct pollfd){p[0], POLLIN}, 1, 20000) < 0 ? errno : 0;
    case 3: return ppoll(&(struct pollfd){p[0], POLLIN}, 1, &time, &none) < 0 ? errno : 0;
    case 4: return select(p[0] + 1, &set, NULL, NULL, &tv) < 0 ? errno : 0;
    case 5: return pselect(p[0] + 1, &set, NULL, NULL, &time, &none) < 0 ? errno : 0;
    case 6: return epoll_wait(epoll_create1(0), &event, 1, 20000) < 0 ? errno : 0;
    case 7: return semtimedop(semget(IPC_PRIVATE, 1, 0600), &down, 1, &time) < 0 ? errno : 0;
    case 8: return sigtimedwait(&usr2, NULL, &time) < 0 ? errno : 0;
    case 9: setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv); return recv(s[0], text, 1, 0) < 0 ? errno : 0;
    case 10: return syscall(SYS_futex, &value, FUTEX_WAIT, 0, narrow, NULL, 0) < 0 ? errno : 0;
    case 11: return msgrcv(msgget(IPC_PRIVATE, 0600), text, 1, 0, IPC_NOWAIT) < 0 ? errno : 0;
    case 12: /* calls that SA_RESTART begins again: they end by data */
    case 13:
        if (fork() == 0) {
            usleep(300000);
            write(kind == 12 ? p[1] : s[1], "x", 1);
            _exit(0);
        }
        return (kind == 12 ? read(p[0], text, 1) : recv(s[0], text, 1, 0)) < 0 ? errno : 0;
    case 14: {
        pid_t pid = fork();
        if (pid == 0) {
            usleep(300000);
            _exit(0);
        }
        return waitpid(pid, NULL, 0) < 0 ? errno : 0;
    }
    case 15: return read(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK), text, 8) < 0 ? errno : 0;
    case 16: {
        int fd = timerfd_create(CLOCK_MONOTONIC, 0);
        struct itimerspec spec = {{0, 0}, {0, 300000000}};
        timerfd_settime(fd, 0, &spec, NULL);
        uint64_t count;
        return read(fd, &count, 8) < 0 ? errno : 0;
    }
    case 17: { /* pause ends by any handler */
        return pause() < 0 ? errno : 0;
    }
    case 18: return sigsuspend(&none) < 0 ? errno : 0;
    default: {
        struct timespec until;
        pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
        pthread_mutex_lock(&mutex);
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 150000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        return pthread_mutex_timedlock(&mutex, &until);
    }
    }
}

static void interruptions(void)
{
    static const char *const names[] = {"nanosleep", "clock_nanosleep", "poll", "ppoll", "select", "pselect", "epoll_wait",
                                        "semtimedop", "sigtimedwait", "recv with a timeout", "futex", "msgrcv", "read of a pipe",
                                        "recv", "waitpid", "read of nothing", "read of a timer", "pause", "sigsuspend", "mutex"};
    for (int restart = 0; restart < 2; restart++)
        for (int kind = 0; kind < 20; kind++) {
            struct sigaction sa;
            memset(&sa, 0, sizeof sa);
            sa.sa_handler = handler;
            sa.sa_flags = restart ? SA_RESTART : 0;
            sigaction(SIGUSR1, &sa, NULL);
            fflush(stdout);
            pid_t pid = fork();
            if (pid == 0) {
                pthread_t thread, self = pthread_self();
                words[3] = 0;
                pthread_create(&thread, NULL, interrupt, &self);
                int error = slow(kind);
                __atomic_store_n(&words[3], 1, __ATOMIC_SEQ_CST);
                pthread_join(thread, NULL);
                printf("%s%s: %s\n", names[kind], restart ? " with SA_RESTART" : "", error ? strerror(error) : "done");
                fflush(stdout);
                _exit(0);
            }
            waitpid(pid, NULL, 0);
        }
}

/* ---- terminals ----------------------------------------------------------------------------------------- */

static void terminals(void)
{
    static const struct {
        const char *name;
        unsigned long request;
    } requests[] = {
#define R(name) {#name, name}
        R(TCGETS), R(TCGETA), R(TCSBRK), R(TCXONC), R(TCFLSH), R(TIOCEXCL), R(TIOCNXCL), R(TIOCGPGRP), R(TIOCOUTQ),
        R(TIOCGWINSZ), R(TIOCMGET), R(TIOCGSOFTCAR), R(FIONREAD), R(TIOCPKT), R(FIONBIO), R(TIOCGETD), R(TCSBRKP),
        R(TIOCSBRK), R(TIOCCBRK), R(TIOCGSID), R(TIOCGRS485), R(TIOCGPTN), R(TIOCSPTLCK), R(TIOCGDEV), R(TIOCGPKT),
        R(TIOCGPTLCK), R(TIOCGEXCL), R(FIOASYNC), R(TIOCSERGETLSR), R(TIOCGLCKTRMIOS), R(TIOCSLCKTRMIOS),
        R(TIOCGICOUNT), R(TIOCGSERIAL), R(TIOCMIWAIT), R(FIOQSIZE), R(FIONCLEX), R(FIOCLEX), {"TCGETS2", 0x802c542a},
        R(TIOCLINUX), R(TIOCCONS + 0x1000),
    };
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    grantpt(master);
    unlockpt(master);
    int slave = open(ptsname(master), O_RDWR | O_NOCTTY), null = open("/dev/null", O_RDWR), s = socket(AF_INET, SOCK_STREAM, 0);
    for (unsigned i = 0; i < sizeof requests / sizeof *requests; i++) {
        char room[256];
        int fds[4] = {master, slave, null, s};
        printf("%s:", requests[i].name);
        for (int k = 0; k < 4; k++) {
            memset(room, 0, sizeof room);
            printf(" %s,", ioctl(fds[k], requests[i].request, room) < 0 ? strerror(errno) : "done");
        }
        printf(" %s\n", ioctl(slave, requests[i].request, (void *)0x5000) < 0 ? strerror(errno) : "done");
    }
    struct termios locked, tio;
    memset(&locked, 0, sizeof locked);
    locked.c_lflag = ECHO;
    TEXT(ioctl(slave, TIOCSLCKTRMIOS, &locked));
    tcgetattr(slave, &tio);
    tio.c_lflag &= ~(ECHO | ICANON);
    tcsetattr(slave, TCSANOW, &tio);
    tcgetattr(slave, &tio);
    printf("%d %d\n", !!(tio.c_lflag & ECHO), !!(tio.c_lflag & ICANON));
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } parts[] = {{"futexes", futexes}, {"memory", memory}, {"ipc", ipc}, {"processes", processes},
                 {"interruptions", interruptions}, {"terminals", terminals}};
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 1 && !strcmp(argv[1], "wait"))
        for (;;)
            pause();
    for (unsigned i = 0; i < sizeof parts / sizeof *parts; i++)
        if (argc < 2 || !strcmp(argv[1], parts[i].name))
            parts[i].run();
    return 0;
}
