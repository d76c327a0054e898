/*
 * Random maps against a model that keeps an owner for every byte.
 *
 *     fuzz_map CASES [SEED]
 *
 * Each case builds a map of up to 12 regions of random kinds and priorities in
 * 256 addresses at the bottom, the middle or the top of the address space,
 * changes it, and compares every byte, the flat view, random accesses, peek and
 * load.  The seed of a failing case is printed.
 */
#include "check.h"
#include "core.h"

#include <string.h>

enum { SPAN = 256, REGIONS = 12 };

struct model {
    emu_region *region;
    uint32_t kind;
    int mapped;
    int32_t priority;
    uint64_t base; /* relative to the origin */
    uint64_t size;
    uint8_t bytes[SPAN]; /* what a byte-wide read gives */
    uint8_t host[SPAN];
};

static uint64_t seed, origin;
static struct model models[REGIONS];

static uint64_t below(uint64_t n) { return (next_random(&seed) >> 20) % n; }

static struct model *owner(uint64_t at)
{
    struct model *best = NULL;
    for (int i = 0; i < REGIONS; i++) {
        struct model *m = &models[i];
        if (m->mapped && m->base <= at && at < m->base + m->size && (best == NULL || m->priority > best->priority))
            best = m;
    }
    return best;
}

static int expected(const struct model *me, uint64_t base, int32_t priority)
{
    if (base + me->size > SPAN)
        return -1;
    for (int i = 0; i < REGIONS; i++) {
        const struct model *m = &models[i];
        if (m != me && m->mapped && m->priority == priority && m->base < base + me->size && base < m->base + m->size)
            return -2;
    }
    return 0;
}

static int hook_read(void *opaque, uint64_t offset, uint32_t width, uint64_t *value)
{
    struct model *m = opaque;
    CHECK(offset < m->size && width <= m->size - offset);
    CHECK(width == 1 || width == 2 || width == 4 || width == 8);
    CHECK_EQUAL(offset % width, 0);
    *value = 0;
    memcpy(value, m->bytes + offset, width);
    return EMU_OK;
}

static int hook_write(void *opaque, uint64_t offset, uint32_t width, uint64_t value)
{
    struct model *m = opaque;
    CHECK(offset < m->size && width <= m->size - offset);
    CHECK_EQUAL(offset % width, 0);
    if (m->kind == EMU_IO)
        memcpy(m->bytes + offset, &value, width);
    return EMU_OK;
}

static void make(struct model *m)
{
    memset(m, 0, sizeof *m);
    m->kind = (uint32_t)below(3) + 1;
    m->size = below(4) == 0 ? below(SPAN) + 1 : below(40) + 1;
    for (uint64_t i = 0; i < m->size; i++)
        m->bytes[i] = m->host[i] = (uint8_t)next_random(&seed);
    m->region = emu_region_new(m->kind, m->size, m->kind == EMU_IO ? NULL : m->host);
    CHECK(m->region != NULL);
    if (m->kind == EMU_RAM)
        return;
    emu_region_hooks(m->region, hook_read, hook_write, m);
    if (m->kind == EMU_ROM || below(2) == 0)
        return;
    /* registers over some of it: plain ones hold the model's bytes, hooked ones ask */
    emu_reg regs[8];
    size_t count = 0;
    uint64_t at = below(4);
    while (count < 8) {
        uint32_t width = 1u << below(4);
        at = (at + width - 1) / width * width;
        if (at + width > m->size)
            break;
        emu_reg reg = {.offset = (uint32_t)at, .width = width, .write_mask = UINT64_MAX};
        memcpy(&reg.value, m->bytes + at, width);
        if (below(2))
            reg.flags = EMU_REG_READ_HOOK | EMU_REG_WRITE_HOOK;
        regs[count++] = reg;
        at += width + below(3) * 4;
    }
    if (count != 0)
        CHECK_EQUAL(emu_region_registers(m->region, regs, count), 0);
}

static void compare(emu_space *space)
{
    emu_range flat[4 * REGIONS];
    size_t count = emu_space_flat(space, flat, 4 * REGIONS), place = 0;
    CHECK(count <= 2 * REGIONS);
    for (uint64_t at = 0; at < SPAN; at++) {
        struct model *m = owner(at);
        emu_range range;
        while (place < count && flat[place].base - origin + flat[place].size <= at)
            place++;
        int there = place < count && flat[place].base - origin <= at;
        CHECK_EQUAL(there, m != NULL);
        CHECK_EQUAL(emu_space_find(space, origin + at, &range), m != NULL);
        if (m != NULL) {
            CHECK(range.region == m->region && flat[place].region == m->region);
            CHECK_EQUAL(range.base, flat[place].base);
            CHECK_EQUAL(range.offset + (origin + at - range.base), at - m->base);
        }
    }
}

static void access_once(emu_space *space)
{
    uint32_t width = 1u << below(4);
    uint64_t at = below(SPAN), value = 0, model = 0;
    int holes = 0;
    if (below(3) == 0) {
        uint64_t given = next_random(&seed);
        for (uint32_t i = 0; i < width; i++) {
            struct model *m = at + i < SPAN ? owner(at + i) : NULL;
            holes |= m == NULL;
            if (m != NULL && m->kind != EMU_ROM)
                m->bytes[at + i - m->base] = (uint8_t)(given >> (8 * i));
        }
        CHECK_EQUAL(emu_space_write(space, origin + at, width, given), holes ? EMU_UNMAPPED : EMU_OK);
    }
    holes = 0;
    for (uint32_t i = 0; i < width; i++) {
        struct model *m = at + i < SPAN ? owner(at + i) : NULL;
        holes |= m == NULL;
        model |= (uint64_t)(m != NULL ? m->bytes[at + i - m->base] : 0xff) << (8 * i);
    }
    CHECK_EQUAL(emu_space_read(space, origin + at, width, &value), holes ? EMU_UNMAPPED : EMU_OK);
    CHECK_EQUAL(value, model);
}

static void look_and_load(emu_space *space)
{
    uint8_t out[SPAN], data[SPAN];
    uint64_t at = below(SPAN), size = below(SPAN), there = 0, loads = 0;
    while (there < size && at + there < SPAN && owner(at + there) != NULL)
        there++;
    while (loads < there && owner(at + loads)->kind != EMU_IO)
        loads++;
    CHECK_EQUAL(emu_space_peek(space, origin + at, out, size), there);
    for (uint64_t i = 0; i < loads; i++) {
        struct model *m = owner(at + i);
        CHECK_EQUAL(out[i], m->bytes[at + i - m->base]);
    }
    for (uint64_t i = 0; i < size; i++)
        data[i] = (uint8_t)next_random(&seed);
    CHECK_EQUAL(emu_space_load(space, origin + at, data, size), loads);
    for (uint64_t i = 0; i < loads; i++) {
        struct model *m = owner(at + i);
        m->bytes[at + i - m->base] = data[i];
    }
}

static void one_case(void)
{
    static const uint64_t origins[] = {0, 0x7fffff80, UINT64_C(0) - SPAN};
    origin = origins[below(3)];
    emu_space *space = emu_space_new(origin == 0 && below(2) ? SPAN : 0);
    CHECK(space != NULL);
    int bounded = origin != 0x7fffff80;
    for (int i = 0; i < REGIONS; i++)
        make(&models[i]);
    for (int step = 0; step < 30; step++) {
        struct model *m = &models[below(REGIONS)];
        uint64_t base = below(SPAN);
        int32_t priority = (int32_t)below(5) - 2;
        int status = expected(m, base, m->mapped ? m->priority : priority);
        if (status == -1 && (!bounded || origin == 0))
            continue; /* it would fit beyond the part that the model keeps */
        if (m->mapped && below(4) == 0) {
            CHECK_EQUAL(emu_space_remove(space, m->region), 0);
            m->mapped = 0;
        } else if (m->mapped) {
            CHECK_EQUAL((int64_t)emu_space_move(space, m->region, origin + base), (int64_t)status);
            if (status == 0)
                m->base = base;
        } else {
            CHECK_EQUAL((int64_t)emu_space_add(space, m->region, origin + base, priority), (int64_t)status);
            if (status == 0) {
                m->base = base;
                m->priority = priority;
                m->mapped = 1;
            }
        }
        access_once(space);
    }
    compare(space);
    for (int i = 0; i < 20; i++)
        access_once(space);
    look_and_load(space);
    for (int i = 0; i < 10; i++)
        access_once(space);
    emu_space_free(space);
    for (int i = 0; i < REGIONS; i++)
        emu_region_free(models[i].region);
}

static uint64_t running; /* 0 when all is done */

static void tell(void)
{
    if (running != 0)
        fprintf(stderr, "again with: fuzz_map 1 %" PRIu64 "\n", running);
}

int main(int argc, char **argv)
{
    unsigned long cases = argc > 1 ? strtoul(argv[1], NULL, 0) : 1000;
    uint64_t first = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
    atexit(tell);
    for (unsigned long i = 0; i < cases; i++) {
        running = first + i;
        seed = running * UINT64_C(0x9E3779B97F4A7C15) + 1;
        one_case();
    }
    running = 0;
    fprintf(stderr, "%lu cases\n", cases);
    return 0;
}
