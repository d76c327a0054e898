/* Several processes at the same words of memory; what it prints is the same on every Linux. */
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(e) printf("%s: %s\n", #e, (e) ? "yes" : "NO")

enum { PROCESSES = 3, ROUNDS = 200000 };

#if defined(__riscv) /* has atomic instructions for words only */
typedef uint32_t byte, half;
#else
typedef uint8_t byte;
typedef uint16_t half;
#endif

static struct shared {
    _Atomic unsigned start;
    _Alignas(64) _Atomic byte byte;
    _Atomic half half;
    _Atomic uint32_t word;
    _Atomic uint64_t wide, exchanged, sum, taken;
    _Atomic uint32_t lock;
    uint64_t locked;
    _Alignas(16) uint64_t pair[2];
} *shared;

static void together(void (*work)(unsigned))
{
    memset(shared, 0, sizeof *shared);
    for (unsigned i = 0; i < PROCESSES; i++)
        if (fork() == 0) {
            atomic_fetch_add(&shared->start, 1);
            while (atomic_load(&shared->start) < PROCESSES)
                ;
            work(i);
            _exit(0);
        }
    while (wait(NULL) > 0)
        ;
}

static void add(unsigned me)
{
    for (unsigned i = 0; i < ROUNDS; i++) {
        atomic_fetch_add(&shared->byte, 1);
        atomic_fetch_add(&shared->half, 1);
        atomic_fetch_add(&shared->word, 1);
        atomic_fetch_add(&shared->wide, (uint64_t)1 << 32 | 1);
    }
}

static void compare(unsigned me)
{
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t old = atomic_load(&shared->wide);
        while (!atomic_compare_exchange_weak(&shared->wide, &old, old + 3))
            ;
        byte small = atomic_load(&shared->byte);
        while (!atomic_compare_exchange_weak(&shared->byte, &small, small ^ 0x55))
            ;
        atomic_fetch_xor(&shared->word, 1u << me);
    }
}

/* Whatever is put in comes out once. */
static void exchange(unsigned me)
{
    uint64_t taken = 0, put = 0;
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t mine = (uint64_t)i * PROCESSES + me + 1;
        put += mine;
        taken += atomic_exchange(&shared->exchanged, mine);
    }
    atomic_fetch_add(&shared->sum, put);
    atomic_fetch_add(&shared->taken, taken);
}

static void lock(unsigned me)
{
    for (unsigned i = 0; i < ROUNDS / 10; i++) {
        while (atomic_exchange(&shared->lock, 1))
            usleep(0);
        shared->locked += 1;
        atomic_store(&shared->lock, 0);
    }
}

/* Two words in one step, where there is an instruction for it. */
static void twice(unsigned me)
{
    for (unsigned i = 0; i < ROUNDS; i++) {
#if defined(__aarch64__)
        uint64_t low, high;
        uint32_t failed;
        do
            __asm__ volatile("ldaxp %0, %1, [%3]\n add %0, %0, 1\n add %1, %1, 2\n stlxp %w2, %0, %1, [%3]"
                             : "=&r"(low), "=&r"(high), "=&r"(failed)
                             : "r"(shared->pair)
                             : "memory");
        while (failed);
#elif defined(__x86_64__)
        uint64_t low = shared->pair[0], high = shared->pair[1];
        unsigned char done;
        do
            __asm__ volatile("lock cmpxchg16b %1\n sete %0"
                             : "=q"(done), "+m"(*(__int128 *)shared->pair), "+a"(low), "+d"(high)
                             : "b"(low + 1), "c"(high + 2)
                             : "memory");
        while (!done);
#else
        __atomic_fetch_add(&shared->pair[0], 1, __ATOMIC_SEQ_CST);
        __atomic_fetch_add(&shared->pair[1], 2, __ATOMIC_SEQ_CST);
#endif
    }
}

/* The least and the greatest, where an instruction says so; else what it would say. */
#if defined(__aarch64__)
#define EXTREME(type, name, a64, width, riscv, better)                                                        \
    static type name(type *at, type value)                                                                    \
    {                                                                                                         \
        type old;                                                                                             \
        __asm__ volatile(".arch armv8.1-a\n" a64 " %" width "2, %" width "0, [%1]"                            \
                         : "=&r"(old)                                                                         \
                         : "r"(at), "r"(value)                                                                \
                         : "memory");                                                                         \
        return old;                                                                                           \
    }
#elif defined(__riscv)
#define EXTREME(type, name, a64, width, riscv, better)                                                        \
    static type name(type *at, type value)                                                                    \
    {                                                                                                         \
        type old;                                                                                             \
        __asm__ volatile(riscv " %0, %2, (%1)" : "=&r"(old) : "r"(at), "r"(value) : "memory");                \
        return old;                                                                                           \
    }
#else
#define EXTREME(type, name, a64, width, riscv, better)                                                        \
    static type name(type *at, type value)                                                                    \
    {                                                                                                         \
        type old = *at;                                                                                       \
        *at = value better old ? value : old;                                                                 \
        return old;                                                                                           \
    }
#endif
EXTREME(int64_t, least, "ldsminal", "x", "amomin.d", <)
EXTREME(int64_t, greatest, "ldsmaxal", "x", "amomax.d", >)
EXTREME(uint64_t, lowest, "lduminal", "x", "amominu.d", <)
EXTREME(uint64_t, highest, "ldumaxal", "x", "amomaxu.d", >)
EXTREME(int32_t, least4, "ldsminal", "w", "amomin.w", <)
EXTREME(int32_t, greatest4, "ldsmaxal", "w", "amomax.w", >)
EXTREME(uint32_t, lowest4, "lduminal", "w", "amominu.w", <)
EXTREME(uint32_t, highest4, "ldumaxal", "w", "amomaxu.w", >)
#if !defined(__riscv)
EXTREME(int8_t, least1, "ldsminalb", "w", "", <)
EXTREME(uint8_t, highest1, "ldumaxalb", "w", "", >)
EXTREME(int16_t, greatest2, "ldsmaxalh", "w", "", >)
EXTREME(uint16_t, lowest2, "lduminalh", "w", "", <)
#endif

#define TRY(type, function, better)                                                                           \
    for (unsigned i = 0; i < sizeof values / sizeof *values; i++)                                             \
        for (unsigned k = 0; k < sizeof values / sizeof *values; k++) {                                       \
            type at = (type)values[i], other = (type)values[k], was = function(&at, other);                   \
            right += was == (type)values[i] && at == (other better was ? other : was);                        \
        }

int main(void)
{
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    together(add);
    CHECK((uint8_t)shared->byte == (uint8_t)(PROCESSES * ROUNDS));
    CHECK((uint16_t)shared->half == (uint16_t)(PROCESSES * ROUNDS));
    CHECK(shared->word == PROCESSES * ROUNDS);
    CHECK(shared->wide == (uint64_t)(PROCESSES * ROUNDS) * ((uint64_t)1 << 32 | 1));
    together(compare);
    CHECK(shared->wide == (uint64_t)3 * PROCESSES * ROUNDS && shared->byte == 0 && shared->word == 0);
    together(exchange);
    CHECK(shared->taken + shared->exchanged == shared->sum);
    together(lock);
    CHECK(shared->locked == PROCESSES * (ROUNDS / 10));
    together(twice);
    CHECK(shared->pair[0] == PROCESSES * ROUNDS && shared->pair[1] == 2 * PROCESSES * ROUNDS);
    static const int64_t values[] = {0, 1, -1, INT64_MAX, INT64_MIN, 0x80, 0x8000, 0x80000000};
    int right = 0;
    TRY(int64_t, least, <) TRY(int64_t, greatest, >) TRY(uint64_t, lowest, <) TRY(uint64_t, highest, >)
    TRY(int32_t, least4, <) TRY(int32_t, greatest4, >) TRY(uint32_t, lowest4, <) TRY(uint32_t, highest4, >)
    CHECK(right == 8 * 8 * 8);
#if !defined(__riscv)
    right = 0;
    TRY(int8_t, least1, <) TRY(uint8_t, highest1, >) TRY(int16_t, greatest2, >) TRY(uint16_t, lowest2, <)
#else
    right = 4 * 8 * 8;
#endif
    CHECK(right == 4 * 8 * 8);
    uint32_t apart[2] = {0, 0};
#if defined(__x86_64__)
    /* Allowed, and not aligned. */
    for (int i = 0; i < 300; i++)
        __asm__ volatile("lock addl $1, %0" : "+m"(*(uint32_t *)((char *)apart + 3)) : : "memory");
#else
    apart[0] = 0x2c000000, apart[1] = 1;
#endif
    CHECK(apart[0] == 0x2c000000 && apart[1] == 1);
    return 0;
}
