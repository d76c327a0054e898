/* Guest paths and host paths: the sysroot, and /proc/self/exe. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime.h"

enum { MAX_LINKS = 40 }; /* Linux's MAXSYMLINKS */

bool emu_path_is_exe(const emu_process *process, const char *path)
{
    if (strncmp(path, "/proc/", 6) != 0)
        return false;
    path += 6;
    if (strcmp(path, "self/exe") == 0 || strcmp(path, "thread-self/exe") == 0)
        return true;
    char *end;
    long pid = strtol(path, &end, 10);
    return end != path && pid == (long)getpid() && strcmp(end, "/exe") == 0;
}

/* Cuts the last component off; the root stays. */
static size_t parent(const char *path, size_t length, size_t root)
{
    while (length > root && path[length - 1] != '/')
        length--;
    return length > root ? length - 1 : root;
}

/*
 * Walks `path` (absolute) below the sysroot as if that were "/".  1: exists, out
 * is the host's path; 0: does not exist there; or -errno.
 */
static int walk(const char *sysroot, const char *path, char out[PATH_MAX], bool follow)
{
    char rest[PATH_MAX], next[PATH_MAX];
    size_t root = strlen(sysroot), length = root;
    int links = 0;
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
            length = parent(out, length, root);
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

int emu_path_host(emu_process *process, const char *path, char out[PATH_MAX], unsigned flags)
{
    if (strlen(path) >= PATH_MAX)
        return -ENAMETOOLONG;
    if (path[0] == '/') {
        if (!(flags & EMU_PATH_NOFOLLOW) && process->exe != NULL && emu_path_is_exe(process, path)) {
            strcpy(out, process->exe);
            return 0;
        }
        if (process->sysroot != NULL) {
            int found = walk(process->sysroot, path, out, !(flags & EMU_PATH_NOFOLLOW));
            if (found != 0)
                return found < 0 ? found : 0;
        }
    }
    strcpy(out, path);
    return 0;
}

int emu_path_read(emu_process *process, uint64_t addr, char out[PATH_MAX], unsigned flags)
{
    char path[PATH_MAX];
    int64_t length = umem_string(&process->umem, addr, path, sizeof path);
    return length < 0 ? (int)length : emu_path_host(process, path, out, flags);
}

void emu_path_guest(const emu_process *process, const char *host, char out[PATH_MAX])
{
    const char *from = host;
    if (process->sysroot != NULL) {
        size_t root = strlen(process->sysroot);
        if (root > 0 && strncmp(host, process->sysroot, root) == 0 && (host[root] == '/' || host[root] == 0))
            from = host[root] == 0 ? "/" : host + root;
    }
    size_t length = strlen(from);
    if (length >= PATH_MAX)
        length = PATH_MAX - 1;
    memmove(out, from, length);
    out[length] = 0;
}
