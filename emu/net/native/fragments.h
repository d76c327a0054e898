/*
 * IPv4 datagrams put together from their fragments, as RFC 791 (3.2) and RFC 815 say.
 *
 * libslirp can do that, but not every build of it: where Debian 12's (4.7.0) is told of a last fragment first, it joins
 * what it does not have and the process dies.  So it never sees a fragment.
 */
#ifndef EMU_FRAGMENTS_H
#define EMU_FRAGMENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Datagrams that can be incomplete at a time; of more the oldest is lost. */
#define EMU_FRAGMENTS_HELD 4u
#define EMU_FRAGMENTS_HEAD 74u /* Ethernet's header, and IP's longest */
#define EMU_FRAGMENTS_DATA 65536u

typedef struct emu_datagram {
    bool used;
    uint8_t key[11];            /* addresses, identification, protocol */
    uint64_t since;             /* ns */
    uint32_t head;              /* bytes of the headers; 0: the first fragment is not there */
    uint32_t size, end;         /* bytes of data, 0: not known; how far data reaches */
    uint32_t blocks;            /* of 8 bytes, that are there */
    uint8_t has[EMU_FRAGMENTS_DATA / 64]; /* a bit for each */
    uint8_t bytes[EMU_FRAGMENTS_HEAD + EMU_FRAGMENTS_DATA];
} emu_datagram;

typedef struct emu_fragments {
    emu_datagram held[EMU_FRAGMENTS_HELD];
} emu_fragments;

/*
 * Takes a frame.  The answer is a whole one: the same, or, with *size changed, what a last missing fragment completed,
 * there until the next call.  NULL: it is kept, or was nonsense.  now: in ns.
 */
const uint8_t *emu_fragments_join(emu_fragments *fragments, const uint8_t *frame, size_t *size, uint64_t now);

#endif
