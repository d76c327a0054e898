/*
 * What all virtio devices share (virtio 1.2, chapter 2): features, status,
 * queues, configuration space, and the thread in which a device works.
 *
 * A kind of device is an emu_virtio_type; a transport (virtio_mmio.c) reads and
 * writes the same emu_virtio.  Kinds know nothing of transports.
 *
 * Threads: transports are called by vCPUs.  Everything of a type runs in the
 * device's own thread or with the thread held off, always under `work`, so a
 * type needs no lock.  Lock order: work, then line; below line those of
 * interrupt controllers.
 */
#ifndef EMU_VIRTIO_H
#define EMU_VIRTIO_H

#include "virtio_python.h"
#include "virtqueue.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

#define EMU_VIRTIO_QUEUES 64u
#define EMU_VIRTIO_CONFIG 256u
#define EMU_VIRTIO_POLLS 1024u

enum emu_virtio_status {
    EMU_VIRTIO_DRIVER_OK = 4,
    EMU_VIRTIO_FEATURES_OK = 8,
    EMU_VIRTIO_NEEDS_RESET = 64,
};

/* Features of every device (6). */
#define EMU_VIRTIO_F_INDIRECT_DESC (UINT64_C(1) << 28)
#define EMU_VIRTIO_F_EVENT_IDX (UINT64_C(1) << 29)
#define EMU_VIRTIO_F_VERSION_1 (UINT64_C(1) << 32)

enum emu_virtio_cause { EMU_VIRTIO_USED = 1, EMU_VIRTIO_CONFIG_CHANGED = 2 };

/* What a transport is told instead of a queue's number. */
enum emu_virtio_told { EMU_VIRTIO_TELL_CONFIG = -1, EMU_VIRTIO_TELL_RESET = -2 };

/* A kind of device.  What is NULL has nothing to do. */
typedef struct emu_virtio_type {
    uint32_t id; /* 5 */
    /* DRIVER_OK: features are known, queues can be used. */
    void (*start)(emu_virtio *device);
    /* Chains may wait in a queue: serve it, until emu_virtio_next() has no more. */
    void (*handle)(emu_virtio *device, uint32_t queue);
    /* Back to the state after power-on; the thread is not in the device. */
    void (*reset)(emu_virtio *device);
    /* The driver wrote configuration bytes; they are in device->config already, where `writable` lets them. */
    void (*config_written)(emu_virtio *device, uint32_t offset, uint32_t size);
    /*
     * Adds what is to be waited for besides the queues, and lowers *timeout (ms, -1: none).  The answer is
     * how many entries.  `ready` is called after the wait, with the entries as poll() left them.
     */
    int (*wait)(emu_virtio *device, struct pollfd *polls, int room, int *timeout);
    void (*ready)(emu_virtio *device, struct pollfd *polls, int count);
    /* Frees `own` and what it holds. */
    void (*free)(emu_virtio *device);
} emu_virtio_type;

struct emu_virtio {
    const emu_virtio_type *type;
    void *own; /* the type's */
    emu_space *space;

    uint64_t offered, features; /* what the device has; what both have agreed on */
    uint64_t accepted;          /* what the driver wrote, until FEATURES_OK */
    _Atomic uint32_t status;
    char fault[128]; /* why it needs a reset; "" if it does not */

    uint32_t nqueues;
    emu_vq queues[EMU_VIRTIO_QUEUES];

    uint8_t config[EMU_VIRTIO_CONFIG];
    uint8_t writable[EMU_VIRTIO_CONFIG]; /* masks of what the driver may change */
    uint32_t config_size;
    _Atomic uint32_t generation;

    /* interrupts: `tell` is the transport's, and is called with `line` held */
    pthread_mutex_t line;
    uint32_t causes; /* enum emu_virtio_cause, for transports with a status register */
    void (*tell)(emu_virtio *device, int queue); /* or an enum emu_virtio_told */
    void *transport;

    /* the thread */
    pthread_mutex_t work;
    pthread_cond_t go;
    pthread_t thread;
    bool has_thread;
    int bell;             /* the eventfd of all queues' notifications */
    _Atomic int wanted;   /* somebody waits for `work`: a type stops between two chains */
    _Atomic bool running; /* DRIVER_OK, and not broken */
    bool parked, quit;
    bool again;      /* a type stopped because of `wanted`, with work left */
    emu_chain chain; /* for types that serve one chain at a time */
};

/* NULL: no memory or no descriptors.  queue_size: a power of two up to EMU_CHAIN_MAX. */
emu_virtio *emu_virtio_new(const emu_virtio_type *type, uint64_t features, uint32_t nqueues, uint32_t queue_size,
                           uint32_t config_size);

/* ---- for types, under `work` ---------------------------------------------------- */

/*
 * The next chain of a queue; false: none, or the device is to stop for now, or
 * it broke.  Asks for notifications before it says that there is none.
 */
bool emu_virtio_next(emu_virtio *device, uint32_t queue, emu_chain *chain);
/* Interrupts the driver if it wants to know of what was pushed. */
void emu_virtio_signal(emu_virtio *device, uint32_t queue);
/* The driver broke the rules: NEEDS_RESET (2.1.1), and nothing more is done. */
void emu_virtio_broken(emu_virtio *device, const char *why);
/* Changes configuration bytes and tells the driver, if it is there. */
void emu_virtio_config(emu_virtio *device, uint32_t offset, const void *data, uint32_t size);
/* The same, telling nobody: what the driver itself asked for, and what a reset brings.  (Bytes are read by any CPU.) */
void emu_virtio_config_quietly(emu_virtio *device, uint32_t offset, const void *data, uint32_t size);
bool emu_virtio_has(const emu_virtio *device, uint64_t feature);
/* Whether a queue can be used: the driver made it ready. */
bool emu_virtio_queue_ready(const emu_virtio *device, uint32_t queue);

/* ---- for transports ----------------------------------------------------------------- */

/* Makes a queue that the driver set up usable, or unusable; under `work`. */
void emu_virtio_enable_queue(emu_virtio *device, uint32_t queue, bool ready);
/* A write of the status register (2.1); 0 resets. */
void emu_virtio_set_status(emu_virtio *device, uint32_t status);
uint32_t emu_virtio_read_config(emu_virtio *device, uint32_t offset, uint32_t width);
void emu_virtio_write_config(emu_virtio *device, uint32_t offset, uint32_t width, uint32_t value);

#endif
