/*
 * Small programs in one, for comparing how fast CPUs and emulators run them.
 *
 *     bench KERNEL SIZE
 *
 * Prints a checksum that is the same everywhere; no kernel needs more than libc.
 */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t state = 88172645463325252u;

static uint64_t next(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static void *need(size_t size)
{
    void *memory = malloc(size);
    if (memory == NULL) {
        fprintf(stderr, "bench: no memory\n");
        exit(1);
    }
    return memory;
}

/* CRC-32 by table, over 64 KiB, `size` times: loads, shifts and xor. */
static uint64_t crc(unsigned size)
{
    static uint32_t table[256];
    static uint8_t data[65536];
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++)
            c = c & 1 ? 0xedb88320u ^ c >> 1 : c >> 1;
        table[i] = c;
    }
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)next();
    uint32_t c = ~0u;
    while (size--)
        for (size_t i = 0; i < sizeof data; i++)
            c = table[(c ^ data[i]) & 255] ^ c >> 8;
    return ~c;
}

/* Primes below size * 1000: stores with a stride, byte by byte. */
static uint64_t sieve(unsigned size)
{
    size_t limit = (size_t)size * 1000;
    uint8_t *composite = calloc(limit, 1);
    uint64_t sum = 0;
    if (composite == NULL)
        return 0;
    for (size_t i = 2; i < limit; i++) {
        if (composite[i])
            continue;
        sum += i;
        for (size_t j = i * i; j < limit; j += i)
            composite[j] = 1;
    }
    free(composite);
    return sum;
}

/* A product of two matrices of doubles, size by size. */
static uint64_t matrix(unsigned size)
{
    double *a = need(sizeof *a * size * size), *b = need(sizeof *b * size * size);
    double *c = need(sizeof *c * size * size);
    for (size_t i = 0; i < (size_t)size * size; i++) {
        a[i] = (double)(next() % 100);
        b[i] = (double)(next() % 100);
        c[i] = 0;
    }
    for (size_t i = 0; i < size; i++)
        for (size_t k = 0; k < size; k++)
            for (size_t j = 0; j < size; j++)
                c[i * size + j] += a[i * size + k] * b[k * size + j];
    double sum = 0;
    for (size_t i = 0; i < (size_t)size * size; i++)
        sum += c[i];
    free(a);
    free(b);
    free(c);
    return (uint64_t)sum;
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* libc's qsort of size * 1000 numbers: calls through a pointer, branches nobody predicts. */
static uint64_t sort(unsigned size)
{
    size_t count = (size_t)size * 1000;
    uint64_t *values = need(count * sizeof *values), sum = 0;
    for (size_t i = 0; i < count; i++)
        values[i] = next();
    qsort(values, count, sizeof *values, compare);
    for (size_t i = 0; i < count; i++)
        sum = sum * 31 + values[i];
    free(values);
    return sum;
}

/* Calls and returns. */
__attribute__((noinline)) static uint64_t fib(unsigned n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }

struct node {
    struct node *next;
    uint64_t value;
};

/* A list of 64 Ki nodes in random order, walked `size` times: each load waits for the one before. */
static uint64_t chase(unsigned size)
{
    enum { NODES = 1 << 16 };
    struct node *nodes = need(NODES * sizeof *nodes);
    uint32_t *order = need(NODES * sizeof *order);
    for (uint32_t i = 0; i < NODES; i++)
        order[i] = i;
    for (uint32_t i = NODES - 1; i > 0; i--) {
        uint32_t j = (uint32_t)(next() % (i + 1)), kept = order[i];
        order[i] = order[j];
        order[j] = kept;
    }
    for (uint32_t i = 0; i < NODES; i++) {
        nodes[order[i]].next = &nodes[order[(i + 1) % NODES]];
        nodes[order[i]].value = i;
    }
    uint64_t sum = 0;
    struct node *node = &nodes[order[0]];
    for (uint64_t i = 0; i < (uint64_t)size * NODES; i++) {
        sum = sum * 3 + node->value;
        node = node->next;
    }
    free(nodes);
    free(order);
    return sum;
}

/* y += a x on floats, in vectors where the compiler makes them; integers that fit, so fused or not is the same. */
static uint64_t saxpy(unsigned size)
{
    enum { COUNT = 1 << 14 };
    static float x[COUNT], y[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        x[i] = (float)(next() % 1000);
        y[i] = (float)(next() % 1000);
    }
    for (unsigned pass = 0; pass < size; pass++) {
        float a = pass % 3 == 2 ? -2 : 1;
        for (size_t i = 0; i < COUNT; i++)
            y[i] += a * x[i];
    }
    uint64_t sum = 0;
    for (size_t i = 0; i < COUNT; i++)
        sum = sum * 31 + (uint64_t)(int64_t)y[i];
    return sum;
}

/* Code of a stack machine, for two interpreters: a jump through a table for each step, operands in memory. */
enum operation { PUSH, LOAD, STORE, ADD, SUB, MUL, DIV, XOR, AND, SHIFT, LESS, JUMP_IF, END };

struct step {
    enum operation operation;
    uint32_t at; /* which constant, variable or step */
};

enum variable { COUNT, X, SUM, VARIABLES };

/* Random numbers, some of them added up. */
static uint64_t integers(unsigned size)
{
    static const uint64_t constant[] = {1, 69069, 12345, 16, 256};
    static const struct step code[] = {
        {LOAD, X}, {PUSH, 1}, {MUL, 0}, {PUSH, 2}, {ADD, 0}, {STORE, X},          /* x = x * 69069 + 12345 */
        {LOAD, X}, {PUSH, 3}, {SHIFT, 0}, {LOAD, SUM}, {ADD, 0}, {STORE, SUM},    /* sum += x >> 16 */
        {LOAD, X}, {PUSH, 4}, {AND, 0}, {JUMP_IF, 20},                            /* if (!(x & 256)) */
        {LOAD, SUM}, {LOAD, X}, {XOR, 0}, {STORE, SUM},                           /*     sum ^= x */
        {LOAD, COUNT}, {PUSH, 0}, {SUB, 0}, {STORE, COUNT}, {LOAD, COUNT}, {JUMP_IF, 0}, {END, 0},
    };
    uint64_t stack[8], *top = stack, variable[VARIABLES] = {[COUNT] = (uint64_t)size * 1000};
    for (const struct step *step = code;; step++) {
        switch (step->operation) {
        case PUSH: *top++ = constant[step->at]; break;
        case LOAD: *top++ = variable[step->at]; break;
        case STORE: variable[step->at] = *--top; break;
        case ADD: top--; top[-1] += *top; break;
        case SUB: top--; top[-1] -= *top; break;
        case MUL: top--; top[-1] *= *top; break;
        case DIV: top--; top[-1] /= *top; break;
        case XOR: top--; top[-1] ^= *top; break;
        case AND: top--; top[-1] &= *top; break;
        case SHIFT: top--; top[-1] >>= *top; break;
        case LESS: top--; top[-1] = top[-1] < *top; break;
        case JUMP_IF:
            if (*--top)
                step = &code[step->at] - 1;
            break;
        case END: return variable[SUM];
        }
    }
}

/* The logistic map. */
static uint64_t floats(unsigned size)
{
    static const double constant[] = {1, 3.75, 0.5};
    static const struct step code[] = {
        {LOAD, X}, {PUSH, 0}, {LOAD, X}, {SUB, 0}, {MUL, 0}, {PUSH, 1}, {MUL, 0}, {STORE, X}, /* x = x (1 - x) 3.75 */
        {LOAD, X}, {PUSH, 2}, {LESS, 0}, {JUMP_IF, 18},                                       /* if (!(x < 0.5)) */
        {LOAD, SUM}, {LOAD, X}, {PUSH, 1}, {DIV, 0}, {ADD, 0}, {STORE, SUM},                  /*     sum += x / 3.75 */
        {LOAD, COUNT}, {PUSH, 0}, {SUB, 0}, {STORE, COUNT}, {LOAD, COUNT}, {JUMP_IF, 0}, {END, 0},
    };
    double stack[8], *top = stack, variable[VARIABLES] = {[COUNT] = size * 1000.0, [X] = 0.25};
    for (const struct step *step = code;; step++) {
        switch (step->operation) {
        case PUSH: *top++ = constant[step->at]; break;
        case LOAD: *top++ = variable[step->at]; break;
        case STORE: variable[step->at] = *--top; break;
        case ADD: top--; top[-1] += *top; break;
        case SUB: top--; top[-1] -= *top; break;
        case MUL: top--; top[-1] *= *top; break;
        case DIV: top--; top[-1] /= *top; break;
        case LESS: top--; top[-1] = top[-1] < *top; break;
        case JUMP_IF:
            if (*--top != 0)
                step = &code[step->at] - 1;
            break;
        default: {
            uint64_t bits;
            memcpy(&bits, &variable[SUM], sizeof bits);
            return bits;
        }
        }
    }
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        uint64_t (*run)(unsigned size);
    } kernels[] = {{"crc", crc}, {"sieve", sieve}, {"matrix", matrix}, {"qsort", sort},         {"fib", fib},
                 {"list", chase}, {"saxpy", saxpy}, {"integers", integers}, {"floats", floats}};
    long size = argc == 3 ? strtol(argv[2], NULL, 10) : 0;
    for (size_t i = 0; i < sizeof kernels / sizeof *kernels && size > 0 && size <= 100000; i++) {
        if (strcmp(argv[1], kernels[i].name) == 0) {
            printf("%s %016" PRIx64 "\n", argv[1], kernels[i].run((unsigned)size));
            return 0;
        }
    }
    fprintf(stderr, "usage: bench crc|sieve|matrix|qsort|fib|list|saxpy|integers|floats SIZE (1-100000)\n");
    return 2;
}
