/*
 * Advanced SIMD: what saturates.  Where a result differs from what it would be without
 * limits, bits of a mask are set, which v_saturated() collects for FPSR.QC.
 */
#include "a64_vector.h"

/* Ends an instruction: the rest of d is cleared; `mask` has what saturated. */
static void end(a64_translator *t, unsigned size, unsigned q, int d, int mask)
{
    if (q == V_SCALAR) {
        v_scalar(t, size, mask, mask);
        v_scalar(t, size, d, d);
    } else {
        v_end(t, mask, q);
        v_end(t, d, q);
    }
    v_saturated(t, mask);
}

/* ---- sums and differences -------------------------------------------------------------------------- */

/* d = n +- m; returns a temporary, the mask. */
static int add(a64_translator *t, unsigned size, bool is_signed, bool subtract, int d, int n, int m)
{
    static const unsigned ops[2][2] = {{V_PADDUSB, V_PSUBUSB}, {V_PADDSB, V_PSUBSB}};
    int mask = a64_tmp_v(t), limit = a64_tmp_v(t);
    if (size < 2) {
        v_add_or_subtract(t, size, subtract, mask, n, m);
        v_op(t, ops[is_signed][subtract] + size, d, n, m);
        v_op(t, V_PXOR, mask, mask, d);
    } else if (is_signed) {
        /* It overflows where the operands' signs are (for a difference: are not) the same, and the result's another. */
        int result = a64_tmp_v(t);
        v_add_or_subtract(t, size, subtract, result, n, m);
        v_op(t, V_PXOR, mask, n, m);
        v_op(t, V_PXOR, limit, n, result);
        v_op(t, subtract ? V_PAND : V_PANDN, mask, mask, limit);
        v_signs(t, size, mask, mask);
        v_signs(t, size, limit, n);
        v_op_m(t, V_PXOR, limit, limit, v_repeated(t, size, v_highest(size) - 1));
        /* result ^ ((result ^ limit) & mask) */
        v_op(t, V_PXOR, limit, limit, result);
        v_op(t, V_PAND, limit, limit, mask);
        v_op(t, V_PXOR, d, result, limit);
        a64_give_v(t, result);
    } else if (subtract) {
        /* The borrow: ~n & m, or the result where they are alike. */
        int result = a64_tmp_v(t);
        v_op(t, V_PSUB + size, result, n, m);
        v_op(t, V_PXOR, limit, n, m);
        v_op(t, V_PANDN, mask, n, m);
        v_op(t, V_PANDN, limit, limit, result);
        v_op(t, V_POR, mask, mask, limit);
        v_signs(t, size, mask, mask);
        v_op(t, V_PANDN, d, mask, result);
        a64_give_v(t, result);
    } else {
        /* The carry: n & m, or one of them where the result has not the bit. */
        v_op(t, V_PAND, mask, n, m);
        v_op(t, V_POR, limit, n, m);
        v_op(t, v_padd[size], d, n, m);
        v_op(t, V_PANDN, limit, d, limit);
        v_op(t, V_POR, mask, mask, limit);
        v_signs(t, size, mask, mask);
        v_op(t, V_POR, d, d, mask);
    }
    a64_give_v(t, limit);
    return mask;
}

INSN(V_QADDSUB)
{
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm), d = a64_def_v(t, f->rd);
    end(t, f->size, f->Q, d, add(t, f->size, !f->U, f->S, d, n, m));
    return true;
}

INSN(S_QADDSUB)
{
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm), d = a64_def_v(t, f->rd);
    end(t, f->size, V_SCALAR, d, add(t, f->size, !f->U, f->S, d, n, m));
    return true;
}

/* The least number has no opposite: all bits of the mask, which turn it into the greatest one. */
static void absolute(a64_translator *t, unsigned size, bool negate, unsigned rd, unsigned rn, unsigned q)
{
    int n = a64_use_v(t, rn), mask = a64_tmp_v(t), d = a64_def_v(t, rd);
    v_op_m(t, v_pcmpeq[size], mask, n, v_repeated(t, size, v_highest(size)));
    v_absolute(t, size, negate, d, n);
    v_op(t, V_PXOR, d, d, mask);
    end(t, size, q, d, mask);
}

INSN(V_SQABS)
{
    absolute(t, f->size, f->U, f->rd, f->rn, f->Q);
    return true;
}

INSN(S_SQABS)
{
    absolute(t, f->size, f->U, f->rd, f->rn, V_SCALAR);
    return true;
}

/* ---- products ------------------------------------------------------------------------------------------ */

/* The upper half of 2 * n * m; only the least number times itself is too great, and then the result is that number. */
static int multiply_high(a64_translator *t, unsigned size, bool rounded, int d, int n, int m)
{
    int mask = a64_tmp_v(t), other = a64_tmp_v(t);
    if (size == 1 && rounded) {
        v_op(t, V_PMULHRSW, d, n, m);
    } else if (size == 1) {
        v_op(t, V_PMULHW, mask, n, m);
        v_op(t, V_PMULLW, other, n, m);
        v_op(t, V_PADDW, mask, mask, mask);
        v_shift(t, V_PSRLW_I, other, other, 15);
        v_op(t, V_POR, d, mask, other);
    } else {
        int odd = a64_tmp_v(t);
        v_shift(t, V_PSRLW_I + 2, odd, n, 32);
        v_shift(t, V_PSRLW_I + 2, other, m, 32);
        v_op(t, V_PMULDQ, odd, odd, other);
        v_op(t, V_PMULDQ, other, n, m);
        v_op(t, V_PADDQ, odd, odd, odd);
        v_op(t, V_PADDQ, other, other, other);
        if (rounded) {
            x64_mem half = v_repeated(t, 3, UINT64_C(1) << 31);
            v_op_m(t, V_PADDQ, odd, odd, half);
            v_op_m(t, V_PADDQ, other, other, half);
        }
        v_shift(t, V_PSRLW_I + 2, other, other, 32);
        v_op_i(t, V_PBLENDW, d, other, odd, 0xcc);
        a64_give_v(t, odd);
    }
    v_op_m(t, v_pcmpeq[size], mask, d, v_repeated(t, size, v_highest(size)));
    v_op(t, V_PXOR, d, d, mask);
    a64_give_v(t, other);
    return mask;
}

INSN(V_SQDMULH)
{
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm), d = a64_def_v(t, f->rd);
    end(t, f->size, f->Q, d, multiply_high(t, f->size, f->U, d, n, m));
    return true;
}

INSN(S_SQDMULH)
{
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm), d = a64_def_v(t, f->rd);
    end(t, f->size, V_SCALAR, d, multiply_high(t, f->size, f->U, d, n, m));
    return true;
}

INSN(V_SQDMULH_e)
{
    int n = a64_use_v(t, f->rn), m = v_element(t, f->size, f->rm, f->H, f->L, f->M), d = a64_def_v(t, f->rd);
    end(t, f->size, f->Q, d, multiply_high(t, f->size, f->R, d, n, m));
    return true;
}

INSN(S_SQDMULH_e)
{
    int n = a64_use_v(t, f->rn), m = v_element(t, f->size, f->rm, f->H, f->L, f->M), d = a64_def_v(t, f->rd);
    end(t, f->size, V_SCALAR, d, multiply_high(t, f->size, f->R, d, n, m));
    return true;
}

/* 2 * n * m at twice the size. */
static int multiply_long(a64_translator *t, unsigned size, int d, int n, int m, bool upper)
{
    int mask = a64_tmp_v(t);
    v_multiply_long(t, size, true, d, n, m, upper);
    v_op_m(t, v_pcmpeq[size + 1], mask, d, v_repeated(t, size + 1, v_highest(size + 1) >> 1));
    v_op(t, v_padd[size + 1], d, d, d);
    v_op(t, V_PXOR, d, d, mask);
    return mask;
}

static void multiply_add_long(a64_translator *t, unsigned size, bool subtract, unsigned rd, int n, int m, unsigned q)
{
    int d = a64_use_v(t, rd), product = a64_tmp_v(t);
    a64_def_v(t, rd);
    int mask = multiply_long(t, size, product, n, m, q == 1);
    if (n != d)
        a64_give_v(t, n);
    if (m != d)
        a64_give_v(t, m);
    int mask2 = add(t, size + 1, true, subtract, d, d, product);
    v_op(t, V_POR, mask, mask, mask2);
    end(t, size + 1, q == V_SCALAR ? V_SCALAR : 1, d, mask);
}

INSN(V_SQDMULL)
{
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm), d = a64_def_v(t, f->rd);
    end(t, f->size + 1, 1, d, multiply_long(t, f->size, d, n, m, f->Q));
    return true;
}

INSN(S_SQDMULL)
{
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm), d = a64_def_v(t, f->rd);
    end(t, f->size + 1, V_SCALAR, d, multiply_long(t, f->size, d, n, m, false));
    return true;
}

INSN(V_SQDMULL_e)
{
    int n = a64_use_v(t, f->rn), m = v_element(t, f->size, f->rm, f->H, f->L, f->M), d = a64_def_v(t, f->rd);
    end(t, f->size + 1, 1, d, multiply_long(t, f->size, d, n, m, f->Q));
    return true;
}

INSN(S_SQDMULL_e)
{
    int n = a64_use_v(t, f->rn), m = v_element(t, f->size, f->rm, f->H, f->L, f->M), d = a64_def_v(t, f->rd);
    end(t, f->size + 1, V_SCALAR, d, multiply_long(t, f->size, d, n, m, false));
    return true;
}

INSN(V_SQDMLAL)
{
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm);
    multiply_add_long(t, f->size, f->o1, f->rd, n, m, f->Q);
    return true;
}

INSN(S_SQDMLAL)
{
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm);
    multiply_add_long(t, f->size, f->o1, f->rd, n, m, V_SCALAR);
    return true;
}

INSN(V_SQDMLAL_e)
{
    int n = a64_use_v(t, f->rn), m = v_element(t, f->size, f->rm, f->H, f->L, f->M);
    multiply_add_long(t, f->size, f->o2, f->rd, n, m, f->Q);
    return true;
}

INSN(S_SQDMLAL_e)
{
    int n = a64_use_v(t, f->rn), m = v_element(t, f->size, f->rm, f->H, f->L, f->M);
    multiply_add_long(t, f->size, f->o2, f->rd, n, m, V_SCALAR);
    return true;
}

/* ---- narrower ------------------------------------------------------------------------------------------------ */

enum to { SIGNED, UNSIGNED, SIGNED_TO_UNSIGNED };

/* `wide`, a temporary that is lost, of elements of 2 << size bytes, becomes rd. */
static void narrow(a64_translator *t, unsigned size, enum to to, unsigned rd, int wide, unsigned q)
{
    int result = a64_tmp_v(t), mask = a64_tmp_v(t);
    if (size < 2) {
        static const unsigned pack[2][2] = {{V_PACKSSWB, V_PACKSSDW}, {V_PACKUSWB, V_PACKUSDW}};
        if (to == UNSIGNED) {
            v_op_m(t, v_extreme(true, false, size + 1), mask, wide, v_repeated(t, size + 1, v_all(size)));
            v_op(t, pack[1][size], result, mask, mask);
        } else {
            v_op(t, pack[to != SIGNED][size], result, wide, wide);
            v_widen(t, size, to == SIGNED, mask, result, false);
        }
        v_op(t, V_PXOR, mask, mask, wide);
    } else {
        /* It fits where it is the same when extended again; else its sign says which limit it has passed. */
        int limit = a64_tmp_v(t);
        if (to == SIGNED) {
            v_unary_i(t, V_PSHUFD, mask, wide, 0x08);
            v_unary(t, V_PMOVSXDQ, mask, mask);
        } else {
            v_op_m(t, V_PAND, mask, wide, v_repeated(t, 3, v_all(2)));
        }
        v_op(t, V_PCMPEQQ, mask, mask, wide);
        v_op_m(t, V_PXOR, mask, mask, v_repeated(t, 3, v_all(3)));
        if (to == UNSIGNED)
            v_ones(t, limit);
        else
            v_signs(t, 3, limit, wide);
        if (to != UNSIGNED)
            v_op_m(t, V_PXOR, limit, limit, v_repeated(t, 3, to == SIGNED ? v_highest(2) - 1 : v_all(3)));
        v_op(t, V_PXOR, limit, limit, wide);
        v_op(t, V_PAND, limit, limit, mask);
        v_op(t, V_PXOR, result, wide, limit);
        v_unary_i(t, V_PSHUFD, result, result, 0x08);
        a64_give_v(t, limit);
    }
    if (q == V_SCALAR) {
        v_scalar(t, size + 1, mask, mask);
        v_scalar(t, size, a64_def_v(t, rd), result);
    } else {
        v_narrowed(t, rd, result, q);
    }
    v_saturated(t, mask);
}

static void extract(a64_translator *t, unsigned size, enum to to, unsigned rd, unsigned rn, unsigned q)
{
    int n = a64_use_v(t, rn), wide = a64_tmp_v(t);
    v_move(t, wide, n);
    narrow(t, size, to, rd, wide, q);
}

INSN(V_QXTN)
{
    extract(t, f->size, f->U ? UNSIGNED : SIGNED, f->rd, f->rn, f->Q);
    return true;
}

INSN(S_QXTN)
{
    extract(t, f->size, f->U ? UNSIGNED : SIGNED, f->rd, f->rn, V_SCALAR);
    return true;
}

INSN(V_SQXTUN)
{
    extract(t, f->size, SIGNED_TO_UNSIGNED, f->rd, f->rn, f->Q);
    return true;
}

INSN(S_SQXTUN)
{
    extract(t, f->size, SIGNED_TO_UNSIGNED, f->rd, f->rn, V_SCALAR);
    return true;
}

/* ---- shifts -------------------------------------------------------------------------------------------------- */

static unsigned size_of(unsigned immh)
{
    return 31 - (unsigned)__builtin_clz(immh);
}

static void shift_narrow(a64_translator *t, unsigned immh, unsigned immb, bool rounded, enum to to, unsigned rd,
                         unsigned rn, unsigned q)
{
    unsigned size = size_of(immh), count = (16u << size) - (immh << 3 | immb);
    int n = a64_use_v(t, rn), wide = a64_tmp_v(t);
    if (rounded)
        v_shift_rounded(t, size + 1, to != UNSIGNED, wide, n, count);
    else
        v_shift_right(t, size + 1, to != UNSIGNED, wide, n, count);
    narrow(t, size, to, rd, wide, q);
}

INSN(V_QSHRN)
{
    shift_narrow(t, f->immh, f->immb, f->R, f->U ? UNSIGNED : SIGNED, f->rd, f->rn, f->Q);
    return true;
}

INSN(S_QSHRN)
{
    shift_narrow(t, f->immh, f->immb, f->R, f->U ? UNSIGNED : SIGNED, f->rd, f->rn, V_SCALAR);
    return true;
}

INSN(V_SQSHRUN)
{
    shift_narrow(t, f->immh, f->immb, f->R, SIGNED_TO_UNSIGNED, f->rd, f->rn, f->Q);
    return true;
}

INSN(S_SQSHRUN)
{
    shift_narrow(t, f->immh, f->immb, f->R, SIGNED_TO_UNSIGNED, f->rd, f->rn, V_SCALAR);
    return true;
}

/* To the left: nothing is lost where a shift back brings the same. */
static void shift_left(a64_translator *t, unsigned immh, unsigned immb, enum to to, unsigned rd, unsigned rn,
                       unsigned q)
{
    unsigned size = size_of(immh), count = (immh << 3 | immb) - (8u << size);
    int n = a64_use_v(t, rn), limit = a64_tmp_v(t), mask = a64_tmp_v(t), result = a64_tmp_v(t), d;
    v_shift_left(t, size, result, n, count);
    v_shift_right(t, size, to == SIGNED, mask, result, count);
    v_op(t, v_pcmpeq[size], mask, mask, n);
    v_op_m(t, V_PXOR, mask, mask, v_repeated(t, 3, v_all(3)));
    if (to == UNSIGNED) {
        d = a64_def_v(t, rd);
        v_op(t, V_POR, d, result, mask);
        end(t, size, q, d, mask);
        return;
    }
    v_signs(t, size, limit, n);
    if (to == SIGNED_TO_UNSIGNED)
        v_op(t, V_POR, mask, mask, limit);
    v_op_m(t, V_PXOR, limit, limit, v_repeated(t, size, to == SIGNED ? v_highest(size) - 1 : v_all(size)));
    v_op(t, V_PXOR, limit, limit, result);
    v_op(t, V_PAND, limit, limit, mask);
    d = a64_def_v(t, rd);
    v_op(t, V_PXOR, d, result, limit);
    end(t, size, q, d, mask);
}

INSN(V_QSHL)
{
    shift_left(t, f->immh, f->immb, f->U ? UNSIGNED : SIGNED, f->rd, f->rn, f->Q);
    return true;
}

INSN(S_QSHL)
{
    shift_left(t, f->immh, f->immb, f->U ? UNSIGNED : SIGNED, f->rd, f->rn, V_SCALAR);
    return true;
}

INSN(V_SQSHLU)
{
    shift_left(t, f->immh, f->immb, SIGNED_TO_UNSIGNED, f->rd, f->rn, f->Q);
    return true;
}

INSN(S_SQSHLU)
{
    shift_left(t, f->immh, f->immb, SIGNED_TO_UNSIGNED, f->rd, f->rn, V_SCALAR);
    return true;
}
