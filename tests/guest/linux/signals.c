/* Signals as a program meets them; what it prints is the same on every Linux. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define CHECK(e) printf("%s: %s\n", #e, (e) ? "yes" : "NO")

static volatile sig_atomic_t count, last, code, value, on_alt, depth, deepest;
static volatile pid_t sender;
static volatile uintptr_t address;
static sigjmp_buf jump;
static char alt[65536];

static void install(int sig, void (*fn)(int, siginfo_t *, void *), int flags, int blocked)
{
    struct sigaction sa;
    memset(&sa, 0, sizeof sa);
    sa.sa_sigaction = fn;
    sa.sa_flags = SA_SIGINFO | flags;
    sigemptyset(&sa.sa_mask);
    if (blocked)
        sigaddset(&sa.sa_mask, blocked);
    if (sigaction(sig, &sa, NULL))
        perror("sigaction");
}

static void note(int sig, siginfo_t *info, void *context)
{
    char here;
    stack_t st;
    count++;
    last = sig;
    code = info->si_code;
    sender = info->si_pid;
    value = info->si_value.sival_int;
    sigaltstack(NULL, &st);
    on_alt = &here >= alt && &here < alt + sizeof alt ? (st.ss_flags & SS_ONSTACK ? 2 : 1) : 0;
}

static void basics(void)
{
    install(SIGUSR1, note, 0, 0);
    kill(getpid(), SIGUSR1);
    printf("kill: count %d sig %d user %d self %d\n", count, last == SIGUSR1, code == SI_USER, sender == getpid());
    raise(SIGUSR1);
    printf("raise: count %d tkill %d\n", count, code == SI_TKILL);
    union sigval v = {.sival_int = 4711};
    sigqueue(getpid(), SIGUSR1, v);
    printf("sigqueue: count %d queue %d value %d\n", count, code == SI_QUEUE, value);
    install(SIGUSR1, note, SA_RESETHAND, 0);
    raise(SIGUSR1);
    struct sigaction sa;
    sigaction(SIGUSR1, NULL, &sa);
    printf("resethand: count %d default %d\n", count, sa.sa_handler == SIG_DFL);
    CHECK(sigaction(SIGKILL, NULL, NULL) == 0);
    errno = 0;
    CHECK(signal(SIGKILL, SIG_IGN) == SIG_ERR && errno == EINVAL);
    CHECK(sigaction(65, NULL, &sa) == -1 && errno == EINVAL);
    CHECK(sigaction(0, NULL, &sa) == -1 && errno == EINVAL);
    signal(SIGUSR1, SIG_IGN);
    raise(SIGUSR1);
    printf("ignored: count %d\n", count);
    raise(SIGURG);
    raise(SIGCHLD);
    raise(SIGWINCH);
    raise(SIGCONT);
    puts("ignored by default");
}

static void inner(int sig, siginfo_t *info, void *context)
{
    depth++;
    if (depth > deepest)
        deepest = depth;
    if (sig == SIGUSR1 && count++ < 3)
        raise(SIGUSR1);
    if (sig == SIGUSR2)
        count++;
    depth--;
}

static void order(int sig, siginfo_t *info, void *context)
{
    printf("begin %s\n", sig == SIGUSR1 ? "usr1" : "usr2");
    if (sig == SIGUSR1)
        raise(SIGUSR2);
    printf("end %s\n", sig == SIGUSR1 ? "usr1" : "usr2");
}

static void masks(void)
{
    sigset_t set, old, pending;
    count = 0;
    install(SIGUSR1, inner, SA_NODEFER, 0);
    raise(SIGUSR1);
    printf("nodefer: deepest %d\n", deepest);
    count = deepest = 0;
    install(SIGUSR1, inner, 0, 0);
    raise(SIGUSR1);
    printf("deferred: deepest %d count %d\n", deepest, count);
    install(SIGUSR1, order, 0, SIGUSR2);
    install(SIGUSR2, order, 0, 0);
    raise(SIGUSR1);
    install(SIGUSR1, order, 0, 0);
    raise(SIGUSR1);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGRTMIN);
    sigaddset(&set, SIGKILL);
    sigprocmask(SIG_BLOCK, &set, &old);
    sigprocmask(SIG_BLOCK, NULL, &pending);
    CHECK(sigismember(&pending, SIGUSR1) && sigismember(&pending, SIGRTMIN) && !sigismember(&pending, SIGKILL));
    install(SIGUSR1, note, 0, 0);
    install(SIGRTMIN, note, 0, 0);
    count = 0;
    raise(SIGUSR1);
    raise(SIGUSR1);
    for (int i = 0; i < 3; i++)
        sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = i});
    sigpending(&pending);
    CHECK(sigismember(&pending, SIGUSR1) && sigismember(&pending, SIGRTMIN) && !sigismember(&pending, SIGUSR2));
    printf("blocked: count %d\n", count);
    sigprocmask(SIG_SETMASK, &old, NULL);
    printf("unblocked: count %d\n", count);
}

static void stacks(void)
{
    stack_t st = {.ss_sp = alt, .ss_size = sizeof alt}, old;
    CHECK(sigaltstack(NULL, &old) == 0 && old.ss_flags == SS_DISABLE);
    CHECK(sigaltstack(&st, NULL) == 0);
    CHECK(sigaltstack(NULL, &old) == 0 && old.ss_sp == alt && old.ss_size == sizeof alt && old.ss_flags == 0);
    install(SIGUSR1, note, SA_ONSTACK, 0);
    raise(SIGUSR1);
    printf("onstack: %d\n", on_alt);
    install(SIGUSR1, note, 0, 0);
    raise(SIGUSR1);
    printf("own stack: %d\n", on_alt);
    st.ss_size = 100;
    CHECK(sigaltstack(&st, NULL) == -1 && errno == ENOMEM);
    st.ss_flags = 77;
    CHECK(sigaltstack(&st, NULL) == -1 && errno == EINVAL);
    st.ss_flags = SS_DISABLE;
    CHECK(sigaltstack(&st, NULL) == 0);
    install(SIGUSR1, note, SA_ONSTACK, 0);
    raise(SIGUSR1);
    printf("disabled: %d\n", on_alt);
}

/* A child that sends `sig` to us after a while, and writes a byte after a longer while. */
static pid_t later(int sig, int fd)
{
    pid_t child = fork();
    if (child == 0) {
        usleep(50000);
        kill(getppid(), sig);
        usleep(100000);
        if (fd >= 0 && write(fd, "x", 1) != 1)
            _exit(1);
        _exit(0);
    }
    return child;
}

static void interrupted(void)
{
    int fds[2], status;
    char byte;
    struct timespec ts = {0, 400000000}, rest = {0, 0};
    if (pipe(fds))
        return;
    count = 0;
    install(SIGUSR1, note, 0, 0);
    pid_t child = later(SIGUSR1, fds[1]);
    CHECK(read(fds[0], &byte, 1) == -1 && errno == EINTR && count == 1);
    CHECK(read(fds[0], &byte, 1) == 1 && byte == 'x');
    waitpid(child, &status, 0);
    install(SIGUSR1, note, SA_RESTART, 0);
    child = later(SIGUSR1, fds[1]);
    CHECK(read(fds[0], &byte, 1) == 1 && count == 2);
    waitpid(child, &status, 0);
    child = later(SIGUSR1, -1);
    CHECK(waitpid(child, &status, 0) == child && count == 3);
    child = later(SIGUSR1, -1);
    CHECK(nanosleep(&ts, &rest) == -1 && errno == EINTR && rest.tv_sec == 0 && rest.tv_nsec > 100000000);
    waitpid(child, &status, 0);
    struct pollfd p = {fds[0], POLLIN, 0};
    child = later(SIGUSR1, -1);
    CHECK(poll(&p, 1, 1000) == -1 && errno == EINTR);
    waitpid(child, &status, 0);
    child = later(SIGUSR1, -1);
    CHECK(pause() == -1 && errno == EINTR);
    waitpid(child, &status, 0);
    /* A signal that is ignored interrupts nothing. */
    signal(SIGUSR2, SIG_IGN);
    child = later(SIGUSR2, fds[1]);
    CHECK(read(fds[0], &byte, 1) == 1);
    waitpid(child, &status, 0);
}

static void waits(void)
{
    sigset_t set, none, old;
    siginfo_t info;
    struct timespec soon = {0, 20000000};
    sigemptyset(&none);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, &old);
    install(SIGUSR1, note, SA_RESTART, 0);
    count = 0;
    CHECK(sigtimedwait(&set, &info, &soon) == -1 && errno == EAGAIN);
    sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = 9});
    CHECK(sigwaitinfo(&set, &info) == SIGUSR1 && info.si_value.sival_int == 9 && info.si_code == SI_QUEUE);
    CHECK(count == 0);
    raise(SIGUSR1);
    CHECK(sigsuspend(&none) == -1 && errno == EINTR && count == 1);
    CHECK(sigprocmask(SIG_BLOCK, NULL, &none) == 0 && sigismember(&none, SIGUSR1));
    sigemptyset(&none);
    pid_t child = later(SIGUSR1, -1);
    CHECK(sigsuspend(&none) == -1 && errno == EINTR && count == 2);
    waitpid(child, NULL, 0);
    raise(SIGUSR1);
    CHECK(ppoll(NULL, 0, NULL, &none) == -1 && errno == EINTR && count == 3);
    child = later(SIGUSR1, -1);
    CHECK(ppoll(NULL, 0, NULL, &none) == -1 && errno == EINTR && count == 4);
    waitpid(child, NULL, 0);
    raise(SIGUSR1);
    CHECK(pselect(0, NULL, NULL, NULL, NULL, &none) == -1 && errno == EINTR && count == 5);
    int ep = epoll_create1(0);
    struct epoll_event event;
    raise(SIGUSR1);
    CHECK(epoll_pwait(ep, &event, 1, -1, &none) == -1 && errno == EINTR && count == 6);
    raise(SIGUSR1);
    CHECK(pselect(0, NULL, NULL, NULL, &soon, NULL) == 0 && count == 6);
    int fd = signalfd(-1, &set, SFD_NONBLOCK);
    struct signalfd_siginfo sfd;
    CHECK(read(fd, &sfd, sizeof sfd) == sizeof sfd && sfd.ssi_signo == SIGUSR1 && sfd.ssi_pid == (uint32_t)getpid());
    CHECK(read(fd, &sfd, sizeof sfd) == -1 && errno == EAGAIN);
    sigprocmask(SIG_SETMASK, &old, NULL);
    CHECK(count == 6);
}

static void fault(int sig, siginfo_t *info, void *context)
{
    count++;
    last = sig;
    code = info->si_code;
    address = (uintptr_t)info->si_addr;
    siglongjmp(jump, 1);
}

static char *repair_page;
static void repair(int sig, siginfo_t *info, void *context)
{
    count++;
    code = info->si_code;
    mprotect(repair_page, 4096, PROT_READ | PROT_WRITE);
}

static void faults(void)
{
    char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    strcpy(page, "text");
    install(SIGSEGV, fault, 0, 0);
    install(SIGBUS, fault, 0, 0);
    install(SIGILL, fault, 0, 0);
    install(SIGTRAP, fault, 0, 0);
    count = 0;
    if (!sigsetjmp(jump, 1))
        *(volatile int *)16 = 1;
    printf("null: %d maperr %d addr %d\n", last == SIGSEGV, code == SEGV_MAPERR, address == 16);
    mprotect(page, 4096, PROT_READ);
    if (!sigsetjmp(jump, 1))
        *(volatile char *)(page + 123) = 1;
    printf("read-only: %d accerr %d addr %d\n", last == SIGSEGV, code == SEGV_ACCERR, address == (uintptr_t)page + 123);
    munmap(page + 4096, 4096);
    if (!sigsetjmp(jump, 1))
        (void)*(volatile char *)(page + 4096);
    printf("unmapped: %d maperr %d addr %d\n", last == SIGSEGV, code == SEGV_MAPERR,
           address == (uintptr_t)page + 4096);
    if (!sigsetjmp(jump, 1))
        ((void (*)(void))(uintptr_t)page)();
    printf("not executable: %d accerr %d\n", last == SIGSEGV, code == SEGV_ACCERR);
    if (!sigsetjmp(jump, 1)) {
#if defined(__aarch64__) || defined(__riscv)
        __asm__ volatile(".word 0");
#elif defined(__thumb__)
        __asm__ volatile(".inst.n 0xde00");
#elif defined(__arm__)
        __asm__ volatile(".inst 0xe7f000f0");
#else
        __asm__ volatile("ud2");
#endif
    }
    printf("illegal: %d\n", last == SIGILL);
    if (!sigsetjmp(jump, 1)) {
#if defined(__aarch64__)
        __asm__ volatile("brk #0");
#elif defined(__riscv)
        __asm__ volatile("ebreak");
#elif defined(__thumb__)
        __asm__ volatile(".inst.n 0xde01");
#elif defined(__arm__)
        __asm__ volatile(".inst 0xe7f001f0");
#else
        __asm__ volatile("int3");
#endif
    }
    printf("breakpoint: %d\n", last == SIGTRAP);
    char name[] = "/tmp/emu-signals-XXXXXX";
    int fd = mkstemp(name);
    unlink(name);
    char *file = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (!sigsetjmp(jump, 1))
        (void)*(volatile char *)(file + 4096);
    printf("behind the file: %d\n", last == SIGBUS);
    printf("faults: %d\n", count);
    repair_page = page;
    install(SIGSEGV, repair, 0, 0);
    count = 0;
    *(volatile char *)page = 'T';
    printf("repaired: %s %d\n", page, count);
}

/* Registers that a handler uses are the program's own again behind it. */
static void scribble(int sig, siginfo_t *info, void *context)
{
    volatile double a = 1.5, b = 2.5;
    for (int i = 0; i < 20; i++)
        a = a * b + i;
    value = (int)a != 0;
    count++;
}

static void registers(void)
{
    struct itimerval timer = {{0, 500}, {0, 500}}, off = {{0, 0}, {0, 0}};
    install(SIGALRM, scribble, 0, 0);
    count = 0;
    setitimer(ITIMER_REAL, &timer, NULL);
    double sum = 0, other = 1;
    uint64_t hash = 1469598103934665603u;
    unsigned rounds = 0;
    while (count < 200 && rounds < 4000) {
        double s = 0, o = 1;
        uint64_t h = 1469598103934665603u;
        for (int i = 1; i < 2000; i++) {
            s += 1.0 / i;
            o = o * 1.0000001 + s;
            h = (h ^ (uint64_t)i) * 1099511628211u;
        }
        if (rounds++ == 0) {
            sum = s;
            other = o;
            hash = h;
        }
        if (s != sum || o != other || h != hash) {
            puts("registers were lost");
            return;
        }
    }
    setitimer(ITIMER_REAL, &off, NULL);
    printf("registers kept, handlers ran: %d\n", count > 0);
}

static void children(void)
{
    int status;
    sigset_t set, old;
    siginfo_t info;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, &old);
    const int deadly[] = {SIGTERM, SIGKILL, SIGSEGV, SIGABRT, SIGPIPE, SIGRTMIN + 3};
    for (unsigned i = 0; i < sizeof deadly / sizeof *deadly; i++) {
        pid_t child = fork();
        if (child == 0) {
            signal(deadly[i], SIG_DFL);
            raise(deadly[i]);
            _exit(99);
        }
        sigwaitinfo(&set, &info);
        int killed = info.si_code == CLD_KILLED || info.si_code == CLD_DUMPED;
        waitpid(child, &status, 0);
        printf("killed by %u: %d %d sigchld %d %d\n", i, WIFSIGNALED(status), WTERMSIG(status) == deadly[i],
               killed && info.si_pid == child, info.si_status == deadly[i]);
    }
    pid_t child = fork();
    if (child == 0) {
        *(volatile int *)16 = 1;
        _exit(99);
    }
    waitpid(child, &status, 0);
    printf("fault: %d\n", WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    child = fork();
    if (child == 0) {
        /* A fault under a blocked signal kills all the same. */
        sigaddset(&set, SIGSEGV);
        sigprocmask(SIG_BLOCK, &set, NULL);
        install(SIGSEGV, fault, 0, 0);
        *(volatile int *)16 = 1;
        _exit(99);
    }
    waitpid(child, &status, 0);
    printf("blocked fault: %d\n", WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    int seen[2];
    CHECK(pipe(seen) == 0);
    child = fork();
    if (child == 0) {
        char byte;
        close(seen[1]);
        raise(SIGSTOP);
        /* An exit would hide the continuation: not before the parent has seen that. */
        _exit(read(seen[0], &byte, 1) == 0 ? 7 : 8);
    }
    CHECK(waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    kill(child, SIGCONT);
    CHECK(waitpid(child, &status, WCONTINUED) == child && WIFCONTINUED(status));
    close(seen[1]);
    CHECK(waitid(P_PID, child, &info, WEXITED | WNOWAIT) == 0 && info.si_code == CLD_EXITED && info.si_status == 7);
    CHECK(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 7);
    close(seen[0]);
    sigprocmask(SIG_SETMASK, &old, NULL);
    signal(SIGCHLD, SIG_IGN);
    child = fork();
    if (child == 0)
        _exit(0);
    CHECK(waitpid(child, &status, 0) == -1 && errno == ECHILD);
    signal(SIGCHLD, SIG_DFL);
    /* A handler of SIGSEGV gets what another process sends, now or when it is unblocked. */
    count = 0;
    install(SIGSEGV, note, 0, 0);
    raise(SIGSEGV);
    CHECK(count == 1 && code == SI_TKILL);
    sigemptyset(&set);
    sigaddset(&set, SIGSEGV);
    sigprocmask(SIG_BLOCK, &set, NULL);
    kill(getpid(), SIGSEGV);
    sigset_t pending;
    sigpending(&pending);
    CHECK(count == 1 && sigismember(&pending, SIGSEGV));
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    CHECK(count == 2);
    signal(SIGSEGV, SIG_IGN);
    raise(SIGSEGV);
    CHECK(count == 2);
}

static void timers(void)
{
    struct itimerval timer = {{0, 0}, {0, 300000}}, now;
    install(SIGALRM, note, 0, 0);
    count = 0;
    setitimer(ITIMER_REAL, &timer, NULL);
    getitimer(ITIMER_REAL, &now);
    CHECK(now.it_value.tv_usec > 0 && now.it_value.tv_usec <= 300000 && now.it_value.tv_sec == 0);
    while (!count)
        pause();
    CHECK(alarm(100) == 0);
    CHECK(alarm(0) >= 99);
    struct sigevent event;
    memset(&event, 0, sizeof event);
    event.sigev_notify = SIGEV_SIGNAL;
    event.sigev_signo = SIGRTMIN + 1;
    event.sigev_value.sival_int = 77;
    install(SIGRTMIN + 1, note, 0, 0);
    timer_t id;
    struct itimerspec spec = {{0, 0}, {0, 20000000}}, rest;
    sigset_t set, old;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 1);
    sigprocmask(SIG_BLOCK, &set, &old);
    CHECK(timer_create(CLOCK_MONOTONIC, &event, &id) == 0);
    CHECK(timer_settime(id, 0, &spec, NULL) == 0);
    CHECK(timer_gettime(id, &rest) == 0 && rest.it_value.tv_nsec > 0);
    count = 0;
    sigsuspend(&old);
    sigprocmask(SIG_SETMASK, &old, NULL);
    CHECK(count == 1 && value == 77 && code == SI_TIMER);
    CHECK(timer_delete(id) == 0);
    CHECK(timer_delete(id) == -1 && errno == EINVAL);
}

/* Every queued signal arrives, whatever the program is doing meanwhile. */
static void flood(void)
{
    enum { MANY = 2000 };
    int fds[2];
    char byte;
    if (pipe(fds))
        return;
    install(SIGRTMIN, note, 0, 0);
    count = 0;
    pid_t parent = getpid(), child = fork();
    if (child == 0) {
        for (int i = 0; i < MANY; i++)
            while (sigqueue(parent, SIGRTMIN, (union sigval){.sival_int = i}))
                usleep(100);
        _exit(0);
    }
    long reads = 0;
    while (count < MANY && reads++ < 10 * MANY) {
        struct timespec ts = {0, 1000000};
        struct pollfd p = {fds[0], POLLIN, 0};
        switch (reads % 4) {
        case 0:
            poll(&p, 1, 1);
            break;
        case 1:
            nanosleep(&ts, NULL);
            break;
        case 2:
            for (volatile int i = 0; i < 1000; i++)
                ;
            break;
        default:
            fcntl(fds[0], F_SETFL, O_NONBLOCK);
            if (read(fds[0], &byte, 1) == 1)
                puts("out of nothing");
            break;
        }
    }
    while (waitpid(child, NULL, 0) == -1 && errno == EINTR)
        ;
    printf("queued signals: %d\n", count);
}

static void jumps(void)
{
    install(SIGUSR1, fault, 0, 0);
    volatile int i;
    count = 0;
    for (i = 0; i < 500; i++)
        if (!sigsetjmp(jump, 1))
            raise(SIGUSR1);
    printf("jumped: %d\n", count);
}

/* Calls that do not sleep are made, however signals rain on them. */
static void dry(int sig, siginfo_t *info, void *context)
{
    if (++count == 10000) /* here, for what is interrupted may have no time at all */
        setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 0}}, NULL);
}

static void rain(void)
{
    long failed = 0;
    count = 0;
    install(SIGALRM, dry, 0, 0);
    setitimer(ITIMER_REAL, &(struct itimerval){{0, 20}, {0, 20}}, NULL);
    while (count < 10000)
        failed += syscall(SYS_getppid) < 0;
    printf("failed: %ld\n", failed);
}

/* Programs that end while signals rain on them. */
static void endings(void)
{
    int ended = 0, status;
    for (int i = 0; i < 100; i++) {
        pid_t child = fork();
        if (child == 0) {
            struct itimerval rain = {{0, 400}, {0, 400}};
            install(SIGALRM, note, SA_RESTART, 0);
            setitimer(ITIMER_REAL, &rain, NULL);
            usleep(i * 10);
            _exit(i);
        }
        ended += waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == i;
    }
    printf("ended: %d\n", ended);
}

static void inherited(const char *self)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_SETMASK, &set, NULL);
    signal(SIGINT, SIG_IGN);
    install(SIGUSR1, note, 0, 0);
    stack_t st = {.ss_sp = alt, .ss_size = sizeof alt};
    sigaltstack(&st, NULL);
    fflush(stdout);
    execl(self, self, "after", (char *)NULL);
}

static void after(void)
{
    struct sigaction sa;
    stack_t st;
    sigset_t set;
    CHECK(sigaction(SIGINT, NULL, &sa) == 0 && sa.sa_handler == SIG_IGN);
    CHECK(sigaction(SIGUSR1, NULL, &sa) == 0 && sa.sa_handler == SIG_DFL);
    CHECK(sigprocmask(SIG_BLOCK, NULL, &set) == 0 && sigismember(&set, SIGUSR2) && !sigismember(&set, SIGUSR1));
    CHECK(sigaltstack(NULL, &st) == 0 && st.ss_flags == SS_DISABLE);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!strcmp(what, "basics"))
        basics();
    else if (!strcmp(what, "masks"))
        masks();
    else if (!strcmp(what, "stacks"))
        stacks();
    else if (!strcmp(what, "interrupted"))
        interrupted();
    else if (!strcmp(what, "waits"))
        waits();
    else if (!strcmp(what, "faults"))
        faults();
    else if (!strcmp(what, "registers"))
        registers();
    else if (!strcmp(what, "children"))
        children();
    else if (!strcmp(what, "timers"))
        timers();
    else if (!strcmp(what, "flood"))
        flood();
    else if (!strcmp(what, "jumps"))
        jumps();
    else if (!strcmp(what, "rain"))
        rain();
    else if (!strcmp(what, "endings"))
        endings();
    else if (!strcmp(what, "inherited"))
        inherited(argv[0]);
    else if (!strcmp(what, "after"))
        after();
    else
        return 2;
    return 0;
}
