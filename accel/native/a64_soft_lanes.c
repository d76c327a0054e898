/* What translated code asks of a64_soft.c: the same on all elements of vector registers. */
#include "a64_fp.h"

static uint64_t get(const uint8_t *v, unsigned size, unsigned lane)
{
    uint64_t value = 0;
    memcpy(&value, v + (lane << size), 1u << size);
    return value;
}

static void put(uint8_t *v, unsigned size, unsigned lane, uint64_t value)
{
    memcpy(v + (lane << size), &value, 1u << size);
}

static enum soft_rounding rounding_of(const soft_env *env, unsigned number)
{
    return (number & 7) == 7 ? soft_rounding_of(env->fpcr) : (enum soft_rounding)(number & 7);
}

static bool holds(soft_env *env, unsigned size, unsigned relation, uint64_t n, uint64_t m)
{
    unsigned nzcv = soft_compare(env, size, n, m, relation != SOFT_EQ);
    bool unordered = nzcv == 3, equal = nzcv == 6, less = nzcv == 8;
    switch (relation) {
    case SOFT_EQ:
        return equal;
    case SOFT_GE:
        return !less && !unordered;
    case SOFT_GT:
        return nzcv == 2;
    case SOFT_LE:
        return less || equal;
    default:
        return less;
    }
}

static uint64_t element(soft_env *env, const soft_call *call, unsigned op, uint64_t n, uint64_t m, uint64_t a)
{
    unsigned size = call->size, extra = call->extra;
    switch (op) {
    case SOFT_ADD:
        return soft_add(env, size, n, m);
    case SOFT_SUB:
        return soft_sub(env, size, n, m);
    case SOFT_MUL:
    case SOFT_MULX:
        return soft_mul(env, size, n, m, op == SOFT_MULX);
    case SOFT_DIV:
        return soft_div(env, size, n, m);
    case SOFT_SQRT:
        return soft_sqrt(env, size, n);
    case SOFT_MAX:
    case SOFT_MIN:
        return soft_max(env, size, n, m, op == SOFT_MIN, false);
    case SOFT_MAXNM:
    case SOFT_MINNM:
        return soft_max(env, size, n, m, op == SOFT_MINNM, true);
    case SOFT_ABD:
        return soft_absolute(size, soft_sub(env, size, n, m));
    case SOFT_FMA:
        return soft_fma(env, size, extra & 2 ? soft_negate(size, a) : a, extra & 1 ? soft_negate(size, n) : n, m);
    case SOFT_RECPS:
    case SOFT_RSQRTS:
        return soft_recip_step(env, size, n, m, op == SOFT_RSQRTS);
    case SOFT_RECPE:
        return soft_recip_estimate(env, size, n);
    case SOFT_RSQRTE:
        return soft_root_estimate(env, size, n);
    case SOFT_RECPX:
        return soft_recip_exponent(env, size, n);
    case SOFT_ROUND:
        return soft_round(env, size, n, rounding_of(env, extra), extra & 8, call->a);
    case SOFT_CM:
        if (extra & 8) {
            n = soft_absolute(size, n);
            m = soft_absolute(size, m);
        }
        return holds(env, size, extra & 7, n, m) ? ~UINT64_C(0) : 0;
    case SOFT_TO_INT:
        return soft_to_integer(env, size, n, extra & 0xf0, call->a, extra & 8, rounding_of(env, extra));
    case SOFT_FROM_INT:
        return soft_from_integer(env, size, n, extra & 0xf0, call->a, extra & 8);
    default:
        return 0;
    }
}

/* Reduce, of the elements from `first` on. */
static uint64_t across(soft_env *env, const soft_call *call, const uint8_t *n, unsigned first, unsigned count)
{
    if (count == 1)
        return get(n, call->size, first);
    uint64_t low = across(env, call, n, first, count / 2), high = across(env, call, n, first + count / 2, count / 2);
    return element(env, call, call->op & 0x3f, low, high, 0);
}

/* FCMLA and FCADD, of one complex number. */
static void turn(soft_env *env, const soft_call *call, unsigned lane, const uint8_t *n, const uint8_t *m, uint8_t *d)
{
    unsigned size = call->size;
    uint64_t n0 = get(n, size, lane), n1 = get(n, size, lane + 1), m0 = get(m, size, lane), m1 = get(m, size, lane + 1);
    if (call->op == SOFT_FCADD) {
        put(d, size, lane, soft_add(env, size, n0, call->extra == 1 ? soft_negate(size, m1) : m1));
        put(d, size, lane + 1, soft_add(env, size, n1, call->extra == 1 ? m0 : soft_negate(size, m0)));
        return;
    }
    uint64_t factor = call->extra & 1 ? n1 : n0, first = call->extra & 1 ? m1 : m0, second = call->extra & 1 ? m0 : m1;
    if (call->extra == 1 || call->extra == 2)
        first = soft_negate(size, first);
    if (call->extra >= 2)
        second = soft_negate(size, second);
    put(d, size, lane, soft_fma(env, size, get(d, size, lane), factor, first));
    put(d, size, lane + 1, soft_fma(env, size, get(d, size, lane + 1), factor, second));
}

static void flags_of(a64_state *state, unsigned nzcv)
{
    state->nzcv = (uint16_t)((nzcv >> 3 & 1) << 15 | (nzcv >> 2 & 1) << 14 | (nzcv >> 1 & 1) << 8 | (nzcv & 1));
}

void a64_soft_lanes(a64_state *state)
{
    static const uint8_t nothing[16];
    soft_call call;
    memcpy(&call, (const void *)(uintptr_t)state->pushed, sizeof call);
    state->pushed += sizeof call;
    soft_env env = {.fpcr = state->fpcr};
    unsigned size = call.size, op = call.op & 0x3f;
    const uint8_t *n = state->kept_v[call.n & 15], *m = call.m == SOFT_NONE ? nothing : state->kept_v[call.m & 15];
    const uint8_t *a = state->kept_v[call.a & 15];
    uint8_t result[16] = {0};
    if (call.op & SOFT_ACROSS) {
        put(result, size, 0, across(&env, &call, n, 0, call.lanes));
    } else if (call.op & SOFT_PAIRS) {
        unsigned each = call.lanes == 1 ? 2 : call.lanes; /* elements of an operand */
        for (unsigned i = 0; i < call.lanes; i++) {
            const uint8_t *from = 2 * i < each ? n : m;
            unsigned lane = 2 * i % each;
            put(result, size, i, element(&env, &call, op, get(from, size, lane), get(from, size, lane + 1), 0));
        }
    } else if (op == SOFT_COMPARE) {
        flags_of(state, soft_compare(&env, size, get(n, size, 0), get(m, size, 0), call.extra));
    } else if (op == SOFT_JAVASCRIPT) {
        bool same;
        put(result, 2, 0, soft_to_javascript(&env, get(n, 3, 0), &same));
        flags_of(state, same ? 4 : 0);
    } else if (op == SOFT_FCMLA || op == SOFT_FCADD) {
        if (op == SOFT_FCMLA)
            memcpy(result, a, (size_t)call.lanes << size);
        for (unsigned i = 0; i < call.lanes; i += 2)
            turn(&env, &call, i, n, m, result);
    } else if (op == SOFT_FMA_HALF) {
        unsigned from = call.extra & 2 ? call.lanes : 0;
        for (unsigned i = 0; i < call.lanes; i++) {
            uint64_t factor = get(n, 1, from + i);
            put(result, 2, i, soft_fma_half(&env, get(a, 2, i), call.extra & 1 ? soft_negate(1, factor) : factor,
                                            get(m, 1, from + i)));
        }
    } else if (op == SOFT_CONVERT) {
        unsigned from = call.a & 8 ? call.lanes : 0;
        for (unsigned i = 0; i < call.lanes; i++)
            put(result, size, i,
                soft_convert(&env, call.extra, size, get(n, call.extra, from + i), rounding_of(&env, call.a)));
    } else {
        /* Conversions of scalars have integers of another size. */
        unsigned other = call.extra & 0xf0 ? (unsigned)__builtin_ctz(call.extra & 0xf0) - 3 : size;
        unsigned in = op == SOFT_FROM_INT ? other : size, out = op == SOFT_TO_INT ? other : size;
        for (unsigned i = 0; i < call.lanes; i++)
            put(result, out, i, element(&env, &call, op, get(n, in, i), get(m, size, i), get(a, size, i)));
    }
    state->fpsr |= env.fpsr;
    memcpy(call.d == SOFT_NONE ? state->argument[0] : state->kept_v[call.d], result, 16);
}
