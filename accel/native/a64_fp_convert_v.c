/* Conversions on vectors, and the scalar forms of such instructions: Arm ARM C4.1, Advanced SIMD. */
#include "a64_fp.h"

enum { SCALAR = FP_SCALAR, FROM_INTEGER = 0x2a, TO_INTEGER = 0x2c, PRECISION = 0x5a, WORDS = 0x5b };

static uint64_t twice(uint32_t element)
{
    return (uint64_t)element << 32 | element;
}

/* ---- to integers ---------------------------------------------------------------------------- */

static bool to_integer_soft(a64_translator *t, unsigned q, unsigned size, bool is_unsigned, unsigned rounding,
                            unsigned fraction, unsigned rd, int n)
{
    return fp_soft(t, q, rd, n, SOFT_NONE,
                   (soft_call){.op = SOFT_TO_INT, .size = (uint8_t)size, .a = (uint8_t)fraction,
                               .extra = (uint8_t)(rounding | (is_unsigned ? 8u : 0) | soft_bits(size))});
}

static bool to_integer(a64_translator *t, unsigned q, unsigned size, bool is_unsigned, unsigned rounding, unsigned rd,
                       unsigned rn)
{
    x64_emit *e = &t->e;
    if (size == 1 || rounding == SOFT_AWAY || (is_unsigned && size == 3 && q != SCALAR))
        return to_integer_soft(t, q, size, is_unsigned, rounding, 0, rd, a64_use_v(t, rn));
    a64_flags_lose(t);
    int n = fp_source(t, rn, q), from = n, bits = -1;
    int r = fp_result(t, rd, rd == rn), other = a64_tmp_v(t);
    soft_call call = fp_call_of(SOFT_TO_INT, q, size, r, n, SOFT_NONE);
    call.a = 0;
    call.extra = (uint8_t)(rounding | (is_unsigned ? 8u : 0) | soft_bits(size));
    if (size == 3 || q == SCALAR)
        bits = a64_tmp(t);
    if (rounding != SOFT_TO_ZERO) {
        from = other;
        if (q == SCALAR)
            v_op_i(t, V_OP(PP_66, MAP_0F3A, size == 3 ? 0x0b : 0x0a), from, n, n, fp_rounding[rounding]);
        else
            v_unary_i(t, V_OP(PP_66, MAP_0F3A, size == 3 ? 9 : 8), from, n, fp_rounding[rounding]);
    }
    if (bits >= 0) { /* one by one */
        int w = size == 3, pp = w ? PP_F2 : PP_F3;
        uint8_t *low = NULL, *high = NULL;
        if (!is_unsigned) {
            x_sse_rr(e, pp, MAP_0F, w, TO_INTEGER, bits, from);
            x_alu_ri(e, X_CMP, w, bits, 1);
            low = x_jcc(e, X_O);
        } else if (w) { /* from 2 ** 63 on x86 would tell that it was invalid */
            x_sse_rm(e, PP_66, MAP_0F, 0, 0x2e, from, a64_constant(t, UINT64_C(1086) << 52, 0)); /* ucomisd */
            high = x_jcc(e, X_AE);
            x_sse_rr(e, pp, MAP_0F, 1, TO_INTEGER, bits, from);
            x_test_rr(e, 1, bits, bits);
            low = x_jcc(e, X_S);
        } else {
            int narrow = a64_tmp(t);
            x_sse_rr(e, pp, MAP_0F, 1, TO_INTEGER, bits, from);
            x_mov_rr(e, 0, narrow, bits);
            x_alu_rr(e, X_CMP, 1, narrow, bits);
            low = x_jcc(e, X_NE);
        }
        x_movd_xr(e, w, r, bits);
        if (q == 1) {
            v_unary_i(t, V_PSHUFD, other, from, 0xee);
            x_sse_rr(e, PP_F2, MAP_0F, 1, TO_INTEGER, bits, other);
            x_alu_ri(e, X_CMP, 1, bits, 1);
            high = x_jcc(e, X_O);
            x_movd_xr(e, 1, other, bits);
            v_op(t, V_PUNPCKLQDQ, r, r, other);
        }
        fp_later(t, low, call);
        if (high != NULL)
            fp_later(t, high, call);
    } else {
        /* What does not fit becomes 0x80000000; so does that number. */
        uint8_t *early = NULL;
        if (is_unsigned) { /* from 2 ** 31 on x86 would tell that it was invalid */
            int wide = a64_tmp_v(t);
            x_movaps_rm(e, wide, a64_constant(t, twice(0x4f000000), twice(0x4f000000)));
            v_op_i(t, fp_packed(0xc2, 2), wide, wide, from, 2);
            v_unary(t, V_PTEST, wide, wide);
            early = x_jcc(e, X_NE);
        }
        v_unary(t, V_OP(PP_F3, MAP_0F, WORDS), r, from);
        if (is_unsigned)
            v_shift(t, V_PSRAW_I + 1, other, r, 31);
        else
            v_op_m(t, V_PCMPEQB + 2, other, r, a64_constant(t, twice(0x80000000), twice(0x80000000)));
        v_unary(t, V_PTEST, other, other);
        fp_later(t, x_jcc(e, X_NE), call);
        if (early != NULL)
            fp_later(t, early, call);
    }
    if (q == SCALAR)
        fp_finish(t, size, rd, r, true);
    else
        fp_end(t, q, rd, r);
    return true;
}

/* o2, o1: N M P Z. */
static const uint8_t roundings[] = {SOFT_NEAREST, SOFT_DOWN, SOFT_UP, SOFT_TO_ZERO};

INSN(V_FCVT) { return to_integer(t, f->Q, 2 + f->sz, f->U, roundings[f->o2 << 1 | f->o1], f->rd, f->rn); }
INSN(V_FCVT_h) { return to_integer(t, f->Q, 1, f->U, roundings[f->o2 << 1 | f->o1], f->rd, f->rn); }
INSN(S_FCVT) { return to_integer(t, SCALAR, 2 + f->sz, f->U, roundings[f->o2 << 1 | f->o1], f->rd, f->rn); }
INSN(S_FCVT_h) { return to_integer(t, SCALAR, 1, f->U, roundings[f->o2 << 1 | f->o1], f->rd, f->rn); }
INSN(V_FCVTA) { return to_integer(t, f->Q, 2 + f->sz, f->U, SOFT_AWAY, f->rd, f->rn); }
INSN(V_FCVTA_h) { return to_integer(t, f->Q, 1, f->U, SOFT_AWAY, f->rd, f->rn); }
INSN(S_FCVTA) { return to_integer(t, SCALAR, 2 + f->sz, f->U, SOFT_AWAY, f->rd, f->rn); }
INSN(S_FCVTA_h) { return to_integer(t, SCALAR, 1, f->U, SOFT_AWAY, f->rd, f->rn); }

/* immh's highest bit is the element's size, and what it and immb are short of two of these is the fraction. */
static unsigned size_of(unsigned immh)
{
    return 31 - (unsigned)__builtin_clz(immh);
}

static unsigned fraction_of(unsigned immh, unsigned immb)
{
    return 2 * soft_bits(size_of(immh)) - (immh << 3 | immb);
}

INSN(V_FCVTZ_fix)
{
    return to_integer_soft(t, f->Q, size_of(f->immh), f->U, SOFT_TO_ZERO, fraction_of(f->immh, f->immb), f->rd,
                           a64_use_v(t, f->rn));
}

INSN(S_FCVTZ_fix)
{
    return to_integer_soft(t, SCALAR, size_of(f->immh), f->U, SOFT_TO_ZERO, fraction_of(f->immh, f->immb), f->rd,
                           a64_use_v(t, f->rn));
}

/* ---- from integers ----------------------------------------------------------------------------- */

/* 2 ** -fraction. */
static uint64_t scale_of(unsigned size, unsigned fraction)
{
    return size == 3 ? (uint64_t)(1023 - fraction) << 52 : twice((127 - fraction) << 23);
}

static bool from_integer(a64_translator *t, unsigned q, unsigned size, bool is_unsigned, unsigned fraction, unsigned rd,
                         unsigned rn)
{
    x64_emit *e = &t->e;
    if (size == 1)
        return fp_soft(t, q, rd, a64_use_v(t, rn), SOFT_NONE,
                       (soft_call){.op = SOFT_FROM_INT, .size = (uint8_t)size, .a = (uint8_t)fraction,
                                   .extra = (uint8_t)((is_unsigned ? 8u : 0) | soft_bits(size))});
    bool large = size == 3 && is_unsigned; /* as a vector, with 0 above */
    int n = fp_source(t, rn, large && q == SCALAR ? 0 : q), r = fp_result(t, rd, rd == rn), w = size == 3;
    if (!large && (q == SCALAR || size == 3)) {
        int bits = a64_tmp(t);
        x_movd_rx(e, w, bits, n);
        v_zero(t, r);
        x_sse_rr(e, w ? PP_F2 : PP_F3, MAP_0F, w || is_unsigned, FROM_INTEGER, r, bits);
        if (q == 1) {
            int other = a64_tmp_v(t);
            v_unary_i(t, V_PSHUFD, other, n, 0xee);
            x_movd_rx(e, 1, bits, other);
            v_zero(t, other);
            x_sse_rr(e, PP_F2, MAP_0F, 1, FROM_INTEGER, other, bits);
            v_op(t, V_PUNPCKLQDQ, r, r, other);
        }
    } else if (size == 2 && !is_unsigned) {
        v_unary(t, V_OP(PP_NONE, MAP_0F, WORDS), r, n);
    } else if (size == 2) { /* both halves exactly; their sum is rounded */
        int low = a64_tmp_v(t);
        v_shift(t, V_PSRLW_I + 1, r, n, 16);
        v_op_m(t, V_PAND, low, n, a64_constant(t, twice(0xffff), twice(0xffff)));
        v_unary(t, V_OP(PP_NONE, MAP_0F, WORDS), r, r);
        v_unary(t, V_OP(PP_NONE, MAP_0F, WORDS), low, low);
        v_op_m(t, fp_packed(FP_MUL, 2), r, r, a64_constant(t, twice(0x47800000), twice(0x47800000)));
        v_op(t, fp_packed(FP_ADD, 2), r, r, low);
    } else { /* 2 ** 84 + high * 2 ** 32, 2 ** 52 + low; no sign where an exact 0 is -0 */
        const uint64_t high = UINT64_C(0x4530000000000000), low = UINT64_C(0x4330000000000000);
        const uint64_t both = UINT64_C(0x4530000000100000), rest = UINT64_C(0x7fffffffffffffff);
        int other = a64_tmp_v(t);
        v_shift(t, V_PSRLW_I + 2, other, n, 32);
        v_op_m(t, V_POR, other, other, a64_constant(t, high, high));
        v_op_mi(t, V_PBLENDW, r, n, a64_constant(t, low, low), 0xcc);
        v_op_m(t, fp_packed(FP_SUB, 3), other, other, a64_constant(t, both, both));
        v_op(t, fp_packed(FP_ADD, 3), r, r, other);
        v_op_m(t, V_PAND, r, r, a64_constant(t, rest, rest));
    }
    if (fraction) {
        uint64_t scale = scale_of(size, fraction);
        v_op_m(t, fp_packed(FP_MUL, size), r, r, a64_constant(t, scale, scale));
    }
    if (q == SCALAR)
        fp_finish(t, size, rd, r, true);
    else
        fp_end(t, q, rd, r);
    return true;
}

INSN(V_CVTF) { return from_integer(t, f->Q, 2 + f->sz, f->U, 0, f->rd, f->rn); }
INSN(V_CVTF_h) { return from_integer(t, f->Q, 1, f->U, 0, f->rd, f->rn); }
INSN(S_CVTF) { return from_integer(t, SCALAR, 2 + f->sz, f->U, 0, f->rd, f->rn); }
INSN(S_CVTF_h) { return from_integer(t, SCALAR, 1, f->U, 0, f->rd, f->rn); }

INSN(V_CVTF_fix)
{
    return from_integer(t, f->Q, size_of(f->immh), f->U, fraction_of(f->immh, f->immb), f->rd, f->rn);
}

INSN(S_CVTF_fix)
{
    return from_integer(t, SCALAR, size_of(f->immh), f->U, fraction_of(f->immh, f->immb), f->rd, f->rn);
}

/* ---- precisions ------------------------------------------------------------------------------------- */

/* To the next narrower format, in the lower half of r; then to Vd's lower or upper half. */
static bool narrow(a64_translator *t, unsigned q, unsigned from, unsigned rounding, unsigned rd, unsigned rn)
{
    unsigned to = from - 1;
    int n = a64_use_v(t, rn), r = a64_tmp_v(t);
    soft_call call = fp_call_of(SOFT_CONVERT, 1, to, r, n, SOFT_NONE);
    call.lanes = fp_lanes(1, from);
    call.extra = (uint8_t)from;
    call.a = (uint8_t)rounding;
    if (from == 3 && rounding == 7 && !t->code->odd) {
        v_unary(t, fp_packed(PRECISION, 3), r, n);
    } else if (from == 2 && a64_host_has.f16c && !t->code->odd) {
        x_vex_rr(&t->e, PP_66, MAP_0F3A, 0, 0x1d, n, 0, r); /* vcvtps2ph, as MXCSR rounds */
        x_byte(&t->e, 4);
    } else {
        fp_call(t, call);
    }
    if (!q) {
        a64_become_v(t, rd, r);
        fp_cleared(t, rd, 3);
    } else {
        int d = a64_use_v(t, rd);
        a64_def_v(t, rd);
        v_op(t, V_PUNPCKLQDQ, d, d, r);
    }
    return true;
}

INSN(V_FCVTN) { return narrow(t, f->Q, 2 + f->sz, 7, f->rd, f->rn); }
INSN(V_FCVTXN) { return narrow(t, f->Q, 3, SOFT_ODD, f->rd, f->rn); }

INSN(S_FCVTXN)
{
    return fp_soft(t, SCALAR, f->rd, a64_use_v(t, f->rn), SOFT_NONE,
                   (soft_call){.op = SOFT_CONVERT, .size = 2, .extra = 3, .a = SOFT_ODD});
}

INSN(V_FCVTL)
{
    unsigned from = 1 + f->sz, to = from + 1;
    int n = a64_use_v(t, f->rn);
    if (t->code->odd || (from == 1 && !a64_host_has.f16c))
        return fp_soft(t, 1, f->rd, n, SOFT_NONE,
                       (soft_call){.op = SOFT_CONVERT, .size = (uint8_t)to, .extra = (uint8_t)from,
                                   .a = f->Q ? 8 | 7 : 7});
    if (f->Q) {
        int high = a64_tmp_v(t);
        v_unary_i(t, V_PSHUFD, high, n, 0xee);
        n = high;
    }
    int d = a64_def_v(t, f->rd);
    if (from == 2)
        v_unary(t, fp_packed(PRECISION, 2), d, n);
    else
        x_vex_rr(&t->e, PP_66, MAP_0F38, 0, 0x13, d, 0, n); /* vcvtph2ps */
    return true;
}
