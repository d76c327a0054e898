/* Instructions that manipulate the flags alone, Arm ARM FEAT_FlagM and FEAT_FlagM2: rare, and so done in C. */
#include "a64.h"

/* Of state->nzcv. */
enum { N = 0x8000, Z = 0x4000, C = 0x0100, V = 0x0001 };

static unsigned flags(bool n, bool z, bool c, bool v)
{
    return (n ? N : 0u) | (z ? Z : 0u) | (c ? C : 0u) | (v ? V : 0u);
}

static void change(a64_state *state, unsigned which, unsigned value)
{
    state->nzcv = (uint16_t)((state->nzcv & ~which) | (value & which));
}

/* scratch[1]: the register; scratch[2]: imm6 << 4 | mask. */
static void rmif(a64_state *state)
{
    uint64_t value = state->scratch[1];
    unsigned right = state->scratch[2] >> 4 & 63, mask = state->scratch[2] & 15;
    value = value >> right | value << (-right & 63);
    change(state, flags(mask & 8, mask & 4, mask & 2, mask & 1), flags(value & 8, value & 4, value & 2, value & 1));
}

/* scratch[2]: the size in bits. */
static void setf(a64_state *state)
{
    unsigned size = (unsigned)state->scratch[2], value = (unsigned)state->scratch[1];
    unsigned sign = value >> (size - 1) & 1;
    change(state, N | Z | V, flags(sign, (value & ((1u << size) - 1)) == 0, false, sign != (value >> size & 1)));
}

static void cfinv(a64_state *state)
{
    state->nzcv ^= C;
}

static void axflag(a64_state *state)
{
    bool z = state->nzcv & Z, c = state->nzcv & C, v = state->nzcv & V;
    state->nzcv = (uint16_t)flags(false, z || v, c && !v, false);
}

static void xaflag(a64_state *state)
{
    bool z = state->nzcv & Z, c = state->nzcv & C;
    state->nzcv = (uint16_t)flags(!c && !z, z && c, c || z, !c && z);
}

/* register 31 is the zero register; number: scratch[2]. */
static bool soft(a64_translator *t, void (*function)(a64_state *), unsigned rn, uint64_t number)
{
    a64_flags_save(t);
    x64_mem at = A64_AT(scratch);
    at.disp += 8;
    x_mov_mr(&t->e, 1, at, a64_use(t, rn));
    at.disp += 8;
    x_mov_mi(&t->e, 1, at, (int32_t)number);
    a64_call_soft(t, function);
    a64_flags_stored(t);
    return true;
}

INSN(RMIF)
{
    return soft(t, rmif, f->rn, f->imm6 << 4 | f->mask);
}

INSN(SETF)
{
    return soft(t, setf, f->rn, f->sz ? 16 : 8);
}

INSN(CFINV)
{
    (void)f;
    return soft(t, cfinv, A64_ZR, 0);
}

INSN(AXFLAG)
{
    (void)f;
    return soft(t, axflag, A64_ZR, 0);
}

INSN(XAFLAG)
{
    (void)f;
    return soft(t, xaflag, A64_ZR, 0);
}
