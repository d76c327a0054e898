/*
 * LPIs: interrupts of GICv3 that are messages, 8192 and up (IHI 0069H, chapter 5).
 * A redistributor takes their priorities and enables from a table in RAM; which
 * are pending it keeps here, and in RAM only while LPIs are switched off.
 */
#ifndef EMU_GIC_LPI_H
#define EMU_GIC_LPI_H

#include "gic.h"

#define EMU_GIC_LPI_FIRST 8192
#define EMU_GIC_LPI_BITS 16

/* What a snapshot holds of a redistributor. */
typedef struct emu_gic_lpi_state {
    uint64_t configuration, pending_table; /* GICR_PROPBASER, GICR_PENDBASER */
    uint32_t enabled;                      /* GICR_CTLR.EnableLPIs */
    uint32_t reserved;
    uint64_t pending[1024];                /* by number */
} emu_gic_lpi_state;

/* Gives a GICv3 LPIs, before anything runs; 0: no memory.  space: where the tables are. */
int emu_gic_lpis(emu_gic *gic, emu_space *space);
void emu_gic_lpi_save(emu_gic *gic, uint32_t cpu, emu_gic_lpi_state *out);
void emu_gic_lpi_load(emu_gic *gic, uint32_t cpu, const emu_gic_lpi_state *state);

#endif
