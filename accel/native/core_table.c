/* The core's functions as a table, for who is not linked with it (emu/devices/native/core_link.c). */
#include "core.h"

const emu_core_calls *emu_core_table(void)
{
    static const emu_core_calls table = {
        .space_find = emu_space_find,
        .space_written = emu_space_written,
        .region_kind = emu_region_kind,
        .region_host = emu_region_host,
        .irq_set = emu_irq_set,
        .now = emu_now,
        .cpu = emu_cpu,
    };
    return &table;
}
