/*
 * x86-64 Linux user code on KVM, at CPL3 in a VM of its own.
 */
#ifndef EMU_KVM_USER_H
#define EMU_KVM_USER_H

#include "engine.h"

/* On a host that is not x86-64, open() says so. */
const emu_engine_ops *emu_kvm_user(void);

/*
 * What the engines of this process met, for diagnostics.  The counters are of
 * all engines since the start, of those that have been closed too.
 */
typedef struct emu_kvm_user_facts {
    int32_t stays_user; /* -1: not known yet; 1: SYSCALL does not enter CPL0 on this host */
    uint32_t engines;   /* opened */
    uint64_t exits;     /* returns of KVM_RUN */
    uint64_t fills;     /* page faults that the engine answered */
    uint64_t resets;    /* times all page tables were given up */
} emu_kvm_user_facts;

void emu_kvm_user_look(emu_kvm_user_facts *facts);

#endif
