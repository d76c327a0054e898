/* What asm-generic gives to several ABIs. */
#include <fcntl.h>
#include <string.h>

#include "abi.h"

struct stat_generic {
    uint64_t dev, ino;
    uint32_t mode, nlink, uid, gid;
    uint64_t rdev, pad1;
    int64_t size;
    int32_t blksize, pad2;
    int64_t blocks;
    int64_t atime_sec;
    uint64_t atime_nsec;
    int64_t mtime_sec;
    uint64_t mtime_nsec;
    int64_t ctime_sec;
    uint64_t ctime_nsec;
    uint32_t unused[2];
};
_Static_assert(sizeof(struct stat_generic) == 128, "struct stat of asm-generic");

int abi_stat_generic(uint8_t *to, const struct stat *st)
{
    struct stat_generic out = {
        .dev = st->st_dev,
        .ino = st->st_ino,
        .mode = st->st_mode,
        .nlink = (uint32_t)st->st_nlink,
        .uid = st->st_uid,
        .gid = st->st_gid,
        .rdev = st->st_rdev,
        .size = st->st_size,
        .blksize = (int32_t)st->st_blksize,
        .blocks = st->st_blocks,
        .atime_sec = st->st_atim.tv_sec,
        .atime_nsec = (uint64_t)st->st_atim.tv_nsec,
        .mtime_sec = st->st_mtim.tv_sec,
        .mtime_nsec = (uint64_t)st->st_mtim.tv_nsec,
        .ctime_sec = st->st_ctim.tv_sec,
        .ctime_nsec = (uint64_t)st->st_ctim.tv_nsec,
    };
    memcpy(to, &out, sizeof out);
    return sizeof out;
}

/* The host's own bits; the C library hides O_LARGEFILE's on 64-bit hosts. */
#if defined(__x86_64__)
#define HOST_LAYOUT layout_x86_64
#else
#define HOST_LAYOUT layout_aarch64
#endif

static uint32_t translate(const abi_layout *from, const abi_layout *to, uint32_t flags)
{
    uint32_t out = flags & ~(from->o_directory | from->o_nofollow | from->o_direct | from->o_largefile);
    out |= flags & from->o_directory ? to->o_directory : 0;
    out |= flags & from->o_nofollow ? to->o_nofollow : 0;
    out |= flags & from->o_direct ? to->o_direct : 0;
    out |= flags & from->o_largefile ? to->o_largefile : 0;
    return out;
}

uint32_t abi_open_flags_to_host(const emu_abi *abi, uint32_t guest)
{
    return translate(layout_of(abi), &HOST_LAYOUT, guest);
}

uint32_t abi_open_flags_to_guest(const emu_abi *abi, uint32_t host)
{
    return translate(&HOST_LAYOUT, layout_of(abi), host);
}
