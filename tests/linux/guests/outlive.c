/* A child that goes on when its parent has ended, and then makes the file argv[1]. */
#include <fcntl.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    int fds[2];
    char byte;
    pipe(fds);
    if (fork() == 0) {
        close(fds[1]);
        read(fds[0], &byte, 1); /* the end of the parent */
        for (int i = 0; i < 20; i++) {
            getppid();
            usleep(5000);
        }
        close(open(argv[1], O_CREAT | O_WRONLY, 0600));
        _exit(0);
    }
    getppid();
    return 0;
}
