/* The engine that translates AArch64 programs to x86-64. */
#ifndef EMU_A64_ENGINE_H
#define EMU_A64_ENGINE_H

#include "engine.h"

/* On a host that is not x86-64, open() says so. */
const emu_engine_ops *emu_a64_user(void);

#endif
