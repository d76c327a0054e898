/*
 * x86 vector instructions for the translator: in VEX form with three operands
 * where the host has AVX, else in SSE form with the moves that it takes.
 *
 * An instruction is a number V_OP(prefix, map, opcode), with V_COMMUTES where its
 * sources may change places.  Destinations may be sources.  In SSE form
 * `d = a op d` of what does not commute takes a temporary.
 */
#ifndef EMU_A64_VECTOR_H
#define EMU_A64_VECTOR_H

#include "a64.h"

#define V_OP(pp, map, code) ((unsigned)(pp) << 12 | (unsigned)(map) << 8 | (code))
/* How much of a vector counts, where it is not Q: 0 the lower half, 1 all. */
enum { V_SCALAR = 2 };
enum { V_COMMUTES = 1 << 16, V_W = 1 << 17 /* VEX.W, REX.W */ };

static inline int v_pp(unsigned op) { return (int)(op >> 12 & 3); }
static inline int v_map(unsigned op) { return (int)(op >> 8 & 3); }
static inline int v_w(unsigned op) { return op & V_W ? 1 : 0; }

static inline void v_move(a64_translator *t, int d, int s)
{
    if (d != s)
        x_movaps_rr(&t->e, d, s);
}

/* d = a op b. */
static inline void v_op(a64_translator *t, unsigned op, int d, int a, int b)
{
    x64_emit *e = &t->e;
    if (op & V_COMMUTES && (a64_host_has.avx ? b >= 8 && a < 8 : d == b)) {
        int other = a;
        a = b;
        b = other;
    }
    if (a64_host_has.avx) {
        x_vex_rr(e, v_pp(op), v_map(op), v_w(op), op & 0xff, d, a, b);
        return;
    }
    if (d == b && a != b) {
        int copy = a64_tmp_v(t);
        x_movaps_rr(e, copy, b);
        a64_give_v(t, copy);
        b = copy;
    }
    v_move(t, d, a);
    x_sse_rr(e, v_pp(op), v_map(op), v_w(op), op & 0xff, d, b);
}

/* d = a op memory: a64_constant() or another aligned operand. */
static inline void v_op_m(a64_translator *t, unsigned op, int d, int a, x64_mem m)
{
    if (a64_host_has.avx) {
        x_vex_rm(&t->e, v_pp(op), v_map(op), v_w(op), op & 0xff, d, a, m);
        return;
    }
    v_move(t, d, a);
    x_sse_rm(&t->e, v_pp(op), v_map(op), v_w(op), op & 0xff, d, m);
}

/* The same with an immediate operand. */
static inline void v_op_i(a64_translator *t, unsigned op, int d, int a, int b, unsigned imm)
{
    v_op(t, op, d, a, b);
    x_byte(&t->e, imm);
}

static inline void v_op_mi(a64_translator *t, unsigned op, int d, int a, x64_mem m, unsigned imm)
{
    m.after = 1;
    v_op_m(t, op, d, a, m);
    x_byte(&t->e, imm);
}

/* d = op s, for instructions that write the whole of d; s a register, memory, and with an immediate. */
static inline void v_unary(a64_translator *t, unsigned op, int d, int s)
{
    if (a64_host_has.avx)
        x_vex_rr(&t->e, v_pp(op), v_map(op), v_w(op), op & 0xff, d, 0, s);
    else
        x_sse_rr(&t->e, v_pp(op), v_map(op), v_w(op), op & 0xff, d, s);
}

static inline void v_unary_m(a64_translator *t, unsigned op, int d, x64_mem m)
{
    if (a64_host_has.avx)
        x_vex_rm(&t->e, v_pp(op), v_map(op), v_w(op), op & 0xff, d, 0, m);
    else
        x_sse_rm(&t->e, v_pp(op), v_map(op), v_w(op), op & 0xff, d, m);
}

static inline void v_unary_i(a64_translator *t, unsigned op, int d, int s, unsigned imm)
{
    v_unary(t, op, d, s);
    x_byte(&t->e, imm);
}

/* Shifts by an immediate: of V_OP's opcode 0x71 to 0x73, with /n in ModRM: d = s shifted. */
#define V_SHIFT_OP(code, n) (V_OP(PP_66, MAP_0F, code) | (unsigned)(n) << 20)
static inline void v_shift(a64_translator *t, unsigned op, int d, int s, unsigned count)
{
    x64_emit *e = &t->e;
    if (a64_host_has.avx) {
        x_vex_rr(e, PP_66, MAP_0F, 0, op & 0xff, (int)(op >> 20), d, s);
    } else {
        v_move(t, d, s);
        x_sse_rr(e, PP_66, MAP_0F, 0, op & 0xff, (int)(op >> 20), d);
    }
    x_byte(e, count);
}

/* By element size where the number is followed by + size: 0 B, 1 H, 2 S, 3 D. */
enum {
    V_PAND = V_OP(PP_66, MAP_0F, 0xdb) | V_COMMUTES,
    V_PANDN = V_OP(PP_66, MAP_0F, 0xdf), /* d = ~a & b */
    V_POR = V_OP(PP_66, MAP_0F, 0xeb) | V_COMMUTES,
    V_PXOR = V_OP(PP_66, MAP_0F, 0xef) | V_COMMUTES,
    V_PADDB = V_OP(PP_66, MAP_0F, 0xfc) | V_COMMUTES,
    V_PADDW = V_OP(PP_66, MAP_0F, 0xfd) | V_COMMUTES,
    V_PADDD = V_OP(PP_66, MAP_0F, 0xfe) | V_COMMUTES,
    V_PADDQ = V_OP(PP_66, MAP_0F, 0xd4) | V_COMMUTES,
    V_PSUB = V_OP(PP_66, MAP_0F, 0xf8), /* + size */
    V_PADDSB = V_OP(PP_66, MAP_0F, 0xec) | V_COMMUTES, /* + 0, 1 */
    V_PADDUSB = V_OP(PP_66, MAP_0F, 0xdc) | V_COMMUTES,
    V_PSUBSB = V_OP(PP_66, MAP_0F, 0xe8),
    V_PSUBUSB = V_OP(PP_66, MAP_0F, 0xd8),
    V_PAVGB = V_OP(PP_66, MAP_0F, 0xe0) | V_COMMUTES,
    V_PAVGW = V_OP(PP_66, MAP_0F, 0xe3) | V_COMMUTES,
    V_PCMPEQB = V_OP(PP_66, MAP_0F, 0x74) | V_COMMUTES, /* + 0 to 2 */
    V_PCMPEQQ = V_OP(PP_66, MAP_0F38, 0x29) | V_COMMUTES,
    V_PCMPGTB = V_OP(PP_66, MAP_0F, 0x64), /* + 0 to 2 */
    V_PCMPGTQ = V_OP(PP_66, MAP_0F38, 0x37), /* SSE4.2 */
    V_PMINUB = V_OP(PP_66, MAP_0F, 0xda) | V_COMMUTES,
    V_PMAXUB = V_OP(PP_66, MAP_0F, 0xde) | V_COMMUTES,
    V_PMINSW = V_OP(PP_66, MAP_0F, 0xea) | V_COMMUTES,
    V_PMAXSW = V_OP(PP_66, MAP_0F, 0xee) | V_COMMUTES,
    V_PMINSB = V_OP(PP_66, MAP_0F38, 0x38) | V_COMMUTES,
    V_PMINSD = V_OP(PP_66, MAP_0F38, 0x39) | V_COMMUTES,
    V_PMINUW = V_OP(PP_66, MAP_0F38, 0x3a) | V_COMMUTES,
    V_PMINUD = V_OP(PP_66, MAP_0F38, 0x3b) | V_COMMUTES,
    V_PMAXSB = V_OP(PP_66, MAP_0F38, 0x3c) | V_COMMUTES,
    V_PMAXSD = V_OP(PP_66, MAP_0F38, 0x3d) | V_COMMUTES,
    V_PMAXUW = V_OP(PP_66, MAP_0F38, 0x3e) | V_COMMUTES,
    V_PMAXUD = V_OP(PP_66, MAP_0F38, 0x3f) | V_COMMUTES,
    V_PMULLW = V_OP(PP_66, MAP_0F, 0xd5) | V_COMMUTES,
    V_PMULHW = V_OP(PP_66, MAP_0F, 0xe5) | V_COMMUTES,
    V_PMULHUW = V_OP(PP_66, MAP_0F, 0xe4) | V_COMMUTES,
    V_PMULHRSW = V_OP(PP_66, MAP_0F38, 0x0b) | V_COMMUTES,
    V_PMULLD = V_OP(PP_66, MAP_0F38, 0x40) | V_COMMUTES,
    V_PMULUDQ = V_OP(PP_66, MAP_0F, 0xf4) | V_COMMUTES,
    V_PMULDQ = V_OP(PP_66, MAP_0F38, 0x28) | V_COMMUTES,
    V_PMADDWD = V_OP(PP_66, MAP_0F, 0xf5) | V_COMMUTES,
    V_PMADDUBSW = V_OP(PP_66, MAP_0F38, 0x04), /* unsigned a, signed b */
    V_PSADBW = V_OP(PP_66, MAP_0F, 0xf6) | V_COMMUTES,
    V_PHADDW = V_OP(PP_66, MAP_0F38, 0x01),
    V_PHADDD = V_OP(PP_66, MAP_0F38, 0x02),
    V_PSIGNB = V_OP(PP_66, MAP_0F38, 0x08), /* + 0 to 2 */
    V_PSHUFB = V_OP(PP_66, MAP_0F38, 0x00),
    V_PALIGNR = V_OP(PP_66, MAP_0F3A, 0x0f), /* a: upper half */
    V_PBLENDW = V_OP(PP_66, MAP_0F3A, 0x0e),
    V_PUNPCKLBW = V_OP(PP_66, MAP_0F, 0x60), /* + 0 to 2 */
    V_PUNPCKLQDQ = V_OP(PP_66, MAP_0F, 0x6c),
    V_PUNPCKHBW = V_OP(PP_66, MAP_0F, 0x68), /* + 0 to 2 */
    V_PUNPCKHQDQ = V_OP(PP_66, MAP_0F, 0x6d),
    V_PACKSSWB = V_OP(PP_66, MAP_0F, 0x63),
    V_PACKSSDW = V_OP(PP_66, MAP_0F, 0x6b),
    V_PACKUSWB = V_OP(PP_66, MAP_0F, 0x67),
    V_PACKUSDW = V_OP(PP_66, MAP_0F38, 0x2b),
    V_SHUFPS = V_OP(PP_NONE, MAP_0F, 0xc6),
    V_SHUFPD = V_OP(PP_66, MAP_0F, 0xc6),
    V_MOVSS = V_OP(PP_F3, MAP_0F, 0x10), /* registers only: the rest of a */
    V_MOVSD = V_OP(PP_F2, MAP_0F, 0x10),
    V_MOVHLPS = V_OP(PP_NONE, MAP_0F, 0x12),
    V_INSERTPS = V_OP(PP_66, MAP_0F3A, 0x21),
    /* with one source */
    V_PABSB = V_OP(PP_66, MAP_0F38, 0x1c), /* + 0 to 2 */
    V_PSHUFD = V_OP(PP_66, MAP_0F, 0x70),
    V_PSHUFHW = V_OP(PP_F3, MAP_0F, 0x70),
    V_PSHUFLW = V_OP(PP_F2, MAP_0F, 0x70),
    V_PMOVSXBW = V_OP(PP_66, MAP_0F38, 0x20),
    V_PMOVSXWD = V_OP(PP_66, MAP_0F38, 0x23),
    V_PMOVSXDQ = V_OP(PP_66, MAP_0F38, 0x25),
    V_PMOVZXBW = V_OP(PP_66, MAP_0F38, 0x30),
    V_PMOVZXWD = V_OP(PP_66, MAP_0F38, 0x33),
    V_PMOVZXDQ = V_OP(PP_66, MAP_0F38, 0x35),
    V_MOVDDUP = V_OP(PP_F2, MAP_0F, 0x12),
    V_PTEST = V_OP(PP_66, MAP_0F38, 0x17), /* ZF where no bit of both is set */
    V_PHMINPOSUW = V_OP(PP_66, MAP_0F38, 0x41),
    V_PBROADCASTB = V_OP(PP_66, MAP_0F38, 0x78), /* AVX2; + 0, 1 */
    V_PBROADCASTD = V_OP(PP_66, MAP_0F38, 0x58), /* AVX2; + 0, 1 */
    /* shifts by an immediate; by the low 64 bits of b */
    V_PSRLW_I = V_SHIFT_OP(0x71, 2), /* + 0 to 2 */
    V_PSRAW_I = V_SHIFT_OP(0x71, 4), /* + 0, 1 */
    V_PSLLW_I = V_SHIFT_OP(0x71, 6), /* + 0 to 2 */
    V_PSRLDQ_I = V_SHIFT_OP(0x73, 3),
    V_PSLLDQ_I = V_SHIFT_OP(0x73, 7),
    V_PSRLVD = V_OP(PP_66, MAP_0F38, 0x45), /* AVX2, by each element of b; | V_W: of 8 bytes */
    V_PSRAVD = V_OP(PP_66, MAP_0F38, 0x46),
    V_PSLLVD = V_OP(PP_66, MAP_0F38, 0x47),
    V_PSRLW = V_OP(PP_66, MAP_0F, 0xd1), /* + 0 to 2 */
    V_PSRAW = V_OP(PP_66, MAP_0F, 0xe1), /* + 0, 1 */
    V_PSLLW = V_OP(PP_66, MAP_0F, 0xf1), /* + 0 to 2 */
};

static const unsigned v_padd[] = {V_PADDB, V_PADDW, V_PADDD, V_PADDQ};
static const unsigned v_pcmpeq[] = {V_PCMPEQB, V_PCMPEQB + 1, V_PCMPEQB + 2, V_PCMPEQQ};

static inline void v_zero(a64_translator *t, int d)
{
    x_pxor(&t->e, d, d);
}

static inline void v_ones(a64_translator *t, int d)
{
    v_op(t, V_PCMPEQB + 2, d, d, d);
}

/* d = ~s; takes a temporary where d is s. */
static inline void v_not(a64_translator *t, int d, int s)
{
    if (d != s) {
        v_ones(t, d);
        v_op(t, V_PXOR, d, d, s);
        return;
    }
    int ones = a64_tmp_v(t);
    v_ones(t, ones);
    v_op(t, V_PXOR, d, s, ones);
    a64_give_v(t, ones);
}

/* Ends an instruction on 64 bits: the upper half is cleared. */
static inline void v_end(a64_translator *t, int d, unsigned q)
{
    if (!q)
        x_movq_rr(&t->e, d, d);
}

/* An element's value repeated. */
static inline x64_mem v_repeated(a64_translator *t, unsigned size, uint64_t value)
{
    for (unsigned bits = 8u << size; bits < 64; bits *= 2)
        value = (value & ((UINT64_C(1) << bits) - 1)) | value << bits;
    return a64_constant(t, value, value);
}

static inline uint64_t v_highest(unsigned size)
{
    return UINT64_C(1) << ((8u << size) - 1);
}

static inline uint64_t v_all(unsigned size)
{
    return ~UINT64_C(0) >> (64 - (8u << size));
}

/*
 * What takes several x86 instructions (a64_vector.c).  Elements are of 1 << size bytes; d may be a source
 * unless said otherwise.
 */

/* Where the mask's bits are set a, else b.  The mask is a temporary and lost. */
void v_select(a64_translator *t, int d, int mask, int a, int b);
/* All bits as an element's highest one. */
void v_signs(a64_translator *t, unsigned size, int d, int s);
/* a > b, signed. */
void v_greater(a64_translator *t, unsigned size, int d, int a, int b);
/* Shifts by 0 to the elements' bits. */
void v_shift_left(a64_translator *t, unsigned size, int d, int s, unsigned count);
void v_shift_right(a64_translator *t, unsigned size, bool is_signed, int d, int s, unsigned count);
/* The same, rounded: count is not 0. */
void v_shift_rounded(a64_translator *t, unsigned size, bool is_signed, int d, int s, unsigned count);
/* The lower or upper half's elements at twice their size. */
void v_widen(a64_translator *t, unsigned size, bool is_signed, int d, int s, bool upper);
/* An element everywhere. */
void v_broadcast(a64_translator *t, unsigned size, int d, int s, unsigned index);
/* A narrow result in the low half of s becomes d: above zeros, or above d's low half, by Q.  Not d: s. */
void v_narrowed(a64_translator *t, unsigned rd, int s, unsigned q);
/* Sets FPSR.QC where any bit of s is set; s is a temporary and lost. */
void v_saturated(a64_translator *t, int s);
/* Minimum or maximum: an operation. */
unsigned v_extreme(bool minimum, bool is_signed, unsigned size);
void v_add_or_subtract(a64_translator *t, unsigned size, bool subtract, int d, int n, int m);
/* |n - m|. */
void v_difference(a64_translator *t, unsigned size, bool is_signed, int d, int n, int m);
/* Products at twice the size, of the lower or upper halves' elements. */
void v_multiply_long(a64_translator *t, unsigned size, bool is_signed, int d, int n, int m, bool upper);
/* |n| or -n. */
void v_absolute(a64_translator *t, unsigned size, bool negate, int d, int n);
/* SSHL, USHL and their like, out of line (a64_simd_soft.c). */
void v_soft_shift(a64_translator *t, unsigned size, bool is_signed, bool rounded, bool saturating, unsigned rd, int n,
                  int m, unsigned q);
/* Rm's element of a by-element form, everywhere in a temporary. */
int v_element(a64_translator *t, unsigned size, unsigned rm, unsigned h, unsigned l, unsigned m);
/* rd = function(rd, n, m): in argument[0] to [2], the result in the first; -1: none (a64_aes.c). */
void v_soft(a64_translator *t, void (*function)(a64_state *), unsigned rd, int n, int m);
/* A scalar of 1 << size bytes: the rest of d is cleared. */
void v_scalar(a64_translator *t, unsigned size, int d, int s);

#endif
