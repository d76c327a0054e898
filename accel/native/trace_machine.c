/* What machines of this process tell: accesses to devices, interrupt lines, exits and exceptions. */
#include "trace_machine.h"

#include <sys/syscall.h>
#include <unistd.h>

#include "tell.h"
#include "trace_write.h"

emu_trace *emu_machines_trace;

static emu_trace_record *take(uint8_t kind)
{
    static _Thread_local int32_t tid;
    if (tid == 0)
        tid = (int32_t)syscall(SYS_gettid);
    emu_tracer tracer; /* what instructions need of it is not looked at */
    tracer.trace = emu_machines_trace;
    tracer.pid = getpid();
    tracer.tid = tid;
    tracer.isa = 0;
    return emu_trace_take(&tracer, kind, 0);
}

static void tell_access(const emu_space *space, uint64_t addr, uint32_t width, uint64_t value, int write)
{
    emu_range range;
    if (!emu_trace_wants(emu_machines_trace, EMU_TRACE_MMIO) || !emu_space_find(space, addr, &range) ||
        emu_region_kind(range.region) != EMU_IO)
        return;
    emu_trace_record *record = take(EMU_TRACED_MMIO);
    if (record == NULL)
        return;
    record->at = addr;
    record->a = value;
    record->size = (uint8_t)width;
    record->bits = (uint8_t)write;
    record->b = (uint64_t)(uintptr_t)range.region;
    emu_trace_give(record, range.offset + (addr - range.base));
}

static void tell_line(const emu_irq *irq, int level)
{
    emu_trace_record *record = emu_trace_wants(emu_machines_trace, EMU_TRACE_INTERRUPTS) ? take(EMU_TRACED_INTERRUPT) : NULL;
    if (record == NULL)
        return;
    record->a = (uint64_t)(uintptr_t)irq;
    emu_trace_give(record, (uint64_t)level);
}

void emu_trace_machines(emu_trace *trace)
{
    emu_machines_trace = trace;
    emu_map_tells = trace != NULL ? tell_access : NULL;
    emu_irq_tells = trace != NULL ? tell_line : NULL;
}

void emu_trace_exit(uint32_t cpu, uint32_t reason, uint64_t since)
{
    emu_trace_record *record = emu_trace_wants(emu_machines_trace, EMU_TRACE_EXITS) ? take(EMU_TRACED_EXIT) : NULL;
    if (record == NULL)
        return;
    record->a = reason;
    record->b = cpu;
    emu_trace_give(record, record->ns - since);
}

void emu_trace_exception(uint32_t isa, uint64_t pc, uint64_t number)
{
    emu_trace_record *record = emu_trace_wants(emu_machines_trace, EMU_TRACE_EXCEPTIONS) ? take(EMU_TRACED_EXCEPTION) : NULL;
    if (record == NULL)
        return;
    record->isa = isa;
    record->at = pc;
    record->a = number;
    emu_trace_give(record, 0);
}
