#include "file.h"
#include "image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Iovecs of one system call; bytes of one, and of one copy. */
enum { VECTORS = 256, MOST = 1 << 30, BOUNCE = 1 << 20, BLOCK = 512, PAGE = 4096 };

_Alignas(PAGE) char emu_zeroes[EMU_ZEROES];

static uint64_t down(uint64_t value, uint64_t unit) { return value / unit * unit; }
static uint64_t up(uint64_t value, uint64_t unit) { return down(value + unit - 1, unit); }

/* What O_DIRECT wants on this file: the least that a read gets through with. */
static uint32_t alignment(int fd, uint64_t size)
{
    if (size < PAGE)
        return PAGE;
    char *memory = aligned_alloc(PAGE, 2 * PAGE);
    if (memory == NULL)
        return PAGE;
    ssize_t got = pread(fd, memory + BLOCK, BLOCK, BLOCK);
    free(memory);
    return got == BLOCK ? BLOCK : PAGE;
}

/* What a name stands for, before it is opened: opening a device may do something already. */
static int inspect(const char *path, struct stat *status, char *error, size_t error_size)
{
    if (stat(path, status) != 0) {
        int failed = errno;
        emu_block_refuse(error, error_size, "%s: %s: %s", path, strerror(failed),
                         failed == ENOENT ? "check the name, or create the image first" : "check its permissions");
        return -failed;
    }
    if (!S_ISREG(status->st_mode) && !S_ISBLK(status->st_mode)) {
        emu_block_refuse(error, error_size, "%s: a disk image is a file or a block device: name one", path);
        return -EINVAL;
    }
    return 0;
}

emu_file *emu_file_open(const char *path, const emu_block_options *options, char *error, size_t error_size)
{
    struct stat status, opened;
    if (inspect(path, &status, error, error_size) != 0)
        return NULL;
    bool direct = options->cache == EMU_BLOCK_NONE;
    int flags = O_CLOEXEC | O_NONBLOCK | O_NOCTTY | (options->read_only ? O_RDONLY : O_RDWR);
    int fd = open(path, flags | (direct ? O_DIRECT : 0));
    if (fd < 0) {
        int failed = errno;
        if (failed == EINVAL && direct)
            return emu_block_refuse(error, error_size,
                                    "%s: the file system has no O_DIRECT: choose cache=writeback", path);
        return emu_block_refuse(error, error_size, "%s: %s: %s", path, strerror(failed),
                                options->read_only ? "check its permissions"
                                                   : "check its permissions, or open it read-only");
    }
    off_t end = lseek(fd, 0, SEEK_END);
    if (fstat(fd, &opened) != 0 || opened.st_dev != status.st_dev || opened.st_ino != status.st_ino || end < 0) {
        close(fd);
        return emu_block_refuse(error, error_size, "%s: it changed while it was opened: try again", path);
    }
    if (!options->no_lock && emu_file_lock(fd, path, !options->read_only, error, error_size) != 0) {
        close(fd);
        return NULL;
    }
    emu_file *file = calloc(1, sizeof *file);
    if (file == NULL || (file->path = strdup(path)) == NULL) {
        free(file);
        close(fd);
        return emu_block_refuse(error, error_size, "%s: no memory left: free some", path);
    }
    file->fd = fd;
    file->device = S_ISBLK(opened.st_mode);
    file->device_number = opened.st_dev;
    file->inode = opened.st_ino;
    file->read_only = options->read_only != 0;
    file->no_sync = options->cache == EMU_BLOCK_UNSAFE;
    file->direct = direct;
    file->size = (uint64_t)end;
    file->align = direct ? alignment(fd, file->size) : 1;
    file->written = 1; /* what others wrote before may still be in the page cache */
    pthread_rwlock_init(&file->edges, NULL);
    return file;
}

int emu_file_close(emu_file *file)
{
    int failed = close(file->fd) == 0 ? 0 : -errno;
    pthread_rwlock_destroy(&file->edges);
    free(file->path);
    free(file);
    return failed;
}

/* -- reading --------------------------------------------------------------- */

static bool aligned(const emu_file *file, const struct iovec *vec, int count, uint64_t offset)
{
    const uintptr_t mask = file->align - 1;
    uintptr_t all = (uintptr_t)offset;
    if (file->align == 1)
        return true;
    for (int i = 0; i < count; i++)
        all |= (uintptr_t)vec[i].iov_base | vec[i].iov_len;
    return (all & mask) == 0;
}

/* Bytes read into the first of `length` at `data`, which are aligned; fewer only at the file's end. */
static int64_t read_blocks(emu_file *file, char *data, uint64_t length, uint64_t offset)
{
    uint64_t done = 0;
    while (done < length) {
        ssize_t got = pread(file->fd, data + done, length - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        done += (uint64_t)got;
        if (got == 0 || done % file->align != 0)
            break;
    }
    return (int64_t)done;
}

static int read_copied(emu_file *file, const struct iovec *iov, int count, uint64_t skip, uint64_t length,
                       uint64_t offset)
{
    const uint64_t room = up(length < BOUNCE ? length : BOUNCE, file->align) + file->align;
    char *memory = aligned_alloc(PAGE, up(room, PAGE));
    int failed = memory == NULL ? -ENOMEM : 0;
    while (failed == 0 && length > 0) {
        const uint64_t first = down(offset, file->align), head = offset - first;
        const uint64_t size = length < BOUNCE - head ? length : BOUNCE - head;
        int64_t got = read_blocks(file, memory, up(head + size, file->align), first);
        if (got < 0) {
            failed = (int)got;
            break;
        }
        if ((uint64_t)got < head + size)
            memset(memory + got, 0, head + size - (uint64_t)got);
        emu_iov_scatter(iov, count, skip, memory + head, size);
        skip += size, offset += size, length -= size;
    }
    free(memory);
    return failed;
}

int emu_file_readv(emu_file *file, const struct iovec *iov, int count, uint64_t skip, uint64_t length, uint64_t offset)
{
    struct iovec vec[VECTORS];
    if (offset > INT64_MAX - length)
        return -EINVAL;
    while (length > 0) {
        uint64_t taken;
        int used = emu_iov_part(iov, count, skip, length < MOST ? length : MOST, vec, VECTORS, &taken);
        if (!aligned(file, vec, used, offset))
            return read_copied(file, iov, count, skip, length, offset);
        ssize_t got = preadv(file->fd, vec, used, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        skip += (uint64_t)got, offset += (uint64_t)got, length -= (uint64_t)got;
        if (length > 0 && (got == 0 || (uint64_t)got % file->align != 0)) {
            emu_iov_zero(iov, count, skip, length);
            return 0;
        }
    }
    return 0;
}

int emu_file_read(emu_file *file, void *data, uint64_t length, uint64_t offset)
{
    struct iovec iov = {data, length};
    return emu_file_readv(file, &iov, 1, 0, length, offset);
}

/* -- writing --------------------------------------------------------------- */

static void grown(emu_file *file, uint64_t end)
{
    uint64_t size = file->size;
    while (end > size && !atomic_compare_exchange_weak(&file->size, &size, end))
        ;
}

static int write_blocks(emu_file *file, const char *data, uint64_t length, uint64_t offset)
{
    while (length > 0) {
        ssize_t put = pwrite(file->fd, data, length, (off_t)offset);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return put < 0 ? -errno : -EIO;
        data += put, offset += (uint64_t)put, length -= (uint64_t)put;
    }
    return 0;
}

/* Parts of blocks are read, changed and written; nobody else may write meanwhile. */
static int write_copied(emu_file *file, const struct iovec *iov, int count, uint64_t skip, uint64_t length,
                        uint64_t offset)
{
    const uint64_t align = file->align, room = up(length < BOUNCE ? length : BOUNCE, align) + align;
    char *memory = aligned_alloc(PAGE, up(room, PAGE));
    int failed = memory == NULL ? -ENOMEM : 0;
    pthread_rwlock_wrlock(&file->edges);
    while (failed == 0 && length > 0) {
        const uint64_t first = down(offset, align), head = offset - first;
        const uint64_t size = length < BOUNCE - head ? length : BOUNCE - head, end = up(head + size, align);
        const uint64_t places[2] = {0, end - align};
        const bool partial[2] = {head != 0 || size < align, end > align && head + size != end};
        for (int i = 0; i < 2 && failed == 0; i++)
            if (partial[i]) {
                memset(memory + places[i], 0, align);
                int64_t got = read_blocks(file, memory + places[i], align, first + places[i]);
                failed = got < 0 ? (int)got : 0;
            }
        if (failed != 0)
            break;
        emu_iov_gather(iov, count, skip, memory + head, size);
        failed = write_blocks(file, memory, end, first);
        if (failed == 0 && offset + size > file->size)
            file->size = offset + size;
        if (failed == 0 && first + end > file->size && ftruncate(file->fd, (off_t)file->size) != 0)
            failed = -errno;
        skip += size, offset += size, length -= size;
    }
    pthread_rwlock_unlock(&file->edges);
    free(memory);
    return failed;
}

static int write_whole(emu_file *file, const struct iovec *iov, int count, uint64_t skip, uint64_t length,
                       uint64_t offset)
{
    struct iovec vec[VECTORS];
    while (length > 0) {
        uint64_t taken;
        int used = emu_iov_part(iov, count, skip, length < MOST ? length : MOST, vec, VECTORS, &taken);
        if (!aligned(file, vec, used, offset))
            return write_copied(file, iov, count, skip, length, offset);
        if (file->align > 1)
            pthread_rwlock_rdlock(&file->edges);
        ssize_t put = pwritev(file->fd, vec, used, (off_t)offset);
        int failed = put < 0 ? -errno : put == 0 ? -EIO : 0;
        if (failed == 0)
            grown(file, offset + (uint64_t)put);
        if (file->align > 1)
            pthread_rwlock_unlock(&file->edges);
        if (failed == -EINTR)
            continue;
        if (failed != 0)
            return failed;
        skip += (uint64_t)put, offset += (uint64_t)put, length -= (uint64_t)put;
    }
    return 0;
}

int emu_file_writev(emu_file *file, const struct iovec *iov, int count, uint64_t skip, uint64_t length,
                    uint64_t offset)
{
    if (offset > INT64_MAX - length)
        return -EINVAL;
    if (file->device && offset + length > file->size)
        return -ENOSPC;
    int failed = write_whole(file, iov, count, skip, length, offset);
    file->written++; /* even part of it wants to be on the disk */
    return failed;
}

int emu_file_write(emu_file *file, const void *data, uint64_t length, uint64_t offset)
{
    struct iovec iov = {(void *)data, length};
    return emu_file_writev(file, &iov, 1, 0, length, offset);
}

int emu_file_sync(emu_file *file)
{
    if (file->read_only || file->no_sync)
        return 0;
    /* The kernel reports lost pages once; a second fdatasync would say that all is well. */
    if (file->sync_error != 0)
        return file->sync_error;
    const uint64_t written = file->written;
    if (file->synced == written)
        return 0;
    while (fdatasync(file->fd) != 0)
        if (errno != EINTR) {
            int failed = -errno;
            if (!file->direct)
                file->sync_error = failed;
            return failed;
        }
    file->synced = written;
    return 0;
}

/* -- ranges without data --------------------------------------------------- */

static int allocate(emu_file *file, int mode, uint64_t offset, uint64_t length)
{
    int failed;
    if (offset > INT64_MAX - length)
        return -EINVAL;
    do
        failed = fallocate(file->fd, mode, (off_t)offset, (off_t)length) == 0 ? 0 : -errno;
    while (failed == -EINTR);
    file->written++;
    return failed;
}

/* Whether the host cannot do it at all; EINVAL is a block device's word for parts of its blocks. */
static bool unable(int failed) { return failed == -EOPNOTSUPP || failed == -ENOSYS || failed == -ENODEV; }

int emu_file_punch(emu_file *file, uint64_t offset, uint64_t length)
{
    if (file->no_punch_hole)
        return -EOPNOTSUPP;
    int failed = allocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
    if (unable(failed))
        file->no_punch_hole = true;
    return unable(failed) || failed == -EINVAL ? -EOPNOTSUPP : failed;
}

static int zero_range(emu_file *file, uint64_t offset, uint64_t length)
{
    if (file->no_zero_range)
        return -EOPNOTSUPP;
    /* On a device the size cannot change, and the kernel wants to be told so. */
    int failed = allocate(file, FALLOC_FL_ZERO_RANGE | (file->device ? FALLOC_FL_KEEP_SIZE : 0), offset, length);
    if (unable(failed))
        file->no_zero_range = true;
    else if (failed == 0 && !file->device)
        grown(file, offset + length);
    return unable(failed) || failed == -EINVAL ? -EOPNOTSUPP : failed;
}

static int write_zeroes(emu_file *file, uint64_t offset, uint64_t length)
{
    struct iovec vec[VECTORS];
    for (int i = 0; i < VECTORS; i++)
        vec[i] = (struct iovec){emu_zeroes, EMU_ZEROES};
    while (length > 0) {
        uint64_t size = length < sizeof emu_zeroes * VECTORS ? length : sizeof emu_zeroes * VECTORS;
        int failed = emu_file_writev(file, vec, VECTORS, 0, size, offset);
        if (failed != 0)
            return failed;
        offset += size, length -= size;
    }
    return 0;
}

int emu_file_zero(emu_file *file, uint64_t offset, uint64_t length, bool may_unmap)
{
    if (length == 0)
        return 0;
    if (file->device && (offset > file->size || length > file->size - offset))
        return -ENOSPC;
    int failed = may_unmap ? emu_file_punch(file, offset, length) : -EOPNOTSUPP;
    if (failed == -EOPNOTSUPP)
        failed = zero_range(file, offset, length);
    if (failed == -EOPNOTSUPP && !file->device && emu_file_punch(file, offset, length) == 0) {
        failed = allocate(file, FALLOC_FL_KEEP_SIZE, offset, length);
        if (unable(failed))
            failed = 0; /* zeroes, if not kept room for */
    }
    return failed == -EOPNOTSUPP ? write_zeroes(file, offset, length) : failed;
}

int emu_file_truncate(emu_file *file, uint64_t size)
{
    if (file->device)
        return size == file->size ? 0 : -EOPNOTSUPP;
    if (size > INT64_MAX)
        return -EFBIG;
    pthread_rwlock_wrlock(&file->edges);
    int failed = ftruncate(file->fd, (off_t)size) == 0 ? 0 : -errno;
    if (failed == 0)
        file->size = size;
    file->written++;
    pthread_rwlock_unlock(&file->edges);
    return failed;
}

uint64_t emu_file_allocated(emu_file *file)
{
    struct stat status;
    if (file->device || fstat(file->fd, &status) != 0)
        return file->size;
    return (uint64_t)status.st_blocks * BLOCK;
}
