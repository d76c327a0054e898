/* Advanced SIMD: pairs, whole vectors, and results of twice the size. */
#include "a64_vector.h"

/* ---- pairs ------------------------------------------------------------------------------------- */

/* Brings even elements to the lower half, odd ones to the upper. */
static x64_mem even_then_odd(a64_translator *t, unsigned size)
{
    return size ? a64_constant(t, UINT64_C(0x0d0c090805040100), UINT64_C(0x0f0e0b0a07060302))
                : a64_constant(t, UINT64_C(0x0e0c0a0806040200), UINT64_C(0x0f0d0b0907050301));
}

/* The even and the odd elements of n and m, one behind the other; both are temporaries. */
static void pairs(a64_translator *t, unsigned size, unsigned q, int n, int m, int even, int odd)
{
    if (size == 3) {
        v_op(t, V_PUNPCKLQDQ, even, n, m);
        v_op(t, V_PUNPCKHQDQ, odd, n, m);
        return;
    }
    if (!q) {
        v_op(t, V_PUNPCKLQDQ, odd, n, m);
        n = m = odd;
    }
    if (n == m) { /* both halves are the same, or the upper is worthless */
        if (size == 2) {
            v_unary_i(t, V_PSHUFD, even, n, 0x88);
            v_unary_i(t, V_PSHUFD, odd, n, 0xdd);
        } else {
            v_op_m(t, V_PSHUFB, even, n, even_then_odd(t, size));
            v_unary_i(t, V_PSHUFD, odd, even, 0x4e);
        }
        return;
    }
    if (size == 2) {
        v_op_i(t, V_SHUFPS, even, n, m, 0x88);
        v_op_i(t, V_SHUFPS, odd, n, m, 0xdd);
        return;
    }
    int other = a64_tmp_v(t);
    v_op_m(t, V_PSHUFB, odd, n, even_then_odd(t, size));
    v_op_m(t, V_PSHUFB, other, m, even_then_odd(t, size));
    v_op(t, V_PUNPCKLQDQ, even, odd, other);
    v_op(t, V_PUNPCKHQDQ, odd, odd, other);
    a64_give_v(t, other);
}

INSN(V_ADDP)
{
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm), even = a64_tmp_v(t), odd = a64_tmp_v(t), d;
    if (f->size == 1) {
        if (!f->Q) {
            v_op(t, V_PUNPCKLQDQ, even, n, m);
            n = m = even;
        }
        d = a64_def_v(t, f->rd);
        v_op(t, V_PHADDW, d, n, m);
    } else {
        pairs(t, f->size, f->Q, n, m, even, odd);
        d = a64_def_v(t, f->rd);
        v_op(t, v_padd[f->size], d, even, odd);
    }
    v_end(t, d, f->Q);
    return true;
}

INSN(V_MAXMINP)
{
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm), even = a64_tmp_v(t), odd = a64_tmp_v(t), d;
    pairs(t, f->size, f->Q, n, m, even, odd);
    d = a64_def_v(t, f->rd);
    v_op(t, v_extreme(f->a, !f->U, f->size), d, even, odd);
    v_end(t, d, f->Q);
    return true;
}

INSN(S_ADDP)
{
    int n = a64_use_v(t, f->rn), upper = a64_tmp_v(t), d = a64_def_v(t, f->rd);
    v_unary_i(t, V_PSHUFD, upper, n, 0xee);
    v_op(t, V_PADDQ, d, n, upper);
    v_end(t, d, 0);
    return true;
}

/* Sums of pairs at twice the size. */
static void add_pairs(a64_translator *t, unsigned size, bool is_signed, int d, int n)
{
    int other = a64_tmp_v(t);
    if (size == 0 && is_signed) {
        x_movaps_rm(&t->e, other, v_repeated(t, 0, 1));
        v_op(t, V_PMADDUBSW, d, other, n);
    } else if (size == 0) {
        v_op_m(t, V_PMADDUBSW, d, n, v_repeated(t, 0, 1));
    } else if (size == 1 && is_signed) {
        v_op_m(t, V_PMADDWD, d, n, v_repeated(t, 1, 1));
    } else {
        if (is_signed) { /* as unsigned numbers, each too great by 1 << 31 */
            v_op_m(t, V_PXOR, d, n, v_repeated(t, 2, v_highest(2)));
            n = d;
        }
        v_shift_right(t, size + 1, false, other, n, 8u << size);
        v_op_m(t, V_PAND, d, n, v_repeated(t, size + 1, v_all(size)));
        v_op(t, v_padd[size + 1], d, d, other);
        if (is_signed)
            v_op_m(t, V_PSUB + 3, d, d, v_repeated(t, 3, UINT64_C(1) << 32));
    }
    a64_give_v(t, other);
}

INSN(V_ADDLP)
{
    int n = a64_use_v(t, f->rn), d;
    if (f->A) {
        int sums = a64_tmp_v(t);
        d = a64_use_v(t, f->rd);
        a64_def_v(t, f->rd);
        add_pairs(t, f->size, !f->U, sums, n);
        v_op(t, v_padd[f->size + 1], d, d, sums);
    } else {
        d = a64_def_v(t, f->rd);
        add_pairs(t, f->size, !f->U, d, n);
    }
    v_end(t, d, f->Q);
    return true;
}

/* ---- whole vectors ---------------------------------------------------------------------------------- */

/* d op= d with its elements exchanged as PSHUFD's immediate says. */
static void fold(a64_translator *t, unsigned op, int d, unsigned order)
{
    int other = a64_tmp_v(t);
    v_unary_i(t, V_PSHUFD, other, d, order);
    v_op(t, op, d, d, other);
    a64_give_v(t, other);
}

enum { HALVES = 0x4e, NEIGHBOURS = 0xb1 };

/* The sum of bytes, in as many bits as it takes. */
static void sum_bytes(a64_translator *t, unsigned q, int d, int n)
{
    int zero = a64_tmp_v(t);
    v_zero(t, zero);
    v_op(t, V_PSADBW, d, n, zero);
    if (q)
        fold(t, V_PADDQ, d, HALVES);
}

INSN(V_ADDV)
{
    int n = a64_use_v(t, f->rn), d = a64_def_v(t, f->rd);
    switch (f->size) {
    case 0:
        sum_bytes(t, f->Q, d, n);
        break;
    case 1:
        add_pairs(t, 1, true, d, n);
        if (f->Q)
            fold(t, V_PADDD, d, HALVES);
        fold(t, V_PADDD, d, NEIGHBOURS);
        break;
    default:
        v_move(t, d, n);
        fold(t, V_PADDD, d, HALVES);
        fold(t, V_PADDD, d, NEIGHBOURS);
        break;
    }
    v_scalar(t, f->size, d, d);
    return true;
}

INSN(V_ADDLV)
{
    int n = a64_use_v(t, f->rn), d = a64_def_v(t, f->rd);
    if (f->size == 0) {
        if (!f->U) { /* as unsigned numbers, each too great by 128 */
            v_op_m(t, V_PXOR, d, n, v_repeated(t, 0, 0x80));
            n = d;
        }
        sum_bytes(t, f->Q, d, n);
        if (!f->U)
            v_op_m(t, V_PSUB + 1, d, d, v_repeated(t, 1, f->Q ? 16 * 128 : 8 * 128));
    } else {
        add_pairs(t, f->size, !f->U, d, n);
        if (f->Q)
            fold(t, v_padd[f->size + 1], d, HALVES);
        if (f->size == 1)
            fold(t, V_PADDD, d, NEIGHBOURS);
    }
    v_scalar(t, f->size + 1, d, d);
    return true;
}

/* PHMINPOSUW finds the least of eight unsigned halfwords; the others are made into that. */
INSN(V_MAXMINV)
{
    int n = a64_use_v(t, f->rn), d = a64_def_v(t, f->rd);
    if (f->size == 2) {
        unsigned op = v_extreme(f->a, !f->U, 2);
        v_move(t, d, n);
        fold(t, op, d, HALVES);
        fold(t, op, d, NEIGHBOURS);
        v_scalar(t, 2, d, d);
        return true;
    }
    if (!f->Q) {
        v_op(t, V_PUNPCKLQDQ, d, n, n);
        n = d;
    }
    uint64_t flip = (f->a ? 0 : v_all(f->size)) ^ (f->U ? 0 : v_highest(f->size));
    if (flip) {
        v_op_m(t, V_PXOR, d, n, v_repeated(t, f->size, flip));
        n = d;
    }
    if (f->size == 0) {
        int upper = a64_tmp_v(t);
        v_shift(t, V_PSRLW_I, upper, n, 8);
        v_op(t, V_PMINUB, d, upper, n);
        n = d;
    }
    v_unary(t, V_PHMINPOSUW, d, n);
    if (flip)
        v_op_m(t, V_PXOR, d, d, a64_constant(t, flip, 0));
    v_scalar(t, f->size, d, d);
    return true;
}

/* ---- results of twice the size -------------------------------------------------------------------------- */

INSN(V_ADDL)
{
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm), wide = a64_tmp_v(t), d;
    v_widen(t, f->size, !f->U, wide, m, f->Q);
    d = a64_def_v(t, f->rd);
    v_widen(t, f->size, !f->U, d, n, f->Q);
    v_add_or_subtract(t, f->size + 1, f->o1, d, d, wide);
    return true;
}

INSN(V_ADDW)
{
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm), wide = a64_tmp_v(t), d;
    v_widen(t, f->size, !f->U, wide, m, f->Q);
    d = a64_def_v(t, f->rd);
    v_add_or_subtract(t, f->size + 1, f->o1, d, n, wide);
    return true;
}

INSN(V_ABDL)
{
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm), d = a64_def_v(t, f->rd);
    v_difference(t, f->size, !f->U, d, n, m);
    v_widen(t, f->size, false, d, d, f->Q);
    return true;
}

INSN(V_ABAL)
{
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm), d = a64_use_v(t, f->rd), between = a64_tmp_v(t);
    a64_def_v(t, f->rd);
    v_difference(t, f->size, !f->U, between, n, m);
    v_widen(t, f->size, false, between, between, f->Q);
    v_op(t, v_padd[f->size + 1], d, d, between);
    return true;
}

INSN(V_MULL)
{
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm), d = a64_def_v(t, f->rd);
    v_multiply_long(t, f->size, !f->U, d, n, m, f->Q);
    return true;
}

INSN(V_MULL_e)
{
    int n = a64_use_v(t, f->rn), m = v_element(t, f->size, f->rm, f->H, f->L, f->M), d = a64_def_v(t, f->rd);
    v_multiply_long(t, f->size, !f->U, d, n, m, f->Q);
    return true;
}

INSN(V_MLAL)
{
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm), d = a64_use_v(t, f->rd), product = a64_tmp_v(t);
    a64_def_v(t, f->rd);
    v_multiply_long(t, f->size, !f->U, product, n, m, f->Q);
    v_add_or_subtract(t, f->size + 1, f->o1, d, d, product);
    return true;
}

INSN(V_MLAL_e)
{
    int n = a64_use_v(t, f->rn), m = v_element(t, f->size, f->rm, f->H, f->L, f->M), d = a64_use_v(t, f->rd);
    a64_def_v(t, f->rd);
    v_multiply_long(t, f->size, !f->U, m, n, m, f->Q);
    v_add_or_subtract(t, f->size + 1, f->o2, d, d, m);
    return true;
}
