/* System calls about files by name, their status and position. */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "abi.h"
#include "own.h"
#include "path.h"
#include "syscall.h"

/* VALID_OPEN_FLAGS of fs/open.c. */
enum {
    OPEN_FLAGS = O_ACCMODE | O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_APPEND | O_NONBLOCK | O_SYNC | O_DSYNC | O_ASYNC |
                 O_DIRECT | 0100000 /* O_LARGEFILE */ | O_DIRECTORY | O_NOFOLLOW | O_NOATIME | O_CLOEXEC | O_PATH |
                 O_TMPFILE
};

/* ---- open ------------------------------------------------------------------------------------------ */

static int64_t open_path(emu_thread *thread, int dir, uint64_t addr, uint32_t guest_flags, uint32_t mode)
{
    char path[PATH_MAX];
    uint64_t flags = abi_open_flags_to_host(thread->process->abi, guest_flags);
    int64_t status = umem_string(umem_of(thread), addr, path, sizeof path);
    if (status < 0)
        return status;
    /* openat ignores what openat2 refuses (fs/open.c, build_open_how). */
    if (flags & O_PATH)
        flags &= O_DIRECTORY | O_NOFOLLOW | O_PATH | O_CLOEXEC;
    const struct open_how how = {
        .flags = flags & OPEN_FLAGS,
        .mode = flags & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY)) ? mode & 07777 : 0,
    };
    return emu_path_open(thread, dir, path, &how);
}

int64_t emu_sys_open(emu_thread *thread, const uint64_t *args)
{
    return open_path(thread, AT_FDCWD, args[0], (uint32_t)args[1], (uint32_t)args[2]);
}

int64_t emu_sys_creat(emu_thread *thread, const uint64_t *args)
{
    return open_path(thread, AT_FDCWD, args[0], O_CREAT | O_WRONLY | O_TRUNC, (uint32_t)args[1]);
}

int64_t emu_sys_openat(emu_thread *thread, const uint64_t *args)
{
    return open_path(thread, (int)args[0], args[1], (uint32_t)args[2], (uint32_t)args[3]);
}

int64_t emu_sys_openat2(emu_thread *thread, const uint64_t *args)
{
    struct open_how how;
    char path[PATH_MAX];
    if (args[3] < sizeof how)
        return -EINVAL;
    if (args[3] > EMU_PAGE)
        return -E2BIG;
    if (get(thread, &how, args[2], sizeof how))
        return -EFAULT;
    for (uint64_t at = sizeof how; at < args[3]; at++) {
        uint8_t byte;
        if (get(thread, &byte, args[2] + at, 1))
            return -EFAULT;
        if (byte)
            return -E2BIG;
    }
    if (how.flags >> 32)
        return -EINVAL;
    how.flags = abi_open_flags_to_host(thread->process->abi, (uint32_t)how.flags);
    int64_t length = umem_string(umem_of(thread), args[1], path, sizeof path);
    return length < 0 ? length : emu_path_open(thread, (int)args[0], path, &how);
}

enum { HANDLE_MAX = 128 }; /* MAX_HANDLE_SZ */

int64_t emu_sys_name_to_handle_at(emu_thread *thread, const uint64_t *args)
{
    emu_path path;
    uint32_t bytes;
    unsigned flags = (args[4] & AT_SYMLINK_FOLLOW ? 0 : EMU_PATH_NOFOLLOW) | (args[4] & AT_EMPTY_PATH ? EMU_PATH_EMPTY : 0);
    if (thread->process->root != NULL)
        return -EOPNOTSUPP; /* a handle says nothing of directories */
    int status = emu_path_read(thread->process, (int)args[0], args[1], flags, &path);
    if (status)
        return status;
    if (get(thread, &bytes, args[2], sizeof bytes))
        return -EFAULT;
    if (bytes <= HANDLE_MAX && !inside(thread, args[2], 8 + (uint64_t)bytes))
        return -EFAULT;
    return HOST5(SYS_name_to_handle_at, path.dir, path.host, pointer(thread, args[2]), pointer(thread, args[3]),
                 args[4]);
}

int64_t emu_sys_open_by_handle_at(emu_thread *thread, const uint64_t *args)
{
    uint32_t bytes;
    if (thread->process->root != NULL)
        return -EPERM;
    if (get(thread, &bytes, args[1], sizeof bytes))
        return -EFAULT;
    if (bytes <= HANDLE_MAX && !inside(thread, args[1], 8 + (uint64_t)bytes))
        return -EFAULT;
    return WAIT3(thread, SYS_open_by_handle_at, args[0], pointer(thread, args[1]),
                 abi_open_flags_to_host(thread->process->abi, (uint32_t)args[2]));
}

/* ---- status ---------------------------------------------------------------------------------------------- */

static int64_t put_stat(emu_thread *thread, uint64_t addr, const struct stat *st, bool wide)
{
    const abi_layout *layout = layout_of(thread->process->abi);
    uint8_t raw[STAT_ROOM];
    int size = wide ? layout->stat64(raw, st) : layout->stat(raw, st);
    if (size < 0)
        return size;
    return put(thread, addr, raw, (size_t)size);
}

/* AT_ flags of a call, for the lookup, and for the host's call on what it found. */
static unsigned path_flags(uint64_t flags)
{
    return (flags & AT_SYMLINK_NOFOLLOW ? EMU_PATH_NOFOLLOW : 0) | (flags & AT_EMPTY_PATH ? EMU_PATH_EMPTY : 0);
}

static uint64_t at_flags(uint64_t flags, const emu_path *path)
{
    return (flags & ~(uint64_t)(AT_SYMLINK_NOFOLLOW)) | (uint32_t)path->at_flags;
}

static int64_t stat_path(emu_thread *thread, int dir, uint64_t path_addr, uint64_t addr, uint32_t flags, bool wide)
{
    emu_path path;
    struct stat st;
    int status = emu_path_read(thread->process, dir, path_addr, path_flags(flags), &path);
    if (status)
        return status;
    long result = HOST4(SYS_newfstatat, path.dir, path.host, &st, at_flags(flags, &path));
    emu_path_done(&path);
    return result < 0 ? result : put_stat(thread, addr, &st, wide);
}

static int64_t stat_fd(emu_thread *thread, int fd, uint64_t addr, bool wide)
{
    struct stat st;
    long result = HOST2(SYS_fstat, fd, &st);
    return result < 0 ? result : put_stat(thread, addr, &st, wide);
}

int64_t emu_sys_stat(emu_thread *thread, const uint64_t *args)
{
    return stat_path(thread, AT_FDCWD, args[0], args[1], 0, false);
}

int64_t emu_sys_lstat(emu_thread *thread, const uint64_t *args)
{
    return stat_path(thread, AT_FDCWD, args[0], args[1], AT_SYMLINK_NOFOLLOW, false);
}

int64_t emu_sys_fstat(emu_thread *thread, const uint64_t *args)
{
    return stat_fd(thread, (int)args[0], args[1], false);
}

/* Also fstatat64 of 32-bit ABIs. */
int64_t emu_sys_newfstatat(emu_thread *thread, const uint64_t *args)
{
    return stat_path(thread, (int)args[0], args[1], args[2], (uint32_t)args[3], true);
}

int64_t emu_sys_stat64(emu_thread *thread, const uint64_t *args)
{
    return stat_path(thread, AT_FDCWD, args[0], args[1], 0, true);
}

int64_t emu_sys_lstat64(emu_thread *thread, const uint64_t *args)
{
    return stat_path(thread, AT_FDCWD, args[0], args[1], AT_SYMLINK_NOFOLLOW, true);
}

int64_t emu_sys_fstat64(emu_thread *thread, const uint64_t *args)
{
    return stat_fd(thread, (int)args[0], args[1], true);
}

/* A path that may be NULL, which means the descriptor: the call gets NULL too. */
static int optional_path(emu_thread *thread, int dir, uint64_t addr, unsigned flags, emu_path *path, const char **host)
{
    path->dir = dir;
    path->held = -1;
    path->at_flags = flags & EMU_PATH_NOFOLLOW ? AT_SYMLINK_NOFOLLOW : 0;
    *host = addr ? path->host : NULL;
    if (addr == 0)
        return flags & EMU_PATH_CHANGE && emu_path_outside(thread->process, dir) ? -EPERM : 0;
    return emu_path_read(thread->process, dir, addr, flags, path);
}

int64_t emu_sys_statx(emu_thread *thread, const uint64_t *args)
{
    enum { SIZE = 256 };
    emu_path path;
    const char *host;
    if (!inside(thread, args[4], SIZE))
        return -EFAULT;
    int status = optional_path(thread, (int)args[0], args[1], path_flags(args[2]), &path, &host);
    if (status)
        return status;
    long result = HOST5(SYS_statx, path.dir, host, at_flags(args[2], &path), args[3], pointer(thread, args[4]));
    emu_path_done(&path);
    return result;
}

static uint32_t saturated(uint64_t value)
{
    return value > UINT32_MAX ? UINT32_MAX : (uint32_t)value;
}

static int64_t put_statfs(emu_thread *thread, uint64_t addr, const struct statfs *fs)
{
    uint32_t small[16] = {0};
    if (!is_32(thread))
        return put(thread, addr, fs, sizeof *fs);
    if ((fs->f_blocks | fs->f_bfree | fs->f_bavail | (uint64_t)fs->f_bsize | (uint64_t)fs->f_frsize) >> 32)
        return -EOVERFLOW;
    small[0] = (uint32_t)fs->f_type;
    small[1] = (uint32_t)fs->f_bsize;
    small[2] = (uint32_t)fs->f_blocks;
    small[3] = (uint32_t)fs->f_bfree;
    small[4] = (uint32_t)fs->f_bavail;
    small[5] = saturated(fs->f_files);
    small[6] = saturated(fs->f_ffree);
    memcpy(&small[7], &fs->f_fsid, 8);
    small[9] = (uint32_t)fs->f_namelen;
    small[10] = (uint32_t)fs->f_frsize;
    small[11] = (uint32_t)fs->f_flags;
    return put(thread, addr, small, sizeof small);
}

/* arm's struct statfs64: packed to 4 bytes, 84 in all; the C library may say 88. */
static int64_t put_statfs64(emu_thread *thread, uint64_t addr, uint64_t size, const struct statfs *fs)
{
    struct __attribute__((packed, aligned(4))) {
        uint32_t type, bsize;
        uint64_t blocks, bfree, bavail, files, ffree;
        uint32_t fsid[2], namelen, frsize, flags, spare[4];
    } out = {
        .type = (uint32_t)fs->f_type,
        .bsize = (uint32_t)fs->f_bsize,
        .blocks = fs->f_blocks,
        .bfree = fs->f_bfree,
        .bavail = fs->f_bavail,
        .files = fs->f_files,
        .ffree = fs->f_ffree,
        .namelen = (uint32_t)fs->f_namelen,
        .frsize = (uint32_t)fs->f_frsize,
        .flags = (uint32_t)fs->f_flags,
    };
    _Static_assert(sizeof out == 84, "struct statfs64 of arm");
    memcpy(out.fsid, &fs->f_fsid, sizeof out.fsid);
    if (size != 84 && size != 88)
        return -EINVAL;
    return put(thread, addr, &out, sizeof out);
}

static int64_t statfs_path(emu_thread *thread, uint64_t addr, struct statfs *fs)
{
    emu_path path;
    int status = emu_path_read(thread->process, AT_FDCWD, addr, 0, &path);
    if (status)
        return status;
    long result = HOST2(SYS_statfs, path.host, fs);
    emu_path_done(&path);
    return result;
}

int64_t emu_sys_statfs(emu_thread *thread, const uint64_t *args)
{
    struct statfs fs;
    int64_t result = statfs_path(thread, args[0], &fs);
    return result < 0 ? result : put_statfs(thread, args[1], &fs);
}

int64_t emu_sys_fstatfs(emu_thread *thread, const uint64_t *args)
{
    struct statfs fs;
    long result = HOST2(SYS_fstatfs, args[0], &fs);
    return result < 0 ? result : put_statfs(thread, args[1], &fs);
}

int64_t emu_sys_statfs64(emu_thread *thread, const uint64_t *args)
{
    struct statfs fs;
    int64_t result = statfs_path(thread, args[0], &fs);
    return result < 0 ? result : put_statfs64(thread, args[2], args[1], &fs);
}

int64_t emu_sys_fstatfs64(emu_thread *thread, const uint64_t *args)
{
    struct statfs fs;
    long result = HOST2(SYS_fstatfs, args[0], &fs);
    return result < 0 ? result : put_statfs64(thread, args[2], args[1], &fs);
}

int64_t emu_sys_faccessat2(emu_thread *thread, const uint64_t *args)
{
    emu_path path;
    int status = emu_path_read(thread->process, (int)args[0], args[1], path_flags(args[3]), &path);
    if (status)
        return status;
    long result = HOST4(SYS_faccessat2, path.dir, path.host, args[2], at_flags(args[3], &path));
    emu_path_done(&path);
    return result;
}

int64_t emu_sys_fchownat(emu_thread *thread, const uint64_t *args)
{
    emu_path path;
    int status = emu_path_read(thread->process, (int)args[0], args[1], path_flags(args[4]) | EMU_PATH_CHANGE, &path);
    if (status)
        return status;
    long result = HOST5(SYS_fchownat, path.dir, path.host, args[2], args[3], at_flags(args[4], &path));
    emu_path_done(&path);
    return result;
}

static int64_t set_times(emu_thread *thread, const uint64_t *args, bool wide)
{
    emu_path path;
    const char *host;
    struct timespec times[2];
    uint64_t size = wide || !is_32(thread) ? 16 : 8;
    if (args[2] && (get_timespec(thread, args[2], &times[0], wide) ||
                    get_timespec(thread, args[2] + size, &times[1], wide)))
        return -EFAULT;
    int status = optional_path(thread, (int)args[0], args[1], path_flags(args[3]) | EMU_PATH_CHANGE, &path, &host);
    if (status)
        return status;
    long result = HOST4(SYS_utimensat, path.dir, host, args[2] ? times : NULL, at_flags(args[3], &path));
    emu_path_done(&path);
    return result;
}

int64_t emu_sys_utimensat(emu_thread *thread, const uint64_t *args)
{
    return set_times(thread, args, false);
}

int64_t emu_sys_utimensat_time64(emu_thread *thread, const uint64_t *args)
{
    return set_times(thread, args, true);
}

/* ---- names -------------------------------------------------------------------------------------------------- */

int64_t emu_sys_getcwd(emu_thread *thread, const uint64_t *args)
{
    char host[PATH_MAX], guest[PATH_MAX];
    if (thread->process->root != NULL) {
        int status = emu_path_position(thread->process, AT_FDCWD, guest);
        if (status)
            return status;
    } else {
        long result = HOST2(SYS_getcwd, host, sizeof host);
        if (result < 0)
            return result;
        emu_path_guest(thread->process, host, guest);
    }
    size_t size = strlen(guest) + 1;
    if (size > args[1])
        return -ERANGE;
    return put(thread, args[0], guest, size) ? -EFAULT : (int64_t)size;
}

int64_t emu_sys_chdir(emu_thread *thread, const uint64_t *args)
{
    emu_path path;
    int status = emu_path_read(thread->process, AT_FDCWD, args[0], 0, &path);
    if (status)
        return status;
    /* Nothing could be found from there. */
    bool own = thread->process->root != NULL && path.own != EMU_OWN_NONE &&
               (path.own != EMU_OWN_FD || emu_path_outside(thread->process, (int)path.number));
    long result = own ? -EACCES : HOST2(SYS_chdir, path.host, 0);
    emu_path_done(&path);
    return result;
}

int64_t emu_sys_chroot(emu_thread *thread, const uint64_t *args)
{
    char path[PATH_MAX];
    int64_t length = umem_string(umem_of(thread), args[0], path, sizeof path);
    return length < 0 ? length : emu_path_chroot(thread->process, path);
}

static bool in_proc(const char *path)
{
    return strncmp(path, "/proc/", 6) == 0;
}

static int64_t link_text(emu_process *process, const char *guest, emu_path *path, char target[PATH_MAX])
{
    char host[PATH_MAX];
    if (path->own == EMU_OWN_LINK)
        return emu_own_link(process, path, target);
    long result = path->held >= 0 ? HOST4(SYS_readlinkat, path->held, "", target, PATH_MAX - 1)
                                  : HOST4(SYS_readlinkat, path->dir, path->host, target, PATH_MAX - 1);
    if (result < 0)
        return path->held >= 0 && result == -ENOENT ? -EINVAL : result;
    target[result] = 0;
    /* What the kernel makes up for /proc is a host path; a link's own text stays as it is. */
    if (target[0] == '/' && (path->own != EMU_OWN_NONE || (process->root == NULL && in_proc(guest)))) {
        memcpy(host, target, (size_t)result + 1);
        emu_path_guest(process, host, target);
    }
    return 0;
}

static int64_t read_link(emu_thread *thread, int dir, uint64_t addr, uint64_t to, int64_t room)
{
    char guest[PATH_MAX], target[PATH_MAX];
    emu_path path;
    int64_t length = umem_string(umem_of(thread), addr, guest, sizeof guest);
    if (length < 0)
        return length;
    if (room <= 0)
        return -EINVAL;
    /* "" is a symlink's descriptor. */
    int64_t status = emu_path_find(thread->process, dir, guest, EMU_PATH_NOFOLLOW | EMU_PATH_EMPTY, &path);
    if (status == 0)
        status = link_text(thread->process, guest, &path, target);
    emu_path_done(&path);
    if (status < 0)
        return status;
    length = (int64_t)strlen(target);
    if (length > room)
        length = room;
    return put(thread, to, target, (size_t)length) ? -EFAULT : length;
}

int64_t emu_sys_readlink(emu_thread *thread, const uint64_t *args)
{
    return read_link(thread, AT_FDCWD, args[0], args[1], (int64_t)args[2]);
}

int64_t emu_sys_readlinkat(emu_thread *thread, const uint64_t *args)
{
    return read_link(thread, (int)args[0], args[1], args[2], (int64_t)args[3]);
}

int64_t emu_sys_linkat(emu_thread *thread, const uint64_t *args)
{
    emu_path from, to;
    uint64_t flags = args[4];
    unsigned how = (flags & AT_SYMLINK_FOLLOW ? 0 : EMU_PATH_NAME) | (flags & AT_EMPTY_PATH ? EMU_PATH_EMPTY : 0);
    int status = emu_path_read(thread->process, (int)args[0], args[1], how | EMU_PATH_CHANGE, &from);
    if (status)
        return status;
    status = emu_path_read(thread->process, (int)args[2], args[3], EMU_PATH_NAME, &to);
    if (from.at_flags & AT_EMPTY_PATH)
        from.dir = (int)args[0];
    long result = status ? status : HOST5(SYS_linkat, from.dir, from.host, to.dir, to.host, flags);
    emu_path_done(&from);
    emu_path_done(&to);
    return result;
}

int64_t emu_sys_mount(emu_thread *thread, const uint64_t *args)
{
    emu_path source, target;
    const char *from = pointer(thread, args[0]);
    if (thread->process->root != NULL)
        return -EPERM;
    int status = emu_path_read(thread->process, AT_FDCWD, args[1], 0, &target);
    if (status)
        return status;
    if (args[0] && args[3] & (MS_BIND | MS_MOVE)) {
        status = emu_path_read(thread->process, AT_FDCWD, args[0], 0, &source);
        if (status)
            return status;
        from = source.host;
    }
    return HOST5(SYS_mount, from, target.host, pointer(thread, args[2]), args[3], pointer(thread, args[4]));
}

int64_t emu_sys_inotify_add_watch(emu_thread *thread, const uint64_t *args)
{
    emu_path path;
    uint32_t mask = (uint32_t)args[2];
    int status = emu_path_read(thread->process, AT_FDCWD, args[1], mask & IN_DONT_FOLLOW ? EMU_PATH_NOFOLLOW : 0, &path);
    if (status)
        return status;
    if (path.held >= 0)
        mask &= ~(uint32_t)IN_DONT_FOLLOW;
    long result = thread->process->root != NULL && path.own != EMU_OWN_NONE
                      ? -EACCES
                      : HOST3(SYS_inotify_add_watch, args[0], path.host, mask);
    emu_path_done(&path);
    return result;
}

/* ---- arguments in another order ---------------------------------------------------------------------------- */

int64_t emu_sys_arm_fadvise64_64(emu_thread *thread, const uint64_t *args)
{
    return HOST4(SYS_fadvise64, args[0], args[2], args[3], args[1]);
}

int64_t emu_sys_arm_sync_file_range(emu_thread *thread, const uint64_t *args)
{
    return HOST4(SYS_sync_file_range, args[0], args[2], args[3], args[1]);
}
