/* GICv2m: messages turned into edges of a GIC's inputs.  See gicv2m.c. */
#ifndef EMU_GICV2M_H
#define EMU_GICV2M_H

#include "core.h"

#include <stdint.h>

#define EMU_GICV2M_SPIS 64

typedef struct emu_gicv2m emu_gicv2m;

/* first: the interrupt ID of lines[0]; base: the frame's address, which messages name.  NULL: no memory. */
emu_gicv2m *emu_gicv2m_new(uint64_t base, uint32_t first, uint32_t count, emu_irq **lines);
void emu_gicv2m_free(emu_gicv2m *frame);
/* An emu_msi_fn of pci.h. */
void emu_gicv2m_message(void *frame, uint32_t requester, uint64_t address, uint32_t data);
/* emu_read_fn and emu_write_fn of core.h. */
int emu_gicv2m_read(void *frame, uint64_t offset, uint32_t width, uint64_t *value);
int emu_gicv2m_write(void *frame, uint64_t offset, uint32_t width, uint64_t value);

#endif
