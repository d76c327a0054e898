/* Types a letter into its terminal, as if somebody had. */
#include <stdio.h>
#include <sys/ioctl.h>

int main(void)
{
    if (ioctl(0, TIOCSTI, "x") != 0)
        perror("refused");
    else
        puts("typed");
    return 0;
}
