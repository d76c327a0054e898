/*
 * GICv3's Interrupt Translation Service (IHI 0069H, chapters 5.3 and 12.19): turns
 * a message of a device, by who sent it and what it says, into an LPI of a CPU.
 *
 * Its tables are the guest's RAM, as the guest gave it; nothing is kept here but
 * registers.
 */
#ifndef EMU_GIC_ITS_H
#define EMU_GIC_ITS_H

#include "gic.h"

typedef struct emu_gic_its emu_gic_its;

/* What a snapshot holds. */
typedef struct emu_gic_its_state {
    uint32_t control, reserved;
    uint64_t queue, write, read; /* GITS_CBASER, GITS_CWRITER, GITS_CREADR */
    uint64_t table[2];           /* GITS_BASER0: devices, GITS_BASER1: collections */
} emu_gic_its_state;

/* gic: one that emu_gic_lpis() was called for; base: the address of its registers, which messages name. */
emu_gic_its *emu_gic_its_new(emu_gic *gic, emu_space *space, uint64_t base);
void emu_gic_its_free(emu_gic_its *its);
void emu_gic_its_reset(emu_gic_its *its);
/* An emu_msi_fn of pci.h. */
void emu_gic_its_message(void *its, uint32_t requester, uint64_t address, uint32_t data);
/* Two frames of 64 KiB: emu_read_fn and emu_write_fn of core.h. */
int emu_gic_its_read(void *its, uint64_t offset, uint32_t width, uint64_t *value);
int emu_gic_its_write(void *its, uint64_t offset, uint32_t width, uint64_t value);
void emu_gic_its_save(emu_gic_its *its, emu_gic_its_state *out);
void emu_gic_its_load(emu_gic_its *its, const emu_gic_its_state *state);

#endif
