/*
 * Random mappings against a model that knows every page.
 *
 *     fuzz_umem CASES [SEED]
 *
 * Each case maps, unmaps, protects, moves and grows in a window of 64 pages, and
 * after every step compares the rights and the first byte of each page with the
 * model, and the record of areas with what it must always be.
 */
#include "check.h"
#include "runtime.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

enum { PAGES = 64, STEPS = 60 };
#define WINDOW UINT64_C(0x100000)

struct page {
    int mapped;
    int prot;
    uint8_t first;
};

static uint64_t seed;
static struct page model[PAGES];
static emu_umem umem;
static uint64_t told;

static uint64_t below(uint64_t n) { return (next_random(&seed) >> 20) % n; }

static uint64_t at(uint64_t page) { return WINDOW + page * EMU_PAGE; }

static void count_change(void *opaque, uint64_t addr, uint64_t size) { told++; }

static int random_prot(void)
{
    static const int prots[] = {PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_EXEC, PROT_WRITE,
                                PROT_READ | PROT_WRITE | PROT_EXEC};
    return prots[below(sizeof prots / sizeof *prots)];
}

static void compare(void)
{
    for (size_t i = 0; i < umem.count; i++) {
        const emu_area *area = &umem.areas[i];
        CHECK(area->start < area->end && area->start % EMU_PAGE == 0 && area->end % EMU_PAGE == 0);
        if (i > 0)
            CHECK(umem.areas[i - 1].end <= area->start);
    }
    for (uint64_t i = 0; i < PAGES; i++) {
        const struct page *page = &model[i];
        uint32_t rights = umem_rights(&umem, at(i) + below(EMU_PAGE));
        uint32_t expected = 0;
        if (page->mapped && page->prot != 0)
            expected = EMU_RIGHT_R | (page->prot & PROT_WRITE ? EMU_RIGHT_W : 0) | (page->prot & PROT_EXEC ? EMU_RIGHT_X : 0);
        CHECK_EQUAL(rights, expected);
        CHECK((umem_find(&umem, at(i)) != NULL) == page->mapped);
        uint8_t byte = 0;
        int error = umem_read(&umem, &byte, at(i), 1);
        CHECK_EQUAL(error == 0, expected != 0);
        if (error == 0)
            CHECK_EQUAL(byte, page->first);
        CHECK_EQUAL(umem_mapped(&umem, at(i), EMU_PAGE), page->mapped);
    }
}

/* Writes a byte into every page that may be written. */
static void mark(void)
{
    for (uint64_t i = 0; i < PAGES; i++) {
        uint8_t byte = (uint8_t)next_random(&seed);
        int error = umem_write(&umem, at(i), &byte, 1);
        CHECK_EQUAL(error == 0, model[i].mapped && (model[i].prot & PROT_WRITE));
        if (error == 0)
            model[i].first = byte;
    }
}

static int all_mapped(uint64_t first, uint64_t count)
{
    for (uint64_t i = first; i < first + count; i++)
        if (!model[i].mapped)
            return 0;
    return 1;
}

static int all_free(uint64_t first, uint64_t count)
{
    for (uint64_t i = first; i < first + count; i++)
        if (model[i].mapped)
            return 0;
    return 1;
}

static void step(void)
{
    uint64_t first = below(PAGES), count = 1 + below(PAGES - first < 12 ? PAGES - first : 12), ragged = below(EMU_PAGE);
    uint64_t size = count * EMU_PAGE - ragged;
    int prot = random_prot();
    switch (below(7)) {
    case 0:
    case 1: {
        int flags = MAP_PRIVATE | MAP_ANONYMOUS | (below(3) ? MAP_FIXED : MAP_FIXED_NOREPLACE);
        if (below(8) == 0)
            flags = (flags & ~MAP_PRIVATE) | MAP_SHARED;
        int64_t result = umem_map(&umem, at(first), size, prot, flags, -1, 0, below(4) ? NULL : "named");
        if ((flags & MAP_FIXED_NOREPLACE) && !all_free(first, count)) {
            CHECK_EQUAL(result, -EEXIST);
            break;
        }
        CHECK_EQUAL(result, at(first));
        for (uint64_t i = first; i < first + count; i++)
            model[i] = (struct page){1, prot, 0};
        break;
    }
    case 2:
        CHECK_EQUAL(umem_unmap(&umem, at(first), size), 0);
        for (uint64_t i = first; i < first + count; i++)
            model[i].mapped = 0;
        break;
    case 3: {
        int64_t result = umem_protect(&umem, at(first), size, prot);
        CHECK_EQUAL(result, all_mapped(first, count) ? 0 : -ENOMEM);
        for (uint64_t i = first; i < first + count && model[i].mapped; i++)
            model[i].prot = prot;
        break;
    }
    case 4: { /* moves one area over another place */
        uint64_t to = below(PAGES - count + 1);
        const emu_area *area = umem_find(&umem, at(first));
        int whole = area != NULL && area->end >= at(first + count);
        int64_t result = umem_remap(&umem, at(first), count * EMU_PAGE, count * EMU_PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, at(to));
        if (!whole) {
            CHECK(result == -EFAULT);
            break;
        }
        if (to < first + count && first < to + count) {
            CHECK_EQUAL(result, -EINVAL);
            break;
        }
        if (result == -EFAULT) { /* two mappings to the host, though alike: what was there is gone nevertheless */
            for (uint64_t i = to; i < to + count; i++)
                model[i].mapped = 0;
            break;
        }
        CHECK_EQUAL(result, at(to));
        memcpy(&model[to], &model[first], count * sizeof *model);
        for (uint64_t i = first; i < first + count; i++)
            model[i].mapped = 0;
        break;
    }
    case 5: { /* grows or shrinks where it is; a shared one would grow behind its object */
        uint64_t wanted = 1 + below(PAGES - first < 16 ? PAGES - first : 16);
        const emu_area *area = umem_find(&umem, at(first));
        if (area == NULL || area->end < at(first + count) || (area->flags & MAP_SHARED))
            break;
        struct page old = model[first + count - 1];
        int64_t result = umem_remap(&umem, at(first), count * EMU_PAGE, wanted * EMU_PAGE, 0, 0);
        if (wanted > count && !all_free(first + count, wanted - count)) {
            CHECK_EQUAL(result, -ENOMEM);
            break;
        }
        CHECK_EQUAL(result, at(first));
        for (uint64_t i = first + count; i < first + wanted; i++)
            model[i] = (struct page){1, old.prot, 0};
        for (uint64_t i = first + wanted; i < first + count; i++)
            model[i].mapped = 0;
        break;
    }
    default: { /* what must be refused, whatever is mapped */
        static const uint64_t odd[] = {0, 1, 4095, 4096, UINT64_C(1) << 45, UINT64_C(1) << 46, INT64_MAX, UINT64_MAX, UINT64_MAX - 4095};
        uint64_t a = odd[below(9)], b = odd[below(9)];
        if (a + b > WINDOW && a < at(PAGES))
            b = 1;
        if (a != 4096 && a != UINT64_C(1) << 45) /* these may be mapped */
            CHECK(umem_map(&umem, a, b, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0, NULL) < 0);
        (void)umem_unmap(&umem, a, b);
        (void)umem_protect(&umem, a, b, prot);
        CHECK(umem_remap(&umem, a, b, a, MREMAP_MAYMOVE, 0) < 0);
        uint8_t buffer[64];
        if (a >= at(PAGES) || a == 0)
            CHECK(umem_read(&umem, buffer, a, sizeof buffer) == -EFAULT && umem_write(&umem, a, buffer, 1) == -EFAULT);
        CHECK(umem_string(&umem, a, (char *)buffer, sizeof buffer) < 0);
    }
    }
}

static void on_fault(int sig, siginfo_t *info, void *context)
{
    if (!umem_fixup(sig, info, context))
        signal(sig, SIG_DFL);
}

int main(int argc, char **argv)
{
    uint64_t cases = argc > 1 ? strtoull(argv[1], NULL, 0) : 200;
    uint64_t first = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    CHECK(umem_init(&umem, 46, false) == 0);
    umem.top = umem.size - 0x10000;
    umem.mmap_top = umem.top;
    umem.before = umem.after = count_change;
    for (uint64_t i = 0; i < cases; i++) {
        seed = (first + i) * UINT64_C(0x9E3779B97F4A7C15) | 1;
        memset(model, 0, sizeof model);
        for (int j = 0; j < STEPS; j++) {
            step();
            compare();
            if (below(4) == 0)
                mark();
        }
        umem_clear(&umem);
        CHECK(umem.count == 0);
    }
    CHECK(told % 2 == 0 && told > 0);
    umem_free(&umem);
    return 0;
}
