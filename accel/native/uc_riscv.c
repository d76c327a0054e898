/* RISC-V machines: reset state, exceptions, the bits of mip. */
#include "uc_machine.h"

#include <dlfcn.h>

enum { EXCP_BREAKPOINT = 3 };

static int reset_riscv(emu_uc_machine *m, const emu_uc_config *config)
{
    void (*reset)(void *) = (void (*)(void *))dlsym(uc_lib.handle, "cpu_reset");
    if (reset == NULL || emu_uc_symbol(m->isa, "riscv_cpu_update_mip") == NULL)
        return -1;
    reset(m->cpu);
    uint64_t entry = 0, mark = UINT64_C(0x5ca1ab1e0ddba110);
    uc_reg_read(m->uc, UC_RISCV_REG_PC, &entry);
    uc_reg_write(m->uc, UC_RISCV_REG_PC, &mark);
    for (size_t at = 0; at < 4096 && m->pc_at == 0; at += 8)
        if (load64(m->env + at) == mark)
            m->pc_at = at;
    uc_reg_write(m->uc, UC_RISCV_REG_PC, &entry);
    return m->pc_at != 0 ? 0 : -1;
}

static void exception_riscv(emu_uc_machine *m, uint32_t number, bool invalid)
{
    if (!invalid) {
        /* The library has moved pc behind the instruction before it called us. */
        store64(m->env + m->pc_at, load64(m->env + m->pc_at) - 4);
    }
    if (number == EXCP_BREAKPOINT && (m->config.flags & EMU_UC_BREAKPOINTS)) {
        emu_uc_end(m, EMU_EXIT_DEBUG, NULL);
        return;
    }
    m->do_interrupt(m->cpu);
}

/* The inputs that a machine drives: software, timer and external, for M and S. */
#define MIP_INPUTS 0xaaau

static void lines_riscv(emu_uc_machine *m)
{
    uint64_t (*update)(void *cpu, uint64_t mask, uint64_t value) =
        (uint64_t(*)(void *, uint64_t, uint64_t))emu_uc_symbol(m->isa, "riscv_cpu_update_mip");
    uint32_t lines = atomic_load(&m->lines) & MIP_INPUTS, changed = lines ^ m->applied;
    m->applied = lines;
    if (changed != 0)
        update(m->cpu, changed, lines);
}

/* CSRs by number, whatever the privilege level. */
static int access_riscv(emu_uc_machine *m, const emu_uc_reg *reg, uint64_t *value, bool write)
{
    int (*csr)(void *env, int number, uint64_t *old, uint64_t value, uint64_t mask) =
        (int (*)(void *, int, uint64_t *, uint64_t, uint64_t))emu_uc_symbol(m->isa, "riscv_csrrw_debug");
    if (reg->id != EMU_UC_SYSTEM || csr == NULL)
        return -1;
    uint64_t old = 0;
    if (csr(m->env, (int)reg->code[0], &old, *value, write ? UINT64_MAX : 0) < 0)
        return -1;
    if (!write)
        *value = old;
    return 0;
}

const struct isa emu_uc_riscv64 = {
    .isa = EMU_ISA_RISCV64,
    .suffix = "riscv64",
    .arch = UC_ARCH_RISCV,
    .mode = UC_MODE_RISCV64,
    .model = UC_CPU_RISCV64_SIFIVE_U54,
    .pc = UC_RISCV_REG_PC,
    .do_interrupt = "riscv_cpu_do_interrupt",
    .exec_interrupt = "riscv_cpu_exec_interrupt",
    .translate = "riscv_cpu_get_phys_page_debug",
    .space = UINT64_C(1) << 50,
    .tlb_modes = 4,
    .tlb_wide = true,
    .tlb_notdirty = 0x400,
    .reset = reset_riscv,
    .exception = exception_riscv,
    .lines = lines_riscv,
    .access = access_riscv,
};
