/* Branches: Arm ARM C4.1, Branches, Exception Generating and System instructions. */
#include "a64.h"

static uint64_t offset(const a64_translator *t, uint32_t immediate, unsigned bits)
{
    return t->pc + (uint64_t)((int64_t)((uint64_t)immediate << (64 - bits)) >> (62 - bits));
}

INSN(B)
{
    if (f->op)
        x_mov_ri(&t->e, a64_def(t, 30), t->pc + 4);
    a64_exit_to(t, offset(t, f->imm26, 26));
    return true;
}

INSN(B_cond)
{
    uint64_t target = offset(t, f->imm19, 19);
    if (f->cond >= 14)
        a64_exit_to(t, target);
    else
        a64_exit_if(t, a64_condition(t, f->cond), target, 0);
    return true;
}

INSN(CBZ)
{
    uint64_t target = offset(t, f->imm19, 19);
    if (f->rt == A64_ZR) {
        if (!f->op)
            a64_exit_to(t, target);
        return true;
    }
    a64_flags_lose(t);
    int n = a64_use(t, f->rt);
    x_test_rr(&t->e, (int)f->sf, n, n);
    a64_exit_if(t, f->op ? X_NE : X_E, target, 0);
    return true;
}

INSN(TBZ)
{
    uint64_t target = offset(t, f->imm14, 14);
    unsigned bit = f->b5 << 5 | f->b40;
    a64_flags_lose(t);
    int n = a64_use(t, f->rt);
    if (bit < 31) {
        x_test_ri(&t->e, 0, n, (int32_t)(1u << bit));
        a64_exit_if(t, f->op ? X_NE : X_E, target, 0);
    } else if (bit == 31 || bit == 63) {
        x_test_rr(&t->e, bit == 63, n, n);
        a64_exit_if(t, f->op ? X_S : X_NS, target, 0);
    } else {
        x_bt_ri(&t->e, 1, n, bit);
        a64_exit_if(t, f->op ? X_B : X_AE, target, 0);
    }
    return true;
}

INSN(BR)
{
    int target = a64_use(t, f->rn);
    if (f->opc == 1) {
        if (f->rn == 30) {
            target = a64_tmp(t);
            x_mov_rr(&t->e, 1, target, a64_pins[30]);
        }
        x_mov_ri(&t->e, a64_def(t, 30), t->pc + 4);
    }
    a64_exit_indirect(t, target);
    return true;
}
