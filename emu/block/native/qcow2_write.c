/*
 * Writing.  Clusters that are the image's alone are written where they are, by any number of threads.  Others get new
 * clusters, as many as can be had next to each other: one write has the guest's data and, before and after it, what the
 * first and the last cluster held; then the tables change.
 */
#include "qcow2.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Data may not be where tables are, nor make the file longer than its last cluster. */
static bool writable_place(const emu_qcow2 *q, uint64_t host, uint64_t length)
{
    return host + length <= qcow2_up(q, q->file->size) && !qcow2_metadata_has(q, host, length);
}

static int write_in_place(emu_qcow2 *q, const qcow2_extent *extent, const struct iovec *iov, int count, uint64_t skip)
{
    if (!writable_place(q, extent->host, extent->length))
        return qcow2_broken(q);
    return emu_file_writev(q->file, iov, count, skip, extent->length, extent->host);
}

/* What stands before or after the guest's data in a cluster. */
typedef struct border {
    uint64_t offset, length; /* of the guest's disk */
    bool zero;
    char *data;
} border;

static int read_border(emu_qcow2 *q, border *b)
{
    if (b->length == 0)
        return 0;
    /* The image may end within its last cluster; what is behind is nobody's. */
    uint64_t inside = b->offset >= q->block.size ? 0 : q->block.size - b->offset;
    if (inside > b->length)
        inside = b->length;
    int failed = qcow2_reads_zero(q, b->offset, inside, &b->zero);
    if (failed != 0 || b->zero)
        return failed;
    b->data = aligned_alloc(4096, (b->length + 4095) & ~UINT64_C(4095));
    if (b->data == NULL)
        return -ENOMEM;
    memset(b->data, 0, b->length);
    struct iovec iov = {b->data, inside};
    return qcow2_read(q, &iov, 1, 0, inside, b->offset);
}

static int add_border(struct iovec *list, int used, const border *b)
{
    if (b->data != NULL) {
        list[used++] = (struct iovec){b->data, b->length};
        return used;
    }
    for (uint64_t at = 0; at < b->length; at += EMU_ZEROES)
        list[used++] = (struct iovec){emu_zeroes, b->length - at < EMU_ZEROES ? b->length - at : EMU_ZEROES};
    return used;
}

/* Fills the clusters at `host`: borders and data in one write.  What is new in the file is zero by itself. */
static int write_filled(emu_qcow2 *q, border *head, border *tail, const struct iovec *iov, int count, uint64_t skip,
                        uint64_t length, uint64_t host)
{
    const uint64_t size = q->file->device ? UINT64_MAX : q->file->size, whole = head->length + length + tail->length;
    uint64_t start = host, taken;
    border none = {0};
    if (head->zero && host >= size) {
        start += head->length;
        head = &none;
    }
    if (tail->zero && host + whole - q->cluster >= size)
        tail = &none;
    const uint64_t pieces = (head->length + tail->length) / EMU_ZEROES + 2 + (uint64_t)count;
    struct iovec *list = malloc(pieces * sizeof *list);
    if (list == NULL)
        return -ENOMEM;
    int used = add_border(list, 0, head);
    used += emu_iov_part(iov, count, skip, length, list + used, count, &taken);
    used = add_border(list, used, tail);
    int failed = emu_file_writev(q->file, list, used, 0, head->length + length + tail->length, start);
    free(list);
    return failed;
}

/* How many clusters from `offset` on need new ones; none of them may be written in place. */
static int run_of_new(emu_qcow2 *q, uint64_t offset, uint64_t length, uint64_t *run)
{
    const uint64_t span = q->cluster << q->l2_bits, room = span - (offset & (span - 1));
    if (length > room)
        length = room; /* one L2 table */
    *run = 0;
    while (*run < length) {
        qcow2_extent extent;
        int failed = qcow2_lookup(q, offset + *run, length - *run, &extent);
        if (failed != 0)
            return failed;
        if (extent.copied)
            return 0;
        *run += extent.length;
    }
    return 0;
}

/* Writes into clusters at `host` and lets the L2 table say so. */
static int write_and_link(emu_qcow2 *q, uint64_t host, const struct iovec *iov, int count, uint64_t skip,
                          uint64_t length, uint64_t offset, uint64_t *linked)
{
    const uint64_t first = qcow2_down(q, offset), end = offset + length, last = qcow2_up(q, end);
    border head = {.offset = first, .length = offset - first}, tail = {.offset = end, .length = last - end};
    uint64_t l2;
    *linked = 0;
    int failed = qcow2_own_l2(q, offset, &l2);
    if (failed == 0)
        failed = read_border(q, &head);
    if (failed == 0)
        failed = read_border(q, &tail);
    if (failed == 0)
        failed = write_filled(q, &head, &tail, iov, count, skip, length, host);
    free(head.data);
    free(tail.data);
    if (failed == 0)
        failed = qcow2_set_entries(q, l2, first >> q->cluster_bits & ((UINT64_C(1) << q->l2_bits) - 1),
                                   (last - first) >> q->cluster_bits, host | ENTRY_COPIED, q->cluster, linked);
    q->inflated_entry = 0; /* what was inflated may go, and its place be used again */
    return failed;
}

/* Gives in *length how much was written. */
static int write_new(emu_qcow2 *q, const struct iovec *iov, int count, uint64_t skip, uint64_t *length, uint64_t offset)
{
    const uint64_t within = offset & (q->cluster - 1);
    uint64_t run, host, got, linked, l2;
    int failed = qcow2_flush_many(q);
    if (failed == 0)
        failed = run_of_new(q, offset, *length, &run);
    /* The table first: clusters of data stay together. */
    if (failed == 0)
        failed = qcow2_own_l2(q, offset, &l2);
    if (failed == 0)
        failed = qcow2_allocate(q, qcow2_clusters(q, within + run), &host, &got);
    if (failed != 0)
        return failed;
    if (run > (got << q->cluster_bits) - within)
        run = (got << q->cluster_bits) - within;
    failed = write_and_link(q, host, iov, count, skip, run, offset, &linked);
    if (failed != 0)
        qcow2_unallocate(q, host + (linked << q->cluster_bits), got - linked);
    *length = run;
    return failed;
}

/* A cluster that is kept, but reads as zeroes. */
static int write_kept(emu_qcow2 *q, const qcow2_extent *extent, const struct iovec *iov, int count, uint64_t skip,
                      uint64_t offset)
{
    uint64_t linked;
    const uint64_t within = offset & (q->cluster - 1);
    if (!writable_place(q, extent->host, qcow2_up(q, within + extent->length)))
        return qcow2_broken(q);
    return write_and_link(q, extent->host, iov, count, skip, extent->length, offset, &linked);
}

int qcow2_write_alone(emu_qcow2 *q, const struct iovec *iov, int count, uint64_t skip, uint64_t length, uint64_t offset)
{
    while (length > 0) {
        qcow2_extent extent;
        int failed = qcow2_lookup(q, offset, length, &extent);
        uint64_t done = extent.length;
        if (failed == 0 && q->corrupt)
            failed = -EIO;
        if (failed != 0)
            return failed;
        if (extent.kind == EXTENT_DATA && extent.copied) {
            failed = write_in_place(q, &extent, iov, count, skip);
        } else if (extent.kind == EXTENT_ZERO && extent.copied) {
            failed = write_kept(q, &extent, iov, count, skip, offset);
        } else {
            done = length;
            failed = write_new(q, iov, count, skip, &done, offset);
        }
        if (failed != 0)
            return failed;
        skip += done, offset += done, length -= done;
    }
    return 0;
}

int qcow2_writev(emu_block *block, const struct iovec *iov, int count, uint64_t skip, uint64_t length, uint64_t offset)
{
    emu_qcow2 *q = qcow2_of(block);
    int failed = 0;
    pthread_rwlock_rdlock(&q->map);
    while (length > 0 && failed == 0) {
        qcow2_extent extent;
        failed = q->corrupt ? -EIO : qcow2_lookup(q, offset, length, &extent);
        if (failed != 0 || extent.kind != EXTENT_DATA || !extent.copied || !writable_place(q, extent.host, extent.length))
            break;
        failed = emu_file_writev(q->file, iov, count, skip, extent.length, extent.host);
        skip += extent.length, offset += extent.length, length -= extent.length;
    }
    pthread_rwlock_unlock(&q->map);
    if (length == 0 || failed != 0)
        return failed;
    pthread_rwlock_wrlock(&q->map);
    failed = qcow2_write_alone(q, iov, count, skip, length, offset);
    pthread_rwlock_unlock(&q->map);
    return failed;
}
