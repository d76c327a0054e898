/*
 * Virtio over MMIO (virtio 1.2, section 4.2): version 2, and the legacy version
 * 1 (4.2.4), whose queues are one piece of memory given by a page's number.
 *
 * Registers are 32 bits wide; other widths read 0 and write nothing.  A write of
 * QueueNotify is a doorbell of the region and does not come here; only who
 * writes it with another width does, and is ignored.
 */
#include "virtio.h"

#include <stdlib.h>
#include <string.h>

enum reg {
    MAGIC_VALUE = 0x000,
    VERSION = 0x004,
    DEVICE_ID = 0x008,
    VENDOR_ID = 0x00c,
    DEVICE_FEATURES = 0x010,
    DEVICE_FEATURES_SEL = 0x014,
    DRIVER_FEATURES = 0x020,
    DRIVER_FEATURES_SEL = 0x024,
    GUEST_PAGE_SIZE = 0x028, /* legacy */
    QUEUE_SEL = 0x030,
    QUEUE_NUM_MAX = 0x034,
    QUEUE_NUM = 0x038,
    QUEUE_ALIGN = 0x03c, /* legacy */
    QUEUE_PFN = 0x040,   /* legacy */
    QUEUE_READY = 0x044,
    QUEUE_NOTIFY = 0x050,
    INTERRUPT_STATUS = 0x060,
    INTERRUPT_ACK = 0x064,
    STATUS = 0x070,
    QUEUE_DESC_LOW = 0x080,
    QUEUE_DESC_HIGH = 0x084,
    QUEUE_DRIVER_LOW = 0x090,
    QUEUE_DRIVER_HIGH = 0x094,
    QUEUE_DEVICE_LOW = 0x0a0,
    QUEUE_DEVICE_HIGH = 0x0a4,
    SHM_LEN_LOW = 0x0b0,
    SHM_LEN_HIGH = 0x0b4,
    SHM_BASE_LOW = 0x0b8,
    SHM_BASE_HIGH = 0x0bc,
    CONFIG_GENERATION = 0x0fc,
    CONFIG = 0x100,
};

#define MAGIC 0x74726976u  /* "virt" */
#define VENDOR 0x20554d45u /* "EMU " */

struct emu_virtio_mmio {
    emu_virtio *device;
    emu_irq *irq;
    bool legacy;
    /* Selectors are one word each; a guest whose CPUs race for them gets what it asked for. */
    _Atomic uint32_t device_features_sel, driver_features_sel, queue_sel, page_size;
    _Atomic uint32_t align[EMU_VIRTIO_QUEUES];
};

/* With `line` held. */
static void update(emu_virtio *device, int what)
{
    emu_virtio_mmio *mmio = device->transport;
    emu_irq_set(mmio->irq, device->causes != 0);
}

emu_virtio_mmio *emu_virtio_mmio_new(emu_virtio *device, emu_irq *irq, int legacy)
{
    emu_virtio_mmio *mmio = calloc(1, sizeof *mmio);
    if (mmio == NULL)
        return NULL;
    mmio->device = device;
    mmio->irq = irq;
    mmio->legacy = legacy != 0;
    device->transport = mmio;
    device->tell = update;
    emu_virtio_mmio_reset(mmio);
    return mmio;
}

void emu_virtio_mmio_free(emu_virtio_mmio *mmio) { free(mmio); }

static void reset_selectors(emu_virtio_mmio *mmio)
{
    mmio->device_features_sel = mmio->driver_features_sel = mmio->queue_sel = 0;
    mmio->page_size = 4096;
    for (uint32_t i = 0; i < EMU_VIRTIO_QUEUES; i++)
        mmio->align[i] = 4096;
}

void emu_virtio_mmio_reset(emu_virtio_mmio *mmio)
{
    reset_selectors(mmio);
    emu_virtio_reset(mmio->device);
}

static uint32_t half(uint64_t word, uint32_t sel) { return sel > 1 ? 0 : (uint32_t)(word >> (32 * sel)); }

static emu_vq *selected(emu_virtio_mmio *mmio)
{
    uint32_t sel = mmio->queue_sel;
    return sel < mmio->device->nqueues ? &mmio->device->queues[sel] : NULL;
}

/* What another CPU may be changing: with the device held. */
static uint32_t read_queue(emu_virtio_mmio *mmio, const emu_vq *vq, uint32_t offset)
{
    emu_virtio_hold(mmio->device);
    uint32_t most = vq->size_max, ready = vq->ready, page = (uint32_t)(vq->desc / mmio->page_size);
    emu_virtio_release(mmio->device);
    return offset == QUEUE_NUM_MAX ? most : offset == QUEUE_READY ? ready : ready ? page : 0;
}

static uint32_t read_register(emu_virtio_mmio *mmio, uint32_t offset)
{
    emu_virtio *device = mmio->device;
    emu_vq *vq = selected(mmio);
    switch (offset) {
    case MAGIC_VALUE:
        return MAGIC;
    case VERSION:
        return mmio->legacy ? 1 : 2;
    case DEVICE_ID:
        return device->type->id;
    case VENDOR_ID:
        return VENDOR;
    case DEVICE_FEATURES:
        return half(mmio->legacy ? device->offered & UINT32_MAX : device->offered, mmio->device_features_sel);
    case QUEUE_NUM_MAX:
        return vq != NULL ? read_queue(mmio, vq, offset) : 0;
    case INTERRUPT_STATUS: {
        pthread_mutex_lock(&device->line);
        uint32_t causes = device->causes;
        pthread_mutex_unlock(&device->line);
        return causes;
    }
    case STATUS:
        return atomic_load(&device->status);
    case QUEUE_PFN:
    case QUEUE_READY:
        return vq != NULL && (offset == QUEUE_PFN) == mmio->legacy ? read_queue(mmio, vq, offset) : 0;
    case SHM_LEN_LOW: /* 4.2.2: no shared memory */
    case SHM_LEN_HIGH:
    case SHM_BASE_LOW:
    case SHM_BASE_HIGH:
        return mmio->legacy ? 0 : UINT32_MAX;
    case CONFIG_GENERATION:
        return mmio->legacy ? 0 : atomic_load(&device->generation);
    default:
        return 0;
    }
}

static void acknowledge(emu_virtio *device, uint32_t bits)
{
    emu_virtio_mmio *mmio = device->transport;
    pthread_mutex_lock(&device->line);
    bool more = (device->causes & ~bits) != 0, any = (device->causes & bits) != 0;
    device->causes &= ~bits;
    if (any && more) /* an edge for what is left, if the board's interrupts are by edges */
        emu_irq_set(mmio->irq, 0);
    emu_irq_set(mmio->irq, more);
    pthread_mutex_unlock(&device->line);
}

/* Legacy: where the rings of a queue lie from its first page on (2.7.2). */
static void place(emu_virtio_mmio *mmio, emu_vq *vq, uint32_t queue, uint32_t page)
{
    uint64_t align = mmio->align[queue];
    vq->desc = (uint64_t)page * mmio->page_size;
    vq->avail = vq->desc + 16 * (uint64_t)vq->size;
    vq->used = (vq->avail + 6 + 2 * (uint64_t)vq->size + align - 1) / align * align;
}

static void set_half(uint64_t *word, bool high, uint32_t value)
{
    *word = high ? (*word & UINT32_MAX) | (uint64_t)value << 32 : (*word & ~(uint64_t)UINT32_MAX) | value;
}

/* What concerns the selected queue, with the device held. */
static void write_queue(emu_virtio_mmio *mmio, uint32_t queue, uint32_t offset, uint32_t value)
{
    emu_virtio *device = mmio->device;
    emu_vq *vq = &device->queues[queue];
    if (mmio->legacy) {
        if (offset == QUEUE_NUM && !vq->ready) {
            vq->size = value;
        } else if (offset == QUEUE_ALIGN && value >= 4 && (value & (value - 1)) == 0) {
            mmio->align[queue] = value;
        } else if (offset == QUEUE_PFN && (value != 0) != vq->ready) {
            if (value != 0)
                place(mmio, vq, queue, value);
            else
                emu_vq_reset(vq);
            emu_virtio_enable_queue(device, queue, value != 0);
        }
        return;
    }
    if (offset == QUEUE_READY && (value & 1) != vq->ready) {
        emu_virtio_enable_queue(device, queue, value & 1);
        return;
    }
    if (vq->ready) /* 4.2.2.2: not to be changed any more */
        return;
    switch (offset) {
    case QUEUE_NUM:
        vq->size = value;
        break;
    case QUEUE_DESC_LOW:
    case QUEUE_DESC_HIGH:
        set_half(&vq->desc, offset == QUEUE_DESC_HIGH, value);
        break;
    case QUEUE_DRIVER_LOW:
    case QUEUE_DRIVER_HIGH:
        set_half(&vq->avail, offset == QUEUE_DRIVER_HIGH, value);
        break;
    case QUEUE_DEVICE_LOW:
    case QUEUE_DEVICE_HIGH:
        set_half(&vq->used, offset == QUEUE_DEVICE_HIGH, value);
        break;
    default:
        break;
    }
}

static void write_features(emu_virtio_mmio *mmio, uint32_t value)
{
    emu_virtio *device = mmio->device;
    uint32_t sel = mmio->driver_features_sel;
    if (sel > 1 || (mmio->legacy && sel != 0))
        return;
    emu_virtio_hold(device);
    if (!(atomic_load(&device->status) & (EMU_VIRTIO_FEATURES_OK | EMU_VIRTIO_DRIVER_OK)))
        set_half(&device->accepted, sel == 1, value);
    emu_virtio_release(device);
}

static void write_register(emu_virtio_mmio *mmio, uint32_t offset, uint32_t value)
{
    switch (offset) {
    case DEVICE_FEATURES_SEL:
        mmio->device_features_sel = value;
        break;
    case DRIVER_FEATURES:
        write_features(mmio, value);
        break;
    case DRIVER_FEATURES_SEL:
        mmio->driver_features_sel = value;
        break;
    case GUEST_PAGE_SIZE:
        if (mmio->legacy && value != 0 && (value & (value - 1)) == 0)
            mmio->page_size = value;
        break;
    case QUEUE_SEL:
        mmio->queue_sel = value;
        break;
    case INTERRUPT_ACK:
        acknowledge(mmio->device, value);
        break;
    case STATUS:
        if ((value & 0xff) == 0)
            reset_selectors(mmio);
        emu_virtio_set_status(mmio->device, value);
        break;
    default: {
        uint32_t queue = mmio->queue_sel;
        if (queue < mmio->device->nqueues) {
            emu_virtio_hold(mmio->device);
            write_queue(mmio, queue, offset, value);
            emu_virtio_release(mmio->device);
        }
    }
    }
}

int emu_virtio_mmio_read(void *opaque, uint64_t offset, uint32_t width, uint64_t *value)
{
    emu_virtio_mmio *mmio = opaque;
    if (width == 8) { /* as two accesses */
        uint64_t low, high;
        emu_virtio_mmio_read(opaque, offset, 4, &low);
        emu_virtio_mmio_read(opaque, offset + 4, 4, &high);
        *value = high << 32 | low;
    } else if (offset >= CONFIG) {
        *value = emu_virtio_read_config(mmio->device, (uint32_t)offset - CONFIG, width);
    } else {
        *value = width == 4 ? read_register(mmio, (uint32_t)offset) : 0;
    }
    return EMU_OK;
}

int emu_virtio_mmio_write(void *opaque, uint64_t offset, uint32_t width, uint64_t value)
{
    emu_virtio_mmio *mmio = opaque;
    if (width == 8) {
        emu_virtio_mmio_write(opaque, offset, 4, value & UINT32_MAX);
        emu_virtio_mmio_write(opaque, offset + 4, 4, value >> 32);
    } else if (offset >= CONFIG) {
        emu_virtio_write_config(mmio->device, (uint32_t)offset - CONFIG, width, (uint32_t)value);
    } else if (width == 4) {
        write_register(mmio, (uint32_t)offset, (uint32_t)value);
    }
    return EMU_OK;
}

void emu_virtio_mmio_save(const emu_virtio_mmio *mmio_, emu_virtio_mmio_saved *out)
{
    emu_virtio_mmio *mmio = (emu_virtio_mmio *)mmio_;
    out->device_features_sel = mmio->device_features_sel;
    out->driver_features_sel = mmio->driver_features_sel;
    out->queue_sel = mmio->queue_sel;
    out->page_size = mmio->page_size;
    for (uint32_t i = 0; i < EMU_VIRTIO_QUEUES; i++)
        out->align[i] = mmio->align[i];
}

void emu_virtio_mmio_load(emu_virtio_mmio *mmio, const emu_virtio_mmio_saved *saved)
{
    mmio->device_features_sel = saved->device_features_sel;
    mmio->driver_features_sel = saved->driver_features_sel;
    mmio->queue_sel = saved->queue_sel;
    mmio->page_size = saved->page_size != 0 ? saved->page_size : 4096;
    for (uint32_t i = 0; i < EMU_VIRTIO_QUEUES; i++)
        mmio->align[i] = saved->align[i] >= 4 ? saved->align[i] : 4096;
}
