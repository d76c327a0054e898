/*
 * Floating point: what its files share.
 *
 * x86's results are Arm's but for NaNs, for what saturates, and where results are
 * flushed to zero; all that is found out after the x86 instruction and done again
 * by a64_soft.c, out of line.  So operands are kept until then: a result goes to
 * a register of its own first.
 *
 * The upper bits of a scalar's register are 0 on Arm, where x86 keeps those of an
 * operand: t->clear64 and t->clear32 have the registers in which they are known to
 * be 0, so that most results need no clearing.
 *
 * Code is translated for FPCR as programs have it: without FZ, DN, AHP and FZ16.
 * Once a thread has set one of these everything is translated anew, with what
 * these need besides (tr_code.odd).  Then FTZ and DAZ do FZ's work but for products
 * and quotients that round to the least normal number, which Arm flushes: these
 * are done again, too.
 */
#ifndef EMU_A64_FP_H
#define EMU_A64_FP_H

#include "a64_soft.h"
#include "a64_vector.h"

enum soft_op {
    SOFT_ADD, SOFT_SUB, SOFT_MUL, SOFT_MULX, SOFT_DIV, SOFT_SQRT, SOFT_MAX, SOFT_MIN, SOFT_MAXNM, SOFT_MINNM, SOFT_ABD,
    SOFT_FMA,      /* extra: 1 minus n * m, 2 minus a */
    SOFT_FMA_HALF, /* extra: 1 minus n * m, 2 of the upper halves */
    SOFT_RECPS, SOFT_RSQRTS, SOFT_RECPE, SOFT_RSQRTE, SOFT_RECPX,
    SOFT_ROUND,    /* extra: the rounding (7: FPCR's), 8 exact; a: 0, 32, 64 bits */
    SOFT_CM,       /* extra: enum soft_relation, 8 absolute */
    SOFT_COMPARE,  /* to the flags; extra: 1 signalling */
    SOFT_CONVERT,  /* to `size`; extra: from; a: the rounding, 8 of the upper half */
    SOFT_TO_INT,   /* extra: the rounding, 8 unsigned, bits; a: fraction bits */
    SOFT_FROM_INT, /* extra: 8 unsigned, bits; a: fraction bits */
    SOFT_FCMLA,    /* extra: quarters of a turn */
    SOFT_FCADD,
    SOFT_JAVASCRIPT,
    SOFT_PAIRS = 0x40, /* with MAX ... MINNM, ADD: of neighbours in n and m */
    SOFT_ACROSS = 0x80,
};

enum soft_relation { SOFT_EQ, SOFT_GE, SOFT_GT, SOFT_LE, SOFT_LT };

enum { SOFT_NONE = 0xff /* no register: m 0, d state->argument */ };

/* What the code behind a call of the piece `soft_fp` says of it.  Registers are the host's. */
typedef struct soft_call {
    uint8_t op, size, lanes, d, n, m, a, extra;
} soft_call;

/* Called by the piece. */
void a64_soft_lanes(a64_state *state);

/* Calls it here, or out of line where the jump at `from` leads. */
void fp_call(a64_translator *t, soft_call call);
a64_later *fp_later(a64_translator *t, uint8_t *from, soft_call call);

/* x86's numbers of instructions. */
enum { FP_SQRT = 0x51, FP_ADD = 0x58, FP_MUL, FP_SUB = 0x5c, FP_MIN, FP_DIV, FP_MAX };
static inline unsigned fp_scalar(unsigned code, unsigned size)
{
    return V_OP(size == 3 ? PP_F2 : PP_F3, MAP_0F, code);
}
static inline unsigned fp_packed(unsigned code, unsigned size)
{
    return V_OP(size == 3 ? PP_66 : PP_NONE, MAP_0F, code);
}
/* FMA3, d = a * b + d, 0x10 less: d = a * d + b; code as for packed ones. */
enum { FP_FMADD = 0xb8, FP_FMSUB = 0xba, FP_FNMADD = 0xbc, FP_FNMSUB = 0xbe };
static inline unsigned fp_fused(unsigned code, unsigned size, bool scalar)
{
    return V_OP(PP_66, MAP_0F38, code + scalar) | (size == 3 ? (unsigned)V_W : 0);
}

/* ftype: single, double, -, half. */
static inline unsigned fp_size(unsigned ftype)
{
    return ftype == 3 ? 1 : 2 + ftype;
}

static inline void fp_ucomis(a64_translator *t, unsigned size, int a, int b, bool signalling)
{
    x_sse_rr(&t->e, size == 3 ? PP_66 : PP_NONE, MAP_0F, 0, signalling ? 0x2f : 0x2e, a, b);
}

/* Whether the bits of Vn above a scalar are known to be 0; and sets that they are. */
bool fp_clear(const a64_translator *t, unsigned n, unsigned size);
void fp_cleared(a64_translator *t, unsigned n, unsigned size);
/* A place for the result: Vd's own, or a temporary where that holds an operand. */
int fp_result(a64_translator *t, unsigned rd, bool operand);
/* Ends an instruction: r is from fp_result; clear: the bits above are 0. */
void fp_finish(a64_translator *t, unsigned size, unsigned rd, int r, bool clear);
/* Out of line where r is a NaN, or with FZ where it may be one that Arm flushes. */
void fp_check(a64_translator *t, unsigned size, int r, bool tiny, soft_call call);
/* r = n rounded to an integer, ties away, and inexact where asked for; `call` does it where that is not as simple. */
void fp_round_away(a64_translator *t, unsigned size, int r, int n, bool exact, soft_call call);
/* ROUNDSS's and its like's immediate operand, of FPCR's rounding modes; 8 besides: not inexact. */
static const uint8_t fp_rounding[] = {0, 2, 1, 3};

/* ---- vectors (a64_fp_vector.c) ---------------------------------------------------------------- */

/* What `q` says beside 0, the lower 64 bits, and 1: one element. */
enum { FP_SCALAR = 2 };
static inline uint8_t fp_lanes(unsigned q, unsigned size)
{
    return q == FP_SCALAR ? 1 : (uint8_t)((q ? 16u : 8u) >> size);
}

/* A register with Vn, whose upper half is 0 where it does not count. */
int fp_source(a64_translator *t, unsigned rn, unsigned q);
/* An element of Vm in all places. */
int fp_element(a64_translator *t, unsigned rm, unsigned size, unsigned index);
/* Ends an instruction: as fp_finish. */
void fp_end(a64_translator *t, unsigned q, unsigned rd, int r);
/* All of it in C; n, m, d and, unless given, lanes are filled in. */
bool fp_soft(a64_translator *t, unsigned q, unsigned rd, int n, int m, soft_call call);
/* As fp_check. */
a64_later *fp_check_v(a64_translator *t, unsigned size, int r, bool tiny, soft_call call);
soft_call fp_call_of(enum soft_op op, unsigned q, unsigned size, int d, int n, int m);

#endif
