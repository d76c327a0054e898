/*
 * Split virtqueues (virtio 1.2, section 2.7).
 *
 * Rings are little-endian and so are all hosts that emu runs on.  Accesses to
 * what the driver changes meanwhile are single loads and stores, each ordered
 * against the index that publishes it.
 */
#include "virtqueue.h"

#include <string.h>

/* Descriptors (2.7.5). */
enum { DESC_NEXT = 1, DESC_WRITE = 2, DESC_INDIRECT = 4 };
struct desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
};

enum { AVAIL_NO_INTERRUPT = 1, USED_NO_NOTIFY = 1 };
/* 2.7.5: a chain has at most 2^32 bytes. */
#define CHAIN_BYTES (UINT64_C(1) << 32)

void *emu_ram_find(emu_space *space, emu_ram *cache, uint64_t addr, uint64_t size)
{
    if (addr - cache->base >= cache->size) {
        emu_range range;
        cache->size = 0;
        if (!emu_space_find(space, addr, &range) || emu_region_kind(range.region) != EMU_RAM)
            return NULL;
        cache->base = range.base;
        cache->size = range.size;
        cache->host = (uint8_t *)emu_region_host(range.region) + range.offset;
    }
    uint64_t skip = addr - cache->base;
    return size <= cache->size - skip ? cache->host + skip : NULL;
}

void emu_vq_reset(emu_vq *vq)
{
    *vq = (emu_vq){.space = vq->space, .size_max = vq->size_max, .size = vq->size_max};
}

static bool broken(emu_vq *vq, const char *why)
{
    vq->fault = why;
    return false;
}

bool emu_vq_start(emu_vq *vq)
{
    vq->fault = NULL;
    vq->ram = (emu_ram){0};
    if (vq->size == 0 || vq->size > vq->size_max || (vq->size & (vq->size - 1)) != 0)
        return broken(vq, "the size of the queue is no power of two that it may have");
    if (vq->desc % 16 != 0 || vq->avail % 2 != 0 || vq->used % 4 != 0)
        return broken(vq, "a ring is not aligned");
    uint64_t n = vq->size;
    vq->desc_host = emu_ram_find(vq->space, &vq->ram, vq->desc, 16 * n);
    if (vq->desc_host == NULL)
        return broken(vq, "the descriptors are not in RAM");
    vq->avail_host = emu_ram_find(vq->space, &vq->ram, vq->avail, 6 + 2 * n);
    if (vq->avail_host == NULL)
        return broken(vq, "the available ring is not in RAM");
    vq->used_host = emu_ram_find(vq->space, &vq->ram, vq->used, 6 + 8 * n);
    if (vq->used_host == NULL)
        return broken(vq, "the used ring is not in RAM");
    return true;
}

static uint16_t load16(const volatile void *at)
{
    return __atomic_load_n((const volatile uint16_t *)at, __ATOMIC_ACQUIRE);
}

static void store16(volatile void *at, uint16_t value)
{
    __atomic_store_n((volatile uint16_t *)at, value, __ATOMIC_RELEASE);
}

static volatile uint8_t *avail_event(const emu_vq *vq) { return vq->used_host + 4 + 8 * (size_t)vq->size; }
static volatile uint16_t *used_event(const emu_vq *vq) { return vq->avail_host + 2 + vq->size; }

uint32_t emu_vq_waiting(const emu_vq *vq) { return (uint16_t)(load16(vq->avail_host + 1) - vq->next_avail); }

/* Adds the guest memory of one descriptor to the chain, in as many parts as there are ranges of RAM. */
static bool add(emu_vq *vq, emu_chain *chain, const struct desc *desc)
{
    bool write = desc->flags & DESC_WRITE;
    int *count = write ? &chain->in_count : &chain->out_count;
    uint64_t addr = desc->addr, left = desc->len;
    if (!write && chain->in_count != 0)
        return broken(vq, "a chain has a buffer to read after one to write");
    if (chain->out_size + chain->in_size + left > CHAIN_BYTES)
        return broken(vq, "a chain is longer than 2^32 bytes");
    *(write ? &chain->in_size : &chain->out_size) += left;
    while (left != 0) {
        unsigned at = (unsigned)(chain->out_count + chain->in_count);
        if (at == EMU_CHAIN_MAX)
            return broken(vq, "a chain has too many parts");
        uint8_t *host = emu_ram_find(vq->space, &vq->ram, addr, 1);
        if (host == NULL)
            return broken(vq, "a buffer is not in RAM");
        uint64_t here = vq->ram.size - (addr - vq->ram.base);
        if (here > left)
            here = left;
        chain->iov[at] = (struct iovec){host, here};
        chain->address[at] = addr;
        ++*count;
        left -= here;
        addr += here; /* may wrap to 0, where the look-up starts anew */
    }
    return true;
}

/* Follows a table's chain from `head` on; *indirect gets the descriptor of a table to go on with. */
static bool follow(emu_vq *vq, emu_chain *chain, const uint8_t *table, uint32_t size, uint16_t head,
                   struct desc *indirect)
{
    struct desc desc;
    uint32_t at = head;
    for (uint32_t steps = 0;; steps++) {
        if (at >= size)
            return broken(vq, "a descriptor's number is beyond its table");
        if (steps == size || steps == EMU_CHAIN_MAX)
            return broken(vq, "a chain is a loop");
        /* One copy, and only that is looked at: the driver may write meanwhile. */
        memcpy(&desc, table + 16 * (size_t)at, sizeof desc);
        __asm__ volatile("" ::: "memory");
        if (desc.flags & DESC_INDIRECT) {
            if (indirect == NULL || !vq->indirect || (desc.flags & DESC_NEXT))
                return broken(vq, "an indirect descriptor is where none may be");
            *indirect = desc;
            return true;
        }
        if (!add(vq, chain, &desc))
            return false;
        if (!(desc.flags & DESC_NEXT))
            return true;
        at = desc.next;
    }
}

int emu_vq_pop(emu_vq *vq, emu_chain *chain)
{
    uint16_t waiting = (uint16_t)(load16(vq->avail_host + 1) - vq->next_avail);
    if (waiting == 0)
        return 0;
    if (waiting > vq->size) {
        broken(vq, "the available ring runs ahead of the queue's size");
        return -1;
    }
    chain->head = load16(vq->avail_host + 2 + vq->next_avail % vq->size);
    chain->out_count = chain->in_count = 0;
    chain->out_size = chain->in_size = 0;
    struct desc indirect = {0};
    if (!follow(vq, chain, vq->desc_host, vq->size, chain->head, &indirect))
        return -1;
    if (indirect.flags & DESC_INDIRECT) {
        /* 2.7.5.3: the table has a length that is a multiple of its entries'. */
        uint32_t size = indirect.len / 16;
        const uint8_t *table = emu_ram_find(vq->space, &vq->ram, indirect.addr, indirect.len);
        if (size == 0 || indirect.len % 16 != 0 || table == NULL) {
            broken(vq, "an indirect table is empty, of a broken length, or not in RAM");
            return -1;
        }
        if (!follow(vq, chain, table, size, 0, NULL))
            return -1;
    }
    chain->out = chain->iov;
    chain->in = chain->iov + chain->out_count;
    vq->next_avail++;
    return 1;
}

void emu_vq_unpop(emu_vq *vq) { vq->next_avail--; }

void emu_chain_written(const emu_vq *vq, const emu_chain *chain, uint64_t length)
{
    /* by the guest's addresses, which neighbours share: one note for what is in one piece */
    uint64_t start = 0, size = 0;
    for (int i = chain->out_count; i < chain->out_count + chain->in_count && length != 0; i++) {
        uint64_t addr = chain->address[i], n = chain->iov[i].iov_len;
        if (n > length)
            n = length;
        length -= n;
        if (size != 0 && start + size == addr) {
            size += n;
            continue;
        }
        if (size != 0)
            emu_space_written(vq->space, start, size);
        start = addr;
        size = n;
    }
    if (size != 0)
        emu_space_written(vq->space, start, size);
}

void emu_vq_put(emu_vq *vq, uint32_t i, uint16_t head, uint32_t length)
{
    uint32_t element[2] = {head, length};
    size_t at = (vq->next_used + i) % vq->size;
    memcpy((uint8_t *)vq->used_host + 4 + 8 * at, element, sizeof element);
}

void emu_vq_publish(emu_vq *vq, uint32_t count)
{
    vq->next_used = (uint16_t)(vq->next_used + count);
    store16(vq->used_host + 2, vq->next_used);
}

void emu_vq_push_head(emu_vq *vq, uint16_t head, uint32_t length)
{
    emu_vq_put(vq, 0, head, length);
    emu_vq_publish(vq, 1);
}

void emu_vq_push(emu_vq *vq, const emu_chain *chain, uint64_t length)
{
    emu_chain_written(vq, chain, length);
    emu_vq_push_head(vq, chain->head, length > UINT32_MAX ? UINT32_MAX : (uint32_t)length);
}

bool emu_vq_should_signal(emu_vq *vq)
{
    /* The index must be seen before the driver's wish is read (2.7.7.2). */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    uint16_t old = vq->signalled, now = vq->next_used;
    if (old == now)
        return false;
    vq->signalled = now;
    if (!vq->event_idx)
        return !(load16(vq->avail_host) & AVAIL_NO_INTERRUPT);
    uint16_t event = load16(used_event(vq));
    return (uint16_t)(now - event - 1) < (uint16_t)(now - old);
}

bool emu_vq_enable(emu_vq *vq)
{
    if (vq->event_idx)
        store16(avail_event(vq), vq->next_avail);
    else
        store16(vq->used_host, 0);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return emu_vq_waiting(vq) != 0;
}

void emu_vq_disable(emu_vq *vq)
{
    /* With event indices the one that was given is passed already. */
    if (!vq->event_idx)
        store16(vq->used_host, USED_NO_NOTIFY);
}

/* ---- iovecs ------------------------------------------------------------------- */

uint64_t emu_iov_size(const struct iovec *iov, int count)
{
    uint64_t size = 0;
    for (int i = 0; i < count; i++)
        size += iov[i].iov_len;
    return size;
}

static size_t copy(const struct iovec *iov, int count, uint64_t offset, uint8_t *data, size_t size, bool write)
{
    size_t done = 0;
    for (int i = 0; i < count && done < size; i++) {
        if (offset >= iov[i].iov_len) {
            offset -= iov[i].iov_len;
            continue;
        }
        size_t n = iov[i].iov_len - offset;
        if (n > size - done)
            n = size - done;
        uint8_t *at = (uint8_t *)iov[i].iov_base + offset;
        if (write)
            memcpy(at, data + done, n);
        else
            memcpy(data + done, at, n);
        done += n;
        offset = 0;
    }
    return done;
}

size_t emu_iov_read(const struct iovec *iov, int count, uint64_t offset, void *data, size_t size)
{
    return copy(iov, count, offset, data, size, false);
}

size_t emu_iov_write(const struct iovec *iov, int count, uint64_t offset, const void *data, size_t size)
{
    return copy(iov, count, offset, (uint8_t *)data, size, true);
}

bool emu_iov_skip(struct iovec **iov, int *count, uint64_t size)
{
    while (size != 0) {
        if (*count == 0)
            return false;
        if (size < (*iov)->iov_len) {
            (*iov)->iov_base = (uint8_t *)(*iov)->iov_base + size;
            (*iov)->iov_len -= size;
            return true;
        }
        size -= (*iov)->iov_len;
        ++*iov;
        --*count;
    }
    return true;
}

bool emu_iov_cut(struct iovec *iov, int *count, uint64_t size)
{
    while (size != 0) {
        if (*count == 0)
            return false;
        struct iovec *last = &iov[*count - 1];
        if (size < last->iov_len) {
            last->iov_len -= size;
            return true;
        }
        size -= last->iov_len;
        --*count;
    }
    return true;
}
