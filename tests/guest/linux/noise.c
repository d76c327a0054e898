/*
 * Random instructions: noise SEED PIECES.  A child jumps into pages of noise, some
 * of it like real code, and comes back by whatever signal that causes.  It may
 * hurt itself by that, and die; but not by SIGABRT or SIGKILL, which would be the
 * emulator's end, and not hang.
 */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 100, CODE = 8192, PATIENCE = 60 };

static uint64_t state;
static uint32_t next(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 16);
}

static void *back[5];
static char alternate[65536];

/* Nothing of the C library, which may be hurt: its registers, its memory. */
static void leave(int sig)
{
#if defined(__riscv)
    __asm__ volatile(".option push\n.option norelax\nla gp, __global_pointer$\n.option pop");
#endif
    __builtin_longjmp(back, 1);
}

#if defined(__aarch64__)
/* The classes of A64: data processing, loads and stores, SIMD, system. */
static uint32_t word(void)
{
    static const uint32_t tops[] = {0xd5000000, 0x0e000000, 0x4e000000, 0x1e000000, 0xf8000000, 0x38000000, 0xc8000000,
                                    0x9b000000, 0x1ac00000, 0x5e000000, 0x0f000000, 0xd4000000, 0x0c000000, 0x54000000};
    return next() % 3 ? next() : tops[next() % 14] | (next() & 0x00ffffff);
}
#elif defined(__arm__)
static uint32_t word(void)
{
    return next() % 3 ? (next() & 0x0fffffff) | 0xe0000000 : next() % 4 ? next() | 0xf0000000 : next();
}
#elif defined(__riscv)
static uint32_t word(void)
{
    static const uint8_t opcodes[] = {0x73, 0x33, 0x13, 0x3b, 0x1b, 0x2f, 0x07, 0x27, 0x43, 0x53, 0x03, 0x23, 0x0f, 0x63};
    return next() % 3 ? next() : (next() & ~0x7fu) | opcodes[next() % 14];
}
#else
/* Prefixes and the two-byte opcodes more often than chance has them. */
static uint32_t word(void)
{
    static const uint8_t starts[] = {0x0f, 0x66, 0xf2, 0xf3, 0xf0, 0x48, 0x41, 0xc5, 0xc4, 0x64, 0x65, 0x67, 0xdf, 0xd9};
    return next() % 2 ? next() : (next() & ~0xffu) | starts[next() % 14];
}
#endif

static void child(void)
{
    static const int signals[] = {SIGILL, SIGSEGV, SIGBUS, SIGFPE, SIGTRAP, SIGALRM, SIGSYS};
    stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate};
    uint8_t *code = mmap(NULL, 2 * CODE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    sigaltstack(&stack, NULL);
    for (unsigned i = 0; i < sizeof signals / sizeof *signals; i++) {
        struct sigaction sa;
        memset(&sa, 0, sizeof sa);
        sa.sa_handler = leave;
        sa.sa_flags = SA_ONSTACK | SA_NODEFER;
        sigaction(signals[i], &sa, NULL);
    }
    static volatile unsigned piece;
    for (piece = 0; piece < BATCH; piece++) {
        struct itimerval soon = {{0, 20000}, {0, 20000}};
        for (unsigned i = 0; i < CODE / 4; i++)
            ((uint32_t *)code)[i] = word();
        __builtin___clear_cache((char *)code, (char *)code + CODE);
        uintptr_t at = (uintptr_t)code + next() % (CODE / 2) / 4 * 4;
#if defined(__arm__)
        at += next() % 4 == 0;
#elif defined(__riscv)
        at += next() % 4 == 0 ? 2 : 0;
#elif defined(__x86_64__)
        at += next() % 4;
#endif
        if (__builtin_setjmp(back) == 0) {
            setitimer(ITIMER_REAL, &soon, NULL);
            ((void (*)(long, long, long, long))at)((long)code, (long)next(), -1, (long)&state);
        }
    }
    _exit(0);
}

int main(int argc, char **argv)
{
    unsigned seed = argc > 1 ? strtoul(argv[1], NULL, 0) : 1, wanted = argc > 2 ? strtoul(argv[2], NULL, 0) : 1000;
    for (unsigned done = 0; done < wanted; done += BATCH) {
        int status = 0;
        pid_t got = 0;
        fflush(stdout);
        state = 0x9e3779b97f4a7c15u * (seed + done + 1);
        pid_t pid = fork();
        if (pid == 0) {
            struct rlimit cores = {0, 0}, memory = {1 << 30, 1 << 30}, time = {2, 3};
            setrlimit(RLIMIT_CORE, &cores);
            setrlimit(RLIMIT_CPU, &time); /* it may loop in its handler */
            setrlimit(RLIMIT_AS, &memory);
            setsid();
            for (int fd = 0; fd < 3; fd++)
                if (argc <= 3)
                    close(fd);
            child();
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
        } else if (WIFSIGNALED(status) && (WTERMSIG(status) == SIGABRT || WTERMSIG(status) == SIGKILL)) {
            printf("batch %u of seed %u: signal %d\n", done / BATCH, seed, WTERMSIG(status));
        }
    }
    printf("%u pieces\n", wanted);
    return 0;
}
