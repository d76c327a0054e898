/*
 * Exclusives, acquire and release, compare and swap, LSE.
 *
 * An exclusive store succeeds where memory still holds what the exclusive load
 * saw: host atomics, without a lock among threads.  x86's order makes loads
 * acquire and stores release; a release that a later acquire must not overtake
 * is an exchange.
 */
#include "a64.h"

static void lock_prefix(x64_emit *e, unsigned size)
{
    x_byte(e, 0xf0);
    if (size == 1)
        x_byte(e, 0x66);
}

/* op of bytes where size is 0 (0x0fb0) and of more otherwise (0x0fb1), with a register. */
static void atomic_rm(x64_emit *e, unsigned size, unsigned op, int reg, x64_mem m)
{
    if (size == 0)
        x_op_rm8(e, 0, op, reg, m);
    else
        x_op_rm(e, size == 3, op | 1, reg, m);
}

static void load_plain(x64_emit *e, unsigned size, int d, x64_mem m)
{
    if (size == 0)
        x_movzx8_rm(e, d, m);
    else if (size == 1)
        x_movzx16_rm(e, d, m);
    else
        x_mov_rm(e, size == 3, d, m);
}

static void zero_extend(x64_emit *e, unsigned size, int d, int s)
{
    if (size == 0)
        x_movzx8_rr(e, d, s);
    else if (size == 1)
        x_movzx16_rr(e, d, s);
    else
        x_mov_rr(e, size == 3, d, s);
}

/* Leaves where the address is no multiple of the size (a power of two).  EFLAGS are lost. */
static void aligned(a64_translator *t, int n, unsigned bytes)
{
    if (bytes == 1)
        return;
    x_test_ri(&t->e, 0, n, (int32_t)bytes - 1);
    a64_exit_unaligned(t, n);
}

static x64_mem word_of(x64_mem m, int i)
{
    m.disp += 8 * i;
    return m;
}

INSN(EXCL)
{
    x64_emit *e = &t->e;
    a64_flags_lose(t);
    if (f->L) {
        int n = a64_use_sp(t, f->rn);
        aligned(t, n, 1u << f->size);
        int tag = a64_tmp(t), value = a64_tmp(t);
        x64_mem m = a64_guest(t, n, -1, 0, 0);
        x_lea(e, 1, tag, x64_at(n, 1));
        a64_site(t);
        load_plain(e, f->size, value, m);
        x_mov_mr(e, 1, A64_AT(exclusive), tag);
        x_mov_mr(e, 1, A64_AT(loaded), value);
        if (f->rt != A64_ZR)
            x_mov_rr(e, 1, a64_def(t, f->rt), value);
        return true;
    }
    a64_take(t, RAX);
    int n = a64_use_sp(t, f->rn), v = a64_use(t, f->rt);
    aligned(t, n, 1u << f->size);
    int status = a64_tmp(t);
    x64_mem m = a64_guest(t, n, -1, 0, 0);
    x_lea(e, 1, status, x64_at(n, 1));
    x_mov_rm(e, 1, RAX, A64_AT(loaded));
    x_alu_rm(e, X_CMP, 1, status, A64_AT(exclusive));
    uint8_t *lost = x_jcc8(e, X_NE);
    a64_site(t);
    lock_prefix(e, f->size);
    atomic_rm(e, f->size, 0xfb0, v, m);
    x_land8(e, lost);
    x_mov_mi(e, 1, A64_AT(exclusive), 0);
    x_mov_ri(e, status, 0);
    x_setcc(e, X_NE, status);
    if (f->rs != A64_ZR)
        x_mov_rr(e, 0, a64_def(t, f->rs), status);
    return true;
}

/* cmpxchg16b with the new value in scratch[2..3]; rax, rcx, rdx are taken, rdx:rax is compared with. */
static void exchange16(a64_translator *t, int n)
{
    x64_emit *e = &t->e;
    if (n == RBX) {
        n = a64_tmp(t);
        x_mov_rr(e, 1, n, RBX);
    }
    x64_mem m = a64_guest(t, n, -1, 0, 0);
    x_mov_mr(e, 1, a64_x_at(19), RBX);
    x_mov_rm(e, 1, RBX, word_of(A64_AT(scratch), 2));
    x_mov_rm(e, 1, RCX, word_of(A64_AT(scratch), 3));
    a64_site_rbx(t);
    x_byte(e, 0xf0);
    x_op_rm(e, 1, 0xfc7, 1, m);
    x_mov_rm(e, 1, RBX, a64_x_at(19));
}

/* A pair of registers into scratch[at] and [at + 1]. */
static void pair_to_scratch(a64_translator *t, unsigned first, unsigned second, int at)
{
    int a = a64_use(t, first);
    x_mov_mr(&t->e, 1, word_of(A64_AT(scratch), at), a);
    a64_give(t, a);
    int b = a64_use(t, second);
    x_mov_mr(&t->e, 1, word_of(A64_AT(scratch), at + 1), b);
    a64_give(t, b);
}

INSN(EXCLP)
{
    x64_emit *e = &t->e;
    unsigned bytes = f->sz ? 16 : 8;
    a64_flags_lose(t);
    if (f->L) {
        int n = a64_use_sp(t, f->rn);
        aligned(t, n, bytes);
        int first = a64_tmp(t), second = a64_tmp(t);
        x64_mem m = a64_guest(t, n, -1, 0, 0);
        x_lea(e, 1, second, x64_at(n, 1));
        x_mov_mr(e, 1, A64_AT(scratch), second);
        a64_site(t);
        x_mov_rm(e, 1, first, m);
        if (f->sz) {
            m.disp += 8;
            a64_site(t);
            x_mov_rm(e, 1, second, m);
            x_mov_mr(e, 1, word_of(A64_AT(loaded), 1), second);
        }
        x_mov_mr(e, 1, A64_AT(loaded), first);
        if (f->sz) {
            if (f->rt2 != A64_ZR)
                x_mov_rr(e, 1, a64_def(t, f->rt2), second);
        } else {
            x_mov_rr(e, 1, second, first);
            x_shift_ri(e, X_SHR, 1, second, 32);
            if (f->rt2 != A64_ZR)
                x_mov_rr(e, 1, a64_def(t, f->rt2), second);
        }
        x_mov_rm(e, 1, second, A64_AT(scratch));
        x_mov_mr(e, 1, A64_AT(exclusive), second);
        if (f->rt != A64_ZR)
            x_mov_rr(e, (int)f->sz, a64_def(t, f->rt), first);
        return true;
    }
    a64_take(t, RAX);
    if (f->sz) {
        a64_take(t, RCX);
        a64_take(t, RDX);
        pair_to_scratch(t, f->rt, f->rt2, 2);
        int n = a64_use_sp(t, f->rn);
        aligned(t, n, bytes);
        x_lea(e, 1, RCX, x64_at(n, 1));
        x_mov_rm(e, 1, RAX, A64_AT(loaded));
        x_mov_rm(e, 1, RDX, word_of(A64_AT(loaded), 1));
        x_alu_rm(e, X_CMP, 1, RCX, A64_AT(exclusive));
        uint8_t *lost = x_jcc(e, X_NE);
        exchange16(t, n);
        x_land(e, lost);
    } else {
        int low = a64_tmp(t), high = a64_tmp(t);
        int a = a64_use(t, f->rt);
        x_mov_rr(e, 0, low, a);
        a64_give(t, a);
        int b = a64_use(t, f->rt2);
        x_mov_rr(e, 1, high, b);
        a64_give(t, b);
        x_shift_ri(e, X_SHL, 1, high, 32);
        x_alu_rr(e, X_OR, 1, low, high);
        int n = a64_use_sp(t, f->rn); /* not before, since giving rt back would give it back too */
        aligned(t, n, bytes);
        x_lea(e, 1, high, x64_at(n, 1));
        x64_mem m = a64_guest(t, n, -1, 0, 0);
        x_mov_rm(e, 1, RAX, A64_AT(loaded));
        x_alu_rm(e, X_CMP, 1, high, A64_AT(exclusive));
        uint8_t *lost = x_jcc8(e, X_NE);
        a64_site(t);
        lock_prefix(e, 3);
        atomic_rm(e, 3, 0xfb0, low, m);
        x_land8(e, lost);
    }
    x_mov_mi(e, 1, A64_AT(exclusive), 0);
    x_mov_ri(e, RAX, 0);
    x_setcc(e, X_NE, RAX);
    if (f->rs != A64_ZR)
        x_mov_rr(e, 0, a64_def(t, f->rs), RAX);
    return true;
}

static void store_release(a64_translator *t, unsigned size, unsigned rt, x64_mem m)
{
    x64_emit *e = &t->e;
    int v = a64_use(t, rt), copy = a64_tmp(t);
    x_mov_rr(e, 1, copy, v);
    a64_site(t);
    if (size == 1)
        x_byte(e, 0x66);
    atomic_rm(e, size, 0x86, copy, m); /* xchg */
}

static void load_acquire(a64_translator *t, unsigned size, unsigned opc, unsigned rt, x64_mem m)
{
    x64_emit *e = &t->e;
    int d = a64_def_load(t, rt), w = opc == 2;
    a64_site(t);
    if (opc == 1)
        load_plain(e, size, d, m);
    else if (size == 0)
        x_movsx8_rm(e, w, d, m);
    else if (size == 1)
        x_movsx16_rm(e, w, d, m);
    else
        x_movsxd_rm(e, d, m);
    a64_loaded(t, d);
}

/* Of [Rn + offset], aligned as all that is ordered must be. */
static x64_mem ordered(a64_translator *t, unsigned rn, unsigned size, int64_t offset)
{
    if (size != 0)
        a64_flags_lose(t);
    int n = a64_use_sp(t, rn);
    if (size != 0 && offset != 0) {
        int at = a64_tmp(t);
        x_lea(&t->e, 1, at, x64_at(n, (int32_t)offset));
        n = at;
        offset = 0;
    }
    aligned(t, n, 1u << size);
    return a64_guest(t, n, -1, 0, offset);
}

INSN(LDAR)
{
    x64_mem m = ordered(t, f->rn, f->size, 0);
    if (f->L)
        load_acquire(t, f->size, 1, f->rt, m);
    else
        store_release(t, f->size, f->rt, m);
    return true;
}

INSN(LDAPR)
{
    load_acquire(t, f->size, 1, f->rt, ordered(t, f->rn, f->size, 0));
    return true;
}

INSN(LDAPUR)
{
    x64_mem m = ordered(t, f->rn, f->size, (int64_t)((uint64_t)f->imm9 << 55) >> 55);
    if (f->opc)
        load_acquire(t, f->size, f->opc, f->rt, m);
    else
        store_release(t, f->size, f->rt, m);
    return true;
}

INSN(CAS)
{
    x64_emit *e = &t->e;
    a64_flags_lose(t);
    a64_take(t, RAX);
    int n = a64_use_sp(t, f->rn), v = a64_use(t, f->rt), s = a64_use(t, f->rs);
    aligned(t, n, 1u << f->size);
    x64_mem m = a64_guest(t, n, -1, 0, 0);
    x_mov_rr(e, 1, RAX, s);
    a64_site(t);
    lock_prefix(e, f->size);
    atomic_rm(e, f->size, 0xfb0, v, m);
    if (f->rs != A64_ZR)
        zero_extend(e, f->size, a64_def(t, f->rs), RAX);
    return true;
}

INSN(CASP)
{
    x64_emit *e = &t->e;
    a64_flags_lose(t);
    a64_take(t, RAX);
    unsigned rs2 = f->rs + 1, rt2 = f->rt + 1;
    if (f->sz) {
        a64_take(t, RCX);
        a64_take(t, RDX);
        pair_to_scratch(t, f->rt, rt2, 2);
        int a = a64_use(t, f->rs);
        x_mov_rr(e, 1, RAX, a);
        a64_give(t, a);
        int b = a64_use(t, rs2);
        x_mov_rr(e, 1, RDX, b);
        a64_give(t, b);
        int n = a64_use_sp(t, f->rn);
        aligned(t, n, 16);
        exchange16(t, n);
        a64_give(t, n);
        a64_give(t, RCX);
        x_mov_rr(e, 1, a64_def(t, f->rs), RAX);
        if (rs2 != A64_ZR)
            x_mov_rr(e, 1, a64_def(t, rs2), RDX);
        return true;
    }
    int low = a64_tmp(t), high = a64_tmp(t);
    int pairs[2] = {RAX, low};
    unsigned from[2][2] = {{f->rs, rs2}, {f->rt, rt2}};
    for (int i = 0; i < 2; i++) {
        int a = a64_use(t, from[i][0]);
        x_mov_rr(e, 0, pairs[i], a);
        a64_give(t, a);
        int b = a64_use(t, from[i][1]);
        x_mov_rr(e, 1, high, b);
        a64_give(t, b);
        x_shift_ri(e, X_SHL, 1, high, 32);
        x_alu_rr(e, X_OR, 1, pairs[i], high);
    }
    a64_give(t, high);
    int n = a64_use_sp(t, f->rn);
    aligned(t, n, 8);
    x64_mem m = a64_guest(t, n, -1, 0, 0);
    a64_site(t);
    lock_prefix(e, 3);
    atomic_rm(e, 3, 0xfb0, low, m);
    a64_give(t, n);
    a64_give(t, low);
    x_mov_rr(e, 0, a64_def(t, f->rs), RAX);
    x_shift_ri(e, X_SHR, 1, RAX, 32);
    if (rs2 != A64_ZR)
        x_mov_rr(e, 0, a64_def(t, rs2), RAX);
    return true;
}

enum { ADD, CLR, EOR, SET, SMAX, SMIN, UMAX, UMIN };

INSN(LSE)
{
    x64_emit *e = &t->e;
    a64_flags_lose(t);
    if (f->o3 || f->opc == ADD) { /* SWP, LDADD: one instruction */
        int n = a64_use_sp(t, f->rn), s = a64_use(t, f->rs), value = a64_tmp(t);
        aligned(t, n, 1u << f->size);
        x64_mem m = a64_guest(t, n, -1, 0, 0);
        x_mov_rr(e, 1, value, s);
        a64_site(t);
        lock_prefix(e, f->size); /* xchg does not need it, but a64_host_fault looks for it */
        atomic_rm(e, f->size, f->o3 ? 0x86 : 0xfc0, value, m); /* xchg, xadd */
        if (f->rt != A64_ZR)
            zero_extend(e, f->size, a64_def(t, f->rt), value);
        return true;
    }
    static const uint8_t keep[] = {[SMAX] = X_GE, [SMIN] = X_LE, [UMAX] = X_AE, [UMIN] = X_BE};
    int w = f->size == 3;
    a64_take(t, RAX);
    int n = a64_use_sp(t, f->rn), s = a64_use(t, f->rs), value = a64_tmp(t);
    aligned(t, n, 1u << f->size);
    x64_mem m = a64_guest(t, n, -1, 0, 0);
    if (f->opc >= SMAX && f->size < 2) { /* compared as 32-bit numbers */
        int wide = a64_tmp(t);
        if (f->size == 0 && f->opc < UMAX)
            x_movsx8_rr(e, 0, wide, s);
        else if (f->size == 0)
            x_movzx8_rr(e, wide, s);
        else if (f->opc < UMAX)
            x_movsx16_rr(e, 0, wide, s);
        else
            x_movzx16_rr(e, wide, s);
        s = wide;
    }
    a64_site(t);
    load_plain(e, f->size, RAX, m);
    const uint8_t *again = e->at;
    switch (f->opc) {
    case CLR:
        x_mov_rr(e, w, value, s);
        x_unary(e, X_NOT, w, value);
        x_alu_rr(e, X_AND, w, value, RAX);
        break;
    case EOR:
        x_mov_rr(e, w, value, s);
        x_alu_rr(e, X_XOR, w, value, RAX);
        break;
    case SET:
        x_mov_rr(e, w, value, s);
        x_alu_rr(e, X_OR, w, value, RAX);
        break;
    default:
        if (f->size == 0 && f->opc < UMAX)
            x_movsx8_rr(e, 0, value, RAX);
        else if (f->size == 1 && f->opc < UMAX)
            x_movsx16_rr(e, 0, value, RAX);
        else
            zero_extend(e, f->size, value, RAX);
        x_alu_rr(e, X_CMP, w, value, s);
        x_cmov(e, keep[f->opc] ^ 1, w, value, s);
        break;
    }
    a64_site(t);
    lock_prefix(e, f->size);
    atomic_rm(e, f->size, 0xfb0, value, m);
    x_jcc_to(e, X_NE, again);
    a64_give(t, value);
    if (f->rt != A64_ZR)
        zero_extend(e, f->size, a64_def(t, f->rt), RAX);
    return true;
}
