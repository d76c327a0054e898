/*
 * The native core: one memory map, its registers, doorbells and interrupt
 * lines.  Plain C11; it knows no Python and no accelerator.
 *
 * cffi reads this file as it is, so it holds declarations, enums and plain
 * numeric #defines only; #include lines and the guard are dropped by build.py.
 *
 * Terms: `base` is an address, `offset` is counted from the start of a region,
 * `size` is in bytes, `width` is the size in bytes of one access (1, 2, 4, 8).
 *
 * Threads: a map is changed by one thread at a time (the caller's duty; Python's
 * AddressSpace has the lock) and read by any number without a lock.  No lock is
 * held while a device runs.
 */
#ifndef EMU_CORE_H
#define EMU_CORE_H

#include <stddef.h>
#include <stdint.h>

/* ---- what an access may answer ------------------------------------------ */

enum emu_status {
    EMU_OK = 0,
    EMU_UNMAPPED = 1, /* nothing is there; *value is all ones of the width */
    EMU_RAISED = 2,   /* a hook raised: stop the vCPU, the exception is kept */
};

/* A hook's answer is EMU_OK or EMU_RAISED.  `offset` is within the region. */
typedef int (*emu_read_fn)(void *opaque, uint64_t offset, uint32_t width, uint64_t *value);
typedef int (*emu_write_fn)(void *opaque, uint64_t offset, uint32_t width, uint64_t value);

/* ---- regions ------------------------------------------------------------- */

enum emu_kind {
    EMU_RAM = 1, /* host memory, read and written */
    EMU_ROM = 2, /* host memory; guest writes go to `write`, or are dropped */
    EMU_IO = 3,  /* registers and hooks */
};

enum emu_reg_flag {
    EMU_REG_READ_HOOK = 1,  /* reads call the region's read function */
    EMU_REG_WRITE_HOOK = 2, /* writes call the region's write function */
    EMU_REG_CLEAR_ON_READ = 4,
};

/*
 * A register.  Without hooks it is served here: a read gives `value`, a write
 * changes the bits of `write_mask` and clears the bits of `w1c_mask` that are
 * written as one.  With a hook, the hook has the word and `value` is its shadow.
 */
typedef struct emu_reg {
    uint32_t offset; /* a multiple of width */
    uint32_t width;  /* 1, 2, 4 or 8 bytes */
    uint32_t flags;  /* enum emu_reg_flag */
    uint32_t reserved;
    uint64_t value;
    uint64_t reset;
    uint64_t write_mask;
    uint64_t w1c_mask;
} emu_reg;

typedef struct emu_region emu_region;
typedef struct emu_space emu_space;

/*
 * host: size bytes for RAM and ROM, NULL for IO; it outlives the region.
 * Returns NULL when memory is short or the arguments contradict each other.
 */
emu_region *emu_region_new(uint32_t kind, uint64_t size, void *host);
void emu_region_free(emu_region *region);
uint32_t emu_region_kind(const emu_region *region);
uint64_t emu_region_size(const emu_region *region);
void *emu_region_host(const emu_region *region);

/* read and write serve whatever no register claims; NULL reads 0, ignores writes. */
void emu_region_hooks(emu_region *region, emu_read_fn read, emu_write_fn write, void *opaque);

/*
 * Declares the registers of an IO region, once, before it is mapped.
 * -1: one lies outside the region or is not aligned to its width;
 * -2: two overlap; -3: no memory.
 */
int emu_region_registers(emu_region *region, const emu_reg *regs, size_t count);
/* The live register number i, for devices; NULL when there is none. */
emu_reg *emu_region_register(emu_region *region, size_t i);
/* Clears bits of the live value, then sets others, in one step; for devices.  Returns the new value. */
uint64_t emu_reg_change(emu_reg *reg, uint64_t clear, uint64_t set);

/*
 * A write of `width` bytes at `offset` (of exactly `match` where has_match)
 * adds 1 to the eventfd and goes no further.  -1: no memory or outside.
 */
typedef struct emu_doorbell {
    uint64_t offset;
    uint64_t match;
    uint32_t width; /* 0: any width */
    uint32_t has_match;
    int32_t fd;
    uint32_t reserved;
} emu_doorbell;
int emu_region_doorbell(emu_region *region, const emu_doorbell *bell);
size_t emu_region_doorbells(const emu_region *region, emu_doorbell *out, size_t max);

/*
 * Which pages of RAM are written.  While a region is tracked, what goes through the map and what
 * emu_space_written() tells is noted here; engines note their vCPUs' stores, or say them when asked.
 * track, take and untrack are for when no vCPU runs.
 */
#define EMU_PAGE 4096
/* -1: no RAM, or no memory. */
int emu_region_track(emu_region *region, int on);
/* A bit for each page from the region's first on, lowest first, in emu_region_dirty_words() words; begins anew. */
size_t emu_region_dirty_words(const emu_region *region);
void emu_region_take_dirty(emu_region *region, uint64_t *out);
/* Notes pages as written; nothing if the region is not tracked. */
void emu_region_mark(emu_region *region, uint64_t offset, uint64_t size);
/* The same for the pages of a bitmap, whose first bit stands for the page of `offset`. */
void emu_region_mark_pages(emu_region *region, uint64_t offset, const uint64_t *bits, size_t words);

/* ---- the map --------------------------------------------------------------- */

typedef struct emu_range {
    uint64_t base;
    uint64_t size;
    uint64_t offset; /* of `base` within the region */
    emu_region *region;
} emu_range;

/* size: addresses 0 .. size-1 exist; 0 stands for 2^64. */
emu_space *emu_space_new(uint64_t size);
void emu_space_free(emu_space *space);

/*
 * Maps a region.  Where regions of unlike priority overlap the higher is seen.
 * -1: does not fit into the space; -2: overlaps a region of the same priority
 * (see emu_space_conflict); -3: no memory; -4: is mapped already.
 */
int emu_space_add(emu_space *space, emu_region *region, uint64_t base, int32_t priority);
/* Also -5: is not mapped here. */
int emu_space_move(emu_space *space, emu_region *region, uint64_t base);
int emu_space_remove(emu_space *space, emu_region *region);
/* The region that the last add or move ran into. */
emu_region *emu_space_conflict(const emu_space *space);

/* The map as engines see it: sorted, without overlaps.  Returns how many there are. */
size_t emu_space_flat(const emu_space *space, emu_range *out, size_t max);
/* The range at an address; 0 when nothing is there. */
int emu_space_find(const emu_space *space, uint64_t addr, emu_range *out);

/*
 * One access as a vCPU makes it: width 1, 2, 4 or 8, any alignment.  The core
 * splits what crosses ranges and what a register is too narrow for, and merges
 * what is narrower than a register.  *value is little-endian in its low bytes.
 * Nothing lies beyond the last address: an access does not wrap to 0.
 */
int emu_space_read(emu_space *space, uint64_t addr, uint32_t width, uint64_t *value);
int emu_space_write(emu_space *space, uint64_t addr, uint32_t width, uint64_t value);

/* The same, relative to a region an engine has already looked up. */
int emu_region_read(emu_region *region, uint64_t offset, uint32_t width, uint64_t *value);
int emu_region_write(emu_region *region, uint64_t offset, uint32_t width, uint64_t value);

/*
 * Looking without touching: RAM, ROM and the shadow of registers; no hook runs.
 * Returns how many bytes from addr on were there.
 */
size_t emu_space_peek(const emu_space *space, uint64_t addr, void *out, size_t size);
/* Writes RAM and ROM from the host's side (loaders).  Returns bytes written. */
size_t emu_space_load(emu_space *space, uint64_t addr, const void *data, size_t size);

/*
 * Engines that keep translations of guest code must hear of changes that no
 * vCPU made.  emu_space_load tells them; whoever writes RAM through its host
 * address (DMA) calls emu_space_written afterwards.  A watcher is called in the
 * writer's thread and only takes a note.  -1: there are EMU_WATCHERS already.
 */
#define EMU_WATCHERS 32
typedef void (*emu_watch_fn)(void *opaque, uint64_t addr, uint64_t size);
int emu_space_watch(emu_space *space, emu_watch_fn fn, void *opaque);
void emu_space_unwatch(emu_space *space, void *opaque);
void emu_space_written(emu_space *space, uint64_t addr, uint64_t size);

/* How often pages of a region of the map began to be noted anew; 0: none is tracked. */
uint64_t emu_space_tracked(const emu_space *space);
/* Notes `size` bytes of RAM at a host address as written. */
void emu_space_mark_host(emu_space *space, const void *host, uint64_t size);

/* ---- interrupt lines ------------------------------------------------------ */

typedef struct emu_irq emu_irq;
typedef void (*emu_irq_fn)(void *opaque, uint32_t number, int level);

emu_irq *emu_irq_new(void);
void emu_irq_free(emu_irq *irq);
/* Where the line ends: a controller's input.  The current level is not told. */
void emu_irq_connect(emu_irq *irq, emu_irq_fn fn, void *opaque, uint32_t number);
/* Sets the level (0 or 1) and tells the controller if it changed. */
void emu_irq_set(emu_irq *irq, int level);
/* Sets the level without telling: a restored machine must see no edge. */
void emu_irq_restore(emu_irq *irq, int level);
int emu_irq_level(const emu_irq *irq);

/*
 * System registers that a device of the board's serves (a GICv3's CPU interface):
 * `code` is op0 << 14 | op1 << 11 | CRn << 7 | CRm << 3 | op2.  EMU_OK or EMU_RAISED.
 */
typedef int (*emu_sysreg_read_fn)(void *opaque, uint32_t code, uint64_t *value);
typedef int (*emu_sysreg_write_fn)(void *opaque, uint32_t code, uint64_t value);

/* ---- why a vCPU stopped --------------------------------------------------- */

enum emu_exit_kind {
    EMU_EXIT_HALT = 1,     /* waits for an interrupt (HLT, WFI); `text` says so where it takes none */
    EMU_EXIT_SHUTDOWN = 2, /* triple fault, or the guest's power-off call */
    EMU_EXIT_RESET = 3,
    EMU_EXIT_DEBUG = 4,    /* breakpoint or single step */
    EMU_EXIT_SYSCALL = 5,  /* the trap instruction where no guest kernel takes it */
    EMU_EXIT_FAULT = 6,    /* the engine cannot go on; `text` says why */
    EMU_EXIT_KICKED = 7,
    EMU_EXIT_BUDGET = 8,   /* ran the number of instructions or exits asked for */
    EMU_EXIT_RAISED = 9,   /* a hook raised */
};

#define EMU_HALTED_FOR_EVER "halted with interrupts off"

typedef struct emu_exit {
    int32_t kind;     /* enum emu_exit_kind */
    uint32_t code;    /* engine's own: KVM suberror, exception number */
    uint64_t pc;
    uint64_t address; /* of the access that failed, where there is one */
    uint8_t bytes[16]; /* instruction bytes at pc where known */
    uint32_t nbytes;
    uint32_t reserved;
    char text[128];
} emu_exit;

/* ---- host memory and time --------------------------------------------------- */

/*
 * Reserves `size` bytes of zeroed memory in a memfd of that name; pages cost
 * nothing until they are touched.  NULL with errno set; *fd is the caller's.
 */
void *emu_memory_new(const char *name, uint64_t size, int *fd);
void emu_memory_free(void *host, uint64_t size, int fd);

/*
 * Copies on write.  What the memfd holds is common to all that are private to
 * it; the pages that one has written since are its own.
 */
/* What is at `host` from now on: the memfd's content, with writes that stay here.  0, or -errno. */
int emu_memory_private(void *host, uint64_t size, int fd);
/* Copies the pages that are `from`'s own to the same places of `to`.  0, or -errno. */
int emu_memory_copy_own(const void *from, uint64_t size, void *to);
/* Puts the pages that are `host`'s own into the memfd, which nobody else uses.  0, or -errno. */
int emu_memory_fold(void *host, uint64_t size, int fd);

/* The monotonic clock in ns. */
uint64_t emu_now(void);

/* Which vCPU this thread runs, for devices that each CPU has its own of at the same address; 0 if nobody said. */
uint32_t emu_cpu(void);
void emu_cpu_enter(uint32_t index);

/* ---- for devices in C that are linked apart from the core --------------------- */

typedef struct emu_core_calls {
    int (*space_find)(const emu_space *space, uint64_t addr, emu_range *out);
    void (*space_written)(emu_space *space, uint64_t addr, uint64_t size);
    uint32_t (*region_kind)(const emu_region *region);
    void *(*region_host)(const emu_region *region);
    void (*irq_set)(emu_irq *irq, int level);
    uint64_t (*now)(void);
    uint32_t (*cpu)(void);
} emu_core_calls;

const emu_core_calls *emu_core_table(void);

#endif
