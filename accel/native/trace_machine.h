/* What machines of this process tell (trace.h). */
#ifndef EMU_TRACE_MACHINE_H
#define EMU_TRACE_MACHINE_H

#include "core.h"
#include "trace.h"

/* NULL: nothing is told.  Whoever has something to tell looks at it first. */
extern emu_trace *emu_machines_trace;

/* From now on, for all machines; before they are built, where instructions are wanted.  NULL: no longer. */
void emu_trace_machines(emu_trace *trace);

/* A vCPU has come back from KVM_RUN, which it entered at that time (ns). */
void emu_trace_exit(uint32_t cpu, uint32_t reason, uint64_t since);
/* Unicorn's CPU takes an exception of that number (the library's). */
void emu_trace_exception(uint32_t isa, uint64_t pc, uint64_t number);

#endif
