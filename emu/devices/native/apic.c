/* The local APICs: priorities, the timer, commands; the header says more. */
#include "apic_private.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define VERSION 0x00050014 /* six entries, 82489DX's successor */
#define ENABLED 0x100      /* SVR */
#define PERIODIC (1u << 17)
#define DELIVERING (1u << 12)
#define ASSERT (1u << 14)
#define EXTERNAL 0x100     /* in a vector: the older controllers' */
/* A guest that asks for interrupts at a higher rate gets this one: it could do nothing else. */
#define SHORTEST 20000 /* ns */

enum { SEND_ILLEGAL = 1 << 5, RECEIVE_ILLEGAL = 1 << 6, NO_REGISTER = 1 << 7 };

/* ---- vectors ------------------------------------------------------------------ */

static int highest(const uint32_t *bits)
{
    for (int word = 7; word >= 0; word--)
        if (bits[word] != 0)
            return 32 * word + 31 - __builtin_clz(bits[word]);
    return -1;
}

static void put(uint32_t *bits, uint32_t vector, bool set)
{
    uint32_t bit = 1u << vector % 32;
    bits[vector / 32] = set ? bits[vector / 32] | bit : bits[vector / 32] & ~bit;
}

static bool has(const uint32_t *bits, uint32_t vector) { return (bits[vector / 32] >> vector % 32 & 1) != 0; }

/* SDM, "Task and Processor Priorities". */
static uint32_t processor_priority(const emu_apic_local *local)
{
    int serving = highest(local->service);
    uint32_t service = serving < 0 ? 0 : (uint32_t)serving & 0xf0;
    return (local->priority >> 4) >= service >> 4 ? local->priority : service;
}

static bool is_on(const emu_apic_local *local) { return (local->spurious & ENABLED) && !local->off; }

/* Whether the older controllers' interrupts come through: "virtual wire" by LINT0, or no APIC in use. */
static bool takes_external(const emu_apic_local *local)
{
    uint32_t entry = local->entry[EMU_APIC_LINT0];
    return local->off || !(local->spurious & ENABLED) || (!(entry & APIC_MASKED) && (entry >> 8 & 7) == APIC_EXTERNAL);
}

static void tell(const struct apic_cpu *c, uint32_t number, int value)
{
    if (c->output != NULL)
        c->output(c->opaque, number, value);
}

void apic_update(emu_apic *apic, uint32_t cpu)
{
    struct apic_cpu *c = &apic->cpu[cpu];
    const emu_apic_local *local = &apic->state.local[cpu];
    int best = highest(local->request);
    uint64_t offer = 0;
    if (best >= 0 && is_on(local) && (uint32_t)best >> 4 > processor_priority(local) >> 4)
        offer = (uint64_t)best + 1;
    else if (cpu == 0 && apic->state.external != 0 && takes_external(local))
        offer = ((apic->state.external - 1) | EXTERNAL) + UINT64_C(1);
    if (offer != c->offered) {
        c->offered = offer;
        tell(c, EMU_APIC_INTR, (int)offer);
    }
}

static void request(emu_apic *apic, uint32_t cpu, uint32_t vector, bool level)
{
    emu_apic_local *local = &apic->state.local[cpu];
    if (!is_on(local))
        return;
    if (vector < 16) {
        local->errors |= RECEIVE_ILLEGAL;
        return;
    }
    put(local->request, vector, true);
    put(local->level, vector, level);
    apic_update(apic, cpu);
}

static void disable(emu_apic_local *local)
{
    for (int i = 0; i < EMU_APIC_ENTRIES; i++)
        local->entry[i] |= APIC_MASKED;
}

static void clear(emu_apic *apic, uint32_t cpu, uint32_t id)
{
    emu_apic_local *local = &apic->state.local[cpu];
    uint32_t off = local->off;
    memset(local, 0, sizeof *local);
    local->id = id;
    local->off = off;
    local->format = UINT32_MAX;
    local->spurious = 0xff;
    disable(local);
    apic->cpu[cpu].deadline = 0;
}

static void deliver(emu_apic *apic, uint32_t cpu, uint32_t mode, uint32_t vector, bool level)
{
    struct apic_cpu *c = &apic->cpu[cpu];
    switch (mode) {
    case APIC_FIXED:
    case APIC_LOWEST: request(apic, cpu, vector, level); break;
    case APIC_NMI: tell(c, EMU_APIC_NMI, 1); break;
    case APIC_INIT: /* SDM, "Local APIC State After an INIT Reset": all but the ID */
        clear(apic, cpu, apic->state.local[cpu].id);
        tell(c, EMU_APIC_PRIORITY, 0);
        apic_update(apic, cpu);
        tell(c, EMU_APIC_INIT, 1);
        break;
    case APIC_STARTUP: tell(c, EMU_APIC_START, (int)vector); break;
    }
}

static bool is_meant(const emu_apic_local *local, uint32_t destination, bool logical)
{
    if (!logical)
        return destination == 0xff || destination == local->id >> 24;
    uint32_t mine = local->destination >> 24;
    if (local->format >> 28 == 15) /* flat */
        return (destination & mine) != 0;
    return (destination >> 4 == mine >> 4 || destination >> 4 == 15) && (destination & mine & 15) != 0;
}

void apic_send(emu_apic *apic, uint32_t destination, bool logical, uint32_t mode, uint32_t vector, bool level)
{
    uint32_t chosen = UINT32_MAX;
    for (uint32_t cpu = 0; cpu < apic->cpus; cpu++) {
        const emu_apic_local *local = &apic->state.local[cpu];
        if (local->off || !is_meant(local, destination, logical))
            continue;
        if (mode != APIC_LOWEST)
            deliver(apic, cpu, mode, vector, level);
        else if ((local->spurious & ENABLED) &&
                 (chosen == UINT32_MAX || processor_priority(local) < processor_priority(&apic->state.local[chosen])))
            chosen = cpu;
    }
    if (chosen != UINT32_MAX)
        deliver(apic, chosen, mode, vector, level);
}

void emu_apic_message(void *opaque, uint32_t requester, uint64_t address, uint32_t data)
{
    emu_apic *apic = opaque;
    (void)requester; /* nobody remaps by it */
    if (address >> 20 != 0xfee)
        return;
    pthread_mutex_lock(&apic->lock);
    if (apic->send != NULL)
        apic->send(apic->elsewhere, address, data);
    else
        apic_send(apic, address >> 12 & 0xff, (address & 4) != 0, data >> 8 & 7, data & 0xff,
                  (data >> 14 & 3) == 3);
    pthread_mutex_unlock(&apic->lock);
}

void emu_apic_accepted(void *opaque, uint32_t number, int vector)
{
    emu_apic *apic = opaque;
    emu_irq_fn acknowledge = NULL;
    if (number >= apic->cpus)
        return;
    pthread_mutex_lock(&apic->lock);
    emu_apic_local *local = &apic->state.local[number];
    apic->cpu[number].offered = UINT64_MAX; /* the offer is taken, whatever stands there by now */
    if (vector & EXTERNAL) {
        acknowledge = apic->acknowledge;
    } else {
        put(local->request, (uint32_t)vector & 0xff, false);
        put(local->service, (uint32_t)vector & 0xff, true);
    }
    apic_update(apic, number);
    pthread_mutex_unlock(&apic->lock);
    if (acknowledge != NULL)
        acknowledge(apic->acknowledge_opaque, 0, vector & 0xff);
}

void emu_apic_prioritized(void *opaque, uint32_t number, int priority)
{
    emu_apic *apic = opaque;
    if (number >= apic->cpus)
        return;
    pthread_mutex_lock(&apic->lock);
    emu_apic_local *local = &apic->state.local[number];
    if (local->priority >> 4 != ((uint32_t)priority & 15)) /* else it may say more than CR8 can */
        local->priority = ((uint32_t)priority & 15) << 4;
    apic_update(apic, number);
    pthread_mutex_unlock(&apic->lock);
}

void emu_apic_enabled(void *opaque, uint32_t number, int on)
{
    emu_apic *apic = opaque;
    if (number >= apic->cpus)
        return;
    pthread_mutex_lock(&apic->lock);
    emu_apic_local *local = &apic->state.local[number];
    if (local->off != !on) {
        clear(apic, number, local->id);
        local->off = !on;
        apic_update(apic, number);
    }
    pthread_mutex_unlock(&apic->lock);
}

void emu_apic_ended(void *opaque, uint32_t number, int vector)
{
    emu_apic *apic = opaque;
    pthread_mutex_lock(&apic->lock);
    apic_io_end(apic, (uint32_t)vector & 0xff);
    pthread_mutex_unlock(&apic->lock);
}

void emu_apic_elsewhere(emu_apic *apic, emu_apic_send_fn send, emu_apic_route_fn route, void *opaque)
{
    pthread_mutex_lock(&apic->lock);
    apic->send = send;
    apic->route = route;
    apic->elsewhere = opaque;
    apic_io_route(apic);
    pthread_mutex_unlock(&apic->lock);
}

void emu_apic_external(emu_apic *apic, uint32_t vector)
{
    pthread_mutex_lock(&apic->lock);
    apic->state.external = vector;
    apic_update(apic, 0);
    pthread_mutex_unlock(&apic->lock);
}

/* ---- the timer ------------------------------------------------------------------ */

static uint64_t divider(const emu_apic_local *local)
{
    uint32_t code = (local->divide & 3) | (local->divide >> 1 & 4);
    return code == 7 ? 1 : UINT64_C(2) << code;
}

/* ns of one count. */
static uint64_t tick(const emu_apic *apic, uint32_t cpu)
{
    return divider(&apic->state.local[cpu]) * (1000000000 / apic->state.hz);
}

/* ns of a whole one. */
static uint64_t period(const emu_apic *apic, uint32_t cpu) { return apic->state.local[cpu].initial * tick(apic, cpu); }

static uint64_t never_too_soon(uint64_t now, uint64_t ns) { return now + (ns < SHORTEST ? SHORTEST : ns); }

static void *count(void *opaque)
{
    emu_apic *apic = opaque;
    pthread_mutex_lock(&apic->lock);
    while (!apic->end) {
        uint64_t next = UINT64_MAX, now = emu_now();
        for (uint32_t cpu = 0; cpu < apic->cpus; cpu++) {
            struct apic_cpu *c = &apic->cpu[cpu];
            const emu_apic_local *local = &apic->state.local[cpu];
            uint32_t entry = local->entry[EMU_APIC_TIMER];
            if (c->deadline != 0 && now >= c->deadline) {
                uint64_t whole = period(apic, cpu);
                if (!(entry & PERIODIC) || whole == 0)
                    c->deadline = 0;
                else if (c->deadline + whole > now + SHORTEST)
                    c->deadline += whole;
                else /* those that were missed are lost, as where the host is too slow */
                    c->deadline = never_too_soon(now, whole - (now - c->deadline) % whole);
                if (!(entry & APIC_MASKED))
                    request(apic, cpu, entry & 0xff, false);
            }
            if (c->deadline != 0 && c->deadline < next)
                next = c->deadline;
        }
        if (next == UINT64_MAX) {
            pthread_cond_wait(&apic->changed, &apic->lock);
        } else {
            struct timespec until = {.tv_sec = (time_t)(next / 1000000000), .tv_nsec = (long)(next % 1000000000)};
            pthread_cond_timedwait(&apic->changed, &apic->lock, &until);
        }
    }
    pthread_mutex_unlock(&apic->lock);
    return NULL;
}

static void start(emu_apic *apic, uint32_t cpu, uint64_t ns)
{
    apic->cpu[cpu].deadline = ns == 0 ? 0 : never_too_soon(emu_now(), ns);
    if (ns != 0 && !apic->running)
        apic->running = pthread_create(&apic->thread, NULL, count, apic) == 0;
    pthread_cond_signal(&apic->changed);
}

static uint64_t left(const emu_apic *apic, uint32_t cpu)
{
    uint64_t now = emu_now(), deadline = apic->cpu[cpu].deadline;
    return deadline > now ? deadline - now : deadline != 0;
}

/* ---- registers -------------------------------------------------------------------- */

enum {
    ID = 0x20,
    VERSION_AT = 0x30,
    TPR = 0x80,
    APR = 0x90,
    PPR = 0xa0,
    EOI = 0xb0,
    LDR = 0xd0,
    DFR = 0xe0,
    SVR = 0xf0,
    ISR = 0x100,
    TMR = 0x180,
    IRR = 0x200,
    ESR = 0x280,
    ICR = 0x300,
    ICR_HIGH = 0x310,
    LVT = 0x320,
    INITIAL = 0x380,
    CURRENT = 0x390,
    DIVIDE = 0x3e0,
};

static uint32_t get(emu_apic *apic, uint32_t cpu, uint32_t at)
{
    emu_apic_local *local = &apic->state.local[cpu];
    if (at >= ISR && at < ESR) {
        const uint32_t *bits = at < TMR ? local->service : at < IRR ? local->level : local->request;
        return bits[at >> 4 & 7];
    }
    if (at >= LVT && at < INITIAL)
        return local->entry[(at - LVT) >> 4];
    switch (at) {
    case ID: return local->id;
    case VERSION_AT: return VERSION;
    case TPR: return local->priority;
    case APR:
    case PPR: return processor_priority(local);
    case LDR: return local->destination;
    case DFR: return local->format;
    case SVR: return local->spurious;
    case ESR: return local->errors_read;
    case ICR: return local->command[0];
    case ICR_HIGH: return local->command[1];
    case INITIAL: return local->initial;
    case CURRENT: return (uint32_t)((left(apic, cpu) + tick(apic, cpu) - 1) / tick(apic, cpu));
    case DIVIDE: return local->divide;
    case EOI: return 0;
    }
    local->errors |= NO_REGISTER;
    return 0;
}

static void end_of_interrupt(emu_apic *apic, uint32_t cpu)
{
    emu_apic_local *local = &apic->state.local[cpu];
    int vector = highest(local->service);
    if (vector < 0)
        return;
    put(local->service, (uint32_t)vector, false);
    if (has(local->level, (uint32_t)vector))
        apic_io_end(apic, (uint32_t)vector);
    apic_update(apic, cpu);
}

/* SDM, "Interrupt Command Register (ICR)". */
static void command(emu_apic *apic, uint32_t cpu)
{
    emu_apic_local *local = &apic->state.local[cpu];
    uint32_t low = local->command[0], mode = low >> 8 & 7, vector = low & 0xff, shorthand = low >> 18 & 3;
    if ((mode == APIC_FIXED || mode == APIC_LOWEST) && vector < 16)
        local->errors |= SEND_ILLEGAL;
    if (mode == APIC_INIT && !(low & ASSERT)) /* the end of an INIT: newer CPUs than the first ignore it */
        return;
    if (shorthand == 0) {
        apic_send(apic, local->command[1] >> 24, (low >> 11 & 1) != 0, mode, vector, false);
        return;
    }
    for (uint32_t other = 0; other < apic->cpus; other++)
        if (shorthand == 2 || (shorthand == 1) == (other == cpu))
            deliver(apic, other, mode, vector, false);
}

static void set(emu_apic *apic, uint32_t cpu, uint32_t at, uint32_t value)
{
    static const uint32_t writable[EMU_APIC_ENTRIES] = {0x300ff, 0x107ff, 0x107ff, 0x1a7ff, 0x1a7ff, 0x100ff};
    emu_apic_local *local = &apic->state.local[cpu];
    if (at >= LVT && at < INITIAL) {
        uint32_t which = (at - LVT) >> 4, before = local->entry[which];
        local->entry[which] = value & writable[which];
        if (!(local->spurious & ENABLED))
            local->entry[which] |= APIC_MASKED;
        if (which == EMU_APIC_TIMER && ((before ^ value) & PERIODIC))
            start(apic, cpu, 0); /* a change of mode stops it */
        apic_update(apic, cpu);
        return;
    }
    switch (at) {
    case ID: local->id = value & 0xff000000; break;
    case TPR:
        local->priority = value & 0xff;
        tell(&apic->cpu[cpu], EMU_APIC_PRIORITY, (int)(value & 0xff));
        break;
    case EOI: end_of_interrupt(apic, cpu); return;
    case LDR: local->destination = value & 0xff000000; break;
    case DFR: local->format = value | 0x0fffffff; break;
    case SVR:
        local->spurious = value & 0x1ff;
        if (!(value & ENABLED))
            disable(local);
        apic_io_serve(apic);
        break;
    case ESR:
        local->errors_read = local->errors;
        local->errors = 0;
        break;
    case ICR:
        local->command[0] = value & 0xcdfff & ~DELIVERING;
        command(apic, cpu);
        break;
    case ICR_HIGH: local->command[1] = value & 0xff000000; break;
    case INITIAL:
        local->initial = value;
        start(apic, cpu, period(apic, cpu));
        break;
    case DIVIDE: local->divide = value & 0xb; break;
    default: local->errors |= NO_REGISTER; break;
    }
    apic_update(apic, cpu);
}

/* Whose local APIC a thread sees. */
static uint32_t seen(const emu_apic *apic)
{
    uint32_t cpu = emu_cpu();
    return cpu < apic->cpus ? cpu : 0;
}

/* Registers are 32 bits wide and 16 bytes apart; what an access of another kind does is undefined. */
int emu_apic_read_local(void *opaque, uint64_t offset, uint32_t width, uint64_t *value)
{
    emu_apic *apic = opaque;
    *value = 0;
    if (offset % 16 + width > 4 || offset >= 0x400)
        return EMU_OK;
    pthread_mutex_lock(&apic->lock);
    uint32_t cpu = seen(apic);
    if (!apic->state.local[cpu].off)
        *value = get(apic, cpu, (uint32_t)offset & 0x3f0) >> 8 * (offset % 16) & (UINT64_MAX >> (64 - 8 * width));
    pthread_mutex_unlock(&apic->lock);
    return EMU_OK;
}

int emu_apic_write_local(void *opaque, uint64_t offset, uint32_t width, uint64_t value)
{
    emu_apic *apic = opaque;
    if (offset % 16 != 0 || width != 4 || offset >= 0x400)
        return EMU_OK;
    pthread_mutex_lock(&apic->lock);
    uint32_t cpu = seen(apic);
    if (!apic->state.local[cpu].off)
        set(apic, cpu, (uint32_t)offset, (uint32_t)value);
    pthread_mutex_unlock(&apic->lock);
    return EMU_OK;
}

/* ---- life ---------------------------------------------------------------------------- */

emu_apic *emu_apic_new(uint32_t cpus)
{
    if (cpus == 0 || cpus > EMU_APIC_CPUS)
        return NULL;
    emu_apic *apic = calloc(1, sizeof *apic);
    if (apic == NULL)
        return NULL;
    apic->cpus = cpus;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&apic->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&apic->lock, NULL);
    emu_apic_reset(apic);
    return apic;
}

void emu_apic_free(emu_apic *apic)
{
    if (apic == NULL)
        return;
    pthread_mutex_lock(&apic->lock);
    apic->end = true;
    pthread_cond_signal(&apic->changed);
    pthread_mutex_unlock(&apic->lock);
    if (apic->running)
        pthread_join(apic->thread, NULL);
    pthread_cond_destroy(&apic->changed);
    pthread_mutex_destroy(&apic->lock);
    free(apic);
}

/* SDM, "Local APIC State After Power-Up or Reset". */
void emu_apic_reset(emu_apic *apic)
{
    pthread_mutex_lock(&apic->lock);
    for (uint32_t cpu = 0; cpu < apic->cpus; cpu++) {
        apic->state.local[cpu].off = 0;
        clear(apic, cpu, cpu << 24);
        tell(&apic->cpu[cpu], EMU_APIC_PRIORITY, 0);
    }
    /* Firmware that leaves the APIC alone but enables it gets the older controllers' interrupts. */
    apic->state.local[0].entry[EMU_APIC_LINT0] = APIC_EXTERNAL << 8;
    apic->state.hz = EMU_APIC_HZ;
    apic_io_reset(apic);
    for (uint32_t cpu = 0; cpu < apic->cpus; cpu++)
        apic_update(apic, cpu);
    pthread_mutex_unlock(&apic->lock);
}

void emu_apic_output(emu_apic *apic, uint32_t cpu, emu_irq_fn output, void *opaque)
{
    if (cpu >= apic->cpus)
        return;
    pthread_mutex_lock(&apic->lock);
    apic->cpu[cpu].output = output;
    apic->cpu[cpu].opaque = opaque;
    apic->cpu[cpu].offered = UINT64_MAX;
    tell(&apic->cpu[cpu], EMU_APIC_PRIORITY, (int)apic->state.local[cpu].priority);
    apic_update(apic, cpu);
    pthread_mutex_unlock(&apic->lock);
}

void emu_apic_acknowledge(emu_apic *apic, emu_irq_fn acknowledge, void *opaque)
{
    pthread_mutex_lock(&apic->lock);
    apic->acknowledge = acknowledge;
    apic->acknowledge_opaque = opaque;
    pthread_mutex_unlock(&apic->lock);
}

void emu_apic_save(emu_apic *apic, emu_apic_state *out)
{
    pthread_mutex_lock(&apic->lock);
    *out = apic->state;
    for (uint32_t cpu = 0; cpu < apic->cpus; cpu++)
        out->local[cpu].left = left(apic, cpu);
    pthread_mutex_unlock(&apic->lock);
}

void emu_apic_load(emu_apic *apic, const emu_apic_state *state)
{
    pthread_mutex_lock(&apic->lock);
    apic->state = *state;
    if (state->hz == 0 || state->hz > 1000000000)
        apic->state.hz = EMU_APIC_HZ;
    for (uint32_t cpu = 0; cpu < apic->cpus; cpu++) {
        start(apic, cpu, state->local[cpu].left);
        apic->cpu[cpu].offered = UINT64_MAX;
        tell(&apic->cpu[cpu], EMU_APIC_PRIORITY, (int)state->local[cpu].priority);
        apic_update(apic, cpu);
    }
    apic_io_route(apic);
    pthread_mutex_unlock(&apic->lock);
}
