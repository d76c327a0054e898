/*
 * Accesses on the border of a page that does not allow them.  The handler of SIGSEGV looks at the registers, allows
 * the page and has the instruction made again; or it goes on elsewhere, as runtimes do that check no pointers.
 * Prints a line for each of both, and "changed" where a register was not as it had been before the instruction.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

__asm__(".arch armv8.4-a");

enum { PAGE = 4096, NZCV = 31 };

/* Before and after: x0-x28, the flags in the place of sp, v0-v31. */
static struct registers {
    uint64_t x[32];
    __uint128_t v[32];
    uint8_t pad[256];
} at[2] __attribute__((aligned(16)));
_Static_assert(sizeof at[0] == 1024, "the code below has it in its offsets");

/* x29 keeps sp and x30 points at the registers meanwhile. */
__asm__(".macro enter\n"
        "sub sp, sp, #160\n"
        "stp x19, x20, [sp]\nstp x21, x22, [sp, #16]\nstp x23, x24, [sp, #32]\nstp x25, x26, [sp, #48]\n"
        "stp x27, x28, [sp, #64]\nstp x29, x30, [sp, #80]\n"
        "stp d8, d9, [sp, #96]\nstp d10, d11, [sp, #112]\nstp d12, d13, [sp, #128]\nstp d14, d15, [sp, #144]\n"
        "mov x29, sp\nmov x30, x0\n"
        "ldr x0, [x30, #248]\nmsr nzcv, x0\n"
        ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n"
        "ldr q\\n, [x30, #256 + 16 * \\n]\n"
        ".endr\n"
        ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28\n"
        "ldr x\\n, [x30, #8 * \\n]\n"
        ".endr\n"
        ".endm\n"
        ".globl leave\n"
        "leave:\n"
        ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28\n"
        "str x\\n, [x30, #1024 + 8 * \\n]\n"
        ".endr\n"
        "mrs x0, nzcv\nstr x0, [x30, #1024 + 248]\n"
        ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n"
        "str q\\n, [x30, #1024 + 256 + 16 * \\n]\n"
        ".endr\n"
        "mov sp, x29\n"
        "ldp x19, x20, [sp]\nldp x21, x22, [sp, #16]\nldp x23, x24, [sp, #32]\nldp x25, x26, [sp, #48]\n"
        "ldp x27, x28, [sp, #64]\nldp x29, x30, [sp, #80]\n"
        "ldp d8, d9, [sp, #96]\nldp d10, d11, [sp, #112]\nldp d12, d13, [sp, #128]\nldp d14, d15, [sp, #144]\n"
        "add sp, sp, #160\n"
        "ret\n");
extern char leave[];

/* Name, where x9 and x19 point from the border, the instructions. */
#define CASES(C)                                                                                             \
    C(load, -4, "ldr x1, [x9]")                                                                              \
    C(load_itself, -4, "ldr x9, [x9]")                                                                       \
    C(load_post, -1, "ldrh w1, [x9], #32")                                                                   \
    C(load_pre, 24, "ldr x10, [x19, #-32]!")                                                                 \
    C(load_signed, 0, "ldrsb x19, [x9], #-1")                                                                \
    C(load_index, -8, "ldr x1, [x9, x12, lsl #3]")                                                           \
    C(load_wide, -8, "ldr q3, [x9]")                                                                         \
    C(load_wide_post, -15, "ldr q12, [x19], #16")                                                            \
    C(load_half_v, -1, "ldr h5, [x9], #2")                                                                   \
    C(store, -4, "str x1, [x9]")                                                                             \
    C(store_itself, -4, "str x9, [x9]")                                                                      \
    C(store_post, -2, "str w1, [x9], #4")                                                                    \
    C(store_pre, 24, "str x10, [x19, #-32]!")                                                                \
    C(store_zero, -6, "str xzr, [x9, #4]")                                                                   \
    C(store_wide, -8, "str q3, [x9]")                                                                        \
    C(store_wide_pre, -31, "str q13, [x19, #16]!")                                                           \
    C(store_byte_v, 0, "str b2, [x9], #1")                                                                   \
    C(pair, -8, "ldp x1, x10, [x9]")                                                                         \
    C(pair_base_first, -8, "ldp x9, x10, [x9]")                                                              \
    C(pair_base_second, -8, "ldp x10, x19, [x19]")                                                           \
    C(pair_post, -8, "ldp x1, x2, [x9], #16")                                                                \
    C(pair_pre, 8, "ldp x10, x11, [x19, #-16]!")                                                             \
    C(pair_odd, -12, "ldp x0, x28, [x9], #-16")                                                              \
    C(pair_words, -4, "ldp w1, w10, [x9, #0]")                                                               \
    C(pair_signed, -4, "ldpsw x20, x10, [x19], #8")                                                          \
    C(pair_store, -8, "stp x1, x10, [x9], #16")                                                              \
    C(pair_store_pre, 8, "stp x9, x10, [x19, #-16]!")                                                        \
    C(pair_store_words, -4, "stp w0, w28, [x19], #8")                                                        \
    C(pair_store_zero, -8, "stp xzr, xzr, [x9, #-0]")                                                        \
    C(pair_v, -16, "ldp q0, q9, [x9], #32")                                                                  \
    C(pair_v_odd, -24, "ldp q10, q1, [x19, #0]")                                                             \
    C(pair_d, -8, "ldp d0, d20, [x9], #16")                                                                  \
    C(pair_s, -4, "ldp s31, s1, [x9, #0]")                                                                   \
    C(pair_store_v, -16, "stp q0, q9, [x9], #32")                                                            \
    C(pair_store_v_pre, 0, "stp q0, q9, [x19, #-16]!")                                                       \
    C(pair_store_d, -8, "stp d8, d1, [x9], #16")                                                             \
    C(pair_no_hint, -8, "ldnp x1, x10, [x9]")                                                                \
    C(stack_pair, -8, "mov sp, x9\nldp x1, x2, [sp], #16\nmov x9, sp\nmov sp, x29")                          \
    C(stack_store, 8, "mov sp, x9\nstp x1, x2, [sp, #-16]!\nmov x9, sp\nmov sp, x29")                        \
    C(ld1_one, -8, "ld1 {v3.16b}, [x9], #16")                                                                \
    C(ld1_two, -16, "ld1 {v31.4s, v0.4s}, [x9], #32")                                                        \
    C(ld1_three, -40, "ld1 {v7.16b, v8.16b, v9.16b}, [x9], #48")                                             \
    C(ld1_four, -48, "ld1 {v4.2d, v5.2d, v6.2d, v7.2d}, [x9], x12")                                          \
    C(ld1_four_half, -24, "ld1 {v14.8b, v15.8b, v16.8b, v17.8b}, [x19], #32")                                \
    C(ld2_bytes, -16, "ld2 {v0.16b, v1.16b}, [x9], #32")                                                     \
    C(ld2_half, -2, "ld2 {v10.4h, v11.4h}, [x9], #16")                                                       \
    C(ld3_bytes, -3, "ld3 {v0.16b, v1.16b, v2.16b}, [x9], #48")                                              \
    C(ld3_late, -45, "ld3 {v8.16b, v9.16b, v10.16b}, [x9], #48")                                             \
    C(ld3_words, -36, "ld3 {v20.4s, v21.4s, v22.4s}, [x9]")                                                  \
    C(ld3_half, -23, "ld3 {v20.8b, v21.8b, v22.8b}, [x9], #24")                                              \
    C(ld4_halfwords, -8, "ld4 {v2.8h, v3.8h, v4.8h, v5.8h}, [x9], #64")                                      \
    C(ld4_doubles, -56, "ld4 {v30.2d, v31.2d, v0.2d, v1.2d}, [x19], #64")                                    \
    C(ld4_half, -12, "ld4 {v12.2s, v13.2s, v14.2s, v15.2s}, [x9], x12")                                      \
    C(st1_three, -32, "st1 {v0.16b, v1.16b, v2.16b}, [x9], #48")                                             \
    C(st2_words, -8, "st2 {v8.4s, v9.4s}, [x9], #32")                                                        \
    C(st3_bytes, -30, "st3 {v1.16b, v2.16b, v3.16b}, [x9], #48")                                             \
    C(st3_half, -9, "st3 {v1.8b, v2.8b, v3.8b}, [x9], x12")                                                  \
    C(st4_halfwords, -40, "st4 {v5.8h, v6.8h, v7.8h, v8.8h}, [x19], #64")                                    \
    C(ld1_lane, -4, "ld1 {v3.d}[1], [x9], #8")                                                               \
    C(ld2_lane, -4, "ld2 {v3.s, v4.s}[2], [x9], #8")                                                         \
    C(ld3_lane, -2, "ld3 {v10.b, v11.b, v12.b}[7], [x9], #3")                                                \
    C(ld4_lane, -24, "ld4 {v6.d, v7.d, v8.d, v9.d}[0], [x9], x12")                                           \
    C(ld1_all, -1, "ld1r {v3.8h}, [x9], #2")                                                                 \
    C(ld4_all, -8, "ld4r {v6.4s, v7.4s, v8.4s, v9.4s}, [x9], #16")                                           \
    C(st1_lane, -4, "st1 {v3.d}[1], [x9], #8")                                                               \
    C(st4_lane, -6, "st4 {v3.h, v4.h, v5.h, v6.h}[5], [x19], #8")                                            \
    C(exclusive, 0, "ldxr x1, [x9]")                                                                         \
    C(exclusive_pair, 16, "ldaxp x1, x10, [x9]")                                                             \
    C(exclusive_store, 16, "ldxr w1, [x9]\nstlxr w10, w2, [x9]")                                             \
    C(exclusive_pair_store, 16, "ldxp x1, x3, [x9]\nstxp w10, x2, x11, [x9]")                                \
    C(acquire, 8, "ldar x1, [x9]")                                                                           \
    C(acquire_byte, 0, "ldaprb w9, [x9]")                                                                    \
    C(release, 8, "stlr w10, [x19]")                                                                         \
    C(compare_swap, 8, "cas x1, x2, [x9]")                                                                   \
    C(compare_swap_byte, 0, "casalb w10, w19, [x9]")                                                         \
    C(compare_swap_pair, 16, "caspal x0, x1, x2, x3, [x9]")                                                  \
    C(compare_swap_pair_high, 16, "casp x10, x11, x18, x19, [x9]")                                           \
    C(compare_swap_words, 8, "casp w20, w21, w22, w23, [x9]")                                                \
    C(add_atomic, 8, "ldaddal x1, x10, [x9]")                                                                \
    C(clear_atomic, 2, "ldclrh w1, w9, [x9]")                                                                \
    C(max_atomic, 4, "ldsmax w19, w3, [x9]")                                                                 \
    C(swap_atomic, 1, "swpab w10, w2, [x9]")                                                                 \
    C(prefetch, 0, "prfm pldl1keep, [x9]\nadd x1, x1, #1")                                                   \
    C(carry, 0, "adds x1, x2, x3\nldr x4, [x9]\nadc x5, x6, x7")                                             \
    C(borrow, 0, "subs x10, x2, x3\nstr x4, [x9]\ncset w5, hi\nsbcs x6, x7, x8")                             \
    C(condition, 0, "cmp x2, x3\nldr x4, [x9], #8\ncsel x5, x6, x7, lt")                                     \
    C(logical, 0, "ands x10, x2, x3\nldr x4, [x9]\ncset w5, mi\ncset w6, vs\ncset w7, cs")                   \
    C(unordered, 0, "fcmp d0, d1\nldr x4, [x9]\ncset w5, vs\ncset w6, le")                                   \
    C(zero_block, 72, "dc zva, x9")                                                                          \
    C(computed, 0, "add x11, x2, x3\neor x12, x11, x4\nmul v9.4s, v3.4s, v4.4s\nfadd d10, d0, d1\nldr x13, [x9], #8\nsub x14, x12, x13")

#define CODE(name, from, text)                                                                               \
    __asm__(".globl c_" #name ", i_" #name "\nc_" #name ": enter\ni_" #name ": " text "\nb leave\n");         \
    extern char c_##name[], i_##name[];
CASES(CODE)
#define LINE(name, from, text) {#name, from, c_##name, i_##name},
static const struct access {
    const char *name;
    int from;
    char *code, *instructions;
} accesses[] = {CASES(LINE)};

static char *pages, *border;
static const struct access *now;
static int faults, elsewhere;
static char told[256];

static void on_fault(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    mcontext_t *m = &uc->uc_mcontext;
    if (faults++ == 0) {
        long far = (char *)info->si_addr - border;
        int length = snprintf(told, sizeof told, " code %d at %ld, instruction %ld, x9 %+ld, x19 %+ld", info->si_code, far,
                              (long)((char *)(uintptr_t)m->pc - now->instructions) / 4,
                              (long)(m->regs[9] - at[0].x[9]), (long)(m->regs[19] - at[0].x[19]));
        if ((uintptr_t)m->pc == (uintptr_t)now->instructions) { /* else those before it have changed some */
            for (int i = 0; i < 29; i++)
                if (m->regs[i] != at[0].x[i])
                    length += snprintf(told + length, sizeof told - length, " changed x%d", i);
            if ((m->pstate ^ at[0].x[NZCV]) >> 28 & 15)
                length += snprintf(told + length, sizeof told - length, " changed flags");
            struct fpsimd_context *fp = (struct fpsimd_context *)m->__reserved;
            while (fp->head.magic != FPSIMD_MAGIC)
                fp = (struct fpsimd_context *)((char *)fp + fp->head.size);
            for (int i = 0; i < 32; i++)
                if (memcmp(&fp->vregs[i], &at[0].v[i], 16) != 0)
                    length += snprintf(told + length, sizeof told - length, " changed v%d", i);
        }
    }
    if (elsewhere) {
        m->pc = (uintptr_t)leave;
        m->regs[0] = 0x600d;
    } else {
        mprotect(pages, 2 * PAGE, PROT_READ | PROT_WRITE);
    }
}

static uint64_t mixed(uint64_t h, const void *from, size_t size)
{
    const unsigned char *bytes = from;
    while (size-- > 0)
        h = (h ^ *bytes++) * 0x100000001b3u;
    return h;
}

static void try(const struct access *access, const char *kind, size_t bad, int rights)
{
    uint64_t random = 88172645463325252u;
    now = access;
    mprotect(pages, 2 * PAGE, PROT_READ | PROT_WRITE);
    for (size_t i = 0; i < sizeof at / 8; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        ((uint64_t *)at)[i] = random;
    }
    for (int i = 0; i < 2 * PAGE; i++)
        pages[i] = (char)(i * 11 + i / 256);
    at[0].x[NZCV] &= 0xf0000000;
    at[0].x[9] = at[0].x[19] = (uintptr_t)border + (uintptr_t)(long)access->from;
    at[0].x[12] = bad == 0 ? 0 : 1;
    faults = 0;
    told[0] = 0;
    mprotect(pages + bad, PAGE, rights);
    ((void (*)(void *))(uintptr_t)access->code)(at);
    mprotect(pages, 2 * PAGE, PROT_READ | PROT_WRITE);
    printf("%s, %s%s: %d faults,%s", access->name, kind, elsewhere ? ", left" : "", faults, told);
    if (faults == 0 || !elsewhere) {
        long x9 = (long)(at[1].x[9] - at[0].x[9]), x19 = (long)(at[1].x[19] - at[0].x[19]);
        uint64_t h = mixed(mixed(1, pages, 2 * PAGE), at[1].v, sizeof at[1].v);
        for (int i = 0; i < 32; i++)
            if (i != 29 && i != 30)
                h = mixed(h, &at[1].x[i], 8);
        printf(" in the end %016lx", (unsigned long)h);
        if (x9 < 4096 && x9 > -4096)
            printf(" x9 %+ld", x9);
        if (x19 < 4096 && x19 > -4096)
            printf(" x19 %+ld", x19);
    } else {
        printf(" x0 %lx", (unsigned long)at[1].x[0]);
    }
    puts("");
}

/* precise [no]: with "no" all but DC ZVA, whose block is as large as the machine likes. */
int main(int argc, char **argv)
{
    static char stack[1 << 16];
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigaltstack(&alternate, NULL);
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    pages = mmap((void *)0x10000000000, 4 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    pages += PAGE;
    border = pages + PAGE;
    for (unsigned i = 0; i < sizeof accesses / sizeof *accesses; i++)
        for (elsewhere = 0; elsewhere < 2 && !(argc > 1 && strcmp(accesses[i].name, "zero_block") == 0); elsewhere++) {
            try(&accesses[i], "above", PAGE, PROT_NONE);
            try(&accesses[i], "above to read", PAGE, PROT_READ);
            try(&accesses[i], "below", 0, PROT_NONE);
        }
    return 0;
}
