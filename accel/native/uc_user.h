/*
 * The user-mode engine over Unicorn, inside: what its files share.
 *
 *     uc_user.c            opening, hooks, running
 *     uc_user_registers.c  where registers are, and a guest thread's state
 *     uc_user_code.c       pages of code and what of their translations is good
 *     uc_user_hwcap.c      what the CPU can do
 *     uc_user_trace.c      telling what runs
 */
#ifndef EMU_UC_USER_H
#define EMU_UC_USER_H

#include "uc.h"

#include <signal.h>
#include <stdbool.h>

#include "engine.h"
#include "trace_write.h"
#include "uc_interpose.h"
#include "uc_layout.h"
#include "uc_library.h"

#define PAGE UINT64_C(4096)

/* A page whose code may have been translated. */
struct code_page {
    uint64_t addr;
    uint64_t digest; /* of what it held when it was executed first */
    bool left;       /* by a program before this one: not to be executed until its content has been looked at */
};

struct emu_engine {
    uc_engine *uc;
    uint32_t isa;
    emu_user_memory memory;
    uc_interposed shared;
    bool stepping;   /* blocks end behind one instruction */
    uint8_t *stepper; /* the library's CPU, where it can be made to end after one instruction; else NULL */
    bool prepares;   /* only the page behind the guest's memory is there */
    bool interposed; /* else: a hook at every block does the stops */
    volatile sig_atomic_t kicked;
    volatile sig_atomic_t running; /* uc_emu_start is on */
    int32_t seen;                  /* enum emu_stop_kind from a hook; 0: none */
    uint32_t trap;                 /* the exception's number */
    uint64_t trap_pc;              /* of an instruction that is complete all the same; else UINT64_MAX */
    uint64_t fault_page;
    uint32_t fault_access;
    uint64_t forgotten; /* its translations are being dropped; else UINT64_MAX */
    uint32_t fills;
    uint32_t next_flush;
    uint64_t pc;
    /* Where the library keeps what every system call needs; pc is NULL where that is not known. */
    struct {
        const uint8_t *pc, *nr, *args[6];
        uint8_t *result;
    } at;
    void (*flush_page)(void *cpu, uint64_t addr); /* the library's; NULL: it has none */
    emu_tracer tracer;
    uc_hook told[2]; /* of instructions and blocks that are told; 0: none */
    struct code_page *code; /* sorted */
    size_t codes;
    size_t code_room;
};

struct layout {
    const char *suffix; /* of the library's functions for this target */
    int arch;
    int mode;
    int general[32];
    int generals;
    int pc;
    int vector; /* the first of a run */
    int vectors;
    int nr;
    int args[6];
    int result;
};

extern const struct layout uc_layouts[]; /* by enum emu_isa */

static inline const struct layout *layout_of(const emu_engine *engine)
{
    return &uc_layouts[engine->isa];
}

static inline uint64_t reg_read(emu_engine *engine, int reg)
{
    uint64_t value = 0;
    uc_reg_read(engine->uc, reg, &value);
    return value;
}

static inline void reg_write(emu_engine *engine, int reg, uint64_t value)
{
    uc_reg_write(engine->uc, reg, &value);
}

static inline uint64_t load_word(const emu_engine *engine, const uint8_t *at)
{
    return engine->isa == EMU_ISA_ARM ? load32(at) : load64(at);
}

/* TPIDRURO, the user's read-only thread pointer of AArch32. */
static inline uc_arm_cp_reg tpidruro(void)
{
    return (uc_arm_cp_reg){.cp = 15, .crn = 13, .crm = 0, .opc1 = 0, .opc2 = 3};
}

/* Finds out engine->at. */
void uc_user_find_registers(emu_engine *engine);
uint64_t uc_user_read_pc(emu_engine *engine);
/* The same as uc_emu_start takes it: with the bit of Thumb. */
uint64_t uc_user_start_address(emu_engine *engine);
void uc_user_save(emu_engine *engine, emu_cpu_state *state);
void uc_user_load(emu_engine *engine, const emu_cpu_state *state);

bool uc_user_code_known(const emu_engine *engine, uint64_t page);
void uc_user_code_drop(emu_engine *engine, uint64_t page);
bool uc_user_code_add(emu_engine *engine, uint64_t page);
void uc_user_before_change(emu_engine *engine, uint64_t addr, uint64_t size);
void uc_user_after_change(emu_engine *engine, uint64_t addr, uint64_t size);

void uc_user_hwcap(emu_engine *engine, uint64_t out[2]);

void uc_user_trace(emu_engine *engine, emu_trace *trace, int32_t pid, int32_t tid);
/* Not while it runs: what is no longer wanted costs nothing from here on. */
void uc_user_trace_less(emu_engine *engine);
/* An instruction that is told has been begun, and the engine has stopped so. */
void uc_user_trace_stop(emu_engine *engine, int32_t kind);

#endif
