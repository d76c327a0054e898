/*
 * emu-binfmt: what the kernel starts for a foreign program where binfmt_misc names it.
 *
 * It is linked statically and is complete in itself: with the flag F the kernel opens it once, when it is
 * registered, and afterwards starts it in every chroot and container, where there is neither Python nor a
 * library of ours.  So it runs what the translator runs, arm64.  For programs of other ISAs it executes the
 * `emu` beside it, where that can be reached.
 *
 * With the flag P the kernel gives two words before the program's arguments, its path and its argv[0]; without,
 * the path stands for both.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "a64_engine.h"
#include "process.h"

#define PRESERVE_ARGV0 1 /* AT_FLAGS_PRESERVE_ARGV0 of linux/binfmts.h, since Linux 5.12 */

static emu_engine *no_stepper(uint32_t isa, const emu_user_memory *memory, char *text, size_t size)
{
    snprintf(text, size, "emu-binfmt has no other engine than the translator");
    return NULL;
}

/* Instructions that the translator leaves are Unicorn's elsewhere; here they are illegal. */
const emu_engine_ops *emu_uc_user(void)
{
    static const emu_engine_ops none = {.name = "none", .open = no_stepper};
    return &none;
}

static bool is_arm64(const char *path)
{
    enum { MACHINE = 18, AARCH64 = 183 }; /* e_machine, whose first byte differs for each of ours */
    unsigned char head[MACHINE + 2];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool read = fd >= 0 && pread(fd, head, sizeof head, 0) == (ssize_t)sizeof head;
    if (fd >= 0)
        close(fd);
    return !read || head[MACHINE] == AARCH64;
}

/* The whole emu, for ISAs that are not the translator's. */
static _Noreturn void whole(char **argv, const char *path)
{
    char emu[PATH_MAX + 8];
    ssize_t length = readlink("/proc/self/exe", emu, PATH_MAX);
    emu[length < 0 ? 0 : length] = 0;
    char *slash = strrchr(emu, '/');
    size_t count = 0;
    while (argv[count] != NULL)
        count++;
    char **words = calloc(count + 6, sizeof *words);
    if (slash != NULL && words != NULL) {
        strcpy(slash, "/emu");
        size_t n = 0;
        words[n++] = emu;
        words[n++] = "-0";
        words[n++] = argv[0];
        words[n++] = "--";
        words[n++] = (char *)path;
        memcpy(words + n, argv + 1, count * sizeof *words);
        execv(emu, words);
    }
    fprintf(stderr, "emu: %s: without emu in reach only arm64 programs are run; emu shell enters roots of others, too\n",
            path);
    _exit(126);
}

int main(int argc, char **argv)
{
    extern char **environ;
    char text[PATH_MAX + 256];
    bool two = getauxval(AT_FLAGS) & PRESERVE_ARGV0;
    if (argc < (two ? 3 : 2)) {
        fprintf(stderr, "emu: emu-binfmt PROGRAM [ARGS ...] is what binfmt_misc calls; emu binfmt print has the lines\n");
        return 2;
    }
    /* With O or C the kernel has opened the program; nobody needs that. */
    errno = 0;
    unsigned long opened = getauxval(AT_EXECFD);
    if (errno == 0)
        close((int)opened);
    const char *path = argv[1];
    char **words = argv + (two ? 2 : 1), **variables = environ;
    if (getauxval(AT_SECURE)) {
        static char *nothing[1];
        environ = nothing; /* whoever called has no say in how a program runs that has more rights */
    }
    emu_process *process = emu_process_new(emu_a64_user(), NULL, text, sizeof text);
    if (process == NULL) {
        fprintf(stderr, "emu: %s\n", text);
        return 126;
    }
    if (!is_arm64(path)) {
        environ = variables;
        whole(words, path);
    }
    int error = emu_process_start(process, path, words, variables, text, sizeof text);
    if (error != 0) {
        fprintf(stderr, "emu: %s\n", text);
        return error == -ENOENT ? 127 : 126;
    }
    emu_process_become(process);
}
