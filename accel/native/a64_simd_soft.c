/*
 * Advanced SIMD: what programs seldom use, element by element in C: shifts by a
 * register that saturate or are of bytes, all of them where there is no AVX2;
 * SUQADD, SQRDMLAH, PMUL, URECPE.  Arm ARM C7.2 has the pseudocode.
 */
#include "a64_soft.h"
#include "a64_vector.h"

/* In the last argument. */
typedef struct how {
    uint8_t size, bytes; /* bytes of the result that count; the others are 0 */
    bool is_signed, rounded, saturating, subtract;
} how;

static how how_of(const a64_state *state)
{
    how h;
    memcpy(&h, state->argument[3], sizeof h);
    return h;
}

static __int128 element(const uint8_t *vector, unsigned i, unsigned size, bool is_signed)
{
    uint64_t bits = 0;
    memcpy(&bits, vector + (i << size), 1u << size);
    unsigned unused = 64 - (8u << size);
    return is_signed ? (__int128)((int64_t)(bits << unused) >> unused) : (__int128)bits;
}

static uint64_t saturated(a64_state *state, __int128 value, unsigned size, bool is_signed)
{
    __int128 most = is_signed ? (__int128)v_highest(size) - 1 : (__int128)v_all(size);
    __int128 least = is_signed ? -(__int128)v_highest(size) : 0;
    if (value <= most && value >= least)
        return (uint64_t)value;
    state->fpsr |= A64_FPSR_QC;
    return (uint64_t)(value > most ? most : least);
}

static void each(a64_state *state, uint64_t (*one)(a64_state *, how, unsigned))
{
    how h = how_of(state);
    uint8_t result[16] = {0};
    for (unsigned i = 0; i < (unsigned)h.bytes >> h.size; i++) {
        uint64_t value = one(state, h, i);
        memcpy(result + (i << h.size), &value, 1u << h.size);
    }
    memcpy(state->argument[0], result, 16);
}

static uint64_t shift_one(a64_state *state, how h, unsigned i)
{
    __int128 n = element(state->argument[0], i, h.size, h.is_signed);
    int by = (int8_t)state->argument[1][i << h.size], bits = 8 << h.size;
    if (by >= bits) {
        if (!h.saturating || n == 0)
            return 0;
        n = n > 0 ? (__int128)1 << 100 : -((__int128)1 << 100);
    } else if (by >= 0) {
        n *= (__int128)1 << by;
    } else {
        by = -by > bits + 1 ? bits + 1 : -by; /* no more of it is left than that, rounded or not */
        n = (n + (h.rounded ? (__int128)1 << (by - 1) : 0)) >> by;
    }
    return h.saturating ? saturated(state, n, h.size, h.is_signed) : (uint64_t)n;
}

static uint64_t add_one(a64_state *state, how h, unsigned i)
{
    __int128 added = element(state->argument[0], i, h.size, !h.is_signed);
    return saturated(state, element(state->argument[2], i, h.size, h.is_signed) + added, h.size, h.is_signed);
}

static uint64_t multiply_one(a64_state *state, how h, unsigned i)
{
    int bits = 8 << h.size;
    __int128 product = 2 * element(state->argument[0], i, h.size, true) * element(state->argument[1], i, h.size, true);
    __int128 sum = element(state->argument[2], i, h.size, true) * ((__int128)1 << bits) + ((__int128)1 << (bits - 1));
    return saturated(state, (sum + (h.subtract ? -product : product)) >> bits, h.size, true);
}

static uint64_t polynomial_one(a64_state *state, how h, unsigned i)
{
    unsigned product = 0;
    for (unsigned bit = 0; bit < 8; bit++)
        if (state->argument[1][i] >> bit & 1)
            product ^= (unsigned)state->argument[0][i] << bit;
    return product & 0xff;
}

static uint64_t reciprocal_one(a64_state *state, how h, unsigned i)
{
    return soft_integer_recip((uint32_t)element(state->argument[0], i, 2, false));
}

static uint64_t root_one(a64_state *state, how h, unsigned i)
{
    return soft_integer_root((uint32_t)element(state->argument[0], i, 2, false));
}

static void shift(a64_state *state) { each(state, shift_one); }
static void add(a64_state *state) { each(state, add_one); }
static void multiply(a64_state *state) { each(state, multiply_one); }
static void polynomial(a64_state *state) { each(state, polynomial_one); }
static void reciprocal(a64_state *state) { each(state, reciprocal_one); }
static void root(a64_state *state) { each(state, root_one); }

/* ---- calls ---------------------------------------------------------------------------------------- */

static x64_mem argument(unsigned i)
{
    x64_mem m = A64_AT(argument);
    m.disp += (int32_t)(16 * i);
    return m;
}

/* rd = function(n, m, rd); m -1: none. */
static void call(a64_translator *t, void (*function)(a64_state *), how h, unsigned q, unsigned rd, int n, int m)
{
    int d = a64_use_v(t, rd);
    uint32_t words[2] = {0, 0};
    h.bytes = (uint8_t)(q == V_SCALAR ? 1 << h.size : q ? 16 : 8);
    memcpy(words, &h, sizeof h);
    x_movaps_mr(&t->e, argument(0), n);
    if (m >= 0)
        x_movaps_mr(&t->e, argument(1), m);
    x_movaps_mr(&t->e, argument(2), d);
    for (unsigned i = 0; i < 2; i++) {
        x64_mem at = argument(3);
        at.disp += (int32_t)(4 * i);
        x_mov_mi(&t->e, 0, at, (int32_t)words[i]);
    }
    a64_call_soft(t, function);
    a64_def_v(t, rd);
    x_movaps_rm(&t->e, d, argument(0));
}

void v_soft_shift(a64_translator *t, unsigned size, bool is_signed, bool rounded, bool saturating, unsigned rd, int n,
                  int m, unsigned q)
{
    how h = {.size = (uint8_t)size, .is_signed = is_signed, .rounded = rounded, .saturating = saturating};
    call(t, shift, h, q, rd, n, m);
}

INSN(V_QSHL_reg)
{
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm);
    v_soft_shift(t, f->size, !f->U, f->R, true, f->rd, n, m, f->Q);
    return true;
}

INSN(S_QSHL_reg)
{
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm);
    v_soft_shift(t, f->size, !f->U, f->R, true, f->rd, n, m, V_SCALAR);
    return true;
}

INSN(V_SUQADD)
{
    call(t, add, (how){.size = f->size, .is_signed = !f->U}, f->Q, f->rd, a64_use_v(t, f->rn), -1);
    return true;
}

INSN(S_SUQADD)
{
    call(t, add, (how){.size = f->size, .is_signed = !f->U}, V_SCALAR, f->rd, a64_use_v(t, f->rn), -1);
    return true;
}

INSN(V_SQRDMLAH)
{
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm);
    call(t, multiply, (how){.size = f->size, .subtract = f->S}, f->Q, f->rd, n, m);
    return true;
}

INSN(S_SQRDMLAH)
{
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm);
    call(t, multiply, (how){.size = f->size, .subtract = f->S}, V_SCALAR, f->rd, n, m);
    return true;
}

INSN(V_SQRDMLAH_e)
{
    int n = a64_use_v(t, f->rn), m = v_element(t, f->size, f->rm, f->H, f->L, f->M);
    call(t, multiply, (how){.size = f->size, .subtract = f->o2}, f->Q, f->rd, n, m);
    return true;
}

INSN(S_SQRDMLAH_e)
{
    int n = a64_use_v(t, f->rn), m = v_element(t, f->size, f->rm, f->H, f->L, f->M);
    call(t, multiply, (how){.size = f->size, .subtract = f->o2}, V_SCALAR, f->rd, n, m);
    return true;
}

INSN(V_PMUL)
{
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm);
    call(t, polynomial, (how){.size = 0}, f->Q, f->rd, n, m);
    return true;
}

INSN(V_URECPE)
{
    call(t, f->U ? root : reciprocal, (how){.size = 2}, f->Q, f->rd, a64_use_v(t, f->rn), -1);
    return true;
}
