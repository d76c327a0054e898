/*
 * A debugger that looks on through a watch: threads stop where they are told to,
 * execute one instruction, and meet breakpoints.
 *
 * A breakpoint is the ISA's own instruction, written over the guest's by the
 * watcher (EMU_ORDER_POKE), which keeps a table of them in the watch: the guest's own
 * breakpoint instructions remain signals of the guest's, and a child that is forked
 * takes them out of its memory and goes on alone.
 *
 * Threads stop between instructions alone, in their loop.  One that has something
 * to tell, or finds `hold` set, waits in a slot of the watch.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime.h"
#include "watch.h"

static const emu_watch_break *find(const emu_watch *watch, uint64_t addr)
{
    uint32_t count = __atomic_load_n(&watch->break_count, __ATOMIC_ACQUIRE);
    for (uint32_t i = 0; i < count && i < EMU_WATCH_BREAKS; i++)
        if (watch->breaks[i].addr == addr)
            return &watch->breaks[i];
    return NULL;
}

bool emu_debug_breakpoint(emu_thread *thread, const emu_stop *stop)
{
    const emu_watch *watch = thread->process->watch;
    if (watch == NULL || !watch->debug || find(watch, stop->pc) == NULL)
        return false;
    emu_cpu_state state;
    thread->ops->save(thread->engine, &state);
    if (state.pc != stop->pc) { /* kvm's is behind it */
        state.pc = stop->pc;
        thread->ops->load(thread->engine, &state);
    }
    thread->stopped = EMU_STOPPED_BREAK;
    return true;
}

int emu_debug_step(emu_thread *thread, emu_stop *stop)
{
    int kind = thread->ops->step(thread->engine, stop);
    if (kind == EMU_STOP_KICK) /* nothing was done */
        return kind;
    thread->stepping = false;
    thread->stopped = EMU_STOPPED_STEP;
    if (kind != 0) /* what comes of it may change the pc */
        thread->range[0] = thread->range[1] = 0;
    return kind;
}

void emu_debug_may_step(emu_thread *thread, bool step, uint64_t from, uint64_t until)
{
    thread->stepping = step;
    thread->range[0] = from;
    thread->range[1] = step ? until : from;
}

bool emu_debug_steps_on(emu_thread *thread)
{
    const emu_watch *watch = thread->process->watch;
    uint64_t pc = thread->stop.pc;
    if (thread->stopped != EMU_STOPPED_STEP || pc < thread->range[0] || pc >= thread->range[1] ||
        __atomic_load_n(&watch->hold, __ATOMIC_ACQUIRE) == EMU_HOLD_ALL || find(watch, pc) != NULL)
        return false;
    thread->stopped = 0;
    thread->stepping = true;
    return true;
}

/* Writes guest memory whatever the guest may do there. */
int emu_debug_poke(emu_process *process, uint64_t addr, const void *from, size_t size)
{
    emu_umem *umem = &process->umem;
    uint64_t page = addr & ~(EMU_PAGE - 1), end = (addr + size + EMU_PAGE - 1) & ~(EMU_PAGE - 1);
    int error = 0;
    if (size == 0)
        return 0;
    if (!umem_range(umem, addr, size))
        return -EFAULT;
    umem_lock(umem);
    for (uint64_t at = page; at < end && error == 0; at += EMU_PAGE)
        error = umem_find(umem, at) == NULL ? -EFAULT : 0;
    emu_threads_before_change(process, page, end - page);
    for (uint64_t at = page; at < end && error == 0; at += EMU_PAGE) {
        uint32_t rights = umem_rights(umem, at);
        int before = rights & EMU_RIGHT_W ? PROT_READ | PROT_WRITE : rights != 0 ? PROT_READ : PROT_NONE;
        uint64_t first = at < addr ? addr : at, last = at + EMU_PAGE < addr + size ? at + EMU_PAGE : addr + size;
        uint8_t *host = umem->base + at;
        if (!(rights & EMU_RIGHT_W) && mprotect(host, EMU_PAGE, PROT_READ | PROT_WRITE) != 0) {
            error = -errno; /* a file's page that is shared and may not be written */
            break;
        }
        memcpy(umem->base + first, (const uint8_t *)from + (first - addr), (size_t)(last - first));
        if (!(rights & EMU_RIGHT_W))
            mprotect(host, EMU_PAGE, before);
    }
    emu_threads_after_change(process, page, end - page);
    umem_unlock(umem);
    return error;
}

void emu_debug_forked(emu_thread *thread)
{
    emu_process *process = thread->process;
    const emu_watch *watch = process->watch;
    if (watch == NULL || !watch->debug)
        return;
    process->watch = NULL;
    thread->stepping = false;
    thread->stopped = 0;
    for (uint32_t i = 0; i < watch->break_count && i < EMU_WATCH_BREAKS; i++)
        (void)emu_debug_poke(process, watch->breaks[i].addr, watch->breaks[i].before, watch->breaks[i].size);
}

void emu_debug_executed(emu_thread *thread)
{
    if (thread->process->watch != NULL && thread->process->watch->debug)
        thread->stopped = EMU_STOPPED_EXEC;
}
