/* Registers of the user-mode engine over Unicorn: where they are, and a guest thread's state. */
#include "uc_user.h"

#include <string.h>

#define RUN8(first) (first), (first) + 1, (first) + 2, (first) + 3, (first) + 4, (first) + 5, (first) + 6, (first) + 7

const struct layout uc_layouts[] = {
    [EMU_ISA_AARCH64] =
        {.suffix = "aarch64",
         .arch = UC_ARCH_ARM64,
         .mode = UC_MODE_ARM,
         .general = {RUN8(UC_ARM64_REG_X0), RUN8(UC_ARM64_REG_X8), RUN8(UC_ARM64_REG_X16),
                     UC_ARM64_REG_X24, UC_ARM64_REG_X25, UC_ARM64_REG_X26, UC_ARM64_REG_X27,
                     UC_ARM64_REG_X28, UC_ARM64_REG_X29, UC_ARM64_REG_X30, UC_ARM64_REG_SP},
         .generals = 32,
         .pc = UC_ARM64_REG_PC,
         .vector = UC_ARM64_REG_Q0,
         .vectors = 32,
         .nr = UC_ARM64_REG_X8,
         .args = {UC_ARM64_REG_X0, UC_ARM64_REG_X1, UC_ARM64_REG_X2, UC_ARM64_REG_X3, UC_ARM64_REG_X4,
                  UC_ARM64_REG_X5},
         .result = UC_ARM64_REG_X0},
    [EMU_ISA_ARM] =
        {.suffix = "arm",
         .arch = UC_ARCH_ARM,
         .mode = UC_MODE_ARM,
         .general = {RUN8(UC_ARM_REG_R0), UC_ARM_REG_R8, UC_ARM_REG_R9, UC_ARM_REG_R10, UC_ARM_REG_R11,
                     UC_ARM_REG_R12, UC_ARM_REG_SP, UC_ARM_REG_LR},
         .generals = 15,
         .pc = UC_ARM_REG_PC,
         .vector = UC_ARM_REG_D0,
         .vectors = 32,
         .nr = UC_ARM_REG_R7,
         .args = {UC_ARM_REG_R0, UC_ARM_REG_R1, UC_ARM_REG_R2, UC_ARM_REG_R3, UC_ARM_REG_R4, UC_ARM_REG_R5},
         .result = UC_ARM_REG_R0},
    [EMU_ISA_RISCV64] =
        {.suffix = "riscv64",
         .arch = UC_ARCH_RISCV,
         .mode = UC_MODE_RISCV64,
         .general = {RUN8(UC_RISCV_REG_X0), RUN8(UC_RISCV_REG_X8), RUN8(UC_RISCV_REG_X16),
                     RUN8(UC_RISCV_REG_X24)},
         .generals = 32,
         .pc = UC_RISCV_REG_PC,
         .vector = UC_RISCV_REG_F0,
         .vectors = 32,
         .nr = UC_RISCV_REG_X17,
         .args = {UC_RISCV_REG_X10, UC_RISCV_REG_X11, UC_RISCV_REG_X12, UC_RISCV_REG_X13, UC_RISCV_REG_X14,
                  UC_RISCV_REG_X15},
         .result = UC_RISCV_REG_X10},
    [EMU_ISA_X86_64] =
        {.suffix = "x86_64",
         .arch = UC_ARCH_X86,
         .mode = UC_MODE_64,
         .general = {UC_X86_REG_RAX, UC_X86_REG_RCX, UC_X86_REG_RDX, UC_X86_REG_RBX, UC_X86_REG_RSP,
                     UC_X86_REG_RBP, UC_X86_REG_RSI, UC_X86_REG_RDI, RUN8(UC_X86_REG_R8)},
         .generals = 16,
         .pc = UC_X86_REG_RIP,
         .vector = UC_X86_REG_XMM0,
         .vectors = 16,
         .nr = UC_X86_REG_RAX,
         .args = {UC_X86_REG_RDI, UC_X86_REG_RSI, UC_X86_REG_RDX, UC_X86_REG_R10, UC_X86_REG_R8,
                  UC_X86_REG_R9},
         .result = UC_X86_REG_RAX},
};

/* The place in the CPU's state that follows a register twice; NULL: none, or more than one. */
static uint8_t *find_register(emu_engine *engine, uint8_t *env, int reg)
{
    enum { ENOUGH = 0x400 }; /* of env: all of them come early */
    const uint64_t marks[2] = {UINT64_C(0x5a17c3e1964c), UINT64_C(0x2b08d5f37a14)}; /* good for a pc, too */
    size_t width = engine->isa == EMU_ISA_ARM ? 4 : 8;
    uint64_t mask = width == 4 ? UINT32_MAX : UINT64_MAX;
    uint8_t *found = NULL;
    reg_write(engine, reg, marks[0]);
    for (size_t at = 0; at < ENOUGH; at += width) {
        if (load_word(engine, env + at) != (marks[0] & mask))
            continue;
        if (found != NULL)
            return NULL;
        found = env + at;
    }
    reg_write(engine, reg, marks[1]);
    if (found != NULL && load_word(engine, found) != (marks[1] & mask))
        found = NULL;
    reg_write(engine, reg, 0);
    return found;
}

/* Behind the instruction of a step. */
static void stepped(void *cpu)
{
    uc_emu_stop(load_pointer((uint8_t *)cpu + CPU_UC));
}

void uc_user_find_registers(emu_engine *engine)
{
    const struct layout *layout = layout_of(engine);
    uint8_t *cpu = uc_cpu(engine->uc, layout->arch);
    if (cpu == NULL)
        return;
    uint8_t *env = load_pointer(cpu + CPU_ENV);
    bool all = (engine->at.result = find_register(engine, env, layout->result)) != NULL;
    all &= (engine->at.nr = find_register(engine, env, layout->nr)) != NULL;
    for (int i = 0; i < 6; i++)
        all &= (engine->at.args[i] = find_register(engine, env, layout->args[i])) != NULL;
    uint8_t *pc = find_register(engine, env, layout->pc);
    engine->at.pc = all ? pc : NULL;
    engine->stepper = emu_uc_can_step(cpu, stepped) ? cpu : NULL;
}

/* ---- the pc ----------------------------------------------------------------------------- */

uint64_t uc_user_read_pc(emu_engine *engine)
{
    if (engine->at.pc != NULL)
        return load_word(engine, engine->at.pc);
    uint64_t pc = reg_read(engine, layout_of(engine)->pc);
    return engine->isa == EMU_ISA_ARM ? pc & UINT32_MAX : pc;
}

/* What uc_emu_start wants: for AArch32 bit 0 says Thumb. */
uint64_t uc_user_start_address(emu_engine *engine)
{
    if (engine->isa == EMU_ISA_ARM)
        return engine->pc | (reg_read(engine, UC_ARM_REG_CPSR) >> 5 & 1);
    return engine->pc;
}

/* ---- state ------------------------------------------------------------------------------ */

enum { FXSAVE_FCW = 0, FXSAVE_FSW = 2, FXSAVE_FTW = 4, FXSAVE_ST0 = 32 };

static void save_x87(emu_engine *engine, uint8_t *image)
{
    uint16_t fcw = (uint16_t)reg_read(engine, UC_X86_REG_FPCW);
    uint16_t fsw = (uint16_t)reg_read(engine, UC_X86_REG_FPSW);
    uint16_t tags = (uint16_t)reg_read(engine, UC_X86_REG_FPTAG);
    memset(image, 0, 160);
    memcpy(image + FXSAVE_FCW, &fcw, 2);
    memcpy(image + FXSAVE_FSW, &fsw, 2);
    for (unsigned i = 0; i < 8; i++) /* two bits each, 3 = empty; FXSAVE has one, 1 = not empty */
        if ((tags >> (2 * i) & 3) != 3)
            image[FXSAVE_FTW] |= (uint8_t)(1u << i);
    for (int i = 0; i < 8; i++)
        uc_reg_read(engine->uc, UC_X86_REG_ST0 + i, image + FXSAVE_ST0 + 16 * i);
}

static void load_x87(emu_engine *engine, const uint8_t *image)
{
    uint16_t fcw, fsw, tags = 0;
    memcpy(&fcw, image + FXSAVE_FCW, 2);
    memcpy(&fsw, image + FXSAVE_FSW, 2);
    for (unsigned i = 0; i < 8; i++)
        if ((image[FXSAVE_FTW] >> i & 1) == 0)
            tags |= (uint16_t)(3u << (2 * i));
    reg_write(engine, UC_X86_REG_FPCW, fcw);
    reg_write(engine, UC_X86_REG_FPSW, fsw); /* before the registers: ST is relative to its TOP */
    for (int i = 0; i < 8; i++) {
        uint8_t copy[16];
        memcpy(copy, image + FXSAVE_ST0 + 16 * i, sizeof copy);
        uc_reg_write(engine->uc, UC_X86_REG_ST0 + i, copy);
    }
    reg_write(engine, UC_X86_REG_FPTAG, tags);
}

void uc_user_save(emu_engine *engine, emu_cpu_state *state)
{
    const struct layout *layout = layout_of(engine);
    memset(state, 0, sizeof *state);
    int regs[32];
    void *places[32];
    for (int i = 0; i < layout->generals; i++) {
        regs[i] = layout->general[i];
        places[i] = &state->r[i];
    }
    uc_reg_read_batch(engine->uc, regs, places, layout->generals);
    state->pc = engine->pc;
    for (int i = 0; i < layout->vectors; i++) {
        regs[i] = layout->vector + i;
        /* arm: the double-word registers d0-d31 are 16 pairs */
        places[i] = engine->isa == EMU_ISA_ARM ? &state->v[i / 2][i % 2] : &state->v[i][0];
    }
    uc_reg_read_batch(engine->uc, regs, places, layout->vectors);
    switch (engine->isa) {
    case EMU_ISA_AARCH64:
        state->flags = reg_read(engine, UC_ARM64_REG_NZCV) & 0xf0000000u;
        state->tls[0] = reg_read(engine, UC_ARM64_REG_TPIDR_EL0);
        state->fpcr = reg_read(engine, UC_ARM64_REG_FPCR);
        state->fpsr = reg_read(engine, UC_ARM64_REG_FPSR);
        break;
    case EMU_ISA_ARM: {
        uc_arm_cp_reg tls = tpidruro();
        state->flags = reg_read(engine, UC_ARM_REG_CPSR) & UINT32_MAX;
        uc_reg_read(engine->uc, UC_ARM_REG_CP_REG, &tls);
        state->tls[0] = tls.val & UINT32_MAX;
        state->fpcr = reg_read(engine, UC_ARM_REG_FPSCR) & UINT32_MAX;
        break;
    }
    case EMU_ISA_RISCV64:
        state->fpcr = reg_read(engine, UC_RISCV_REG_FCSR);
        break;
    default:
        state->flags = reg_read(engine, UC_X86_REG_EFLAGS) & UINT32_MAX;
        state->tls[0] = reg_read(engine, UC_X86_REG_FS_BASE);
        state->tls[1] = reg_read(engine, UC_X86_REG_GS_BASE);
        state->fpcr = reg_read(engine, UC_X86_REG_MXCSR) & UINT32_MAX;
        save_x87(engine, state->x87);
        break;
    }
}

void uc_user_load(emu_engine *engine, const emu_cpu_state *state)
{
    const struct layout *layout = layout_of(engine);
    emu_cpu_state copy = *state; /* the library takes pointers to non-const */
    int regs[32];
    void *places[32];
    if (engine->isa == EMU_ISA_ARM) {
        /* First: it selects the register bank and the instruction set. */
        uint32_t cpsr = (uint32_t)(state->flags & 0xf80f0020u) | 0x10;
        uc_reg_write(engine->uc, UC_ARM_REG_CPSR, &cpsr);
    }
    for (int i = 0; i < layout->generals; i++) {
        regs[i] = layout->general[i];
        places[i] = &copy.r[i];
    }
    uc_reg_write_batch(engine->uc, regs, places, layout->generals);
    for (int i = 0; i < layout->vectors; i++) {
        regs[i] = layout->vector + i;
        places[i] = engine->isa == EMU_ISA_ARM ? &copy.v[i / 2][i % 2] : &copy.v[i][0];
    }
    uc_reg_write_batch(engine->uc, regs, places, layout->vectors);
    switch (engine->isa) {
    case EMU_ISA_AARCH64:
        reg_write(engine, UC_ARM64_REG_NZCV, state->flags & 0xf0000000u);
        reg_write(engine, UC_ARM64_REG_TPIDR_EL0, state->tls[0]);
        reg_write(engine, UC_ARM64_REG_FPCR, state->fpcr);
        reg_write(engine, UC_ARM64_REG_FPSR, state->fpsr);
        break;
    case EMU_ISA_ARM: {
        uc_arm_cp_reg tls = tpidruro();
        tls.val = state->tls[0] & UINT32_MAX;
        uc_reg_write(engine->uc, UC_ARM_REG_CP_REG, &tls);
        uint32_t fpscr = (uint32_t)state->fpcr;
        uc_reg_write(engine->uc, UC_ARM_REG_FPSCR, &fpscr);
        break;
    }
    case EMU_ISA_RISCV64:
        reg_write(engine, UC_RISCV_REG_FCSR, state->fpcr);
        break;
    default:
        /* User code changes neither IF nor IOPL; IF reads as one. */
        reg_write(engine, UC_X86_REG_EFLAGS, (state->flags & 0x240dd5) | 0x202);
        reg_write(engine, UC_X86_REG_FS_BASE, state->tls[0]);
        reg_write(engine, UC_X86_REG_GS_BASE, state->tls[1]);
        uint32_t mxcsr = (uint32_t)state->fpcr & 0xffff;
        uc_reg_write(engine->uc, UC_X86_REG_MXCSR, &mxcsr);
        load_x87(engine, state->x87);
        break;
    }
    engine->pc = engine->isa == EMU_ISA_ARM ? state->pc & UINT32_MAX & ~UINT64_C(1) : state->pc;
    reg_write(engine, layout->pc, uc_user_start_address(engine));
}
