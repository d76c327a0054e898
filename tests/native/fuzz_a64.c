/*
 * Random A64 instructions by the translator and by Unicorn, both behind engine.h:
 * registers, flags, vectors, FPCR, FPSR, memory and the reason to stop are
 * compared.
 *
 *     fuzz_a64 [-s SEED] [-n COUNT] [-i FIRST] [-e NAME[,NAME]...] [--sequences] [--based | --confined] [--usual]
 *              [--stats]
 *     fuzz_a64 --case FILE
 *
 * A case is made from the seed and its number alone.  A failing one is made
 * smaller and printed in the form that --case reads.  Cases run in a child, so
 * that an engine may crash.  Without --based guest addresses are host addresses,
 * with --confined they are cut to the guest's own; with --usual FPCR has nothing
 * but a rounding mode.
 * EMU_HOST_WITHOUT names features of the host that the translator shall not use.
 *
 * Ends with 1 where something differed, 77 where an engine cannot be opened.
 */
#include "a64.h"
#include "a64_engine.h"
#include "check.h"
#include "uc.h"

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fuzz_a64_table.h"

#include "fuzz_a64_known.h"

enum {
    PAGE = 4096,
    SLOT = 256,               /* bytes of code for one case */
    PAD = 4,                  /* BRKs before it, for branches backwards */
    CODE = 2 << 20,
    SLOTS = CODE / SLOT,
    DATA_AT = CODE + 4 * PAGE,
    DATA_PAGES = 3,           /* to be written; then a hole, a page to read, a hole */
    REGION = DATA_AT + 8 * PAGE,
    MOST = 24,                /* words in a case */
    BATCH = 20000,
};
#define BRK_WORD UINT32_C(0xd4200000)
#define NOP_WORD UINT32_C(0xd503201f)
#define GUEST_AT UINT64_C(0x40000000)
#define GUEST_SIZE (UINT64_C(1) << 44)

/* Registers with a job in sequences: nothing but write-back changes them. */
enum { R_END = 24, R_COUNT = 25, R_SMALL = 26, R_DATA = 27, R_ODD = 28 };

struct a_case {
    int count;
    uint32_t words[MOST];
    uint64_t data; /* seed of the memory's content */
    emu_cpu_state state; /* pc is set when it runs */
};

struct outcome {
    emu_cpu_state state;
    emu_stop stop;
    uint8_t data[DATA_PAGES * PAGE];
};

static struct options {
    uint64_t seed, count, first;
    bool sequences, based, confined, usual, stats;
    bool only[A64_ENCODINGS];
    bool some;
} options = {.count = 100000};

/* What parent and child share. */
static struct shared {
    uint64_t at;
    uint64_t ran[A64_ENCODINGS], stepped[A64_ENCODINGS];
    uint64_t cases, differences;
} *shared;

static uint64_t rng;
static uint64_t below(uint64_t n) { return (next_random(&rng) >> 20) % n; }
static bool one_in(uint64_t n) { return below(n) == 0; }

/* ---- guest memory ------------------------------------------------------------------------- */

static emu_user_memory memory;
static uint8_t *writable;  /* the whole region, as we write it */
static uint64_t code_at, data_at;
static emu_engine *translator, *unicorn;
static int slot = -1;

static uint32_t rights(void *opaque, uint64_t addr)
{
    if (addr >= code_at && addr < code_at + CODE)
        return EMU_RIGHT_R | EMU_RIGHT_X;
    if (addr >= data_at && addr < data_at + DATA_PAGES * PAGE)
        return EMU_RIGHT_R | EMU_RIGHT_W;
    if (addr >= data_at + (DATA_PAGES + 1) * PAGE && addr < data_at + (DATA_PAGES + 2) * PAGE)
        return EMU_RIGHT_R;
    return 0;
}

static void must_map(void *at, size_t size, int prot, int fd, off_t offset)
{
    if (mmap(at, size, prot, MAP_SHARED | MAP_FIXED, fd, offset) == MAP_FAILED) {
        perror("fuzz_a64: mmap");
        exit(1);
    }
}

static void make_memory(void)
{
    int fd = memfd_create("guest", 0);
    if (fd < 0 || ftruncate(fd, REGION) != 0) {
        perror("fuzz_a64: memfd");
        exit(1);
    }
    uint64_t at = GUEST_AT;
    memory.size = GUEST_SIZE;
    memory.rights = rights;
    memory.confined = options.confined;
    if (options.based) {
        memory.base = mmap(NULL, GUEST_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory.base == MAP_FAILED) {
            perror("fuzz_a64: mmap");
            exit(1);
        }
    }
    writable = mmap(NULL, REGION, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    code_at = at;
    data_at = at + DATA_AT;
    must_map(memory.base + code_at, CODE, PROT_READ, fd, 0);
    must_map(memory.base + data_at, DATA_PAGES * PAGE, PROT_READ | PROT_WRITE, fd, DATA_AT);
    must_map(memory.base + data_at + (DATA_PAGES + 1) * PAGE, PAGE, PROT_READ, fd, DATA_AT + (DATA_PAGES + 1) * PAGE);
    for (size_t i = 0; i < CODE; i += 4)
        memcpy(writable + i, &(uint32_t){BRK_WORD}, 4);
    close(fd);
}

static const uint64_t odd_numbers[] = {
    0, 1, 2, 3, 7, 8, 15, 16, 31, 32, 63, 64, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0x8000, 0xffff, 0x10000,
    0x7fffffff, 0x80000000, 0xffffffff, 0x100000000, 0x7fffffffffffffff, 0x8000000000000000,
    0xffffffff80000000, 0xffffffff7fffffff, 0xffffffffffff8000, 0xffffffffffffff80, 0xfffffffffffffffe,
    0xffffffffffffffff, 0x00000001ffffffff, 0xaaaaaaaaaaaaaaaa, 0x5555555555555555, 0x0123456789abcdef,
};

static uint64_t random_number(void)
{
    uint64_t value = odd_numbers[below(sizeof odd_numbers / sizeof *odd_numbers)];
    switch (below(8)) {
    case 0:
    case 1:
    case 2:
        return value;
    case 3:
        return (UINT64_C(1) << below(64)) + below(3) - 1;
    case 4:
        return value << 32 | (uint32_t)odd_numbers[below(sizeof odd_numbers / sizeof *odd_numbers)];
    case 5:
        return next_random(&rng) & UINT32_MAX;
    default:
        return next_random(&rng);
    }
}

/* Zeros, infinities, NaNs of both kinds, denormals, the largest, ones and twos, what integers are limited by. */
static const uint16_t odd_half[] = {
    0x0000, 0x0001, 0x0002, 0x03ff, 0x0400, 0x0401, 0x3800, 0x3bff, 0x3c00, 0x3c01, 0x3e00, 0x4000, 0x7bff, 0x7c00,
    0x7c01, 0x7dff, 0x7e00, 0x7eab, 0x77ff, 0x7800, 0x5bf8, 0x5c00, 0x4200, 0x2400, 0x7a00,
};
static const uint32_t odd_single[] = {
    0x00000000, 0x00000001, 0x00000002, 0x007fffff, 0x00800000, 0x00800001, 0x3effffff, 0x3f000000, 0x3f7fffff,
    0x3f800000, 0x3f800001, 0x3fc00000, 0x40000000, 0x40200000, 0x4b000000, 0x4effffff, 0x4f000000, 0x4f7fffff,
    0x4f800000, 0x5effffff, 0x5f000000, 0x5f800000, 0x7f7fffff, 0x7f7ffffe, 0x7f800000, 0x7f800001, 0x7fbfffff,
    0x7fc00000, 0x7fd2cafe, 0x33800000, 0x38800000, 0x387fc000, 0x477fe000, 0x477ff000, 0x33000000, 0x00ffffff,
};
static const uint64_t odd_double[] = {
    0x0000000000000000, 0x0000000000000001, 0x0000000000000002, 0x000fffffffffffff, 0x0010000000000000,
    0x0010000000000001, 0x3fdfffffffffffff, 0x3fe0000000000000, 0x3fefffffffffffff, 0x3ff0000000000000,
    0x3ff0000000000001, 0x3ff8000000000000, 0x4000000000000000, 0x4004000000000000, 0x41dfffffffc00000,
    0x41e0000000000000, 0x41efffffffe00000, 0x41f0000000000000, 0x43dfffffffffffff, 0x43e0000000000000,
    0x43efffffffffffff, 0x43f0000000000000, 0x7fefffffffffffff, 0x7feffffffffffffe, 0x7ff0000000000000,
    0x7ff0000000000001, 0x7ff7ffffffffffff, 0x7ff8000000000000, 0x7ff8000000abcdef, 0x3810000000000000,
    0x380fffffffffffff, 0x36a0000000000000, 0x47efffffe0000000, 0x47efffffefffffff, 0x47effffff0000000,
    0x3690000000000000, 0x4340000000000000, 0x4330000000000001,
};

/* 64 bits of vector: lanes of one kind, or anything. */
static uint64_t random_lanes(unsigned kind)
{
    uint64_t value = 0;
    switch (kind) {
    case 0:
        for (int i = 0; i < 64; i += 16) {
            uint16_t lane = one_in(3) ? (uint16_t)next_random(&rng) : odd_half[below(sizeof odd_half / 2)];
            value |= (uint64_t)(uint16_t)(lane ^ (below(2) << 15)) << i;
        }
        return value;
    case 1:
    case 2:
        for (int i = 0; i < 64; i += 32) {
            uint32_t lane = odd_single[below(sizeof odd_single / 4)];
            if (one_in(3)) /* numbers near one another */
                lane = 0x3f000000 + (uint32_t)(next_random(&rng) >> 39);
            else if (one_in(4))
                lane = (uint32_t)next_random(&rng);
            value |= (uint64_t)(lane ^ (uint32_t)(below(2) << 31)) << i;
        }
        return value;
    case 3:
    case 4:
        value = odd_double[below(sizeof odd_double / 8)];
        if (one_in(3))
            value = 0x3fe0000000000000 + (next_random(&rng) >> 10);
        else if (one_in(4))
            value = next_random(&rng);
        return value ^ below(2) << 63;
    case 5: { /* bytes at their limits */
        static const uint8_t bytes[] = {0, 1, 0x7f, 0x80, 0xff, 0xfe, 0x40, 0x08};
        for (int i = 0; i < 64; i += 8)
            value |= (uint64_t)bytes[below(sizeof bytes)] << i;
        return value;
    }
    case 6: { /* half words and words at their limits */
        static const uint16_t halves[] = {0, 1, 0x7fff, 0x8000, 0xffff, 0xfffe, 0x4000, 0x0010};
        for (int i = 0; i < 64; i += 16)
            value |= (uint64_t)halves[below(sizeof halves / 2)] << i;
        return value;
    }
    default:
        return random_number();
    }
}

static void fill_data(uint64_t seed)
{
    uint64_t at = seed | 1;
    for (size_t i = 0; i < (DATA_PAGES + 2) * PAGE; i += 8) {
        uint64_t value = next_random(&at);
        memcpy(writable + DATA_AT + i, &value, 8);
    }
}

/* ---- making a case -------------------------------------------------------------------------- */

static bool is_memory(uint32_t word) { return (word >> 25 & 5) == 4; }

/* What is never tried: branches to other cases' code, and what is known. */
static unsigned differs(enum a64_encoding encoding, uint32_t word)
{
    unsigned what = 0;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].encoding == encoding && (known[i].when == NULL || known[i].when(word)))
            what |= known[i].what;
    return what;
}

static bool is_branch(enum a64_encoding encoding)
{
    return encoding == A64_B || encoding == A64_B_cond || encoding == A64_CBZ || encoding == A64_TBZ;
}

static int64_t distance(enum a64_encoding encoding, uint32_t word)
{
    if (encoding == A64_B)
        return (int64_t)((uint64_t)word << 38) >> 36;
    if (encoding == A64_TBZ)
        return (int64_t)((uint64_t)(word >> 5) << 50) >> 48;
    return (int64_t)((uint64_t)(word >> 5) << 45) >> 43;
}

static uint32_t pick_register(bool destination)
{
    static const uint8_t few[] = {0, 1, 5, 6, 7, 9, 19, 30, 2, 8};
    if (options.sequences) {
        if (one_in(10))
            return 31;
        return few[below(sizeof few)];
    }
    if (one_in(8))
        return 31;
    return one_in(3) ? few[below(sizeof few)] : (uint32_t)below(31);
}

static uint32_t pick(const struct field *field, uint32_t before)
{
    uint32_t ones = field->width == 32 ? UINT32_MAX : (1u << field->width) - 1;
    switch (field->kind) {
    case K_RD:
    case K_RN:
    case K_RM:
    case K_RA:
    case K_RT:
    case K_RT2:
    case K_RS:
        if (field->width < 5)
            return (uint32_t)below(ones + 1);
        return one_in(5) && before != UINT32_MAX ? before : pick_register(field->kind != K_RN && field->kind != K_RM);
    default:
        if (field->width <= 4)
            return (uint32_t)below(ones + 1);
        switch (below(10)) {
        case 0:
            return 0;
        case 1:
            return 1;
        case 2:
            return ones;
        case 3:
            return ones / 2 + 1;
        case 4:
            return ones / 2;
        default:
            return (uint32_t)next_random(&rng) & ones;
        }
    }
}

/* System registers and instructions that exist. */
static const uint32_t system_words[] = {
    0xd51b4200, 0xd53b4200, /* NZCV */
    0xd51b4400, 0xd53b4400, /* FPCR */
    0xd51b4420, 0xd53b4420, /* FPSR */
    0xd51bd040, 0xd53bd040, /* TPIDR_EL0 */
    0xd50b7420,             /* DC ZVA */
    0xd50b7520,             /* IC IVAU */
    0xd50b7b20, 0xd50b7a20, /* DC CVAU, CVAC */
    0xd50b7e20,             /* DC CIVAC */
};

/* A word of the encoding; 0: none was found. */
static uint32_t make_word(enum a64_encoding encoding)
{
    const struct table *e = &table[encoding];
    for (int tries = 0; tries < 400; tries++) {
        uint32_t word = e->value | e->should, before = UINT32_MAX;
        for (const struct field *field = e->field; field->name != NULL; field++) {
            uint32_t value = pick(field, before);
            if (field->kind <= K_RS && field->width == 5)
                before = value;
            word |= value << field->shift;
        }
        if ((encoding == A64_MRS || encoding == A64_MSR || encoding == A64_SYS) && !one_in(3)) {
            do
                word = system_words[below(sizeof system_words / 4)] | (uint32_t)below(32);
            while (a64_decode(word) != encoding);
        }
        /* What comes after would depend on what is not compared. */
        bool fpsr = encoding == A64_MRS && (word & ~UINT32_C(31)) == 0xd53b4420;
        if (options.sequences && (fpsr || (!options.usual && differs(encoding, word) & IGNORE_FLUSHED)))
            continue;
        if (a64_decode(word) == encoding && !unpredictable(encoding, word) && !(differs(encoding, word) & SKIP))
            return word;
    }
    return 0;
}

static unsigned field_of(enum a64_encoding encoding, enum kind kind, uint32_t word, unsigned otherwise)
{
    for (const struct field *field = table[encoding].field; field->name != NULL; field++)
        if (field->kind == kind)
            return bits(word, field->shift, field->width);
    return otherwise;
}

static uint64_t random_pointer(void)
{
    uint64_t at = data_at + 64 + below(DATA_PAGES * PAGE - 128);
    if (one_in(6)) /* near a page's edge */
        at = data_at + PAGE * below(DATA_PAGES + 3) + below(32) - 16;
    return one_in(3) ? at : at & ~UINT64_C(15);
}

static void random_state(emu_cpu_state *state)
{
    for (int i = 0; i < 32; i++)
        state->r[i] = one_in(8) ? random_pointer() : random_number();
    for (int i = 0; i < 32; i++) {
        unsigned kind = (unsigned)below(8);
        state->v[i][0] = random_lanes(kind);
        state->v[i][1] = random_lanes(kind);
    }
    state->flags = below(16) << 28;
    state->tls[0] = random_number();
    state->fpcr = 0;
    if (!one_in(3))
        state->fpcr = below(16) << 22; /* RMode, FZ, DN */
    if (one_in(8))
        state->fpcr |= 1 << 19; /* FZ16 */
    if (one_in(8))
        state->fpcr |= 1 << 26; /* AHP */
    if (options.usual)
        state->fpcr &= 3 << 22;
    state->fpsr = one_in(2) ? 0 : next_random(&rng) & 0xf800009f;
}

static bool chosen(enum a64_encoding encoding)
{
    return options.some ? options.only[encoding] : a64_implemented(encoding);
}

static enum a64_encoding choose(void)
{
    static enum a64_encoding all[A64_ENCODINGS];
    static unsigned count;
    if (count == 0)
        for (int e = 1; e < A64_ENCODINGS; e++)
            if (chosen((enum a64_encoding)e))
                all[count++] = (enum a64_encoding)e;
    return count == 0 ? A64_NONE : all[below(count)];
}

/* The base register leads to data, mostly with the offset taken off. */
static void aim(struct a_case *c, enum a64_encoding encoding, uint32_t word)
{
    unsigned rn = field_of(encoding, K_RN, word, 32), rm = field_of(encoding, K_RM, word, 32);
    if (encoding == A64_SYS)
        rn = bits(word, 0, 5);
    if (rn > 31)
        return;
    uint64_t at = random_pointer();
    if (encoding == A64_LDST_uimm || encoding == A64_LDST_v_uimm) {
        unsigned scale = word >> 30 | (encoding == A64_LDST_v_uimm ? (word >> 23 & 1) << 2 : 0);
        if (!one_in(4))
            at -= (uint64_t)field_of(encoding, K_IMM12, word, 0) << scale;
    }
    if (rm < 31 && rm != rn && (encoding == A64_LDST_reg || encoding == A64_LDST_v_reg)) {
        uint64_t index = one_in(2) ? below(64) : -below(64);
        c->state.r[rm] = bits(word, 14, 1) ? index : (uint32_t)index | next_random(&rng) << 32;
        if (!bits(word, 15, 1))
            c->state.r[rm] &= ~(UINT64_C(1) << 31);
    }
    /* Unicorn sees to the alignment of a store exclusive only behind the load. */
    bool exclusive = (encoding == A64_EXCL || encoding == A64_EXCLP) && !(word >> 22 & 1);
    if (exclusive || (field_of(encoding, K_RS, word, 32) < 32 && !one_in(8)))
        at &= ~UINT64_C(15);
    if ((encoding == A64_LDAR || encoding == A64_LDAPR || encoding == A64_LDAPUR) && !one_in(8))
        at = (at & ~UINT64_C(15)) - (encoding == A64_LDAPUR ? bits(word, 12, 9) : 0);
    if (exclusive || !one_in(32))
        c->state.r[rn] = at;
}

static void make_single(struct a_case *c)
{
    for (;;) {
        enum a64_encoding encoding = choose();
        uint32_t word = make_word(encoding);
        if (word == 0)
            continue;
        int64_t far = is_branch(encoding) ? distance(encoding, word) : 0;
        if (is_branch(encoding) && one_in(2)) { /* into the slot */
            far = 4 * ((int64_t)below(8) - PAD);
            if (far == 0)
                far = 4;
            uint32_t value = (uint32_t)(far / 4);
            if (encoding == A64_B)
                word = (word & ~UINT32_C(0x3ffffff)) | (value & 0x3ffffff);
            else if (encoding == A64_TBZ)
                word = (word & ~UINT32_C(0x7ffe0)) | (value & 0x3fff) << 5;
            else
                word = (word & ~UINT32_C(0xffffe0)) | (value & 0x7ffff) << 5;
        }
        /* Anywhere else in the code there are other cases. */
        if (is_branch(encoding) && far < CODE && far > -CODE && (far < -4 * PAD || far > SLOT - 8 * PAD || far == 0))
            continue;
        c->words[c->count++] = word;
        if (is_memory(word) || encoding == A64_SYS)
            aim(c, encoding, word);
        if (encoding == A64_BR) /* Unicorn does not look at the pc's alignment */
            c->state.r[word >> 5 & 31] &= ~UINT64_C(3);
        if ((encoding == A64_EXCL || encoding == A64_EXCLP) && !(word >> 22 & 1)) {
            /* A store exclusive: behind the load that makes it succeed, or behind nothing. */
            uint32_t load = (word | 1u << 22 | 0x1fu << 16) & ~UINT32_C(0x1f);
            bool pair = encoding == A64_EXCLP;
            unsigned rt = bits(word, 5, 5) == 2 || bits(word, 5, 5) == 3 ? 12 : 2;
            if (pair)
                load = (load & ~(UINT32_C(0x1f) << 10)) | (rt + 1) << 10;
            load |= rt;
            c->words[0] = one_in(3) ? 0xd5033f5f : load;
            c->words[c->count++] = word;
        }
        return;
    }
}

/* Branch forward by this many words. */
static uint32_t forward(enum a64_encoding encoding, uint32_t word, uint32_t by)
{
    if (encoding == A64_B)
        return (word & 0xfc000000) | by;
    if (encoding == A64_TBZ)
        return (word & ~UINT32_C(0x7ffe0)) | by << 5;
    return (word & ~UINT32_C(0xffffe0)) | by << 5;
}

static bool touches_job(enum a64_encoding encoding, uint32_t word)
{
    /* Registers with a job, as anything but a base or an index. */
    for (const struct field *field = table[encoding].field; field->name != NULL; field++)
        if (field->kind <= K_RS && field->width == 5 && field->kind != K_RN && field->kind != K_RM) {
            unsigned reg = bits(word, field->shift, 5);
            if (reg >= R_END && reg <= R_ODD)
                return true;
        }
    return false;
}

/* What the translator does together: returns the words. */
static int idiom(uint32_t *words)
{
    uint32_t a = pick_register(true), b = pick_register(true), d = pick_register(true), w = (uint32_t)below(2) << 31;
    uint32_t number = (uint32_t)below(65536) << 5, where = (uint32_t)below(w ? 4 : 2) << 21;
    switch (below(4)) {
    case 0: /* aese, aesmc; aesd, aesimc */
        words[0] = 0x4e284800 | (w >> 31) << 12 | a << 5 | d;
        words[1] = 0x4e286800 | (w >> 31) << 12 | d << 5 | (one_in(3) ? b : d);
        return 2;
    case 1: /* mov, sha256h, sha256h2 */
        words[0] = 0x4ea01c00 | d << 16 | d << 5 | b;
        words[1] = 0x5e004000 | 8 << 16 | a << 5 | d;
        words[2] = 0x5e005000 | 8 << 16 | b << 5 | a;
        return 3;
    case 2: /* movz, movk */
        words[0] = (one_in(2) ? 0x52800000 : 0x12800000) | w | number | d;
        words[1] = 0x72800000 | w | where | (number ^ 0x1234 << 5) | d;
        return 2;
    default: /* cmp, b.cond over one; what is between loses the flags */
        words[0] = 0x6b00001f | w | a << 16 | b << 5;
        words[1] = 0x4a000000 | w | a << 16 | d << 5 | b;
        words[2] = 0x54000040 | (uint32_t)below(16);
        words[3] = 0x1a800000 | w | a << 16 | (uint32_t)below(16) << 12 | b << 5 | d;
        return 4;
    }
}

static void make_sequence(struct a_case *c)
{
    int count = 2 + (int)below(19);
    bool loop = one_in(6);
    c->state.r[R_COUNT] = 1 + below(3);
    c->state.r[R_SMALL] = below(64);
    c->state.r[R_DATA] = data_at + PAGE + below(64) * 16;
    c->state.r[R_ODD] = random_pointer();
    c->state.r[31] = data_at + 2 * PAGE - 16 * below(32);
    while (c->count < count) {
        if (one_in(12) && c->count + 4 <= count) {
            uint32_t words[4];
            int n = idiom(words);
            bool all = true;
            for (int i = 0; i < n; i++)
                all = all && chosen(a64_decode(words[i]));
            if (all) {
                memcpy(c->words + c->count, words, (size_t)n * sizeof *words);
                c->count += n;
                continue;
            }
        }
        enum a64_encoding encoding = choose();
        if (!options.some && one_in(3)) {
            static const enum a64_encoding often[] = {
                A64_ADDSUB_imm, A64_ADDSUB_shift, A64_LOGIC_imm, A64_ADC, A64_CCMP, A64_CSEL, A64_B_cond, A64_LDST_uimm,
            };
            encoding = often[below(sizeof often / sizeof *often)];
        }
        switch (encoding) { /* what ends a sequence early, or leads anywhere */
        case A64_SVC:
        case A64_BRK:
        case A64_HLT:
        case A64_HVC:
        case A64_SMC:
            if (!one_in(50))
                continue;
            break;
        case A64_EXCL:
        case A64_EXCLP:
        case A64_ERET:
            continue;
        case A64_MRS:
        case A64_MSR:
        case A64_SYS:
        case A64_LDR_lit:
        case A64_LDR_lit_v:
            if (!one_in(4))
                continue;
            break;
        default:
            break;
        }
        uint32_t word = make_word(encoding);
        if (word == 0)
            continue;
        int left = count - c->count;
        if (is_branch(encoding)) {
            word = forward(encoding, word, 1 + (uint32_t)below((uint64_t)left));
            if (encoding == A64_B && one_in(2))
                word |= 1u << 31;
        } else if (encoding == A64_BR) {
            word = (word & ~(UINT32_C(31) << 5)) | R_END << 5;
        } else if (is_memory(word) && encoding != A64_LDR_lit && encoding != A64_LDR_lit_v) {
            static const uint8_t bases[] = {R_DATA, R_ODD, 31, R_DATA, 31};
            if (!one_in(40))
                word = (word & ~(UINT32_C(31) << 5)) | (uint32_t)bases[below(sizeof bases)] << 5;
            if (encoding == A64_LDST_reg || encoding == A64_LDST_v_reg)
                word = (word & ~(UINT32_C(31) << 16)) | R_SMALL << 16;
            if (encoding == A64_LDST_uimm || encoding == A64_LDST_v_uimm)
                word &= ~(UINT32_C(0xfc0) << 10);
            if (encoding == A64_LDAPUR && !one_in(4))
                word &= ~(UINT32_C(15) << 12);
        } else if (encoding == A64_SYS) {
            word = (word & ~UINT32_C(31)) | R_DATA;
        }
        if (touches_job(encoding, word) && encoding != A64_SYS)
            continue;
        if (a64_decode(word) != encoding || unpredictable(encoding, word) || (differs(encoding, word) & SKIP))
            continue;
        c->words[c->count++] = word;
    }
    if (loop) {
        c->words[c->count++] = 0xd1000400 | R_COUNT << 5 | R_COUNT;                      /* sub x, x, 1 */
        c->words[c->count] = 0xb5000000 | (uint32_t)(-c->count & 0x7ffff) << 5 | R_COUNT; /* cbnz x, start */
        c->count++;
    }
}

static void make_case(struct a_case *c, uint64_t number)
{
    rng = (options.seed + number) * UINT64_C(0x9E3779B97F4A7C15) | 1;
    for (int i = 0; i < 4; i++)
        next_random(&rng);
    memset(c, 0, sizeof *c);
    c->data = next_random(&rng);
    random_state(&c->state);
    if (options.sequences)
        make_sequence(c);
    else
        make_single(c);
}

/* ---- running it --------------------------------------------------------------------------------- */

static void on_fault(int sig, siginfo_t *info, void *context)
{
    if (translator == NULL || !emu_a64_user()->host_fault(translator, sig, info, context))
        signal(sig, SIG_DFL);
}

static void open_engines(void)
{
    char text[256] = "";
    static uint8_t stack[1 << 16];
    sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof stack}, NULL);
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    emu_uc_library_later(LIBUNICORN);
    unicorn = emu_uc_user()->open(EMU_ISA_AARCH64, &memory, text, sizeof text);
    translator = unicorn == NULL ? NULL : emu_a64_user()->open(EMU_ISA_AARCH64, &memory, text, sizeof text);
    if (translator == NULL) {
        printf("%s\n", text);
        exit(77);
    }
}

/* A pointer with a tag in its top byte, which the translator takes off and Unicorn does not; true: there was one. */
static bool was_tagged(const emu_stop *stop)
{
    if (stop->kind != EMU_STOP_FAULT || stop->addr >> 56 == 0 || stop->addr << 8 >> 8 >= memory.size)
        return false;
    /* From now on it would look for tags everywhere. */
    char text[256] = "";
    emu_a64_user()->close(translator);
    translator = emu_a64_user()->open(EMU_ISA_AARCH64, &memory, text, sizeof text);
    return true;
}

/* Code that has been run stays as it is until all of it is new. */
static uint64_t next_slot(void)
{
    if (++slot == SLOTS) {
        const emu_engine_ops *ops[] = {emu_a64_user(), emu_uc_user()};
        emu_engine *engines[] = {translator, unicorn};
        for (int i = 0; i < 2; i++)
            ops[i]->before_change(engines[i], code_at, CODE);
        for (size_t i = 0; i < CODE; i += 4)
            memcpy(writable + i, &(uint32_t){BRK_WORD}, 4);
        for (int i = 0; i < 2; i++)
            ops[i]->after_change(engines[i], code_at, CODE);
        slot = 0;
    }
    return code_at + (uint64_t)slot * SLOT + 4 * PAD;
}

static void run_on(const emu_engine_ops *ops, emu_engine *engine, const struct a_case *c, struct outcome *out)
{
    fill_data(c->data);
    memset(&out->stop, 0, sizeof out->stop);
    ops->load(engine, &c->state);
    ops->run(engine, &out->stop);
    ops->save(engine, &out->state);
    memcpy(out->data, writable + DATA_AT, sizeof out->data);
}

/* What a condition says of NZCV (Arm ARM, ConditionHolds). */
static bool holds(unsigned condition, uint64_t flags)
{
    bool n = flags >> 31 & 1, z = flags >> 30 & 1, c = flags >> 29 & 1, v = flags >> 28 & 1;
    bool results[] = {z, c, n, v, c && !z, n == v, n == v && !z, true};
    return results[condition >> 1] != (condition < 14 && condition & 1);
}

/*
 * Whether it makes a difference.  Where a case stops early, only what is asked of the flags before they are set
 * again has to be the same: nobody has kept the rest.
 */
static bool flags_differ(const struct a_case *c, const emu_stop *stop, uint64_t ours, uint64_t theirs)
{
    if (stop->kind == EMU_STOP_BREAK || stop->kind == EMU_STOP_SYSCALL)
        return ours != theirs;
    for (uint64_t at = stop->pc - c->state.pc; at < 4 * (uint64_t)c->count; at += 4) {
        uint32_t word = c->words[at / 4];
        enum a64_encoding encoding = a64_decode(word);
        unsigned effect = a64_flags_of(encoding, word);
        bool condition = encoding == A64_B_cond || encoding == A64_CSEL || encoding == A64_CCMP ||
                         encoding == A64_FCSEL || encoding == A64_FCCMP;
        unsigned which = encoding == A64_B_cond ? bits(word, 0, 4) : bits(word, 12, 4);
        if (effect & A64_USES && (condition ? holds(which, ours) != holds(which, theirs) : ours != theirs))
            return true;
        if (effect & A64_SETS || is_branch(encoding))
            return false;
    }
    return false;
}

static bool run_case(struct a_case *c, struct outcome *ours, struct outcome *theirs)
{
    uint64_t pc = next_slot();
    for (int i = 0; i < c->count; i++)
        memcpy(writable + (pc - code_at) + 4 * (size_t)i, &c->words[i], 4);
    bool single = !options.sequences && c->count == 1;
    c->state.pc = pc;
    c->state.r[R_END] = options.sequences ? pc + 4 * (uint64_t)c->count : c->state.r[R_END];
    if (single && a64_decode(c->words[0]) == A64_BR && c->data & 4)
        c->state.r[c->words[0] >> 5 & 31] = pc + 4 + 4 * (c->data & 3);
    run_on(emu_a64_user(), translator, c, ours);
    run_on(emu_uc_user(), unicorn, c, theirs);
    unsigned ignore = 0;
    for (int i = 0; i < c->count; i++)
        ignore |= differs(a64_decode(c->words[i]), c->words[i]);
    const emu_cpu_state *a = &ours->state, *b = &theirs->state;
    const emu_stop *s = &ours->stop, *u = &theirs->stop;
    /* Behind the guest's memory there is the host's, which nothing but Unicorn protects. */
    if (options.based && u->kind == EMU_STOP_FAULT && u->addr >= memory.size)
        return true;
    if (was_tagged(u))
        return true;
    if (s->kind == EMU_STOP_ALIGN && s->addr % 8 != 0 && s->pc - pc < 4 * (uint64_t)c->count) {
        uint32_t word = c->words[(s->pc - pc) / 4];
        if (differs(a64_decode(word), word) & IGNORE_ALIGNMENT)
            return true;
    }
    bool same = s->kind == u->kind && s->pc == u->pc && memcmp(a->r, b->r, sizeof a->r) == 0 && a->pc == b->pc &&
                a->tls[0] == b->tls[0] && a->fpcr == b->fpcr;
    bool flushed = ignore & IGNORE_FLUSHED && c->state.fpcr >> 24 & 1;
    same = same && (flushed || !flags_differ(c, s, a->flags, b->flags));
    same = same && (ignore & IGNORE_FPSR || fpsr_same(ignore, c->state.fpcr | a->fpcr, a->fpsr, b->fpsr));
    same = same && ((ignore & IGNORE_HALF_LOADED && s->kind == EMU_STOP_FAULT) || memcmp(a->v, b->v, sizeof a->v) == 0);
    if (s->kind == EMU_STOP_FAULT && same) {
        /* Of an access across two pages either may be told; of an address beyond all pages nothing exact is known. */
        if (u->addr < memory.size)
            same = (s->access == u->access || ignore & IGNORE_ACCESS) && (s->addr / PAGE == u->addr / PAGE || s->addr / PAGE == u->addr / PAGE + 1 ||
                            s->addr / PAGE + 1 == u->addr / PAGE);
    }
    /* What a store had written before it failed is nobody's business. */
    if (!(s->kind == EMU_STOP_FAULT && s->access == EMU_RIGHT_W))
        same = same && memcmp(ours->data, theirs->data, sizeof ours->data) == 0;
    return same;
}

/* ---- telling it ----------------------------------------------------------------------------------- */

static void print_word(uint32_t word)
{
    enum a64_encoding encoding = a64_decode(word);
    printf("word %08x  # %s", word, a64_name(encoding));
    for (const struct field *field = table[encoding].field; field->name != NULL; field++)
        printf(" %s=%u", field->name, bits(word, field->shift, field->width));
    printf("%s\n", unpredictable(encoding, word) ? " (unpredictable)" : "");
}

static void print_case(const struct a_case *c)
{
    printf("mode %s%s\n", options.sequences ? "sequences" : "single", options.confined ? " confined" : options.based ? " based" : "");
    for (int i = 0; i < c->count; i++)
        print_word(c->words[i]);
    printf("data %" PRIx64 "\n", c->data);
    for (int i = 0; i < 32; i++)
        if (c->state.r[i] != 0)
            printf("x%d %" PRIx64 "\n", i, c->state.r[i]);
    for (int i = 0; i < 32; i++)
        if (c->state.v[i][0] != 0 || c->state.v[i][1] != 0)
            printf("v%d %" PRIx64 " %" PRIx64 "\n", i, c->state.v[i][0], c->state.v[i][1]);
    printf("flags %" PRIx64 "\ntls %" PRIx64 "\nfpcr %" PRIx64 "\nfpsr %" PRIx64 "\n", c->state.flags, c->state.tls[0],
           c->state.fpcr, c->state.fpsr);
}

static void print_stop(const char *who, const struct outcome *o)
{
    static const char *const kinds[] = {"-", "syscall", "fault", "illegal", "break", "arith", "align", "kick", "error"};
    printf("#   %-10s %s pc %" PRIx64 " addr %" PRIx64 " access %u %s\n", who,
           kinds[o->stop.kind <= EMU_STOP_ERROR ? o->stop.kind : 0], o->stop.pc, o->stop.addr, o->stop.access,
           o->stop.text);
}

static void differ(const char *what, int n, uint64_t ours, uint64_t theirs)
{
    if (ours == theirs)
        return;
    char name[16];
    snprintf(name, sizeof name, n < 0 ? "%s" : "%s%d", what, n);
    printf("#   %-6s %016" PRIx64 " translator\n#          %016" PRIx64 " unicorn\n", name, ours, theirs);
}

static void print_difference(const struct outcome *ours, const struct outcome *theirs)
{
    print_stop("translator", ours);
    print_stop("unicorn", theirs);
    const emu_cpu_state *a = &ours->state, *b = &theirs->state;
    for (int i = 0; i < 32; i++)
        differ("x", i, a->r[i], b->r[i]);
    for (int i = 0; i < 32; i++) {
        if (a->v[i][0] != b->v[i][0] || a->v[i][1] != b->v[i][1])
            printf("#   v%-5d %016" PRIx64 ":%016" PRIx64 " translator\n#          %016" PRIx64 ":%016" PRIx64
                   " unicorn\n",
                   i, a->v[i][1], a->v[i][0], b->v[i][1], b->v[i][0]);
    }
    differ("pc", -1, a->pc, b->pc);
    differ("flags", -1, a->flags, b->flags);
    differ("tls", -1, a->tls[0], b->tls[0]);
    differ("fpcr", -1, a->fpcr, b->fpcr);
    differ("fpsr", -1, a->fpsr, b->fpsr);
    for (size_t i = 0; i < sizeof ours->data; i += 8) {
        uint64_t left, right;
        memcpy(&left, ours->data + i, 8);
        memcpy(&right, theirs->data + i, 8);
        if (left != right) {
            printf("#   data at %" PRIx64 "\n", data_at + i);
            differ("data", -1, left, right);
        }
    }
}

static struct outcome ours, theirs;

static bool fails(struct a_case *c) { return !run_case(c, &ours, &theirs); }

/* Leaves out what the difference does not need. */
static void minimise(struct a_case *c)
{
    for (int i = c->count - 1; i >= 0 && options.sequences; i--) {
        struct a_case less = *c;
        less.words[i] = NOP_WORD;
        if (fails(&less))
            *c = less;
    }
    for (int i = c->count - 1; i >= 0; i--) { /* branches may count on the NOPs */
        if (c->words[i] != NOP_WORD || !options.sequences || c->count == 1)
            continue;
        struct a_case less = *c;
        memmove(less.words + i, less.words + i + 1, (size_t)(c->count - i - 1) * sizeof *less.words);
        less.count--;
        if (fails(&less))
            *c = less;
    }
    for (int i = 0; i < 32; i++) {
        struct a_case less = *c;
        less.state.r[i] = 0;
        if (fails(&less))
            *c = less;
        less = *c;
        less.state.v[i][0] = less.state.v[i][1] = 0;
        if (fails(&less))
            *c = less;
        less = *c;
        less.state.v[i][1] = 0;
        if (fails(&less))
            *c = less;
    }
    uint64_t *others[] = {&c->state.flags, &c->state.tls[0], &c->state.fpcr, &c->state.fpsr};
    for (int i = 0; i < 4; i++) {
        uint64_t old = *others[i];
        *others[i] = 0;
        if (!fails(c))
            *others[i] = old;
    }
    (void)fails(c);
}

static void command(uint64_t number)
{
    printf("# fuzz_a64 -s %" PRIu64 " -i %" PRIu64 " -n 1%s%s%s", options.seed, number,
           options.sequences ? " --sequences" : "", options.confined ? " --confined" : options.based ? " --based" : "", options.usual ? " --usual" : "");
    const char *before = " -e ";
    for (int e = 1; e < A64_ENCODINGS && options.some; e++)
        if (options.only[e]) {
            printf("%s%s", before, a64_name((enum a64_encoding)e));
            before = ",";
        }
    printf("\n");
}

enum { MOST_DIFFERENCES = 10 };

/* The child: from case `first` on, until all are done or there is nothing more to be told. */
static void run_batch(uint64_t first_case, uint64_t end)
{
    make_memory();
    open_engines();
    for (uint64_t n = first_case; n < end; n++) {
        struct a_case c;
        shared->at = n;
        /* of CPU time, against endless loops */
        setitimer(ITIMER_PROF, &(struct itimerval){.it_value.tv_sec = 10}, NULL);
        make_case(&c, n);
        uint64_t stepped = emu_a64_stepped(translator);
        bool same = run_case(&c, &ours, &theirs);
        shared->cases++;
        for (int i = 0; i < c.count; i++)
            shared->ran[a64_decode(c.words[i])]++;
        if (!options.sequences)
            shared->stepped[a64_decode(c.words[0])] += emu_a64_stepped(translator) - stepped;
        if (same)
            continue;
        command(n);
        struct outcome first[2] = {ours, theirs};
        struct a_case whole = c;
        if (fails(&c))
            minimise(&c);
        if (!fails(&c)) {
            printf("# by itself it does not happen again (-i %" PRIu64 " repeats what was before it)\n", first_case);
            c = whole;
            ours = first[0];
            theirs = first[1];
        }
        print_case(&c);
        print_difference(&ours, &theirs);
        printf("\n");
        fflush(stdout);
        if (++shared->differences >= MOST_DIFFERENCES)
            break;
    }
    shared->at = UINT64_MAX;
    emu_a64_user()->close(translator);
    emu_uc_user()->close(unicorn);
}

static int run_all(void)
{
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    printf("seed %" PRIu64 "\n", options.seed);
    fflush(stdout);
    uint64_t end = options.first + options.count;
    for (uint64_t first = options.first; first < end && shared->differences < MOST_DIFFERENCES;) {
        uint64_t last = end - first < BATCH ? end : first + BATCH;
        pid_t child = fork();
        if (child == 0) {
            run_batch(first, last);
            fflush(stdout);
            _exit(0);
        }
        int status;
        waitpid(child, &status, 0);
        if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
            return WEXITSTATUS(status);
        first = last;
        if (WIFSIGNALED(status)) {
            struct a_case c;
            code_at = GUEST_AT;
            data_at = code_at + DATA_AT;
            command(shared->at);
            make_case(&c, shared->at);
            print_case(&c);
            printf("#   %s\n\n", strsignal(WTERMSIG(status)));
            fflush(stdout);
            shared->differences++;
            first = shared->at + 1;
        }
    }
    if (options.stats)
        for (int e = 1; e < A64_ENCODINGS; e++)
            if (shared->ran[e])
                printf("%-16s %8" PRIu64 " run %8" PRIu64 " left to Unicorn\n", a64_name((enum a64_encoding)e),
                       shared->ran[e], shared->stepped[e]);
    printf("%" PRIu64 " cases, %" PRIu64 " differences\n", shared->cases, shared->differences);
    return shared->differences != 0;
}

static int run_file(const char *path)
{
    FILE *file = fopen(path, "r");
    struct a_case c = {0};
    char line[512], name[32];
    if (file == NULL) {
        perror(path);
        return 2;
    }
    while (fgets(line, sizeof line, file) != NULL) {
        uint64_t low = 0, high = 0;
        if (strncmp(line, "mode", 4) == 0) {
            options.sequences = strstr(line, "sequences") != NULL;
            options.confined = strstr(line, "confined") != NULL;
            options.based = options.confined || strstr(line, "based") != NULL;
            continue;
        }
        if (line[0] == '#' || sscanf(line, "%31s %" SCNx64 " %" SCNx64, name, &low, &high) < 2)
            continue;
        int n = atoi(name + 1);
        if (strcmp(name, "word") == 0 && c.count < MOST)
            c.words[c.count++] = (uint32_t)low;
        else if (strcmp(name, "data") == 0)
            c.data = low;
        else if (strcmp(name, "flags") == 0)
            c.state.flags = low;
        else if (strcmp(name, "tls") == 0)
            c.state.tls[0] = low;
        else if (strcmp(name, "fpcr") == 0)
            c.state.fpcr = low;
        else if (strcmp(name, "fpsr") == 0)
            c.state.fpsr = low;
        else if (name[0] == 'x')
            c.state.r[n & 31] = low;
        else if (name[0] == 'v')
            c.state.v[n & 31][0] = low, c.state.v[n & 31][1] = high;
    }
    fclose(file);
    make_memory();
    open_engines();
    bool bad = fails(&c);
    print_case(&c);
    print_difference(&ours, &theirs);
    return bad;
}

static bool choose_encodings(char *names)
{
    options.some = true;
    for (char *name = strtok(names, ","); name != NULL; name = strtok(NULL, ",")) {
        bool found = false;
        size_t length = strlen(name);
        bool prefix = length > 0 && name[length - 1] == '*';
        for (int e = 1; e < A64_ENCODINGS; e++) {
            const char *other = a64_name((enum a64_encoding)e);
            if (prefix ? strncmp(name, other, length - 1) == 0 : strcmp(name, other) == 0)
                found = options.only[e] = true;
        }
        if (!found) {
            fprintf(stderr, "fuzz_a64: isa/aarch64.decode has no encoding %s\n", name);
            return false;
        }
    }
    return true;
}

int main(int argc, char **argv)
{
    options.seed = (uint64_t)getpid() << 20 ^ (uint64_t)__builtin_ia32_rdtsc();
    options.seed &= 0xffffffff;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--sequences") == 0)
            options.sequences = true;
        else if (strcmp(argv[i], "--based") == 0)
            options.based = true;
        else if (strcmp(argv[i], "--confined") == 0)
            options.based = options.confined = true;
        else if (strcmp(argv[i], "--usual") == 0)
            options.usual = true;
        else if (strcmp(argv[i], "--stats") == 0)
            options.stats = true;
        else if (strcmp(argv[i], "-s") == 0)
            options.seed = strtoull(value, NULL, 0), i++;
        else if (strcmp(argv[i], "-n") == 0)
            options.count = strtoull(value, NULL, 0), i++;
        else if (strcmp(argv[i], "-i") == 0)
            options.first = strtoull(value, NULL, 0), i++;
        else if (strcmp(argv[i], "-e") == 0 && choose_encodings(argv[++i]))
            continue;
        else if (strcmp(argv[i], "--case") == 0)
            return run_file(value);
        else {
            fprintf(stderr, "usage: fuzz_a64 [-s SEED] [-n COUNT] [-i FIRST] [-e NAME[,NAME]...] [--sequences] "
                            "[--based | --confined] [--usual] [--stats]\n       fuzz_a64 --case FILE\n");
            return 2;
        }
    }
    if (choose() == A64_NONE) {
        fprintf(stderr, "fuzz_a64: nothing to try\n");
        return 2;
    }
    return run_all();
}
