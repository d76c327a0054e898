/*
 * Entropy device (virtio 1.2, section 5.4): the host's getrandom(2) into the
 * guest's buffers, at a bounded rate, so that a guest that reads without end
 * does not take a core of the host's.
 */
#include "virtio.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#define DEVICE_ID 4
#define QUEUE_SIZE 64
/* A buffer gets at most that much; the driver learns how much it was. */
#define PIECE 65536u

struct rng {
    uint64_t rate;  /* bytes for each period; 0: any */
    uint64_t period; /* ns */
    uint64_t left;  /* of this period */
    uint64_t until; /* when it ends */
    bool thirsty;   /* a chain waits for the next period */
};

static void handle(emu_virtio *device, uint32_t queue)
{
    struct rng *rng = device->own;
    emu_chain *chain = &device->chain;
    if (rng->rate != 0 && emu_now() >= rng->until) {
        rng->left = rng->rate;
        rng->until = emu_now() + rng->period;
    }
    rng->thirsty = false;
    while (!rng->thirsty && emu_virtio_next(device, queue, chain)) {
        uint64_t most = chain->in_size < PIECE ? chain->in_size : PIECE, done = 0;
        if (most == 0) {
            emu_virtio_broken(device, "a request for entropy has no room for any");
            return;
        }
        if (rng->rate != 0 && most > rng->left)
            most = rng->left;
        if (most == 0) {
            emu_vq_unpop(&device->queues[queue]);
            rng->thirsty = true;
            break;
        }
        for (int i = 0; i < chain->in_count && done < most; i++) {
            size_t n = chain->in[i].iov_len < most - done ? chain->in[i].iov_len : most - done;
            ssize_t got = getrandom(chain->in[i].iov_base, n, 0);
            if (got < 0 && errno != EINTR)
                break;
            done += got > 0 ? (uint64_t)got : 0;
            if (got != (ssize_t)n)
                break; /* parts are filled without gaps */
        }
        rng->left -= rng->rate != 0 ? done : 0;
        emu_vq_push(&device->queues[queue], chain, done);
        emu_virtio_signal(device, queue);
    }
}

static int wait_for(emu_virtio *device, struct pollfd *polls, int room, int *timeout)
{
    struct rng *rng = device->own;
    uint64_t now = emu_now();
    if (rng->thirsty && *timeout != 0)
        *timeout = now >= rng->until ? 0 : (int)((rng->until - now) / 1000000 + 1);
    return 0;
}

static void reset(emu_virtio *device)
{
    struct rng *rng = device->own;
    rng->thirsty = false;
}

static void free_own(emu_virtio *device) { free(device->own); }

static const emu_virtio_type type = {
    .id = DEVICE_ID,
    .handle = handle,
    .wait = wait_for,
    .reset = reset,
    .free = free_own,
};

emu_virtio *emu_virtio_rng_new(uint64_t rate, uint64_t period)
{
    struct rng *rng = calloc(1, sizeof *rng);
    if (rng == NULL)
        return NULL;
    emu_virtio *device = emu_virtio_new(&type, 0, 1, QUEUE_SIZE, 0);
    if (device == NULL) {
        free(rng);
        return NULL;
    }
    rng->rate = rate;
    rng->period = period;
    device->own = rng;
    return device;
}
