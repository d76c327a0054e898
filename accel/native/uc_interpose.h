/*
 * Three of libunicorn's own functions, replaced for user-mode engines.
 *
 * The library calls these through its PLT, so definitions in the global scope
 * win over its own.  They give what its public interface lacks: a stop that
 * arrives between two starts is not lost (cpu_exec), blocks are left only at
 * their start, never after a half-done instruction (check_exit_request), and
 * the exact address of a fault (unicorn_fill_tlb).  For engines other than
 * user mode's they pass the call on.
 */
#ifndef EMU_UC_INTERPOSE_H
#define EMU_UC_INTERPOSE_H

#include <signal.h>
#include <stdint.h>

#include <unicorn/unicorn.h>

/* What the replaced functions share with the user engine that runs on this thread. */
typedef struct uc_interposed {
    uc_engine *uc;
    volatile sig_atomic_t *kicked;
    volatile sig_atomic_t entered; /* cpu_exec came by: the functions are in place */
    uint64_t fault;                /* the address that the latest TLB fill was for */
} uc_interposed;

extern _Thread_local uc_interposed *uc_interposed_now;

/*
 * Puts this library's definitions into the global scope.  To be called before
 * libunicorn is opened; 0 or -1.
 */
int uc_interpose_offer(void);

#endif
