/*
 * What a program's processes tell of themselves in a trace (accel/native/trace.h):
 * who they are and which files are mapped where; what they execute their engines
 * tell.
 */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime.h"
#include "trace_write.h"

void emu_process_trace(emu_process *process, emu_trace *trace)
{
    process->trace = trace;
    process->umem.mapped = trace != NULL ? emu_trace_mapped : NULL;
}

int emu_process_traces(const emu_process *process, uint32_t what)
{
    return process->main->ops->trace != NULL || !(what & ~(uint32_t)(EMU_TRACE_MAPS | EMU_TRACE_WAIT_MAPS));
}

static emu_tracer *as(const emu_process *process, emu_tracer *tracer)
{
    tracer->trace = process->trace;
    tracer->pid = getpid();
    tracer->tid = (int32_t)syscall(SYS_gettid);
    tracer->isa = process->abi->isa;
    return tracer;
}

static void tell(const emu_tracer *tracer, uint8_t kind, uint64_t at, uint64_t a)
{
    emu_trace_record *record = emu_trace_take(tracer, kind, 0);
    if (record == NULL)
        return;
    record->at = at;
    record->a = a;
    emu_trace_give(record, 0);
}

/* Its ticket, UINT64_MAX where nobody reads. */
static uint64_t tell_named(const emu_tracer *tracer, uint8_t kind, const emu_area *area, const char *name)
{
    enum { ROOM = PATH_MAX };
    size_t length = strnlen(name, ROOM);
    emu_trace_record *record =
        emu_trace_take(tracer, kind, (unsigned)((length + sizeof(emu_trace_record) - 1) / sizeof(emu_trace_record)));
    if (record == NULL)
        return UINT64_MAX;
    if (area != NULL) {
        record->at = area->start;
        record->a = area->end - area->start;
        record->b = area->offset;
        record->bits = (uint8_t)area->prot;
    }
    emu_trace_put(tracer, record, 0, name, length);
    return emu_trace_give(record, length);
}

/* Files alone: nothing can be said of other memory. */
static void tell_areas(const emu_process *process, const emu_tracer *tracer, uint64_t addr, uint64_t end)
{
    const emu_umem *umem = &process->umem;
    uint64_t code = UINT64_MAX;
    for (size_t i = 0; i < umem->count; i++) {
        const emu_area *area = &umem->areas[i];
        if (area->end <= addr || area->start >= end || area->path == NULL || area->ino == 0)
            continue;
        uint64_t ticket = tell_named(tracer, EMU_TRACED_MAPPED, area, area->path);
        code = area->prot & 4 /* PROT_EXEC */ ? ticket : code;
    }
    if (code != UINT64_MAX && tracer->trace->what & EMU_TRACE_WAIT_MAPS)
        emu_trace_wait(tracer->trace, code + 1);
}

void emu_trace_mapped(void *opaque, uint64_t addr, uint64_t size)
{
    const emu_process *process = opaque;
    emu_tracer tracer;
    if (process->trace == NULL || !(process->trace->what & EMU_TRACE_MAPS) || process->traced != getpid())
        return;
    as(process, &tracer);
    tell(&tracer, EMU_TRACED_UNMAPPED, addr, size);
    tell_areas(process, &tracer, addr, addr + size);
}

void emu_trace_executed(emu_thread *thread)
{
    emu_tracer tracer;
    tell_named(as(thread->process, &tracer), EMU_TRACED_EXECUTED, NULL, thread->process->exe_guest);
}

void emu_trace_attach(emu_thread *thread)
{
    emu_process *process = thread->process;
    emu_tracer tracer;
    as(process, &tracer);
    if (process->traced != tracer.pid) {
        pid_t parent = process->traced;
        process->traced = tracer.pid;
        tell(&tracer, EMU_TRACED_PROCESS, 0, (uint64_t)parent);
        if (process->trace->what & EMU_TRACE_MAPS)
            tell_areas(process, &tracer, 0, UINT64_MAX);
    }
    if (thread->engine != NULL && thread->ops->trace != NULL)
        thread->ops->trace(thread->engine, process->trace, tracer.pid, tracer.tid);
    thread->traced = thread->tid;
    thread->traced_engine = thread->engine;
}

void emu_trace_ended(emu_thread *thread, int status)
{
    emu_tracer tracer;
    tell(as(thread->process, &tracer), EMU_TRACED_END, 0, (uint64_t)(uint32_t)status);
}
