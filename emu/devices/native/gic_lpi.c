/* LPIs; the header says more. */
#include "gic_private.h"

#include <stdlib.h>
#include <string.h>

enum {
    GICR_CTLR = 0x00,
    GICR_PROPBASER = 0x70,
    GICR_PENDBASER = 0x78,
    ENABLE_LPIS = 1,
    CTLR_CES = 2, /* it may be cleared again */
    CONFIGURATION_ENABLED = 1,
};

#define PENDBASER_ZERO (UINT64_C(1) << 62) /* PTZ: written alone */
#define PROPBASER_BITS UINT64_C(0x070fffffffffff9f) /* caches, shareability, address, the number's bits */
#define PENDBASER_BITS UINT64_C(0x070fffffffff0f80)

int emu_gic_lpis(emu_gic *gic, emu_space *space)
{
    if (gic->version != 3 || gic->lpis != NULL)
        return 0;
    gic->lpis = calloc(gic->cpus, sizeof *gic->lpis);
    gic->space = space;
    gic_lpi_reset(gic);
    return gic->lpis != NULL;
}

void *gic_ram(emu_space *space, uint64_t addr, uint64_t size)
{
    emu_range range;
    if (!emu_space_find(space, addr, &range) || emu_region_kind(range.region) != EMU_RAM)
        return NULL;
    uint64_t skip = addr - range.base;
    return size <= range.size - skip ? (uint8_t *)emu_region_host(range.region) + range.offset + skip : NULL;
}

/* The first number that the guest's tables are too small for. */
static uint32_t limit(const emu_gic_lpi_state *s)
{
    uint32_t bits = 1 + (s->configuration & 0x1f);
    return 1u << (bits < EMU_GIC_LPI_BITS ? bits : EMU_GIC_LPI_BITS);
}

void gic_lpi_reset(emu_gic *gic)
{
    for (uint32_t cpu = 0; gic->lpis != NULL && cpu < gic->cpus; cpu++)
        gic->lpis[cpu] = (struct gic_lpis){.changed = true};
}

struct gic_best gic_lpi_best(emu_gic *gic, uint32_t cpu)
{
    struct gic_lpis *lpis = &gic->lpis[cpu];
    const emu_gic_lpi_state *s = &lpis->state;
    if (!lpis->changed)
        return lpis->best;
    lpis->changed = false;
    lpis->best = (struct gic_best){GIC_SPURIOUS, 0x100, 1};
    uint32_t end = limit(s);
    if (!s->enabled || end <= EMU_GIC_LPI_FIRST)
        return lpis->best;
    uint64_t at = s->configuration & UINT64_C(0xffffffffff000);
    const uint8_t *table = gic_ram(gic->space, at, end - EMU_GIC_LPI_FIRST);
    if (table == NULL)
        return lpis->best;
    for (uint32_t n = EMU_GIC_LPI_FIRST / 64; n < end / 64; n++)
        for (uint64_t waiting = s->pending[n]; waiting != 0; waiting &= waiting - 1) {
            uint32_t number = 64 * n + (uint32_t)__builtin_ctzll(waiting);
            uint8_t configuration = __atomic_load_n(&table[number - EMU_GIC_LPI_FIRST], __ATOMIC_RELAXED);
            uint32_t priority = configuration & GIC_PRIORITY;
            if ((configuration & CONFIGURATION_ENABLED) && priority < lpis->best.priority)
                lpis->best = (struct gic_best){number, priority, 1};
        }
    return lpis->best;
}

void gic_lpi_set(emu_gic *gic, uint32_t cpu, uint32_t number, bool pending)
{
    struct gic_lpis *lpis = &gic->lpis[cpu];
    if (!lpis->state.enabled || number < EMU_GIC_LPI_FIRST || number >= limit(&lpis->state))
        return;
    uint64_t *word = &lpis->state.pending[number / 64], bit = UINT64_C(1) << number % 64;
    *word = pending ? *word | bit : *word & ~bit;
    lpis->changed = true;
}

void gic_lpi_look(emu_gic *gic, uint32_t cpu) { gic->lpis[cpu].changed = true; }

void gic_lpi_move(emu_gic *gic, uint32_t from, uint32_t to, uint32_t number)
{
    uint64_t *word = &gic->lpis[from].state.pending[number / 64], bit = UINT64_C(1) << number % 64;
    if (from == to || number < EMU_GIC_LPI_FIRST || number >> EMU_GIC_LPI_BITS != 0 || !(*word & bit))
        return;
    *word &= ~bit;
    gic->lpis[from].changed = true;
    gic_lpi_set(gic, to, number, true);
}

void gic_lpi_move_all(emu_gic *gic, uint32_t from, uint32_t to)
{
    struct gic_lpis *source = &gic->lpis[from], *target = &gic->lpis[to];
    if (from == to || !target->state.enabled)
        return;
    for (uint32_t n = 0; n < limit(&target->state) / 64; n++)
        target->state.pending[n] |= source->state.pending[n];
    memset(source->state.pending, 0, sizeof source->state.pending);
    source->changed = target->changed = true;
}

/* ---- registers ------------------------------------------------------------------------- */

/* From the guest's table, or into it; what is no RAM is empty. */
static void exchange(emu_gic *gic, struct gic_lpis *lpis, bool load)
{
    emu_gic_lpi_state *s = &lpis->state;
    uint64_t at = s->pending_table & UINT64_C(0xfffffffff0000);
    uint32_t first = EMU_GIC_LPI_FIRST / 64, end = limit(s) / 64;
    uint64_t *table = end > first ? gic_ram(gic->space, at, 8 * end) : NULL;
    for (uint32_t n = first; n < end && table != NULL; n++) {
        if (!load)
            __atomic_store_n(&table[n], s->pending[n], __ATOMIC_RELAXED);
        else if (!(s->pending_table & PENDBASER_ZERO))
            s->pending[n] = __atomic_load_n(&table[n], __ATOMIC_RELAXED);
    }
    if (!load && table != NULL)
        emu_space_written(gic->space, at + 8 * first, 8 * (end - first));
    if (!load)
        memset(s->pending, 0, sizeof s->pending);
}

bool gic_lpi_read(emu_gic *gic, uint32_t cpu, uint32_t at, uint64_t *value)
{
    if (gic->lpis == NULL)
        return false;
    const emu_gic_lpi_state *s = &gic->lpis[cpu].state;
    uint32_t shift = 8 * (at & 7);
    switch (at & ~7u) {
    case GICR_CTLR:
        if (at >= 4)
            return false;
        *value = (s->enabled | CTLR_CES) >> shift;
        return true;
    case GICR_PROPBASER:
        *value = s->configuration >> shift;
        return true;
    case GICR_PENDBASER:
        *value = (s->pending_table & ~PENDBASER_ZERO) >> shift;
        return true;
    }
    return false;
}

void gic_lpi_write(emu_gic *gic, uint32_t cpu, uint32_t at, uint32_t width, uint64_t value)
{
    if (gic->lpis == NULL || width < 4)
        return;
    struct gic_lpis *lpis = &gic->lpis[cpu];
    emu_gic_lpi_state *s = &lpis->state;
    uint32_t shift = 8 * (at & 4);
    uint64_t mask = width == 8 ? UINT64_MAX : UINT64_C(0xffffffff) << shift;
    value = value << shift & mask;
    switch (at & ~7u) {
    case GICR_CTLR:
        if ((mask & 1) && (value & ENABLE_LPIS) != s->enabled) {
            s->enabled = value & ENABLE_LPIS;
            exchange(gic, lpis, s->enabled);
            lpis->changed = true;
        }
        break;
    case GICR_PROPBASER: /* what is in use does not change (12.11.24) */
        if (!s->enabled)
            s->configuration = ((s->configuration & ~mask) | value) & PROPBASER_BITS;
        break;
    case GICR_PENDBASER:
        if (!s->enabled)
            s->pending_table = ((s->pending_table & ~mask) | value) & (PENDBASER_BITS | PENDBASER_ZERO);
        break;
    }
}

/* ---- snapshots ---------------------------------------------------------------------------- */

void emu_gic_lpi_save(emu_gic *gic, uint32_t cpu, emu_gic_lpi_state *out)
{
    pthread_mutex_lock(&gic->lock);
    *out = gic->lpis[cpu].state;
    pthread_mutex_unlock(&gic->lock);
}

void emu_gic_lpi_load(emu_gic *gic, uint32_t cpu, const emu_gic_lpi_state *state)
{
    pthread_mutex_lock(&gic->lock);
    gic->lpis[cpu].state = *state;
    gic->lpis[cpu].state.enabled &= ENABLE_LPIS;
    gic->lpis[cpu].changed = true;
    gic_update(gic);
    pthread_mutex_unlock(&gic->lock);
}
