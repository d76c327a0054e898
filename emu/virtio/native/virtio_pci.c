/*
 * Virtio over PCI (virtio 1.2, section 4.1): the structures of a modern device,
 * all in one BAR.  Its capabilities are in Python (emu/virtio/pci.py).
 *
 * Notifications are doorbells of the region and do not come here, but for those
 * of a width or place that no driver uses.
 */
#include "pci.h"
#include "virtio.h"

#include <stdlib.h>
#include <string.h>

enum reg {
    DEVICE_FEATURE_SELECT = 0x00,
    DEVICE_FEATURE = 0x04,
    DRIVER_FEATURE_SELECT = 0x08,
    DRIVER_FEATURE = 0x0c,
    CONFIG_MSIX_VECTOR = 0x10,
    NUM_QUEUES = 0x12,
    DEVICE_STATUS = 0x14,
    CONFIG_GENERATION = 0x15,
    QUEUE_SELECT = 0x16,
    QUEUE_SIZE = 0x18,
    QUEUE_MSIX_VECTOR = 0x1a,
    QUEUE_ENABLE = 0x1c,
    QUEUE_NOTIFY_OFF = 0x1e,
    QUEUE_DESC = 0x20,
    QUEUE_DRIVER = 0x28,
    QUEUE_DEVICE = 0x30,
};

#define NO_VECTOR 0xffffu

struct emu_virtio_pci {
    emu_virtio *device;
    emu_pci *pci;
    _Atomic uint32_t device_features_sel, driver_features_sel, queue_sel;
    _Atomic uint32_t config_vector, vector[EMU_VIRTIO_QUEUES];
};

uint32_t emu_virtio_id(const emu_virtio *device) { return device->type->id; }
uint32_t emu_virtio_queues(const emu_virtio *device) { return device->nqueues; }
uint32_t emu_virtio_config_size(const emu_virtio *device) { return device->config_size; }

static void reset_registers(emu_virtio_pci *transport)
{
    transport->device_features_sel = transport->driver_features_sel = transport->queue_sel = 0;
    transport->config_vector = NO_VECTOR;
    for (uint32_t i = 0; i < EMU_VIRTIO_QUEUES; i++)
        transport->vector[i] = NO_VECTOR;
}

/* With `line` held.  By messages where the driver enabled them, else by the pin and the ISR (4.1.4.5). */
static void tell(emu_virtio *device, int what)
{
    emu_virtio_pci *transport = device->transport;
    if (what == EMU_VIRTIO_TELL_RESET) {
        reset_registers(transport);
    } else {
        uint32_t vector = what >= 0 ? transport->vector[what] : transport->config_vector;
        if (emu_pci_notify(transport->pci, vector))
            device->causes = 0;
    }
    emu_pci_pull(transport->pci, device->causes != 0);
}

emu_virtio_pci *emu_virtio_pci_new(emu_virtio *device, void *pci)
{
    emu_virtio_pci *transport = calloc(1, sizeof *transport);
    if (transport == NULL)
        return NULL;
    transport->device = device;
    transport->pci = pci;
    reset_registers(transport);
    device->transport = transport;
    device->tell = tell;
    return transport;
}

void emu_virtio_pci_free(emu_virtio_pci *transport) { free(transport); }
void emu_virtio_pci_reset(emu_virtio_pci *transport) { emu_virtio_reset(transport->device); }

static uint32_t half(uint64_t word, uint32_t sel) { return sel > 1 ? 0 : (uint32_t)(word >> (32 * sel)); }

static void set_half(uint64_t *word, bool high, uint32_t value)
{
    *word = high ? (*word & UINT32_MAX) | (uint64_t)value << 32 : (*word & ~(uint64_t)UINT32_MAX) | value;
}

/* The three addresses of a queue by their registers. */
static uint64_t *ring_of(emu_vq *vq, uint32_t at)
{
    switch (at & ~7u) {
    case QUEUE_DESC:
        return &vq->desc;
    case QUEUE_DRIVER:
        return &vq->avail;
    case QUEUE_DEVICE:
        return &vq->used;
    default:
        return NULL;
    }
}

/* What another CPU may be changing: with the device held. */
static uint32_t read_queue(emu_virtio_pci *transport, emu_vq *vq, uint32_t at, uint32_t width)
{
    uint32_t value = 0;
    emu_virtio_hold(transport->device);
    uint64_t *ring = ring_of(vq, at);
    if (ring != NULL && width == 4)
        value = half(*ring, (at & 4) != 0);
    else if (at == QUEUE_SIZE && width == 2)
        value = vq->size != 0 ? vq->size : vq->size_max;
    else if (at == QUEUE_ENABLE && width == 2)
        value = vq->ready;
    emu_virtio_release(transport->device);
    return value;
}

static uint32_t read_register(emu_virtio_pci *transport, uint32_t at, uint32_t width)
{
    emu_virtio *device = transport->device;
    uint32_t queue = transport->queue_sel;
    bool exists = queue < device->nqueues;
    switch (at << 4 | width) {
    case DEVICE_FEATURE_SELECT << 4 | 4:
        return transport->device_features_sel;
    case DEVICE_FEATURE << 4 | 4:
        return half(device->offered, transport->device_features_sel);
    case DRIVER_FEATURE_SELECT << 4 | 4:
        return transport->driver_features_sel;
    case DRIVER_FEATURE << 4 | 4: {
        emu_virtio_hold(device);
        uint64_t accepted = device->accepted;
        emu_virtio_release(device);
        return half(accepted, transport->driver_features_sel);
    }
    case CONFIG_MSIX_VECTOR << 4 | 2:
        return transport->config_vector;
    case NUM_QUEUES << 4 | 2:
        return device->nqueues;
    case DEVICE_STATUS << 4 | 1:
        return atomic_load(&device->status);
    case CONFIG_GENERATION << 4 | 1:
        return atomic_load(&device->generation) & 0xff;
    case QUEUE_SELECT << 4 | 2:
        return queue;
    case QUEUE_MSIX_VECTOR << 4 | 2:
        return exists ? (uint32_t)transport->vector[queue] : NO_VECTOR;
    case QUEUE_NOTIFY_OFF << 4 | 2:
        return exists ? queue : 0;
    default:
        return exists ? read_queue(transport, &device->queues[queue], at, width) : 0;
    }
}

/* What concerns the selected queue, with the device held. */
static void write_queue(emu_virtio_pci *transport, uint32_t queue, uint32_t at, uint32_t width, uint32_t value)
{
    emu_virtio *device = transport->device;
    emu_vq *vq = &device->queues[queue];
    uint64_t *ring = ring_of(vq, at);
    if (at == QUEUE_MSIX_VECTOR && width == 2)
        transport->vector[queue] = emu_pci_has_vector(transport->pci, value) ? value : NO_VECTOR;
    else if (vq->ready)
        return; /* 4.1.4.3.2: not to be changed any more */
    else if (at == QUEUE_SIZE && width == 2)
        vq->size = value;
    else if (at == QUEUE_ENABLE && width == 2 && value == 1)
        emu_virtio_enable_queue(device, queue, true);
    else if (ring != NULL && width == 4)
        set_half(ring, (at & 4) != 0, value);
}

static void write_register(emu_virtio_pci *transport, uint32_t at, uint32_t width, uint32_t value)
{
    emu_virtio *device = transport->device;
    switch (at << 4 | width) {
    case DEVICE_FEATURE_SELECT << 4 | 4:
        transport->device_features_sel = value;
        break;
    case DRIVER_FEATURE_SELECT << 4 | 4:
        transport->driver_features_sel = value;
        break;
    case DRIVER_FEATURE << 4 | 4:
        emu_virtio_hold(device);
        if (!(atomic_load(&device->status) & (EMU_VIRTIO_FEATURES_OK | EMU_VIRTIO_DRIVER_OK)) &&
            transport->driver_features_sel <= 1)
            set_half(&device->accepted, transport->driver_features_sel == 1, value);
        emu_virtio_release(device);
        break;
    case CONFIG_MSIX_VECTOR << 4 | 2:
        transport->config_vector = emu_pci_has_vector(transport->pci, value) ? value : NO_VECTOR;
        break;
    case DEVICE_STATUS << 4 | 1:
        emu_virtio_set_status(device, value);
        break;
    case QUEUE_SELECT << 4 | 2:
        transport->queue_sel = value;
        break;
    default: {
        uint32_t queue = transport->queue_sel;
        if (queue < device->nqueues) {
            emu_virtio_hold(device);
            write_queue(transport, queue, at, width, value);
            emu_virtio_release(device);
        }
    }
    }
}

/* Reading it takes the interrupt away (4.1.4.5). */
static uint32_t read_isr(emu_virtio_pci *transport)
{
    emu_virtio *device = transport->device;
    pthread_mutex_lock(&device->line);
    uint32_t causes = device->causes;
    device->causes = 0;
    emu_pci_pull(transport->pci, 0);
    pthread_mutex_unlock(&device->line);
    return causes;
}

int emu_virtio_pci_read(void *opaque, uint64_t offset, uint32_t width, uint64_t *value)
{
    emu_virtio_pci *transport = opaque;
    uint32_t at = (uint32_t)offset & 0xfff;
    if (width == 8) { /* as two accesses */
        uint64_t low, high;
        emu_virtio_pci_read(opaque, offset, 4, &low);
        emu_virtio_pci_read(opaque, offset + 4, 4, &high);
        *value = high << 32 | low;
        return EMU_OK;
    }
    switch (offset & ~UINT64_C(0xfff)) {
    case EMU_VIRTIO_PCI_COMMON:
        *value = read_register(transport, at, width);
        break;
    case EMU_VIRTIO_PCI_ISR:
        *value = at == 0 ? read_isr(transport) : 0;
        break;
    case EMU_VIRTIO_PCI_DEVICE:
        *value = emu_virtio_read_config(transport->device, at, width);
        break;
    default:
        *value = 0;
    }
    return EMU_OK;
}

int emu_virtio_pci_write(void *opaque, uint64_t offset, uint32_t width, uint64_t value)
{
    emu_virtio_pci *transport = opaque;
    uint32_t at = (uint32_t)offset & 0xfff;
    if (width == 8) {
        emu_virtio_pci_write(opaque, offset, 4, value & UINT32_MAX);
        emu_virtio_pci_write(opaque, offset + 4, 4, value >> 32);
    } else if (offset < EMU_VIRTIO_PCI_ISR) {
        write_register(transport, at, width, (uint32_t)value);
    } else if (offset >= EMU_VIRTIO_PCI_DEVICE && offset < EMU_VIRTIO_PCI_NOTIFY) {
        emu_virtio_write_config(transport->device, at, width, (uint32_t)value);
    }
    return EMU_OK;
}

void emu_virtio_pci_save(const emu_virtio_pci *transport, emu_virtio_pci_saved *out)
{
    out->device_features_sel = transport->device_features_sel;
    out->driver_features_sel = transport->driver_features_sel;
    out->queue_sel = transport->queue_sel;
    out->config_vector = transport->config_vector;
    for (uint32_t i = 0; i < EMU_VIRTIO_QUEUES; i++)
        out->vector[i] = transport->vector[i];
}

void emu_virtio_pci_load(emu_virtio_pci *transport, const emu_virtio_pci_saved *saved)
{
    transport->device_features_sel = saved->device_features_sel;
    transport->driver_features_sel = saved->driver_features_sel;
    transport->queue_sel = saved->queue_sel;
    transport->config_vector = saved->config_vector;
    for (uint32_t i = 0; i < EMU_VIRTIO_QUEUES; i++)
        transport->vector[i] = saved->vector[i];
}
