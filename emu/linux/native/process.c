/* Processes: start and end, clone in its forms, thread pointers. */
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <dirent.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core.h"
#include "kin.h"
#include "path.h"

#ifndef CLONE_CLEAR_SIGHAND
#define CLONE_CLEAR_SIGHAND UINT64_C(0x100000000)
#endif

_Thread_local emu_thread *emu_current;

/* ---- life -------------------------------------------------------------------------- */

void emu_process_keep_fds(emu_process *process)
{
    DIR *dir = opendir("/proc/self/fd");
    if (dir == NULL)
        return;
    size_t room = 0;
    const struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        int fd = atoi(entry->d_name);
        int flags = entry->d_name[0] == '.' || fd == dirfd(dir) ? -1 : fcntl(fd, F_GETFD);
        if (flags < 0 || !(flags & FD_CLOEXEC))
            continue;
        if (process->host_fd_count == room) {
            room = room == 0 ? 16 : room * 2;
            int *fds = realloc(process->host_fds, room * sizeof *fds);
            if (fds == NULL)
                break;
            process->host_fds = fds;
        }
        process->host_fds[process->host_fd_count++] = fd;
    }
    closedir(dir);
}

emu_process *emu_process_new(const emu_engine_ops *ops, const char *sysroot, char *text, size_t size)
{
    emu_process *process = calloc(1, sizeof *process);
    emu_thread *thread = calloc(1, sizeof *thread);
    if (process == NULL || thread == NULL) {
        free(process);
        free(thread);
        snprintf(text, size, "no memory");
        return NULL;
    }
    pthread_mutex_init(&process->lock, NULL);
    pthread_cond_init(&process->changed, NULL);
    process->engines[0] = thread->ops = ops;
    process->main = process->threads = thread;
    thread->process = process;
    if (sysroot != NULL) {
        process->sysroot = realpath(sysroot, NULL);
        if (process->sysroot == NULL) {
            snprintf(text, size, "sysroot %s: %s", sysroot, strerror(errno));
            emu_process_free(process);
            return NULL;
        }
        if (strcmp(process->sysroot, "/") == 0)
            process->sysroot[0] = 0;
    }
    return process;
}

int emu_process_confine(emu_process *process, const char *directory, char *text, size_t size)
{
    int error = emu_root_open(process, directory);
    if (error == -ENOSYS)
        snprintf(text, size, "--root needs Linux 5.6 (openat2), and this is older; use -L, which does not confine");
    else if (error != 0)
        snprintf(text, size, "root %s: %s; give the directory that the guest shall see as /", directory,
                 strerror(-error));
    return error;
}

int emu_process_peek(const char *sysroot, const char *root, const char *path)
{
    emu_process process;
    emu_thread thread;
    emu_path found;
    struct stat status;
    memset(&process, 0, sizeof process);
    memset(&thread, 0, sizeof thread);
    process.main = process.threads = &thread;
    thread.process = &process;
    int fd = -ENOENT, error = root != NULL ? emu_root_open(&process, root) : 0;
    char *real = sysroot != NULL ? realpath(sysroot, NULL) : NULL;
    process.sysroot = real;
    if (error == 0)
        error = emu_path_find(&process, AT_FDCWD, path, 0, &found);
    if (error == 0) {
        /* To open a FIFO would be to wait for its other end. */
        if (fstatat(found.dir, found.host, &status, 0) == 0 && S_ISREG(status.st_mode))
            fd = openat(found.dir, found.host, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        if (fd == -1)
            fd = -errno;
        emu_path_done(&found);
    }
    emu_root_close(&process);
    free(real);
    return error != 0 ? error : fd;
}

static bool executable(const char *sysroot, const char *root, const char *path)
{
    char link[40];
    int fd = emu_process_peek(sysroot, root, path);
    if (fd < 0)
        return false;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    bool may = access(link, X_OK) == 0;
    close(fd);
    return may;
}

int emu_process_search(const char *sysroot, const char *root, const char *program, const char *path, char *out)
{
    size_t length = strlen(program);
    if (length >= PATH_MAX)
        return -ENAMETOOLONG;
    memcpy(out, program, length + 1);
    if (length == 0 || strchr(program, '/') != NULL)
        return 0;
    int fd = emu_process_peek(sysroot, root, program);
    if (fd >= 0)
        close(fd);
    if (fd >= 0 || (fd != -ENOENT && fd != -ENOTDIR))
        return 0;
    for (; *path != 0; path += strcspn(path, ":"), path += *path == ':') {
        char candidate[PATH_MAX];
        int size = snprintf(candidate, sizeof candidate, "%.*s/%s", (int)strcspn(path, ":"), path, program);
        if (*path != '/' || size >= (int)sizeof candidate || !executable(sysroot, root, candidate))
            continue;
        memcpy(out, candidate, (size_t)size + 1);
        return 0;
    }
    return 0;
}

void emu_process_engine(emu_process *process, const emu_engine_ops *ops)
{
    for (size_t i = 0; i < sizeof process->engines / sizeof *process->engines; i++)
        if (process->engines[i] == NULL) {
            process->engines[i] = ops;
            return;
        }
}

int emu_process_start(emu_process *process, const char *path, char *const *argv, char *const *envp, char *text,
                      size_t size)
{
    return emu_exec(process->main, path, argv, envp, text, size);
}

void emu_process_free(emu_process *process)
{
    if (process == NULL)
        return;
    emu_signal_free(process);
    emu_threads_forget_idle(process, process->main->ops);
    free(process->idle);
    if (process->main->engine != NULL)
        process->main->ops->close(process->main->engine);
    process->umem.before = process->umem.after = NULL;
    umem_free(&process->umem);
    free(process->sysroot);
    emu_root_close(process);
    free(process->exe);
    free(process->exe_guest);
    free(process->host_fds);
    free(process->main);
    free(process);
}

static void end_with(emu_process *process, int status)
{
    const struct timespec moment = {0, 1000 * 1000};
    pthread_mutex_lock(&process->lock);
    /* It has ended already, by the signal of whose core it is. */
    while (process->dumper != NULL && process->dumper != emu_current && !process->ended) {
        pthread_mutex_unlock(&process->lock);
        nanosleep(&moment, NULL);
        pthread_mutex_lock(&process->lock);
    }
    if (!process->ended) {
        process->status = status;
        process->ended = true;
    }
    pthread_mutex_unlock(&process->lock);
    emu_threads_nudge(process, emu_current);
}

void emu_process_exit(emu_process *process, int code)
{
    end_with(process, (code & 0xff) << 8);
}

void emu_process_killed(emu_process *process, int sig, bool core)
{
    end_with(process, (sig & 0x7f) | (core ? WCOREFLAG : 0));
}

void emu_process_die(int status)
{
    emu_kin_end();
    if (WIFSIGNALED(status)) {
        int sig = WTERMSIG(status);
        if (WCOREDUMP(status))
            emu_core_die(sig);
        struct rlimit none = {0, 0}; /* a core of the emulator would say nothing about the guest */
        setrlimit(RLIMIT_CORE, &none);
        struct sigaction action;
        memset(&action, 0, sizeof action);
        action.sa_handler = SIG_DFL;
        sigaction(sig, &action, NULL);
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, sig);
        pthread_sigmask(SIG_UNBLOCK, &set, NULL);
        kill(getpid(), sig);
        _exit(128 + sig); /* a signal whose default is not to kill */
    }
    _exit(WEXITSTATUS(status));
}

/* ---- fork ---------------------------------------------------------------------------- */

enum { VFORK_WINDOW = 65536 };

/*
 * vfork without shared memory.  The parent waits until its child has a program of
 * its own or has ended.  A child that ends without exec may have left a word for
 * its parent (posix_spawn's error number does so on the parent's stack), so the
 * stack above the parent's sp comes back with it.
 */
struct emu_vfork {
    int32_t done; /* futex */
    int32_t copied;
    uint64_t sp;
    uint64_t size;
    uint8_t stack[VFORK_WINDOW];
};

static long futex(int32_t *word, int operation, int32_t value, const struct timespec *timeout)
{
    return syscall(SYS_futex, word, operation, value, timeout, NULL, 0);
}

static void vfork_done(emu_process *process, bool with_stack)
{
    struct emu_vfork *vfork = process->vfork;
    if (vfork == NULL)
        return;
    if (with_stack && umem_read(&process->umem, vfork->stack, vfork->sp, vfork->size) == 0)
        vfork->copied = 1;
    __atomic_store_n(&vfork->done, 1, __ATOMIC_RELEASE);
    futex(&vfork->done, FUTEX_WAKE, 1, NULL);
    munmap(vfork, sizeof *vfork);
    process->vfork = NULL;
}

void emu_vfork_release(emu_process *process)
{
    vfork_done(process, false);
}

/* Of the caller alone: the other threads go on, as in the kernel. */
static void vfork_wait(emu_thread *thread, struct emu_vfork *vfork, pid_t child)
{
    emu_process *process = thread->process;
    const struct timespec slice = {0, 20 * 1000 * 1000};
    emu_turn_give(thread);
    while (!__atomic_load_n(&vfork->done, __ATOMIC_ACQUIRE) && !process->ended && !thread->leaving) {
        futex(&vfork->done, FUTEX_WAIT, 0, &slice);
        siginfo_t info;
        info.si_pid = 0;
        /* A child that was killed wakes nobody. */
        if (waitid(P_PID, (id_t)child, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid != 0)
            break;
    }
    emu_turn_take(thread);
    if (__atomic_load_n(&vfork->done, __ATOMIC_ACQUIRE) && vfork->copied)
        (void)umem_write(&process->umem, vfork->sp, vfork->stack, vfork->size);
}

static struct emu_vfork *vfork_new(emu_thread *thread)
{
    struct emu_vfork *vfork = mmap(NULL, sizeof *vfork, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (vfork == MAP_FAILED)
        return NULL;
    emu_cpu_state state;
    thread->ops->save(thread->engine, &state);
    vfork->sp = state.r[thread->process->abi->sp];
    umem_hold(&thread->process->umem);
    const emu_area *area = umem_find(&thread->process->umem, vfork->sp);
    uint64_t room = area == NULL ? 0 : area->end - vfork->sp;
    umem_release(&thread->process->umem);
    vfork->size = room < VFORK_WINDOW ? room : VFORK_WINDOW;
    return vfork;
}

struct clone_request {
    uint64_t flags;
    uint64_t stack; /* the new sp; 0: the parent's */
    uint64_t parent_tid;
    uint64_t child_tid;
    uint64_t tls;
    uint64_t pidfd; /* where its number goes */
    int exit_signal;
};

#define NAMESPACES                                                                                            \
    (CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWCGROUP)

static void child_state(const emu_abi *abi, const struct clone_request *request, emu_cpu_state *state)
{
    if (request->stack != 0)
        state->r[abi->sp] = request->stack;
    if (request->flags & CLONE_SETTLS) {
        if (abi->isa == EMU_ISA_RISCV64)
            state->r[4] = request->tls;
        else
            state->tls[0] = request->tls;
    }
}

/* The engine needs descriptors of its own, whatever the guest has left of its number. */
static int engine_forked(emu_thread *thread, char *text, size_t size)
{
    struct rlimit guests, all;
    if (thread->ops->forked == NULL)
        return 0;
    bool limited = getrlimit(RLIMIT_NOFILE, &guests) == 0 && guests.rlim_cur < guests.rlim_max;
    all = (struct rlimit){guests.rlim_max, guests.rlim_max};
    if (limited)
        setrlimit(RLIMIT_NOFILE, &all);
    int error = thread->ops->forked(thread->engine, text, size);
    if (limited)
        setrlimit(RLIMIT_NOFILE, &guests);
    return error;
}

static void child_start(emu_thread *thread, const struct clone_request *request)
{
    emu_process *process = thread->process;
    process->forked = true;
    thread->tid = (pid_t)syscall(SYS_gettid);
    thread->clear_child_tid = thread->robust_list = 0;
    if (!(request->flags & CLONE_NEWPID)) /* else its number is another one here */
        emu_kin_join(process, getpid(), 0);
    char text[160] = "";
    if (engine_forked(thread, text, sizeof text) != 0) {
        fprintf(stderr, "emu: a forked process cannot go on: %s\n", text);
        emu_process_die(SIGKILL);
    }
    emu_signal_forked(thread);
    if (request->flags & CLONE_CHILD_CLEARTID)
        thread->clear_child_tid = request->child_tid;
    if (request->flags & CLONE_CHILD_SETTID) {
        int32_t tid = (int32_t)thread->tid;
        (void)umem_write(&process->umem, request->child_tid, &tid, sizeof tid);
    }
    if (request->stack == 0 && !(request->flags & CLONE_SETTLS))
        return;
    emu_cpu_state state;
    thread->ops->save(thread->engine, &state);
    child_state(process->abi, request, &state);
    thread->ops->load(thread->engine, &state);
}

static int64_t new_thread(emu_thread *thread, const struct clone_request *request)
{
    const uint64_t refused = CLONE_NEWUSER | CLONE_NEWPID | CLONE_PIDFD | CLONE_CLEAR_SIGHAND;
    const uint64_t together = CLONE_VM | CLONE_SIGHAND | CLONE_THREAD;
    /* Actions that are shared by processes are unknown here: only threads share them. */
    if ((request->flags & together) != together || (request->flags & refused) != 0 ||
        ((request->flags & CLONE_FS) && (request->flags & CLONE_NEWNS)))
        return -EINVAL;
    emu_cpu_state state;
    thread->ops->save(thread->engine, &state);
    child_state(thread->process->abi, request, &state);
    state.r[thread->process->abi->result] = 0;
    const uint64_t tid_at[2] = {request->flags & CLONE_PARENT_SETTID ? request->parent_tid : 0,
                                request->flags & CLONE_CHILD_SETTID ? request->child_tid : 0};
    return emu_thread_new(thread, &state, request->flags, tid_at,
                          request->flags & CLONE_CHILD_CLEARTID ? request->child_tid : 0);
}

static int64_t do_clone(emu_thread *thread, const struct clone_request *request)
{
    emu_process *process = thread->process;
    const uint64_t known = CLONE_VM | CLONE_VFORK | CLONE_FS | CLONE_FILES | CLONE_SETTLS | CLONE_PARENT_SETTID |
                           CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | CLONE_PIDFD | CLONE_PARENT | CLONE_UNTRACED |
                           CLONE_PTRACE | CLONE_IO | CLONE_DETACHED | CLONE_SYSVSEM | CLONE_CLEAR_SIGHAND | NAMESPACES;
    if (request->flags & (CLONE_THREAD | CLONE_SIGHAND))
        return new_thread(thread, request);
    if ((request->flags & ~known) != 0 || request->exit_signal < 0 || request->exit_signal > 64)
        return -EINVAL;
    /* A child that shares memory is only known as vfork, where the parent stands still meanwhile. */
    if ((request->flags & CLONE_VM) && !(request->flags & CLONE_VFORK))
        return -EINVAL;
    /* Which numbers the lookups of another process use is not known in ours. */
    if ((request->flags & CLONE_FILES) && process->root != NULL)
        return -EINVAL;

    struct emu_vfork *vfork = NULL;
    if (request->flags & CLONE_VFORK) {
        vfork = vfork_new(thread);
        if (vfork == NULL)
            return -ENOMEM;
    }
    uint64_t host = request->flags & (NAMESPACES | CLONE_FS | CLONE_FILES | CLONE_PARENT | CLONE_PIDFD | CLONE_UNTRACED |
                                      CLONE_PTRACE | CLONE_IO | CLONE_SYSVSEM);
    int pidfd = -1;
    const uint64_t began = emu_kin_now();
    emu_signal_fork_begin(thread);
    emu_thread_fork_begin(thread);
    emu_path_fork_begin();
    /* An engine's own locks come behind all the others'. */
    if (thread->ops->forking != NULL)
        thread->ops->forking(thread->engine);
    /* The C library's fork where it does: it settles the locks of malloc. */
    long child = host == 0 && request->exit_signal == SIGCHLD
                     ? fork()
                     : syscall(SYS_clone, host | (uint64_t)request->exit_signal, 0, &pidfd, NULL, 0);
    int error = child < 0 ? errno : 0;
    emu_path_fork_end(child == 0);
    emu_thread_fork_end(thread, child == 0);
    if (child == 0) {
        if (process->vfork != NULL) /* of our own parent, not ours to end */
            munmap(process->vfork, sizeof *process->vfork);
        process->vfork = vfork;
        child_start(thread, request);
        emu_debug_forked(thread);
        if (request->flags & CLONE_CLEAR_SIGHAND)
            emu_signal_exec(thread);
    }
    if (child != 0 && thread->ops->stayed != NULL)
        thread->ops->stayed(thread->engine);
    if (child > 0)
        emu_kin_join(process, (pid_t)child, began);
    emu_signal_fork_end(thread);
    if (child == 0)
        return 0;
    if (child > 0) {
        int32_t tid = (int32_t)child;
        if (request->flags & CLONE_PARENT_SETTID)
            (void)umem_write(&process->umem, request->parent_tid, &tid, sizeof tid);
        if (request->flags & CLONE_PIDFD) {
            int32_t fd = pidfd;
            (void)umem_write(&process->umem, request->pidfd, &fd, sizeof fd);
        }
        if (vfork != NULL)
            vfork_wait(thread, vfork, (pid_t)child);
    }
    if (vfork != NULL)
        munmap(vfork, sizeof *vfork);
    return child < 0 ? -error : child;
}

int64_t emu_sys_clone(emu_thread *thread, const uint64_t *args)
{
    /* flags, stack, parent_tid, then: x86-64 child_tid, tls; the others tls, child_tid. */
    bool x86 = thread->process->abi->isa == EMU_ISA_X86_64;
    struct clone_request request = {.flags = (uint32_t)args[0] & ~(uint32_t)CSIGNAL,
                                    .stack = args[1],
                                    .parent_tid = args[2],
                                    .child_tid = x86 ? args[3] : args[4],
                                    .tls = x86 ? args[4] : args[3],
                                    .pidfd = args[2],
                                    .exit_signal = (int)(args[0] & CSIGNAL)};
    if ((request.flags & CLONE_PIDFD) && (request.flags & CLONE_PARENT_SETTID))
        return -EINVAL;
    return do_clone(thread, &request);
}

int64_t emu_sys_clone3(emu_thread *thread, const uint64_t *args)
{
    /* struct clone_args is the same for every ABI: 64-bit words. */
    struct {
        uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
    } clone_args = {0};
    if (args[1] < 64)
        return -EINVAL;
    if (args[1] > EMU_PAGE)
        return -E2BIG;
    size_t size = args[1] < sizeof clone_args ? (size_t)args[1] : sizeof clone_args;
    if (umem_read(&thread->process->umem, &clone_args, args[0], size) != 0)
        return -EFAULT;
    for (uint64_t i = size; i < args[1]; i++) {
        uint8_t rest;
        if (umem_read(&thread->process->umem, &rest, args[0] + i, 1) != 0)
            return -EFAULT;
        if (rest != 0)
            return -E2BIG;
    }
    if ((clone_args.flags & (CSIGNAL | CLONE_DETACHED)) != 0 || clone_args.exit_signal > 64 ||
        (clone_args.stack == 0) != (clone_args.stack_size == 0))
        return -EINVAL;
    if (clone_args.set_tid_size != 0)
        return -EPERM;
    struct clone_request request = {.flags = clone_args.flags,
                                    .stack = clone_args.stack + clone_args.stack_size,
                                    .parent_tid = clone_args.parent_tid,
                                    .child_tid = clone_args.child_tid,
                                    .tls = clone_args.tls,
                                    .pidfd = clone_args.pidfd,
                                    .exit_signal = (int)clone_args.exit_signal};
    return do_clone(thread, &request);
}

int64_t emu_sys_fork(emu_thread *thread, const uint64_t *args)
{
    struct clone_request request = {.exit_signal = SIGCHLD};
    return do_clone(thread, &request);
}

int64_t emu_sys_vfork(emu_thread *thread, const uint64_t *args)
{
    struct clone_request request = {.flags = CLONE_VM | CLONE_VFORK, .exit_signal = SIGCHLD};
    return do_clone(thread, &request);
}

/* Handlers are the host program's own; what it ignores stays ignored, but for what Python ignores for itself. */
static void first_actions(void)
{
    for (int sig = 1; sig <= SIGRTMAX; sig++) {
        struct sigaction action;
        if (sigaction(sig, NULL, &action) != 0 ||
            (action.sa_handler == SIG_IGN && sig != SIGPIPE && sig != SIGXFSZ))
            continue;
        memset(&action, 0, sizeof action);
        action.sa_handler = SIG_DFL;
        sigaction(sig, &action, NULL);
    }
}

/* One that is among 0, 1, 2 itself must not be overwritten before it has moved. */
static void set_streams(const int streams[3])
{
    int from[3];
    for (int i = 0; i < 3; i++)
        from[i] = streams[i] >= 0 && streams[i] < 3 ? fcntl(streams[i], F_DUPFD_CLOEXEC, 3) : streams[i];
    for (int i = 0; i < 3; i++)
        if (from[i] >= 0)
            dup2(from[i], i);
    for (int i = 0; i < 3; i++)
        if (from[i] >= 0 && from[i] != streams[i])
            close(from[i]);
}

int emu_process_spawn(emu_process *process, const int streams[3])
{
    emu_thread *thread = process->main;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (thread->ops->forking != NULL)
        thread->ops->forking(thread->engine);
    pid_t child = fork();
    int error = errno;
    if (child == 0) {
        char text[160] = "";
        first_actions();
        set_streams(streams);
        process->forked = true;
        if (engine_forked(thread, text, sizeof text) != 0) {
            fprintf(stderr, "emu: a forked process cannot go on: %s\n", text);
            emu_process_die(SIGKILL);
        }
        process->host_fd_count = 0; /* nobody needs them here */
        emu_process_close_on_exec(process);
    } else if (thread->ops->stayed != NULL) {
        thread->ops->stayed(thread->engine);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (child == 0)
        emu_process_become(process);
    return child < 0 ? -error : child;
}

/* ---- exit and identity -------------------------------------------------------------------- */

int64_t emu_sys_exit(emu_thread *thread, const uint64_t *args)
{
    if (thread->process->threads->next == NULL)
        vfork_done(thread->process, true);
    emu_thread_exit(thread, (int)args[0]);
    return EMU_KEEP_REGISTERS;
}

int64_t emu_sys_exit_group(emu_thread *thread, const uint64_t *args)
{
    vfork_done(thread->process, true);
    emu_process_exit(thread->process, (int)args[0]);
    return EMU_KEEP_REGISTERS;
}

int64_t emu_sys_set_tid_address(emu_thread *thread, const uint64_t *args)
{
    thread->clear_child_tid = args[0];
    return thread->tid;
}

int64_t emu_sys_gettid(emu_thread *thread, const uint64_t *args)
{
    return thread->tid;
}

/* ---- thread pointers and caches --------------------------------------------------------------- */

static void set_tls(emu_thread *thread, unsigned index, uint64_t value)
{
    emu_cpu_state state;
    thread->ops->save(thread->engine, &state);
    state.tls[index] = value;
    thread->ops->load(thread->engine, &state);
}

int64_t emu_sys_arch_prctl(emu_thread *thread, const uint64_t *args)
{
    enum { SET_GS = 0x1001, SET_FS = 0x1002, GET_FS = 0x1003, GET_GS = 0x1004 };
    emu_umem *umem = &thread->process->umem;
    emu_cpu_state state;
    switch (args[0]) {
    case SET_FS:
    case SET_GS:
        if (args[1] >= umem->size)
            return -EPERM;
        set_tls(thread, args[0] == SET_GS, args[1]);
        return 0;
    case GET_FS:
    case GET_GS:
        thread->ops->save(thread->engine, &state);
        return umem_write(umem, args[1], &state.tls[args[0] == GET_GS], 8);
    default:
        return -EINVAL; /* CET, CPUID faulting and the like: a CPU without them */
    }
}

int64_t emu_sys_arm_set_tls(emu_thread *thread, const uint64_t *args)
{
    set_tls(thread, 0, (uint32_t)args[0]);
    return 0;
}

int64_t emu_sys_arm_get_tls(emu_thread *thread, const uint64_t *args)
{
    emu_cpu_state state;
    thread->ops->save(thread->engine, &state);
    return (int64_t)(uint32_t)state.tls[0];
}

static int64_t flush_code(emu_thread *thread, uint64_t start, uint64_t end)
{
    emu_umem *umem = &thread->process->umem;
    if (end < start || end > umem->size)
        return -EINVAL;
    umem_lock(umem);
    emu_threads_before_change(thread->process, start, end - start);
    emu_threads_after_change(thread->process, start, end - start);
    umem_unlock(umem);
    return 0;
}

int64_t emu_sys_arm_cacheflush(emu_thread *thread, const uint64_t *args)
{
    return args[2] != 0 ? -EINVAL : flush_code(thread, args[0], args[1]);
}

int64_t emu_sys_riscv_flush_icache(emu_thread *thread, const uint64_t *args)
{
    return (args[2] & ~UINT64_C(1)) != 0 ? -EINVAL : flush_code(thread, args[0], args[1]);
}
