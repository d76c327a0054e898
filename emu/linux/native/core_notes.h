/* The structures of a core file, as each ISA's kernel lays them out (core_notes.c). */
#ifndef EMU_CORE_NOTES_H
#define EMU_CORE_NOTES_H

#include <signal.h>
#include <stdio.h>

#include "runtime.h"

void core_put_header(FILE *out, const emu_abi *abi, size_t segments);
/* place: offset, address, size in the file, size in memory, alignment. */
void core_put_segment(FILE *out, const emu_abi *abi, uint32_t type, uint32_t flags, const uint64_t place[5]);
/* What PT_NOTE holds, of the process and of the one thread.  With umem held. */
void core_put_notes(FILE *out, emu_thread *thread, const siginfo_t *info);

#endif
