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
#include <sys/uio.h>
#include <time.h>
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
    uint32_t own = EMU_TRACE_MAPS | EMU_TRACE_WAIT_MAPS | EMU_TRACE_PROFILE;
    if (process->main->ops->step != NULL)
        own |= EMU_TRACE_INSTRUCTIONS;
    return process->main->ops->trace != NULL || !(what & ~own);
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

/* ---- profiles --------------------------------------------------------------------------------- */

/* SIGBUS is never blocked on the host (signal.c); a guest that makes such a timer itself takes samples of itself. */
static char mark;

static void start_timer(emu_thread *thread, int32_t tid)
{
    uint64_t ns = (uint64_t)thread->process->trace->period * 1000;
    struct sigevent event;
    memset(&event, 0, sizeof event);
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = SIGBUS;
    event.sigev_value.sival_ptr = &mark;
    event._sigev_un._tid = tid;
    int timer;
    /* The host's own calls: the C library's timers have ids of its own. */
    if (syscall(SYS_timer_create, CLOCK_THREAD_CPUTIME_ID, &event, &timer) != 0)
        return;
    struct timespec period = {(time_t)(ns / 1000000000), (long)(ns % 1000000000)};
    struct itimerspec every = {period, period};
    syscall(SYS_timer_settime, timer, 0, &every, NULL);
    thread->ticks = true;
    thread->timer = timer;
}

/* Words of guest memory, in pieces; async-signal-safe, and without a fault. */
struct window {
    const emu_umem *umem;
    uint64_t start, size;
    uint8_t bytes[1024];
};

static bool window_word(struct window *window, uint64_t addr, unsigned width, uint64_t *out)
{
    if (addr < window->start || addr + width > window->start + window->size) {
        uint64_t size = sizeof window->bytes, left = EMU_PAGE - (addr & (EMU_PAGE - 1));
        if (!umem_range(window->umem, addr, size))
            return false;
        struct iovec to = {window->bytes, size}, from[2] = {{window->umem->base + addr, left < size ? left : size},
                                                            {window->umem->base + addr + left, size - left}};
        ssize_t got = process_vm_readv(getpid(), &to, 1, from, left < size ? 2 : 1, 0);
        window->start = addr;
        window->size = got > 0 ? (uint64_t)got : 0;
        if (window->size < width)
            return false;
    }
    *out = 0;
    memcpy(out, window->bytes + (addr - window->start), width);
    return true;
}

/* Return addresses of the frames that a frame pointer leads to, for the ABIs that have such; a guest's memory may hold
 * anything: frames lie above each other, and not far. */
static unsigned walk(const emu_process *process, uint64_t frame, uint64_t out[62])
{
    enum { FAR = 8 << 20 };
    struct window window = {.umem = &process->umem};
    const uint32_t isa = process->abi->isa;
    const int64_t next_at = isa == EMU_ISA_RISCV64 ? -16 : 0, link_at = isa == EMU_ISA_RISCV64 ? -8 : 8;
    unsigned count = 0;
    if (isa == EMU_ISA_ARM)
        return 0;
    while (count < 62 && frame != 0 && frame % 8 == 0) {
        uint64_t next, link;
        if (!window_word(&window, frame + (uint64_t)next_at, 8, &next) ||
            !window_word(&window, frame + (uint64_t)link_at, 8, &link) || link == 0)
            break;
        out[count++] = link;
        if (next <= frame || next - frame > FAR)
            break;
        frame = next;
    }
    return count;
}

static void give_sample(emu_thread *thread, int kind, const emu_sample *sample, uint64_t times)
{
    emu_process *process = thread->process;
    emu_tracer tracer;
    as(process, &tracer);
    emu_trace *trace = process->trace;
    uint64_t callers[62];
    unsigned count = walk(process, sample->frame, callers);
    unsigned more = (unsigned)((count * 8 + sizeof(emu_trace_record) - 1) / sizeof(emu_trace_record));
    /* In a handler nobody waits: a sample too many is lost. */
    if (__atomic_load_n(&trace->head, __ATOMIC_RELAXED) + 256 >
        __atomic_load_n(&trace->tail, __ATOMIC_RELAXED) + EMU_TRACE_SLOTS)
        return;
    emu_trace_record *record = emu_trace_take(&tracer, EMU_TRACED_SAMPLE, more);
    if (record == NULL)
        return;
    record->at = sample->pc;
    record->a = count;
    record->b = times;
    record->bits = (uint8_t)kind;
    emu_trace_put(&tracer, record, 0, callers, count * 8);
    emu_trace_give(record, sample->link);
}

bool emu_trace_ticked(emu_thread *thread, const siginfo_t *info, void *context)
{
    if (info->si_value.sival_ptr != &mark)
        return false;
    if (thread == NULL)
        return true;
    thread->disturbed = 1;
    if (thread->engine == NULL || thread->process->trace == NULL || thread->traced != thread->tid)
        return true;
    int times = 1 + (info->si_overrun > 0 ? info->si_overrun : 0);
    if (thread->ops->sample == NULL) {
        thread->sampled += times;
        thread->ops->kick(thread->engine);
        return true;
    }
    emu_sample sample;
    int kind = thread->ops->sample(thread->engine, context, &sample);
    if (kind != EMU_SAMPLED_NOTHING)
        give_sample(thread, kind, &sample, (uint64_t)times);
    return true;
}

void emu_trace_sample(emu_thread *thread)
{
    static const struct {
        uint8_t frame, link;
        bool linked;
    } registers[] = {[EMU_ISA_AARCH64] = {29, 30, true},
                     [EMU_ISA_ARM] = {11, 14, true},
                     [EMU_ISA_RISCV64] = {8, 1, true},
                     [EMU_ISA_X86_64] = {5, 0, false}};
    int times = thread->sampled;
    emu_cpu_state state;
    thread->ops->save(thread->engine, &state);
    uint32_t isa = thread->process->abi->isa;
    emu_sample sample = {state.pc, state.r[registers[isa].frame],
                         registers[isa].linked ? state.r[registers[isa].link] : 0};
    thread->sampled = 0;
    give_sample(thread, EMU_SAMPLED_GUEST, &sample, (uint64_t)times);
}

/* ---- threads ----------------------------------------------------------------------------------- */

void emu_trace_attach(emu_thread *thread)
{
    emu_process *process = thread->process;
    emu_tracer tracer;
    as(process, &tracer);
    if (thread->traced != thread->tid && process->trace->what & EMU_TRACE_PROFILE)
        start_timer(thread, tracer.tid);
    if (process->traced != tracer.pid) {
        pid_t parent = process->traced;
        process->traced = tracer.pid;
        tell(&tracer, EMU_TRACED_PROCESS, 0, (uint64_t)parent);
        if (process->trace->what & EMU_TRACE_MAPS)
            tell_areas(process, &tracer, 0, UINT64_MAX);
    }
    if (thread->engine != NULL && thread->ops->trace != NULL)
        thread->ops->trace(thread->engine, process->trace, tracer.pid, tracer.tid);
    thread->tells_steps = thread->ops->trace == NULL && thread->ops->step != NULL &&
                          emu_trace_wants(process->trace, EMU_TRACE_INSTRUCTIONS);
    thread->traced = thread->tid;
    thread->traced_engine = thread->engine;
}

/* The bytes are as many as an instruction can have: whoever reads them knows where it ends. */
int emu_trace_step(emu_thread *thread, emu_stop *stop)
{
    emu_process *process = thread->process;
    emu_tracer tracer;
    if (!emu_trace_wants(process->trace, EMU_TRACE_INSTRUCTIONS)) {
        thread->tells_steps = false;
        return thread->ops->run(thread->engine, stop);
    }
    as(process, &tracer);
    thread->ops->save(thread->engine, &tracer.before);
    memset(tracer.bytes, 0, sizeof tracer.bytes);
    uint64_t pc = tracer.before.pc, left = EMU_PAGE - (pc & (EMU_PAGE - 1));
    tracer.size = 15;
    if (umem_read(&process->umem, tracer.bytes, pc, tracer.size) != 0 && left < tracer.size)
        (void)umem_read(&process->umem, tracer.bytes, pc, tracer.size = (uint8_t)left);
    int kind = thread->ops->step(thread->engine, stop);
    if ((kind == 0 || kind == EMU_STOP_SYSCALL) && emu_trace_in_range(process->trace, pc)) {
        emu_cpu_state now;
        thread->ops->save(thread->engine, &now);
        emu_trace_instruction(&tracer, &now);
    }
    return kind;
}

void emu_trace_ended(emu_thread *thread, int status)
{
    emu_tracer tracer;
    if (thread->ticks && thread->traced == thread->tid)
        syscall(SYS_timer_delete, thread->timer);
    thread->ticks = false;
    tell(as(thread->process, &tracer), EMU_TRACED_END, 0, (uint64_t)(uint32_t)status);
}
