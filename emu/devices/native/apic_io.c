/* The I/O APIC: from wires to messages for the local ones; the header says more. */
#include "apic_private.h"

#include <string.h>

#define VERSION ((EMU_APIC_INPUTS - 1) << 16 | 0x20u) /* 0x20: it has an EOI register */

enum {
    LOGICAL = 1 << 11,
    PENDING = 1 << 12,
    REMOTE = 1 << 14, /* a level was delivered, and no end of interrupt came */
    LEVEL = 1 << 15,
};

enum { SELECT = 0x00, WINDOW = 0x10, END = 0x40 };

/* Intel SDM volume 3, "Message Signalled Interrupts"; masked: 0. */
static uint32_t message(uint64_t entry, uint64_t *address)
{
    uint32_t low = (uint32_t)entry, mode = low >> 8 & 7;
    *address = 0xfee00000 | entry >> 56 << 12 | ((low & LOGICAL) ? 4 : 0);
    if ((low & APIC_MASKED) || mode == APIC_EXTERNAL)
        return 0;
    return (low & 0xff) | mode << 8 | 1u << 14 | ((low & LEVEL) ? 1u << 15 : 0);
}

static void route(emu_apic *apic, uint32_t input)
{
    if (apic->route == NULL)
        return;
    uint64_t address;
    uint32_t data = message(apic->state.io.entry[input], &address);
    apic->route(apic->elsewhere, input, address, data);
}

void apic_io_route(emu_apic *apic)
{
    for (uint32_t input = 0; input < EMU_APIC_INPUTS; input++)
        route(apic, input);
}

static void serve(emu_apic *apic, uint32_t input)
{
    emu_apic_io *io = &apic->state.io;
    uint64_t *entry = &io->entry[input];
    uint32_t bit = 1u << input, low = (uint32_t)*entry;
    if (low & APIC_MASKED)
        return;
    if (low & LEVEL) {
        if (!(io->levels & bit) || (low & REMOTE))
            return;
        *entry |= REMOTE;
    } else {
        if (!(io->edges & bit))
            return;
        io->edges &= ~bit;
    }
    if (apic->send != NULL) {
        uint64_t address;
        uint32_t data = message(*entry, &address);
        if (data != 0)
            apic->send(apic->elsewhere, address, data);
        return;
    }
    apic_send(apic, (uint32_t)(*entry >> 56), (low & LOGICAL) != 0, low >> 8 & 7, low & 0xff, (low & LEVEL) != 0);
}

void apic_io_serve(emu_apic *apic)
{
    for (uint32_t input = 0; input < EMU_APIC_INPUTS; input++)
        serve(apic, input);
}

void apic_io_end(emu_apic *apic, uint32_t vector)
{
    for (uint32_t input = 0; input < EMU_APIC_INPUTS; input++) {
        uint64_t *entry = &apic->state.io.entry[input];
        if ((*entry & LEVEL) && (*entry & 0xff) == vector) {
            *entry &= ~(uint64_t)REMOTE;
            serve(apic, input);
        }
    }
}

/* The wires' polarity is the guest's belief: here a wire is asserted or not. */
void emu_apic_input(void *opaque, uint32_t number, int level)
{
    emu_apic *apic = opaque;
    if (number >= EMU_APIC_INPUTS)
        return;
    uint32_t bit = 1u << number;
    pthread_mutex_lock(&apic->lock);
    emu_apic_io *io = &apic->state.io;
    if (level && !(io->levels & bit))
        io->edges |= bit;
    io->levels = level ? io->levels | bit : io->levels & ~bit;
    serve(apic, number);
    pthread_mutex_unlock(&apic->lock);
}

void apic_io_reset(emu_apic *apic)
{
    emu_apic_io *io = &apic->state.io;
    uint32_t levels = io->levels; /* wires are not ours to reset */
    memset(io, 0, sizeof *io);
    io->levels = levels;
    for (uint32_t input = 0; input < EMU_APIC_INPUTS; input++)
        io->entry[input] = APIC_MASKED;
    apic_io_route(apic);
}

static uint32_t get(const emu_apic_io *io)
{
    if (io->select >= 0x10 && io->select < 0x10 + 2 * EMU_APIC_INPUTS)
        return (uint32_t)(io->entry[(io->select - 0x10) / 2] >> (io->select & 1) * 32);
    switch (io->select) {
    case 0:
    case 2: return io->id;
    case 1: return VERSION;
    }
    return 0;
}

static void set(emu_apic *apic, uint32_t value)
{
    emu_apic_io *io = &apic->state.io;
    if (io->select == 0)
        io->id = value & 0x0f000000;
    if (io->select < 0x10 || io->select >= 0x10 + 2 * EMU_APIC_INPUTS)
        return;
    uint32_t input = (io->select - 0x10) / 2, kept = PENDING | REMOTE;
    uint64_t *entry = &io->entry[input];
    if (io->select & 1) {
        *entry = (*entry & UINT32_MAX) | (uint64_t)(value & 0xff000000) << 32;
        route(apic, input);
        return;
    }
    *entry = (*entry & ~(uint64_t)(UINT32_MAX & ~kept)) | (value & 0x1ffff & ~kept);
    if (!(value & LEVEL))
        *entry &= ~(uint64_t)REMOTE; /* how older kernels end an interrupt that hangs */
    route(apic, input);
    serve(apic, input);
}

int emu_apic_read_io(void *opaque, uint64_t offset, uint32_t width, uint64_t *value)
{
    emu_apic *apic = opaque;
    *value = 0;
    pthread_mutex_lock(&apic->lock);
    if (offset == SELECT)
        *value = apic->state.io.select;
    else if (offset == WINDOW && width == 4)
        *value = get(&apic->state.io);
    pthread_mutex_unlock(&apic->lock);
    return EMU_OK;
}

int emu_apic_write_io(void *opaque, uint64_t offset, uint32_t width, uint64_t value)
{
    emu_apic *apic = opaque;
    pthread_mutex_lock(&apic->lock);
    if (offset == SELECT)
        apic->state.io.select = value & 0xff;
    else if (offset == WINDOW && width == 4)
        set(apic, (uint32_t)value);
    else if (offset == END && width == 4)
        apic_io_end(apic, value & 0xff);
    pthread_mutex_unlock(&apic->lock);
    return EMU_OK;
}
