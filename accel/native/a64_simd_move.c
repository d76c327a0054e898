/* Advanced SIMD: copies, constants, permutations, table lookups; moves of floating-point registers. */
#include "a64_vector.h"

/* d = a constant of 128 bits. */
static void load_constant(a64_translator *t, int d, uint64_t low, uint64_t high)
{
    x64_emit *e = &t->e;
    if (!(low | high)) {
        v_zero(t, d);
    } else if ((low & high) == ~UINT64_C(0)) {
        v_ones(t, d);
    } else if (t->code->constant_count < TR_CONSTANTS / 2) {
        x_movaps_rm(e, d, a64_constant(t, low, high));
    } else { /* a guest that uses up the places */
        int bits = a64_tmp(t);
        x_mov_ri(e, bits, low);
        x_movd_xr(e, 1, d, bits);
        if (high)
            v_op(t, V_PUNPCKLQDQ, d, d, d);
    }
}

/* A mask for PSHUFB: one byte or halfword, below zeros. */
static x64_mem single(a64_translator *t, unsigned size, unsigned index)
{
    uint64_t none = UINT64_C(0x8080808080808080);
    uint64_t low = size == 0 ? (none & ~UINT64_C(0xff)) | index
                             : (none & ~UINT64_C(0xffff)) | (2 * index + 1) << 8 | 2 * index;
    return a64_constant(t, low, none);
}

/* ---- elements ------------------------------------------------------------------------------- */

static unsigned size_of(unsigned imm5)
{
    return (unsigned)__builtin_ctz(imm5);
}

static unsigned index_of(unsigned imm5)
{
    return imm5 >> (size_of(imm5) + 1);
}

INSN(V_DUP)
{
    x64_emit *e = &t->e;
    unsigned size = size_of(f->imm5);
    if (f->rn == A64_ZR) {
        v_zero(t, a64_def_v(t, f->rd));
        return true;
    }
    int n = a64_use(t, f->rn), d = a64_def_v(t, f->rd);
    x_movd_xr(e, size == 3, d, n);
    if (size == 3) {
        v_op(t, V_PUNPCKLQDQ, d, d, d);
    } else if (a64_host_has.avx2) {
        v_unary(t, size == 2 ? V_PBROADCASTD : V_PBROADCASTB + size, d, d);
    } else if (size == 0) {
        int zero = a64_tmp_v(t);
        v_zero(t, zero);
        v_op(t, V_PSHUFB, d, d, zero);
    } else {
        if (size == 1)
            v_unary_i(t, V_PSHUFLW, d, d, 0);
        v_unary_i(t, V_PSHUFD, d, d, 0);
    }
    v_end(t, d, f->Q);
    return true;
}

INSN(V_DUP_e)
{
    int n = a64_use_v(t, f->rn), d = a64_def_v(t, f->rd);
    v_broadcast(t, size_of(f->imm5), d, n, index_of(f->imm5));
    v_end(t, d, f->Q);
    return true;
}

INSN(S_DUP_e)
{
    x64_emit *e = &t->e;
    unsigned size = size_of(f->imm5), index = index_of(f->imm5);
    int n = a64_use_v(t, f->rn), d = a64_def_v(t, f->rd);
    if (size == 3) {
        if (index)
            v_shift(t, V_PSRLDQ_I, d, n, 8);
        else
            x_movq_rr(e, d, n);
    } else if (size == 2) {
        v_op_i(t, V_INSERTPS, d, n, n, index << 6 | 14);
    } else {
        v_op_m(t, V_PSHUFB, d, n, single(t, size, index));
    }
    return true;
}

/* An element, zero-extended. */
static void extract(a64_translator *t, unsigned size, unsigned index, int d, int n)
{
    x64_emit *e = &t->e;
    if (size >= 2 && index == 0) {
        x_movd_rx(e, size == 3, d, n);
        return;
    }
    if (size == 1)
        x_sse_rr(e, PP_66, MAP_0F, 0, 0xc5, d, n); /* pextrw */
    else
        x_sse_rr(e, PP_66, MAP_0F3A, size == 3, size ? 0x16 : 0x14, n, d); /* pextrd, pextrq, pextrb */
    x_byte(e, index);
}

/* Elements of n from a general register; the others stay. */
static void insert(a64_translator *t, unsigned size, unsigned index, int d, int n)
{
    x64_emit *e = &t->e;
    if (size == 1)
        x_sse_rr(e, PP_66, MAP_0F, 0, 0xc4, d, n); /* pinsrw */
    else
        x_sse_rr(e, PP_66, MAP_0F3A, size == 3, size ? 0x22 : 0x20, d, n); /* pinsrd, pinsrq, pinsrb */
    x_byte(e, index);
}

INSN(V_UMOV)
{
    int n = a64_use_v(t, f->rn);
    extract(t, size_of(f->imm5), index_of(f->imm5), a64_def(t, f->rd), n);
    return true;
}

INSN(V_SMOV)
{
    x64_emit *e = &t->e;
    unsigned size = size_of(f->imm5);
    int n = a64_use_v(t, f->rn), d = a64_def(t, f->rd);
    extract(t, size, index_of(f->imm5), d, n);
    if (size == 0)
        x_movsx8_rr(e, (int)f->Q, d, d);
    else if (size == 1)
        x_movsx16_rr(e, (int)f->Q, d, d);
    else
        x_movsxd_rr(e, d, d);
    return true;
}

INSN(V_INS)
{
    int n = a64_use(t, f->rn), d = a64_use_v(t, f->rd);
    a64_def_v(t, f->rd);
    insert(t, size_of(f->imm5), index_of(f->imm5), d, n);
    return true;
}

INSN(V_INS_e)
{
    unsigned size = size_of(f->imm5), to = index_of(f->imm5), from = f->imm4 >> size;
    int n = a64_use_v(t, f->rn), d = a64_use_v(t, f->rd);
    a64_def_v(t, f->rd);
    if (size == 3) {
        if (to)
            v_op_i(t, V_SHUFPD, d, d, n, from << 1);
        else if (from)
            v_op(t, V_MOVHLPS, d, d, n);
        else
            v_op(t, V_MOVSD, d, d, n);
    } else if (size == 2) {
        v_op_i(t, V_INSERTPS, d, d, n, from << 6 | to << 4);
    } else {
        int element = a64_tmp(t);
        extract(t, size, from, element, n);
        insert(t, size, to, d, element);
    }
    return true;
}

/* ---- constants -------------------------------------------------------------------------------- */

/* VFPExpandImm: an 8-bit immediate in a format with that many bits of exponent and fraction. */
static uint64_t float_imm(unsigned imm8, unsigned exponent, unsigned fraction)
{
    uint64_t sign = imm8 >> 7, high = imm8 >> 6 & 1;
    uint64_t run = high ? (UINT64_C(1) << (exponent - 3)) - 1 : 0;
    uint64_t exp = (high ^ 1) << (exponent - 1) | run << 2 | (imm8 >> 4 & 3);
    return sign << (exponent + fraction) | exp << fraction | (uint64_t)(imm8 & 15) << (fraction - 4);
}

/* AdvSIMDExpandImm: 64 bits. */
static uint64_t expand(unsigned op, unsigned cmode, unsigned o2, unsigned imm8)
{
    const uint64_t words = UINT64_C(0x0000000100000001), halves = UINT64_C(0x0001000100010001);
    uint64_t value = imm8;
    if (o2)
        return float_imm(imm8, 5, 10) * halves;
    switch (cmode >> 1) {
    case 0:
    case 1:
    case 2:
    case 3:
        return (value << 8 * (cmode >> 1)) * words;
    case 4:
    case 5:
        return (value << 8 * (cmode >> 1 & 1)) * halves;
    case 6:
        return (cmode & 1 ? value << 16 | 0xffff : value << 8 | 0xff) * words;
    default:
        if (!(cmode & 1) && op) {
            value = 0;
            for (int i = 0; i < 8; i++)
                if (imm8 >> i & 1)
                    value |= UINT64_C(0xff) << 8 * i;
            return value;
        }
        if (!(cmode & 1))
            return value * UINT64_C(0x0101010101010101);
        return op ? float_imm(imm8, 11, 52) : float_imm(imm8, 8, 23) * words;
    }
}

INSN(V_MOVI)
{
    uint64_t value = expand(f->op, f->cmode, f->o2, f->abc << 5 | f->defgh);
    uint64_t high = f->Q ? ~UINT64_C(0) : 0;
    if (f->cmode < 12 && f->cmode & 1) { /* ORR, BIC */
        int d = a64_use_v(t, f->rd), constant = a64_tmp_v(t);
        a64_def_v(t, f->rd);
        value = f->op ? ~value : value;
        load_constant(t, constant, value, value);
        v_op(t, f->op ? V_PAND : V_POR, d, d, constant);
        v_end(t, d, f->Q);
        return true;
    }
    if (f->op && f->cmode < 14)
        value = ~value;
    load_constant(t, a64_def_v(t, f->rd), value, value & high);
    return true;
}

INSN(FMOV_imm)
{
    uint64_t value = f->ftype == 1   ? float_imm(f->imm8, 11, 52)
                     : f->ftype == 0 ? float_imm(f->imm8, 8, 23)
                                     : float_imm(f->imm8, 5, 10);
    load_constant(t, a64_def_v(t, f->rd), value, 0);
    return true;
}

/* ---- floating-point registers ------------------------------------------------------------------- */

INSN(FMOV)
{
    int n = a64_use_v(t, f->rn);
    v_scalar(t, f->ftype == 3 ? 1 : 2 + f->ftype, a64_def_v(t, f->rd), n);
    return true;
}

INSN(FMOV_int)
{
    x64_emit *e = &t->e;
    unsigned size = f->ftype == 3 ? 1 : f->ftype == 0 ? 2 : 3;
    if (!f->op) {
        int n = a64_use_v(t, f->rn);
        extract(t, size, f->hi, a64_def(t, f->rd), n);
        return true;
    }
    if (f->hi) {
        int n = a64_use(t, f->rn), d = a64_use_v(t, f->rd);
        a64_def_v(t, f->rd);
        insert(t, 3, 1, d, n);
        return true;
    }
    if (f->rn == A64_ZR) {
        v_zero(t, a64_def_v(t, f->rd));
        return true;
    }
    int n = a64_use(t, f->rn);
    if (size == 1) {
        int half = a64_tmp(t);
        x_movzx16_rr(e, half, n);
        n = half;
    }
    x_movd_xr(e, size == 3, a64_def_v(t, f->rd), n);
    return true;
}

/* ---- permutations ----------------------------------------------------------------------------------- */

INSN(V_EXT)
{
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm), d = a64_def_v(t, f->rd);
    if (f->Q) {
        if (f->imm4)
            v_op_i(t, V_PALIGNR, d, m, n, f->imm4);
        else
            v_move(t, d, n);
        return true;
    }
    v_op(t, V_PUNPCKLQDQ, d, n, m);
    if (f->imm4)
        v_shift(t, V_PSRLDQ_I, d, d, f->imm4);
    v_end(t, d, 0);
    return true;
}

INSN(V_ZIP)
{
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm), d = a64_def_v(t, f->rd);
    unsigned low = f->size == 3 ? V_PUNPCKLQDQ : V_PUNPCKLBW + f->size;
    unsigned high = f->size == 3 ? V_PUNPCKHQDQ : V_PUNPCKHBW + f->size;
    if (f->Q) {
        v_op(t, f->o ? high : low, d, n, m);
        return true;
    }
    v_op(t, low, d, n, m);
    if (f->o)
        v_shift(t, V_PSRLDQ_I, d, d, 8);
    else
        v_end(t, d, 0);
    return true;
}

INSN(V_UZP)
{
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm);
    if (f->size == 3) {
        v_op(t, f->o ? V_PUNPCKHQDQ : V_PUNPCKLQDQ, a64_def_v(t, f->rd), n, m);
        return true;
    }
    if (f->size == 2) {
        int d = a64_def_v(t, f->rd);
        if (f->Q) {
            v_op_i(t, V_SHUFPS, d, n, m, f->o ? 0xdd : 0x88);
        } else {
            v_op(t, V_PUNPCKLBW + 2, d, n, m);
            if (f->o)
                v_shift(t, V_PSRLDQ_I, d, d, 8);
            else
                v_end(t, d, 0);
        }
        return true;
    }
    /* Elements become zero-extended ones of twice the size, which are packed. */
    int first = a64_tmp_v(t), second = a64_tmp_v(t), d = a64_def_v(t, f->rd);
    if (!f->Q) {
        v_op(t, V_PUNPCKLQDQ, first, n, m);
        n = m = first;
    }
    if (f->o) {
        v_shift(t, V_PSRLW_I + f->size, second, m, 8u << f->size);
        v_shift(t, V_PSRLW_I + f->size, first, n, 8u << f->size);
    } else {
        uint64_t low = f->size ? UINT64_C(0x0000ffff0000ffff) : UINT64_C(0x00ff00ff00ff00ff);
        x64_mem mask = a64_constant(t, low, low);
        v_op_m(t, V_PAND, second, m, mask);
        v_op_m(t, V_PAND, first, n, mask);
    }
    v_op(t, f->size ? V_PACKUSDW : V_PACKUSWB, d, first, second);
    v_end(t, d, f->Q);
    return true;
}

INSN(V_TRN)
{
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm);
    if (f->size == 3) {
        v_op(t, f->o ? V_PUNPCKHQDQ : V_PUNPCKLQDQ, a64_def_v(t, f->rd), n, m);
        return true;
    }
    int moved = a64_tmp_v(t), d;
    if (f->o)
        v_shift(t, V_PSRLW_I + f->size, moved, n, 8u << f->size);
    else
        v_shift(t, V_PSLLW_I + f->size, moved, m, 8u << f->size);
    if (f->size == 0) {
        uint64_t mask = f->o ? UINT64_C(0xff00ff00ff00ff00) : UINT64_C(0x00ff00ff00ff00ff);
        d = a64_def_v(t, f->rd);
        v_op_m(t, V_PAND, d, f->o ? m : n, a64_constant(t, mask, mask));
        v_op(t, V_POR, d, d, moved);
    } else {
        unsigned odd = f->size == 1 ? 0xaa : 0xcc;
        d = a64_def_v(t, f->rd);
        v_op_i(t, V_PBLENDW, d, f->o ? moved : n, f->o ? m : moved, odd);
    }
    v_end(t, d, f->Q);
    return true;
}

INSN(V_REV)
{
    int n = a64_use_v(t, f->rn), d = a64_def_v(t, f->rd);
    unsigned container = f->o0 ? 1 : f->U ? 2 : 3;
    /* Within a container an element's number is XORed with the greatest one. */
    unsigned flip = ((1u << container) - 1) & ~((1u << f->size) - 1);
    uint64_t low = 0, high = 0;
    for (unsigned i = 0; i < 8; i++) {
        low |= (uint64_t)(i ^ flip) << 8 * i;
        high |= (uint64_t)((8 + i) ^ flip) << 8 * i;
    }
    v_op_m(t, V_PSHUFB, d, n, a64_constant(t, low, f->Q ? high : UINT64_C(0x8080808080808080)));
    return true;
}

/*
 * PSHUFB gives 0 for an index with its highest bit set: an index into a table's
 * register is moved to where only 0 to 15 have it clear, by a saturating addition.
 */
INSN(V_TBL)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    int m = a64_use_v(t, f->rm), old = f->op ? a64_use_v(t, f->rd) : -1;
    int found = a64_tmp_v(t), index = a64_tmp_v(t);
    x64_mem in_range = a64_constant(t, 0x70 * ones, 0x70 * ones);
    for (unsigned i = 0; i <= f->len; i++) {
        int table = a64_use_v(t, (f->rn + i) & 31);
        if (i) {
            v_op_m(t, V_PSUB, index, m, a64_constant(t, 16 * i * ones, 16 * i * ones));
            v_op_m(t, V_PADDUSB, index, index, in_range);
            v_op(t, V_PSHUFB, index, table, index);
            v_op(t, V_POR, found, found, index);
        } else {
            v_op_m(t, V_PADDUSB, index, m, in_range);
            v_op(t, V_PSHUFB, found, table, index);
        }
        if (table != m && table != old)
            a64_give_v(t, table);
    }
    if (f->op) { /* TBX: what no index chose stays */
        uint64_t end = 16 * (f->len + 1) * ones;
        v_op_m(t, V_PMAXUB, index, m, a64_constant(t, end, end));
        v_op(t, V_PCMPEQB, index, index, m);
        v_op(t, V_PAND, index, index, old);
        v_op(t, V_POR, found, found, index);
    }
    int d = a64_def_v(t, f->rd);
    v_move(t, d, found);
    v_end(t, d, f->Q);
    return true;
}
