/*
 * What the translator makes, for people: guest code beside host code, and a map
 * for perf.  Disassembly is capstone's, opened when it is first needed.
 */
#include "a64.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "a64_engine.h"

static struct {
    char *dump;     /* a file's name; NULL: none is wanted */
    char *capstone; /* its library */
    int perf;
    FILE *out, *map;
    pid_t map_of; /* perf wants a map for each process */
} wanted;

void emu_a64_show(const char *dump, const char *capstone, int perf)
{
    wanted.dump = dump != NULL ? strdup(dump) : NULL;
    wanted.capstone = capstone != NULL ? strdup(capstone) : NULL;
    wanted.perf = tr_plain = perf != 0;
}

/* capstone.h of version 5: cs_insn, cs_open, cs_disasm. */
struct instruction {
    unsigned id;
    uint64_t address;
    uint16_t size;
    uint8_t bytes[24];
    char mnemonic[32];
    char operands[160];
    void *detail;
};
enum { ARCH_ARM64 = 1, ARCH_X86 = 3, MODE_64 = 1 << 3 };

static struct {
    int (*open)(int arch, int mode, size_t *handle);
    size_t (*disassemble)(size_t handle, const uint8_t *code, size_t size, uint64_t address, size_t count,
                          struct instruction **out);
    void (*free)(struct instruction *instructions, size_t count);
    size_t arm, x86;
} capstone;

static void function(void *library, const char *name, void *out)
{
    void *found = dlsym(library, name);
    memcpy(out, &found, sizeof found);
}

static void start(void)
{
    wanted.out = fopen(wanted.dump, "ae");
    if (wanted.out == NULL) {
        fprintf(stderr, "emu: cannot write %s: %m\n", wanted.dump);
        wanted.dump = NULL;
        return;
    }
    void *library = wanted.capstone != NULL ? dlopen(wanted.capstone, RTLD_NOW | RTLD_LOCAL) : NULL;
    if (library == NULL)
        return;
    function(library, "cs_open", &capstone.open);
    function(library, "cs_disasm", &capstone.disassemble);
    function(library, "cs_free", &capstone.free);
    if (capstone.open == NULL || capstone.disassemble == NULL || capstone.free == NULL ||
        capstone.open(ARCH_ARM64, 0, &capstone.arm) != 0 || capstone.open(ARCH_X86, MODE_64, &capstone.x86) != 0)
        capstone.open = NULL;
}

static void write_text(size_t handle, const uint8_t *code, size_t size, uint64_t address, const char *before)
{
    struct instruction *found = NULL;
    size_t count = capstone.open != NULL ? capstone.disassemble(handle, code, size, address, 0, &found) : 0;
    size_t done = 0;
    for (size_t i = 0; i < count; i++) {
        fprintf(wanted.out, "%s%12llx  %s %s\n", before, (unsigned long long)found[i].address, found[i].mnemonic,
                found[i].operands);
        done += found[i].size;
    }
    if (count > 0)
        capstone.free(found, count);
    if (done == size)
        return;
    fprintf(wanted.out, "%s%12llx  .byte", before, (unsigned long long)address + done);
    for (; done < size; done++)
        fprintf(wanted.out, " %02x", code[done]);
    fputc('\n', wanted.out);
}

static void write_block(const a64_translator *t, const uint8_t *end)
{
    ptrdiff_t view = t->code->view;
    fprintf(wanted.out, "block %llx, %d instructions, %zu bytes\n", (unsigned long long)t->start, t->done,
            (size_t)(end - t->entry));
    for (int i = 0; i < t->done; i++) {
        write_text(capstone.arm, (const uint8_t *)&t->words[i], 4, t->start + 4 * (uint64_t)i, "");
        const uint8_t *from = t->places[i], *to = i + 1 < t->done ? t->places[i + 1] : t->tail;
        if (to > from)
            write_text(capstone.x86, from, (size_t)(to - from), (uint64_t)(uintptr_t)(from - view), "        ");
    }
    if (end > t->tail) {
        fputs("exits\n", wanted.out);
        write_text(capstone.x86, t->tail, (size_t)(end - t->tail), (uint64_t)(uintptr_t)(t->tail - view), "        ");
    }
    fflush(wanted.out);
}

void a64_show(const a64_translator *t)
{
    if (wanted.dump != NULL && wanted.out == NULL)
        start();
    if (wanted.dump != NULL)
        write_block(t, t->e.at);
    if (!wanted.perf)
        return;
    if (wanted.map == NULL || wanted.map_of != getpid()) {
        char name[64];
        wanted.map_of = getpid();
        snprintf(name, sizeof name, "/tmp/perf-%d.map", (int)wanted.map_of);
        wanted.map = fopen(name, "ae");
        if (wanted.map == NULL) {
            wanted.perf = 0;
            return;
        }
    }
    fprintf(wanted.map, "%llx %zx guest %llx\n", (unsigned long long)(uintptr_t)(t->entry - t->code->view),
            (size_t)(t->e.at - t->entry), (unsigned long long)t->start);
    fflush(wanted.map);
}
