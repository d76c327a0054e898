/* emu_x86 from and to a Unicorn machine, which keeps of vector registers the x87's and SSE's alone. */
#if defined(__x86_64__) && defined(__linux__)

#include "cross.h"
#include "uc_machine.h"

#include <string.h>

/* The legacy region of an XSAVE area, in bytes (Intel SDM vol. 1, 10.5.1), and its header. */
enum { FCW = 0, FSW = 2, FTW = 4, MXCSR = 24, ST = 32, XMM = 160, XSTATE_BV = 512 };
enum { X87 = 1, SSE = 2, AVX = 4 };
#define FCW_RESET 0x37f
#define MXCSR_RESET 0x1f80
#define MXCSR_MASK 0xffff

static uint64_t get(emu_uc_machine *m, int id, uint32_t code0, uint32_t code1)
{
    const emu_uc_reg reg = {.id = id, .code = {code0, code1}};
    uint64_t value[8] = {0};
    emu_uc_machine_read(m, &reg, value);
    return value[0];
}

static void set(emu_uc_machine *m, int id, uint32_t code0, uint32_t code1, uint64_t value)
{
    /* for some a write has effects, and costs */
    if (id < 0 && get(m, id, code0, code1) == value)
        return;
    const emu_uc_reg reg = {.id = id, .code = {code0, code1}};
    const uint64_t values[8] = {value};
    emu_uc_machine_write(m, &reg, values);
}

/* ---- vectors ------------------------------------------------------------------------ */

/* The tag word, two bits a physical register: 3 empty, else 0 (what is in it the library looks at itself). */
static uint32_t full_tags(const uint8_t *area)
{
    uint32_t tags = 0;
    for (unsigned physical = 0; physical < 8; physical++)
        if (!(area[FTW] >> physical & 1))
            tags |= 3u << 2 * physical;
    return tags;
}

static void vectors_to(emu_uc_machine *m, const emu_x86 *s)
{
    const uint8_t *area = s->xsave;
    uint64_t in_use, value[8] = {0};
    memcpy(&in_use, area + XSTATE_BV, sizeof in_use);
    uint16_t fcw = FCW_RESET, fsw = 0;
    uint32_t tags = 0xffff, mxcsr = MXCSR_RESET;
    if (in_use & X87) {
        memcpy(&fcw, area + FCW, sizeof fcw);
        memcpy(&fsw, area + FSW, sizeof fsw);
        tags = full_tags(area);
    }
    if (in_use & (SSE | AVX))
        memcpy(&mxcsr, area + MXCSR, sizeof mxcsr);
    set(m, UC_X86_REG_FPCW, 0, 0, fcw);
    set(m, UC_X86_REG_FPSW, 0, 0, fsw);
    for (int i = 0; i < 8; i++) {
        const emu_uc_reg reg = {.id = UC_X86_REG_ST0 + i};
        memset(value, 0, sizeof value);
        if (in_use & X87)
            memcpy(value, area + ST + 16 * i, 10);
        emu_uc_machine_write(m, &reg, value);
    }
    set(m, UC_X86_REG_FPTAG, 0, 0, tags);
    set(m, UC_X86_REG_MXCSR, 0, 0, mxcsr & MXCSR_MASK);
    for (int i = 0; i < 16; i++) {
        const emu_uc_reg reg = {.id = UC_X86_REG_XMM0 + i};
        memset(value, 0, sizeof value);
        if (in_use & SSE)
            memcpy(value, area + XMM + 16 * i, 16);
        emu_uc_machine_write(m, &reg, value);
    }
}

/* The other components stay as they are. */
static void vectors_from(emu_uc_machine *m, emu_x86 *s)
{
    uint8_t *area = s->xsave;
    uint64_t in_use, value[8];
    memcpy(&in_use, area + XSTATE_BV, sizeof in_use);
    in_use |= X87 | SSE;
    memcpy(area + XSTATE_BV, &in_use, sizeof in_use);
    uint16_t fcw = (uint16_t)get(m, UC_X86_REG_FPCW, 0, 0), fsw = (uint16_t)get(m, UC_X86_REG_FPSW, 0, 0);
    uint32_t tags = (uint32_t)get(m, UC_X86_REG_FPTAG, 0, 0), mxcsr = (uint32_t)get(m, UC_X86_REG_MXCSR, 0, 0);
    memset(area, 0, MXCSR);
    memcpy(area + FCW, &fcw, sizeof fcw);
    memcpy(area + FSW, &fsw, sizeof fsw);
    for (unsigned i = 0; i < 8; i++)
        if ((tags >> 2 * i & 3) != 3)
            area[FTW] |= (uint8_t)(1 << i);
    mxcsr &= MXCSR_MASK;
    memcpy(area + MXCSR, &mxcsr, sizeof mxcsr);
    memset(area + ST, 0, XMM - ST);
    for (int i = 0; i < 8; i++) {
        const emu_uc_reg reg = {.id = UC_X86_REG_ST0 + i};
        if (emu_uc_machine_read(m, &reg, value) == 0)
            memcpy(area + ST + 16 * i, value, 10);
    }
    for (int i = 0; i < 16; i++) {
        const emu_uc_reg reg = {.id = UC_X86_REG_XMM0 + i};
        if (emu_uc_machine_read(m, &reg, value) == 0)
            memcpy(area + XMM + 16 * i, value, 16);
    }
}

/* ---- all ---------------------------------------------------------------------------- */

static uint64_t event_of(const struct emu_x86_exception *e)
{
    return e->pending ? EMU_UC_EVENT_EXCEPTION | (uint64_t)e->vector << 8 | (uint64_t)e->error << 32 : 0;
}

enum { SELECTOR, BASE, LIMIT, ATTRIBUTES };
enum { EFER = 0xc0000080 };
/* SMAP and PKE, which the library's model does not have: they come back as they were. */
#define CR4_KEPT UINT64_C(0x600000)

void emu_x86_to_uc(emu_uc_machine *m, const emu_x86 *s, unsigned groups)
{
    if (groups & EMU_X86_SYSTEM) {
        /* EFER with paging off, or the library does not take LME. */
        if (get(m, EMU_UC_SYSTEM, EFER, 0) != s->efer) {
            set(m, EMU_UC_STATUS, UC_X86_REG_CR0, 0, s->cr0 & ~UINT64_C(0x80000000));
            set(m, EMU_UC_SYSTEM, EFER, 0, s->efer & ~UINT64_C(0x400));
        }
        set(m, EMU_UC_STATUS, UC_X86_REG_CR4, 0, s->cr4);
        set(m, EMU_UC_STATUS, UC_X86_REG_CR3, 0, s->cr3);
        set(m, EMU_UC_STATUS, UC_X86_REG_CR0, 0, s->cr0);
        set(m, EMU_UC_STATUS, UC_X86_REG_CR2, 0, s->cr2);
        for (uint32_t i = 0; i < 8; i++) {
            set(m, EMU_UC_SEGMENT, i, SELECTOR, s->segment[i].selector);
            set(m, EMU_UC_SEGMENT, i, BASE, s->segment[i].base);
            set(m, EMU_UC_SEGMENT, i, LIMIT, s->segment[i].limit);
            set(m, EMU_UC_SEGMENT, i, ATTRIBUTES, s->segment[i].attributes);
        }
        set(m, EMU_UC_DESCRIPTORS, 0, BASE, s->gdt.base);
        set(m, EMU_UC_DESCRIPTORS, 0, LIMIT, s->gdt.limit);
        set(m, EMU_UC_DESCRIPTORS, 1, BASE, s->idt.base);
        set(m, EMU_UC_DESCRIPTORS, 1, LIMIT, s->idt.limit);
    }
    if (groups & EMU_X86_MSRS_GROUP)
        for (unsigned i = 0; i < EMU_X86_MSR_COUNT; i++)
            set(m, EMU_UC_SYSTEM, emu_x86_msr_index[i], 0, s->msr[i]);
    if (groups & EMU_X86_DEBUG) {
        for (int i = 0; i < 4; i++)
            set(m, UC_X86_REG_DR0 + i, 0, 0, s->debug[i]);
        set(m, UC_X86_REG_DR6, 0, 0, s->debug[6]);
        set(m, EMU_UC_STATUS, UC_X86_REG_DR7, 0, s->debug[7]);
    }
    if (groups & EMU_X86_XCR0)
        set(m, EMU_UC_INSIDE, EMU_UC_XCR0, 0, s->xcr0);
    if (groups & EMU_X86_VECTORS)
        vectors_to(m, s);
    if (groups & EMU_X86_EVENTS) {
        set(m, EMU_UC_INSIDE, EMU_UC_SHADOW, 0, s->shadow);
        set(m, EMU_UC_INSIDE, EMU_UC_NMI_BLOCKED, 0, s->nmi_masked);
        set(m, EMU_UC_INSIDE, EMU_UC_EVENT, 0, event_of(&s->exception));
    }
    if (groups & EMU_X86_GENERAL) {
        memcpy(m->env, s->general, sizeof s->general);
        set(m, EMU_UC_STATUS, UC_X86_REG_RFLAGS, 0, s->rflags);
        /* not by the library's call, which ends a run that is under way */
        emu_uc_x86_set_pc(m, s->rip);
    }
}

void emu_x86_from_uc(emu_uc_machine *m, emu_x86 *s, unsigned groups)
{
    if (groups & EMU_X86_SYSTEM) {
        s->cr0 = get(m, EMU_UC_STATUS, UC_X86_REG_CR0, 0);
        s->cr2 = get(m, EMU_UC_STATUS, UC_X86_REG_CR2, 0);
        s->cr3 = get(m, EMU_UC_STATUS, UC_X86_REG_CR3, 0);
        s->cr4 = (s->cr4 & CR4_KEPT) | (get(m, EMU_UC_STATUS, UC_X86_REG_CR4, 0) & ~CR4_KEPT);
        s->efer = get(m, EMU_UC_SYSTEM, EFER, 0);
        for (uint32_t i = 0; i < 8; i++) {
            s->segment[i].selector = (uint16_t)get(m, EMU_UC_SEGMENT, i, SELECTOR);
            s->segment[i].base = get(m, EMU_UC_SEGMENT, i, BASE);
            s->segment[i].limit = (uint32_t)get(m, EMU_UC_SEGMENT, i, LIMIT);
            s->segment[i].attributes = (uint32_t)get(m, EMU_UC_SEGMENT, i, ATTRIBUTES);
        }
        s->gdt.base = get(m, EMU_UC_DESCRIPTORS, 0, BASE);
        s->gdt.limit = (uint32_t)get(m, EMU_UC_DESCRIPTORS, 0, LIMIT);
        s->idt.base = get(m, EMU_UC_DESCRIPTORS, 1, BASE);
        s->idt.limit = (uint32_t)get(m, EMU_UC_DESCRIPTORS, 1, LIMIT);
    }
    if (groups & EMU_X86_MSRS_GROUP)
        for (unsigned i = 0; i < EMU_X86_MSR_COUNT; i++)
            s->msr[i] = get(m, EMU_UC_SYSTEM, emu_x86_msr_index[i], 0);
    if (groups & EMU_X86_DEBUG) {
        for (int i = 0; i < 4; i++)
            s->debug[i] = get(m, UC_X86_REG_DR0 + i, 0, 0);
        s->debug[6] = get(m, UC_X86_REG_DR6, 0, 0);
        s->debug[7] = get(m, EMU_UC_STATUS, UC_X86_REG_DR7, 0);
    }
    if (groups & EMU_X86_XCR0)
        s->xcr0 = get(m, EMU_UC_INSIDE, EMU_UC_XCR0, 0);
    if (groups & EMU_X86_VECTORS)
        vectors_from(m, s);
    if (groups & EMU_X86_EVENTS) {
        s->shadow = get(m, EMU_UC_INSIDE, EMU_UC_SHADOW, 0) != 0;
        s->nmi_masked = get(m, EMU_UC_INSIDE, EMU_UC_NMI_BLOCKED, 0) != 0;
        s->exception = (struct emu_x86_exception){0};
    }
    if (groups & EMU_X86_GENERAL) {
        memcpy(s->general, m->env, sizeof s->general);
        s->rflags = get(m, EMU_UC_STATUS, UC_X86_REG_RFLAGS, 0);
        s->rip = get(m, UC_X86_REG_RIP, 0, 0);
    }
}

#else

typedef int emu_cross_uc_is_for_x86_64;

#endif
