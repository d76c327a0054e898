/* Accesses that demand alignment, at addresses that have it or not: the signal, its code, and where it points. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

__asm__(".arch armv8.4-a");
static sigjmp_buf back;
static volatile int got, code;
static volatile uintptr_t where;

static void on_fault(int sig, siginfo_t *info, void *context)
{
    got = sig;
    code = info->si_code;
    where = (uintptr_t)info->si_addr;
    siglongjmp(back, 1);
}

static char bytes[64] __attribute__((aligned(64)));

#define TRY(at, text)                                                                                        \
    do {                                                                                                     \
        got = code = 0;                                                                                      \
        where = 0;                                                                                           \
        if (sigsetjmp(back, 1) == 0)                                                                         \
            __asm__ volatile("mov x9, %0\n" text ::"r"(bytes + (at))                                               \
                             : "x2", "x3", "x4", "x5", "x6", "x9", "memory", "cc");                                \
        printf("%-24s at %2d: signal %d code %d at %ld\n", text, at, got, code, where ? (long)(where - (uintptr_t)bytes) : -1); \
    } while (0)

int main(void)
{
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    sigaction(SIGBUS, &action, NULL);
    sigaction(SIGSEGV, &action, NULL);
#define EACH(text)  \
    TRY(16, text);  \
    TRY(1, text);   \
    TRY(4, text);   \
    TRY(14, text);  \
    TRY(22, text)
    EACH("ldar x2, [x9]");
    EACH("ldar w2, [x9]");
    EACH("ldarh w2, [x9]");
    EACH("ldarb w2, [x9]");
    EACH("stlr x2, [x9]");
    EACH("stlr w2, [x9]");
    EACH("stlrh w2, [x9]");
    EACH("stlrb w2, [x9]");
    EACH("ldapr x2, [x9]");
    EACH("ldapr w2, [x9]");
    EACH("ldaprh w2, [x9]");
    EACH("ldapur x2, [x9, #3]");
    EACH("ldapur w2, [x9, #3]");
    EACH("ldapursw x2, [x9, #3]");
    EACH("stlur x2, [x9, #3]");
    EACH("stlurh w2, [x9, #3]");
    EACH("ldxr x2, [x9]");
    EACH("ldaxr w2, [x9]");
    EACH("ldxrh w2, [x9]");
    EACH("stxr w3, x2, [x9]");
    EACH("stxrh w3, w2, [x9]");
    EACH("ldxp x2, x3, [x9]");
    EACH("ldaxp w2, w3, [x9]");
    EACH("cas x2, x3, [x9]");
    EACH("cash w2, w3, [x9]");
    EACH("caspal x2, x3, x4, x5, [x9]");
    EACH("caspa w2, w3, w4, w5, [x9]");
    EACH("ldaddal x2, x3, [x9]");
    EACH("swpalh w2, w3, [x9]");
    EACH("ldumax w2, w3, [x9]");
    EACH("ldlar x2, [x9]");
    EACH("stllr w2, [x9]");
    EACH("ldr x2, [x9, #3]");
    EACH("stp x2, x3, [x9]");
    EACH("ldp q0, q1, [x9]");
    return 0;
}
