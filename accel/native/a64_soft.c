/* Arm's floating point in integers: see a64_soft.h. */
#include "a64_soft.h"

typedef unsigned __int128 wide;

static const struct format {
    int fraction, bias, top; /* bits of the fraction; the exponent's bias, and its largest value */
} formats[] = {[1] = {10, 15, 31}, [2] = {23, 127, 255}, [3] = {52, 1023, 2047}};

enum kind { ZERO, FINITE, INFINITE, QUIET, SIGNALLING };

/* value = mantissa * 2 ** (exponent - 63), and the mantissa's highest bit is set. */
typedef struct number {
    enum kind kind;
    unsigned sign;
    int exponent;
    uint64_t mantissa;
} number;

static bool is_nan(number n)
{
    return n.kind >= QUIET;
}

static uint64_t zero(unsigned size, unsigned sign)
{
    return (uint64_t)sign << (soft_bits(size) - 1);
}

static uint64_t infinity(unsigned size, unsigned sign)
{
    return zero(size, sign) | (uint64_t)formats[size].top << formats[size].fraction;
}

static uint64_t default_nan(unsigned size)
{
    return infinity(size, 0) | UINT64_C(1) << (formats[size].fraction - 1);
}

static bool flushes(const soft_env *env, unsigned size)
{
    return env->fpcr & (size == 1 ? FPCR_FZ16 : FPCR_FZ);
}

/* FPUnpack.  alternative: half precision without infinities and NaNs. */
static number unpack_as(soft_env *env, unsigned size, uint64_t bits, bool alternative)
{
    const struct format *f = &formats[size];
    uint64_t fraction = bits & ((UINT64_C(1) << f->fraction) - 1);
    int exponent = (int)(bits >> f->fraction) & f->top;
    number n = {.kind = FINITE, .sign = bits >> (soft_bits(size) - 1) & 1};
    if (exponent == 0) {
        if (fraction != 0 && flushes(env, size)) {
            fraction = 0;
            if (size != 1)
                env->fpsr |= FPSR_IDC;
        }
        if (fraction == 0) {
            n.kind = ZERO;
            return n;
        }
        int zeros = __builtin_clzll(fraction);
        n.mantissa = fraction << zeros;
        n.exponent = 64 - zeros - f->bias - f->fraction;
        return n;
    }
    n.mantissa = UINT64_C(1) << 63 | fraction << (63 - f->fraction);
    n.exponent = exponent - f->bias;
    if (exponent == f->top && !alternative)
        n.kind = fraction == 0 ? INFINITE : fraction >> (f->fraction - 1) ? QUIET : SIGNALLING;
    return n;
}

static number unpack(soft_env *env, unsigned size, uint64_t bits)
{
    return unpack_as(env, size, bits, false);
}

/* What is cut off, against half of the last bit that stays. */
enum rest { NONE, BELOW, HALF, ABOVE };

static enum rest cut(uint64_t mantissa, bool sticky, int drop, uint64_t *kept)
{
    if (drop == 0) {
        *kept = mantissa;
        return sticky ? BELOW : NONE;
    }
    if (drop > 64) {
        *kept = 0;
        return mantissa || sticky ? BELOW : NONE;
    }
    *kept = drop == 64 ? 0 : mantissa >> drop;
    uint64_t half = UINT64_C(1) << (drop - 1);
    uint64_t rest = mantissa & (half | (half - 1));
    if (rest == half)
        return sticky ? ABOVE : HALF;
    if (rest > half)
        return ABOVE;
    return rest || sticky ? BELOW : NONE;
}

/* Whether the magnitude grows by one. */
static bool grows(enum soft_rounding rounding, unsigned sign, uint64_t kept, enum rest rest)
{
    switch (rounding) {
    case SOFT_NEAREST:
        return rest == ABOVE || (rest == HALF && kept & 1);
    case SOFT_AWAY:
        return rest >= HALF;
    case SOFT_UP:
        return rest != NONE && !sign;
    case SOFT_DOWN:
        return rest != NONE && sign;
    default:
        return false;
    }
}

static uint64_t largest(unsigned size, unsigned sign, bool alternative)
{
    return infinity(size, sign) - 1 + (alternative ? UINT64_C(1) << formats[size].fraction : 0);
}

static bool to_infinity(enum soft_rounding rounding, unsigned sign)
{
    return rounding == SOFT_NEAREST || rounding == SOFT_AWAY || rounding == (sign ? SOFT_DOWN : SOFT_UP);
}

/* FPRound.  The mantissa's highest bit is set; sticky: something below it is too. */
static uint64_t pack_as(soft_env *env, unsigned size, enum soft_rounding rounding, unsigned sign, int exponent,
                        uint64_t mantissa, bool sticky, bool alternative)
{
    const struct format *f = &formats[size];
    int lowest = 1 - f->bias;
    if (exponent < lowest && flushes(env, size)) {
        env->fpsr |= FPSR_UFC;
        return zero(size, sign);
    }
    int drop = 63 - f->fraction + (exponent < lowest ? lowest - exponent : 0);
    uint64_t kept;
    enum rest rest = cut(mantissa, sticky, drop, &kept);
    if (exponent < lowest && rest != NONE)
        env->fpsr |= FPSR_UFC;
    if (grows(rounding, sign, kept, rest))
        kept++;
    else if (rounding == SOFT_ODD && rest != NONE)
        kept |= 1;
    /* The mantissa's highest bit adds one to the exponent, and so does a carry. */
    uint64_t bits = kept + (exponent > lowest ? (uint64_t)(exponent - lowest) << f->fraction : 0);
    if (alternative) {
        if (bits >> f->fraction > (uint64_t)f->top) {
            env->fpsr |= FPSR_IOC;
            return largest(size, sign, true);
        }
    } else if (bits >> f->fraction >= (uint64_t)f->top) {
        env->fpsr |= FPSR_OFC | FPSR_IXC;
        return to_infinity(rounding, sign) ? infinity(size, sign) : largest(size, sign, false);
    }
    if (rest != NONE)
        env->fpsr |= FPSR_IXC;
    return bits | zero(size, sign);
}

static uint64_t pack(soft_env *env, unsigned size, unsigned sign, int exponent, uint64_t mantissa, bool sticky)
{
    return pack_as(env, size, soft_rounding_of(env->fpcr), sign, exponent, mantissa, sticky, false);
}

/* The same of 128 bits, not 0: value = mantissa * 2 ** (exponent - 127). */
static uint64_t pack_wide(soft_env *env, unsigned size, unsigned sign, int exponent, wide mantissa)
{
    uint64_t high = (uint64_t)(mantissa >> 64);
    int zeros = high ? __builtin_clzll(high) : 64 + __builtin_clzll((uint64_t)mantissa);
    mantissa <<= zeros;
    return pack(env, size, sign, exponent - zeros, (uint64_t)(mantissa >> 64), (uint64_t)mantissa != 0);
}

/* ---- NaNs ------------------------------------------------------------------------------- */

static uint64_t invalid(soft_env *env, unsigned size)
{
    env->fpsr |= FPSR_IOC;
    return default_nan(size);
}

/* FPProcessNaN. */
static uint64_t nan_of(soft_env *env, unsigned size, number n, uint64_t bits)
{
    if (n.kind == SIGNALLING) {
        env->fpsr |= FPSR_IOC;
        bits |= UINT64_C(1) << (formats[size].fraction - 1);
    }
    return env->fpcr & FPCR_DN ? default_nan(size) : bits;
}

/* FPProcessNaNs: true where one is a NaN. */
static bool nans(soft_env *env, unsigned size, number a, number b, uint64_t x, uint64_t y, uint64_t *result)
{
    if (a.kind == SIGNALLING)
        *result = nan_of(env, size, a, x);
    else if (b.kind == SIGNALLING)
        *result = nan_of(env, size, b, y);
    else if (a.kind == QUIET)
        *result = nan_of(env, size, a, x);
    else if (b.kind == QUIET)
        *result = nan_of(env, size, b, y);
    else
        return false;
    return true;
}

/* FPProcessNaNs3, of factors a and b and the addend c, which comes first. */
static bool nans3(soft_env *env, unsigned size, const number n[3], const uint64_t bits[3], uint64_t *result)
{
    for (enum kind kind = SIGNALLING; kind >= QUIET; kind--)
        for (int i = 0; i < 3; i++)
            if (n[i].kind == kind) {
                *result = nan_of(env, size, n[i], bits[i]);
                return true;
            }
    return false;
}

/* ---- sums and products --------------------------------------------------------------------- */

/* An exact 0 of operands that differ in sign. */
static uint64_t exact_zero(const soft_env *env, unsigned size)
{
    return zero(size, soft_rounding_of(env->fpcr) == SOFT_DOWN);
}

/* value = mantissa * 2 ** (exponent - 126); 0 or bit 126 is the highest. */
typedef struct term {
    unsigned sign;
    int exponent;
    wide mantissa;
} term;

static term term_of(number n)
{
    return (term){n.sign, n.exponent, n.kind == ZERO ? 0 : (wide)n.mantissa << 63};
}

static term product_of(number a, number b)
{
    term p = {a.sign ^ b.sign, a.exponent + b.exponent, 0};
    if (a.kind != ZERO && b.kind != ZERO)
        p.mantissa = (wide)a.mantissa * b.mantissa;
    if (p.mantissa >> 127) { /* factors have 53 bits: the lowest are 0 */
        p.mantissa >>= 1;
        p.exponent++;
    }
    return p;
}

static uint64_t sum(soft_env *env, unsigned size, int scale, term a, term b)
{
    if (a.mantissa == 0 && b.mantissa == 0)
        return a.sign == b.sign ? zero(size, a.sign) : exact_zero(env, size);
    if (b.mantissa == 0 || (a.mantissa != 0 && a.exponent > b.exponent)) {
        term other = a;
        a = b;
        b = other;
    }
    if (a.mantissa != 0) { /* b is the larger */
        int shift = b.exponent - a.exponent;
        if (shift > 126)
            a.mantissa = 1;
        else if (shift)
            a.mantissa = a.mantissa >> shift | ((a.mantissa & (((wide)1 << shift) - 1)) != 0);
    }
    term r = {b.sign, b.exponent, 0};
    if (a.sign == b.sign) {
        r.mantissa = a.mantissa + b.mantissa;
    } else if (a.mantissa > b.mantissa) {
        r.mantissa = a.mantissa - b.mantissa;
        r.sign = a.sign;
    } else {
        r.mantissa = b.mantissa - a.mantissa;
    }
    if (r.mantissa == 0)
        return exact_zero(env, size);
    return pack_wide(env, size, r.sign, r.exponent + 1 + scale, r.mantissa);
}

static uint64_t add(soft_env *env, unsigned size, uint64_t x, uint64_t y, unsigned negate)
{
    number a = unpack(env, size, x), b = unpack(env, size, y);
    uint64_t result;
    if (nans(env, size, a, b, x, y, &result))
        return result;
    b.sign ^= negate;
    if (a.kind == INFINITE)
        return b.kind == INFINITE && a.sign != b.sign ? invalid(env, size) : infinity(size, a.sign);
    if (b.kind == INFINITE)
        return infinity(size, b.sign);
    return sum(env, size, 0, term_of(a), term_of(b));
}

uint64_t soft_add(soft_env *env, unsigned size, uint64_t a, uint64_t b)
{
    return add(env, size, a, b, 0);
}

uint64_t soft_sub(soft_env *env, unsigned size, uint64_t a, uint64_t b)
{
    return add(env, size, a, b, 1);
}

static bool infinity_times_zero(number a, number b)
{
    return (a.kind == INFINITE && b.kind == ZERO) || (a.kind == ZERO && b.kind == INFINITE);
}

uint64_t soft_mul(soft_env *env, unsigned size, uint64_t x, uint64_t y, bool extended)
{
    number a = unpack(env, size, x), b = unpack(env, size, y);
    uint64_t result;
    if (nans(env, size, a, b, x, y, &result))
        return result;
    unsigned sign = a.sign ^ b.sign;
    if (infinity_times_zero(a, b))
        return extended ? zero(size, sign) | (uint64_t)(formats[size].bias + 1) << formats[size].fraction
                        : invalid(env, size);
    if (a.kind == INFINITE || b.kind == INFINITE)
        return infinity(size, sign);
    if (a.kind == ZERO || b.kind == ZERO)
        return zero(size, sign);
    return pack_wide(env, size, sign, a.exponent + b.exponent + 1, (wide)a.mantissa * b.mantissa);
}

uint64_t soft_div(soft_env *env, unsigned size, uint64_t x, uint64_t y)
{
    number a = unpack(env, size, x), b = unpack(env, size, y);
    uint64_t result;
    if (nans(env, size, a, b, x, y, &result))
        return result;
    unsigned sign = a.sign ^ b.sign;
    if ((a.kind == INFINITE && b.kind == INFINITE) || (a.kind == ZERO && b.kind == ZERO))
        return invalid(env, size);
    if (a.kind == INFINITE)
        return infinity(size, sign);
    if (b.kind == ZERO) {
        env->fpsr |= FPSR_DZC;
        return infinity(size, sign);
    }
    if (a.kind == ZERO || b.kind == INFINITE)
        return zero(size, sign);
    wide dividend = (wide)a.mantissa << 63, quotient = dividend / b.mantissa;
    /* The quotient has 63 or 64 bits; what remains is below them. */
    quotient = quotient << 1 | (dividend % b.mantissa != 0);
    return pack_wide(env, size, sign, a.exponent - b.exponent + 63, quotient);
}

uint64_t soft_sqrt(soft_env *env, unsigned size, uint64_t x)
{
    number a = unpack(env, size, x);
    if (is_nan(a))
        return nan_of(env, size, a, x);
    if (a.kind == ZERO)
        return zero(size, a.sign);
    if (a.sign)
        return invalid(env, size);
    if (a.kind == INFINITE)
        return infinity(size, 0);
    /* a = square * 2 ** (2 * half - 126), and the root has 64 bits. */
    int half = a.exponent >> 1;
    wide square = (wide)a.mantissa << (63 + (a.exponent & 1)), rest = square;
    uint64_t root = 0;
    for (int bit = 63; bit >= 0; bit--) {
        /* (root + b)^2 = root^2 + (2 * root + b) * b */
        wide step = (((wide)root << 1) + ((wide)1 << bit)) << bit;
        if (rest >= step) {
            rest -= step;
            root |= UINT64_C(1) << bit;
        }
    }
    return pack(env, size, 0, half, root, rest != 0);
}

/* The value of a fused sum, whose operands are no NaNs. */
static uint64_t fused(soft_env *env, unsigned size, int scale, number addend, number a, number b)
{
    unsigned sign = a.sign ^ b.sign;
    bool infinite = a.kind == INFINITE || b.kind == INFINITE;
    if (infinity_times_zero(a, b) || (addend.kind == INFINITE && infinite && addend.sign != sign))
        return invalid(env, size);
    if (addend.kind == INFINITE || infinite)
        return infinity(size, addend.kind == INFINITE ? addend.sign : sign);
    return sum(env, size, scale, term_of(addend), product_of(a, b));
}

uint64_t soft_fma(soft_env *env, unsigned size, uint64_t addend, uint64_t a, uint64_t b)
{
    const uint64_t bits[3] = {addend, a, b};
    number n[3];
    for (int i = 0; i < 3; i++)
        n[i] = unpack(env, size, bits[i]);
    uint64_t result;
    if (nans3(env, size, n, bits, &result))
        return n[0].kind == QUIET && infinity_times_zero(n[1], n[2]) ? invalid(env, size) : result;
    return fused(env, size, 0, n[0], n[1], n[2]);
}

/* FPConvertNaN, of a quiet one's bits. */
static uint64_t convert_nan(unsigned from, unsigned to, uint64_t bits)
{
    uint64_t sign = bits >> (soft_bits(from) - 1) & 1;
    uint64_t fraction = bits << (64 - formats[from].fraction); /* at the top */
    return zero(to, (unsigned)sign) | default_nan(to) | fraction >> (64 - formats[to].fraction);
}

uint64_t soft_fma_half(soft_env *env, uint64_t addend, uint64_t a, uint64_t b)
{
    uint64_t bits[3] = {addend, a, b};
    number n[3];
    for (int i = 0; i < 3; i++) {
        n[i] = unpack(env, i ? 1 : 2, bits[i]);
        if (i && is_nan(n[i])) {
            bits[i] = convert_nan(1, 2, bits[i]);
            if (n[i].kind == SIGNALLING)
                bits[i] &= ~(UINT64_C(1) << 22);
        }
    }
    uint64_t result;
    if (nans3(env, 2, n, bits, &result))
        return n[0].kind == QUIET && infinity_times_zero(n[1], n[2]) ? invalid(env, 2) : result;
    return fused(env, 2, 0, n[0], n[1], n[2]);
}

uint64_t soft_recip_step(soft_env *env, unsigned size, uint64_t a, uint64_t b, bool root)
{
    a = soft_negate(size, a);
    number x = unpack(env, size, a), y = unpack(env, size, b);
    uint64_t result;
    if (nans(env, size, x, y, a, b, &result))
        return result;
    /* 2, 1.5, 3 */
    uint64_t bias = (uint64_t)formats[size].bias << formats[size].fraction;
    uint64_t half = UINT64_C(1) << (formats[size].fraction - 1), two = bias + 2 * half;
    if (infinity_times_zero(x, y))
        return root ? bias | half : two;
    return fused(env, size, root ? -1 : 0, unpack(env, size, root ? two | half : two), x, y);
}

/* ---- comparisons ---------------------------------------------------------------------------- */

/* -1, 0, 1. */
static int order(number a, number b)
{
    if (a.kind == ZERO && b.kind == ZERO)
        return 0;
    if (a.kind == ZERO)
        return b.sign ? 1 : -1;
    if (b.kind == ZERO || a.sign != b.sign)
        return a.sign ? -1 : 1;
    int greater = a.sign ? -1 : 1;
    if (a.kind != b.kind)
        return a.kind == INFINITE ? greater : -greater;
    if (a.kind == INFINITE)
        return 0;
    if (a.exponent != b.exponent)
        return a.exponent > b.exponent ? greater : -greater;
    return a.mantissa == b.mantissa ? 0 : a.mantissa > b.mantissa ? greater : -greater;
}

unsigned soft_compare(soft_env *env, unsigned size, uint64_t x, uint64_t y, bool signalling)
{
    number a = unpack(env, size, x), b = unpack(env, size, y);
    if (is_nan(a) || is_nan(b)) {
        if (signalling || a.kind == SIGNALLING || b.kind == SIGNALLING)
            env->fpsr |= FPSR_IOC;
        return 3;
    }
    int relation = order(a, b);
    return relation == 0 ? 6 : relation < 0 ? 8 : 2;
}

uint64_t soft_max(soft_env *env, unsigned size, uint64_t x, uint64_t y, bool minimum, bool number_first)
{
    number a = unpack(env, size, x), b = unpack(env, size, y);
    if (number_first && (a.kind == QUIET) != (b.kind == QUIET)) {
        /* The quiet NaN is the least, or the greatest, of all numbers. */
        number *quiet = a.kind == QUIET ? &a : &b;
        *quiet = (number){.kind = INFINITE, .sign = !minimum};
        *(quiet == &a ? &x : &y) = infinity(size, !minimum);
    }
    uint64_t result;
    if (nans(env, size, a, b, x, y, &result))
        return result;
    if (a.kind == ZERO && b.kind == ZERO)
        return zero(size, minimum ? a.sign | b.sign : a.sign & b.sign);
    bool first = (order(a, b) > 0) != minimum;
    number chosen = first ? a : b;
    return chosen.kind == ZERO ? zero(size, chosen.sign) : first ? x : y;
}

/* ---- conversions ------------------------------------------------------------------------------- */

uint64_t soft_round(soft_env *env, unsigned size, uint64_t x, enum soft_rounding rounding, bool exact, unsigned bits)
{
    number a = unpack(env, size, x);
    if (is_nan(a) || a.kind == INFINITE) {
        if (!bits)
            return is_nan(a) ? nan_of(env, size, a, x) : x;
    } else if (a.kind == ZERO) {
        return zero(size, a.sign);
    } else {
        uint64_t kept = a.mantissa;
        int exponent = 63;
        enum rest rest = NONE;
        if (a.exponent >= 63) {
            exponent = a.exponent;
        } else {
            rest = cut(a.mantissa, false, 63 - a.exponent, &kept);
            kept += grows(rounding, a.sign, kept, rest);
        }
        uint64_t limit = bits ? UINT64_C(1) << (bits - 1) : 0;
        if (!bits || (exponent == 63 && (kept < limit || (kept == limit && a.sign)))) {
            if (rest != NONE && exact)
                env->fpsr |= FPSR_IXC;
            if (kept == 0)
                return zero(size, a.sign);
            int zeros = __builtin_clzll(kept);
            soft_env whole = {.fpcr = env->fpcr};
            return pack(&whole, size, a.sign, exponent - zeros, kept << zeros, false);
        }
    }
    env->fpsr |= FPSR_IOC;
    return zero(size, 1) | (uint64_t)(formats[size].bias + (int)bits - 1) << formats[size].fraction;
}

uint64_t soft_convert(soft_env *env, unsigned from, unsigned to, uint64_t x, enum soft_rounding rounding)
{
    soft_env own = {.fpcr = env->fpcr & ~(uint32_t)FPCR_FZ16};
    bool alternative = env->fpcr & FPCR_AHP && (from == 1 || to == 1);
    number a = unpack_as(&own, from, x, alternative && from == 1);
    uint64_t result;
    if (is_nan(a)) {
        if (alternative && to == 1) {
            own.fpsr |= FPSR_IOC;
            result = zero(to, a.sign);
        } else {
            result = own.fpcr & FPCR_DN ? default_nan(to) : convert_nan(from, to, x);
            if (a.kind == SIGNALLING)
                own.fpsr |= FPSR_IOC;
        }
    } else if (a.kind == INFINITE) {
        if (alternative && to == 1) {
            own.fpsr |= FPSR_IOC;
            result = largest(to, a.sign, true);
        } else {
            result = infinity(to, a.sign);
        }
    } else if (a.kind == ZERO) {
        result = zero(to, a.sign);
    } else {
        result = pack_as(&own, to, rounding, a.sign, a.exponent, a.mantissa, false, alternative && to == 1);
    }
    env->fpsr |= own.fpsr;
    return result;
}

uint64_t soft_to_integer(soft_env *env, unsigned size, uint64_t x, unsigned bits, unsigned fraction, bool is_unsigned,
                         enum soft_rounding rounding)
{
    number a = unpack(env, size, x);
    uint64_t most = ~UINT64_C(0) >> (64 - bits);
    if (!is_unsigned)
        most = a.sign ? (most >> 1) + 1 : most >> 1;
    else if (a.sign)
        most = 0;
    uint64_t kept = 0;
    int exponent = a.exponent + (int)fraction;
    enum rest rest = NONE;
    if (is_nan(a)) {
        env->fpsr |= FPSR_IOC;
        return 0;
    }
    if (a.kind == ZERO)
        return 0;
    bool over = a.kind == INFINITE || exponent > 63;
    if (!over) {
        rest = cut(a.mantissa, false, 63 - exponent, &kept);
        kept += grows(rounding, a.sign, kept, rest);
        over = kept > most;
    }
    if (over) {
        env->fpsr |= FPSR_IOC;
        kept = most;
    } else if (rest != NONE) {
        env->fpsr |= FPSR_IXC;
    }
    return (a.sign ? -kept : kept) & ~UINT64_C(0) >> (64 - bits);
}

uint32_t soft_to_javascript(soft_env *env, uint64_t x, bool *same)
{
    number a = unpack(env, 3, x);
    *same = false;
    if (is_nan(a) || a.kind == INFINITE) {
        env->fpsr |= FPSR_IOC;
        return 0;
    }
    if (a.kind == ZERO) {
        *same = x == 0;
        return 0;
    }
    uint64_t kept = 0;
    if (a.exponent > 63) {
        env->fpsr |= FPSR_IOC;
        if (a.exponent > 63 + 31)
            return 0;
        kept = a.mantissa << (a.exponent - 63);
        return (uint32_t)(a.sign ? -kept : kept);
    }
    enum rest rest = cut(a.mantissa, false, 63 - a.exponent, &kept);
    if (kept > UINT64_C(0x7fffffff) + a.sign)
        env->fpsr |= FPSR_IOC;
    else if (rest != NONE)
        env->fpsr |= FPSR_IXC;
    else
        *same = true;
    return (uint32_t)(a.sign ? -kept : kept);
}

uint64_t soft_from_integer(soft_env *env, unsigned size, uint64_t value, unsigned bits, unsigned fraction,
                           bool is_unsigned)
{
    value <<= 64 - bits;
    unsigned sign = !is_unsigned && value >> 63;
    if (is_unsigned)
        value >>= 64 - bits;
    else
        value = (uint64_t)((int64_t)value >> (64 - bits));
    if (value == 0)
        return 0;
    if (sign)
        value = -value;
    int zeros = __builtin_clzll(value);
    return pack(env, size, sign, 63 - zeros - (int)fraction, value << zeros, false);
}

/* ---- estimates ---------------------------------------------------------------------------------- */

/* RecipEstimate, of 256 to 511. */
static unsigned recip(unsigned a)
{
    return ((1u << 19) / (2 * a + 1) + 1) / 2;
}

/* RecipSqrtEstimate, of 128 to 511. */
static unsigned root(unsigned a)
{
    a = a < 256 ? 2 * a + 1 : ((a & ~1u) + 1) * 2;
    unsigned b = 512;
    while ((uint64_t)a * (b + 1) * (b + 1) < 1u << 28)
        b++;
    return (b + 1) / 2;
}

/* A result of an estimate: its 8 bits at the fraction's top. */
static uint64_t estimate_of(unsigned size, unsigned sign, int exponent, uint64_t fraction)
{
    return zero(size, sign) | (uint64_t)exponent << formats[size].fraction | fraction >> (64 - formats[size].fraction);
}

uint64_t soft_recip_estimate(soft_env *env, unsigned size, uint64_t x)
{
    const struct format *f = &formats[size];
    number a = unpack(env, size, x);
    if (is_nan(a))
        return nan_of(env, size, a, x);
    if (a.kind == INFINITE)
        return zero(size, a.sign);
    if (a.kind == ZERO) {
        env->fpsr |= FPSR_DZC;
        return infinity(size, a.sign);
    }
    if (a.exponent < -f->bias - 1) {
        env->fpsr |= FPSR_OFC | FPSR_IXC;
        return to_infinity(soft_rounding_of(env->fpcr), a.sign) ? infinity(size, a.sign) : largest(size, a.sign, false);
    }
    if (flushes(env, size) && a.exponent >= f->bias - 1) {
        env->fpsr |= FPSR_UFC;
        return zero(size, a.sign);
    }
    uint64_t fraction = (uint64_t)(recip((unsigned)(a.mantissa >> 55)) & 0xff) << 56;
    int exponent = f->bias - 1 - a.exponent; /* 2 * bias - 1 - the biased one */
    if (exponent == 0) {
        fraction = fraction >> 1 | UINT64_C(1) << 63;
    } else if (exponent == -1) {
        fraction = fraction >> 2 | UINT64_C(1) << 62;
        exponent = 0;
    }
    return estimate_of(size, a.sign, exponent, fraction);
}

uint64_t soft_root_estimate(soft_env *env, unsigned size, uint64_t x)
{
    const struct format *f = &formats[size];
    number a = unpack(env, size, x);
    if (is_nan(a))
        return nan_of(env, size, a, x);
    if (a.kind == ZERO) {
        env->fpsr |= FPSR_DZC;
        return infinity(size, a.sign);
    }
    if (a.sign)
        return invalid(env, size);
    if (a.kind == INFINITE)
        return zero(size, 0);
    int biased = a.exponent + f->bias;
    unsigned scaled = biased & 1 ? (unsigned)(a.mantissa >> 56) : (unsigned)(a.mantissa >> 55);
    uint64_t fraction = (uint64_t)(root(scaled) & 0xff) << 56;
    return estimate_of(size, 0, (3 * f->bias - 1 - biased) >> 1, fraction);
}

uint64_t soft_recip_exponent(soft_env *env, unsigned size, uint64_t x)
{
    const struct format *f = &formats[size];
    number a = unpack(env, size, x);
    if (is_nan(a))
        return nan_of(env, size, a, x);
    uint64_t exponent = x >> f->fraction & (uint64_t)f->top;
    exponent = exponent == 0 ? (uint64_t)f->top - 1 : ~exponent & (uint64_t)f->top;
    return zero(size, a.sign) | exponent << f->fraction;
}

uint32_t soft_integer_recip(uint32_t a)
{
    return a >> 31 ? recip(a >> 23) << 23 : ~UINT32_C(0);
}

uint32_t soft_integer_root(uint32_t a)
{
    return a >> 30 ? root(a >> 23) << 23 : ~UINT32_C(0);
}
