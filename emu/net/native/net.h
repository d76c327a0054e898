/*
 * The host's end of a network card: what frames of a guest go to and come from.
 *
 * A kind of end is an emu_net_type; a card (emu/virtio/native/virtio_net.c) holds
 * an emu_net and calls it in one thread at a time.  A frame is Ethernet's, from
 * the destination address on, without its check sequence.
 *
 * Back pressure goes both ways: send() says no and is asked again after ready();
 * an end takes frames from the host only while the card has room, and gives each
 * to the card at once.
 */
#ifndef EMU_NET_H
#define EMU_NET_H

#include "net_python.h"

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/* The longest frame: what one IP packet can be, and its Ethernet header with a VLAN tag. */
#define EMU_NET_FRAME 65553u

typedef struct emu_net_type {
    /* Takes a frame (or drops it for good); false: there is no room for it now. */
    bool (*send)(emu_net *net, const struct iovec *iov, int count);
    /* The card has room for frames that were held back. */
    void (*resume)(emu_net *net);
    /* Adds what is to be waited for, lowers *timeout (ms, -1: none); blocked: send() said no. */
    int (*wait)(emu_net *net, struct pollfd *polls, int room, int *timeout, bool blocked);
    void (*ready)(emu_net *net, struct pollfd *polls, int count);
    /* What a snapshot of the guest must remember of this end: at most `room` bytes; how many.  NULL: nothing. */
    size_t (*save)(emu_net *net, uint8_t *out, size_t room);
    /* The guest is again what it was when that was saved. */
    void (*load)(emu_net *net, const uint8_t *saved, size_t size);
    void (*free)(emu_net *net);
} emu_net_type;

struct emu_net {
    const emu_net_type *type;
    void *own;
    /* Its packets may be larger than the network's: TCP segments that are not cut (TSO). */
    bool takes_large;
    /* Checksums in frames to the guest are right: nothing lies between us and who made them. */
    bool trusted;

    /* the card's */
    void *card;
    bool (*has_room)(void *card);
    void (*deliver)(void *card, const void *frame, size_t size);
};

emu_net *emu_net_new(const emu_net_type *type, void *own);

#endif
