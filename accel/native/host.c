/* Host memory and time for the core. */
#include "core.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

void *emu_memory_new(const char *name, uint64_t size, int *fd)
{
    if (size == 0 || size > INT64_MAX) {
        errno = EINVAL;
        return NULL;
    }
    *fd = memfd_create(name, MFD_CLOEXEC);
    if (*fd < 0)
        return NULL;
    if (ftruncate(*fd, (off_t)size) == 0) {
        void *host = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, *fd, 0);
        if (host != MAP_FAILED)
            return host;
    }
    int error = errno;
    close(*fd);
    *fd = -1;
    errno = error;
    return NULL;
}

void emu_memory_free(void *host, uint64_t size, int fd)
{
    munmap(host, size);
    close(fd);
}

int emu_memory_private(void *host, uint64_t size, int fd)
{
    int flags = MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED;
    return mmap(host, size, PROT_READ | PROT_WRITE, flags, fd, 0) == MAP_FAILED ? -errno : 0;
}

/* Of an entry of /proc/self/pagemap: there is a page, in memory or swapped out, and it is a file's. */
#define ENTRY_PRESENT (UINT64_C(1) << 63)
#define ENTRY_SWAPPED (UINT64_C(1) << 62)
#define ENTRY_OF_FILE (UINT64_C(1) << 61)

static bool is_own(uint64_t entry)
{
    return (entry & (ENTRY_PRESENT | ENTRY_SWAPPED)) != 0 && (entry & ENTRY_OF_FILE) == 0;
}

int emu_memory_copy_own(const void *from, uint64_t size, void *to)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), pages = (size + page - 1) / page, entries[512];
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC), status = 0;
    if (fd < 0)
        return -errno;
    for (uint64_t at = 0; at < pages && status == 0;) {
        uint64_t wanted = pages - at < 512 ? pages - at : 512;
        off_t place = (off_t)(((uintptr_t)from / page + at) * sizeof entries[0]);
        ssize_t got = pread(fd, entries, wanted * sizeof entries[0], place);
        if (got < (ssize_t)sizeof entries[0]) {
            status = got < 0 ? -errno : -EIO;
            break;
        }
        uint64_t count = (uint64_t)got / sizeof entries[0];
        for (uint64_t i = 0, end; i < count; i = end) {
            end = i + 1;
            if (!is_own(entries[i]))
                continue;
            while (end < count && is_own(entries[end]))
                end++;
            uint64_t first = (at + i) * page, last = (at + end) * page;
            memcpy((uint8_t *)to + first, (const uint8_t *)from + first, (last < size ? last : size) - first);
        }
        at += count;
    }
    close(fd);
    return status;
}

int emu_memory_fold(void *host, uint64_t size, int fd)
{
    void *file = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (file == MAP_FAILED)
        return -errno;
    int status = emu_memory_copy_own(host, size, file);
    munmap(file, size);
    /* They read as the memfd's now, which has the same. */
    if (status == 0 && madvise(host, size, MADV_DONTNEED) != 0)
        status = -errno;
    return status;
}

uint64_t emu_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static _Thread_local uint32_t cpu;

uint32_t emu_cpu(void) { return cpu; }
void emu_cpu_enter(uint32_t index) { cpu = index; }
