/* Threads as a program meets them; what it prints is the same on every Linux. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <semaphore.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHECK(e) printf("%s: %s\n", #e, (e) ? "yes" : "NO")

extern char **environ;
static char *self;

static pid_t tid(void)
{
    return (pid_t)syscall(SYS_gettid);
}

static void nap(int ms)
{
    struct timespec ts = {ms / 1000, ms % 1000 * 1000000L};
    while (nanosleep(&ts, &ts) && errno == EINTR)
        ;
}

static pthread_t start(void *(*fn)(void *), void *argument)
{
    pthread_t thread;
    int error = pthread_create(&thread, NULL, fn, argument);
    if (error) {
        printf("pthread_create: %s\n", strerror(error));
        exit(1);
    }
    return thread;
}

static void *join(pthread_t thread)
{
    void *result = NULL;
    int error = pthread_join(thread, &result);
    if (error)
        printf("pthread_join: %s\n", strerror(error));
    return result;
}

static int tasks(void)
{
    DIR *dir = opendir("/proc/self/task");
    int count = 0;
    const struct dirent *entry;
    while ((entry = readdir(dir))) {
        /* Where the host's kernel has a thread of its own in every process that has a VM, it is not ours. */
        char path[64], name[16] = "";
        snprintf(path, sizeof path, "/proc/self/task/%.20s/comm", entry->d_name);
        int fd = entry->d_name[0] == '.' ? -1 : open(path, O_RDONLY);
        if (fd < 0)
            continue;
        (void)!read(fd, name, sizeof name);
        close(fd);
        count += strncmp(name, "kvm-", 4) != 0;
    }
    closedir(dir);
    return count;
}

/* A thread that has been joined leaves the kernel's list a moment later. */
static int settled(int wanted)
{
    for (int i = 0; i < 500 && tasks() != wanted; i++)
        nap(10);
    return tasks();
}

/* ---- counting ------------------------------------------------------------------------------ */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static long locked;
static atomic_long atomics;
static _Atomic int bytes[8];
static _Thread_local long local;

static void *count(void *argument)
{
    for (int i = 0; i < 20000; i++) {
        pthread_mutex_lock(&lock);
        locked++;
        pthread_mutex_unlock(&lock);
        atomics++;
        bytes[(uintptr_t)argument]++;
        local++;
    }
    return (void *)local;
}

static void counter(void)
{
    pthread_t threads[8];
    long sum = 0;
    for (uintptr_t i = 0; i < 8; i++)
        threads[i] = start(count, (void *)i);
    for (int i = 0; i < 8; i++)
        sum += (long)join(threads[i]);
    printf("locked %ld atomic %ld local %ld here %ld byte %d\n", locked, (long)atomics, sum, local, bytes[7]);
}

/* ---- meeting ---------------------------------------------------------------------------------- */

enum { RING = 4, ITEMS = 2000 };
static int ring[RING], head, tail;
static pthread_cond_t not_full = PTHREAD_COND_INITIALIZER, not_empty = PTHREAD_COND_INITIALIZER;

static void *produce(void *argument)
{
    for (int i = 1; i <= ITEMS; i++) {
        pthread_mutex_lock(&lock);
        while (head - tail == RING)
            pthread_cond_wait(&not_full, &lock);
        ring[head++ % RING] = i;
        pthread_cond_signal(&not_empty);
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

static void *consume(void *argument)
{
    long sum = 0;
    for (int i = 0; i < ITEMS; i++) {
        pthread_mutex_lock(&lock);
        while (head == tail)
            pthread_cond_wait(&not_empty, &lock);
        sum += ring[tail++ % RING];
        pthread_cond_signal(&not_full);
        pthread_mutex_unlock(&lock);
    }
    return (void *)sum;
}

static pthread_barrier_t barrier;
static atomic_int at_barrier, serial;

static void *rounds(void *argument)
{
    for (int i = 1; i <= 50; i++) {
        at_barrier++;
        if (pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD)
            serial++;
        if (at_barrier != 5 * i)
            printf("round %d: %d\n", i, (int)at_barrier);
        pthread_barrier_wait(&barrier);
    }
    return NULL;
}

static sem_t ping, pong;

static void *answer(void *argument)
{
    for (int i = 0; i < 500; i++) {
        sem_wait(&ping);
        sem_post(&pong);
    }
    return NULL;
}

static pthread_rwlock_t rw = PTHREAD_RWLOCK_INITIALIZER;
static long pair[2];

static void *readers(void *argument)
{
    long torn = 0;
    for (int i = 0; i < 2000; i++) {
        pthread_rwlock_rdlock(&rw);
        torn += pair[0] != pair[1];
        pthread_rwlock_unlock(&rw);
    }
    return (void *)torn;
}

static void *writers(void *argument)
{
    for (int i = 0; i < 2000; i++) {
        pthread_rwlock_wrlock(&rw);
        pair[0]++;
        pair[1]++;
        pthread_rwlock_unlock(&rw);
    }
    return NULL;
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static atomic_int onces;

static void only_once(void)
{
    nap(20);
    onces++;
}

static void *call_once(void *argument)
{
    pthread_once(&once, only_once);
    return (void *)(intptr_t)onces;
}

static void meeting(void)
{
    pthread_t a = start(produce, NULL), b = start(consume, NULL);
    join(a);
    printf("consumed %ld\n", (long)join(b));

    pthread_t five[5];
    pthread_barrier_init(&barrier, NULL, 5);
    for (int i = 0; i < 5; i++)
        five[i] = start(rounds, NULL);
    for (int i = 0; i < 5; i++)
        join(five[i]);
    printf("barriers %d serial %d\n", (int)at_barrier, (int)serial);

    sem_init(&ping, 0, 0);
    sem_init(&pong, 0, 0);
    a = start(answer, NULL);
    for (int i = 0; i < 500; i++) {
        sem_post(&ping);
        sem_wait(&pong);
    }
    join(a);

    for (int i = 0; i < 5; i++)
        five[i] = start(i < 3 ? readers : writers, NULL);
    long torn = 0;
    for (int i = 0; i < 5; i++)
        torn += (long)join(five[i]);
    printf("torn %ld written %ld\n", torn, pair[1]);

    for (int i = 0; i < 5; i++)
        five[i] = start(call_once, NULL);
    for (int i = 0; i < 5; i++)
        printf("once %ld\n", (long)join(five[i]));

    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += 30000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&lock);
    CHECK(pthread_cond_timedwait(&cond, &lock, &until) == ETIMEDOUT);
    pthread_mutex_unlock(&lock);
}

/* ---- spinning: nobody gives anything up by itself --------------------------------------------------- */

static atomic_int flag_a, flag_b, stop;

static void *spin_answer(void *argument)
{
    for (int i = 1; i <= 20; i++) {
        while (flag_a != i)
            ;
        flag_b = i;
    }
    return NULL;
}

static void *spin_for_ever(void *argument)
{
    while (!stop)
        ;
    return NULL;
}

static void *yielding(void *argument)
{
    for (int i = 0; i < 100; i++)
        sched_yield();
    return NULL;
}

static void spinning(void)
{
    pthread_t a = start(spin_answer, NULL), b = start(spin_for_ever, NULL), c = start(yielding, NULL);
    for (int i = 1; i <= 20; i++) {
        flag_a = i;
        while (flag_b != i)
            ;
    }
    join(a);
    join(c);
    stop = 1;
    join(b);
    printf("spun to %d\n", (int)flag_b);
}

/* ---- storage ------------------------------------------------------------------------------------- */

static pthread_key_t key;
static atomic_int destroyed;
static _Thread_local struct {
    int value;
    char filler[5000];
    int end;
} block = {.value = 42, .end = 43};

static void destroy(void *value)
{
    destroyed += (int)(intptr_t)value;
}

static void *storage_of(void *argument)
{
    intptr_t n = (intptr_t)argument;
    int right = block.value == 42 && block.end == 43 && errno == 0;
    block.value = (int)n;
    block.end = (int)-n;
    pthread_setspecific(key, (void *)n);
    errno = (int)n;
    sched_yield();
    right &= block.value == n && block.end == -n && errno == n && pthread_getspecific(key) == (void *)n;
    return (void *)(intptr_t)right;
}

static void storage(void)
{
    pthread_t threads[10];
    int right = 0;
    pthread_key_create(&key, destroy);
    for (intptr_t i = 0; i < 10; i++)
        threads[i] = start(storage_of, (void *)(i + 1));
    for (int i = 0; i < 10; i++)
        right += (int)(intptr_t)join(threads[i]);
    printf("right %d destroyed %d main %d\n", right, (int)destroyed, block.value);
}

/* ---- many ------------------------------------------------------------------------------------------ */

static pid_t seen[200];

static void *identity(void *argument)
{
    seen[(intptr_t)argument] = tid();
    return argument;
}

static void *hold(void *argument)
{
    seen[(intptr_t)argument] = tid();
    pthread_mutex_lock(&lock);
    pthread_mutex_unlock(&lock);
    return argument;
}

static int by_value(const void *a, const void *b)
{
    return *(const pid_t *)a - *(const pid_t *)b;
}

static void many(void)
{
    long sum = 0;
    int alike = 0;
    pthread_t threads[200];
    for (intptr_t i = 0; i < 200; i++)
        sum += (long)join(start(identity, (void *)i));
    printf("one after the other: %ld\n", sum);
    pthread_mutex_lock(&lock);
    for (intptr_t i = 0; i < 60; i++)
        threads[i] = start(hold, (void *)i);
    printf("tasks %d\n", settled(61));
    pthread_mutex_unlock(&lock);
    sum = 0;
    for (int i = 0; i < 60; i++)
        sum += (long)join(threads[i]);
    qsort(seen, 60, sizeof *seen, by_value);
    for (int i = 1; i < 60; i++)
        alike += seen[i] == seen[i - 1];
    printf("at once: %ld alike %d tasks %d main %d\n", sum, alike, settled(1), tid() == getpid());
}

static void *detached_one(void *argument)
{
    nap(10);
    atomics++;
    return NULL;
}

static void detached(void)
{
    pthread_attr_t attr;
    pthread_t thread;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, 65536);
    for (int i = 0; i < 20; i++)
        CHECK(pthread_create(&thread, &attr, detached_one, NULL) == 0);
    int left = settled(1);
    printf("left %d counted %ld\n", left, (long)atomics);
}

/* ---- cancellation -------------------------------------------------------------------------------------- */

static int pipes[2];
static atomic_int cleaned, reached;

static void clean(void *argument)
{
    cleaned += (int)(intptr_t)argument;
}

static void *cancel_read(void *argument)
{
    char byte;
    pthread_cleanup_push(clean, (void *)1);
    reached++;
    (void)!read(pipes[0], &byte, 1);
    pthread_cleanup_pop(0);
    return NULL;
}

static void *cancel_wait(void *argument)
{
    pthread_cleanup_push(clean, (void *)10);
    pthread_mutex_lock(&lock);
    reached++;
    for (;;)
        pthread_cond_wait(&cond, &lock);
    pthread_cleanup_pop(0);
    return NULL;
}

static void *cancel_busy(void *argument)
{
    pthread_cleanup_push(clean, (void *)100);
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
    reached++;
    for (;;)
        ;
    pthread_cleanup_pop(0);
    return NULL;
}

static void *cancel_late(void *argument)
{
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    reached++;
    nap(50);
    pthread_cleanup_push(clean, (void *)1000);
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
    pthread_testcancel();
    pthread_cleanup_pop(0);
    return NULL;
}

static void cancellation(void)
{
    void *(*kinds[])(void *) = {cancel_read, cancel_wait, cancel_busy, cancel_late};
    (void)!pipe(pipes);
    for (int i = 0; i < 4; i++) {
        reached = 0;
        pthread_t thread = start(kinds[i], NULL);
        while (!reached)
            nap(1);
        nap(10);
        CHECK(pthread_cancel(thread) == 0);
        CHECK(join(thread) == PTHREAD_CANCELED);
        if (i == 1)
            pthread_mutex_unlock(&lock); /* the dead thread's; no error checking */
    }
    printf("cleaned %d\n", (int)cleaned);
}

/* ---- signals ---------------------------------------------------------------------------------------------- */

static atomic_int got, got_tid, on_alt;
static _Thread_local char *alt;

static void note(int sig, siginfo_t *info, void *context)
{
    char here;
    got_tid = tid();
    on_alt = alt && &here >= alt && &here < alt + 65536;
    got++;
}

static void install(int sig, int flags)
{
    struct sigaction sa;
    memset(&sa, 0, sizeof sa);
    sa.sa_sigaction = note;
    sa.sa_flags = SA_SIGINFO | flags;
    sigaction(sig, &sa, NULL);
}

static atomic_int ready, read_result, read_errno, waiter_tid;

static void *reading(void *argument)
{
    char byte;
    waiter_tid = tid();
    ready++;
    read_result = (int)read(pipes[0], &byte, 1);
    read_errno = errno;
    return NULL;
}

static void *stacked(void *argument)
{
    stack_t st = {.ss_sp = malloc(65536), .ss_size = 65536}, old;
    sigaltstack(NULL, &old);
    alt = st.ss_sp;
    sigaltstack(&st, NULL);
    raise(SIGUSR2);
    printf("fresh %d on it %d mine %d\n", old.ss_flags == SS_DISABLE, (int)on_alt, got_tid == tid());
    return NULL;
}

static void *open_to_usr1(void *argument)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    waiter_tid = tid();
    ready++;
    while (!stop)
        nap(5);
    return NULL;
}

static void *masked(void *argument)
{
    sigset_t set;
    pthread_sigmask(SIG_BLOCK, NULL, &set);
    return (void *)(intptr_t)(sigismember(&set, SIGUSR1) && !sigismember(&set, SIGUSR2));
}

static void *takes(void *argument)
{
    sigset_t set;
    int sig = 0;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigwait(&set, &sig);
    return (void *)(intptr_t)sig;
}

static void until(atomic_int *what, int value)
{
    while (*what != value)
        nap(1);
}

static void signals(void)
{
    sigset_t set, pending;
    (void)!pipe(pipes);
    install(SIGUSR2, 0);
    pthread_t thread = start(reading, NULL);
    until(&ready, 1);
    nap(20);
    CHECK(pthread_kill(thread, SIGUSR2) == 0);
    join(thread);
    printf("interrupted %d %d by its own %d\n", (int)read_result, read_errno == EINTR, got_tid == waiter_tid);

    install(SIGUSR2, SA_RESTART);
    ready = got = 0;
    thread = start(reading, NULL);
    until(&ready, 1);
    nap(20);
    pthread_kill(thread, SIGUSR2);
    until(&got, 1);
    nap(20);
    (void)!write(pipes[1], "x", 1);
    join(thread);
    printf("restarted %d\n", (int)read_result);

    install(SIGUSR2, SA_ONSTACK);
    join(start(stacked, NULL));

    install(SIGUSR1, 0);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    printf("mask inherited %ld\n", (long)join(start(masked, NULL)));
    ready = got = stop = 0;
    thread = start(open_to_usr1, NULL);
    until(&ready, 1);
    kill(getpid(), SIGUSR1);
    until(&got, 1);
    printf("process's went to the one that is open to it: %d\n", got_tid == waiter_tid);
    pthread_kill(pthread_self(), SIGUSR1);
    nap(20);
    sigpending(&pending);
    printf("the blocked one's waits: %d %d\n", (int)got, sigismember(&pending, SIGUSR1));
    stop = 1;
    join(thread);
    thread = start(takes, NULL);
    nap(20);
    pthread_kill(thread, SIGUSR1);
    CHECK(join(thread) == (void *)(intptr_t)SIGUSR1);
    got = 0;
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    printf("and comes: %d main %d\n", (int)got, got_tid == getpid());
    CHECK(pthread_kill(pthread_self(), 0) == 0);
    CHECK(syscall(SYS_tgkill, getpid(), 1, 0) == -1 && errno == ESRCH);
}

static atomic_int storm_on;

static void *storm_target(void *argument)
{
    long sum = 0;
    while (storm_on) {
        char byte = 0;
        struct pollfd fd = {pipes[0], POLLIN, 0};
        poll(&fd, 1, 0);
        for (int i = 0; i < 100; i++)
            sum += i;
        if (sum % 4950)
            printf("sum %ld\n", sum);
        (void)byte;
    }
    return NULL;
}

static void storm(void)
{
    pthread_t threads[3];
    (void)!pipe(pipes);
    install(SIGUSR1, SA_RESTART);
    storm_on = 1;
    for (int i = 0; i < 3; i++)
        threads[i] = start(storm_target, NULL);
    for (int i = 0; i < 150; i++) {
        int before = got;
        pthread_kill(threads[i % 3], SIGUSR1);
        for (int n = 0; got == before; n++)
            if (n > 100)
                nap(1);
    }
    storm_on = 0;
    for (int i = 0; i < 3; i++)
        join(threads[i]);
    printf("delivered %d\n", (int)got);
}

static void *stops(void *argument)
{
    while (!stop) {
        atomics++;
        nap(1);
    }
    return NULL;
}

static void stopped(void)
{
    pid_t child = fork();
    int status;
    if (child == 0) {
        start(stops, NULL);
        start(stops, NULL);
        for (;;)
            pause();
    }
    if (child < 0)
        return perror("fork");
    nap(100);
    kill(child, SIGSTOP);
    CHECK(waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status));
    kill(child, SIGCONT);
    CHECK(waitpid(child, &status, WCONTINUED) == child && WIFCONTINUED(status));
    kill(child, SIGTERM);
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
}

/* ---- memory --------------------------------------------------------------------------------------------------- */

static void *churn(void *argument)
{
    long wrong = 0;
    unsigned seed = (unsigned)(uintptr_t)argument;
    for (int i = 0; i < 150; i++) {
        size_t pages = 1 + rand_r(&seed) % 8;
        unsigned char *at = mmap(NULL, pages * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (at == MAP_FAILED)
            return (void *)-1L;
        for (size_t p = 0; p < pages; p++) {
            wrong += at[p * 4096] != 0;
            at[p * 4096] = (unsigned char)(seed + p);
        }
        mprotect(at, 4096, PROT_READ);
        for (size_t p = 0; p < pages; p++)
            wrong += at[p * 4096] != (unsigned char)(seed + p);
        if (i % 3 == 0) {
            unsigned char *moved = mremap(at, pages * 4096, (pages + 8) * 4096, MREMAP_MAYMOVE);
            wrong += moved == MAP_FAILED || moved[0] != (unsigned char)seed;
            at = moved;
            pages += 8;
        }
        free(malloc(rand_r(&seed) % 200000));
        munmap(at, pages * 4096);
    }
    return (void *)wrong;
}

static void memory(void)
{
    pthread_t threads[6];
    long wrong = 0;
    for (uintptr_t i = 0; i < 6; i++)
        threads[i] = start(churn, (void *)(i + 1));
    for (int i = 0; i < 6; i++)
        wrong += (long)join(threads[i]);
    printf("wrong %ld\n", wrong);
}

#if defined(__x86_64__)
static const unsigned char code_of[] = {0xb8, 0, 0, 0, 0, 0xc3};
#define CODE_AT 1
static void code_value(unsigned char *at, int value)
{
    memcpy(at, code_of, sizeof code_of);
    memcpy(at + CODE_AT, &value, 4);
}
#elif defined(__aarch64__)
static void code_value(unsigned char *at, int value)
{
    uint32_t words[] = {0x52800000u | (uint32_t)value << 5, 0xd65f03c0u};
    memcpy(at, words, sizeof words);
}
#elif defined(__arm__)
static void code_value(unsigned char *at, int value)
{
    uint32_t words[] = {0xe3000000u | ((uint32_t)value >> 12 & 15) << 16 | ((uint32_t)value & 0xfff), 0xe12fff1eu};
    memcpy(at, words, sizeof words);
}
#elif defined(__riscv)
static void code_value(unsigned char *at, int value)
{
    uint32_t words[] = {0x00000513u | (uint32_t)value << 20, 0x00008067u};
    memcpy(at, words, sizeof words);
}
#endif

static unsigned char *code;
static atomic_int version, called, code_wrong;

static void *runs_code(void *argument)
{
    for (int last = 0; last < 60;) {
        int now = version;
        if (now == last)
            continue;
        __builtin___clear_cache((char *)code, (char *)code + 64);
        int result = ((int (*)(void))code)();
        code_wrong += result != now;
        last = now;
        called++;
        while (called != 2 * last && version == last)
            sched_yield();
    }
    return NULL;
}

/* Code that one thread writes is what the others run. */
static void new_code(void)
{
    code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pthread_t a = start(runs_code, NULL), b = start(runs_code, NULL);
    for (int i = 1; i <= 60; i++) {
        code_value(code, i);
        __builtin___clear_cache((char *)code, (char *)code + 64);
        version = i;
        while (called != 2 * i)
            sched_yield();
    }
    join(a);
    join(b);
    printf("code called %d wrong %d\n", (int)called, (int)code_wrong);
}

static sigjmp_buf back;
static atomic_int asked, answered, outcome;

static void on_fault(int sig)
{
    siglongjmp(back, 1);
}

static void *tries_code(void *argument)
{
    for (int i = 1; i <= 60; i++) {
        while (asked != i)
            sched_yield();
        if (sigsetjmp(back, 1) == 0)
            outcome = ((int (*)(void))code)();
        else
            outcome = -1;
        answered = i;
    }
    return NULL;
}

/* A right that one thread takes away is gone for all. */
static void rights(void)
{
    signal(SIGSEGV, on_fault);
    code = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    code_value(code, 123);
    __builtin___clear_cache((char *)code, (char *)code + 64);
    int wrong = 0;
    pthread_t others = start(spin_for_ever, NULL), thread = start(tries_code, NULL);
    for (int i = 1; i <= 60; i++) {
        mprotect(code, 4096, i % 2 ? PROT_READ | PROT_EXEC : PROT_READ | PROT_WRITE);
        asked = i;
        while (answered != i)
            sched_yield();
        wrong += outcome != (i % 2 ? 123 : -1);
    }
    join(thread);
    stop = 1;
    join(others);
    printf("wrong %d\n", wrong);
}

#if __SIZEOF_POINTER__ == 8
enum { WIDE = 64 << 20, SPREAD = 1500 };
static char *wide;

static void *spreads(void *argument)
{
    uintptr_t n = (uintptr_t)argument;
    long wrong = 0;
    for (uintptr_t i = 0; i < SPREAD; i++)
        *(uintptr_t *)(wide + (3 * i + n) * WIDE) = 3 * i + n + 1;
    for (uintptr_t i = 0; i < SPREAD; i++)
        wrong += *(uintptr_t *)(wide + (3 * i + n) * WIDE) != 3 * i + n + 1;
    return (void *)wrong;
}

static void *undisturbed(void *argument)
{
    long wrong = 0;
    while (!stop) {
        struct pollfd fd = {pipes[0], POLLIN, 0};
        wrong += poll(&fd, 1, 2) != 0;
    }
    return (void *)wrong;
}

/* More of the address space than an engine's tables hold at once; others sleep meanwhile and must not notice. */
static void sparse(void)
{
    long wrong = 0;
    pthread_t threads[3];
    (void)!pipe(pipes);
    wide = mmap(NULL, 3ul * SPREAD * WIDE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(wide != MAP_FAILED);
    pthread_t a = start(undisturbed, NULL), b = start(spin_for_ever, NULL);
    for (uintptr_t i = 0; i < 3; i++)
        threads[i] = start(spreads, (void *)i);
    for (int i = 0; i < 3; i++)
        wrong += (long)join(threads[i]);
    stop = 1;
    join(b);
    printf("wrong %ld disturbed %ld\n", wrong, (long)join(a));
}
#else
static void sparse(void)
{
}
#endif

/* ---- processes --------------------------------------------------------------------------------------------------- */

static void *busy(void *argument)
{
    for (;;)
        atomics++;
    return NULL;
}

static void *blocked(void *argument)
{
    char byte;
    (void)!read(pipes[0], &byte, 1);
    return NULL;
}

static void *sleeps(void *argument)
{
    nap(1000000);
    return NULL;
}

static void *waits(void *argument)
{
    pthread_mutex_lock(&lock);
    for (;;)
        pthread_cond_wait(&cond, &lock);
    return NULL;
}

static void *in_sigwait(void *argument)
{
    sigset_t set;
    int sig;
    sigfillset(&set);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    sigwait(&set, &sig);
    printf("sigwait %d\n", sig);
    return NULL;
}

static void crowd(void)
{
    (void)!pipe(pipes);
    start(busy, NULL);
    start(busy, NULL);
    start(blocked, NULL);
    start(sleeps, NULL);
    start(waits, NULL);
    start(in_sigwait, NULL);
    nap(50);
}

static void *forks(void *argument)
{
    int status = 0;
    local = 77;
    pid_t child = fork();
    if (child == 0) {
        printf("child: tasks %d main %d local %ld\n", settled(1), tid() == getpid(), local);
        printf("child's threads: %ld\n", (long)join(start(identity, (void *)5)));
        fflush(stdout);
        _exit(9);
    }
    waitpid(child, &status, 0);
    printf("fork in a thread: %d\n", WEXITSTATUS(status));
    return NULL;
}

static void forking(void)
{
    crowd();
    join(start(forks, NULL));
    for (int i = 0; i < 20; i++) {
        int status = -1;
        pid_t child = fork();
        if (child == 0) {
            free(malloc(100000));
            _exit(i);
        }
        waitpid(child, &status, 0);
        if (WEXITSTATUS(status) != i)
            printf("fork %d: %d\n", i, status);
    }
    char *words[] = {self, "hello", NULL};
    pid_t pid;
    int status = -1;
    fflush(stdout);
    int error = posix_spawn(&pid, self, NULL, NULL, words, environ);
    waitpid(pid, &status, 0);
    CHECK(error == 0);
    CHECK(posix_spawn(&pid, "/nothing", NULL, NULL, words, environ) == ENOENT);
    printf("spawned %d\n", WEXITSTATUS(status));
}

static void hello(void)
{
    sigset_t set;
    pthread_sigmask(SIG_BLOCK, NULL, &set);
    printf("hello: tasks %d main %d blocked %d\n", settled(1), tid() == getpid(), sigismember(&set, SIGUSR1));
    printf("a thread: %ld\n", (long)join(start(identity, (void *)6)));
}

static void *executes(void *argument)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    execl(self, self, "hello", NULL);
    perror("execl");
    return NULL;
}

static void execute(int from_thread)
{
    crowd();
    fflush(stdout);
    CHECK(execl("/nothing", "nothing", NULL) == -1 && errno == ENOENT);
    if (!from_thread)
        executes(NULL);
    join(start(executes, NULL));
}

/* Both want to; one wins. */
static void *races(void *argument)
{
    pthread_barrier_wait(&barrier);
    execl(self, self, "hello", NULL);
    return NULL;
}

static void race(void)
{
    pthread_barrier_init(&barrier, NULL, 4);
    for (int i = 0; i < 4; i++)
        start(races, NULL);
    pause();
}

static void *leaves(void *argument)
{
    nap(20);
    exit((int)(intptr_t)argument);
}

static void *outlives(void *argument)
{
    nap(50);
    printf("the others go on: main's tasks %d\n", tasks() >= 1);
    fflush(stdout);
    if (argument)
        exit((int)(intptr_t)argument);
    return NULL;
}

static void *faults(void *argument)
{
    nap(20);
    *(volatile int *)8 = 1;
    return NULL;
}

/* ---- robust mutexes ------------------------------------------------------------------------------------------ */

static pthread_mutex_t *robust;

static void *dies_with_it(void *argument)
{
    pthread_mutex_lock(robust);
    ready = 1;
    if (argument)
        nap(50 * (int)(intptr_t)argument); /* others are waiting then */
    return NULL;
}

static void *takes_over(void *argument)
{
    nap(10);
    int error = pthread_mutex_lock(robust);
    if (error == EOWNERDEAD)
        pthread_mutex_consistent(robust);
    pthread_mutex_unlock(robust);
    return (void *)(intptr_t)(error == EOWNERDEAD);
}

static void robustness(int protocol)
{
    pthread_mutexattr_t attr;
    robust = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setprotocol(&attr, protocol);
    CHECK(pthread_mutex_init(robust, &attr) == 0);
    join(start(dies_with_it, NULL));
    ready = 0;
    printf("after its owner: %ld\n", (long)join(start(takes_over, NULL)));
    pthread_t owner = start(dies_with_it, (void *)1);
    until(&ready, 1);
    pthread_t heir = start(takes_over, NULL);
    join(owner);
    printf("while waiting: %ld\n", (long)join(heir));
    pid_t child = fork();
    if (child == 0) {
        ready = 0;
        start(dies_with_it, (void *)1000);
        until(&ready, 1);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    nap(10);
    printf("of another process: %ld\n", (long)join(start(takes_over, NULL)));
    CHECK(pthread_mutex_lock(robust) == 0);
    CHECK(pthread_mutex_unlock(robust) == 0);
}

/* Priority inheritance: kept in the kernel where it is contended. */
static pthread_mutex_t pi;
static long pi_count;

static void *pi_work(void *argument)
{
    for (int i = 0; i < 2000; i++) {
        pthread_mutex_lock(&pi);
        pi_count++;
        if (i % 100 == 0)
            sched_yield();
        pthread_mutex_unlock(&pi);
    }
    return NULL;
}

static void inheritance(void)
{
    pthread_mutexattr_t attr;
    pthread_t threads[4];
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_INHERIT);
    CHECK(pthread_mutex_init(&pi, &attr) == 0);
    for (int i = 0; i < 4; i++)
        threads[i] = start(pi_work, NULL);
    for (int i = 0; i < 4; i++)
        join(threads[i]);
    printf("inherited %ld\n", pi_count);
}

/* ---- the rest of the kernel's part ---------------------------------------------------------------------------- */

static atomic_int fired, fired_right;

static void on_timer(union sigval value)
{
    fired_right += value.sival_int == 99 && tid() != getpid();
    fired++;
}

static void timers(void)
{
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_THREAD, .sigev_notify_function = on_timer};
    struct itimerspec spec = {{0, 5000000}, {0, 5000000}};
    event.sigev_value.sival_int = 99;
    CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    CHECK(timer_settime(timer, 0, &spec, NULL) == 0);
    while (fired < 5)
        nap(5);
    CHECK(timer_delete(timer) == 0);
    printf("right %d\n", fired_right == fired);
}

static void *credentials_of(void *argument)
{
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    return (void *)(intptr_t)(syscall(SYS_geteuid) == (long)(uid_t)(uintptr_t)argument);
}

static void credentials(void)
{
    pthread_barrier_init(&barrier, NULL, 2);
    uid_t uid = geteuid();
    pthread_t thread = start(credentials_of, (void *)(uintptr_t)(uid == 0 ? 1000 : uid));
    pthread_barrier_wait(&barrier);
    CHECK(setresuid(-1, uid == 0 ? 1000 : uid, -1) == 0);
    pthread_barrier_wait(&barrier);
    CHECK(join(thread) == (void *)1);
    cpu_set_t set;
    CHECK(pthread_getaffinity_np(pthread_self(), sizeof set, &set) == 0 && CPU_COUNT(&set) > 0);
    char name[16] = "";
    CHECK(pthread_setname_np(pthread_self(), "renamed") == 0 && pthread_getname_np(pthread_self(), name, 16) == 0 &&
          !strcmp(name, "renamed"));
}

static void *reads_one(void *argument)
{
    char byte = 0;
    ssize_t n = read((int)(intptr_t)argument, &byte, 1);
    return (void *)(intptr_t)(n == 1 ? byte : -1);
}

/* Four threads in reads that somebody else ends: argv[2 ...] are the descriptors. */
static void readers_of(char **fds)
{
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        threads[i] = start(reads_one, (void *)(intptr_t)atoi(fds[i]));
    (void)!write(1, "reading\n", 8);
    for (int i = 0; i < 4; i++)
        printf("read %c\n", (char)(intptr_t)join(threads[i]));
}

/* What a program may ask of clone and must not get. */
static void refused(void)
{
    char stack[16384];
    long all = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD;
    CHECK(syscall(SYS_clone, CLONE_THREAD, stack + 8192, NULL, NULL, NULL) == -1 && errno == EINVAL);
    CHECK(syscall(SYS_clone, CLONE_THREAD | CLONE_SIGHAND, stack + 8192, NULL, NULL, NULL) == -1 && errno == EINVAL);
    CHECK(syscall(SYS_clone, CLONE_SIGHAND, stack + 8192, NULL, NULL, NULL) == -1 && errno == EINVAL);
    CHECK(syscall(SYS_clone, all | CLONE_NEWUSER, stack + 8192, NULL, NULL, NULL) == -1 && errno == EINVAL);
    CHECK(syscall(SYS_clone, all | CLONE_NEWNS, stack + 8192, NULL, NULL, NULL) == -1 && errno == EINVAL);
    CHECK(syscall(SYS_set_robust_list, stack, 5) == -1 && errno == EINVAL);
    void *at = NULL;
    size_t size = 0;
    CHECK(syscall(SYS_get_robust_list, 0, &at, &size) == 0 && size == 3 * sizeof(long) && at != NULL);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    static const struct {
        const char *name;
        void (*fn)(void);
    } parts[] = {
        {"counter", counter},       {"meeting", meeting},       {"spinning", spinning},   {"storage", storage},
        {"many", many},             {"detached", detached},     {"signals", signals},     {"cancellation", cancellation},
        {"storm", storm},           {"stopped", stopped},       {"memory", memory},       {"code", new_code},
        {"forking", forking},       {"hello", hello},           {"race", race},           {"inheritance", inheritance},
        {"timers", timers},         {"credentials", credentials}, {"refused", refused},
        {"rights", rights},         {"sparse", sparse},
    };
    self = argv[0];
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (!strcmp(what, parts[i].name)) {
            parts[i].fn();
            return 0;
        }
    if (!strcmp(what, "readers")) {
        readers_of(argv + 2);
    } else if (!strcmp(what, "robust")) {
        robustness(PTHREAD_PRIO_NONE);
    } else if (!strcmp(what, "robust-pi")) {
        robustness(PTHREAD_PRIO_INHERIT);
    } else if (!strcmp(what, "exec-main")) {
        execute(0);
    } else if (!strcmp(what, "exec-thread")) {
        execute(1);
    } else if (!strcmp(what, "exit-main")) {
        crowd();
        return 7;
    } else if (!strcmp(what, "exit-thread")) {
        crowd();
        start(leaves, (void *)8);
        pause();
    } else if (!strcmp(what, "exit-blocked")) {
        crowd();
        start(leaves, (void *)9);
        pthread_mutex_lock(&lock);
        pthread_cond_wait(&cond, &lock);
    } else if (!strcmp(what, "main-ends")) {
        start(outlives, NULL);
        pthread_exit(NULL);
    } else if (!strcmp(what, "main-ends-exit")) {
        start(outlives, (void *)6);
        pthread_exit(NULL);
    } else if (!strcmp(what, "main-ends-exec")) {
        nap(1);
        start(executes, NULL);
        pthread_exit(NULL);
    } else if (!strcmp(what, "fault")) {
        crowd();
        start(faults, NULL);
        pause();
    } else if (!strcmp(what, "abort")) {
        crowd();
        abort();
    } else if (!strcmp(what, "killed")) {
        crowd();
        kill(getpid(), SIGTERM);
        pause();
    } else {
        return 2;
    }
    return 0;
}
