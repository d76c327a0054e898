/* Host memory and time for the core. */
#include "core.h"

#include <errno.h>
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

uint64_t emu_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static _Thread_local uint32_t cpu;

uint32_t emu_cpu(void) { return cpu; }
void emu_cpu_enter(uint32_t index) { cpu = index; }
