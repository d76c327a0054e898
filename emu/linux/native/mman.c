/* The system calls of memory. */
#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime.h"

static emu_umem *umem_of(emu_thread *thread)
{
    return &thread->process->umem;
}

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* the last of Linux 6.1 */
#endif

/* An int as a 32-bit or 64-bit register holds it. */
static int int_arg(uint64_t value)
{
    return (int)(int32_t)(uint32_t)value;
}

int64_t emu_sys_brk(emu_thread *thread, const uint64_t *args)
{
    umem_lock(umem_of(thread));
    int64_t result = umem_brk(umem_of(thread), args[0]);
    umem_unlock(umem_of(thread));
    return result;
}

static int64_t map(emu_thread *thread, const uint64_t *args, uint64_t offset)
{
    umem_lock(umem_of(thread));
    int64_t result = umem_map(umem_of(thread), args[0], args[1], int_arg(args[2]), int_arg(args[3]),
                              int_arg(args[4]), offset, NULL);
    umem_unlock(umem_of(thread));
    return result;
}

int64_t emu_sys_mmap(emu_thread *thread, const uint64_t *args)
{
    return map(thread, args, args[5]);
}

int64_t emu_sys_mmap2(emu_thread *thread, const uint64_t *args)
{
    return map(thread, args, args[5] * EMU_PAGE);
}

int64_t emu_sys_munmap(emu_thread *thread, const uint64_t *args)
{
    umem_lock(umem_of(thread));
    int64_t result = umem_unmap(umem_of(thread), args[0], args[1]);
    umem_unlock(umem_of(thread));
    return result;
}

int64_t emu_sys_mprotect(emu_thread *thread, const uint64_t *args)
{
    umem_lock(umem_of(thread));
    int64_t result = umem_protect(umem_of(thread), args[0], args[1], int_arg(args[2]));
    umem_unlock(umem_of(thread));
    return result;
}

int64_t emu_sys_mremap(emu_thread *thread, const uint64_t *args)
{
    umem_lock(umem_of(thread));
    int64_t result = umem_remap(umem_of(thread), args[0], args[1], args[2], int_arg(args[3]), args[4]);
    umem_unlock(umem_of(thread));
    return result;
}

/* A page-aligned range for a call that the host then makes on it: its host address, or an error. */
static int host_range(emu_umem *umem, uint64_t addr, uint64_t size, void **host, size_t *length)
{
    if ((addr & (EMU_PAGE - 1)) != 0)
        return -EINVAL;
    uint64_t end = addr + size + EMU_PAGE - 1;
    if (end < addr)
        return -EINVAL;
    end &= ~(EMU_PAGE - 1);
    if (end > umem->size)
        return -ENOMEM;
    *host = umem->base + addr;
    *length = (size_t)(end - addr);
    return 0;
}

static bool mapped(emu_umem *umem, uint64_t addr, uint64_t size)
{
    umem_hold(umem);
    bool all = umem_mapped(umem, addr, size);
    umem_release(umem);
    return all;
}

int64_t emu_sys_madvise(emu_thread *thread, const uint64_t *args)
{
    emu_umem *umem = umem_of(thread);
    void *host;
    size_t length;
    int advice = int_arg(args[2]);
    int error = host_range(umem, args[0], args[1], &host, &length);
    if (error != 0)
        return error;
    switch (advice) {
    case MADV_DONTFORK: /* would tear holes into the reserve of a child */
    case MADV_DOFORK:
    case MADV_DONTDUMP:
    case MADV_DODUMP:
        return mapped(umem, args[0], length) ? 0 : -ENOMEM;
    case MADV_HWPOISON:
    case 101: /* MADV_SOFT_OFFLINE, not in every header */
        return -EPERM;
    default:
        /* What a newer kernel knows may make pages fault that are mapped: nothing that the engines expect. */
        if (advice < 0 || advice > MADV_COLLAPSE)
            return -EINVAL;
        break;
    }
    bool changes = advice == MADV_DONTNEED || advice == MADV_REMOVE || advice == MADV_FREE;
    umem_lock(umem);
    if (changes && umem->before != NULL)
        umem->before(umem->opaque, args[0], length);
    error = madvise(host, length, advice) == 0 ? 0 : -errno;
    if (error == 0 && length != 0 && !umem_mapped(umem, args[0], length))
        error = -ENOMEM;
    umem_unlock(umem);
    return error;
}

/* Calls that take (address, size, ...) of memory that must be mapped, and change nothing there. */
static int64_t ranged(emu_thread *thread, long number, const uint64_t *args, uint64_t third)
{
    emu_umem *umem = umem_of(thread);
    void *host;
    size_t length;
    int error = host_range(umem, args[0], args[1], &host, &length);
    if (error != 0)
        return error;
    if (length != 0 && !mapped(umem, args[0], length))
        return -ENOMEM;
    long result = syscall(number, host, length, third);
    return result < 0 ? -errno : result;
}

int64_t emu_sys_msync(emu_thread *thread, const uint64_t *args)
{
    /* Linux tells a range that wraps from one that is not aligned. */
    if ((args[0] & (EMU_PAGE - 1)) == 0 && args[1] != 0 && !umem_range(umem_of(thread), args[0], args[1]))
        return (args[2] & ~(uint64_t)(MS_ASYNC | MS_INVALIDATE | MS_SYNC)) != 0 ? -EINVAL : -ENOMEM;
    return ranged(thread, SYS_msync, args, args[2]);
}

int64_t emu_sys_mincore(emu_thread *thread, const uint64_t *args)
{
    if ((args[0] & (EMU_PAGE - 1)) == 0 && !umem_range(umem_of(thread), args[0], args[1]))
        return -ENOMEM;
    return ranged(thread, SYS_mincore, args, (uint64_t)(uintptr_t)umem_address(umem_of(thread), args[2]));
}

/* mlock rounds its range to pages itself. */
static int64_t locked(emu_thread *thread, long number, const uint64_t *args, uint64_t third)
{
    uint64_t rounded[2] = {args[0] & ~(EMU_PAGE - 1), args[1] + (args[0] & (EMU_PAGE - 1))};
    return rounded[1] < args[1] ? -EINVAL : ranged(thread, number, rounded, third);
}

int64_t emu_sys_mlock(emu_thread *thread, const uint64_t *args)
{
    return locked(thread, SYS_mlock, args, 0);
}

int64_t emu_sys_mlock2(emu_thread *thread, const uint64_t *args)
{
    return locked(thread, SYS_mlock2, args, args[2]);
}

int64_t emu_sys_munlock(emu_thread *thread, const uint64_t *args)
{
    return locked(thread, SYS_munlock, args, 0);
}

/* Locking all would lock the emulator and its reserve; a guest only sees that it succeeded. */
int64_t emu_sys_mlockall(emu_thread *thread, const uint64_t *args)
{
    int flags = int_arg(args[0]);
    return flags == 0 || (flags & ~(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT)) != 0 || flags == MCL_ONFAULT ? -EINVAL : 0;
}

int64_t emu_sys_munlockall(emu_thread *thread, const uint64_t *args)
{
    return 0;
}
