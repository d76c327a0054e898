/* Floating point on vectors, and the scalar forms of such instructions: Arm ARM C4.1, Advanced SIMD. */
#include "a64_fp.h"

/*
 * Where the upper half does not count, what is there must raise no exception: it
 * is cleared, or for a division the lower half is doubled.
 */
enum { SCALAR = FP_SCALAR };

static uint64_t every(unsigned size, uint64_t element)
{
    return size == 3 ? element : element << 32 | element;
}

static x64_mem all(a64_translator *t, unsigned q, unsigned size, uint64_t element)
{
    uint64_t half = every(size, element);
    return a64_constant(t, half, q ? half : 0);
}

static uint64_t sign_of(unsigned size)
{
    return UINT64_C(1) << (soft_bits(size) - 1);
}

/* A register with Vn, whose upper half is 0 where it does not count. */
int fp_source(a64_translator *t, unsigned rn, unsigned q)
{
    int n = a64_use_v(t, rn);
    if (q || fp_clear(t, rn, 3))
        return n;
    int copy = a64_tmp_v(t);
    x_movq_rr(&t->e, copy, n);
    return copy;
}

/* An element of Vm in all places: of `size`, or of pairs of that. */
int fp_element(a64_translator *t, unsigned rm, unsigned size, unsigned index)
{
    int m = a64_use_v(t, rm), d = a64_tmp_v(t);
    if (size == 3) {
        v_unary_i(t, V_PSHUFD, d, m, index ? 0xee : 0x44);
    } else if (size == 2) {
        v_unary_i(t, V_PSHUFD, d, m, index * 0x55);
    } else {
        v_unary_i(t, index < 4 ? V_PSHUFLW : V_PSHUFHW, d, m, (index & 3) * 0x55);
        v_unary_i(t, V_PSHUFD, d, d, index < 4 ? 0x00 : 0xaa);
    }
    return d;
}

void fp_end(a64_translator *t, unsigned q, unsigned rd, int r)
{
    if (q) {
        a64_become_v(t, rd, r);
    } else {
        x_movq_rr(&t->e, a64_def_v(t, rd), r);
        fp_cleared(t, rd, 3);
    }
}

/* All of it in C. */
bool fp_soft(a64_translator *t, unsigned q, unsigned rd, int n, int m, soft_call call)
{
    call.n = (uint8_t)n;
    call.m = (uint8_t)m;
    if (!call.lanes)
        call.lanes = fp_lanes(q, call.size);
    call.d = (uint8_t)a64_def_v(t, rd);
    fp_call(t, call);
    if (q == SCALAR)
        fp_cleared(t, rd, call.size);
    else if (!q)
        fp_cleared(t, rd, 3);
    return true;
}

/* Out of line where an element of r is a NaN, or with FZ one that Arm may have flushed. */
a64_later *fp_check_v(a64_translator *t, unsigned size, int r, bool tiny, soft_call call)
{
    int odd = a64_tmp_v(t);
    v_op_i(t, fp_packed(0xc2, size), odd, r, r, 3); /* unordered */
    if (tiny && t->code->odd) {
        int least = a64_tmp_v(t);
        v_op_m(t, V_PAND, least, r, all(t, 1, size, sign_of(size) - 1));
        v_op_m(t, v_pcmpeq[size], least, least, all(t, 1, size, size == 3 ? UINT64_C(1) << 52 : 1 << 23));
        v_op(t, V_POR, odd, odd, least);
        a64_give_v(t, least);
    }
    v_unary(t, V_PTEST, odd, odd);
    a64_give_v(t, odd);
    return fp_later(t, x_jcc(&t->e, X_NE), call);
}

soft_call fp_call_of(enum soft_op op, unsigned q, unsigned size, int d, int n, int m)
{
    return (soft_call){.op = (uint8_t)op, .size = (uint8_t)size, .lanes = fp_lanes(q, size), .d = (uint8_t)d,
                       .n = (uint8_t)n, .m = (uint8_t)m};
}

/* ---- arithmetic ------------------------------------------------------------------------------- */

/* With m given as a host register, which is not Vd's. */
static bool binary(a64_translator *t, unsigned q, unsigned size, unsigned code, enum soft_op op, unsigned rd,
                   unsigned rn, unsigned rm, int m)
{
    if (size == 1)
        return fp_soft(t, q, rd, a64_use_v(t, rn), m >= 0 ? m : a64_use_v(t, rm),
                       (soft_call){.op = (uint8_t)op, .size = 1});
    a64_flags_lose(t);
    bool commutes = code == FP_ADD || code == FP_MUL, shared = rd == rn || (m < 0 && rd == rm);
    int n;
    if (q == SCALAR) {
        n = a64_use_v(t, rn);
        if (m < 0)
            m = a64_use_v(t, rm);
    } else if (!q && code == FP_DIV) {
        n = fp_element(t, rn, 3, 0);
        m = fp_element(t, rm, 3, 0);
    } else {
        n = fp_source(t, rn, q);
        if (m < 0)
            m = rm == rn ? n : fp_source(t, rm, q);
    }
    bool clear = q == SCALAR && fp_clear(t, rn, size);
    int r = fp_result(t, rd, shared);
    soft_call call = fp_call_of(op, q, size, r, n, m);
    if (q == SCALAR) {
        v_op(t, fp_scalar(code, size), r, n, m);
        fp_check(t, size, r, code == FP_MUL || code == FP_DIV, call);
    } else {
        v_op(t, fp_packed(code, size) | (commutes ? (unsigned)V_COMMUTES : 0), r, n, m);
        fp_check_v(t, size, r, code == FP_MUL || code == FP_DIV, call);
    }
    uint64_t rest = sign_of(size) - 1;
    if (op == SOFT_ABD)
        v_op_m(t, V_PAND, r, r, q == SCALAR ? a64_constant(t, rest, 0) : all(t, q, size, rest));
    if (q == SCALAR)
        fp_finish(t, size, rd, r, clear || op == SOFT_ABD);
    else
        fp_end(t, q, rd, r);
    return true;
}

INSN(V_FADDSUB)
{
    return binary(t, f->Q, 2 + f->sz, f->a ? FP_SUB : FP_ADD, f->a ? SOFT_SUB : SOFT_ADD, f->rd, f->rn, f->rm, -1);
}

INSN(V_FADDSUB_h) { return binary(t, f->Q, 1, FP_ADD, f->a ? SOFT_SUB : SOFT_ADD, f->rd, f->rn, f->rm, -1); }
INSN(V_FMUL) { return binary(t, f->Q, 2 + f->sz, FP_MUL, SOFT_MUL, f->rd, f->rn, f->rm, -1); }
INSN(V_FMUL_h) { return binary(t, f->Q, 1, FP_MUL, SOFT_MUL, f->rd, f->rn, f->rm, -1); }
INSN(V_FDIV) { return binary(t, f->Q, 2 + f->sz, FP_DIV, SOFT_DIV, f->rd, f->rn, f->rm, -1); }
INSN(V_FDIV_h) { return binary(t, f->Q, 1, FP_DIV, SOFT_DIV, f->rd, f->rn, f->rm, -1); }
INSN(V_FABD) { return binary(t, f->Q, 2 + f->sz, FP_SUB, SOFT_ABD, f->rd, f->rn, f->rm, -1); }
INSN(V_FABD_h) { return binary(t, f->Q, 1, FP_SUB, SOFT_ABD, f->rd, f->rn, f->rm, -1); }
INSN(S_FABD) { return binary(t, SCALAR, 2 + f->sz, FP_SUB, SOFT_ABD, f->rd, f->rn, f->rm, -1); }
INSN(S_FABD_h) { return binary(t, SCALAR, 1, FP_SUB, SOFT_ABD, f->rd, f->rn, f->rm, -1); }

/* Two or three operands, all in C. */
static bool soft2(a64_translator *t, unsigned q, unsigned size, unsigned op, unsigned rd, unsigned rn, unsigned rm)
{
    int n = a64_use_v(t, rn), m = a64_use_v(t, rm);
    return fp_soft(t, q, rd, n, m, (soft_call){.op = (uint8_t)op, .size = (uint8_t)size});
}

static bool soft1(a64_translator *t, unsigned q, unsigned size, unsigned op, unsigned rd, unsigned rn, unsigned extra)
{
    return fp_soft(t, q, rd, a64_use_v(t, rn), SOFT_NONE,
                (soft_call){.op = (uint8_t)op, .size = (uint8_t)size, .extra = (uint8_t)extra});
}

INSN(V_FMULX) { return soft2(t, f->Q, 2 + f->sz, SOFT_MULX, f->rd, f->rn, f->rm); }
INSN(V_FMULX_h) { return soft2(t, f->Q, 1, SOFT_MULX, f->rd, f->rn, f->rm); }
INSN(S_FMULX) { return soft2(t, SCALAR, 2 + f->sz, SOFT_MULX, f->rd, f->rn, f->rm); }
INSN(S_FMULX_h) { return soft2(t, SCALAR, 1, SOFT_MULX, f->rd, f->rn, f->rm); }
INSN(V_FRECPS) { return soft2(t, f->Q, 2 + f->sz, SOFT_RECPS, f->rd, f->rn, f->rm); }
INSN(V_FRECPS_h) { return soft2(t, f->Q, 1, SOFT_RECPS, f->rd, f->rn, f->rm); }
INSN(S_FRECPS) { return soft2(t, SCALAR, 2 + f->sz, SOFT_RECPS, f->rd, f->rn, f->rm); }
INSN(S_FRECPS_h) { return soft2(t, SCALAR, 1, SOFT_RECPS, f->rd, f->rn, f->rm); }
INSN(V_FRSQRTS) { return soft2(t, f->Q, 2 + f->sz, SOFT_RSQRTS, f->rd, f->rn, f->rm); }
INSN(V_FRSQRTS_h) { return soft2(t, f->Q, 1, SOFT_RSQRTS, f->rd, f->rn, f->rm); }
INSN(S_FRSQRTS) { return soft2(t, SCALAR, 2 + f->sz, SOFT_RSQRTS, f->rd, f->rn, f->rm); }
INSN(S_FRSQRTS_h) { return soft2(t, SCALAR, 1, SOFT_RSQRTS, f->rd, f->rn, f->rm); }
INSN(V_FRECPE) { return soft1(t, f->Q, 2 + f->sz, SOFT_RECPE, f->rd, f->rn, 0); }
INSN(V_FRECPE_h) { return soft1(t, f->Q, 1, SOFT_RECPE, f->rd, f->rn, 0); }
INSN(S_FRECPE) { return soft1(t, SCALAR, 2 + f->sz, SOFT_RECPE, f->rd, f->rn, 0); }
INSN(S_FRECPE_h) { return soft1(t, SCALAR, 1, SOFT_RECPE, f->rd, f->rn, 0); }
INSN(S_FRECPX) { return soft1(t, SCALAR, 2 + f->sz, SOFT_RECPX, f->rd, f->rn, 0); }
INSN(S_FRECPX_h) { return soft1(t, SCALAR, 1, SOFT_RECPX, f->rd, f->rn, 0); }
INSN(V_FRSQRTE) { return soft1(t, f->Q, 2 + f->sz, SOFT_RSQRTE, f->rd, f->rn, 0); }
INSN(V_FRSQRTE_h) { return soft1(t, f->Q, 1, SOFT_RSQRTE, f->rd, f->rn, 0); }
INSN(S_FRSQRTE) { return soft1(t, SCALAR, 2 + f->sz, SOFT_RSQRTE, f->rd, f->rn, 0); }
INSN(S_FRSQRTE_h) { return soft1(t, SCALAR, 1, SOFT_RSQRTE, f->rd, f->rn, 0); }
INSN(V_FSQRT_h) { return soft1(t, f->Q, 1, SOFT_SQRT, f->rd, f->rn, 0); }

INSN(V_FSQRT)
{
    unsigned size = 2 + f->sz;
    a64_flags_lose(t);
    int n = fp_source(t, f->rn, f->Q), r = fp_result(t, f->rd, f->rd == f->rn);
    v_unary(t, fp_packed(FP_SQRT, size), r, n);
    fp_check_v(t, size, r, false, fp_call_of(SOFT_SQRT, f->Q, size, r, n, SOFT_NONE));
    fp_end(t, f->Q, f->rd, r);
    return true;
}

/* Vd += n * m, or -=. */
static bool fused(a64_translator *t, unsigned q, unsigned size, bool minus, unsigned rd, unsigned rn, unsigned rm,
                  int m)
{
    soft_call call = {.op = SOFT_FMA, .size = (uint8_t)size, .extra = minus};
    unsigned code = minus ? FP_FNMADD : FP_FMADD;
    if (size == 1 || !a64_host_has.fma) {
        int n = a64_use_v(t, rn);
        if (m < 0)
            m = a64_use_v(t, rm);
        call.a = (uint8_t)a64_use_v(t, rd);
        return fp_soft(t, q, rd, n, m, call);
    }
    a64_flags_lose(t);
    int n = fp_source(t, rn, q);
    if (m < 0)
        m = rm == rn ? n : fp_source(t, rm, q);
    bool clear = fp_clear(t, rd, size);
    int a = a64_use_v(t, rd), r = a64_tmp_v(t);
    call = fp_call_of(SOFT_FMA, q, size, r, n, m);
    call.extra = minus;
    call.a = (uint8_t)a;
    if (q)
        x_movaps_rr(&t->e, r, a);
    else
        x_movq_rr(&t->e, r, a);
    v_op(t, fp_fused(code, size, q == SCALAR), r, n, m);
    if (q == SCALAR) {
        fp_check(t, size, r, true, call);
        fp_finish(t, size, rd, r, clear);
    } else {
        fp_check_v(t, size, r, true, call);
        fp_end(t, q, rd, r);
    }
    return true;
}

INSN(V_FMLA) { return fused(t, f->Q, 2 + f->sz, f->a, f->rd, f->rn, f->rm, -1); }
INSN(V_FMLA_h) { return fused(t, f->Q, 1, f->a, f->rd, f->rn, f->rm, -1); }

/* The index of an element is H:L:M, H:L or H. */
static int indexed(a64_translator *t, unsigned q, unsigned size, unsigned H, unsigned L, unsigned M, unsigned rm)
{
    if (size == 1)
        return fp_element(t, rm, 1, H << 2 | L << 1 | M);
    int m = fp_element(t, M << 4 | rm, size, size == 2 ? H << 1 | L : H);
    if (!q)
        x_movq_rr(&t->e, m, m);
    return m;
}

#define INDEXED(q, size) indexed(t, q, size, f->H, f->L, f->M, f->rm)

INSN(V_FMLA_e)
{
    a64_flags_lose(t);
    return fused(t, f->Q, 2 + f->sz, f->o2, f->rd, f->rn, 0, INDEXED(f->Q, 2 + f->sz));
}

INSN(V_FMLA_eh)
{
    return fused(t, f->Q, 1, f->o2, f->rd, f->rn, 0, INDEXED(f->Q, 1));
}

INSN(S_FMLA_e)
{
    a64_flags_lose(t);
    return fused(t, SCALAR, 2 + f->sz, f->o2, f->rd, f->rn, 0, INDEXED(SCALAR, 2 + f->sz));
}

INSN(S_FMLA_eh)
{
    return fused(t, SCALAR, 1, f->o2, f->rd, f->rn, 0, INDEXED(SCALAR, 1));
}

/* FMUL, and FMULX where `extended`. */
static bool by_element(a64_translator *t, unsigned q, unsigned size, bool extended, unsigned rd, unsigned rn, int m)
{
    if (extended)
        return fp_soft(t, q, rd, a64_use_v(t, rn), m, (soft_call){.op = SOFT_MULX, .size = (uint8_t)size});
    return binary(t, q, size, FP_MUL, SOFT_MUL, rd, rn, 0, m);
}

INSN(V_FMUL_e)
{
    a64_flags_lose(t);
    return by_element(t, f->Q, 2 + f->sz, f->U, f->rd, f->rn, INDEXED(f->Q, 2 + f->sz));
}

INSN(V_FMUL_eh)
{
    return by_element(t, f->Q, 1, f->U, f->rd, f->rn, INDEXED(f->Q, 1));
}

INSN(S_FMUL_e)
{
    a64_flags_lose(t);
    return by_element(t, SCALAR, 2 + f->sz, f->U, f->rd, f->rn, INDEXED(SCALAR, 2 + f->sz));
}

INSN(S_FMUL_eh)
{
    return by_element(t, SCALAR, 1, f->U, f->rd, f->rn, INDEXED(SCALAR, 1));
}

/* Half factors, single sums. */
static bool long_fused(a64_translator *t, unsigned q, bool upper, bool minus, unsigned rd, unsigned rn, int m)
{
    int n = a64_use_v(t, rn), a = a64_use_v(t, rd);
    return fp_soft(t, q, rd, n, m, (soft_call){.op = SOFT_FMA_HALF, .size = 2, .a = (uint8_t)a,
                                            .extra = (uint8_t)((minus ? 1 : 0) | (upper ? 2 : 0))});
}

INSN(V_FMLAL) { return long_fused(t, f->Q, f->U, f->S, f->rd, f->rn, a64_use_v(t, f->rm)); }
INSN(V_FMLAL_e) { return long_fused(t, f->Q, f->U, f->o2, f->rd, f->rn, INDEXED(f->Q, 1)); }

/* ---- complex numbers ------------------------------------------------------------------------------ */

static bool turned(a64_translator *t, enum soft_op op, unsigned q, unsigned size, unsigned turns, unsigned rd,
                   unsigned rn, int m)
{
    int n = a64_use_v(t, rn), a = a64_use_v(t, rd);
    return fp_soft(t, q, rd, n, m, (soft_call){.op = (uint8_t)op, .size = (uint8_t)size, .a = (uint8_t)a,
                                            .extra = (uint8_t)turns});
}

INSN(V_FCMLA) { return turned(t, SOFT_FCMLA, f->Q, f->size, f->rot, f->rd, f->rn, a64_use_v(t, f->rm)); }
INSN(V_FCADD) { return turned(t, SOFT_FCADD, f->Q, f->size, f->rot ? 3 : 1, f->rd, f->rn, a64_use_v(t, f->rm)); }

INSN(V_FCMLA_e)
{
    unsigned index = f->size == 1 ? f->H << 1 | f->L : f->H;
    int m = fp_element(t, f->M << 4 | f->rm, f->size + 1, index);
    return turned(t, SOFT_FCMLA, f->Q, f->size, f->rot, f->rd, f->rn, m);
}

/* ---- signs ------------------------------------------------------------------------------------------- */

static bool signs(a64_translator *t, unsigned q, unsigned size, bool negate, unsigned rd, unsigned rn)
{
    uint64_t sign = size == 1 ? 0x80008000u : sign_of(size), rest = size == 1 ? 0x7fff7fffu : sign_of(size) - 1;
    unsigned as = size == 1 ? 2 : size;
    int n = a64_use_v(t, rn), d = a64_def_v(t, rd);
    if (negate)
        v_op_m(t, V_PXOR, d, n, all(t, q, as, sign));
    else
        v_op_m(t, V_PAND, d, n, all(t, q, as, rest));
    if (!q) {
        if (negate)
            x_movq_rr(&t->e, d, d);
        fp_cleared(t, rd, 3);
    }
    return true;
}

INSN(V_FABS) { return signs(t, f->Q, 2 + f->sz, f->U, f->rd, f->rn); }
INSN(V_FABS_h) { return signs(t, f->Q, 1, f->U, f->rd, f->rn); }

/* ---- comparisons ------------------------------------------------------------------------------------- */

/* CMPPS's and its like's; the greater first. */
enum { CMP_EQ, CMP_LT, CMP_LE };

static bool compare(a64_translator *t, unsigned q, unsigned size, enum soft_relation relation, bool absolute,
                    unsigned rd, unsigned rn, int rm)
{
    if (size == 1) {
        int n = a64_use_v(t, rn), m = rm < 0 ? SOFT_NONE : a64_use_v(t, (unsigned)rm);
        unsigned extra = relation | (absolute ? 8u : 0);
        return fp_soft(t, q, rd, n, m, (soft_call){.op = SOFT_CM, .size = 1, .extra = (uint8_t)extra});
    }
    int n = fp_source(t, rn, q), m;
    if (rm < 0) {
        m = a64_tmp_v(t);
        v_zero(t, m);
    } else {
        m = fp_source(t, (unsigned)rm, q);
    }
    if (absolute) {
        int copy = a64_tmp_v(t), other = a64_tmp_v(t);
        v_op_m(t, V_PAND, copy, n, all(t, 1, size, sign_of(size) - 1));
        v_op_m(t, V_PAND, other, m, all(t, 1, size, sign_of(size) - 1));
        n = copy;
        m = other;
    }
    bool swapped = relation == SOFT_GE || relation == SOFT_GT;
    unsigned kind = relation == SOFT_EQ ? CMP_EQ : relation == SOFT_GT || relation == SOFT_LT ? CMP_LT : CMP_LE;
    unsigned op = q == SCALAR ? fp_scalar(0xc2, size) : fp_packed(0xc2, size);
    int r = fp_result(t, rd, rd == rn || (int)rd == rm);
    v_op_i(t, op, r, swapped ? m : n, swapped ? n : m, kind);
    if (q == SCALAR)
        fp_finish(t, size, rd, r, false);
    else
        fp_end(t, q, rd, r);
    return true;
}

static enum soft_relation relation(unsigned U, unsigned a)
{
    return !U ? SOFT_EQ : a ? SOFT_GT : SOFT_GE;
}

static enum soft_relation to_zero(unsigned op, unsigned U)
{
    static const uint8_t relations[] = {SOFT_GT, SOFT_GE, SOFT_EQ, SOFT_LE, SOFT_LT};
    return (enum soft_relation)relations[op << 1 | U];
}

INSN(V_FCM) { return compare(t, f->Q, 2 + f->sz, relation(f->U, f->a), false, f->rd, f->rn, (int)f->rm); }
INSN(V_FCM_h) { return compare(t, f->Q, 1, relation(f->U, f->a), false, f->rd, f->rn, (int)f->rm); }
INSN(S_FCM) { return compare(t, SCALAR, 2 + f->sz, relation(f->U, f->a), false, f->rd, f->rn, (int)f->rm); }
INSN(S_FCM_h) { return compare(t, SCALAR, 1, relation(f->U, f->a), false, f->rd, f->rn, (int)f->rm); }
INSN(V_FAC) { return compare(t, f->Q, 2 + f->sz, relation(1, f->a), true, f->rd, f->rn, (int)f->rm); }
INSN(V_FAC_h) { return compare(t, f->Q, 1, relation(1, f->a), true, f->rd, f->rn, (int)f->rm); }
INSN(S_FAC) { return compare(t, SCALAR, 2 + f->sz, relation(1, f->a), true, f->rd, f->rn, (int)f->rm); }
INSN(S_FAC_h) { return compare(t, SCALAR, 1, relation(1, f->a), true, f->rd, f->rn, (int)f->rm); }
INSN(V_FCMZ) { return compare(t, f->Q, 2 + f->sz, to_zero(f->op, f->U), false, f->rd, f->rn, -1); }
INSN(V_FCMZ_h) { return compare(t, f->Q, 1, to_zero(f->op, f->U), false, f->rd, f->rn, -1); }
INSN(S_FCMZ) { return compare(t, SCALAR, 2 + f->sz, to_zero(f->op, f->U), false, f->rd, f->rn, -1); }
INSN(S_FCMZ_h) { return compare(t, SCALAR, 1, to_zero(f->op, f->U), false, f->rd, f->rn, -1); }

/* ---- greatest and least --------------------------------------------------------------------------------- */

/* Both orders of operands differ where zeros of both signs meet, and there alone but for NaNs. */
static bool extreme(a64_translator *t, unsigned q, unsigned size, enum soft_op op, unsigned rd, unsigned rn,
                    unsigned rm)
{
    if (size == 1 || t->code->odd)
        return soft2(t, q, size, op, rd, rn, rm);
    bool least = op == SOFT_MIN || op == SOFT_MINNM;
    a64_flags_lose(t);
    int n = fp_source(t, rn, q), m = rm == rn ? n : fp_source(t, rm, q);
    int r = fp_result(t, rd, rd == rn || rd == rm), other = a64_tmp_v(t);
    v_op_i(t, fp_packed(0xc2, size), other, n, m, 3);
    v_unary(t, V_PTEST, other, other);
    a64_later *later = fp_later(t, x_jcc(&t->e, X_NE), fp_call_of(op, q, size, r, n, m));
    v_op(t, fp_packed(least ? FP_MIN : FP_MAX, size), r, n, m);
    v_op(t, fp_packed(least ? FP_MIN : FP_MAX, size), other, m, n);
    v_op(t, least ? V_POR : V_PAND, r, r, other);
    later->back = t->e.at;
    fp_end(t, q, rd, r);
    return true;
}

INSN(V_FMAXMIN) { return extreme(t, f->Q, 2 + f->sz, f->a ? SOFT_MIN : SOFT_MAX, f->rd, f->rn, f->rm); }
INSN(V_FMAXMIN_h) { return extreme(t, f->Q, 1, f->a ? SOFT_MIN : SOFT_MAX, f->rd, f->rn, f->rm); }
INSN(V_FMAXMINNM) { return extreme(t, f->Q, 2 + f->sz, f->a ? SOFT_MINNM : SOFT_MAXNM, f->rd, f->rn, f->rm); }
INSN(V_FMAXMINNM_h) { return extreme(t, f->Q, 1, f->a ? SOFT_MINNM : SOFT_MAXNM, f->rd, f->rn, f->rm); }

static bool pairs(a64_translator *t, unsigned q, unsigned size, enum soft_op op, unsigned rd, unsigned rn, unsigned rm)
{
    return soft2(t, q, size, (unsigned)op | SOFT_PAIRS, rd, rn, rm);
}

INSN(V_FMAXMINP) { return pairs(t, f->Q, 2 + f->sz, f->a ? SOFT_MIN : SOFT_MAX, f->rd, f->rn, f->rm); }
INSN(V_FMAXMINP_h) { return pairs(t, f->Q, 1, f->a ? SOFT_MIN : SOFT_MAX, f->rd, f->rn, f->rm); }
INSN(V_FMAXMINNMP) { return pairs(t, f->Q, 2 + f->sz, f->a ? SOFT_MINNM : SOFT_MAXNM, f->rd, f->rn, f->rm); }
INSN(V_FMAXMINNMP_h) { return pairs(t, f->Q, 1, f->a ? SOFT_MINNM : SOFT_MAXNM, f->rd, f->rn, f->rm); }
INSN(S_FMAXP) { return pairs(t, SCALAR, 2 + f->sz, f->o1 ? SOFT_MIN : SOFT_MAX, f->rd, f->rn, f->rn); }
INSN(S_FMAXP_h) { return pairs(t, SCALAR, 1, f->o1 ? SOFT_MIN : SOFT_MAX, f->rd, f->rn, f->rn); }
INSN(S_FMAXNMP) { return pairs(t, SCALAR, 2 + f->sz, f->o1 ? SOFT_MINNM : SOFT_MAXNM, f->rd, f->rn, f->rn); }
INSN(S_FMAXNMP_h) { return pairs(t, SCALAR, 1, f->o1 ? SOFT_MINNM : SOFT_MAXNM, f->rd, f->rn, f->rn); }

static bool across(a64_translator *t, unsigned q, unsigned size, enum soft_op op, unsigned rd, unsigned rn)
{
    return fp_soft(t, SCALAR, rd, a64_use_v(t, rn), SOFT_NONE,
                   (soft_call){.op = (uint8_t)((unsigned)op | SOFT_ACROSS), .size = (uint8_t)size,
                               .lanes = fp_lanes(q, size)});
}

INSN(V_FMAXV) { return across(t, 1, 2, f->o1 ? SOFT_MIN : SOFT_MAX, f->rd, f->rn); }
INSN(V_FMAXV_h) { return across(t, f->Q, 1, f->o1 ? SOFT_MIN : SOFT_MAX, f->rd, f->rn); }
INSN(V_FMAXNMV) { return across(t, 1, 2, f->o1 ? SOFT_MINNM : SOFT_MAXNM, f->rd, f->rn); }
INSN(V_FMAXNMV_h) { return across(t, f->Q, 1, f->o1 ? SOFT_MINNM : SOFT_MAXNM, f->rd, f->rn); }

/* ---- sums of neighbours ---------------------------------------------------------------------------------- */

static unsigned horizontal(unsigned size)
{
    return V_OP(size == 3 ? PP_66 : PP_F2, MAP_0F, 0x7c); /* HADDPD, HADDPS */
}

INSN(V_FADDP)
{
    unsigned size = 2 + f->sz;
    a64_flags_lose(t);
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm), r = fp_result(t, f->rd, f->rd == f->rn || f->rd == f->rm);
    soft_call call = fp_call_of(SOFT_ADD | SOFT_PAIRS, f->Q, size, r, n, m);
    if (f->Q) {
        v_op(t, horizontal(size), r, n, m);
    } else {
        v_op(t, V_PUNPCKLQDQ, r, n, m);
        v_op(t, horizontal(size), r, r, r);
    }
    fp_check_v(t, size, r, false, call);
    fp_end(t, f->Q, f->rd, r);
    return true;
}

INSN(V_FADDP_h) { return pairs(t, f->Q, 1, SOFT_ADD, f->rd, f->rn, f->rm); }

INSN(S_FADDP)
{
    unsigned size = 2 + f->sz;
    a64_flags_lose(t);
    int n = a64_use_v(t, f->rn), r = fp_result(t, f->rd, f->rd == f->rn);
    if (size == 3) {
        v_op(t, horizontal(3), r, n, n);
    } else {
        v_unary_i(t, V_PSHUFD, r, n, 0x44);
        v_op(t, horizontal(2), r, r, r);
    }
    fp_check(t, size, r, false, fp_call_of(SOFT_ADD | SOFT_PAIRS, SCALAR, size, r, n, SOFT_NONE));
    fp_finish(t, size, f->rd, r, false);
    return true;
}

INSN(S_FADDP_h) { return pairs(t, SCALAR, 1, SOFT_ADD, f->rd, f->rn, f->rn); }

/* ---- rounding to integers ----------------------------------------------------------------------------------- */

/* U, o2, o1: N M P Z A X - I, as ROUNDPS's operand; 0xff: by C. */
static bool rounded(a64_translator *t, unsigned q, unsigned size, unsigned kind, unsigned rd, unsigned rn)
{
    static const uint8_t modes[] = {8 | 0, 8 | 1, 8 | 2, 8 | 3, 0xff, 4, 0xff, 8 | 4};
    static const uint8_t extras[] = {SOFT_NEAREST, SOFT_DOWN, SOFT_UP, SOFT_TO_ZERO, SOFT_AWAY, 7 | 8, 0, 7};
    if (size == 1 || t->code->odd || modes[kind] == 0xff)
        return soft1(t, q, size, SOFT_ROUND, rd, rn, extras[kind]);
    int n = fp_source(t, rn, q), d = a64_def_v(t, rd);
    v_unary_i(t, V_OP(PP_66, MAP_0F3A, size == 3 ? 9 : 8), d, n, modes[kind]);
    if (!q)
        fp_cleared(t, rd, 3);
    return true;
}

INSN(V_FRINT) { return rounded(t, f->Q, 2 + f->sz, f->U << 2 | f->o1 | f->o2 << 1, f->rd, f->rn); }
INSN(V_FRINT_h) { return rounded(t, f->Q, 1, f->U << 2 | f->o1 | f->o2 << 1, f->rd, f->rn); }

INSN(V_FRINTTS)
{
    return fp_soft(t, f->Q, f->rd, a64_use_v(t, f->rn), SOFT_NONE,
                (soft_call){.op = SOFT_ROUND, .size = (uint8_t)(2 + f->sz), .a = f->op ? 64 : 32,
                            .extra = f->U ? 7 | 8 : SOFT_TO_ZERO | 8});
}
