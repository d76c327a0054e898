/* Data processing, immediate and register: Arm ARM C4.1, C6.2. */
#include "a64.h"

/* d = a source; flags stay. */
static void read(a64_translator *t, int w, int d, a64_source s)
{
    if (s.zero)
        x_mov_ri(&t->e, d, 0);
    else if (s.host < 0)
        x_mov_rm(&t->e, w, d, s.at);
    else if (s.host != d || !w)
        x_mov_rr(&t->e, w, d, s.host);
}

static void alu_from(a64_translator *t, int op, int w, int d, a64_source s)
{
    if (s.zero)
        x_alu_ri(&t->e, op, w, d, 0);
    else if (s.host < 0)
        x_alu_rm(&t->e, op, w, d, s.at);
    else
        x_alu_rr(&t->e, op, w, d, s.host);
}

/* d = n op m.  Flags must be lost, or set by this. */
static void alu3_from(a64_translator *t, int op, int w, int d, a64_source n, a64_source m)
{
    if (d == n.host) {
        alu_from(t, op, w, d, m);
    } else if (d != m.host) {
        read(t, 1, d, n);
        alu_from(t, op, w, d, m);
    } else if (op != X_SUB && op != X_SBB) {
        alu_from(t, op, w, d, n);
    } else {
        int copy = a64_tmp(t);
        x_mov_rr(&t->e, w, copy, m.host);
        read(t, 1, d, n);
        x_alu_rr(&t->e, op, w, d, copy);
    }
}

static void alu3(a64_translator *t, int op, int w, int d, int n, int m)
{
    alu3_from(t, op, w, d, (a64_source){.host = n}, (a64_source){.host = m});
}

static const uint8_t shifts[] = {X_SHL, X_SHR, X_SAR, X_ROR};

/* Rm, shifted: its own register where there is nothing to do.  Changes EFLAGS. */
static int shifted(a64_translator *t, int w, unsigned rm, unsigned shift, unsigned amount)
{
    int m = a64_use(t, rm);
    if (amount == 0)
        return m;
    int copy = a64_tmp(t);
    x_mov_rr(&t->e, w, copy, m);
    x_shift_ri(&t->e, shifts[shift], w, copy, amount);
    return copy;
}

static void move(a64_translator *t, int w, int d, int s)
{
    if (d != s || !w)
        x_mov_rr(&t->e, w, d, s);
}

static void clear(a64_translator *t, int d)
{
    x_mov_ri(&t->e, d, 0);
}

INSN(ADR)
{
    int64_t distance = (int64_t)((uint64_t)f->immhi << 45) >> 43 | (int64_t)f->immlo;
    uint64_t value = f->op ? (t->pc & ~UINT64_C(4095)) + ((uint64_t)distance << 12) : t->pc + (uint64_t)distance;
    x_mov_ri(&t->e, a64_def(t, f->rd), value);
    return true;
}

INSN(ADDSUB_imm)
{
    x64_emit *e = &t->e;
    int w = (int)f->sf;
    int32_t value = (int32_t)(f->imm12 << 12 * f->sh);
    if (!f->S || a64_flags_dead(t)) {
        if (f->S && f->rd == A64_ZR)
            return true;
        int n = a64_use_sp(t, f->rn), d = f->S ? a64_def(t, f->rd) : a64_def_sp(t, f->rd);
        if (value == 0)
            move(t, w, d, n);
        else
            x_lea(e, w, d, x64_at(n, f->op ? -value : value));
        return true;
    }
    a64_flags_lose(t);
    int n = a64_use_sp(t, f->rn);
    if (f->op && f->rd == A64_ZR) {
        x_alu_ri(e, X_CMP, w, n, value);
    } else {
        int d = a64_def(t, f->rd);
        move(t, 1, d, n);
        x_alu_ri(e, f->op ? X_SUB : X_ADD, w, d, value);
    }
    a64_flags_set(t, f->op ? FLAGS_SUB : FLAGS_ADD);
    return true;
}

/* The value of a bitmask immediate (DecodeBitMasks). */
static uint64_t bitmask(unsigned sf, unsigned n, unsigned immr, unsigned imms)
{
    unsigned length = 31 - (unsigned)__builtin_clz(n << 6 | (~imms & 0x3f));
    unsigned size = 1u << length, ones = (imms & (size - 1)) + 1, right = immr & (size - 1);
    uint64_t element = ones == 64 ? ~UINT64_C(0) : (UINT64_C(1) << ones) - 1;
    uint64_t whole = size == 64 ? ~UINT64_C(0) : (UINT64_C(1) << size) - 1;
    if (right)
        element = (element >> right | element << (size - right)) & whole;
    for (; size < 64; size *= 2)
        element |= element << size;
    return sf ? element : (uint32_t)element;
}

/* d op= value, where the value may not be an immediate operand. */
static void alu_constant(a64_translator *t, int op, int w, int d, uint64_t value)
{
    if (!w || (int64_t)value == (int32_t)value) {
        x_alu_ri(&t->e, op, w, d, (int32_t)value);
        return;
    }
    int constant = a64_tmp(t);
    x_mov_ri(&t->e, constant, value);
    x_alu_rr(&t->e, op, w, d, constant);
}

INSN(LOGIC_imm)
{
    static const uint8_t ops[] = {X_AND, X_OR, X_XOR, X_AND};
    x64_emit *e = &t->e;
    int w = (int)f->sf;
    uint64_t value = bitmask(f->sf, f->N, f->immr, f->imms);
    bool sets = f->opc == 3 && !a64_flags_dead(t);
    if (f->opc == 3 && !sets && f->rd == A64_ZR)
        return true;
    if (f->opc == 1 && f->rn == A64_ZR) {
        x_mov_ri(e, a64_def_sp(t, f->rd), value);
        return true;
    }
    if (!sets && (f->opc == 0 || f->opc == 3) && (value == 0xff || value == 0xffff || value == UINT32_MAX)) {
        int n = a64_use(t, f->rn), d = f->opc ? a64_def(t, f->rd) : a64_def_sp(t, f->rd);
        if (value == 0xff)
            x_movzx8_rr(e, d, n);
        else if (value == 0xffff)
            x_movzx16_rr(e, d, n);
        else
            x_mov_rr(e, 0, d, n);
        return true;
    }
    a64_flags_lose(t);
    int n = a64_use(t, f->rn);
    if (sets && f->rd == A64_ZR) {
        if (!w || (int64_t)value == (int32_t)value) {
            x_test_ri(e, w, n, (int32_t)value);
        } else {
            int constant = a64_tmp(t);
            x_mov_ri(e, constant, value);
            x_test_rr(e, w, n, constant);
        }
    } else {
        int d = f->opc == 3 ? a64_def(t, f->rd) : a64_def_sp(t, f->rd);
        move(t, 1, d, n);
        alu_constant(t, ops[f->opc], w, d, value);
    }
    if (sets)
        a64_flags_set(t, FLAGS_ADD);
    return true;
}

INSN(MOVW)
{
    x64_emit *e = &t->e;
    uint64_t value = (uint64_t)f->imm16 << 16 * f->hw;
    if (f->opc != 3) {
        if (f->opc == 0)
            value = ~value;
        /* What MOVKs behind it add is known too. */
        while (t->index + 1 < t->count && t->encodings[t->index + 1] == A64_MOVW) {
            uint32_t next = t->words[t->index + 1];
            if ((next >> 29 & 3) != 3 || next >> 31 != f->sf || (next & 31) != f->rd)
                break;
            unsigned shift = 16 * (next >> 21 & 3);
            value = (value & ~(UINT64_C(0xffff) << shift)) | (uint64_t)(next >> 5 & 0xffff) << shift;
            t->index++;
        }
        x_mov_ri(e, a64_def(t, f->rd), f->sf ? value : (uint32_t)value);
        return true;
    }
    if (f->rd == A64_ZR)
        return true;
    if (f->hw)
        a64_flags_lose(t);
    a64_use(t, f->rd);
    int d = a64_def(t, f->rd), w = (int)f->sf;
    if (f->hw)
        x_shift_ri(e, X_ROR, w, d, 16 * f->hw);
    x_byte(e, 0x66); /* mov r16, imm16 */
    if (d >= 8)
        x_byte(e, 0x41);
    x_byte(e, 0xb8 | ((unsigned)d & 7));
    x_byte(e, f->imm16 & 0xff);
    x_byte(e, f->imm16 >> 8);
    if (f->hw)
        x_shift_ri(e, X_ROL, w, d, 16 * f->hw);
    else if (!w)
        x_mov_rr(e, 0, d, d);
    return true;
}

/* d = the lowest `width` bits of n; without EFLAGS where x86 has a move for it. */
static void low_bits(a64_translator *t, int w, int d, int n, unsigned width)
{
    x64_emit *e = &t->e;
    if (width == 8) {
        x_movzx8_rr(e, d, n);
    } else if (width == 16) {
        x_movzx16_rr(e, d, n);
    } else if (width == 32) {
        x_mov_rr(e, 0, d, n);
    } else {
        move(t, w, d, n);
        if (width < 32) {
            x_alu_ri(e, X_AND, 0, d, (int32_t)((1u << width) - 1));
        } else {
            x_shift_ri(e, X_SHL, w, d, 64 - width);
            x_shift_ri(e, X_SHR, w, d, 64 - width);
        }
    }
}

static bool moves(unsigned width)
{
    return width == 8 || width == 16 || width == 32;
}

static void signed_bits(a64_translator *t, int w, int d, int n, unsigned width)
{
    x64_emit *e = &t->e;
    if (width == 8)
        x_movsx8_rr(e, w, d, n);
    else if (width == 16)
        x_movsx16_rr(e, w, d, n);
    else
        x_movsxd_rr(e, d, n);
}

INSN(BITFIELD)
{
    x64_emit *e = &t->e;
    int w = (int)f->sf;
    unsigned size = f->sf ? 64 : 32;
    if (f->opc == 1) { /* BFM */
        unsigned ones = f->imms >= f->immr ? f->imms - f->immr + 1 : f->imms + 1;
        unsigned left = f->imms >= f->immr ? 0 : size - f->immr;
        uint64_t mask = (ones == 64 ? ~UINT64_C(0) : (UINT64_C(1) << ones) - 1) << left;
        if (f->rd == A64_ZR)
            return true;
        a64_flags_lose(t);
        int n = a64_use(t, f->rn), d = a64_use(t, f->rd);
        int bits = a64_tmp(t);
        x_mov_rr(e, w, bits, n);
        if (f->immr)
            x_shift_ri(e, X_ROR, w, bits, f->immr);
        a64_def(t, f->rd);
        if (ones == size) {
            x_mov_rr(e, w, d, bits);
            return true;
        }
        x_alu_rr(e, X_XOR, w, bits, d);
        alu_constant(t, X_AND, w, bits, mask);
        x_alu_rr(e, X_XOR, w, d, bits);
        return true;
    }
    bool is_signed = f->opc == 0;
    if (f->immr == 0 && moves(f->imms + 1)) { /* SXT, UXT */
        int n = a64_use(t, f->rn), d = a64_def(t, f->rd);
        if (is_signed && f->imms + 1 < size)
            signed_bits(t, w, d, n, f->imms + 1);
        else
            low_bits(t, w, d, n, f->imms + 1);
        return true;
    }
    if (!is_signed && f->imms + 1 == f->immr && size - f->immr <= 3) { /* LSL by 1 to 3 */
        int n = a64_use(t, f->rn), d = a64_def(t, f->rd);
        x_lea(e, w, d, x64_indexed(X64_ABSOLUTE, n, (int)(size - f->immr), 0));
        return true;
    }
    bool to_right = f->imms == size - 1, to_left = !is_signed && f->imms + 1 == f->immr;
    if ((to_right || to_left) && a64_host_has.bmi2 && a64_flags_held(t)) {
        int n = a64_use(t, f->rn), count = a64_tmp(t);
        x_mov_ri(e, count, to_left ? size - f->immr : f->immr);
        x_shiftx(e, to_left ? PP_66 : is_signed ? PP_F3 : PP_F2, w, a64_def(t, f->rd), n, count);
        return true;
    }
    a64_flags_lose(t);
    int n = a64_use(t, f->rn), d = a64_def(t, f->rd);
    if (f->imms == size - 1) { /* LSR, ASR */
        move(t, 1, d, n);
        if (f->immr)
            x_shift_ri(e, is_signed ? X_SAR : X_SHR, w, d, f->immr);
        else
            move(t, w, d, d);
    } else if (f->imms >= f->immr) { /* UBFX, SBFX */
        unsigned width = f->imms - f->immr + 1;
        if (!is_signed && (moves(width) || width < 32)) {
            move(t, 1, d, n);
            if (f->immr)
                x_shift_ri(e, X_SHR, w, d, f->immr);
            low_bits(t, w, d, d, width);
        } else {
            move(t, 1, d, n);
            if (size - f->imms - 1)
                x_shift_ri(e, X_SHL, w, d, size - f->imms - 1);
            x_shift_ri(e, is_signed ? X_SAR : X_SHR, w, d, size - width);
        }
    } else { /* UBFIZ, SBFIZ, LSL */
        unsigned width = f->imms + 1, left = size - f->immr;
        if (width + left == size) {
            move(t, 1, d, n);
            x_shift_ri(e, X_SHL, w, d, left);
        } else if (moves(width)) {
            if (is_signed)
                signed_bits(t, w, d, n, width);
            else
                low_bits(t, w, d, n, width);
            x_shift_ri(e, X_SHL, w, d, left);
        } else {
            move(t, 1, d, n);
            x_shift_ri(e, X_SHL, w, d, size - width);
            x_shift_ri(e, is_signed ? X_SAR : X_SHR, w, d, size - width - left);
        }
    }
    return true;
}

INSN(EXTR)
{
    x64_emit *e = &t->e;
    int w = (int)f->sf;
    if (f->rn == f->rm) { /* ROR */
        if (!a64_host_has.bmi2)
            a64_flags_lose(t);
        int n = a64_use(t, f->rn), d = a64_def(t, f->rd);
        if (f->imms == 0) {
            move(t, w, d, n);
        } else if (a64_host_has.bmi2) {
            x_rorx(e, w, d, n, f->imms);
        } else {
            move(t, w, d, n);
            x_shift_ri(e, X_ROR, w, d, f->imms);
        }
        return true;
    }
    a64_flags_lose(t);
    int n = a64_use(t, f->rn), m = a64_use(t, f->rm);
    int d = a64_def(t, f->rd);
    if (f->imms == 0) {
        move(t, w, d, m);
    } else if (d == n) {
        int copy = a64_tmp(t);
        x_mov_rr(e, w, copy, m);
        x_shrd_ri(e, w, copy, n, f->imms);
        x_mov_rr(e, w, d, copy);
    } else {
        move(t, 1, d, m);
        x_shrd_ri(e, w, d, n, f->imms);
    }
    return true;
}

INSN(LOGIC_shift)
{
    static const uint8_t ops[] = {X_AND, X_OR, X_XOR, X_AND};
    x64_emit *e = &t->e;
    int w = (int)f->sf;
    bool sets = f->opc == 3 && !a64_flags_dead(t);
    if (f->rd == A64_ZR && !sets)
        return true;
    if (f->opc == 1 && f->rn == A64_ZR && f->imm6 == 0) { /* MOV, MVN */
        if (f->rm == A64_ZR) {
            x_mov_ri(e, a64_def(t, f->rd), !f->N ? 0 : w ? ~UINT64_C(0) : UINT32_MAX);
            return true;
        }
        int m = a64_use(t, f->rm), d = a64_def(t, f->rd);
        move(t, w, d, m);
        if (f->N)
            x_unary(e, X_NOT, w, d);
        return true;
    }
    a64_flags_lose(t);
    int n = a64_use(t, f->rn), m = shifted(t, w, f->rm, f->shift, f->imm6);
    if (f->N && (f->opc == 0 || f->opc == 3) && a64_host_has.bmi1) { /* BIC, BICS */
        x_andn(e, w, a64_def(t, f->rd), m, n);
    } else {
        if (f->N) {
            int copy = m;
            if (f->imm6 == 0) {
                copy = a64_tmp(t);
                x_mov_rr(e, w, copy, m);
            }
            x_unary(e, X_NOT, w, copy);
            m = copy;
        }
        if (sets && f->rd == A64_ZR)
            x_test_rr(e, w, n, m);
        else
            alu3(t, ops[f->opc], w, a64_def(t, f->rd), n, m);
    }
    if (sets)
        a64_flags_set(t, FLAGS_ADD);
    return true;
}

INSN(ADDSUB_shift)
{
    x64_emit *e = &t->e;
    int w = (int)f->sf;
    bool sets = f->S && !a64_flags_dead(t);
    if (!sets && f->rd == A64_ZR)
        return true;
    if (!sets && !f->op && (f->imm6 == 0 || (f->shift == 0 && f->imm6 <= 3))) {
        int m = a64_use(t, f->rm);
        if (f->rn == A64_ZR && f->imm6 == 0) {
            move(t, w, a64_def(t, f->rd), m);
        } else {
            int n = a64_use(t, f->rn);
            x_lea(e, w, a64_def(t, f->rd), x64_indexed(n, m, (int)f->imm6, 0));
        }
        return true;
    }
    a64_flags_lose(t);
    if (sets && f->rd != A64_ZR && f->imm6 == 0) { /* often the first of a chain of ADCS */
        a64_source n = a64_read(t, f->rn), m = a64_read(t, f->rm);
        alu3_from(t, f->op ? X_SUB : X_ADD, w, a64_def(t, f->rd), n, m);
        a64_flags_set(t, f->op ? FLAGS_SUB : FLAGS_ADD);
        return true;
    }
    int m = shifted(t, w, f->rm, f->shift, f->imm6);
    if (f->op && f->rn == A64_ZR) { /* NEG */
        int d = a64_def(t, f->rd);
        move(t, 1, d, m);
        x_unary(e, X_NEG, w, d);
    } else {
        int n = a64_use(t, f->rn);
        if (f->op && f->rd == A64_ZR)
            x_alu_rr(e, X_CMP, w, n, m);
        else
            alu3(t, f->op ? X_SUB : X_ADD, w, a64_def(t, f->rd), n, m);
    }
    if (sets)
        a64_flags_set(t, f->op ? FLAGS_SUB : FLAGS_ADD);
    return true;
}

/* Rm as an extended register operand, unshifted: its own register where nothing is to be done. */
static int extended(a64_translator *t, unsigned rm, unsigned option)
{
    x64_emit *e = &t->e;
    int m = a64_use(t, rm);
    if ((option & 3) == 3)
        return m;
    int copy = a64_tmp(t);
    switch (option) {
    case 0:
        x_movzx8_rr(e, copy, m);
        break;
    case 1:
        x_movzx16_rr(e, copy, m);
        break;
    case 2:
        x_mov_rr(e, 0, copy, m);
        break;
    case 4:
        x_movsx8_rr(e, 1, copy, m);
        break;
    case 5:
        x_movsx16_rr(e, 1, copy, m);
        break;
    default:
        x_movsxd_rr(e, copy, m);
        break;
    }
    return copy;
}

INSN(ADDSUB_ext)
{
    x64_emit *e = &t->e;
    int w = (int)f->sf;
    bool sets = f->S && !a64_flags_dead(t);
    if (f->S && !sets && f->rd == A64_ZR)
        return true;
    if (!sets && !f->op && f->imm3 <= 3) {
        int m = extended(t, f->rm, f->option), n = a64_use_sp(t, f->rn);
        x_lea(e, w, f->S ? a64_def(t, f->rd) : a64_def_sp(t, f->rd), x64_indexed(n, m, (int)f->imm3, 0));
        return true;
    }
    a64_flags_lose(t);
    int m = extended(t, f->rm, f->option), n = a64_use_sp(t, f->rn);
    if (f->imm3) {
        if ((f->option & 3) == 3) {
            int copy = a64_tmp(t);
            x_mov_rr(e, 1, copy, m);
            m = copy;
        }
        x_shift_ri(e, X_SHL, w, m, f->imm3);
    }
    if (f->op && f->S && f->rd == A64_ZR)
        x_alu_rr(e, X_CMP, w, n, m);
    else
        alu3(t, f->op ? X_SUB : X_ADD, w, f->S ? a64_def(t, f->rd) : a64_def_sp(t, f->rd), n, m);
    if (sets)
        a64_flags_set(t, f->op ? FLAGS_SUB : FLAGS_ADD);
    return true;
}

INSN(ADC)
{
    x64_emit *e = &t->e;
    int w = (int)f->sf;
    bool sets = f->S && !a64_flags_dead(t);
    if (!f->S && t->live[t->index + 1])
        a64_flags_save(t);
    enum a64_flags form = a64_flags_load(t), wanted = f->op ? FLAGS_SUB : FLAGS_ADD;
    a64_source n = a64_read(t, f->rn), m = a64_read(t, f->rm);
    int d = a64_def(t, f->rd);
    if (form != wanted)
        x_cmc(e);
    t->consumed = true;
    alu3_from(t, f->op ? X_SBB : X_ADC, w, d, n, m);
    if (sets)
        a64_flags_set(t, wanted);
    else
        t->flags = FLAGS_SAVED;
    return true;
}

/* EFLAGS as they are after a comparison with this result, without a register but rax. */
static void set_flags(a64_translator *t, unsigned nzcv, enum a64_flags form)
{
    unsigned carry = (nzcv >> 1 & 1) ^ (form == FLAGS_SUB);
    unsigned ah = (nzcv & 8) << 4 | (nzcv & 4) << 4 | carry | 2;
    x_mov_ri(&t->e, RAX, ah << 8 | (nzcv & 1));
    x_byte(&t->e, 0x04); /* add al, 0x7f */
    x_byte(&t->e, 0x7f);
    x_sahf(&t->e);
}

INSN(CCMP)
{
    x64_emit *e = &t->e;
    int w = (int)f->sf;
    enum a64_flags form = f->op ? FLAGS_SUB : FLAGS_ADD;
    if (a64_flags_dead(t))
        return true;
    bool always = f->cond >= 14;
    if (always)
        a64_flags_lose(t);
    else
        a64_take(t, RAX);
    int n = a64_use(t, f->rn), m = f->imm ? -1 : a64_use(t, f->y);
    int copy = -1;
    if (!f->op) {
        copy = a64_tmp(t);
        x_mov_rr(e, w, copy, n);
    }
    uint8_t *otherwise = NULL;
    if (!always)
        otherwise = x_jcc8(e, a64_condition(t, f->cond) ^ 1);
    if (f->imm)
        x_alu_ri(e, f->op ? X_CMP : X_ADD, w, f->op ? n : copy, (int32_t)f->y);
    else
        x_alu_rr(e, f->op ? X_CMP : X_ADD, w, f->op ? n : copy, m);
    if (!always) {
        uint8_t *done = x_jmp8(e);
        x_land8(e, otherwise);
        set_flags(t, f->nzcv, form);
        x_land8(e, done);
    }
    a64_flags_set(t, form);
    return true;
}

INSN(CSEL)
{
    x64_emit *e = &t->e;
    int w = (int)f->sf;
    if (f->cond >= 14) {
        int n = a64_use(t, f->rn);
        move(t, w, a64_def(t, f->rd), n);
        return true;
    }
    if (f->rn == A64_ZR && f->rm == A64_ZR && !f->op && f->o2) { /* CSET */
        int cc = a64_condition(t, f->cond);
        int d = a64_def(t, f->rd);
        clear(t, d);
        x_setcc(e, cc ^ 1, d);
        return true;
    }
    int n = a64_use(t, f->rn), m = a64_use(t, f->rm);
    int other = m;
    if (f->op || f->o2) {
        other = a64_tmp(t);
        if (!f->op) {
            x_lea(e, w, other, x64_at(m, 1));
        } else {
            x_mov_rr(e, w, other, m);
            x_unary(e, X_NOT, w, other);
            if (f->o2)
                x_lea(e, w, other, x64_at(other, 1));
        }
    }
    int cc = a64_condition(t, f->cond);
    int d = a64_def(t, f->rd);
    if (d == n) {
        x_cmov(e, cc ^ 1, w, d, other);
    } else {
        if (d != other)
            x_mov_rr(e, w, d, other);
        x_cmov(e, cc, w, d, n);
    }
    return true;
}

INSN(UDIV_SDIV)
{
    x64_emit *e = &t->e;
    int w = (int)f->sf;
    a64_flags_lose(t);
    a64_take(t, RAX);
    a64_take(t, RDX);
    int n = a64_use(t, f->rn), m = a64_use(t, f->rm);
    x_mov_rr(e, w, RAX, n);
    x_test_rr(e, w, m, m);
    uint8_t *zero = x_jcc8(e, X_E), *minus = NULL;
    if (f->o) {
        x_alu_ri(e, X_CMP, w, m, -1);
        minus = x_jcc8(e, X_E);
        x_cdq(e, w);
    } else {
        x_alu_rr(e, X_XOR, 0, RDX, RDX);
    }
    x_unary(e, f->o ? X_IDIV : X_DIV, w, m);
    uint8_t *done = x_jmp8(e), *negated = NULL;
    if (f->o) { /* by -1, which may overflow */
        x_land8(e, minus);
        x_unary(e, X_NEG, w, RAX);
        negated = x_jmp8(e);
    }
    x_land8(e, zero);
    clear(t, RAX);
    x_land8(e, done);
    if (f->o)
        x_land8(e, negated);
    x_mov_rr(e, w, a64_def(t, f->rd), RAX);
    return true;
}

INSN(SHIFTV)
{
    static const uint8_t kinds[] = {PP_66, PP_F2, PP_F3};
    x64_emit *e = &t->e;
    int w = (int)f->sf;
    if (a64_host_has.bmi2 && f->op2 < 3) {
        int n = a64_use(t, f->rn), m = a64_use(t, f->rm);
        x_shiftx(e, kinds[f->op2], w, a64_def(t, f->rd), n, m);
        return true;
    }
    a64_flags_lose(t);
    a64_take(t, RCX);
    int n = a64_use(t, f->rn), m = a64_use(t, f->rm);
    int d = a64_def(t, f->rd);
    x_mov_rr(e, 0, RCX, m);
    move(t, 1, d, n);
    x_shift_cl(e, shifts[f->op2], w, d);
    move(t, w, d, d);
    return true;
}

/* Swaps neighbouring groups of `bits` bits: d = (d >> bits & mask) | (d & mask) << bits. */
static void swap_groups(a64_translator *t, int w, int d, unsigned bits, uint64_t mask)
{
    x64_emit *e = &t->e;
    int other = a64_tmp(t), constant = a64_tmp(t);
    x_mov_rr(e, w, other, d);
    x_mov_ri(e, constant, w ? mask : (uint32_t)mask);
    x_shift_ri(e, X_SHR, w, other, bits);
    x_alu_rr(e, X_AND, w, d, constant);
    x_alu_rr(e, X_AND, w, other, constant);
    x_shift_ri(e, X_SHL, w, d, bits);
    x_alu_rr(e, X_OR, w, d, other);
    a64_give(t, other);
    a64_give(t, constant);
}

INSN(RBIT)
{
    a64_flags_lose(t);
    int w = (int)f->sf, n = a64_use(t, f->rn), d = a64_def(t, f->rd);
    move(t, w, d, n);
    x_bswap(&t->e, w, d);
    swap_groups(t, w, d, 4, UINT64_C(0x0f0f0f0f0f0f0f0f));
    swap_groups(t, w, d, 2, UINT64_C(0x3333333333333333));
    swap_groups(t, w, d, 1, UINT64_C(0x5555555555555555));
    return true;
}

INSN(REV16)
{
    a64_flags_lose(t);
    int w = (int)f->sf, n = a64_use(t, f->rn), d = a64_def(t, f->rd);
    move(t, w, d, n);
    swap_groups(t, w, d, 8, UINT64_C(0x00ff00ff00ff00ff));
    return true;
}

INSN(REV32)
{
    a64_flags_lose(t);
    int n = a64_use(t, f->rn), d = a64_def(t, f->rd);
    move(t, 1, d, n);
    x_bswap(&t->e, 1, d);
    x_shift_ri(&t->e, X_ROR, 1, d, 32);
    return true;
}

INSN(REV)
{
    int w = (int)f->sf, n = a64_use(t, f->rn), d = a64_def(t, f->rd);
    move(t, w, d, n);
    x_bswap(&t->e, w, d);
    return true;
}

/* d = leading zeros of n, which may be d. */
static void leading_zeros(a64_translator *t, int w, int d, int n)
{
    x64_emit *e = &t->e;
    if (a64_host_has.lzcnt) {
        x_byte(e, 0xf3);
        x_op_rr(e, w, 0xfbd, d, n);
        return;
    }
    int none = a64_tmp(t);
    x_mov_ri(e, none, w ? 127 : 63);
    x_op_rr(e, w, 0xfbd, d, n); /* bsr */
    x_cmov(e, X_E, w, d, none);
    x_alu_ri(e, X_XOR, w, d, w ? 63 : 31);
}

INSN(CLZ_CLS)
{
    x64_emit *e = &t->e;
    a64_flags_lose(t);
    int w = (int)f->sf, n = a64_use(t, f->rn);
    if (f->op) { /* where a bit differs from its neighbour on the right */
        int bits = a64_tmp(t);
        x_lea(e, w, bits, x64_indexed(n, n, 0, 0));
        x_alu_rr(e, X_XOR, w, bits, n);
        x_alu_ri(e, X_OR, w, bits, 1);
        n = bits;
    }
    leading_zeros(t, w, a64_def(t, f->rd), n);
    return true;
}

/* d = a + product, or a - product; product is a temporary. */
static void accumulate(a64_translator *t, int w, unsigned rd, unsigned ra, int product, bool subtract)
{
    x64_emit *e = &t->e;
    if (subtract) /* a - p = a + ~p + 1, and neither changes EFLAGS */
        x_unary(e, X_NOT, w, product);
    if (ra == A64_ZR) {
        int d = a64_def(t, rd);
        if (subtract)
            x_lea(e, w, d, x64_at(product, 1));
        else
            move(t, w, d, product);
    } else {
        int a = a64_use(t, ra);
        x_lea(e, w, a64_def(t, rd), x64_indexed(a, product, 0, subtract));
    }
}

/* A source of a multiplication, never zero. */
static a64_source factor(a64_translator *t, unsigned n)
{
    return n == A64_ZR ? (a64_source){.host = a64_use(t, n)} : a64_read(t, n);
}

static void imul(x64_emit *e, int w, int d, a64_source s)
{
    if (s.host < 0)
        x_imul_rm(e, w, d, s.at);
    else
        x_imul_rr(e, w, d, s.host);
}

static void mulx(x64_emit *e, int w, int high, int low, a64_source s)
{
    if (s.host < 0)
        x_mulx_rm(e, w, high, low, s.at);
    else
        x_mulx(e, w, high, low, s.host);
}

INSN(MADD)
{
    x64_emit *e = &t->e;
    int w = (int)f->sf;
    if (a64_host_has.bmi2 && a64_flags_held(t)) { /* a carry that goes on: long multiplications */
        a64_take(t, RDX);
        a64_source n = a64_read(t, f->rn), m = factor(t, f->rm);
        bool alone = f->ra == A64_ZR && !f->o0;
        int product = alone ? a64_def(t, f->rd) : a64_tmp(t);
        read(t, w, RDX, n);
        mulx(e, w, RDX, product, m);
        if (!alone)
            accumulate(t, w, f->rd, f->ra, product, f->o0);
        return true;
    }
    a64_flags_lose(t);
    a64_source n = factor(t, f->rn), m = factor(t, f->rm);
    if (f->ra == A64_ZR && !f->o0) { /* MUL */
        int d = a64_def(t, f->rd);
        if (d == m.host) {
            imul(e, w, d, n);
        } else {
            read(t, 1, d, n);
            imul(e, w, d, m);
        }
        return true;
    }
    int product = a64_tmp(t);
    read(t, w, product, n);
    imul(e, w, product, m);
    accumulate(t, w, f->rd, f->ra, product, f->o0);
    return true;
}

INSN(MADDL)
{
    x64_emit *e = &t->e;
    a64_flags_lose(t);
    int n = a64_use(t, f->rn), m = a64_use(t, f->rm);
    int product = a64_tmp(t), other = a64_tmp(t);
    if (f->U) {
        x_mov_rr(e, 0, product, n);
        x_mov_rr(e, 0, other, m);
    } else {
        x_movsxd_rr(e, product, n);
        x_movsxd_rr(e, other, m);
    }
    x_imul_rr(e, 1, product, other);
    a64_give(t, other);
    accumulate(t, 1, f->rd, f->ra, product, f->o0);
    return true;
}

INSN(MULH)
{
    x64_emit *e = &t->e;
    if (f->U && a64_host_has.bmi2) {
        a64_take(t, RDX);
        a64_source n = a64_read(t, f->rn), m = factor(t, f->rm);
        int d = a64_def(t, f->rd);
        read(t, 1, RDX, n);
        mulx(e, 1, d, d, m);
        return true;
    }
    a64_flags_lose(t);
    a64_take(t, RAX);
    a64_take(t, RDX);
    int n = a64_use(t, f->rn), m = a64_use(t, f->rm);
    x_mov_rr(e, 1, RAX, n);
    x_unary(e, f->U ? X_MUL : X_IMUL, 1, m);
    x_mov_rr(e, 1, a64_def(t, f->rd), RDX);
    return true;
}
