/*
 * AArch64 to x86-64: what the translator's files share.
 *
 * While translated code runs, rsp points at the guest thread's state (+ 128, so
 * that the first 256 bytes take short displacements); below it is the stack of
 * the functions that translated code calls.  Nine general registers and the
 * vector registers v0-v7 live in host registers all the time; the others are
 * fetched from the state when a block first uses them and written back where it
 * is left.  Condition flags are written to the state only where somebody may want
 * them: until then they stay in EFLAGS, in one of the forms of enum a64_flags.
 *
 *     a64.c         blocks: decoding, flags' lives, exits, the fixed pieces of code
 *     a64_alloc.c   which guest register is in which host register
 *     a64_flags.c   conditions
 *     a64_int.c     data processing, immediate and register
 *     a64_branch.c  branches
 *     a64_mem.c     loads and stores, of vector registers too
 *     a64_atomic.c  exclusives, acquire and release, LSE
 *     a64_system.c  system registers, hints, barriers, exceptions
 *     a64_simd_*.c  Advanced SIMD on integers, by a64_vector.h
 *     a64_fp*.c     floating point, on scalars and vectors (a64_fp.h)
 *     a64_soft*.c   the same in integers, for what x86 does otherwise
 *     a64_flagm.c   instructions for flags alone
 *     a64_pauth.c   pointer authentication: undefined
 *     a64_aes.c, a64_sha.c, a64_sha512.c  cryptography
 *     a64_crc.c     CRC32 and CRC32C
 *     a64_features.c  HWCAP and ID registers
 *     a64_engine.c  the engine that runs the code (engine.h)
 *
 * An instruction's function is INSN(NAME) with NAME from isa/aarch64.decode; it
 * returns false, having emitted nothing, for what it leaves to the other engine.
 * The order inside: a64_flags_lose where EFLAGS will change; a64_take of certain
 * host registers; sources; temporaries; destinations; then the x86 instructions.
 */
#ifndef EMU_A64_H
#define EMU_A64_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "emit_x86_64.h"
#include "translate.h"

enum { A64_ZR = 31, A64_SP = 31 };
enum { A64_SSBS = 1 << 12, A64_DIT = 1 << 24 }; /* in PSTATE */
/* A site's `more`: enum a64_flags, and FLAGS_PENDING's condition from this bit on; the state has x19, rbx not. */
enum { A64_SITE_FORM = 7, A64_SITE_CONDITION = 3, A64_SITE_RBX = 0x80 };

/* ---- the state of a guest thread ------------------------------------------------------- */

enum { A64_JUMPS = 4096 };

enum a64_reason {
    A64_EXIT_SYSCALL = 1, /* pc behind the SVC */
    A64_EXIT_KICK,
    A64_EXIT_FAULT,       /* `address`, `access` */
    A64_EXIT_ALIGN,       /* `address` */
    A64_EXIT_BREAK,
    A64_EXIT_ILLEGAL,
    A64_EXIT_STEP,        /* the instruction at pc is another engine's */
    A64_EXIT_CODE,        /* IC IVAU of `address`; pc behind it */
    A64_EXIT_TAG,         /* a fault at an address whose top byte is to be ignored */
    A64_EXIT_DROP,        /* no room for translations */
    A64_EXIT_MEMORY,      /* no memory for them */
    A64_EXIT_TOLD,        /* a block that is told of is done, or comes next */
};

typedef struct a64_state {
    uint64_t low[15];   /* general registers that are not pinned: a64_slot() */
    uint64_t pushed;    /* [rsp - 8]: where a call from translated code puts its return address */
    uint64_t high[8];
    uint16_t nzcv;      /* bits 8-15 as LAHF has them, CF being Arm's C; bits 0-7: 1 where V is set */
    uint16_t zero;      /* always */
    uint32_t poll;      /* not 0: leave at the next back edge */
    uint64_t exclusive; /* address + 1 of the latest load exclusive; 0: none */
    uint64_t loaded[2]; /* what it loaded */
    uint64_t scratch[4];
    /* rsp + 128 from here on */
    uint64_t pinned[9];
    uint64_t pending;   /* A64_PENDING's place */
    uint64_t pc;
    uint64_t base; /* the guest's memory */
    uint64_t tpidr;
    uint64_t address;
    uint32_t access;    /* enum emu_rights */
    uint32_t reason;
    uint32_t fpcr;
    uint32_t fpsr;      /* but for what MXCSR has collected since */
    uint32_t mxcsr;     /* the guest's, while its code does not run */
    uint32_t host_mxcsr;
    uint32_t pstate;    /* A64_DIT, A64_SSBS */
    uint64_t host_rsp;
    struct a64_engine *engine;
    uint8_t v[32][16] __attribute__((aligned(16)));
    uint64_t qc[2]; /* not 0: an instruction has saturated; FPSR.QC is in fpsr too */
    struct {
        uint64_t pc; /* + 1; 0: empty */
        const uint8_t *code;
    } jumps[A64_JUMPS];
    uint16_t fcmp[2][256]; /* LAHF's byte after UCOMIS or of a number of FCCMP's -> nzcv, operands in order and swapped */
    /* a64_call_soft: arguments and results, and what it keeps. */
    uint8_t argument[4][16] __attribute__((aligned(16)));
    void (*soft)(struct a64_state *);
    uint64_t kept[9];
    uint16_t kept_flags;
    uint8_t kept_v[16][16] __attribute__((aligned(16)));
} a64_state;

enum { A64_BIAS = 128 };
#define A64_AT(field) x64_at(RSP, (int32_t)offsetof(a64_state, field) - A64_BIAS)

/* Where the state keeps x0-x30 and sp (31). */
uint64_t *a64_x(a64_state *state, int n);
x64_mem a64_x_at(int n);
static inline x64_mem a64_v_at(int n)
{
    return x64_at(RSP, (int32_t)offsetof(a64_state, v) - A64_BIAS + 16 * n);
}

/* ---- translation ----------------------------------------------------------------------- */

enum a64_flags {
    FLAGS_SAVED, /* in the state alone */
    FLAGS_ADD,   /* in EFLAGS: SF ZF OF, and CF is C */
    FLAGS_SUB,   /* CF is not C */
    FLAGS_FCMP,  /* of UCOMIS with Arm's first operand first */
    FLAGS_FCMP_SWAP,
    FLAGS_FCMP_EQ,     /* the same with ZF clear where unordered */
    FLAGS_FCCMP_SWAP,  /* the latter, or numbers that FCCMP has put there */
    FLAGS_PENDING, /* nobody wants but one condition, and that is in register A64_PENDING */
};

/* Beside the guest's registers: a byte that is not 0 where the pending condition holds. */
enum { A64_PENDING = 32, A64_HELD };

enum { A64_BLOCK = 128 /* guest instructions */, A64_EXITS = 4 * A64_BLOCK };

/* Who holds what, by host register; -1: nothing.  Pinned registers are always held. */
typedef struct a64_file {
    int8_t guest[16]; /* of a host register */
    int8_t host[A64_HELD]; /* of a guest register */
    uint16_t dirty;   /* host registers that the state has not */
    uint16_t locked;  /* in use by the instruction that is being translated */
    uint16_t fresh;   /* mapped to their guest register, but not loaded: no use in a fault */
    uint32_t age[16];
} a64_file;

typedef struct a64_exit {
    uint8_t *place; /* of the jump's distance */
    uint64_t target;
    a64_file general, vector;
    uint8_t flags;
    bool flags_saved;
    uint8_t pending;
    uint8_t kind; /* 0: to target; else enum a64_reason, with pc = target */
    int8_t address; /* A64_EXIT_ALIGN: host register that holds it */
} a64_exit;

struct a64_translator;

/* A piece of code out of line, written behind the block: `write` with what was noted. */
typedef struct a64_later {
    void (*write)(struct a64_translator *t, const struct a64_later *later);
    uint8_t *from; /* of a jump's 4 bytes, to be landed at the piece */
    uint8_t *back; /* where it returns to, as written: x_jmp_to */
    uint64_t note[6];
} a64_later;

enum { A64_LATERS = 8 * A64_BLOCK };

typedef struct a64_translator {
    x64_emit e; /* the writable view */
    tr_code *code;
    uint64_t start; /* of the block */
    uint8_t *entry; /* of its code, as written */
    uint64_t pc;    /* of the instruction */
    int index;      /* the same, from the block's start */
    bool ended;     /* nothing falls through to the next instruction */
    bool alone;     /* this instruction and no other, with all that it leaves behind */
    int masked;     /* as tr_code's */
    bool based;     /* memory.base is not 0 */
    bool told;      /* the block is left for the runtime, with all flags: see a64_told */
    a64_file general, vector;
    uint32_t clear64, clear32; /* vector registers whose bits from 64, 32 on are known to be 0 */
    uint32_t tick;
    uint8_t flags; /* enum a64_flags */
    bool flags_saved; /* the state has them too */
    uint8_t pending;  /* FLAGS_PENDING: which condition */
    bool consumed;    /* the instruction has taken the flags that it wants */
    int count;
    uint32_t words[A64_BLOCK];
    uint16_t encodings[A64_BLOCK];
    bool live[A64_BLOCK + 1]; /* flags before each instruction are wanted later */
    int done;                         /* instructions that were translated */
    const uint8_t *places[A64_BLOCK]; /* where each one's code begins, as written */
    const uint8_t *tail;              /* where what is out of line begins */
    int exits;
    a64_exit exit[A64_EXITS];
    int laters;
    a64_later later[A64_LATERS];
    struct a64_engine *engine;
} a64_translator;

/* The host has: */
typedef struct a64_host {
    bool avx, avx2, bmi1, bmi2, lzcnt, popcnt, fma, f16c, aes, pclmul, sha, sse42, adx;
} a64_host;
extern a64_host a64_host_has;

/* ---- registers (a64_alloc.c) -------------------------------------------------------------- */

void a64_alloc_start(a64_translator *t);
/* Ends an instruction: its operands and temporaries are free. */
void a64_alloc_next(a64_translator *t);
/* Host register that holds general register n; 31 is the zero register: a temporary that holds 0. */
int a64_use(a64_translator *t, unsigned n);
int a64_use_sp(a64_translator *t, unsigned n); /* 31 is sp */
/* A source that is read once, for an x86 instruction that takes memory as well; 31 is the zero register. */
typedef struct a64_source {
    int host;   /* -1: none, because registers are short */
    bool zero;
    x64_mem at; /* where there is no register: in the state */
} a64_source;
a64_source a64_read(a64_translator *t, unsigned n);
/* Host register that will hold n, to be written whole; 31 as ZR: a temporary. */
int a64_def(a64_translator *t, unsigned n);
int a64_def_sp(a64_translator *t, unsigned n);
/* The same for a load: what it holds now is kept if the access faults.  After the access: a64_loaded(). */
int a64_def_load(a64_translator *t, unsigned n);
void a64_loaded(a64_translator *t, int host);
int a64_tmp(a64_translator *t);
/* Frees a certain host register for the instruction; before any operand is fetched. */
void a64_take(a64_translator *t, int host);
/* Gives a temporary back before the instruction's end. */
void a64_give(a64_translator *t, int host);
/* The same for vector registers. */
int a64_use_v(a64_translator *t, unsigned n);
int a64_def_v(a64_translator *t, unsigned n);
int a64_def_v_load(a64_translator *t, unsigned n);
void a64_loaded_v(a64_translator *t, int host);
int a64_tmp_v(a64_translator *t);
void a64_give_v(a64_translator *t, int host);
/* What the register held is not wanted any more. */
void a64_discard(a64_translator *t, unsigned n);
/* Vn is what the temporary (or Vn's own register) holds. */
void a64_become_v(a64_translator *t, unsigned n, int host);
/* Writes back all that is held, or of a snapshot; nothing but MOVs. */
void a64_flush(a64_translator *t);
void a64_spill(a64_translator *t, const a64_file *general, const a64_file *vector);
/* After code that wrote the state's copies: what is held is worthless. */
void a64_forget(a64_translator *t);
/* Around a call of the translator from translated code. */
void a64_store_pins(x64_emit *e, bool vectors);
void a64_load_pins(x64_emit *e, bool vectors);
/* Before code that may fault; the other where rbx is in use and the state has x19. */
void a64_site(a64_translator *t);
void a64_site_rbx(a64_translator *t);
/* The host register of each pinned guest register: x0-x4, x19, x20, x30, sp. */
extern const int8_t a64_pins[32];

/* ---- flags (a64_flags.c) ---------------------------------------------------------------------- */

/* Before EFLAGS change: saves what is still wanted of them. */
void a64_flags_lose(a64_translator *t);
/* True when EFLAGS hold what is wanted later: worth an x86 instruction that leaves them alone. */
bool a64_flags_held(const a64_translator *t);
/* EFLAGS hold the guest's flags from here on. */
void a64_flags_set(a64_translator *t, enum a64_flags form);
/* The state's copy has been written. */
void a64_flags_stored(a64_translator *t);
/* Writes the state's copy, from any form; of FLAGS_PENDING, one with which that condition is as it was. */
void a64_flags_save(a64_translator *t);
/* The same where a fault has been met, by EFLAGS and a site's `more`. */
void a64_flags_found(a64_state *state, uint64_t eflags, unsigned more);
/* True when the flags that the instruction sets are wanted by nobody. */
bool a64_flags_dead(const a64_translator *t);
/* Sets EFLAGS up for a condition (not 14, 15) and returns the x86 condition. */
int a64_condition(a64_translator *t, unsigned condition);
/* EFLAGS hold the flags as FLAGS_ADD or FLAGS_SUB afterwards; which it is, is returned. */
enum a64_flags a64_flags_load(a64_translator *t);
/* True when the flags are set at a guest address before they are used. */
bool a64_flags_dead_at(a64_translator *t, uint64_t pc);
/* Of B, BL, B.cond, CBZ and TBZ. */
uint64_t a64_branch_target(uint32_t word, uint64_t pc);
/* What an instruction does to the flags. */
enum { A64_SETS = 1, A64_USES = 2 };
unsigned a64_flags_of(unsigned encoding, uint32_t word);
/* From FLAGS_FCMP to FLAGS_FCMP_EQ. */
void a64_flags_order(a64_translator *t);
/* FCCMP: the form in which EFLAGS can have the number too, and its code; the state's copy of NZCV. */
enum a64_flags a64_flags_fccmp_form(unsigned nzcv, bool swapped);
void a64_flags_fccmp(a64_translator *t, unsigned nzcv, enum a64_flags form);
unsigned a64_flags_bits(unsigned nzcv);
/* Fills state->fcmp. */
void a64_flags_tables(a64_state *state);

/* ---- blocks (a64.c) ------------------------------------------------------------------------------ */

/* The block's end: to guest address `target`. */
void a64_exit_to(a64_translator *t, uint64_t target);
/* To the address in a host register, which is not a pool register that is still held. */
void a64_exit_indirect(a64_translator *t, int host);
/* To the runtime. */
void a64_exit_reason(a64_translator *t, enum a64_reason reason, uint64_t pc);
/* A conditional jump out: to a target, or to the runtime (reason not 0). */
void a64_exit_if(a64_translator *t, int cc, uint64_t target, unsigned reason);
/* The same where EFLAGS say that the address in a host register is not aligned. */
void a64_exit_unaligned(a64_translator *t, int host);
/* Code behind the block, which is rarely run.  `back` is the present place; set it again where that is another. */
a64_later *a64_write_later(a64_translator *t, uint8_t *from, void (*write)(a64_translator *, const a64_later *));
/*
 * In such code: calls a C function that takes and gives state->argument; all host registers but none are kept,
 * EFLAGS too.
 */
void a64_call_soft(a64_translator *t, void (*function)(a64_state *));
/* 16 bytes that never change, as a memory operand; the same bytes have one place. */
x64_mem a64_constant(a64_translator *t, uint64_t low, uint64_t high);
/* A guest address as an operand: [host + index << scale + disp]. */
x64_mem a64_guest(a64_translator *t, int host, int index, int scale, int64_t disp);

/* Decoding: generated from isa/aarch64.decode. */
#include "a64_decode.h"

/* ---- the engine (a64_engine.c) ------------------------------------------------------------------- */

/* The fixed pieces of code, by their executable addresses. */
typedef struct a64_pieces {
    int (*enter)(a64_state *state, const uint8_t *code);
    const uint8_t *leave;   /* rax: pc; reason is set */
    const uint8_t *link;    /* eax: the slot */
    const uint8_t *look_up; /* rax: pc */
    const uint8_t *faulted; /* everything is in the state already */
    const uint8_t *soft;    /* called: state->soft is called in turn */
    const uint8_t *soft_fp; /* the same for a64_soft_lanes */
} a64_pieces;

/* Writes them at the code's start. */
void a64_write_pieces(tr_code *code, a64_pieces *pieces);
/* Translates the block at pc, which is readable and executable; called with the lock and with room. */
const uint8_t *a64_translate(struct a64_engine *engine, a64_translator *t, uint64_t pc, bool alone);
const a64_pieces *a64_pieces_of(const struct a64_engine *engine);
tr_code *a64_code_of(const struct a64_engine *engine);
/*
 * Whether the block at pc is told of when it is entered or done.  Such blocks, of one instruction where those are
 * told, are left to a64_run, which also starts them: nothing leads from or to them directly.
 */
bool a64_told(const tr_code *code, uint64_t pc);
/* Before such a block's code: */
typedef struct a64_block_head {
    uint32_t word; /* the first instruction */
    uint32_t size; /* of the guest's code */
} a64_block_head;
/* A block has been translated, which will now be entered. */
void a64_covered(const struct a64_engine *engine, uint64_t pc, uint32_t size);
/* AHP, DN, FZ, FZ16: see a64_fp.h. */
enum { A64_FPCR_ODD = 1 << 26 | 1 << 25 | 1 << 24 | 1 << 19 };
/* FPSR with what MXCSR has collected; MXCSR for an FPCR (a64_system.c). */
#define A64_FPCR_BITS 0x07ff0000u /* AHP DN FZ RMode Stride FZ16 Len; no trap enables */
#define A64_FPSR_BITS 0xf800009fu /* AArch32's NZCV, QC, the cumulative exceptions */
#define A64_FPSR_QC (1u << 27)
uint32_t a64_fpsr(const a64_state *state, uint32_t mxcsr);
uint32_t a64_mxcsr(uint32_t fpcr);
/* Where the first access of a load or store goes (a64_fault.c). */
uint64_t a64_address(a64_state *state, uint32_t word);
/* A block has been translated: shows it to who asked (a64_dump.c). */
void a64_show(const a64_translator *t);
/* AT_HWCAP and AT_HWCAP2; an ID register as Linux shows it, false where it does not (a64_features.c). */
void a64_hwcaps(uint64_t out[2]);
bool a64_id_register(unsigned crm, unsigned op2, uint64_t *value);
/* Called by the pieces. */
const uint8_t *a64_linked(a64_state *state, uint32_t slot);
const uint8_t *a64_looked_up(a64_state *state, uint64_t pc);

#endif
