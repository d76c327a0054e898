/*
 * A kind of device that somebody else serves: what concerns it is a call of one
 * function, in the device's thread or with it held off.  Devices written in
 * Python stand on it.
 */
#include "virtio.h"

#include <stdlib.h>

struct callback {
    emu_virtio_type type;
    emu_virtio_event_fn event;
    void *opaque;
    bool taken; /* device->chain holds a chain that was not given back */
};

static void call(emu_virtio *device, uint32_t event, uint32_t a, uint32_t b)
{
    struct callback *callback = device->own;
    if (callback->event(callback->opaque, event, a, b) != EMU_OK)
        emu_virtio_broken(device, "the device's function failed");
}

static void start(emu_virtio *device) { call(device, EMU_VIRTIO_EVENT_START, 0, 0); }

static void handle(emu_virtio *device, uint32_t queue) { call(device, EMU_VIRTIO_EVENT_QUEUE, queue, 0); }

static void reset(emu_virtio *device)
{
    ((struct callback *)device->own)->taken = false;
    call(device, EMU_VIRTIO_EVENT_RESET, 0, 0);
}

static void config_written(emu_virtio *device, uint32_t offset, uint32_t size)
{
    call(device, EMU_VIRTIO_EVENT_CONFIG, offset, size);
}

static void free_own(emu_virtio *device) { free(device->own); }

emu_virtio *emu_virtio_callback_new(uint32_t id, uint64_t features, uint32_t nqueues, uint32_t queue_size,
                                    uint32_t config_size, emu_virtio_event_fn event, void *opaque)
{
    if (nqueues > EMU_VIRTIO_QUEUES || config_size > EMU_VIRTIO_CONFIG || queue_size > EMU_CHAIN_MAX ||
        (queue_size & (queue_size - 1)) != 0)
        return NULL;
    struct callback *callback = calloc(1, sizeof *callback);
    if (callback == NULL)
        return NULL;
    callback->type = (emu_virtio_type){
        .id = id,
        .start = start,
        .handle = handle,
        .reset = reset,
        .config_written = config_written,
        .free = free_own,
    };
    callback->event = event;
    callback->opaque = opaque;
    emu_virtio *device = emu_virtio_new(&callback->type, features, nqueues, queue_size, config_size);
    if (device == NULL) {
        free(callback);
        return NULL;
    }
    device->own = callback;
    return device;
}

int emu_virtio_take(emu_virtio *device, uint32_t queue, uint64_t *readable, uint64_t *writable)
{
    struct callback *callback = device->own;
    callback->taken = queue < device->nqueues && device->queues[queue].ready &&
                      emu_virtio_next(device, queue, &device->chain);
    if (!callback->taken)
        return 0;
    *readable = device->chain.out_size;
    *writable = device->chain.in_size;
    return 1;
}

size_t emu_virtio_chain_read(emu_virtio *device, uint64_t offset, void *data, size_t size)
{
    const struct callback *callback = device->own;
    if (!callback->taken)
        return 0;
    return emu_iov_read(device->chain.out, device->chain.out_count, offset, data, size);
}

size_t emu_virtio_chain_write(emu_virtio *device, uint64_t offset, const void *data, size_t size)
{
    const struct callback *callback = device->own;
    if (!callback->taken)
        return 0;
    return emu_iov_write(device->chain.in, device->chain.in_count, offset, data, size);
}

void emu_virtio_give(emu_virtio *device, uint32_t queue, uint64_t length)
{
    struct callback *callback = device->own;
    if (callback->taken && queue < device->nqueues && device->queues[queue].ready) {
        emu_vq_push(&device->queues[queue], &device->chain,
                    length < device->chain.in_size ? length : device->chain.in_size);
        emu_virtio_signal(device, queue);
    }
    callback->taken = false;
}

void emu_virtio_untake(emu_virtio *device, uint32_t queue)
{
    struct callback *callback = device->own;
    if (callback->taken && queue < device->nqueues)
        emu_vq_unpop(&device->queues[queue]);
    callback->taken = false;
}

void emu_virtio_set_config(emu_virtio *device, uint32_t offset, const void *data, uint32_t size)
{
    if (offset > device->config_size || size > device->config_size - offset)
        return;
    emu_virtio_hold(device);
    emu_virtio_config(device, offset, data, size);
    emu_virtio_release(device);
}
