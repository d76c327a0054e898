/* What a handler does with the frame it was given. */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

/* An instruction of 4 bytes (2 on x86-64) that faults; its result register is the ABI's first. */
#if defined(__aarch64__)
#define LOAD "ldr x0, [x1]"
#define SET(u) ((u)->uc_mcontext.regs[0] = 42, (u)->uc_mcontext.pc += 4)
#elif defined(__arm__)
#define LOAD "ldr.w r0, [r1]"
#define SET(u) ((u)->uc_mcontext.arm_r0 = 42, (u)->uc_mcontext.arm_pc += 4)
#elif defined(__riscv)
#define LOAD ".option push\n.option norvc\nld a0, 0(a1)\n.option pop"
#define SET(u) ((u)->uc_mcontext.__gregs[10] = 42, (u)->uc_mcontext.__gregs[0] += 4)
#else
#define LOAD "movq (%%rsi), %%rax"
#define SET(u) ((u)->uc_mcontext.gregs[REG_RAX] = 42, (u)->uc_mcontext.gregs[REG_RIP] += 3)
#endif

static void on_fault(int sig, siginfo_t *info, void *context)
{
    ucontext_t *u = context;
    SET(u);
    sigaddset(&u->uc_sigmask, SIGUSR2);
}

static void spoil(int sig, siginfo_t *info, void *context)
{
    /* From the siginfo on, all of the context and what follows it. */
    memset(info, 0xff, sizeof *info);
    memset(context, 0xff, sizeof(ucontext_t));
}

int main(int argc, char **argv)
{
    struct sigaction sa;
    memset(&sa, 0, sizeof sa);
    sa.sa_flags = SA_SIGINFO;
    if (argc > 2 && !strcmp(argv[1], "die")) {
        kill(getpid(), atoi(argv[2]));
        return 1;
    }
    if (argc > 1 && !strcmp(argv[1], "context")) {
        sa.sa_sigaction = on_fault;
        sigaction(SIGSEGV, &sa, NULL);
#if defined(__aarch64__)
        register long result __asm__("x0");
        register long from __asm__("x1") = 8;
#elif defined(__arm__)
        register long result __asm__("r0");
        register long from __asm__("r1") = 8;
#elif defined(__riscv)
        register long result __asm__("a0");
        register long from __asm__("a1") = 8;
#else
        register long result __asm__("rax");
        register long from __asm__("rsi") = 8;
#endif
        __asm__ volatile(LOAD : "=r"(result) : "r"(from) : "memory");
        printf("skipped the instruction, result %ld\n", result);
        sigset_t set;
        sigprocmask(SIG_BLOCK, NULL, &set);
        puts(sigismember(&set, SIGUSR2) && !sigismember(&set, SIGSEGV) ? "mask of the context restored" : "mask?");
        return 0;
    }
    if (argc > 1 && !strcmp(argv[1], "nowhere")) {
        /* An alternative stack that has been unmapped. */
        stack_t st = {.ss_size = 65536};
        st.ss_sp = mmap(NULL, st.ss_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        sigaltstack(&st, NULL);
        munmap(st.ss_sp, st.ss_size);
        sa.sa_sigaction = on_fault;
        sa.sa_flags |= SA_ONSTACK;
        sigaction(SIGUSR1, &sa, NULL);
        raise(SIGUSR1);
        return 1;
    }
    if (argc > 1 && !strcmp(argv[1], "spoiled")) {
        sa.sa_sigaction = spoil;
        sigaction(SIGUSR1, &sa, NULL);
        raise(SIGUSR1);
        return 1;
    }
    return 2;
}
