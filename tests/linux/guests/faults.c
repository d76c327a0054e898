/* Faulting instructions, each with the address where it stands: signal, code, and where pc and si_addr point. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

static sigjmp_buf back;
static volatile int got, code;
static volatile uintptr_t where, pc;

static void on_fault(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    got = sig;
    code = info->si_code;
    where = (uintptr_t)info->si_addr;
#if defined(__aarch64__)
    pc = uc->uc_mcontext.pc;
#elif defined(__arm__)
    pc = uc->uc_mcontext.arm_pc;
#elif defined(__riscv)
    pc = uc->uc_mcontext.__gregs[0];
#else
    pc = uc->uc_mcontext.gregs[REG_RIP];
#endif
    siglongjmp(back, 1);
}

#if defined(__aarch64__)
#define LOAD "ldr w1, [%0]"
#define STORE "str w1, [%0]"
#define JUMP "br %0"
#define UNDEFINED "udf #0"
#define BREAK "brk #0"
#define SCRATCH "w1"
#elif defined(__arm__)
#define LOAD "ldr r1, [%0]"
#define STORE "str r1, [%0]"
#define JUMP "bx %0"
#define UNDEFINED "udf #0"
#define BREAK "bkpt #0"
#define SCRATCH "r1"
#elif defined(__riscv)
#define LOAD "lw t1, 0(%0)"
#define STORE "sw t1, 0(%0)"
#define JUMP "jr %0"
#define UNDEFINED ".word 0"
#define BREAK "ebreak"
#define SCRATCH "t1"
#else
#define LOAD "mov (%0), %%ecx"
#define STORE "mov %%ecx, (%0)"
#define JUMP "jmp *%0"
#define UNDEFINED "ud2"
#define BREAK "int3"
#define SCRATCH "ecx"
#endif

#define TRY(name, text, address, expect)                                                                     \
    do {                                                                                                      \
        extern char at_##name[];                                                                              \
        got = 0;                                                                                              \
        if (sigsetjmp(back, 1) == 0) {                                                                        \
            __asm__ volatile(".globl at_" #name "\nnop\nnop\nat_" #name ":\n" text ::"r"(address) : SCRATCH, "memory");  \
        }                                                                                                     \
        printf("%s: signal %d code %d pc %s address %s\n", #name, got, code,                                 \
               pc == (uintptr_t)at_##name       ? "exact"                                                            \
               : pc == (uintptr_t)at_##name + 1 ? "behind"                                                            \
               : pc == (uintptr_t)(address) ? "target" : "other",       \
               where == (uintptr_t)(expect) ? "right" : "other");                                             \
    } while (0)

extern char the_div[], the_div2[], the_div3[];

int main(void)
{
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE};
    for (int i = 0; i < 5; i++)
        sigaction(signals[i], &action, NULL);
    char *page = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *none = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *gone = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(gone, 4096);
    TRY(load_null, LOAD, (char *)4, 4);
    TRY(load_gone, LOAD, gone + 0x124, gone + 0x124);
    TRY(load_none, LOAD, none + 0x124, none + 0x124);
    TRY(store_read_only, STORE, page + 0x238, page + 0x238);
    TRY(jump_gone, JUMP, gone + 0x40, gone + 0x40);
    TRY(jump_data, JUMP, page + 0x40, page + 0x40);
    TRY(undefined, UNDEFINED, (char *)0, at_undefined);
#if defined(__x86_64__)
    TRY(breakpoint, BREAK, (char *)0, 0);
    TRY(divide, "xor %%eax, %%eax\nxor %%edx, %%edx\nxor %%ecx, %%ecx\n.globl the_div\nthe_div: div %%ecx", (char *)the_div, the_div);
    TRY(divide_again, "xor %%ecx, %%ecx\n.globl the_div2\nthe_div2: divb %%cl", (char *)the_div2, the_div2);
    TRY(divide_third, "xor %%ecx, %%ecx\n.globl the_div3\nthe_div3: idivq %%rcx", (char *)the_div3, the_div3);
    TRY(not_canonical, LOAD, (char *)0x1234567812345678, 0);
    TRY(interrupt, "int $0x13", (char *)0, 0);
    TRY(halt, "hlt", (char *)0, 0);
    TRY(port, "out %%al, $0x80", (char *)0, 0);
#else
    TRY(breakpoint, BREAK, (char *)0, at_breakpoint);
#endif
    return 0;
}
