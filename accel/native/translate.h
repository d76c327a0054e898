/*
 * Translated code: where it lies, which guest code it is of, and how pieces of
 * it reach each other.  Knows no guest ISA.
 *
 * One tr_code belongs to one guest address space and is shared by its threads.
 * Its code lies in a memfd that is mapped twice, once to write and once to
 * execute, and is only ever appended to.  A block is the translation of guest
 * code that begins at one address and ends within the same page; it is left
 * - to code that was known when it was translated, by a direct jump;
 * - to code that was not, by a jump through a slot: a pointer outside of the
 *   code, which leads to the translator first and to the code from then on;
 * - to an address that a register holds, through a table of each thread's.
 *
 * fork: slots and tables are private memory and so the child's own.  The code so
 * far is shared between parent and child and `frozen`: neither changes it again.
 * What the child adds lies in a memfd of its own.
 *
 * Invalidation: a block's first instruction is overwritten by a jump to the
 * translator.  Where that is impossible (frozen) or would not end (no room), all
 * translations are dropped, while no thread is inside.
 *
 * `lock` guards all of it but for what says otherwise.  A handler of a host
 * fault reads blocks and sites without it: entries are not changed once the code
 * that they describe can run.
 */
#ifndef EMU_TRANSLATE_H
#define EMU_TRANSLATE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine.h"

enum {
    TR_CODE_SIZE = 128 << 20,
    TR_SLOTS = 1 << 20,
    TR_BLOCKS = 1 << 21,
    TR_SITES = 1 << 23,
    TR_CONSTANTS = 1 << 12,
    TR_BLOCK_ROOM = 128 << 10, /* bytes of code that one block may take */
    TR_ENTRY = 8,              /* alignment of blocks, so that an entry is overwritten in one store */
};

/* Where an exit leads.  `code` is read by running code and replaced in one store. */
typedef struct tr_slot {
    const uint8_t *code;
    uint64_t pc;
} tr_slot;

typedef struct tr_block {
    uint64_t pc;
    uint32_t at;   /* offset of the code */
    uint32_t next; /* index + 1 of another block of the same page; 0: none */
    uint32_t size; /* of the guest's code, bytes */
    uint32_t dead;
} tr_block;

/*
 * Host code that may fault: where it begins, which guest instruction of its block it is of, and which host register
 * holds which guest one.  `more` is the ISA's.
 */
typedef struct tr_site {
    uint32_t at;
    uint8_t index;
    uint8_t more;
    uint8_t general[6];
    uint8_t vector[8];
} tr_site;

enum { TR_NOTHING = 0xff }; /* in a site: the register holds nothing that memory has not */

typedef struct tr_code {
    emu_user_memory memory;
    pthread_mutex_t lock;
    int threads; /* engines that use it */
    /* One reservation: slots, constants, the code to execute.  `view` leads from there to where it is written. */
    uint8_t *reserved;
    tr_slot *slots;
    uint32_t slot_count;
    uint32_t constant_count;
    uint8_t (*constants)[16]; /* TR_CONSTANTS of them, up to the code */
    uint8_t *code;
    ptrdiff_t view;
    uint16_t constant_of[2 * TR_CONSTANTS]; /* by a hash: a constant's number + 1; 0: none */
    uint32_t used;
    uint32_t first;  /* where blocks begin: behind what the ISA's side put there once */
    uint32_t frozen; /* shared with another process up to here */
    bool inherited;  /* the rest is another process's too; give it a memfd before writing */
    tr_block *blocks;
    uint32_t block_count;
    tr_site *sites;
    uint32_t site_count;
    /* pc -> block index + 1, and page number -> the page's first block's index + 1. */
    struct tr_map {
        uint64_t *keys;
        uint32_t *values;
        uint32_t count, room;
    } by_pc, by_page;
    uint32_t generation; /* of all translations: another after each drop */
    uint64_t translated; /* guest instructions, for statistics */
    uint64_t nanoseconds;
} tr_code;

/* NULL: *text says why.  `memory` is copied. */
tr_code *tr_code_new(const emu_user_memory *memory, char *text, size_t size);
void tr_code_free(tr_code *code);

/* Before writing: makes sure that there is room for a block, and that it is ours.  0, -ENOMEM, -ENOSPC (drop). */
int tr_prepare(tr_code *code);
/* Index + 1 of the live block at pc; 0: none. */
uint32_t tr_find(const tr_code *code, uint64_t pc);
/* Enters a block whose code begins at `at`; code->used is behind it. */
void tr_enter(tr_code *code, uint64_t pc, uint32_t at, uint32_t guest_size);
/* A slot that leads to `stub` (as executed) until it is linked. */
uint32_t tr_slot_new(tr_code *code, uint64_t pc);
/* Offset from `code` of 16 bytes with this content, which code may read; equal ones have one place. */
int32_t tr_constant(tr_code *code, uint64_t low, uint64_t high);
/* The block whose code holds the host address, or NULL.  Without the lock. */
const tr_block *tr_block_at(const tr_code *code, const uint8_t *host);
/* The site that begins at the host address or is the last before it in its block; NULL: none.  Without the lock. */
const tr_site *tr_site_at(const tr_code *code, const uint8_t *host);

/*
 * Makes all blocks in a range of pages unreachable.  `entry` is where a block's
 * first instruction is made to call.  False: everything is to be dropped instead.
 */
bool tr_invalidate(tr_code *code, uint64_t addr, uint64_t size, const uint8_t *entry);
/* True when a page of the range has translated code. */
bool tr_has(const tr_code *code, uint64_t addr, uint64_t size);
/* Forgets all translations; no thread may be inside or enter. */
void tr_drop(tr_code *code);
/* After fork, in both processes. */
void tr_forked(tr_code *code, bool child);

static inline bool tr_holds(const tr_code *code, const uint8_t *host)
{
    return host >= code->code && host < code->code + TR_CODE_SIZE;
}

#endif
