/* Advanced SIMD: shifts by an immediate and by a register's elements. */
#include "a64_vector.h"

/* immh:immb is twice the element's bits minus the shift to the right, or their sum with the one to the left. */
static unsigned size_of(unsigned immh)
{
    return 31 - (unsigned)__builtin_clz(immh);
}

static unsigned right_of(unsigned immh, unsigned immb)
{
    return (16u << size_of(immh)) - (immh << 3 | immb);
}

static unsigned left_of(unsigned immh, unsigned immb)
{
    return (immh << 3 | immb) - (8u << size_of(immh));
}

/* R: rounded; A: added to Vd. */
static void shift_right(a64_translator *t, unsigned size, bool is_signed, unsigned count, unsigned r, unsigned a,
                        unsigned rd, unsigned rn, unsigned q)
{
    int n = a64_use_v(t, rn), d = a ? a64_use_v(t, rd) : -1, result = a ? a64_tmp_v(t) : a64_def_v(t, rd);
    if (r)
        v_shift_rounded(t, size, is_signed, result, n, count);
    else
        v_shift_right(t, size, is_signed, result, n, count);
    if (a) {
        a64_def_v(t, rd);
        v_op(t, v_padd[size], d, d, result);
        result = d;
    }
    v_end(t, result, q);
}

INSN(V_SHR)
{
    shift_right(t, size_of(f->immh), !f->U, right_of(f->immh, f->immb), f->R, f->A, f->rd, f->rn, f->Q);
    return true;
}

INSN(S_SHR)
{
    shift_right(t, 3, !f->U, right_of(f->immh, f->immb), f->R, f->A, f->rd, f->rn, 0);
    return true;
}

static void shift_right_insert(a64_translator *t, unsigned size, unsigned count, unsigned rd, unsigned rn, unsigned q)
{
    int n = a64_use_v(t, rn), d = a64_use_v(t, rd), shifted = a64_tmp_v(t);
    uint64_t all = v_all(size), kept = count == 8u << size ? all : all & ~(all >> count);
    a64_def_v(t, rd);
    v_shift_right(t, size, false, shifted, n, count);
    v_op_m(t, V_PAND, d, d, v_repeated(t, size, kept));
    v_op(t, V_POR, d, d, shifted);
    v_end(t, d, q);
}

INSN(V_SRI)
{
    shift_right_insert(t, size_of(f->immh), right_of(f->immh, f->immb), f->rd, f->rn, f->Q);
    return true;
}

INSN(S_SRI)
{
    shift_right_insert(t, 3, right_of(f->immh, f->immb), f->rd, f->rn, 0);
    return true;
}

static void shift_left(a64_translator *t, unsigned size, unsigned count, bool insert, unsigned rd, unsigned rn,
                       unsigned q)
{
    int n = a64_use_v(t, rn), d;
    if (insert) {
        int shifted = a64_tmp_v(t);
        d = a64_use_v(t, rd);
        a64_def_v(t, rd);
        v_shift_left(t, size, shifted, n, count);
        v_op_m(t, V_PAND, d, d, v_repeated(t, size, (UINT64_C(1) << count) - 1));
        v_op(t, V_POR, d, d, shifted);
    } else {
        d = a64_def_v(t, rd);
        v_shift_left(t, size, d, n, count);
    }
    v_end(t, d, q);
}

INSN(V_SHL)
{
    shift_left(t, size_of(f->immh), left_of(f->immh, f->immb), f->U, f->rd, f->rn, f->Q);
    return true;
}

INSN(S_SHL)
{
    shift_left(t, 3, left_of(f->immh, f->immb), f->U, f->rd, f->rn, 0);
    return true;
}

/* ---- by a register ----------------------------------------------------------------------------- */

/*
 * Shifts of 4 and 8 bytes with AVX2, which gives 0 (or the sign) for counts from the
 * elements' bits on: one shift to the left and one to the right, of which the wrong
 * one gives 0.  To round one to the right is to add the last bit that it loses.
 * d = n shifted by `count`, whose elements are whole numbers and are lost.
 */
static void shift_elements(a64_translator *t, unsigned size, bool is_signed, bool rounded, int d, int n, int count)
{
    unsigned w = size == 3 ? V_W : 0;
    int right = a64_tmp_v(t), lost = a64_tmp_v(t), sign = -1, bits = n;
    v_zero(t, right);
    v_op(t, V_PSUB + size, right, right, count);
    if (is_signed && size == 3) { /* there is no PSRAVQ: the bits that differ from the sign */
        sign = a64_tmp_v(t);
        bits = a64_tmp_v(t);
        v_signs(t, 3, sign, n);
        v_op(t, V_PXOR, bits, n, sign);
    }
    unsigned op = is_signed && size == 2 ? V_PSRAVD : V_PSRLVD | w;
    if (rounded) {
        v_op_m(t, V_PSUB + size, lost, right, v_repeated(t, size, 1));
        v_op(t, op, lost, bits, lost);
    }
    v_op(t, op, right, bits, right);
    if (sign >= 0) {
        v_op(t, V_PXOR, right, right, sign);
        if (rounded)
            v_op(t, V_PXOR, lost, lost, sign);
        a64_give_v(t, sign);
        a64_give_v(t, bits);
    }
    if (rounded) {
        v_op_m(t, V_PAND, lost, lost, v_repeated(t, size, 1));
        v_op(t, v_padd[size], right, right, lost);
    }
    v_signs(t, size, lost, count);
    v_op(t, V_PAND, right, right, lost);
    v_op(t, V_PSLLVD | w, count, n, count);
    v_op(t, V_POR, d, count, right);
    a64_give_v(t, right);
    a64_give_v(t, lost);
}

static void shift_variable(a64_translator *t, unsigned size, bool is_signed, bool rounded, unsigned rd, int n, int m,
                           unsigned q)
{
    int count = a64_tmp_v(t);
    if (size == 1) { /* as words, of which the lower half is the result */
        int low = a64_tmp_v(t), wide = a64_tmp_v(t), d;
        for (unsigned upper = 0; upper < (q == 1 ? 2u : 1u); upper++) {
            v_shift(t, V_PSLLW_I, count, m, 8);
            v_shift(t, V_PSRAW_I, count, count, 8);
            v_widen(t, 1, true, count, count, upper);
            v_widen(t, 1, is_signed, wide, n, upper);
            shift_elements(t, 2, is_signed, rounded, upper ? wide : low, wide, count);
        }
        x64_mem halves = a64_constant(t, UINT64_C(0x0d0c090805040100), UINT64_C(0x8080808080808080));
        d = a64_def_v(t, rd);
        if (q == 1) {
            v_op_m(t, V_PSHUFB, wide, wide, halves);
            v_op_m(t, V_PSHUFB, low, low, halves);
            v_op(t, V_PUNPCKLQDQ, d, low, wide);
        } else {
            v_op_m(t, V_PSHUFB, d, low, halves);
        }
        return;
    }
    if (size == 2) {
        v_shift(t, V_PSLLW_I + 1, count, m, 24);
        v_shift(t, V_PSRAW_I + 1, count, count, 24);
    } else {
        v_op_m(t, V_PAND, count, m, v_repeated(t, 3, 0xff));
        v_op_m(t, V_PXOR, count, count, v_repeated(t, 3, 0x80));
        v_op_m(t, V_PSUB + 3, count, count, v_repeated(t, 3, 0x80));
    }
    if (m != n)
        a64_give_v(t, m);
    shift_elements(t, size, is_signed, rounded, count, n, count);
    int d = a64_def_v(t, rd);
    v_move(t, d, count);
    v_end(t, d, q == 1);
}

static void shift_by_register(a64_translator *t, unsigned size, bool is_signed, bool rounded, unsigned rd, unsigned rn,
                              unsigned rm, unsigned q)
{
    int n = a64_use_v(t, rn), m = a64_use_v(t, rm);
    if (size >= 1 && a64_host_has.avx2)
        shift_variable(t, size, is_signed, rounded, rd, n, m, q);
    else
        v_soft_shift(t, size, is_signed, rounded, false, rd, n, m, q);
}

INSN(V_SHL_reg)
{
    shift_by_register(t, f->size, !f->U, f->R, f->rd, f->rn, f->rm, f->Q);
    return true;
}

INSN(S_SHL_reg)
{
    shift_by_register(t, 3, !f->U, f->R, f->rd, f->rn, f->rm, V_SCALAR);
    return true;
}

/* ---- narrower and wider ------------------------------------------------------------------------- */

/* A mask for PSHUFB: each byte `at` and its `count` - 1 followers of elements twice as large. */
static x64_mem halves(a64_translator *t, unsigned size, unsigned at)
{
    uint64_t low = 0;
    for (unsigned i = 0; i < 8; i++) {
        unsigned element = i >> size, byte = i & ((1u << size) - 1);
        low |= (uint64_t)((element << (size + 1)) + at + byte) << 8 * i;
    }
    return a64_constant(t, low, UINT64_C(0x8080808080808080));
}

/* Of elements of 2 << size bytes, with whole bytes taken from where they are. */
static void narrow(a64_translator *t, unsigned size, unsigned count, unsigned rd, int s, unsigned q)
{
    int result = q ? a64_tmp_v(t) : a64_def_v(t, rd);
    if (count & 7) {
        v_shift(t, V_PSRLW_I + size, result, s, count);
        s = result;
        count = 0;
    }
    v_op_m(t, V_PSHUFB, result, s, halves(t, size, count / 8));
    if (q)
        v_narrowed(t, rd, result, q);
}

INSN(V_SHRN)
{
    unsigned size = size_of(f->immh), count = right_of(f->immh, f->immb);
    int n = a64_use_v(t, f->rn);
    if (f->R) {
        int rounded = a64_tmp_v(t);
        v_op_m(t, v_padd[size + 1], rounded, n, v_repeated(t, size + 1, UINT64_C(1) << (count - 1)));
        n = rounded;
    }
    narrow(t, size, count, f->rd, n, f->Q);
    return true;
}

INSN(V_XTN)
{
    narrow(t, f->size, 0, f->rd, a64_use_v(t, f->rn), f->Q);
    return true;
}

INSN(V_ADDHN)
{
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm), sum = a64_tmp_v(t);
    unsigned wide = f->size + 1, bits = 8u << f->size;
    v_op(t, f->o1 ? V_PSUB + wide : v_padd[wide], sum, n, m);
    if (f->U)
        v_op_m(t, v_padd[wide], sum, sum, v_repeated(t, wide, UINT64_C(1) << (bits - 1)));
    narrow(t, f->size, bits, f->rd, sum, f->Q);
    return true;
}

INSN(V_SHLL_imm)
{
    unsigned size = size_of(f->immh);
    int n = a64_use_v(t, f->rn), d = a64_def_v(t, f->rd);
    v_widen(t, size, !f->U, d, n, f->Q);
    v_shift_left(t, size + 1, d, d, left_of(f->immh, f->immb));
    return true;
}

INSN(V_SHLL)
{
    int n = a64_use_v(t, f->rn), zero = a64_tmp_v(t), d = a64_def_v(t, f->rd);
    v_zero(t, zero);
    v_op(t, (f->Q ? V_PUNPCKHBW : V_PUNPCKLBW) + f->size, d, zero, n);
    return true;
}
