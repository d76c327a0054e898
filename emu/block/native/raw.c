/*
 * Raw images: the guest's disk byte by byte.
 *
 * Where the format was not given but found, the guest must not make a raw image look like something else: opened again,
 * its first bytes would name files of the host as the image's backing file.
 */
#include "image.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SECTOR = 512 };

static int raw_readv(emu_block *block, const struct iovec *iov, int count, uint64_t skip, uint64_t length,
                     uint64_t offset)
{
    return emu_file_readv(block->file, iov, count, skip, length, offset);
}

/* The first sector is copied before it is looked at: the guest may change its memory at any time. */
static int write_first_sector(emu_block *block, const struct iovec *iov, int count, uint64_t skip, uint64_t length,
                              uint64_t offset)
{
    char sector[SECTOR];
    int failed = emu_file_read(block->file, sector, SECTOR, 0);
    if (failed != 0)
        return failed;
    emu_iov_gather(iov, count, skip, sector + offset, length);
    if (emu_block_probe(sector, SECTOR) != EMU_BLOCK_RAW)
        return -EPERM;
    return emu_file_write(block->file, sector + offset, length, offset);
}

static int raw_writev(emu_block *block, const struct iovec *iov, int count, uint64_t skip, uint64_t length,
                      uint64_t offset)
{
    uint64_t first = 0;
    if (block->probed && offset < SECTOR) {
        first = length < SECTOR - offset ? length : SECTOR - offset;
        int failed = write_first_sector(block, iov, count, skip, first, offset);
        if (failed != 0)
            return failed;
    }
    return emu_file_writev(block->file, iov, count, skip + first, length - first, offset + first);
}

static int raw_flush(emu_block *block) { return emu_file_sync(block->file); }

static int raw_discard(emu_block *block, uint64_t offset, uint64_t length)
{
    int failed = emu_file_punch(block->file, offset, length);
    return failed == -EOPNOTSUPP ? 0 : failed;
}

static int raw_write_zeroes(emu_block *block, uint64_t offset, uint64_t length, int may_unmap)
{
    return emu_file_zero(block->file, offset, length, may_unmap);
}

static int raw_resize(emu_block *block, uint64_t size)
{
    int failed = emu_file_truncate(block->file, size);
    if (failed == 0)
        block->size = size;
    return failed;
}

static int raw_check(emu_block *block, bool repair, emu_block_report *report)
{
    (void)block, (void)repair, (void)report;
    return 0;
}

static void raw_describe(emu_block *block, emu_block_info *info) { (void)block, (void)info; }

static int raw_close(emu_block *block)
{
    (void)block;
    return 0;
}

static const emu_block_format raw_format = {
    .format = EMU_BLOCK_RAW,
    .readv = raw_readv,
    .writev = raw_writev,
    .flush = raw_flush,
    .discard = raw_discard,
    .write_zeroes = raw_write_zeroes,
    .resize = raw_resize,
    .check = raw_check,
    .describe = raw_describe,
    .close = raw_close,
};

emu_block *emu_raw_open(emu_file *file, char *error, size_t error_size)
{
    emu_block *block = calloc(1, sizeof *block);
    if (block == NULL)
        return emu_block_refuse(error, error_size, "%s: no memory left: free some", file->path);
    block->format = &raw_format;
    /* A file may end within a sector: the rest reads as zeroes, and is there once it is written. */
    block->size = file->size / SECTOR * SECTOR;
    if (file->size % SECTOR != 0 && !file->device)
        block->size += SECTOR;
    return block;
}
