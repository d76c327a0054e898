/*
 * How a runtime executes guest user code, whichever engine does it.
 *
 * One engine runs one guest thread.  Memory is the runtime's: guest address a
 * lies at host address memory.base + a, and the engine asks for the rights of a
 * page when it meets it.  The runtime announces every change of a mapping.
 */
#ifndef EMU_ENGINE_H
#define EMU_ENGINE_H

#include <stddef.h>
#include <stdint.h>

enum emu_isa {
    EMU_ISA_AARCH64 = 1,
    EMU_ISA_ARM = 2,
    EMU_ISA_RISCV64 = 3,
    EMU_ISA_X86_64 = 4,
};

enum emu_rights { EMU_RIGHT_R = 1, EMU_RIGHT_W = 2, EMU_RIGHT_X = 4 };

typedef struct emu_user_memory {
    uint8_t *base; /* host address of guest address 0 */
    uint64_t size; /* guest addresses 0 .. size-1 */
    /* Rights of the 4 KiB page that holds addr; 0 where nothing is mapped. */
    uint32_t (*rights)(void *opaque, uint64_t addr);
    void *opaque;
    /* The guest must reach no other memory of the process, at a price; an engine that never lets it ignores this. */
    int32_t confined;
    /* The rest may be NULL: the process has one thread. */
    /* Around rights() and what the engine makes of its answers: nothing is changed meanwhile. */
    void (*hold)(void *opaque);
    void (*release)(void *opaque);
    /*
     * Whether the guest has several threads; and to the engines of all: code in a range is new (`changed`), or
     * about to be run, so that who can write there without being noticed shall no longer.
     */
    int (*several)(void *opaque);
    void (*code)(void *opaque, uint64_t addr, uint64_t size, int changed);
    /* Interrupts what the host thread `tid` does in the kernel, from any thread. */
    void (*interrupt)(void *opaque, int32_t tid);
} emu_user_memory;

/*
 * A guest thread's registers, the same for every engine.
 *
 *          r[]                              pc   flags        tls[0], tls[1]         fpcr      fpsr
 * aarch64  x0-x30, sp                       pc   PSTATE.NZCV  TPIDR_EL0              FPCR      FPSR
 * arm      r0-r14                           pc   CPSR (with T) TPIDRURO              FPSCR
 * riscv64  x0-x31                           pc   -            (tp is x4)             fcsr
 * x86-64   rax rcx rdx rbx rsp rbp rsi rdi  rip  RFLAGS       FS base, GS base       MXCSR
 *          r8-r15
 *
 * v[]: 128-bit vectors, low half first (riscv64: f0-f31 in the low half; arm:
 * d0-d31 as 16 pairs).  x87: the first 160 bytes of FXSAVE (x86-64 only).
 */
typedef struct emu_cpu_state {
    uint64_t r[32];
    uint64_t pc;
    uint64_t flags;
    uint64_t tls[2];
    uint64_t fpcr;
    uint64_t fpsr;
    uint64_t v[32][2];
    uint8_t x87[160];
} emu_cpu_state;

enum emu_stop_kind {
    EMU_STOP_SYSCALL = 1, /* nr and args are set; pc is behind the instruction */
    EMU_STOP_FAULT = 2,   /* addr and access: the page does not allow it; pc at the instruction.  access 0:
                             a protection fault without an address (x86's #GP) */
    EMU_STOP_ILLEGAL = 3, /* undefined instruction at pc */
    EMU_STOP_BREAK = 4,   /* breakpoint instruction at pc */
    EMU_STOP_ARITH = 5,   /* division error (x86) */
    EMU_STOP_ALIGN = 6,   /* addr is not aligned as the access demands */
    EMU_STOP_KICK = 7,
    EMU_STOP_ERROR = 8,   /* the engine failed; text says how */
};

typedef struct emu_stop {
    int32_t kind;    /* enum emu_stop_kind */
    uint32_t access; /* enum emu_rights wanted by the access that failed */
    uint64_t pc;
    uint64_t addr;   /* exact where the engine knows it, else the page's base */
    uint64_t nr; /* x86-64: of other stops than system calls, the exception's vector */
    uint64_t args[6];
    char text[96];
} emu_stop;

typedef struct emu_engine emu_engine;

struct emu_trace; /* trace.h */

enum emu_sampled {
    EMU_SAMPLED_NOTHING = 0,
    EMU_SAMPLED_GUEST = 1,
    EMU_SAMPLED_ENGINE = 2, /* the engine works for it: pc is not known, the others are */
    EMU_SAMPLED_RUNTIME = 3, /* it waits for the runtime: system calls */
};

typedef struct emu_sample {
    uint64_t pc;
    uint64_t frame; /* the frame pointer */
    uint64_t link;  /* the register of return addresses; 0: there is none */
} emu_sample;

typedef struct emu_engine_ops {
    const char *name;
    /* Threads of one guest may run at the same time; else they take turns, and nothing is called on an
     * engine while the guest's code runs on another, but kick. */
    int32_t parallel;
    /* enum emu_isa, where it runs no other; else 0. */
    uint32_t only;
    /* Guest addresses are best host addresses: memory.base 0, where that can be had. */
    int32_t low;
    /* NULL: *text says why in one line.  `memory` is copied. */
    emu_engine *(*open)(uint32_t isa, const emu_user_memory *memory, char *text, size_t size);
    void (*close)(emu_engine *engine);
    /* Runs until something concerns the runtime.  Returns stop->kind. */
    int (*run)(emu_engine *engine, emu_stop *stop);
    /* The system call's result register. */
    void (*result)(emu_engine *engine, uint64_t value);
    void (*save)(emu_engine *engine, emu_cpu_state *state);
    void (*load)(emu_engine *engine, const emu_cpu_state *state);
    /* Around every change of what is mapped at, or allowed on, a range of pages
     * (munmap, mmap over, mprotect), and for IC IVAU-like demands. */
    void (*before_change)(emu_engine *engine, uint64_t addr, uint64_t size);
    void (*after_change)(emu_engine *engine, uint64_t addr, uint64_t size);
    /* Makes the running (or else the next) run() return EMU_STOP_KICK soon.
     * Async-signal-safe, callable from any thread.  Guest code that runs on the CPU itself is only left at a
     * signal of the host: whoever kicks another thread's engine sends that thread one that has a handler. */
    void (*kick)(emu_engine *engine);
    /* AT_HWCAP and AT_HWCAP2 as Linux would give them on the CPU that this engine is. */
    void (*hwcap)(emu_engine *engine, uint64_t out[2]);
    /* The rest may be NULL: nothing of the kind. */
    /* Host descriptors that the engine holds and a guest must not meet; at most `room`, returns how many. */
    size_t (*descriptors)(emu_engine *engine, int *fds, size_t room);
    /* Around fork: before it in the parent; after it in the child, where it returns 0 or -errno with *text.
     * The descriptors keep their numbers.  No kick may come in between. */
    void (*forking)(emu_engine *engine);
    int (*forked)(emu_engine *engine, char *text, size_t size);
    /* After it in the parent, and where it failed. */
    void (*stayed)(emu_engine *engine);
    /* One instruction: 0 with the next one's pc in *stop, or what run() returns where it stopped otherwise.  Not NULL. */
    int (*step)(emu_engine *engine, emu_stop *stop);
    /* Since the last time asked: guest instructions translated, and executed by another engine for want of that. */
    void (*counts)(emu_engine *engine, uint64_t out[2]);
    /* In the host's handler of SIGSEGV and SIGBUS, with its arguments: not 0 where guest code has caused it; run()
     * then returns EMU_STOP_FAULT. */
    int (*host_fault)(emu_engine *engine, int sig, const void *info, void *context);
    /* x86-64: all that XSAVE saves, in the standard format, for signal frames, with Linux's description of
     * it in the bytes from 464 (struct _fpx_sw_bytes).  xsave returns the bytes written, 0 where `room` is
     * too small; xrstor ignores what this CPU does not have. */
    uint32_t (*xsave)(emu_engine *engine, uint8_t *image, uint32_t room);
    void (*xrstor)(emu_engine *engine, const uint8_t *image, uint32_t size);
    /* An engine for one more thread, as open makes them; what is told of changes to one of the two counts for
     * both.  NULL: threads get engines by open, and all are told. */
    emu_engine *(*another)(emu_engine *engine, char *text, size_t size);
    /* From now on what runs is told there, as thread `tid` of `pid`: before the engine has run, and in a child after
     * fork.  NULL: the engine cannot tell of instructions and blocks. */
    void (*trace)(emu_engine *engine, struct emu_trace *trace, int32_t pid, int32_t tid);
    /* In a handler of the host's signals, with its context: where the guest's thread is, roughly, without stopping it.
     * enum emu_sampled.  NULL: only a stop tells. */
    int (*sample)(emu_engine *engine, const void *context, emu_sample *out);
} emu_engine_ops;

#endif
