/* Opens images by their format, and checks every request before a format sees it. */
#include "copy_hooks.h"
#include "image.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* DEEPEST: of images that stand on each other. */
enum { SECTOR = 512, DEEPEST = 64 };

void *emu_block_refuse(char *error, size_t error_size, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error, error_size, format, arguments);
    va_end(arguments);
    /* Names may have anything in them; a message is one line. */
    for (char *at = error; error_size > 0 && *at != 0; at++)
        if ((unsigned char)*at < ' ' || *at == 0x7f)
            *at = '?';
    return NULL;
}

uint32_t emu_block_probe(const void *data, size_t size)
{
    return size >= 4 && memcmp(data, "QFI\xfb", 4) == 0 ? EMU_BLOCK_QCOW2 : EMU_BLOCK_RAW;
}

/* Whether the file at `path` may stand below `chain`: nothing stands below itself. */
static int check_chain(const char *path, const emu_chain *chain, char *error, size_t error_size)
{
    struct stat status;
    if (chain != NULL && chain->depth >= DEEPEST)
        return emu_block_refuse(error, error_size, "%s: more than %d images stand on it: merge some with `qemu-img commit`",
                                path, DEEPEST),
               -ELOOP;
    if (stat(path, &status) != 0)
        return 0; /* opening it will say why */
    for (; chain != NULL; chain = chain->above)
        if (chain->device == status.st_dev && chain->inode == status.st_ino)
            return emu_block_refuse(error, error_size, "%s: the image is its own backing file: name another with "
                                                       "`qemu-img rebase -u`", path),
                   -ELOOP;
    return 0;
}

emu_block *emu_block_open_below(const char *path, const emu_block_options *options, const emu_chain *above, char *error,
                                size_t error_size)
{
    if (check_chain(path, above, error, error_size) != 0)
        return NULL;
    emu_file *file = emu_file_open(path, options, error, error_size);
    if (file == NULL)
        return NULL;
    uint32_t format = options->format;
    if (format == EMU_BLOCK_PROBE) {
        char sector[SECTOR];
        int failed = emu_file_read(file, sector, sizeof sector, 0);
        if (failed != 0) {
            emu_block_refuse(error, error_size, "%s: %s: check the disk that it is on", path, strerror(-failed));
            emu_file_close(file);
            return NULL;
        }
        format = emu_block_probe(sector, sizeof sector);
    }
    emu_chain chain = {above, file->device_number, file->inode, above == NULL ? 0 : above->depth + 1};
    emu_block *block = format == EMU_BLOCK_QCOW2 ? emu_qcow2_open(file, options, &chain, error, error_size)
                                                 : emu_raw_open(file, error, error_size);
    if (block == NULL) {
        emu_file_close(file);
        return NULL;
    }
    block->file = file;
    block->options = *options;
    block->probed = options->format == EMU_BLOCK_PROBE;
    return block;
}

emu_block *emu_block_open(const char *path, const emu_block_options *options, char *error, size_t error_size)
{
    return emu_block_open_below(path, options, NULL, error, error_size);
}

int emu_block_close(emu_block *block)
{
    emu_file *file = block->file;
    if (block->copy != NULL)
        emu_copy_closes(block->copy);
    int failed = block->format->close(block);
    int closed = emu_file_close(file);
    free(block);
    return failed != 0 ? failed : closed;
}

uint64_t emu_block_size(const emu_block *block) { return block->size; }

void emu_block_describe(emu_block *block, emu_block_info *info)
{
    *info = (emu_block_info){
        .size = block->size,
        .allocated = emu_file_allocated(block->file),
        .format = block->format->format,
        .cache = block->options.cache,
        .read_only = block->options.read_only,
        .can_discard = block->options.discard && !block->options.read_only && !block->file->no_punch_hole,
        .block_size = block->file->align > SECTOR ? block->file->align : SECTOR,
    };
    block->format->describe(block, info);
}

/* -- requests -------------------------------------------------------------- */

static int check(const emu_block *block, uint64_t offset, uint64_t length)
{
    return offset > block->size || length > block->size - offset ? -EINVAL : 0;
}

/* The length of a list, or an error. */
static int64_t length_of(const struct iovec *iov, int count)
{
    uint64_t length = 0;
    for (int i = 0; i < count; i++) {
        if (iov[i].iov_len > INT64_MAX - length)
            return -EINVAL;
        length += iov[i].iov_len;
    }
    return (int64_t)length;
}

/* Begins a request that changes the image. */
static void writes(emu_block *block, uint64_t offset, uint64_t length)
{
    if (block->copy != NULL)
        emu_copy_before_write(block->copy, block, offset, length);
}

/* Ends it. */
static int written(emu_block *block, uint64_t offset, uint64_t length, int failed)
{
    if (block->copy != NULL) /* a request that failed may have written some of it */
        emu_copy_after_write(block->copy, block, offset, length);
    if (failed == 0 && block->options.cache == EMU_BLOCK_WRITETHROUGH)
        failed = block->format->flush(block);
    return failed;
}

int emu_block_readv(emu_block *block, const struct iovec *iov, int count, uint64_t offset)
{
    int64_t length = length_of(iov, count);
    if (length <= 0)
        return (int)length;
    int failed = check(block, offset, (uint64_t)length);
    return failed != 0 ? failed : block->format->readv(block, iov, count, 0, (uint64_t)length, offset);
}

int emu_block_writev(emu_block *block, const struct iovec *iov, int count, uint64_t offset)
{
    int64_t length = length_of(iov, count);
    if (block->options.read_only)
        return -EROFS;
    if (length <= 0)
        return (int)length;
    int failed = check(block, offset, (uint64_t)length);
    if (failed != 0)
        return failed;
    writes(block, offset, (uint64_t)length);
    failed = block->format->writev(block, iov, count, 0, (uint64_t)length, offset);
    return written(block, offset, (uint64_t)length, failed);
}

int emu_block_flush(emu_block *block) { return block->options.read_only ? 0 : block->format->flush(block); }

int emu_block_discard(emu_block *block, uint64_t offset, uint64_t length)
{
    if (block->options.read_only)
        return -EROFS;
    int failed = check(block, offset, length);
    if (failed != 0 || length == 0 || !block->options.discard)
        return failed;
    writes(block, offset, length);
    return written(block, offset, length, block->format->discard(block, offset, length));
}

int emu_block_write_zeroes(emu_block *block, uint64_t offset, uint64_t length, int may_unmap)
{
    if (block->options.read_only)
        return -EROFS;
    int failed = check(block, offset, length);
    if (failed != 0 || length == 0)
        return failed;
    may_unmap = may_unmap && block->options.discard;
    writes(block, offset, length);
    return written(block, offset, length, block->format->write_zeroes(block, offset, length, may_unmap));
}

int emu_block_check(emu_block *block, int repair, emu_block_report *report)
{
    *report = (emu_block_report){0};
    if (repair && block->options.read_only)
        return -EROFS;
    return block->format->check(block, repair, report);
}

int emu_block_resize(emu_block *block, uint64_t size)
{
    if (block->options.read_only)
        return -EROFS;
    if (size % SECTOR != 0 || size > INT64_MAX)
        return -EINVAL;
    if (block->copy != NULL)
        return -EBUSY;
    return block->format->resize(block, size);
}
