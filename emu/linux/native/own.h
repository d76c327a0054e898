/*
 * Files that speak of the guest: /proc/self and its kin, /proc/cpuinfo, and for a
 * confined guest the rest of what it sees of /proc and /dev (own.c).
 */
#ifndef EMU_OWN_H
#define EMU_OWN_H

#include "path.h"

enum emu_own_kind {
    EMU_OWN_NONE = 0,
    EMU_OWN_FOLDER, /* the host's, at `host`: of what it lists only what emu_own_find finds is shown */
    EMU_OWN_DEVICE, /* the host's, at `host`, to read and write */
    EMU_OWN_FACT,   /* the host's, at `host`, to read */
    EMU_OWN_LINK,   /* enum emu_own_link_number */
    EMU_OWN_FD,     /* /proc/self/fd/<number> */
    /* Made here: */
    EMU_OWN_TEXT,
    EMU_OWN_MAPS = EMU_OWN_TEXT,
    EMU_OWN_CMDLINE,
    EMU_OWN_ENVIRON,
    EMU_OWN_AUXV,
    EMU_OWN_STAT,
    EMU_OWN_STATUS,
    EMU_OWN_STATM,
    EMU_OWN_LIMITS,
    EMU_OWN_SMAPS,
    EMU_OWN_CPUINFO,
    EMU_OWN_MOUNTS,
    EMU_OWN_MOUNTINFO,
    EMU_OWN_MEM,
};

enum emu_own_link_number {
    EMU_LINK_EXE,
    EMU_LINK_CWD,
    EMU_LINK_ROOT,
    EMU_LINK_SELF,
    EMU_LINK_THREAD,
    EMU_LINK_MOUNTS,
    EMU_LINK_FDS,
    EMU_LINK_SHM,
    EMU_LINK_STDIN,
    EMU_LINK_STDOUT,
    EMU_LINK_STDERR,
    EMU_LINK_OPEN, /* the link at `host`: what another process has open */
};

/*
 * What an absolute path without symlinks, "." and ".." names here.  Sets
 * out->number, and out->host to the host's file that status, access and the like
 * are asked of.  A process that is not confined gets only what speaks of the
 * guest, everything else is EMU_OWN_NONE.
 */
int emu_own_find(emu_process *process, const char *path, emu_path *out);
/* Where a link leads, in the guest's terms.  0 or -errno. */
int emu_own_link(emu_process *process, const emu_path *link, char target[PATH_MAX]);
/*
 * Whether a directory, by the host's name of it, lists what is not the guest's;
 * and whether an entry is shown.
 */
bool emu_own_lists(emu_process *process, const char *folder);
bool emu_own_shows(emu_process *process, const char *folder, const char *name);
/* Whether it is a terminal whose other end the guest has. */
bool emu_own_made(emu_process *process, const char *path);
/* open, with the host's flags.  A descriptor or -errno; may sleep. */
int64_t emu_own_open(emu_thread *thread, const emu_path *path, uint64_t flags);

/*
 * /proc/self/mem: its descriptors are of an empty file, whose position is used,
 * and calls that read and write them come here.  True, with the result, where
 * the descriptor is one.
 */
bool emu_own_mem(emu_thread *thread, long call, const uint64_t *args, int64_t *result);

#endif
