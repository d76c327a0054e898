/* For a debugger that changes a register of 256 bits: it is stored behind the label. */
#include <stdio.h>

char text[33] = "0123456789abcdefghijklmnopqrstuv";

int main(void)
{
    char out[33] = "";
    __asm__ volatile("vmovdqu %1, %%ymm3\n"
                     ".globl loaded\n"
                     "loaded:\n"
                     "vmovdqu %%ymm3, %0\n"
                     : "=m"(*(char(*)[32])out)
                     : "m"(*(char(*)[32])text)
                     : "xmm3");
    puts(out);
    return 0;
}
