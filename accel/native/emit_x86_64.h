/*
 * Writing x86-64 instructions.
 *
 * An emitter is a place in memory that instructions are appended to; whoever
 * uses it sees to the room.  Names are Intel's.  `w` is 1 for 64-bit operands
 * and 0 for 32-bit ones, whose results clear the upper half.  Encodings: Intel
 * SDM volume 2, chapter 2 and appendix A.
 */
#ifndef EMU_EMIT_X86_64_H
#define EMU_EMIT_X86_64_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum x64_reg {
    RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15,
};

enum x64_alu { X_ADD, X_OR, X_ADC, X_SBB, X_AND, X_SUB, X_XOR, X_CMP };
enum x64_shift { X_ROL, X_ROR, X_RCL, X_RCR, X_SHL, X_SHR, X_SAR = 7 };
enum x64_unary { X_NOT = 2, X_NEG, X_MUL, X_IMUL, X_DIV, X_IDIV };
/* Conditions as they are encoded; the opposite has the lowest bit flipped. */
enum x64_cc {
    X_O, X_NO, X_B, X_AE, X_E, X_NE, X_BE, X_A, X_S, X_NS, X_P, X_NP, X_L, X_GE, X_LE, X_G,
};

/* Prefixes (pp) and opcode maps as VEX numbers them. */
enum { PP_NONE, PP_66, PP_F3, PP_F2 };
enum { MAP_0F = 1, MAP_0F38, MAP_0F3A };

typedef struct x64_emit {
    uint8_t *at;
    const uint8_t *origin; /* of X64_NEAR operands */
} x64_emit;

/*
 * [base + index << scale + disp]; index -1: none.  base X64_ABSOLUTE: the sign-extended address disp alone;
 * X64_NEAR: origin + disp, relative to rip; `after` is then the bytes of an immediate operand.
 */
typedef struct x64_mem {
    int8_t base;
    int8_t index;
    uint8_t scale;
    uint8_t after;
    int32_t disp;
} x64_mem;

enum { X64_ABSOLUTE = -1, X64_NEAR = -2 };

static inline x64_mem x64_at(int base, int32_t disp)
{
    return (x64_mem){.base = (int8_t)base, .index = -1, .scale = 0, .disp = disp};
}

static inline x64_mem x64_indexed(int base, int index, int scale, int32_t disp)
{
    return (x64_mem){.base = (int8_t)base, .index = (int8_t)index, .scale = (uint8_t)scale, .disp = disp};
}

static inline void x_byte(x64_emit *e, unsigned value)
{
    *e->at++ = (uint8_t)value;
}

static inline void x_word(x64_emit *e, uint32_t value)
{
    memcpy(e->at, &value, 4);
    e->at += 4;
}

static inline void x_quad(x64_emit *e, uint64_t value)
{
    memcpy(e->at, &value, 8);
    e->at += 8;
}

/* ModRM, SIB and displacement of a memory operand. */
static inline void x_modrm_mem(x64_emit *e, int reg, x64_mem m)
{
    unsigned r = ((unsigned)reg & 7) << 3;
    if (m.base == X64_NEAR) {
        x_byte(e, r | 5);
        x_word(e, (uint32_t)(e->origin + m.disp - (e->at + 4 + m.after)));
        return;
    }
    if (m.base < 0) {
        x_byte(e, r | 4);
        x_byte(e, m.index < 0 ? 0x25 : (unsigned)(m.scale << 6 | (m.index & 7) << 3 | 5));
        x_word(e, (uint32_t)m.disp);
        return;
    }
    bool sib = m.index >= 0 || (m.base & 7) == RSP;
    unsigned mod = m.disp == 0 && (m.base & 7) != RBP ? 0 : m.disp >= -128 && m.disp <= 127 ? 1 : 2;
    x_byte(e, mod << 6 | r | (sib ? 4u : (unsigned)m.base & 7));
    if (sib)
        x_byte(e, (unsigned)(m.scale << 6 | ((m.index < 0 ? RSP : m.index) & 7) << 3 | (m.base & 7)));
    if (mod == 1)
        x_byte(e, (unsigned)m.disp & 0xff);
    else if (mod == 2)
        x_word(e, (uint32_t)m.disp);
}

static inline void x_modrm_reg(x64_emit *e, int reg, int rm)
{
    x_byte(e, 0xc0u | ((unsigned)reg & 7) << 3 | ((unsigned)rm & 7));
}

static inline unsigned x_rex_mem(int w, int reg, x64_mem m)
{
    return (unsigned)(w << 3 | (reg >> 3 & 1) << 2 | (m.index >= 0 ? m.index >> 3 & 1 : 0) << 1 |
                      (m.base >= 0 ? m.base >> 3 & 1 : 0));
}

static inline unsigned x_rex_reg(int w, int reg, int rm)
{
    return (unsigned)(w << 3 | (reg >> 3 & 1) << 2 | (rm >> 3 & 1));
}

/* op of one byte, or 0x0f with a second where op is 0x0fNN.  byte_reg: reg or rm is spl, bpl, sil or dil. */
static inline void x_op_rr(x64_emit *e, int w, unsigned op, int reg, int rm)
{
    unsigned rex = x_rex_reg(w, reg, rm);
    if (rex)
        x_byte(e, 0x40 | rex);
    if (op > 0xff)
        x_byte(e, 0x0f);
    x_byte(e, op & 0xff);
    x_modrm_reg(e, reg, rm);
}

/* The same with 8-bit registers among the operands, where 4-7 need a prefix to be spl ... dil. */
static inline void x_op_rr8(x64_emit *e, int w, unsigned op, int reg, int rm)
{
    x_byte(e, 0x40 | x_rex_reg(w, reg, rm));
    if (op > 0xff)
        x_byte(e, 0x0f);
    x_byte(e, op & 0xff);
    x_modrm_reg(e, reg, rm);
}

static inline void x_op_rm(x64_emit *e, int w, unsigned op, int reg, x64_mem m)
{
    unsigned rex = x_rex_mem(w, reg, m);
    if (rex)
        x_byte(e, 0x40 | rex);
    if (op > 0xff)
        x_byte(e, 0x0f);
    x_byte(e, op & 0xff);
    x_modrm_mem(e, reg, m);
}

static inline void x_op_rm8(x64_emit *e, int w, unsigned op, int reg, x64_mem m)
{
    x_byte(e, 0x40 | x_rex_mem(w, reg, m));
    if (op > 0xff)
        x_byte(e, 0x0f);
    x_byte(e, op & 0xff);
    x_modrm_mem(e, reg, m);
}

/* ---- moves -------------------------------------------------------------------- */

static inline void x_mov_rr(x64_emit *e, int w, int d, int s)
{
    x_op_rr(e, w, 0x8b, d, s);
}

/* The shortest that loads the constant; flags stay. */
static inline void x_mov_ri(x64_emit *e, int d, uint64_t value)
{
    if (value <= UINT32_MAX) {
        if (d >= 8)
            x_byte(e, 0x41);
        x_byte(e, 0xb8 | ((unsigned)d & 7));
        x_word(e, (uint32_t)value);
    } else if ((int64_t)value == (int32_t)value) {
        x_byte(e, 0x48 | (unsigned)(d >> 3));
        x_byte(e, 0xc7);
        x_modrm_reg(e, 0, d);
        x_word(e, (uint32_t)value);
    } else {
        x_byte(e, 0x48 | (unsigned)(d >> 3));
        x_byte(e, 0xb8 | ((unsigned)d & 7));
        x_quad(e, value);
    }
}

static inline void x_mov_rm(x64_emit *e, int w, int d, x64_mem m)
{
    x_op_rm(e, w, 0x8b, d, m);
}

static inline void x_mov_mr(x64_emit *e, int w, x64_mem m, int s)
{
    x_op_rm(e, w, 0x89, s, m);
}

static inline void x_mov_mr16(x64_emit *e, x64_mem m, int s)
{
    x_byte(e, 0x66);
    x_op_rm(e, 0, 0x89, s, m);
}

static inline void x_mov_mr8(x64_emit *e, x64_mem m, int s)
{
    x_op_rm8(e, 0, 0x88, s, m);
}

static inline void x_mov_mi(x64_emit *e, int w, x64_mem m, int32_t value)
{
    x_op_rm(e, w, 0xc7, 0, m);
    x_word(e, (uint32_t)value);
}

static inline void x_mov_mi16(x64_emit *e, x64_mem m, unsigned value)
{
    x_byte(e, 0x66);
    x_op_rm(e, 0, 0xc7, 0, m);
    x_byte(e, value & 0xff);
    x_byte(e, value >> 8 & 0xff);
}

static inline void x_mov_mi8(x64_emit *e, x64_mem m, unsigned value)
{
    x_op_rm(e, 0, 0xc6, 0, m);
    x_byte(e, value & 0xff);
}

static inline void x_movzx8_rr(x64_emit *e, int d, int s) { x_op_rr8(e, 0, 0xfb6, d, s); }
static inline void x_movzx16_rr(x64_emit *e, int d, int s) { x_op_rr(e, 0, 0xfb7, d, s); }
static inline void x_movsx8_rr(x64_emit *e, int w, int d, int s) { x_op_rr8(e, w, 0xfbe, d, s); }
static inline void x_movsx16_rr(x64_emit *e, int w, int d, int s) { x_op_rr(e, w, 0xfbf, d, s); }
static inline void x_movsxd_rr(x64_emit *e, int d, int s) { x_op_rr(e, 1, 0x63, d, s); }
static inline void x_movzx8_rm(x64_emit *e, int d, x64_mem m) { x_op_rm(e, 0, 0xfb6, d, m); }
static inline void x_movzx16_rm(x64_emit *e, int d, x64_mem m) { x_op_rm(e, 0, 0xfb7, d, m); }
static inline void x_movsx8_rm(x64_emit *e, int w, int d, x64_mem m) { x_op_rm(e, w, 0xfbe, d, m); }
static inline void x_movsx16_rm(x64_emit *e, int w, int d, x64_mem m) { x_op_rm(e, w, 0xfbf, d, m); }
static inline void x_movsxd_rm(x64_emit *e, int d, x64_mem m) { x_op_rm(e, 1, 0x63, d, m); }

static inline void x_lea(x64_emit *e, int w, int d, x64_mem m)
{
    x_op_rm(e, w, 0x8d, d, m);
}

static inline void x_xchg_mr(x64_emit *e, int w, x64_mem m, int r)
{
    x_op_rm(e, w, 0x87, r, m);
}

static inline void x_bswap(x64_emit *e, int w, int d)
{
    unsigned rex = x_rex_reg(w, 0, d);
    if (rex)
        x_byte(e, 0x40 | rex);
    x_byte(e, 0x0f);
    x_byte(e, 0xc8 | ((unsigned)d & 7));
}

/* ---- arithmetic; flags change -------------------------------------------------- */

static inline void x_alu_rr(x64_emit *e, int op, int w, int d, int s)
{
    x_op_rr(e, w, (unsigned)op << 3 | 3, d, s);
}

static inline void x_alu_ri(x64_emit *e, int op, int w, int d, int32_t value)
{
    if (value >= -128 && value <= 127) {
        x_op_rr(e, w, 0x83, op, d);
        x_byte(e, (unsigned)value & 0xff);
    } else {
        x_op_rr(e, w, 0x81, op, d);
        x_word(e, (uint32_t)value);
    }
}

static inline void x_alu_rm(x64_emit *e, int op, int w, int d, x64_mem m)
{
    x_op_rm(e, w, (unsigned)op << 3 | 3, d, m);
}

static inline void x_alu_mr(x64_emit *e, int op, int w, x64_mem m, int s)
{
    x_op_rm(e, w, (unsigned)op << 3 | 1, s, m);
}

static inline void x_alu_mi(x64_emit *e, int op, int w, x64_mem m, int32_t value)
{
    if (value >= -128 && value <= 127) {
        x_op_rm(e, w, 0x83, op, m);
        x_byte(e, (unsigned)value & 0xff);
    } else {
        x_op_rm(e, w, 0x81, op, m);
        x_word(e, (uint32_t)value);
    }
}

static inline void x_test_rr(x64_emit *e, int w, int a, int b)
{
    x_op_rr(e, w, 0x85, b, a);
}

static inline void x_test_ri(x64_emit *e, int w, int a, int32_t value)
{
    x_op_rr(e, w, 0xf7, 0, a);
    x_word(e, (uint32_t)value);
}

static inline void x_test_mi8(x64_emit *e, x64_mem m, unsigned value)
{
    x_op_rm(e, 0, 0xf6, 0, m);
    x_byte(e, value & 0xff);
}

static inline void x_bt_ri(x64_emit *e, int w, int a, unsigned bit)
{
    x_op_rr(e, w, 0xfba, 4, a);
    x_byte(e, bit);
}

static inline void x_unary(x64_emit *e, int op, int w, int d)
{
    x_op_rr(e, w, 0xf7, op, d);
}

static inline void x_imul_rr(x64_emit *e, int w, int d, int s)
{
    x_op_rr(e, w, 0xfaf, d, s);
}

static inline void x_imul_rm(x64_emit *e, int w, int d, x64_mem m)
{
    x_op_rm(e, w, 0xfaf, d, m);
}

static inline void x_shift_ri(x64_emit *e, int op, int w, int d, unsigned count)
{
    x_op_rr(e, w, 0xc1, op, d);
    x_byte(e, count);
}

/* By CL. */
static inline void x_shift_cl(x64_emit *e, int op, int w, int d)
{
    x_op_rr(e, w, 0xd3, op, d);
}

static inline void x_shrd_ri(x64_emit *e, int w, int d, int s, unsigned count)
{
    x_op_rr(e, w, 0xfac, s, d);
    x_byte(e, count);
}

static inline void x_cdq(x64_emit *e, int w)
{
    if (w)
        x_byte(e, 0x48);
    x_byte(e, 0x99);
}

/* ---- flags --------------------------------------------------------------------- */

static inline void x_cmc(x64_emit *e) { x_byte(e, 0xf5); }
static inline void x_lahf(x64_emit *e) { x_byte(e, 0x9f); }
static inline void x_sahf(x64_emit *e) { x_byte(e, 0x9e); }

static inline void x_setcc(x64_emit *e, int cc, int d)
{
    x_op_rr8(e, 0, 0xf90u | (unsigned)cc, 0, d);
}

static inline void x_cmov(x64_emit *e, int cc, int w, int d, int s)
{
    x_op_rr(e, w, 0xf40u | (unsigned)cc, d, s);
}

static inline void x_cmov_rm(x64_emit *e, int cc, int w, int d, x64_mem m)
{
    x_op_rm(e, w, 0xf40u | (unsigned)cc, d, m);
}

/* ---- jumps ---------------------------------------------------------------------- */

/* Jumps whose target comes later: the place of its 4 bytes, for x_land. */
static inline uint8_t *x_jcc(x64_emit *e, int cc)
{
    x_byte(e, 0x0f);
    x_byte(e, 0x80u | (unsigned)cc);
    x_word(e, 0);
    return e->at - 4;
}

static inline uint8_t *x_jmp(x64_emit *e)
{
    x_byte(e, 0xe9);
    x_word(e, 0);
    return e->at - 4;
}

/* The same within 127 bytes, for x_land8. */
static inline uint8_t *x_jcc8(x64_emit *e, int cc)
{
    x_byte(e, 0x70u | (unsigned)cc);
    x_byte(e, 0);
    return e->at - 1;
}

static inline uint8_t *x_jmp8(x64_emit *e)
{
    x_byte(e, 0xeb);
    x_byte(e, 0);
    return e->at - 1;
}

static inline void x_land_at(uint8_t *place, const uint8_t *target)
{
    int32_t distance = (int32_t)(target - (place + 4));
    memcpy(place, &distance, 4);
}

static inline void x_land(x64_emit *e, uint8_t *place)
{
    x_land_at(place, e->at);
}

static inline void x_land8(x64_emit *e, uint8_t *place)
{
    *place = (uint8_t)(e->at - (place + 1));
}

/* To a place of the same view of the code. */
static inline void x_jmp_to(x64_emit *e, const uint8_t *target)
{
    x_land_at(x_jmp(e), target);
}

static inline void x_jcc_to(x64_emit *e, int cc, const uint8_t *target)
{
    x_land_at(x_jcc(e, cc), target);
}

static inline void x_jmp_m(x64_emit *e, x64_mem m)
{
    x_op_rm(e, 0, 0xff, 4, m);
}

static inline void x_jmp_r(x64_emit *e, int r)
{
    x_op_rr(e, 0, 0xff, 4, r);
}

static inline void x_call_r(x64_emit *e, int r)
{
    x_op_rr(e, 0, 0xff, 2, r);
}

static inline void x_call_m(x64_emit *e, x64_mem m)
{
    x_op_rm(e, 0, 0xff, 2, m);
}

/* ---- vectors: legacy SSE and VEX ------------------------------------------------- */

static inline void x_sse_prefix(x64_emit *e, int pp, unsigned rex, int map)
{
    static const uint8_t prefixes[] = {0, 0x66, 0xf3, 0xf2};
    if (pp)
        x_byte(e, prefixes[pp]);
    if (rex)
        x_byte(e, 0x40 | rex);
    x_byte(e, 0x0f);
    if (map != MAP_0F)
        x_byte(e, map == MAP_0F38 ? 0x38 : 0x3a);
}

/* w: REX.W, for moves from and to 64-bit general registers and conversions. */
static inline void x_sse_rr(x64_emit *e, int pp, int map, int w, unsigned op, int reg, int rm)
{
    x_sse_prefix(e, pp, x_rex_reg(w, reg, rm), map);
    x_byte(e, op);
    x_modrm_reg(e, reg, rm);
}

static inline void x_sse_rm(x64_emit *e, int pp, int map, int w, unsigned op, int reg, x64_mem m)
{
    x_sse_prefix(e, pp, x_rex_mem(w, reg, m), map);
    x_byte(e, op);
    x_modrm_mem(e, reg, m);
}

static inline void x_vex_prefix(x64_emit *e, int pp, int map, int w, int l, unsigned rex, int v)
{
    unsigned r = ~rex >> 2 & 1, x = ~rex >> 1 & 1, b = ~rex & 1;
    unsigned last = (~(unsigned)v & 15) << 3 | (unsigned)l << 2 | (unsigned)pp;
    if (map == MAP_0F && x && b && !w) {
        x_byte(e, 0xc5);
        x_byte(e, r << 7 | last);
    } else {
        x_byte(e, 0xc4);
        x_byte(e, r << 7 | x << 6 | b << 5 | (unsigned)map);
        x_byte(e, (unsigned)w << 7 | last);
    }
}

/* v: the first source; 0 where there is none. */
static inline void x_vex_rr(x64_emit *e, int pp, int map, int w, unsigned op, int reg, int v, int rm)
{
    x_vex_prefix(e, pp, map, w, 0, x_rex_reg(0, reg, rm), v);
    x_byte(e, op);
    x_modrm_reg(e, reg, rm);
}

static inline void x_vex_rm(x64_emit *e, int pp, int map, int w, unsigned op, int reg, int v, x64_mem m)
{
    x_vex_prefix(e, pp, map, w, 0, x_rex_mem(0, reg, m), v);
    x_byte(e, op);
    x_modrm_mem(e, reg, m);
}

static inline void x_movaps_rr(x64_emit *e, int d, int s) { x_sse_rr(e, PP_NONE, MAP_0F, 0, 0x28, d, s); }
static inline void x_movaps_rm(x64_emit *e, int d, x64_mem m) { x_sse_rm(e, PP_NONE, MAP_0F, 0, 0x28, d, m); }
static inline void x_movaps_mr(x64_emit *e, x64_mem m, int s) { x_sse_rm(e, PP_NONE, MAP_0F, 0, 0x29, s, m); }
static inline void x_movups_rm(x64_emit *e, int d, x64_mem m) { x_sse_rm(e, PP_NONE, MAP_0F, 0, 0x10, d, m); }
static inline void x_movups_mr(x64_emit *e, x64_mem m, int s) { x_sse_rm(e, PP_NONE, MAP_0F, 0, 0x11, s, m); }
/* The rest of the register is cleared. */
static inline void x_movq_rm(x64_emit *e, int d, x64_mem m) { x_sse_rm(e, PP_F3, MAP_0F, 0, 0x7e, d, m); }
static inline void x_movq_mr(x64_emit *e, x64_mem m, int s) { x_sse_rm(e, PP_66, MAP_0F, 0, 0xd6, s, m); }
static inline void x_movd_rm(x64_emit *e, int d, x64_mem m) { x_sse_rm(e, PP_66, MAP_0F, 0, 0x6e, d, m); }
static inline void x_movd_mr(x64_emit *e, x64_mem m, int s) { x_sse_rm(e, PP_66, MAP_0F, 0, 0x7e, s, m); }
static inline void x_movq_rr(x64_emit *e, int d, int s) { x_sse_rr(e, PP_F3, MAP_0F, 0, 0x7e, d, s); }
/* Between a vector register and a general one. */
static inline void x_movd_xr(x64_emit *e, int w, int xmm, int r) { x_sse_rr(e, PP_66, MAP_0F, w, 0x6e, xmm, r); }
static inline void x_movd_rx(x64_emit *e, int w, int r, int xmm) { x_sse_rr(e, PP_66, MAP_0F, w, 0x7e, xmm, r); }
static inline void x_pxor(x64_emit *e, int d, int s) { x_sse_rr(e, PP_66, MAP_0F, 0, 0xef, d, s); }

/* ---- BMI2 -------------------------------------------------------------------------- */

/* d = s shifted by c, flags stay: SHLX (pp 66), SHRX (F2), SARX (F3). */
static inline void x_shiftx(x64_emit *e, int pp, int w, int d, int s, int c)
{
    x_vex_rr(e, pp, MAP_0F38, w, 0xf7, d, c, s);
}

static inline void x_rorx(x64_emit *e, int w, int d, int s, unsigned count)
{
    x_vex_rr(e, PP_F2, MAP_0F3A, w, 0xf0, d, 0, s);
    x_byte(e, count);
}

/* high:low = rdx * s; flags stay. */
static inline void x_mulx(x64_emit *e, int w, int high, int low, int s)
{
    x_vex_rr(e, PP_F2, MAP_0F38, w, 0xf6, high, low, s);
}

static inline void x_mulx_rm(x64_emit *e, int w, int high, int low, x64_mem m)
{
    x_vex_rm(e, PP_F2, MAP_0F38, w, 0xf6, high, low, m);
}

/* d = ~a & b. */
static inline void x_andn(x64_emit *e, int w, int d, int a, int b)
{
    x_vex_rr(e, PP_NONE, MAP_0F38, w, 0xf2, d, a, b);
}

#endif
