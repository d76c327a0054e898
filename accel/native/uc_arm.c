/*
 * AArch64 and AArch32 machines: reset state, exceptions, interrupts, and the
 * firmware calls of PSCI (Arm DEN 0022), which a board without firmware of its
 * own expects of what runs it.
 *
 * Exceptions reach a hook that must take them.  Private path: the library's own
 * arm_cpu_do_interrupt.  Public path (aarch64): the run ends and the exception
 * is taken between runs with declared calls only; the syndrome, which has no
 * declared name, is looked up in a saved context at the place where calibrate()
 * found it.
 */
#include "uc_machine.h"
#include "uc_patch.h"

#include <dlfcn.h>
#include <stdlib.h>

/* Exception numbers of the library's ARM targets. */
enum {
    EXCP_UDEF = 1,
    EXCP_SWI = 2,
    EXCP_PREFETCH_ABORT = 3,
    EXCP_DATA_ABORT = 4,
    EXCP_BKPT = 7,
    EXCP_HVC = 11,
    EXCP_SMC = 13,
};

enum { LINE_IRQ = 1, LINE_FIQ = 2 };

/* ---- PSCI ---------------------------------------------------------------- */

enum {
    PSCI_VERSION = 0x84000000,
    PSCI_CPU_SUSPEND = 0x84000001,
    PSCI_CPU_OFF = 0x84000002,
    PSCI_CPU_ON = 0x84000003,
    PSCI_AFFINITY_INFO = 0x84000004,
    PSCI_MIGRATE_INFO_TYPE = 0x84000006,
    PSCI_SYSTEM_OFF = 0x84000008,
    PSCI_SYSTEM_RESET = 0x84000009,
    PSCI_FEATURES = 0x8400000a,
    PSCI_64BIT = 0x40000000, /* the same call with 64-bit arguments */
};

static int64_t psci(emu_uc_machine *m, uint32_t function, uint64_t argument)
{
    switch (function & ~(uint32_t)PSCI_64BIT) {
    case PSCI_VERSION:
        return 0x10000;
    case PSCI_FEATURES:
        switch ((uint32_t)argument & ~(uint32_t)PSCI_64BIT) {
        case PSCI_VERSION:
        case PSCI_CPU_SUSPEND:
        case PSCI_CPU_OFF:
        case PSCI_CPU_ON:
        case PSCI_AFFINITY_INFO:
        case PSCI_MIGRATE_INFO_TYPE:
        case PSCI_SYSTEM_OFF:
        case PSCI_SYSTEM_RESET:
        case PSCI_FEATURES:
            return 0;
        }
        return -1;
    case PSCI_MIGRATE_INFO_TYPE:
        return 2; /* nothing to migrate */
    case PSCI_AFFINITY_INFO:
        return (argument & 0xff00ffffff) == 0 ? 0 : -2; /* on; no such CPU */
    case PSCI_CPU_ON:
        return (argument & 0xff00ffffff) == 0 ? -4 : -2; /* is on already */
    case PSCI_CPU_SUSPEND:
        emu_uc_end(m, EMU_EXIT_HALT, NULL);
        return 0;
    case PSCI_CPU_OFF:
    case PSCI_SYSTEM_OFF: /* the last CPU */
        emu_uc_end(m, EMU_EXIT_SHUTDOWN, NULL);
        return 0;
    case PSCI_SYSTEM_RESET:
        emu_uc_end(m, EMU_EXIT_RESET, NULL);
        return 0;
    }
    return -1; /* not supported */
}

/* Firmware stands above the levels that the guest was started with. */
static bool calls_firmware(const emu_uc_machine *m, uint32_t number)
{
    if (number == EXCP_HVC)
        return m->config.level < 2;
    return number == EXCP_SMC && m->config.level < 3;
}

/* In place of arm_is_psci_call: lets HVC and SMC be instructions where the CPU has no such level. */
static bool is_psci_call(void *cpu, int number)
{
    return emu_uc_running != NULL && calls_firmware(emu_uc_running, (uint32_t)number);
}

static void firmware(emu_uc_machine *m)
{
    bool wide = m->isa->isa == EMU_ISA_AARCH64;
    int first = wide ? UC_ARM64_REG_X0 : UC_ARM_REG_R0, second = wide ? UC_ARM64_REG_X1 : UC_ARM_REG_R1;
    uint64_t function = 0, argument = 0;
    uc_reg_read(m->uc, first, &function);
    uc_reg_read(m->uc, second, &argument);
    int64_t result = psci(m, (uint32_t)function, argument);
    uc_reg_write(m->uc, first, &result);
}

/* ---- whether floating point is on ------------------------------------------------ */

/*
 * In place of fp_exception_el, which the library has answer 0 (never trapped):
 * the exception level that takes the trap by CPACR (Arm ARM, D13.2.29).
 */
static int fp_exception_el(void *env, int level)
{
    emu_uc_machine *m = emu_uc_running;
    if (m == NULL || m->env != env || m->cpacr_at == 0 || level > 1)
        return 0;
    uint64_t enable = load64(m->env + m->cpacr_at) >> 20 & 3;
    return enable == 3 || (enable == 1 && level == 1) ? 0 : 1;
}

static void replace(void)
{
    emu_uc_replace(uc_lib.handle, "arm_is_psci_call_aarch64", (void *)is_psci_call);
    emu_uc_replace(uc_lib.handle, "arm_is_psci_call_arm", (void *)is_psci_call);
    emu_uc_replace(uc_lib.handle, "fp_exception_el_aarch64", (void *)fp_exception_el);
    emu_uc_replace(uc_lib.handle, "fp_exception_el_arm", (void *)fp_exception_el);
}

/* Finds where CPACR is kept, by changing it; `write` does so. */
static void find_cpacr(emu_uc_machine *m, int (*write)(emu_uc_machine *m, uint64_t value))
{
    static const uint64_t values[] = {0x300000, 0x100000, 0x300000};
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    enum { SIZE = 0x3000 };
    uint8_t candidate[SIZE / 8];
    size_t found = 0, at = 0;
    pthread_once(&once, replace);
    memset(candidate, 1, sizeof candidate);
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        if (write(m, values[i]) != 0)
            return;
        for (size_t j = 0; j < SIZE / 8; j++)
            candidate[j] = candidate[j] && load64(m->env + 8 * j) == values[i];
    }
    for (size_t j = 0; j < SIZE / 8; j++)
        if (candidate[j]) {
            found++;
            at = 8 * j;
        }
    m->cpacr_at = found == 1 ? at : 0;
    write(m, 0);
}

/* What the translator must know depends on registers that were set between runs. */
static void enter_arm(emu_uc_machine *m)
{
    void (*rebuild)(void *env) = (void (*)(void *))emu_uc_symbol(m->isa, "arm_rebuild_hflags");
    if (is_private(m) && rebuild != NULL)
        rebuild(m->env);
}

/* ---- AArch64 --------------------------------------------------------------- */

struct cp { /* op0 op1 CRn CRm op2 */
    uint8_t op0, op1, crn, crm, op2;
};

static uint64_t get(emu_uc_machine *m, struct cp r)
{
    uc_arm64_cp_reg cp = {.op0 = r.op0, .op1 = r.op1, .crn = r.crn, .crm = r.crm, .op2 = r.op2};
    return uc_reg_read(m->uc, UC_ARM64_REG_CP_REG, &cp) == UC_ERR_OK ? cp.val : 0;
}

static int put(emu_uc_machine *m, struct cp r, uint64_t value)
{
    uc_arm64_cp_reg cp = {
        .op0 = r.op0, .op1 = r.op1, .crn = r.crn, .crm = r.crm, .op2 = r.op2, .val = value};
    return uc_reg_write(m->uc, UC_ARM64_REG_CP_REG, &cp) == UC_ERR_OK ? 0 : -1;
}

static const struct cp SCR_EL3 = {3, 6, 1, 1, 0}, HCR_EL2 = {3, 4, 1, 1, 0}, CPACR_EL1 = {3, 0, 1, 0, 2},
                       CPTR_EL2 = {3, 4, 1, 1, 2}, CPTR_EL3 = {3, 6, 1, 1, 2}, CNTFRQ_EL0 = {3, 3, 14, 0, 0},
                       CNTHCTL_EL2 = {3, 4, 14, 1, 0};
/* SP_EL0, SP_EL1, SP_EL2 */
static const struct cp SP_ELx[] = {{3, 0, 4, 1, 0}, {3, 4, 4, 1, 0}, {3, 6, 4, 1, 0}};

/* Writing PSTATE alone would leave the stack pointer and the cached flags of the old state. */
static void set_pstate(emu_uc_machine *m, uint64_t pstate)
{
    uint64_t old = 0, sp = 0;
    uc_reg_read(m->uc, UC_ARM64_REG_PSTATE, &old);
    uc_reg_read(m->uc, UC_ARM64_REG_SP, &sp);
    uint64_t from = (old & 1) ? old >> 2 & 3 : 0, to = (pstate & 1) ? pstate >> 2 & 3 : 0;
    uc_reg_write(m->uc, UC_ARM64_REG_PSTATE, &pstate);
    if (from != to && from < 3 && to < 3) {
        put(m, SP_ELx[from], sp);
        sp = get(m, SP_ELx[to]);
        uc_reg_write(m->uc, UC_ARM64_REG_SP, &sp);
    }
    put(m, SP_ELx[1], get(m, SP_ELx[1])); /* rebuilds the flags */
}

static int write_cpacr64(emu_uc_machine *m, uint64_t value) { return put(m, CPACR_EL1, value); }

static int reset_aarch64(emu_uc_machine *m, const emu_uc_config *config)
{
    uint32_t level = config->level == 0 ? 1 : config->level;
    if (level > 3)
        return -1;
    m->config.level = level;
    if (is_private(m)) {
        void (*reset)(void *) = (void (*)(void *))dlsym(uc_lib.handle, "cpu_reset");
        if (reset == NULL)
            return -1;
        reset(m->cpu);
        find_cpacr(m, write_cpacr64);
    } else if (!emu_uc_watch_system(m)) {
        return -1;
    }
    emu_uc_timers_new(m);
    /* As firmware leaves a non-secure CPU: NS, RW, HCE, and SMD clear so that SMC reaches us. */
    int failed = 0;
    if (level < 3)
        failed |= put(m, SCR_EL3, 0x531);
    if (level < 2)
        failed |= put(m, HCR_EL2, UINT64_C(1) << 31);
    failed |= put(m, CPACR_EL1, 0) | put(m, CPTR_EL2, 0) | put(m, CPTR_EL3, 0);
    failed |= put(m, CNTFRQ_EL0, 62500000) | put(m, CNTHCTL_EL2, 3);
    set_pstate(m, 0x3c1 | level << 2);
    return failed;
}

static void calibrate(void);

/*
 * Without EMU_UC_ALIASES: IC IALLU, IALLUIS and IVAU, which the library takes for
 * nothing.  A page that has not run since the last flush has no translations: a
 * kernel that patches itself in tens of thousands of places needs few flushes.
 */
static uint32_t on_system(uc_engine *uc, uc_arm64_reg reg, const uc_arm64_cp_reg *cp, void *opaque)
{
    emu_uc_machine *m = opaque;
    uint64_t page = cp->val / 4096 % EMU_UC_SEEN;
    bool one = cp->crm == 5 && cp->op1 == 3, all = (cp->crm == 5 || cp->crm == 1) && cp->op1 == 0;
    if (one && !(m->features & EMU_UC_DOORBELL) && !(m->seen[page / 64] >> page % 64 & 1))
        return 0;
    if (cp->crn == 7 && (one || all)) {
        atomic_store(&m->flush, 1);
        emu_uc_ring(m);
    }
    return 0;
}

static int reset_calibrated(emu_uc_machine *m, const emu_uc_config *config)
{
    uc_hook hook;
    if (!is_private(m))
        calibrate();
    if (!(m->features & EMU_UC_ALIASES) &&
        uc_hook_add(m->uc, &hook, UC_HOOK_INSN, (void *)on_system, m, 1, 0, UC_ARM64_INS_SYS) != UC_ERR_OK)
        return -1;
    return reset_aarch64(m, config);
}

/* ---- the public path ------------------------------------------------------- */

/* Where a saved context holds exception.syndrome; vaddress is 8 further, target_el 16.  0: not known. */
static size_t syndrome_at;

struct calibration {
    uc_context *context;
    size_t found;
};

#define CALIBRATION_SVC 0x5a3c

static void on_calibration(uc_engine *uc, uint32_t number, void *opaque)
{
    struct calibration *c = opaque;
    if (number == EXCP_SWI && uc_context_save(uc, c->context) == UC_ERR_OK) {
        const uint8_t *bytes = (const uint8_t *)c->context;
        uint32_t expected = 0x15u << 26 | 1u << 25 | CALIBRATION_SVC;
        for (size_t at = 0; at < 8192; at += 4)
            if (load32(bytes + at) == expected) {
                c->found = at;
                break;
            }
    }
    uc_emu_stop(uc);
}

/* Runs one SVC of a known number and finds its syndrome. */
static void calibrate(void)
{
    if (syndrome_at != 0)
        return;
    uc_engine *uc;
    struct calibration c = {0};
    uint32_t code = 0xd4000001 | CALIBRATION_SVC << 5;
    uc_hook hook;
    if (uc_open(UC_ARCH_ARM64, UC_MODE_ARM, &uc) != UC_ERR_OK)
        return;
    if (uc_mem_map(uc, 0x10000, 4096, UC_PROT_ALL) == UC_ERR_OK &&
        uc_mem_write(uc, 0x10000, &code, sizeof code) == UC_ERR_OK &&
        uc_hook_add(uc, &hook, UC_HOOK_INTR, (void *)on_calibration, &c, 1, 0) == UC_ERR_OK &&
        uc_context_alloc(uc, &c.context) == UC_ERR_OK) {
        uc_emu_start(uc, 0x10000, 0, 0, 0);
        syndrome_at = c.found;
        uc_context_free(c.context);
    }
    uc_close(uc);
}

struct level { /* registers of one exception level */
    struct cp vbar, elr, spsr, esr, far;
};
static const struct level levels[] = {
    [1] = {{3, 0, 12, 0, 0}, {3, 0, 4, 0, 1}, {3, 0, 4, 0, 0}, {3, 0, 5, 2, 0}, {3, 0, 6, 0, 0}},
    [2] = {{3, 4, 12, 0, 0}, {3, 4, 4, 0, 1}, {3, 4, 4, 0, 0}, {3, 4, 5, 2, 0}, {3, 4, 6, 0, 0}},
    [3] = {{3, 6, 12, 0, 0}, {3, 6, 4, 0, 1}, {3, 6, 4, 0, 0}, {3, 6, 5, 2, 0}, {3, 6, 6, 0, 0}},
};

/* Exception entry (Arm ARM, D1.10): `offset` within a group of four vectors. */
static void enter(emu_uc_machine *m, uint32_t target, uint64_t offset)
{
    const struct level *level = &levels[target];
    uint64_t pstate = 0;
    uc_reg_read(m->uc, UC_ARM64_REG_PSTATE, &pstate);
    uint64_t vector = get(m, level->vbar) + offset;
    if ((pstate >> 2 & 3) < target)
        vector += (pstate & 0x10) ? 0x600 : 0x400;
    else if (pstate & 1)
        vector += 0x200;
    put(m, level->elr, emu_uc_pc(m));
    set_pstate(m, (pstate & 0xf0000000) | 0x3c1 | target << 2);
    uc_reg_write(m->uc, UC_ARM64_REG_PC, &vector);
    put(m, level->spsr, pstate); /* last: this write rebuilds the flags */
}

/* An instruction that the board knows though the library does not. */
static bool do_undefined(emu_uc_machine *m)
{
    uint64_t pc = emu_uc_pc(m), pstate = 0;
    uint32_t instruction = 0;
    uc_reg_read(m->uc, UC_ARM64_REG_PSTATE, &pstate);
    if (m->system_read == NULL || uc_vmem_read(m->uc, pc, UC_PROT_EXEC, &instruction, 4) != UC_ERR_OK ||
        !emu_uc_do_system(m, instruction, pstate >> 2 & 3))
        return false;
    pc += 4;
    uc_reg_write(m->uc, UC_ARM64_REG_PC, &pc);
    return true;
}

/* Of the interrupt that would be taken now; 0: none. */
static uint32_t vector_of(emu_uc_machine *m, uint64_t pstate)
{
    uint32_t lines = atomic_load(&m->lines);
    if ((lines & LINE_FIQ) && !(pstate & 0x40))
        return 0x100;
    return (lines & LINE_IRQ) && !(pstate & 0x80) ? 0x80 : 0;
}

static void deliver_aarch64(emu_uc_machine *m)
{
    if (is_private(m))
        return;
    if (m->pending != 0) {
        uint32_t number = m->pending, target = m->pending_target;
        m->pending = 0;
        if (number == EXCP_UDEF && do_undefined(m))
            return;
        put(m, levels[target].esr, m->pending_syndrome);
        if (number == EXCP_PREFETCH_ABORT || number == EXCP_DATA_ABORT)
            put(m, levels[target].far, m->pending_address);
        enter(m, target, 0);
    }
    uint64_t pstate = 0;
    uc_reg_read(m->uc, UC_ARM64_REG_PSTATE, &pstate);
    uint32_t level = pstate >> 2 & 3;
    if (level < m->config.level || level == 0 || m->config.level == 3)
        level = m->config.level;
    uint32_t offset = vector_of(m, pstate);
    if (offset != 0)
        enter(m, level, offset);
}

static bool takes_aarch64(emu_uc_machine *m)
{
    uint64_t pstate = 0;
    if (is_private(m))
        return false;
    uc_reg_read(m->uc, UC_ARM64_REG_PSTATE, &pstate);
    return vector_of(m, pstate) != 0;
}

/* Keeps what deliver_aarch64 needs; the registers are written there, outside the library's loop. */
static void keep_exception(emu_uc_machine *m, uint32_t number)
{
    uc_context *context = NULL;
    m->pending = number;
    m->pending_syndrome = 0x2000000; /* unknown reason */
    m->pending_target = m->config.level > 2 ? 1 : m->config.level;
    if (syndrome_at != 0 && uc_context_alloc(m->uc, &context) == UC_ERR_OK) {
        if (uc_context_save(m->uc, context) == UC_ERR_OK) {
            const uint8_t *at = (const uint8_t *)context + syndrome_at;
            m->pending_syndrome = load32(at);
            m->pending_address = load64(at + 8);
            uint32_t target = load32(at + 16);
            if (target >= 1 && target <= 3)
                m->pending_target = target;
        }
        uc_context_free(context);
    }
    m->left = true;
    uc_emu_stop(m->uc);
}

static void exception_arm(emu_uc_machine *m, uint32_t number, bool invalid)
{
    if (number == EXCP_BKPT && (m->config.flags & EMU_UC_BREAKPOINTS)) {
        emu_uc_end(m, EMU_EXIT_DEBUG, NULL);
    } else if (calls_firmware(m, number)) {
        firmware(m);
    } else if (is_private(m)) {
        m->do_interrupt(m->cpu);
    } else {
        keep_exception(m, number);
    }
}

static void lines_arm(emu_uc_machine *m)
{
    uint32_t lines = atomic_load(&m->lines);
    uint32_t request = load32(m->cpu + CPU_INTERRUPT_REQUEST) & ~(uint32_t)(REQUEST_HARD | REQUEST_FIQ);
    if (lines & LINE_IRQ)
        request |= REQUEST_HARD;
    if (lines & LINE_FIQ)
        request |= REQUEST_FIQ;
    store32(m->cpu + CPU_INTERRUPT_REQUEST, request);
}

/* The library writes a register that is a constant to the beginning of its state, where R0 and R1 are. */
static void keep_first(emu_uc_machine *m, uint64_t first)
{
    if (is_private(m))
        store64(m->env, first);
}

static int access_aarch64(emu_uc_machine *m, const emu_uc_reg *reg, uint64_t *value, bool write)
{
    if (reg->id == EMU_UC_STATUS) {
        if (write)
            set_pstate(m, *value);
        return uc_reg_read(m->uc, UC_ARM64_REG_PSTATE, value) == UC_ERR_OK ? 0 : -1;
    }
    if (reg->id != EMU_UC_SYSTEM)
        return -1;
    const uint32_t *c = reg->code;
    if (c[0] == 3 && c[1] == 3 && c[2] == 14 && emu_uc_timers_access(m, c[3], c[4], value, write))
        return 0;
    uint64_t pstate = 0;
    uc_reg_read(m->uc, UC_ARM64_REG_PSTATE, &pstate);
    uint64_t bank = (pstate & 1) ? pstate >> 2 & 3 : 0;
    if (bank < 3 && c[0] == SP_ELx[bank].op0 && c[1] == SP_ELx[bank].op1 && c[2] == 4 && c[3] == 1 && c[4] == 0) {
        /* the bank in use is the stack pointer itself */
        if (write)
            uc_reg_write(m->uc, UC_ARM64_REG_SP, value);
        return uc_reg_read(m->uc, UC_ARM64_REG_SP, value) == UC_ERR_OK ? 0 : -1;
    }
    uc_arm64_cp_reg cp = {.op0 = c[0], .op1 = c[1], .crn = c[2], .crm = c[3], .op2 = c[4], .val = *value};
    uint64_t first = is_private(m) ? load64(m->env) : 0;
    uc_err error = write ? uc_reg_write(m->uc, UC_ARM64_REG_CP_REG, &cp)
                         : uc_reg_read(m->uc, UC_ARM64_REG_CP_REG, &cp);
    keep_first(m, first);
    *value = cp.val;
    return error == UC_ERR_OK ? 0 : -1;
}

const struct isa emu_uc_aarch64 = {
    .isa = EMU_ISA_AARCH64,
    .suffix = "aarch64",
    .arch = UC_ARCH_ARM64,
    .mode = UC_MODE_ARM,
    .model = UC_CPU_ARM64_A53,
    .pc = UC_ARM64_REG_PC,
    .do_interrupt = "arm_cpu_do_interrupt",
    .exec_interrupt = "arm_cpu_exec_interrupt",
    .debug_handler = "arm_debug_excp_handler",
    .translate = "arm_cpu_get_phys_page_attrs_debug",
    .space = UINT64_C(1) << 44,
    .tlb_modes = 12,
    .tlb_wide = true,
    .tlb_notdirty = 0x100,
    .reset = reset_calibrated,
    .exception = exception_arm,
    .enter = enter_arm,
    .lines = lines_arm,
    .deliver = deliver_aarch64,
    .takes = takes_aarch64,
    .access = access_aarch64,
};

/* ---- AArch32 ------------------------------------------------------------------ */

static int write_cp15(emu_uc_machine *m, uint32_t crn, uint32_t crm, uint32_t opc2, bool secure, uint64_t value)
{
    uc_arm_cp_reg cp = {.cp = 15, .sec = secure, .crn = crn, .crm = crm, .opc2 = opc2, .val = value};
    return uc_reg_write(m->uc, UC_ARM_REG_CP_REG, &cp) == UC_ERR_OK ? 0 : -1;
}

static int write_cpacr32(emu_uc_machine *m, uint64_t value) { return write_cp15(m, 1, 0, 2, false, value); }

static int reset_arm(emu_uc_machine *m, const emu_uc_config *config)
{
    void (*reset)(void *) = (void (*)(void *))dlsym(uc_lib.handle, "cpu_reset");
    if (reset == NULL)
        return -1;
    m->config.level = 1;
    reset(m->cpu);
    find_cpacr(m, write_cpacr32);
    emu_uc_timers_new(m);
    /* As firmware leaves a non-secure CPU: NSACR lets it have VFP and NEON; NS, FW and AW of SCR. */
    write_cp15(m, 14, 0, 0, false, 62500000);
    write_cp15(m, 1, 1, 2, true, 0xc00);
    return write_cp15(m, 1, 1, 0, true, 0x31);
}

static int access_arm(emu_uc_machine *m, const emu_uc_reg *reg, uint64_t *value, bool write)
{
    if (reg->id != EMU_UC_SYSTEM)
        return -1;
    const uint32_t *c = reg->code;
    if (c[0] == 15 && c[1] == 0 && c[2] == 14 && emu_uc_timers_access(m, c[3], c[4], value, write))
        return 0;
    /* without `sec` the non-secure bank, where there are two */
    uc_arm_cp_reg cp = {
        .cp = c[0], .opc1 = c[1], .crn = c[2], .crm = c[3], .opc2 = c[4], .val = *value};
    uint64_t first = load64(m->env);
    uc_err error = write ? uc_reg_write(m->uc, UC_ARM_REG_CP_REG, &cp) : uc_reg_read(m->uc, UC_ARM_REG_CP_REG, &cp);
    keep_first(m, first);
    *value = cp.val;
    return error == UC_ERR_OK ? 0 : -1;
}

const struct isa emu_uc_arm = {
    .isa = EMU_ISA_ARM,
    .suffix = "arm",
    .arch = UC_ARCH_ARM,
    .mode = UC_MODE_ARM,
    .model = UC_CPU_ARM_CORTEX_A15,
    .pc = UC_ARM_REG_PC,
    .do_interrupt = "arm_cpu_do_interrupt",
    .exec_interrupt = "arm_cpu_exec_interrupt",
    .debug_handler = "arm_debug_excp_handler",
    .translate = "arm_cpu_get_phys_page_attrs_debug",
    .space = UINT64_C(1) << 40,
    .tlb_modes = 12,
    .tlb_wide = false,
    .tlb_notdirty = 0x100,
    .reset = reset_arm,
    .exception = exception_arm,
    .enter = enter_arm,
    .lines = lines_arm,
    .access = access_arm,
};
