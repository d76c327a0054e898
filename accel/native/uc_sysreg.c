/*
 * System registers of AArch64 that a device of the board's serves: the CPU
 * interface of a GICv3.
 *
 * Private path: descriptions of our own are given to the library, whose
 * translator then calls our functions.  Public path: such an instruction is
 * undefined to the library, and done when it says so; registers that it has are
 * seen by its hook on MSR and MRS.
 */
#include "uc_sysreg.h"

#include "uc_patch.h"

#include <stdlib.h>

/* ---- descriptions ------------------------------------------------------------------ */

static _Thread_local uint8_t *described;
static uint8_t *(*describe[2])(void *registers, uint32_t key);
static bool watching;

static uint8_t *describe_64(void *registers, uint32_t key) { return described = describe[0](registers, key); }
static uint8_t *describe_32(void *registers, uint32_t key) { return described = describe[1](registers, key); }

static void watch(void)
{
    void *wide = emu_uc_replace(uc_lib.handle, "get_arm_cp_reginfo_aarch64", (void *)describe_64);
    void *narrow = emu_uc_replace(uc_lib.handle, "get_arm_cp_reginfo_arm", (void *)describe_32);
    memcpy(&describe[0], &wide, sizeof wide);
    memcpy(&describe[1], &narrow, sizeof narrow);
    watching = wide != NULL && narrow != NULL;
}

uint8_t *emu_uc_describe(emu_uc_machine *m, int reg, void *cp)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch);
    if (!watching || !is_private(m))
        return NULL;
    described = NULL;
    uc_reg_read(m->uc, reg, cp);
    return described;
}

/* ---- a GICv3's ----------------------------------------------------------------------- */

struct name { /* op1 CRn CRm op2; op0 is 3 */
    uint8_t op1, crn, crm, op2;
};

static const struct name served[] = {
    {0, 4, 6, 0},   {0, 12, 8, 0},  {0, 12, 8, 1},  {0, 12, 8, 2},  {0, 12, 8, 3},  {0, 12, 8, 4},  {0, 12, 9, 0},
    {0, 12, 11, 1}, {0, 12, 11, 3}, {0, 12, 11, 5}, {0, 12, 11, 6}, {0, 12, 11, 7}, {0, 12, 12, 0}, {0, 12, 12, 1},
    {0, 12, 12, 2}, {0, 12, 12, 3}, {0, 12, 12, 4}, {0, 12, 12, 5}, {0, 12, 12, 6}, {0, 12, 12, 7}, {4, 12, 9, 5},
    {4, 12, 11, 0}, {4, 12, 11, 1}, {4, 12, 11, 7}, /* ICH_HCR, ICH_VTR, ICH_VMCR: read as 0, take no writes */
};

static uint32_t code_of(const uint8_t *info)
{
    const uint8_t *c = info + INFO_CODE; /* cp crn crm op0 op1 op2 */
    return 3u << 14 | (uint32_t)c[4] << 11 | (uint32_t)c[1] << 7 | (uint32_t)c[2] << 3 | c[5];
}

static uint64_t read_register(void *env, const void *info)
{
    emu_uc_machine *m = emu_uc_running;
    uint64_t value = 0;
    if (m != NULL && m->system_read != NULL)
        m->system_read(m->system_opaque, code_of(info), &value);
    return value;
}

static void write_register(void *env, const void *info, uint64_t value)
{
    emu_uc_machine *m = emu_uc_running;
    if (m != NULL && m->system_write != NULL)
        m->system_write(m->system_opaque, code_of(info), value);
}

/* ID_AA64PFR0_EL1.GIC: the CPU interface has system registers. */
static uint64_t read_features(void *env, const void *info)
{
    return load64((const uint8_t *)info + INFO_RESET);
}

static bool define(emu_uc_machine *m)
{
    typedef void define_fn(void *cpu, const void *info, void *opaque);
    define_fn *add = (define_fn *)emu_uc_symbol(m->isa, "define_one_arm_cp_reg_with_opaque");
    uint64_t (*read)(void *, const void *) = read_register, (*features)(void *, const void *) = read_features;
    void (*write)(void *, const void *, uint64_t) = write_register;
    uc_arm64_cp_reg pfr0 = {.op0 = 3, .op1 = 0, .crn = 0, .crm = 4, .op2 = 0};
    uint8_t *known = emu_uc_describe(m, UC_ARM64_REG_CP_REG, &pfr0);
    if (add == NULL || known == NULL)
        return false;
    store64(known + INFO_RESET, (pfr0.val & ~(UINT64_C(15) << 24)) | UINT64_C(1) << 24);
    if (load64(known + INFO_READ) != 0)
        memcpy(known + INFO_READ, &features, sizeof features);
    for (size_t i = 0; i < sizeof served / sizeof *served; i++) {
        static const char name[] = "GICv3";
        uint8_t info[INFO_SIZE] = {0};
        uint64_t at = (uint64_t)(uintptr_t)name;
        store64(info + INFO_NAME, at);
        info[INFO_CODE + 1] = served[i].crn;
        info[INFO_CODE + 2] = served[i].crm;
        info[INFO_CODE + 3] = 3;
        info[INFO_CODE + 4] = served[i].op1;
        info[INFO_CODE + 5] = served[i].op2;
        store32(info + INFO_STATE, 1);
        store32(info + INFO_TYPE, INFO_NO_RAW);
        store32(info + INFO_ACCESS, served[i].op1 == 4 ? 0xf0 : 0xfc);
        memcpy(info + INFO_READ, &read, sizeof read);
        memcpy(info + INFO_WRITE, &write, sizeof write);
        add(m->cpu, info, NULL);
    }
    /* ICC_SRE_EL1 answers now, if all is as described */
    uc_arm64_cp_reg sre = {.op0 = 3, .op1 = 0, .crn = 12, .crm = 12, .op2 = 5};
    uint8_t *ours = emu_uc_describe(m, UC_ARM64_REG_CP_REG, &sre);
    return ours != NULL && load64(ours + INFO_READ) == (uint64_t)(uintptr_t)read;
}

int emu_uc_machine_system(emu_uc_machine *m, emu_sysreg_read_fn read, emu_sysreg_write_fn write, void *opaque)
{
    m->system_read = read;
    m->system_write = write;
    m->system_opaque = opaque;
    if (m->isa->isa != EMU_ISA_AARCH64)
        return -1;
    return is_private(m) && !define(m) ? -1 : 0;
}

/* ---- the public path -------------------------------------------------------------- */

static bool is_served(const emu_uc_machine *m, const uc_arm64_cp_reg *cp)
{
    if (m->system_read == NULL || cp->op0 != 3)
        return false;
    for (size_t i = 0; i < sizeof served / sizeof *served; i++)
        if (served[i].op1 == cp->op1 && served[i].crn == cp->crn && served[i].crm == cp->crm &&
            served[i].op2 == cp->op2)
            return true;
    return false;
}

static uint32_t code_of_cp(const uc_arm64_cp_reg *cp)
{
    return cp->op0 << 14 | cp->op1 << 11 | cp->crn << 7 | cp->crm << 3 | cp->op2;
}

/* ID_AA64PFR0_EL1, with what the board's controller adds. */
static bool is_features(const emu_uc_machine *m, const uc_arm64_cp_reg *cp)
{
    return m->system_read != NULL && cp->op0 == 3 && cp->op1 == 0 && cp->crn == 0 && cp->crm == 4 && cp->op2 == 0;
}

/* The hooks' answer is whether the instruction has been done. */
static uint32_t on_mrs(uc_engine *uc, uc_arm64_reg reg, const uc_arm64_cp_reg *cp, void *opaque)
{
    emu_uc_machine *m = opaque;
    uint64_t value = 0;
    if (cp->op0 == 3 && cp->op1 == 3 && cp->crn == 14 && emu_uc_timers_access(m, cp->crm, cp->op2, &value, false))
        ;
    else if (is_features(m, cp)) {
        uc_arm64_cp_reg known = *cp;
        uc_reg_read(uc, UC_ARM64_REG_CP_REG, &known);
        value = (known.val & ~(UINT64_C(15) << 24)) | UINT64_C(1) << 24;
    } else
        return 0;
    uc_reg_write(uc, (int)reg, &value);
    return 1;
}

static uint32_t on_msr(uc_engine *uc, uc_arm64_reg reg, const uc_arm64_cp_reg *cp, void *opaque)
{
    emu_uc_machine *m = opaque;
    uint64_t value = cp->val;
    return cp->op0 == 3 && cp->op1 == 3 && cp->crn == 14 &&
           emu_uc_timers_access(m, cp->crm, cp->op2, &value, true);
}

bool emu_uc_do_system(emu_uc_machine *m, uint32_t instruction, uint32_t level)
{
    if ((instruction & 0xffd00000) != 0xd5100000) /* MSR and MRS, op0 2 or 3 */
        return false;
    uc_arm64_cp_reg cp = {
        .op0 = 2 + (instruction >> 19 & 1),
        .op1 = instruction >> 16 & 7,
        .crn = instruction >> 12 & 15,
        .crm = instruction >> 8 & 15,
        .op2 = instruction >> 5 & 7,
    };
    uint32_t rt = instruction & 31;
    int reg = rt < 29 ? UC_ARM64_REG_X0 + (int)rt : rt == 29 ? UC_ARM64_REG_X29 : UC_ARM64_REG_X30;
    uint64_t value = 0;
    if (!is_served(m, &cp) || level < (cp.op1 == 4 ? 2u : 1u))
        return false;
    if (instruction >> 21 & 1) {
        m->system_read(m->system_opaque, code_of_cp(&cp), &value);
        if (rt != 31)
            uc_reg_write(m->uc, reg, &value);
    } else {
        if (rt != 31)
            uc_reg_read(m->uc, reg, &value);
        m->system_write(m->system_opaque, code_of_cp(&cp), value);
    }
    return true;
}

bool emu_uc_watch_system(emu_uc_machine *m)
{
    uc_hook hook;
    return uc_hook_add(m->uc, &hook, UC_HOOK_INSN, (void *)on_mrs, m, 1, 0, UC_ARM64_INS_MRS) == UC_ERR_OK &&
           uc_hook_add(m->uc, &hook, UC_HOOK_INSN, (void *)on_msr, m, 1, 0, UC_ARM64_INS_MSR) == UC_ERR_OK;
}
