/* Reading: data straight into the guest's memory, whatever lies next to each other at once. */
#include "qcow2.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* What lies behind the image, or zeroes where there is nothing. */
static int read_backing(emu_qcow2 *q, const struct iovec *iov, int count, uint64_t skip, uint64_t length,
                        uint64_t offset)
{
    uint64_t inside = 0;
    if (q->backing != NULL && offset < q->backing->size) {
        inside = q->backing->size - offset < length ? q->backing->size - offset : length;
        int failed = q->backing->format->readv(q->backing, iov, count, skip, inside, offset);
        if (failed != 0)
            return failed;
    }
    emu_iov_zero(iov, count, skip + inside, length - inside);
    return 0;
}

/* Inflates a cluster into q->inflated, unless it is there already. */
static int inflate_cluster(emu_qcow2 *q, uint64_t entry)
{
    uint64_t offset, bytes;
    if (q->inflated_entry == entry)
        return 0;
    qcow2_compressed_place(q, entry, &offset, &bytes);
    if (q->inflated == NULL)
        q->inflated = malloc(q->cluster);
    if (q->deflated == NULL)
        q->deflated = malloc(2 * q->cluster + 1024);
    if (q->inflated == NULL || q->deflated == NULL)
        return -ENOMEM;
    if (bytes > 2 * q->cluster + 1024)
        return -EIO;
    q->inflated_entry = 0;
    int failed = emu_file_read(q->file, q->deflated, bytes, offset);
    if (failed != 0)
        return failed;
    failed = (q->compression == COMPRESSION_ZSTD ? emu_zstd : emu_inflate)((const uint8_t *)q->deflated, bytes,
                                                                             (uint8_t *)q->inflated, q->cluster);
    if (failed == 0)
        q->inflated_entry = entry;
    return failed;
}

static int read_compressed(emu_qcow2 *q, const struct iovec *iov, int count, uint64_t skip, uint64_t length,
                           uint64_t offset, uint64_t entry)
{
    pthread_mutex_lock(&q->inflate_lock);
    int failed = inflate_cluster(q, entry);
    if (failed == 0)
        emu_iov_scatter(iov, count, skip, q->inflated + (offset & (q->cluster - 1)), length);
    pthread_mutex_unlock(&q->inflate_lock);
    return failed;
}

int qcow2_read(emu_qcow2 *q, const struct iovec *iov, int count, uint64_t skip, uint64_t length, uint64_t offset)
{
    while (length > 0) {
        qcow2_extent extent;
        int failed = qcow2_lookup(q, offset, length, &extent);
        if (failed != 0)
            return failed;
        if (extent.kind == EXTENT_DATA)
            failed = emu_file_readv(q->file, iov, count, skip, extent.length, extent.host);
        else if (extent.kind == EXTENT_HOLE)
            failed = read_backing(q, iov, count, skip, extent.length, offset);
        else if (extent.kind == EXTENT_ZERO)
            emu_iov_zero(iov, count, skip, extent.length);
        else
            failed = read_compressed(q, iov, count, skip, extent.length, offset, extent.host);
        if (failed != 0)
            return failed;
        skip += extent.length, offset += extent.length, length -= extent.length;
    }
    return 0;
}

int qcow2_reads_zero(emu_qcow2 *q, uint64_t offset, uint64_t length, bool *zero)
{
    *zero = false;
    while (length > 0) {
        qcow2_extent extent;
        int failed = qcow2_lookup(q, offset, length, &extent);
        if (failed != 0)
            return failed;
        bool hole = extent.kind == EXTENT_HOLE && (q->backing == NULL || offset >= q->backing->size);
        if (!hole && extent.kind != EXTENT_ZERO)
            return 0;
        offset += extent.length, length -= extent.length;
    }
    *zero = true;
    return 0;
}
