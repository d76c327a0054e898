/* struct sigevent, which timers and message queues take. */
#ifndef EMU_SIGEVENT_H
#define EMU_SIGEVENT_H

#include <signal.h>

#include "runtime.h"

/* The guest's as the kernel's; 0 or -EFAULT. */
int sigevent_get(emu_thread *thread, uint64_t addr, struct sigevent *event);

#endif
