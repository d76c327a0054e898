/*
 * One thread moves regions while others read, write registers, peek and list:
 * under ThreadSanitizer and AddressSanitizer.  A reader finds a region whole or
 * finds nothing.  Lines are driven from many threads at the same time.
 */
#include "check.h"
#include "core.h"

#include <pthread.h>
#include <stdatomic.h>

enum { READERS = 3, LINES = 2, ROUNDS = 20000 };

static emu_space *space;
static emu_region *device, *memory;
static uint32_t ram[0x400];
static atomic_int stop;
static atomic_ulong served;

static void *reader(void *unused)
{
    (void)unused;
    uint64_t seen = 0;
    do {
        for (uint64_t base = 0x1000; base <= 0x9000; base += 0x1000) {
            uint64_t value;
            int status = emu_space_read(space, base, 4, &value);
            CHECK((status == EMU_OK && (value == 0x11223344 || value == 0x55667788)) ||
                  (status == EMU_UNMAPPED && value == 0xffffffff));
            seen += status == EMU_OK;
            /* crosses from one page into the next */
            status = emu_space_read(space, base + 0xffe, 4, &value);
            CHECK(status == EMU_OK || status == EMU_UNMAPPED);
            emu_space_write(space, base + 4, 4, value);
            uint8_t out[16];
            CHECK(emu_space_peek(space, base, out, 4) <= 4);
            emu_range range;
            if (emu_space_find(space, base, &range))
                CHECK(range.base == base && range.size == 0x1000 && range.offset == 0);
            emu_range flat[4];
            CHECK(emu_space_flat(space, flat, 4) <= 2);
        }
    } while (!atomic_load(&stop));
    atomic_fetch_add(&served, seen);
    return NULL;
}

static emu_irq *irqs[LINES];
static long heard[LINES];
static int level_now[LINES];

static void hear(void *opaque, uint32_t number, int level)
{
    (void)opaque;
    /* the line's lock is held: no other lock is needed for what is its own */
    CHECK(level_now[number] != level);
    level_now[number] = level;
    heard[number]++;
}

static void *driver(void *unused)
{
    (void)unused;
    for (int i = 0; i < ROUNDS; i++) {
        emu_irq_set(irqs[i % LINES], 1);
        emu_irq_set(irqs[i % LINES], 0);
        CHECK(emu_irq_level(irqs[i % LINES]) <= 1);
    }
    return NULL;
}

int main(void)
{
    space = emu_space_new(0);
    device = emu_region_new(EMU_IO, 0x1000, NULL);
    memory = emu_region_new(EMU_ROM, sizeof ram, ram);
    emu_reg regs[2] = {
        {.offset = 0, .width = 4, .value = 0x11223344},
        {.offset = 4, .width = 4, .write_mask = 0xffffffff},
    };
    ram[0] = 0x55667788;
    CHECK_EQUAL(emu_region_registers(device, regs, 2), 0);
    CHECK_EQUAL(emu_space_add(space, device, 0x1000, 0), 0);
    CHECK_EQUAL(emu_space_add(space, memory, 0x2000, 0), 0);

    pthread_t threads[READERS + 2];
    for (int i = 0; i < LINES; i++) {
        irqs[i] = emu_irq_new();
        emu_irq_connect(irqs[i], hear, NULL, (uint32_t)i);
    }
    for (int i = 0; i < READERS; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, reader, NULL), 0);
    for (int i = READERS; i < READERS + 2; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, driver, NULL), 0);
    uint64_t seed = 88172645463325252u;
    for (int i = 0; i < ROUNDS; i++) {
        emu_region *region = i % 2 == 0 ? device : memory;
        uint64_t base = 0x1000 + (next_random(&seed) >> 33) % 9 * 0x1000;
        if (i % 5 == 0) {
            CHECK_EQUAL(emu_space_remove(space, region), 0);
            while (emu_space_add(space, region, base, 0) != 0)
                base = 0x1000 + (next_random(&seed) >> 33) % 9 * 0x1000;
        } else {
            int status = emu_space_move(space, region, base);
            CHECK(status == 0 || status == -2);
        }
    }
    atomic_store(&stop, 1);
    for (int i = 0; i < READERS + 2; i++)
        CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
    for (int i = 0; i < LINES; i++) {
        CHECK(heard[i] > 0 && heard[i] % 2 == 0);
        emu_irq_free(irqs[i]);
    }
    CHECK(atomic_load(&served) > 0);
    emu_space_free(space);
    emu_region_free(device);
    emu_region_free(memory);
    return 0;
}
