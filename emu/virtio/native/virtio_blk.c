/*
 * Block device (virtio 1.2, section 5.2).  Requests are done in the device's
 * thread, in their order, straight between the image and guest RAM.
 */
#include "virtio.h"

#include "block.h"

#include <stdlib.h>
#include <string.h>

#define DEVICE_ID 2
#define QUEUE_SIZE 256
#define SECTOR 512u
#define ID_BYTES 20u
/* A request has a header and a status besides its data. */
#define SEG_MAX 254u
/* Of a discard or a write of zeroes: segments of a request, and sectors of a segment. */
#define RANGES_MAX 64u
#define RANGE_SECTORS (1u << 22)

enum feature {
    F_SEG_MAX = 1 << 2,
    F_RO = 1 << 5,
    F_BLK_SIZE = 1 << 6,
    F_FLUSH = 1 << 9,
    F_TOPOLOGY = 1 << 10,
    F_CONFIG_WCE = 1 << 11,
    F_DISCARD = 1 << 13,
    F_WRITE_ZEROES = 1 << 14,
};

enum kind { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8, T_DISCARD = 11, T_WRITE_ZEROES = 13 };
#define T_NO_IMAGE UINT32_MAX /* no driver's: the disk's image could not be opened again */
enum answer { S_OK = 0, S_IOERR = 1, S_UNSUPP = 2 };

struct header {
    uint32_t type, reserved;
    uint64_t sector;
};

struct range {
    uint64_t sector;
    uint32_t sectors, flags; /* flags bit 0: unmap */
};

/* 5.2.4, as it lies in the configuration space. */
struct config {
    uint64_t capacity;
    uint32_t size_max, seg_max;
    uint16_t cylinders;
    uint8_t heads, sectors;
    uint32_t blk_size;
    uint8_t physical_block_exp, alignment_offset;
    uint16_t min_io_size;
    uint32_t opt_io_size;
    uint8_t writeback, unused0;
    uint16_t num_queues;
    uint32_t max_discard_sectors, max_discard_seg, discard_sector_alignment;
    uint32_t max_write_zeroes_sectors, max_write_zeroes_seg;
    uint8_t write_zeroes_may_unmap, unused1[3];
};
_Static_assert(sizeof(struct config) == 64, "5.2.4, and four bytes of padding");
#define CONFIG_BYTES 60u
#define WRITEBACK_AT 32u

enum count { C_READ, C_WRITE, C_FLUSH, C_DISCARD, C_KINDS };
enum what { W_OPERATIONS, W_BYTES, W_TIME, W_FAILED, W_INVALID, W_COUNTS };

struct blk {
    emu_block *block;
    char id[ID_BYTES];
    /* For people, who read them without waiting for a request that is being done. */
    _Atomic uint64_t counts[W_COUNTS][C_KINDS], highest;
};

/* Only the device's thread counts, so it need not add in one step. */
static void add(_Atomic uint64_t *count, uint64_t value)
{
    atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + value, memory_order_relaxed);
}

static void counted(struct blk *blk, enum count kind, uint8_t answer, int failed, uint64_t bytes, uint64_t since)
{
    if (answer == S_OK) {
        add(&blk->counts[W_OPERATIONS][kind], 1);
        add(&blk->counts[W_BYTES][kind], bytes);
        add(&blk->counts[W_TIME][kind], emu_now() - since);
    } else {
        add(&blk->counts[failed != 0 ? W_FAILED : W_INVALID][kind], 1);
    }
}

static bool inside(const struct blk *blk, uint64_t sector, uint64_t bytes)
{
    uint64_t size = emu_block_size(blk->block);
    return bytes % SECTOR == 0 && sector <= size / SECTOR && bytes <= size - sector * SECTOR;
}

/* 5.2.5.2, 5.2.6.2: without FLUSH, or where the driver turned the cache off, a write is done when it is on the disk. */
static bool writes_through(const emu_virtio *device)
{
    if (emu_virtio_has(device, F_CONFIG_WCE))
        return device->config[WRITEBACK_AT] == 0;
    return !emu_virtio_has(device, F_FLUSH);
}

static enum answer transfer(emu_virtio *device, struct blk *blk, bool write, uint64_t sector,
                            const struct iovec *iov, int count)
{
    uint64_t bytes = emu_iov_size(iov, count), since = emu_now();
    if (!inside(blk, sector, bytes) || (write && emu_virtio_has(device, F_RO))) {
        counted(blk, write ? C_WRITE : C_READ, S_IOERR, 0, 0, since);
        return S_IOERR;
    }
    if (bytes == 0)
        return S_OK;
    int failed = write ? emu_block_writev(blk->block, iov, count, sector * SECTOR)
                       : emu_block_readv(blk->block, iov, count, sector * SECTOR);
    if (failed == 0 && write && writes_through(device))
        failed = emu_block_flush(blk->block);
    enum answer answer = failed == 0 ? S_OK : S_IOERR;
    counted(blk, write ? C_WRITE : C_READ, answer, failed, bytes, since);
    if (write && answer == S_OK && sector * SECTOR + bytes > atomic_load_explicit(&blk->highest, memory_order_relaxed))
        atomic_store_explicit(&blk->highest, sector * SECTOR + bytes, memory_order_relaxed);
    return answer;
}

static enum answer flush(struct blk *blk)
{
    uint64_t since = emu_now();
    int failed = emu_block_flush(blk->block);
    enum answer answer = failed == 0 ? S_OK : S_IOERR;
    counted(blk, C_FLUSH, answer, failed, 0, since);
    return answer;
}

static enum answer ranges(emu_virtio *device, struct blk *blk, uint32_t type, const struct iovec *iov, int count)
{
    uint64_t bytes = emu_iov_size(iov, count);
    uint64_t feature = type == T_DISCARD ? F_DISCARD : F_WRITE_ZEROES;
    if (!emu_virtio_has(device, feature))
        return S_UNSUPP;
    if (bytes == 0 || bytes % sizeof(struct range) != 0 || bytes / sizeof(struct range) > RANGES_MAX)
        return S_IOERR;
    struct range all[RANGES_MAX];
    uint32_t n = (uint32_t)(bytes / sizeof *all);
    emu_iov_read(iov, count, 0, all, bytes);
    /* 5.2.6.2: nothing is done where one segment is not as it should be. */
    for (uint32_t i = 0; i < n; i++) {
        if (all[i].flags & ~(type == T_DISCARD ? 0u : 1u))
            return S_UNSUPP;
        if (all[i].sectors > RANGE_SECTORS || !inside(blk, all[i].sector, (uint64_t)all[i].sectors * SECTOR))
            return S_IOERR;
    }
    for (uint32_t i = 0; i < n; i++) {
        uint64_t at = all[i].sector * SECTOR, length = (uint64_t)all[i].sectors * SECTOR, since = emu_now();
        int failed = length == 0           ? 0
                     : type == T_DISCARD ? emu_block_discard(blk->block, at, length)
                                         : emu_block_write_zeroes(blk->block, at, length, all[i].flags & 1);
        if (failed == 0 && type == T_WRITE_ZEROES && writes_through(device))
            failed = emu_block_flush(blk->block);
        enum answer answer = failed == 0 ? S_OK : S_IOERR;
        counted(blk, type == T_DISCARD ? C_DISCARD : C_WRITE, answer, failed, length, since);
        if (failed != 0)
            return S_IOERR;
    }
    return S_OK;
}

/* Does the request in device->chain; false: it has no room for a header or a status. */
static bool request(emu_virtio *device, uint32_t queue)
{
    struct blk *blk = device->own;
    emu_chain *chain = &device->chain;
    struct header header;
    if (chain->out_size < sizeof header || chain->in_size < 1)
        return false;
    emu_iov_read(chain->out, chain->out_count, 0, &header, sizeof header);
    uint64_t written = chain->in_size;
    struct iovec *out = chain->out, last = chain->in[chain->in_count - 1];
    int out_count = chain->out_count, in_count = chain->in_count;
    uint8_t *status = (uint8_t *)last.iov_base + last.iov_len - 1, answer;
    emu_iov_skip(&out, &out_count, sizeof header);
    emu_iov_cut(chain->in, &in_count, 1);
    switch (blk->block == NULL ? T_NO_IMAGE : header.type) {
    case T_IN:
        answer = transfer(device, blk, false, header.sector, chain->in, in_count);
        break;
    case T_OUT:
        answer = transfer(device, blk, true, header.sector, out, out_count);
        break;
    case T_FLUSH:
        answer = flush(blk);
        break;
    case T_NO_IMAGE:
        answer = S_IOERR;
        break;
    case T_GET_ID:
        emu_iov_write(chain->in, in_count, 0, blk->id, sizeof blk->id);
        answer = S_OK;
        break;
    case T_DISCARD:
    case T_WRITE_ZEROES:
        answer = ranges(device, blk, header.type, out, out_count);
        break;
    default:
        answer = S_UNSUPP;
    }
    *status = answer;
    chain->in[chain->in_count - 1] = last; /* as it was before its status was cut off */
    emu_vq_push(&device->queues[queue], chain, written);
    return true;
}

static void handle(emu_virtio *device, uint32_t queue)
{
    while (emu_virtio_next(device, queue, &device->chain)) {
        if (!request(device, queue)) {
            emu_virtio_broken(device, "a disk request has no header or no room for its status");
            return;
        }
        emu_virtio_signal(device, queue);
    }
}

static void config_written(emu_virtio *device, uint32_t offset, uint32_t size)
{
    struct blk *blk = device->own;
    uint8_t writeback = device->config[WRITEBACK_AT] != 0;
    if (offset > WRITEBACK_AT || WRITEBACK_AT - offset >= size)
        return;
    emu_virtio_config_quietly(device, WRITEBACK_AT, &writeback, sizeof writeback);
    if (writeback == 0 && blk->block != NULL) /* from now on what is written is on the disk, so what was is to be too */
        (void)emu_block_flush(blk->block);
}

static void reset(emu_virtio *device)
{
    const uint8_t writeback = 1;
    emu_virtio_config_quietly(device, WRITEBACK_AT, &writeback, sizeof writeback);
}

static void free_own(emu_virtio *device) { free(device->own); }

static const emu_virtio_type type = {
    .id = DEVICE_ID,
    .handle = handle,
    .reset = reset,
    .config_written = config_written,
    .free = free_own,
};

static uint8_t exponent(uint32_t sectors)
{
    uint8_t exp = 0;
    while (sectors > 1) {
        sectors /= 2;
        exp++;
    }
    return exp;
}

emu_virtio *emu_virtio_blk_new(void *block, const char *serial)
{
    emu_block_info info;
    emu_block_describe(block, &info);
    uint64_t features = F_SEG_MAX | F_BLK_SIZE | F_FLUSH | F_TOPOLOGY | F_CONFIG_WCE;
    if (info.read_only)
        features |= F_RO;
    else
        features |= F_DISCARD | F_WRITE_ZEROES;
    struct blk *blk = calloc(1, sizeof *blk);
    if (blk == NULL)
        return NULL;
    emu_virtio *device = emu_virtio_new(&type, features, 1, QUEUE_SIZE, CONFIG_BYTES);
    if (device == NULL) {
        free(blk);
        return NULL;
    }
    blk->block = block;
    memcpy(blk->id, serial, strnlen(serial, sizeof blk->id));
    device->own = blk;
    uint32_t unit = info.block_size / SECTOR;
    struct config config = {
        .capacity = info.size / SECTOR,
        .seg_max = SEG_MAX,
        .blk_size = SECTOR,
        .physical_block_exp = exponent(unit),
        .min_io_size = (uint16_t)(unit > 1 ? unit : 1),
        .writeback = 1,
        .num_queues = 1,
        .max_discard_sectors = RANGE_SECTORS,
        .max_discard_seg = RANGES_MAX,
        .discard_sector_alignment = unit > 1 ? unit : 1,
        .max_write_zeroes_sectors = RANGE_SECTORS,
        .max_write_zeroes_seg = RANGES_MAX,
        .write_zeroes_may_unmap = 1,
    };
    memcpy(device->config, &config, CONFIG_BYTES);
    device->writable[WRITEBACK_AT] = 0xff;
    return device;
}

void emu_virtio_blk_resized(emu_virtio *device)
{
    emu_virtio_hold(device);
    uint64_t capacity = emu_block_size(((struct blk *)device->own)->block) / SECTOR;
    emu_virtio_config(device, 0, &capacity, sizeof capacity);
    emu_virtio_release(device);
}

void emu_virtio_blk_image(emu_virtio *device, void *block)
{
    ((struct blk *)device->own)->block = block;
}

void emu_virtio_blk_count(const emu_virtio *device, emu_virtio_blk_counts *out)
{
    const struct blk *blk = device->own;
    uint64_t *to[W_COUNTS] = {out->operations, out->bytes, out->time, out->failed, out->invalid};
    for (int what = 0; what < W_COUNTS; what++)
        for (int kind = 0; kind < C_KINDS; kind++)
            to[what][kind] = atomic_load_explicit(&blk->counts[what][kind], memory_order_relaxed);
    out->highest = atomic_load_explicit(&blk->highest, memory_order_relaxed);
}
