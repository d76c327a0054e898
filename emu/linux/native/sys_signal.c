/* System calls about signals. */
#include <errno.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "signal_private.h"
#include "syscall.h"

enum { SET = 8 }; /* bytes of a sigset_t */

/* ---- actions --------------------------------------------------------------------------------- */

/*
 * struct sigaction: handler, flags, restorer, mask; RISC-V has no restorer.
 * Returns its size.
 */
static size_t unpack(const emu_abi *abi, const uint8_t *raw, emu_action *action)
{
    memset(action, 0, sizeof *action);
    if (abi->word == 4) {
        action->handler = get32(raw);
        action->flags = get32(raw + 4);
        action->restorer = get32(raw + 8);
        action->mask = get64(raw + 12);
        return 20;
    }
    action->handler = get64(raw);
    action->flags = get64(raw + 8);
    if (abi->isa == EMU_ISA_RISCV64) {
        action->mask = get64(raw + 16);
        return 24;
    }
    action->restorer = get64(raw + 16);
    action->mask = get64(raw + 24);
    return 32;
}

static size_t pack(const emu_abi *abi, uint8_t *raw, const emu_action *action)
{
    if (abi->word == 4) {
        put32(raw, (uint32_t)action->handler);
        put32(raw + 4, (uint32_t)action->flags);
        put32(raw + 8, (uint32_t)action->restorer);
        put64(raw + 12, action->mask);
        return 20;
    }
    put64(raw, action->handler);
    put64(raw + 8, action->flags);
    if (abi->isa == EMU_ISA_RISCV64) {
        put64(raw + 16, action->mask);
        return 24;
    }
    put64(raw + 16, action->restorer);
    put64(raw + 24, action->mask);
    return 32;
}

int64_t emu_sys_rt_sigaction(emu_thread *thread, const uint64_t *args)
{
    const emu_abi *abi = thread->process->abi;
    uint8_t raw[32] = {0};
    emu_action set, old;
    size_t size = unpack(abi, raw, &set);
    if (args[3] != SET)
        return -EINVAL;
    if (args[1]) {
        if (get(thread, raw, args[1], size))
            return -EFAULT;
        unpack(abi, raw, &set);
    }
    int status = signal_action(thread, (int)args[0], args[1] ? &set : NULL, &old);
    if (status)
        return status;
    if (args[2]) {
        size = pack(abi, raw, &old);
        if (put(thread, args[2], raw, size))
            return -EFAULT;
    }
    return 0;
}

/* arm's older structure: handler, mask of 32 bits, flags, restorer. */
int64_t emu_sys_sigaction(emu_thread *thread, const uint64_t *args)
{
    uint32_t raw[4];
    emu_action set, old;
    if (args[1]) {
        if (get(thread, raw, args[1], sizeof raw))
            return -EFAULT;
        set = (emu_action){.handler = raw[0], .mask = raw[1], .flags = raw[2], .restorer = raw[3]};
    }
    int status = signal_action(thread, (int)args[0], args[1] ? &set : NULL, &old);
    if (status)
        return status;
    if (args[2]) {
        uint32_t out[4] = {(uint32_t)old.handler, (uint32_t)old.mask, (uint32_t)old.flags, (uint32_t)old.restorer};
        if (put(thread, args[2], out, sizeof out))
            return -EFAULT;
    }
    return 0;
}

int64_t emu_sys_sigaltstack(emu_thread *thread, const uint64_t *args)
{
    emu_altstack old = *signal_altstack(thread);
    emu_cpu_state state;
    uint8_t raw[24];
    thread->ops->save(thread->engine, &state);
    uint64_t sp = state.r[thread->process->abi->sp];
    if (args[0]) {
        emu_altstack set;
        if (get(thread, raw, args[0], is_32(thread) ? 12 : 24))
            return -EFAULT;
        if (is_32(thread))
            set = (emu_altstack){.sp = get32(raw), .flags = get32(raw + 4), .size = get32(raw + 8)};
        else
            frame_get_altstack(raw, &set);
        int status = signal_set_altstack(thread, &set, sp);
        if (status)
            return status;
    }
    if (args[1]) {
        memset(raw, 0, sizeof raw);
        if (is_32(thread)) {
            put32(raw, (uint32_t)old.sp);
            put32(raw + 4, altstack_flags(&old, sp));
            put32(raw + 8, (uint32_t)old.size);
        } else {
            frame_put_altstack(raw, &old, sp);
        }
        if (put(thread, args[1], raw, is_32(thread) ? 12 : 24))
            return -EFAULT;
    }
    return 0;
}

int64_t emu_sys_rt_sigreturn(emu_thread *thread, const uint64_t *args)
{
    return signal_return(thread, true);
}

int64_t emu_sys_sigreturn(emu_thread *thread, const uint64_t *args)
{
    return signal_return(thread, false);
}

/* ---- masks --------------------------------------------------------------------------------------- */

static int change_mask(emu_thread *thread, int how, uint64_t set)
{
    uint64_t mask = signal_mask(thread);
    switch (how) {
    case SIG_BLOCK:
        mask |= set;
        break;
    case SIG_UNBLOCK:
        mask &= ~set;
        break;
    case SIG_SETMASK:
        mask = set;
        break;
    default:
        return -EINVAL;
    }
    signal_set_mask(thread, mask);
    return 0;
}

int64_t emu_sys_rt_sigprocmask(emu_thread *thread, const uint64_t *args)
{
    uint64_t old = signal_mask(thread), set;
    if (args[3] != SET)
        return -EINVAL;
    if (args[1]) {
        if (get(thread, &set, args[1], SET))
            return -EFAULT;
        int status = change_mask(thread, (int)args[0], set);
        if (status)
            return status;
    }
    return args[2] && put(thread, args[2], &old, SET) ? -EFAULT : 0;
}

int64_t emu_sys_sigprocmask(emu_thread *thread, const uint64_t *args)
{
    uint64_t old = signal_mask(thread);
    uint32_t set;
    if (args[1]) {
        if (get(thread, &set, args[1], sizeof set))
            return -EFAULT;
        uint64_t wide = set;
        if ((int)args[0] == SIG_SETMASK)
            wide |= old & ~(uint64_t)UINT32_MAX;
        int status = change_mask(thread, (int)args[0], wide);
        if (status)
            return status;
    }
    return args[2] ? put_u32(thread, args[2], (uint32_t)old) : 0;
}

static uint64_t pending_signals(emu_thread *thread)
{
    uint64_t set = 0;
    HOST2(SYS_rt_sigpending, &set, SET);
    return (set | signal_held(thread)) & signal_mask(thread);
}

int64_t emu_sys_rt_sigpending(emu_thread *thread, const uint64_t *args)
{
    uint64_t set = pending_signals(thread);
    if (args[1] > SET)
        return -EINVAL;
    return put(thread, args[0], &set, args[1]);
}

int64_t emu_sys_sigpending(emu_thread *thread, const uint64_t *args)
{
    return put_u32(thread, args[0], (uint32_t)pending_signals(thread));
}

static int64_t suspend(emu_thread *thread, uint64_t mask)
{
    uint64_t host = signal_host_mask(mask);
    signal_suspend(thread, mask);
    long result = WAIT4(thread, SYS_rt_sigsuspend, &host, SET, 0, 0);
    if (result == EMU_RESTARTSYS)
        result = EMU_RESTARTNOHAND;
    signal_mask_end(thread, result);
    return result;
}

int64_t emu_sys_rt_sigsuspend(emu_thread *thread, const uint64_t *args)
{
    uint64_t mask;
    if (args[1] != SET)
        return -EINVAL;
    if (get(thread, &mask, args[0], SET))
        return -EFAULT;
    return suspend(thread, mask);
}

int64_t emu_sys_sigsuspend(emu_thread *thread, const uint64_t *args)
{
    return suspend(thread, args[2] | (signal_mask(thread) & ~(uint64_t)UINT32_MAX));
}

/* ---- waiting and sending ------------------------------------------------------------------------------ */

static int64_t timed_wait(emu_thread *thread, const uint64_t *args, bool wide)
{
    uint64_t set;
    struct timespec timeout;
    siginfo_t info;
    uint8_t raw[128];
    long result;
    if (args[3] != SET)
        return -EINVAL;
    if (get(thread, &set, args[0], SET) || (args[2] && get_timespec(thread, args[2], &timeout, wide)))
        return -EFAULT;
    if (signal_take_held(thread, set, &info))
        result = info.si_signo;
    else
        result = WAIT4(thread, SYS_rt_sigtimedwait, &set, &info, args[2] ? &timeout : NULL, SET);
    if (result > 0 && args[1]) {
        siginfo_to_guest(thread->process->abi, &info, raw);
        if (put(thread, args[1], raw, sizeof raw))
            return -EFAULT;
    }
    return result;
}

int64_t emu_sys_rt_sigtimedwait(emu_thread *thread, const uint64_t *args)
{
    return timed_wait(thread, args, false);
}

int64_t emu_sys_rt_sigtimedwait_time64(emu_thread *thread, const uint64_t *args)
{
    return timed_wait(thread, args, true);
}

static int guest_siginfo(emu_thread *thread, uint64_t addr, siginfo_t *info)
{
    uint8_t raw[128];
    if (get(thread, raw, addr, sizeof raw))
        return -EFAULT;
    siginfo_from_guest(thread->process->abi, raw, info);
    return 0;
}

/*
 * What a thread sends to itself may look like a fault.  On the host it would be
 * taken for one, of the runtime: so it does not go there.
 */
static bool forged(emu_thread *thread, uint64_t tid, int sig, siginfo_t *info)
{
    if ((sig != SIGSEGV && sig != SIGBUS) || info->si_code <= 0 || (pid_t)tid != thread->tid)
        return false;
    info->si_signo = sig;
    signal_hold(thread, sig, info);
    return true;
}

int64_t emu_sys_rt_sigqueueinfo(emu_thread *thread, const uint64_t *args)
{
    siginfo_t info;
    if (guest_siginfo(thread, args[2], &info))
        return -EFAULT;
    if (forged(thread, args[0], (int)args[1], &info))
        return 0;
    return HOST3(SYS_rt_sigqueueinfo, args[0], args[1], &info);
}

int64_t emu_sys_rt_tgsigqueueinfo(emu_thread *thread, const uint64_t *args)
{
    siginfo_t info;
    if (guest_siginfo(thread, args[3], &info))
        return -EFAULT;
    if ((pid_t)args[0] == getpid() && forged(thread, args[1], (int)args[2], &info))
        return 0;
    return HOST4(SYS_rt_tgsigqueueinfo, args[0], args[1], args[2], &info);
}

int64_t emu_sys_pidfd_send_signal(emu_thread *thread, const uint64_t *args)
{
    siginfo_t info;
    if (args[2] && guest_siginfo(thread, args[2], &info))
        return -EFAULT;
    /* A descriptor costs a look into /proc: only where it may be the case. */
    if (args[2] && info.si_code > 0 && info.si_signo == (int)args[1] && args[3] == 0 &&
        ((int)args[1] == SIGSEGV || (int)args[1] == SIGBUS) &&
        forged(thread, (uint64_t)pidfd_process((int)args[0]), (int)args[1], &info))
        return 0;
    return HOST4(SYS_pidfd_send_signal, args[0], args[1], args[2] ? &info : NULL, args[3]);
}
