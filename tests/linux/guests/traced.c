/*
 * A program without a C library: the same instructions under every emulator, whatever is in its environment.
 * argv[1]: nothing; "fault": ends by SIGSEGV; "spin": takes its time; "child": has one, which calls never().
 */
#if defined __aarch64__
#define SYS_WRITE 64
#define SYS_FORK 220 /* clone */
#define SYS_EXIT 93
static long call(long nr, long a, long b, long c)
{
    register long x8 __asm__("x8") = nr, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
    return x0;
}
#define ENTRY "mov x0, sp\n\tbl start\n"
#elif defined __arm__
#define SYS_WRITE 4
#define SYS_FORK 2
#define SYS_EXIT 1
static long call(long nr, long a, long b, long c)
{
    register long r7 __asm__("r7") = nr, r0 __asm__("r0") = a, r1 __asm__("r1") = b, r2 __asm__("r2") = c;
    __asm__ volatile("svc 0" : "+r"(r0) : "r"(r7), "r"(r1), "r"(r2) : "memory");
    return r0;
}
#define ENTRY "mov r0, sp\n\tbl start\n"
#elif defined __riscv
#define SYS_WRITE 64
#define SYS_FORK 220 /* clone */
#define SYS_EXIT 93
static long call(long nr, long a, long b, long c)
{
    register long a7 __asm__("a7") = nr, a0 __asm__("a0") = a, a1 __asm__("a1") = b, a2 __asm__("a2") = c;
    __asm__ volatile("ecall" : "+r"(a0) : "r"(a7), "r"(a1), "r"(a2) : "memory");
    return a0;
}
#define ENTRY "mv a0, sp\n\tjal start\n"
#else
#define SYS_WRITE 1
#define SYS_FORK 57
#define SYS_EXIT 60
static long call(long nr, long a, long b, long c)
{
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(nr), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return result;
}
#define ENTRY "mov %rsp, %rdi\n\tcall start\n"
#endif

#define KEPT __attribute__((noinline, used))

KEPT unsigned collatz(unsigned n)
{
    unsigned steps = 0;
    while (n != 1) {
        if (n & 1)
            n = 3 * n + 1;
        else
            n /= 2;
        steps++;
    }
    return steps;
}

KEPT unsigned never(unsigned n)
{
    return n * collatz(n + 7);
}

KEPT unsigned leaf(unsigned n)
{
    return n ^ 0x55;
}

KEPT unsigned middle(unsigned n)
{
    return leaf(n) + 1;
}

KEPT void spin(unsigned long rounds)
{
    for (volatile unsigned long i = 0; i < rounds; i++)
        ;
}

KEPT void start(long *stack)
{
    static char text[] = "traced 00\n";
    unsigned steps = 0;
    for (unsigned n = 1; n < 8; n++)
        steps += collatz(n);
    if (steps == 12345)
        steps = never(steps);
    steps += middle(steps) & 1;
    const char *word = stack[0] > 1 ? (const char *)stack[2] : "";
    if (word[0] == 's')
        spin(60000000);
    if (word[0] == 'c' && call(SYS_FORK, 17 /* SIGCHLD */, 0, 0) == 0)
        call(SYS_EXIT, never(2) & 1, 0, 0);
    text[7] = (char)('0' + steps / 10 % 10);
    text[8] = (char)('0' + steps % 10);
    call(SYS_WRITE, 1, (long)text, sizeof text - 1);
    if (word[0] == 'f')
        *(volatile int *)8 = 1;
    call(SYS_EXIT, 3, 0, 0);
}

__asm__(".globl _start\n_start:\n\t" ENTRY);
