/* System calls about timers and futexes. */
#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <string.h>

#include "sigevent.h"
#include "syscall.h"

/* ---- sigevent ----------------------------------------------------------------------------------- */

int sigevent_get(emu_thread *thread, uint64_t addr, struct sigevent *event)
{
    /* 64 bytes: value, signal, how, then a thread's id; 32-bit guests have a value of 4 bytes. */
    uint8_t raw[64];
    uint8_t *host = (uint8_t *)event;
    memset(event, 0, sizeof *event);
    if (get(thread, raw, addr, sizeof raw))
        return -EFAULT;
    if (is_32(thread)) {
        memcpy(host, raw, 4);
        memcpy(host + 8, raw + 4, 12);
    } else {
        memcpy(host, raw, sizeof raw);
    }
    return 0;
}

/* ---- POSIX timers ---------------------------------------------------------------------------------- */

/*
 * Linux deletes them at execve.  Ours stays in the same host process, so the
 * identifiers that the kernel gave are kept: one bit to each, below TIMERS.
 */
enum { TIMERS = 4096 };
static uint64_t timers[TIMERS / 64];

int64_t emu_sys_timer_create(emu_thread *thread, const uint64_t *args)
{
    struct sigevent event;
    int32_t id = -1;
    if (args[1] && sigevent_get(thread, args[1], &event))
        return -EFAULT;
    long result = HOST3(SYS_timer_create, args[0], args[1] ? &event : NULL, &id);
    if (result < 0)
        return result;
    if (put(thread, args[2], &id, sizeof id)) {
        HOST2(SYS_timer_delete, id, 0);
        return -EFAULT;
    }
    if (id >= 0 && id < TIMERS)
        __atomic_fetch_or(&timers[id / 64], UINT64_C(1) << (id % 64), __ATOMIC_RELAXED);
    return 0;
}

int64_t emu_sys_timer_delete(emu_thread *thread, const uint64_t *args)
{
    int32_t id = (int32_t)args[0];
    long result = HOST2(SYS_timer_delete, id, 0);
    if (result == 0 && id >= 0 && id < TIMERS)
        __atomic_fetch_and(&timers[id / 64], ~(UINT64_C(1) << (id % 64)), __ATOMIC_RELAXED);
    return result;
}

void timers_forget(void)
{
    for (int id = 0; id < TIMERS; id++)
        if (timers[id / 64] >> (id % 64) & 1)
            HOST2(SYS_timer_delete, id, 0);
    memset(timers, 0, sizeof timers);
}

/* ---- futex ------------------------------------------------------------------------------------------- */

static int64_t futex(emu_thread *thread, const uint64_t *args, bool wide)
{
    struct timespec timeout;
    uint32_t command = (uint32_t)args[1] & FUTEX_CMD_MASK;
    uintptr_t fourth = (uint32_t)args[3];
    void *second = NULL;
    bool waits = true;
    switch (command) {
    case FUTEX_WAIT:
    case FUTEX_WAIT_BITSET:
    case FUTEX_LOCK_PI:
    case FUTEX_LOCK_PI2:
    case FUTEX_WAIT_REQUEUE_PI:
        if (args[3] && get_timespec(thread, args[3], &timeout, wide))
            return -EFAULT;
        fourth = args[3] ? (uintptr_t)&timeout : 0;
        break;
    default:
        waits = false;
        break;
    }
    switch (command) {
    case FUTEX_REQUEUE:
    case FUTEX_CMP_REQUEUE:
    case FUTEX_WAKE_OP:
    case FUTEX_WAIT_REQUEUE_PI:
    case FUTEX_CMP_REQUEUE_PI:
        second = umem_address(umem_of(thread), args[4]);
        break;
    default:
        break;
    }
    void *first = umem_address(umem_of(thread), args[0]);
    return waits ? WAIT6(thread, SYS_futex, first, args[1], args[2], fourth, second, args[5])
                 : HOST6(SYS_futex, first, args[1], args[2], fourth, second, args[5]);
}

int64_t emu_sys_futex(emu_thread *thread, const uint64_t *args)
{
    return futex(thread, args, false);
}

int64_t emu_sys_futex_time64(emu_thread *thread, const uint64_t *args)
{
    return futex(thread, args, true);
}

int64_t emu_sys_futex_waitv(emu_thread *thread, const uint64_t *args)
{
    enum { MOST = 128, WAITV = 449 }; /* FUTEX_WAITV_MAX, SYS_futex_waitv: newer than some headers */
    struct {
        uint64_t value, address;
        uint32_t flags, reserved;
    } waiters[MOST];
    struct timespec timeout;
    uint32_t count = (uint32_t)args[1];
    if (args[2] != 0 || count == 0 || count > MOST || args[0] == 0)
        return -EINVAL;
    if (args[3] && get_timespec(thread, args[3], &timeout, true))
        return -EFAULT;
    if (get(thread, waiters, args[0], count * sizeof *waiters))
        return -EFAULT;
    for (uint32_t i = 0; i < count; i++)
        waiters[i].address = (uintptr_t)umem_address(umem_of(thread), waiters[i].address);
    return WAIT5(thread, WAITV, waiters, count, 0, args[3] ? &timeout : NULL, args[4]);
}
