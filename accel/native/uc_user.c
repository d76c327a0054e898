/*
 * The user-mode engine over Unicorn: any of its ISAs, no guest MMU.
 *
 * Unicorn's physical memory is the guest's whole address space as one block, so
 * virtual is physical is host minus base.  Its TLB is software
 * (UC_TLB_VIRTUAL) and filled from memory->rights(), which is what makes it
 * fast: with the guest's MMU off every page would count as executable, and
 * stores to such pages stay on a slow path for ever.
 */
#include "uc_user.h"

#include <dlfcn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "uc_atomic.h"

#define TLB_FIRST 256       /* entries that the TLB begins with ... */
#define TLB_LAST (1u << 19) /* ... and where growing it ends */

/* ---- hooks ------------------------------------------------------------------------- */

static void stop_with(emu_engine *engine, int32_t kind)
{
    if (engine->seen == 0)
        engine->seen = kind;
    uc_emu_stop(engine->uc);
}

/*
 * Before this hook Unicorn 2.1.4 sets the CPU's state back to the instruction's
 * beginning, IT bits included; in a block they are a part of the translation,
 * and left set they make the next block's first instruction conditional.
 */
static void clear_it(emu_engine *engine)
{
    const uint32_t it = 0x0600fc00, thumb = 0x20;
    uint32_t cpsr = (uint32_t)reg_read(engine, UC_ARM_REG_CPSR);
    if ((cpsr & thumb) != 0 && (cpsr & it) != 0)
        reg_write(engine, UC_ARM_REG_CPSR, cpsr & ~it);
}

static bool on_fill(uc_engine *uc, uint64_t vaddr, uc_mem_type type, uc_tlb_entry *result, void *opaque)
{
    emu_engine *engine = opaque;
    uint64_t page = vaddr & ~(PAGE - 1);
    if (page == engine->forgotten) { /* the entry is replaced or flushed by whoever forgets */
        result->paddr = page;
        result->perms = UC_PROT_EXEC;
        return true;
    }
    if (engine->prepares && page == engine->memory.size) {
        result->paddr = page;
        result->perms = UC_PROT_READ | UC_PROT_EXEC;
        return true;
    }
    uint32_t want = type == UC_MEM_FETCH ? EMU_RIGHT_X : type == UC_MEM_WRITE ? EMU_RIGHT_W : EMU_RIGHT_R;
    uint32_t rights = page < engine->memory.size && !engine->prepares ? engine->memory.rights(engine->memory.opaque, page) : 0;
    if ((rights & want) == 0 || (want == EMU_RIGHT_X && !uc_user_code_add(engine, page))) {
        engine->fault_page = page;
        engine->fault_access = want;
        return false;
    }
    /* The TLB grows at flushes only, by how full it was. */
    if (++engine->fills == engine->next_flush && engine->next_flush <= TLB_LAST) {
        engine->next_flush *= 2;
        uc_ctl_flush_tlb(uc);
    }
    if (engine->isa == EMU_ISA_ARM && want != EMU_RIGHT_X)
        clear_it(engine);
    if (engine->isa == EMU_ISA_X86_64 && (rights & EMU_RIGHT_W) != 0 && (rights & EMU_RIGHT_X) != 0 &&
        engine->memory.several != NULL && engine->memory.several(engine->memory.opaque)) {
        /* No instruction says when code is new: so a page is either written or executed, and going over tells. */
        if (want != EMU_RIGHT_R)
            engine->memory.code(engine->memory.opaque, page, PAGE, want == EMU_RIGHT_W);
        rights = want == EMU_RIGHT_R ? EMU_RIGHT_R : EMU_RIGHT_R | want;
    }
    if ((rights & EMU_RIGHT_W) != 0 && want != EMU_RIGHT_X)
        uc_user_code_drop(engine, page);
    /* A page that was only read so far: its first fetch has to come here. */
    if (want != EMU_RIGHT_X && (rights & EMU_RIGHT_X) && !uc_user_code_known(engine, page))
        rights &= ~(uint32_t)EMU_RIGHT_X;
    result->paddr = page;
    result->perms = (rights & EMU_RIGHT_R ? UC_PROT_READ : 0) | (rights & EMU_RIGHT_W ? UC_PROT_WRITE : 0) |
                    (rights & EMU_RIGHT_X ? UC_PROT_EXEC : 0);
    return true;
}

/* Exception numbers of the four targets: QEMU's EXCP_* for ARM, mcause for RISC-V, vectors for x86. */
static int32_t kind_of_trap(uint32_t isa, uint32_t trap)
{
    switch (isa) {
    case EMU_ISA_AARCH64:
    case EMU_ISA_ARM:
        switch (trap) {
        case 2:
            return EMU_STOP_SYSCALL;
        case 4:
            return EMU_STOP_ALIGN;
        case 3:
        case 7:
            return EMU_STOP_BREAK;
        default:
            return EMU_STOP_ILLEGAL;
        }
    case EMU_ISA_RISCV64:
        switch (trap) {
        case 8:
        case 11:
            return EMU_STOP_SYSCALL;
        case 3:
            return EMU_STOP_BREAK;
        case 0:
        case 4:
        case 6:
            return EMU_STOP_ALIGN;
        default:
            return EMU_STOP_ILLEGAL;
        }
    default:
        switch (trap) {
        case 0:
        case 16:
        case 19:
            return EMU_STOP_ARITH;
        case 1:
        case 3:
            return EMU_STOP_BREAK;
        case 6:
            return EMU_STOP_ILLEGAL;
        case 17:
            return EMU_STOP_ALIGN;
        default:
            return EMU_STOP_FAULT; /* #GP and all that a kernel turns into SIGSEGV */
        }
    }
}

static void on_trap(uc_engine *uc, uint32_t number, void *opaque)
{
    emu_engine *engine = opaque;
    engine->trap = number;
    engine->fault_page = UINT64_MAX;
    engine->fault_access = 0;
    stop_with(engine, kind_of_trap(engine->isa, number));
}

/* IN and OUT: the library knows no I/O permission.  It has synchronized the pc. */
static void on_port(emu_engine *engine)
{
    engine->trap_pc = reg_read(engine, UC_X86_REG_RIP);
    on_trap(engine->uc, 13, engine);
}

static uint32_t on_in(uc_engine *uc, uint32_t port, int size, void *opaque)
{
    on_port(opaque);
    return 0;
}

static void on_out(uc_engine *uc, uint32_t port, int size, uint32_t value, void *opaque)
{
    on_port(opaque);
}

static bool on_invalid(uc_engine *uc, void *opaque)
{
    emu_engine *engine = opaque;
    engine->seen = EMU_STOP_ILLEGAL;
    engine->trap = UINT32_MAX; /* no trap: pc has not moved */
    return false;
}

static void on_syscall(uc_engine *uc, void *opaque)
{
    stop_with(opaque, EMU_STOP_SYSCALL);
}


/*
 * A64 system instructions.  IC IVAU says that code at an address is new, which
 * matters where it was written through another one: the library cannot know.
 */
static uint32_t on_system(uc_engine *uc, uc_arm64_reg reg, const uc_arm64_cp_reg *cp_reg, void *opaque)
{
    emu_engine *engine = opaque;
    if (cp_reg->op0 == 1 && cp_reg->op1 == 3 && cp_reg->crn == 7 && cp_reg->crm == 5 && cp_reg->op2 == 1) {
        uint64_t page = cp_reg->val & ~(PAGE - 1);
        if (uc_user_code_known(engine, page)) {
            uc_user_before_change(engine, page, PAGE);
            uc_user_after_change(engine, page, PAGE);
        }
        if (engine->memory.several != NULL && engine->memory.several(engine->memory.opaque))
            engine->memory.code(engine->memory.opaque, page, PAGE, 1);
    }
    return 0;
}

/* Where libunicorn's own functions could not be replaced: stops happen here, at a block's start. */
static void on_block(uc_engine *uc, uint64_t address, uint32_t size, void *opaque)
{
    emu_engine *engine = opaque;
    if (engine->kicked)
        uc_emu_stop(uc);
}

/* ---- life ----------------------------------------------------------------------------- */

static void system_write(emu_engine *engine, uint32_t op1, uint32_t crn, uint32_t crm, uint32_t op2, uint64_t value)
{
    uc_arm64_cp_reg reg = {.op0 = 3, .op1 = op1, .crn = crn, .crm = crm, .op2 = op2, .val = value};
    uc_reg_write(engine->uc, UC_ARM64_REG_CP_REG, &reg);
}

static void prepare_aarch64(emu_engine *engine)
{
    /* SCTLR_EL1: DZE, UCT, nTWI, nTWE, UCI: what EL0 may do by itself (Arm ARM D19.2.125). */
    uc_arm64_cp_reg sctlr = {.op0 = 3, .op1 = 0, .crn = 1, .crm = 0, .op2 = 0};
    uc_reg_read(engine->uc, UC_ARM64_REG_CP_REG, &sctlr);
    system_write(engine, 0, 1, 0, 0, sctlr.val | 1 << 14 | 1 << 15 | 1 << 16 | 1 << 18 | 1 << 26);
    system_write(engine, 0, 14, 1, 0, 2);      /* CNTKCTL_EL1.EL0VCTEN: the virtual counter */
    reg_write(engine, UC_ARM64_REG_PSTATE, 0); /* EL0 */
    /* CPACR_EL1.FPEN: no trap of FP and SIMD; last, for only such a write renews the cached flags. */
    system_write(engine, 0, 1, 0, 2, 3 << 20);
}

static void prepare_arm(emu_engine *engine)
{
    /* CPACR: cp10 and cp11 for all; then FPEXC.EN. */
    uc_arm_cp_reg cpacr = {.cp = 15, .crn = 1, .crm = 0, .opc1 = 0, .opc2 = 2, .val = 0xfu << 20};
    uc_reg_write(engine->uc, UC_ARM_REG_CP_REG, &cpacr);
    uint32_t fpexc = 1u << 30, cpsr = 0x10; /* user mode */
    uc_reg_write(engine->uc, UC_ARM_REG_FPEXC, &fpexc);
    uc_reg_write(engine->uc, UC_ARM_REG_CPSR, &cpsr);
}

static void prepare_riscv64(emu_engine *engine)
{
    reg_write(engine, UC_RISCV_REG_MSTATUS, 1u << 13); /* FS: initial */
    reg_write(engine, UC_RISCV_REG_MCOUNTEREN, 7);     /* cycle, time, instret */
    reg_write(engine, UC_RISCV_REG_SCOUNTEREN, 7);
    reg_write(engine, UC_RISCV_REG_PRIV, 0); /* U */
}

/*
 * CPL 3 comes only from an instruction: one SYSRET, on a page behind the guest's
 * memory, into a fetch that fails (Intel SDM vol. 2, SYSRET).
 */
static void prepare_x86_64(emu_engine *engine)
{
    uc_engine *uc = engine->uc;
    /* CR0: MP and NE on, EM off; CR4: OSFXSR and OSXMMEXCPT, for SSE. */
    reg_write(engine, UC_X86_REG_CR0, (reg_read(engine, UC_X86_REG_CR0) | 1 << 0 | 1 << 1 | 1 << 5) & ~UINT64_C(4));
    reg_write(engine, UC_X86_REG_CR4, reg_read(engine, UC_X86_REG_CR4) | 1 << 9 | 1 << 10);
    uc_x86_msr efer = {.rid = 0xc0000080}, star = {.rid = 0xc0000081};
    uc_reg_read(uc, UC_X86_REG_MSR, &efer);
    efer.value |= 1; /* SCE */
    uc_reg_write(uc, UC_X86_REG_MSR, &efer);
    star.value = UINT64_C(0x23) << 48; /* CS 0x33, SS 0x2b, as Linux has them */
    uc_reg_write(uc, UC_X86_REG_MSR, &star);

    void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return;
    memcpy(page, "\x48\x0f\x07", 3); /* sysretq */
    if (uc_mem_map_ptr(uc, engine->memory.size, PAGE, UC_PROT_ALL, page) == UC_ERR_OK) {
        reg_write(engine, UC_X86_REG_RCX, 0);
        reg_write(engine, UC_X86_REG_R11, 0x202);
        engine->prepares = true;
        (void)uc_emu_start(uc, engine->memory.size, 0, 0, 0);
        engine->prepares = false;
        uc_ctl_remove_cache(uc, engine->memory.size, engine->memory.size + PAGE);
        uc_mem_unmap(uc, engine->memory.size, PAGE);
        uc_ctl_flush_tlb(uc);
    }
    munmap(page, PAGE);
}

/* What Linux's kernel sets up before user code runs. */
static void prepare(emu_engine *engine)
{
    switch (engine->isa) {
    case EMU_ISA_AARCH64:
        prepare_aarch64(engine);
        break;
    case EMU_ISA_ARM:
        prepare_arm(engine);
        break;
    case EMU_ISA_RISCV64:
        prepare_riscv64(engine);
        break;
    default:
        prepare_x86_64(engine);
        break;
    }
}

static uc_err add_hooks(emu_engine *engine)
{
    uc_engine *uc = engine->uc;
    uc_hook hook;
    /* begin > end: everywhere */
    uc_err err = uc_hook_add(uc, &hook, UC_HOOK_TLB_FILL, (void *)on_fill, engine, 1, 0);
    if (err == UC_ERR_OK)
        err = uc_hook_add(uc, &hook, UC_HOOK_INTR, (void *)on_trap, engine, 1, 0);
    if (err == UC_ERR_OK)
        err = uc_hook_add(uc, &hook, UC_HOOK_INSN_INVALID, (void *)on_invalid, engine, 1, 0);
    if (err == UC_ERR_OK && engine->isa == EMU_ISA_X86_64)
        err = uc_hook_add(uc, &hook, UC_HOOK_INSN, (void *)on_syscall, engine, 1, 0, UC_X86_INS_SYSCALL);
    if (err == UC_ERR_OK && engine->isa == EMU_ISA_X86_64)
        err = uc_hook_add(uc, &hook, UC_HOOK_INSN, (void *)on_in, engine, 1, 0, UC_X86_INS_IN);
    if (err == UC_ERR_OK && engine->isa == EMU_ISA_X86_64)
        err = uc_hook_add(uc, &hook, UC_HOOK_INSN, (void *)on_out, engine, 1, 0, UC_X86_INS_OUT);
    if (err == UC_ERR_OK && engine->isa == EMU_ISA_AARCH64)
        err = uc_hook_add(uc, &hook, UC_HOOK_INSN, (void *)on_system, engine, 1, 0, UC_ARM64_INS_SYS);
    return err;
}

static bool writable(void *opaque, uint64_t addr)
{
    const emu_user_memory *memory = opaque;
    return addr < memory->size && (memory->rights(memory->opaque, addr) & EMU_RIGHT_W) != 0;
}

static void user_close(emu_engine *engine)
{
    if (engine->uc != NULL)
        uc_close(engine->uc);
    free(engine->code);
    free(engine);
}

static emu_engine *user_open(uint32_t isa, const emu_user_memory *memory, char *text, size_t size)
{
    if (isa < EMU_ISA_AARCH64 || isa > EMU_ISA_X86_64) {
        snprintf(text, size, "no such ISA: %u", isa);
        return NULL;
    }
    if (emu_uc_library_now(text, size) != 0)
        return NULL;
    emu_engine *engine = calloc(1, sizeof *engine);
    if (engine == NULL) {
        snprintf(text, size, "no memory");
        return NULL;
    }
    engine->isa = isa;
    engine->memory = *memory;
    engine->next_flush = TLB_FIRST;
    engine->forgotten = UINT64_MAX;
    const struct layout *layout = layout_of(engine);
    /* Where guest addresses are host addresses, the first of them are nobody's, and NULL is no pointer to map. */
    uint64_t first = memory->base == NULL ? 16 * PAGE : 0;
    (void)uc_interpose(); /* where it fails the start below notices */
    uc_atomic(isa);
    uc_err err = uc_open(layout->arch, layout->mode, &engine->uc);
    if (err == UC_ERR_OK) {
        if (isa == EMU_ISA_AARCH64)
            err = uc_ctl_set_cpu_model(engine->uc, UC_CPU_ARM64_MAX);
        else if (isa == EMU_ISA_ARM)
            err = uc_ctl_set_cpu_model(engine->uc, UC_CPU_ARM_MAX);
        else if (isa == EMU_ISA_X86_64)
            err = uc_ctl_set_cpu_model(engine->uc, UC_CPU_X86_NEHALEM);
    }
    if (err == UC_ERR_OK && (isa == EMU_ISA_AARCH64 || isa == EMU_ISA_ARM))
        err = uc_ctl_set_page_size(engine->uc, PAGE);
    if (err == UC_ERR_OK)
        err = uc_ctl_exits_enable(engine->uc);
    if (err == UC_ERR_OK)
        err = uc_mem_map_ptr(engine->uc, first, memory->size - first, UC_PROT_ALL, memory->base + first);
    if (err == UC_ERR_OK)
        err = uc_ctl_tlb_mode(engine->uc, UC_TLB_VIRTUAL);
    if (err == UC_ERR_OK)
        err = add_hooks(engine);
    if (err != UC_ERR_OK) {
        snprintf(text, size, "unicorn: %s", uc_strerror(err));
        user_close(engine);
        return NULL;
    }
    prepare(engine);
    char name[64];
    snprintf(name, sizeof name, "tlb_flush_page_%s", layout->suffix);
    void *function = dlsym(uc_lib.handle, name);
    memcpy(&engine->flush_page, &function, sizeof function);
    snprintf(name, sizeof name, "cpu_loop_exit_%s", layout->suffix);
    function = dlsym(uc_lib.handle, name);
    memcpy(&engine->shared.loop_exit, &function, sizeof function);

    /* One start that fails at once: are our functions in place? */
    engine->prepares = true;
    engine->shared.uc = engine->uc;
    engine->shared.kicked = &engine->kicked;
    engine->shared.writable = writable;
    engine->shared.opaque = &engine->memory;
    uc_interposed_now = &engine->shared;
    (void)uc_emu_start(engine->uc, 0, 0, 0, 0);
    uc_interposed_now = NULL;
    engine->prepares = false;
    uc_user_find_registers(engine);
    engine->interposed = engine->shared.entered != 0 && uc_interpose() == 0;
    if (!engine->interposed) {
        uc_hook hook;
        err = uc_hook_add(engine->uc, &hook, UC_HOOK_BLOCK, (void *)on_block, engine, 1, 0);
        if (err != UC_ERR_OK) {
            snprintf(text, size, "unicorn: %s", uc_strerror(err));
            user_close(engine);
            return NULL;
        }
    }
    return engine;
}

/* ---- running --------------------------------------------------------------------------- */

static void take_syscall(emu_engine *engine, emu_stop *stop)
{
    const struct layout *layout = layout_of(engine);
    if (engine->at.pc != NULL) {
        stop->nr = load_word(engine, engine->at.nr);
        for (int i = 0; i < 6; i++)
            stop->args[i] = load_word(engine, engine->at.args[i]);
    } else {
        uint64_t values[7] = {0};
        int regs[7] = {layout->nr};
        void *places[7];
        memcpy(regs + 1, layout->args, sizeof layout->args);
        for (int i = 0; i < 7; i++)
            places[i] = &values[i];
        uc_reg_read_batch(engine->uc, regs, places, 7);
        stop->nr = values[0];
        memcpy(stop->args, values + 1, sizeof stop->args);
    }
    if (engine->isa == EMU_ISA_X86_64) {
        /* The instruction's own effect: RCX = next RIP, R11 = RFLAGS. */
        reg_write(engine, UC_X86_REG_RCX, engine->pc);
        reg_write(engine, UC_X86_REG_R11, reg_read(engine, UC_X86_REG_EFLAGS));
    }
}

static int finish(emu_engine *engine, emu_stop *stop, int32_t kind)
{
    stop->kind = kind;
    stop->pc = engine->pc;
    switch (kind) {
    case EMU_STOP_SYSCALL:
        take_syscall(engine, stop);
        break;
    case EMU_STOP_FAULT:
        stop->access = engine->fault_access;
        stop->addr = engine->fault_page;
        if (engine->interposed && (engine->shared.fault & ~(PAGE - 1)) == engine->fault_page)
            stop->addr = engine->shared.fault;
        /* Addresses that are not canonical are #GP, not #PF (Intel SDM vol. 1, 3.3.7.1). */
        if (engine->isa == EMU_ISA_X86_64 && (stop->addr + (UINT64_C(1) << 47)) >> 48 != 0)
            stop->access = 0;
        break;
    default:
        stop->addr = engine->pc;
        break;
    }
    if (engine->tracer.begun)
        uc_user_trace_stop(engine, kind);
    return kind;
}

/* Instruction bytes at an address, as far as they may be executed; returns how many. */
static size_t peek_code(emu_engine *engine, uint64_t at, uint8_t *out, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        uint64_t addr = at + i;
        if (addr >= engine->memory.size || !(engine->memory.rights(engine->memory.opaque, addr) & EMU_RIGHT_X))
            return i;
        out[i] = engine->memory.base[addr];
    }
    return size;
}

static void set_pc(emu_engine *engine, uint64_t pc)
{
    engine->pc = pc;
    reg_write(engine, layout_of(engine)->pc, pc);
}

/*
 * A second fault in a row becomes a double fault and a third one a shutdown in
 * the library, because no kernel took the first; so the instruction itself says
 * what happened (Intel SDM vol. 3, 6.15).
 */
static int32_t kind_of_x86_fault(emu_engine *engine, int32_t kind)
{
    uint8_t code[15];
    if (engine->trap_pc != UINT64_MAX) {
        set_pc(engine, engine->trap_pc);
        return EMU_STOP_FAULT;
    }
    /* INT n and INT3 leave the pc behind themselves; of the gates only INT3's is open to CPL 3. */
    if (engine->trap < 256 && peek_code(engine, engine->pc - 2, code, 2) == 2) {
        if (code[0] == 0xcd && code[1] == engine->trap) {
            set_pc(engine, engine->pc - 2);
            return EMU_STOP_FAULT;
        }
        if (code[1] == 0xcc && engine->trap == 3) {
            set_pc(engine, engine->pc - 1);
            return EMU_STOP_BREAK;
        }
    }
    size_t size = peek_code(engine, engine->pc, code, sizeof code), at = 0;
    while (at < size && (code[at] == 0x66 || code[at] == 0x67 || code[at] == 0xf2 || code[at] == 0xf3 ||
                         (code[at] & 0xe7) == 0x26 || (code[at] & 0xfe) == 0x64))
        at++;
    if (at < size && (code[at] & 0xf0) == 0x40)
        at++;
    /* DIV and IDIV */
    if (at + 1 < size && (code[at] == 0xf6 || code[at] == 0xf7) && (code[at + 1] >> 3 & 7) >= 6)
        return EMU_STOP_ARITH;
    return kind;
}

/*
 * What the library calls illegal on RISC-V and is not: EBREAK, and reading the
 * time, for which it wants a platform's clock.  0: done, go on.
 */
static int32_t kind_of_riscv_illegal(emu_engine *engine)
{
    uint8_t code[4];
    uint32_t word = 0;
    size_t size = peek_code(engine, engine->pc, code, sizeof code);
    memcpy(&word, code, size);
    if ((size >= 2 && (word & 0xffff) == 0x9002) || word == 0x00100073)
        return EMU_STOP_BREAK;
    if (size == 4 && (word & 0xfffff07f) == 0xc0102073) { /* rdtime rd */
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        unsigned rd = word >> 7 & 31;
        if (rd != 0) /* a timebase of 10 MHz, as on QEMU's virt machine */
            reg_write(engine, UC_RISCV_REG_X0 + (int)rd, (uint64_t)now.tv_sec * 10000000 + (uint64_t)now.tv_nsec / 100);
        engine->pc += 4;
        return 0;
    }
    return EMU_STOP_ILLEGAL;
}

/*
 * Ends blocks behind the instruction at pc, whatever its length, or no longer.
 * A block that the library cannot translate is run instruction by instruction
 * up to the one to blame.
 */
static void step_blocks(emu_engine *engine, bool on)
{
    uint64_t exits[15];
    size_t count = 0;
    if (on)
        for (uint64_t length = 1; length <= 15; length++)
            if (engine->isa == EMU_ISA_X86_64 || length == 2 || length == 4)
                exits[count++] = engine->pc + length;
    uc_ctl_set_exits(engine->uc, exits, count);
    engine->stepping = on;
}

/* Runs until it stops; count 1: one instruction, and 0 if nothing else stopped it. */
static int go(emu_engine *engine, emu_stop *stop, size_t count)
{
    uint8_t *stepper = count != 0 ? engine->stepper : NULL;
    for (;;) {
        stop->text[0] = 0;
        stop->access = 0;
        stop->addr = 0;
        if (engine->kicked) {
            engine->kicked = 0;
            return finish(engine, stop, EMU_STOP_KICK);
        }
        if (engine->told[0] != 0 || engine->told[1] != 0)
            uc_user_trace_less(engine);
        engine->seen = 0;
        engine->trap = UINT32_MAX;
        engine->trap_pc = UINT64_MAX;
        uc_interposed_now = &engine->shared;
        engine->running = 1;
        atomic_signal_fence(memory_order_seq_cst);
        if (stepper != NULL)
            emu_uc_step_begin(stepper);
        uc_err err = uc_emu_start(engine->uc, uc_user_start_address(engine), 0, 0, stepper != NULL ? 0 : count);
        if (stepper != NULL)
            emu_uc_step_end(stepper);
        atomic_signal_fence(memory_order_seq_cst);
        engine->running = 0;
        uc_interposed_now = NULL;
        engine->pc = uc_user_read_pc(engine);

        int32_t kind = engine->seen;
        bool stepped = engine->stepping, aborted = engine->shared.aborted != 0;
        engine->shared.aborted = 0;
        if (stepped)
            step_blocks(engine, false);
        if (aborted && kind == 0) {
            if (!stepped) {
                step_blocks(engine, true);
                continue;
            }
            kind = EMU_STOP_ILLEGAL;
        } else if (kind == 0) {
            switch (err) {
            case UC_ERR_OK:
                if (count != 0) {
                    stop->pc = engine->pc;
                    return 0;
                }
                /* Our own stop, or an instruction that waits for an interrupt: no kernel lets it wait. */
                if (engine->isa == EMU_ISA_X86_64 && !engine->kicked && !stepped) {
                    engine->fault_page = UINT64_MAX;
                    engine->fault_access = 0;
                    kind = EMU_STOP_FAULT; /* HLT, or a third fault: see below */
                    break;
                }
                continue;
            case UC_ERR_INSN_INVALID:
                kind = EMU_STOP_ILLEGAL;
                break;
            case UC_ERR_EXCEPTION:
            case UC_ERR_READ_PROT:
            case UC_ERR_WRITE_PROT:
            case UC_ERR_FETCH_PROT:
            case UC_ERR_READ_UNMAPPED:
            case UC_ERR_WRITE_UNMAPPED:
            case UC_ERR_FETCH_UNMAPPED:
                kind = EMU_STOP_FAULT;
                break;
            default:
                snprintf(stop->text, sizeof stop->text, "unicorn: %s", uc_strerror(err));
                kind = EMU_STOP_ERROR;
                break;
            }
        } else if (engine->isa == EMU_ISA_RISCV64 && kind != EMU_STOP_SYSCALL && engine->trap != UINT32_MAX) {
            set_pc(engine, engine->pc - 4); /* the library adds it for every exception that it tells */
        }
        if (engine->isa == EMU_ISA_X86_64 && engine->fault_page == UINT64_MAX &&
            (kind == EMU_STOP_FAULT || kind == EMU_STOP_ARITH || kind == EMU_STOP_BREAK))
            kind = kind_of_x86_fault(engine, kind);
        if (engine->isa == EMU_ISA_RISCV64 && kind == EMU_STOP_ILLEGAL) {
            kind = kind_of_riscv_illegal(engine);
            if (kind == 0)
                continue;
        }
        return finish(engine, stop, kind);
    }
}

static int user_run(emu_engine *engine, emu_stop *stop)
{
    return go(engine, stop, 0);
}

static int user_step(emu_engine *engine, emu_stop *stop)
{
    engine->kicked = 0;
    return go(engine, stop, 1);
}

static void user_kick(emu_engine *engine)
{
    engine->kicked = 1;
    atomic_thread_fence(memory_order_seq_cst);
    if (engine->running && engine->interposed)
        uc_emu_stop(engine->uc);
}

static void user_result(emu_engine *engine, uint64_t value)
{
    if (engine->at.pc != NULL && engine->isa == EMU_ISA_ARM)
        store32(engine->at.result, (uint32_t)value);
    else if (engine->at.pc != NULL)
        store64(engine->at.result, value);
    else
        reg_write(engine, layout_of(engine)->result, value);
}

static const emu_engine_ops ops = {
    .name = "unicorn",
    .open = user_open,
    .close = user_close,
    .run = user_run,
    .step = user_step,
    .result = user_result,
    .save = uc_user_save,
    .load = uc_user_load,
    .before_change = uc_user_before_change,
    .after_change = uc_user_after_change,
    .kick = user_kick,
    .hwcap = uc_user_hwcap,
    .trace = uc_user_trace,
};

const emu_engine_ops *emu_uc_user(void)
{
    return &ops;
}
