/*
 * Unicorn: the library, the machine engine (uc_machine.c) and the user-mode
 * engine (uc_user.c).  The library is opened at run time, when first needed
 * (its dlopen costs 8 ms), from the path that Python found.
 */
#ifndef EMU_UC_H
#define EMU_UC_H

#include <stddef.h>
#include <stdint.h>

/* 0, or -1 with the reason in *text.  Opening it again does nothing. */
int emu_uc_library(const char *path, char *text, size_t size);
/* major << 24 | minor << 16 | patch << 8; 0 before the library is open. */
uint32_t emu_uc_version(void);

#endif
