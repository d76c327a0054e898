/*
 * execve: from a path to a program that is about to run.
 *
 * Everything that can fail without harm is done first: the file is found and
 * checked, its interpreter too, and the engine for its ISA is open.  Then the old
 * image goes; what fails after that kills the process, as in the kernel.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kin.h"
#include "load.h"
#include "own.h"
#include "path.h"
#include "syscall.h"

enum {
    SCRIPT_DEPTH = 5,  /* scripts whose interpreter is a script */
    SCRIPT_LINE = 256, /* BINPRM_BUF_SIZE: what of "#!" is looked at */
    ARGS_MAX = 1 << 20,
};

#define HOST_MACHINE 62 /* EM_X86_64 */

struct program {
    char path[PATH_MAX]; /* as the guest names it */
    char host[PATH_MAX];
    char name[16]; /* comm: of the script, where it is one */
    char **argv;         /* NULL-terminated */
    char *own[3 * (SCRIPT_DEPTH + 1)]; /* strings of argv that are ours to free */
    size_t owned;
    bool foreign_machine;
    emu_image image;
    emu_image interp; /* fd -1: none */
    bool has_interp;
};

__attribute__((format(printf, 4, 5))) static int fail(char *text, size_t size, int error, const char *format, ...)
{
    if (text != NULL && size > 0) {
        va_list args;
        va_start(args, format);
        vsnprintf(text, size, format, args);
        va_end(args);
    }
    return error;
}

static int open_found(const char *path, const char *host, emu_image *image, char *text, size_t size)
{
    struct stat status;
    if (stat(host, &status) != 0)
        return fail(text, size, -errno, "%s: %s", path, strerror(errno));
    if (S_ISDIR(status.st_mode))
        return fail(text, size, -EACCES, "%s: is a directory; name a program in it", path);
    if (!S_ISREG(status.st_mode))
        return fail(text, size, -EACCES, "%s: is not a regular file; name a program", path);
    if (faccessat(AT_FDCWD, host, X_OK, AT_EACCESS) != 0) {
        int error = -errno;
        const char *why = (status.st_mode & 0111) == 0 ? "it is not executable (chmod +x)"
                                                       : "not for this user, or its file system is mounted noexec";
        return fail(text, size, error, "%s: permission denied: %s", path, why);
    }
    image->fd = open(host, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (image->fd < 0)
        return fail(text, size, -errno, "%s: %s", path, strerror(errno));
    if (fstat(image->fd, &status) != 0)
        return fail(text, size, -errno, "%s: %s", path, strerror(errno));
    image->size = (uint64_t)status.st_size;
    return 0;
}

/* Opens an executable file.  0, the descriptor in image, or -errno. */
static int open_image(emu_process *process, const char *path, char host[PATH_MAX], emu_image *image, char *text,
                      size_t size)
{
    emu_path found;
    image->fd = -1;
    int error = emu_path_find(process, AT_FDCWD, path, 0, &found);
    if (error == 0 && found.own >= EMU_OWN_TEXT)
        error = -EACCES;
    if (error != 0)
        return fail(text, size, error, "%s: %s", path, strerror(-error));
    memcpy(host, found.host, PATH_MAX);
    error = open_found(path, host, image, text, size);
    emu_path_done(&found);
    return error;
}

static size_t count_strings(char *const *strings)
{
    size_t count = 0;
    while (strings[count] != NULL)
        count++;
    return count;
}

static char *keep(struct program *program, const char *string)
{
    char *copy = strdup(string);
    if (copy != NULL)
        program->own[program->owned++] = copy;
    return copy;
}

/* argv of a script: interpreter, its argument, the script's path, the rest of argv. */
static int script_argv(struct program *program, const char *interpreter, const char *argument)
{
    size_t count = count_strings(program->argv), n = 0;
    char **argv = calloc(count + 4, sizeof *argv);
    if (argv == NULL)
        return -ENOMEM;
    argv[n++] = keep(program, interpreter);
    if (argument != NULL)
        argv[n++] = keep(program, argument);
    argv[n++] = keep(program, program->path);
    for (size_t i = 0; i < n; i++)
        if (argv[i] == NULL) {
            free(argv);
            return -ENOMEM;
        }
    for (size_t i = 1; i < count; i++)
        argv[n++] = program->argv[i];
    free(program->argv);
    program->argv = argv;
    return 0;
}

/* The "#!" line in head.  0, or -ENOEXEC. */
static int script_line(char *head, size_t length, char **interpreter, char **argument)
{
    head[length] = 0;
    char *line = head + 2, *end = strpbrk(line, "\n");
    if (end == NULL)
        end = head + strlen(head);
    *end = 0;
    while (end > line && (end[-1] == ' ' || end[-1] == '\t'))
        *--end = 0;
    line += strspn(line, " \t");
    if (*line == 0)
        return -ENOEXEC;
    *interpreter = line;
    *argument = NULL;
    char *gap = strpbrk(line, " \t");
    if (gap != NULL) {
        *gap = 0;
        gap++;
        gap += strspn(gap, " \t");
        if (*gap != 0)
            *argument = gap;
    }
    return 0;
}

/* Follows scripts to the program that is to be loaded. */
static int find_program(emu_process *process, struct program *program, char *text, size_t size)
{
    for (int depth = 0;; depth++) {
        int error = open_image(process, program->path, program->host, &program->image, text, size);
        if (error != 0)
            return error;
        char head[SCRIPT_LINE];
        ssize_t got = pread(program->image.fd, head, sizeof head - 1, 0);
        if (got < 0)
            return fail(text, size, -errno, "%s: %s", program->path, strerror(errno));
        if (got < 2 || head[0] != '#' || head[1] != '!')
            return 0;
        close(program->image.fd);
        program->image.fd = -1;
        if (depth == SCRIPT_DEPTH)
            return fail(text, size, -ELOOP, "%s: too many scripts run by scripts; name the last interpreter itself", program->path);
        char *interpreter, *argument;
        if (script_line(head, (size_t)got, &interpreter, &argument) != 0)
            return fail(text, size, -ENOEXEC, "%s: its first line names no interpreter; write one behind #!", program->path);
        error = script_argv(program, interpreter, argument);
        if (error != 0)
            return fail(text, size, error, "%s: %s", program->path, strerror(-error));
        snprintf(program->path, sizeof program->path, "%s", program->argv[0]);
    }
}

/* Checks the ELF file and its interpreter. */
static int check_program(emu_process *process, struct program *program, const emu_abi **abi, char *text, size_t size)
{
    char why[160] = "";
    int error = emu_image_parse(&program->image, why, sizeof why);
    const emu_elf *elf = &program->image.elf;
    if (error != 0) {
        program->foreign_machine =
            elf->elf_class != 0 && elf->machine != 0 && emu_abi_of_machine(elf->machine, elf->elf_class) == NULL;
        return fail(text, size, error, "%s: not a program that can run: %s", program->path,
                    why[0] != 0 ? why : strerror(-error));
    }
    *abi = emu_abi_of_machine(elf->machine, elf->elf_class);
    if (*abi == NULL) {
        program->foreign_machine = true;
        return fail(text, size, -ENOEXEC,
                    "%s: a program for machine %u (%u-bit), which emu does not run; it runs aarch64, arm, riscv64, x86_64",
                    program->path, elf->machine, elf->elf_class == EMU_ELF_64 ? 64 : 32);
    }
    if (elf->interp_size == 0)
        return 0;
    char host[PATH_MAX];
    error = open_image(process, elf->interp, host, &program->interp, why, sizeof why);
    if (error != 0)
        return fail(text, size, error, "%s: its loader cannot be used: %s; give the root of its system with -L", program->path,
                    why);
    program->has_interp = true;
    why[0] = 0;
    error = emu_image_parse(&program->interp, why, sizeof why);
    if (error == 0 && (program->interp.elf.machine != elf->machine || program->interp.elf.elf_class != elf->elf_class)) {
        error = -ELIBBAD;
        snprintf(why, sizeof why, "it is for another machine (%u)", program->interp.elf.machine);
    }
    if (error != 0)
        return fail(text, size, -ELIBBAD, "%s: its loader %s cannot be used: %s; give the root of its system with -L",
                    program->path, elf->interp, why[0] != 0 ? why : strerror(-error));
    return 0;
}

bool emu_process_owns_fd(const emu_process *process, int fd)
{
    for (size_t i = 0; i < process->host_fd_count; i++)
        if (process->host_fds[i] == fd)
            return true;
    return emu_process_engine_fd(process, fd);
}

bool emu_process_engine_fd(const emu_process *process, int fd)
{
    int fds[EMU_ENGINE_FDS];
    size_t count = emu_process_engine_fds(process, fds);
    for (size_t i = 0; i < count; i++)
        if (fds[i] == fd)
            return true;
    return false;
}

size_t emu_process_engine_fds(const emu_process *process, int fds[EMU_ENGINE_FDS])
{
    const emu_thread *thread = process->threads != NULL ? process->threads : process->main;
    size_t count = 0;
    if (emu_root_fd(process) >= 0)
        fds[count++] = emu_root_fd(process);
    if (thread->engine != NULL && thread->ops->descriptors != NULL)
        count += thread->ops->descriptors(thread->engine, fds + count, EMU_ENGINE_FDS - count);
    return count;
}

void emu_process_close_on_exec(const emu_process *process)
{
    DIR *dir = opendir("/proc/self/fd");
    if (dir == NULL)
        return;
    int own = dirfd(dir);
    const struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        int fd = atoi(entry->d_name);
        if (entry->d_name[0] == '.' || fd == own || emu_process_owns_fd(process, fd))
            continue;
        int flags = fcntl(fd, F_GETFD);
        if (flags >= 0 && (flags & FD_CLOEXEC))
            close(fd);
    }
    closedir(dir);
}

struct room {
    emu_umem umem;
    bool moved; /* umem is another than the process's */
    const emu_engine_ops *ops;
    emu_engine *engine;
};

/* An address space for an engine: the process's where it will do. */
static int make_space(const emu_process *process, const emu_abi *abi, const emu_engine_ops *ops, struct room *room)
{
    bool low = ops->low && abi->bits > 32;
    room->umem = process->umem;
    room->moved = false;
    if (process->abi != NULL && process->abi->bits == abi->bits && process->umem.low == low)
        return 0;
    /* Under a limit on virtual memory (ulimit -v) a smaller space must do. */
    unsigned bits = abi->bits;
    int error = umem_init(&room->umem, bits, low);
    while (error == -ENOMEM && bits > 32)
        error = umem_init(&room->umem, --bits, low);
    room->moved = error == 0;
    return error;
}

/* The address space and engine for the new ABI, while the old ones stand. */
static int make_room(emu_thread *thread, const emu_abi *abi, struct room *room, char *text, size_t size)
{
    emu_process *process = thread->process;
    char why[160] = "", first[160] = "";
    room->umem = process->umem;
    room->moved = false;
    room->ops = thread->ops;
    room->engine = thread->engine;
    if (process->abi == abi && thread->engine != NULL)
        return 0;
    for (size_t i = 0; i < sizeof process->engines / sizeof *process->engines && process->engines[i] != NULL; i++) {
        room->ops = process->engines[i];
        if (room->ops->only != 0 && room->ops->only != abi->isa)
            continue;
        int error = make_space(process, abi, room->ops, room);
        if (error != 0)
            return fail(text, size, error,
                        "cannot reserve 32 bits of address space: %s; raise the limit on virtual memory (ulimit -v unlimited)",
                        strerror(-error));
        emu_user_memory memory = emu_process_memory(process, &room->umem);
        room->engine = room->ops->open(abi->isa, &memory, why, sizeof why);
        if (room->engine != NULL)
            return 0;
        if (room->moved)
            umem_free(&room->umem);
        if (first[0] == 0)
            memcpy(first, why, sizeof first);
    }
    return fail(text, size, -ENOEXEC, "the engine %s cannot run %s: %s", process->engines[0]->name, abi->name, first);
}

static void first_state(emu_thread *thread, uint64_t entry, uint64_t sp)
{
    const emu_abi *abi = thread->process->abi;
    emu_cpu_state state;
    memset(&state, 0, sizeof state);
    state.pc = entry;
    state.r[abi->sp] = sp;
    switch (abi->isa) {
    case EMU_ISA_ARM:
        state.flags = 0x10 | (entry & 1 ? 0x20 : 0);
        state.pc = entry & ~UINT64_C(1);
        break;
    case EMU_ISA_X86_64: {
        const uint16_t fcw = 0x37f;
        state.flags = 0x202;
        state.fpcr = 0x1f80; /* MXCSR */
        memcpy(state.x87, &fcw, sizeof fcw);
        break;
    }
    default:
        break;
    }
    thread->ops->load(thread->engine, &state);
}

/* The new image: no way back.  0 or -errno. */
static int load_program(emu_thread *thread, struct program *program, char *const *envp)
{
    emu_process *process = thread->process;
    emu_umem *umem = &process->umem;
    const emu_elf *elf = &program->image.elf;
    char guest[PATH_MAX], link[40], real[PATH_MAX];

    snprintf(link, sizeof link, "/proc/self/fd/%d", program->image.fd);
    ssize_t length = readlink(link, real, sizeof real - 1);
    real[length < 0 ? 0 : length] = 0;
    /* In a chroot without /proc. */
    if (length <= 0 && realpath(program->host, real) == NULL)
        return -errno;
    emu_path_guest(process, real, guest);
    free(process->exe);
    free(process->exe_guest);
    process->exe = strdup(real);
    process->exe_guest = strdup(guest);
    if (process->exe == NULL || process->exe_guest == NULL)
        return -ENOMEM;
    struct stat status;
    if (fstat(program->image.fd, &status) != 0)
        return -errno;
    process->exe_dev = status.st_dev;
    process->exe_ino = status.st_ino;

    process->exec_stack = elf->exec_stack == 1;
    int error = emu_layout(process, process->exec_stack);
    if (error != 0)
        return error;
    emu_start start = {.argv = program->argv, .envp = envp, .execfn = program->path, .elf = elf};
    uint64_t at = process->abi->word == 4 ? 0x400000 : umem->size / 3 * 2 & ~UINT64_C(0xffff);
    error = emu_image_map(umem, &program->image, at, guest, &start.program);
    if (error != 0)
        return error;
    umem->brk_start = umem->brk_end = start.program.end;
    umem->brk_limit = umem->mmap_top;
    if (program->has_interp) {
        error = emu_image_map(umem, &program->interp, 0, elf->interp, &start.interp);
        if (error != 0)
            return error;
    }
    thread->ops->hwcap(thread->engine, start.hwcap);
    start.signal_stack = emu_signal_smallest(thread);
    uint64_t sp;
    error = emu_stack_write(process, &start, &sp);
    if (error != 0)
        return error;
    first_state(thread, program->has_interp ? start.interp.entry : start.program.entry, sp);
    return 0;
}

/*
 * For those who look at /proc/<pid> from outside, children and parents of the
 * guest among them: comm, cmdline, environ and auxv are the guest's.  Only once
 * the process is the guest's alone: another thread might move the break meanwhile.
 */
void emu_process_show(const emu_process *process)
{
    prctl(PR_SET_NAME, process->comm);
#ifdef PR_SET_MM_MAP
    enum { CODE = 26, STACK = 28, DATA = 45, BREAK = 47, FIELDS = 52, ENTRIES = 40 };
    unsigned long long field[FIELDS + 1] = {0}, auxv[ENTRIES];
    char text[1024], *save = NULL;
    FILE *file = fopen("/proc/self/stat", "re");
    bool got = file != NULL && fgets(text, sizeof text, file) != NULL;
    char *rest = got ? strrchr(text, ')') : NULL;
    if (file != NULL)
        fclose(file);
    if (rest == NULL)
        return;
    unsigned number = 3;
    for (char *word = strtok_r(rest + 1, " ", &save); word != NULL && number <= FIELDS; word = strtok_r(NULL, " ", &save))
        field[number++] = strtoull(word, NULL, 10);
    const uint64_t base = (uint64_t)(uintptr_t)process->umem.base;
    struct prctl_mm_map map = {
        .start_code = field[CODE],
        .end_code = field[CODE + 1],
        .start_data = field[DATA],
        .end_data = field[DATA + 1],
        .start_brk = field[BREAK],
        .brk = (uint64_t)(uintptr_t)sbrk(0),
        .start_stack = field[STACK],
        .arg_start = base + process->arg_start,
        .arg_end = base + process->arg_end,
        .env_start = base + process->env_start,
        .env_end = base + process->env_end,
        .exe_fd = (uint32_t)-1,
    };
    if (process->abi->word == 8 && process->auxv_words <= ENTRIES) {
        for (size_t i = 0; i < process->auxv_words; i++)
            auxv[i] = process->auxv[i];
        map.auxv = (void *)auxv;
        map.auxv_size = (uint32_t)(process->auxv_words * sizeof *auxv);
    }
    /* A kernel without CONFIG_CHECKPOINT_RESTORE shows the emulator's. */
    (void)prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map, 0);
#endif
}

static void release_program(struct program *program)
{
    if (program->image.fd >= 0)
        close(program->image.fd);
    if (program->has_interp || program->interp.fd >= 0)
        close(program->interp.fd);
    for (size_t i = 0; i < program->owned; i++)
        free(program->own[i]);
    free(program->argv);
    free(program);
}

/* The host's own kernel runs it: a native program, or one for a registered interpreter. */
static int run_native(emu_thread *thread, const struct program *program, char *const *envp)
{
    emu_signal_native(thread);
    limits_native();
    emu_vfork_release(thread->process);
    emu_watch_native(thread);
    emu_kin_leave();
    execve(program->host, program->argv, envp);
    int error = -errno;
    emu_kin_join(thread->process, getpid(), 0);
    return error;
}

/* Those that a program without privileges of its own keeps. */
static uint64_t ambient(void)
{
    uint64_t set = 0;
    for (int cap = 0; cap < 64; cap++)
        if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, cap, 0, 0) == 1)
            set |= 1ull << cap;
    return set;
}

/*
 * What the host's execve would do: a program has the capabilities of its user
 * alone (capabilities(7)), whatever the one before had kept, and may be looked
 * at again by that user's other processes.  What was given up is not regained.
 */
static void take_rights(void)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    uid_t user = getuid(), effective = geteuid();
    if (user == effective && getgid() == getegid())
        prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
    prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0);
    if (syscall(SYS_capget, &header, data) != 0)
        return;
    bool root = (user == 0 || effective == 0) && !(prctl(PR_GET_SECUREBITS, 0, 0, 0, 0) & SECBIT_NOROOT);
    uint64_t had = data[0].permitted | (uint64_t)data[1].permitted << 32;
    bool all = root && effective == 0;
    uint64_t kept = all || had == 0 ? 0 : had & ambient();
    uint64_t permitted = root ? had : kept, in_use = all ? had : kept;
    if (permitted == had && in_use == (data[0].effective | (uint64_t)data[1].effective << 32))
        return;
    for (int i = 0; i < 2; i++) {
        data[i].permitted = (uint32_t)(permitted >> 32 * i);
        data[i].effective = (uint32_t)(in_use >> 32 * i);
    }
    syscall(SYS_capset, &header, data);
}

static int exec_program(emu_thread *thread, struct program *program, char *const *envp, char *text, size_t size)
{
    emu_process *process = thread->process;
    const emu_abi *abi = NULL;
    int error = find_program(process, program, text, size);
    if (error != 0)
        return error;
    bool running = process->abi != NULL;
    /* A program that the host runs by itself would see the host's files. */
    bool native = running && process->root == NULL;
    error = check_program(process, program, &abi, text, size);
    if (native && program->foreign_machine)
        return run_native(thread, program, envp);
    if (native && program->image.elf.machine == HOST_MACHINE && process->abi->elf_machine != HOST_MACHINE)
        return run_native(thread, program, envp);
    if (error != 0)
        return error;
    if (!emu_stack_fits(program->argv, envp))
        return fail(text, size, -E2BIG, "%s: the arguments and the environment are too long", program->path);
    struct room room;
    error = make_room(thread, abi, &room, text, size);
    if (error != 0)
        return error;

    error = emu_thread_alone(thread);
    if (error != 0) {
        if (room.engine != thread->engine)
            room.ops->close(room.engine);
        if (room.moved)
            umem_free(&room.umem);
        return error;
    }
    if (running)
        emu_thread_release(thread);
    umem_clear(&process->umem);
    if (room.engine != thread->engine) {
        emu_threads_forget_idle(process, thread->ops);
        if (thread->engine != NULL)
            thread->ops->close(thread->engine);
        thread->ops = room.ops;
        thread->engine = room.engine;
    }
    if (room.moved) {
        if (running)
            memcpy(room.umem.most, process->umem.most, sizeof room.umem.most);
        umem_free(&process->umem);
        process->umem = room.umem;
        process->umem.opaque = process;
        process->umem.before = emu_threads_before_change;
        process->umem.after = emu_threads_after_change;
        process->umem.mapped = process->trace != NULL ? emu_trace_mapped : NULL;
    }
    process->abi = abi;
    error = load_program(thread, program, envp);
    if (error != 0) {
        fail(text, size, error, "%s: cannot be loaded: %s", program->path, strerror(-error));
        emu_process_killed(process, SIGKILL, false);
        return running ? EMU_KEEP_REGISTERS : error;
    }
    memcpy(process->comm, program->name, sizeof process->comm);
    if (running) {
        emu_process_show(process);
        emu_kin_program(process);
        emu_process_close_on_exec(process);
        emu_signal_exec(thread);
        take_rights();
        emu_debug_executed(thread);
        if (process->trace != NULL)
            emu_trace_executed(thread);
    }
    emu_vfork_release(process);
    return 0;
}

int emu_exec(emu_thread *thread, const char *path, char *const *argv, char *const *envp, char *text, size_t size)
{
    struct program *program = calloc(1, sizeof *program);
    if (program == NULL)
        return fail(text, size, -ENOMEM, "%s: no memory", path);
    program->image.fd = program->interp.fd = -1;
    size_t count = count_strings(argv);
    program->argv = calloc(count + 2, sizeof *program->argv);
    int error = 0;
    if (program->argv == NULL || strlen(path) >= sizeof program->path)
        error = fail(text, size, program->argv == NULL ? -ENOMEM : -ENAMETOOLONG, "%s: too long", path);
    if (error == 0) {
        memcpy(program->argv, argv, count * sizeof *argv);
        strcpy(program->path, path);
        const char *base = strrchr(path, '/');
        base = base != NULL ? base + 1 : path;
        memcpy(program->name, base, strnlen(base, sizeof program->name - 1));
        error = exec_program(thread, program, envp, text, size);
    }
    release_program(program);
    return error;
}

/* ---- the system calls --------------------------------------------------------------------- */

static void free_strings(char **strings)
{
    for (char **p = strings; p != NULL && *p != NULL; p++)
        free(*p);
    free(strings);
}

/* A guest array of strings as a host copy.  0 or -errno. */
static int read_strings(emu_process *process, uint64_t addr, char ***out)
{
    enum { MOST = 131072 };
    size_t count = 0, room = 16, total = 0;
    char **strings = calloc(room, sizeof *strings);
    char *buffer = malloc(MOST);
    int error = strings == NULL || buffer == NULL ? -ENOMEM : 0;
    while (error == 0 && addr != 0) {
        uint64_t at;
        error = umem_word(&process->umem, addr, process->abi->word, &at);
        if (error != 0 || at == 0)
            break;
        int64_t length = umem_string(&process->umem, at, buffer, MOST);
        total += length < 0 ? 0 : (size_t)length + 1;
        if (length < 0)
            error = length == -ENAMETOOLONG ? -E2BIG : (int)length;
        else if (total > (size_t)ARGS_MAX * 8)
            error = -E2BIG;
        if (error == 0 && count + 2 > room) {
            char **more = realloc(strings, room * 2 * sizeof *strings);
            if (more == NULL)
                error = -ENOMEM;
            else
                strings = more;
            room *= 2;
        }
        if (error == 0) {
            strings[count] = strdup(buffer);
            if (strings[count] == NULL)
                error = -ENOMEM;
            else
                strings[++count] = NULL;
        }
        addr += process->abi->word;
    }
    free(buffer);
    if (error != 0) {
        free_strings(strings);
        strings = NULL;
    }
    *out = strings;
    return error;
}

static int64_t do_execve(emu_thread *thread, const char *path, uint64_t argv_at, uint64_t envp_at)
{
    char **argv = NULL, **envp = NULL;
    int error = read_strings(thread->process, argv_at, &argv);
    if (error == 0)
        error = read_strings(thread->process, envp_at, &envp);
    if (error == 0 && argv[0] == NULL) {
        argv[0] = strdup(""); /* as Linux since 5.18 */
        argv[1] = NULL;
    }
    if (error == 0)
        error = emu_exec(thread, path, argv, envp, NULL, 0);
    free_strings(argv);
    free_strings(envp);
    return error == 0 ? EMU_KEEP_REGISTERS : error;
}

int64_t emu_sys_execve(emu_thread *thread, const uint64_t *args)
{
    char path[PATH_MAX];
    int64_t length = umem_string(&thread->process->umem, args[0], path, sizeof path);
    if (length <= 0)
        return length < 0 ? length : -ENOENT;
    return do_execve(thread, path, args[1], args[2]);
}

int64_t emu_sys_execveat(emu_thread *thread, const uint64_t *args)
{
    char path[PATH_MAX], full[PATH_MAX + 40];
    int fd = (int)(int32_t)args[0], flags = (int)(int32_t)args[4];
    int64_t length = umem_string(&thread->process->umem, args[1], path, sizeof path);
    if (length < 0)
        return length;
    if ((flags & ~(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW)) != 0)
        return -EINVAL;
    if (length == 0 && !(flags & AT_EMPTY_PATH))
        return -ENOENT;
    if (path[0] == '/' || (fd == AT_FDCWD && length > 0))
        snprintf(full, sizeof full, "%s", path);
    else if (fd == AT_FDCWD)
        return -EACCES; /* the current directory */
    else
        snprintf(full, sizeof full, length > 0 ? "/proc/self/fd/%d/%s" : "/proc/self/fd/%d", fd, path);
    if (strlen(full) >= PATH_MAX)
        return -ENAMETOOLONG;
    struct stat status;
    emu_path found;
    if ((flags & AT_SYMLINK_NOFOLLOW) && length > 0 &&
        emu_path_find(thread->process, AT_FDCWD, full, EMU_PATH_NOFOLLOW, &found) == 0) {
        bool link = fstatat(found.dir, found.host, &status, found.at_flags) == 0 && S_ISLNK(status.st_mode);
        emu_path_done(&found);
        if (link)
            return -ELOOP;
    }
    return do_execve(thread, full, args[2], args[3]);
}
