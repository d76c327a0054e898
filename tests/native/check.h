/* A test is a function; CHECK ends the program with the place and the condition. */
#ifndef CHECK_H
#define CHECK_H

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition)                                                                   \
    do {                                                                                   \
        if (!(condition)) {                                                                \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition); \
            exit(1);                                                                       \
        }                                                                                  \
    } while (0)

#define CHECK_EQUAL(left, right)                                                                               \
    do {                                                                                                       \
        uint64_t left_ = (uint64_t)(left), right_ = (uint64_t)(right);                                         \
        if (left_ != right_) {                                                                                 \
            fprintf(stderr, "%s:%d: %s is %#" PRIx64 ", not %#" PRIx64 "\n", __FILE__, __LINE__, #left, left_, \
                    right_);                                                                                   \
            exit(1);                                                                                           \
        }                                                                                                      \
    } while (0)

#define RUN(test)                            \
    do {                                     \
        fprintf(stderr, "%s ...\n", #test); \
        test();                              \
    } while (0)

/* xorshift64*: the same numbers for the same seed on every host. */
static inline uint64_t next_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(0x2545F4914F6CDD1D);
}

#endif
