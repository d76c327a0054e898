/*
 * The generic timer (Arm ARM, D11): the physical and the virtual timer of EL1,
 * whose comparison the library has left out.
 *
 * Reading and writing of CVAL, TVAL and CTL is ours: the functions that the
 * library's description of these registers points to are replaced, in the
 * description of this CPU.  A thread of its own, started with the first use,
 * waits for the next comparison and drives the timers' output lines.
 *
 * The counter is the host's clock, less an offset: that of a guest which was
 * saved goes on from where it was.
 */
#include "uc_machine.h"
#include "uc_sysreg.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define TIMERS 2 /* 0 physical, 1 virtual */
#define PERIOD 16 /* ns: 62.5 MHz */

enum { CTL_ENABLE = 1, CTL_IMASK = 2, CTL_ISTATUS = 4 };

enum { TVAL, CTL, CVAL, REGISTERS };
#define COUNTERS 2 /* as the guest reads them: CNTPCT, CNTVCT */

struct emu_uc_timers {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t thread;
    bool running, end;
    uint64_t compare[TIMERS];
    uint32_t control[TIMERS];
    emu_irq *line[TIMERS];
    const void *info[TIMERS][REGISTERS];
    _Atomic uint64_t offset; /* what the guest's counter is behind the host's */
    uint64_t (*counter[COUNTERS])(void *env, const void *info); /* the library's */
    const void *counter_info[COUNTERS];
};

static uint64_t count(const struct emu_uc_timers *t) { return emu_now() / PERIOD - atomic_load(&t->offset); }

static bool fires(const struct emu_uc_timers *t, int i, uint64_t now)
{
    return (t->control[i] & CTL_ENABLE) && now >= t->compare[i];
}

/* Drives the lines; returns the count at which to look again, UINT64_MAX for never.  Locked. */
static uint64_t drive(struct emu_uc_timers *t)
{
    uint64_t now = count(t), next = UINT64_MAX;
    for (int i = 0; i < TIMERS; i++) {
        bool level = fires(t, i, now) && !(t->control[i] & CTL_IMASK);
        if (t->line[i] != NULL)
            emu_irq_set(t->line[i], level);
        if ((t->control[i] & (CTL_ENABLE | CTL_IMASK)) == CTL_ENABLE && !level && t->compare[i] < next)
            next = t->compare[i];
    }
    return next;
}

static void *wait_for_comparisons(void *opaque)
{
    struct emu_uc_timers *t = opaque;
    pthread_mutex_lock(&t->lock);
    while (!t->end) {
        uint64_t next = drive(t);
        uint64_t host = next + atomic_load(&t->offset);
        if (next == UINT64_MAX || host >= UINT64_MAX / PERIOD) {
            pthread_cond_wait(&t->changed, &t->lock);
        } else {
            uint64_t ns = (host + 1) * PERIOD;
            struct timespec until = {.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};
            pthread_cond_timedwait(&t->changed, &t->lock, &until);
        }
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

/* ---- registers --------------------------------------------------------------- */

/* Which timer and register a description is of; false: none of ours. */
static bool find(const struct emu_uc_timers *t, const void *info, int *timer, int *which)
{
    for (*timer = 0; *timer < TIMERS; ++*timer)
        for (*which = 0; *which < REGISTERS; ++*which)
            if (t->info[*timer][*which] == info)
                return true;
    return false;
}

static uint64_t get(struct emu_uc_timers *t, int timer, int which)
{
    uint64_t value, now = count(t);
    pthread_mutex_lock(&t->lock);
    if (which == CVAL)
        value = t->compare[timer];
    else if (which == TVAL)
        value = (uint32_t)(t->compare[timer] - now);
    else
        value = t->control[timer] | (fires(t, timer, now) ? CTL_ISTATUS : 0);
    pthread_mutex_unlock(&t->lock);
    return value;
}

static void set(struct emu_uc_timers *t, int timer, int which, uint64_t value)
{
    pthread_mutex_lock(&t->lock);
    if (which == CVAL)
        t->compare[timer] = value;
    else if (which == TVAL)
        t->compare[timer] = count(t) + (uint64_t)(int64_t)(int32_t)value;
    else
        t->control[timer] = value & (CTL_ENABLE | CTL_IMASK);
    if (!t->running && (t->control[timer] & CTL_ENABLE))
        t->running = pthread_create(&t->thread, NULL, wait_for_comparisons, t) == 0;
    drive(t);
    pthread_cond_signal(&t->changed);
    pthread_mutex_unlock(&t->lock);
}

static uint64_t read_register(void *env, const void *info)
{
    emu_uc_machine *m = emu_uc_running;
    int timer, which;
    return m != NULL && m->timers != NULL && find(m->timers, info, &timer, &which) ? get(m->timers, timer, which) : 0;
}

static void write_register(void *env, const void *info, uint64_t value)
{
    emu_uc_machine *m = emu_uc_running;
    int timer, which;
    if (m != NULL && m->timers != NULL && find(m->timers, info, &timer, &which))
        set(m->timers, timer, which, value);
}

/* A counter: the library's, which knows of CNTVOFF, less what ours is behind. */
static uint64_t read_counter(void *env, const void *info)
{
    const emu_uc_machine *m = emu_uc_running;
    const struct emu_uc_timers *t = m != NULL ? m->timers : NULL;
    for (int i = 0; t != NULL && i < COUNTERS; i++)
        if (t->counter_info[i] == info)
            return t->counter[i](env, info) - atomic_load(&t->offset);
    return emu_now() / PERIOD;
}

/* CRn is 14, CRm and op2 as in both instruction sets' encodings; false: not a register of the timers. */
bool emu_uc_timers_access(emu_uc_machine *m, uint32_t crm, uint32_t op2, uint64_t *value, bool write)
{
    if (m->timers != NULL && crm == 0 && (op2 == 1 || op2 == 2) && !write && atomic_load(&m->timers->offset) != 0) {
        *value = count(m->timers);
        return true;
    }
    if (m->timers == NULL || crm < 2 || crm > 3 || op2 >= REGISTERS)
        return false;
    if (write)
        set(m->timers, (int)crm - 2, (int)op2, *value);
    *value = get(m->timers, (int)crm - 2, (int)op2);
    return true;
}

/* ---- where the library describes them ------------------------------------------- */

/* Has the library look the register up; NULL: it has none. */
static uint8_t *look_up(emu_uc_machine *m, bool wide, int timer, int which)
{
    if (wide) {
        uc_arm64_cp_reg cp = {.op0 = 3, .op1 = 3, .crn = 14, .crm = 2 + (uint32_t)timer, .op2 = (uint32_t)which};
        return emu_uc_describe(m, UC_ARM64_REG_CP_REG, &cp);
    }
    if (which == CVAL) {
        uc_arm_cp_reg cp = {.cp = 15, .is64 = 1, .crm = 14, .opc1 = 2 + (uint32_t)timer};
        return emu_uc_describe(m, UC_ARM_REG_CP_REG, &cp);
    }
    uc_arm_cp_reg cp = {.cp = 15, .crn = 14, .crm = 2 + (uint32_t)timer, .opc2 = (uint32_t)which};
    return emu_uc_describe(m, UC_ARM_REG_CP_REG, &cp);
}

static uint8_t *look_up_counter(emu_uc_machine *m, bool wide, int which)
{
    if (wide) {
        uc_arm64_cp_reg cp = {.op0 = 3, .op1 = 3, .crn = 14, .crm = 0, .op2 = 1 + (uint32_t)which};
        return emu_uc_describe(m, UC_ARM64_REG_CP_REG, &cp);
    }
    uc_arm_cp_reg cp = {.cp = 15, .is64 = 1, .crm = 14, .opc1 = (uint32_t)which};
    return emu_uc_describe(m, UC_ARM_REG_CP_REG, &cp);
}

/* Whether the counter that the guest reads is the one compared with here. */
static bool counts_alike(emu_uc_machine *m, bool wide)
{
    uint64_t seen;
    if (wide) {
        uc_arm64_cp_reg cp = {.op0 = 3, .op1 = 3, .crn = 14, .crm = 0, .op2 = 1};
        uc_reg_read(m->uc, UC_ARM64_REG_CP_REG, &cp);
        seen = cp.val;
    } else {
        uc_arm_cp_reg cp = {.cp = 15, .is64 = 1, .crm = 14, .opc1 = 0};
        uc_reg_read(m->uc, UC_ARM_REG_CP_REG, &cp);
        seen = cp.val;
    }
    uint64_t now = emu_now() / PERIOD;
    return now >= seen && now - seen < 1000000000 / PERIOD;
}

/* Has the library call our functions for the timers' registers. */
static bool describe(emu_uc_machine *m, struct emu_uc_timers *t, bool wide)
{
    uint64_t (*read)(void *, const void *) = read_register;
    void (*write)(void *, const void *, uint64_t) = write_register;
    for (int timer = 0; timer < TIMERS; timer++)
        for (int which = 0; which < REGISTERS; which++)
            if ((t->info[timer][which] = look_up(m, wide, timer, which)) == NULL)
                return false;
    for (int i = 0; i < COUNTERS; i++) {
        uint8_t *info = look_up_counter(m, wide, i);
        uint64_t known = info != NULL ? load64(info + INFO_READ) : 0;
        if (known == 0)
            return false;
        t->counter_info[i] = info;
        memcpy(&t->counter[i], &known, sizeof known);
    }
    for (int i = 0; i < COUNTERS; i++) {
        uint64_t (*ours)(void *, const void *) = read_counter;
        memcpy((uint8_t *)t->counter_info[i] + INFO_READ, &ours, sizeof ours);
    }
    for (int timer = 0; timer < TIMERS; timer++)
        for (int which = 0; which < REGISTERS; which++) {
            uint8_t *info = (uint8_t *)t->info[timer][which];
            memcpy(info + INFO_READ, &read, sizeof read);
            memcpy(info + INFO_WRITE, &write, sizeof write);
        }
    return true;
}

void emu_uc_timers_new(emu_uc_machine *m)
{
    bool wide = m->isa->isa == EMU_ISA_AARCH64;
    if (!counts_alike(m, wide) || !(is_private(m) || wide))
        return;
    struct emu_uc_timers *t = calloc(1, sizeof *t);
    if (t == NULL)
        return;
    if (is_private(m) && !describe(m, t, wide)) {
        free(t);
        return;
    }
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&t->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&t->lock, NULL);
    m->timers = t;
    m->features |= EMU_UC_TIMERS;
}

void emu_uc_timers_free(emu_uc_machine *m)
{
    struct emu_uc_timers *t = m->timers;
    if (t == NULL)
        return;
    pthread_mutex_lock(&t->lock);
    t->end = true;
    pthread_cond_signal(&t->changed);
    pthread_mutex_unlock(&t->lock);
    if (t->running)
        pthread_join(t->thread, NULL);
    pthread_cond_destroy(&t->changed);
    pthread_mutex_destroy(&t->lock);
    free(t);
    m->timers = NULL;
}

int emu_uc_machine_timer(emu_uc_machine *m, uint32_t timer, emu_irq *line)
{
    if (m->timers == NULL || timer >= TIMERS)
        return -1;
    pthread_mutex_lock(&m->timers->lock);
    m->timers->line[timer] = line;
    pthread_mutex_unlock(&m->timers->lock);
    return 0;
}

int emu_uc_machine_count(emu_uc_machine *m, uint64_t *value, int write)
{
    struct emu_uc_timers *t = m->timers;
    if (t == NULL)
        return -1;
    pthread_mutex_lock(&t->lock);
    if (write) {
        atomic_store(&t->offset, emu_now() / PERIOD - *value);
        drive(t);
        pthread_cond_signal(&t->changed);
    }
    *value = count(t);
    pthread_mutex_unlock(&t->lock);
    return 0;
}
