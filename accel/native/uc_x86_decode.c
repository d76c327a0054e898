/*
 * Instructions that the library takes for others: it knows no AVX, and does
 * what a VEX prefix makes of SSE as if the prefix were not there; TZCNT and LZCNT
 * are BSF and BSR to it.  To a machine whose guest was promised them they must
 * be undefined (struct emu_uc_shared).
 *
 * The translator is told where instructions begin, and asks for their bytes: in
 * place of those it gets UD2.
 */
#include "uc_machine.h"
#include "uc_patch.h"

enum { UD2 = 0x0b0f };

struct translator_ops { /* TranslatorOps, as far as it matters */
    void (*init)(void *base, void *cpu);
    void (*block)(void *base, void *cpu);
    void (*instruction)(void *base, void *cpu);
    void *others[5];
};

static struct {
    void (*loop)(const struct translator_ops *ops, void *base, void *cpu, void *block, int most);
    uint32_t (*byte)(void *env, uint64_t address);
    void (*instruction)(void *base, void *cpu);
} library;

enum state { INSIDE, PREFIXES, AFTER_0F, UNDEFINED };
static _Thread_local enum state state;
static _Thread_local bool repeated;

static void instruction(void *base, void *cpu)
{
    state = PREFIXES;
    repeated = false;
    library.instruction(base, cpu);
}

static void loop(const struct translator_ops *ops, void *base, void *cpu, void *block, int most)
{
    emu_uc_machine *m = emu_uc_running;
    if (m == NULL || m->shared == NULL) {
        library.loop(ops, base, cpu, block, most);
        return;
    }
    struct translator_ops ours = *ops;
    library.instruction = ops->instruction;
    ours.instruction = instruction;
    state = INSIDE;
    library.loop(&ours, base, cpu, block, most);
    state = INSIDE;
}

static bool is_prefix(uint32_t byte, bool wide)
{
    switch (byte) {
    case 0x26: case 0x2e: case 0x36: case 0x3e: case 0x64: case 0x65: case 0x66: case 0x67:
    case 0xf0: case 0xf2: case 0xf3: return true;
    }
    return wide && (byte & 0xf0) == 0x40;
}

static uint32_t byte_of_code(void *env, uint64_t address)
{
    uint32_t byte = library.byte(env, address);
    emu_uc_machine *m = emu_uc_running;
    if (state == INSIDE || m == NULL || m->env != env)
        return byte;
    bool wide = emu_uc_x86_is_wide(m);
    switch (state) {
    case PREFIXES:
        repeated = repeated || byte == 0xf3;
        if (is_prefix(byte, wide))
            return byte;
        state = byte == 0x0f ? AFTER_0F : INSIDE;
        if ((byte & 0xfe) == 0xc4 && (wide || library.byte(env, address + 1) >= 0xc0)) {
            state = UNDEFINED;
            return UD2 & 0xff;
        }
        return byte;
    case AFTER_0F:
        state = INSIDE;
        return repeated && (byte & 0xfe) == 0xbc ? UD2 >> 8 : byte;
    default:
        state = INSIDE;
        return UD2 >> 8;
    }
}

bool emu_uc_x86_decode_replace(void)
{
    void *before[2] = {emu_uc_symbol(&emu_uc_x86_64, "translator_loop"), emu_uc_symbol(&emu_uc_x86_64, "cpu_ldub_code")};
    if (before[0] == NULL || before[1] == NULL)
        return false;
    memcpy(&library.loop, &before[0], sizeof before[0]);
    memcpy(&library.byte, &before[1], sizeof before[1]);
    return emu_uc_replace(uc_lib.handle, "translator_loop_x86_64", (void *)loop) != NULL &&
           emu_uc_replace(uc_lib.handle, "cpu_ldub_code_x86_64", (void *)byte_of_code) != NULL;
}
