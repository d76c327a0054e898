#include "uc_interpose.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "uc_library.h"
#include "uc_patch.h"

_Thread_local uc_interposed *uc_interposed_now;

typedef int (*cpu_exec_fn)(uc_engine *uc, void *cpu);
typedef void (*check_fn)(void *context);
typedef bool (*fill_fn)(void *cpu, uint64_t address, int size, int rw, int mmu, bool probe, uintptr_t retaddr);

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

#define REPLACE(arch)                                                                                         \
    static cpu_exec_fn cpu_exec_before_##arch;                                                                \
    static check_fn check_before_##arch;                                                                      \
    static fill_fn fill_before_##arch;                                                                        \
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
    }

REPLACE(aarch64)
REPLACE(arm)
REPLACE(riscv64)
REPLACE(x86_64)

static const struct {
    const char *name;
    void *with;
    void *before; /* address of the function pointer */
} replacements[] = {
#define ROW(arch)                                                                                             \
    {"cpu_exec_" #arch, (void *)cpu_exec_##arch, (void *)&cpu_exec_before_##arch},                            \
    {"check_exit_request_" #arch, (void *)check_##arch, (void *)&check_before_##arch},                        \
    {"unicorn_fill_tlb_" #arch, (void *)fill_##arch, (void *)&fill_before_##arch},
    ROW(aarch64) ROW(arm) ROW(riscv64) ROW(x86_64)
#undef ROW
};

static int outcome = -1;

static void replace(void)
{
    for (size_t i = 0; i < sizeof replacements / sizeof *replacements; i++) {
        /* The library's own first: from now on ours may be called at any time. */
        void *own = dlsym(uc_lib.handle, replacements[i].name);
        if (own == NULL)
            return;
        memcpy(replacements[i].before, &own, sizeof own);
        void *before = emu_uc_replace(uc_lib.handle, replacements[i].name, replacements[i].with);
        if (before == NULL)
            return;
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
