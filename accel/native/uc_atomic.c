/*
 * Atomic instructions of user-mode guests are atomic on the host.
 *
 * Another process may be at the same memory: a semaphore in a shared mapping.
 * The library translates for one CPU that has its memory for itself: an atomic
 * instruction becomes a load, a computation and a store, and barriers vanish.
 * Its translator can do better, for it is QEMU's: with CF_PARALLEL in a
 * translation's flags the same instructions become calls of helpers that use the
 * host's locked instructions.  So the flag is set while a block is translated,
 * and only then: blocks are looked up by their flags.
 *
 * Two families of helpers are not atomic in the library, exchange and
 * minimum/maximum.  They are replaced by loops around its compare-and-exchange.
 * What those helpers cannot do (an x86 operand that is not aligned) they leave to
 * a part of QEMU that the library has not got: that engine's blocks are translated
 * as before from then on.
 */
#include "uc_atomic.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>
#include <string.h>

#include "engine.h"
#include "uc_interpose.h"
#include "uc_library.h"
#include "uc_patch.h"

#define CF_PARALLEL UINT32_C(0x00080000)

/* ---- translating ---------------------------------------------------------------- */

typedef void (*start_fn)(void *context);
typedef void (*generate_fn)(void *cpu, void *tb, int max);
typedef void (*exit_fn)(void *cpu, uintptr_t from);

struct target {
    start_fn start_before;
    generate_fn generate_before;
    exit_fn exit_before;
    void (*restore)(void *cpu, uintptr_t from, bool leaves); /* the library's cpu_restore_state, */
    void (*flush)(void *cpu);                                /* its tb_flush, */
    void (*loop_exit)(void *cpu);                            /* and cpu_loop_exit, which does not return */
    size_t context_flags; /* where in the TCGContext; 0: no answer to be had */
};

/* Of the translation that begins on this thread. */
static _Thread_local uint8_t *context_now;

static void generate_block(const struct target *target, size_t tb_flags, void *cpu, uint8_t *tb, int max)
{
    uc_interposed *now = uc_interposed_now;
    uint8_t *context = context_now;
    context_now = NULL;
    uint32_t flags, same;
    if (now == NULL || now->serial || context == NULL || target->context_flags == 0) {
        target->generate_before(cpu, tb, max);
        return;
    }
    memcpy(&flags, tb + tb_flags, sizeof flags);
    memcpy(&same, context + target->context_flags, sizeof same);
    if (flags != same) { /* not where we think it is */
        target->generate_before(cpu, tb, max);
        return;
    }
    uint32_t parallel = flags | CF_PARALLEL;
    memcpy(tb + tb_flags, &parallel, sizeof parallel);
    memcpy(context + target->context_flags, &parallel, sizeof parallel);
    target->generate_before(cpu, tb, max);
    memcpy(tb + tb_flags, &flags, sizeof flags);
    memcpy(context + target->context_flags, &flags, sizeof flags);
}

/* Behind the flags: the size of the guest's code. */
static void generate(const struct target *target, size_t tb_flags, void *cpu, uint8_t *tb, int max)
{
    generate_block(target, tb_flags, cpu, tb, max);
    uc_interposed *now = uc_interposed_now;
    if (now == NULL || now->translated == NULL)
        return;
    size_t address = tb_flags - 8;
    uint64_t pc = 0;
    uint16_t size;
    memcpy(&pc, tb, address / 2);
    memcpy(&size, tb + address + 4, sizeof size);
    now->translated(now->owner, pc, size);
}

/* A helper gives up: the instruction at `from` begins again, translated as if nobody else were there. */
static void give_up(const struct target *target, void *cpu, uintptr_t from)
{
    uc_interposed *now = uc_interposed_now;
    if (now == NULL || now->serial)
        target->exit_before(cpu, from);
    now->serial = true;
    target->restore(cpu, from, true);
    target->flush(cpu);
    target->loop_exit(cpu);
}

/* A TranslationBlock begins with two addresses of the guest's width, flags, two sizes; then its own flags. */
#define TB_FLAGS(address) (2 * sizeof(address) + 8)

#define TRANSLATE(arch, address)                                                                              \
    static struct target target_##arch;                                                                       \
    static void start_##arch(void *context)                                                                   \
    {                                                                                                         \
        context_now = context;                                                                                \
        target_##arch.start_before(context);                                                                  \
    }                                                                                                         \
    static void generate_##arch(void *cpu, void *tb, int max)                                                 \
    {                                                                                                         \
        generate(&target_##arch, TB_FLAGS(address), cpu, tb, max);                                            \
    }                                                                                                         \
    static void give_up_##arch(void *cpu, uintptr_t from) { give_up(&target_##arch, cpu, from); }

/* ---- helpers ---------------------------------------------------------------------- */

/*
 * In place of the library's.  They are called from translated code; their return
 * address tells the library which instruction a fault belongs to.
 */
#define HELPER(arch, address, suffix, name, value_type, type, next)                                           \
    static value_type name##_##suffix##_##arch(void *env, address addr, value_type operand, uint32_t index)   \
    {                                                                                                         \
        uintptr_t from = (uintptr_t)__builtin_return_address(0);                                              \
        type old = 0, value = (type)operand;                                                                  \
        for (;;) {                                                                                            \
            type now = (type)cmpxchg_##suffix##_##arch(env, addr, (value_type)old, (value_type)(next), index, \
                                                       from);                                                 \
            if (now == old)                                                                                   \
                return (value_type)now;                                                                       \
            old = now;                                                                                        \
        }                                                                                                     \
    }

#define HELPERS_OF(arch, address, suffix, value_type, stype, utype)                                           \
    static value_type (*cmpxchg_##suffix##_##arch)(void *env, address addr, value_type old, value_type new,   \
                                                   uint32_t index, uintptr_t from);                           \
    HELPER(arch, address, suffix, xchg, value_type, utype, value)                                             \
    HELPER(arch, address, suffix, fetch_umin, value_type, utype, old < value ? old : value)                   \
    HELPER(arch, address, suffix, fetch_umax, value_type, utype, old > value ? old : value)                   \
    HELPER(arch, address, suffix, fetch_smin, value_type, stype, old < value ? old : value)                   \
    HELPER(arch, address, suffix, fetch_smax, value_type, stype, old > value ? old : value)

#define TARGET(arch, address)                                                                                 \
    TRANSLATE(arch, address)                                                                                  \
    HELPERS_OF(arch, address, b, uint32_t, int8_t, uint8_t)                                                   \
    HELPERS_OF(arch, address, w_le, uint32_t, int16_t, uint16_t)                                              \
    HELPERS_OF(arch, address, l_le, uint32_t, int32_t, uint32_t)                                              \
    HELPERS_OF(arch, address, q_le, uint64_t, int64_t, uint64_t)

TARGET(aarch64, uint64_t)
TARGET(arm, uint32_t)
TARGET(riscv64, uint64_t)
TARGET(x86_64, uint64_t)

/* What is needed of the library for a target. */
struct row {
    const char *name;
    void *with;  /* NULL: it is only looked for */
    void *found; /* address of the pointer to the library's own; NULL: it becomes a jump to `with` */
};

#define LOOK(symbol, at) {symbol, NULL, (void *)&(at)},
#define PASS(symbol, function, at) {symbol, (void *)(function), (void *)&(at)},
#define JUMP(name, suffix, arch) {"helper_atomic_" #name #suffix "_" #arch, (void *)name##_##suffix##_##arch, NULL},
#define HELPER_ROWS(suffix, arch)                                                                             \
    LOOK("helper_atomic_cmpxchg" #suffix "_mmu_" #arch, cmpxchg_##suffix##_##arch)                            \
    JUMP(xchg, suffix, arch) JUMP(fetch_umin, suffix, arch) JUMP(fetch_umax, suffix, arch)                    \
    JUMP(fetch_smin, suffix, arch) JUMP(fetch_smax, suffix, arch)
#define ROWS(arch)                                                                                            \
    LOOK("cpu_restore_state_" #arch, target_##arch.restore)                                                   \
    LOOK("tb_flush_" #arch, target_##arch.flush)                                                              \
    LOOK("cpu_loop_exit_" #arch, target_##arch.loop_exit)                                                     \
    HELPER_ROWS(b, arch) HELPER_ROWS(w_le, arch) HELPER_ROWS(l_le, arch) HELPER_ROWS(q_le, arch)              \
    PASS("tcg_func_start_" #arch, start_##arch, target_##arch.start_before)                                   \
    PASS("gen_intermediate_code_" #arch, generate_##arch, target_##arch.generate_before)                      \
    PASS("cpu_loop_exit_atomic_" #arch, give_up_##arch, target_##arch.exit_before)

static const struct row aarch64_rows[] = {ROWS(aarch64)}, arm_rows[] = {ROWS(arm)},
                        riscv64_rows[] = {ROWS(riscv64)}, x86_64_rows[] = {ROWS(x86_64)};

static bool replace(const struct row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        void *own = dlsym(uc_lib.handle, rows[i].name);
        if (own == NULL)
            return false;
        if (rows[i].found != NULL) /* first of all: ours may be called at any time */
            memcpy(rows[i].found, &own, sizeof own);
        if (rows[i].found == NULL) {
            if (emu_uc_redirect(own, rows[i].with) != 0)
                return false;
        } else if (rows[i].with != NULL) {
            void *before = emu_uc_replace(uc_lib.handle, rows[i].name, rows[i].with);
            if (before == NULL)
                return false;
            memcpy(rows[i].found, &before, sizeof before);
        }
    }
    return true;
}

/*
 * Where a TCGContext has the flags of the block that is translated: what tcg_gen_mb
 * looks at first, `testb $8, disp8(%rdi)`, is CF_PARALLEL in their third byte.
 */
static size_t context_flags(const char *name)
{
    const uint8_t *code = dlsym(uc_lib.handle, name);
    if (code == NULL || code[0] != 0xf6 || code[1] != 0x47 || code[2] < 2 || code[2] > 127 || code[3] != 8)
        return 0;
    return (size_t)(code[2] - 2);
}

#define ONCE(arch)                                                                                            \
    static void once_##arch(void)                                                                             \
    {                                                                                                         \
        if (replace(arch##_rows, sizeof arch##_rows / sizeof *arch##_rows))                                   \
            target_##arch.context_flags = context_flags("tcg_gen_mb_" #arch);                                 \
    }
ONCE(aarch64) ONCE(arm) ONCE(riscv64) ONCE(x86_64)

void uc_atomic(uint32_t isa)
{
    static pthread_once_t once[] = {[EMU_ISA_AARCH64] = PTHREAD_ONCE_INIT,
                                    [EMU_ISA_ARM] = PTHREAD_ONCE_INIT,
                                    [EMU_ISA_RISCV64] = PTHREAD_ONCE_INIT,
                                    [EMU_ISA_X86_64] = PTHREAD_ONCE_INIT};
    static void (*const functions[])(void) = {[EMU_ISA_AARCH64] = once_aarch64,
                                              [EMU_ISA_ARM] = once_arm,
                                              [EMU_ISA_RISCV64] = once_riscv64,
                                              [EMU_ISA_X86_64] = once_x86_64};
    pthread_once(&once[isa], functions[isa]);
}

bool uc_atomic_tells(uint32_t isa)
{
    const struct target *const targets[] = {[EMU_ISA_AARCH64] = &target_aarch64,
                                            [EMU_ISA_ARM] = &target_arm,
                                            [EMU_ISA_RISCV64] = &target_riscv64,
                                            [EMU_ISA_X86_64] = &target_x86_64};
    return targets[isa]->context_flags != 0;
}
