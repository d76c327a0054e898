#include "uc_interpose.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "uc_library.h"
#include "uc_patch.h"

_Thread_local uc_interposed *uc_interposed_now;

typedef int (*cpu_exec_fn)(uc_engine *uc, void *cpu);
typedef void (*check_fn)(void *context);
typedef bool (*fill_fn)(void *cpu, uint64_t address, int size, int rw, int mmu, bool probe, uintptr_t retaddr);

/*
 * After each block that it has translated the library goes through all of its
 * TLB, to mark what may write to the block's pages.  Nothing may, mostly.
 */
static bool to_mark(uint64_t address, uint64_t size)
{
    const uc_interposed *now = uc_interposed_now;
    return now == NULL || now->writable(now->opaque, address) || now->writable(now->opaque, address + size - 1);
}

static void enter(uc_engine *uc, void *cpu)
{
    uc_interposed *now = uc_interposed_now;
    if (now == NULL || now->uc != uc)
        return;
    now->entered = 1;
    now->cpu = cpu;
    /* The start has cleared earlier stop requests, and clears no later one. */
    if (*now->kicked)
        uc_emu_stop(uc);
}

/* word: an address of the target */
#define REPLACE(arch, word)                                                                                   \
    static cpu_exec_fn cpu_exec_before_##arch;                                                                \
    static check_fn check_before_##arch;                                                                      \
    static fill_fn fill_before_##arch;                                                                        \
    static void (*mark_before_##arch)(void *cpu, word start, word size);                                      \
    static int cpu_exec_##arch(uc_engine *uc, void *cpu)                                                      \
    {                                                                                                         \
        enter(uc, cpu);                                                                                       \
        return cpu_exec_before_##arch(uc, cpu);                                                               \
    }                                                                                                         \
    static void check_##arch(void *context)                                                                   \
    {                                                                                                         \
        if (uc_interposed_now == NULL)                                                                        \
            check_before_##arch(context);                                                                     \
    }                                                                                                         \
    static bool fill_##arch(void *cpu, uint64_t address, int size, int rw, int mmu, bool probe,               \
                            uintptr_t retaddr)                                                                \
    {                                                                                                         \
        if (uc_interposed_now != NULL)                                                                        \
            uc_interposed_now->fault = address;                                                               \
        return fill_before_##arch(cpu, address, size, rw, mmu, probe, retaddr);                               \
    }                                                                                                         \
    static void mark_##arch(void *cpu, word start, word size)                                                 \
    {                                                                                                         \
        if (to_mark(start, size))                                                                             \
            mark_before_##arch(cpu, start, size);                                                             \
    }

/*
 * Out of the translator, or a helper, back into the library's loop, as it does
 * itself for exceptions; the loop then ends because it has been asked to stop.
 */
static void leave(void)
{
    uc_interposed *now = uc_interposed_now;
    if (now == NULL || now->loop_exit == NULL || now->cpu == NULL || now->aborted)
        return;
    now->aborted = 1;
    uc_emu_stop(now->uc);
    now->loop_exit(now->cpu);
}

static void (*abort_before)(void);

static void abort_instead(void)
{
    leave();
    abort_before();
}

/*
 * The library says on stdout and stderr, which are the guest's, what it thinks
 * of an encoding.  A guest's SIGILL says the same.
 */
static int printf_instead(const char *format, ...)
{
    if (uc_interposed_now != NULL)
        return 0;
    va_list args;
    va_start(args, format);
    int length = vprintf(format, args);
    va_end(args);
    return length;
}

static int fprintf_instead(FILE *file, const char *format, ...)
{
    if (uc_interposed_now != NULL)
        return 0;
    va_list args;
    va_start(args, format);
    int length = vfprintf(file, format, args);
    va_end(args);
    return length;
}

static size_t fwrite_instead(const void *data, size_t size, size_t count, FILE *file)
{
    return uc_interposed_now != NULL ? count : fwrite(data, size, count, file);
}

static int fputs_instead(const char *text, FILE *file)
{
    return uc_interposed_now != NULL ? 0 : fputs(text, file);
}

static int puts_instead(const char *text)
{
    return uc_interposed_now != NULL ? 0 : puts(text);
}

static int putchar_instead(int character)
{
    return uc_interposed_now != NULL ? character : putchar(character);
}

REPLACE(aarch64, uint64_t)
REPLACE(arm, uint32_t)
REPLACE(riscv64, uint64_t)
REPLACE(x86_64, uint64_t)

static const struct {
    const char *name;
    void *with;
    void *before; /* address of the function pointer; NULL: not asked for */
} replacements[] = {
#define ROW(arch)                                                                                             \
    {"cpu_exec_" #arch, (void *)cpu_exec_##arch, (void *)&cpu_exec_before_##arch},                            \
    {"check_exit_request_" #arch, (void *)check_##arch, (void *)&check_before_##arch},                        \
    {"unicorn_fill_tlb_" #arch, (void *)fill_##arch, (void *)&fill_before_##arch},                            \
    {"tlb_reset_dirty_by_vaddr_" #arch, (void *)mark_##arch, (void *)&mark_before_##arch},
    ROW(aarch64) ROW(arm) ROW(riscv64) ROW(x86_64)
#undef ROW
    {"abort", (void *)abort_instead, (void *)&abort_before},
    {"printf", (void *)printf_instead, NULL},
    {"fprintf", (void *)fprintf_instead, NULL},
    {"fwrite", (void *)fwrite_instead, NULL},
    {"fputs", (void *)fputs_instead, NULL},
    {"puts", (void *)puts_instead, NULL},
    {"putchar", (void *)putchar_instead, NULL},
};

static int outcome = -1;

static void replace(void)
{
    for (size_t i = 0; i < sizeof replacements / sizeof *replacements; i++) {
        /* The library's own first: from now on ours may be called at any time. */
        void *own = dlsym(uc_lib.handle, replacements[i].name);
        if (own == NULL)
            return;
        if (replacements[i].before != NULL)
            memcpy(replacements[i].before, &own, sizeof own);
        void *before = emu_uc_replace(uc_lib.handle, replacements[i].name, replacements[i].with);
        if (before == NULL)
            return;
        if (replacements[i].before != NULL)
            memcpy(replacements[i].before, &before, sizeof before);
    }
    outcome = 0;
}

int uc_interpose(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, replace);
    return outcome;
}
