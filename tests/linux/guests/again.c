/* Executes itself with the number before, down to 0. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    int n = argc > 1 ? atoi(argv[1]) : 0;
    char next[16];
    printf("%d\n", n);
    fflush(stdout);
    if (n == 0)
        return 0;
    snprintf(next, sizeof next, "%d", n - 1);
    execl("/proc/self/exe", argv[0], next, (char *)NULL);
    return 1;
}
