/*
 * What threads may see of each other: litmus ROUNDS.  First litmus tests, by their usual names: outcomes that the
 * architecture forbids are counted, and there must be none (Arm ARM, B2.3).  Then eight threads at once on locks,
 * exclusives, atomics of each size and messages: what they add up to.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

__asm__(".arch armv8.3-a");

enum { SLOTS = 1024, MOST = 4, CROWD = 8 };

/* One instance of a test: two places in cache lines of their own, and what each thread has read. */
typedef struct slot {
    long x __attribute__((aligned(64)));
    long y __attribute__((aligned(64)));
    long read[MOST][2] __attribute__((aligned(64)));
} slot;
static slot slots[SLOTS];

typedef void part(slot *s, long *read);

#define PART(name, text)                                                                                     \
    static void name(slot *s, long *read)                                                                    \
    {                                                                                                        \
        long a = 0, b = 0;                                                                                   \
        __asm__ volatile(text                                                                                \
                         : [a] "+&r"(a), [b] "+&r"(b)                                                        \
                         : [x] "r"(&s->x), [y] "r"(&s->y), [one] "r"(1L), [two] "r"(2L)                      \
                         : "memory", "x9", "x10", "cc");                                                     \
        read[0] = a;                                                                                         \
        read[1] = b;                                                                                         \
    }
/* The parts that one pair of accesses is in, with x and y in either order. */
#define STORE_LOAD(name, store, middle, load)                                                                \
    PART(name##_0, store(x) middle load(a, y))                                                               \
    PART(name##_1, store(y) middle load(a, x))
#define STORE_STORE(name, first, middle, second)                                                             \
    PART(name##_0, first(x, one) middle second(y, one))                                                      \
    PART(name##_22, first(x, one) middle second(y, two))                                                     \
    PART(name##_23, first(y, one) middle second(x, two))                                                     \
    PART(name##_s, first(x, two) middle second(y, one))
#define LOAD_LOAD(name, first, middle, second)                                                               \
    PART(name##_0, first(a, y) middle second(b, x))                                                          \
    PART(name##_1, first(a, x) middle second(b, y))
#define LOAD_STORE(name, first, middle, second)                                                              \
    PART(name##_0, first(a, x) middle second(y, one))                                                        \
    PART(name##_1, first(a, y) middle second(x, one))

#define STR(at, v) "str %[" #v "], [%[" #at "]]\n"
#define STLR(at, v) "stlr %[" #v "], [%[" #at "]]\n"
#define SWPAL(at, v) "swpal %[" #v "], x9, [%[" #at "]]\n"
#define STLXR(at, v) "1: ldaxr x9, [%[" #at "]]\nstlxr w10, %[" #v "], [%[" #at "]]\ncbnz w10, 1b\n"
#define LDR(to, at) "ldr %[" #to "], [%[" #at "]]\n"
#define LDAR(to, at) "ldar %[" #to "], [%[" #at "]]\n"
#define LDAPR(to, at) "ldapr %[" #to "], [%[" #at "]]\n"
#define LDAXR(to, at) "ldaxr %[" #to "], [%[" #at "]]\n"
#define LDADDA(to, at) "ldadda xzr, %[" #to "], [%[" #at "]]\n"
/* Behind a load into a: its address depends on what that loaded. */
#define LDR_DEP(to, at) "eor x9, %[a], %[a]\nldr %[" #to "], [%[" #at "], x9]\n"
#define STR_DEP(at, v) "eor x9, %[a], %[a]\nadd x9, x9, %[" #v "]\nstr x9, [%[" #at "]]\n"
#define S1(at) STR(at, one)
#define L1(at) STLR(at, one)
#define W1(at) SWPAL(at, one)
#define X1(at) STLXR(at, one)
#define DMB "dmb ish\n"
#define DMB_ST "dmb ishst\n"
#define DMB_LD "dmb ishld\n"
#define DSB "dsb ish\n"

STORE_LOAD(sb, S1, "", LDR)
STORE_LOAD(sb_dmb, S1, DMB, LDR)
STORE_LOAD(sb_dsb, S1, DSB, LDR)
STORE_LOAD(sb_ordered, L1, "", LDAR)
STORE_LOAD(sb_swap, W1, "", LDAR)
STORE_LOAD(sb_exclusive, X1, "", LDAR)
STORE_STORE(ww, STR, "", STR)
STORE_STORE(ww_dmb, STR, DMB, STR)
STORE_STORE(ww_st, STR, DMB_ST, STR)
STORE_STORE(ww_release, STR, "", STLR)
STORE_STORE(ww_exclusive, STR, "", STLXR)
STORE_STORE(ww_swap, STR, "", SWPAL)
LOAD_LOAD(rr, LDR, "", LDR)
LOAD_LOAD(rr_dmb, LDR, DMB, LDR)
LOAD_LOAD(rr_ld, LDR, DMB_LD, LDR)
LOAD_LOAD(rr_address, LDR, "", LDR_DEP)
LOAD_LOAD(rr_acquire, LDAR, "", LDR)
LOAD_LOAD(rr_rcpc, LDAPR, "", LDR)
LOAD_LOAD(rr_exclusive, LDAXR, "", LDR)
LOAD_LOAD(rr_atomic, LDADDA, "", LDR)
LOAD_STORE(rw, LDR, "", STR)
LOAD_STORE(rw_dmb, LDR, DMB, STR)
LOAD_STORE(rw_data, LDR, "", STR_DEP)
LOAD_STORE(rw_acquire, LDAR, "", STR)
LOAD_STORE(rw_release, LDR, "", STLR)
PART(write_x, STR(x, one))
PART(write_y, STR(y, one))
PART(same, LDR(a, x) LDR(b, x))
PART(two_dmb, STR(y, two) DMB LDR(a, x))
PART(two_ordered, STLR(y, two) LDAR(a, x))

#define A (s->read[0])
#define B (s->read[1])
#define C (s->read[2])
#define D (s->read[3])
#define OUTCOME(name, condition)                                                                             \
    static int name(const slot *s) { return condition; }
OUTCOME(is_sb, A[0] == 0 && B[0] == 0)
OUTCOME(is_mp, B[0] == 1 && B[1] == 0)
OUTCOME(is_lb, A[0] == 1 && B[0] == 1)
OUTCOME(is_22w, s->x == 1 && s->y == 1)
OUTCOME(is_r, s->y == 2 && B[0] == 0)
OUTCOME(is_s, B[0] == 1 && s->x == 2)
OUTCOME(is_iriw, C[0] == 1 && C[1] == 0 && D[0] == 1 && D[1] == 0)
OUTCOME(is_wrc, B[0] == 1 && C[0] == 1 && C[1] == 0)
OUTCOME(is_corr, B[0] == 1 && B[1] == 0)

static const struct test {
    const char *name;
    int allowed; /* without barriers: seen or not, nobody knows */
    int (*outcome)(const slot *);
    part *parts[MOST];
} tests[] = {
    {"SB", 1, is_sb, {sb_0, sb_1}},
    {"SB+dmbs", 0, is_sb, {sb_dmb_0, sb_dmb_1}},
    {"SB+dsbs", 0, is_sb, {sb_dsb_0, sb_dsb_1}},
    {"SB+stlr+ldar", 0, is_sb, {sb_ordered_0, sb_ordered_1}},
    {"SB+swpal+ldar", 0, is_sb, {sb_swap_0, sb_swap_1}},
    {"SB+stlxr+ldar", 0, is_sb, {sb_exclusive_0, sb_exclusive_1}},
    {"SB+dmb+stlr+ldar", 0, is_sb, {sb_dmb_0, sb_ordered_1}},
    {"MP", 1, is_mp, {ww_0, rr_0}},
    {"MP+dmbs", 0, is_mp, {ww_dmb_0, rr_dmb_0}},
    {"MP+dmb.st+dmb.ld", 0, is_mp, {ww_st_0, rr_ld_0}},
    {"MP+dmb.st+addr", 0, is_mp, {ww_st_0, rr_address_0}},
    {"MP+stlr+ldar", 0, is_mp, {ww_release_0, rr_acquire_0}},
    {"MP+stlr+ldapr", 0, is_mp, {ww_release_0, rr_rcpc_0}},
    {"MP+stlxr+ldaxr", 0, is_mp, {ww_exclusive_0, rr_exclusive_0}},
    {"MP+swpal+ldadda", 0, is_mp, {ww_swap_0, rr_atomic_0}},
    {"LB", 1, is_lb, {rw_0, rw_1}},
    {"LB+dmbs", 0, is_lb, {rw_dmb_0, rw_dmb_1}},
    {"LB+datas", 0, is_lb, {rw_data_0, rw_data_1}},
    {"LB+ldars", 0, is_lb, {rw_acquire_0, rw_acquire_1}},
    {"LB+stlrs", 0, is_lb, {rw_release_0, rw_release_1}},
    {"2+2W", 1, is_22w, {ww_22, ww_23}},
    {"2+2W+dmbs", 0, is_22w, {ww_dmb_22, ww_dmb_23}},
    {"2+2W+stlrs", 0, is_22w, {ww_release_22, ww_release_23}},
    {"R+dmbs", 0, is_r, {ww_dmb_0, two_dmb}},
    {"R+stlr+ldar", 0, is_r, {ww_release_0, two_ordered}},
    {"S+dmb.st+data", 0, is_s, {ww_st_s, rw_data_1}},
    {"S+stlr+ldar", 0, is_s, {ww_release_s, rw_acquire_1}},
    {"CoRR", 0, is_corr, {write_x, same}},
    {"IRIW", 1, is_iriw, {write_x, write_y, rr_1, rr_0}},
    {"IRIW+dmbs", 0, is_iriw, {write_x, write_y, rr_dmb_1, rr_dmb_0}},
    {"IRIW+ldars", 0, is_iriw, {write_x, write_y, rr_acquire_1, rr_acquire_0}},
    {"WRC+dmbs", 0, is_wrc, {write_x, rw_dmb_0, rr_dmb_0}},
    {"WRC+data+addr", 0, is_wrc, {write_x, rw_data_0, rr_address_0}},
};

static const struct test *now;
static int rounds, players;
static pthread_barrier_t begin, end;
static atomic_long arrived;

/* All at the same moment, where there are processors for all: a barrier wakes one after the other. */
static void together(long last)
{
    atomic_fetch_add(&arrived, 1);
    for (int spins = 0; atomic_load(&arrived) < last; spins++)
        if (spins > 2000)
            sched_yield();
}

/* Each on a processor of its own, as far as there are some. */
static void settle(long n)
{
    cpu_set_t all, one;
    CPU_ZERO(&one);
    if (sched_getaffinity(0, sizeof all, &all) != 0)
        return;
    n %= CPU_COUNT(&all);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &all) && n-- == 0)
            CPU_SET(cpu, &one);
    sched_setaffinity(0, sizeof one, &one);
}

static void *play(void *which)
{
    long n = (long)which;
    settle(n);
    unsigned random = 7 * (unsigned)n + 1;
    for (int i = 0; i < rounds; i++) {
        pthread_barrier_wait(&begin);
        together((i + 1L) * players);
        random = random * 1103515245 + 12345;
        for (volatile unsigned wait = random >> 16 & 63; wait > 0; wait--)
            ;
        for (int k = 0; k < SLOTS; k++)
            now->parts[n](&slots[k], slots[k].read[n]);
        pthread_barrier_wait(&end);
    }
    return NULL;
}

static void judge(const struct test *test)
{
    pthread_t threads[MOST];
    long seen = 0;
    now = test;
    arrived = 0;
    for (players = 0; players < MOST && test->parts[players] != NULL; players++)
        ;
    pthread_barrier_init(&begin, NULL, (unsigned)players + 1);
    pthread_barrier_init(&end, NULL, (unsigned)players + 1);
    for (long n = 0; n < players; n++)
        pthread_create(&threads[n], NULL, play, (void *)n);
    for (int i = 0; i < rounds; i++) {
        memset(slots, 0, sizeof slots);
        pthread_barrier_wait(&begin);
        pthread_barrier_wait(&end);
        for (int k = 0; k < SLOTS; k++)
            seen += test->outcome(&slots[k]);
    }
    for (int n = 0; n < players; n++)
        pthread_join(threads[n], NULL);
    if (test->allowed)
        fprintf(stderr, "%s: allowed, seen %ld times of %d\n", test->name, seen, rounds * SLOTS);
    else
        printf("%s: forbidden, seen %ld times\n", test->name, seen);
}

/* ---- a crowd -------------------------------------------------------------------------------------------------- */

static struct {
    pthread_mutex_t mutex;
    long locked, spun, ticketed;
    int lock, tickets, serving;
    uint8_t excl8, add8;
    uint16_t excl16, add16;
    uint32_t excl32, add32, cas32, min32;
    uint64_t excl64, add64, eor64, set64, max64, swaps;
    struct {
        uint64_t low, high;
    } pair __attribute__((aligned(16))), casp __attribute__((aligned(16)));
    struct {
        uint32_t low, high;
    } small __attribute__((aligned(8)));
} all = {
    .mutex = PTHREAD_MUTEX_INITIALIZER,
    .min32 = UINT32_MAX,
    .pair = {0, ~UINT64_C(0)},
    .casp = {0, ~UINT64_C(0)},
};
static atomic_long torn, swapped;
static pthread_barrier_t start;
static long turns;

#define EXCLUSIVE(type, width, suffix, at)                                                                   \
    do {                                                                                                     \
        unsigned failed;                                                                                     \
        type value;                                                                                          \
        __asm__ volatile("1: ldxr" suffix " %" width "0, [%2]\n"                                             \
                         "add %" width "0, %" width "0, #1\n"                                                \
                         "stxr" suffix " %w1, %" width "0, [%2]\n"                                           \
                         "cbnz %w1, 1b"                                                                      \
                         : "=&r"(value), "=&r"(failed)                                                       \
                         : "r"(at)                                                                           \
                         : "memory");                                                                        \
    } while (0)
#define ATOMIC(text, type, width, at, value)                                                                 \
    ({                                                                                                       \
        type old;                                                                                            \
        __asm__ volatile(text " %" width "2, %" width "0, [%1]" : "=&r"(old) : "r"(at), "r"((type)(value)) : "memory"); \
        old;                                                                                                 \
    })

static void pairs(void)
{
    uint64_t low, high;
    unsigned failed;
    do { /* halves that are always each other's complement */
        __asm__ volatile("ldaxp %0, %1, [%2]" : "=&r"(low), "=&r"(high) : "r"(&all.pair) : "memory");
        uint64_t next = low + 1, other = ~next;
        uint64_t was = low ^ ~high;
        __asm__ volatile("stlxp %w0, %1, %2, [%3]" : "=&r"(failed) : "r"(next), "r"(other), "r"(&all.pair) : "memory");
        if (!failed && was)
            torn++;
    } while (failed);
    register uint64_t a __asm__("x4") = 0, b __asm__("x5") = ~UINT64_C(0), c __asm__("x6"), d __asm__("x7");
    for (;;) {
        uint64_t x = a, y = b;
        c = x + 1;
        d = ~c;
        __asm__ volatile("caspal x4, x5, x6, x7, [%4]" : "+r"(a), "+r"(b) : "r"(c), "r"(d), "r"(&all.casp) : "memory");
        if (a == x && b == y)
            break;
        if (b != ~a)
            torn++;
    }
    register uint32_t e __asm__("w4") = 0, f __asm__("w5") = 0, g __asm__("w6"), h __asm__("w7");
    for (;;) {
        uint32_t x = e, y = f;
        g = x + 1;
        h = y + 3;
        __asm__ volatile("casp w4, w5, w6, w7, [%4]" : "+r"(e), "+r"(f) : "r"(g), "r"(h), "r"(&all.small) : "memory");
        if (e == x && f == y)
            break;
        if (f != 3 * e)
            torn++;
    }
}

static void *hammer(void *which)
{
    long n = (long)which, mine = 0;
    pthread_barrier_wait(&start);
    for (long i = 0; i < turns; i++) {
        if (i % 8 == n % 8) {
            pthread_mutex_lock(&all.mutex);
            all.locked++;
            pthread_mutex_unlock(&all.mutex);
        }
        EXCLUSIVE(uint32_t, "w", "b", &all.excl8);
        EXCLUSIVE(uint32_t, "w", "h", &all.excl16);
        EXCLUSIVE(uint32_t, "w", "", &all.excl32);
        EXCLUSIVE(uint64_t, "x", "", &all.excl64);
        ATOMIC("ldaddalb", uint32_t, "w", &all.add8, 1);
        ATOMIC("ldaddh", uint32_t, "w", &all.add16, 1);
        ATOMIC("ldadd", uint32_t, "w", &all.add32, 1);
        ATOMIC("ldaddal", uint64_t, "x", &all.add64, 3);
        ATOMIC("ldeor", uint64_t, "x", &all.eor64, UINT64_C(1) << n);
        uint64_t bit = UINT64_C(1) << (8 * n);
        if (ATOMIC("ldset", uint64_t, "x", &all.set64, bit) & bit || !(ATOMIC("ldclral", uint64_t, "x", &all.set64, bit) & bit))
            torn++;
        uint64_t next = (uint64_t)i * CROWD + (uint64_t)n + 1;
        if (ATOMIC("ldumaxal", uint64_t, "x", &all.max64, next) == next)
            torn++;
        ATOMIC("ldumin", uint32_t, "w", &all.min32, 1000000 - i % 1000 * 8 - n);
        mine += (long)ATOMIC("swpal", uint64_t, "x", &all.swaps, 1) - 1;
        mine += (long)ATOMIC("swp", uint64_t, "x", &all.swaps, 0);
        uint32_t old = 0, want;
        do {
            want = old;
            __asm__ volatile("casal %w0, %w1, [%2]" : "+r"(old) : "r"(want + 5), "r"(&all.cas32) : "memory");
        } while (old != want);
        pairs();
        if (i % 16 == 0) {
            unsigned free, failed; /* of those who spin, one has the turn: the rest give theirs away */
            for (;;) {
                __asm__ volatile("ldaxr %w0, [%1]" : "=&r"(free) : "r"(&all.lock) : "memory");
                if (free == 0) {
                    __asm__ volatile("stxr %w0, %w1, [%2]" : "=&r"(failed) : "r"(1), "r"(&all.lock) : "memory");
                    if (!failed)
                        break;
                } else {
                    __asm__ volatile("clrex\nyield" ::: "memory");
                    sched_yield();
                }
            }
            all.spun++;
            __asm__ volatile("stlr wzr, [%0]" ::"r"(&all.lock) : "memory");
            unsigned ticket = ATOMIC("ldadda", uint32_t, "w", &all.tickets, 1), turn;
            for (;;) {
                __asm__ volatile("ldar %w0, [%1]" : "=r"(turn) : "r"(&all.serving) : "memory");
                if (turn == ticket)
                    break;
                sched_yield();
            }
            all.ticketed++;
            __asm__ volatile("stlr %w0, [%1]" ::"r"(turn + 1), "r"(&all.serving) : "memory");
        }
    }
    swapped += mine;
    return NULL;
}

/* Messages from each of four threads to one of the four others, through a ring. */
enum { RING = 64 };
static struct ring {
    long at[RING];
    long head __attribute__((aligned(64)));
    long tail __attribute__((aligned(64)));
} rings[CROWD / 2];
static atomic_long lost;

static void *talk(void *which)
{
    long n = (long)which;
    struct ring *ring = &rings[n / 2];
    pthread_barrier_wait(&start);
    for (long i = 0; i < 4 * turns; i++) {
        long other;
        if (n % 2 == 0) {
            for (;;) {
                __asm__ volatile("ldar %0, [%1]" : "=r"(other) : "r"(&ring->tail) : "memory");
                if (i - other < RING)
                    break;
                sched_yield();
            }
            ring->at[i % RING] = i * 7 + n / 2;
            if (i % 2)
                __asm__ volatile("stlr %0, [%1]" ::"r"(i + 1), "r"(&ring->head) : "memory");
            else
                __asm__ volatile("dmb ishst\nstr %0, [%1]" ::"r"(i + 1), "r"(&ring->head) : "memory");
        } else {
            for (;;) {
                if (i % 2)
                    __asm__ volatile("ldapr %0, [%1]" : "=r"(other) : "r"(&ring->head) : "memory");
                else
                    __asm__ volatile("ldr %0, [%1]\ndmb ishld" : "=r"(other) : "r"(&ring->head) : "memory");
                if (other > i)
                    break;
                sched_yield();
            }
            lost += ring->at[i % RING] != i * 7 + n / 2;
            __asm__ volatile("stlr %0, [%1]" ::"r"(i + 1), "r"(&ring->tail) : "memory");
        }
    }
    return NULL;
}

static void crowd(void *(*body)(void *))
{
    pthread_t threads[CROWD];
    pthread_barrier_init(&start, NULL, CROWD);
    for (long n = 0; n < CROWD; n++)
        pthread_create(&threads[n], NULL, body, (void *)n);
    for (int n = 0; n < CROWD; n++)
        pthread_join(threads[n], NULL);
}

#define SAME(what, value, expected)                                                                          \
    printf("%s: %s\n", what, (unsigned long long)(value) == (unsigned long long)(expected) ? "right" : "WRONG")

int main(int argc, char **argv)
{
    rounds = argc > 1 ? atoi(argv[1]) : 50;
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        judge(&tests[i]);
    turns = 20L * rounds;
    unsigned long total = (unsigned long)(CROWD * turns);
    crowd(hammer);
    SAME("mutex", all.locked, total / 8);
    SAME("spin lock", all.spun, CROWD * ((turns + 15) / 16));
    SAME("ticket lock", all.ticketed, CROWD * ((turns + 15) / 16));
    SAME("exclusive bytes", all.excl8, total & 0xff);
    SAME("exclusive halfwords", all.excl16, total & 0xffff);
    SAME("exclusive words", all.excl32, total);
    SAME("exclusive doublewords", all.excl64, total);
    SAME("exclusive pairs", all.pair.low, total);
    SAME("their other halves", ~all.pair.high, total);
    SAME("atomic bytes", all.add8, total & 0xff);
    SAME("atomic halfwords", all.add16, total & 0xffff);
    SAME("atomic words", all.add32, total);
    SAME("atomic doublewords", all.add64, 3 * total);
    SAME("atomic eor", all.eor64, turns % 2 ? 0xff : 0);
    SAME("atomic set and clear", all.set64, 0);
    SAME("atomic maximum", all.max64, total);
    SAME("atomic minimum", all.min32, 1000000 - (turns < 1000 ? turns - 1 : 999) * 8 - (CROWD - 1));
    SAME("swaps", swapped + (long)all.swaps, 0);
    SAME("compare and swap", all.cas32, 5 * total);
    SAME("compare and swap of 128 bits", all.casp.low, total);
    SAME("compare and swap of two words", all.small.high, 3 * total);
    SAME("torn", torn, 0);
    crowd(talk);
    SAME("messages", lost, 0);
    return 0;
}
