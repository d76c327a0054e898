/*
 * The user-mode engine on KVM, inside: what its files share.  kvm_user.c says how it works.
 *
 *     kvm_user.c         running, changes of mappings, fork
 *     kvm_user_setup.c   the VM and its vCPUs: descriptor tables, stubs, CPUID, opening and closing
 *     kvm_user_paging.c  page tables: filled, emptied, given up, and no vCPU running meanwhile
 *     kvm_user_state.c   a guest thread's registers
 */
#ifndef EMU_KVM_USER_VM_H
#define EMU_KVM_USER_VM_H

#include <errno.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/ioctl.h>

#include "kvm_user.h"

#define PAGE UINT64_C(4096)
#define POOL_SIZE (UINT64_C(64) << 20)
#define WINDOW_BITS 26
#define WINDOW (UINT64_C(1) << WINDOW_BITS)
#define MAX_WINDOWS 4096
#define MAX_VCPUS 1024
#define FAULT_AROUND 64 /* pages filled by one fault, aligned */
#define CAREFUL_FILLS 64
#define MOST_REFUSALS 16 /* of one instruction: other threads may fill what it meets, less carefully */
#define MANY_WINDOWS 16 /* a forked child makes anew only so many */

/* Where descriptors of the engine go: there or, if that is lower, where the process's limit ends. */
#define FAR_DESCRIPTOR 4096
#define NEAR_DESCRIPTORS (MAX_VCPUS + 64)

/* The engine's own pages appear at the top of the address space. */
#define KERNEL_BASE UINT64_C(0xffffffffff000000)
#define KERNEL_PAGE(index) (KERNEL_BASE + (index) * PAGE)

/* The pool's pages; NOWHERE has no rights on the host. */
enum {
    POOL_GDT,
    POOL_IDT,
    POOL_STUBS,
    POOL_PROBE,
    POOL_NOWHERE,
    POOL_VCPU,                            /* one for each vCPU: its TSS from below, its stack from above */
    POOL_MAPPED = POOL_VCPU + MAX_VCPUS, /* the pages before this one are mapped at KERNEL_BASE */
    POOL_ROOT = POOL_MAPPED,
    POOL_KERNEL_PDPT,
    POOL_KERNEL_PD,
    POOL_KERNEL_PT,
    POOL_TABLES = POOL_KERNEL_PT + (POOL_MAPPED + 511) / 512,
};

/* Linux's own selectors: programs can read CS and SS. */
enum { KERNEL_CS = 0x10, USER_SS = 0x28 | 3, USER_CS = 0x30 | 3, TSS_SELECTOR = 0x40, GDT_BYTES = 0x50 };

#define PTE_P UINT64_C(1)
#define PTE_W UINT64_C(2)
#define PTE_U UINT64_C(4)
#define PTE_AD UINT64_C(0x60) /* accessed, dirty: spares the walker a write */
#define PTE_NX (UINT64_C(1) << 63)
#define PTE_ADDRESS UINT64_C(0x000ffffffffff000)

#define VECTORS 32
#define STUB_SIZE 32
#define SYSCALL_STUB (VECTORS * STUB_SIZE) /* behind the exception stubs */

#define INT_N 0xcd /* opcode */

#define MSR_STAR 0xc0000081u
#define MSR_LSTAR 0xc0000082u
#define MSR_FMASK 0xc0000084u
#define SYSCALL_MASK UINT64_C(0x44700) /* AC, NT, DF, IF, TF */

#define FLAGS_FIXED UINT64_C(0x202)    /* always set, and IF */
#define FLAG_TF UINT64_C(0x100)
#define FLAGS_USER UINT64_C(0x250dd5) /* ID AC NT OF DF TF SF ZF AF PF CF; RF */

#define XSAVE_MXCSR 24
#define XSAVE_MXCSR_MASK 28
#define XSAVE_XMM 160
#define XSAVE_DESCRIPTION 464
#define XSAVE_HEADER 512
#define XSAVE_HEADER_SIZE 64
#define XCR0_WANTED UINT64_C(0xe7) /* x87, SSE, AVX, AVX-512 */

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

enum { VECTOR_DE, VECTOR_DB, VECTOR_NMI, VECTOR_BP, VECTOR_UD = 6, VECTOR_NM, VECTOR_DF, VECTOR_GP = 13, VECTOR_PF,
       VECTOR_MF = 16, VECTOR_AC, VECTOR_MC, VECTOR_XM };

/* What the CPU and the stub leave on the stack page, from low to high. */
struct frame {
    uint64_t cr2, rax, error, rip, cs, rflags, rsp, ss;
};

/* Where the vCPU stands, and so where the user's registers are. */
enum position {
    AT_USER,      /* in the registers */
    AT_SYSCALL,   /* in the system call's stub: RIP is in RCX, RFLAGS in R11 */
    AT_EXCEPTION, /* in an exception's stub behind HLT: RAX and what the CPU pushed are in the frame */
    AT_ENTRY,     /* on the way to one of these */
};

/* What the threads of a guest share. */
struct vm {
    emu_user_memory memory;
    pthread_mutex_t lock; /* of all below: before_change comes from any thread */
    pthread_cond_t changed;
    int fd;
    emu_engine *engines;   /* all of this VM */
    uint32_t vcpus;        /* made so far: their numbers are not used again */
    uint32_t max_vcpus;
    atomic_bool paused;    /* no vCPU may run: the pool's slot goes for a moment */
    uint8_t *pool;
    uint64_t pool_used; /* bytes given out */
    /* Windows that have a slot, sorted: upper half the number of the window, lower half the slot's. */
    uint64_t windows[MAX_WINDOWS];
    uint32_t nwindows;
    uint32_t max_windows;
    uint32_t careful;      /* fills that still look at the host first */
    emu_engine *refused;   /* whose access they are for */
    bool filled;           /* since the latest before_change */
    bool lost_code;        /* that change took executable pages from the tables */
    uint64_t fills, resets;
};

struct emu_engine {
    struct vm *vm;
    emu_engine *next; /* of vm->engines */
    uint32_t number;
    int vcpu;
    struct kvm_run *run;
    size_t run_size;
    atomic_bool running; /* KVM_RUN is on, or about to be */
    int32_t tid;         /* of the host thread that does */
    struct kvm_sregs user; /* at CPL3, as load made it */
    struct kvm_xsave xsave;
    bool xsave_known; /* xsave is the vCPU's */
    enum position at;
    volatile sig_atomic_t kicked;
    uint64_t refused_pc;           /* where KVM_RUN said EFAULT last */
    uint32_t refused;              /* how often in a row */
    uint32_t spurious;             /* faults in a row that the tables did not cause */
    bool flush;                    /* before the guest goes on */
    uint64_t exits;
    emu_cpu_state kept; /* for the child of a fork; with xsave */
};

/* Found out once, under its lock; the same for all engines. */
extern struct kvm_user_host {
    pthread_mutex_t lock;
    int stays_user;
    int device;
    uint64_t xcr0;
    uint32_t xsave_size; /* of the standard format */
    uint32_t cpuid_1_edx;
    emu_kvm_user_facts facts;
} kvm_user_host;

static inline struct kvm_regs *registers(emu_engine *engine)
{
    return &engine->run->s.regs.regs;
}

static inline void registers_changed(emu_engine *engine)
{
    engine->run->kvm_dirty_regs |= KVM_SYNC_X86_REGS;
}

static inline struct frame *frame_of(emu_engine *engine)
{
    return (struct frame *)(engine->vm->pool + (POOL_VCPU + engine->number + 1) * PAGE) - 1;
}

static inline uint64_t *table_at(struct vm *vm, uint64_t offset)
{
    return (uint64_t *)(vm->pool + offset);
}

static inline void set_entry(uint64_t *entry, uint64_t value)
{
    __atomic_store_n(entry, value, __ATOMIC_RELEASE);
}

/* ---- kvm_user_paging.c ---- */

unsigned kvm_user_index_of(uint64_t addr, unsigned level);
bool kvm_user_clear_range(struct vm *vm, uint64_t addr, uint64_t size);
int kvm_user_set_slot(struct vm *vm, uint32_t slot, uint64_t base, uint64_t size, void *host);
int kvm_user_set_window(struct vm *vm, uint32_t number, uint32_t n, bool there);
int kvm_user_reset(struct vm *vm);
int kvm_user_forget(struct vm *vm);
bool kvm_user_pause_vm(struct vm *vm, const emu_engine *self);
void kvm_user_resume_vm(struct vm *vm);
void kvm_user_enter(emu_engine *engine);
void kvm_user_leave(emu_engine *engine);
uint32_t kvm_user_rights_at(struct vm *vm, uint64_t addr);
int kvm_user_fill(emu_engine *engine, uint64_t addr, uint32_t want);
void kvm_user_allow_nowhere(struct vm *vm, bool allow);
void kvm_user_end_careful(struct vm *vm);
void kvm_user_begin_careful(emu_engine *engine);

/* ---- kvm_user_setup.c ---- */

unsigned kvm_user_behind_hlt(unsigned vector);
void kvm_user_close_vcpu(emu_engine *engine);
int kvm_user_open_vm(struct vm *vm, const char **text);
int kvm_user_open_vcpu(emu_engine *engine, const char **text);
void kvm_user_close(emu_engine *engine);
emu_engine *kvm_user_open(uint32_t isa, const emu_user_memory *memory, char *text, size_t size);
emu_engine *kvm_user_another(emu_engine *engine, char *text, size_t size);

/* ---- kvm_user_state.c ---- */

void kvm_user_save(emu_engine *engine, emu_cpu_state *state);
void kvm_user_load(emu_engine *engine, const emu_cpu_state *state);
void kvm_user_result(emu_engine *engine, uint64_t value);
void kvm_user_hwcap(emu_engine *engine, uint64_t out[2]);
uint32_t kvm_user_xsave(emu_engine *engine, uint8_t *image, uint32_t room);
void kvm_user_xrstor(emu_engine *engine, const uint8_t *image, uint32_t size);

#endif
