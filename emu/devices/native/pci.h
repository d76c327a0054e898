/*
 * What of a PCI function other threads than a vCPU's touch: its interrupts, by
 * pin and by MSI-X.  Configuration space is in Python (emu/devices/pci.py).
 */
#ifndef EMU_PCI_H
#define EMU_PCI_H

#include "core.h"

#include <stdint.h>

/* As many as there is room for before the pending bits. */
#define EMU_MSIX_VECTORS 128
#define EMU_MSIX_PENDING 0x800
#define EMU_MSIX_SIZE 0x1000

/* How a message gets to a controller; `requester` is bus << 8 | device << 3 | function. */
typedef void (*emu_msi_fn)(void *opaque, uint32_t requester, uint64_t address, uint32_t data);

/* The four interrupt wires of a bus, each of which several functions may pull. */
typedef struct emu_pci_wires emu_pci_wires;
emu_pci_wires *emu_pci_wires_new(emu_irq *a, emu_irq *b, emu_irq *c, emu_irq *d);
void emu_pci_wires_free(emu_pci_wires *wires);

typedef struct emu_pci emu_pci;

/* wire: 0 to 3; vectors: of MSI-X, 0 for none; send: NULL where the bus has no controller for messages. */
emu_pci *emu_pci_new(emu_pci_wires *wires, uint32_t wire, uint32_t vectors, emu_msi_fn send, void *opaque,
                     uint32_t requester);
void emu_pci_free(emu_pci *pci);
void emu_pci_reset(emu_pci *pci);
/* Its bus has got another number. */
void emu_pci_renumber(emu_pci *pci, uint32_t requester);
/* What the driver set in configuration space. */
void emu_pci_control(emu_pci *pci, int pin_disabled, int msix_enabled, int msix_masked);
/* The function's interrupt pin; it may be pulled while it is disabled. */
void emu_pci_pull(emu_pci *pci, int level);
int emu_pci_pulled(emu_pci *pci);
int emu_pci_has_vector(const emu_pci *pci, uint32_t vector);
/* Sends a vector's message, or remembers it while it is masked; 0: MSI-X is not enabled. */
int emu_pci_notify(emu_pci *pci, uint32_t vector);

/* The table and the pending bits (PCI Local Bus 3.0, 6.8.2), as emu_read_fn and emu_write_fn of core.h. */
int emu_pci_msix_read(void *pci, uint64_t offset, uint32_t width, uint64_t *value);
int emu_pci_msix_write(void *pci, uint64_t offset, uint32_t width, uint64_t value);

/* For snapshots. */
typedef struct emu_pci_saved {
    uint32_t table[512];
    uint64_t pending[2];
    uint32_t pulled, reserved;
} emu_pci_saved;
void emu_pci_save(emu_pci *pci, emu_pci_saved *out);
/* Before emu_pci_control. */
void emu_pci_load(emu_pci *pci, const emu_pci_saved *saved);

#endif
