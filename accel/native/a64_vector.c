/* Operations on vectors that take several x86 instructions. */
#include "a64_vector.h"

void v_select(a64_translator *t, int d, int mask, int a, int b)
{
    if (d == b) {
        int first = a64_tmp_v(t);
        v_op(t, V_PAND, first, a, mask);
        v_op(t, V_PANDN, mask, mask, b);
        v_op(t, V_POR, d, first, mask);
        a64_give_v(t, first);
        return;
    }
    v_op(t, V_PAND, d, a, mask);
    v_op(t, V_PANDN, mask, mask, b);
    v_op(t, V_POR, d, d, mask);
}

void v_signs(a64_translator *t, unsigned size, int d, int s)
{
    if (size == 0) {
        int zero = a64_tmp_v(t);
        v_zero(t, zero);
        v_op(t, V_PCMPGTB, d, zero, s);
        a64_give_v(t, zero);
    } else if (size < 3) {
        v_shift(t, V_PSRAW_I + size - 1, d, s, size == 1 ? 15 : 31);
    } else {
        v_shift(t, V_PSRAW_I + 1, d, s, 31);
        v_unary_i(t, V_PSHUFD, d, d, 0xf5);
    }
}

void v_greater(a64_translator *t, unsigned size, int d, int a, int b)
{
    if (size < 3) {
        v_op(t, V_PCMPGTB + size, d, a, b);
        return;
    }
    if (a64_host_has.sse42) {
        v_op(t, V_PCMPGTQ, d, a, b);
        return;
    }
    /* The upper halves decide, or where they are equal, the borrow of b - a. */
    int equal = a64_tmp_v(t), borrow = a64_tmp_v(t);
    v_op(t, V_PCMPEQB + 2, equal, a, b);
    v_op(t, V_PSUB + 3, borrow, b, a);
    v_op(t, V_PAND, equal, equal, borrow);
    v_op(t, V_PCMPGTB + 2, borrow, a, b);
    v_op(t, V_POR, d, equal, borrow);
    a64_give_v(t, equal);
    a64_give_v(t, borrow);
    v_signs(t, 3, d, d);
}

void v_shift_left(a64_translator *t, unsigned size, int d, int s, unsigned count)
{
    if (count == 0) {
        v_move(t, d, s);
    } else if (size == 0) {
        v_shift(t, V_PSLLW_I, d, s, count);
        v_op_m(t, V_PAND, d, d, v_repeated(t, 0, 0xffu << count & 0xff));
    } else {
        v_shift(t, V_PSLLW_I + size - 1, d, s, count);
    }
}

void v_shift_right(a64_translator *t, unsigned size, bool is_signed, int d, int s, unsigned count)
{
    if (count == 0) {
        v_move(t, d, s);
        return;
    }
    if (!is_signed) {
        if (size == 0) {
            v_shift(t, V_PSRLW_I, d, s, count);
            v_op_m(t, V_PAND, d, d, v_repeated(t, 0, 0xffu >> count));
        } else {
            v_shift(t, V_PSRLW_I + size - 1, d, s, count);
        }
        return;
    }
    unsigned bits = 8u << size;
    if (count >= bits - 1 && size != 1 && size != 2) {
        v_signs(t, size, d, s);
    } else if (size == 0) {
        unsigned sign = 0x80u >> count;
        v_shift(t, V_PSRLW_I, d, s, count);
        v_op_m(t, V_PAND, d, d, v_repeated(t, 0, 0xffu >> count));
        v_op_m(t, V_PXOR, d, d, v_repeated(t, 0, sign));
        v_op_m(t, V_PSUB, d, d, v_repeated(t, 0, sign));
    } else if (size < 3) {
        v_shift(t, V_PSRAW_I + size - 1, d, s, count);
    } else {
        int high = a64_tmp_v(t);
        if (count < 32) {
            v_shift(t, V_PSRAW_I + 1, high, s, count);
            v_shift(t, V_PSRLW_I + 2, d, s, count);
        } else {
            v_shift(t, V_PSRAW_I + 1, high, s, 31);
            if (count > 32)
                v_shift(t, V_PSRAW_I + 1, d, s, count - 32);
            v_unary_i(t, V_PSHUFD, d, count > 32 ? d : s, 0xf5);
        }
        v_op_i(t, V_PBLENDW, d, d, high, 0xcc);
        a64_give_v(t, high);
    }
}

void v_shift_rounded(a64_translator *t, unsigned size, bool is_signed, int d, int s, unsigned count)
{
    /* Plus the highest bit that is shifted out. */
    int out = a64_tmp_v(t);
    if (size == 0) {
        v_move(t, out, s);
        if (count > 1)
            v_shift(t, V_PSRLW_I, out, out, count - 1);
        v_op_m(t, V_PAND, out, out, v_repeated(t, 0, 1));
    } else {
        unsigned bits = 8u << size;
        v_shift(t, V_PSLLW_I + size - 1, out, s, bits - count);
        v_shift(t, V_PSRLW_I + size - 1, out, out, bits - 1);
    }
    v_shift_right(t, size, is_signed, d, s, count);
    v_op(t, v_padd[size], d, d, out);
    a64_give_v(t, out);
}

void v_widen(a64_translator *t, unsigned size, bool is_signed, int d, int s, bool upper)
{
    static const unsigned moves[2][3] = {{V_PMOVZXBW, V_PMOVZXWD, V_PMOVZXDQ}, {V_PMOVSXBW, V_PMOVSXWD, V_PMOVSXDQ}};
    if (upper)
        v_unary_i(t, V_PSHUFD, d, s, 0xee);
    v_unary(t, moves[is_signed][size], d, upper ? d : s);
}

void v_broadcast(a64_translator *t, unsigned size, int d, int s, unsigned index)
{
    if (size == 3) {
        v_op(t, index ? V_PUNPCKHQDQ : V_PUNPCKLQDQ, d, s, s);
    } else if (size == 2) {
        v_unary_i(t, V_PSHUFD, d, s, index * 0x55);
    } else {
        uint64_t low = size == 0 ? index * UINT64_C(0x0101010101010101)
                                 : 2 * index * UINT64_C(0x0101010101010101) + UINT64_C(0x0100010001000100);
        v_op_m(t, V_PSHUFB, d, s, a64_constant(t, low, low));
    }
}

void v_narrowed(a64_translator *t, unsigned rd, int s, unsigned q)
{
    if (!q) {
        x_movq_rr(&t->e, a64_def_v(t, rd), s);
        return;
    }
    int d = a64_use_v(t, rd);
    a64_def_v(t, rd);
    v_op(t, V_PUNPCKLQDQ, d, d, s);
}

void v_saturated(a64_translator *t, int s)
{
    v_op_m(t, V_POR, s, s, A64_AT(qc));
    x_movaps_mr(&t->e, A64_AT(qc), s);
}

void v_scalar(a64_translator *t, unsigned size, int d, int s)
{
    const uint64_t none = UINT64_C(0x8080808080808080);
    if (size == 3)
        x_movq_rr(&t->e, d, s);
    else if (size == 2)
        v_op_i(t, V_INSERTPS, d, s, s, 14);
    else
        v_op_m(t, V_PSHUFB, d, s, a64_constant(t, (none & ~v_all(size)) | (size ? 0x100 : 0), none));
}

unsigned v_extreme(bool minimum, bool is_signed, unsigned size)
{
    static const unsigned ops[2][2][3] = {
        {{V_PMAXUB, V_PMAXUW, V_PMAXUD}, {V_PMAXSB, V_PMAXSW, V_PMAXSD}},
        {{V_PMINUB, V_PMINUW, V_PMINUD}, {V_PMINSB, V_PMINSW, V_PMINSD}},
    };
    return ops[minimum][is_signed][size];
}

void v_add_or_subtract(a64_translator *t, unsigned size, bool subtract, int d, int n, int m)
{
    v_op(t, subtract ? V_PSUB + size : v_padd[size], d, n, m);
}

void v_difference(a64_translator *t, unsigned size, bool is_signed, int d, int n, int m)
{
    int least = a64_tmp_v(t);
    v_op(t, v_extreme(true, is_signed, size), least, n, m);
    v_op(t, v_extreme(false, is_signed, size), d, n, m);
    v_op(t, V_PSUB + size, d, d, least);
    a64_give_v(t, least);
}

void v_absolute(a64_translator *t, unsigned size, bool negate, int d, int n)
{
    int sign = a64_tmp_v(t);
    if (negate) {
        v_zero(t, sign);
        v_op(t, V_PSUB + size, d, sign, n);
    } else if (size < 3) {
        v_unary(t, V_PABSB + size, d, n);
    } else {
        v_signs(t, 3, sign, n);
        v_op(t, V_PXOR, d, n, sign);
        v_op(t, V_PSUB + 3, d, d, sign);
    }
    a64_give_v(t, sign);
}

int v_element(a64_translator *t, unsigned size, unsigned rm, unsigned h, unsigned l, unsigned m)
{
    unsigned in_use = t->vector.locked;
    int s = a64_use_v(t, size == 1 ? rm : m << 4 | rm), all = a64_tmp_v(t);
    v_broadcast(t, size, all, s, size == 1 ? h << 2 | l << 1 | m : h << 1 | l);
    if (!(in_use >> s & 1))
        a64_give_v(t, s);
    return all;
}

void v_multiply_long(a64_translator *t, unsigned size, bool is_signed, int d, int n, int m, bool upper)
{
    int other = a64_tmp_v(t), one = a64_tmp_v(t);
    if (size == 0) {
        v_widen(t, 0, is_signed, other, m, upper);
        v_widen(t, 0, is_signed, d, n, upper);
        v_op(t, V_PMULLW, d, d, other);
    } else if (size == 1) {
        v_op(t, is_signed ? V_PMULHW : V_PMULHUW, other, n, m);
        v_op(t, V_PMULLW, one, n, m);
        v_op(t, (upper ? V_PUNPCKHBW : V_PUNPCKLBW) + 1, d, one, other);
    } else {
        unsigned order = upper ? 0xfa : 0x50;
        v_unary_i(t, V_PSHUFD, one, n, order);
        v_unary_i(t, V_PSHUFD, other, m, order);
        v_op(t, is_signed ? V_PMULDQ : V_PMULUDQ, d, one, other);
    }
    a64_give_v(t, other);
    a64_give_v(t, one);
}
