/* Children of every kind.  argv[1]: a program that prints its arguments and returns their count. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void report(const char *what, int status)
{
    if (WIFEXITED(status))
        printf("%s: exit %d\n", what, WEXITSTATUS(status));
    else
        printf("%s: signal %d\n", what, WTERMSIG(status));
    fflush(stdout);
}

static void attempt(const char *what, const char *path)
{
    char *argv[] = {"x", NULL}, *envp[] = {NULL};
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        execve(path, argv, envp);
        _exit(errno);
    }
    waitpid(pid, &status, 0);
    report(what, status);
}

static void put(const char *path, const char *text, mode_t mode)
{
    FILE *file = fopen(path, "w");
    fwrite(text, 1, strlen(text), file);
    fclose(file);
    chmod(path, mode);
}

int main(int argc, char **argv)
{
    const char *echo = argv[1];
    int status;
    if (argc == 4 && strcmp(argv[1], "fds") == 0) {
        printf("stays %d, goes %d\n", fcntl(atoi(argv[2]), F_GETFD), fcntl(atoi(argv[3]), F_GETFD));
        return 0;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);

    if (fork() == 0) {
        execl(echo, "echo", "one", "two words", (char *)NULL);
        _exit(99);
    }
    wait(&status);
    report("fork and exec", status);

    pid_t pid = vfork();
    if (pid == 0) {
        execl(echo, "echo", (char *)NULL);
        _exit(99);
    }
    waitpid(pid, &status, 0);
    report("vfork and exec", status);

    char *words[] = {"echo", "spawned", NULL}, *none[] = {NULL};
    int error = posix_spawn(&pid, echo, NULL, NULL, words, none);
    waitpid(pid, &status, 0);
    printf("spawn: %d\n", error);
    report("spawned", status);
    error = posix_spawn(&pid, "/nowhere/at/all", NULL, NULL, words, none);
    printf("spawn of nothing: %s\n", error ? strerrorname_np(error) : "0");

    if (fork() == 0)
        raise(SIGKILL);
    wait(&status);
    report("killed", status);
    if (fork() == 0)
        *(volatile int *)8 = 1;
    wait(&status);
    report("crashed", status);

    /* memory is its own, descriptors are shared */
    int ends[2], mine = 1;
    if (pipe(ends) != 0)
        return 1;
    if (fork() == 0) {
        mine = 2;
        dprintf(ends[1], "%d", mine);
        _exit(0);
    }
    wait(&status);
    char text[8] = "";
    if (read(ends[0], text, 7) < 0)
        return 1;
    printf("child %s, parent %d\n", text, mine);

    char folder[] = "/tmp/emu-spawn-XXXXXX", path[300], script[400];
    if (mkdtemp(folder) == NULL || chdir(folder) != 0)
        return 1;
    attempt("nothing there", "missing");
    attempt("a folder", ".");
    put("plain", "hello", 0644);
    attempt("not executable", "plain");
    put("text", "hello", 0755);
    attempt("text", "text");
    put("empty", "", 0755);
    attempt("empty", "empty");
    put("half", "\177ELF\2\1\1", 0755);
    attempt("half an ELF", "half");
    put("lost", "#!/nowhere/interpreter\n", 0755);
    attempt("script of nobody", "lost");
    put("bare", "#!\n", 0755);
    attempt("script of nothing", "bare");
    snprintf(script, sizeof script, "#! %s  -a b \n", echo);
    put("script", script, 0755);
    attempt("script", "./script");
    snprintf(path, sizeof path, "#!%s/script\n", folder);
    put("twice", path, 0755);
    attempt("script of a script", "./twice");
    snprintf(path, sizeof path, "#!%s/loop\n", folder);
    put("loop", path, 0755);
    attempt("script of itself", "./loop");

    /* what closes and what stays */
    int stays = open("/dev/null", O_RDONLY), goes = open("/dev/null", O_RDONLY | O_CLOEXEC);
    char number[2][12];
    snprintf(number[0], 12, "%d", stays);
    snprintf(number[1], 12, "%d", goes);
    if (fork() == 0) {
        execl(argv[0], "spawn", "fds", number[0], number[1], (char *)NULL);
        _exit(99);
    }
    wait(&status);
    report("descriptors", status);

    /* far too many words */
    static char *many[200001];
    for (int i = 0; i < 200000; i++)
        many[i] = "0123456789012345678901234567890123456789";
    if (fork() == 0) {
        execve(echo, many, none);
        _exit(errno);
    }
    wait(&status);
    report("too long", status);

    for (int i = 0; i < 30; i++) {
        if (fork() == 0)
            _exit(i);
        wait(&status);
        if (WEXITSTATUS(status) != i)
            printf("lost a status\n");
    }
    const char *left[] = {"plain", "text", "empty", "half", "lost", "bare", "script", "twice", "loop"};
    for (unsigned i = 0; i < sizeof left / sizeof *left; i++)
        unlink(left[i]);
    return rmdir(folder);
}
