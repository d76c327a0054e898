/*
 * Virtio devices under a hostile driver: fuzz_virtio KIND CASES SEED FOLDER [race].
 *
 * KIND: blk, qcow2, frames, stream, user, rng, balloon, 9p, console.  A case is one driver, from reset to reset: features, queues and
 * registers at random, chains that loop, lie, lie outside RAM or over each other.  A machine lives for CASES_OF_A_MACHINE
 * cases, on MMIO, legacy MMIO or PCI, and has to serve an honest driver at its end.  RAM ends at pages that may not be
 * touched, ROM and I/O must not be; a chain that breaks the rules must have the device ask for a reset.
 *
 * The device is served by this thread, so that a case is the same whenever it is run; with `race` by its own, while one
 * thread changes what the device reads and another uses the same registers.
 */
#include "virtio.c" /* to serve the device ourselves */

#include "block.h"
#include "check.h"
#include "gic.h"
#include "gicv2m.h"
#include "net.h"
#include "pci.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sanitizer/common_interface_defs.h>

enum { CASES_OF_A_MACHINE = 32, SECONDS = 120, QUEUES_MAX = 6 };

#define PAGE UINT64_C(4096)
#define GIC_BASE UINT64_C(0x08000000)
#define FRAME_BASE UINT64_C(0x08020000)
#define DEVICE_BASE UINT64_C(0x0a000000)
#define TABLE_BASE UINT64_C(0x0b000000)
#define WRAP (UINT64_C(0) - 16 * PAGE)

enum kind { BLK, QCOW2, FRAMES, STREAM, USER, RNG, BALLOON, NINE_P, CONSOLE, KINDS };
static const char *const kind_names[] = {"blk", "qcow2", "frames", "stream", "user", "rng", "balloon", "9p", "console"};
enum transport { MMIO, LEGACY, PCI, TRANSPORTS };
static const char *const transport_names[] = {"mmio", "legacy", "pci"};

/* What lies where; MAIN and NEXT are neighbours, TOP ends with the address space. */
static struct piece {
    uint64_t base, size;
    uint32_t kind;
    uint8_t *host;
} pieces[] = {
    {0, 4 * PAGE, EMU_RAM, NULL},
    {4 * PAGE, PAGE, EMU_ROM, NULL},
    {0x40000000, 128 * PAGE, EMU_RAM, NULL},
    {0x40000000 + 128 * PAGE, 64 * PAGE, EMU_RAM, NULL},
    {0x50000000, PAGE, EMU_IO, NULL},
    {WRAP, 16 * PAGE, EMU_RAM, NULL},
};
enum { LOW, ROM, MAIN, NEXT, IO, TOP, PIECES };

static uint64_t seed, machine_seed;
static enum kind kind;
static enum transport transport;
static bool race;
static const char *folder;
static emu_space *space;
static emu_virtio *device;
static uint64_t drivers, served, broken_drivers;
static int share = -1;

static uint64_t below(uint64_t n) { return (next_random(&seed) >> 20) % n; }
static bool one_in(uint64_t n) { return below(n) == 0; }

/* Some drivers break the rules all the time, others hardly ever: those get further. */
static uint64_t patience;
static bool lies(uint64_t n) { return one_in(n * patience); }

/* Of a sanitizer that ends the program: which machine it was.  UBSan calls its own hook. */
static void last_words(void)
{
    fprintf(stderr, "%s over %s, machine of seed %" PRIu64 "\n", kind_names[kind], transport_names[transport], machine_seed);
}

void __ubsan_on_report(void);
void __ubsan_on_report(void) { last_words(); }

static void fail(const char *why)
{
    fprintf(stderr, "%s over %s, machine of seed %" PRIu64 ": %s\n", kind_names[kind], transport_names[transport],
            machine_seed, why);
    abort();
}

static void too_long(int signal)
{
    static const char text[] = "a case takes too long\n";
    if (write(2, text, sizeof text - 1) > 0)
        fail("hangs");
}

/* ---- memory ----------------------------------------------------------------------------- */

/* Pages between two that may not be touched; a memfd, as a machine's RAM is. */
static uint8_t *guarded(uint64_t size)
{
    int fd = memfd_create("guest", MFD_CLOEXEC);
    uint8_t *place = mmap(NULL, size + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(fd >= 0 && ftruncate(fd, (off_t)size) == 0 && place != MAP_FAILED);
    uint8_t *host = mmap(place + PAGE, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
    CHECK(host == place + PAGE);
    close(fd);
    return host;
}

static int touched_read(void *opaque, uint64_t offset, uint32_t width, uint64_t *value)
{
    fail("a device read registers as if they were memory");
    return EMU_OK;
}

static int touched_write(void *opaque, uint64_t offset, uint32_t width, uint64_t value)
{
    fail("a device wrote registers as if they were memory");
    return EMU_OK;
}

static void make_memory(void)
{
    space = emu_space_new(0);
    for (int i = 0; i < PIECES; i++) {
        struct piece *piece = &pieces[i];
        piece->host = piece->kind == EMU_IO ? NULL : guarded(piece->size);
        if (i == ROM) {
            memset(piece->host, 0x5a, piece->size);
            CHECK(mprotect(piece->host, piece->size, PROT_READ) == 0);
        }
        emu_region *region = emu_region_new(piece->kind, piece->size, piece->host);
        if (piece->kind == EMU_IO)
            emu_region_hooks(region, touched_read, touched_write, NULL);
        CHECK(emu_space_add(space, region, piece->base, 0) == 0);
    }
}

/* Where RAM is, as this file knows it: NULL outside. */
__attribute__((no_sanitize("thread"))) static volatile uint8_t *ram_at(uint64_t addr)
{
    for (int i = 0; i < PIECES; i++)
        if (pieces[i].kind == EMU_RAM && addr - pieces[i].base < pieces[i].size)
            return pieces[i].host + (addr - pieces[i].base);
    return NULL;
}

/* As a guest does, byte by byte, and whatever else happens to the memory meanwhile. */
__attribute__((no_sanitize("thread"))) static void put(uint64_t addr, uint64_t value, unsigned width)
{
    for (unsigned i = 0; i < width; i++) {
        volatile uint8_t *at = ram_at(addr + i);
        if (at != NULL)
            *at = (uint8_t)(value >> 8 * i);
    }
}

__attribute__((no_sanitize("thread"))) static uint64_t get(uint64_t addr, unsigned width)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < width; i++) {
        volatile uint8_t *at = ram_at(addr + i);
        value |= at != NULL ? (uint64_t)*at << 8 * i : 0;
    }
    return value;
}

/* An address that means something, or that nobody expects. */
static uint64_t address(void)
{
    const struct piece *piece = &pieces[below(PIECES)];
    switch (below(24)) {
    case 0:
        return next_random(&seed) >> below(64);
    case 1:
        return piece->base - below(40);
    case 2:
        return piece->base + piece->size - below(40);
    case 3:
        return piece->base + below(piece->size);
    case 4:
        return DEVICE_BASE + below(0x300);
    case 5:
        return UINT64_MAX - below(600);
    case 6:
        return pieces[NEXT].base - below(4096);
    }
    return pieces[MAIN].base + (one_in(4) ? below(pieces[MAIN].size) : below(8 * PAGE));
}

static uint32_t length(void)
{
    static const uint32_t edges[] = {0, 1, 15, 16, 511, 512, 4095, 4096, 65536, 0x7fffffff, 0x80000000, 0xfffff000, 0xffffffff};
    if (lies(40))
        return edges[below(sizeof edges / sizeof *edges)];
    return (uint32_t)below(one_in(6) ? 300000 : 1500);
}

/* ---- the machine ------------------------------------------------------------------------------- */

static emu_block *block;
static char disk[4096];
static int peer = -1; /* the other end of a cable */
static emu_virtio_mmio *mmio;
static emu_virtio_pci *function;
static emu_pci *pci;
static emu_pci_wires *wires;
static emu_gic *gic;
static emu_gicv2m *frame;
static emu_irq *spis[64], *pins[4], *cpu_line[2];
static emu_region *device_region, *table_region, *gic_region, *frame_region;
static _Atomic int interrupts;

static void interrupted(void *opaque, uint32_t number, int level) { atomic_fetch_add(&interrupts, level); }

static emu_irq *input(uint32_t id)
{
    emu_irq *line = emu_irq_new();
    emu_irq_connect(line, emu_gic_input, gic, id);
    return line;
}

static emu_region *registers(uint64_t base, uint64_t size, emu_read_fn read, emu_write_fn write, void *opaque)
{
    emu_region *region = emu_region_new(EMU_IO, size, NULL);
    emu_region_hooks(region, read, write, opaque);
    CHECK(emu_space_add(space, region, base, 0) == 0);
    return region;
}

static void make_controller(void)
{
    gic = emu_gic_new(2, 1, 288);
    for (int i = 0; i < 2; i++) {
        cpu_line[i] = emu_irq_new();
        emu_irq_connect(cpu_line[i], interrupted, NULL, (uint32_t)i);
        emu_gic_output(gic, 0, (uint32_t)i, cpu_line[i]);
    }
    for (uint32_t i = 0; i < 64; i++)
        spis[i] = input(80 + i);
    for (uint32_t i = 0; i < 4; i++)
        pins[i] = input(35 + i);
    frame = emu_gicv2m_new(FRAME_BASE, 80, 64, spis);
    gic_region = registers(GIC_BASE, 0x20000, emu_gic_read_v2, emu_gic_write_v2, gic);
    frame_region = registers(FRAME_BASE, 0x1000, emu_gicv2m_read, emu_gicv2m_write, frame);
    CHECK(emu_space_write(space, GIC_BASE, 4, 3) == EMU_OK);
    for (uint64_t i = 0; i < 10; i++)
        CHECK(emu_space_write(space, GIC_BASE + 0x100 + 4 * i, 4, UINT32_MAX) == EMU_OK);
    CHECK(emu_space_write(space, GIC_BASE + 0x10000, 4, 3) == EMU_OK);
    CHECK(emu_space_write(space, GIC_BASE + 0x10004, 4, 0xf8) == EMU_OK);
}

static void make_disk(void)
{
    char error[1024];
    emu_block_options options = {.discard = one_in(2), .cache = EMU_BLOCK_UNSAFE, .read_only = one_in(6)};
    options.format = kind == QCOW2 ? EMU_BLOCK_QCOW2 : EMU_BLOCK_RAW;
    snprintf(disk, sizeof disk, "%s/disk", folder);
    unlink(disk);
    emu_block_new new = {.size = 512 * (1 + below(5000)), .cluster_size = UINT64_C(512) << below(8), .format = options.format,
                         .version = 3, .refcount_bits = 16};
    if (emu_block_create(disk, &new, error, sizeof error) != 0 ||
        (block = emu_block_open(disk, &options, error, sizeof error)) == NULL)
        fail(error);
}

static emu_virtio *make_card(void)
{
    static const uint8_t mac[6] = {0x52, 0x54, 0, 0x12, 0x34, 0x56};
    char error[1024] = "";
    int ends[2] = {-1, -1};
    emu_net *net = NULL;
    if (kind == USER) {
        emu_net_user_options options = {.network = 0x0a000200, .mask = 0xffffff00, .restricted = 1};
        net = emu_net_user_new(&options, error, sizeof error);
    } else {
        CHECK(socketpair(AF_UNIX, (kind == FRAMES ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
        net = kind == FRAMES ? emu_net_frames_new(ends[0]) : emu_net_stream_new(ends[0], -1);
    }
    peer = ends[1];
    if (net == NULL)
        fail(error);
    return emu_virtio_net_new(net, mac);
}

/* ---- the host's end of a console's ports -------------------------------------------------------- */

enum { PORTS = 2 };
static _Atomic int full[PORTS];

static int console_event(void *opaque, uint32_t event, uint32_t port, const uint8_t *data, uint32_t size)
{
    static _Atomic uint32_t sum;
    for (uint32_t i = 0; i < size; i++)
        atomic_fetch_add(&sum, data[i]); /* all of it can be read */
    if (event != EMU_VIRTIO_CONSOLE_OUTPUT)
        return 0;
    atomic_store(&full[port], size % 3 == 0);
    return size % 3 == 0;
}

/* What the host does of its own accord. */
static void use_ports(void)
{
    static const uint8_t typed[5000];
    const uint32_t port = (uint32_t)below(PORTS);
    switch (below(6)) {
    case 0:
        emu_virtio_console_plug(device, port, (int)below(2));
        break;
    case 1:
        emu_virtio_console_resize(device, port, (uint16_t)below(200), (uint16_t)below(3));
        break;
    case 2: {
        emu_virtio_console_port state;
        emu_virtio_console_get(device, port, &state);
        emu_virtio_console_set(device, port, &state);
        break;
    }
    case 3:
        atomic_store(&full[port], 0);
        emu_virtio_console_drained(device, port);
        break;
    default: {
        const uint32_t room = emu_virtio_console_room(device, port), size = (uint32_t)below(sizeof typed);
        const uint32_t taken = emu_virtio_console_give(device, port, typed, size);
        if (!race && taken != (size < room ? size : room))
            fail("a port takes less than it has room for");
    }
    }
}

static void make_device(void)
{
    switch (kind) {
    case BLK:
    case QCOW2:
        make_disk();
        device = emu_virtio_blk_new(block, "a serial number of some length");
        break;
    case RNG:
        device = one_in(2) ? emu_virtio_rng_new(0, 0) : emu_virtio_rng_new(1 + below(100000), 1 + below(2000000));
        break;
    case BALLOON:
        device = emu_virtio_balloon_new((int)below(2), (int)below(2));
        if (one_in(2))
            emu_virtio_balloon_interval(device, 1);
        break;
    case NINE_P:
        device = emu_virtio_9p_new(dup(share), (int)below(2), "share");
        break;
    case CONSOLE:
        device = emu_virtio_console_new(PORTS, console_event, NULL);
        emu_virtio_console_add(device, 0, 1, "");
        emu_virtio_console_add(device, 1, 0, "org.example.port");
        break;
    default:
        device = make_card();
    }
    if (device == NULL)
        fail("no device");
    emu_virtio_memory(device, space);
    if (!race)
        emu_virtio_pause(device);
    if (transport == PCI) {
        wires = emu_pci_wires_new(pins[0], pins[1], pins[2], pins[3]);
        pci = emu_pci_new(wires, (uint32_t)below(4), device->nqueues + 1, one_in(8) ? NULL : emu_gicv2m_message, frame, 8);
        function = emu_virtio_pci_new(device, pci);
        device_region = registers(DEVICE_BASE, EMU_VIRTIO_PCI_SIZE, emu_virtio_pci_read, emu_virtio_pci_write, function);
        table_region = registers(TABLE_BASE, EMU_MSIX_SIZE, emu_pci_msix_read, emu_pci_msix_write, pci);
        for (uint32_t q = 0; q < device->nqueues; q++) {
            emu_doorbell bell = {.offset = EMU_VIRTIO_PCI_NOTIFY + 4 * q, .width = 2, .fd = emu_virtio_bell(device)};
            CHECK(emu_region_doorbell(device_region, &bell) == 0);
        }
        emu_virtio_pci_reset(function);
    } else {
        mmio = emu_virtio_mmio_new(device, pins[0], transport == LEGACY);
        device_region = registers(DEVICE_BASE, 0x200, emu_virtio_mmio_read, emu_virtio_mmio_write, mmio);
        emu_doorbell bell = {.offset = 0x50, .width = 4, .fd = emu_virtio_bell(device)};
        CHECK(emu_region_doorbell(device_region, &bell) == 0);
    }
}

static void end_region(emu_region *region)
{
    CHECK(emu_space_remove(space, region) == 0);
    emu_region_free(region);
}

static void end_device(void)
{
    end_region(device_region);
    emu_virtio_free(device);
    if (transport == PCI) {
        end_region(table_region);
        emu_virtio_pci_free(function);
        emu_pci_free(pci);
        emu_pci_wires_free(wires);
    } else {
        emu_virtio_mmio_free(mmio);
    }
    if (block != NULL)
        emu_block_close(block);
    block = NULL;
    if (peer >= 0)
        close(peer);
    peer = -1;
}

static void end_controller(void)
{
    end_region(frame_region);
    end_region(gic_region);
    for (int i = 0; i < 64; i++)
        emu_irq_free(spis[i]);
    for (int i = 0; i < 4; i++)
        emu_irq_free(pins[i]);
    emu_gicv2m_free(frame);
    emu_gic_free(gic);
    for (int i = 0; i < 2; i++)
        emu_irq_free(cpu_line[i]);
}

/* ---- a driver ------------------------------------------------------------------------------------ */

static void reg(uint64_t offset, uint32_t width, uint64_t value) { (void)emu_space_write(space, DEVICE_BASE + offset, width, value); }

static uint64_t look(uint64_t offset, uint32_t width)
{
    uint64_t value = 0;
    (void)emu_space_read(space, DEVICE_BASE + offset, width, &value);
    return value;
}

static void set_status(uint64_t value) { reg(transport == PCI ? 0x14 : 0x70, transport == PCI ? 1 : 4, value); }
static uint64_t status(void) { return look(transport == PCI ? 0x14 : 0x70, transport == PCI ? 1 : 4); }

static void set_features(uint64_t features)
{
    const uint64_t select = transport == PCI ? 0x08 : 0x24, word = transport == PCI ? 0x0c : 0x20;
    for (uint32_t half = 0; half < 2; half++) {
        reg(select, 4, half);
        reg(word, 4, features >> 32 * half & UINT32_MAX);
    }
}

static uint64_t offered(void)
{
    const uint64_t select = transport == PCI ? 0x00 : 0x14, word = transport == PCI ? 0x04 : 0x10;
    uint64_t features = 0;
    for (uint32_t half = 0; half < 2; half++) {
        reg(select, 4, half);
        features |= look(word, 4) << 32 * half;
    }
    return features;
}

static struct queue {
    uint32_t size;
    uint64_t desc, avail, used;
    uint16_t idx; /* of the available ring */
} queues[QUEUES_MAX];
/* Whether the device has the queues that stand above: nobody has written anything else. */
static bool known;
static uint64_t agreed;

static void give_queue(uint32_t number)
{
    struct queue *q = &queues[number];
    if (transport == PCI) {
        reg(0x16, 2, number);
        reg(0x18, 2, q->size);
        if (one_in(2))
            reg(0x1a, 2, below(device->nqueues + 2));
        const uint64_t rings[] = {q->desc, q->avail, q->used};
        for (uint64_t i = 0; i < 3; i++) {
            reg(0x20 + 8 * i, 4, rings[i] & UINT32_MAX);
            reg(0x24 + 8 * i, 4, rings[i] >> 32);
        }
        reg(0x1c, 2, 1);
    } else if (transport == LEGACY) {
        reg(0x28, 4, PAGE);
        reg(0x30, 4, number);
        reg(0x38, 4, q->size);
        reg(0x3c, 4, 4096);
        reg(0x40, 4, q->desc / PAGE);
    } else {
        reg(0x30, 4, number);
        reg(0x38, 4, q->size);
        const uint64_t rings[] = {q->desc, q->avail, q->used};
        for (uint64_t i = 0; i < 3; i++) {
            reg(0x80 + 16 * i, 4, rings[i] & UINT32_MAX);
            reg(0x84 + 16 * i, 4, rings[i] >> 32);
        }
        reg(0x44, 4, 1);
    }
}

/* Rings where they belong, mostly; now and then over each other or elsewhere. */
static void plan_queue(uint32_t number, bool honest)
{
    struct queue *q = &queues[number];
    const uint64_t place = pieces[MAIN].base + 8 * PAGE + number * 8 * PAGE;
    q->size = 1u << below(9);
    while (q->size > device->queues[number].size_max)
        q->size /= 2;
    if (honest)
        q->size = 8;
    q->desc = place;
    q->avail = place + 4 * PAGE;
    q->used = place + 5 * PAGE;
    q->idx = 0;
    if (!honest && lies(25))
        q->size = (uint32_t)(one_in(2) ? next_random(&seed) >> below(64) : below(300));
    for (int i = 0; i < 3 && !honest; i++) {
        uint64_t *ring = i == 0 ? &q->desc : i == 1 ? &q->avail : &q->used;
        if (lies(40))
            *ring = address() & ~(i == 0 ? UINT64_C(15) : UINT64_C(3));
        else if (lies(60))
            *ring = address();
        else if (lies(30))
            *ring = place + below(64) * 16;
    }
    if (transport == PCI && q->size > UINT16_MAX)
        q->size &= UINT16_MAX;
    if (transport == LEGACY) {
        q->desc &= ~(PAGE - 1);
        q->avail = q->desc + 16 * (uint64_t)q->size;
        q->used = (q->avail + 6 + 2 * (uint64_t)q->size + PAGE - 1) & ~(PAGE - 1);
        if (q->desc / PAGE == 0 || q->desc / PAGE > UINT32_MAX)
            known = false;
    }
    if (q->size == 0 && !honest)
        known = false; /* the register may say "as large as it can be" */
    put(q->avail, 0, 4);
    put(q->used, 0, 4);
}

static void begin(bool honest)
{
    known = true;
    set_status(0);
    set_status(1);
    set_status(3);
    uint64_t features = UINT64_C(1) << 32;
    if (!honest) {
        features = offered() & (one_in(2) ? next_random(&seed) : UINT64_MAX);
        features |= one_in(30) ? 0 : UINT64_C(1) << 32;
        features |= one_in(30) ? UINT64_C(1) << below(64) : 0;
    }
    set_features(features);
    if (transport != LEGACY)
        set_status(11);
    for (uint32_t q = 0; q < device->nqueues && q < QUEUES_MAX; q++) {
        plan_queue(q, honest);
        if (honest || !one_in(12))
            give_queue(q);
        else
            queues[q].size = 0;
    }
    if (honest || !one_in(40))
        set_status(transport == LEGACY ? 7 : 15);
    emu_virtio_hold(device);
    agreed = device->features;
    emu_virtio_release(device);
}

/* What the kind of device expects to read, more or less. */
static void fill(uint32_t queue, uint64_t addr, uint64_t size)
{
    static const uint8_t blk_kinds[] = {0, 1, 0, 1, 4, 8, 11, 13, 2, 255};
    static const uint8_t p9_kinds[] = {100, 104, 110, 12, 14, 116, 118, 40, 24, 26, 72, 76, 120, 30, 50, 22};
    for (uint64_t i = 0; i < size && i < 64; i++)
        put(addr + i, one_in(3) ? below(256) : below(4), 1);
    switch (kind) {
    case BLK:
    case QCOW2:
        put(addr, blk_kinds[below(sizeof blk_kinds)], 4);
        put(addr + 8, one_in(10) ? next_random(&seed) : below(5200), 8);
        for (uint64_t i = 16; i + 16 <= size && i < 200; i += 16) {
            put(addr + i, one_in(10) ? next_random(&seed) : below(5200), 8);
            put(addr + i + 8, one_in(10) ? next_random(&seed) : below(700), 4);
            put(addr + i + 12, one_in(10) ? next_random(&seed) : below(2), 4);
        }
        break;
    case FRAMES:
    case STREAM:
    case USER:
        if (queue != 1)
            break;
        put(addr, one_in(3) ? below(256) : below(3), 1);
        put(addr + 1, one_in(3) ? below(256) : 0, 1);
        put(addr + 6, below(80), 2);
        put(addr + 8, below(80), 2);
        if (size < 60)
            break;
        const uint64_t at = addr + ((agreed & (UINT64_C(1) << 32 | 1 << 15)) != 0 ? 12 : 10);
        put(at, UINT64_C(0x563412005452), 6);
        put(at + 12, one_in(4) ? 0x0608 : one_in(3) ? 0xdd86 : 0x0008, 2);
        put(at + 14, one_in(8) ? below(256) : 0x45, 1);
        put(at + 16, one_in(2) ? below(65536) : (size - 26) << 8 | (size - 26) >> 8, 2);
        put(at + 18, below(2), 2);
        put(at + 20, one_in(2) ? 0 : (one_in(2) ? 0x20 : 0) | below(8) << (one_in(2) ? 8 : 0), 2);
        put(at + 22, 0x40, 1);
        put(at + 23, one_in(3) ? 1 : one_in(2) ? 6 : 17, 1);
        put(at + 26, 0x0f02000a, 4);
        put(at + 30, 0x0002000a + (below(5) << 24), 4);
        uint32_t sum = 0;
        for (uint64_t i = 14; i < 34; i += 2)
            sum += i == 24 ? 0 : (uint32_t)get(at + i, 2);
        sum = (sum & 0xffff) + (sum >> 16);
        put(at + 24, ~((sum & 0xffff) + (sum >> 16)), 2);
        put(at + 36, one_in(2) ? below(65536) : 0x4500, 2); /* port 69 */
        break;
    case BALLOON:
        for (uint64_t i = 0; i + 4 <= size && i < 400; i += 4)
            put(addr + i, one_in(8) ? next_random(&seed) : pieces[MAIN].base / PAGE + 60 + below(200), 4);
        if (queue == 2)
            for (uint64_t i = 0; i + 10 <= size && i < 200; i += 10)
                put(addr + i, below(20), 2);
        break;
    case NINE_P:
        put(addr, one_in(6) ? next_random(&seed) : size, 4);
        put(addr + 4, p9_kinds[below(sizeof p9_kinds)], 1);
        if (get(addr + 4, 1) == 100)
            put(addr + 7, UINT64_C(0x0008000000002000), 8);
        break;
    case CONSOLE:
        if (queue == 3) {
            put(addr, below(one_in(4) ? 100 : PORTS), 4);
            put(addr + 4, one_in(4) ? below(65536) : one_in(2) ? 3 * below(3) : 3, 2);
            put(addr + 6, !one_in(4), 2);
        }
        break;
    default:
        break;
    }
}

/* How many of a chain's buffers the kind of device expects to read. */
static uint32_t expected(uint32_t queue, uint32_t count)
{
    switch (kind) {
    case RNG:
        return 0;
    case BALLOON:
        return queue > 2 ? 0 : count;
    case CONSOLE:
        return queue & 1 ? count : 0;
    case FRAMES:
    case STREAM:
    case USER:
        return queue == 0 ? 0 : queue == 1 ? count : count - 1;
    default:
        return count < 2 ? 1 : 1 + (uint32_t)below(count - 1);
    }
}

/* Descriptors of a chain into a table; how they hang together is mostly right. */
static void describe_chain(uint32_t queue, uint64_t table, uint32_t entries, uint32_t first, uint32_t count)
{
    const uint32_t readable = lies(8) ? (uint32_t)below(count + 1) : expected(queue, count);
    uint64_t place = pieces[MAIN].base + below(6 * PAGE);
    for (uint32_t i = 0, at = first; i < count; i++) {
        const uint32_t next = entries != 0 ? (uint32_t)below(entries) : 0, step = lies(100) ? (uint32_t)below(70000) : (at + 1) % (entries != 0 ? entries : 1);
        uint64_t addr = lies(40) ? address() : place;
        uint32_t size = length();
        uint64_t flags = i + 1 < count ? 1 : 0;
        flags |= i >= readable ? 2 : 0;
        if (i == 0 && readable != 0) {
            static const uint32_t heads[] = {16, 12, 32, 72, 100, 1514};
            size = lies(8) ? size : kind == NINE_P ? 7 + size % 200 : kind == BLK || kind == QCOW2 ? 16 : heads[below(sizeof heads / sizeof *heads)];
            fill(queue, addr, size);
        }
        if (i + 1 == count && one_in(4))
            size = 1;
        if (lies(100))
            flags ^= UINT64_C(1) << below(16);
        put(table + 16 * (uint64_t)at, addr, 8);
        put(table + 16 * (uint64_t)at + 8, size, 4);
        put(table + 16 * (uint64_t)at + 12, flags, 2);
        put(table + 16 * (uint64_t)at + 14, step, 2);
        place += size < 4000 ? size : 0;
        at = step < entries ? step : next;
    }
}

static void offer_chain(uint32_t queue)
{
    struct queue *q = &queues[queue];
    const uint32_t entries = q->size;
    if (entries == 0)
        return;
    const uint32_t shown = entries <= 1024 ? entries : 1024, head = (uint32_t)below(shown);
    uint32_t count = 2 + (uint32_t)below(4);
    if (one_in(20))
        count = 1 + (uint32_t)below(shown + 2);
    if (one_in(3)) { /* by an indirect table, which may lie where it likes */
        const uint64_t table = lies(40) ? address() : pieces[MAIN].base + 100 * PAGE + below(8 * PAGE);
        if (lies(40))
            count = 1 + (uint32_t)below(1030);
        const uint32_t bytes = lies(40) ? length() : 16 * count;
        describe_chain(queue, table, bytes / 16 < 2000 ? bytes / 16 : 2000, 0, count);
        if (lies(30))
            put(table + 16 * below(count) + 12, 4, 2); /* a table within a table */
        put(q->desc + 16 * (uint64_t)head, table, 8);
        put(q->desc + 16 * (uint64_t)head + 8, bytes, 4);
        put(q->desc + 16 * (uint64_t)head + 12, 4 | (lies(30) ? 3 : 0), 2);
        put(q->desc + 16 * (uint64_t)head + 14, below(entries), 2);
    } else {
        describe_chain(queue, q->desc, shown, head, count);
    }
    put(q->avail + 4 + 2 * (uint64_t)(q->idx % entries), lies(100) ? below(70000) : head, 2);
    q->idx++;
    if (lies(60))
        q->idx = (uint16_t)(q->idx + below(one_in(2) ? 8 : 65536));
    put(q->avail + 2, q->idx, 2);
    if (one_in(4)) {
        put(q->avail, below(2), 2);
        put(q->avail + 4 + 2 * (uint64_t)entries, below(65536), 2);
    }
}

/* ---- what the standard says of a chain (2.7.5) ------------------------------------------------------ */

static bool in_ram(uint64_t addr, uint64_t size)
{
    for (; size != 0;) {
        const struct piece *piece = NULL;
        for (int i = 0; i < PIECES; i++)
            if (pieces[i].kind == EMU_RAM && addr - pieces[i].base < pieces[i].size)
                piece = &pieces[i];
        if (piece == NULL)
            return false;
        uint64_t here = piece->size - (addr - piece->base);
        here = here < size ? here : size;
        addr += here;
        size -= here;
    }
    return true;
}

static bool table_is_sound(uint64_t table, uint32_t entries, uint32_t at, bool may_be_indirect)
{
    bool writes = false;
    uint64_t bytes = 0;
    for (uint32_t steps = 0; steps < entries; steps++) {
        if (at >= entries)
            return false;
        const uint64_t desc = table + 16 * (uint64_t)at, addr = get(desc, 8), size = get(desc + 8, 4), flags = get(desc + 12, 2);
        if (flags & 4) {
            if (!may_be_indirect || (flags & 1) || size == 0 || size % 16 != 0 || !in_ram(addr, size))
                return false;
            return table_is_sound(addr, (uint32_t)size / 16, 0, false);
        }
        bytes += size;
        if (!in_ram(addr, size) || (writes && !(flags & 2)) || bytes > UINT64_C(1) << 32)
            return false;
        writes |= (flags & 2) != 0 && size != 0; /* an empty buffer is none */
        if (!(flags & 1))
            return true;
        at = (uint32_t)get(desc + 14, 2);
    }
    return false; /* a loop */
}

/* Whether the device must ask for a reset when it looks at a queue. */
static bool must_break(uint32_t queue)
{
    const struct queue *q = &queues[queue];
    const uint16_t waiting = (uint16_t)(get(q->avail + 2, 2) - device->queues[queue].next_avail);
    if (waiting == 0)
        return false;
    if (waiting > q->size)
        return true;
    const uint32_t head = (uint32_t)get(q->avail + 4 + 2 * (uint64_t)(device->queues[queue].next_avail % q->size), 2);
    return !table_is_sound(q->desc, q->size, head, (agreed & UINT64_C(1) << 28) != 0);
}

/* ---- time passes ---------------------------------------------------------------------------------------- */

static void send_to_card(void)
{
    static uint8_t bytes[70000];
    size_t size = one_in(10) ? below(sizeof bytes - 4) : 14 + below(1600);
    if (kind == STREAM) {
        uint32_t said = one_in(12) ? (uint32_t)next_random(&seed) : (uint32_t)size;
        for (int i = 0; i < 4; i++)
            bytes[i] = (uint8_t)(said >> (24 - 8 * i));
        size += 4;
    }
    (void)!send(peer, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (one_in(2))
        while (recv(peer, bytes, sizeof bytes, MSG_DONTWAIT) > 0)
            ;
}

/* As the device's thread does, one turn of it. */
static void turn(void)
{
    struct pollfd polls[EMU_VIRTIO_POLLS];
    if (peer >= 0 && !one_in(3))
        send_to_card();
    if (kind == CONSOLE && one_in(2))
        use_ports();
    if (race) {
        emu_virtio_wake(device);
        usleep(50);
        return;
    }
    pthread_mutex_lock(&device->work);
    int timeout = -1, count = 0;
    if (atomic_load(&device->running))
        serve(device);
    if (atomic_load(&device->running) && device->type->wait != NULL) {
        count = device->type->wait(device, polls, EMU_VIRTIO_POLLS, &timeout);
        if (poll(polls, (nfds_t)count, 0) >= 0 && device->type->ready != NULL)
            device->type->ready(device, polls, count);
    }
    pthread_mutex_unlock(&device->work);
}

static bool is_served(uint32_t queue)
{
    switch (kind) {
    case FRAMES: /* while the cable has room */
    case STREAM:
        return false;
    case USER:
        return queue == 1; /* frames come when they like, and commands where that was agreed on */
    case RNG:
        return false; /* at its rate */
    case CONSOLE: /* what the guest sends, while the host takes it */
        return queue == 3 ? (agreed & 2) != 0 : queue & 1 && (queue < 2 || (agreed & 2)) && !full[queue / 4];
    default:
        return true;
    }
}

static void notify(uint32_t queue)
{
    int waiting = 0;
    bool due = false;
    if (!race && known && atomic_load(&device->running)) {
        for (uint32_t q = 0; q < device->nqueues; q++)
            waiting += device->queues[q].ready && get(queues[q].avail + 2, 2) != device->queues[q].next_avail;
        due = waiting == 1 && queues[queue].size != 0 && device->queues[queue].ready && is_served(queue) && must_break(queue);
    }
    reg(transport == PCI ? EMU_VIRTIO_PCI_NOTIFY + 4 * queue : 0x50, transport == PCI ? 2 : 4, queue);
    turn();
    if (due && !(status() & EMU_VIRTIO_NEEDS_RESET))
        fail("a chain that breaks the rules was taken for good");
    if (!race && (status() & EMU_VIRTIO_NEEDS_RESET) && device->fault[0] == 0)
        fail("it needs a reset and does not say why");
}

static void poke(void)
{
    const uint64_t reach = transport == PCI ? EMU_VIRTIO_PCI_SIZE : 0x200;
    const uint32_t width = 1u << below(4);
    uint64_t offset = one_in(3) ? below(reach) : below(0x120), value = one_in(2) ? below(300) : next_random(&seed) >> below(64);
    if (transport == PCI && one_in(3))
        offset = below(4) * 0x1000 + below(70);
    if (one_in(2))
        offset &= ~(uint64_t)(width - 1);
    if (one_in(3)) {
        (void)look(offset, width);
        return;
    }
    known = false;
    reg(offset, width, value);
}

static void something(void)
{
    const uint32_t queue = (uint32_t)below(device->nqueues);
    switch (below(24)) {
    case 0:
        for (uint64_t i = 1 + below(6); i > 0; i--)
            poke();
        break;
    case 1:
        known = false;
        set_status(one_in(2) ? below(256) : 0);
        if (one_in(2))
            begin(false);
        break;
    case 2:
        if (pci != NULL && transport == PCI) {
            emu_pci_control(pci, (int)below(2), (int)below(2), (int)below(2));
            for (uint64_t i = below(8); i > 0; i--)
                (void)emu_space_write(space, TABLE_BASE + below(EMU_MSIX_SIZE), 1u << below(4),
                                      one_in(2) ? FRAME_BASE + 0x40 : one_in(2) ? 80 + below(64) : next_random(&seed));
        }
        break;
    case 3: { /* a snapshot, and back */
        static emu_virtio_saved saved;
        emu_virtio_save(device, &saved);
        if (one_in(2))
            emu_virtio_load(device, &saved);
        break;
    }
    case 4: /* anything, anywhere in the rings */
        if (lies(1))
            put(pieces[MAIN].base + below(60 * PAGE), next_random(&seed), 1u << below(4));
        break;
    case 5:
        if (kind == BALLOON)
            emu_virtio_balloon_target(device, (uint32_t)below(1000));
        else if (kind == BLK || kind == QCOW2)
            emu_virtio_blk_resized(device);
        else if (kind == CONSOLE)
            use_ports();
        else if (kind != RNG && kind != NINE_P)
            emu_virtio_net_link(device, (int)below(2));
        break;
    case 6: /* the controller takes an interrupt and ends it */
        for (uint64_t number = 0; number == 0;) {
            (void)emu_space_read(space, GIC_BASE + 0x1000c, 4, &number);
            (void)emu_space_write(space, GIC_BASE + 0x10010, 4, number);
        }
        (void)look(transport == PCI ? 0x1000 : 0x60, transport == PCI ? 1 : 4);
        if (transport != PCI)
            reg(0x64, 4, below(4));
        break;
    case 7:
    case 8:
        turn();
        break;
    default:
        for (uint64_t i = one_in(4) ? below(12) : 1; i > 0; i--)
            offer_chain(queue);
        if (!one_in(8))
            notify(queue);
    }
}

static void drive(void)
{
    static const uint64_t patiences[] = {1, 4, 30};
    drivers++;
    patience = patiences[below(3)];
    begin(false);
    for (uint64_t i = 2 + below(20); i > 0; i--)
        something();
    emu_virtio_hold(device);
    for (uint32_t q = 0; q < device->nqueues; q++)
        served += device->queues[q].next_used;
    emu_virtio_release(device);
    broken_drivers += (status() & EMU_VIRTIO_NEEDS_RESET) != 0;
    set_status(0);
    if (!race && (status() != 0 || device->queues[0].ready)) /* with others there it may not stay so */
        fail("a reset does not reset it");
}

/* ---- an honest driver --------------------------------------------------------------------------------------- */

static void buffer(uint32_t queue, uint32_t at, uint64_t addr, uint32_t size, uint32_t flags)
{
    const uint64_t desc = queues[queue].desc + 16 * (uint64_t)at;
    put(desc, addr, 8);
    put(desc + 8, size, 4);
    put(desc + 12, flags, 2);
    put(desc + 14, at + 1, 2);
}

static void serve_an_honest_driver(void)
{
    const uint64_t data = pieces[MAIN].base;
    const uint32_t queue = kind == FRAMES || kind == STREAM || kind == USER || kind == CONSOLE ? 1 : 0;
    for (uint32_t port = 0; kind == CONSOLE && port < PORTS; port++)
        emu_virtio_console_drained(device, port);
    if (kind == FRAMES || kind == STREAM || kind == USER)
        emu_virtio_net_link(device, 1);
    if (kind == STREAM)
        return; /* its cable may have been pulled because of what came from the other side */
    begin(true);
    for (uint64_t i = 0; i < 1024; i++)
        put(data + i, 0, 1);
    switch (kind) {
    case BLK:
    case QCOW2:
        buffer(queue, 0, data, 16, 1);
        buffer(queue, 1, data + 1024, 512, 3);
        buffer(queue, 2, data + 2048, 1, 2);
        put(data + 2048, 0xff, 1);
        break;
    case RNG:
        buffer(queue, 0, data, 1, 2);
        break;
    case NINE_P:
        put(data, 21, 4);
        put(data + 4, 100, 1);
        put(data + 7, 8192, 4);
        put(data + 11, 8, 2);
        for (int i = 0; i < 8; i++)
            put(data + 13 + (uint64_t)i, (uint64_t)"9P2000.L"[i], 1);
        buffer(queue, 0, data, 21, 1);
        buffer(queue, 1, data + 1024, 64, 2);
        break;
    case BALLOON:
        put(data, pieces[MAIN].base / PAGE + 120, 4);
        buffer(queue, 0, data, 4, 0);
        break;
    default:
        buffer(queue, 0, data, 72, 0);
    }
    put(queues[queue].avail + 4, 0, 2);
    put(queues[queue].avail + 2, 1, 2);
    for (int i = 0; i < 4000 && get(queues[queue].used + 2, 2) == 0; i++) {
        if (kind == FRAMES) /* the other end takes what came before */
            for (uint8_t old[70000]; recv(peer, old, sizeof old, MSG_DONTWAIT) > 0;)
                ;
        reg(transport == PCI ? EMU_VIRTIO_PCI_NOTIFY + 4 * queue : 0x50, transport == PCI ? 2 : 4, queue);
        turn();
        if (kind == RNG || race)
            usleep(1000);
    }
    if (get(queues[queue].used + 2, 2) != 1 || (status() & EMU_VIRTIO_NEEDS_RESET))
        fail("an honest driver is not served any more");
    if ((kind == BLK || kind == QCOW2) && get(data + 2048, 1) != 0)
        fail("the disk cannot be read any more");
    if (kind == NINE_P && get(data + 1024 + 4, 1) != 101)
        fail("the file server does not answer any more");
    set_status(0);
}

/* ---- others at the same time ------------------------------------------------------------------------------------ */

static _Atomic bool over;

__attribute__((no_sanitize("thread"))) static void *scribble(void *opaque)
{
    uint64_t own = machine_seed * 77 + 1;
    while (!atomic_load(&over)) {
        uint64_t place = next_random(&own) >> 8, queue = place % 4;
        place = pieces[MAIN].base + (8 + 8 * queue) * PAGE + (place >> 8) % ((place >> 40) % 4 == 0 ? 6 * PAGE : 256);
        for (int i = 0; i < 4; i++) {
            volatile uint8_t *at = ram_at(place + (uint64_t)i);
            uint8_t kept = *at;
            *at = (uint8_t)next_random(&own);
            if (next_random(&own) >> 60)
                *at = kept;
        }
    }
    return NULL;
}

/* Another CPU. */
static void *meddle(void *opaque)
{
    uint64_t own = machine_seed * 99 + 1, value;
    const uint64_t reach = transport == PCI ? 0x3040 : 0x140;
    while (!atomic_load(&over)) {
        const uint64_t offset = (next_random(&own) >> 20) % reach & ~UINT64_C(3);
        const bool resets = offset == (transport == PCI ? 0x14 : 0x70);
        if (next_random(&own) >> (resets ? 52 : 58))
            (void)emu_space_read(space, DEVICE_BASE + offset, 1u << (next_random(&own) >> 62), &value);
        else
            (void)emu_space_write(space, DEVICE_BASE + offset, 4, next_random(&own) >> 56);
        (void)emu_space_read(space, GIC_BASE + 0x1000c, 4, &value);
        (void)emu_space_write(space, GIC_BASE + 0x10010, 4, value);
    }
    return NULL;
}

static void run_machine(uint64_t cases)
{
    pthread_t others[2];
    alarm(SECONDS);
    seed = machine_seed * UINT64_C(0x9E3779B97F4A7C15) | 1;
    transport = (enum transport)below(TRANSPORTS);
    make_controller();
    make_device();
    if (race) {
        atomic_store(&over, false);
        CHECK(pthread_create(&others[0], NULL, scribble, NULL) == 0 && pthread_create(&others[1], NULL, meddle, NULL) == 0);
    }
    for (uint64_t i = 0; i < cases; i++)
        drive();
    if (race) {
        atomic_store(&over, true);
        pthread_join(others[0], NULL);
        pthread_join(others[1], NULL);
        set_status(0);
    }
    if (!(race && kind == FRAMES))
        serve_an_honest_driver();
    end_device();
    end_controller();
    for (uint64_t i = 0; i < PAGE; i++)
        if (pieces[ROM].host[i] != 0x5a)
            fail("ROM was written");
}

int main(int argc, char **argv)
{
    if (argc < 5)
        return 2;
    for (kind = 0; kind < KINDS && strcmp(argv[1], kind_names[kind]) != 0;)
        kind++;
    if (kind == KINDS)
        return 2;
    uint64_t cases = strtoull(argv[2], NULL, 0);
    machine_seed = strtoull(argv[3], NULL, 0);
    folder = argv[4];
    race = argc > 5;
    struct rlimit most = {1 << 24, 1 << 24};
    setrlimit(RLIMIT_FSIZE, &most);
    signal(SIGXFSZ, SIG_IGN);
    signal(SIGALRM, too_long);
    __sanitizer_set_death_callback(last_words);
    if (kind == NINE_P) {
        char path[4096];
        snprintf(path, sizeof path, "%s/share", folder);
        CHECK(mkdir(path, 0700) == 0 || errno == EEXIST);
        share = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        CHECK(share >= 0);
    }
    make_memory();
    for (; drivers < cases; machine_seed++)
        run_machine(cases - drivers < CASES_OF_A_MACHINE ? cases - drivers : CASES_OF_A_MACHINE);
    printf("%" PRIu64 " drivers, %" PRIu64 " chains used, %" PRIu64 " drivers broke the rules, %d interrupts\n",
           drivers, served, broken_drivers, atomic_load(&interrupts));
    return 0;
}
