/* A hash of arithmetic on doubles and floats in each mode of FPCR (rounding, FZ, DN), changed while the program runs. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static uint64_t next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state * UINT64_C(2685821657736338717);
}

/* GCC would call sqrt() for numbers below 0. */
static double root(double a)
{
    __asm__("fsqrt %d0, %d1" : "=w"(a) : "w"(a));
    return a;
}

static void set_mode(uint64_t fpcr)
{
    __asm__ volatile("msr fpcr, %0" ::"r"(fpcr));
}

static uint64_t mix(uint64_t hash, const void *value, size_t size)
{
    uint64_t bits = 0;
    memcpy(&bits, value, size);
    return (hash ^ bits) * UINT64_C(1099511628211);
}

#define MIX(type, expression) \
    do { \
        type result = (expression); \
        hash = mix(hash, &result, sizeof result); \
    } while (0)

static void *work(void *mode)
{
    uint64_t hash = UINT64_C(1469598103934665603), state = UINT64_C(88172645463325252);
    set_mode((uint64_t)(uintptr_t)mode << 22);
    for (int i = 0; i < 20000; i++) {
        uint64_t bits[3] = {next(&state), next(&state), next(&state)};
        switch (i & 3) { /* the smallest numbers, what rounds to the least normal one, simple ones, anything */
        case 0:
            bits[0] &= UINT64_C(0x801fffff801fffff);
            break;
        case 1:
            bits[0] = (bits[0] & UINT64_C(0x800fffffffffffff)) | UINT64_C(0x0010000000000000);
            bits[1] = (bits[1] & UINT64_C(0x800fffffffffffff)) | UINT64_C(0x3fe0000000000000);
            break;
        case 2:
            bits[0] = (bits[0] & UINT64_C(0x80000000000fffff)) | UINT64_C(0x3ff0000000000000);
            break;
        default:
            break;
        }
        double a, b, c;
        float x, y;
        memcpy(&a, &bits[0], 8);
        memcpy(&b, &bits[1], 8);
        memcpy(&c, &bits[2], 8);
        memcpy(&x, &bits[0], 4);
        memcpy(&y, &bits[1], 4);
        MIX(double, a + b);
        MIX(double, a * b);
        MIX(double, a / b);
        MIX(double, root(a));
        MIX(double, __builtin_fma(a, b, c));
        MIX(double, __builtin_nearbyint(a));
        MIX(double, __builtin_round(b));
        MIX(float, (float)a);
        MIX(float, x * y);
        MIX(double, x);
        MIX(int64_t, (int64_t)a);
        MIX(uint64_t, (uint64_t)b);
        MIX(double, (double)bits[2]);
        MIX(float, (float)(int64_t)bits[2]);
        MIX(int, a < b);
        MIX(double, a > c ? b : a);
    }
    set_mode(0);
    return (void *)(uintptr_t)hash;
}

int main(void)
{
    /* Each in a thread, beside one that keeps the usual mode. */
    for (uintptr_t mode = 0; mode < 16; mode++) {
        pthread_t thread;
        void *there;
        if (pthread_create(&thread, NULL, work, (void *)mode) != 0)
            return 1;
        void *here = work(0);
        pthread_join(thread, &there);
        printf("%d %016llx %016llx\n", (int)mode, (unsigned long long)(uintptr_t)here,
               (unsigned long long)(uintptr_t)there);
    }
    return 0;
}
