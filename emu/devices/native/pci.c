/*
 * Interrupts of PCI functions.  Sources: PCI Local Bus Specification 3.0, 2.2.6
 * (pins), 6.2.2 (Interrupt Disable) and 6.8.2 (MSI-X).
 *
 * Lock order: a function, then its bus' wires; then those of controllers.
 */
#include "pci.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct emu_pci_wires {
    pthread_mutex_t lock;
    emu_irq *out[4];
    uint32_t pulls[4]; /* how many functions pull each */
};

enum { ADDRESS_LOW, ADDRESS_HIGH, DATA, CONTROL, ENTRY_WORDS };
#define MASKED 1u

struct emu_pci {
    pthread_mutex_t lock;
    emu_pci_wires *wires;
    uint32_t wire;
    bool pulled, pin_disabled, effective;

    uint32_t vectors;
    bool enabled, masked;
    uint32_t table[EMU_MSIX_VECTORS * ENTRY_WORDS];
    uint64_t pending[EMU_MSIX_VECTORS / 64];
    emu_msi_fn send;
    void *opaque;
    uint32_t requester;
};

emu_pci_wires *emu_pci_wires_new(emu_irq *a, emu_irq *b, emu_irq *c, emu_irq *d)
{
    emu_pci_wires *wires = calloc(1, sizeof *wires);
    if (wires == NULL)
        return NULL;
    pthread_mutex_init(&wires->lock, NULL);
    emu_irq *out[4] = {a, b, c, d};
    memcpy(wires->out, out, sizeof out);
    return wires;
}

void emu_pci_wires_free(emu_pci_wires *wires)
{
    if (wires == NULL)
        return;
    pthread_mutex_destroy(&wires->lock);
    free(wires);
}

emu_pci *emu_pci_new(emu_pci_wires *wires, uint32_t wire, uint32_t vectors, emu_msi_fn send, void *opaque,
                     uint32_t requester)
{
    if (vectors > EMU_MSIX_VECTORS || wire > 3)
        return NULL;
    emu_pci *pci = calloc(1, sizeof *pci);
    if (pci == NULL)
        return NULL;
    pthread_mutex_init(&pci->lock, NULL);
    pci->wires = wires;
    pci->wire = wire;
    pci->vectors = vectors;
    pci->send = send;
    pci->opaque = opaque;
    pci->requester = requester;
    emu_pci_reset(pci);
    return pci;
}

void emu_pci_free(emu_pci *pci)
{
    if (pci == NULL)
        return;
    pthread_mutex_destroy(&pci->lock);
    free(pci);
}

void emu_pci_renumber(emu_pci *pci, uint32_t requester)
{
    pthread_mutex_lock(&pci->lock);
    pci->requester = requester;
    pthread_mutex_unlock(&pci->lock);
}

/* ---- the pin ------------------------------------------------------------------- */

/* With the function's lock held. */
static void update_pin(emu_pci *pci)
{
    bool level = pci->pulled && !pci->pin_disabled && !pci->enabled;
    if (level == pci->effective)
        return;
    pci->effective = level;
    emu_pci_wires *wires = pci->wires;
    pthread_mutex_lock(&wires->lock);
    wires->pulls[pci->wire] += level ? 1 : UINT32_MAX;
    emu_irq_set(wires->out[pci->wire], wires->pulls[pci->wire] != 0);
    pthread_mutex_unlock(&wires->lock);
}

void emu_pci_pull(emu_pci *pci, int level)
{
    pthread_mutex_lock(&pci->lock);
    pci->pulled = level != 0;
    update_pin(pci);
    pthread_mutex_unlock(&pci->lock);
}

int emu_pci_pulled(emu_pci *pci)
{
    pthread_mutex_lock(&pci->lock);
    int level = pci->pulled;
    pthread_mutex_unlock(&pci->lock);
    return level;
}

/* ---- MSI-X ----------------------------------------------------------------------- */

static bool is_masked(const emu_pci *pci, uint32_t vector)
{
    return pci->masked || (pci->table[vector * ENTRY_WORDS + CONTROL] & MASKED) != 0;
}

static void fire(emu_pci *pci, uint32_t vector)
{
    const uint32_t *entry = &pci->table[vector * ENTRY_WORDS];
    uint64_t address = (uint64_t)entry[ADDRESS_HIGH] << 32 | entry[ADDRESS_LOW];
    if (pci->send != NULL)
        pci->send(pci->opaque, pci->requester, address, entry[DATA]);
}

/* Sends what waited for being unmasked. */
static void flush(emu_pci *pci)
{
    if (!pci->enabled)
        return;
    for (uint32_t vector = 0; vector < pci->vectors; vector++) {
        uint64_t bit = UINT64_C(1) << vector % 64;
        if ((pci->pending[vector / 64] & bit) != 0 && !is_masked(pci, vector)) {
            pci->pending[vector / 64] &= ~bit;
            fire(pci, vector);
        }
    }
}

int emu_pci_has_vector(const emu_pci *pci, uint32_t vector) { return vector < pci->vectors; }

int emu_pci_notify(emu_pci *pci, uint32_t vector)
{
    pthread_mutex_lock(&pci->lock);
    bool enabled = pci->enabled;
    if (enabled && vector < pci->vectors) {
        if (is_masked(pci, vector))
            pci->pending[vector / 64] |= UINT64_C(1) << vector % 64;
        else
            fire(pci, vector);
    }
    pthread_mutex_unlock(&pci->lock);
    return enabled;
}

void emu_pci_control(emu_pci *pci, int pin_disabled, int msix_enabled, int msix_masked)
{
    pthread_mutex_lock(&pci->lock);
    pci->pin_disabled = pin_disabled != 0;
    pci->enabled = msix_enabled != 0;
    pci->masked = msix_masked != 0;
    update_pin(pci);
    flush(pci);
    pthread_mutex_unlock(&pci->lock);
}

void emu_pci_reset(emu_pci *pci)
{
    pthread_mutex_lock(&pci->lock);
    pci->pulled = pci->pin_disabled = pci->enabled = pci->masked = false;
    memset(pci->pending, 0, sizeof pci->pending);
    memset(pci->table, 0, sizeof pci->table);
    for (uint32_t vector = 0; vector < pci->vectors; vector++)
        pci->table[vector * ENTRY_WORDS + CONTROL] = MASKED;
    update_pin(pci);
    pthread_mutex_unlock(&pci->lock);
}

/* The 32-bit word at an offset of the table's page. */
static uint32_t word_at(const emu_pci *pci, uint64_t offset)
{
    if (offset < (uint64_t)pci->vectors * 16)
        return pci->table[offset / 4];
    if (offset >= EMU_MSIX_PENDING && offset < EMU_MSIX_PENDING + sizeof pci->pending)
        return (uint32_t)(pci->pending[(offset - EMU_MSIX_PENDING) / 8] >> 8 * (offset & 4));
    return 0;
}

int emu_pci_msix_read(void *opaque, uint64_t offset, uint32_t width, uint64_t *value)
{
    emu_pci *pci = opaque;
    pthread_mutex_lock(&pci->lock);
    uint64_t both = (uint64_t)word_at(pci, (offset & ~UINT64_C(3)) + 4) << 32 | word_at(pci, offset & ~UINT64_C(3));
    pthread_mutex_unlock(&pci->lock);
    *value = both >> 8 * (offset & 3);
    return EMU_OK;
}

/* 6.8.2: software writes whole words of 32 or 64 bits; what is narrower is dropped. */
int emu_pci_msix_write(void *opaque, uint64_t offset, uint32_t width, uint64_t value)
{
    emu_pci *pci = opaque;
    if (width < 4)
        return EMU_OK;
    pthread_mutex_lock(&pci->lock);
    for (uint32_t n = 0; n < width / 4; n++) {
        uint64_t at = offset / 4 + n;
        if (at >= (uint64_t)pci->vectors * ENTRY_WORDS)
            break;
        uint32_t word = (uint32_t)(value >> 32 * n);
        if (at % ENTRY_WORDS == ADDRESS_LOW)
            word &= ~UINT32_C(3);
        else if (at % ENTRY_WORDS == CONTROL)
            word &= MASKED;
        pci->table[at] = word;
    }
    flush(pci);
    pthread_mutex_unlock(&pci->lock);
    return EMU_OK;
}

/* ---- snapshots ---------------------------------------------------------------------- */

void emu_pci_save(emu_pci *pci, emu_pci_saved *out)
{
    memset(out, 0, sizeof *out);
    pthread_mutex_lock(&pci->lock);
    memcpy(out->table, pci->table, sizeof out->table);
    memcpy(out->pending, pci->pending, sizeof out->pending);
    out->pulled = pci->pulled;
    pthread_mutex_unlock(&pci->lock);
}

void emu_pci_load(emu_pci *pci, const emu_pci_saved *saved)
{
    emu_pci_reset(pci);
    pthread_mutex_lock(&pci->lock);
    for (uint32_t n = 0; n < pci->vectors * ENTRY_WORDS; n++)
        pci->table[n] = n % ENTRY_WORDS == CONTROL ? saved->table[n] & MASKED : saved->table[n];
    memcpy(pci->pending, saved->pending, sizeof pci->pending);
    pci->pulled = saved->pulled != 0;
    update_pin(pci);
    pthread_mutex_unlock(&pci->lock);
}
