/*
 * The first program of a small Linux whose only purpose is to have a KVM: loads
 * its modules, runs /test, says how that ended, and switches off.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void load(const char *module, const char *parameters)
{
    int fd = open(module, O_RDONLY);
    if (fd < 0 || syscall(SYS_finit_module, fd, parameters, 0) != 0)
        perror(module);
    close(fd);
}

int main(void)
{
    char words[4096] = "";
    mkdir("/proc", 0755);
    mkdir("/tmp", 01777);
    mount("dev", "/dev", "devtmpfs", 0, NULL);
    mount("proc", "/proc", "proc", 0, NULL);
    int console = open("/dev/console", O_RDWR);
    for (int fd = 0; fd < 3; fd++)
        dup2(console, fd);
    int fd = open("/proc/cmdline", O_RDONLY);
    if (read(fd, words, sizeof words - 1) < 0)
        perror("cmdline");
    close(fd);
    load("/irqbypass.ko", "");
    load("/kvm.ko", "");
    load("/kvm-amd.ko", strstr(words, "shadow") != NULL ? "npt=0" : "");
    pid_t child = fork();
    if (child == 0) {
        execl("/test", "/test", (char *)NULL);
        _exit(127);
    }
    int status = 0;
    waitpid(child, &status, 0);
    printf("status %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    fflush(stdout);
    sync();
    return reboot(RB_POWER_OFF);
}
