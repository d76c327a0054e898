/*
 * Mutated ELF files against the parser and the loader.
 *
 *     fuzz_elf CASES [SEED [FILE ...]]
 *
 * Each case takes a good image (built here, or a file), changes some of its
 * bytes or its length, and parses it from a buffer of exactly its size.  What the
 * parser accepts must be true; every eighth case is mapped into a guest address
 * space as well.  The seed of a failing case is printed.
 */
#include "check.h"
#include "elf.h"
#include "load.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ROOM = 1 << 16, GOODS = 24, HEADERS = 12 };

static uint64_t seed;
static uint8_t *goods[GOODS];
static size_t sizes[GOODS];
static size_t count;
static uint64_t accepted, mapped;

static uint64_t below(uint64_t n) { return (next_random(&seed) >> 20) % n; }

static void put(uint8_t *at, uint64_t value, unsigned width, int big)
{
    for (unsigned i = 0; i < width; i++)
        at[big ? width - 1 - i : i] = (uint8_t)(value >> (8 * i));
}

/* A good image of either class and byte order, with `loads` segments and an interpreter. */
static void build(int wide, int big, int loads, int interp)
{
    const unsigned header = wide ? 64 : 52, entry = wide ? 56 : 32;
    size_t size = 0x3000 + (size_t)loads * 0x300;
    uint8_t *image = calloc(1, size);
    CHECK(image != NULL && count < GOODS);
    memcpy(image, "\177ELF", 4);
    image[4] = wide ? 2 : 1;
    image[5] = big ? 2 : 1;
    image[6] = 1;
    put(image + 16, loads & 1 ? 2 : 3, 2, big);
    put(image + 18, wide ? 183 : 40, 2, big);
    put(image + 20, 1, 4, big);
    put(image + 24, 0x10100, wide ? 8 : 4, big);
    put(image + (wide ? 32 : 28), header, wide ? 8 : 4, big);
    put(image + (wide ? 52 : 40), header, 2, big);
    put(image + (wide ? 54 : 42), entry, 2, big);
    put(image + (wide ? 56 : 44), (uint64_t)(loads + 2 + interp), 2, big);
    uint8_t *at = image + header;
    for (int i = 0; i < loads + 2 + interp; i++, at += entry) {
        uint64_t type = i < loads ? 1 : i == loads ? 6 : i == loads + 1 ? 0x6474e551 : 3;
        uint64_t offset = i < loads ? (uint64_t)i * 0x1000 % 0x3000 : type == 3 ? 0x2f00 : header;
        uint64_t vaddr = 0x10000 + (uint64_t)i * 0x4000 + offset % 0x1000;
        uint64_t filesz = i < loads ? 0x200 + (uint64_t)i : type == 3 ? 12 : (uint64_t)entry;
        uint64_t memsz = i < loads ? filesz + (uint64_t)i * 0x900 : filesz, flags = i == 0 ? 5 : 6;
        put(at, type, 4, big);
        if (wide) {
            put(at + 4, flags, 4, big);
            put(at + 8, offset, 8, big);
            put(at + 16, vaddr, 8, big);
            put(at + 24, vaddr, 8, big);
            put(at + 32, filesz, 8, big);
            put(at + 40, memsz, 8, big);
            put(at + 48, 0x1000, 8, big);
        } else {
            put(at + 4, offset, 4, big);
            put(at + 8, vaddr, 4, big);
            put(at + 12, vaddr, 4, big);
            put(at + 16, filesz, 4, big);
            put(at + 20, memsz, 4, big);
            put(at + 24, flags, 4, big);
            put(at + 28, 0x1000, 4, big);
        }
    }
    memcpy(image + 0x2f00, "/lib/ld.so.1", 12);
    image[0x2f00 + 11] = 0;
    goods[count] = image;
    sizes[count++] = size;
}

static void take_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    CHECK(file != NULL && count < GOODS);
    uint8_t *image = malloc(ROOM);
    CHECK(image != NULL);
    size_t size = fread(image, 1, ROOM, file);
    fclose(file);
    goods[count] = image;
    sizes[count++] = size;
}

static const uint64_t edges[] = {0,          1,          2,          0xff,       0xfff,     0x1000,     0x7fffffff,
                                 0x80000000, 0xfffff000, 0xffffffff, UINT64_MAX, INT64_MAX, ~UINT64_C(4095), UINT64_C(1) << 46};

static void mutate(uint8_t *image, size_t *size)
{
    uint64_t changes = 1 + below(6);
    for (uint64_t i = 0; i < changes && *size > 0; i++) {
        /* The headers are what is interesting. */
        size_t reach = *size < 64 + 56 * HEADERS || below(8) == 0 ? *size : 64 + 56 * HEADERS;
        size_t at = below(reach);
        switch (below(6)) {
        case 0:
            image[at] ^= (uint8_t)(1u << below(8));
            break;
        case 1:
            image[at] = (uint8_t)next_random(&seed);
            break;
        case 2: {
            unsigned width = 1u << below(4);
            at &= ~(size_t)(width - 1);
            if (at + width <= *size)
                put(image + at, edges[below(sizeof edges / sizeof *edges)], width, (int)below(2));
            break;
        }
        case 3:
            if (below(4) == 0)
                *size = below(*size + 1);
            break;
        case 4: { /* one header over another */
            size_t from = 64 + 56 * below(HEADERS), to = 64 + 56 * below(HEADERS);
            if (from + 56 <= *size && to + 56 <= *size)
                memmove(image + to, image + from, 56);
            break;
        }
        default: {
            uint64_t value;
            if (at + 8 <= *size) {
                memcpy(&value, image + at, 8);
                value += below(3) - 1;
                memcpy(image + at, &value, 8);
            }
        }
        }
    }
}

/* What the parser says of an accepted image. */
static void hold(const emu_elf *elf, const uint8_t *image, size_t size)
{
    uint64_t last = elf->elf_class == EMU_ELF_64 ? UINT64_MAX : UINT32_MAX, sum = 0;
    CHECK(elf->loads >= 1 && elf->loads <= EMU_ELF_MAX_LOADS);
    CHECK(elf->interp_size == 0 || memchr(elf->interp, 0, elf->interp_size) != NULL);
    CHECK(elf->interp_size <= EMU_ELF_MAX_INTERP);
    for (uint32_t i = 0; i < elf->loads; i++) {
        const emu_elf_load *load = &elf->load[i];
        CHECK(load->memsz > 0 && load->filesz <= load->memsz);
        CHECK(load->filesz <= size && load->offset <= size - load->filesz);
        CHECK(load->vaddr <= last && load->memsz - 1 <= last - load->vaddr);
        CHECK(load->align != 0 && (load->align & (load->align - 1)) == 0);
        if (i > 0)
            CHECK(load->vaddr - elf->load[i - 1].vaddr >= elf->load[i - 1].memsz);
        for (uint64_t at = 0; at < load->filesz; at += 64)
            sum += image[load->offset + at];
    }
    CHECK(sum != UINT64_MAX);
}

static void load(const uint8_t *bytes, size_t size)
{
    static emu_process process;
    static char *argv[] = {(char *)"one", (char *)"two", NULL}, *envp[] = {(char *)"A=1", NULL};
    static emu_image image;
    char text[200];
    image.fd = memfd_create("image", 0);
    CHECK(image.fd >= 0 && write(image.fd, bytes, size) == (ssize_t)size);
    image.size = size;
    if (emu_image_parse(&image, text, sizeof text) == 0) {
        const emu_abi *abi = emu_abi_of_machine(image.elf.machine, image.elf.elf_class);
        if (abi != NULL) {
            process.abi = abi;
            CHECK(umem_init(&process.umem, abi->bits, false) == 0);
            CHECK(emu_layout(&process, false) == 0);
            emu_start start = {.argv = argv, .envp = envp, .execfn = "one", .elf = &image.elf};
            uint64_t sp;
            if (emu_image_map(&process.umem, &image, 0x400000, "image", &start.program) == 0) {
                /* It may have been mapped over the stack, without the right to write. */
                int error = emu_stack_write(&process, &start, &sp);
                CHECK(error == 0 || error == -EFAULT);
                mapped++;
            }
            for (size_t i = 1; i < process.umem.count; i++)
                CHECK(process.umem.areas[i - 1].end <= process.umem.areas[i].start);
            umem_free(&process.umem);
        }
    }
    close(image.fd);
}

static void on_fault(int sig, siginfo_t *info, void *context)
{
    if (!umem_fixup(sig, info, context))
        signal(sig, SIG_DFL);
}

int main(int argc, char **argv)
{
    uint64_t cases = argc > 1 ? strtoull(argv[1], NULL, 0) : 20000;
    uint64_t first = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    for (int shape = 0; shape < 16; shape++)
        build(shape & 1, shape >> 3, 1 + (shape >> 1 & 3), shape >> 2 & 1);
    for (int i = 3; i < argc; i++)
        take_file(argv[i]);
    static emu_elf elf;
    for (uint64_t i = 0; i < cases; i++) {
        seed = (first + i) * UINT64_C(0x9E3779B97F4A7C15) | 1;
        size_t which = below(count), size = sizes[which];
        uint8_t *whole = malloc(sizes[which]);
        CHECK(whole != NULL);
        memcpy(whole, goods[which], size);
        if (i >= count)
            mutate(whole, &size);
        /* Of exactly its size: one byte too far is seen. */
        uint8_t *image = malloc(size == 0 ? 1 : size);
        CHECK(image != NULL);
        memcpy(image, whole, size);
        free(whole);
        char text[64];
        int error = emu_elf_parse_bytes(image, size, &elf, text, sizeof text);
        if (error == 0) {
            accepted++;
            hold(&elf, image, size);
            if (i % 8 == 0)
                load(image, size);
        } else if (error != -ENOEXEC || strlen(text) == 0 || strchr(text, '\n') != NULL) {
            fprintf(stderr, "case %llu: %d, %s\n", (unsigned long long)(first + i), error, text);
            return 1;
        }
        free(image);
    }
    for (size_t i = 0; i < count; i++)
        free(goods[i]);
    printf("%llu cases, %llu accepted, %llu mapped\n", (unsigned long long)cases, (unsigned long long)accepted,
           (unsigned long long)mapped);
    return accepted == 0 || mapped == 0;
}
