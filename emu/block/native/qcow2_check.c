/*
 * Counts what refers to each cluster, and compares that with the counts that the image has.
 *
 * An L2 table that several L1 tables share is walked once, and counts as often as it is referred to.  So the time it takes
 * depends on the file's size, whatever the file says.
 */
#include "qcow2.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Clusters of the largest file that is checked: the counts take 8 bytes for each. */
#define MOST (UINT64_C(1) << 30)

typedef struct checker {
    emu_qcow2 *q;
    emu_block_report *report;
    uint64_t clusters;
    uint32_t *counts, *l2_counts; /* of all references; of those by L1 tables */
} checker;

static void refer(checker *c, uint64_t offset, uint64_t bytes, uint32_t times)
{
    const uint64_t first = offset >> c->q->cluster_bits, last = (offset + bytes - 1) >> c->q->cluster_bits;
    for (uint64_t i = first; i <= last; i++) {
        if (i >= c->clusters) {
            c->report->errors++; /* outside the file */
            return;
        }
        c->counts[i] = c->counts[i] > UINT32_MAX - times ? UINT32_MAX : c->counts[i] + times;
    }
}

/* A table of entries in the file's order; -ENOENT where it is not in the file. */
static int read_entries(checker *c, uint64_t offset, uint64_t bytes, uint64_t **entries)
{
    emu_qcow2 *q = c->q;
    *entries = NULL;
    if ((offset & (q->cluster - 1)) != 0 || offset >= q->file->size || bytes > qcow2_up(q, q->file->size) - offset)
        return -ENOENT;
    *entries = malloc(bytes + 8);
    int failed = *entries == NULL ? -ENOMEM : emu_file_read(q->file, *entries, bytes, offset);
    for (uint64_t i = 0; i < bytes / 8 && failed == 0; i++)
        (*entries)[i] = be64toh((*entries)[i]);
    return failed;
}

static void walk_l1(checker *c, const uint64_t *l1, uint64_t entries)
{
    for (uint64_t i = 0; i < entries; i++) {
        const uint64_t l2 = l1[i] & ENTRY_OFFSET;
        if (l2 == 0)
            continue;
        if ((l2 & (c->q->cluster - 1)) != 0) {
            c->report->errors++;
            continue;
        }
        refer(c, l2, c->q->cluster, 1);
        if (l2 >> c->q->cluster_bits < c->clusters)
            c->l2_counts[l2 >> c->q->cluster_bits]++;
    }
}

static int walk_snapshots(checker *c)
{
    emu_qcow2 *q = c->q;
    uint64_t at = q->snapshots_offset;
    for (uint32_t i = 0; i < q->snapshots; i++) {
        qcow2_snapshot snapshot;
        int failed = qcow2_snapshot_at(q, at, &snapshot);
        if (failed != 0) {
            c->report->errors++;
            return 0;
        }
        at = snapshot.end;
        const uint64_t first = snapshot.l1_offset >> q->cluster_bits, bytes = snapshot.l1_size * 8;
        if (snapshot.l1_size == 0)
            continue;
        bool again = first < c->clusters && c->counts[first] > 0;
        refer(c, snapshot.l1_offset, bytes, 1);
        uint64_t *l1;
        failed = again ? -ENOENT : read_entries(c, snapshot.l1_offset, bytes, &l1);
        if (failed == 0) {
            walk_l1(c, l1, snapshot.l1_size);
            free(l1);
        } else if (failed == -ENOENT) {
            c->report->errors++;
        } else {
            return failed;
        }
    }
    if (q->snapshots > 0)
        refer(c, q->snapshots_offset, at - q->snapshots_offset, 1);
    return 0;
}

static void walk_l2(checker *c, const uint64_t *entries, uint32_t times)
{
    emu_qcow2 *q = c->q;
    for (uint64_t i = 0; i < q->cluster / 8; i++) {
        const uint64_t entry = entries[i], host = entry & ENTRY_OFFSET;
        uint64_t offset = host, bytes = q->cluster;
        if (entry & ENTRY_COMPRESSED) {
            qcow2_compressed_place(q, entry, &offset, &bytes);
        } else if ((host & (q->cluster - 1)) != 0 || (q->version < 3 && (entry & ENTRY_ZERO))) {
            c->report->errors++;
            continue;
        } else if (host == 0) {
            continue;
        }
        c->report->allocated++;
        refer(c, offset, bytes, times);
    }
}

static int count_references(checker *c)
{
    emu_qcow2 *q = c->q;
    refer(c, 0, q->cluster, 1);
    if (q->l1_size > 0)
        refer(c, q->l1_offset, (uint64_t)q->l1_size * 8, 1);
    refer(c, q->table_offset, q->table_size * 8, 1);
    for (uint64_t i = 0; i < q->table_size; i++) {
        if ((q->table[i] & (q->cluster - 1)) != 0)
            c->report->errors++;
        else if (q->table[i] != 0)
            refer(c, q->table[i], q->cluster, 1);
    }
    walk_l1(c, q->l1, q->l1_size);
    int failed = walk_snapshots(c);
    for (uint64_t i = 0; i < c->clusters && failed == 0; i++) {
        uint64_t *l2;
        if (c->l2_counts[i] == 0)
            continue;
        failed = read_entries(c, i << q->cluster_bits, q->cluster, &l2);
        if (failed == 0)
            walk_l2(c, l2, c->l2_counts[i]);
        free(l2);
    }
    return failed;
}

/* One cluster's count as the image has it, and as it should be. */
static int compare(checker *c, uint64_t index, bool repair)
{
    emu_qcow2 *q = c->q;
    uint64_t count;
    int failed = qcow2_refcount(q, index, &count);
    if (failed == -EIO) {
        c->report->errors += c->counts[index] > 0; /* a block outside the file */
        return 0;
    }
    if (failed != 0 || count == c->counts[index])
        return failed;
    *(count > c->counts[index] ? &c->report->leaks : &c->report->errors) += 1;
    if (!repair)
        return 0;
    failed = qcow2_set_refcount(q, index, c->counts[index]);
    if (failed == -ENOENT && qcow2_add_block_for(q, index >> q->block_bits) == 0)
        failed = qcow2_set_refcount(q, index, c->counts[index]);
    if (failed == 0)
        c->report->repaired++;
    return failed == -ENOENT || failed == -EFBIG ? 0 : failed;
}

/* Whether an entry of the image's own tables may say that it is the only reference. */
static bool flag_is_wrong(const checker *c, uint64_t entry)
{
    const uint64_t index = (entry & ENTRY_OFFSET) >> c->q->cluster_bits;
    if ((entry & ENTRY_COMPRESSED) || (entry & ENTRY_OFFSET) == 0 || index >= c->clusters)
        return false;
    return (c->counts[index] == 1) != ((entry & ENTRY_COPIED) != 0);
}

static int compare_flags(checker *c, bool repair)
{
    emu_qcow2 *q = c->q;
    int failed = 0;
    for (uint64_t i = 0; i < q->l1_size && failed == 0; i++) {
        const uint64_t offset = q->l1[i] & ENTRY_OFFSET;
        uint64_t *l2;
        if (offset == 0)
            continue;
        if (flag_is_wrong(c, q->l1[i])) {
            c->report->errors++;
            if (repair) {
                q->l1[i] ^= ENTRY_COPIED;
                q->l1_dirty[i / L1_SECTOR] = 1;
                q->l1_any_dirty = true;
                c->report->repaired++;
            }
        }
        failed = read_entries(c, offset, q->cluster, &l2);
        for (uint64_t k = 0; k < q->cluster / 8 && failed == 0; k++) {
            if (!flag_is_wrong(c, l2[k]))
                continue;
            c->report->errors++;
            qcow2_page *page;
            if (!repair || (failed = qcow2_page_at(q, offset + k * 8 / q->page_bytes * q->page_bytes, true, &page)) != 0)
                continue;
            uint64_t entry = htobe64(l2[k] ^ ENTRY_COPIED);
            memcpy(page->data + k * 8 % q->page_bytes, &entry, 8);
            qcow2_page_changed(q, page);
            c->report->repaired++;
        }
        free(l2);
        if (failed == -ENOENT)
            failed = 0;
    }
    return failed;
}

int qcow2_check(emu_qcow2 *q, bool repair, emu_block_report *report)
{
    checker c = {.q = q, .report = report, .clusters = qcow2_clusters(q, q->file->size)};
    if (c.clusters < q->end && q->writable)
        c.clusters = q->end;
    if (c.clusters > MOST)
        return -EFBIG;
    c.counts = calloc(c.clusters, sizeof *c.counts);
    c.l2_counts = calloc(c.clusters, sizeof *c.l2_counts);
    int failed = c.counts == NULL || c.l2_counts == NULL ? -ENOMEM : count_references(&c);
    for (uint64_t i = 0; i < c.clusters && failed == 0; i++)
        failed = compare(&c, i, repair);
    if (failed == 0)
        failed = compare_flags(&c, repair);
    free(c.counts);
    free(c.l2_counts);
    return failed;
}
