/*
 * A guest that executes A64 words with random registers and prints what has become of them: run by two
 * emulators, which then have to print the same.
 *
 *     a64_words SEED STATES [-v] <WORDS
 *
 * WORDS are hexadecimal, one a line.  For each a line is printed with a digest over STATES states; -v prints the
 * registers too.  x28 leads to memory; a word leaves sp as it is.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

struct state {
    uint64_t x[31];
    uint64_t nzcv, fpcr, fpsr;
    uint64_t code, back, sp, pad;
    uint64_t v[32][2];
};

enum { DATA = 512 };

/* At addresses of their own, so that no result depends on where a loader puts things. */
static struct state *const state = (struct state *)0x30000000;
static uint8_t *const data = (uint8_t *)0x30010000;
static uint32_t *const code = (uint32_t *)0x30020000;
static sigjmp_buf home;
static uint64_t rng;

static uint64_t next(void)
{
    rng ^= rng >> 12;
    rng ^= rng << 25;
    rng ^= rng >> 27;
    return rng * UINT64_C(0x2545F4914F6CDD1D);
}

/* From state to code, which comes to `back` with x30 stored; sp is the state all the while. */
void run(struct state *at);
#define TO_29 "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29"
#define ALL(names, instruction) ".irp n, " names "\n" instruction "\n .endr\n"
__asm__(".text\n.global run\nrun:\n"
        "stp x29, x30, [sp, -160]!\n stp x19, x20, [sp, 16]\n stp x21, x22, [sp, 32]\n stp x23, x24, [sp, 48]\n"
        "stp x25, x26, [sp, 64]\n stp x27, x28, [sp, 80]\n stp d8, d9, [sp, 96]\n stp d10, d11, [sp, 112]\n"
        "stp d12, d13, [sp, 128]\n stp d14, d15, [sp, 144]\n"
        "mov x1, sp\n str x1, [x0, 288]\n adr x1, 1f\n str x1, [x0, 280]\n mov sp, x0\n"
        "ldr x1, [sp, 248]\n msr nzcv, x1\n ldr x1, [sp, 256]\n msr fpcr, x1\n ldr x1, [sp, 264]\n msr fpsr, x1\n"
        "add x1, sp, 304\n" ALL(TO_29 ", 30, 31", "ldr q\\n, [x1], 16") ALL(TO_29, "ldr x\\n, [sp, 8 * \\n]")
        "ldr x30, [sp, 272]\n br x30\n"
        "1:\n" ALL(TO_29, "str x\\n, [sp, 8 * \\n]")
        "mrs x1, nzcv\n str x1, [sp, 248]\n mrs x1, fpcr\n str x1, [sp, 256]\n mrs x1, fpsr\n str x1, [sp, 264]\n"
        "add x1, sp, 304\n" ALL(TO_29 ", 30, 31", "str q\\n, [x1], 16")
        "ldr x1, [sp, 288]\n mov sp, x1\n msr fpcr, xzr\n"
        "ldp x19, x20, [sp, 16]\n ldp x21, x22, [sp, 32]\n ldp x23, x24, [sp, 48]\n ldp x25, x26, [sp, 64]\n"
        "ldp x27, x28, [sp, 80]\n ldp d8, d9, [sp, 96]\n ldp d10, d11, [sp, 112]\n ldp d12, d13, [sp, 128]\n"
        "ldp d14, d15, [sp, 144]\n ldp x29, x30, [sp], 160\n ret\n");

static void on_signal(int sig, siginfo_t *info, void *context)
{
    siglongjmp(home, sig);
}

static uint64_t number(void)
{
    static const uint64_t odd[] = {0, 1, 2, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff,
                                   0x7fffffffffffffff, 0x8000000000000000, 0xffffffffffffffff, 0xffffffff80000000};
    uint64_t r = next();
    return r & 1 ? next() : odd[r >> 8 & 15];
}

/* Lanes of one kind: half, single, double, or numbers. */
static uint64_t lanes(unsigned kind)
{
    static const uint16_t half[] = {0, 1, 0x3ff, 0x400, 0x3c00, 0x3bff, 0x4000, 0x7bff, 0x7c00, 0x7c01, 0x7e00, 0x7eab, 0x5bf8,
                                    0x7800, 0x3800, 0x2400};
    static const uint32_t single[] = {0,          1,          0x7fffff,   0x800000,   0x3f800000, 0x3f7fffff, 0x40000000, 0x7f7fffff,
                                      0x7f800000, 0x7f800001, 0x7fc00000, 0x7fd2cafe, 0x4f000000, 0x4effffff, 0x5f000000, 0x33800000};
    static const uint64_t dbl[] = {0, 1, 0xfffffffffffff, 0x10000000000000, 0x3ff0000000000000, 0x3fefffffffffffff,
                                   0x4000000000000000, 0x7fefffffffffffff, 0x7ff0000000000000, 0x7ff0000000000001,
                                   0x7ff8000000000000, 0x7ff8000000abcdef, 0x43e0000000000000, 0x41e0000000000000,
                                   0x47efffffefffffff, 0x3810000000000000};
    uint64_t value = 0;
    switch (kind) {
    case 0:
        for (int i = 0; i < 64; i += 16) {
            uint64_t r = next();
            value |= (uint64_t)(uint16_t)((r & 3 ? half[r >> 8 & 15] : (uint16_t)(r >> 16)) ^ (r >> 40 & 1) << 15) << i;
        }
        return value;
    case 1:
        for (int i = 0; i < 64; i += 32) {
            uint64_t r = next();
            uint32_t lane = r & 3 ? single[r >> 8 & 15] : r & 4 ? 0x3f000000 + (uint32_t)(r >> 39) : (uint32_t)(r >> 32);
            value |= (uint64_t)(lane ^ (uint32_t)(r >> 16 & 1) << 31) << i;
        }
        return value;
    case 2: {
        uint64_t r = next();
        value = r & 3 ? dbl[r >> 8 & 15] : r & 4 ? 0x3fe0000000000000 + (next() >> 10) : next();
        return value ^ (r >> 16 & 1) << 63;
    }
    default:
        return number();
    }
}

static void fill(void)
{
    for (int i = 0; i < 31; i++)
        state->x[i] = number();
    state->x[28] = (uint64_t)(data + DATA / 2);
    for (int i = 0; i < 32; i++) {
        unsigned kind = next() >> 8 & 3;
        state->v[i][0] = lanes(kind);
        state->v[i][1] = lanes(kind);
    }
    uint64_t r = next();
    state->nzcv = (r & 15) << 28;
    state->fpcr = r & 16 ? 0 : (r >> 8 & 15) << 22 | (r >> 12 & 7 ? 0 : (r >> 16 & 1) << 19 | (r >> 17 & 1) << 26);
    state->fpsr = 0;
    for (int i = 0; i < DATA; i += 8) {
        uint64_t value = next();
        memcpy(data + i, &value, 8);
    }
}

static uint64_t digest(uint64_t hash, const void *bytes, size_t size)
{
    const uint8_t *at = bytes;
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ at[i]) * UINT64_C(0x100000001b3);
    return hash;
}

static void show(const char *when)
{
    printf("%s nzcv %" PRIx64 " fpcr %" PRIx64 " fpsr %" PRIx64 "\n", when, state->nzcv, state->fpcr, state->fpsr);
    for (int i = 0; i < 31; i++)
        printf("%s x%d %" PRIx64 "\n", when, i, state->x[i]);
    for (int i = 0; i < 32; i++)
        printf("%s v%d %016" PRIx64 "%016" PRIx64 "\n", when, i, state->v[i][1], state->v[i][0]);
    for (int i = 0; i < DATA; i += 8)
        printf("%s m%d %016" PRIx64 "\n", when, i, *(uint64_t *)(data + i));
}

/* Executes the word on what state and data hold; a signal's number or 0. */
static int execute(void)
{
    int sig = sigsetjmp(home, 1);
    if (sig == 0)
        run(state);
    else
        __asm__ volatile("msr fpcr, xzr");
    state->code = state->back = state->sp = 0;
    state->fpsr &= 1 << 27 | 3; /* QC, DZC, IOC: of the others x86 leaves some open (accel/native/a64_fp.h) */
    return sig;
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    uint64_t seed = strtoull(argv[1], NULL, 0), states = strtoull(argv[2], NULL, 0);
    int tells = argc > 3;
    static uint8_t stack[1 << 16];
    sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof stack}, NULL);
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    int signals[] = {SIGILL, SIGSEGV, SIGBUS, SIGTRAP};
    for (int i = 0; i < 4; i++)
        sigaction(signals[i], &action, NULL);
    void *places[] = {state, data, code};
    for (int i = 0; i < 3; i++)
        if (mmap(places[i], 0x4000, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) !=
            places[i])
            return 3;
    char line[64];
    while (fgets(line, sizeof line, stdin) != NULL) {
        uint32_t word = (uint32_t)strtoul(line, NULL, 16);
        uint64_t hash = UINT64_C(0xcbf29ce484222325);
        code[0] = 0xf9407bfe; /* ldr x30, [sp, 240] */
        code[1] = word;
        code[2] = 0xf9007bfe; /* str x30, [sp, 240] */
        code[3] = 0xf9408ffe; /* ldr x30, [sp, 280] */
        code[4] = 0xd61f03c0; /* br x30 */
        __builtin___clear_cache((char *)code, (char *)(code + 5));
        rng = (seed ^ word) * UINT64_C(0x9E3779B97F4A7C15) | 1;
        for (uint64_t i = 0; i < states; i++) {
            fill();
            state->code = (uint64_t)code;
            if (tells)
                show("before");
            int sig = execute();
            hash = digest(hash, &sig, sizeof sig);
            hash = digest(hash, state, sizeof *state);
            hash = digest(hash, data, DATA);
            if (tells) {
                printf("signal %d\n", sig);
                show("after");
            }
        }
        printf("%08x %016" PRIx64 "\n", word, hash);
    }
    return 0;
}
