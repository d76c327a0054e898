/* map.c without an interpreter: refusals, registers, crossing accesses, doorbells, peek and load. */
#include "check.h"
#include "core.h"

#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct call {
    char kind;
    uint64_t offset;
    uint32_t width;
    uint64_t value;
};
static struct call calls[64];
static size_t ncalls;
static int answer_status;

static int hook_read(void *opaque, uint64_t offset, uint32_t width, uint64_t *value)
{
    calls[ncalls++] = (struct call){'r', offset, width, 0};
    *value = *(uint64_t *)opaque;
    return answer_status;
}

static int hook_write(void *opaque, uint64_t offset, uint32_t width, uint64_t value)
{
    (void)opaque;
    calls[ncalls++] = (struct call){'w', offset, width, value};
    return answer_status;
}

static uint64_t read_at(emu_space *space, uint64_t addr, uint32_t width)
{
    uint64_t value = 0x5555555555555555;
    emu_space_read(space, addr, width, &value);
    return value;
}

static void contradictions_make_no_region(void)
{
    char byte;
    CHECK(emu_region_new(EMU_RAM, 1, NULL) == NULL);
    CHECK(emu_region_new(EMU_ROM, 1, NULL) == NULL);
    CHECK(emu_region_new(EMU_IO, 1, &byte) == NULL);
    CHECK(emu_region_new(EMU_IO, 0, NULL) == NULL);
    CHECK(emu_region_new(0, 1, &byte) == NULL);
    CHECK(emu_region_new(4, 1, &byte) == NULL);
    emu_region_free(NULL);
    emu_space_free(NULL);
}

static void a_map_refuses_what_does_not_fit_and_names_the_conflict(void)
{
    emu_space *space = emu_space_new(0x10000);
    emu_region *a = emu_region_new(EMU_IO, 0x100, NULL), *b = emu_region_new(EMU_IO, 0x100, NULL);
    CHECK_EQUAL(emu_space_add(space, a, 0xff01, 0), -1);
    CHECK_EQUAL(emu_space_add(space, a, UINT64_MAX, 0), -1);
    CHECK_EQUAL(emu_space_move(space, a, 0), -5);
    CHECK_EQUAL(emu_space_remove(space, a), -5);
    CHECK_EQUAL(emu_space_add(space, a, 0xff00, 0), 0);
    CHECK_EQUAL(emu_space_add(space, a, 0, 0), -4);
    CHECK_EQUAL(emu_space_add(space, b, 0xfe01, 0), -2);
    CHECK(emu_space_conflict(space) == a);
    CHECK_EQUAL(emu_space_add(space, b, 0xfe01, 1), 0);
    CHECK_EQUAL(emu_space_flat(space, NULL, 0), 2);
    CHECK_EQUAL(emu_space_remove(space, a), 0);
    CHECK(emu_space_conflict(space) == NULL);
    CHECK_EQUAL(emu_space_flat(space, NULL, 0), 1);
    emu_space_free(space); /* with b mapped */
    emu_region_free(a);
    emu_region_free(b);
}

static void a_window_cuts_memory_in_three(void)
{
    static uint8_t ram[0x3000];
    emu_space *space = emu_space_new(0);
    emu_region *memory = emu_region_new(EMU_RAM, sizeof ram, ram), *window = emu_region_new(EMU_IO, 0x10, NULL);
    CHECK_EQUAL(emu_space_add(space, memory, 0x1000, 0), 0);
    CHECK_EQUAL(emu_space_add(space, window, 0x2000, 5), 0);
    emu_range flat[4];
    CHECK_EQUAL(emu_space_flat(space, flat, 4), 3);
    CHECK_EQUAL(flat[0].base, 0x1000);
    CHECK_EQUAL(flat[0].size, 0x1000);
    CHECK(flat[1].region == window);
    CHECK_EQUAL(flat[2].base, 0x2010);
    CHECK_EQUAL(flat[2].offset, 0x1010);
    CHECK_EQUAL(flat[2].size, 0x1ff0);
    CHECK_EQUAL(emu_space_write(space, 0x1ffc, 8, 0x1111111122222222), EMU_OK);
    CHECK_EQUAL(ram[0xfff], 0x22);
    CHECK_EQUAL(ram[0x1000], 0); /* hidden: not written */
    CHECK_EQUAL(read_at(space, 0x1ffc, 8), 0x22222222);
    emu_space_free(space);
    emu_region_free(memory);
    emu_region_free(window);
}

static void registers_that_cannot_be_are_refused(void)
{
    emu_region *region = emu_region_new(EMU_IO, 0x10, NULL);
    emu_reg reg = {.offset = 0, .width = 3};
    CHECK_EQUAL(emu_region_registers(region, &reg, 0), -1);
    CHECK_EQUAL(emu_region_registers(region, &reg, 1), -1);
    reg.width = 0;
    CHECK_EQUAL(emu_region_registers(region, &reg, 1), -1);
    reg = (emu_reg){.offset = 0x10, .width = 4};
    CHECK_EQUAL(emu_region_registers(region, &reg, 1), -1);
    reg = (emu_reg){.offset = UINT32_MAX - 3, .width = 4};
    CHECK_EQUAL(emu_region_registers(region, &reg, 1), -1);
    emu_reg two[2] = {{.offset = 4, .width = 4}, {.offset = 0, .width = 8}};
    CHECK_EQUAL(emu_region_registers(region, two, 2), -2);
    two[1].width = 4;
    two[0].value = 7;
    CHECK_EQUAL(emu_region_registers(region, two, 2), 0);
    CHECK_EQUAL(emu_region_registers(region, two, 2), -1);
    CHECK_EQUAL(emu_region_register(region, 0)->value, 7); /* by declared number */
    CHECK(emu_region_register(region, 2) == NULL);
    emu_region_free(region);
}

static void registers_far_apart_are_found(void)
{
    enum { COUNT = 200 };
    emu_reg regs[COUNT];
    memset(regs, 0, sizeof regs);
    for (uint32_t i = 0; i < COUNT; i++) {
        regs[i].offset = (COUNT - 1 - i) * 0x1000 + 0x40;
        regs[i].width = 4;
        regs[i].value = i + 1;
    }
    emu_region *region = emu_region_new(EMU_IO, COUNT * 0x1000, NULL);
    emu_space *space = emu_space_new(0);
    CHECK_EQUAL(emu_region_registers(region, regs, COUNT), 0);
    CHECK_EQUAL(emu_space_add(space, region, 0, 0), 0);
    for (uint32_t i = 0; i < COUNT; i++) {
        CHECK_EQUAL(read_at(space, regs[i].offset, 4), i + 1);
        CHECK_EQUAL(read_at(space, regs[i].offset - 2, 4), (uint64_t)(i + 1) << 16);
        CHECK_EQUAL(read_at(space, regs[i].offset + 4, 4), 0);
    }
    emu_space_free(space);
    emu_region_free(region);
}

static void hooks_are_called_with_whole_words_and_their_answer_is_cut(void)
{
    uint64_t said = 0x1122334455667788;
    emu_region *region = emu_region_new(EMU_IO, 0x20, NULL);
    emu_space *space = emu_space_new(0);
    emu_reg regs[2] = {
        {.offset = 0, .width = 4, .flags = EMU_REG_READ_HOOK | EMU_REG_WRITE_HOOK, .write_mask = 0xffffffff},
        {.offset = 4, .width = 4, .value = 0xaabbccdd},
    };
    CHECK_EQUAL(emu_region_registers(region, regs, 2), 0);
    emu_region_hooks(region, hook_read, hook_write, &said);
    CHECK_EQUAL(emu_space_add(space, region, 0x100, 0), 0);
    ncalls = 0;
    CHECK_EQUAL(read_at(space, 0x100, 4), 0x55667788);
    CHECK_EQUAL(read_at(space, 0x102, 1), 0x66);
    CHECK_EQUAL(read_at(space, 0x103, 8), 0xaabbccdd55 | UINT64_C(0x887788) << 40);
    CHECK_EQUAL(ncalls, 5); /* the word three times, then a half and a byte of what nobody claims */
    CHECK_EQUAL(calls[1].width, 4);
    CHECK_EQUAL(calls[1].offset, 0);
    CHECK_EQUAL(calls[3].offset, 8);
    CHECK_EQUAL(calls[3].width, 2);
    ncalls = 0;
    CHECK_EQUAL(emu_space_write(space, 0x101, 2, 0xffffbeef), EMU_OK);
    CHECK_EQUAL(calls[0].value, 0x00beef00);
    answer_status = EMU_RAISED;
    uint64_t value = 1;
    CHECK_EQUAL(emu_space_read(space, 0x100, 4, &value), EMU_RAISED);
    CHECK_EQUAL(value, 0);
    CHECK_EQUAL(emu_space_read(space, 0x11c, 8, &value), EMU_RAISED);
    CHECK_EQUAL(emu_space_write(space, 0x11c, 8, 0), EMU_RAISED);
    answer_status = EMU_OK;
    emu_space_free(space);
    emu_region_free(region);
}

static void nothing_wraps(void)
{
    static uint8_t low[16], high[16];
    memset(high, 0x77, sizeof high);
    emu_space *space = emu_space_new(0);
    emu_region *a = emu_region_new(EMU_RAM, 16, low), *b = emu_region_new(EMU_RAM, 16, high);
    CHECK_EQUAL(emu_space_add(space, a, 0, 0), 0);
    CHECK_EQUAL(emu_space_add(space, b, UINT64_MAX - 15, 0), 0);
    CHECK_EQUAL(read_at(space, UINT64_MAX - 1, 4), 0xffff7777);
    CHECK_EQUAL(emu_space_write(space, UINT64_MAX, 8, 0), EMU_UNMAPPED);
    uint8_t out[32];
    CHECK_EQUAL(emu_space_peek(space, UINT64_MAX - 3, out, sizeof out), 4);
    CHECK_EQUAL(emu_space_load(space, UINT64_MAX - 3, out, sizeof out), 4);
    for (int i = 0; i < 16; i++)
        CHECK_EQUAL(low[i], 0);
    emu_space_free(space);
    emu_region_free(a);
    emu_region_free(b);
}

static void doorbells_ring_and_full_ones_do_not_block(void)
{
    int fd = eventfd(0, EFD_NONBLOCK);
    uint64_t count = 0;
    emu_region *region = emu_region_new(EMU_IO, 0x10, NULL);
    emu_space *space = emu_space_new(0);
    emu_doorbell bell = {.offset = 8, .width = 4, .has_match = 1, .match = 3, .fd = fd};
    CHECK_EQUAL(emu_region_doorbell(region, &bell), 0);
    emu_doorbell bad = {.offset = 0x10};
    CHECK_EQUAL(emu_region_doorbell(region, &bad), -1);
    bad = (emu_doorbell){.offset = 0xd, .width = 4};
    CHECK_EQUAL(emu_region_doorbell(region, &bad), -1);
    bad = (emu_doorbell){.offset = UINT64_MAX, .width = 4};
    CHECK_EQUAL(emu_region_doorbell(region, &bad), -1);
    bad = (emu_doorbell){.width = 5};
    CHECK_EQUAL(emu_region_doorbell(region, &bad), -1);
    CHECK_EQUAL(emu_space_add(space, region, 0, 0), 0);
    CHECK_EQUAL(emu_space_write(space, 8, 4, UINT64_C(0xffffffff00000003)), EMU_OK);
    CHECK_EQUAL(emu_space_write(space, 8, 4, 4), EMU_OK);
    CHECK_EQUAL(read(fd, &count, sizeof count), 8);
    CHECK_EQUAL(count, 1);
    count = UINT64_MAX - 1;
    CHECK_EQUAL(write(fd, &count, sizeof count), 8);
    CHECK_EQUAL(emu_space_write(space, 8, 4, 3), EMU_OK);
    emu_doorbell out[2];
    CHECK_EQUAL(emu_region_doorbells(region, out, 2), 1);
    CHECK_EQUAL(out[0].match, 3);
    emu_space_free(space);
    emu_region_free(region);
    close(fd);
}

static void written_pages_are_noted_wherever_their_region_is_mapped(void)
{
    static uint8_t memory[130 * EMU_PAGE + 1];
    uint64_t bits[3];
    emu_space *space = emu_space_new(0);
    emu_region *ram = emu_region_new(EMU_RAM, sizeof memory, memory), *rom = emu_region_new(EMU_ROM, 1, memory);
    CHECK_EQUAL(emu_region_track(rom, 1), -1);
    CHECK_EQUAL(emu_region_dirty_words(ram), 3);
    CHECK_EQUAL(emu_space_add(space, ram, 0x10000000, 0), 0);
    CHECK_EQUAL(emu_space_tracked(space), 0);
    emu_space_write(space, 0x10000000, 8, 1);
    CHECK_EQUAL(emu_region_track(ram, 1), 0);
    CHECK(emu_space_tracked(space) != 0);
    emu_space_write(space, 0x10000000 + 2 * EMU_PAGE - 4, 8, 1);
    emu_space_written(space, 0x0ffffff0, 0x10); /* before it: nobody's */
    emu_space_written(space, 0x10000000 + 63 * EMU_PAGE, 2 * EMU_PAGE);
    emu_space_written(space, 0x10000000 + 130 * EMU_PAGE, UINT64_MAX);
    emu_space_mark_host(space, memory + 5 * EMU_PAGE, 1);
    emu_space_mark_host(space, bits, sizeof bits);
    emu_region_mark(ram, 128 * EMU_PAGE, UINT64_MAX);
    emu_region_mark(ram, UINT64_MAX, 2);
    emu_region_take_dirty(ram, bits);
    CHECK_EQUAL(bits[0], UINT64_C(1) << 63 | 1 << 5 | 1 << 2 | 1 << 1);
    CHECK_EQUAL(bits[1], 1);
    CHECK_EQUAL(bits[2], 7);
    const uint64_t pages[] = {5, UINT64_MAX}; /* more of them than there are */
    emu_region_mark_pages(ram, 60 * EMU_PAGE, pages, 2);
    emu_region_take_dirty(ram, bits);
    CHECK_EQUAL(bits[0], UINT64_C(5) << 60);
    CHECK_EQUAL(bits[1], UINT64_MAX << 60);
    CHECK_EQUAL(bits[2], 7);
    CHECK_EQUAL(emu_region_track(ram, 0), 0);
    emu_space_write(space, 0x10000000, 8, 1);
    emu_region_take_dirty(ram, bits);
    CHECK_EQUAL(bits[0], 0);
    emu_space_free(space);
    emu_region_free(ram);
    emu_region_free(rom);
}

int main(void)
{
    RUN(contradictions_make_no_region);
    RUN(a_map_refuses_what_does_not_fit_and_names_the_conflict);
    RUN(a_window_cuts_memory_in_three);
    RUN(registers_that_cannot_be_are_refused);
    RUN(registers_far_apart_are_found);
    RUN(hooks_are_called_with_whole_words_and_their_answer_is_cut);
    RUN(nothing_wraps);
    RUN(doorbells_ring_and_full_ones_do_not_block);
    RUN(written_pages_are_noted_wherever_their_region_is_mapped);
    return 0;
}
