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
