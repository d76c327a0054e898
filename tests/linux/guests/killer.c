/* Children that make calls without end, each killed at some point of one. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void)
{
    for (int i = 0; i < 100; i++) {
        int pid = fork();
        if (pid == 0)
            for (;;)
                syscall(SYS_getppid);
        usleep(500 + i * 37 % 900);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
    puts("done");
    return 0;
}
