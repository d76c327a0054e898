/*
 * Programs that follow one another in one process: argv[1] is the address of the
 * last one's answer(), in hexadecimal, argv[2] the next program, and so on.  The
 * builds differ in ANSWER, so that the same address holds other code; ELSEWHERE
 * is linked where the others are not, and puts its own code there by hand.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

__attribute__((noinline, noclone, aligned(64))) int answer(void)
{
    __asm__ volatile("");
    return ANSWER;
}

#ifdef __thumb__
#define THUMB 1
#else
#define THUMB 0
#endif

#ifdef ELSEWHERE
static void replace(uintptr_t at, int prot, const char *how)
{
    uintptr_t page = at & ~(uintptr_t)4095;
    char *there = mmap((void *)page, 8192, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (there == MAP_FAILED)
        exit(9);
    memcpy((void *)at, (const void *)((uintptr_t)answer & ~(uintptr_t)THUMB), 64);
    __builtin___clear_cache(there, there + 8192);
    if ((prot & PROT_EXEC) == 0)
        mprotect(there, 8192, PROT_READ | PROT_EXEC);
    printf("%s: %d\n", how, ((int (*)(void))(at | THUMB))());
}
#endif

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("the program's own: %d\n", answer());
#ifdef ELSEWHERE
    uintptr_t at = strtoull(argv[1], NULL, 16);
    replace(at, PROT_READ | PROT_WRITE, "written, then executed");
    replace(at, PROT_READ | PROT_WRITE | PROT_EXEC, "written while it can be executed");
#endif
    if (argc < 3)
        return answer();
    char place[20];
    snprintf(place, sizeof place, "%llx", (unsigned long long)((uintptr_t)answer & ~(uintptr_t)THUMB));
    argv[1] = argv[2];
    argv[2] = place;
    execv(argv[1], argv + 1);
    return 99;
}
