/* Threads that use a page while another forbids and allows it: toggle TIMES.  Prints which faults are not of that kind. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

static volatile char *page;
static atomic_int done;
static atomic_long bus, other;

static void on_fault(int sig, siginfo_t *info, void *context)
{
    bus += sig == SIGBUS;
    other += sig == SIGSEGV && info->si_code != SEGV_ACCERR;
}

static void *use(void *unused)
{
    while (!done) {
        (void)page[0];
        page[1] = 1;
    }
    return NULL;
}

int main(int argc, char **argv)
{
    int times = atoi(argv[1]);
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    pthread_t threads[3];
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, use, NULL);
    for (int i = 0; i < times; i++) {
        mprotect((void *)page, 4096, i % 3 ? PROT_NONE : PROT_READ);
        for (volatile int k = i % 50; k > 0; k--)
            ;
        mprotect((void *)page, 4096, PROT_READ | PROT_WRITE);
        for (volatile int k = i % 70; k > 0; k--)
            ;
    }
    done = 1;
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    printf("bus errors %ld, other faults %ld\n", (long)bus, (long)other);
    return 0;
}
