/* The 9P server: what a client holds, look-ups, and which call answers what. */
#include "p9_private.h"

#include "virtqueue.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- fids ---------------------------------------------------------------------- */

static struct p9_fid *slot(struct p9_fid *fids, uint32_t slots, uint32_t number)
{
    uint32_t at = number * UINT32_C(2654435761) & (slots - 1);
    while (fids[at].path >= 0 && fids[at].number != number)
        at = (at + 1) & (slots - 1);
    return &fids[at];
}

struct p9_fid *p9_find(emu_p9 *s, uint32_t number)
{
    if (s->slots == 0)
        return NULL;
    struct p9_fid *fid = slot(s->fids, s->slots, number);
    return fid->path >= 0 ? fid : NULL;
}

static bool grow(emu_p9 *s)
{
    uint32_t slots = s->slots == 0 ? 64 : 2 * s->slots;
    struct p9_fid *more = calloc(slots, sizeof *more);
    if (more == NULL)
        return false;
    for (uint32_t i = 0; i < slots; i++)
        more[i].path = more[i].file = -1;
    for (uint32_t i = 0; i < s->slots; i++)
        if (s->fids[i].path >= 0)
            *slot(more, slots, s->fids[i].number) = s->fids[i];
    free(s->fids);
    s->fids = more;
    s->slots = slots;
    return true;
}

int p9_add(emu_p9 *s, uint32_t number, int path, bool root)
{
    int error = 0;
    if (p9_find(s, number) != NULL)
        error = EBADF;
    else if (s->used >= P9_FIDS || (2 * s->used >= s->slots && !grow(s)))
        error = ENFILE;
    if (error != 0) {
        close(path);
        return error;
    }
    *slot(s->fids, s->slots, number) = (struct p9_fid){number, path, -1, root};
    s->used++;
    return 0;
}

void p9_drop(emu_p9 *s, struct p9_fid *fid)
{
    close(fid->path);
    if (fid->file >= 0)
        close(fid->file);
    fid->path = fid->file = -1;
    s->used--;
    /* what was pushed past this slot moves up */
    uint32_t at = (uint32_t)(fid - s->fids);
    for (;;) {
        at = (at + 1) & (s->slots - 1);
        if (s->fids[at].path < 0)
            break;
        struct p9_fid moved = s->fids[at];
        s->fids[at].path = s->fids[at].file = -1;
        *slot(s->fids, s->slots, moved.number) = moved;
    }
}

void emu_p9_reset(emu_p9 *s)
{
    for (uint32_t i = 0; i < s->slots; i++) {
        if (s->fids[i].path >= 0)
            close(s->fids[i].path);
        if (s->fids[i].file >= 0)
            close(s->fids[i].file);
    }
    free(s->fids);
    s->fids = NULL;
    s->slots = s->used = 0;
    s->msize = P9_MSIZE;
}

emu_p9 *emu_p9_new(int root, int read_only)
{
    emu_p9 *s = calloc(1, sizeof *s);
    if (s == NULL) {
        close(root);
        return NULL;
    }
    s->root = root;
    s->read_only = read_only != 0;
    s->msize = P9_MSIZE;
    return s;
}

void emu_p9_free(emu_p9 *s)
{
    if (s == NULL)
        return;
    emu_p9_reset(s);
    close(s->root);
    free(s);
}

/* ---- look-ups ---------------------------------------------------------------------- */

bool p9_is_name(const char *name)
{
    size_t length = strlen(name);
    return length != 0 && length <= P9_NAME_MAX && strchr(name, '/') == NULL && strcmp(name, ".") != 0 &&
           strcmp(name, "..") != 0;
}

int p9_step(int folder, const char *name)
{
    struct open_how how = {
        .flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
    };
    if (!p9_is_name(name))
        return -ENOENT;
    int fd = (int)syscall(SYS_openat2, folder, name, &how, sizeof how);
    return fd < 0 ? -errno : fd;
}

void p9_put_qid(struct p9_message *m, const struct stat *st)
{
    uint8_t type = S_ISDIR(st->st_mode) ? P9_QID_DIR : S_ISLNK(st->st_mode) ? P9_QID_LINK : 0;
    uint32_t version = (uint32_t)st->st_mtim.tv_sec ^ (uint32_t)st->st_mtim.tv_nsec ^ (uint32_t)st->st_size << 8;
    p9_put(m, type, 1);
    p9_put(m, version, 4);
    /* files of other file systems that are mounted below must not look the same */
    p9_put(m, st->st_ino ^ (uint64_t)st->st_dev << 48 ^ (uint64_t)st->st_dev >> 16, 8);
}

static int version(emu_p9 *s, struct p9_message *t, struct p9_message *r)
{
    char name[32];
    uint32_t msize = p9_take32(t);
    p9_take_string(t, name, sizeof name);
    if (t->bad || msize < 4096)
        return EINVAL;
    emu_p9_reset(s);
    s->msize = msize < P9_MSIZE ? msize : P9_MSIZE;
    p9_put(r, s->msize, 4);
    p9_put_string(r, strcmp(name, "9P2000.L") == 0 ? name : "unknown");
    return 0;
}

static int attach(emu_p9 *s, struct p9_message *t, struct p9_message *r)
{
    char name[P9_NAME_MAX + 1];
    struct stat st;
    uint32_t number = p9_take32(t);
    p9_take32(t); /* no authentication */
    p9_take_string(t, name, sizeof name);
    p9_take_string(t, name, sizeof name);
    if (t->bad)
        return EINVAL;
    if (fstat(s->root, &st) != 0)
        return errno;
    int fd = fcntl(s->root, F_DUPFD_CLOEXEC, 3);
    if (fd < 0)
        return errno;
    int error = p9_add(s, number, fd, true);
    if (error == 0)
        p9_put_qid(r, &st);
    return error;
}

static int walk(emu_p9 *s, struct p9_message *t, struct p9_message *r)
{
    char name[P9_NAME_MAX + 1];
    struct stat st;
    uint32_t from = p9_take32(t), to = p9_take32(t), count = p9_take16(t), done = 0;
    struct p9_fid *fid = p9_find(s, from);
    if (t->bad || count > P9_WALK_MAX)
        return EINVAL;
    if (fid == NULL)
        return EBADF;
    if (to != from && p9_find(s, to) != NULL)
        return EBADF;
    bool root = fid->root;
    int fd = fcntl(fid->path, F_DUPFD_CLOEXEC, 3), error = fd < 0 ? errno : 0;
    p9_put(r, 0, 2);
    while (error == 0 && done < count) {
        p9_take_string(t, name, sizeof name);
        bool above = !t->bad && root && strcmp(name, "..") == 0; /* the root's parent is the root */
        int next = t->bad ? -ENAMETOOLONG : above ? fd : p9_step(fd, name);
        if (next < 0) {
            error = -next;
            break;
        }
        if (!above)
            close(fd);
        root = above;
        fd = next;
        if (fstat(fd, &st) != 0)
            error = errno;
        else
            p9_put_qid(r, &st);
        done += error == 0;
    }
    if (done < count) { /* the client learns how far it went; the fid is made only at the end */
        if (fd >= 0)
            close(fd);
        if (done == 0)
            return error;
        memcpy(r->data + P9_HEADER, &done, 2);
        return 0;
    }
    if (error != 0)
        return error;
    memcpy(r->data + P9_HEADER, &done, 2);
    if (to == from)
        p9_drop(s, fid);
    return p9_add(s, to, fd, root);
}

static int clunk(emu_p9 *s, struct p9_message *t, struct p9_message *r)
{
    struct p9_fid *fid = p9_find(s, p9_take32(t));
    if (fid == NULL)
        return EBADF;
    p9_drop(s, fid);
    return 0;
}

static int nothing(emu_p9 *s, struct p9_message *t, struct p9_message *r) { return 0; }
static int unsupported(emu_p9 *s, struct p9_message *t, struct p9_message *r) { return EOPNOTSUPP; }

static const struct {
    p9_call *call;
    bool writes; /* refused where the share is read-only */
} calls[] = {
    [P9_STATFS] = {p9_statfs, false},
    [P9_LOPEN] = {p9_lopen, false},
    [P9_LCREATE] = {p9_lcreate, true},
    [P9_SYMLINK] = {p9_symlink, true},
    [P9_MKNOD] = {p9_mknod, true},
    [P9_RENAME] = {p9_rename, true},
    [P9_READLINK] = {p9_readlink, false},
    [P9_GETATTR] = {p9_getattr, false},
    [P9_SETATTR] = {p9_setattr, true},
    [P9_XATTRWALK] = {unsupported, false},
    [P9_XATTRCREATE] = {unsupported, true},
    [P9_READDIR] = {p9_readdir, false},
    [P9_FSYNC] = {p9_fsync, false},
    [P9_LOCK] = {p9_lock, false},
    [P9_GETLOCK] = {p9_getlock, false},
    [P9_LINK] = {p9_link, true},
    [P9_MKDIR] = {p9_mkdir, true},
    [P9_RENAMEAT] = {p9_renameat, true},
    [P9_UNLINKAT] = {p9_unlinkat, true},
    [P9_VERSION] = {version, false},
    [P9_AUTH] = {unsupported, false},
    [P9_ATTACH] = {attach, false},
    [P9_FLUSH] = {nothing, false}, /* requests are answered in order: there is none to stop */
    [P9_WALK] = {walk, false},
    [P9_CLUNK] = {clunk, false},
    [P9_REMOVE] = {p9_remove, true},
};

/* ---- requests ------------------------------------------------------------------------ */

static uint64_t finish(emu_p9 *s, struct p9_message *r, uint8_t type, uint16_t tag, int error, uint64_t data)
{
    if (error == 0 && r->bad)
        error = EOVERFLOW;
    if (error != 0) {
        type = P9_LERROR;
        data = 0;
        r->at = P9_HEADER;
        r->bad = false;
        p9_put(r, (uint32_t)error, 4);
    }
    uint32_t size = r->at;
    struct p9_message head = {r->data, P9_HEADER, 0, false};
    p9_put(&head, size + data, 4);
    p9_put(&head, type + 1, 1);
    p9_put(&head, tag, 2);
    return emu_iov_write(s->in, s->in_count, 0, r->data, size) == size ? size + data : 0;
}

uint64_t emu_p9_serve(emu_p9 *s, struct iovec *out, int out_count, struct iovec *in, int in_count)
{
    s->out = out;
    s->out_count = out_count;
    s->in = in;
    s->in_count = in_count;
    size_t got = emu_iov_read(out, out_count, 0, s->request, sizeof s->request);
    uint64_t room = emu_iov_size(in, in_count), whole = emu_iov_size(out, out_count), data = 0;
    if (got < P9_HEADER || room < P9_HEADER + 4)
        return 0;
    struct p9_message t = {s->request, (uint32_t)got, 0, false};
    struct p9_message r = {s->answer, (uint32_t)(room < sizeof s->answer ? room : sizeof s->answer), P9_HEADER, false};
    uint32_t size = p9_take32(&t);
    uint8_t type = p9_take8(&t);
    uint16_t tag = p9_take16(&t);
    int error;
    if (size < P9_HEADER || size > whole || size > s->msize) {
        error = EINVAL;
    } else if (type == P9_READ || type == P9_WRITE) {
        error = type == P9_READ ? p9_read(s, &t, &data) : s->read_only ? EROFS : p9_write(s, &t, &data);
        p9_put(&r, data, 4);
        data = type == P9_READ ? data : 0;
    } else if (type >= sizeof calls / sizeof *calls || calls[type].call == NULL) {
        error = EOPNOTSUPP;
    } else if (calls[type].writes && s->read_only) {
        error = EROFS;
    } else {
        t.size = size < t.size ? size : t.size;
        error = calls[type].call(s, &t, &r);
        if (t.bad)
            error = error != 0 ? error : EINVAL;
    }
    return finish(s, &r, type, tag, error, data);
}
