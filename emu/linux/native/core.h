/* Core files of guests (core.c). */
#ifndef EMU_CORE_H
#define EMU_CORE_H

#include <signal.h>

#include "runtime.h"

/*
 * The signal that `info` tells of kills the process: writes the core of it, with
 * this thread's registers, if Linux would.  True: the process shall end by
 * emu_core_die.  Other threads may still run.
 */
bool emu_core_write(emu_thread *thread, const siginfo_t *info);
/* Ends this host process by the signal, with a core; returns if that does not kill. */
void emu_core_die(int sig);

#endif
