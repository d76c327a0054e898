/* The 9P server's calls that look at files and change them. */
#include "p9_private.h"

#include "virtqueue.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

/* Linux' flags as the protocol has them: those of most of its ports, x86's among them. */
enum {
    L_ACCMODE = 3,
    L_CREAT = 0100,
    L_EXCL = 0200,
    L_TRUNC = 01000,
    L_APPEND = 02000,
    L_DSYNC = 010000,
    L_DIRECTORY = 0200000,
    L_REMOVEDIR = 0x200, /* AT_REMOVEDIR */
};

enum { /* of Tsetattr */
    SET_MODE = 1,
    SET_UID = 2,
    SET_GID = 4,
    SET_SIZE = 8,
    SET_ATIME = 0x10,
    SET_MTIME = 0x20,
    SET_ATIME_GIVEN = 0x80,
    SET_MTIME_GIVEN = 0x100,
};

/* What a descriptor that only names a file is opened again by. */
struct again {
    char path[32];
};

static struct again again(int fd)
{
    struct again name;
    snprintf(name.path, sizeof name.path, "/proc/self/fd/%d", fd);
    return name;
}

/* A guest's file must not become the host's set-user-ID program. */
static mode_t safe_mode(uint32_t mode, bool folder) { return mode & (folder ? 01777 | S_ISGID : 01777); }

static int flags_of(uint32_t given)
{
    int flags = (int)(given & L_ACCMODE) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | O_NOFOLLOW;
    flags |= (given & L_TRUNC ? O_TRUNC : 0) | (given & L_APPEND ? O_APPEND : 0);
    flags |= (given & L_EXCL ? O_EXCL : 0) | (given & L_DSYNC ? O_DSYNC : 0);
    return flags | (given & L_DIRECTORY ? O_DIRECTORY : 0);
}

static int read_only_flags(const emu_p9 *s, uint32_t given)
{
    bool writes = (given & L_ACCMODE) != 0 || (given & (L_TRUNC | L_CREAT));
    return s->read_only && writes ? EROFS : 0;
}

int p9_lopen(emu_p9 *s, struct p9_message *t, struct p9_message *r)
{
    struct p9_fid *fid = p9_find(s, p9_take32(t));
    uint32_t given = p9_take32(t);
    struct stat st;
    if (fid == NULL || fid->file >= 0)
        return EBADF;
    int error = read_only_flags(s, given);
    if (error != 0)
        return error;
    if (fstat(fid->path, &st) != 0)
        return errno;
    if (S_ISLNK(st.st_mode))
        return ELOOP;
    if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
        return ENXIO; /* the guest's kernel serves pipes and devices itself */
    /* the name is the kernel's own link to what was found; its last step is that link */
    fid->file = open(again(fid->path).path, flags_of(given & ~(uint32_t)(L_CREAT | L_EXCL)) & ~O_NOFOLLOW);
    if (fid->file < 0)
        return errno;
    p9_put_qid(r, &st);
    p9_put(r, 0, 4); /* iounit: what msize allows */
    return 0;
}

int p9_lcreate(emu_p9 *s, struct p9_message *t, struct p9_message *r)
{
    char name[P9_NAME_MAX + 1];
    struct p9_fid *fid = p9_find(s, p9_take32(t));
    p9_take_string(t, name, sizeof name);
    uint32_t given = p9_take32(t), mode = p9_take32(t);
    struct stat st;
    p9_take32(t); /* a group: files are the server's own user's */
    if (t->bad || !p9_is_name(name))
        return EINVAL;
    if (fid == NULL || fid->file >= 0)
        return EBADF;
    int file = openat(fid->path, name, flags_of(given) | O_CREAT, safe_mode(mode, false));
    if (file < 0)
        return errno;
    int error = fstat(file, &st) != 0 ? errno : S_ISREG(st.st_mode) ? 0 : ENXIO;
    int path = error == 0 ? open(again(file).path, O_PATH | O_CLOEXEC) : -1;
    if (path < 0) {
        error = error != 0 ? error : errno;
        close(file);
        return error;
    }
    close(fid->path); /* the fid is the file's from now on */
    fid->path = path;
    fid->file = file;
    fid->root = false;
    p9_put_qid(r, &st);
    p9_put(r, 0, 4);
    return 0;
}

/* ---- what makes names ------------------------------------------------------------------- */

/* The qid of what `name` is now. */
static int answer_new(int folder, const char *name, struct p9_message *r)
{
    struct stat st;
    if (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno;
    p9_put_qid(r, &st);
    return 0;
}

int p9_symlink(emu_p9 *s, struct p9_message *t, struct p9_message *r)
{
    char name[P9_NAME_MAX + 1], target[4096];
    struct p9_fid *fid = p9_find(s, p9_take32(t));
    p9_take_string(t, name, sizeof name);
    p9_take_string(t, target, sizeof target);
    if (t->bad || !p9_is_name(name))
        return EINVAL;
    if (fid == NULL)
        return EBADF;
    return symlinkat(target, fid->path, name) != 0 ? errno : answer_new(fid->path, name, r);
}

int p9_mknod(emu_p9 *s, struct p9_message *t, struct p9_message *r)
{
    char name[P9_NAME_MAX + 1];
    struct p9_fid *fid = p9_find(s, p9_take32(t));
    p9_take_string(t, name, sizeof name);
    uint32_t mode = p9_take32(t);
    if (t->bad || !p9_is_name(name))
        return EINVAL;
    if (fid == NULL)
        return EBADF;
    if (S_ISCHR(mode) || S_ISBLK(mode))
        return EPERM; /* it would be a device of the host's */
    mode_t kind = (mode & S_IFMT) ? mode & S_IFMT : S_IFREG;
    return mknodat(fid->path, name, kind | safe_mode(mode, false), 0) != 0 ? errno : answer_new(fid->path, name, r);
}

int p9_mkdir(emu_p9 *s, struct p9_message *t, struct p9_message *r)
{
    char name[P9_NAME_MAX + 1];
    struct p9_fid *fid = p9_find(s, p9_take32(t));
    p9_take_string(t, name, sizeof name);
    uint32_t mode = p9_take32(t);
    if (t->bad || !p9_is_name(name))
        return EINVAL;
    if (fid == NULL)
        return EBADF;
    return mkdirat(fid->path, name, safe_mode(mode, true)) != 0 ? errno : answer_new(fid->path, name, r);
}

int p9_link(emu_p9 *s, struct p9_message *t, struct p9_message *r)
{
    char name[P9_NAME_MAX + 1];
    struct p9_fid *folder = p9_find(s, p9_take32(t)), *fid = p9_find(s, p9_take32(t));
    struct stat st;
    p9_take_string(t, name, sizeof name);
    if (t->bad || !p9_is_name(name))
        return EINVAL;
    if (folder == NULL || fid == NULL)
        return EBADF;
    if (fstat(fid->path, &st) != 0)
        return errno;
    if (S_ISLNK(st.st_mode))
        return EPERM; /* by its name the kernel would link what it points at */
    return linkat(AT_FDCWD, again(fid->path).path, folder->path, name, AT_SYMLINK_FOLLOW) != 0 ? errno : 0;
}

int p9_renameat(emu_p9 *s, struct p9_message *t, struct p9_message *r)
{
    char old[P9_NAME_MAX + 1], new[P9_NAME_MAX + 1];
    struct p9_fid *from = p9_find(s, p9_take32(t));
    p9_take_string(t, old, sizeof old);
    struct p9_fid *to = p9_find(s, p9_take32(t));
    p9_take_string(t, new, sizeof new);
    if (t->bad || !p9_is_name(old) || !p9_is_name(new))
        return EINVAL;
    if (from == NULL || to == NULL)
        return EBADF;
    return renameat(from->path, old, to->path, new) != 0 ? errno : 0;
}

/* A fid knows its file and not its name: Linux' client renames by Trenameat, and removes by Tunlinkat. */
int p9_rename(emu_p9 *s, struct p9_message *t, struct p9_message *r) { return EOPNOTSUPP; }

int p9_remove(emu_p9 *s, struct p9_message *t, struct p9_message *r)
{
    struct p9_fid *fid = p9_find(s, p9_take32(t));
    if (fid == NULL)
        return EBADF;
    p9_drop(s, fid); /* whatever else happens (remove(5)) */
    return EOPNOTSUPP;
}

int p9_unlinkat(emu_p9 *s, struct p9_message *t, struct p9_message *r)
{
    char name[P9_NAME_MAX + 1];
    struct p9_fid *fid = p9_find(s, p9_take32(t));
    p9_take_string(t, name, sizeof name);
    uint32_t flags = p9_take32(t);
    if (t->bad || !p9_is_name(name))
        return EINVAL;
    if (fid == NULL)
        return EBADF;
    return unlinkat(fid->path, name, (flags & L_REMOVEDIR) ? AT_REMOVEDIR : 0) != 0 ? errno : 0;
}

/* ---- what looks -------------------------------------------------------------------------- */

int p9_getattr(emu_p9 *s, struct p9_message *t, struct p9_message *r)
{
    struct p9_fid *fid = p9_find(s, p9_take32(t));
    struct stat st;
    if (fid == NULL)
        return EBADF;
    if (fstat(fid->path, &st) != 0)
        return errno;
    p9_put(r, 0x7ff, 8); /* valid: the basic ones */
    p9_put_qid(r, &st);
    p9_put(r, st.st_mode, 4);
    p9_put(r, st.st_uid, 4);
    p9_put(r, st.st_gid, 4);
    p9_put(r, st.st_nlink, 8);
    p9_put(r, major(st.st_rdev) << 20 | minor(st.st_rdev), 8);
    p9_put(r, (uint64_t)st.st_size, 8);
    p9_put(r, (uint64_t)st.st_blksize, 8);
    p9_put(r, (uint64_t)st.st_blocks, 8);
    const struct timespec *times[] = {&st.st_atim, &st.st_mtim, &st.st_ctim};
    for (int i = 0; i < 3; i++) {
        p9_put(r, (uint64_t)times[i]->tv_sec, 8);
        p9_put(r, (uint64_t)times[i]->tv_nsec, 8);
    }
    for (int i = 0; i < 4; i++) /* time of birth, generation, data version: not known */
        p9_put(r, 0, 8);
    return 0;
}

int p9_readlink(emu_p9 *s, struct p9_message *t, struct p9_message *r)
{
    struct p9_fid *fid = p9_find(s, p9_take32(t));
    char target[4096];
    if (fid == NULL)
        return EBADF;
    ssize_t length = readlinkat(fid->path, "", target, sizeof target - 1);
    if (length < 0)
        return errno;
    target[length] = 0;
    p9_put_string(r, target);
    return 0;
}

int p9_statfs(emu_p9 *s, struct p9_message *t, struct p9_message *r)
{
    struct p9_fid *fid = p9_find(s, p9_take32(t));
    struct statfs st;
    if (fid == NULL)
        return EBADF;
    if (fstatfs(fid->path, &st) != 0)
        return errno;
    p9_put(r, 0x01021997, 4); /* V9FS_MAGIC */
    p9_put(r, (uint32_t)st.f_bsize, 4);
    p9_put(r, st.f_blocks, 8);
    p9_put(r, st.f_bfree, 8);
    p9_put(r, st.f_bavail, 8);
    p9_put(r, st.f_files, 8);
    p9_put(r, st.f_ffree, 8);
    p9_put(r, (uint32_t)st.f_fsid.__val[0] | (uint64_t)(uint32_t)st.f_fsid.__val[1] << 32, 8);
    p9_put(r, P9_NAME_MAX, 4);
    return 0;
}

struct entry { /* linux_dirent64 */
    uint64_t inode;
    int64_t next;
    uint16_t size;
    uint8_t type;
    char name[];
};

int p9_readdir(emu_p9 *s, struct p9_message *t, struct p9_message *r)
{
    struct p9_fid *fid = p9_find(s, p9_take32(t));
    uint64_t offset = p9_take64(t);
    uint32_t count = p9_take32(t);
    _Alignas(8) char buffer[8192];
    if (fid == NULL || fid->file < 0)
        return EBADF;
    if (t->bad || offset > INT64_MAX)
        return EINVAL;
    if (lseek(fid->file, (off_t)offset, SEEK_SET) < 0)
        return errno;
    p9_put(r, 0, 4);
    uint32_t start = r->at, room = r->size - r->at < count ? r->size - r->at : count;
    for (bool full = false; !full;) {
        long got = syscall(SYS_getdents64, fid->file, buffer, sizeof buffer);
        if (got < 0)
            return errno;
        if (got == 0)
            break;
        for (long at = 0; at < got;) {
            const struct entry *entry = (const struct entry *)(buffer + at);
            struct stat st;
            at += entry->size;
            bool above = strcmp(entry->name, "..") == 0;
            if (fstatat(fid->path, above ? "" : entry->name, &st, AT_SYMLINK_NOFOLLOW | (above ? AT_EMPTY_PATH : 0)) != 0)
                continue; /* gone meanwhile */
            if (r->at - start + 24 + strlen(entry->name) > room) {
                full = true;
                break;
            }
            p9_put_qid(r, &st);
            p9_put(r, (uint64_t)entry->next, 8);
            p9_put(r, entry->type, 1);
            p9_put_string(r, entry->name);
        }
    }
    uint32_t size = r->at - start;
    memcpy(r->data + start - 4, &size, 4);
    return 0;
}

/* ---- what changes -------------------------------------------------------------------------- */

static struct timespec time_of(uint32_t set, uint32_t which, uint32_t given, uint64_t sec, uint64_t nsec)
{
    if (!(set & which))
        return (struct timespec){.tv_nsec = UTIME_OMIT};
    if (!(set & given))
        return (struct timespec){.tv_nsec = UTIME_NOW};
    return (struct timespec){.tv_sec = (time_t)sec, .tv_nsec = (long)(nsec < 1000000000 ? nsec : 0)};
}

int p9_setattr(emu_p9 *s, struct p9_message *t, struct p9_message *r)
{
    struct p9_fid *fid = p9_find(s, p9_take32(t));
    uint32_t set = p9_take32(t), mode = p9_take32(t), uid = p9_take32(t), gid = p9_take32(t);
    uint64_t size = p9_take64(t), atime = p9_take64(t), atime_ns = p9_take64(t);
    uint64_t mtime = p9_take64(t), mtime_ns = p9_take64(t);
    struct stat st;
    if (t->bad)
        return EINVAL;
    if (fid == NULL)
        return EBADF;
    if (fstat(fid->path, &st) != 0)
        return errno;
    struct again name = again(fid->path);
    bool regular = S_ISREG(st.st_mode), folder = S_ISDIR(st.st_mode);
    if (set & (SET_UID | SET_GID)) {
        uid_t user = (set & SET_UID) ? uid : (uid_t)-1;
        gid_t group = (set & SET_GID) ? gid : (gid_t)-1;
        /* who may not give files away keeps them: as for a guest without root on the host */
        if (fchownat(fid->path, "", user, group, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) != 0 && errno != EPERM)
            return errno;
    }
    if ((set & SET_MODE) && (regular || folder) && chmod(name.path, safe_mode(mode, folder)) != 0)
        return errno;
    if (set & SET_SIZE) {
        if (!regular)
            return folder ? EISDIR : EINVAL;
        if (size > INT64_MAX || (fid->file >= 0 ? ftruncate(fid->file, (off_t)size) : truncate(name.path, (off_t)size)) != 0)
            return size > INT64_MAX ? EFBIG : errno;
    }
    if ((set & (SET_ATIME | SET_MTIME)) && (regular || folder)) {
        struct timespec times[2] = {
            time_of(set, SET_ATIME, SET_ATIME_GIVEN, atime, atime_ns),
            time_of(set, SET_MTIME, SET_MTIME_GIVEN, mtime, mtime_ns),
        };
        if (utimensat(AT_FDCWD, name.path, times, 0) != 0)
            return errno;
    }
    return 0;
}

int p9_fsync(emu_p9 *s, struct p9_message *t, struct p9_message *r)
{
    struct p9_fid *fid = p9_find(s, p9_take32(t));
    uint32_t data = p9_take32(t);
    if (fid == NULL || fid->file < 0)
        return EBADF;
    return (data ? fdatasync(fid->file) : fsync(fid->file)) != 0 ? errno : 0;
}

/* Locks are the guest's kernel's own affair: nobody else of this server could hold one. */
int p9_lock(emu_p9 *s, struct p9_message *t, struct p9_message *r)
{
    if (p9_find(s, p9_take32(t)) == NULL)
        return EBADF;
    p9_put(r, 0, 1); /* success */
    return 0;
}

int p9_getlock(emu_p9 *s, struct p9_message *t, struct p9_message *r)
{
    char client[256];
    if (p9_find(s, p9_take32(t)) == NULL)
        return EBADF;
    p9_take8(t);
    uint64_t start = p9_take64(t), length = p9_take64(t);
    uint32_t process = p9_take32(t);
    p9_take_string(t, client, sizeof client);
    p9_put(r, 2, 1); /* nobody's */
    p9_put(r, start, 8);
    p9_put(r, length, 8);
    p9_put(r, process, 4);
    p9_put_string(r, client);
    return 0;
}

/* ---- file data ------------------------------------------------------------------------------- */

/* What Tread and Twrite begin with, and where their data is: in the request or the answer, behind its header. */
struct transfer {
    struct p9_fid *fid;
    off_t offset;
    uint32_t count;
    struct iovec copy[EMU_CHAIN_MAX], *at;
    int parts;
};

/* The data's place, `most` bytes of it; false: the message is too short for its header. */
static bool place(struct transfer *x, const struct iovec *from, int count, uint64_t header, uint64_t most)
{
    x->at = x->copy;
    x->parts = count;
    memcpy(x->copy, from, (size_t)count * sizeof *from);
    if (!emu_iov_skip(&x->at, &x->parts, header))
        return false;
    uint64_t room = emu_iov_size(x->at, x->parts);
    return most >= room || emu_iov_cut(x->at, &x->parts, room - most);
}

static int begin(emu_p9 *s, struct p9_message *t, struct transfer *x)
{
    x->fid = p9_find(s, p9_take32(t));
    uint64_t offset = p9_take64(t);
    x->offset = (off_t)offset;
    x->count = p9_take32(t);
    if (t->bad || offset > INT64_MAX || s->in_count > (int)EMU_CHAIN_MAX || s->out_count > (int)EMU_CHAIN_MAX)
        return EINVAL;
    return x->fid == NULL || x->fid->file < 0 ? EBADF : 0;
}

int p9_read(emu_p9 *s, struct p9_message *t, uint64_t *done)
{
    struct transfer x;
    int error = begin(s, t, &x);
    uint32_t header = P9_HEADER + 4, most = s->msize - header;
    if (error != 0)
        return error;
    if (!place(&x, s->in, s->in_count, header, x.count < most ? x.count : most))
        return EINVAL;
    ssize_t got = x.parts == 0 ? 0 : preadv(x.fid->file, x.at, x.parts, x.offset);
    if (got < 0)
        return errno;
    *done = (uint64_t)got;
    return 0;
}

int p9_write(emu_p9 *s, struct p9_message *t, uint64_t *done)
{
    struct transfer x;
    int error = begin(s, t, &x);
    if (error != 0)
        return error;
    if (!place(&x, s->out, s->out_count, t->at, x.count) || emu_iov_size(x.at, x.parts) != x.count)
        return EINVAL;
    ssize_t put = x.parts == 0 ? 0 : pwritev(x.fid->file, x.at, x.parts, x.offset);
    if (put < 0)
        return errno;
    *done = (uint64_t)put;
    return 0;
}
