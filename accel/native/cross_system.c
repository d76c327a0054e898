/*
 * Instructions of an operating system that KVM's emulator or Unicorn lacks: the
 * XSAVE family, XCR0, SMAP's STAC and CLAC, RDTSCP, RDPID, FS and GS bases,
 * protection keys.  (Intel SDM vol. 2 and vol. 1, chapter 13.)
 */
#if defined(__x86_64__) && defined(__linux__)

#include "cross_insn.h"

#include <cpuid.h>
#include <string.h>

enum { FCW = 0, MXCSR = 24, ST = 32, XMM = 160, XMM_END = 416, XSTATE_BV = 512, XCOMP_BV = 520, EXTENDED = 576 };
enum { X87 = 1, SSE = 2, AVX = 4, PKRU = 1 << 9 };
#define COMPACTED (UINT64_C(1) << 63)
#define FCW_RESET 0x37f
#define MXCSR_RESET 0x1f80u
#define MXCSR_MASK 0xffffu
#define COMPONENTS 32
#define CR4_FSGSBASE (1u << 16)
#define CR4_OSXSAVE_BIT (1u << 18)
#define CR4_PKE_BIT (1u << 22)
enum { MSR_TSC = 0x10, MSR_TSC_AUX = 0xc0000103, MSR_XSS = 0xda0 };

static struct component {
    uint32_t offset, size;
    bool aligned;
} components[COMPONENTS];

static void know_components(void)
{
    if (components[0].size != 0)
        return;
    for (uint32_t i = 2; i < COMPONENTS; i++) {
        uint32_t a, b, c, d;
        if (!__get_cpuid_count(0xd, i, &a, &b, &c, &d) || (c & 1) || b + a > EMU_X86_XSAVE_SIZE)
            a = b = c = 0;
        components[i] = (struct component){.offset = b, .size = a, .aligned = (c & 2) != 0};
    }
    components[0].size = ST; /* known */
}

static uint64_t load(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static void store(uint8_t *at, uint64_t value) { memcpy(at, &value, sizeof value); }

static bool has(emu_host_job *job, unsigned groups)
{
    unsigned missing = groups & ~job->have;
    if (missing != 0 && job->more(job->opaque, missing) < 0)
        return false;
    job->have |= missing;
    return true;
}

static unsigned privilege(const emu_x86 *s) { return s->segment[EMU_X86_SS].attributes >> 5 & 3; }

static enum emu_host_result raise(emu_host_job *job, int vector)
{
    emu_insn_fault(job, vector, vector == VECTOR_GP, 0, 0);
    return EMU_HOST_FAULT;
}

/* ---- the XSAVE family ------------------------------------------------------------------- */

/* Where component i is in an area of that format, and where the area ends. */
static uint32_t place(uint64_t format, uint32_t i, uint32_t *end)
{
    if (!(format & COMPACTED)) {
        *end = components[i].offset + components[i].size;
        return components[i].offset;
    }
    uint32_t at = EXTENDED;
    for (uint32_t k = 2; k <= i; k++) {
        if (!(format >> k & 1))
            continue;
        if (components[k].aligned)
            at = (at + 63) & ~63u;
        if (k < i)
            at += components[k].size;
    }
    *end = at + components[i].size;
    return at;
}

static uint32_t area_size(uint64_t format, uint64_t mask)
{
    uint32_t size = EXTENDED, end;
    for (uint32_t i = 2; i < COMPONENTS; i++)
        if ((mask >> i & 1) && components[i].size != 0) {
            place(format, i, &end);
            if (end > size)
                size = end;
        }
    return size;
}

int emu_cross_component(uint32_t number, uint32_t *offset, uint32_t *size)
{
    know_components();
    if (number < 2 || number >= COMPONENTS || components[number].size == 0)
        return -1;
    *offset = components[number].offset;
    *size = components[number].size;
    return 0;
}

uint32_t emu_x86_xsave_size(uint64_t xcr0)
{
    know_components();
    return area_size(0, xcr0);
}

static void copy_component(uint8_t *to, uint64_t to_format, const uint8_t *from, uint64_t from_format, uint32_t i)
{
    uint32_t end;
    if (i == 0) {
        memcpy(to, from, MXCSR);
        memcpy(to + ST, from + ST, XMM - ST);
    } else if (i == 1) {
        memcpy(to + XMM, from + XMM, XMM_END - XMM);
    } else if (components[i].size != 0) {
        memcpy(to + place(to_format, i, &end), from + place(from_format, i, &end), components[i].size);
    }
}

static void clear_component(uint8_t *to, uint64_t format, uint32_t i)
{
    uint32_t end;
    if (i == 0) {
        const uint16_t fcw = FCW_RESET;
        memset(to, 0, MXCSR);
        memcpy(to + FCW, &fcw, sizeof fcw);
        memset(to + ST, 0, XMM - ST);
    } else if (i == 1) {
        memset(to + XMM, 0, XMM_END - XMM);
    } else if (components[i].size != 0) {
        memset(to + place(format, i, &end), 0, components[i].size);
    }
}

static uint32_t mxcsr_of(const emu_x86 *s)
{
    uint32_t mxcsr = MXCSR_RESET;
    if (load(s->xsave + XSTATE_BV) & (SSE | AVX))
        memcpy(&mxcsr, s->xsave + MXCSR, sizeof mxcsr);
    return mxcsr;
}

static void save_area(const emu_x86 *s, uint8_t *area, uint64_t mask, bool compacted)
{
    uint64_t in_use = load(s->xsave + XSTATE_BV), format = compacted ? mask | COMPACTED : 0;
    uint64_t before = compacted ? 0 : load(area + XSTATE_BV);
    for (uint32_t i = 0; i < COMPONENTS; i++) {
        if (!(mask >> i & 1))
            continue;
        if (in_use >> i & 1)
            copy_component(area, format, s->xsave, 0, i);
        else if (!compacted)
            clear_component(area, format, i);
    }
    if (mask & (SSE | AVX)) {
        uint32_t mxcsr = mxcsr_of(s), bits = MXCSR_MASK;
        memcpy(area + MXCSR, &mxcsr, sizeof mxcsr);
        memcpy(area + MXCSR + 4, &bits, sizeof bits);
    }
    store(area + XSTATE_BV, (before & ~mask) | (in_use & mask));
    if (compacted) {
        store(area + XCOMP_BV, format);
        memset(area + XCOMP_BV + 8, 0, EXTENDED - XCOMP_BV - 8);
    }
}

/* False: #GP. */
static bool restore_area(emu_x86 *s, const uint8_t *area, uint64_t mask, uint64_t xcr0)
{
    uint64_t given = load(area + XSTATE_BV), format = load(area + XCOMP_BV), in_use = load(s->xsave + XSTATE_BV);
    uint32_t mxcsr;
    memcpy(&mxcsr, area + MXCSR, sizeof mxcsr);
    for (int i = XCOMP_BV + 8; i < EXTENDED; i++)
        if (area[i] != 0 && (i < XCOMP_BV + 16 || (format & COMPACTED)))
            return false;
    if ((given & ~xcr0) || (format & COMPACTED ? (given & ~format) || (format & ~xcr0 & ~COMPACTED) : format != 0))
        return false;
    bool loads_mxcsr = format & COMPACTED ? (mask & given & SSE) != 0 : (mask & (SSE | AVX)) != 0;
    if (loads_mxcsr && (mxcsr & ~MXCSR_MASK))
        return false;
    uint32_t now = loads_mxcsr ? mxcsr : (format & COMPACTED) && (mask & SSE) ? MXCSR_RESET : mxcsr_of(s);
    for (uint32_t i = 0; i < COMPONENTS; i++) {
        if (!(mask >> i & 1))
            continue;
        if (given >> i & 1)
            copy_component(s->xsave, 0, area, format, i);
        else
            clear_component(s->xsave, 0, i);
        in_use = (in_use & ~(UINT64_C(1) << i)) | (given & UINT64_C(1) << i);
    }
    if (now != MXCSR_RESET && !(in_use & (SSE | AVX))) {
        if (!(in_use & SSE))
            clear_component(s->xsave, 0, 1);
        in_use |= SSE;
    }
    memcpy(s->xsave + MXCSR, &now, sizeof now);
    store(s->xsave + XSTATE_BV, in_use);
    return true;
}

static enum emu_host_result xsave_family(struct insn *i, emu_host_job *job, bool saves, bool compacted)
{
    emu_x86 *s = job->state;
    know_components();
    if (!(s->cr4 & CR4_OSXSAVE_BIT) || i->lock)
        return raise(job, VECTOR_UD);
    if (s->cr0 & CR0_TS)
        return raise(job, VECTOR_NM);
    if (!has(job, EMU_X86_VECTORS | EMU_X86_XCR0))
        return EMU_HOST_FAILED;
    uint64_t linear, mask = (s->general[EMU_X86_RDX] << 32 | (s->general[EMU_X86_RAX] & UINT32_MAX)) & s->xcr0;
    _Alignas(64) uint8_t area[EMU_X86_XSAVE_SIZE] = {0};
    if (!emu_insn_memory(i) || i->over)
        return EMU_HOST_NOT;
    i->bytes_of_memory = EXTENDED;
    enum emu_host_result result = emu_insn_linear(i, job, &linear);
    if (result != EMU_HOST_DONE)
        return result;
    if (linear % 64 != 0)
        return raise(job, VECTOR_GP);
    if (saves && compacted) {
        save_area(s, area, mask, true);
        return emu_insn_transfer(job, linear, area, area_size(mask | COMPACTED, mask), true);
    }
    if ((result = emu_insn_transfer(job, linear, area, EXTENDED, false)) != EMU_HOST_DONE)
        return result;
    uint64_t format = saves ? 0 : load(area + XCOMP_BV), present = saves ? mask : mask & load(area + XSTATE_BV);
    uint32_t size = area_size(format, present);
    if (size > sizeof area)
        return raise(job, VECTOR_GP);
    if (size > EXTENDED && (result = emu_insn_transfer(job, linear + EXTENDED, area + EXTENDED, size - EXTENDED,
                                                       false)) != EMU_HOST_DONE)
        return result;
    if (saves) {
        save_area(s, area, mask, false);
        return emu_insn_transfer(job, linear, area, size, true);
    }
    if (!restore_area(s, area, mask, s->xcr0))
        return raise(job, VECTOR_GP);
    job->changed |= EMU_X86_VECTORS;
    return EMU_HOST_DONE;
}

/* ---- the others ----------------------------------------------------------------------------- */

static void give_edx_eax(emu_x86 *s, uint64_t value)
{
    s->general[EMU_X86_RAX] = value & UINT32_MAX;
    s->general[EMU_X86_RDX] = value >> 32;
}

static enum emu_host_result xcr(emu_host_job *job, bool write)
{
    emu_x86 *s = job->state;
    if (!(s->cr4 & CR4_OSXSAVE_BIT))
        return raise(job, VECTOR_UD);
    uint32_t which = (uint32_t)s->general[EMU_X86_RCX];
    if (!has(job, EMU_X86_XCR0 | EMU_X86_VECTORS))
        return EMU_HOST_FAILED;
    if (!write && which <= 1) { /* 1: XINUSE too */
        give_edx_eax(s, which == 0 ? s->xcr0 : s->xcr0 & load(s->xsave + XSTATE_BV));
        return EMU_HOST_DONE;
    }
    uint64_t value = s->general[EMU_X86_RDX] << 32 | (s->general[EMU_X86_RAX] & UINT32_MAX), wide = value & 0xe0;
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    if (!write || which != 0 || privilege(s) != 0 || !(value & X87) || (value & 6) == AVX ||
        (wide != 0 && (wide != 0xe0 || !(value & AVX))) || (value & ~((uint64_t)high << 32 | low)))
        return raise(job, VECTOR_GP);
    s->xcr0 = value;
    job->changed |= EMU_X86_XCR0;
    return EMU_HOST_DONE;
}

static enum emu_host_result bases(struct insn *i, emu_host_job *job)
{
    emu_x86 *s = job->state;
    uint32_t op = i->modrm >> 3 & 3;
    if (!i->wide || !(s->cr4 & CR4_FSGSBASE))
        return raise(job, VECTOR_UD);
    uint64_t *reg = &s->general[(i->modrm & 7) | (i->rex & 1) << 3];
    uint64_t *base = &s->segment[op & 1 ? EMU_X86_GS : EMU_X86_FS].base;
    if (op < 2) {
        *reg = i->rex & 8 ? *base : *base & UINT32_MAX;
        return EMU_HOST_DONE;
    }
    uint64_t value = i->rex & 8 ? *reg : *reg & UINT32_MAX;
    if ((int64_t)(value << 16) >> 16 != (int64_t)value)
        return raise(job, VECTOR_GP);
    *base = value;
    job->changed |= EMU_X86_SYSTEM;
    return EMU_HOST_DONE;
}

static enum emu_host_result keys(emu_host_job *job, bool write)
{
    emu_x86 *s = job->state;
    know_components();
    if (!(s->cr4 & CR4_PKE_BIT) || components[9].size == 0)
        return raise(job, VECTOR_UD);
    if (s->general[EMU_X86_RCX] & UINT32_MAX || (write && s->general[EMU_X86_RDX] & UINT32_MAX))
        return raise(job, VECTOR_GP);
    if (!has(job, EMU_X86_VECTORS))
        return EMU_HOST_FAILED;
    uint64_t in_use = load(s->xsave + XSTATE_BV);
    uint8_t *at = s->xsave + components[9].offset;
    if (write) {
        memcpy(at, &s->general[EMU_X86_RAX], 4);
        store(s->xsave + XSTATE_BV, in_use | PKRU);
        job->changed |= EMU_X86_VECTORS;
    } else {
        uint32_t value = 0;
        if (in_use & PKRU)
            memcpy(&value, at, sizeof value);
        give_edx_eax(s, value);
    }
    return EMU_HOST_DONE;
}

static enum emu_host_result counter(emu_host_job *job)
{
    emu_x86 *s = job->state;
    uint64_t tsc, aux;
    if ((s->cr4 & 4) && privilege(s) != 0)
        return raise(job, VECTOR_GP);
    if (!job->msr(job->opaque, MSR_TSC, &tsc, false) || !job->msr(job->opaque, MSR_TSC_AUX, &aux, false))
        return raise(job, VECTOR_UD);
    give_edx_eax(s, tsc);
    s->general[EMU_X86_RCX] = aux & UINT32_MAX;
    return EMU_HOST_DONE;
}

static enum emu_host_result of_0f01(struct insn *i, emu_host_job *job)
{
    emu_x86 *s = job->state;
    switch (i->modrm) {
    case 0xd0: return xcr(job, false);
    case 0xd1: return xcr(job, true);
    case 0xca: case 0xcb:
        if (privilege(s) != 0)
            return raise(job, VECTOR_UD);
        s->rflags = i->modrm == 0xcb ? s->rflags | FLAG_AC : s->rflags & ~(uint64_t)FLAG_AC;
        return EMU_HOST_DONE;
    case 0xee: case 0xef: return keys(job, i->modrm == 0xef);
    case 0xf9: return counter(job);
    }
    return EMU_HOST_NOT;
}

/* CLFLUSHOPT, CLWB: nothing here has to be written back. */
static enum emu_host_result cache_line(struct insn *i, emu_host_job *job)
{
    uint64_t linear;
    uint8_t byte;
    i->bytes_of_memory = 1;
    if (!emu_insn_memory(i) || i->over)
        return EMU_HOST_NOT;
    enum emu_host_result result = emu_insn_linear(i, job, &linear);
    return result != EMU_HOST_DONE ? result : emu_insn_transfer(job, linear, &byte, 1, false);
}

static enum emu_host_result of_group(struct insn *i, emu_host_job *job)
{
    emu_x86 *s = job->state;
    uint8_t reg = i->modrm >> 3 & 7;
    if (i->opcode == 0xae && !i->memory)
        return i->repeat == 0xf3 && reg < 4 ? bases(i, job) : EMU_HOST_NOT;
    if (i->opcode == 0xae && i->repeat == 0 && i->operand16)
        return reg >= 6 ? cache_line(i, job) : EMU_HOST_NOT;
    if (i->opcode == 0xae && i->repeat == 0 && (reg == 4 || reg == 5 || reg == 6))
        return xsave_family(i, job, reg != 5, false);
    if (i->opcode != 0xc7)
        return EMU_HOST_NOT;
    if (!i->memory && i->repeat == 0xf3 && reg == 7) { /* RDPID */
        uint64_t aux;
        if (!job->msr(job->opaque, MSR_TSC_AUX, &aux, false))
            return raise(job, VECTOR_UD);
        s->general[(i->modrm & 7) | (i->rex & 1) << 3] = aux & UINT32_MAX;
        return EMU_HOST_DONE;
    }
    if (!i->memory || i->repeat != 0 || i->operand16 || reg < 3 || reg > 5)
        return EMU_HOST_NOT;
    if (reg != 4 && privilege(s) != 0) /* XRSTORS, XSAVES */
        return raise(job, VECTOR_GP);
    return xsave_family(i, job, reg != 3, true);
}

/* INVPCID; there are no PCIDs here, so each kind is every translation. */
static enum emu_host_result invalidate(struct insn *i, emu_host_job *job)
{
    emu_x86 *s = job->state;
    uint64_t linear, descriptor[2];
    i->bytes_of_memory = sizeof descriptor;
    if (!i->memory || !emu_insn_memory(i) || i->over)
        return EMU_HOST_NOT;
    if (privilege(s) != 0)
        return raise(job, VECTOR_GP);
    enum emu_host_result result = emu_insn_linear(i, job, &linear);
    if (result == EMU_HOST_DONE)
        result = emu_insn_transfer(job, linear, (uint8_t *)descriptor, sizeof descriptor, false);
    if (result != EMU_HOST_DONE)
        return result;
    uint64_t kind = s->general[(i->modrm >> 3 & 7) | (i->rex & 4) << 1];
    if (!i->wide)
        kind &= UINT32_MAX;
    if (kind > 3 || (kind < 2 && descriptor[0] != 0) ||
        (kind == 0 && (int64_t)(descriptor[1] << 16) >> 16 != (int64_t)descriptor[1]))
        return raise(job, VECTOR_GP);
    job->forgets = true;
    return EMU_HOST_DONE;
}

enum emu_host_result emu_insn_system(struct insn *i, emu_host_job *job)
{
    enum emu_host_result result = EMU_HOST_NOT;
    if (i->map == 1 && i->opcode == 0x01 && !i->memory && i->repeat == 0 && !i->operand16)
        result = of_0f01(i, job);
    else if (i->map == 1 && (i->opcode == 0xae || i->opcode == 0xc7))
        result = of_group(i, job);
    else if (i->map == 2 && i->opcode == 0x82 && i->operand16 && i->repeat == 0 && !i->lock)
        result = invalidate(i, job);
    if (result == EMU_HOST_DONE) {
        job->state->rip += i->at;
        job->state->rflags &= ~UINT64_C(0x10000); /* RF */
        job->stepped = (job->state->rflags & FLAG_TF) != 0;
        job->changed |= EMU_X86_GENERAL;
    }
    return result;
}

#endif
