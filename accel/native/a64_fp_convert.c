/* Conversions of scalars: Arm ARM C4.1, between floating-point and integer, fixed-point, other precisions. */
#include "a64_fp.h"

enum { FROM_INTEGER = 0x2a, TO_INTEGER = 0x2c, PRECISION = 0x5a };

/* ---- to integers --------------------------------------------------------------------------------- */

/* Notes: 0 the call; 1 the general register; 2 64 bits. */
static void write_integer(a64_translator *t, const a64_later *later)
{
    soft_call call;
    memcpy(&call, later->note, sizeof call);
    fp_call(t, call);
    x_mov_rm(&t->e, (int)later->note[2], (int)later->note[1], A64_AT(argument));
    x_jmp_to(&t->e, later->back);
}

static void integer_later(a64_translator *t, uint8_t *from, soft_call call, int d, int w)
{
    a64_later *later = a64_write_later(t, from, write_integer);
    memcpy(later->note, &call, sizeof call);
    later->note[1] = (uint64_t)d;
    later->note[2] = (uint64_t)w;
}

static double power(int n)
{
    uint64_t bits = (uint64_t)(1023 + n) << 52;
    double value;
    memcpy(&value, &bits, 8);
    return value;
}

static uint64_t bits_of(unsigned size, double value)
{
    uint64_t bits = 0;
    float single = (float)value;
    memcpy(&bits, size == 3 ? (const void *)&value : (const void *)&single, 1u << size);
    return bits;
}

/* Rounds, and converts what fits; the rest goes out of line. */
static bool to_integer(a64_translator *t, unsigned size, unsigned sf, unsigned rd, unsigned rn, bool is_unsigned,
                       enum soft_rounding rounding, unsigned fraction)
{
    x64_emit *e = &t->e;
    int w = (int)sf;
    soft_call call = {.op = SOFT_TO_INT, .size = (uint8_t)size, .lanes = 1, .d = SOFT_NONE, .m = SOFT_NONE,
                      .a = (uint8_t)fraction,
                      .extra = (uint8_t)((unsigned)rounding | (is_unsigned ? 8 : 0) | (sf ? 64 : 32))};
    if (size == 1) {
        call.n = (uint8_t)a64_use_v(t, rn);
        fp_call(t, call);
        x_mov_rm(e, w, a64_def(t, rd), A64_AT(argument));
        return true;
    }
    a64_flags_lose(t);
    int n = a64_use_v(t, rn), from = n;
    unsigned kind = size;
    uint8_t *early = NULL;
    call.n = (uint8_t)n;
    if (fraction) { /* exactly, in double precision */
        from = a64_tmp_v(t);
        if (size == 2) {
            v_op(t, fp_scalar(PRECISION, 2), from, n, n);
            kind = 3;
        }
        x64_mem scale = a64_constant(t, bits_of(3, power((int)fraction)), 0);
        v_op_m(t, fp_scalar(FP_MUL, 3), from, size == 2 ? from : n, scale);
    } else if (rounding == SOFT_AWAY) {
        from = a64_tmp_v(t);
        soft_call round = {.op = SOFT_ROUND, .size = (uint8_t)size, .lanes = 1, .d = (uint8_t)from, .n = (uint8_t)n,
                           .m = SOFT_NONE, .extra = SOFT_AWAY};
        fp_round_away(t, size, from, n, true, round);
    } else if (rounding != SOFT_TO_ZERO) {
        from = a64_tmp_v(t);
        v_op_i(t, V_OP(PP_66, MAP_0F3A, size == 3 ? 0x0b : 0x0a), from, n, n, fp_rounding[rounding]);
    }
    int wide = is_unsigned && !w ? a64_tmp(t) : -1, d = a64_def(t, rd);
    if (is_unsigned && w) { /* x86 would tell that it was invalid */
        x64_mem limit = a64_constant(t, bits_of(kind, power(63)), 0);
        x_sse_rm(e, kind == 3 ? PP_66 : PP_NONE, MAP_0F, 0, 0x2e, from, limit);
        early = x_jcc(e, X_AE);
    }
    x_sse_rr(e, kind == 3 ? PP_F2 : PP_F3, MAP_0F, w || wide >= 0, TO_INTEGER, wide >= 0 ? wide : d, from);
    int cc;
    if (wide >= 0) {
        x_mov_rr(e, 0, d, wide);
        x_alu_rr(e, X_CMP, 1, d, wide);
        cc = X_NE;
    } else if (is_unsigned) {
        x_test_rr(e, 1, d, d);
        cc = X_S;
    } else {
        x_alu_ri(e, X_CMP, w, d, 1);
        cc = X_O;
    }
    integer_later(t, x_jcc(e, cc), call, d, w);
    if (early != NULL)
        integer_later(t, early, call, d, w);
    return true;
}

INSN(FCVT_int)
{
    return to_integer(t, fp_size(f->ftype), f->sf, f->rd, f->rn, f->U, (enum soft_rounding)f->rmode, 0);
}

INSN(FCVTA_int)
{
    return to_integer(t, fp_size(f->ftype), f->sf, f->rd, f->rn, f->U, SOFT_AWAY, 0);
}

INSN(FCVTZ_fix)
{
    return to_integer(t, fp_size(f->ftype), f->sf, f->rd, f->rn, f->U, SOFT_TO_ZERO, 64 - f->scale);
}

INSN(FJCVTZS)
{
    a64_flags_lose(t);
    fp_call(t, (soft_call){.op = SOFT_JAVASCRIPT, .size = 3, .lanes = 1, .d = SOFT_NONE,
                           .n = (uint8_t)a64_use_v(t, f->rn), .m = SOFT_NONE});
    x_mov_rm(&t->e, 0, a64_def(t, f->rd), A64_AT(argument));
    a64_flags_stored(t);
    return true;
}

/* ---- from integers ---------------------------------------------------------------------------------- */

/* Half of a number from 2 ** 63 on, what is cut off as its lowest bit.  Notes: r, n, a temporary, the prefix. */
static void write_unsigned(a64_translator *t, const a64_later *later)
{
    x64_emit *e = &t->e;
    int r = (int)later->note[0], n = (int)later->note[1], half = (int)later->note[2], pp = (int)later->note[3];
    x_mov_rr(e, 1, half, n);
    x_shift_ri(e, X_SHR, 1, half, 1);
    uint8_t *even = NULL;
    x_test_ri(e, 0, n, 1);
    even = x_jcc8(e, X_E);
    x_alu_ri(e, X_OR, 1, half, 1);
    x_land8(e, even);
    x_sse_rr(e, pp, MAP_0F, 1, FROM_INTEGER, r, half);
    x_sse_rr(e, pp, MAP_0F, 0, FP_ADD, r, r);
    x_jmp_to(e, later->back);
}

static bool from_integer(a64_translator *t, unsigned size, unsigned sf, unsigned rd, unsigned rn, bool is_unsigned,
                         unsigned fraction)
{
    x64_emit *e = &t->e;
    int w = (int)sf;
    if (size == 1) {
        int n = a64_use(t, rn), bits = a64_tmp_v(t);
        x_movd_xr(e, w, bits, n);
        int d = a64_def_v(t, rd);
        fp_call(t, (soft_call){.op = SOFT_FROM_INT, .size = 1, .lanes = 1, .d = (uint8_t)d, .n = (uint8_t)bits,
                               .m = SOFT_NONE, .a = (uint8_t)fraction,
                               .extra = (uint8_t)((is_unsigned ? 8 : 0) | (sf ? 64 : 32))});
        fp_cleared(t, rd, 1);
        return true;
    }
    if (is_unsigned && w)
        a64_flags_lose(t);
    int n = a64_use(t, rn), pp = size == 3 ? PP_F2 : PP_F3;
    int d = a64_def_v(t, rd);
    v_zero(t, d);
    if (is_unsigned && w) {
        int half = a64_tmp(t);
        x_test_rr(e, 1, n, n);
        uint8_t *from = x_jcc(e, X_S);
        x_sse_rr(e, pp, MAP_0F, 1, FROM_INTEGER, d, n);
        a64_later *later = a64_write_later(t, from, write_unsigned);
        later->note[0] = (uint64_t)d;
        later->note[1] = (uint64_t)n;
        later->note[2] = (uint64_t)half;
        later->note[3] = (uint64_t)pp;
    } else if (is_unsigned) {
        int wide = a64_tmp(t);
        x_mov_rr(e, 0, wide, n);
        x_sse_rr(e, pp, MAP_0F, 1, FROM_INTEGER, d, wide);
    } else {
        x_sse_rr(e, pp, MAP_0F, w, FROM_INTEGER, d, n);
    }
    if (fraction)
        v_op_m(t, fp_scalar(FP_MUL, size), d, d, a64_constant(t, bits_of(size, power(-(int)fraction)), 0));
    fp_cleared(t, rd, size);
    return true;
}

INSN(CVTF_int)
{
    return from_integer(t, fp_size(f->ftype), f->sf, f->rd, f->rn, f->U, 0);
}

INSN(CVTF_fix)
{
    return from_integer(t, fp_size(f->ftype), f->sf, f->rd, f->rn, f->U, 64 - f->scale);
}

/* ---- precisions ------------------------------------------------------------------------------------------ */

INSN(FCVT)
{
    unsigned from = fp_size(f->ftype), to = fp_size(f->opc);
    soft_call call = {.op = SOFT_CONVERT, .size = (uint8_t)to, .lanes = 1, .m = SOFT_NONE, .a = 7,
                      .extra = (uint8_t)from};
    bool halves = a64_host_has.f16c && !t->code->odd;
    if (from == 1 && halves) {
        int bits = a64_tmp_v(t), n = a64_use_v(t, f->rn), d = a64_def_v(t, f->rd);
        v_zero(t, bits);
        v_op_i(t, V_PBLENDW, bits, bits, n, 1);
        x_vex_rr(&t->e, PP_66, MAP_0F38, 0, 0x13, d, 0, bits); /* vcvtph2ps */
        if (to == 3)
            v_unary(t, fp_packed(PRECISION, 2), d, d);
        fp_cleared(t, f->rd, to);
        return true;
    }
    if (from == 2 && to == 1 && halves) {
        int n = a64_use_v(t, f->rn);
        if (!fp_clear(t, f->rn, 2)) {
            int copy = a64_tmp_v(t);
            v_op_i(t, V_INSERTPS, copy, n, n, 0x0e);
            n = copy;
        }
        x_vex_rr(&t->e, PP_66, MAP_0F3A, 0, 0x1d, n, 0, a64_def_v(t, f->rd)); /* vcvtps2ph, as MXCSR rounds */
        x_byte(&t->e, 4);
        fp_cleared(t, f->rd, 1);
        return true;
    }
    if (from == 1 || to == 1) {
        call.n = (uint8_t)a64_use_v(t, f->rn);
        call.d = (uint8_t)a64_def_v(t, f->rd);
        fp_call(t, call);
        fp_cleared(t, f->rd, to);
        return true;
    }
    if (t->code->odd)
        a64_flags_lose(t);
    bool clear = fp_clear(t, f->rn, from);
    int n = a64_use_v(t, f->rn), r = fp_result(t, f->rd, f->rd == f->rn);
    if (clear) /* two elements, of which the other is 0 */
        v_unary(t, fp_packed(PRECISION, from), r, n);
    else
        v_op(t, fp_scalar(PRECISION, from), r, n, n);
    if (t->code->odd) {
        call.n = (uint8_t)n;
        call.d = (uint8_t)r;
        fp_check(t, to, r, to == 2, call);
    }
    fp_finish(t, to, f->rd, r, clear);
    return true;
}
