/*
 * The Interrupt Translation Service; the header says more.
 *
 * The guest is hostile: a table's entry is looked up anew each time, lies in RAM
 * or is nothing, and is read once.  One write starts at most a whole queue of
 * commands, 32768 of them, each of which takes a bounded time.
 *
 * Lock order: the service, then the interrupt controller.
 */
#include "gic_its.h"

#include "gic_private.h"

#include <stdlib.h>
#include <string.h>

enum {
    GITS_CTLR = 0x0000,
    GITS_IIDR = 0x0004,
    GITS_TYPER = 0x0008,
    GITS_CBASER = 0x0080,
    GITS_CWRITER = 0x0088,
    GITS_CREADR = 0x0090,
    GITS_BASER = 0x0100,
    TRANSLATER = 0x10040,
    PIDR2 = 0xffe8,

    ENABLED = 1,
    COMMAND = 32,
    STALLED = 1, /* and, where it is written, that the command be tried again */
    DEVICES = 0,
    COLLECTIONS = 1,
    TABLES = 2,
    ENTRY = 8, /* bytes of every table's entries */
    DEVICE_BITS = 16,
    EVENT_BITS = 16,
    IIDR = 0x0100043b,
    ARCH_REV = 0x3b,
};

#define QUIESCENT (UINT32_C(1) << 31)
#define VALID (UINT64_C(1) << 63)
#define INDIRECT (UINT64_C(1) << 62)
/* Physical LPIs; entries of 8 bytes; bits of events and devices; 16 bits of collections. */
#define TYPER (UINT64_C(1) | (ENTRY - 1) << 4 | (EVENT_BITS - 1) << 8 | (DEVICE_BITS - 1) << 13)
#define CBASER_BITS UINT64_C(0xb8effffffffffcff)

/* Which kind of table, and its entries' size: read-only (12.19.1). */
static const uint64_t fixed[TABLES] = {UINT64_C(1) << 56 | UINT64_C(7) << 48, UINT64_C(4) << 56 | UINT64_C(7) << 48};
#define LARGE_PAGES UINT64_C(0x200) /* of 64 KiB: what a table has until the guest asks for others */
#define FIXED_BITS (UINT64_C(7) << 56 | UINT64_C(31) << 48)

enum command {
    MOVI = 0x01,
    INT = 0x03,
    CLEAR = 0x04,
    MAPD = 0x08,
    MAPC = 0x09,
    MAPTI = 0x0a,
    MAPI = 0x0b,
    INV = 0x0c,
    INVALL = 0x0d,
    MOVALL = 0x0e,
    DISCARD = 0x0f,
};

struct emu_gic_its {
    pthread_mutex_t lock;
    emu_gic *gic;
    emu_space *space;
    uint64_t base;
    emu_gic_its_state state;
};

/* Where an event of a device goes. */
struct route {
    uint64_t entry; /* the address of its entry */
    uint32_t number, collection, cpu;
    bool mapped, reaches; /* it has an entry; its collection has a CPU */
};

emu_gic_its *emu_gic_its_new(emu_gic *gic, emu_space *space, uint64_t base)
{
    emu_gic_its *its = calloc(1, sizeof *its);
    if (its == NULL)
        return NULL;
    pthread_mutex_init(&its->lock, NULL);
    its->gic = gic;
    its->space = space;
    its->base = base;
    emu_gic_its_reset(its);
    return its;
}

void emu_gic_its_free(emu_gic_its *its)
{
    if (its == NULL)
        return;
    pthread_mutex_destroy(&its->lock);
    free(its);
}

void emu_gic_its_reset(emu_gic_its *its)
{
    pthread_mutex_lock(&its->lock);
    memset(&its->state, 0, sizeof its->state);
    for (uint32_t which = 0; which < TABLES; which++)
        its->state.table[which] = fixed[which] | LARGE_PAGES;
    pthread_mutex_unlock(&its->lock);
}

/* ---- tables in RAM ----------------------------------------------------------------- */

static uint64_t load(const emu_gic_its *its, uint64_t addr)
{
    const uint64_t *at = (addr & 7) == 0 ? gic_ram(its->space, addr, ENTRY) : NULL;
    return at == NULL ? 0 : __atomic_load_n(at, __ATOMIC_RELAXED);
}

static void store(emu_gic_its *its, uint64_t addr, uint64_t value)
{
    uint64_t *at = (addr & 7) == 0 ? gic_ram(its->space, addr, ENTRY) : NULL;
    if (at == NULL)
        return;
    __atomic_store_n(at, value, __ATOMIC_RELAXED);
    emu_space_written(its->space, addr, ENTRY);
}

/* The address of an entry; false: the guest's table has none of that number. */
static bool find(const emu_gic_its *its, uint32_t which, uint32_t number, uint64_t *addr)
{
    uint64_t table = its->state.table[which], pages = (table & 0xff) + 1, base = table & UINT64_C(0xfffffffff000);
    uint32_t shift = (table >> 8 & 3) == 0 ? 12 : (table >> 8 & 3) == 1 ? 14 : 16;
    if (!(table & VALID))
        return false;
    if (shift == 16) /* bits 51 to 48 of the address are where a smaller page's 15 to 12 would be */
        base = (table & UINT64_C(0xffffffff0000)) | (table & 0xf000) << 36;
    uint64_t size = pages << shift, at = (uint64_t)number * ENTRY;
    if (table & INDIRECT) {
        uint64_t page = at >> shift;
        if ((page + 1) * ENTRY > size)
            return false;
        uint64_t first = load(its, base + page * ENTRY);
        if (!(first & VALID))
            return false;
        *addr = (first & UINT64_C(0xfffffffffffff) & ~((UINT64_C(1) << shift) - 1)) + (at & ((UINT64_C(1) << shift) - 1));
        return true;
    }
    *addr = base + at;
    return at + ENTRY <= size;
}

/*
 * Entries.  A device: valid, 63; bits of its events less 1, 62 to 58; its table's
 * address as the command has it.  An event: valid, 63; number of the LPI, 47 to
 * 32; collection, 15 to 0.  A collection: valid, 63; CPU, 15 to 0.
 */
static struct route route(const emu_gic_its *its, uint32_t device, uint32_t event)
{
    struct route found = {0};
    uint64_t at;
    if (device >> DEVICE_BITS != 0 || !find(its, DEVICES, device, &at))
        return found;
    uint64_t entry = load(its, at);
    uint32_t bits = 1 + (entry >> 58 & 31);
    if (!(entry & VALID) || event >> (bits < EVENT_BITS ? bits : EVENT_BITS) != 0)
        return found;
    found.entry = (entry & UINT64_C(0xfffffffffff00)) + (uint64_t)event * ENTRY;
    entry = load(its, found.entry);
    found.mapped = (entry & VALID) != 0;
    found.number = entry >> 32 & 0xffff;
    found.collection = entry & 0xffff;
    if (found.mapped && find(its, COLLECTIONS, found.collection, &at)) {
        entry = load(its, at);
        found.cpu = entry & 0xffff;
        found.reaches = (entry & VALID) && found.cpu < its->gic->cpus;
    }
    return found;
}

static bool cpu_of(const emu_gic_its *its, uint32_t collection, uint32_t *cpu)
{
    uint64_t at, entry = find(its, COLLECTIONS, collection, &at) ? load(its, at) : 0;
    *cpu = entry & 0xffff;
    return (entry & VALID) && *cpu < its->gic->cpus;
}

/* ---- commands (5.3) -------------------------------------------------------------------- */

static void map_event(emu_gic_its *its, uint32_t device, uint32_t event, uint32_t number, uint32_t collection)
{
    struct route found = route(its, device, event);
    if (found.entry != 0 && number >= EMU_GIC_LPI_FIRST && number >> EMU_GIC_LPI_BITS == 0)
        store(its, found.entry, VALID | (uint64_t)number << 32 | collection);
}

/* With both locks held. */
static void execute(emu_gic_its *its, const uint64_t words[4])
{
    emu_gic *gic = its->gic;
    uint32_t device = (uint32_t)(words[0] >> 32), event = (uint32_t)words[1], collection = words[2] & 0xffff;
    uint32_t cpu = words[2] >> 16 & 0xffff, other, kind = words[0] & 0xff;
    bool valid = (words[2] & VALID) != 0;
    uint64_t at;
    struct route found = {0};
    if (kind == MOVI || kind == INT || kind == CLEAR || kind == INV || kind == DISCARD)
        found = route(its, device, event);
    switch (kind) {
    case MAPD:
        if (device >> DEVICE_BITS == 0 && find(its, DEVICES, device, &at) && (words[1] & 31) < EVENT_BITS)
            store(its, at, valid ? VALID | (words[1] & 31) << 58 | (words[2] & UINT64_C(0xfffffffffff00)) : 0);
        break;
    case MAPC:
        if ((!valid || cpu < gic->cpus) && find(its, COLLECTIONS, collection, &at))
            store(its, at, valid ? VALID | cpu : 0);
        break;
    case MAPTI:
        map_event(its, device, event, (uint32_t)(words[1] >> 32), collection);
        break;
    case MAPI:
        map_event(its, device, event, event, collection);
        break;
    case MOVI:
        if (!found.mapped || !cpu_of(its, collection, &other))
            break;
        store(its, found.entry, VALID | (uint64_t)found.number << 32 | collection);
        if (found.reaches)
            gic_lpi_move(gic, found.cpu, other, found.number);
        break;
    case INT:
    case CLEAR:
    case DISCARD:
        if (found.reaches)
            gic_lpi_set(gic, found.cpu, found.number, kind == INT);
        if (kind == DISCARD && found.mapped)
            store(its, found.entry, 0);
        break;
    case INV:
        if (found.reaches)
            gic_lpi_look(gic, found.cpu);
        break;
    case INVALL:
        if (cpu_of(its, collection, &cpu))
            gic_lpi_look(gic, cpu);
        break;
    case MOVALL:
        other = words[3] >> 16 & 0xffff;
        if (cpu < gic->cpus && other < gic->cpus)
            gic_lpi_move_all(gic, cpu, other);
        break;
    default: /* SYNC has nothing to wait for, and what is no command is passed over */
        break;
    }
}

/* Executes what the guest wrote. */
static void run(emu_gic_its *its)
{
    emu_gic_its_state *s = &its->state;
    uint64_t size = ((s->queue & 0xff) + 1) << 12, base = s->queue & UINT64_C(0xffffffffff000);
    if (!(s->control & ENABLED) || !(s->queue & VALID) || (s->read & STALLED) || s->write >= size || s->read >= size)
        return;
    pthread_mutex_lock(&its->gic->lock);
    while (s->read != s->write) {
        uint64_t words[4];
        const void *at = gic_ram(its->space, base + s->read, COMMAND);
        if (at == NULL) {
            s->read |= STALLED;
            break;
        }
        memcpy(words, at, sizeof words);
        execute(its, words);
        s->read = (s->read + COMMAND) % size;
    }
    gic_update(its->gic);
    pthread_mutex_unlock(&its->gic->lock);
}

/* ---- messages ------------------------------------------------------------------------------ */

void emu_gic_its_message(void *opaque, uint32_t requester, uint64_t address, uint32_t data)
{
    emu_gic_its *its = opaque;
    if (address != its->base + TRANSLATER)
        return;
    pthread_mutex_lock(&its->lock);
    if (its->state.control & ENABLED) {
        struct route found = route(its, requester, data);
        if (found.reaches) {
            pthread_mutex_lock(&its->gic->lock);
            gic_lpi_set(its->gic, found.cpu, found.number, true);
            gic_update(its->gic);
            pthread_mutex_unlock(&its->gic->lock);
        }
    }
    pthread_mutex_unlock(&its->lock);
}

/* ---- registers ------------------------------------------------------------------------------- */

static uint64_t read_register(const emu_gic_its *its, uint64_t at)
{
    const emu_gic_its_state *s = &its->state;
    switch (at) {
    case GITS_CTLR:
        return (uint64_t)IIDR << 32 | QUIESCENT | s->control;
    case GITS_TYPER:
        return TYPER;
    case GITS_CBASER:
        return s->queue;
    case GITS_CWRITER:
        return s->write;
    case GITS_CREADR:
        return s->read;
    case GITS_BASER + 8 * DEVICES:
    case GITS_BASER + 8 * COLLECTIONS:
        return s->table[(at - GITS_BASER) / 8];
    case PIDR2:
        return ARCH_REV;
    }
    return 0;
}

static void write_register(emu_gic_its *its, uint64_t at, uint64_t value, uint64_t mask)
{
    emu_gic_its_state *s = &its->state;
    bool enabled = (s->control & ENABLED) != 0;
    switch (at) {
    case GITS_CTLR:
        if (mask & 1)
            s->control = value & ENABLED;
        break;
    case GITS_CBASER: /* what is in use does not change */
        if (!enabled) {
            s->queue = ((s->queue & ~mask) | value) & CBASER_BITS;
            s->read = s->write = 0;
        }
        return;
    case GITS_CWRITER:
        s->write = ((s->write & ~mask) | value) & 0xfffe0;
        if (value & STALLED)
            s->read &= ~(uint64_t)STALLED;
        break;
    case GITS_BASER + 8 * DEVICES:
    case GITS_BASER + 8 * COLLECTIONS: {
        uint32_t which = (uint32_t)(at - GITS_BASER) / 8;
        if (!enabled)
            s->table[which] = (((s->table[which] & ~mask) | value) & ~FIXED_BITS) | fixed[which];
        return;
    }
    default:
        return;
    }
    run(its);
}

int emu_gic_its_read(void *opaque, uint64_t offset, uint32_t width, uint64_t *value)
{
    emu_gic_its *its = opaque;
    pthread_mutex_lock(&its->lock);
    *value = read_register(its, offset & ~UINT64_C(7)) >> 8 * (offset & 7);
    pthread_mutex_unlock(&its->lock);
    return EMU_OK;
}

/* A CPU has no device's number: what it writes to GITS_TRANSLATER is nobody's message. */
int emu_gic_its_write(void *opaque, uint64_t offset, uint32_t width, uint64_t value)
{
    emu_gic_its *its = opaque;
    if (width < 4 || offset % width != 0)
        return EMU_OK;
    uint32_t shift = 8 * (offset & 4);
    uint64_t mask = width == 8 ? UINT64_MAX : UINT64_C(0xffffffff) << shift;
    pthread_mutex_lock(&its->lock);
    write_register(its, offset & ~UINT64_C(7), value << shift & mask, mask);
    pthread_mutex_unlock(&its->lock);
    return EMU_OK;
}

/* ---- snapshots --------------------------------------------------------------------------------- */

void emu_gic_its_save(emu_gic_its *its, emu_gic_its_state *out)
{
    pthread_mutex_lock(&its->lock);
    *out = its->state;
    pthread_mutex_unlock(&its->lock);
}

void emu_gic_its_load(emu_gic_its *its, const emu_gic_its_state *state)
{
    pthread_mutex_lock(&its->lock);
    its->state = *state;
    its->state.control &= ENABLED;
    its->state.write &= 0xfffe0;
    its->state.read &= 0xfffe0 | STALLED;
    for (uint32_t which = 0; which < TABLES; which++)
        its->state.table[which] = (its->state.table[which] & ~FIXED_BITS) | fixed[which];
    pthread_mutex_unlock(&its->lock);
}
