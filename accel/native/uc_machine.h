/* What the files of the machine engine share (uc_machine.c, uc_arm.c, uc_riscv.c, uc_x86.c). */
#ifndef EMU_UC_MACHINE_H
#define EMU_UC_MACHINE_H

#include "core.h"
#include "engine.h"
#include "trace_write.h"
#include "uc.h"
#include "uc_layout.h"
#include "uc_library.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

/* Bits of CPUState.interrupt_request. */
enum {
    REQUEST_HARD = 0x2,
    REQUEST_FIQ = 0x10,     /* ARM */
    REQUEST_OURS = 0x4000,  /* no target uses it: look at machine->doorbell */
};

/* Exception numbers from here on are the main loop's own (EXCP_INTERRUPT, EXCP_HLT, ...). */
#define LOOP_EXCEPTION 0x10000

typedef bool (*exec_interrupt_fn)(void *cpu, int request);

struct isa {
    uint32_t isa;
    const char *suffix; /* of the target's symbols in the library */
    uc_arch arch;
    uc_mode mode;
    int model;
    int pc;             /* UC_*_REG_ of the program counter */
    const char *do_interrupt, *exec_interrupt;
    const char *debug_handler; /* NULL: one without a name */
    const char *translate;     /* (cpu, virtual address, *attributes): the physical page, or -1 */
    uint64_t space;     /* physical addresses below this; a power of two */
    /* Brings a fresh CPU to its architectural reset state.  -1: text says why. */
    int (*reset)(emu_uc_machine *m, const emu_uc_config *config);
    /* An exception reached the hook; with `invalid`, the invalid-instruction hook. */
    void (*exception)(emu_uc_machine *m, uint32_t number, bool invalid);
    /* Before each start, on the private path; may be NULL. */
    void (*enter)(emu_uc_machine *m);
    /* Called at a block boundary with a new state of the lines, before the target's own look. */
    void (*lines)(emu_uc_machine *m);
    /* NULL: the target's own. */
    exec_interrupt_fn interrupt;
    /* Public path only: delivers what the lines ask for, between runs; and whether it would, asked at each block. */
    void (*deliver)(emu_uc_machine *m);
    bool (*takes)(emu_uc_machine *m);
    unsigned tlb_modes;    /* NB_MMU_MODES */
    uint64_t tlb_notdirty; /* TLB_NOTDIRTY */
    bool tlb_wide;         /* its entries hold 64-bit addresses */
    bool (*deaf)(emu_uc_machine *m); /* may_sleep: whether interrupts are off */
    bool may_sleep; /* a halted CPU stays so until an interrupt that it takes (HLT; WFI is a hint) */
    /* Registers that are not one uc_reg_ call; -1: there is none. */
    int (*access)(emu_uc_machine *m, const emu_uc_reg *reg, uint64_t *value, bool write);
};

#define EMU_UC_SEEN 65536

struct piece { /* of the physical address space, as the library has it */
    uint64_t base, size;
    uint8_t *host; /* NULL: dispatched */
    uint32_t readonly;
    uc_hook hook;  /* for writes to read-only memory */
    emu_uc_machine *machine;
};

struct change { /* RAM written by other than the vCPU */
    uint64_t addr, size;
};

/*
 * x86: a guest that another engine executes, too, and to which these belong.
 * All are called in the vCPU's thread while the machine runs.
 */
struct emu_uc_shared {
    void *opaque;
    void (*cpuid)(void *opaque, uint32_t leaf, uint32_t subleaf, uint32_t *values);
    /* NULL: the library's own MSRs.  One that the library does not keep; false: #GP. */
    bool (*msr)(void *opaque, uint32_t index, uint64_t *value, bool write);
    /* An instruction that is undefined to the library; whether it has been done. */
    bool (*undefined)(void *opaque);
    /* NULL, or before an instruction that changes what addresses mean: true ends the run in front of it. */
    bool (*translation)(void *opaque);
    /* NULL, or does an access to CR8; false: it does not know how. */
    bool (*priority)(void *opaque, bool write);
};

struct emu_uc_machine {
    const struct isa *isa;
    size_t which;              /* its place in the table of instruction sets */
    emu_uc_config config;
    uc_engine *uc;
    emu_space *memory, *ports;
    uint32_t features;

    /* private */
    uint8_t *cpu, *env, *class;
    void (*do_interrupt)(void *cpu);
    exec_interrupt_fn exec_interrupt;
    void (*loop_exit_restore)(void *cpu, uintptr_t pc);

    struct piece **pieces;
    size_t npieces;
    uint32_t mapped;           /* how many of them the library has */

    /* asked for by any thread; `doorbell` is rung last */
    atomic_uint doorbell, kicked, remap, flush, written;
    atomic_uint lines;         /* a bit for each input that is asserted */
    atomic_uint vector;        /* x86: at INTR, + 1 */
    atomic_uint nmi;
    uint64_t event;            /* x86: EMU_UC_EVENT */
    uint64_t tsc_offset;       /* x86: what the time stamp counter is ahead of the host's */

    /* aarch64: system registers that a device serves (uc_sysreg.c) */
    emu_sysreg_read_fn system_read;
    emu_sysreg_write_fn system_write;
    void *system_opaque;

    uint64_t tracked;          /* emu_space_tracked() as this CPU's TLB has it */

    bool sleeps;               /* run() sleeps in place of ending with EMU_EXIT_HALT */
    atomic_uint asleep;

    emu_irq_fn accepted;
    void *accepted_opaque;

    emu_tracer tracer;         /* trace NULL: its instructions are not told */
    bool stepping;             /* one instruction, without interrupts */
    emu_uc_watch *watches;
    size_t nwatches;
    uint64_t *breakpoints;
    size_t nbreakpoints;
    void (*debug_handler)(void *cpu); /* the library's own */

    uint64_t budget;           /* instructions left */
    bool counting;
    uc_hook counter, block;
    bool stop, raised, halted;
    bool deaf;                 /* it was told that the CPU is halted with interrupts off */
    bool left;                 /* a stop was asked for since then */
    bool inside;               /* uc_emu_start is under way */
    emu_exit *exit;            /* of the run under way */

    /* without the doorbell: pages whose code has run since the last flush, by their number modulo EMU_UC_SEEN */
    uint64_t seen[EMU_UC_SEEN / 64];

    const struct emu_uc_shared *shared; /* x86; NULL for none */
    bool foreign;              /* others execute the same guest: code changes without a word (uc_code.c) */
    uint32_t epoch;
    uint64_t generating;       /* the page whose block is being translated; 0 for none */
    struct verified *verified; /* for each page of RAM */
    uint64_t *code;            /* a bit for each page of RAM that has translations (uc_code.c) */
    uint64_t code_words, stored;
    pthread_mutex_t lock;      /* of changes alone */
    struct change *changes;
    size_t nchanges, room;
    bool all_changed;          /* and nobody knows where */

    struct emu_uc_timers *timers; /* aarch64, arm: uc_timer.c; NULL for none */
    size_t cpacr_at;           /* aarch64, arm: of CPACR in env; 0 for unknown */
    size_t pc_at;              /* riscv64: of pc in env */
    uint32_t applied;          /* riscv64: lines as they stand in mip */
    uint32_t pending, pending_target; /* aarch64, public path: an exception to take; 0 for none */
    uint32_t pending_syndrome;
    uint64_t pending_address;
};

/* The machine on the private path whose code runs in this thread; else the library does as it always does. */
extern _Thread_local emu_uc_machine *emu_uc_running;

extern const struct isa emu_uc_aarch64, emu_uc_arm, emu_uc_riscv64, emu_uc_x86_64;

static inline bool is_private(const emu_uc_machine *m) { return (m->features & EMU_UC_PRIVATE) != 0; }

/* Ends the run when the present block ends; the first reason given counts. */
void emu_uc_end(emu_uc_machine *m, int kind, const char *text);
/* The program counter, exact between runs and in exception hooks. */
uint64_t emu_uc_pc(emu_uc_machine *m);
/* uc_code.c: replaces the library's functions for one target; marks a machine whose library is so. */
void emu_uc_code_replace(size_t which, const struct isa *isa);
void emu_uc_code_watch(emu_uc_machine *m);
void emu_uc_code_written(void *opaque, uint64_t addr, uint64_t size);
bool emu_uc_code_changed(emu_uc_machine *m);
void emu_uc_code_track(emu_uc_machine *m);
/* x86, in a hook: raises an exception there, by a long jump.  Page faults by touching what is not there. */
void emu_uc_x86_raise(emu_uc_machine *m, int vector, uint32_t error);
bool emu_uc_x86_is_wide(const emu_uc_machine *m);
/* uc_x86_decode.c: replaces functions of the library; false: it is not as expected. */
bool emu_uc_x86_decode_replace(void);
/* In a hook, too: addresses are looked up anew. */
void emu_uc_x86_flush(emu_uc_machine *m);
void emu_uc_x86_set_pc(emu_uc_machine *m, uint64_t pc);
void emu_uc_x86_touch(emu_uc_machine *m, uint64_t address, bool write);
/* foreign machines, before they run: others may have changed any memory. */
void emu_uc_code_foreign(emu_uc_machine *m);
void emu_uc_code_free(emu_uc_machine *m);
/* uc_debug.c: replaces the library's functions for one target; before a CPU runs; around each start. */
void emu_uc_debug_replace(const struct isa *isa);
void emu_uc_debug_new(emu_uc_machine *m);
void emu_uc_debug_enter(emu_uc_machine *m);
void emu_uc_debug_leave(emu_uc_machine *m);
/* Rings the doorbell: the CPU looks at what has been asked for at its next block. */
void emu_uc_ring(emu_uc_machine *m);
/* uc_timer.c: gives the CPU generic timers where it can (EMU_UC_TIMERS). */
void emu_uc_timers_new(emu_uc_machine *m);
void emu_uc_timers_free(emu_uc_machine *m);
bool emu_uc_timers_access(emu_uc_machine *m, uint32_t crm, uint32_t op2, uint64_t *value, bool write);
/* uc_sysreg.c: public path of aarch64: sees each MSR and MRS, for timers and a GICv3's registers. */
bool emu_uc_watch_system(emu_uc_machine *m);
/* Public path: does an instruction, undefined to the library, of a GICv3's registers at an exception level. */
bool emu_uc_do_system(emu_uc_machine *m, uint32_t instruction, uint32_t level);
/* A symbol of the library with the target's suffix. */
void *emu_uc_symbol(const struct isa *isa, const char *name);

#endif
