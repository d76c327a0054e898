/* System call numbers that no Linux has, and the machine's name. */
#include <errno.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    static const long numbers[] = {460, 999, 4096, 65535, 0xeffff, 0xf0100, 0x7fffffff, -1};
    struct utsname name;
    if (argc > 1)
        return uname(&name) || puts(name.machine) < 0;
    for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        long result = syscall(numbers[i], 0, 0, 0, 0, 0, 0);
        puts(result == -1 && errno == ENOSYS ? "ENOSYS" : "something else");
    }
    return 0;
}
