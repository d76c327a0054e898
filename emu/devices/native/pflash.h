/*
 * Parallel NOR flash of the Intel command set, two 16-bit parts side by side on
 * a bus of 32 bits.  See pflash.c.
 */
#ifndef EMU_PFLASH_H
#define EMU_PFLASH_H

#include <stdint.h>

#define EMU_PFLASH_BLOCK 0x40000 /* bytes that are erased together, over both parts */
#define EMU_PFLASH_BUFFER 0x1000 /* bytes of the write buffers, over both parts */

#define EMU_PFLASH_NOWHERE 0xffffffffffffffff

/* What a snapshot keeps besides the contents. */
typedef struct emu_pflash_state {
    uint32_t command; /* whose answers are read: 0xff the array's */
    uint32_t cycle;   /* writes of the command so far; 0 between commands */
    uint32_t status;
    uint32_t count;   /* words that the write buffer still waits for */
    uint64_t address; /* what the write buffer goes to; EMU_PFLASH_NOWHERE before its first word */
    uint8_t buffer[0x1000];
    uint8_t given[0x200]; /* a bit for each byte of the buffer that was written */
} emu_pflash_state;

typedef struct emu_pflash emu_pflash;

/*
 * size: a multiple of EMU_PFLASH_BLOCK.  host: `size` bytes, which outlive the
 * device: the contents, each byte XOR `blank`, so that what has that value takes
 * no memory while nobody touches it.  writable: 0 for a part whose write-protect
 * pin is held.  NULL when memory is short.
 */
emu_pflash *emu_pflash_new(uint8_t *host, uint64_t size, uint8_t blank, int writable);
void emu_pflash_free(emu_pflash *flash);
/* Erases and programs go to this file too, of `length` bytes now.  The caller closes it. */
void emu_pflash_store(emu_pflash *flash, int fd, uint64_t length);
/* Puts a range of the contents into the file, after they were changed from outside; 0 or -1. */
int emu_pflash_keep(emu_pflash *flash, uint64_t offset, uint64_t size);
/* Whether the block at `offset` was written, or said to be by emu_pflash_keep, since the flash was made. */
int emu_pflash_touched(emu_pflash *flash, uint64_t offset);
/* The errno of the first write to the file that failed, 0 for none. */
int emu_pflash_error(emu_pflash *flash);

void emu_pflash_reset(emu_pflash *flash);
void emu_pflash_save(emu_pflash *flash, emu_pflash_state *state);
/* -1: no state that emu_pflash_save could have given. */
int emu_pflash_load(emu_pflash *flash, const emu_pflash_state *state);
/* Whether reads give the array. */
int emu_pflash_reads_array(emu_pflash *flash);

/* emu_read_fn and emu_write_fn of core.h. */
int emu_pflash_read(void *flash, uint64_t offset, uint32_t width, uint64_t *value);
int emu_pflash_write(void *flash, uint64_t offset, uint32_t width, uint64_t value);

#endif
