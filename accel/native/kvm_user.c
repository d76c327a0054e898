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

#include "kvm_user_vm.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

/* ---- running ---------------------------------------------------------------------------- */

/* Where RIP says that the vCPU is. */
static enum position position(emu_engine *engine)
{
    uint64_t rip = registers(engine)->rip;
    if (rip < KERNEL_BASE)
        return AT_USER;
    uint64_t offset = rip - KERNEL_PAGE(POOL_STUBS);
    if (offset < SYSCALL_STUB)
        return offset % STUB_SIZE < kvm_user_behind_hlt((unsigned)(offset / STUB_SIZE)) ? AT_ENTRY : AT_EXCEPTION;
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
            kvm_user_end_careful(vm);
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
    int done = kvm_user_fill(engine, frame->cr2, want);
    if (done > 0 && vm->careful != 0 && --vm->careful == 0)
        kvm_user_end_careful(vm);
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
    if (kvm_user_host.stays_user == 1 && frame->rip == KERNEL_PAGE(POOL_NOWHERE) &&
        (vector == VECTOR_DB || (vector == VECTOR_PF && frame->cr2 == frame->rip))) {
        emu_cpu_state state;
        kvm_user_save(engine, &state);
        state.pc = state.r[1];
        state.flags = state.r[11];
        kvm_user_load(engine, &state);
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
    if (kvm_user_host.stays_user == 1 && rip == KERNEL_PAGE(POOL_NOWHERE))
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
    kvm_user_begin_careful(engine);
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
    if (kvm_user_pause_vm(vm, engine)) {
        err = kvm_user_forget(vm);
        kvm_user_resume_vm(vm);
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
        kvm_user_enter(engine);
        err = ioctl(engine->vcpu, KVM_RUN, 0) < 0 ? errno : 0;
        kvm_user_leave(engine);
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

static void set_trap_flag(emu_engine *engine, bool on)
{
    if (engine->at == AT_EXCEPTION) {
        struct frame *frame = frame_of(engine);
        frame->rflags = (frame->rflags & ~FLAG_TF) | (on ? FLAG_TF : 0);
    } else {
        struct kvm_regs *regs = registers(engine);
        regs->rflags = (regs->rflags & ~FLAG_TF) | (on ? FLAG_TF : 0);
        registers_changed(engine);
    }
}

static int user_step(emu_engine *engine, emu_stop *stop)
{
    if (engine->at == AT_SYSCALL) { /* SYSRET would take the flags from a register that the guest sees */
        emu_cpu_state state;
        kvm_user_save(engine, &state);
        kvm_user_load(engine, &state);
    }
    uint64_t flags = engine->at == AT_EXCEPTION ? frame_of(engine)->rflags : registers(engine)->rflags;
    if (flags & FLAG_TF) /* the guest steps itself, and is to hear of it */
        return user_run(engine, stop);
    set_trap_flag(engine, true);
    int kind = user_run(engine, stop);
    set_trap_flag(engine, false);
    if (kind == EMU_STOP_SYSCALL) {
        registers(engine)->r11 &= ~FLAG_TF;
        registers_changed(engine);
    }
    return kind == EMU_STOP_BREAK && stop->nr == VECTOR_DB ? 0 : kind;
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
    vm->lost_code = kvm_user_clear_range(vm, addr, size);
    vm->filled = false;
    pthread_mutex_unlock(&vm->lock);
}

static void user_after_change(emu_engine *engine, uint64_t addr, uint64_t size)
{
    struct vm *vm = engine->vm;
    pthread_mutex_lock(&vm->lock);
    if (vm->filled) /* another thread's access in between, by the old rights */
        vm->lost_code |= kvm_user_clear_range(vm, addr, size);
    /* The host's protection knows nothing of execution, so nobody else drops the old translation. */
    uint32_t rights = vm->lost_code && addr < vm->memory.size ? kvm_user_rights_at(vm, addr) : 0;
    if (rights != 0 && (rights & EMU_RIGHT_X) == 0) {
        if (vm->engines->next == NULL) {
            vm->engines->flush = true;
        } else {
            while (!kvm_user_pause_vm(vm, NULL))
                ;
            if (kvm_user_forget(vm) != 0)
                vm->engines->flush = true; /* whose run then fails */
            kvm_user_resume_vm(vm);
        }
    }
    pthread_mutex_unlock(&vm->lock);
}

/* ---- fork ---------------------------------------------------------------------------------------- */

static size_t user_descriptors(emu_engine *engine, int *fds, size_t room)
{
    struct vm *vm = engine->vm;
    const int shared[] = {kvm_user_host.device, vm->fd};
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
    kvm_user_save(engine, &engine->kept);
}

static int user_forked(emu_engine *engine, char *text, size_t size)
{
    struct vm *vm = engine->vm;
    const struct kvm_xsave xsave = engine->xsave;
    const char *what = "";
    /* Another thread of the parent may have held them, and may have been at the tables. */
    pthread_mutex_init(&vm->lock, NULL);
    pthread_cond_init(&vm->changed, NULL);
    pthread_mutex_init(&kvm_user_host.lock, NULL);
    atomic_store(&vm->paused, false);
    bool alone = vm->engines == engine && engine->next == NULL;
    for (emu_engine *each = vm->engines, *next; each != NULL; each = next) {
        next = each->next;
        if (each != engine) {
            kvm_user_close_vcpu(each);
            free(each);
        }
    }
    vm->engines = engine;
    engine->next = NULL;
    int err = kvm_user_open_vm(vm, &what);
    if (err == 0)
        err = kvm_user_open_vcpu(engine, &what);
    vm->vcpus = engine->number + 1;
    if (err == 0 && (!alone || vm->nwindows > MANY_WINDOWS)) {
        vm->nwindows = 0; /* none has a slot */
        err = kvm_user_reset(vm);
        if (vm->careful != 0)
            kvm_user_end_careful(vm);
    }
    for (uint32_t i = 0; i < vm->nwindows && err == 0; i++)
        err = kvm_user_set_window(vm, (uint32_t)(vm->windows[i] >> 32), (uint32_t)vm->windows[i], true);
    if (err != 0) {
        snprintf(text, size, "kvm: %s: %s", what, strerror(-err));
        return err;
    }
    engine->run->immediate_exit = engine->kicked != 0;
    engine->xsave = xsave;
    engine->xsave_known = true;
    kvm_user_load(engine, &engine->kept);
    return 0;
}

static const emu_engine_ops ops = {
    .name = "kvm",
    .parallel = 1,
    .open = kvm_user_open,
    .close = kvm_user_close,
    .run = user_run,
    .step = user_step,
    .result = kvm_user_result,
    .save = kvm_user_save,
    .load = kvm_user_load,
    .before_change = user_before_change,
    .after_change = user_after_change,
    .kick = user_kick,
    .hwcap = kvm_user_hwcap,
    .descriptors = user_descriptors,
    .forking = user_forking,
    .forked = user_forked,
    .xsave = kvm_user_xsave,
    .xrstor = kvm_user_xrstor,
    .another = kvm_user_another,
};

void emu_kvm_user_look(emu_kvm_user_facts *out)
{
    *out = kvm_user_host.facts;
}

#else

static emu_engine *user_open(uint32_t isa, const emu_user_memory *memory, char *text, size_t size)
{
    snprintf(text, size, "kvm runs programs on x86-64 Linux hosts only; use --accel tcg");
    return NULL;
}

static const emu_engine_ops ops = {.name = "kvm", .open = user_open};

void emu_kvm_user_look(emu_kvm_user_facts *out)
{
    *out = (emu_kvm_user_facts){.stays_user = -1};
}

#endif

const emu_engine_ops *emu_kvm_user(void)
{
    return &ops;
}

