/*
 * The core's functions for devices in C.  Python loads core and devices as two
 * modules that do not see each other's symbols, so calls go through the core's
 * table.  Native tests link the core itself in place of this file.
 */
#include "core_link.h"

#include "core.h"

static const emu_core_calls *core;

void emu_core_link(const void *table) { core = table; }

int emu_space_find(const emu_space *space, uint64_t addr, emu_range *out)
{
    return core->space_find(space, addr, out);
}

void emu_space_written(emu_space *space, uint64_t addr, uint64_t size) { core->space_written(space, addr, size); }

uint32_t emu_region_kind(const emu_region *region) { return core->region_kind(region); }
void *emu_region_host(const emu_region *region) { return core->region_host(region); }

void emu_irq_set(emu_irq *irq, int level) { core->irq_set(irq, level); }

uint64_t emu_now(void) { return core->now(); }

uint32_t emu_cpu(void) { return core->cpu(); }
