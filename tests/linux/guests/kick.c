/* Signals that arrive at any instruction: nothing runs twice, nothing is lost, no loop is out of reach. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

static volatile sig_atomic_t ticks;
static sigjmp_buf out;

static void on_tick(int sig)
{
    ticks++;
}

static void on_alarm(int sig)
{
    siglongjmp(out, 1);
}

static volatile uint64_t counters[64];

/* Reads, adds and writes; doing any of it twice or not at all shows. */
__attribute__((noinline)) static void count(unsigned rounds)
{
    for (unsigned i = 0; i < rounds; i++) {
        counters[i & 63]++;
        counters[(i * 7) & 63] += 3;
    }
}

int main(void)
{
    struct itimerval fast = {{0, 300}, {0, 300}}, off = {{0, 0}, {0, 0}};
    signal(SIGALRM, on_tick);
    setitimer(ITIMER_REAL, &fast, NULL);
    const unsigned rounds = 20000;
    unsigned long done = 0;
    while (ticks < 300) {
        count(rounds);
        done += rounds;
    }
    setitimer(ITIMER_REAL, &off, NULL);
    uint64_t sum = 0;
    for (int i = 0; i < 64; i++)
        sum += counters[i];
    printf("counted right: %d\n", sum == 4 * (uint64_t)done);

    /* a loop of one block, entered for the first time behind a system call */
    for (int i = 0; i < 20; i++) {
        signal(SIGALRM, on_alarm);
        if (sigsetjmp(out, 1) == 0) {
            struct itimerval once = {{0, 0}, {0, 2000}};
            setitimer(ITIMER_REAL, &once, NULL);
            for (;;)
                ;
        }
    }
    printf("out of 20 loops\n");

    /* signals at system calls */
    signal(SIGALRM, on_tick);
    ticks = 0;
    setitimer(ITIMER_REAL, &fast, NULL);
    unsigned long wrong = 0;
    pid_t parent = getppid();
    while (ticks < 300)
        wrong += getppid() != parent;
    setitimer(ITIMER_REAL, &off, NULL);
    printf("wrong answers: %lu\n", wrong);
    return 0;
}
