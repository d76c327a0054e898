/*
 * AES and polynomial products: Arm ARM C7.2, AESE to AESIMC, PMULL.
 *
 * Arm's AESE adds the key before SubBytes and ShiftRows, x86's AESENCLAST behind
 * them; a round with the key 0 behind it is the same, and AESENC does AESMC too.
 */
#include "a64_vector.h"

#include <pthread.h>

enum {
    V_AESIMC = V_OP(PP_66, MAP_0F38, 0xdb),
    V_AESENC = V_OP(PP_66, MAP_0F38, 0xdc),
    V_AESENCLAST = V_OP(PP_66, MAP_0F38, 0xdd),
    V_AESDEC = V_OP(PP_66, MAP_0F38, 0xde),
    V_AESDECLAST = V_OP(PP_66, MAP_0F38, 0xdf),
    V_PCLMULQDQ = V_OP(PP_66, MAP_0F3A, 0x44),
};

/* ---- on a host without AES-NI (FIPS 197) ----------------------------------------------------- */

static uint8_t boxes[2][256]; /* S-box and its inverse */

static uint8_t doubled(uint8_t a)
{
    return (uint8_t)(a << 1 ^ (a >> 7) * 0x1b);
}

static void fill_boxes(void)
{
    /* p runs through all powers of 3, q through those of its inverse. */
    uint8_t p = 1, q = 1;
    do {
        p ^= doubled(p);
        q ^= (uint8_t)(q << 1);
        q ^= (uint8_t)(q << 2);
        q ^= (uint8_t)(q << 4);
        q ^= (q >> 7) * 0x09;
        unsigned twice = q | (unsigned)q << 8;
        boxes[0][p] = (uint8_t)(q ^ twice >> 7 ^ twice >> 6 ^ twice >> 5 ^ twice >> 4 ^ 0x63);
    } while (p != 1);
    boxes[0][0] = 0x63;
    for (unsigned i = 0; i < 256; i++)
        boxes[1][boxes[0][i]] = (uint8_t)i;
}

/* argument[0] and [1]: state and key. */
static void substitute(a64_state *state, bool inverse)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, fill_boxes);
    uint8_t result[16];
    for (unsigned i = 0; i < 16; i++) {
        unsigned column = i >> 2, row = i & 3, from = ((inverse ? column - row : column + row) & 3) << 2 | row;
        result[i] = boxes[inverse][state->argument[0][from] ^ state->argument[1][from]];
    }
    memcpy(state->argument[0], result, 16);
}

static void aese(a64_state *state) { substitute(state, false); }
static void aesd(a64_state *state) { substitute(state, true); }

/* argument[1] mixed. */
static void aesmc(a64_state *state)
{
    for (unsigned i = 0; i < 16; i++) {
        const uint8_t *column = &state->argument[1][i & 12];
        unsigned row = i & 3;
        uint8_t a = column[row], b = column[(row + 1) & 3], c = column[(row + 2) & 3], d = column[(row + 3) & 3];
        state->argument[0][i] = (uint8_t)(doubled(a ^ b) ^ b ^ c ^ d);
    }
}

/* As MixColumns, behind what its inverse does more: 4 (a + c) to even rows, 4 (b + d) to odd ones. */
static void aesimc(a64_state *state)
{
    for (unsigned i = 0; i < 16; i += 4) {
        uint8_t *column = &state->argument[1][i];
        uint8_t even = doubled(doubled(column[0] ^ column[2])), odd = doubled(doubled(column[1] ^ column[3]));
        for (unsigned row = 0; row < 4; row++)
            column[row] ^= row & 1 ? odd : even;
    }
    aesmc(state);
}

/* ---- calls --------------------------------------------------------------------------------------- */

/* rd = function(rd, n, m); -1: none. */
void v_soft(a64_translator *t, void (*function)(a64_state *), unsigned rd, int n, int m)
{
    x64_mem at = A64_AT(argument);
    int d = a64_use_v(t, rd);
    x_movaps_mr(&t->e, at, d);
    at.disp += 16;
    if (n >= 0)
        x_movaps_mr(&t->e, at, n);
    at.disp += 16;
    if (m >= 0)
        x_movaps_mr(&t->e, at, m);
    a64_call_soft(t, function);
    a64_def_v(t, rd);
    x_movaps_rm(&t->e, d, A64_AT(argument));
}

/* Where the mixing of rd follows, which is one x86 instruction with this: its destination; else -1. */
static int mixed(const a64_translator *t, const a64_AES *f)
{
    if (t->index + 1 >= t->count || t->encodings[t->index + 1] != A64_AESMC)
        return -1;
    uint32_t next = t->words[t->index + 1];
    return (next >> 12 & 1) == f->D && (next >> 5 & 31) == f->rd ? (int)(next & 31) : -1;
}

INSN(AES)
{
    unsigned whole = f->D ? V_AESDEC : V_AESENC, last = f->D ? V_AESDECLAST : V_AESENCLAST;
    int n = a64_use_v(t, f->rn);
    if (!a64_host_has.aes) {
        v_soft(t, f->D ? aesd : aese, f->rd, n, -1);
        return true;
    }
    int d = a64_use_v(t, f->rd);
    a64_def_v(t, f->rd);
    v_op(t, V_PXOR, d, d, n);
    int to = mixed(t, f);
    if (to >= 0)
        v_op_m(t, whole, a64_def_v(t, (unsigned)to), d, a64_constant(t, 0, 0));
    if (to != (int)f->rd)
        v_op_m(t, last, d, d, a64_constant(t, 0, 0));
    t->index += to >= 0;
    return true;
}

INSN(AESMC)
{
    int n = a64_use_v(t, f->rn);
    if (!a64_host_has.aes) {
        v_soft(t, f->D ? aesimc : aesmc, f->rd, n, -1);
        return true;
    }
    int d = a64_def_v(t, f->rd);
    if (f->D) {
        v_unary(t, V_AESIMC, d, n);
    } else { /* a whole round of what the last step of decryption takes back */
        v_op_m(t, V_AESDECLAST, d, n, a64_constant(t, 0, 0));
        v_op_m(t, V_AESENC, d, d, a64_constant(t, 0, 0));
    }
    return true;
}

/* ---- polynomial products ----------------------------------------------------------------------------- */

/* argument[1] and [2]: the numbers, in the lower half; four bits at a time. */
static void multiply64(a64_state *state)
{
    uint64_t n, m;
    memcpy(&n, state->argument[1], 8);
    memcpy(&m, state->argument[2], 8);
    unsigned __int128 multiples[16] = {0}, product = 0;
    for (unsigned i = 1; i < 16; i++)
        multiples[i] = multiples[i >> 1] << 1 ^ (i & 1 ? n : 0);
    for (int shift = 60; shift >= 0; shift -= 4)
        product = product << 4 ^ multiples[m >> shift & 15];
    memcpy(state->argument[0], &product, 16);
}

/* Bytes: a product for each bit of m, added without carries. */
static void multiply8(a64_translator *t, const a64_V_PMULL *f)
{
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm);
    int a = a64_tmp_v(t), b = a64_tmp_v(t), part = a64_tmp_v(t);
    v_widen(t, 0, false, a, n, f->Q);
    v_widen(t, 0, false, b, m, f->Q);
    int d = a64_def_v(t, f->rd);
    v_op_m(t, V_PAND, d, b, v_repeated(t, 1, 1));
    v_op(t, V_PMULLW, d, d, a);
    for (unsigned bit = 1; bit < 8; bit++) {
        v_op_m(t, V_PAND, part, b, v_repeated(t, 1, UINT64_C(1) << bit));
        v_op(t, V_PMULLW, part, part, a);
        v_op(t, V_PXOR, d, d, part);
    }
}

INSN(V_PMULL)
{
    if (f->size == 0) {
        multiply8(t, f);
        return true;
    }
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm);
    if (a64_host_has.pclmul) {
        v_op_i(t, V_PCLMULQDQ, a64_def_v(t, f->rd), n, m, f->Q ? 0x11 : 0);
        return true;
    }
    if (f->Q) {
        int upper[2] = {a64_tmp_v(t), a64_tmp_v(t)};
        v_unary_i(t, V_PSHUFD, upper[0], n, 0xee);
        v_unary_i(t, V_PSHUFD, upper[1], m, 0xee);
        n = upper[0];
        m = upper[1];
    }
    v_soft(t, multiply64, f->rd, n, m);
    return true;
}
