/*
 * Code that another piece of code was translated in view of.  Prints what it gives: first the flags that it
 * gets are of no use to it, then it is written anew and they are.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

enum { AWAY = 1024 };

/* Compares x0 and x1 and goes on far away, if x2 says so. */
__asm__(".globl compare, compare_end\n"
        "compare: cbz x2, 1f\n"
        "cmp x0, x1\n"
        "b compare + 1024\n"
        "1: mov w0, #7\n"
        "ret\n"
        "compare_end:\n"
        ".globl unasked, unasked_end\n"
        "unasked: cmp x0, x0\n"
        "cset w0, eq\n"
        "ret\n"
        "unasked_end:\n"
        ".globl asked, asked_end\n"
        "asked: cset w0, eq\n"
        "ret\n"
        "asked_end:\n");
extern const char compare[], compare_end[], unasked[], unasked_end[], asked[], asked_end[];

static void put(char *at, const char *from, const char *to)
{
    memcpy(at, from, (size_t)(to - from));
    __builtin___clear_cache(at, at + (to - from));
}

int main(void)
{
    char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int (*run)(long, long, long) = (int (*)(long, long, long))(uintptr_t)page;
    put(page + AWAY, unasked, unasked_end);
    put(page, compare, compare_end);
    printf("%d\n", run(1, 2, 0)); /* not there yet */
    put(page + AWAY, asked, asked_end);
    printf("%d %d\n", run(1, 2, 1), run(2, 2, 1));
    return 0;
}
