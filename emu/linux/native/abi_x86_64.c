/* x86-64: its own struct stat; epoll_event is packed. */
#include <string.h>

#include "abi.h"

struct stat_x86_64 {
    uint64_t dev, ino, nlink;
    uint32_t mode, uid, gid, pad;
    uint64_t rdev;
    int64_t size, blksize, blocks;
    uint64_t atime_sec, atime_nsec, mtime_sec, mtime_nsec, ctime_sec, ctime_nsec;
    int64_t unused[3];
};
_Static_assert(sizeof(struct stat_x86_64) == 144, "struct stat of x86-64");

static int put_stat(uint8_t *to, const struct stat *st)
{
    struct stat_x86_64 out = {
        .dev = st->st_dev,
        .ino = st->st_ino,
        .nlink = st->st_nlink,
        .mode = st->st_mode,
        .uid = st->st_uid,
        .gid = st->st_gid,
        .rdev = st->st_rdev,
        .size = st->st_size,
        .blksize = st->st_blksize,
        .blocks = st->st_blocks,
        .atime_sec = (uint64_t)st->st_atim.tv_sec,
        .atime_nsec = (uint64_t)st->st_atim.tv_nsec,
        .mtime_sec = (uint64_t)st->st_mtim.tv_sec,
        .mtime_nsec = (uint64_t)st->st_mtim.tv_nsec,
        .ctime_sec = (uint64_t)st->st_ctim.tv_sec,
        .ctime_nsec = (uint64_t)st->st_ctim.tv_nsec,
    };
    memcpy(to, &out, sizeof out);
    return sizeof out;
}

const abi_layout layout_x86_64 = {
    .stat = put_stat,
    .stat64 = put_stat,
    .o_directory = 0200000,
    .o_nofollow = 0400000,
    .o_direct = 040000,
    .o_largefile = 0100000,
    .epoll_size = 12,
    .epoll_data = 4,
};
