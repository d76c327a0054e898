/* Instructions of a guest, done by the host's own CPU on the guest's registers and memory. */
#ifndef EMU_CROSS_HOST_H
#define EMU_CROSS_HOST_H

#include "cross.h"

enum emu_host_result {
    EMU_HOST_DONE,   /* state and memory are as after the instruction */
    EMU_HOST_NOT,    /* not one of those; nothing has changed */
    EMU_HOST_FAULT,  /* it raises `fault`; but for flags of MXCSR nothing has changed */
    EMU_HOST_RAISED, /* a device's hook raised */
    EMU_HOST_FAILED, /* `more` did */
};

typedef struct emu_host emu_host;
typedef struct emu_host_job {
    emu_space *memory;
    emu_x86 *state;
    unsigned have, changed; /* groups of *state: present; to be written back */
    /* Makes more groups present; 0 or -errno.  Called where they are not. */
    int (*more)(void *opaque, unsigned groups);
    /* An MSR of the vCPU's; false: #GP. */
    bool (*msr)(void *opaque, uint32_t index, uint64_t *value, bool write);
    /* NULL, or has the guest's tables walked for an access, and its fault raised by a long jump. */
    void (*touch)(void *opaque, uint64_t address, bool write);
    void *opaque;
    bool stepped; /* the trap flag is set: #DB comes behind it */
    bool forgets; /* it has invalidated translations of addresses: every one may be stale */
    struct {
        uint8_t vector;
        bool has_error;
        uint32_t error;
        uint64_t address; /* for CR2 */
    } fault;
} emu_host_job;

/* One for each thread that runs a vCPU; NULL: this host does not let us. */
emu_host *emu_host_new(void);
void emu_host_free(emu_host *host);
/* EMU_X86_GENERAL and EMU_X86_SYSTEM must be present.  host may be NULL. */
enum emu_host_result emu_host_do(emu_host *host, emu_host_job *job, const uint8_t *bytes, uint32_t nbytes);

/* The instruction's bytes, at most 15, as far as they can be read; how many. */
uint32_t emu_host_fetch(emu_host_job *job, uint8_t *bytes);
/* How large an XSAVE area with those components is. */
uint32_t emu_x86_xsave_size(uint64_t xcr0);

#endif
