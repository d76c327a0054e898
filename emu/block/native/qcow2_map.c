/* Where a guest's clusters are: L1 and L2. */
#include "qcow2.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Clusters that one lookup goes through at most: `pages_lock` is held meanwhile. */
enum { MOST = 1 << 14 };

static uint64_t l1_index(const emu_qcow2 *q, uint64_t offset) { return offset >> (q->cluster_bits + q->l2_bits); }
static uint64_t l2_index(const emu_qcow2 *q, uint64_t offset)
{
    return offset >> q->cluster_bits & ((UINT64_C(1) << q->l2_bits) - 1);
}

/* The entry's page, and where it is there. */
static int l2_page(emu_qcow2 *q, uint64_t l2, uint64_t index, qcow2_page **page, uint64_t **entries)
{
    const uint64_t at = index * 8, within = at % q->page_bytes;
    int failed = qcow2_page_at(q, l2 + at - within, true, page);
    if (failed == 0)
        *entries = (uint64_t *)((*page)->data + within);
    return failed;
}

void qcow2_compressed_place(const emu_qcow2 *q, uint64_t entry, uint64_t *offset, uint64_t *bytes)
{
    const unsigned shift = 62 - (q->cluster_bits - 8);
    const uint64_t sectors = (entry & (ENTRY_COMPRESSED - 1)) >> shift;
    *offset = entry & ((UINT64_C(1) << shift) - 1);
    *bytes = (sectors + 1) * 512 - *offset % 512;
}

/* What an entry says of its cluster; false if it is none that the format has. */
static bool decode(const emu_qcow2 *q, uint64_t entry, qcow2_extent *extent)
{
    extent->copied = (entry & ENTRY_COPIED) != 0;
    extent->host = entry & ENTRY_OFFSET;
    if (entry & ENTRY_COMPRESSED) {
        uint64_t offset, bytes;
        qcow2_compressed_place(q, entry, &offset, &bytes);
        extent->kind = EXTENT_COMPRESSED;
        extent->host = entry;
        extent->copied = false;
        return offset < q->file->size;
    }
    if (entry & ENTRY_ZERO) {
        extent->kind = EXTENT_ZERO;
        extent->copied = extent->copied && extent->host != 0;
        return q->version >= 3 && (extent->host & (q->cluster - 1)) == 0 &&
               (extent->host == 0 || extent->host < q->file->size);
    }
    extent->kind = extent->host == 0 ? EXTENT_HOLE : EXTENT_DATA;
    extent->copied = extent->copied && extent->host != 0;
    return (extent->host & (q->cluster - 1)) == 0 && (extent->host == 0 || extent->host < q->file->size);
}

/* Whether `next` goes on where `extent`, of `clusters` clusters, ends. */
static bool follows(const emu_qcow2 *q, const qcow2_extent *extent, const qcow2_extent *next, uint64_t clusters)
{
    if (next->kind != extent->kind || next->copied != extent->copied || extent->kind == EXTENT_COMPRESSED)
        return false;
    if (extent->kind == EXTENT_HOLE || (extent->kind == EXTENT_ZERO && !extent->copied))
        return true;
    return next->host == extent->host + (clusters << q->cluster_bits);
}

static int lookup_l2(emu_qcow2 *q, uint64_t l2, uint64_t index, uint64_t want, qcow2_extent *extent, uint64_t *clusters)
{
    const uint64_t end = UINT64_C(1) << q->l2_bits;
    *clusters = 0;
    while (*clusters < want && index + *clusters < end) {
        qcow2_page *page;
        uint64_t *entries;
        int failed = l2_page(q, l2, index + *clusters, &page, &entries);
        if (failed != 0)
            return failed;
        uint64_t left = (q->page_bytes - (uint64_t)((char *)entries - page->data)) / 8;
        for (uint64_t i = 0; i < left && *clusters < want; i++) {
            qcow2_extent next;
            bool good = decode(q, be64toh(entries[i]), &next);
            if (*clusters == 0) {
                if (!good)
                    return -EIO;
                *extent = next;
            } else if (!good || !follows(q, extent, &next, *clusters)) {
                return 0;
            }
            ++*clusters;
        }
    }
    return 0;
}

int qcow2_lookup(emu_qcow2 *q, uint64_t offset, uint64_t length, qcow2_extent *extent)
{
    const uint64_t index = l1_index(q, offset), within = offset & (q->cluster - 1);
    uint64_t want = qcow2_clusters(q, within + length), clusters;
    if (index >= q->l1_size)
        return -EIO;
    const uint64_t l2 = q->l1[index] & ENTRY_OFFSET;
    if (l2 == 0) {
        *extent = (qcow2_extent){.kind = EXTENT_HOLE};
        clusters = (UINT64_C(1) << q->l2_bits) - l2_index(q, offset);
    } else {
        if ((l2 & (q->cluster - 1)) != 0)
            return -EIO;
        pthread_mutex_lock(&q->pages_lock);
        int failed = lookup_l2(q, l2, l2_index(q, offset), want < MOST ? want : MOST, extent, &clusters);
        pthread_mutex_unlock(&q->pages_lock);
        if (failed != 0)
            return failed;
    }
    extent->length = (clusters << q->cluster_bits) - within;
    if (extent->length > length)
        extent->length = length;
    if (extent->kind == EXTENT_DATA)
        extent->host += within;
    return 0;
}

/* The new table's contents: the old one's, or none. */
static int fill_l2(emu_qcow2 *q, uint64_t old, uint64_t fresh)
{
    if (old == 0) {
        /* Written, so that it is in the file whatever the host makes of holes. */
        struct iovec list[(1 << MAX_CLUSTER_BITS) / EMU_ZEROES];
        for (unsigned i = 0; i < sizeof list / sizeof *list; i++)
            list[i] = (struct iovec){emu_zeroes, EMU_ZEROES};
        return emu_file_writev(q->file, list, sizeof list / sizeof *list, 0, q->cluster, fresh);
    }
    for (uint64_t at = 0; at < q->cluster; at += q->page_bytes) {
        qcow2_page *page;
        int failed = qcow2_page_at(q, old + at, true, &page);
        if (failed == 0)
            failed = emu_file_write(q->file, page->data, q->page_bytes, fresh + at);
        if (failed != 0)
            return failed;
    }
    return 0;
}

int qcow2_own_l2(emu_qcow2 *q, uint64_t offset, uint64_t *l2)
{
    const uint64_t index = l1_index(q, offset), entry = q->l1[index], old = entry & ENTRY_OFFSET;
    uint64_t got;
    if ((old & (q->cluster - 1)) != 0 || (old != 0 && old >= q->file->size))
        return qcow2_broken(q);
    *l2 = old;
    if (old != 0 && (entry & ENTRY_COPIED))
        return 0;
    int failed = qcow2_release_room(q, 1);
    if (failed == 0)
        failed = qcow2_allocate(q, 1, l2, &got);
    if (failed != 0)
        return failed;
    failed = fill_l2(q, old, *l2);
    if (failed == 0)
        failed = qcow2_metadata_add(q, *l2, q->cluster);
    if (failed != 0) {
        qcow2_unallocate(q, *l2, 1);
        return failed;
    }
    q->l1[index] = *l2 | ENTRY_COPIED;
    q->l1_dirty[index / L1_SECTOR] = 1;
    q->l1_any_dirty = true;
    if (old != 0) {
        qcow2_pages_forget(q, old, q->cluster);
        qcow2_metadata_remove(q, old, q->cluster);
        qcow2_release(q, old, q->cluster);
    }
    return 0;
}

/* What an entry referred to loses a reference, unless `entry` refers to it as well. */
static void release_old(emu_qcow2 *q, uint64_t old, uint64_t entry)
{
    if (old & ENTRY_COMPRESSED) {
        uint64_t offset, bytes;
        qcow2_compressed_place(q, old, &offset, &bytes);
        qcow2_release(q, offset, bytes);
    } else if ((old & ENTRY_OFFSET) != 0 && (entry & ENTRY_OFFSET) != (old & ENTRY_OFFSET)) {
        qcow2_release(q, old & ENTRY_OFFSET, q->cluster);
    }
}

int qcow2_set_entries(emu_qcow2 *q, uint64_t l2, uint64_t index, uint64_t count, uint64_t entry, uint64_t step,
                      uint64_t *done)
{
    *done = 0;
    while (*done < count) {
        qcow2_page *page;
        uint64_t *entries;
        int failed = l2_page(q, l2, index + *done, &page, &entries);
        uint64_t left = count - *done, room = failed != 0 ? 0 : (q->page_bytes - (uint64_t)((char *)entries - page->data)) / 8;
        if (left > room)
            left = room;
        if (failed == 0)
            failed = qcow2_release_room(q, left);
        if (failed != 0)
            return failed;
        for (uint64_t i = 0; i < left; i++, entry += step, ++*done) {
            uint64_t old = be64toh(entries[i]);
            entries[i] = htobe64(entry);
            release_old(q, old, entry);
        }
        qcow2_page_changed(q, page);
    }
    return 0;
}
