/*
 * GICv2m: a frame of registers where a write of an interrupt's number is an edge
 * of that interrupt.  Source: Arm Server Base System Architecture (DEN0029B),
 * appendix E.
 */
#include "gicv2m.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { TYPER = 0x008, SETSPI = 0x040, IIDR = 0xfcc };

struct emu_gicv2m {
    pthread_mutex_t lock; /* two messages of one number are two edges */
    uint64_t base;
    uint32_t first, count;
    emu_irq *lines[EMU_GICV2M_SPIS];
};

emu_gicv2m *emu_gicv2m_new(uint64_t base, uint32_t first, uint32_t count, emu_irq **lines)
{
    emu_gicv2m *frame = count <= EMU_GICV2M_SPIS ? calloc(1, sizeof *frame) : NULL;
    if (frame == NULL)
        return NULL;
    pthread_mutex_init(&frame->lock, NULL);
    frame->base = base;
    frame->first = first;
    frame->count = count;
    memcpy(frame->lines, lines, count * sizeof *lines);
    return frame;
}

void emu_gicv2m_free(emu_gicv2m *frame)
{
    if (frame == NULL)
        return;
    pthread_mutex_destroy(&frame->lock);
    free(frame);
}

static void set_spi(emu_gicv2m *frame, uint32_t number)
{
    if (number < frame->first || number - frame->first >= frame->count)
        return;
    pthread_mutex_lock(&frame->lock);
    emu_irq_set(frame->lines[number - frame->first], 1);
    emu_irq_set(frame->lines[number - frame->first], 0);
    pthread_mutex_unlock(&frame->lock);
}

void emu_gicv2m_message(void *opaque, uint32_t requester, uint64_t address, uint32_t data)
{
    emu_gicv2m *frame = opaque;
    if (address == frame->base + SETSPI)
        set_spi(frame, data & 0x3ff);
}

int emu_gicv2m_read(void *opaque, uint64_t offset, uint32_t width, uint64_t *value)
{
    const emu_gicv2m *frame = opaque;
    uint32_t word = 0;
    if ((offset & ~UINT64_C(3)) == TYPER)
        word = frame->first << 16 | frame->count;
    else if ((offset & ~UINT64_C(3)) == IIDR)
        word = 0x43b; /* Arm */
    *value = word >> 8 * (offset & 3);
    return EMU_OK;
}

int emu_gicv2m_write(void *opaque, uint64_t offset, uint32_t width, uint64_t value)
{
    if (offset == SETSPI && width >= 4)
        set_spi(opaque, value & 0x3ff);
    return EMU_OK;
}
