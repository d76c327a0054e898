/*
 * Memory balloon (virtio 1.2, section 5.5): pages that the guest gives back are
 * taken out of the memfd that its RAM is, so the host really has them; what the
 * guest knows of its memory comes back by the statistics queue.
 *
 * Which queue is which: the standard numbers them with gaps for what was not
 * agreed on, Linux without.  Nothing between statistics and reporting is offered,
 * so both can be told apart.
 */
#include "virtio.h"

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define DEVICE_ID 5
#define QUEUES 5
#define QUEUE_SIZE 256
#define CONFIG_BYTES 16u
#define PAGE_SHIFT 12
/* Page numbers that are looked at together. */
#define BATCH 1024u

enum feature {
    F_STATS_VQ = 1 << 1,
    F_DEFLATE_ON_OOM = 1 << 2,
    F_PAGE_POISON = 1 << 4,
    F_REPORTING = 1 << 5,
};

enum { NUM_PAGES_AT = 0, ACTUAL_AT = 4, POISON_AT = 12 };
enum { INFLATE = 0, DEFLATE = 1, STATS = 2 };

struct __attribute__((packed)) stat {
    uint16_t tag;
    uint64_t value;
};

struct balloon {
    emu_virtio_balloon_state state;
    uint64_t due;       /* when the statistics' buffer is given back, in emu_now()'s time */
    uint64_t page_size; /* the host's */
    emu_ram ram;        /* where the last page was */
    uint64_t freed;     /* bytes given to the host, for people */
    int changed;        /* eventfd */
    bool asked;         /* for statistics, besides those by interval */
};

/* ---- pages ------------------------------------------------------------------------- */

/* Takes whole pages of the host's within [addr, addr + size) out of its memory; they read as zeroes then. */
static void give_back(emu_virtio *device, uint64_t addr, uint64_t size)
{
    struct balloon *balloon = device->own;
    while (size != 0) {
        uint8_t *host = emu_ram_find(device->space, &balloon->ram, addr, 1);
        if (host == NULL) { /* not RAM: as if it had not been named */
            uint64_t skip = (UINT64_C(1) << PAGE_SHIFT) - (addr & ((UINT64_C(1) << PAGE_SHIFT) - 1));
            if (skip >= size)
                return;
            addr += skip;
            size -= skip;
            continue;
        }
        uint64_t here = balloon->ram.size - (addr - balloon->ram.base);
        if (here > size)
            here = size;
        uintptr_t mask = (uintptr_t)balloon->page_size - 1, first = ((uintptr_t)host + mask) & ~mask;
        uintptr_t end = ((uintptr_t)host + here) & ~mask;
        if (first < end && madvise((void *)first, end - first, MADV_REMOVE) == 0) {
            balloon->freed += end - first;
            emu_space_written(device->space, addr + (first - (uintptr_t)host), end - first);
        }
        addr += here;
        size -= here;
    }
}

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void inflate(emu_virtio *device, const emu_chain *chain)
{
    uint32_t pages[BATCH];
    /* A list may have 2^30 numbers; what is not looked at because somebody waits stays the guest's. */
    for (uint64_t at = 0; at + 4 <= chain->out_size && atomic_load(&device->wanted) == 0;) {
        size_t count = emu_iov_read(chain->out, chain->out_count, at, pages, sizeof pages) / 4;
        at += 4 * count;
        /* Neighbours go together: a call for each page would take the guest's time. */
        qsort(pages, count, sizeof *pages, by_number);
        for (size_t i = 0, j; i < count; i = j) {
            for (j = i + 1; j < count && pages[j] - pages[i] <= j - i; j++)
                ;
            give_back(device, (uint64_t)pages[i] << PAGE_SHIFT,
                      ((uint64_t)(pages[j - 1] - pages[i]) + 1) << PAGE_SHIFT);
        }
    }
}

static void report(emu_virtio *device, const emu_chain *chain)
{
    uint32_t poison;
    memcpy(&poison, device->config + POISON_AT, sizeof poison);
    /* 5.5.6.5: a page that comes back is to hold the value that the driver fills free pages with. */
    if (emu_virtio_has(device, F_PAGE_POISON) && poison != 0)
        return;
    for (int i = chain->out_count; i < chain->out_count + chain->in_count; i++)
        give_back(device, chain->address[i], chain->iov[i].iov_len);
}

/* ---- statistics ----------------------------------------------------------------------- */

static void note(emu_virtio *device, const emu_chain *chain)
{
    struct balloon *balloon = device->own;
    emu_virtio_balloon_state *state = &balloon->state;
    struct stat stat;
    for (uint64_t at = 0; at + sizeof stat <= chain->out_size && at < 64 * sizeof stat; at += sizeof stat) {
        emu_iov_read(chain->out, chain->out_count, at, &stat, sizeof stat);
        if (stat.tag < EMU_VIRTIO_BALLOON_STATS) {
            state->stats[stat.tag] = stat.value;
            state->known |= 1u << stat.tag;
        }
    }
    state->updated = (uint64_t)time(NULL);
    if (state->has_buffer) /* it sends a second one: the first goes back */
        emu_vq_push_head(&device->queues[STATS], (uint16_t)state->buffer, 0);
    state->buffer = chain->head;
    state->has_buffer = 1;
    balloon->due = emu_now() + state->interval * UINT64_C(1000000000);
}

static void ask(emu_virtio *device)
{
    emu_virtio_balloon_state *state = &((struct balloon *)device->own)->state;
    if (!state->has_buffer || !emu_virtio_queue_ready(device, STATS))
        return;
    state->has_buffer = 0;
    emu_vq_push_head(&device->queues[STATS], (uint16_t)state->buffer, 0);
    emu_virtio_signal(device, STATS);
}

/* ---- the device -------------------------------------------------------------------------- */

static void handle(emu_virtio *device, uint32_t queue)
{
    bool stats = queue == STATS && emu_virtio_has(device, F_STATS_VQ);
    while (emu_virtio_next(device, queue, &device->chain)) {
        if (stats) {
            note(device, &device->chain);
            continue;
        }
        if (queue == INFLATE)
            inflate(device, &device->chain);
        else if (queue > DEFLATE && emu_virtio_has(device, F_REPORTING))
            report(device, &device->chain);
        emu_vq_push_head(&device->queues[queue], device->chain.head, 0);
        emu_virtio_signal(device, queue);
    }
}

static int wait_for(emu_virtio *device, struct pollfd *polls, int room, int *timeout)
{
    struct balloon *balloon = device->own;
    if (balloon->state.has_buffer && balloon->asked)
        *timeout = 0;
    if (!balloon->state.has_buffer || balloon->state.interval == 0)
        return 0;
    uint64_t now = emu_now(), ms = now >= balloon->due ? 0 : (balloon->due - now) / 1000000 + 1;
    if (ms > 60000)
        ms = 60000;
    if (*timeout < 0 || (uint64_t)*timeout > ms)
        *timeout = (int)ms;
    return 0;
}

static void ready(emu_virtio *device, struct pollfd *polls, int count)
{
    struct balloon *balloon = device->own;
    bool due = balloon->state.interval != 0 && emu_now() >= balloon->due;
    if (!balloon->state.has_buffer || !(due || balloon->asked))
        return;
    balloon->asked = false;
    ask(device);
}

static void reset(emu_virtio *device)
{
    struct balloon *balloon = device->own;
    const uint32_t none = 0;
    emu_virtio_config_quietly(device, ACTUAL_AT, &none, sizeof none);
    emu_virtio_config_quietly(device, POISON_AT, &none, sizeof none);
    balloon->state.has_buffer = 0;
    balloon->ram = (emu_ram){0};
}

static void config_written(emu_virtio *device, uint32_t offset, uint32_t size)
{
    const struct balloon *balloon = device->own;
    const uint64_t one = 1;
    if (offset < ACTUAL_AT + 4 && offset + size > ACTUAL_AT && write(balloon->changed, &one, sizeof one) < 0)
        return; /* full: it will be looked at */
}

static void free_own(emu_virtio *device)
{
    close(((struct balloon *)device->own)->changed);
    free(device->own);
}

static const emu_virtio_type type = {
    .id = DEVICE_ID,
    .config_written = config_written,
    .handle = handle,
    .wait = wait_for,
    .ready = ready,
    .reset = reset,
    .free = free_own,
};

emu_virtio *emu_virtio_balloon_new(int deflate_on_oom, int reporting)
{
    struct balloon *balloon = calloc(1, sizeof *balloon);
    if (balloon == NULL)
        return NULL;
    balloon->changed = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (balloon->changed < 0) {
        free(balloon);
        return NULL;
    }
    uint64_t features = F_STATS_VQ | F_PAGE_POISON;
    features |= deflate_on_oom ? F_DEFLATE_ON_OOM : 0;
    features |= reporting ? F_REPORTING : 0;
    emu_virtio *device = emu_virtio_new(&type, features, QUEUES, QUEUE_SIZE, CONFIG_BYTES);
    if (device == NULL) {
        close(balloon->changed);
        free(balloon);
        return NULL;
    }
    balloon->page_size = (uint64_t)sysconf(_SC_PAGESIZE);
    device->own = balloon;
    memset(device->writable + ACTUAL_AT, 0xff, 4);
    memset(device->writable + POISON_AT, 0xff, 4);
    return device;
}

void emu_virtio_balloon_target(emu_virtio *device, uint32_t pages)
{
    emu_virtio_hold(device);
    emu_virtio_config(device, NUM_PAGES_AT, &pages, sizeof pages);
    emu_virtio_release(device);
}

uint32_t emu_virtio_balloon_pages(emu_virtio *device, int target)
{
    return emu_virtio_read_config(device, target ? NUM_PAGES_AT : ACTUAL_AT, 4);
}

uint64_t emu_virtio_balloon_freed(emu_virtio *device)
{
    emu_virtio_hold(device);
    uint64_t freed = ((struct balloon *)device->own)->freed;
    emu_virtio_release(device);
    return freed;
}

int emu_virtio_balloon_changed(const emu_virtio *device) { return ((const struct balloon *)device->own)->changed; }

void emu_virtio_balloon_interval(emu_virtio *device, uint64_t seconds)
{
    struct balloon *balloon = device->own;
    emu_virtio_hold(device);
    balloon->state.interval = seconds;
    balloon->due = 0; /* the first ones at once */
    emu_virtio_release(device);
    emu_virtio_wake(device);
}

void emu_virtio_balloon_ask(emu_virtio *device)
{
    struct balloon *balloon = device->own;
    emu_virtio_hold(device);
    balloon->asked = true;
    emu_virtio_release(device);
    emu_virtio_wake(device);
}

void emu_virtio_balloon_get(emu_virtio *device, emu_virtio_balloon_state *out)
{
    emu_virtio_hold(device);
    *out = ((struct balloon *)device->own)->state;
    emu_virtio_release(device);
}

void emu_virtio_balloon_set(emu_virtio *device, const emu_virtio_balloon_state *state)
{
    emu_virtio_hold(device);
    ((struct balloon *)device->own)->state = *state;
    emu_virtio_release(device);
}
