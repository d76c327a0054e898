/* The writing side of trace.h, for engines and runtimes: in line, since they are several extension modules. */
#ifndef EMU_TRACE_WRITE_H
#define EMU_TRACE_WRITE_H

#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "engine.h"
#include "trace.h"

/* Who writes, and what is known of the instruction that was begun last. */
typedef struct emu_tracer {
    emu_trace *trace; /* NULL: nothing is told */
    int32_t pid, tid;
    uint32_t isa;
    bool begun;
    uint8_t size; /* of the instruction, from here on */
    uint8_t bytes[16];
    emu_cpu_state before;
} emu_tracer;

static inline uint64_t emu_trace_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline void emu_trace_wake(uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

static inline bool emu_trace_wants(const emu_trace *trace, uint32_t what)
{
    return trace != NULL && __atomic_load_n(&trace->what, __ATOMIC_RELAXED) & what;
}

/* Whether instructions and blocks at an address are told. */
static inline bool emu_trace_in_range(const emu_trace *trace, uint64_t at)
{
    if (!trace->filtered)
        return true;
    uint32_t count = __atomic_load_n(&trace->range_count, __ATOMIC_ACQUIRE);
    for (uint32_t i = 0; i < count && i < EMU_TRACE_RANGES; i++)
        if (at >= trace->ranges[i][0] && at < trace->ranges[i][1])
            return true;
    return false;
}

/* Until the reader has got so far; false when nobody reads. */
static inline bool emu_trace_wait(emu_trace *trace, uint64_t tail)
{
    const struct timespec look_around = {0, 100 * 1000 * 1000};
    for (;;) {
        uint32_t moved = __atomic_load_n(&trace->moved, __ATOMIC_ACQUIRE);
        if (__atomic_load_n(&trace->tail, __ATOMIC_ACQUIRE) >= tail)
            return true;
        if (__atomic_load_n(&trace->closed, __ATOMIC_ACQUIRE) || (kill(trace->reader, 0) != 0 && errno == ESRCH))
            return false;
        __atomic_add_fetch(&trace->written, 1, __ATOMIC_ACQ_REL);
        emu_trace_wake(&trace->written);
        syscall(SYS_futex, &trace->moved, FUTEX_WAIT, moved, &look_around, NULL, 0);
    }
}

/* A record of 1 + more slots, to be filled; NULL: nobody reads. */
static inline emu_trace_record *emu_trace_take(const emu_tracer *tracer, uint8_t kind, unsigned more)
{
    emu_trace *trace = tracer->trace;
    uint64_t ticket = __atomic_fetch_add(&trace->head, 1 + more, __ATOMIC_ACQ_REL);
    if (ticket + 1 + more > __atomic_load_n(&trace->tail, __ATOMIC_ACQUIRE) + EMU_TRACE_SLOTS &&
        !emu_trace_wait(trace, ticket + 1 + more - EMU_TRACE_SLOTS))
        return NULL;
    enum { OFTEN = EMU_TRACE_SLOTS / 8 };
    if ((ticket + 1 + more) / OFTEN != ticket / OFTEN) {
        __atomic_add_fetch(&trace->written, 1, __ATOMIC_ACQ_REL);
        emu_trace_wake(&trace->written);
    }
    emu_trace_record *record = &trace->slots[ticket % EMU_TRACE_SLOTS];
    /* What was there is no record any more; ours counts when it is whole. */
    *record = (emu_trace_record){.ticket = 0,
                                 .ns = emu_trace_now(),
                                 .pid = tracer->pid,
                                 .tid = tracer->tid,
                                 .kind = kind,
                                 .more = (uint8_t)more,
                                 .isa = tracer->isa,
                                 .c = ticket};
    return record;
}

/* Bytes behind a record that was taken with room for them. */
static inline void emu_trace_put(const emu_tracer *tracer, emu_trace_record *record, size_t offset, const void *from,
                                 size_t size)
{
    emu_trace *trace = tracer->trace;
    size_t first = (size_t)(record - trace->slots) + 1;
    while (size > 0) {
        size_t slot = (first + offset / sizeof *record) % EMU_TRACE_SLOTS, at = offset % sizeof *record;
        size_t part = sizeof *record - at < size ? sizeof *record - at : size;
        memcpy((uint8_t *)&trace->slots[slot] + at, from, part);
        from = (const uint8_t *)from + part;
        offset += part;
        size -= part;
    }
}

/* The record is whole.  Its ticket stands in c, which is given what belongs there. */
static inline uint64_t emu_trace_give(emu_trace_record *record, uint64_t c)
{
    uint64_t ticket = record->c;
    record->c = c;
    __atomic_store_n(&record->ticket, ticket + 1, __ATOMIC_RELEASE);
    return ticket;
}

/* ---- instructions -------------------------------------------------------------------------------- */

/* Words that changed, into `out`; what they are of into the record. */
static inline unsigned emu_trace_changes(const emu_cpu_state *before, const emu_cpu_state *now, uint64_t *b, uint8_t *bits,
                                         uint64_t out[104])
{
    unsigned count = 0;
    for (unsigned n = 0; n < 32; n++)
        if (before->r[n] != now->r[n]) {
            *b |= UINT64_C(1) << n;
            out[count++] = now->r[n];
        }
    if (memcmp(before->v, now->v, sizeof now->v) != 0)
        for (unsigned n = 0; n < 32; n++)
            if (before->v[n][0] != now->v[n][0] || before->v[n][1] != now->v[n][1]) {
                *b |= UINT64_C(1) << (32 + n);
                out[count++] = now->v[n][0];
                out[count++] = now->v[n][1];
            }
    const uint64_t pairs[5][2] = {{before->flags, now->flags},
                                  {before->fpcr, now->fpcr},
                                  {before->fpsr, now->fpsr},
                                  {before->tls[0], now->tls[0]},
                                  {before->tls[1], now->tls[1]}};
    for (unsigned n = 0; n < 5; n++)
        if (pairs[n][0] != pairs[n][1]) {
            *bits |= (uint8_t)(1u << n);
            out[count++] = pairs[n][1];
        }
    return count;
}

/* The instruction that was begun is complete; `now` is what the registers are, and becomes `before`. */
static inline void emu_trace_instruction(emu_tracer *tracer, const emu_cpu_state *now)
{
    uint64_t words[104], changed = 0;
    uint8_t bits = 0;
    unsigned count = emu_trace_changes(&tracer->before, now, &changed, &bits, words);
    if (tracer->isa == EMU_ISA_ARM && tracer->before.flags & 0x20)
        bits |= EMU_TRACE_THUMB;
    unsigned long_bytes = tracer->size > 8, behind = (count > 1 ? count - 1 : 0) + long_bytes;
    emu_trace_record *record =
        emu_trace_take(tracer, EMU_TRACED_INSTRUCTION, (unsigned)((behind * 8 + sizeof *record - 1) / sizeof *record));
    if (record != NULL) {
        record->at = tracer->before.pc;
        record->size = tracer->size;
        record->bits = bits;
        memcpy(&record->a, tracer->bytes, 8);
        record->b = changed;
        if (count > 1)
            emu_trace_put(tracer, record, 0, words + 1, 8 * (count - 1));
        if (long_bytes)
            emu_trace_put(tracer, record, 8 * (count > 1 ? count - 1 : 0), tracer->bytes + 8, 8);
        emu_trace_give(record, count > 0 ? words[0] : 0);
    }
    tracer->before = *now;
    tracer->begun = false;
}

static inline void emu_trace_block(const emu_tracer *tracer, uint8_t kind, uint64_t at, uint64_t size)
{
    emu_trace_record *record = emu_trace_take(tracer, kind, 0);
    if (record == NULL)
        return;
    record->at = at;
    record->a = size;
    emu_trace_give(record, 0);
}

#endif
