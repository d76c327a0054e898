/*
 * TCP connections that pass between a guest and the host's end, and how far each side has come: what a snapshot must
 * remember to know, when the guest goes back to it, whether both sides still agree (RFC 9293).
 *
 * A guest that goes back has sent and seen less than the host's end knows.  Neither could tell, and they would wait
 * for each other for ever; so what does not fit is reset on both sides.
 */
#ifndef EMU_FLOWS_H
#define EMU_FLOWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Connections that are known at a time: SETS of WAYS; of more the oldest of a set is forgotten. */
#define EMU_FLOW_SETS 128u
#define EMU_FLOW_WAYS 8u
#define EMU_FLOW_RESET 74u /* bytes of a frame that resets one, at most */

enum { EMU_FLOW_GUEST = 0, EMU_FLOW_HOST = 1 };

/* As it is kept in snapshots, too. */
typedef struct emu_flow {
    uint8_t address[2][16]; /* the guest's and the other's; IPv4's in the first four bytes */
    uint8_t card[2][6];     /* Ethernet's */
    uint8_t port[2][2];
    uint32_t next[2];       /* the sequence number behind the last byte that each has sent */
    uint8_t version;        /* IP's; 0: there is no connection here */
    uint8_t known;          /* bit 0, bit 1: whether next[] is */
    uint8_t spare[2];
} emu_flow;
_Static_assert(sizeof(emu_flow) == 60, "snapshots have records of this size");

typedef struct emu_flows {
    emu_flow flow[EMU_FLOW_SETS][EMU_FLOW_WAYS];
    uint32_t used[EMU_FLOW_SETS][EMU_FLOW_WAYS];
    uint32_t now;
} emu_flows;

/* Looks at a frame that `from` has sent and the other has got. */
void emu_flows_note(emu_flows *flows, int from, const uint8_t *frame, size_t size);
/* Copies the connections to `out`, which has room for all that there can be; how many. */
size_t emu_flows_save(const emu_flows *flows, emu_flow *out);
/*
 * The guest is again what it was when these were saved.  Connections in which somebody has got something since, and
 * those that one side does not know, are forgotten, and `reset` is called with a frame for each side that does.
 */
void emu_flows_load(emu_flows *flows, const emu_flow *saved, size_t count,
                    void (*reset)(void *opaque, int to, const uint8_t *frame, size_t size), void *opaque);

#endif
