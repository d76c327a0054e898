/*
 * 9P transport device (virtio 1.2 reserves its number, 9; Linux' net/9p/trans_virtio.c
 * is its only description): requests come in one queue, each chain with room for
 * the answer; the configuration space holds the tag that the guest mounts by.
 */
#include "p9.h"
#include "virtio.h"

#include <stdlib.h>
#include <string.h>

#define DEVICE_ID 9
#define QUEUE_SIZE 128
#define F_MOUNT_TAG (UINT64_C(1) << 0)
#define TAG_MAX 128u

static void handle(emu_virtio *device, uint32_t queue)
{
    emu_p9 *server = device->own;
    emu_chain *chain = &device->chain;
    while (emu_virtio_next(device, queue, chain)) {
        uint64_t done = emu_p9_serve(server, chain->out, chain->out_count, chain->in, chain->in_count);
        if (done == 0) {
            emu_virtio_broken(device, "a 9P request without a header, or without room for an answer");
            return;
        }
        emu_vq_push(&device->queues[queue], chain, done);
        emu_virtio_signal(device, queue);
    }
}

static void reset(emu_virtio *device) { emu_p9_reset(device->own); }

static void free_own(emu_virtio *device) { emu_p9_free(device->own); }

static const emu_virtio_type type = {
    .id = DEVICE_ID,
    .handle = handle,
    .reset = reset,
    .free = free_own,
};

emu_virtio *emu_virtio_9p_new(int folder, int read_only, const char *tag)
{
    uint16_t length = (uint16_t)strnlen(tag, TAG_MAX);
    emu_p9 *server = emu_p9_new(folder, read_only);
    if (server == NULL)
        return NULL;
    emu_virtio *device = emu_virtio_new(&type, F_MOUNT_TAG, 1, QUEUE_SIZE, 2u + length);
    if (device == NULL) {
        emu_p9_free(server);
        return NULL;
    }
    memcpy(device->config, &length, sizeof length);
    memcpy(device->config + sizeof length, tag, length);
    device->own = server;
    return device;
}
