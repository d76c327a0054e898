/* 32-bit Arm EABI: struct stat of 64 bytes, struct stat64 of 104; times of 32 bits. */
#include <errno.h>
#include <string.h>

#include "abi.h"

struct stat_arm {
    uint32_t dev, ino;
    uint16_t mode, nlink, uid, gid;
    uint32_t rdev, size, blksize, blocks;
    uint32_t atime_sec, atime_nsec, mtime_sec, mtime_nsec, ctime_sec, ctime_nsec;
    uint32_t unused[2];
};
_Static_assert(sizeof(struct stat_arm) == 64, "struct stat of arm");

struct stat64_arm {
    uint64_t dev;
    uint32_t pad0, ino_low, mode, nlink, uid, gid;
    uint64_t rdev;
    uint64_t pad3;
    int64_t size;
    uint32_t blksize, pad4;
    uint64_t blocks;
    uint32_t atime_sec, atime_nsec, mtime_sec, mtime_nsec, ctime_sec, ctime_nsec;
    uint64_t ino;
};
_Static_assert(sizeof(struct stat64_arm) == 104, "struct stat64 of arm");

static int put_stat(uint8_t *to, const struct stat *st)
{
    struct stat_arm out = {
        .dev = (uint32_t)st->st_dev,
        .ino = (uint32_t)st->st_ino,
        .mode = (uint16_t)st->st_mode,
        .nlink = (uint16_t)st->st_nlink,
        .uid = st->st_uid > 0xffff ? 65534 : (uint16_t)st->st_uid,
        .gid = st->st_gid > 0xffff ? 65534 : (uint16_t)st->st_gid,
        .rdev = (uint32_t)st->st_rdev,
        .size = (uint32_t)st->st_size,
        .blksize = (uint32_t)st->st_blksize,
        .blocks = (uint32_t)st->st_blocks,
        .atime_sec = (uint32_t)st->st_atim.tv_sec,
        .atime_nsec = (uint32_t)st->st_atim.tv_nsec,
        .mtime_sec = (uint32_t)st->st_mtim.tv_sec,
        .mtime_nsec = (uint32_t)st->st_mtim.tv_nsec,
        .ctime_sec = (uint32_t)st->st_ctim.tv_sec,
        .ctime_nsec = (uint32_t)st->st_ctim.tv_nsec,
    };
    if (st->st_dev >> 32 || st->st_rdev >> 32 || st->st_size > INT32_MAX || st->st_ino > UINT32_MAX ||
        st->st_nlink > UINT16_MAX)
        return -EOVERFLOW;
    memcpy(to, &out, sizeof out);
    return sizeof out;
}

static int put_stat64(uint8_t *to, const struct stat *st)
{
    struct stat64_arm out = {
        .dev = st->st_dev,
        .ino_low = (uint32_t)st->st_ino,
        .mode = st->st_mode,
        .nlink = (uint32_t)st->st_nlink,
        .uid = st->st_uid,
        .gid = st->st_gid,
        .rdev = st->st_rdev,
        .size = st->st_size,
        .blksize = (uint32_t)st->st_blksize,
        .blocks = (uint64_t)st->st_blocks,
        .atime_sec = (uint32_t)st->st_atim.tv_sec,
        .atime_nsec = (uint32_t)st->st_atim.tv_nsec,
        .mtime_sec = (uint32_t)st->st_mtim.tv_sec,
        .mtime_nsec = (uint32_t)st->st_mtim.tv_nsec,
        .ctime_sec = (uint32_t)st->st_ctim.tv_sec,
        .ctime_nsec = (uint32_t)st->st_ctim.tv_nsec,
        .ino = st->st_ino,
    };
    memcpy(to, &out, sizeof out);
    return sizeof out;
}

const abi_layout layout_arm = {
    .stat = put_stat,
    .stat64 = put_stat64,
    .o_directory = 040000,
    .o_nofollow = 0100000,
    .o_direct = 0200000,
    .o_largefile = 0400000,
    .epoll_size = 16,
    .epoll_data = 8,
};
