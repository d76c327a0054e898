/* The library's insides, for what its public interface cannot do, or not fast. */
#ifndef EMU_UC_LAYOUT_H
#define EMU_UC_LAYOUT_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <unicorn/unicorn.h>

/*
 * Places inside the library, in bytes; unicorn 2.1.4 for x86-64 hosts.  Nothing
 * here is used before uc_cpu() has found what must be there.
 */
enum uc_layout {
    UC_CPU = 0x1b8,            /* uc_struct: CPUState * */
    UC_INVALID_ERROR = 0x590,  /* int */
    UC_NO_EXIT_REQUEST = 0x7f2, /* bool: no exit check after every load and store */
    UC_INIT_DONE = 0x7f3,      /* bool, the byte behind it */
    UC_BLOCKS = 0x7a8,         /* MemoryRegion **, one for each mapping */
    UC_BLOCK_COUNT = 0x7b0,    /* uint32_t */
    REGION_OPS = 0x10,         /* MemoryRegion: MemoryRegionOps * */
    REGION_OPAQUE = 0x18,      /* of uc_mmio_map: read, its data, write, its data, MemoryRegionOps */
    REGION_BASE = 0x40,        /* uint64_t */
    REGION_END = 0x90,         /* uint64_t, the first address behind it */
    MMIO_OPS = 0x20,
    OPS_IMPL_MAX = 0x44,       /* MemoryRegionOps: uint32_t */
    CPU_CFLAGS_NEXT = 0x18,       /* CPUState: uint32_t, of the next block alone; all ones: as always */
    CPU_INTERRUPT_REQUEST = 0x1c, /* uint32_t */
    CPU_SINGLESTEP = 0x20,     /* int: SSTEP_* */
    CPU_ENV = 0x128,           /* CPUArchState * */
    CPU_ICOUNT = 0x130,        /* pointer to {uint16_t low, high} */
    CPU_IO_PC = 0x8178,        /* where generated code made the MMIO access; for cpu_loop_exit_restore */
    CPU_HALTED = 0x8198,       /* uint32_t */
    CPU_EXCEPTION = 0x81a0,    /* int32_t */
    CPU_UC = 0x81a8,           /* uc_struct * */
    CPU_CLASS = 0x81b0,        /* CPUClass * */
    CLASS_HAS_WORK = 0x08,     /* bool (*)(CPUState *) */
    CLASS_DO_INTERRUPT = 0x10, /* void (*)(CPUState *) */
    CLASS_DEBUG_HANDLER = 0x78, /* void (*)(CPUState *), after EXCP_DEBUG */
    CLASS_EXEC_INTERRUPT = 0x90, /* bool (*)(CPUState *, int request) */
};

/*
 * The engine's CPUState, whose registers are at CPU_ENV, if the library is the one
 * described here and every pointer that is followed leads back; else NULL.
 */
uint8_t *uc_cpu(uc_engine *uc, uc_arch arch);

/* uc_debug.c: whether a CPU can be made to stop behind one instruction; around that, between runs. */
bool emu_uc_can_step(uint8_t *cpu, void (*stopped)(void *cpu));
void emu_uc_step_begin(uint8_t *cpu);
void emu_uc_step_end(uint8_t *cpu);

static inline uint32_t load32(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static inline uint64_t load64(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static inline void *load_pointer(const uint8_t *at) { return (void *)(uintptr_t)load64(at); }
static inline void store32(uint8_t *at, uint32_t value) { memcpy(at, &value, sizeof value); }
static inline void store64(uint8_t *at, uint64_t value) { memcpy(at, &value, sizeof value); }

#endif
