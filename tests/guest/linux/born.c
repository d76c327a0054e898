/* What a program is born with: arguments, environment, name, signals, descriptors, limits. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

extern char **environ;

int main(int argc, char **argv)
{
    char name[17] = "";
    for (int i = 0; i < argc; i++)
        printf("argument %s\n", argv[i]);
    for (char **at = environ; *at != NULL; at++)
        printf("variable %s\n", *at);
    prctl(PR_GET_NAME, name);
    printf("name %s\n", name);
    sigset_t blocked;
    sigprocmask(SIG_SETMASK, NULL, &blocked);
    for (int sig = 1; sig < NSIG; sig++) {
        struct sigaction action;
        if (sigaction(sig, NULL, &action) == 0 && action.sa_handler != SIG_DFL)
            printf("signal %d is ignored: %d\n", sig, action.sa_handler == SIG_IGN);
        if (sigismember(&blocked, sig) == 1)
            printf("signal %d is blocked\n", sig);
    }
    for (int fd = 0; fd < 64; fd++)
        if (fcntl(fd, F_GETFD) >= 0)
            printf("descriptor %d\n", fd);
    mode_t mask = umask(0);
    printf("umask %o\n", (unsigned)mask);
    for (int resource = 0; resource < 16; resource++) {
        struct rlimit limit;
        if (getrlimit(resource, &limit) == 0)
            printf("limit %d is %llu of %llu\n", resource, (unsigned long long)limit.rlim_cur,
                   (unsigned long long)limit.rlim_max);
    }
    return 3;
}
