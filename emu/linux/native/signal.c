/*
 * Signals: from the host's kernel to the guest's handlers.
 *
 * The host's dispositions and mask mirror the guest's.  What the guest ignores
 * or leaves to the default, the host's kernel ignores or does by itself: it
 * kills, stops and continues us, and our parent sees that.  What the guest
 * blocks is blocked on the host, and waits in the kernel's own queues.  Only
 * what the guest has a handler for arrives here: the host's handler keeps the
 * siginfo, blocks everything further (through the mask that it returns to), and
 * kicks the engine.  So there is one captured signal to a thread at most, and no
 * queue of ours.  It is delivered between instructions by emu_signal_deliver.
 *
 * The exception is SIGSEGV and SIGBUS: their faults serve the runtime, so they
 * are never blocked or ignored on the host.  Where another process sends them
 * they are held here until the guest's mask lets them in.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#include "core.h"
#include "frame.h"
#include "signal_private.h"
#include "syscall.h"

enum { SIGNALS = 64, HANDLER_DFL = 0, HANDLER_IGN = 1 };

#define BIT(sig) (UINT64_C(1) << ((sig)-1))
#define UNBLOCKABLE (BIT(SIGKILL) | BIT(SIGSTOP))
#define RUNTIMES (BIT(SIGSEGV) | BIT(SIGBUS))
#define IGNORED_BY_DEFAULT (BIT(SIGCHLD) | BIT(SIGCONT) | BIT(SIGURG) | BIT(SIGWINCH))
#define STOPPING (BIT(SIGSTOP) | BIT(SIGTSTP) | BIT(SIGTTIN) | BIT(SIGTTOU))
/* Those that leave a core: the kernel's would be of the emulator, so they end a guest here (core.c). */
#define DUMPING                                                                                                 \
    (BIT(SIGQUIT) | BIT(SIGILL) | BIT(SIGTRAP) | BIT(SIGABRT) | BIT(SIGBUS) | BIT(SIGFPE) | BIT(SIGSEGV) |      \
     BIT(SIGXCPU) | BIT(SIGXFSZ) | BIT(SIGSYS))
#define FLAGS_KEPT                                                                                           \
    (SA_NOCLDSTOP | SA_NOCLDWAIT | SA_SIGINFO | SA_ONSTACK | SA_RESTART | SA_NODEFER | SA_RESETHAND | 0x800)

/* The kernel's sigaction; glibc's hides signals 32 and 33 and has a mask of 1024 bits. */
typedef struct host_action {
    uintptr_t handler;
    unsigned long flags;
#if defined(__x86_64__)
    uintptr_t restorer;
#endif
    uint64_t mask;
} host_action;

struct emu_process_signals {
    pthread_mutex_t lock; /* of actions, with the host's that mirror them */
    emu_action actions[SIGNALS + 1];
    host_action found[SIGNALS + 1]; /* the host's, at the start */
    uint64_t found_mask;
    bool saved;
};

struct emu_thread_signals {
    uint64_t mask;          /* what the guest blocks */
    uint64_t suspend_mask;  /* what it blocks during a call like sigsuspend, if `suspended` */
    bool suspended;
    emu_altstack altstack;
    volatile sig_atomic_t captured; /* the signal in `info`; 0: none */
    siginfo_t info;
    volatile sig_atomic_t held[2];  /* SIGSEGV, SIGBUS from other processes */
    siginfo_t held_info[2];
    int fault;              /* a signal that an instruction caused; 0: none */
    siginfo_t fault_info;
    uint32_t fault_access;
};

static const emu_frames *frames_of(const emu_process *process)
{
    switch (process->abi->isa) {
    case EMU_ISA_AARCH64:
        return &frames_aarch64;
    case EMU_ISA_ARM:
        return &frames_arm;
    case EMU_ISA_RISCV64:
        return &frames_riscv64;
    default:
        return &frames_x86_64;
    }
}

uint64_t emu_signal_smallest(emu_thread *thread)
{
    const emu_frames *frames = frames_of(thread->process);
    return frames->smallest != NULL ? frames->smallest(thread) : 0;
}

/* ---- the host's side -------------------------------------------------------------------------- */

#if defined(__x86_64__)
__asm__(".text\n"
        "emu_signal_restorer:\n"
        "    mov $15, %eax\n"
        "    syscall\n");
extern void emu_signal_restorer(void) __attribute__((visibility("hidden")));
#endif

static long host_sigaction(int sig, const host_action *set, host_action *old)
{
    return HOST4(SYS_rt_sigaction, sig, set, old, sizeof(uint64_t));
}

static uint64_t host_mask(uint64_t mask)
{
    uint64_t old = 0;
    HOST4(SYS_rt_sigprocmask, SIG_SETMASK, &mask, &old, sizeof mask);
    return old;
}

uint64_t signal_host_mask(uint64_t guest)
{
    return guest & ~(RUNTIMES | UNBLOCKABLE);
}

static void on_signal(int sig, siginfo_t *info, void *context)
{
    emu_signal_host(sig, info, context);
}

/* Makes the host's disposition the guest's. */
static int mirror(int sig, const emu_action *action)
{
    host_action host;
    if (BIT(sig) & RUNTIMES)
        return 0;
    memset(&host, 0, sizeof host);
    bool seen = action->handler == HANDLER_DFL && !(BIT(sig) & (IGNORED_BY_DEFAULT | STOPPING)) &&
                (BIT(sig) & DUMPING || emu_watch_catches(signal_process));
    if (!seen && (action->handler == HANDLER_DFL || action->handler == HANDLER_IGN)) {
        host.handler = action->handler == HANDLER_IGN ? (uintptr_t)SIG_IGN : (uintptr_t)SIG_DFL;
        host.flags = action->flags & (SA_NOCLDSTOP | SA_NOCLDWAIT);
    } else {
        host.handler = (uintptr_t)on_signal;
        /* SA_RESTART: what the kernel would begin again, emu_host_wait leaves with EMU_RESTARTSYS. */
        host.flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK | (action->flags & (SA_NOCLDSTOP | SA_NOCLDWAIT));
        host.mask = ~RUNTIMES;
    }
#if defined(__x86_64__)
    host.flags |= SIGNAL_RESTORER;
    host.restorer = (uintptr_t)emu_signal_restorer;
#endif
    return (int)host_sigaction(sig, &host, NULL);
}

/* Lets in what the guest's mask lets in, unless a captured signal waits for delivery. */
static void open_mask(emu_thread *thread)
{
    struct emu_thread_signals *s = thread->signals;
    host_mask(~RUNTIMES);
    if (!s->captured)
        host_mask(signal_host_mask(s->mask));
}

void emu_signal_host(int sig, siginfo_t *info, void *context)
{
    emu_thread *thread = emu_current;
    int saved = errno;
    if (thread == NULL || thread->signals == NULL) {
        /*
         * A thread of the program that embeds us: the guest's shall have it.  On the
         * guest's own thread the guest has not begun or is over, and misses nothing.
         */
        pid_t tid = signal_process && signal_process->main ? signal_process->main->tid : 0;
        if (tid && HOST2(SYS_gettid, 0, 0) != tid)
            HOST3(SYS_tgkill, getpid(), tid, sig);
        errno = saved;
        return;
    }
    struct emu_thread_signals *s = thread->signals;
    if (BIT(sig) & RUNTIMES) {
        unsigned i = sig == SIGBUS;
        if (info->si_code > 0) {
            /* A fault of the runtime's own code: nothing to be delivered, and nothing to go on with. */
            host_action die = {0};
            host_sigaction(sig, &die, NULL);
            return;
        }
        s->held_info[i] = *info;
        s->held[i] = 1;
    } else {
        s->info = *info;
        s->captured = sig;
        uint64_t all = ~RUNTIMES;
        memcpy(&((ucontext_t *)context)->uc_sigmask, &all, sizeof all);
    }
    thread->pending = 1;
    emu_host_wait_leave(context);
    if (thread->engine)
        thread->ops->kick(thread->engine);
    errno = saved;
}

/* ---- start, exec, fork ---------------------------------------------------------------------------- */

emu_process *signal_process;

static int thread_signals(emu_thread *thread, uint64_t mask)
{
    struct emu_thread_signals *s = calloc(1, sizeof *s);
    if (s == NULL)
        return -ENOMEM;
    s->mask = mask & ~UNBLOCKABLE;
    thread->signals = s;
    return 0;
}

int emu_signal_start(emu_process *process)
{
    struct emu_process_signals *p = calloc(1, sizeof *p);
    uint64_t mask = 0;
    if (p == NULL)
        return -ENOMEM;
    process->signals = p;
    HOST4(SYS_rt_sigprocmask, SIG_SETMASK, NULL, &mask, sizeof mask);
    p->found_mask = mask;
    pthread_mutex_init(&p->lock, NULL);
    int status = thread_signals(process->main, mask);
    if (status)
        return status;
    signal_process = process;
    for (int sig = 1; sig <= SIGNALS; sig++) {
        if (BIT(sig) & UNBLOCKABLE)
            continue;
        host_sigaction(sig, NULL, &p->found[sig]);
        if (p->found[sig].handler == (uintptr_t)SIG_IGN)
            p->actions[sig].handler = HANDLER_IGN;
        mirror(sig, &p->actions[sig]);
    }
    p->saved = true;
    return 0;
}

void emu_signal_free(emu_process *process)
{
    struct emu_process_signals *p = process->signals;
    if (p && p->saved) {
        host_mask(~RUNTIMES);
        for (int sig = 1; sig <= SIGNALS; sig++)
            if (!(BIT(sig) & (UNBLOCKABLE | RUNTIMES)))
                host_sigaction(sig, &p->found[sig], NULL);
        host_mask(p->found_mask);
    }
    if (process->main)
        emu_signal_thread_free(process->main);
    if (signal_process == process)
        signal_process = NULL;
    free(p);
    process->signals = NULL;
}

int emu_signal_thread(emu_thread *thread, const emu_thread *creator)
{
    return thread_signals(thread, creator->signals->mask);
}

void emu_signal_thread_begin(emu_thread *thread)
{
    host_mask(~RUNTIMES);
}

void emu_signal_thread_open(emu_thread *thread)
{
    open_mask(thread);
}

void emu_signal_thread_end(emu_thread *thread, bool hand_over)
{
    struct emu_thread_signals *s = thread->signals;
    host_mask(~RUNTIMES);
    /* Sent to this thread alone, as far as can be told: it ends with it. */
    if (!hand_over || !s->captured || s->info.si_code == SI_TKILL)
        return;
    HOST3(SYS_rt_sigqueueinfo, getpid(), s->captured, &s->info);
    s->captured = 0;
}

void emu_signal_thread_free(emu_thread *thread)
{
    free(thread->signals);
    thread->signals = NULL;
}

void emu_signal_park(void)
{
    host_mask(~UINT64_C(0));
}

void emu_signal_threaded(emu_process *process)
{
    /* glibc: 33 is SIGSETXID, and 32 SIGCANCEL, for host threads that nobody cancels. */
    for (int sig = 32; sig <= 33; sig++)
        mirror(sig, &process->signals->actions[sig]);
    host_mask(~RUNTIMES);
}

void emu_signal_lock(emu_process *process)
{
    if (process->signals)
        pthread_mutex_lock(&process->signals->lock);
}

void emu_signal_unlock(emu_process *process)
{
    if (process->signals)
        pthread_mutex_unlock(&process->signals->lock);
}

void emu_signal_exec(emu_thread *thread)
{
    struct emu_process_signals *p = thread->process->signals;
    for (int sig = 1; sig <= SIGNALS; sig++) {
        emu_action *action = &p->actions[sig];
        bool ignored = action->handler == HANDLER_IGN;
        bool handled = !ignored && action->handler != HANDLER_DFL;
        memset(action, 0, sizeof *action);
        action->handler = ignored ? HANDLER_IGN : HANDLER_DFL;
        if (handled)
            mirror(sig, action);
    }
    memset(&thread->signals->altstack, 0, sizeof thread->signals->altstack);
    thread->signals->fault = 0;
    timers_forget();
    attachments_forget();
}

void emu_signal_native(emu_thread *thread)
{
    static const int mine[] = {SIGSEGV, SIGBUS};
    struct emu_process_signals *p = thread->process->signals;
    for (unsigned i = 0; i < 2; i++) {
        host_action host = {.handler = (uintptr_t)SIG_DFL};
        if (p->actions[mine[i]].handler == HANDLER_IGN)
            host.handler = (uintptr_t)SIG_IGN;
        host_sigaction(mine[i], &host, NULL);
    }
    host_mask(thread->signals->mask);
}

void emu_signal_forked(emu_thread *thread)
{
    struct emu_thread_signals *s = thread->signals;
    s->captured = 0;
    s->held[0] = s->held[1] = 0;
    s->fault = 0;
    thread->pending = 0;
}

void emu_signal_fork_begin(emu_thread *thread)
{
    host_mask(~RUNTIMES);
}

void emu_signal_fork_end(emu_thread *thread)
{
    open_mask(thread);
}

/* ---- delivery ---------------------------------------------------------------------------------------- */

/* Instructions that are undefined to the CPU, and a breakpoint to Linux (arm), or that an engine calls undefined. */
static bool is_breakpoint(emu_thread *thread, uint64_t pc)
{
    uint32_t word = 0;
    emu_cpu_state state;
    if (get(thread, &word, pc, 4) && get(thread, &word, pc, 2))
        return false;
    switch (thread->process->abi->isa) {
    case EMU_ISA_ARM:
        thread->ops->save(thread->engine, &state);
        if (state.flags & 0x20)
            return (word & 0xffff) == 0xde01 || word == 0xa000f7f0;
        return (word & 0x0fffffff) == 0x07f001f0;
    case EMU_ISA_RISCV64:
        return (word & 0xffff) == 0x9002 || word == 0x00100073;
    default:
        return false;
    }
}

void emu_signal_fault(emu_thread *thread, int sig, int code, uint64_t addr)
{
    struct emu_thread_signals *s = thread->signals;
    memset(&s->fault_info, 0, sizeof s->fault_info);
    if (sig == SIGILL && is_breakpoint(thread, thread->stop.pc)) {
        sig = SIGTRAP;
        code = TRAP_BRKPT;
    }
    s->fault = sig;
    s->fault_info.si_signo = sig;
    s->fault_info.si_code = code;
    s->fault_info.si_addr = (void *)(uintptr_t)addr;
    s->fault_access = thread->stop.access;
    thread->pending = 1;
}

/* The next signal to deliver, 0 when there is none. */
static int next(emu_thread *thread, siginfo_t *info, bool *fault)
{
    struct emu_thread_signals *s = thread->signals;
    uint64_t mask = s->suspended ? s->suspend_mask : s->mask;
    int sig = s->fault;
    *fault = sig != 0;
    if (sig) {
        *info = s->fault_info;
        s->fault = 0;
        return sig;
    }
    if (s->captured) {
        /* All signals are blocked on the host until open_mask: no other can come in between. */
        sig = s->captured;
        *info = s->info;
        s->captured = 0;
        return sig;
    }
    for (unsigned i = 0; i < 2; i++) {
        sig = i ? SIGBUS : SIGSEGV;
        if (s->held[i] && !(mask & BIT(sig))) {
            s->held[i] = 0;
            *info = s->held_info[i];
            return sig;
        }
    }
    return 0;
}

/* The result of the interrupted call, now that it is known whether a handler runs. */
static void settle(emu_thread *thread, const emu_stop *stop, int64_t result, const emu_action *handler)
{
    bool again = result == EMU_RESTARTNOINTR;
    if (result == EMU_RESTARTSYS)
        again = handler == NULL || handler->flags & SA_RESTART;
    if (result == EMU_RESTARTNOHAND || result == EMU_RESTART_BLOCK)
        again = handler == NULL;
    if (result == EMU_KEEP_REGISTERS)
        return;
    if (again)
        emu_syscall_again(thread, stop);
    else
        thread->ops->result(thread->engine, (uint64_t)(result <= EMU_RESTARTSYS ? -EINTR : result));
}

static int handle(emu_thread *thread, int sig, const siginfo_t *info, bool fault, const emu_action *action)
{
    struct emu_thread_signals *s = thread->signals;
    const emu_frames *frames = frames_of(thread->process);
    emu_cpu_state state;
    emu_delivery d = {
        .sig = sig,
        .info = info,
        .action = *action,
        .mask = s->mask,
        .altstack = s->altstack,
        .fault = fault,
        .fault_addr = (uintptr_t)info->si_addr,
        .fault_access = s->fault_access,
    };
    thread->ops->save(thread->engine, &state);
    uint64_t own = state.r[thread->process->abi->sp];
    uint64_t sp = own - frames->red_zone;
    if (action->flags & SA_ONSTACK && s->altstack.size && !altstack_holds(&s->altstack, own))
        sp = s->altstack.sp + s->altstack.size;
    if (frames->push(thread, &state, sp, &d))
        return -EFAULT;
    if (s->altstack.flags & ALT_AUTODISARM)
        memset(&s->altstack, 0, sizeof s->altstack);
    thread->ops->load(thread->engine, &state);
    s->mask = (s->suspended ? s->suspend_mask : s->mask) | action->mask;
    if (!(action->flags & SA_NODEFER))
        s->mask |= BIT(sig);
    s->mask &= ~UNBLOCKABLE;
    s->suspended = false;
    return 0;
}

static void kill_process(emu_thread *thread, int sig, const siginfo_t *info)
{
    bool core = BIT(sig) & DUMPING && emu_core_write(thread, info);
    emu_process_killed(thread->process, sig, core);
}

void emu_signal_deliver(emu_thread *thread, const emu_stop *interrupted, int64_t result)
{
    struct emu_process_signals *p = thread->process->signals;
    struct emu_thread_signals *s = thread->signals;
    do {
        siginfo_t info;
        bool fault;
        int sig;
        thread->pending = 0;
        while ((sig = next(thread, &info, &fault)) != 0) {
            pthread_mutex_lock(&p->lock);
            emu_action action = p->actions[sig];
            if (action.flags & SA_RESETHAND && action.handler != HANDLER_IGN) {
                p->actions[sig].handler = HANDLER_DFL;
                mirror(sig, &p->actions[sig]);
            }
            pthread_mutex_unlock(&p->lock);
            if (emu_watch_signal(thread, &info))
                continue;
            if (fault && (action.handler == HANDLER_IGN || s->mask & BIT(sig))) {
                /* An instruction cannot go on: neither ignoring nor blocking helps. */
                kill_process(thread, sig, &info);
                return;
            }
            if (action.handler == HANDLER_IGN)
                continue;
            if (action.handler == HANDLER_DFL) {
                if (BIT(sig) & IGNORED_BY_DEFAULT)
                    continue;
                if (BIT(sig) & STOPPING) {
                    HOST2(SYS_kill, getpid(), SIGSTOP);
                    continue;
                }
                kill_process(thread, sig, &info);
                return;
            }
            if (interrupted) {
                settle(thread, interrupted, result, &action);
                interrupted = NULL;
            }
            if (handle(thread, sig, &info, fault, &action)) {
                /* No room for the frame. */
                if (sig == SIGSEGV || s->mask & BIT(SIGSEGV)) {
                    const siginfo_t stack = {.si_signo = SIGSEGV, .si_code = SI_KERNEL};
                    kill_process(thread, SIGSEGV, &stack);
                    return;
                }
                emu_signal_fault(thread, SIGSEGV, SI_KERNEL, 0);
                continue;
            }
            open_mask(thread);
        }
        if (interrupted) {
            settle(thread, interrupted, result, NULL);
            interrupted = NULL;
        }
        s->suspended = false;
        open_mask(thread);
    } while (s->captured || s->fault);
}

/* ---- for the calls of sys_signal.c --------------------------------------------------------------------- */

uint64_t signal_mask(emu_thread *thread)
{
    return thread->signals->mask;
}

void signal_set_mask(emu_thread *thread, uint64_t mask)
{
    struct emu_thread_signals *s = thread->signals;
    s->mask = mask & ~UNBLOCKABLE;
    if ((s->held[0] && !(s->mask & BIT(SIGSEGV))) || (s->held[1] && !(s->mask & BIT(SIGBUS))))
        thread->pending = 1;
    open_mask(thread);
}

uint64_t signal_held(emu_thread *thread)
{
    struct emu_thread_signals *s = thread->signals;
    return (s->held[0] ? BIT(SIGSEGV) : 0) | (s->held[1] ? BIT(SIGBUS) : 0);
}

void signal_hold(emu_thread *thread, int sig, const siginfo_t *info)
{
    struct emu_thread_signals *s = thread->signals;
    unsigned i = sig == SIGBUS;
    if (s->held[i])
        return; /* it is pending already */
    s->held_info[i] = *info;
    s->held[i] = 1;
    thread->pending = 1;
}

bool signal_take_held(emu_thread *thread, uint64_t set, siginfo_t *info)
{
    struct emu_thread_signals *s = thread->signals;
    for (unsigned i = 0; i < 2; i++)
        if (s->held[i] && set & BIT(i ? SIGBUS : SIGSEGV)) {
            *info = s->held_info[i];
            s->held[i] = 0;
            return true;
        }
    return false;
}

void signal_suspend(emu_thread *thread, uint64_t mask)
{
    struct emu_thread_signals *s = thread->signals;
    s->suspend_mask = mask & ~UNBLOCKABLE;
    s->suspended = true;
    if (signal_held(thread) & ~s->suspend_mask)
        thread->pending = 1;
}

void signal_mask_end(emu_thread *thread, int64_t result)
{
    if ((result != -EINTR && result > EMU_RESTARTSYS) || !thread->pending)
        thread->signals->suspended = false;
}

int signal_mask_begin(emu_thread *thread, uint64_t addr, uint64_t size, uint64_t *space, uint64_t **host)
{
    *host = NULL;
    if (addr == 0)
        return 0;
    if (size != sizeof *space)
        return -EINVAL;
    if (get(thread, space, addr, sizeof *space))
        return -EFAULT;
    signal_suspend(thread, *space);
    *space = signal_host_mask(*space);
    *host = space;
    return 0;
}

int signal_action(emu_thread *thread, int sig, const emu_action *set, emu_action *old)
{
    struct emu_process_signals *p = thread->process->signals;
    if (sig < 1 || sig > SIGNALS || (set && BIT(sig) & UNBLOCKABLE))
        return -EINVAL;
    int status = 0;
    pthread_mutex_lock(&p->lock);
    if (old)
        *old = p->actions[sig];
    if (set) {
        emu_action action = *set;
        uint64_t kept = FLAGS_KEPT | SIGNAL_RESTORER | (is_32(thread) ? 0x02000000 : 0);
        action.flags &= kept;
        action.mask &= ~UNBLOCKABLE;
        p->actions[sig] = action;
        status = mirror(sig, &action);
    }
    pthread_mutex_unlock(&p->lock);
    return status;
}

emu_altstack *signal_altstack(emu_thread *thread)
{
    return &thread->signals->altstack;
}

int64_t signal_return(emu_thread *thread, bool rt)
{
    emu_cpu_state state;
    emu_return back;
    thread->ops->save(thread->engine, &state);
    if (frames_of(thread->process)->pop(thread, &state, rt, &back)) {
        thread->stop.access = EMU_RIGHT_R;
        emu_signal_fault(thread, SIGSEGV, SI_KERNEL, 0);
        return EMU_KEEP_REGISTERS;
    }
    if (back.has_altstack)
        signal_set_altstack(thread, &back.altstack, state.r[thread->process->abi->sp]);
    thread->ops->load(thread->engine, &state);
    signal_set_mask(thread, back.mask);
    return EMU_KEEP_REGISTERS;
}

int signal_set_altstack(emu_thread *thread, const emu_altstack *set, uint64_t sp)
{
    emu_altstack *alt = signal_altstack(thread);
    uint32_t mode = set->flags & ~ALT_AUTODISARM;
    uint64_t smallest = thread->process->abi->isa == EMU_ISA_AARCH64 ? 5120 : 2048;
    if (altstack_holds(alt, sp))
        return -EPERM;
    if (mode != 0 && mode != ALT_ONSTACK && mode != ALT_DISABLE)
        return -EINVAL;
    if (mode == ALT_DISABLE) {
        memset(alt, 0, sizeof *alt);
        return 0;
    }
    if (set->size < smallest)
        return -ENOMEM;
    alt->sp = set->sp;
    alt->size = set->size;
    alt->flags = set->flags & ALT_AUTODISARM;
    return 0;
}

/* ---- layouts --------------------------------------------------------------------------------------------- */

void frame_put_altstack(uint8_t *to, const emu_altstack *alt, uint64_t sp)
{
    put64(to, alt->sp);
    put32(to + 8, altstack_flags(alt, sp));
    put64(to + 16, alt->size);
}

void frame_get_altstack(const uint8_t *from, emu_altstack *alt)
{
    alt->sp = get64(from);
    alt->flags = get32(from + 8);
    alt->size = get64(from + 16);
}

/*
 * The union of a 32-bit siginfo begins at 12, of a 64-bit one at 16; which member
 * it is follows from the signal and the code, as in the kernel's siginfo_layout.
 */
enum siginfo_kind { KIND_KILL, KIND_TIMER, KIND_RT, KIND_CHILD, KIND_FAULT, KIND_POLL, KIND_SYS };

static enum siginfo_kind siginfo_kind(int sig, int code)
{
    if (code == SI_TIMER)
        return KIND_TIMER;
    if (code == SI_SIGIO)
        return KIND_POLL;
    if (code == SI_USER || code == SI_TKILL || code == SI_KERNEL)
        return KIND_KILL;
    if (code < 0)
        return KIND_RT;
    switch (sig) {
    case SIGCHLD:
        return KIND_CHILD;
    case SIGSEGV:
    case SIGBUS:
    case SIGILL:
    case SIGFPE:
    case SIGTRAP:
        return KIND_FAULT;
    case SIGPOLL:
        return KIND_POLL;
    case SIGSYS:
        return KIND_SYS;
    default:
        return KIND_KILL;
    }
}

void siginfo_to_guest(const emu_abi *abi, const siginfo_t *info, uint8_t out[128])
{
    const uint8_t *host = (const uint8_t *)info;
    if (abi->word == 8) {
        memcpy(out, host, 128);
        return;
    }
    memset(out, 0, 128);
    memcpy(out, host, 12);
    switch (siginfo_kind(info->si_signo, info->si_code)) {
    case KIND_CHILD:
        memcpy(out + 12, host + 16, 12);
        put32(out + 24, (uint32_t)get64(host + 32));
        put32(out + 28, (uint32_t)get64(host + 40));
        break;
    case KIND_FAULT:
    case KIND_POLL:
        put32(out + 12, (uint32_t)get64(host + 16));
        memcpy(out + 16, host + 24, 4);
        break;
    case KIND_SYS:
        put32(out + 12, (uint32_t)get64(host + 16));
        memcpy(out + 16, host + 24, 8);
        break;
    default:
        memcpy(out + 12, host + 16, 12);
        break;
    }
}

void siginfo_from_guest(const emu_abi *abi, const uint8_t in[128], siginfo_t *info)
{
    uint8_t *host = (uint8_t *)info;
    if (abi->word == 8) {
        memcpy(host, in, 128);
        return;
    }
    memset(host, 0, 128);
    memcpy(host, in, 12);
    switch (siginfo_kind(info->si_signo, info->si_code)) {
    case KIND_CHILD:
        memcpy(host + 16, in + 12, 12);
        put64(host + 32, (uint64_t)(int32_t)get32(in + 24));
        put64(host + 40, (uint64_t)(int32_t)get32(in + 28));
        break;
    case KIND_FAULT:
    case KIND_POLL:
        put64(host + 16, get32(in + 12));
        memcpy(host + 24, in + 16, 4);
        break;
    case KIND_SYS:
        put64(host + 16, get32(in + 12));
        memcpy(host + 24, in + 16, 8);
        break;
    default:
        memcpy(host + 16, in + 12, 12);
        break;
    }
}
