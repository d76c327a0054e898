/* Advanced SIMD, integers: Arm ARM C4.1, Data Processing -- Scalar Floating-Point and Advanced SIMD. */
#include "a64_vector.h"

/* ---- three registers of the same kind ------------------------------------------------------ */

enum { AND, BIC, ORR, ORN, EOR, BSL, BIT, BIF };

INSN(V_LOGIC)
{
    unsigned op = f->U << 2 | f->size;
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm), d, first;
    if (op < BSL) {
        if (op == ORR && n == m) {
            d = a64_def_v(t, f->rd);
            if (f->Q)
                v_move(t, d, n);
            else
                x_movq_rr(&t->e, d, n);
            return true;
        }
        if (op == ORN) {
            int inverted = a64_tmp_v(t);
            v_not(t, inverted, m);
            m = inverted;
        }
        d = a64_def_v(t, f->rd);
        switch (op) {
        case AND:
            v_op(t, V_PAND, d, n, m);
            break;
        case BIC:
            v_op(t, V_PANDN, d, m, n);
            break;
        case EOR:
            v_op(t, V_PXOR, d, n, m);
            break;
        default:
            v_op(t, V_POR, d, n, m);
            break;
        }
        v_end(t, d, f->Q);
        return true;
    }
    d = a64_use_v(t, f->rd);
    a64_def_v(t, f->rd);
    first = a64_tmp_v(t);
    int second = a64_tmp_v(t);
    int mask = op == BSL ? d : m;
    v_op(t, V_PAND, first, mask, op == BIF ? d : n);
    v_op(t, V_PANDN, second, mask, op == BSL ? m : op == BIT ? d : n);
    v_op(t, V_POR, d, first, second);
    v_end(t, d, f->Q);
    return true;
}

INSN(V_ADDSUB)
{
    int n = a64_use_v(t, f->rn), m = a64_use_v(t, f->rm), d = a64_def_v(t, f->rd);
    v_op(t, f->U ? V_PSUB + f->size : v_padd[f->size], d, n, m);
    v_end(t, d, f->Q);
    return true;
}
