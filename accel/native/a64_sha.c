/*
 * SHA-1 and SHA-256: Arm ARM C7.2, SHA1C to SHA256SU1; FIPS 180-4.
 *
 * With the host's SHA extensions, which hold the words the other way round, add
 * SHA-1's constants themselves and keep SHA-256's eight words in other pairs.
 */
#include "a64_vector.h"

enum {
    V_ROTATES = 0x1b,  /* PSHUFD: words in reverse order */
    SHA1RNDS4 = 0xcc,  /* 0F 3A */
    SHA256RNDS2 = 0xcb, /* 0F 38 */
    SHA256MSG1 = 0xcc,
    SHA256MSG2 = 0xcd,
};

static uint32_t left(uint32_t a, unsigned by) { return a << by | a >> (32 - by); }
static uint32_t right(uint32_t a, unsigned by) { return a >> by | a << (32 - by); }

/* ---- SHA-1 ------------------------------------------------------------------------------------- */

static uint32_t choose(uint32_t a, uint32_t b, uint32_t c) { return ((b ^ c) & a) ^ c; }
static uint32_t parity(uint32_t a, uint32_t b, uint32_t c) { return a ^ b ^ c; }
static uint32_t majority(uint32_t a, uint32_t b, uint32_t c) { return (a & b) | ((a | b) & c); }

/* Four rounds on argument[0], with E in argument[1] and the words in argument[2]. */
static void rounds1(a64_state *state, uint32_t (*function)(uint32_t, uint32_t, uint32_t))
{
    uint32_t x[4], y, w[4];
    memcpy(x, state->argument[0], 16);
    memcpy(&y, state->argument[1], 4);
    memcpy(w, state->argument[2], 16);
    for (int i = 0; i < 4; i++) {
        uint32_t a = y + left(x[0], 5) + function(x[1], x[2], x[3]) + w[i];
        y = x[3];
        x[3] = x[2];
        x[2] = left(x[1], 30);
        x[1] = x[0];
        x[0] = a;
    }
    memcpy(state->argument[0], x, 16);
}

static void sha1c(a64_state *state) { rounds1(state, choose); }
static void sha1p(a64_state *state) { rounds1(state, parity); }
static void sha1m(a64_state *state) { rounds1(state, majority); }

INSN(SHA1)
{
    static void (*const soft[])(a64_state *) = {sha1c, sha1p, sha1m};
    static const uint32_t constants[] = {0x5a827999, 0x6ed9eba1, 0x8f1bbcdc};
    x64_emit *e = &t->e;
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm);
    if (!a64_host_has.sha) {
        v_soft(t, soft[f->op], f->rd, n, m);
        return true;
    }
    int d = a64_use_v(t, f->rd), w = a64_tmp_v(t), last = a64_tmp_v(t);
    /* The words without the constant that x86 adds; E comes to the first of them. */
    v_op_m(t, V_PADDD, w, m, v_repeated(t, 2, -constants[f->op]));
    v_shift(t, V_PSLLDQ_I, last, n, 12);
    v_unary_i(t, V_PSHUFD, w, w, V_ROTATES);
    v_op(t, V_PADDD, w, w, last);
    a64_def_v(t, f->rd);
    v_unary_i(t, V_PSHUFD, d, d, V_ROTATES);
    x_sse_rr(e, PP_NONE, MAP_0F3A, 0, SHA1RNDS4, d, w);
    x_byte(e, f->op);
    v_unary_i(t, V_PSHUFD, d, d, V_ROTATES);
    return true;
}

/* Words rotated to the left; `other` is lost. */
static void rotate_left(a64_translator *t, int d, int other, unsigned by)
{
    v_shift(t, V_PSRLW_I + 1, other, d, 32 - by);
    v_shift(t, V_PSLLW_I + 1, d, d, by);
    v_op(t, V_POR, d, d, other);
}

INSN(SHA1H)
{
    int n = a64_use_v(t, f->rn), word = a64_tmp_v(t), other = a64_tmp_v(t), d = a64_def_v(t, f->rd);
    v_move(t, word, n);
    rotate_left(t, word, other, 30);
    v_scalar(t, 2, d, word);
    return true;
}

INSN(SHA1SU0)
{
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm), d = a64_use_v(t, f->rd), middle = a64_tmp_v(t);
    v_op_i(t, V_PALIGNR, middle, n, d, 8);
    a64_def_v(t, f->rd);
    v_op(t, V_PXOR, d, d, m);
    v_op(t, V_PXOR, d, d, middle);
    return true;
}

INSN(SHA1SU1)
{
    int n = a64_use_v(t, f->rn), d = a64_use_v(t, f->rd), one = a64_tmp_v(t), other = a64_tmp_v(t);
    v_shift(t, V_PSRLDQ_I, one, n, 4);
    a64_def_v(t, f->rd);
    v_op(t, V_PXOR, d, d, one);
    rotate_left(t, d, other, 1);
    /* The last word's predecessor is the first of these. */
    v_shift(t, V_PSLLDQ_I, one, d, 12);
    rotate_left(t, one, other, 1);
    v_op(t, V_PXOR, d, d, one);
    return true;
}

/* ---- SHA-256 ------------------------------------------------------------------------------------ */

/* Four rounds: x is a to d, y is e to h. */
static void rounds256(uint32_t *x, uint32_t *y, const uint8_t *words)
{
    uint32_t w[4];
    memcpy(w, words, 16);
    for (int i = 0; i < 4; i++) {
        uint32_t e = y[0], a = x[0];
        uint32_t one = y[3] + (right(e, 6) ^ right(e, 11) ^ right(e, 25)) + choose(e, y[1], y[2]) + w[i];
        uint32_t two = (right(a, 2) ^ right(a, 13) ^ right(a, 22)) + majority(a, x[1], x[2]);
        memmove(y + 1, y, 12);
        y[0] = x[3] + one;
        memmove(x + 1, x, 12);
        x[0] = one + two;
    }
}

static void sha256h(a64_state *state)
{
    uint32_t x[4], y[4];
    memcpy(x, state->argument[0], 16);
    memcpy(y, state->argument[1], 16);
    rounds256(x, y, state->argument[2]);
    memcpy(state->argument[0], x, 16);
}

static void sha256h2(a64_state *state)
{
    uint32_t x[4], y[4];
    memcpy(x, state->argument[1], 16);
    memcpy(y, state->argument[0], 16);
    rounds256(x, y, state->argument[2]);
    memcpy(state->argument[0], y, 16);
}

/* SHUFPS: the first or last two words of both, in reverse order. */
enum { FIRST = 0x11, LAST = 0xbb };

/*
 * Whether the other half of the same rounds follows: behind `mov Vs, Vd` and
 * `sha256h Qd, Qn, Vm` comes `sha256h2 Qn, Qs, Vm`.
 */
static bool other_half(const a64_translator *t, const a64_SHA256H *f)
{
    if (t->index == 0 || t->index + 1 >= t->count || t->encodings[t->index + 1] != A64_SHA256H ||
        t->encodings[t->index - 1] != A64_V_LOGIC || f->P)
        return false;
    uint32_t before = t->words[t->index - 1], next = t->words[t->index + 1];
    unsigned saved = next >> 5 & 31;
    bool moved = (before & 0xffe0fc00) == 0x4ea01c00 && (before >> 16 & 31) == f->rd && (before >> 5 & 31) == f->rd &&
                 (before & 31) == saved;
    return moved && next >> 12 & 1 && (next & 31) == f->rn && (next >> 16 & 31) == f->rm && saved != f->rd &&
           f->rn != f->rd && f->rm != f->rd && f->rm != f->rn;
}

INSN(SHA256H)
{
    x64_emit *e = &t->e;
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm);
    if (!a64_host_has.sha) {
        v_soft(t, f->P ? sha256h2 : sha256h, f->rd, n, m);
        return true;
    }
    int d = a64_use_v(t, f->rd), x = f->P ? n : d, y = f->P ? d : n;
    bool both = other_half(t, f);
    int abef = a64_tmp_v(t), cdgh = a64_tmp_v(t), words = a64_tmp_v(t), kept = -1;
    v_op_i(t, V_SHUFPS, abef, y, x, FIRST);
    v_op_i(t, V_SHUFPS, cdgh, y, x, LAST);
    v_unary_i(t, V_PSHUFD, words, m, 0xee);
    /* xmm0, which is V0's, has the words. */
    if (d != 0 && !(both && n == 0)) {
        kept = a64_tmp_v(t);
        v_move(t, kept, 0);
    }
    v_move(t, 0, m);
    x_sse_rr(e, PP_NONE, MAP_0F38, 0, SHA256RNDS2, cdgh, abef);
    v_move(t, 0, words);
    x_sse_rr(e, PP_NONE, MAP_0F38, 0, SHA256RNDS2, abef, cdgh);
    if (kept >= 0)
        v_move(t, 0, kept);
    a64_def_v(t, f->rd);
    v_op_i(t, V_SHUFPS, d, abef, cdgh, f->P ? FIRST : LAST);
    if (both) {
        a64_def_v(t, f->rn);
        v_op_i(t, V_SHUFPS, n, abef, cdgh, FIRST);
        t->index++;
    }
    return true;
}

static void sha256su0(a64_state *state)
{
    uint32_t w[5];
    memcpy(w, state->argument[0], 16);
    memcpy(w + 4, state->argument[1], 4);
    for (int i = 0; i < 4; i++)
        w[i] += right(w[i + 1], 7) ^ right(w[i + 1], 18) ^ w[i + 1] >> 3;
    memcpy(state->argument[0], w, 16);
}

static void sha256su1(a64_state *state)
{
    uint32_t d[4], n[4], m[4];
    memcpy(d, state->argument[0], 16);
    memcpy(n, state->argument[1], 16);
    memcpy(m, state->argument[2], 16);
    for (int i = 0; i < 4; i++) {
        uint32_t before = i < 2 ? m[i + 2] : d[i - 2];
        d[i] += (i < 3 ? n[i + 1] : m[0]) + (right(before, 17) ^ right(before, 19) ^ before >> 10);
    }
    memcpy(state->argument[0], d, 16);
}

INSN(SHA256SU0)
{
    int n = a64_use_v(t, f->rn);
    if (!a64_host_has.sha) {
        v_soft(t, sha256su0, f->rd, n, -1);
        return true;
    }
    int d = a64_use_v(t, f->rd);
    a64_def_v(t, f->rd);
    x_sse_rr(&t->e, PP_NONE, MAP_0F38, 0, SHA256MSG1, d, n);
    return true;
}

INSN(SHA256SU1)
{
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm);
    if (!a64_host_has.sha) {
        v_soft(t, sha256su1, f->rd, n, m);
        return true;
    }
    int d = a64_use_v(t, f->rd), sum = a64_tmp_v(t);
    v_op_i(t, V_PALIGNR, sum, m, n, 4);
    v_op(t, V_PADDD, sum, sum, d);
    x_sse_rr(&t->e, PP_NONE, MAP_0F38, 0, SHA256MSG2, sum, m);
    a64_def_v(t, f->rd);
    v_move(t, d, sum);
    return true;
}
