/*
 * RISC-V's signal frame: siginfo (128 bytes), ucontext with 32 integer registers
 * (pc in the place of x0) and the largest floating-point state, of which D uses
 * the first part.
 */
#include <errno.h>
#include <string.h>

#include "syscall.h"
#include "frame.h"

enum {
    UC = 128,
    UC_STACK = UC + 16,
    UC_SIGMASK = UC + 40,
    CONTEXT = UC + 176,
    FLOATS = CONTEXT + 256,
    FCSR = FLOATS + 256,
    SIZE = FLOATS + 528,
};

static int push(emu_thread *thread, emu_cpu_state *state, uint64_t sp, const emu_delivery *d)
{
    uint8_t frame[SIZE];
    uint64_t at = (sp - SIZE) & ~UINT64_C(15);
    memset(frame, 0, sizeof frame);
    siginfo_to_guest(thread->process->abi, d->info, frame);
    frame_put_altstack(frame + UC_STACK, &d->altstack, state->r[2]);
    put64(frame + UC_SIGMASK, d->mask);
    put64(frame + CONTEXT, state->pc);
    memcpy(frame + CONTEXT + 8, state->r + 1, 31 * 8);
    for (unsigned i = 0; i < 32; i++)
        put64(frame + FLOATS + 8 * i, state->v[i][0]);
    put32(frame + FCSR, (uint32_t)state->fpcr);
    if (umem_write(&thread->process->umem, at, frame, sizeof frame))
        return -EFAULT;
    state->r[1] = thread->process->sigreturn + TRAMPOLINE_RT;
    state->r[2] = at;
    state->r[10] = (uint64_t)d->sig;
    state->r[11] = at;
    state->r[12] = at + UC;
    state->pc = d->action.handler;
    return 0;
}

static int pop(emu_thread *thread, emu_cpu_state *state, bool rt, emu_return *out)
{
    uint8_t frame[SIZE];
    if (umem_read(&thread->process->umem, frame, state->r[2], sizeof frame))
        return -EFAULT;
    state->pc = get64(frame + CONTEXT);
    memcpy(state->r + 1, frame + CONTEXT + 8, 31 * 8);
    for (unsigned i = 0; i < 32; i++)
        state->v[i][0] = get64(frame + FLOATS + 8 * i);
    state->fpcr = get32(frame + FCSR);
    out->mask = get64(frame + UC_SIGMASK);
    frame_get_altstack(frame + UC_STACK, &out->altstack);
    out->has_altstack = true;
    return 0;
}

const emu_frames frames_riscv64 = {.red_zone = 0, .push = push, .pop = pop};
