/* The user-mode engine on KVM: page tables, which page faults fill from the runtime's rights. */
#if defined(__x86_64__) && defined(__linux__)

#include "kvm_user_vm.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* ---- page tables ---------------------------------------------------------------- */

unsigned kvm_user_index_of(uint64_t addr, unsigned level)
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
        uint64_t *entry = &table_at(vm, at)[kvm_user_index_of(addr, level)];
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
bool kvm_user_clear_range(struct vm *vm, uint64_t addr, uint64_t size)
{
    if (addr >= vm->memory.size || size == 0)
        return false;
    uint64_t last = size > vm->memory.size - addr ? vm->memory.size - 1 : addr + size - 1;
    return clear_table(vm, POOL_ROOT * PAGE, 4, 0, addr, last);
}

int kvm_user_set_slot(struct vm *vm, uint32_t slot, uint64_t base, uint64_t size, void *host)
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
int kvm_user_set_window(struct vm *vm, uint32_t number, uint32_t n, bool there)
{
    uint64_t addr = (uint64_t)number << WINDOW_BITS;
    uint64_t size = vm->memory.size - addr < WINDOW ? vm->memory.size - addr : WINDOW;
    return kvm_user_set_slot(vm, n + 1, POOL_SIZE + n * WINDOW, there ? size : 0, vm->memory.base + addr);
}

/* Empty tables and no windows.  KVM forgets what it had of them with the slots.  No vCPU runs. */
int kvm_user_reset(struct vm *vm)
{
    int err = 0;
    for (uint32_t i = 0; i < vm->nwindows && err == 0; i++)
        err = kvm_user_set_window(vm, (uint32_t)(vm->windows[i] >> 32), (uint32_t)vm->windows[i], false);
    vm->nwindows = 0;
    if (err == 0)
        err = kvm_user_set_slot(vm, 0, 0, 0, vm->pool);
    memset(table_at(vm, POOL_ROOT * PAGE), 0, PAGE / 2);
    if (madvise(vm->pool + POOL_TABLES * PAGE, POOL_SIZE - POOL_TABLES * PAGE, MADV_DONTNEED) != 0 && err == 0)
        err = -errno;
    vm->pool_used = POOL_TABLES * PAGE;
    if (err == 0)
        err = kvm_user_set_slot(vm, 0, 0, POOL_SIZE, vm->pool);
    vm->resets++;
    return err;
}

/*
 * Makes KVM forget all it has derived from our tables, by taking the slot away
 * that they are in.  Writing CR3 would not do where KVM shadows them: it trusts
 * its copy as long as the guest itself has not written to a table.  No vCPU runs.
 */
int kvm_user_forget(struct vm *vm)
{
    int err = kvm_user_set_slot(vm, 0, 0, 0, vm->pool);
    return err != 0 ? err : kvm_user_set_slot(vm, 0, 0, POOL_SIZE, vm->pool);
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
bool kvm_user_pause_vm(struct vm *vm, const emu_engine *self)
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

void kvm_user_resume_vm(struct vm *vm)
{
    atomic_store(&vm->paused, false);
    pthread_cond_broadcast(&vm->changed);
}

/* Around KVM_RUN. */
void kvm_user_enter(emu_engine *engine)
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

void kvm_user_leave(emu_engine *engine)
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
        int err = kvm_user_set_window(vm, number, vm->nwindows, true);
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

uint32_t kvm_user_rights_at(struct vm *vm, uint64_t addr)
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
int kvm_user_fill(emu_engine *engine, uint64_t addr, uint32_t want)
{
    struct vm *vm = engine->vm;
    uint64_t page = addr & ~(PAGE - 1);
    if (addr >= vm->memory.size)
        return 0;
    uint32_t rights = kvm_user_rights_at(vm, page);
    if (want == EMU_RIGHT_R ? rights == 0 : (rights & want) == 0)
        return 0;
    bool careful = vm->careful != 0;
    if (careful && !host_allows(vm, page, want))
        return 0;
    uint64_t base;
    int err = physical(vm, page, &base);
    uint64_t *table = err == 0 ? leaf_table(vm, page, true) : NULL;
    if (err == -ENOSPC || (err == 0 && table == NULL)) {
        if (!kvm_user_pause_vm(vm, engine))
            return 1; /* it faults again, and finds room */
        err = kvm_user_reset(vm);
        if (err == 0)
            err = physical(vm, page, &base);
        table = err == 0 ? leaf_table(vm, page, true) : NULL;
        kvm_user_resume_vm(vm);
    }
    if (err != 0)
        return err;
    unsigned hit = kvm_user_index_of(page, 1);
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
            rights = kvm_user_rights_at(vm, neighbour);
            if (rights == 0)
                continue;
        } else {
            rights = kvm_user_rights_at(vm, page);
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
void kvm_user_allow_nowhere(struct vm *vm, bool allow)
{
    uint64_t pte = POOL_NOWHERE * PAGE | PTE_P | PTE_AD | (allow ? PTE_U : 0);
    set_entry(&table_at(vm, POOL_KERNEL_PT * PAGE)[POOL_NOWHERE], pte);
}

void kvm_user_end_careful(struct vm *vm)
{
    vm->careful = 0;
    if (kvm_user_host.stays_user == 1)
        kvm_user_allow_nowhere(vm, true);
}

/*
 * KVM_RUN said EFAULT: the tables allow an access that the host refuses, and
 * nobody says which.  So every page faults once more, and is looked at first.
 */
void kvm_user_begin_careful(emu_engine *engine)
{
    struct vm *vm = engine->vm;
    kvm_user_clear_range(vm, 0, vm->memory.size);
    vm->careful = CAREFUL_FILLS;
    vm->refused = engine;
    if (kvm_user_host.stays_user == 1)
        kvm_user_allow_nowhere(vm, false);
}

#endif
