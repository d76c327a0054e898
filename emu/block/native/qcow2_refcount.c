/* How often each cluster of the file is referred to, and the references that are to go. */
#include "qcow2.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

uint64_t qcow2_max_refcount(const emu_qcow2 *q)
{
    return q->refcount_order == 6 ? UINT64_MAX : (UINT64_C(1) << (1u << q->refcount_order)) - 1;
}

/* A count in its page: big-endian from 16 bits on; below, the first is in a byte's lowest bits. */
static uint64_t get(const emu_qcow2 *q, const char *page, uint64_t index)
{
    const unsigned bits = 1u << q->refcount_order;
    const uint8_t *at = (const uint8_t *)page + index * bits / 8;
    uint64_t value = 0;
    if (bits < 8)
        return *at >> (index * bits % 8) & ((1u << bits) - 1);
    for (unsigned i = 0; i < bits / 8; i++)
        value = value << 8 | at[i];
    return value;
}

static void put(const emu_qcow2 *q, char *page, uint64_t index, uint64_t value)
{
    const unsigned bits = 1u << q->refcount_order;
    uint8_t *at = (uint8_t *)page + index * bits / 8;
    if (bits < 8) {
        const unsigned shift = (unsigned)(index * bits % 8);
        *at = (uint8_t)((*at & ~(((1u << bits) - 1) << shift)) | value << shift);
        return;
    }
    for (unsigned i = bits / 8; i-- > 0; value >>= 8)
        at[i] = (uint8_t)value;
}

/* The page that counts a cluster, and where in it; no page where no block does. */
static int find(emu_qcow2 *q, uint64_t index, qcow2_page **page, uint64_t *within)
{
    const uint64_t block = index >> q->block_bits;
    const uint64_t per_page = (uint64_t)q->page_bytes * 8 >> q->refcount_order;
    const uint64_t inside = index & ((UINT64_C(1) << q->block_bits) - 1);
    *page = NULL;
    if (block >= q->table_size || q->table[block] == 0)
        return 0;
    *within = inside % per_page;
    return qcow2_page_at(q, q->table[block] + inside / per_page * q->page_bytes, false, page);
}

int qcow2_refcount(emu_qcow2 *q, uint64_t index, uint64_t *count)
{
    qcow2_page *page;
    uint64_t within;
    *count = 0;
    int failed = find(q, index, &page, &within);
    if (failed == 0 && page != NULL)
        *count = get(q, page->data, within);
    return failed;
}

int qcow2_set_refcount(emu_qcow2 *q, uint64_t index, uint64_t count)
{
    qcow2_page *page;
    uint64_t within;
    if (count > qcow2_max_refcount(q))
        return -EFBIG;
    int failed = find(q, index, &page, &within);
    if (failed != 0)
        return failed;
    if (page == NULL)
        return -ENOENT;
    put(q, page->data, within, count);
    qcow2_page_changed(q, page);
    return 0;
}

int qcow2_release_room(emu_qcow2 *q, size_t ranges)
{
    if (q->released_count + ranges <= q->released_room)
        return 0;
    size_t room = (q->released_count + ranges) * 2;
    qcow2_range *more = realloc(q->released, room * sizeof *more);
    if (more == NULL)
        return -ENOMEM;
    q->released = more;
    q->released_room = room;
    return 0;
}

void qcow2_release(emu_qcow2 *q, uint64_t offset, uint64_t bytes)
{
    const uint64_t first = offset >> q->cluster_bits, count = ((offset + bytes - 1) >> q->cluster_bits) - first + 1;
    qcow2_range *last = q->released_count == 0 ? NULL : &q->released[q->released_count - 1];
    if (last != NULL && last->first + last->count == first)
        last->count += count;
    else if (q->released_count < q->released_room)
        q->released[q->released_count++] = (qcow2_range){first, count};
    /* Else they are lost until the image is repaired; callers see to it that there is room. */
}

/* One reference less; whether it was the last. */
static int decrease(emu_qcow2 *q, uint64_t index, bool *last)
{
    uint64_t count;
    int failed = qcow2_refcount(q, index, &count);
    if (failed != 0)
        return failed;
    if (count == 0)
        return qcow2_broken(q);
    *last = count == 1;
    if (*last && index < q->free_hint)
        q->free_hint = index;
    return qcow2_set_refcount(q, index, count - 1);
}

/* What nobody refers to any more need not take the host's space. */
static void punch(emu_qcow2 *q, uint64_t first, uint64_t count)
{
    if (count > 0 && q->block.options.discard)
        emu_file_punch(q->file, first << q->cluster_bits, count << q->cluster_bits);
}

int qcow2_settle(emu_qcow2 *q)
{
    int failed = 0;
    for (size_t i = 0; i < q->released_count && failed == 0; i++) {
        const qcow2_range range = q->released[i];
        uint64_t freed = 0, k = 0; /* `freed`: of those just before k */
        for (; k < range.count && failed == 0; k++) {
            bool last = false;
            failed = decrease(q, range.first + k, &last);
            if (last && failed == 0) {
                freed++;
                continue;
            }
            punch(q, range.first + k - freed, freed);
            freed = 0;
        }
        punch(q, range.first + k - freed, freed);
    }
    /* After an error some are lost until the image is repaired: better than to free one twice. */
    q->released_count = 0;
    return failed;
}

void qcow2_unallocate(emu_qcow2 *q, uint64_t offset, uint64_t clusters)
{
    bool last;
    for (uint64_t i = 0; i < clusters; i++)
        decrease(q, (offset >> q->cluster_bits) + i, &last);
}
