/*
 * What the core tells of itself, to who asks (trace_machine.c): NULL, and one look at that, where nobody does.
 * Pointers, so that the core stands alone.
 */
#ifndef EMU_TELL_H
#define EMU_TELL_H

#include "core.h"

/* A vCPU's access: a write before it is made, a read after it. */
typedef void emu_tell_access_fn(const emu_space *space, uint64_t addr, uint32_t width, uint64_t value, int write);
extern emu_tell_access_fn *emu_map_tells;
/* A line has another level, of which its controller will hear. */
typedef void emu_tell_line_fn(const emu_irq *irq, int level);
extern emu_tell_line_fn *emu_irq_tells;

#endif
