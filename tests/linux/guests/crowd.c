/* Four threads of four processes, all making calls at the same time.  Prints the sum of what they counted. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int calls;
static int done[4];

static void *work(void *which)
{
    for (int i = 0; i < calls; i++)
        done[(long)which] += syscall(SYS_getppid) > 0;
    return NULL;
}

int main(int argc, char **argv)
{
    int fds[2], sum = 0;
    calls = atoi(argv[1]);
    pipe(fds);
    for (int child = 0; child < 4; child++)
        if (fork() == 0) {
            pthread_t threads[4];
            int own = 0;
            for (long i = 0; i < 4; i++)
                pthread_create(&threads[i], NULL, work, (void *)i);
            for (int i = 0; i < 4; i++) {
                pthread_join(threads[i], NULL);
                own += done[i];
            }
            write(fds[1], &own, sizeof own);
            if (child == 3)
                syscall(SYS_exit, 0); /* not exit_group */
            _exit(0);
        }
    close(fds[1]);
    for (int own; read(fds[0], &own, sizeof own) == sizeof own;)
        sum += own;
    while (wait(NULL) > 0)
        ;
    printf("%d\n", sum);
    return 0;
}
