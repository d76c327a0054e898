/* Advanced SIMD, integers: Arm ARM C4.1, Data Processing -- Scalar Floating-Point and Advanced SIMD. */
#include "a64_vector.h"

/* ---- three registers of the same kind ------------------------------------------------------ */

enum { AND, BIC, ORR, ORN, EOR, BSL, BIT, BIF };

INSN(V_LOGIC)
{
    unsigned op = f->U << 2 | f->size;
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm), d, first;
    if (op < BSL) {
        if (op == ORR && n == m) {
            d = a64_def_v(t, f->rd);
            if (f->Q)
                v_move(t, d, n);
            else
                x_movq_rr(&t->e, d, n);
            return true;
        }
        if (op == ORN) {
            int inverted = a64_tmp_v(t);
            v_not(t, inverted, m);
            m = inverted;
        }
        d = a64_def_v(t, f->rd);
        switch (op) {
        case AND:
            v_op(t, V_PAND, d, n, m);
            break;
        case BIC:
            v_op(t, V_PANDN, d, m, n);
            break;
        case EOR:
            v_op(t, V_PXOR, d, n, m);
            break;
        default:
            v_op(t, V_POR, d, n, m);
            break;
        }
        v_end(t, d, f->Q);
        return true;
    }
    d = a64_use_v(t, f->rd);
    a64_def_v(t, f->rd);
    first = a64_tmp_v(t);
    int second = a64_tmp_v(t);
    int mask = op == BSL ? d : m;
    v_op(t, V_PAND, first, mask, op == BIF ? d : n);
    v_op(t, V_PANDN, second, mask, op == BSL ? m : op == BIT ? d : n);
    v_op(t, V_POR, d, first, second);
    v_end(t, d, f->Q);
    return true;
}

INSN(V_ADDSUB)
{
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm), d = a64_def_v(t, f->rd);
    v_add_or_subtract(t, f->size, f->U, d, n, m);
    v_end(t, d, f->Q);
    return true;
}

INSN(S_ADDSUB)
{
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm), d = a64_def_v(t, f->rd);
    v_add_or_subtract(t, 3, f->U, d, n, m);
    v_end(t, d, 0);
    return true;
}

static void invert(a64_translator *t, int d)
{
    v_op_m(t, V_PXOR, d, d, v_repeated(t, 3, ~UINT64_C(0)));
}

/* ---- comparisons --------------------------------------------------------------------------------- */

/* d = n > m or n >= m. */
static void compare(a64_translator *t, unsigned size, bool is_signed, bool or_equal, int d, int n, int m)
{
    if (size == 3) {
        if (!is_signed) {
            x64_mem sign = v_repeated(t, 3, v_highest(3));
            int flipped_n = a64_tmp_v(t), flipped_m = a64_tmp_v(t);
            v_op_m(t, V_PXOR, flipped_n, n, sign);
            v_op_m(t, V_PXOR, flipped_m, m, sign);
            n = flipped_n;
            m = flipped_m;
        }
        if (or_equal) {
            v_greater(t, 3, d, m, n);
            invert(t, d);
        } else {
            v_greater(t, 3, d, n, m);
        }
        return;
    }
    if (is_signed && !or_equal) {
        v_greater(t, size, d, n, m);
        return;
    }
    /* n is at least m where it is the greater one of both. */
    int least = or_equal ? n : m, greatest = a64_tmp_v(t);
    v_op(t, v_extreme(false, is_signed, size), greatest, n, m);
    v_op(t, v_pcmpeq[size], d, greatest, least);
    if (!or_equal)
        invert(t, d);
}

INSN(V_CM)
{
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm), d = a64_def_v(t, f->rd);
    compare(t, f->size, !f->U, f->eq, d, n, m);
    v_end(t, d, f->Q);
    return true;
}

INSN(S_CM)
{
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm), d = a64_def_v(t, f->rd);
    compare(t, 3, !f->U, f->eq, d, n, m);
    v_end(t, d, 0);
    return true;
}

static void compare_bits(a64_translator *t, unsigned size, bool test, int d, int n, int m)
{
    if (!test) {
        v_op(t, v_pcmpeq[size], d, n, m);
        return;
    }
    int zero = a64_tmp_v(t);
    v_zero(t, zero);
    v_op(t, V_PAND, d, n, m);
    v_op(t, v_pcmpeq[size], d, d, zero);
    invert(t, d);
}

INSN(V_CMTST_CMEQ)
{
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm), d = a64_def_v(t, f->rd);
    compare_bits(t, f->size, !f->U, d, n, m);
    v_end(t, d, f->Q);
    return true;
}

INSN(S_CMTST_CMEQ)
{
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm), d = a64_def_v(t, f->rd);
    compare_bits(t, 3, !f->U, d, n, m);
    v_end(t, d, 0);
    return true;
}

enum { GT_ZERO, GE_ZERO, EQ_ZERO, LE_ZERO, LT_ZERO };

static void compare_zero(a64_translator *t, unsigned size, unsigned condition, int d, int n)
{
    int other;
    switch (condition) {
    case LT_ZERO:
        v_signs(t, size, d, n);
        break;
    case GE_ZERO:
        v_signs(t, size, d, n);
        invert(t, d);
        break;
    case LE_ZERO:
        other = a64_tmp_v(t);
        x_movaps_rm(&t->e, other, v_repeated(t, size, 1));
        v_greater(t, size, d, other, n);
        break;
    default:
        other = a64_tmp_v(t);
        v_zero(t, other);
        if (condition == EQ_ZERO)
            v_op(t, v_pcmpeq[size], d, n, other);
        else
            v_greater(t, size, d, n, other);
        break;
    }
}

INSN(V_CMZ)
{
    int n = a64_use_v(t, f->rn), d = a64_def_v(t, f->rd);
    compare_zero(t, f->size, f->op << 1 | f->U, d, n);
    v_end(t, d, f->Q);
    return true;
}

INSN(S_CMZ)
{
    int n = a64_use_v(t, f->rn), d = a64_def_v(t, f->rd);
    compare_zero(t, 3, f->op << 1 | f->U, d, n);
    v_end(t, d, 0);
    return true;
}

/* ---- minimum, maximum, differences, halves ----------------------------------------------------------- */

INSN(V_MAXMIN)
{
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm), d = a64_def_v(t, f->rd);
    v_op(t, v_extreme(f->a, !f->U, f->size), d, n, m);
    v_end(t, d, f->Q);
    return true;
}

INSN(V_ABD)
{
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm), d = a64_def_v(t, f->rd);
    v_difference(t, f->size, !f->U, d, n, m);
    v_end(t, d, f->Q);
    return true;
}

INSN(V_ABA)
{
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm), d = a64_use_v(t, f->rd), between = a64_tmp_v(t);
    a64_def_v(t, f->rd);
    v_difference(t, f->size, !f->U, between, n, m);
    v_op(t, v_padd[f->size], d, d, between);
    v_end(t, d, f->Q);
    return true;
}

/*
 * Means.  PAVG is (a + b + 1) >> 1 of unsigned bytes and halfwords; the others are
 * turned into it: signed ones with their signs flipped, a + b without the 1 by
 * taking away what it rounded up, a - b as a + ~b + 1, which is 1 << bits too great.
 */
static void mean(a64_translator *t, unsigned size, bool is_signed, bool subtract, bool rounded, int d, int n, int m)
{
    static const unsigned average[] = {V_PAVGB, V_PAVGW};
    int odd = a64_tmp_v(t), other = a64_tmp_v(t);
    if (size == 2) { /* a + b = 2 (a & b) + (a ^ b) = 2 (a | b) - (a ^ b); a - b = (a ^ b) - 2 (~a & b) */
        v_op(t, V_PXOR, odd, n, m);
        v_shift_right(t, 2, is_signed, odd, odd, 1);
        v_op(t, subtract ? V_PANDN : rounded ? V_POR : V_PAND, other, n, m);
        if (subtract)
            v_op(t, V_PSUB + 2, d, odd, other);
        else if (rounded)
            v_op(t, V_PSUB + 2, d, other, odd);
        else
            v_op(t, V_PADDD, d, odd, other);
        return;
    }
    x64_mem sign = v_repeated(t, size, v_highest(size));
    if (!subtract && !rounded) {
        v_op(t, V_PXOR, odd, n, m);
        v_op_m(t, V_PAND, odd, odd, v_repeated(t, size, 1));
    }
    if (subtract) {
        uint64_t flip = is_signed ? v_highest(size) - 1 : v_all(size);
        v_op_m(t, V_PXOR, other, m, v_repeated(t, size, flip));
        m = other;
    } else if (is_signed) {
        v_op_m(t, V_PXOR, other, m, sign);
        m = other;
    }
    if (is_signed) {
        v_op_m(t, V_PXOR, d, n, sign);
        n = d;
    }
    v_op(t, average[size], d, n, m);
    if (!subtract && !rounded)
        v_op(t, V_PSUB + size, d, d, odd);
    if (is_signed || subtract)
        v_op_m(t, V_PXOR, d, d, sign);
}

INSN(V_HADDSUB)
{
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm), d = a64_def_v(t, f->rd);
    mean(t, f->size, !f->U, f->S, false, d, n, m);
    v_end(t, d, f->Q);
    return true;
}

INSN(V_RHADD)
{
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm), d = a64_def_v(t, f->rd);
    mean(t, f->size, !f->U, false, true, d, n, m);
    v_end(t, d, f->Q);
    return true;
}

/* ---- products --------------------------------------------------------------------------------------- */

static void multiply(a64_translator *t, unsigned size, int d, int n, int m)
{
    if (size) {
        v_op(t, size == 1 ? V_PMULLW : V_PMULLD, d, n, m);
        return;
    }
    /* Odd bytes stay where they are: one factor moved down, the other one without what is below it. */
    int odd = a64_tmp_v(t), factor = a64_tmp_v(t);
    v_op_m(t, V_PAND, odd, m, v_repeated(t, 1, 0xff00));
    v_shift(t, V_PSRLW_I, factor, n, 8);
    v_op(t, V_PMULLW, odd, odd, factor);
    v_op(t, V_PMULLW, d, n, m);
    v_op_m(t, V_PAND, d, d, v_repeated(t, 1, 0x00ff));
    v_op(t, V_POR, d, d, odd);
    a64_give_v(t, odd);
    a64_give_v(t, factor);
}

INSN(V_MUL)
{
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm), d = a64_def_v(t, f->rd);
    multiply(t, f->size, d, n, m);
    v_end(t, d, f->Q);
    return true;
}

INSN(V_MLA)
{
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm), d = a64_use_v(t, f->rd), product = a64_tmp_v(t);
    a64_def_v(t, f->rd);
    multiply(t, f->size, product, n, m);
    v_add_or_subtract(t, f->size, f->U, d, d, product);
    v_end(t, d, f->Q);
    return true;
}

INSN(V_MUL_e)
{
    int n = a64_use_v(t, f->rn), m = v_element(t, f->size, f->rm, f->H, f->L, f->M), d = a64_def_v(t, f->rd);
    multiply(t, f->size, d, n, m);
    v_end(t, d, f->Q);
    return true;
}

INSN(V_MLA_e)
{
    int n = a64_use_v(t, f->rn), m = v_element(t, f->size, f->rm, f->H, f->L, f->M), d = a64_use_v(t, f->rd);
    a64_def_v(t, f->rd);
    multiply(t, f->size, m, n, m);
    v_add_or_subtract(t, f->size, f->o2, d, d, m);
    v_end(t, d, f->Q);
    return true;
}

/* Sums of four products of bytes, added to d.  Even and odd bytes become halfwords. */
static void dot(a64_translator *t, bool is_signed, int d, int n, int m)
{
    int even = a64_tmp_v(t), other = a64_tmp_v(t);
    v_shift_right(t, 1, is_signed, even, n, 8);
    v_shift_right(t, 1, is_signed, other, m, 8);
    v_op(t, V_PMADDWD, even, even, other);
    v_op(t, V_PADDD, d, d, even);
    v_shift(t, V_PSLLW_I, even, n, 8);
    v_shift(t, V_PSLLW_I, other, m, 8);
    v_shift_right(t, 1, is_signed, even, even, 8);
    v_shift_right(t, 1, is_signed, other, other, 8);
    v_op(t, V_PMADDWD, even, even, other);
    v_op(t, V_PADDD, d, d, even);
}

/* A destination that is added to and whose old content the sources may be: a copy of those. */
static int apart(a64_translator *t, int s, int d)
{
    if (s != d)
        return s;
    int copy = a64_tmp_v(t);
    v_move(t, copy, s);
    return copy;
}

INSN(V_DOT)
{
    int d = a64_use_v(t, f->rd), n = apart(t, a64_use_v(t, f->rn), d);
    int m = f->rm == f->rn ? n : apart(t, a64_use_v(t, f->rm), d);
    a64_def_v(t, f->rd);
    dot(t, !f->U, d, n, m);
    v_end(t, d, f->Q);
    return true;
}

INSN(V_DOT_e)
{
    int d = a64_use_v(t, f->rd), n = apart(t, a64_use_v(t, f->rn), d);
    int m = v_element(t, 2, f->rm, f->H, f->L, f->M);
    a64_def_v(t, f->rd);
    dot(t, !f->U, d, n, m);
    v_end(t, d, f->Q);
    return true;
}

/* ---- one register ------------------------------------------------------------------------------------- */

INSN(V_ABS)
{
    int n = a64_use_v(t, f->rn), d = a64_def_v(t, f->rd);
    v_absolute(t, f->size, f->U, d, n);
    v_end(t, d, f->Q);
    return true;
}

INSN(S_ABS)
{
    int n = a64_use_v(t, f->rn), d = a64_def_v(t, f->rd);
    v_absolute(t, 3, f->U, d, n);
    v_end(t, d, 0);
    return true;
}

INSN(V_NOT)
{
    int n = a64_use_v(t, f->rn), d = a64_def_v(t, f->rd);
    v_op_m(t, V_PXOR, d, n, v_repeated(t, 3, ~UINT64_C(0)));
    v_end(t, d, f->Q);
    return true;
}

/* Looks up the lower and the upper half of each byte in tables of 16 bytes. */
static void look_up(a64_translator *t, int lower, int upper, int n, const uint64_t low[2], const uint64_t high[2])
{
    int index = a64_tmp_v(t);
    x64_mem mask = v_repeated(t, 0, 0x0f);
    v_shift(t, V_PSRLW_I, index, n, 4);
    v_op_m(t, V_PAND, index, index, mask);
    v_op_m(t, V_PAND, lower, n, mask);
    x_movaps_rm(&t->e, upper, a64_constant(t, high[0], high[1]));
    v_op(t, V_PSHUFB, upper, upper, index);
    x_movaps_rm(&t->e, index, a64_constant(t, low[0], low[1]));
    v_op(t, V_PSHUFB, lower, index, lower);
    a64_give_v(t, index);
}

INSN(V_CNT)
{
    static const uint64_t ones[] = {UINT64_C(0x0302020102010100), UINT64_C(0x0403030203020201)};
    int n = a64_use_v(t, f->rn), lower = a64_tmp_v(t), upper = a64_tmp_v(t), d = a64_def_v(t, f->rd);
    look_up(t, lower, upper, n, ones, ones);
    v_op(t, V_PADDB, d, lower, upper);
    v_end(t, d, f->Q);
    return true;
}

INSN(V_RBIT)
{
    static const uint64_t up[] = {UINT64_C(0xe060a020c0408000), UINT64_C(0xf070b030d0509010)};
    static const uint64_t down[] = {UINT64_C(0x0e060a020c040800), UINT64_C(0x0f070b030d050901)};
    int n = a64_use_v(t, f->rn), lower = a64_tmp_v(t), upper = a64_tmp_v(t), d = a64_def_v(t, f->rd);
    look_up(t, lower, upper, n, up, down);
    v_op(t, V_POR, d, lower, upper);
    v_end(t, d, f->Q);
    return true;
}

INSN(V_CLS)
{
    static const uint64_t high[] = {UINT64_C(0x0101010102020308), 0};
    static const uint64_t low[] = {UINT64_C(0x0505050506060708), UINT64_C(0x0404040404040404)};
    int n = a64_use_v(t, f->rn), d, lower = a64_tmp_v(t), upper = a64_tmp_v(t), given = -1;
    if (!f->U) { /* CLS: after the sign those that are like it, which become zeros */
        given = a64_tmp_v(t);
        v_signs(t, f->size, given, n);
        v_op(t, V_PXOR, given, given, n);
        n = given;
    }
    look_up(t, lower, upper, n, low, high);
    d = a64_def_v(t, f->rd);
    v_op(t, V_PMINUB, d, lower, upper);
    /* The upper part's zeros, and the lower's too where the upper has nothing else. */
    for (unsigned size = 0; size < f->size; size++) {
        unsigned bits = 8u << size;
        v_op_m(t, v_pcmpeq[size], lower, d, v_repeated(t, size, bits));
        v_shift(t, V_PSRLW_I + size, lower, lower, bits);
        v_op(t, V_PAND, lower, lower, d);
        v_shift(t, V_PSRLW_I + size, d, d, bits);
        v_op(t, v_padd[size + 1], d, d, lower);
    }
    if (!f->U)
        v_op_m(t, V_PSUB + f->size, d, d, v_repeated(t, f->size, 1));
    v_end(t, d, f->Q);
    return true;
}
