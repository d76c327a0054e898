/*
 * Split virtqueues (virtio 1.2, section 2.7): chains of buffers that the driver
 * makes available and the device hands back.
 *
 * The driver is hostile.  Every address is looked up in the map once and must be
 * RAM; a descriptor is copied before it is looked at; whatever breaks the rules
 * breaks the queue (emu_vq_pop gives -1), and the device needs a reset.
 */
#ifndef EMU_VIRTQUEUE_H
#define EMU_VIRTQUEUE_H

#include "core.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

/* The most descriptors of a chain, and the most entries of a queue; preadv() takes as many. */
#define EMU_CHAIN_MAX 1024u

/* A piece of RAM that was looked up before. */
typedef struct emu_ram {
    uint64_t base, size; /* size 0: none */
    uint8_t *host;
} emu_ram;

/* A chain: `out` is what the driver wrote for us, `in` is what we are to write. */
typedef struct emu_chain {
    uint16_t head;
    int out_count, in_count;
    uint64_t out_size, in_size;
    struct iovec *out, *in;                /* into iov: readable parts come first */
    struct iovec iov[EMU_CHAIN_MAX];
    uint64_t address[EMU_CHAIN_MAX];       /* of each part, as the guest has it */
} emu_chain;

typedef struct emu_vq {
    emu_space *space;
    const char *fault; /* why it is broken */

    /* what the driver said */
    uint32_t size, size_max;
    bool ready, event_idx, indirect;
    uint64_t desc, avail, used; /* addresses */

    /* the rings in host memory, found by emu_vq_start() */
    const uint8_t *desc_host;
    volatile uint16_t *avail_host; /* flags, idx, ring[size], used_event */
    volatile uint8_t *used_host;   /* flags, idx, {id, length}[size], avail_event */

    uint16_t next_avail, next_used; /* ring positions, as the ring counts */
    uint16_t signalled;             /* next_used when the driver was last told */
    emu_ram ram;
} emu_vq;

/* The host address of guest RAM [addr, addr + size), all of it in one range; NULL otherwise. */
void *emu_ram_find(emu_space *space, emu_ram *cache, uint64_t addr, uint64_t size);

/* Back to the state after reset, keeping space and size_max. */
void emu_vq_reset(emu_vq *vq);
/* Looks the rings up.  false: one is not in RAM or not aligned; vq->fault says which. */
bool emu_vq_start(emu_vq *vq);

/* The next chain: 1; nothing there: 0; the driver broke the rules: -1 with vq->fault set. */
int emu_vq_pop(emu_vq *vq, emu_chain *chain);
/* How many chains wait; more than the queue holds is what emu_vq_pop will complain about. */
uint32_t emu_vq_waiting(const emu_vq *vq);
/* Takes back the last emu_vq_pop: the chain is still the driver's. */
void emu_vq_unpop(emu_vq *vq);
/* Hands a chain back, with `length` bytes written at the start of `in`. */
void emu_vq_push(emu_vq *vq, const emu_chain *chain, uint64_t length);
/* The same for a chain whose written bytes were told to the map already. */
void emu_vq_push_head(emu_vq *vq, uint16_t head, uint32_t length);
/* Several at once, which the driver must not see one by one: puts the ith, then publishes all. */
void emu_vq_put(emu_vq *vq, uint32_t i, uint16_t head, uint32_t length);
void emu_vq_publish(emu_vq *vq, uint32_t count);
/* Tells the map that the first `length` bytes of `in` were written. */
void emu_chain_written(const emu_vq *vq, const emu_chain *chain, uint64_t length);

/* Whether the driver wants an interrupt for what was pushed since it last got one. */
bool emu_vq_should_signal(emu_vq *vq);
/* Asks the driver for notifications; true if chains came meanwhile, so that nothing is missed. */
bool emu_vq_enable(emu_vq *vq);
/* No notifications wanted for now: the device is looking anyway. */
void emu_vq_disable(emu_vq *vq);

/* Copies between iovecs and memory, from byte `offset` of the iovecs on; returns how much fitted. */
size_t emu_iov_read(const struct iovec *iov, int count, uint64_t offset, void *data, size_t size);
size_t emu_iov_write(const struct iovec *iov, int count, uint64_t offset, const void *data, size_t size);
/* Drops `size` bytes at the start (at the end) of *iov; false when there are not so many. */
bool emu_iov_skip(struct iovec **iov, int *count, uint64_t size);
bool emu_iov_cut(struct iovec *iov, int *count, uint64_t size);
uint64_t emu_iov_size(const struct iovec *iov, int count);

#endif
