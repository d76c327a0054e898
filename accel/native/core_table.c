/* The core's functions as a table, for who is not linked with it (emu/devices/native/core_link.c). */
#include "core.h"

const emu_core_calls *emu_core_table(void)
{
    static const emu_core_calls table = {
        .space_find = emu_space_find,
        .space_read = emu_space_read,
        .space_write = emu_space_write,
        .space_written = emu_space_written,
        .region_kind = emu_region_kind,
        .region_host = emu_region_host,
        .irq_set = emu_irq_set,
        .irq_level = emu_irq_level,
        .now = emu_now,
    };
    return &table;
}
