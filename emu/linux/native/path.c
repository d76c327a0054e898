/*
 * Guest paths: from a name that the guest gives to a file that the host's calls
 * work on.  Two ways of seeing files, one lookup (emu_path_find) for every call
 * that takes a path.
 *
 * Overlay: the guest sees the host's files, and those of a sysroot (-L) before
 * them.  A lookup turns one name into another; relative names, and directories
 * given by descriptor, are the host's as they stand.  A link outside of the
 * sysroot (a virtual environment's bin/python) leads where its text leads a guest.
 *
 * Confined: the guest sees a directory (--root, or chroot(2) by itself) and
 * nothing outside.  Here names are never trusted.  A lookup makes the name
 * absolute, in the guest's terms, and has the kernel resolve it in one step with
 * openat2(RESOLVE_IN_ROOT) from a descriptor of that directory: "..", symlinks
 * and files that are renamed meanwhile cannot lead out of it.  What comes back is
 * a descriptor, and the call is made on that:
 *
 *     an object   ... /proc/thread-self/fd/N, followed: also for symlinks, whose
 *                     descriptor is of the link itself
 *     a name      ... /proc/thread-self/fd/N/last, where N is of the directory:
 *                     mkdir, unlink, rename and their kin, which do not follow
 *                     `last` and refuse "." and ".."
 *
 * The host's own name of a directory serves to tell where the guest stands (its
 * working directory, the descriptor that openat is given), and is then looked up
 * again from the root; so one that was moved out of the root, or came from
 * outside, leads nowhere: ENOENT.
 *
 * While such a descriptor is in use its number is taken: another thread's close
 * and dup2 on it fail, as they would on a number that an open has not finished.
 *
 * Nothing on a proc file system can be reached through the root, even if one is
 * mounted there: the memory of the runtime is a file in it.  /proc is made of
 * what own.c offers, as are the devices of /dev that the root does not have.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "address.h"
#include "kin.h"
#include "own.h"
#include "path.h"
#include "syscall.h"

enum { MAX_LINKS = 40 }; /* Linux's MAXSYMLINKS */

struct emu_root {
    int fd;
    char path[PATH_MAX]; /* the host's name of it, when it was last asked for; under `lock` */
};

/* ---- descriptors in use --------------------------------------------------------------------- */

enum { HELD_MAX = 256 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int held[HELD_MAX];
static unsigned held_count;

void emu_path_fds_lock(const emu_process *process)
{
    if (process->root != NULL)
        pthread_mutex_lock(&lock);
}

void emu_path_fds_unlock(const emu_process *process)
{
    if (process->root != NULL)
        pthread_mutex_unlock(&lock);
}

bool emu_path_holds(int fd)
{
    for (unsigned i = 0; i < held_count; i++)
        if (held[i] == fd)
            return true;
    return false;
}

uint64_t emu_path_held_from(uint64_t first)
{
    uint64_t lowest = UINT64_MAX;
    for (unsigned i = 0; i < held_count; i++)
        if ((uint64_t)held[i] >= first && (uint64_t)held[i] < lowest)
            lowest = (uint64_t)held[i];
    return lowest;
}

static void let_go(int fd)
{
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < held_count; i++)
        if (held[i] == fd) {
            held[i] = held[--held_count];
            break;
        }
    close(fd);
    pthread_mutex_unlock(&lock);
}

void emu_path_fork_begin(void)
{
    pthread_mutex_lock(&lock);
}

void emu_path_fork_end(bool child)
{
    /* In the child there are no other threads, whose they were. */
    while (child && held_count != 0)
        close(held[--held_count]);
    pthread_mutex_unlock(&lock);
}

/* ---- the root ---------------------------------------------------------------------------------- */

int emu_path_host_name(int fd, char out[PATH_MAX])
{
    char link[48];
    snprintf(link, sizeof link, "/proc/thread-self/fd/%d", fd);
    ssize_t length = readlink(link, out, PATH_MAX - 1);
    if (length < 0)
        return errno == ENOENT ? -EBADF : -errno;
    out[length] = 0;
    return 0;
}

static bool on_proc(int fd)
{
    struct statfs fs;
    return fstatfs(fd, &fs) == 0 && fs.f_type == PROC_SUPER_MAGIC;
}

int emu_root_fd(const emu_process *process)
{
    return process->root != NULL ? process->root->fd : -1;
}

/* Makes `fd`, an O_PATH descriptor that is the root's from now on, the root.  0 or -errno. */
static int set_root(emu_process *process, int fd)
{
    struct emu_root *root = calloc(1, sizeof *root);
    struct rlimit limit;
    int far = 4096, moved = -1;
    if (root == NULL) {
        close(fd);
        return -ENOMEM;
    }
    /* Out of the way: programs take low numbers for theirs. */
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < (rlim_t)far + 64)
        far = limit.rlim_cur > 128 ? (int)limit.rlim_cur - 64 : (int)limit.rlim_cur / 2;
    while (moved < 0 && far > 0) {
        moved = fcntl(fd, F_DUPFD_CLOEXEC, far);
        far /= 2;
    }
    if (moved >= 0) {
        close(fd);
        fd = moved;
    }
    root->fd = fd;
    int error = emu_path_host_name(fd, root->path);
    if (error == 0 && on_proc(fd))
        error = -EPERM;
    if (error != 0) {
        close(fd);
        free(root);
        return error;
    }
    address_start();
    if (process->root == NULL) {
        process->root = root;
    } else {
        /* In place: another thread may be looking at it. */
        pthread_mutex_lock(&lock);
        dup3(root->fd, process->root->fd, O_CLOEXEC);
        strcpy(process->root->path, root->path);
        pthread_mutex_unlock(&lock);
        close(root->fd);
        free(root);
    }
    return 0;
}

int emu_root_open(emu_process *process, const char *directory)
{
    struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT};
    int fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    long probe = HOST4(SYS_openat2, fd, "/", &how, sizeof how);
    if (probe < 0) {
        close(fd);
        return (int)probe;
    }
    close((int)probe);
    return set_root(process, fd);
}

void emu_root_close(emu_process *process)
{
    if (process->root == NULL)
        return;
    close(process->root->fd);
    free(process->root);
    process->root = NULL;
}

int emu_root_enter(emu_process *process)
{
    char at[PATH_MAX];
    if (process->root == NULL)
        return 0;
    process->inside = true;
    return emu_path_position(process, AT_FDCWD, at) == 0 || fchdir(process->root->fd) == 0 ? 0 : -errno;
}

static bool strip(const char *root, const char *host, char out[PATH_MAX])
{
    size_t length = strcmp(root, "/") == 0 ? 0 : strlen(root);
    if (strncmp(host, root, length) != 0 || (host[length] != '/' && host[length] != 0))
        return false;
    memmove(out, host[length] == 0 ? "/" : host + length, host[length] == 0 ? 2 : strlen(host + length) + 1);
    return true;
}

/* A host path as one below the root.  False where it is not. */
static bool below(struct emu_root *root, const char *host, char out[PATH_MAX])
{
    char now[PATH_MAX];
    pthread_mutex_lock(&lock);
    bool found = strip(root->path, host, out);
    pthread_mutex_unlock(&lock);
    if (found || emu_path_host_name(root->fd, now) != 0)
        return found;
    pthread_mutex_lock(&lock);
    strcpy(root->path, now); /* somebody has renamed it */
    found = strip(root->path, host, out);
    pthread_mutex_unlock(&lock);
    return found;
}

bool emu_path_busy(const emu_process *process, const emu_path *path)
{
    struct stat status;
    return process->exe != NULL && fstatat(path->dir, path->host, &status, path->at_flags) == 0 &&
           ((status.st_dev == process->exe_dev && status.st_ino == process->exe_ino) ||
            emu_kin_runs(status.st_dev, status.st_ino));
}

bool emu_path_outside(emu_process *process, int fd)
{
    char host[PATH_MAX], guest[PATH_MAX];
    struct stat status;
    if (process->root == NULL || emu_path_host_name(fd, host) != 0 || host[0] != '/' || below(process->root, host, guest))
        return false;
    /* What never had a name, or lost it, is nobody else's. */
    return fstat(fd, &status) != 0 || status.st_nlink != 0;
}

int emu_path_position(emu_process *process, int dir, char out[PATH_MAX])
{
    char host[PATH_MAX];
    emu_path found;
    if (dir == AT_FDCWD) {
        long length = HOST2(SYS_getcwd, host, sizeof host);
        if (length < 0)
            return (int)length;
    } else {
        int error = emu_process_owns_fd(process, dir) ? -EBADF : emu_path_host_name(dir, host);
        if (error != 0)
            return error;
        if (host[0] != '/')
            return -ENOTDIR;
    }
    if (host[0] == '/' && below(process->root, host, out))
        return 0;
    /* A folder of /proc, which was opened by that name. */
    if (dir != AT_FDCWD && emu_own_find(process, host, &found) == EMU_OWN_FOLDER) {
        strcpy(out, host);
        return 0;
    }
    if (dir == AT_FDCWD && !process->inside) {
        strcpy(out, "/");
        return 0;
    }
    return -ENOENT;
}

int emu_path_beside(emu_process *process, const char *link, char out[PATH_MAX])
{
    char host[PATH_MAX];
    ssize_t length = readlink(link, host, sizeof host - 1);
    if (length < 0)
        return -errno;
    host[length] = 0;
    if (host[0] != '/' || !below(process->root, host, out))
        strcpy(out, "/");
    return 0;
}

void emu_path_guest(const emu_process *process, const char *host, char out[PATH_MAX])
{
    if (process->root != NULL) {
        if (host[0] != '/' || !below(process->root, host, out))
            memmove(out, host, strlen(host) + 1);
        return;
    }
    if (process->sysroot != NULL && process->sysroot[0] != 0 && strip(process->sysroot, host, out))
        return;
    memmove(out, host, strlen(host) + 1);
}

/* ---- confined lookups ------------------------------------------------------------------------------ */

/* The path that `path` is from directory `dir`, absolute in the guest's terms.  0 or -errno. */
static int absolute(emu_process *process, int dir, const char *path, char out[PATH_MAX])
{
    size_t length = 0, size = strlen(path) + 1;
    if (path[0] != '/') {
        int error = emu_path_position(process, dir, out);
        if (error != 0)
            return error;
        length = strlen(out);
        if (out[length - 1] != '/')
            out[length++] = '/';
    }
    if (length + size > PATH_MAX)
        return -ENAMETOOLONG;
    memcpy(out + length, path, size);
    return 0;
}

/*
 * openat2 in the root (or in `from`, with the guest's own RESOLVE flags).  Most
 * lookups stay on one file system; one that does not is made again, and refused
 * where it ends on a proc file system.  thread: may sleep; NULL: may not.
 */
static long confined(emu_thread *thread, int from, const char *path, const struct open_how *asked)
{
    enum { TRIES = 10000 };
    struct open_how how = *asked;
    long fd = -EAGAIN;
    how.resolve |= RESOLVE_NO_XDEV;
    if (!(how.resolve & RESOLVE_BENEATH))
        how.resolve |= RESOLVE_IN_ROOT;
    /* EAGAIN: something was renamed somewhere while the lookup went through a "..". */
    for (int i = 0; i < TRIES && fd == -EAGAIN; i++) {
        if (i > 16)
            sched_yield();
        fd = thread != NULL ? WAIT4(thread, SYS_openat2, from, path, &how, sizeof how)
                            : HOST4(SYS_openat2, from, path, &how, sizeof how);
        if (fd == -EXDEV && how.resolve & RESOLVE_NO_XDEV & ~asked->resolve) {
            how.resolve &= ~(uint64_t)RESOLVE_NO_XDEV;
            fd = -EAGAIN;
        } else if (fd == -EAGAIN && asked->resolve & RESOLVE_CACHED) {
            break;
        }
    }
    if (fd >= 0 && !(how.resolve & RESOLVE_NO_XDEV) && on_proc((int)fd)) {
        close((int)fd);
        return -EACCES;
    }
    return fd;
}

/* A descriptor for the time of one call. */
static int hold(emu_process *process, const char *path, uint64_t flags)
{
    const struct open_how how = {.flags = flags | O_PATH | O_CLOEXEC};
    pthread_mutex_lock(&lock);
    long fd = held_count == HELD_MAX ? -ENFILE : confined(NULL, process->root->fd, path, &how);
    if (fd >= 0)
        held[held_count++] = (int)fd;
    pthread_mutex_unlock(&lock);
    return (int)fd;
}

/* Cuts the last component off. */
static void cut(char *path)
{
    char *slash = strrchr(path, '/');
    if (slash != NULL)
        *slash = 0;
}

static bool within(const char *path, const char *folder)
{
    size_t length = strlen(folder);
    return strncmp(path, folder, length) == 0 && (path[length] == 0 || path[length] == '/');
}

/* True where a path may lead to what own.c offers without any symlink. */
static bool may_be_own(const char *path)
{
    path += strspn(path, "/");
    return within(path, "proc") || within(path, "dev");
}

/* What a walk has come to. */
enum { WALK_OWN = 1, WALK_ELSEWHERE = 2 };

/* A walk's end at something of the root's: its path, in out->host, only where the kernel cannot find it as given. */
static int elsewhere(bool through, const char *at, const char *rest, emu_path *out)
{
    if (!through || snprintf(out->host, sizeof out->host, "%s%s", at[0] == 0 ? "/" : at, rest) >= PATH_MAX)
        return 0;
    return WALK_ELSEWHERE;
}

/*
 * Follows a path by hand to find out whether it leads to, or through, something
 * of own.c's.  WALK_OWN: to it, and out tells what; WALK_ELSEWHERE: through it, to
 * the path out->host of the root, if that exists; 0: it has nothing to do with it;
 * or -errno.
 */
static int walk(emu_process *process, const char *path, unsigned flags, emu_path *out)
{
    char rest[PATH_MAX], at[PATH_MAX] = "", *next = rest;
    bool through = false;
    int links = 0;
    strcpy(rest, path);
    for (;;) {
        next += strspn(next, "/");
        if (*next == 0) { /* it ends in "/", "." or ".." */
            out->own = (uint8_t)emu_own_find(process, at, out);
            return out->own == EMU_OWN_FOLDER ? WALK_OWN : elsewhere(through, at, "", out);
        }
        char *end = strchrnul(next, '/'), *name = next;
        size_t size = (size_t)(end - name), length = strlen(at);
        next = end;
        if (size == 1 && name[0] == '.')
            continue;
        if (size == 2 && name[0] == '.' && name[1] == '.') {
            cut(at);
            continue;
        }
        if (length + 1 + size >= PATH_MAX)
            return -ENAMETOOLONG;
        at[length] = '/';
        memcpy(at + length + 1, name, size);
        at[length + 1 + size] = 0;
        bool last = end[strspn(end, "/")] == 0;
        bool follow = !last || *end == '/' || !(flags & EMU_PATH_NOFOLLOW);

        char target[PATH_MAX];
        int kind = emu_own_find(process, at, out);
        target[0] = 0;
        bool ours = within(at, "/proc") || within(at, "/dev");
        if (kind == EMU_OWN_NONE || within(at, "/dev")) {
            /* The root's own files: what they have of /dev comes before ours. */
            struct stat status;
            const struct open_how how = {.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC};
            long fd = confined(NULL, process->root->fd, at, &how);
            if (fd < 0 && kind == EMU_OWN_NONE && (last || !ours))
                return elsewhere(through, at, next, out);
            if (fd >= 0) {
                kind = EMU_OWN_NONE;
                bool link = fstat((int)fd, &status) == 0 && S_ISLNK(status.st_mode);
                ssize_t got = link ? readlinkat((int)fd, "", target, sizeof target - 1) : 0;
                target[got > 0 ? got : 0] = 0;
                close((int)fd);
            }
            if (kind == EMU_OWN_NONE && last && (target[0] == 0 || !follow))
                return elsewhere(through, at, next, out);
        }
        if (kind == EMU_OWN_LINK && follow) {
            int error = emu_own_link(process, out, target);
            if (error != 0)
                return error;
        } else if (kind == EMU_OWN_FD && !last) {
            int error = emu_path_position(process, (int)out->number, target);
            if (error != 0)
                return error;
        } else if (kind != EMU_OWN_NONE && last) {
            out->own = (uint8_t)kind;
            return kind != EMU_OWN_FOLDER && *end == '/' && kind != EMU_OWN_FD ? -ENOTDIR : WALK_OWN;
        } else if (kind != EMU_OWN_NONE && kind != EMU_OWN_FOLDER) {
            return -ENOTDIR;
        }
        if (target[0] == 0 || !follow)
            continue;
        through |= kind != EMU_OWN_NONE;
        /* What is left of the path goes on behind the link's target. */
        char joined[PATH_MAX];
        if (++links > MAX_LINKS)
            return -ELOOP;
        if (snprintf(joined, sizeof joined, "%s%s", target, next) >= (int)sizeof joined)
            return -ENAMETOOLONG;
        strcpy(rest, joined);
        next = rest;
        if (target[0] == '/')
            at[0] = 0;
        else
            cut(at);
    }
}

/* Something of own.c's as an argument of the host's calls. */
static int offer(emu_process *process, emu_path *out, unsigned flags)
{
    out->dir = AT_FDCWD;
    out->at_flags = flags & EMU_PATH_NOFOLLOW ? AT_SYMLINK_NOFOLLOW : 0;
    bool own = out->own == EMU_OWN_FD ? !emu_path_outside(process, (int)out->number)
                                      : out->own == EMU_OWN_DEVICE && emu_own_made(process, out->host);
    return flags & EMU_PATH_CHANGE && !own ? -EPERM : 0;
}

static int find_name(emu_process *process, char *path, emu_path *out)
{
    size_t length = strlen(path);
    bool folder = false;
    while (length > 1 && path[length - 1] == '/') {
        path[--length] = 0;
        folder = true;
    }
    char *last = strrchr(path, '/') + 1;
    char name[NAME_MAX + 1];
    if (strlen(last) > NAME_MAX)
        return -ENAMETOOLONG;
    strcpy(name, last);
    *last = 0;
    if (name[0] == 0) /* the root itself */
        strcpy(name, ".");
    int fd = hold(process, path, O_DIRECTORY);
    if (fd < 0 && walk(process, path, 0, out) == WALK_ELSEWHERE)
        fd = hold(process, out->host, O_DIRECTORY);
    if (fd < 0)
        return fd == -EXDEV ? -ENOENT : fd;
    out->own = EMU_OWN_NONE;
    out->held = fd;
    out->dir = AT_FDCWD;
    snprintf(out->host, sizeof out->host, "/proc/thread-self/fd/%d/%s%s", fd, name, folder ? "/" : "");
    return 0;
}

static int find_confined(emu_process *process, int dir, const char *path, unsigned flags, emu_path *out)
{
    char guest[PATH_MAX];
    int error = absolute(process, dir, path, guest);
    if (error != 0)
        return error;
    if (flags & EMU_PATH_NAME)
        return find_name(process, guest, out);
    unsigned how = flags & EMU_PATH_NOFOLLOW ? O_NOFOLLOW : 0;
    int own = may_be_own(guest) ? walk(process, guest, flags, out) : 0, fd = -ENOENT;
    if (own == 0) {
        fd = hold(process, guest, how);
        if (fd < 0 && fd != -ENFILE && fd != -EMFILE)
            own = walk(process, guest, flags, out);
    }
    if (own == WALK_ELSEWHERE)
        fd = hold(process, out->host, how);
    else if (own != 0)
        return own < 0 && fd != -ENOENT ? fd : own < 0 ? own : offer(process, out, flags);
    out->own = EMU_OWN_NONE;
    if (fd < 0)
        return fd == -EXDEV ? -ENOENT : fd;
    out->held = fd;
    out->dir = AT_FDCWD;
    out->at_flags = 0;
    snprintf(out->host, sizeof out->host, "/proc/thread-self/fd/%d", fd);
    return 0;
}

/* Whether it would open the running program for writing: ETXTBSY. */
static bool opens_program(emu_process *process, int dir, const char *path, const struct open_how *how)
{
    emu_path found;
    if (how->flags & O_PATH || ((how->flags & O_ACCMODE) == O_RDONLY && !(how->flags & O_TRUNC)) ||
        (how->flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL) || how->resolve != 0)
        return false;
    bool busy = emu_path_find(process, dir, path, how->flags & O_NOFOLLOW ? EMU_PATH_NOFOLLOW : 0, &found) == 0 &&
                emu_path_busy(process, &found);
    emu_path_done(&found);
    return busy;
}

int64_t emu_path_open(emu_thread *thread, int dir, const char *path, const struct open_how *how)
{
    emu_process *process = thread->process;
    emu_path found;
    if (opens_program(process, dir, path, how))
        return -ETXTBSY;
    if (process->root == NULL) {
        /* O_CREAT | O_EXCL does not follow either. */
        bool nofollow = how->flags & O_NOFOLLOW || (how->flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL);
        /* A path that is to be resolved below the directory is not the sysroot's matter. */
        if (how->resolve & (RESOLVE_BENEATH | RESOLVE_IN_ROOT))
            return WAIT4(thread, SYS_openat2, dir, path, how, sizeof *how);
        int error = emu_path_find(process, dir, path, nofollow ? EMU_PATH_NOFOLLOW : 0, &found);
        if (error != 0)
            return error;
        if (found.own != EMU_OWN_NONE)
            return emu_own_open(thread, &found, how->flags);
        return how->resolve ? WAIT4(thread, SYS_openat2, dir, found.host, how, sizeof *how)
                            : WAIT4(thread, SYS_openat, dir, found.host, how->flags, how->mode);
    }
    char guest[PATH_MAX];
    if (path[0] == 0)
        return -ENOENT;
    if (how->resolve & (RESOLVE_BENEATH | RESOLVE_IN_ROOT)) {
        int error = emu_path_position(process, dir, guest);
        /* The folders of /proc/self are the host's: nothing is to be found through their descriptors. */
        if (error == 0 && dir != AT_FDCWD && on_proc(dir))
            error = -EXDEV;
        return error != 0 ? error : confined(thread, dir, path, how);
    }
    int error = absolute(process, dir, path, guest);
    if (error != 0)
        return error;
    unsigned flags = how->flags & O_NOFOLLOW ? EMU_PATH_NOFOLLOW : 0;
    int own = may_be_own(guest) ? walk(process, guest, flags, &found) : 0;
    if (own < 0)
        return own;
    long fd = -ENOENT;
    if (own == 0) {
        fd = confined(thread, process->root->fd, guest, how);
        if (fd >= 0 || fd <= EMU_RESTARTSYS || fd == -EINTR || fd == -EMFILE || fd == -ENFILE)
            return fd;
        own = walk(process, guest, flags, &found);
    }
    if (own == WALK_OWN)
        return emu_own_open(thread, &found, how->flags);
    if (own == WALK_ELSEWHERE)
        fd = confined(thread, process->root->fd, found.host, how);
    return fd == -EXDEV && !(how->resolve & RESOLVE_NO_XDEV) ? -ENOENT : fd;
}

int emu_path_chroot(emu_process *process, const char *path)
{
    emu_path found;
    int error = emu_path_find(process, AT_FDCWD, path, 0, &found);
    if (error != 0)
        return error;
    int fd = found.own != EMU_OWN_NONE ? -1 : openat(found.dir, found.host, O_PATH | O_DIRECTORY | O_CLOEXEC);
    error = found.own != EMU_OWN_NONE ? -EPERM : fd < 0 ? -errno : 0;
    emu_path_done(&found);
    if (error == 0)
        error = set_root(process, fd);
    if (error == 0)
        process->inside = true;
    return error;
}

/* ---- overlays ------------------------------------------------------------------------------------------ */

/* An empty directory is a place to mount on (/proc, /tmp): it has nothing that could come before the host's. */
static bool empty_directory(const char *host)
{
    DIR *dir = opendir(host);
    const struct dirent *entry;
    if (dir == NULL)
        return false;
    do
        entry = readdir(dir);
    while (entry != NULL && (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0));
    closedir(dir);
    return entry == NULL;
}

static bool is_directory(const char *host)
{
    struct stat status;
    return stat(host, &status) == 0 && S_ISDIR(status.st_mode);
}

/*
 * Walks `path` (absolute) below the sysroot as if that were "/".  1: exists, out
 * is the host's path; 0: does not exist there; or -errno.
 */
static int overlay(const char *sysroot, const char *path, char out[PATH_MAX], bool follow)
{
    char rest[PATH_MAX], next[PATH_MAX];
    size_t root = strlen(sysroot), length = root;
    int links = 0;
    bool directory = false;
    if (root >= PATH_MAX || strlen(path) >= PATH_MAX)
        return -ENAMETOOLONG;
    memcpy(out, sysroot, root + 1);
    strcpy(rest, path);
    char *at = rest;
    for (;;) {
        while (*at == '/')
            at++;
        if (*at == 0)
            break;
        char *end = strchrnul(at, '/');
        size_t size = (size_t)(end - at);
        if (size == 1 && at[0] == '.') {
            at = end;
            continue;
        }
        if (size == 2 && at[0] == '.' && at[1] == '.') {
            while (length > root && out[length - 1] != '/')
                length--;
            length = length > root ? length - 1 : root;
            out[length] = 0;
            at = end;
            continue;
        }
        if (length + 1 + size >= PATH_MAX)
            return -ENAMETOOLONG;
        size_t before = length;
        out[length++] = '/';
        memcpy(out + length, at, size);
        length += size;
        out[length] = 0;

        const char *tail = end;
        while (*tail == '/')
            tail++;
        bool last = *tail == 0;
        struct stat status;
        if (lstat(out, &status) != 0)
            return 0;
        directory = S_ISDIR(status.st_mode);
        if (S_ISLNK(status.st_mode) && (!last || follow || *end == '/')) {
            char target[PATH_MAX];
            ssize_t got = readlink(out, target, sizeof target - 1);
            if (got <= 0)
                return 0;
            if (++links > MAX_LINKS)
                return -ELOOP;
            target[got] = 0;
            size_t remaining = strlen(end);
            if ((size_t)got + remaining >= PATH_MAX)
                return -ENAMETOOLONG;
            memcpy(next, target, (size_t)got);
            memcpy(next + got, end, remaining + 1);
            memcpy(rest, next, (size_t)got + remaining + 1);
            length = target[0] == '/' ? root : before;
            out[length] = 0;
            at = rest;
            continue;
        }
        if (!last && !S_ISDIR(status.st_mode))
            return 0;
        at = end;
    }
    if (directory && empty_directory(out) && is_directory(path))
        return 0;
    /* A trailing slash keeps its meaning: a directory is wanted. */
    size_t size = strlen(path);
    if (size > 1 && path[size - 1] == '/' && length + 1 < PATH_MAX) {
        out[length++] = '/';
        out[length] = 0;
    }
    if (length == 0) /* a sysroot of "/" is kept as "" */
        strcpy(out, "/");
    return 1;
}

/* Links of a proc file system are not what their texts say. */
static bool is_proc(int dir, const char *link)
{
    int fd = openat(dir, link, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    bool proc = fd < 0 || on_proc(fd);
    if (fd >= 0)
        close(fd);
    return proc;
}

/*
 * Where the host's file `path` is a link, or a chain of them, with an absolute
 * text that the sysroot has an answer to: 1, and out is that file; else 0.
 */
static int through_links(const char *sysroot, int dir, const char *path, char out[PATH_MAX])
{
    char link[PATH_MAX], text[PATH_MAX];
    strcpy(link, path);
    for (int links = 0; links < MAX_LINKS; links++) {
        ssize_t got = readlinkat(dir, link, text, sizeof text - 1);
        if (got <= 0 || is_proc(dir, link))
            return 0;
        text[got] = 0;
        if (text[0] == '/') {
            int found = overlay(sysroot, text, out, true);
            if (found != 0)
                return found;
            strcpy(link, text);
            continue;
        }
        char *last = strrchr(link, '/');
        size_t before = last != NULL ? (size_t)(last + 1 - link) : 0;
        if (before + (size_t)got >= PATH_MAX)
            return 0;
        memcpy(link + before, text, (size_t)got + 1);
    }
    return 0; /* ELOOP, which the host's call will say */
}

static int find_overlay(emu_process *process, const char *path, unsigned flags, emu_path *out)
{
    bool nofollow = (flags & (EMU_PATH_NOFOLLOW | EMU_PATH_NAME)) != 0;
    if (path[0] == '/' && !(flags & EMU_PATH_NAME)) {
        int kind = emu_own_find(process, path, out);
        bool link = kind == EMU_OWN_LINK && out->number == EMU_LINK_EXE;
        if (link && !nofollow && out->pid == 0 && process->exe != NULL) {
            strcpy(out->host, process->exe);
            return 0;
        }
        if (link && !nofollow && out->pid != 0) {
            char exe[PATH_MAX];
            int error = emu_kin_exe(out->pid, exe);
            return error != 0 ? error : find_overlay(process, exe, flags, out);
        }
        /* The rest of /proc is the host's. */
        if (link || kind >= EMU_OWN_TEXT) {
            out->own = (uint8_t)kind;
            return 0;
        }
    }
    if (path[0] == '/' && process->sysroot != NULL) {
        int found = overlay(process->sysroot, path, out->host, !nofollow);
        if (found != 0)
            return found < 0 ? found : 0;
    }
    if (process->sysroot != NULL && !nofollow) {
        int found = through_links(process->sysroot, out->dir, path, out->host);
        if (found != 0)
            return found < 0 ? found : 0;
    }
    strcpy(out->host, path);
    return 0;
}

/* ---- for everybody -------------------------------------------------------------------------------------- */

int emu_path_find(emu_process *process, int dir, const char *path, unsigned flags, emu_path *out)
{
    out->dir = dir;
    out->at_flags = flags & EMU_PATH_NOFOLLOW ? AT_SYMLINK_NOFOLLOW : 0;
    out->held = -1;
    out->own = EMU_OWN_NONE;
    out->pid = 0;
    out->host[0] = 0;
    if (strlen(path) >= PATH_MAX)
        return -ENAMETOOLONG;
    if (path[0] == 0 && (flags & EMU_PATH_EMPTY)) {
        out->at_flags |= AT_EMPTY_PATH;
        if (dir == AT_FDCWD)
            return 0;
        if (emu_process_owns_fd(process, dir))
            return -EBADF;
        return flags & EMU_PATH_CHANGE && emu_path_outside(process, dir) ? -EPERM : 0;
    }
    if (process->root == NULL)
        return find_overlay(process, path, flags, out);
    return path[0] == 0 ? -ENOENT : find_confined(process, dir, path, flags, out);
}

int emu_path_read(emu_process *process, int dir, uint64_t addr, unsigned flags, emu_path *out)
{
    char path[PATH_MAX];
    out->held = -1;
    int64_t length = umem_string(&process->umem, addr, path, sizeof path);
    return length < 0 ? (int)length : emu_path_find(process, dir, path, flags, out);
}

void emu_path_done(emu_path *path)
{
    if (path->held >= 0)
        let_go(path->held);
    path->held = -1;
}
