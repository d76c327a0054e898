/*
 * Arm's floating point in integers, by the pseudocode of the Arm ARM (chapter J1,
 * shared/functions/float): half precision, estimates, and all results that x86
 * gives otherwise.  Nothing depends on the host's rounding mode.
 *
 * Values are bits, right-aligned; `size` is 1 half, 2 single, 3 double.
 */
#ifndef EMU_A64_SOFT_H
#define EMU_A64_SOFT_H

#include <stdbool.h>
#include <stdint.h>

enum {
    FPCR_AHP = 1 << 26,
    FPCR_DN = 1 << 25,
    FPCR_FZ = 1 << 24,
    FPCR_FZ16 = 1 << 19,
    FPSR_IOC = 1 << 0,
    FPSR_DZC = 1 << 1,
    FPSR_OFC = 1 << 2,
    FPSR_UFC = 1 << 3,
    FPSR_IXC = 1 << 4,
    FPSR_IDC = 1 << 7,
};

/* FPCR's first, as it numbers them. */
enum soft_rounding { SOFT_NEAREST, SOFT_UP, SOFT_DOWN, SOFT_TO_ZERO, SOFT_AWAY, SOFT_ODD };

typedef struct soft_env {
    uint32_t fpcr;
    uint32_t fpsr; /* collected */
} soft_env;

uint64_t soft_add(soft_env *env, unsigned size, uint64_t a, uint64_t b);
uint64_t soft_sub(soft_env *env, unsigned size, uint64_t a, uint64_t b);
/* extended: FMULX, where infinity times zero is two. */
uint64_t soft_mul(soft_env *env, unsigned size, uint64_t a, uint64_t b, bool extended);
uint64_t soft_div(soft_env *env, unsigned size, uint64_t a, uint64_t b);
uint64_t soft_sqrt(soft_env *env, unsigned size, uint64_t a);
/* addend + a * b. */
uint64_t soft_fma(soft_env *env, unsigned size, uint64_t addend, uint64_t a, uint64_t b);
/* The same with a single addend and half factors. */
uint64_t soft_fma_half(soft_env *env, uint64_t addend, uint64_t a, uint64_t b);
/* number: FMAXNM, FMINNM, which prefer a number to a quiet NaN. */
uint64_t soft_max(soft_env *env, unsigned size, uint64_t a, uint64_t b, bool minimum, bool number);
/* NZCV, as a number of 4 bits. */
unsigned soft_compare(soft_env *env, unsigned size, uint64_t a, uint64_t b, bool signalling);
/* FRECPS: 2 - a * b; FRSQRTS: (3 - a * b) / 2. */
uint64_t soft_recip_step(soft_env *env, unsigned size, uint64_t a, uint64_t b, bool root);
uint64_t soft_recip_estimate(soft_env *env, unsigned size, uint64_t a);
uint64_t soft_root_estimate(soft_env *env, unsigned size, uint64_t a);
uint64_t soft_recip_exponent(soft_env *env, unsigned size, uint64_t a);
/* URECPE, URSQRTE. */
uint32_t soft_integer_recip(uint32_t a);
uint32_t soft_integer_root(uint32_t a);
/* FRINT; exact: FRINTX.  bits (FRINTTS): 32 or 64 where the result is to fit, else 0. */
uint64_t soft_round(soft_env *env, unsigned size, uint64_t a, enum soft_rounding rounding, bool exact, unsigned bits);
uint64_t soft_convert(soft_env *env, unsigned from, unsigned to, uint64_t a, enum soft_rounding rounding);
/* An integer of `bits`, with fraction bits; the result is of so many bits too. */
uint64_t soft_to_integer(soft_env *env, unsigned size, uint64_t a, unsigned bits, unsigned fraction, bool is_unsigned,
                         enum soft_rounding rounding);
/* FJCVTZS; *same: Z. */
uint32_t soft_to_javascript(soft_env *env, uint64_t a, bool *same);
uint64_t soft_from_integer(soft_env *env, unsigned size, uint64_t value, unsigned bits, unsigned fraction,
                           bool is_unsigned);

static inline enum soft_rounding soft_rounding_of(uint32_t fpcr)
{
    return (enum soft_rounding)(fpcr >> 22 & 3);
}

static inline unsigned soft_bits(unsigned size)
{
    return 8u << size;
}

static inline uint64_t soft_negate(unsigned size, uint64_t a)
{
    return a ^ UINT64_C(1) << (soft_bits(size) - 1);
}

static inline uint64_t soft_absolute(unsigned size, uint64_t a)
{
    return a & ~(UINT64_C(1) << (soft_bits(size) - 1));
}

#endif
