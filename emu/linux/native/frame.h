/*
 * A signal handler's frame on the guest's stack, in each ISA's own layout
 * (frame_*.c).  Sources: arch/<isa>/kernel/signal.c and
 * include/uapi/asm/{sigcontext,ucontext}.h of Linux 6.1.
 */
#ifndef EMU_FRAME_H
#define EMU_FRAME_H

#include "runtime.h"

/* sigaction as the runtime keeps it; flags are SA_* of asm-generic, the same for every ISA here. */
typedef struct emu_action {
    uint64_t handler; /* 0: SIG_DFL, 1: SIG_IGN */
    uint64_t flags;
    uint64_t restorer;
    uint64_t mask;
} emu_action;

typedef struct emu_altstack {
    uint64_t sp;
    uint64_t size;
    uint32_t flags; /* SS_DISABLE, SS_AUTODISARM; SS_ONSTACK is computed */
} emu_altstack;

/* What a frame is made from. */
typedef struct emu_delivery {
    int sig;
    const siginfo_t *info;
    emu_action action;
    uint64_t mask;         /* to be restored when the handler returns */
    emu_altstack altstack; /* before this delivery */
    bool fault;            /* the CPU caused it: the fields below go into the context */
    uint64_t fault_addr;
    uint32_t fault_access; /* enum emu_rights */
} emu_delivery;

/* What a frame gave back. */
typedef struct emu_return {
    uint64_t mask;
    emu_altstack altstack; /* valid if has_altstack */
    bool has_altstack;
} emu_return;

typedef struct emu_frames {
    /* Where a frame may begin: the stack pointer, or the alternative stack's end. */
    uint64_t red_zone;
    /* The least stack that a frame fits on, AT_MINSIGSTKSZ; NULL: Linux does not tell. */
    uint64_t (*smallest)(emu_thread *thread);
    /* Writes the frame below sp and changes `state` so that the handler begins.  0 or -EFAULT. */
    int (*push)(emu_thread *thread, emu_cpu_state *state, uint64_t sp, const emu_delivery *delivery);
    /* Reads the frame at the stack pointer back into `state`.  rt: rt_sigreturn.  0 or -EFAULT. */
    int (*pop)(emu_thread *thread, emu_cpu_state *state, bool rt, emu_return *out);
} emu_frames;

extern const emu_frames frames_aarch64, frames_arm, frames_riscv64, frames_x86_64;

enum {
    SIGNAL_RESTORER = 0x04000000, /* SA_RESTORER */
    ALT_ONSTACK = 1,              /* SS_ONSTACK */
    ALT_DISABLE = 2,              /* SS_DISABLE */
};
#define ALT_AUTODISARM 0x80000000u

/* Offsets of the trampolines at process->sigreturn. */
enum {
    TRAMPOLINE_RT = 0,        /* rt_sigreturn */
    TRAMPOLINE_OLD = 8,       /* arm: sigreturn */
    TRAMPOLINE_RT_THUMB = 16, /* the same two in Thumb */
    TRAMPOLINE_OLD_THUMB = 20,
};

/* ss_flags that a frame or sigaltstack(2) shows for a stack pointer. */
static inline bool altstack_holds(const emu_altstack *alt, uint64_t sp)
{
    return !(alt->flags & ALT_AUTODISARM) && alt->size && sp > alt->sp && sp - alt->sp <= alt->size;
}
static inline uint32_t altstack_flags(const emu_altstack *alt, uint64_t sp)
{
    if (alt->size == 0)
        return ALT_DISABLE;
    return (altstack_holds(alt, sp) ? ALT_ONSTACK : 0) | (alt->flags & ALT_AUTODISARM);
}

/* stack_t in the 64-bit layout at `to`. */
void frame_put_altstack(uint8_t *to, const emu_altstack *alt, uint64_t sp);
void frame_get_altstack(const uint8_t *from, emu_altstack *alt);

static inline void put64(uint8_t *to, uint64_t value)
{
    __builtin_memcpy(to, &value, 8);
}
static inline void put32(uint8_t *to, uint32_t value)
{
    __builtin_memcpy(to, &value, 4);
}
static inline uint64_t get64(const uint8_t *from)
{
    uint64_t value;
    __builtin_memcpy(&value, from, 8);
    return value;
}
static inline uint32_t get32(const uint8_t *from)
{
    uint32_t value;
    __builtin_memcpy(&value, from, 4);
    return value;
}

#endif
