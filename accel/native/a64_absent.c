/* In the translator's place on hosts that are not x86-64, where build.py leaves its files out. */
#include "a64_engine.h"

#if !defined(__x86_64__)

#include <stdio.h>
#include <stdlib.h>

static emu_engine *open_nothing(uint32_t isa, const emu_user_memory *memory, char *text, size_t size)
{
    (void)isa, (void)memory;
    snprintf(text, size, "the translator makes code for x86-64 hosts only; use --engine unicorn");
    return NULL;
}

static const emu_engine_ops ops = {.name = "translator", .only = EMU_ISA_AARCH64, .open = open_nothing};

const emu_engine_ops *emu_a64_user(void)
{
    return &ops;
}

uint64_t emu_a64_stepped(const emu_engine *engine)
{
    (void)engine;
    return 0;
}

const char *emu_engine_name(const char *asked)
{
    if (asked == NULL || asked[0] == 0)
        asked = getenv("EMU_ENGINE");
    return asked == NULL || asked[0] == 0 ? "unicorn" : asked;
}

void emu_a64_show(const char *dump, const char *capstone, int perf)
{
    (void)dump, (void)capstone, (void)perf;
}

#endif
