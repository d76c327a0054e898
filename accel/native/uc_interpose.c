#include "uc_interpose.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "uc_library.h"

_Thread_local uc_interposed *uc_interposed_now;

int uc_interpose_offer(void)
{
    Dl_info self;
    if (dladdr((void *)(uintptr_t)&uc_interpose_offer, &self) == 0)
        return -1;
    /* In a program (the native tests) these names are global already, if it was linked with -rdynamic. */
    void *handle = dlopen(self.dli_fname, RTLD_NOW | RTLD_GLOBAL | RTLD_NOLOAD);
    return handle == NULL ? -1 : 0;
}

/* The library's own function of that name; looked up once. */
static void *own(void **slot, const char *name)
{
    void *function = __atomic_load_n(slot, __ATOMIC_ACQUIRE);
    if (function == NULL) {
        function = dlsym(uc_lib.handle, name);
        __atomic_store_n(slot, function, __ATOMIC_RELEASE);
    }
    return function;
}

#define CALL_OWN(type, name, ...)                                                                             \
    static void *slot;                                                                                        \
    void *function = own(&slot, name);                                                                        \
    type call;                                                                                                \
    memcpy(&call, &function, sizeof call);                                                                    \
    return call(__VA_ARGS__)

typedef int (*cpu_exec_fn)(uc_engine *uc, void *cpu);
typedef void (*check_fn)(void *context);
typedef bool (*fill_fn)(void *cpu, uint64_t address, int size, int rw, int mmu, bool probe, uintptr_t retaddr);

static void enter(uc_engine *uc)
{
    uc_interposed *now = uc_interposed_now;
    if (now == NULL || now->uc != uc)
        return;
    now->entered = 1;
    /* The start has cleared earlier stop requests, and clears no later one. */
    if (*now->kicked)
        uc_emu_stop(uc);
}

#define INTERPOSE(arch)                                                                                       \
    __attribute__((visibility("default"))) int cpu_exec_##arch(uc_engine *uc, void *cpu);                     \
    __attribute__((visibility("default"))) void check_exit_request_##arch(void *context);                     \
    __attribute__((visibility("default"))) bool unicorn_fill_tlb_##arch(                                      \
        void *cpu, uint64_t address, int size, int rw, int mmu, bool probe, uintptr_t retaddr);               \
    int cpu_exec_##arch(uc_engine *uc, void *cpu)                                                             \
    {                                                                                                         \
        enter(uc);                                                                                            \
        CALL_OWN(cpu_exec_fn, "cpu_exec_" #arch, uc, cpu);                                                    \
    }                                                                                                         \
    void check_exit_request_##arch(void *context)                                                             \
    {                                                                                                         \
        if (uc_interposed_now != NULL)                                                                        \
            return;                                                                                           \
        CALL_OWN(check_fn, "check_exit_request_" #arch, context);                                             \
    }                                                                                                         \
    bool unicorn_fill_tlb_##arch(void *cpu, uint64_t address, int size, int rw, int mmu, bool probe,          \
                                 uintptr_t retaddr)                                                           \
    {                                                                                                         \
        if (uc_interposed_now != NULL)                                                                        \
            uc_interposed_now->fault = address;                                                               \
        CALL_OWN(fill_fn, "unicorn_fill_tlb_" #arch, cpu, address, size, rw, mmu, probe, retaddr);            \
    }

INTERPOSE(aarch64)
INTERPOSE(arm)
INTERPOSE(riscv64)
INTERPOSE(x86_64)
