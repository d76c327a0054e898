/* Parts of lists of iovecs. */
#include "file.h"

#include <string.h>

int emu_iov_part(const struct iovec *iov, int count, uint64_t skip, uint64_t length, struct iovec *out, int room,
                 uint64_t *taken)
{
    int used = 0;
    *taken = 0;
    for (int i = 0; i < count && used < room && *taken < length; i++) {
        if (skip >= iov[i].iov_len) {
            skip -= iov[i].iov_len;
            continue;
        }
        uint64_t size = iov[i].iov_len - skip;
        if (size > length - *taken)
            size = length - *taken;
        out[used++] = (struct iovec){(char *)iov[i].iov_base + skip, size};
        *taken += size;
        skip = 0;
    }
    return used;
}

enum { SCATTER, GATHER, ZERO };

static void each(const struct iovec *iov, int count, uint64_t skip, char *data, uint64_t length, int way)
{
    for (int i = 0; i < count && length > 0; i++) {
        if (skip >= iov[i].iov_len) {
            skip -= iov[i].iov_len;
            continue;
        }
        uint64_t size = iov[i].iov_len - skip;
        if (size > length)
            size = length;
        char *at = (char *)iov[i].iov_base + skip;
        if (way == ZERO)
            memset(at, 0, size);
        else if (way == SCATTER)
            memcpy(at, data, size);
        else
            memcpy(data, at, size);
        if (way != ZERO)
            data += size;
        length -= size;
        skip = 0;
    }
}

void emu_iov_scatter(const struct iovec *iov, int count, uint64_t skip, const void *data, uint64_t length)
{
    each(iov, count, skip, (char *)data, length, SCATTER);
}

void emu_iov_gather(const struct iovec *iov, int count, uint64_t skip, void *data, uint64_t length)
{
    each(iov, count, skip, data, length, GATHER);
}

void emu_iov_zero(const struct iovec *iov, int count, uint64_t skip, uint64_t length)
{
    each(iov, count, skip, NULL, length, ZERO);
}
