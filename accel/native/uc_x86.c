/*
 * x86-64 machines: reset state, segments, exceptions, INTR and NMI, ports, and
 * SYSCALL, which the library leaves to a hook.
 *
 * Port accesses are functions that the library calls through its linkage table
 * (cpu_inb ...): replaced, they know where in generated code they were called
 * from, so that an access can fail exactly.
 */
#include "uc_machine.h"
#include "uc_patch.h"

#include <dlfcn.h>
#include <pthread.h>

enum {
    REQUEST_NMI = 0x200,
    REQUEST_EVENT = 0x8000, /* no target uses it: deliver machine->event */
    VECTOR_BREAKPOINT = 3,
    VECTOR_UNDEFINED = 6,
    VECTOR_PROTECTION = 13,
    EXCP_DOUBLE_FAULT = 8,
};

/* CPUX86State, in bytes; reset_x86 makes sure of them. */
enum {
    ENV_EIP = 0x80,
    ENV_EFLAGS = 0x88,
    ENV_HFLAGS = 0xb0,
    ENV_HFLAGS2 = 0xb4,
    ENV_SEGMENTS = 0xb8, /* ES CS SS DS FS GS LDT TR GDT IDT: selector, base, limit, flags */
    SEGMENT_SIZE = 24,
    SEGMENT_BASE = 8,
    SEGMENT_LIMIT = 16,
    SEGMENT_FLAGS = 20, /* as in the second word of a descriptor */
    ENV_CR0 = 0x1a8,
    ENV_XCR0 = 0x1328,
    ENV_ERROR_CODE = 0x1508, /* what x86_cpu_do_interrupt delivers, besides CPU_EXCEPTION */
    ENV_EXCEPTION_IS_INT = 0x150c,
    ENV_OLD_EXCEPTION = 0x1578, /* whose delivery is under way, -1 for none */
};
enum { CS = 1, SS = 2, DS = 3, ES = 0, FS = 4, GS = 5, TR = 7, GDT = 8, IDT = 9 };

/* hflags: what the translator must know of the CPU's state. */
enum {
    HF_INHIBIT_IRQ = 1 << 3,
    HF_CS32 = 1 << 4,
    HF_SS32 = 1 << 5,
    HF_ADDSEG = 1 << 6,
    HF_PE = 1 << 7,
    HF_MP_EM_TS = 7 << 9,
    HF_LMA = 1 << 14,
    HF_CS64 = 1 << 15,
    HF_OSFXSR = 1 << 22,
    HF_SMAP = 1 << 23,
    HF_TF_IOPL_VM = 1 << 8 | 3 << 12 | 1 << 17, /* the library adds them from eflags itself */
    HF_CPL = 3,
    HF2_NMI = 1 << 2,
};

static struct {
    int (*pending)(void *cpu, int request);
    void (*take)(void *env, int vector, int hardware);
    bool (*restore)(void *cpu, uintptr_t pc, bool will_exit);
    void (*check[3])(void *env, uint32_t port); /* byte, word, long */
    void (*out[3])(void *uc, uint32_t port, uint32_t value, uintptr_t pc);
    uint32_t (*in[3])(void *uc, uint32_t port, uintptr_t pc);
    void (*reset_request)(void *uc);
    void (*cpuid)(void *env, uint32_t leaf, uint32_t subleaf, uint32_t *a, uint32_t *b, uint32_t *c, uint32_t *d);
    uint64_t (*tsc)(void *env);
    void (*set_dr7)(void *env, uint32_t value);
    void (*intercept)(void *env, uint32_t type, uint64_t parameter, uintptr_t pc);
    void (*raise)(void *env, int vector, int error, uintptr_t pc);
    bool (*fill)(void *cpu, uint64_t address, int size, int access, int mode, bool probe, uintptr_t pc);
    void (*flush)(void *cpu);
    bool ready;
} x86;

/* ---- ports ----------------------------------------------------------------- */

static void end_port(emu_uc_machine *m, uintptr_t pc)
{
    m->raised = true;
    emu_uc_end(m, EMU_EXIT_RAISED, NULL);
    m->loop_exit_restore(m->cpu, pc);
}

/* The library ignores IOPL and the TSS's bitmap; this raises #GP where they say no. */
static void check_port(emu_uc_machine *m, uint32_t port, int shift, uintptr_t pc)
{
    uint32_t hflags = load32(m->env + ENV_HFLAGS), eflags = (uint32_t)load64(m->env + ENV_EFLAGS);
    if ((hflags & HF_PE) && ((hflags & HF_CPL) > (eflags >> 12 & 3) || (eflags & 1 << 17))) {
        x86.restore(m->cpu, pc, true);
        x86.check[shift](m->env, port);
    }
}

static uint32_t port_in(void *uc, uint32_t port, int shift, uintptr_t pc)
{
    emu_uc_machine *m = emu_uc_running;
    if (m == NULL)
        return x86.in[shift](uc, port, pc);
    check_port(m, port, shift, pc);
    uint64_t value = UINT32_MAX;
    if (m->ports != NULL && emu_space_read(m->ports, port & 0xffff, 1u << shift, &value) == EMU_RAISED)
        end_port(m, pc);
    return (uint32_t)value;
}

static void port_out(void *uc, uint32_t port, uint32_t value, int shift, uintptr_t pc)
{
    emu_uc_machine *m = emu_uc_running;
    if (m == NULL) {
        x86.out[shift](uc, port, value, pc);
        return;
    }
    check_port(m, port, shift, pc);
    if (m->ports != NULL && emu_space_write(m->ports, port & 0xffff, 1u << shift, value) == EMU_RAISED)
        end_port(m, pc);
}

static uint32_t in_byte(void *uc, uint32_t port, uintptr_t pc) { return port_in(uc, port, 0, pc) & 0xff; }
static uint32_t in_word(void *uc, uint32_t port, uintptr_t pc) { return port_in(uc, port, 1, pc) & 0xffff; }
static uint32_t in_long(void *uc, uint32_t port, uintptr_t pc) { return port_in(uc, port, 2, pc); }
static void out_byte(void *uc, uint32_t port, uint8_t v, uintptr_t pc) { port_out(uc, port, v, 0, pc); }
static void out_word(void *uc, uint32_t port, uint16_t v, uintptr_t pc) { port_out(uc, port, v, 1, pc); }
static void out_long(void *uc, uint32_t port, uint32_t v, uintptr_t pc) { port_out(uc, port, v, 2, pc); }

static uint64_t ticks(void)
{
#ifdef __x86_64__
    return __builtin_ia32_rdtsc();
#else
    return emu_now();
#endif
}

/* In place of cpu_get_tsc. */
static uint64_t tsc(void *env)
{
    emu_uc_machine *m = emu_uc_running;
    return m != NULL ? ticks() + m->tsc_offset : x86.tsc(env);
}

/* In place of qemu_system_reset_request, which a triple fault calls. */
static void shut_down(void *uc)
{
    if (emu_uc_running != NULL)
        emu_uc_end(emu_uc_running, EMU_EXIT_SHUTDOWN, "triple fault");
    else
        x86.reset_request(uc);
}

/* ---- what a guest of two engines needs ---------------------------------------------- */

/* Of SVM's numbers for intercepted instructions (AMD APM vol. 2, appendix C), which the library asks with. */
enum { READ_CR8 = 0x08, WRITE_CR8 = 0x18, READ_MSR_OR_WRITE = 0x7c, WRITE_CR0 = 0x10, WRITE_CR4 = 0x14, INVLPG = 0x79 };

/* MSRs that the library keeps as the architecture has them. */
static bool is_kept(uint32_t index)
{
    switch (index) {
    case 0x174: case 0x175: case 0x176: case 0x277:
    case 0xc0000080: case 0xc0000081: case 0xc0000082: case 0xc0000083: case 0xc0000084:
    case 0xc0000100: case 0xc0000101: case 0xc0000102: return true;
    }
    return false;
}

/* In place of cpu_svm_check_intercept_param, which is called before each of those instructions. */
static void intercept(void *env, uint32_t type, uint64_t parameter, uintptr_t pc)
{
    emu_uc_machine *m = emu_uc_running;
    if (m == NULL || m->shared == NULL || m->shared->msr == NULL || pc == 0) {
        x86.intercept(env, type, parameter, pc);
        return;
    }
    if (type == INVLPG || type == WRITE_CR0 || type == WRITE_CR0 + 3 || type == WRITE_CR4) {
        if (m->shared->translation == NULL || !m->shared->translation(m->shared->opaque))
            return;
        emu_uc_end(m, EMU_EXIT_BUDGET, NULL);
        m->loop_exit_restore(m->cpu, pc);
    }
    if ((type == READ_CR8 || type == WRITE_CR8) && m->shared->priority != NULL) {
        x86.restore(m->cpu, pc, true);
        if (m->shared->priority(m->shared->opaque, type == WRITE_CR8))
            m->loop_exit_restore(m->cpu, 0);
        return;
    }
    uint64_t *general = (uint64_t *)(void *)m->env; /* rax, rcx, rdx ... */
    uint32_t index = (uint32_t)general[1];
    if (type != READ_MSR_OR_WRITE || is_kept(index))
        return;
    uint64_t value = (general[0] & UINT32_MAX) | general[2] << 32;
    bool write = parameter != 0;
    if (!m->shared->msr(m->shared->opaque, index, &value, write))
        x86.raise(m->env, VECTOR_PROTECTION, 0, pc);
    x86.restore(m->cpu, pc, true);
    if (!write) {
        general[0] = value & UINT32_MAX;
        general[2] = value >> 32;
    }
    store64(m->env + ENV_EIP, load64(m->env + ENV_EIP) + 2);
    m->loop_exit_restore(m->cpu, 0);
}

void emu_uc_x86_raise(emu_uc_machine *m, int vector, uint32_t error)
{
    store32(m->cpu + CPU_EXCEPTION, UINT32_MAX);
    x86.raise(m->env, vector, error, 0);
}

bool emu_uc_x86_is_wide(const emu_uc_machine *m) { return (load32(m->env + ENV_HFLAGS) & HF_CS64) != 0; }

void emu_uc_x86_set_pc(emu_uc_machine *m, uint64_t pc)
{
    store64(m->env + ENV_EIP, pc);
    if (!m->inside)
        m->halted = false;
}

void emu_uc_x86_flush(emu_uc_machine *m) { x86.flush(m->cpu); }

void emu_uc_x86_touch(emu_uc_machine *m, uint64_t address, bool write)
{
    enum { KERNEL_SMAP, USER, KERNEL };
    uint32_t hflags = load32(m->env + ENV_HFLAGS), eflags = (uint32_t)load64(m->env + ENV_EFLAGS);
    int mode = (hflags & HF_CPL) == 3 ? USER : !(hflags & HF_SMAP) || (eflags & 1 << 18) ? KERNEL : KERNEL_SMAP;
    store32(m->cpu + CPU_EXCEPTION, UINT32_MAX);
    x86.fill(m->cpu, address, 1, write ? 1 : 0, mode, false, 0);
}

static void find(void *place, const char *name)
{
    void *symbol = emu_uc_symbol(&emu_uc_x86_64, name);
    memcpy(place, &symbol, sizeof symbol);
}

static void *replaced(const char *name, void *with)
{
    char full[64] = "";
    strncat(full, name, sizeof full - 8);
    strcat(full, "_x86_64");
    return emu_uc_replace(uc_lib.handle, full, with);
}

static void prepare(void)
{
    find(&x86.pending, "x86_cpu_pending_interrupt");
    find(&x86.take, "do_interrupt_x86_hardirq");
    find(&x86.restore, "cpu_restore_state");
    find(&x86.check[0], "helper_check_iob");
    find(&x86.check[1], "helper_check_iow");
    find(&x86.check[2], "helper_check_iol");
    find(&x86.in[0], "cpu_inb");
    find(&x86.in[1], "cpu_inw");
    find(&x86.in[2], "cpu_inl");
    find(&x86.cpuid, "cpu_x86_cpuid");
    find(&x86.intercept, "cpu_svm_check_intercept_param");
    find(&x86.flush, "tlb_flush");
    find(&x86.raise, "raise_exception_err_ra");
    find(&x86.fill, "x86_cpu_tlb_fill");
    find(&x86.tsc, "cpu_get_tsc");
    find(&x86.set_dr7, "cpu_x86_update_dr7");
    find(&x86.out[0], "cpu_outb");
    find(&x86.out[1], "cpu_outw");
    find(&x86.out[2], "cpu_outl");
    void *request = dlsym(uc_lib.handle, "qemu_system_reset_request");
    memcpy(&x86.reset_request, &request, sizeof request);
    x86.ready = request != NULL &&
                emu_uc_replace(uc_lib.handle, "qemu_system_reset_request", (void *)shut_down) && x86.pending && x86.take && x86.restore && x86.cpuid && x86.tsc && x86.set_dr7 && x86.check[0] && x86.check[1] && x86.check[2] &&
                x86.intercept && x86.raise && x86.fill && x86.flush && emu_uc_x86_decode_replace() &&
                replaced("cpu_svm_check_intercept_param", (void *)intercept) &&
                x86.in[0] && x86.in[1] && x86.in[2] && x86.out[0] && x86.out[1] && x86.out[2] &&
                replaced("cpu_inb", (void *)in_byte) && replaced("cpu_inw", (void *)in_word) &&
                replaced("cpu_inl", (void *)in_long) && replaced("cpu_outb", (void *)out_byte) &&
                replaced("cpu_outw", (void *)out_word) && replaced("cpu_outl", (void *)out_long) &&
                replaced("cpu_get_tsc", (void *)tsc);
}

/* ---- registers ---------------------------------------------------------------- */

static uint64_t msr(emu_uc_machine *m, uint32_t index)
{
    uc_x86_msr value = {.rid = index};
    uc_reg_read(m->uc, UC_X86_REG_MSR, &value);
    return value.value;
}

static uint8_t *segment(emu_uc_machine *m, uint32_t which)
{
    return m->env + ENV_SEGMENTS + which * SEGMENT_SIZE;
}

static uint32_t segment_flags(emu_uc_machine *m, uint32_t which) { return load32(segment(m, which) + SEGMENT_FLAGS); }

/* After a change of segments or control registers: as loading CS, CR0, CR4 and EFER would leave it. */
static void sync_hflags(emu_uc_machine *m)
{
    uint64_t cr0 = load64(m->env + ENV_CR0), cr4 = load64(m->env + ENV_CR0 + 32);
    uint32_t eflags = (uint32_t)load64(m->env + ENV_EFLAGS), cs = segment_flags(m, CS), ss = segment_flags(m, SS);
    uint32_t flags = load32(m->env + ENV_HFLAGS) &
                     ~(uint32_t)(HF_CPL | HF_CS32 | HF_SS32 | HF_ADDSEG | HF_PE | HF_MP_EM_TS | HF_LMA | HF_CS64 |
                                 HF_OSFXSR | HF_TF_IOPL_VM);
    flags |= (cr0 & 1) ? (ss >> 13 & 3) | HF_PE : 0;
    flags |= (uint32_t)(cr0 & 0xe) << 8;
    flags |= (cr4 & 0x200) ? HF_OSFXSR : 0;
    if (msr(m, 0xc0000080) & 0x400)
        flags |= HF_LMA;
    if ((flags & HF_LMA) && (cs & 1 << 21)) {
        flags |= HF_CS32 | HF_SS32 | HF_CS64;
    } else {
        flags |= (cs & 1 << 22) ? HF_CS32 : 0;
        flags |= (ss & 1 << 22) ? HF_SS32 : 0;
        uint64_t bases = load64(segment(m, DS) + SEGMENT_BASE) | load64(segment(m, ES) + SEGMENT_BASE) |
                         load64(segment(m, SS) + SEGMENT_BASE);
        if (!(cr0 & 1) || (eflags & 1 << 17) || !(flags & HF_CS32) || bases != 0)
            flags |= HF_ADDSEG;
    }
    store32(m->env + ENV_HFLAGS, flags);
}

/* SEGMENT: code 0 which, code 1 part (selector, base, limit, attributes).  DESCRIPTORS: part base or limit. */
static int access_segment(emu_uc_machine *m, uint32_t which, uint32_t part, uint64_t *value, bool write)
{
    uint8_t *at = segment(m, which);
    switch (part) {
    case 0:
        if (write)
            store32(at, *value & 0xffff);
        *value = load32(at);
        break;
    case 1:
        if (write)
            store64(at + SEGMENT_BASE, *value);
        *value = load64(at + SEGMENT_BASE);
        break;
    case 2:
        if (write)
            store32(at + SEGMENT_LIMIT, (uint32_t)*value);
        *value = load32(at + SEGMENT_LIMIT);
        break;
    case 3: /* Intel SDM vol. 3, table 25-2: bits 8-23 of the descriptor, less the limit's; 16: unusable */
        if (write)
            store32(at + SEGMENT_FLAGS,
                    (*value & 0x10000) ? 0 : (uint32_t)(*value & 0xf0ff) << 8);
        *value = load32(at + SEGMENT_FLAGS) >> 8 & 0xf0ff;
        /* The library's LTR marks the descriptor in memory busy after it has read it; VT-x wants no other. */
        if (which == TR && (*value & 0x17) == 0x01)
            *value |= 0x2;
        if (!(*value & 0x80))
            *value |= 0x10000;
        break;
    default:
        return -1;
    }
    if (write)
        sync_hflags(m);
    return 0;
}

static uint32_t bit_of(uint8_t *at, uint32_t bit, uint64_t value, bool write)
{
    if (write)
        store32(at, value != 0 ? load32(at) | bit : load32(at) & ~bit);
    return (load32(at) & bit) != 0;
}

static int access_inside(emu_uc_machine *m, uint32_t which, uint64_t *value, bool write)
{
    switch (which) {
    case EMU_UC_EVENT:
        if (write) {
            m->event = *value;
            emu_uc_ring(m);
        }
        *value = m->event;
        return 0;
    case EMU_UC_SHADOW: *value = bit_of(m->env + ENV_HFLAGS, HF_INHIBIT_IRQ, *value, write); return 0;
    case EMU_UC_NMI_BLOCKED: *value = bit_of(m->env + ENV_HFLAGS2, HF2_NMI, *value, write); return 0;
    case EMU_UC_NMI_PENDING:
        if (write) {
            bit_of(m->cpu + CPU_INTERRUPT_REQUEST, REQUEST_NMI, 0, true);
            atomic_store(&m->nmi, *value != 0);
            emu_uc_ring(m);
        }
        *value = atomic_load(&m->nmi) != 0 || (load32(m->cpu + CPU_INTERRUPT_REQUEST) & REQUEST_NMI) != 0;
        return 0;
    case EMU_UC_TSC:
        if (write)
            m->tsc_offset = *value - ticks();
        else
            *value = ticks() + m->tsc_offset;
        return 0;
    case EMU_UC_XCR0:
        if (write)
            store64(m->env + ENV_XCR0, *value);
        *value = load64(m->env + ENV_XCR0);
        return 0;
    }
    return -1;
}

static int access_x86(emu_uc_machine *m, const emu_uc_reg *reg, uint64_t *value, bool write)
{
    if (reg->id == EMU_UC_INSIDE)
        return access_inside(m, reg->code[0], value, write);
    if (reg->id == EMU_UC_SEGMENT)
        return reg->code[0] < GDT ? access_segment(m, reg->code[0], reg->code[1], value, write) : -1;
    if (reg->id == EMU_UC_DESCRIPTORS)
        return access_segment(m, reg->code[0] == 0 ? GDT : IDT, reg->code[1], value, write);
    if (reg->id == EMU_UC_STATUS) { /* RFLAGS, control registers and DR7, with what hangs on them */
        int id = (int)reg->code[0];
        if (write && id == UC_X86_REG_DR7)
            x86.set_dr7(m->env, (uint32_t)*value); /* breakpoints follow */
        else if (write && uc_reg_write(m->uc, id, value) != UC_ERR_OK)
            return -1;
        if (write)
            sync_hflags(m);
        return uc_reg_read(m->uc, id, value) == UC_ERR_OK ? 0 : -1;
    }
    if (reg->id != EMU_UC_SYSTEM)
        return -1;
    uc_x86_msr msr = {.rid = reg->code[0], .value = *value};
    uc_err error =
        write ? uc_reg_write(m->uc, UC_X86_REG_MSR, &msr) : uc_reg_read(m->uc, UC_X86_REG_MSR, &msr);
    *value = msr.value;
    if (write)
        sync_hflags(m);
    return error == UC_ERR_OK ? 0 : -1;
}

/* ---- SYSCALL and SYSENTER --------------------------------------------------------- */

enum { FLAT_DATA = 0x00cf9300, CODE32 = 0x00cf9b00, CODE64 = 0x00af9b00 };

static void set_segment(emu_uc_machine *m, uint32_t which, uint32_t selector, uint32_t flags)
{
    uint8_t *at = segment(m, which);
    store32(at, selector);
    store64(at + SEGMENT_BASE, 0);
    store32(at + SEGMENT_LIMIT, UINT32_MAX);
    store32(at + SEGMENT_FLAGS, flags);
}

/* The library adds the instruction's length, 2, to what stands in eip after the hook. */
static void go_to(emu_uc_machine *m, uint64_t pc) { store64(m->env + ENV_EIP, pc - 2); }

/* Intel SDM vol. 2, SYSCALL. */
static void on_syscall(uc_engine *uc, void *opaque)
{
    emu_uc_machine *m = opaque;
    if (!(msr(m, 0xc0000080) & 1))
        return;
    uint64_t star = msr(m, 0xc0000081), rip = load64(m->env + ENV_EIP) + 2, flags = 0;
    uc_reg_read(uc, UC_X86_REG_RFLAGS, &flags);
    uint32_t hflags = load32(m->env + ENV_HFLAGS), selector = star >> 32 & 0xfffc;
    bool wide = (hflags & HF_CS64) != 0, lma = (hflags & HF_LMA) != 0;
    uc_reg_write(uc, UC_X86_REG_RCX, &rip);
    if (lma) {
        uint64_t masked = flags & ~msr(m, 0xc0000084) & ~UINT64_C(0x10000);
        uc_reg_write(uc, UC_X86_REG_R11, &flags);
        uc_reg_write(uc, UC_X86_REG_RFLAGS, &masked);
    } else {
        uint64_t masked = flags & ~UINT64_C(0x20200);
        uc_reg_write(uc, UC_X86_REG_RFLAGS, &masked);
    }
    set_segment(m, CS, selector, lma ? CODE64 : CODE32);
    set_segment(m, SS, selector + 8, FLAT_DATA);
    sync_hflags(m);
    go_to(m, lma ? msr(m, wide ? 0xc0000082 : 0xc0000083) : star & UINT32_MAX);
}

/* Intel SDM vol. 2, SYSENTER. */
static void on_sysenter(uc_engine *uc, void *opaque)
{
    emu_uc_machine *m = opaque;
    uint32_t selector = msr(m, 0x174) & 0xfffc, lma = load32(m->env + ENV_HFLAGS) & HF_LMA;
    if (selector == 0)
        return;
    uint64_t flags = 0, sp = msr(m, 0x175);
    uc_reg_read(uc, UC_X86_REG_RFLAGS, &flags);
    flags &= ~UINT64_C(0x30200);
    uc_reg_write(uc, UC_X86_REG_RFLAGS, &flags);
    uc_reg_write(uc, UC_X86_REG_RSP, &sp);
    set_segment(m, CS, selector, lma ? CODE64 : CODE32);
    set_segment(m, SS, selector + 8, FLAT_DATA);
    sync_hflags(m);
    go_to(m, msr(m, 0x176));
}

/* ---- CPUID --------------------------------------------------------------------- */

/* What leaf 1 says besides the model's: an APIC, and that this is a virtual machine. */
enum { LEAF1_EDX_APIC = 1 << 9 };
#define LEAF1_ECX_HYPERVISOR (1u << 31)
/* Not here: DTES64, MONITOR, x2APIC, the deadline timer; MCE, MCA, ACPI's thermal control. */
#define LEAF1_ECX_MISSING (1u << 2 | 1u << 3 | 1u << 21 | 1u << 24)
#define LEAF1_EDX_MISSING (1u << 7 | 1u << 14 | 1u << 22)
/* What the APIC's timer counts (emu/devices/native/apic.h).  Low: Linux multiplies its kHz with EBX, in 32 bits. */
#define CRYSTAL_HZ 10000000u

static struct {
    uint64_t ticks, ns;
} clock_start;

/* Of the time stamp counter, which the library takes from the host, since the first CPU was made. */
static uint32_t ticks_khz(void)
{
    uint64_t now;
    while ((now = emu_now()) - clock_start.ns < 5000000) /* a firmware's first CPUID may come at once */
        continue;
    return (uint32_t)((double)(ticks() - clock_start.ticks) * 1e6 / (double)(now - clock_start.ns));
}

/* In place of the library's; SDM vol. 2, CPUID. */
static int on_cpuid(uc_engine *uc, void *opaque)
{
    emu_uc_machine *m = opaque;
    uint64_t leaf = 0, subleaf = 0;
    uc_reg_read(uc, UC_X86_REG_RAX, &leaf);
    uc_reg_read(uc, UC_X86_REG_RCX, &subleaf);
    uint32_t a = 0, b = 0, c = 0, d = 0;
    if (m->shared != NULL) {
        uint32_t given[4] = {0};
        m->shared->cpuid(m->shared->opaque, (uint32_t)leaf, (uint32_t)subleaf, given);
        const int registers[4] = {UC_X86_REG_RAX, UC_X86_REG_RBX, UC_X86_REG_RCX, UC_X86_REG_RDX};
        for (int i = 0; i < 4; i++) {
            uint64_t value = given[i];
            uc_reg_write(uc, registers[i], &value);
        }
        return 1;
    }
    x86.cpuid(m->env, (uint32_t)leaf, (uint32_t)subleaf, &a, &b, &c, &d);
    switch ((uint32_t)leaf) {
    case 0: a = 0x16; break;
    case 1:
        b = (b & 0xffff) | 1 << 16;
        c = (c & ~LEAF1_ECX_MISSING) | LEAF1_ECX_HYPERVISOR;
        d = (d & ~LEAF1_EDX_MISSING) | LEAF1_EDX_APIC;
        break;
    case 6: a |= 1 << 2; break; /* ARAT: the APIC's timer never sleeps; so Linux needs no 8254 */
    case 7: b |= subleaf == 0 ? 1 << 1 : 0; break; /* TSC_ADJUST, which stays 0: then it trusts the counter */
    case 0x15: /* time stamp counter and crystal: saves every guest its own measuring */
        b = ticks_khz();
        a = UINT32_MAX / b;
        b = (uint32_t)((uint64_t)b * a / (CRYSTAL_HZ / 1000));
        c = CRYSTAL_HZ;
        d = 0;
        break;
    case 0x16:
        a = b = ticks_khz() / 1000;
        c = 100;
        d = 0;
        break;
    case 0x80000007: d |= 1 << 8; break; /* the time stamp counter never changes its pace */
    }
    const uint64_t values[] = {a, b, c, d};
    uc_reg_write(uc, UC_X86_REG_RAX, &values[0]);
    uc_reg_write(uc, UC_X86_REG_RBX, &values[1]);
    uc_reg_write(uc, UC_X86_REG_RCX, &values[2]);
    uc_reg_write(uc, UC_X86_REG_RDX, &values[3]);
    return 1;
}

/* ---- life ---------------------------------------------------------------------- */

/* The layout above, checked with values that declared calls put in. */
static bool is_laid_out(emu_uc_machine *m)
{
    uint64_t mark = 0x5ca1ab1e0ddba110, old = 0, cr0 = 0;
    uc_reg_read(m->uc, UC_X86_REG_GS_BASE, &old);
    uc_reg_write(m->uc, UC_X86_REG_GS_BASE, &mark);
    bool right = load64(segment(m, GS) + SEGMENT_BASE) == mark;
    uc_reg_write(m->uc, UC_X86_REG_GS_BASE, &old);
    uc_x86_mmr table = {.base = mark, .limit = 0x1234}, before = {0};
    uc_reg_read(m->uc, UC_X86_REG_IDTR, &before);
    uc_reg_write(m->uc, UC_X86_REG_IDTR, &table);
    right = right && load64(segment(m, IDT) + SEGMENT_BASE) == mark &&
            load32(segment(m, IDT) + SEGMENT_LIMIT) == 0x1234;
    uc_reg_write(m->uc, UC_X86_REG_IDTR, &before);
    uc_reg_read(m->uc, UC_X86_REG_CR0, &cr0);
    /* After reset: F000:FFF0, based at FFFF0000 (Intel SDM vol. 3, 9.1.4). */
    return right && load64(m->env + ENV_CR0) == cr0 && load64(m->env + ENV_EIP) == 0xfff0 &&
           load32(segment(m, CS)) == 0xf000 && load64(segment(m, CS) + SEGMENT_BASE) == 0xffff0000 &&
           (load32(m->env + ENV_HFLAGS) & ~0x1u) == HF_ADDSEG && load32(m->env + ENV_HFLAGS2) == 1 &&
           (load64(m->env + ENV_XCR0) & ~UINT64_C(0x3ff)) == 0 && load32(m->env + ENV_OLD_EXCEPTION) == UINT32_MAX;
}

static int reset_x86(emu_uc_machine *m, const emu_uc_config *config)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, prepare);
    void (*reset)(void *) = (void (*)(void *))dlsym(uc_lib.handle, "cpu_reset");
    if (reset == NULL || !x86.ready)
        return -1;
    reset(m->cpu);
    if (!is_laid_out(m))
        return -1;
    uc_hook hook;
    if (clock_start.ns == 0) {
        clock_start.ns = emu_now();
        clock_start.ticks = ticks();
    }
    if (uc_hook_add(m->uc, &hook, UC_HOOK_INSN, (void *)on_cpuid, m, 1, 0, UC_X86_INS_CPUID) != UC_ERR_OK ||
        uc_hook_add(m->uc, &hook, UC_HOOK_INSN, (void *)on_syscall, m, 1, 0, UC_X86_INS_SYSCALL) != UC_ERR_OK ||
        uc_hook_add(m->uc, &hook, UC_HOOK_INSN, (void *)on_sysenter, m, 1, 0, UC_X86_INS_SYSENTER) != UC_ERR_OK)
        return -1;
    return 0;
}

static void exception_x86(emu_uc_machine *m, uint32_t number, bool invalid)
{
    if (number == VECTOR_UNDEFINED && invalid && m->shared != NULL && m->shared->undefined(m->shared->opaque))
        return;
    if (number == VECTOR_BREAKPOINT && (m->config.flags & EMU_UC_BREAKPOINTS))
        emu_uc_end(m, EMU_EXIT_DEBUG, NULL);
    else
        m->do_interrupt(m->cpu);
}

static void lines_x86(emu_uc_machine *m)
{
    uint32_t request = load32(m->cpu + CPU_INTERRUPT_REQUEST);
    request = atomic_load(&m->vector) != 0 ? request | REQUEST_HARD : request & ~(uint32_t)REQUEST_HARD;
    if (atomic_exchange(&m->nmi, 0) != 0)
        request |= REQUEST_NMI;
    if (m->event != 0)
        request |= REQUEST_EVENT;
    store32(m->cpu + CPU_INTERRUPT_REQUEST, request);
}

/* What another engine had begun to deliver. */
static void deliver_event(emu_uc_machine *m)
{
    uint64_t event = m->event;
    uint32_t vector = event >> 8 & 0xff;
    m->event = 0;
    if ((event & 0xff) == EMU_UC_EVENT_INTERRUPT) {
        x86.take(m->env, (int)vector, 1);
        return;
    }
    store32(m->cpu + CPU_EXCEPTION, vector);
    store32(m->env + ENV_ERROR_CODE, (uint32_t)(event >> 32));
    store32(m->env + ENV_EXCEPTION_IS_INT, 0);
    store32(m->env + ENV_OLD_EXCEPTION, vector); /* a fault meanwhile may be a double one */
    m->do_interrupt(m->cpu);
    store32(m->cpu + CPU_EXCEPTION, UINT32_MAX);
}

/* The library's own would deliver vector 0 for INTR; for all else it is asked. */
static bool interrupt_x86(void *cpu, int request)
{
    emu_uc_machine *m = emu_uc_running;
    if (request & REQUEST_EVENT) {
        store32(m->cpu + CPU_INTERRUPT_REQUEST, (uint32_t)request & ~(uint32_t)REQUEST_EVENT);
        if (m->event != 0) {
            deliver_event(m);
            return true;
        }
        request &= ~REQUEST_EVENT;
    }
    int pending = x86.pending(cpu, request);
    if (pending != REQUEST_HARD)
        return pending != 0 && m->exec_interrupt(cpu, request);
    store32(m->cpu + CPU_INTERRUPT_REQUEST, (uint32_t)request & ~(uint32_t)REQUEST_HARD);
    uint32_t vector = atomic_exchange(&m->vector, 0);
    if (vector == 0)
        return false;
    x86.take(m->env, (int)(vector - 1) & 0xff, 1);
    if (m->accepted != NULL)
        m->accepted(m->accepted_opaque, 0, (int)vector - 1);
    return true;
}

static bool deaf_x86(emu_uc_machine *m) { return !(load64(m->env + ENV_EFLAGS) & 0x200); }

const struct isa emu_uc_x86_64 = {
    .isa = EMU_ISA_X86_64,
    .suffix = "x86_64",
    .arch = UC_ARCH_X86,
    .mode = UC_MODE_64,
    .model = UC_CPU_X86_NEHALEM,
    .pc = UC_X86_REG_RIP,
    .do_interrupt = "x86_cpu_do_interrupt",
    .exec_interrupt = "x86_cpu_exec_interrupt",
    .debug_handler = "breakpoint_handler",
    .translate = "x86_cpu_get_phys_page_attrs_debug",
    .space = UINT64_C(1) << 40,
    .tlb_modes = 3,
    .tlb_wide = true,
    .tlb_notdirty = 0x400,
    .reset = reset_x86,
    .exception = exception_x86,
    .lines = lines_x86,
    .interrupt = interrupt_x86,
    .access = access_x86,
    .deaf = deaf_x86,
    .may_sleep = true,
};
