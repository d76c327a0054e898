/*
 * Network card (virtio 1.2, section 5.1): frames between the guest's queues and
 * an end on the host (emu/net/native/net.h), in the device's thread.
 *
 * Checksums that the guest leaves to the card are made here, at the host's speed;
 * packets larger than the network's are taken where the end takes them.
 */
#include "virtio.h"

#include "net.h"

#include <stdlib.h>
#include <string.h>

#define DEVICE_ID 1
#define QUEUE_SIZE 256
#define CONFIG_BYTES 10u

#define F_CSUM (UINT64_C(1) << 0)
#define F_GUEST_CSUM (UINT64_C(1) << 1)
#define F_MAC (UINT64_C(1) << 5)
#define F_HOST_TSO4 (UINT64_C(1) << 11)
#define F_HOST_TSO6 (UINT64_C(1) << 12)
#define F_MRG_RXBUF (UINT64_C(1) << 15)
#define F_STATUS (UINT64_C(1) << 16)
#define F_CTRL_VQ (UINT64_C(1) << 17)
#define F_CTRL_RX (UINT64_C(1) << 18)
#define F_CTRL_MAC_ADDR (UINT64_C(1) << 23)

enum { RX = 0, TX = 1, CONTROL = 2, QUEUES = 3 };
enum { MAC_AT = 0, STATUS_AT = 6, MAC_BYTES = 6, LINK_UP = 1 };
enum { HDR_NEEDS_CSUM = 1, HDR_DATA_VALID = 2, GSO_NONE = 0, GSO_TCPV4 = 1, GSO_TCPV6 = 4, GSO_ECN = 0x80 };
enum { CLASS_RX = 0, CLASS_MAC = 1, RX_LAST = 5, MAC_TABLE_SET = 0, MAC_ADDR_SET = 1, CTRL_OK = 0, CTRL_ERR = 1 };

/* 5.1.6; num_buffers is not there for legacy drivers without MRG_RXBUF. */
struct header {
    uint8_t flags, gso_type;
    uint16_t hdr_len, gso_size, csum_start, csum_offset, num_buffers;
};
_Static_assert(sizeof(struct header) == 12, "5.1.6");

/* Buffers that one frame may be spread over. */
#define SPREAD 64u

struct card {
    emu_net *net;
    uint8_t mac[MAC_BYTES]; /* what it was made with */
    bool blocked;           /* the host's end has no room for the next frame */
    bool linked;
    uint64_t frames[2], bytes[2], lost; /* received and sent, for people */
    /* A frame's buffers; not device->chain: an answer may come while the guest's own frame is being sent. */
    emu_chain first, more;
    uint8_t flat[EMU_NET_FRAME];
};

static size_t header_bytes(const emu_virtio *device)
{
    return emu_virtio_has(device, F_MRG_RXBUF | EMU_VIRTIO_F_VERSION_1) ? 12 : 10;
}

/* ---- to the guest ---------------------------------------------------------------------- */

static bool has_room(void *opaque)
{
    emu_virtio *device = opaque;
    emu_vq *vq = &device->queues[RX];
    if (!atomic_load(&device->running) || !vq->ready)
        return false;
    /* With nothing left the driver is to say when there is more. */
    if (emu_vq_waiting(vq) == 0 && !emu_vq_enable(vq))
        return false;
    return true;
}

/* Spreads a frame over buffers; false: the driver broke the rules. */
static bool put_frame(emu_virtio *device, const uint8_t *frame, size_t size)
{
    struct card *card = device->own;
    emu_vq *vq = &device->queues[RX];
    size_t head = header_bytes(device);
    struct header header = {
        .flags = card->net->trusted && emu_virtio_has(device, F_GUEST_CSUM) ? HDR_DATA_VALID : 0,
        .num_buffers = 1,
    };
    uint32_t lengths[SPREAD];
    uint16_t heads[SPREAD];
    uint32_t count = 0;
    size_t done = 0;
    do {
        emu_chain *chain = count == 0 ? &card->first : &card->more;
        int popped = count < SPREAD ? emu_vq_pop(vq, chain) : 0;
        if (popped < 0)
            return false;
        if (popped == 0 || (count != 0 && !emu_virtio_has(device, F_MRG_RXBUF)) ||
            chain->in_size <= (count == 0 ? head : 0)) {
            /* Too few buffers, or too small ones: the frame is lost, the buffers stay. */
            for (uint32_t i = 0; i < count + (popped > 0); i++)
                emu_vq_unpop(vq);
            if (count == 0 && popped > 0) { /* it would be in the way of every other */
                vq->fault = "a buffer for frames has no room for their header";
                return false;
            }
            card->lost++;
            return true;
        }
        size_t skip = count == 0 ? head : 0;
        size_t n = emu_iov_write(chain->in, chain->in_count, skip, frame + done, size - done);
        heads[count] = chain->head;
        lengths[count++] = (uint32_t)(skip + n);
        emu_chain_written(vq, chain, skip + n);
        done += n;
    } while (done < size);
    header.num_buffers = (uint16_t)count;
    emu_iov_write(card->first.in, card->first.in_count, 0, &header, head);
    for (uint32_t i = 0; i < count; i++)
        emu_vq_put(vq, i, heads[i], lengths[i]);
    emu_vq_publish(vq, count);
    card->frames[0]++;
    card->bytes[0] += size;
    return true;
}

static void deliver(void *opaque, const void *frame, size_t size)
{
    emu_virtio *device = opaque;
    struct card *card = device->own;
    if (!card->linked)
        return;
    if (!put_frame(device, frame, size))
        emu_virtio_broken(device, device->queues[RX].fault);
    else
        emu_virtio_signal(device, RX);
}

/* ---- from the guest ------------------------------------------------------------------------ */

static uint16_t load_be(const uint8_t *at) { return (uint16_t)(at[0] << 8 | at[1]); }

/* The Internet checksum (RFC 1071) of what is there, the pseudo header's sum being in its field already. */
static void fill_checksum(uint8_t *frame, size_t size, size_t start, size_t field)
{
    uint64_t sum = 0;
    size_t i = start;
    for (; i + 4 <= size; i += 4) {
        uint32_t word;
        memcpy(&word, frame + i, 4);
        sum += word; /* 32 bits at a time, in the host's order: the sum does not mind */
    }
    uint8_t rest[4] = {0};
    memcpy(rest, frame + i, size - i);
    uint32_t word;
    memcpy(&word, rest, 4);
    sum += word;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    uint16_t check = (uint16_t)~sum;
    if (check == 0)
        check = 0xffff; /* 0 means none in UDP, and the same number in TCP */
    memcpy(frame + field, &check, 2);
}

/* The frame behind the header, ready for the host; false: it is to be dropped. */
static bool take_frame(emu_virtio *device, const struct header *header, struct iovec **iov, int *count,
                       struct iovec *flat)
{
    struct card *card = device->own;
    uint64_t size = emu_iov_size(*iov, *count);
    uint8_t gso = header->gso_type & ~GSO_ECN;
    bool large = (gso == GSO_TCPV4 && emu_virtio_has(device, F_HOST_TSO4)) ||
                 (gso == GSO_TCPV6 && emu_virtio_has(device, F_HOST_TSO6));
    if (size < 14 || size > sizeof card->flat || (gso != GSO_NONE && !large))
        return false;
    if (!(header->flags & HDR_NEEDS_CSUM))
        return true;
    size_t start = header->csum_start, field = start + header->csum_offset;
    if (!emu_virtio_has(device, F_CSUM) || field + 2 > size || start > field)
        return false;
    emu_iov_read(*iov, *count, 0, card->flat, size);
    /* A packet behind a shorter frame's end (padding) is not summed: its length says where it ends. */
    size_t end = size;
    if (load_be(card->flat + 12) == 0x0800 && size >= 18) {
        size_t ip = 14 + (size_t)load_be(card->flat + 16);
        end = ip >= field + 2 && ip < size ? ip : size;
    }
    fill_checksum(card->flat, end, start, field);
    *flat = (struct iovec){card->flat, size};
    *iov = flat;
    *count = 1;
    return true;
}

static void transmit(emu_virtio *device)
{
    struct card *card = device->own;
    emu_chain *chain = &device->chain;
    size_t head = header_bytes(device);
    while (emu_virtio_next(device, TX, chain)) {
        struct header header = {0};
        struct iovec *iov = chain->out, flat;
        int count = chain->out_count;
        if (chain->out_size < head || chain->in_count != 0) {
            emu_virtio_broken(device, "a frame to send has no header, or room to be written to");
            return;
        }
        emu_iov_read(iov, count, 0, &header, head);
        emu_iov_skip(&iov, &count, head);
        if (card->linked && take_frame(device, &header, &iov, &count, &flat)) {
            uint64_t size = emu_iov_size(iov, count);
            card->blocked = !card->net->type->send(card->net, iov, count);
            if (card->blocked) {
                emu_vq_unpop(&device->queues[TX]);
                return;
            }
            card->frames[1]++;
            card->bytes[1] += size;
        } else {
            card->lost++;
        }
        emu_vq_push_head(&device->queues[TX], chain->head, 0);
        emu_virtio_signal(device, TX);
    }
}

/* ---- the control queue (5.1.6.5) --------------------------------------------------------------- */

static uint8_t command(emu_virtio *device, const uint8_t words[2], const uint8_t *data, size_t size)
{
    /* Every frame is passed on, so filters have nothing to do; what they ask for is so already. */
    if (words[0] == CLASS_RX && words[1] <= RX_LAST && emu_virtio_has(device, F_CTRL_RX))
        return size == 1 ? CTRL_OK : CTRL_ERR;
    if (words[0] == CLASS_MAC && words[1] == MAC_TABLE_SET && emu_virtio_has(device, F_CTRL_RX))
        return CTRL_OK;
    if (words[0] == CLASS_MAC && words[1] == MAC_ADDR_SET && emu_virtio_has(device, F_CTRL_MAC_ADDR)) {
        if (size != MAC_BYTES)
            return CTRL_ERR;
        emu_virtio_config_quietly(device, MAC_AT, data, MAC_BYTES);
        return CTRL_OK;
    }
    return CTRL_ERR;
}

static void control(emu_virtio *device)
{
    emu_chain *chain = &device->chain;
    while (emu_virtio_next(device, CONTROL, chain)) {
        uint8_t words[2] = {0}, data[MAC_BYTES] = {0};
        if (chain->out_size < sizeof words || chain->in_size < 1) {
            emu_virtio_broken(device, "a command for the card has no words, or no room for an answer");
            return;
        }
        emu_iov_read(chain->out, chain->out_count, 0, words, sizeof words);
        emu_iov_read(chain->out, chain->out_count, sizeof words, data, sizeof data);
        uint8_t answer = command(device, words, data, chain->out_size - sizeof words);
        emu_iov_write(chain->in, chain->in_count, 0, &answer, 1);
        emu_vq_push(&device->queues[CONTROL], chain, 1);
        emu_virtio_signal(device, CONTROL);
    }
}

/* ---- the device ----------------------------------------------------------------------------------- */

static void handle(emu_virtio *device, uint32_t queue)
{
    struct card *card = device->own;
    if (queue == TX && !card->blocked)
        transmit(device);
    else if (queue == CONTROL && emu_virtio_has(device, F_CTRL_VQ))
        control(device);
    else if (queue == RX && card->net->type->resume != NULL)
        card->net->type->resume(card->net);
}

static int wait_for(emu_virtio *device, struct pollfd *polls, int room, int *timeout)
{
    struct card *card = device->own;
    return card->net->type->wait(card->net, polls, room, timeout, card->blocked);
}

static void ready(emu_virtio *device, struct pollfd *polls, int count)
{
    struct card *card = device->own;
    card->net->type->ready(card->net, polls, count);
    card->blocked = false; /* it is tried again */
}

static void reset(emu_virtio *device)
{
    struct card *card = device->own;
    card->blocked = false;
    emu_virtio_config_quietly(device, MAC_AT, card->mac, MAC_BYTES);
    uint16_t status = card->linked ? LINK_UP : 0;
    emu_virtio_config_quietly(device, STATUS_AT, &status, sizeof status);
}

static void free_own(emu_virtio *device)
{
    struct card *card = device->own;
    emu_net_free(card->net);
    free(card);
}

static const emu_virtio_type type = {
    .id = DEVICE_ID,
    .handle = handle,
    .wait = wait_for,
    .ready = ready,
    .reset = reset,
    .free = free_own,
};

emu_virtio *emu_virtio_net_new(void *given, const uint8_t mac[6])
{
    emu_net *net = given;
    struct card *card = calloc(1, sizeof *card);
    if (card == NULL)
        return NULL;
    uint64_t features = F_CSUM | F_MAC | F_MRG_RXBUF | F_STATUS | F_CTRL_VQ | F_CTRL_RX | F_CTRL_MAC_ADDR;
    features |= net->trusted ? F_GUEST_CSUM : 0;
    features |= net->takes_large ? F_HOST_TSO4 | F_HOST_TSO6 : 0;
    emu_virtio *device = emu_virtio_new(&type, features, QUEUES, QUEUE_SIZE, CONFIG_BYTES);
    if (device == NULL) {
        free(card);
        return NULL;
    }
    card->net = net;
    card->linked = true;
    memcpy(card->mac, mac, MAC_BYTES);
    device->own = card;
    net->card = device;
    net->has_room = has_room;
    net->deliver = deliver;
    /* Legacy drivers write their address here (5.1.4.2); what others write there changes nothing for us. */
    memset(device->writable + MAC_AT, 0xff, MAC_BYTES);
    reset(device);
    return device;
}

void emu_virtio_net_link(emu_virtio *device, int up)
{
    struct card *card = device->own;
    uint16_t status = up ? LINK_UP : 0;
    emu_virtio_hold(device);
    card->linked = up != 0;
    emu_virtio_config(device, STATUS_AT, &status, sizeof status);
    emu_virtio_release(device);
}

void emu_virtio_net_count(emu_virtio *device, uint64_t out[5])
{
    struct card *card = device->own;
    emu_virtio_hold(device);
    out[0] = card->frames[0];
    out[1] = card->frames[1];
    out[2] = card->lost;
    out[3] = card->bytes[0];
    out[4] = card->bytes[1];
    emu_virtio_release(device);
}

size_t emu_virtio_net_save(emu_virtio *device, uint8_t *out, size_t room)
{
    struct card *card = device->own;
    emu_virtio_hold(device);
    size_t size = card->net->type->save != NULL ? card->net->type->save(card->net, out, room) : 0;
    emu_virtio_release(device);
    return size;
}

void emu_virtio_net_load(emu_virtio *device, const uint8_t *saved, size_t size)
{
    struct card *card = device->own;
    emu_virtio_hold(device);
    if (card->net->type->load != NULL)
        card->net->type->load(card->net, saved, size);
    emu_virtio_release(device);
}
