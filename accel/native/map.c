/*
 * The memory map: regions, the flat view that engines and accesses use, and
 * the registers and doorbells that are served without leaving C.
 *
 * Reading takes no lock.  A change builds a new flat view and swaps it in; the
 * old one is freed when no reader is inside (`readers` is 0 after the swap: a
 * reader that comes later can only see the new view).
 */
#include "core.h"
#include "tell.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Up to this offset a region's registers are found by a table, beyond by search. */
#define TABLE_LIMIT 4096u

struct emu_region {
    uint32_t kind;
    int32_t priority;
    uint64_t size;
    uint64_t base;
    uint8_t *host;
    emu_space *space; /* where it is mapped, or NULL */

    emu_read_fn read;
    emu_write_fn write;
    void *opaque;

    emu_reg *regs;   /* sorted by offset */
    size_t *order;   /* declared number -> place in regs */
    size_t nregs;
    uint16_t *table; /* byte offset -> place in regs + 1 */
    size_t table_size;

    emu_doorbell *bells;
    size_t nbells;

    atomic_ullong *dirty; /* pages written, a bit each; kept until the end: devices may be at work */
    atomic_int is_tracked;
};

struct view {
    struct view *retired;
    size_t count;
    emu_range ranges[];
};

struct emu_space {
    uint64_t last; /* highest address */
    emu_region **regions;
    size_t nregions;
    emu_region *conflict;
    _Atomic(struct view *) view;
    atomic_long readers;
    struct view *retired;
    struct watcher {
        _Atomic(emu_watch_fn) fn;
        void *opaque;
    } watchers[EMU_WATCHERS];
    atomic_ullong tracked;
};

static uint64_t ones(uint32_t width)
{
    return width >= 8 ? UINT64_MAX : (UINT64_C(1) << (8 * width)) - 1;
}

/* ---- regions ------------------------------------------------------------- */

emu_region *emu_region_new(uint32_t kind, uint64_t size, void *host)
{
    if (size == 0 || kind < EMU_RAM || kind > EMU_IO || (kind == EMU_IO) != (host == NULL))
        return NULL;
    emu_region *region = calloc(1, sizeof *region);
    if (region == NULL)
        return NULL;
    region->kind = kind;
    region->size = size;
    region->host = host;
    return region;
}

void emu_region_free(emu_region *region)
{
    if (region == NULL)
        return;
    free(region->regs);
    free(region->order);
    free(region->table);
    free(region->bells);
    free(region->dirty);
    free(region);
}

uint32_t emu_region_kind(const emu_region *region) { return region->kind; }
uint64_t emu_region_size(const emu_region *region) { return region->size; }
void *emu_region_host(const emu_region *region) { return region->host; }

void emu_region_hooks(emu_region *region, emu_read_fn read, emu_write_fn write, void *opaque)
{
    region->read = read;
    region->write = write;
    region->opaque = opaque;
}

struct declared {
    emu_reg reg;
    size_t number;
};

static int by_offset(const void *a, const void *b)
{
    uint32_t x = ((const struct declared *)a)->reg.offset, y = ((const struct declared *)b)->reg.offset;
    return (x > y) - (x < y);
}

int emu_region_registers(emu_region *region, const emu_reg *regs, size_t count)
{
    if (region->kind != EMU_IO || region->regs != NULL || count == 0 || count >= UINT16_MAX)
        return -1;
    struct declared *sorted = calloc(count, sizeof *sorted);
    if (sorted == NULL)
        return -3;
    for (size_t i = 0; i < count; i++) {
        uint32_t width = regs[i].width, offset = regs[i].offset;
        if ((width != 1 && width != 2 && width != 4 && width != 8) || offset % width != 0 ||
            width > region->size || offset > region->size - width) {
            free(sorted);
            return -1;
        }
        sorted[i].reg = regs[i];
        sorted[i].number = i;
    }
    qsort(sorted, count, sizeof *sorted, by_offset);
    for (size_t i = 1; i < count; i++) {
        if (sorted[i - 1].reg.offset + sorted[i - 1].reg.width > sorted[i].reg.offset) {
            free(sorted);
            return -2;
        }
    }
    uint64_t end = (uint64_t)sorted[count - 1].reg.offset + sorted[count - 1].reg.width;
    size_t table_size = end < TABLE_LIMIT ? (size_t)end : TABLE_LIMIT;
    emu_reg *kept = calloc(count, sizeof *kept);
    size_t *order = calloc(count, sizeof *order);
    uint16_t *table = calloc(table_size, sizeof *table);
    if (kept == NULL || order == NULL || table == NULL) {
        free(sorted);
        free(kept);
        free(order);
        free(table);
        return -3;
    }
    for (size_t i = 0; i < count; i++) {
        kept[i] = sorted[i].reg;
        order[sorted[i].number] = i;
        for (uint64_t b = kept[i].offset; b < (uint64_t)kept[i].offset + kept[i].width; b++)
            if (b < table_size)
                table[b] = (uint16_t)(i + 1);
    }
    free(sorted);
    region->regs = kept;
    region->order = order;
    region->nregs = count;
    region->table = table;
    region->table_size = table_size;
    return 0;
}

emu_reg *emu_region_register(emu_region *region, size_t i)
{
    return i < region->nregs ? &region->regs[region->order[i]] : NULL;
}

uint64_t emu_reg_change(emu_reg *reg, uint64_t clear, uint64_t set)
{
    uint64_t old = __atomic_load_n(&reg->value, __ATOMIC_ACQUIRE), now;
    do
        now = (old & ~clear) | set;
    while (!__atomic_compare_exchange_n(&reg->value, &old, now, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE));
    return now;
}

int emu_region_doorbell(emu_region *region, const emu_doorbell *bell)
{
    if (region->kind != EMU_IO || bell->width > 8 || (bell->width & (bell->width - 1)) != 0 ||
        bell->offset >= region->size || bell->width > region->size - bell->offset)
        return -1;
    emu_doorbell *more = realloc(region->bells, (region->nbells + 1) * sizeof *more);
    if (more == NULL)
        return -1;
    more[region->nbells++] = *bell;
    region->bells = more;
    return 0;
}

size_t emu_region_doorbells(const emu_region *region, emu_doorbell *out, size_t max)
{
    for (size_t i = 0; i < region->nbells && i < max; i++)
        out[i] = region->bells[i];
    return region->nbells;
}

/* ---- registers ------------------------------------------------------------- */

/* The register that covers an offset, or NULL with *gap = bytes to the next one. */
static emu_reg *register_at(emu_region *region, uint64_t offset, uint64_t *gap)
{
    if (offset < region->table_size && region->table[offset] != 0)
        return &region->regs[region->table[offset] - 1];
    size_t low = 0, high = region->nregs;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if ((uint64_t)region->regs[mid].offset + region->regs[mid].width <= offset)
            low = mid + 1;
        else
            high = mid;
    }
    if (low < region->nregs) {
        if (region->regs[low].offset <= offset)
            return &region->regs[low];
        *gap = region->regs[low].offset - offset;
    } else {
        *gap = region->size - offset;
    }
    return NULL;
}

static int register_read(emu_region *region, emu_reg *reg, uint64_t *value)
{
    if ((reg->flags & EMU_REG_READ_HOOK) && region->read != NULL)
        return region->read(region->opaque, reg->offset, reg->width, value);
    if (reg->flags & EMU_REG_CLEAR_ON_READ)
        *value = __atomic_exchange_n(&reg->value, 0, __ATOMIC_ACQ_REL);
    else
        *value = __atomic_load_n(&reg->value, __ATOMIC_ACQUIRE);
    return EMU_OK;
}

/*
 * `bits` are the bits the access carries, in the register's place.  The masks
 * are applied first, then the hook is told the word: the written bits, and the
 * register's own where the access was narrower.
 */
static int register_write(emu_region *region, emu_reg *reg, uint64_t bits, uint64_t value)
{
    uint64_t old = __atomic_load_n(&reg->value, __ATOMIC_ACQUIRE), now;
    do {
        uint64_t mask = reg->write_mask & bits;
        now = (old & ~mask) | (value & mask);
        now &= ~(value & bits & reg->w1c_mask);
    } while (now != old && !__atomic_compare_exchange_n(&reg->value, &old, now, 0, __ATOMIC_ACQ_REL,
                                                       __ATOMIC_ACQUIRE));
    if ((reg->flags & EMU_REG_WRITE_HOOK) && region->write != NULL)
        return region->write(region->opaque, reg->offset, reg->width, (value & bits) | (old & ~bits));
    return EMU_OK;
}

/* The largest power of two that is at most `n` and to which `offset` is aligned. */
static uint32_t piece(uint64_t offset, uint64_t n)
{
    uint32_t width = n >= 8 ? 8 : n >= 4 ? 4 : n >= 2 ? 2 : 1;
    while (offset % width != 0)
        width /= 2;
    return width;
}

int emu_region_read(emu_region *region, uint64_t offset, uint32_t width, uint64_t *value)
{
    if (region->kind != EMU_IO) {
        *value = 0;
        memcpy(value, region->host + offset, width);
        return EMU_OK;
    }
    uint64_t result = 0;
    for (uint32_t done = 0; done < width;) {
        uint64_t at = offset + done, gap = 0, word = 0;
        uint32_t n = width - done;
        emu_reg *reg = register_at(region, at, &gap);
        int status = EMU_OK;
        if (reg != NULL) {
            uint32_t skew = (uint32_t)(at - reg->offset);
            if (n > reg->width - skew)
                n = reg->width - skew;
            status = register_read(region, reg, &word);
            word >>= 8 * skew;
        } else {
            n = piece(at, n < gap ? n : gap);
            if (region->read != NULL)
                status = region->read(region->opaque, at, n, &word);
        }
        if (status != EMU_OK) {
            *value = 0;
            return status;
        }
        result |= (word & ones(n)) << (8 * done);
        done += n;
    }
    *value = result;
    return EMU_OK;
}

static int ring(const emu_region *region, uint64_t offset, uint32_t width, uint64_t value)
{
    for (size_t i = 0; i < region->nbells; i++) {
        const emu_doorbell *bell = &region->bells[i];
        if (bell->offset == offset && (bell->width == 0 || bell->width == width) &&
            (!bell->has_match || bell->match == (value & ones(width)))) {
            uint64_t one = 1;
            /* A full counter (EAGAIN) has already told the listener. */
            ssize_t n;
            do
                n = write(bell->fd, &one, sizeof one);
            while (n < 0 && errno == EINTR);
            return 1;
        }
    }
    return 0;
}

int emu_region_write(emu_region *region, uint64_t offset, uint32_t width, uint64_t value)
{
    value &= ones(width);
    if (region->kind == EMU_RAM) {
        memcpy(region->host + offset, &value, width);
        emu_region_mark(region, offset, width);
        return EMU_OK;
    }
    if (region->kind == EMU_ROM && region->write == NULL)
        return EMU_OK;
    if (region->nbells != 0 && ring(region, offset, width, value))
        return EMU_OK;
    for (uint32_t done = 0; done < width;) {
        uint64_t at = offset + done, gap = 0;
        uint32_t n = width - done;
        emu_reg *reg = register_at(region, at, &gap);
        int status = EMU_OK;
        if (reg != NULL) {
            uint32_t skew = (uint32_t)(at - reg->offset);
            if (n > reg->width - skew)
                n = reg->width - skew;
            uint64_t part = value >> (8 * done) & ones(n);
            status = register_write(region, reg, ones(n) << (8 * skew), part << (8 * skew));
        } else {
            n = piece(at, n < gap ? n : gap);
            if (region->write != NULL)
                status = region->write(region->opaque, at, n, value >> (8 * done) & ones(n));
        }
        if (status != EMU_OK)
            return status;
        done += n;
    }
    return EMU_OK;
}

/* ---- pages written ---------------------------------------------------------- */

size_t emu_region_dirty_words(const emu_region *region)
{
    uint64_t pages = region->size / EMU_PAGE + (region->size % EMU_PAGE != 0);
    return (size_t)(pages / 64 + (pages % 64 != 0));
}

/* Engines that keep notes of their own look at this before their vCPUs run. */
static void begin_anew(const emu_region *region)
{
    if (region->space != NULL)
        atomic_fetch_add(&region->space->tracked, 1);
}

int emu_region_track(emu_region *region, int on)
{
    if (region->kind != EMU_RAM)
        return -1;
    size_t words = emu_region_dirty_words(region);
    if (on && region->dirty == NULL && (region->dirty = calloc(words, sizeof *region->dirty)) == NULL)
        return -1;
    for (size_t i = 0; on && i < words; i++)
        atomic_store(&region->dirty[i], 0);
    atomic_store(&region->is_tracked, on != 0);
    begin_anew(region);
    return 0;
}

void emu_region_take_dirty(emu_region *region, uint64_t *out)
{
    size_t words = emu_region_dirty_words(region);
    for (size_t i = 0; i < words; i++)
        out[i] = region->dirty != NULL ? atomic_exchange(&region->dirty[i], 0) : 0;
    begin_anew(region);
}

void emu_region_mark(emu_region *region, uint64_t offset, uint64_t size)
{
    if (!atomic_load_explicit(&region->is_tracked, memory_order_acquire) || size == 0 || offset >= region->size)
        return;
    uint64_t last = size > region->size - offset ? region->size - 1 : offset + size - 1;
    for (uint64_t page = offset / EMU_PAGE; page <= last / EMU_PAGE; page++)
        atomic_fetch_or(&region->dirty[page / 64], UINT64_C(1) << page % 64);
}

void emu_region_mark_pages(emu_region *region, uint64_t offset, const uint64_t *bits, size_t words)
{
    for (size_t i = 0; i < words; i++)
        for (uint64_t left = bits[i]; left != 0; left &= left - 1) {
            uint64_t page = 64 * i + (uint64_t)__builtin_ctzll(left);
            emu_region_mark(region, offset + page * EMU_PAGE, EMU_PAGE);
        }
}

uint64_t emu_space_tracked(const emu_space *space)
{
    return atomic_load_explicit(&space->tracked, memory_order_relaxed);
}

void emu_space_mark_host(emu_space *space, const void *host, uint64_t size)
{
    for (size_t i = 0; i < space->nregions; i++) {
        emu_region *region = space->regions[i];
        uint64_t offset = (uint64_t)((uintptr_t)host - (uintptr_t)region->host);
        if (region->kind == EMU_RAM && offset < region->size)
            emu_region_mark(region, offset, size);
    }
}

/* What was written at addresses of the map. */
static void mark_range(emu_space *space, uint64_t addr, uint64_t size)
{
    emu_range range;
    for (uint64_t done = 0; done < size && addr + done >= addr;) {
        if (!emu_space_find(space, addr + done, &range))
            return;
        uint64_t skip = addr + done - range.base, n = range.size - skip;
        if (n > size - done)
            n = size - done;
        emu_region_mark(range.region, range.offset + skip, n);
        done += n;
    }
}

/* ---- the map --------------------------------------------------------------- */

emu_space *emu_space_new(uint64_t size)
{
    emu_space *space = calloc(1, sizeof *space);
    struct view *empty = calloc(1, sizeof *empty);
    if (space == NULL || empty == NULL) {
        free(space);
        free(empty);
        return NULL;
    }
    space->last = size - 1; /* 0 stands for 2^64 */
    atomic_init(&space->view, empty);
    return space;
}

static void free_retired(emu_space *space)
{
    while (space->retired != NULL) {
        struct view *next = space->retired->retired;
        free(space->retired);
        space->retired = next;
    }
}

void emu_space_free(emu_space *space)
{
    if (space == NULL)
        return;
    for (size_t i = 0; i < space->nregions; i++)
        space->regions[i]->space = NULL;
    free_retired(space);
    free(atomic_load(&space->view));
    free(space->regions);
    free(space);
}

static const emu_range *search(const struct view *view, uint64_t addr)
{
    size_t low = 0, high = view->count;
    while (low < high) {
        size_t mid = (low + high) / 2;
        const emu_range *range = &view->ranges[mid];
        if (addr < range->base)
            high = mid;
        else if (addr - range->base >= range->size)
            low = mid + 1;
        else
            return range;
    }
    return NULL;
}

int emu_space_find(const emu_space *space_, uint64_t addr, emu_range *out)
{
    emu_space *space = (emu_space *)space_; /* only `readers` changes */
    atomic_fetch_add(&space->readers, 1);
    const emu_range *range = search(atomic_load(&space->view), addr);
    int found = range != NULL;
    if (found)
        *out = *range;
    atomic_fetch_sub(&space->readers, 1);
    return found;
}

size_t emu_space_flat(const emu_space *space_, emu_range *out, size_t max)
{
    emu_space *space = (emu_space *)space_;
    atomic_fetch_add(&space->readers, 1);
    const struct view *view = atomic_load(&space->view);
    size_t count = view->count;
    for (size_t i = 0; i < count && i < max; i++)
        out[i] = view->ranges[i];
    atomic_fetch_sub(&space->readers, 1);
    return count;
}

/* Higher priority first; among equals (which never overlap) by address. */
static int by_priority(const void *a, const void *b)
{
    const emu_region *x = *(emu_region *const *)a, *y = *(emu_region *const *)b;
    if (x->priority != y->priority)
        return x->priority > y->priority ? -1 : 1;
    return (x->base > y->base) - (x->base < y->base);
}

static int by_base(const void *a, const void *b)
{
    uint64_t x = ((const emu_range *)a)->base, y = ((const emu_range *)b)->base;
    return (x > y) - (x < y);
}

/*
 * Lays the regions over each other, highest priority first: each fills the gaps
 * that those before it left.  One region adds at most one range for itself and
 * one for every range it surrounds, so 2n ranges are enough.
 */
static int rebuild(emu_space *space)
{
    size_t n = space->nregions;
    struct view *view = calloc(1, sizeof *view + (2 * n + 1) * sizeof(emu_range));
    emu_region **order = calloc(n + 1, sizeof *order);
    if (view == NULL || order == NULL) {
        free(view);
        free(order);
        return -3;
    }
    if (n != 0) {
        memcpy(order, space->regions, n * sizeof *order);
        qsort(order, n, sizeof *order, by_priority);
    }
    for (size_t i = 0; i < n; i++) {
        emu_region *region = order[i];
        uint64_t at = region->base, last = region->base + (region->size - 1);
        size_t before = view->count;
        for (size_t j = 0; j <= before; j++) {
            /* the gap ends where range j begins, or with the region */
            int end = j == before || view->ranges[j].base > last;
            uint64_t stop = end ? last : view->ranges[j].base - 1;
            if (!end && view->ranges[j].base + (view->ranges[j].size - 1) < at)
                continue;
            if (end || view->ranges[j].base > at) {
                view->ranges[view->count++] =
                    (emu_range){.base = at, .size = stop - at + 1, .offset = at - region->base, .region = region};
            }
            if (end)
                break;
            uint64_t covered = view->ranges[j].base + (view->ranges[j].size - 1);
            if (covered >= last)
                break;
            at = covered + 1;
        }
        qsort(view->ranges, view->count, sizeof(emu_range), by_base);
    }
    free(order);
    struct view *old = atomic_exchange(&space->view, view);
    old->retired = space->retired;
    space->retired = old;
    if (atomic_load(&space->readers) == 0)
        free_retired(space);
    return 0;
}

static int fits(emu_space *space, const emu_region *region, uint64_t base, int32_t priority)
{
    uint64_t last = base + (region->size - 1);
    if (last < base || last > space->last)
        return -1;
    for (size_t i = 0; i < space->nregions; i++) {
        emu_region *other = space->regions[i];
        if (other == region || other->priority != priority)
            continue;
        if (base <= other->base + (other->size - 1) && other->base <= last) {
            space->conflict = other;
            return -2;
        }
    }
    return 0;
}

int emu_space_add(emu_space *space, emu_region *region, uint64_t base, int32_t priority)
{
    if (region->space != NULL)
        return -4;
    int status = fits(space, region, base, priority);
    if (status != 0)
        return status;
    emu_region **more = realloc(space->regions, (space->nregions + 1) * sizeof *more);
    if (more == NULL)
        return -3;
    space->regions = more;
    more[space->nregions++] = region;
    region->base = base;
    region->priority = priority;
    region->space = space;
    status = rebuild(space);
    if (status != 0) {
        space->nregions--;
        region->space = NULL;
    }
    return status;
}

int emu_space_move(emu_space *space, emu_region *region, uint64_t base)
{
    if (region->space != space)
        return -5;
    int status = fits(space, region, base, region->priority);
    if (status != 0)
        return status;
    uint64_t old = region->base;
    region->base = base;
    status = rebuild(space);
    if (status != 0)
        region->base = old;
    return status;
}

int emu_space_remove(emu_space *space, emu_region *region)
{
    if (region->space != space)
        return -5;
    size_t i = 0;
    while (space->regions[i] != region)
        i++;
    space->regions[i] = space->regions[--space->nregions];
    int status = rebuild(space);
    if (status != 0) {
        space->regions[space->nregions++] = region;
        return status;
    }
    region->space = NULL;
    if (space->conflict == region)
        space->conflict = NULL;
    return 0;
}

emu_region *emu_space_conflict(const emu_space *space) { return space->conflict; }

struct part {
    uint32_t width;
    emu_range range; /* region NULL: a hole; base: the part's address */
};

/*
 * The parts of an access that crosses ranges or meets a hole, all of one view:
 * a region that moves meanwhile is met whole or not at all.  Nothing wraps to
 * address 0.  Returns how many, 8 at most.
 */
static uint32_t split(emu_space *space, uint64_t addr, uint32_t width, struct part parts[8])
{
    uint32_t count = 0;
    atomic_fetch_add(&space->readers, 1);
    const struct view *view = atomic_load(&space->view);
    for (uint32_t done = 0; done < width; done += parts[count++].width) {
        uint64_t at = addr + done;
        const emu_range *range = at >= addr ? search(view, at) : NULL;
        if (range == NULL) {
            parts[count] = (struct part){.width = 1};
            continue;
        }
        uint64_t skip = at - range->base, left = range->size - skip;
        parts[count] = (struct part){
            .width = left < width - done ? (uint32_t)left : width - done,
            .range = {.base = at, .size = left, .offset = range->offset + skip, .region = range->region},
        };
    }
    atomic_fetch_sub(&space->readers, 1);
    return count;
}

static int read_parts(emu_space *space, uint64_t addr, uint32_t width, uint64_t *value)
{
    struct part parts[8];
    uint32_t count = split(space, addr, width, parts);
    int result = EMU_OK;
    uint64_t whole = 0;
    for (uint32_t i = 0, done = 0; i < count; done += parts[i++].width) {
        uint64_t word = 0xff;
        if (parts[i].range.region == NULL) {
            result = EMU_UNMAPPED;
        } else {
            int status = emu_region_read(parts[i].range.region, parts[i].range.offset, parts[i].width, &word);
            if (status != EMU_OK) {
                *value = 0;
                return status;
            }
        }
        whole |= word << (8 * done);
    }
    *value = whole;
    return result;
}

emu_tell_access_fn *emu_map_tells;

static int space_read(emu_space *space, uint64_t addr, uint32_t width, uint64_t *value)
{
    emu_range range;
    if (emu_space_find(space, addr, &range) && width <= range.size - (addr - range.base))
        return emu_region_read(range.region, range.offset + (addr - range.base), width, value);
    return read_parts(space, addr, width, value);
}

int emu_space_read(emu_space *space, uint64_t addr, uint32_t width, uint64_t *value)
{
    int status = space_read(space, addr, width, value);
    if (__builtin_expect(emu_map_tells != NULL, 0))
        emu_map_tells(space, addr, width, *value, 0);
    return status;
}

static int write_parts(emu_space *space, uint64_t addr, uint32_t width, uint64_t value)
{
    struct part parts[8];
    uint32_t count = split(space, addr, width, parts);
    int result = EMU_OK;
    for (uint32_t i = 0, done = 0; i < count; done += parts[i++].width) {
        if (parts[i].range.region == NULL) {
            result = EMU_UNMAPPED;
            continue;
        }
        int status =
            emu_region_write(parts[i].range.region, parts[i].range.offset, parts[i].width, value >> (8 * done));
        if (status != EMU_OK)
            return status;
    }
    return result;
}

int emu_space_write(emu_space *space, uint64_t addr, uint32_t width, uint64_t value)
{
    emu_range range;
    if (__builtin_expect(emu_map_tells != NULL, 0))
        emu_map_tells(space, addr, width, value, 1);
    if (emu_space_find(space, addr, &range) && width <= range.size - (addr - range.base))
        return emu_region_write(range.region, range.offset + (addr - range.base), width, value);
    return write_parts(space, addr, width, value);
}

static void peek_registers(emu_region *region, uint64_t offset, uint8_t *out, uint64_t size)
{
    for (uint64_t done = 0; done < size;) {
        uint64_t gap = 0, n = size - done;
        emu_reg *reg = register_at(region, offset + done, &gap);
        if (reg == NULL) {
            n = n < gap ? n : gap;
            memset(out + done, 0, n);
        } else {
            uint64_t skew = offset + done - reg->offset, word = __atomic_load_n(&reg->value, __ATOMIC_ACQUIRE);
            if (n > reg->width - skew)
                n = reg->width - skew;
            word >>= 8 * skew;
            memcpy(out + done, &word, n);
        }
        done += n;
    }
}

size_t emu_space_peek(const emu_space *space, uint64_t addr, void *out, size_t size)
{
    size_t done = 0;
    emu_range range;
    while (done < size && addr + done >= addr && emu_space_find(space, addr + done, &range)) {
        uint64_t skip = addr + done - range.base, n = range.size - skip;
        if (n > size - done)
            n = size - done;
        if (range.region->kind == EMU_IO)
            peek_registers(range.region, range.offset + skip, (uint8_t *)out + done, n);
        else
            memcpy((uint8_t *)out + done, range.region->host + range.offset + skip, n);
        done += n;
    }
    return done;
}

size_t emu_space_load(emu_space *space, uint64_t addr, const void *data, size_t size)
{
    size_t done = 0;
    emu_range range;
    while (done < size && addr + done >= addr && emu_space_find(space, addr + done, &range) &&
           range.region->kind != EMU_IO) {
        uint64_t skip = addr + done - range.base, n = range.size - skip;
        if (n > size - done)
            n = size - done;
        memcpy(range.region->host + range.offset + skip, (const uint8_t *)data + done, n);
        done += n;
    }
    if (done != 0)
        emu_space_written(space, addr, done);
    return done;
}

int emu_space_watch(emu_space *space, emu_watch_fn fn, void *opaque)
{
    for (size_t i = 0; i < EMU_WATCHERS; i++) {
        struct watcher *watcher = &space->watchers[i];
        if (atomic_load(&watcher->fn) != NULL)
            continue;
        watcher->opaque = opaque;
        atomic_store(&watcher->fn, fn);
        return 0;
    }
    return -1;
}

void emu_space_unwatch(emu_space *space, void *opaque)
{
    for (size_t i = 0; i < EMU_WATCHERS; i++)
        if (space->watchers[i].opaque == opaque)
            atomic_store(&space->watchers[i].fn, NULL);
}

void emu_space_written(emu_space *space, uint64_t addr, uint64_t size)
{
    if (emu_space_tracked(space) != 0)
        mark_range(space, addr, size);
    for (size_t i = 0; i < EMU_WATCHERS; i++) {
        emu_watch_fn fn = atomic_load_explicit(&space->watchers[i].fn, memory_order_acquire);
        if (fn != NULL)
            fn(space->watchers[i].opaque, addr, size);
    }
}
