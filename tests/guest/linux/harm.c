/*
 * Programs that do harm to themselves: harm [CASE].  Each case is a child that tells
 * nothing but how it ends, or one by name; what it does is its own problem, and nobody else's.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

enum { PAGE = 4096, GUARD_INSTALL = 102 };
#define NOWHERE ((void *)(uintptr_t)0x5000)
#define DOWN(p) ((char *)((uintptr_t)(p) & ~(uintptr_t)(PAGE - 1)))

static char alternate[65536];
static volatile int depth;
static sigjmp_buf back;

static void on(int sig, void (*handler)(int, siginfo_t *, void *), int flags)
{
    struct sigaction sa;
    memset(&sa, 0, sizeof sa);
    sa.sa_sigaction = handler;
    sa.sa_flags = SA_SIGINFO | flags;
    sigaction(sig, &sa, NULL);
}

static void leave(int sig, siginfo_t *info, void *context)
{
    _exit(sig);
}

static void go_on(int sig, siginfo_t *info, void *context)
{
}

static void tell_code(int sig, siginfo_t *info, void *context)
{
    _exit(40 + info->si_code + ((uintptr_t)info->si_addr == 0x1234 ? 0 : 100));
}

static int recurse(int n)
{
    volatile char room[8192];
    room[0] = n;
    depth++;
    return recurse(n + 1) + room[0];
}

static void use_alternate(void)
{
    stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate};
    sigaltstack(&stack, NULL);
}

static void call(uintptr_t at)
{
    ((void (*)(void))at)();
}

static __attribute__((noinline)) int victim(void)
{
    return 5;
}
static int (*volatile run_victim)(void) = victim;

static void unmaps_its_stack(void)
{
    volatile char *here = __builtin_frame_address(0);
    munmap(DOWN(here) - 4 * PAGE, 5 * PAGE);
    here[-8] = 1;
    _exit(1);
}

static void unmaps_its_code(void)
{
    munmap(DOWN(&unmaps_its_code), PAGE);
    _exit(1);
}

static void unmaps_everything(void)
{
    munmap((void *)0x10000, (uintptr_t)DOWN(__builtin_frame_address(0)) - 0x20000);
    _exit(1);
}

static void forbids_everything(void)
{
    for (uintptr_t at = (uintptr_t)DOWN(&forbids_everything); ; at += PAGE)
        mprotect((void *)at, PAGE, PROT_NONE);
}

static void overwrites_its_code(void)
{
    char *page = DOWN(&victim);
    mprotect(page, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
    int before = run_victim();
    memset((void *)((uintptr_t)&victim & ~(uintptr_t)1), 0xff, 64); /* nothing that any of these CPUs knows */
    __builtin___clear_cache(page, page + 2 * PAGE);
    _exit(before + run_victim());
}

static void reads_over_its_code(void)
{
    char *page = DOWN(&victim);
    int fd = open("/dev/zero", O_RDWR), p[2];
    char bad[64];
    mprotect(page, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
    int before = run_victim();
    memset(bad, 0xff, sizeof bad);
    pipe(p);
    write(p[1], bad, sizeof bad);
    char *at = (char *)((uintptr_t)&victim & ~(uintptr_t)1);
    struct iovec iov[2] = {{at, 16}, {at + 16, 48}};
    readv(p[0], iov, 2);
    __builtin___clear_cache(page, page + 2 * PAGE);
    _exit(before + run_victim());
}

static void takes_its_code_away(void)
{
    int before = run_victim();
    madvise(DOWN(&victim), PAGE, MADV_DONTNEED); /* it comes back from the file */
    _exit(before + run_victim());
}

static void takes_its_stack_away(void)
{
    volatile char *at = DOWN(__builtin_frame_address(0)) - 2 * PAGE;
    at[0] = 1;
    madvise((void *)at, PAGE, MADV_DONTNEED);
    _exit(at[0]);
}

static void guards_a_page(void)
{
    /* Newer kernels have it, and then it faults; either way nobody but the program does. */
    volatile char *at = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (madvise((void *)at, PAGE, GUARD_INSTALL) == 0)
        at[0] = 1;
    raise(SIGSEGV);
}

static void jumps_to_zero(void) { call(0); }
static void jumps_to_data(void) { static long data[4]; call((uintptr_t)data & ~(uintptr_t)3); }
static void jumps_nowhere(void) { call((uintptr_t)NOWHERE); }
static void jumps_above(void) { call(UINTPTR_MAX - 0x12343); }

static void overflows_its_stack(void)
{
    _exit(recurse(0));
}

static void overflows_with_an_alternate(void)
{
    use_alternate();
    on(SIGSEGV, leave, SA_ONSTACK);
    _exit(recurse(0));
}

static void overflows_without(void)
{
    on(SIGSEGV, leave, 0);
    _exit(recurse(0));
}

static void has_a_wild_alternate(void)
{
    stack_t stack = {.ss_sp = NOWHERE, .ss_size = 65536};
    sigaltstack(&stack, NULL);
    on(SIGUSR1, leave, SA_ONSTACK);
    raise(SIGUSR1);
    _exit(1);
}

static void has_a_wild_handler(void)
{
    on(SIGUSR1, (void *)NOWHERE, 0);
    raise(SIGUSR1);
    _exit(1);
}

static void faults_for_ever(void)
{
    struct itimerval soon = {{0, 0}, {0, 100000}};
    on(SIGSEGV, go_on, 0);
    setitimer(ITIMER_REAL, &soon, NULL);
    *(volatile char *)NOWHERE = 1;
    _exit(1);
}

static void handler_unmaps(int sig, siginfo_t *info, void *context)
{
    munmap(DOWN(__builtin_frame_address(0)) - 8 * PAGE, 9 * PAGE);
}

static void unmaps_in_a_handler(void)
{
    on(SIGUSR1, handler_unmaps, 0);
    raise(SIGUSR1);
    _exit(1);
}

static void handler_scribbles(int sig, siginfo_t *info, void *context)
{
    memset(context, 0x5a, sizeof(ucontext_t));
}

static void scribbles_over_its_frame(void)
{
    on(SIGUSR1, handler_scribbles, 0);
    raise(SIGUSR1);
    _exit(1);
}

static void returns_from_no_handler(void)
{
    syscall(SYS_rt_sigreturn);
    _exit(1);
}

static void faults_while_blocked(void)
{
    sigset_t all;
    sigfillset(&all);
    on(SIGSEGV, leave, 0);
    sigprocmask(SIG_SETMASK, &all, NULL);
    *(volatile char *)NOWHERE = 1;
    _exit(1);
}

static void faults_while_ignored(void)
{
    signal(SIGSEGV, SIG_IGN);
    *(volatile char *)NOWHERE = 1;
    _exit(1);
}

/* As if an instruction had caused it: one may say so about oneself. */
static void forge(int sig, int code)
{
    siginfo_t info;
    memset(&info, 0, sizeof info);
    info.si_signo = sig;
    info.si_code = code;
    info.si_addr = (void *)0x1234;
    if (syscall(SYS_rt_sigqueueinfo, getpid(), sig, &info))
        _exit(errno);
}

static void forges_a_fault(void) { forge(SIGSEGV, 1); _exit(1); }
static void forges_a_bus_error(void) { forge(SIGBUS, 2); _exit(1); }
static void forges_a_handled_fault(void) { on(SIGSEGV, tell_code, 0); forge(SIGSEGV, 2); _exit(1); }
static void forges_a_handled_bus_error(void) { on(SIGBUS, tell_code, 0); forge(SIGBUS, 3); _exit(1); }
static void forges_a_trap(void) { on(SIGTRAP, tell_code, 0); forge(SIGTRAP, 1); _exit(1); }

static void forges_a_blocked_fault(void)
{
    sigset_t set, pending;
    sigemptyset(&set);
    sigaddset(&set, SIGSEGV);
    sigprocmask(SIG_BLOCK, &set, NULL);
    on(SIGSEGV, tell_code, 0);
    forge(SIGSEGV, 4);
    sigpending(&pending);
    if (!sigismember(&pending, SIGSEGV))
        _exit(1);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    _exit(2);
}

static void has_an_endless_robust_list(void)
{
    static long head[3], lock;
    head[0] = (long)&lock;
    lock = (long)&lock;
    head[1] = 0;
    syscall(SYS_set_robust_list, head, sizeof head);
    _exit(3);
}

static void has_a_wild_robust_list(void)
{
    syscall(SYS_set_robust_list, NOWHERE, 3 * sizeof(long));
    _exit(3);
}

static void has_a_wild_tid_address(void)
{
    syscall(SYS_set_tid_address, NOWHERE);
    _exit(3);
}

static void closes_everything(void)
{
    for (int fd = 0; fd < 10000; fd++)
        close(fd);
    syscall(SYS_close_range, 0, UINT_MAX, 0);
    int fd = open("/proc/self/maps", O_RDONLY);
    pid_t pid = fork();
    if (pid == 0)
        _exit(fd == 0 ? 5 : 6);
    int status;
    waitpid(pid, &status, 0);
    _exit(WEXITSTATUS(status));
}

static void replaces_everything(void)
{
    for (int fd = 0; fd < 1024; fd++)
        dup2(2, fd);
    void *at = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pid_t pid = fork();
    if (pid == 0)
        _exit(at == MAP_FAILED);
    int status;
    waitpid(pid, &status, 0);
    _exit(WEXITSTATUS(status) + 6);
}

static void has_no_descriptors_left(void)
{
    struct rlimit none = {0, 0};
    struct stat { char room[256]; } st;
    setrlimit(RLIMIT_NOFILE, &none);
    int failed = open("/dev/null", O_RDONLY) < 0 && errno == EMFILE;
    pid_t pid = fork();
    if (pid == 0) {
        on(SIGSEGV, leave, 0);
        *(volatile char *)NOWHERE = 1;
    }
    int status;
    waitpid(pid, &status, 0);
    _exit(failed && WEXITSTATUS(status) == SIGSEGV ? 4 : 1);
}

static void has_no_files_left(void)
{
    struct rlimit none = {0, 0};
    char text[4096];
    setrlimit(RLIMIT_FSIZE, &none);
    int fd = open("/proc/self/maps", O_RDONLY);
    int seen = read(fd, text, sizeof text) > 0;
    pid_t pid = fork();
    if (pid == 0) {
        on(SIGSEGV, leave, 0);
        *(volatile char *)NOWHERE = 1;
    }
    int status;
    waitpid(pid, &status, 0);
    _exit(seen && WEXITSTATUS(status) == SIGSEGV ? 4 : 1);
}

static void has_too_many_mappings(void)
{
    int count = 0, status;
    char *at = NULL;
    /* One by one, each unlike its neighbours. */
    for (; count < 200000; count++) { /* more than vm.max_map_count, as it usually is */
        at = mmap(NULL, PAGE, count % 2 ? PROT_READ : PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (at == MAP_FAILED)
            break;
    }
    int failed = at == MAP_FAILED && errno == ENOMEM;
    pid_t pid = fork();
    if (pid == 0) {
        on(SIGSEGV, leave, 0);
        int fd = open("/proc/self/maps", O_RDONLY);
        char text[4096];
        read(fd, text, sizeof text);
        *(volatile char *)NOWHERE = 1;
    }
    if (pid < 0)
        _exit(failed ? 9 : 1);
    waitpid(pid, &status, 0);
    _exit(failed && WEXITSTATUS(status) == SIGSEGV ? 9 : 1);
}

static void maps_all_there_is(void)
{
    size_t size = sizeof(long) == 8 ? (size_t)1 << 40 : (size_t)1 << 28;
    unsigned long total = 0;
    for (; size >= (1 << 16); size /= 2)
        while (mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) != MAP_FAILED)
            if (++total > 100000)
                _exit(1);
    on(SIGSEGV, leave, 0);
    char *more = sbrk(1 << 20);
    pid_t pid = fork();
    if (pid == 0)
        *(volatile char *)NOWHERE = 1;
    int status;
    waitpid(pid, &status, 0);
    _exit(WEXITSTATUS(status));
}

static void has_no_memory_left(void)
{
    struct rlimit little = {1 << 20, 1 << 20};
    if (setrlimit(RLIMIT_AS, &little))
        _exit(1);
    void *at = mmap(NULL, 8 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    _exit(at == MAP_FAILED && errno == ENOMEM ? 8 : 2);
}

static void maps_over_address_zero(void)
{
    char *at = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (at != MAP_FAILED) /* who may do that finds a page there */
        at[8] = 1;
    _exit(at == MAP_FAILED || at[8] == 1 ? 6 : 1);
}

static void executes_with_too_much(void)
{
    size_t most = 400000;
    char **argv = malloc((most + 1) * sizeof *argv);
    for (size_t i = 0; i < most; i++)
        argv[i] = "0123456789012345678901234567890123456789";
    argv[most] = NULL;
    execve("/proc/self/exe", argv, NULL);
    int first = errno;
    execve("/proc/self/exe", (char **)NOWHERE, NULL);
    _exit(first == E2BIG && errno == EFAULT ? 2 : 1);
}

static void truncates_itself(void)
{
    int fd = open("/proc/self/exe", O_RDWR);
    int first = fd < 0 ? errno : 0;
    int second = truncate("/proc/self/exe", 0) ? errno : 0;
    _exit(first == ETXTBSY && second == ETXTBSY ? 7 : 1);
}

static void *forever(void *unused)
{
    for (;;)
        pause();
}

static void is_killed_among_threads(void)
{
    pthread_t thread;
    for (int i = 0; i < 20; i++)
        pthread_create(&thread, NULL, forever, NULL);
    *(volatile char *)NOWHERE = 1;
}

static void *fault_in_a_thread(void *unused)
{
    static char stack[65536];
    stack_t own = {.ss_sp = stack, .ss_size = sizeof stack};
    sigaltstack(&own, NULL);
    if (!sigsetjmp(back, 1))
        recurse(0);
    return &back;
}

static void jump_back(int sig, siginfo_t *info, void *context)
{
    siglongjmp(back, 1);
}

static void overflows_a_threads_stack(void)
{
    pthread_t thread;
    void *result;
    on(SIGSEGV, jump_back, SA_ONSTACK);
    for (int i = 0; i < 3; i++) {
        pthread_create(&thread, NULL, fault_in_a_thread, NULL);
        pthread_join(thread, &result);
    }
    _exit(result == &back ? 11 : 1);
}

#define CASE(name) {#name, name}
static const struct {
    const char *name;
    void (*run)(void);
} cases[] = {
    CASE(unmaps_its_stack), CASE(unmaps_its_code), CASE(unmaps_everything), CASE(forbids_everything),
    CASE(overwrites_its_code), CASE(reads_over_its_code), CASE(takes_its_code_away), CASE(takes_its_stack_away),
    CASE(guards_a_page), CASE(jumps_to_zero), CASE(jumps_to_data), CASE(jumps_nowhere), CASE(jumps_above),
    CASE(overflows_its_stack), CASE(overflows_with_an_alternate), CASE(overflows_without), CASE(has_a_wild_alternate),
    CASE(has_a_wild_handler), CASE(faults_for_ever), CASE(unmaps_in_a_handler), CASE(scribbles_over_its_frame),
    CASE(returns_from_no_handler), CASE(faults_while_blocked), CASE(faults_while_ignored), CASE(forges_a_fault),
    CASE(forges_a_bus_error), CASE(forges_a_handled_fault), CASE(forges_a_handled_bus_error), CASE(forges_a_trap),
    CASE(forges_a_blocked_fault), CASE(has_an_endless_robust_list), CASE(has_a_wild_robust_list),
    CASE(has_a_wild_tid_address), CASE(closes_everything), CASE(replaces_everything), CASE(has_no_descriptors_left),
    CASE(has_no_files_left), CASE(has_too_many_mappings), CASE(maps_all_there_is), CASE(has_no_memory_left), CASE(maps_over_address_zero),
    CASE(executes_with_too_much), CASE(truncates_itself), CASE(is_killed_among_threads),
    CASE(overflows_a_threads_stack),
};

int main(int argc, char **argv)
{
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        int status = 0;
        if (argc > 1 ? strcmp(argv[1], cases[i].name) : cases[i].run == has_too_many_mappings)
            continue; /* that one takes its time */
        fflush(stdout);
        pid_t pid = fork();
        if (pid == 0) {
            struct rlimit cores = {0, 0};
            setrlimit(RLIMIT_CORE, &cores);
            alarm(30);
            cases[i].run();
            _exit(99);
        }
        waitpid(pid, &status, 0);
        if (WIFSIGNALED(status))
            printf("%s: signal %d\n", cases[i].name, WTERMSIG(status));
        else
            printf("%s: status %d\n", cases[i].name, WEXITSTATUS(status));
    }
    return 0;
}
