/*
 * Instructions that a guest may have anywhere, done by the host's CPU (cross_host.c, cross_system.c): any bytes,
 * registers and page tables, which loop or lead to devices, ROM and nowhere.  What must hold: nothing but the
 * guest's RAM is written, and what was not done has changed nothing.
 *
 * fuzz_cross CASES [SEED]
 */
#include "check.h"
#include "cross_insn.h"

#include <string.h>
#include <sys/mman.h>

enum { RAM = 0x8000, ROM_AT = 0x10000, ROM_SIZE = 0x1000, IO_AT = 0x20000, IO_SIZE = 0x1000, GUARD = 0x1000 };

static uint64_t seed;
static unsigned draw(unsigned below) { return (unsigned)(next_random(&seed) >> 33) % below; }

static emu_space *memory;
static uint8_t *ram, *rom;
static unsigned accesses;

static int io_read(void *opaque, uint64_t offset, uint32_t width, uint64_t *value)
{
    (void)opaque, (void)offset, (void)width;
    accesses++;
    *value = next_random(&seed);
    return draw(16) == 0 ? EMU_RAISED : EMU_OK;
}

static int io_write(void *opaque, uint64_t offset, uint32_t width, uint64_t value)
{
    (void)opaque, (void)offset, (void)width, (void)value;
    accesses++;
    return draw(16) == 0 ? EMU_RAISED : EMU_OK;
}

static int more(void *opaque, unsigned groups)
{
    (void)opaque, (void)groups;
    return draw(64) == 0 ? -5 : 0;
}

static bool msr(void *opaque, uint32_t index, uint64_t *value, bool write)
{
    (void)opaque, (void)index, (void)write;
    *value = next_random(&seed);
    return draw(4) != 0;
}

static uint64_t somewhere(void)
{
    static const uint64_t places[] = {0, 0x1000, 0x7000, 0x7ff8, RAM - 16, ROM_AT, IO_AT, IO_AT + 0xff8, 0x30000,
                                      UINT64_C(0x7fffffffff8), 0xfffffff8, UINT64_C(0x7ffffffffff8),
                                      UINT64_C(0xffff800000000000), UINT64_MAX - 7};
    switch (draw(4)) {
    case 0: return next_random(&seed);
    case 1: return draw(RAM);
    default: return places[draw(sizeof places / sizeof *places)] + draw(2) * draw(16);
    }
}

/* Tables whose entries point to each other, themselves, devices, ROM and nowhere. */
static void draw_tables(void)
{
    for (unsigned at = 0; at < RAM; at += 8) {
        static const uint64_t frames[] = {0, 0x1000, 0x2000, 0x3000, 0x4000, 0x5000, ROM_AT, IO_AT, 0x30000,
                                          UINT64_C(0xffffffffff000)};
        uint64_t entry = frames[draw(sizeof frames / sizeof *frames)] | draw(256) | (draw(4) != 0 ? 7 : 0);
        if (draw(16) == 0)
            entry = next_random(&seed);
        else if (draw(3) != 0)
            entry &= ~UINT64_C(0x80);
        memcpy(ram + at, &entry, sizeof entry);
    }
}

static void draw_state(emu_x86 *s)
{
    memset(s, 0, sizeof *s);
    for (unsigned i = 0; i < 16; i++)
        s->general[i] = somewhere();
    s->rip = somewhere();
    s->rflags = 2 | (next_random(&seed) & 0x40cd5);
    s->cr0 = 1 | (next_random(&seed) & (draw(4) == 0 ? 0x8001000e : 0x80010002)) | (draw(4) != 0 ? 0x80000000 : 0);
    s->cr4 = next_random(&seed) & (draw(4) == 0 ? 0x671630 : 0x040630);
    s->cr3 = draw(2) ? somewhere() : draw(7) << 12;
    bool wide = draw(4) != 0;
    s->efer = wide ? 0xd01 : 0;
    if (wide)
        s->cr0 |= 0x80000000, s->cr4 |= 0x20;
    unsigned level = draw(2) ? 3 : 0;
    for (unsigned i = 0; i < 8; i++)
        s->segment[i] = (struct emu_x86_segment){.base = draw(4) ? 0 : somewhere(), .limit = draw(4) ? UINT32_MAX : draw(65536),
                                                 .attributes = 0xc093 | level << 5};
    s->segment[EMU_X86_CS].attributes = (wide ? 0xa09b : draw(8) ? 0xc09b : 0x9b) | level << 5;
    s->xcr0 = draw(4) ? 0xe7 : next_random(&seed) & 0x2e7;
    const uint64_t in_use = next_random(&seed) & 7;
    const uint32_t mxcsr = 0x1f80 | (next_random(&seed) & 0xffff);
    const uint16_t fcw = 0x37f & (draw(4) ? 0xffff : next_random(&seed));
    for (unsigned i = 32; i < 416; i++)
        s->xsave[i] = (uint8_t)next_random(&seed);
    memcpy(s->xsave, &fcw, sizeof fcw);
    memcpy(s->xsave + 24, &mxcsr, sizeof mxcsr);
    memcpy(s->xsave + 512, &in_use, sizeof in_use);
}

static unsigned draw_bytes(uint8_t *bytes)
{
    static const uint8_t prefixes[] = {0x66, 0xf2, 0xf3, 0xf0, 0x67, 0x64, 0x65, 0x48, 0x41, 0x4f, 0x2e};
    static const uint8_t starts[][2] = {{0x0f, 0}, {0x0f, 0x38}, {0x0f, 0x3a}, {0xc5, 0}, {0xc4, 0}, {0x62, 0}, {0xd8, 0},
                                        {0xd9, 0}, {0xdb, 0}, {0xdd, 0}, {0xdf, 0}, {0x0f, 0xae}, {0x0f, 0xc7},
                                        {0x0f, 0x01}, {0x9b, 0}};
    unsigned n = 0;
    while (n < 3 && draw(2))
        bytes[n++] = prefixes[draw(sizeof prefixes)];
    const uint8_t *start = starts[draw(sizeof starts / sizeof *starts)];
    bytes[n++] = start[0];
    if (start[1])
        bytes[n++] = start[1];
    while (n < 15)
        bytes[n++] = (uint8_t)next_random(&seed);
    return draw(8) ? n : draw(16); /* they end early where a page does */
}

static void check_outcome(enum emu_host_result result, const emu_x86 *now, const emu_x86 *before, const emu_host_job *job)
{
    CHECK(result <= EMU_HOST_FAILED);
    if (result == EMU_HOST_DONE) {
        uint64_t length = now->rip - before->rip;
        CHECK(before->efer == 0 || (length >= 1 && length <= 15));
        return;
    }
    if (result == EMU_HOST_RAISED) /* a device has been accessed: as far as it got */
        return;
    CHECK(memcmp(now->general, before->general, sizeof now->general) == 0);
    CHECK(now->rip == before->rip && now->rflags == before->rflags && now->xcr0 == before->xcr0);
    CHECK(memcmp(now->segment, before->segment, sizeof now->segment) == 0);
    if (result == EMU_HOST_FAULT)
        CHECK(job->fault.vector < 32);
}

static uint8_t *guarded(size_t size)
{
    uint8_t *at = mmap(NULL, size + 2 * GUARD, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(at != MAP_FAILED && mprotect(at + GUARD, size, PROT_READ | PROT_WRITE) == 0);
    return at + GUARD;
}

int main(int argc, char **argv)
{
    unsigned long cases = argc > 1 ? strtoul(argv[1], NULL, 0) : 20000;
    seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
    ram = guarded(RAM);
    rom = guarded(ROM_SIZE);
    for (unsigned at = 0; at < ROM_SIZE; at += 8)
        rom[at] = 7; /* as page tables lead to the first page */
    CHECK(mprotect(rom, ROM_SIZE, PROT_READ) == 0);
    memory = emu_space_new(UINT64_C(1) << 40);
    emu_region *io = emu_region_new(EMU_IO, IO_SIZE, NULL);
    emu_region_hooks(io, io_read, io_write, NULL);
    CHECK(emu_space_add(memory, emu_region_new(EMU_RAM, RAM, ram), 0, 0) == 0);
    CHECK(emu_space_add(memory, emu_region_new(EMU_ROM, ROM_SIZE, rom), ROM_AT, 0) == 0);
    CHECK(emu_space_add(memory, io, IO_AT, 0) == 0);
    emu_host *host = emu_host_new();
    static emu_x86 state, before;
    unsigned results[EMU_HOST_FAILED + 1] = {0};
    for (unsigned long n = 0; n < cases; n++) {
        if (n % 64 == 0)
            draw_tables();
        draw_state(&state);
        before = state;
        emu_host_job job = {.memory = memory, .state = &state, .have = EMU_X86_GENERAL | EMU_X86_SYSTEM,
                            .more = more, .msr = msr};
        uint8_t bytes[15] = {0};
        unsigned length = draw(8) == 0 ? emu_host_fetch(&job, bytes) : draw_bytes(bytes);
        before.cr2 = state.cr2;
        enum emu_host_result result = emu_host_do(draw(32) ? host : NULL, &job, bytes, length);
        check_outcome(result, &state, &before, &job);
        results[result]++;
    }
    fprintf(stderr, "done %u, not %u, faults %u, raised %u, failed %u; %u accesses to the device\n", results[0],
            results[1], results[2], results[3], results[4], accesses);
    CHECK(cases < 1000 || (results[EMU_HOST_DONE] != 0 && results[EMU_HOST_FAULT] != 0));
    emu_host_free(host);
    return 0;
}
