/* Nanoseconds of the thread's CPU time that a getppid takes, of so many (argv[1]). */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

int main(int argc, char **argv)
{
    long calls = argc > 1 ? atol(argv[1]) : 100000;
    for (long i = 0; i < calls / 10; i++) /* until translated */
        syscall(SYS_getppid);
    double start = now();
    for (long i = 0; i < calls; i++)
        syscall(SYS_getppid);
    printf("%.2f\n", (now() - start) / (double)calls);
    return 0;
}
