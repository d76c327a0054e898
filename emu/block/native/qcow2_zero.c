/* Ranges without data: zeroes and discards, by changing tables where the format can say it. */
#include "qcow2.h"

#include <errno.h>

enum { VECTORS = 256 };

static int write_zero_data(emu_qcow2 *q, uint64_t offset, uint64_t length)
{
    struct iovec list[VECTORS];
    for (int i = 0; i < VECTORS; i++)
        list[i] = (struct iovec){emu_zeroes, EMU_ZEROES};
    while (length > 0) {
        uint64_t size = length < sizeof emu_zeroes * VECTORS ? length : sizeof emu_zeroes * VECTORS;
        int failed = qcow2_write_alone(q, list, VECTORS, 0, size, offset);
        if (failed != 0)
            return failed;
        offset += size, length -= size;
    }
    return 0;
}

/* Part of a cluster. */
static int zero_part(emu_qcow2 *q, uint64_t offset, uint64_t length)
{
    bool zero;
    int failed = qcow2_reads_zero(q, offset, length, &zero);
    return failed != 0 || zero ? failed : write_zero_data(q, offset, length);
}

enum { LEAVE, SET, WRITE };

/* What is to be done with clusters that are as `extent` says; SET: the first new entry, and the step to the next. */
static int decide(const emu_qcow2 *q, const qcow2_extent *extent, uint64_t offset, int mode, uint64_t *entry,
                  uint64_t *step)
{
    const bool behind = q->backing != NULL && offset < q->backing->size;
    *entry = behind ? ENTRY_ZERO : 0;
    *step = 0;
    if (mode == ZERO_DROP) {
        *entry = 0;
        return extent->kind == EXTENT_HOLE ? LEAVE : SET;
    }
    if (extent->kind == EXTENT_HOLE && !behind)
        return LEAVE;
    if (extent->kind == EXTENT_ZERO && (mode == ZERO_KEEP || extent->host == 0))
        return LEAVE;
    if (q->version < 3 && behind)
        return mode == ZERO_DISCARD ? LEAVE : WRITE;
    if (extent->kind == EXTENT_DATA && extent->copied && mode == ZERO_KEEP) {
        if (q->version < 3)
            return WRITE;
        *entry = extent->host | ENTRY_COPIED | ENTRY_ZERO;
        *step = q->cluster;
    }
    return SET;
}

/* The clusters of an extent that begins with one. */
static int zero_extent(emu_qcow2 *q, const qcow2_extent *extent, uint64_t offset, int mode)
{
    uint64_t entry, step, l2, done;
    switch (decide(q, extent, offset, mode, &entry, &step)) {
    case LEAVE:
        return 0;
    case WRITE:
        return write_zero_data(q, offset, extent->length);
    }
    int failed = qcow2_flush_many(q);
    if (failed == 0)
        failed = qcow2_own_l2(q, offset, &l2);
    if (failed == 0)
        failed = qcow2_set_entries(q, l2, offset >> q->cluster_bits & ((UINT64_C(1) << q->l2_bits) - 1),
                                   qcow2_clusters(q, extent->length), entry, step, &done);
    q->inflated_entry = 0;
    return failed;
}

int qcow2_zero_alone(emu_qcow2 *q, uint64_t offset, uint64_t length, int mode)
{
    uint64_t end = offset + length, within = offset & (q->cluster - 1), part = 0;
    const bool parts = mode == ZERO_KEEP || mode == ZERO_UNMAP;
    int failed = q->corrupt ? -EIO : 0;
    if (within != 0) {
        part = q->cluster - within < length ? q->cluster - within : length;
        if (parts && failed == 0)
            failed = zero_part(q, offset, part);
        offset += part;
    }
    /* The image's last cluster is whole where the image ends. */
    const uint64_t whole = end == q->block.size ? end : qcow2_down(q, end);
    while (failed == 0 && offset < whole) {
        qcow2_extent extent;
        failed = qcow2_lookup(q, offset, whole - offset, &extent);
        if (failed == 0)
            failed = zero_extent(q, &extent, offset, mode);
        offset += extent.length;
    }
    if (failed == 0 && parts && offset < end)
        failed = zero_part(q, offset, end - offset);
    return failed;
}

int qcow2_discard(emu_block *block, uint64_t offset, uint64_t length)
{
    emu_qcow2 *q = qcow2_of(block);
    pthread_rwlock_wrlock(&q->map);
    int failed = qcow2_zero_alone(q, offset, length, ZERO_DISCARD);
    pthread_rwlock_unlock(&q->map);
    return failed;
}

int qcow2_write_zeroes(emu_block *block, uint64_t offset, uint64_t length, int may_unmap)
{
    emu_qcow2 *q = qcow2_of(block);
    pthread_rwlock_wrlock(&q->map);
    int failed = qcow2_zero_alone(q, offset, length, may_unmap ? ZERO_UNMAP : ZERO_KEEP);
    pthread_rwlock_unlock(&q->map);
    return failed;
}
