/* The processes of one emu, from each other's point of view (kin.c). */
#ifndef EMU_KIN_H
#define EMU_KIN_H

#include "runtime.h"

/* The first of a tree begins to run; it has another program. */
void emu_kin_start(const emu_process *process);
/* One is there: the calling process (born: 0), or its child, born after that time. */
void emu_kin_join(const emu_process *process, pid_t pid, uint64_t born);
uint64_t emu_kin_now(void);
void emu_kin_program(const emu_process *process);
/* The calling process: is about to end; is no guest from now on. */
void emu_kin_end(void);
void emu_kin_leave(void);

/* Whether it is one, dead ones that nobody has waited for included. */
bool emu_kin_has(pid_t pid);
/* Whether one that lives runs the program which is this file. */
bool emu_kin_runs(uint64_t dev, uint64_t ino);
/* Its program, as the guest names it.  0 or -errno. */
int emu_kin_exe(pid_t pid, char out[PATH_MAX]);

/* Memory of its host process: how many bytes could be read. */
size_t emu_kin_read(pid_t pid, void *to, const void *from, size_t size);
/*
 * A copy of what that process knows of itself: its ABI, areas, addresses and
 * exe_guest are good here, no other pointer is.  NULL where it cannot be had.
 */
emu_process *emu_kin_look(pid_t pid);
void emu_kin_forget(emu_process *copy);

#endif
