/*
 * Unicorn: the library, the machine engine (uc_machine.c) and the user-mode
 * engine (uc_user.c).  The library is opened at run time, when first needed
 * (its dlopen costs 8 ms), from the path that Python found.
 */
#ifndef EMU_UC_H
#define EMU_UC_H

#include "core.h"
#include "kvm.h"

#include <stddef.h>
#include <stdint.h>

#include "engine.h"

/* 0, or -1 with the reason in *text.  Opening it again does nothing. */
int emu_uc_library(const char *path, char *text, size_t size);
/* Where it lies in a folder of Python packages. */
const char *emu_uc_library_name(void);
/* The path for an engine that is opened while the library is not open yet. */
void emu_uc_library_later(const char *path);
/* What emu_uc_library_later promised; 0, or -1 with the reason in *text. */
int emu_uc_library_now(char *text, size_t size);
/* major << 24 | minor << 16 | patch << 8; 0 before the library is open. */
uint32_t emu_uc_version(void);

/* ---- a whole machine (uc_machine.c) ---------------------------------------- */

enum emu_uc_flag {
    EMU_UC_PUBLIC = 1,      /* use declared calls only, as if the library's insides were unknown */
    EMU_UC_BREAKPOINTS = 2, /* breakpoint instructions end run() with EMU_EXIT_DEBUG */
};

/* What an engine found out about its library; see emu_uc_machine_features. */
enum emu_uc_feature {
    EMU_UC_PRIVATE = 1,  /* its insides are as verified: exact stops and native interrupts */
    EMU_UC_DOORBELL = 2, /* requests from other threads are seen without a hook on every block */
    EMU_UC_ALIASES = 4,  /* code is noticed to change under every virtual address */
    EMU_UC_TIMERS = 8,   /* Arm: the generic timers compare */
    EMU_UC_DEBUG = 16,   /* emu_uc_machine_debug and _step work */
};

typedef struct emu_uc_config {
    uint32_t isa;   /* enum emu_isa */
    uint32_t flags; /* enum emu_uc_flag */
    int32_t model;  /* UC_CPU_*; -1: uc_machine.c's choice */
    uint32_t level; /* aarch64: exception level after reset, 1 to 3 */
} emu_uc_config;

/* A register of the engine: `id` is UC_*_REG_*, or one of these and `code`. */
enum emu_uc_place {
    EMU_UC_SYSTEM = -1,     /* by encoding: op0 op1 CRn CRm op2; coprocessor opc1 CRn CRm opc2; MSR; CSR */
    EMU_UC_SEGMENT = -2,    /* code: 0-5 ES CS SS DS FS GS, 6 LDTR, 7 TR; value: selector base limit attributes */
    EMU_UC_DESCRIPTORS = -3, /* code: 0 GDTR, 1 IDTR; value: base limit */
    EMU_UC_STATUS = -4,      /* aarch64: PSTATE, with the stack pointer that goes with it */
    EMU_UC_INSIDE = -5,      /* x86: code is of emu_uc_inside */
};
typedef struct emu_uc_reg {
    int32_t id;
    uint32_t code[5];
} emu_uc_reg;

/* What of an x86 CPU's state is no register of a program's. */
enum emu_uc_inside {
    EMU_UC_EVENT,       /* what the CPU takes first: 0, or emu_uc_event | vector << 8 | error code << 32 */
    EMU_UC_SHADOW,      /* of STI and MOV SS: whether interrupts wait for one instruction more */
    EMU_UC_NMI_BLOCKED, /* until IRET */
    EMU_UC_NMI_PENDING,
    EMU_UC_TSC,
    EMU_UC_XCR0,
};
enum emu_uc_event {
    EMU_UC_EVENT_EXCEPTION = 1,
    EMU_UC_EVENT_INTERRUPT = 2, /* by hardware, and acknowledged already */
};

typedef struct emu_uc_machine emu_uc_machine;

/*
 * One vCPU over a memory map, and a port map for x86 (else NULL).  The library
 * must be open.  NULL: *text says why.
 */
emu_uc_machine *emu_uc_machine_new(const emu_uc_config *config, emu_space *memory, emu_space *ports, char *text,
                                   size_t size);
void emu_uc_machine_free(emu_uc_machine *machine);
uint32_t emu_uc_machine_features(const emu_uc_machine *machine);

/*
 * Runs until something concerns the board; `budget` instructions at most, 0 for
 * no limit.  Returns exit->kind.  EMU_EXIT_RAISED: a hook of either map raised.
 */
int emu_uc_machine_run(emu_uc_machine *machine, uint64_t budget, emu_exit *exit);
/* What a debugger wants to be told of: accesses to addresses. */
enum emu_uc_watch_kind { EMU_UC_WATCH_READ = 1, EMU_UC_WATCH_WRITE = 2 };
typedef struct emu_uc_watch {
    uint64_t addr, size;
    uint32_t kinds; /* of enum emu_uc_watch_kind */
} emu_uc_watch;

/* emu_exit.code with EMU_EXIT_DEBUG. */
enum emu_uc_debug_code {
    EMU_UC_AT_INSTRUCTION = 0, /* a breakpoint instruction of the guest's (EMU_UC_BREAKPOINTS) */
    EMU_UC_STEPPED = 1,
    EMU_UC_AT_BREAKPOINT = 2,  /* before the instruction */
    EMU_UC_AT_READ = 3,        /* before the access, at emu_exit.address */
    EMU_UC_AT_WRITE = 4,
};

/*
 * From now on run() ends with EMU_EXIT_DEBUG at these virtual addresses; none: no longer.  Between runs.
 * A run that starts at one ends at once.  -1: the library's insides are not as expected, or no memory.
 */
int emu_uc_machine_debug(emu_uc_machine *machine, const uint64_t *breakpoints, size_t count,
                         const emu_uc_watch *watches, size_t nwatches);
/* One instruction, or the entry into an exception's handler, without interrupts, breakpoints and watches. */
int emu_uc_machine_step(emu_uc_machine *machine, emu_exit *exit);
/* From any thread: the running, or else the next, run ends with EMU_EXIT_KICKED. */
void emu_uc_machine_kick(emu_uc_machine *machine);
/* From any thread: drives an input of the CPU; see Vcpu.interrupt in api.py. */
void emu_uc_machine_interrupt(emu_uc_machine *machine, uint32_t line, int32_t level);
/* The same as an emu_irq_fn, for a line that ends there. */
void emu_uc_machine_input(void *machine, uint32_t line, int level);
/* Whether run() sleeps while the CPU does (HLT, WFI), where it else returns EMU_EXIT_HALT. */
void emu_uc_machine_sleep(emu_uc_machine *machine, int sleeps);
/* aarch64: who serves a GICv3's system registers; before the first run.  -1: the engine cannot. */
int emu_uc_machine_system(emu_uc_machine *machine, emu_sysreg_read_fn read, emu_sysreg_write_fn write,
                          void *opaque);
/* From any thread: the memory map has changed. */
void emu_uc_machine_remap(emu_uc_machine *machine);
/* Called when the CPU takes the vector that stands at INTR (x86); in the vCPU's thread. */
void emu_uc_machine_accepted(emu_uc_machine *machine, emu_irq_fn fn, void *opaque);

/*
 * Arm: the line that a timer drives, 0 physical, 1 virtual (PPI 30 and 27 of a
 * GIC by custom); it is set from the vCPU's thread and from the timers' own.
 * -1: there are no timers.
 */
int emu_uc_machine_timer(emu_uc_machine *machine, uint32_t timer, emu_irq *line);
/* Arm: what the generic timer's counter is, or is to be from now on.  -1: there are no timers. */
int emu_uc_machine_count(emu_uc_machine *machine, uint64_t *value, int write);

/* Memory was written by other than this engine, anywhere: nothing that was derived from it counts.  Not while it runs. */
void emu_uc_machine_forget(emu_uc_machine *machine);

/* x86: whether the CPU sleeps after HLT. */
int emu_uc_machine_halted(const emu_uc_machine *machine);
void emu_uc_machine_halt(emu_uc_machine *machine, int halted);

/* value: 8 words, low first.  -1: the engine has no such register. */
int emu_uc_machine_read(emu_uc_machine *machine, const emu_uc_reg *reg, uint64_t *value);
int emu_uc_machine_write(emu_uc_machine *machine, const emu_uc_reg *reg, const uint64_t *value);
/* Where a virtual address is at present; -1: nowhere.  The CPU is not running. */
int emu_uc_machine_translate(emu_uc_machine *machine, uint64_t address, uint64_t *physical);

/*
 * x86, a guest of another engine's that goes on here, which was told of more
 * than the library has (AVX, XSAVE and others): the host's CPU does it (cross.c).
 */
typedef struct emu_cross emu_cross;
/* From the machine's next run to emu_cross_free, which comes before the machine's; NULL: not on this host. */
emu_cross *emu_cross_adopt(emu_uc_machine *machine, emu_space *memory);
void emu_cross_free(emu_cross *cross);
/* What CPUID answers there, a kvm_cpuid2 of `size` bytes; -EINVAL: too many leaves. */
int emu_cross_cpuid(emu_cross *cross, const void *table, size_t size);
/* CR4 as the guest has set it: the library does not keep SMAP and PKE. */
void emu_cross_cr4(emu_cross *cross, uint64_t cr4);
/* Its XSAVE area of 4096 bytes, standard format: what counts here are the components after SSE. */
void *emu_cross_xsave(emu_cross *cross);
/* Where such a component lies in it, by its number; 0, or -1: this host has none. */
int emu_cross_component(uint32_t number, uint32_t *offset, uint32_t *size);
void emu_cross_get_counts(const emu_cross *cross, emu_cross_counts *out);

/* ---- user mode (uc_user.c) ---------------------------------------------------- */

/* The engine for user code of any ISA; the library must be open before its open(). */
const emu_engine_ops *emu_uc_user(void);

#endif
