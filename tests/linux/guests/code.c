/* Code that changes: what runs must be what was written last. */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096

/* A function that returns `value` (below 2048). */
static size_t emit(uint8_t *at, unsigned value)
{
#if defined(__aarch64__)
    uint32_t code[] = {0x52800000u | value << 5, 0xd65f03c0u};
#elif defined(__arm__)
    uint32_t code[] = {0xe3000000u | (value & 0xf000) << 4 | (value & 0xfff), 0xe12fff1eu};
#elif defined(__riscv)
    uint32_t code[] = {value << 20 | 0x00000513u, 0x00008067u};
#else
    uint8_t code[] = {0xb8, (uint8_t)value, (uint8_t)(value >> 8), 0, 0, 0xc3};
#endif
    memcpy(at, code, sizeof code);
    __builtin___clear_cache((char *)at, (char *)at + sizeof code);
    return sizeof code;
}

typedef unsigned (*function)(void);

static unsigned call(uint8_t *at)
{
    return ((function)(uintptr_t)at)();
}

int main(void)
{
    unsigned long sum = 0;
    /* one page, writable and executable at once */
    uint8_t *both = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (unsigned i = 0; i < 1000; i++) {
        emit(both, i);
        sum += call(both);
    }
    printf("rewritten in place: %lu\n", sum);

    /* never both */
    sum = 0;
    uint8_t *flip = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (unsigned i = 0; i < 1000; i++) {
        mprotect(flip, PAGE, PROT_READ | PROT_WRITE);
        emit(flip, i);
        mprotect(flip, PAGE, PROT_READ | PROT_EXEC);
        sum += call(flip);
    }
    printf("protection flipped: %lu\n", sum);

    /* executed after it was only read, with nothing but a new mapping to say that it has changed */
    sum = 0;
    int file = memfd_create("code", 0);
    uint8_t *text = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (unsigned i = 0; i < 200; i++) {
        uint8_t code[64] = {0};
        pwrite(file, code, emit(code, i), 0);
        mmap(text, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, file, 0);
        if (text[63] != 0)
            return 1;
        sum += call(text);
        mmap(text, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    }
    close(file);
    printf("read, then executed: %lu\n", sum);

    /* another mapping at the same address */
    sum = 0;
    uint8_t *place = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (unsigned i = 0; i < 200; i++) {
        uint8_t *again = mmap(place, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        emit(again, i);
        mprotect(again, PAGE, PROT_READ | PROT_EXEC);
        sum += call(again);
        if (i % 2)
            munmap(again, PAGE);
    }
    printf("mapped anew: %lu\n", sum);

    /* moved there */
    sum = 0;
    for (unsigned i = 0; i < 100; i++) {
        uint8_t *fresh = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        emit(fresh, i);
        mprotect(fresh, PAGE, PROT_READ | PROT_EXEC);
        sum += call(fresh);
        if (mremap(fresh, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, place) == place)
            sum += call(place);
    }
    printf("moved: %lu\n", sum);

    /* written through one address, run at another */
    sum = 0;
    int fd = memfd_create("code", 0);
    uint8_t zero[PAGE] = {0};
    if (write(fd, zero, PAGE) != PAGE)
        return 1;
    uint8_t *writer = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    uint8_t *runner = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    for (unsigned i = 0; i < 200; i++) {
        size_t size = emit(writer, i);
        __builtin___clear_cache((char *)runner, (char *)runner + size);
        sum += call(runner);
    }
    printf("two addresses: %lu\n", sum);

    /* many functions on one page that is still being written */
    sum = 0;
    size_t used = 0;
    for (unsigned i = 0; i < 300; i++) {
        size_t size = emit(both + used, i);
        sum += call(both + used);
        used += (size + 7) & ~(size_t)7;
    }
    printf("appended: %lu\n", sum);

    /* beside code that has run and stays: run when it is new, then what was there before, which has never run */
    sum = 0;
    for (unsigned i = 0; i < 100; i++) {
        uint8_t *page = mmap(place, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        emit(page, i);
        emit(page + 1024, 2 * i);
        sum += call(page);
        emit(page + 1024, 1000 + i);
        sum += call(page + 1024);
        emit(page + 1024, 2 * i);
        sum += call(page + 1024);
        sum += call(page);
    }
    printf("put back: %lu\n", sum);
    return 0;
}
