/*
 * cross_table.h against the host's CPU: no instruction reaches further in memory
 * than its row says.  Each is done on an operand that ends where the host's
 * memory does; behind it, and before it, is a page that nobody may touch.
 */
#include "cross_host.c"

#include "check.h"

#include <stdio.h>

#define RAM 4096u

static uint8_t *ram;
static unsigned tried, done;

/* A map of one page, and an emulator without system instructions. */
int emu_space_find(const emu_space *space, uint64_t address, emu_range *out)
{
    (void)space;
    memset(out, 0, sizeof *out);
    out->size = RAM;
    return address < RAM;
}
uint32_t emu_region_kind(const emu_region *region) { (void)region; return EMU_RAM; }
void *emu_region_host(const emu_region *region) { (void)region; return ram; }
void emu_space_written(emu_space *space, uint64_t address, uint64_t size) { (void)space, (void)address, (void)size; }
int emu_space_read(emu_space *space, uint64_t address, uint32_t width, uint64_t *value)
{
    (void)space, (void)address, (void)width;
    *value = 0;
    return EMU_OK;
}
int emu_space_write(emu_space *space, uint64_t address, uint32_t width, uint64_t value)
{
    (void)space, (void)address, (void)width, (void)value;
    return EMU_OK;
}
enum emu_host_result emu_insn_system(struct insn *i, emu_host_job *job) { (void)i, (void)job; return EMU_HOST_NOT; }

static int more(void *opaque, unsigned groups) { (void)opaque, (void)groups; return 0; }

static emu_x86 fresh(void)
{
    emu_x86 s = {.cr0 = 0x33, .cr4 = 0x620 | 1u << 18, .efer = 0x500, .xcr0 = 0xe7, .rflags = 2};
    s.segment[EMU_X86_CS].attributes = 0xa09b;
    s.segment[EMU_X86_SS].attributes = 0xc093;
    memcpy(s.xsave, (uint8_t[]){0x7f, 0x03}, 2);
    memcpy(s.xsave + 24, (uint8_t[]){0x80, 0x1f}, 2);
    s.xsave[512] = 7;
    return s;
}

static void try_one(emu_host *host, const uint8_t *bytes, uint32_t n)
{
    struct insn i = {.bytes = bytes, .n = n, .base = -1, .wide = true};
    if (!decode(&i) || !i.memory)
        return;
    tried++;
    static emu_x86 s;
    const uint32_t places[] = {RAM - i.bytes_of_memory, 0};
    for (int k = 0; k < 2; k++) {
        s = fresh();
        s.general[EMU_X86_RBX] = places[k];
        emu_host_job job = {.state = &s, .have = EMU_X86_ALL, .more = more};
        host->vector = -1;
        enum emu_host_result result = emu_host_do(host, &job, bytes, n);
        if (host->vector == VECTOR_PF) {
            fprintf(stderr, "reaches further than %u bytes:", i.bytes_of_memory);
            for (uint32_t at = 0; at < n; at++)
                fprintf(stderr, " %02x", bytes[at]);
            fprintf(stderr, "\n");
            CHECK(false);
        }
        done += result == EMU_HOST_DONE;
    }
}

enum { MODRM = 0x03, IMM = 1 }; /* [rbx] */

static void try_rows(emu_host *host, const struct row *row, unsigned opcode, unsigned reg)
{
    static const uint8_t mandatory[4] = {0, 0x66, 0xf3, 0xf2};
    uint8_t modrm = (uint8_t)(MODRM | reg << 3);
    for (unsigned p = 0; p < 4; p++) {
        if (!(row->prefixes & 1u << p))
            continue;
        for (unsigned w = 0; w < 2; w++) {
            if (row->encodings & L) {
                uint8_t b[15];
                uint32_t n = 0;
                if (p != 0)
                    b[n++] = mandatory[p];
                if (w)
                    b[n++] = 0x48;
                b[n++] = 0x0f;
                if (row->map > 1)
                    b[n++] = row->map == 2 ? 0x38 : 0x3a;
                b[n++] = (uint8_t)opcode, b[n++] = modrm, b[n++] = IMM;
                try_one(host, b, n);
            }
            for (unsigned v = 0; v < 2; v++) { /* vvvv: none, or register 1 */
                uint8_t second = (uint8_t)(w << 7 | (v ? 14u : 15u) << 3 | p);
                for (unsigned length = 0; length < 3; length++) {
                    uint8_t vex3[] = {0xc4, (uint8_t)(0xe0 | row->map), (uint8_t)(second | (length & 1) << 2),
                                      (uint8_t)opcode, modrm, IMM};
                    if ((row->encodings & V) && length < 2)
                        try_one(host, vex3, sizeof vex3);
                    for (unsigned b = 0; b < 2 && (row->encodings & E); b++) {
                        uint8_t evex4[] = {0x62, (uint8_t)(0xf0 | row->map), (uint8_t)(second | 4),
                                           (uint8_t)(length << 5 | b << 4 | 8), (uint8_t)opcode, modrm, IMM};
                        try_one(host, evex4, sizeof evex4);
                    }
                }
            }
        }
    }
}

int main(void)
{
    uint8_t *pages = mmap(NULL, 3 * RAM, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(pages != MAP_FAILED);
    ram = pages + RAM;
    CHECK(mprotect(ram, RAM, PROT_READ | PROT_WRITE) == 0);
    emu_host *host = emu_host_new();
    if (host == NULL) {
        puts("this host has no XSAVE");
        return 0;
    }
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++)
        for (unsigned opcode = rows[k].first; opcode <= rows[k].last; opcode++)
            for (unsigned reg = 0; reg < 8; reg++)
                try_rows(host, &rows[k], opcode, reg);
    static const struct row groups[] = {{1, P0, 0xae, 0xae, LV, S_4, 0}, {1, P0, 0xc7, 0xc7, L, S_16, 0}};
    for (size_t k = 0; k < 2; k++)
        for (unsigned reg = 0; reg < 8; reg++)
            try_rows(host, &groups[k], groups[k].first, reg);
    for (unsigned opcode = 0xd8; opcode < 0xe0; opcode++)
        for (unsigned reg = 0; reg < 8; reg++) {
            uint8_t b[] = {(uint8_t)opcode, (uint8_t)(MODRM | reg << 3)};
            try_one(host, b, sizeof b);
        }
    printf("%u encodings, %u done\n", tried, done);
    CHECK(tried > 5000 && done > 2000);
    emu_host_free(host);
    munmap(pages, 3 * RAM);
    return 0;
}
