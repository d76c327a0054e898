/*
 * Linux user mode, from outside: a process that runs on an engine.
 */
#ifndef EMU_PROCESS_H
#define EMU_PROCESS_H

#include <stddef.h>
#include <stdint.h>

#include "engine.h"
#include "trace.h"

typedef struct emu_process emu_process;

/*
 * sysroot: host path whose files have precedence, or NULL.  NULL with one line
 * in text when it cannot be.
 */
emu_process *emu_process_new(const emu_engine_ops *ops, const char *sysroot, char *text, size_t size);
/* Before the process runs: what it and its children do is told there. */
void emu_process_trace(emu_process *process, emu_trace *trace);
/* Whether its engine tells of such things (EMU_TRACE_*). */
int emu_process_traces(const emu_process *process, uint32_t what);
/* Descriptors that close on exec now are the program's around us: the guest does not meet them. */
void emu_process_keep_fds(emu_process *process);
/*
 * Before the program is loaded: nothing outside `directory` (host path) is seen
 * or touched by it and its children.  0, or -errno with one line in text.
 */
int emu_process_confine(emu_process *process, const char *directory, char *text, size_t size);
/*
 * A descriptor, for reading, of the regular file that a guest path names under a
 * sysroot or in a root (NULL: none), without a process; -errno.
 */
int emu_process_peek(const char *sysroot, const char *root, const char *path);
/*
 * The guest path of a program: itself, or for a bare name that is no file there
 * the first in the folders of `path` ($PATH).  `out` has 4096 bytes; 0, or
 * -ENAMETOOLONG.
 */
int emu_process_search(const char *sysroot, const char *root, const char *program, const char *path, char *out);
/* Another engine, for programs that the ones before cannot run; at most 4 in all. */
void emu_process_engine(emu_process *process, const emu_engine_ops *ops);
/*
 * Loads the program: path as the guest names it, argv and envp end with NULL.
 * 0, or -errno with one line in text.
 */
int emu_process_start(emu_process *process, const char *path, char *const *argv, char *const *envp, char *text,
                      size_t size);
/*
 * Runs to the end; the calling thread is the guest's.  Returns a wait status as
 * wait4 gives it.  Children that the guest forked never return from here.
 */
int emu_process_run(emu_process *process);
/* The same, and this host process ends with it, without returning to a caller who waits for a lock first. */
void emu_process_become(emu_process *process);
/*
 * Runs it in a child of this process, with the signal actions that a program
 * starts with.  streams: host descriptors that become its 0, 1 and 2; -1: ours.
 * Returns the child's pid, for waitpid, or -errno.
 */
int emu_process_spawn(emu_process *process, const int streams[3]);
void emu_process_free(emu_process *process);

/* Ends this host process the way the status says: by exit or by the same signal. */
void emu_process_die(int status);

#endif
