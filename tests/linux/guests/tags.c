/* Pointers with tags in their top byte (arm64's TBI), and addresses beyond all: what a handler is told of them. */
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>

static sigjmp_buf again;
static void *volatile at;

static void on_fault(int sig, siginfo_t *info, void *context)
{
    (void)sig, (void)context;
    at = info->si_addr;
    siglongjmp(again, 1);
}

static void touch(uint64_t addr)
{
    if (sigsetjmp(again, 1) == 0) {
        *(volatile int *)addr = 1;
        printf("%#llx can be written\n", (unsigned long long)addr);
    } else {
        printf("%#llx: SIGSEGV at %p\n", (unsigned long long)addr, at);
    }
}

int main(void)
{
    static volatile int x = 41;
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    setbuf(stdout, NULL);
    sigaction(SIGSEGV, &action, NULL);
    volatile int *tagged = (volatile int *)((uintptr_t)&x | UINT64_C(0x5a) << 56);
    (*tagged)++;
    printf("%d\n", x);
    touch(8);
    touch(UINT64_C(0x7fff12345678));
    touch(UINT64_C(0x0041414141414141));
    return 0;
}
