/* Code that is read from a file into memory and executed, twice at the same place. */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__aarch64__)
static const unsigned char five[] = {0xa0, 0x00, 0x80, 0x52, 0xc0, 0x03, 0x5f, 0xd6}; /* mov w0, #5; ret */
enum { NUMBER = 0, SHIFT = 5 };
#elif defined(__arm__)
static const unsigned char five[] = {0x05, 0x00, 0xa0, 0xe3, 0x1e, 0xff, 0x2f, 0xe1}; /* mov r0, #5; bx lr */
enum { NUMBER = 0, SHIFT = 0 };
#elif defined(__riscv)
static const unsigned char five[] = {0x13, 0x05, 0x50, 0x00, 0x67, 0x80, 0x00, 0x00}; /* li a0, 5; ret */
enum { NUMBER = 2, SHIFT = 4 };
#else
static const unsigned char five[] = {0xb8, 0x05, 0, 0, 0, 0xc3}; /* mov $5, %eax; ret */
enum { NUMBER = 1, SHIFT = 0 };
#endif

int main(void)
{
    int p[2];
    unsigned char other[sizeof five];
    memcpy(other, five, sizeof five);
    other[NUMBER] += 1 << SHIFT;
    unsigned char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pipe(p) || write(p[1], five, sizeof five) < 0 || write(p[1], other, sizeof other) < 0)
        return 1;
    for (int i = 0; i < 2; i++) {
        if (read(p[0], page, sizeof five) < 0)
            return 1;
        __builtin___clear_cache((char *)page, (char *)page + sizeof five);
        printf("%d\n", ((int (*)(void))page)());
    }
    return 0;
}
