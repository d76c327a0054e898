/*
 * SHA-512 and SHA-3: Arm ARM C7.2, SHA512H to SHA512SU1, EOR3, BCAX, RAX1, XAR.
 * x86 has no instructions for them; SHA-512's rounds are done in general registers.
 */
#include "a64_vector.h"

/* ---- SHA-512 -------------------------------------------------------------------------------------- */

static void lower(a64_translator *t, int general, int vector)
{
    x_movd_rx(&t->e, 1, general, vector);
}

static void upper(a64_translator *t, int general, int vector)
{
    x_sse_rr(&t->e, PP_66, MAP_0F3A, 1, 0x16, vector, general); /* pextrq */
    x_byte(&t->e, 1);
}

static void rotated(a64_translator *t, int d, int s, unsigned by)
{
    if (a64_host_has.bmi2) {
        x_rorx(&t->e, 1, d, s, by);
        return;
    }
    x_mov_rr(&t->e, 1, d, s);
    x_shift_ri(&t->e, X_ROR, 1, d, by);
}

/* sum += s rotated by each of three, added without carries. */
static void add_rotated(a64_translator *t, int sum, int s, const uint8_t by[3], int one, int other)
{
    x64_emit *e = &t->e;
    rotated(t, one, s, by[0]);
    rotated(t, other, s, by[1]);
    x_alu_rr(e, X_XOR, 1, one, other);
    rotated(t, other, s, by[2]);
    x_alu_rr(e, X_XOR, 1, one, other);
    x_alu_rr(e, X_ADD, 1, sum, one);
}

/* Two rounds' halves: of e (P 0, where the choice is) and of a (P 1, the majority). */
INSN(SHA512H)
{
    static const uint8_t rotations[2][3] = {{14, 18, 41}, {28, 34, 39}};
    const uint8_t *by = rotations[f->P];
    x64_emit *e = &t->e;
    a64_flags_lose(t);
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm), d = a64_use_v(t, f->rd);
    int a = a64_tmp(t), b = a64_tmp(t), c = a64_tmp(t), high = a64_tmp(t), other = a64_tmp(t);
    upper(t, a, m);
    if (!f->P) {
        upper(t, b, n);
        lower(t, c, n);
        x_mov_rr(e, 1, high, c);
        x_alu_rr(e, X_XOR, 1, high, b);
        x_alu_rr(e, X_AND, 1, high, a);
        x_alu_rr(e, X_XOR, 1, high, b);
        add_rotated(t, high, a, by, b, other);
        upper(t, b, d);
        x_alu_rr(e, X_ADD, 1, high, b);
        lower(t, b, m);
        x_alu_rr(e, X_ADD, 1, b, high);
        x_alu_rr(e, X_XOR, 1, a, c);
        x_alu_rr(e, X_AND, 1, a, b);
        x_alu_rr(e, X_XOR, 1, a, c);
        add_rotated(t, a, b, by, c, other);
    } else {
        lower(t, b, m);
        lower(t, high, n);
        x_mov_rr(e, 1, c, a);
        x_alu_rr(e, X_AND, 1, c, b); /* what both times is the same of the majority */
        x_alu_rr(e, X_XOR, 1, a, b);
        x_alu_rr(e, X_AND, 1, high, a);
        x_alu_rr(e, X_XOR, 1, high, c);
        x_mov_mr(e, 1, A64_AT(scratch), c);
        add_rotated(t, high, b, by, c, other);
        upper(t, b, d);
        x_alu_rr(e, X_ADD, 1, high, b);
        x_alu_rr(e, X_AND, 1, a, high);
        x_alu_rm(e, X_XOR, 1, a, A64_AT(scratch));
        add_rotated(t, a, high, by, b, other);
    }
    lower(t, c, d);
    x_alu_rr(e, X_ADD, 1, a, c);
    a64_def_v(t, f->rd);
    x_movd_xr(e, 1, d, a);
    x_sse_rr(e, PP_66, MAP_0F3A, 1, 0x22, d, high); /* pinsrq */
    x_byte(e, 1);
    return true;
}

/* d += s's elements, rotated by two counts and shifted by a third, added without carries.  s is lost. */
static void add_schedule(a64_translator *t, int d, int s, unsigned one, unsigned other, unsigned shift)
{
    int sum = a64_tmp_v(t), part = a64_tmp_v(t);
    v_shift(t, V_PSRLW_I + 2, sum, s, shift);
    unsigned counts[] = {one, other};
    for (int i = 0; i < 2; i++) {
        v_shift(t, V_PSRLW_I + 2, part, s, counts[i]);
        v_op(t, V_PXOR, sum, sum, part);
        v_shift(t, V_PSLLW_I + 2, part, s, 64 - counts[i]);
        v_op(t, V_PXOR, sum, sum, part);
    }
    v_op(t, V_PADDQ, d, d, sum);
}

INSN(SHA512SU0)
{
    int n = a64_use_v(t, f->rn), d = a64_use_v(t, f->rd), middle = a64_tmp_v(t);
    v_op_i(t, V_PALIGNR, middle, n, d, 8);
    a64_def_v(t, f->rd);
    add_schedule(t, d, middle, 1, 8, 7);
    return true;
}

INSN(SHA512SU1)
{
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm), d = a64_use_v(t, f->rd), sum = a64_tmp_v(t);
    v_op(t, V_PADDQ, sum, d, m);
    add_schedule(t, sum, n, 19, 61, 6);
    a64_def_v(t, f->rd);
    v_move(t, d, sum);
    return true;
}

/* ---- SHA-3 ------------------------------------------------------------------------------------------- */

INSN(EOR3_BCAX)
{
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm), a = a64_use_v(t, f->ra), part = a64_tmp_v(t);
    int d = a64_def_v(t, f->rd);
    if (f->op)
        v_op(t, V_PANDN, part, a, m);
    else
        v_op(t, V_PXOR, part, a, m);
    v_op(t, V_PXOR, d, part, n);
    return true;
}

INSN(RAX1)
{
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm), part = a64_tmp_v(t), top = a64_tmp_v(t);
    int d = a64_def_v(t, f->rd);
    v_op(t, V_PADDQ, part, m, m);
    v_shift(t, V_PSRLW_I + 2, top, m, 63);
    v_op(t, V_PXOR, part, part, top);
    v_op(t, V_PXOR, d, part, n);
    return true;
}

INSN(XAR)
{
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm), part = a64_tmp_v(t), d = a64_def_v(t, f->rd);
    v_op(t, V_PXOR, d, n, m);
    if (f->imm6 == 0)
        return true;
    v_shift(t, V_PSLLW_I + 2, part, d, 64 - f->imm6);
    v_shift(t, V_PSRLW_I + 2, d, d, f->imm6);
    v_op(t, V_POR, d, d, part);
    return true;
}
