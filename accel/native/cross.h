/*
 * The crossing: a vCPU of KVM's goes on where KVM refuses an instruction.
 *
 * Its state has one form that names no engine, emu_x86; cross_kvm.c and
 * cross_uc.c read and write it.  An instruction that KVM refuses is done by the
 * host's CPU (cross_host.c) or, what it cannot be asked for, by a companion: a
 * Unicorn machine on the same maps (cross.c).
 */
#ifndef EMU_CROSS_H
#define EMU_CROSS_H

#include "core.h"
#include "kvm.h"
#include "uc.h"

#include <stdbool.h>

/* The order of instruction encodings. */
enum { EMU_X86_ES, EMU_X86_CS, EMU_X86_SS, EMU_X86_DS, EMU_X86_FS, EMU_X86_GS, EMU_X86_LDTR, EMU_X86_TR };
enum { EMU_X86_RAX, EMU_X86_RCX, EMU_X86_RDX, EMU_X86_RBX, EMU_X86_RSP, EMU_X86_RBP, EMU_X86_RSI, EMU_X86_RDI };

struct emu_x86_segment {
    uint64_t base;
    uint32_t limit;      /* in bytes */
    uint32_t attributes; /* Intel SDM vol. 3, table 25-2 */
    uint16_t selector;
};

struct emu_x86_table {
    uint64_t base;
    uint32_t limit;
};

/* The MSRs that instructions use or that another engine must know, by their place in emu_x86.msr. */
#define EMU_X86_MSRS(X)                                                                                       \
    X(STAR, 0xc0000081) X(LSTAR, 0xc0000082) X(CSTAR, 0xc0000083) X(SFMASK, 0xc0000084)                       \
    X(KERNEL_GS_BASE, 0xc0000102) X(SYSENTER_CS, 0x174) X(SYSENTER_ESP, 0x175) X(SYSENTER_EIP, 0x176)         \
    X(PAT, 0x277)
enum {
#define X(name, index) EMU_X86_##name,
    EMU_X86_MSRS(X)
#undef X
    EMU_X86_MSR_COUNT,
};
extern const uint32_t emu_x86_msr_index[EMU_X86_MSR_COUNT];

enum { EMU_X86_XSAVE_SIZE = 4096 };

typedef struct emu_x86 {
    _Alignas(64) uint8_t xsave[EMU_X86_XSAVE_SIZE]; /* standard format */
    uint64_t general[16];
    uint64_t rip, rflags;
    struct emu_x86_segment segment[8];
    struct emu_x86_table gdt, idt;
    uint64_t cr0, cr2, cr3, cr4, cr8, efer, apic_base, xcr0;
    uint64_t debug[8]; /* 0 to 3, 6, 7 */
    uint64_t msr[EMU_X86_MSR_COUNT];
    bool shadow; /* of STI and MOV SS: interrupts wait for one instruction more */
    bool nmi_masked;
    struct emu_x86_exception { /* to be delivered before anything else; what KVM queued for a refusal is none */
        bool pending, has_error;
        uint8_t vector;
        uint32_t error;
    } exception;
} emu_x86;

/* Groups of it, each of which may cost a call. */
enum emu_x86_group {
    EMU_X86_GENERAL = 1, /* and rip, rflags */
    EMU_X86_SYSTEM = 2,  /* segments, tables, cr, efer */
    EMU_X86_VECTORS = 4, /* xsave */
    EMU_X86_MSRS_GROUP = 8,
    EMU_X86_EVENTS = 16,
    EMU_X86_DEBUG = 32,
    EMU_X86_XCR0 = 64,
    EMU_X86_ALL = 127,
};

/* 0 or -errno.  The vCPU is out of KVM_RUN, no access under way. */
int emu_x86_from_kvm(emu_kvm_vcpu *vcpu, emu_x86 *state, unsigned groups);
int emu_x86_to_kvm(emu_kvm_vcpu *vcpu, const emu_x86 *state, unsigned groups);
/* One MSR; not 0: KVM refuses it. */
int emu_x86_msr(emu_kvm_vcpu *vcpu, uint32_t index, uint64_t *value, bool write);
/* Not while it runs. */
void emu_x86_from_uc(emu_uc_machine *machine, emu_x86 *state, unsigned groups);
void emu_x86_to_uc(emu_uc_machine *machine, const emu_x86 *state, unsigned groups);

/* ---- the crossing of one vCPU ------------------------------------------------- */

/* vm, slot: as for emu_kvm_vcpu_cross.  NULL: no memory. */
emu_cross *emu_cross_new(emu_kvm_vcpu *vcpu, emu_space *memory, emu_space *ports, int vm, uint32_t slot);
void emu_cross_stays(emu_cross *cross, int stays);
/*
 * KVM refused the instruction `bytes` at rip.  0: the vCPU goes on, inside or
 * under KVM; else what its run ends with, in *out.
 */
int emu_cross_refused(emu_cross *cross, const uint8_t *bytes, uint32_t nbytes, bool may_stay, emu_exit *out);
/* Has the companion take it, without any refusal.  As emu_cross_refused. */
int emu_cross_move_in(emu_cross *cross, emu_exit *out);
/* Whether the companion has the vCPU: emu_cross_go in place of KVM_RUN. */
bool emu_cross_inside(const emu_cross *cross);
int emu_cross_go(emu_cross *cross, emu_exit *out);
uint64_t emu_cross_pc(emu_cross *cross);
/* Gives it back to KVM, for whoever asks for registers.  0 or -errno. */
int emu_cross_leave(emu_cross *cross);
/* The vCPU's inputs and what it tells, as of kvm.h; the first from any thread. */
void emu_cross_interrupt(emu_cross *cross, int line, int level);
void emu_cross_sleep(emu_cross *cross, int sleeps);
/* From any thread: ends what goes on outside of KVM soon; the memory map has changed. */
void emu_cross_kick(emu_cross *cross);
void emu_cross_remap(emu_cross *cross);
#endif
