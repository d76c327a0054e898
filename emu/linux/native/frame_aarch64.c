/*
 * AArch64's signal frame: siginfo (128 bytes), ucontext (4560), and above it a
 * frame record (x29, x30) that unwinders follow.
 */
#include <errno.h>
#include <string.h>

#include "syscall.h"
#include "frame.h"

enum {
    UC = 128,
    UC_STACK = UC + 16,
    UC_SIGMASK = UC + 40,
    CONTEXT = UC + 176, /* sigcontext */
    C_FAULT = CONTEXT,
    C_REGS = CONTEXT + 8,
    C_SP = CONTEXT + 256,
    C_PC = CONTEXT + 264,
    C_PSTATE = CONTEXT + 272,
    RESERVED = CONTEXT + 288,
    RESERVED_SIZE = 4096,
    SIZE = RESERVED + RESERVED_SIZE,
    FPSIMD_MAGIC = 0x46508001,
    FPSIMD_SIZE = 528,
    ESR_MAGIC = 0x45535201,
    ESR_SIZE = 16,
};
#define PSTATE UINT64_C(0xf1001000) /* NZCV DIT SSBS */

/* Data abort from EL0, a permission or translation fault, WnR for a store; or an instruction abort. */
static uint64_t syndrome(const emu_delivery *d)
{
    const uint64_t il = UINT64_C(1) << 25, translation = 7;
    if (d->fault_access & EMU_RIGHT_X)
        return (UINT64_C(0x20) << 26) | il | translation;
    return (UINT64_C(0x24) << 26) | il | (d->fault_access & EMU_RIGHT_W ? 0x40 : 0) | translation;
}

static int push(emu_thread *thread, emu_cpu_state *state, uint64_t sp, const emu_delivery *d)
{
    uint8_t frame[SIZE];
    uint64_t record = (sp & ~UINT64_C(15)) - 16;
    uint64_t at = record - SIZE;
    memset(frame, 0, sizeof frame);
    siginfo_to_guest(thread->process->abi, d->info, frame);
    frame_put_altstack(frame + UC_STACK, &d->altstack, state->r[31]);
    put64(frame + UC_SIGMASK, d->mask);
    put64(frame + C_FAULT, d->fault ? d->fault_addr : 0);
    memcpy(frame + C_REGS, state->r, 31 * 8);
    put64(frame + C_SP, state->r[31]);
    put64(frame + C_PC, state->pc);
    put64(frame + C_PSTATE, state->flags & PSTATE);
    uint8_t *extra = frame + RESERVED;
    put32(extra, FPSIMD_MAGIC);
    put32(extra + 4, FPSIMD_SIZE);
    put32(extra + 8, (uint32_t)state->fpsr);
    put32(extra + 12, (uint32_t)state->fpcr);
    memcpy(extra + 16, state->v, sizeof state->v);
    if (d->fault) {
        extra += FPSIMD_SIZE;
        put32(extra, ESR_MAGIC);
        put32(extra + 4, ESR_SIZE);
        put64(extra + 8, syndrome(d));
    }
    uint64_t link[2] = {state->r[29], state->r[30]};
    if (umem_write(&thread->process->umem, record, link, sizeof link) || umem_write(&thread->process->umem, at, frame, sizeof frame))
        return -EFAULT;
    state->r[0] = (uint64_t)d->sig;
    if (d->action.flags & SA_SIGINFO) {
        state->r[1] = at;
        state->r[2] = at + UC;
    }
    state->r[29] = record;
    state->r[30] = d->action.flags & SIGNAL_RESTORER ? d->action.restorer : thread->process->sigreturn + TRAMPOLINE_RT;
    state->r[31] = at;
    state->pc = d->action.handler;
    return 0;
}

static int pop(emu_thread *thread, emu_cpu_state *state, bool rt, emu_return *out)
{
    uint8_t frame[SIZE];
    uint64_t at = state->r[31];
    size_t offset = 0;
    bool vectors = false;
    if (at & 15 || umem_read(&thread->process->umem, frame, at, sizeof frame))
        return -EFAULT;
    while (offset + 8 <= RESERVED_SIZE) {
        const uint8_t *record = frame + RESERVED + offset;
        uint32_t magic = get32(record), size = get32(record + 4);
        if (magic == 0)
            break;
        if (size < 8 || size & 15 || size > RESERVED_SIZE - offset)
            return -EFAULT;
        if (magic == FPSIMD_MAGIC && size == FPSIMD_SIZE) {
            state->fpsr = get32(record + 8);
            state->fpcr = get32(record + 12);
            memcpy(state->v, record + 16, sizeof state->v);
            vectors = true;
        }
        offset += size;
    }
    if (!vectors)
        return -EFAULT;
    memcpy(state->r, frame + C_REGS, 31 * 8);
    state->r[31] = get64(frame + C_SP);
    state->pc = get64(frame + C_PC);
    state->flags = get64(frame + C_PSTATE) & PSTATE;
    out->mask = get64(frame + UC_SIGMASK);
    frame_get_altstack(frame + UC_STACK, &out->altstack);
    out->has_altstack = true;
    return 0;
}

static uint64_t smallest(emu_thread *thread)
{
    return SIZE + 2 * 16; /* the frame record, and alignment */
}

const emu_frames frames_aarch64 = {.red_zone = 0, .smallest = smallest, .push = push, .pop = pop};
