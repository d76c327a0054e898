#include "uc_layout.h"

#include "uc.h"

uint8_t *uc_cpu(uc_engine *engine, uc_arch arch)
{
#if defined(__x86_64__)
    if (emu_uc_version() >> 8 != 0x020104)
        return NULL;
    uint8_t *uc = (uint8_t *)engine;
    if (load32(uc) != (uint32_t)arch || uc[UC_INIT_DONE] != 1 || uc[UC_NO_EXIT_REQUEST] != 0)
        return NULL;
    uint8_t *cpu = load_pointer(uc + UC_CPU);
    if (cpu == NULL || load_pointer(cpu + CPU_UC) != engine)
        return NULL;
    const uint8_t *env = load_pointer(cpu + CPU_ENV);
    return env <= cpu || env - cpu > 0x20000 ? NULL : cpu;
#else
    return NULL;
#endif
}
