/* What signal.c offers to the system calls about signals (sys_signal.c). */
#ifndef EMU_SIGNAL_PRIVATE_H
#define EMU_SIGNAL_PRIVATE_H

#include "frame.h"
#include "runtime.h"

/* The process whose signals the host's handlers serve; NULL: none. */
extern emu_process *signal_process;

/* What the guest blocks; setting it lets in what has become unblocked. */
uint64_t signal_mask(emu_thread *thread);
void signal_set_mask(emu_thread *thread, uint64_t mask);
/* Signals kept here, not in the kernel: SIGSEGV and SIGBUS; signal_take_held removes one of `set`. */
uint64_t signal_held(emu_thread *thread);
void signal_hold(emu_thread *thread, int sig, const siginfo_t *info);
bool signal_take_held(emu_thread *thread, uint64_t set, siginfo_t *info);
/* Notes the mask of a call like sigsuspend; signal_mask_end belongs to it. */
void signal_suspend(emu_thread *thread, uint64_t mask);
/* 0 or -EINVAL. */
int signal_action(emu_thread *thread, int sig, const emu_action *set, emu_action *old);
emu_altstack *signal_altstack(emu_thread *thread);
/* sigaltstack(2)'s checks; sp is the guest's.  0, -EPERM, -EINVAL or -ENOMEM. */
int signal_set_altstack(emu_thread *thread, const emu_altstack *set, uint64_t sp);
int64_t signal_return(emu_thread *thread, bool rt);

#endif
