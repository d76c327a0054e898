/*
 * GICv2's registers (IHI 0048B.b, chapter 4): the distributor, and the CPU
 * interface of the one CPU that such a controller serves here.
 */
#include "gic_private.h"

enum {
    GICD_CTLR = 0x000,
    GICD_TYPER = 0x004,
    GICD_IIDR = 0x008,
    GICD_SGIR = 0xf00,
    GICD_CPENDSGIR = 0xf10,
    GICD_SPENDSGIR = 0xf20,
    GICD_SGI_END = 0xf30,
    GICD_PIDR4 = 0xfd0,

    GICC = 0x10000, /* where the CPU interface begins */
    GICC_CTLR = 0x00,
    GICC_PMR = 0x04,
    GICC_BPR = 0x08,
    GICC_IAR = 0x0c,
    GICC_EOIR = 0x10,
    GICC_RPR = 0x14,
    GICC_HPPIR = 0x18,
    GICC_ABPR = 0x1c,
    GICC_AIAR = 0x20,
    GICC_AEOIR = 0x24,
    GICC_AHPPIR = 0x28,
    GICC_APR0 = 0xd0,
    GICC_IIDR = 0xfc,
    GICC_DIR = 0x1000,
};

/* PIDR4 and on, and CIDR, of Arm's GICv2 */
static const uint8_t ids[] = {4, 0, 0, 0, 0x90, 0xb4, 0x2b, 0, 0x0d, 0xf0, 0x05, 0xb1};

uint64_t gic_v2_read_distributor(emu_gic *gic, uint32_t at, uint32_t width)
{
    emu_gic_cpu *cpu = &gic->state.cpu[0];
    uint64_t value;
    if (gic_read_bits(gic, 0, at, width, &value))
        return (uint32_t)value;
    if (at >= GICD_CPENDSGIR && at < GICD_SGI_END) {
        uint32_t word = 0;
        for (uint32_t i = 0; i < 4; i++)
            word |= (uint32_t)cpu->sources[(at & 0xc) + i] << 8 * i;
        return word >> 8 * (at & 3);
    }
    uint32_t shift = 8 * (at & 3);
    switch (at & ~3u) {
    case GICD_CTLR:
        return gic->state.control >> shift;
    case GICD_TYPER:
        return (gic->words - 1) >> shift;
    case GICD_IIDR:
        return 0x0200043bu >> shift;
    }
    if (at >= GICD_PIDR4 && at < 0x1000)
        return (uint32_t)ids[(at - GICD_PIDR4) / 4] >> shift;
    return 0;
}

void gic_v2_write_distributor(emu_gic *gic, uint32_t at, uint32_t width, uint64_t written)
{
    uint32_t value = (uint32_t)written;
    emu_gic_cpu *cpu = &gic->state.cpu[0];
    if (gic_write_bits(gic, 0, at, width, value))
        return;
    if (at == GICD_CTLR) {
        gic->state.control = value & (GIC_GROUP0 | GIC_GROUP1);
    } else if (at == GICD_SGIR) {
        /* to the CPUs listed, to all others, or to this one */
        uint32_t filter = value >> 24 & 3;
        if (filter == 2 || (filter == 0 && (value >> 16 & 1)))
            gic_send(gic, 0, 0, value & 15);
    } else if (at >= GICD_CPENDSGIR && at < GICD_SGI_END) {
        for (uint32_t i = 0; i < width; i++) {
            uint32_t number = (at & 15) + i, bits = (uint32_t)(written >> 8 * i) & 1;
            if (number >= 16)
                break;
            if (at >= GICD_SPENDSGIR)
                cpu->sources[number] |= (uint8_t)bits;
            else
                cpu->sources[number] &= (uint8_t)~bits;
            if (cpu->sources[number] != 0)
                cpu->own.latched |= 1u << number;
            else
                cpu->own.latched &= ~(1u << number);
        }
    }
}

/* ---- the CPU interface ------------------------------------------------------------ */

/* IAR: group 1's is hidden behind 1022 unless AckCtl is set (4.4.4). */
static uint32_t acknowledge(emu_gic *gic, uint32_t groups)
{
    struct gic_best best;
    uint32_t number = gic_acknowledge(gic, 0, groups, &best);
    if (number == GIC_SPURIOUS && best.number != GIC_SPURIOUS && best.group == 1)
        return GIC_OTHER_GROUP;
    return number;
}

static uint32_t highest(emu_gic *gic, uint32_t groups)
{
    struct gic_best best = gic_best(gic, 0);
    if (best.number == GIC_SPURIOUS || (groups & (best.group ? GIC_GROUP1 : GIC_GROUP0)))
        return best.number;
    return best.group == 1 ? GIC_OTHER_GROUP : GIC_SPURIOUS;
}

static void end(emu_gic *gic, uint32_t groups, uint32_t number)
{
    emu_gic_cpu *cpu = &gic->state.cpu[0];
    if (number / 32 >= gic->words)
        return; /* spurious: nothing ends */
    uint32_t group = gic_word(gic, 0, number / 32)->group >> number % 32 & 1;
    if (!(groups & (group ? GIC_GROUP1 : GIC_GROUP0)) || (cpu->running[0] | cpu->running[1]) == 0)
        return;
    gic_drop(gic, 0, group);
    if (!(cpu->control & GICC_EOI_MODE))
        gic_deactivate(gic, 0, number);
}

static uint32_t visible(const emu_gic_cpu *cpu)
{
    return GIC_GROUP0 | ((cpu->control & GICC_ACK_CTL) ? GIC_GROUP1 : 0);
}

static uint32_t read_interface(emu_gic *gic, uint32_t at)
{
    emu_gic_cpu *cpu = &gic->state.cpu[0];
    switch (at) {
    case GICC_CTLR:
        return cpu->control;
    case GICC_PMR:
        return cpu->mask;
    case GICC_BPR:
        return cpu->binary_point[0];
    case GICC_ABPR:
        return cpu->binary_point[1];
    case GICC_IAR:
        return acknowledge(gic, visible(cpu));
    case GICC_AIAR:
        return acknowledge(gic, GIC_GROUP1);
    case GICC_RPR:
        return gic_running(cpu);
    case GICC_HPPIR:
        return highest(gic, visible(cpu));
    case GICC_AHPPIR:
        return highest(gic, GIC_GROUP1);
    case GICC_APR0:
        return cpu->running[0] | cpu->running[1];
    case GICC_IIDR:
        return 0x0202043b;
    }
    return 0;
}

static void write_interface(emu_gic *gic, uint32_t at, uint32_t value)
{
    emu_gic_cpu *cpu = &gic->state.cpu[0];
    switch (at) {
    case GICC_CTLR:
        cpu->control = value & (3 | GICC_ACK_CTL | GICC_FIQ_EN | GICC_CBPR | GICC_EOI_MODE);
        cpu->groups = value & 3;
        break;
    case GICC_PMR:
        cpu->mask = value & GIC_PRIORITY;
        break;
    case GICC_BPR:
        cpu->binary_point[0] = value & 7;
        break;
    case GICC_ABPR:
        cpu->binary_point[1] = value & 7;
        break;
    case GICC_EOIR:
        end(gic, visible(cpu), value & 0x3ff);
        break;
    case GICC_AEOIR:
        end(gic, GIC_GROUP1, value & 0x3ff);
        break;
    case GICC_APR0:
        cpu->running[0] = value;
        cpu->running[1] = 0;
        break;
    case GICC_DIR:
        if (cpu->control & GICC_EOI_MODE)
            gic_deactivate(gic, 0, value & 0x3ff);
        break;
    }
}

int emu_gic_read_v2(void *opaque, uint64_t offset, uint32_t width, uint64_t *value)
{
    emu_gic *gic = opaque;
    if (offset < GICC)
        return emu_gic_read_distributor(gic, offset, width, value);
    pthread_mutex_lock(&gic->lock);
    *value = read_interface(gic, (uint32_t)(offset - GICC) & ~3u) >> 8 * (offset & 3);
    gic_update(gic);
    pthread_mutex_unlock(&gic->lock);
    return EMU_OK;
}

int emu_gic_write_v2(void *opaque, uint64_t offset, uint32_t width, uint64_t value)
{
    emu_gic *gic = opaque;
    if (offset < GICC)
        return emu_gic_write_distributor(gic, offset, width, value);
    pthread_mutex_lock(&gic->lock);
    write_interface(gic, (uint32_t)(offset - GICC) & ~3u, (uint32_t)value);
    gic_update(gic);
    pthread_mutex_unlock(&gic->lock);
    return EMU_OK;
}
