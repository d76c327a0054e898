/*
 * Advanced SIMD: loads and stores of structures.
 *
 * A fault must find all registers as they were: what is read waits in temporaries
 * until the last access has been made.
 */
#include "a64_vector.h"

/* Where the accesses of an instruction are. */
typedef struct place {
    int base;
    int64_t at;
} place;

static x64_mem next(a64_translator *t, place *p, unsigned bytes)
{
    x64_mem m = a64_guest(t, p->base, -1, 0, p->at);
    p->at += bytes;
    return m;
}

static void load(a64_translator *t, int d, x64_mem m, unsigned bytes)
{
    a64_site(t);
    if (bytes == 16)
        x_movups_rm(&t->e, d, m);
    else
        x_movq_rm(&t->e, d, m);
}

static void store(a64_translator *t, place *p, int s, unsigned bytes)
{
    x64_mem m = next(t, p, bytes);
    a64_site(t);
    if (bytes == 16)
        x_movups_mr(&t->e, m, s);
    else
        x_movq_mr(&t->e, m, s);
}

/* ---- registers as they are ---------------------------------------------------------------------- */

static void load_registers(a64_translator *t, place *p, unsigned rt, unsigned count, unsigned bytes)
{
    int early[3], d;
    for (unsigned i = 0; i + 1 < count; i++) {
        early[i] = a64_tmp_v(t);
        load(t, early[i], next(t, p, bytes), bytes);
    }
    d = a64_def_v_load(t, (rt + count - 1) & 31);
    load(t, d, next(t, p, bytes), bytes);
    a64_loaded_v(t, d);
    for (unsigned i = 0; i + 1 < count; i++)
        v_move(t, a64_def_v(t, (rt + i) & 31), early[i]);
}

/* ---- interleaved registers ------------------------------------------------------------------------- */

/*
 * Masks for PSHUFB.  `grouped` brings elements that are `count` apart together:
 * first, second ... members of structures.  `apart` is its inverse.
 */
static x64_mem mask(a64_translator *t, const uint8_t bytes[16])
{
    uint64_t half[2];
    memcpy(half, bytes, 16);
    return a64_constant(t, half[0], half[1]);
}

static x64_mem grouped(a64_translator *t, unsigned size, unsigned count)
{
    uint8_t bytes[16];
    unsigned group = (16u >> size) / count;
    for (unsigned i = 0; i < 16; i++) {
        unsigned element = i >> size, from = element % group * count + element / group;
        bytes[i] = (uint8_t)((from << size) + (i & ((1u << size) - 1)));
    }
    return mask(t, bytes);
}

static x64_mem apart(a64_translator *t, unsigned size, unsigned count)
{
    uint8_t bytes[16];
    unsigned group = (16u >> size) / count;
    for (unsigned i = 0; i < 16; i++) {
        unsigned element = i >> size, from = element % count * group + element / count;
        bytes[i] = (uint8_t)((from << size) + (i & ((1u << size) - 1)));
    }
    return mask(t, bytes);
}

/* Of three registers: what the `part`-th 16 bytes of memory have of the `member`-th of them; the rest is 0. */
static x64_mem member_of_three(a64_translator *t, unsigned size, unsigned member, unsigned part, unsigned q)
{
    uint8_t bytes[16];
    for (unsigned i = 0; i < 16; i++) {
        unsigned at = ((3 * (i >> size) + member) << size) + (i & ((1u << size) - 1));
        bytes[i] = at / 16 == part && (q || i < 8) ? at % 16 : 0x80;
    }
    return mask(t, bytes);
}

/* The inverse: what the `member`-th register has of the `part`-th 16 bytes. */
static x64_mem part_of_three(a64_translator *t, unsigned size, unsigned member, unsigned part)
{
    uint8_t bytes[16];
    for (unsigned i = 0; i < 16; i++) {
        unsigned at = 16 * part + i, element = at >> size;
        bytes[i] = element % 3 == member ? (uint8_t)((element / 3 << size) + (at & ((1u << size) - 1))) : 0x80;
    }
    return mask(t, bytes);
}

/* The halves of s become two registers on 64 bits. */
static void split(a64_translator *t, unsigned first, unsigned second, int s)
{
    x_movq_rr(&t->e, a64_def_v(t, first), s);
    v_shift(t, V_PSRLDQ_I, a64_def_v(t, second), s, 8);
    a64_give_v(t, s);
}

/* Two registers of a and b, which are temporaries and given back. */
static void both(a64_translator *t, unsigned low, unsigned high, unsigned rt, unsigned rt2, int a, int b)
{
    v_op(t, low, a64_def_v(t, rt), a, b);
    v_op(t, high, a64_def_v(t, rt2), a, b);
    a64_give_v(t, a);
    a64_give_v(t, b);
}

static void load_two(a64_translator *t, place *p, const unsigned *r, unsigned size, unsigned q)
{
    int a = a64_tmp_v(t);
    load(t, a, next(t, p, 16), 16);
    if (!q) {
        if (size == 2)
            v_unary_i(t, V_PSHUFD, a, a, 0xd8);
        else
            v_op_m(t, V_PSHUFB, a, a, grouped(t, size, 2));
        split(t, r[0], r[1], a);
        return;
    }
    int b = a64_tmp_v(t);
    load(t, b, next(t, p, 16), 16);
    if (size == 2) {
        v_op_i(t, V_SHUFPS, a64_def_v(t, r[0]), a, b, 0x88);
        v_op_i(t, V_SHUFPS, a64_def_v(t, r[1]), a, b, 0xdd);
        return;
    }
    if (size < 2) {
        v_op_m(t, V_PSHUFB, a, a, grouped(t, size, 2));
        v_op_m(t, V_PSHUFB, b, b, grouped(t, size, 2));
    }
    both(t, V_PUNPCKLQDQ, V_PUNPCKHQDQ, r[0], r[1], a, b);
}

static void load_three(a64_translator *t, place *p, const unsigned *r, unsigned size, unsigned q)
{
    int part[3], piece = -1;
    unsigned parts = q ? 3 : 2;
    for (unsigned i = 0; i < parts; i++) {
        unsigned bytes = q || i == 0 ? 16 : 8;
        part[i] = a64_tmp_v(t);
        load(t, part[i], next(t, p, bytes), bytes);
    }
    if (size == 3) {
        v_op_i(t, V_PBLENDW, a64_def_v(t, r[0]), part[0], part[1], 0xf0);
        v_op_i(t, V_PALIGNR, a64_def_v(t, r[1]), part[2], part[0], 8);
        v_op_i(t, V_PBLENDW, a64_def_v(t, r[2]), part[1], part[2], 0xf0);
        return;
    }
    piece = a64_tmp_v(t);
    for (unsigned member = 0; member < 3; member++) {
        int d = a64_def_v(t, r[member]);
        v_op_m(t, V_PSHUFB, d, part[0], member_of_three(t, size, member, 0, q));
        for (unsigned i = 1; i < parts; i++) {
            v_op_m(t, V_PSHUFB, piece, part[i], member_of_three(t, size, member, i, q));
            v_op(t, V_POR, d, d, piece);
        }
    }
}

static void load_four(a64_translator *t, place *p, const unsigned *r, unsigned size, unsigned q)
{
    int part[4];
    for (unsigned i = 0; i < (q ? 4u : 2u); i++) {
        part[i] = a64_tmp_v(t);
        load(t, part[i], next(t, p, 16), 16);
    }
    if (size == 3) {
        both(t, V_PUNPCKLQDQ, V_PUNPCKHQDQ, r[0], r[1], part[0], part[2]);
        both(t, V_PUNPCKLQDQ, V_PUNPCKHQDQ, r[2], r[3], part[1], part[3]);
        return;
    }
    for (unsigned i = 0; size < 2 && i < (q ? 4u : 2u); i++)
        v_op_m(t, V_PSHUFB, part[i], part[i], grouped(t, size, 4));
    /* A transposition of elements of 4 bytes. */
    int low = a64_tmp_v(t);
    v_op(t, V_PUNPCKLBW + 2, low, part[0], part[1]);
    v_op(t, V_PUNPCKHBW + 2, part[0], part[0], part[1]);
    if (!q) {
        split(t, r[0], r[1], low);
        split(t, r[2], r[3], part[0]);
        return;
    }
    v_op(t, V_PUNPCKLBW + 2, part[1], part[2], part[3]);
    v_op(t, V_PUNPCKHBW + 2, part[2], part[2], part[3]);
    a64_give_v(t, part[3]);
    both(t, V_PUNPCKLQDQ, V_PUNPCKHQDQ, r[0], r[1], low, part[1]);
    both(t, V_PUNPCKLQDQ, V_PUNPCKHQDQ, r[2], r[3], part[0], part[2]);
}

static void store_two(a64_translator *t, place *p, const int *v, unsigned size, unsigned q)
{
    int mixed = a64_tmp_v(t);
    v_op(t, size == 3 ? V_PUNPCKLQDQ : V_PUNPCKLBW + size, mixed, v[0], v[1]);
    store(t, p, mixed, 16);
    if (!q)
        return;
    v_op(t, size == 3 ? V_PUNPCKHQDQ : V_PUNPCKHBW + size, mixed, v[0], v[1]);
    store(t, p, mixed, 16);
}

static void store_three(a64_translator *t, place *p, const int *v, unsigned size, unsigned q)
{
    int mixed = a64_tmp_v(t), piece;
    if (size == 3) {
        v_op(t, V_PUNPCKLQDQ, mixed, v[0], v[1]);
        store(t, p, mixed, 16);
        v_op_i(t, V_PBLENDW, mixed, v[2], v[0], 0xf0);
        store(t, p, mixed, 16);
        v_op(t, V_PUNPCKHQDQ, mixed, v[1], v[2]);
        store(t, p, mixed, 16);
        return;
    }
    piece = a64_tmp_v(t);
    for (unsigned part = 0; part < (q ? 3u : 2u); part++) {
        v_op_m(t, V_PSHUFB, mixed, v[0], part_of_three(t, size, 0, part));
        for (unsigned member = 1; member < 3; member++) {
            v_op_m(t, V_PSHUFB, piece, v[member], part_of_three(t, size, member, part));
            v_op(t, V_POR, mixed, mixed, piece);
        }
        store(t, p, mixed, q || part == 0 ? 16 : 8);
    }
}

static void store_four(a64_translator *t, place *p, const int *v, unsigned size, unsigned q)
{
    int first = a64_tmp_v(t), second = a64_tmp_v(t), mixed = a64_tmp_v(t);
    if (size == 3) {
        for (unsigned i = 0; i < 4; i++) {
            v_op(t, i < 2 ? V_PUNPCKLQDQ : V_PUNPCKHQDQ, mixed, v[2 * (i & 1)], v[2 * (i & 1) + 1]);
            store(t, p, mixed, 16);
        }
        return;
    }
    for (unsigned half = 0; half < (q ? 2u : 1u); half++) {
        unsigned op = (half ? V_PUNPCKHBW : V_PUNPCKLBW) + 2;
        v_op(t, op, first, v[0], v[1]);
        v_op(t, op, second, v[2], v[3]);
        v_op(t, V_PUNPCKLQDQ, mixed, first, second);
        v_op(t, V_PUNPCKHQDQ, first, first, second);
        if (size < 2) {
            v_op_m(t, V_PSHUFB, mixed, mixed, apart(t, size, 4));
            v_op_m(t, V_PSHUFB, first, first, apart(t, size, 4));
        }
        store(t, p, mixed, 16);
        store(t, p, first, 16);
    }
}

/* ---- several structures ------------------------------------------------------------------------------ */

/* Bytes that were accessed. */
static unsigned multiple(a64_translator *t, place *p, unsigned opcode, bool is_load, unsigned size, unsigned rt,
                         unsigned q)
{
    /* By opcode: registers, and how many of them make up a structure. */
    static const uint8_t registers[] = {[0] = 4, [2] = 4, [4] = 3, [6] = 3, [7] = 1, [8] = 2, [10] = 2};
    unsigned count = registers[opcode], bytes = q ? 16 : 8;
    unsigned r[4] = {rt, (rt + 1) & 31, (rt + 2) & 31, (rt + 3) & 31};
    int v[4];
    for (unsigned i = 0; !is_load && i < count; i++)
        v[i] = a64_use_v(t, r[i]);
    if (opcode & 2) {
        if (is_load)
            load_registers(t, p, rt, count, bytes);
        else
            for (unsigned i = 0; i < count; i++)
                store(t, p, v[i], bytes);
        return count * bytes;
    }
    switch (count) {
    case 2:
        if (is_load)
            load_two(t, p, r, size, q);
        else
            store_two(t, p, v, size, q);
        break;
    case 3:
        if (is_load)
            load_three(t, p, r, size, q);
        else
            store_three(t, p, v, size, q);
        break;
    default:
        if (is_load)
            load_four(t, p, r, size, q);
        else
            store_four(t, p, v, size, q);
        break;
    }
    return count * bytes;
}

static void step_base(a64_translator *t, unsigned rn, unsigned rm, unsigned bytes)
{
    int n = a64_use_sp(t, rn), m = rm == A64_ZR ? -1 : a64_use(t, rm);
    a64_def_sp(t, rn);
    x_lea(&t->e, 1, n, m < 0 ? x64_at(n, (int32_t)bytes) : x64_indexed(n, m, 0, 0));
}

INSN(LDn_multi)
{
    place p = {a64_use_sp(t, f->rn), 0};
    multiple(t, &p, f->opcode, f->L, f->size, f->rt, f->Q);
    return true;
}

INSN(LDn_multi_post)
{
    place p = {a64_use_sp(t, f->rn), 0};
    unsigned bytes = multiple(t, &p, f->opcode, f->L, f->size, f->rt, f->Q);
    step_base(t, f->rn, f->rm, bytes);
    return true;
}

/* ---- one structure --------------------------------------------------------------------------------------- */

static void load_replicated(a64_translator *t, place *p, unsigned size, unsigned rt, unsigned count, unsigned q)
{
    x64_emit *e = &t->e;
    int v[4];
    for (unsigned i = 0; i < count; i++) {
        x64_mem m = next(t, p, 1u << size);
        int d = v[i] = i + 1 < count ? a64_tmp_v(t) : a64_def_v_load(t, (rt + i) & 31);
        if (size == 3) {
            a64_site(t);
            v_unary_m(t, V_MOVDDUP, d, m);
        } else if (a64_host_has.avx2) {
            a64_site(t);
            v_unary_m(t, size == 2 ? V_PBROADCASTD : V_PBROADCASTB + size, d, m);
        } else if (size == 2) {
            a64_site(t);
            x_movd_rm(e, d, m);
        } else {
            int bits = a64_tmp(t);
            a64_site(t);
            if (size)
                x_movzx16_rm(e, bits, m);
            else
                x_movzx8_rm(e, bits, m);
            x_movd_xr(e, 0, d, bits);
            a64_give(t, bits);
        }
        if (i + 1 == count)
            a64_loaded_v(t, d);
    }
    for (unsigned i = 0; i < count; i++) {
        int d = i + 1 < count ? a64_def_v(t, (rt + i) & 31) : v[i];
        if (size < 3 && !a64_host_has.avx2)
            v_broadcast(t, size, d, v[i], 0);
        else
            v_move(t, d, v[i]);
        v_end(t, d, q);
    }
}

/* PINSRB, PINSRW, PINSRD, PINSRQ, and PEXTR. */
static const struct {
    uint8_t insert, insert_map, extract;
} lanes[] = {{0x20, MAP_0F3A, 0x14}, {0xc4, MAP_0F, 0x15}, {0x22, MAP_0F3A, 0x16}, {0x22, MAP_0F3A, 0x16}};

static void load_lanes(a64_translator *t, place *p, unsigned size, unsigned index, unsigned rt, unsigned count)
{
    int v[4];
    for (unsigned i = 0; i < count; i++) {
        x64_mem m = next(t, p, 1u << size);
        v[i] = a64_use_v(t, (rt + i) & 31);
        if (i + 1 < count) {
            int d = a64_tmp_v(t);
            v_move(t, d, v[i]);
            v[i] = d;
        }
        a64_site(t);
        x_sse_rm(&t->e, PP_66, lanes[size].insert_map, size == 3, lanes[size].insert, v[i], m);
        x_byte(&t->e, index);
    }
    for (unsigned i = 0; i < count; i++)
        v_move(t, a64_def_v(t, (rt + i) & 31), v[i]);
}

static void store_lanes(a64_translator *t, place *p, unsigned size, unsigned index, unsigned rt, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        x64_mem m = next(t, p, 1u << size);
        int s = a64_use_v(t, (rt + i) & 31);
        a64_site(t);
        x_sse_rm(&t->e, PP_66, MAP_0F3A, size == 3, lanes[size].extract, s, m);
        x_byte(&t->e, index);
    }
}

static unsigned single(a64_translator *t, place *p, unsigned opcode, bool is_load, unsigned count, unsigned s,
                       unsigned size, unsigned rt, unsigned q)
{
    unsigned scale = opcode >> 1, index = q << 3 | s << 2 | size;
    if (scale == 3) {
        load_replicated(t, p, size, rt, count, q);
        return count << size;
    }
    if (scale == 2 && size & 1)
        scale = 3;
    index >>= scale;
    if (is_load)
        load_lanes(t, p, scale, index, rt, count);
    else
        store_lanes(t, p, scale, index, rt, count);
    return count << scale;
}

INSN(LDn_single)
{
    place p = {a64_use_sp(t, f->rn), 0};
    single(t, &p, f->opcode, f->L, ((f->opcode & 1) << 1 | f->R) + 1, f->S, f->size, f->rt, f->Q);
    return true;
}

INSN(LDn_single_post)
{
    place p = {a64_use_sp(t, f->rn), 0};
    unsigned count = ((f->opcode & 1) << 1 | f->R) + 1;
    unsigned bytes = single(t, &p, f->opcode, f->L, count, f->S, f->size, f->rt, f->Q);
    step_base(t, f->rn, f->rm, bytes);
    return true;
}
