/* The clusters that hold tables: a guest's data never goes there, whatever an image says. */
#include "qcow2.h"

#include <errno.h>
#include <stdlib.h>

static uint64_t place(const emu_qcow2 *q, uint64_t key)
{
    return (key * UINT64_C(0x9E3779B97F4A7C15) >> 20) & (q->metadata_room - 1);
}

/* Where `key` is, or the empty place where it would be. */
static uint64_t find(const emu_qcow2 *q, uint64_t key)
{
    uint64_t at = place(q, key);
    while (q->metadata[at] != 0 && q->metadata[at] != key)
        at = (at + 1) & (q->metadata_room - 1);
    return at;
}

static int room(emu_qcow2 *q)
{
    if (q->metadata != NULL && q->metadata_count < q->metadata_room / 2)
        return 0;
    uint64_t *old = q->metadata, old_room = old == NULL ? 0 : q->metadata_room;
    uint64_t *more = calloc(old == NULL ? 64 : old_room * 2, sizeof *more);
    if (more == NULL)
        return -ENOMEM;
    q->metadata = more;
    q->metadata_room = old == NULL ? 64 : old_room * 2;
    for (uint64_t i = 0; i < old_room; i++)
        if (old[i] != 0)
            more[find(q, old[i])] = old[i];
    free(old);
    return 0;
}

int qcow2_metadata_add(emu_qcow2 *q, uint64_t offset, uint64_t bytes)
{
    const uint64_t first = offset >> q->cluster_bits, count = qcow2_clusters(q, bytes);
    for (uint64_t i = first; i < first + count; i++) {
        int failed = room(q);
        if (failed != 0)
            return failed;
        uint64_t at = find(q, i + 1);
        if (q->metadata[at] != 0)
            return -EEXIST;
        q->metadata[at] = i + 1;
        q->metadata_count++;
    }
    return 0;
}

void qcow2_metadata_remove(emu_qcow2 *q, uint64_t offset, uint64_t bytes)
{
    const uint64_t first = offset >> q->cluster_bits, count = qcow2_clusters(q, bytes), mask = q->metadata_room - 1;
    for (uint64_t i = first; i < first + count && q->metadata != NULL; i++) {
        uint64_t hole = find(q, i + 1);
        if (q->metadata[hole] == 0)
            continue;
        q->metadata[hole] = 0;
        q->metadata_count--;
        /* Those behind it that would not be found any more move up. */
        for (uint64_t at = (hole + 1) & mask; q->metadata[at] != 0; at = (at + 1) & mask) {
            uint64_t key = q->metadata[at];
            q->metadata[at] = 0;
            q->metadata[find(q, key)] = key;
        }
    }
}

bool qcow2_metadata_has(const emu_qcow2 *q, uint64_t offset, uint64_t bytes)
{
    const uint64_t first = offset >> q->cluster_bits, last = (offset + bytes - 1) >> q->cluster_bits;
    for (uint64_t i = first; i <= last && q->metadata != NULL; i++)
        if (q->metadata[find(q, i + 1)] != 0)
            return true;
    return false;
}
