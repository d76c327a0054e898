/*
 * x86-64's signal frame: return address, ucontext (304 bytes), siginfo (128),
 * and above it, aligned to 64, the FXSAVE area.  Where the engine has XSAVE its
 * header, the extended state and a second magic number follow, and UC_FP_XSTATE
 * is set.
 */
#include <errno.h>
#include <string.h>

#include "syscall.h"
#include "frame.h"

enum {
    UC = 8,
    UC_STACK = UC + 16,
    CONTEXT = UC + 40,
    UC_SIGMASK = CONTEXT + 256,
    INFO = UC_SIGMASK + 8,
    SIZE = INFO + 128,
    FXSAVE_SIZE = 512,
    FX_X87 = 160, /* bytes of emu_cpu_state.x87 */
    FX_MXCSR = 24,
    FX_DESCRIPTION = 464, /* struct _fpx_sw_bytes */
    XSAVE_ROOM = 4096,
    XSAVE_LEAST = 576, /* with its header, at 512 */
    MAGIC1 = 0x46505853,
    MAGIC2 = 0x46505845,
    UC_FP_XSTATE = 1,
    VECTOR_PF = 14,
    UC_SIGCONTEXT_SS = 2,
    UC_STRICT_RESTORE_SS = 4,
    C_RIP = CONTEXT + 128,
    C_FLAGS = CONTEXT + 136,
    C_SEGMENTS = CONTEXT + 144,
    C_ERROR = CONTEXT + 152,
    C_TRAP = CONTEXT + 160,
    C_OLDMASK = CONTEXT + 168,
    C_CR2 = CONTEXT + 176,
    C_FPSTATE = CONTEXT + 184,
    USER_CS = 0x33,
    USER_SS = 0x2b,
};
#define USER_FLAGS UINT64_C(0x00050dd5) /* AC RF OF DF TF SF ZF AF PF CF, as FIX_EFLAGS */

/* emu_cpu_state's order is the encoding's; the context's is r8-r15 rdi rsi rbp rbx rdx rax rcx rsp. */
static const uint8_t order[16] = {8, 9, 10, 11, 12, 13, 14, 15, 7, 6, 5, 3, 2, 0, 1, 4};

/* The image and its end's mark into `image`; returns the image's size, 0 where the engine has none. */
static uint32_t save_extended(emu_thread *thread, uint8_t image[XSAVE_ROOM + 4])
{
    if (thread->ops->xsave == NULL)
        return 0;
    uint32_t size = thread->ops->xsave(thread->engine, image, XSAVE_ROOM);
    if (size != 0)
        put32(image + size, MAGIC2);
    return size;
}

/* What follows the FXSAVE area at fp, if it is there and whole.  The area itself is in `image` already. */
static void load_extended(emu_thread *thread, uint64_t fp, uint8_t image[XSAVE_ROOM + 4])
{
    uint32_t size = get32(image + FX_DESCRIPTION + 16);
    if (thread->ops->xrstor == NULL || get32(image + FX_DESCRIPTION) != MAGIC1 || size < XSAVE_LEAST || size > XSAVE_ROOM)
        return;
    if (umem_read(&thread->process->umem, image + FXSAVE_SIZE, fp + FXSAVE_SIZE, size + 4 - FXSAVE_SIZE) ||
        get32(image + size) != MAGIC2)
        return;
    thread->ops->xrstor(thread->engine, image, size);
}

/* The exception's vector: the engine's word where it gave one. */
static uint64_t trap_of(const emu_stop *stop, int sig)
{
    if (stop->kind != EMU_STOP_SYSCALL && stop->kind != EMU_STOP_KICK && stop->nr != 0)
        return stop->nr;
    return sig == SIGFPE ? 0 : sig == SIGILL ? 6 : sig == SIGTRAP ? 3 : VECTOR_PF;
}

static int push(emu_thread *thread, emu_cpu_state *state, uint64_t sp, const emu_delivery *d)
{
    uint8_t frame[SIZE], fxsave[XSAVE_ROOM + 4];
    uint32_t extended = save_extended(thread, fxsave);
    uint32_t fp_size = extended != 0 ? extended + 4 : FXSAVE_SIZE;
    uint64_t fp = (sp - fp_size) & ~UINT64_C(63);
    uint64_t at = ((fp - SIZE) & ~UINT64_C(15)) - 8;
    if (!(d->action.flags & SIGNAL_RESTORER))
        return -EFAULT; /* as the kernel: this ABI has no other way back */
    memset(frame, 0, sizeof frame);
    if (extended == 0)
        memset(fxsave, 0, FXSAVE_SIZE);
    put64(frame, d->action.restorer);
    put64(frame + UC, UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS | (extended != 0 ? UC_FP_XSTATE : 0));
    frame_put_altstack(frame + UC_STACK, &d->altstack, state->r[4]);
    for (unsigned i = 0; i < 16; i++)
        put64(frame + CONTEXT + 8 * i, state->r[order[i]]);
    put64(frame + C_RIP, state->pc);
    put64(frame + C_FLAGS, state->flags);
    put64(frame + C_SEGMENTS, USER_CS | (uint64_t)USER_SS << 48);
    if (d->fault) {
        uint64_t trap = trap_of(&thread->stop, d->sig);
        put64(frame + C_TRAP, trap);
        if (trap == VECTOR_PF) {
            bool mapped = d->info->si_code == SEGV_ACCERR;
            put64(frame + C_ERROR, (d->fault_access & EMU_RIGHT_W ? 2 : 0) |
                                       (d->fault_access & EMU_RIGHT_X ? 16 : 0) | 4 | (mapped ? 1 : 0));
            put64(frame + C_CR2, d->fault_addr);
        }
    }
    put64(frame + C_OLDMASK, d->mask);
    put64(frame + C_FPSTATE, fp);
    put64(frame + UC_SIGMASK, d->mask);
    siginfo_to_guest(thread->process->abi, d->info, frame + INFO);
    memcpy(fxsave, state->x87, FX_X87);
    put32(fxsave + FX_MXCSR, (uint32_t)state->fpcr);
    put32(fxsave + FX_MXCSR + 4, 0xffff);
    memcpy(fxsave + FX_X87, state->v, 16 * 16);
    if (umem_write(&thread->process->umem, fp, fxsave, fp_size) || umem_write(&thread->process->umem, at, frame, sizeof frame))
        return -EFAULT;
    state->r[7] = (uint64_t)d->sig;
    state->r[0] = 0;
    state->r[6] = at + INFO;
    state->r[2] = at + UC;
    state->r[4] = at;
    state->pc = d->action.handler;
    state->flags &= ~UINT64_C(0x10500); /* RF, DF, TF */
    /* A handler begins with the FPU as a program does. */
    memset(state->x87, 0, sizeof state->x87);
    memset(state->v, 0, sizeof state->v);
    state->x87[0] = 0x7f; /* FCW */
    state->x87[1] = 0x03;
    state->fpcr = 0x1f80;
    if (extended != 0) {
        memset(fxsave, 0, XSAVE_LEAST);
        put32(fxsave + FX_MXCSR, (uint32_t)state->fpcr);
        thread->ops->xrstor(thread->engine, fxsave, XSAVE_LEAST);
    }
    return 0;
}

static int pop(emu_thread *thread, emu_cpu_state *state, bool rt, emu_return *out)
{
    uint8_t frame[SIZE], fxsave[XSAVE_ROOM + 4];
    if (umem_read(&thread->process->umem, frame, state->r[4] - 8, sizeof frame))
        return -EFAULT;
    uint64_t fp = get64(frame + C_FPSTATE);
    if (fp) {
        if (umem_read(&thread->process->umem, fxsave, fp, FXSAVE_SIZE))
            return -EFAULT;
        load_extended(thread, fp, fxsave);
        memcpy(state->x87, fxsave, FX_X87);
        memcpy(state->v, fxsave + FX_X87, 16 * 16);
        state->fpcr = get32(fxsave + FX_MXCSR) & 0xffff;
    }
    for (unsigned i = 0; i < 16; i++)
        state->r[order[i]] = get64(frame + CONTEXT + 8 * i);
    state->pc = get64(frame + C_RIP);
    state->flags = (state->flags & ~USER_FLAGS) | (get64(frame + C_FLAGS) & USER_FLAGS);
    out->mask = get64(frame + UC_SIGMASK);
    frame_get_altstack(frame + UC_STACK, &out->altstack);
    out->has_altstack = true;
    return 0;
}

static uint64_t smallest(emu_thread *thread)
{
    uint8_t image[XSAVE_ROOM + 4];
    uint32_t extended = save_extended(thread, image);
    /* With what alignment may take, as init_sigframe_size in the kernel. */
    return (SIZE + 15 + (extended != 0 ? extended + 4 : FXSAVE_SIZE) + 63 + 15) & ~UINT64_C(15);
}

const emu_frames frames_x86_64 = {.red_zone = 128, .smallest = smallest, .push = push, .pop = pop};
