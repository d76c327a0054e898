/* The loop that a guest thread lives in. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "kin.h"
#include "path.h"
#include "syscall.h"
#include "watch.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

void emu_syscall_again(emu_thread *thread, const emu_stop *stop)
{
    const emu_abi *abi = thread->process->abi;
    emu_cpu_state state;
    thread->ops->save(thread->engine, &state);
    uint64_t size = abi->isa == EMU_ISA_ARM && (state.flags & 0x20) ? 2 : abi->call;
    state.pc = stop->pc - size;
    thread->ops->load(thread->engine, &state);
}

/*
 * SIGSEGV and SIGBUS of the host.  Expected: in the runtime's copies from guest
 * memory.  Possible: guest code that touches a shared mapping behind its file's
 * end, which only the host knows; the page becomes memory so that the
 * instruction completes, and the guest gets its SIGBUS behind the block.
 */
static void on_host_fault(int sig, siginfo_t *info, void *context)
{
    int error = errno;
    if (umem_fixup(sig, info, context))
        return;
    emu_thread *thread = emu_current;
    if (thread != NULL && thread->engine != NULL && thread->ops->host_fault != NULL && info->si_code > 0 &&
        thread->ops->host_fault(thread->engine, sig, info, context)) {
        errno = error;
        return;
    }
    if (sig == SIGBUS && info->si_code == SI_TIMER && emu_trace_ticked(thread, info, context)) {
        errno = error;
        return;
    }
    if (emu_thread_nudged(thread, sig, info, context)) {
        errno = error;
        return;
    }
    if (info->si_code <= 0) {
        emu_signal_host(sig, info, context);
        errno = error;
        return;
    }
    if (thread != NULL && sig == SIGBUS) {
        const emu_umem *umem = &thread->process->umem;
        uint64_t addr = (uint64_t)(uintptr_t)info->si_addr - (uint64_t)(uintptr_t)umem->base;
        if (addr < umem->size &&
            mmap(umem->base + (addr & ~(EMU_PAGE - 1)), EMU_PAGE, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED) {
            emu_signal_fault(thread, SIGBUS, BUS_ADRERR, addr);
            thread->ops->kick(thread->engine);
            errno = error;
            return;
        }
    }
    /* A fault of our own, which the guest's death by the same signal must not hide. */
    static const char line[] = "emu: internal error: a fault in the emulator itself; please report it, with the program and "
                               "what emu doctor says\n";
    (void)!write(STDERR_FILENO, line, sizeof line - 1);
    signal(sig, SIG_DFL);
}

enum { VECTOR_DB = 1, VECTOR_MF = 16, VECTOR_XM = 19 };

/* x86: which exception of those that are not masked the x87 or SSE has. */
static int fpe_code(emu_thread *thread, const emu_stop *stop)
{
    if (stop->nr != VECTOR_MF && stop->nr != VECTOR_XM)
        return FPE_INTDIV;
    emu_cpu_state state;
    thread->ops->save(thread->engine, &state);
    unsigned x87 = state.x87[2] & ~(unsigned)state.x87[0], sse = (unsigned)state.fpcr & ~((unsigned)state.fpcr >> 7);
    unsigned seen = stop->nr == VECTOR_MF ? x87 : sse;
    if (seen & 1)
        return FPE_FLTINV;
    if (seen & 4)
        return FPE_FLTDIV;
    if (seen & 8)
        return FPE_FLTOVF;
    return seen & 0x12 ? FPE_FLTUND : FPE_FLTRES;
}

/* A stack that is not there yet: the instruction is executed again. */
static bool grows(emu_thread *thread, uint64_t addr)
{
    emu_umem *umem = &thread->process->umem;
    umem_lock(umem);
    bool grown = addr < umem->size && umem_grow(umem, addr, emu_stack_size(thread->process->abi));
    umem_unlock(umem);
    return grown;
}

/* Whether the host refuses an access that is allowed: a file's mapping can end before its area does.  Memory is held. */
static bool host_refuses(const emu_umem *umem, uint64_t addr, uint32_t access)
{
    uint8_t *page = umem->base + (addr & ~(EMU_PAGE - 1)), byte;
    if (madvise(page, EMU_PAGE, access & EMU_RIGHT_W ? MADV_POPULATE_WRITE : MADV_POPULATE_READ) == 0)
        return false;
    if (errno != EINVAL)
        return errno == EFAULT;
    struct iovec to = {&byte, 1}, from = {page, 1}; /* Linux before 5.14 */
    return process_vm_readv(getpid(), &to, 1, &from, 1, 0) != 1 && errno == EFAULT;
}

static void fault(emu_thread *thread, const emu_stop *stop)
{
    emu_umem *umem = &thread->process->umem;
    bool x86 = thread->process->abi->isa == EMU_ISA_X86_64;
    switch (stop->kind) {
    case EMU_STOP_FAULT: {
        if (stop->access == 0) { /* a protection fault without an address */
            emu_signal_fault(thread, SIGSEGV, SI_KERNEL, 0);
            break;
        }
        if (grows(thread, stop->addr))
            break;
        umem_hold(umem);
        bool mapped = stop->addr < umem->size && umem_find(umem, stop->addr) != NULL;
        bool allowed = mapped && (umem_rights(umem, stop->addr) & stop->access) == stop->access;
        bool refused = allowed && host_refuses(umem, stop->addr, stop->access);
        umem_release(umem);
        if (refused)
            emu_signal_fault(thread, SIGBUS, BUS_ADRERR, stop->addr);
        else if (!allowed) /* else another thread has allowed it since, and it is made again */
            emu_signal_fault(thread, SIGSEGV, mapped ? SEGV_ACCERR : SEGV_MAPERR, stop->addr);
        break;
    }
    case EMU_STOP_ILLEGAL:
        emu_signal_fault(thread, SIGILL, x86 ? ILL_ILLOPN : ILL_ILLOPC, stop->pc);
        break;
    case EMU_STOP_BREAK:
        if (emu_debug_breakpoint(thread, stop))
            break;
        if (x86 && stop->nr == VECTOR_DB) { /* the trap flag */
            emu_signal_fault(thread, SIGTRAP, TRAP_TRACE, stop->pc);
            break;
        }
        if (x86) { /* a trap: it is reported behind the instruction, without an address */
            emu_cpu_state state;
            thread->ops->save(thread->engine, &state);
            state.pc = stop->pc + 1;
            thread->ops->load(thread->engine, &state);
        }
        emu_signal_fault(thread, SIGTRAP, x86 ? SI_KERNEL : TRAP_BRKPT, x86 ? 0 : stop->pc);
        break;
    case EMU_STOP_ARITH:
        emu_signal_fault(thread, SIGFPE, fpe_code(thread, stop), stop->pc);
        break;
    case EMU_STOP_ALIGN:
        emu_signal_fault(thread, SIGBUS, BUS_ADRALN, stop->addr);
        break;
    default:
        fprintf(stderr, "emu: %s at pc %#llx\n", stop->text, (unsigned long long)stop->pc);
        emu_process_killed(thread->process, SIGKILL, false);
        break;
    }
}

void emu_thread_loop(emu_thread *thread)
{
    emu_process *process = thread->process;
    emu_stop *stop = &thread->stop;
    while (!process->ended && !thread->leaving && process->alone != thread) {
        if (process->watch != NULL && emu_debug_stops(thread))
            continue;
        if (process->trace != NULL)
            emu_trace_follow(thread);
        if (thread->sampled)
            emu_trace_sample(thread);
        int kind = thread->stepping    ? emu_debug_step(thread, stop)
                   : thread->tells_steps ? emu_trace_step(thread, stop)
                                         : thread->ops->run(thread->engine, stop);
        if (kind == 0) {
            /* a step, and nothing else */
        } else if (kind == EMU_STOP_SYSCALL) {
            int64_t result = emu_syscall(thread, stop);
            if (result <= EMU_RESTARTSYS && result >= EMU_RESTART_BLOCK) {
                emu_signal_deliver(thread, stop, result);
                continue;
            }
            if (result != EMU_KEEP_REGISTERS)
                thread->ops->result(thread->engine, (uint64_t)result);
        } else if (kind != EMU_STOP_KICK) {
            fault(thread, stop);
            if (thread->stopped == EMU_STOPPED_STEP && !thread->pending) { /* it is made again */
                thread->stopped = 0;
                thread->stepping = true;
            }
        } else {
            emu_turn_yield(thread);
        }
        if (thread->pending && !process->ended)
            emu_signal_deliver(thread, NULL, 0);
    }
    if (process->trace != NULL)
        emu_trace_ended(thread, process->ended ? process->status : (int)(stop->args[0] & 0xff) << 8);
    if (process->ended)
        emu_watch_end(thread, process->status);
    else if (thread->leaving)
        emu_watch_end(thread, process->alone == NULL ? (int)(stop->args[0] & 0xff) << 8 : 0);
}

int emu_process_run(emu_process *process)
{
    emu_thread *thread = process->main;
    thread->tid = (pid_t)syscall(SYS_gettid);
    struct sigaction action, segv, bus;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_host_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER | SA_RESTART;
    sigemptyset(&action.sa_mask);
    if (sigaction(SIGSEGV, &action, &segv) != 0 || sigaction(SIGBUS, &action, &bus) != 0 ||
        emu_signal_start(process) != 0)
        return 127 << 8;
    if (emu_root_enter(process) != 0)
        return 127 << 8;
    emu_process_show(process);
    emu_kin_start(process);
    emu_current = thread;
    process->threads = thread;
    emu_thread_run(thread);
    emu_current = NULL;
    if (process->forked)
        emu_process_die(process->status);
    emu_kin_leave();
    sigaction(SIGSEGV, &segv, NULL);
    sigaction(SIGBUS, &bus, NULL);
    return process->status;
}

void emu_process_become(emu_process *process)
{
    emu_process_die(emu_process_run(process));
}
