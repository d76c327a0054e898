/*
 * The user-mode engine on KVM: x86-64 code runs at CPL3 inside a VM of its own.
 *
 * Guest-physical memory has two parts.  Below POOL_SIZE lies the pool, which is
 * the engine's: descriptor tables, entry stubs and page tables.  Above it the
 * guest's address space appears in windows of 64 MiB, each a memory slot on the
 * runtime's reserve, made when its first page is touched.  Page tables are
 * filled by page faults from memory->rights(), some neighbours at a time.
 *
 * A system call leaves in one of two ways.  Where SYSCALL enters CPL0, as the
 * manual says, LSTAR is a stub `hlt; sysretq`: the exit is HLT, the way back
 * the guest's own SYSRET.  Some hosts load RIP but stay at CPL3; there LSTAR is
 * a page that user code may execute and that the host does not back, so that
 * KVM_RUN fails with EFAULT.  Which one is found out by running one system call
 * before the first guest code of the process.
 *
 * Exceptions: the IDT leads to stubs at CPL0 that push RAX and CR2 and HLT, and
 * return by IRET when the engine has mended the cause.
 *
 * Stale translations do no harm: a guest address always has the same
 * guest-physical one, and the runtime changes the host's protection whenever it
 * changes a right to read or write, which makes KVM drop its own mapping of the
 * page.  The right to execute is known to our tables only: losing it flushes.
 *
 * Threads of a guest are vCPUs of one VM, which share the tables.  Filling and
 * clearing entries goes on while others run.  What takes the pool's slot away,
 * flushing and starting the tables anew, waits until none does.
 *
 * Source: Intel SDM volume 3, chapters 4 to 6; Documentation/virt/kvm/api.rst.
 */
#include "kvm_user.h"

#include <stdio.h>

#if defined(__x86_64__) && defined(__linux__)

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <unistd.h>

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

/* Found out once, under once_lock; the same for all engines. */
static pthread_mutex_t once_lock = PTHREAD_MUTEX_INITIALIZER;
static int stays_user = -1;
static int device = -1;
static struct {
    struct kvm_cpuid2 head;
    struct kvm_cpuid_entry2 entries[256];
} cpuid;
static uint64_t xcr0;
static uint32_t xsave_size = XSAVE_HEADER + XSAVE_HEADER_SIZE; /* of the standard format */
static uint32_t cpuid_1_edx;
static uint32_t physical_bits = 36;

static emu_kvm_user_facts facts = {.stays_user = -1};

static struct kvm_regs *registers(emu_engine *engine)
{
    return &engine->run->s.regs.regs;
}

static void registers_changed(emu_engine *engine)
{
    engine->run->kvm_dirty_regs |= KVM_SYNC_X86_REGS;
}

static struct frame *frame_of(emu_engine *engine)
{
    return (struct frame *)(engine->vm->pool + (POOL_VCPU + engine->number + 1) * PAGE) - 1;
}

static uint64_t *table_at(struct vm *vm, uint64_t offset)
{
    return (uint64_t *)(vm->pool + offset);
}

static void set_entry(uint64_t *entry, uint64_t value)
{
    __atomic_store_n(entry, value, __ATOMIC_RELEASE);
}

/* ---- page tables ---------------------------------------------------------------- */

static unsigned index_of(uint64_t addr, unsigned level)
{
    return (addr >> (12 + 9 * (level - 1))) & 511;
}

/* A table's offset in the pool from the entry that leads to it. */
static uint64_t table_of(uint64_t entry)
{
    return entry & PTE_ADDRESS;
}

/* The lowest table for addr; NULL where there is none (and, if make, no room for one). */
static uint64_t *leaf_table(struct vm *vm, uint64_t addr, bool make)
{
    uint64_t at = POOL_ROOT * PAGE;
    for (unsigned level = 4; level > 1; level--) {
        uint64_t *entry = &table_at(vm, at)[index_of(addr, level)];
        if ((*entry & PTE_P) == 0) {
            if (!make || vm->pool_used + PAGE > POOL_SIZE)
                return NULL;
            uint64_t value = vm->pool_used | PTE_P | PTE_W | PTE_U | PTE_AD;
            vm->pool_used += PAGE; /* fresh pages are zero */
            set_entry(entry, value);
        }
        at = table_of(*entry);
    }
    return table_at(vm, at);
}

/*
 * Empties the lowest-level entries for addresses from .. last of the table at
 * offset `at`, which begins at address `base`.  True when one was executable.
 */
static bool clear_table(struct vm *vm, uint64_t at, unsigned level, uint64_t base, uint64_t from,
                        uint64_t last)
{
    uint64_t *table = table_at(vm, at);
    unsigned shift = 12 + 9 * (level - 1);
    unsigned first = from <= base ? 0 : (unsigned)((from - base) >> shift);
    uint64_t end = (last - base) >> shift;
    bool code = false;
    for (unsigned i = first; i < 512 && i <= end; i++) {
        if ((table[i] & PTE_P) == 0)
            continue;
        if (level == 1) {
            code |= (table[i] & PTE_NX) == 0;
            set_entry(&table[i], 0);
        } else {
            uint64_t start = base + ((uint64_t)i << shift);
            code |= clear_table(vm, table_of(table[i]), level - 1, start, from, last);
        }
    }
    return code;
}

/* Of the guest's half only. */
static bool clear_range(struct vm *vm, uint64_t addr, uint64_t size)
{
    if (addr >= vm->memory.size || size == 0)
        return false;
    uint64_t last = size > vm->memory.size - addr ? vm->memory.size - 1 : addr + size - 1;
    return clear_table(vm, POOL_ROOT * PAGE, 4, 0, addr, last);
}

static int set_slot(struct vm *vm, uint32_t slot, uint64_t base, uint64_t size, void *host)
{
    struct kvm_userspace_memory_region region = {
        .slot = slot,
        .guest_phys_addr = base,
        .memory_size = size,
        .userspace_addr = (uint64_t)(uintptr_t)host,
    };
    return ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region) < 0 ? -errno : 0;
}

/* Slot 0 is the pool, slot n + 1 the n-th window that was made. */
static int set_window(struct vm *vm, uint32_t number, uint32_t n, bool there)
{
    uint64_t addr = (uint64_t)number << WINDOW_BITS;
    uint64_t size = vm->memory.size - addr < WINDOW ? vm->memory.size - addr : WINDOW;
    return set_slot(vm, n + 1, POOL_SIZE + n * WINDOW, there ? size : 0, vm->memory.base + addr);
}

/* Empty tables and no windows.  KVM forgets what it had of them with the slots.  No vCPU runs. */
static int reset(struct vm *vm)
{
    int err = 0;
    for (uint32_t i = 0; i < vm->nwindows && err == 0; i++)
        err = set_window(vm, (uint32_t)(vm->windows[i] >> 32), (uint32_t)vm->windows[i], false);
    vm->nwindows = 0;
    if (err == 0)
        err = set_slot(vm, 0, 0, 0, vm->pool);
    memset(table_at(vm, POOL_ROOT * PAGE), 0, PAGE / 2);
    if (madvise(vm->pool + POOL_TABLES * PAGE, POOL_SIZE - POOL_TABLES * PAGE, MADV_DONTNEED) != 0 && err == 0)
        err = -errno;
    vm->pool_used = POOL_TABLES * PAGE;
    if (err == 0)
        err = set_slot(vm, 0, 0, POOL_SIZE, vm->pool);
    vm->resets++;
    return err;
}

/*
 * Makes KVM forget all it has derived from our tables, by taking the slot away
 * that they are in.  Writing CR3 would not do where KVM shadows them: it trusts
 * its copy as long as the guest itself has not written to a table.  No vCPU runs.
 */
static int forget(struct vm *vm)
{
    int err = set_slot(vm, 0, 0, 0, vm->pool);
    return err != 0 ? err : set_slot(vm, 0, 0, POOL_SIZE, vm->pool);
}

/* ---- one at a time -------------------------------------------------------------- */

static bool others_run(const struct vm *vm, const emu_engine *self)
{
    for (const emu_engine *engine = vm->engines; engine != NULL; engine = engine->next)
        if (engine != self && atomic_load(&engine->running))
            return true;
    return false;
}

/*
 * With vm->lock, which it gives up meanwhile: no vCPU is in KVM_RUN until resume.
 * False: another thread has done the like in between, and the caller looks again.
 */
static bool pause_vm(struct vm *vm, const emu_engine *self)
{
    if (atomic_load(&vm->paused)) {
        while (atomic_load(&vm->paused))
            pthread_cond_wait(&vm->changed, &vm->lock);
        return false;
    }
    atomic_store(&vm->paused, true);
    while (others_run(vm, self)) {
        for (emu_engine *engine = vm->engines; engine != NULL; engine = engine->next)
            if (engine != self && atomic_load(&engine->running)) {
                engine->run->immediate_exit = 1;
                vm->memory.interrupt(vm->memory.opaque, engine->tid);
            }
        /* A signal may come a moment too early. */
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 2000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&vm->changed, &vm->lock, &until);
    }
    return true;
}

static void resume_vm(struct vm *vm)
{
    atomic_store(&vm->paused, false);
    pthread_cond_broadcast(&vm->changed);
}

/* Around KVM_RUN. */
static void enter(emu_engine *engine)
{
    struct vm *vm = engine->vm;
    atomic_store(&engine->running, true);
    while (atomic_load(&vm->paused)) {
        atomic_store(&engine->running, false);
        pthread_mutex_lock(&vm->lock);
        pthread_cond_broadcast(&vm->changed);
        while (atomic_load(&vm->paused))
            pthread_cond_wait(&vm->changed, &vm->lock);
        pthread_mutex_unlock(&vm->lock);
        atomic_store(&engine->running, true);
    }
}

static void leave(emu_engine *engine)
{
    struct vm *vm = engine->vm;
    atomic_store_explicit(&engine->running, false, memory_order_release);
    if (atomic_load_explicit(&vm->paused, memory_order_relaxed)) {
        pthread_mutex_lock(&vm->lock);
        pthread_cond_broadcast(&vm->changed);
        pthread_mutex_unlock(&vm->lock);
    }
}

/* ---- filling ---------------------------------------------------------------------- */

/* The guest-physical address of addr, whose window gets a slot if it has none.  -errno. */
static int physical(struct vm *vm, uint64_t addr, uint64_t *out)
{
    uint32_t number = (uint32_t)(addr >> WINDOW_BITS);
    uint32_t low = 0, high = vm->nwindows;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (vm->windows[middle] >> 32 < number)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == vm->nwindows || vm->windows[low] >> 32 != number) {
        if (vm->nwindows == vm->max_windows)
            return -ENOSPC;
        int err = set_window(vm, number, vm->nwindows, true);
        if (err != 0)
            return err;
        memmove(vm->windows + low + 1, vm->windows + low,
                (vm->nwindows - low) * sizeof *vm->windows);
        vm->windows[low] = (uint64_t)number << 32 | vm->nwindows;
        vm->nwindows++;
    }
    *out = POOL_SIZE + (vm->windows[low] & UINT32_MAX) * WINDOW + (addr & (WINDOW - 1));
    return 0;
}

static uint32_t rights_at(struct vm *vm, uint64_t addr)
{
    return vm->memory.rights(vm->memory.opaque, addr);
}

static bool allows(uint64_t pte, uint32_t want)
{
    if ((pte & PTE_P) == 0)
        return false;
    return want == EMU_RIGHT_W ? (pte & PTE_W) != 0 : want == EMU_RIGHT_X ? (pte & PTE_NX) == 0 : true;
}

/* True when the host lets the page be read, or written: a file's mapping can end before its area does. */
static bool host_allows(struct vm *vm, uint64_t page, uint32_t want)
{
    uint8_t *host = vm->memory.base + page;
    if (madvise(host, PAGE, want == EMU_RIGHT_W ? MADV_POPULATE_WRITE : MADV_POPULATE_READ) == 0 || errno == EAGAIN)
        return true;
    if (errno != EINVAL)
        return false;
    /* Linux before 5.14 */
    uint8_t byte;
    struct iovec to = {&byte, 1}, from = {host, 1};
    return process_vm_readv(getpid(), &to, 1, &from, 1, 0) == 1 || errno != EFAULT;
}

/*
 * Fills the tables for an access that failed.  1: it is allowed now; 0: the
 * guest may not do that; -errno.
 */
static int fill(emu_engine *engine, uint64_t addr, uint32_t want)
{
    struct vm *vm = engine->vm;
    uint64_t page = addr & ~(PAGE - 1);
    if (addr >= vm->memory.size)
        return 0;
    uint32_t rights = rights_at(vm, page);
    if (want == EMU_RIGHT_R ? rights == 0 : (rights & want) == 0)
        return 0;
    bool careful = vm->careful != 0;
    if (careful && !host_allows(vm, page, want))
        return 0;
    uint64_t base;
    int err = physical(vm, page, &base);
    uint64_t *table = err == 0 ? leaf_table(vm, page, true) : NULL;
    if (err == -ENOSPC || (err == 0 && table == NULL)) {
        if (!pause_vm(vm, engine))
            return 1; /* it faults again, and finds room */
        err = reset(vm);
        if (err == 0)
            err = physical(vm, page, &base);
        table = err == 0 ? leaf_table(vm, page, true) : NULL;
        resume_vm(vm);
    }
    if (err != 0)
        return err;
    unsigned hit = index_of(page, 1);
    /* The tables were right already: what the CPU holds of them is old.  Faulting alone should renew it. */
    engine->spurious = allows(table[hit], want) ? engine->spurious + 1 : 0;
    if (engine->spurious > 2)
        engine->flush = true;
    unsigned first = careful ? hit : hit & ~(FAULT_AROUND - 1u);
    unsigned count = careful ? 1 : FAULT_AROUND;
    for (unsigned i = first; i < first + count; i++) {
        /* A table and so its neighbours lie within one window. */
        uint64_t neighbour = page + ((uint64_t)i - hit) * PAGE;
        if (i != hit) {
            if ((table[i] & PTE_P) != 0 || neighbour >= vm->memory.size)
                continue;
            rights = rights_at(vm, neighbour);
            if (rights == 0)
                continue;
        } else {
            rights = rights_at(vm, page);
        }
        uint64_t pte = (base + ((uint64_t)i - hit) * PAGE) | PTE_P | PTE_U | PTE_AD;
        /* A careful fill that was not for writing has not looked whether the host lets us write. */
        if ((rights & EMU_RIGHT_W) != 0 && !(careful && want != EMU_RIGHT_W))
            pte |= PTE_W;
        if ((rights & EMU_RIGHT_X) == 0)
            pte |= PTE_NX;
        set_entry(&table[i], pte);
    }
    vm->filled = true;
    vm->fills++;
    return 1;
}

/* Whether user code may execute the page that the host does not back. */
static void allow_nowhere(struct vm *vm, bool allow)
{
    uint64_t pte = POOL_NOWHERE * PAGE | PTE_P | PTE_AD | (allow ? PTE_U : 0);
    set_entry(&table_at(vm, POOL_KERNEL_PT * PAGE)[POOL_NOWHERE], pte);
}

static void end_careful(struct vm *vm)
{
    vm->careful = 0;
    if (stays_user == 1)
        allow_nowhere(vm, true);
}

/*
 * KVM_RUN said EFAULT: the tables allow an access that the host refuses, and
 * nobody says which.  So every page faults once more, and is looked at first.
 */
static void begin_careful(emu_engine *engine)
{
    struct vm *vm = engine->vm;
    clear_range(vm, 0, vm->memory.size);
    vm->careful = CAREFUL_FILLS;
    vm->refused = engine;
    if (stays_user == 1)
        allow_nowhere(vm, false);
}

/* ---- set-up ------------------------------------------------------------------------ */

static void write_descriptors(struct vm *vm)
{
    uint64_t *gdt = table_at(vm, POOL_GDT * PAGE);
    uint64_t tss = KERNEL_PAGE(POOL_VCPU); /* never looked at: every vCPU's TR is set */
    /* Accessed already, so that the CPU need not write. */
    gdt[KERNEL_CS / 8] = UINT64_C(0x00af9b000000ffff);
    gdt[KERNEL_CS / 8 + 1] = UINT64_C(0x00cf93000000ffff);
    gdt[USER_SS / 8] = UINT64_C(0x00cff3000000ffff);
    gdt[USER_CS / 8] = UINT64_C(0x00affb000000ffff);
    gdt[TSS_SELECTOR / 8] = 0x67 | (tss & 0xffffff) << 16 | UINT64_C(0x8b) << 40 | (tss >> 24 & 0xff) << 56;
    gdt[TSS_SELECTOR / 8 + 1] = tss >> 32;

    for (unsigned vector = 0; vector < VECTORS; vector++) {
        uint64_t *gate = table_at(vm, POOL_IDT * PAGE) + vector * 2;
        uint64_t to = KERNEL_PAGE(POOL_STUBS) + vector * STUB_SIZE;
        uint64_t dpl = vector == VECTOR_BP || vector == VECTOR_BP + 1 ? 3 : 0;
        /* an interrupt gate on IST1: always the same place on the stack page */
        gate[0] = (to & 0xffff) | (uint64_t)KERNEL_CS << 16 | UINT64_C(1) << 32 | (0x8e | dpl << 5) << 40 |
                  (to >> 16 & 0xffff) << 48;
        gate[1] = to >> 32;
    }
}

static void write_tss(emu_engine *engine)
{
    uint8_t *page = engine->vm->pool + (POOL_VCPU + engine->number) * PAGE;
    /* RSP0 at 4, IST1 at 36; the I/O map lies behind the limit, so no port is allowed. */
    uint64_t stack = KERNEL_PAGE(POOL_VCPU + engine->number + 1);
    uint16_t no_map = 0x68;
    memcpy(page + 4, &stack, sizeof stack);
    memcpy(page + 36, &stack, sizeof stack);
    memcpy(page + 102, &no_map, sizeof no_map);
}

static bool has_error_code(unsigned vector)
{
    return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 29 ||
           vector == 30;
}

/* Offsets in a stub: where RIP is when HLT has exited. */
static unsigned behind_hlt(unsigned vector)
{
    return has_error_code(vector) ? 6 : 8;
}

static void write_stubs(struct vm *vm)
{
    static const uint8_t no_code[] = {0x6a, 0x00}; /* push 0 */
    static const uint8_t body[] = {
        0x50,                   /* push rax */
        0x0f, 0x20, 0xd0,       /* mov rax, cr2 */
        0x50,                   /* push rax */
        0xf4,                   /* hlt */
        0x48, 0x83, 0xc4, 0x08, /* add rsp, 8 */
        0x58,                   /* pop rax */
        0x48, 0x83, 0xc4, 0x08, /* add rsp, 8 */
        0x48, 0xcf,             /* iretq */
    };
    static const uint8_t call[] = {0xf4, 0x48, 0x0f, 0x07};  /* hlt; sysretq */
    static const uint8_t probe[] = {0x0f, 0x05, 0x0f, 0x0b}; /* syscall; ud2 */
    uint8_t *stubs = vm->pool + POOL_STUBS * PAGE;
    for (unsigned vector = 0; vector < VECTORS; vector++) {
        uint8_t *stub = stubs + vector * STUB_SIZE;
        if (!has_error_code(vector)) {
            memcpy(stub, no_code, sizeof no_code);
            stub += sizeof no_code;
        }
        memcpy(stub, body, sizeof body);
    }
    memcpy(stubs + SYSCALL_STUB, call, sizeof call);
    memcpy(vm->pool + POOL_PROBE * PAGE, probe, sizeof probe);
}

static void write_tables(struct vm *vm)
{
    const uint64_t all = PTE_P | PTE_W | PTE_U | PTE_AD;
    table_at(vm, POOL_ROOT * PAGE)[511] = POOL_KERNEL_PDPT * PAGE | all;
    table_at(vm, POOL_KERNEL_PDPT * PAGE)[511] = POOL_KERNEL_PD * PAGE | all;
    for (unsigned i = 0; i < POOL_TABLES - POOL_KERNEL_PT; i++)
        table_at(vm, POOL_KERNEL_PD * PAGE)[index_of(KERNEL_BASE, 2) + i] = (POOL_KERNEL_PT + i) * PAGE | all;
    uint64_t *pages = table_at(vm, POOL_KERNEL_PT * PAGE);
    for (uint64_t i = 0; i < POOL_MAPPED; i++)
        if (i != POOL_NOWHERE)
            pages[i] = i * PAGE | PTE_P | PTE_AD | (i == POOL_STUBS || i == POOL_PROBE ? 0 : PTE_NX) |
                       (i >= POOL_VCPU ? PTE_W : 0);
    allow_nowhere(vm, stays_user == 1);
}

static struct kvm_segment segment(uint16_t selector, uint8_t type, bool code)
{
    return (struct kvm_segment){.limit = UINT32_MAX,
                                .selector = selector,
                                .type = type,
                                .present = 1,
                                .dpl = 3,
                                .s = 1,
                                .l = code,
                                .db = !code,
                                .g = 1};
}

/* CPL3 with long mode on.  The rest of *sregs is as KVM gave it. */
static void user_sregs(emu_engine *engine, struct kvm_sregs *sregs, bool xsave)
{
    sregs->cs = segment(USER_CS, 11, true);
    sregs->ss = segment(USER_SS, 3, false);
    sregs->ds = sregs->es = sregs->fs = sregs->gs = segment(0, 3, false);
    sregs->tr = (struct kvm_segment){
        .base = KERNEL_PAGE(POOL_VCPU + engine->number), .limit = 0x67, .selector = TSS_SELECTOR, .type = 11, .present = 1};
    sregs->ldt = (struct kvm_segment){.unusable = 1};
    sregs->gdt = (struct kvm_dtable){.base = KERNEL_PAGE(POOL_GDT), .limit = GDT_BYTES - 1};
    sregs->idt = (struct kvm_dtable){.base = KERNEL_PAGE(POOL_IDT), .limit = VECTORS * 16 - 1};
    sregs->cr0 = 0x80050033; /* PG AM WP NE ET MP PE */
    sregs->cr3 = POOL_ROOT * PAGE;
    sregs->cr4 = 0x620 | (xsave ? 0x40000 : 0); /* PAE OSFXSR OSXMMEXCPT, OSXSAVE */
    sregs->efer = 0xd01;                        /* NXE LMA LME SCE */
}

/* CPUID as the guest shall see it: what KVM can do, without what needs a kernel.  Under once_lock. */
static int find_cpuid(void)
{
    if (cpuid.head.nent != 0)
        return 0;
    cpuid.head.nent = sizeof cpuid.entries / sizeof cpuid.entries[0];
    if (ioctl(device, KVM_GET_SUPPORTED_CPUID, &cpuid.head) < 0) {
        cpuid.head.nent = 0;
        return -errno;
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < cpuid.head.nent; i++) {
        struct kvm_cpuid_entry2 *leaf = &cpuid.entries[i];
        if (leaf->function >> 8 == 0x400000) /* paravirtual */
            continue;
        if (leaf->function == 1) {
            leaf->ecx &= ~(1u << 31); /* hypervisor */
            cpuid_1_edx = leaf->edx;
        }
        if (leaf->function == 7 && leaf->index == 0)
            leaf->ebx &= ~1u; /* FSGSBASE: the bases are the runtime's to know */
        if (leaf->function == 0xd && leaf->index == 0)
            xcr0 = ((uint64_t)leaf->edx << 32 | leaf->eax) & XCR0_WANTED;
        if (leaf->function == 0x80000008 && (leaf->eax & 0xff) != 0)
            physical_bits = leaf->eax & 0xff;
        cpuid.entries[kept++] = *leaf;
    }
    cpuid.head.nent = kept;
    if ((xcr0 & 4) == 0 || (xcr0 & 0xe0) != 0xe0)
        xcr0 &= ~UINT64_C(0xe0);
    for (uint32_t i = 0; i < kept; i++) {
        const struct kvm_cpuid_entry2 *leaf = &cpuid.entries[i];
        if (leaf->function == 0xd && leaf->index >= 2 && leaf->index < 64 && (xcr0 >> leaf->index & 1) != 0 &&
            leaf->eax + leaf->ebx > xsave_size)
            xsave_size = leaf->eax + leaf->ebx;
    }
    return xsave_size <= sizeof(struct kvm_xsave) ? 0 : -E2BIG;
}

static void set_msrs(emu_engine *engine)
{
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry entries[3];
    } msrs = {.head.nmsrs = 3};
    msrs.entries[0] = (struct kvm_msr_entry){
        .index = MSR_STAR, .data = (uint64_t)(USER_CS - 16) << 48 | (uint64_t)KERNEL_CS << 32};
    msrs.entries[1] = (struct kvm_msr_entry){
        .index = MSR_LSTAR,
        .data = stays_user == 1 ? KERNEL_PAGE(POOL_NOWHERE) : KERNEL_PAGE(POOL_STUBS) + SYSCALL_STUB};
    msrs.entries[2] = (struct kvm_msr_entry){.index = MSR_FMASK, .data = stays_user == 1 ? 0 : SYSCALL_MASK};
    (void)ioctl(engine->vcpu, KVM_SET_MSRS, &msrs.head);
}

/* The guest's clock of cycles is the host's, so that threads and processes agree. */
static void set_tsc(emu_engine *engine)
{
    uint64_t offset = 0;
    struct kvm_device_attr attr = {.group = 0, .attr = 0, .addr = (uint64_t)(uintptr_t)&offset};
    (void)ioctl(engine->vcpu, KVM_SET_DEVICE_ATTR, &attr);
}

/* Runs one SYSCALL at CPL3 and looks where it ends.  Under once_lock.  -errno, with *text. */
static int find_syscall(emu_engine *engine, const char **text)
{
    const uint64_t stub = KERNEL_PAGE(POOL_STUBS);
    set_entry(&table_at(engine->vm, POOL_KERNEL_PT * PAGE)[POOL_PROBE], POOL_PROBE * PAGE | PTE_P | PTE_U | PTE_AD);
    struct kvm_regs *regs = registers(engine);
    *regs = (struct kvm_regs){.rip = KERNEL_PAGE(POOL_PROBE), .rflags = FLAGS_FIXED};
    registers_changed(engine);
    int err;
    do {
        err = ioctl(engine->vcpu, KVM_RUN, 0) < 0 ? -errno : 0;
    } while (err == -EINTR);
    set_entry(&table_at(engine->vm, POOL_KERNEL_PT * PAGE)[POOL_PROBE], POOL_PROBE * PAGE | PTE_P | PTE_AD | PTE_NX);
    if (err == 0 && engine->run->exit_reason == KVM_EXIT_HLT) {
        if (regs->rip == stub + SYSCALL_STUB + 1) {
            stays_user = 0;
            return 0;
        }
        struct frame *frame = frame_of(engine);
        if (regs->rip == stub + VECTOR_PF * STUB_SIZE + behind_hlt(VECTOR_PF) && frame->cr2 == stub + SYSCALL_STUB) {
            stays_user = 1;
            return 0;
        }
    }
    *text = "a first SYSCALL inside the VM did not arrive";
    return err != 0 ? err : -EIO;
}

static void close_vcpu(emu_engine *engine)
{
    if (engine->run != NULL)
        munmap(engine->run, engine->run_size);
    if (engine->vcpu >= 0)
        close(engine->vcpu);
    engine->run = NULL;
    engine->vcpu = -1;
}

/*
 * A descriptor of ours with a number that guests do not choose: above the soft
 * limit where that is possible, and in any case out of the way of low numbers.
 * Returns the new descriptor, or the old one.
 */
static int out_of_the_way(int fd)
{
    struct rlimit limit;
    if (fd < 0 || getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return fd;
    rlim_t from = limit.rlim_cur < FAR_DESCRIPTOR ? limit.rlim_cur : FAR_DESCRIPTOR;
    struct rlimit more = {.rlim_cur = from + NEAR_DESCRIPTORS, .rlim_max = limit.rlim_max};
    bool raised = false;
    if (from == limit.rlim_cur) {
        raised = more.rlim_cur <= limit.rlim_max && setrlimit(RLIMIT_NOFILE, &more) == 0;
        if (!raised)
            from -= from > NEAR_DESCRIPTORS ? NEAR_DESCRIPTORS : 0;
    }
    int far = fcntl(fd, F_DUPFD_CLOEXEC, (int)from);
    if (raised)
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    if (far < 0)
        return fd;
    close(fd);
    return far;
}

/* Gives a descriptor the number `old` (its predecessor's, which closes), or for -1 one of its own choice. */
static int settle(int fd, int old)
{
    if (old < 0)
        return out_of_the_way(fd);
    int same = dup3(fd, old, O_CLOEXEC);
    struct rlimit limit;
    if (same < 0 && getrlimit(RLIMIT_NOFILE, &limit) == 0) { /* the number lies above the soft limit */
        struct rlimit more = {.rlim_cur = (rlim_t)old + 1, .rlim_max = limit.rlim_max};
        (void)setrlimit(RLIMIT_NOFILE, &more);
        same = dup3(fd, old, O_CLOEXEC);
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
    if (same < 0)
        return fd;
    close(fd);
    return same;
}

/* A VM with the pool in slot 0, in the place of the one that there is, if any.  -errno, and *text for what failed. */
static int open_vm(struct vm *vm, const char **text)
{
    int before = vm->fd;
    *text = "cannot create a VM";
    vm->fd = ioctl(device, KVM_CREATE_VM, 0);
    if (vm->fd < 0)
        return -errno;
    vm->fd = settle(vm->fd, before);
    int slots = ioctl(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_NR_MEMSLOTS);
    uint64_t room = ((UINT64_C(1) << (physical_bits > 46 ? 46 : physical_bits)) - POOL_SIZE) / WINDOW;
    vm->max_windows = MAX_WINDOWS;
    if (slots < (int)MAX_WINDOWS + 1)
        vm->max_windows = slots > 2 ? (uint32_t)slots - 1 : 31;
    if (vm->max_windows > room)
        vm->max_windows = (uint32_t)room;
    int vcpus = ioctl(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS);
    vm->max_vcpus = vcpus < 1 ? 4 : vcpus < MAX_VCPUS ? (uint32_t)vcpus : MAX_VCPUS;
    *text = "this kernel's KVM cannot share registers (KVM_CAP_SYNC_REGS); Linux 4.17 can";
    int sync = ioctl(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_SYNC_REGS);
    if (sync < 0 || (sync & (KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS)) != (KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS))
        return -EOPNOTSUPP;
    *text = "cannot give the VM memory";
    return set_slot(vm, 0, 0, POOL_SIZE, vm->pool);
}

/* A vCPU at CPL3, in the place of the one that the engine has, if any.  -errno, and *text. */
static int open_vcpu(emu_engine *engine, const char **text)
{
    int before = engine->vcpu;
    *text = "cannot create a vCPU";
    engine->vcpu = ioctl(engine->vm->fd, KVM_CREATE_VCPU, engine->number);
    if (engine->vcpu < 0)
        return -errno;
    engine->vcpu = settle(engine->vcpu, before);
    int size = ioctl(device, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (size < (int)sizeof(struct kvm_run))
        return -EIO;
    engine->run_size = (size_t)size;
    /* In the child of a fork in the place of the parent's: a kick always finds it. */
    void *run = mmap(engine->run, engine->run_size, PROT_READ | PROT_WRITE,
                     MAP_SHARED | (engine->run != NULL ? MAP_FIXED : 0), engine->vcpu, 0);
    if (run == MAP_FAILED)
        return -errno;
    engine->run = run;
    write_tss(engine);
    *text = "cannot set the vCPU up";
    if (ioctl(engine->vcpu, KVM_SET_CPUID2, &cpuid.head) < 0)
        return -errno;
    if (ioctl(engine->vcpu, KVM_GET_SREGS, &engine->user) < 0)
        return -errno;
    user_sregs(engine, &engine->user, xcr0 != 0);
    if (ioctl(engine->vcpu, KVM_SET_SREGS, &engine->user) < 0)
        return -errno;
    /* All but the first wait for a signal that starts them (SDM volume 3, 9.4.4); ours just run. */
    struct kvm_mp_state runnable = {.mp_state = KVM_MP_STATE_RUNNABLE};
    (void)ioctl(engine->vcpu, KVM_SET_MP_STATE, &runnable);
    if (xcr0 != 0) {
        struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs[0] = {.xcr = 0, .value = xcr0}};
        if (ioctl(engine->vcpu, KVM_SET_XCRS, &xcrs) < 0)
            return -errno;
    }
    engine->run->kvm_valid_regs = KVM_SYNC_X86_REGS;
    set_msrs(engine);
    set_tsc(engine);
    return 0;
}

/* The device, open as long as the process lives: a guest may leave for another root.  -1, and the cause in text. */
static int open_device(char *text, size_t size)
{
    if (device >= 0)
        return device;
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (kvm < 0) {
        int err = errno;
        const char *remedy = err == ENOENT                     ? "load the kvm module, or turn on virtualization"
                             : err == EACCES || err == EPERM ? "join the group kvm"
                                                               : "see the kernel's log";
        snprintf(text, size, "cannot open /dev/kvm: %s; %s, or use --accel tcg", strerror(err), remedy);
    } else if (ioctl(kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION) {
        snprintf(text, size, "/dev/kvm speaks another version than %d; use --accel tcg", KVM_API_VERSION);
        close(kvm);
        kvm = -1;
    }
    return device = out_of_the_way(kvm);
}

static void user_close(emu_engine *engine)
{
    struct vm *vm = engine->vm;
    close_vcpu(engine);
    pthread_mutex_lock(&vm->lock);
    for (emu_engine **at = &vm->engines; *at != NULL; at = &(*at)->next)
        if (*at == engine) {
            *at = engine->next;
            break;
        }
    bool last = vm->engines == NULL;
    pthread_mutex_unlock(&vm->lock);
    pthread_mutex_lock(&once_lock);
    facts.exits += engine->exits;
    facts.fills += last ? vm->fills : 0;
    facts.resets += last ? vm->resets : 0;
    pthread_mutex_unlock(&once_lock);
    free(engine);
    if (!last)
        return;
    if (vm->fd >= 0)
        close(vm->fd);
    if (vm->pool != NULL)
        munmap(vm->pool, POOL_SIZE);
    pthread_mutex_destroy(&vm->lock);
    pthread_cond_destroy(&vm->changed);
    free(vm);
}

/* Under once_lock: the VM, and what the first one finds out.  -errno. */
static int start(emu_engine *engine, const char **text)
{
    *text = "cannot ask for CPUID";
    int err = find_cpuid();
    if (err == 0)
        err = open_vm(engine->vm, text);
    if (err == 0)
        err = open_vcpu(engine, text);
    if (err == 0 && stays_user < 0) {
        err = find_syscall(engine, text);
        if (err != 0)
            return err;
        allow_nowhere(engine->vm, stays_user == 1);
        set_msrs(engine);
        facts.stays_user = stays_user;
    }
    return err;
}

static const emu_cpu_state first_state = {.fpcr = 0x1f80, .x87 = {0x7f, 0x03}};

static void user_load(emu_engine *engine, const emu_cpu_state *state);

static emu_engine *user_open(uint32_t isa, const emu_user_memory *memory, char *text, size_t size)
{
    if (isa != EMU_ISA_X86_64) {
        snprintf(text, size, "kvm runs x86-64 programs only on this host; use --accel tcg");
        return NULL;
    }
    if (memory->size > UINT64_C(1) << 47 || (memory->size & (PAGE - 1)) != 0) {
        snprintf(text, size, "kvm: an address space of %#llx bytes", (unsigned long long)memory->size);
        return NULL;
    }
    emu_engine *engine = calloc(1, sizeof *engine);
    struct vm *vm = calloc(1, sizeof *vm);
    if (engine == NULL || vm == NULL) {
        free(engine);
        free(vm);
        snprintf(text, size, "no memory");
        return NULL;
    }
    engine->vm = vm;
    engine->vcpu = vm->fd = -1;
    vm->memory = *memory;
    vm->engines = engine;
    vm->vcpus = 1;
    vm->pool_used = POOL_TABLES * PAGE;
    pthread_mutex_init(&vm->lock, NULL);
    pthread_cond_init(&vm->changed, NULL);
    const char *what = "no memory for page tables";
    int err = 0;
    void *pool = mmap(NULL, POOL_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pool == MAP_FAILED) {
        err = -errno;
    } else {
        vm->pool = pool;
        (void)madvise(pool, POOL_SIZE, MADV_NOHUGEPAGE); /* sparse */
        if (mprotect(vm->pool + POOL_NOWHERE * PAGE, PAGE, PROT_NONE) != 0)
            err = -errno;
    }
    if (err == 0) {
        write_descriptors(vm);
        write_stubs(vm);
        pthread_mutex_lock(&once_lock);
        bool usable = open_device(text, size) >= 0;
        if (usable) {
            write_tables(vm);
            err = start(engine, &what);
            facts.engines += err == 0;
        }
        pthread_mutex_unlock(&once_lock);
        if (!usable) {
            user_close(engine);
            return NULL;
        }
    }
    if (err != 0) {
        snprintf(text, size, "kvm: %s: %s; use --accel tcg", what, strerror(-err));
        user_close(engine);
        return NULL;
    }
    user_load(engine, &first_state);
    return engine;
}

/* Called by one thread at a time: numbers are given in order. */
static emu_engine *user_another(emu_engine *engine, char *text, size_t size)
{
    struct vm *vm = engine->vm;
    emu_engine *other = calloc(1, sizeof *other);
    if (other == NULL) {
        snprintf(text, size, "no memory");
        return NULL;
    }
    other->vm = vm;
    other->vcpu = -1;
    pthread_mutex_lock(&vm->lock);
    bool room = vm->vcpus < vm->max_vcpus;
    other->number = vm->vcpus;
    vm->vcpus += room;
    pthread_mutex_unlock(&vm->lock);
    const char *what = "a VM has no more vCPUs";
    int err = room ? open_vcpu(other, &what) : -EAGAIN;
    if (err != 0) {
        snprintf(text, size, "kvm: %s: %s", what, strerror(-err));
        close_vcpu(other);
        free(other);
        return NULL;
    }
    pthread_mutex_lock(&vm->lock);
    other->next = vm->engines;
    vm->engines = other;
    pthread_mutex_unlock(&vm->lock);
    user_load(other, &first_state);
    return other;
}

/* ---- registers ------------------------------------------------------------------------ */

static void read_xsave(emu_engine *engine)
{
    if (!engine->xsave_known && ioctl(engine->vcpu, KVM_GET_XSAVE, &engine->xsave) == 0)
        engine->xsave_known = true;
}

static void user_save(emu_engine *engine, emu_cpu_state *state)
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

static void user_load(emu_engine *engine, const emu_cpu_state *state)
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

static void user_result(emu_engine *engine, uint64_t value)
{
    if (engine->at == AT_EXCEPTION) {
        frame_of(engine)->rax = value;
    } else {
        registers(engine)->rax = value;
        registers_changed(engine);
    }
}

/* ---- running ---------------------------------------------------------------------------- */

/* Where RIP says that the vCPU is. */
static enum position position(emu_engine *engine)
{
    uint64_t rip = registers(engine)->rip;
    if (rip < KERNEL_BASE)
        return AT_USER;
    uint64_t offset = rip - KERNEL_PAGE(POOL_STUBS);
    if (offset < SYSCALL_STUB)
        return offset % STUB_SIZE < behind_hlt((unsigned)(offset / STUB_SIZE)) ? AT_ENTRY : AT_EXCEPTION;
    return offset == SYSCALL_STUB + 1 ? AT_SYSCALL : AT_ENTRY;
}

static int error_stop(emu_stop *stop, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int error_stop(emu_stop *stop, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    vsnprintf(stop->text, sizeof stop->text, format, values);
    va_end(values);
    return stop->kind = EMU_STOP_ERROR;
}

static int fault_stop(emu_stop *stop, uint64_t addr, uint32_t access)
{
    stop->addr = addr;
    stop->access = access;
    return stop->kind = EMU_STOP_FAULT;
}

static int syscall_stop(emu_engine *engine, emu_stop *stop, uint64_t rax)
{
    const struct kvm_regs *regs = registers(engine);
    stop->pc = regs->rcx;
    stop->nr = rax;
    stop->args[0] = regs->rdi;
    stop->args[1] = regs->rsi;
    stop->args[2] = regs->rdx;
    stop->args[3] = regs->r10;
    stop->args[4] = regs->r8;
    stop->args[5] = regs->r9;
    struct vm *vm = engine->vm;
    if (vm->careful != 0) {
        pthread_mutex_lock(&vm->lock);
        if (vm->careful != 0 && vm->refused == engine)
            end_careful(vm);
        pthread_mutex_unlock(&vm->lock);
    }
    engine->refused = 0;
    return stop->kind = EMU_STOP_SYSCALL;
}

/* SYSCALL that stayed at CPL3: RIP moves on to where the call returns. */
static int stayed_stop(emu_engine *engine, emu_stop *stop)
{
    struct kvm_regs *regs = registers(engine);
    regs->rip = regs->rcx;
    regs->rflags = (regs->r11 & FLAGS_USER) | FLAGS_FIXED;
    registers_changed(engine);
    engine->at = AT_USER;
    return syscall_stop(engine, stop, regs->rax);
}

static int page_fault(emu_engine *engine, const struct frame *frame, emu_stop *stop)
{
    uint32_t want = frame->error & 16 ? EMU_RIGHT_X : frame->error & 2 ? EMU_RIGHT_W : EMU_RIGHT_R;
    struct vm *vm = engine->vm;
    if (vm->memory.hold != NULL)
        vm->memory.hold(vm->memory.opaque);
    pthread_mutex_lock(&vm->lock);
    int done = fill(engine, frame->cr2, want);
    if (done > 0 && vm->careful != 0 && --vm->careful == 0)
        end_careful(vm);
    pthread_mutex_unlock(&vm->lock);
    if (vm->memory.release != NULL)
        vm->memory.release(vm->memory.opaque);
    if (done == 0)
        return fault_stop(stop, frame->cr2, want);
    if (done < 0)
        return error_stop(stop, "kvm: no memory slot for %#llx: %s", (unsigned long long)frame->cr2, strerror(-done));
    return 0;
}

/* Of the instruction at pc; -1: it cannot be read. */
static int first_byte(emu_engine *engine, uint64_t pc)
{
    uint8_t byte;
    if (pc >= engine->vm->memory.size)
        return -1;
    /* not a plain load: another thread may unmap the page at this moment */
    struct iovec to = {&byte, 1}, from = {engine->vm->memory.base + pc, 1};
    return process_vm_readv(getpid(), &to, 1, &from, 1, 0) == 1 ? byte : -1;
}

/* HLT in a stub.  0: go on. */
static int exception(emu_engine *engine, emu_stop *stop)
{
    const struct frame *frame = frame_of(engine);
    unsigned vector = (unsigned)((registers(engine)->rip - KERNEL_PAGE(POOL_STUBS)) / STUB_SIZE);
    stop->pc = frame->rip;
    if ((frame->cs & 3) != 3)
        return error_stop(stop, "kvm: exception %u in the engine's own code at %#llx, error %#llx, cr2 %#llx", vector,
                          (unsigned long long)frame->rip, (unsigned long long)frame->error,
                          (unsigned long long)frame->cr2);
    engine->refused = 0;
    stop->nr = vector;
    /* A system call that stayed at CPL3 while nobody may execute that page, or with the trap flag on. */
    if (stays_user == 1 && frame->rip == KERNEL_PAGE(POOL_NOWHERE) &&
        (vector == VECTOR_DB || (vector == VECTOR_PF && frame->cr2 == frame->rip))) {
        emu_cpu_state state;
        user_save(engine, &state);
        state.pc = state.r[1];
        state.flags = state.r[11];
        user_load(engine, &state);
        return syscall_stop(engine, stop, state.r[0]);
    }
    switch (vector) {
    case VECTOR_PF:
        return page_fault(engine, frame, stop);
    case VECTOR_DE:
    case VECTOR_MF:
    case VECTOR_XM:
        return stop->kind = EMU_STOP_ARITH;
    case VECTOR_BP:
        stop->pc--; /* the instruction's own address; the vCPU is behind it */
        return stop->kind = EMU_STOP_BREAK;
    case VECTOR_DB:
        return stop->kind = EMU_STOP_BREAK;
    case VECTOR_UD:
        if (first_byte(engine, frame->rip) == INT_N) { /* some hosts' answer to a gate that user code may not use */
            stop->nr = VECTOR_GP;
            return fault_stop(stop, 0, 0);
        }
        return stop->kind = EMU_STOP_ILLEGAL;
    case VECTOR_AC:
        return stop->kind = EMU_STOP_ALIGN;
    case VECTOR_NMI:
    case VECTOR_NM:
    case VECTOR_DF:
    case VECTOR_MC:
        return error_stop(stop, "kvm: unexpected exception %u at %#llx", vector, (unsigned long long)frame->rip);
    default: /* #GP and all that a kernel turns into SIGSEGV */
        return fault_stop(stop, 0, 0);
    }
}

/* KVM_RUN failed with EFAULT.  0: go on. */
static int refused(emu_engine *engine, emu_stop *stop)
{
    uint64_t rip = registers(engine)->rip;
    if (stays_user == 1 && rip == KERNEL_PAGE(POOL_NOWHERE))
        return stayed_stop(engine, stop);
    stop->pc = rip;
    if (engine->refused == 0 || engine->refused_pc != rip) {
        engine->refused = 0;
        engine->refused_pc = rip;
    }
    if (++engine->refused > MOST_REFUSALS)
        return error_stop(stop, "kvm: the host refuses an access of the instruction at %#llx",
                          (unsigned long long)rip);
    pthread_mutex_lock(&engine->vm->lock);
    begin_careful(engine);
    pthread_mutex_unlock(&engine->vm->lock);
    return 0;
}

static int internal_error(emu_engine *engine, emu_stop *stop)
{
    const struct kvm_run *run = engine->run;
    stop->pc = registers(engine)->rip;
    char bytes[3 * 15 + 1] = "";
    if (run->emulation_failure.suberror == KVM_INTERNAL_ERROR_EMULATION && run->emulation_failure.ndata >= 4 &&
        (run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES) != 0) {
        unsigned count = run->emulation_failure.insn_size < 15 ? run->emulation_failure.insn_size : 15;
        for (unsigned i = 0; i < count; i++)
            snprintf(bytes + 3 * i, 4, " %02x", run->emulation_failure.insn_bytes[i]);
    }
    return error_stop(stop, "kvm: suberror %u at %#llx%s%s", run->internal.suberror, (unsigned long long)stop->pc,
                      bytes[0] != 0 ? ":" : "", bytes);
}

/* True when the CPU has yet to enter the stub of an exception that has happened: other registers would take it over. */
static bool exception_under_way(emu_engine *engine)
{
    struct kvm_vcpu_events events;
    return ioctl(engine->vcpu, KVM_GET_VCPU_EVENTS, &events) == 0 &&
           (events.exception.injected != 0 || events.exception.pending != 0);
}

static int flush(emu_engine *engine)
{
    struct vm *vm = engine->vm;
    int err = 0;
    engine->flush = false;
    pthread_mutex_lock(&vm->lock);
    if (pause_vm(vm, engine)) {
        err = forget(vm);
        resume_vm(vm);
    } else {
        engine->flush = true; /* that was for something else, perhaps */
    }
    pthread_mutex_unlock(&vm->lock);
    return err;
}

static int user_run(emu_engine *engine, emu_stop *stop)
{
    struct kvm_run *run = engine->run;
    memset(stop, 0, sizeof *stop);
    engine->tid = (int32_t)gettid();
    int kind = 0;
    while (kind == 0) {
        if (engine->kicked && engine->at != AT_ENTRY) {
            engine->kicked = 0;
            run->immediate_exit = 0;
            const struct frame *frame = frame_of(engine);
            const struct kvm_regs *regs = registers(engine);
            stop->pc = engine->at == AT_EXCEPTION ? frame->rip : engine->at == AT_SYSCALL ? regs->rcx : regs->rip;
            kind = stop->kind = EMU_STOP_KICK;
            break;
        }
        if (engine->at == AT_USER && registers(engine)->rip >= engine->vm->memory.size) {
            stop->pc = registers(engine)->rip;
            kind = fault_stop(stop, stop->pc, EMU_RIGHT_X);
            break;
        }
        int err = engine->flush ? flush(engine) : 0;
        if (err != 0) {
            kind = error_stop(stop, "kvm: cannot flush: %s", strerror(-err));
            break;
        }
        engine->xsave_known = false;
        enter(engine);
        err = ioctl(engine->vcpu, KVM_RUN, 0) < 0 ? errno : 0;
        leave(engine);
        engine->exits++;
        engine->at = position(engine);
        if (err == EINTR || err == EAGAIN) {
            /* Not a kick, but a pause that is over: what set this flag reads the other one first. */
            run->immediate_exit = 0;
            atomic_thread_fence(memory_order_seq_cst);
            if (engine->kicked)
                run->immediate_exit = 1;
            if (engine->at == AT_USER && exception_under_way(engine))
                engine->at = AT_ENTRY;
            /* On the way into a stub there is no state between two instructions: its HLT comes soon. */
            if (engine->at == AT_ENTRY)
                run->immediate_exit = 0;
        } else if (err == EFAULT) {
            kind = refused(engine, stop);
        } else if (err != 0) {
            kind = error_stop(stop, "kvm: KVM_RUN: %s", strerror(err));
        } else {
            switch (run->exit_reason) {
            case KVM_EXIT_HLT:
                if (engine->at == AT_SYSCALL)
                    kind = syscall_stop(engine, stop, registers(engine)->rax);
                else if (engine->at == AT_EXCEPTION)
                    kind = exception(engine, stop);
                else
                    kind = error_stop(stop, "kvm: HLT at %#llx", (unsigned long long)registers(engine)->rip);
                break;
            case KVM_EXIT_INTR:
                break;
            case KVM_EXIT_INTERNAL_ERROR:
                kind = internal_error(engine, stop);
                break;
            case KVM_EXIT_SHUTDOWN:
                kind = error_stop(stop, "kvm: triple fault at %#llx", (unsigned long long)registers(engine)->rip);
                break;
            case KVM_EXIT_FAIL_ENTRY:
                kind = error_stop(stop, "kvm: the CPU refuses to enter, reason %#llx",
                                  (unsigned long long)run->fail_entry.hardware_entry_failure_reason);
                break;
            default:
                kind = error_stop(stop, "kvm: exit %u at %#llx", run->exit_reason,
                                  (unsigned long long)registers(engine)->rip);
                break;
            }
        }
    }
    return kind;
}

static void user_kick(emu_engine *engine)
{
    engine->kicked = 1;
    engine->run->immediate_exit = 1;
}

/* ---- the runtime's changes ------------------------------------------------------------------ */

static void user_before_change(emu_engine *engine, uint64_t addr, uint64_t size)
{
    struct vm *vm = engine->vm;
    pthread_mutex_lock(&vm->lock);
    vm->lost_code = clear_range(vm, addr, size);
    vm->filled = false;
    pthread_mutex_unlock(&vm->lock);
}

static void user_after_change(emu_engine *engine, uint64_t addr, uint64_t size)
{
    struct vm *vm = engine->vm;
    pthread_mutex_lock(&vm->lock);
    if (vm->filled) /* another thread's access in between, by the old rights */
        vm->lost_code |= clear_range(vm, addr, size);
    /* The host's protection knows nothing of execution, so nobody else drops the old translation. */
    uint32_t rights = vm->lost_code && addr < vm->memory.size ? rights_at(vm, addr) : 0;
    if (rights != 0 && (rights & EMU_RIGHT_X) == 0) {
        if (vm->engines->next == NULL) {
            vm->engines->flush = true;
        } else {
            while (!pause_vm(vm, NULL))
                ;
            if (forget(vm) != 0)
                vm->engines->flush = true; /* whose run then fails */
            resume_vm(vm);
        }
    }
    pthread_mutex_unlock(&vm->lock);
}

static void user_hwcap(emu_engine *engine, uint64_t out[2])
{
    out[0] = cpuid_1_edx;
    out[1] = 0;
}

/* ---- what programs of this ISA alone need ------------------------------------------------------ */

static uint32_t user_xsave(emu_engine *engine, uint8_t *image, uint32_t room)
{
    if (room < xsave_size)
        return 0;
    read_xsave(engine);
    memcpy(image, &engine->xsave, xsave_size);
    const struct {
        uint32_t magic1, extended_size;
        uint64_t features;
        uint32_t size, padding[7];
    } description = {.magic1 = 0x46505853, .extended_size = xsave_size + 4, .features = xcr0, .size = xsave_size};
    memcpy(image + XSAVE_DESCRIPTION, &description, sizeof description);
    return xsave_size;
}

static void user_xrstor(emu_engine *engine, const uint8_t *image, uint32_t size)
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
    present &= xcr0;
    mxcsr &= mask != 0 ? mask : 0xffbf;
    memset(area, 0, sizeof engine->xsave);
    memcpy(area, image, size < xsave_size ? size : xsave_size);
    memcpy(area + XSAVE_MXCSR, &mxcsr, sizeof mxcsr);
    memcpy(area + XSAVE_MXCSR_MASK, &mask, sizeof mask);
    memset(area + XSAVE_DESCRIPTION, 0, XSAVE_HEADER - XSAVE_DESCRIPTION);
    memset(area + XSAVE_HEADER, 0, XSAVE_HEADER_SIZE);
    memcpy(area + XSAVE_HEADER, &present, sizeof present);
    if (ioctl(engine->vcpu, KVM_SET_XSAVE, &engine->xsave) < 0)
        engine->xsave_known = false;
}

/* ---- fork ---------------------------------------------------------------------------------------- */

static size_t user_descriptors(emu_engine *engine, int *fds, size_t room)
{
    struct vm *vm = engine->vm;
    const int shared[] = {device, vm->fd};
    size_t count = room < 2 ? room : 2;
    memcpy(fds, shared, count * sizeof *fds);
    pthread_mutex_lock(&vm->lock);
    for (const emu_engine *each = vm->engines; each != NULL && count < room; each = each->next)
        fds[count++] = each->vcpu;
    pthread_mutex_unlock(&vm->lock);
    return count;
}

/* A VM belongs to one address space; the child's needs another, with what this one's CPU holds. */
static void user_forking(emu_engine *engine)
{
    user_save(engine, &engine->kept);
}

static int user_forked(emu_engine *engine, char *text, size_t size)
{
    struct vm *vm = engine->vm;
    const struct kvm_xsave xsave = engine->xsave;
    const char *what = "";
    /* Another thread of the parent may have held them, and may have been at the tables. */
    pthread_mutex_init(&vm->lock, NULL);
    pthread_cond_init(&vm->changed, NULL);
    pthread_mutex_init(&once_lock, NULL);
    atomic_store(&vm->paused, false);
    bool alone = vm->engines == engine && engine->next == NULL;
    for (emu_engine *each = vm->engines, *next; each != NULL; each = next) {
        next = each->next;
        if (each != engine) {
            close_vcpu(each);
            free(each);
        }
    }
    vm->engines = engine;
    engine->next = NULL;
    int err = open_vm(vm, &what);
    if (err == 0)
        err = open_vcpu(engine, &what);
    vm->vcpus = engine->number + 1;
    if (err == 0 && (!alone || vm->nwindows > MANY_WINDOWS)) {
        vm->nwindows = 0; /* none has a slot */
        err = reset(vm);
        if (vm->careful != 0)
            end_careful(vm);
    }
    for (uint32_t i = 0; i < vm->nwindows && err == 0; i++)
        err = set_window(vm, (uint32_t)(vm->windows[i] >> 32), (uint32_t)vm->windows[i], true);
    if (err != 0) {
        snprintf(text, size, "kvm: %s: %s", what, strerror(-err));
        return err;
    }
    engine->run->immediate_exit = engine->kicked != 0;
    engine->xsave = xsave;
    engine->xsave_known = true;
    user_load(engine, &engine->kept);
    return 0;
}

static const emu_engine_ops ops = {
    .name = "kvm",
    .parallel = 1,
    .open = user_open,
    .close = user_close,
    .run = user_run,
    .result = user_result,
    .save = user_save,
    .load = user_load,
    .before_change = user_before_change,
    .after_change = user_after_change,
    .kick = user_kick,
    .hwcap = user_hwcap,
    .descriptors = user_descriptors,
    .forking = user_forking,
    .forked = user_forked,
    .xsave = user_xsave,
    .xrstor = user_xrstor,
    .another = user_another,
};

#else

static emu_engine *user_open(uint32_t isa, const emu_user_memory *memory, char *text, size_t size)
{
    snprintf(text, size, "kvm runs programs on x86-64 Linux hosts only; use --accel tcg");
    return NULL;
}

static const emu_engine_ops ops = {.name = "kvm", .open = user_open};
static emu_kvm_user_facts facts = {.stays_user = -1};

#endif

const emu_engine_ops *emu_kvm_user(void)
{
    return &ops;
}

void emu_kvm_user_look(emu_kvm_user_facts *out)
{
    *out = facts;
}
