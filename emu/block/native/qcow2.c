/* Opens and closes qcow2 images, and what does not fit elsewhere. */
#include "qcow2.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Released ranges that wait for a flush at most. */
enum { MANY = 1 << 14 };

int qcow2_put64(emu_qcow2 *q, uint64_t offset, uint64_t value)
{
    value = htobe64(value);
    return emu_file_write(q->file, &value, sizeof value, offset);
}

int qcow2_broken(emu_qcow2 *q)
{
    if (q->writable && !q->corrupt) {
        q->corrupt = true;
        q->incompatible |= INCOMPATIBLE_CORRUPT;
        if (q->version >= 3)
            qcow2_put64(q, HEADER_INCOMPATIBLE, q->incompatible);
    }
    return -EIO;
}

static int qcow2_readv(emu_block *block, const struct iovec *iov, int count, uint64_t skip, uint64_t length,
                       uint64_t offset)
{
    emu_qcow2 *q = qcow2_of(block);
    pthread_rwlock_rdlock(&q->map);
    int failed = qcow2_read(q, iov, count, skip, length, offset);
    pthread_rwlock_unlock(&q->map);
    return failed;
}

int qcow2_flush_alone(emu_qcow2 *q)
{
    int failed = qcow2_write_back(q);
    if (failed == 0)
        failed = emu_file_sync(q->file);
    if (failed != 0 || q->released_count == 0)
        return failed;
    failed = qcow2_settle(q);
    return failed != 0 ? failed : qcow2_write_back(q);
}

int qcow2_flush_many(emu_qcow2 *q) { return q->released_count > MANY ? qcow2_flush_alone(q) : 0; }

static int qcow2_flush(emu_block *block)
{
    emu_qcow2 *q = qcow2_of(block);
    /* Most flushes come after data only, and keep nobody waiting. */
    pthread_rwlock_rdlock(&q->map);
    pthread_mutex_lock(&q->pages_lock);
    bool waiting = q->dirty_blocks > 0 || q->dirty_l2 > 0 || q->l1_any_dirty || q->released_count > 0 || q->corrupt;
    pthread_mutex_unlock(&q->pages_lock);
    pthread_rwlock_unlock(&q->map);
    if (!waiting)
        return emu_file_sync(q->file);
    pthread_rwlock_wrlock(&q->map);
    int failed = qcow2_flush_alone(q);
    pthread_rwlock_unlock(&q->map);
    return failed;
}

static int check(emu_block *block, bool repair, emu_block_report *report)
{
    emu_qcow2 *q = qcow2_of(block);
    pthread_rwlock_wrlock(&q->map);
    int failed = q->writable ? qcow2_flush_alone(q) : 0;
    if (failed == 0)
        failed = qcow2_check(q, repair, report);
    if (failed == 0 && repair)
        failed = qcow2_flush_alone(q);
    pthread_rwlock_unlock(&q->map);
    return failed;
}

static void describe(emu_block *block, emu_block_info *info)
{
    emu_qcow2 *q = qcow2_of(block);
    info->cluster_size = q->cluster;
    info->version = q->version;
    info->refcount_bits = 1u << q->refcount_order;
    info->snapshots = q->snapshots;
    info->dirty = (q->incompatible & INCOMPATIBLE_DIRTY) != 0;
    info->corrupt = (q->incompatible & INCOMPATIBLE_CORRUPT) != 0;
    info->backing = q->backing == NULL ? NULL : q->backing->file->path;
}

static int finish(emu_qcow2 *q)
{
    int failed = 0;
    if (q->writable && !q->corrupt && q->pages != NULL) {
        failed = qcow2_flush_alone(q);
        if (failed == 0)
            failed = emu_file_sync(q->file);
    }
    if (q->backing != NULL)
        emu_block_close(q->backing);
    if (q->pages != NULL)
        qcow2_pages_free(q);
    free(q->l1);
    free(q->l1_dirty);
    free(q->table);
    free(q->released);
    free(q->metadata);
    free(q->inflated);
    free(q->deflated);
    pthread_rwlock_destroy(&q->map);
    pthread_mutex_destroy(&q->pages_lock);
    pthread_mutex_destroy(&q->inflate_lock);
    return failed;
}

static int close_qcow2(emu_block *block) { return finish(qcow2_of(block)); }

static const emu_block_format qcow2_format = {
    .format = EMU_BLOCK_QCOW2,
    .readv = qcow2_readv,
    .writev = qcow2_writev,
    .flush = qcow2_flush,
    .discard = qcow2_discard,
    .write_zeroes = qcow2_write_zeroes,
    .resize = qcow2_resize,
    .check = check,
    .describe = describe,
    .close = close_qcow2,
};

/* Before the first write: what others left undone, and features that writing makes untrue. */
static int prepare(emu_qcow2 *q, char *error, size_t error_size)
{
    int failed = 0;
    q->end = qcow2_clusters(q, q->file->device ? 0 : q->file->size);
    q->l1_dirty = calloc(q->l1_size / L1_SECTOR + 1, 1);
    if (q->l1_dirty == NULL)
        failed = -ENOMEM;
    if (failed == 0 && q->version >= 3)
        failed = qcow2_put64(q, HEADER_AUTOCLEAR, 0);
    if (failed == 0 && (q->incompatible & INCOMPATIBLE_DIRTY)) {
        emu_block_report report = {0};
        failed = qcow2_check(q, true, &report);
        if (failed == 0)
            failed = qcow2_flush_alone(q);
        if (failed == 0 && report.repaired < report.errors + report.leaks) {
            emu_block_refuse(error, error_size, "%s: it was not closed and is damaged: repair it with "
                                                "`qemu-img check -r all`, or open it read-only", q->file->path);
            return -EINVAL;
        }
        q->incompatible &= ~(uint64_t)INCOMPATIBLE_DIRTY;
        if (failed == 0)
            failed = qcow2_put64(q, HEADER_INCOMPATIBLE, q->incompatible);
    }
    if (failed != 0)
        emu_block_refuse(error, error_size, "%s: it cannot be prepared for writing: %s: open it read-only",
                         q->file->path, strerror(-failed));
    return failed;
}

emu_block *emu_qcow2_open(emu_file *file, const emu_block_options *options, const emu_chain *chain, char *error,
                          size_t error_size)
{
    emu_qcow2 *q = calloc(1, sizeof *q);
    if (q == NULL)
        return emu_block_refuse(error, error_size, "%s: no memory left: free some", file->path);
    q->block.format = &qcow2_format;
    q->block.options = *options;
    q->file = file;
    q->writable = !options->read_only;
    pthread_rwlockattr_t attributes;
    pthread_rwlockattr_init(&attributes);
    /* Else readers that follow each other keep a writer waiting for ever. */
    pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&q->map, &attributes);
    pthread_rwlockattr_destroy(&attributes);
    pthread_mutex_init(&q->pages_lock, NULL);
    pthread_mutex_init(&q->inflate_lock, NULL);
    int failed = qcow2_read_header(q, options, chain, error, error_size);
    if (failed == 0 && (failed = qcow2_pages_init(q)) != 0)
        emu_block_refuse(error, error_size, "%s: no memory left: free some", file->path);
    if (failed == 0 && q->writable)
        failed = prepare(q, error, error_size);
    if (failed != 0) {
        q->corrupt = true; /* nothing is written back */
        finish(q);
        free(q);
        return NULL;
    }
    return &q->block;
}
