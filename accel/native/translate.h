/*
 * Translated code: where it lies, which guest code it is of, and how pieces of
 * it reach each other.  Knows no guest ISA.
 *
 * One tr_code belongs to one guest address space and is shared by its threads.
 * Its code lies in a memfd that is mapped twice, once to write and once to
 * execute; it is only ever appended to, and never changed.  A block is the
 * translation of guest code that begins at one address and ends within the same
 * page; it is left
 * - to code of the same page that was known when it was translated, by a direct
 *   jump;
 * - to other code by a jump through a slot: a pointer outside of the code, which
 *   leads to the translator first and to the code from then on;
 * - to an address that a register holds, through a table of each thread's.
 *
 * fork: slots and tables are private memory and so the child's own.  The code so
 * far is shared between parent and child; what the child adds lies in a memfd of
 * its own.
 *
 * Where guest code may have changed (a mapping changed, IC IVAU, execve) its page
 * is suspended: slots that lead there lead to the translator again, threads
 * forget what they know (the engine's matter).  Who comes to a suspended page
 * compares the lines that its blocks were made of with a hash of what they were
 * then: the same, and all its blocks are good again; else they are forgotten.
 * So a program that is executed once more, or a library that is mapped once
 * more, is not translated again.
 *
 * When there is no room left, all translations are dropped, while no thread is
 * inside.  EMU_CODE_ROOM=BYTES makes that happen early, for tests.
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
    TR_PAGES = 1 << 18,
    TR_LINE = 64, /* bytes of guest code that are told to have changed together */
    TR_LINES = 4096 / TR_LINE,
    TR_SITES = 1 << 23,
    TR_CONSTANTS = 1 << 12,
    TR_BLOCK_ROOM = 128 << 10, /* bytes of code that one block may take */
};

/* Where an exit leads.  `code` is read by running code and replaced in one store. */
typedef struct tr_slot {
    const uint8_t *code;
    uint64_t pc;
    uint32_t stub; /* offset of the code that asks the translator */
    uint32_t next; /* index + 1 of another that leads to the same block; 0: none */
} tr_slot;

typedef struct tr_block {
    uint64_t pc;
    uint32_t at;    /* offset of the code */
    uint32_t size;  /* of the guest's code, bytes */
    uint32_t page;
    uint32_t next;  /* index + 1 of another block of the same page; 0: none */
    uint32_t slots; /* index + 1 of the first that leads here; 0: none */
} tr_block;

typedef struct tr_page {
    uint64_t number; /* address / 4096 */
    uint64_t hash;   /* a sum over blocks and the lines that each was made of */
    uint32_t blocks; /* index + 1 of the first; 0: none */
    bool suspended;
    uint16_t lines[TR_LINES]; /* how many blocks were made of each, that is looked at its bytes */
} tr_page;

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
    uint32_t used, room; /* of TR_CODE_SIZE */
    uint32_t first;  /* where blocks begin: behind what the ISA's side put there once */
    bool inherited; /* what lies behind `used` is another process's too; give it a memfd before writing */
    tr_block *blocks;
    uint32_t block_count;
    tr_page *pages;
    uint32_t page_count;
    uint64_t seen, seen_hash; /* the lines that the block being translated is made of, and their bytes */
    tr_site *sites;
    uint32_t site_count;
    /* pc, or pc + ALONE -> block index + 1; page number -> page index + 1. */
    struct tr_map {
        uint64_t *keys;
        uint32_t *values;
        uint32_t count, room, first; /* first: the room of the first entries */
    } by_pc, by_page;
    /*
     * Bits that are taken off the top of every address: 0; 8 where the guest uses tagged pointers (TBI); more
     * where it is to be kept within its memory.  Code is for one value.
     */
    int masked;
    uint32_t generation; /* of all translations: another after each drop */
    bool odd;            /* the ISA's: translations are for modes that few programs use */
    uint64_t translated; /* guest instructions, for statistics */
    const struct emu_trace *trace; /* blocks are such as it wants to be told of; NULL: there is none */
} tr_code;

/* Set before: code is written where it is executed, in memory of no file, which is where perf looks for maps. */
extern bool tr_plain;

/* NULL: *text says why.  `memory` is copied. */
tr_code *tr_code_new(const emu_user_memory *memory, char *text, size_t size);
void tr_code_free(tr_code *code);

/* Before writing: makes sure that there is room for a block, and that it is ours.  0, -ENOMEM, -ENOSPC (drop). */
int tr_prepare(tr_code *code);
/* The index of pc's page, not suspended any more; before something in it is translated. */
uint32_t tr_page_now(tr_code *code, uint64_t pc);
/* Index + 1 of the block at pc; 0: none.  The guest's memory there is readable and executable now. */
uint32_t tr_find(tr_code *code, uint64_t pc);
/* The same without asking whether it is still good: for code of a page that is being translated. */
uint32_t tr_find_beside(const tr_code *code, uint64_t pc);
void tr_look_at(tr_code *code, uint64_t pc);
/* Before guest code is read for a block of its page: what the block is good for depends on it. */
static inline void tr_look(tr_code *code, uint64_t pc)
{
    if (!(code->seen >> (pc / TR_LINE % TR_LINES) & 1))
        tr_look_at(code, pc);
}
/*
 * Enters a block whose code begins at `at`; code->used is behind it.  alone: it is found by tr_find_alone and by
 * nobody else.
 */
void tr_enter(tr_code *code, uint64_t pc, uint32_t at, uint32_t guest_size, bool alone);
uint32_t tr_find_alone(tr_code *code, uint64_t pc);
/* A slot that leads to `stub` (as executed) until it is linked. */
uint32_t tr_slot_new(tr_code *code, uint64_t pc);
void tr_slot_stub(tr_code *code, uint32_t slot, const uint8_t *stub);
void tr_link(tr_code *code, uint32_t slot, uint32_t block);
/* Offset from `code` of 16 bytes with this content, which code may read; equal ones have one place. */
int32_t tr_constant(tr_code *code, uint64_t low, uint64_t high);
/* The block whose code holds the host address, or NULL.  Without the lock. */
const tr_block *tr_block_at(const tr_code *code, const uint8_t *host);
/* The site that begins at the host address or is the last before it in its block; NULL: none.  Without the lock. */
const tr_site *tr_site_at(const tr_code *code, const uint8_t *host);

/* Suspends the pages of a range that have blocks; exact: only those with blocks made of the range.  True: there were some. */
bool tr_suspend(tr_code *code, uint64_t addr, uint64_t size, bool exact);
/* Forgets all translations; no thread may be inside or enter. */
void tr_drop(tr_code *code);
/* After fork, in both processes. */
void tr_forked(tr_code *code, bool child);

static inline bool tr_holds(const tr_code *code, const uint8_t *host)
{
    return host >= code->code && host < code->code + TR_CODE_SIZE;
}

#endif
