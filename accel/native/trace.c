/* Reading a trace. */
#include "trace_read.h"
#include "trace_write.h"

#include <stdlib.h>
#include <sys/mman.h>

enum { PATIENCE = 200 * 1000 * 1000 /* ns for a record that is begun */ };

emu_trace *emu_trace_new(void)
{
    emu_trace *trace = mmap(NULL, sizeof *trace, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (trace == MAP_FAILED)
        return NULL;
    trace->reader = getpid();
    return trace;
}

void emu_trace_free(emu_trace *trace)
{
    munmap(trace, sizeof *trace);
}

/* What stands at a ticket: its record's slots, or 0 where it is not whole. */
static uint32_t whole(const emu_trace *trace, uint64_t ticket)
{
    const emu_trace_record *record = &trace->slots[ticket % EMU_TRACE_SLOTS];
    return __atomic_load_n(&record->ticket, __ATOMIC_ACQUIRE) == ticket + 1 ? 1u + record->more : 0;
}

static uint32_t collect(emu_trace *trace, emu_trace_record *out, uint32_t room)
{
    uint64_t head = __atomic_load_n(&trace->head, __ATOMIC_ACQUIRE);
    uint32_t count = 0;
    while (trace->taken < head) {
        uint32_t slots = whole(trace, trace->taken);
        if (slots == 0) {
            uint64_t now = emu_trace_now();
            if (trace->stuck == 0)
                trace->stuck = now;
            if (now - trace->stuck < PATIENCE)
                break;
            trace->taken++; /* who wrote there is gone */
            continue;
        }
        if (count + slots > room)
            break;
        trace->stuck = 0;
        for (uint32_t i = 0; i < slots; i++)
            out[count++] = trace->slots[(trace->taken + i) % EMU_TRACE_SLOTS];
        trace->taken += slots;
    }
    return count;
}

uint32_t emu_trace_read(emu_trace *trace, emu_trace_record *out, uint32_t room, int milliseconds)
{
    uint32_t written = __atomic_load_n(&trace->written, __ATOMIC_ACQUIRE);
    uint32_t count = collect(trace, out, room);
    if (count > 0 || milliseconds == 0)
        return count;
    const struct timespec limit = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    syscall(SYS_futex, &trace->written, FUTEX_WAIT, written, &limit, NULL, 0);
    return collect(trace, out, room);
}

void emu_trace_done(emu_trace *trace)
{
    __atomic_store_n(&trace->tail, trace->taken, __ATOMIC_RELEASE);
    __atomic_add_fetch(&trace->moved, 1, __ATOMIC_ACQ_REL);
    emu_trace_wake(&trace->moved);
}

int emu_trace_range(emu_trace *trace, uint64_t first, uint64_t end)
{
    uint32_t count = trace->range_count;
    for (uint32_t i = 0; i < count; i++)
        if (trace->ranges[i][0] == first && trace->ranges[i][1] == end)
            return 0;
    if (count == EMU_TRACE_RANGES)
        return -1;
    trace->ranges[count][0] = first;
    trace->ranges[count][1] = end;
    __atomic_store_n(&trace->range_count, count + 1, __ATOMIC_RELEASE);
    return 0;
}

void emu_trace_close(emu_trace *trace)
{
    __atomic_store_n(&trace->closed, 1, __ATOMIC_RELEASE);
    emu_trace_done(trace);
}
