/*
 * aarch64: runs random SIMD and floating-point instructions, most of which are not allocated: argv[1] a seed,
 * argv[2] how many.  A handler takes what they raise.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static uint64_t seed;

static uint64_t next(void)
{
    seed ^= seed >> 12;
    seed ^= seed << 25;
    seed ^= seed >> 27;
    return seed * 0x2545F4914F6CDD1Dull;
}

static sigjmp_buf back;

static void on_fault(int sig)
{
    siglongjmp(back, 1);
}

int main(int argc, char **argv)
{
    static char stack[65536];
    stack_t alternative = {.ss_sp = stack, .ss_size = sizeof stack};
    sigaltstack(&alternative, NULL);
    struct sigaction action = {.sa_handler = on_fault, .sa_flags = SA_ONSTACK};
    const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE};
    for (int i = 0; i < 5; i++)
        sigaction(signals[i], &action, NULL);
    seed = strtoull(argv[1], NULL, 0) * 0x9E3779B97F4A7C15ull | 1;
    volatile int count = atoi(argv[2]);
    uint8_t *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (volatile int i = 0; i < count; i++) {
        uint32_t words[2] = {(uint32_t)next()};
        /* SIMD and floating point only: they keep the general registers and memory, mostly. */
        words[0] = (words[0] & 0xf1ffffff) | 0x0e000000;
        words[1] = 0xd65f03c0; /* ret */
        memcpy(page, words, sizeof words);
        __builtin___clear_cache((char *)page, (char *)page + sizeof words);
        if (sigsetjmp(back, 1) == 0)
            ((void (*)(void))(uintptr_t)page)();
    }
    puts("end");
    return 0;
}
