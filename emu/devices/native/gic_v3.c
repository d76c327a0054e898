/*
 * GICv3's registers (IHI 0069H, chapter 12): the distributor and redistributors
 * in memory, the CPU interface by system registers.  Affinity routing is always
 * on, and there is one security state (GICD_CTLR.ARE and DS are 1).
 */
#include "gic_private.h"

enum {
    GICD_CTLR = 0x0000,
    GICD_TYPER = 0x0004,
    GICD_IIDR = 0x0008,
    GICD_SETSPI = 0x0040,
    GICD_CLRSPI = 0x0048,
    GICD_IROUTER = 0x6000,
    GICD_IROUTER_END = 0x8000,
    PIDR2 = 0xffe8,

    CTLR_ARE = 1 << 4,
    CTLR_DS = 1 << 6,

    TYPER_MBIS = 1 << 16,
    TYPER_LPIS = 1 << 17,
    TYPER_ID_BITS = 9 << 19, /* ten bits of interrupt ID */
    TYPER_LPI_ID_BITS = (EMU_GIC_LPI_BITS - 1) << 19,
    TYPER_NO_1_OF_N = 1 << 25,

    GICR_FRAME = 0x10000,
    GICR_CTLR = 0x0000,
    GICR_IIDR = 0x0004,
    GICR_TYPER = 0x0008,
    GICR_WAKER = 0x0014,
    TYPER_PLPIS = 1 << 0,
    TYPER_LAST = 1 << 4,
    WAKER_SLEEP = 2,
    WAKER_ASLEEP = 4,

    IIDR = 0x0100043b,
    ARCH_REV = 0x3b,
};

/* Whether a register of bits or fields is each CPU's own: the first word, or the first fields. */
static bool is_own(uint32_t at)
{
    return at < 0x400 ? (at & 0x7f) < 4 : at < 0x800 ? at < 0x420 : at < 0xc08;
}

/* ---- the distributor ------------------------------------------------------------ */

uint64_t gic_v3_read_distributor(emu_gic *gic, uint32_t at, uint32_t width)
{
    uint64_t value;
    if (at >= GICD_IROUTER && at < GICD_IROUTER_END) {
        uint32_t number = (at - GICD_IROUTER) / 8;
        return number < 32 || number / 32 >= gic->words ? 0 : gic->state.route[number] >> 8 * (at & 7);
    }
    switch (at & ~3u) {
    case GICD_CTLR:
        return (gic->state.control | CTLR_ARE | CTLR_DS) >> 8 * (at & 3);
    case GICD_TYPER:
        value = gic->lpis != NULL ? TYPER_LPIS | TYPER_LPI_ID_BITS : TYPER_ID_BITS;
        return ((gic->words - 1) | TYPER_MBIS | value | TYPER_NO_1_OF_N) >> 8 * (at & 3);
    case GICD_IIDR:
        return IIDR >> 8 * (at & 3);
    case PIDR2:
        return ARCH_REV >> 8 * (at & 3);
    }
    if (gic_read_bits(gic, 0, at, width, &value)) {
        /* what is each CPU's own is in its redistributor */
        return is_own(at) ? 0 : value;
    }
    return 0;
}

/* A message of a device that writes the interrupt's number (12.9.38). */
static void message(emu_gic *gic, uint32_t number, bool set)
{
    if (number < 32 || number / 32 >= gic->words)
        return;
    emu_gic_word *word = gic_word(gic, 0, number / 32);
    if (set)
        word->latched |= 1u << number % 32;
    else
        word->latched &= ~(1u << number % 32);
}

void gic_v3_write_distributor(emu_gic *gic, uint32_t at, uint32_t width, uint64_t value)
{
    if (at >= GICD_IROUTER && at < GICD_IROUTER_END) {
        uint32_t number = (at - GICD_IROUTER) / 8, shift = 8 * (at & 4);
        if (number < 32 || number / 32 >= gic->words || width < 4)
            return;
        uint64_t mask = width == 8 ? UINT64_MAX : UINT64_C(0xffffffff) << shift;
        uint64_t route = (gic->state.route[number] & ~mask) | (value << shift & mask);
        gic->state.route[number] = route & UINT64_C(0xff80ffffff);
        return;
    }
    switch (at) {
    case GICD_CTLR:
        gic->state.control = value & (GIC_GROUP0 | GIC_GROUP1);
        return;
    case GICD_SETSPI:
    case GICD_CLRSPI:
        message(gic, value & 0x3ff, at == GICD_SETSPI);
        return;
    }
    if (!is_own(at))
        gic_write_bits(gic, 0, at, width, value);
}

/* ---- redistributors ----------------------------------------------------------------- */

static uint64_t read_redistributor(emu_gic *gic, uint32_t cpu, uint32_t at, uint32_t width)
{
    uint64_t value = 0;
    if (at >= GICR_FRAME) {
        at -= GICR_FRAME;
        return is_own(at) && gic_read_bits(gic, cpu, at, width, &value) ? value : 0;
    }
    uint32_t shift = 8 * (at & 3);
    if (gic_lpi_read(gic, cpu, at, &value))
        return value;
    switch (at & ~3u) {
    case GICR_IIDR:
        return IIDR >> shift;
    case GICR_TYPER:
        value = (uint64_t)cpu << 32 | cpu << 8 | (cpu + 1 == gic->cpus ? TYPER_LAST : 0) |
                (gic->lpis != NULL ? TYPER_PLPIS : 0);
        return value >> shift;
    case GICR_TYPER + 4:
        return cpu >> shift;
    case GICR_WAKER:
        return gic->state.cpu[cpu].waker >> shift;
    case PIDR2:
        return ARCH_REV >> shift;
    }
    return 0;
}

static void write_redistributor(emu_gic *gic, uint32_t cpu, uint32_t at, uint32_t width, uint64_t value)
{
    if (at == GICR_WAKER) {
        uint32_t sleep = value & WAKER_SLEEP;
        gic->state.cpu[cpu].waker = sleep | (sleep ? WAKER_ASLEEP : 0);
    } else if (at >= GICR_FRAME) {
        at -= GICR_FRAME;
        if (is_own(at))
            gic_write_bits(gic, cpu, at, width, value);
    } else {
        gic_lpi_write(gic, cpu, at, width, value);
    }
}

int emu_gic_read_redistributors(void *opaque, uint64_t offset, uint32_t width, uint64_t *value)
{
    emu_gic *gic = opaque;
    uint32_t cpu = (uint32_t)(offset / (2 * GICR_FRAME));
    *value = 0;
    if (cpu < gic->cpus) {
        pthread_mutex_lock(&gic->lock);
        *value = read_redistributor(gic, cpu, offset % (2 * GICR_FRAME), width);
        pthread_mutex_unlock(&gic->lock);
    }
    return EMU_OK;
}

int emu_gic_write_redistributors(void *opaque, uint64_t offset, uint32_t width, uint64_t value)
{
    emu_gic *gic = opaque;
    uint32_t cpu = (uint32_t)(offset / (2 * GICR_FRAME));
    if (cpu < gic->cpus) {
        pthread_mutex_lock(&gic->lock);
        write_redistributor(gic, cpu, offset % (2 * GICR_FRAME), width, value);
        gic_update(gic);
        pthread_mutex_unlock(&gic->lock);
    }
    return EMU_OK;
}

/* ---- the CPU interface ---------------------------------------------------------------- */

#define SYSTEM(op1, crn, crm, op2) (3u << 14 | (op1) << 11 | (crn) << 7 | (crm) << 3 | (op2))

enum {
    ICC_PMR = SYSTEM(0, 4, 6, 0),
    ICC_IAR0 = SYSTEM(0, 12, 8, 0),
    ICC_EOIR0 = SYSTEM(0, 12, 8, 1),
    ICC_HPPIR0 = SYSTEM(0, 12, 8, 2),
    ICC_BPR0 = SYSTEM(0, 12, 8, 3),
    ICC_AP0R0 = SYSTEM(0, 12, 8, 4),
    ICC_AP1R0 = SYSTEM(0, 12, 9, 0),
    ICC_DIR = SYSTEM(0, 12, 11, 1),
    ICC_RPR = SYSTEM(0, 12, 11, 3),
    ICC_SGI1R = SYSTEM(0, 12, 11, 5),
    ICC_ASGI1R = SYSTEM(0, 12, 11, 6),
    ICC_SGI0R = SYSTEM(0, 12, 11, 7),
    ICC_IAR1 = SYSTEM(0, 12, 12, 0),
    ICC_EOIR1 = SYSTEM(0, 12, 12, 1),
    ICC_HPPIR1 = SYSTEM(0, 12, 12, 2),
    ICC_BPR1 = SYSTEM(0, 12, 12, 3),
    ICC_CTLR = SYSTEM(0, 12, 12, 4),
    ICC_SRE = SYSTEM(0, 12, 12, 5),
    ICC_IGRPEN0 = SYSTEM(0, 12, 12, 6),
    ICC_IGRPEN1 = SYSTEM(0, 12, 12, 7),
    ICC_SRE_EL2 = SYSTEM(4, 12, 9, 5),

    /* PRIbits: 5; A3V; EOImode and CBPR are the state's */
    CTLR_FIXED = 4 << 8 | 1 << 15,
};

static uint32_t highest(emu_gic *gic, uint32_t cpu, uint32_t group)
{
    struct gic_best best = gic_best(gic, cpu);
    return best.number != GIC_SPURIOUS && best.group == group ? best.number : GIC_SPURIOUS;
}

static void end(emu_gic *gic, uint32_t cpu, uint32_t group, uint32_t number)
{
    emu_gic_cpu *c = &gic->state.cpu[cpu];
    bool message = gic->lpis != NULL && number >= EMU_GIC_LPI_FIRST && number >> EMU_GIC_LPI_BITS == 0;
    if (number / 32 >= gic->words && !message)
        return;
    if (c->running[group] != 0 && gic_running(c) == 8 * (uint32_t)__builtin_ctz(c->running[group]))
        gic_drop(gic, cpu, group);
    if (!(c->control & ICC_EOI_MODE))
        gic_deactivate(gic, cpu, number);
}

/* ICC_SGI1R_EL1: to a list of CPUs, or to all but this one. */
static void send(emu_gic *gic, uint32_t from, uint64_t value)
{
    uint32_t number = value >> 24 & 15, list = value & 0xffff;
    uint64_t affinity = (value >> 16 & 0xff) | (value >> 32 & 0xff) << 8 | (value >> 48 & 0xff) << 16;
    bool others = value >> 40 & 1;
    for (uint32_t to = 0; to < gic->cpus; to++)
        if (others ? to != from : affinity == 0 && to < 16 && (list >> to & 1))
            gic_send(gic, from, to, number);
}

int emu_gic_read_system(void *interface, uint32_t code, uint64_t *value)
{
    const emu_gic_interface *i = interface;
    emu_gic *gic = i->gic;
    uint32_t cpu = i->cpu;
    emu_gic_cpu *c = &gic->state.cpu[cpu];
    struct gic_best best;
    *value = 0;
    pthread_mutex_lock(&gic->lock);
    switch (code) {
    case ICC_PMR:
        *value = c->mask;
        break;
    case ICC_IAR0:
    case ICC_IAR1:
        *value = gic_acknowledge(gic, cpu, code == ICC_IAR1 ? GIC_GROUP1 : GIC_GROUP0, &best);
        break;
    case ICC_HPPIR0:
    case ICC_HPPIR1:
        *value = highest(gic, cpu, code == ICC_HPPIR1);
        break;
    case ICC_BPR0:
        *value = c->binary_point[0];
        break;
    case ICC_BPR1:
        *value = (c->control & ICC_CBPR) ? (c->binary_point[0] < 7 ? c->binary_point[0] + 1 : 7) : c->binary_point[1];
        break;
    case ICC_AP0R0:
    case ICC_AP1R0:
        *value = c->running[code == ICC_AP1R0];
        break;
    case ICC_RPR:
        *value = gic_running(c);
        break;
    case ICC_CTLR:
        *value = c->control | CTLR_FIXED;
        break;
    case ICC_SRE:
        *value = 7; /* system registers alone: SRE, DFB, DIB */
        break;
    case ICC_SRE_EL2:
        *value = 15;
        break;
    case ICC_IGRPEN0:
        *value = c->groups & 1;
        break;
    case ICC_IGRPEN1:
        *value = c->groups >> 1;
        break;
    }
    gic_update(gic);
    pthread_mutex_unlock(&gic->lock);
    return EMU_OK;
}

int emu_gic_write_system(void *interface, uint32_t code, uint64_t value)
{
    const emu_gic_interface *i = interface;
    emu_gic *gic = i->gic;
    uint32_t cpu = i->cpu, point = value & 7;
    emu_gic_cpu *c = &gic->state.cpu[cpu];
    pthread_mutex_lock(&gic->lock);
    switch (code) {
    case ICC_PMR:
        c->mask = value & GIC_PRIORITY;
        break;
    case ICC_EOIR0:
    case ICC_EOIR1:
        end(gic, cpu, code == ICC_EOIR1, value & 0xffffff);
        break;
    case ICC_BPR0:
        c->binary_point[0] = point < 2 ? 2 : point;
        break;
    case ICC_BPR1:
        if (!(c->control & ICC_CBPR))
            c->binary_point[1] = point < 3 ? 3 : point;
        break;
    case ICC_AP0R0:
    case ICC_AP1R0:
        c->running[code == ICC_AP1R0] = (uint32_t)value;
        break;
    case ICC_DIR:
        if ((c->control & ICC_EOI_MODE) && (value & 0xffffff) / 32 < gic->words)
            gic_deactivate(gic, cpu, value & 0xffffff);
        break;
    case ICC_SGI1R:
    case ICC_SGI0R:
    case ICC_ASGI1R:
        send(gic, cpu, value);
        break;
    case ICC_CTLR:
        c->control = value & (ICC_EOI_MODE | ICC_CBPR);
        break;
    case ICC_IGRPEN0:
        c->groups = (c->groups & ~1u) | (value & 1);
        break;
    case ICC_IGRPEN1:
        c->groups = (c->groups & ~2u) | (value & 1) << 1;
        break;
    }
    gic_update(gic);
    pthread_mutex_unlock(&gic->lock);
    return EMU_OK;
}
