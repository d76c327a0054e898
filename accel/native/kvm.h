/*
 * KVM: the run loop of a vCPU and its registers.  An exit for a port or for
 * memory goes straight to emu_space_read/write on the machine's maps; only what
 * concerns the machine returns.  Set-up is Python's (accel/kvm), by
 * emu_kvm_ioctl and the structures and numbers below.
 *
 * The structures have the kernel's layout (Documentation/virt/kvm/api.rst), and
 * so have the numbers: kvm.c compares them with the system's headers.
 * x86-64 hosts only; elsewhere every call answers -ENOSYS.
 *
 * All functions that return int give -errno on failure unless they say otherwise.
 */
#ifndef EMU_KVM_H
#define EMU_KVM_H

#include "core.h"

/* of the device */
#define EMU_KVM_GET_API_VERSION 0xae00
#define EMU_KVM_CREATE_VM 0xae01
#define EMU_KVM_GET_MSR_INDEX_LIST 0xc004ae02
#define EMU_KVM_CHECK_EXTENSION 0xae03
#define EMU_KVM_GET_VCPU_MMAP_SIZE 0xae04
#define EMU_KVM_GET_SUPPORTED_CPUID 0xc008ae05
/* of a VM */
#define EMU_KVM_SET_USER_MEMORY_REGION 0x4020ae46
#define EMU_KVM_SET_TSS_ADDR 0xae47
#define EMU_KVM_SET_IDENTITY_MAP_ADDR 0x4008ae48
#define EMU_KVM_GET_DIRTY_LOG 0x4010ae42
#define EMU_KVM_CREATE_IRQCHIP 0xae60
#define EMU_KVM_SET_GSI_ROUTING 0x4008ae6a
#define EMU_KVM_GET_IRQCHIP 0xc208ae62
#define EMU_KVM_SET_IRQCHIP 0x8208ae63
#define EMU_KVM_CREATE_PIT2 0x4040ae77
#define EMU_KVM_IOEVENTFD 0x4040ae79
#define EMU_KVM_SET_CLOCK 0x4030ae7b
#define EMU_KVM_GET_CLOCK 0x8030ae7c
#define EMU_KVM_GET_PIT2 0x8070ae9f
#define EMU_KVM_SET_PIT2 0x4070aea0
#define EMU_KVM_SIGNAL_MSI 0x4020aea5
#define EMU_KVM_ENABLE_CAP 0x4068aea3
/* of a vCPU */
#define EMU_KVM_TRANSLATE 0xc018ae85
#define EMU_KVM_GET_MSRS 0xc008ae88
#define EMU_KVM_SET_MSRS 0x4008ae89
#define EMU_KVM_GET_LAPIC 0x8400ae8e
#define EMU_KVM_SET_LAPIC 0x4400ae8f
#define EMU_KVM_SET_CPUID2 0x4008ae90
#define EMU_KVM_GET_CPUID2 0xc008ae91
#define EMU_KVM_GET_MP_STATE 0x8004ae98
#define EMU_KVM_SET_MP_STATE 0x4004ae99
#define EMU_KVM_SET_GUEST_DEBUG 0x4048ae9b
#define EMU_KVM_GET_VCPU_EVENTS 0x8040ae9f
#define EMU_KVM_SET_VCPU_EVENTS 0x4040aea0
#define EMU_KVM_GET_DEBUGREGS 0x8080aea1
#define EMU_KVM_SET_DEBUGREGS 0x4080aea2
#define EMU_KVM_GET_XSAVE 0x9000aea4
#define EMU_KVM_SET_XSAVE 0x5000aea5
#define EMU_KVM_GET_XCRS 0x8188aea6
#define EMU_KVM_SET_XCRS 0x4188aea7

/* the system call itself, repeated when a signal interrupts it */
int emu_kvm_ioctl(int fd, uint64_t request, void *argument);
/* the same for a request whose argument is a plain number */
int emu_kvm_control(int fd, uint64_t request, uint64_t argument);

typedef struct emu_kvm_slot { /* kvm_userspace_memory_region */
    uint32_t slot;
    uint32_t flags; /* 1: log writes; 2: read-only */
    uint64_t base;
    uint64_t size; /* 0 deletes the slot */
    uint64_t host;
} emu_kvm_slot;

typedef struct emu_kvm_dirty_log { /* kvm_dirty_log */
    uint32_t slot;
    uint32_t pad;
    void *bitmap; /* a bit for each page, in words of 64 */
} emu_kvm_dirty_log;

typedef struct emu_kvm_ioevent { /* kvm_ioeventfd */
    uint64_t match;
    uint64_t base;
    uint32_t width; /* 0: any */
    int32_t fd;
    uint32_t flags; /* 1: match counts; 2: a port; 4: take it away */
    uint8_t reserved[36];
} emu_kvm_ioevent;

typedef struct emu_kvm_regs { /* kvm_regs */
    uint64_t rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp;
    uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
    uint64_t rip, rflags;
} emu_kvm_regs;

typedef struct emu_kvm_segment { /* kvm_segment */
    uint64_t base;
    uint32_t limit; /* in bytes, whatever g says */
    uint16_t selector;
    uint8_t type, present, dpl, db, s, l, g, avl, unusable, padding;
} emu_kvm_segment;

typedef struct emu_kvm_dtable { /* kvm_dtable */
    uint64_t base;
    uint16_t limit;
    uint16_t padding[3];
} emu_kvm_dtable;

typedef struct emu_kvm_sregs { /* kvm_sregs */
    emu_kvm_segment cs, ds, es, fs, gs, ss, tr, ldt;
    emu_kvm_dtable gdt, idt;
    uint64_t cr0, cr2, cr3, cr4, cr8, efer, apic_base;
    uint64_t interrupt_bitmap[4];
} emu_kvm_sregs;

typedef struct emu_kvm_events { /* kvm_vcpu_events */
    uint8_t exception_injected, exception_nr, exception_has_error_code, exception_pending;
    uint32_t exception_error_code;
    uint8_t interrupt_injected, interrupt_nr, interrupt_soft, interrupt_shadow;
    uint8_t nmi_injected, nmi_pending, nmi_masked, nmi_pad;
    uint32_t sipi_vector;
    uint32_t flags;
    uint8_t smi_smm, smi_pending, smi_inside_nmi, smi_latched_init;
    uint8_t triple_fault_pending;
    uint8_t reserved[26];
    uint8_t exception_has_payload;
    uint64_t exception_payload;
} emu_kvm_events;

typedef struct emu_kvm_debugregs { /* kvm_debugregs */
    uint64_t db[4];
    uint64_t dr6, dr7, flags;
    uint64_t reserved[9];
} emu_kvm_debugregs;

typedef struct emu_kvm_guest_debug { /* kvm_guest_debug */
    uint32_t control; /* 1: on; 2: single step; 0x20000: the debug registers here */
    uint32_t pad;
    uint64_t debugreg[8];
} emu_kvm_guest_debug;

typedef struct emu_kvm_translation { /* kvm_translation */
    uint64_t linear;
    uint64_t physical;
    uint8_t valid, writeable, usermode;
    uint8_t pad[5];
} emu_kvm_translation;

/* ---- interrupts of an in-kernel controller ---------------------------------- */

enum { EMU_KVM_ROUTES = 24 }; /* inputs of an I/O APIC outside the kernel */

typedef struct emu_kvm_chip {
    int32_t vm; /* the VM's descriptor, -1 once it is closed */
    uint32_t reserved;
    uint64_t address[EMU_KVM_ROUTES]; /* what each of those inputs sends; data 0: nothing */
    uint32_t data[EMU_KVM_ROUTES];
} emu_kvm_chip;

/* An emu_irq_fn: drives the input `number` (GSI) of the emu_kvm_chip `opaque`. */
void emu_kvm_gsi(void *opaque, uint32_t number, int level);
int emu_kvm_msi(const emu_kvm_chip *chip, uint64_t address, uint32_t data);
/*
 * The local APICs alone in the kernel: a message for them, and what an input of
 * the I/O APIC sends from now on, so that they tell the end of a level (opaque: emu_kvm_chip).
 */
void emu_kvm_send(void *opaque, uint64_t address, uint32_t data);
void emu_kvm_route(void *opaque, uint32_t input, uint64_t address, uint32_t data);

/* ---- a vCPU ----------------------------------------------------------------- */

typedef struct emu_kvm_vcpu emu_kvm_vcpu;

/* Which interrupt controllers are in the kernel. */
enum emu_kvm_irqchip {
    EMU_KVM_CHIP_NONE = 0,
    EMU_KVM_CHIP_ALL = 1,
    EMU_KVM_CHIP_LOCAL = 2, /* the local APICs */
};

/*
 * Creates vCPU `index` of the VM.  run_size: of GET_VCPU_MMAP_SIZE; sync: what
 * KVM_CAP_SYNC_REGS offers, 0 for none; irqchip: an emu_kvm_irqchip.  The maps
 * outlive the vCPU; ports may be NULL.
 */
int emu_kvm_vcpu_open(int vm, uint32_t index, uint64_t run_size, uint32_t sync, int irqchip,
                      emu_space *memory, emu_space *ports, emu_kvm_vcpu **out);
void emu_kvm_vcpu_close(emu_kvm_vcpu *vcpu);
int emu_kvm_vcpu_fd(const emu_kvm_vcpu *vcpu);

/* `code` of EMU_EXIT_KICKED */
enum emu_kvm_kick {
    EMU_KVM_KICK = 1,      /* emu_kvm_vcpu_kick */
    EMU_KVM_SIGNAL = 2,    /* a signal of the host's, to be handled by the caller */
    EMU_KVM_ATTENTION = 3, /* an interrupt arrived: handle signals and run again */
};

/*
 * Runs until something concerns the machine and returns out->kind.  budget: stop
 * after so many exits, 0 for no end.  One thread at a time.
 */
int emu_kvm_vcpu_run(emu_kvm_vcpu *vcpu, uint64_t budget, emu_exit *out);

/*
 * Makes the running, or else the next, run return EMU_EXIT_KICKED.  From any
 * thread, and from a signal handler.
 */
void emu_kvm_vcpu_kick(emu_kvm_vcpu *vcpu);

/*
 * What controllers outside the kernel drive.  With a vector, bit 8 and above
 * are the controller's own.  From any thread.
 */
enum emu_kvm_line {
    EMU_KVM_INTR,     /* level = vector + 1; 0 withdraws it */
    EMU_KVM_NMI,      /* on its rising edge */
    EMU_KVM_INIT,     /* on level 1 */
    EMU_KVM_START,    /* the start-up interrupt; level = its vector */
    EMU_KVM_PRIORITY, /* the local APIC's task priority, 0 to 255: CR8 */
};
void emu_kvm_vcpu_interrupt(emu_kvm_vcpu *vcpu, int line, int level);
/* The same as an emu_irq_fn; opaque: the vCPU. */
void emu_kvm_vcpu_input(void *vcpu, uint32_t line, int level);

/*
 * What the vCPU tells a controller outside the kernel, with its index as the
 * number; in its own thread.  NULL: nobody.
 */
enum emu_kvm_told {
    EMU_KVM_TAKES,   /* it takes that vector, as INTR gave it */
    EMU_KVM_CR8,     /* it changed the task priority: CR8 */
    EMU_KVM_ENABLES, /* its APIC base register says: the local APIC is on (1), off (0) */
    EMU_KVM_ENDS,    /* the kernel's local APIC saw the end of a level-triggered vector */
    EMU_KVM_TOLD,
};
void emu_kvm_vcpu_tell(emu_kvm_vcpu *vcpu, int what, emu_irq_fn fn, void *opaque);

/* Whether run sleeps while the CPU waits, in place of returning EMU_EXIT_HALT. */
void emu_kvm_vcpu_sleep(emu_kvm_vcpu *vcpu, int sleeps);

/*
 * Completes an access that is under way, so that the state is that between two
 * instructions.  EMU_OK, EMU_RAISED when a hook raised meanwhile, or -errno.
 */
int emu_kvm_vcpu_settle(emu_kvm_vcpu *vcpu);

/* Registers; the vCPU is not running.  Setting takes effect at the next run or get. */
int emu_kvm_vcpu_regs(emu_kvm_vcpu *vcpu, emu_kvm_regs *out);
int emu_kvm_vcpu_set_regs(emu_kvm_vcpu *vcpu, const emu_kvm_regs *regs);
int emu_kvm_vcpu_sregs(emu_kvm_vcpu *vcpu, emu_kvm_sregs *out);
int emu_kvm_vcpu_set_sregs(emu_kvm_vcpu *vcpu, const emu_kvm_sregs *sregs);
/* Events under way; the kernel has queued #UD after an instruction that it refused. */
int emu_kvm_vcpu_events(emu_kvm_vcpu *vcpu, emu_kvm_events *out);
int emu_kvm_vcpu_set_events(emu_kvm_vcpu *vcpu, const emu_kvm_events *events);
/* Hands registers that were set to the kernel now, where an order matters. */
int emu_kvm_vcpu_flush(emu_kvm_vcpu *vcpu);

/* Halted: executed HLT and waits (only without an in-kernel controller). */
int emu_kvm_vcpu_halted(const emu_kvm_vcpu *vcpu);
void emu_kvm_vcpu_set_halted(emu_kvm_vcpu *vcpu, int halted);
/* Parked: waits for a start-up interrupt (the same). */
int emu_kvm_vcpu_parked(const emu_kvm_vcpu *vcpu);
void emu_kvm_vcpu_set_parked(emu_kvm_vcpu *vcpu, int parked);

/* Exits so far: all, and those that were served without leaving C. */
typedef struct emu_kvm_counts {
    uint64_t exits;
    uint64_t io;
    uint64_t mmio;
    uint64_t signals;
} emu_kvm_counts;
void emu_kvm_vcpu_counts(const emu_kvm_vcpu *vcpu, emu_kvm_counts *out);

/* ---- what KVM refuses to emulate (cross.c) ------------------------------------- */

/* Has another engine do what KVM refuses, from now on; else it ends a run with EMU_EXIT_FAULT. */
/* vm, slot: of its memory slots one that stays free. */
int emu_kvm_vcpu_cross(emu_kvm_vcpu *vcpu, int vm, uint32_t slot);
/* What CPUID answers there, a kvm_cpuid2 of `size` bytes; before the first run.  -EINVAL: too many leaves. */
int emu_kvm_vcpu_cross_cpuid(emu_kvm_vcpu *vcpu, const void *table, size_t size);
/*
 * Whether that engine may keep the vCPU, and gets it when it is in kernel mode
 * for long: where it is the only one, has no controller in the kernel, runs in a
 * thread that has no signals to hear, and KVM is slower.
 */
void emu_kvm_vcpu_stays(emu_kvm_vcpu *vcpu, int stays);
/* Gives the vCPU back to KVM, before calls with its descriptor; 0 or -errno. */
int emu_kvm_vcpu_come_back(emu_kvm_vcpu *vcpu);
/* For that engine: INTR as it stands; that it took the vector there. */
int emu_kvm_vcpu_intr(const emu_kvm_vcpu *vcpu);
unsigned emu_kvm_vcpu_priority(const emu_kvm_vcpu *vcpu); /* CR8 */
void emu_kvm_vcpu_set_priority(emu_kvm_vcpu *vcpu, unsigned priority);
void emu_kvm_vcpu_took(emu_kvm_vcpu *vcpu, int vector);
/*
 * A debugger has set stops, or steps: that engine does not keep the vCPU meanwhile, and what it does is a step.
 * INT3S: some stops are INT3 in the guest's memory; every INT3 is EMU_EXIT_DEBUG with code EMU_KVM_BREAKPOINT and
 * the instruction's linear address, which has not been executed.
 */
enum emu_kvm_debugs { EMU_KVM_DEBUGS_NOT, EMU_KVM_DEBUGS_STOPS, EMU_KVM_DEBUGS_STEP, EMU_KVM_DEBUGS_INT3S };
#define EMU_KVM_BREAKPOINT 3
void emu_kvm_vcpu_debugs(emu_kvm_vcpu *vcpu, int how);
/* Behind such an exit: the INT3 is the guest's own, which the next run executes. */
int emu_kvm_vcpu_pass_int3(emu_kvm_vcpu *vcpu);
/* From any thread: the memory map has changed. */
void emu_kvm_vcpu_remap(emu_kvm_vcpu *vcpu);

#define EMU_CROSS_KINDS 256
/* Instructions that were done for KVM. */
typedef struct emu_cross_counts {
    uint64_t host;      /* crossings: by the host's CPU, */
    uint64_t companion; /* by a companion, */
    uint64_t retired;   /* with that many instructions, */
    uint64_t stays;     /* and how often it kept the vCPU, */
    uint64_t ns;        /* which took so much of the host's CPU then */
    uint64_t lost;      /* of kinds that found no room below */
    struct {
        uint8_t bytes[15]; /* the first of its kind */
        uint8_t nbytes;
        uint64_t count;
    } kinds[EMU_CROSS_KINDS];
} emu_cross_counts;
void emu_kvm_vcpu_crossings(const emu_kvm_vcpu *vcpu, emu_cross_counts *out);

/*
 * What an exit that no map serves means: `run` is a kvm_run structure of at
 * least 288 bytes.  Returns out->kind, 0 where the guest should just go on.
 */
int emu_kvm_explain(const void *run, emu_exit *out);

/* The signal that kick uses. */
int emu_kvm_signal(void);

#endif
