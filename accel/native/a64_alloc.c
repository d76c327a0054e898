/* Which guest register is in which host register. */
#include "a64.h"

/*
 * Pinned: the registers that compiled code uses most.  rax, rcx, rdx stay in the
 * pool, as multiplications, divisions, shifts and LAHF want them; r14 and r15
 * survive calls.  r13 for sp, since its accesses have a displacement anyway.
 */
const int8_t a64_pins[32] = {
    [0] = RDI,  [1] = RSI,  [2] = R8,   [3] = R9,   [4] = R10,  [5] = -1,  [6] = -1,  [7] = -1,
    [8] = -1,   [9] = -1,   [10] = -1,  [11] = -1,  [12] = -1,  [13] = -1, [14] = -1, [15] = -1,
    [16] = -1,  [17] = -1,  [18] = -1,  [19] = RBX, [20] = RBP, [21] = -1, [22] = -1, [23] = -1,
    [24] = -1,  [25] = -1,  [26] = -1,  [27] = -1,  [28] = -1,  [29] = -1, [30] = R12, [31] = R13,
};

/* In the order of preference: those with a job of their own come last. */
static const int8_t pool[] = {R14, R15, R11, RDX, RCX, RAX};
enum { POOL = sizeof pool, PINS_V = 8 };

/* Index in low or high (from 15 on), or in pinned (- 1 - i). */
static const int8_t places[32] = {
    -1, -2, -3, -4, -5, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, -6, -7, 14, 15, 16, 17, 18, 19, 20, 21, 22, -8, -9,
};

static size_t offset_of(int n)
{
    if (n == A64_PENDING)
        return offsetof(a64_state, pending);
    int place = places[n];
    if (place < 0)
        return offsetof(a64_state, pinned) + 8 * (size_t)(-1 - place);
    return place < 15 ? offsetof(a64_state, low) + 8 * (size_t)place
                      : offsetof(a64_state, high) + 8 * (size_t)(place - 15);
}

uint64_t *a64_x(a64_state *state, int n)
{
    return (uint64_t *)(void *)((uint8_t *)state + offset_of(n));
}

x64_mem a64_x_at(int n)
{
    return x64_at(RSP, (int32_t)offset_of(n) - A64_BIAS);
}

void a64_alloc_start(a64_translator *t)
{
    memset(&t->general, 0, sizeof t->general);
    memset(t->general.guest, -1, sizeof t->general.guest);
    t->vector = t->general;
    memset(t->vector.host, -1, sizeof t->vector.host);
    for (int n = 0; n < 32; n++) {
        t->general.host[n] = a64_pins[n];
        if (a64_pins[n] >= 0)
            t->general.guest[a64_pins[n]] = (int8_t)n;
    }
    t->general.host[A64_PENDING] = -1;
    for (int n = 0; n < PINS_V; n++)
        t->vector.host[n] = t->vector.guest[n] = (int8_t)n;
    t->clear64 = t->clear32 = 0;
    t->tick = 1;
}

void a64_alloc_next(a64_translator *t)
{
    t->general.locked = 0;
    t->vector.locked = 0;
}

/* ---- general registers ----------------------------------------------------------------- */

static void evict(a64_translator *t, int host)
{
    int guest = t->general.guest[host];
    if (guest < 0)
        return;
    if (t->general.dirty >> host & 1)
        x_mov_mr(&t->e, 1, a64_x_at(guest), host);
    t->general.dirty &= (uint16_t)~(1u << host);
    t->general.guest[host] = -1;
    t->general.host[guest] = -1;
}

/* A free register, or the one that has not been used for the longest time. */
static int oldest(const a64_translator *t)
{
    int best = -1;
    for (int i = 0; i < POOL; i++) {
        int host = pool[i];
        if (t->general.locked >> host & 1)
            continue;
        if (t->general.guest[host] < 0)
            return host;
        if (best < 0 || t->general.age[host] < t->general.age[best])
            best = host;
    }
    if (best < 0)
        __builtin_trap(); /* an instruction that wants more than there are */
    return best;
}

static int find_room(a64_translator *t)
{
    int host = oldest(t);
    evict(t, host);
    return host;
}

static int lock(a64_translator *t, int host)
{
    t->general.locked |= (uint16_t)(1u << host);
    t->general.age[host] = t->tick++;
    return host;
}

int a64_tmp(a64_translator *t)
{
    return lock(t, find_room(t));
}

void a64_give(a64_translator *t, int host)
{
    t->general.locked &= (uint16_t)~(1u << host);
}

void a64_take(a64_translator *t, int host)
{
    if (t->general.locked >> host & 1)
        __builtin_trap();
    evict(t, host);
    lock(t, host);
}

static int held(a64_translator *t, unsigned n, bool load)
{
    int host = t->general.host[n];
    if (host < 0) {
        host = find_room(t);
        t->general.host[n] = (int8_t)host;
        t->general.guest[host] = (int8_t)n;
        if (load)
            x_mov_rm(&t->e, 1, host, a64_x_at((int)n));
        else
            t->general.fresh |= (uint16_t)(1u << host);
    }
    return lock(t, host);
}

int a64_use_sp(a64_translator *t, unsigned n)
{
    return held(t, n, true);
}

int a64_use(a64_translator *t, unsigned n)
{
    if (n == A64_ZR) {
        int host = a64_tmp(t);
        x_mov_ri(&t->e, host, 0);
        return host;
    }
    return held(t, n, true);
}

a64_source a64_read(a64_translator *t, unsigned n)
{
    enum { RECENT = 24 }; /* operands, of some instructions */
    a64_source source = {.host = -1};
    if (n == A64_ZR) {
        source.zero = true;
        return source;
    }
    if (t->general.host[n] < 0) {
        int room = oldest(t);
        bool wanted = t->general.guest[room] >= 0 &&
                      (t->general.dirty >> room & 1 || t->tick - t->general.age[room] < RECENT);
        if (wanted) {
            source.at = a64_x_at((int)n);
            return source;
        }
    }
    source.host = held(t, n, true);
    return source;
}

int a64_def_sp(a64_translator *t, unsigned n)
{
    int host = held(t, n, false);
    a64_loaded(t, host);
    return host;
}

int a64_def(a64_translator *t, unsigned n)
{
    return n == A64_ZR ? a64_tmp(t) : a64_def_sp(t, n);
}

int a64_def_load(a64_translator *t, unsigned n)
{
    return n == A64_ZR ? a64_tmp(t) : held(t, n, false);
}

void a64_loaded(a64_translator *t, int host)
{
    t->general.fresh &= (uint16_t)~(1u << host);
    int guest = t->general.guest[host];
    if (guest == A64_PENDING || (guest >= 0 && a64_pins[guest] < 0))
        t->general.dirty |= (uint16_t)(1u << host);
}

void a64_discard(a64_translator *t, unsigned n)
{
    int host = t->general.host[n];
    if (host < 0)
        return;
    t->general.dirty &= (uint16_t)~(1u << host);
    t->general.guest[host] = -1;
    t->general.host[n] = -1;
}

/* ---- vector registers --------------------------------------------------------------------- */

static void evict_v(a64_translator *t, int host)
{
    int guest = t->vector.guest[host];
    if (guest < 0)
        return;
    if (t->vector.dirty >> host & 1)
        x_movaps_mr(&t->e, a64_v_at(guest), host);
    t->vector.dirty &= (uint16_t)~(1u << host);
    t->vector.guest[host] = -1;
    t->vector.host[guest] = -1;
}

static int find_room_v(a64_translator *t)
{
    int best = -1;
    for (int host = PINS_V; host < 16; host++) {
        if (t->vector.locked >> host & 1)
            continue;
        if (t->vector.guest[host] < 0)
            return host;
        if (best < 0 || t->vector.age[host] < t->vector.age[best])
            best = host;
    }
    if (best < 0)
        __builtin_trap();
    evict_v(t, best);
    return best;
}

static int lock_v(a64_translator *t, int host)
{
    t->vector.locked |= (uint16_t)(1u << host);
    t->vector.age[host] = t->tick++;
    return host;
}

int a64_tmp_v(a64_translator *t)
{
    return lock_v(t, find_room_v(t));
}

void a64_give_v(a64_translator *t, int host)
{
    t->vector.locked &= (uint16_t)~(1u << host);
}

static int held_v(a64_translator *t, unsigned n, bool load)
{
    int host = t->vector.host[n];
    if (host < 0) {
        host = find_room_v(t);
        t->vector.host[n] = (int8_t)host;
        t->vector.guest[host] = (int8_t)n;
        if (load)
            x_movaps_rm(&t->e, host, a64_v_at((int)n));
        else
            t->vector.fresh |= (uint16_t)(1u << host);
    }
    return lock_v(t, host);
}

int a64_use_v(a64_translator *t, unsigned n)
{
    return held_v(t, n, true);
}

int a64_def_v_load(a64_translator *t, unsigned n)
{
    return held_v(t, n, false);
}

void a64_loaded_v(a64_translator *t, int host)
{
    t->vector.fresh &= (uint16_t)~(1u << host);
    int guest = t->vector.guest[host];
    t->clear64 &= ~(1u << guest);
    t->clear32 &= ~(1u << guest);
    if (guest >= PINS_V)
        t->vector.dirty |= (uint16_t)(1u << host);
}

int a64_def_v(a64_translator *t, unsigned n)
{
    int host = held_v(t, n, false);
    a64_loaded_v(t, host);
    return host;
}

void a64_become_v(a64_translator *t, unsigned n, int host)
{
    a64_file *f = &t->vector;
    int held = f->host[n];
    if (held == host)
        return;
    if (n < PINS_V) {
        x_movaps_rr(&t->e, held, host);
    } else {
        if (held >= 0) {
            f->guest[held] = -1;
            f->dirty &= (uint16_t)~(1u << held);
            f->fresh &= (uint16_t)~(1u << held);
        }
        f->guest[host] = (int8_t)n;
        f->host[n] = (int8_t)host;
    }
    a64_loaded_v(t, f->host[n]);
}

/* ---- all of them ---------------------------------------------------------------------------- */

void a64_spill(a64_translator *t, const a64_file *general, const a64_file *vector)
{
    for (unsigned set = general->dirty; set; set &= set - 1) {
        int host = __builtin_ctz(set);
        x_mov_mr(&t->e, 1, a64_x_at(general->guest[host]), host);
    }
    for (unsigned set = vector->dirty; set; set &= set - 1) {
        int host = __builtin_ctz(set);
        x_movaps_mr(&t->e, a64_v_at(vector->guest[host]), host);
    }
}

void a64_flush(a64_translator *t)
{
    a64_spill(t, &t->general, &t->vector);
    t->general.dirty = 0;
    t->vector.dirty = 0;
}

void a64_forget(a64_translator *t)
{
    for (int i = 0; i < POOL; i++) {
        int guest = t->general.guest[pool[i]];
        if (guest >= 0)
            t->general.host[guest] = -1;
        t->general.guest[pool[i]] = -1;
    }
    for (int host = PINS_V; host < 16; host++) {
        int guest = t->vector.guest[host];
        if (guest >= 0)
            t->vector.host[guest] = -1;
        t->vector.guest[host] = -1;
    }
    t->general.dirty = t->general.fresh = 0;
    t->vector.dirty = t->vector.fresh = 0;
    t->clear64 = t->clear32 = 0;
}

void a64_store_pins(x64_emit *e, bool vectors)
{
    for (int n = 0; n < 32; n++)
        if (a64_pins[n] >= 0)
            x_mov_mr(e, 1, a64_x_at(n), a64_pins[n]);
    for (int n = 0; vectors && n < PINS_V; n++)
        x_movaps_mr(e, a64_v_at(n), n);
}

void a64_load_pins(x64_emit *e, bool vectors)
{
    for (int n = 0; n < 32; n++)
        if (a64_pins[n] >= 0)
            x_mov_rm(e, 1, a64_pins[n], a64_x_at(n));
    for (int n = 0; vectors && n < PINS_V; n++)
        x_movaps_rm(e, n, a64_v_at(n));
}

void a64_site(a64_translator *t)
{
    tr_code *code = t->code;
    tr_site *site = &code->sites[code->site_count];
    site->at = (uint32_t)(t->e.at - code->view - code->code);
    site->index = (uint8_t)((t->pc - t->start) >> 2);
    site->more = (uint8_t)(t->flags | t->pending << A64_SITE_CONDITION);
    unsigned dirty = t->general.dirty & ~(unsigned)t->general.fresh;
    for (int i = 0; i < POOL; i++)
        site->general[i] = dirty >> pool[i] & 1 ? (uint8_t)t->general.guest[pool[i]] : TR_NOTHING;
    dirty = t->vector.dirty & ~(unsigned)t->vector.fresh;
    for (int host = PINS_V; host < 16; host++)
        site->vector[host - PINS_V] = dirty >> host & 1 ? (uint8_t)t->vector.guest[host] : TR_NOTHING;
    __atomic_store_n(&code->site_count, code->site_count + 1, __ATOMIC_RELEASE);
}

void a64_site_rbx(a64_translator *t)
{
    a64_site(t);
    t->code->sites[t->code->site_count - 1].more |= A64_SITE_RBX;
}
