/* New images. */
#include "qcow2.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A new qcow2 image: header, refcount table, refcount blocks, L1, in this order and without gaps. */
typedef struct layout {
    uint64_t cluster, table, blocks, l1, total; /* in clusters but for the first */
    uint64_t l1_entries;
} layout;

static uint64_t ratio_up(uint64_t value, uint64_t unit) { return (value + unit - 1) / unit; }

static layout lay_out(const emu_block_new *new)
{
    layout l = {.cluster = new->cluster_size};
    const uint64_t per_block = l.cluster * 8 / new->refcount_bits, per_l2 = l.cluster / 8 * l.cluster;
    l.l1_entries = ratio_up(new->size, per_l2);
    l.l1 = ratio_up(l.l1_entries * 8, l.cluster);
    l.blocks = l.table = 1;
    for (;;) {
        l.total = 1 + l.table + l.blocks + l.l1;
        const uint64_t blocks = ratio_up(l.total, per_block), table = ratio_up(blocks * 8, l.cluster);
        if (blocks <= l.blocks && table <= l.table)
            return l;
        l.blocks = blocks;
        l.table = table;
    }
}

static void put32(uint8_t *at, uint32_t value)
{
    value = htobe32(value);
    memcpy(at, &value, 4);
}

static void put64(uint8_t *at, uint64_t value)
{
    value = htobe64(value);
    memcpy(at, &value, 8);
}

/* -ENAMETOOLONG: the backing file's name has no room in the first cluster. */
static int write_header(int fd, const emu_block_new *new, const layout *l)
{
    uint8_t header[4096] = {0};
    uint64_t at = new->version == 2 ? HEADER_V2_LENGTH : HEADER_V3_LENGTH;
    const char *format = new->backing_format == NULL ? "" : new->backing_format;
    const char *backing = new->backing == NULL ? "" : new->backing;
    const uint64_t room = l->cluster < sizeof header ? l->cluster : sizeof header;
    memcpy(header, "QFI\xfb", 4);
    put32(header + HEADER_VERSION, new->version);
    put32(header + HEADER_CLUSTER_BITS, (uint32_t)__builtin_ctzll(l->cluster));
    put64(header + HEADER_SIZE, new->size);
    put32(header + HEADER_L1_SIZE, (uint32_t)l->l1_entries);
    put64(header + HEADER_L1_OFFSET, (1 + l->table + l->blocks) * l->cluster);
    put64(header + HEADER_TABLE_OFFSET, l->cluster);
    put32(header + HEADER_TABLE_CLUSTERS, (uint32_t)l->table);
    if (new->version >= 3) {
        put64(header + HEADER_COMPATIBLE, new->lazy_refcounts ? COMPATIBLE_LAZY_REFCOUNTS : 0);
        put32(header + HEADER_REFCOUNT_ORDER, (uint32_t)__builtin_ctz(new->refcount_bits));
        put32(header + HEADER_LENGTH, HEADER_V3_LENGTH);
    }
    if (*backing != 0) {
        if (strlen(backing) > MAX_BACKING_NAME || at + 16 + ((strlen(format) + 7) & ~7ul) + strlen(backing) > room)
            return -ENAMETOOLONG;
        put32(header + at, (uint32_t)EXTENSION_BACKING_FORMAT);
        put32(header + at + 4, (uint32_t)strlen(format));
        memcpy(header + at + 8, format, strlen(format));
        at += 8 + ((strlen(format) + 7) & ~7ul) + 8; /* and the end of extensions */
        memcpy(header + at, backing, strlen(backing));
        put64(header + HEADER_BACKING_OFFSET, at);
        put32(header + HEADER_BACKING_SIZE, (uint32_t)strlen(backing));
    }
    return pwrite(fd, header, room, 0) == (ssize_t)room ? 0 : -errno;
}

/* The table of blocks, and in them a count of 1 for every cluster that there is. */
static int write_counts(int fd, const emu_block_new *new, const layout *l)
{
    const uint64_t per_block = l->cluster * 8 / new->refcount_bits, bytes = (l->table + l->blocks) * l->cluster;
    uint8_t *tables = calloc(1, bytes), *blocks = tables + l->table * l->cluster;
    if (tables == NULL)
        return -ENOMEM;
    for (uint64_t i = 0; i < l->blocks; i++)
        put64(tables + i * 8, (1 + l->table + i) * l->cluster);
    for (uint64_t i = 0; i < l->total; i++) {
        uint8_t *block = blocks + i / per_block * l->cluster;
        const uint64_t bit = i % per_block * new->refcount_bits;
        if (new->refcount_bits < 8)
            block[bit / 8] |= (uint8_t)(1u << bit % 8);
        else
            block[(bit + new->refcount_bits) / 8 - 1] = 1;
    }
    ssize_t put = pwrite(fd, tables, bytes, (off_t)l->cluster);
    int failed = put == (ssize_t)bytes ? 0 : put < 0 ? -errno : -ENOSPC;
    free(tables);
    return failed;
}

static int create_qcow2(int fd, const emu_block_new *new)
{
    const layout l = lay_out(new);
    if (l.l1_entries * 8 > MAX_L1_BYTES)
        return -EFBIG;
    int failed = write_counts(fd, new, &l);
    if (failed == 0 && ftruncate(fd, (off_t)(l.total * l.cluster)) != 0)
        failed = -errno;
    return failed != 0 ? failed : write_header(fd, new, &l);
}

static int create_raw(int fd, const emu_block_new *new)
{
    if (ftruncate(fd, (off_t)new->size) != 0)
        return -errno;
    if (new->preallocation == EMU_BLOCK_FALLOC && new->size > 0 && fallocate(fd, 0, 0, (off_t)new->size) != 0)
        return -errno;
    return 0;
}

/* Gives every guest's cluster one of the file. */
static int preallocate(emu_qcow2 *q, uint32_t how)
{
    uint64_t at = 0;
    while (at < q->block.size) {
        const uint64_t per_l2 = q->cluster << q->l2_bits, index = at >> q->cluster_bits & ((UINT64_C(1) << q->l2_bits) - 1);
        const uint64_t room = per_l2 - (at & (per_l2 - 1)), left = q->block.size - at;
        uint64_t l2, host, got, done;
        int failed = qcow2_own_l2(q, at, &l2);
        if (failed == 0)
            failed = qcow2_allocate(q, qcow2_clusters(q, room < left ? room : left), &host, &got);
        if (failed == 0 && how == EMU_BLOCK_FALLOC && fallocate(q->file->fd, 0, (off_t)host, (off_t)(got << q->cluster_bits)) != 0)
            failed = -errno;
        if (failed == 0 && host + (got << q->cluster_bits) > q->file->size)
            failed = emu_file_truncate(q->file, host + (got << q->cluster_bits));
        if (failed == 0)
            failed = qcow2_set_entries(q, l2, index, got, host | ENTRY_COPIED, q->cluster, &done);
        if (failed != 0)
            return failed;
        at += got << q->cluster_bits;
    }
    return 0;
}

static int preallocate_file(const char *path, const emu_block_new *new, char *error, size_t error_size)
{
    emu_block_options options = {.format = EMU_BLOCK_QCOW2};
    emu_block *block = emu_block_open(path, &options, error, error_size);
    if (block == NULL)
        return -EINVAL;
    emu_qcow2 *q = qcow2_of(block);
    pthread_rwlock_wrlock(&q->map);
    int failed = preallocate(q, new->preallocation);
    pthread_rwlock_unlock(&q->map);
    int closed = emu_block_close(block);
    if (failed == 0)
        failed = closed;
    if (failed != 0)
        emu_block_refuse(error, error_size, "%s: %s: free some space, or choose preallocation=off", path,
                         strerror(-failed));
    return failed;
}

int emu_block_create(const char *path, const emu_block_new *new, char *error, size_t error_size)
{
    int fd = open(path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0666);
    if (fd < 0) {
        int failed = errno;
        emu_block_refuse(error, error_size, "%s: %s: %s", path, strerror(failed),
                         failed == EEXIST ? "remove it first, or choose another name" : "choose another folder");
        return -failed;
    }
    int failed = new->format == EMU_BLOCK_QCOW2 ? create_qcow2(fd, new) : create_raw(fd, new);
    if (close(fd) != 0 && failed == 0)
        failed = -errno;
    if (failed == -EFBIG)
        emu_block_refuse(error, error_size, "%s: a disk of %llu bytes is too large: choose larger clusters, or less", path,
                         (unsigned long long)new->size);
    else if (failed == -ENAMETOOLONG)
        emu_block_refuse(error, error_size, "%s: the backing file's name is too long: choose a shorter one, or larger "
                                            "clusters", path);
    else if (failed != 0)
        emu_block_refuse(error, error_size, "%s: %s: free some space, or choose another folder", path, strerror(-failed));
    else if (new->format == EMU_BLOCK_QCOW2 && new->preallocation != EMU_BLOCK_OFF)
        failed = preallocate_file(path, new, error, error_size);
    if (failed != 0)
        unlink(path);
    return failed;
}
