/*
 * Code that is written while other threads run it: rewriting TIMES.  A branch is turned to one place and another,
 * which the architecture allows at any time (Arm ARM, B2.2.5), now and then with the page being forbidden to run
 * meanwhile; and a branch to itself that a thread waits in becomes a NOP.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { WAIT_AT = 512, THREADS = 3 };
#define BRANCH(words) (0x14000000u | (words))
#define RESULT(value) (0x52800000u | (value) << 5) /* mov w0, #value */
#define RET 0xd65f03c0u
#define NOP 0xd503201fu

static uint32_t *code;
static atomic_long version; /* odd while it changes; the branch's place is its half's lowest bit */
static atomic_int done, through;
static atomic_long wrong, sure;

static void on_fault(int sig, siginfo_t *info, void *context)
{
    wrong += sig != SIGSEGV || info->si_code != SEGV_ACCERR;
}

static void put(int at, uint32_t word)
{
    __atomic_store_n(&code[at], word, __ATOMIC_RELAXED);
    __builtin___clear_cache((char *)&code[at], (char *)&code[at + 1]);
}

static int call(int at)
{
    return ((int (*)(void))(uintptr_t)&code[at])();
}

static void *runs(void *unused)
{
    while (!done) {
        long before = version;
        __asm__ volatile("isb");
        int result = call(0);
        long after = version;
        if (result != 1 && result != 2)
            wrong++;
        if (before == after && before % 2 == 0) {
            wrong += result != before / 2 % 2 + 1;
            sure++;
        }
    }
    return NULL;
}

static void *waits(void *unused)
{
    call(WAIT_AT);
    through++;
    return NULL;
}

int main(int argc, char **argv)
{
    int times = atoi(argv[1]);
    pthread_t threads[THREADS];
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    put(1, RESULT(1));
    put(2, RET);
    put(3, RESULT(2));
    put(4, RET);
    put(0, BRANCH(1));
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, runs, NULL);
    for (int i = 1; i <= times; i++) {
        version++;
        if (i % 16 == 0)
            mprotect(code, 4096, PROT_READ | PROT_WRITE);
        put(0, BRANCH(i % 2 ? 3 : 1));
        if (i % 16 == 0)
            mprotect(code, 4096, PROT_READ | PROT_WRITE | PROT_EXEC);
        version++;
        for (long before = sure; i % 8 == 0 && sure == before;)
            sched_yield();
    }
    done = 1;
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    printf("wrong %ld\n", (long)wrong);

    for (int round = 0; round < 200; round++) {
        put(WAIT_AT + 1, RET);
        put(WAIT_AT, BRANCH(0));
        for (int i = 0; i < THREADS; i++)
            pthread_create(&threads[i], NULL, waits, NULL);
        for (int i = round % 5; i > 0; i--)
            sched_yield();
        put(WAIT_AT, NOP);
        for (int i = 0; i < THREADS; i++)
            pthread_join(threads[i], NULL);
    }
    printf("through %d\n", (int)through);
    return 0;
}
