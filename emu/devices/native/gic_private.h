/* What the files of the interrupt controller share. */
#ifndef EMU_GIC_PRIVATE_H
#define EMU_GIC_PRIVATE_H

#include "gic.h"
#include "gic_lpi.h"

#include <pthread.h>
#include <stdbool.h>

enum {
    GIC_IDLE = 0xff,       /* running priority while nothing is active */
    GIC_SPURIOUS = 1023,
    GIC_OTHER_GROUP = 1022,
    GIC_PRIORITY = 0xf8,   /* the bits of a priority that exist */
    GIC_GROUP0 = 1,        /* enables, in GICD_CTLR and in emu_gic_cpu.groups */
    GIC_GROUP1 = 2,
};

enum {
    GICC_ACK_CTL = 1 << 2, /* IAR gives group 1's too */
    GICC_FIQ_EN = 1 << 3,  /* group 0 is FIQ */
    GICC_CBPR = 1 << 4,    /* BPR serves both groups */
    GICC_EOI_MODE = 1 << 9,
    ICC_CBPR = 1 << 0,
    ICC_EOI_MODE = 1 << 1,
};

/* The interrupt that a CPU would take first. */
struct gic_best {
    uint32_t number;   /* GIC_SPURIOUS: none */
    uint32_t priority;
    uint32_t group;
};

/* A redistributor's LPIs, and the first of them while nothing has changed. */
struct gic_lpis {
    emu_gic_lpi_state state;
    bool changed;
    struct gic_best best;
};

struct emu_gic {
    pthread_mutex_t lock;
    uint32_t version, cpus, words;
    emu_gic_state state;
    emu_irq *output[EMU_GIC_CPUS][2];
    struct gic_lpis *lpis; /* of each CPU; NULL: it has none */
    emu_space *space;
};

static inline emu_gic_word *gic_word(emu_gic *gic, uint32_t cpu, uint32_t n)
{
    return n == 0 ? &gic->state.cpu[cpu].own : &gic->state.shared[n];
}

static inline uint32_t gic_pending(const emu_gic_word *word)
{
    return word->latched | (word->level & ~word->edge);
}

/* All of these with the lock held. */
struct gic_best gic_best(emu_gic *gic, uint32_t cpu);
uint32_t gic_running(const emu_gic_cpu *cpu);
/* Takes the best interrupt if it gets through and is of `group` (a mask of GIC_GROUP*); else GIC_SPURIOUS. */
uint32_t gic_acknowledge(emu_gic *gic, uint32_t cpu, uint32_t groups, struct gic_best *out);
/* Ends the running priority of a group, the highest. */
void gic_drop(emu_gic *gic, uint32_t cpu, uint32_t group);
void gic_deactivate(emu_gic *gic, uint32_t cpu, uint32_t number);
/* Sends an SGI. */
void gic_send(emu_gic *gic, uint32_t from, uint32_t to, uint32_t number);
/* Sets every output to what it must be. */
void gic_update(emu_gic *gic);
/* The registers that both versions' distributors and version 3's redistributors have in common. */
bool gic_read_bits(emu_gic *gic, uint32_t cpu, uint32_t at, uint32_t width, uint64_t *value);
bool gic_write_bits(emu_gic *gic, uint32_t cpu, uint32_t at, uint32_t width, uint64_t value);

/* LPIs, of a controller that has them. */
void gic_lpi_reset(emu_gic *gic);
struct gic_best gic_lpi_best(emu_gic *gic, uint32_t cpu);
void gic_lpi_set(emu_gic *gic, uint32_t cpu, uint32_t number, bool pending);
/* The guest has changed its table of priorities. */
void gic_lpi_look(emu_gic *gic, uint32_t cpu);
void gic_lpi_move(emu_gic *gic, uint32_t from, uint32_t to, uint32_t number);
void gic_lpi_move_all(emu_gic *gic, uint32_t from, uint32_t to);
/* Registers of a redistributor, if it has LPIs; false: none is there. */
bool gic_lpi_read(emu_gic *gic, uint32_t cpu, uint32_t at, uint64_t *value);
void gic_lpi_write(emu_gic *gic, uint32_t cpu, uint32_t at, uint32_t width, uint64_t value);
/* The host address of [addr, addr + size), if that is RAM in one piece; else NULL. */
void *gic_ram(emu_space *space, uint64_t addr, uint64_t size);

uint64_t gic_v2_read_distributor(emu_gic *gic, uint32_t at, uint32_t width);
void gic_v2_write_distributor(emu_gic *gic, uint32_t at, uint32_t width, uint64_t value);
uint64_t gic_v3_read_distributor(emu_gic *gic, uint32_t at, uint32_t width);
void gic_v3_write_distributor(emu_gic *gic, uint32_t at, uint32_t width, uint64_t value);

#endif
