/*
 * CRC32 and CRC32C: Arm ARM C6.2.  x86 has an instruction for the latter; the
 * other is a remainder by Barrett's method: with V the data and the CRC added,
 * of n bits, and P the polynomial, quotient and remainder of V x^32 by P are
 *
 *     q = V (x^(n + 32) / P) / x^n,    r = V x^32 + q P.
 *
 * Bits are in the reverse order, so the quotient is the low half of a product.
 */
#include "a64_vector.h"

enum { V_PCLMULQDQ = V_OP(PP_66, MAP_0F3A, 0x44) };

static const uint32_t polynomials[] = {0xedb88320u, 0x82f63b78u}; /* CRC32, CRC32C; without x^32 */

/* x^96 / P, but for x^0; bits in reverse order. */
static uint64_t reciprocal(uint64_t polynomial)
{
    uint64_t left = 1, quotient = 0;
    for (unsigned i = 0; i < 64; i++, left >>= 1) {
        if (left & 1) {
            quotient |= UINT64_C(1) << i;
            left ^= polynomial;
        }
    }
    return quotient;
}

/* scratch[1]: CRC and result; [2]: data; [3]: its bits, and the polynomial below. */
static void crc32_soft(a64_state *state)
{
    uint32_t crc = (uint32_t)state->scratch[1], polynomial = (uint32_t)state->scratch[3];
    uint64_t data = state->scratch[2];
    unsigned bits = (unsigned)(state->scratch[3] >> 32);
    crc ^= bits == 64 ? (uint32_t)data : (uint32_t)(data & ((UINT64_C(1) << bits) - 1));
    for (unsigned i = 0; i < bits; i++) {
        if (i == 32)
            crc ^= (uint32_t)(data >> 32);
        crc = crc >> 1 ^ (crc & 1 ? polynomial : 0);
    }
    state->scratch[1] = crc;
}

static void by_soft(a64_translator *t, const a64_CRC32 *f)
{
    x64_emit *e = &t->e;
    int n = a64_use(t, f->rn), m = a64_use(t, f->rm), constant = a64_tmp(t);
    x64_mem scratch = A64_AT(scratch);
    scratch.disp += 8;
    x_mov_mr(e, 1, scratch, n);
    scratch.disp += 8;
    x_mov_mr(e, 1, scratch, m);
    scratch.disp += 8;
    x_mov_ri(e, constant, (uint64_t)(8u << f->sz) << 32 | polynomials[f->C]);
    x_mov_mr(e, 1, scratch, constant);
    a64_call_soft(t, crc32_soft);
    scratch.disp -= 16;
    x_mov_rm(e, 0, a64_def(t, f->rd), scratch);
}

static void by_product(a64_translator *t, const a64_CRC32 *f)
{
    x64_emit *e = &t->e;
    unsigned bits = 8u << f->sz;
    uint64_t polynomial = (uint64_t)polynomials[f->C] << 1 | 1;
    x64_mem constants = a64_constant(t, reciprocal(polynomial), polynomial);
    int n = a64_use(t, f->rn), m = a64_use(t, f->rm), crc = a64_tmp_v(t), value = a64_tmp_v(t);
    x_movd_xr(e, 0, crc, n);
    x_movd_xr(e, 1, value, m);
    v_op(t, V_PXOR, value, value, crc);
    v_op_mi(t, V_PCLMULQDQ, value, value, constants, 0x00);
    if (bits < 64) /* n bits of quotient, where the remainder comes to stand above 64 */
        v_shift(t, V_PSLLW_I + 2, value, value, 64 - bits);
    v_op_mi(t, V_PCLMULQDQ, value, value, constants, 0x10);
    v_shift(t, V_PSRLDQ_I, value, value, 8);
    if (bits < 32) { /* what the data did not reach */
        v_shift(t, V_PSRLW_I + 2, crc, crc, bits);
        v_op(t, V_PXOR, value, value, crc);
    }
    x_movd_rx(e, 0, a64_def(t, f->rd), value);
}

INSN(CRC32)
{
    x64_emit *e = &t->e;
    if (!f->C || !a64_host_has.sse42) {
        if (a64_host_has.pclmul)
            by_product(t, f);
        else
            by_soft(t, f);
        return true;
    }
    int n = a64_use(t, f->rn), m = a64_use(t, f->rm), d = a64_def(t, f->rd), from = m;
    if (d == m) {
        from = a64_tmp(t);
        x_mov_rr(e, 1, from, m);
    }
    x_mov_rr(e, 0, d, n);
    if (f->sz == 1)
        x_byte(e, 0x66);
    x_byte(e, 0xf2);
    x_byte(e, 0x40 | x_rex_reg(f->sz == 3, d, from));
    x_byte(e, 0x0f);
    x_byte(e, 0x38);
    x_byte(e, f->sz ? 0xf1 : 0xf0);
    x_modrm_reg(e, d, from);
    return true;
}
