/* The interrupt controller's state, priorities and outputs; the header says more. */
#include "gic_private.h"

#include <stdlib.h>
#include <string.h>

emu_gic *emu_gic_new(uint32_t version, uint32_t cpus, uint32_t spis)
{
    if ((version != 2 && version != 3) || cpus == 0 || cpus > EMU_GIC_CPUS || (version == 2 && cpus > 1) ||
        spis % 32 != 0 || spis / 32 >= EMU_GIC_WORDS)
        return NULL;
    emu_gic *gic = calloc(1, sizeof *gic);
    if (gic == NULL)
        return NULL;
    pthread_mutex_init(&gic->lock, NULL);
    gic->version = version;
    gic->cpus = cpus;
    gic->words = 1 + spis / 32;
    emu_gic_reset(gic);
    return gic;
}

void emu_gic_free(emu_gic *gic)
{
    if (gic == NULL)
        return;
    pthread_mutex_destroy(&gic->lock);
    free(gic->lpis);
    free(gic);
}

static void reset_word(emu_gic_word *word)
{
    uint32_t level = word->level; /* wires are not ours to reset */
    memset(word, 0, sizeof *word);
    word->level = level;
}

void emu_gic_reset(emu_gic *gic)
{
    pthread_mutex_lock(&gic->lock);
    emu_gic_state *s = &gic->state;
    s->control = 0;
    for (uint32_t n = 1; n < EMU_GIC_WORDS; n++)
        reset_word(&s->shared[n]);
    memset(s->route, 0, sizeof s->route);
    gic_lpi_reset(gic);
    for (uint32_t i = 0; i < gic->cpus; i++) {
        emu_gic_cpu *cpu = &s->cpu[i];
        uint32_t level = cpu->own.level;
        memset(cpu, 0, sizeof *cpu);
        cpu->own.level = level;
        cpu->own.edge = 0xffff;
        if (gic->version == 2) {
            cpu->own.enabled = 0xffff; /* software interrupts always are */
        } else {
            cpu->waker = 6; /* asleep: ProcessorSleep, ChildrenAsleep */
            cpu->binary_point[0] = 2;
            cpu->binary_point[1] = 3;
        }
    }
    gic_update(gic);
    pthread_mutex_unlock(&gic->lock);
}

/* ---- priorities --------------------------------------------------------------- */

/* Whether a shared interrupt is for this CPU. */
static bool targets(const emu_gic *gic, uint32_t cpu, uint32_t number)
{
    if (gic->version == 2 || gic->cpus == 1)
        return true; /* a GICv2 of one CPU has no targets to choose (IHI 0048, 4.3.12) */
    uint64_t route = gic->state.route[number];
    return (route & (UINT64_C(1) << 31)) ? cpu == 0 : (route & 0xff00ffffff) == cpu;
}

struct gic_best gic_best(emu_gic *gic, uint32_t cpu)
{
    const emu_gic_state *s = &gic->state;
    struct gic_best best = {GIC_SPURIOUS, 0x100, 0};
    uint32_t groups = s->control & s->cpu[cpu].groups;
    if (groups == 0)
        return best;
    for (uint32_t n = 0; n < gic->words; n++) {
        const emu_gic_word *word = gic_word(gic, cpu, n);
        uint32_t waiting = gic_pending(word) & word->enabled & ~word->active;
        if (!(groups & GIC_GROUP0))
            waiting &= word->group;
        if (!(groups & GIC_GROUP1))
            waiting &= ~word->group;
        for (; waiting != 0; waiting &= waiting - 1) {
            uint32_t bit = (uint32_t)__builtin_ctz(waiting), number = 32 * n + bit;
            if (word->priority[bit] < best.priority && (n == 0 || targets(gic, cpu, number)))
                best = (struct gic_best){number, word->priority[bit], word->group >> bit & 1};
        }
    }
    if (gic->lpis != NULL && (groups & GIC_GROUP1)) {
        struct gic_best message = gic_lpi_best(gic, cpu);
        if (message.priority < best.priority)
            best = message;
    }
    return best;
}

uint32_t gic_running(const emu_gic_cpu *cpu)
{
    uint32_t active = cpu->running[0] | cpu->running[1];
    return active == 0 ? GIC_IDLE : 8 * (uint32_t)__builtin_ctz(active);
}

/* The bits of a priority that decide about preemption (IHI 0048, 3.3.3; IHI 0069, 4.8.2). */
static uint32_t group_bits(const emu_gic *gic, const emu_gic_cpu *cpu, uint32_t group)
{
    bool shared = gic->version == 2 ? (cpu->control & GICC_CBPR) != 0 : (cpu->control & ICC_CBPR) != 0;
    uint32_t point = cpu->binary_point[group != 0 && !shared];
    if (gic->version == 3 && group != 0 && !shared)
        return 0xffu << point & GIC_PRIORITY;
    return 0xffu << (point + 1) & GIC_PRIORITY;
}

static bool gets_through(const emu_gic *gic, uint32_t cpu, const struct gic_best *best)
{
    const emu_gic_cpu *c = &gic->state.cpu[cpu];
    if (best->number == GIC_SPURIOUS || best->priority >= c->mask)
        return false;
    uint32_t running = gic_running(c);
    return running == GIC_IDLE || (best->priority & group_bits(gic, c, best->group)) < running;
}

uint32_t gic_acknowledge(emu_gic *gic, uint32_t cpu, uint32_t groups, struct gic_best *out)
{
    struct gic_best best = gic_best(gic, cpu);
    if (!gets_through(gic, cpu, &best)) {
        best.number = GIC_SPURIOUS;
        *out = best;
        return GIC_SPURIOUS;
    }
    *out = best;
    if (!(groups & (best.group ? GIC_GROUP1 : GIC_GROUP0)))
        return GIC_SPURIOUS;
    emu_gic_cpu *c = &gic->state.cpu[cpu];
    c->running[best.group] |= 1u << ((best.priority & group_bits(gic, c, best.group)) >> 3);
    if (best.number >= EMU_GIC_LPI_FIRST) { /* they are never active */
        gic_lpi_set(gic, cpu, best.number, false);
        return best.number;
    }
    emu_gic_word *word = gic_word(gic, cpu, best.number / 32);
    uint32_t bit = 1u << (best.number % 32), answer = best.number;
    word->active |= bit;
    if (gic->version == 2 && best.number < 16 && c->sources[best.number] != 0) {
        uint32_t from = (uint32_t)__builtin_ctz(c->sources[best.number]);
        c->sources[best.number] &= (uint8_t)(c->sources[best.number] - 1);
        answer |= from << 10;
        if (c->sources[best.number] == 0)
            word->latched &= ~bit;
    } else {
        word->latched &= ~bit;
    }
    return answer;
}

void gic_drop(emu_gic *gic, uint32_t cpu, uint32_t group)
{
    uint32_t *running = &gic->state.cpu[cpu].running[group];
    *running &= *running - 1;
}

void gic_deactivate(emu_gic *gic, uint32_t cpu, uint32_t number)
{
    if (number / 32 < gic->words)
        gic_word(gic, cpu, number / 32)->active &= ~(1u << number % 32);
}

void gic_send(emu_gic *gic, uint32_t from, uint32_t to, uint32_t number)
{
    emu_gic_cpu *cpu = &gic->state.cpu[to];
    cpu->own.latched |= 1u << number;
    cpu->sources[number] |= (uint8_t)(1u << from);
}

void gic_update(emu_gic *gic)
{
    for (uint32_t cpu = 0; cpu < gic->cpus; cpu++) {
        const emu_gic_cpu *c = &gic->state.cpu[cpu];
        struct gic_best best = gic_best(gic, cpu);
        bool through = gets_through(gic, cpu, &best);
        bool fiq = through && best.group == 0 && (gic->version == 3 || (c->control & GICC_FIQ_EN));
        if (gic->output[cpu][0] != NULL)
            emu_irq_set(gic->output[cpu][0], through && !fiq);
        if (gic->output[cpu][1] != NULL)
            emu_irq_set(gic->output[cpu][1], fiq);
    }
}

/* ---- lines -------------------------------------------------------------------------- */

void emu_gic_output(emu_gic *gic, uint32_t cpu, uint32_t which, emu_irq *line)
{
    if (cpu < gic->cpus && which < 2) {
        pthread_mutex_lock(&gic->lock);
        gic->output[cpu][which] = line;
        gic_update(gic);
        pthread_mutex_unlock(&gic->lock);
    }
}

void emu_gic_input(void *opaque, uint32_t number, int level)
{
    emu_gic *gic = opaque;
    uint32_t cpu = number >> 16, id = number & 0xffff;
    if (id < 16 || id / 32 >= gic->words || cpu >= gic->cpus)
        return;
    pthread_mutex_lock(&gic->lock);
    emu_gic_word *word = gic_word(gic, cpu, id / 32);
    uint32_t bit = 1u << id % 32;
    if (level) {
        if (!(word->level & bit) && (word->edge & bit))
            word->latched |= bit;
        word->level |= bit;
    } else {
        word->level &= ~bit;
    }
    gic_update(gic);
    pthread_mutex_unlock(&gic->lock);
}

void emu_gic_save(emu_gic *gic, emu_gic_state *out)
{
    pthread_mutex_lock(&gic->lock);
    *out = gic->state;
    pthread_mutex_unlock(&gic->lock);
}

void emu_gic_load(emu_gic *gic, const emu_gic_state *state)
{
    pthread_mutex_lock(&gic->lock);
    gic->state = *state;
    gic_update(gic);
    pthread_mutex_unlock(&gic->lock);
}

/* ---- registers of a bit or a field for each interrupt --------------------------------- */

enum {
    IGROUPR = 0x080,
    ISENABLER = 0x100,
    ICENABLER = 0x180,
    ISPENDR = 0x200,
    ICPENDR = 0x280,
    ISACTIVER = 0x300,
    ICACTIVER = 0x380,
    IPRIORITYR = 0x400,
    IPRIORITYR_END = 0x800,
    ICFGR = 0xc00,
    ICFGR_END = 0xd00,
};

static uint32_t spread(uint32_t bits) /* sixteen bits to the odd places of a word */
{
    uint32_t word = 0;
    for (uint32_t n = 0; n < 16; n++)
        word |= (bits >> n & 1) << (2 * n + 1);
    return word;
}

static uint32_t gather(uint32_t word)
{
    uint32_t bits = 0;
    for (uint32_t n = 0; n < 16; n++)
        bits |= (word >> (2 * n + 1) & 1) << n;
    return bits;
}

bool gic_read_bits(emu_gic *gic, uint32_t cpu, uint32_t at, uint32_t width, uint64_t *value)
{
    *value = 0;
    if (at >= IPRIORITYR && at < IPRIORITYR_END) {
        for (uint32_t i = 0; i < width; i++) {
            uint32_t number = at - IPRIORITYR + i;
            if (number / 32 < gic->words)
                *value |= (uint64_t)gic_word(gic, cpu, number / 32)->priority[number % 32] << 8 * i;
        }
        return true;
    }
    uint32_t shift = 8 * (at & 3);
    at &= ~3u;
    if (at >= IGROUPR && at < IPRIORITYR) {
        uint32_t n = (at & 0x7f) / 4;
        if (n >= gic->words)
            return true;
        const emu_gic_word *word = gic_word(gic, cpu, n);
        switch (at & ~0x7fu) {
        case IGROUPR:
            *value = word->group;
            break;
        case ISENABLER:
        case ICENABLER:
            *value = word->enabled;
            break;
        case ISPENDR:
        case ICPENDR:
            *value = gic_pending(word);
            break;
        default:
            *value = word->active;
        }
        *value >>= shift;
        return true;
    }
    if (at >= ICFGR && at < ICFGR_END) {
        uint32_t n = (at - ICFGR) / 8, half = (at & 4) ? 16 : 0;
        if (n < gic->words)
            *value = spread(gic_word(gic, cpu, n)->edge >> half & 0xffff) >> shift;
        return true;
    }
    return false;
}

bool gic_write_bits(emu_gic *gic, uint32_t cpu, uint32_t at, uint32_t width, uint64_t value)
{
    if (at >= IPRIORITYR && at < IPRIORITYR_END) {
        for (uint32_t i = 0; i < width; i++) {
            uint32_t number = at - IPRIORITYR + i;
            if (number / 32 < gic->words)
                gic_word(gic, cpu, number / 32)->priority[number % 32] = value >> 8 * i & GIC_PRIORITY;
        }
        return true;
    }
    uint32_t bits = (uint32_t)value << 8 * (at & 3);
    at &= ~3u;
    if (at >= IGROUPR && at < IPRIORITYR) {
        uint32_t n = (at & 0x7f) / 4;
        if (n >= gic->words)
            return true;
        emu_gic_word *word = gic_word(gic, cpu, n);
        /* version 2: software interrupts are always enabled, and pend by registers of their own */
        uint32_t fixed = gic->version == 2 && n == 0 ? 0xffff : 0;
        switch (at & ~0x7fu) {
        case IGROUPR:
            word->group = bits;
            break;
        case ISENABLER:
            word->enabled |= bits;
            break;
        case ICENABLER:
            word->enabled &= ~bits | fixed;
            break;
        case ISPENDR:
            word->latched |= bits & ~fixed;
            break;
        case ICPENDR:
            word->latched &= ~bits | fixed;
            break;
        case ISACTIVER:
            word->active |= bits;
            break;
        default:
            word->active &= ~bits;
        }
        return true;
    }
    if (at >= ICFGR && at < ICFGR_END) {
        uint32_t n = (at - ICFGR) / 8, half = (at & 4) ? 16 : 0;
        if (n < gic->words && !(n == 0 && half == 0)) { /* software interrupts are edges */
            emu_gic_word *word = gic_word(gic, cpu, n);
            word->edge = (word->edge & ~(0xffffu << half)) | gather((uint32_t)value) << half;
        }
        return true;
    }
    return false;
}

int emu_gic_read_distributor(void *opaque, uint64_t offset, uint32_t width, uint64_t *value)
{
    emu_gic *gic = opaque;
    uint32_t at = (uint32_t)offset & 0xffff;
    pthread_mutex_lock(&gic->lock);
    *value = gic->version == 2 ? gic_v2_read_distributor(gic, at, width) : gic_v3_read_distributor(gic, at, width);
    pthread_mutex_unlock(&gic->lock);
    return EMU_OK;
}

int emu_gic_write_distributor(void *opaque, uint64_t offset, uint32_t width, uint64_t value)
{
    emu_gic *gic = opaque;
    uint32_t at = (uint32_t)offset & 0xffff;
    pthread_mutex_lock(&gic->lock);
    if (gic->version == 2)
        gic_v2_write_distributor(gic, at, width, value);
    else
        gic_v3_write_distributor(gic, at, width, value);
    gic_update(gic);
    pthread_mutex_unlock(&gic->lock);
    return EMU_OK;
}
