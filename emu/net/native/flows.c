/* TCP connections that pass by: flows.h. */
#include "flows.h"

#include <string.h>

enum { FIN = 1, SYN = 2, RST = 4, ACK = 16 };
enum { ETHERNET = 14, TCP = 20, IS_TCP = 6 };

static uint16_t load16(const uint8_t *at) { return (uint16_t)(at[0] << 8 | at[1]); }
static uint32_t load32(const uint8_t *at) { return (uint32_t)load16(at) << 16 | load16(at + 2); }

static void store16(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static void store32(uint8_t *at, uint32_t value)
{
    store16(at, value >> 16);
    store16(at + 2, value);
}

static unsigned address_bytes(const emu_flow *flow) { return flow->version == 4 ? 4 : 16; }

/* ---- what is known ----------------------------------------------------------------------- */

static bool same(const emu_flow *a, const emu_flow *b)
{
    return a->version == b->version && memcmp(a->address, b->address, sizeof a->address) == 0 &&
           memcmp(a->port, b->port, sizeof a->port) == 0;
}

static uint32_t set_of(const emu_flow *flow)
{
    uint32_t hash = 2166136261u; /* FNV-1a; who chooses ports to collide forgets connections of their own */
    const uint8_t *at = (const uint8_t *)flow->address;
    for (size_t i = 0; i < sizeof flow->address; i++)
        hash = (hash ^ at[i]) * 16777619u;
    for (size_t i = 0; i < 4; i++)
        hash = (hash ^ flow->port[i / 2][i % 2]) * 16777619u;
    return (hash ^ hash >> 16) % EMU_FLOW_SETS;
}

static emu_flow *find(emu_flows *flows, const emu_flow *like)
{
    uint32_t set = set_of(like);
    for (uint32_t way = 0; way < EMU_FLOW_WAYS; way++) {
        if (same(&flows->flow[set][way], like)) {
            flows->used[set][way] = ++flows->now;
            return &flows->flow[set][way];
        }
    }
    return NULL;
}

static emu_flow *add(emu_flows *flows, const emu_flow *like)
{
    uint32_t set = set_of(like), oldest = 0;
    for (uint32_t way = 0; way < EMU_FLOW_WAYS; way++) {
        if (flows->flow[set][way].version == 0) {
            oldest = way;
            break;
        }
        /* by age, so that the counter may wrap */
        if (flows->now - flows->used[set][way] > flows->now - flows->used[set][oldest])
            oldest = way;
    }
    flows->used[set][oldest] = ++flows->now;
    flows->flow[set][oldest] = *like;
    return &flows->flow[set][oldest];
}

/* Fills in who speaks, and finds TCP's header and the bytes behind it; NULL: this is no whole segment of TCP's. */
static const uint8_t *parse(emu_flow *flow, int from, const uint8_t *frame, size_t size, uint32_t *bytes)
{
    int to = !from;
    if (size < ETHERNET + 20)
        return NULL;
    const uint8_t *ip = frame + ETHERNET, *tcp;
    size_t room = size - ETHERNET, length, head;
    memset(flow, 0, sizeof *flow);
    if (load16(frame + 12) == 0x0800 && ip[0] >> 4 == 4) {
        head = (size_t)(ip[0] & 15) * 4;
        length = load16(ip + 2);
        if (head < 20 || ip[9] != IS_TCP || (load16(ip + 6) & 0x3fff) != 0) /* a fragment */
            return NULL;
        flow->version = 4;
        memcpy(flow->address[from], ip + 12, 4);
        memcpy(flow->address[to], ip + 16, 4);
    } else if (load16(frame + 12) == 0x86dd && ip[0] >> 4 == 6 && room >= 40) {
        head = 40;
        length = head + load16(ip + 4);
        if (ip[6] != IS_TCP)
            return NULL;
        flow->version = 6;
        memcpy(flow->address[from], ip + 8, 16);
        memcpy(flow->address[to], ip + 24, 16);
    } else {
        return NULL;
    }
    if (length > room || length < head + TCP)
        return NULL;
    tcp = ip + head;
    size_t offset = (size_t)(tcp[12] >> 4) * 4;
    if (offset < TCP || length < head + offset)
        return NULL;
    memcpy(flow->port[from], tcp, 2);
    memcpy(flow->port[to], tcp + 2, 2);
    memcpy(flow->card[to], frame, 6);
    memcpy(flow->card[from], frame + 6, 6);
    *bytes = (uint32_t)(length - head - offset);
    return tcp;
}

void emu_flows_note(emu_flows *flows, int from, const uint8_t *frame, size_t size)
{
    emu_flow like;
    uint32_t bytes = 0;
    const uint8_t *tcp = parse(&like, from, frame, size, &bytes);
    if (tcp == NULL)
        return;
    uint8_t flags = tcp[13];
    emu_flow *flow = find(flows, &like);
    if (flags & RST) {
        if (flow != NULL)
            flow->version = 0;
        return;
    }
    if (flags & SYN) {
        if (flow == NULL)
            flow = add(flows, &like);
        else if (!(flags & ACK))
            flow->known = 0; /* a new one from the same port, or the same words again */
    }
    if (flow == NULL)
        return;
    uint32_t end = load32(tcp + 4) + bytes + ((flags & SYN) != 0) + ((flags & FIN) != 0);
    if (!(flow->known & 1 << from) || (int32_t)(end - flow->next[from]) > 0)
        flow->next[from] = end;
    flow->known |= (uint8_t)(1 << from);
    memcpy(flow->card, like.card, sizeof flow->card);
}

/* ---- snapshots ------------------------------------------------------------------------------ */

size_t emu_flows_save(const emu_flows *flows, emu_flow *out)
{
    size_t count = 0;
    for (uint32_t set = 0; set < EMU_FLOW_SETS; set++) {
        for (uint32_t way = 0; way < EMU_FLOW_WAYS; way++) {
            if (flows->flow[set][way].version != 0)
                out[count++] = flows->flow[set][way];
        }
    }
    return count;
}

static uint32_t sum(uint32_t so_far, const uint8_t *at, size_t size)
{
    for (size_t i = 0; i + 1 < size; i += 2)
        so_far += load16(at + i);
    return so_far;
}

static uint16_t folded(uint32_t value)
{
    while (value >> 16)
        value = (value & 0xffff) + (value >> 16);
    return (uint16_t)~value;
}

/* The frame with which the one side would tell the other that there is no such connection. */
static size_t reset_frame(const emu_flow *flow, int to, uint8_t *frame)
{
    int from = !to;
    unsigned address = address_bytes(flow), head = flow->version == 4 ? 20 : 40;
    uint8_t *ip = frame + ETHERNET, *tcp = ip + head;
    memset(frame, 0, EMU_FLOW_RESET);
    memcpy(frame, flow->card[to], 6);
    memcpy(frame + 6, flow->card[from], 6);
    store16(frame + 12, flow->version == 4 ? 0x0800 : 0x86dd);
    if (flow->version == 4) {
        ip[0] = 0x45;
        store16(ip + 2, head + TCP);
        ip[8] = 64;
        ip[9] = IS_TCP;
        memcpy(ip + 12, flow->address[from], 4);
        memcpy(ip + 16, flow->address[to], 4);
        store16(ip + 10, folded(sum(0, ip, head)));
    } else {
        ip[0] = 0x60;
        store16(ip + 4, TCP);
        ip[6] = IS_TCP;
        ip[7] = 64;
        memcpy(ip + 8, flow->address[from], 16);
        memcpy(ip + 24, flow->address[to], 16);
    }
    memcpy(tcp, flow->port[from], 2);
    memcpy(tcp + 2, flow->port[to], 2);
    store32(tcp + 4, flow->next[from]);
    store32(tcp + 8, flow->next[to]);
    tcp[12] = TCP / 4 << 4;
    tcp[13] = RST | ACK;
    uint32_t pseudo = sum(IS_TCP + TCP, flow->address[from], address);
    store16(tcp + 16, folded(sum(sum(pseudo, flow->address[to], address), tcp, TCP)));
    return ETHERNET + head + TCP;
}

static bool agree(const emu_flow *a, const emu_flow *b)
{
    return a->known == b->known && memcmp(a->next, b->next, sizeof a->next) == 0;
}

void emu_flows_load(emu_flows *flows, const emu_flow *saved, size_t count,
                    void (*reset)(void *opaque, int to, const uint8_t *frame, size_t size), void *opaque)
{
    uint8_t frame[EMU_FLOW_RESET];
    bool kept[EMU_FLOW_SETS][EMU_FLOW_WAYS] = {{false}};
    for (size_t i = 0; i < count; i++) {
        emu_flow like = saved[i];
        if (like.version != 4 && like.version != 6)
            continue; /* a snapshot's word only */
        const emu_flow *mine = find(flows, &like);
        if (mine != NULL && agree(mine, &like)) {
            kept[(mine - flows->flow[0]) / EMU_FLOW_WAYS][(mine - flows->flow[0]) % EMU_FLOW_WAYS] = true;
            continue;
        }
        reset(opaque, EMU_FLOW_GUEST, frame, reset_frame(&like, EMU_FLOW_GUEST, frame));
    }
    for (uint32_t set = 0; set < EMU_FLOW_SETS; set++) {
        for (uint32_t way = 0; way < EMU_FLOW_WAYS; way++) {
            emu_flow *flow = &flows->flow[set][way];
            if (flow->version == 0 || kept[set][way])
                continue;
            reset(opaque, EMU_FLOW_HOST, frame, reset_frame(flow, EMU_FLOW_HOST, frame));
            flow->version = 0;
        }
    }
}
