/* The least that a program needs; weak, so that the real system calls and signals replace it. */
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime.h"

#define WEAK __attribute__((weak))

WEAK int64_t emu_syscall(emu_thread *thread, emu_stop *stop)
{
    bool x86 = thread->process->abi->isa == EMU_ISA_X86_64, arm = thread->process->abi->isa == EMU_ISA_ARM;
    uint64_t nr = stop->nr;
    const uint64_t *args = stop->args;
    if (nr == (x86 ? 1u : arm ? 4u : 64u)) {
        ssize_t done = write((int)args[0], umem_pointer(&thread->process->umem, args[1]), args[2]);
        return done < 0 ? -errno : done;
    }
    if (nr == (x86 ? 60u : arm ? 1u : 93u) || nr == (x86 ? 231u : arm ? 248u : 94u))
        return emu_sys_exit(thread, args);
    if (nr == (x86 ? 12u : arm ? 45u : 214u))
        return emu_sys_brk(thread, args);
    if (nr == (x86 ? 9u : arm ? 192u : 222u))
        return arm ? emu_sys_mmap2(thread, args) : emu_sys_mmap(thread, args);
    if (nr == (x86 ? 10u : arm ? 125u : 226u))
        return emu_sys_mprotect(thread, args);
    if (nr == (x86 ? 218u : arm ? 256u : 96u))
        return emu_sys_set_tid_address(thread, args);
    if (x86 && nr == 158)
        return emu_sys_arch_prctl(thread, args);
    if (arm && nr == 0xf0005)
        return emu_sys_arm_set_tls(thread, args);
    return -ENOSYS;
}

WEAK int emu_signal_start(emu_process *process)
{
    return 0;
}

WEAK void emu_signal_exec(emu_thread *thread)
{
}

WEAK void emu_signal_native(emu_thread *thread)
{
}

WEAK void emu_signal_forked(emu_thread *thread)
{
}

WEAK void emu_signal_free(emu_process *process)
{
}

WEAK void emu_signal_fork_begin(emu_thread *thread)
{
}

WEAK void emu_signal_fork_end(emu_thread *thread)
{
}

WEAK void emu_signal_fault(emu_thread *thread, int sig, int code, uint64_t addr)
{
    emu_process_killed(thread->process, sig);
}

WEAK void emu_signal_deliver(emu_thread *thread, const emu_stop *interrupted, int64_t result)
{
    thread->pending = 0;
}

WEAK void emu_signal_host(int sig, siginfo_t *info, void *context)
{
}
