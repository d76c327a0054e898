/* Floating point on scalars, and what its files share: Arm ARM C4.1, Data Processing -- Scalar Floating-Point. */
#include "a64_fp.h"

/* ---- calls of a64_soft.c ----------------------------------------------------------------- */

void fp_call(a64_translator *t, soft_call call)
{
    x_byte(&t->e, 0xe8);
    x_word(&t->e, 0);
    x_land_at(t->e.at - 4, a64_pieces_of(t->engine)->soft_fp + t->code->view);
    memcpy(t->e.at, &call, sizeof call);
    t->e.at += sizeof call;
}

static void write_call(a64_translator *t, const a64_later *later)
{
    soft_call call;
    memcpy(&call, later->note, sizeof call);
    fp_call(t, call);
    x_jmp_to(&t->e, later->back);
}

a64_later *fp_later(a64_translator *t, uint8_t *from, soft_call call)
{
    a64_later *later = a64_write_later(t, from, write_call);
    memcpy(later->note, &call, sizeof call);
    return later;
}

/* ---- results ------------------------------------------------------------------------------ */

bool fp_clear(const a64_translator *t, unsigned n, unsigned size)
{
    return (size == 3 ? t->clear64 : size == 2 ? t->clear32 : 0) >> n & 1;
}

void fp_cleared(a64_translator *t, unsigned n, unsigned size)
{
    t->clear64 |= 1u << n;
    if (size <= 2)
        t->clear32 |= 1u << n;
}

int fp_result(a64_translator *t, unsigned rd, bool operand)
{
    return operand ? a64_tmp_v(t) : a64_def_v(t, rd);
}

void fp_finish(a64_translator *t, unsigned size, unsigned rd, int r, bool clear)
{
    if (!clear) {
        int d = a64_def_v(t, rd);
        if (size == 3)
            x_movq_rr(&t->e, d, r);
        else
            v_op_i(t, V_INSERTPS, d, r, r, 0x0e);
    } else {
        a64_become_v(t, rd, r);
    }
    fp_cleared(t, rd, size);
}

/* Where r is the least normal number. */
static uint8_t *least_normal(a64_translator *t, unsigned size, int r)
{
    x64_emit *e = &t->e;
    int bits = a64_tmp(t), w = size == 3;
    x_movd_rx(e, w, bits, r);
    x_alu_rr(e, X_ADD, w, bits, bits);
    if (w)
        x_alu_rm(e, X_CMP, 1, bits, a64_constant(t, UINT64_C(1) << 53, 0));
    else
        x_alu_ri(e, X_CMP, 0, bits, 1 << 24);
    a64_give(t, bits);
    return x_jcc(e, X_E);
}

void fp_check(a64_translator *t, unsigned size, int r, bool tiny, soft_call call)
{
    fp_ucomis(t, size, r, r, false);
    fp_later(t, x_jcc(&t->e, X_P), call);
    if (tiny && t->code->odd)
        fp_later(t, least_normal(t, size, r), call);
}

/* All of it in C: half precision, mostly. */
static bool soft(a64_translator *t, unsigned rd, int n, int m, int a, soft_call call)
{
    call.n = (uint8_t)n;
    call.m = (uint8_t)m;
    if (a >= 0)
        call.a = (uint8_t)a;
    call.d = (uint8_t)a64_def_v(t, rd);
    call.lanes = 1;
    fp_call(t, call);
    fp_cleared(t, rd, call.size);
    return true;
}

/* ---- arithmetic ----------------------------------------------------------------------------- */

static bool binary(a64_translator *t, unsigned ftype, unsigned code, enum soft_op op, unsigned rd, unsigned rn,
                   unsigned rm)
{
    unsigned size = fp_size(ftype);
    bool commutes = code == FP_ADD || code == FP_MUL;
    if (size == 1) {
        int n = a64_use_v(t, rn), m = a64_use_v(t, rm);
        return soft(t, rd, n, m, -1, (soft_call){.op = (uint8_t)op, .size = 1});
    }
    a64_flags_lose(t);
    int n = a64_use_v(t, rn), m = a64_use_v(t, rm);
    bool swap = commutes && !fp_clear(t, rn, size) && fp_clear(t, rm, size);
    bool clear = fp_clear(t, swap ? rm : rn, size);
    int r = fp_result(t, rd, rd == rn || rd == rm);
    v_op(t, fp_scalar(code, size), r, swap ? m : n, swap ? n : m);
    fp_check(t, size, r, code == FP_MUL || code == FP_DIV,
             (soft_call){.op = (uint8_t)op, .size = (uint8_t)size, .lanes = 1, .d = (uint8_t)r, .n = (uint8_t)n,
                         .m = (uint8_t)m});
    fp_finish(t, size, rd, r, clear);
    return true;
}

INSN(FADDSUB)
{
    return binary(t, f->ftype, f->op ? FP_SUB : FP_ADD, f->op ? SOFT_SUB : SOFT_ADD, f->rd, f->rn, f->rm);
}

INSN(FDIV)
{
    return binary(t, f->ftype, FP_DIV, SOFT_DIV, f->rd, f->rn, f->rm);
}

static uint64_t sign_bit(unsigned size)
{
    return UINT64_C(1) << (soft_bits(size) - 1);
}

INSN(FMUL)
{
    binary(t, f->ftype, FP_MUL, SOFT_MUL, f->rd, f->rn, f->rm);
    if (f->N) { /* FNMUL */
        int d = a64_use_v(t, f->rd);
        v_op_m(t, V_PXOR, d, d, a64_constant(t, sign_bit(fp_size(f->ftype)), 0));
    }
    return true;
}

INSN(FSQRT)
{
    unsigned size = fp_size(f->ftype);
    if (size == 1)
        return soft(t, f->rd, a64_use_v(t, f->rn), SOFT_NONE, -1, (soft_call){.op = SOFT_SQRT, .size = 1});
    a64_flags_lose(t);
    int n = a64_use_v(t, f->rn), r = fp_result(t, f->rd, f->rd == f->rn);
    bool clear = fp_clear(t, f->rn, size);
    v_op(t, fp_scalar(FP_SQRT, size), r, n, n);
    fp_check(t, size, r, false,
             (soft_call){.op = SOFT_SQRT, .size = (uint8_t)size, .lanes = 1, .d = (uint8_t)r, .n = (uint8_t)n,
                         .m = SOFT_NONE});
    fp_finish(t, size, f->rd, r, clear);
    return true;
}

INSN(FMADD)
{
    static const uint8_t codes[] = {FP_FMADD, FP_FNMADD, FP_FNMSUB, FP_FMSUB};
    unsigned size = fp_size(f->ftype), kind = f->o1 << 1 | f->o0;
    soft_call call = {.op = SOFT_FMA, .size = (uint8_t)size, .lanes = 1,
                      .extra = (uint8_t)((f->o0 ^ f->o1) | f->o1 << 1)};
    if (size == 1 || !a64_host_has.fma) {
        int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm), a = a64_use_v(t, f->ra);
        return soft(t, f->rd, n, m, a, call);
    }
    a64_flags_lose(t);
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm), a = a64_use_v(t, f->ra);
    int r = fp_result(t, f->rd, f->rd == f->rn || f->rd == f->rm || f->rd == f->ra);
    bool clear = true;
    if (fp_clear(t, f->rn, size) && !fp_clear(t, f->ra, size)) {
        x_movaps_rr(&t->e, r, n);
        v_op(t, fp_fused(codes[kind] - 0x10u, size, true), r, m, a);
    } else if (fp_clear(t, f->rm, size) && !fp_clear(t, f->ra, size)) {
        x_movaps_rr(&t->e, r, m);
        v_op(t, fp_fused(codes[kind] - 0x10u, size, true), r, n, a);
    } else {
        clear = fp_clear(t, f->ra, size);
        x_movaps_rr(&t->e, r, a);
        v_op(t, fp_fused(codes[kind], size, true), r, n, m);
    }
    call.d = (uint8_t)r;
    call.n = (uint8_t)n;
    call.m = (uint8_t)m;
    call.a = (uint8_t)a;
    fp_check(t, size, r, true, call);
    fp_finish(t, size, f->rd, r, clear);
    return true;
}

INSN(FABS)
{
    unsigned size = fp_size(f->ftype);
    int n = a64_use_v(t, f->rn), d = a64_def_v(t, f->rd);
    v_op_m(t, V_PAND, d, n, a64_constant(t, sign_bit(size) - 1, 0));
    fp_cleared(t, f->rd, size);
    return true;
}

INSN(FNEG)
{
    unsigned size = fp_size(f->ftype);
    bool clear = fp_clear(t, f->rn, size);
    int n = a64_use_v(t, f->rn), d = a64_def_v(t, f->rd);
    if (!clear) {
        v_op_m(t, V_PAND, d, n, a64_constant(t, sign_bit(size) | (sign_bit(size) - 1), 0));
        n = d;
    }
    v_op_m(t, V_PXOR, d, n, a64_constant(t, sign_bit(size), 0));
    fp_cleared(t, f->rd, size);
    return true;
}

/* Equal or unordered: notes 0: the call; 1: r, n, m, the instruction that makes +0 or -0 of both zeros. */
static void write_equal(a64_translator *t, const a64_later *later)
{
    x64_emit *e = &t->e;
    soft_call call;
    memcpy(&call, later->note, sizeof call);
    uint8_t *unordered = x_jcc8(e, X_P);
    x_movaps_rr(e, call.d, call.n);
    x_sse_rr(e, PP_66, MAP_0F, 0, later->note[1] & 0xff, call.d, call.m);
    x_jmp_to(e, later->back);
    x_land8(e, unordered);
    fp_call(t, call);
    x_jmp_to(e, later->back);
}

INSN(FMAXMIN)
{
    unsigned size = fp_size(f->ftype);
    enum soft_op op = f->nm ? f->op ? SOFT_MINNM : SOFT_MAXNM : f->op ? SOFT_MIN : SOFT_MAX;
    soft_call call = {.op = (uint8_t)op, .size = (uint8_t)size, .lanes = 1};
    if (size == 1 || t->code->odd) {
        int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm);
        return soft(t, f->rd, n, m, -1, call);
    }
    a64_flags_lose(t);
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm);
    bool clear = fp_clear(t, f->rn, size) && (!f->op || fp_clear(t, f->rm, size));
    int r = fp_result(t, f->rd, f->rd == f->rn || f->rd == f->rm);
    fp_ucomis(t, size, n, m, false);
    uint8_t *from = x_jcc(&t->e, X_E);
    v_op(t, fp_scalar(f->op ? FP_MIN : FP_MAX, size), r, n, m);
    call.d = (uint8_t)r;
    call.n = (uint8_t)n;
    call.m = (uint8_t)m;
    a64_later *later = a64_write_later(t, from, write_equal);
    memcpy(later->note, &call, sizeof call);
    later->note[1] = f->op ? V_POR & 0xff : V_PAND & 0xff;
    fp_finish(t, size, f->rd, r, clear);
    return true;
}

/* ---- rounding to an integer ------------------------------------------------------------------- */

void fp_round_away(a64_translator *t, unsigned size, int r, int n, bool exact, soft_call call)
{
    static const uint64_t ones[] = {[2] = 0x3f800000, [3] = UINT64_C(0x3ff) << 52};
    static const uint64_t halves[] = {[2] = 0x3f000000, [3] = UINT64_C(0x3fe) << 52};
    x64_emit *e = &t->e;
    /* All registers before the jump: what makes room for them must not be jumped over. */
    int w = size == 3, bits = a64_tmp(t), more = a64_tmp_v(t), sign = a64_tmp_v(t);
    /* Twice the bits: without the sign.  From 2 ** 52 on, or 2 ** 23, all numbers are integers. */
    x_movd_rx(e, w, bits, n);
    x_alu_rr(e, X_ADD, w, bits, bits);
    if (w)
        x_alu_rm(e, X_CMP, 1, bits, a64_constant(t, UINT64_C(0x433) << 53, 0));
    else
        x_alu_ri(e, X_CMP, 0, bits, (int32_t)(0x96u << 24));
    a64_give(t, bits);
    a64_later *later = fp_later(t, x_jcc(e, X_AE), call);
    /* Towards zero, and one more with n's sign where half or more has been cut off. */
    v_op_i(t, V_OP(PP_66, MAP_0F3A, w ? 0x0b : 0x0a), r, n, n, exact ? 3 : 8 | 3);
    v_op(t, fp_scalar(FP_SUB, size), sign, n, r);
    v_op_m(t, V_PAND, sign, sign, a64_constant(t, sign_bit(size) - 1, 0));
    x_movaps_rm(e, more, a64_constant(t, halves[size], 0));
    v_op_i(t, fp_scalar(0xc2, size), more, more, sign, 2); /* half <= rest */
    v_op_m(t, V_PAND, more, more, a64_constant(t, ones[size], 0));
    v_op_m(t, V_PAND, sign, n, a64_constant(t, sign_bit(size), 0));
    v_op(t, V_POR, more, more, sign);
    v_op(t, fp_scalar(FP_ADD, size), r, r, more);
    later->back = e->at;
    a64_give_v(t, more);
    a64_give_v(t, sign);
}

INSN(FRINT)
{
    enum { AWAY = 4, EXACT = 6, CURRENT = 7 };
    unsigned size = fp_size(f->ftype);
    soft_call call = {.op = SOFT_ROUND, .size = (uint8_t)size, .lanes = 1, .m = SOFT_NONE};
    call.extra = f->rmode == AWAY ? SOFT_AWAY : f->rmode == EXACT ? 7 | 8 : f->rmode == CURRENT ? 7 : (uint8_t)f->rmode;
    if (size == 1)
        return soft(t, f->rd, a64_use_v(t, f->rn), SOFT_NONE, -1, call);
    if (f->rmode == AWAY || t->code->odd)
        a64_flags_lose(t);
    int n = a64_use_v(t, f->rn), r = fp_result(t, f->rd, f->rd == f->rn);
    bool clear = fp_clear(t, f->rn, size);
    call.d = (uint8_t)r;
    call.n = (uint8_t)n;
    if (f->rmode == AWAY) {
        fp_round_away(t, size, r, n, false, call);
    } else {
        unsigned mode = f->rmode == EXACT ? 4 : f->rmode == CURRENT ? 4 | 8 : fp_rounding[f->rmode] | 8u;
        v_op_i(t, V_OP(PP_66, MAP_0F3A, size == 3 ? 0x0b : 0x0a), r, n, n, mode);
        if (t->code->odd)
            fp_check(t, size, r, false, call);
    }
    fp_finish(t, size, f->rd, r, clear);
    return true;
}

INSN(FRINTTS)
{
    soft_call call = {.op = SOFT_ROUND, .size = (uint8_t)fp_size(f->ftype), .m = SOFT_NONE, .a = f->op & 2 ? 64 : 32,
                      .extra = f->op & 1 ? 7 | 8 : SOFT_TO_ZERO | 8};
    return soft(t, f->rd, a64_use_v(t, f->rn), SOFT_NONE, -1, call);
}

/* ---- comparisons -------------------------------------------------------------------------------- */

/* True when the condition that uses the flags next is one that EFLAGS answer with operands swapped. */
static bool wanted_swapped(const a64_translator *t)
{
    enum { SWAPPED = 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << 9 }; /* CS CC MI PL HI LS */
    for (int i = t->index + 1; i < t->count; i++) {
        unsigned effect = a64_flags_of(t->encodings[i], t->words[i]);
        if (effect & A64_USES)
            return t->encodings[i] != A64_ADC &&
                   SWAPPED >> (t->words[i] >> (t->encodings[i] == A64_B_cond ? 0 : 12) & 15) & 1;
        if (effect & A64_SETS)
            return false;
    }
    return false;
}

/* UCOMIS or COMIS; rm < 0: with zero. */
static void compare(a64_translator *t, unsigned size, int n, int m, bool signalling, bool swapped)
{
    if (m < 0) {
        m = a64_tmp_v(t);
        v_zero(t, m);
    }
    fp_ucomis(t, size, swapped ? m : n, swapped ? n : m, signalling);
}

INSN(FCMP)
{
    unsigned size = fp_size(f->ftype);
    a64_flags_lose(t);
    int n = a64_use_v(t, f->rn), m = f->Z ? -1 : a64_use_v(t, f->rm);
    if (size == 1) {
        fp_call(t, (soft_call){.op = SOFT_COMPARE, .size = 1, .lanes = 1, .d = SOFT_NONE, .n = (uint8_t)n,
                               .m = f->Z ? SOFT_NONE : (uint8_t)m, .extra = (uint8_t)f->E});
        a64_flags_stored(t);
        return true;
    }
    bool swapped = wanted_swapped(t);
    compare(t, size, n, m, f->E, swapped);
    a64_flags_set(t, swapped ? FLAGS_FCMP_SWAP : FLAGS_FCMP);
    return true;
}

INSN(FCCMP)
{
    x64_emit *e = &t->e;
    unsigned size = fp_size(f->ftype);
    bool always = f->cond >= 14;
    if (always)
        a64_flags_lose(t);
    else
        a64_take(t, RAX);
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm);
    uint8_t *otherwise = always ? NULL : x_jcc8(e, a64_condition(t, f->cond) ^ 1);
    bool swapped = wanted_swapped(t);
    enum a64_flags form = FLAGS_SAVED;
    if (size == 1) {
        fp_call(t, (soft_call){.op = SOFT_COMPARE, .size = 1, .lanes = 1, .d = SOFT_NONE, .n = (uint8_t)n,
                               .m = (uint8_t)m, .extra = (uint8_t)f->E});
    } else {
        form = a64_flags_fccmp_form(f->nzcv, swapped);
        compare(t, size, n, m, f->E, form == FLAGS_FCCMP_SWAP);
        if (form == FLAGS_FCMP_EQ) {
            t->flags = FLAGS_FCMP;
            a64_flags_order(t);
        }
    }
    if (!always) {
        uint8_t *done = x_jmp8(e);
        x_land8(e, otherwise);
        if (size == 1)
            x_mov_mi16(e, A64_AT(nzcv), a64_flags_bits(f->nzcv));
        else
            a64_flags_fccmp(t, f->nzcv, form);
        x_land8(e, done);
    }
    if (size == 1)
        a64_flags_stored(t);
    else
        a64_flags_set(t, form);
    return true;
}

/* Through general registers, where there is a conditional move. */
INSN(FCSEL)
{
    x64_emit *e = &t->e;
    unsigned size = fp_size(f->ftype);
    int w = size == 3;
    int n = a64_use_v(t, f->rn), bits = a64_tmp(t);
    x_movd_rx(e, w, bits, n);
    if (f->cond < 14) {
        int m = a64_use_v(t, f->rm), other = a64_tmp(t);
        x_movd_rx(e, w, other, m);
        x_cmov(e, a64_condition(t, f->cond) ^ 1, w, bits, other);
    }
    if (size == 1)
        x_movzx16_rr(e, bits, bits);
    x_movd_xr(e, w, a64_def_v(t, f->rd), bits);
    fp_cleared(t, f->rd, size);
    return true;
}
