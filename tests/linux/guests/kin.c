/*
 * What a process sees in /proc of another one of the same tree, and of itself.
 *   kin look            prints it, of a child that has executed a copy of this program
 *   kin look-outside N  tries to see process N, which is none of the tree
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char text[65536];

static char *slurp(const char *format, int pid)
{
    char path[64];
    size_t length = 0;
    ssize_t got;
    snprintf(path, sizeof path, format, pid);
    int fd = open(path, O_RDONLY);
    if (fd < 0) {
        snprintf(text, sizeof text, "%s", strerror(errno));
        return text;
    }
    while (length < sizeof text - 1 && (got = read(fd, text + length, sizeof text - 1 - length)) > 0)
        length += got;
    close(fd);
    text[length] = 0;
    for (size_t i = 0; i + 1 < length; i++)
        if (text[i] == 0)
            text[i] = '|';
    return text;
}

static char *link_of(const char *format, int pid)
{
    char path[64];
    snprintf(path, sizeof path, format, pid);
    ssize_t length = readlink(path, text, sizeof text - 1);
    if (length < 0)
        return strerror(errno);
    text[length] = 0;
    return text;
}

/* The numbers that a folder lists: first, last, how many and whether one is among them. */
static int lists(const char *format, int pid, int wanted, int show)
{
    char path[64];
    int found = 0;
    snprintf(path, sizeof path, format, pid);
    DIR *dir = opendir(path);
    struct dirent *entry;
    if (dir == NULL)
        return -1;
    for (int i = 0; show && i < 1024; i++) { /* in order */
        rewinddir(dir);
        while ((entry = readdir(dir)) != NULL)
            if (entry->d_name[0] != '.' && atoi(entry->d_name) == i && i != dirfd(dir))
                printf(" %d", i);
    }
    rewinddir(dir);
    while ((entry = readdir(dir)) != NULL)
        found |= atoi(entry->d_name) == wanted;
    closedir(dir);
    return found;
}

static int has_line(const char *from, const char *first, const char *second)
{
    for (const char *line = from; line != NULL; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        size_t size = strcspn(line, "\n");
        char copy[512];
        snprintf(copy, sizeof copy, "%.*s", (int)size, line);
        if (strstr(copy, first) != NULL && strstr(copy, second) != NULL)
            return 1;
    }
    return 0;
}

static void copy_file(const char *from, const char *to)
{
    char buffer[4096];
    ssize_t got;
    int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0755);
    while ((got = read(in, buffer, sizeof buffer)) > 0)
        write(out, buffer, got);
    close(in);
    close(out);
}

static void try_write(const char *when, const char *path)
{
    int fd = open(path, O_WRONLY);
    printf("%s: %s\n", when, fd < 0 ? strerror(errno) : "may write");
    printf("%s: truncate: %s\n", when, truncate(path, 0) < 0 ? strerror(errno) : "done");
    close(fd);
}

static void look(void)
{
    int ready[2], pid, ppid, field, gate[2];
    char state, byte, name[64], own[64];
    copy_file("/proc/self/exe", "copy");
    pipe(ready);
    pipe(gate);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        dup2(ready[1], 30);
        dup2(gate[0], 31);
        for (int i = 3; i < 30; i++)
            close(i);
        execl("copy", "other name", "wait", "", "last", NULL);
        _exit(1);
    }
    close(ready[1]);
    close(gate[0]);
    fcntl(ready[0], F_SETFD, FD_CLOEXEC);
    fcntl(gate[1], F_SETFD, FD_CLOEXEC);
    read(ready[0], &byte, 1);

    char *exe = link_of("/proc/%d/exe", child);
    printf("exe: %s\n", strrchr(exe, '/') ? strrchr(exe, '/') : exe);
    printf("cmdline: %s\n", slurp("/proc/%d/cmdline", child));
    printf("comm: %s", slurp("/proc/%d/comm", child));
    do /* until it waits */
        sscanf(slurp("/proc/%d/stat", child), "%d (%[^)]) %c %d", &pid, name, &state, &ppid);
    while (state != 'S');
    printf("stat: %d %s %d %c\n", pid == child, name, ppid == getpid(), state);
    slurp("/proc/%d/status", child);
    snprintf(own, sizeof own, "%d", child);
    printf("status: %d %d\n", has_line(text, "Name:", "copy"), has_line(text, "Pid:", own));
    slurp("/proc/%d/maps", child);
    printf("maps: %d %d %d\n", has_line(text, " r-xp ", "/copy"), has_line(text, " rw-p ", "[stack]"),
           has_line(text, "emu", ""));
    printf("environ: %s\n", slurp("/proc/%d/environ", child));
    printf("descriptors:");
    lists("/proc/%d/fd", child, 0, 1);
    printf("\nown descriptors:");
    lists("/proc/self/fd", child, 0, 1);
    printf("\nlisted: %d %d\n", lists("/proc", 0, child, 0), lists("/proc", 0, getpid(), 0));
    snprintf(own, sizeof own, "pipe:");
    printf("a pipe: %d\n", strncmp(link_of("/proc/%d/fd/30", child), own, 5) == 0);
    printf("none: %s\n", link_of("/proc/%d/fd/29", child));
    char here[4096], *cwd = link_of("/proc/%d/cwd", child);
    printf("cwd: %d\n", strcmp(cwd, getcwd(here, sizeof here) ? here : "") == 0);
    try_write("while it runs", "copy");
    write(gate[1], "x", 1);
    siginfo_t info;
    waitid(P_PID, child, &info, WEXITED | WNOWAIT);
    sscanf(slurp("/proc/%d/stat", child), "%d (%[^)]) %c %d", &pid, name, &state, &ppid);
    printf("dead: %d %s %c\n", pid == child, name, state);
    printf("dead cmdline: \"%s\"\n", slurp("/proc/%d/cmdline", child));
    waitpid(child, NULL, 0);
    printf("gone: %s\n", slurp("/proc/%d/stat", child));
    try_write("when it is gone", "copy");
    unlink("copy");
}

static void look_outside(int pid)
{
    static const char *const names[] = {"", "/stat", "/cmdline", "/maps", "/exe", "/cwd", "/root", "/fd", "/fd/0", "/mem",
                                        "/environ", "/task", "/root/etc", "/cwd/..", "/fd/0/..", "/fd/3"};
    char path[64];
    struct stat status;
    int proc = open("/proc", O_RDONLY | O_DIRECTORY);
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "/proc/%d%s", pid, names[i]);
        printf("%s: %s", names[i], open(path, O_RDONLY) < 0 ? strerror(errno) : "OPEN");
        printf(", %s", lstat(path, &status) < 0 ? strerror(errno) : "STAT");
        printf(", %s", link_of(path, 0));
        printf(", %s\n", openat(proc, path + 6, O_RDONLY) < 0 ? strerror(errno) : "OPEN");
    }
    printf("listed %d\n", lists("/proc", 0, pid, 0));
    printf("fchdir: %s\n", fchdir(proc) < 0 ? strerror(errno) : "DONE");
    printf("..: %s\n", openat(proc, "../secret", O_RDONLY) < 0 ? strerror(errno) : "OPEN");
    printf("chmod: %s\n", fchmod(proc, 0555) < 0 ? strerror(errno) : "DONE");
    pid_t child = fork();
    if (child == 0) {
        pause();
        _exit(0);
    }
    static const char *const ways[] = {"root/../secret", "cwd/../secret", "exe/../../secret", "fd/../../../secret",
                                       "root/secret", "fd/40", "fd/40/secret", "task/../root/../secret"};
    for (unsigned i = 0; i < sizeof ways / sizeof *ways; i++) {
        snprintf(path, sizeof path, "/proc/%d/%s", child, ways[i]);
        printf("%s: %s\n", ways[i], open(path, O_RDONLY) < 0 ? "no" : "OPEN");
    }
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
}

int main(int argc, char **argv)
{
    char byte;
    if (strcmp(argv[1], "wait") == 0) {
        write(30, "r", 1);
        return read(31, &byte, 1) != 1;
    }
    if (strcmp(argv[1], "look") == 0)
        look();
    else
        look_outside(atoi(argv[2]));
    return 0;
}
