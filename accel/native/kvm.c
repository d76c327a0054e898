/*
 * KVM's run loop.
 *
 * Kicks: `asks` holds what other threads want.  A kicker sets its bit, then
 * immediate_exit, then signals the thread that `tid` names; the runner publishes
 * `tid`, then looks at `asks`.  So either the runner sees the bit, or KVM_RUN
 * sees immediate_exit or the signal.  Taking the bits clears immediate_exit
 * first; a kicker that is between its two stores then causes one empty exit.
 */
#include "kvm.h"

#include "cross.h"
#include "trace_machine.h"
#include "trace_write.h"

#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int emu_kvm_ioctl(int fd, uint64_t request, void *argument)
{
    return emu_kvm_control(fd, request, (uintptr_t)argument);
}

int emu_kvm_control(int fd, uint64_t request, uint64_t argument)
{
    int result;
    do
        result = ioctl(fd, (unsigned long)request, (unsigned long)argument);
    while (result < 0 && errno == EINTR);
    return result < 0 ? -errno : result;
}

int emu_kvm_signal(void)
{
    /* The C library keeps the lowest for itself, programs like the low ones. */
    return SIGRTMAX - 2;
}

#if defined(__x86_64__)

#include <linux/kvm.h>

#define SAME_SIZE(ours, kernels) _Static_assert(sizeof(ours) == sizeof(kernels), #ours " has the kernel's layout")
#define SAME_PLACE(ours, a, kernels, b) \
    _Static_assert(offsetof(ours, a) == offsetof(kernels, b), #ours "." #a " is where the kernel has it")
#define SAME_NUMBER(name) _Static_assert(EMU_##name == name, #name)

SAME_SIZE(emu_kvm_slot, struct kvm_userspace_memory_region);
SAME_SIZE(emu_kvm_dirty_log, struct kvm_dirty_log);
SAME_SIZE(emu_kvm_ioevent, struct kvm_ioeventfd);
SAME_PLACE(emu_kvm_ioevent, flags, struct kvm_ioeventfd, flags);
SAME_SIZE(emu_kvm_regs, struct kvm_regs);
SAME_PLACE(emu_kvm_regs, rflags, struct kvm_regs, rflags);
SAME_SIZE(emu_kvm_segment, struct kvm_segment);
SAME_PLACE(emu_kvm_segment, unusable, struct kvm_segment, unusable);
SAME_SIZE(emu_kvm_sregs, struct kvm_sregs);
SAME_PLACE(emu_kvm_sregs, efer, struct kvm_sregs, efer);
SAME_SIZE(emu_kvm_events, struct kvm_vcpu_events);
SAME_PLACE(emu_kvm_events, exception_payload, struct kvm_vcpu_events, exception_payload);
SAME_SIZE(emu_kvm_debugregs, struct kvm_debugregs);
SAME_SIZE(emu_kvm_guest_debug, struct kvm_guest_debug);
SAME_SIZE(emu_kvm_translation, struct kvm_translation);
SAME_NUMBER(KVM_GET_API_VERSION);
SAME_NUMBER(KVM_CREATE_VM);
SAME_NUMBER(KVM_GET_MSR_INDEX_LIST);
SAME_NUMBER(KVM_CHECK_EXTENSION);
SAME_NUMBER(KVM_GET_VCPU_MMAP_SIZE);
SAME_NUMBER(KVM_GET_SUPPORTED_CPUID);
SAME_NUMBER(KVM_SET_USER_MEMORY_REGION);
SAME_NUMBER(KVM_SET_TSS_ADDR);
SAME_NUMBER(KVM_SET_IDENTITY_MAP_ADDR);
SAME_NUMBER(KVM_GET_DIRTY_LOG);
SAME_NUMBER(KVM_CREATE_IRQCHIP);
SAME_NUMBER(KVM_GET_IRQCHIP);
SAME_NUMBER(KVM_SET_IRQCHIP);
SAME_NUMBER(KVM_CREATE_PIT2);
SAME_NUMBER(KVM_IOEVENTFD);
SAME_NUMBER(KVM_SET_CLOCK);
SAME_NUMBER(KVM_GET_CLOCK);
SAME_NUMBER(KVM_GET_PIT2);
SAME_NUMBER(KVM_SET_PIT2);
SAME_NUMBER(KVM_SIGNAL_MSI);
SAME_NUMBER(KVM_SET_GSI_ROUTING);
SAME_NUMBER(KVM_ENABLE_CAP);
SAME_NUMBER(KVM_TRANSLATE);
SAME_NUMBER(KVM_GET_MSRS);
SAME_NUMBER(KVM_SET_MSRS);
SAME_NUMBER(KVM_GET_LAPIC);
SAME_NUMBER(KVM_SET_LAPIC);
SAME_NUMBER(KVM_SET_CPUID2);
SAME_NUMBER(KVM_GET_CPUID2);
SAME_NUMBER(KVM_GET_MP_STATE);
SAME_NUMBER(KVM_SET_MP_STATE);
SAME_NUMBER(KVM_SET_GUEST_DEBUG);
SAME_NUMBER(KVM_GET_VCPU_EVENTS);
SAME_NUMBER(KVM_SET_VCPU_EVENTS);
SAME_NUMBER(KVM_GET_DEBUGREGS);
SAME_NUMBER(KVM_SET_DEBUGREGS);
SAME_NUMBER(KVM_GET_XSAVE);
SAME_NUMBER(KVM_SET_XSAVE);
SAME_NUMBER(KVM_GET_XCRS);
SAME_NUMBER(KVM_SET_XCRS);

/* Newer than the oldest headers we build with. */
#define EXIT_MEMORY_FAULT 39

#define RFLAGS_IF 0x200u
#define INT3 0xccu
#define APIC_BASE UINT64_C(0xfee00000)
#define APIC_ON 0x800u
#define APIC_FIRST 0x100u
#define SYNCED_TURNS 8u
#define SYNC_MORE (KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS)
#define REFUSED_TURNS 64u
/* How long a CPU may be in emulated kernel mode before it moves. */
#define SLICE_NS 10000000

enum ask { ASK_KICK = 1, ASK_ATTENTION = 2 };

struct emu_kvm_vcpu {
    struct kvm_run *run;
    int fd;
    uint32_t index;
    int irqchip;
    uint32_t sync;
    uint64_t run_size;
    emu_space *memory;
    emu_space *ports;

    int regs_valid; /* run->s.regs.regs (or, without SYNC_REGS, `own`) are the guest's */
    int regs_dirty; /* ... and the kernel does not have them yet */
    struct kvm_regs *regs;
    struct kvm_regs own;
    int more_sync;    /* whether segments and events can come with an exit, too */
    int more_valid;   /* run->s.regs has them, as they are */
    int events_dirty; /* ... and the kernel does not have those events yet */
    int may_move, moves;
    uint32_t refused; /* so many more exits are asked for them: KVM has refused something lately */

    /*
     * Exits of this run.  After a few it is a run of accesses that C serves, and
     * nobody looks at the registers: they are not worth copying at each.
     */
    uint32_t turns;
    int pending; /* an access was served that KVM_RUN has not completed */
    int halted, deaf; /* deaf: with interrupts off, and that was told */
    int parked; /* waits for a start-up interrupt */
    int sleeps;
    struct {
        emu_irq_fn fn;
        void *opaque;
    } told[EMU_KVM_TOLD];
    int apic_on;
    emu_kvm_counts counts;
    int debugs; /* enum emu_kvm_debugs */
    int passes_int3;
    _Atomic(emu_cross *) cross; /* NULL: what KVM refuses ends the run */

    atomic_uint asks;
    atomic_int tid; /* of the thread inside run, else 0 */
    atomic_int asleep;
    atomic_int intr; /* vector + 1, or 0 */
    atomic_int nmi;
    int nmi_line;
    atomic_uint start; /* START_INIT, and below it a start-up interrupt's vector + 1 */
    atomic_uint cr8;   /* what the task priority is to be */
};

#define START_INIT 0x10000u

/* Not kept between calls: it changes with fork(). */
static pid_t thread_id(void) { return (pid_t)syscall(SYS_gettid); }

/* ---- interrupts of an in-kernel controller ---------------------------------- */

void emu_kvm_gsi(void *opaque, uint32_t number, int level)
{
    const emu_kvm_chip *chip = opaque;
    struct kvm_irq_level line = {.irq = number, .level = (uint32_t)(level != 0)};
    /* Fails only when the VM is gone, and then nobody listens. */
    emu_kvm_ioctl(chip->vm, KVM_IRQ_LINE, &line);
}

int emu_kvm_msi(const emu_kvm_chip *chip, uint64_t address, uint32_t data)
{
    struct kvm_msi msi = {.address_lo = (uint32_t)address, .address_hi = (uint32_t)(address >> 32), .data = data};
    return emu_kvm_ioctl(chip->vm, KVM_SIGNAL_MSI, &msi);
}

void emu_kvm_send(void *opaque, uint64_t address, uint32_t data)
{
    emu_kvm_msi(opaque, address, data); /* refused where nobody is addressed: hardware drops it */
}

void emu_kvm_route(void *opaque, uint32_t input, uint64_t address, uint32_t data)
{
    emu_kvm_chip *chip = opaque;
    if (input >= EMU_KVM_ROUTES || (chip->address[input] == address && chip->data[input] == data))
        return;
    chip->address[input] = address;
    chip->data[input] = data;
    struct {
        struct kvm_irq_routing head;
        struct kvm_irq_routing_entry entries[EMU_KVM_ROUTES];
    } table;
    memset(&table, 0, sizeof table);
    for (uint32_t i = 0; i < EMU_KVM_ROUTES; i++) {
        if (chip->data[i] == 0)
            continue;
        table.entries[table.head.nr++] = (struct kvm_irq_routing_entry){
            .gsi = i,
            .type = KVM_IRQ_ROUTING_MSI,
            .u.msi = {.address_lo = (uint32_t)chip->address[i],
                      .address_hi = (uint32_t)(chip->address[i] >> 32),
                      .data = chip->data[i]},
        };
    }
    emu_kvm_ioctl(chip->vm, KVM_SET_GSI_ROUTING, &table);
}

/* ---- creation --------------------------------------------------------------- */

static void ignore(int number) { (void)number; }

/* KVM_RUN returns when a signal is there; the handler itself has nothing to do. */
static int install_handler(void)
{
    struct sigaction action = {.sa_handler = ignore}, old;
    sigemptyset(&action.sa_mask);
    if (sigaction(emu_kvm_signal(), NULL, &old) != 0)
        return -errno;
    if (old.sa_handler != SIG_DFL && old.sa_handler != SIG_IGN)
        return 0; /* ours, or somebody's who lives with a call more */
    return sigaction(emu_kvm_signal(), &action, NULL) != 0 ? -errno : 0;
}

int emu_kvm_vcpu_open(int vm, uint32_t index, uint64_t run_size, uint32_t sync, int irqchip,
                      emu_space *memory, emu_space *ports, emu_kvm_vcpu **out)
{
    if (run_size < sizeof(struct kvm_run))
        return -EINVAL;
    int status = install_handler();
    if (status < 0)
        return status;
    emu_kvm_vcpu *vcpu = calloc(1, sizeof *vcpu);
    if (vcpu == NULL)
        return -ENOMEM;
    vcpu->fd = emu_kvm_control(vm, KVM_CREATE_VCPU, index);
    if (vcpu->fd < 0) {
        status = vcpu->fd;
        free(vcpu);
        return status;
    }
    void *run = mmap(NULL, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
    if (run == MAP_FAILED) {
        status = -errno;
        close(vcpu->fd);
        free(vcpu);
        return status;
    }
    vcpu->run = run;
    vcpu->run_size = run_size;
    vcpu->memory = memory;
    vcpu->ports = ports;
    vcpu->index = index;
    vcpu->irqchip = irqchip;
    /* A processor that waits for its start-up interrupt ignores the dirty bits: use ioctls for those. */
    vcpu->sync = irqchip && index != 0 ? 0 : sync & KVM_SYNC_X86_REGS;
    vcpu->more_sync = vcpu->sync != 0 && (sync & SYNC_MORE) == SYNC_MORE;
    vcpu->regs = vcpu->sync ? &vcpu->run->s.regs.regs : &vcpu->own;
    if (irqchip == EMU_KVM_CHIP_NONE) { /* the kernel leaves this 0, and CPUID without an APIC */
        struct kvm_sregs sregs;
        status = emu_kvm_ioctl(vcpu->fd, KVM_GET_SREGS, &sregs);
        sregs.apic_base = APIC_BASE | APIC_ON | (index == 0 ? APIC_FIRST : 0);
        if (status == 0)
            status = emu_kvm_ioctl(vcpu->fd, KVM_SET_SREGS, &sregs);
        vcpu->apic_on = 1;
    }
    if (status < 0) {
        emu_kvm_vcpu_close(vcpu);
        return status;
    }
    *out = vcpu;
    return 0;
}

void emu_kvm_vcpu_close(emu_kvm_vcpu *vcpu)
{
    if (vcpu == NULL)
        return;
    emu_cross_free(atomic_load(&vcpu->cross));
    munmap(vcpu->run, vcpu->run_size);
    close(vcpu->fd);
    free(vcpu);
}

int emu_kvm_vcpu_fd(const emu_kvm_vcpu *vcpu) { return vcpu->fd; }
int emu_kvm_vcpu_halted(const emu_kvm_vcpu *vcpu) { return vcpu->halted; }
void emu_kvm_vcpu_set_halted(emu_kvm_vcpu *vcpu, int halted) { vcpu->halted = halted != 0; }
void emu_kvm_vcpu_counts(const emu_kvm_vcpu *vcpu, emu_kvm_counts *out) { *out = vcpu->counts; }
int emu_kvm_vcpu_parked(const emu_kvm_vcpu *vcpu) { return vcpu->parked; }
void emu_kvm_vcpu_set_parked(emu_kvm_vcpu *vcpu, int parked) { vcpu->parked = parked != 0; }
void emu_kvm_vcpu_sleep(emu_kvm_vcpu *vcpu, int sleeps)
{
    emu_cross *cross = atomic_load(&vcpu->cross);
    vcpu->sleeps = sleeps != 0;
    if (cross != NULL)
        emu_cross_sleep(cross, sleeps);
}

void emu_kvm_vcpu_tell(emu_kvm_vcpu *vcpu, int what, emu_irq_fn fn, void *opaque)
{
    vcpu->told[what].fn = fn;
    vcpu->told[what].opaque = opaque;
}

static void tell(const emu_kvm_vcpu *vcpu, int what, int value)
{
    if (vcpu->told[what].fn != NULL)
        vcpu->told[what].fn(vcpu->told[what].opaque, vcpu->index, value);
}

int emu_kvm_vcpu_intr(const emu_kvm_vcpu *vcpu) { return atomic_load(&vcpu->intr); }

void emu_kvm_vcpu_took(emu_kvm_vcpu *vcpu, int vector)
{
    int level = vector + 1;
    atomic_compare_exchange_strong(&vcpu->intr, &level, 0);
    tell(vcpu, EMU_KVM_TAKES, vector);
}

static emu_cross *insider(const emu_kvm_vcpu *vcpu)
{
    emu_cross *cross = atomic_load(&((emu_kvm_vcpu *)(uintptr_t)vcpu)->cross);
    return cross != NULL && emu_cross_inside(cross) ? cross : NULL;
}

int emu_kvm_vcpu_come_back(emu_kvm_vcpu *vcpu)
{
    emu_cross *cross = insider(vcpu);
    return cross == NULL ? 0 : emu_cross_leave(cross);
}

int emu_kvm_vcpu_cross(emu_kvm_vcpu *vcpu, int vm, uint32_t slot)
{
    emu_cross *cross = emu_cross_new(vcpu, vcpu->memory, vcpu->ports, vm, slot);
    if (cross != NULL)
        emu_cross_sleep(cross, vcpu->sleeps);
    atomic_store(&vcpu->cross, cross);
    return cross == NULL ? -ENOMEM : 0;
}

int emu_kvm_vcpu_cross_cpuid(emu_kvm_vcpu *vcpu, const void *table, size_t size)
{
    emu_cross *cross = atomic_load(&vcpu->cross);
    return cross == NULL ? -ENOSYS : emu_cross_cpuid(cross, table, size);
}

void emu_kvm_vcpu_stays(emu_kvm_vcpu *vcpu, int stays)
{
    emu_cross *cross = atomic_load(&vcpu->cross);
    if (cross != NULL)
        emu_cross_stays(cross, stays);
    vcpu->may_move = cross != NULL && stays;
}

void emu_kvm_vcpu_remap(emu_kvm_vcpu *vcpu)
{
    emu_cross *cross = atomic_load(&vcpu->cross);
    if (cross != NULL)
        emu_cross_remap(cross);
}

void emu_kvm_vcpu_debugs(emu_kvm_vcpu *vcpu, int how)
{
    vcpu->debugs = how;
    vcpu->passes_int3 = 0;
}

unsigned emu_kvm_vcpu_priority(const emu_kvm_vcpu *vcpu) { return atomic_load(&((emu_kvm_vcpu *)(uintptr_t)vcpu)->cr8); }
void emu_kvm_vcpu_set_priority(emu_kvm_vcpu *vcpu, unsigned priority)
{
    atomic_store(&vcpu->cr8, priority);
    vcpu->run->cr8 = priority;
    tell(vcpu, EMU_KVM_CR8, (int)priority);
}

void emu_kvm_vcpu_crossings(const emu_kvm_vcpu *vcpu, emu_cross_counts *out)
{
    const emu_cross *cross = atomic_load(&vcpu->cross);
    memset(out, 0, sizeof *out);
    if (cross != NULL)
        emu_cross_get_counts(cross, out);
}

/* ---- registers -------------------------------------------------------------- */

static int load_regs(emu_kvm_vcpu *vcpu)
{
    int back = emu_kvm_vcpu_come_back(vcpu);
    if (back < 0)
        return back;
    if (vcpu->regs_valid)
        return 0;
    int status = emu_kvm_ioctl(vcpu->fd, KVM_GET_REGS, vcpu->regs);
    vcpu->regs_valid = status == 0;
    return status;
}

int emu_kvm_vcpu_regs(emu_kvm_vcpu *vcpu, emu_kvm_regs *out)
{
    int status = load_regs(vcpu);
    if (status == 0)
        memcpy(out, vcpu->regs, sizeof *out);
    return status;
}

int emu_kvm_vcpu_set_regs(emu_kvm_vcpu *vcpu, const emu_kvm_regs *regs)
{
    int back = emu_kvm_vcpu_come_back(vcpu);
    if (back < 0)
        return back;
    memcpy(vcpu->regs, regs, sizeof *regs);
    vcpu->regs_valid = vcpu->regs_dirty = 1;
    /* What the last exit said of the interrupt flag need not hold any more. */
    vcpu->run->ready_for_interrupt_injection = 0;
    return 0;
}

int emu_kvm_vcpu_flush(emu_kvm_vcpu *vcpu)
{
    int back = emu_kvm_vcpu_come_back(vcpu);
    if (back < 0)
        return back;
    if (!vcpu->regs_dirty)
        return 0;
    int status = emu_kvm_ioctl(vcpu->fd, KVM_SET_REGS, vcpu->regs);
    if (status == 0)
        vcpu->regs_dirty = 0;
    return status;
}

static int flush_events(emu_kvm_vcpu *vcpu)
{
    if (!vcpu->events_dirty)
        return 0;
    vcpu->events_dirty = 0;
    return emu_kvm_ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, &vcpu->run->s.regs.events);
}

int emu_kvm_vcpu_events(emu_kvm_vcpu *vcpu, emu_kvm_events *out)
{
    int back = emu_kvm_vcpu_come_back(vcpu);
    if (back < 0)
        return back;
    if (!vcpu->more_valid)
        return emu_kvm_ioctl(vcpu->fd, KVM_GET_VCPU_EVENTS, out);
    memcpy(out, &vcpu->run->s.regs.events, sizeof *out);
    return 0;
}

int emu_kvm_vcpu_set_events(emu_kvm_vcpu *vcpu, const emu_kvm_events *events)
{
    int back = emu_kvm_vcpu_come_back(vcpu);
    if (back < 0)
        return back;
    if (!vcpu->more_valid)
        return emu_kvm_ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, (void *)events);
    memcpy(&vcpu->run->s.regs.events, events, sizeof *events);
    vcpu->events_dirty = 1;
    return 0;
}

int emu_kvm_vcpu_sregs(emu_kvm_vcpu *vcpu, emu_kvm_sregs *out)
{
    int back = emu_kvm_vcpu_come_back(vcpu);
    if (back < 0)
        return back;
    if (vcpu->more_valid) {
        memcpy(out, &vcpu->run->s.regs.sregs, sizeof *out);
        return 0;
    }
    return emu_kvm_ioctl(vcpu->fd, KVM_GET_SREGS, out);
}

int emu_kvm_vcpu_set_sregs(emu_kvm_vcpu *vcpu, const emu_kvm_sregs *sregs)
{
    int back = emu_kvm_vcpu_come_back(vcpu);
    if (back < 0)
        return back;
    int status = flush_events(vcpu);
    vcpu->more_valid = 0;
    if (status == 0)
        status = emu_kvm_ioctl(vcpu->fd, KVM_SET_SREGS, (void *)sregs);
    if (status == 0 && vcpu->irqchip == EMU_KVM_CHIP_NONE) {
        /* KVM_RUN takes CR8 from its own page. */
        vcpu->run->cr8 = sregs->cr8;
        atomic_store(&vcpu->cr8, (unsigned)sregs->cr8);
        vcpu->apic_on = (sregs->apic_base & APIC_ON) != 0;
        tell(vcpu, EMU_KVM_CR8, (int)sregs->cr8);
        tell(vcpu, EMU_KVM_ENABLES, vcpu->apic_on);
    }
    return status;
}

/* ---- accesses --------------------------------------------------------------- */

static int serve_io(emu_kvm_vcpu *vcpu)
{
    struct kvm_run *run = vcpu->run;
    uint8_t *data = (uint8_t *)run + run->io.data_offset;
    uint32_t width = run->io.size, count = run->io.count;
    if (run->io.direction == KVM_EXIT_IO_OUT) {
        for (uint32_t i = 0; i < count && vcpu->ports != NULL; i++, data += width) {
            uint64_t value = 0;
            memcpy(&value, data, width);
            if (emu_space_write(vcpu->ports, run->io.port, width, value) == EMU_RAISED)
                return EMU_RAISED;
        }
        return EMU_OK;
    }
    for (uint32_t i = 0; i < count; i++, data += width) {
        uint64_t value = UINT64_MAX;
        if (vcpu->ports != NULL && emu_space_read(vcpu->ports, run->io.port, width, &value) == EMU_RAISED) {
            memset(data, 0, (size_t)(count - i) * width);
            return EMU_RAISED;
        }
        memcpy(data, &value, width);
    }
    return EMU_OK;
}

/* The kernel splits at pages, so a length may be any of 1 to 8: serve it in widths a device knows. */
static int serve_mmio(emu_kvm_vcpu *vcpu)
{
    struct kvm_run *run = vcpu->run;
    uint64_t at = run->mmio.phys_addr;
    uint32_t len = run->mmio.len, done = 0;
    while (done < len) {
        uint32_t left = len - done, width = left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
        uint64_t value = 0;
        int status;
        if (run->mmio.is_write) {
            memcpy(&value, run->mmio.data + done, width);
            status = emu_space_write(vcpu->memory, at + done, width, value);
        } else {
            status = emu_space_read(vcpu->memory, at + done, width, &value);
            memcpy(run->mmio.data + done, &value, width);
        }
        if (status == EMU_RAISED)
            return status;
        done += width;
    }
    return EMU_OK;
}

/* ---- why it stopped --------------------------------------------------------- */

static int say(emu_exit *out, int kind, const char *text)
{
    out->kind = kind;
    snprintf(out->text, sizeof out->text, "%s", text);
    return kind;
}

static int explain_internal(const struct kvm_run *run, emu_exit *out)
{
    static const char *const causes[] = {
        [2] = "two exceptions at once that KVM cannot deliver; the guest's descriptor tables are damaged",
        [3] = "an exit while delivering an event; the guest's IDT or stack is not ordinary memory",
        [4] = "an exit that this KVM does not know; update the host's kernel or use --accel tcg",
    };
    uint32_t suberror = run->internal.suberror;
    out->kind = EMU_EXIT_FAULT;
    out->code = suberror;
    if (suberror == KVM_INTERNAL_ERROR_EMULATION) {
        if (run->emulation_failure.ndata >= 3 &&
            (run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES)) {
            uint32_t size = run->emulation_failure.insn_size;
            out->nbytes = size > 15 ? 15 : size;
            memcpy(out->bytes, run->emulation_failure.insn_bytes, out->nbytes);
        }
        int n = snprintf(out->text, sizeof out->text, "KVM cannot emulate the instruction ");
        for (uint32_t i = 0; i < out->nbytes; i++)
            n += snprintf(out->text + n, sizeof out->text - (size_t)n, "%02x", out->bytes[i]);
        snprintf(out->text + n, sizeof out->text - (size_t)n, "%s; use crossing=on or --accel tcg",
                 out->nbytes != 0 ? "..." : "at this address, where there may be no memory");
    } else if (suberror < sizeof causes / sizeof causes[0] && causes[suberror] != NULL) {
        snprintf(out->text, sizeof out->text, "KVM: %s", causes[suberror]);
    } else {
        snprintf(out->text, sizeof out->text, "KVM internal error %u; see the host's kernel log, or use --accel tcg",
                 suberror);
    }
    return EMU_EXIT_FAULT;
}

static int explain_system(const struct kvm_run *run, emu_exit *out)
{
    out->code = run->system_event.type;
    switch (run->system_event.type) {
    case KVM_SYSTEM_EVENT_SHUTDOWN:
        return say(out, EMU_EXIT_SHUTDOWN, "");
    case KVM_SYSTEM_EVENT_RESET:
        return say(out, EMU_EXIT_RESET, "the guest asked for a reset");
    case KVM_SYSTEM_EVENT_CRASH:
        return say(out, EMU_EXIT_FAULT, "the guest reported that it crashed; see its console");
    default:
        snprintf(out->text, sizeof out->text, "KVM system event %u, which nobody handles", run->system_event.type);
        return out->kind = EMU_EXIT_FAULT;
    }
}

int emu_kvm_explain(const void *run_, emu_exit *out)
{
    const struct kvm_run *run = run_;
    memset(out, 0, sizeof *out);
    switch (run->exit_reason) {
    case KVM_EXIT_HLT:
        return out->kind = EMU_EXIT_HALT;
    case KVM_EXIT_SHUTDOWN:
        return say(out, EMU_EXIT_SHUTDOWN, "triple fault");
    case KVM_EXIT_SYSTEM_EVENT:
        return explain_system(run, out);
    case KVM_EXIT_DEBUG:
        out->pc = run->debug.arch.pc;
        out->code = run->debug.arch.exception;
        out->address = run->debug.arch.dr6;
        return out->kind = EMU_EXIT_DEBUG;
    case KVM_EXIT_IRQ_WINDOW_OPEN:
    case KVM_EXIT_SET_TPR:
        return 0;
    case KVM_EXIT_INTR:
        out->code = EMU_KVM_SIGNAL;
        return out->kind = EMU_EXIT_KICKED;
    case KVM_EXIT_INTERNAL_ERROR:
        return explain_internal(run, out);
    case KVM_EXIT_FAIL_ENTRY:
        out->code = (uint32_t)run->fail_entry.hardware_entry_failure_reason;
        snprintf(out->text, sizeof out->text,
                 "the host CPU refuses the guest's state (reason %#llx); check control registers and segments",
                 (unsigned long long)run->fail_entry.hardware_entry_failure_reason);
        return out->kind = EMU_EXIT_FAULT;
    case KVM_EXIT_UNKNOWN:
        out->code = (uint32_t)run->hw.hardware_exit_reason;
        snprintf(out->text, sizeof out->text, "KVM met the unknown hardware exit %#llx; update the host's kernel",
                 (unsigned long long)run->hw.hardware_exit_reason);
        return out->kind = EMU_EXIT_FAULT;
    case KVM_EXIT_EXCEPTION:
        out->code = run->ex.exception;
        snprintf(out->text, sizeof out->text, "KVM could not handle exception %u (error code %#x) of the guest",
                 run->ex.exception, run->ex.error_code);
        return out->kind = EMU_EXIT_FAULT;
    default:
        out->code = run->exit_reason;
        snprintf(out->text, sizeof out->text, "KVM exit %u, which nobody handles; use --accel tcg", run->exit_reason);
        return out->kind = EMU_EXIT_FAULT;
    }
}

/* Instruction bytes at rip through the guest's own page tables, where the kernel did not give them. */
static void fetch(emu_kvm_vcpu *vcpu, emu_exit *out)
{
    struct kvm_sregs sregs;
    if (out->nbytes != 0 || emu_kvm_ioctl(vcpu->fd, KVM_GET_SREGS, &sregs) < 0)
        return;
    uint64_t linear = (sregs.cs.l ? 0 : sregs.cs.base) + out->pc;
    while (out->nbytes < 15) {
        struct kvm_translation place = {.linear_address = linear + out->nbytes};
        if (emu_kvm_ioctl(vcpu->fd, KVM_TRANSLATE, &place) < 0 || !place.valid)
            return;
        size_t n = 4096 - (size_t)(place.linear_address & 4095);
        if (n > 15 - out->nbytes)
            n = 15 - out->nbytes;
        size_t got = emu_space_peek(vcpu->memory, place.physical_address, out->bytes + out->nbytes, n);
        out->nbytes += (uint32_t)got;
        if (got < n)
            return;
    }
}

static int stop(emu_kvm_vcpu *vcpu, emu_exit *out, int kind)
{
    flush_events(vcpu);
    vcpu->more_valid = 0; /* others ask the kernel, and tell it */
    out->kind = kind;
    emu_cross *inside = kind == EMU_EXIT_FAULT ? NULL : insider(vcpu);
    if (inside != NULL)
        out->pc = emu_cross_pc(inside);
    else if (load_regs(vcpu) == 0 && kind != EMU_EXIT_DEBUG)
        out->pc = vcpu->regs->rip;
    if (kind == EMU_EXIT_FAULT)
        fetch(vcpu, out);
    return kind;
}

static int run_failed(emu_kvm_vcpu *vcpu, emu_exit *out, int error)
{
    memset(out, 0, sizeof *out);
    if (error == EFAULT && vcpu->run->exit_reason == EXIT_MEMORY_FAULT)
        memcpy(&out->address, (const char *)&vcpu->run->hw + 8, sizeof out->address);
    out->code = (uint32_t)error;
    if (error == EFAULT)
        say(out, EMU_EXIT_FAULT, "the host cannot provide the guest's memory (EFAULT); is the host out of memory?");
    else if (error == EINVAL)
        say(out, EMU_EXIT_FAULT, "KVM refuses the registers that were set (EINVAL); check control registers and EFER");
    else if (error == EIO)
        say(out, EMU_EXIT_FAULT, "the VM belongs to another process (EIO); after fork() create the machine anew");
    else
        snprintf(out->text, sizeof out->text, "KVM_RUN failed: %s", strerror(error));
    return stop(vcpu, out, EMU_EXIT_FAULT);
}

/* ---- running ---------------------------------------------------------------- */

static void ask(emu_kvm_vcpu *vcpu, unsigned what)
{
    unsigned before = atomic_fetch_or(&vcpu->asks, what);
    __atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    if (atomic_load(&vcpu->asleep)) { /* it looks before it enters the guest: no signal */
        syscall(SYS_futex, &vcpu->asks, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
        return;
    }
    pid_t tid = atomic_load(&vcpu->tid);
    if (tid != 0 && tid != thread_id() && (before & what) == 0)
        syscall(SYS_tgkill, getpid(), tid, emu_kvm_signal());
}

static unsigned take_asks(emu_kvm_vcpu *vcpu)
{
    __atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
    return atomic_exchange(&vcpu->asks, 0);
}

void emu_kvm_vcpu_kick(emu_kvm_vcpu *vcpu)
{
    emu_cross *cross = atomic_load(&vcpu->cross);
    ask(vcpu, ASK_KICK);
    if (cross != NULL)
        emu_cross_kick(cross);
}

void emu_kvm_vcpu_interrupt(emu_kvm_vcpu *vcpu, int line, int level)
{
    switch (line) {
    case EMU_KVM_INTR:
        if (atomic_exchange(&vcpu->intr, level) != level || insider(vcpu) != NULL) {
            emu_cross *inside = insider(vcpu);
            if (inside != NULL)
                emu_cross_interrupt(inside, line, level);
            else if (level != 0)
                ask(vcpu, ASK_ATTENTION);
        }
        break;
    case EMU_KVM_NMI: {
        int before = __atomic_exchange_n(&vcpu->nmi_line, level != 0, __ATOMIC_ACQ_REL);
        emu_cross *inside = insider(vcpu);
        if (level != 0 && !before && inside != NULL) {
            emu_cross_interrupt(inside, line, level);
        } else if (level != 0 && !before) {
            atomic_store(&vcpu->nmi, 1);
            ask(vcpu, ASK_ATTENTION);
        }
        break;
    }
    case EMU_KVM_INIT:
        atomic_store(&vcpu->start, START_INIT);
        ask(vcpu, ASK_ATTENTION);
        if (insider(vcpu) != NULL)
            emu_cross_kick(insider(vcpu));
        break;
    case EMU_KVM_START: { /* a second one before the first is taken counts for nothing */
        unsigned start = atomic_load(&vcpu->start);
        while (!(start & 0x1ff) &&
               !atomic_compare_exchange_weak(&vcpu->start, &start, start | (unsigned)((level & 0xff) + 1)))
            continue;
        ask(vcpu, ASK_ATTENTION);
        break;
    }
    case EMU_KVM_PRIORITY: atomic_store(&vcpu->cr8, (unsigned)level >> 4 & 15); break;
    }
}

void emu_kvm_vcpu_input(void *vcpu, uint32_t line, int level) { emu_kvm_vcpu_interrupt(vcpu, (int)line, level); }

/* Hands a waiting NMI or interrupt to the CPU. */
static void deliver(emu_kvm_vcpu *vcpu)
{
    if (atomic_load(&vcpu->nmi) && atomic_exchange(&vcpu->nmi, 0)) {
        emu_kvm_control(vcpu->fd, KVM_NMI, 0);
        vcpu->halted = 0;
    }
    if (vcpu->irqchip == EMU_KVM_CHIP_ALL)
        return;
    int level = atomic_load(&vcpu->intr);
    if (level == 0) {
        vcpu->run->request_interrupt_window = 0;
        return;
    }
    if (!vcpu->run->ready_for_interrupt_injection) {
        vcpu->run->request_interrupt_window = 1;
        return;
    }
    /* Withdrawn or replaced in between: the next turn sees that. */
    if (!atomic_compare_exchange_strong(&vcpu->intr, &level, 0))
        return;
    struct kvm_interrupt interrupt = {.irq = (uint32_t)(level - 1) & 0xff};
    vcpu->run->request_interrupt_window = 0;
    vcpu->run->ready_for_interrupt_injection = 0;
    if (emu_kvm_ioctl(vcpu->fd, KVM_INTERRUPT, &interrupt) < 0)
        return;
    vcpu->halted = 0;
    tell(vcpu, EMU_KVM_TAKES, level - 1);
}

/* ---- starting as a processor of several -------------------------------------- */

static void set_segment(struct kvm_segment *segment, uint16_t selector, uint64_t base, uint8_t type, uint8_t s)
{
    *segment = (struct kvm_segment){
        .base = base, .limit = 0xffff, .selector = selector, .type = type, .present = 1, .s = s};
}

/* Intel SDM vol. 3, table 10-1 (state after INIT); the local APIC is the controller's affair. */
static int init(emu_kvm_vcpu *vcpu)
{
    struct kvm_sregs sregs;
    int status = emu_kvm_vcpu_settle(vcpu);
    if (status == 0)
        status = emu_kvm_ioctl(vcpu->fd, KVM_GET_SREGS, &sregs);
    if (status != 0)
        return status;
    struct kvm_segment *data[] = {&sregs.ds, &sregs.es, &sregs.fs, &sregs.gs, &sregs.ss};
    for (size_t i = 0; i < sizeof data / sizeof *data; i++)
        set_segment(data[i], 0, 0, 3, 1);
    set_segment(&sregs.cs, 0xf000, 0xffff0000, 11, 1);
    set_segment(&sregs.tr, 0, 0, 11, 0);
    set_segment(&sregs.ldt, 0, 0, 2, 0);
    sregs.gdt = sregs.idt = (struct kvm_dtable){.limit = 0xffff};
    sregs.cr0 = (sregs.cr0 & 0x60000000) | 0x10;
    sregs.cr2 = sregs.cr3 = sregs.cr4 = sregs.cr8 = sregs.efer = 0;
    memset(sregs.interrupt_bitmap, 0, sizeof sregs.interrupt_bitmap);
    struct kvm_debugregs debug = {.dr6 = 0xffff0ff0, .dr7 = 0x400};
    struct kvm_vcpu_events events = {.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW};
    emu_kvm_regs regs = {.rip = 0xfff0, .rflags = 2, .rdx = 0x600}; /* family 6; CPUID says more */
    if ((status = emu_kvm_vcpu_set_sregs(vcpu, (const void *)&sregs)) < 0 ||
        (status = emu_kvm_ioctl(vcpu->fd, KVM_SET_DEBUGREGS, &debug)) < 0 ||
        (status = emu_kvm_ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, &events)) < 0)
        return status;
    vcpu->halted = 0;
    vcpu->parked = vcpu->index != 0;
    return emu_kvm_vcpu_set_regs(vcpu, &regs);
}

/* Intel SDM vol. 3, "MP Initialization Protocol Algorithm for MP Systems". */
static int start_up(emu_kvm_vcpu *vcpu, uint32_t vector)
{
    struct kvm_sregs sregs;
    int status = emu_kvm_ioctl(vcpu->fd, KVM_GET_SREGS, &sregs);
    if (status == 0)
        status = load_regs(vcpu);
    if (status < 0)
        return status;
    set_segment(&sregs.cs, (uint16_t)(vector << 8), vector << 12, 11, 1);
    emu_kvm_regs regs;
    memcpy(&regs, vcpu->regs, sizeof regs);
    regs.rip = 0;
    vcpu->parked = 0;
    status = emu_kvm_vcpu_set_sregs(vcpu, (const void *)&sregs);
    return status < 0 ? status : emu_kvm_vcpu_set_regs(vcpu, &regs);
}

static int take_start(emu_kvm_vcpu *vcpu)
{
    unsigned start = atomic_exchange(&vcpu->start, 0);
    int status = (start & START_INIT) ? init(vcpu) : 0;
    if (status == 0 && vcpu->parked && (start & 0x1ff))
        status = start_up(vcpu, (start & 0x1ff) - 1);
    return status;
}

/* What the guest did to its local APIC without an exit. */
static void look_at_apic(emu_kvm_vcpu *vcpu, unsigned cr8)
{
    const struct kvm_run *run = vcpu->run;
    if (run->cr8 != cr8) {
        atomic_store(&vcpu->cr8, (unsigned)run->cr8);
        tell(vcpu, EMU_KVM_CR8, (int)run->cr8);
    }
    int on = (run->apic_base & APIC_ON) != 0;
    if (on != vcpu->apic_on) {
        vcpu->apic_on = on;
        tell(vcpu, EMU_KVM_ENABLES, on);
    }
}

/* One KVM_RUN.  0 or the errno. */
static int enter(emu_kvm_vcpu *vcpu)
{
    struct kvm_run *run = vcpu->run;
    if (vcpu->regs_dirty) {
        if (vcpu->sync) {
            run->kvm_dirty_regs = KVM_SYNC_X86_REGS;
        } else {
            int status = emu_kvm_ioctl(vcpu->fd, KVM_SET_REGS, vcpu->regs);
            if (status < 0)
                return -status;
        }
        vcpu->regs_dirty = 0;
    }
    vcpu->pending = 0;
    if (vcpu->events_dirty)
        run->kvm_dirty_regs |= KVM_SYNC_X86_EVENTS;
    vcpu->events_dirty = 0;
    int local = vcpu->irqchip == EMU_KVM_CHIP_NONE; /* CR8 and the APIC base are not the kernel's alone */
    unsigned cr8 = atomic_load(&vcpu->cr8);
    if (local)
        run->cr8 = cr8;
    run->kvm_valid_regs = vcpu->turns < SYNCED_TURNS ? vcpu->sync : 0;
    if (vcpu->refused != 0 && vcpu->more_sync) {
        run->kvm_valid_regs = vcpu->sync | SYNC_MORE;
        vcpu->refused--;
    }
    uint64_t since = __builtin_expect(emu_machines_trace != NULL, 0) ? emu_trace_now() : 0;
    int result = ioctl(vcpu->fd, KVM_RUN, 0);
    int error = result < 0 ? errno : 0;
    if (since != 0)
        emu_trace_exit(vcpu->index, error != 0 ? KVM_EXIT_INTR : run->exit_reason, since);
    vcpu->regs_valid = (run->kvm_valid_regs & KVM_SYNC_X86_REGS) != 0;
    vcpu->more_valid = (run->kvm_valid_regs & SYNC_MORE) != 0;
    vcpu->turns++;
    vcpu->counts.exits++;
    if (local)
        look_at_apic(vcpu, cr8);
    return error;
}

static int serve(emu_kvm_vcpu *vcpu)
{
    int status = EMU_OK;
    if (vcpu->run->exit_reason == KVM_EXIT_IO) {
        vcpu->counts.io++;
        vcpu->pending = 1;
        status = serve_io(vcpu);
    } else if (vcpu->run->exit_reason == KVM_EXIT_MMIO) {
        vcpu->counts.mmio++;
        vcpu->pending = 1;
        status = serve_mmio(vcpu);
    }
    return status;
}

int emu_kvm_vcpu_settle(emu_kvm_vcpu *vcpu)
{
    int back = emu_kvm_vcpu_come_back(vcpu);
    if (back < 0)
        return back;
    while (vcpu->pending) {
        __atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
        int error = enter(vcpu);
        __atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
        if (atomic_load(&vcpu->asks) != 0)
            __atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
        if (error == EINTR)
            return EMU_OK;
        if (error != 0)
            return -error;
        /* A wide access comes in several parts. */
        if (serve(vcpu) == EMU_RAISED)
            return EMU_RAISED;
    }
    return EMU_OK;
}

/* Whether a CPU that waits goes on. */
static int wakes(emu_kvm_vcpu *vcpu)
{
    if (vcpu->parked)
        return 0;
    if (atomic_load(&vcpu->nmi))
        return 1;
    if (atomic_load(&vcpu->intr) == 0 || load_regs(vcpu) < 0 || !(vcpu->regs->rflags & RFLAGS_IF))
        return 0;
    vcpu->run->ready_for_interrupt_injection = 1;
    return 1;
}

/* Where KVM refuses INT3 it is told as where the CPU stops at it; what KVM has queued for the refusal is none. */
static int met_int3(emu_kvm_vcpu *vcpu, emu_exit *out)
{
    emu_kvm_sregs sregs;
    emu_kvm_events events;
    int status = load_regs(vcpu);
    if (status == 0)
        status = emu_kvm_vcpu_sregs(vcpu, &sregs);
    if (status == 0)
        status = emu_kvm_vcpu_events(vcpu, &events);
    if (status == 0) {
        events.exception_injected = events.exception_pending = 0;
        status = emu_kvm_vcpu_set_events(vcpu, &events);
    }
    if (status < 0)
        return run_failed(vcpu, out, -status);
    out->pc = sregs.cs.base + vcpu->regs->rip;
    out->code = EMU_KVM_BREAKPOINT;
    return out->kind = EMU_EXIT_DEBUG;
}

int emu_kvm_vcpu_pass_int3(emu_kvm_vcpu *vcpu)
{
    if (vcpu->run->exit_reason != KVM_EXIT_DEBUG) {
        vcpu->passes_int3 = 1;
        return 0;
    }
    /* The CPU was stopped while it raised the exception, so that is under way. */
    emu_kvm_events events;
    int status = emu_kvm_vcpu_events(vcpu, &events);
    if (status < 0)
        return status;
    events.exception_injected = 1;
    events.exception_nr = EMU_KVM_BREAKPOINT;
    events.exception_has_error_code = 0;
    return emu_kvm_vcpu_set_events(vcpu, &events);
}

/* Whether this exit is one that a crossing mends; then it does.  0: go on. */
static int cross(emu_kvm_vcpu *vcpu, uint64_t budget, emu_exit *out)
{
    const struct kvm_run *run = vcpu->run;
    emu_cross *cross = atomic_load(&vcpu->cross);
    if (cross == NULL || run->exit_reason != KVM_EXIT_INTERNAL_ERROR ||
        run->internal.suberror != KVM_INTERNAL_ERROR_EMULATION)
        return emu_kvm_explain(run, out);
    emu_exit refused = {0};
    explain_internal(run, &refused);
    if (refused.nbytes == 0) { /* an older kernel */
        if (load_regs(vcpu) == 0)
            refused.pc = vcpu->regs->rip;
        fetch(vcpu, &refused);
    }
    vcpu->refused = REFUSED_TURNS;
    if (vcpu->debugs == EMU_KVM_DEBUGS_INT3S && refused.nbytes != 0 && refused.bytes[0] == INT3 && !vcpu->passes_int3)
        return met_int3(vcpu, out);
    vcpu->passes_int3 = 0;
    int kind = emu_cross_refused(cross, refused.bytes, refused.nbytes, budget == 0 && !vcpu->debugs, out);
    if (kind == 0 && vcpu->debugs == EMU_KVM_DEBUGS_STEP) {
        kind = out->kind = EMU_EXIT_DEBUG;
        if (load_regs(vcpu) == 0)
            out->pc = vcpu->regs->rip;
    }
    return kind;
}

/*
 * A slice has ended: a CPU in kernel mode goes on elsewhere, but not while KVM has an event for it that it has not
 * begun with: an interrupt among them was acknowledged and would be lost.  0, or what the run ends with.
 */
static int move(emu_kvm_vcpu *vcpu, emu_exit *out)
{
    emu_cross *cross = atomic_load(&vcpu->cross);
    emu_kvm_sregs sregs;
    emu_kvm_events events;
    if (cross == NULL || vcpu->halted || vcpu->parked || emu_kvm_vcpu_settle(vcpu) != 0 ||
        emu_kvm_vcpu_sregs(vcpu, &sregs) < 0 || sregs.ss.dpl != 0 || emu_kvm_vcpu_events(vcpu, &events) < 0 ||
        events.interrupt_injected || events.nmi_injected || events.nmi_pending || events.exception_injected ||
        events.exception_pending)
        return 0;
    return emu_cross_move_in(cross, out);
}

/* A signal at the end of each slice. */
static void slice(emu_kvm_vcpu *vcpu, timer_t *timer)
{
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = emu_kvm_signal()};
    const struct itimerspec period = {{0, SLICE_NS}, {0, SLICE_NS}};
    event._sigev_un._tid = thread_id();
    vcpu->moves = vcpu->may_move && !vcpu->debugs && timer_create(CLOCK_MONOTONIC, &event, timer) == 0;
    if (vcpu->moves)
        timer_settime(*timer, 0, &period, NULL);
}

/* Until something is asked of the CPU; -1 where a signal came. */
static int sleep_until_asked(emu_kvm_vcpu *vcpu)
{
    int status = 0;
    atomic_store(&vcpu->asleep, 1);
    while (status == 0 && atomic_load(&vcpu->asks) == 0)
        if (syscall(SYS_futex, &vcpu->asks, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0) < 0 && errno == EINTR)
            status = -1;
    atomic_store(&vcpu->asleep, 0);
    return status;
}

static int run_loop(emu_kvm_vcpu *vcpu, uint64_t budget, emu_exit *out)
{
    struct kvm_run *run = vcpu->run;
    for (;;) {
        if (atomic_load(&vcpu->asks) != 0 && (take_asks(vcpu) & ASK_KICK)) {
            out->code = EMU_KVM_KICK;
            return EMU_EXIT_KICKED;
        }
        if (atomic_load(&vcpu->start) != 0) {
            int status = take_start(vcpu);
            if (status == EMU_RAISED)
                return EMU_EXIT_RAISED;
            if (status < 0)
                return run_failed(vcpu, out, -status);
        }
        if ((vcpu->halted || vcpu->parked) && !wakes(vcpu)) {
            int told = vcpu->deaf;
            vcpu->deaf = vcpu->halted && load_regs(vcpu) == 0 && !(vcpu->regs->rflags & RFLAGS_IF);
            if (!vcpu->sleeps || (vcpu->deaf && !told)) {
                if (vcpu->deaf)
                    say(out, EMU_EXIT_HALT, EMU_HALTED_FOR_EVER);
                return EMU_EXIT_HALT;
            }
            if (sleep_until_asked(vcpu) == 0 || vcpu->moves)
                continue;
            out->code = EMU_KVM_SIGNAL;
            return EMU_EXIT_KICKED;
        }
        vcpu->deaf = 0;
        emu_cross *inside = insider(vcpu);
        if (inside != NULL && budget == 0 && !vcpu->debugs) { /* which counts exits of KVM's */
            int kind = emu_cross_go(inside, out);
            if (kind != 0)
                return kind;
            continue;
        }
        int back = emu_kvm_vcpu_come_back(vcpu);
        if (back < 0)
            return run_failed(vcpu, out, -back);
        deliver(vcpu);
        int error = enter(vcpu);
        if (error == EAGAIN)
            continue;
        if (error == EINTR && vcpu->moves && atomic_load(&vcpu->asks) == 0) {
            error = move(vcpu, out);
            if (error != 0)
                return error;
            continue;
        }
        if (error == EINTR) {
            vcpu->counts.signals++;
            unsigned asked = take_asks(vcpu);
            out->code = asked & ASK_KICK ? EMU_KVM_KICK : asked ? EMU_KVM_ATTENTION : EMU_KVM_SIGNAL;
            return EMU_EXIT_KICKED;
        }
        if (error != 0)
            return run_failed(vcpu, out, error);
        if (run->exit_reason == KVM_EXIT_IO || run->exit_reason == KVM_EXIT_MMIO) {
            if (serve(vcpu) == EMU_RAISED)
                return EMU_EXIT_RAISED;
        } else if (run->exit_reason == KVM_EXIT_IOAPIC_EOI) {
            tell(vcpu, EMU_KVM_ENDS, run->eoi.vector);
        } else {
            int kind = cross(vcpu, budget, out);
            if (kind == EMU_EXIT_HALT)
                vcpu->halted = 1;
            else if (kind != 0)
                return kind;
        }
        if (budget != 0 && --budget == 0) {
            int status = emu_kvm_vcpu_settle(vcpu);
            if (status < 0)
                return run_failed(vcpu, out, -status);
            return status == EMU_RAISED ? EMU_EXIT_RAISED : EMU_EXIT_BUDGET;
        }
    }
}

int emu_kvm_vcpu_run(emu_kvm_vcpu *vcpu, uint64_t budget, emu_exit *out)
{
    static _Thread_local int unblocked;
    if (!unblocked) {
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, emu_kvm_signal());
        pthread_sigmask(SIG_UNBLOCK, &set, NULL);
        unblocked = 1;
    }
    memset(out, 0, sizeof *out);
    vcpu->turns = 0;
    emu_cpu_enter(vcpu->index);
    atomic_store(&vcpu->tid, thread_id());
    timer_t timer;
    slice(vcpu, &timer);
    int kind = run_loop(vcpu, budget, out);
    if (vcpu->moves)
        timer_delete(timer);
    atomic_store(&vcpu->tid, 0);
    emu_cpu_enter(0);
    return stop(vcpu, out, kind);
}

#else

void emu_kvm_gsi(void *opaque, uint32_t number, int level) {}
int emu_kvm_msi(const emu_kvm_chip *chip, uint64_t address, uint32_t data) { return -ENOSYS; }
void emu_kvm_send(void *opaque, uint64_t address, uint32_t data) {}
void emu_kvm_route(void *opaque, uint32_t input, uint64_t address, uint32_t data) {}
int emu_kvm_vcpu_open(int vm, uint32_t index, uint64_t run_size, uint32_t sync, int irqchip,
                      emu_space *memory, emu_space *ports, emu_kvm_vcpu **out)
{
    return -ENOSYS;
}
void emu_kvm_vcpu_close(emu_kvm_vcpu *vcpu) {}
int emu_kvm_vcpu_fd(const emu_kvm_vcpu *vcpu) { return -ENOSYS; }
int emu_kvm_vcpu_run(emu_kvm_vcpu *vcpu, uint64_t budget, emu_exit *out)
{
    memset(out, 0, sizeof *out);
    return out->kind = EMU_EXIT_FAULT;
}
void emu_kvm_vcpu_kick(emu_kvm_vcpu *vcpu) {}
int emu_kvm_vcpu_cross(emu_kvm_vcpu *vcpu, int vm, uint32_t slot) { return -ENOSYS; }
int emu_kvm_vcpu_come_back(emu_kvm_vcpu *vcpu) { return 0; }
void emu_kvm_vcpu_debugs(emu_kvm_vcpu *vcpu, int how) {}
int emu_kvm_vcpu_pass_int3(emu_kvm_vcpu *vcpu) { return -ENOSYS; }
int emu_kvm_vcpu_cross_cpuid(emu_kvm_vcpu *vcpu, const void *table, size_t size) { return -ENOSYS; }
void emu_kvm_vcpu_stays(emu_kvm_vcpu *vcpu, int stays) {}
int emu_kvm_vcpu_intr(const emu_kvm_vcpu *vcpu) { return 0; }
void emu_kvm_vcpu_took(emu_kvm_vcpu *vcpu, int vector) {}
void emu_kvm_vcpu_remap(emu_kvm_vcpu *vcpu) {}
void emu_kvm_vcpu_crossings(const emu_kvm_vcpu *vcpu, emu_cross_counts *out) { memset(out, 0, sizeof *out); }
void emu_kvm_vcpu_interrupt(emu_kvm_vcpu *vcpu, int line, int level) {}
void emu_kvm_vcpu_input(void *vcpu, uint32_t line, int level) {}
void emu_kvm_vcpu_tell(emu_kvm_vcpu *vcpu, int what, emu_irq_fn fn, void *opaque) {}
void emu_kvm_vcpu_sleep(emu_kvm_vcpu *vcpu, int sleeps) {}
int emu_kvm_vcpu_parked(const emu_kvm_vcpu *vcpu) { return 0; }
void emu_kvm_vcpu_set_parked(emu_kvm_vcpu *vcpu, int parked) {}
int emu_kvm_vcpu_settle(emu_kvm_vcpu *vcpu) { return -ENOSYS; }
int emu_kvm_vcpu_regs(emu_kvm_vcpu *vcpu, emu_kvm_regs *out) { return -ENOSYS; }
int emu_kvm_vcpu_set_regs(emu_kvm_vcpu *vcpu, const emu_kvm_regs *regs) { return -ENOSYS; }
int emu_kvm_vcpu_sregs(emu_kvm_vcpu *vcpu, emu_kvm_sregs *out) { return -ENOSYS; }
int emu_kvm_vcpu_set_sregs(emu_kvm_vcpu *vcpu, const emu_kvm_sregs *sregs) { return -ENOSYS; }
int emu_kvm_vcpu_events(emu_kvm_vcpu *vcpu, emu_kvm_events *out) { return -ENOSYS; }
int emu_kvm_vcpu_set_events(emu_kvm_vcpu *vcpu, const emu_kvm_events *events) { return -ENOSYS; }
int emu_kvm_vcpu_flush(emu_kvm_vcpu *vcpu) { return -ENOSYS; }
int emu_kvm_vcpu_halted(const emu_kvm_vcpu *vcpu) { return 0; }
void emu_kvm_vcpu_set_halted(emu_kvm_vcpu *vcpu, int halted) {}
void emu_kvm_vcpu_counts(const emu_kvm_vcpu *vcpu, emu_kvm_counts *out) { memset(out, 0, sizeof *out); }
int emu_kvm_explain(const void *run, emu_exit *out)
{
    memset(out, 0, sizeof *out);
    return out->kind = EMU_EXIT_FAULT;
}

#endif
