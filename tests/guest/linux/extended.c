/*
 * x86-64: vector registers beyond SSE through signals, and each exception with
 * its signal, code and vector.  What it prints is the same on every Linux and
 * CPU; without AVX it says so.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

static int wide; /* AVX-512 */
static volatile int handled;

__attribute__((target("avx"))) static void spoil(int sig, siginfo_t *info, void *context)
{
    const ucontext_t *u = context;
    const uint32_t *described = (const uint32_t *)((const char *)u->uc_mcontext.fpregs + 464);
    if (handled == 0)
        printf("flag %d, magic %#x, ends after %u\n", (int)u->uc_flags & 1, described[0], described[1] - described[4]);
    __asm__ volatile("vxorps %%ymm1, %%ymm1, %%ymm1\nvxorps %%ymm15, %%ymm15, %%ymm15" ::: "memory");
    if (wide)
        __asm__ volatile("vpxorq %%zmm20, %%zmm20, %%zmm20\nvpxorq %%zmm2, %%zmm2, %%zmm2\nkxnorw %%k1, %%k1, %%k1" ::: "memory");
    handled++;
}

static void vectors(void)
{
    if (!__builtin_cpu_supports("avx")) {
        printf("no AVX\n");
        return;
    }
    wide = __builtin_cpu_supports("avx512f") != 0;
    struct sigaction action = {.sa_sigaction = spoil, .sa_flags = SA_SIGINFO};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval often = {{0, 500}, {0, 500}}, never = {{0, 0}, {0, 0}};
    uint8_t in[64], out[192];
    int lost = 0;
    for (int i = 0; i < 64; i++)
        in[i] = (uint8_t)(3 * i + 1);
    setitimer(ITIMER_REAL, &often, NULL);
    while (handled < 100) {
        uint64_t mask = 0x1234;
        memcpy(out, in, 64);
        memcpy(out + 64, in, 64);
        if (wide)
            __asm__ volatile("vmovdqu64 (%1), %%zmm20\nvmovdqu64 (%1), %%zmm2\nkmovw %k0, %%k1\n"
                             "vmovdqu (%1), %%ymm1\nvmovdqu (%1), %%ymm15\n"
                             "mov $100000, %%ecx\n1: dec %%ecx\njnz 1b\n"
                             "vmovdqu64 %%zmm20, (%2)\nvmovdqu64 %%zmm2, 64(%2)\nkmovw %%k1, %k0\n"
                             "vmovdqu %%ymm1, 128(%2)\nvmovdqu %%ymm15, 160(%2)\nvzeroupper"
                             : "+r"(mask)
                             : "r"(in), "r"(out)
                             : "rcx", "memory");
        else
            __asm__ volatile("vmovdqu (%0), %%ymm1\nvmovdqu (%0), %%ymm15\n"
                             "mov $100000, %%ecx\n1: dec %%ecx\njnz 1b\n"
                             "vmovdqu %%ymm1, 128(%1)\nvmovdqu %%ymm15, 160(%1)\nvzeroupper" ::"r"(in),
                             "r"(out)
                             : "rcx", "memory");
        lost += mask != 0x1234 || memcmp(out, in, 64) || memcmp(out + 64, in, 64) || memcmp(out + 128, in, 32) ||
                memcmp(out + 160, in, 32);
    }
    setitimer(ITIMER_REAL, &never, NULL);
    printf("registers lost: %d\n", lost);
}

static sigjmp_buf back;

static void report(int sig, siginfo_t *info, void *context)
{
    __asm__ volatile("pushfq\nandl $~0x40000, (%%rsp)\npopfq" ::: "cc", "memory"); /* AC stays set in a handler */
    printf("signal %d, code %d, address %s, vector %lld\n", sig, info->si_code, info->si_addr ? "set" : "0",
           ((ucontext_t *)context)->uc_mcontext.gregs[REG_TRAPNO]);
    siglongjmp(back, 1);
}

#define TRY(statement)                    \
    do {                                  \
        printf("%s: ", #statement);       \
        if (sigsetjmp(back, 1) == 0) {    \
            statement;                    \
            printf("nothing\n");          \
        }                                 \
    } while (0)

static void exceptions(void)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE};
    struct sigaction action = {.sa_sigaction = report, .sa_flags = SA_SIGINFO | SA_NODEFER};
    for (int i = 0; i < 5; i++)
        sigaction(signals[i], &action, NULL);
    TRY(*(volatile int *)8 = 1);
    TRY(*(volatile int *)0x8000000000000000 = 1);
    TRY(*(volatile char *)"const" = 1);
    TRY(__asm__ volatile("ud2"));
    TRY(__asm__ volatile("int3"));
    TRY(__asm__ volatile("hlt"));
    TRY(__asm__ volatile("cli"));
    TRY(__asm__ volatile("in $0x40, %%al" ::: "eax"));
    TRY(__asm__ volatile("int $0x81"));
    TRY(__asm__ volatile("xor %%ecx, %%ecx\ndiv %%ecx" ::: "eax", "ecx", "edx"));
    uint32_t strict = 0x1d80, usual = 0x1f80; /* division by zero is not masked */
    TRY(__asm__ volatile("ldmxcsr %0\nmov $0x3f800000, %%eax\nmovd %%eax, %%xmm0\nxorps %%xmm1, %%xmm1\ndivss %%xmm1, %%xmm0" ::"m"(strict) : "eax", "xmm0", "xmm1"));
    __asm__ volatile("ldmxcsr %0" ::"m"(usual));
    uint16_t control = 0x37b;
    TRY(__asm__ volatile("fldcw %0\nfld1\nfldz\nfdivrp\nfwait" ::"m"(control)));
    __asm__ volatile("fninit");
    TRY(__asm__ volatile("pushfq\norl $0x40000, (%%rsp)\npopfq\nmov 1(%%rsp), %%eax" ::: "eax", "cc", "memory"));
    __asm__ volatile("pushfq\nandl $~0x40000, (%%rsp)\npopfq" ::: "cc", "memory");
    FILE *file = tmpfile();
    char *mapped = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fileno(file), 0);
    TRY(mapped[4096] = 1);
    TRY((void)*(volatile char *)mapped);
    if (ftruncate(fileno(file), 4096) == 0)
        TRY(mapped[5] = 6);
    TRY(mapped[4096] = 1);
    TRY(((void (*)(void))0x1234567000)());
    TRY(((void (*)(void))mapped)());
}

int main(void)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    vectors();
    exceptions();
    return 0;
}
