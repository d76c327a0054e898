/* System registers, hints, barriers, exceptions: Arm ARM C4.1 and D17. */
#include "a64.h"

#include <time.h>
#include <xmmintrin.h>

INSN(SVC)
{
    (void)f;
    a64_exit_reason(t, A64_EXIT_SYSCALL, t->pc + 4);
    return true;
}

INSN(BRK)
{
    (void)f;
    a64_exit_reason(t, A64_EXIT_BREAK, t->pc);
    return true;
}

static bool undefined(a64_translator *t)
{
    a64_exit_reason(t, A64_EXIT_ILLEGAL, t->pc);
    return true;
}

INSN(HLT)
{
    (void)f;
    return undefined(t);
}

INSN(ERET)
{
    (void)f;
    return undefined(t);
}

INSN(HVC)
{
    (void)f;
    return undefined(t);
}

INSN(SMC)
{
    (void)f;
    return undefined(t);
}

/* Pointer authentication is off, and so its hints do nothing. */
INSN(HINT)
{
    (void)t, (void)f;
    return true;
}

INSN(CLREX)
{
    (void)f;
    x_mov_mi(&t->e, 1, A64_AT(exclusive), 0);
    return true;
}

/* x86 keeps all orders but that of a store and a later load. */
static bool barrier(a64_translator *t, unsigned crm)
{
    if ((crm & 3) == 1 || (crm & 3) == 2)
        return true;
    a64_flags_lose(t);
    x_byte(&t->e, 0xf0); /* lock or: cheaper than mfence */
    x_alu_mi(&t->e, X_OR, 0, A64_AT(scratch), 0);
    return true;
}

INSN(DMB)
{
    return barrier(t, f->crm);
}

INSN(DSB)
{
    return barrier(t, f->crm);
}

/* What another thread changed is seen from the next block on. */
INSN(ISB)
{
    (void)f;
    a64_exit_to(t, t->pc + 4);
    return true;
}

INSN(SB)
{
    (void)t, (void)f;
    return true;
}

/* DIT and SSBS promise nothing about results, but are remembered. */
static void set_pstate(a64_translator *t, unsigned bit, bool on)
{
    a64_flags_lose(t);
    if (on)
        x_alu_mi(&t->e, X_OR, 0, A64_AT(pstate), (int32_t)bit);
    else
        x_alu_mi(&t->e, X_AND, 0, A64_AT(pstate), (int32_t)~bit);
}

INSN(MSR_imm)
{
    if (f->op1 != 3 || f->op2 > 2)
        return undefined(t);
    set_pstate(t, f->op2 == 1 ? A64_SSBS : A64_DIT, f->crm & 1);
    return true;
}

enum { BLOCK = 64 /* bytes that DC ZVA clears */ };

INSN(SYS)
{
    x64_emit *e = &t->e;
    if (f->L || f->op1 != 3 || f->crn != 7)
        return undefined(t);
    switch (f->crm << 3 | f->op2) {
    case 5 << 3 | 1: { /* IC IVAU */
        int n = a64_use(t, f->rt);
        x_mov_mr(e, 1, A64_AT(address), n);
        a64_exit_reason(t, A64_EXIT_CODE, t->pc + 4);
        return true;
    }
    case 10 << 3 | 1: /* DC CVAC, CVAU, CVAP, CVADP, CIVAC */
    case 11 << 3 | 1:
    case 12 << 3 | 1:
    case 13 << 3 | 1:
    case 14 << 3 | 1:
        return true;
    case 4 << 3 | 1: { /* DC ZVA */
        a64_flags_lose(t);
        int n = a64_use(t, f->rt), at = a64_tmp(t), zero = a64_tmp_v(t);
        x_mov_rr(e, 1, at, n);
        x_alu_ri(e, X_AND, 1, at, -BLOCK);
        x_pxor(e, zero, zero);
        for (int i = 0; i < BLOCK; i += 16) {
            x64_mem m = a64_guest(t, at, -1, 0, i);
            a64_site(t);
            x_movups_mr(e, m, zero);
        }
        return true;
    }
    default:
        return undefined(t);
    }
}

/* ---- system registers --------------------------------------------------------------- */

#define SYSREG(op0, op1, crn, crm, op2) ((op0) << 14 | (op1) << 11 | (crn) << 7 | (crm) << 3 | (op2))

enum {
    NZCV = SYSREG(3, 3, 4, 2, 0),
    DIT = SYSREG(3, 3, 4, 2, 5),
    SSBS = SYSREG(3, 3, 4, 2, 6),
    FPCR = SYSREG(3, 3, 4, 4, 0),
    FPSR = SYSREG(3, 3, 4, 4, 1),
    TPIDR_EL0 = SYSREG(3, 3, 13, 0, 2),
    TPIDRRO_EL0 = SYSREG(3, 3, 13, 0, 3),
    CTR_EL0 = SYSREG(3, 3, 0, 0, 1),
    DCZID_EL0 = SYSREG(3, 3, 0, 0, 7),
    CNTFRQ_EL0 = SYSREG(3, 3, 14, 0, 0),
    CNTVCT_EL0 = SYSREG(3, 3, 14, 0, 2),
};

/* Lines of 64 bytes; code must be made visible by IC IVAU (DIC 0), data need no cleaning (IDC 1). */
#define CTR_VALUE (UINT64_C(1) << 31 | UINT64_C(1) << 28 | 4u << 24 | 4u << 20 | 4u << 16 | 3u << 14 | 4u)

static void read_counter(a64_state *state)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    state->scratch[1] = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void read_nzcv(a64_state *state)
{
    unsigned flags = state->nzcv;
    state->scratch[1] = (uint64_t)((flags >> 15 & 1) << 31 | (flags >> 14 & 1) << 30 | (flags >> 8 & 1) << 29 |
                                   (flags & 1) << 28);
}

static void write_nzcv(a64_state *state)
{
    uint64_t value = state->scratch[1];
    state->nzcv = (uint16_t)((value >> 31 & 1) << 15 | (value >> 30 & 1) << 14 | (value >> 29 & 1) << 8 |
                             (value >> 28 & 1));
}

/* MXCSR's exceptions as FPSR has them.  DE is another thing than IDC, which says that an operand was flushed. */
static uint32_t collected(uint32_t mxcsr)
{
    return (mxcsr & 1) | (mxcsr >> 2 & 1) << 1 | (mxcsr >> 3 & 1) << 2 | (mxcsr >> 4 & 1) << 3 | (mxcsr >> 5 & 1) << 4;
}

uint32_t a64_fpsr(const a64_state *state, uint32_t mxcsr)
{
    return state->fpsr | collected(mxcsr) | (state->qc[0] | state->qc[1] ? A64_FPSR_QC : 0);
}

uint32_t a64_mxcsr(uint32_t fpcr)
{
    static const uint16_t rounding[] = {0, 0x4000, 0x2000, 0x6000}; /* RN RP RM RZ */
    return 0x1f80u | rounding[fpcr >> 22 & 3] | (fpcr >> 24 & 1 ? 0x8040u : 0);
}

static void read_fpsr(a64_state *state)
{
    state->scratch[1] = a64_fpsr(state, _mm_getcsr());
}

static void write_fpsr(a64_state *state)
{
    state->fpsr = (uint32_t)state->scratch[1] & A64_FPSR_BITS;
    state->qc[0] = state->qc[1] = 0;
    _mm_setcsr(_mm_getcsr() & ~0x3fu);
}

/* Stride, length, FZ16 and AHP are kept; trap enables are not there. */
static void write_fpcr(a64_state *state)
{
    uint32_t seen = a64_fpsr(state, _mm_getcsr());
    state->fpsr = seen;
    state->fpcr = (uint32_t)state->scratch[1] & A64_FPCR_BITS;
    _mm_setcsr(a64_mxcsr(state->fpcr));
}

static x64_mem argument(void)
{
    x64_mem m = A64_AT(scratch);
    m.disp += 8;
    return m;
}

INSN(MRS)
{
    x64_emit *e = &t->e;
    unsigned reg = SYSREG(2 + f->o0, f->op1, f->crn, f->crm, f->op2);
    uint64_t value;
    switch (reg) {
    case TPIDR_EL0:
        x_mov_rm(e, 1, a64_def(t, f->rt), A64_AT(tpidr));
        return true;
    case DIT:
    case SSBS: {
        a64_flags_lose(t);
        int d = a64_def(t, f->rt);
        x_mov_rm(e, 0, d, A64_AT(pstate));
        x_alu_ri(e, X_AND, 0, d, reg == DIT ? A64_DIT : A64_SSBS);
        return true;
    }
    case TPIDRRO_EL0:
        x_mov_ri(e, a64_def(t, f->rt), 0);
        return true;
    case CTR_EL0:
        x_mov_ri(e, a64_def(t, f->rt), CTR_VALUE);
        return true;
    case DCZID_EL0:
        x_mov_ri(e, a64_def(t, f->rt), 4);
        return true;
    case CNTFRQ_EL0:
        x_mov_ri(e, a64_def(t, f->rt), 1000000000);
        return true;
    case FPCR:
        x_mov_rm(e, 0, a64_def(t, f->rt), A64_AT(fpcr));
        return true;
    case CNTVCT_EL0:
        a64_call_soft(t, read_counter);
        break;
    case FPSR:
        a64_call_soft(t, read_fpsr);
        break;
    case NZCV:
        a64_flags_save(t);
        a64_call_soft(t, read_nzcv);
        break;
    default:
        if (!f->o0 || f->op1 != 0 || f->crn != 0 || !a64_id_register(f->crm, f->op2, &value))
            return undefined(t);
        x_mov_ri(e, a64_def(t, f->rt), value);
        return true;
    }
    x_mov_rm(e, 1, a64_def(t, f->rt), argument());
    return true;
}

INSN(MSR)
{
    x64_emit *e = &t->e;
    unsigned reg = SYSREG(2 + f->o0, f->op1, f->crn, f->crm, f->op2);
    switch (reg) {
    case TPIDR_EL0:
        x_mov_mr(e, 1, A64_AT(tpidr), a64_use(t, f->rt));
        return true;
    case DIT:
    case SSBS: {
        a64_flags_lose(t);
        int n = a64_use(t, f->rt), bit = a64_tmp(t);
        x_mov_rr(e, 0, bit, n);
        x_alu_ri(e, X_AND, 0, bit, reg == DIT ? A64_DIT : A64_SSBS);
        set_pstate(t, reg == DIT ? A64_DIT : A64_SSBS, false);
        x_alu_mr(e, X_OR, 0, A64_AT(pstate), bit);
        return true;
    }
    case NZCV:
    case FPCR:
    case FPSR:
        break;
    default:
        return undefined(t);
    }
    x_mov_mr(e, 1, argument(), a64_use(t, f->rt));
    a64_call_soft(t, reg == NZCV ? write_nzcv : reg == FPCR ? write_fpcr : write_fpsr);
    if (reg == NZCV)
        a64_flags_stored(t);
    if (reg == FPCR && !t->code->odd) { /* to the engine, for other translations */
        a64_flags_lose(t);
        x_op_rm(e, 0, 0xf7, 0, A64_AT(fpcr)); /* test */
        x_word(e, A64_FPCR_ODD);
        a64_exit_if(t, X_NE, t->pc + 4, A64_EXIT_KICK);
    }
    return true;
}
