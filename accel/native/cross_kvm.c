/* emu_x86 from and to a vCPU of KVM's. */
#if defined(__x86_64__) && defined(__linux__)

#include "cross.h"

#include <errno.h>
#include <string.h>

#include <linux/kvm.h>

const uint32_t emu_x86_msr_index[EMU_X86_MSR_COUNT] = {
#define X(name, index) index,
    EMU_X86_MSRS(X)
#undef X
};

struct msrs {
    struct kvm_msrs head;
    struct kvm_msr_entry entries[EMU_X86_MSR_COUNT];
};

/* ---- general registers ----------------------------------------------------------- */

static void general_from(const emu_kvm_regs *r, emu_x86 *s)
{
    const uint64_t values[8] = {r->rax, r->rcx, r->rdx, r->rbx, r->rsp, r->rbp, r->rsi, r->rdi};
    memcpy(s->general, values, sizeof values);
    memcpy(s->general + 8, &r->r8, 8 * sizeof r->r8);
    s->rip = r->rip;
    s->rflags = r->rflags;
}

static void general_to(const emu_x86 *s, emu_kvm_regs *r)
{
    const uint64_t *g = s->general;
    *r = (emu_kvm_regs){.rax = g[EMU_X86_RAX], .rbx = g[EMU_X86_RBX], .rcx = g[EMU_X86_RCX], .rdx = g[EMU_X86_RDX],
                        .rsi = g[EMU_X86_RSI], .rdi = g[EMU_X86_RDI], .rsp = g[EMU_X86_RSP], .rbp = g[EMU_X86_RBP],
                        .rip = s->rip, .rflags = s->rflags};
    memcpy(&r->r8, g + 8, 8 * sizeof *g);
}

/* ---- segments and control registers ------------------------------------------------ */

static void segment_from(const emu_kvm_segment *k, struct emu_x86_segment *s)
{
    s->base = k->base;
    s->limit = k->limit;
    s->selector = k->selector;
    s->attributes = (uint32_t)(k->type | k->s << 4 | k->dpl << 5 | k->present << 7 | k->avl << 12 | k->l << 13 |
                               k->db << 14 | k->g << 15 | (k->unusable || !k->present) << 16);
}

static void segment_to(const struct emu_x86_segment *s, emu_kvm_segment *k)
{
    uint32_t a = s->attributes;
    *k = (emu_kvm_segment){.base = s->base, .limit = s->limit, .selector = s->selector,
                           .type = a & 15, .s = a >> 4 & 1, .dpl = a >> 5 & 3, .present = a >> 7 & 1,
                           .avl = a >> 12 & 1, .l = a >> 13 & 1, .db = a >> 14 & 1, .g = a >> 15 & 1,
                           .unusable = a >> 16 & 1};
}

static emu_kvm_segment *place(emu_kvm_sregs *k, unsigned which)
{
    emu_kvm_segment *const places[8] = {&k->es, &k->cs, &k->ss, &k->ds, &k->fs, &k->gs, &k->ldt, &k->tr};
    return places[which];
}

static void system_from(emu_kvm_sregs *k, emu_x86 *s)
{
    for (unsigned i = 0; i < 8; i++)
        segment_from(place(k, i), &s->segment[i]);
    s->gdt = (struct emu_x86_table){k->gdt.base, k->gdt.limit};
    s->idt = (struct emu_x86_table){k->idt.base, k->idt.limit};
    s->cr0 = k->cr0;
    s->cr2 = k->cr2;
    s->cr3 = k->cr3;
    s->cr4 = k->cr4;
    s->cr8 = k->cr8;
    s->efer = k->efer;
    s->apic_base = k->apic_base;
}

static void system_to(const emu_x86 *s, emu_kvm_sregs *k)
{
    for (unsigned i = 0; i < 8; i++)
        segment_to(&s->segment[i], place(k, i));
    k->gdt = (emu_kvm_dtable){.base = s->gdt.base, .limit = (uint16_t)s->gdt.limit};
    k->idt = (emu_kvm_dtable){.base = s->idt.base, .limit = (uint16_t)s->idt.limit};
    k->cr0 = s->cr0;
    k->cr2 = s->cr2;
    k->cr3 = s->cr3;
    k->cr4 = s->cr4;
    k->cr8 = s->cr8;
    k->efer = s->efer;
    k->apic_base = s->apic_base;
}

/* ---- all ------------------------------------------------------------------------------ */

/* KVM stops at an MSR that it does not take: that one is passed over. */
static int each_msr(int fd, struct msrs *msrs, uint64_t request)
{
    struct msrs rest = *msrs;
    uint32_t at = 0;
    while (at < EMU_X86_MSR_COUNT) {
        rest.head.nmsrs = EMU_X86_MSR_COUNT - at;
        memcpy(rest.entries, msrs->entries + at, rest.head.nmsrs * sizeof *msrs->entries);
        int done = emu_kvm_ioctl(fd, request, &rest);
        if (done < 0)
            return done;
        memcpy(msrs->entries + at, rest.entries, (size_t)done * sizeof *msrs->entries);
        at += (uint32_t)done + 1;
    }
    return 0;
}

int emu_x86_msr(emu_kvm_vcpu *vcpu, uint32_t index, uint64_t *value, bool write)
{
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry entry;
    } one = {.head.nmsrs = 1, .entry = {.index = index, .data = write ? *value : 0}};
    int done = emu_kvm_ioctl(emu_kvm_vcpu_fd(vcpu), write ? KVM_SET_MSRS : KVM_GET_MSRS, &one);
    *value = one.entry.data;
    return done == 1 ? 0 : -EINVAL;
}

int emu_x86_from_kvm(emu_kvm_vcpu *vcpu, emu_x86 *s, unsigned groups)
{
    int fd = emu_kvm_vcpu_fd(vcpu), status = 0;
    if (groups & EMU_X86_GENERAL) {
        emu_kvm_regs regs;
        if ((status = emu_kvm_vcpu_regs(vcpu, &regs)) < 0)
            return status;
        general_from(&regs, s);
    }
    if (groups & EMU_X86_SYSTEM) {
        emu_kvm_sregs sregs;
        if ((status = emu_kvm_vcpu_sregs(vcpu, &sregs)) < 0)
            return status;
        system_from(&sregs, s);
    }
    if ((groups & EMU_X86_VECTORS) && (status = emu_kvm_ioctl(fd, KVM_GET_XSAVE, s->xsave)) < 0)
        return status;
    if (groups & EMU_X86_MSRS_GROUP) {
        struct msrs msrs = {0};
        for (unsigned i = 0; i < EMU_X86_MSR_COUNT; i++)
            msrs.entries[i].index = emu_x86_msr_index[i];
        if ((status = each_msr(fd, &msrs, KVM_GET_MSRS)) < 0)
            return status;
        for (unsigned i = 0; i < EMU_X86_MSR_COUNT; i++)
            s->msr[i] = msrs.entries[i].data;
    }
    if (groups & EMU_X86_EVENTS) {
        emu_kvm_events events;
        if ((status = emu_kvm_vcpu_events(vcpu, &events)) < 0)
            return status;
        s->shadow = events.interrupt_shadow != 0;
        s->nmi_masked = events.nmi_masked != 0;
    }
    if (groups & EMU_X86_DEBUG) {
        struct kvm_debugregs debug;
        if ((status = emu_kvm_ioctl(fd, KVM_GET_DEBUGREGS, &debug)) < 0)
            return status;
        memcpy(s->debug, debug.db, sizeof debug.db);
        s->debug[6] = debug.dr6;
        s->debug[7] = debug.dr7;
    }
    if (groups & EMU_X86_XCR0) {
        struct kvm_xcrs xcrs;
        if ((status = emu_kvm_ioctl(fd, KVM_GET_XCRS, &xcrs)) < 0)
            return status;
        s->xcr0 = xcrs.nr_xcrs != 0 ? xcrs.xcrs[0].value : 1;
    }
    return 0;
}

int emu_x86_to_kvm(emu_kvm_vcpu *vcpu, const emu_x86 *s, unsigned groups)
{
    int fd = emu_kvm_vcpu_fd(vcpu), status = 0;
    if (groups & EMU_X86_SYSTEM) {
        emu_kvm_sregs sregs, before;
        if ((status = emu_kvm_vcpu_sregs(vcpu, &before)) < 0)
            return status;
        sregs = before;
        memset(sregs.interrupt_bitmap, 0, sizeof sregs.interrupt_bitmap);
        system_to(s, &sregs);
        if (memcmp(&sregs, &before, sizeof sregs) != 0 && (status = emu_kvm_vcpu_set_sregs(vcpu, &sregs)) < 0)
            return status;
    }
    if (groups & EMU_X86_XCR0) {
        struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs[0] = {.xcr = 0, .value = s->xcr0}};
        if ((status = emu_kvm_ioctl(fd, KVM_SET_XCRS, &xcrs)) < 0)
            return status;
    }
    if ((groups & EMU_X86_VECTORS) && (status = emu_kvm_ioctl(fd, KVM_SET_XSAVE, (void *)s->xsave)) < 0)
        return status;
    if (groups & EMU_X86_MSRS_GROUP) {
        struct msrs msrs = {0};
        for (unsigned i = 0; i < EMU_X86_MSR_COUNT; i++) {
            msrs.entries[i].index = emu_x86_msr_index[i];
            msrs.entries[i].data = s->msr[i];
        }
        if ((status = each_msr(fd, &msrs, KVM_SET_MSRS)) < 0)
            return status;
    }
    if (groups & EMU_X86_DEBUG) {
        struct kvm_debugregs debug = {.dr6 = s->debug[6], .dr7 = s->debug[7]};
        memcpy(debug.db, s->debug, sizeof debug.db);
        if ((status = emu_kvm_ioctl(fd, KVM_SET_DEBUGREGS, &debug)) < 0)
            return status;
    }
    if (groups & EMU_X86_EVENTS) {
        emu_kvm_events events;
        if ((status = emu_kvm_vcpu_events(vcpu, &events)) < 0)
            return status;
        events.exception_injected = s->exception.pending;
        events.exception_nr = s->exception.vector;
        events.exception_has_error_code = s->exception.has_error;
        events.exception_error_code = s->exception.error;
        events.exception_pending = events.exception_has_payload = 0;
        events.flags = KVM_VCPUEVENT_VALID_SHADOW;
        events.interrupt_shadow = s->shadow ? KVM_X86_SHADOW_INT_STI : 0;
        events.nmi_masked = s->nmi_masked;
        if ((status = emu_kvm_vcpu_set_events(vcpu, &events)) < 0)
            return status;
    }
    if (groups & EMU_X86_GENERAL) {
        emu_kvm_regs regs;
        general_to(s, &regs);
        status = emu_kvm_vcpu_set_regs(vcpu, &regs);
    }
    return status;
}

#else

typedef int emu_cross_kvm_is_for_x86_64;

#endif
