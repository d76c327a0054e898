/* The reading side of trace.h. */
#ifndef EMU_TRACE_READ_H
#define EMU_TRACE_READ_H

#include "trace.h"

/* NULL without memory. */
emu_trace *emu_trace_new(void);
void emu_trace_free(emu_trace *trace);
/*
 * Up to `room` slots of whole records, in order; waits so long for the first.  They
 * count as read from emu_trace_done on.
 */
uint32_t emu_trace_read(emu_trace *trace, emu_trace_record *out, uint32_t room, int milliseconds);
void emu_trace_done(emu_trace *trace);
/* One more range; -1: there are as many as can be. */
int emu_trace_range(emu_trace *trace, uint64_t first, uint64_t end);
/* Writers no longer wait. */
void emu_trace_close(emu_trace *trace);

#endif
