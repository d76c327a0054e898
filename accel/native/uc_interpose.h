/*
 * Some of the functions that libunicorn calls, replaced for user-mode engines.
 *
 * They give what its public interface lacks: a stop that arrives between two
 * starts is not lost (cpu_exec), blocks are left only at their start, never
 * behind a half-done instruction (check_exit_request), the exact address of a
 * fault is known (unicorn_fill_tlb), encodings that its translator takes for
 * impossible do not end the process (abort), and the TLB is looked through only
 * for code that can be written (tlb_reset_dirty_by_vaddr).  Calls for other
 * engines are passed on.
 */
#ifndef EMU_UC_INTERPOSE_H
#define EMU_UC_INTERPOSE_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include <unicorn/unicorn.h>

/* What the replacements share with the user engine that runs on this thread. */
typedef struct uc_interposed {
    uc_engine *uc;
    volatile sig_atomic_t *kicked;
    volatile sig_atomic_t entered; /* cpu_exec came by */
    uint64_t fault;                /* the address that the latest TLB fill was for */
    void *cpu;                     /* the library's CPUState */
    volatile sig_atomic_t aborted; /* the library met code that it has no answer to, and wanted to abort() */
    void (*loop_exit)(void *cpu);  /* its cpu_loop_exit */
    bool (*writable)(void *opaque, uint64_t addr); /* the guest may write to that page */
    void *opaque;
    void (*translated)(void *owner, uint64_t addr, uint32_t size); /* a block; NULL: nobody wants to know */
    void *owner;
    bool serial;                   /* atomic instructions are no longer atomic on the host (uc_atomic.c) */
} uc_interposed;

extern _Thread_local uc_interposed *uc_interposed_now __attribute__((tls_model("initial-exec")));

/* Puts the replacements in place, once; before the first uc_open.  0, or -1 where it cannot be. */
int uc_interpose(void);

#endif
