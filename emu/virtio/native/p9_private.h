/* What the files of the 9P server share. */
#ifndef EMU_P9_PRIVATE_H
#define EMU_P9_PRIVATE_H

#include "p9.h"
#include "p9_wire.h"

#include <sys/stat.h>

/* The largest message that is agreed to, and the largest part of one that is not file data. */
#define P9_MSIZE (512u * 1024)
#define P9_SMALL 65536u
/* How many files a client may hold. */
#define P9_FIDS 65536u

struct p9_fid {
    uint32_t number;
    int path;  /* O_PATH; -1: the slot is free */
    int file;  /* opened; -1 if not */
    bool root;
};

struct emu_p9 {
    int root;
    bool read_only;
    uint32_t msize;
    struct p9_fid *fids; /* by number, linear probing; size is a power of two */
    uint32_t slots, used;
    uint8_t request[P9_SMALL], answer[P9_SMALL];
    struct iovec *out, *in; /* of the request under way: file data goes straight */
    int out_count, in_count;
};

/* NULL: there is none of that number. */
struct p9_fid *p9_find(emu_p9 *s, uint32_t number);
/* Makes one; the descriptor becomes its own, or is closed.  0, or an errno. */
int p9_add(emu_p9 *s, uint32_t number, int path, bool root);
void p9_drop(emu_p9 *s, struct p9_fid *fid);
/* One step down: an O_PATH descriptor, or -errno. */
int p9_step(int folder, const char *name);
/* Whether a name can be of something inside a folder. */
bool p9_is_name(const char *name);
void p9_put_qid(struct p9_message *m, const struct stat *st);

/* p9_files.c: each reads its request, writes its answer behind the header, and gives 0 or an errno. */
typedef int p9_call(emu_p9 *s, struct p9_message *t, struct p9_message *r);
p9_call p9_statfs, p9_lopen, p9_lcreate, p9_symlink, p9_mknod, p9_rename, p9_readlink, p9_getattr, p9_setattr,
    p9_readdir, p9_fsync, p9_lock, p9_getlock, p9_link, p9_mkdir, p9_renameat, p9_unlinkat, p9_remove;
/* These answer with, or take, file data in place. */
int p9_read(emu_p9 *s, struct p9_message *t, uint64_t *done);
int p9_write(emu_p9 *s, struct p9_message *t, uint64_t *done);

#endif
