/*
 * The condition flags: in EFLAGS, in one of several forms, or in the state.
 *
 * Arm's carry is the opposite of x86's borrow, so subtractions leave another
 * form than additions.  UCOMIS leaves ZF, PF, CF = 000 greater, 001 less, 100
 * equal, 111 unordered, where FCMP has NZCV = 0010, 1000, 0110, 0011.
 */
#include "a64.h"

/* In the state's copy. */
enum { SAVED_N = 0x8000, SAVED_Z = 0x4000, SAVED_C = 0x0100, SAVED_V = 0x0001 };

enum { EQ, NE, CS, CC, MI, PL, VS, VC, HI, LS, GE, LT, GT, LE };

/* x86's condition; -1: none that EFLAGS of this form answer. */
static const int8_t conditions[][14] = {
    [FLAGS_ADD] = {X_E, X_NE, X_B, X_AE, X_S, X_NS, X_O, X_NO, -1, -1, X_GE, X_L, X_G, X_LE},
    [FLAGS_SUB] = {X_E, X_NE, X_AE, X_B, X_S, X_NS, X_O, X_NO, X_A, X_BE, X_GE, X_L, X_G, X_LE},
    [FLAGS_FCMP] = {-1, -1, -1, -1, -1, -1, X_P, X_NP, -1, -1, X_AE, X_B, X_A, X_BE},
    [FLAGS_FCMP_SWAP] = {-1, -1, X_BE, X_A, X_A, X_BE, X_P, X_NP, X_B, X_AE, -1, -1, -1, -1},
    [FLAGS_FCMP_EQ] = {X_E, X_NE, -1, -1, -1, -1, X_P, X_NP, -1, -1, X_AE, X_B, X_A, X_BE},
    [FLAGS_FCCMP_SWAP] = {-1, -1, -1, -1, X_A, X_BE, X_P, X_NP, X_B, X_AE, -1, -1, -1, -1},
};

void a64_flags_set(a64_translator *t, enum a64_flags form)
{
    a64_discard(t, A64_PENDING);
    t->flags = (uint8_t)form;
    t->flags_saved = false;
}

void a64_flags_stored(a64_translator *t)
{
    a64_discard(t, A64_PENDING);
    t->flags = FLAGS_SAVED;
    t->flags_saved = true;
}

bool a64_flags_held(const a64_translator *t)
{
    return t->flags != FLAGS_SAVED && t->flags != FLAGS_PENDING && !t->flags_saved && t->live[t->index + 1];
}

bool a64_flags_dead(const a64_translator *t)
{
    return !t->live[t->index + 1];
}

static bool of_floats(unsigned form)
{
    return form >= FLAGS_FCMP && form <= FLAGS_FCCMP_SWAP;
}

static bool swapped(unsigned form)
{
    return form == FLAGS_FCMP_SWAP || form == FLAGS_FCCMP_SWAP;
}

/* The bytes that LAHF and SETO make; changes EFLAGS only to the ADD form. */
static void save(a64_translator *t, bool in_exit)
{
    x64_emit *e = &t->e;
    bool borrowed = !in_exit && (t->general.guest[RAX] >= 0 || t->general.locked >> RAX & 1);
    if (borrowed)
        x_mov_mr(e, 1, A64_AT(scratch), RAX);
    if (of_floats(t->flags)) {
        x64_mem table = A64_AT(fcmp);
        table.disp += swapped(t->flags) ? 512 : 0;
        x_lahf(e);
        x_byte(e, 0x0f); /* movzx eax, ah */
        x_byte(e, 0xb6);
        x_byte(e, 0xc4);
        x_movzx16_rm(e, RAX, x64_indexed(RSP, RAX, 1, table.disp));
    } else {
        if (t->flags == FLAGS_SUB) {
            x_cmc(e);
            t->flags = FLAGS_ADD;
        }
        x_lahf(e);
        x_setcc(e, X_O, RAX);
    }
    x_mov_mr16(e, A64_AT(nzcv), RAX);
    if (borrowed)
        x_mov_rm(e, 1, RAX, A64_AT(scratch));
    t->flags_saved = true;
}

/* Flags with which a condition does not hold, and does; of the odd ones, the opposites, it is the other way round. */
static const uint16_t examples[7][2] = {
    {0, SAVED_Z}, {0, SAVED_C}, {0, SAVED_N}, {0, SAVED_V}, {0, SAVED_C}, {SAVED_N, 0}, {SAVED_N, 0},
};

/* EFLAGS are free where a condition is pending. */
static void save_pending(a64_translator *t)
{
    x64_emit *e = &t->e;
    const uint16_t *example = examples[t->pending >> 1];
    int host = t->general.host[A64_PENDING];
    if (host >= 0)
        x_op_rr8(e, 0, 0x84, host, host); /* test */
    else
        x_test_mi8(e, a64_x_at(A64_PENDING), 0xff);
    x_mov_mi16(e, A64_AT(nzcv), example[t->pending & 1]);
    uint8_t *not = x_jcc8(e, X_E);
    x_mov_mi16(e, A64_AT(nzcv), example[~t->pending & 1]);
    x_land8(e, not);
}

void a64_flags_save(a64_translator *t)
{
    if (t->flags == FLAGS_PENDING)
        save_pending(t);
    else if (t->flags != FLAGS_SAVED && !t->flags_saved)
        save(t, false);
}

void a64_flags_found(a64_state *state, uint64_t eflags, unsigned more)
{
    enum a64_flags form = (enum a64_flags)(more & A64_SITE_FORM);
    unsigned pending = more >> A64_SITE_CONDITION & 15;
    switch (form) {
    case FLAGS_SAVED:
        return;
    case FLAGS_PENDING:
        state->nzcv = examples[pending >> 1][(pending ^ (unsigned)((uint8_t)state->pending != 0)) & 1];
        return;
    case FLAGS_FCMP:
    case FLAGS_FCMP_SWAP:
    case FLAGS_FCMP_EQ:
    case FLAGS_FCCMP_SWAP:
        state->nzcv = state->fcmp[swapped(form)][eflags & 0xff];
        return;
    default:
        state->nzcv = (uint16_t)((eflags & (SAVED_N | SAVED_Z) >> 8) << 8 | (eflags >> 11 & 1));
        if ((eflags & 1) == (form == FLAGS_ADD))
            state->nzcv |= SAVED_C;
    }
}

/* The only condition (or its opposite) that is asked before the flags are set again; -1: there is more to it. */
static int only_condition(a64_translator *t)
{
    int found = -1;
    for (int i = t->consumed ? t->index + 1 : t->index; i < t->count; i++) {
        uint32_t word = t->words[i];
        unsigned encoding = t->encodings[i], effect = a64_flags_of(encoding, word);
        if (!a64_implemented((enum a64_encoding)encoding))
            return -1;
        if (effect & A64_USES) {
            if (encoding != A64_B_cond && encoding != A64_CSEL && encoding != A64_CCMP)
                return -1;
            int condition = encoding == A64_B_cond ? (int)(word & 15) : (int)(word >> 12 & 15);
            if (condition >= 14 || (found >= 0 && (condition ^ found) > 1))
                return -1;
            found = found < 0 ? condition : found;
        }
        if (effect & A64_SETS)
            return found;
        if ((encoding == A64_B_cond || encoding == A64_CBZ || encoding == A64_TBZ) &&
            !a64_flags_dead_at(t, a64_branch_target(word, t->start + 4 * (uint64_t)i)))
            return -1;
    }
    return t->live[t->count] ? -1 : found;
}

void a64_flags_lose(a64_translator *t)
{
    if (t->flags == FLAGS_SAVED || t->flags == FLAGS_PENDING)
        return;
    if (!t->flags_saved && t->live[t->consumed ? t->index + 1 : t->index]) {
        int condition = only_condition(t);
        if (t->flags == FLAGS_FCMP && (condition == EQ || condition == NE))
            a64_flags_order(t);
        if (condition >= 0 && conditions[t->flags][condition] >= 0) {
            int cc = conditions[t->flags][condition];
            int host = a64_def_sp(t, A64_PENDING);
            x_setcc(&t->e, cc, host);
            a64_give(t, host);
            t->flags = FLAGS_PENDING;
            t->pending = (uint8_t)condition;
            return;
        }
        save(t, false);
    }
    t->flags = FLAGS_SAVED;
}

enum a64_flags a64_flags_load(a64_translator *t)
{
    if (t->flags == FLAGS_ADD || t->flags == FLAGS_SUB)
        return (enum a64_flags)t->flags;
    if (t->flags != FLAGS_SAVED && !t->flags_saved)
        save(t, false);
    int h = a64_tmp(t);
    x64_emit *e = &t->e;
    bool borrowed = h != RAX && (t->general.guest[RAX] >= 0 || t->general.locked >> RAX & 1);
    if (borrowed)
        x_mov_rr(e, 1, h, RAX);
    x_movzx16_rm(e, RAX, A64_AT(nzcv));
    x_byte(e, 0x04); /* add al, 0x7f: OF where al is 1 */
    x_byte(e, 0x7f);
    x_sahf(e);
    if (borrowed)
        x_mov_rr(e, 1, RAX, h);
    a64_give(t, h);
    t->flags = FLAGS_ADD;
    t->flags_saved = true;
    return FLAGS_ADD;
}

int a64_condition(a64_translator *t, unsigned condition)
{
    t->consumed = true;
    if (t->flags == FLAGS_PENDING) {
        int host = a64_use_sp(t, A64_PENDING);
        x_op_rr8(&t->e, 0, 0x84, host, host); /* test */
        a64_give(t, host);
        return condition == t->pending ? X_NE : X_E;
    }
    if (t->flags == FLAGS_FCMP && condition <= NE)
        a64_flags_order(t);
    if (t->flags == FLAGS_SAVED || conditions[t->flags][condition] < 0) {
        if (of_floats(t->flags) || t->flags == FLAGS_SAVED)
            a64_flags_load(t);
        if (conditions[t->flags][condition] < 0) { /* HI and LS want the borrow */
            x_cmc(&t->e);
            t->flags = FLAGS_SUB;
        }
    }
    return conditions[t->flags][condition];
}

/* ---- of floating-point comparisons ------------------------------------------------------------ */

/* 0 - 0xa0: CF and PF set, ZF and SF clear, as the tables of saved flags know it. */
static void write_order(a64_translator *t, const a64_later *later)
{
    x_op_rm(&t->e, 0, 0x80, X_CMP, A64_AT(zero));
    x_byte(&t->e, 0xa0);
    x_jmp_to(&t->e, later->back);
}

void a64_flags_order(a64_translator *t)
{
    a64_write_later(t, x_jcc(&t->e, X_P), write_order);
    t->flags = FLAGS_FCMP_EQ;
}

/*
 * FCCMP's number beside what UCOMIS leaves: LAHF's byte, with AF set, which UCOMIS
 * clears.  The conditions that a form answers must come out right, and the number
 * must be found again (a64_flags_tables).
 */
enum flag_byte { BYTE_SF = 0x80, BYTE_ZF = 0x40, BYTE_AF = 0x10, BYTE_PF = 0x04, BYTE_ONE = 0x02, BYTE_CF = 0x01 };

static unsigned number_byte(unsigned nzcv, bool swapped)
{
    unsigned n = nzcv >> 3 & 1, z = nzcv >> 2 & 1, c = nzcv >> 1 & 1, v = nzcv & 1;
    unsigned byte = BYTE_ONE | BYTE_AF | (v ? BYTE_PF : 0);
    if (!swapped)
        return byte | (n != v ? BYTE_CF : 0) | (z ? BYTE_ZF : 0) | (c ? BYTE_SF : 0);
    if (n)
        return byte;
    return byte | (c && !z ? BYTE_CF : BYTE_ZF) | (c && z ? BYTE_SF : 0);
}

unsigned a64_flags_bits(unsigned nzcv)
{
    return (nzcv & 8) << 12 | (nzcv & 4) << 12 | (nzcv & 2) << 7 | (nzcv & 1);
}

void a64_flags_tables(a64_state *state)
{
    for (unsigned byte = 0; byte < 256; byte++) {
        bool less = byte & BYTE_CF, equal = byte & BYTE_ZF, none = byte & BYTE_PF;
        state->fcmp[0][byte] = (uint16_t)a64_flags_bits(none ? 3 : equal ? 6 : less ? 8 : 2);
        state->fcmp[1][byte] = (uint16_t)a64_flags_bits(none ? 3 : equal ? 6 : less ? 2 : 8);
    }
    for (unsigned nzcv = 0; nzcv < 16; nzcv++) {
        state->fcmp[0][number_byte(nzcv, false)] = (uint16_t)a64_flags_bits(nzcv);
        if (a64_flags_fccmp_form(nzcv, true) == FLAGS_FCCMP_SWAP)
            state->fcmp[1][number_byte(nzcv, true)] = (uint16_t)a64_flags_bits(nzcv);
    }
}

enum a64_flags a64_flags_fccmp_form(unsigned nzcv, bool swapped)
{
    bool same = nzcv & 8 ? nzcv & 6 : (nzcv & 6) == 4; /* as another in number_byte */
    return swapped && !same ? FLAGS_FCCMP_SWAP : FLAGS_FCMP_EQ;
}

void a64_flags_fccmp(a64_translator *t, unsigned nzcv, enum a64_flags form)
{
    x_mov_ri(&t->e, RAX, number_byte(nzcv, form == FLAGS_FCCMP_SWAP) << 8);
    x_sahf(&t->e);
}

unsigned a64_flags_of(unsigned encoding, uint32_t word)
{
    switch (encoding) {
    case A64_ADDSUB_imm:
    case A64_ADDSUB_shift:
    case A64_ADDSUB_ext:
        return word >> 29 & 1 ? A64_SETS : 0;
    case A64_LOGIC_imm:
    case A64_LOGIC_shift:
        return (word >> 29 & 3) == 3 ? A64_SETS : 0;
    case A64_ADC:
        return A64_USES | (word >> 29 & 1 ? A64_SETS : 0);
    case A64_FCMP:
    case A64_FJCVTZS:
        return A64_SETS;
    case A64_CCMP:
    case A64_FCCMP:
        return A64_USES | A64_SETS;
    case A64_CSEL:
    case A64_FCSEL:
    case A64_B_cond:
        return A64_USES;
    case A64_CFINV:
    case A64_AXFLAG:
    case A64_XAFLAG:
    case A64_RMIF:
    case A64_SETF:
        return A64_USES | A64_SETS;
    case A64_MRS:
        return word >> 5 == 0xd53b4200u >> 5 ? A64_USES : 0; /* NZCV */
    case A64_MSR:
        return word >> 5 == 0xd51b4200u >> 5 ? A64_SETS : 0;
    default:
        return 0;
    }
}
