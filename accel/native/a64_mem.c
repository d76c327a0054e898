/* Loads and stores: Arm ARM C4.1, Loads and Stores.  x86 wants no alignment either. */
#include "a64.h"
#include "a64_fp.h"

/* Bytes of an access are 1 << size. */
static void load(a64_translator *t, unsigned size, unsigned opc, unsigned rt, x64_mem m)
{
    x64_emit *e = &t->e;
    int d = a64_def_load(t, rt), w = opc == 2;
    a64_site(t);
    switch (size) {
    case 0:
        if (opc == 1)
            x_movzx8_rm(e, d, m);
        else
            x_movsx8_rm(e, w, d, m);
        break;
    case 1:
        if (opc == 1)
            x_movzx16_rm(e, d, m);
        else
            x_movsx16_rm(e, w, d, m);
        break;
    case 2:
        if (opc == 1)
            x_mov_rm(e, 0, d, m);
        else
            x_movsxd_rm(e, d, m);
        break;
    default:
        x_mov_rm(e, 1, d, m);
        break;
    }
    a64_loaded(t, d);
}

static void store(a64_translator *t, unsigned size, unsigned rt, x64_mem m)
{
    x64_emit *e = &t->e;
    int s = rt == A64_ZR ? -1 : a64_use(t, rt);
    a64_site(t);
    switch (size) {
    case 0:
        if (s < 0)
            x_mov_mi8(e, m, 0);
        else
            x_mov_mr8(e, m, s);
        break;
    case 1:
        if (s < 0)
            x_mov_mi16(e, m, 0);
        else
            x_mov_mr16(e, m, s);
        break;
    default:
        if (s < 0)
            x_mov_mi(e, size == 3, m, 0);
        else
            x_mov_mr(e, size == 3, m, s);
        break;
    }
}

static void load_v(a64_translator *t, unsigned size, unsigned rt, x64_mem m)
{
    x64_emit *e = &t->e;
    int d;
    if (size < 2) {
        int bits = a64_tmp(t);
        a64_site(t);
        if (size == 0)
            x_movzx8_rm(e, bits, m);
        else
            x_movzx16_rm(e, bits, m);
        x_movd_xr(e, 0, a64_def_v(t, rt), bits);
        fp_cleared(t, rt, size);
        return;
    }
    d = a64_def_v_load(t, rt);
    a64_site(t);
    if (size == 2)
        x_movd_rm(e, d, m);
    else if (size == 3)
        x_movq_rm(e, d, m);
    else
        x_movups_rm(e, d, m);
    a64_loaded_v(t, d);
    if (size < 4)
        fp_cleared(t, rt, size);
}

static void store_v(a64_translator *t, unsigned size, unsigned rt, x64_mem m)
{
    x64_emit *e = &t->e;
    int s = a64_use_v(t, rt);
    a64_site(t);
    switch (size) {
    case 0:
    case 1:
        m.after = 1;
        x_sse_rm(e, PP_66, MAP_0F3A, 0, size ? 0x15 : 0x14, s, m); /* pextrb, pextrw */
        x_byte(e, 0);
        break;
    case 2:
        x_movd_mr(e, m, s);
        break;
    case 3:
        x_movq_mr(e, m, s);
        break;
    default:
        x_movups_mr(e, m, s);
        break;
    }
}

static bool access(a64_translator *t, unsigned size, unsigned opc, unsigned rt, x64_mem m)
{
    if (size == 3 && opc == 2) /* PRFM */
        return true;
    if (opc == 0)
        store(t, size, rt, m);
    else
        load(t, size, opc, rt, m);
    return true;
}

static bool access_v(a64_translator *t, unsigned size, unsigned opc, unsigned rt, x64_mem m)
{
    size |= (opc & 2) << 1;
    if (opc & 1)
        load_v(t, size, rt, m);
    else
        store_v(t, size, rt, m);
    return true;
}

static void step_base(a64_translator *t, unsigned rn, int64_t by)
{
    if (by == 0)
        return;
    int n = a64_use_sp(t, rn);
    a64_def_sp(t, rn);
    x_lea(&t->e, 1, n, x64_at(n, (int32_t)by));
}

INSN(LDST_uimm)
{
    int n = a64_use_sp(t, f->rn);
    return access(t, f->size, f->opc, f->rt, a64_guest(t, n, -1, 0, (int64_t)f->imm12 << f->size));
}

INSN(LDST_v_uimm)
{
    int n = a64_use_sp(t, f->rn);
    unsigned scale = f->size | (f->opc & 2) << 1;
    return access_v(t, f->size, f->opc, f->rt, a64_guest(t, n, -1, 0, (int64_t)f->imm12 << scale));
}

static int64_t signed9(uint32_t imm9)
{
    return (int64_t)((uint64_t)imm9 << 55) >> 55;
}

enum { UNSCALED, POST, UNPRIVILEGED, PRE };

INSN(LDST_imm9)
{
    int64_t offset = signed9(f->imm9);
    int n = a64_use_sp(t, f->rn);
    access(t, f->size, f->opc, f->rt, a64_guest(t, n, -1, 0, f->mode == POST ? 0 : offset));
    if (f->mode == POST || f->mode == PRE)
        step_base(t, f->rn, offset);
    return true;
}

INSN(LDST_v_imm9)
{
    int64_t offset = signed9(f->imm9);
    int n = a64_use_sp(t, f->rn);
    access_v(t, f->size, f->opc, f->rt, a64_guest(t, n, -1, 0, f->mode == POST ? 0 : offset));
    if (f->mode == POST || f->mode == PRE)
        step_base(t, f->rn, offset);
    return true;
}

/* Rn + extended and shifted Rm. */
static x64_mem register_offset(a64_translator *t, unsigned rn, unsigned rm, unsigned option, unsigned shift)
{
    x64_emit *e = &t->e;
    int n = a64_use_sp(t, rn);
    if (rm == A64_ZR)
        return a64_guest(t, n, -1, 0, 0);
    int m = a64_use(t, rm), index = m;
    if (option == 2 || option == 6) {
        index = a64_tmp(t);
        if (option == 2)
            x_mov_rr(e, 0, index, m);
        else
            x_movsxd_rr(e, index, m);
    }
    if (shift == 4) {
        int scaled = a64_tmp(t);
        x_lea(e, 1, scaled, x64_indexed(X64_ABSOLUTE, index, 3, 0));
        index = scaled;
        shift = 1;
    }
    return a64_guest(t, n, index, (int)shift, 0);
}

INSN(LDST_reg)
{
    if (f->size == 3 && f->opc == 2)
        return true;
    return access(t, f->size, f->opc, f->rt,
                  register_offset(t, f->rn, f->rm, f->option, f->S ? f->size : 0));
}

INSN(LDST_v_reg)
{
    unsigned scale = f->size | (f->opc & 2) << 1;
    return access_v(t, f->size, f->opc, f->rt, register_offset(t, f->rn, f->rm, f->option, f->S ? scale : 0));
}

static x64_mem literal(a64_translator *t, uint32_t imm19)
{
    uint64_t addr = t->pc + (uint64_t)((int64_t)((uint64_t)imm19 << 45) >> 43);
    if (!t->based && !t->masked && addr < INT32_MAX)
        return x64_at(X64_ABSOLUTE, (int32_t)addr);
    int at = a64_tmp(t);
    x_mov_ri(&t->e, at, addr);
    return a64_guest(t, at, -1, 0, 0);
}

INSN(LDR_lit)
{
    if (f->opc == 3)
        return true;
    x64_mem m = literal(t, f->imm19);
    return access(t, f->opc == 1 ? 3 : 2, f->opc == 2 ? 2 : 1, f->rt, m);
}

INSN(LDR_lit_v)
{
    load_v(t, 2 + f->opc, f->rt, literal(t, f->imm19));
    return true;
}

enum { PAIR_POST = 1, PAIR_PRE = 3 };

static int64_t signed7(uint32_t imm7)
{
    return (int64_t)((uint64_t)imm7 << 57) >> 57;
}

INSN(LDP)
{
    x64_emit *e = &t->e;
    unsigned size = f->opc == 2 ? 3 : 2;
    int64_t offset = signed7(f->imm7) * (1 << size), at = f->mode == PAIR_POST ? 0 : offset;
    int n = a64_use_sp(t, f->rn);
    x64_mem first = a64_guest(t, n, -1, 0, at), second = first;
    second.disp += 1 << size;
    if (!f->L) {
        store(t, size, f->rt, first);
        store(t, size, f->rt2, second);
    } else {
        /* Nothing is written before the second access has been made. */
        int early = a64_tmp(t);
        a64_site(t);
        if (f->opc == 1)
            x_movsxd_rm(e, early, first);
        else
            x_mov_rm(e, size == 3, early, first);
        load(t, size, f->opc == 1 ? 2 : 1, f->rt2, second);
        if (f->rt != A64_ZR)
            x_mov_rr(e, 1, a64_def(t, f->rt), early);
    }
    if (f->mode == PAIR_POST || f->mode == PAIR_PRE)
        step_base(t, f->rn, offset);
    return true;
}

INSN(LDP_v)
{
    x64_emit *e = &t->e;
    unsigned size = 2 + f->opc;
    int64_t offset = signed7(f->imm7) * (1 << size), at = f->mode == PAIR_POST ? 0 : offset;
    int n = a64_use_sp(t, f->rn);
    x64_mem first = a64_guest(t, n, -1, 0, at), second = first;
    second.disp += 1 << size;
    if (!f->L) {
        store_v(t, size, f->rt, first);
        store_v(t, size, f->rt2, second);
    } else {
        int early = a64_tmp_v(t);
        a64_site(t);
        if (size == 2)
            x_movd_rm(e, early, first);
        else if (size == 3)
            x_movq_rm(e, early, first);
        else
            x_movups_rm(e, early, first);
        load_v(t, size, f->rt2, second);
        a64_become_v(t, f->rt, early);
        if (size < 4)
            fp_cleared(t, f->rt, size);
    }
    if (f->mode == PAIR_POST || f->mode == PAIR_PRE)
        step_base(t, f->rn, offset);
    return true;
}
