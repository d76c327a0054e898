/*
 * Mappings at the edges of what there is: edges END, the first address that programs cannot have, or edges image
 * ADDRESS LENGTH.  Prints what the kernel says to each; of an image, bytes of that part of the program.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define PAGE UINT64_C(4096)
#define MIB UINT64_C(0x100000)
static const char *error_of(int error)
{
    switch (error) {
    case 0: return "0";
    case ENOMEM: return "ENOMEM";
    case EINVAL: return "EINVAL";
    case EEXIST: return "EEXIST";
    case EAGAIN: return "EAGAIN";
    case EFAULT: return "EFAULT";
    }
    return "another error";
}

static int map(uint64_t address, uint64_t length, int flags)
{
    void *at = mmap((void *)(uintptr_t)address, length, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | flags, -1, 0);
    if (at == MAP_FAILED)
        return errno;
    if (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) {
        if ((uintptr_t)at != address)
            return -1;
        *(volatile char *)at = 1;
        *((volatile char *)at + length - 1) = 2;
    }
    return munmap(at, length) ? errno : 0;
}

/* Prints an address so that it is the same wherever the end is. */
static void tell(uint64_t address, uint64_t end)
{
    if (address - end + (UINT64_C(1) << 32) <= UINT64_C(1) << 33)
        printf("the end%+lld", (long long)(address - end));
    else
        printf("%llx", (unsigned long long)address);
}

static void addresses(uint64_t end)
{
    const uint64_t at[] = {UINT64_C(1) << 40, UINT64_C(1) << 45, (UINT64_C(1) << 45) - PAGE};
    const uint64_t beyond[] = {end, end + PAGE, UINT64_C(1) << 48, UINT64_C(1) << 52, UINT64_C(1) << 56,
                               UINT64_C(1) << 63, -PAGE};
    for (unsigned i = 0; i < sizeof at / sizeof *at; i++) {
        tell(at[i], end);
        printf(": fixed %s\n", error_of(map(at[i], 2 * PAGE, MAP_FIXED_NOREPLACE)));
    }
    for (unsigned i = 0; i < sizeof beyond / sizeof *beyond; i++) {
        void *place = (void *)(uintptr_t)beyond[i];
        tell(beyond[i], end);
        printf(": fixed %s,", error_of(map(beyond[i], PAGE, MAP_FIXED)));
        printf(" not replacing %s,", error_of(map(beyond[i], PAGE, MAP_FIXED_NOREPLACE)));
        printf(" hint %s,", error_of(map(beyond[i], PAGE, 0)));
        printf(" munmap %s,", error_of(munmap(place, PAGE) ? errno : 0));
        printf(" mprotect %s,", error_of(mprotect(place, PAGE, PROT_READ) ? errno : 0));
        printf(" madvise %s,", error_of(madvise(place, PAGE, MADV_DONTNEED) ? errno : 0));
        printf(" msync %s,", error_of(msync(place, PAGE, MS_SYNC) ? errno : 0));
        printf(" mremap %s\n", error_of(mremap(place, PAGE, 2 * PAGE, MREMAP_MAYMOVE) == MAP_FAILED ? errno : 0));
    }
    printf("over the end: %s\n", error_of(map(end - PAGE, 2 * PAGE, MAP_FIXED)));
}

/* mremap is left out: newer kernels call a length that cannot be invalid, others have no memory for it. */
static void lengths(void)
{
    static const uint64_t lengths[] = {0, UINT64_C(1) << 47, UINT64_C(1) << 48, UINT64_C(1) << 63, -PAGE, -1};
    for (unsigned i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        printf("length %llx: anywhere %s,", (unsigned long long)lengths[i], error_of(map(0, lengths[i], 0)));
        printf(" fixed %s\n", error_of(map(UINT64_C(1) << 40, lengths[i], MAP_FIXED)));
    }
}

static void limited(void)
{
    struct rlimit limit = {512 * MIB, RLIM_INFINITY};
    char *page = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void *kept[64];
    unsigned had = 0;
    printf("RLIMIT_AS: %s\n", error_of(setrlimit(RLIMIT_AS, &limit) ? errno : 0));
    printf("more than that: %s,", error_of(map(0, 513 * MIB, 0)));
    printf(" fixed %s,", error_of(map(UINT64_C(1) << 40, 513 * MIB, MAP_FIXED)));
    printf(" mremap %s,", error_of(mremap(page, PAGE, 513 * MIB, MREMAP_MAYMOVE) == MAP_FAILED ? errno : 0));
    printf(" sbrk %s\n", error_of(sbrk(513 * MIB) == (void *)-1 ? errno : 0));
    while (had < 64) {
        void *at = mmap(NULL, 32 * MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (at == MAP_FAILED)
            break;
        kept[had++] = at;
    }
    printf("by pieces of 32 MiB: %u\n", had);
    printf("malloc of 64 MiB: %s\n", malloc(64 * MIB) ? "memory" : "none");
    printf("the same place again: %s\n",
           error_of(mmap(kept[0], 32 * MIB, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == kept[0] ? 0 : errno));
    while (had)
        munmap(kept[--had], 32 * MIB);
    printf("when they are gone: %s\n", error_of(map(0, 256 * MIB, 0)));
    limit.rlim_cur = RLIM_INFINITY;
    printf("no limit any more: %s,", error_of(setrlimit(RLIMIT_AS, &limit) ? errno : 0));
    printf(" %s\n", error_of(map(0, 1024 * MIB, 0)));
}

int main(int argc, char **argv)
{
    if (argc == 4) {
        const volatile char *image = (const char *)(uintptr_t)strtoull(argv[2], NULL, 0);
        uint64_t length = strtoull(argv[3], NULL, 0);
        printf("first %d, middle %d, last %d\n", image[0], image[length / 2], image[length - 1]);
        return 0;
    }
    if (argc != 2)
        return 2;
    addresses(strtoull(argv[1], NULL, 0));
    lengths();
    limited();
    return 0;
}
