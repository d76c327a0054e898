/*
 * Dies of a signal where a core may be left.  argv: LIMIT, RLIMIT_CORE; HOW: `fault`, `undumpable`, or the
 * number of a signal; `child`: a child does so, and its wait status is printed.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

char greeting[] = "hello from the guest";
double number = 2.5;

static __attribute__((noinline)) int inner(int *at, int x)
{
    double product = number * x;
    *at = x + (int)product;
    return *at;
}

static __attribute__((noinline)) int outer(int *at)
{
    return inner(at, 7) + 1;
}

int main(int argc, char **argv)
{
    struct rlimit limit = {strtoul(argv[1], NULL, 0), RLIM_INFINITY};
    int status;
    if (setrlimit(RLIMIT_CORE, &limit) != 0) {
        limit.rlim_max = limit.rlim_cur;
        setrlimit(RLIMIT_CORE, &limit);
    }
    greeting[0] = 'H';
    if (argc > 3) {
        pid_t child = fork();
        if (child != 0) {
            waitpid(child, &status, 0);
            printf("%#x\n", status);
            return 0;
        }
    }
    if (strcmp(argv[2], "undumpable") == 0)
        prctl(PR_SET_DUMPABLE, 0);
    if (atoi(argv[2]) != 0)
        kill(getpid(), atoi(argv[2]));
    else
        return outer((int *)8);
    return 0;
}
