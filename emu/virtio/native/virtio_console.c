/*
 * Console (virtio 1.2, section 5.3): ports that carry bytes between the guest and
 * ends on the host, one of them the classic console, others with names.
 *
 * What the guest sends goes piece by piece to one function of the host's, which
 * says when it takes no more: the guest's chain then stays where it is.  What the
 * host sends waits in a ring of fixed size, and there is no room in it for a
 * driver that is not there or has not opened the port.  So neither side's haste
 * costs memory.
 */
#include "virtio.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEVICE_ID 3
#define QUEUE_SIZE 128
#define CONFIG_BYTES 12u
#define RING EMU_VIRTIO_CONSOLE_RING
/* What goes to the host's function at once. */
#define PIECE 16384u

#define F_SIZE (UINT64_C(1) << 0)
#define F_MULTIPORT (UINT64_C(1) << 1)
#define F_EMERG_WRITE (UINT64_C(1) << 2)

enum { COLS_AT = 0, MAX_PORTS_AT = 4, EMERGENCY_AT = 8 };
enum { CONTROL_RX = 2, CONTROL_TX = 3 };

/* 5.3.6.2 */
enum event {
    DEVICE_READY = 0,
    DEVICE_ADD = 1,
    DEVICE_REMOVE = 2,
    PORT_READY = 3,
    CONSOLE_PORT = 4,
    RESIZE = 5,
    PORT_OPEN = 6,
    PORT_NAME = 7,
};
/* The device's, as they follow each other; a port owes those whose bits are set. */
static const uint8_t order[] = {DEVICE_REMOVE, DEVICE_ADD, CONSOLE_PORT, RESIZE, PORT_NAME, PORT_OPEN};

struct control {
    uint32_t id;
    uint16_t event, value;
};
_Static_assert(sizeof(struct control) == 8, "5.3.6.2");

struct port {
    bool there, console;
    char name[EMU_VIRTIO_CONSOLE_NAME + 1];
    uint16_t size[2]; /* columns and rows */
    bool plugged;     /* the host's end leads to somebody */
    bool blocked;     /* it takes nothing for now */
    bool held;        /* it was told that there is no room, and waits to hear of some */
    emu_virtio_console_port state;
    uint32_t first;   /* where the ring's oldest byte is */
};

struct console {
    emu_virtio_console_fn event;
    void *opaque;
    uint32_t ports;
    bool heard; /* the driver takes messages about ports */
    uint8_t piece[PIECE];
    struct port port[];
};

static uint32_t receive_queue(uint32_t number) { return number == 0 ? 0 : 2 * number + 2; }

/* Whether the driver takes input of a port now. */
static bool listens(const emu_virtio *device, uint32_t number)
{
    const struct console *console = device->own;
    return atomic_load(&((emu_virtio *)device)->running) && !device->parked &&
           emu_virtio_queue_ready(device, receive_queue(number)) &&
           (console->port[number].state.open || !emu_virtio_has(device, F_MULTIPORT));
}

/* ---- to the guest ----------------------------------------------------------------------- */

static void fill(emu_virtio *device, uint32_t number)
{
    struct console *console = device->own;
    struct port *port = &console->port[number];
    uint32_t queue = receive_queue(number);
    emu_chain *chain = &device->chain;
    while (port->state.count != 0 && listens(device, number) && emu_virtio_next(device, queue, chain)) {
        if (chain->in_size == 0) {
            emu_virtio_broken(device, "a buffer for a port's input has no room");
            return;
        }
        uint32_t n = chain->in_size < port->state.count ? (uint32_t)chain->in_size : port->state.count;
        uint32_t straight = n < RING - port->first ? n : RING - port->first;
        emu_iov_write(chain->in, chain->in_count, 0, port->state.ring + port->first, straight);
        emu_iov_write(chain->in, chain->in_count, straight, port->state.ring, n - straight);
        port->first = (port->first + n) % RING;
        port->state.count -= n;
        emu_vq_push(&device->queues[queue], chain, n);
        emu_virtio_signal(device, queue);
    }
}

/* Tells the host's end of room that it waits for. */
static void invite(emu_virtio *device, uint32_t number)
{
    struct console *console = device->own;
    struct port *port = &console->port[number];
    if (port->there && port->held && listens(device, number) && port->state.count < RING) {
        port->held = false;
        console->event(console->opaque, EMU_VIRTIO_CONSOLE_ROOM, number, NULL, 0);
    }
}

/* ---- from the guest ------------------------------------------------------------------------ */

/* Gives bytes to the host; false: the device is broken. */
static bool give(emu_virtio *device, uint32_t number, const uint8_t *data, uint32_t size)
{
    struct console *console = device->own;
    struct port *port = &console->port[number];
    int answer = console->event(console->opaque, EMU_VIRTIO_CONSOLE_OUTPUT, number, data, size);
    if (answer < 0) {
        emu_virtio_broken(device, "the host's end of a port failed");
        return false;
    }
    port->blocked = answer != 0;
    return true;
}

static void drain(emu_virtio *device, uint32_t number)
{
    struct console *console = device->own;
    struct port *port = &console->port[number];
    uint32_t queue = receive_queue(number) + 1;
    emu_chain *chain = &device->chain;
    while (!port->blocked && emu_virtio_next(device, queue, chain)) {
        /* A port that is not there, whose output nobody takes, must not stop its writer. */
        uint64_t end = port->there ? chain->out_size : 0;
        while (port->state.sent < end && !port->blocked) {
            if (atomic_load(&device->wanted) != 0) {
                device->again = true;
                break;
            }
            size_t n = emu_iov_read(chain->out, chain->out_count, port->state.sent, console->piece, PIECE);
            if (!give(device, number, console->piece, (uint32_t)n))
                return;
            port->state.sent += n;
        }
        if (port->state.sent < end) {
            emu_vq_unpop(&device->queues[queue]);
            return;
        }
        port->state.sent = 0;
        emu_vq_push_head(&device->queues[queue], chain->head, 0);
        emu_virtio_signal(device, queue);
    }
}

static void config_written(emu_virtio *device, uint32_t offset, uint32_t size)
{
    struct console *console = device->own;
    if (offset > EMERGENCY_AT || offset + size <= EMERGENCY_AT)
        return;
    const uint8_t byte = device->config[EMERGENCY_AT], none[4] = {0};
    emu_virtio_config_quietly(device, EMERGENCY_AT, none, sizeof none);
    if (console->port[0].there && !console->port[0].blocked)
        give(device, 0, &byte, 1);
}

/* ---- the control queues (5.3.6.2) ------------------------------------------------------------- */

/* Sends what ports owe, as far as the driver gives buffers. */
static void tell(emu_virtio *device)
{
    struct console *console = device->own;
    emu_chain *chain = &device->chain;
    if (!emu_virtio_has(device, F_MULTIPORT) || device->parked)
        return;
    for (uint32_t number = 0; number < console->ports; number++) {
        struct port *port = &console->port[number];
        for (size_t i = 0; i < sizeof order && port->state.owed != 0; i++) {
            if (!(port->state.owed & 1u << order[i]))
                continue;
            if (!emu_virtio_next(device, CONTROL_RX, chain))
                return;
            struct control message = {.id = number, .event = order[i], .value = 1};
            if (order[i] == PORT_OPEN)
                message.value = port->console || port->plugged;
            const void *more = order[i] == RESIZE ? (const void *)port->size : port->name;
            size_t size = order[i] == RESIZE ? sizeof port->size : order[i] == PORT_NAME ? strlen(port->name) : 0;
            if (chain->in_size < sizeof message + size) {
                emu_virtio_broken(device, "a buffer for messages about ports has no room for one");
                return;
            }
            emu_iov_write(chain->in, chain->in_count, 0, &message, sizeof message);
            emu_iov_write(chain->in, chain->in_count, sizeof message, more, size);
            port->state.owed &= ~(1u << order[i]);
            emu_vq_push(&device->queues[CONTROL_RX], chain, sizeof message + size);
            emu_virtio_signal(device, CONTROL_RX);
        }
    }
}

static void hear(emu_virtio *device, const struct control *message)
{
    struct console *console = device->own;
    if (message->event == DEVICE_READY) {
        console->heard = message->value != 0;
        for (uint32_t i = 0; i < console->ports && message->value != 0; i++)
            console->port[i].state.owed |= console->port[i].there ? 1u << DEVICE_ADD : 0;
        return;
    }
    struct port *port = &console->port[message->id < console->ports ? message->id : 0];
    if (message->id >= console->ports || !port->there)
        return;
    if (message->event == PORT_READY) {
        port->state.ready = message->value != 0;
        uint32_t owed = port->console ? 1u << CONSOLE_PORT | 1u << PORT_OPEN : 0;
        owed |= port->console && (port->size[0] | port->size[1]) ? 1u << RESIZE : 0;
        owed |= port->name[0] ? 1u << PORT_NAME : 0;
        owed |= port->plugged ? 1u << PORT_OPEN : 0;
        port->state.owed = port->state.ready ? owed : 0;
    } else if (message->event == PORT_OPEN) {
        bool before = port->state.open != 0;
        port->state.open = message->value != 0;
        if (!port->state.open)
            port->state.count = 0; /* what it has not read, nobody will */
        if (before != (message->value != 0))
            console->event(console->opaque, before ? EMU_VIRTIO_CONSOLE_CLOSED : EMU_VIRTIO_CONSOLE_OPENED, message->id,
                           NULL, 0);
    }
}

static void control(emu_virtio *device)
{
    emu_chain *chain = &device->chain;
    while (emu_virtio_next(device, CONTROL_TX, chain)) {
        struct control message;
        if (chain->out_size < sizeof message) {
            emu_virtio_broken(device, "a message about ports is shorter than its header");
            return;
        }
        emu_iov_read(chain->out, chain->out_count, 0, &message, sizeof message);
        hear(device, &message);
        emu_vq_push_head(&device->queues[CONTROL_TX], chain->head, 0);
        emu_virtio_signal(device, CONTROL_TX);
    }
    tell(device);
}

/* ---- the device --------------------------------------------------------------------------------- */

static void handle(emu_virtio *device, uint32_t queue)
{
    if (queue >= CONTROL_RX && !emu_virtio_has(device, F_MULTIPORT))
        return;
    uint32_t number = queue < CONTROL_RX ? 0 : (queue - 2) / 2;
    if (queue == CONTROL_RX)
        tell(device);
    else if (queue == CONTROL_TX)
        control(device);
    else if (queue & 1)
        drain(device, number);
    else
        fill(device, number);
}

static int wait_for(emu_virtio *device, struct pollfd *polls, int room, int *timeout)
{
    tell(device);
    for (uint32_t i = 0; i < ((struct console *)device->own)->ports; i++)
        invite(device, i);
    if (device->again)
        *timeout = 0; /* a message that could not be sent now */
    return 0;
}

static void reset(emu_virtio *device)
{
    struct console *console = device->own;
    console->heard = false;
    for (uint32_t i = 0; i < console->ports; i++) {
        struct port *port = &console->port[i];
        if (port->state.open != 0)
            console->event(console->opaque, EMU_VIRTIO_CONSOLE_CLOSED, i, NULL, 0);
        memset(&port->state, 0, sizeof port->state);
        port->first = 0;
    }
}

static void free_own(emu_virtio *device) { free(device->own); }

static const emu_virtio_type type = {
    .id = DEVICE_ID,
    .handle = handle,
    .config_written = config_written,
    .wait = wait_for,
    .reset = reset,
    .free = free_own,
};

emu_virtio *emu_virtio_console_new(uint32_t ports, emu_virtio_console_fn event, void *opaque)
{
    if (ports == 0 || ports > EMU_VIRTIO_CONSOLE_PORTS)
        return NULL;
    struct console *console = calloc(1, sizeof *console + ports * sizeof *console->port);
    if (console == NULL)
        return NULL;
    uint64_t features = F_SIZE | F_MULTIPORT | F_EMERG_WRITE;
    emu_virtio *device = emu_virtio_new(&type, features, 2 * ports + 2, QUEUE_SIZE, CONFIG_BYTES);
    if (device == NULL) {
        free(console);
        return NULL;
    }
    console->event = event;
    console->opaque = opaque;
    console->ports = ports;
    device->own = console;
    memcpy(device->config + MAX_PORTS_AT, &ports, sizeof ports);
    memset(device->writable + EMERGENCY_AT, 0xff, 4);
    return device;
}

/* ---- the host's end -------------------------------------------------------------------------------- */

void emu_virtio_console_add(emu_virtio *device, uint32_t number, int is_console, const char *name)
{
    struct console *console = device->own;
    struct port *port = &console->port[number];
    emu_virtio_hold(device);
    port->there = true;
    port->console = is_console != 0;
    snprintf(port->name, sizeof port->name, "%s", name);
    port->state.owed |= console->heard ? 1u << DEVICE_ADD : 0;
    tell(device);
    emu_virtio_release(device);
}

void emu_virtio_console_remove(emu_virtio *device, uint32_t number)
{
    struct console *console = device->own;
    struct port *port = &console->port[number];
    emu_virtio_hold(device);
    /* A driver that has not heard of it yet does not hear of its end either, but of an earlier one's. */
    uint32_t owed = port->state.owed & 1u << DEVICE_REMOVE;
    if (console->heard && !(port->state.owed & 1u << DEVICE_ADD))
        owed |= 1u << DEVICE_REMOVE;
    uint64_t sent = port->state.sent;
    memset(port, 0, sizeof *port);
    port->state.owed = owed;
    port->state.sent = sent; /* of a chain that is under way */
    tell(device);
    emu_virtio_release(device);
    emu_virtio_wake(device); /* what waited for the host to take it is to go */
}

int emu_virtio_console_heard(emu_virtio *device, int heard)
{
    struct console *console = device->own;
    emu_virtio_hold(device);
    if (heard >= 0)
        console->heard = heard != 0;
    heard = console->heard;
    emu_virtio_release(device);
    return heard;
}

uint32_t emu_virtio_console_room(emu_virtio *device, uint32_t number)
{
    struct port *port = &((struct console *)device->own)->port[number];
    emu_virtio_hold(device);
    uint32_t room = listens(device, number) ? RING - port->state.count : 0;
    port->held |= room == 0;
    emu_virtio_release(device);
    return room;
}

uint32_t emu_virtio_console_give(emu_virtio *device, uint32_t number, const uint8_t *data, uint32_t size)
{
    struct port *port = &((struct console *)device->own)->port[number];
    emu_virtio_hold(device);
    uint32_t room = listens(device, number) ? RING - port->state.count : 0;
    uint32_t n = size < room ? size : room, at = (port->first + port->state.count) % RING;
    uint32_t straight = n < RING - at ? n : RING - at;
    memcpy(port->state.ring + at, data, straight);
    memcpy(port->state.ring, data + straight, n - straight);
    port->state.count += n;
    port->held |= n == room;
    fill(device, number);
    invite(device, number);
    emu_virtio_release(device);
    return n;
}

void emu_virtio_console_drained(emu_virtio *device, uint32_t number)
{
    emu_virtio_hold(device);
    ((struct console *)device->own)->port[number].blocked = false;
    emu_virtio_release(device);
    emu_virtio_wake(device);
}

void emu_virtio_console_plug(emu_virtio *device, uint32_t number, int plugged)
{
    struct port *port = &((struct console *)device->own)->port[number];
    emu_virtio_hold(device);
    if (port->plugged != (plugged != 0)) {
        port->plugged = plugged != 0;
        port->state.owed |= port->state.ready && !port->console ? 1u << PORT_OPEN : 0;
        tell(device);
    }
    emu_virtio_release(device);
}

void emu_virtio_console_resize(emu_virtio *device, uint32_t number, uint16_t columns, uint16_t rows)
{
    struct port *port = &((struct console *)device->own)->port[number];
    uint16_t size[2] = {columns, rows};
    emu_virtio_hold(device);
    if (memcmp(size, port->size, sizeof size) != 0) {
        memcpy(port->size, size, sizeof size);
        if (number == 0)
            emu_virtio_config(device, COLS_AT, size, sizeof size);
        port->state.owed |= port->state.ready && port->console ? 1u << RESIZE : 0;
        tell(device);
    }
    emu_virtio_release(device);
}

void emu_virtio_console_get(emu_virtio *device, uint32_t number, emu_virtio_console_port *out)
{
    struct port *port = &((struct console *)device->own)->port[number];
    emu_virtio_hold(device);
    *out = port->state;
    for (uint32_t i = 0; i < RING; i++)
        out->ring[i] = port->state.ring[(port->first + i) % RING];
    emu_virtio_release(device);
}

void emu_virtio_console_set(emu_virtio *device, uint32_t number, const emu_virtio_console_port *state)
{
    struct port *port = &((struct console *)device->own)->port[number];
    emu_virtio_hold(device);
    port->state = *state;
    port->state.count = state->count < RING ? state->count : RING;
    port->first = 0;
    emu_virtio_release(device);
}
