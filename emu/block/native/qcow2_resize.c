/* A disk that becomes larger or smaller. */
#include "qcow2.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A larger L1, at the end of the file.  Nothing is held back while it moves. */
static int grow_l1(emu_qcow2 *q, uint64_t entries)
{
    const uint64_t bytes = entries * 8, old_bytes = (uint64_t)q->l1_size * 8;
    uint64_t offset;
    if (bytes > MAX_L1_BYTES)
        return -EFBIG;
    int failed = qcow2_flush_alone(q);
    if (failed == 0)
        failed = qcow2_allocate_area(q, qcow2_clusters(q, bytes), &offset);
    if (failed != 0)
        return failed;
    uint64_t *table = calloc(entries, 8), *swapped = calloc(1, qcow2_up(q, bytes));
    uint8_t *dirty = calloc(entries / L1_SECTOR + 1, 1);
    failed = table == NULL || swapped == NULL || dirty == NULL ? -ENOMEM : qcow2_release_room(q, 1);
    for (uint64_t i = 0; i < q->l1_size && failed == 0; i++) {
        table[i] = q->l1[i];
        swapped[i] = htobe64(table[i]);
    }
    if (failed == 0)
        failed = qcow2_metadata_add(q, offset, bytes);
    if (failed == 0)
        failed = emu_file_write(q->file, swapped, qcow2_up(q, bytes), offset);
    if (failed == 0)
        failed = qcow2_write_back(q);
    if (failed == 0)
        failed = emu_file_sync(q->file);
    free(swapped);
    if (failed == 0) {
        char fields[12];
        uint32_t size = htobe32((uint32_t)entries);
        uint64_t where = htobe64(offset);
        memcpy(fields, &size, 4);
        memcpy(fields + 4, &where, 8);
        failed = emu_file_write(q->file, fields, sizeof fields, HEADER_L1_SIZE);
    }
    if (failed != 0) {
        qcow2_metadata_remove(q, offset, bytes);
        qcow2_unallocate(q, offset, qcow2_clusters(q, bytes));
        free(table);
        free(dirty);
        return failed;
    }
    if (q->l1_size > 0) {
        qcow2_metadata_remove(q, q->l1_offset, old_bytes);
        qcow2_release(q, q->l1_offset, old_bytes);
    }
    free(q->l1);
    free(q->l1_dirty);
    q->l1 = table;
    q->l1_dirty = dirty;
    q->l1_offset = offset;
    q->l1_size = (uint32_t)entries;
    return 0;
}

/* What is added reads as zeroes, whatever the last cluster or the backing file have there. */
static int zero_added(emu_qcow2 *q, uint64_t old, uint64_t size)
{
    uint64_t end = qcow2_up(q, old);
    if (q->backing != NULL && end < q->backing->size)
        end = q->backing->size;
    if (end > size)
        end = size;
    return end > old ? qcow2_zero_alone(q, old, end - old, ZERO_KEEP) : 0;
}

static int resize(emu_qcow2 *q, uint64_t size)
{
    const uint64_t old = q->block.size;
    const unsigned covers = q->cluster_bits + q->l2_bits;
    int failed = q->corrupt ? -EIO : 0;
    if (q->snapshots > 0 && (size < old || q->version < 3))
        return -ENOTSUP;
    if (size > (uint64_t)INT64_MAX - q->cluster)
        return -EFBIG;
    if (size < old && failed == 0)
        failed = qcow2_zero_alone(q, size, old - size, ZERO_DROP);
    const uint64_t needed = (size + (UINT64_C(1) << covers) - 1) >> covers;
    if (failed == 0 && needed > q->l1_size)
        failed = grow_l1(q, needed);
    if (failed == 0 && size > old) {
        q->block.size = size;
        failed = zero_added(q, old, size);
        q->block.size = old;
    }
    if (failed == 0)
        failed = qcow2_flush_alone(q);
    if (failed == 0)
        failed = qcow2_put64(q, HEADER_SIZE, size);
    if (failed == 0)
        q->block.size = size;
    return failed;
}

int qcow2_resize(emu_block *block, uint64_t size)
{
    emu_qcow2 *q = qcow2_of(block);
    pthread_rwlock_wrlock(&q->map);
    int failed = resize(q, size);
    pthread_rwlock_unlock(&q->map);
    return failed;
}
