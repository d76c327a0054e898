/* The engine that translates AArch64 programs to x86-64. */
#ifndef EMU_A64_ENGINE_H
#define EMU_A64_ENGINE_H

#include "engine.h"

/* On a host that is not x86-64, open() says so. */
const emu_engine_ops *emu_a64_user(void);
/* How many instructions the other engine has done for one of these. */
uint64_t emu_a64_stepped(const emu_engine *engine);

/* Which engine translates: the one that was asked for, else $EMU_ENGINE, else the usual one. */
const char *emu_engine_name(const char *asked);

/*
 * For people who look at translations; NULL and 0: nothing is shown.  dump: a file to which guest code and what
 * became of it are appended, disassembled by the library `capstone` (5.x).  perf: /tmp/perf-PID.map is written.
 */
void emu_a64_show(const char *dump, const char *capstone, int perf);

#endif
