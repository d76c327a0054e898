/*
 * Virtio devices as Python holds them: cffi reads this file as it is.
 *
 * A device is made by its kind's function (virtio_rng.c and so on), given to
 * a transport, and freed when the machine ends.
 */
#ifndef EMU_VIRTIO_PYTHON_H
#define EMU_VIRTIO_PYTHON_H

#include "core.h"

#include <stdint.h>

typedef struct emu_virtio emu_virtio;

/* Ends the thread and frees the device. */
void emu_virtio_free(emu_virtio *device);
/* Where DMA goes; before anything runs. */
void emu_virtio_memory(emu_virtio *device, emu_space *space);
/* Power-on: as a reset by the driver. */
void emu_virtio_reset(emu_virtio *device);
/* Returns when the device's thread is at rest, and resume() lets it go on; both may be called again. */
void emu_virtio_pause(emu_virtio *device);
void emu_virtio_resume(emu_virtio *device);
/* Holds the device's thread off: until release() the device is between two chains. */
void emu_virtio_hold(emu_virtio *device);
void emu_virtio_release(emu_virtio *device);
/* Has the device's thread look at everything again. */
void emu_virtio_wake(emu_virtio *device);
/* The eventfd that a write of QueueNotify rings. */
int emu_virtio_bell(const emu_virtio *device);

/* What a snapshot keeps of every device. */
typedef struct emu_virtio_queue_saved {
    uint64_t desc, avail, used;
    uint32_t size, ready;
    uint32_t next_avail, next_used, signalled;
    uint32_t reserved;
} emu_virtio_queue_saved;

typedef struct emu_virtio_saved {
    uint64_t features, accepted;
    uint32_t status, generation, causes, queues;
    uint8_t config[256];
    emu_virtio_queue_saved queue[64];
} emu_virtio_saved;

void emu_virtio_save(emu_virtio *device, emu_virtio_saved *out);
void emu_virtio_load(emu_virtio *device, const emu_virtio_saved *saved);

/* For people: what the driver made of it. */
uint64_t emu_virtio_features(const emu_virtio *device);
uint32_t emu_virtio_status(const emu_virtio *device);
const char *emu_virtio_fault(const emu_virtio *device);

/* ---- virtio_mmio.c -------------------------------------------------------------------- */

typedef struct emu_virtio_mmio emu_virtio_mmio;

/* legacy: the register layout and rings of version 1 (virtio 1.2, section 4.2.4).  NULL: no memory. */
emu_virtio_mmio *emu_virtio_mmio_new(emu_virtio *device, emu_irq *irq, int legacy);
void emu_virtio_mmio_free(emu_virtio_mmio *mmio);
void emu_virtio_mmio_reset(emu_virtio_mmio *mmio);
int emu_virtio_mmio_read(void *mmio, uint64_t offset, uint32_t width, uint64_t *value);
int emu_virtio_mmio_write(void *mmio, uint64_t offset, uint32_t width, uint64_t value);
/* The selectors, for snapshots. */
typedef struct emu_virtio_mmio_saved {
    uint32_t device_features_sel, driver_features_sel, queue_sel, page_size, align[64];
} emu_virtio_mmio_saved;
void emu_virtio_mmio_save(const emu_virtio_mmio *mmio, emu_virtio_mmio_saved *out);
void emu_virtio_mmio_load(emu_virtio_mmio *mmio, const emu_virtio_mmio_saved *saved);

/* ---- virtio_pci.c --------------------------------------------------------------------- */

/* The four structures in the one BAR (virtio 1.2, section 4.1.4): where they are, and how long. */
#define EMU_VIRTIO_PCI_COMMON 0x0000
#define EMU_VIRTIO_PCI_ISR 0x1000
#define EMU_VIRTIO_PCI_DEVICE 0x2000
#define EMU_VIRTIO_PCI_NOTIFY 0x3000
#define EMU_VIRTIO_PCI_SIZE 0x4000
#define EMU_VIRTIO_PCI_COMMON_LENGTH 0x38

typedef struct emu_virtio_pci emu_virtio_pci;

/* pci: an emu_pci (pci.h), the function's interrupts.  NULL: no memory. */
emu_virtio_pci *emu_virtio_pci_new(emu_virtio *device, void *pci);
void emu_virtio_pci_free(emu_virtio_pci *transport);
void emu_virtio_pci_reset(emu_virtio_pci *transport);
int emu_virtio_pci_read(void *transport, uint64_t offset, uint32_t width, uint64_t *value);
int emu_virtio_pci_write(void *transport, uint64_t offset, uint32_t width, uint64_t value);
uint32_t emu_virtio_id(const emu_virtio *device);
uint32_t emu_virtio_queues(const emu_virtio *device);
uint32_t emu_virtio_config_size(const emu_virtio *device);
typedef struct emu_virtio_pci_saved {
    uint32_t device_features_sel, driver_features_sel, queue_sel, config_vector, vector[64];
} emu_virtio_pci_saved;
void emu_virtio_pci_save(const emu_virtio_pci *transport, emu_virtio_pci_saved *out);
void emu_virtio_pci_load(emu_virtio_pci *transport, const emu_virtio_pci_saved *saved);

/* ---- virtio_rng.c ----------------------------------------------------------------------- */

/* At most `rate` bytes for each `period` ns; 0: as many as it asks for. */
emu_virtio *emu_virtio_rng_new(uint64_t rate, uint64_t period);

/* ---- virtio_blk.c ----------------------------------------------------------------------- */

/* block: an emu_block (block.h), open as long as the device is; serial: of at most 20 bytes. */
emu_virtio *emu_virtio_blk_new(void *block, const char *serial);
/* The image has another size. */
void emu_virtio_blk_resized(emu_virtio *device);
/* Another image in place of the present one; between emu_virtio_hold and _release.  NULL: every request fails. */
void emu_virtio_blk_image(emu_virtio *device, void *block);
/* What was done since the device was made, by kind: read, write, flush, discard. */
typedef struct emu_virtio_blk_counts {
    uint64_t operations[4], bytes[4], time[4]; /* ns, of those that succeeded */
    uint64_t failed[4], invalid[4];            /* by the image; by the guest's own fault */
    uint64_t highest;                          /* the first byte behind the last one that was written */
} emu_virtio_blk_counts;
void emu_virtio_blk_count(const emu_virtio *device, emu_virtio_blk_counts *out);

/* ---- virtio_balloon.c ------------------------------------------------------------------- */

#define EMU_VIRTIO_BALLOON_STATS 16

typedef struct emu_virtio_balloon_state {
    uint64_t stats[16]; /* by tag (5.5.6.3.2) */
    uint32_t known;     /* which of them the guest has sent */
    uint32_t has_buffer, buffer; /* the chain that it waits for to send them again */
    uint32_t reserved;
    uint64_t updated;   /* when they came, in seconds since 1970 */
    uint64_t interval;  /* seconds between two askings; 0: never */
} emu_virtio_balloon_state;

emu_virtio *emu_virtio_balloon_new(int deflate_on_oom, int reporting);
/* How many pages of 4 KiB the guest is to give back. */
void emu_virtio_balloon_target(emu_virtio *device, uint32_t pages);
/* That, or how many it has given. */
uint32_t emu_virtio_balloon_pages(emu_virtio *device, int target);
/* Bytes that went back to the host since the device was made, reported ones included. */
uint64_t emu_virtio_balloon_freed(emu_virtio *device);
/* An eventfd that counts how often the guest has said how many it has given. */
int emu_virtio_balloon_changed(const emu_virtio *device);
void emu_virtio_balloon_interval(emu_virtio *device, uint64_t seconds);
/* Asks for statistics, once. */
void emu_virtio_balloon_ask(emu_virtio *device);
void emu_virtio_balloon_get(emu_virtio *device, emu_virtio_balloon_state *out);
void emu_virtio_balloon_set(emu_virtio *device, const emu_virtio_balloon_state *state);

/* ---- virtio_net.c ------------------------------------------------------------------------ */

/* net: an emu_net (net.h), the device's from now on. */
emu_virtio *emu_virtio_net_new(void *net, const uint8_t mac[6]);
/* Plugs the cable in, or pulls it. */
void emu_virtio_net_link(emu_virtio *device, int up);
/* Frames received, sent, and lost because the guest had no room or sent nonsense; bytes received and sent. */
void emu_virtio_net_count(emu_virtio *device, uint64_t out[5]);
/* What of the host's end a snapshot must remember: at most `room` bytes; how many. */
size_t emu_virtio_net_save(emu_virtio *device, uint8_t *out, size_t room);
void emu_virtio_net_load(emu_virtio *device, const uint8_t *saved, size_t size);

/* ---- virtio_9p.c ------------------------------------------------------------------------- */

/* Shares the folder that a descriptor is open on, which becomes the device's; tag: of at most 128 bytes. */
emu_virtio *emu_virtio_9p_new(int folder, int read_only, const char *tag);

/* ---- virtio_console.c ---------------------------------------------------------------------- */

#define EMU_VIRTIO_CONSOLE_PORTS 31
#define EMU_VIRTIO_CONSOLE_NAME 255
#define EMU_VIRTIO_CONSOLE_RING 4096

enum emu_virtio_console_event {
    EMU_VIRTIO_CONSOLE_OUTPUT = 0, /* bytes of the guest's; the answer is 1 if no more are taken, until drained() */
    EMU_VIRTIO_CONSOLE_ROOM = 1,   /* there is room where there was none */
    EMU_VIRTIO_CONSOLE_OPENED = 2, /* the guest has opened the port */
    EMU_VIRTIO_CONSOLE_CLOSED = 3, /* ... or closed it, or was reset */
};
/* A negative answer breaks the device. */
typedef int (*emu_virtio_console_fn)(void *opaque, uint32_t event, uint32_t port, const uint8_t *data, uint32_t size);

/* What a snapshot keeps of a port. */
typedef struct emu_virtio_console_port {
    uint32_t ready, open;  /* the driver knows it; somebody has it open */
    uint32_t owed;         /* messages that the driver has not got, by their numbers */
    uint32_t count;        /* bytes in the ring, from its start on */
    uint64_t sent;         /* how much of the guest's next chain went to the host already */
    uint8_t ring[4096];
} emu_virtio_console_port;

/* ports: one more than the highest number of a port; port 0 is for a console. */
emu_virtio *emu_virtio_console_new(uint32_t ports, emu_virtio_console_fn event, void *opaque);
/* Makes port `number`, and tells a driver that runs already. */
void emu_virtio_console_add(emu_virtio *device, uint32_t number, int is_console, const char *name);
/* Takes it away; nothing is told of it afterwards. */
void emu_virtio_console_remove(emu_virtio *device, uint32_t number);
/* Whether the driver takes messages about ports; heard, unless negative: makes it so, for snapshots. */
int emu_virtio_console_heard(emu_virtio *device, int heard);
/* How many bytes a port takes from the host; 0: EMU_VIRTIO_CONSOLE_ROOM will come. */
uint32_t emu_virtio_console_room(emu_virtio *device, uint32_t number);
/* Gives it some; the answer is how many it took. */
uint32_t emu_virtio_console_give(emu_virtio *device, uint32_t number, const uint8_t *data, uint32_t size);
/* The host takes output again. */
void emu_virtio_console_drained(emu_virtio *device, uint32_t number);
/* The host's end leads to somebody, or to nobody. */
void emu_virtio_console_plug(emu_virtio *device, uint32_t number, int plugged);
/* The size of the window that shows a console. */
void emu_virtio_console_resize(emu_virtio *device, uint32_t number, uint16_t columns, uint16_t rows);
void emu_virtio_console_get(emu_virtio *device, uint32_t number, emu_virtio_console_port *out);
void emu_virtio_console_set(emu_virtio *device, uint32_t number, const emu_virtio_console_port *state);

/* ---- virtio_callback.c ------------------------------------------------------------------ */

enum emu_virtio_event {
    EMU_VIRTIO_EVENT_START = 0,  /* the driver is ready */
    EMU_VIRTIO_EVENT_QUEUE = 1,  /* chains wait in queue a */
    EMU_VIRTIO_EVENT_RESET = 2,
    EMU_VIRTIO_EVENT_CONFIG = 3, /* b bytes from a on were written */
};
/* Answers EMU_OK, or another number to break the device. */
typedef int (*emu_virtio_event_fn)(void *opaque, uint32_t event, uint32_t a, uint32_t b);

emu_virtio *emu_virtio_callback_new(uint32_t id, uint64_t features, uint32_t nqueues, uint32_t queue_size,
                                    uint32_t config_size, emu_virtio_event_fn event, void *opaque);
/*
 * Takes the next chain of a queue, with the device held or from its event
 * function; 0: there is none.  One at a time: it is given back, with `length`
 * bytes written, or put back as if it had not been taken.
 */
int emu_virtio_take(emu_virtio *device, uint32_t queue, uint64_t *readable, uint64_t *writable);
size_t emu_virtio_chain_read(emu_virtio *device, uint64_t offset, void *data, size_t size);
size_t emu_virtio_chain_write(emu_virtio *device, uint64_t offset, const void *data, size_t size);
void emu_virtio_give(emu_virtio *device, uint32_t queue, uint64_t length);
void emu_virtio_untake(emu_virtio *device, uint32_t queue);
/* Changes configuration bytes and tells the driver. */
void emu_virtio_set_config(emu_virtio *device, uint32_t offset, const void *data, uint32_t size);

#endif
