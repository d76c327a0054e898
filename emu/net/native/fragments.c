/* Joining IPv4 fragments; the header says why. */
#include "fragments.h"

#include <string.h>

#define ETHERNET 14u
#define IP 20u
#define IP_LONGEST 65535u
/* RFC 1122, 3.3.2, asks for a time of this order. */
#define PATIENCE UINT64_C(30000000000)

enum { ETHERTYPE = 12, LENGTH = 2, IDENTIFICATION = 4, FLAGS = 6, PROTOCOL = 9, CHECKSUM = 10, ADDRESSES = 12 };
enum { RESERVED = 0x8000, MORE = 0x2000, OFFSET = 0x1fff };

static uint32_t load(const uint8_t *at) { return (uint32_t)at[0] << 8 | at[1]; }

static void store(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

/* 0 over a header with its checksum in it. */
static uint32_t checksum(const uint8_t *header, uint32_t size)
{
    uint32_t sum = 0;
    for (uint32_t i = 0; i < size; i += 2)
        sum += load(header + i);
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return ~sum & 0xffff;
}

/* The datagram of a fragment, or room for it. */
static emu_datagram *find(emu_fragments *fragments, const uint8_t key[11], uint64_t now)
{
    emu_datagram *room = &fragments->held[0];
    for (uint32_t i = 0; i < EMU_FRAGMENTS_HELD; i++) {
        emu_datagram *one = &fragments->held[i];
        if (one->used && now - one->since > PATIENCE)
            one->used = false;
        if (one->used && memcmp(one->key, key, sizeof one->key) == 0)
            return one;
        if (room->used && (!one->used || one->since < room->since))
            room = one;
    }
    room->used = true;
    room->since = now;
    memcpy(room->key, key, sizeof room->key);
    room->head = room->size = room->end = room->blocks = 0;
    memset(room->has, 0, sizeof room->has);
    return room;
}

/* What is there stays as it came first, whatever a later fragment has in its place. */
static void put(emu_datagram *one, uint32_t at, const uint8_t *data, uint32_t size)
{
    uint8_t *to = one->bytes + EMU_FRAGMENTS_HEAD;
    for (uint32_t done = 0; done < size; done += 8) {
        uint32_t block = (at + done) / 8, n = size - done < 8 ? size - done : 8;
        if (one->has[block / 8] >> block % 8 & 1)
            continue;
        one->has[block / 8] |= (uint8_t)(1u << block % 8);
        one->blocks++;
        memcpy(to + at + done, data + done, n);
    }
    if (at + size > one->end)
        one->end = at + size;
}

const uint8_t *emu_fragments_join(emu_fragments *fragments, const uint8_t *frame, size_t *size, uint64_t now)
{
    if (*size < ETHERNET + IP || load(frame + ETHERTYPE) != 0x0800)
        return frame;
    const uint8_t *ip = frame + ETHERNET;
    const uint32_t flags = load(ip + FLAGS);
    if ((flags & (RESERVED | MORE | OFFSET)) == 0)
        return frame;
    const uint32_t header = 4u * (ip[0] & 15), length = load(ip + LENGTH), at = 8 * (flags & OFFSET);
    if ((flags & RESERVED) || ip[0] >> 4 != 4 || header < IP || length <= header || length > *size - ETHERNET ||
        checksum(ip, header) != 0)
        return NULL;
    const uint32_t data = length - header;
    const bool last = !(flags & MORE);
    if ((!last && data % 8 != 0) || at + data > IP_LONGEST - IP)
        return NULL;

    uint8_t key[11];
    memcpy(key, ip + ADDRESSES, 8);
    memcpy(key + 8, ip + IDENTIFICATION, 2);
    key[10] = ip[PROTOCOL];
    emu_datagram *one = find(fragments, key, now);
    if (last && one->size == 0)
        one->size = at + data;
    put(one, at, ip + header, data);
    if (at == 0 && one->head == 0) {
        one->head = ETHERNET + header;
        memcpy(one->bytes + EMU_FRAGMENTS_HEAD - one->head, frame, one->head);
    }
    if (one->size != 0 && (one->end > one->size || (last && one->size != at + data))) {
        one->used = false; /* it has two ends */
        return NULL;
    }
    if (one->size == 0 || one->head == 0 || one->blocks != (one->size + 7) / 8)
        return NULL;
    one->used = false;
    uint32_t whole = one->head - ETHERNET + one->size;
    if (whole > IP_LONGEST)
        return NULL;
    uint8_t *joined = one->bytes + EMU_FRAGMENTS_HEAD - one->head, *made = joined + ETHERNET;
    store(made + LENGTH, whole);
    store(made + FLAGS, 0);
    store(made + CHECKSUM, 0);
    store(made + CHECKSUM, checksum(made, one->head - ETHERNET));
    *size = ETHERNET + whole;
    return joined;
}
