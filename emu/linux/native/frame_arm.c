/*
 * 32-bit Arm's signal frames: a ucontext with the VFP registers in its
 * uc_regspace, for SA_SIGINFO preceded by siginfo; behind it, room for a
 * trampoline that programs find there.
 */
#include <errno.h>
#include <string.h>

#include "syscall.h"
#include "frame.h"

enum {
    INFO = 128, /* of the frame with siginfo */
    UC_STACK = 8,
    CONTEXT = 20,
    C_TRAP = CONTEXT,
    C_ERROR = CONTEXT + 4,
    C_OLDMASK = CONTEXT + 8,
    C_REGS = CONTEXT + 12, /* r0-r14, pc */
    C_PC = C_REGS + 60,
    C_CPSR = C_REGS + 64,
    C_FAULT = C_REGS + 68,
    SIGMASK = 104,
    REGSPACE = 232,
    VFP_SIZE = 288,
    VFP_REGS = REGSPACE + 8,
    VFP_FPSCR = VFP_REGS + 256,
    VFP_FPEXC = VFP_REGS + 264,
    UC_SIZE = 744,
    RETCODE = UC_SIZE,
    SIZE = UC_SIZE + 16,
    VFP_MAGIC = 0x56465001,
    OLD_MARK = 0x5ac3c35a, /* uc_flags of a frame without siginfo */
    THUMB = 0x20,
};
#define IT_STATE UINT32_C(0x0600fc00)
#define USER_FLAGS UINT32_C(0xf80f0000) /* NZCVQ and GE */

static int push(emu_thread *thread, emu_cpu_state *state, uint64_t sp, const emu_delivery *d)
{
    uint8_t buffer[INFO + SIZE];
    bool rt = (d->action.flags & SA_SIGINFO) != 0;
    size_t size = rt ? sizeof buffer : SIZE;
    uint8_t *frame = buffer + (rt ? INFO : 0);
    uint64_t at = (uint32_t)(sp - size) & ~UINT32_C(7);
    uint32_t cpsr = (uint32_t)state->flags;
    bool thumb = (d->action.handler & 1) != 0;
    memset(buffer, 0, sizeof buffer);
    if (rt) {
        siginfo_to_guest(thread->process->abi, d->info, buffer);
        put32(frame + UC_STACK, (uint32_t)d->altstack.sp);
        put32(frame + UC_STACK + 4, altstack_flags(&d->altstack, state->r[13]));
        put32(frame + UC_STACK + 8, (uint32_t)d->altstack.size);
    } else {
        put32(frame, OLD_MARK);
    }
    if (d->fault) {
        put32(frame + C_TRAP, 14);
        put32(frame + C_ERROR, (d->fault_access & EMU_RIGHT_W ? 0x800 : 0) | 7);
        put32(frame + C_FAULT, (uint32_t)d->fault_addr);
    }
    put32(frame + C_OLDMASK, (uint32_t)d->mask);
    for (unsigned i = 0; i < 15; i++)
        put32(frame + C_REGS + 4 * i, (uint32_t)state->r[i]);
    put32(frame + C_PC, (uint32_t)state->pc);
    put32(frame + C_CPSR, cpsr | 0x10);
    put64(frame + SIGMASK, d->mask);
    put32(frame + REGSPACE, VFP_MAGIC);
    put32(frame + REGSPACE + 4, VFP_SIZE);
    memcpy(frame + VFP_REGS, state->v, 256);
    put32(frame + VFP_FPSCR, (uint32_t)state->fpcr);
    put32(frame + VFP_FPEXC, 0x40000000);
    if (umem_write(&thread->process->umem, at, buffer, size))
        return -EFAULT;
    uint64_t trampoline = thread->process->sigreturn;
    if (thumb)
        trampoline += (rt ? TRAMPOLINE_RT_THUMB : TRAMPOLINE_OLD_THUMB) + 1;
    else
        trampoline += rt ? TRAMPOLINE_RT : TRAMPOLINE_OLD;
    cpsr &= ~IT_STATE;
    state->flags = thumb ? cpsr | THUMB : cpsr & ~(uint32_t)THUMB;
    state->r[0] = (uint64_t)d->sig;
    if (rt) {
        state->r[1] = at;
        state->r[2] = at + INFO;
    }
    state->r[13] = at;
    state->r[14] = d->action.flags & SIGNAL_RESTORER ? d->action.restorer : trampoline;
    state->pc = d->action.handler & (thumb ? ~UINT64_C(1) : ~UINT64_C(3));
    return 0;
}

static int pop(emu_thread *thread, emu_cpu_state *state, bool rt, emu_return *out)
{
    uint8_t frame[SIZE];
    uint64_t at = state->r[13];
    if (at & 7 || umem_read(&thread->process->umem, frame, at + (rt ? INFO : 0), sizeof frame))
        return -EFAULT;
    if (get32(frame + REGSPACE) != VFP_MAGIC || get32(frame + REGSPACE + 4) != VFP_SIZE)
        return -EFAULT;
    for (unsigned i = 0; i < 15; i++)
        state->r[i] = get32(frame + C_REGS + 4 * i);
    state->pc = get32(frame + C_PC);
    state->flags = (state->flags & ~(uint64_t)(USER_FLAGS | IT_STATE | THUMB)) |
                   (get32(frame + C_CPSR) & (USER_FLAGS | IT_STATE | THUMB));
    memcpy(state->v, frame + VFP_REGS, 256);
    state->fpcr = get32(frame + VFP_FPSCR);
    out->mask = get64(frame + SIGMASK);
    out->has_altstack = rt;
    out->altstack.sp = get32(frame + UC_STACK);
    out->altstack.flags = get32(frame + UC_STACK + 4);
    out->altstack.size = get32(frame + UC_STACK + 8);
    return 0;
}

const emu_frames frames_arm = {.red_zone = 0, .push = push, .pop = pop};
