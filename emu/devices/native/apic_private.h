/* What apic.c and apic_io.c share. */
#ifndef EMU_APIC_PRIVATE_H
#define EMU_APIC_PRIVATE_H

#include "apic.h"

#include <pthread.h>
#include <stdbool.h>

/* Delivery modes, of the local vector table, the interrupt command and the I/O APIC's entries alike. */
enum {
    APIC_FIXED = 0,
    APIC_LOWEST = 1,
    APIC_NMI = 4,
    APIC_INIT = 5,
    APIC_STARTUP = 6,
    APIC_EXTERNAL = 7,
};
#define APIC_MASKED (1u << 16)

struct apic_cpu {
    emu_irq_fn output;
    void *opaque;
    uint64_t offered;  /* what output was told; UINT64_MAX: it is to be told again */
    uint64_t deadline; /* of the timer, emu_now(); 0: stopped */
};

struct emu_apic {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t thread;
    bool running, end;
    uint32_t cpus;
    struct apic_cpu cpu[EMU_APIC_CPUS];
    emu_irq_fn acknowledge;
    void *acknowledge_opaque;
    emu_apic_send_fn send;
    emu_apic_route_fn route;
    void *elsewhere;
    emu_apic_state state;
};

/* All with the lock held. */
void apic_send(emu_apic *apic, uint32_t destination, bool logical, uint32_t mode, uint32_t vector, bool level);
void apic_update(emu_apic *apic, uint32_t cpu);
void apic_io_reset(emu_apic *apic);
void apic_io_end(emu_apic *apic, uint32_t vector);
void apic_io_serve(emu_apic *apic);
/* Tells where messages go what each input would send. */
void apic_io_route(emu_apic *apic);

#endif
