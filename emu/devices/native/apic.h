/*
 * The PC's advanced interrupt controllers: a local APIC for each CPU, and one
 * I/O APIC of 24 inputs.  apic.c has the local ones, apic_io.c the other.
 *
 * Sources: Intel 64 and IA-32 Architectures Software Developer's Manual, volume
 * 3A, chapter "Advanced Programmable Interrupt Controller (APIC)"; 82093AA I/O
 * Advanced Programmable Interrupt Controller data sheet (290566).
 *
 * Any thread may call; one lock guards it all, and is held while an output
 * changes: an output's end calls no device.
 *
 * Where the host's kernel has the local APICs (KVM's "split" controllers), the
 * I/O APIC sends there, and the local ones here are as after reset: they only
 * let the older controllers through.
 */
#ifndef EMU_APIC_H
#define EMU_APIC_H

#include "core.h"

#include <stdint.h>

#define EMU_APIC_CPUS 16
#define EMU_APIC_INPUTS 24
/* The timer counts at this rate before its divider, unless the state says otherwise; CPUID's leaf 15h says so (CRYSTAL_HZ, accel/native/uc_x86.c). */
#define EMU_APIC_HZ 10000000

/* Local vector table, in the order of the registers. */
enum emu_apic_entry {
    EMU_APIC_TIMER,
    EMU_APIC_THERMAL,
    EMU_APIC_PERFORMANCE,
    EMU_APIC_LINT0,
    EMU_APIC_LINT1,
    EMU_APIC_ERROR,
    EMU_APIC_ENTRIES,
};

typedef struct emu_apic_local {
    uint32_t id;          /* as the register has it, in the top byte */
    uint32_t priority;    /* TPR */
    uint32_t destination; /* LDR */
    uint32_t format;      /* DFR */
    uint32_t spurious;    /* SVR */
    uint32_t errors, errors_read; /* ESR: noted, and what the last write made readable */
    uint32_t command[2];  /* ICR */
    uint32_t entry[EMU_APIC_ENTRIES];
    uint32_t initial, divide;
    uint32_t off, reserved; /* by the CPU's APIC base register */
    uint32_t service[8];  /* ISR, TMR, IRR: a bit for each vector */
    uint32_t level[8];
    uint32_t request[8];
    uint64_t left;        /* of the timer, ns until it fires; 0: stopped.  In what save() gives only */
} emu_apic_local;

typedef struct emu_apic_io {
    uint64_t entry[EMU_APIC_INPUTS];
    uint32_t select, id;
    uint32_t levels; /* of the wires */
    uint32_t edges;  /* risen and not delivered yet */
} emu_apic_io;

/* What a snapshot holds. */
typedef struct emu_apic_state {
    emu_apic_local local[EMU_APIC_CPUS];
    emu_apic_io io;
    uint32_t external; /* the older controllers' vector + 1; 0 for none */
    uint32_t hz;       /* what the timers count, before their dividers */
} emu_apic_state;

typedef struct emu_apic emu_apic;

/* cpus: 1 to 16.  NULL: no memory, or absurd. */
emu_apic *emu_apic_new(uint32_t cpus);
void emu_apic_free(emu_apic *apic);
/* As after power-on; wires keep their levels. */
void emu_apic_reset(emu_apic *apic);

/* What an output tells its CPU, by number. */
enum emu_apic_line {
    EMU_APIC_INTR,    /* the vector + 1, or 0 for none any more; a vector of the older controllers has bit 8 set */
    EMU_APIC_NMI,
    EMU_APIC_INIT,
    EMU_APIC_START,   /* a start-up interrupt's vector */
    EMU_APIC_PRIORITY, /* the task priority, 0 to 255 */
};
/* Where those go.  NULL disconnects. */
void emu_apic_output(emu_apic *apic, uint32_t cpu, emu_irq_fn output, void *opaque);
/*
 * emu_irq_fns: what CPU `number` tells.  It takes `vector`, as output told it, bit 8 included; its CR8 is
 * `priority` now; its APIC base register has the local APIC switched on or off.
 */
void emu_apic_accepted(void *apic, uint32_t number, int vector);
void emu_apic_prioritized(void *apic, uint32_t number, int priority);
void emu_apic_enabled(void *apic, uint32_t number, int on);
/* The older controllers' INTR: their vector + 1, or 0; and who hears that the CPU took theirs. */
void emu_apic_external(emu_apic *apic, uint32_t vector);
void emu_apic_acknowledge(emu_apic *apic, emu_irq_fn acknowledge, void *opaque);
/* An emu_irq_fn: an input of the I/O APIC. */
void emu_apic_input(void *apic, uint32_t number, int level);
/* A message-signalled interrupt, a write of `data` to `address`; an emu_msi_fn of pci.h. */
void emu_apic_message(void *apic, uint32_t requester, uint64_t address, uint32_t data);
/*
 * Has the local APICs elsewhere: `send` takes devices' messages and the I/O APIC's, `route` what an input
 * would send from now on, before it sends it (data 0: nothing).  Both are called with the lock held.  NULL for
 * `route`: the I/O APIC is elsewhere, too; for both: here.
 */
typedef void (*emu_apic_send_fn)(void *opaque, uint64_t address, uint32_t data);
typedef void (*emu_apic_route_fn)(void *opaque, uint32_t input, uint64_t address, uint32_t data);
void emu_apic_elsewhere(emu_apic *apic, emu_apic_send_fn send, emu_apic_route_fn route, void *opaque);
/* An emu_irq_fn: a local APIC elsewhere saw the end of a level-triggered interrupt. */
void emu_apic_ended(void *apic, uint32_t number, int vector);

/* The state as it is, and back; outputs follow. */
void emu_apic_save(emu_apic *apic, emu_apic_state *out);
void emu_apic_load(emu_apic *apic, const emu_apic_state *state);

/* Registers in memory: emu_read_fn and emu_write_fn, opaque the emu_apic.  The local ones are emu_cpu()'s. */
int emu_apic_read_local(void *apic, uint64_t offset, uint32_t width, uint64_t *value);
int emu_apic_write_local(void *apic, uint64_t offset, uint32_t width, uint64_t value);
int emu_apic_read_io(void *apic, uint64_t offset, uint32_t width, uint64_t *value);
int emu_apic_write_io(void *apic, uint64_t offset, uint32_t width, uint64_t value);

#endif
