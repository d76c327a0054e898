/* For a debugger to look at: calls, a structure, threads, a signal, a child, another program in its place. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct point {
    int x, y;
    double z;
};

volatile int counter, stop;
struct point place = {3, -4, 2.5};

__attribute__((noinline)) int leaf(int n)
{
    counter += n;
    return counter * 2;
}

__attribute__((noinline)) int middle(int n)
{
    int sum = 0;
    for (int i = 1; i <= n; i++)
        sum += leaf(i);
    return sum;
}

void on_signal(int number)
{
    counter += 1000;
}

void *worker(void *name)
{
    while (!stop)
        usleep(1000);
    return name;
}

void spin(void)
{
    for (;;)
        counter++;
}

/* What an ISA makes of it may be a loop that only ends when nothing comes between its two accesses. */
int swap(volatile int *at, int to)
{
    int old = *at;
    while (!__atomic_compare_exchange_n(at, &old, to, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        continue;
    return old;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    int result = middle(4);
    place.z *= 2;
    printf("result %d, z %g\n", result, place.z);
    fflush(stdout);
    if (strcmp(what, "signal") == 0) {
        signal(SIGUSR1, on_signal);
        raise(SIGUSR1);
    } else if (strcmp(what, "threads") == 0) {
        pthread_t threads[2];
        for (int i = 0; i < 2; i++)
            pthread_create(&threads[i], NULL, worker, &threads[i]);
        usleep(20000);
        leaf(1);
        stop = 1;
        for (int i = 0; i < 2; i++)
            pthread_join(threads[i], NULL);
    } else if (strcmp(what, "fork") == 0) {
        int status;
        pid_t child = fork();
        if (child == 0)
            _exit(leaf(1) & 63);
        waitpid(child, &status, 0);
        printf("child %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
    } else if (strcmp(what, "exec") == 0) {
        execv(argv[0], (char *[]){argv[0], NULL});
    } else if (strcmp(what, "crash") == 0) {
        *(volatile int *)16 = 1;
    } else if (strcmp(what, "swap") == 0) {
        int old = swap(&counter, 5);
        printf("swapped %d for %d\n", old, counter);
    } else if (strcmp(what, "spin") == 0) {
        spin();
    }
    return 7;
}
