/* The user-mode engine on KVM: a VM and its vCPUs are made, and what the host can do is found out. */
#if defined(__x86_64__) && defined(__linux__)

#include "kvm_user_vm.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

struct kvm_user_host kvm_user_host = {
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .stays_user = -1,
    .device = -1,
    .xsave_size = XSAVE_HEADER + XSAVE_HEADER_SIZE,
    .facts = {.stays_user = -1},
};
static struct {
    struct kvm_cpuid2 head;
    struct kvm_cpuid_entry2 entries[256];
} cpuid;
static uint32_t physical_bits = 36;

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
unsigned kvm_user_behind_hlt(unsigned vector)
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
        table_at(vm, POOL_KERNEL_PD * PAGE)[kvm_user_index_of(KERNEL_BASE, 2) + i] = (POOL_KERNEL_PT + i) * PAGE | all;
    uint64_t *pages = table_at(vm, POOL_KERNEL_PT * PAGE);
    for (uint64_t i = 0; i < POOL_MAPPED; i++)
        if (i != POOL_NOWHERE)
            pages[i] = i * PAGE | PTE_P | PTE_AD | (i == POOL_STUBS || i == POOL_PROBE ? 0 : PTE_NX) |
                       (i >= POOL_VCPU ? PTE_W : 0);
    kvm_user_allow_nowhere(vm, kvm_user_host.stays_user == 1);
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

/* CPUID as the guest shall see it: what KVM can do, without what needs a kernel.  Under kvm_user_host.lock. */
static int find_cpuid(void)
{
    if (cpuid.head.nent != 0)
        return 0;
    cpuid.head.nent = sizeof cpuid.entries / sizeof cpuid.entries[0];
    if (ioctl(kvm_user_host.device, KVM_GET_SUPPORTED_CPUID, &cpuid.head) < 0) {
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
            kvm_user_host.cpuid_1_edx = leaf->edx;
        }
        if (leaf->function == 7 && leaf->index == 0)
            leaf->ebx &= ~1u; /* FSGSBASE: the bases are the runtime's to know */
        if (leaf->function == 0xd && leaf->index == 0)
            kvm_user_host.xcr0 = ((uint64_t)leaf->edx << 32 | leaf->eax) & XCR0_WANTED;
        if (leaf->function == 0x80000008 && (leaf->eax & 0xff) != 0)
            physical_bits = leaf->eax & 0xff;
        cpuid.entries[kept++] = *leaf;
    }
    cpuid.head.nent = kept;
    if ((kvm_user_host.xcr0 & 4) == 0 || (kvm_user_host.xcr0 & 0xe0) != 0xe0)
        kvm_user_host.xcr0 &= ~UINT64_C(0xe0);
    for (uint32_t i = 0; i < kept; i++) {
        const struct kvm_cpuid_entry2 *leaf = &cpuid.entries[i];
        if (leaf->function == 0xd && leaf->index >= 2 && leaf->index < 64 && (kvm_user_host.xcr0 >> leaf->index & 1) != 0 &&
            leaf->eax + leaf->ebx > kvm_user_host.xsave_size)
            kvm_user_host.xsave_size = leaf->eax + leaf->ebx;
    }
    return kvm_user_host.xsave_size <= sizeof(struct kvm_xsave) ? 0 : -E2BIG;
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
        .data = kvm_user_host.stays_user == 1 ? KERNEL_PAGE(POOL_NOWHERE) : KERNEL_PAGE(POOL_STUBS) + SYSCALL_STUB};
    msrs.entries[2] = (struct kvm_msr_entry){.index = MSR_FMASK, .data = kvm_user_host.stays_user == 1 ? 0 : SYSCALL_MASK};
    (void)ioctl(engine->vcpu, KVM_SET_MSRS, &msrs.head);
}

/* The guest's clock of cycles is the host's, so that threads and processes agree. */
static void set_tsc(emu_engine *engine)
{
    uint64_t offset = 0;
    struct kvm_device_attr attr = {.group = 0, .attr = 0, .addr = (uint64_t)(uintptr_t)&offset};
    (void)ioctl(engine->vcpu, KVM_SET_DEVICE_ATTR, &attr);
}

/* Runs one SYSCALL at CPL3 and looks where it ends.  Under kvm_user_host.lock.  -errno, with *text. */
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
            kvm_user_host.stays_user = 0;
            return 0;
        }
        struct frame *frame = frame_of(engine);
        if (regs->rip == stub + VECTOR_PF * STUB_SIZE + kvm_user_behind_hlt(VECTOR_PF) && frame->cr2 == stub + SYSCALL_STUB) {
            kvm_user_host.stays_user = 1;
            return 0;
        }
    }
    *text = "a first SYSCALL inside the VM did not arrive";
    return err != 0 ? err : -EIO;
}

void kvm_user_close_vcpu(emu_engine *engine)
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
int kvm_user_open_vm(struct vm *vm, const char **text)
{
    int before = vm->fd;
    *text = "cannot create a VM";
    vm->fd = ioctl(kvm_user_host.device, KVM_CREATE_VM, 0);
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
    return kvm_user_set_slot(vm, 0, 0, POOL_SIZE, vm->pool);
}

/* A vCPU at CPL3, in the place of the one that the engine has, if any.  -errno, and *text. */
int kvm_user_open_vcpu(emu_engine *engine, const char **text)
{
    int before = engine->vcpu;
    *text = "cannot create a vCPU";
    engine->vcpu = ioctl(engine->vm->fd, KVM_CREATE_VCPU, engine->number);
    if (engine->vcpu < 0)
        return -errno;
    engine->vcpu = settle(engine->vcpu, before);
    int size = ioctl(kvm_user_host.device, KVM_GET_VCPU_MMAP_SIZE, 0);
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
    user_sregs(engine, &engine->user, kvm_user_host.xcr0 != 0);
    if (ioctl(engine->vcpu, KVM_SET_SREGS, &engine->user) < 0)
        return -errno;
    /* All but the first wait for a signal that starts them (SDM volume 3, 9.4.4); ours just run. */
    struct kvm_mp_state runnable = {.mp_state = KVM_MP_STATE_RUNNABLE};
    (void)ioctl(engine->vcpu, KVM_SET_MP_STATE, &runnable);
    if (kvm_user_host.xcr0 != 0) {
        struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs[0] = {.xcr = 0, .value = kvm_user_host.xcr0}};
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
    if (kvm_user_host.device >= 0)
        return kvm_user_host.device;
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
    return kvm_user_host.device = out_of_the_way(kvm);
}

void kvm_user_close(emu_engine *engine)
{
    struct vm *vm = engine->vm;
    kvm_user_close_vcpu(engine);
    pthread_mutex_lock(&vm->lock);
    for (emu_engine **at = &vm->engines; *at != NULL; at = &(*at)->next)
        if (*at == engine) {
            *at = engine->next;
            break;
        }
    bool last = vm->engines == NULL;
    pthread_mutex_unlock(&vm->lock);
    pthread_mutex_lock(&kvm_user_host.lock);
    kvm_user_host.facts.exits += engine->exits;
    kvm_user_host.facts.fills += last ? vm->fills : 0;
    kvm_user_host.facts.resets += last ? vm->resets : 0;
    pthread_mutex_unlock(&kvm_user_host.lock);
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

/* Under kvm_user_host.lock: the VM, and what the first one finds out.  -errno. */
static int start(emu_engine *engine, const char **text)
{
    *text = "cannot ask for CPUID";
    int err = find_cpuid();
    if (err == 0)
        err = kvm_user_open_vm(engine->vm, text);
    if (err == 0)
        err = kvm_user_open_vcpu(engine, text);
    if (err == 0 && kvm_user_host.stays_user < 0) {
        err = find_syscall(engine, text);
        if (err != 0)
            return err;
        kvm_user_allow_nowhere(engine->vm, kvm_user_host.stays_user == 1);
        set_msrs(engine);
        kvm_user_host.facts.stays_user = kvm_user_host.stays_user;
    }
    return err;
}

static const emu_cpu_state first_state = {.fpcr = 0x1f80, .x87 = {0x7f, 0x03}};


emu_engine *kvm_user_open(uint32_t isa, const emu_user_memory *memory, char *text, size_t size)
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
        pthread_mutex_lock(&kvm_user_host.lock);
        bool usable = open_device(text, size) >= 0;
        if (usable) {
            write_tables(vm);
            err = start(engine, &what);
            kvm_user_host.facts.engines += err == 0;
        }
        pthread_mutex_unlock(&kvm_user_host.lock);
        if (!usable) {
            kvm_user_close(engine);
            return NULL;
        }
    }
    if (err != 0) {
        snprintf(text, size, "kvm: %s: %s; use --accel tcg", what, strerror(-err));
        kvm_user_close(engine);
        return NULL;
    }
    kvm_user_load(engine, &first_state);
    return engine;
}

/* Called by one thread at a time: numbers are given in order. */
emu_engine *kvm_user_another(emu_engine *engine, char *text, size_t size)
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
    int err = room ? kvm_user_open_vcpu(other, &what) : -EAGAIN;
    if (err != 0) {
        snprintf(text, size, "kvm: %s: %s", what, strerror(-err));
        kvm_user_close_vcpu(other);
        free(other);
        return NULL;
    }
    pthread_mutex_lock(&vm->lock);
    other->next = vm->engines;
    vm->engines = other;
    pthread_mutex_unlock(&vm->lock);
    kvm_user_load(other, &first_state);
    return other;
}

#endif
