/*
 * Finds clusters that are free, and makes refcount blocks where there are none.
 *
 * A block that is missing is put at the first free cluster of those that it counts, so it counts itself.  When the
 * table of blocks is full, a larger one goes to the end of the file, together with the blocks that count it.
 */
#include "qcow2.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint64_t per_block(const emu_qcow2 *q) { return UINT64_C(1) << q->block_bits; }

static bool beyond_device(const emu_qcow2 *q, uint64_t clusters)
{
    return clusters > (uint64_t)INT64_MAX >> q->cluster_bits ||
           (q->file->device && clusters << q->cluster_bits > q->file->size);
}

/* Writes a new block at cluster `at`, in which `count` clusters from `first` on (of those it counts) are used. */
static int write_block(emu_qcow2 *q, uint64_t at, uint64_t first, uint64_t count)
{
    char *block = aligned_alloc(4096, q->cluster < 4096 ? 4096 : q->cluster);
    if (block == NULL)
        return -ENOMEM;
    memset(block, 0, q->cluster);
    const unsigned bits = 1u << q->refcount_order;
    for (uint64_t i = first & (per_block(q) - 1), end = i + count; i < end; i++) {
        if (bits < 8)
            block[i * bits / 8] |= (char)(1u << (i * bits % 8));
        else
            block[i * bits / 8 + bits / 8 - 1] = 1;
    }
    int failed = emu_file_write(q->file, block, q->cluster, at << q->cluster_bits);
    free(block);
    return failed;
}

/* The block that counts cluster `at`, put there. */
static int add_block(emu_qcow2 *q, uint64_t at)
{
    const uint64_t which = at >> q->block_bits, offset = at << q->cluster_bits;
    if (beyond_device(q, at + 1))
        return -ENOSPC;
    if (qcow2_metadata_has(q, offset, q->cluster))
        return qcow2_broken(q);
    int failed = write_block(q, at, at, 1);
    if (failed == 0)
        failed = qcow2_metadata_add(q, offset, q->cluster);
    if (failed != 0)
        return failed;
    failed = emu_file_sync(q->file); /* the block is there before the table says so */
    if (failed == 0)
        failed = qcow2_put64(q, q->table_offset + which * 8, offset);
    if (failed != 0) {
        qcow2_metadata_remove(q, offset, q->cluster);
        return failed;
    }
    q->table[which] = offset;
    return 0;
}

/* Whether a cluster is free; -ENOENT where nothing counts it yet. */
static int is_free(emu_qcow2 *q, uint64_t index)
{
    const uint64_t block = index >> q->block_bits;
    uint64_t count;
    if (block >= q->table_size || q->table[block] == 0)
        return -ENOENT;
    int failed = qcow2_refcount(q, index, &count);
    return failed != 0 ? failed : count == 0;
}

int qcow2_allocate(emu_qcow2 *q, uint64_t want, uint64_t *offset, uint64_t *got)
{
    uint64_t at = q->free_hint, count = 0;
    for (;;) {
        int found = is_free(q, at);
        if (found == -ENOENT) {
            uint64_t unused;
            int failed = at >> q->block_bits >= q->table_size ? qcow2_allocate_area(q, 0, &unused) : add_block(q, at);
            if (failed != 0)
                return failed;
            continue;
        }
        if (found < 0)
            return found;
        if (found)
            break;
        at++;
    }
    q->free_hint = at;
    do
        count++;
    while (count < want && is_free(q, at + count) == 1);
    while (count > 0 && beyond_device(q, at + count))
        count--;
    if (count == 0)
        return -ENOSPC;
    if (qcow2_metadata_has(q, at << q->cluster_bits, count << q->cluster_bits))
        return qcow2_broken(q); /* a table that is counted as free */
    for (uint64_t i = 0; i < count; i++) {
        int failed = qcow2_set_refcount(q, at + i, 1);
        if (failed != 0) {
            qcow2_unallocate(q, at << q->cluster_bits, i);
            return failed;
        }
    }
    q->free_hint = at + count;
    if (q->end < at + count)
        q->end = at + count;
    *offset = at << q->cluster_bits;
    *got = count;
    return 0;
}

/* -- areas at the end ------------------------------------------------------ */

/* New blocks first, then the new table if there is one, then what was asked for. */
typedef struct area {
    uint64_t start, blocks, table, clusters;
} area;

static uint64_t area_end(const area *a) { return a->start + a->blocks + a->table + a->clusters; }

static bool counted(const emu_qcow2 *q, uint64_t block) { return block < q->table_size && q->table[block] != 0; }

/* How many blocks and how large a table the area needs to count itself. */
static int plan(const emu_qcow2 *q, area *a)
{
    for (;;) {
        uint64_t last = area_end(a) > a->start ? area_end(a) - 1 : a->start, blocks = 0, table = 0;
        uint64_t entries = (last >> q->block_bits) + 1;
        for (uint64_t i = a->start >> q->block_bits; i < entries; i++)
            blocks += !counted(q, i);
        if (entries > q->table_size) {
            uint64_t bytes = (entries + entries / 2) * 8;
            if (bytes > MAX_TABLE_BYTES)
                bytes = MAX_TABLE_BYTES;
            if (entries * 8 > bytes)
                return -EFBIG;
            table = qcow2_clusters(q, bytes);
        }
        if (blocks <= a->blocks && table <= a->table)
            return 0;
        a->blocks = blocks > a->blocks ? blocks : a->blocks;
        a->table = table > a->table ? table : a->table;
    }
}

/* Whether the blocks that are there say that the whole area is free; else it begins behind what is not. */
static int settle_start(emu_qcow2 *q, area *a)
{
    a->start = qcow2_clusters(q, q->file->device ? 0 : q->file->size);
    if (a->start < q->end)
        a->start = q->end;
    /* Without clusters of its own it is there for the table: behind all that this one counts. */
    if (a->clusters == 0 && a->start < q->table_size << q->block_bits)
        a->start = q->table_size << q->block_bits;
    for (;;) {
        a->blocks = a->table = 0;
        int failed = plan(q, a);
        if (failed != 0)
            return failed;
        uint64_t used = 0;
        for (uint64_t i = a->start; i < area_end(a); i++) {
            int found = is_free(q, i);
            if (found == 0)
                used = i + 1;
            else if (found < 0 && found != -ENOENT)
                return found;
        }
        if (used == 0)
            return beyond_device(q, area_end(a)) ? -ENOSPC : 0;
        a->start = used;
    }
}

/* The table goes over to its new place. */
static int move_table(emu_qcow2 *q, const area *a, uint64_t *table)
{
    const uint64_t offset = (a->start + a->blocks) << q->cluster_bits, size = (a->table << q->cluster_bits) / 8;
    const uint64_t old_offset = q->table_offset, old_bytes = q->table_size * 8;
    char fields[12];
    uint64_t *swapped = malloc(size * 8);
    if (swapped == NULL)
        return -ENOMEM;
    for (uint64_t i = 0; i < size; i++)
        swapped[i] = htobe64(table[i]);
    int failed = emu_file_write(q->file, swapped, size * 8, offset);
    free(swapped);
    if (failed == 0)
        failed = qcow2_write_back(q); /* blocks that were there count the area too */
    if (failed == 0)
        failed = emu_file_sync(q->file);
    if (failed != 0)
        return failed;
    uint64_t where = htobe64(offset);
    uint32_t clusters = htobe32((uint32_t)a->table);
    memcpy(fields, &where, 8);
    memcpy(fields + 8, &clusters, 4);
    failed = emu_file_write(q->file, fields, sizeof fields, HEADER_TABLE_OFFSET);
    if (failed != 0)
        return failed;
    free(q->table);
    q->table = table;
    q->table_offset = offset;
    q->table_size = size;
    qcow2_metadata_remove(q, old_offset, old_bytes);
    qcow2_release(q, old_offset, old_bytes);
    return 0;
}

static void forget(emu_qcow2 *q, const area *a)
{
    qcow2_metadata_remove(q, a->start << q->cluster_bits, (a->blocks + a->table) << q->cluster_bits);
    for (uint64_t i = a->start; i < area_end(a); i++)
        if (counted(q, i >> q->block_bits))
            qcow2_set_refcount(q, i, 0);
}

int qcow2_allocate_area(emu_qcow2 *q, uint64_t clusters, uint64_t *offset)
{
    area a = {.clusters = clusters};
    int failed = qcow2_release_room(q, 1);
    if (failed == 0)
        failed = settle_start(q, &a);
    if (failed != 0)
        return failed;
    const uint64_t end = area_end(&a), size = a.table > 0 ? (a.table << q->cluster_bits) / 8 : q->table_size;
    uint64_t *table = calloc(size, sizeof *table), at = a.start;
    if (table == NULL)
        return -ENOMEM;
    memcpy(table, q->table, q->table_size * sizeof *table);
    if (qcow2_metadata_has(q, a.start << q->cluster_bits, (end - a.start) << q->cluster_bits))
        failed = qcow2_broken(q);
    else if (a.blocks + a.table > 0)
        failed = qcow2_metadata_add(q, a.start << q->cluster_bits, (a.blocks + a.table) << q->cluster_bits);
    for (uint64_t i = a.start; i < end && failed == 0;) {
        const uint64_t block = i >> q->block_bits, next = (block + 1) << q->block_bits, stop = next < end ? next : end;
        if (!counted(q, block)) {
            table[block] = at << q->cluster_bits;
            failed = write_block(q, at++, i, stop - i);
            i = stop;
        }
        for (; i < stop && failed == 0; i++)
            failed = qcow2_set_refcount(q, i, 1);
    }
    if (failed == 0)
        failed = a.table > 0 ? move_table(q, &a, table) : a.blocks > 0 ? emu_file_sync(q->file) : 0;
    if (failed != 0) {
        forget(q, &a);
        free(table);
        return failed;
    }
    if (table != q->table) {
        /* Half of the entries may be written when one fails: then the area is lost, but nothing is wrong. */
        for (uint64_t i = 0; i < size && failed == 0; i++)
            if (table[i] != q->table[i] && (failed = qcow2_put64(q, q->table_offset + i * 8, table[i])) == 0)
                q->table[i] = table[i];
        free(table);
    }
    if (failed != 0)
        return failed;
    q->end = end;
    *offset = (a.start + a.blocks + a.table) << q->cluster_bits;
    return 0;
}

int qcow2_add_block_for(emu_qcow2 *q, uint64_t block)
{
    uint64_t offset;
    if (block >= q->table_size)
        return -ENOENT;
    int failed = qcow2_allocate_area(q, 1, &offset);
    if (failed != 0 || q->table[block] != 0)
        return failed;
    failed = write_block(q, offset >> q->cluster_bits, 0, 0);
    if (failed == 0)
        failed = qcow2_metadata_add(q, offset, q->cluster);
    if (failed == 0)
        failed = qcow2_write_back(q);
    if (failed == 0)
        failed = emu_file_sync(q->file);
    if (failed == 0)
        failed = qcow2_put64(q, q->table_offset + block * 8, offset);
    if (failed == 0)
        q->table[block] = offset;
    return failed;
}
