/* Atomic instructions of user-mode guests, made atomic on the host. */
#ifndef EMU_UC_ATOMIC_H
#define EMU_UC_ATOMIC_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Before a user engine of that ISA (enum emu_isa) is opened.  Where the library or
 * the host does not let it be done, they stay atomic among a process's threads,
 * which take turns.
 */
void uc_atomic(uint32_t isa);
/* Whether uc_interposed.translated is called, then. */
bool uc_atomic_tells(uint32_t isa);

#endif
