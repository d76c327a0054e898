/* The user-mode engine on KVM: a guest thread's registers. */
#if defined(__x86_64__) && defined(__linux__)

#include "kvm_user_vm.h"

#include <string.h>

/* ---- registers ------------------------------------------------------------------------ */

static void read_xsave(emu_engine *engine)
{
    if (!engine->xsave_known && ioctl(engine->vcpu, KVM_GET_XSAVE, &engine->xsave) == 0)
        engine->xsave_known = true;
}

void kvm_user_save(emu_engine *engine, emu_cpu_state *state)
{
    memset(state, 0, sizeof *state);
    const struct kvm_regs *regs = registers(engine);
    const struct frame *frame = frame_of(engine);
    bool exception = engine->at == AT_EXCEPTION, call = engine->at == AT_SYSCALL;
    const uint64_t general[16] = {exception ? frame->rax : regs->rax,
                                  regs->rcx,
                                  regs->rdx,
                                  regs->rbx,
                                  exception ? frame->rsp : regs->rsp,
                                  regs->rbp,
                                  regs->rsi,
                                  regs->rdi,
                                  regs->r8,
                                  regs->r9,
                                  regs->r10,
                                  regs->r11,
                                  regs->r12,
                                  regs->r13,
                                  regs->r14,
                                  regs->r15};
    memcpy(state->r, general, sizeof general);
    state->pc = exception ? frame->rip : call ? regs->rcx : regs->rip;
    state->flags = exception ? frame->rflags : call ? regs->r11 : regs->rflags;
    state->flags |= FLAGS_FIXED;
    struct kvm_sregs sregs;
    if ((engine->run->kvm_dirty_regs & KVM_SYNC_X86_SREGS) != 0 || ioctl(engine->vcpu, KVM_GET_SREGS, &sregs) < 0)
        sregs = engine->user;
    state->tls[0] = sregs.fs.base;
    state->tls[1] = sregs.gs.base;
    read_xsave(engine);
    const uint8_t *area = (const uint8_t *)engine->xsave.region;
    uint32_t mxcsr;
    memcpy(&mxcsr, area + XSAVE_MXCSR, sizeof mxcsr);
    state->fpcr = mxcsr;
    memcpy(state->x87, area, sizeof state->x87);
    memcpy(state->v, area + XSAVE_XMM, 16 * 16);
}

static uint64_t canonical(uint64_t addr)
{
    return (uint64_t)((int64_t)(addr << 16) >> 16);
}

static void write_xsave(emu_engine *engine, const emu_cpu_state *state)
{
    read_xsave(engine);
    uint8_t *area = (uint8_t *)engine->xsave.region;
    uint32_t mask, mxcsr;
    memcpy(&mask, area + XSAVE_MXCSR_MASK, sizeof mask);
    mxcsr = (uint32_t)state->fpcr & (mask != 0 ? mask : 0xffbf);
    memcpy(area, state->x87, sizeof state->x87);
    memcpy(area + XSAVE_MXCSR, &mxcsr, sizeof mxcsr);
    memcpy(area + XSAVE_MXCSR_MASK, &mask, sizeof mask);
    memcpy(area + XSAVE_XMM, state->v, 16 * 16);
    uint64_t present;
    memcpy(&present, area + XSAVE_HEADER, sizeof present);
    present |= 3; /* x87 and SSE are there, whatever they were before */
    memcpy(area + XSAVE_HEADER, &present, sizeof present);
    (void)ioctl(engine->vcpu, KVM_SET_XSAVE, &engine->xsave);
}

void kvm_user_load(emu_engine *engine, const emu_cpu_state *state)
{
    const uint64_t *r = state->r;
    *registers(engine) = (struct kvm_regs){
        .rax = r[0], .rcx = r[1], .rdx = r[2],  .rbx = r[3],  .rsp = r[4],  .rbp = r[5],  .rsi = r[6],  .rdi = r[7],
        .r8 = r[8],  .r9 = r[9],  .r10 = r[10], .r11 = r[11], .r12 = r[12], .r13 = r[13], .r14 = r[14], .r15 = r[15],
        .rip = state->pc,
        .rflags = (state->flags & FLAGS_USER) | FLAGS_FIXED,
    };
    engine->user.fs.base = canonical(state->tls[0]);
    engine->user.gs.base = canonical(state->tls[1]);
    engine->run->s.regs.sregs = engine->user;
    engine->run->kvm_dirty_regs |= KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
    engine->at = AT_USER;
    write_xsave(engine, state);
}

void kvm_user_result(emu_engine *engine, uint64_t value)
{
    if (engine->at == AT_EXCEPTION) {
        frame_of(engine)->rax = value;
    } else {
        registers(engine)->rax = value;
        registers_changed(engine);
    }
}

void kvm_user_hwcap(emu_engine *engine, uint64_t out[2])
{
    out[0] = kvm_user_host.cpuid_1_edx;
    out[1] = 0;
}

/* ---- what programs of this ISA alone need ------------------------------------------------------ */

uint32_t kvm_user_xsave(emu_engine *engine, uint8_t *image, uint32_t room)
{
    if (room < kvm_user_host.xsave_size)
        return 0;
    read_xsave(engine);
    memcpy(image, &engine->xsave, kvm_user_host.xsave_size);
    const struct {
        uint32_t magic1, extended_size;
        uint64_t features;
        uint32_t size, padding[7];
    } description = {.magic1 = 0x46505853, .extended_size = kvm_user_host.xsave_size + 4, .features = kvm_user_host.xcr0, .size = kvm_user_host.xsave_size};
    memcpy(image + XSAVE_DESCRIPTION, &description, sizeof description);
    return kvm_user_host.xsave_size;
}

void kvm_user_xrstor(emu_engine *engine, const uint8_t *image, uint32_t size)
{
    if (size < XSAVE_HEADER + XSAVE_HEADER_SIZE)
        return;
    read_xsave(engine);
    uint8_t *area = (uint8_t *)engine->xsave.region;
    uint64_t present;
    uint32_t mask, mxcsr;
    memcpy(&mask, area + XSAVE_MXCSR_MASK, sizeof mask);
    memcpy(&mxcsr, image + XSAVE_MXCSR, sizeof mxcsr);
    memcpy(&present, image + XSAVE_HEADER, sizeof present);
    present &= kvm_user_host.xcr0;
    mxcsr &= mask != 0 ? mask : 0xffbf;
    memset(area, 0, sizeof engine->xsave);
    memcpy(area, image, size < kvm_user_host.xsave_size ? size : kvm_user_host.xsave_size);
    memcpy(area + XSAVE_MXCSR, &mxcsr, sizeof mxcsr);
    memcpy(area + XSAVE_MXCSR_MASK, &mask, sizeof mask);
    memset(area + XSAVE_DESCRIPTION, 0, XSAVE_HEADER - XSAVE_DESCRIPTION);
    memset(area + XSAVE_HEADER, 0, XSAVE_HEADER_SIZE);
    memcpy(area + XSAVE_HEADER, &present, sizeof present);
    if (ioctl(engine->vcpu, KVM_SET_XSAVE, &engine->xsave) < 0)
        engine->xsave_known = false;
}

#endif
