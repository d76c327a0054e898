/*
 * Devices in C under accesses of every width at any offset: fuzz_devices KIND CASES SEED FOLDER [race].
 *
 * KIND: gicv2, gicv3, gicv2m, its, msix, apic, pflash.  Accesses go through the map, as a CPU's do; lines move meanwhile, states
 * are saved and loaded, devices are reset.  A machine lives for CASES_OF_A_MACHINE accesses and has to work at its end.
 * With `race` four CPUs do so at once.  pflash must keep its file as its contents are.
 */
#include "apic.h"
#include "check.h"
#include "gic.h"
#include "gic_its.h"
#include "gic_lpi.h"
#include "gicv2m.h"
#include "pci.h"
#include "pflash.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sanitizer/common_interface_defs.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { CASES_OF_A_MACHINE = 2000, SECONDS = 120, CPUS = 4, SPIS = 288 };
#define BASE UINT64_C(0x08000000)
#define RAM_BASE UINT64_C(0x40000000)
#define RAM_SIZE UINT64_C(0x40000)
#define VALID (UINT64_C(1) << 63)
#define TRANSLATER (BASE + 0x10040)
#define FLASH_SIZE (UINT64_C(4) * EMU_PFLASH_BLOCK)

enum kind { GICV2, GICV3, GICV2M, ITS, MSIX, APIC, PFLASH, KINDS };
static const char *const names[] = {"gicv2", "gicv3", "gicv2m", "its", "msix", "apic", "pflash"};

static enum kind kind;
static uint64_t machine_seed;
static const char *folder;
static bool race;

static emu_space *space;
static emu_region *regions[2];
static emu_gic *gic;
static emu_gicv2m *frame;
static emu_gic_its *its;
static emu_region *ram;
static uint8_t *ram_host;
static emu_irq *inputs[SPIS + 32], *outputs[EMU_GIC_CPUS][2], *pins[4];
static emu_pci_wires *wires;
static emu_pci *functions[3];
static emu_apic *apic;
static emu_pflash *flash;
static uint8_t *flash_host;
static int flash_fd;
static uint32_t cpus, vectors;
static _Atomic int taken, vector;

static bool is_v3(void) { return kind == GICV3 || kind == ITS; }

static uint64_t below(uint64_t *seed, uint64_t n) { return (next_random(seed) >> 20) % n; }

/* Of a sanitizer that ends the program: which machine it was.  UBSan calls its own hook. */
static void last_words(void) { fprintf(stderr, "%s, machine of seed %" PRIu64 "\n", names[kind], machine_seed); }

void __ubsan_on_report(void);
void __ubsan_on_report(void) { last_words(); }

static void fail(const char *why)
{
    fprintf(stderr, "%s, machine of seed %" PRIu64 ": %s\n", names[kind], machine_seed, why);
    abort();
}

static void too_long(int signal) { fail("hangs"); }

static void take(void *opaque, uint32_t number, int level) { atomic_fetch_add(&taken, level); }

/* A CPU behind a local APIC: what it is told last. */
static void told(void *opaque, uint32_t number, int level)
{
    if (number == 0 && opaque == NULL)
        atomic_store(&vector, level);
    atomic_fetch_add(&taken, level != 0);
}

static emu_region *map(uint64_t base, uint64_t size, emu_read_fn read, emu_write_fn write, void *opaque)
{
    emu_region *region = emu_region_new(EMU_IO, size, NULL);
    emu_region_hooks(region, read, write, opaque);
    CHECK(emu_space_add(space, region, base, 0) == 0);
    return region;
}

static void make_gic(uint32_t version)
{
    gic = emu_gic_new(version, cpus, SPIS);
    for (uint32_t i = 0; i < cpus; i++) {
        for (uint32_t n = 0; n < 2; n++) {
            outputs[i][n] = emu_irq_new();
            emu_irq_connect(outputs[i][n], take, NULL, i);
            emu_gic_output(gic, i, n, outputs[i][n]);
        }
    }
    for (uint32_t n = 16; n < SPIS + 32; n++) {
        inputs[n] = emu_irq_new();
        emu_irq_connect(inputs[n], emu_gic_input, gic, n);
    }
}

/* ---- the ITS: its tables and commands in RAM, with pages behind it that may not be touched ---- */

__attribute__((no_sanitize("thread"))) static void put(uint64_t addr, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        ram_host[(addr - RAM_BASE + (uint64_t)i) % RAM_SIZE] = (uint8_t)(value >> 8 * i);
}

static void make_its(void)
{
    if (ram_host == NULL) {
        uint8_t *place = mmap(NULL, 3 * RAM_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(place != MAP_FAILED && mprotect(place + RAM_SIZE, RAM_SIZE, PROT_READ | PROT_WRITE) == 0);
        ram_host = place + RAM_SIZE;
    }
    memset(ram_host, 0, RAM_SIZE);
    ram = emu_region_new(EMU_RAM, RAM_SIZE, ram_host);
    CHECK(emu_space_add(space, ram, RAM_BASE, 0) == 0);
    CHECK(emu_gic_lpis(gic, space) == 1);
    its = emu_gic_its_new(gic, space, BASE);
    regions[0] = map(BASE, 0x20000, emu_gic_its_read, emu_gic_its_write, its);
    regions[1] = map(BASE + 0x20000, 0x20000 * (EMU_GIC_CPUS + 1), emu_gic_read_redistributors,
                     emu_gic_write_redistributors, gic);
}

/* Its tables, as a kernel gives them: commands, devices, collections, priorities, and each CPU's pending ones. */
static void give_tables(void)
{
    (void)emu_gic_its_write(its, 0, 4, 0);
    (void)emu_gic_its_write(its, 0x80, 8, VALID | RAM_BASE | 1);
    (void)emu_gic_its_write(its, 0x100, 8, VALID | (RAM_BASE + 0x2000) | 1);
    (void)emu_gic_its_write(its, 0x108, 8, VALID | (RAM_BASE + 0x4000));
    for (uint32_t i = 0; i < cpus; i++) {
        (void)emu_gic_write_redistributors(gic, 0x20000 * i, 4, 0);
        (void)emu_gic_write_redistributors(gic, 0x20000 * i + 0x70, 8, (RAM_BASE + 0x6000) | 13);
        (void)emu_gic_write_redistributors(gic, 0x20000 * i + 0x78, 8, UINT64_C(1) << 62 | (RAM_BASE + 0x10000));
        (void)emu_gic_write_redistributors(gic, 0x20000 * i, 4, 1);
    }
    (void)emu_gic_its_write(its, 0, 4, 1);
}

static void command(uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    uint64_t at = 0, queue = 0;
    (void)emu_gic_its_read(its, 0x90, 8, &at);
    (void)emu_gic_its_read(its, 0x80, 8, &queue);
    const uint64_t words[] = {a, b, c, d}, base = queue & UINT64_C(0xffffffffff000);
    for (uint64_t i = 0; i < 4; i++)
        put(base + (at & ~UINT64_C(31)) + 8 * i, words[i]);
    (void)emu_gic_its_write(its, 0x88, 8, ((at & ~UINT64_C(31)) + 32) % (((queue & 0xff) + 1) << 12) | 1);
}

static uint64_t some_table(uint64_t *seed)
{
    static const uint64_t flags[] = {0, UINT64_C(1) << 62, 0x100, 0x200};
    uint64_t address = RAM_BASE + below(seed, 66) * 0x1000;
    address = below(seed, 8) ? address : next_random(seed) & UINT64_C(0xffffffffff000);
    return address | (below(seed, 4) ? VALID : 0) | flags[below(seed, 4)] | below(seed, below(seed, 4) ? 3 : 256);
}

static void use_its(uint64_t *seed)
{
    static _Thread_local emu_gic_its_state state;
    static _Thread_local emu_gic_lpi_state lpis;
    const uint64_t device = below(seed, below(seed, 8) ? 4 : 0x20000), event = below(seed, below(seed, 8) ? 8 : 0x20000);
    const uint64_t lpi = below(seed, 8) ? 8192 + below(seed, 40) : below(seed, 0x20000), cpu = below(seed, cpus + 1);
    const uint32_t which = (uint32_t)below(seed, cpus);
    uint64_t more = below(seed, 8) ? (below(seed, 8) ? VALID : 0) | cpu << 16 | below(seed, 4) : next_random(seed);
    switch (below(seed, 12)) {
    case 0:
        if (below(seed, 8) == 0)
            give_tables();
        break;
    case 1:
        emu_gic_its_save(its, &state);
        if (below(seed, 8) == 0)
            ((uint8_t *)&state)[below(seed, sizeof state)] ^= (uint8_t)(1u << below(seed, 8));
        emu_gic_its_load(its, &state);
        break;
    case 2:
        emu_gic_lpi_save(gic, which, &lpis);
        if (below(seed, 8) == 0)
            lpis.pending[below(seed, 1024)] = next_random(seed);
        emu_gic_lpi_load(gic, which, &lpis);
        break;
    case 3:
        put(RAM_BASE + below(seed, RAM_SIZE - 8), next_random(seed) >> below(seed, 64));
        break;
    case 4:
        put(RAM_BASE + 0x6000 + below(seed, 64), next_random(seed) | 1);
        break;
    case 5:
    case 6:
    case 7:
        emu_gic_its_message(its, (uint32_t)device, TRANSLATER + 4 * (below(seed, 30) == 0), (uint32_t)event);
        break;
    default: {
        const uint64_t kind_of = below(seed, 20) ? 1 + below(seed, 15) : next_random(seed);
        if (kind_of == 8) /* MAPD: events' tables, all over RAM */
            more = (below(seed, 8) ? VALID : 0) | (RAM_BASE + 0x8000 + below(seed, 0x400) * 256);
        command(kind_of | device << 32, (kind_of == 8 ? below(seed, 32) : event) | lpi << 32, more, cpu << 16);
    }
    }
}

static void make(uint64_t *seed)
{
    space = emu_space_new(0);
    cpus = is_v3() ? 1 + (uint32_t)below(seed, EMU_GIC_CPUS) : 1;
    if (kind != PFLASH && kind != APIC)
        make_gic(is_v3() ? 3 : 2);
    frame = gic == NULL ? NULL : emu_gicv2m_new(BASE, 80, EMU_GICV2M_SPIS, inputs + 80);
    switch (kind) {
    case GICV2:
        regions[0] = map(BASE, 0x20000, emu_gic_read_v2, emu_gic_write_v2, gic);
        break;
    case GICV3:
        regions[0] = map(BASE, 0x10000, emu_gic_read_distributor, emu_gic_write_distributor, gic);
        regions[1] = map(BASE + 0x10000, 0x20000 * (EMU_GIC_CPUS + 1), emu_gic_read_redistributors,
                         emu_gic_write_redistributors, gic);
        break;
    case ITS:
        make_its();
        break;
    case GICV2M:
        regions[0] = map(BASE, 0x1000, emu_gicv2m_read, emu_gicv2m_write, frame);
        break;
    case MSIX:
        for (uint32_t i = 0; i < 4; i++)
            pins[i] = inputs[35 + i];
        wires = emu_pci_wires_new(pins[0], pins[1], pins[2], pins[3]);
        vectors = (uint32_t)below(seed, EMU_MSIX_VECTORS + 1);
        for (uint32_t i = 0; i < 3; i++)
            functions[i] = emu_pci_new(wires, i % 2, vectors, emu_gicv2m_message, frame, 8 * i);
        regions[0] = map(BASE, EMU_MSIX_SIZE, emu_pci_msix_read, emu_pci_msix_write, functions[0]);
        break;
    case APIC:
        cpus = 1 + (uint32_t)below(seed, EMU_APIC_CPUS);
        apic = emu_apic_new(cpus);
        for (uint32_t i = 0; i < cpus; i++)
            emu_apic_output(apic, i, told, i == 0 ? NULL : apic);
        regions[0] = map(BASE, 0x1000, emu_apic_read_local, emu_apic_write_local, apic);
        regions[1] = map(BASE + 0x10000, 0x1000, emu_apic_read_io, emu_apic_write_io, apic);
        break;
    default: {
        char path[4096];
        snprintf(path, sizeof path, "%s/flash", folder);
        flash_fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        flash_host = mmap(NULL, FLASH_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(flash_fd >= 0 && flash_host != MAP_FAILED);
        flash = emu_pflash_new(flash_host, FLASH_SIZE, 0xff, below(seed, 8) != 0);
        emu_pflash_store(flash, flash_fd, 0);
        regions[0] = map(BASE, FLASH_SIZE, emu_pflash_read, emu_pflash_write, flash);
    }
    }
}

/* Everything enabled, so that what comes next finds interrupts that are taken. */
static void enable(uint64_t *seed)
{
    if (gic == NULL || below(seed, 4) == 0)
        return;
    for (uint32_t at = 0x100; at < 0x180; at += 4)
        CHECK(emu_gic_write_distributor(gic, at, 4, UINT32_MAX) == EMU_OK);
    CHECK(emu_gic_write_distributor(gic, 0, 4, 3) == EMU_OK);
    if (!is_v3()) {
        CHECK(emu_gic_write_v2(gic, 0x10000, 4, 7) == EMU_OK && emu_gic_write_v2(gic, 0x10004, 4, 0xf8) == EMU_OK);
        return;
    }
    for (uint32_t i = 0; i < cpus; i++) {
        emu_gic_interface interface = {.gic = gic, .cpu = i};
        CHECK(emu_gic_write_redistributors(gic, 0x20000 * i + 0x10100, 4, UINT32_MAX) == EMU_OK);
        CHECK(emu_gic_write_system(&interface, 3u << 14 | 4 << 7 | 6 << 3, 0xf8) == EMU_OK);
        CHECK(emu_gic_write_system(&interface, 3u << 14 | 12 << 7 | 12 << 3 | 6, 1) == EMU_OK);
        CHECK(emu_gic_write_system(&interface, 3u << 14 | 12 << 7 | 12 << 3 | 7, 1) == EMU_OK);
    }
    if (kind == ITS)
        give_tables();
}

static void end(void)
{
    for (int i = 0; i < 2; i++) {
        if (regions[i] != NULL) {
            CHECK(emu_space_remove(space, regions[i]) == 0);
            emu_region_free(regions[i]);
        }
        regions[i] = NULL;
    }
    for (int i = 0; i < 3; i++)
        emu_pci_free(functions[i]);
    memset(functions, 0, sizeof functions);
    emu_pci_wires_free(wires);
    emu_gicv2m_free(frame);
    emu_gic_its_free(its);
    if (ram != NULL) {
        CHECK(emu_space_remove(space, ram) == 0);
        emu_region_free(ram);
    }
    its = NULL;
    ram = NULL;
    for (uint32_t n = 16; n < SPIS + 32; n++)
        emu_irq_free(inputs[n]);
    memset(inputs, 0, sizeof inputs);
    emu_gic_free(gic);
    emu_apic_free(apic);
    apic = NULL;
    for (uint32_t i = 0; i < EMU_GIC_CPUS; i++)
        for (uint32_t n = 0; n < 2; n++)
            emu_irq_free(outputs[i][n]);
    memset(outputs, 0, sizeof outputs);
    if (flash != NULL) {
        emu_pflash_free(flash);
        munmap(flash_host, FLASH_SIZE);
        close(flash_fd);
    }
    wires = NULL;
    frame = NULL;
    gic = NULL;
    flash = NULL;
    emu_space_free(space);
}

static uint64_t some_value(uint64_t *seed)
{
    static const uint8_t commands[] = {0xff, 0xf0, 0x90, 0x98, 0x70, 0x50, 0x40, 0x10, 0x20, 0x60, 0xe8, 0xd0, 0x01};
    if (kind == PFLASH && below(seed, 2))
        return commands[below(seed, sizeof commands)] * UINT64_C(0x00010001);
    if (kind == ITS && below(seed, 2))
        return some_table(seed);
    switch (below(seed, 5)) {
    case 0:
        return UINT64_MAX;
    case 1:
        return below(seed, 1024);
    case 2:
        return UINT64_C(1) << below(seed, 64);
    case 3:
        return kind == MSIX ? BASE + 0x40 : 0;
    }
    return next_random(seed);
}

/* The registers that a GIC has, or anywhere. */
static uint64_t some_offset(uint64_t *seed)
{
    static const uint32_t places[] = {0, 0x80, 0x100, 0x180, 0x200, 0x280, 0x300, 0x380, 0x400, 0x800, 0xc00, 0xf00, 0xfd0, 0x6000, 0xffd0};
    const uint64_t size = emu_region_size(regions[0]);
    uint64_t offset = below(seed, size);
    if (kind == GICV2 || kind == GICV3) {
        offset = places[below(seed, sizeof places / sizeof *places)] + below(seed, 0x80);
        if (below(seed, 3) == 0)
            offset = 0x10000 * below(seed, 2 * EMU_GIC_CPUS + 3) + below(seed, below(seed, 2) ? 0x110 : 0x1100);
    } else if (kind == ITS && below(seed, 8)) {
        static const uint32_t own[] = {0, 8, 0x80, 0x88, 0x90, 0x100, 0x108, 0x10040, 0xffe8};
        static const uint32_t cpus_own[] = {0, 8, 0x14, 0x70, 0x78, 0xffe8};
        offset = below(seed, 2) ? own[below(seed, sizeof own / sizeof *own)] : 0x20000 * (1 + below(seed, cpus + 1)) +
                 cpus_own[below(seed, sizeof cpus_own / sizeof *cpus_own)];
        return offset + (below(seed, 4) ? 0 : below(seed, 8));
    } else if (kind == PFLASH && below(seed, 4)) {
        offset = below(seed, 2) ? below(seed, 0x2100) : size - 1 - below(seed, 40);
    } else if (kind == MSIX && below(seed, 3) == 0) {
        offset = below(seed, 2) ? 16 * (uint64_t)vectors + below(seed, 20) - 10 : EMU_MSIX_PENDING + below(seed, 20) - 4;
    }
    if (kind == APIC && below(seed, 2)) /* a register of the local one, or the other's window */
        offset = below(seed, 3) ? 16 * below(seed, 0x40) : 0x10000 + 16 * below(seed, 3);
    return below(seed, 2) ? offset & ~UINT64_C(3) : offset;
}

static void use_interface(uint64_t *seed)
{
    /* ICC_*_EL1: op0 3, CRn 4 or 12 */
    emu_gic_interface interface = {.gic = gic, .cpu = (uint32_t)below(seed, cpus)};
    uint32_t code = 3u << 14 | (uint32_t)below(seed, 2) * (4u << 11) | (below(seed, 8) ? 12u : 4u) << 7 | (uint32_t)below(seed, 128);
    uint64_t value = 0;
    if (below(seed, 40) == 0)
        code = (uint32_t)next_random(seed);
    if (below(seed, 2))
        CHECK(emu_gic_read_system(&interface, code, &value) == EMU_OK);
    else
        CHECK(emu_gic_write_system(&interface, code, some_value(seed)) == EMU_OK);
}

static void use_apic(uint64_t *seed)
{
    static _Thread_local emu_apic_state state;
    switch (below(seed, 8)) {
    case 0:
        emu_apic_save(apic, &state);
        emu_apic_load(apic, &state);
        break;
    case 1:
        emu_apic_message(apic, 0, below(seed, 3) ? UINT64_C(0xfee00000) | (next_random(seed) & 0xfffff) : next_random(seed),
                         (uint32_t)next_random(seed));
        break;
    case 2:
        emu_apic_external(apic, (uint32_t)below(seed, 257));
        break;
    case 3:
    case 4: /* the CPU takes what it was told */
        if (atomic_load(&vector) != 0)
            emu_apic_accepted(apic, 0, atomic_load(&vector) - 1);
        (void)emu_space_write(space, BASE + 0xb0, 4, 0);
        break;
    case 5:
        if (below(seed, 10) == 0)
            emu_apic_reset(apic);
        break;
    default:
        emu_apic_input(apic, (uint32_t)(below(seed, 10) ? below(seed, EMU_APIC_INPUTS) : next_random(seed)), (int)below(seed, 2));
    }
}

static void something(uint64_t *seed)
{
    static _Thread_local emu_gic_state gic_state;
    static _Thread_local emu_pci_saved pci_state;
    static _Thread_local emu_pflash_state flash_state;
    const uint32_t width = 1u << below(seed, 4);
    uint64_t value = 0;
    switch (below(seed, 100)) {
    case 0:
        if (gic != NULL && below(seed, 10) == 0)
            emu_gic_reset(gic);
        if (flash != NULL)
            emu_pflash_reset(flash);
        if (functions[0] != NULL && below(seed, 4) == 0)
            emu_pci_reset(functions[0]);
        return;
    case 1:
        if (gic != NULL) {
            emu_gic_save(gic, &gic_state);
            emu_gic_load(gic, &gic_state);
        }
        if (flash != NULL) {
            emu_pflash_save(flash, &flash_state);
            if (below(seed, 2))
                ((uint8_t *)&flash_state)[below(seed, 32)] ^= (uint8_t)(1u << below(seed, 8));
            (void)emu_pflash_load(flash, &flash_state);
        }
        return;
    case 2:
        if (functions[0] != NULL) {
            emu_pci_save(functions[0], &pci_state);
            for (int i = 0; i < 4; i++)
                pci_state.table[below(seed, 512)] = (uint32_t)next_random(seed);
            emu_pci_load(functions[below(seed, 3)], &pci_state);
        }
        return;
    default:
        break;
    }
    if (gic != NULL && below(seed, 5) == 0) {
        emu_irq_set(inputs[16 + below(seed, SPIS + 16)], (int)below(seed, 2));
        emu_gic_input(gic, (uint32_t)next_random(seed), (int)below(seed, 2));
        return;
    }
    if (gic != NULL && below(seed, 5) == 0) { /* take an interrupt and end it */
        emu_gic_interface interface = {.gic = gic, .cpu = (uint32_t)below(seed, cpus)};
        const uint32_t iar1 = 3u << 14 | 12 << 7 | 12 << 3, iar0 = 3u << 14 | 12 << 7 | 8 << 3, code = below(seed, 2) ? iar0 : iar1;
        if (is_v3() && emu_gic_read_system(&interface, code, &value) == EMU_OK)
            CHECK(emu_gic_write_system(&interface, code + 1, value) == EMU_OK);
        else if (!is_v3() && emu_gic_read_v2(gic, 0x1000c, 4, &value) == EMU_OK)
            CHECK(emu_gic_write_v2(gic, 0x10010, 4, value) == EMU_OK);
        return;
    }
    if (kind == APIC && below(seed, 3) == 0) {
        use_apic(seed);
        return;
    }
    if (kind == ITS && below(seed, 2)) {
        use_its(seed);
        return;
    }
    if (is_v3() && below(seed, 3) == 0) {
        use_interface(seed);
        return;
    }
    if (kind == MSIX && below(seed, 3) == 0) {
        emu_pci *pci = functions[below(seed, 3)];
        if (below(seed, 3) == 0)
            emu_pci_control(pci, (int)below(seed, 2), (int)below(seed, 2), (int)below(seed, 2));
        else if (below(seed, 2))
            emu_pci_pull(pci, (int)below(seed, 2));
        else
            (void)emu_pci_notify(pci, below(seed, 4) ? (uint32_t)below(seed, vectors + 2) : (uint32_t)next_random(seed));
        return;
    }
    const uint64_t address = BASE + some_offset(seed);
    if (below(seed, 5) < 2)
        (void)emu_space_read(space, address, width, &value);
    else
        (void)emu_space_write(space, address, width, some_value(seed));
}

/* For the lines and for the GIC, which may see them otherwise: a state that was loaded is older than they are. */
static void lower_inputs(void)
{
    for (uint32_t n = 16; n < SPIS + 32; n++) {
        emu_irq_set(inputs[n], 0);
        for (uint32_t i = 0; i < cpus; i++)
            emu_gic_input(gic, i << 16 | n, 0);
    }
}

/* An interrupt is delivered and ended; the flash is erased and programmed. */
static void work(void)
{
    uint64_t value = 0;
    if (kind == GICV2 || kind == GICV2M || kind == MSIX) {
        emu_region *registers = kind == GICV2 ? NULL : map(BASE + 0x100000, 0x20000, emu_gic_read_v2, emu_gic_write_v2, gic);
        const uint64_t base = kind == GICV2 ? BASE : BASE + 0x100000;
        lower_inputs();
        emu_gic_reset(gic);
        CHECK(emu_space_write(space, base, 4, 1) == EMU_OK && emu_space_write(space, base + 0x10000, 4, 1) == EMU_OK);
        CHECK(emu_space_write(space, base + 0x10004, 4, 0xf8) == EMU_OK);
        CHECK(emu_space_write(space, base + 0x108, 4, 1u << 16) == EMU_OK); /* 80 */
        CHECK(emu_space_write(space, base + 0xc14, 4, 2) == EMU_OK);        /* an edge */
        if (kind == GICV2)
            emu_irq_set(inputs[80], 1);
        else
            emu_gicv2m_message(frame, 0, BASE + 0x40, 80);
        if (emu_irq_level(outputs[0][0]) != 1)
            fail("an interrupt does not come");
        CHECK(emu_space_read(space, base + 0x1000c, 4, &value) == EMU_OK);
        if (value != 80 || emu_irq_level(outputs[0][0]) != 0)
            fail("an interrupt is not taken");
        CHECK(emu_space_write(space, base + 0x10010, 4, 80) == EMU_OK);
        emu_irq_set(inputs[80], 0);
        if (registers != NULL) {
            CHECK(emu_space_remove(space, registers) == 0);
            emu_region_free(registers);
        }
    } else if (kind == ITS) {
        emu_gic_interface interface = {.gic = gic, .cpu = cpus - 1};
        emu_gic_reset(gic);
        emu_gic_its_reset(its);
        memset(ram_host, 0, RAM_SIZE);
        give_tables();
        ram_host[0x6000 + 9] = 0xa1;
        command(UINT64_C(5) << 32 | 8, 3, VALID | (RAM_BASE + 0x8000), 0);      /* MAPD 5 */
        command(9, 0, VALID | (uint64_t)(cpus - 1) << 16 | 2, 0);                /* MAPC 2 */
        command(UINT64_C(5) << 32 | 10, UINT64_C(8201) << 32 | 6, 2, 0);         /* MAPTI 5, 6: 8201 in 2 */
        CHECK(emu_gic_write_distributor(gic, 0, 4, 2) == EMU_OK);
        CHECK(emu_gic_write_system(&interface, 3u << 14 | 4 << 7 | 6 << 3, 0xf8) == EMU_OK);
        CHECK(emu_gic_write_system(&interface, 3u << 14 | 12 << 7 | 12 << 3 | 7, 1) == EMU_OK);
        emu_gic_its_message(its, 5, TRANSLATER, 6);
        CHECK(emu_gic_read_system(&interface, 3u << 14 | 12 << 7 | 12 << 3, &value) == EMU_OK);
        if (value != 8201)
            fail("a message does not come");
        CHECK(emu_gic_write_system(&interface, 3u << 14 | 12 << 7 | 12 << 3 | 1, value) == EMU_OK);
    } else if (kind == GICV3) {
        lower_inputs();
        emu_gic_reset(gic);
        emu_gic_interface interface = {.gic = gic, .cpu = cpus - 1};
        CHECK(emu_space_write(space, BASE, 4, 2) == EMU_OK);
        CHECK(emu_space_write(space, BASE + 0x88, 4, 1u << 16) == EMU_OK); /* 80 is group 1's */
        CHECK(emu_space_write(space, BASE + 0x108, 4, 1u << 16) == EMU_OK);
        CHECK(emu_space_write(space, BASE + 0x6000 + 8 * 80, 8, cpus - 1) == EMU_OK);
        CHECK(emu_gic_write_system(&interface, 3u << 14 | 4 << 7 | 6 << 3, 0xf8) == EMU_OK);           /* PMR */
        CHECK(emu_gic_write_system(&interface, 3u << 14 | 12 << 7 | 12 << 3 | 7, 1) == EMU_OK);        /* IGRPEN1 */
        emu_irq_set(inputs[80], 1);
        if (emu_irq_level(outputs[cpus - 1][0]) != 1)
            fail("an interrupt does not come");
        CHECK(emu_gic_read_system(&interface, 3u << 14 | 12 << 7 | 12 << 3, &value) == EMU_OK); /* IAR1 */
        if (value != 80 || emu_irq_level(outputs[cpus - 1][0]) != 0)
            fail("an interrupt is not taken");
        emu_irq_set(inputs[80], 0);
        CHECK(emu_gic_write_system(&interface, 3u << 14 | 12 << 7 | 12 << 3 | 1, 80) == EMU_OK);
    } else if (kind == APIC) {
        for (uint32_t n = 0; n < EMU_APIC_INPUTS; n++)
            emu_apic_input(apic, n, 0);
        emu_apic_external(apic, 0);
        emu_apic_reset(apic);
        CHECK(emu_space_write(space, BASE + 0xf0, 4, 0x1ff) == EMU_OK); /* on */
        const uint32_t entry[] = {0x10 + 2 * 5, 0x41, 0x11 + 2 * 5, 0};
        for (int i = 0; i < 4; i += 2) /* input 5: vector 0x41, by an edge, to CPU 0 */
            CHECK(emu_space_write(space, BASE + 0x10000, 4, entry[i]) == EMU_OK &&
                  emu_space_write(space, BASE + 0x10010, 4, entry[i + 1]) == EMU_OK);
        emu_apic_input(apic, 5, 1);
        if (atomic_load(&vector) != 0x42)
            fail("an interrupt does not come");
        emu_apic_accepted(apic, 0, 0x41);
        if (atomic_load(&vector) != 0)
            fail("an interrupt is not taken");
        CHECK(emu_space_write(space, BASE + 0xb0, 4, 0) == EMU_OK);
    } else {
        static uint8_t kept[FLASH_SIZE];
        const ssize_t got = pread(flash_fd, kept, sizeof kept, 0);
        CHECK(got >= 0 && emu_pflash_error(flash) == 0);
        for (ssize_t i = 0; i < got; i++)
            if ((kept[i] ^ flash_host[i]) != 0xff)
                fail("the file is not what the flash holds");
        for (uint64_t i = (uint64_t)got; i < FLASH_SIZE; i++)
            if (flash_host[i] != 0)
                fail("something is not in the file");
        emu_pflash_reset(flash);
        CHECK(emu_space_write(space, BASE, 4, 0x200020) == EMU_OK && emu_space_write(space, BASE, 4, 0xd000d0) == EMU_OK);
        CHECK(emu_space_write(space, BASE + 8, 4, 0x400040) == EMU_OK && emu_space_write(space, BASE + 8, 4, 0x12345678) == EMU_OK);
        CHECK(emu_space_read(space, BASE, 4, &value) == EMU_OK);
        const bool writable = value == 0x800080;
        CHECK(emu_space_write(space, BASE, 4, 0xff00ff) == EMU_OK && emu_space_read(space, BASE + 8, 4, &value) == EMU_OK);
        if (writable != (value == 0x12345678))
            fail("it cannot be erased and programmed any more");
    }
}

static void *one_cpu(void *opaque)
{
    uint64_t *seed = opaque;
    for (int i = 0; i < CASES_OF_A_MACHINE; i++)
        something(seed);
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc < 5)
        return 2;
    for (kind = 0; kind < KINDS && strcmp(argv[1], names[kind]) != 0;)
        kind++;
    if (kind == KINDS)
        return 2;
    const uint64_t cases = strtoull(argv[2], NULL, 0);
    machine_seed = strtoull(argv[3], NULL, 0);
    folder = argv[4];
    race = argc > 5;
    signal(SIGALRM, too_long);
    __sanitizer_set_death_callback(last_words);
    uint64_t done = 0;
    for (; done < cases; machine_seed++) {
        uint64_t seeds[CPUS];
        pthread_t threads[CPUS];
        alarm(SECONDS);
        for (uint64_t i = 0; i < CPUS; i++)
            seeds[i] = (machine_seed * CPUS + i) * UINT64_C(0x9E3779B97F4A7C15) | 1;
        make(&seeds[0]);
        enable(&seeds[0]);
        for (int i = 1; i < CPUS && race; i++)
            CHECK(pthread_create(&threads[i], NULL, one_cpu, &seeds[i]) == 0);
        one_cpu(&seeds[0]);
        for (int i = 1; i < CPUS && race; i++)
            pthread_join(threads[i], NULL);
        done += (uint64_t)CASES_OF_A_MACHINE * (race ? CPUS : 1);
        work();
        end();
    }
    printf("%" PRIu64 " accesses, %d interrupts\n", done, atomic_load(&taken));
    return 0;
}
