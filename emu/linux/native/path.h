/* Guest paths (path.c). */
#ifndef EMU_PATH_H
#define EMU_PATH_H

#include <linux/openat2.h>

#include "runtime.h"

enum emu_path_flag {
    EMU_PATH_NOFOLLOW = 1, /* a symlink at the end is meant itself */
    EMU_PATH_NAME = 2,     /* the entry of a directory is meant, which need not exist */
    EMU_PATH_EMPTY = 4,    /* "" is the directory's descriptor itself (AT_EMPTY_PATH) */
    EMU_PATH_CHANGE = 8,   /* the object's attributes are to change: nothing of the host's, please */
};

/* What the host's call is made on. */
typedef struct emu_path {
    int dir;      /* directory of `host` */
    int at_flags; /* AT_SYMLINK_NOFOLLOW and AT_EMPTY_PATH as the call must be given them */
    int held;     /* path.c's own */
    uint8_t own;  /* enum emu_own_kind: what own.c makes of it, else 0 */
    uint32_t number;
    pid_t pid;    /* of /proc/<pid>, where it is another process's; else 0 */
    char host[PATH_MAX];
} emu_path;

/*
 * Looks up the guest's `path` from its directory `dir` (AT_FDCWD: the working
 * directory).  0, and emu_path_done when the call has been made; or -errno.
 * Confined, an object exists when this returns 0; in an overlay the host's call
 * finds out.
 */
int emu_path_find(emu_process *process, int dir, const char *path, unsigned flags, emu_path *out);
/* The same with the path read from guest memory; also -EFAULT. */
int emu_path_read(emu_process *process, int dir, uint64_t addr, unsigned flags, emu_path *out);
void emu_path_done(emu_path *path);
/* openat2, with the host's flags.  As a system call that may sleep. */
int64_t emu_path_open(emu_thread *thread, int dir, const char *path, const struct open_how *how);

/* The host's name of what a descriptor is of.  0 or -errno. */
int emu_path_host_name(int fd, char out[PATH_MAX]);
/* A host path as the guest names it (getcwd, readlink of descriptors). */
void emu_path_guest(const emu_process *process, const char *host, char out[PATH_MAX]);
/* Confined: the guest's name of a directory, absolute.  0; -ENOENT where it is not in the root; -errno. */
int emu_path_position(emu_process *process, int dir, char out[PATH_MAX]);
/* Confined: the same of what a link of the host's leads to; the root where it is not in that. */
int emu_path_beside(emu_process *process, const char *link, char out[PATH_MAX]);
/* It is a program that this process or one of its kin runs, and nobody may write to. */
bool emu_path_busy(const emu_process *process, const emu_path *path);
/* Confined, and what the descriptor is of has a name outside the root: inherited, or received. */
bool emu_path_outside(emu_process *process, int fd);

/* Confines the process to a directory of the host.  0 or -errno. */
int emu_root_open(emu_process *process, const char *directory);
/* At the program's start: the working directory is the root where it is not in it. */
int emu_root_enter(emu_process *process);
/* chroot(2). */
int emu_path_chroot(emu_process *process, const char *path);
/* The root's descriptor, which is none of the guest's; -1: not confined. */
int emu_root_fd(const emu_process *process);
void emu_root_close(emu_process *process);

/*
 * Around close, dup2 and dup3 of a confined guest; in between, emu_path_holds
 * tells whether the number is one that another thread's lookup uses.
 */
void emu_path_fds_lock(const emu_process *process);
void emu_path_fds_unlock(const emu_process *process);
bool emu_path_holds(int fd);
/* The lowest such number from `first` on, else UINT64_MAX. */
uint64_t emu_path_held_from(uint64_t first);
/* Around fork. */
void emu_path_fork_begin(void);
void emu_path_fork_end(bool child);

#endif
