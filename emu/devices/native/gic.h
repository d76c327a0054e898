/*
 * Arm's Generic Interrupt Controller, version 2 or 3: interrupts from lines to
 * CPUs.  gic.c holds what both have in common, gic_v2.c and gic_v3.c their
 * registers.
 *
 * Interrupt IDs: 0 to 15 are software's (SGI), 16 to 31 each CPU's own (PPI),
 * from 32 on the board's (SPI).  Without the Security Extensions, with 32 levels
 * of priority.
 *
 * Sources: ARM Generic Interrupt Controller Architecture Specification, IHI 0048
 * (version 2) and IHI 0069 (version 3).
 *
 * Any thread may call; one lock guards it all, and is held while an output
 * changes: an output's end calls no device.
 */
#ifndef EMU_GIC_H
#define EMU_GIC_H

#include "core.h"

#include <stdint.h>

#define EMU_GIC_CPUS 8
#define EMU_GIC_WORDS 32

/* Thirty-two interrupts, a bit for each. */
typedef struct emu_gic_word {
    uint32_t level;   /* of the line */
    uint32_t latched; /* pending, whatever the line does */
    uint32_t enabled;
    uint32_t active;
    uint32_t edge;    /* a rising edge latches; else the level counts */
    uint32_t group;   /* 1: group 1 */
    uint8_t priority[32];
} emu_gic_word;

typedef struct emu_gic_cpu {
    emu_gic_word own;       /* SGIs and PPIs */
    uint8_t sources[16];    /* version 2: a bit for each CPU that sent the SGI */
    uint32_t control;       /* GICC_CTLR; ICC_CTLR_EL1's EOImode and CBPR */
    uint32_t groups;        /* enabled at this CPU */
    uint32_t mask;          /* PMR */
    uint32_t binary_point[2];
    uint32_t running[2];    /* active priorities of each group, a bit a level (APR) */
    uint32_t waker;         /* GICR_WAKER */
} emu_gic_cpu;

/* What a snapshot holds. */
typedef struct emu_gic_state {
    uint32_t control; /* GICD_CTLR */
    uint32_t reserved;
    emu_gic_word shared[EMU_GIC_WORDS]; /* the first is not used */
    uint64_t route[32 * EMU_GIC_WORDS]; /* version 3: affinity, or bit 31: any CPU */
    emu_gic_cpu cpu[EMU_GIC_CPUS];
} emu_gic_state;

typedef struct emu_gic emu_gic;

/* version: 2 or 3; cpus: 1 to 8; spis: up to 988, a multiple of 32.  NULL: no memory, or absurd. */
emu_gic *emu_gic_new(uint32_t version, uint32_t cpus, uint32_t spis);
void emu_gic_free(emu_gic *gic);
/* As after power-on; lines keep their levels. */
void emu_gic_reset(emu_gic *gic);

/* The CPU's inputs: 0 IRQ, 1 FIQ. */
void emu_gic_output(emu_gic *gic, uint32_t cpu, uint32_t which, emu_irq *line);
/* An emu_irq_fn: the interrupt ID, with the CPU in the upper half for those below 32. */
void emu_gic_input(void *gic, uint32_t number, int level);

/* The state as it is, and back; outputs follow. */
void emu_gic_save(emu_gic *gic, emu_gic_state *out);
void emu_gic_load(emu_gic *gic, const emu_gic_state *state);

/* Registers in memory: emu_read_fn and emu_write_fn, opaque the emu_gic. */
int emu_gic_read_distributor(void *gic, uint64_t offset, uint32_t width, uint64_t *value);
int emu_gic_write_distributor(void *gic, uint64_t offset, uint32_t width, uint64_t value);
/* Version 2: the distributor, and 64 KiB above it the interface of the only CPU. */
int emu_gic_read_v2(void *gic, uint64_t offset, uint32_t width, uint64_t *value);
int emu_gic_write_v2(void *gic, uint64_t offset, uint32_t width, uint64_t value);
/* Version 3: 128 KiB for each CPU. */
int emu_gic_read_redistributors(void *gic, uint64_t offset, uint32_t width, uint64_t *value);
int emu_gic_write_redistributors(void *gic, uint64_t offset, uint32_t width, uint64_t value);

/*
 * Version 3: the CPU interface's system registers, emu_sysreg_read_fn and
 * emu_sysreg_write_fn of core.h; opaque an emu_gic_interface.
 */
typedef struct emu_gic_interface {
    emu_gic *gic;
    uint32_t cpu;
    uint32_t reserved;
} emu_gic_interface;
int emu_gic_read_system(void *interface, uint32_t code, uint64_t *value);
int emu_gic_write_system(void *interface, uint32_t code, uint64_t value);

#endif
