/*
 * The command `emu` for what is started thousands of times: an arm64 program
 * under translation, without an interpreter's start before it.
 *
 * Only what goes well is done here.  Whatever else there may be (another option,
 * a subcommand, a program of another ISA, a mistake) is Python's, which is
 * executed with the same words: emu/cli knows what to do or to say, and its texts
 * and rules stand once.  The options below mean what they mean there.
 *
 * The build defines, relative to the folder that this file is installed in:
 * EMU_PYTHON, the interpreter's name; EMU_PACKAGES, where its packages are; and EMU_SUBCOMMANDS.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "a64_engine.h"
#include "process.h"
#include "uc.h"

struct request {
    const char *engine;
    const char *sysroot;
    const char *root;
    const char *argv0;
    bool perf_map;
    bool plain; /* no configuration file is asked */
    char **variables; /* the guest's environment */
    size_t variable_count;
    char **argv; /* the program and its arguments */
};

/* Nothing has been done that another program would notice. */
static _Noreturn void python(const char *folder, char *const *words)
{
    /* As the script does that is installed where there is no launcher; the working directory holds no module of ours. */
    static char code[] = "import sys; from emu.cli import main; sys.exit(main())";
    /*
     * Ctrl-C while the interpreter starts would have it print where it was.  So it is held off until emu/cli can end
     * as it should; if whoever started us held it off, so it stays.
     */
    static char held[] = "import sys, _signal; from emu.cli import main; "
                         "sys.exit(main(ready=lambda: _signal.pthread_sigmask(_signal.SIG_UNBLOCK, [_signal.SIGINT])))";
    sigset_t interrupt, before;
    sigemptyset(&interrupt);
    sigaddset(&interrupt, SIGINT);
    sigprocmask(SIG_BLOCK, &interrupt, &before);
    char beside[PATH_MAX + sizeof EMU_PYTHON];
    size_t count = 0;
    while (words[count] != NULL)
        count++;
    char **argv = calloc(count + 5, sizeof *argv);
    if (argv != NULL) {
        snprintf(beside, sizeof beside, "%s/" EMU_PYTHON, folder);
        argv[0] = beside;
        argv[1] = "-P";
        argv[2] = "-c";
        argv[3] = sigismember(&before, SIGINT) ? code : held;
        memcpy(argv + 4, words, count * sizeof *words);
        execv(beside, argv);
        argv[0] = EMU_PYTHON;
        execvp(EMU_PYTHON, argv);
    }
    fprintf(stderr, "emu: " EMU_PYTHON " cannot be started: %s; install emu again\n", strerror(errno));
    _exit(127);
}

static bool is(const char *word, const char *other)
{
    return strcmp(word, other) == 0;
}

/* The value of an option at the word *at, behind which *at then is.  NULL: another option, or no value. */
static const char *value_of(const char *name, char ***at)
{
    if (strncmp(**at, name, strlen(name)) != 0)
        return NULL;
    const char *rest = **at + strlen(name);
    bool joined = name[1] == '-' ? *rest == '=' : *rest != 0;
    if (!joined && (*rest != 0 || (*at)[1] == NULL))
        return NULL;
    *at += joined ? 1 : 2;
    return !joined ? (*at)[-1] : name[1] == '-' ? rest + 1 : rest;
}

/* -E VAR=VAL sets a variable, -E VAR removes it. */
static bool change_variable(struct request *request, char *change)
{
    size_t length = strcspn(change, "="), kept = 0;
    bool sets = change[length] == '=';
    for (size_t i = 0; i < request->variable_count; i++) {
        char *variable = request->variables[i];
        if (strncmp(variable, change, length) == 0 && variable[length] == '=') {
            if (!sets)
                continue;
            variable = change;
            sets = false; /* the first; there should be no other */
        }
        request->variables[kept++] = variable;
    }
    if (sets)
        request->variables[kept++] = change;
    request->variables[request->variable_count = kept] = NULL;
    return length > 0;
}

/* False: it is Python's. */
static bool parse(struct request *request, char **words)
{
    static const char *const subcommands[] = {EMU_SUBCOMMANDS};
    for (size_t i = 0; i < sizeof subcommands / sizeof *subcommands; i++)
        if (words[0] != NULL && is(words[0], subcommands[i]))
            return false;
    char **at = words;
    while (*at != NULL && **at == '-' && (*at)[1] != 0) {
        const char *value;
        if (is(*at, "--")) {
            at++;
            break;
        }
        if (is(*at, "--perf-map") || is(*at, "--no-config")) {
            *(is(*at, "--perf-map") ? &request->perf_map : &request->plain) = true;
            at++;
        } else if ((value = value_of("--accel", &at)) != NULL) {
            if (!is(value, "auto") && !is(value, "tcg"))
                return false;
        } else if ((value = value_of("--engine", &at)) != NULL) {
            request->engine = value;
        } else if ((value = value_of("--sysroot", &at)) != NULL || (value = value_of("-L", &at)) != NULL) {
            request->sysroot = value;
        } else if ((value = value_of("--root", &at)) != NULL) {
            request->root = value;
        } else if ((value = value_of("-0", &at)) != NULL || (value = value_of("--argv0", &at)) != NULL) {
            request->argv0 = value;
        } else if ((value = value_of("-E", &at)) != NULL || (value = value_of("--env", &at)) != NULL) {
            if (!change_variable(request, (char *)value))
                return false;
        } else {
            return false;
        }
    }
    request->argv = at;
    return *at != NULL;
}

static bool is_directory(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

static const char *variable(const struct request *request, const char *name)
{
    size_t length = strlen(name);
    for (char **at = request->variables; *at != NULL; at++)
        if (strncmp(*at, name, length) == 0 && (*at)[length] == '=')
            return *at + length + 1;
    return "";
}

/*
 * Whether a configuration file may have something to say of programs, which is Python's to find out: where it is
 * configuration()'s in emu/folders.py, and its section is called [run], in whatever way TOML lets that be written.
 */
static bool configured(const struct request *request)
{
    static char text[1 << 16];
    char usual[PATH_MAX];
    const char *path = getenv("EMU_CONFIG"), *folder = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    bool named = path != NULL && *path != 0, xdg = folder != NULL && *folder == '/';
    if (request->plain)
        return false;
    if (!named) {
        if (!xdg && (home == NULL || *home == 0))
            return home != NULL;
        int length = snprintf(usual, sizeof usual, "%s%s/emu/config.toml", xdg ? folder : home, xdg ? "" : "/.config");
        if (length < 0 || (size_t)length >= sizeof usual)
            return true;
        path = usual;
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return named || (errno != ENOENT && errno != ENOTDIR);
    struct stat status;
    /* A pipe is emptied by who reads it: Python. */
    bool kept = fstat(fd, &status) == 0 && (S_ISREG(status.st_mode) || S_ISCHR(status.st_mode));
    ssize_t size = kept ? read(fd, text, sizeof text) : -1;
    close(fd);
    return size < 0 || (size_t)size == sizeof text || memchr(text, '\\', (size_t)size) != NULL ||
           memmem(text, (size_t)size, "run", 3) != NULL;
}

/* The program, ready to run; NULL: it is Python's. */
static emu_process *load(const struct request *request)
{
    char text[256], path[PATH_MAX];
    if ((request->sysroot != NULL && !is_directory(request->sysroot)) || (request->sysroot != NULL && request->root != NULL))
        return NULL;
    emu_process *process = emu_process_new(emu_a64_user(), request->sysroot, text, sizeof text);
    if (process == NULL || (request->root != NULL && emu_process_confine(process, request->root, text, sizeof text) != 0))
        return NULL;
    if (emu_process_search(request->sysroot, request->root, request->argv[0], variable(request, "PATH"), path) != 0)
        return NULL;
    if (request->argv0 != NULL)
        request->argv[0] = (char *)request->argv0;
    /* The translator has no other ISA, so for other programs, and for kvm's, this fails. */
    if (emu_process_start(process, path, request->argv, request->variables, text, sizeof text) != 0)
        return NULL;
    emu_process_engine(process, emu_uc_user());
    return process;
}

int main(int argc, char **argv)
{
    extern char **environ;
    char folder[PATH_MAX], unicorn[2 * PATH_MAX];
    struct request request = {0};
    ssize_t length = readlink("/proc/self/exe", folder, sizeof folder - 1);
    folder[length < 0 ? 0 : length] = 0;
    char *slash = strrchr(folder, '/');
    if (argc < 1 || slash == NULL)
        python("", argv + (argc > 0));
    *slash = 0;
    snprintf(unicorn, sizeof unicorn, "%s/" EMU_PACKAGES "/%s", folder, emu_uc_library_name());
    size_t count = 0;
    while (environ[count] != NULL)
        count++;
    request.variables = calloc(count + (size_t)argc + 1, sizeof *request.variables);
    request.variable_count = count;
    char **words = calloc((size_t)argc, sizeof *words);
    if (request.variables == NULL || words == NULL)
        python(folder, argv + 1);
    memcpy(request.variables, environ, count * sizeof *environ);
    memcpy(words, argv + 1, (size_t)argc * sizeof *words);
    if (!parse(&request, words) || configured(&request) || !is(emu_engine_name(request.engine), "translator") || access(unicorn, R_OK) != 0)
        python(folder, argv + 1);
    emu_uc_library_later(unicorn);
    if (request.perf_map)
        emu_a64_show(NULL, NULL, 1);
    emu_process *process = load(&request);
    if (process == NULL)
        python(folder, argv + 1);
    emu_process_become(process);
}
